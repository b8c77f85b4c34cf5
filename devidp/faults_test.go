package devidp_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"authproxy/devidp"
)

func TestAnES256TokenIsAccepted(t *testing.T) {
	h := newHarness(t, nil)
	h.idp.SetFaults(devidp.Faults{Alg: "ES256"})
	token := h.tokens()
	if got := h.claims(token)["nonce"]; got != "the-nonce" {
		t.Errorf("nonce = %v, want the-nonce", got)
	}
	if got := header(t, token.Extra("id_token").(string))["alg"]; got != "ES256" {
		t.Errorf("alg = %v, want ES256", got)
	}
}

// header returns the protected header of a JWS.
func header(t *testing.T, raw string) map[string]any {
	t.Helper()
	part, _, _ := strings.Cut(raw, ".")
	var got map[string]any
	if err := json.Unmarshal(decode(t, part), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAClientRefusesWhatAFaultForges(t *testing.T) {
	set := func(name string, value any) func(map[string]any) {
		return func(claims map[string]any) { claims[name] = value }
	}
	long := time.Now().Add(-24 * time.Hour).Unix()
	tests := []struct {
		name   string
		faults devidp.Faults
		want   string // in go-oidc's error
	}{
		{"unsigned", devidp.Faults{Alg: "none"}, "none"},
		{"HMAC with the public key", devidp.Faults{Alg: "HS256-public"}, "HS256"},
		{"another audience", devidp.Faults{ClaimsEdit: set("aud", "other")}, "audience"},
		{"another issuer", devidp.Faults{ClaimsEdit: set("iss", "https://evil.example")}, "issued by a different provider"},
		{"expired", devidp.Faults{ClaimsEdit: set("exp", long)}, "expired"},
		{"no ID token", devidp.Faults{OmitIDToken: true}, "malformed"},
		{"something else for an ID token", devidp.Faults{IDToken: "x.y.z"}, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, nil)
			h.idp.SetFaults(tt.faults)
			_, err := h.verify(h.tokens())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("verify: error = %v, want one about %q", err, tt.want)
			}
		})
	}
}

// The forgery has to be right in everything but the algorithm, or a client's
// refusal would prove nothing.
func TestTheForgedHMACIsValidUnderThePublicKey(t *testing.T) {
	h := newHarness(t, nil)
	h.idp.SetFaults(devidp.Faults{Alg: "HS256-public"})
	raw := h.tokens().Extra("id_token").(string)
	signed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signed.Verify(publicPEM(t, h, header(t, raw)["kid"].(string))); err != nil {
		t.Errorf("verify with the PEM of the published RSA key: %v", err)
	}
}

func TestClaimsEditHasTheLastWord(t *testing.T) {
	h := newHarness(t, nil)
	h.idp.SetFaults(devidp.Faults{ClaimsEdit: func(claims map[string]any) {
		delete(claims, "sub")
		maps.Copy(claims, map[string]any{"nonce": "wrong", "email_verified": false, "aud": []string{"app", "other"}, "azp": "other"})
	}})
	got := h.claims(h.tokens())
	if got["sub"] != nil || got["nonce"] != "wrong" || got["email_verified"] != false || got["azp"] != "other" {
		t.Errorf("claims = %v, want them edited", got)
	}
}

func TestALogoutTokenInPlaceOfTheIDToken(t *testing.T) {
	h := newHarness(t, nil)
	logout, err := h.idp.IssueLogoutToken("app", "someone", "")
	if err != nil {
		t.Fatal(err)
	}
	h.idp.SetFaults(devidp.Faults{IDToken: logout})
	if got := h.tokens().Extra("id_token"); got != logout {
		t.Errorf("id_token = %v, want the logout token", got)
	}
}

func TestUserinfoFaults(t *testing.T) {
	h := newHarness(t, nil)
	h.idp.SetFaults(devidp.Faults{EmailInUserinfoOnly: true})
	token := h.tokens()
	claims := h.claims(token)
	if claims["email"] != nil || claims["email_verified"] != nil || claims["name"] == nil {
		t.Errorf("claims of the ID token = %v, want all but the e-mail address", claims)
	}
	if info, err := h.userinfo(token.AccessToken); err != nil || info.Email != "alice@example.com" || !info.EmailVerified {
		t.Errorf("userinfo = %+v, %v, want the e-mail address", info, err)
	}

	h.idp.SetFaults(devidp.Faults{UserinfoEdit: func(claims map[string]any) { claims["sub"] = "another" }})
	if info, err := h.userinfo(token.AccessToken); err != nil || info.Subject != "another" {
		t.Errorf("userinfo = %+v, %v, want the edited subject", info, err)
	}
}

func TestCallbackFaults(t *testing.T) {
	h := newHarness(t, nil)
	tests := []struct {
		name   string
		faults devidp.Faults
		want   []string // iss
	}{
		{"honest", devidp.Faults{}, []string{h.url}},
		{"another issuer", devidp.Faults{CallbackIss: "https://evil.example"}, []string{"https://evil.example"}},
		{"left out", devidp.Faults{CallbackIss: "-"}, nil},
		{"edited last", devidp.Faults{CallbackIss: "x", CallbackEdit: func(q url.Values) { q["iss"] = []string{"a", "b"} }}, []string{"a", "b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.idp.SetFaults(tt.faults)
			q := h.callbackOf(h.get(h.authURL("login_hint", "alice")))
			if got := strings.Join(q["iss"], " "); got != strings.Join(tt.want, " ") || q.Get("code") == "" {
				t.Errorf("iss = %q, code %v, want %q and a code", got, q.Has("code"), tt.want)
			}
		})
	}
}

func TestFaultsOfTheWholeServer(t *testing.T) {
	h := newHarness(t, nil)
	code := h.code()

	h.idp.SetFaults(devidp.Faults{Down: true})
	if resp, err := h.browser.Get(h.url + "/jwks"); err == nil {
		t.Errorf("down: status %d, want no answer", resp.StatusCode)
	}
	h.idp.SetFaults(devidp.Faults{Status: map[string]int{"/token": 503}})
	if a := h.post("/token", nil); a.StatusCode != 503 {
		t.Errorf("status of /token = %d, want 503", a.StatusCode)
	}
	if a := h.get(h.url + "/jwks"); a.StatusCode != 200 {
		t.Errorf("status of another path = %d, want 200", a.StatusCode)
	}
	h.idp.SetFaults(devidp.Faults{Garbage: true})
	if a := h.get(h.url + "/jwks"); a.StatusCode != 200 || json.Valid([]byte(a.body)) {
		t.Errorf("garbage: status %d, body %q, want 200 and no JSON", a.StatusCode, a.body)
	}
	if _, err := oidc.NewProvider(t.Context(), h.url); err == nil {
		t.Error("discovery works on garbage")
	}

	h.idp.SetFaults(devidp.Faults{})
	if _, err := h.exchange(code); err != nil {
		t.Errorf("after the faults the code is spoiled: %v", err)
	}
}

func TestDelayHoldsTheAnswerBack(t *testing.T) {
	idp := newHarness(t, nil).idp
	synctest.Test(t, func(t *testing.T) {
		arrived, release := make(chan string, 1), make(chan struct{})
		idp.SetFaults(devidp.Faults{Status: map[string]int{"/jwks": http.StatusTeapot}, Delay: func(r *http.Request) {
			arrived <- r.URL.Path
			<-release
		}})
		answered := make(chan int, 1)
		go func() {
			w := httptest.NewRecorder()
			idp.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/jwks", nil))
			answered <- w.Code
		}()
		synctest.Wait()
		if got := <-arrived; got != "/jwks" || len(answered) != 0 {
			t.Errorf("Delay saw %q, answered meanwhile %d times, want /jwks, 0", got, len(answered))
		}
		idp.SetFaults(devidp.Faults{}) // does not reach the request under way
		close(release)
		if got := <-answered; got != http.StatusTeapot {
			t.Errorf("status = %d, want 418: the faults of when the request came in", got)
		}
	})
}

func TestSetFaultsKeepsNothingOfTheCallers(t *testing.T) {
	h := newHarness(t, nil)
	status := map[string]int{"/jwks": 503}
	h.idp.SetFaults(devidp.Faults{Status: status})
	delete(status, "/jwks")
	if a := h.get(h.url + "/jwks"); a.StatusCode != 503 {
		t.Errorf("status = %d, want 503", a.StatusCode)
	}
}

func TestLongToken(t *testing.T) {
	h := newHarness(t, nil)
	h.idp.SetFaults(devidp.Faults{LongToken: 6000})
	token := h.tokens()
	if got := len(token.Extra("id_token").(string)); got < 8000 {
		t.Errorf("the ID token has %d bytes, want over 8000 (6000 in base64)", got)
	}
	h.claims(token)
}

func TestAnUnknownAlgorithmIsAServerError(t *testing.T) {
	h := newHarness(t, nil)
	h.idp.SetFaults(devidp.Faults{Alg: "RS1"})
	if _, err := h.exchange(h.code()); errorCode(err) != "server_error" {
		t.Errorf("error = %v, want server_error", err)
	}
}

func TestRotateKeys(t *testing.T) {
	h := newHarness(t, nil)
	before := h.tokens()
	h.claims(before)

	h.idp.RotateKeys(true)
	after := h.tokens()
	if a, b := header(t, before.Extra("id_token").(string))["kid"], header(t, after.Extra("id_token").(string))["kid"]; a == b {
		t.Errorf("kid %v before and after a rotation", a)
	}
	h.freshKeys()
	h.claims(before)
	h.claims(after)

	h.idp.RotateKeys(false)
	h.freshKeys()
	if _, err := h.verify(after); err == nil {
		t.Error("a token of the keys that were thrown away verifies")
	}
	h.claims(h.tokens())
}

// freshKeys makes the client forget the keys it has seen.
func (h *harness) freshKeys() {
	h.Helper()
	provider, err := oidc.NewProvider(h.Context(), h.url)
	if err != nil {
		h.Fatal(err)
	}
	h.provider = provider
}

func TestOldKeysAreBounded(t *testing.T) {
	h := newHarness(t, nil)
	for range 10 {
		h.idp.RotateKeys(true)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(h.get(h.url+"/jwks").body), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 18 {
		t.Errorf("%d keys published, want 18: RSA and EC of this generation and the 8 before", len(set.Keys))
	}
	for _, key := range set.Keys {
		if !key.IsPublic() || key.KeyID == "" || key.Use != "sig" {
			t.Errorf("key %q: public %v, use %q, want a public one to verify with", key.KeyID, key.IsPublic(), key.Use)
		}
	}
}
