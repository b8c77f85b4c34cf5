package proxy

import (
	"encoding/base64"
	"net/http"
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

// guarded is a world in which JSESSIONID belongs to a person. Our own cookies are
// for a domain, and who the application's belong to is remembered by each host all
// the same: on another one the last person's may still be there.
func guarded(t *testing.T) *world {
	return newWorld(t, setup{rules: anyoneBelowPublic(), proxy: func(c *Config) {
		ring, err := cookie.NewKeyRing(worldKey())
		if err != nil {
			t.Fatal(err)
		}
		sealer, err := cookie.NewSealer(ring)
		if err != nil {
			t.Fatal(err)
		}
		c.Guard, err = cookie.NewGuard(sealer, cookie.Options{Secure: true, Domain: "example.com"}, []cookie.Foreign{{Name: "JSESSIONID"}, {Name: "app", Path: "/app", Domain: "example.com"}})
		if err != nil {
			t.Fatal(err)
		}
		owns := c.OwnsCookie
		c.OwnsCookie = func(name string) bool { return owns(name) || c.Guard.Owns(name) }
	}})
}

// TestTheNextPersonGetsNoneOfTheLastOnesSession goes through one browser in which
// alice's session here ends without a sign-out, and bob signs in.
func TestTheNextPersonGetsNoneOfTheLastOnesSession(t *testing.T) {
	w := guarded(t)
	const anonymous = ""
	aliceSession, bobSession := w.signIn(alice()), w.signIn(bob())
	owner := ""
	visit := func(target, who, app string) (passed, set string) {
		t.Helper()
		header := with(with(with(http.Header{}, "Cookie", who), "Cookie", owner), "Cookie", app)
		res := w.do(ask{target: target, header: header})
		for _, c := range res.Cookies() {
			if strings.HasPrefix(c.Name, "__Host-authproxy_owner") {
				owner = c.Name + "=" + c.Value
			}
		}
		return strings.Join(strings.Fields(strings.Join(jsonStrings(res.json(t), "Header", "Cookie"), "; ")), " "), strings.Join(res.Header["Set-Cookie"], "\n")
	}
	for _, step := range []struct {
		name, target, who, app string
		passes, removes        bool
	}{
		{"nobody's session, of nobody", "/public/a", anonymous, "JSESSIONID=n", true, false},
		{"nobody's session, of alice", "/a", aliceSession, "JSESSIONID=n", false, true},
		{"alice's own", "/a", aliceSession, "JSESSIONID=a; x=1", true, false},
		{"alice's, when nobody is there", "/public/a", anonymous, "JSESSIONID=a", false, true},
		{"alice's again", "/a", aliceSession, "app=a", false, true},
		{"alice's, of bob", "/a", bobSession, "JSESSIONID=a; app=b", false, true},
		{"bob's own", "/a", bobSession, "JSESSIONID=b", true, false},
	} {
		passed, set := visit(step.target, step.who, step.app)
		if got := strings.Contains(passed, "JSESSIONID") || strings.Contains(passed, "app="); got != step.passes {
			t.Errorf("%s: the application got %q, want its session to pass: %v", step.name, passed, step.passes)
		}
		if strings.Contains(passed, "authproxy") {
			t.Errorf("%s: a cookie of ours reached the application: %q", step.name, passed)
		}
		wanted := strings.Contains(set, "JSESSIONID=; Max-Age=0; Path=/; Secure") && strings.Contains(set, "app=; Max-Age=0; Path=/app; Domain=example.com; Secure")
		if wanted != step.removes {
			t.Errorf("%s: Set-Cookie %q, want it to remove the cookies: %v", step.name, set, step.removes)
		}
	}
}

// jsonStrings returns the texts at the names in v.
func jsonStrings(v map[string]any, names ...string) []string {
	for _, name := range names[:len(names)-1] {
		v, _ = v[name].(map[string]any)
	}
	list, _ := v[names[len(names)-1]].([]any)
	var texts []string
	for _, entry := range list {
		text, _ := entry.(string)
		texts = append(texts, text)
	}
	return texts
}

// The application begins a session of its own in the answer that removes the
// last one's: what browsers read last counts.
func TestASessionThatBeginsIsNotRemovedAtOnce(t *testing.T) {
	w := guarded(t)
	w.front.Config.Handler = w.proxy
	w.proxy.routes[0].proxy.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Set-Cookie": {"JSESSIONID=new"}}, Body: http.NoBody, Request: r}, nil
	})
	res := w.do(ask{target: "/a", header: http.Header{"Cookie": {w.signIn(alice())}}})
	last := ""
	for _, c := range res.Cookies() {
		if c.Name == "JSESSIONID" {
			last = c.Value
		}
	}
	if last != "new" {
		t.Errorf("Set-Cookie %q, want the application's JSESSIONID last", res.Header["Set-Cookie"])
	}
	if got := res.Header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		t.Errorf("Cache-Control = %q, want an answer with cookies to be private", got)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

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
