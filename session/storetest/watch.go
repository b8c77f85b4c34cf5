package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"authproxy/session"
)

// changes are what a store must tell of, by what they do to a session.
func changes(b *bench) map[string]func(ctx context.Context, s session.Store, r *session.Row) error {
	return map[string]func(context.Context, session.Store, *session.Row) error{
		"delete": func(ctx context.Context, s session.Store, r *session.Row) error {
			_, err := s.Delete(ctx, session.Selection{ID: r.ID})
			return err
		},
		"replace": func(ctx context.Context, s session.Store, r *session.Row) error {
			return s.Create(ctx, b.row(r.User), []string{r.ID})
		},
		"data": func(ctx context.Context, s session.Store, r *session.Row) error {
			return s.SetData(ctx, r.ID, json.RawMessage(`{"a":1}`), b.now)
		},
		"refresh": func(ctx context.Context, s session.Store, r *session.Row) error {
			_, err := s.SaveRefresh(ctx, r.ID, 0, &session.Credential{Refresh: "x"}, nil, b.now)
			return err
		},
		"ban": func(ctx context.Context, s session.Store, r *session.Row) error {
			return s.Ban(ctx, r.User.ID, "", time.Time{})
		},
		"unban": func(ctx context.Context, s session.Store, r *session.Row) error {
			return s.Unban(ctx, r.User.ID)
		},
	}
}

// expectTold makes each change with s and waits until w tells it.
func (b *bench) expectTold(t *testing.T, w *watch, s session.Store) {
	for name, change := range changes(b) {
		r := b.create(t, person("user of "+name))
		if name == "unban" {
			if err := s.Ban(t.Context(), r.User.ID, "", time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		w.settle(t)
		mark := w.mark()
		if err := change(t.Context(), s, r); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.tellsUser(t, mark, r.User.ID, r.ID)
	}
}

func testWatch(t *testing.T, b *bench) {
	w := watchStore(t, b.Store)
	if first := w.all()[0]; !first.All {
		t.Errorf("the first call is %+v, want all", first)
	}
	b.expectTold(t, w, b.Store)
}

func testWatchOthers(t *testing.T, b *bench) {
	other := b.open(t)
	b.expectTold(t, watchStore(t, b.Store), other)
	w, mine := watchStore(t, other), watchStore(t, b.Store)
	r := b.create(t, person("alice"))
	marks := []int{w.mark(), mine.mark()}
	if _, err := b.Delete(t.Context(), session.Selection{ID: r.ID}); err != nil {
		t.Fatal(err)
	}
	w.tells(t, marks[0], r.ID)
	mine.tells(t, marks[1], r.ID)
}

func testWatchOperator(t *testing.T, b *bench) {
	w := watchStore(t, b.Store)
	for name, change := range map[string]func(r *session.Row){
		"delete":  func(r *session.Row) { b.Operator.DeleteSession(t, r.ID) },
		"expire":  func(r *session.Row) { b.Operator.Expire(t, r.ID) },
		"ban":     func(r *session.Row) { b.Operator.Ban(t, r.User.ID) },
		"role":    func(r *session.Row) { b.Operator.SetRole(t, r.User.ID, "admin") },
		"epoch":   func(r *session.Row) { b.Operator.RaiseEpoch(t, r.User.ID) },
		"all":     func(*session.Row) { b.Operator.DeleteAll(t) },
		"several": func(*session.Row) { b.Operator.DeleteAll(t) },
	} {
		r := b.create(t, person("user of "+name))
		for i := range 150 {
			if name == "several" {
				b.create(t, person(fmt.Sprint("user-", i)))
			}
		}
		w.settle(t)
		mark := w.mark()
		change(r)
		w.tellsUser(t, mark, r.User.ID, r.ID)
	}
}

func testTouchNotTold(t *testing.T, b *bench) {
	r := b.create(t, person("alice"))
	w := watchStore(t, b.Store)
	w.settle(t)
	mark := w.mark()
	b.touch(t, r.ID, b.at(2*time.Minute))  // seen
	b.touch(t, r.ID, b.at(20*time.Minute)) // slides
	if c := b.clocks(t, r.ID); !c.ExpiresAt.Equal(b.at(80 * time.Minute)) {
		t.Fatalf("expires at %v, want a slide to %v", c.ExpiresAt, b.at(80*time.Minute))
	}
	w.settle(t)
	for _, c := range w.all()[mark:] {
		if c.All || len(c.Sessions) > 0 || len(c.Users) > 0 {
			t.Errorf("a touch was told: %+v", c)
		}
	}
}

func testAsOf(t *testing.T, b *bench) {
	w := watchStore(t, b.Store)
	other := b.open(t)
	committed := map[string]time.Time{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 40 {
		s := []session.Store{b.Store, other}[i%2]
		r := b.create(t, person(fmt.Sprint("user-", i)))
		wg.Go(func() {
			if _, err := s.Delete(t.Context(), session.Selection{ID: r.ID}); err != nil {
				t.Errorf("Delete: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			committed[r.ID] = time.Now()
		})
	}
	wg.Wait()
	w.settle(t)
	told := w.all()
	for i := range told {
		if i > 0 && told[i].AsOf.Before(told[i-1].AsOf) {
			t.Fatalf("as-of went back from %v to %v", told[i-1].AsOf, told[i].AsOf)
		}
	}
	for id, at := range committed {
		first := slices.IndexFunc(told, func(c session.Change) bool { return slices.Contains(c.Sessions, id) })
		first = max(first, slices.IndexFunc(told[1:], func(c session.Change) bool { return c.All }))
		if first < 0 {
			t.Errorf("the end of %s was not told", id)
			continue
		}
		for _, c := range told[:first] {
			if c.AsOf.After(at) {
				t.Errorf("as of %v nothing was said of what was committed before %v", c.AsOf, at)
			}
		}
	}
	expectBeats(t, w)
}

// expectBeats fails if w falls silent while nothing changes.
func expectBeats(t *testing.T, w *watch) {
	t.Helper()
	for range 4 {
		mark, began := w.mark(), time.Now()
		w.until(t, "another heartbeat", func(told []session.Change) bool { return len(told) > mark })
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%v between two calls, want 500ms at the most", took)
		}
		beat := w.all()[mark]
		if lag := time.Since(beat.AsOf); beat.AsOf.IsZero() || lag < 0 || lag > 10*time.Second {
			t.Errorf("as-of %v is %v ago, want a moment", beat.AsOf, lag)
		}
	}
}

func testWatchPerson(t *testing.T, b *bench) {
	r := b.create(t, person("alice"))
	w := watchStore(t, b.Store)
	u := person("alice")
	u.Groups = []string{"from sign-in"}
	w.settle(t)
	mark := w.mark()
	next := b.create(t, u)
	w.tellsUser(t, mark, u.ID, r.ID)
	u.Groups = []string{"from a refresh"}
	w.settle(t)
	mark = w.mark()
	if saved, err := b.SaveRefresh(t.Context(), next.ID, 0, &session.Credential{}, &u, b.now); !saved || err != nil {
		t.Fatalf("SaveRefresh = %v, %v", saved, err)
	}
	w.tellsUser(t, mark, u.ID, r.ID, next.ID)
	if got := b.found(t, r.ID).User.Groups; !slices.Equal(got, u.Groups) {
		t.Errorf("the groups in another session are %q, want %q", got, u.Groups)
	}
}

// end waits until the watch has ended and returns why.
func (w *watch) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(patience):
		t.Fatal("the watch goes on")
		return nil
	}
}

func testWatchEnds(t *testing.T, b *bench) {
	w := watchStore(t, b.Store)
	w.cancel()
	if err := w.end(t); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: error %v, want that of its context", err)
	}
	mark := w.mark()
	r := b.create(t, person("alice"))
	if _, err := b.Delete(t.Context(), session.Selection{ID: r.ID}); err != nil {
		t.Fatal(err)
	}
	if got := w.mark(); got != mark {
		t.Errorf("%d calls after the end", got-mark)
	}
}

func testWatchBreaks(t *testing.T, b *bench) {
	if b.Cut == nil {
		t.Skip("the connection of this store cannot be cut")
	}
	w := watchStore(t, b.Store)
	heal := b.Cut(t)
	cut := time.Now()
	if err := w.end(t); err == nil {
		t.Error("Watch ended without an error")
	}
	told := w.all()
	if last := told[len(told)-1].AsOf; last.After(cut) {
		t.Errorf("as of %v all is known, but the connection was cut at %v", last, cut)
	}
	heal()
	eventually(t, "the store answers again", func() bool { return b.Ping(t.Context()) == nil })
	again := watchStore(t, b.Store)
	if first := again.all()[0]; !first.All {
		t.Errorf("the first call after the break is %+v, want all", first)
	}
}

// calls are all methods but Watch and Close.
func calls(b *bench) map[string]func(ctx context.Context, s session.Store) error {
	r := b.row(person("alice"))
	return map[string]func(context.Context, session.Store) error{
		"Create": func(ctx context.Context, s session.Store) error { return s.Create(ctx, b.row(r.User), nil) },
		"Find":   func(ctx context.Context, s session.Store) error { _, err := s.Find(ctx, r.Token); return err },
		"FindID": func(ctx context.Context, s session.Store) error { _, err := s.FindID(ctx, r.ID); return err },
		"Touch": func(ctx context.Context, s session.Store) error {
			_, err := s.Touch(ctx, r.ID, session.Touch{})
			return err
		},
		"SetData": func(ctx context.Context, s session.Store) error { return s.SetData(ctx, r.ID, nil, b.now) },
		"List": func(ctx context.Context, s session.Store) error {
			_, err := s.List(ctx, session.Selection{All: true}, b.now, 0)
			return err
		},
		"Delete": func(ctx context.Context, s session.Store) error {
			_, err := s.Delete(ctx, session.Selection{ID: r.ID})
			return err
		},
		"LockRefresh": func(ctx context.Context, s session.Store) error {
			_, err := s.LockRefresh(ctx, r.ID, 0, b.now, b.now)
			return err
		},
		"SaveRefresh": func(ctx context.Context, s session.Store) error {
			_, err := s.SaveRefresh(ctx, r.ID, 0, &session.Credential{}, nil, b.now)
			return err
		},
		"UnlockRefresh": func(ctx context.Context, s session.Store) error { return s.UnlockRefresh(ctx, r.ID, 0) },
		"Reseal": func(ctx context.Context, s session.Store) error {
			_, err := s.Reseal(ctx, func(text string) (string, error) { return text, nil })
			return err
		},
		"Users": func(ctx context.Context, s session.Store) error { _, err := s.Users(ctx, r.User.ID, ""); return err },
		"Ban":   func(ctx context.Context, s session.Store) error { return s.Ban(ctx, r.User.ID, "", time.Time{}) },
		"Unban": func(ctx context.Context, s session.Store) error { return s.Unban(ctx, r.User.ID) },
		"Record": func(ctx context.Context, s session.Store) error {
			return s.Record(ctx, []session.Event{{At: b.now, Type: "sign_in"}})
		},
		"Sweep": func(ctx context.Context, s session.Store) error {
			_, err := s.Sweep(ctx, b.now, time.Time{}, 1)
			return err
		},
		"Ping":  func(ctx context.Context, s session.Store) error { return s.Ping(ctx) },
		"Watch": func(ctx context.Context, s session.Store) error { return s.Watch(ctx, func(session.Change) {}) },
	}
}

func testUnavailable(t *testing.T, b *bench) {
	if b.Cut == nil {
		t.Skip("the connection of this store cannot be cut")
	}
	r := b.create(t, person("alice"))
	heal := b.Cut(t)
	var wg sync.WaitGroup
	for name, call := range calls(b) {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if err := call(ctx, b.Store); !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("%s: error %v, want ErrUnavailable", name, err)
			}
		})
	}
	wg.Wait()
	heal()
	eventually(t, "the session is found again", func() bool {
		_, err := b.FindID(t.Context(), r.ID)
		return err == nil
	})
}

func testClosed(t *testing.T, b *bench) {
	other := b.open(t)
	w := watchStore(t, b.Store)
	r := b.create(t, person("alice"))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.end(t); err == nil {
		t.Error("Watch of a closed store ended without an error")
	}
	for name, call := range calls(b) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := call(ctx, b.Store); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s of a closed store: error %v, want ErrUnavailable", name, err)
		}
		cancel()
	}
	if _, err := other.FindID(t.Context(), r.ID); err != nil {
		t.Errorf("another store of the same sessions: %v", err)
	}
}

func testCancelled(t *testing.T, b *bench) {
	r := b.create(t, person("alice"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range calls(b) {
		if err := call(ctx, b.Store); err == nil || errors.Is(err, session.ErrNone) {
			t.Errorf("%s with a context that has ended: error %v, want another", name, err)
		}
	}
	expectRow(t, b.found(t, r.ID), r)
}
