package storetest

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"authproxy/session"
)

// modelFor is how long the model runs, and slack how much later than promised a
// revocation may count: a machine that runs tests is busy.
const modelFor, slack = 1500 * time.Millisecond, 2 * time.Second

// A modelled session is one whose fate is known.
type modelled struct {
	b    *Browser
	id   string
	user session.User

	mu      sync.Mutex
	doomed  time.Time // when its end began; zero while it lives
	ended   time.Time // when its end was certain, zero before
	endedAt *session.Manager
}

// end ends s by f, at m if that is not nil.
func (s *modelled) end(m *session.Manager, f func()) {
	s.mu.Lock()
	if s.doomed.IsZero() {
		s.doomed = time.Now()
	}
	s.mu.Unlock()
	f()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.IsZero() {
		s.ended, s.endedAt = time.Now(), m
	}
}

// judge checks an answer of m to a request that began then.
func (s *modelled) judge(t *testing.T, m *session.Manager, began time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	over := !s.ended.IsZero()
	switch {
	case err != nil && !errors.Is(err, session.ErrNone):
		t.Errorf("a check failed: %v", err)
	case err == nil && over && s.endedAt == m && began.After(s.ended):
		t.Errorf("a session was served %v after it was revoked right here", began.Sub(s.ended))
	case err == nil && over && began.Sub(s.ended) > slack:
		t.Errorf("a session was served %v after it was revoked", began.Sub(s.ended))
	case err != nil && s.doomed.IsZero():
		t.Errorf("a live session was refused")
	}
}

func testModel(t *testing.T, p *pair) {
	managers := []*session.Manager{p.a, p.b}
	var mu sync.Mutex
	var all []*modelled
	pick := func() *modelled {
		mu.Lock()
		defer mu.Unlock()
		if len(all) == 0 {
			return nil
		}
		return all[rand.N(len(all))]
	}
	end := time.Now().Add(modelFor)
	var wg sync.WaitGroup
	wg.Go(func() { // people sign in
		for n := 0; time.Now().Before(end); n++ {
			s := &modelled{b: &Browser{}, user: person(string(rune('a' + n%20)))}
			s.id = s.b.SignIn(t, managers[n%2], s.user, session.Tokens{})
			mu.Lock()
			all = append(all, s)
			mu.Unlock()
			time.Sleep(time.Millisecond)
		}
	})
	wg.Go(func() { // and are ended, in all ways
		for n := 0; time.Now().Before(end); n++ {
			if s := pick(); s != nil {
				p.endOne(t, managers[rand.N(2)], s, n%3)
			}
			time.Sleep(3 * time.Millisecond)
		}
	})
	for i := range 4 { // while requests go on
		m := managers[i%2]
		wg.Go(func() {
			for time.Now().Before(end.Add(slack)) {
				s := pick()
				if s == nil {
					continue
				}
				began := time.Now()
				found, err := m.Lookup(s.b.Request())
				s.judge(t, m, began, err)
				if err == nil && found.ID != s.id {
					t.Errorf("the session is %s, want %s", found.ID, s.id)
				}
				time.Sleep(time.Millisecond / 4) // others need the processor, too
			}
		})
	}
	wg.Wait()
}

// endOne ends s in one of three ways.
func (p *pair) endOne(t *testing.T, m *session.Manager, s *modelled, way int) {
	switch way {
	case 0:
		s.end(m, func() {
			if _, err := m.Revoke(t.Context(), session.Selection{ID: s.id}, session.By{}); err != nil {
				t.Errorf("Revoke: %v", err)
			}
		})
	case 1:
		s.end(nil, func() { p.Operator.DeleteSession(t, s.id) })
	case 2:
		s.end(m, func() {
			if _, err := m.End(discard(), s.b.Request()); err != nil {
				t.Errorf("End: %v", err)
			}
		})
	}
}
