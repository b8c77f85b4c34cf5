package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A pool keeps connections to PostgreSQL. The one used last is used next, so
// that those of a busy hour grow old and are closed.
//
// Who came last is served first. Where more ask than the server can answer, who
// has waited longest has hardly any time left: the statement would be cut off, and
// its connection with it, one after the other, and nobody would be served at all.
//
// It is not pgxpool's because of networks that swallow packets, as after a
// failover that left the old address dead. There a place is free again only when
// pgx has told the server that a connection goes (up to 15 s), or when an attempt
// to connect has ended that nobody waits for any more (connectTimeout): measured,
// 3 s until everybody was served by a database that is back, here lateAfter.
type pool struct {
	config *pgx.ConnConfig
	conns  int // how many there may be
	ctx    context.Context
	stop   context.CancelFunc
	making sync.WaitGroup

	mu      sync.Mutex
	places  int             // in use, each for a connection
	queue   []chan struct{} // of those who have no place yet, closed when they do
	idle    []idleConn
	waiting []chan made // of those who have a place and no connection yet; each has room for one
	fresh   int         // attempts to connect that are not late
	late    []*attempt  // the oldest first
	why     error       // of the last attempt
	closed  bool
}

type idleConn struct {
	*pgx.Conn
	since time.Time
}

// An attempt makes a connection for whoever waits when there is one. It goes on
// when its time is over: a server that needs longer to let somebody in than a
// request can wait would never be reached otherwise.
type attempt struct {
	cancel context.CancelFunc
	late   bool
	timer  *time.Timer // says so
}

// made is what an attempt to connect brought.
type made struct {
	conn *pgx.Conn
	err  error
}

var errPoolClosed = errors.New("the pool of connections is closed")

const (
	// askAfter is how long a connection may have been idle and still be taken
	// unasked; a longer time may have been enough for a restart or a firewall.
	askAfter = time.Second
	// askFor is how long the answer may take.
	askFor = time.Second
	// closeAfter is how long a connection may be idle.
	closeAfter = 5 * time.Minute
	// atOnce is how many attempts to connect there are at a time: a server that has
	// just come back lets a few in sooner than many.
	atOnce = 3
	// lateAfter is when more of them are begun beside one that may lead nowhere.
	lateAfter = 500 * time.Millisecond
)

func newPool(config *pgx.ConnConfig, conns int) *pool {
	p := &pool{config: config, conns: conns}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// take returns a connection that nobody else uses. It has to be given back,
// whatever became of it.
func (p *pool) take(ctx context.Context) (*pgx.Conn, error) {
	if err := p.enter(ctx); err != nil {
		return nil, err
	}
	conn, err := p.open(ctx)
	if err != nil {
		p.leave()
	}
	return conn, err
}

// enter waits for a place.
func (p *pool) enter(ctx context.Context) error {
	p.mu.Lock()
	if p.places < p.conns {
		p.places++
		p.mu.Unlock()
		return nil
	}
	free := make(chan struct{})
	p.queue = append(p.queue, free)
	p.mu.Unlock()
	select {
	case <-free:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	waited := remove(&p.queue, free)
	p.mu.Unlock()
	if !waited { // at the last moment
		p.leave()
	}
	return context.Cause(ctx)
}

// leave gives a place to who came last, if anybody waits for one.
func (p *pool) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.queue) - 1
	if last < 0 {
		p.places--
		return
	}
	close(p.queue[last])
	p.queue = p.queue[:last]
}

// open returns an idle connection that answers, or a new one.
func (p *pool) open(ctx context.Context) (*pgx.Conn, error) {
	for {
		conn, err := p.pop()
		if err != nil {
			return nil, err
		}
		if conn.Conn == nil {
			return p.connect(ctx)
		}
		if time.Since(conn.since) < askAfter || answers(ctx, conn.Conn) {
			return conn.Conn, nil
		}
		shut(conn.Conn)
	}
}

// connect returns a new connection, or one that was given back meanwhile.
func (p *pool) connect(ctx context.Context) (*pgx.Conn, error) {
	got := make(chan made, 1)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errPoolClosed
	}
	p.waiting = append(p.waiting, got)
	p.fill()
	p.mu.Unlock()
	select {
	case m := <-got:
		return m.conn, m.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !remove(&p.waiting, got) { // at the last moment
		m := <-got
		return m.conn, m.err
	}
	if p.why != nil {
		return nil, fmt.Errorf("%w: %w", context.Cause(ctx), p.why)
	}
	return nil, fmt.Errorf("connect to PostgreSQL: %w", context.Cause(ctx))
}

// fill begins as many attempts as there are people to wait for them. The mutex is
// held.
func (p *pool) fill() {
	for p.fresh < min(atOnce, len(p.waiting)) {
		ctx, cancel := context.WithCancel(p.ctx)
		a := &attempt{cancel: cancel}
		p.fresh++
		p.making.Go(func() {
			defer cancel()
			conn, err := pgx.ConnectConfig(ctx, p.config.Copy())
			p.finish(a, made{conn, err})
		})
		a.timer = time.AfterFunc(lateAfter, func() { p.overdue(a) })
	}
}

// overdue lets others be begun beside a. When twice as many are late as there may be
// connections, the oldest is given up.
func (p *pool) overdue(a *attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.timer == nil { // it has ended
		return
	}
	a.late = true
	p.fresh--
	p.late = append(p.late, a)
	if len(p.late) > 2*p.conns {
		p.late[0].cancel()
		p.late = p.late[1:]
	}
	p.fill()
}

// finish hands on what a brought. An error of one that was late tells nobody
// anything: there are others.
func (p *pool) finish(a *attempt, m made) {
	p.mu.Lock()
	a.timer.Stop()
	a.timer = nil
	if a.late {
		remove(&p.late, a)
	} else {
		p.fresh--
	}
	if !errors.Is(m.err, context.Canceled) {
		p.why = m.err
	}
	surplus := m.conn
	switch {
	case m.err != nil:
		if !a.late {
			p.hand(m)
		}
	case p.hand(m):
		surplus = nil
	case !p.closed && len(p.idle)+p.places < p.conns:
		p.idle = append(p.idle, idleConn{m.conn, time.Now()})
		surplus = nil
	}
	p.fill()
	p.mu.Unlock()
	if surplus != nil {
		shut(surplus)
	}
}

// hand gives m to who came last, and reports whether anybody waits. The mutex is
// held.
func (p *pool) hand(m made) bool {
	last := len(p.waiting) - 1
	if last < 0 {
		return false
	}
	p.waiting[last] <- m
	p.waiting = p.waiting[:last]
	return true
}

// remove takes x off a list, and reports whether it was there.
func remove[T comparable](list *[]T, x T) bool {
	i := slices.Index(*list, x)
	if i < 0 {
		return false
	}
	*list = slices.Delete(*list, i, i+1)
	return true
}

// pop takes the connection that became idle last, none if there is none.
func (p *pool) pop() (idleConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return idleConn{}, errPoolClosed
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
	defer p.leave()
	reusable := !conn.IsClosed() && conn.PgConn().TxStatus() == 'I'
	var old []idleConn
	p.mu.Lock()
	switch {
	case p.closed:
		reusable = false
	case cut:
		old, p.idle = p.idle, nil
	case reusable && p.hand(made{conn: conn}):
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
	for p.hand(made{err: errPoolClosed}) {
	}
	p.mu.Unlock()
	p.stop()
	for _, c := range idle {
		shut(c.Conn)
	}
	p.making.Wait()
}

// shut ends a connection without waiting long for a server that may be gone.
func shut(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx) // there is nobody to tell
}
