package proxy

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"authproxy/policy"
)

// bigBody is how much a body that must not be kept in memory has, in bytes.
const bigBody = 64 << 20

// zeros is a body of n bytes.
func zeros(n int64) io.Reader { return io.LimitReader(zero{}, n) }

type zero struct{}

func (zero) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestBodiesAreStreamed in both directions: when the receiver has half of a body,
// all of client, proxy and upstream hold next to nothing of it.
func TestBodiesAreStreamed(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		before := live()
		held := make(chan uint64, 1)
		up := newWorld(t, setup{rules: anyone(), http2: http2, upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			half, _ := io.CopyN(io.Discard, r.Body, bigBody/2)
			held <- live()
			rest, err := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d %v", half+rest, err)
		})})
		if got := up.do(ask{method: "PUT", body: zeros(bigBody)}).body; got != fmt.Sprintf("%d <nil>", bigBody) {
			t.Errorf("http2=%t: the upstream got %q, want all of it", http2, got)
		}
		down := newWorld(t, setup{rules: anyone(), http2: http2, upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, zeros(bigBody))
		})})
		res, err := down.front.Client().Do(ask{}.request(down))
		down.must(err)
		half, _ := io.CopyN(io.Discard, res.Body, bigBody/2)
		downHeld := live()
		if rest, err := io.Copy(io.Discard, res.Body); half+rest != bigBody || err != nil {
			t.Errorf("http2=%t: downloaded %d bytes, %v; want %d", http2, half+rest, err, bigBody)
		}
		res.Body.Close()
		for what, n := range map[string]uint64{"upload": <-held, "download": downHeld} {
			if n > before+bigBody/8 {
				t.Errorf("http2=%t: half-way through the %s %d MiB are held, %d before; want at most %d more", http2, what, n>>20, before>>20, bigBody>>23)
			}
		}
	}
}

// TestAnUpstreamMaySendLittleAhead of a client that does not read: over HTTP/2 all of
// that would be in our memory, however many they are.
func TestAnUpstreamMaySendLittleAhead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t, setup{rules: anyone(), routes: []Route{{Upstream: upstreamAt(t, "h2c://"+l.Addr().String())}}})
	go func() {
		if res, err := w.front.Client().Do(ask{}.request(w)); err == nil {
			res.Body.Close()
		}
	}()
	conn, err := l.Accept()
	w.must(err)
	defer conn.Close()
	begin := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")+9) // up to the head of SETTINGS (RFC 9113, section 4.1)
	_, err = io.ReadFull(conn, begin)
	w.must(err)
	settings := make([]byte, begin[len(begin)-7]) // the last byte of its length
	_, err = io.ReadFull(conn, settings)
	w.must(err)
	window := uint32(1<<16 - 1)
	for ; len(settings) >= 6; settings = settings[6:] {
		if binary.BigEndian.Uint16(settings) == 4 { // SETTINGS_INITIAL_WINDOW_SIZE
			window = binary.BigEndian.Uint32(settings[2:])
		}
	}
	if window > 256<<10 {
		t.Errorf("an answer may have %d KiB that nobody reads, want 256 at most", window>>10)
	}
}

// live returns how many bytes of the heap are in use.
func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestEventsArriveAsTheyAreSent: the upstream's handler goes on only after its
// first event was read.
func TestEventsArriveAsTheyAreSent(t *testing.T) {
	for _, contentType := range []string{"text/event-stream", "application/x-ndjson"} {
		read := make(chan struct{})
		w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			io.WriteString(w, "data: 1\n")
			http.NewResponseController(w).Flush()
			<-read
			io.WriteString(w, "data: 2\n")
		})})
		res, err := w.front.Client().Do(ask{}.request(w))
		w.must(err)
		in := bufio.NewReader(res.Body)
		first, err := in.ReadString('\n')
		w.must(err)
		close(read)
		rest, err := io.ReadAll(in)
		w.must(err)
		if first != "data: 1\n" || string(rest) != "data: 2\n" {
			t.Errorf("%s: read %q, then %q", contentType, first, rest)
		}
		res.Body.Close()
	}
}

func TestWebSocket(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		told := make(chan string, 1)
		upstream := newServer(t, echoWebSocket(told), http2)
		at := upstreamAt(t, upstream.URL)
		if http2 { // it speaks HTTP/2 with TLS, over which there is no upgrade
			at.RootCAs = x509.NewCertPool()
			at.RootCAs.AddCert(upstream.Certificate())
		}
		w := newWorld(t, setup{routes: []Route{{Upstream: at}}})
		dial := func(cookies string) (*websocket.Conn, *http.Response, error) {
			return websocket.Dial(t.Context(), w.front.URL+"/ws", &websocket.DialOptions{Host: ourHost, HTTPHeader: with(http.Header{"X-User-Id": {"root"}}, "Cookie", cookies)})
		}
		if _, res, err := dial(""); err == nil || res.StatusCode != 401 {
			t.Fatalf("http2=%t: anonymous: %v, want 401", http2, err)
		}
		conn, _, err := dial(w.signIn(alice()))
		w.must(err)
		defer conn.CloseNow()
		if id := <-told; id != alice().ID {
			t.Errorf("http2=%t: X-User-Id = %q, want alice's", http2, id)
		}
		w.must(conn.Write(t.Context(), websocket.MessageText, []byte("hello")))
		if _, got, err := conn.Read(t.Context()); string(got) != "echo hello" || err != nil {
			t.Errorf("http2=%t: read %q, %v; want the echo", http2, got, err)
		}
	}
}

// echoWebSocket answers one message, and tells who sent it.
func echoWebSocket(told chan<- string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told <- r.Header.Get("X-User-Id")
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // the client sees it
		}
		defer conn.CloseNow()
		kind, message, err := conn.Read(r.Context())
		if err == nil {
			conn.Write(r.Context(), kind, append([]byte("echo "), message...))
		}
		conn.Close(websocket.StatusNormalClosure, "")
	})
}

func TestAnswersWithoutABody(t *testing.T) {
	w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Length", "1234")
		w.Write(make([]byte, 1234))
	})})
	if got := w.do(ask{method: "HEAD"}); got.StatusCode != 200 || got.ContentLength != 1234 || got.body != "" {
		t.Errorf("HEAD: %d with %d bytes announced and %q sent, want 200, 1234, nothing", got.StatusCode, got.ContentLength, got.body)
	}
	if got := w.do(ask{header: http.Header{"If-None-Match": {`"1"`}}}); got.StatusCode != 304 || got.Header.Get("Etag") != `"1"` || got.body != "" {
		t.Errorf("a known ETag: %d %q, want 304 with the ETag", got.StatusCode, got.body)
	}
}

// TestEarlyHintsPass, without cookies: those are for answers that we looked at.
func TestEarlyHintsPass(t *testing.T) {
	w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.Header().Set("Set-Cookie", "__Host-authproxy_session=planted")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "page")
	})})
	var hints []textproto.MIMEHeader
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints {
			hints = append(hints, h)
		}
		return nil
	}})
	res, err := w.front.Client().Do(ask{}.request(w).WithContext(ctx))
	w.must(err)
	defer res.Body.Close()
	if len(hints) != 1 || hints[0].Get("Link") != "</a.css>; rel=preload" || len(hints[0]["Set-Cookie"]) > 0 || len(res.Header["Set-Cookie"]) > 0 {
		t.Errorf("hints = %v, then %v; want one with the link and no cookie of ours at all", hints, res.Header)
	}
	if status := logged(t, w)[0]["status"]; status != 200.0 {
		t.Errorf("logged status = %v, want 200", status)
	}
}

// TestHTTP10KnowsNoEarlyHints: it would take them for the answer.
func TestHTTP10KnowsNoEarlyHints(t *testing.T) {
	w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "page")
	})})
	if status, rest := raw(t, w.front.URL, "GET / HTTP/1.0\r\nHost: "+ourHost+"\r\n\r\n"); status != "HTTP/1.0 200 OK" || !strings.HasSuffix(rest, "page") {
		t.Errorf("answered with %s and %q, want the page alone", status, rest)
	}
}

// TestABodyWaitsForContinue: an upstream that refuses gets no body.
func TestABodyWaitsForContinue(t *testing.T) {
	w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuses" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		io.Copy(w, r.Body)
	})})
	w.proxy.transports[0].ExpectContinueTimeout = soon // a busy machine takes its time
	for path, want := range map[string]struct {
		status int
		body   string
		read   bool
	}{"/takes": {200, "body", true}, "/refuses": {413, "", false}} {
		body := &noticed{Reader: strings.NewReader("body")}
		a := ask{method: "PUT", target: path, header: http.Header{"Expect": {"100-continue"}}, body: body}
		if got := w.do(a); got.StatusCode != want.status || got.body != want.body || body.read.Load() != want.read {
			t.Errorf("%s: %d %q, body read: %t; want %+v", path, got.StatusCode, got.body, body.read.Load(), want)
		}
	}
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

// TestAnAnswerMayComeBeforeTheBody, or in the middle of it, and the upstream still
// gets all of that.
func TestAnAnswerMayComeBeforeTheBody(t *testing.T) {
	const size = 100_000
	for _, http2 := range []bool{false, true} {
		for _, length := range []int64{-1, size} {
			w := newWorld(t, setup{rules: anyone(), http2: http2, upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := http.NewResponseController(w)
				answer.EnableFullDuplex()
				answer.Flush()
				io.Copy(w, r.Body)
			})})
			body, send := io.Pipe()
			defer time.AfterFunc(soon, func() { send.CloseWithError(errors.New("no answer came")) }).Stop()
			r := ask{method: "POST", body: body}.request(w)
			r.ContentLength = length
			begun := make(chan struct{})
			go func() {
				io.WriteString(send, strings.Repeat("1", size/2))
				<-begun
				io.WriteString(send, strings.Repeat("2", size/2))
				send.Close()
			}()
			res, err := w.front.Client().Do(r)
			w.must(err)
			close(begun)
			got, err := io.ReadAll(res.Body)
			if want := strings.Repeat("1", size/2) + strings.Repeat("2", size/2); string(got) != want || err != nil {
				t.Errorf("http2=%t, length %d: %d of %d bytes came back, %v", http2, length, len(got), size, err)
			}
			res.Body.Close()
		}
	}
}

// TestARefusalDoesNotWaitForABody that goes on and on.
func TestARefusalDoesNotWaitForABody(t *testing.T) {
	w := newWorld(t, setup{})
	body, send := io.Pipe()
	defer time.AfterFunc(soon, func() { send.Close() }).Stop()
	if got := w.do(ask{method: "POST", body: body}); got.StatusCode != http.StatusUnauthorized || !got.Close {
		t.Errorf("status = %d, close: %t; want 401 before the body has ended", got.StatusCode, got.Close)
	}
}

func TestTrailersOfAnswersPass(t *testing.T) {
	w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.Header().Set("X-Sum", "4")
		w.Header().Set(http.TrailerPrefix+"X-Late", "5")
	})})
	got := w.do(ask{header: http.Header{"Te": {"trailers"}}})
	if got.body != "body" || got.Trailer.Get("X-Sum") != "4" || got.Trailer.Get("X-Late") != "5" {
		t.Errorf("got %q with %v, want the body and both trailers", got.body, got.Trailer)
	}
}

// TestAnAnswerThatBreaksOff is one for the client, too, and is logged.
func TestAnAnswerThatBreaksOff(t *testing.T) {
	w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})})
	res, err := w.front.Client().Do(ask{}.request(w))
	w.must(err)
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("read %q without an error, want one", body)
	}
	w.front.Close() // waits for the handler
	if all := logged(t, w); len(all) != 1 || all[0]["status"] != 200.0 || all[0]["bytes"] != 4.0 {
		t.Errorf("logged %v, want one line with what was sent", all)
	}
}

// TestAClientThatGoesAwayEndsTheUpstreamsWork.
func TestAClientThatGoesAwayEndsTheUpstreamsWork(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(ended)
	})})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if res, err := w.front.Client().Do(ask{}.request(w).WithContext(ctx)); err == nil {
		res.Body.Close()
		t.Error("the request succeeded, want it canceled")
	}
	<-ended
	w.front.Close() // waits for the handler
	if all := logged(t, w); len(all) != 1 || all[0]["status"] != 499.0 {
		t.Errorf("logged %v, want status 499", all)
	}
}

func TestAnUpstreamBehindTLS(t *testing.T) {
	upstream := newServer(t, show("tls", &lines{}), true)
	good := x509.NewCertPool()
	good.AddCert(upstream.Certificate())
	route := upstreamAt(t, upstream.URL)
	for _, tt := range []struct {
		name string
		cas  *x509.CertPool
		want int
	}{{"its own authority", good, 200}, {"another one", x509.NewCertPool(), 502}, {"the system's", nil, 502}} {
		route.RootCAs = tt.cas
		w := newWorld(t, setup{rules: anyone(), routes: []Route{{Upstream: route}}})
		got := w.do(ask{target: "/a%2f?b;c"})
		if got.StatusCode != tt.want {
			t.Errorf("%s: status = %d, want %d; %s", tt.name, got.StatusCode, tt.want, got.body)
		}
		if tt.want == 200 && (got.json(t)["Proto"] != "HTTP/2.0" || got.json(t)["Target"] != "/a%2f?b;c") {
			t.Errorf("%s: the upstream saw %s, want the same target over HTTP/2", tt.name, got.body)
		}
	}
}

func TestAnUpstreamOnAUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: show("unix", &lines{})}}
	s.Start()
	t.Cleanup(s.Close)
	for passHost, host := range map[bool]string{true: ourHost, false: "localhost"} {
		u := Upstream{URL: &url.URL{Scheme: "unix", Path: socket}, PassHost: passHost}
		w := newWorld(t, setup{rules: anyone(), routes: []Route{{Upstream: u}}})
		if got := w.pass(ask{target: "/a?b"}); got.Upstream != "unix" || got.Target != "/a?b" || got.Host != host {
			t.Errorf("pass_host %t: got %+v, want /a?b at the socket for %s", passHost, got, host)
		}
	}
}

func TestThePassedHost(t *testing.T) {
	upstream := newServer(t, show("app", &lines{}), false)
	for _, passHost := range []bool{true, false} {
		u := upstreamAt(t, upstream.URL+"/unused/path?unused")
		want := u.URL.Host
		if u.PassHost = passHost; passHost {
			want = ourHost
		}
		w := newWorld(t, setup{rules: anyone(), routes: []Route{{Upstream: u}}})
		got := w.pass(ask{target: "/a"})
		if got.Host != want || got.Target != "/a" || got.Header.Get("X-Forwarded-Host") != ourHost {
			t.Errorf("pass_host %t: got %s for %s (%s), want /a for %s", passHost, got.Target, got.Host, got.Header.Get("X-Forwarded-Host"), want)
		}
	}
}

// TestAnUpstreamThatIsDown is told to people and programs, with a name for the
// operator to look for, and nothing of what is behind us.
func TestAnUpstreamThatIsDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	w := newWorld(t, setup{rules: anyone(), routes: []Route{{Upstream: upstreamAt(t, "http://"+address)}}})
	for i, h := range []http.Header{browser(""), nil, {"Connection": {"X-Request-Id"}}} {
		got := w.do(ask{target: "/a?b", header: h})
		line := logged(t, w)[i]
		_, port, _ := net.SplitHostPort(address)
		if got.StatusCode != 502 || line["status"] != 502.0 || !strings.Contains(got.body, line["request_id"].(string)) {
			t.Errorf("%v: %d %s, want 502 with the request's id", h, got.StatusCode, got.body)
		}
		for _, internal := range []string{port, "dial", "refused", "127.0.0.1"} {
			if strings.Contains(got.body, internal) {
				t.Errorf("%v: the answer tells %q: %s", h, internal, got.body)
			}
		}
		if got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v: Cache-Control = %q, want no-store", h, got.Header.Get("Cache-Control"))
		}
	}
	if !strings.Contains(w.log.String(), "connection refused") {
		t.Error("the log does not say why")
	}
}

// TestConnectionsAreKept: as many are opened as are needed at the same time. A few
// more are not our doing: net/http gives a connection up when an answer was there
// and the goroutine that wrote the request has not run for another 50 ms, which
// happens on a busy machine.
func TestConnectionsAreKept(t *testing.T) {
	const parallel, lost = 64, 8
	var opened atomic.Int32
	var together sync.WaitGroup
	together.Add(parallel)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/together" {
			together.Done()
			together.Wait()
		}
	}))
	upstream.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	upstream.Start()
	t.Cleanup(upstream.Close)
	w := newWorld(t, setup{rules: anyone(), routes: []Route{{Upstream: upstreamAt(t, upstream.URL)}}})
	inOrder := func() {
		for range 200 {
			w.do(ask{target: "/"})
		}
	}
	inOrder()
	if n := opened.Load(); n > 1+lost {
		t.Errorf("200 requests one by one opened %d connections, want 1", n)
	}
	for round := range 3 {
		var wg sync.WaitGroup
		for range parallel {
			wg.Go(func() {
				res, err := w.front.Client().Do(ask{target: "/together"}.request(w))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			})
		}
		wg.Wait()
		together.Add(parallel)
		if n := opened.Load(); n < parallel || n > parallel+lost {
			t.Errorf("round %d of %d requests at once: %d connections were opened so far, want %d", round+1, parallel, n, parallel)
		}
	}
	inOrder()
	if n := opened.Load(); n > parallel+lost {
		t.Errorf("200 more opened %d connections, want none", n-parallel)
	}
}

// TestOnlySafeRequestsAreSentAgain where an upstream closes the connection, which it
// had kept, instead of answering: it may have done what it was asked to.
func TestOnlySafeRequestsAreSentAgain(t *testing.T) {
	for _, tt := range []struct {
		method, body  string
		times, status int
	}{{"GET", "", 2, 200}, {"HEAD", "", 2, 200}, {"GET", "body", 1, 502}, {"POST", "body", 1, 502}, {"POST", "", 1, 502}, {"DELETE", "", 1, 502}} {
		var arrived atomic.Int32
		w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			if arrived.Add(1) == 2 {
				panic(http.ErrAbortHandler)
			}
		})})
		w.do(ask{})
		got := w.do(ask{method: tt.method, body: strings.NewReader(tt.body)})
		if n := int(arrived.Load()) - 1; n != tt.times || got.StatusCode != tt.status {
			t.Errorf("%s with %q: arrived %d times, status %d; want %d times, %d", tt.method, tt.body, n, got.StatusCode, tt.times, tt.status)
		}
	}
}

// TestARequestThatWasDeniedNeverReachesTheUpstream, nor does its body.
func TestARequestThatWasDeniedNeverReachesTheUpstream(t *testing.T) {
	w := newWorld(t, setup{rules: []policy.Rule{{Deny: true}}, upstream: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it did") })})
	body := &noticed{Reader: strings.NewReader("body")}
	if got := w.do(ask{method: "PUT", header: http.Header{"Expect": {"100-continue"}}, body: body}); got.StatusCode != 403 || body.read.Load() {
		t.Errorf("status = %d, body asked for: %t; want 403, false", got.StatusCode, body.read.Load())
	}
}
