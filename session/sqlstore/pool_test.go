package sqlstore

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authproxy/session/storetest/servers"
)

// A failover may leave an address that swallows packets. Whoever asks once the
// name leads to the new server waits neither for the connections to the old one
// nor for attempts to make more of them.
func TestADeadAddressKeepsNobodyWaitingAfterAFailover(t *testing.T) {
	t.Parallel()
	server := Shared.Database(t)
	old := servers.NewLink(t, server.Addr)
	var address atomic.Value // of the database, as its name resolves
	address.Store(old.Addr)
	s, err := Open(t.Context(), server.URL(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p := s.db.(*postgresStore)
	p.main.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address.Load().(string))
	}
	if got := answered(t, p, time.Minute); got != crowd {
		t.Fatalf("%d of %d are served while all is well", got, crowd)
	}
	old.Freeze()
	for range 2 { // those connections, then attempts to connect
		if got := answered(t, p, time.Second); got != 0 {
			t.Fatalf("%d are served through a link that lets nothing pass", got)
		}
	}
	address.Store(server.Addr)
	if got := answered(t, p, 2*time.Second); got != crowd {
		t.Errorf("%d of %d are served within 2 s once the database is back", got, crowd)
	}
}

// What takes longer than a request can wait, to connect over a long way and to be let
// in, is done by the time the next one asks.
func TestASlowWayToTheServerIsNoOutage(t *testing.T) {
	t.Parallel()
	p, link := linked(t, 10)
	link.Delay(150 * time.Millisecond) // an answer takes 0.3 s, to be let in four of them
	const patience = 900 * time.Millisecond
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if p.read(ctx, func(q runner) error { _, err := q.exec(ctx, `SELECT 1`); return err }) == nil {
			return
		}
	}
	t.Errorf("nobody is served by a server that answers in 0.3 s, if they wait %v each time they ask", patience)
}

// TestConnectionsStayWithinTheirNumber also when attempts that were late come to their
// end.
func TestConnectionsStayWithinTheirNumber(t *testing.T) {
	t.Parallel()
	store, link := linked(t, 3)
	p := store.pool
	link.Freeze()
	answered(t, store, 5*lateAfter)
	p.mu.Lock()
	if n := p.fresh + len(p.late); n > atOnce+6 {
		t.Errorf("there are %d attempts to connect, want no more than %d and twice the number of connections that are late", n, atOnce)
	}
	p.mu.Unlock()
	link.Heal()
	for {
		p.mu.Lock()
		under, idle := p.fresh+len(p.late), len(p.idle)
		p.mu.Unlock()
		if under == 0 {
			if idle != 3 {
				t.Errorf("%d connections are kept, want 3", idle)
			}
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestWhoCameLastIsServedFirst: where more ask than the server can answer, a connection
// that goes to who has waited longest is cut off with a statement that has no time
// left, and so is the next one, until nobody is served at all.
func TestWhoCameLastIsServedFirst(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		conns int
	}{
		{"who wait for a place", 1},
		{"who have a place and wait for a connection", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store, link := linked(t, tt.conns)
			p := store.pool
			held, err := p.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			link.Freeze() // there will be no other
			served := make(chan int, 2)
			for i := range 2 {
				go func() {
					if conn, err := p.take(t.Context()); err == nil {
						served <- i
						p.give(conn, false)
					}
				}()
				for waiting := 0; waiting <= i; time.Sleep(time.Millisecond) {
					p.mu.Lock()
					waiting = len(p.queue) + len(p.waiting)
					p.mu.Unlock()
				}
			}
			p.give(held, false)
			if first, second := <-served, <-served; first != 1 || second != 0 {
				t.Errorf("served in the order %d, %d; want who came last first", first, second)
			}
		})
	}
}

// linked returns a store that reaches its server by a link, over at most so many
// connections, none of which it has yet.
func linked(t *testing.T, conns int) (*postgresStore, *servers.Link) {
	t.Helper()
	server := Shared.Database(t)
	link := servers.NewLink(t, server.Addr)
	s, err := Open(t.Context(), server.URLAt(link.Addr), Options{MaxConns: conns})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p := s.db.(*postgresStore)
	p.pool.close()
	p.pool = newPool(p.main, conns)
	return p, link
}

// crowd is how many ask at a time: more than there are connections.
const crowd = 20

// answered returns how many of a crowd have an answer within so long.
func answered(t *testing.T, p *postgresStore, within time.Duration) int32 {
	t.Helper()
	var n atomic.Int32
	var wg sync.WaitGroup
	for range crowd {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			if p.read(ctx, func(q runner) error { _, err := q.exec(ctx, `SELECT pg_sleep(0.01)`); return err }) == nil {
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return n.Load()
}
