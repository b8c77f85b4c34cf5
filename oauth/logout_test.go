package oauth_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authproxy/oauth"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutClaims are those of a correct logout token.
func (h *harness) logoutClaims() map[string]any {
	now := h.clock.Now()
	return map[string]any{
		"iss": h.url, "aud": "app", "sub": "alice-1", "sid": "session-1", "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"jti": "token-1", "events": map[string]any{logoutEvent: map[string]any{}},
	}
}

func TestALogoutTokenSaysWhatEnds(t *testing.T) {
	h := newHarness(t)
	issued := h.clock.Now().Truncate(time.Second)
	for _, tt := range []struct{ name, subject, sid string }{
		{"a session", "", "session-1"}, {"a person", "alice-1", ""}, {"a person's session", "alice-1", "session-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := h.idp.IssueLogoutToken("app", tt.subject, tt.sid)
			if err != nil {
				t.Fatal(err)
			}
			got, err := h.provider.VerifyLogout(t.Context(), raw)
			if err != nil {
				t.Fatal(err)
			}
			if got.TokenID == "" {
				t.Error("the id of the token is empty: a replay could not be told")
			}
			want := &oauth.Logout{Subject: tt.subject, SID: tt.sid, IssuedAt: issued, TokenID: got.TokenID, Until: issued.Add(2 * time.Minute)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the logout (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOnlyALogoutTokenForThisClientOfThisProviderCounts(t *testing.T) {
	h := newHarness(t)
	s := newSigner(t, "key-1")
	h.publish(t, "/jwks", s.public())
	now := h.clock.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	tests := []struct {
		name   string
		change map[string]any // of the claims; nil removes one
		header map[string]any
		ok     bool
	}{
		{"a correct one", nil, nil, true},
		{"typ logout+jwt", nil, map[string]any{"typ": "logout+jwt"}, true},
		{"typ application/logout+jwt", nil, map[string]any{"typ": "application/Logout+JWT"}, true},
		{"no typ", nil, map[string]any{"typ": nil}, true},
		{"an audience among others", map[string]any{"aud": []string{"other", "app"}}, nil, true},
		{"an iat a little ahead", map[string]any{"iat": at(50 * time.Second)}, nil, true},
		{"almost too old", map[string]any{"iat": at(-10*time.Minute + time.Second)}, nil, true},

		{"an access token by its typ", nil, map[string]any{"typ": "at+jwt"}, false},
		{"a typ that is no text", nil, map[string]any{"typ": 7}, false},
		{"no events, like an ID token", map[string]any{"events": nil}, nil, false},
		{"another event", map[string]any{"events": map[string]any{"http://schemas.openid.net/event/other": map[string]any{}}}, nil, false},
		{"the event is null", map[string]any{"events": map[string]any{logoutEvent: nil}}, nil, false},
		{"the event is a text", map[string]any{"events": map[string]any{logoutEvent: "{}"}}, nil, false},
		{"events under another name", map[string]any{"events": nil, "Events": map[string]any{logoutEvent: map[string]any{}}}, nil, false},
		{"a nonce", map[string]any{"nonce": "n"}, nil, false},
		{"an empty nonce", map[string]any{"nonce": ""}, nil, false},
		{"another issuer", map[string]any{"iss": "https://evil.example"}, nil, false},
		{"another audience", map[string]any{"aud": "other"}, nil, false},
		{"no audience", map[string]any{"aud": nil}, nil, false},
		{"neither sub nor sid", map[string]any{"sub": nil, "sid": nil}, nil, false},
		{"sub under another name", map[string]any{"sub": nil, "sid": nil, "Sub": "alice-1"}, nil, false},
		{"a sub that is too long", map[string]any{"sub": strings.Repeat("a", 256)}, nil, false},
		{"no jti", map[string]any{"jti": nil}, nil, false},
		{"a jti that is too long", map[string]any{"jti": strings.Repeat("j", 257)}, nil, false},
		{"no iat", map[string]any{"iat": nil}, nil, false},
		{"an iat in the future", map[string]any{"iat": at(2 * time.Minute), "exp": at(4 * time.Minute)}, nil, false},
		{"ten minutes old", map[string]any{"iat": at(-10 * time.Minute), "exp": at(time.Hour)}, nil, false},
		{"no exp", map[string]any{"exp": nil}, nil, false},
		{"over", map[string]any{"iat": at(-2 * time.Minute), "exp": at(-time.Second)}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims := h.logoutClaims()
			maps.Copy(claims, tt.change)
			maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
			got, err := h.provider.VerifyLogout(t.Context(), s.sign(t, claims, tt.header))
			switch {
			case tt.ok && err != nil:
				t.Errorf("refused: %v", err)
			case !tt.ok && !errors.Is(err, oauth.ErrLogoutToken):
				t.Errorf("got %+v, %v, want %v", got, err, oauth.ErrLogoutToken)
			}
		})
	}
}

func TestALogoutTokenMustBeSignedByTheProvider(t *testing.T) {
	h := newHarness(t)
	s := newSigner(t, "key-1")
	h.publish(t, "/jwks", s.public())
	good := s.sign(t, h.logoutClaims(), nil)
	login, _ := h.begin(t)
	// With the client secret, which only we and the provider know.
	input := encodeJSON(t, map[string]any{"alg": "HS256", "typ": "JWT"}) + "." + encodeJSON(t, h.logoutClaims())
	mac := hmac.New(sha256.New, []byte(clientSecret))
	mac.Write([]byte(input))
	symmetric := input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	for name, raw := range map[string]string{
		"nothing":                  "",
		"no token":                 "logout",
		"another's signature":      newSigner(t, "key-1").sign(t, h.logoutClaims(), nil),
		"no signature":             good[:strings.LastIndexByte(good, '.')+1],
		"alg none":                 s.sign(t, h.logoutClaims(), map[string]any{"alg": "none"}),
		"HS256":                    symmetric,
		"longer than 64 KiB":       good + strings.Repeat("A", 64<<10),
		"an ID token":              s.sign(t, h.honestClaims(login), nil),
		"an ID token that has sid": s.sign(t, map[string]any{"iss": h.url, "aud": "app", "sub": "alice-1", "sid": "session-1", "iat": h.clock.Now().Unix(), "exp": h.clock.Now().Add(time.Hour).Unix(), "jti": "1"}, nil),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := h.provider.VerifyLogout(t.Context(), raw); !errors.Is(err, oauth.ErrLogoutToken) {
				t.Errorf("got %+v, %v, want %v", got, err, oauth.ErrLogoutToken)
			}
		})
	}
	if _, err := h.provider.VerifyLogout(t.Context(), good); err != nil {
		t.Errorf("after all that, the good one: %v", err)
	}
}

func TestALogoutTokenIsNotJudgedWithoutTheProvidersKeys(t *testing.T) {
	h := newHarness(t)
	h.override(t, "/jwks", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	raw, err := h.idp.IssueLogoutToken("app", "alice-1", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.provider.VerifyLogout(t.Context(), raw); !errors.Is(err, oauth.ErrUnavailable) {
		t.Errorf("error = %v, want %v", err, oauth.ErrUnavailable)
	}
}

func TestAProviderWithoutIDTokensHasNoLogout(t *testing.T) {
	p, err := oauth.New(oauth.Config{ID: "github", Type: oauth.GitHub, ClientID: "app", ClientSecret: clientSecret, RedirectURL: callbackURL, Orgs: []string{"acme"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.VerifyLogout(t.Context(), "x.y.z"); !errors.Is(err, oauth.ErrNoLogout) {
		t.Errorf("error = %v, want %v", err, oauth.ErrNoLogout)
	}
}
