// Command bench measures whole processes: authproxy with a valid session
// against a bare httputil.ReverseProxy with the same transport, both in front
// of the same application, in the same run, by the CPU time that each process
// takes. Run it by script/bench.
//
// Requests per second would measure the machine and the load generator; CPU
// time per request is what a sidecar costs. With -what it measures other things
// than requests, in the same way.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"authproxy/cookie"
	"authproxy/devidp"
	"authproxy/proxy"
)

func main() {
	binary := flag.String("authproxy", "", "the binary to measure")
	role := flag.String("role", "run", "run, upstream, bare or replies (all but run are the run's own child processes)")
	upstream := flag.String("upstream", "", "for bare: the application's URL")
	replies := flag.String("replies", "", "for replies: the file with what to answer")
	requests := flag.Int("requests", 60000, "requests a round")
	rounds := flag.Int("rounds", 5, "rounds; the median counts")
	connections := flag.Int("connections", 32, "connections at a time")
	what := flag.String("what", "requests", "what to measure: "+strings.Join(everything(), ", ")+", several with commas, or all")
	flag.Parse()
	var err error
	switch *role {
	case "upstream":
		err = serveChild(application())
	case "bare":
		err = serveBare(*upstream)
	case "replies":
		err = serveReplies(*replies)
	default:
		err = (&bench{binary: *binary, requests: *requests, rounds: *rounds, connections: *connections}).run(*what)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// serveChild serves h on a free port, prints the address, and ends with its
// parent, which holds the other end of standard input.
func serveChild(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() { io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 120 * time.Second, MaxHeaderBytes: 65536, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s.Serve(l)
}

// serveBare is the yardstick: the standard library's proxy, configured as well
// as authproxy configures its own.
func serveBare(upstream string) error {
	u, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	transport, base, err := proxy.NewTransport(proxy.Upstream{URL: u})
	if err != nil {
		return err
	}
	return serveChild(&httputil.ReverseProxy{
		Transport:  transport,
		BufferPool: &pool{},
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(base)
			pr.Out.Host = pr.In.Host
			pr.SetXForwarded()
		},
	})
}

// A pool implements httputil.BufferPool.
type pool struct{ p sync.Pool }

func (p *pool) Get() []byte {
	if b, ok := p.p.Get().(*[32 << 10]byte); ok {
		return b[:]
	}
	return make([]byte, 32<<10)
}

func (p *pool) Put(b []byte) { p.p.Put((*[32 << 10]byte)(b)) }

// A bench is one run.
type bench struct {
	binary                        string
	requests, rounds, connections int
	dir                           string
}

// A subject is a process under load.
type subject struct {
	name    string
	address string
	pid     int
	micros  []float64 // CPU time a request, one for each round

	admin, configuration string // of an authproxy; admin is "" without such a listener
}

// run measures what is named.
func (b *bench) run(what string) error {
	if b.binary == "" {
		return errors.New("-authproxy is required; use script/bench")
	}
	names := strings.Split(what, ",")
	if what == "all" {
		names = everything()
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "authproxy-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	for _, name := range names {
		measure, ok := measurements()[name]
		if !ok {
			return fmt.Errorf("-what %s: want one of %s, or all", name, strings.Join(everything(), ", "))
		}
		if err := b.measure(name, measure); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// measure starts what is compared afresh and measures it, so that no measurement
// finds the memory of the one before it.
func (b *bench) measure(name string, m measurement) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	app, err := b.child(ctx, "-role", "upstream")
	if err != nil {
		return err
	}
	app.name = "the application itself"
	scheme := "http://"
	if m.http2 {
		scheme = "h2c://"
	}
	bare, err := b.child(ctx, "-role", "bare", "-upstream", scheme+app.address)
	if err != nil {
		return err
	}
	bare.name = "bare httputil.ReverseProxy"
	ours, err := b.authproxy(ctx, scheme+app.address, m)
	if err != nil {
		return err
	}
	session, err := signIn(ours.address)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s\n", name)
	return m.run(b, &scene{app, bare, ours, session})
}

// A scene is what is compared, and the Cookie header of a session.
type scene struct {
	app, bare, ours *subject
	session         string
}

// measureRequests compares the CPU time of ordinary requests.
func measureRequests(b *bench, s *scene) error {
	fmt.Printf("%d rounds of %d requests for 1 KB, %d connections, cookie of %d bytes, request log on\n",
		b.rounds, b.requests, b.connections, len(s.session))
	return b.compare(s.bare, s.ours, "request", func(at *subject, n int) error {
		return hammer(at.address, ordinary(at, s.session), http.StatusOK, n)
	})
}

// ordinary is a request for a page, in the name of a session.
func ordinary(at *subject, session string) string {
	return "GET /reports/2026?q=1 HTTP/1.1\r\nHost: " + at.address + "\r\nUser-Agent: bench\r\nAccept: text/html\r\nCookie: " + session + "\r\n\r\n"
}

// compare reports the CPU time that each of the two takes for what work does n
// times, on all connections at a time, in alternating rounds.
func (b *bench) compare(bare, ours *subject, unit string, work func(at *subject, n int) error) error {
	for round := range b.rounds + 1 { // the first one warms up
		for _, at := range []*subject{bare, ours} {
			micros, err := b.load(at, work)
			if err != nil {
				return fmt.Errorf("%s: %w", at.name, err)
			}
			if round > 0 {
				at.micros = append(at.micros, micros)
			}
		}
	}
	report(unit, bare, ours)
	return nil
}

// child starts this program in another role.
func (b *bench) child(ctx context.Context, args ...string) (*subject, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // closes when we end
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	return &subject{address: strings.TrimSpace(address), pid: cmd.Process.Pid}, err
}

const configuration = `
listen: %[1]q
admin: {listen: %[7]q}
public_url: http://%[1]s
upstream: %[2]s
providers:
  - {id: bench, type: oidc, issuer: "http://%[3]s", client_id: bench, scopes: [openid, email, profile, groups%[5]s]}
cookie: {keys: [%[4]q]}
trusted_proxies: [%[6]s]
session: {store: %[8]q}
rules:
  - {path: /public/**, allow: anyone}
  - {path: /admin/**, require: {groups: [admins]}}
  - {require: {signed_in: true}}
`

// authproxy starts the binary in front of the application at the URL app, with a
// log that goes to a file, and a provider, as m needs them.
func (b *bench) authproxy(ctx context.Context, app string, m measurement) (*subject, error) {
	idp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	provider, err := devidp.New(devidp.Config{
		Issuer:         "http://" + idp.Addr().String(),
		Clients:        []devidp.Client{{ID: "bench", RedirectURIs: []string{"http://" + address + "/auth/callback/bench"}}},
		AccessTokenTTL: m.tokenLife,
	})
	if err != nil {
		return nil, err
	}
	go http.Serve(idp, provider)
	scopes, trusted, admin, store := "", "", "", "cookie"
	if m.tokenLife > 0 { // there is something to refresh, with a refresh token
		scopes = ", offline_access"
	}
	if m.ingress {
		trusted = "127.0.0.1/32"
	}
	if m.store != "" {
		store = m.store
		if admin, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	text := fmt.Sprintf(configuration, address, app, idp.Addr(), cookie.NewKey(), scopes, trusted, admin, store)
	return b.serve(ctx, address, admin, text)
}

// serve starts the binary with a configuration.
func (b *bench) serve(ctx context.Context, address, admin, configuration string) (*subject, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, port+".yaml")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(b.dir, port+".log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, b.binary, "serve", "--config", file)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &subject{name: "authproxy", address: address, admin: admin, configuration: configuration, pid: cmd.Process.Pid}
	return s, waitFor(address)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func waitFor(address string) error {
	for range 200 {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		time.Sleep(25 * time.Millisecond)
	}
	return fmt.Errorf("nothing listens on %s", address)
}

// signIn returns the Cookie header of alice's session.
func signIn(address string) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	res, err := client.Get("http://" + address + "/auth/sign-in/bench?login_hint=alice&rd=/")
	if err != nil {
		return "", err
	}
	res.Body.Close()
	u := &url.URL{Scheme: "http", Host: address, Path: "/"}
	for _, c := range jar.Cookies(u) {
		if c.Name == "authproxy_session" {
			return c.Name + "=" + c.Value, nil
		}
	}
	return "", fmt.Errorf("signing in ended with %s and no session", res.Status)
}

// load does the work on all connections and returns the CPU time that the subject
// took for each piece, in microseconds.
func (b *bench) load(s *subject, work func(at *subject, n int) error) (float64, error) {
	before, err := cpuTime(s.pid)
	if err != nil {
		return 0, err
	}
	each := b.requests / b.connections
	failed := make(chan error, b.connections)
	for range b.connections {
		go func() { failed <- work(s, each) }()
	}
	for range b.connections {
		if err := <-failed; err != nil {
			return 0, err
		}
	}
	after, err := cpuTime(s.pid)
	return float64((after - before).Microseconds()) / float64(each*b.connections), err
}

// hammer sends the request n times, one after the other over one connection, and
// insists on the status each time.
func hammer(address, request string, status, n int) error {
	return exchange(address, request, n, func(res *http.Response) error {
		if res.StatusCode != status {
			return fmt.Errorf("%s, want %d", res.Status, status)
		}
		_, err := io.Copy(io.Discard, res.Body)
		return err
	})
}

// exchange does the same and has each answer read by read, to its end.
func exchange(address, request string, n int, read func(*http.Response) error) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for range n {
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		if err := read(res); err != nil {
			return err
		}
	}
	return nil
}

// clockTick is the unit of CPU times in /proc, USER_HZ, on every Linux that Go
// runs on.
const clockTick = 10 * time.Millisecond

// cpuTime returns the user and system time that the process has taken (proc(5),
// fields 14 and 15 of stat).
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses, which may hold spaces.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

func report(unit string, bare, ours *subject) {
	for _, s := range []*subject{bare, ours} {
		m := median(s.micros)
		fmt.Printf("%-28s %6.1f µs CPU a %s  %8.0f a CPU-second  (rounds: %.1f)\n", s.name, m, unit, 1e6/m, s.micros)
	}
	fmt.Printf("authproxy does %.2f of the bare one's %ss a CPU-second\n", median(bare.micros)/median(ours.micros), unit)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
