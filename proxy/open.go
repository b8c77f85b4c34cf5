package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// watchInterval is how often the sessions of open connections are looked at.
// With closeGrace it keeps the promise that a connection is closed within a
// second of its session's end.
const watchInterval = 250 * time.Millisecond

// errSessionOver is why a request under way is cut off.
var errSessionOver = errors.New("proxy: the session is over")

// An openSet holds the exchanges that an upstream is working on. What a
// session's end must stop is in here, however long it takes: an upgraded
// connection, an event stream, a long poll, a download. The zero value is empty.
type openSet struct {
	mu       sync.Mutex
	all      map[*exchange]struct{}
	draining bool // upgraded connections are to end
}

func (s *openSet) add(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*exchange]struct{}{}
	}
	s.all[x] = struct{}{}
}

// remove forgets x, which has ended, or was never added.
func (s *openSet) remove(x *exchange) {
	s.mu.Lock()
	delete(s.all, x)
	s.mu.Unlock()
	if conn := x.upgraded.Load(); conn != nil {
		close(conn.done)
	}
}

// list appends the exchanges to buf, so that they can be looked at while others
// come and go.
func (s *openSet) list(buf []*exchange) []*exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.all {
		buf = append(buf, x)
	}
	return buf
}

// upgrade takes over the client's side of an upgraded connection, which may be a
// WebSocket.
func (p *Proxy) upgrade(x *exchange, conn net.Conn, webSocket bool) net.Conn {
	c := &upgraded{Conn: conn, webSocket: webSocket, done: make(chan struct{}), grace: p.closeGrace, cancel: x.cancel, big: x.route.proxy.BufferPool}
	if p.MaxUpgraded > 0 {
		c.until = p.Now().Add(p.MaxUpgraded)
	}
	p.open.mu.Lock()
	defer p.open.mu.Unlock()
	x.upgraded.Store(c)
	if p.open.draining {
		c.end(closeGoingAway)
	}
	return c
}

// watch ends what has outlived its session, until ctx ends. It asks instead of
// being told, because a session also ends by one of its clocks, and so that a
// request costs no more than its place in a set.
func (p *Proxy) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var buf []*exchange
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		buf = p.open.list(buf[:0])
		for _, x := range buf {
			p.endIfOver(x)
		}
		clear(buf) // holds on to nothing that has ended
	}
}

// endIfOver ends x if its session is over, or if its connection was upgraded and
// is too old. A bearer token ends an upgraded connection when it expires, but not
// a request that it was still good for.
func (p *Proxy) endIfOver(x *exchange) {
	who, conn := x.verdict.who, x.upgraded.Load()
	switch {
	case who == nil:
	case who.Session != nil && !p.Sessions.Alive(who.Session),
		who.Session == nil && !p.Sessions.AliveID(who.SessionID),
		who.Session == nil && conn != nil && !p.Now().Before(who.Expires):
		x.end(closePolicy)
		return
	}
	if conn != nil && !conn.until.IsZero() && !p.Now().Before(conn.until) {
		x.end(closeGoingAway)
	}
}

// end stops x: an upgraded connection with the close code, plain HTTP by cutting
// it off.
func (x *exchange) end(code uint16) {
	if conn := x.upgraded.Load(); conn != nil {
		conn.end(code)
		return
	}
	x.cancel(errSessionOver)
}

// CloseUpgraded closes all upgraded connections, and each one that is opened from
// now on, with 1001, going away (RFC 6455, section 7.4.1). It returns when they
// are gone, or when ctx ends. [http.Server.Shutdown] does not know them.
func (p *Proxy) CloseUpgraded(ctx context.Context) {
	p.open.mu.Lock()
	p.open.draining = true
	p.open.mu.Unlock()
	all := p.open.list(nil)
	for _, x := range all {
		if conn := x.upgraded.Load(); conn != nil {
			conn.end(closeGoingAway)
		}
	}
	for _, x := range all {
		conn := x.upgraded.Load()
		if conn == nil {
			continue
		}
		select {
		case <-conn.done:
		case <-ctx.Done():
			return
		}
	}
}
