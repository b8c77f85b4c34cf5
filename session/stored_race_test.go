package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"authproxy/session"
	"authproxy/session/storetest"
)

// between is a Store with which something happens right after a call.
type between struct {
	session.Store
	users  func()
	errDel error // what the first Delete that did its work returns
	half   error // what the first Delete returns that did it for one session only
	late   bool  // Find says only at the end of its time that there is nothing
}

func (s *between) Find(ctx context.Context, token session.Hash) (*session.Row, error) {
	if s.late {
		<-ctx.Done()
		return nil, session.ErrNone
	}
	return s.Store.Find(ctx, token)
}

func (s *between) Users(ctx context.Context, id, email string) ([]session.Account, error) {
	found, err := s.Store.Users(ctx, id, email)
	if s.users != nil {
		s.users()
	}
	return found, err
}

func (s *between) Delete(ctx context.Context, which session.Selection) ([]string, error) {
	err := s.half
	if rows, _ := s.Store.List(ctx, which, time.Now(), 1); err != nil && len(rows) == 1 {
		s.half, which = nil, session.Selection{ID: rows[0].ID}
	}
	ids, failed := s.Store.Delete(ctx, which)
	err = errors.Join(err, failed)
	if s.errDel != nil {
		ids, err, s.errDel = nil, s.errDel, nil
	}
	return ids, err
}

func TestWhoIsBannedDuringSignInIsOut(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		var b, again storetest.Browser
		deaf := &storetest.Faults{Store: w.store.Another()}
		store := &between{Store: deaf}
		m := storetest.Start(t, storetest.Config(t, store))
		b.SignIn(t, m, alice(), session.Tokens{}) // known from now on
		store.users = func() {                    // nobody has banned them yet
			ban := func(a *session.Account, _ *int) { a.Banned = true }
			if err := w.store.Edit(t.Context(), alice().ID, ban); err != nil {
				t.Error(err)
			}
			synctest.Wait()       // and it was told
			deaf.Deaf.Store(true) // as nothing else is: a sign-in that changes nobody is no change
		}
		again.SignIn(t, m, alice(), session.Tokens{})
		w.refused("banned while they signed in", m, &again)
	})
}

func TestAnAnswerThatComesTooLateSignsNobodyOut(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		var b storetest.Browser
		store := &between{Store: w.store.Another()}
		b.SignIn(t, w.process(nil), alice(), session.Tokens{})
		m := storetest.Start(t, storetest.Config(t, store))
		synctest.Wait()
		store.late = true
		if _, err := m.Lookup(b.Request()); !errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNone) {
			t.Errorf("Lookup: error %v, want ErrUnavailable and not ErrNone", err)
		}
		store.late = false
		w.mustVisit("when the store is in time again", m, &b)
	})
}

func TestADeletionWhoseAnswerWasLostCounts(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		for _, which := range []func(id string) session.Selection{
			func(id string) session.Selection { return session.Selection{ID: id} },
			func(string) session.Selection { return session.Selection{UserID: alice().ID} },
			func(string) session.Selection { return session.Selection{Provider: "corp", Subject: "alice"} },
		} {
			var b storetest.Browser
			deaf := &storetest.Faults{Store: w.store.Another()}
			store := &between{Store: deaf}
			m := storetest.Start(t, storetest.Config(t, store))
			synctest.Wait()
			id := b.SignIn(t, m, alice(), session.Tokens{})
			w.mustVisit("before", m, &b)
			deaf.Deaf.Store(true) // only what this process knows by itself counts
			store.errDel = session.ErrUnavailable
			if _, err := m.Revoke(t.Context(), which(id), session.By{}); err != nil {
				t.Fatal(err)
			}
			w.refused("revoked at the second attempt", m, &b)
		}
	})
}

// Whoever ends one session by its id or signs out has seen it: that the second
// attempt finds it gone is the doing of the first.
func TestASessionWhoseDeletionWasNotConfirmedWasEndedByWhoAsked(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		store := &between{Store: w.store.Another()}
		m := storetest.Start(t, storetest.Config(t, store))
		synctest.Wait()
		var b storetest.Browser
		for _, which := range []func(id string) session.Selection{
			func(id string) session.Selection { return session.Selection{ID: id} },
			func(id string) session.Selection { return session.Selection{ID: id, UserID: alice().ID} },
		} {
			id := b.SignIn(t, m, alice(), session.Tokens{})
			for _, want := range []int{1, 0} {
				store.errDel = session.ErrUnavailable
				if n, err := m.Revoke(t.Context(), which(id), session.By{}); n != want || err != nil {
					t.Errorf("Revoke = %d, %v, want %d", n, err, want)
				}
			}
		}
		id := b.SignIn(t, m, alice(), session.Tokens{})
		store.errDel = session.ErrUnavailable
		if s, err := m.End(httptest.NewRecorder(), b.Request()); err != nil || s == nil || s.ID != id {
			t.Errorf("End = %v, %v, want the session, to be signed out at the provider, too", s, err)
		}
	})
}

// All attempts together end what was to be ended, and each is heard of.
func TestSessionsThatAFailedAttemptEndedAreCounted(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		store := &between{Store: w.store.Another()}
		m := storetest.Start(t, storetest.Config(t, store))
		for range 3 {
			new(storetest.Browser).SignIn(t, m, alice(), session.Tokens{})
		}
		store.half = session.ErrUnavailable
		if n, err := m.Revoke(t.Context(), session.Selection{All: true}, session.By{}); n != 3 || err != nil {
			t.Errorf("Revoke = %d, %v, want 3", n, err)
		}
	})
}

func TestAReadingFromBeforeARequestDoesNotAnswerIt(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m, other := w.process(nil), w.process(nil)
		var b storetest.Browser
		id := b.SignIn(t, other, alice(), session.Tokens{})
		w.faults[0].Deaf.Store(true)
		time.Sleep(2 * time.Second)
		slow := func(*session.Row) { time.Sleep(300 * time.Millisecond) } // has read already
		w.faults[0].AfterRead.Store(&slow)
		go m.Lookup(b.Request())
		time.Sleep(time.Millisecond)
		if _, err := other.Revoke(t.Context(), session.Selection{ID: id}, session.By{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
		w.refused("revoked elsewhere 200 ms ago", m, &b)
	})
}

// A late provider answers that a token was used before, when another replica has
// saved the next one.
func TestATokenThatAnotherReplicaRenewedEndsNothing(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		due := session.Tokens{Refresh: "used", Access: "old", AccessExpiry: time.Now().Add(time.Minute)}
		var b storetest.Browser
		var id string
		renewed := false
		m := w.process(func(c *session.Config) {
			c.RefreshTokens = func(_ context.Context, s *session.Session) (*session.Refreshed, error) {
				if s.Tokens.Refresh != "used" {
					t.Errorf("refreshed with %q", s.Tokens.Refresh)
				}
				row, err := w.store.FindID(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				next := row.Credential
				next.RefreshAt = time.Now().Add(time.Hour)
				if renewed, err = w.store.SaveRefresh(t.Context(), id, row.Credential.Version, &next, nil, time.Now()); err != nil {
					t.Error(err)
				}
				return nil, session.ErrRevoked
			}
		})
		id = b.SignIn(t, m, alice(), due)
		time.Sleep(50 * time.Second)
		s, err := m.Lookup(b.Request())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Refresh(t.Context(), s); err != nil || !renewed {
			t.Errorf("Refresh: error %v, renewed elsewhere %v", err, renewed)
		}
		w.mustVisit("afterwards", m, &b)
	})
}

// A rotating provider takes each refresh token once. It answers after a while, and
// calls answered then.
type rotating struct {
	mu       sync.Mutex
	n        int // of the refresh token that is good
	takes    time.Duration
	answered func()
}

func (p *rotating) tokens() session.Tokens {
	return session.Tokens{Refresh: fmt.Sprint("refresh-", p.n), Access: fmt.Sprint("access-", p.n), AccessExpiry: time.Now().Add(time.Hour)}
}

func (p *rotating) refresh(ctx context.Context, s *session.Session) (*session.Refreshed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.Tokens.Refresh != p.tokens().Refresh {
		return nil, fmt.Errorf("%w: used before", session.ErrRevoked)
	}
	p.n++
	select {
	case <-time.After(p.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.answered()
	return &session.Refreshed{User: s.User, Tokens: p.tokens()}, nil
}

// The old token is used up as soon as the provider has it: nobody may try it
// again, here or at another replica, before the new one is saved.
func TestNewTokensAreNotLostHoweverLongTheyTake(t *testing.T) {
	for name, tt := range map[string]struct {
		takes        time.Duration // the provider, to answer
		cut, allDown time.Duration // from then on: the store cannot be reached by the replica, or by any
	}{
		"the provider takes a minute":                       {time.Minute, 0, 0},
		"the store cannot be reached for 50 s after that":   {time.Minute, 50 * time.Second, 0},
		"the store is down for a minute after the answer":   {time.Second, 0, time.Minute},
		"the store is down for nine minutes after a minute": {time.Minute, 0, 9 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world) {
				p := &rotating{takes: tt.takes}
				edit := func(c *session.Config) { c.MaxAge, c.UpdateAge, c.RefreshTokens = 24*time.Hour, time.Hour, p.refresh }
				both := []*session.Manager{w.process(edit), w.process(edit)}
				p.answered = func() {
					for i, down := range []time.Duration{max(tt.cut, tt.allDown), tt.allDown} {
						w.faults[i].Down.Store(down > 0)
						time.AfterFunc(down, func() { w.faults[i].Down.Store(false) })
					}
				}
				var b storetest.Browser
				b.SignIn(t, both[0], alice(), p.tokens())
				time.Sleep(59 * time.Minute)
				var s *session.Session
				for range 14 * 12 {
					for i, m := range both {
						var err error
						if s, err = m.Lookup(b.Request()); errors.Is(err, session.ErrUnavailable) {
							continue
						}
						asked := time.Now()
						if err == nil {
							s, err = m.Refresh(t.Context(), s)
						}
						if err != nil || time.Since(asked) > 20*time.Second {
							t.Fatalf("replica %d: %v after %v", i, err, time.Since(asked))
						}
					}
					time.Sleep(5 * time.Second)
				}
				if s.Tokens.Refresh != "refresh-1" {
					t.Errorf("%s in the end, want refresh-1", s.Tokens.Refresh)
				}
			})
		})
	}
}

func TestClosingWaitsForAProviderAndNotForLong(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		c := storetest.Config(t, w.store.Another())
		c.RefreshTokens = func(ctx context.Context, _ *session.Session) (*session.Refreshed, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		m, err := session.New(c)
		if err != nil {
			t.Fatal(err)
		}
		var b storetest.Browser
		b.SignIn(t, m, alice(), session.Tokens{Refresh: "r", AccessExpiry: time.Now().Add(time.Minute)})
		time.Sleep(50 * time.Second)
		s, err := m.Lookup(b.Request())
		if err == nil {
			_, err = m.Refresh(t.Context(), s)
		}
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if m.Close(); time.Since(begun) != 20*time.Second {
			t.Errorf("closed after %v, want 20s", time.Since(begun))
		}
	})
}

func TestAReadingFromBeforeAChangeDoesNotAnswerWhoComesAfter(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(nil)
		for what, end := range map[string]func(id string) error{
			"revoked": func(id string) error {
				_, err := m.Revoke(t.Context(), session.Selection{ID: id}, session.By{})
				return err
			},
			"banned": func(string) error {
				return w.store.Edit(t.Context(), alice().ID, func(a *session.Account, _ *int) { a.Banned = true })
			},
		} {
			_ = w.store.Unban(t.Context(), alice().ID) // who may be unknown still
			synctest.Wait()
			var b storetest.Browser
			id := b.SignIn(t, m, alice(), session.Tokens{})
			done := session.AnswerAgain(m, w.mustVisit("before", m, &b))
			if err := end(id); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // it was told
			go done()
			w.refused(what, m, &b)
			done()
		}
	})
}

func TestAClockThatIsSetBackKeepsNoConnectionOpen(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m, other := w.process(nil), w.process(nil)
		var b storetest.Browser
		id := b.SignIn(t, other, alice(), session.Tokens{})
		s := w.mustVisit("first", m, &b)
		session.SetBack(s, time.Hour)
		w.faults[0].Deaf.Store(true)
		if _, err := other.Revoke(t.Context(), session.Selection{ID: id}, session.By{}); err != nil {
			t.Fatal(err)
		}
		for range 12 { // three seconds of what keeps connections open
			time.Sleep(250 * time.Millisecond)
			m.Alive(s)
			synctest.Wait()
		}
		if m.Alive(s) {
			t.Error("a connection stays open although the session was revoked")
		}
	})
}

func TestASessionThatWasGivenToSomebodyElseEndsWithThem(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(nil)
		bob := alice()
		bob.ID, bob.Subject = session.UserID("https://id.example.com", "bob"), "bob"
		var b, other storetest.Browser
		id := b.SignIn(t, m, alice(), session.Tokens{})
		other.SignIn(t, m, bob, session.Tokens{})
		// Two accounts are made one, as with UPDATE session SET "userId" = ….
		if err := w.store.EditSession(t.Context(), id, func(r *session.Row) { r.User.ID = bob.ID }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := w.mustVisit("given away", m, &b); s.User.ID != bob.ID {
			t.Errorf("the session is of %s, want %s", s.User.ID, bob.ID)
		}
		if err := w.store.Edit(t.Context(), bob.ID, func(a *session.Account, _ *int) { a.Banned = true }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.refused("banned", m, &b)
	})
}

func TestACookieWhoseTokenWasChangedIsNone(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		m := w.process(nil)
		var b storetest.Browser
		id := b.SignIn(t, m, alice(), session.Tokens{})
		s := w.mustVisit("before", m, &b)
		if err := w.store.EditSession(t.Context(), id, func(r *session.Row) { r.Token = session.Hash{1} }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := m.Live(t.Context(), id); err != nil { // a token that was minted for it counts still
			t.Errorf("Live: %v", err)
		}
		w.refused("by the old token", m, &b)
		if m.Alive(s) {
			t.Error("a connection that was opened with the old token stays open")
		}
		if _, err := m.Live(t.Context(), id); err != nil {
			t.Errorf("Live after that: %v", err)
		}
	})
}
