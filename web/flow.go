package web

import (
	"cmp"
	"container/list"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"authproxy/cookie"
	"authproxy/oauth"
)

const (
	// flowCookie begins the name of each sign-in's own cookie; its id follows.
	flowCookie = "authproxy_flow_"
	// signedOutCookie remembers that somebody signed out here, so that the next
	// sign-in asks for the account: the provider would sign the same person
	// straight back in.
	signedOutCookie = "authproxy_signed_out"
	// signedInCookie counts sign-ins that ended a moment ago, to see a loop.
	signedInCookie = "authproxy_signed_in"
	// returnedCookie counts how often somebody who is signed in was sent back, to
	// see a loop.
	returnedCookie = "authproxy_returned"

	// flowAge is how long a sign-in may take.
	flowAge = 15 * time.Minute
	// maxFlows is how many sign-ins of one browser may be under way: each is a
	// cookie, and a header of many is refused by servers in front of us.
	maxFlows = 5
	// maxOpened bounds the flow cookies of one request that are looked into.
	maxOpened = 32
	// maxExpired bounds the cookies that one answer expires: each is a header.
	maxExpired = 16
	// signedOutAge is how long signedOutCookie lasts.
	signedOutAge = 24 * time.Hour
	// loopWindow is the time in which maxLoops sign-ins are too many.
	loopWindow = 30 * time.Second
	maxLoops   = 3
	// stateName is what a state is sealed for.
	stateName = "state"
	// maxUsed bounds the list of used flows.
	maxUsed = 10_000
)

// A flow is what its cookie remembers of a sign-in under way, or of a hand-off.
type flow struct {
	ID       string      `cbor:"1,keyasint"`
	Provider string      `cbor:"2,keyasint,omitempty"`
	Login    oauth.Login `cbor:"3,keyasint,omitzero"`
	Begun    int64       `cbor:"4,keyasint"`           // Unix time
	Nonce    string      `cbor:"5,keyasint,omitempty"` // of a hand-off
}

// A state is what travels to the provider and back. Whoever holds it cannot
// read or change it, but can show it in another browser: it proves nothing
// without its flow's cookie.
type state struct {
	ID       string `cbor:"1,keyasint"`
	Provider string `cbor:"2,keyasint"`
	ReturnTo string `cbor:"3,keyasint"`
	Attempt  int    `cbor:"4,keyasint"`
	Prompt   string `cbor:"5,keyasint,omitempty"`
	// Ask is what the sign-in must show, nil for nothing.
	Ask *sealedAsk `cbor:"6,keyasint,omitempty"`
}

// flows keeps the cookies of sign-ins or of hand-offs under way.
type flows struct {
	base    string // name of flow cookies, without prefix and id
	sealer  *cookie.Sealer
	options cookie.Options
	prefix  string // full name of flow cookies, without the id
	now     func() time.Time
	used    *usedFlows
}

func newFlows(base string, sealer *cookie.Sealer, options cookie.Options, now func() time.Time) (*flows, error) {
	// A sign-in runs on one host and comes back by a top-level navigation.
	options.Domain, options.SameSite, options.Prefix = "", http.SameSiteLaxMode, cookie.PrefixAuto
	prefix, err := options.FullName(base)
	if err != nil {
		return nil, err
	}
	return &flows{base: base, sealer: sealer, options: options, prefix: prefix, now: now, used: newUsedFlows()}, nil
}

// OwnsCookie says whether name is that of a cookie that this package sets.
func OwnsCookie(name string) bool {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "__Host-"), "__Secure-")
	return strings.HasPrefix(name, flowCookie) || strings.HasPrefix(name, handoffCookie) ||
		name == signedOutCookie || name == signedInCookie || name == returnedCookie
}

// jar returns the jar of the cookie that is called base.
func (f *flows) jar(base string) *cookie.Jar {
	jar, err := cookie.NewJar(base, f.options)
	if err != nil {
		panic(err) // newFlows has made a name with the same options
	}
	return jar
}

// set seals v into the cookie base for maxAge.
func (f *flows) set(w http.ResponseWriter, r *http.Request, base string, v any, maxAge time.Duration) error {
	jar := f.jar(base)
	value, err := f.sealer.Seal(jar.Name(), v)
	if err != nil {
		return err
	}
	return jar.Set(w, r, value, maxAge)
}

// get opens the cookie base into v, a pointer.
func (f *flows) get(r *http.Request, base string, v any) bool {
	jar := f.jar(base)
	for _, value := range jar.Values(r) {
		if f.sealer.Open(jar.Name(), value, v) == nil {
			return true
		}
	}
	return false
}

// clear expires the cookie base if the browser shows it.
func (f *flows) clear(w http.ResponseWriter, r *http.Request, base string) {
	if len(f.jar(base).Values(r)) > 0 {
		f.expire(w, base)
	}
}

// expire takes the cookie base from the browser. These cookies are never split,
// so one Set-Cookie does: [cookie.Jar.Clear] writes five, and ingresses that
// read an answer's header into 4 KB refuse a longer one.
func (f *flows) expire(w http.ResponseWriter, base string) {
	http.SetCookie(w, &http.Cookie{
		Name: f.jar(base).Name(), MaxAge: -1, Path: "/", Secure: f.options.Secure, HttpOnly: true, SameSite: f.options.SameSite,
	})
}

// begin writes the cookie of a new flow and makes room for it.
func (f *flows) begin(w http.ResponseWriter, r *http.Request, fl flow) error {
	fl.Begun = f.now().Unix()
	f.evict(w, r)
	return f.set(w, r, f.base+fl.ID, fl, flowAge)
}

// evict expires the browser's flow cookies that are over or do not open, and of
// the others the oldest, until there is room for one more.
func (f *flows) evict(w http.ResponseWriter, r *http.Request) {
	var alive []flow
	var over []string
	opened := 0
	for name := range cookie.Names(r.Header) {
		id, ok := strings.CutPrefix(name, f.prefix)
		if !ok {
			continue
		}
		if opened++; opened > maxOpened {
			break // the next sign-in goes on
		}
		if fl, ok := f.read(r, id); ok {
			alive = append(alive, fl)
		} else if isFlowID(id) {
			over = append(over, id)
		}
	}
	// Within a second, browsers send the older cookie first (RFC 6265, section
	// 5.4).
	slices.SortStableFunc(alive, func(a, b flow) int { return cmp.Compare(a.Begun, b.Begun) })
	for ; len(alive) >= maxFlows; alive = alive[1:] {
		over = append(over, alive[0].ID)
	}
	for _, id := range over[:min(len(over), maxExpired)] {
		f.expire(w, f.base+id)
	}
}

// read returns the flow called id if its cookie came back in time.
func (f *flows) read(r *http.Request, id string) (flow, bool) {
	var fl flow
	if !isFlowID(id) || !f.get(r, f.base+id, &fl) {
		return flow{}, false
	}
	age := f.now().Sub(time.Unix(fl.Begun, 0))
	return fl, fl.ID == id && age < flowAge
}

// take returns the flow called id once, and expires its cookie: the answer to a
// sign-in that was used is worth nothing, even to who kept a copy of all its
// cookies.
func (f *flows) take(w http.ResponseWriter, r *http.Request, id string) (flow, bool) {
	fl, ok := f.read(r, id)
	if !ok {
		return flow{}, false
	}
	f.expire(w, f.base+id)
	return fl, f.used.first(id, f.now())
}

// isFlowID says whether id has the form of rand.Text: it becomes part of a
// cookie's name.
func isFlowID(id string) bool {
	for i := range len(id) {
		if c := id[i]; !(c >= 'A' && c <= 'Z' || c >= '2' && c <= '7') {
			return false
		}
	}
	return len(id) >= 16 && len(id) <= 32
}

// usedFlows remembers what was used in the last minutes and is good for one time:
// flows, tickets, logout tokens. It is bounded; a flow that it forgets too early
// is still protected by the code, which the provider takes once.
type usedFlows struct {
	mu    sync.Mutex
	seen  map[string]bool
	order *list.List // of usedFlow, the oldest first
}

type usedFlow struct {
	id string
	at time.Time
}

func newUsedFlows() *usedFlows {
	return &usedFlows{seen: map[string]bool{}, order: list.New()}
}

// first says whether id is used for the first time, and remembers it.
func (u *usedFlows) first(id string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for e := u.order.Front(); e != nil; e = u.order.Front() {
		old := e.Value.(usedFlow)
		if now.Sub(old.at) < flowAge && u.order.Len() < maxUsed {
			break
		}
		u.order.Remove(e)
		delete(u.seen, old.id)
	}
	if u.seen[id] {
		return false
	}
	u.seen[id] = true
	u.order.PushBack(usedFlow{id, now})
	return true
}

// forget makes id good for another time: nothing has come of the first.
func (u *usedFlows) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for e := u.order.Back(); e != nil; e = e.Prev() {
		if e.Value.(usedFlow).id == id {
			u.order.Remove(e)
			delete(u.seen, id)
			return
		}
	}
}
