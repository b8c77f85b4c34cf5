package session

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// A held is what this process knows of a session in the store. There is one for
// a session, however it is reached, so that whatever happens to the session is
// noted in one place.
type held struct {
	id     string
	userID string // whose it was when it was first read; "" of one that is not there
	token  Hash
	bytes  uint32 // about what it takes in memory

	current atomic.Pointer[Session]
	round   atomic.Uint64 // current can be relied on if it is holding.round
	dead    atomic.Bool   // the store does not have it any more
	read    atomic.Int64  // Unix milliseconds of when the store was asked last
	seen    atomic.Int64  // the same of the last activity, here or as the store knows
	written atomic.Int64  // the same of the last activity that the store knows of

	touching atomic.Bool  // a touch is under way
	touchAt  atomic.Int64 // Unix milliseconds; no touch before

	// Of those who keep a connection open, and ask again and again.
	asking atomic.Bool  // the store is being read for them
	overAt atomic.Int64 // Unix milliseconds of when they were first there after its end; 0: they were not

	mu       sync.Mutex // guards what follows, of refreshes
	flight   *flight
	retryAt  time.Time
	failures int
}

// see notes activity at now.
func (h *held) see(now time.Time) {
	at := now.UnixMilli()
	for was := h.seen.Load(); at > was && !h.seen.CompareAndSwap(was, at); was = h.seen.Load() {
	}
}

// maxNoted is how many changes are remembered for readings under way.
const maxNoted = 1 << 12

// holding knows all that is held. It leads from a session's and a person's id to
// it, and keeps no session alive: what the caches have dropped and no request or
// connection uses goes by itself.
//
// A reading of the store begins with [holding.mark] and ends with
// [holding.publish], which takes nothing that was changed in between: such a
// reading may be older than the change.
type holding struct {
	round atomic.Uint64 // one more whenever everything may have changed

	mu     sync.Mutex
	byID   map[string]weak.Pointer[held]
	byUser map[string][]string // ids of sessions
	asking map[question]*answer
	noted  [maxNoted]string // the ids that changed last, of sessions and people, as a ring
	seq    uint64           // how many were noted
}

func newHolding() *holding {
	return &holding{byID: map[string]weak.Pointer[held]{}, byUser: map[string][]string{}, asking: map[question]*answer{}}
}

// A mark says when a reading began, in changes.
type mark struct{ round, seq uint64 }

// mark returns where a reading that begins now stands.
func (g *holding) mark() mark {
	g.mu.Lock()
	defer g.mu.Unlock()
	return mark{g.round.Load(), g.seq}
}

// raced says whether one of ids, or everything, may have changed since. The
// mutex is held.
func (g *holding) raced(since mark, ids ...string) bool {
	if g.round.Load() != since.round || g.seq-since.seq > maxNoted {
		return true
	}
	for i := since.seq; i < g.seq; i++ {
		if slices.Contains(ids, g.noted[i%maxNoted]) {
			return true
		}
	}
	return false
}

// knows says whether what h says can be relied on, as long as changes are told.
func (g *holding) knows(h *held) bool {
	round := h.round.Load()
	return round != 0 && round == g.round.Load()+1
}

// held returns what is held for id, or nil.
func (g *holding) held(id string) *held {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byID[id].Value()
}

// size returns how many sessions are held.
func (g *holding) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byID)
}

// forget drops what c names: it is read again before it counts.
func (g *holding) forget(c Change) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.All {
		g.round.Add(1)
		return
	}
	for _, id := range c.Sessions {
		g.note(id)
		g.drop(id)
	}
	for _, userID := range c.Users {
		g.note(userID)
		for _, id := range g.byUser[userID] {
			g.drop(id)
		}
	}
}

// note remembers a change for readings under way. The mutex is held.
func (g *holding) note(id string) {
	g.noted[g.seq%maxNoted] = id
	g.seq++
}

// drop makes what is held for id unreliable. The mutex is held.
func (g *holding) drop(id string) {
	if h := g.byID[id].Value(); h != nil {
		h.round.Store(0)
	}
}

// kill notes that the sessions called ids have ended.
func (g *holding) kill(ids ...string) {
	g.forget(Change{Sessions: ids})
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		if h := g.byID[id].Value(); h != nil {
			h.dead.Store(true)
		}
	}
}

// publish makes what was read, row and the session s of it, what is known of the
// session from now on, and returns it; not if something changed since. Where the
// session is as it was, the state that is known stays, and what was computed from
// it.
func (g *holding) publish(row *Row, s *Session, since mark) (*held, *Session, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.raced(since, row.ID, row.User.ID) {
		return nil, nil, false
	}
	h := g.byID[row.ID].Value()
	if h == nil || h.userID == "" { // not held, or held as one that is not there
		h = g.add(row, s)
	} else if h.token != row.Token { // somebody changed it: who came with the old one is out
		h.dead.Store(true)
		h.round.Store(0)
		h = g.add(row, s)
	} else if was := h.current.Load(); was.User.ID != row.User.ID { // somebody gave it away
		g.index(h, row.User.ID)
	}
	if was := h.current.Load(); was != nil && was.same(s) {
		s = was
	} else {
		s.held = h
		h.current.Store(s)
	}
	h.written.Store(row.LastSeenAt.UnixMilli())
	h.see(row.LastSeenAt)
	h.dead.Store(false)
	h.round.Store(since.round + 1)
	return h, s, true
}

// add begins to hold the session of row. The mutex is held.
func (g *holding) add(row *Row, s *Session) *held {
	h := &held{id: row.ID, userID: row.User.ID, token: row.Token, bytes: s.weight()}
	g.byID[h.id] = weak.Make(h)
	g.index(h, h.userID)
	return h
}

// index lets h be found by a person's id, until nobody holds it. The mutex is
// held.
func (g *holding) index(h *held, userID string) {
	if !slices.Contains(g.byUser[userID], h.id) {
		g.byUser[userID] = append(g.byUser[userID], h.id)
	}
	runtime.AddCleanup(h, g.gone, [2]string{h.id, userID})
}

// bury holds that there is no session called id, and returns that.
func (g *holding) bury(id string) *held {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.byID[id].Value()
	if h == nil {
		h = &held{id: id}
		g.byID[id] = weak.Make(h)
		runtime.AddCleanup(h, g.gone, [2]string{id, ""})
	}
	h.dead.Store(true)
	return h
}

// gone forgets a session that nobody holds any more, by its id and its person's.
func (g *holding) gone(ids [2]string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id, userID := ids[0], ids[1]
	if g.byID[id].Value() != nil {
		return // it was read again meanwhile
	}
	delete(g.byID, id)
	left := slices.DeleteFunc(g.byUser[userID], func(other string) bool { return other == id })
	if len(left) == 0 {
		delete(g.byUser, userID)
		return
	}
	g.byUser[userID] = left
}

// adopt takes over the clocks c, which the store answered, and says whether the
// session has slid.
func (g *holding) adopt(h *held, c Clocks, since mark) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := h.current.Load()
	if g.raced(since, h.id, was.User.ID) {
		return false
	}
	h.written.Store(c.LastSeenAt.UnixMilli())
	h.see(c.LastSeenAt)
	if was.ExpiresAt.Equal(c.ExpiresAt) && was.UpdatedAt.Equal(c.UpdatedAt) {
		return false
	}
	s := was.clone()
	s.held, s.LastSeenAt, s.UpdatedAt, s.ExpiresAt = h, c.LastSeenAt, c.UpdatedAt, c.ExpiresAt
	h.current.Store(s)
	return c.ExpiresAt.After(was.ExpiresAt)
}
