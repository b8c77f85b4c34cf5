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
	if got := answered(t, p, time.Second); got != crowd {
		t.Errorf("%d of %d are served within 1 s once the database is back", got, crowd)
	}
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
