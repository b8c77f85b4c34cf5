package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"authproxy/cookie"
	"authproxy/devidp"
	"authproxy/identity"
	"authproxy/policy"
	"authproxy/session/memstore"
)

// class has the provider say that sign-ins are of this class.
func (s *site) class(t *testing.T, acr string) {
	t.Helper()
	s.idps["one"].SetFaults(devidp.Faults{ClaimsEdit: func(claims map[string]any) {
		if acr != "" {
			claims["acr"] = acr
		}
	}})
}

// gold asks for a sign-in of the class gold.
func gold() url.Values {
	return url.Values{"acr_values": {"gold"}, "login_hint": {"alice"}, "rd": {"/vault"}}
}

func TestASignInIsAskedForWhatItMustShow(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	begun := b.get("/auth/sign-in/one?" + url.Values{"acr_values": {"gold silver"}, "max_age": {"300"}, "amr": {"otp"}, "rd": {"/vault"}}.Encode())
	for name, want := range map[string]string{"acr_values": "gold silver", "max_age": "300", "prompt": "login"} {
		if got := begun.query(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	plain := b.get("/auth/sign-in/one?rd=/")
	for _, name := range []string{"acr_values", "max_age", "prompt"} {
		if got := plain.query(name); got != "" {
			t.Errorf("any sign-in asks for %s=%s", name, got)
		}
	}
}

func TestASignInThatShowsItBeginsAnotherSession(t *testing.T) {
	s := newSite(t, nil)
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	before := b.sessionID()
	s.class(t, "gold")
	b.goesTo(b.get(b.beginAt("one", gold()).location()), "/vault")
	if after := b.sessionID(); after == before || after == "" {
		t.Errorf("the session's id is %q before and %q after, want another one", before, after)
	}
	// And now nobody is asked.
	b.goesTo(b.get("/auth/sign-in?acr_values=gold&rd=/vault"), "/vault")
}

func TestASignInThatDoesNotShowItIsRefusedAndEndsNothing(t *testing.T) {
	for name, row := range map[string]struct {
		ask  url.Values
		says string
	}{
		"no class":                   {gold(), "classes gold"},
		"other means":                {url.Values{"amr": {"otp"}}, "means otp"},
		"nobody says when":           {url.Values{"max_age": {"60"}}, "less than 1m ago"},
		"long ago, whatever it took": {url.Values{"max_age": {"59"}}, "less than 59s ago"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			b := s.newBrowser(t)
			b.mustSignIn("alice")
			before := b.sessionID()
			s.idps["one"].SetFaults(devidp.Faults{ClaimsEdit: func(claims map[string]any) {
				if row.ask.Get("max_age") == "60" {
					delete(claims, "auth_time")
				} else {
					claims["auth_time"] = s.clock.Now().Add(-time.Minute).Unix()
				}
			}})
			row.ask.Set("login_hint", "alice")
			row.ask.Set("rd", "/vault")
			begun := b.get("/auth/sign-in/one?" + row.ask.Encode())
			there, err := url.Parse(begun.location())
			if err != nil {
				t.Fatal(err)
			}
			q := there.Query()
			q.Del("prompt") // devidp would show its page
			there.RawQuery = q.Encode()
			back := b.get(there.String())
			b.isPage(b.get(back.location()), http.StatusForbidden, "This page needs another sign-in", row.says, "Try again")
			if got := b.sessionID(); got != before {
				t.Errorf("the session is %q, want %q as before", got, before)
			}
		})
	}
}

func TestAFirstSignInThatDoesNotShowItIsGoodForOtherPages(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.isPage(b.get(b.beginAt("one", gold()).location()), http.StatusForbidden, "This page needs another sign-in")
	if b.user() != "alice@example.com" {
		t.Errorf("signed in is %q, want alice", b.user())
	}
}

func TestAProviderThatCannotDoItIsNotAskedAgain(t *testing.T) {
	s := newSite(t, nil)
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	s.idps["one"].SetFaults(devidp.Faults{CallbackEdit: func(q url.Values) {
		q.Del("code")
		q.Set("error", "unmet_authentication_requirements")
	}})
	b.isPage(b.get(b.beginAt("one", gold()).location()), http.StatusForbidden, "This page needs another sign-in")
	if b.user() != "alice@example.com" {
		t.Error("alice was signed out")
	}
}

// The provider's clock need not be ours, and "less than" need not be "at most" there:
// it would send somebody straight back who is too old for us.
func TestWhoIsTooOldForUsIsAskedByTheProvider(t *testing.T) {
	s := newSite(t, nil)
	s.idps["one"].SetFaults(devidp.Faults{ClaimsEdit: func(claims map[string]any) {
		if at, ok := claims["auth_time"].(int64); ok {
			claims["auth_time"] = at - 10
		}
	}})
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	for _, row := range []struct {
		after  time.Duration
		path   string
		prompt string
	}{
		{0, "/auth/sign-in/one?max_age=300&rd=/vault", ""}, // fresh enough, but gone to all the same
		{295 * time.Second, "/auth/sign-in?max_age=300&rd=/vault", "login"},
		{0, "/auth/sign-in/one?max_age=300&rd=/vault", "login"},
		{0, "/auth/sign-in?acr_values=gold&rd=/vault", ""},
	} {
		s.clock.advance(row.after)
		begun := b.get(row.path)
		if prompt := begun.query("prompt"); prompt != row.prompt {
			t.Errorf("%s asks with prompt %q, want %q", row.path, prompt, row.prompt)
		}
	}
	if page := b.get(b.get("/auth/sign-in?max_age=300&rd=/vault").location()); page.StatusCode != http.StatusOK {
		t.Errorf("the provider answers %d %s, want it to ask", page.StatusCode, page.location())
	}
}

// The provider says that it did what it was asked for, and the rules want more
// all the same: by itself that would never end.
func TestRulesThatAreNeverContentDoNotSendABrowserRoundInCircles(t *testing.T) {
	s := newSite(t, func(set *settings) {
		set.needs = func(*policy.Principal, string) *policy.Ask { return &policy.Ask{ACRValues: []string{"gold"}} }
	})
	s.class(t, "gold")
	b := s.newBrowser(t)
	for range 3 {
		b.goesTo(b.get(b.beginAt("one", gold()).location()), "/vault")
	}
	b.isPage(b.get("/auth/sign-in/one?"+gold().Encode()), http.StatusForbidden, "This page needs another sign-in")
}

func TestAnotherSignInStaysAtTheProviderOfTheSession(t *testing.T) {
	s := newSite(t, func(set *settings) { set.providers = []string{"one", "two"} })
	b := s.newBrowser(t)
	b.isPage(b.get("/auth/sign-in?acr_values=gold&rd=/vault"), http.StatusOK, "Provider one", "Provider two", "acr_values=gold")
	b.get(b.beginAt("two", url.Values{"login_hint": {"alice"}, "rd": {"/"}}).location())
	if got, want := b.get("/auth/sign-in?acr_values=gold&rd=/vault").query("redirect_uri"), origin+"/auth/callback/two"; got != want {
		t.Errorf("the way leads back to %s, want %s", got, want)
	}
}

func TestWithoutParametersTheRulesSayWhatIsNeeded(t *testing.T) {
	s := newSite(t, func(set *settings) {
		set.needs = func(_ *policy.Principal, returnTo string) *policy.Ask {
			if !strings.HasPrefix(returnTo, "/vault") {
				return nil
			}
			return &policy.Ask{ACRValues: []string{"gold"}}
		}
	})
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	// An ingress that only knows 401 sends a browser here that is signed in.
	if got := b.get("/auth/sign-in?rd=/vault").query("acr_values"); got != "gold" {
		t.Errorf("acr_values = %q, want gold", got)
	}
	b.goesTo(b.get("/auth/sign-in?rd=/"), "/")
}

func TestAFlowThatStartsAgainAsksForTheSame(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	back := b.authorize(b.get("/auth/sign-in/one?" + gold().Encode()))
	b.jar = newJar(b.clock)
	b.client.Jar = b.jar
	again := b.get(back.location())
	if got := again.query("acr_values"); again.StatusCode != http.StatusFound || got != "gold" {
		t.Errorf("answer = %d, acr_values %q, want the sign-in to start again for gold", again.StatusCode, got)
	}
}

func TestNobodyKnowsWhenIfTheProviderDoesNotSay(t *testing.T) {
	s := newSite(t, nil)
	s.idps["one"].SetFaults(devidp.Faults{ClaimsEdit: func(claims map[string]any) { delete(claims, "auth_time") }})
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	begun := b.get("/auth/sign-in?max_age=3600&rd=/")
	if got := begun.query("max_age"); got != "3600" {
		t.Errorf("max_age = %q: a sign-in of which nobody knows when it was is taken for fresh", got)
	}
	if got := begun.query("prompt"); got != "" {
		t.Errorf("prompt = %q, though the provider may know of a fresh one", got)
	}
}

func TestMappedClaimsAreToldToScripts(t *testing.T) {
	s := newSite(t, func(set *settings) {
		set.claims = identity.ClaimMap{"department": {From: "id_token.org.dept", Default: "none"}, "level": {From: "id_token.level"}}
	})
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	_, v := b.api(http.MethodGet, "/auth/session", "")
	if got := dig(v, "user", "department"); got != "none" || dig(v, "user", "level") != nil {
		t.Errorf("department = %v, level = %v, want the default and nothing", got, dig(v, "user", "level"))
	}
	s.idps["one"].SetFaults(devidp.Faults{ClaimsEdit: func(claims map[string]any) {
		claims["org"], claims["level"] = map[string]any{"dept": "sales"}, 3
	}})
	b.mustSignIn("alice")
	_, v = b.api(http.MethodGet, "/auth/session", "")
	if dig(v, "user", "department") != "sales" || dig(v, "user", "level") != 3.0 || dig(v, "user", "email") != "alice@example.com" {
		t.Errorf("user = %v, want department sales and level 3 beside the rest", dig(v, "user"))
	}
}

func TestClaimsThatDoNotFitEndTheSignInWithTheCause(t *testing.T) {
	s := newSite(t, func(set *settings) { set.claims = identity.ClaimMap{"essay": {From: "id_token.essay"}} })
	s.idps["one"].SetFaults(devidp.Faults{ClaimsEdit: func(claims map[string]any) { claims["essay"] = strings.Repeat("wxyz", identity.MaxClaimBytes/4) }})
	b := s.newBrowser(t)
	a := b.signIn("alice", "/")
	b.isPage(a, http.StatusForbidden, "Sign-in could not be completed", "essay, from id_token.essay", "identity.claims")
	if strings.Contains(a.body+s.log.String(), "wxyz") || b.user() != "" {
		t.Errorf("the claim is told, or somebody is signed in: %q", b.user())
	}
}

func TestTheApplicationsOwnSignOutLinkWorks(t *testing.T) {
	own := []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
	for name, row := range map[string]struct {
		method  string
		header  []string
		signOut bool
	}{
		"its link":                        {http.MethodGet, own, true},
		"its form":                        {http.MethodPost, own, true},
		"a link elsewhere":                {http.MethodGet, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, false},
		"a link of a neighbour":           {http.MethodGet, []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, false},
		"the address bar":                 {http.MethodGet, []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, false},
		"a picture on its page":           {http.MethodGet, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, false},
		"a frame on its page":             {http.MethodGet, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, false},
		"a prefetch":                      {http.MethodGet, append([]string{"Sec-Purpose", "prefetch"}, own...), false},
		"a browser that says nothing":     {http.MethodGet, nil, false},
		"a form elsewhere":                {http.MethodPost, []string{"Sec-Fetch-Site", "cross-site"}, false},
		"another method":                  {http.MethodPut, own, false},
		"a look without following (HEAD)": {http.MethodHead, own, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newSite(t, nil).newBrowser(t)
			b.mustSignIn("alice")
			header := row.header
			if row.method == http.MethodPost {
				header = append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)
			}
			a := b.send(row.method, "/logout?state=x&rd=https://evil.example/", "", header...)
			if signedOut := b.user() == ""; signedOut != row.signOut {
				t.Errorf("answer %d %s, signed out %v, want %v", a.StatusCode, a.location(), signedOut, row.signOut)
			}
			if strings.Contains(a.location()+a.body, "evil.example") {
				t.Errorf("the way leads to where the query says: %s %s", a.location(), a.body)
			}
			if row.method == http.MethodGet && !row.signOut {
				b.isPage(a, http.StatusOK, "Sign out")
			}
		})
	}
}

// An application's form may be of any size, as those with a __VIEWSTATE are, and
// what it says is for the application.
func TestTheApplicationsOwnSignOutFormIsNotRead(t *testing.T) {
	s := newSite(t, func(set *settings) { set.store = memstore.New(nil) })
	one, other := s.newBrowser(t), s.newBrowser(t)
	one.mustSignIn("alice")
	other.mustSignIn("alice")
	form := "scope=all&rd=/elsewhere&__VIEWSTATE=" + strings.Repeat("x", 64<<10)
	a := one.send(http.MethodPost, "/logout", form, "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	if a.StatusCode != http.StatusSeeOther || strings.Contains(a.location(), "elsewhere") || one.user() != "" {
		t.Errorf("answer = %d %s, signed in is %q; want to be signed out, and not to go where the form says", a.StatusCode, a.location(), one.user())
	}
	if other.user() == "" {
		t.Error("the form's scope ended the sessions in other browsers")
	}
}

func TestTheApplicationsOwnSignInLinkWorks(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	if a := b.get("/login?next=/x"); a.StatusCode != http.StatusFound || !strings.Contains(a.location(), "/authorize?") {
		t.Errorf("answer = %d %s, want the way to the provider", a.StatusCode, a.location())
	}
}

func TestTheApplicationsCookiesEndWithTheSessionAndWithTheNextPerson(t *testing.T) {
	const removed = "JSESSIONID=; Max-Age=0; Path=/app"
	cleared := func(a answer) bool { return strings.Contains(strings.Join(a.Header["Set-Cookie"], "\n"), removed) }
	b := newSite(t, func(set *settings) { set.foreign = []cookie.Foreign{{Name: "JSESSIONID", Path: "/app"}} }).newBrowser(t)
	if a := b.signIn("alice", "/"); !cleared(a) {
		t.Error("alice's first sign-in left what may be somebody's")
	}
	if a := b.signIn("alice", "/"); cleared(a) {
		t.Error("alice's second sign-in removed her own")
	}
	if a := b.signIn("bob", "/"); !cleared(a) {
		t.Error("bob's sign-in left alice's")
	}
	if a := b.signOut(); !cleared(a) {
		t.Error("the sign-out left bob's")
	}
}

// vault has the rules want a session of the class gold for what is below /vault on
// a host of ours, as proxy.Needs does: of what the session shows, not of what it was
// asked for.
func vault(onHost string) func(*settings) {
	return func(set *settings) {
		set.needs = func(who *policy.Principal, returnTo string) *policy.Ask {
			path, ok := strings.CutPrefix(returnTo, onHost)
			if !ok || !strings.HasPrefix(path, "/vault") || who != nil && who.ACR == "gold" {
				return nil
			}
			return &policy.Ask{ACRValues: []string{"gold"}}
		}
	}
}

// A session is no reason to send somebody on to a page that wants more: it would
// send the browser back, and so on.
func TestAnAnswerWithoutItsFlowDoesNotLeadToAPageThatWantsMore(t *testing.T) {
	for name, row := range map[string]struct {
		rules func(*settings)
		begun url.Values
	}{
		"the request said so": {nil, gold()},
		"the rules say so":    {vault(""), url.Values{"login_hint": {"alice"}, "rd": {"/vault"}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newSite(t, row.rules).newBrowser(t)
			b.mustSignIn("alice")
			answer := b.authorize(b.get("/auth/sign-in/one?" + row.begun.Encode())).location()
			b.jar.drop("__Host-authproxy_flow_")
			again := b.get(answer)
			if !strings.Contains(again.location(), "/authorize?") {
				t.Fatalf("answer = %d to %q, want the sign-in to start again", again.StatusCode, again.location())
			}
			answer = b.authorize(again).location()
			b.jar.drop("__Host-authproxy_flow_")
			b.isPage(b.get(answer), http.StatusBadRequest, "Sign-in could not be completed", "cookie")
			if b.user() != "alice@example.com" {
				t.Error("alice was signed out")
			}
		})
	}
}

func TestAnAnswerWithoutItsFlowLeadsOnIfTheSessionIsEnough(t *testing.T) {
	s := newSite(t, vault(""))
	s.class(t, "gold")
	b := s.newBrowser(t)
	answer := b.beginAt("one", gold()).location()
	b.goesTo(b.get(answer), "/vault")
	b.goesTo(b.get(answer), "/vault") // the back button
}

func TestAHandOffThatStartsAgainDoesNotLeadToAPageThatWantsMore(t *testing.T) {
	s := newHosts(t, vault(portal))
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	b.follow(signInAt(portal, "/a"), never)
	if b.userAt(portal) != "alice@example.com" {
		t.Fatal("alice has no session there")
	}
	// The sign-in page at home looks at the page where the hand-off ends, also if
	// the way there does not say what that wants, as behind nginx.
	for _, rd := range []string{"/vault", portal + "/vault"} {
		home := b.get(portal + "/auth/sign-in?rd=" + url.QueryEscape(rd)).location()
		if !strings.HasPrefix(home, origin+"/auth/sign-in?") {
			t.Fatalf("rd=%s: the way is to %q, want home", rd, home)
		}
		if got := b.get(edited(home, func(q url.Values) { q.Del("acr_values") })).query("acr_values"); got != "gold" {
			t.Errorf("rd=%s: at home the provider is asked for the classes %q, want gold", rd, got)
		}
	}
	// A ticket whose nonce is gone.
	ask, _ := b.follow(signInAt(portal, "/vault"), func(u *url.URL) bool { return u.Path == "/auth/sign-in" && u.Host == host })
	u, err := url.Parse(ask)
	if err != nil {
		t.Fatal(err)
	}
	ticket, _ := b.follow(origin+u.Query().Get("rd"), isTicket)
	b.jar.dropAt("portal.example.org", "__Host-authproxy_handoff_")
	again := b.get(ticket)
	if !strings.HasPrefix(again.location(), origin+"/auth/sign-in?") || again.query("acr_values") != "gold" {
		t.Errorf("answer = %d to %q, want the hand-off to start again for gold", again.StatusCode, again.location())
	}
}

// Another replica may take a session for none, or for one that is not enough, which
// is fine here: other keys, other rules, another clock.
func TestWhoIsSentBackAgainAndAgainIsTold(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	b.follow(signInAt(portal, "/a"), never)
	for _, at := range []string{origin, portal} {
		for range 3 {
			b.goesTo(b.get(at+"/auth/sign-in?rd=/x"), "/x")
		}
		b.isPage(b.get(at+"/auth/sign-in?rd=/x"), http.StatusBadRequest, "goes round in circles", "alice@example.com", "clocks", "another account")
		b.goesTo(b.get(at+"/auth/sign-in?rd=/y"), "/y")
		for range 2 {
			b.goesTo(b.get(at+"/auth/sign-in?rd=/x"), "/x")
		}
		b.clock.advance(time.Minute)
		for range 3 {
			b.goesTo(b.get(at+"/auth/sign-in?rd=/x"), "/x")
		}
		if b.userAt(at) != "alice@example.com" {
			t.Errorf("%s: alice was signed out", at)
		}
	}
}

// Each time a hand-off begins, what leads back to it has another address.
func TestWhoIsSentBackToOneHandOffAfterTheOtherIsTold(t *testing.T) {
	b := newHosts(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	for range 3 {
		b.ticket("/x")
	}
	home := b.get(signInAt(portal, "/x")).location()
	b.isPage(b.get(home), http.StatusBadRequest, "goes round in circles", "Try again")
}
