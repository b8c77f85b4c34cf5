package servers

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Link is a way to a TCP server that can be cut, frozen and slowed down.
type Link struct {
	// Addr is where clients connect, host and port.
	Addr string

	target   string
	listener net.Listener
	delay    atomic.Int64 // nanoseconds

	mu     sync.Mutex
	thaw   *sync.Cond // told when frozen or closed change
	conns  map[net.Conn]bool
	cut    bool
	frozen bool
	closed bool
}

// NewLink returns a link to the server at target, host and port, until the test
// ends.
func NewLink(t testing.TB, target string) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{Addr: listener.Addr().String(), target: target, listener: listener, conns: map[net.Conn]bool{}}
	l.thaw = sync.NewCond(&l.mu)
	go l.accept()
	t.Cleanup(l.close)
	return l
}

// Cut ends all connections, and new ones at once, until Heal is called.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.conns {
		c.Close()
	}
}

// Freeze keeps connections open and lets nothing pass, as a network that drops
// packets, until Heal is called.
func (l *Link) Freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = true
}

// Heal undoes Cut and Freeze: what was held back passes.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.frozen = false, false
	l.thaw.Broadcast()
}

// Delay keeps back what passes for so long, each way.
func (l *Link) Delay(d time.Duration) { l.delay.Store(int64(d)) }

func (l *Link) close() {
	l.listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		c.Close()
	}
	l.thaw.Broadcast()
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		go l.serve(client)
	}
}

// serve connects a client with the server, until one of them ends it.
func (l *Link) serve(client net.Conn) {
	defer client.Close()
	if !l.add(client) {
		return
	}
	defer l.remove(client)
	server, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !l.add(server) {
		return
	}
	defer l.remove(server)
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			l.pass(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}

// pass copies what comes from one side, while the link is not frozen.
func (l *Link) pass(from io.Reader, to io.Writer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		time.Sleep(time.Duration(l.delay.Load()))
		if n > 0 && l.open() {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// open waits while the link is frozen and reports whether something may pass.
func (l *Link) open() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.frozen && !l.closed {
		l.thaw.Wait()
	}
	return !l.closed
}

func (l *Link) add(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || l.closed {
		return false
	}
	l.conns[c] = true
	return true
}

func (l *Link) remove(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}
