package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const (
	gigabyte = 1 << 30
	// flat is by how much a process may grow that keeps nothing of what it
	// passes on, in bytes.
	flat = 64 << 20
)

// memory returns how many bytes of memory the process has resident, and how many
// it had at most (proc(5)).
func (p *process) memory() (now, most int64) {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		missing(p.t, "this system has no /proc")
	}
	field := func(name string) int64 {
		found := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(text)
		if found == nil {
			p.t.Fatalf("/proc/…/status has no %s:\n%s", name, text)
		}
		kilobytes, err := strconv.ParseInt(string(found[1]), 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		return kilobytes << 10
	}
	return field("VmRSS"), field("VmHWM")
}

// TestAGigabytePassesInLittleMemory, in either direction, over HTTP/1.1 and over
// HTTP/2.
func TestAGigabytePassesInLittleMemory(t *testing.T) {
	slow(t)
	for _, http2 := range []bool{false, true} {
		s := newSetup(t)
		app := serveBoth(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			w.Header().Set("X-Received", fmt.Sprint(n, err))
			if r.Method == http.MethodGet {
				io.Copy(w, io.LimitReader(zeros{}, gigabyte))
			}
		}))
		s.upstream = map[bool]string{false: "http://", true: "h2c://"}[http2] + app
		l := s.launch(s.file(t, "rules: [{path: /**, allow: anyone}]\nshutdown: {delay: 0s}"))
		l.plain = true
		p := start(t, l)
		client := newClient(t, newTransport(http2))
		client.Timeout = 5 * time.Minute
		before, _ := p.memory()

		res, err := client.Get(s.base + "/")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, res.Body); n != gigabyte || err != nil {
			t.Errorf("HTTP/2 %t: got %d bytes, %v; want %d", http2, n, err, gigabyte)
		}
		res.Body.Close()
		res, _, err = send(client, http.MethodPut, s.base+"/", io.LimitReader(zeros{}, gigabyte))
		if want := fmt.Sprint(gigabyte, error(nil)); err != nil || res.Header.Get("X-Received") != want {
			t.Errorf("HTTP/2 %t: %v, the application got %v; want %s", http2, err, res, want)
		}
		if _, most := p.memory(); most > before+flat {
			t.Errorf("HTTP/2 %t: the process grew from %d to %d MiB, want at most %d more", http2, before>>20, most>>20, flat>>20)
		} else {
			t.Logf("HTTP/2 %t: %d MiB before, at most %d MiB while 2 GiB passed", http2, before>>20, most>>20)
		}
		p.stop()
	}
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// echoMessages is an application that sends back each message.
func echoMessages(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
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
			return
		}
	}
}

// TestAThousandWebSocketsOfOneSession: they pass big messages, cost little while
// nobody speaks, and all end with the session.
func TestAThousandWebSocketsOfOneSession(t *testing.T) {
	const many = 1000
	s := newSetup(t)
	s.upstream = "http://" + serveBoth(t, http.HandlerFunc(echoMessages))
	l := s.launch(s.file(t, "shutdown: {delay: 0s}\nroutes: [{path: /after, upstream: \""+startApp(t)+"\"}]"))
	l.plain = true
	p := start(t, l)
	client := newClient(t, nil)
	signIn(t, client, s.base, "alice")
	header := http.Header{"Cookie": {cookieHeader(t, client, s.base)}, "Origin": {s.base}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	before, _ := p.memory()
	conns := make([]*websocket.Conn, many)
	for i := range conns {
		conn, _, err := websocket.Dial(ctx, s.base+"/ws", &websocket.DialOptions{HTTPHeader: header})
		if err != nil {
			t.Fatalf("the WebSocket %d of %d: %v", i+1, many, err)
		}
		defer conn.CloseNow()
		conns[i] = conn
	}
	idle, _ := p.memory()
	t.Logf("%d WebSockets that say nothing: %d KiB each", many, (idle-before)/many>>10)
	if idle > before+flat {
		t.Errorf("the process grew from %d to %d MiB by %d WebSockets, want at most %d more", before>>20, idle>>20, many, flat>>20)
	}
	for _, conn := range conns[:20] {
		if err := echoMegabyte(ctx, conn); err != nil {
			t.Error(err)
		}
	}
	signOut(t, client, s.base)
	var wg sync.WaitGroup
	for i, conn := range conns {
		wg.Go(func() {
			if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
				t.Errorf("the WebSocket %d ended with %v, want the close code 1008", i+1, err)
			}
		})
	}
	wg.Wait()
}

// echoMegabyte sends a message of 1 MB and expects it back.
func echoMegabyte(ctx context.Context, conn *websocket.Conn) error {
	message := make([]byte, 1<<20)
	for i := range message {
		message[i] = byte(rand.Uint32())
	}
	conn.SetReadLimit(-1)
	sent := make(chan error, 1)
	go func() { sent <- conn.Write(ctx, websocket.MessageBinary, message) }()
	_, got, err := conn.Read(ctx)
	if err := errors.Join(<-sent, err); err != nil {
		return err
	}
	if !bytes.Equal(got, message) {
		return fmt.Errorf("a message of %d bytes came back as another one of %d", len(message), len(got))
	}
	return nil
}
