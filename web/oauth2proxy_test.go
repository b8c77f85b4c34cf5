package web_test

import (
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestOAuth2ProxysEndpointsSignInAndOut, wherever our own are.
func TestOAuth2ProxysEndpointsSignInAndOut(t *testing.T) {
	for _, prefix := range []string{"/auth", "/oauth2"} {
		t.Run("prefix "+prefix, func(t *testing.T) {
			s := newSite(t, func(s *settings) { s.oauth2Proxy, s.prefix = true, prefix })
			b := s.newBrowser(t)
			chooser := b.get("/oauth2/sign_in?rd=%2Freports%3Fa%3D1%26b")
			start := origin + "/oauth2/start?" + url.Values{"rd": {"/reports?a=1&b"}}.Encode()
			b.isPage(chooser, 200, "Provider one")
			if !strings.Contains(chooser.body, html.EscapeString(start)) {
				t.Fatalf("the page has no link to %s: %s", start, chooser.body)
			}
			begun := b.get(start + "&login_hint=alice")
			if got := begun.query("redirect_uri"); got != origin+"/oauth2/callback" {
				t.Errorf("redirect_uri = %q, want the one of oauth2-proxy", got)
			}
			b.goesTo(b.get(b.authorize(begun).location()), "/reports?a=1&b")
			_, who := b.api("GET", "/oauth2/userinfo", "")
			if got := dig(who, "email"); got != "alice@example.com" {
				t.Errorf("userinfo says %v, want alice@example.com", who)
			}
			b.goesTo(b.get("/oauth2/start?rd=/a"), "/a") // who is signed in goes on

			asked := b.get("/oauth2/sign_out?rd=/bye", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
			b.isPage(asked, 200, "/bye")
			b.isPage(b.get("/oauth2/sign_out?rd=/bye"), 200, "/bye")
			image := b.get("/oauth2/sign_out", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image")
			prefetch := b.get("/oauth2/sign_out", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Purpose", "prefetch")
			if _, who := b.api("GET", "/oauth2/userinfo", ""); dig(who, "email") == nil {
				t.Fatalf("another site, an old browser, an image (%d) or a prefetch (%d) has signed out", image.StatusCode, prefetch.StatusCode)
			}
			left := b.get("/oauth2/sign_out?rd=/bye", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
			if _, who := b.api("GET", "/oauth2/userinfo", ""); left.StatusCode != 303 || left.location() != "/bye" || dig(who, "email") != nil {
				t.Errorf("a link of our own answers %d to %q and leaves %v, want 303 to /bye and nobody", left.StatusCode, left.location(), who)
			}
		})
	}
}

// TestOAuth2ProxysSignInFillsInForAnError: an ingress shows its page instead of a
// 401, and says in a header where the browser was.
func TestOAuth2ProxysSignInFillsInForAnError(t *testing.T) {
	b := newSite(t, func(s *settings) { s.oauth2Proxy = true }).newBrowser(t)
	link := func(rd string) string {
		return html.EscapeString(origin + "/oauth2/start?" + url.Values{"rd": {rd}}.Encode())
	}
	for _, tt := range []struct{ redirect, want string }{
		{"/a?b=c&d", "/a?b=c&d"}, {origin + "/a", origin + "/a"}, {"https://evil.example/", "/"}, {"//evil.example", "/"},
		{"/oauth2/start?rd=/a", "/"}, {"/oauth2/sign_in", "/"},
	} {
		if got := b.get("/oauth2/sign_in", "X-Auth-Request-Redirect", tt.redirect); got.StatusCode != 200 || !strings.Contains(got.body, link(tt.want)) {
			t.Errorf("from %s: status %d, want a page with a link that leads back to %s: %s", tt.redirect, got.StatusCode, tt.want, got.body)
		}
	}
	if got := b.get("/oauth2/sign_in?rd=/a", "Accept", "*/*", "Sec-Fetch-Mode", "cors"); got.StatusCode != http.StatusUnauthorized || !strings.Contains(got.body, `"sign_in"`) {
		t.Errorf("a script gets %d, want 401 with the address: %s", got.StatusCode, got.body)
	}
}

// TestTheStateSaysWhoseTheAnswerIs, where one callback is for all providers.
func TestTheStateSaysWhoseTheAnswerIs(t *testing.T) {
	b := newSite(t, func(s *settings) { s.oauth2Proxy, s.providers = true, []string{"one", "two"} }).newBrowser(t)
	b.isPage(b.get("/oauth2/start?rd=/a"), 200, "Provider one", "Provider two")
	back := b.beginAt("two", url.Values{"login_hint": {"bob"}, "rd": {"/a"}})
	answer, err := url.Parse(back.location())
	if err != nil {
		t.Fatal(err)
	}
	b.goesTo(b.get("/oauth2/callback?"+answer.RawQuery), "/a")
	if got := b.user(); got != "bob@example.com" {
		t.Errorf("signed in as %q, want bob@example.com", got)
	}
	if got := b.get("/oauth2/callback?code=c&state=forged"); got.StatusCode != 400 {
		t.Errorf("a state that is not ours answers %d, want 400", got.StatusCode)
	}
}

// TestOAuth2ProxysHealth.
func TestOAuth2ProxysHealth(t *testing.T) {
	b := newSite(t, func(s *settings) { s.oauth2Proxy = true }).newBrowser(t)
	for _, target := range []string{"/ping", "/ready"} {
		if got := b.get(target); got.StatusCode != 200 || got.body != "OK" {
			t.Errorf("%s answers %d %q, want 200 OK", target, got.StatusCode, got.body)
		}
	}
	if got := b.get("/oauth2/nothing"); got.StatusCode != 404 {
		t.Errorf("a path that is none answers %d, want 404", got.StatusCode)
	}
}
