package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"authproxy/cookie"
	"authproxy/session"
	"authproxy/session/memstore"
	"authproxy/session/storetest"
)

// A world is a store in memory, and processes with one clock that only goes on
// when all of them wait.
type world struct {
	testing.TB
	store  *memstore.Store
	faults []*storetest.Faults // of each process
}

// process starts another process.
func (w *world) process(edit func(*session.Config)) *session.Manager {
	w.Helper()
	f := &storetest.Faults{Store: w.store.Another()}
	w.faults = append(w.faults, f)
	c := storetest.Config(w, f)
	if edit != nil {
		edit(&c)
	}
	m := storetest.Start(w, c)
	synctest.Wait()
	return m
}

// inTime runs test in a bubble with its own clock.
func inTime(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, &world{TB: t, store: memstore.New(nil)}) })
}

func alice() session.User {
	return session.User{
		ID: session.UserID("https://id.example.com", "alice"), Issuer: "https://id.example.com", Subject: "alice",
		Provider: "corp", Email: "alice@example.com", EmailVerified: true, Name: "Alice Example", Groups: []string{"staff", "sre"},
	}
}

// visit is a request of b that was allowed, at m. It returns what was found.
func (w *world) visit(m *session.Manager, b *storetest.Browser) (*session.Session, error) {
	s, err := m.Lookup(b.Request())
	if err != nil {
		return nil, err
	}
	s, err = m.Touch(httptest.NewRecorder(), b.Request(), s)
	synctest.Wait() // the store is told in the background
	return s, err
}

func (w *world) mustVisit(what string, m *session.Manager, b *storetest.Browser) *session.Session {
	w.Helper()
	s, err := w.visit(m, b)
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
	return s
}

func (w *world) refused(what string, m *session.Manager, b *storetest.Browser) {
	w.Helper()
	if s, err := m.Lookup(b.Request()); !errors.Is(err, session.ErrNone) {
		w.Errorf("%s: session %v, error %v, want ErrNone", what, s, err)
	}
}

func TestStoredSessionSlidesAndEnds(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m, other := w.process(nil), w.process(nil)
		var b storetest.Browser
		b.SignIn(t, m, alice(), session.Tokens{})
		w.mustVisit("there", other, &b)
		time.Sleep(59 * time.Minute)
		w.mustVisit("in the last minute", m, &b) // slides
		time.Sleep(time.Minute)
		w.mustVisit("the other's clock has run out, the store's has not", other, &b)
		time.Sleep(time.Hour)
		w.refused("an hour later, at the very second", m, &b)
		w.refused("an hour later, at the very second", other, &b)
	})
}

func TestStoredSessionHasAHardEnd(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(func(c *session.Config) { c.AbsoluteMaxAge = 90 * time.Minute })
		var b storetest.Browser
		b.SignIn(t, m, alice(), session.Tokens{})
		time.Sleep(50 * time.Minute)
		w.mustVisit("half way", m, &b)
		s := w.mustVisit("half way", m, &b)
		if left := time.Until(m.EndsAt(s)); left != 40*time.Minute {
			t.Errorf("%v are left, want 40m", left)
		}
		time.Sleep(40*time.Minute - time.Nanosecond)
		w.mustVisit("just before", m, &b)
		time.Sleep(time.Nanosecond)
		w.refused("at the hard end", m, &b)
	})
}

func TestIdleTimeoutCountsActivityAnywhere(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		idle := func(c *session.Config) { c.IdleTimeout = 10 * time.Minute }
		m, other := w.process(idle), w.process(idle)
		var b storetest.Browser
		b.SignIn(t, m, alice(), session.Tokens{})
		s := w.mustVisit("there", other, &b)
		for range 12 {
			time.Sleep(5 * time.Minute)
			w.mustVisit("every five minutes", m, &b)
		}
		if !other.Alive(s) {
			t.Error("a connection on the other replica would be closed")
		}
		synctest.Wait() // it has read the store
		if !other.Alive(s) {
			t.Error("a connection on the other replica would be closed after a look at the store")
		}
		w.mustVisit("there, where nothing happened for an hour", other, &b)
		time.Sleep(10 * time.Minute)
		w.refused("idle, here", m, &b)
		w.refused("idle, there", other, &b)
		other.Alive(s)
		synctest.Wait()
		if other.Alive(s) {
			t.Error("a connection of an idle session stays open")
		}
	})
}

func TestATouchThatRacedWithAChangeIsNotBelieved(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(nil)
		var b storetest.Browser
		id := b.SignIn(t, m, alice(), session.Tokens{})
		time.Sleep(20 * time.Minute)
		until := time.Now().Add(5 * time.Minute).UTC()
		shorten := func() { // after the touch let it slide, and before that is known here
			if err := w.store.EditSession(t.Context(), id, func(r *session.Row) { r.ExpiresAt = until }); err != nil {
				t.Error(err)
			}
			synctestSleep()
			if _, err := m.Lookup(b.Request()); err != nil {
				t.Error(err)
			}
		}
		w.faults[0].AfterTouch.Store(&shorten)
		w.mustVisit("a slide", m, &b)
		time.Sleep(time.Second)
		if s, err := m.Lookup(b.Request()); err != nil || !m.EndsAt(s).Equal(until) {
			t.Errorf("the session ends at %v, error %v, want %v, as an operator said last", m.EndsAt(s), err, until)
		}
	})
}

// synctestSleep gives everybody else in the bubble time to do what they can.
func synctestSleep() { time.Sleep(time.Millisecond) }

func TestTouchesAreFew(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(nil)
		var b storetest.Browser
		b.SignIn(t, m, alice(), session.Tokens{})
		w.mustVisit("first", m, &b)
		before := w.faults[0].Calls.Load()
		for range 600 { // ten minutes
			time.Sleep(time.Second)
			w.mustVisit("each second", m, &b)
		}
		if n := w.faults[0].Calls.Load() - before; n != 10 {
			t.Errorf("%d calls of the store in ten minutes of activity, want 10", n)
		}
	})
}

// A locked is a store in which an operator has locked all rows of sessions.
type locked struct {
	session.Store
	waiting atomic.Int64
}

func (l *locked) Touch(ctx context.Context, _ string, _ session.Touch) (session.Clocks, error) {
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	<-ctx.Done()
	return session.Clocks{}, session.ErrUnavailable
}

// A store in SQL has ten connections.
func TestTouchesThatWaitForALockLeaveConnectionsToOthers(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		l := &locked{Store: w.store.Another()}
		m := storetest.Start(t, storetest.Config(t, l))
		browsers := make([]storetest.Browser, 60)
		for i := range browsers {
			browsers[i].SignIn(t, m, alice(), session.Tokens{})
		}
		time.Sleep(2 * time.Minute)
		for i := range browsers {
			w.mustVisit("while rows are locked", m, &browsers[i])
		}
		if n := l.waiting.Load(); n < 1 || n > 4 {
			t.Errorf("%d touches wait at once, want 1 to 4", n)
		}
	})
}

func TestAFailedTouchIsMadeGood(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(func(c *session.Config) { c.UpdateAge = 0 })
		var b storetest.Browser
		b.SignIn(t, m, alice(), session.Tokens{})
		time.Sleep(30 * time.Minute)
		w.faults[0].Down.Store(true)
		s := w.mustVisit("at hand still", m, &b)
		time.Sleep(10 * time.Second)
		w.faults[0].Down.Store(false)
		time.Sleep(10 * time.Second)
		w.mustVisit("when the store is back", m, &b)
		if got := m.EndsAt(w.mustVisit("then", m, &b)); !got.After(m.EndsAt(s)) && time.Until(got) < 59*time.Minute {
			t.Errorf("the session ends in %v, want an hour", time.Until(got))
		}
	})
}

func TestWithoutWordForOneAndAHalfSecondsEachCheckReads(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m, other := w.process(nil), w.process(nil)
		var b storetest.Browser
		id := b.SignIn(t, other, alice(), session.Tokens{})
		w.mustVisit("there", m, &b)
		f := w.faults[0]
		f.Deaf.Store(true)
		if _, err := other.Revoke(t.Context(), session.Selection{ID: id}, session.By{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(session.BlindAfter - 300*time.Millisecond) // the last word is at most a heartbeat old
		if n := f.Reads.Load(); n != 1 {
			t.Errorf("%d readings before the time, want that of the first check", n)
		}
		time.Sleep(300 * time.Millisecond)
		w.refused("after that time", m, &b)
	})
}

func TestBlindnessBeginsAtTheVeryMoment(t *testing.T) {
	for _, tt := range []struct {
		name  string
		since time.Duration // from the last word by the clock
		back  time.Duration // the wall clock was set back by that
		want  bool
	}{
		{"just told", 0, 0, false},
		{"almost", session.BlindAfter - 1, 0, false},
		{"too long", session.BlindAfter, 0, true},
		{"too long, by a clock that was set back", session.BlindAfter, time.Hour, true},
	} {
		if got := session.Blind(tt.since, tt.back); got != tt.want {
			t.Errorf("%s: blind %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestAStoreThatComesBackInTimeIsWaitedFor(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(nil)
		var b storetest.Browser
		b.SignIn(t, w.process(nil), alice(), session.Tokens{})
		w.faults[0].Down.Store(true)
		time.AfterFunc(2500*time.Millisecond, func() { w.faults[0].Down.Store(false) })
		began := time.Now()
		w.mustVisit("while the store restarts", m, &b)
		if took := time.Since(began); took < 2500*time.Millisecond || took > 3*time.Second {
			t.Errorf("the check took %v, want until the store was back", took)
		}
		w.faults[0].Down.Store(true)
		time.Sleep(2 * time.Second)
		began = time.Now()
		if _, err := m.Lookup(b.Request()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("error %v, want ErrUnavailable", err)
		}
		if took := time.Since(began); took > 3500*time.Millisecond {
			t.Errorf("the failure took %v, want 3s", took)
		}
	})
}

func TestAForgottenSessionInUseStillHears(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(func(c *session.Config) { c.CacheBytes = 1 }) // holds nothing for itself
		other := w.process(nil)
		var b storetest.Browser
		id := b.SignIn(t, m, alice(), session.Tokens{})
		s := w.mustVisit("first", m, &b)
		runtime.GC()
		if !m.Alive(s) {
			t.Fatal("the session is not alive")
		}
		if _, err := other.Revoke(t.Context(), session.Selection{ID: id}, session.By{}); err != nil {
			t.Fatal(err)
		}
		for range 4 { // of what keeps connections open
			time.Sleep(250 * time.Millisecond)
			m.Alive(s)
			synctest.Wait()
		}
		if m.Alive(s) {
			t.Error("the connection of a revoked session stays open for more than a second")
		}
	})
}

func TestAConnectionOutlivesAStoreThatIsDown(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(nil)
		var b storetest.Browser
		id := b.SignIn(t, m, alice(), session.Tokens{})
		s := w.mustVisit("first", m, &b)
		w.faults[0].Down.Store(true)
		before := w.faults[0].Calls.Load()
		for range 40 {
			time.Sleep(250 * time.Millisecond)
			if !m.Alive(s) || !m.AliveID(id) {
				t.Fatal("the connection would be closed")
			}
		}
		if n := w.faults[0].Calls.Load() - before; n > 200 {
			t.Errorf("%d calls in ten seconds, want few", n)
		}
		time.Sleep(time.Hour)
		m.Alive(s)
		time.Sleep(2 * time.Second)
		if m.Alive(s) {
			t.Error("the connection stays open although all clocks ran out")
		}
	})
}

func TestSealedTokensFollowTheKeyRing(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		ring := func(keys ...byte) func(*session.Config) {
			return func(c *session.Config) { c.Sealer = sealer(t, keys...) }
		}
		var b storetest.Browser
		first := w.process(ring(1))
		id := b.SignIn(t, first, alice(), session.Tokens{Refresh: "secret", AccessExpiry: time.Now().Add(time.Hour)})
		before, _ := w.store.FindID(t.Context(), id)
		both := w.process(ring(2, 1)) // seals anew when it starts
		after, _ := w.store.FindID(t.Context(), id)
		if before.Credential.Refresh == after.Credential.Refresh {
			t.Error("the token is sealed as it was")
		}
		if s := w.mustVisit("with both keys", both, &b); s.Tokens.Refresh != "secret" {
			t.Errorf("the token is %q", s.Tokens.Refresh)
		}
		s, err := w.process(ring(2)).Live(t.Context(), id) // its cookie was sealed with the first key
		if err != nil || s.Tokens.Refresh != "secret" {
			t.Errorf("with the new key alone: %v, error %v", s, err)
		}
		if n, err := both.Reseal(t.Context()); n != 0 || err != nil {
			t.Errorf("Reseal again = %d, %v, want 0", n, err)
		}
	})
}

func TestATokenCopiedIntoAnotherRowIsWorthless(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(nil)
		var b, thief storetest.Browser
		from := b.SignIn(t, m, alice(), session.Tokens{Refresh: "secret", Access: "secret"})
		to := thief.SignIn(t, m, alice(), session.Tokens{})
		row, _ := w.store.FindID(t.Context(), from)
		if err := w.store.EditSession(t.Context(), to, func(r *session.Row) { r.Credential = row.Credential }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := w.mustVisit("the thief", m, &thief); s.Tokens.Refresh != "" || s.Tokens.Access != "" {
			t.Errorf("the thief has %+v", s.Tokens)
		}
	})
}

func TestACookieOfTheOtherStrategyIsNone(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		stored, plain := w.process(nil), w.process(func(c *session.Config) { c.Store = nil })
		raised := w.process(func(c *session.Config) { c.Version = 2 })
		var a, b storetest.Browser
		a.SignIn(t, stored, alice(), session.Tokens{})
		b.SignIn(t, plain, alice(), session.Tokens{})
		w.refused("a token without a store", plain, &a)
		w.refused("a sealed session with one", stored, &b)
		w.refused("another version", raised, &a)
	})
}

func TestAReadingIsNotMadeTwiceAtOnce(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(nil)
		var b storetest.Browser
		b.SignIn(t, w.process(nil), alice(), session.Tokens{})
		slow := func(*session.Row) { time.Sleep(50 * time.Millisecond) }
		w.faults[0].AfterRead.Store(&slow)
		before := w.faults[0].Reads.Load()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := m.Lookup(b.Request()); err != nil {
					t.Errorf("Lookup: %v", err)
				}
			})
		}
		wg.Wait()
		if n := w.faults[0].Reads.Load() - before; n != 1 {
			t.Errorf("%d readings for 100 checks at once, want 1", n)
		}
	})
}

func TestWhatIsComputedStaysUntilTheSessionChanges(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(nil)
		var b storetest.Browser
		id := b.SignIn(t, m, alice(), session.Tokens{})
		made := 0
		memo := func() any { return w.mustVisit("visit", m, &b).Memo(func() any { made++; return made }) }
		memo()
		if err := w.store.Edit(t.Context(), alice().ID, func(*session.Account, *int) {}); err != nil { // told, but nothing has changed
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(2 * time.Minute) // seen again
		if memo(); made != 1 {
			t.Errorf("computed %d times, want once", made)
		}
		if err := w.store.EditSession(t.Context(), id, func(r *session.Row) { r.Data = []byte(`{"a":1}`) }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if memo(); made != 2 {
			t.Errorf("computed %d times after a change, want twice", made)
		}
	})
}

func TestAuditEventsSurviveAStoreThatIsDownAndTheEnd(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		c := storetest.Config(t, w.store)
		m, err := session.New(c)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 250 {
			m.Record(session.Event{Type: fmt.Sprint("event-", i)})
		}
		m.Close() // never ran
		if n := len(w.store.Events()); n != 250 {
			t.Errorf("%d events, want 250", n)
		}
	})
}

func TestTheStoreIsSwept(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(func(c *session.Config) { c.AuditRetention = 2 * time.Hour })
		var b storetest.Browser
		id := b.SignIn(t, m, alice(), session.Tokens{})
		m.Record(session.Event{Type: "sign_in"})
		time.Sleep(59 * time.Minute)
		if _, err := w.store.FindID(t.Context(), id); err != nil {
			t.Errorf("before its end: %v", err)
		}
		time.Sleep(10 * time.Minute)
		if _, err := w.store.FindID(t.Context(), id); !errors.Is(err, session.ErrNone) {
			t.Errorf("after its end: error %v, want ErrNone", err)
		}
		if len(w.store.Events()) != 1 {
			t.Error("an event was swept too early")
		}
		time.Sleep(time.Hour)
		if n := len(w.store.Events()); n != 0 {
			t.Errorf("%d events after their time", n)
		}
	})
}

func TestRememberMe(t *testing.T) {
	for forget, want := range map[bool]int{false: 24 * 60 * 60, true: 0} {
		inTime(t, func(t *testing.T, w *world) {
			for _, store := range []session.Store{w.store, nil} {
				m := w.process(func(c *session.Config) { c.ForgetOnClose, c.Store = forget, store })
				rec := httptest.NewRecorder()
				if _, err := m.Start(rec, (&storetest.Browser{}).Request(), &session.Session{User: alice()}); err != nil {
					t.Fatal(err)
				}
				if got := rec.Result().Cookies()[0].MaxAge; got != want {
					t.Errorf("forget %v: Max-Age %d, want %d", forget, got, want)
				}
			}
		})
	}
}

func TestMetricsOfTheStore(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		reg := prometheus.NewRegistry()
		m := w.process(func(c *session.Config) { c.Registerer = reg })
		var b storetest.Browser
		b.SignIn(t, m, alice(), session.Tokens{})
		w.mustVisit("visit", m, &b)
		problems, err := testutil.GatherAndLint(reg)
		if err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v, %v", problems, err)
		}
		for name, want := range map[string]float64{
			"authproxy_session_channel_up": 1, "authproxy_session_cache_entries": 1, "authproxy_session_cache_bypasses_total": 0,
			"authproxy_session_cache_hits_total": 1, "authproxy_sessions_created_total": 1,
		} {
			if got := gather(t, reg, name); got != want {
				t.Errorf("%s = %v, want %v", name, got, want)
			}
		}
		w.faults[0].Deaf.Store(true)
		time.Sleep(2 * time.Second)
		if got := gather(t, reg, "authproxy_session_channel_up"); m.Hears() {
			t.Errorf("channel_up = %v, want 0", got)
		}
	})
}

func gather(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func sealer(t testing.TB, keys ...byte) *cookie.Sealer {
	t.Helper()
	var all [][]byte
	for _, k := range keys {
		key := make([]byte, cookie.KeySize)
		for i := range key {
			key[i] = k + byte(i)
		}
		all = append(all, key)
	}
	ring, err := cookie.NewKeyRing(all...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cookie.NewSealer(ring)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// BenchmarkCheck is what a request costs whose session is at hand, with each
// strategy.
func BenchmarkCheck(b *testing.B) {
	for _, strategy := range []string{"cookie", "store"} {
		b.Run(strategy, func(b *testing.B) {
			c := storetest.Config(b, memstore.New(nil))
			if strategy == "cookie" {
				c.Store = nil
			}
			m := storetest.Start(b, c)
			for !m.Hears() {
				time.Sleep(time.Millisecond)
			}
			var browser storetest.Browser
			browser.SignIn(b, m, alice(), session.Tokens{})
			r, w := browser.Request(), httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				s, err := m.Lookup(r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := m.Touch(w, r, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHeld is how much memory a session at hand takes, without what callers
// compute from it.
func BenchmarkHeld(b *testing.B) {
	store := memstore.New(nil)
	c := storetest.Config(b, store)
	c.CacheBytes = 1 << 40
	m := storetest.Start(b, c)
	for !m.Hears() {
		time.Sleep(time.Millisecond)
	}
	const n = 10_000
	for b.Loop() {
		var browsers [n]storetest.Browser
		signer, err := session.New(c)
		if err != nil {
			b.Fatal(err)
		}
		for i := range browsers {
			browsers[i].SignIn(b, signer, alice(), session.Tokens{})
		}
		signer.Close()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range browsers {
			if _, err := m.Lookup(browsers[i].Request()); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/session")
		runtime.KeepAlive(&browsers)
	}
}

func TestAStoreReadsThePersonAgainToo(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		calls, stale := 0, false
		edit := func(c *session.Config) {
			c.ValidateInterval = 5 * time.Minute
			c.RefreshTokens = func(_ context.Context, s *session.Session) (*session.Refreshed, error) {
				calls++
				u := alice()
				u.Groups = []string{fmt.Sprint("group-", calls)}
				return &session.Refreshed{User: u, Tokens: session.Tokens{Refresh: "r", AccessExpiry: time.Now().Add(time.Hour)}, Stale: stale}, nil
			}
		}
		both := []*session.Manager{w.process(edit), w.process(edit)}
		var b storetest.Browser
		b.SignIn(t, both[0], alice(), session.Tokens{Refresh: "r", AccessExpiry: time.Now().Add(time.Hour)})
		refresh := func(m *session.Manager) *session.Session {
			s, err := m.Refresh(t.Context(), w.mustVisit("signed in", m, &b))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		time.Sleep(5*time.Minute - time.Second)
		if refresh(both[0]); calls != 0 {
			t.Error("read again a second early")
		}
		time.Sleep(time.Second)
		for _, m := range both {
			if s := refresh(m); calls != 1 || s.User.Groups[0] != "group-1" {
				t.Errorf("%d refreshes, groups %v, want one and group-1 at both replicas", calls, s.User.Groups)
			}
		}
		stale = true
		time.Sleep(5 * time.Minute)
		refresh(both[0])
		time.Sleep(5*time.Minute - time.Second)
		if refresh(both[0]); calls != 2 {
			t.Errorf("%d refreshes, want 2: who is not read is asked for once an interval", calls)
		}
		time.Sleep(time.Second)
		if refresh(both[0]); calls != 3 {
			t.Errorf("%d refreshes, want 3 an interval later", calls)
		}
	})
}
