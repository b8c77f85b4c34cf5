package session

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/fxamacker/cbor/v2"
)

const (
	// copyLife is how long a copy lives on its host. A copy does not hear of a
	// sign-out on another replica, nor of what the provider says at a refresh, so
	// it is fetched anew every day.
	copyLife = 24 * time.Hour
	// copyLeast is how long a copy lives even if the tokens in it are over: while
	// the provider is down, every request would fetch the next one.
	copyLeast = time.Minute
)

// Copy returns what another host of ours needs to go on with s, the session that
// r shows, for [Manager.Accept] there. Nothing in it is sealed: the caller must do
// that, and see to it that the right browser alone can use it, once and soon.
//
// With a store it is what leads to the session there, which is one for all hosts.
// Without one it is a copy with the id of s, so that ending one ends all, as far
// as this process knows. It lives for a day at the most. It has no refresh token:
// the provider takes each one once, and two hosts with a cookie of their own would
// use it twice and burn the session. With tokens it has the others, and if s can
// get new ones, it ends with them; without, it has none.
func (m *Manager) Copy(r *http.Request, s *Session, tokens bool) ([]byte, error) {
	c, err := m.copyFor(r, s, tokens)
	if err != nil {
		return nil, err
	}
	raw, err := cbor.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("session: copy: %w", err)
	}
	return raw, nil
}

func (m *sealed) copyFor(_ *http.Request, s *Session, tokens bool) (any, error) {
	now := m.Now().Truncate(time.Second).UTC()
	c := s.clone()
	c.LastSeenAt = now
	c.Tokens, c.refreshAt = Tokens{}, time.Time{}
	doubted, _ := m.ended.endOf(s.ID, s.generation)
	c.copyEnds = earliest(earliest(earliest(s.copyEnds, s.unreadEnds), doubted), now.Add(copyLife))
	if tokens {
		c.Tokens = Tokens{Access: s.Tokens.Access, ID: s.Tokens.ID, AccessExpiry: s.Tokens.AccessExpiry, IDExpiry: s.Tokens.IDExpiry}
		if end := c.Tokens.end(); s.Tokens.Refresh != "" && !end.IsZero() {
			c.copyEnds = earliest(c.copyEnds, latest(end, now.Add(copyLeast)))
		}
	}
	c.ExpiresAt = c.End()
	return toRecord(c, m.Version)
}

func (t *stored) copyFor(r *http.Request, s *Session, _ bool) (any, error) {
	for _, value := range t.Jar.Values(r) {
		if c, ok := t.openCookie(value); ok && sha256.Sum256(c.Token) == s.held.token {
			return c, nil
		}
	}
	return nil, ErrNone
}

// end is when the first of the tokens for upstreams ends; zero if there is none,
// or if nobody knows.
func (t *Tokens) end() time.Time {
	var end time.Time
	if t.Access != "" {
		end = t.AccessExpiry
	}
	if t.ID != "" {
		end = earliest(end, t.IDExpiry)
	}
	return end
}

// latest returns the later of a and b.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Accept takes what [Manager.Copy] returned and writes a cookie for it to w, for
// the host that r was sent to. It returns [ErrNone] for a session that has ended
// meanwhile, and for one of another version. What r shows is replaced, and not
// ended: it may be the same session, or a newer one.
func (m *Manager) Accept(w http.ResponseWriter, r *http.Request, raw []byte) (*Session, error) {
	return m.accept(w, r, raw)
}

func (m *sealed) accept(w http.ResponseWriter, r *http.Request, raw []byte) (*Session, error) {
	// Claims come back as a sealed cookie has them.
	mode, err := cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any](), IntDec: cbor.IntDecConvertSignedOrFail}.DecMode()
	if err != nil {
		return nil, err
	}
	var rec record
	if err := mode.Unmarshal(raw, &rec); err != nil || rec.Version != m.Version || rec.CopyEnd == 0 {
		return nil, ErrNone
	}
	s, err := rec.session()
	if err != nil {
		return nil, err
	}
	value, err := m.seal(s)
	if err != nil {
		return nil, err
	}
	e := m.remember(value, s)
	if s = e.current.Load(); !m.live(e, s) {
		return nil, ErrNone
	}
	if err := m.Jar.Set(w, r, value, m.cookieAge(s, m.Now())); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	m.metrics.cookieBytes.Observe(float64(len(value)))
	return s, nil
}

func (t *stored) accept(w http.ResponseWriter, r *http.Request, raw []byte) (*Session, error) {
	var c tokenCookie
	if err := cbor.Unmarshal(raw, &c); err != nil || c.Version != t.Version || len(c.Token) != tokenSize {
		return nil, ErrNone
	}
	value, err := t.Sealer.Seal(t.tokenName(), c)
	if err != nil {
		return nil, err
	}
	now := t.Now()
	s, err := t.check(r.Context(), value, now)
	if err != nil {
		return nil, err
	}
	if err := t.Jar.Set(w, r, value, t.cookieAge(s, now)); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	t.metrics.cookieBytes.Observe(float64(len(value)))
	return s, nil
}
