package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// row returns s as the store keeps it, with its tokens sealed.
func (t *stored) row(s *Session, token Hash) (*Row, error) {
	c, err := t.sealTokens(s)
	if err != nil {
		return nil, err
	}
	kept := s.clone()
	kept.Tokens = Tokens{}
	return &Row{Session: kept, Token: token, Credential: *c}, nil
}

// session returns row as a session, with its tokens. A token that no key opens
// any more is left out: the session goes on without it.
func (t *stored) session(row *Row) *Session {
	s, c := row.Session.clone(), &row.Credential
	s.Tokens = Tokens{
		Access: t.openProviderToken(row.ID, c.Access), AccessExpiry: c.AccessExpires,
		Refresh: t.openProviderToken(row.ID, c.Refresh),
		ID:      t.openProviderToken(row.ID, c.ID), IDExpiry: c.IDExpires,
	}
	if s.Tokens.Refresh != "" {
		s.refreshAt = c.RefreshAt
	}
	s.readAt, s.generation, s.known = c.ReadAt, c.Version, true
	return s
}

// sealTokens returns the credential of s.
func (t *stored) sealTokens(s *Session) (*Credential, error) {
	c := &Credential{
		AccessExpires: s.Tokens.AccessExpiry, IDExpires: s.Tokens.IDExpiry,
		RefreshAt: s.refreshAt, ReadAt: s.readAt, Version: s.generation,
	}
	for _, token := range []struct {
		plain  string
		sealed *string
	}{{s.Tokens.Access, &c.Access}, {s.Tokens.Refresh, &c.Refresh}, {s.Tokens.ID, &c.ID}} {
		if token.plain == "" {
			continue
		}
		var err error
		if *token.sealed, err = t.Sealer.Seal(providerTokenName, providerToken{s.ID, token.plain}); err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
	}
	return c, nil
}

// A providerToken is a provider's token as it is sealed for the store, with the
// session that it belongs to: copied into another row it is worthless.
type providerToken struct {
	SessionID string `cbor:"1,keyasint"`
	Token     string `cbor:"2,keyasint"`
}

// providerTokenName is what a providerToken is sealed for.
const providerTokenName = "provider_token"

// openProviderToken returns the token of the session called id that text seals,
// "" if there is none.
func (t *stored) openProviderToken(id, text string) string {
	var p providerToken
	if text == "" {
		return ""
	}
	if t.Sealer.Open(providerTokenName, text, &p) != nil || p.SessionID != id {
		t.db.unreadable.Inc()
		return ""
	}
	return p.Token
}

// reseal returns text sealed with the first key of the ring, if another one of
// it opens it.
func (t *stored) reseal(text string) (string, error) {
	var p providerToken
	if t.Sealer.Current(providerTokenName, text, &p) || t.Sealer.Open(providerTokenName, text, &p) != nil {
		return text, nil
	}
	return t.Sealer.Seal(providerTokenName, p)
}

// same says whether s and o are the same state of a session, but for the last
// activity.
func (s *Session) same(o *Session) bool {
	return s.ID == o.ID && reflect.DeepEqual(&s.User, &o.User) &&
		s.CreatedAt.Equal(o.CreatedAt) && s.UpdatedAt.Equal(o.UpdatedAt) && s.ExpiresAt.Equal(o.ExpiresAt) &&
		s.AbsoluteExpiresAt.Equal(o.AbsoluteExpiresAt) && s.AuthTime.Equal(o.AuthTime) &&
		s.IP == o.IP && s.UserAgent == o.UserAgent && s.ACR == o.ACR && s.ProviderSID == o.ProviderSID &&
		slices.Equal(s.AMR, o.AMR) && bytes.Equal(s.Data, o.Data) && s.Tokens.same(&o.Tokens) &&
		s.refreshAt.Equal(o.refreshAt) && s.readAt.Equal(o.readAt) && s.generation == o.generation
}

func (t *Tokens) same(o *Tokens) bool {
	return t.Access == o.Access && t.Refresh == o.Refresh && t.ID == o.ID &&
		t.AccessExpiry.Equal(o.AccessExpiry) && t.IDExpiry.Equal(o.IDExpiry)
}

// heldOverhead is about what a held session takes besides its texts, in bytes:
// itself, its places in the caches and the index, and the token minted for it.
const heldOverhead = 3 << 10

// weight is about what s takes in memory, in bytes, with the identity headers
// and the token that are made from it.
func (s *Session) weight() uint32 {
	u, t := &s.User, &s.Tokens
	n := len(u.ID) + len(u.Issuer) + len(u.Subject) + len(u.Provider) + len(u.Email) + len(u.Name) + len(u.Image) +
		len(s.IP) + len(s.UserAgent) + len(t.Access) + len(t.Refresh) + len(t.ID) + len(s.Data)
	for _, g := range u.Groups {
		n += 3*len(g) + 32 // in the headers and in the token, too
	}
	if len(u.Claims) > 0 {
		claims, _ := json.Marshal(u.Claims)
		n += 4 * len(claims)
	}
	return heldOverhead + uint32(n)
}

// void says why row is void whatever its clocks say, "" if it is not.
func (r *Row) void(now time.Time) string {
	switch {
	case r.Banned && (r.BanExpires.IsZero() || now.Before(r.BanExpires)):
		return "banned"
	case r.Epoch != r.UserEpoch:
		return "epoch"
	}
	return ""
}
