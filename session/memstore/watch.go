package memstore

import (
	"context"
	"fmt"
	"time"

	"authproxy/session"
)

const (
	// heartbeat is how often a watcher is told how far it has come.
	heartbeat = 250 * time.Millisecond
	// maxPending bounds what a slow watcher is told by name; above it anything
	// may have changed.
	maxPending = 1000
)

// A watcher is a call of [Store.Watch].
type watcher struct {
	pending session.Change // under data.mu
	wake    chan struct{}  // holds one element if pending is not empty
}

// tell notes a change for all watchers. The data is locked, so that the note
// stands before anybody can see the change.
func (d *data) tell(c session.Change) {
	if len(c.Sessions)+len(c.Users) == 0 {
		return
	}
	for w := range d.watchers {
		w.pending.Sessions = append(w.pending.Sessions, c.Sessions...)
		w.pending.Users = append(w.pending.Users, c.Users...)
		if len(w.pending.Sessions)+len(w.pending.Users) > maxPending {
			w.pending = session.Change{All: true}
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// Watch tells of changes until ctx ends or s is closed.
func (s *Store) Watch(ctx context.Context, on func(session.Change)) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	w := &watcher{pending: session.Change{All: true}, wake: make(chan struct{}, 1)}
	s.watchers[w] = struct{}{}
	unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
	}()
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		on(s.take(w))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return fmt.Errorf("memstore: %w: closed", session.ErrUnavailable)
		case <-w.wake:
		case <-tick.C:
		}
	}
}

// take returns what w has not been told. Changes are made and noted under the
// same lock, so that all that were made before now are in it.
func (s *Store) take(w *watcher) session.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := w.pending
	c.AsOf = s.now()
	w.pending = session.Change{}
	return c
}
