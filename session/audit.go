package session

import (
	"context"
	"maps"
	"slices"
	"time"
)

const (
	// maxQueued bounds the audit events that wait for the store; more are only
	// in the log.
	maxQueued = 4096
	// recordBatch bounds how many are written at once.
	recordBatch = 100
	// flushTimeout is how long closing waits for the store to take the rest.
	flushTimeout = 5 * time.Second
)

// An auditQueue holds events until the store has them.
type auditQueue struct{ events chan Event }

func newAuditQueue() *auditQueue { return &auditQueue{make(chan Event, maxQueued)} }

// Record keeps an audit event in the store, soon: nobody waits for it. The time
// is now if e has none. Without a store it does nothing.
func (m *Manager) Record(e Event) {
	if m.stored != nil {
		m.stored.record(e)
	}
}

// note is [Manager.Record] for what this package does itself, which nobody else
// logs.
func (t *stored) note(e Event) {
	args := []any{"event", e.Type}
	for _, pair := range [][2]string{
		{"client_ip", e.IP}, {"user_agent", trimUserAgent(e.UserAgent)}, {"user", e.UserID}, {"session", e.SessionID}, {"actor", e.ActorID},
	} {
		if pair[1] != "" {
			args = append(args, pair[0], pair[1])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Detail)) {
		args = append(args, name, e.Detail[name])
	}
	t.Log.Info("audit", args...)
	t.record(e)
}

func (t *stored) record(e Event) {
	if e.At.IsZero() {
		e.At = t.Now()
	}
	e.At = e.At.Truncate(time.Millisecond).UTC()
	e.UserAgent = trimUserAgent(e.UserAgent)
	select {
	case t.audit.events <- e:
	default:
		t.db.unrecorded.Inc()
	}
}

// recordAll writes events down as they come.
func (t *stored) recordAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-t.audit.events:
			t.writeEvents(ctx, t.batch(e))
		}
	}
}

// batch returns first and what waits behind it.
func (t *stored) batch(first Event) []Event {
	events := []Event{first}
	for len(events) < recordBatch {
		select {
		case e := <-t.audit.events:
			events = append(events, e)
		default:
			return events
		}
	}
	return events
}

// writeEvents writes events down, and again if the store does not answer. What
// it took and did not confirm may so be there twice: better than not at all.
func (t *stored) writeEvents(ctx context.Context, events []Event) {
	for pause := firstPause; ; pause = min(2*pause, 10*time.Second) {
		attempt, cancel := context.WithTimeout(ctx, t.StoreTimeout)
		err := t.call("record", func() error { return t.Store.Record(attempt, events) })
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.requeue(events)
			return
		}
		t.Log.WarnContext(ctx, "audit events could not be written to the session store; tried again", "events", len(events), "err", err)
		sleep(ctx, pause)
	}
}

// requeue puts events back for [stored.flush].
func (t *stored) requeue(events []Event) {
	for _, e := range events {
		select {
		case t.audit.events <- e:
		default:
			t.db.unrecorded.Inc()
		}
	}
}

// flush writes down what is left, if the store takes it in time.
func (t *stored) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case e := <-t.audit.events:
			t.writeEvents(ctx, t.batch(e))
		default:
			return
		}
	}
	left := len(t.audit.events)
	t.db.unrecorded.Add(float64(left))
	t.Log.Warn("audit events could not be written to the session store before the end", "events", left)
}
