package proxy

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"authproxy/identity"
	"authproxy/policy"
	"authproxy/session"
)

// compat are the settings of a world that also answers as oauth2-proxy.
func compat(convention string, rules []policy.Rule) setup {
	s := loopbackTrusted(rules)
	s.proxy = func(c *Config) { c.OAuth2Proxy, c.Convention = true, convention }
	s.identity = func(c *identity.Config) {
		for name, source := range OAuth2ProxyHeaders() {
			c.Headers[name] = source
		}
	}
	return s
}

// TestOAuth2ProxysEndpointDecides with what its ingresses send: nginx, by its
// documentation, nothing that is read here; ingress-nginx and Traefik one family
// each. It knows 200, 401 and 403.
func TestOAuth2ProxysEndpointDecides(t *testing.T) {
	nginx := func(target string) http.Header {
		return http.Header{"X-Real-Ip": {"198.51.100.7"}, "X-Forwarded-Uri": {target}, "X-Auth-Request-Redirect": {target}}
	}
	ingressNginx := func(target string) http.Header {
		return http.Header{"X-Original-Url": {"https://" + ourHost + target}, "X-Original-Method": {"GET"}, "X-Sent-From": {"nginx-ingress-controller"}, "X-Auth-Request-Redirect": {target}}
	}
	traefik := func(target string) http.Header {
		return http.Header{"X-Forwarded-Method": {"GET"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {ourHost}, "X-Forwarded-Uri": {target}, "X-Forwarded-For": {"198.51.100.7"}}
	}
	signedIn := []policy.Rule{{Name: "all", Require: &policy.Require{SignedIn: true}}}
	tests := []struct {
		name, convention string
		rules            []policy.Rule
		header           http.Header
		who, query       string
		want             int
	}{
		{"nginx, nobody", "", signedIn, nginx("/a"), "", "", 401},
		{"nginx, somebody", "", signedIn, nginx("/a"), "bob", "", 200},
		{"nginx, a group", "", signedIn, nginx("/a"), "alice", "?allowed_groups=ops", 200},
		{"nginx, without the group", "", signedIn, nginx("/a"), "bob", "?allowed_groups=ops", 403},
		{"nginx, the client's headers say nothing", "", signedIn, ingressNginx("/public/x"), "", "", 401},
		{"ingress-nginx, nobody", "nginx", adminsBelowAdmin(), ingressNginx("/a"), "", "", 401},
		{"ingress-nginx, a public page", "nginx", adminsBelowAdmin(), ingressNginx("/public/x"), "", "", 200},
		{"ingress-nginx, without the role", "nginx", adminsBelowAdmin(), ingressNginx("/admin/x"), "bob", "", 403},
		{"ingress-nginx, with the role", "nginx", adminsBelowAdmin(), ingressNginx("/admin/x"), "alice", "", 200},
		{"ingress-nginx, the other family", "nginx", adminsBelowAdmin(), traefik("/public/x"), "alice", "", 403},
		{"Traefik, nobody", "forward", adminsBelowAdmin(), traefik("/a"), "", "", 401},
		{"Traefik, a public page", "forward", adminsBelowAdmin(), traefik("/public/x"), "", "", 200},
		{"Traefik, without the role", "forward", adminsBelowAdmin(), traefik("/admin/x"), "bob", "", 403},
		{"Traefik, the other family", "forward", adminsBelowAdmin(), ingressNginx("/public/x"), "alice", "", 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, compat(tt.convention, tt.rules))
			cookies := map[string]string{"": "", "alice": w.signIn(alice()), "bob": w.signIn(bob())}[tt.who]
			h := with(with(tt.header, "Accept", "text/html"), "Cookie", cookies)
			got := w.do(ask{target: "/oauth2/auth" + tt.query, header: h})
			if got.StatusCode != tt.want || got.Header.Get("Location") != "" {
				t.Fatalf("status = %d to %q, want %d; the answer was %s", got.StatusCode, got.Header.Get("Location"), tt.want, got.body)
			}
			if tt.want != 200 {
				return
			}
			email := map[string]string{"": "", "alice": "alice@example.com", "bob": "bob@example.com"}[tt.who]
			for _, name := range []string{"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Groups", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Access-Token"} {
				if len(got.Header[name]) != 1 {
					t.Errorf("%s = %q, want one value, also if it is empty", name, got.Header[name])
				}
			}
			if got.Header.Get("X-Auth-Request-Email") != email || got.Header.Get("X-Auth-Request-Access-Token") != "" {
				t.Errorf("X-Auth-Request-Email = %q, want %q, and no token of the provider's", got.Header.Get("X-Auth-Request-Email"), email)
			}
		})
	}
}

// TestOAuth2ProxysTokenIsTheProviders, where the application is to get that.
func TestOAuth2ProxysTokenIsTheProviders(t *testing.T) {
	s := compat("", nil)
	s.proxy = func(c *Config) { c.OAuth2Proxy, c.Strip = true, nil }
	s.identity = func(c *identity.Config) { c.Authorization = identity.AuthorizationAccessToken }
	w := newWorld(t, s)
	cookies := w.start(&session.Session{User: bob(), Tokens: session.Tokens{Access: "opaque", AccessExpiry: w.clock.Now().Add(time.Hour)}})
	got := w.do(ask{target: "/oauth2/auth", header: http.Header{"Cookie": {cookies}, "X-Auth-Request-Access-Token": {"forged"}}})
	if got.StatusCode != 200 || got.Header.Get("X-Auth-Request-Access-Token") != "opaque" || got.Header.Get("Authorization") != "Bearer opaque" {
		t.Errorf("status %d with %q and %q, want 200 with the token in both", got.StatusCode, got.Header.Get("X-Auth-Request-Access-Token"), got.Header.Get("Authorization"))
	}
	for _, spelling := range []string{"X_Auth_Request_Access_Token", "x_auth_request_access_token"} {
		seen := w.pass(ask{header: http.Header{"Cookie": {cookies}, spelling: {"forged"}}})
		for name, values := range seen.Header {
			if slices.Contains(values, "forged") {
				t.Errorf("the application got %s: forged", name)
			}
		}
	}
}

// TestOAuth2ProxysPathsAreOursOnlyIfAskedFor.
func TestOAuth2ProxysPathsAreOursOnlyIfAskedFor(t *testing.T) {
	with, without := newWorld(t, compat("", nil)), newWorld(t, setup{rules: anyone()})
	for _, target := range []string{"/oauth2/start", "/oauth2/x", "/oauth2", "/ping", "/ready", "/x/../oauth2/auth", "/%6fauth2/auth"} {
		if got := with.do(ask{target: target}); got.body != "own" {
			t.Errorf("%s with the setting: %d %s, want it to be ours", target, got.StatusCode, got.body)
		}
	}
	for _, target := range []string{"/oauth2/start", "/oauth2/auth", "/ping", "/ready"} {
		if got := without.pass(ask{target: target}); got.Target != target {
			t.Errorf("%s without the setting reached the application as %s", target, got.Target)
		}
	}
	for _, target := range []string{"/oauth2x", "/pings", "/ready/x"} {
		if got := with.do(ask{target: target, header: browser("")}); got.StatusCode != 302 || strings.Contains(got.body, "own") {
			t.Errorf("%s: status %d, want the application's sign-in", target, got.StatusCode)
		}
	}
}

// TestRulesThatCannotBeAppliedAreAMistake: without a convention, /oauth2/auth does
// not learn what they are about.
func TestRulesThatCannotBeAppliedAreAMistake(t *testing.T) {
	when := func(expression string) []policy.Rule {
		return []policy.Rule{{Require: &policy.Require{Any: []policy.Require{{When: expression}}}}}
	}
	for name, rules := range map[string][]policy.Rule{
		"paths": adminsBelowAdmin(), "a condition about the path": when(`request.path == "/a"`), "about the host": when(`request.host == "a.test"`),
		"about the method": when(`request.method == "GET"`), "preflights": {{Require: &policy.Require{SignedIn: true}, Preflight: "pass"}},
	} {
		c := newWorld(t, setup{rules: rules}).proxy.Config
		c.Registerer, c.OAuth2Proxy = nil, true
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "no convention") {
			t.Errorf("%s: New: error = %v, want one about the convention", name, err)
		}
	}
	newWorld(t, compat("", when(`user.name != ""`)))
}
