package sqlstore

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/storetest/servers"
)

// sizes are how many sessions the benchmarks of growth begin with: a thousand
// and ten thousand, or those in AUTHPROXY_BENCH_SESSIONS, comma-separated.
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

// perPerson is how many sessions each person has.
const perPerson = 10

// number returns the id of a row with this number; kind keeps people, accounts
// and sessions apart.
func number(kind, n int) string { return fmt.Sprintf("%08d-0000-4000-8000-%012d", kind, n) }

// fill puts n sessions into s, of n/10 people, in batches.
func fill(b testing.TB, s *Store, n int) {
	b.Helper()
	const batch = 1000
	for from := 0; from < n; from += batch {
		err := s.change(b.Context(), "fill", func(q runner) error {
			for _, insert := range fillBatch(from, min(batch, n-from)) {
				if _, err := q.exec(b.Context(), insert); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if p, ok := s.db.(*postgresStore); ok {
		_ = p.read(b.Context(), func(q runner) error {
			_, err := q.exec(b.Context(), `ANALYZE`)
			return err
		})
	}
}

// fillBatch returns the statements that insert n sessions.
func fillBatch(from, n int) []string {
	var people, accounts, sessions, credentials []string
	for i := from; i < from+n; i++ {
		p := i / perPerson
		if i%perPerson == 0 {
			people = append(people, fmt.Sprintf(`('%s', 'Person %d', 'p%d@example.com', '["staff"]')`, number(1, p), p, p))
			accounts = append(accounts, fmt.Sprintf(`('%s', '%s', 'corp', 'i', '%d')`, number(2, p), number(1, p), p))
		}
		sessions = append(sessions, fmt.Sprintf(`('%s', '%s', '%s', '2999-01-01 00:00:00.000', '2999-01-01 00:00:00.000', '192.0.2.1', 'Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0', 'corp', 'i', '%d')`,
			number(3, i), tokenOf(i), number(1, p), p))
		credentials = append(credentials, fmt.Sprintf(`('%s', '%s')`, number(3, i), strings.Repeat("sealed", 60)))
	}
	return []string{
		`INSERT INTO @."user" (id, name, email, groups) VALUES ` + strings.Join(people, ",\n"),
		`INSERT INTO @.account (id, "userId", "providerId", issuer, "accountId") VALUES ` + strings.Join(accounts, ",\n"),
		`INSERT INTO @.session (id, token, "userId", "expiresAt", "absoluteExpiresAt", "ipAddress", "userAgent", "providerId", issuer, subject) VALUES ` + strings.Join(sessions, ",\n"),
		`INSERT INTO @.session_credential ("sessionId", "refreshToken") VALUES ` + strings.Join(credentials, ",\n"),
	}
}

func tokenOf(i int) session.Hash { return sha256.Sum256([]byte(strconv.Itoa(i))) }

// benchStores returns new stores, by the name of their dialect.
func benchStores(b *testing.B) map[string]func() *Store {
	server := servers.StartPostgres(b)
	schemas := 0
	open := func(url string, opts Options) *Store {
		opts.Log = slog.New(slog.DiscardHandler)
		s, err := Open(b.Context(), url, opts)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		return s
	}
	return map[string]func() *Store{
		"SQLite": func() *Store { return open("sqlite://"+filepath.Join(b.TempDir(), "sessions.db"), Options{}) },
		"PostgreSQL": func() *Store {
			schemas++
			return open(server.URL(), Options{Schema: fmt.Sprint("bench", schemas)})
		},
	}
}

// BenchmarkGrowth measures what depends on how many sessions there are: "check"
// reads one by its token, as each check does while the cache is bypassed.
func BenchmarkGrowth(b *testing.B) {
	for name, newStore := range benchStores(b) {
		for _, n := range sizes(b) {
			s := newStore()
			fill(b, s, n)
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { benchmarkSize(b, s, n) })
		}
	}
}

func benchmarkSize(b *testing.B, s *Store, n int) {
	now := time.Now()
	must := func(b *testing.B, err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Find(b.Context(), tokenOf(rand.IntN(n)))
			must(b, err)
		}
	})
	b.Run("check-parallel", func(b *testing.B) {
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := s.Find(b.Context(), tokenOf(rand.IntN(n))); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			rows, err := s.List(b.Context(), session.Selection{UserID: number(1, rand.IntN(n/perPerson))}, now, 0)
			must(b, err)
			if len(rows) == 0 {
				b.Fatal("nobody is signed in")
			}
		}
	})
	b.Run("touch", func(b *testing.B) {
		for b.Loop() {
			at := time.Now()
			_, err := s.Touch(b.Context(), number(3, rand.IntN(n)), session.Touch{Now: at, SeenBefore: at, SlideIfBy: at, SlideTo: at})
			must(b, err)
		}
	})
	b.Run("sign-in", func(b *testing.B) { benchmarkSignIn(b, s) })
	b.Run("revoke", func(b *testing.B) {
		for i := 0; b.Loop(); i++ { // from the end, as far as there are any
			_, err := s.Delete(b.Context(), session.Selection{ID: number(3, n-1-i%(n/2))})
			must(b, err)
		}
	})
	b.Run("sweep-200", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			must(b, s.write(b.Context(), "expire", func(q runner) error {
				_, err := q.exec(b.Context(), `UPDATE @.session SET "expiresAt" = '2000-01-01 00:00:00.000'
					WHERE id IN (SELECT id FROM @.session WHERE "expiresAt" > '2000-01-01 00:00:00.000' LIMIT 200)`)
				return err
			}))
			b.StartTimer()
			_, err := s.Sweep(b.Context(), now, time.Time{}, 200)
			must(b, err)
		}
	})
}

func benchmarkSignIn(b *testing.B, s *Store) {
	now := time.Now()
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("%08x-0000-4000-8000-%012x", rand.Uint32(), rand.Uint64()&0xffffffffffff)
		err := s.Create(b.Context(), &session.Row{
			Session: &session.Session{
				ID: id, CreatedAt: now, UpdatedAt: now, LastSeenAt: now, ExpiresAt: now.Add(time.Hour), AuthTime: now,
				User: session.User{ID: session.UserID("i", id), Issuer: "i", Subject: id, Provider: "corp", Email: "new@example.com"},
			},
			Token: sha256.Sum256([]byte(id)), Credential: session.Credential{Refresh: "sealed"},
		}, nil)
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTold measures how long it takes until a process is told what another
// one revoked, from the moment when the revocation is acknowledged.
func BenchmarkTold(b *testing.B) {
	for name, newStore := range benchStores(b) {
		b.Run(name, func(b *testing.B) {
			s := newStore()
			fill(b, s, 10_000)
			told := make(chan string, 1000)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			ready := make(chan struct{}, 1)
			go func() {
				_ = s.Watch(ctx, func(c session.Change) { // ends with ctx
					for _, id := range c.Sessions {
						told <- id
					}
					if c.All {
						ready <- struct{}{}
					}
				})
			}()
			<-ready
			var took []time.Duration
			for i := 0; b.Loop(); i = (i + 1) % 10_000 {
				id := number(3, i)
				if ids, err := s.Delete(b.Context(), session.Selection{ID: id}); err != nil || len(ids) != 1 {
					b.Skipf("out of sessions: %v", err)
				}
				began := time.Now()
				if got := <-told; got != id {
					b.Fatalf("told %s, want %s", got, id)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
