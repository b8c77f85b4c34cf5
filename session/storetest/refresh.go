package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"authproxy/session"
)

// A rotator is a provider that takes each refresh token once, and ends all of
// them when one comes a second time.
type rotator struct {
	mu    sync.Mutex
	calls int
	n     int // of the refresh token that is good
	over  bool
	life  time.Duration // of the tokens that are given out
	user  session.User
}

func (p *rotator) tokens(expires time.Time) session.Tokens {
	return session.Tokens{Refresh: fmt.Sprint("refresh-", p.n), Access: fmt.Sprint("access-", p.n), AccessExpiry: expires}
}

func (p *rotator) refresh(_ context.Context, s *session.Session) (*session.Refreshed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.over || s.Tokens.Refresh != fmt.Sprint("refresh-", p.n) {
		p.over = true
		return nil, fmt.Errorf("%w: %s was used before", session.ErrRevoked, s.Tokens.Refresh)
	}
	p.n++
	return &session.Refreshed{User: p.user, Tokens: p.tokens(time.Now().Add(p.life))}, nil
}

// refreshers returns two processes that refresh at p.
func (p *pair) refreshers(t *testing.T, provider *rotator) [2]*session.Manager {
	var both [2]*session.Manager
	for i := range both {
		c := Config(t, p.open(t))
		c.RefreshTokens = provider.refresh
		both[i] = Start(t, c)
		p.hears(t, both[i])
	}
	return both
}

func testRefreshOnce(t *testing.T, p *pair) {
	provider := &rotator{life: time.Hour, user: person("alice")}
	provider.user.Groups = []string{"new"}
	both := p.refreshers(t, provider)
	var b Browser
	id := b.SignIn(t, both[0], person("alice"), provider.tokens(time.Now().Add(time.Hour)))
	if saved, err := p.expireTokens(t, id); !saved || err != nil {
		t.Fatalf("SaveRefresh = %v, %v", saved, err)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		m := both[i%2]
		wg.Go(func() {
			s, err := m.Lookup(b.Request())
			if err != nil {
				t.Errorf("Lookup: %v", err)
				return
			}
			for end := time.Now().Add(patience); s.Tokens.Access == "access-0" && time.Now().Before(end); { // until it is known to be due
				if s, err = m.Lookup(b.Request()); err == nil {
					s, err = m.Refresh(t.Context(), s)
				}
				if err != nil {
					t.Errorf("Refresh: %v", err)
					return
				}
			}
			if s.ID != id || s.Tokens.Access != "access-1" || len(s.User.Groups) != 1 {
				t.Errorf("session %s with token %s and groups %q, want %s, access-1, new", s.ID, s.Tokens.Access, s.User.Groups, id)
			}
		})
	}
	wg.Wait()
	if provider.calls != 1 {
		t.Errorf("%d refreshes at the provider, want 1", provider.calls)
	}
	for _, m := range both {
		expect(t, "afterwards", m, &b, id)
	}
}

func testRefreshAfterDeath(t *testing.T, p *pair) {
	provider := &rotator{life: time.Hour, user: person("alice")}
	both := p.refreshers(t, provider)
	var b Browser
	id := b.SignIn(t, both[0], person("alice"), provider.tokens(time.Now().Add(time.Hour)))
	if saved, err := p.expireTokens(t, id); !saved || err != nil {
		t.Fatalf("SaveRefresh = %v, %v", saved, err)
	}
	// Another replica took the right to refresh, and was never seen again.
	now := time.Now().UTC()
	if locked, err := p.LockRefresh(t.Context(), id, 1, now, now.Add(time.Second)); !locked || err != nil {
		t.Fatalf("LockRefresh = %v, %v", locked, err)
	}
	eventually(t, "the tokens are refreshed", func() bool {
		s, err := both[1].Lookup(b.Request())
		if err != nil {
			t.Fatal(err)
		}
		if s, err = both[1].Refresh(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		return s.Tokens.Access == "access-1"
	})

	// The provider has ended it all: so is the session, everywhere.
	provider.mu.Lock()
	provider.over, provider.life = true, time.Millisecond
	provider.mu.Unlock()
	if saved, err := p.expireTokens(t, id); !saved || err != nil {
		t.Fatalf("SaveRefresh = %v, %v", saved, err)
	}
	eventually(t, "the session ends", func() bool {
		s, err := both[0].Lookup(b.Request())
		if err == nil {
			_, err = both[0].Refresh(t.Context(), s)
		}
		if err != nil && !errors.Is(err, session.ErrNone) {
			t.Fatal(err)
		}
		return err != nil
	})
	soon(t, "there", both[1], &b)
}

// expireTokens makes the tokens of a session due now.
func (p *pair) expireTokens(t *testing.T, id string) (bool, error) {
	c := p.found(t, id).Credential
	c.RefreshAt = p.now
	return p.SaveRefresh(t.Context(), id, c.Version, &c, nil, p.now)
}
