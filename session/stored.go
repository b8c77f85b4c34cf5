package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
)

// stored is the database strategy: the cookie seals an opaque token, and what it
// leads to is in a store. Sessions that were read are held in memory, for as long
// as the store keeps telling what has changed.
type stored struct {
	Config
	metrics *metrics
	db      *storeMetrics
	*holding
	*channel
	cookies *otter.Cache[string, *held] // by cookie value
	ids     *otter.Cache[string, *held] // by id, for tokens that were minted
	audit   *auditQueue

	ctx     context.Context // ends with close
	cancel  context.CancelFunc
	slots   chan struct{} // bounds what happens in the background
	touches chan struct{} // and how much of the store it may hold to write
	life    sync.Mutex    // guards closed, and background's Add against Wait
	closed  bool
	work    sync.WaitGroup
}

const (
	// tokenSize is the size of a browser's token in bytes.
	tokenSize = 32
	// maxBackground bounds the readings that nobody waits for, and maxTouches the
	// touches: these are writes, and wait while somebody else has locked the rows,
	// so that they get less than half of a store's connections.
	maxBackground, maxTouches = 32, 4
	// maxIDs bounds the sessions held because of a token that was minted for
	// them.
	maxIDs = 1 << 14
)

// A tokenCookie is what a cookie holds. The numbers are the format.
type tokenCookie struct {
	Token   []byte `cbor:"1,keyasint"`
	Version int    `cbor:"2,keyasint"`
}

// tokenName is what a tokenCookie is sealed for: not what a sealed session is,
// so that none is ever taken for the other.
func (t *stored) tokenName() string { return t.Jar.Name() + " token" }

// newStored returns the database strategy of c, which is complete.
func newStored(c Config, m *metrics) (*stored, error) {
	t := &stored{
		Config: c, metrics: m, holding: newHolding(), channel: newChannel(c.Now()),
		audit: newAuditQueue(), slots: make(chan struct{}, maxBackground), touches: make(chan struct{}, maxTouches),
	}
	least := uint32(0)
	if c.CacheEntries > 0 {
		least = uint32(min(c.CacheBytes/uint64(c.CacheEntries), 1<<31))
	}
	var err error
	if t.cookies, err = otter.New(&otter.Options[string, *held]{
		MaximumWeight: c.CacheBytes,
		Weigher:       func(value string, h *held) uint32 { return max(least, uint32(2*len(value))+h.bytes) },
	}); err != nil {
		return nil, fmt.Errorf("session: cache: %w", err)
	}
	if t.ids, err = otter.New(&otter.Options[string, *held]{MaximumSize: maxIDs}); err != nil {
		return nil, fmt.Errorf("session: cache: %w", err)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.db = newStoreMetrics(c.Registerer, t)
	return t, nil
}

// close ends what happens in the background.
func (t *stored) close() {
	t.life.Lock()
	t.closed = true
	t.life.Unlock()
	t.cancel()
	t.work.Wait()
	t.flush(context.Background())
	t.cookies.StopAllGoroutines()
	t.ids.StopAllGoroutines()
}

// background runs f unless all slots are taken, and says whether it does.
func (t *stored) background(slots chan struct{}, f func(ctx context.Context)) bool {
	t.life.Lock()
	defer t.life.Unlock()
	if t.closed {
		return false
	}
	select {
	case slots <- struct{}{}:
	default:
		return false
	}
	t.work.Go(func() {
		defer func() { <-slots }()
		f(t.ctx)
	})
	return true
}

// waitedFor runs f, for which somebody waits, however much is under way; not
// after close, which waits for it.
func (t *stored) waitedFor(f func()) bool {
	t.life.Lock()
	defer t.life.Unlock()
	if !t.closed {
		t.work.Go(f)
	}
	return !t.closed
}

// errClosed is what is asked for after close.
var errClosed = fmt.Errorf("%w: closed", ErrUnavailable)

func (t *stored) start(w http.ResponseWriter, r *http.Request, s *Session) (bool, error) {
	ctx, cancel := context.WithTimeout(r.Context(), t.StoreTimeout)
	defer cancel()
	replaced, err := t.shown(ctx, r)
	if err != nil {
		return false, err
	}
	now := t.Now().Truncate(time.Millisecond).UTC()
	since := t.mark() // before the person is judged: a ban that is told from now on counts
	if err := t.mayStart(ctx, s.User.ID, now); err != nil {
		return false, err
	}
	t.begin(s, now)
	token := make([]byte, tokenSize)
	rand.Read(token)
	value, err := t.Sealer.Seal(t.tokenName(), tokenCookie{token, t.Version})
	if err != nil {
		return false, err
	}
	row, err := t.row(s, sha256.Sum256(token))
	if err != nil {
		return false, err
	}
	if err := t.call("create", func() error { return t.Store.Create(ctx, row, idsOf(replaced)) }); err != nil {
		return false, unavailable(ctx, err)
	}
	s.User.Role = row.User.Role
	if err := t.Jar.Set(w, r, value, t.cookieAge(s, now)); err != nil {
		return false, fmt.Errorf("session: %w", err)
	}
	t.kill(idsOf(replaced)...)
	t.metrics.ended.WithLabelValues("replaced").Add(float64(len(replaced)))
	if h, _, ok := t.publish(row, s.clone(), since); ok {
		t.cookies.Set(value, h)
	}
	t.metrics.cookieBytes.Observe(float64(len(value)))
	return false, nil
}

// mayStart says whether the person may sign in at all.
func (t *stored) mayStart(ctx context.Context, userID string, now time.Time) error {
	var accounts []Account
	if err := t.patiently(ctx, "users", func(ctx context.Context) (err error) {
		accounts, err = t.Store.Users(ctx, userID, "")
		return err
	}); err != nil {
		return err
	}
	for _, a := range accounts {
		if a.Banned && (a.BanExpires.IsZero() || now.Before(a.BanExpires)) {
			return ErrBanned
		}
	}
	return nil
}

func idsOf(all []*Session) []string {
	ids := make([]string, len(all))
	for i, s := range all {
		ids[i] = s.ID
	}
	return ids
}

func (t *stored) lookup(r *http.Request) (*Session, error) {
	now, failure := t.Now(), ErrNone
	for _, value := range t.Jar.Values(r) {
		s, err := t.check(r.Context(), value, now)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, ErrNone) {
			failure = err // another cookie of the name may still do
		}
	}
	return nil, failure
}

// check returns the live session that a cookie's value leads to.
func (t *stored) check(ctx context.Context, value string, now time.Time) (*Session, error) {
	h, known := t.cookies.GetIfPresent(value)
	if known {
		if s := t.current(h, now); s != nil {
			t.metrics.cacheHits.Inc()
			return s, nil
		}
	}
	t.metrics.cacheMisses.Inc()
	if known && t.recentlyGone(h, now) {
		return nil, ErrNone
	}
	if known {
		_, s, err := t.ask(ctx, question{token: h.token}, h)
		return s, err
	}
	token, ok := t.openToken(value)
	if !ok {
		return nil, ErrNone
	}
	h, s, err := t.ask(ctx, question{token: token}, nil)
	if err == nil {
		t.cookies.Set(strings.Clone(value), h)
	}
	return s, err
}

// recentlyGone says whether the store did not have h a moment ago. It will not
// come back; but who restores a backup should not have to restart us.
func (t *stored) recentlyGone(h *held, now time.Time) bool {
	return h.dead.Load() && h.readAround(now)
}

// openCookie returns what value seals.
func (t *stored) openCookie(value string) (c tokenCookie, ok bool) {
	err := t.Sealer.Open(t.tokenName(), value, &c)
	return c, err == nil && c.Version == t.Version && len(c.Token) == tokenSize
}

// openToken returns the hash of the token that value seals.
func (t *stored) openToken(value string) (Hash, bool) {
	c, ok := t.openCookie(value)
	if !ok {
		return Hash{}, false
	}
	return sha256.Sum256(c.Token), true
}

// current returns the session of h if what is known of it can be relied on and
// says that it lives. It is asked on every request.
func (t *stored) current(h *held, now time.Time) *Session {
	if t.blind(now) {
		t.db.bypasses.Inc()
		return nil
	}
	if !t.knows(h) {
		return nil
	}
	if s := h.current.Load(); now.Before(t.ends(h, s)) {
		return s
	}
	return nil
}

// ends returns when s, of h, is over unless something happens before.
func (t *stored) ends(h *held, s *Session) time.Time {
	end := s.End()
	if t.IdleTimeout > 0 {
		if idle := time.UnixMilli(h.seen.Load()).Add(t.IdleTimeout); idle.Before(end) {
			return idle
		}
	}
	return end
}

func (t *stored) endOf(s *Session) time.Time { return t.ends(s.held, s) }

// shown returns all sessions that r's cookies lead to, live or not.
func (t *stored) shown(ctx context.Context, r *http.Request) ([]*Session, error) {
	var all []*Session
	for _, value := range t.Jar.Values(r) {
		token, ok := t.openToken(value)
		if !ok {
			continue
		}
		var row *Row
		err := t.patiently(ctx, "find", func(ctx context.Context) (err error) {
			row, err = t.Store.Find(ctx, token)
			return err
		})
		if errors.Is(err, ErrNone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, t.session(row))
	}
	return all, nil
}

func (t *stored) byID(ctx context.Context, id string) (*Session, error) {
	now := t.Now()
	if h, known := t.ids.GetIfPresent(id); known {
		if s := t.current(h, now); s != nil {
			t.metrics.cacheHits.Inc()
			return s, nil
		}
		if t.recentlyGone(h, now) {
			return nil, ErrNone
		}
	}
	t.metrics.cacheMisses.Inc()
	h, s, err := t.ask(ctx, question{id: id}, t.held(id))
	switch {
	case err == nil:
		t.ids.Set(strings.Clone(id), h)
	case errors.Is(err, ErrNone):
		if h = t.held(id); h == nil {
			h = t.bury(id)
		}
		h.read.Store(now.UnixMilli())
		t.ids.Set(strings.Clone(id), h)
	}
	return s, err
}

func (t *stored) touch(_ http.ResponseWriter, _ *http.Request, s *Session) (*Session, error) {
	h, now := s.held, t.Now()
	if h.dead.Load() {
		return nil, ErrNone
	}
	h.see(now)
	current := h.current.Load()
	if t.due(h, current, now) && h.touching.CompareAndSwap(false, true) {
		if !t.background(t.touches, func(ctx context.Context) { t.write(ctx, h, now) }) {
			h.touching.Store(false) // the next request tries
		}
	}
	return current, nil
}

// touchEvery is how much time passes at least between two writings of the last
// activity.
func (t *stored) touchEvery() time.Duration {
	if t.IdleTimeout > 0 {
		return min(time.Minute, t.IdleTimeout/10)
	}
	return time.Minute
}

// due says whether the store should hear of activity: the written time falls
// behind, or the window has moved on by update_age and can still grow.
func (t *stored) due(h *held, s *Session, now time.Time) bool {
	at := now.UnixMilli()
	if at < h.touchAt.Load() {
		return false
	}
	if at-h.written.Load() >= t.touchEvery().Milliseconds() {
		return true
	}
	canGrow := s.AbsoluteExpiresAt.IsZero() || s.ExpiresAt.Before(s.AbsoluteExpiresAt)
	return canGrow && !now.Before(s.ExpiresAt.Add(t.UpdateAge-t.MaxAge))
}

// touchAgain is how long a session waits after a touch that failed.
const touchAgain = 5 * time.Second

// write touches the session of h, which was active at now.
func (t *stored) write(ctx context.Context, h *held, now time.Time) {
	defer h.touching.Store(false)
	ctx, cancel := context.WithTimeout(ctx, t.StoreTimeout)
	defer cancel()
	now = now.Truncate(time.Millisecond).UTC()
	_, err := t.move(ctx, h, Touch{
		Now: now, SeenBefore: now.Add(-t.touchEvery()),
		SlideIfBy: now.Add(t.MaxAge - t.UpdateAge), SlideTo: now.Add(t.MaxAge),
	})
	if err != nil && !errors.Is(err, ErrNone) {
		h.touchAt.Store(now.Add(touchAgain).UnixMilli())
		t.Log.WarnContext(ctx, "activity of a session could not be written down; it goes on", "session", h.id, "err", err)
	}
}

// move changes the clocks of h in the store, and here.
func (t *stored) move(ctx context.Context, h *held, touch Touch) (Clocks, error) {
	since := t.mark()
	var c Clocks
	err := t.patiently(ctx, "touch", func(ctx context.Context) (err error) {
		c, err = t.Store.Touch(ctx, h.id, touch)
		return err
	})
	if errors.Is(err, ErrNone) {
		t.kill(h.id)
	}
	if err == nil && t.adopt(h, c, since) {
		t.metrics.renewed.Inc()
	}
	return c, err
}

func (t *stored) extend(_ http.ResponseWriter, r *http.Request, s *Session) (*Session, error) {
	ctx, cancel := context.WithTimeout(r.Context(), t.StoreTimeout)
	defer cancel()
	now := t.Now().Truncate(time.Millisecond).UTC()
	s.held.see(now)
	until := now.Add(t.MaxAge)
	c, err := t.move(ctx, s.held, Touch{Now: now, SeenBefore: now, SlideIfBy: until, SlideTo: until})
	if err != nil {
		return nil, err
	}
	extended := s.held.current.Load().clone()
	extended.held = s.held
	extended.LastSeenAt, extended.UpdatedAt, extended.ExpiresAt = c.LastSeenAt, c.UpdatedAt, c.ExpiresAt
	if !now.Before(t.ends(s.held, extended)) {
		return nil, ErrNone
	}
	return extended, nil
}

func (t *stored) signOut(w http.ResponseWriter, r *http.Request) (*Session, error) {
	ctx, cancel := context.WithTimeout(r.Context(), t.StoreTimeout)
	defer cancel()
	all, err := t.shown(ctx, r)
	if err != nil {
		return nil, err
	}
	var counted *Session
	for _, s := range all {
		ended, err := t.remove(ctx, Selection{ID: s.ID}, s.ID)
		if err != nil {
			return nil, err
		}
		t.metrics.ended.WithLabelValues("sign_out").Add(float64(len(ended)))
		if counted == nil && len(ended) > 0 {
			counted = s
		}
	}
	t.Jar.Clear(w, r)
	return counted, nil
}
