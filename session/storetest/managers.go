package storetest

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authproxy/cookie"
	"authproxy/session"
)

// RunManagers checks what two processes with one store promise their users. It
// calls setup once for each test.
func RunManagers(t *testing.T, setup func(t *testing.T) Backend) {
	tests := []struct {
		name string
		run  func(t *testing.T, p *pair)
	}{
		{"who signs in here is signed in there", testSignedInEverywhere},
		{"a check at hand asks nobody", testNoIO},
		{"a revocation counts here at once, and there soon", testRevoke},
		{"a revocation counts if it is told only that something changed", testCoarse},
		{"sign-out counts everywhere, for every copy", testSignOut},
		{"sign-in ends the session that the browser showed", testSignInReplaces},
		{"what an operator does counts everywhere", testOperatorEverywhere},
		{"a banned person is out, and stays out", testBanned},
		{"a changed role is seen everywhere", testRole},
		{"activity makes nobody read again", testTouchForgetsNothing},
		{"a reading that raced with a revocation does not count", testRacedReading},
		{"without word from the store every check reads it", testBlind},
		{"a store that is down signs nobody out", testStoreDown},
		{"data is everywhere", testDataEverywhere},
		{"a hundred requests refresh once", testRefreshOnce},
		{"a replica that died during a refresh holds nobody up", testRefreshAfterDeath},
		{"whatever happens, every answer is right", testModel},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, newPair(t, setup(t)))
		})
	}
}

// A Browser keeps cookies as one does, by name.
type Browser struct {
	mu      sync.Mutex
	cookies map[string]string
}

// Request returns a request with the cookies of b.
func (b *Browser) Request() *http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := httptest.NewRequest("GET", "/", nil)
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

// Keep takes the cookies of an answer.
func (b *Browser) Keep(w *httptest.ResponseRecorder) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cookies == nil {
		b.cookies = map[string]string{}
	}
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
}

// Copy returns a browser with the same cookies: a thief's.
func (b *Browser) Copy() *Browser {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &Browser{cookies: map[string]string{}}
	for name, value := range b.cookies {
		c.cookies[name] = value
	}
	return c
}

// SignIn begins a session of u in b at m, with tokens, and returns its id.
func (b *Browser) SignIn(t testing.TB, m *session.Manager, u session.User, tokens session.Tokens) string {
	t.Helper()
	s := &session.Session{User: u, Tokens: tokens, IP: "192.0.2.1", UserAgent: "UA"}
	w := httptest.NewRecorder()
	if _, err := m.Start(w, b.Request(), s); err != nil {
		t.Fatalf("Start: %v", err)
	}
	b.Keep(w)
	return s.ID
}

// Config returns what a Manager with store needs, the same for all processes:
// a window of an hour that slides after ten minutes, and a hard end after a day.
func Config(t testing.TB, store session.Store) session.Config {
	t.Helper()
	key := bytes.Repeat([]byte{7}, cookie.KeySize)
	key[0] = 1
	ring, err := cookie.NewKeyRing(key)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := cookie.NewSealer(ring)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookie.NewJar("authproxy_session", cookie.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return session.Config{
		Sealer: sealer, Jar: jar, Store: store, Version: 1,
		MaxAge: time.Hour, UpdateAge: 10 * time.Minute, AbsoluteMaxAge: 24 * time.Hour,
	}
}

// Start returns a Manager of c that runs until the test ends.
func Start(t testing.TB, c session.Config) *session.Manager {
	t.Helper()
	m, err := session.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		m.Close()
	})
	return m
}

// Faults is a Store between a Manager and another one, that can be held up. The
// zero value of each fault is none.
type Faults struct {
	session.Store
	// Deaf keeps what is told from being heard, as a channel does that got stuck.
	Deaf atomic.Bool
	// Coarse makes all that is told that anything may have changed.
	Coarse atomic.Bool
	// Reads counts calls of Find and FindID, Calls all but Watch and Sweep.
	Reads, Calls atomic.Int64
	// AfterRead, unless nil, is called with what a Find or FindID has read.
	AfterRead atomic.Pointer[func(*session.Row)]
	// AfterTouch, unless nil, is called when a Touch has been made.
	AfterTouch atomic.Pointer[func()]
	// Down makes all calls fail.
	Down atomic.Bool
}

func (f *Faults) call() error {
	f.Calls.Add(1)
	if f.Down.Load() {
		return session.ErrUnavailable
	}
	return nil
}

func (f *Faults) read(row *session.Row, err error) (*session.Row, error) {
	f.Reads.Add(1)
	if after := f.AfterRead.Load(); after != nil {
		(*after)(row)
	}
	return row, err
}

// Find is that of the Store, with faults.
func (f *Faults) Find(ctx context.Context, token session.Hash) (*session.Row, error) {
	if err := f.call(); err != nil {
		return nil, err
	}
	return f.read(f.Store.Find(ctx, token))
}

// FindID is that of the Store, with faults.
func (f *Faults) FindID(ctx context.Context, id string) (*session.Row, error) {
	if err := f.call(); err != nil {
		return nil, err
	}
	return f.read(f.Store.FindID(ctx, id))
}

// Touch is that of the Store, with faults.
func (f *Faults) Touch(ctx context.Context, id string, t session.Touch) (session.Clocks, error) {
	if err := f.call(); err != nil {
		return session.Clocks{}, err
	}
	c, err := f.Store.Touch(ctx, id, t)
	if after := f.AfterTouch.Load(); after != nil {
		(*after)()
	}
	return c, err
}

// Create is that of the Store, with faults.
func (f *Faults) Create(ctx context.Context, row *session.Row, replaces []string) error {
	if err := f.call(); err != nil {
		return err
	}
	return f.Store.Create(ctx, row, replaces)
}

// Delete is that of the Store, with faults.
func (f *Faults) Delete(ctx context.Context, which session.Selection) ([]string, error) {
	if err := f.call(); err != nil {
		return nil, err
	}
	return f.Store.Delete(ctx, which)
}

// LockRefresh is that of the Store, with faults.
func (f *Faults) LockRefresh(ctx context.Context, id string, version int, now, until time.Time) (bool, error) {
	if err := f.call(); err != nil {
		return false, err
	}
	return f.Store.LockRefresh(ctx, id, version, now, until)
}

// SaveRefresh is that of the Store, with faults.
func (f *Faults) SaveRefresh(ctx context.Context, id string, version int, c *session.Credential, user *session.User, now time.Time) (bool, error) {
	if err := f.call(); err != nil {
		return false, err
	}
	return f.Store.SaveRefresh(ctx, id, version, c, user, now)
}

// Watch is that of the Store, with faults.
func (f *Faults) Watch(ctx context.Context, on func(session.Change)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deaf := false
	return f.Store.Watch(ctx, func(c session.Change) {
		switch {
		case f.Down.Load():
			cancel(session.ErrUnavailable)
		case f.Deaf.Load():
			deaf = true // what was not heard once is lost
		case deaf:
			cancel(session.ErrUnavailable)
		case f.Coarse.Load() && len(c.Sessions)+len(c.Users) > 0:
			on(session.Change{All: true, AsOf: c.AsOf})
		default:
			on(c)
		}
	})
}

// A pair is two processes, a and b, and the faults of b's store.
type pair struct {
	*bench
	a, b   *session.Manager
	faults *Faults
}

func newPair(t *testing.T, backend Backend) *pair {
	p := &pair{bench: &bench{Backend: backend, now: time.Now().UTC().Truncate(time.Millisecond)}}
	p.Store = p.open(t)
	p.faults = &Faults{Store: p.open(t)}
	p.a, p.b = Start(t, Config(t, p.Store)), Start(t, Config(t, p.faults))
	p.hears(t, p.a)
	p.hears(t, p.b)
	return p
}

// hears waits until m knows all changes, so that checks read nothing.
func (p *pair) hears(t testing.TB, m *session.Manager) {
	t.Helper()
	eventually(t, "the manager hears the store", func() bool { return m.Hears() })
}

// expect fails unless m finds the session of b, or nobody if id is "".
func expect(t testing.TB, what string, m *session.Manager, b *Browser, id string) {
	t.Helper()
	s, err := m.Lookup(b.Request())
	switch {
	case id == "" && !errors.Is(err, session.ErrNone):
		t.Errorf("%s: session %v, error %v, want ErrNone", what, s, err)
	case id != "" && (err != nil || s.ID != id):
		t.Errorf("%s: session %v, error %v, want %s", what, s, err, id)
	}
}

// soon waits until m refuses b.
func soon(t testing.TB, what string, m *session.Manager, b *Browser) {
	t.Helper()
	eventually(t, what, func() bool {
		_, err := m.Lookup(b.Request())
		if err != nil && !errors.Is(err, session.ErrNone) {
			t.Fatalf("%s: %v", what, err)
		}
		return err != nil
	})
}

func testSignedInEverywhere(t *testing.T, p *pair) {
	var b Browser
	u := person("alice")
	u.Groups, u.Claims = []string{"g"}, map[string]any{"c": "d"}
	tokens := session.Tokens{Refresh: "r", Access: "a", AccessExpiry: p.at(time.Hour), ID: "i", IDExpiry: p.at(time.Hour)}
	id := b.SignIn(t, p.a, u, tokens)
	for name, m := range map[string]*session.Manager{"here": p.a, "there": p.b} {
		s, err := m.Lookup(b.Request())
		if err != nil || s.ID != id {
			t.Fatalf("%s: session %v, error %v, want %s", name, s, err, id)
		}
		got := s.User
		got.Role = ""
		if diff := cmp.Diff(u, got); diff != "" {
			t.Errorf("%s: the person (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tokens, s.Tokens, sameRow()); diff != "" {
			t.Errorf("%s: the tokens (-want +got):\n%s", name, diff)
		}
		if live, err := m.Live(t.Context(), id); err != nil || live.ID != id || !m.Alive(s) || !m.AliveID(id) {
			t.Errorf("%s: Live = %v, %v, Alive %v, AliveID %v", name, live, err, m.Alive(s), m.AliveID(id))
		}
	}
	row := p.found(t, id)
	for _, text := range []string{row.Credential.Access, row.Credential.Refresh, row.Credential.ID} {
		if len(text) < 40 {
			t.Errorf("the store holds the token %q, want it sealed", text)
		}
	}
	list, err := p.b.List(t.Context(), session.Selection{UserID: u.ID}, 0)
	if err != nil || len(list) != 1 || list[0].ID != id || list[0].Tokens != (session.Tokens{}) {
		t.Errorf("List = %v, %v, want the session without tokens", list, err)
	}
}

func testNoIO(t *testing.T, p *pair) {
	var b Browser
	id := b.SignIn(t, p.a, person("alice"), session.Tokens{})
	expect(t, "at first", p.b, &b, id)
	if _, err := p.b.Live(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	p.hears(t, p.b)
	before := p.faults.Calls.Load()
	for range 1000 {
		s, err := p.b.Lookup(b.Request())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.b.Touch(httptest.NewRecorder(), b.Request(), s); err != nil {
			t.Fatal(err)
		}
		if _, err := p.b.Live(t.Context(), id); err != nil || !p.b.Alive(s) || !p.b.AliveID(id) {
			t.Fatalf("Live: %v, or it is not alive", err)
		}
	}
	if !p.b.Hears() {
		t.Skip("the machine is too slow: a heartbeat came late")
	}
	if n := p.faults.Calls.Load() - before; n > 2 { // a heartbeat that is late makes checks read
		t.Errorf("%d calls of the store in 1000 checks, want none", n)
	}
}

func testRevoke(t *testing.T, p *pair) {
	var one, two, other Browser
	first := one.SignIn(t, p.a, person("alice"), session.Tokens{})
	second := two.SignIn(t, p.b, person("alice"), session.Tokens{})
	bob := other.SignIn(t, p.a, person("bob"), session.Tokens{})
	for _, m := range []*session.Manager{p.a, p.b} {
		expect(t, "before", m, &one, first)
		expect(t, "before", m, &two, second)
		expect(t, "before", m, &other, bob)
	}
	s, err := p.b.Lookup(one.Request())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.a.Revoke(t.Context(), session.Selection{ID: first, UserID: person("bob").ID}, session.By{}); n != 0 || err != nil {
		t.Errorf("revoking another person's session = %d, %v, want 0", n, err)
	}
	expect(t, "after nothing was revoked", p.a, &one, first)
	if n, err := p.a.Revoke(t.Context(), session.Selection{ID: first}, session.By{Cause: "test"}); n != 1 || err != nil {
		t.Fatalf("Revoke = %d, %v, want 1", n, err)
	}
	expect(t, "here, at once", p.a, &one, "")
	soon(t, "there", p.b, &one)
	eventually(t, "who keeps a connection open hears of it", func() bool { return !p.b.Alive(s) && !p.b.AliveID(first) })
	if _, err := p.b.Touch(httptest.NewRecorder(), one.Request(), s); !errors.Is(err, session.ErrNone) {
		t.Errorf("Touch: error %v, want ErrNone", err)
	}
	if _, err := p.b.Live(t.Context(), first); !errors.Is(err, session.ErrNone) {
		t.Errorf("Live: error %v, want ErrNone", err)
	}
	for _, m := range []*session.Manager{p.a, p.b} {
		expect(t, "another session of the person", m, &two, second)
	}
	if n, err := p.b.Revoke(t.Context(), session.Selection{UserID: person("alice").ID}, session.By{}); n != 1 || err != nil {
		t.Errorf("Revoke of a person = %d, %v, want 1", n, err)
	}
	expect(t, "the person, at once", p.b, &two, "")
	soon(t, "the person, there", p.a, &two)
	if n, err := p.a.Revoke(t.Context(), session.Selection{All: true}, session.By{}); n != 1 || err != nil {
		t.Errorf("Revoke of all = %d, %v, want 1", n, err)
	}
	expect(t, "all, at once", p.a, &other, "")
	soon(t, "all, there", p.b, &other)
}

func testCoarse(t *testing.T, p *pair) {
	p.faults.Coarse.Store(true)
	var gone, stays Browser
	first, second := gone.SignIn(t, p.a, person("alice"), session.Tokens{}), stays.SignIn(t, p.a, person("bob"), session.Tokens{})
	expect(t, "before", p.b, &gone, first)
	expect(t, "before", p.b, &stays, second)
	if _, err := p.a.Revoke(t.Context(), session.Selection{ID: first}, session.By{}); err != nil {
		t.Fatal(err)
	}
	soon(t, "there", p.b, &gone)
	expect(t, "another", p.b, &stays, second)
}

func testSignOut(t *testing.T, p *pair) {
	var b Browser
	id := b.SignIn(t, p.a, person("alice"), session.Tokens{Refresh: "r"})
	thief := b.Copy()
	expect(t, "a copy", p.b, thief, id)
	w := httptest.NewRecorder()
	was, err := p.b.End(w, b.Request())
	if err != nil || was == nil || was.ID != id || was.Tokens.Refresh != "r" {
		t.Fatalf("End = %v, %v, want the session with its refresh token", was, err)
	}
	b.Keep(w)
	if len(b.cookies) != 0 {
		t.Errorf("the browser keeps %v, want nothing", b.cookies)
	}
	expect(t, "the copy, here", p.b, thief, "")
	soon(t, "the copy, there", p.a, thief)
	if again, err := p.a.End(httptest.NewRecorder(), thief.Request()); again != nil || err != nil {
		t.Errorf("ending again = %v, %v, want nothing", again, err)
	}
}

func testSignInReplaces(t *testing.T, p *pair) {
	var b Browser
	b.SignIn(t, p.a, person("alice"), session.Tokens{})
	old := b.Copy()
	soonOrNever := b.SignIn(t, p.b, person("bob"), session.Tokens{})
	expect(t, "the session from before, here", p.b, old, "")
	soon(t, "the session from before, there", p.a, old)
	expect(t, "the new one", p.a, &b, soonOrNever)
}

func testOperatorEverywhere(t *testing.T, p *pair) {
	for _, tt := range []struct {
		name string
		do   func(id, userID string)
	}{
		{"delete", func(id, _ string) { p.Operator.DeleteSession(t, id) }},
		{"expire", func(id, _ string) { p.Operator.Expire(t, id) }},
		{"ban", func(_, userID string) { p.Operator.Ban(t, userID) }},
		{"epoch", func(_, userID string) { p.Operator.RaiseEpoch(t, userID) }},
		{"all", func(string, string) { p.Operator.DeleteAll(t) }},
	} {
		var b Browser
		u := person("user of " + tt.name)
		id := b.SignIn(t, p.a, u, session.Tokens{})
		expect(t, tt.name, p.a, &b, id)
		expect(t, tt.name, p.b, &b, id)
		tt.do(id, u.ID)
		soon(t, tt.name+", a", p.a, &b)
		soon(t, tt.name+", b", p.b, &b)
	}
}

func testBanned(t *testing.T, p *pair) {
	var b Browser
	u := person("alice")
	id := b.SignIn(t, p.a, u, session.Tokens{})
	expect(t, "before", p.b, &b, id)
	if err := p.a.Ban(t.Context(), u.ID, "left", time.Time{}, session.By{Cause: "admin"}); err != nil {
		t.Fatal(err)
	}
	expect(t, "here, at once", p.a, &b, "")
	soon(t, "there", p.b, &b)
	p.expectNone(t, id)
	for _, m := range []*session.Manager{p.a, p.b} {
		if _, err := m.Start(httptest.NewRecorder(), b.Request(), &session.Session{User: u}); !errors.Is(err, session.ErrBanned) {
			t.Errorf("Start: error %v, want ErrBanned", err)
		}
	}
	if err := p.b.Ban(t.Context(), u.ID, "", time.Now().Add(-time.Second), session.By{}); err != nil {
		t.Fatal(err)
	}
	var again Browser
	id = again.SignIn(t, p.b, u, session.Tokens{})
	expect(t, "when the ban has run out", p.a, &again, id)
	if err := p.a.Unban(t.Context(), u.ID, session.By{}); err != nil {
		t.Fatal(err)
	}
	expect(t, "unbanned", p.b, &again, id)
	if err := p.a.Ban(t.Context(), person("nobody").ID, "", time.Time{}, session.By{}); !errors.Is(err, session.ErrNone) {
		t.Errorf("Ban of nobody: error %v, want ErrNone", err)
	}
	eventually(t, "what happened is recorded", func() bool {
		var types []string
		for _, e := range p.Events(t) {
			types = append(types, e.Type)
		}
		return slices.Contains(types, "user_banned") && slices.Contains(types, "session_revoked") && slices.Contains(types, "user_unbanned")
	})
}

func testRole(t *testing.T, p *pair) {
	var b Browser
	u := person("alice")
	id := b.SignIn(t, p.a, u, session.Tokens{})
	expect(t, "before", p.b, &b, id)
	p.Operator.SetRole(t, u.ID, "admin")
	for _, m := range []*session.Manager{p.a, p.b} {
		eventually(t, "the role is seen", func() bool {
			s, err := m.Lookup(b.Request())
			if err != nil {
				t.Fatal(err)
			}
			return s.User.Role == "admin"
		})
	}
}

func testTouchForgetsNothing(t *testing.T, p *pair) {
	var b Browser
	id := b.SignIn(t, p.a, person("alice"), session.Tokens{})
	expect(t, "at first", p.b, &b, id)
	watched := watchStore(t, p.open(t))
	watched.settle(t)
	mark := watched.mark()
	s, err := p.a.Lookup(b.Request())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.a.Extend(httptest.NewRecorder(), b.Request(), s); err != nil {
		t.Fatal(err)
	}
	watched.settle(t)
	for _, c := range watched.all()[mark:] {
		if slices.Contains(c.Sessions, id) || c.All {
			t.Errorf("activity was told as %+v", c)
		}
	}
	row := p.found(t, id)
	if !row.ExpiresAt.After(s.ExpiresAt) {
		t.Errorf("the store says it expires at %v, not after %v", row.ExpiresAt, s.ExpiresAt)
	}
}

func testRacedReading(t *testing.T, p *pair) {
	var b Browser
	b.SignIn(t, p.a, person("alice"), session.Tokens{})
	arrived, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hold := func(*session.Row) {
		once.Do(func() {
			close(arrived)
			<-goOn
		})
	}
	p.faults.AfterRead.Store(&hold)
	answers := make(chan error)
	go func() {
		_, err := p.b.Lookup(b.Request())
		answers <- err
	}()
	<-arrived // b has read that the session lives, and has not taken note
	if _, err := p.b.Revoke(t.Context(), session.Selection{UserID: person("alice").ID}, session.By{}); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if err := <-answers; !errors.Is(err, session.ErrNone) {
		t.Errorf("a check during which the session was revoked: error %v, want ErrNone", err)
	}
	expect(t, "and the next one", p.b, &b, "")
}

func testBlind(t *testing.T, p *pair) {
	var gone, stays Browser
	first, second := gone.SignIn(t, p.a, person("alice"), session.Tokens{}), stays.SignIn(t, p.a, person("bob"), session.Tokens{})
	expect(t, "before", p.b, &gone, first)
	expect(t, "before", p.b, &stays, second)
	p.faults.Deaf.Store(true)
	if _, err := p.a.Revoke(t.Context(), session.Selection{ID: first}, session.By{}); err != nil {
		t.Fatal(err)
	}
	revoked := time.Now()
	soon(t, "in the end", p.b, &gone)
	if took := time.Since(revoked); took > 10*time.Second { // 2 s on a machine with nothing else to do
		t.Errorf("it took %v, want 2s", took)
	}
	eventually(t, "the manager knows that it hears nothing", func() bool { return !p.b.Hears() })
	before := p.faults.Reads.Load()
	for range 10 {
		expect(t, "blind", p.b, &stays, second)
	}
	if n := p.faults.Reads.Load() - before; n < 10 {
		t.Errorf("%d readings for 10 checks, want one each", n)
	}
	p.faults.Deaf.Store(false)
	p.hears(t, p.b)
	expect(t, "after", p.b, &gone, "")
	expect(t, "after", p.b, &stays, second)
}

func testStoreDown(t *testing.T, p *pair) {
	var b Browser
	id := b.SignIn(t, p.a, person("alice"), session.Tokens{})
	expect(t, "before", p.b, &b, id)
	s, err := p.b.Lookup(b.Request())
	if err != nil {
		t.Fatal(err)
	}
	p.faults.Down.Store(true)
	eventually(t, "the manager knows that it hears nothing", func() bool { return !p.b.Hears() })
	w := httptest.NewRecorder()
	var wg sync.WaitGroup
	for name, call := range map[string]func() error{
		"Lookup": func() error { _, err := p.b.Lookup(b.Request()); return err },
		"Live":   func() error { _, err := p.b.Live(t.Context(), id); return err },
		"End":    func() error { _, err := p.b.End(w, b.Request()); return err },
		"Extend": func() error { _, err := p.b.Extend(httptest.NewRecorder(), b.Request(), s); return err },
		"Revoke": func() error {
			_, err := p.b.Revoke(t.Context(), session.Selection{ID: id}, session.By{})
			return err
		},
		"Start": func() error {
			_, err := p.b.Start(httptest.NewRecorder(), (&Browser{}).Request(), &session.Session{User: person("bob")})
			return err
		},
	} {
		wg.Go(func() {
			if err := call(); !errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNone) {
				t.Errorf("%s: error %v, want ErrUnavailable", name, err)
			}
		})
	}
	wg.Wait()
	if len(w.Result().Cookies()) > 0 {
		t.Error("sign-out took the cookie, but the session lives")
	}
	if !p.b.Alive(s) {
		t.Error("a connection would be closed because the store is down")
	}
	p.faults.Down.Store(false)
	expect(t, "after", p.b, &b, id)
	p.hears(t, p.b)
	expect(t, "at hand", p.b, &b, id)
}

func testDataEverywhere(t *testing.T, p *pair) {
	var b Browser
	b.SignIn(t, p.a, person("alice"), session.Tokens{})
	there, err := p.b.Lookup(b.Request())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{``, `null`, `1`, `[]`, `"x"`, `{`, `{"a":"` + string(bytes.Repeat([]byte("x"), session.MaxData)) + `"}`,
		`{"a":"\u0000"}`, `{"\u0000":1}`, `{"a":["\\\\\u0000"]}`, `{"a":"\ud800"}`, `{"a":"\ude00\ud83d"}`, `{"a":"\ud83d\ud83d\ude00"}`, "{\"a\":\"\xff\"}",
		`{"a":1e999999}`, `{"a":[-1e400]}`, `{"a":{"b":1e-999999}}`} {
		if err := p.b.SetData(t.Context(), there, []byte(bad)); !errors.Is(err, session.ErrData) {
			t.Errorf("data %.30q: error %v, want ErrData", bad, err)
		}
	}
	for _, good := range []string{`{"a":"\\u0000 \\\ud83d\ude00 \ufffd 😀"}`, `{"a":[1e308,5e-324,0e999999,-0.0,12345678901234567890]}`} {
		if err := p.b.SetData(t.Context(), there, []byte(good)); err != nil {
			t.Errorf("data %s: error %v, want none", good, err)
		}
	}
	if err := p.a.SetData(t.Context(), there, []byte(`{"theme":"dark"}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the data is seen", func() bool {
		s, err := p.b.Lookup(b.Request())
		return err == nil && cmp.Equal(plainJSON(s.Data), map[string]any{"theme": "dark"})
	})
	if _, err := p.a.Revoke(t.Context(), session.Selection{ID: there.ID}, session.By{}); err != nil {
		t.Fatal(err)
	}
	if err := p.b.SetData(t.Context(), there, []byte(`{}`)); !errors.Is(err, session.ErrNone) {
		t.Errorf("SetData of a session that has ended: error %v, want ErrNone", err)
	}
}

// discard returns an answer that nobody reads.
func discard() *httptest.ResponseRecorder { return httptest.NewRecorder() }
