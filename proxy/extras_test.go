package proxy

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"authproxy/cookie"
	"authproxy/identity"
	"authproxy/policy"
	"authproxy/session"
)

// withExtras is a setup whose one upstream gets extras.
func withExtras(e Extras, authorization string) setup {
	return setup{
		rules: anyoneBelowPublic(),
		proxy: func(c *Config) { c.Routes[0].Upstream.Extras = e },
		identity: func(c *identity.Config) {
			if authorization != "" {
				c.Authorization = authorization
			}
		},
	}
}

// seller is alice with mapped claims.
func seller() session.User {
	u := alice()
	u.Claims = map[string]any{"department": "sales\r\nX-Admin: 1", "n": int64(7)}
	return u
}

func TestAnApplicationGetsHeadersOfItsOwn(t *testing.T) {
	w := newWorld(t, withExtras(Extras{Headers: map[string]string{"x-dept": "dept {{ claims.department }}/{{ claims.n }}", "X-Mail": "user.email"}}, ""))
	cookies := w.signIn(seller())
	forged := http.Header{"X-Dept": {"forged"}, "X_dept": {"forged"}, "X.Mail": {"forged"}, "Connection": {"X-Dept"}}
	got := w.pass(ask{target: "/a", header: with(forged, "Cookie", cookies)})
	for name, want := range map[string]string{"X-Dept": "dept sales%0D%0AX-Admin: 1/7", "X-Mail": "alice@example.com"} {
		if strings.Join(got.Header[name], "|") != want {
			t.Errorf("%s = %q, want %q", name, got.Header[name], want)
		}
	}
	anonymous := w.pass(ask{target: "/public/a", header: forged})
	for _, h := range []http.Header{got.Header, anonymous.Header} {
		for _, name := range []string{"X_dept", "X.Mail"} {
			if len(h[name]) > 0 {
				t.Errorf("the client's %s reached the application: %q", name, h[name])
			}
		}
	}
	if len(anonymous.Header["X-Dept"])+len(anonymous.Header["X-Mail"]) > 0 {
		t.Errorf("of nobody the application was told %v", anonymous.Header)
	}
}

// What a trusted proxy says of where a request came from is continued. A header
// that an application gets by such a name is none of that: the proxy has it from
// its client.
func TestATrustedProxyHandsOnNoHeaderThatOnlyWeMaySay(t *testing.T) {
	s := withExtras(Extras{Headers: map[string]string{"x-forwarded-roles": "user.roles"}}, "")
	s.trusted = []string{"127.0.0.0/8"}
	w := newWorld(t, s)
	header := http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Roles": {"root"}, "X-Forwarded-Port": {"443"}}
	for name, cookies := range map[string]string{"nobody": "", "bob": w.signIn(bob())} {
		got := w.pass(ask{target: "/public/a", header: with(header, "Cookie", cookies)}).Header
		if len(got["X-Forwarded-Roles"]) > 0 || got.Get("X-Forwarded-Port") != "443" {
			t.Errorf("of %s the application is told X-Forwarded-Roles %q and X-Forwarded-Port %q, want only the port", name, got["X-Forwarded-Roles"], got["X-Forwarded-Port"])
		}
	}
	got := w.pass(ask{target: "/a", header: with(header, "Cookie", w.signIn(alice()))}).Header
	if got.Get("X-Forwarded-Roles") != "admin" {
		t.Errorf("of alice the application is told X-Forwarded-Roles %q, want admin", got["X-Forwarded-Roles"])
	}
}

func TestExtraHeadersThatAreTooLargeAreRefused(t *testing.T) {
	w := newWorld(t, withExtras(Extras{Headers: map[string]string{"X-Dept": "claims.department"}}, ""))
	u := alice()
	u.Claims = map[string]any{"department": strings.Repeat("ä", identity.MaxHeaderBytes/2)}
	res := w.do(ask{target: "/a", header: http.Header{"Cookie": {w.signIn(u)}}})
	if res.StatusCode != http.StatusForbidden || res.json(t)["error"] != "identity_too_large" {
		t.Errorf("answer = %d %s, want 403 identity_too_large", res.StatusCode, res.body)
	}
	if res := w.do(ask{target: "/a", header: browser(w.signIn(u))}); !strings.Contains(res.body, "alice@example.com") || !strings.Contains(res.body, "prompt=select_account") {
		t.Errorf("the page does not say who is refused, or offers no other account:\n%s", res.body)
	}
}

func TestAnApplicationGetsItsCredentials(t *testing.T) {
	basic := func(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }
	for _, mode := range []string{identity.AuthorizationJWT, identity.AuthorizationPass} {
		plain := newWorld(t, withExtras(Extras{Username: "proxy", Password: "s:3"}, mode))
		own := newWorld(t, withExtras(Extras{Username: "{{ user.name }}:x", Password: "p"}, mode))
		for _, row := range []struct {
			name, target, user, want string
			w                        *world
		}{
			{"the proxy's, for somebody", "/a", "alice", basic("proxy:s:3"), plain},
			{"the proxy's, for nobody", "/public/a", "", basic("proxy:s:3"), plain},
			{"a person's", "/a", "alice", basic("Alice Adams%3Ax:p"), own},
			{"nobody's", "/public/a", "", "", own},
		} {
			header := http.Header{"Authorization": {"Basic forged"}}
			if row.user != "" {
				header = with(header, "Cookie", row.w.signIn(alice()))
			}
			got := row.w.pass(ask{target: row.target, header: header})
			if text := strings.Join(got.Header["Authorization"], "|"); text != row.want {
				t.Errorf("%s, with authorization: %s: %q, want %q", row.name, mode, text, row.want)
			}
		}
	}
}

func TestAnApplicationGetsTokensInCookies(t *testing.T) {
	w := newWorld(t, withExtras(Extras{Cookies: map[string]string{"token": identity.AuthorizationJWT, "at": identity.AuthorizationAccessToken}}, identity.AuthorizationNone))
	cookies := w.start(&session.Session{User: alice(), Tokens: session.Tokens{Access: "an-access-token"}})
	got := w.pass(ask{target: "/a", header: http.Header{"Cookie": {"a=1; token=forged; b=2; at=forged", cookies}}})
	line := strings.Join(got.Header["Cookie"], " | ")
	raw, ok := strings.CutPrefix(line, "at=an-access-token; token=")
	raw, own := strings.CutSuffix(raw, "; a=1; b=2")
	if !ok || !own {
		t.Fatalf("Cookie = %q, want the tokens, and then the application's own", line)
	}
	if claims, err := w.tokens.Verify(raw); err != nil || claims.Email != "alice@example.com" {
		t.Errorf("the cookie's token: %v, %v, want alice's", claims, err)
	}
	anonymous := w.pass(ask{target: "/public/a", header: http.Header{"Cookie": {"token=forged"}}})
	if len(anonymous.Header["Cookie"]) > 0 {
		t.Errorf("of nobody the application got Cookie %q", anonymous.Header["Cookie"])
	}
}

// What an application takes for the token's cookie comes from us alone, however a
// client spells it.
func TestNoSpellingOfATokensCookiePasses(t *testing.T) {
	w := newWorld(t, withExtras(Extras{Cookies: map[string]string{"app_token": identity.AuthorizationJWT}}, ""))
	for _, pair := range []string{
		"app_token=x", "app.token=x", "app token=x", "app[token=x", "app%5Ftoken=x", "app_token[0]=x", "app.token%5B%5D=x", "app_token", "App_Token=x", " app_token =x", "\xa0app_token=x", "\x80app_token=x",
		"a=1 app_token=x", "a=1,app_token=x", `a="1"app_token=x`, "a=1\tapp.token=x",
	} {
		got := w.pass(ask{target: "/public/a", header: http.Header{"Cookie": {"first=1; " + pair + "; last=2"}}})
		if line := strings.Join(got.Header["Cookie"], " | "); line != "first=1; last=2" {
			t.Errorf("of %q the application got Cookie %q, want first=1; last=2", pair, line)
		}
	}
	for _, pair := range []string{"my_app_token=x", "__Host-app_token=x", "a=app_token", "app_token2=app_tok"} {
		got := w.pass(ask{target: "/public/a", header: http.Header{"Cookie": {pair}}})
		if line := strings.Join(got.Header["Cookie"], " | "); line != pair {
			t.Errorf("of %q, another cookie, the application got %q", pair, line)
		}
	}
}

// A keeper is an application with sessions of its own in a world that keeps them
// apart, and one browser.
type keeper struct {
	*world
	browser *http.Client
	late    chan bool // an answer that is to come late waits for it
}

func newKeeper(t *testing.T) *keeper {
	k := &keeper{late: make(chan bool)}
	k.world = newWorld(t, setup{rules: anyoneBelowPublic(), upstream: http.HandlerFunc(k.serve), proxy: func(c *Config) {
		ring, err := cookie.NewKeyRing(worldKey())
		if err != nil {
			t.Fatal(err)
		}
		c.Guard, err = cookie.NewGuard(ring, cookie.Options{Secure: true}, []cookie.Foreign{{Name: "JSESSIONID"}})
		if err != nil {
			t.Fatal(err)
		}
	}})
	k.browser = k.front.Client()
	var err error
	k.browser.Jar, err = cookiejar.New(nil)
	k.must(err)
	return k
}

// serve shows the cookies that it gets, and sets those that the query names.
func (k *keeper) serve(w http.ResponseWriter, r *http.Request) {
	for _, line := range r.URL.Query()["set"] {
		w.Header().Add("Set-Cookie", line)
	}
	if r.URL.Query().Has("late") {
		k.late <- true // it has arrived
		<-k.late
	}
	fmt.Fprint(w, strings.Join(r.Header["Cookie"], "; "))
}

// visit returns the cookies with which a request for target reaches the application,
// with the session cookies in who.
func (k *keeper) visit(target, who string) string {
	k.Helper()
	target, query, _ := strings.Cut(target, "?")
	r := ask{header: with(http.Header{}, "Cookie", who)}.request(k.world)
	r.URL.Path, r.URL.RawQuery = target, query
	res, err := k.browser.Do(r)
	k.must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	k.must(err)
	return string(body)
}

// setting is the query with which the application sets lines.
func setting(lines ...string) string { return "?" + url.Values{"set": lines}.Encode() }

// A browser keeps what an application has set for whatever path until it is removed
// for exactly that, which is not known here.
func TestTheNextPersonGetsNoneOfTheLastOnesSession(t *testing.T) {
	k := newKeeper(t)
	const nobody = ""
	alice, bob := k.signIn(alice()), k.signIn(bob())
	for _, step := range []struct{ name, target, who, want string }{
		{"nobody's begins", "/public/a" + setting("JSESSIONID=n; Path=/"), nobody, ""},
		{"nobody's own", "/public/a", nobody, "JSESSIONID=n"},
		{"nobody's, of alice", "/a" + setting("JSESSIONID=a; Path=/; HttpOnly", `JSESSIONID="deep.a"; Path=/deep`, "theme=dark; Path=/"), alice, ""},
		{"alice's own", "/a", alice, "JSESSIONID=a; theme=dark"},
		{"alice's own, on a public page", "/public/a", alice, "JSESSIONID=a; theme=dark"},
		{"alice's own, further down", "/deep/a", alice, `JSESSIONID="deep.a"; JSESSIONID=a; theme=dark`},
		{"alice's, of nobody", "/public/a", nobody, "theme=dark"},
		{"alice's, of bob", "/a" + setting("JSESSIONID=b; Path=/"), bob, "theme=dark"},
		{"alice's further down, of bob", "/deep/a", bob, "JSESSIONID=b; theme=dark"},
		{"alice's again", "/deep/a", alice, `JSESSIONID="deep.a"; theme=dark`},
		{"removed by the application", "/deep/a" + setting("JSESSIONID=; Max-Age=0; Path=/deep"), alice, `JSESSIONID="deep.a"; theme=dark`},
		{"alice's, no more", "/deep/a", alice, "theme=dark"},
	} {
		if got := k.visit(step.target, step.who); got != step.want {
			t.Errorf("%s: the application got %q, want %q", step.name, got, step.want)
		}
	}
}

// An answer to the last person may come when the next one is there already.
func TestALateAnswerBringsTheNextPersonNoSession(t *testing.T) {
	k := newKeeper(t)
	alice, bob := k.signIn(alice()), k.signIn(bob())
	done := make(chan string)
	go func() { done <- k.visit("/a"+setting("JSESSIONID=a; Path=/")+"&late", alice) }()
	<-k.late
	k.visit("/a", bob)
	k.late <- true
	<-done
	if got := k.visit("/a", bob); got != "" {
		t.Errorf("bob reaches the application with %q", got)
	}
}

// Whoever knows how to change cookies gets no further with what the last person has
// left: the mark is for this name, this value and this person.
func TestAMarkIsGoodForNothingElse(t *testing.T) {
	k := newKeeper(t)
	alice, bob := k.signIn(alice()), k.signIn(bob())
	mark := func(who, value string) string {
		res := k.do(ask{target: "/a" + setting("JSESSIONID="+value), header: with(http.Header{}, "Cookie", who)})
		mark, _, _ := strings.Cut(res.Cookies()[0].Value, ".")
		return mark
	}
	of := map[string]string{"alice": mark(alice, "a"), "bob": mark(bob, "b")}
	k.browser.Jar = nil
	for _, row := range []struct{ pair, want string }{
		{"JSESSIONID=" + of["bob"] + ".b", "JSESSIONID=b"},
		{"JSESSIONID=" + of["bob"] + ".a", ""},
		{"JSESSIONID=" + of["alice"] + ".a", ""},
		{"JSESSIONID=b", ""},
		{"JSESSIONID=.b", ""},
		{"JSESSIONID", "JSESSIONID"}, // a value without a name
		{"other=" + of["bob"] + ".b", "other=" + of["bob"] + ".b"},
	} {
		if got := k.do(ask{target: "/a", header: with(with(http.Header{}, "Cookie", bob), "Cookie", row.pair)}).body; got != row.want {
			t.Errorf("with %s bob reaches the application with %q, want %q", row.pair, got, row.want)
		}
	}
}

// stepUpRules wants more of a sign-in in three places.
func stepUpRules() []policy.Rule {
	return []policy.Rule{
		{Name: "gold", Path: "/gold/**", Require: &policy.Require{ACR: []string{"gold"}}},
		{Name: "fresh", Path: "/fresh/**", Require: &policy.Require{Fresh: 300e9, AMR: []string{"otp"}}},
		{Name: "admin", Path: "/admin/**", Require: &policy.Require{ACR: []string{"gold"}, Roles: []string{"owner"}}},
		{Name: "rest", Require: &policy.Require{SignedIn: true}},
	}
}

func TestWhoLacksASignInOfAClassIsSentThere(t *testing.T) {
	w := newWorld(t, setup{rules: stepUpRules(), trusted: []string{"127.0.0.0/8"}})
	cookies := w.signIn(alice())
	const gold, fresh = "acr_values=gold&rd=%2Fgold%2Fa%3Fb%3D1", "amr=otp&max_age=300&rd=%2Ffresh"
	for _, row := range []struct {
		name   string
		a      ask
		status int
		in     string // in the place where sign-in is
	}{
		{"a page", ask{target: "/gold/a?b=1", header: browser(cookies)}, 302, gold},
		{"a page that wants a fresh one by other means", ask{target: "/fresh", header: browser(cookies)}, 302, fresh},
		{"a page, by nobody", ask{target: "/gold/a?b=1", header: browser("")}, 302, gold},
		{"a script", ask{target: "/gold/a?b=1", header: http.Header{"Cookie": {cookies}}}, 401, gold},
		{"a form", ask{method: "POST", target: "/gold/a?b=1", header: browser(cookies)}, 401, "acr_values=gold&rd=%2F"},
		{"a frame", ask{target: "/gold/a?b=1", header: with(with(http.Header{}, "Cookie", cookies), "Sec-Fetch-Dest", "iframe")}, 401, ""},
		{"a program", ask{target: "/gold/a?b=1", header: http.Header{"Authorization": {"Bearer " + w.bearer(alice())}}}, 401, gold},
		{"somebody whom no sign-in helps", ask{target: "/admin/a", header: browser(cookies)}, 403, ""},
		{"nginx", ask{target: "/auth/verify/nginx", header: with(with(browser(cookies), "X-Original-Url", "https://"+ourHost+"/gold/a?b=1"), "X-Original-Method", "GET")}, 401, gold},
		{"nginx, about a page of ours", ask{target: "/auth/verify/nginx", header: with(with(browser(cookies), "X-Original-Url", "https://"+ourHost+"/auth/sign-in"), "X-Original-Method", "GET")}, 200, ""},
		{"envoy", ask{target: "/auth/verify/envoy/gold/a?b=1", header: with(browser(cookies), "X-Forwarded-Proto", "https")}, 302, gold},
	} {
		t.Run(row.name, func(t *testing.T) {
			transport := w.front.Client().Transport
			res, err := transport.RoundTrip(row.a.request(w))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			challenge := res.Header.Get("WWW-Authenticate")
			if res.StatusCode != row.status {
				t.Fatalf("status = %d, want %d", res.StatusCode, row.status)
			}
			if row.status == 302 && !strings.HasSuffix(res.Header.Get("Location"), "/auth/sign-in?"+row.in) {
				t.Errorf("Location = %s, want %s at its end", res.Header.Get("Location"), row.in)
			}
			if row.status == 401 && !strings.Contains(challenge, `error="insufficient_user_authentication"`) {
				t.Errorf("WWW-Authenticate = %s, want insufficient_user_authentication", challenge)
			}
			if row.status == 401 && strings.HasPrefix(row.in, "acr") && !strings.HasSuffix(challenge, `, acr_values="gold"`) {
				t.Errorf("WWW-Authenticate = %s, want the class", challenge)
			}
		})
	}
}

func TestNeedsSaysWhatAPageWantsOfASignIn(t *testing.T) {
	ours := policy.Rule{Name: "ours", Path: "/auth/**", Require: &policy.Require{ACR: []string{"gold"}}}
	w := newWorld(t, setup{rules: append([]policy.Rule{ours}, stepUpRules()...)})
	enough := w.start(&session.Session{User: alice(), ACR: "gold"})
	for _, row := range []struct{ name, cookies, returnTo, want string }{
		{"nobody, any sign-in", "", "/a", ""},
		{"nobody, one of a class", "", "/gold/a?x#y", "acr_values=gold"},
		{"somebody, one of a class", w.signIn(alice()), "https://" + ourHost + "/gold/a", "acr_values=gold"},
		{"somebody who has it", enough, "/gold/a", ""},
		{"somebody whom none helps", w.signIn(alice()), "/admin/a", ""},
		{"what cannot be read", "", "/gold/%zz", ""},
		{"a page of ours, about which no rule is asked", "", "/auth/account", ""},
		{"another host", "", "https://other.example/gold/a", "acr_values=gold"},
	} {
		r := ask{header: with(http.Header{}, "Cookie", row.cookies)}.request(w)
		if got := w.proxy.Needs(r, row.returnTo).Query().Encode(); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}
