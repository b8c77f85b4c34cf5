package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"authproxy/identity"
	"authproxy/page"
	"authproxy/policy"
	"authproxy/session"
)

// loopbackTrusted are the settings of a world whose ingress is the test.
func loopbackTrusted(rules []policy.Rule) setup {
	return setup{rules: rules, trusted: []string{"127.0.0.0/8"}}
}

// TestWhatCannotBeReadIsRefused: what is missing, there twice or no URL is a
// refusal, never the root.
func TestWhatCannotBeReadIsRefused(t *testing.T) {
	w := newWorld(t, loopbackTrusted([]policy.Rule{{Name: "all", Allow: "anyone"}})) // whatever can be read is allowed
	nginx := func(u, method []string) http.Header {
		return http.Header{"X-Original-Url": u, "X-Original-Method": method}
	}
	forward := func(change func(http.Header)) http.Header {
		h := http.Header{"X-Forwarded-Method": {"GET"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {ourHost}, "X-Forwarded-Uri": {"/a?b"}}
		change(h)
		return h
	}
	set := func(name string, values ...string) http.Header {
		return forward(func(h http.Header) { h[name] = values })
	}
	get, a := []string{"GET"}, []string{"https://" + ourHost + "/a"}
	tests := []struct {
		name, endpoint string
		header         http.Header
		want           int
	}{
		{"a URL and a method", "nginx", nginx(a, get), 200},
		{"a WebSocket's URL", "nginx", nginx([]string{"wss://" + ourHost + "/a"}, get), 200},
		{"a URL with a comma", "nginx", nginx([]string{"https://" + ourHost + "/a,b?ids=1,2,/x"}, get), 200},
		{"a URL with a port", "nginx", nginx([]string{"https://" + ourHost + ":8443/a"}, get), 200},
		{"no URL", "nginx", nginx(nil, get), 403},
		{"an empty URL", "nginx", nginx([]string{""}, get), 403},
		{"two URLs", "nginx", nginx([]string{a[0], a[0]}, get), 403},
		{"a list of URLs", "nginx", nginx([]string{a[0] + "," + a[0]}, get), 403},
		{"URLs in the query", "nginx", nginx([]string{a[0] + "?urls=https://a.example/1.png,https://b.example/2.png"}, get), 200},
		{"a list of URLs with a space", "nginx", nginx([]string{a[0] + ", " + a[0]}, get), 403},
		{"no method", "nginx", nginx(a, nil), 403},
		{"two methods", "nginx", nginx(a, []string{"GET", "POST"}), 403},
		{"a list of methods", "nginx", nginx(a, []string{"GET,POST"}), 403},
		{"a method in small letters", "nginx", nginx(a, []string{"get"}), 403},
		{"TRACE", "nginx", nginx(a, []string{"TRACE"}), 403},
		{"CONNECT", "nginx", nginx(a, []string{"CONNECT"}), 403},
		{"a path alone", "nginx", nginx([]string{"/a"}, get), 403},
		{"a URL without a scheme", "nginx", nginx([]string{"//" + ourHost + "/a"}, get), 403},
		{"a URL without a path", "nginx", nginx([]string{"https://" + ourHost}, get), 403},
		{"a URL with a query instead of a path", "nginx", nginx([]string{"https://" + ourHost + "?/a"}, get), 403},
		{"a URL without a host", "nginx", nginx([]string{"https:///a"}, get), 403},
		{"another scheme", "nginx", nginx([]string{"ftp://" + ourHost + "/a"}, get), 403},
		{"a scheme in capitals", "nginx", nginx([]string{"HTTPS://" + ourHost + "/a"}, get), 403},
		{"a user", "nginx", nginx([]string{"https://" + ourHost + "@evil.example/a"}, get), 403},
		{"our host as a user", "nginx", nginx([]string{"https://evil.example@" + ourHost + "/a"}, get), 403},
		{"a backslash in the host", "nginx", nginx([]string{`https://evil.example\.` + ourHost + "/a"}, get), 403},
		{"a host that is not ours", "nginx", nginx([]string{"https://evil.example/a"}, get), 403},
		{"a fragment", "nginx", nginx([]string{a[0] + "#b"}, get), 403},
		{"a space", "nginx", nginx([]string{a[0] + " b"}, get), 403},
		{"a tab", "nginx", nginx([]string{a[0] + "\tb"}, get), 403},
		{"a stray percent sign", "nginx", nginx([]string{a[0] + "%"}, get), 403},
		{"the other family alone", "nginx", set("X-Forwarded-Uri", "/a"), 403},

		{"all four", "forward", set("X-Forwarded-Uri", "/a?b"), 200},
		{"a WebSocket's scheme", "forward", set("X-Forwarded-Proto", "wss"), 200},
		{"a comma in the path", "forward", set("X-Forwarded-Uri", "/a,b?c,/d"), 200},
		{"URLs in the query", "forward", set("X-Forwarded-Uri", "/a?urls=https://a.example/1.png,https://b.example/2.png"), 200},
		{"no path", "forward", set("X-Forwarded-Uri"), 403},
		{"an empty path", "forward", set("X-Forwarded-Uri", ""), 403},
		{"two paths", "forward", set("X-Forwarded-Uri", "/a", "/a"), 403},
		{"a list of paths", "forward", set("X-Forwarded-Uri", "/a,/b"), 403},
		{"a list of paths with a space", "forward", set("X-Forwarded-Uri", "/a, /b"), 403},
		{"a path without a slash", "forward", set("X-Forwarded-Uri", "a"), 403},
		{"a whole URL", "forward", set("X-Forwarded-Uri", a[0]), 403},
		{"the asterisk", "forward", set("X-Forwarded-Uri", "*"), 403},
		{"no host", "forward", set("X-Forwarded-Host"), 403},
		{"two hosts", "forward", set("X-Forwarded-Host", ourHost, ourHost), 403},
		{"a list of hosts", "forward", set("X-Forwarded-Host", ourHost+","+ourHost), 403},
		{"a strange host", "forward", set("X-Forwarded-Host", "evil.example"), 403},
		{"no scheme", "forward", set("X-Forwarded-Proto"), 403},
		{"a list of schemes", "forward", set("X-Forwarded-Proto", "https,http"), 403},
		{"an unknown scheme", "forward", set("X-Forwarded-Proto", "javascript"), 403},
		{"no method", "forward", set("X-Forwarded-Method"), 403},
		{"two methods", "forward", set("X-Forwarded-Method", "GET", "GET"), 403},
		{"the other family alone", "forward", nginx(a, get), 403},

		{"a comma and a slash in the path", "envoy/a,/b", http.Header{"X-Forwarded-Proto": {"https"}}, 200},
		{"a path below the endpoint", "envoy/a", http.Header{"X-Forwarded-Proto": {"https"}}, 200},
		{"an ambiguous path that no rule is about", "envoy//a/../b", http.Header{"X-Forwarded-Proto": {"https"}}, 200},
		{"nothing below the endpoint", "envoy", http.Header{"X-Forwarded-Proto": {"https"}}, 403},
		{"a query alone", "envoy?/a", http.Header{"X-Forwarded-Proto": {"https"}}, 403},
		{"no scheme", "envoy/a", nil, 403},
		{"two schemes", "envoy/a", http.Header{"X-Forwarded-Proto": {"https", "http"}}, 403},
		{"the others' families", "envoy", with(forward(func(http.Header) {}), "X-Original-Url", a[0]), 403},

		{"an endpoint that is none", "nginx/", nginx(a, get), 404},
		{"an endpoint that only begins like one", "envoyx/a", http.Header{"X-Forwarded-Proto": {"https"}}, 404},
	}
	for _, tt := range tests {
		t.Run(tt.endpoint+": "+tt.name, func(t *testing.T) {
			w := *w
			w.TB = t
			h := with(tt.header, "Accept", "text/html")
			got := w.do(ask{target: "/auth/verify/" + tt.endpoint, header: h})
			if got.StatusCode != tt.want {
				t.Errorf("status = %d, want %d; the answer was %s", got.StatusCode, tt.want, got.body)
			}
		})
	}
}

// TestOnlyTheIngressMayAsk: whoever else asks gets no decision, and the log says
// what to set, but not for every request.
func TestOnlyTheIngressMayAsk(t *testing.T) {
	w := newWorld(t, setup{rules: anyone(), trusted: []string{"192.0.2.0/24"}})
	asks := map[string]ask{"nginx": askNginx(ask{header: browser("")}), "forward": askForward(ask{header: browser("")}), "envoy": askEnvoy(ask{header: browser("")})}
	for range 3 {
		for name, a := range asks {
			if got := w.do(a); got.StatusCode != 403 || !strings.Contains(got.body, "Only the ingress may ask here") {
				t.Errorf("%s: status %d, want 403 that says why; the answer was %s", name, got.StatusCode, got.body)
			}
		}
	}
	const complaint = "the peer is not trusted"
	if n := strings.Count(w.log.String(), complaint); n != len(asks) {
		t.Errorf("%d lines complain, want one for each face; the log:\n%s", n, w.log)
	}
	for _, want := range []string{`"peer":"127.0.0.1"`, "add its address to trusted_proxies"} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	w.clock.advance(complaintInterval)
	w.do(asks["nginx"])
	if n := strings.Count(w.log.String(), complaint); n != len(asks)+1 {
		t.Errorf("after a minute %d lines complain, want %d", n, len(asks)+1)
	}
}

// TestAnAllowingAnswerIsForTheIngressAlone: it says everything, and nobody keeps it.
func TestAnAllowingAnswerIsForTheIngressAlone(t *testing.T) {
	w := newWorld(t, loopbackTrusted(anyone()))
	for name, a := range map[string]ask{"nginx": askNginx(ask{header: browser("")}), "forward": askForward(ask{header: browser("")}), "envoy": askEnvoy(ask{header: browser("")})} {
		got := w.do(a)
		for header, want := range map[string]string{
			"Cache-Control": "no-store", "X-Accel-Expires": "0", "Vary": "Cookie, Authorization", "Content-Length": "0",
			"Authorization": "", "X-User-Id": "", "X-User-Email": "", "X-User-Name": "", "X-User-Groups": "", "X-User-Roles": "",
		} {
			if values := got.Header[header]; got.StatusCode != 200 || len(values) != 1 || values[0] != want {
				t.Errorf("%s: status %d, %s = %q, want 200 with %q", name, got.StatusCode, header, values, want)
			}
		}
	}
}

// TestADenyingAnswerIsForItsPersonAlone: it may name the person, and nobody keeps it
// for the next one.
func TestADenyingAnswerIsForItsPersonAlone(t *testing.T) {
	w := newWorld(t, loopbackTrusted(adminsBelowAdmin()))
	people := map[string]http.Header{
		"somebody by cookie": browser(w.signIn(bob())), "somebody by token": {"Authorization": {"Bearer " + w.bearer(bob())}, "Accept": {"text/html"}},
		"nobody's browser": browser(""), "nobody's script": {"Accept": {"*/*"}},
	}
	for face, about := range map[string]func(ask) ask{"nginx": askNginx, "forward": askForward, "envoy": askEnvoy} {
		for who, header := range people {
			got := w.do(about(ask{target: "/admin/x", header: header}))
			if got.StatusCode == http.StatusOK {
				t.Fatalf("%s: %s is allowed", face, who)
			}
			for name, want := range map[string]string{"Cache-Control": "no-store", "X-Accel-Expires": "0", "Vary": "Cookie, Authorization"} {
				if values := got.Header[name]; len(values) != 1 || values[0] != want {
					t.Errorf("%s, %s, %d: %s = %q, want %q", face, who, got.StatusCode, name, values, want)
				}
			}
			if named := strings.Contains(got.body, "bob@example.com"); named != strings.HasPrefix(who, "somebody") {
				t.Errorf("%s, %s: the page names bob: %v", face, who, named)
			}
		}
	}
}

// With authorization: pass, the application gets what the client sent, whatever
// the ingress takes from the answer.
func TestAuthorizationIsPassedBack(t *testing.T) {
	s := loopbackTrusted(anyone())
	s.identity = func(c *identity.Config) { c.Authorization = identity.AuthorizationPass }
	w := newWorld(t, s)
	got := w.do(askForward(ask{header: http.Header{"Authorization": {"Basic YTpi"}}}))
	if got.StatusCode != 200 || got.Header.Get("Authorization") != "Basic YTpi" {
		t.Errorf("status %d, Authorization = %q, want 200 with the client's", got.StatusCode, got.Header.Get("Authorization"))
	}
}

// TestTheLineInTheLogIsTheOriginals, and without a query.
func TestTheLineInTheLogIsTheOriginals(t *testing.T) {
	w := newWorld(t, loopbackTrusted(nil))
	w.do(askNginx(ask{method: "POST", target: "/app/x?code=secret", header: with(browser(""), "X-Forwarded-For", "198.51.100.7")}))
	for _, want := range []string{`"face":"nginx"`, `"decision":"sign_in"`, `"method":"POST"`, `"host":"` + ourHost + `"`, `"path":"/app/x"`, `"status":401`, `"client_ip":"198.51.100.7"`} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, w.log)
		}
	}
	if strings.Contains(w.log.String(), "secret") {
		t.Errorf("the log holds the query:\n%s", w.log)
	}
	w.do(ask{target: "/auth/verify/nginx"})
	if want := `"reason":"proxy: the original request cannot be read: X-Original-Url is missing"`; !strings.Contains(w.log.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, w.log)
	}
}

// aboutA are the headers of a question about a POST of /a.
const aboutA = "X-Forwarded-Method: POST\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: " + ourHost + "\r\nX-Forwarded-Uri: /a\r\n"

// TestABodyIsNotWaitedFor: some ingresses send the original's along, and Expect.
func TestABodyIsNotWaitedFor(t *testing.T) {
	w := newWorld(t, loopbackTrusted(anyone()))
	for name, request := range map[string]string{
		"a body that does not come":    "POST /auth/verify/forward HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n",
		"chunks that do not come":      "POST /auth/verify/forward HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n",
		"a body that waits to be told": "POST /auth/verify/forward HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n",
		"HTTP/1.0":                     "GET /auth/verify/forward HTTP/1.0\r\n",
		"a WebSocket's handshake":      "GET /auth/verify/forward HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(w.front.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, request+aboutA+"\r\n")
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			head := make([]byte, 64)
			if n, err := io.ReadAtLeast(conn, head, 12); err != nil || !strings.HasPrefix(string(head[9:n]), "200") {
				t.Errorf("the answer begins with %q (%v), want 200", head[:n], err)
			}
		})
	}
}

// TestAfterABodyTheConnectionEnds, and the answer says so: the ingress sends the next
// person's question on another one, and nothing in a body is taken for a question.
func TestAfterABodyTheConnectionEnds(t *testing.T) {
	w := newWorld(t, loopbackTrusted(anyone()))
	const question = "POST /auth/verify/forward HTTP/1.1\r\nHost: x\r\n" + aboutA
	for name, body := range map[string]string{
		"a body":               "Content-Length: 4\r\n\r\nbody",
		"chunks":               "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
		"a chunk that is none": "Transfer-Encoding: chunked\r\n\r\nbody\r\n",
	} {
		status, rest := raw(t, w.front.URL, question+body+question+"\r\n")
		if status != "HTTP/1.1 200 OK" || !strings.Contains(rest, "\r\nConnection: close\r\n") || strings.Contains(rest, "HTTP/1.1") {
			t.Errorf("%s: answered with %s and %q, want one answer that closes", name, status, rest)
		}
	}
}

// TestARenewalIsOneCookieOrNone: an ingress hands one on at most.
func TestARenewalIsOneCookieOrNone(t *testing.T) {
	big := alice()
	for range 400 {
		big.Groups = append(big.Groups, rand.Text())
	}
	for name, tt := range map[string]struct {
		who  session.User
		want int
	}{"one cookie": {alice(), 1}, "a cookie in parts": {big, 0}} {
		t.Run(name, func(t *testing.T) {
			s := loopbackTrusted(nil)
			s.identity = func(c *identity.Config) { c.CutGroups = true }
			w := newWorld(t, s)
			cookies := w.signIn(tt.who)
			if parts := strings.Contains(cookies, "_0="); parts != (tt.want == 0) {
				t.Fatalf("the cookie came in parts: %v", parts)
			}
			w.clock.advance(25 * time.Hour)
			for range 2 { // the first answer is lost, and nobody is signed out
				got := w.do(askForward(ask{header: browser(cookies)}))
				if got.StatusCode != 200 || len(got.Header["Set-Cookie"]) != tt.want {
					t.Errorf("status %d with %d cookies, want 200 with %d", got.StatusCode, len(got.Header["Set-Cookie"]), tt.want)
				}
			}
		})
	}
}

// TestAnIngressThatAsksAboutOurPagesMakesNoCircle.
func TestAnIngressThatAsksAboutOurPagesMakesNoCircle(t *testing.T) {
	w := newWorld(t, loopbackTrusted(nil))
	got := w.do(askForward(ask{target: "/auth/sign-in?rd=/", header: browser("")}))
	if got.StatusCode != 403 || !strings.Contains(w.log.String(), "let the ingress pass /auth/ to authproxy without asking") {
		t.Errorf("status %d, want 403 and a remedy in the log:\n%s", got.StatusCode, w.log)
	}
}

// TestWithoutRoutesOnlyTheIngressIsAnswered.
func TestWithoutRoutesOnlyTheIngressIsAnswered(t *testing.T) {
	s := loopbackTrusted(nil)
	s.proxy = func(c *Config) { c.Routes = nil }
	s.level = slog.LevelDebug
	w := newWorld(t, s)
	cookies := w.signIn(alice())
	if got := w.do(ask{target: "/app", header: browser(cookies)}); got.StatusCode != 404 || !strings.Contains(got.body, "There is no application at this address") {
		t.Errorf("status %d, want 404 that says why; the answer was %s", got.StatusCode, got.body)
	}
	if got := w.do(askForward(ask{target: "/app", header: browser(cookies)})); got.StatusCode != 200 {
		t.Errorf("status %d, want 200", got.StatusCode)
	}
}

// TestNarrowing: what the ingress asks for in its own query can only refuse.
func TestNarrowing(t *testing.T) {
	w := newWorld(t, loopbackTrusted(anyoneBelowPublic()))
	who := map[string]string{"alice": w.signIn(alice()), "bob": w.signIn(bob()), "nobody": ""}
	tests := []struct {
		who, query, target string
		want               int
	}{
		{"alice", "", "/a", 200},
		{"alice", "?allowed_groups=ops", "/a", 200},
		{"bob", "?allowed_groups=ops", "/a", 403},
		{"bob", "?allowed_groups=ops,staff", "/a", 200},
		{"bob", "?allowed_groups=ops&allowed_groups=staff", "/a", 403},
		{"alice", "?allowed_groups=ops&allowed_groups=staff", "/a", 200},
		{"bob", "?allowed_emails=bob@example.com", "/a", 200},
		{"bob", "?allowed_emails=alice%40example.com", "/a", 403},
		{"bob", "?allowed_email_domains=example.com", "/a", 200},
		{"bob", "?allowed_email_domains=example.org,ample.com", "/a", 403},
		{"bob", "?allowed_email_domains=example.com&allowed_groups=ops", "/a", 403},
		{"bob", "?allowed_groups=", "/a", 403},
		{"bob", "?allowed_groups", "/a", 403},
		{"bob", "?allowed%5Fgroups=ops", "/a", 403},
		{"bob", "?x;y=1&allowed_groups=ops;staff", "/a", 403},
		{"bob", "?allowed_groups=%zz", "/a", 403},
		{"bob", "?groups=ops&rd=/x&allowed=nobody&%zz", "/a", 200},
		{"nobody", "?allowed_groups=staff", "/a", 302},
		{"nobody", "", "/public/x", 200},
		{"nobody", "?allowed_groups=staff", "/public/x", 302},
		{"bob", "?allowed_groups=ops", "/public/x", 403},
	}
	for _, tt := range tests {
		for name, a := range map[string]ask{
			"forward": askForward(ask{target: tt.target, header: browser(who[tt.who])}),
			"nginx":   askNginx(ask{target: tt.target, header: browser(who[tt.who])}),
		} {
			want := tt.want
			if name == "nginx" && want == 302 {
				want = 401
			}
			a.target += tt.query
			if got := w.do(a); got.StatusCode != want {
				t.Errorf("%s: %s at %s with %q: status %d, want %d", name, tt.who, tt.target, tt.query, got.StatusCode, want)
			}
		}
	}
	// A preflight that passes brings nobody, whoever is asked for.
	api := newWorld(t, loopbackTrusted(adminsBelowAdmin()))
	preflight := askForward(ask{method: "OPTIONS", target: "/api/x", header: http.Header{"Origin": {"https://spa.example.net"}, "Access-Control-Request-Method": {"PUT"}}})
	preflight.target += "?allowed_groups=ops"
	if got := api.do(preflight); got.StatusCode != 200 {
		t.Errorf("a preflight that passes: status %d, want 200", got.StatusCode)
	}
	// One that is let through as anybody's request is asked about as any.
	public := askForward(ask{method: "OPTIONS", target: "/public/x", header: http.Header{"Origin": {"https://spa.example.net"}, "Access-Control-Request-Method": {"PUT"}}})
	public.target += "?allowed_groups=ops"
	if got := w.do(public); got.StatusCode != 401 {
		t.Errorf("a preflight by allow: anyone: status %d, want 401", got.StatusCode)
	}
	// Envoy's query is the client's.
	if got := w.do(askEnvoy(ask{target: "/a?allowed_groups=ops", header: browser(who["bob"])})); got.StatusCode != 200 {
		t.Errorf("envoy: status %d, want 200: the query is the original's", got.StatusCode)
	}
}

// FuzzOriginalURL: what is read is what was there, and net/url sees no other host
// or path in it.
func FuzzOriginalURL(f *testing.F) {
	for _, seed := range []string{
		"https://app.example.com/a?b=c", "wss://app.example.com:8443/", "https://a@b/c", "https://a/b,https://c/d", "http://[::1]/x", "https:///x",
		`https://a\b/c`, "https://a/b#c", "https://a?b/c", "//a/b", "https://a/%2e%2e/b", "https://a//b", "https://a/\x00",
	} {
		f.Add(seed)
	}
	ours := policy.Hosts{mustHost(f, "app.example.com"), mustHost(f, "[::1]"), mustHost(f, "a")}
	f.Fuzz(func(t *testing.T, raw string) {
		scheme, host, got, err := parseOriginalURL(raw)
		if err != nil || !ours.Contains(host) {
			return
		}
		if scheme != "http" && scheme != "https" {
			t.Errorf("parseOriginalURL(%q): scheme %q", raw, scheme)
		}
		if !strings.HasSuffix(raw, "://"+host+got.String()) {
			t.Errorf("parseOriginalURL(%q) = %q, %q: not the bytes that came", raw, host, got)
		}
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			return // net/url is stricter about some queries and ports
		}
		decoded, err := url.PathUnescape(got.path)
		if u.Host != host || u.User != nil || err != nil || u.Path != decoded {
			t.Errorf("parseOriginalURL(%q) = %q, %q; net/url sees %q, %q", raw, host, decoded, u.Host, u.Path)
		}
	})
}

// TestACookieThatNoBrowserKeepsIsLeftOut.
func TestACookieThatNoBrowserKeepsIsLeftOut(t *testing.T) {
	w := newWorld(t, loopbackTrusted(nil))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", w.signIn(bob()))
	who, err := w.resolver.Identify(r)
	w.must(err)
	whole, gone := "a=b; Path=/; Max-Age=60", "a_0=; Path=/; Max-Age=0"
	for name, tt := range map[string]struct {
		cookies []string
		want    string
	}{
		"none":                       {nil, ""},
		"one":                        {[]string{whole}, whole},
		"one, and the end of others": {[]string{gone, whole, gone}, whole},
		"two":                        {[]string{whole, whole}, ""},
		"the end of one":             {[]string{gone}, ""},
		"one that is too long":       {[]string{whole + "; Domain=" + strings.Repeat("a", maxSetCookie)}, ""},
		"one that is none":           {[]string{"=;"}, ""},
	} {
		x := &exchange{cookies: tt.cookies, verdict: verdict{who: who}}
		if got := w.proxy.onlyCookie(x); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	w.sessions.End(httptest.NewRecorder(), r)
	if got := w.proxy.onlyCookie(&exchange{cookies: []string{whole}, verdict: verdict{who: who}}); got != "" {
		t.Errorf("of a session that has ended: %q, want none", got)
	}
}

// TestAStoreThatIsDownSignsNobodyOut: that is 503 at every face, and no cookie
// changes.
func TestAStoreThatIsDownSignsNobodyOut(t *testing.T) {
	w := newWorld(t, loopbackTrusted(nil))
	down := unavailable(errors.New("no route to the database"))
	for _, redirects := range []bool{false, true} {
		rec := httptest.NewRecorder()
		x := &exchange{original: w.proxy.direct(httptest.NewRequest("GET", "/", nil), faceNginx)}
		w.proxy.deny(rec, x, redirects, down)
		if rec.Code != 503 || rec.Header().Get("Retry-After") == "" || rec.Header().Get("Set-Cookie") != "" || strings.Contains(rec.Body.String(), "database") {
			t.Errorf("status %d, Retry-After %q, Set-Cookie %q, want 503 and no word of the cause: %s", rec.Code, rec.Header().Get("Retry-After"), rec.Header().Get("Set-Cookie"), rec.Body)
		}
	}
	gone := context.Canceled
	if err := unavailable(gone); !errors.Is(err, gone) || errors.As(err, new(*page.Error)) {
		t.Errorf("a client that has gone is answered with %v", err)
	}
}

// TestAMethodInAHeaderIsJudged: an ingress hands on the headers by which some
// applications take another method than the request's own, and we cannot take them
// out, so both have to be allowed.
func TestAMethodInAHeaderIsJudged(t *testing.T) {
	w := newWorld(t, loopbackTrusted([]policy.Rule{
		{Name: "public", Path: "/public/**", Methods: []string{"GET"}, Allow: "anyone"},
		{Name: "signed in", Methods: []string{"GET", "POST", "PUT"}, Require: &policy.Require{SignedIn: true}},
	}))
	bobHas := w.signIn(bob())
	tests := []struct {
		method, target, cookies string
		name, value             string
		allowed                 bool
	}{
		{"GET", "/public/x", "", "", "", true},
		{"GET", "/public/x", "", "X-Http-Method-Override", "GET", true},
		{"GET", "/public/x", "", "X-Http-Method-Override", "DELETE", false},
		{"GET", "/public/x", "", "X-Http-Method-Override", "delete", false},
		{"GET", "/public/x", "", "X-Http-Method-Override", " PUT", false},
		{"GET", "/public/x", "", "X-Http-Method-Override", "GET, DELETE", false},
		{"GET", "/public/x", "", "X_http_method_override", "DELETE", false},
		{"GET", "/public/x", "", "X-Http-Method", "PUT", false},
		{"GET", "/public/x", "", "X.Method.Override", "PUT", false},
		{"POST", "/app", bobHas, "X-Http-Method-Override", "PUT", true},
		{"POST", "/app", bobHas, "X-Http-Method-Override", "put", true},
		{"POST", "/app", bobHas, "X-Http-Method-Override", "", true},
		{"POST", "/app", bobHas, "X-Http-Method-Override", "DELETE", false},
		{"POST", "/public/x", "", "X-Http-Method-Override", "GET", false},
	}
	for face, about := range map[string]func(ask) ask{"nginx": askNginx, "forward": askForward, "envoy": askEnvoy} {
		for _, tt := range tests {
			h := browser(tt.cookies)
			if tt.name != "" {
				h[tt.name] = []string{tt.value}
			}
			got := w.do(about(ask{method: tt.method, target: tt.target, header: h}))
			if allowed := got.StatusCode == http.StatusOK; allowed != tt.allowed {
				t.Errorf("%s: %s %s with %s: %q: status %d, want it allowed: %v", face, tt.method, tt.target, tt.name, tt.value, got.StatusCode, tt.allowed)
			}
		}
	}
}

// TestAPreflightThatPassesIsNoOtherMethod: it brings no credentials, and an
// application must not take it for a request that needs some.
func TestAPreflightThatPassesIsNoOtherMethod(t *testing.T) {
	w := newWorld(t, loopbackTrusted([]policy.Rule{{Name: "api", Path: "/api/**", Require: &policy.Require{SignedIn: true}, Preflight: "pass"}}))
	plain := ask{method: "OPTIONS", target: "/api/x", header: http.Header{"Origin": {"https://spa.example.net"}, "Access-Control-Request-Method": {"GET"}}}
	disguised := plain
	disguised.header = with(plain.header, override, "DELETE")
	for face, about := range map[string]func(ask) ask{"nginx": askNginx, "forward": askForward, "envoy": askEnvoy} {
		if got := w.do(about(plain)); got.StatusCode != 200 {
			t.Errorf("%s: status %d, want 200", face, got.StatusCode)
		}
		if got := w.do(about(disguised)); got.StatusCode != 401 {
			t.Errorf("%s: that says it is a DELETE: status %d, want 401", face, got.StatusCode)
		}
	}
	if got := w.pass(disguised); got.Header.Get(override) != "" {
		t.Errorf("the application of the proxy is told to take %s", got.Header.Get(override))
	}
}

// TestAnIngressIsNotTheClient: one that does not say who the client is does not
// get its own address judged in the client's place, which is inside while the
// client need not be.
func TestAnIngressIsNotTheClient(t *testing.T) {
	inside := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	w := newWorld(t, loopbackTrusted([]policy.Rule{{Name: "inside", Clients: inside, Allow: "anyone"}}))
	asks := map[string]func(ask) ask{"nginx": askNginx, "forward": askForward, "envoy": askEnvoy}
	for name, about := range asks {
		for _, tt := range []struct {
			forwarded []string
			want      int
		}{
			{[]string{"10.1.2.3"}, 200},
			{[]string{"127.0.0.1"}, 200}, // a browser on the same machine
			{[]string{"198.51.100.7"}, 403},
			{nil, 403},
			{[]string{""}, 403},
			{[]string{"198.51.100.7:4711"}, 403}, // as some load balancers write it
			{[]string{"198.51.100.7, unknown"}, 403},
			{[]string{"unknown, 127.0.0.2"}, 403},
		} {
			a := about(ask{header: browser("")})
			a.header["X-Forwarded-For"] = tt.forwarded
			if got := w.do(a); got.StatusCode != tt.want {
				t.Errorf("%s: with X-Forwarded-For %q the status is %d, want %d", name, tt.forwarded, got.StatusCode, tt.want)
			}
		}
	}
	reads := newWorld(t, loopbackTrusted([]policy.Rule{{Name: "outside", Require: &policy.Require{When: `!request.client_ip.startsWith("198.51.100.")`}}}))
	bobHas := reads.signIn(bob())
	for name, about := range asks {
		for forwarded, want := range map[string]int{"192.0.2.1": 200, "198.51.100.7": 403, "": 403} {
			a := about(ask{header: with(browser(bobHas), "X-Forwarded-For", forwarded)})
			if got := reads.do(a); got.StatusCode != want {
				t.Errorf("%s: a condition about the client, with X-Forwarded-For %q: status %d, want %d", name, forwarded, got.StatusCode, want)
			}
		}
	}
	e := newEnvoy(w, nil, nil) // which says it in an attribute
	for forwarded, want := range map[string]codes.Code{"": codes.PermissionDenied, "10.1.2.3": codes.PermissionDenied} {
		req := checkRequest(ask{header: http.Header{"X-Forwarded-For": {forwarded}}})
		if got := codes.Code(e.check(req).GetStatus().GetCode()); got != want { // 198.51.100.7 is no proxy of ours
			t.Errorf("gRPC: with X-Forwarded-For %q the status is %v, want %v", forwarded, got, want)
		}
	}
	for forwarded, want := range map[string]codes.Code{"": codes.OK, "127.0.0.9": codes.OK, "198.51.100.7": codes.PermissionDenied, "unknown": codes.PermissionDenied} {
		req := checkRequest(ask{header: http.Header{"X-Forwarded-For": {forwarded}}})
		req.Attributes.Source.Address.GetSocketAddress().Address = "127.0.0.1" // a proxy of ours before Envoy
		if got := codes.Code(e.check(req).GetStatus().GetCode()); got != want {
			t.Errorf("gRPC, behind another proxy: with X-Forwarded-For %q the status is %v, want %v", forwarded, got, want)
		}
	}
	if want := "let the ingress set X-Forwarded-For"; !strings.Contains(w.log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, w.log)
	}
}
