package session

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// sealed is the cookie strategy: a session is what its cookie says, and what this
// process knows of it besides.
type sealed struct {
	Config
	metrics *metrics
	cache   *otter.Cache[string, *entry]
	ended   *ended
	kept    *kept
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

// newSealed returns the cookie strategy of c, which is complete.
func newSealed(c Config, metrics *metrics) (*sealed, error) {
	cache, err := otter.New(&otter.Options[string, *entry]{
		MaximumWeight: c.CacheBytes,
		Weigher:       func(value string, _ *entry) uint32 { return uint32(len(value)*2 + entryOverhead) },
	})
	if err != nil {
		return nil, fmt.Errorf("session: cache: %w", err)
	}
	return &sealed{Config: c, cache: cache, ended: newEnded(maxEnded), kept: newKept(maxKept), metrics: metrics}, nil
}

func (m *sealed) close() { m.cache.StopAllGoroutines() }

func (m *sealed) start(w http.ResponseWriter, r *http.Request, s *Session) (dropped bool, err error) {
	now := m.Now().Truncate(time.Second).UTC()
	m.begin(s, now)
	s.known = true
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
	m.metrics.cookieBytes.Observe(float64(len(value)))
	return dropped, nil
}

func (m *sealed) lookup(r *http.Request) (*Session, error) {
	for _, value := range m.Jar.Values(r) {
		if s := m.open(value); s != nil {
			return s, nil
		}
	}
	return nil, ErrNone
}

// lookupAll returns all live sessions that r shows: a browser can hold several,
// under cookies of one name.
func (m *sealed) lookupAll(r *http.Request) []*Session {
	var all []*Session
	for _, value := range m.Jar.Values(r) {
		if s := m.open(value); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// open returns the live session that value leads to, nil if there is none.
func (m *sealed) open(value string) *Session {
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
func (m *sealed) find(value string) *entry {
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
	s.unreadEnds = s.unreadEnd()
	m.ended.pardon(s.ID, s.generation)
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
func (m *sealed) remember(value string, s *Session) *entry {
	e := &entry{}
	s.sealed, s.entry = value, e
	e.current.Store(s)
	e.seen.Store(s.LastSeenAt.Unix())
	e, _ = m.cache.SetIfAbsent(value, e)
	return e
}

// live says whether s is valid now: not ended, and before each of its clocks.
func (m *sealed) live(e *entry, s *Session) bool {
	return m.Now().Before(m.endsAt(e, s)) && !m.over(s.ID, s.generation)
}

// over says whether a session, as it was with the generation given, has ended
// before its time.
func (m *sealed) over(id string, generation int) bool {
	from, listed := m.ended.endOf(id, generation)
	return listed && !m.Now().Before(from)
}

func (m *sealed) endOf(s *Session) time.Time {
	doubted, _ := m.ended.endOf(s.ID, s.generation)
	return earliest(m.endsAt(s.entry, s), doubted)
}

func (m *sealed) endsAt(e *entry, s *Session) time.Time {
	end := s.End()
	if m.IdleTimeout > 0 {
		if idle := time.Unix(e.seen.Load(), 0).Add(m.IdleTimeout); idle.Before(end) {
			return idle
		}
	}
	return end
}

func (m *sealed) alive(s *Session) bool {
	current := s.entry.current.Load()
	if m.live(s.entry, current) {
		return true
	}
	// The entry may have left the cache, and another one slid in its place.
	return m.open(current.sealed) != nil
}

func (m *sealed) touch(w http.ResponseWriter, r *http.Request, s *Session) (*Session, error) {
	now := m.Now().UTC()
	s, err := m.renew(s, func(current *Session) bool { return m.due(current, now) })
	if err != nil {
		return nil, err
	}
	return s, m.handOut(w, r, s)
}

func (m *sealed) extend(w http.ResponseWriter, r *http.Request, s *Session) (*Session, error) {
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
func (m *sealed) due(s *Session, now time.Time) bool {
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
func (m *sealed) renew(seen *Session, due func(*Session) bool) (*Session, error) {
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
func (m *sealed) handOut(w http.ResponseWriter, r *http.Request, s *Session) error {
	if !s.renewed || m.doubted(s) {
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

func (m *sealed) signOut(w http.ResponseWriter, r *http.Request) (*Session, error) {
	m.Jar.Clear(w, r)
	all := m.lookupAll(r)
	for _, s := range all {
		m.end(s, "sign_out")
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all[0].entry.current.Load(), nil // a refresh may have ended since the look
}

// end puts s on the list of ended sessions.
func (m *sealed) end(s *Session, cause string) {
	m.list(s, allStates, time.Time{})
	m.kept.drop(s.ID)
	m.metrics.ended.WithLabelValues(cause).Inc()
}

// list notes that the states of s up to a generation are over from the time
// given, until no copy of its cookie and no token minted for it can be valid any
// more: the absolute end, or without one the end of the longest window that a
// cookie of the session can have.
func (m *sealed) list(s *Session, generation int, from time.Time) {
	now := m.Now()
	until := s.AbsoluteExpiresAt
	if until.IsZero() {
		until = latest(s.ExpiresAt, now.Add(m.MaxAge))
	}
	m.ended.add(endedItem{id: s.ID, end: until, generation: generation, from: from}, now)
}

// byID knows no session by its id, only whether it was ended.
func (m *sealed) byID(_ context.Context, id string) (*Session, error) {
	if m.over(id, 0) {
		return nil, ErrNone
	}
	return nil, nil
}

func (m *sealed) aliveID(id string) bool { return !m.over(id, 0) }

func (m *sealed) seal(s *Session) (string, error) {
	r, err := toRecord(s, m.Version)
	if err != nil {
		return "", err
	}
	return m.Sealer.Seal(m.Jar.Name(), r)
}
