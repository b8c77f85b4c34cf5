package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"authproxy/cookie"
)

// ErrNone is returned by [Manager.Lookup] for a request that shows no live
// session: no cookie, one that does not open, a session that is over or was
// ended. The answer is the same for all of them: sign in.
var ErrNone = errors.New("session: none")

// Config is what a [Manager] needs.
type Config struct {
	Sealer *cookie.Sealer
	Jar    *cookie.Jar

	// MaxAge is the sliding window; UpdateAge is how much of it must have
	// passed before it slides.
	MaxAge, UpdateAge time.Duration
	// AbsoluteMaxAge is the hard end, counted from sign-in; 0 means none.
	AbsoluteMaxAge time.Duration
	// IdleTimeout ends a session that long after its last activity; 0 means off.
	IdleTimeout time.Duration
	// Version voids the sessions of every other version.
	Version int

	// RefreshTokens asks the provider of s for new tokens with s.Tokens.Refresh,
	// in one attempt. It fails with [ErrRevoked] or [ErrBarred] where that is the
	// end of the session. Nil means that tokens are never refreshed.
	RefreshTokens func(ctx context.Context, s *Session) (*Refreshed, error)
	// DiscardTokens tells the provider that nobody wants the tokens of s any more:
	// they came for a session that had ended meanwhile. It may be called a second
	// time with the same ones. nil means that nobody is told.
	DiscardTokens func(s *Session)
	// KeepSuperseded lets a session go on without tokens if its refresh token is
	// not accepted, but may just have been used by another process. It is for
	// upstreams that get none of the provider's tokens.
	KeepSuperseded bool

	// CacheBytes bounds the memory for opened cookies; 0 means 64 MiB.
	CacheBytes uint64
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
	// Registerer takes the metrics; nil means none are published.
	Registerer prometheus.Registerer
}

// A Manager starts, finds, slides and ends sessions. It is safe for concurrent
// use. Close it to stop its cache.
type Manager struct {
	Config
	cache   *otter.Cache[string, *entry]
	ended   *ended
	kept    *kept
	metrics *metrics
}

// An entry is what is known of one session in this process. All cookie values
// that were issued for the session lead to the same entry, so that a request
// with an older cookie sees what newer ones have changed, and a lost
// Set-Cookie is made good by the next answer.
type entry struct {
	mu      sync.Mutex // held to change current
	current atomic.Pointer[Session]
	seen    atomic.Int64 // Unix time of the last activity

	// Of refreshes, see [Manager.Refresh].
	heir     atomic.Pointer[entry] // the entry of the same session that counts instead
	release  atomic.Int64          // Unix time from when older cookies may be forgotten; 0: not yet known
	flight   *flight               // under mu; nil while no refresh is under way
	retryAt  time.Time             // under mu; no refresh before
	failures int                   // under mu; in a row
}

// latest returns the entry that counts for e's session.
func (e *entry) latest() *entry {
	for heir := e.heir.Load(); heir != nil; heir = e.heir.Load() {
		e = heir
	}
	return e
}

// entryOverhead is about what an entry takes besides its cookie value, in bytes.
const entryOverhead = 2 << 10

// New returns the Manager of c, or an error for clocks that contradict each
// other.
func New(c Config) (*Manager, error) {
	switch {
	case c.Sealer == nil || c.Jar == nil:
		return nil, errors.New("session: a sealer and a jar are required")
	case c.MaxAge <= 0 || c.UpdateAge < 0 || c.AbsoluteMaxAge < 0 || c.IdleTimeout < 0:
		return nil, errors.New("session: max_age must be positive, the other clocks not negative")
	case c.UpdateAge >= c.MaxAge:
		return nil, errors.New("session: update_age must be less than max_age, or the session never slides")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	cache, err := otter.New(&otter.Options[string, *entry]{
		MaximumWeight: c.CacheBytes,
		Weigher:       func(value string, _ *entry) uint32 { return uint32(len(value)*2 + entryOverhead) },
	})
	if err != nil {
		return nil, fmt.Errorf("session: cache: %w", err)
	}
	return &Manager{Config: c, cache: cache, ended: newEnded(maxEnded), kept: newKept(maxKept), metrics: newMetrics(c.Registerer)}, nil
}

// Close stops the goroutines of the cache.
func (m *Manager) Close() { m.cache.StopAllGoroutines() }

// Start begins the session of s.User in the browser that sent r: it gives it an
// id of its own, whatever r brought along (a session seen before sign-in is
// never adopted, and one that lives is ended), sets the clocks, and writes the
// cookie to w. Tokens that do not fit the cookie are left out, the refresh token
// last; dropped says so.
func (m *Manager) Start(w http.ResponseWriter, r *http.Request, s *Session) (dropped bool, err error) {
	now := m.Now().Truncate(time.Second).UTC()
	s.ID = uuid.NewString()
	s.CreatedAt, s.UpdatedAt, s.LastSeenAt = now, now, now
	if m.AbsoluteMaxAge > 0 {
		s.AbsoluteExpiresAt = now.Add(m.AbsoluteMaxAge)
	}
	s.ExpiresAt = now.Add(m.MaxAge)
	s.ExpiresAt = s.End()
	s.UserAgent = trimUserAgent(s.UserAgent)
	s.refreshAt, s.known = s.Tokens.dueAt(m.Now()), true

	value, dropped, err := m.fit(s)
	if err != nil {
		return dropped, err
	}
	if err := m.Jar.Set(w, r, value, m.cookieAge(s, now)); err != nil {
		return dropped, fmt.Errorf("session: %w; fewer groups or shorter claims would make it fit", err)
	}
	for _, previous := range m.lookupAll(r) {
		m.end(previous, "replaced")
	}
	m.remember(value, s)
	m.metrics.created.WithLabelValues(s.User.Provider).Inc()
	m.metrics.cookieBytes.Observe(float64(len(value)))
	return dropped, nil
}

// Lookup returns the live session that r's cookie holds, or [ErrNone]. It does
// no I/O and does not count as activity.
func (m *Manager) Lookup(r *http.Request) (*Session, error) {
	for _, value := range m.Jar.Values(r) {
		if s := m.open(value); s != nil {
			return s, nil
		}
	}
	return nil, ErrNone
}

// lookupAll returns all live sessions that r shows: a browser can hold several,
// under cookies of one name.
func (m *Manager) lookupAll(r *http.Request) []*Session {
	var all []*Session
	for _, value := range m.Jar.Values(r) {
		if s := m.open(value); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// open returns the live session that value leads to, nil if there is none.
func (m *Manager) open(value string) *Session {
	e := m.find(value)
	if e == nil {
		return nil
	}
	if s := e.current.Load(); m.live(e, s) {
		return s
	}
	return nil
}

// find returns the entry that value leads to, or nil if value does not open
// under our keys and version.
func (m *Manager) find(value string) *entry {
	if e, ok := m.cache.GetIfPresent(value); ok {
		m.metrics.cacheHits.Inc()
		return e.latest()
	}
	m.metrics.cacheMisses.Inc()
	var r record
	if m.Sealer.Open(m.Jar.Name(), value, &r) != nil || r.Version != m.Version {
		return nil
	}
	s, err := r.session()
	if err != nil {
		return nil
	}
	value = strings.Clone(value)
	if e := m.kept.get(s.ID); e != nil && s.copyEnds.IsZero() {
		s.sealed = value
		e.adopt(s)
		m.cache.Set(value, e)
		return e
	}
	return m.remember(value, s)
}

// remember puts a session into the cache under its sealed value, and returns
// the entry that stands there now.
func (m *Manager) remember(value string, s *Session) *entry {
	e := &entry{}
	s.sealed, s.entry = value, e
	e.current.Store(s)
	e.seen.Store(s.LastSeenAt.Unix())
	e, _ = m.cache.SetIfAbsent(value, e)
	return e
}

// live says whether s is valid now: not ended, and before each of its clocks.
func (m *Manager) live(e *entry, s *Session) bool {
	return m.Now().Before(m.endsAt(e, s)) && !m.ended.has(s.ID)
}

// EndsAt returns when s ends unless something happens before: the earliest of
// its clocks, the idle timeout included.
func (m *Manager) EndsAt(s *Session) time.Time { return m.endsAt(s.entry, s) }

func (m *Manager) endsAt(e *entry, s *Session) time.Time {
	end := s.End()
	if m.IdleTimeout > 0 {
		if idle := time.Unix(e.seen.Load(), 0).Add(m.IdleTimeout); idle.Before(end) {
			return idle
		}
	}
	return end
}

// Alive says whether s, a session that [Manager.Lookup] returned at some time,
// lives now, as whatever happened to it since has left it: it may have slid, or
// was ended. It is no activity. Who keeps a connection open for a session asks
// again and again.
func (m *Manager) Alive(s *Session) bool {
	current := s.entry.current.Load()
	if m.live(s.entry, current) {
		return true
	}
	// The entry may have left the cache, and another one slid in its place.
	return !m.ended.has(current.ID) && m.open(current.sealed) != nil
}

// Touch counts r as activity of s, a session that [Manager.Lookup] returned for
// it: it slides the session if that is due, and writes a renewed cookie to w if
// the browser does not have it yet. It returns the session as it is now, or
// [ErrNone] if the session has ended since it was looked up: an answer that
// takes its time must not bring it back.
func (m *Manager) Touch(w http.ResponseWriter, r *http.Request, s *Session) (*Session, error) {
	now := m.Now().UTC()
	s, err := m.renew(s, func(current *Session) bool { return m.due(current, now) })
	if err != nil {
		return nil, err
	}
	return s, m.handOut(w, r, s)
}

// Extend is [Manager.Touch] for somebody who asks for it: the session slides
// now, due or not.
func (m *Manager) Extend(w http.ResponseWriter, r *http.Request, s *Session) (*Session, error) {
	now := m.Now().Truncate(time.Second).UTC()
	s, err := m.renew(s, func(current *Session) bool { return current.UpdatedAt.Before(now) })
	if err != nil {
		return nil, err
	}
	return s, m.handOut(w, r, s)
}

// due says whether s should be written anew: its window has moved on by
// update_age and can still grow, or the written time of the last activity falls
// behind what the idle timeout needs.
func (m *Manager) due(s *Session, now time.Time) bool {
	if m.IdleTimeout > 0 && now.Sub(s.LastSeenAt) >= m.IdleTimeout/10 {
		return true
	}
	slideAt := s.ExpiresAt.Add(m.UpdateAge - m.MaxAge)
	hard := s.hardEnd()
	canGrow := hard.IsZero() || s.ExpiresAt.Before(hard)
	return canGrow && !now.Before(slideAt)
}

// renew notes activity and slides the session of seen if it is due, once for
// all requests that find it so at the same time. It returns the session's
// state, or [ErrNone] if it has ended.
func (m *Manager) renew(seen *Session, due func(*Session) bool) (*Session, error) {
	e := seen.entry
	if old := e.current.Load(); m.live(e, old) && !due(old) {
		e.seen.Store(m.Now().Unix())
		return old, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.current.Load()
	if !m.live(e, old) {
		return nil, ErrNone
	}
	e.seen.Store(m.Now().Unix())
	if !due(old) {
		return old, nil
	}
	s := old.slid(m.Now().Truncate(time.Second).UTC(), m.MaxAge)
	value, err := m.seal(s)
	if err != nil {
		return nil, err
	}
	s.sealed, s.entry, s.renewed, s.known = value, e, true, old.known
	e.current.Store(s)
	m.cache.Set(value, e)
	m.metrics.renewed.Inc()
	return s, nil
}

// slid returns a copy of s whose window begins now.
func (s *Session) slid(now time.Time, maxAge time.Duration) *Session {
	c := s.clone()
	c.UpdatedAt, c.LastSeenAt, c.ExpiresAt = now, now, now.Add(maxAge)
	c.ExpiresAt = c.End()
	return c
}

// handOut writes the cookie of s to w if r shows an older one.
func (m *Manager) handOut(w http.ResponseWriter, r *http.Request, s *Session) error {
	if !s.renewed {
		return nil
	}
	if slices.Contains(m.Jar.Values(r), s.sealed) {
		if s.entry.release.Load() == 0 {
			s.entry.release.Store(m.Now().Add(keepOld).Unix())
		}
		return nil
	}
	if err := m.Jar.Set(w, r, s.sealed, m.cookieAge(s, m.Now())); err != nil {
		return fmt.Errorf("session: %w", err)
	}
	m.metrics.cookieBytes.Observe(float64(len(s.sealed)))
	return nil
}

// browserLimit is the longest that browsers keep a cookie (RFC 6265bis, section
// 5.5): 400 days.
const browserLimit = 400 * 24 * time.Hour

// cookieAge is how long a browser should keep the cookie of s: to its absolute
// end, because the cookie of a session that slid later than this answer arrived
// must still be there. Our clocks are inside.
func (m *Manager) cookieAge(s *Session, now time.Time) time.Duration {
	hard := s.hardEnd()
	if hard.IsZero() {
		return browserLimit
	}
	return min(hard.Sub(now), browserLimit)
}

// End ends whatever sessions r shows, here and for every copy of their cookies,
// and expires the cookie. It returns the one that counted, with the newest tokens
// that it had, nil if there was none; ending again is not an error.
func (m *Manager) End(w http.ResponseWriter, r *http.Request) *Session {
	m.Jar.Clear(w, r)
	all := m.lookupAll(r)
	for _, s := range all {
		m.end(s, "sign_out")
	}
	if len(all) == 0 {
		return nil
	}
	return all[0].entry.current.Load() // a refresh may have ended since the look
}

// end puts s on the list of ended sessions, until no copy of its cookie and no
// token minted for it can be valid any more: the absolute end, or without one
// the end of the longest window that a cookie of the session can have.
func (m *Manager) end(s *Session, cause string) {
	now := m.Now()
	until := s.AbsoluteExpiresAt
	if until.IsZero() {
		if until = now.Add(m.MaxAge); s.ExpiresAt.After(until) {
			until = s.ExpiresAt
		}
	}
	m.ended.add(s.ID, until, now)
	m.kept.drop(s.ID)
	m.metrics.ended.WithLabelValues(cause).Inc()
}

// Ended says whether the session called id was ended before its time, as far as
// this process knows. Who accepts a token must ask.
func (m *Manager) Ended(id string) bool { return m.ended.has(id) }

func (m *Manager) seal(s *Session) (string, error) {
	r, err := toRecord(s, m.Version)
	if err != nil {
		return "", err
	}
	return m.Sealer.Seal(m.Jar.Name(), r)
}
