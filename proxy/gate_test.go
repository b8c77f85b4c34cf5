package proxy

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"authproxy/identity"
	"authproxy/policy"
)

// adminsBelowAdmin lets anyone in below /public, admins below /admin, nobody
// below /internal, and elsewhere who is signed in.
func adminsBelowAdmin() []policy.Rule {
	return []policy.Rule{
		{Name: "public", Path: "/public/**", Allow: "anyone"},
		{Name: "admins", Path: "/admin/**", Require: &policy.Require{Roles: []string{"admin"}}},
		{Name: "closed", Path: "/internal/**", Deny: true},
		{Name: "api", Path: "/api/**", Methods: []string{"GET", "PUT"}, Require: &policy.Require{SignedIn: true}, Preflight: "pass"},
		{Name: "signed in", Methods: []string{"GET", "HEAD", "POST", "OPTIONS"}, Require: &policy.Require{SignedIn: true}},
	}
}

// TestWhoIsAnonymousIsSentToSignInOrTold: a page is redirected, a program gets a
// 401 that says where to sign in.
func TestWhoIsAnonymousIsSentToSignInOrTold(t *testing.T) {
	page := browser("")
	accept := http.Header{"Accept": {"text/html"}}
	tests := []struct {
		name, method string
		header       http.Header
		want         int
	}{
		{"a navigation", "GET", page, 302},
		{"HEAD of a navigation", "HEAD", page, 302},
		{"a browser without Fetch Metadata", "GET", accept, 302},
		{"POST of a form", "POST", page, 401},
		{"POST by fetch()", "POST", http.Header{"Accept": {"*/*"}, "Sec-Fetch-Mode": {"cors"}}, 401},
		{"fetch()", "GET", http.Header{"Accept": {"*/*"}, "Sec-Fetch-Mode": {"cors"}}, 401},
		{"fetch() that wants HTML", "GET", http.Header{"Accept": {"text/html"}, "Sec-Fetch-Mode": {"same-origin"}}, 401},
		{"an image", "GET", http.Header{"Accept": {"image/*"}, "Sec-Fetch-Mode": {"no-cors"}}, 401},
		{"XMLHttpRequest", "GET", with(accept, "X-Requested-With", "XMLHttpRequest"), 401},
		{"htmx", "GET", with(accept, "Hx-Request", "true"), 401},
		{"a WebSocket", "GET", http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Accept": {"text/html"}}, 401},
		{"Basic credentials", "GET", with(page, "Authorization", "Basic YTpi"), 401},
		{"a prefetch", "GET", with(page, "Sec-Purpose", "prefetch"), 401},
		{"curl", "GET", http.Header{"Accept": {"*/*"}}, 401},
		{"nothing said", "GET", nil, 401},
	}
	w := newWorld(t, setup{})
	signIn := func(rd string) string {
		return "https://" + ourHost + "/auth/sign-in?" + url.Values{"rd": {rd}}.Encode()
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{TB: t, front: w.front}
			rd := "/a%20b/c?x=1&y=%2F;&&z"
			want := signIn(rd)
			if tt.method == "POST" {
				want = signIn("/")
			}
			got := w.do(ask{method: tt.method, target: rd, header: tt.header})
			if got.StatusCode != tt.want {
				t.Fatalf("status = %d, want %d; the answer was %s", got.StatusCode, tt.want, got.body)
			}
			if got.Header.Get("Cache-Control") != "no-store" || !strings.Contains(got.Header.Get("Vary"), "Cookie") {
				t.Errorf("Cache-Control = %q, Vary = %q; want no-store, Cookie", got.Header.Get("Cache-Control"), got.Header.Get("Vary"))
			}
			if tt.want == 302 {
				if to := got.Header.Get("Location"); to != want {
					t.Errorf("Location = %q, want %q", to, want)
				}
				return
			}
			if got.Header.Get("Location") != "" || got.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("Location = %q, WWW-Authenticate = %q; want none, Bearer", got.Header.Get("Location"), got.Header.Get("WWW-Authenticate"))
			}
			if strings.HasPrefix(got.Header.Get("Content-Type"), "text/html") {
				if link := `href="` + strings.ReplaceAll(want, "&", "&amp;") + `"`; !strings.Contains(got.body, link) {
					t.Errorf("the page does not link to %s:\n%s", link, got.body)
				}
				return
			}
			if body := got.json(t); body["error"] != "unauthenticated" || body["sign_in"] != want || body["request_id"] == "" {
				t.Errorf("body = %v, want unauthenticated, sign_in %q and a request id", body, want)
			}
		})
	}
	if reached := w.reached.String(); reached != "" {
		t.Errorf("the upstream saw %q, want nothing", reached)
	}
}

func TestTheWayBackToAnotherHostIsAbsolute(t *testing.T) {
	tests := []struct {
		name, host, proto, want string
	}{
		{"public_url's", ourHost, "", "/p?q"},
		{"another", "other.example.com", "", "https://other.example.com/p?q"},
		{"behind who ends TLS", "other.example.com", "http", "https://other.example.com/p?q"},
		{"with TLS before us", "other.example.com", "https", "https://other.example.com/p?q"},
		{"with a port", "app.example.com:8443", "https", "https://app.example.com:8443/p?q"},
	}
	w := newWorld(t, setup{trusted: []string{"127.0.0.1/32"}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{TB: t, front: w.front}
			got := w.do(ask{target: "/p?q", host: tt.host, header: with(browser(""), "X-Forwarded-Proto", tt.proto)})
			to, err := url.Parse(got.Header.Get("Location"))
			w.must(err)
			if to.Host != ourHost || to.Scheme != "https" || to.Query().Get("rd") != tt.want {
				t.Errorf("Location = %s, want public_url's sign-in with rd=%s", to, tt.want)
			}
		})
	}
}

func TestWhatTheRulesDecide(t *testing.T) {
	w := newWorld(t, setup{rules: adminsBelowAdmin()})
	admin, other := w.signIn(alice()), w.signIn(bob())
	tests := []struct {
		name, method, target, cookies string
		status                        int
		rule                          string
	}{
		{"public, anonymous", "GET", "/public/a", "", 200, ""},
		{"signed in", "GET", "/a", other, 200, ""},
		{"an admin", "GET", "/admin/a", admin, 200, ""},
		{"not an admin", "GET", "/admin/a", other, 403, "admins"},
		{"an anonymous one may be an admin", "GET", "/admin/a", "", 401, ""},
		{"denied for admins", "GET", "/internal/a", admin, 403, "closed"},
		{"denied for anonymous ones, who could not help it", "GET", "/internal/a", "", 403, "closed"},
		{"no rule, signed in", "DELETE", "/a", admin, 403, ""},
		{"no rule, anonymous", "DELETE", "/a", "", 403, ""},
		{"the query is not the path", "GET", "/admin/a?/public/a", other, 403, "admins"},
		{"a cookie that is no session", "GET", "/a", "__Host-authproxy_session=forged", 401, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{TB: t, front: w.front}
			got := w.do(ask{method: tt.method, target: tt.target, header: with(nil, "Cookie", tt.cookies)})
			if got.StatusCode != tt.status {
				t.Fatalf("status = %d, want %d; the answer was %s", got.StatusCode, tt.status, got.body)
			}
			if tt.status != 403 {
				return
			}
			body := got.json(t)
			rule, _ := body["rule"].(string)
			if body["error"] != "forbidden" || rule != tt.rule || body["request_id"] == "" || got.Header.Get("Location") != "" {
				t.Errorf("body = %v, want forbidden by rule %q with a request id", body, tt.rule)
			}
		})
	}
	if reached := w.reached.String(); reached != "/public/a\n/a\n/admin/a\n" {
		t.Errorf("the upstream saw %q, want only what is allowed", reached)
	}
}

// TestTheDecisionLooksAtTheRequestAlone: nothing that a client writes beside the
// request line and the host takes part.
func TestTheDecisionLooksAtTheRequestAlone(t *testing.T) {
	rules := append([]policy.Rule{{Name: "options", Path: "/admin/**", Methods: []string{"OPTIONS"}, Allow: "anyone"}}, adminsBelowAdmin()...)
	for _, trusted := range [][]string{nil, {"127.0.0.1/32"}} {
		w := newWorld(t, setup{rules: rules, trusted: trusted})
		cookies := w.signIn(bob())
		for _, h := range []http.Header{
			{"X-Original-Url": {"/public/a"}}, {"X-Rewrite-Url": {"/public/a"}}, {"X-Forwarded-Uri": {"/public/a"}}, {"X-Original-Uri": {"/public/a"}},
			{"X-Envoy-Original-Path": {"/public/a"}}, {"X-Forwarded-Prefix": {"/public"}}, {"X-Forwarded-Method": {"OPTIONS"}},
			{"X-Http-Method-Override": {"OPTIONS"}}, {"X-Method-Override": {"OPTIONS"}}, {"X-Original-Method": {"OPTIONS"}},
			{"User-Agent": {"kube-probe/1.30"}}, {"X-Forwarded-For": {"127.0.0.1"}}, {"Access-Control-Request-Method": {"GET"}, "Origin": {"https://a.example"}},
		} {
			for _, target := range []string{"/admin/a", "/admin/a?/public/a", "/admin/a?path=/public/a&_method=OPTIONS"} {
				if got := w.do(ask{target: target, header: with(h, "Cookie", cookies)}); got.StatusCode != 403 {
					t.Errorf("trusted %v: %s with %v: status = %d, want 403", trusted, target, h, got.StatusCode)
				}
			}
		}
		if reached := w.reached.String(); reached != "" {
			t.Errorf("trusted %v: the upstream saw %q, want nothing", trusted, reached)
		}
	}
}

func TestThe403PageSaysWhoWhyAndWhatNow(t *testing.T) {
	w := newWorld(t, setup{rules: adminsBelowAdmin()})
	got := w.do(ask{target: "/admin/a?b=c", header: browser(w.signIn(bob()))})
	id := logged(t, w)[0]["request_id"].(string)
	for _, want := range []string{
		"bob@example.com", "admins", "needs one of the roles admin", id,
		"https://" + ourHost + "/auth/sign-in?prompt=select_account&amp;rd=%2Fadmin%2Fa%3Fb%3Dc", "Use another account",
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if got.StatusCode != 403 || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/html") || got.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %q %q, want 403, HTML, no-store", got.StatusCode, got.Header.Get("Content-Type"), got.Header.Get("Cache-Control"))
	}
}

// TestWhoIsNotAdmittedAnyMore has a session that lives, and is nobody with it.
func TestWhoIsNotAdmittedAnyMore(t *testing.T) {
	w := newWorld(t, setup{rules: anyoneBelowPublic(), identity: func(c *identity.Config) { c.Admit = policy.Members{Emails: []string{"alice@example.com"}} }})
	cookies := w.signIn(bob())
	got := w.do(ask{target: "/a", header: browser(cookies)})
	if got.StatusCode != 403 || !strings.Contains(got.body, "bob@example.com") || !strings.Contains(got.body, "prompt=select_account") {
		t.Errorf("a protected page: got %d %s, want 403 with who and another account", got.StatusCode, got.body)
	}
	if code := w.do(ask{target: "/a", header: http.Header{"Cookie": {cookies}}}).json(t)["error"]; code != "not_admitted" {
		t.Errorf("error = %v, want not_admitted", code)
	}
	if told := read(w.pass(ask{target: "/public/a", header: http.Header{"Cookie": {cookies}}}).Header, saysWho); len(told) > 0 {
		t.Errorf("on a public page the upstream is told %v, want nobody", told)
	}
	if got := w.do(ask{target: "/a", header: http.Header{"Cookie": {w.signIn(alice())}}}); got.StatusCode != 200 {
		t.Errorf("who is admitted: status = %d, want 200", got.StatusCode)
	}
}

func TestBearerTokens(t *testing.T) {
	w := newWorld(t, setup{rules: anyoneBelowPublic()})
	ours := "Bearer " + w.bearer(alice())
	foreign := "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0."
	got := w.pass(ask{target: "/a", header: http.Header{"Authorization": {ours}}})
	if got.Header.Get("X-User-Id") != alice().ID || got.Header.Get("Authorization") != ours {
		t.Errorf("our token: the upstream got %v, want alice and the token as it came", got.Header)
	}
	for _, h := range []http.Header{{"Authorization": {foreign}}, with(browser(""), "Authorization", foreign)} {
		got := w.do(ask{target: "/a", header: h})
		if got.StatusCode != 401 || got.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` || got.Header.Get("Location") != "" {
			t.Errorf("a foreign token: got %d %q, want 401 invalid_token and no redirect", got.StatusCode, got.Header.Get("WWW-Authenticate"))
		}
	}
	if told := read(w.pass(ask{target: "/public/a", header: http.Header{"Authorization": {foreign}}}).Header, saysWho); len(told) > 0 {
		t.Errorf("a foreign token on a public page: the upstream is told %v, want nobody", told)
	}
	both := http.Header{"Authorization": {foreign}, "Cookie": {w.signIn(bob())}}
	if id := w.pass(ask{target: "/a", header: both}).Header.Get("X-User-Id"); id != bob().ID {
		t.Errorf("a session beside a foreign token: X-User-Id = %q, want bob's", id)
	}
}

func TestAPreflightPasses(t *testing.T) {
	preflight := http.Header{"Origin": {"https://a.example"}, "Access-Control-Request-Method": {"PUT"}}
	tests := []struct {
		name, method, target string
		header               http.Header
		want                 int
	}{
		{"for a method of the rule", "OPTIONS", "/api/a", preflight, 200},
		{"not for another method", "OPTIONS", "/api/a", http.Header{"Origin": {"https://a.example"}, "Access-Control-Request-Method": {"DELETE"}}, 401},
		{"not without an origin", "OPTIONS", "/api/a", http.Header{"Access-Control-Request-Method": {"PUT"}}, 401},
		{"not as another method", "GET", "/api/a", preflight, 401},
		{"not where the rule does not say so", "OPTIONS", "/a", preflight, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, setup{rules: adminsBelowAdmin()})
			if got := w.do(ask{method: tt.method, target: tt.target, header: tt.header}); got.StatusCode != tt.want {
				t.Errorf("status = %d, want %d", got.StatusCode, tt.want)
			}
		})
	}
}

func TestConnectAndTraceAreRefused(t *testing.T) {
	w := newWorld(t, setup{rules: anyone()})
	for _, line := range []string{"TRACE / HTTP/1.1", "CONNECT app.example.com:443 HTTP/1.1", "CONNECT / HTTP/1.1"} {
		status, _ := raw(t, w.front.URL, line+"\r\nHost: app.example.com\r\nConnection: close\r\n\r\n")
		if status != "HTTP/1.1 405 Method Not Allowed" {
			t.Errorf("%s: %q, want 405", line, status)
		}
	}
	if reached := w.reached.String(); reached != "" {
		t.Errorf("the upstream saw %q, want nothing", reached)
	}
}

// TestPathsBelowThePrefixAreOurs in every spelling: an application must not
// answer in our place, whoever cleans the path on the way to it.
func TestPathsBelowThePrefixAreOurs(t *testing.T) {
	own := []string{
		"/auth", "/auth/", "/auth/x", "/auth?x", "/auth//x", "/auth/../x", "/auth/./x", "/%61uth/x", "/%61%75%74%68", "/auth%2fx", "/auth%2Fx",
		"//auth/x", "///auth", "/./auth/x", "/x/../auth/x", "/x/%2e%2e/auth/x", "/%2fauth/x", "/%2e/auth", "http://app.example.com/auth/x", "http://app.example.com//auth",
	}
	theirs := []string{"/AUTH/x", "/Auth", "/authx", "/auth.html", "/x/auth", "/%2561uth/x", "/auth%3Fx", "/x?/auth/x", "/au%74hx"}
	for _, rules := range [][]policy.Rule{anyone(), append(anyoneBelowPublic(), anyone()...)} {
		w := newWorld(t, setup{rules: rules})
		ask := func(target string) (status, rest string) {
			return raw(t, w.front.URL, "GET "+target+" HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n")
		}
		for _, target := range own {
			if status, rest := ask(target); !strings.Contains(status, " 404 ") || !strings.HasSuffix(rest, "own") {
				t.Errorf("%s: %q, want our own 404", target, status)
			}
		}
		if reached := w.reached.String(); reached != "" {
			t.Errorf("the upstream saw %q, want nothing", reached)
		}
		if w.proxy.namesPath {
			continue // what is refused then is the target tests' business
		}
		for _, target := range theirs {
			if status, rest := ask(target); !strings.Contains(status, " 200 ") || !strings.Contains(rest, `"Target":"`+target+`"`) {
				t.Errorf("%s: %q, want it at the upstream as it is", target, status)
			}
		}
	}
}

func TestTheFirstRouteThatMatchesGetsTheRequest(t *testing.T) {
	w := newWorld(t, setup{})
	pattern := func(s string) policy.HostPattern {
		p, err := policy.ParseHostPattern(s)
		w.must(err)
		return p
	}
	at := func(name string) Upstream { return w.serve(show(name, w.reached)) }
	w = newWorld(t, setup{rules: anyone(), routes: []Route{
		{Host: pattern("api.example.com"), Path: "/v1/**", Upstream: at("v1")},
		{Host: pattern("api.example.com"), Path: "/**", Upstream: at("api")},
		{Path: "/static/**", Upstream: at("static")},
		{Host: pattern("*.apps.example.com"), Upstream: at("apps")},
	}})
	tests := []struct{ host, target, want string }{
		{"api.example.com", "/v1/a", "v1"},
		{"API.example.com:8443", "/v1", "v1"},
		{"api.example.com", "/v2/a", "api"},
		{"api.example.com", "/static/a", "api"},
		{"other.example.com", "/static/a", "static"},
		{"one.apps.example.com", "/a", "apps"},
		{"one.apps.example.com", "/static/a", "static"},
		{"one.two.apps.example.com", "/a", ""},
		{"other.example.com", "/a", ""},
	}
	for _, tt := range tests {
		got := w.do(ask{host: tt.host, target: tt.target})
		if tt.want == "" {
			if got.StatusCode != 404 || got.json(t)["error"] != "not_found" {
				t.Errorf("%s%s: got %d, want 404", tt.host, tt.target, got.StatusCode)
			}
			continue
		}
		if name, _ := got.json(t)["Upstream"].(string); name != tt.want {
			t.Errorf("%s%s went to %q, want %q", tt.host, tt.target, name, tt.want)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := newWorld(t, setup{}).proxy.Config
	good.Registerer = nil
	for name, edit := range map[string]func(*Config){
		"an odd scheme": func(c *Config) { c.Routes = []Route{{Upstream: Upstream{URL: &url.URL{Scheme: "ftp", Host: "a"}}}} },
		"an odd path":   func(c *Config) { c.Routes = []Route{{Path: "no/slash", Upstream: good.Routes[0].Upstream}} },
	} {
		c := good
		edit(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: New succeeded, want an error", name)
		}
	}
}

// A host that is made up must not slip past the rules for the real ones.
func TestRulesForAHostCannotBeSkipped(t *testing.T) {
	w := newWorld(t, setup{rules: []policy.Rule{
		{Host: ourHost, Path: "/admin/**", Require: &policy.Require{Roles: []string{"admin"}}},
		{Require: &policy.Require{SignedIn: true}},
	}})
	cookies := http.Header{"Cookie": {w.signIn(alice())}}
	for _, host := range []string{"x", "evil.example", ourHost + ".evil.example", "127.0.0.1", "sub." + ourHost} {
		if got := w.do(ask{target: "/admin/panel", host: host, header: cookies}); got.StatusCode != 403 || got.Header.Get("Set-Cookie") != "" {
			t.Errorf("Host %s: status %d, want 403", host, got.StatusCode)
		}
	}
	if got := w.reached.String(); got != "" {
		t.Errorf("the upstream was asked for %s", got)
	}
	w.pass(ask{target: "/a", header: cookies})
}

// A session that ends between the look-up and the upstream's turn is over.
func TestASessionThatEndsOnTheWayIsRefused(t *testing.T) {
	w := newWorld(t, setup{})
	r := httptest.NewRequest("GET", "/a", nil)
	r.Host = ourHost
	r.Header.Set("Cookie", w.signIn(alice()))
	x := &exchange{original: w.proxy.direct(r, faceProxy)}
	var err error
	if x.original.target, err = readTarget(r); err != nil {
		t.Fatal(err)
	}
	if x.verdict, err = w.proxy.judge(&x.original); err != nil {
		t.Fatal(err)
	}
	w.sessions.End(httptest.NewRecorder(), r)
	if err := w.proxy.identify(httptest.NewRecorder(), x); !errors.Is(err, errSessionOver) {
		t.Errorf("error = %v, want errSessionOver", err)
	}
}

func TestAHostThatSignsInAtHomeIsSentToItsOwnPrefix(t *testing.T) {
	const portal = "portal.example.org:8443"
	w := newWorld(t, setup{proxy: func(c *Config) {
		c.Hosts = append(c.Hosts, mustHost(t, "portal.example.org"))
		c.SignsInAtHome = func(host string) bool { return host == portal }
	}})
	navigation := http.Header{"Accept": {"text/html"}}
	for _, tt := range []struct{ name, host, method, want string }{
		{"at home", portal, "GET", "https://" + portal + "/auth/sign-in?rd=%2Fa%3Fb%3Dc%2F%2Fd"},
		{"a form", portal, "POST", "https://" + portal + "/auth/sign-in?rd=%2F"},
		{"another host", "www.example.com", "GET", "https://" + ourHost + "/auth/sign-in?rd=https%3A%2F%2Fwww.example.com%2Fa%3Fb%3Dc%2F%2Fd"},
		{"ours", ourHost, "GET", "https://" + ourHost + "/auth/sign-in?rd=%2Fa%3Fb%3Dc%2F%2Fd"},
	} {
		r := httptest.NewRequest(tt.method, "/a?b=c//d", nil)
		r.Host, r.Header = tt.host, navigation
		o := w.proxy.direct(r, faceProxy)
		o.target = target{path: "/a", query: "b=c//d", hasQuery: true}
		got := w.proxy.signInURL(&o, "")
		if got != tt.want {
			t.Errorf("%s: sign-in = %s, want %s", tt.name, got, tt.want)
		}
	}
}
