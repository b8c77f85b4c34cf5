package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A rotator is a provider that takes each refresh token once, and ends the
// family when one comes a second time.
type rotator struct {
	b    *browser
	life time.Duration
	hold chan struct{} // a refresh waits for it, nil means not
	busy chan struct{} // gets one element for each refresh that waits

	mu    sync.Mutex
	calls int
	n     int   // of the refresh token that is good
	over  bool  // the family is dead
	stale bool  // new tokens, but nothing about the person
	bare  bool  // upstreams get none of them
	fail  error // instead of an answer
	user  User
}

// newRotator returns a browser that is signed in with tokens that live for an
// hour, and their provider.
func newRotator(t testing.TB, edit func(*Config)) *rotator {
	p := &rotator{life: hour, user: alice(), busy: make(chan struct{}, 99)}
	p.user.ID = UserID(p.user.Issuer, p.user.Subject)
	p.b = newBrowser(t, func(c *Config) {
		c.RefreshTokens = p.refresh
		if edit != nil {
			edit(c)
		}
	})
	p.signIn(p.tokens())
	return p
}

// newBareRotator is newRotator where upstreams get our own token.
func newBareRotator(t testing.TB, edit func(*Config)) *rotator {
	p := newRotator(t, edit)
	p.bare = true
	p.signIn(p.tokens())
	return p
}

func (p *rotator) signIn(tokens Tokens) {
	p.b.t.Helper()
	w := httptest.NewRecorder()
	if _, err := p.b.m.Start(w, p.b.request(), &Session{User: p.user, Tokens: tokens}); err != nil {
		p.b.t.Fatal(err)
	}
	p.b.keep(w)
}

func (p *rotator) tokens() Tokens {
	if p.bare {
		return Tokens{Refresh: fmt.Sprint("refresh-", p.n), AccessExpiry: p.b.now.Add(p.life)}
	}
	return Tokens{Refresh: fmt.Sprint("refresh-", p.n), Access: fmt.Sprint("access-", p.n), AccessExpiry: p.b.now.Add(p.life)}
}

func (p *rotator) refresh(ctx context.Context, s *Session) (*Refreshed, error) {
	p.mu.Lock()
	p.calls++
	p.mu.Unlock()
	if p.hold != nil {
		p.busy <- struct{}{}
		select {
		case <-p.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return nil, p.fail
	}
	if p.over || s.Tokens.Refresh != p.tokens().Refresh {
		p.over = true
		return nil, fmt.Errorf("%w: used before", ErrRevoked)
	}
	p.n++
	return &Refreshed{User: p.user, Tokens: p.tokens(), Stale: p.stale}, nil
}

func (p *rotator) called() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// ask is one proxied request r. It returns the session that counted and what
// the answer set.
func (p *rotator) ask(r *http.Request) (*Session, *httptest.ResponseRecorder, error) {
	w := httptest.NewRecorder()
	s, err := p.b.m.Lookup(r)
	if err != nil {
		return nil, w, err
	}
	if s, err = p.b.m.Refresh(r.Context(), s); err != nil {
		return nil, w, err
	}
	s, err = p.b.m.Touch(w, r, s)
	return s, w, err
}

// visit is a request of the browser, which must be signed in. It returns the
// access token that counted.
func (p *rotator) visit() string {
	p.b.t.Helper()
	s, w, err := p.ask(p.b.request())
	if err != nil {
		p.b.t.Fatalf("signed out: %v", err)
	}
	p.b.keep(w)
	return s.Tokens.Access
}

func (p *rotator) outcomes(outcome string) float64 {
	return testutil.ToFloat64(p.b.m.metrics.refreshes.WithLabelValues("corp", outcome))
}

func TestTokensAreDueBeforeTheirEnd(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return now.Add(d) }
	tests := []struct {
		name   string
		tokens Tokens
		want   time.Time
	}{
		{"a minute ahead", Tokens{Refresh: "r", AccessExpiry: at(hour)}, at(59 * time.Minute)},
		{"five minutes: a minute is a fifth", Tokens{Refresh: "r", AccessExpiry: at(5 * time.Minute)}, at(4 * time.Minute)},
		{"a short life: a fifth of it", Tokens{Refresh: "r", AccessExpiry: at(time.Minute)}, at(48 * time.Second)},
		{"the ID token ends first", Tokens{Refresh: "r", AccessExpiry: at(day), ID: "i", IDExpiry: at(hour)}, at(59 * time.Minute)},
		{"the access token ends first", Tokens{Refresh: "r", AccessExpiry: at(hour), ID: "i", IDExpiry: at(day)}, at(59 * time.Minute)},
		{"an ID token that is over and was not renewed", Tokens{Refresh: "r", AccessExpiry: at(hour), ID: "i", IDExpiry: now}, at(59 * time.Minute)},
		{"no life told", Tokens{Refresh: "r", Access: "a"}, time.Time{}},
		{"no refresh token", Tokens{Access: "a", AccessExpiry: at(hour)}, time.Time{}},
	}
	for _, tt := range tests {
		if got := tt.tokens.dueAt(now); !got.Equal(tt.want) {
			t.Errorf("%s: due at %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestARefreshHappensAtTheVerySecond(t *testing.T) {
	for _, restart := range []bool{false, true} {
		p := newRotator(t, nil)
		p.b.now = p.b.now.Add(59*time.Minute - time.Second)
		if restart {
			p.b.restart()
		}
		if got := p.visit(); got != "access-0" || p.called() != 0 {
			t.Errorf("restarted=%v: a second early: %q after %d calls, want access-0 and none", restart, got, p.called())
		}
		p.b.now = p.b.now.Add(time.Second)
		if got := p.visit(); got != "access-1" || p.called() != 1 {
			t.Errorf("restarted=%v: at its time: %q after %d calls, want access-1 and one", restart, got, p.called())
		}
		p.b.restart()
		if got := p.visit(); got != "access-1" || p.called() != 1 {
			t.Errorf("restarted=%v: the new cookie holds %q, after %d calls", restart, got, p.called())
		}
	}
}

func TestLookingRefreshesNothing(t *testing.T) {
	p := newRotator(t, nil)
	p.b.now = p.b.now.Add(2 * hour)
	if !p.b.signedIn() || p.b.visit() < 0 || p.called() != 0 {
		t.Errorf("%d refreshes, want none by Lookup and Touch", p.called())
	}
}

func TestParallelRequestsRefreshOnce(t *testing.T) {
	for name, forget := range map[string]bool{"cached": false, "the cache drops what it likes": true} {
		t.Run(name, func(t *testing.T) {
			p := newRotator(t, nil)
			p.b.now = p.b.now.Add(2 * hour)
			p.hold = make(chan struct{})
			cookies := make([]string, 24)
			var wg sync.WaitGroup
			for i := range cookies {
				r := p.b.request()
				wg.Go(func() {
					if forget {
						p.b.sealed().cache.InvalidateAll()
					}
					s, w, err := p.ask(r)
					if err != nil || s.Tokens.Access != "access-1" {
						t.Errorf("request %d: %v, want access-1", i, err)
					}
					cookies[i] = w.Header().Get("Set-Cookie")
				})
			}
			<-p.busy
			close(p.hold)
			wg.Wait()
			if p.called() != 1 {
				t.Errorf("%d refreshes, want 1", p.called())
			}
			for _, c := range cookies {
				if c == "" || c != cookies[0] {
					t.Fatalf("two cookies for one refresh: %q and %q", c, cookies[0])
				}
			}
		})
	}
}

// Some ingresses drop Set-Cookie. The refresh token in the browser's cookie has
// been used up then, again and again.
func TestALostCookieAfterARefreshEndsNothing(t *testing.T) {
	p := newRotator(t, nil)
	first := p.b.request()
	for i := range 10 {
		p.b.now = p.b.now.Add(hour)
		p.b.sealed().cache.InvalidateAll() // it may forget; the entry must not be lost
		s, w, err := p.ask(first)
		if want := fmt.Sprint("access-", i+1); err != nil || s.Tokens.Access != want {
			t.Fatalf("hour %d: %v, want %s", i+1, err, want)
		}
		if w.Header().Get("Set-Cookie") == "" {
			t.Fatalf("hour %d: the new cookie is not handed out again", i+1)
		}
	}
	if got := p.outcomes(outcomeSuccess); got != 10 {
		t.Errorf("authproxy_refreshes_total = %v, want 10", got)
	}
}

func TestOldCookiesAreForgottenAMinuteAfterTheNewOneWasSeen(t *testing.T) {
	p := newRotator(t, nil)
	p.b.now = p.b.now.Add(hour)
	id := func() string { s, _ := p.b.m.Lookup(p.b.request()); return s.ID }()
	p.visit()
	kept := func() bool { p.b.sealed().kept.sweep(p.b.m.Now()); return p.b.sealed().kept.get(id) != nil }
	p.b.now = p.b.now.Add(10 * time.Minute)
	if !kept() {
		t.Error("forgotten before the browser has shown the new cookie")
	}
	p.visit()
	p.b.now = p.b.now.Add(keepOld - time.Second)
	p.visit() // must not begin a new minute
	if !kept() {
		t.Error("forgotten within the minute")
	}
	p.b.now = p.b.now.Add(time.Second)
	if kept() {
		t.Error("kept for ever")
	}
	p.b.now = p.b.now.Add(hour)
	p.visit() // another refresh, whose cookie the browser has not shown yet
	if !kept() {
		t.Error("forgotten after the second refresh, because of when the first cookie was seen")
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	k := newKept(3)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	put := func(id string) {
		e := &entry{}
		e.current.Store(&Session{ExpiresAt: now.Add(hour)})
		k.claim(id, e, now)
	}
	for _, id := range []string{"a", "b", "c", "a", "d"} {
		put(id)
	}
	if k.get("b") != nil || k.get("a") == nil || k.get("c") == nil || k.get("d") == nil || len(k.byID) != 3 || k.order.Len() != 3 {
		t.Errorf("%d kept, want a, c and d: the one refreshed longest ago goes", len(k.byID))
	}
	now = now.Add(hour)
	k.sweep(now)
	if len(k.byID) != 0 {
		t.Errorf("%d sessions that are over are kept", len(k.byID))
	}
}

func TestHeirsDoNotLeadInACircle(t *testing.T) {
	k := newKept(3)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first, second := &entry{}, &entry{}
	k.claim("a", first, now)
	k.claim("a", second, now)
	k.drop("a")
	for _, e := range []*entry{second, first, second} {
		if k.claim("a", e, now) != first {
			t.Fatal("an entry that has an heir is kept again")
		}
	}
	if first.heir.Load() != nil || second.latest() != first {
		t.Error("the kept entry has an heir")
	}
}

func TestSignOutDuringARefreshStays(t *testing.T) {
	discarded := make(chan Tokens, 1)
	p := newRotator(t, func(c *Config) { c.DiscardTokens = func(s *Session) { discarded <- s.Tokens } })
	p.b.now = p.b.now.Add(2 * hour)
	p.hold = make(chan struct{})
	r := p.b.request()
	s, _ := p.b.m.Lookup(r)
	done := make(chan error)
	go func() {
		_, err := p.b.m.Refresh(t.Context(), s)
		done <- err
	}()
	<-p.busy
	p.b.m.End(httptest.NewRecorder(), r)
	close(p.hold)
	if err := <-done; !errors.Is(err, ErrNone) {
		t.Errorf("the request that waited: error = %v, want ErrNone", err)
	}
	if p.b.signedIn() {
		t.Error("the refresh brought the session back")
	}
	if s.entry.current.Load() != s || p.b.sealed().kept.get(s.ID) != nil {
		t.Error("tokens of an ended session are kept")
	}
	if got := <-discarded; got.Refresh != "refresh-1" {
		t.Errorf("the provider is told that %q is not wanted, want the token that came after the end", got.Refresh)
	}
}

func TestWhoeverSignsOutGivesBackTheNewestTokens(t *testing.T) {
	p := newRotator(t, func(c *Config) {
		c.DiscardTokens = func(*Session) { t.Error("tokens of a live session are given back") }
	})
	p.b.now = p.b.now.Add(2 * hour)
	old := p.b.request()
	p.visit()
	if was, _ := p.b.m.End(httptest.NewRecorder(), old); was == nil || was.Tokens.Refresh != "refresh-1" {
		t.Errorf("End returns %+v, want the session with refresh-1", was)
	}
}

func TestARefreshOutlivesTheRequestThatBeganIt(t *testing.T) {
	p := newRotator(t, nil)
	p.b.now = p.b.now.Add(2 * hour)
	p.hold = make(chan struct{})
	ctx, leave := context.WithCancel(t.Context())
	r := p.b.request().WithContext(ctx)
	done := make(chan struct{})
	go func() { defer close(done); p.ask(r) }()
	<-p.busy
	leave()
	<-done // the browser did not have to wait
	next := make(chan string)
	go func() { next <- p.visit() }()
	close(p.hold)
	if got := <-next; got != "access-1" || p.called() != 1 {
		t.Errorf("the next request got %q after %d calls, want access-1 after one: the rotated token was lost", got, p.called())
	}
}

func TestASlowProviderIsNotWaitedForLong(t *testing.T) {
	for name, tt := range map[string]struct {
		late time.Duration // after the token's end
		bare bool
		want time.Duration
	}{
		"the token is good still": {-30 * time.Second, false, patience}, "the token is over": {0, false, longPatience},
		"no upstream needs it": {hour, true, patience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newRotator(t, nil)
				defer p.b.m.Close()
				p.bare = tt.bare
				p.signIn(p.tokens())
				p.b.now = p.b.now.Add(hour + tt.late)
				p.hold = make(chan struct{})
				begun := time.Now()
				p.visit()
				if got := time.Since(begun); got != tt.want || p.called() != 1 {
					t.Errorf("waited %v and made %d calls, want %v and 1", got, p.called(), tt.want)
				}
				if p.visit(); time.Since(begun) != tt.want || p.called() != 1 {
					t.Error("the next request waits again, or asks again")
				}
				close(p.hold)
			})
		})
	}
}

// The provider has used up the old token, whether we wait or not.
func TestASlowProviderEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRotator(t, nil)
		defer p.b.m.Close()
		p.b.now = p.b.now.Add(hour - 30*time.Second)
		p.hold = make(chan struct{})
		if got := p.visit(); got != "access-0" {
			t.Errorf("%q while the provider is slow, want the old token", got)
		}
		time.Sleep(time.Minute - patience)
		close(p.hold)
		synctest.Wait()
		if got := p.visit(); got != "access-1" || p.called() != 1 {
			t.Errorf("%q after %d calls, want what came after a minute", got, p.called())
		}
	})
}

func TestAProviderThatDoesNotAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newRotator(t, nil)
		defer p.b.m.Close()
		p.b.now = p.b.now.Add(2 * hour)
		p.hold = make(chan struct{})
		p.visit()
		time.Sleep(refreshTimeout - longPatience)
		synctest.Wait()
		if got := p.outcomes(outcomeUnavailable); got != 1 {
			t.Errorf("%v refreshes counted as unavailable, want 1", got)
		}
	})
}

func TestAFailureKeepsTheSessionAndIsNotRepeatedAtOnce(t *testing.T) {
	p := newRotator(t, nil)
	end := p.b.now.Add(7 * day)
	p.b.now = p.b.now.Add(2 * hour)
	p.fail = errors.New("status 503")
	calls := 0
	for _, wait := range []time.Duration{0, 5, 10, 20, 40, 60, 60} {
		if p.b.now = p.b.now.Add(wait*time.Second - time.Second); wait > 0 {
			p.visit()
		}
		if p.called() != calls {
			t.Fatalf("tried again a second before %v s were over", wait)
		}
		p.b.now = p.b.now.Add(time.Second)
		for range 3 {
			p.visit()
		}
		if calls++; p.called() != calls {
			t.Fatalf("%d calls %v s after the last failure, want %d", p.called(), wait, calls)
		}
	}
	p.fail = nil
	p.b.now = p.b.now.Add(time.Minute)
	if got := p.visit(); got != "access-1" {
		t.Errorf("%q once the provider is back, want access-1", got)
	}
	p.fail = errors.New("status 503")
	p.b.now = p.b.now.Add(hour)
	calls = p.called()
	p.visit()
	p.b.now = p.b.now.Add(5 * time.Second)
	if p.visit(); p.called() != calls+2 {
		t.Errorf("%d calls in 5 s of the next outage, want 2: the earlier one counts no more", p.called()-calls)
	}
	p.b.now = end.Add(-time.Second)
	if s, err := p.b.m.Lookup(p.b.request()); err != nil {
		t.Error("signed out before the session's own end")
	} else if _, err := p.b.m.Refresh(t.Context(), s); err != nil {
		t.Errorf("signed out in the session's last second: %v", err)
	}
}

func TestARefreshTokenThatIsNotAccepted(t *testing.T) {
	tests := []struct {
		name    string
		restart bool
		bare    bool // upstreams get no token
		after   time.Duration
		err     error
		outcome string
		goesOn  time.Duration
	}{
		{"known here: revoked", false, true, 2 * hour, ErrRevoked, outcomeRevoked, 0},
		{"after a restart, just due: in doubt", true, true, hour - time.Minute, ErrRevoked, outcomeSuperseded, doubtFor},
		{"after a restart, long over: in doubt", true, true, 65 * hour, ErrRevoked, outcomeSuperseded, doubtFor},
		{"in doubt as long as upstreams get a token", true, false, hour - 30*time.Second, ErrRevoked, outcomeSuperseded, 30 * time.Second},
		{"upstreams would get none", true, false, hour, ErrRevoked, outcomeRevoked, 0},
		{"barred, whoever wrote the cookie", true, true, 2 * hour, ErrBarred, outcomeRevoked, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newRotator(t, nil)
			p.bare = tt.bare
			p.signIn(p.tokens())
			p.b.now = p.b.now.Add(tt.after)
			if tt.restart {
				p.b.restart()
			}
			p.fail = fmt.Errorf("%w: invalid_grant", tt.err)
			if tt.goesOn > 0 {
				p.visit()
				p.b.now = p.b.now.Add(tt.goesOn - time.Second)
				p.visit()
				p.b.now = p.b.now.Add(time.Second)
			}
			if _, _, err := p.ask(p.b.request()); !errors.Is(err, ErrNone) || p.b.signedIn() {
				t.Errorf("error = %v, want ErrNone", err)
			}
			if got := p.outcomes(tt.outcome); got != 1 || p.called() != 1 {
				t.Errorf("%d refreshes, counted as %s = %v, want one", p.called(), tt.outcome, got)
			}
			p.b.sealed().cache.InvalidateAll()
			if p.b.now = p.b.now.Add(day); p.b.signedIn() || p.called() != 1 {
				t.Error("signed in a day later")
			}
		})
	}
}

// doubted returns the provider of a session whose cookie, the second one of it,
// is in doubt here: another replica has the third one, in the answer newer.
func doubted(t *testing.T, edit func(*Config)) (p *rotator, newer *httptest.ResponseRecorder) {
	t.Helper()
	p = newBareRotator(t, edit)
	p.b.now = p.b.now.Add(hour)
	p.visit()
	p.b.now = p.b.now.Add(hour)
	p.elsewhere(func() {
		var err error
		if _, newer, err = p.ask(p.b.request()); err != nil {
			t.Fatal(err)
		}
	})
	p.b.restart()
	p.fail = ErrRevoked
	if p.visit(); p.outcomes(outcomeSuperseded) != 1 {
		t.Fatal("the cookie is not in doubt")
	}
	p.fail = nil
	return p, newer
}

func TestASessionInDoubtIsOutForGoodAtItsEnd(t *testing.T) {
	for _, idle := range []time.Duration{0, day} {
		p, _ := doubted(t, func(c *Config) { c.IdleTimeout = idle })
		end := p.b.now.Add(doubtFor)
		s, err := p.b.m.Lookup(p.b.request())
		if err != nil || !p.b.m.EndsAt(s).Equal(end) {
			t.Fatalf("error %v, ends at %v, want %v", err, p.b.m.EndsAt(s), end)
		}
		p.b.now = end.Add(-time.Second)
		w := httptest.NewRecorder()
		if _, err := p.b.m.Extend(w, p.b.request(), s); err != nil || p.b.keep(w) > 0 {
			t.Errorf("extended: error %v, or a cookie of it could take the place of a newer one", err)
		}
		if _, err := p.b.m.Live(t.Context(), s.ID); err != nil || !p.b.m.Alive(s) {
			t.Errorf("by id: %v, want it alive", err)
		}
		p.b.now = end
		if _, err := p.b.m.Live(t.Context(), s.ID); !errors.Is(err, ErrNone) || p.b.m.Alive(s) || p.b.m.AliveID(s.ID) {
			t.Errorf("at the end of the doubt: by id: %v, want it over", err)
		}
		for range 3 { // what is forgotten of it begins no new doubt
			p.b.now = p.b.now.Add(2 * hour)
			p.b.sealed().cache.InvalidateAll()
			p.b.sealed().kept.drop(s.ID)
			if _, _, err := p.ask(p.b.request()); !errors.Is(err, ErrNone) || p.called() != 3 {
				t.Fatalf("idle timeout %v: after the doubt: error %v, %d refreshes, want ErrNone and no more than before", idle, err, p.called())
			}
		}
	}
}

func TestANewerCookieEndsTheDoubt(t *testing.T) {
	for name, late := range map[string]time.Duration{"during it": 0, "long after it": 6 * doubtFor} {
		for _, forget := range []bool{false, true} {
			p, newer := doubted(t, nil)
			older := p.b.request()
			s, _ := p.b.m.Lookup(older)
			p.b.now = p.b.now.Add(late)
			p.b.keep(newer)
			if forget {
				p.b.sealed().cache.InvalidateAll()
				p.b.sealed().kept.drop(s.ID)
			}
			if s, _, err := p.ask(p.b.request()); err != nil || s.Tokens.Refresh != "refresh-2" {
				t.Fatalf("%s, forgotten=%v: the newer cookie: %v", name, forget, err)
			}
			if _, err := p.b.m.Live(t.Context(), s.ID); err != nil {
				t.Errorf("%s, forgotten=%v: a token of the session: %v", name, forget, err)
			}
			if s, _, err := p.ask(older); !forget && (err != nil || s.Tokens.Refresh != "refresh-2") {
				t.Errorf("%s: the older cookie leads elsewhere: %v", name, err)
			}
			p.b.now = p.b.now.Add(hour)
			if p.visit(); !p.b.signedIn() {
				t.Errorf("%s, forgotten=%v: signed out later", name, forget)
			}
		}
	}
}

func TestACopyOfASessionInDoubtEndsWithIt(t *testing.T) {
	p, _ := doubted(t, nil)
	s, err := p.b.m.Lookup(p.b.request())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := p.b.m.Copy(p.b.request(), s, false)
	if err != nil {
		t.Fatal(err)
	}
	p.b.restart()
	copied, err := p.b.m.Accept(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), raw)
	if err != nil || !copied.End().Equal(p.b.now.Add(doubtFor)) {
		t.Errorf("error %v, want a copy until the end of the doubt", err)
	}
}

func TestASignOutWhileTheTokenIsRefusedIsCountedOnce(t *testing.T) {
	p := newBareRotator(t, nil)
	p.b.now = p.b.now.Add(2 * hour)
	r := p.b.request()
	p.hold, p.fail = make(chan struct{}), ErrRevoked
	done := make(chan error)
	go func() { _, _, err := p.ask(r); done <- err }()
	<-p.busy
	p.b.m.End(httptest.NewRecorder(), r)
	close(p.hold)
	if err := <-done; !errors.Is(err, ErrNone) {
		t.Errorf("error = %v, want ErrNone", err)
	}
	if got := testutil.ToFloat64(p.b.m.metrics.ended.WithLabelValues("revoked")); got != 0 {
		t.Errorf("ended %v times more", got)
	}
}

func TestASignOutDuringTheDoubtHoldsForNewerCookies(t *testing.T) {
	p, newer := doubted(t, nil)
	p.b.m.End(httptest.NewRecorder(), p.b.request())
	p.b.keep(newer)
	if p.b.signedIn() {
		t.Error("a newer cookie of a session that was signed out counts")
	}
}

// Two replicas of which each has got the old cookie of a page's requests: one of
// them is told that the token is used up.
func TestTwoReplicasThatRefreshAtOnceSignNobodyOut(t *testing.T) {
	for name, known := range map[string]bool{"the slower one has only seen the cookie": false, "it made the cookie": true} {
		p := newBareRotator(t, nil)
		slower := p.b.m
		p.b.now = p.b.now.Add(hour - 30*time.Second)
		if !known {
			p.b.restart()
			slower = p.b.m
		}
		old := p.b.request()
		p.elsewhere(func() { p.visit() })
		p.b.m = slower
		if _, w, err := p.ask(old); (err == nil) == known || p.b.keep(w) > 0 {
			t.Errorf("%s: the request with the old cookie: %v", name, err)
		}
		p.over = false // not every provider ends the family
		p.visit()
		p.b.now = p.b.now.Add(hour)
		if p.visit(); !p.b.signedIn() {
			t.Errorf("%s: signed out by the next refresh", name)
		}
	}
}

func TestARefreshReadsThePersonAnew(t *testing.T) {
	p := newRotator(t, nil)
	s, _ := p.b.m.Lookup(p.b.request())
	s.Memo(func() any { return "old" })
	p.user.Groups, p.user.Email = []string{"other"}, "new@example.com"
	p.b.now = p.b.now.Add(hour)
	p.visit()
	for _, restart := range []bool{false, true} {
		if restart {
			p.b.restart()
		}
		s, err := p.b.m.Lookup(p.b.request())
		if err != nil || fmt.Sprint(s.User.Groups) != "[other]" || s.User.Email != "new@example.com" || s.User.ID != UserID(p.user.Issuer, p.user.Subject) {
			t.Errorf("restarted=%v: %v, user = %+v", restart, err, s.User)
		}
		if got := s.Memo(func() any { return "new" }); got != "new" {
			t.Error("what was computed from the old groups is still used")
		}
	}
}

func TestAnotherPersonsTokensAreNotTaken(t *testing.T) {
	p := newRotator(t, nil)
	p.user.Subject = "248289761002"
	p.b.now = p.b.now.Add(hour)
	p.visit()
	if s, err := p.b.m.Lookup(p.b.request()); err != nil || s.User.Subject != alice().Subject || s.Tokens.Access != "access-0" {
		t.Errorf("Lookup: %v, subject %s", err, s.User.Subject)
	}
	if got := p.outcomes(outcomeUnavailable); got != 1 {
		t.Errorf("%v refreshes counted as unavailable, want 1", got)
	}
}

func TestARefreshAcrossAKeyRotationAndARestart(t *testing.T) {
	p := newRotator(t, nil)
	p.b.now = p.b.now.Add(hour)
	p.b.config.Sealer = ring(t, 2, 1)
	p.b.restart()
	if got := p.visit(); got != "access-1" {
		t.Errorf("after the rotation: %q, want access-1", got)
	}
	p.b.config.Sealer = ring(t, 2)
	p.b.restart()
	p.b.now = p.b.now.Add(hour)
	if got := p.visit(); got != "access-2" {
		t.Errorf("under the new key alone: %q, want access-2", got)
	}
}

// A replica that has refreshed a session itself must follow the others.
func TestANewerCookieFromElsewhereCounts(t *testing.T) {
	p := newRotator(t, nil)
	here := p.b.m
	old := p.b.request()
	p.b.now = p.b.now.Add(hour)
	p.visit() // access-1, kept here
	p.b.now = p.b.now.Add(hour)
	p.b.restart()
	there := p.b.m
	p.visit() // access-2
	p.b.m = here
	if got := p.visit(); got != "access-2" {
		t.Errorf("the newer cookie led to %q, want access-2", got)
	}
	if s, _, err := p.ask(old); err != nil || s.Tokens.Access != "access-2" || p.over {
		t.Errorf("an old cookie after that: %v", err)
	}
	p.b.now = p.b.now.Add(hour)
	p.visit() // access-3, again here
	p.b.m = there
	if got := p.visit(); got != "access-3" || p.called() != 3 {
		t.Errorf("back there: %q after %d refreshes, want access-3 after three", got, p.called())
	}
}

// Two cookies of one session can have been opened apart before a refresh made
// one of them old.
func TestEntriesOfOneSessionMeetAtTheRefresh(t *testing.T) {
	p := newRotator(t, nil)
	old := p.b.request()
	p.b.now = p.b.now.Add(2 * day)
	p.b.visit() // slides
	p.b.restart()
	for _, r := range []*http.Request{old, p.b.request()} {
		if _, err := p.b.m.Lookup(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*http.Request{p.b.request(), old, old} {
		if s, _, err := p.ask(r); err != nil || s.Tokens.Access != "access-1" {
			t.Fatalf("error = %v, want access-1 for both cookies", err)
		}
		// What is judged again after a refresh is looked up again.
		if s, err := p.b.m.Lookup(r); err != nil || s.Tokens.Access != "access-1" {
			t.Fatalf("Lookup after the refresh: %v, want access-1", err)
		}
	}
	if p.called() != 1 {
		t.Errorf("%d refreshes, want one", p.called())
	}
}

// elsewhere runs visit at another replica and returns to this one.
func (p *rotator) elsewhere(visit func()) {
	p.b.t.Helper()
	here := p.b.m
	p.b.restart()
	visit()
	p.b.m = here
}

func TestOfTwoOpenedCookiesTheNewerTokenIsUsed(t *testing.T) {
	p := newRotator(t, nil)
	old := p.b.request()
	p.b.now = p.b.now.Add(hour)
	p.elsewhere(func() { p.visit() })
	current := p.b.request()
	p.b.restart()
	for _, r := range []*http.Request{old, current} {
		if _, err := p.b.m.Lookup(r); err != nil {
			t.Fatal(err)
		}
	}
	p.b.now = p.b.now.Add(hour)
	p.fail = errors.New("status 503")
	if _, _, err := p.ask(old); err != nil {
		t.Fatal(err)
	}
	p.fail = nil
	p.b.now = p.b.now.Add(time.Minute)
	for range 2 {
		if s, _, err := p.ask(current); err != nil || s.Tokens.Access != "access-2" {
			t.Fatalf("error = %v, want access-2: the old cookie's token was used", err)
		}
	}
}

func TestANewerCookieThatComesDuringARefreshIsNotEnded(t *testing.T) {
	p := newRotator(t, nil)
	p.b.now = p.b.now.Add(hour)
	old := p.b.request()
	p.elsewhere(func() { p.visit() })
	p.hold = make(chan struct{})
	done := make(chan error)
	go func() { _, _, err := p.ask(old); done <- err }()
	<-p.busy
	if !p.b.signedIn() { // with the new cookie
		t.Fatal("signed out")
	}
	close(p.hold)
	if err := <-done; err != nil || !p.b.signedIn() {
		t.Errorf("error = %v: a token that was superseded ended the session", err)
	}
	if got := p.outcomes(outcomeSuperseded); got != 1 {
		t.Errorf("%v refreshes counted as superseded, want 1", got)
	}
}

func TestATokenFromElsewhereIsNotKnownHere(t *testing.T) {
	p := newBareRotator(t, nil)
	p.b.now = p.b.now.Add(hour)
	p.visit() // kept here
	p.b.now = p.b.now.Add(hour)
	p.elsewhere(func() { p.visit() })
	if !p.b.signedIn() {
		t.Fatal("signed out")
	}
	p.b.now = p.b.now.Add(2 * hour)
	p.fail = ErrRevoked // it was refreshed elsewhere again
	p.visit()
}

func TestActivityElsewhereKeepsASessionThatWasRefreshedHere(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"a slide": nil, "before the idle timeout": func(c *Config) { c.IdleTimeout = 5 * day },
	} {
		p := newRotator(t, edit)
		p.b.now = p.b.now.Add(hour)
		p.visit()
		p.b.now = p.b.now.Add(4 * day)
		p.elsewhere(func() { p.b.visit() })
		p.b.now = p.b.now.Add(4 * day)
		if !p.b.signedIn() {
			t.Errorf("%s: the replica goes by what it has seen itself", name)
		}
	}
}

func TestASlideDuringARefreshIsNotLost(t *testing.T) {
	p := newRotator(t, nil)
	p.b.now = p.b.now.Add(2 * day)
	p.hold = make(chan struct{})
	done := make(chan string)
	go func() { done <- p.visit() }()
	<-p.busy
	r := p.b.request()
	s, _ := p.b.m.Lookup(r)
	if _, err := p.b.m.Touch(httptest.NewRecorder(), r, s); err != nil {
		t.Fatal(err)
	}
	close(p.hold)
	<-done
	p.b.restart()
	if s, err := p.b.m.Lookup(p.b.request()); err != nil || s.Tokens.Access != "access-1" || !s.ExpiresAt.Equal(p.b.now.Add(7*day)) {
		t.Errorf("Lookup: %v, expires %v", err, s.ExpiresAt)
	}
}

func TestTheRefreshTokenIsLeftOutLast(t *testing.T) {
	p := newRotator(t, nil)
	tests := []struct {
		name            string
		access, refresh int
		want            bool // the refresh token is there
	}{
		{"a long access token", 30000, 40, true},
		{"a long refresh token", 40, 30000, false},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		s := &Session{User: alice(), Tokens: Tokens{Refresh: incompressible(tt.refresh), Access: incompressible(tt.access), AccessExpiry: p.b.now.Add(hour)}}
		dropped, err := p.b.m.Start(w, p.b.request(), s)
		if err != nil || !dropped {
			t.Fatalf("%s: Start = %v, %v, want tokens dropped", tt.name, dropped, err)
		}
		p.b.keep(w)
		p.b.restart()
		got, err := p.b.m.Lookup(p.b.request())
		if err != nil || got.Tokens.Access != "" || (got.Tokens.Refresh != "") != tt.want || p.b.m.refreshDue(got, p.b.now.Add(hour)) != tt.want {
			t.Errorf("%s: Lookup: %v, refresh token there: %v, want %v", tt.name, err, got.Tokens.Refresh != "", tt.want)
		}
	}
}

// A provider that renews tokens and does not say who they are for, because the
// person has used up its quota, keeps nobody in for ever.
func TestAPersonWhoCannotBeReadIsOutAfterADay(t *testing.T) {
	for _, restart := range []bool{false, true} {
		p := newRotator(t, nil)
		p.b.now = p.b.now.Add(12 * hour)
		p.visit() // the person is read, and the day begins
		p.stale = true
		for range 11 {
			p.b.now = p.b.now.Add(2 * hour)
			if restart {
				p.b.restart()
			}
			p.visit()
		}
		p.b.now = p.b.now.Add(2 * hour)
		if _, _, err := p.ask(p.b.request()); !errors.Is(err, ErrNone) {
			t.Errorf("restarted=%v: after a day error = %v, want ErrNone", restart, err)
		}
	}
}
