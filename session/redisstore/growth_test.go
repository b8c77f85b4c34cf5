package redisstore

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/storetest/servers"
)

// sizes are with how many sessions the benchmark of growth measures, in ascending
// order: a thousand and ten thousand, or those in AUTHPROXY_BENCH_SESSIONS,
// comma-separated.
func sizes(b *testing.B) []int {
	list := os.Getenv("AUTHPROXY_BENCH_SESSIONS")
	if list == "" {
		list = "1000,10000"
	}
	var sizes []int
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			b.Fatalf("AUTHPROXY_BENCH_SESSIONS: %v", err)
		}
		sizes = append(sizes, n)
	}
	return sizes
}

// BenchmarkGrowth measures what each operation costs with so many sessions, of
// which ten each belong to one person.
func BenchmarkGrowth(b *testing.B) {
	server := servers.StartRedis(b, "--appendonly", "no")
	s := answering(b, openStore(b, server.URL(), Options{Timeout: time.Minute}))
	filled := 0
	for _, size := range sizes(b) {
		fill(b, s, filled, size)
		filled = size
		b.Run(fmt.Sprintf("sessions=%d/check", size), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, err := s.Find(b.Context(), numbered(i%size).Token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("sessions=%d/list", size), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				rows, err := s.List(b.Context(), session.Selection{UserID: numbered(i % size).User.ID}, time.Now(), 0)
				if err != nil || len(rows) != 10 {
					b.Fatalf("List: %d sessions, %v", len(rows), err)
				}
			}
		})
		b.Run(fmt.Sprintf("sessions=%d/sign-in and revoke", size), func(b *testing.B) {
			for i := size; b.Loop(); i++ {
				row := numbered(i)
				if err := s.Create(b.Context(), row, nil); err != nil {
					b.Fatal(err)
				}
				if ids, err := s.Delete(b.Context(), session.Selection{ID: row.ID}); err != nil || len(ids) != 1 {
					b.Fatalf("Delete: %v, %v", ids, err)
				}
			}
		})
		b.Run(fmt.Sprintf("sessions=%d/sweep", size), func(b *testing.B) {
			for b.Loop() {
				if n, err := s.Sweep(b.Context(), time.Now(), time.Now(), 1000); err != nil || n != 0 {
					b.Fatalf("Sweep: %d, %v", n, err)
				}
			}
		})
	}
}

// numbered returns session i.
func numbered(i int) *session.Row {
	return newRow(fmt.Sprint("user-", i/10), fmt.Sprintf("%08d-0000-4000-8000-000000000000", i))
}

// fill creates the sessions from one number to another.
func fill(b *testing.B, s *Store, from, to int) {
	b.Helper()
	next := make(chan int)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range next {
				if err := s.Create(b.Context(), numbered(i), nil); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := from; i < to; i++ {
		next <- i
	}
	close(next)
	wg.Wait()
}
