package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"authproxy/config"
	"authproxy/cookie"
	"authproxy/session"
)

// gitHubServer is a GitHub Enterprise Server at which alice is signed in and in
// the organization org.
func gitHubServer(t *testing.T, org string) *httptest.Server {
	t.Helper()
	answers := map[string]any{
		"/login/oauth/access_token": map[string]any{"access_token": "gho_a-token", "token_type": "bearer"},
		"/api/v3/user":              map[string]any{"id": 583231, "login": "alice", "name": "Alice Adams"},
		"/api/v3/user/emails":       []any{map[string]any{"email": "alice@example.com", "primary": true, "verified": true}},
		"/api/v3/user/orgs":         []any{map[string]any{"login": org}},
		"/api/v3/user/teams":        []any{map[string]any{"slug": "sre", "organization": map[string]any{"login": org}}},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/login/oauth/authorize" {
			answer := url.Values{"code": {"a-code"}, "state": {r.FormValue("state")}}
			http.Redirect(w, r, r.FormValue("redirect_uri")+"?"+answer.Encode(), http.StatusFound)
			return
		}
		answer, ok := answers[r.URL.Path]
		if !ok {
			t.Errorf("unexpected request: %s", r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return server
}

func TestSignInWithGitHubThroughTheWholeProgram(t *testing.T) {
	tests := []struct {
		name, org string
		status    int
	}{
		{"in the organization", "acme", http.StatusOK},
		{"in another one", "evil", http.StatusForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			gitHub := gitHubServer(t, tt.org)
			var seen http.Header
			app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() }))
			defer app.Close()
			server := httptest.NewUnstartedServer(nil)
			address := "http://" + server.Listener.Addr().String()
			server.Config.Handler = program(t, fmt.Sprintf("public_url: %s\nupstream: %s\ncookie: {keys: [%q]}\n", address, app.URL, cookie.NewKey())+
				fmt.Sprintf("providers: [{id: hub, type: github, base_url: %q, client_id: x, client_secret: y, orgs: [acme]}]\n", gitHub.URL))
			server.Start()
			defer server.Close()

			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := (&http.Client{Jar: jar}).Get(address + "/auth/sign-in/hub?rd=/page")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != tt.status {
				t.Errorf("the sign-in ends with status %d, want %d", res.StatusCode, tt.status)
			}
			if tt.status != http.StatusOK {
				if seen != nil {
					t.Error("the application was asked")
				}
				return
			}
			for name, want := range map[string]string{
				"X-User-Id": session.UserID(gitHub.URL, "583231"), "X-User-Email": "alice@example.com", "X-User-Name": "Alice Adams", "X-User-Groups": "acme,acme/sre",
			} {
				if got := seen.Get(name); got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
		})
	}
}

// program is the whole program with this configuration, not yet listening.
func program(t *testing.T, file string) http.Handler {
	t.Helper()
	cfg, _, err := config.Load(config.Source{File: "c.yaml", ReadFile: func(string) ([]byte, error) { return []byte(file), nil }})
	if err != nil {
		t.Fatal(err)
	}
	var log safeBuffer // a token may still be revoked in the background
	to := newLog(&log, "debug")
	a, err := build(cfg, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.close()
		to.flush()
		if strings.Contains(log.String(), "gho_a-token") || strings.Contains(log.String(), "a-code") {
			t.Errorf("the log holds a secret: %s", log.String())
		}
	})
	return a.proxy
}
