package oauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"authproxy/devidp"
	"authproxy/oauth"
)

// offline signs alice in with a refresh token.
func (h *harness) offline(t *testing.T) *oauth.Identity {
	t.Helper()
	h.config.Scopes = []string{"openid", "profile", "email", "offline_access"}
	h.provider = h.fresh(t, nil)
	id, err := h.signIn(t, h.provider)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// refresh is Refresh, with what is true of all its failures.
func (h *harness) refresh(ctx context.Context, t *testing.T, was *oauth.Identity) (*oauth.Identity, error) {
	t.Helper()
	id, err := h.provider.Refresh(ctx, *was)
	if err != nil {
		if id != nil {
			t.Errorf("Refresh failed with %v and returned an identity, want none", err)
		}
		h.checkSilent(t, "the error", err.Error())
	}
	return id, err
}

func TestRefreshReturnsNewTokensForTheSamePerson(t *testing.T) {
	h := newHarness(t)
	was := h.offline(t)
	h.clock.advance(time.Hour)
	got, err := h.refresh(t.Context(), t, was)
	if err != nil {
		t.Fatal(err)
	}
	if got.Tokens.Access == was.Tokens.Access || got.Tokens.Refresh == was.Tokens.Refresh || got.Tokens.ID == was.Tokens.ID {
		t.Error("a token is the old one, want all to be new")
	}
	if want := h.clock.Now().Add(time.Hour); !got.Tokens.AccessExpiry.Equal(want) || !got.Tokens.IDExpiry.Equal(want) {
		t.Errorf("the tokens end at %v and %v, want %v", got.Tokens.AccessExpiry, got.Tokens.IDExpiry, want)
	}
	want := *was
	want.Tokens = got.Tokens
	if diff := cmp.Diff(&want, got, withoutClaims()); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if _, err := h.refresh(t.Context(), t, got); err != nil {
		t.Errorf("with the rotated token: %v, want success", err)
	}
}

func TestRefreshFailures(t *testing.T) {
	tests := []struct {
		name  string
		serve http.HandlerFunc
		want  error
	}{
		{"the token is dead", failing(400, "invalid_grant"), oauth.ErrRefreshRevoked},
		{"our secret is wrong", failing(401, "invalid_client"), oauth.ErrUnavailable},
		{"the client may not", failing(400, "unauthorized_client"), oauth.ErrUnavailable},
		{"an error without code", failing(400, ""), oauth.ErrUnavailable},
		{"overloaded, whatever it says", failing(429, "invalid_grant"), oauth.ErrUnavailable},
		{"broken, whatever it says", failing(503, "invalid_grant"), oauth.ErrUnavailable},
		{"garbage", garbage, oauth.ErrUnavailable},
		{"nothing", hangUp, oauth.ErrUnavailable},
		{"a redirect", refuse(302, "Location", "/elsewhere"), oauth.ErrUnavailable},
		{"no access token", answer(object{}), oauth.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			was := h.offline(t)
			h.override(t, "/token", tt.serve)
			before := len(h.requests("POST /token"))
			_, err := h.refresh(t.Context(), t, was)
			if !errors.Is(err, tt.want) || tt.want == oauth.ErrUnavailable && errors.Is(err, oauth.ErrRefreshRevoked) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
			if got := len(h.requests("POST /token")) - before; got != 1 {
				t.Errorf("the token was sent %d times, want once: it may be good once only", got)
			}
		})
	}
}

func failing(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(object{"error": code, "error_description": r.Form.Encode()})
	}
}

func TestThereIsNothingToRefresh(t *testing.T) {
	h := newHarness(t)
	was := h.offline(t)
	was.Tokens.Refresh = ""
	before := len(h.requests(""))
	if _, err := h.refresh(t.Context(), t, was); !errors.Is(err, oauth.ErrRefreshRevoked) || len(h.requests("")) != before {
		t.Errorf("error = %v after %d requests, want %v after none", err, len(h.requests(""))-before, oauth.ErrRefreshRevoked)
	}
}

// The old refresh token is used up, so the new one must come out; the ID token and
// what it says must not.
func TestRefreshedIDTokensAreChecked(t *testing.T) {
	with := func(edit func(map[string]any)) devidp.Faults { return devidp.Faults{ClaimsEdit: edit} }
	tests := []struct {
		name   string
		faults devidp.Faults
		stale  bool
	}{
		{"honest", devidp.Faults{}, false},
		{"no nonce", with(set("nonce", nil)), false}, // OpenID Connect Core 1.0, section 12.2
		{"another client", with(set("aud", "other")), true},
		{"another issuer", with(set("iss", "https://evil.example")), true},
		{"expired", with(set("exp", 1)), true},
		{"of a clock that is ahead", with(set("iat", int64(1_800_000_000+7200))), true},
		{"not signed", devidp.Faults{Alg: "none", ClaimsEdit: set("at_hash", nil)}, true},
		{"groups that are none", with(set("groups", 5)), true},
		{"a control character", with(set("name", "a\nb")), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			was := h.offline(t)
			h.faults(t, devidp.Faults{Alg: tt.faults.Alg, ClaimsEdit: both(set("email", "new@example.com"), func(c map[string]any) {
				if tt.faults.ClaimsEdit != nil {
					tt.faults.ClaimsEdit(c)
				}
			})})
			got, err := h.refresh(t.Context(), t, was)
			if err != nil || got.Stale != tt.stale || (got.Email == was.Email) != tt.stale || (got.Tokens.ID == was.Tokens.ID) != tt.stale {
				t.Fatalf("identity = %+v, %v, want who was and the old ID token: %v", got, err, tt.stale)
			}
			h.faults(t, devidp.Faults{})
			if _, err := h.refresh(t.Context(), t, got); err != nil {
				t.Errorf("with what came: %v, want success", err)
			}
		})
	}
}

func TestWhatARefreshTells(t *testing.T) {
	tests := []struct {
		name   string
		faults devidp.Faults
		want   []string // groups
		id     bool     // there is a new ID token
		stale  bool
	}{
		{"new groups in the ID token", devidp.Faults{ClaimsEdit: set("groups", []string{"new"})}, []string{"new"}, true, false},
		{"new groups in userinfo", devidp.Faults{OmitIDToken: true, UserinfoEdit: set("groups", []string{"new"})}, []string{"new"}, false, false},
		{"no groups any more", devidp.Faults{ClaimsEdit: set("groups", nil), UserinfoEdit: set("groups", nil)}, nil, true, false},
		{"no groups any more in userinfo", devidp.Faults{OmitIDToken: true, UserinfoEdit: set("groups", nil)}, nil, false, false},
		// The refresh token is used up, so the new one must come out.
		{"userinfo is down", devidp.Faults{OmitIDToken: true, Status: map[string]int{"/userinfo": 503}}, []string{"admins", "staff"}, false, true},
		{"userinfo is busy", devidp.Faults{OmitIDToken: true, Status: map[string]int{"/userinfo": 429}}, []string{"admins", "staff"}, false, true},
		{"userinfo refuses", devidp.Faults{OmitIDToken: true, Status: map[string]int{"/userinfo": 403}}, []string{"admins", "staff"}, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			was := h.offline(t)
			h.faults(t, tt.faults)
			got, err := h.refresh(t.Context(), t, was)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Groups); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
			if got.Tokens.Refresh == was.Tokens.Refresh || (got.Tokens.ID != was.Tokens.ID) != tt.id || got.Tokens.ID == "" {
				t.Errorf("new refresh token %v, new ID token %v, want true and %v",
					got.Tokens.Refresh != was.Tokens.Refresh, got.Tokens.ID != was.Tokens.ID, tt.id)
			}
			if got.Stale != tt.stale {
				t.Errorf("stale = %v, want %v", got.Stale, tt.stale)
			}
			if got.Email != "alice@example.com" || !got.EmailVerified || got.SID != was.SID || !got.AuthTime.Equal(was.AuthTime) {
				t.Errorf("identity = %+v, want the rest to stay", got)
			}
		})
	}
}

func TestARefreshThatTellsNothingKeepsTheGroups(t *testing.T) {
	h := newHarness(t)
	h.editJSON(t, discoveryDoc, set("userinfo_endpoint", nil))
	was := h.offline(t)
	h.faults(t, devidp.Faults{OmitIDToken: true})
	got, err := h.refresh(t.Context(), t, was)
	if err != nil || !slices.Equal(got.Groups, []string{"admins", "staff"}) || got.Email != "alice@example.com" || !got.EmailVerified || got.Stale {
		t.Fatalf("identity = %+v, %v, want the groups and the address of before, not stale", got, err)
	}
	got.Stale = true // by an earlier refresh
	if again, err := h.refresh(t.Context(), t, got); err != nil || !again.Stale {
		t.Errorf("identity = %+v, %v, want what was stale to stay so", again, err)
	}
}

func TestAPersonWhoIsReadAgainIsNotStaleAnyMore(t *testing.T) {
	h := newHarness(t)
	was := h.offline(t)
	was.Stale = true
	for _, f := range []devidp.Faults{{}, {OmitIDToken: true}} {
		h.faults(t, f)
		got, err := h.refresh(t.Context(), t, was)
		if err != nil || got.Stale {
			t.Fatalf("identity = %+v, %v, want it not stale", got, err)
		}
		was.Tokens = got.Tokens
	}
}

// Otherwise a session would go on with the tokens of somebody else.
func TestAnotherPersonsTokensAreRefusedWhileUserinfoIsDown(t *testing.T) {
	for name, edit := range map[string]func(map[string]any){
		"another subject":            set("sub", "bob"),
		"the subject in other cases": set("sub", strings.ToUpper(aliceSubject)),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			was := h.offline(t)
			h.faults(t, devidp.Faults{ClaimsEdit: both(edit, set("groups", nil)), Status: map[string]int{"/userinfo": 503}})
			before := len(h.requests("GET /userinfo"))
			if id, err := h.refresh(t.Context(), t, was); !errors.Is(err, oauth.ErrIDToken) {
				t.Errorf("identity = %+v, %v, want %v", id, err, oauth.ErrIDToken)
			}
			if got := len(h.requests("GET /userinfo")) - before; got != 0 {
				t.Errorf("userinfo was asked %d times about another person, want never", got)
			}
		})
	}
}

func TestAnotherPersonsUserinfoIsNoReasonToGoOn(t *testing.T) {
	h := newHarness(t)
	was := h.offline(t)
	h.faults(t, devidp.Faults{OmitIDToken: true, UserinfoEdit: set("sub", "bob")})
	if id, err := h.refresh(t.Context(), t, was); !errors.Is(err, oauth.ErrIDToken) {
		t.Errorf("identity = %+v, %v, want %v", id, err, oauth.ErrIDToken)
	}
}

func TestAWithdrawnAddressIsNotRestored(t *testing.T) {
	withdrawn := set("email", nil)
	tests := []struct {
		name   string
		faults devidp.Faults
	}{
		{"by the ID token and userinfo", devidp.Faults{ClaimsEdit: withdrawn, UserinfoEdit: withdrawn}},
		{"by userinfo alone", devidp.Faults{OmitIDToken: true, UserinfoEdit: withdrawn}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			was := h.offline(t)
			h.faults(t, tt.faults)
			got, err := h.refresh(t.Context(), t, was)
			if err != nil || got.Email != "" || got.EmailVerified || got.Name != was.Name {
				t.Errorf("identity = %+v, %v, want no address and the old name", got, err)
			}
		})
	}
}

// Keys that cannot be fetched say nothing about the session, but an ID token
// that was not checked must not be kept.
func TestARefreshWithoutKeysKeepsTheOldIDToken(t *testing.T) {
	h := newHarness(t)
	was := h.offline(t)
	h.provider = h.fresh(t, nil)
	h.override(t, "/jwks", refuse(503))
	got, err := h.refresh(t.Context(), t, was)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Stale || got.Tokens.ID != was.Tokens.ID || got.Tokens.Refresh == was.Tokens.Refresh || !slices.Equal(got.Groups, was.Groups) {
		t.Error("want the old ID token and groups, stale, with the new refresh token")
	}
}

// The new refresh token is the only one that is good from then on.
func TestARefreshRightAfterAKeyRotationLosesNoToken(t *testing.T) {
	h := newHarness(t)
	was := h.offline(t) // and the keys were read
	h.idp.RotateKeys(false)
	got, err := h.refresh(t.Context(), t, was)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Stale || got.Tokens.ID != was.Tokens.ID || got.Tokens.Refresh == was.Tokens.Refresh || !slices.Equal(got.Groups, was.Groups) {
		t.Error("within a minute of the last look at the keys: want the old ID token and groups, stale, with the new refresh token")
	}
	h.clock.advance(time.Minute)
	if got, err = h.refresh(t.Context(), t, got); err != nil || got.Stale || got.Tokens.ID == was.Tokens.ID {
		t.Errorf("after that minute: %v, want a new ID token", err)
	}
}

func TestAProviderThatDoesNotRotateKeepsItsToken(t *testing.T) {
	h := newHarness(t)
	was := h.offline(t)
	h.override(t, "/token", answer(object{"access_token": "at-2-at-2"}))
	h.override(t, "/userinfo", answer(object{"sub": was.Subject}))
	got, err := h.refresh(t.Context(), t, was)
	if err != nil || got.Tokens.Refresh != was.Tokens.Refresh || got.Tokens.Access != "at-2-at-2" || !got.Tokens.AccessExpiry.IsZero() {
		t.Errorf("tokens = %v, want the old refresh token and an access token without a known end", err)
	}
}

// It has used up the old token by then.
func TestASlowTokenEndpointIsWaitedForWithARefresh(t *testing.T) {
	for takes, want := range map[time.Duration]error{50 * time.Second: nil, 61 * time.Second: oauth.ErrUnavailable} {
		synctest.Test(t, func(t *testing.T) {
			c := remoteConfig(roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodGet {
					return answerWith(200, `{"id":1}`)
				}
				select {
				case <-time.After(takes):
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
				return answerWith(200, `{"access_token":"`+accessToken+`","refresh_token":"second"}`)
			}))
			c.Type, c.Issuer = oauth.OAuth2, "https://gitea.example"
			c.Endpoints = oauth.Endpoints{AuthorizeURL: c.Issuer + "/a", TokenURL: c.Issuer + "/t", UserinfoURL: c.Issuer + "/u"}
			p, err := oauth.New(c)
			if err != nil {
				t.Fatal(err)
			}
			was := oauth.Identity{Issuer: c.Issuer, Subject: "1", Tokens: oauth.Tokens{Refresh: "first"}}
			if id, err := p.Refresh(t.Context(), was); !errors.Is(err, want) || err == nil && id.Tokens.Refresh != "second" {
				t.Errorf("an answer after %v: %+v, %v, want %v", takes, id, err, want)
			}
			if _, err := p.Exchange(t.Context(), oauth.NewLogin("s"), oauth.Callback{State: "s", Code: "c"}); !errors.Is(err, oauth.ErrUnavailable) {
				t.Errorf("a sign-in waits, too: %v", err)
			}
		})
	}
}

func TestRevoke(t *testing.T) {
	h := newHarness(t)
	was := h.offline(t)
	if err := h.provider.Revoke(t.Context(), was.Tokens.Refresh); err != nil {
		t.Fatal(err)
	}
	sent := h.requests("POST /revoke")
	if len(sent) != 1 || sent[0].form.Get("token") != was.Tokens.Refresh || sent[0].auth == "" {
		t.Errorf("%d requests, want one with the token and the client's secret", len(sent))
	}
	if _, err := h.refresh(t.Context(), t, was); !errors.Is(err, oauth.ErrRefreshRevoked) {
		t.Errorf("after that: %v, want %v", err, oauth.ErrRefreshRevoked)
	}
	for status, unavailable := range map[int]bool{503: true, 429: true, 400: false, 401: false, 302: true} {
		h.override(t, "/revoke", refuse(status, "Location", "/elsewhere"))
		if err := h.provider.Revoke(t.Context(), "a-token"); err == nil || errors.Is(err, oauth.ErrUnavailable) != unavailable {
			t.Errorf("status %d: error = %v, want one that is unavailable: %v", status, err, unavailable)
		}
	}
	if err := h.provider.Revoke(t.Context(), ""); err != nil {
		t.Errorf("no token: %v, want none", err)
	}
	h.editJSON(t, discoveryDoc, set("revocation_endpoint", nil))
	if err := h.fresh(t, nil).Revoke(t.Context(), "a-token"); err != nil {
		t.Errorf("not announced: %v, want none", err)
	}
}

func TestEndSessionURL(t *testing.T) {
	h := newHarness(t)
	if got, ok := h.provider.EndSessionURL(oauth.SignOut{}); ok {
		t.Errorf("before the metadata is known: %s, want none", got)
	}
	if err := h.provider.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		out  oauth.SignOut
		want url.Values
	}{
		{"nothing", oauth.SignOut{}, url.Values{"client_id": {"app"}}},
		{"everything", oauth.SignOut{IDTokenHint: "a.b.c", LogoutHint: "a@x.example", RedirectURL: "https://app.example/?a=b&c", State: "s&t"}, url.Values{
			"client_id": {"app"}, "id_token_hint": {"a.b.c"}, "logout_hint": {"a@x.example"}, "post_logout_redirect_uri": {"https://app.example/?a=b&c"}, "state": {"s&t"},
		}},
	}
	for _, tt := range tests {
		got, ok := h.provider.EndSessionURL(tt.out)
		base, query, _ := strings.Cut(got, "?")
		q, err := url.ParseQuery(query)
		if !ok || err != nil || base != h.url+"/end-session" {
			t.Errorf("%s: %s, %v, %v, want the provider's page", tt.name, got, ok, err)
		}
		if diff := cmp.Diff(tt.want, q); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	h.editJSON(t, discoveryDoc, set("end_session_endpoint", nil))
	p := h.fresh(t, nil)
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, ok := p.EndSessionURL(oauth.SignOut{}); ok {
		t.Errorf("not announced: %s, want none", got)
	}
}

func TestConfiguredEndpointsCountMore(t *testing.T) {
	h := newHarness(t)
	h.override(t, discoveryDoc, func(http.ResponseWriter, *http.Request) { t.Error("the metadata was read, want it unneeded") })
	h.override(t, "/my-token", func(w http.ResponseWriter, r *http.Request) { r.URL.Path = "/token"; h.idp.ServeHTTP(w, r) })
	h.config.Endpoints = oauth.Endpoints{
		AuthorizeURL: h.url + "/authorize", TokenURL: h.url + "/my-token", JWKSURL: h.url + "/jwks", UserinfoURL: h.url + "/userinfo",
		EndSessionURL: "https://id.example/bye?x=1", RevocationURL: h.url + "/revoke",
	}
	h.provider = h.fresh(t, nil)
	h.faults(t, devidp.Faults{EmailInUserinfoOnly: true})
	id, err := h.signIn(t, h.provider)
	if err != nil || id.Email != "alice@example.com" {
		t.Fatalf("sign-in: %+v, %v", id, err)
	}
	if got, _ := h.provider.EndSessionURL(oauth.SignOut{}); got != "https://id.example/bye?x=1&client_id=app" {
		t.Errorf("EndSessionURL = %s", got)
	}
	if len(h.requests("POST /my-token")) != 1 || len(h.requests("POST /token")) != 0 {
		t.Error("the code went elsewhere than configured")
	}
	h.override(t, discoveryDoc, h.idp.ServeHTTP)
	h.config.Endpoints = oauth.Endpoints{TokenURL: h.url + "/my-token"} // the rest from the metadata
	if _, err := h.signIn(t, h.fresh(t, nil)); err != nil || len(h.requests("POST /my-token")) != 2 {
		t.Errorf("with one configured endpoint: %v, want the code to go there", err)
	}
}

func TestConfiguredEndpointsOverPlainHTTPAreRefused(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://id.internal/t": true, "http://127.0.0.1:1/t": true, "http://[::1]/t": true, "http://localhost/t": true,
		"http://id.internal/t": false, "http://127.0.0.1.evil.example/t": false, "/t": false, "ftp://x/t": false, "https://": false, "http://%zz": false,
	} {
		c := remoteConfig(nil)
		c.Endpoints.TokenURL = address
		if _, err := oauth.New(c); (err == nil) != ok {
			t.Errorf("%s: error = %v, want ok %v", address, err, ok)
		}
	}
}

// pushed is a PAR endpoint that wants the client's secret.
func (h *harness) pushed(t *testing.T, serve http.HandlerFunc, edit func(map[string]any)) {
	h.editJSON(t, discoveryDoc, both(set("pushed_authorization_request_endpoint", h.url+"/par"), edit))
	h.override(t, "/par", serve)
	h.provider = h.fresh(t, nil)
}

func TestAuthorizationRequestsArePushedWhereThatIsAnnounced(t *testing.T) {
	h := newHarness(t)
	h.config.ResponseMode = "form_post"
	h.pushed(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		w.Write([]byte(`{"request_uri":"urn:ietf:params:oauth:request_uri:abc","expires_in":60}`))
	}, set("x", nil))
	login := oauth.NewLogin("the-state")
	got, err := h.provider.AuthCodeURL(t.Context(), "the-state", login, oauth.Prompts{LoginHint: "alice"})
	if want := h.url + "/authorize?client_id=app&request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Aabc"; err != nil || got != want {
		t.Errorf("address = %s, %v, want %s", got, err, want)
	}
	sent := h.requests("POST /par")
	if len(sent) != 1 || !strings.HasPrefix(sent[0].auth, "Basic ") {
		t.Fatalf("%d requests were pushed, want one with the client's secret", len(sent))
	}
	form := sent[0].form
	form.Del("code_challenge")
	want := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callbackURL}, "scope": {"openid profile email"}, "state": {"the-state"},
		"nonce": {login.Nonce}, "code_challenge_method": {"S256"}, "login_hint": {"alice"}, "response_mode": {"form_post"},
	}
	if diff := cmp.Diff(want, form); diff != "" {
		t.Errorf("what was pushed (-want +got):\n%s", diff)
	}
}

func TestWhenRequestsArePushed(t *testing.T) {
	tests := []struct {
		name, setting string
		announced     any
		required      bool
		serve         http.HandlerFunc
		pushes        int
		ok            bool
	}{
		{"announced", "auto", "/par", false, answer(object{"request_uri": "urn:x"}), 1, true},
		{"announced, but not wanted", "never", "/par", false, nil, 0, true},
		{"not announced", "auto", nil, false, nil, 0, true},
		{"not announced, but wanted", "always", nil, false, nil, 0, false},
		{"not announced, but required", "auto", nil, true, nil, 0, false},
		{"refused", "auto", "/par", false, failing(400, "invalid_request"), 1, false},
		{"down", "auto", "/par", false, refuse(503), 1, false},
		{"garbage", "auto", "/par", false, garbage, 1, false},
		{"no request_uri", "auto", "/par", false, answer(object{}), 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			h.config.PushedRequests = tt.setting
			h.pushed(t, tt.serve, set("require_pushed_authorization_requests", tt.required))
			if tt.announced == nil {
				h.editJSON(t, discoveryDoc, set("require_pushed_authorization_requests", tt.required))
			}
			login := oauth.NewLogin("s")
			address, err := h.provider.AuthCodeURL(t.Context(), "s", login, oauth.Prompts{})
			refused, isRefused := errors.AsType[*oauth.RefusedError](err)
			if (err == nil) != tt.ok || err != nil && !isRefused && !errors.Is(err, oauth.ErrUnavailable) {
				t.Errorf("error = %v, want ok %v", err, tt.ok)
			}
			if isRefused != (tt.name == "refused") || isRefused && refused.Code != "invalid_request" {
				t.Errorf("error = %v, want the provider's code where it refuses the request", err)
			}
			if err != nil {
				h.checkSilent(t, "the error", err.Error())
			}
			if got := len(h.requests("POST /par")); got != tt.pushes {
				t.Errorf("%d requests were pushed, want %d", got, tt.pushes)
			}
			if tt.ok && strings.Contains(address, "code_challenge") != (tt.pushes == 0) {
				t.Errorf("address = %s, want the request in it only if it was not pushed", address)
			}
		})
	}
}

func TestFormPostIsAskedForAndTold(t *testing.T) {
	h := newHarness(t)
	for mode, want := range map[string]bool{"": false, "query": false, "form_post": true} {
		p := h.fresh(t, func(c *oauth.Config) { c.ResponseMode = mode })
		address, err := p.AuthCodeURL(t.Context(), "s", oauth.NewLogin("s"), oauth.Prompts{})
		if err != nil {
			t.Fatal(err)
		}
		if p.FormPost() != want || strings.Contains(address, "response_mode=form_post") != want {
			t.Errorf("mode %q: FormPost = %v, address %s, want %v", mode, p.FormPost(), address, want)
		}
	}
}

func TestAssertionsInsteadOfASecret(t *testing.T) {
	rsaKey := serviceKey()
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	tests := []struct {
		name      string
		auth      oauth.ClientAuth
		announced []string
		alg       jose.SignatureAlgorithm
	}{
		{"RSA", oauth.ClientAuth{Key: rsaKey}, nil, jose.RS256},
		{"RSA where PSS is wanted", oauth.ClientAuth{Key: rsaKey}, []string{"ES256", "PS256"}, jose.PS256},
		{"ECDSA", oauth.ClientAuth{Key: p256, KeyID: "k1", Audience: "issuer"}, nil, jose.ES256},
		{"a longer curve", oauth.ClientAuth{Key: p384, Audience: "token_endpoint"}, nil, jose.ES384},
		{"Ed25519", oauth.ClientAuth{Key: ed}, nil, jose.EdDSA},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			h.editJSON(t, discoveryDoc, set("token_endpoint_auth_signing_alg_values_supported", tt.announced))
			h.config.ClientSecret, h.config.Auth = "", tt.auth
			h.provider = h.fresh(t, nil)
			for range 2 {
				login, back := h.begin(t)
				h.override(t, "/token", failing(400, "invalid_grant")) // devidp knows secrets only
				if _, err := h.exchange(t.Context(), t, h.provider, login, back); !errors.Is(err, oauth.ErrCode) {
					t.Fatalf("error = %v, want %v", err, oauth.ErrCode)
				}
			}
			var ids []string
			for _, r := range h.requests("POST /token") {
				ids = append(ids, checkAssertion(t, h, r, tt.auth, tt.alg))
			}
			if len(ids) != 2 || ids[0] == ids[1] {
				t.Errorf("jti = %q, want each assertion to have its own", ids)
			}
		})
	}
}

// checkAssertion returns the jti of a request's client assertion.
func checkAssertion(t *testing.T, h *harness, r request, auth oauth.ClientAuth, alg jose.SignatureAlgorithm) string {
	t.Helper()
	if r.auth != "" || r.form.Has("client_secret") || r.form.Get("client_id") != "app" || r.form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		t.Errorf("the request authenticates in another way, too: %v", r.auth != "")
	}
	jws, err := jose.ParseSignedCompact(r.form.Get("client_assertion"), []jose.SignatureAlgorithm{alg})
	if err != nil {
		t.Fatalf("assertion: %v, want it signed with %s", err, alg)
	}
	payload, err := jws.Verify(auth.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	kid := auth.KeyID
	if kid == "" {
		sum, err := (&jose.JSONWebKey{Key: auth.Key.Public()}).Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		kid = base64.RawURLEncoding.EncodeToString(sum)
	}
	if got := jws.Signatures[0].Header.KeyID; got != kid {
		t.Errorf("kid = %q, want %q", got, kid)
	}
	var got map[string]any
	if err := json.Unmarshal(payload, &got); err != nil {
		t.Fatal(err)
	}
	jti, _ := got["jti"].(string)
	delete(got, "jti")
	audience := map[bool]string{true: h.url, false: h.url + "/token"}[auth.Audience == "issuer"]
	now := float64(h.clock.Now().Unix())
	if diff := cmp.Diff(map[string]any{"iss": "app", "sub": "app", "aud": audience, "iat": now, "exp": now + 60}, got); diff != "" {
		t.Errorf("assertion (-want +got):\n%s", diff)
	}
	return jti
}

func TestClientAuthThatIsRefused(t *testing.T) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := &tls.Certificate{}
	tests := []struct {
		name   string
		secret string
		auth   oauth.ClientAuth
	}{
		{"a secret and a key", "s", oauth.ClientAuth{Key: serviceKey()}},
		{"a secret and a certificate", "s", oauth.ClientAuth{Certificate: certificate}},
		{"a key and a certificate", "", oauth.ClientAuth{Key: serviceKey(), Certificate: certificate}},
		{"a short key", "", oauth.ClientAuth{Key: short}},
		{"an odd curve", "", oauth.ClientAuth{Key: p224}},
	}
	for _, tt := range tests {
		c := remoteConfig(nil)
		c.ClientSecret, c.Auth = tt.secret, tt.auth
		if p, err := oauth.New(c); err == nil {
			t.Errorf("%s: New = %v, want an error", tt.name, p)
		}
	}
}

func TestWhereTheSecretGoesCanBeSaid(t *testing.T) {
	h := newHarness(t)
	h.editJSON(t, discoveryDoc, set("token_endpoint_auth_methods_supported", []string{"client_secret_basic", "client_secret_post"}))
	for where, want := range map[string]string{"": "basic", "basic": "basic", "post": "post"} {
		h.provider = h.fresh(t, func(c *oauth.Config) { c.Auth.Secret = where })
		before := len(h.requests("POST /token"))
		if _, err := h.signIn(t, h.provider); err != nil {
			t.Fatal(err)
		}
		if got := clientAuth(h.requests("POST /token")[before]); got != want {
			t.Errorf("%q: the secret went by %s, want %s", where, got, want)
		}
	}
}

// selfSigned is a certificate for the client that vouches for itself (RFC 8705,
// section 2.2).
func selfSigned(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestACertificateInsteadOfASecret(t *testing.T) {
	certificate := selfSigned(t)
	var server *httptest.Server
	tokens := 0
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case discoveryDoc:
			writeJSON(w, object{
				"issuer": server.URL, "authorization_endpoint": server.URL + "/authorize", "token_endpoint": server.URL + "/not-this-one", "jwks_uri": server.URL + "/jwks",
				"mtls_endpoint_aliases": object{"token_endpoint": server.URL + "/mtls/token"},
			})
		case "/mtls/token":
			tokens++
			shown := r.TLS.PeerCertificates
			if len(shown) != 1 || !slices.Equal(shown[0].Raw, certificate.Certificate[0]) {
				t.Errorf("%d certificates were shown, want the client's", len(shown))
			}
			if r.Header.Get("Authorization") != "" || r.FormValue("client_id") != "app" || r.FormValue("client_secret") != "" {
				t.Error("the request authenticates in another way, too")
			}
			failing(400, "invalid_grant")(w, r)
		default:
			t.Errorf("unexpected request: %s", r.URL.Path)
		}
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()

	c := remoteConfig(server.Client().Transport)
	c.Issuer, c.Auth.Certificate = server.URL, certificate
	p, err := oauth.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Exchange(t.Context(), oauth.NewLogin("s"), oauth.Callback{State: "s", Code: "c"}); !errors.Is(err, oauth.ErrCode) || tokens != 1 {
		t.Errorf("error = %v after %d token requests, want %v after 1", err, tokens, oauth.ErrCode)
	}
}
