package session

import (
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// elsewhere returns the same person's cookies on another host, where nobody is
// signed in yet.
func (b *browser) elsewhere() *browser {
	other := *b
	other.cookies = map[string]string{}
	return &other
}

// copyTo hands the session of b over to other.
func (b *browser) copyTo(other *browser, tokens bool) (*Session, error) {
	b.t.Helper()
	s, err := b.m.Lookup(b.request())
	if err != nil {
		b.t.Fatal(err)
	}
	raw, err := b.m.Copy(b.request(), s, tokens)
	if err != nil {
		b.t.Fatal(err)
	}
	return other.accept(raw)
}

func (b *browser) accept(raw []byte) (*Session, error) {
	w := httptest.NewRecorder()
	s, err := b.m.Accept(w, b.request(), raw)
	b.keep(w)
	return s, err
}

func TestACopyIsTheSameSession(t *testing.T) {
	home := newBrowser(t, nil)
	s := home.signIn()
	away := home.elsewhere()
	c, err := home.copyTo(away, true)
	if err != nil {
		t.Fatal(err)
	}
	got, err := away.m.Lookup(away.request())
	if err != nil || got.ID != s.ID || c.ID != s.ID || got.User.Subject != s.User.Subject || !got.CreatedAt.Equal(s.CreatedAt) || got.UserAgent != s.UserAgent {
		t.Errorf("on the other host: %v, %v, want the session %s of %s", got, err, s.ID, s.User.Subject)
	}
	away.m.End(httptest.NewRecorder(), away.request())
	if home.signedIn() || away.signedIn() {
		t.Errorf("after the copy was ended: at home %v, away %v, want nobody on either host", home.signedIn(), away.signedIn())
	}
}

// TestAnEndedCopyStaysEnded would fail if the list of ended sessions forgot the
// session when the copy's own time is over.
func TestAnEndedCopyStaysEnded(t *testing.T) {
	home := newBrowser(t, nil)
	home.signIn()
	away := home.elsewhere()
	if _, err := home.copyTo(away, true); err != nil {
		t.Fatal(err)
	}
	away.m.End(httptest.NewRecorder(), away.request())
	home.now = home.now.Add(3 * day)
	for range 3 { // the list forgets what is over when something is added
		extra := home.elsewhere()
		extra.signIn()
		extra.m.End(httptest.NewRecorder(), extra.request())
	}
	if home.signedIn() {
		t.Error("the session came back when the time of its copy was over")
	}
}

func TestACopyLivesForADayAndNoLongerThanTheSession(t *testing.T) {
	tests := []struct {
		name string
		edit func(*Config)
		want time.Duration
	}{
		{"a long session", nil, day},
		{"no hard end", func(c *Config) { c.AbsoluteMaxAge = 0 }, day},
		{"a short window", func(c *Config) { c.MaxAge, c.UpdateAge = 3*hour, hour }, 3 * hour},
		{"a near hard end", func(c *Config) { c.AbsoluteMaxAge = 2 * hour }, 2 * hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home := newBrowser(t, tt.edit)
			home.signIn()
			away := home.elsewhere()
			c, err := home.copyTo(away, true)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.End().Sub(home.now); got != tt.want {
				t.Errorf("the copy ends after %v, want %v", got, tt.want)
			}
		})
	}
}

func TestActivityDoesNotExtendACopy(t *testing.T) {
	home := newBrowser(t, func(c *Config) { c.MaxAge, c.UpdateAge = 10*hour, hour })
	home.signIn()
	away := home.elsewhere()
	if _, err := home.copyTo(away, true); err != nil {
		t.Fatal(err)
	}
	for h := 1; h < 24; h++ {
		home.now = home.now.Add(hour)
		if away.visit() < 0 {
			t.Fatalf("the copy ended after %d hours, though it was used", h)
		}
	}
	home.now = home.now.Add(hour)
	if away.visit() >= 0 {
		t.Error("the copy lives for more than a day, want it fetched anew")
	}
}

func TestACopyHasNoRefreshTokenAndBurnsNone(t *testing.T) {
	p := newRotator(t, nil)
	away := p.b.elsewhere()
	if _, err := p.b.copyTo(away, true); err != nil {
		t.Fatal(err)
	}
	onAway := func() *Session {
		t.Helper()
		s, err := p.b.m.Lookup(away.request())
		if err != nil {
			t.Fatal("the copy is signed out")
		}
		w := httptest.NewRecorder()
		if s, err = p.b.m.Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if s, err = p.b.m.Touch(w, away.request(), s); err != nil {
			t.Fatal(err)
		}
		away.keep(w)
		return s
	}
	if s := onAway(); s.Tokens.Refresh != "" || s.Tokens.Access != "access-0" {
		t.Errorf("the copy has the tokens %+v, want the access token alone", s.Tokens)
	}
	p.b.now = p.b.now.Add(59 * time.Minute) // the tokens are due
	onAway()
	if p.called() != 0 {
		t.Errorf("a copy has asked the provider %d times, want never", p.called())
	}
	if got := p.visit(); got != "access-1" {
		t.Errorf("at home the access token is %s, want access-1", got)
	}
	// What home knows now must not get into the copy's cookie, also not when it is
	// opened anew while the refresh is remembered.
	p.b.sealed().cache.InvalidateAll()
	if s := onAway(); s.Tokens.Refresh != "" {
		t.Errorf("the copy was given the refresh token %s", s.Tokens.Refresh)
	}
	p.b.restart()
	p.b.now = p.b.now.Add(59 * time.Minute)
	if got := p.visit(); got != "access-2" || p.over {
		t.Errorf("after a restart the access token at home is %s, want access-2", got)
	}
}

func TestACopyWithTokensEndsWithThemIfThereAreNewOnesAtHome(t *testing.T) {
	soon := func(b *browser) time.Time { return b.now.Add(hour) }
	tests := []struct {
		name   string
		tokens func(b *browser) Tokens
		with   bool
		want   time.Duration
	}{
		{"with a refresh token at home", func(b *browser) Tokens { return Tokens{Refresh: "r", Access: "a", AccessExpiry: soon(b)} }, true, hour},
		{"the ID token ends", func(b *browser) Tokens { return Tokens{Refresh: "r", ID: "i", IDExpiry: soon(b)} }, true, hour},
		{"over, while the provider is down", func(b *browser) Tokens { return Tokens{Refresh: "r", Access: "a", AccessExpiry: b.now.Add(-hour)} }, true, time.Minute},
		{"nothing to get at home", func(b *browser) Tokens { return Tokens{Access: "a", AccessExpiry: soon(b)} }, true, day},
		{"none that upstreams get", func(b *browser) Tokens { return Tokens{Refresh: "r", AccessExpiry: soon(b)} }, true, day},
		{"left out", func(b *browser) Tokens { return Tokens{Refresh: "r", Access: "a", AccessExpiry: soon(b)} }, false, day},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home := newBrowser(t, nil)
			w := httptest.NewRecorder()
			if _, err := home.m.Start(w, home.request(), &Session{User: alice(), Tokens: tt.tokens(home)}); err != nil {
				t.Fatal(err)
			}
			home.keep(w)
			c, err := home.copyTo(home.elsewhere(), tt.with)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.End().Sub(home.now); got != tt.want {
				t.Errorf("the copy ends after %v, want %v", got, tt.want)
			}
			if !tt.with && c.Tokens != (Tokens{}) {
				t.Errorf("the copy has the tokens %+v, want none", c.Tokens)
			}
		})
	}
}

func TestACopyThatIsNotAccepted(t *testing.T) {
	home := newBrowser(t, nil)
	s := home.signIn()
	raw, err := home.m.Copy(home.request(), s, true)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := toRecord(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	notACopy, err := cbor.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		raw  []byte
		do   func()
	}{
		{"not a record", []byte("x"), func() {}},
		{"the session itself", notACopy, func() {}},
		{"the session has ended meanwhile", raw, func() { home.sealed().end(s, "sign_out") }},
		{"of another version", raw, func() { home.config.Version = 2; home.restart() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.do()
			away := home.elsewhere()
			if _, err := away.accept(tt.raw); !errors.Is(err, ErrNone) || len(away.cookies) != 0 {
				t.Errorf("Accept = %v with %d cookies, want ErrNone and none", err, len(away.cookies))
			}
		})
	}
}

func TestAcceptingACopyEndsNoNewerSession(t *testing.T) {
	home := newBrowser(t, nil)
	s := home.signIn()
	raw, err := home.m.Copy(home.request(), s, true)
	if err != nil {
		t.Fatal(err)
	}
	other := home.elsewhere()
	newer := other.signIn()
	away := home.elsewhere()
	if _, err := other.copyTo(away, true); err != nil {
		t.Fatal(err)
	}
	if _, err := away.accept(raw); err != nil {
		t.Fatal(err)
	}
	if !home.m.AliveID(newer.ID) {
		t.Error("a ticket that came late has ended the session that came first")
	}
}
