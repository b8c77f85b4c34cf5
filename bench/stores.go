package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"authproxy/session/storetest/servers"
)

// revocations is how many sessions are revoked to measure how long that takes, and
// pollPause what passes between two requests that find out: without one they take
// the processor from the processes that they wait for.
const revocations, pollPause = 1000, time.Millisecond

// measureStores compares the CPU time of ordinary requests with each store and
// with sessions in cookies, and takes the time until a second process refuses
// what the first one revoked.
func measureStores(b *bench, s *scene) (err error) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	h := &host{dir: b.dir}
	defer func() { err = errors.Join(err, h.close(recover())) }()
	kinds := []*kept{{subject: s.ours, session: s.session}}
	s.ours.name = "cookie"
	for _, store := range [][2]string{
		{"SQLite", "sqlite://" + filepath.Join(b.dir, "sessions.db")},
		{"PostgreSQL", servers.StartPostgres(h).URL()},
		{"Redis", servers.StartRedis(h).URL()},
	} {
		at, err := b.authproxy(ctx, "http://"+s.app.address, measurement{store: store[1]})
		if err != nil {
			return err
		}
		at.name = store[0]
		session, err := signIn(at.address)
		if err != nil {
			return err
		}
		kinds = append(kinds, &kept{subject: at, session: session})
	}
	if err := b.compareStores(kinds); err != nil {
		return err
	}
	for _, k := range kinds[1:] {
		if err := b.measureRevocations(ctx, k.subject); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return nil
}

// A kept is an authproxy that keeps its sessions somewhere, and one of them.
type kept struct {
	*subject
	session string
}

// compareStores reports the CPU time of a request with each store, in alternating
// rounds, and how often the store was asked meanwhile.
func (b *bench) compareStores(kinds []*kept) error {
	fmt.Printf("%d rounds of %d requests for 1 KB, %d connections, request log on\n", b.rounds, b.requests, b.connections)
	asked := map[string]int{}
	for round := range b.rounds + 1 { // the first one warms up
		for _, k := range kinds {
			before, err := k.calls()
			if err != nil {
				return err
			}
			micros, err := b.load(k.subject, func(at *subject, n int) error { return hammer(at.address, ordinary(at, k.session), http.StatusOK, n) })
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			after, err := k.calls()
			if err != nil {
				return err
			}
			if round > 0 {
				k.micros = append(k.micros, micros)
				asked[k.name] += after - before
			}
		}
	}
	cookie := median(kinds[0].micros)
	for _, k := range kinds {
		m := median(k.micros)
		fmt.Printf("%-12s %6.1f µs CPU a request, %.2f of the cookie's; the store was asked %d times  (rounds: %.1f)\n", k.name, m, m/cookie, asked[k.name], k.micros)
	}
	return nil
}

// calls returns how often the store was asked for or told about sessions so far,
// 0 without a store.
func (s *subject) calls() (int, error) {
	if s.admin == "" {
		return 0, nil
	}
	res, err := http.Get("http://" + s.admin + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	calls := 0
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if !strings.HasPrefix(name, "authproxy_session_store_seconds_count{") {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return 0, err
		}
		calls += n
	}
	return calls, lines.Err()
}

// measureRevocations starts a second process on the store of the first and
// reports how long it takes, from the moment when the first one says that a
// session has ended, until the second one refuses it.
func (b *bench) measureRevocations(ctx context.Context, first *subject) error {
	second, err := b.replica(ctx, first)
	if err != nil {
		return err
	}
	var took []time.Duration
	for range revocations {
		session, err := signIn(first.address)
		if err != nil {
			return err
		}
		if err := expect(second, first.address, session, http.MethodGet, "/", http.StatusOK); err != nil {
			return err
		}
		if err := expect(first, first.address, session, http.MethodPost, "/auth/sign-out", http.StatusOK); err != nil {
			return err
		}
		ended := time.Now()
		for {
			err := expect(second, first.address, session, http.MethodGet, "/", http.StatusUnauthorized)
			if err == nil {
				break
			}
			if time.Since(ended) > 10*time.Second {
				return fmt.Errorf("a session is served 10 s after it was revoked: %w", err)
			}
			time.Sleep(pollPause)
		}
		took = append(took, time.Since(ended))
	}
	slices.Sort(took)
	fmt.Printf("%-12s %d revocations, refused by another process after p50 %.2f ms, p99 %.2f ms, at most %.2f ms; %s\n",
		first.name, len(took), millis(took[len(took)/2]), millis(took[len(took)*99/100]), millis(took[len(took)-1]), pressure())
	return nil
}

// pressure says how busy the machine is: the load average of a minute and, on
// Linux, for how much of the last minute something waited for a processor.
func pressure() string {
	load, _ := os.ReadFile("/proc/loadavg") // "" elsewhere
	average, _, _ := strings.Cut(string(load), " ")
	text := fmt.Sprintf("load average %s on %d processors", average, runtime.NumCPU())
	waits, _ := os.ReadFile("/proc/pressure/cpu")
	if _, rest, ok := strings.Cut(string(waits), "avg60="); ok {
		share, _, _ := strings.Cut(rest, " ")
		text += ", something waited for one " + share + " % of the time"
	}
	return text
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// replica starts another process with the configuration of the first one, behind
// the same public address.
func (b *bench) replica(ctx context.Context, first *subject) (*subject, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	text := strings.Replace(first.configuration, strconv.Quote(first.admin), strconv.Quote(admin), 1)
	return b.serve(ctx, address, admin, strings.Replace(text, strconv.Quote(first.address), strconv.Quote(address), 1))
}

// expect sends a request of a script to at, as to the public address host, and
// returns an error unless the answer has the status.
func expect(at *subject, host, session, method, path string, status int) error {
	req, err := http.NewRequest(method, "http://"+at.address+path, nil)
	if err != nil {
		return err
	}
	req.Host = host
	req.Header = http.Header{"Cookie": {session}, "Accept": {"application/json"}, "X-Requested-With": {"bench"}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != status {
		return fmt.Errorf("%s %s: %s, want %d", method, path, res.Status, status)
	}
	return nil
}

// A host owns servers that are made for tests. What would end a test panics, with
// a failure.
type host struct {
	testing.TB // nil: the servers call nothing but what is here
	dir        string
	cleanups   []func()
}

type failure string

func (h *host) Helper()                      {}
func (h *host) Fatal(args ...any)            { panic(failure(fmt.Sprint(args...))) }
func (h *host) Fatalf(f string, args ...any) { panic(failure(fmt.Sprintf(f, args...))) }
func (h *host) Skipf(f string, args ...any)  { h.Fatalf(f, args...) }
func (h *host) Cleanup(f func())             { h.cleanups = append(h.cleanups, f) }

func (h *host) TempDir() string {
	dir, err := os.MkdirTemp(h.dir, "server")
	if err != nil {
		h.Fatal(err)
	}
	return dir
}

// close stops the servers and returns the error that p, which was recovered, is.
func (h *host) close(p any) error {
	for _, f := range slices.Backward(h.cleanups) {
		f()
	}
	switch p := p.(type) {
	case nil:
		return nil
	case failure:
		return errors.New(string(p))
	default:
		panic(p)
	}
}
