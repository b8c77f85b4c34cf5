package e2e

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"authproxy/devidp"
)

// TestEachIngress holds every ingress that can be installed here, with our example
// for it, to the same promises.
func TestEachIngress(t *testing.T) {
	slow(t)
	t.Parallel()
	promises := []struct {
		name string
		show func(t *testing.T, s *site)
	}{
		{"a page leads to sign-in and back to the whole address", pageLeadsToSignIn},
		{"what is no page gets a 401", noPageGets401},
		{"nobody gets in by a header or a spelling", nobodyGetsIn},
		{"browsers cannot ask what authproxy thinks", browsersAskNothing},
		{"the application learns who is there, and nothing forged", applicationLearns},
		{"the application is told of no other path, method or person", applicationIsToldNothingElse},
		{"a preflight passes where a rule says so", preflightPasses},
		{"who lacks the role gets a 403", roleIsNeeded},
		{"a WebSocket works for who is signed in", webSocketWorks},
		{"a form is passed on once, and never replayed", formPassesOnce},
		{"two tabs sign in at once", twoTabs},
		{"what the docs say to check holds", checksHold},
		{"somebody in many groups gets in", manyGroups},
		{"an ID token of 9 KB is in no header", longTokenIsInNoHeader},
		{"renewed sessions go on, whether the browser learns of it or not", renewalHarmsNobody},
		{"sign-out signs out", signOutEndsIt},
		{"without authproxy nobody gets in", nobodyGetsInWithoutAuthproxy}, // the last one
	}
	for _, in := range ingresses() {
		t.Run(in.name, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, in)
			for _, p := range promises {
				t.Run(p.name, func(t *testing.T) {
					s.reached() // what other tests sent
					p.show(t, s)
				})
			}
		})
	}
}

func pageLeadsToSignIn(t *testing.T, s *site) {
	const target = "/app/a%20b/%C3%BC?q=1&r=%26x%3D%2F&rd=/evil;z+y&%23=%25"
	v := s.guest("alice")
	res, _ := v.sends(t, "GET", target, "Accept: text/html", "Sec-Fetch-Mode: navigate")
	want := s.base + "/auth/sign-in?" + url.Values{"rd": {target}}.Encode()
	if got := res.Header.Get("Location"); res.StatusCode != http.StatusFound || got != want {
		t.Errorf("a page for nobody: %d to %q, want 302 to %q", res.StatusCode, got, want)
	}
	if got := res.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("the redirect's Cache-Control is %q, want no-store", got)
	}
	got := v.opens(t, target+"#fragment")
	if got.Path != target {
		t.Errorf("sign-in led back to %s, want %s", got.Path, target)
	}
	if seen := s.reached(); !slices.Equal(seen, []string{"GET " + target}) {
		t.Errorf("the application got %v, want the one request after sign-in", seen)
	}
	expectUser(t, got, "alice@example.com")
}

func noPageGets401(t *testing.T, s *site) {
	tests := []struct {
		name, method string
		lines        []string
	}{
		{"XHR", "GET", []string{"Accept: */*", "X-Requested-With: XMLHttpRequest"}},
		{"XHR for HTML", "GET", []string{"Accept: text/html", "X-Requested-With: XMLHttpRequest"}},
		{"fetch", "GET", []string{"Accept: */*", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Sec-Fetch-Site: same-origin"}},
		{"fetch for HTML", "GET", []string{"Accept: text/html", "Sec-Fetch-Mode: cors"}},
		{"htmx", "GET", []string{"Accept: */*", "HX-Request: true"}},
		{"an API's client", "GET", []string{"Accept: text/html", "Authorization: Bearer x"}},
		{"a WebSocket", "GET", []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Accept: text/html"}},
		{"a form", "POST", []string{"Accept: text/html", "Sec-Fetch-Mode: navigate", "Content-Type: application/x-www-form-urlencoded", "Content-Length: 0"}},
		{"a form of another site", "POST", []string{"Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: cross-site", "Origin: https://other.example", "Content-Type: text/plain", "Content-Length: 0"}},
		{"a method of one's own", "PROPFIND", []string{"Accept: text/html", "Sec-Fetch-Mode: navigate"}},
	}
	for _, tt := range tests {
		res, body := s.guest("").sends(t, tt.method, "/app?a=1&b=2", tt.lines...)
		if res.StatusCode != http.StatusUnauthorized || res.Header.Get("Location") != "" || !strings.HasPrefix(res.Header.Get("Www-Authenticate"), "Bearer") {
			t.Errorf("%s: %d, Location %q, WWW-Authenticate %q; want 401, none and Bearer", tt.name, res.StatusCode, res.Header.Get("Location"), res.Header.Get("Www-Authenticate"))
		}
		if !strings.Contains(body, "/auth/sign-in?rd=") {
			t.Errorf("%s: the answer does not say where to sign in: %s", tt.name, body)
		}
	}
	if seen := s.reached(); len(seen) > 0 {
		t.Errorf("the application got %v, want nothing", seen)
	}
}

func nobodyGetsIn(t *testing.T, s *site) {
	public := s.base + "/public/x"
	host := strings.TrimPrefix(s.base, "https://")
	tests := []struct {
		name, target string
		lines        []string
	}{
		{"plainly", "/app/secret", nil},
		{"X-Forwarded-Uri", "/app/secret", []string{"X-Forwarded-Uri: /public/x"}},
		{"the whole family of Traefik", "/app/secret", []string{"X-Forwarded-Method: GET", "X-Forwarded-Proto: https", "X-Forwarded-Host: " + host, "X-Forwarded-Uri: /public/x"}},
		{"X-Original-URL", "/app/secret", []string{"X-Original-URL: " + public}},
		{"the whole family of nginx", "/app/secret", []string{"X-Original-URL: " + public, "X-Original-Method: GET"}},
		{"both families, with underscores", "/app/secret", []string{"X_Original_URL: " + public, "X_Forwarded_Uri: /public/x"}},
		{"a method that passes", "/api/x", []string{"X-Forwarded-Method: OPTIONS", "X-Original-Method: OPTIONS", "Origin: https://other.example", "Access-Control-Request-Method: GET"}},
		{"other headers of the kind", "/app/secret", []string{"X-Original-URI: /public/x", "X-Rewrite-URL: /public/x", "X-Auth-Request-Redirect: /public/x", "Forwarded: for=127.0.0.1;host=" + host}},
		{"an address of the ingress", "/app/secret", []string{"X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1"}},
		{"identity headers", "/app/secret", []string{"X-User-Id: forged", "Remote-User: forged", "Authorization: Basic Zm9yZ2VkOg=="}},
		{"headers to be dropped", "/app/secret", []string{"Connection: X-Original-URL, X-Forwarded-Uri, Cookie"}},
		{"dots", "/public/../app/secret", nil},
		{"encoded dots", "/public/%2e%2e/app/secret", nil},
		{"an encoded slash", "/public/..%2fapp/secret", nil},
		{"a backslash", "/public/..\\app/secret", nil},
		{"two slashes", "//app/secret", nil},
		{"a parameter", "/public/..;/app/secret", nil},
		{"dots below the prefix", "/auth/../app/secret", nil},
		{"encoded dots below the prefix", "/auth/%2e%2e/app/secret", nil},
		{"the prefix in capitals", "/AUTH/../app/secret", nil},
		{"a query of ours", "/app/secret?allowed_groups=x&rd=/public/x", nil},
		{"a fragment", "/app/secret#/public/x", nil},
	}
	for _, tt := range tests {
		res, body := s.guest("").sends(t, "GET", tt.target, append(tt.lines, "Accept: */*")...)
		if res.StatusCode < 300 {
			t.Errorf("%s: %d, want a refusal: %s", tt.name, res.StatusCode, body)
		}
	}
	if seen := s.reached(); len(seen) > 0 {
		t.Errorf("the application got %v, want nothing", seen)
	}
}

// browsersAskNothing: whoever may ask learns what the application would be told
// about the asker, the token included.
func browsersAskNothing(t *testing.T, s *site) {
	v := s.guest("alice")
	v.opens(t, "/app")
	host := strings.TrimPrefix(s.base, "https://")
	for _, target := range []string{"/auth/verify/nginx", "/auth/verify/forward", "/auth/verify/envoy/public/x", "/auth//verify/forward", "/auth/%76erify/forward", "/auth/./verify/nginx"} {
		res, body := v.sends(t, "GET", target, "X-Original-URL: "+s.base+"/public/x", "X-Original-Method: GET",
			"X-Forwarded-Method: GET", "X-Forwarded-Proto: https", "X-Forwarded-Host: "+host, "X-Forwarded-Uri: /public/x")
		if res.StatusCode == http.StatusOK || res.Header.Get("X-User-Id")+res.Header.Get("Authorization") != "" {
			t.Errorf("%s answers a browser with %d: %s", target, res.StatusCode, body)
		}
	}
}

// forged are headers that only authproxy may write, as clients might spell them.
func forged() []string {
	var lines []string
	for _, name := range []string{"X-User-Id", "X-User-Email", "X-User-Name", "X-User-Groups", "X-User-Roles"} {
		for _, spelled := range []string{name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "_", 1)} {
			lines = append(lines, spelled+": forged")
		}
	}
	lines = append(lines, "X-Forwarded-For: 192.0.2.66", "X-Forwarded-Host: forged.example", "X-Forwarded-Proto: http")
	return append([]string{"Connection: close, X-User-Id, Authorization"}, lines...)
}

func applicationLearns(t *testing.T, s *site) {
	v := s.guest("alice")
	id := v.opens(t, "/app").Headers.Get("X-User-Id")
	want := map[string]string{"X-User-Id": id, "X-User-Email": "alice@example.com", "X-User-Name": "Alice Adams", "X-User-Groups": "admins,staff", "X-User-Roles": "admin"}
	tests := []struct {
		name, target string
		who          guest
		more         string
		want         map[string]string
	}{
		{"alice", "/app?x=1", v, "Accept: application/json", want},
		{"alice, with a query that means something to authproxy", "/app?allowed_groups=nobody", v, "Accept: application/json", want},
		{"alice, who offers an upgrade", "/app", v, "Upgrade: something", want},
		{"alice on a public page", "/public/x", v, "Accept: application/json", want},
		{"nobody on a public page", "/public/x", s.guest(""), "Accept: application/json", nil},
		{"nobody on a public page, with a bearer token", "/public/x", s.guest(""), "Authorization: Bearer forged", nil},
	}
	for _, tt := range tests {
		lines := append(forged(), tt.more, "Accept: application/json")
		if strings.HasPrefix(tt.more, "Upgrade") {
			lines[0] = "Connection: Upgrade, X-User-Id, Authorization"
		}
		res, body := tt.who.sends(t, "GET", tt.target, lines...)
		expectTold(t, tt.name, receivedBy(t, res, []byte(body)), tt.want)
		res, answer := get(t, tt.who.Client, s.base+tt.target, headerOf(forged()[1:]))
		if res.ProtoMajor != 2 {
			t.Fatalf("the protocol is %s, want HTTP/2", res.Proto)
		}
		got := receivedBy(t, res, answer)
		expectTold(t, tt.name+" over HTTP/2", got, tt.want)
		if tt.want != nil {
			expectTokenOf(t, "http://"+s.own, s.base, got.Headers.Get("Authorization"), id)
		}
	}
}

// toldByClients are headers that applications believe, and that nobody sets for them
// with the examples.
func toldByClients() []string {
	return []string{
		"X-Original-URL", "X-Original-URI", "X-Original-Method", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
		"X-Auth-Request-User", "X-Auth-Request-Email", "X-Auth-Request-Groups", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Access-Token",
		"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
		"Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups", "Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP",
	}
}

// applicationIsToldNothingElse: of a header that the ingress leaves, an application
// may take another path or method than the judged one, or somebody else.
func applicationIsToldNothingElse(t *testing.T, s *site) {
	lines := []string{"Accept: application/json"}
	for _, name := range toldByClients() {
		value := "/admin/users"
		if strings.Contains(name, "Method") { // else there is nothing to judge, and authproxy refuses
			value = "BREW"
		}
		lines = append(lines, name+": "+value)
	}
	v := s.guest("alice")
	v.opens(t, "/app")
	for who, g := range map[string]guest{"nobody": s.guest(""), "alice": v} {
		res, body := g.sends(t, "GET", "/public/x", lines...)
		got := receivedBy(t, res, []byte(body))
		for name, values := range got.Headers {
			if all := strings.Join(values, " "); strings.Contains(all, "/admin/users") || strings.Contains(all, "BREW") {
				t.Errorf("with a request of %s the application got %s: %q", who, name, values)
			}
		}
	}
}

// headerOf returns lines as a header whose names are spelled as they are.
func headerOf(lines []string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h[name] = append(h[name], value)
	}
	return h
}

// expectTold fails unless the application got these identity headers, and
// none if want is nil, and nothing that was forged.
func expectTold(t *testing.T, who string, got received, want map[string]string) {
	t.Helper()
	if c := got.Headers.Get("Connection"); strings.Contains(c, "X-User-Id") {
		t.Errorf("%s: the application got Connection: %q, which takes identity away behind it", who, c)
	}
	for name, values := range got.Headers {
		if strings.Contains(strings.Join(values, " "), "forged") {
			t.Errorf("%s: the application got %s: %q", who, name, values)
		}
	}
	if from, proto := got.Headers.Get("X-Forwarded-For"), got.Headers.Get("X-Forwarded-Proto"); from != "127.0.0.1" || proto != "https" {
		t.Errorf("%s: the application got the address %q and %q, want 127.0.0.1 and https", who, from, proto)
	}
	if host := got.Headers.Get("X-Forwarded-Host"); host != got.Headers.Get("Host") {
		t.Errorf("%s: the application got X-Forwarded-Host %q, want %q", who, host, got.Headers.Get("Host"))
	}
	for _, name := range []string{"X-User-Id", "X-User-Email", "X-User-Name", "X-User-Groups", "X-User-Roles"} {
		if value := strings.Join(got.Headers.Values(name), "|"); value != want[name] {
			t.Errorf("%s: the application got %s: %q, want %q", who, name, value, want[name])
		}
	}
	if authorization := got.Headers.Get("Authorization"); (authorization == "") != (want == nil) {
		t.Errorf("%s: the application got Authorization %q", who, authorization)
	}
}

func preflightPasses(t *testing.T, s *site) {
	for target, want := range map[string]int{"/api/x": http.StatusOK, "/app/x": http.StatusUnauthorized} {
		res, body := s.guest("").sends(t, "OPTIONS", target, append(forged(), "Origin: https://other.example", "Access-Control-Request-Method: PUT", "Accept: application/json")...)
		if res.StatusCode != want {
			t.Errorf("a preflight of %s: %d, want %d", target, res.StatusCode, want)
		}
		if strings.Contains(body, "forged") {
			t.Errorf("the application got forged headers with a preflight: %s", body)
		}
	}
	if seen := s.reached(); !slices.Equal(seen, []string{"OPTIONS /api/x"}) {
		t.Errorf("the application got %v, want the one preflight", seen)
	}
}

func roleIsNeeded(t *testing.T, s *site) {
	alice, bob := s.guest("alice"), s.guest("bob")
	alice.opens(t, "/admin/users")
	bob.opens(t, "/app")
	s.reached()
	res, body := get(t, bob.Client, s.base+"/admin/users", navigation())
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("bob gets %d, want 403: %s", res.StatusCode, body)
	}
	if seen := s.reached(); len(seen) > 0 {
		t.Errorf("the application got %v, want nothing", seen)
	}
}

func webSocketWorks(t *testing.T, s *site) {
	v := s.guest("alice")
	v.opens(t, "/app")
	dial := func(origin string) (*websocket.Conn, *http.Response, error) {
		client := newClient(t, s.transport(false))
		return websocket.Dial(t.Context(), s.base+"/ws", &websocket.DialOptions{
			HTTPClient: client, HTTPHeader: http.Header{"Cookie": {v.cookies(t)}, "Origin": {origin}},
		})
	}
	conn, _, err := dial(s.base)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := conn.Read(ctx); string(message) != "hello" || err != nil {
		t.Errorf("the WebSocket says %q, %v, want hello", message, err)
	}
	if _, res, err := dial("https://evil.example"); err == nil || res == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("a WebSocket from a stranger's page: %v, want a 403", err)
	}
}

func formPassesOnce(t *testing.T, s *site) {
	post := func(v guest) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base+"/orders", strings.NewReader(strings.Repeat("a=b&", 1000)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = navigation()
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := v.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	v := s.guest("alice")
	if status := post(v); status != http.StatusUnauthorized {
		t.Errorf("a form of nobody: %d, want 401", status)
	}
	v.opens(t, "/app")
	if seen := s.reached(); !slices.Equal(seen, []string{"GET /app"}) {
		t.Errorf("the application got %v, want the page alone", seen)
	}
	if status := post(v); status != http.StatusOK {
		t.Errorf("a form of alice's: %d, want 200", status)
	}
	if seen := s.reached(); !slices.Equal(seen, []string{"POST /orders"}) {
		t.Errorf("the application got %v, want the form once", seen)
	}
}

func twoTabs(t *testing.T, s *site) {
	v := s.guest("alice")
	toProvider := func(target string) string {
		t.Helper()
		halted := *v.Client
		halted.CheckRedirect = func(r *http.Request, via []*http.Request) error {
			if r.URL.Path == "/authorize" {
				return http.ErrUseLastResponse
			}
			return nil
		}
		res, body := get(t, &halted, s.base+target, navigation())
		if !strings.Contains(res.Header.Get("Location"), "/authorize?") {
			t.Fatalf("%s does not lead to the provider: %d %s", target, res.StatusCode, body)
		}
		return res.Header.Get("Location") + "&login_hint=alice"
	}
	first, second := toProvider("/app/first?a=1&b=2"), toProvider("/app/second?c=3")
	for _, tab := range []struct{ at, want string }{{second, "/app/second?c=3"}, {first, "/app/first?a=1&b=2"}} {
		res, body := get(t, v.Client, tab.at, navigation())
		if got := receivedBy(t, res, body); got.Path != tab.want {
			t.Errorf("the tab ended at %s, want %s", got.Path, tab.want)
		}
	}
}

// checksHold runs the lines of curl that the documentation has for every ingress.
func checksHold(t *testing.T, s *site) {
	need(t, "curl")
	home := t.TempDir()
	front := strings.TrimPrefix(s.base, "https://")
	write(t, filepath.Join(home, ".curlrc"), fmt.Sprintf("cacert = %q\nresolve = \"%s:127.0.0.1\"\n", s.certFile, front))
	checks := regexp.MustCompile(`(?m)^(curl .*) # (\d+)$`).FindAllStringSubmatch(readAll(t, "../docs/ingress/README.md"), -1)
	if len(checks) < 10 {
		t.Fatalf("%d checks are documented, want 10 at least", len(checks))
	}
	for _, check := range checks {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(check[1], "https://app.example.com", s.base))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
		out, err := cmd.Output()
		if got := strings.TrimSpace(string(out)); got != check[2] || err != nil {
			t.Errorf("%s\nprints %s, %v; want %s", check[1], got, err, check[2])
		}
	}
}

// manyGroups: the answer to the ingress holds them in a header, in the token, and
// in the renewed cookie.
func manyGroups(t *testing.T, s *site) {
	got := s.guest("carol").opens(t, "/app")
	if groups := got.Headers.Get("X-User-Groups"); groups != strings.Join(carol().Groups, ",") {
		t.Errorf("the application got %d bytes of groups, want all: %.80s", len(groups), groups)
	}
}

// carol is in more groups than others.
func carol() devidp.User {
	user := devidp.User{Login: "carol", Subject: "carol", Email: "carol@example.com", EmailVerified: true}
	for i := range 50 {
		user.Groups = append(user.Groups, fmt.Sprintf("engineering/department-%02d/everybody", i))
	}
	return user
}

func longTokenIsInNoHeader(t *testing.T, s *site) {
	s.provider.SetFaults(devidp.Faults{LongToken: 9000})
	defer s.provider.SetFaults(devidp.Faults{})
	v := s.guest("alice")
	got := v.opens(t, "/app")
	expectUser(t, got, "alice@example.com")
	for name, values := range got.Headers {
		if size := len(strings.Join(values, "")); size > 4096 {
			t.Errorf("the application got %d bytes of %s, want 4096 at most", size, name)
		}
	}
	if size := len(v.cookies(t)); size > 4096 {
		t.Errorf("the browser keeps %d bytes of cookies, want 4096 at most", size)
	}
}

// renewalHarmsNobody: the provider takes a refresh token once, and ends the grant
// at a second use. A browser that never gets a renewed cookie must not notice.
func renewalHarmsNobody(t *testing.T, s *site) {
	v := s.guest("alice")
	v.opens(t, "/app")
	cookies := v.cookies(t)
	before := s.tokenRequests()
	renewed := ""
	eventually(t, 30*time.Second, func() error {
		res, body := v.sends(t, "GET", "/app", "Accept: application/json") // with the first cookie, always
		expectUser(t, receivedBy(t, res, []byte(body)), "alice@example.com")
		s.many(t, cookies)
		for _, c := range res.Cookies() {
			if c.Name == "__Host-authproxy_session" && c.MaxAge >= 0 { // the name that Traefik's example has
				renewed = c.Name + "=" + c.Value
			}
		}
		if n := s.tokenRequests() - before; n < 2 {
			return fmt.Errorf("the session was renewed %d times, want 2", n)
		}
		return nil
	})
	if dropped := renewed == "" || renewed == cookies; dropped != s.ingress.dropsCookies {
		t.Errorf("the browser got the renewed cookie: %t, want %t", !dropped, !s.ingress.dropsCookies)
	}
	if s.ingress.dropsCookies {
		return
	}
	bare := s.guest("alice")
	res, body := bare.sends(t, "GET", "/app", "Accept: application/json", "Cookie: "+renewed)
	expectUser(t, receivedBy(t, res, []byte(body)), "alice@example.com")
}

// many sends requests at once, as a page with images does, whose answers are lost.
func (s *site) many(t *testing.T, cookies string) {
	t.Helper()
	client := s.client()
	client.Jar = nil
	defer client.CloseIdleConnections()
	errs := make([]error, 12)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			got, err := see(client, fmt.Sprintf("%s/image/%d", s.base, i), http.Header{"Cookie": {cookies}})
			if email := got.Headers.Get("X-User-Email"); err == nil && email != "alice@example.com" {
				err = fmt.Errorf("X-User-Email = %q, want alice", email)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// tokenRequests counts how often the provider was asked for tokens.
func (s *site) tokenRequests() int {
	n := 0
	for _, request := range s.provider.Requests() {
		if request == "POST /token" {
			n++
		}
	}
	return n
}

func signOutEndsIt(t *testing.T, s *site) {
	v := s.guest("alice")
	v.opens(t, "/app")
	stolen := "Cookie: " + v.cookies(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base+"/auth/sign-out", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {s.base}, "Accept": {"application/json"}}
	res, err := v.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if err := expectStatus(res, http.StatusOK); err != nil {
		t.Fatal(err)
	}
	s.reached()
	if got := getOnce(t, v.Client, s.base+"/app"); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("after sign-out: %d, want 401", got.StatusCode)
	}
	if res, _ := s.guest("").sends(t, "GET", "/app", stolen); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a copy of the cookie, after sign-out: %d, want 401", res.StatusCode)
	}
	if seen := s.reached(); len(seen) > 0 {
		t.Errorf("the application got %v, want nothing", seen)
	}
}

func nobodyGetsInWithoutAuthproxy(t *testing.T, s *site) {
	v := s.guest("alice")
	v.opens(t, "/app")
	s.reached()
	s.authn.stop()
	for _, target := range []string{"/app", "/public/x"} {
		res, _ := v.sends(t, "GET", target, "Accept: text/html")
		if err := expectStatus(res, s.ingress.down); err != nil {
			t.Errorf("without authproxy: %v", err)
		}
	}
	if seen := s.reached(); len(seen) > 0 {
		t.Errorf("the application got %v, want nothing", seen)
	}
}

// TestNginxServesAHostOfAnotherDomain: its sessions come by the hand-off.
func TestNginxServesAHostOfAnotherDomain(t *testing.T) {
	t.Parallel()
	in := ingresses()[0]
	in.rewrite = append(slices.Clone(in.rewrite), "server_name app.example.com;", "server_name app.example.com portal.example.org;",
		"\nrules:", "\nhosts: [portal.example.org]\nrules:")
	s := startSite(t, in)
	portal := strings.Replace(s.base, "app.example.com", "portal.example.org", 1)
	const target = "/app/a%20b/%C3%BC?q=1&r=%26x%3D%2F&rd=/evil;z+y&%23=%25"
	for _, first := range []string{"", s.base + "/app", portal + "/public/x"} {
		t.Run("first at "+first, func(t *testing.T) {
			v := s.guest("alice")
			if first != "" {
				v.goesTo(t, first, first)
			}
			got := v.goesTo(t, portal+target, portal+target)
			expectUser(t, got, "alice@example.com")
			if got.Path != target || "https://"+got.Headers.Get("Host") != portal {
				t.Errorf("the application got %s for %s, want %s for %s", got.Path, got.Headers.Get("Host"), target, portal)
			}
			expectUser(t, v.goesTo(t, s.base+"/app?x=1", s.base+"/app?x=1"), "alice@example.com")
			res, _ := v.sends(t, "GET", "/app", "Accept: */*")
			if err := expectStatus(res, http.StatusOK); err != nil {
				t.Errorf("on public_url's host: %v", err)
			}
		})
	}
}

// TestNginxThatWasSetUpForOAuth2Proxy needs another address in its configuration, and
// signs people in as before.
func TestNginxThatWasSetUpForOAuth2Proxy(t *testing.T) {
	t.Parallel()
	in := ingresses()[0]
	in.dir, in.prefix = "testdata/oauth2proxy", "/oauth2"
	s := startSite(t, in)
	button := regexp.MustCompile(`href="([^"]*/oauth2/start[^"]*)"`)
	for location, pageStatus := range map[string]int{"/app": http.StatusOK, "/old": http.StatusForbidden, "/straight": 0} {
		target := location + "/a%20b?q=1&r=%26x+y&re=d"
		v := s.guest("alice")
		at := s.base + target
		if pageStatus != 0 { // a page first, with a button
			res, body := get(t, v.Client, at, navigation())
			link := button.FindStringSubmatch(string(body))
			if res.StatusCode != pageStatus || link == nil {
				t.Fatalf("%s: %d without a way to sign in, want %d with one: %s", target, res.StatusCode, pageStatus, body)
			}
			at = html.UnescapeString(link[1])
		}
		got := v.goesTo(t, at, s.base+target)
		if got.Path != target || got.Headers.Get("X-Email") != "alice@example.com" || got.Headers.Get("X-User") == "" {
			t.Errorf("the application got %s of %q, %q; want %s of alice", got.Path, got.Headers.Get("X-User"), got.Headers.Get("X-Email"), target)
		}
	}
	for location, want := range map[string]int{"/app": http.StatusFound, "/old": http.StatusForbidden, "/straight": http.StatusFound} {
		res, _ := s.guest("").sends(t, "GET", location+"/x", "Accept: */*", "Sec-Fetch-Mode: cors")
		if err := expectStatus(res, want); err != nil {
			t.Errorf("a script at %s: %v", location, err)
		}
		if leads := res.Header.Get("Location") != ""; leads != (location == "/app") { // what the documentation says of it
			t.Errorf("a script at %s is led to %q", location, res.Header.Get("Location"))
		}
	}
}

// TestHAProxySaysNoIfTheActionFails: after an action that failed, HAProxy goes on.
func TestHAProxySaysNoIfTheActionFails(t *testing.T) {
	t.Parallel()
	broken := ingresses()[4]
	broken.rewrite = []string{"local answer = ", "error('broken') local answer = "}
	s := startSite(t, broken)
	if res, _ := s.guest("").sends(t, "GET", "/public/x", "Accept: text/html"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("with a broken action: %d, want 503", res.StatusCode)
	}
	if seen := s.reached(); len(seen) > 0 {
		t.Errorf("the application got %v, want nothing", seen)
	}
}
