// Package storetest holds what every [session.Store] must pass: [Run], one by
// one the promises of the interface, and [RunManagers], what two processes with
// one store promise their users.
//
// Both run their tests in parallel, each on an empty store of its own, and wait
// for what is told, never for time to pass.
package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"authproxy/session"
)

// patience is how long a test waits for what must come. It only bounds a test
// that fails.
const patience = 20 * time.Second

// A Backend is one set of sessions, empty at first, and what can be done to it.
type Backend struct {
	// Open returns a Store of the sessions, each time another, as another process
	// would have it. It is closed when the test ends, if the test did not do it.
	Open func(t testing.TB) session.Store
	// Operator is somebody with a client of the database.
	Operator Operator
	// Events returns the audit events, the oldest first. It may leave out what
	// the store does not give back, but not the type.
	Events func(t testing.TB) []session.Event
	// Cut breaks the connections of all Stores and lets none be made until heal
	// is called. Nil means that this cannot be tested.
	Cut func(t testing.TB) (heal func())
}

// An Operator changes sessions and people by other means than a Store: with SQL,
// or with redis-cli.
type Operator interface {
	// DeleteSession deletes one session, and DeleteAll all of them at once (with
	// TRUNCATE, or a script).
	DeleteSession(t testing.TB, id string)
	DeleteAll(t testing.TB)
	// SetRole, RaiseEpoch and Ban change a person.
	SetRole(t testing.TB, userID, role string)
	RaiseEpoch(t testing.TB, userID string)
	Ban(t testing.TB, userID string)
	// Expire makes a session end in the past.
	Expire(t testing.TB, id string)
}

// Run checks what [session.Store] promises. It calls setup once for each test.
func Run(t *testing.T, setup func(t *testing.T) Backend) {
	tests := []struct {
		name string
		run  func(t *testing.T, b *bench)
	}{
		{"a session comes back whole", testWhole},
		{"a session without anything optional comes back", testBare},
		{"what comes back is the caller's", testNotShared},
		{"nobody is found by another token or id", testNotFound},
		{"create replaces, all or nothing", testReplace},
		{"a person keeps role, ban and epoch, and is described anew", testPersonKept},
		{"two people with one address are two", testSameAddress},
		{"touch slides once, never past the hard end", testSlide},
		{"touch notes activity at most once an interval", testSeen},
		{"touch leaves alone what is over", testTouchOver},
		{"touch brings nothing back", testTouchGone},
		{"parallel touches slide once", testTouchParallel},
		{"data is replaced", testData},
		{"selections", testSelections},
		{"a list is of the living, the one seen last first", testList},
		{"one refresh at a time", testLock},
		{"a refresh is saved once", testSaveRefresh},
		{"parallel locks have one winner", testLockParallel},
		{"sealed texts are replaced", testReseal},
		{"a ban holds until it ends", testBan},
		{"people are found by id and address", testUsers},
		{"an operator's changes count", testOperator},
		{"audit events are kept until they are swept", testAudit},
		{"what is over is swept, so much at a time", testSweep},
		{"a watch tells what changed", testWatch},
		{"a watch tells what others change", testWatchOthers},
		{"a watch tells what an operator changes", testWatchOperator},
		{"a touch is not told", testTouchNotTold},
		{"as-of moves on, and nothing that came before it is told later", testAsOf},
		{"a change of a person by sign-in or refresh is told", testWatchPerson},
		{"a watch ends with its context", testWatchEnds},
		{"a watch ends when the channel breaks", testWatchBreaks},
		{"a store that does not answer says so", testUnavailable},
		{"a closed store says so", testClosed},
		{"no call outlives its context", testCancelled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := &bench{Backend: setup(t), now: time.Now().UTC().Truncate(time.Millisecond)}
			b.Store = b.open(t)
			tt.run(t, b)
		})
	}
}

// A bench is one store under test, and a time that tests count from.
type bench struct {
	session.Store
	Backend
	now time.Time
}

// at returns the time d after the bench's.
func (b *bench) at(d time.Duration) time.Time { return b.now.Add(d) }

// open returns another store, which answers.
func (b *bench) open(t testing.TB) session.Store {
	t.Helper()
	s := b.Open(t)
	t.Cleanup(func() { s.Close() })
	eventually(t, "the store answers", func() bool { return s.Ping(context.Background()) == nil })
	return s
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

// person returns somebody called name.
func person(name string) session.User {
	return session.User{
		ID: session.UserID("https://id.example.com", name), Issuer: "https://id.example.com", Subject: name, Provider: "corp",
		Email: name + "@example.com", EmailVerified: true, Name: "Name of " + name,
	}
}

// row returns a session of u that begins at now, with clocks of one and ten
// hours, and a token of its own.
func (b *bench) row(u session.User) *session.Row {
	id := uuid.NewString()
	return &session.Row{
		Session: &session.Session{
			ID: id, User: u, CreatedAt: b.now, UpdatedAt: b.now, LastSeenAt: b.now,
			ExpiresAt: b.at(time.Hour), AbsoluteExpiresAt: b.at(10 * time.Hour), AuthTime: b.now,
		},
		Token: sha256.Sum256([]byte(id)),
	}
}

// fullRow returns a session with everything.
func (b *bench) fullRow() *session.Row {
	u := person("alice")
	u.Image, u.Groups = "https://img.example.com/a.png", []string{"acme/sre", "Größe, \"quoted\""}
	u.Claims = map[string]any{
		"text": "ä'\"\\", "yes": true, "number": int64(1) << 60, "part": 1.5,
		"list": []any{"a", int64(2)}, "map": map[string]any{"deep": map[string]any{"er": "x"}},
	}
	r := b.row(u)
	r.IP, r.UserAgent = "2001:db8::1", "Mozilla/5.0 (\"x\")"
	r.AuthTime, r.AMR, r.ACR, r.ProviderSID = b.at(-time.Minute), []string{"pwd", "mfa"}, "urn:acr:2", "sid-1"
	r.Data = json.RawMessage(`{"theme": "dark", "n": [1, 2.50]}`)
	r.Credential = session.Credential{
		Access: "sealed-access", Refresh: "sealed-refresh", ID: "sealed-id",
		AccessExpires: b.at(time.Hour), IDExpires: b.at(2 * time.Hour), RefreshAt: b.at(50 * time.Minute), ReadAt: b.at(-time.Second),
	}
	return r
}

// create writes a session of u and returns it as it is found.
func (b *bench) create(t testing.TB, u session.User, edit ...func(*session.Row)) *session.Row {
	t.Helper()
	r := b.row(u)
	for _, e := range edit {
		e(r)
	}
	if err := b.Create(t.Context(), r, nil); err != nil {
		t.Fatalf("Create: %v", err)
	}
	return b.found(t, r.ID)
}

// found returns the session called id, which must be there.
func (b *bench) found(t testing.TB, id string) *session.Row {
	t.Helper()
	r, err := b.FindID(t.Context(), id)
	if err != nil {
		t.Fatalf("FindID: %v", err)
	}
	return r
}

// A watch collects what a store tells.
type watch struct {
	cancel context.CancelFunc
	ended  chan error // gets what Watch returned

	mu   sync.Mutex
	told []session.Change
}

// watch begins to watch s, and returns when the first change was told.
func watchStore(t testing.TB, s session.Store) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel, ended: make(chan error, 1)}
	go func() {
		w.ended <- s.Watch(ctx, func(c session.Change) {
			w.mu.Lock()
			defer w.mu.Unlock()
			c.Sessions, c.Users = slices.Clone(c.Sessions), slices.Clone(c.Users)
			w.told = append(w.told, c)
		})
	}()
	t.Cleanup(cancel)
	w.until(t, "the first change is told", func(told []session.Change) bool { return len(told) > 0 })
	return w
}

// until waits until what was told so far satisfies ok.
func (w *watch) until(t testing.TB, what string, ok func(told []session.Change) bool) {
	t.Helper()
	eventually(t, what, func() bool { return ok(w.all()) })
}

// all returns what was told so far.
func (w *watch) all() []session.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// mark returns how much was told so far.
func (w *watch) mark() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.told)
}

// settle waits until all that was committed before the call was told.
func (w *watch) settle(t testing.TB) {
	t.Helper()
	now := time.Now()
	w.until(t, "as-of has moved on", func(told []session.Change) bool { return told[len(told)-1].AsOf.After(now) })
}

// tells waits until the session id, or everything, was told after mark.
func (w *watch) tells(t testing.TB, mark int, id string) {
	t.Helper()
	w.until(t, "the change of session "+id+" is told", func(told []session.Change) bool {
		return slices.ContainsFunc(told[mark:], func(c session.Change) bool { return c.All || slices.Contains(c.Sessions, id) })
	})
}

// tellsUser waits until the person, or everything, was told after mark.
func (w *watch) tellsUser(t testing.TB, mark int, userID string, sessions ...string) {
	t.Helper()
	w.until(t, "the change of the person "+userID+" is told", func(told []session.Change) bool {
		return slices.ContainsFunc(told[mark:], func(c session.Change) bool {
			named := len(sessions) > 0
			for _, id := range sessions {
				named = named && slices.Contains(c.Sessions, id)
			}
			return c.All || named || slices.Contains(c.Users, userID)
		})
	})
}
