package session

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// lockFor is how long the right to refresh a session lasts: longer than the
	// call for tokens and a try to save them, so that nobody else begins before
	// that has ended.
	lockFor = refreshTimeout + 2*saveTimeout
	// saveTimeout is how long new tokens are tried to be saved, and saveTries how
	// often: the old ones are worth nothing any more. Meanwhile no other refresh of
	// the session begins here, and requests wait no longer than for any.
	saveTimeout = 30 * time.Second
	saveTries   = 20
	// callAfterClose is how long a call for tokens goes on after close.
	callAfterClose = 20 * time.Second
	// Whoever does not get the right looks again after this long, then after
	// twice as long.
	firstLook, longestLook = 50 * time.Millisecond, time.Second
)

func (t *stored) refresh(ctx context.Context, s *Session) (*Session, error) {
	h := s.held
	if f := t.joinFlight(ctx, h); f != nil {
		f.wait(ctx)
	}
	if h.dead.Load() {
		return nil, ErrNone
	}
	return h.current.Load(), nil
}

// joinFlight returns the refresh of h that is under way in this process, or begins it.
// It returns nil if there is nothing to do: somebody else just did it, or it
// failed a moment ago.
func (t *stored) joinFlight(ctx context.Context, h *held) *flight {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.flight != nil {
		return h.flight
	}
	now, s := t.Now(), h.current.Load()
	if h.dead.Load() || !t.refreshDue(s, now) || now.Before(h.retryAt) {
		return nil
	}
	f := newFlight(s, now)
	if !t.waitedFor(func() { t.fly(context.WithoutCancel(ctx), h, f) }) {
		return nil
	}
	h.flight = f
	return f
}

// fly refreshes the session of h and notes how that went.
func (t *stored) fly(ctx context.Context, h *held, f *flight) {
	outcome, err := t.renewTokens(ctx, h)
	if outcome != "" {
		t.metrics.refreshes.WithLabelValues(h.current.Load().User.Provider, outcome).Inc()
	}
	if err != nil {
		t.Log.WarnContext(ctx, "a refresh did not succeed; the session goes on", "session", h.id, "err", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flight = nil
	if outcome == outcomeUnavailable {
		h.failures++
		h.retryAt = t.Now().Add(min(refreshWait<<min(h.failures-1, 8), refreshWaitMax))
	} else {
		h.failures, h.retryAt = 0, t.readAgainAt(h.current.Load(), t.Now())
	}
	close(f.done)
}

// renewTokens refreshes the session of h, or waits until another replica has. The
// outcome is "" if that one did it.
func (t *stored) renewTokens(ctx context.Context, h *held) (outcome string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lockFor+refreshTimeout)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	for look := firstLook; ; look = min(2*look, longestLook) {
		row, s, err := t.reread(ctx, h)
		switch {
		case errors.Is(err, ErrNone):
			return "", nil
		case err != nil:
			return outcomeUnavailable, err
		case !t.refreshDue(s, t.Now()):
			return "", nil
		}
		now := t.Now().Truncate(time.Millisecond).UTC()
		locked := false
		if err := t.call("lock_refresh", func() (err error) {
			locked, err = t.Store.LockRefresh(ctx, h.id, row.Credential.Version, now, now.Add(lockFor))
			return err
		}); err != nil {
			return outcomeUnavailable, err
		}
		if locked {
			return t.callProvider(ctx, h, row, s)
		}
		if sleep(ctx, look); ctx.Err() != nil {
			return outcomeUnavailable, errors.New("session: another replica has the right to refresh, and does not")
		}
	}
}

// reread reads the session of h for a refresh, and makes it what is known.
func (t *stored) reread(ctx context.Context, h *held) (*Row, *Session, error) {
	for {
		since := t.mark()
		reading, cancel := context.WithTimeout(ctx, t.StoreTimeout)
		row, now, err := t.find(reading, question{id: h.id})
		cancel()
		if errors.Is(err, ErrNone) {
			t.kill(h.id)
		}
		if err != nil {
			return nil, nil, err
		}
		if why := row.void(now); why != "" {
			return nil, nil, t.expel(ctx, row, why)
		}
		if _, s, ok := t.publish(row, t.session(row), since); ok {
			return row, s, nil
		}
		t.db.raced.Inc()
	}
}

// callProvider makes the call for the tokens of s, whose row is locked, and
// settles what follows.
func (t *stored) callProvider(ctx context.Context, h *held, row *Row, s *Session) (outcome string, err error) {
	// The end of this process does not end it at once: the token is worth nothing
	// then.
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
	stop := context.AfterFunc(t.ctx, func() { time.AfterFunc(callAfterClose, cancel) })
	got, err := t.RefreshTokens(call, s)
	stop()
	cancel()
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	now := t.Now()
	if err == nil {
		err = got.check(s, now)
	}
	switch {
	case err == nil:
		return t.save(context.WithoutCancel(ctx), h, row, s, got, now)
	case errors.Is(err, ErrRevoked), errors.Is(err, ErrBarred):
		return t.giveUp(ctx, h, row, err)
	}
	if unlockErr := t.call("unlock_refresh", func() error { return t.Store.UnlockRefresh(ctx, h.id, row.Credential.Version) }); unlockErr != nil {
		err = errors.Join(err, unlockErr)
	}
	return outcomeUnavailable, err
}

// save keeps what the provider answered, for as long as it takes.
func (t *stored) save(ctx context.Context, h *held, row *Row, s *Session, got *Refreshed, now time.Time) (string, error) {
	next := s.refreshed(got, now.UTC())
	c, err := t.sealTokens(next)
	if err != nil {
		return outcomeUnavailable, err
	}
	var user *User
	if !got.Stale {
		user = &next.User
	}
	saved, err := t.saveTokens(ctx, h, c, user, now.Truncate(time.Millisecond).UTC())
	if err != nil {
		return outcomeUnavailable, fmt.Errorf("session: new tokens could not be saved: %w", err)
	}
	t.forget(Change{Sessions: []string{h.id}})
	if user != nil {
		t.forget(Change{Users: []string{user.ID}})
	}
	// Read again also if it was not saved: the session may be gone, or an earlier
	// attempt was taken and not confirmed.
	after, _, err := t.reread(ctx, h)
	switch {
	case errors.Is(err, ErrNone):
		// Whoever ended the session knew the tokens before these only.
		if t.DiscardTokens != nil {
			t.DiscardTokens(next)
		}
		return "", nil
	case err != nil && saved:
		return outcomeSuccess, nil
	case err != nil:
		return outcomeUnavailable, err
	case !saved && after.Credential.Refresh != c.Refresh:
		return outcomeSuperseded, nil
	}
	return outcomeSuccess, nil
}

// saveTokens replaces the credential of h by c, its next version, and says whether
// it did. A store that is down is tried for minutes.
func (t *stored) saveTokens(ctx context.Context, h *held, c *Credential, user *User, now time.Time) (saved bool, err error) {
	for range saveTries {
		try, cancel := context.WithTimeout(ctx, saveTimeout)
		err = t.patiently(try, "save_refresh", func(ctx context.Context) (err error) {
			saved, err = t.Store.SaveRefresh(ctx, h.id, c.Version-1, c, user, now)
			return err
		})
		cancel()
		if !errors.Is(err, ErrUnavailable) || t.ctx.Err() != nil {
			break
		}
		t.Log.WarnContext(ctx, "new tokens could not be saved yet; tried on", "session", h.id, "err", err)
	}
	return saved, err
}

// giveUp ends a session whose tokens the provider does not renew, unless another
// replica has renewed them meanwhile.
func (t *stored) giveUp(ctx context.Context, h *held, row *Row, cause error) (string, error) {
	if errors.Is(cause, ErrRevoked) {
		now, _, err := t.reread(ctx, h)
		switch {
		case errors.Is(err, ErrNone):
			return "", nil
		case err != nil:
			return outcomeUnavailable, err
		case now.Credential.Version != row.Credential.Version:
			return outcomeSuperseded, nil
		}
	}
	ended, err := t.remove(ctx, Selection{ID: h.id})
	if err != nil {
		return outcomeUnavailable, err
	}
	if len(ended) > 0 {
		t.metrics.ended.WithLabelValues("revoked").Inc()
		t.note(Event{Type: "refresh_failed", UserID: row.User.ID, SessionID: h.id, IP: row.IP, UserAgent: row.UserAgent, Detail: map[string]string{"cause": cause.Error()}})
	}
	return outcomeRevoked, nil
}

// check says whether got may be what becomes of s at now.
func (got *Refreshed) check(s *Session, now time.Time) error {
	if got.User.Issuer != s.User.Issuer || got.User.Subject != s.User.Subject {
		return errors.New("session: the refreshed tokens are another person's")
	}
	if got.Stale && now.Sub(s.lastRead()) >= maxStale {
		return fmt.Errorf("%w: the provider has not said for a day who they are", ErrBarred)
	}
	return nil
}
