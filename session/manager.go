package session

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"authproxy/cookie"
)

// ErrNone is returned by [Manager.Lookup] for a request that shows no live
// session: no cookie, one that does not open, a session that is over or was
// ended. The answer is the same for all of them: sign in.
var ErrNone = errors.New("session: none")

// ErrBanned is returned by [Manager.Start] for a person whom an administrator
// refuses.
var ErrBanned = errors.New("session: the person is banned")

// ErrNoStore is returned for what needs a store where there is none.
var ErrNoStore = errors.New("session: this needs a session store; session.store is cookie")

// Config is what a [Manager] needs.
type Config struct {
	Sealer *cookie.Sealer
	Jar    *cookie.Jar

	// Store keeps the sessions; the cookie then holds an opaque token only. Nil
	// means that a session is sealed into its cookie.
	Store Store

	// MaxAge is the sliding window; UpdateAge is how much of it must have
	// passed before it slides.
	MaxAge, UpdateAge time.Duration
	// AbsoluteMaxAge is the hard end, counted from sign-in; 0 means none.
	AbsoluteMaxAge time.Duration
	// IdleTimeout ends a session that long after its last activity; 0 means off.
	IdleTimeout time.Duration
	// Version voids the sessions of every other version.
	Version int
	// ForgetOnClose makes the browser drop its cookie when it is closed.
	ForgetOnClose bool

	// RefreshTokens asks the provider of s for new tokens with s.Tokens.Refresh,
	// in one attempt. It fails with [ErrRevoked] or [ErrBarred] where that is the
	// end of the session. Nil means that tokens are never refreshed.
	RefreshTokens func(ctx context.Context, s *Session) (*Refreshed, error)
	// DiscardTokens tells the provider that nobody wants the tokens of s any more:
	// they came for a session that had ended meanwhile. It may be called a second
	// time with the same ones. nil means that nobody is told.
	DiscardTokens func(s *Session)

	// ValidateInterval is how long what the provider said about a person counts:
	// the first request after it refreshes the tokens, which reads the person
	// again, however long the tokens are good for. 0 means that only tokens that
	// are due are refreshed. A session without a refresh token cannot be read
	// again, which is logged once for each provider.
	ValidateInterval time.Duration

	// CacheBytes bounds the memory for sessions at hand, about; 0 means 64 MiB.
	// CacheEntries bounds their number; 0 means that only the bytes count.
	CacheBytes   uint64
	CacheEntries int
	// StoreTimeout is how long a request waits for the Store, which may be
	// restarting or failing over meanwhile; 0 means 3 s.
	StoreTimeout time.Duration
	// AuditRetention is how long audit events stay in the Store; 0 means for
	// ever.
	AuditRetention time.Duration

	// Now is the clock; nil means [time.Now].
	Now func() time.Time
	// Log takes what goes wrong in the background; nil discards it.
	Log *slog.Logger
	// Registerer takes the metrics; nil means none are published.
	Registerer prometheus.Registerer
}

// A Manager starts, finds, slides and ends sessions. It is safe for concurrent
// use. Close it to stop what it does in the background.
type Manager struct {
	Config
	strategy
	metrics *metrics
	stored  *stored // nil without a store

	unread sync.Map // ids of the providers whose people cannot be read again, as was logged
}

// strategy is what depends on where sessions are kept. Its methods are those of
// [Manager] with the like names.
type strategy interface {
	start(w http.ResponseWriter, r *http.Request, s *Session) (dropped bool, err error)
	lookup(r *http.Request) (*Session, error)
	byID(ctx context.Context, id string) (*Session, error)
	alive(s *Session) bool
	aliveID(id string) bool
	endOf(s *Session) time.Time
	touch(w http.ResponseWriter, r *http.Request, s *Session) (*Session, error)
	extend(w http.ResponseWriter, r *http.Request, s *Session) (*Session, error)
	refresh(ctx context.Context, s *Session) (*Session, error)
	signOut(w http.ResponseWriter, r *http.Request) (*Session, error)
	copyFor(r *http.Request, s *Session, tokens bool) (any, error)
	accept(w http.ResponseWriter, r *http.Request, raw []byte) (*Session, error)
	close()
}

// New returns the Manager of c, or an error for clocks that contradict each
// other. With a Store it begins to watch it, and needs no answer for that.
func New(c Config) (*Manager, error) {
	switch {
	case c.Sealer == nil || c.Jar == nil:
		return nil, errors.New("session: a sealer and a jar are required")
	case c.MaxAge <= 0 || c.UpdateAge < 0 || c.AbsoluteMaxAge < 0 || c.IdleTimeout < 0 || c.ValidateInterval < 0:
		return nil, errors.New("session: max_age must be positive, the other clocks not negative")
	case c.UpdateAge >= c.MaxAge:
		return nil, errors.New("session: update_age must be less than max_age, or the session never slides")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.CacheBytes = cmp.Or(c.CacheBytes, 64<<20)
	c.StoreTimeout = cmp.Or(c.StoreTimeout, 3*time.Second)
	m := &Manager{Config: c, metrics: newMetrics(c.Registerer)}
	var err error
	if c.Store == nil {
		m.strategy, err = newSealed(c, m.metrics)
		return m, err
	}
	m.stored, err = newStored(c, m.metrics)
	m.strategy = m.stored
	return m, err
}

// Close stops what the Manager does in the background, and writes down the audit
// events that wait. The Store stays open.
func (m *Manager) Close() { m.close() }

// Start begins the session of s.User in the browser that sent r: it gives it an
// id of its own, whatever r brought along (a session seen before sign-in is
// never adopted, and one that lives is ended), sets the clocks, and writes the
// cookie to w. Without a store, tokens that do not fit the cookie are left out,
// the refresh token last; dropped says so. With one it fails with [ErrBanned],
// or with an error that wraps [ErrUnavailable].
func (m *Manager) Start(w http.ResponseWriter, r *http.Request, s *Session) (dropped bool, err error) {
	dropped, err = m.start(w, r, s)
	if err == nil {
		m.metrics.created.WithLabelValues(s.User.Provider).Inc()
		m.noteUnread(r.Context(), s)
	}
	return dropped, err
}

// noteUnread logs, once for each provider, that ValidateInterval does nothing for
// sessions like s.
func (m *Manager) noteUnread(ctx context.Context, s *Session) {
	if m.ValidateInterval == 0 || m.RefreshTokens == nil || s.Tokens.Refresh != "" {
		return
	}
	if _, logged := m.unread.LoadOrStore(s.User.Provider, nil); !logged {
		m.Log.WarnContext(ctx, "session.validate_interval has no effect without a refresh token; ask the provider for one, or shorten session.max_age", "provider", s.User.Provider)
	}
}

// begin gives s an id and clocks that begin at now.
func (c *Config) begin(s *Session, now time.Time) {
	s.ID = uuid.NewString()
	s.User.ID = cmp.Or(s.User.ID, UserID(s.User.Issuer, s.User.Subject))
	s.CreatedAt, s.UpdatedAt, s.LastSeenAt = now, now, now
	if c.AbsoluteMaxAge > 0 {
		s.AbsoluteExpiresAt = now.Add(c.AbsoluteMaxAge)
	}
	s.ExpiresAt = now.Add(c.MaxAge)
	s.ExpiresAt = s.End()
	s.UserAgent = trimUserAgent(s.UserAgent)
	s.refreshAt = s.Tokens.dueAt(c.Now())
}

// browserLimit is the longest that browsers keep a cookie (RFC 6265bis, section
// 5.5): 400 days.
const browserLimit = 400 * 24 * time.Hour

// cookieAge is how long a browser should keep the cookie of s: to its absolute
// end, because the cookie of a session that slid later than this answer arrived
// must still be there. Our clocks are inside.
func (c *Config) cookieAge(s *Session, now time.Time) time.Duration {
	if c.ForgetOnClose {
		return 0
	}
	hard := s.hardEnd()
	if hard.IsZero() {
		return browserLimit
	}
	return min(hard.Sub(now), browserLimit)
}

// Lookup returns the live session that r's cookie holds, or [ErrNone]. It is no
// activity. It does no I/O unless a store has to be asked, which is when the
// session is not at hand, when its clocks as they are known here would refuse
// it, and while the store does not tell what changes; an error that wraps
// [ErrUnavailable] says that the store could not be, and nothing of the session.
func (m *Manager) Lookup(r *http.Request) (*Session, error) { return m.lookup(r) }

// Live returns the session called id if it lives, else [ErrNone] or an error
// that wraps [ErrUnavailable]. Without a store sessions cannot be found so: it
// returns nil for one that was not ended in this process. Who accepts a token
// must ask.
func (m *Manager) Live(ctx context.Context, id string) (*Session, error) { return m.byID(ctx, id) }

// Alive says whether s, a session that [Manager.Lookup] returned at some time,
// lives now, as whatever happened to it since has left it: it may have slid, or
// was ended. It is no activity, and does no I/O: where a store has to be asked,
// that happens in the background, and a later call knows. Who keeps a connection
// open for a session asks again and again.
func (m *Manager) Alive(s *Session) bool { return m.alive(s) }

// AliveID is [Manager.Alive] for the session called id.
func (m *Manager) AliveID(id string) bool { return m.aliveID(id) }

// EndsAt returns when s ends unless something happens before: the earliest of
// its clocks, the idle timeout included.
func (m *Manager) EndsAt(s *Session) time.Time { return m.endOf(s) }

// Touch counts r as activity of s, a session that [Manager.Lookup] returned for
// it: it slides the session if that is due, and writes a renewed cookie to w if
// the browser does not have it yet. It returns the session as it is now, or
// [ErrNone] if the session has ended since it was looked up: an answer that
// takes its time must not bring it back. A store is told in the background.
func (m *Manager) Touch(w http.ResponseWriter, r *http.Request, s *Session) (*Session, error) {
	return m.touch(w, r, s)
}

// Extend is [Manager.Touch] for somebody who asks for it: the session slides
// now, due or not, and has slid when Extend returns.
func (m *Manager) Extend(w http.ResponseWriter, r *http.Request, s *Session) (*Session, error) {
	return m.extend(w, r, s)
}

// Refresh renews the provider's tokens of s, a session that [Manager.Lookup]
// returned, and reads the person again, if that is due, and returns the session
// as it is now. All requests of the session share one refresh, whichever of its
// cookies they show and, with a store, whichever replica they reach. They wait for
// it until ctx ends, or for some seconds; the refresh itself goes on then, because
// the provider takes a refresh token only once. Without a store, [Manager.Touch]
// hands out the new cookie.
//
// It returns [ErrNone] if the session has ended, here or at the provider. Without
// a store, one whose refresh token is not accepted, and may have been used by
// another process, goes on for some minutes, or until a newer cookie of it comes.
// Any other failure leaves the session as it was.
func (m *Manager) Refresh(ctx context.Context, s *Session) (*Session, error) {
	if m.RefreshTokens == nil || !m.refreshDue(s, m.Now()) {
		return s, nil
	}
	return m.refresh(ctx, s)
}

// End ends whatever sessions r shows, here and for every copy of their cookies,
// and expires the cookie. It returns the one that counted, with the newest tokens
// that it had, nil if there was none; ending again is not an error. With a store that does not answer it fails
// with an error that wraps [ErrUnavailable], and the browser keeps its cookie.
func (m *Manager) End(w http.ResponseWriter, r *http.Request) (*Session, error) {
	return m.signOut(w, r)
}
