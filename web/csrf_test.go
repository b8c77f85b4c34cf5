package web_test

import (
	"net/http"
	"testing"
)

// TestCrossSiteRequestsChangeNothing sends each row to everything that changes
// state by a cookie, with a live session, and looks whether it acted.
func TestCrossSiteRequestsChangeNothing(t *testing.T) {
	s := newSite(t, func(s *settings) { s.hosts = []string{host, "*.apps.example.com", "other.example.com:8443"} })
	const form, plain, multipart, script = "application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "application/json"
	tests := []struct {
		name                            string
		site, origin, content, asScript string
		allowed                         bool
	}{
		{"same-origin form", "same-origin", origin, form, "", true},
		{"same-origin script", "same-origin", origin, script, "", true},
		{"same-origin without Origin", "same-origin", "", form, "", true},
		{"typed in by the user", "none", "", "", "", true},
		{"cross-site form", "cross-site", "https://evil.example", form, "", false},
		{"cross-site plain text", "cross-site", "https://evil.example", plain, "", false},
		{"cross-site multipart", "cross-site", "https://evil.example", multipart, "", false},
		{"cross-site JSON after a preflight", "cross-site", "https://evil.example", script, "", false},
		{"cross-site with X-Requested-With", "cross-site", "https://evil.example", form, "XMLHttpRequest", false},
		{"cross-site without Origin", "cross-site", "", form, "", false},
		{"cross-site JSON without Origin", "cross-site", "", script, "XMLHttpRequest", false},
		{"cross-site, sandboxed", "cross-site", "null", form, "", false},
		{"same-site, a stranger's host", "same-site", "https://evil.example.com", form, "", false},
		{"same-site without Origin", "same-site", "", script, "XMLHttpRequest", false},
		{"same-site, a host of ours", "same-site", "https://one.apps.example.com", form, "", true},
		{"same-site, our host over http", "same-site", "http://app.example.com", form, "", false},
		{"a made-up site", "same-origin, cross-site", "", script, "", false},
		{"a site in capitals", "SAME-ORIGIN", "", script, "", false},

		{"old browser, our Origin", "", origin, form, "", true},
		{"old browser, our Origin with another port", "", "https://app.example.com:8443", form, "", true}, // ports do not count unless listed
		{"old browser, listed port", "", "https://other.example.com:8443", form, "", true},
		{"old browser, port that is not listed", "", "https://other.example.com", form, "", false},
		{"old browser, a host of ours", "", "https://two.apps.example.com", form, "", true},
		{"old browser, two labels", "", "https://a.two.apps.example.com", form, "", false},
		{"old browser, foreign Origin", "", "https://evil.example", form, "", false},
		{"old browser, foreign Origin with JSON", "", "https://evil.example", script, "XMLHttpRequest", false},
		{"old browser, null", "", "null", form, "", false},
		{"old browser, null with JSON", "", "null", script, "XMLHttpRequest", false},
		{"old browser, http", "", "http://app.example.com", form, "", false},
		{"old browser, our host as a prefix", "", "https://app.example.com.evil.example", form, "", false},
		{"old browser, our host as a suffix", "", "https://evilapp.example.com", form, "", false},
		{"old browser, our host as a user", "", "https://app.example.com@evil.example", form, "", false},
		{"old browser, our host with a path", "", "https://app.example.com/", form, "", false},
		{"old browser, no URL", "", "app.example.com", form, "", false},
		{"old browser, an empty host", "", "https://", form, "", false},
		{"old browser, two origins", "", origin + " https://evil.example", form, "", false},

		{"neither header, a form", "", "", form, "", false},
		{"neither header, plain text", "", "", plain, "", false},
		{"neither header, multipart", "", "", multipart, "", false},
		{"neither header, no type", "", "", "", "", false},
		{"neither header, JSON in a parameter", "", "", "text/plain; application/json", "", false},
		{"neither header, another JSON type", "", "", "application/jsonp", "", false},
		{"neither header, JSON", "", "", script, "", true},
		{"neither header, JSON with a charset", "", "", "Application/JSON; charset=utf-8", "", true},
		{"neither header, X-Requested-With", "", "", form, "XMLHttpRequest", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header := []string{"Accept", "application/json"}
			for name, value := range map[string]string{"Sec-Fetch-Site": tt.site, "Origin": tt.origin, "Content-Type": tt.content, "X-Requested-With": tt.asScript} {
				if value != "" {
					header = append(header, name, value)
				}
			}
			s.checkChanges(t, tt.allowed, header)
		})
	}
	t.Run("Sec-Fetch-Site twice", func(t *testing.T) {
		s.checkChanges(t, false, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site", "Content-Type", script})
	})
	t.Run("Origin twice", func(t *testing.T) {
		s.checkChanges(t, false, []string{"Origin", origin, "Origin", "https://evil.example", "Content-Type", script})
	})
}

// checkChanges sends header to each thing that changes state and checks whether
// it did.
func (s *site) checkChanges(t *testing.T, allowed bool, header []string) {
	t.Helper()
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	id, expires := b.sessionID(), b.expires()
	s.clock.advance(1e9)

	refused := func(method, target string, a answer, acted bool) {
		t.Helper()
		if acted != allowed || (a.StatusCode == http.StatusForbidden) == allowed {
			t.Errorf("%s %s = %d and acted: %v; want it to act: %v", method, target, a.StatusCode, acted, allowed)
		}
	}
	a := b.send("POST", "/auth/session", "", header...)
	refused("POST", "/session", a, b.expires() != expires)

	a = b.send("DELETE", "/auth/sessions/"+id, "", header...)
	refused("DELETE", "/sessions/id", a, b.user() == "")

	b.mustSignIn("alice")
	a = b.send("POST", "/auth/sign-out", "", header...)
	refused("POST", "/sign-out", a, b.user() == "")

	// What answers without acting here must be refused just the same.
	a = b.send("DELETE", "/auth/sessions?scope=all", "", header...)
	refused("DELETE", "/sessions", a, a.StatusCode != http.StatusForbidden)
	a = b.send("POST", "/auth/account", "", header...)
	refused("POST", "/account", a, a.StatusCode != http.StatusForbidden)
	a = b.send("POST", "/auth/sign-in/social", `{"provider":"one"}`, header...)
	refused("POST", "/sign-in/social", a, a.StatusCode == http.StatusOK)
}

// expires returns when the session ends, as GET /session says.
func (b *browser) expires() string {
	b.Helper()
	_, v := b.api(http.MethodGet, "/auth/session", "")
	end, _ := dig(v, "expires").(string)
	return end
}

func TestReadingNeedsNoProof(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	for _, target := range []string{"/auth/session", "/auth/sessions", "/auth/userinfo", "/auth/token", "/auth/providers", "/auth/sign-out"} {
		a := b.get(target, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
		if a.StatusCode != http.StatusOK {
			t.Errorf("GET %s = %d, want 200", target, a.StatusCode)
		}
		// Without this header no script of another site can read the answer.
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("GET %s allows the origin %q, want none", target, got)
		}
	}
	if b.user() == "" {
		t.Error("reading ended the session")
	}
}

func TestPreflightsAreNotAnswered(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for _, target := range []string{"/auth/session", "/auth/sign-out", "/auth/sessions", "/auth/sign-in/social"} {
		a := b.send("OPTIONS", target, "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
		if a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("OPTIONS %s = %d, allows origin %q; want 405 and none", target, a.StatusCode, a.Header.Get("Access-Control-Allow-Origin"))
		}
	}
}
