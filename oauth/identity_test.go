package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"authproxy/devidp"
	"authproxy/oauth"
)

func TestExchangeReturnsWhoSignedIn(t *testing.T) {
	h := newHarness(t)
	h.config.Scopes = append(h.config.Scopes, "offline_access")
	h.provider = h.fresh(t, nil)
	got, err := h.signIn(t, h.provider)
	if err != nil {
		t.Fatal(err)
	}
	now := h.clock.Now()
	want := &oauth.Identity{
		Issuer: h.url, Subject: "5f0c7b1e93a84d26", Email: "alice@example.com", EmailVerified: true,
		Name: "Alice Adams", Groups: []string{"admins", "staff"}, AuthTime: now, AMR: []string{"pwd"},
		Tokens: oauth.Tokens{AccessExpiry: now.Add(time.Hour), IDExpiry: now.Add(time.Hour)},
	}
	ignore := cmpopts.IgnoreFields(oauth.Identity{}, "Claims", "SID", "Tokens.Access", "Tokens.ID", "Tokens.Refresh")
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if got.SID == "" || got.Tokens.Access == "" || got.Tokens.ID == "" || got.Tokens.Refresh == "" {
		t.Errorf("sid or a token is missing: %+v", got)
	}
	if n := len(h.requests("GET /userinfo")); n != 0 {
		t.Errorf("userinfo was asked %d times though nothing was missing, want 0", n)
	}
}

// set returns an edit that sets a claim; nil removes it.
func set(name string, value any) func(map[string]any) {
	return func(claims map[string]any) {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
}

func both(edits ...func(map[string]any)) func(map[string]any) {
	return func(claims map[string]any) {
		for _, edit := range edits {
			edit(claims)
		}
	}
}

func TestIDTokens(t *testing.T) {
	h := newHarness(t)
	now := h.clock.Now().Unix()
	otherHash := sha256.Sum256([]byte("another access token"))
	atHash := base64.RawURLEncoding.EncodeToString(otherHash[:16])
	logout := map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}
	with := func(edit func(map[string]any)) devidp.Faults { return devidp.Faults{ClaimsEdit: edit} }
	tests := []struct {
		name   string
		faults devidp.Faults
		want   error
	}{
		{"honest", devidp.Faults{}, nil},
		{"signed with ES256", devidp.Faults{Alg: "ES256"}, nil},
		{"wrong nonce", with(set("nonce", "another")), oauth.ErrIDToken},
		{"empty nonce", with(set("nonce", "")), oauth.ErrIDToken},
		{"no nonce", with(set("nonce", nil)), oauth.ErrIDToken},
		{"nonce is no text", with(set("nonce", 1)), oauth.ErrIDToken},
		{"for another client", with(set("aud", "other")), oauth.ErrIDToken},
		{"for a client whose id begins like ours", with(set("aud", "app2")), oauth.ErrIDToken},
		{"for nobody", with(set("aud", nil)), oauth.ErrIDToken},
		{"for nobody in a list", with(set("aud", []string{})), oauth.ErrIDToken},
		{"for us in a list", with(set("aud", []string{"app"})), nil},
		{"for several, without azp", with(set("aud", []string{"app", "other"})), oauth.ErrIDToken},
		{"for several, with our azp", with(both(set("aud", []string{"app", "other"}), set("azp", "app"))), nil},
		{"for several, with another's azp", with(both(set("aud", []string{"app", "other"}), set("azp", "other"))), oauth.ErrIDToken},
		{"for us, with another's azp", with(set("azp", "other")), oauth.ErrIDToken},
		{"another issuer", with(set("iss", "https://evil.example")), oauth.ErrIDToken},
		{"issuer with a slash", with(set("iss", h.url+"/")), oauth.ErrIDToken},
		{"no issuer", with(set("iss", nil)), oauth.ErrIDToken},
		// Without at_hash, which go-oidc cannot check for these algorithms: the
		// signature alone must refuse them.
		{"not signed", devidp.Faults{Alg: "none", ClaimsEdit: set("at_hash", nil)}, oauth.ErrIDToken},
		{"HMAC keyed with the public key", devidp.Faults{Alg: "HS256-public", ClaimsEdit: set("at_hash", nil)}, oauth.ErrIDToken},
		{"expired a second ago", with(set("exp", now-1)), oauth.ErrIDToken},
		{"no expiry", with(set("exp", nil)), oauth.ErrIDToken},
		{"expiry 0", with(set("exp", 0)), oauth.ErrIDToken},
		{"valid in ten minutes", with(set("nbf", now+600)), oauth.ErrIDToken},
		{"issued in a minute", with(set("iat", now+60)), nil},
		{"issued in more than a minute", with(set("iat", now+61)), oauth.ErrIDToken},
		{"no issue time", with(set("iat", nil)), oauth.ErrIDToken},
		{"no subject", with(set("sub", nil)), oauth.ErrIDToken},
		{"empty subject", with(set("sub", "")), oauth.ErrIDToken},
		{"subject is a number", with(set("sub", 17)), oauth.ErrIDToken},
		{"longest subject", with(set("sub", strings.Repeat("s", 255))), nil},
		{"subject too long", with(set("sub", strings.Repeat("s", 256))), oauth.ErrIDToken},
		{"logout token", with(both(set("nonce", nil), set("events", logout))), oauth.ErrIDToken},
		{"ID token with events", with(set("events", logout)), oauth.ErrIDToken},
		{"ID token with empty events", with(set("events", map[string]any{})), oauth.ErrIDToken},
		{"hash of another access token", with(set("at_hash", atHash)), oauth.ErrIDToken},
		{"no hash of the access token", with(set("at_hash", nil)), nil},
		{"long", devidp.Faults{LongToken: 32 << 10}, nil},
		{"too long", devidp.Faults{LongToken: 64 << 10}, oauth.ErrIDToken},
		{"none", devidp.Faults{OmitIDToken: true}, oauth.ErrIDToken},
		{"no JWT", devidp.Faults{IDToken: "this.is.nothing"}, oauth.ErrIDToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.faults(t, tt.faults)
			if _, err := h.signIn(t, h.provider); !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestIDTokensAreBoundToTheirLogin(t *testing.T) {
	h := newHarness(t)
	t.Run("a login without a nonce accepts no token", func(t *testing.T) {
		login, answer := h.begin(t)
		login.Nonce = ""
		h.faults(t, devidp.Faults{ClaimsEdit: set("nonce", nil)})
		if _, err := h.exchange(t.Context(), t, h.provider, login, answer); !errors.Is(err, oauth.ErrIDToken) {
			t.Errorf("error = %v, want %v", err, oauth.ErrIDToken)
		}
	})
	t.Run("another login's token is refused", func(t *testing.T) {
		login, answer := h.begin(t)
		stolen, err := h.exchange(t.Context(), t, h.provider, login, answer)
		if err != nil {
			t.Fatal(err)
		}
		h.faults(t, devidp.Faults{IDToken: stolen.Tokens.ID})
		if _, err := h.signIn(t, h.provider); !errors.Is(err, oauth.ErrIDToken) {
			t.Errorf("error = %v, want %v", err, oauth.ErrIDToken)
		}
	})
}

func TestOnlyAVerifiedAddressCountsAsVerified(t *testing.T) {
	h := newHarness(t)
	tests := []struct {
		name string
		sent any
		want bool
	}{
		{"true", true, true},
		{"true as text", "true", true},
		{"false", false, false},
		{"false as text", "false", false},
		{"missing", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name+" in the ID token", func(t *testing.T) {
			h.faults(t, devidp.Faults{ClaimsEdit: set("email_verified", tt.sent)})
			h.checkEmail(t, tt.want)
		})
		t.Run(tt.name+" in userinfo", func(t *testing.T) {
			h.faults(t, devidp.Faults{EmailInUserinfoOnly: true, UserinfoEdit: set("email_verified", tt.sent)})
			h.checkEmail(t, tt.want)
		})
	}
	for name, sent := range map[string]any{"1": 1, "1 as text": "1", "yes": "yes", "another case": "TRUE", "object": map[string]any{"v": true}} {
		t.Run(name+" in the ID token", func(t *testing.T) {
			h.faults(t, devidp.Faults{ClaimsEdit: set("email_verified", sent)})
			h.checkEmail(t, false)
		})
	}
	// The ID token vouches for an address that it does not name, userinfo names
	// one that it does not vouch for.
	t.Run("not if the address comes from elsewhere", func(t *testing.T) {
		h.faults(t, devidp.Faults{
			ClaimsEdit:   set("email", nil),
			UserinfoEdit: set("email_verified", false),
		})
		h.checkEmail(t, false)
	})
	t.Run("not without an address", func(t *testing.T) {
		h.faults(t, devidp.Faults{ClaimsEdit: set("email", nil), UserinfoEdit: set("email", nil)})
		id, err := h.signIn(t, h.provider)
		if err != nil {
			t.Fatal(err)
		}
		if id.Email != "" || id.EmailVerified {
			t.Errorf("email = %q, verified %v, want none", id.Email, id.EmailVerified)
		}
	})
	t.Run("a claim in another case is another claim", func(t *testing.T) {
		h.faults(t, devidp.Faults{ClaimsEdit: both(set("email_verified", false), set("eMail_verified", true), set("email_verifi\u0435d", true), set("Sub", "root"), set("\u017fub", "root"))})
		h.checkEmail(t, false)
	})
}

// checkEmail signs alice in and compares whether her address is verified.
func (h *harness) checkEmail(t *testing.T, want bool) {
	t.Helper()
	id, err := h.signIn(t, h.provider)
	if err != nil {
		t.Fatal(err)
	}
	if id.Subject != "5f0c7b1e93a84d26" || id.Email != "alice@example.com" || id.EmailVerified != want {
		t.Errorf("subject, email, verified = %q, %q, %v, want alice's and %v", id.Subject, id.Email, id.EmailVerified, want)
	}
}

func TestUserinfoFillsInWhatTheIDTokenLacks(t *testing.T) {
	h := newHarness(t)
	t.Run("e-mail and name", func(t *testing.T) {
		h.faults(t, devidp.Faults{
			EmailInUserinfoOnly: true, ClaimsEdit: both(set("name", nil), set("preferred_username", nil)),
			UserinfoEdit: both(set("picture", "https://img.example/a.png"), set("groups", []string{"not-asked-for"})),
		})
		id, err := h.signIn(t, h.provider)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"alice@example.com", "Alice Adams", "https://img.example/a.png", "admins", "staff"}
		if diff := cmp.Diff(want, append([]string{id.Email, id.Name, id.Picture}, id.Groups...)); diff != "" {
			t.Errorf("email, name, picture, groups (-want +got):\n%s", diff)
		}
	})
	t.Run("but nothing that it has", func(t *testing.T) {
		h.faults(t, devidp.Faults{
			ClaimsEdit:   both(set("groups", nil), set("email_verified", false)),
			UserinfoEdit: both(set("email", "root@example.com"), set("email_verified", true), set("name", "Root")),
		})
		id, err := h.signIn(t, h.provider)
		if err != nil {
			t.Fatal(err)
		}
		if id.Email != "alice@example.com" || id.EmailVerified || id.Name != "Alice Adams" {
			t.Errorf("email, verified, name = %q, %v, %q, want the ID token's", id.Email, id.EmailVerified, id.Name)
		}
	})
	t.Run("preferred_username stands in for the name", func(t *testing.T) {
		h.faults(t, devidp.Faults{ClaimsEdit: set("name", nil)})
		id, err := h.signIn(t, h.provider)
		if err != nil {
			t.Fatal(err)
		}
		if id.Name != "alice" {
			t.Errorf("name = %q, want alice", id.Name)
		}
	})
	for name, sub := range map[string]any{"somebody else": "c2914ed07a6b4f58", "nobody": nil, "the empty subject": ""} {
		t.Run("but not if it is about "+name, func(t *testing.T) {
			h.faults(t, devidp.Faults{EmailInUserinfoOnly: true, UserinfoEdit: both(set("sub", sub), set("Sub", "5f0c7b1e93a84d26"))})
			if _, err := h.signIn(t, h.provider); !errors.Is(err, oauth.ErrIDToken) {
				t.Errorf("error = %v, want %v", err, oauth.ErrIDToken)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	h := newHarness(t)
	tests := []struct {
		name string
		sent any // nil removes the claim
		want []string
		err  error
		asks int // userinfo requests
	}{
		{"list", []string{"a", "b"}, []string{"a", "b"}, nil, 0},
		{"text", "a", []string{"a"}, nil, 0},
		{"empty list", []string{}, []string{}, nil, 0},
		{"null", []string(nil), []string{"of userinfo"}, nil, 1},
		{"missing", nil, []string{"of userinfo"}, nil, 1},
		{"objects", []any{map[string]any{"name": "a"}}, nil, oauth.ErrClaims, 0},
		{"object", map[string]any{"a": true}, nil, oauth.ErrClaims, 0},
		{"numbers", []int{1, 2}, nil, oauth.ErrClaims, 0},
		{"a null in the list", []any{"a", nil}, nil, oauth.ErrClaims, 0},
		{"boolean", true, nil, oauth.ErrClaims, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.faults(t, devidp.Faults{ClaimsEdit: set("groups", tt.sent), UserinfoEdit: set("groups", "of userinfo")})
			before := len(h.requests("GET /userinfo"))
			id, err := h.signIn(t, h.provider)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error = %v, want %v", err, tt.err)
			}
			if id != nil {
				if diff := cmp.Diff(tt.want, id.Groups); diff != "" {
					t.Errorf("groups (-want +got):\n%s", diff)
				}
			}
			if got := len(h.requests("GET /userinfo")) - before; got != tt.asks {
				t.Errorf("userinfo was asked %d times, want %d", got, tt.asks)
			}
		})
	}

	t.Run("objects in userinfo", func(t *testing.T) {
		h.faults(t, devidp.Faults{ClaimsEdit: set("groups", nil), UserinfoEdit: set("groups", []any{map[string]any{"name": "a"}})})
		if _, err := h.signIn(t, h.provider); !errors.Is(err, oauth.ErrClaims) {
			t.Errorf("error = %v, want %v", err, oauth.ErrClaims)
		}
	})
	t.Run("the claim is the configured one", func(t *testing.T) {
		p := h.fresh(t, func(c *oauth.Config) { c.GroupsClaim = "https://example.com/roles" })
		h.faults(t, devidp.Faults{ClaimsEdit: set("https://example.com/roles", []string{"editor"})})
		id, err := h.signIn(t, p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"editor"}, id.Groups); diff != "" {
			t.Errorf("groups (-want +got):\n%s", diff)
		}
	})
}

func TestAMR(t *testing.T) {
	h := newHarness(t)
	tests := []struct {
		name string
		sent any
		want []string
	}{
		{"list", []string{"pwd", "otp"}, []string{"pwd", "otp"}},
		{"text", "pwd", []string{"pwd"}},
		{"null", []string(nil), nil},
		{"missing", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.faults(t, devidp.Faults{ClaimsEdit: set("amr", tt.sent)})
			id, err := h.signIn(t, h.provider)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, id.AMR); diff != "" {
				t.Errorf("amr (-want +got):\n%s", diff)
			}
		})
	}
}

func TestControlCharactersAreRefusedInEveryClaim(t *testing.T) {
	h := newHarness(t)
	for _, bad := range []string{"a\r\nX-Forwarded-User: root", "a\x00", "a\x7f", "a\tb"} {
		for name, value := range map[string]any{
			"sub": bad, "email": bad, "name": bad, "picture": bad, "sid": bad,
			"groups": []string{"staff", bad}, "amr": []string{"pwd", bad},
		} {
			h.faults(t, devidp.Faults{ClaimsEdit: set(name, value)})
			if _, err := h.signIn(t, h.provider); !errors.Is(err, oauth.ErrClaims) {
				t.Errorf("%s = %q: error = %v, want %v", name, bad, err, oauth.ErrClaims)
			}
		}
	}
	t.Run("in userinfo too", func(t *testing.T) {
		h.faults(t, devidp.Faults{EmailInUserinfoOnly: true, UserinfoEdit: set("email", "a\n@example.com")})
		if _, err := h.signIn(t, h.provider); !errors.Is(err, oauth.ErrClaims) {
			t.Errorf("error = %v, want %v", err, oauth.ErrClaims)
		}
	})
	t.Run("other scripts are welcome", func(t *testing.T) {
		h.faults(t, devidp.Faults{ClaimsEdit: set("name", "Zoë Łukasz 山田")})
		if _, err := h.signIn(t, h.provider); err != nil {
			t.Errorf("error = %v, want none", err)
		}
	})
}
