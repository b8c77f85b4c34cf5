package web_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/devidp"
	"authproxy/policy"
)

// edited returns the URL target with its query changed.
func edited(target string, edit func(url.Values)) string {
	u, err := url.Parse(target)
	if err != nil {
		return target
	}
	q := u.Query()
	edit(q)
	u.RawQuery = q.Encode()
	return u.String()
}

// flip changes one character in the middle of a sealed value.
func flip(sealed string) string {
	b := []byte(sealed)
	i := len(b) / 2
	if b[i]++; b[i] == 'z'+1 {
		b[i] = 'A'
	}
	return string(b)
}

func TestAStateThatIsNotOursIsRefusedBeforeAnybodyIsAsked(t *testing.T) {
	s := newSite(t, nil)
	other := s.newBrowser(t)
	other.begin("bob", "/")
	foreign := newSite(t, func(s *settings) { s.key = "another deployment's key: 32 b. " }).newBrowser(t).begin("bob", "/")
	tests := []struct {
		name string
		edit func(url.Values)
	}{
		{"missing", func(q url.Values) { q.Del("state") }},
		{"empty", func(q url.Values) { q.Set("state", "") }},
		{"made up", func(q url.Values) { q.Set("state", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") }},
		{"one character changed", func(q url.Values) { q.Set("state", flip(q.Get("state"))) }},
		{"cut", func(q url.Values) { q.Set("state", q.Get("state")[:20]) }},
		{"padded", func(q url.Values) { q.Set("state", q.Get("state")+"=") }},
		{"repeated", func(q url.Values) { q.Add("state", q.Get("state")) }},
		{"a flow cookie's value", func(q url.Values) { q.Set("state", anyValue(other.jar.ours())) }},
		{"another deployment's", func(q url.Values) { q.Set("state", foreign.query("state")) }},
		{"code repeated", func(q url.Values) { q.Add("code", q.Get("code")) }},
		{"iss repeated", func(q url.Values) { q.Add("iss", q.Get("iss")) }},
		{"error repeated", func(q url.Values) { q["error"] = []string{"access_denied", "x"} }},
		{"missing, with an error", func(q url.Values) { q.Del("state"); q.Del("code"); q.Set("error", "access_denied") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := s.newBrowser(t)
			back := b.begin("alice", "/reports")
			contacts := b.contacts("one")
			a := b.get(edited(back.location(), tt.edit))
			b.isPage(a, 400, "does not belong to a sign-in that began here", "Try again")
			if n := b.contacts("one") - contacts; n != 0 {
				t.Errorf("the provider was asked %d times, want 0", n)
			}
			if b.user() != "" || len(b.jar.flows()) != 1 {
				t.Errorf("user %q, %d flow cookies; want nobody, and the sign-in still under way", b.user(), len(b.jar.flows()))
			}
			b.goesTo(b.get(back.location()), "/reports") // the genuine answer still counts
		})
	}
}

func anyValue(m map[string]string) string {
	for v := range maps.Values(m) {
		return v
	}
	return ""
}

func TestAnotherSignInsStateIsRefused(t *testing.T) {
	s := newSite(t, nil)
	victim, attacker := s.newBrowser(t), s.newBrowser(t)
	mine, theirs := victim.begin("alice", "/reports"), attacker.begin("bob", "/attack")

	// The victim's own state with the attacker's code: the code is bound to the
	// attacker's PKCE verifier and nonce.
	a := victim.get(edited(mine.location(), func(q url.Values) { q.Set("code", theirs.query("code")) }))
	if victim.user() != "" {
		t.Errorf("the attacker's code signed the victim in as %q (answer %d)", victim.user(), a.StatusCode)
	}
	victim.goesTo(victim.get(victim.authorize(a).location()), "/reports") // it starts again by itself
	if got := victim.user(); got != "alice@example.com" {
		t.Errorf("signed in as %q, want alice", got)
	}
}

// TestLoginCSRF gives the victim's browser a link with everything that the
// attacker's sign-in brought: state and code.
func TestLoginCSRF(t *testing.T) {
	s := newSite(t, nil)
	victim, attacker := s.newBrowser(t), s.newBrowser(t)
	link := attacker.begin("bob", "/attack").location()
	redeemed := s.redemptions("one")

	a := victim.get(link)
	if victim.user() != "" || s.redemptions("one") != redeemed {
		t.Errorf("the attacker's link signed the victim in as %q, with %d redemptions", victim.user(), s.redemptions("one")-redeemed)
	}
	if !strings.HasPrefix(a.location(), "http://127.0.0.1:") {
		t.Errorf("the attacker's link is answered with %d to %q, want a sign-in of the victim's own", a.StatusCode, a.location())
	}
	victim.jar.drop("")
	victim.mustSignIn("alice")
	id := victim.sessionID()
	victim.get(link)
	if victim.sessionID() != id || victim.user() != "alice@example.com" {
		t.Errorf("the attacker's link changed the session to %q", victim.user())
	}
}

func TestTheFlowCookieOfAnotherBrowserIsWorthNothing(t *testing.T) {
	s := newSite(t, nil)
	victim, attacker := s.newBrowser(t), s.newBrowser(t)
	mine := victim.begin("alice", "/reports")
	theirs := attacker.begin("bob", "/attack")
	theirName := attacker.jar.flows()[0]
	myName := victim.jar.flows()[0]

	// The attacker's cookie under the victim's name, and the other way round.
	victim.jar.put(myName, attacker.jar.ours()[theirName])
	redeemed := s.redemptions("one")
	if a := victim.get(mine.location()); !strings.HasPrefix(a.location(), "http://127.0.0.1:") || s.redemptions("one") != redeemed {
		t.Errorf("a flow cookie under another's name gives %d to %q, want a new start", a.StatusCode, a.location())
	}
	victim.jar.put(theirName, victim.jar.ours()[victim.jar.flows()[0]])
	if a := victim.get(theirs.location()); s.redemptions("one") != redeemed {
		t.Errorf("the attacker's answer was redeemed with the victim's cookie (answer %d)", a.StatusCode)
	}
	if victim.user() != "" {
		t.Errorf("signed in as %q, want nobody", victim.user())
	}
}

func TestMixUp(t *testing.T) {
	s := newSite(t, func(s *settings) { s.providers = []string{"one", "two"} })
	b := s.newBrowser(t)
	b.begin("alice", "/") // both providers have their metadata read
	b.beginAt("two", url.Values{"login_hint": {"alice"}})
	atOne := b.begin("alice", "/reports")
	contacts := map[string]int{"one": s.contacts("one"), "two": s.contacts("two")}

	// An answer of one at two's callback: two's operator would get one's code.
	wrong := strings.Replace(atOne.location(), "/callback/one", "/callback/two", 1)
	b.isPage(b.get(wrong), 400, "does not belong")
	if got := map[string]int{"one": s.contacts("one"), "two": s.contacts("two")}; !cmp.Equal(got, contacts) {
		t.Errorf("providers were asked: %v, want %v as before", got, contacts)
	}
	if b.user() != "" {
		t.Error("somebody is signed in by a mixed-up answer")
	}
	b.goesTo(b.get(atOne.location()), "/reports")
}

func TestTheIssuerOfTheAnswerIsChecked(t *testing.T) {
	s := newSite(t, nil)
	for name, edit := range map[string]func(url.Values){
		"another":       func(q url.Values) { q.Set("iss", "https://evil.example") },
		"with a slash":  func(q url.Values) { q.Set("iss", q.Get("iss")+"/") },
		"missing":       func(q url.Values) { q.Del("iss") },
		"with an error": func(q url.Values) { q.Set("iss", "https://evil.example"); q.Set("error", "access_denied") },
	} {
		t.Run(name, func(t *testing.T) {
			b := s.newBrowser(t)
			back := b.begin("alice", "/reports")
			redeemed := b.redemptions("one")
			b.isPage(b.get(edited(back.location(), edit)), 403, "could not be verified", "Try again")
			if n := b.redemptions("one") - redeemed; n != 0 {
				t.Errorf("%d codes were shown to the provider, want 0", n)
			}
			if b.user() != "" {
				t.Errorf("signed in as %q, want nobody", b.user())
			}
		})
	}
}

func TestAnIDTokenThatProvesNothingSignsNobodyIn(t *testing.T) {
	s := newSite(t, nil)
	set := func(name string, v any) devidp.Faults {
		return devidp.Faults{ClaimsEdit: func(c map[string]any) { c[name] = v }}
	}
	for name, fault := range map[string]devidp.Faults{
		"another sign-in's nonce": set("nonce", "AAAAAAAAAAAAAAAAAAAAAAAAAA"),
		"no nonce":                {ClaimsEdit: func(c map[string]any) { delete(c, "nonce") }},
		"another audience":        set("aud", "other"),
		"another issuer":          set("iss", "https://evil.example"),
		"expired":                 set("exp", 1),
		"no subject":              set("sub", ""),
		"a line break in a group": set("groups", []string{"staff\r\nX-User-Id: root"}),
		"unsigned":                {Alg: "none"},
		"algorithm confusion":     {Alg: "HS256-public"},
		"no ID token":             {OmitIDToken: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := s.newBrowser(t)
			back := b.begin("alice", "/reports")
			s.idps["one"].SetFaults(fault)
			defer s.idps["one"].SetFaults(devidp.Faults{})
			b.isPage(b.get(back.location()), 403, "does not prove who you are", "Try again")
			if b.user() != "" {
				t.Errorf("signed in as %q, want nobody", b.user())
			}
		})
	}
}

func TestAnAddressThatIsNotVerifiedAdmitsNobody(t *testing.T) {
	for name, admit := range map[string]policy.Members{
		"allowed_emails":  {Emails: []string{"carol@example.com"}},
		"allowed_domains": {Domains: []string{"example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newSite(t, func(s *settings) { s.admit = admit }).newBrowser(t)
			b.isPage(b.signIn(carol, "/reports"), 403, "not verified", "Use another account")
			if a, _ := b.api("GET", "/auth/userinfo", ""); a.StatusCode != 401 {
				t.Errorf("GET /userinfo = %d after a refused sign-in, want 401", a.StatusCode)
			}
		})
	}
}

func TestWhoIsNotAdmittedGetsNoSession(t *testing.T) {
	b := newSite(t, func(s *settings) { s.admit = policy.Members{Emails: []string{"alice@example.com"}} }).newBrowser(t)
	refused := b.signIn("bob", "/reports")
	b.isPage(refused, 403, "This account has no access", "bob@example.com", "Use another account", "prompt=select_account", url.QueryEscape("/reports"))
	for name := range b.jar.ours() {
		if strings.HasPrefix(name, "__Host-authproxy_session") || strings.Contains(name, "signed_in") {
			t.Errorf("the refused sign-in left the cookie %s", name)
		}
	}
	// The button leads to the provider's account chooser, and the right account gets in.
	if got := b.get("/auth/sign-in?rd=/reports&prompt=select_account").query("prompt"); got != "select_account" {
		t.Errorf("prompt = %q, want select_account", got)
	}
	b.goesTo(b.signIn("alice", "/reports"), "/reports")
}

func TestFixation(t *testing.T) {
	s := newSite(t, nil)
	attacker, victim := s.newBrowser(t), s.newBrowser(t)
	attacker.mustSignIn("bob")
	planted := attacker.jar.ours()["__Host-authproxy_session"]
	plantedID := attacker.sessionID()

	victim.jar.put("__Host-authproxy_session", planted)
	if done := victim.signIn("alice", "/"); done.StatusCode != http.StatusFound {
		t.Fatalf("sign-in = %d", done.StatusCode)
	}
	if victim.jar.ours()["__Host-authproxy_session"] == planted || victim.sessionID() == plantedID || victim.user() != "alice@example.com" {
		t.Errorf("the planted session was adopted: id %q, user %q", victim.sessionID(), victim.user())
	}
	if got := attacker.user(); got != "" {
		t.Errorf("the planted session still signs in as %q, want it dead", got)
	}
	if s.sessions.AliveID(plantedID) {
		t.Error("the planted session's id is not on the list of ended sessions")
	}
}

func TestEverySignInHasANewSession(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	first, copied := b.sessionID(), b.jar.copy()
	b.mustSignIn("alice")
	if b.sessionID() == first {
		t.Error("the second sign-in kept the session's id")
	}
	b.jar.restore(copied)
	if got := b.user(); got != "" {
		t.Errorf("the session from before the second sign-in still lives, as %q", got)
	}
}

func TestErrorsOfTheProvider(t *testing.T) {
	s := newSite(t, nil)
	tests := []struct {
		code   string
		status int
		text   string
	}{
		{"access_denied", 403, "Sign-in was cancelled"},
		{"server_error", 503, "cannot be reached"},
		{"temporarily_unavailable", 503, "cannot be reached"},
		{"login_required", 400, "refused the sign-in"},
		{"invalid_request", 400, "refused the sign-in"},
		{"<script>alert(1)</script>", 400, "refused the sign-in"},
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			b := s.newBrowser(t)
			back := b.begin("alice", "/reports")
			redeemed := b.redemptions("one")
			a := b.get(edited(back.location(), func(q url.Values) { q.Set("error", tt.code) })) // with a code, too
			b.isPage(a, tt.status, tt.text, "Try again", url.QueryEscape("/reports"))
			if b.redemptions("one") != redeemed || b.user() != "" {
				t.Errorf("the code beside the error was redeemed, user %q", b.user())
			}
		})
	}
}

// TestNothingOfARequestBecomesMarkup puts markup into every parameter there is.
func TestNothingOfARequestBecomesMarkup(t *testing.T) {
	s := newSite(t, func(s *settings) { s.providers = []string{"one", "two"} })
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'`
	q := url.QueryEscape(evil)
	b := s.newBrowser(t)
	own := func(name string) string {
		back := b.begin("alice", "/reports")
		return edited(back.location(), func(q url.Values) { q.Set(name, evil) })
	}
	targets := []string{
		"/auth/sign-in?rd=" + q, "/auth/sign-in?login_hint=" + q, "/auth/sign-in?prompt=" + q, "/auth/sign-in?rd=/a%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
		"/auth/sign-in/" + url.PathEscape(evil), "/auth/callback/" + url.PathEscape(evil) + "?state=x", "/auth/" + url.PathEscape(evil),
		"/auth/callback/one?error=" + q, "/auth/callback/one?error=access_denied&error_description=" + q, "/auth/callback/one?state=" + q,
		own("error"), own("error_description"), own("state"), own("code"), own("iss"), own("error_uri"),
		"/auth/sign-out?rd=" + q,
	}
	for _, target := range targets {
		a := b.get(target)
		if strings.Contains(strings.ToLower(a.body), "<script") || strings.Contains(a.body, "<img") {
			t.Errorf("%s: the page holds the markup: %s", target, a.body)
		}
		for _, said := range []string{"error_description", "alert(1)"} {
			if strings.Contains(target, "/callback/") && strings.Contains(a.body, said) {
				t.Errorf("%s: the page repeats %q of the provider's answer", target, said)
			}
		}
		if csp := a.Header.Get("Content-Security-Policy"); a.StatusCode != http.StatusFound && (!strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script-src")) {
			t.Errorf("%s: Content-Security-Policy = %q, want one that runs no script", target, csp)
		}
	}
}

func TestNoHeaderCanBeInjected(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for _, rd := range []string{
		"/\r\nSet-Cookie: evil=1", "/a%0d%0aSet-Cookie:%20evil=1", "/\nX-Evil: 1", "/a\x00b", "/?q=\r\n\r\n<html>", "/a\rX-Evil: 1",
		"/%0d%0a%0d%0a<script>", "/\u560a\u560dX-Evil:1", "/#\r\nX-Evil: 1",
	} {
		query := url.Values{"rd": {rd}, "login_hint": {"alice\r\nX-Evil: 1"}}
		for _, target := range []string{"/auth/sign-in?", "/auth/sign-in/one?", "/auth/sign-out?"} {
			a := b.get(target + query.Encode())
			if a.Header.Get("X-Evil") != "" || strings.Contains(strings.Join(a.Header["Set-Cookie"], "\n"), "evil") {
				t.Errorf("rd=%q at %s injects a header: %v", rd, target, a.Header)
			}
		}
		done := b.signIn("alice", rd)
		b.goesTo(done, "/")
	}
}

// TestReturnURLsAreJudgedWhenStored looks at the one page that shows the return
// URL before anybody has come back.
func TestReturnURLsAreJudgedWhenStored(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.idps["one"].SetFaults(devidp.Faults{Down: true})
	a := b.get("/auth/sign-in/one?rd=https://evil.example/")
	b.isPage(a, 503, "Try again")
	if strings.Contains(a.body, "evil.example") {
		t.Errorf("the page leads on to another site: %s", a.body)
	}
}

// TestReturnURLsAreJudgedWhenUsed stores one that was good then, and takes its
// host off the list.
func TestReturnURLsAreJudgedWhenUsed(t *testing.T) {
	before := newSite(t, func(s *settings) { s.hosts, s.domain = []string{host, "old.example.com"}, "example.com" }).newBrowser(t)
	back := before.begin("alice", "https://old.example.com/reports")
	after := newSite(t, func(s *settings) { s.domain = "example.com" }).newBrowser(t)
	after.mustSignIn("alice")
	after.goesTo(after.get(back.location()), "/")
}

func TestCookiesOfASignInKeepTheirAttributes(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	begun := b.get("/auth/sign-in/one?login_hint=alice")
	done := b.get(b.authorize(begun).location())
	out := b.signOut()
	seen := map[string]bool{}
	for _, c := range slices.Concat(begun.Cookies(), done.Cookies(), out.Cookies()) {
		name, _, _ := strings.Cut(strings.TrimPrefix(c.Name, "__Host-authproxy_flow"), "_")
		if strings.HasPrefix(c.Name, "__Host-authproxy_flow_") {
			name = "flow"
		}
		seen[name] = true
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			t.Errorf("cookie %s has not all of __Host-, Secure, HttpOnly, SameSite=Lax, Path=/ and no Domain: %s", c.Name, c.Raw)
		}
		if c.MaxAge == 0 {
			t.Errorf("cookie %s has no Max-Age: %s", c.Name, c.Raw)
		}
	}
	if !seen["flow"] || len(seen) < 2 {
		t.Errorf("the sign-in set the cookies %v, want flow and session cookies among them", seen)
	}
	for _, c := range begun.Cookies() {
		if c.MaxAge != 15*60 {
			t.Errorf("the flow cookie lives %d s, want 900", c.MaxAge)
		}
	}
}
