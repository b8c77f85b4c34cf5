package web_test

import (
	"crypto/rand"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"authproxy/devidp"
)

func TestOneProviderGoesStraightOn(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	begun := b.get("/auth/sign-in?login_hint=alice&rd=/reports")
	back := b.authorize(begun)
	done := b.get(back.location())
	b.goesTo(done, "/reports")
	if got := b.user(); got != "alice@example.com" {
		t.Errorf("signed in as %q, want alice@example.com", got)
	}
	if got := b.jar.flows(); len(got) != 0 {
		t.Errorf("flow cookies after the sign-in = %v, want none", got)
	}
	if n := len(done.Header["Set-Cookie"]); n != 3 {
		t.Errorf("the callback sets %d cookies, want session, loop counter and the end of the flow: ingresses refuse long headers", n)
	}
	for _, a := range []answer{begun, done} {
		if a.Header.Get("Cache-Control") != "no-store" || strings.Join(a.Header["Vary"], ",") != "Cookie" {
			t.Errorf("Cache-Control %q, Vary %q of a step of the sign-in, want no-store and Cookie", a.Header.Get("Cache-Control"), a.Header.Get("Vary"))
		}
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if begun.query(name) == "" {
			t.Errorf("the provider is not sent %s", name)
		}
	}
	if got := begun.query("redirect_uri"); got != origin+"/auth/callback/one" {
		t.Errorf("redirect_uri = %q, want that of public_url", got)
	}
}

func TestSeveralProvidersShowTheChooser(t *testing.T) {
	b := newSite(t, func(s *settings) { s.providers = []string{"one", "two"} }).newBrowser(t)
	page := b.get("/auth/sign-in?rd=/a%3Fb%3Dc%26d&login_hint=alice&prompt=login")
	b.isPage(page, 200, "Provider one", "Provider two")
	for _, id := range []string{"one", "two"} {
		link := origin + "/auth/sign-in/" + id + "?" + url.Values{"rd": {"/a?b=c&d"}, "login_hint": {"alice"}, "prompt": {"login"}}.Encode()
		if !strings.Contains(page.body, strings.ReplaceAll(link, "&", "&amp;")) {
			t.Errorf("the chooser has no link to %s: %s", link, page.body)
		}
	}
	begun := b.get("/auth/sign-in/two?rd=/a&login_hint=alice&prompt=login")
	if begun.query("login_hint") != "alice" || begun.query("prompt") != "login" {
		t.Errorf("the provider is sent to with %q, want login_hint and prompt in it", begun.location())
	}
	if n := b.contacts("one"); n != 0 {
		t.Errorf("provider one was asked %d times for a sign-in at two, want 0", n)
	}
	done := b.get(b.beginAt("two", url.Values{"login_hint": {"bob"}, "rd": {"/x"}}).location())
	b.goesTo(done, "/x")
	if got := b.user(); got != "bob@example.com" {
		t.Errorf("signed in as %q, want bob@example.com", got)
	}
}

func TestUnknownProviderIsNotFound(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.isPage(b.get("/auth/sign-in/three"), 404)
	b.isPage(b.get("/auth/callback/three?state=x&code=y"), 404)
}

func TestReturnToTheExactPage(t *testing.T) {
	s := newSite(t, nil)
	const page = "/reports/2026?year=2026&q=a%20b+c&empty=&x=%2F%2Fevil.example#part/../2"
	for _, name := range []string{"rd", "callbackUrl", "callbackURL"} {
		b := s.newBrowser(t)
		done := b.get(b.beginAt("one", url.Values{"login_hint": {"alice"}, name: {page}}).location())
		b.goesTo(done, page)
		path, _, _ := strings.Cut(page, "#")
		if app := b.get(done.location()); app.body != "app "+path {
			t.Errorf("%s: the application was asked for %q, want %q", name, app.body, path)
		}
	}
	b := s.newBrowser(t)
	b.goesTo(b.get(b.beginAt("one", url.Values{"login_hint": {"alice"}}).location()), "/")
}

func TestWithoutAReturnURLTheConfiguredPageIsTheEnd(t *testing.T) {
	b := newSite(t, func(s *settings) { s.afterSignIn = "/home" }).newBrowser(t)
	b.goesTo(b.get(b.beginAt("one", url.Values{"login_hint": {"alice"}}).location()), "/home")
}

func TestSignInForScripts(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	tests := []struct {
		name, body string
		status     int
		code       string
	}{
		{"a provider and a page", `{"provider":"one","callbackURL":"/reports?x=1"}`, 200, ""},
		{"unknown fields are fine", `{"provider":"one","callbackURL":"/reports?x=1","errorCallbackURL":"/e","scopes":["a"]}`, 200, ""},
		{"unknown provider", `{"provider":"three"}`, 404, "unknown_provider"},
		{"no provider", `{}`, 404, "unknown_provider"},
		{"page of another site", `{"provider":"one","callbackURL":"https://evil.example/"}`, 400, "invalid_return_url"},
		{"no JSON", `provider=one`, 400, "invalid_json"},
		{"cut JSON", `{"provider":"one"`, 400, "invalid_json"},
		{"two values", `{"provider":"one"}{"provider":"two"}`, 400, "invalid_json"},
		{"nothing", ``, 400, "invalid_json"},
		{"wrong type", `{"provider":1}`, 400, "invalid_json"},
		{"too large", `{"provider":"one","x":"` + strings.Repeat("x", 9<<10) + `"}`, 413, "too_large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, v := b.api("POST", "/auth/sign-in/social", tt.body, "Content-Type", "application/json")
			if code, _ := dig(v, "error").(string); a.StatusCode != tt.status || code != tt.code {
				t.Fatalf("answer = %d %q, want %d %q", a.StatusCode, code, tt.status, tt.code)
			}
			if tt.status != 200 {
				return
			}
			want := origin + "/auth/sign-in/one?rd=" + url.QueryEscape("/reports?x=1")
			if dig(v, "url") != want || dig(v, "redirect") != true {
				t.Errorf("answer = %s, want url %s and redirect true", a.body, want)
			}
		})
	}
	_, v := b.api("POST", "/auth/sign-in/social", `{"provider":"one","callbackURL":"/end"}`)
	target, _ := dig(v, "url").(string)
	b.goesTo(b.get(b.authorize(b.get(target+"&login_hint=alice")).location()), "/end")
}

func TestTabsDoNotDisturbEachOther(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	first, second, third := b.begin("alice", "/1"), b.begin("alice", "/2"), b.begin("alice", "/3")
	b.goesTo(b.get(second.location()), "/2")
	b.goesTo(b.get(third.location()), "/3")
	b.goesTo(b.get(first.location()), "/1")
	if got := b.user(); got != "alice@example.com" {
		t.Errorf("signed in as %q after three tabs, want alice", got)
	}
}

func TestAtMostFiveSignInsAreUnderWay(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	var tabs []answer
	for range 7 {
		tabs = append(tabs, b.begin("alice", "/tab"))
		b.clock.advance(time.Second)
		if n := len(b.jar.flows()); n > 5 {
			t.Fatalf("%d flow cookies are alive, want at most 5", n)
		}
	}
	before := b.redemptions("one")
	again := b.get(tabs[1].location())
	if !strings.HasPrefix(again.location(), "http://127.0.0.1:") || b.redemptions("one") != before {
		t.Errorf("the second-oldest tab was answered with %d to %q, want a new start: its cookie had to go", again.StatusCode, again.location())
	}
	b.goesTo(b.get(tabs[6].location()), "/tab")
}

func TestTheOldestSignInGoesFirst(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	oldest := b.begin("alice", "/oldest")
	names := b.jar.flows()
	for range 4 {
		b.begin("alice", "/")
	}
	if got := b.jar.ours()[names[0]]; got == "" {
		t.Fatal("the first of five sign-ins lost its cookie")
	}
	b.begin("alice", "/") // within the same second: the order of the cookies decides
	if got := b.jar.ours()[names[0]]; got != "" {
		t.Error("the sixth sign-in pushed out another than the oldest")
	}
	if a := b.get(oldest.location()); !strings.HasPrefix(a.location(), "http://127.0.0.1:") {
		t.Errorf("the sign-in that was pushed out is answered with %d to %q, want a new start", a.StatusCode, a.location())
	}
}

func TestAHeapOfFlowCookiesIsClearedAway(t *testing.T) {
	s := newSite(t, nil)
	b := s.newBrowser(t)
	for range 40 { // as if 40 tabs had asked at the same moment, none showing a cookie
		tab := s.newBrowser(t)
		tab.begin("alice", "/")
		for name, value := range tab.jar.ours() {
			b.jar.put(name, value)
		}
	}
	for range 4 {
		begun := b.get("/auth/sign-in/one?login_hint=alice")
		if n := len(begun.Header["Set-Cookie"]); n > 17 {
			t.Errorf("one answer sets %d cookies, want at most 17", n)
		}
	}
	if n := len(b.jar.flows()); n > 5 {
		t.Errorf("%d flow cookies are left after four more sign-ins, want at most 5", n)
	}
}

func TestStaleSignInPageGoesOn(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	id := b.sessionID()
	b.goesTo(b.get("/auth/sign-in?rd=/reports"), "/reports")
	if got := b.sessionID(); got != id {
		t.Errorf("session = %q after a stale sign-in page, want %q still", got, id)
	}
	if got := b.get("/auth/sign-in?rd=/reports&prompt=select_account").query("prompt"); got != "select_account" {
		t.Errorf("prompt = %q, want select_account: who wants another account is not sent back", got)
	}
}

func TestProviderThatDoesNotKnowSelectAccountIsAskedToSignInAnew(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	b.signOut()
	refuse := func(begun answer) answer { // as such a provider does
		issuer, _, _ := strings.Cut(begun.location(), "/authorize?")
		return b.get("/auth/callback/one?" + url.Values{"error": {"invalid_request"}, "state": {begun.query("state")}, "iss": {issuer}}.Encode())
	}
	again := refuse(b.get("/auth/sign-in/one?rd=/reports"))
	if again.StatusCode != http.StatusFound || again.query("prompt") != "login" {
		t.Fatalf("answer = %d to %q, want the provider again with prompt=login", again.StatusCode, again.location())
	}
	b.isPage(refuse(again), 400, "refused the sign-in") // once, not for ever
}

func TestSignInBeginsOnThePublicHost(t *testing.T) {
	b := newSite(t, func(s *settings) { s.hosts, s.domain = append(s.hosts, "www.example.com"), "example.com" }).newBrowser(t)
	for _, path := range []string{"/auth/sign-in", "/auth/sign-in/one"} {
		got := b.get("https://www.example.com" + path + "?callbackUrl=/a%3Fb=1&login_hint=alice")
		want := origin + path + "?" + url.Values{"login_hint": {"alice"}, "rd": {"https://www.example.com/a?b=1"}}.Encode()
		if got.StatusCode != http.StatusFound || got.location() != want {
			t.Errorf("%s on another host of ours: %d to %q, want %q", path, got.StatusCode, got.location(), want)
		}
	}
	if n := len(b.jar.flows()); n != 0 {
		t.Errorf("%d sign-ins began on a host where their cookie is no use", n)
	}
	r, err := http.NewRequest("GET", origin+"/auth/sign-in/one", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "authproxy.internal:4180" // as a proxy in front may name us
	if got := b.do(r); !strings.Contains(got.location(), "/authorize") {
		t.Errorf("behind a proxy that changes the host: %d to %q, want the provider", got.StatusCode, got.location())
	}
}

func TestWhoBringsCredentialsIsNeverRedirected(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for _, path := range []string{"/auth/sign-in", "/auth/sign-in/one"} {
		if got := b.get(path, "Authorization", "Bearer x"); got.StatusCode != http.StatusUnauthorized || got.location() != "" {
			t.Errorf("%s = %d to %q, want 401", path, got.StatusCode, got.location())
		}
	}
}

func TestASessionThatDoesNotFitIsAPageNotAFault(t *testing.T) {
	var groups []string
	for range 500 {
		groups = append(groups, rand.Text()+rand.Text())
	}
	many := devidp.User{Login: "many", Subject: "88bb", Email: "many@example.com", EmailVerified: true, Groups: groups}
	b := newSite(t, func(s *settings) { s.users = append(s.users, many) }).newBrowser(t)
	b.mustSignIn("alice")
	b.isPage(b.signIn("many", "/"), 403, "too many groups", "many@example.com")
	if got := b.user(); got == "" {
		t.Error("the sign-in that failed has ended the session before it")
	}
}

func TestTheSignOutFormMayLeadToAnotherHostOfOurs(t *testing.T) {
	b := newSite(t, func(s *settings) { s.hosts = append(s.hosts, "www.example.com") }).newBrowser(t)
	b.mustSignIn("alice")
	got := b.get("/auth/sign-out?rd=https://www.example.com/bye").Header.Get("Content-Security-Policy")
	if !strings.Contains(got, "form-action 'self' https://www.example.com") {
		t.Errorf("Content-Security-Policy = %q, which keeps Chromium from following the form", got)
	}
}

func TestBackButtonToTheCallbackGoesToThePage(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	back := b.begin("alice", "/reports")
	b.goesTo(b.get(back.location()), "/reports")
	id, redeemed := b.sessionID(), b.redemptions("one")
	for range 3 {
		b.goesTo(b.get(back.location()), "/reports")
	}
	if got := b.sessionID(); got != id || b.redemptions("one") != redeemed {
		t.Errorf("session = %q after %d redemptions, want %q and %d: nothing happens again", got, b.redemptions("one"), id, redeemed)
	}
}

func TestCallbackWithoutItsCookieStartsAgainOnce(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	back := b.begin("alice", "/reports")
	b.jar.drop("__Host-authproxy_flow_")
	before := b.contacts("one")
	again := b.get(back.location())
	if b.redemptions("one") != 0 || b.contacts("one") != before {
		t.Error("the provider was asked although the flow's cookie was missing")
	}
	back = b.authorize(again)
	b.goesTo(b.get(back.location()), "/reports")

	b.signOut()
	b.jar.drop("")
	back = b.begin("alice", "/reports")
	b.jar.drop("")
	back = b.authorize(b.get(back.location()))
	b.jar.drop("")
	b.isPage(b.get(back.location()), 400, "did not send back the cookie", "public_url", "cookie.domain", "cookie.same_site", "Try again", url.QueryEscape("/reports"))
	if b.user() != "" {
		t.Error("somebody is signed in without a flow cookie")
	}
}

func TestLateCallbackStartsAgain(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	back := b.begin("alice", "/reports")
	copied := b.jar.copy()
	b.clock.advance(15 * time.Minute)
	if n := len(b.jar.flows()); n != 0 {
		t.Errorf("browsers keep %d flow cookies after 15 minutes, want 0", n)
	}
	// A browser that does not look at the clock.
	for _, list := range copied {
		for i := range list {
			list[i].expires = time.Time{}
		}
	}
	b.jar.restore(copied)
	again := b.get(back.location())
	if !strings.HasPrefix(again.location(), "http://127.0.0.1:") || b.redemptions("one") != 0 {
		t.Fatalf("a callback after 15 minutes is answered with %d to %q after %d redemptions, want a new start and none", again.StatusCode, again.location(), b.redemptions("one"))
	}
	b.goesTo(b.get(b.authorize(b.get("/auth/sign-in/one?login_hint=alice&rd=/reports")).location()), "/reports")
}

func TestCallbackJustInTime(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	begun := b.get("/auth/sign-in/one?login_hint=alice&rd=/reports")
	b.clock.advance(15*time.Minute - time.Second)
	b.goesTo(b.get(b.authorize(begun).location()), "/reports")
}

func TestTheSameCallbackTwiceIsWorthNothing(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	back := b.begin("alice", "/reports")
	copied := b.jar.copy()
	b.goesTo(b.get(back.location()), "/reports")
	first := b.sessionID()

	b.jar.restore(copied) // all cookies as they were before the callback
	redeemed := b.redemptions("one")
	again := b.get(back.location())
	if !strings.HasPrefix(again.location(), "http://127.0.0.1:") || b.redemptions("one") != redeemed {
		t.Errorf("the answer used again gives %d to %q and %d more redemptions, want a new start and none", again.StatusCode, again.location(), b.redemptions("one")-redeemed)
	}
	if got := b.sessionID(); got != "" {
		t.Errorf("session %q begins from an answer that was used for %q", got, first)
	}
}

func TestALateCodeStartsAgainOnce(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	back := b.begin("alice", "/reports")
	b.clock.advance(2 * time.Minute) // codes live for one
	back = b.authorize(b.get(back.location()))
	b.clock.advance(2 * time.Minute)
	b.isPage(b.get(back.location()), 403, "could not be verified", "Try again")
	if n := b.redemptions("one"); n != 2 {
		t.Errorf("%d codes were shown to the provider, want 2: each once", n)
	}
	back = b.begin("alice", "/reports")
	b.clock.advance(2 * time.Minute)
	b.goesTo(b.get(b.authorize(b.get(back.location())).location()), "/reports")
}

func TestProviderDownIsUnavailableAndSessionsGoOn(t *testing.T) {
	s := newSite(t, func(s *settings) { s.providers = []string{"one", "two"} })
	signedIn, b := s.newBrowser(t), s.newBrowser(t)
	signedIn.mustSignIn("alice")
	back := b.begin("bob", "/reports")
	for _, idp := range s.idps {
		idp.SetFaults(devidp.Faults{Down: true})
	}
	at := func(name string, a answer) {
		t.Helper()
		b.isPage(a, 503, "stays signed in", "Try again", url.QueryEscape("/reports"))
		if a.Header.Get("Retry-After") != "10" {
			t.Errorf("%s: Retry-After = %q, want 10", name, a.Header.Get("Retry-After"))
		}
	}
	at("sign-in at a provider never reached before", b.get("/auth/sign-in/two?rd=/reports"))
	at("callback", b.get(back.location()))
	if got := signedIn.user(); got != "alice@example.com" {
		t.Errorf("signed in as %q while the provider is down, want alice still", got)
	}
	for _, idp := range s.idps {
		idp.SetFaults(devidp.Faults{})
	}
	b.clock.advance(2 * time.Second)
	b.goesTo(b.get(b.beginAt("two", url.Values{"login_hint": {"bob"}, "rd": {"/reports"}}).location()), "/reports")
}

func TestProviderThatFailsAtTheTokenEndpointIsUnavailable(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	back := b.begin("alice", "/reports")
	b.idps["one"].SetFaults(devidp.Faults{Status: map[string]int{"/token": 500}})
	b.isPage(b.get(back.location()), 503, "Try again")
	if b.user() != "" {
		t.Error("somebody is signed in")
	}
}

func TestAfterSignOutTheAccountIsAskedFor(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	out := b.signOut()
	if out.StatusCode != http.StatusSeeOther || out.location() != "/" || out.Header.Get("Clear-Site-Data") != `"cache"` {
		t.Errorf("sign-out = %d to %q with Clear-Site-Data %q, want 303 to / and \"cache\"", out.StatusCode, out.location(), out.Header.Get("Clear-Site-Data"))
	}
	b.isPage(b.get("/auth/sign-in?rd=/reports"), 200, "You are signed out.", "Provider one")
	if got := b.get("/auth/sign-in/one?rd=/reports").query("prompt"); got != "select_account" {
		t.Errorf("prompt after sign-out = %q, want select_account", got)
	}
	hinted := b.get("/auth/sign-in/one?rd=/reports&login_hint=alice")
	if hinted.query("prompt") != "" || hinted.query("login_hint") != "alice" {
		t.Errorf("with a login_hint the provider is sent to with %q, want no prompt", hinted.location())
	}
	b.goesTo(b.get(b.authorize(hinted).location()), "/reports")
	if got := b.get("/auth/sign-in/one?rd=/").query("prompt"); got != "" {
		t.Errorf("prompt after signing in again = %q, want none", got)
	}
}

func TestSignOutWithNobodyThereIsNoMark(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	if out := b.signOut(); out.StatusCode != http.StatusSeeOther {
		t.Errorf("sign-out of nobody = %d, want 303 as always", out.StatusCode)
	}
	if got := b.get("/auth/sign-in/one?rd=/").query("prompt"); got != "" {
		t.Errorf("prompt = %q for somebody who never signed out, want none", got)
	}
}

func TestPromptsThatProvidersAreAsked(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for asked, want := range map[string]string{
		"login": "login", "select_account": "select_account", "consent": "consent",
		"none": "", "create": "", "login consent": "", "login&x=y": "",
	} {
		if got := b.get("/auth/sign-in/one?" + url.Values{"prompt": {asked}}.Encode()).query("prompt"); got != want {
			t.Errorf("prompt=%q sends prompt %q, want %q", asked, got, want)
		}
	}
	if got := b.get("/auth/sign-in/one?login_hint=" + strings.Repeat("x", 321)).query("login_hint"); got != "" {
		t.Errorf("a login_hint of 321 bytes is passed on: %q", got)
	}
}

func TestALoopIsBroken(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for range 3 {
		b.goesTo(b.signIn("alice", "/reports"), "/reports")
		b.jar.drop("__Host-authproxy_session")
	}
	b.isPage(b.get("/auth/sign-in?rd=/reports"), 400, "goes round in circles", "public_url", "Try again")
	b.isPage(b.get("/auth/sign-in/one?rd=/reports"), 400, "goes round in circles")
	b.clock.advance(30 * time.Second)
	b.goesTo(b.signIn("alice", "/reports"), "/reports")
}

func TestManySignInsWithALiveSessionAreNoLoop(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for range 5 {
		b.goesTo(b.signIn("alice", "/reports"), "/reports")
	}
}

func TestSignOutForgetsEarlierSignIns(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for range 5 {
		b.mustSignIn("alice")
		b.signOut()
	}
}

func TestSignOutAsksWithAButton(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.isPage(b.get("/auth/sign-out"), 200, "/auth/sign-in")
	b.mustSignIn("alice")
	b.isPage(b.get("/auth/sign-out?rd=/bye"), 200, "alice@example.com", `action="/auth/sign-out"`, `value="/bye"`)
	if b.user() == "" {
		t.Error("a link that was only followed signed the person out")
	}
	out := b.send("POST", "/auth/sign-out", "rd=%2Fbye%3Fx%3D1", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	if out.StatusCode != http.StatusSeeOther || out.location() != "/bye?x=1" || b.user() != "" {
		t.Errorf("the button answered %d to %q and left %q signed in, want 303 to /bye?x=1 and nobody", out.StatusCode, out.location(), b.user())
	}
}

func TestSignOutForScripts(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	for range 2 { // again is the same
		a, v := b.api("POST", "/auth/sign-out?rd=/bye", "")
		if a.StatusCode != 200 || dig(v, "success") != true || dig(v, "url") != "/bye" {
			t.Errorf("sign-out = %d %s, want 200, success and url /bye", a.StatusCode, a.body)
		}
	}
	if _, v := b.api("POST", "/auth/sign-out?rd=//evil.example", ""); dig(v, "url") != "/" {
		t.Errorf("sign-out to another site gives url %v, want /", dig(v, "url"))
	}
}

func TestACopyOfTheCookieIsDeadAfterSignOut(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	copied := b.jar.copy()
	b.signOut()
	b.jar.restore(copied)
	if got := b.user(); got != "" {
		t.Errorf("a copy of the cookie signs in as %q after sign-out, want nobody", got)
	}
}

// TestLogsHoldNoSecret runs a sign-in with its usual accidents and looks for
// what must never be written down.
func TestLogsHoldNoSecret(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	secrets := map[string]string{}
	note := func(back answer) answer {
		secrets["state"], secrets["code"] = back.query("state"), back.query("code")
		return back
	}
	late := note(b.begin("alice", "/reports?secret-query"))
	b.clock.advance(2 * time.Minute)
	late = b.authorize(b.get(late.location()))
	b.clock.advance(2 * time.Minute)
	b.get(late.location())
	b.get("/auth/callback/one?state=forged-state-value&code=forged-code-value")
	b.get(note(b.begin("alice", "/reports?secret-query")).location())
	_, v := b.api("GET", "/auth/token", "")
	secrets["token"], _ = dig(v, "token").(string)
	b.api("GET", "/auth/userinfo", "", "Authorization", "Bearer forged-token-value")
	for name, value := range b.jar.ours() {
		secrets["cookie "+name] = value
	}
	b.signOut()
	for _, literal := range []string{"secret-query", "forged-state-value", "forged-code-value", "forged-token-value", "client-secret"} {
		secrets[literal] = literal
	}
	log := b.log.String()
	for name, value := range secrets {
		if value == "" || strings.Contains(log, value) {
			t.Errorf("the log holds the %s, or the test has lost it", name)
		}
	}
	for _, event := range []string{"event=sign_in ", "event=sign_in_failed", "event=sign_out", "client_ip=192.0.2.7", "request_id=request-1"} {
		if !strings.Contains(log, event) {
			t.Errorf("the log has no %s", event)
		}
	}
}

func TestSignOutAtTheProviderComesBack(t *testing.T) {
	b := newSite(t, func(s *settings) { s.signOutThere = true }).newBrowser(t)
	b.mustSignIn("alice")
	asked := b.get("/auth/sign-out?rd=/bye?x=1")
	issuer, _, _ := strings.Cut(b.get("/auth/sign-in/one?rd=/").location(), "/authorize")
	if policy := asked.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self' "+issuer) {
		t.Errorf("Content-Security-Policy = %q, which keeps Chromium from the provider's page", policy)
	}
	out := b.send(http.MethodPost, "/auth/sign-out", "rd=/bye?x=1", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	if out.StatusCode != http.StatusSeeOther || !strings.HasPrefix(out.location(), issuer+"/end-session?") || out.query("client_id") != "app" ||
		out.query("logout_hint") != "alice@example.com" || out.query("post_logout_redirect_uri") != origin+"/auth/sign-out" {
		t.Fatalf("sign-out = %d to %q, want the provider's page", out.StatusCode, out.location())
	}
	if b.user() != "" {
		t.Error("the session waits for the provider; it must be over whatever happens there")
	}
	back := b.get(out.location()) // devidp sends the browser back
	b.goesTo(b.get(back.location()), "/bye?x=1")
}

func TestSignOutRevokesTheTokens(t *testing.T) {
	tests := []struct {
		name string
		edit func(*settings)
	}{
		{"the refresh token", func(s *settings) { s.scopes = []string{"offline_access"} }},
		{"the access token where there is no other", func(s *settings) { s.upstreamGets = "access_token" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newSite(t, tt.edit).newBrowser(t)
			b.mustSignIn("alice")
			b.signOut()
			for range 3000 { // nobody waits for the provider; neither does the test, once it was told
				if slices.Contains(b.idps["one"].Requests(), "POST /revoke") {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Error("the provider was not told")
		})
	}
}

func TestTheWayBackFromTheProvidersSignOutIsSealed(t *testing.T) {
	b := newSite(t, func(s *settings) { s.signOutThere = true }).newBrowser(t)
	b.mustSignIn("alice")
	begun := b.get("/auth/sign-in/one?rd=/reports")
	for _, state := range []string{"https://evil.example/", "x", begun.query("state")} {
		got := b.get("/auth/sign-out?state=" + url.QueryEscape(state))
		if got.StatusCode != http.StatusOK || b.user() == "" {
			t.Errorf("state %.20q: status %d to %q; want the page that asks", state, got.StatusCode, got.location())
		}
	}
}

func TestScriptsAreToldWhereToSignOutAtTheProvider(t *testing.T) {
	b := newSite(t, func(s *settings) { s.signOutThere = true }).newBrowser(t)
	b.mustSignIn("alice")
	_, v := b.api(http.MethodPost, "/auth/sign-out", "")
	if got, _ := dig(v, "url").(string); !strings.Contains(got, "/end-session?") {
		t.Errorf("url = %q, want the provider's page", got)
	}
}

func TestAnAnswerByFormPost(t *testing.T) {
	b := newSite(t, func(s *settings) { s.formPost = true }).newBrowser(t)
	begun := b.get("/auth/sign-in/one?rd=/reports&login_hint=alice")
	form := formFields(t, b.get(begun.location()).body)
	posted := b.send(http.MethodPost, "/auth/callback/one", form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "cross-site", "Origin", "https://id.example.com")
	if posted.StatusCode != http.StatusSeeOther || !strings.HasPrefix(posted.location(), origin+"/auth/callback/one?") || b.redemptions("one") != 0 {
		t.Fatalf("the posted answer: %d to %q, want the callback with our cookies, and nothing done before", posted.StatusCode, posted.location())
	}
	b.goesTo(b.get(posted.location()), "/reports")
	b.goesTo(b.get(posted.location()), "/reports") // the back button
	if n := b.redemptions("one"); n != 1 {
		t.Errorf("the code was redeemed %d times, want once", n)
	}
}

func TestNoSignInBeginsForAnImageOrAScript(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for _, header := range [][]string{{"Sec-Fetch-Mode", "no-cors"}, {"Sec-Fetch-Mode", "cors"}, {"Sec-Purpose", "prefetch"}} {
		for _, path := range []string{"/auth/sign-in", "/auth/sign-in/one"} {
			if got := b.get(path, header...); got.StatusCode != http.StatusUnauthorized || got.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s with %v = %d, Set-Cookie %q; want 401 and none", path, header, got.StatusCode, got.Header.Get("Set-Cookie"))
			}
		}
	}
}

func TestAProxyThatAddsThePortLeadsToNoCircle(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for _, as := range []string{host + ":443", host + ":8443", host + ".", strings.ToUpper(host)} {
		r, err := http.NewRequest("GET", origin+"/auth/sign-in/one", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = as
		if got := b.do(r); !strings.Contains(got.location(), "/authorize") {
			t.Errorf("Host %s: %d to %q, want the provider", as, got.StatusCode, got.location())
		}
	}
}

// formFields returns the hidden fields of the form in a page.
func formFields(t *testing.T, page string) url.Values {
	t.Helper()
	fields := url.Values{}
	for _, m := range regexp.MustCompile(`<input[^>]* name="([^"]*)"[^>]* value="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		fields.Set(m[1], html.UnescapeString(m[2]))
	}
	if fields.Get("state") == "" || fields.Get("code") == "" {
		t.Fatalf("no answer in the page:\n%s", page)
	}
	return fields
}

func TestAFormIsNoAnswerUnlessItWasAskedFor(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	back, err := url.Parse(b.begin("alice", "/reports").location())
	if err != nil {
		t.Fatal(err)
	}
	got := b.send(http.MethodPost, "/auth/callback/one", back.RawQuery, "Content-Type", "application/x-www-form-urlencoded")
	if got.StatusCode != http.StatusMethodNotAllowed || b.user() != "" || b.redemptions("one") != 0 {
		t.Errorf("a posted answer = %d, signed in %q; want 405 and nobody", got.StatusCode, b.user())
	}
}
