package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// every5 has people read again after five minutes.
func every5(c *Config) { c.ValidateInterval = 5 * time.Minute }

func TestThePersonIsReadAgainWhenTheIntervalIsOver(t *testing.T) {
	tests := []struct {
		name     string
		life     time.Duration // of the tokens
		interval time.Duration
		want     time.Duration // from sign-in to the first refresh, and from each to the next
	}{
		{"the tokens are good for longer", hour, 5 * time.Minute, 5 * time.Minute},
		{"the tokens are due first", 5 * time.Minute, 30 * time.Minute, 4 * time.Minute},
		{"off", hour, 0, 59 * time.Minute},
	}
	for _, tt := range tests {
		for _, restart := range []bool{false, true} {
			p := newRotator(t, func(c *Config) { c.ValidateInterval = tt.interval })
			p.life = tt.life
			p.signIn(p.tokens())
			for i := range 3 {
				if restart {
					p.b.restart()
				}
				p.b.now = p.b.now.Add(tt.want - time.Second)
				if p.visit(); p.called() != i {
					t.Errorf("%s, restarted=%v: refresh %d came a second early", tt.name, restart, i+1)
				}
				p.user.Groups = []string{fmt.Sprint("group-", i)}
				p.b.now = p.b.now.Add(time.Second)
				p.visit()
				s, err := p.b.m.Lookup(p.b.request())
				if err != nil || p.called() != i+1 || fmt.Sprint(s.User.Groups) != fmt.Sprint(p.user.Groups) {
					t.Fatalf("%s, restarted=%v: error %v, %d refreshes, groups %v, want %d and %v", tt.name, restart, err, p.called(), s.User.Groups, i+1, p.user.Groups)
				}
			}
		}
	}
}

func TestTheFirstReadingAgainOfOtherSessions(t *testing.T) {
	expires := func(p *rotator, d time.Duration) Tokens {
		return Tokens{Refresh: "refresh-0", Access: "access-0", AccessExpiry: p.b.now.Add(d)}
	}
	tests := []struct {
		name   string
		tokens func(*rotator) Tokens
		want   int
	}{
		{"sealed before the setting was switched on", func(p *rotator) Tokens { return expires(p, day) }, 1},
		{"the provider does not say how long tokens last", func(*rotator) Tokens { return Tokens{Refresh: "refresh-0", Access: "access-0"} }, 1},
		{"no refresh token", func(*rotator) Tokens { return Tokens{Access: "access-0"} }, 0},
	}
	for _, tt := range tests {
		p := newRotator(t, nil)
		p.signIn(tt.tokens(p))
		every5(&p.b.config)
		p.b.restart()
		p.b.now = p.b.now.Add(5 * time.Minute)
		p.visit()
		if p.b.now = p.b.now.Add(2 * day); !p.b.signedIn() || p.called() != tt.want {
			t.Errorf("%s: %d refreshes, signed in: %v, want %d and true", tt.name, p.called(), p.b.signedIn(), tt.want)
		}
	}
}

func TestAProviderThatIsDownWhenThePersonIsToBeReadEndsNothing(t *testing.T) {
	p := newRotator(t, every5)
	p.fail = errors.New("status 503")
	for range 20 {
		p.b.now = p.b.now.Add(5 * time.Minute)
		p.visit()
	}
	p.fail = nil
	p.b.now = p.b.now.Add(refreshWaitMax)
	if got := p.visit(); got != "access-1" {
		t.Errorf("%q once the provider is back, want access-1", got)
	}
}

// New tokens that come without the person leave the reading due.
func TestAPersonWhoIsNotReadIsAskedForOnceAnInterval(t *testing.T) {
	p := newRotator(t, every5)
	p.stale = true
	for i := range 12 * 24 {
		p.b.now = p.b.now.Add(5*time.Minute - 2*time.Second)
		for range 3 {
			if p.b.now = p.b.now.Add(time.Second); i == 12*24-1 {
				continue
			}
			p.visit()
		}
		p.b.now = p.b.now.Add(-time.Second)
		if i < 12*24-1 && p.called() != i+1 {
			t.Fatalf("%d refreshes after %d intervals", p.called(), i+1)
		}
	}
	if _, _, err := p.ask(p.b.request()); !errors.Is(err, ErrNone) {
		t.Errorf("after a day error = %v, want ErrNone", err)
	}

	short := newRotator(t, func(c *Config) { c.ValidateInterval = 30 * time.Minute })
	short.stale, short.life = true, 2*hour
	short.b.now = short.b.now.Add(30 * time.Minute)
	short.life = 5 * time.Minute
	short.visit()
	short.b.now = short.b.now.Add(4 * time.Minute)
	if got := short.visit(); got != "access-2" {
		t.Errorf("%q when the new tokens are due before the interval is over, want access-2", got)
	}
}

func TestARevokedPersonIsOutAtTheNextReading(t *testing.T) {
	for name, tt := range map[string]struct {
		restart bool
		after   time.Duration
		outcome string
	}{
		"known here":                {false, 5 * time.Minute, outcomeRevoked},
		"known here, after a night": {false, 12 * hour, outcomeRevoked},
		"after a restart":           {true, 5 * time.Minute, outcomeSuperseded},
		"after a restart and a day": {true, day, outcomeSuperseded},
	} {
		p := newBareRotator(t, every5)
		p.fail = ErrRevoked
		p.b.now = p.b.now.Add(tt.after)
		if tt.restart {
			p.b.restart()
		}
		_, _, err := p.ask(p.b.request())
		if got := p.outcomes(tt.outcome); got != 1 || (err == nil) != (tt.outcome == outcomeSuperseded) {
			t.Errorf("%s: %v times %s, error %v", name, got, tt.outcome, err)
		}
		if p.b.now = p.b.now.Add(doubtFor); p.b.signedIn() {
			t.Errorf("%s: signed in five minutes later", name)
		}
	}
}

// tooLong is a refresh token that fits no cookie.
func (p *rotator) tooLong(now time.Time) Tokens {
	return Tokens{Refresh: incompressible(30000), AccessExpiry: now.Add(p.life)}
}

// Whoever revokes a person has no way to a session whose token did not fit.
func TestASessionThatLostItsTokenEndsADayAfterThePersonWasRead(t *testing.T) {
	for name, tt := range map[string]struct{ atSignIn, restart bool }{
		"at a refresh": {false, false}, "at a refresh, and a restart": {false, true},
		"at sign-in": {true, false}, "at sign-in, and a restart": {true, true},
	} {
		var log bytes.Buffer
		p := newRotator(t, func(c *Config) {
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
			c.RefreshTokens = func(_ context.Context, s *Session) (*Refreshed, error) {
				return &Refreshed{User: s.User, Tokens: Tokens{Refresh: incompressible(30000)}}, nil
			}
		})
		first := p.b.request()
		if tt.atSignIn {
			p.signIn(p.tooLong(p.b.now))
			first = p.b.request()
		} else {
			p.b.now = p.b.now.Add(12 * hour)
			if got := p.visit(); got != "" || strings.Count(log.String(), "does not fit the session cookie") != 1 {
				t.Errorf("%s: %q, and the log says\n%s", name, got, &log)
			}
		}
		end := p.b.now.Add(day)
		if tt.restart {
			p.b.restart()
		}
		p.b.now = end.Add(-time.Second)
		s, w, err := p.ask(p.b.request())
		if err != nil || !s.End().Equal(end) || !p.b.m.EndsAt(s).Equal(end) {
			t.Fatalf("%s: error %v in the last second, ends at %v, want %v", name, err, s.End(), end)
		}
		p.b.keep(w)
		raw, err := p.b.m.Copy(p.b.request(), s, false)
		if err != nil {
			t.Fatal(err)
		}
		copied, err := p.b.m.Accept(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), raw)
		if err != nil {
			t.Fatal(err)
		}
		for what, s := range map[string]*Session{"the session": s, "a copy": copied} {
			p.b.now = end.Add(-time.Second / 2)
			longer, err := p.b.m.Extend(httptest.NewRecorder(), p.b.request(), s)
			if err != nil || !longer.End().Equal(end) {
				t.Errorf("%s: %s, extended: error %v, want the same end", name, what, err)
			}
		}
		if p.b.now = end; p.b.signedIn() {
			t.Errorf("%s: signed in a day after the person was read", name)
		}
		if _, _, err := p.ask(first); !tt.restart && !errors.Is(err, ErrNone) {
			t.Errorf("%s: with the cookie from before: error %v, want ErrNone", name, err)
		}
	}
}

// An end that was put down before, for a session that lost its token, must not let
// an older cookie outlive the sign-out.
func TestSignOutOfASessionThatLostItsTokenHoldsForOlderCookies(t *testing.T) {
	p := newRotator(t, func(c *Config) {
		c.RefreshTokens = func(_ context.Context, s *Session) (*Refreshed, error) {
			return &Refreshed{User: s.User, Tokens: Tokens{Refresh: incompressible(30000)}}, nil
		}
	})
	older := p.b.request()
	p.b.now = p.b.now.Add(hour)
	p.visit()
	p.b.m.End(httptest.NewRecorder(), p.b.request())
	p.b.now = p.b.now.Add(2 * day)
	p.b.sealed().cache.InvalidateAll()
	p.b.m.Start(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), &Session{User: alice()})
	if _, err := p.b.m.Lookup(older); !errors.Is(err, ErrNone) {
		t.Errorf("error = %v, want ErrNone", err)
	}
}

func TestALostCookieAfterAReadingEndsNothing(t *testing.T) {
	p := newRotator(t, every5)
	first := p.b.request()
	for i := range 10 {
		p.b.now = p.b.now.Add(5 * time.Minute)
		p.b.sealed().cache.InvalidateAll()
		s, w, err := p.ask(first)
		if want := fmt.Sprint("access-", i+1); err != nil || s.Tokens.Access != want || w.Header().Get("Set-Cookie") == "" {
			t.Fatalf("reading %d: error %v, want %s and its cookie", i+1, err, want)
		}
	}
}

func TestThatNobodyCanBeReadAgainIsLoggedOnceForEachProvider(t *testing.T) {
	var log bytes.Buffer
	p := newRotator(t, func(c *Config) { every5(c); c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	if log.Len() > 0 {
		t.Errorf("with a refresh token: %s", &log)
	}
	for range 3 {
		p.signIn(Tokens{})
	}
	if got := strings.Count(log.String(), "session.validate_interval has no effect without a refresh token"); got != 1 || !strings.Contains(log.String(), "provider=corp") {
		t.Errorf("logged %d times, want once with the provider: %s", got, &log)
	}
}

func TestACopyLivesForItsDayWhenThePersonWasReadBefore(t *testing.T) {
	p := newRotator(t, every5)
	p.b.now = p.b.now.Add(5 * time.Minute)
	p.visit()
	p.b.now = p.b.now.Add(4 * time.Minute)
	s, err := p.b.m.Lookup(p.b.request())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := p.b.m.Copy(p.b.request(), s, false)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	if _, err := p.b.m.Accept(w, httptest.NewRequest("GET", "/", nil), raw); err != nil {
		t.Fatal(err)
	}
	p.b.keep(w)
	p.b.restart()
	if s, err := p.b.m.Lookup(p.b.request()); err != nil || !s.End().Equal(p.b.now.Add(day)) {
		t.Errorf("error %v, want a day from when the copy was made", err)
	}
}
