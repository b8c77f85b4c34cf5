package proxy

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"authproxy/policy"
)

// A result is an answer in the terms that all faces share.
type result struct {
	// class is what was decided: "allow", "redirect", "401", "403", or another
	// status.
	class string
	// told is what the application learns about the user, by canonical name; of
	// headers without a value it does not matter whether they are there.
	told map[string]string
	// location is where a redirect leads.
	location string
}

// A face sends an ask as a client of that face would, with what an ingress adds.
type face struct {
	name string
	send func(w *world, a ask) result
}

// faces are all there are in w. The one of gRPC has a real connection.
func faces(w *world) []face {
	e := newEnvoy(w, nil, nil)
	return []face{
		{"proxy", sendToProxy},
		{"nginx", func(w *world, a ask) result { return sendToVerify(w, askNginx(a), false) }},
		{"forward", func(w *world, a ask) result { return sendToVerify(w, askForward(a), true) }},
		{"envoy", func(w *world, a ask) result { return sendToVerify(w, askEnvoy(a), true) }},
		{"gRPC", func(w *world, a ask) result { return sendToEnvoy(w, &envoy{w.TB, e.ClientConn, e.server}, a) }},
	}
}

// askNginx is the sub-request of nginx about a.
func askNginx(a ask) ask {
	h := a.header.Clone()
	h["X-Original-Url"], h["X-Original-Method"] = []string{"https://" + a.hostOr() + a.targetOr()}, []string{a.methodOr()}
	return ask{target: "/auth/verify/nginx", host: "authproxy:4180", header: h}
}

// askForward is the sub-request of Traefik about a.
func askForward(a ask) ask {
	h := a.header.Clone()
	h["X-Forwarded-Method"], h["X-Forwarded-Proto"] = []string{a.methodOr()}, []string{"https"}
	h["X-Forwarded-Host"], h["X-Forwarded-Uri"] = []string{a.hostOr()}, []string{a.targetOr()}
	return ask{target: "/auth/verify/forward", host: "authproxy:4180", header: h}
}

// askEnvoy is the request of Envoy's HTTP service about a.
func askEnvoy(a ask) ask {
	h := a.header.Clone()
	h["X-Forwarded-Proto"] = []string{"https"}
	return ask{method: a.methodOr(), target: "/auth/verify/envoy" + a.targetOr(), host: a.hostOr(), header: h}
}

func (a ask) methodOr() string {
	if a.method == "" {
		return "GET"
	}
	return a.method
}

func (a ask) hostOr() string {
	if a.host == "" {
		return ourHost
	}
	return a.host
}

func (a ask) targetOr() string {
	if a.target == "" {
		return "/"
	}
	return a.target
}

// identityNames are the headers of this file's world by which an application
// learns who is there.
func identityNames() []string {
	return []string{"Authorization", "X-User-Email", "X-User-Groups", "X-User-Id", "X-User-Name", "X-User-Roles"}
}

// sendToProxy reports what the application saw, where it was reached.
func sendToProxy(w *world, a ask) result {
	w.Helper()
	before := w.reached.String()
	got := w.do(a)
	if w.reached.String() == before {
		if got.Header.Get("Grpc-Status") == "16" { // UNAUTHENTICATED, which an ingress makes of a 401
			return result{class: "401"}
		}
		if got.StatusCode < 300 {
			w.Errorf("status %d, and the application was not reached", got.StatusCode)
		}
		return refused(got.StatusCode, got.Header)
	}
	if a.method == "HEAD" { // the application cannot show what it saw
		return result{class: "allow"}
	}
	seen := http.Header{}
	for name, value := range got.json(w)["Header"].(map[string]any) {
		seen[name] = []string{value.([]any)[0].(string)}
	}
	return result{class: "allow", told: told(w, seen)}
}

// sendToVerify reports what the ingress is told.
func sendToVerify(w *world, a ask, redirects bool) result {
	w.Helper()
	got := w.do(a)
	if got.StatusCode != http.StatusOK {
		if !redirects && got.StatusCode != 401 && got.StatusCode != 403 {
			w.Errorf("status %d, which nginx makes a 500 of", got.StatusCode)
		}
		r := refused(got.StatusCode, got.Header)
		if !redirects && r.class == "401" {
			r.class = "401 or redirect"
		}
		return r
	}
	for _, name := range identityNames() {
		if len(got.Header[name]) != 1 {
			w.Errorf("%s is in the answer %d times, want once, also without a value", name, len(got.Header[name]))
		}
	}
	if got.body != "" || got.ContentLength != 0 {
		w.Errorf("an allowing answer has the body %q and the length %d, want none and 0", got.body, got.ContentLength)
	}
	return result{class: "allow", told: told(w, got.Header)}
}

func refused(status int, h http.Header) result {
	classes := map[int]string{302: "redirect", 401: "401", 403: "403", 400: "403", 405: "403"} // the proxy says what is wrong with a target
	class, ok := classes[status]
	if !ok {
		class = http.StatusText(status)
	}
	return result{class: class, location: h.Get("Location")}
}

// told picks what an application would believe from h: every header that folds
// to an identity header's name.
func told(w *world, h http.Header) map[string]string {
	w.Helper()
	m := map[string]string{}
	for name, values := range h {
		canonical := http.CanonicalHeaderKey(fold(name))
		if len(values) == 0 || values[0] == "" || !slices.Contains(identityNames(), canonical) && !strings.HasPrefix(canonical, "X-Auth-Request-") {
			continue
		}
		if _, twice := m[canonical]; twice || name != canonical {
			w.Errorf("%s: %q came through", name, values[0])
		}
		m[canonical] = values[0]
	}
	return m
}

// forged adds what an attacker would to h: identity in every spelling, and the
// original request in all families, so that whichever a face should not read
// says that a public page is asked for.
func forged(h http.Header) http.Header {
	out := h.Clone()
	if out == nil {
		out = http.Header{}
	}
	for _, name := range []string{
		"X-User-Id", "X_User_Id", "x-user_id", "X.User.Id", "x-USER-id", "X-User-Email", "X_User_Email", "X-User-Roles", "X_user_roles", "X-User.Groups",
		"X-Auth-Request-User", "X_Auth_Request_User", "Remote-User",
	} {
		out[name] = []string{"root"}
	}
	public := map[string]string{
		"X-Original-Url": "https://" + ourHost + "/public/x", "X-Original-Method": "GET", "X-Original-Uri": "/public/x",
		"X-Forwarded-Method": "GET", "X-Forwarded-Host": ourHost, "X-Forwarded-Uri": "/public/x", "X-Forwarded-Prefix": "/public",
		"X-Rewrite-Url": "/public/x", "X-Envoy-Original-Path": "/public/x", "X-Auth-Request-Redirect": "/public/x", "X-Http-Method-Override": "GET",
		"Forwarded": "for=127.0.0.1;host=" + ourHost + ";proto=https",
	}
	for name, value := range public {
		if out[name] == nil {
			out[name] = []string{value}
		}
	}
	return out
}

// faceRules are rules that differ by path, method and person.
func faceRules() []policy.Rule {
	return []policy.Rule{
		{Name: "public", Path: "/public/**", Methods: []string{"GET"}, Allow: "anyone"},
		{Name: "admins", Path: "/admin/**", Require: &policy.Require{Roles: []string{"admin"}}},
		{Name: "closed", Path: "/internal/**", Deny: true},
		{Name: "api", Path: "/api/**", Methods: []string{"GET", "PUT"}, Require: &policy.Require{SignedIn: true}, Preflight: "pass"},
		{Name: "other host", Host: "other.example.com", Path: "/hosted/**", Allow: "anyone"},
		{Name: "signed in", Methods: []string{"GET", "HEAD", "POST", "OPTIONS"}, Require: &policy.Require{SignedIn: true}},
	}
}

// TestEveryFaceGivesTheSameAnswer: whatever way a request takes, the same is
// decided, the application learns the same, and nothing that the client claims
// changes that.
func TestEveryFaceGivesTheSameAnswer(t *testing.T) {
	w := newWorld(t, setup{rules: faceRules(), trusted: []string{"127.0.0.0/8"}, proxy: func(c *Config) {
		c.Hosts = append(c.Hosts, mustHost(t, "other.example.com"))
	}})
	aliceHas, bobHas := w.signIn(alice()), w.signIn(bob())
	script := http.Header{"Accept": {"*/*"}, "Sec-Fetch-Mode": {"cors"}}
	preflight := http.Header{"Origin": {"https://spa.example.net"}, "Access-Control-Request-Method": {"PUT"}}
	socket := http.Header{"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Fetch-Mode": {"websocket"}}
	rows := []faceRow{
		{"nobody at a public page", ask{target: "/public/x", header: browser("")}, "allow", ""},
		{"somebody at a public page", ask{target: "/public/x", header: browser(bobHas)}, "allow", "bob@example.com"},
		{"another method at a public page", ask{method: "POST", target: "/public/x", header: browser("")}, "401", ""},
		{"HEAD at a public page", ask{method: "HEAD", target: "/public/x", header: browser("")}, "allow", ""},
		{"nobody opens a page", ask{target: "/app/secret?q=1&r=%2F", header: browser("")}, "redirect", ""},
		{"nobody, a script", ask{target: "/app/secret", header: script}, "401", ""},
		{"nobody, by XMLHttpRequest", ask{target: "/app/secret", header: with(browser(""), "X-Requested-With", "XMLHttpRequest")}, "401", ""},
		{"nobody, by htmx", ask{target: "/app/secret", header: with(browser(""), "Hx-Request", "true")}, "401", ""},
		{"nobody, in a frame", ask{target: "/app/secret", header: http.Header{"Accept": {"text/html"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"iframe"}}}, "401", ""},
		{"nobody posts a form", ask{method: "POST", target: "/app/secret", header: browser("")}, "401", ""},
		{"nobody, a prefetch", ask{target: "/app/secret", header: with(browser(""), "Sec-Purpose", "prefetch")}, "401", ""},
		{"nobody calls by gRPC", ask{method: "POST", target: "/app.Service/Call", header: http.Header{"Content-Type": {"application/grpc"}}}, "401", ""},
		{"a bearer token that is none", ask{target: "/app/secret", header: http.Header{"Authorization": {"Bearer x.y.z"}}}, "401", ""},
		{"a bearer token of ours", ask{target: "/app/secret", header: http.Header{"Authorization": {"Bearer " + w.bearer(alice())}}}, "allow", "alice@example.com"},
		{"a cookie that is none", ask{target: "/app/secret", header: browser("__Host-authproxy_session=x")}, "redirect", ""},
		{"somebody", ask{target: "/app/secret", header: browser(bobHas)}, "allow", "bob@example.com"},
		{"somebody posts", ask{method: "POST", target: "/app/secret", header: browser(bobHas)}, "allow", "bob@example.com"},
		{"somebody with a method that no rule has", ask{method: "DELETE", target: "/app/secret", header: browser(aliceHas)}, "403", ""},
		{"somebody without the role", ask{target: "/admin/users", header: browser(bobHas)}, "403", ""},
		{"somebody with the role", ask{target: "/admin/users", header: browser(aliceHas)}, "allow", "alice@example.com"},
		{"somebody where nobody may", ask{target: "/internal/x", header: browser(aliceHas)}, "403", ""},
		{"nobody where nobody may", ask{target: "/internal/x", header: browser("")}, "403", ""},
		{"a public path in the query", ask{target: "/app/secret?x=/public/", header: browser("")}, "redirect", ""},
		{"dots", ask{target: "/public/../admin/users", header: browser(aliceHas)}, "403", ""},
		{"encoded dots", ask{target: "/public/%2e%2e/admin/users", header: browser(aliceHas)}, "403", ""},
		{"an encoded slash", ask{target: "/public%2f..%2fadmin", header: browser(aliceHas)}, "403", ""},
		{"two slashes", ask{target: "/public//admin", header: browser(aliceHas)}, "403", ""},
		{"a semicolon", ask{target: "/public/..;/admin", header: browser(aliceHas)}, "403", ""},
		{"TRACE", ask{method: "TRACE", target: "/app/secret", header: browser(aliceHas)}, "403", ""},
		{"a preflight that passes", ask{method: "OPTIONS", target: "/api/x", header: with(preflight, override, "OPTIONS")}, "allow", ""},
		{"a preflight that says it is a PUT", ask{method: "OPTIONS", target: "/api/x", header: with(preflight, override, "PUT")}, "allow, or 401 where the header is handed on", ""},
		{"a preflight that says it is a DELETE", ask{method: "OPTIONS", target: "/api/x", header: with(preflight, override, "DELETE")}, "allow, or 403 where the header is handed on", ""},
		{"a preflight for a method that the rule is not for", ask{method: "OPTIONS", target: "/api/x", header: http.Header{"Origin": {"https://spa.example.net"}, "Access-Control-Request-Method": {"DELETE"}}}, "401", ""},
		{"a preflight where none passes", ask{method: "OPTIONS", target: "/app/secret", header: preflight}, "401", ""},
		{"GET with the headers of a preflight", ask{target: "/api/x", header: preflight}, "401", ""},
		{"a WebSocket", ask{target: "/app/ws", header: with(with(socket, "Origin", "https://"+ourHost), "Cookie", bobHas)}, "allow", "bob@example.com"},
		{"a WebSocket of another site", ask{target: "/app/ws", header: with(with(socket, "Origin", "https://evil.example"), "Cookie", bobHas)}, "403", ""},
		{"a WebSocket of nobody", ask{target: "/app/ws", header: with(socket, "Origin", "https://"+ourHost)}, "401", ""},
		{"another host of ours", ask{target: "/hosted/x", host: "other.example.com", header: browser("")}, "allow", ""},
		{"the path of another host", ask{target: "/hosted/x", header: browser("")}, "redirect", ""},
		{"nobody at another host of ours", ask{target: "/app/x?y", host: "other.example.com", header: browser("")}, "redirect", ""},
		{"a host that is not ours", ask{target: "/public/x", host: "evil.example", header: browser(aliceHas)}, "403", ""},
		{"a host that only begins like ours", ask{target: "/public/x", host: ourHost + ".evil.example", header: browser(aliceHas)}, "403", ""},
	}
	all := faces(w)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) { expectOfFaces(t, w, all, row) })
	}
}

// TestEveryFaceShowsAConditionTheWholeRequest: rules that select by nothing are
// judged as carefully as those that do.
func TestEveryFaceShowsAConditionTheWholeRequest(t *testing.T) {
	const condition = `(!request.path.startsWith("/admin/") || "admin" in user.roles) && request.method in ["GET", "POST"] && request.host != "other.example.com"`
	w := newWorld(t, setup{rules: []policy.Rule{{Name: "all", Require: &policy.Require{When: condition}}}, trusted: []string{"127.0.0.0/8"}, proxy: func(c *Config) {
		c.Hosts = append(c.Hosts, mustHost(t, "other.example.com"))
	}})
	aliceHas, bobHas := w.signIn(alice()), w.signIn(bob())
	rows := []faceRow{
		{"nobody", ask{target: "/app/x", header: browser("")}, "redirect", ""},
		{"somebody", ask{target: "/app/x", header: browser(bobHas)}, "allow", "bob@example.com"},
		{"a path", ask{target: "/admin/x", header: browser(bobHas)}, "403", ""},
		{"a path of somebody with the role", ask{target: "/admin/x", header: browser(aliceHas)}, "allow", "alice@example.com"},
		{"an encoded path", ask{target: "/%61dmin/x", header: browser(bobHas)}, "403", ""},
		{"dots", ask{target: "/app/../admin/x", header: browser(bobHas)}, "403", ""},
		{"a semicolon", ask{target: "/app/..;/admin/x", header: browser(bobHas)}, "403", ""},
		{"two slashes", ask{target: "//admin/x", header: browser(bobHas)}, "403", ""},
		{"a method", ask{method: "DELETE", target: "/app/x", header: browser(bobHas)}, "403", ""},
		{"a method in a header", ask{method: "POST", target: "/app/x", header: with(browser(bobHas), override, "DELETE")}, "allow, or 403 where the header is handed on", "bob@example.com"},
		{"a host", ask{target: "/app/x", host: "other.example.com", header: browser(bobHas)}, "403", ""},
		{"a host that is not ours", ask{target: "/app/x", host: "evil.example", header: browser(bobHas)}, "403", ""},
		{"a host that is none", ask{target: "/app/x", host: "app.example.com@x", header: browser(bobHas)}, "403", ""},
	}
	all := faces(w)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) { expectOfFaces(t, w, all, row) })
	}
}

// override is a header by which some applications take another method.
const override = "X-Http-Method-Override"

// A faceRow is an ask and what must come of it in every face.
type faceRow struct {
	name string
	ask
	class string // also "…, or … where the header is handed on" by an ingress that asks over HTTP
	who   string // the e-mail address that the application learns
}

// expectOfFaces sends row through each face.
func expectOfFaces(t *testing.T, w *world, all []face, row faceRow) {
	t.Helper()
	taken, handed, differ := strings.Cut(strings.TrimSuffix(row.class, " where the header is handed on"), ", or ")
	var first result
	for i, f := range all {
		w := *w
		w.TB = t
		a, want, who := row.ask, taken, row.who
		if differ && f.name != "proxy" && f.name != "gRPC" {
			want, who = handed, ""
		}
		a.header = forged(a.header)
		got := f.send(&w, a)
		checkClass(t, f.name, got.class, want)
		checkTold(t, f.name, got.told, who)
		if i == 0 {
			first = got
		}
		if got.class == "redirect" && got.location != first.location {
			t.Errorf("%s: redirects to %s, the proxy to %s", f.name, got.location, first.location)
		}
	}
}

// checkClass compares what was decided.
func checkClass(t *testing.T, face, got, want string) {
	t.Helper()
	if got != want && !(got == "401 or redirect" && (want == "401" || want == "redirect")) {
		t.Errorf("%s: decided %q, want %q", face, got, want)
	}
}

// checkTold compares what the application learns with who is there.
func checkTold(t *testing.T, face string, got map[string]string, email string) {
	t.Helper()
	if email == "" {
		if len(got) > 0 {
			t.Errorf("%s: the application learns %v of nobody", face, slices.Sorted(maps.Keys(got)))
		}
		return
	}
	if got["X-User-Email"] != email || got["X-User-Id"] == "" || !strings.HasPrefix(got["Authorization"], "Bearer ey") {
		t.Errorf("%s: the application learns of %q (id %q), want %q with a token", face, got["X-User-Email"], got["X-User-Id"], email)
	}
}
