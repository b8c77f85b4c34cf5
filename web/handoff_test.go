package web_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"authproxy/devidp"
	"authproxy/identity"
	"authproxy/policy"
)

const (
	// portal and shop are hosts of ours that no cookie of app.example.com reaches.
	portal = "https://portal.example.org"
	shop   = "https://shop.example.net"
)

// newHosts returns a site that serves them, too.
func newHosts(t testing.TB, edit func(*settings)) *site {
	return newSite(t, func(s *settings) {
		s.hosts = append(s.hosts, "portal.example.org", "shop.example.net")
		if edit != nil {
			edit(s)
		}
	})
}

// follow opens target and follows redirects up to an address that stop accepts,
// which it returns without asking for it, or up to an answer that is none.
func (b *browser) follow(target string, stop func(*url.URL) bool) (string, answer) {
	b.Helper()
	u, err := url.Parse(target)
	if err != nil {
		b.Fatal(err)
	}
	for range 20 {
		if stop(u) {
			return u.String(), answer{}
		}
		a := b.get(u.String())
		onwards := a.location()
		if page, ok := strings.CutPrefix(a.Header.Get("Refresh"), "0; url="); ok {
			onwards = page
		}
		if onwards == "" {
			return u.String(), a
		}
		if u, err = u.Parse(onwards); err != nil {
			b.Fatal(err)
		}
	}
	b.Fatalf("%s goes round in circles, and is at %s now", target, u)
	return "", answer{}
}

func never(*url.URL) bool { return false }

// isTicket says whether u is where a ticket is taken.
func isTicket(u *url.URL) bool { return u.Path == "/auth/handoff" && u.Query().Has("ticket") }

func isAsk(u *url.URL) bool { return u.Path == "/auth/handoff" && u.Query().Has("ask") }

// signInAt is the address of sign-in on a host.
func signInAt(origin, rd string) string {
	return origin + "/auth/sign-in?" + url.Values{"rd": {rd}, "login_hint": {"alice"}}.Encode()
}

// ticket goes for a ticket for portal and returns its address.
func (b *browser) ticket(rd string) string {
	b.Helper()
	target, a := b.follow(signInAt(portal, rd), isTicket)
	if a.Response != nil {
		b.Fatalf("sign-in on another host ended at %s with %d, want a ticket: %s", target, a.StatusCode, a.body)
	}
	return target
}

// userAt returns who is signed in on a host.
func (b *browser) userAt(origin string) string {
	b.Helper()
	_, v := b.api(http.MethodGet, origin+"/auth/session", "")
	email, _ := dig(v, "user", "email").(string)
	return email
}

// at returns the cookies for a host of ours by name.
func (j *jar) at(origin string) map[string]string {
	u, _ := url.Parse(origin)
	all := map[string]string{}
	for _, c := range j.Cookies(u) {
		all[c.Name] = c.Value
	}
	return all
}

// nonces returns the names of the cookies of hand-offs under way on portal.
func (j *jar) nonces() []string {
	var names []string
	for name := range j.at(portal) {
		if strings.HasPrefix(name, "__Host-authproxy_handoff_") {
			names = append(names, name)
		}
	}
	return names
}

// plant puts a cookie on a host.
func (j *jar) plant(origin, name, value string) {
	u, _ := url.Parse(origin)
	j.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Secure: true, Path: "/"}})
}

func TestWhoIsSignedInGetsASessionOnAnotherHostUnasked(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	asked := len(b.idps["one"].Requests())
	at, a := b.follow(signInAt(portal, "/reports?year=2026&q=a%2Fb"), never)
	if want := portal + "/reports?year=2026&q=a%2Fb"; at != want || a.StatusCode != http.StatusOK {
		t.Errorf("sign-in ended at %s with %d, want %s", at, a.StatusCode, want)
	}
	if n := len(b.idps["one"].Requests()) - asked; n != 0 {
		t.Errorf("the provider was asked %d times, want 0", n)
	}
	if got := b.userAt(portal); got != "alice@example.com" {
		t.Errorf("on the other host %q is signed in, want alice", got)
	}
	if n := len(b.jar.nonces()); n != 0 {
		t.Errorf("%d nonces are left, want 0", n)
	}
	if got := b.userAt(shop); got != "" {
		t.Errorf("on a third host %q is signed in, want nobody", got)
	}
	if _, again := b.follow(signInAt(portal, "/again"), isAsk); again.Response == nil || again.StatusCode != http.StatusOK {
		t.Error("who has a session on the other host is sent for another one, want straight on")
	}
}

func TestSignInOnAnotherHostComesBackToTheExactPage(t *testing.T) {
	long := "/long?q=" + strings.Repeat("abcdefgh", 254)
	s := newHosts(t, nil)
	for _, rd := range []string{"/reports?year=2026&q=a%2Fb", "/", "/a/b;c=d?x=//y&z=https://evil.example/", portal + "/absolute?x=1", long} {
		b := s.newBrowser(t)
		at, a := b.follow(signInAt(portal, rd), never)
		want := portal + strings.TrimPrefix(rd, portal)
		if at != want || a.StatusCode != http.StatusOK {
			t.Errorf("sign-in ended at %.80s with %d, want %.80s", at, a.StatusCode, want)
		}
		if b.userAt(portal) != "alice@example.com" || b.user() != "alice@example.com" {
			t.Errorf("%q is signed in on the other host and %q on ours, want alice", b.userAt(portal), b.user())
		}
	}
}

// TestSignInForAPageOfAnotherHostBeginsThere: a session on the host where sign-in was
// asked for would not reach the page, and whatever sent the browser there would do
// so again.
func TestSignInForAPageOfAnotherHostBeginsThere(t *testing.T) {
	const page = "/reports?year=2026&q=a%2Fb"
	tests := []struct{ name, at, asked, rd string }{
		{"on public_url's host", origin, "/auth/sign-in", portal + page},
		{"on public_url's host, with the choice made", origin, "/auth/sign-in/one", portal + page},
		{"on public_url's host, by oauth2-proxy's name", origin, "/oauth2/start", portal + page},
		{"on a third host", shop, "/auth/sign-in", portal + page},
		{"on another host, for a page of public_url's", portal, "/auth/sign-in", origin + page},
	}
	site := newHosts(t, func(s *settings) { s.oauth2Proxy = true })
	for _, tt := range tests {
		for _, signedIn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, signed in: %t", tt.name, signedIn), func(t *testing.T) {
				b := site.newBrowser(t)
				if signedIn { // where sign-in is asked for
					b.follow(signInAt(tt.at, "/"), never)
				}
				asked := tt.at + tt.asked + "?" + url.Values{"rd": {tt.rd}, "login_hint": {"alice"}}.Encode()
				if at, a := b.follow(asked, never); at != tt.rd || a.StatusCode != http.StatusOK {
					t.Errorf("sign-in ended at %s with %d, want %s", at, a.StatusCode, tt.rd)
				}
				if got := b.userAt(strings.TrimSuffix(tt.rd, page)); got != "alice@example.com" {
					t.Errorf("where the page is %q is signed in, want alice", got)
				}
			})
		}
	}
}

// TestNoRedirectFollowsTheProvidersForm would fail in Chromium at a provider whose
// page says form-action: the redirects that follow its form may not leave our host.
func TestNoRedirectFollowsTheProvidersForm(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	callback, _ := b.follow(signInAt(portal, "/reports"), func(u *url.URL) bool { return strings.HasPrefix(u.Path, "/auth/callback/") })
	for range 2 { // the second time it was used before, and the session counts
		a := b.get(callback)
		b.isPage(a, 200, "You are signed in", "portal.example.org", "Continue")
		if got := a.Header.Get("Refresh"); !strings.HasPrefix(got, "0; url=/auth/handoff?ask=") || a.location() != "" {
			t.Errorf("the page leads to %q and %q, want the hand-off", got, a.location())
		}
	}
}

func TestAHostKeepsItsPort(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	if at, _ := b.follow(signInAt(portal+":8443", "/x"), never); at != portal+":8443/x" {
		t.Errorf("sign-in ended at %s, want %s:8443/x", at, portal)
	}
}

func TestReturnURLsOfAnotherHostAreJudged(t *testing.T) {
	s := newHosts(t, nil)
	for _, rd := range []string{
		"https://evil.example/", "//evil.example", `/\evil.example`, "http://portal.example.org/", "https://portal.example.org.evil.example/",
		"/auth/handoff?ticket=x", "/auth/handoff?ask=x", "/auth/handoff", "/auth/sign-in", "javascript:alert(1)", "",
	} {
		b := s.newBrowser(t)
		if at, _ := b.follow(signInAt(portal, rd), never); at != portal+"/" {
			t.Errorf("rd=%q ends at %s, want %s/", rd, at, portal)
		}
	}
}

func TestEveryStepOfAHandOffIsPrivate(t *testing.T) {
	s := newHosts(t, nil)
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	begun := b.get(signInAt(portal, "/reports"))
	for _, c := range begun.Cookies() {
		if !strings.HasPrefix(c.Name, "__Host-authproxy_handoff_") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Domain != "" || c.MaxAge != 15*60 {
			t.Errorf("the nonce's cookie is %s, want __Host-, Secure, HttpOnly, SameSite=Lax and 15 minutes", c.Raw)
		}
	}
	target, _ := b.follow(begun.location(), isTicket)
	given, taken := url.URL{}, b.get(target)
	if u, err := url.Parse(target); err != nil || u.Scheme != "https" || u.Host != "portal.example.org" {
		t.Errorf("the ticket goes to %s (%v), want %s", target, err, portal)
	} else {
		given = *u
	}
	for _, h := range []http.Header{begun.Header, taken.Header} {
		if h.Get("Cache-Control") != "no-store" {
			t.Errorf("Cache-Control = %q, want no-store", h.Get("Cache-Control"))
		}
	}
	if got := taken.Header.Get("Referrer-Policy"); got != "no-referrer" {
		t.Errorf("Referrer-Policy = %q, want no-referrer", got)
	}
	session := b.jar.at(portal)["__Host-authproxy_session"]
	if session == "" || strings.Contains(target, session) || strings.Contains(target, b.jar.ours()["__Host-authproxy_session"]) {
		t.Error("the address of the ticket holds a session's cookie")
	}
	for _, secret := range []string{given.Query().Get("ticket"), session} {
		if secret == "" || strings.Contains(s.log.String(), secret) {
			t.Errorf("the log holds a secret: %s", secret)
		}
	}
	if !strings.Contains(s.log.String(), "event=hand_off ") {
		t.Error("the log does not tell of the hand-off")
	}
}

// TestATicketThatIsNotGood shows each ticket to a browser that is signed in at
// home. After a ticket that was ours the hand-off begins anew; one that never was
// is a page.
func TestATicketThatIsNotGood(t *testing.T) {
	set := func(name, value string) func(url.Values) {
		return func(q url.Values) { q[name] = []string{value} }
	}
	tests := []struct {
		name  string
		page  bool // it was never ours, or not for this host
		spoil func(b *browser, ticket string) string
	}{
		{"missing", true, func(b *browser, ticket string) string { return portal + "/auth/handoff" }},
		{"empty", true, func(b *browser, ticket string) string { return edited(ticket, set("ticket", "")) }},
		{"cut", true, func(b *browser, ticket string) string { return ticket[:len(ticket)-40] }},
		{"one character changed", true, func(b *browser, ticket string) string {
			return edited(ticket, func(q url.Values) { q.Set("ticket", flip(q.Get("ticket"))) })
		}},
		{"repeated", true, func(b *browser, ticket string) string {
			return edited(ticket, func(q url.Values) { q.Add("ticket", q.Get("ticket")) })
		}},
		{"a session's cookie", true, func(b *browser, ticket string) string {
			return edited(ticket, set("ticket", b.jar.ours()["__Host-authproxy_session"]))
		}},
		{"the nonce's cookie", true, func(b *browser, ticket string) string {
			return edited(ticket, set("ticket", b.jar.at(portal)[b.jar.nonces()[0]]))
		}},
		{"an ask", true, func(b *browser, ticket string) string {
			ask, _ := b.follow(signInAt(portal, "/x"), isAsk)
			u, _ := url.Parse(ask)
			return edited(ticket, set("ticket", u.Query().Get("ask")))
		}},
		{"another deployment's", true, func(b *browser, ticket string) string {
			return newHosts(t, func(s *settings) { s.key = "another deployment's key: 32 b. " }).newBrowser(t).ticket("/x")
		}},
		{"for another host of ours, with the nonce", true, func(b *browser, ticket string) string {
			name := b.jar.nonces()[0]
			b.jar.plant(shop, name, b.jar.at(portal)[name])
			return strings.Replace(ticket, portal, shop, 1)
		}},
		{"shown on our own host", true, func(b *browser, ticket string) string { return strings.Replace(ticket, portal, origin, 1) }},

		{"without the nonce", false, func(b *browser, ticket string) string {
			b.jar.expireAt(portal)
			return ticket
		}},
		{"with another hand-off's nonce", false, func(b *browser, ticket string) string {
			name := b.jar.nonces()[0]
			b.jar.expireAt(portal)
			b.get(signInAt(portal, "/x"))
			b.jar.plant(portal, name, b.jar.at(portal)[b.jar.nonces()[0]])
			return ticket
		}},
		{"late", false, func(b *browser, ticket string) string {
			b.clock.advance(30 * time.Second)
			return ticket
		}},
		{"replayed, by who kept all cookies", false, func(b *browser, ticket string) string {
			all := b.jar.copy()
			b.get(ticket)
			b.jar.restore(all)
			return ticket
		}},
		{"a second one for the same nonce, by who kept all cookies", false, func(b *browser, _ string) string {
			ask, _ := b.follow(signInAt(portal, "/x"), isAsk)
			first, _ := b.follow(ask, isTicket)
			second, _ := b.follow(ask, isTicket)
			all := b.jar.copy()
			b.get(first)
			b.jar.restore(all)
			return second
		}},
		{"of a session that has ended meanwhile", false, func(b *browser, ticket string) string {
			b.signOut()
			return ticket
		}},
	}
	s := newHosts(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := s.newBrowser(t)
			b.mustSignIn("alice")
			target := tt.spoil(b, b.ticket("/reports"))
			a := b.get(target)
			if tt.page {
				b.isPage(a, 400, "does not belong to a sign-in that began here")
				if got := a.Header.Get("Cross-Origin-Opener-Policy"); got != "same-origin" {
					t.Errorf("Cross-Origin-Opener-Policy = %q, want same-origin", got)
				}
			} else if !strings.HasPrefix(a.location(), origin+"/auth/sign-in?") {
				t.Errorf("answer = %d to %q, want the hand-off to begin anew: %s", a.StatusCode, a.location(), a.body)
			}
			if at, there := b.userAt(portal), b.userAt(shop); at != "" || there != "" {
				t.Errorf("%q and %q are signed in, want nobody on either host", at, there)
			}
		})
	}
}

// expireAt loses the cookies of a host.
func (j *jar) expireAt(origin string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.hosts, strings.TrimPrefix(origin, "https://"))
}

func TestATicketJustInTime(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	ticket := b.ticket("/reports")
	b.clock.advance(29 * time.Second)
	b.goesTo(b.get(ticket), "/reports")
	if got := b.userAt(portal); got != "alice@example.com" {
		t.Errorf("%q is signed in, want alice", got)
	}
}

func TestAHandOffThatTookTooLongBeginsAnewByItself(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	ask, _ := b.follow(signInAt(portal, "/reports"), isAsk)
	b.clock.advance(20 * time.Minute) // at the provider
	if at, _ := b.follow(ask, never); at != portal+"/reports" || b.userAt(portal) != "alice@example.com" {
		t.Errorf("a slow sign-in ended at %s with %q signed in, want %s/reports and alice", at, b.userAt(portal), portal)
	}
}

// TestAnAttackersTicketSignsNobodyIn is login CSRF: the victim is to work in the
// attacker's account.
func TestAnAttackersTicketSignsNobodyIn(t *testing.T) {
	s := newHosts(t, nil)
	victim, attacker := s.newBrowser(t), s.newBrowser(t)
	attacker.mustSignIn("bob")
	link := attacker.ticket("/attack")
	victim.get(link)
	if got := victim.userAt(portal); got != "" {
		t.Errorf("the attacker's ticket signed the victim in as %q", got)
	}
	victim.mustSignIn("alice")
	victim.follow(signInAt(portal, "/"), never)
	victim.get(attacker.ticket("/attack"))
	if got := victim.userAt(portal); got != "alice@example.com" {
		t.Errorf("the attacker's ticket changed the victim's session to %q", got)
	}
	// The attacker's nonce under the attacker's name is all that would help, and
	// __Host- keeps it from being planted by a neighbour.
	for name := range attacker.jar.at(portal) {
		if !strings.HasPrefix(name, "__Host-") {
			t.Errorf("cookie %s could be planted by a neighbouring host", name)
		}
	}
}

// TestAnAttackersAskBringsTheAttackerNothing lets the victim's browser get a
// ticket for the attacker's nonce. It goes to the victim's browser and is used up
// there.
func TestAnAttackersAskBringsTheAttackerNothing(t *testing.T) {
	s := newHosts(t, nil)
	victim, attacker := s.newBrowser(t), s.newBrowser(t)
	victim.mustSignIn("alice")
	ask, _ := attacker.follow(signInAt(portal, "/attack"), isAsk)
	ticket, _ := victim.follow(ask, isTicket)
	victim.get(ticket)
	if got := victim.userAt(portal); got != "" {
		t.Errorf("the attacker's ask signed the victim in as %q", got)
	}
	attacker.get(ticket) // from a history, or a log
	if got := attacker.userAt(portal); got != "" {
		t.Errorf("a ticket that the victim has shown signed the attacker in as %q", got)
	}
}

func TestAnAskThatIsNotOursGetsNoTicket(t *testing.T) {
	s := newHosts(t, nil)
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	good, _ := b.follow(signInAt(portal, "/x"), isAsk)
	ticket, err := url.Parse(b.ticket("/x"))
	if err != nil {
		t.Fatal(err)
	}
	former, _ := newHosts(t, func(s *settings) { s.hosts = append(s.hosts, "old.example.org") }).newBrowser(t).follow(signInAt("https://old.example.org", "/x"), isAsk)
	tests := []struct{ name, target string }{
		{"missing", origin + "/auth/handoff"},
		{"made up", origin + "/auth/handoff?ask=AAAA"},
		{"changed", edited(good, func(q url.Values) { q.Set("ask", flip(q.Get("ask"))) })},
		{"repeated", edited(good, func(q url.Values) { q.Add("ask", q.Get("ask")) })},
		{"a ticket", origin + "/auth/handoff?" + url.Values{"ask": {ticket.Query().Get("ticket")}}.Encode()},
		{"a session's cookie", origin + "/auth/handoff?" + url.Values{"ask": {b.jar.ours()["__Host-authproxy_session"]}}.Encode()},
		{"for a host that is ours no more", former},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := *b
			b.TB = t
			a := b.get(tt.target)
			b.isPage(a, 400, "does not belong to a sign-in that began here")
			u, err := url.Parse(tt.target)
			if err != nil {
				t.Fatal(err)
			}
			if rd := u.RequestURI(); tt.name != "repeated" && s.web.IsReturnURL(rd) {
				t.Errorf("a sign-in may end on %s", rd)
			}
		})
	}
	for _, frame := range []string{"iframe", "image", "empty"} {
		mode := map[string]string{"iframe": "navigate", "image": "no-cors", "empty": "cors"}[frame]
		if a := b.get(good, "Sec-Fetch-Mode", mode, "Sec-Fetch-Dest", frame); a.location() != "" {
			t.Errorf("a request for %s is sent to %s, want no ticket", frame, a.location())
		}
	}
	if a := b.get(good, "Sec-Purpose", "prefetch"); a.location() != "" {
		t.Errorf("a prefetch is sent to %s, want no ticket", a.location())
	}
}

func TestReturnURLsOfAHandOffAreJudgedWhenUsed(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t) // with every port
	after := newSite(t, func(s *settings) { s.hosts = append(s.hosts, "portal.example.org:8443") }).newBrowser(t)
	after.jar, after.client.Jar = b.jar, b.jar
	ticket, _ := b.follow(signInAt(portal+":8443", portal+":9443/reports"), isTicket)
	after.goesTo(after.get(ticket), "/")
}

func TestWhoIsNotAdmittedGetsNoTicket(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	strict := newHosts(t, func(s *settings) { s.admit = policy.Members{Emails: []string{"bob@example.com"}} }).newBrowser(t)
	strict.jar, strict.client.Jar = b.jar, b.jar
	b.mustSignIn("alice")
	ask, _ := b.follow(signInAt(portal, "/x"), isAsk)
	strict.isPage(strict.get(ask), 403, "may not use the application", "alice@example.com")
}

func TestAHostThatIsNotOursBeginsNoHandOff(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	for _, host := range []string{"evil.example", "portal.example.org.evil.example", "app.example.com.", "APP.example.com", "app.example.com:8443"} {
		a := b.get("https://" + host + "/auth/sign-in")
		for _, c := range a.Cookies() {
			if strings.HasPrefix(c.Name, "__Host-authproxy_handoff_") {
				t.Errorf("a hand-off begins on %s", host)
			}
		}
		if strings.Contains(a.location(), "handoff") {
			t.Errorf("%s is sent to %s", host, a.location())
		}
	}
}

func TestNoTicketAndNoAskIsACookie(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	ask, _ := b.follow(signInAt(portal, "/x"), isAsk)
	for _, target := range []string{ask, b.ticket("/x")} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		sealed := u.Query().Get("ticket") + u.Query().Get("ask")
		thief := b.site.newBrowser(t)
		for _, name := range []string{"__Host-authproxy_session", "__Host-authproxy_signed_out"} {
			thief.jar.plant(portal, name, sealed)
			thief.jar.plant(origin, name, sealed)
		}
		if thief.userAt(portal) != "" || thief.user() != "" {
			t.Errorf("%s opens as a session's cookie", target)
		}
		thief.isPage(thief.get("/auth/callback/one?"+url.Values{"state": {sealed}, "code": {"x"}}.Encode()), 400)
		thief.isPage(thief.get("/auth/sign-out?"+url.Values{"state": {sealed}}.Encode()), 200, "You are signed out")
	}
}

func TestAReplicaTakesWhatAnotherHasGiven(t *testing.T) {
	one, two := newHosts(t, nil), newHosts(t, nil) // the keys are all they share
	b, other := one.newBrowser(t), two.newBrowser(t)
	other.jar = b.jar
	other.client.Jar = b.jar
	other.mustSignIn("alice")
	ask, _ := b.follow(signInAt(portal, "/reports"), isAsk)
	ticket, _ := other.follow(ask, isTicket)
	b.goesTo(b.get(ticket), "/reports")
	if got := other.userAt(portal); got != "alice@example.com" {
		t.Errorf("%q is signed in, want alice", got)
	}
	b.jar.drop("")
	delete(b.jar.hosts, "portal.example.org")
	other.get(ticket) // the list of used ones is each replica's own; the nonce is gone
	if got := other.userAt(portal); got != "" {
		t.Errorf("a ticket that was used on another replica signs %q in", got)
	}
}

func TestABrowserThatKeepsNoCookiesEndsOnAPage(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	lose := func(*url.URL) bool { b.jar.expireAt(portal); return false }
	at, a := b.follow(signInAt(portal, "/reports"), lose)
	b.isPage(a, 400, "did not send back the cookie", "cookie.domain", "Try again")
	if !strings.HasPrefix(at, portal+"/auth/handoff?") {
		t.Errorf("the page is at %.60s, want the other host", at)
	}
}

func TestABrowserThatKeepsNoSessionEndsOnAPage(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	for range 3 {
		b.goesTo(b.get(b.ticket("/reports")), "/reports")
		cookies := b.jar.hosts["portal.example.org"]
		b.jar.hosts["portal.example.org"] = slices.DeleteFunc(cookies, func(k kept) bool { return k.name == "__Host-authproxy_session" })
	}
	b.isPage(b.get(signInAt(portal, "/reports")), 400, "does not send back the session&#39;s cookie")
}

func TestAtMostFiveHandOffsAreUnderWay(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	for range 12 {
		b.clock.advance(time.Second)
		b.get(signInAt(portal, "/x"))
	}
	if n := len(b.jar.nonces()); n != 5 {
		t.Errorf("%d hand-offs are under way, want 5", n)
	}
}

func TestSignOutOnAnotherHostEndsTheSessionEverywhere(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	b.follow(signInAt(portal, "/"), never)
	b.follow(signInAt(shop, "/"), never)
	ask := b.get(portal + "/auth/sign-out?rd=/bye")
	if csp := ask.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' "+portal+" ") || !strings.Contains(csp, " "+origin) {
		t.Errorf("Content-Security-Policy = %q, which keeps Chromium from following the form", csp)
	}
	out := b.send(http.MethodPost, portal+"/auth/sign-out", "rd=/bye", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	if out.StatusCode != http.StatusSeeOther || !strings.HasPrefix(out.location(), origin+"/auth/sign-out?state=") {
		t.Fatalf("sign-out answers %d to %q, want the way over %s", out.StatusCode, out.location(), origin)
	}
	if got := b.userAt(portal) + b.userAt(shop) + b.user(); got != "" {
		t.Errorf("after sign-out %q is signed in, want nobody on any host", got)
	}
	b.goesTo(b.get(out.location()), portal+"/bye")
	if _, there := b.jar.ours()["__Host-authproxy_session"]; there {
		t.Error("the session's cookie is still on public_url's host")
	}
	if begun, _ := b.follow(signInAt(portal, "/"), func(u *url.URL) bool { return u.Host == host && strings.HasPrefix(u.Path, "/auth/sign-in") }); begun == "" {
		t.Fatal("sign-in does not lead to public_url's host")
	} else if a := b.get(begun); a.StatusCode != http.StatusOK || !strings.Contains(a.body, "You are signed out") {
		t.Errorf("the next sign-in answers %d to %q, want the page that asks for the account", a.StatusCode, a.location())
	}
}

func TestSignOutAtHomeEndsTheSessionOnOtherHosts(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	b.follow(signInAt(portal, "/"), never)
	b.signOut()
	if got := b.userAt(portal); got != "" {
		t.Errorf("on the other host %q is signed in, want nobody", got)
	}
}

func TestSignOutOnAnotherReplicaReachesPublicHost(t *testing.T) {
	one, two := newHosts(t, nil), newHosts(t, nil)
	b, other := one.newBrowser(t), two.newBrowser(t)
	other.jar, other.client.Jar = b.jar, b.jar
	b.mustSignIn("alice")
	b.follow(signInAt(portal, "/"), never)
	out := other.send(http.MethodPost, portal+"/auth/sign-out", "", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	if b.user() == "" {
		t.Fatal("this replica knows of the sign-out already, so the test shows nothing")
	}
	b.get(out.location())
	if got := b.user(); got != "" {
		t.Errorf("on public_url's host %q is signed in, want nobody", got)
	}
}

func TestSignOutWithACopyThatIsOverAsksAtHome(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	b.follow(signInAt(portal, "/"), never)
	b.clock.advance(25 * time.Hour)
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"}
	for _, a := range []answer{b.get(portal + "/auth/sign-out?rd=/bye"), b.send(http.MethodPost, portal+"/auth/sign-out", "rd=/bye", form...)} {
		want := origin + "/auth/sign-out?" + url.Values{"rd": {portal + "/bye"}}.Encode()
		if a.location() != want {
			t.Errorf("answer = %d to %q, want %q, where the session is", a.StatusCode, a.location(), want)
		}
	}
	if b.user() == "" {
		t.Error("the session at home has ended without a word")
	}
}

func TestAnotherSessionsSignOutEndsNothing(t *testing.T) {
	s := newHosts(t, nil)
	victim, attacker := s.newBrowser(t), s.newBrowser(t)
	victim.mustSignIn("alice")
	signOut := func() string {
		attacker.mustSignIn("bob")
		attacker.follow(signInAt(portal, "/"), never)
		return attacker.send(http.MethodPost, portal+"/auth/sign-out", "", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin").location()
	}
	victim.get(signOut())
	if victim.user() == "" {
		t.Error("an attacker's link signed the victim out")
	}
	late := signOut()
	victim.signOut()
	victim.jar.drop("__Host-authproxy_signed_out")
	s.clock.advance(30 * time.Second)
	victim.get(late)
	if _, marked := victim.jar.ours()["__Host-authproxy_signed_out"]; marked {
		t.Error("a sign-out that is over still counts")
	}
}

func TestScriptsOfAnotherHostAreSentToItsOwnSignIn(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	_, v := b.api(http.MethodPost, portal+"/auth/sign-in/social", `{"provider":"one","callbackURL":"/x"}`, "Content-Type", "application/json")
	if got, want := dig(v, "url"), portal+"/auth/sign-in/one?rd=%2Fx"; got != want {
		t.Errorf("url = %v, want %s", got, want)
	}
	_, v = b.api(http.MethodGet, portal+"/auth/providers", "")
	if got, want := dig(v, "one", "signinUrl"), portal+"/auth/sign-in/one"; got != want {
		t.Errorf("signinUrl = %v, want %s", got, want)
	}
	_, v = b.api(http.MethodGet, portal+"/auth/userinfo", "")
	if got, want := dig(v, "sign_in"), portal+"/auth/sign-in?rd=%2F"; got != want {
		t.Errorf("sign_in = %v, want %s", got, want)
	}
	if at, _ := b.follow(portal+"/auth/sign-in/one?rd=/x&login_hint=alice", never); at != portal+"/x" {
		t.Errorf("sign-in by a provider's own address ended at %s, want %s/x", at, portal)
	}
}

// inGroups returns somebody who is in n groups with long names.
func inGroups(n int) devidp.User {
	many := devidp.User{Login: "many", Subject: "88bb", Email: "many@example.com", EmailVerified: true}
	for range n {
		many.Groups = append(many.Groups, rand.Text()+rand.Text())
	}
	return many
}

func TestTokensThatFitNoAddressAreLeftOut(t *testing.T) {
	for _, tt := range []struct {
		name    string
		groups  int
		leftOut bool
	}{{"a few groups", 2, false}, {"the same groups again in the ID token", 60, true}} {
		many := inGroups(tt.groups)
		b := newHosts(t, func(s *settings) { s.users, s.upstreamGets = append(s.users, many), identity.AuthorizationIDToken }).newBrowser(t)
		b.mustSignIn("many")
		at, _ := b.follow(signInAt(portal, "/x"), never)
		if got := b.userAt(portal); at != portal+"/x" || got != "many@example.com" {
			t.Errorf("%s: the hand-off ended at %s with %q signed in", tt.name, at, got)
		}
		if got := strings.Contains(b.log.String(), "tokens do not fit a hand-off"); got != tt.leftOut {
			t.Errorf("%s: the log says that tokens were left out: %v, want %v", tt.name, got, tt.leftOut)
		}
	}
}

func TestATicketThatFitsNoAddressIsAPageNotAFault(t *testing.T) {
	many := inGroups(120)
	b := newHosts(t, func(s *settings) { s.users = append(s.users, many) }).newBrowser(t)
	b.mustSignIn("many")
	_, a := b.follow(signInAt(portal, "/"), never)
	b.isPage(a, 403, "too many groups", "portal.example.org")
}
