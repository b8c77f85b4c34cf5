package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A setup is what the pieces around one authproxy are called.
type setup struct {
	listen, base, admin, upstream, issuer, keys string
}

// newSetup starts an application and a provider for an authproxy to come.
func newSetup(t *testing.T) setup {
	t.Helper()
	address := freeAddress(t)
	s := setup{listen: address, base: "http://" + address, admin: freeAddress(t), keys: newKeys(t), upstream: startApp(t)}
	s.issuer = startProvider(t, s.base)
	return s
}

// file writes the configuration of s, with more of it appended.
func (s setup) file(t *testing.T, more string) string {
	t.Helper()
	return writeFile(t, "authproxy.yaml", fmt.Sprintf(`
listen: %q
admin: {listen: %q}
public_url: %s
upstream: %s
providers:
  - {id: demo, type: oidc, issuer: %q, client_id: authproxy, client_secret: client-secret}
sign_in: {allowed_domains: [example.com]}
cookie: {keys_file: %q}
%s
`, s.listen, s.admin, s.base, s.upstream, s.issuer, s.keys, more))
}

func (s setup) launch(file string) launch {
	return launch{args: []string{"serve", "--config", file}, base: s.base}
}

func TestEachWayToConfigureLeadsToTheSameProxy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		provider string
		launch   func(t *testing.T, s setup) launch
	}{
		{"by file", "demo", func(t *testing.T, s setup) launch { return s.launch(s.file(t, "shutdown: {delay: 0s}")) }},
		{"by environment", "demo", func(_ *testing.T, s setup) launch {
			return launch{base: s.base, environ: []string{
				"AUTHPROXY_LISTEN=" + s.listen, "AUTHPROXY_ADMIN_LISTEN=" + s.admin, "AUTHPROXY_PUBLIC_URL=" + s.base,
				"AUTHPROXY_UPSTREAM=" + s.upstream, "AUTHPROXY_SHUTDOWN_DELAY=0s", "AUTHPROXY_COOKIE_KEYS_FILE=" + s.keys,
				"AUTHPROXY_PROVIDERS_DEMO_TYPE=oidc", "AUTHPROXY_PROVIDERS_DEMO_ISSUER=" + s.issuer,
				"AUTHPROXY_PROVIDERS_DEMO_CLIENT_ID=authproxy", "AUTHPROXY_PROVIDERS_DEMO_CLIENT_SECRET=client-secret",
				"AUTHPROXY_SIGN_IN_ALLOWED_DOMAINS=example.com",
			}}
		}},
		{"by flags", "demo", func(t *testing.T, s setup) launch {
			return launch{base: s.base, args: []string{
				"--listen", s.listen, "--admin.listen=", "--upstream", s.upstream, "--public_url", s.base, "--cookie.keys_file", s.keys,
				"--providers.demo.type", "oidc", "--providers.demo.issuer", s.issuer, "--providers.demo.client_id", "authproxy",
				"--providers.demo.client_secret_file", writeFile(t, "secret", "client-secret\n"),
				"--sign_in.allowed_domains", "example.com", "--shutdown.delay=0s",
			}}
		}},
		{"by the short flags of one application", "oidc", func(t *testing.T, s setup) launch {
			return launch{base: s.base, args: []string{
				"--upstream", s.upstream, "--public_url", s.base, "--provider", "oidc", "--issuer", s.issuer, "--client_id", "authproxy",
				"--client_secret_file", writeFile(t, "secret", "client-secret\n"), "--sign_in.allowed_domains", "example.com",
				"--listen", s.listen, "--admin.listen", s.admin, "--cookie.keys_file", s.keys, "--shutdown.delay", "0s",
			}}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			start(t, tt.launch(t, s))
			client := newClient(t, nil)
			got := signInAt(t, client, s.base, tt.provider, "alice")
			expectUser(t, got, "alice@example.com")
			if got.Path != "/after" {
				t.Errorf("the application saw %s, want /after", got.Path)
			}
			expectToken(t, s.base, got.Headers.Get("Authorization"), got.Headers.Get("X-User-Id"))
			// The provider's cookie is for this host too: cookies know no ports.
			if c := got.Headers.Get("Cookie"); strings.Contains(c, "authproxy") {
				t.Errorf("the application got the cookies %q, want none of ours", c)
			}
			res, _ := get(t, newClient(t, nil), s.base+"/after", http.Header{"X-User-Id": {"forged"}})
			if err := expectStatus(res, http.StatusUnauthorized); err != nil {
				t.Errorf("anonymous: %v", err)
			}
		})
	}
}

func TestTLSWithCertificateFilesSpeaksHTTP2(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	_, port, err := net.SplitHostPort(s.listen)
	if err != nil {
		t.Fatal(err)
	}
	s.base = "https://localhost:" + port
	s.issuer = startProvider(t, s.base)
	certFile, keyFile, roots := selfSigned(t, "localhost")
	file := s.file(t, fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\nshutdown: {delay: 0s}", certFile, keyFile))
	client := newClient(t, &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}})
	l := s.launch(file)
	l.client = client
	start(t, l)

	expectUser(t, signIn(t, client, s.base, "bob"), "bob@example.com")
	res, _ := get(t, client, s.base+"/page", nil)
	if res.Proto != "HTTP/2.0" {
		t.Errorf("the protocol is %s, want HTTP/2.0", res.Proto)
	}
	cookies := getOnce(t, client, s.base+"/auth/sign-in/demo?rd=/").Cookies()
	if len(cookies) == 0 {
		t.Error("a sign-in sets no cookie")
	}
	for _, c := range cookies {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" {
			t.Errorf("the cookie %v is not bound to its host over HTTPS", c)
		}
	}
}

// selfSigned returns files with a certificate for host and its key, and the
// pool that trusts it.
func selfSigned(t *testing.T, hosts ...string) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	roots = x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certPEM) {
		t.Fatal("the certificate cannot be read back")
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	return writeFile(t, "tls.crt", string(certPEM)), writeFile(t, "tls.key", string(keyPEM)), roots
}

func TestAProviderThatIsDownAtTheStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	provider := freeAddress(t)
	s.issuer = "http://" + provider
	start(t, s.launch(s.file(t, "shutdown: {delay: 0s}")))

	client := newClient(t, nil)
	res, _ := get(t, client, "http://"+s.admin+"/readyz", nil)
	if err := expectStatus(res, http.StatusOK); err != nil {
		t.Errorf("without a provider: %v", err)
	}
	res, body := get(t, client, s.base+"/auth/sign-in/demo?login_hint=alice", nil)
	if err := expectStatus(res, http.StatusServiceUnavailable); err != nil {
		t.Errorf("without a provider: %v: %s", err, body)
	}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("Retry-After = %q, want a number of seconds", res.Header.Get("Retry-After"))
	}

	startProviderAt(t, provider, s.base)
	eventually(t, 30*time.Second, func() error {
		res, _ := get(t, client, s.base+"/auth/sign-in/demo?login_hint=alice&rd=/after", nil)
		return expectStatus(res, http.StatusOK)
	})
	expectUser(t, appAt(t, client, s.base+"/after"), "alice@example.com")
}

func TestSIGTERMLetsARequestUnderWayEnd(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	unblock := sync.OnceFunc(func() { close(release) })
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		io.WriteString(w, "the whole answer")
	}))
	t.Cleanup(slow.Close)
	s := newSetup(t)
	s.upstream = slow.URL
	p := start(t, s.launch(s.file(t, "rules: [{path: /**, allow: anyone}]\nshutdown: {delay: 500ms, timeout: 30s}")))
	t.Cleanup(unblock) // before the process is stopped, if the test fails

	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	client := newClient(t, nil)
	go func() {
		res, err := client.Get(s.base + "/slow")
		if err != nil {
			answered <- answer{err: err}
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		answered <- answer{string(body), errors.Join(err, expectStatus(res, http.StatusOK))}
	}()
	<-arrived
	p.terminate()
	eventually(t, 30*time.Second, func() error {
		res, _ := get(t, client, "http://"+s.admin+"/readyz", nil)
		return expectStatus(res, http.StatusServiceUnavailable)
	})
	eventually(t, 30*time.Second, func() error {
		conn, err := net.Dial("tcp", s.listen)
		if err != nil {
			return nil
		}
		return errors.Join(errors.New("new connections are still taken"), conn.Close())
	})
	unblock()
	if got := <-answered; got.err != nil || got.text != "the whole answer" {
		t.Errorf("the request under way got %q, %v, want its whole answer", got.text, got.err)
	}
	p.expectExit()
}

// TestWebSocketsAreToldToGo, and with which close code.
func TestWebSocketsAreToldToGo(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return // the client sees it
		}
		conn.Read(context.Background()) // until the connection ends
		conn.CloseNow()
	}))
	t.Cleanup(app.Close)
	for _, tt := range []struct {
		name, origin, settings string
		happen                 func(*process)
	}{
		{"at SIGTERM", "http://ours", "", (*process).terminate},
		{"after websocket.max_lifetime", "https://partner.example.net", "websocket: {max_lifetime: 1s, allowed_origins: [\"https://partner.example.net\"]}", func(*process) {}},
	} {
		s := newSetup(t)
		s.upstream = app.URL
		tt.origin = strings.Replace(tt.origin, "http://ours", s.base, 1)
		p := start(t, s.launch(s.file(t, "rules: [{path: /**, allow: anyone}]\nshutdown: {delay: 0s, timeout: 30s}\n"+tt.settings)))
		conn, _, err := websocket.Dial(t.Context(), s.base+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {tt.origin}}})
		if err != nil {
			t.Fatal(err)
		}
		tt.happen(p)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("%s: the WebSocket ended with %v, want the close code 1001", tt.name, err)
		}
		conn.CloseNow()
		if tt.settings == "" {
			p.expectExit()
		}
	}
}

func TestAClientThatSendsItsHeadersSlowlyIsCutOff(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	start(t, s.launch(s.file(t, "server: {read_header_timeout: 1s}\nshutdown: {delay: 0s}")))
	conn, err := net.Dial("tcp", s.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+s.listen+"\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	// Well before the default of 10 s.
	if err := conn.SetReadDeadline(time.Now().Add(8 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = bufio.NewReader(conn).ReadByte()
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Error("the connection is open 8 s later, although server.read_header_timeout is 1 s")
	}
}

func TestHealthcheckTellsAProxyThatRunsFromOneThatDoesNot(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	file := s.file(t, "shutdown: {delay: 0s}")
	p := start(t, s.launch(file))
	ask := func() map[string]int {
		_, byFile := command(t, nil, "healthcheck", "--config", file)
		_, byEnvironment := command(t, []string{"AUTHPROXY_ADMIN_LISTEN=" + s.admin}, "healthcheck")
		return map[string]int{"by file": byFile, "by environment": byEnvironment}
	}
	for how, status := range ask() {
		if status != 0 {
			t.Errorf("healthcheck %s of a proxy that runs: exit status %d, want 0", how, status)
		}
	}
	p.stop()
	for how, status := range ask() {
		if status != 1 {
			t.Errorf("healthcheck %s of a proxy that does not run: exit status %d, want 1", how, status)
		}
	}
}

func TestRotatingTheKeysKeepsTheSession(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	file := s.file(t, "shutdown: {delay: 0s}")
	old, err := os.ReadFile(s.keys)
	if err != nil {
		t.Fatal(err)
	}
	fresh := newKey(t) + "\n"

	p := start(t, s.launch(file))
	client := newClient(t, nil)
	before := signIn(t, client, s.base, "alice")
	kids := publishedKids(t, s.base)
	steps := []struct {
		name, keys string
		published  int
	}{
		{"a key added last", string(old) + fresh, 2},
		{"the new key promoted", fresh + string(old), 2},
	}
	for _, step := range steps {
		p.stop()
		if err := os.WriteFile(s.keys, []byte(step.keys), 0o600); err != nil {
			t.Fatal(err)
		}
		p = start(t, s.launch(file))
		after := appAt(t, client, s.base+"/after")
		if got, want := after.Headers.Get("X-User-Id"), before.Headers.Get("X-User-Id"); got != want {
			t.Errorf("%s: X-User-Id = %q, want %q", step.name, got, want)
		}
		expectToken(t, s.base, after.Headers.Get("Authorization"), before.Headers.Get("X-User-Id"))
		// A token from before the rotation is good until it expires.
		expectToken(t, s.base, before.Headers.Get("Authorization"), before.Headers.Get("X-User-Id"))
		now := publishedKids(t, s.base)
		if len(now) != step.published || !now[firstOf(kids)] {
			t.Errorf("%s: the keys %v are published, want %d and the first one among them", step.name, now, step.published)
		}
	}
}

// publishedKids returns the ids of the published keys.
func publishedKids(t *testing.T, base string) map[string]bool {
	t.Helper()
	_, body := get(t, http.DefaultClient, base+"/auth/jwks", nil)
	var set struct{ Keys []struct{ Kid string } }
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&set); err != nil {
		t.Fatal(err)
	}
	kids := map[string]bool{}
	for _, key := range set.Keys {
		kids[key.Kid] = true
	}
	return kids
}

func firstOf(set map[string]bool) string {
	for name := range set {
		return name
	}
	return ""
}
