package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"authproxy/session"
)

// soon bounds how long a test waits for what is to happen at once. It passes
// only where something is broken.
const soon = 20 * time.Second

// dial opens a WebSocket as the one whom the header names.
func (w *world) dial(h http.Header) *websocket.Conn {
	w.Helper()
	conn, _, err := websocket.Dial(w.Context(), w.front.URL+"/ws", &websocket.DialOptions{Host: ourHost, HTTPHeader: h})
	w.must(err)
	w.Cleanup(func() { conn.CloseNow() })
	return conn
}

// closeStatus waits until conn is closed and returns the code that it was closed
// with, -1 for none.
func closeStatus(t testing.TB, conn *websocket.Conn) websocket.StatusCode {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	_, _, err := conn.Read(ctx)
	if ctx.Err() != nil {
		t.Fatal("the connection is still open, want it closed")
	}
	return websocket.CloseStatus(err)
}

// echoAll answers messages until the connection ends, and then tells so.
func echoAll(gone chan<- struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return // the client sees it
		}
		defer conn.CloseNow()
		conn.SetReadLimit(-1)
		for {
			kind, message, err := conn.Read(context.Background())
			if err == nil {
				err = conn.Write(context.Background(), kind, message)
			}
			if err != nil {
				gone <- struct{}{}
				return
			}
		}
	})
}

// echoes says whether conn is alive.
func echoes(t testing.TB, conn *websocket.Conn) error {
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		return err
	}
	_, got, err := conn.Read(ctx)
	if err == nil && string(got) != "hello" {
		return fmt.Errorf("read %q, want hello", got)
	}
	return err
}

func wait(t testing.TB, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(soon):
		t.Fatalf("still waiting for %s", what)
	}
}

// showing returns a request with cookies.
func showing(cookies string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", cookies)
	return r
}

// endings are the ways in which alice's session ends.
func endings() map[string]func(w *world, cookies string) {
	return map[string]func(*world, string){
		"sign-out": func(w *world, cookies string) { w.sessions.End(httptest.NewRecorder(), showing(cookies)) },
		"another sign-in in its browser": func(w *world, cookies string) {
			_, err := w.sessions.Start(httptest.NewRecorder(), showing(cookies), &session.Session{User: bob()})
			w.must(err)
		},
		"the idle timeout": func(w *world, _ string) { w.clock.advance(time.Hour) },
	}
}

// idleForAnHour lets a session end after an hour in which nothing is asked for.
func idleForAnHour() func(*session.Config) {
	return func(c *session.Config) { c.IdleTimeout = time.Hour }
}

// TestAnEndedSessionClosesItsWebSockets, with 1008, at both ends, and nobody
// else's.
func TestAnEndedSessionClosesItsWebSockets(t *testing.T) {
	for name, end := range endings() {
		gone := make(chan struct{}, 2)
		w := newWorld(t, setup{upstream: echoAll(gone), session: idleForAnHour()})
		mine, other := w.signIn(alice()), w.signIn(alice())
		conn := w.dial(with(nil, "Cookie", mine))
		w.must(echoes(t, conn))
		w.clock.advance(time.Minute) // the other one is seen later
		neighbour := w.dial(with(nil, "Cookie", other))
		w.clock.advance(-time.Minute)
		end(w, mine)
		if got := closeStatus(t, conn); got != websocket.StatusPolicyViolation {
			t.Errorf("%s: closed with %d, want %d", name, got, websocket.StatusPolicyViolation)
		}
		wait(t, gone, "the upstream to see the end: "+name)
		if err := echoes(t, neighbour); err != nil {
			t.Errorf("%s: another session of hers: %v, want it open", name, err)
		}
	}
}

// TestTheEndOfASessionsWindowClosesItsWebSockets, and sliding on keeps them.
func TestTheEndOfASessionsWindowClosesItsWebSockets(t *testing.T) {
	w := newWorld(t, setup{upstream: echoAll(make(chan struct{}, 1))})
	cookies := w.signIn(alice())
	conn := w.dial(with(nil, "Cookie", cookies))
	for range 4 { // to the 24th day of 30
		w.clock.advance(6 * 24 * time.Hour)
		if got := w.do(ask{target: "/", header: with(nil, "Cookie", cookies)}); got.StatusCode == http.StatusUnauthorized {
			t.Fatal("the session did not slide")
		}
		if sweep(w.proxy); echoes(t, conn) != nil {
			t.Fatal("closed though the session slid, want it open")
		}
	}
	w.clock.advance(6 * 24 * time.Hour)
	if got := closeStatus(t, conn); got != websocket.StatusPolicyViolation {
		t.Errorf("closed with %d, want %d", got, websocket.StatusPolicyViolation)
	}
}

// sweep does what the watch does now and then.
func sweep(p *Proxy) {
	for _, x := range p.open.list(nil) {
		p.endIfOver(x)
	}
}

// TestABearersWebSocket ends with the token, or before with the session.
func TestABearersWebSocket(t *testing.T) {
	for name, end := range map[string]func(w *world, cookies string){
		"expiry":   func(w *world, _ string) { w.clock.advance(15 * time.Minute) },
		"sign-out": endings()["sign-out"],
	} {
		w := newWorld(t, setup{upstream: echoAll(make(chan struct{}, 1))})
		cookies := w.signIn(alice())
		who, err := w.resolver.Identify(showing(cookies))
		w.must(err)
		raw, _, err := w.resolver.Token(who)
		w.must(err)
		conn := w.dial(with(nil, "Authorization", "Bearer "+raw))
		if sweep(w.proxy); echoes(t, conn) != nil {
			t.Fatalf("%s: closed before it, want it open", name)
		}
		end(w, cookies)
		if got := closeStatus(t, conn); got != websocket.StatusPolicyViolation {
			t.Errorf("%s: closed with %d, want %d", name, got, websocket.StatusPolicyViolation)
		}
	}
}

func TestAWebSocketEndsAtItsMaximalLifetime(t *testing.T) {
	w := newWorld(t, setup{rules: anyone(), upstream: echoAll(make(chan struct{}, 1)), proxy: func(c *Config) { c.MaxUpgraded = time.Hour }})
	conn := w.dial(nil)
	w.clock.advance(time.Hour - time.Second)
	if sweep(w.proxy); echoes(t, conn) != nil {
		t.Fatal("closed a second before, want it open")
	}
	w.clock.advance(time.Second)
	if got := closeStatus(t, conn); got != websocket.StatusGoingAway {
		t.Errorf("closed with %d, want %d", got, websocket.StatusGoingAway)
	}
}

// TestWebSocketsAreToldOfTheShutdown, those that open during it, too.
func TestWebSocketsAreToldOfTheShutdown(t *testing.T) {
	w := newWorld(t, setup{upstream: echoAll(make(chan struct{}, 4))})
	cookies := w.signIn(alice())
	var conns []*websocket.Conn
	for range 3 {
		conns = append(conns, w.dial(with(nil, "Cookie", cookies)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	w.proxy.CloseUpgraded(ctx)
	if left := len(w.proxy.open.list(nil)); left > 0 || ctx.Err() != nil {
		t.Errorf("%d connections are left, want none", left)
	}
	for _, conn := range append(conns, w.dial(with(nil, "Cookie", cookies))) {
		if got := closeStatus(t, conn); got != websocket.StatusGoingAway {
			t.Errorf("closed with %d, want %d", got, websocket.StatusGoingAway)
		}
	}
}

// speak is an upstream that answers an upgrade and then is told what to send. It
// reports what it got when the connection has ended.
func speak(send <-chan []byte, got chan<- string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			got <- err.Error()
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		go func() {
			for b := range send {
				conn.Write(b) // the connection may have been cut meanwhile
			}
		}()
		all, _ := io.ReadAll(buffered) // a reset is an end, too
		got <- string(all)
	})
}

// handshake opens a WebSocket by hand and returns the connection after the
// answer's headers.
func (w *world) handshake(cookies string) (net.Conn, *bufio.Reader) {
	w.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.front.URL, "http://"))
	w.must(err)
	w.Cleanup(func() { conn.Close() })
	w.must(conn.SetDeadline(time.Now().Add(soon)))
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", ourHost, cookies)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	w.must(err)
	if res.StatusCode != http.StatusSwitchingProtocols {
		w.Fatalf("status = %d, want 101", res.StatusCode)
	}
	return conn, in
}

// TestAFrameUnderWayIsCompleted before the close frame, and nothing follows it;
// one that is never completed is cut off. In the other direction nothing passes
// any more.
func TestAFrameUnderWayIsCompleted(t *testing.T) {
	first, second := frame(2, 300), frame(2, 10)
	goodbye := []byte{0x88, 2, 0x03, 0xf0}
	for _, tt := range []struct {
		name         string
		before, then []byte
		want         []byte
	}{
		{"between frames", first, second, append(bytes.Clone(first), goodbye...)},
		{"in a payload", first[:100], append(bytes.Clone(first[100:]), second...), append(bytes.Clone(first), goodbye...)},
		{"in a header", first[:3], append(bytes.Clone(first[3:]), second...), append(bytes.Clone(first), goodbye...)},
		{"in a frame that is never completed", first[:100], first[100:200], first[:200]},
		{"after the upstream's own goodbye", frame(opClose, 2), nil, frame(opClose, 2)},
	} {
		send, got := make(chan []byte, 2), make(chan string, 1)
		w := newWorld(t, setup{upstream: speak(send, got)})
		w.proxy.closeGrace = soon // a busy machine takes its time
		conn, in := w.handshake(w.signIn(alice()))
		send <- tt.before
		begin := make([]byte, len(tt.before))
		_, err := io.ReadFull(in, begin)
		w.must(err)
		x := w.proxy.open.list(nil)[0]
		x.end(closePolicy)
		io.WriteString(conn, "too late")
		send <- tt.then
		rest := make([]byte, len(tt.want)-len(begin))
		_, err = io.ReadFull(in, rest)
		w.must(err)
		x.upgraded.Load().cut()   // as after closeGrace
		more, _ := io.ReadAll(in) // a reset is an end, too
		rest = append(rest, more...)
		if all := append(begin, rest...); !bytes.Equal(all, tt.want) {
			t.Errorf("%s: the client got %d bytes that end in % x, want %d that end in % x", tt.name, len(all), all[max(0, len(all)-6):], len(tt.want), tt.want[max(0, len(tt.want)-6):])
		}
		if text := <-got; text != "" {
			t.Errorf("%s: the upstream got %q after the end, want nothing", tt.name, text)
		}
		wait(t, x.upgraded.Load().done, "the exchange to end: "+tt.name)
		close(send)
	}
}

// TestAClientThatDoesNotReadIsCutOff, when its session ends, all the same.
func TestAClientThatDoesNotReadIsCutOff(t *testing.T) {
	send, got := make(chan []byte, 1), make(chan string, 1)
	w := newWorld(t, setup{upstream: speak(send, got)})
	cookies := w.signIn(alice())
	w.handshake(cookies)
	send <- frame(2, 64<<20)
	x := w.proxy.open.list(nil)[0]
	w.sessions.End(httptest.NewRecorder(), showing(cookies))
	<-got
	wait(t, x.upgraded.Load().done, "the exchange to end")
	close(send)
}

// TestAnUpstreamThatDoesNotReadIsCutOff: what it was to read is stuck on the way.
func TestAnUpstreamThatDoesNotReadIsCutOff(t *testing.T) {
	release := make(chan struct{})
	w := newWorld(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		<-release
	})})
	defer close(release)
	cookies := w.signIn(alice())
	conn, _ := w.handshake(cookies)
	w.must(conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)))
	if _, err := io.Copy(conn, zeros(1<<30)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("wrote all, %v; want to get stuck", err)
	}
	x := w.proxy.open.list(nil)[0]
	w.sessions.End(httptest.NewRecorder(), showing(cookies))
	wait(t, x.upgraded.Load().done, "the exchange to end")
}

// TestNoFrameComesBeforeTheAnswerToTheUpgrade.
func TestNoFrameComesBeforeTheAnswerToTheUpgrade(t *testing.T) {
	client, server := net.Pipe()
	w := newWorld(t, setup{})
	x := &exchange{route: w.proxy.routes[0]}
	c := w.proxy.upgrade(x, server, true).(*upgraded)
	c.ending.Store(closeGoingAway)
	client.Close() // so that no write waits
	if c.sayGoodbye(); c.closed {
		t.Error("the close frame was written at once, want it after the answer")
	}
	if c.begin(); !c.closed {
		t.Error("the close frame was not written after the answer")
	}
	other := w.proxy.upgrade(x, server, false).(*upgraded)
	other.ending.Store(closeGoingAway)
	if other.begin(); other.closed {
		t.Error("a close frame was written into a protocol that has none")
	}
}

// TestAnEndedSessionsStreamsAreCutOff, the upstream's work included.
func TestAnEndedSessionsStreamsAreCutOff(t *testing.T) {
	for name, end := range endings() {
		for _, http2 := range []bool{false, true} {
			gone := make(chan struct{})
			w := newWorld(t, setup{http2: http2, session: idleForAnHour(), upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "data: 1\n\n")
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
				close(gone)
			})})
			cookies := w.signIn(alice())
			res, err := w.front.Client().Do(ask{header: with(nil, "Cookie", cookies)}.request(w))
			w.must(err)
			in := bufio.NewReader(res.Body)
			_, err = in.ReadString('\n')
			w.must(err)
			end(w, cookies)
			if rest, err := io.ReadAll(in); err == nil {
				t.Errorf("%s, http2=%t: the stream ended orderly with %q, want it cut off", name, http2, rest)
			}
			wait(t, gone, "the upstream to see the end")
			res.Body.Close()
		}
	}
}

// TestAnEndedSessionsLongPollIsAnswered like any request without a session.
func TestAnEndedSessionsLongPollIsAnswered(t *testing.T) {
	arrived := make(chan struct{})
	w := newWorld(t, setup{upstream: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})})
	cookies := w.signIn(alice())
	go func() {
		<-arrived
		w.sessions.End(httptest.NewRecorder(), showing(cookies))
	}()
	if got := w.do(ask{header: with(nil, "Cookie", cookies)}); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("status = %d, want 401; %s", got.StatusCode, got.body)
	}
}

// TestAnEndedSessionHarmsNobodyElse who comes through the same connection: that of
// an ingress serves all people.
func TestAnEndedSessionHarmsNobodyElse(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			arrived := make(chan struct{})
			w := newWorld(t, setup{http2: http2, upstream: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/poll" {
					io.Copy(io.Discard, r.Body)
					close(arrived)
					<-r.Context().Done()
				}
			})})
			leaving, staying := w.signIn(alice()), w.signIn(alice())
			go func() {
				<-arrived
				w.sessions.End(httptest.NewRecorder(), showing(leaving))
			}()
			poll := ask{method: method, target: "/poll", header: with(nil, "Cookie", leaving)}
			if method == http.MethodPost {
				poll.body = strings.NewReader("a=b")
			}
			if got := w.do(poll); got.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s, http2=%t: status = %d, want 401; %s", method, http2, got.StatusCode, got.body)
			}
			for range 3 {
				if got := w.do(ask{target: "/page", header: with(nil, "Cookie", staying)}); got.StatusCode != http.StatusOK {
					t.Errorf("%s, http2=%t: the next request: status = %d, want 200; %s", method, http2, got.StatusCode, got.body)
				}
			}
		}
	}
}

// TestASessionThatEndsWithTheAnswerHarmsNobodyElse either.
func TestASessionThatEndsWithTheAnswerHarmsNobodyElse(t *testing.T) {
	w := newWorld(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "done")
	})})
	cookies := w.signIn(alice())
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.proxy.ServeHTTP(&meanwhile{rw, func() {
			if r.Method == http.MethodPost {
				for _, x := range w.proxy.open.list(nil) {
					x.cancel(errSessionOver)
				}
				wait(t, r.Context().Done(), "the server to notice")
			}
		}}, r)
	}))
	defer front.Close()
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodGet} {
		req, err := http.NewRequest(method, front.URL+"/", strings.NewReader("a=b"))
		w.must(err)
		req.Host, req.Header = ourHost, http.Header{"Cookie": {cookies}}
		res, err := front.Client().Do(req)
		w.must(err)
		body, err := io.ReadAll(res.Body)
		w.must(err)
		w.must(res.Body.Close())
		if res.StatusCode != http.StatusOK || string(body) != "done" {
			t.Errorf("%s: status = %d with %q, want 200 with all of the answer", method, res.StatusCode, body)
		}
	}
}

// TestWhatHasEndedIsNotCancelled: by then its connection may serve somebody else.
func TestWhatHasEndedIsNotCancelled(t *testing.T) {
	client := &deadlines{ResponseWriter: httptest.NewRecorder()}
	x := &exchange{client: client, body: &passing{}}
	x.original.request = httptest.NewRequest("POST", "/", strings.NewReader("a=b"))
	x.body.ended.Store(true)
	x.Context, x.stop = context.WithCancelCause(t.Context())
	x.leave(client)
	if x.cancel(errSessionOver); client.set > 0 {
		t.Error("a session's end stopped reads from the connection after the answer, want it to be too late")
	}
}

// deadlines counts how often one is set.
type deadlines struct {
	http.ResponseWriter
	set int
}

func (d *deadlines) SetReadDeadline(time.Time) error {
	d.set++
	return nil
}

// meanwhile is a response writer that lets something happen while it writes.
type meanwhile struct {
	http.ResponseWriter
	happen func()
}

func (m *meanwhile) Unwrap() http.ResponseWriter { return m.ResponseWriter }

func (m *meanwhile) Write(p []byte) (int, error) {
	m.happen()
	return m.ResponseWriter.Write(p)
}

// TestATokenIsGoodToTheEndOfARequest that it was good for at the beginning.
func TestATokenIsGoodToTheEndOfARequest(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	w := newWorld(t, setup{upstream: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-goOn
	})})
	token := w.bearer(alice())
	go func() {
		<-arrived
		w.clock.advance(time.Hour)
		sweep(w.proxy)
		close(goOn)
	}()
	if got := w.do(ask{header: with(nil, "Authorization", "Bearer "+token)}); got.StatusCode != http.StatusOK {
		t.Errorf("status = %d, want 200; %s", got.StatusCode, got.body)
	}
}

// TestNothingIsKeptOfWhatHasEnded, in whatever way.
func TestNothingIsKeptOfWhatHasEnded(t *testing.T) {
	w := newWorld(t, setup{rules: anyoneBelowPublic(), upstream: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/public/broken" {
			panic(http.ErrAbortHandler)
		}
	})})
	for _, target := range []string{"/public/a", "/denied", "/public/broken"} {
		res, err := w.front.Client().Do(ask{target: target}.request(w))
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	w.front.Close() // waits for the handlers
	if left := w.proxy.open.list(nil); len(left) > 0 {
		t.Errorf("%d exchanges are kept, want none", len(left))
	}
}
