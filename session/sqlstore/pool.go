package sqlstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A pool keeps connections to PostgreSQL. The one used last is used next, so
// that those of a busy hour grow old and are closed.
//
// It is not pgxpool's because of networks that swallow packets, as after a
// failover that left the old address dead. There a place is free again only when
// pgx has told the server that a connection goes (up to 15 s), or when an attempt
// to connect has ended that nobody waits for any more (connectTimeout): measured,
// 3 s until everybody was served by a database that is back, here 0.1 s.
type pool struct {
	config *pgx.ConnConfig
	slots  chan struct{} // holds one for each connection in use

	mu     sync.Mutex
	idle   []idleConn
	closed bool
}

type idleConn struct {
	*pgx.Conn
	since time.Time
}

const (
	// askAfter is how long a connection may have been idle and still be taken
	// unasked; a longer time may have been enough for a restart or a firewall.
	askAfter = time.Second
	// askFor is how long the answer may take.
	askFor = time.Second
	// closeAfter is how long a connection may be idle.
	closeAfter = 5 * time.Minute
)

func newPool(config *pgx.ConnConfig, conns int) *pool {
	return &pool{config: config, slots: make(chan struct{}, conns)}
}

// take returns a connection that nobody else uses. It has to be given back,
// whatever became of it.
func (p *pool) take(ctx context.Context) (*pgx.Conn, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	conn, err := p.open(ctx)
	if err != nil {
		<-p.slots
	}
	return conn, err
}

// open returns an idle connection that answers, or a new one.
func (p *pool) open(ctx context.Context) (*pgx.Conn, error) {
	for {
		conn, err := p.pop()
		if err != nil {
			return nil, err
		}
		if conn.Conn == nil {
			return pgx.ConnectConfig(ctx, p.config.Copy())
		}
		if time.Since(conn.since) < askAfter || answers(ctx, conn.Conn) {
			return conn.Conn, nil
		}
		shut(conn.Conn)
	}
}

// pop takes the connection that became idle last, none if there is none.
func (p *pool) pop() (idleConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return idleConn{}, errors.New("the pool of connections is closed")
	}
	if len(p.idle) == 0 {
		return idleConn{}, nil
	}
	last := len(p.idle) - 1
	conn := p.idle[last]
	p.idle = p.idle[:last]
	return conn, nil
}

func answers(ctx context.Context, conn *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	return conn.Ping(ctx) == nil
}

// give takes a connection back. If it was cut, all that are idle are closed, too:
// what cut one cut most.
func (p *pool) give(conn *pgx.Conn, cut bool) {
	defer func() { <-p.slots }()
	reusable := !conn.IsClosed() && conn.PgConn().TxStatus() == 'I'
	var old []idleConn
	p.mu.Lock()
	switch {
	case p.closed:
		reusable = false
	case cut:
		old, p.idle = p.idle, nil
	case reusable:
		p.idle = append(p.idle, idleConn{conn, time.Now()})
		if time.Since(p.idle[0].since) > closeAfter {
			old, p.idle = p.idle[:1:1], p.idle[1:]
		}
	}
	p.mu.Unlock()
	if !reusable {
		shut(conn)
	}
	for _, c := range old {
		shut(c.Conn)
	}
}

// close closes what is idle now, and what is given back later.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		shut(c.Conn)
	}
}

// shut ends a connection without waiting long for a server that may be gone.
func shut(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx) // there is nobody to tell
}
