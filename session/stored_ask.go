package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A question is what the store is asked: which session has the token, or else
// the id.
type question struct {
	token Hash
	id    string
}

// An answer is what all who ask the same at the same time get.
type answer struct {
	done chan struct{}
	asOf time.Time // when the attempt began that brought it
	h    *held
	s    *Session
	err  error
}

// joinWithin is how much older than a request a reading may be that another
// began, for the request to take its answer.
const joinWithin = 100 * time.Millisecond

// ask returns the live session that the store has for q, once for all who ask at
// the same time, or [ErrNone], or an error that wraps [ErrUnavailable]. It waits
// until ctx ends or the store has had its time. h is what is held for q, or nil.
func (t *stored) ask(ctx context.Context, q question, h *held) (*held, *Session, error) {
	now := t.Now()
	for {
		a := t.join(ctx, q, h)
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, nil, unavailable(ctx, ctx.Err())
		}
		switch {
		case a.err != nil:
			return nil, nil, a.err
		case now.Sub(a.asOf) > joinWithin: // too old for us
			continue
		case !t.knows(a.h): // it has changed, or ended, since it was read
			continue
		case !now.Before(t.ends(a.h, a.s)):
			return nil, nil, ErrNone
		}
		return a.h, a.s, nil
	}
}

// join returns the answer to q that is under way, or has it read.
func (t *stored) join(ctx context.Context, q question, h *held) *answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.asking[q]
	if a == nil {
		a = &answer{done: make(chan struct{})}
		t.asking[q] = a
		if !t.waitedFor(func() { t.answer(context.WithoutCancel(ctx), q, h, a) }) {
			a.err = errClosed
			close(a.done)
			delete(t.asking, q)
		}
	}
	return a
}

// answer reads the store for a.
func (t *stored) answer(ctx context.Context, q question, h *held, a *answer) {
	defer close(a.done)
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.asking, q)
	}()
	ctx, cancel := context.WithTimeout(ctx, t.StoreTimeout)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	a.h, a.s, a.asOf, a.err = t.readLive(ctx, q, h)
}

// readLive reads the session of q until no change races with it, and returns
// when the reading began that counts.
func (t *stored) readLive(ctx context.Context, q question, known *held) (*held, *Session, time.Time, error) {
	for {
		since := t.mark()
		row, now, err := t.find(ctx, q)
		if errors.Is(err, ErrNone) && known != nil {
			t.notThere(known, now)
		}
		if err != nil {
			return nil, nil, now, err
		}
		if why := row.void(now); why != "" {
			return nil, nil, now, t.expel(ctx, row, why)
		}
		if h, s, ok := t.publish(row, t.session(row), since); ok {
			h.read.Store(now.UnixMilli())
			return h, s, now, nil
		}
		t.db.raced.Inc()
	}
}

// notThere notes that the store did not have h at now. The session may be held as
// another one, which goes on: with a token that somebody gave it.
func (t *stored) notThere(h *held, now time.Time) {
	h.dead.Store(true)
	h.read.Store(now.UnixMilli())
	if t.held(h.id) == h {
		t.kill(h.id)
	}
}

// find reads the row of q, and returns when the attempt began that did it.
func (t *stored) find(ctx context.Context, q question) (row *Row, began time.Time, err error) {
	err = t.patiently(ctx, "find", func(ctx context.Context) (err error) {
		began = t.Now()
		if q.id != "" {
			row, err = t.Store.FindID(ctx, q.id)
		} else {
			row, err = t.Store.Find(ctx, q.token)
		}
		return err
	})
	return row, began, err
}

// expel ends a session that is void, and returns [ErrNone].
func (t *stored) expel(ctx context.Context, row *Row, why string) error {
	ended, err := t.remove(ctx, Selection{ID: row.ID}, row.ID)
	if err != nil {
		t.Log.WarnContext(ctx, "a session that is void could not be deleted; it is refused all the same", "session", row.ID, "cause", why, "err", err)
	}
	t.kill(row.ID)
	if len(ended) > 0 {
		t.metrics.ended.WithLabelValues(why).Inc()
		t.note(Event{Type: "session_revoked", UserID: row.User.ID, SessionID: row.ID, IP: row.IP, UserAgent: row.UserAgent, Detail: map[string]string{"cause": why}})
	}
	return ErrNone
}

// remove deletes what which selects, in the store and then here, and returns the
// ids. Those in seen were read just before: an attempt whose answer was lost has
// ended them, if the next does not find them any more.
func (t *stored) remove(ctx context.Context, which Selection, seen ...string) (ids []string, err error) {
	attempts := 0
	err = t.patiently(ctx, "delete", func(ctx context.Context) error {
		attempts++
		ended, err := t.Store.Delete(ctx, which)
		ids = append(ids, ended...)
		return err
	})
	if err == nil && attempts > 1 {
		ids = append(ids, seen...)
		slices.Sort(ids)
		ids = slices.Compact(ids)
	}
	t.kill(ids...)
	if err != nil || attempts > 1 {
		// An attempt may have deleted what the next did not find any more.
		t.forget(which.change())
	}
	return ids, err
}

// change names at least what which selects.
func (which Selection) change() Change {
	switch {
	case which.ID != "":
		return Change{Sessions: []string{which.ID}}
	case which.UserID != "":
		return Change{Users: []string{which.UserID}}
	}
	return Change{All: true}
}

// The pauses between two attempts at a store that does not answer.
const firstPause, longestPause = 20 * time.Millisecond, 200 * time.Millisecond

// patiently calls f, which must be idempotent, until the store answers or ctx
// ends. An attempt has a third of the time that ctx has, so that one which hangs
// is not the only one.
func (t *stored) patiently(ctx context.Context, op string, f func(context.Context) error) error {
	third := t.StoreTimeout / 3
	if deadline, ok := ctx.Deadline(); ok {
		third = time.Until(deadline) / 3
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		attempt, cancel := context.WithTimeout(ctx, third)
		err := t.call(op, func() error { return f(attempt) })
		late := attempt.Err() != nil
		cancel()
		if err == nil || !late && !errors.Is(err, ErrUnavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return unavailable(ctx, err)
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// unavailable returns err as one that wraps [ErrUnavailable] if it is that of a
// store that did not answer in time.
func unavailable(ctx context.Context, err error) error {
	if errors.Is(err, ErrUnavailable) || ctx.Err() == nil {
		return err
	}
	if errors.Is(err, ErrNone) { // said too late to be believed
		err = ctx.Err()
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// call measures f, one call of the store.
func (t *stored) call(op string, f func() error) error {
	began := time.Now()
	err := f()
	t.db.latency.WithLabelValues(op).Observe(time.Since(began).Seconds())
	if err != nil && !errors.Is(err, ErrNone) {
		t.db.errors.WithLabelValues(op).Inc()
	}
	return err
}

// verifyEvery is how often the session of a connection that is kept open is read
// again while the store does not tell what changes, and how long a session whose
// clocks have run out has to show that it was used elsewhere.
const verifyEvery = time.Second

func (t *stored) alive(s *Session) bool { return t.aliveHeld(s.held) }

func (t *stored) aliveID(id string) bool {
	if h := t.held(id); h != nil {
		return t.aliveHeld(h)
	}
	// Who asks has seen it live. It is held when it has been read, and that it is
	// not there as well.
	t.background(t.slots, func(ctx context.Context) { t.byID(ctx, id) })
	return true
}

// aliveHeld says whether the session of h lives as far as is known, and has it
// read again where that is too long ago.
func (t *stored) aliveHeld(h *held) bool {
	if h.dead.Load() {
		return false
	}
	now := t.Now()
	end := t.ends(h, h.current.Load())
	over := !now.Before(end)
	if !over {
		h.overAt.Store(0)
	} else if h.read.Load() >= end.UnixMilli() || h.overFor(now) >= 2*verifyEvery {
		return false
	}
	known, blind := t.knows(h), t.blind(now)
	if known && !over && (!blind || h.readAround(now)) {
		return true
	}
	if h.asking.CompareAndSwap(false, true) {
		if !t.background(t.slots, func(ctx context.Context) {
			defer h.asking.Store(false)
			t.ask(ctx, question{id: h.id}, h)
		}) {
			h.asking.Store(false) // the next call tries
		}
	}
	return true
}

// readAround says whether the store was asked about h less than verifyEvery ago. A
// time that is as far ahead is of a clock that was set back since, and says nothing.
func (h *held) readAround(now time.Time) bool {
	return now.Sub(time.UnixMilli(h.read.Load())).Abs() < verifyEvery
}

// overFor returns how long ago it was first noticed that the clocks of h have run
// out, as far as they are known.
func (h *held) overFor(now time.Time) time.Duration {
	h.overAt.CompareAndSwap(0, now.UnixMilli())
	return time.Duration(now.UnixMilli()-h.overAt.Load()) * time.Millisecond
}
