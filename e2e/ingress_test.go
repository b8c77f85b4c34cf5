package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"authproxy/devidp"
	"authproxy/devidp/legacyapp"
)

// An ingress is a server that passes requests on itself and asks authproxy about
// each, and how it is started with an example of ours.
type ingress struct {
	name    string
	program string   // what is started
	dir     string   // of the example
	prefix  string   // of authproxy's pages, "" means "/auth"
	files   []string // of the ingress, in dir
	// rewrite are further replacements in the files, old and new in turn.
	rewrite []string
	// start returns the arguments for the files, which are in the folder dir. It
	// may add files of its own there.
	start func(t *testing.T, dir string) []string
	// dropsCookies says that the ingress hands no Set-Cookie of an allowing answer
	// on to the browser.
	dropsCookies bool
	// down is its answer where authproxy does not answer.
	down int
}

// ingresses are those that can be installed here.
func ingresses() []ingress {
	nginx := ingress{name: "nginx", program: "nginx", dir: "../deploy/examples/nginx", files: []string{"app.example.com.conf"}, start: startNginx, down: http.StatusInternalServerError}
	nginx.rewrite = []string{"$host", "$host:$server_port"} // which is not that of https here
	plain := nginx
	plain.name = "nginx over HTTP 1.0" // as it asks unless it is told otherwise
	plain.rewrite = append(slices.Clone(nginx.rewrite), "http://authproxy/auth/verify/nginx;", "http://authproxy/auth/verify/nginx; proxy_http_version 1.0;", "proxy_set_header Connection \"\";", "proxy_set_header Connection close;")
	caddy := ingress{name: "Caddy", program: "caddy", dir: "../deploy/examples/caddy", files: []string{"Caddyfile"}, start: startCaddy, down: http.StatusBadGateway}
	short := caddy
	short.name, short.files, short.dropsCookies = "Caddy in short", []string{"Caddyfile.short"}, true
	haproxy := ingress{name: "HAProxy", program: "haproxy", dir: "../deploy/examples/haproxy", files: []string{"haproxy.cfg", "authproxy.lua"}, start: startHAProxy, down: http.StatusServiceUnavailable}
	return []ingress{nginx, plain, caddy, short, haproxy}
}

// startNginx writes what is around a file of conf.d.
func startNginx(t *testing.T, dir string) []string {
	t.Helper()
	write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
pid %[1]s/nginx.pid;
error_log stderr;
worker_processes 1;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
    include %[1]s/app.example.com.conf;
}
`, dir))
	user := "" // workers run as it, and must reach the folder
	if os.Getuid() == 0 {
		user = " user root;"
	}
	return []string{"-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr", "-g", "daemon off;" + user}
}

// startCaddy takes away what a second Caddy on this machine could not have.
func startCaddy(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "Caddyfile*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the Caddyfiles are %v: %v", files, err)
	}
	read, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	global := fmt.Sprintf("{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tauto_https disable_redirects\n\tstorage file_system %s\n}\n", dir)
	write(t, files[0], global+string(read))
	return []string{"run", "--config", files[0], "--adapter", "caddyfile"}
}

func startHAProxy(_ *testing.T, dir string) []string {
	return []string{"-db", "-f", filepath.Join(dir, "haproxy.cfg")}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A site is an ingress with authproxy, a provider and an application behind it.
type site struct {
	t        *testing.T
	ingress  ingress
	base     string // as browsers see it
	own      string // authproxy's address
	authn    *process
	provider *devidp.Server
	roots    *x509.CertPool
	certFile string

	mu   sync.Mutex
	seen []string // by the application: "METHOD target"
}

// application returns the application that knows nothing about sign-in.
func (s *site) application() http.Handler {
	app := legacyapp.Handler("/auth")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Method+" "+r.RequestURI)
		s.mu.Unlock()
		app.ServeHTTP(w, r)
	})
}

// reached returns what has reached the application since the last call.
func (s *site) reached() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// accessTokenLife is short, so that sessions are renewed while the test looks.
const accessTokenLife = time.Second

// startSite starts the example with everything around it. Only addresses and
// paths are replaced in the files.
func startSite(t *testing.T, in ingress) *site {
	t.Helper()
	program := need(t, in.program)
	front, own := freeAddress(t), freeAddress(t)
	_, port, err := net.SplitHostPort(front)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, ingress: in, base: "https://app.example.com:" + port, own: own}
	app := httptest.NewServer(s.application())
	t.Cleanup(app.Close)
	var issuer, certFile, keyFile string
	s.provider, issuer = startRenewingProvider(t, s.base)
	certFile, keyFile, s.roots = selfSigned(t, "app.example.com", "portal.example.org")
	s.certFile = certFile
	secrets := t.TempDir()
	write(t, filepath.Join(secrets, "client_secret"), "client-secret\n")
	write(t, filepath.Join(secrets, "keys"), newKey(t)+"\n")

	dir := t.TempDir()
	pemFile := filepath.Join(dir, "app.example.com.pem")
	write(t, pemFile, readAll(t, certFile)+readAll(t, keyFile))
	replace := append(in.rewrite,
		"listen 443 ", "listen "+front+" ", "bind :443 ", "bind "+front+" ", "\napp.example.com {", "\napp.example.com:"+port+" {",
		"127.0.0.1:4180", own, "127.0.0.1:8080", strings.TrimPrefix(app.URL, "http://"),
		"https://app.example.com", s.base, "https://id.example.com", issuer, "/etc/authproxy/", secrets+"/", "/etc/haproxy/", dir+"/",
		"/etc/ssl/app.example.com.crt", certFile, "/etc/ssl/app.example.com.key", keyFile, "/etc/ssl/app.example.com.pem", pemFile,
	)
	for _, name := range append(in.files, "authproxy.yaml") {
		example := readAll(t, filepath.Join(in.dir, name))
		write(t, filepath.Join(dir, name), strings.NewReplacer(replace...).Replace(example))
	}
	s.authn = start(t, launch{base: "http://" + own, prefix: in.prefix, args: []string{
		"--config", filepath.Join(dir, "authproxy.yaml"), "--admin.listen=", "--shutdown.delay=0s", "--providers.corp.scopes=openid,email,profile,groups,offline_access",
	}})
	s.startIngress(program, in.start(t, dir), front)
	return s
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	read, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(read)
}

// startRenewingProvider starts a provider whose access tokens are over soon. A
// refresh token is good once: a second use ends the grant.
func startRenewingProvider(t *testing.T, base string) (*devidp.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://" + l.Addr().String()
	idp, err := devidp.New(devidp.Config{
		Issuer: issuer, AccessTokenTTL: accessTokenLife, Users: append(devidp.DemoUsers(), carol()),
		Clients: []devidp.Client{{ID: "authproxy", Secret: "client-secret", RedirectURIs: []string{base + "/auth/callback/corp", base + "/oauth2/callback"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: idp}}
	server.Start()
	t.Cleanup(server.Close)
	return idp, issuer
}

// startIngress starts the ingress's program and waits until it listens at front.
func (s *site) startIngress(program string, args []string, front string) {
	s.t.Helper()
	var output syncBuffer
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.t.TempDir()}
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait() // by a signal, or s.t has failed already
		close(exited)
	}()
	s.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-exited
		}
		if s.t.Failed() {
			s.t.Logf("what %s printed:\n%s", s.ingress.program, output.String())
		}
	})
	eventually(s.t, 20*time.Second, func() error {
		select {
		case <-exited:
			s.t.Fatalf("%s ended at once:\n%s", s.ingress.program, output.String())
		default:
		}
		conn, err := net.Dial("tcp", front)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// client returns a browser without cookies, which finds the site on loopback.
func (s *site) client() *http.Client {
	s.t.Helper()
	return newClient(s.t, s.transport(true))
}

// transport returns one that speaks HTTP/2, or HTTP/1.1 as WebSockets need it.
func (s *site) transport(http2 bool) *http.Transport {
	return &http.Transport{
		ForceAttemptHTTP2: http2, TLSClientConfig: &tls.Config{RootCAs: s.roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if net.ParseIP(host) == nil {
				host = "127.0.0.1"
			}
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(host, port))
		},
	}
}

// A guest is a browser at a site, driven by script.
type guest struct {
	*http.Client
	site *site
}

// guest returns a browser that will sign in as login.
func (s *site) guest(login string) guest {
	s.t.Helper()
	client := s.client()
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > 10 {
			return errors.New("round in circles")
		}
		if r.URL.Path == "/authorize" { // the provider asks who it is otherwise
			query := r.URL.Query()
			query.Set("login_hint", login)
			r.URL.RawQuery = query.Encode()
		}
		return nil
	}
	return guest{client, s}
}

// opens opens a page and follows all redirects. It must end at the application,
// and it returns what that saw.
func (g guest) opens(t *testing.T, target string) received {
	t.Helper()
	res, body := get(t, g.Client, g.site.base+target, navigation())
	return receivedBy(t, res, body)
}

// goesTo opens a page and follows everything, also our page that goes on by itself.
// It must end at want.
func (g guest) goesTo(t *testing.T, target, want string) received {
	t.Helper()
	res, body := get(t, g.Client, target, navigation())
	if next, ok := strings.CutPrefix(res.Header.Get("Refresh"), "0; url="); ok {
		u, err := res.Request.URL.Parse(next)
		if err != nil {
			t.Fatal(err)
		}
		res, body = get(t, g.Client, u.String(), navigation())
	}
	if got := res.Request.URL.String(); got != want {
		t.Errorf("%s ends at %s, want %s", target, got, want)
	}
	return receivedBy(t, res, body)
}

// receivedBy returns what the application answered.
func receivedBy(t *testing.T, res *http.Response, body []byte) received {
	t.Helper()
	if err := expectStatus(res, http.StatusOK); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var got received
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%s is not what the application answers: %v", body, err)
	}
	return got
}

// navigation are the headers of a browser that opens a page. The application
// shows JSON to it.
func navigation() http.Header {
	return http.Header{"Accept": {"application/json,text/html"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Site": {"none"}}
}

// sends sends a request as it stands, over HTTP/1.1, and follows nothing. lines
// are its headers, cookies come from the jar.
func (g guest) sends(t *testing.T, method, target string, lines ...string) (*http.Response, string) {
	t.Helper()
	address := strings.TrimPrefix(g.site.base, "https://app.example.com")
	conn, err := tls.Dial("tcp", "127.0.0.1"+address, &tls.Config{RootCAs: g.site.roots, ServerName: "app.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lines = append([]string{method + " " + target + " HTTP/1.1", "Host: app.example.com" + address, "Connection: close"}, lines...)
	if cookies := g.cookies(t); cookies != "" {
		lines = append(lines, "Cookie: "+cookies)
	}
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method, URL: &url.URL{Path: target}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// cookies returns the browser's cookies for the site.
func (g guest) cookies(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(g.site.base)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for _, c := range g.Jar.Cookies(u) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}
