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
	// person. It is long, because a provider that answers late has used up the old
	// token: the new one must not be lost.
	refreshTimeout = 90 * time.Second
	// patience is how long requests wait for a refresh while the tokens are good,
	// longPatience if the one that upstreams are to get is over. Then they go on
	// with what there is.
	patience, longPatience = 5 * time.Second, 20 * time.Second
	// After a failure a session waits this long, then twice as long, at most
	// refreshWaitMax.
	refreshWait, refreshWaitMax = 5 * time.Second, time.Minute
	// keepOld is how long a session's older cookies lead to its newest state,
	// counted from when the browser first showed the newest cookie.
	keepOld = time.Minute
	// doubtFor is how long a session goes on whose refresh token is not accepted
	// and may just have been used by another process: long enough for a newer
	// cookie, wherever it is, to come here.
	doubtFor = 5 * time.Minute
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
// more, the zero time for never: it had a refresh token, which did not fit the
// cookie. Who revokes that person has no other way to this session. A copy ends
// after a day in any case, and a session that never had a refresh token is not
// meant.
func (s *Session) unreadEnd() time.Time {
	if s.Tokens.Refresh != "" || s.generation == 0 || !s.copyEnds.IsZero() {
		return time.Time{}
	}
	return s.lastRead().Add(maxStale)
}

// A flight is a refresh under way. Requests wait for it until a time.
type flight struct {
	done  chan struct{}
	until time.Time
}

// newFlight returns a refresh of s that begins at now.
func newFlight(s *Session, now time.Time) *flight {
	wait := patience
	if end := s.Tokens.end(); !end.IsZero() && !now.Before(end) {
		wait = longPatience
	}
	return &flight{make(chan struct{}), time.Now().Add(wait)}
}

// wait returns when f has ended, when it takes too long, or when ctx ends.
func (f *flight) wait(ctx context.Context) {
	ctx, cancel := context.WithDeadline(ctx, f.until)
	defer cancel()
	select {
	case <-f.done:
	case <-ctx.Done():
	}
}

func (m *sealed) refresh(ctx context.Context, s *Session) (*Session, error) {
	e := m.claim(s)
	if f := m.join(ctx, e); f != nil {
		f.wait(ctx)
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
	if !m.live(e, s) || !m.refreshDue(s, now) || now.Before(e.retryAt) || m.doubted(s) {
		return nil
	}
	e.flight = newFlight(s, now)
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
	case errors.Is(err, ErrRevoked):
		return m.doubt(e, s, now)
	case errors.Is(err, ErrBarred):
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

// doubt settles that the provider does not take the refresh token of s, the
// current state of e, and returns the outcome. Either the person was revoked, or
// another process has used the token. Only the latter can still be followed by a
// newer cookie, so this state of the session is over, and a newer one is not.
//
// A token that came to this process is taken for revoked: out at once. One from a
// cookie may have been used by another replica just now, or by this one before it
// was started anew, and the browser may not have heard of it yet; then the state
// goes on for doubtFor, but not without the token that upstreams are to get.
func (m *sealed) doubt(e *entry, s *Session, now time.Time) string {
	if !m.live(e, s) {
		return outcomeRevoked
	}
	var from time.Time
	if !s.known {
		from = earliest(now.Add(doubtFor), s.Tokens.end())
	}
	m.list(s, s.generation, from)
	if now.Before(from) {
		return outcomeSuperseded
	}
	m.metrics.ended.WithLabelValues("revoked").Inc()
	return outcomeRevoked
}

// doubted says whether s may be over soon, see [sealed.doubt]. No cookie is made
// of it then: the browser may get a newer one at the same time, and would lose it.
func (m *sealed) doubted(s *Session) bool {
	_, listed := m.ended.endOf(s.ID, s.generation)
	return listed
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
	had := s.Tokens.Refresh != ""
	value, _, err := m.fit(s)
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	if had && s.Tokens.Refresh == "" {
		m.Log.Warn("the refresh token does not fit the session cookie any more; the session ends a day after the person was read", "provider", s.User.Provider, "user", s.User.ID)
	}
	s.sealed, s.entry, s.renewed, s.known = value, e, true, true
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
// so: first those for upstreams, then the refresh token, without which the session
// has another end. That counts as a generation, so that its cookie tells.
func (m *sealed) fit(s *Session) (value string, dropped bool, err error) {
	value, err = m.seal(s)
	for _, fewer := range []Tokens{{Refresh: s.Tokens.Refresh, AccessExpiry: s.Tokens.AccessExpiry}, {}} {
		if err != nil || m.Jar.Fits(value) || s.Tokens == fewer || s.Tokens == (Tokens{}) {
			continue
		}
		if s.Tokens.Refresh != fewer.Refresh {
			s.refreshAt = time.Time{}
			s.generation++
		}
		s.Tokens, dropped = fewer, true
		value, err = m.seal(s)
	}
	s.unreadEnds = s.unreadEnd()
	return value, dropped, err
}
