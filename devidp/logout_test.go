package devidp_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"authproxy/devidp"
)

func TestEndSession(t *testing.T) {
	h := newHarness(t, nil)
	hint := h.tokens().Extra("id_token").(string)
	h.idp.SetFaults(devidp.Faults{ClaimsEdit: func(c map[string]any) { c["exp"] = 1; c["aud"] = []string{"app", "other"} }})
	expired := h.tokens().Extra("id_token").(string)
	h.idp.SetFaults(devidp.Faults{Alg: "none"})
	unsigned := h.tokens().Extra("id_token").(string)
	h.idp.SetFaults(devidp.Faults{ClaimsEdit: func(c map[string]any) { c["iss"] = "https://evil.example" }})
	foreign := h.tokens().Extra("id_token").(string)
	h.idp.SetFaults(devidp.Faults{})

	bye := url.QueryEscape(signedOut)
	tests := []struct {
		name, query string
		location    string // empty = a page
		status      int    // of a GET
	}{
		{"nothing said", "", "", 200},
		{"by client_id", "client_id=app&post_logout_redirect_uri=" + bye, signedOut, 302},
		{"by hint", "id_token_hint=" + hint + "&post_logout_redirect_uri=" + bye + "&state=a%26b", signedOut + "?state=a%26b", 302},
		{"by both", "client_id=app&id_token_hint=" + hint + "&post_logout_redirect_uri=" + bye, signedOut, 302},
		{"by an expired hint for several", "client_id=app&id_token_hint=" + expired + "&post_logout_redirect_uri=" + bye, signedOut, 302},
		{"without a way back", "client_id=app", "", 200},

		{"way back of nobody", "post_logout_redirect_uri=" + bye, "", 400},
		{"unregistered way back", "client_id=app&post_logout_redirect_uri=https://evil.example/", "", 400},
		{"longer way back", "client_id=app&post_logout_redirect_uri=" + bye + "more", "", 400},
		{"another client's way back", "client_id=other&post_logout_redirect_uri=" + bye, "", 400},
		{"a redirect_uri as way back", "client_id=app&post_logout_redirect_uri=" + url.QueryEscape(callback), "", 400},
		{"unknown client", "client_id=nobody", "", 400},
		{"hint and client disagree", "client_id=other&id_token_hint=" + hint, "", 400},
		{"unsigned hint", "id_token_hint=" + unsigned, "", 400},
		{"hint of another issuer", "id_token_hint=" + foreign, "", 400},
		{"changed hint", "id_token_hint=" + hint[:len(hint)-8] + "AAAAAAAA", "", 400},
		{"there twice", "client_id=app&client_id=app", "", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, method := range []string{"GET", "POST"} {
				h.browser = newBrowser(t)
				h.code()
				a := h.endSession(method, tt.query)
				status := tt.status
				if method == "POST" && status == http.StatusFound {
					status = http.StatusSeeOther
				}
				if a.StatusCode != status || a.Header.Get("Location") != tt.location {
					t.Errorf("%s: status %d, Location %q, want %d, %q", method, a.StatusCode, a.Header.Get("Location"), status, tt.location)
				}
				signedIn := h.outcome(h.get(h.authURL("prompt", "none"))) == "alice"
				if signedIn != (tt.status == 400) {
					t.Errorf("%s: still signed in = %v after status %d", method, signedIn, tt.status)
				}
			}
		})
	}
}

func (h *harness) endSession(method, query string) answer {
	h.Helper()
	if method == "GET" {
		return h.get(h.url + "/end-session?" + query)
	}
	r, err := http.NewRequest(method, h.url+"/end-session", strings.NewReader(query))
	if err != nil {
		h.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return h.do(r)
}

func TestEndSessionKillsTheCookieItself(t *testing.T) {
	h := newHarness(t, nil)
	cookie := h.get(h.authURL("login_hint", "alice")).Cookies()[0]
	a := h.get(h.url + "/end-session")
	if c := a.Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("cookies = %v, want one that expires", c)
	}
	r, _ := http.NewRequest(http.MethodGet, h.authURL("prompt", "none"), nil)
	r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
	if got := h.callbackOf(h.do(r)).Get("error"); got != "login_required" {
		t.Errorf("a copy of the cookie: error = %q, want login_required", got)
	}
}

func TestALogoutTokenIsValid(t *testing.T) {
	h := newHarness(t, nil)
	for _, tt := range []struct{ name, subject, sid string }{
		{"both", "sub", "sid"}, {"subject", "sub", ""}, {"session", "", "sid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := h.idp.IssueLogoutToken("app", tt.subject, tt.sid)
			if err != nil {
				t.Fatal(err)
			}
			v := h.provider.Verifier(&oidc.Config{ClientID: "app", Now: h.clock.Now})
			got, err := v.VerifyLogout(t.Context(), raw)
			if err != nil {
				t.Fatalf("VerifyLogout: %v", err)
			}
			if got.Subject != tt.subject || got.SessionID != tt.sid || got.TokenID == "" || !got.IssuedAt.Equal(h.clock.Now()) {
				t.Errorf("token = %+v, want sub %q, sid %q, a jti and iat now", got, tt.subject, tt.sid)
			}
			if typ := header(t, raw)["typ"]; typ != "logout+jwt" {
				t.Errorf("typ = %v, want logout+jwt", typ)
			}
			h.clock.advance(3 * time.Minute)
			if _, err := v.VerifyLogout(t.Context(), raw); err == nil {
				t.Error("a logout token lives for ever")
			}
		})
	}
}

func TestALogoutTokenNobodyCouldAcceptIsRefused(t *testing.T) {
	h := newHarness(t, nil)
	for _, args := range [][3]string{{"nobody", "sub", "sid"}, {"app", "", ""}} {
		if _, err := h.idp.IssueLogoutToken(args[0], args[1], args[2]); !errors.Is(err, devidp.ErrLogoutToken) {
			t.Errorf("IssueLogoutToken(%q): error = %v, want ErrLogoutToken", args, err)
		}
	}
}

func decode(t *testing.T, part string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// publicPEM returns the published key kid as anybody can write it down.
func publicPEM(t *testing.T, h *harness, kid string) []byte {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(h.get(h.url+"/jwks").body), &set); err != nil {
		t.Fatal(err)
	}
	keys := set.Key(kid)
	if len(keys) != 1 {
		t.Fatalf("%d keys named %q, want 1", len(keys), kid)
	}
	der, err := x509.MarshalPKIXPublicKey(keys[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
