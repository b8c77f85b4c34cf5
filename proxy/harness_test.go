package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authproxy/cookie"
	"authproxy/identity"
	"authproxy/page"
	"authproxy/policy"
	"authproxy/session"
	"authproxy/token"
	"authproxy/web"
)

// ourHost is public_url's host.
const ourHost = "app.example.com"

// A setup says in what a world differs from the plainest one: sign-in is needed
// everywhere, one upstream shows what it gets, nobody is trusted.
type setup struct {
	rules    []policy.Rule
	trusted  []string
	upstream http.Handler
	routes   []Route // nil means one, to upstream
	identity func(*identity.Config)
	session  func(*session.Config)
	proxy    func(*Config)
	http2    bool
	level    slog.Level
}

// A world is the proxy on a real server, with a real upstream behind it.
type world struct {
	testing.TB
	clock    *clock
	tokens   *token.Issuer
	sessions *session.Manager
	resolver *identity.Resolver
	proxy    *Proxy
	front    *httptest.Server
	log      *lines
	metrics  *prometheus.Registry
	reached  *lines // the targets that the showing upstream saw
}

func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	w := &world{TB: t, clock: &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, log: &lines{}, reached: &lines{}, metrics: prometheus.NewRegistry()}
	jar := w.buildIdentity(s)
	rules, err := policy.Compile(s.rules)
	w.must(err)
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: s.level}))
	pages, err := page.New(page.Config{Prefix: "/auth", Log: log, RequestID: func(r *http.Request) string { return r.Header.Get("X-Request-Id") }})
	w.must(err)
	if s.routes == nil {
		if s.upstream == nil {
			s.upstream = show("app", w.reached)
		}
		s.routes = []Route{{Upstream: w.serve(s.upstream)}}
	}
	c := Config{
		Prefix: "/auth", Own: http.HandlerFunc(answerAsOwn), PublicURL: &url.URL{Scheme: "https", Host: ourHost}, Routes: s.routes,
		Identity: w.resolver, Sessions: w.sessions, Rules: rules, Strip: defaultStrip(),
		OwnsCookie: func(name string) bool { return jar.Owns(name) || web.OwnsCookie(name) },
		Hosts:      policy.Hosts{mustHost(t, ourHost)},
		Pages:      pages, LogRequests: LogAll, AccessLog: w.log, Log: log, Now: w.clock.Now, Registerer: w.metrics,
	}
	for _, prefix := range s.trusted {
		c.Trusted = append(c.Trusted, netip.MustParsePrefix(prefix))
	}
	if s.proxy != nil {
		s.proxy(&c)
	}
	w.proxy, err = New(c)
	w.must(err)
	t.Cleanup(w.proxy.Close)
	w.front = newServer(t, w.proxy, s.http2)
	return w
}

// worldKey is the cookie key.
func worldKey() []byte {
	key := bytes.Repeat([]byte{7}, cookie.KeySize)
	key[0]++
	return key
}

// buildIdentity makes what knows people, and returns the jar of the session's
// cookie.
func (w *world) buildIdentity(s setup) *cookie.Jar {
	w.Helper()
	ring, err := cookie.NewKeyRing(worldKey())
	w.must(err)
	sealer, err := cookie.NewSealer(ring)
	w.must(err)
	secrets, err := ring.Derive("jwt es256", token.SecretSize)
	w.must(err)
	w.tokens, err = token.New(token.Config{
		Issuer: "https://" + ourHost + "/auth", Audience: "https://" + ourHost, TTL: 15 * time.Minute, Secrets: secrets, Now: w.clock.Now,
	})
	w.must(err)
	jar, err := cookie.NewJar("authproxy_session", cookie.Options{Secure: true})
	w.must(err)
	sc := session.Config{
		Sealer: sealer, Jar: jar, MaxAge: 7 * 24 * time.Hour, UpdateAge: 24 * time.Hour, AbsoluteMaxAge: 30 * 24 * time.Hour,
		Version: 1, Now: w.clock.Now, Registerer: w.metrics,
	}
	if s.session != nil {
		s.session(&sc)
	}
	w.sessions, err = session.New(sc)
	w.must(err)
	w.Cleanup(w.sessions.Close)
	c := identity.Config{
		Sessions: w.sessions, Tokens: w.tokens, Roles: policy.RoleMap{"admin": {Groups: []string{"ops"}}},
		Headers: map[string]string{
			"X-User-Id": "user.id", "X-User-Email": "user.email", "X-User-Name": "user.name",
			"X-User-Groups": "user.groups", "X-User-Roles": "user.roles",
		},
		Authorization: identity.AuthorizationJWT, Now: w.clock.Now,
	}
	if s.identity != nil {
		s.identity(&c)
	}
	w.resolver, err = identity.New(c)
	w.must(err)
	w.Cleanup(w.resolver.Close)
	return jar
}

// defaultStrip is the default of identity.strip.
func defaultStrip() []string {
	return []string{
		"X-User-*", "X-Auth-Request-*", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups",
		"X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token", "Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups",
	}
}

// answerAsOwn stands for everything below the prefix.
func answerAsOwn(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, "own")
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// newServer starts h on loopback: with TLS on HTTP/2, without it on both, too.
func newServer(t testing.TB, h http.Handler, http2 bool) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.EnableHTTP2 = http2
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetHTTP2(http2)
	s.Config.Protocols.SetUnencryptedHTTP2(!http2)
	if http2 {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	transport := s.Client().Transport.(*http.Transport)
	transport.DisableCompression = true
	transport.ExpectContinueTimeout = time.Minute
	s.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s
}

// serve starts h and returns it as an upstream.
func (w *world) serve(h http.Handler) Upstream {
	w.Helper()
	return upstreamAt(w.TB, newServer(w.TB, h, false).URL)
}

func upstreamAt(t testing.TB, address string) Upstream {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return Upstream{URL: u, PassHost: true}
}

// shown is a request as an upstream got it.
type shown struct {
	Upstream, Method, Target, Host, Proto string
	Header, Trailer                       http.Header
	Body                                  string
}

// show answers with the request it gets, and notes its target in reached.
func show(name string, reached *lines) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what was cut off shows in the test
		fmt.Fprintln(reached, r.RequestURI)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(shown{name, r.Method, r.RequestURI, r.Host, r.Proto, r.Header, r.Trailer, string(body)})
	})
}

// An ask is one request to the proxy.
type ask struct {
	method, target, host string // "" is GET, /, ourHost
	header               http.Header
	body                 io.Reader
	trailer              http.Header
}

func (a ask) request(w *world) *http.Request {
	w.Helper()
	method, host := a.method, a.host
	if method == "" {
		method = http.MethodGet
	}
	if host == "" {
		host = ourHost
	}
	r, err := http.NewRequestWithContext(w.Context(), method, w.front.URL+"/", a.body)
	w.must(err)
	r.Host, r.Trailer = host, a.trailer
	path, query, ok := strings.Cut(a.target, "?")
	if path != "" {
		r.URL.Opaque = path
	}
	r.URL.RawQuery, r.URL.ForceQuery = query, ok
	for name, values := range a.header {
		r.Header[name] = values
	}
	return r
}

// An answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

// do sends a and reads the answer.
func (w *world) do(a ask) answer {
	w.Helper()
	res, err := w.front.Client().Do(a.request(w))
	w.must(err)
	body, err := io.ReadAll(res.Body)
	w.must(err)
	w.must(res.Body.Close())
	return answer{res, string(body)}
}

// pass sends a, which must reach the showing upstream, and returns what that
// got.
func (w *world) pass(a ask) shown {
	w.Helper()
	got := w.do(a)
	if got.StatusCode != http.StatusOK {
		w.Fatalf("status = %d, want 200 from the upstream; the answer was %s", got.StatusCode, got.body)
	}
	var s shown
	w.must(json.Unmarshal([]byte(got.body), &s))
	return s
}

// json returns the answer's JSON object.
func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("the answer is not JSON: %v\n%s", err, a.body)
	}
	return m
}

// raw sends bytes to the server at address and returns the status line and the
// rest of what it answers until it hangs up.
func raw(t testing.TB, address, request string) (status, rest string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatalf("no status line: %v", err)
	}
	all, _ := io.ReadAll(in) // a reset is an end, too
	return strings.TrimSpace(line), string(all)
}

// alice is an admin, bob is not.
func alice() session.User {
	return user("248289761001", "alice@example.com", "Alice Adams", "staff", "ops")
}

func bob() session.User { return user("248289761002", "bob@example.com", "Bob Brown", "staff") }

func user(subject, email, name string, groups ...string) session.User {
	const issuer = "https://id.example.com"
	return session.User{
		ID: session.UserID(issuer, subject), Issuer: issuer, Subject: subject, Provider: "corp",
		Email: email, EmailVerified: true, Name: name, Groups: groups,
	}
}

// signIn starts a session of u and returns its cookies as a browser sends them.
func (w *world) signIn(u session.User) string {
	w.Helper()
	return w.start(&session.Session{User: u})
}

func (w *world) start(s *session.Session) string {
	w.Helper()
	rec := httptest.NewRecorder()
	_, err := w.sessions.Start(rec, httptest.NewRequest("GET", "/", nil), s)
	w.must(err)
	var pairs []string
	for _, c := range rec.Result().Cookies() {
		if c.MaxAge > 0 {
			pairs = append(pairs, c.Name+"="+c.Value)
		}
	}
	return strings.Join(pairs, "; ")
}

// bearer returns a token of ours for u's new session.
func (w *world) bearer(u session.User) string {
	w.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", w.signIn(u))
	who, err := w.resolver.Identify(r)
	w.must(err)
	raw, _, err := w.resolver.Token(who)
	w.must(err)
	return raw
}

// browser is what a browser sends when somebody opens a page.
func browser(cookies string) http.Header {
	h := http.Header{
		"Accept": {"text/html,application/xhtml+xml,*/*;q=0.8"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"},
	}
	return with(h, "Cookie", cookies)
}

// with returns h with one more header, unless value is "".
func with(h http.Header, name, value string) http.Header {
	out := h.Clone()
	if out == nil {
		out = http.Header{}
	}
	if value != "" {
		out[name] = append(out[name], value)
	}
	return out
}

// anyoneBelow lets anyone in below /public; elsewhere one must be signed in.
func anyoneBelowPublic() []policy.Rule {
	return []policy.Rule{
		{Name: "public", Path: "/public/**", Allow: "anyone"},
		{Name: "signed in", Require: &policy.Require{SignedIn: true}},
	}
}

// anyone lets anyone in, and names no path.
func anyone() []policy.Rule { return []policy.Rule{{Name: "all", Allow: "anyone"}} }

// A clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// lines is a text that several goroutines may write.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func mustHost(t testing.TB, host string) policy.HostPattern {
	t.Helper()
	pattern, err := policy.ParseHostPattern(host)
	if err != nil {
		t.Fatal(err)
	}
	return pattern
}
