package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// blindAfter is how long what is held counts after the time as of which all
// changes are known. A store says so twice a second.
const blindAfter = 1500 * time.Millisecond

// A channel knows how far the store has told what changes.
type channel struct {
	base time.Time
	// The time as of which all changes are known: since base, by the clock that
	// only goes forward, and in Unix nanoseconds. It has been too long if either
	// says so: one of them stands still while a machine sleeps, the other can be
	// set back.
	asOf, wall atomic.Int64
	up         atomic.Bool
}

func newChannel(now time.Time) *channel {
	c := &channel{base: now}
	c.asOf.Store(-int64(time.Hour)) // nothing was told yet
	return c
}

// blind says whether a change may have gone untold for too long.
func (c *channel) blind(now time.Time) bool {
	return now.Sub(c.base)-time.Duration(c.asOf.Load()) >= blindAfter || now.UnixNano()-c.wall.Load() >= int64(blindAfter)
}

// advance notes that all changes before asOf are known.
func (c *channel) advance(asOf time.Time) {
	c.asOf.Store(int64(asOf.Sub(c.base)))
	c.wall.Store(asOf.UnixNano())
	c.up.Store(true)
}

// lag returns how long ago the time is as of which all changes are known.
func (c *channel) lag(now time.Time) time.Duration {
	return now.Sub(c.base) - time.Duration(c.asOf.Load())
}

// Run keeps up with the store until ctx ends: it watches what changes, sweeps
// what is over, seals tokens anew after a key rotation, and writes down audit
// events. While it does not run every check reads the store. Without a store it
// returns at once.
func (m *Manager) Run(ctx context.Context) {
	if m.stored == nil {
		return
	}
	m.stored.run(ctx)
}

// run is [Manager.Run]. It ends with close, too, which waits for it.
func (t *stored) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	t.life.Lock()
	if t.closed {
		t.life.Unlock()
		return
	}
	var wg sync.WaitGroup
	for _, keep := range []func(context.Context){t.watch, t.sweep, t.resealAll, t.recordAll} {
		wg.Add(1)
		t.work.Go(func() {
			defer wg.Done()
			keep(ctx)
		})
	}
	t.life.Unlock()
	wg.Wait()
}

const (
	// watchAgain is the pause before the store is watched again, doubled up to
	// watchAgainMax while that does not succeed.
	watchAgain, watchAgainMax = 50 * time.Millisecond, 2 * time.Second
	// watchSilence is how long a store that is watched may say nothing.
	watchSilence = 10 * time.Second
)

// watch listens to the store, again whenever the channel breaks.
func (t *stored) watch(ctx context.Context) {
	pause := watchAgain
	for ctx.Err() == nil {
		told, err := t.listen(ctx)
		t.up.Store(false)
		if ctx.Err() != nil {
			return
		}
		if told {
			pause = watchAgain
		}
		t.db.breaks.Inc()
		t.Log.WarnContext(ctx, "the session store does not tell what changes; sessions are read from it until it does", "err", err)
		sleep(ctx, pause/2+rand.N(pause))
		pause = min(2*pause, watchAgainMax)
	}
}

// errSilent is why a channel that says nothing is given up.
var errSilent = errors.New("session: the store was silent for too long")

// listen watches the store once, and says whether it told anything.
func (t *stored) listen(ctx context.Context) (told bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(watchSilence, func() { cancel(errSilent) })
	defer silence.Stop()
	err = t.Store.Watch(ctx, func(c Change) {
		silence.Reset(watchSilence)
		told = true
		t.hear(c)
	})
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return told, err
}

// hear takes note of a change: first of what it says, then of how far that
// reaches.
func (t *stored) hear(c Change) {
	if c.All || len(c.Sessions)+len(c.Users) > 0 {
		t.forget(c)
	}
	t.db.count(c)
	t.advance(c.AsOf)
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

const (
	// sweepEvery is about how often a process sweeps the store.
	sweepEvery = 2 * time.Minute
	// sweepBatch bounds what is swept at once, sweepPause is between two batches.
	sweepBatch, sweepPause = 500, 20 * time.Millisecond
	// sweepLate is how much longer than its clocks a session stays in the store,
	// for the clock of another replica that is behind ours.
	sweepLate = time.Minute
)

// sweep deletes from the store what is over, now and then.
func (t *stored) sweep(ctx context.Context) {
	for {
		sleep(ctx, sweepEvery/2+rand.N(sweepEvery))
		if ctx.Err() != nil {
			return
		}
		if err := t.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			t.Log.WarnContext(ctx, "the session store could not be swept", "err", err)
		}
	}
}

// sweepOnce deletes what is over now, batch by batch.
func (t *stored) sweepOnce(ctx context.Context) error {
	now := t.Now().Add(-sweepLate).UTC()
	var keepAudit time.Time
	if t.AuditRetention > 0 {
		keepAudit = now.Add(-t.AuditRetention)
	}
	for ctx.Err() == nil {
		n := 0
		err := t.call("sweep", func() (err error) {
			n, err = t.Store.Sweep(ctx, now, keepAudit, sweepBatch)
			return err
		})
		t.db.swept.Add(float64(n))
		if err != nil || n < sweepBatch {
			return err
		}
		sleep(ctx, sweepPause)
	}
	return nil
}

// resealPause is between two attempts to seal tokens anew.
const resealPause = time.Minute

// resealAll seals the tokens in the store with the first key of the ring, if
// there is another one that they may be sealed with.
func (t *stored) resealAll(ctx context.Context) {
	for t.Sealer.Keys() > 1 && ctx.Err() == nil {
		n, err := t.Store.Reseal(ctx, t.reseal)
		if err == nil {
			t.Log.InfoContext(ctx, "provider tokens in the session store are sealed with the first key", "resealed", n)
			return
		}
		t.Log.WarnContext(ctx, "provider tokens in the session store could not be sealed with the first key; tried again", "resealed", n, "err", err)
		sleep(ctx, resealPause)
	}
}

// Hears says whether all changes in the store are known, so that what is held in
// memory counts. Without a store there is nothing to hear.
func (m *Manager) Hears() bool { return m.stored == nil || !m.stored.blind(m.Now()) }
