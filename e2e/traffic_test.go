package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// letters is the file that the application of these tests serves.
const letters = "abcdefghijklmnopqrstuvwxyz"

// trafficApp is an application that uses what HTTP has.
func trafficApp() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"1"`)
		http.ServeContent(w, r, "letters.txt", time.Time{}, strings.NewReader(letters))
	})
	mux.HandleFunc("/poll", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(300 * time.Millisecond) // what a poll is long for
		fmt.Fprint(w, "news for ", r.Header.Get("X-User-Email"))
	})
	mux.HandleFunc("/takes", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/full", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInsufficientStorage)
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "trailers: ", len(r.Trailer))
		http.NewResponseController(w).Flush() // HTTP/1.1 has no trailers after a known length
		w.Header().Set(http.TrailerPrefix+"X-Sum", "4")
	})
	mux.HandleFunc("/exec", upgradeToTCP)
	return mux
}

// upgradeToTCP sends back in another protocol what it gets.
func upgradeToTCP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "tcp" {
		http.Error(w, "no upgrade was asked for", http.StatusUpgradeRequired)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return // the client sees it
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	io.Copy(conn, buffered)
}

// serveBoth serves h over HTTP/1.1 and over HTTP/2 without TLS, and returns its
// address.
func serveBoth(t *testing.T, h http.Handler) string {
	t.Helper()
	app := httptest.NewUnstartedServer(h)
	app.Config.Protocols = new(http.Protocols)
	app.Config.Protocols.SetHTTP1(true)
	app.Config.Protocols.SetUnencryptedHTTP2(true)
	app.Start()
	t.Cleanup(app.Close)
	return app.Listener.Addr().String()
}

// newTransport returns a transport for HTTP/1.1, or for HTTP/2 without TLS.
func newTransport(http2 bool) *http.Transport {
	t := &http.Transport{ExpectContinueTimeout: time.Minute, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP1(!http2)
	t.Protocols.SetUnencryptedHTTP2(http2)
	return t
}

// TestWhatHTTPHasPasses, with HTTP/1.1 and HTTP/2 on either side.
func TestWhatHTTPHasPasses(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	app := serveBoth(t, http.StripPrefix("/v1", trafficApp()))
	app2 := serveBoth(t, http.StripPrefix("/v2", trafficApp()))
	start(t, s.launch(s.file(t, fmt.Sprintf("shutdown: {delay: 0s}\nroutes: [{path: /v1/**, upstream: \"http://%s\"}, {path: /v2/**, upstream: \"h2c://%s\"}]\n", app, app2))))
	alice := newClient(t, nil)
	signIn(t, alice, s.base, "alice")
	for _, http2 := range []bool{false, true} {
		client := newClient(t, newTransport(http2))
		client.Jar = alice.Jar
		for _, version := range []string{"/v1", "/v2"} {
			t.Run(fmt.Sprintf("client HTTP2 %t, application %s", http2, version), func(t *testing.T) {
				tries := map[string]func(client *http.Client, base string) error{
					"a range": tryRange, "two ranges": tryTwoRanges, "a range behind the end": tryRangeBehindTheEnd,
					"a file that is known": tryKnownFile, "HEAD": tryHead, "a long poll": tryLongPoll, "trailers": tryTrailers,
					"a body that waits and is taken": tryBodyThatIsTaken, "a body that waits and is refused": tryBodyThatIsRefused,
				}
				if http2 { // net/http answers Expect itself there, once somebody reads the body
					delete(tries, "a body that waits and is refused")
				}
				for name, try := range tries {
					if err := try(client, s.base+version); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				waits := &noticed{Reader: strings.NewReader(letters)}
				nobody := newClient(t, newTransport(http2))
				if res, _, err := send(nobody, http.MethodPut, s.base+version+"/takes", waits, "Expect", "100-continue"); err != nil || res.StatusCode != 401 || waits.read.Load() {
					t.Errorf("nobody's body that waits: %v, %v, read: %t; want 401 and that it is not asked for", res, err, waits.read.Load())
				}
			})
		}
	}
	tryCONNECT(t, s)
	tryUpgrade(t, s, alice)
}

// send sends a request with a header and returns the answer with its body.
func send(client *http.Client, method, url string, body io.Reader, header ...string) (*http.Response, string, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, "", err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if req.Header.Get("Trailer") != "" {
		req.Header.Del("Trailer")
		req.Trailer = http.Header{"X-User-Id": {"root"}, "X-Sum": {"4"}}
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res, string(text), err
}

// expect returns an error unless the answer is status with text.
func expect(res *http.Response, text string, err error, status int, want string) error {
	if err != nil {
		return err
	}
	if res.StatusCode != status || text != want {
		return fmt.Errorf("%d %q, want %d %q", res.StatusCode, text, status, want)
	}
	return nil
}

func tryRange(client *http.Client, base string) error {
	res, text, err := send(client, http.MethodGet, base+"/file", nil, "Range", "bytes=2-4")
	if err := expect(res, text, err, http.StatusPartialContent, "cde"); err != nil {
		return err
	}
	if got := res.Header.Get("Content-Range"); got != "bytes 2-4/26" {
		return fmt.Errorf("Content-Range = %q", got)
	}
	return nil
}

func tryTwoRanges(client *http.Client, base string) error {
	res, text, err := send(client, http.MethodGet, base+"/file", nil, "Range", "bytes=0-1,-2")
	if err != nil {
		return err
	}
	_, params, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	var parts []string
	for in := multipart.NewReader(strings.NewReader(text), params["boundary"]); ; {
		part, err := in.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		parts = append(parts, string(b))
	}
	return expect(res, strings.Join(parts, " "), nil, http.StatusPartialContent, "ab yz")
}

func tryRangeBehindTheEnd(client *http.Client, base string) error {
	res, text, err := send(client, http.MethodGet, base+"/file", nil, "Range", "bytes=26-")
	return expect(res, text, err, http.StatusRequestedRangeNotSatisfiable, "invalid range: failed to overlap\n")
}

func tryKnownFile(client *http.Client, base string) error {
	res, text, err := send(client, http.MethodGet, base+"/file", nil, "If-None-Match", `"1"`)
	return expect(res, text, err, http.StatusNotModified, "")
}

func tryHead(client *http.Client, base string) error {
	res, text, err := send(client, http.MethodHead, base+"/file", nil)
	if err == nil && res.ContentLength != int64(len(letters)) {
		return fmt.Errorf("Content-Length = %d, want %d", res.ContentLength, len(letters))
	}
	return expect(res, text, err, http.StatusOK, "")
}

func tryLongPoll(client *http.Client, base string) error {
	res, text, err := send(client, http.MethodGet, base+"/poll", nil)
	return expect(res, text, err, http.StatusOK, "news for alice@example.com")
}

// tryTrailers: those of the answer pass, those of the request do not without
// gRPC.
func tryTrailers(client *http.Client, base string) error {
	body := struct{ io.Reader }{strings.NewReader(letters)} // of unknown length
	res, text, err := send(client, http.MethodPut, base+"/trailers", body, "Trailer", "some", "Te", "trailers")
	if err == nil && res.Trailer.Get("X-Sum") != "4" {
		return fmt.Errorf("the answer has the trailers %v, want X-Sum", res.Trailer)
	}
	return expect(res, text, err, http.StatusOK, "trailers: 0")
}

func tryBodyThatIsTaken(client *http.Client, base string) error {
	res, text, err := send(client, http.MethodPut, base+"/takes", strings.NewReader(letters), "Expect", "100-continue")
	return expect(res, text, err, http.StatusOK, letters)
}

func tryBodyThatIsRefused(client *http.Client, base string) error {
	body := &noticed{Reader: strings.NewReader(letters)}
	res, text, err := send(client, http.MethodPut, base+"/full", body, "Expect", "100-continue")
	if body.read.Load() {
		return errors.New("the body was asked for")
	}
	return expect(res, text, err, http.StatusInsufficientStorage, "")
}

// noticed knows whether it was read.
type noticed struct {
	io.Reader
	read atomic.Bool
}

func (n *noticed) Read(p []byte) (int, error) {
	n.read.Store(true)
	return n.Reader.Read(p)
}

// tryUpgrade opens a connection of alice's in a protocol that is no HTTP, and
// sees it end with her session.
func tryUpgrade(t *testing.T, s setup, alice *http.Client) {
	t.Helper()
	conn, in := dialRaw(t, s)
	fmt.Fprintf(conn, "POST /v1/exec HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\nCookie: %s\r\n\r\n", s.listen, cookieHeader(t, alice, s.base))
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("an upgrade: %v, %v; want 101", res, err)
	}
	io.WriteString(conn, letters)
	got := make([]byte, len(letters))
	if _, err := io.ReadFull(in, got); err != nil || string(got) != letters {
		t.Errorf("after an upgrade: %q, %v; want what was sent", got, err)
	}
	signOut(t, alice, s.base)
	if rest, err := io.ReadAll(in); len(rest) > 0 || isTimeout(err) {
		t.Errorf("after the session: %q, %v; want the end of the connection", rest, err)
	}
}

func tryCONNECT(t *testing.T, s setup) {
	t.Helper()
	conn, in := dialRaw(t, s)
	fmt.Fprintf(conn, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", s.listen)
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("CONNECT: %v, %v; want 405", res, err)
	}
}

// dialRaw returns a connection on which nothing waits for long.
func dialRaw(t *testing.T, s setup) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", s.listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// signOut ends the session of client.
func signOut(t *testing.T, client *http.Client, base string) {
	t.Helper()
	res, text, err := send(client, http.MethodPost, base+"/auth/sign-out", nil, "Accept", "application/json", "Content-Type", "application/json", "Sec-Fetch-Site", "same-origin")
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("signing out: %v, %v: %s", res, err, text)
	}
}

// TestWhatAnUpstreamSaysUnaskedIsNotLogged, though net/http would print it: it may be
// half of somebody's page.
func TestWhatAnUpstreamSaysUnaskedIsNotLogged(t *testing.T) {
	t.Parallel()
	const secret = "whose-page-this-is"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	said := make(chan struct{})
	go func() {
		defer close(said)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		time.Sleep(100 * time.Millisecond) // until the connection is idle there
		io.WriteString(conn, secret)
		io.Copy(io.Discard, conn) // until it is closed for that
	}()
	s := newSetup(t)
	s.upstream = "http://" + l.Addr().String()
	p := start(t, s.launch(s.file(t, "rules: [{path: /**, allow: anyone}]\nshutdown: {delay: 0s}")))
	if res, body := get(t, http.DefaultClient, s.base+"/", nil); res.StatusCode != http.StatusOK || string(body) != "ok" {
		t.Errorf("answered with %d and %q, want the page", res.StatusCode, body)
	}
	<-said
	p.stop()
	if strings.Contains(p.stderr.String()+p.stdout.String(), secret) {
		t.Errorf("the log tells what the upstream said:\n%s", excerpt(p.stderr.String()))
	}
}
