package session

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"authproxy/cookie"
)

// A browser keeps cookies as one does, by name, and has a clock that the
// manager shares.
type browser struct {
	t       testing.TB
	now     time.Time
	cookies map[string]string
	config  Config
	m       *Manager
}

const (
	hour = time.Hour
	day  = 24 * hour
)

func ring(t testing.TB, keys ...byte) *cookie.Sealer {
	t.Helper()
	var list [][]byte
	for _, b := range keys {
		key := bytes.Repeat([]byte{b}, cookie.KeySize)
		key[0]++
		list = append(list, key)
	}
	r, err := cookie.NewKeyRing(list...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cookie.NewSealer(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newBrowser(t testing.TB, edit func(*Config)) *browser {
	t.Helper()
	jar, err := cookie.NewJar("authproxy_session", cookie.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), cookies: map[string]string{}}
	b.config = Config{
		Sealer: ring(t, 1), Jar: jar, MaxAge: 7 * day, UpdateAge: day, AbsoluteMaxAge: 30 * day, Version: 1,
		Now: func() time.Time { return b.now },
	}
	if edit != nil {
		edit(&b.config)
	}
	b.restart()
	return b
}

func (b *browser) sealed() *sealed { return b.m.strategy.(*sealed) }

// restart replaces the process: what it remembered is gone.
func (b *browser) restart() {
	b.t.Helper()
	m, err := New(b.config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(m.Close)
	b.m = m
}

func (b *browser) request() *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

// keep stores what w sets, as the browser would.
func (b *browser) keep(w *httptest.ResponseRecorder) int {
	set := w.Result().Cookies()
	for _, c := range set {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return len(set)
}

func alice() User {
	return User{Issuer: "https://id.example.com", Subject: "248289761001", Provider: "corp",
		Email: "alice@example.com", EmailVerified: true, Name: "Alice Adams", Groups: []string{"staff"}}
}

func (b *browser) signIn() *Session {
	b.t.Helper()
	w := httptest.NewRecorder()
	s := &Session{User: alice(), IP: "192.0.2.1", UserAgent: "Mozilla/5.0"}
	if _, err := b.m.Start(w, b.request(), s); err != nil {
		b.t.Fatal(err)
	}
	b.keep(w)
	return s
}

// visit is one allowed request. It returns how many cookies the answer set, or
// -1 when there was no session.
func (b *browser) visit() int {
	b.t.Helper()
	w, r := httptest.NewRecorder(), b.request()
	s, err := b.m.Lookup(r)
	if err != nil {
		return -1
	}
	if _, err := b.m.Touch(w, r, s); err != nil {
		b.t.Fatal(err)
	}
	return b.keep(w)
}

func (b *browser) signedIn() bool {
	_, err := b.m.Lookup(b.request())
	return err == nil
}

func TestASessionComesBackWhole(t *testing.T) {
	b := newBrowser(t, nil)
	b.signIn()
	b.restart()
	s, err := b.m.Lookup(b.request())
	if err != nil {
		t.Fatal(err)
	}
	want := alice()
	want.ID = UserID("https://id.example.com", "248289761001")
	if got := fmt.Sprintf("%+v", s.User); got != fmt.Sprintf("%+v", want) {
		t.Errorf("user = %s\nwant   %+v", got, want)
	}
	if s.IP != "192.0.2.1" || s.UserAgent != "Mozilla/5.0" || !s.CreatedAt.Equal(b.now) || !s.ExpiresAt.Equal(b.now.Add(7*day)) || !s.AbsoluteExpiresAt.Equal(b.now.Add(30*day)) {
		t.Errorf("session = %+v", s)
	}
}

// The id is a contract: rows, headers and tokens elsewhere hold it.
func TestUserIDIsTheDocumentedUUID(t *testing.T) {
	// python3 -c 'import uuid; print(uuid.uuid5(uuid.NAMESPACE_URL, "https://id.example.com#248289761001"))'
	if got, want := UserID("https://id.example.com", "248289761001"), "a6c9e3b6-3e42-506e-8536-21f11340b476"; got != want {
		t.Errorf("UserID = %s, want %s", got, want)
	}
}

func TestAnOrdinaryCookieIsSmall(t *testing.T) {
	b := newBrowser(t, nil)
	w := httptest.NewRecorder()
	u := alice()
	u.Image = "https://lh3.googleusercontent.com/a/ACg8ocJ-0123456789abcdefghijklmnopqrstuvwxyz=s96-c"
	s := &Session{User: u, IP: "2001:db8::1234:5678", AMR: []string{"pwd"}, AuthTime: b.now,
		UserAgent: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"}
	if _, err := b.m.Start(w, b.request(), s); err != nil {
		t.Fatal(err)
	}
	if n := len(w.Header().Get("Set-Cookie")); n > 1024 {
		t.Errorf("the cookie has %d bytes with its attributes, want at most 1024", n)
	}
}

func TestClocks(t *testing.T) {
	type step struct {
		after time.Duration
		do    string // "visit", "look" (does not count as activity)
		want  bool   // signed in
	}
	tests := []struct {
		name  string
		edit  func(*Config)
		steps []step
	}{
		{"valid until the last second of the window", nil, []step{{7*day - time.Second, "look", true}}},
		{"over at the very second", nil, []step{{7 * day, "look", false}}},
		{"slides when used after update_age", nil, []step{{day, "visit", true}, {7*day - time.Second, "look", true}, {time.Second, "look", false}}},
		{"does not slide before update_age", nil, []step{{day - time.Second, "visit", true}, {6*day + time.Second, "look", false}}},
		{"looking is no activity", nil, []step{{6 * day, "look", true}, {day, "look", false}}},
		{"the absolute end is hard", nil, []step{
			{6 * day, "visit", true}, {6 * day, "visit", true}, {6 * day, "visit", true}, {6 * day, "visit", true},
			{6*day - time.Second, "look", true}, {time.Second, "look", false}}},
		{"no absolute end: slides on and on", func(c *Config) { c.AbsoluteMaxAge = 0 }, []step{
			{6 * day, "visit", true}, {6 * day, "visit", true}, {6 * day, "visit", true}, {6 * day, "visit", true},
			{6 * day, "visit", true}, {6 * day, "visit", true}}},
		{"an absolute end before the window's", func(c *Config) { c.AbsoluteMaxAge = 2 * day }, []step{
			{day, "visit", true}, {day, "look", false}}},
		{"idle timeout: over at the very second", func(c *Config) { c.IdleTimeout = hour }, []step{{hour, "look", false}}},
		{"idle timeout: activity keeps it", func(c *Config) { c.IdleTimeout = hour }, []step{
			{hour - time.Second, "visit", true}, {hour - time.Second, "visit", true}, {hour, "look", false}}},
		{"idle timeout: looking does not keep it", func(c *Config) { c.IdleTimeout = hour }, []step{
			{hour - time.Second, "look", true}, {time.Second, "look", false}}},
		{"update_age 0 slides at once", func(c *Config) { c.UpdateAge = 0 }, []step{
			{time.Second, "visit", true}, {7*day - time.Second, "look", true}}},
	}
	for _, restart := range []bool{false, true} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/restarted=%v", tt.name, restart), func(t *testing.T) {
				b := newBrowser(t, tt.edit)
				b.signIn()
				for i, s := range tt.steps {
					b.now = b.now.Add(s.after)
					if restart {
						b.restart()
					}
					got := b.signedIn()
					if s.do == "visit" {
						got = b.visit() >= 0
					}
					if got != s.want {
						t.Fatalf("step %d (%s after %v): signed in = %v, want %v", i+1, s.do, s.after, got, s.want)
					}
				}
			})
		}
	}
}

func TestExtendSlidesAtOnce(t *testing.T) {
	b := newBrowser(t, nil)
	b.signIn()
	b.now = b.now.Add(hour)
	w, r := httptest.NewRecorder(), b.request()
	s, _ := b.m.Lookup(r)
	s, err := b.m.Extend(w, r, s)
	if err != nil || !s.ExpiresAt.Equal(b.now.Add(7*day)) || b.keep(w) != 1 {
		t.Fatalf("Extend: %v, expires %v", err, s.ExpiresAt)
	}
	b.restart()
	if s, err := b.m.Lookup(b.request()); err != nil || !s.ExpiresAt.Equal(b.now.Add(7*day)) {
		t.Errorf("the cookie does not hold the new window: %v", err)
	}
}

// Behind an ingress that drops Set-Cookie the browser shows the first cookie
// for ever. It stays signed in as long as it is active.
func TestALostSetCookieEndsNothing(t *testing.T) {
	b := newBrowser(t, nil)
	b.signIn()
	first := b.cookies["authproxy_session"]
	for i := range 20 {
		b.now = b.now.Add(day)
		if b.visit() < 0 {
			t.Fatalf("signed out on day %d", i+1)
		}
		b.cookies["authproxy_session"] = first // the answer was lost
	}
	if n := b.visit(); n != 1 {
		t.Errorf("an answer to the old cookie sets %d cookies, want the current one", n)
	}
	if b.cookies["authproxy_session"] == first {
		t.Error("the old cookie was sent again")
	}
	if n := b.visit(); n != 0 {
		t.Errorf("an answer to the current cookie sets %d cookies, want none", n)
	}
}

func TestParallelRequestsSlideOnce(t *testing.T) {
	b := newBrowser(t, nil)
	b.signIn()
	b.now = b.now.Add(2 * day)
	values := make([]string, 50)
	var wg sync.WaitGroup
	for i := range values {
		wg.Go(func() {
			w, r := httptest.NewRecorder(), b.request()
			s, err := b.m.Lookup(r)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := b.m.Touch(w, r, s); err != nil {
				t.Error(err)
			}
			values[i] = w.Header().Get("Set-Cookie")
		})
	}
	wg.Wait()
	for _, v := range values {
		if v == "" || v != values[0] {
			t.Fatalf("two renewals for one due time:\n%q\n%q", values[0], v)
		}
	}
}

func TestSignOutKillsEveryCopy(t *testing.T) {
	b := newBrowser(t, nil)
	first := b.signIn()
	stolen := b.cookies["authproxy_session"]
	b.now = b.now.Add(2 * day)
	b.visit() // slides: there are two valid cookies of one session now
	renewed := b.cookies["authproxy_session"]

	w := httptest.NewRecorder()
	ended, err := b.m.End(w, b.request())
	if _, gone := b.m.Live(t.Context(), first.ID); err != nil || ended == nil || ended.ID != first.ID || !errors.Is(gone, ErrNone) {
		t.Fatalf("End = %+v, want session %s", ended, first.ID)
	}
	b.keep(w)
	if len(b.cookies) != 0 {
		t.Errorf("cookies are left: %v", b.cookies)
	}
	for name, value := range map[string]string{"first": stolen, "renewed": renewed} {
		b.cookies["authproxy_session"] = value
		if b.signedIn() {
			t.Errorf("the %s copy of the cookie still works", name)
		}
	}
	if again, _ := b.m.End(httptest.NewRecorder(), b.request()); again != nil {
		t.Error("ending again ended something")
	}
}

func TestSignOutDuringASlideStays(t *testing.T) {
	b := newBrowser(t, nil)
	b.signIn()
	b.now = b.now.Add(2 * day)
	r := b.request()
	s, _ := b.m.Lookup(r)
	b.m.End(httptest.NewRecorder(), b.request())
	w := httptest.NewRecorder()
	for name, renew := range map[string]func(http.ResponseWriter, *http.Request, *Session) (*Session, error){
		"Touch": b.m.Touch, "Extend": b.m.Extend, // requests that were under way
	} {
		if _, err := renew(w, r, s); !errors.Is(err, ErrNone) {
			t.Errorf("%s of an ended session: error = %v, want ErrNone", name, err)
		}
	}
	if n := b.keep(w); n != 0 {
		t.Errorf("%d cookies were handed out for an ended session; after a restart they would be valid", n)
	}
}

func TestActivityTooLateBringsNothingBack(t *testing.T) {
	b := newBrowser(t, func(c *Config) { c.IdleTimeout = hour })
	b.signIn()
	r := b.request()
	s, _ := b.m.Lookup(r)
	b.now = b.now.Add(hour) // a request whose body took its time
	w := httptest.NewRecorder()
	if _, err := b.m.Extend(w, r, s); !errors.Is(err, ErrNone) || b.keep(w) != 0 {
		t.Errorf("Extend after the idle timeout: error = %v, want ErrNone and no cookie", err)
	}
	if b.signedIn() {
		t.Error("the session lives again")
	}
}

func TestEndedSessionsStayEndedWhenMaxAgeWasShortened(t *testing.T) {
	for _, absolute := range []time.Duration{0, 30 * day} {
		b := newBrowser(t, func(c *Config) { c.AbsoluteMaxAge = absolute })
		b.signIn()
		stolen := b.cookies["authproxy_session"]
		b.config.MaxAge, b.config.UpdateAge = hour, 0
		b.restart()
		b.m.End(httptest.NewRecorder(), b.request())
		b.now = b.now.Add(2 * hour)
		b.cookies = map[string]string{}
		b.signIn()
		b.m.End(httptest.NewRecorder(), b.request()) // sweeps the list
		b.cookies["authproxy_session"] = stolen
		if b.signedIn() {
			t.Errorf("absolute_max_age %v: an ended session is back after two hours", absolute)
		}
	}
}

func TestSignOutEndsAllSessionsThatARequestShows(t *testing.T) {
	a, b := newBrowser(t, nil), newBrowser(t, nil)
	a.signIn()
	b.m = a.m
	b.signIn()
	a.sealed().ended = newEnded(1) // so full that one pushes out the other
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", "authproxy_session="+a.cookies["authproxy_session"]+"; authproxy_session="+b.cookies["authproxy_session"])
	if ended, _ := a.m.End(httptest.NewRecorder(), r); ended == nil { // and must come to an end
		t.Error("nothing was ended")
	}
}

func TestAFailedSignInLeavesTheSessionAlone(t *testing.T) {
	b := newBrowser(t, nil)
	b.signIn()
	u := alice()
	for range 500 {
		u.Groups = append(u.Groups, incompressible(40))
	}
	if _, err := b.m.Start(httptest.NewRecorder(), b.request(), &Session{User: u}); err == nil {
		t.Fatal("the session fits; the test needs one that does not")
	}
	if !b.signedIn() {
		t.Error("a sign-in that failed has ended the session before it")
	}
}

func TestWhatIsSealedOpensAgain(t *testing.T) {
	b := newBrowser(t, nil)
	u := alice()
	for i := range 4200 {
		u.Groups = append(u.Groups, fmt.Sprint(i%10))
	}
	w := httptest.NewRecorder()
	if _, err := b.m.Start(w, b.request(), &Session{User: u}); err != nil {
		t.Fatal(err)
	}
	b.keep(w)
	b.restart()
	if !b.signedIn() {
		t.Error("a session with many groups was sealed and does not open after a restart")
	}
}

// TestAliveFollowsTheSession that somebody found a while ago.
func TestAliveFollowsTheSession(t *testing.T) {
	found := func(edit func(*Config)) (*browser, *Session) {
		b := newBrowser(t, edit)
		b.signIn()
		s, err := b.m.Lookup(b.request())
		if err != nil {
			t.Fatal(err)
		}
		return b, s
	}
	idle := func(c *Config) { c.IdleTimeout = hour }
	for _, tt := range []struct {
		name   string
		edit   func(*Config)
		happen func(*browser)
		want   bool
	}{
		{"nothing happened", nil, func(*browser) {}, true},
		{"its window is over", nil, func(b *browser) { b.now = b.now.Add(7 * day) }, false},
		{"it slid", nil, func(b *browser) {
			b.now = b.now.Add(6 * day)
			b.visit()
			b.now = b.now.Add(6 * day)
		}, true},
		{"it slid after it left the cache", nil, func(b *browser) {
			b.sealed().cache.InvalidateAll()
			b.now = b.now.Add(6 * day)
			b.visit()
			b.now = b.now.Add(6 * day)
		}, true},
		{"it was signed out", nil, func(b *browser) { b.m.End(httptest.NewRecorder(), b.request()) }, false},
		{"it was signed out after it left the cache", nil, func(b *browser) {
			b.sealed().cache.InvalidateAll()
			b.m.End(httptest.NewRecorder(), b.request())
		}, false},
		{"it was idle for too long", idle, func(b *browser) { b.now = b.now.Add(hour) }, false},
		{"it was used in time", idle, func(b *browser) {
			b.now = b.now.Add(hour - time.Minute)
			b.visit()
			b.now = b.now.Add(hour - time.Minute)
		}, true},
	} {
		b, s := found(tt.edit)
		tt.happen(b)
		if got := b.m.Alive(s); got != tt.want {
			t.Errorf("%s: Alive = %t, want %t", tt.name, got, tt.want)
		}
	}
}

func TestEndsAtIsTheEarliestClock(t *testing.T) {
	b := newBrowser(t, func(c *Config) { c.IdleTimeout = hour })
	s := b.signIn()
	if got, want := b.m.EndsAt(s), b.now.Add(hour); !got.Equal(want) {
		t.Errorf("EndsAt = %v, want the idle timeout's %v", got, want)
	}
}

func TestSignInEndsThePreviousSessionAndTakesANewID(t *testing.T) {
	b := newBrowser(t, nil)
	first := b.signIn()
	old := b.cookies["authproxy_session"]
	second := b.signIn()
	if first.ID == second.ID {
		t.Error("the session id survived a sign-in")
	}
	b.cookies["authproxy_session"] = old
	if b.signedIn() {
		t.Error("the session before sign-in still lives")
	}
}

func TestRefusedCookies(t *testing.T) {
	tests := []struct {
		name   string
		tamper func(b *browser)
	}{
		{"another version", func(b *browser) { b.config.Version = 2; b.restart() }},
		{"an earlier version", func(b *browser) { b.config.Version = 0; b.restart() }},
		{"another key", func(b *browser) { b.config.Sealer = ring(b.t, 2); b.restart() }},
		{"sealed for another cookie", func(b *browser) {
			s := b.m
			value, _ := s.Sealer.Seal("authproxy_flow_x", record{ID: make([]byte, 16), Version: 1, Expires: 1 << 40})
			b.cookies["authproxy_session"] = value
		}},
		{"a malformed id", func(b *browser) {
			value, _ := b.m.Sealer.Seal("authproxy_session", record{ID: []byte{1}, Version: 1, Expires: 1 << 40})
			b.cookies["authproxy_session"] = value
		}},
		{"no clocks", func(b *browser) {
			value, _ := b.m.Sealer.Seal("authproxy_session", record{ID: make([]byte, 16), Version: 1})
			b.cookies["authproxy_session"] = value
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBrowser(t, nil)
			b.signIn()
			tt.tamper(b)
			if _, err := b.m.Lookup(b.request()); !errors.Is(err, ErrNone) {
				t.Errorf("error = %v, want ErrNone", err)
			}
		})
	}
}

func TestKeyRotationSignsNobodyOut(t *testing.T) {
	b := newBrowser(t, nil)
	b.signIn()
	for _, keys := range [][]byte{{1, 2}, {2, 1}} {
		b.config.Sealer = ring(t, keys...)
		b.restart()
		b.now = b.now.Add(day)
		if b.visit() < 0 {
			t.Fatalf("signed out with the ring %v", keys)
		}
	}
	b.config.Sealer = ring(t, 2) // the old key goes; the cookie was sealed anew meanwhile
	b.restart()
	if !b.signedIn() {
		t.Error("signed out when the old key was dropped")
	}
}

func TestAPlantedCookieHidesNothing(t *testing.T) {
	b := newBrowser(t, nil)
	b.signIn()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", "authproxy_session=planted; authproxy_session="+b.cookies["authproxy_session"])
	if _, err := b.m.Lookup(r); err != nil {
		t.Errorf("a second cookie of the same name hides the genuine one: %v", err)
	}
}

// incompressible returns n characters that no compression shortens much.
func incompressible(n int) string {
	b := make([]byte, (n+1)/2)
	rand.Read(b)
	return hex.EncodeToString(b)[:n]
}

func TestOversizedTokensAreLeftOut(t *testing.T) {
	b := newBrowser(t, nil)
	w := httptest.NewRecorder()
	dropped, err := b.m.Start(w, b.request(), &Session{User: alice(), Tokens: Tokens{Access: incompressible(30000)}})
	if err != nil || !dropped {
		t.Fatalf("Start = %v, %v, want the tokens dropped", dropped, err)
	}
	b.keep(w)
	s, err := b.m.Lookup(b.request())
	if err != nil || s.Tokens.Access != "" {
		t.Errorf("Lookup: %v; a token of %d bytes is there", err, len(s.Tokens.Access))
	}
}

func TestLongTokensAreSplitAndComeBack(t *testing.T) {
	b := newBrowser(t, nil)
	w := httptest.NewRecorder()
	token := incompressible(9000)
	if dropped, err := b.m.Start(w, b.request(), &Session{User: alice(), Tokens: Tokens{Access: token}}); err != nil || dropped {
		t.Fatalf("Start = %v, %v", dropped, err)
	}
	if n := b.keep(w); n < 2 {
		t.Fatalf("%d cookies, the test wants several", n)
	}
	b.restart()
	if s, err := b.m.Lookup(b.request()); err != nil || s.Tokens.Access != token {
		t.Errorf("the token did not come back: %v", err)
	}
}

func TestASessionThatCannotFitIsAnError(t *testing.T) {
	b := newBrowser(t, nil)
	u := alice()
	for range 500 {
		u.Groups = append(u.Groups, incompressible(40))
	}
	w := httptest.NewRecorder()
	if _, err := b.m.Start(w, b.request(), &Session{User: u}); err == nil || !strings.Contains(err.Error(), "groups") {
		t.Errorf("error = %v, want one that names the cause", err)
	}
	if len(w.Header()["Set-Cookie"]) != 0 {
		t.Error("a refused session set cookies")
	}
}

func TestTheListOfEndedSessionsIsBounded(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := newEnded(3)
	add := func(id string, end, now time.Time) { e.add(endedItem{id: id, end: end, generation: allStates}, now) }
	has := func(id string) bool { _, listed := e.endOf(id, 7); return listed }
	for i := range 5 {
		add(fmt.Sprint(i), start.Add(time.Duration(10-i)*hour), start)
		e.pardon(fmt.Sprint(i), 8) // nobody's session comes back so
	}
	if len(e.byID) > 3 || len(e.queue) != len(e.byID) {
		t.Errorf("%d entries, %d queued, want at most 3", len(e.byID), len(e.queue))
	}
	if !has("0") || has("3") {
		t.Error("the sessions that would end soonest are not the ones forgotten")
	}
	add("late", start.Add(100*hour), start.Add(50*hour))
	if has("0") || !has("late") || len(e.byID) != 1 {
		t.Errorf("sessions that are over are kept: %v", e.byID)
	}
}

func TestAListedStateIsOverAndANewerOneIsNot(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := newEnded(2)
	add := func(generation int, from time.Time) {
		e.add(endedItem{id: "a", end: now.Add(hour), generation: generation, from: from}, now)
	}
	expect := func(what string, generation int, wantFrom time.Time, want bool) {
		t.Helper()
		if from, listed := e.endOf("a", generation); listed != want || !from.Equal(wantFrom) {
			t.Errorf("%s: generation %d: over from %v, %v, want %v, %v", what, generation, from, listed, wantFrom, want)
		}
	}
	add(3, now.Add(time.Minute))
	add(3, now.Add(time.Hour)) // the first word on a state counts
	expect("doubted", 3, now.Add(time.Minute), true)
	expect("doubted", 4, time.Time{}, false)
	e.pardon("a", 3)
	expect("shown again", 3, now.Add(time.Minute), true)
	e.pardon("a", 4)
	expect("a newer one was shown", 3, time.Time{}, false)
	add(5, now.Add(time.Minute))
	add(allStates, time.Time{})
	expect("signed out", 9, time.Time{}, true)
}

func TestWhatWasPardonedTakesNothingElseOffTheList(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := newEnded(2)
	for i := range 9 {
		e.add(endedItem{id: "a", end: now.Add(time.Duration(i) * hour), generation: i}, now)
		if i < 8 {
			e.pardon("a", i+1)
		}
	}
	e.add(endedItem{id: "b", end: now.Add(day)}, now) // pushes out what is pardoned
	if _, listed := e.endOf("a", 8); !listed || len(e.queue) > 2 {
		t.Errorf("listed: %v, %d queued, want true and at most 2", listed, len(e.queue))
	}
}

func TestMemoIsComputedOnceAndGoesWithASlide(t *testing.T) {
	b := newBrowser(t, nil)
	b.signIn()
	calls := 0
	memo := func() any {
		s, err := b.m.Lookup(b.request())
		if err != nil {
			t.Fatal(err)
		}
		return s.Memo(func() any { calls++; return calls })
	}
	for range 2 {
		if got := memo(); got != 1 {
			t.Errorf("computed %v times, want once", got)
		}
	}
	b.now = b.now.Add(2 * day)
	b.visit()
	if memo() != 2 {
		t.Error("kept over a slide: a token minted for the old window would be handed out")
	}
}

func TestContradictingClocksAreRefused(t *testing.T) {
	b := newBrowser(t, nil)
	for name, edit := range map[string]func(*Config){
		"update_age equals max_age": func(c *Config) { c.UpdateAge = c.MaxAge },
		"no max_age":                func(c *Config) { c.MaxAge = 0 },
		"negative idle_timeout":     func(c *Config) { c.IdleTimeout = -1 },
		"negative interval":         func(c *Config) { c.ValidateInterval = -1 },
		"no sealer":                 func(c *Config) { c.Sealer = nil },
	} {
		c := b.config
		edit(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	br := newBrowser(b, nil)
	br.signIn()
	r := br.request()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := br.m.Lookup(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookupCold(b *testing.B) {
	br := newBrowser(b, nil)
	br.signIn()
	r := br.request()
	b.ReportAllocs()
	for b.Loop() {
		br.sealed().cache.InvalidateAll()
		if _, err := br.m.Lookup(r); err != nil {
			b.Fatal(err)
		}
	}
}
