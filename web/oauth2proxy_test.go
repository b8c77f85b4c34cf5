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

// TestAnUnencodedReturnURLIsTakenWhole: nginx puts an address into another one as it
// is, in the configuration that oauth2-proxy documents.
func TestAnUnencodedReturnURLIsTakenWhole(t *testing.T) {
	s := newHosts(t, func(s *settings) { s.oauth2Proxy = true })
	tests := []struct{ name, query, want string }{
		{"a query", "rd=/app?a=1&b=2", "/app?a=1&b=2"},
		{"an encoded path", "rd=/app/a%20b/%2525", "/app/a%20b/%2525"},
		{"a plus sign", "rd=/app?q=a+b", "/app?q=a+b"},
		{"an absolute URL", "rd=" + origin + "/app?a=1&b=2&rd=/x;y", origin + "/app?a=1&b=2&rd=/x;y"},
		{"a URL of another host", "rd=" + portal + "/app?a=1&b=%26", portal + "/app?a=1&b=%26"},
		{"a path with an ampersand", "rd=/R&D/plan?a=1&b", "/R&D/plan?a=1&b"},
		{"a backslash", `rd=/app?re=\d&b=2`, "/app?re=%5Cd&b=2"},
		{"a parameter before it", "x=/y?rd=/z&rd=/app?a=1&b=2", "/app?a=1&b=2"},
		{"what looks like a wish for the provider", "rd=/app?a=1&prompt=login", "/app?a=1&prompt=login"},

		{"encoded", "rd=%2Fapp%3Fa%3D1%26b%3D2&x=y", "/app?a=1&b=2"},
		{"encoded but for the slashes", "rd=https://" + host + "/app%3Fa%3D1%26b%3D2", origin + "/app?a=1&b=2"},
		{"followed by a parameter", "rd=/app&x=y", "/app"},
		{"a stranger's", "rd=https://evil.example/?a=1&b=2", "/"},
		{"a stranger's host without its scheme", "rd=//evil.example/?a=1", "/"},
		{"a circle", "rd=/oauth2/start?rd=/a", "/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := s.newBrowser(t)
			b.mustSignIn("alice")
			want := strings.TrimPrefix(tt.want, origin)
			at, _ := b.follow(origin+"/oauth2/start?"+tt.query, never)
			if got := strings.TrimPrefix(at, origin); got != want {
				t.Errorf("sign-in ends at %s, want %s", got, want)
			}
			chooser := b.get(origin + "/oauth2/sign_in?" + tt.query)
			if link := html.EscapeString(origin + "/oauth2/start?" + url.Values{"rd": {tt.want}}.Encode()); !strings.Contains(chooser.body, link) {
				t.Errorf("the page has no link to %s: %s", link, chooser.body)
			}
		})
	}
}

// TestOAuth2ProxysSignInKnowsItsHost: the page's link leads to public_url's host, and
// the ingress says a path.
func TestOAuth2ProxysSignInKnowsItsHost(t *testing.T) {
	b := newHosts(t, func(s *settings) { s.oauth2Proxy = true }).newBrowser(t)
	link := origin + "/oauth2/start?" + url.Values{"rd": {portal + "/a?b=c&d"}}.Encode()
	if got := b.get(portal+"/oauth2/sign_in", "X-Auth-Request-Redirect", "/a?b=c&d"); !strings.Contains(got.body, html.EscapeString(link)) {
		t.Errorf("the page has no link to %s: %s", link, got.body)
	}
	b.mustSignIn("alice")
	if at, _ := b.follow(link, never); at != portal+"/a?b=c&d" || b.userAt(portal) != "alice@example.com" {
		t.Errorf("the link ends at %s, where %q is signed in, want alice at the page", at, b.userAt(portal))
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
