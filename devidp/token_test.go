package devidp_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/google/go-cmp/cmp"

	"authproxy/devidp"
)

func TestTheWholeFlow(t *testing.T) {
	h := newHarness(t, nil)
	token := h.tokens()
	id, err := h.verify(token)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	if id.Nonce != "the-nonce" || id.Subject != devidp.DemoUsers()[0].Subject {
		t.Errorf("nonce, sub = %q, %q, want the-nonce and alice's", id.Nonce, id.Subject)
	}
	if err := id.VerifyAccessToken(token.AccessToken); err != nil {
		t.Errorf("at_hash: %v", err)
	}
	if token.RefreshToken == "" || token.TokenType != "Bearer" || token.Extra("expires_in") != float64(3600) {
		t.Errorf("token = %q of %v s, refresh token %v, want Bearer, 3600, one", token.TokenType, token.Extra("expires_in"), token.RefreshToken != "")
	}
	claims := h.claims(token)
	now := float64(h.clock.Now().Unix())
	want := map[string]any{
		"iss": h.url, "aud": "app", "sub": id.Subject, "nonce": "the-nonce",
		"iat": now, "exp": now + 3600, "auth_time": now, "amr": []any{"pwd"},
		"sid": claims["sid"], "at_hash": claims["at_hash"],
		"email": "alice@example.com", "email_verified": true,
		"name": "Alice Adams", "preferred_username": "alice", "groups": []any{"admins", "staff"},
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	info, err := h.userinfo(token.AccessToken)
	if err != nil || info.Email != "alice@example.com" || info.Subject != id.Subject {
		t.Errorf("userinfo = %+v, %v, want alice's", info, err)
	}
}

func TestScopeDecidesTheClaims(t *testing.T) {
	h := newHarness(t, nil)
	all := []string{"email", "name", "groups", "id_token", "refresh_token"}
	tests := []struct {
		name, scope string
		want        []string // those of all that are there
	}{
		{"openid alone", "openid", []string{"id_token"}},
		{"email", "openid email", []string{"email", "id_token"}},
		{"profile brings groups", "openid profile", []string{"name", "groups", "id_token"}},
		{"groups alone", "openid groups", []string{"groups", "id_token"}},
		{"offline_access", "openid offline_access", []string{"id_token", "refresh_token"}},
		{"plain OAuth 2.0", "email", []string{"email"}},
		{"nothing", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			token := h.tokens("scope", tt.scope)
			a := h.bearer("/userinfo", token.AccessToken)
			var info map[string]any
			if err := json.Unmarshal([]byte(a.body), &info); err != nil {
				t.Fatal(err)
			}
			info["id_token"], info["refresh_token"] = token.Extra("id_token"), token.Extra("refresh_token")
			var got []string
			for _, name := range all {
				if info[name] != nil {
					got = append(got, name)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("there is %v, want %v", got, tt.want)
			}
			if token.Extra("id_token") != nil {
				claims := h.claims(token)
				if (claims["email"] != nil) != slices.Contains(got, "email") || (claims["groups"] != nil) != slices.Contains(got, "groups") {
					t.Errorf("the ID token and userinfo differ: %v, %v", claims, info)
				}
			}
		})
	}
}

// bearer gets path with an access token.
func (h *harness) bearer(path, accessToken string) answer {
	h.Helper()
	r, err := http.NewRequest(http.MethodGet, h.url+path, nil)
	if err != nil {
		h.Fatal(err)
	}
	if accessToken != "" {
		r.Header.Set("Authorization", "Bearer "+accessToken)
	}
	return h.do(r)
}

func TestClientAuthentication(t *testing.T) {
	h := newHarness(t, nil)
	escaped := url.QueryEscape(testSecret)
	tests := []struct {
		name             string
		user, password   string // HTTP Basic; none when user is empty
		id, secret       string // in the body; absent when empty
		wantCode, wantIn string
	}{
		{"basic", "app", escaped, "", "", "invalid_grant", ""},
		{"basic, client_id in the body too", "app", escaped, "app", "", "invalid_grant", ""},
		{"in the body", "", "", "app", testSecret, "invalid_grant", ""},
		{"public, by id alone", "", "", "public", "", "invalid_grant", ""},
		{"public, basic without a secret", "public", "", "", "", "invalid_grant", ""},

		{"wrong secret", "app", "wrong", "", "", "invalid_client", "Basic"},
		{"longer secret", "app", escaped + "x", "", "", "invalid_client", "Basic"},
		{"no secret", "", "", "app", "", "invalid_client", "Basic"},
		{"another client's secret", "", "", "app", "another", "invalid_client", "Basic"},
		{"secret for a public client", "", "", "public", "x", "invalid_client", "Basic"},
		{"unknown client", "", "", "nobody", "x", "invalid_client", "Basic"},
		{"nobody", "", "", "", "", "invalid_client", "Basic"},
		{"both ways", "app", escaped, "app", testSecret, "invalid_request", ""},
		{"two ids", "app", escaped, "other", "", "invalid_request", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			form := url.Values{"grant_type": {"authorization_code"}, "code": {"unknown"}}
			if tt.id != "" {
				form.Set("client_id", tt.id)
			}
			if tt.secret != "" {
				form.Set("client_secret", tt.secret)
			}
			r, _ := http.NewRequest(http.MethodPost, h.url+"/token", strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if tt.user != "" {
				r.SetBasicAuth(tt.user, tt.password)
			}
			a := h.do(r)
			if !strings.Contains(a.body, `"error":"`+tt.wantCode+`"`) || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), tt.wantIn) {
				t.Errorf("body = %s, WWW-Authenticate = %q, want %s, %q", a.body, a.Header.Get("WWW-Authenticate"), tt.wantCode, tt.wantIn)
			}
			if unauthorized := a.StatusCode == http.StatusUnauthorized; unauthorized != (tt.wantCode == "invalid_client") {
				t.Errorf("status = %d for %s", a.StatusCode, tt.wantCode)
			}
			if a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control = %q, want no-store", a.Header.Get("Cache-Control"))
			}
		})
	}
}

func TestTokenRequestsThatMakeNoSense(t *testing.T) {
	h := newHarness(t, nil)
	tests := []struct {
		name, path, body, want string
	}{
		{"no grant type", "/token", "", "invalid_request"},
		{"password grant", "/token", "grant_type=password&username=alice", "unsupported_grant_type"},
		{"client credentials", "/token", "grant_type=client_credentials", "unsupported_grant_type"},
		{"a parameter there twice", "/token", "grant_type=refresh_token&grant_type=refresh_token", "invalid_request"},
		{"parameters in the URL", "/token?grant_type=refresh_token", "", "invalid_request"},
		{"a body without end", "/token", "grant_type=password&x=" + strings.Repeat("x", 100_000), "invalid_request"},
		{"nothing to revoke", "/revoke", "", "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := http.NewRequest(http.MethodPost, h.url+tt.path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.SetBasicAuth("app", url.QueryEscape(testSecret))
			if a := h.do(r); a.StatusCode != http.StatusBadRequest || !strings.Contains(a.body, `"error":"`+tt.want+`"`) {
				t.Errorf("status %d, body %s, want 400, %s", a.StatusCode, a.body, tt.want)
			}
		})
	}
}

func TestACodeIsBound(t *testing.T) {
	h := newHarness(t, nil)
	right := func(code string) url.Values {
		return url.Values{
			"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback},
			"code_verifier": {h.verifier}, "client_id": {"app"}, "client_secret": {testSecret},
		}
	}
	tests := []struct {
		name string
		edit func(url.Values)
	}{
		{"no verifier", func(f url.Values) { f.Del("code_verifier") }},
		{"another verifier", func(f url.Values) { f.Set("code_verifier", oauth2.GenerateVerifier()) }},
		{"the challenge as verifier", func(f url.Values) { f.Set("code_verifier", oauth2.S256ChallengeFromVerifier(h.verifier)) }},
		{"no redirect_uri", func(f url.Values) { f.Del("redirect_uri") }},
		{"another redirect_uri", func(f url.Values) { f.Set("redirect_uri", callback+"?fixed=1") }},
		{"another client", func(f url.Values) { f.Set("client_id", "other"); f.Set("client_secret", "another") }},
		{"another code", func(f url.Values) { f.Set("code", "guessed") }},
		{"no code", func(f url.Values) { f.Del("code") }},
		{"too late", func(f url.Values) { h.clock.advance(time.Minute) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			form := right(h.code())
			tt.edit(form)
			if a := h.post("/token", form); a.StatusCode != http.StatusBadRequest || !strings.Contains(a.body, "invalid_grant") {
				t.Errorf("status %d, body %s, want 400, invalid_grant", a.StatusCode, a.body)
			}
		})
	}

	t.Run("a wrong guess does not spoil it", func(t *testing.T) {
		code := h.code()
		h.post("/token", with(right(code), "code_verifier", oauth2.GenerateVerifier()))
		if a := h.post("/token", right(code)); a.StatusCode != http.StatusOK {
			t.Errorf("status %d, body %s, want 200", a.StatusCode, a.body)
		}
	})
	t.Run("good until the last second", func(t *testing.T) {
		code := h.code()
		h.clock.advance(time.Minute - time.Second)
		if a := h.post("/token", right(code)); a.StatusCode != http.StatusOK {
			t.Errorf("status %d, body %s, want 200", a.StatusCode, a.body)
		}
	})
}

func TestAShortVerifierIsRefused(t *testing.T) {
	h := newHarness(t, nil)
	h.verifier = "short"
	if _, err := h.exchange(h.code()); errorCode(err) != "invalid_grant" {
		t.Errorf("a verifier of 5 characters: error = %v, want invalid_grant (RFC 7636 section 4.1)", err)
	}
}

func TestASecondUseOfACodeRevokesTheFirst(t *testing.T) {
	h := newHarness(t, nil)
	code := h.code()
	token, err := h.exchange(code)
	if err != nil {
		t.Fatal(err)
	}

	stolen := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_id": {"other"}, "client_secret": {"another"}}
	h.post("/token", stolen)
	if _, err := h.userinfo(token.AccessToken); err != nil {
		t.Errorf("another client's try ended the session: %v", err)
	}

	h.clock.advance(2 * time.Minute) // a replay is noticed after the code's own end too
	if _, err := h.exchange(code); errorCode(err) != "invalid_grant" {
		t.Errorf("second use: error = %v, want invalid_grant", err)
	}
	if _, err := h.userinfo(token.AccessToken); err == nil {
		t.Error("the access token of the first use still works")
	}
	if _, code := h.refresh(token.RefreshToken); code != "invalid_grant" {
		t.Errorf("the refresh token of the first use: error = %q, want invalid_grant", code)
	}
}

func TestACodeUsedByManyAtOnceWorksOnce(t *testing.T) {
	h := newHarness(t, nil)
	code := h.code()
	var wg sync.WaitGroup
	results := make(chan error, 10)
	for range cap(results) {
		wg.Go(func() {
			_, err := h.exchange(code)
			results <- err
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("the code worked %d times, want 1", won)
	}
}

func TestRefreshRotates(t *testing.T) {
	h := newHarness(t, nil)
	first := h.tokens()
	h.clock.advance(30 * time.Minute)
	second, err := h.oauth.TokenSource(t.Context(), &oauth2.Token{RefreshToken: first.RefreshToken}).Token()
	if err != nil {
		t.Fatalf("refresh: %v", err)
	}
	if second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
		t.Error("the tokens are the same after a refresh")
	}
	before, after := h.claims(first), h.claims(second)
	if after["auth_time"] != before["auth_time"] || after["sid"] != before["sid"] || after["sub"] != before["sub"] {
		t.Errorf("after the refresh: %v, want auth_time, sid and sub of %v", after, before)
	}
	if _, ok := after["nonce"]; ok {
		t.Error("the refreshed ID token has a nonce (OpenID Connect Core section 12.2)")
	}
	if _, err := h.userinfo(first.AccessToken); err != nil {
		t.Errorf("the first access token died before its time: %v", err)
	}
}

func TestReuseOfARefreshTokenKillsTheFamily(t *testing.T) {
	h := newHarness(t, nil)
	token, other := h.tokens(), h.tokens()
	second, code := h.refresh(token.RefreshToken)
	if code != "" {
		t.Fatalf("first use: %s", code)
	}
	if _, code := h.refresh(token.RefreshToken); code != "invalid_grant" {
		t.Errorf("second use: error = %q, want invalid_grant", code)
	}
	if _, code := h.refresh(second); code != "invalid_grant" {
		t.Errorf("its successor: error = %q, want invalid_grant", code)
	}
	if _, err := h.userinfo(token.AccessToken); err == nil {
		t.Error("the family's access token still works")
	}
	if _, code := h.refresh(other.RefreshToken); code != "" {
		t.Errorf("another sign-in's refresh token: error = %q, want none", code)
	}
}

func TestRefreshIsBound(t *testing.T) {
	h := newHarness(t, nil)
	token := h.tokens("scope", "openid email offline_access")
	form := func(params ...string) url.Values {
		f := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {token.RefreshToken},
			"client_id": {"app"}, "client_secret": {testSecret},
		}
		for i := 0; i < len(params); i += 2 {
			f.Set(params[i], params[i+1])
		}
		return f
	}
	tests := []struct {
		name string
		form url.Values
		want string
	}{
		{"another client", form("client_id", "other", "client_secret", "another"), `"error":"invalid_grant"`},
		{"an access token", form("refresh_token", token.AccessToken), `"error":"invalid_grant"`},
		{"nothing", form("refresh_token", ""), `"error":"invalid_grant"`},
		{"more than was granted", form("scope", "openid profile"), `"error":"invalid_scope"`},
		{"less than was granted", form("scope", "openid"), `"scope":"openid"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if a := h.post("/token", tt.form); !strings.Contains(a.body, tt.want) {
				t.Errorf("body = %s, want %s", a.body, tt.want)
			}
		})
	}
}

func TestARefreshTokenEndsAfterThirtyDays(t *testing.T) {
	h := newHarness(t, nil)
	token := h.tokens()
	h.clock.advance(30 * 24 * time.Hour)
	if _, code := h.refresh(token.RefreshToken); code != "invalid_grant" {
		t.Errorf("error = %q, want invalid_grant", code)
	}
}

func TestUserinfoWantsALiveToken(t *testing.T) {
	h := newHarness(t, func(c *devidp.Config) { c.AccessTokenTTL = 10 * time.Second })
	token := h.tokens()
	if got := token.Extra("expires_in"); got != float64(10) {
		t.Errorf("expires_in = %v, want 10", got)
	}
	h.clock.advance(9 * time.Second)
	if a := h.bearer("/userinfo", token.AccessToken); a.StatusCode != http.StatusOK {
		t.Errorf("a second before its end: status = %d, want 200", a.StatusCode)
	}
	r, _ := http.NewRequest(http.MethodGet, h.url+"/userinfo", nil)
	r.Header.Set("Authorization", "Basic "+token.AccessToken)
	if a := h.do(r); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a live token under another scheme: status = %d, want 401", a.StatusCode)
	}
	h.clock.advance(time.Second)
	for name, value := range map[string]string{
		"at its end": token.AccessToken, "no token": "", "refresh token": token.RefreshToken, "unknown": "x",
	} {
		a := h.bearer("/userinfo", value)
		if a.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: status %d, WWW-Authenticate %q, want 401 and Bearer", name, a.StatusCode, a.Header.Get("WWW-Authenticate"))
		}
	}
}

func TestRevoke(t *testing.T) {
	app := []string{"app", testSecret}
	tests := []struct {
		name            string
		client          []string
		token           func(*oauth2.Token) string
		status          int
		access, refresh bool // what still works
	}{
		{"refresh token", app, func(t *oauth2.Token) string { return t.RefreshToken }, http.StatusOK, false, false},
		{"access token", app, func(t *oauth2.Token) string { return t.AccessToken }, http.StatusOK, false, true},
		{"no token of ours", app, func(*oauth2.Token) string { return "x" }, http.StatusOK, true, true},
		{"another client's refresh token", []string{"other", "another"}, func(t *oauth2.Token) string { return t.RefreshToken }, http.StatusBadRequest, true, true},
		{"another client's access token", []string{"other", "another"}, func(t *oauth2.Token) string { return t.AccessToken }, http.StatusBadRequest, true, true},
		{"wrong secret", []string{"app", "wrong"}, func(t *oauth2.Token) string { return t.RefreshToken }, http.StatusUnauthorized, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, nil)
			token := h.tokens()
			a := h.post("/revoke", url.Values{"token": {tt.token(token)}, "client_id": tt.client[:1], "client_secret": tt.client[1:]})
			if a.StatusCode != tt.status {
				t.Errorf("status = %d, want %d", a.StatusCode, tt.status)
			}
			_, err := h.userinfo(token.AccessToken)
			_, code := h.refresh(token.RefreshToken)
			if (err == nil) != tt.access || (code == "") != tt.refresh {
				t.Errorf("afterwards: userinfo %v, refresh %q, want to work: %v, %v", err, code, tt.access, tt.refresh)
			}
		})
	}
}

func TestRevokeUser(t *testing.T) {
	h := newHarness(t, nil)
	alice, bob := h.tokens(), h.tokens("login_hint", "bob")
	pending := h.code()
	h.idp.RevokeUser("alice")

	if _, code := h.refresh(alice.RefreshToken); code != "invalid_grant" {
		t.Errorf("alice's refresh: error = %q, want invalid_grant", code)
	}
	if _, err := h.userinfo(alice.AccessToken); err == nil {
		t.Error("alice's access token still works")
	}
	if _, err := h.exchange(pending); errorCode(err) != "invalid_grant" {
		t.Errorf("alice's pending code: error = %v, want invalid_grant", err)
	}
	if _, code := h.refresh(bob.RefreshToken); code != "" {
		t.Errorf("bob's refresh: error = %q, want none", code)
	}
	if _, code := h.refresh(h.tokens().RefreshToken); code != "" {
		t.Errorf("alice's refresh after she signed in again: error = %q, want none", code)
	}
}
