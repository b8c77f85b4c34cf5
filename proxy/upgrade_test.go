package proxy

import (
	"bufio"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// switching is an upstream that switches to protocol, which it says if it is not
// "", whatever the client asked for. It sends back what it gets until the client
// says no more, then says goodbye.
func switching(protocol string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what was cut off shows in the test
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n")
		if protocol != "" {
			fmt.Fprintf(conn, "Upgrade: %s\r\nConnection: Upgrade\r\n", protocol)
		}
		fmt.Fprintf(conn, "\r\n%s from %s: ", body, r.Header.Get("X-User-Id"))
		io.Copy(conn, buffered) // a cut is an end, too
		io.WriteString(conn, " bye")
	})
}

// ask101 sends a request for another protocol with the headers and the body
// "hello", and returns the answer with the connection.
func (w *world) ask101(headers string) (*http.Response, *net.TCPConn, *bufio.Reader) {
	w.Helper()
	conn, err := net.Dial("tcp", w.front.Listener.Addr().String())
	w.must(err)
	w.Cleanup(func() { conn.Close() })
	w.must(conn.SetDeadline(time.Now().Add(soon)))
	fmt.Fprintf(conn, "POST /exec HTTP/1.1\r\nHost: %s\r\nX-User-Id: root\r\nConnection: Upgrade\r\nContent-Length: 5\r\n%s\r\nhello", ourHost, headers)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	w.must(err)
	return res, conn.(*net.TCPConn), in
}

// TestAnUpgradeOfAnyKindPasses, as of docker attach ("tcp") and kubectl exec
// ("SPDY/3.1"): both ways, with a half-close, and to an upstream that would rather
// speak HTTP/2.
func TestAnUpgradeOfAnyKindPasses(t *testing.T) {
	for _, protocol := range []string{"tcp", "SPDY/3.1", "websocket", "some-thing.else_2"} {
		for _, tls := range []bool{false, true} {
			upstream := newServer(t, switching(protocol), tls)
			at := upstreamAt(t, upstream.URL)
			if tls {
				at.RootCAs = x509.NewCertPool()
				at.RootCAs.AddCert(upstream.Certificate())
			}
			w := newWorld(t, setup{routes: []Route{{Upstream: at}}})
			if res, _, _ := w.ask101("Upgrade: " + protocol + "\r\n"); res.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: anonymous: %s, want 401", protocol, res.Status)
			}
			res, conn, in := w.ask101("Upgrade: " + protocol + "\r\nCookie: " + w.signIn(alice()) + "\r\n")
			if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != protocol {
				t.Errorf("%s, TLS %t: %s to %q, want 101", protocol, tls, res.Status, res.Header.Get("Upgrade"))
				continue
			}
			io.WriteString(conn, "GET /admin HTTP/1.1\r\n\r\n")
			w.must(conn.CloseWrite())
			all, err := io.ReadAll(in)
			if want := "hello from " + alice().ID + ": GET /admin HTTP/1.1\r\n\r\n bye"; string(all) != want || err != nil {
				t.Errorf("%s, TLS %t: got %q, %v; want %q", protocol, tls, all, err, want)
			}
		}
	}
}

// wishesForHTTP are upgrades after which a client could write requests that
// nobody looks at, as some server or other understands them, and wishes in which
// such a one could hide.
func wishesForHTTP() []string {
	return []string{
		"h2c", "H2C", "h2c-14", "h2c/1", "h2", "h3", "HTTP/2.0", "http/1.1", "TLS/1.0", "tls/1.2", "SSL/3",
		"websocket, h2c", "h2c, websocket", "tcp,h2c", "tcp h2c", "tcp;h2c", "\"h2c\"", "tcp/1/h2c", "tcp\r\nUpgrade: h2c", ",h2c", "\tH2c\t", "",
	}
}

// TestNoUpgradeSpeaksHTTPAnew: h2c smuggling is refused before the upstream hears
// of it, and its word alone switches nothing.
func TestNoUpgradeSpeaksHTTPAnew(t *testing.T) {
	polite := newWorld(t, setup{rules: anyone()})
	for _, wish := range wishesForHTTP() {
		headers := "Upgrade: " + wish + "\r\nConnection: HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n"
		res, _, in := polite.ask101(headers)
		res.Body = io.NopCloser(io.LimitReader(in, res.ContentLength))
		body, err := io.ReadAll(res.Body)
		polite.must(err)
		got := answer{res, string(body)}.json(t)["Header"].(map[string]any)
		if res.StatusCode != 200 || got["Upgrade"] != nil || got["Connection"] != nil || got["Http2-Settings"] != nil {
			t.Errorf("%q: %s, the upstream got %v; want an ordinary request", wish, res.Status, got)
		}
		for _, protocol := range []string{wish, "h2c", ""} {
			if strings.ContainsAny(protocol, "\r,") {
				continue // no answer
			}
			rude := newWorld(t, setup{rules: anyone(), upstream: switching(protocol)})
			if res, _, _ := rude.ask101(headers); res.StatusCode != http.StatusBadGateway {
				t.Errorf("%q: the upstream switches to %q: %s, want 502", wish, protocol, res.Status)
			}
		}
	}
	// A client need not name HTTP2-Settings in Connection.
	if got := polite.pass(ask{header: http.Header{"Http2-Settings": {"AAMAAABk"}}}).Header; got["Http2-Settings"] != nil {
		t.Errorf("the upstream got HTTP2-Settings, want none")
	}
}

// TestH2CSmugglingFails at an application that speaks HTTP/2 behind every wish
// that sounds like it: the request for /admin, which the rules deny, reaches it
// only past the proxy.
func TestH2CSmugglingFails(t *testing.T) {
	reached := &lines{}
	app := newServer(t, speaksHTTPAnew(t, show("app", reached)), false)
	if smuggle(t, app.Listener.Addr().String(), "h2c", ""); !strings.Contains(reached.String(), "/admin") {
		t.Fatalf("the application itself is not open to the attack: it got %q", reached)
	}
	reached.b.Reset()
	w := newWorld(t, setup{rules: adminsBelowAdmin(), routes: []Route{{Upstream: upstreamAt(t, app.URL)}}})
	cookies := w.signIn(bob())
	for _, wish := range append(wishesForHTTP(), "tcp", "websocket") {
		smuggle(t, w.front.Listener.Addr().String(), wish, cookies)
	}
	if got := reached.String(); strings.Contains(got, "/admin") || !strings.Contains(got, "/exec") {
		t.Errorf("the application got\n%s, want /exec alone", got)
	}
}

// speaksHTTPAnew answers as h does, and takes connections over HTTP/2 after an
// upgrade whose name sounds like HTTP.
func speaksHTTPAnew(t *testing.T, h http.Handler) http.Handler {
	behind := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	behind.Protocols.SetUnencryptedHTTP2(true)
	conns := make(handedOver)
	go behind.Serve(conns) // until Close
	t.Cleanup(func() { behind.Close() })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wish := r.Header.Get("Upgrade")
		if !regexp.MustCompile(`(?i)h2|h3|http|tls|ssl`).MatchString(wish) {
			h.ServeHTTP(w, r)
			return
		}
		io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n", wish)
		conns <- conn
	})
}

// handedOver is a listener whose connections come from elsewhere.
type handedOver chan net.Conn

func (l handedOver) Accept() (net.Conn, error) {
	if conn, ok := <-l; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l handedOver) Close() error { close(l); return nil }

func (l handedOver) Addr() net.Addr { return &net.TCPAddr{} }

// smuggle attacks the server at address: a request that is allowed, with a wish
// for another protocol, and after the answer one for /admin over HTTP/2.
func smuggle(t *testing.T, address, wish, cookies string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	fmt.Fprintf(conn, "GET /exec HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABk\r\nCookie: %s\r\n\r\n", ourHost, wish, cookies)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		io.Copy(io.Discard, res.Body) // the attacker goes on all the same
	}
	io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, nil)
	framer.WriteSettings() // the connection may be closed by now
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: smuggled(t), EndStream: true, EndHeaders: true})
	conn.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, in) // to the end, whatever it is
}

// smuggled is the headers of GET /admin in HTTP/2.
func smuggled(t *testing.T) []byte {
	var b strings.Builder
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", ourHost}, {":path", "/admin"}, {"x-user-id", alice().ID}} {
		if err := e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	return []byte(b.String())
}

// TestAnUpgradeToWhatHasNone is an ordinary request: over HTTP/2 there is none.
func TestAnUpgradeToWhatHasNone(t *testing.T) {
	upstream := newServer(t, show("app", &lines{}), false)
	u, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, setup{rules: anyone(), routes: []Route{{Upstream: Upstream{URL: &url.URL{Scheme: "h2c", Host: u.Host}}}}})
	for _, protocol := range []string{"tcp", "websocket"} {
		got := w.pass(ask{header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {protocol}}})
		if got.Proto != "HTTP/2.0" || got.Header["Upgrade"] != nil {
			t.Errorf("%s: the upstream got %+v, want an ordinary request over HTTP/2", protocol, got)
		}
	}
}

// TestAnEndedSessionCutsEveryUpgrade, at both ends, and writes nothing into a
// protocol that is none of its business.
func TestAnEndedSessionCutsEveryUpgrade(t *testing.T) {
	for name, end := range endings() {
		gone := make(chan struct{}, 1)
		app := switching("tcp")
		w := newWorld(t, setup{session: idleForAnHour(), upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			app.ServeHTTP(w, r)
			gone <- struct{}{}
		})})
		cookies := w.signIn(alice())
		_, conn, in := w.ask101("Upgrade: tcp\r\nCookie: " + cookies + "\r\n")
		io.WriteString(conn, "before")
		want := "hello from " + alice().ID + ": before"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != want {
			t.Fatalf("%s: read %q, %v; want %q", name, got, err, want)
		}
		end(w, cookies)
		if rest, _ := io.ReadAll(in); len(rest) > 0 { // a reset is an end, too
			t.Errorf("%s: read %q after it, want nothing", name, rest)
		}
		wait(t, gone, "the upstream to see the end: "+name)
	}
}
