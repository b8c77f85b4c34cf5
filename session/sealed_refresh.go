package session

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The failures of [Config.RefreshTokens] that say something about the session.
// Every other one may pass: the session goes on until its own end.
var (
	// ErrRevoked: the provider does not take the refresh token any more.
	ErrRevoked = errors.New("session: the refresh token is not accepted")
	// ErrBarred: the tokens are fine, but the person may not sign in any more.
	ErrBarred = errors.New("session: the person may not sign in any more")
)

// Refreshed is what the provider answered.
type Refreshed struct {
	// User is the person as the provider describes them now.
	User User
	// Tokens are those to be kept from now on.
	Tokens Tokens
	// Stale says that there are new tokens, but that the person could not be read
	// again: User is as before.
	Stale bool
}

// maxStale is how long a session goes on with what was known of its person while
// the provider renews the tokens and does not say who they are for. It must end:
// what keeps the provider from saying so may be the person's own quota, used up
// on purpose.
const maxStale = 24 * time.Hour

const (
	// refreshAhead is how long before the end of a token a new one is fetched;
	// where that is much of its life, a fifth of its life is.
	refreshAhead = time.Minute
	// refreshTimeout bounds a refresh: the call for tokens, and those about the
	// person.
	refreshTimeout = 20 * time.Second
	// After a failure a session waits this long, then twice as long, at most
	// refreshWaitMax.
	refreshWait, refreshWaitMax = 5 * time.Second, time.Minute
	// keepOld is how long a session's older cookies lead to its newest state,
	// counted from when the browser first showed the newest cookie.
	keepOld = time.Minute
)

// The outcomes of a refresh, as the metric has them.
const (
	outcomeSuccess     = "success"
	outcomeRevoked     = "revoked"
	outcomeSuperseded  = "superseded"
	outcomeUnavailable = "unavailable"
)

// dueAt returns when tokens that came at now are to be renewed, the zero time
// for never: without a refresh token, or because the provider did not say how
// long they last.
func (t *Tokens) dueAt(now time.Time) time.Time {
	var due time.Time
	if t.Refresh == "" {
		return due
	}
	for _, end := range []time.Time{t.AccessExpiry, t.IDExpiry} {
		life := end.Sub(now)
		if end.IsZero() || life <= 0 {
			continue
		}
		if at := end.Add(-min(refreshAhead, life/5)); due.IsZero() || at.Before(due) {
			due = at
		}
	}
	return due
}

// refreshAt returns when s is to be refreshed: when its tokens are due, or when
// its person was last read [Config.ValidateInterval] ago, whichever comes first.
// It is the zero time for never. It goes by when the person was read, and not by
// a time that was written down, so that sessions from before the setting was
// switched on, or shortened, are read again too.
func (c *Config) refreshAt(s *Session) time.Time {
	if c.ValidateInterval == 0 || s.Tokens.Refresh == "" {
		return s.refreshAt
	}
	return earliest(s.refreshAt, s.lastRead().Add(c.ValidateInterval))
}

// refreshDue says whether s is to be refreshed.
func (c *Config) refreshDue(s *Session, now time.Time) bool {
	at := c.refreshAt(s)
	return !at.IsZero() && !now.Before(at)
}

// readAgainAt returns before when s, which was refreshed at now, is not to be
// refreshed again. It is the zero time unless the provider renewed the tokens
// without saying who the person is: they are still due to be read then, and each
// request would use up another refresh token.
func (c *Config) readAgainAt(s *Session, now time.Time) time.Time {
	if !c.refreshDue(s, now) {
		return time.Time{}
	}
	return earliest(s.refreshAt, now.Add(c.ValidateInterval))
}

// unreadEnd returns when s ends because its person cannot be read again any
// more, the zero time for never: it had a refresh token, which was dropped after
// a refresh. Who revokes that person has no other way to this session. A copy
// ends after a day in any case, and a session that never had a refresh token is
// not meant.
func (c *Config) unreadEnd(s *Session) time.Time {
	if c.ValidateInterval == 0 || s.Tokens.Refresh != "" || s.generation == 0 || !s.copyEnds.IsZero() {
		return time.Time{}
	}
	return s.lastRead().Add(maxStale)
}

// maybeSuperseded says whether the cookie that s was opened from may be an older
// one than the browser's newest, whose refresh token somebody has used since:
// this process did not write it, and it has been due for so long that whoever
// was to refresh it has. With due tokens this is as long after their end as they
// were due before it.
func (c *Config) maybeSuperseded(s *Session, now time.Time) bool {
	due, margin := c.refreshAt(s), refreshAhead
	if left := s.Tokens.AccessExpiry.Sub(due); left > 0 {
		margin = min(margin, left)
	}
	return !s.known && now.After(due.Add(2*margin))
}

// goesOnUnread says whether s may go on without a refresh token at now.
func (c *Config) goesOnUnread(s *Session, now time.Time) bool {
	return c.ValidateInterval == 0 || now.Before(s.lastRead().Add(maxStale))
}

// A flight is a refresh under way.
type flight struct{ done chan struct{} }

func (m *sealed) refresh(ctx context.Context, s *Session) (*Session, error) {
	e := m.claim(s)
	if f := m.join(ctx, e); f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
		}
	}
	now := e.current.Load()
	if !m.live(e, now) {
		return nil, ErrNone
	}
	return now, nil
}

// claim returns the one entry for s at which refreshes happen.
func (m *sealed) claim(s *Session) *entry {
	e := m.kept.claim(s.ID, s.entry, m.Now())
	if e != s.entry {
		e.adopt(s)
	}
	return e
}

// join returns the refresh of e that is under way, or begins it. It returns nil
// if there is nothing to do: somebody else just did it, or it failed a moment
// ago.
func (m *sealed) join(ctx context.Context, e *entry) *flight {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.flight != nil {
		return e.flight
	}
	now, s := m.Now(), e.current.Load()
	if !m.live(e, s) || !m.refreshDue(s, now) || now.Before(e.retryAt) {
		return nil
	}
	e.flight = &flight{done: make(chan struct{})}
	go m.fly(context.WithoutCancel(ctx), e, s, e.flight)
	return e.flight
}

// fly makes the call for s and settles what follows.
func (m *sealed) fly(ctx context.Context, e *entry, s *Session, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	got, err := m.RefreshTokens(ctx, s)
	outcome := m.settle(e, s, got, err)
	m.metrics.refreshes.WithLabelValues(s.User.Provider, outcome).Inc()
	// Whoever ended the session until now may have known the tokens before these
	// only; whoever ends it from now on knows these.
	unwanted := err == nil && !m.live(e, e.current.Load())
	close(f.done)
	if unwanted && m.DiscardTokens != nil {
		over := s.clone()
		over.Tokens = got.Tokens
		m.DiscardTokens(over)
	}
}

// settle makes the provider's answer for was the state of e, and returns the
// outcome. The session may have slid meanwhile; if it has ended it stays so.
func (m *sealed) settle(e *entry, was *Session, got *Refreshed, err error) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flight = nil
	now, s := m.Now(), e.current.Load()
	if err == nil {
		err = got.check(was, now)
	}
	switch {
	case err == nil:
		if m.live(e, s) {
			err = m.install(e, s.refreshed(got, now))
		}
	case errors.Is(err, ErrRevoked) && s.generation > was.generation:
		return outcomeSuperseded // a newer cookie has come in from elsewhere
	case errors.Is(err, ErrRevoked) && m.KeepSuperseded && m.maybeSuperseded(s, now) && m.goesOnUnread(s, now):
		if m.live(e, s) {
			_ = m.install(e, s.refreshed(&Refreshed{User: s.User, Stale: true}, now)) // else the next request tries again
		}
		return outcomeSuperseded
	case errors.Is(err, ErrRevoked), errors.Is(err, ErrBarred):
		if m.live(e, s) {
			m.end(s, "revoked")
		}
		return outcomeRevoked
	}
	if err != nil {
		e.failures++
		e.retryAt = now.Add(min(refreshWait<<min(e.failures-1, 8), refreshWaitMax))
		return outcomeUnavailable
	}
	e.failures, e.retryAt = 0, m.readAgainAt(e.current.Load(), now)
	return outcomeSuccess
}

// refreshed returns a copy of s with what the provider answered at now.
func (s *Session) refreshed(got *Refreshed, now time.Time) *Session {
	c := s.clone()
	c.User, c.Tokens = got.User, got.Tokens
	c.User.ID, c.User.Provider = s.User.ID, s.User.Provider
	c.refreshAt = c.Tokens.dueAt(now)
	if !got.Stale {
		c.readAt = now.Truncate(time.Second)
	}
	c.generation++
	return c
}

// lastRead is when the provider last said who the person is.
func (s *Session) lastRead() time.Time {
	if s.readAt.IsZero() {
		return s.CreatedAt
	}
	return s.readAt
}

// install seals s and makes it the current state of e, whose mutex is held.
func (m *sealed) install(e *entry, s *Session) error {
	value, _, err := m.fit(s)
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	s.sealed, s.entry, s.renewed, s.known = value, e, true, true
	s.unreadEnds = m.unreadEnd(s)
	e.release.Store(0)
	e.current.Store(s)
	m.cache.Set(value, e)
	return nil
}

// adopt takes over what is newer in s, of the same session: another process has
// refreshed the tokens, or let the session slide.
func (e *entry) adopt(s *Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if seen := s.LastSeenAt.Unix(); seen > e.seen.Load() {
		e.seen.Store(seen)
	}
	newest, latest := e.current.Load(), e.current.Load()
	if s.generation > newest.generation {
		newest = s
	}
	if s.UpdatedAt.After(latest.UpdatedAt) {
		latest = s
	}
	if newest != s && latest != s {
		return
	}
	c := newest.clone()
	c.UpdatedAt, c.LastSeenAt, c.ExpiresAt = latest.UpdatedAt, latest.LastSeenAt, latest.ExpiresAt
	c.sealed, c.entry, c.renewed, c.known = newest.sealed, e, newest.renewed, newest.known
	e.current.Store(c)
}

// fit seals s. Tokens that do not fit the cookie are left out, and dropped says
// so: first those for upstreams, then the refresh token.
func (m *sealed) fit(s *Session) (value string, dropped bool, err error) {
	value, err = m.seal(s)
	for _, fewer := range []Tokens{{Refresh: s.Tokens.Refresh, AccessExpiry: s.Tokens.AccessExpiry}, {}} {
		if err != nil || m.Jar.Fits(value) || s.Tokens == fewer || s.Tokens == (Tokens{}) {
			continue
		}
		s.Tokens, dropped = fewer, true
		if fewer.Refresh == "" {
			s.refreshAt = time.Time{}
		}
		value, err = m.seal(s)
	}
	return value, dropped, err
}
