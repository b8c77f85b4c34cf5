// Package session remembers who signed in.
//
// A [Session] is one sign-in of one person in one browser. The [Manager] starts
// it, finds it again in a request, lets it slide while it is used, and ends it.
// It keeps three promises:
//
//   - A session is valid only while now < min(ExpiresAt, AbsoluteExpiresAt,
//     LastSeenAt + idle timeout); at that very second it is over.
//   - A session that was ended is dead on this process at once, for every copy
//     of its cookie and every token minted for it.
//   - Losing an answer, and the cookie in it, never ends a session; nor do
//     requests that come at once when the provider's tokens are to be refreshed.
package session

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// User is the person who signed in, as the provider described them then.
type User struct {
	// ID is the user's UUID, see [UserID].
	ID string
	// Issuer and Subject identify the person at the provider.
	Issuer, Subject string
	// Provider is the configured id of the provider.
	Provider string
	// Email is an address; it says who someone is only if EmailVerified.
	Email         string
	EmailVerified bool
	Name          string
	// Image is the URL of a picture.
	Image  string
	Groups []string
	// Role is the application role that the user's row in a store gives, ""
	// without one.
	Role string
	// Claims are the mapped ones, by name. The values are strings, booleans,
	// int64, float64, and slices and maps of those.
	Claims map[string]any
}

// VerifiedEmail returns the address if the provider vouches for it, else "".
// Rules and lists must use this one.
func (u *User) VerifiedEmail() string {
	if !u.EmailVerified {
		return ""
	}
	return u.Email
}

// UserID returns the UUID of the person whom issuer calls subject: version 5 in
// the URL namespace over "issuer#subject" (RFC 9562, section 5.5). It is the
// same in every replica, with every store, forever.
func UserID(issuer, subject string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(issuer+"#"+subject)).String()
}

// Tokens are the provider's tokens: the refresh token, and what an upstream is
// to get.
type Tokens struct {
	// Refresh gets new ones.
	Refresh string
	Access  string
	// AccessExpiry is when the access token ends, kept or not; zero if the
	// provider did not say.
	AccessExpiry time.Time
	ID           string
	// IDExpiry is when ID ends.
	IDExpiry time.Time
}

// A Session is one sign-in in one browser. It must not be changed once the
// [Manager] has seen it.
type Session struct {
	// ID is a random UUID; it is the sid of minted tokens.
	ID   string
	User User

	CreatedAt         time.Time
	UpdatedAt         time.Time // the last slide
	LastSeenAt        time.Time // the last activity that was written down
	ExpiresAt         time.Time // the end of the sliding window
	AbsoluteExpiresAt time.Time // the hard end; zero = none

	// IP and UserAgent are those of the sign-in.
	IP, UserAgent string

	// AuthTime is when the provider last authenticated the person; AMR how, and
	// ACR in which class of ways.
	AuthTime time.Time
	AMR      []string
	ACR      string
	// ProviderSID is the provider's name for its own session, the sid of OpenID
	// Connect, "" if it gave none.
	ProviderSID string
	// Data is what the application keeps in the session, a JSON object; nil
	// without a store.
	Data   json.RawMessage
	Tokens Tokens

	refreshAt  time.Time // when Tokens are to be renewed; zero = never
	readAt     time.Time // when the provider last said who the person is; zero = at sign-in
	generation int       // how often they were
	copyEnds   time.Time // the end of a copy, see [Manager.Copy]; zero = the session itself
	unreadEnds time.Time // the end where the person cannot be read again, see [Config.unreadEnd]; not sealed

	held *held // with a store

	// Without one.
	entry   *entry
	sealed  string // the cookie value that holds this state
	renewed bool   // the state is newer than the cookie it was opened from
	known   bool   // the tokens came to this process, not from a cookie
	memo    atomic.Pointer[any]
}

// Memo returns what make returned the first time it was called for this state
// of the session. Callers keep here what they compute from a session on every
// request; it goes when the session slides, is refreshed or leaves the cache.
func (s *Session) Memo(make func() any) any {
	if p := s.memo.Load(); p != nil {
		return *p
	}
	v := make()
	if s.memo.CompareAndSwap(nil, &v) {
		return v
	}
	return *s.memo.Load()
}

// clone returns a copy of s that no cookie holds yet.
func (s *Session) clone() *Session {
	return &Session{
		ID: s.ID, User: s.User, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, LastSeenAt: s.LastSeenAt,
		ExpiresAt: s.ExpiresAt, AbsoluteExpiresAt: s.AbsoluteExpiresAt,
		IP: s.IP, UserAgent: s.UserAgent, AuthTime: s.AuthTime, AMR: s.AMR, ACR: s.ACR, ProviderSID: s.ProviderSID,
		Data: s.Data, Tokens: s.Tokens,
		refreshAt: s.refreshAt, readAt: s.readAt, generation: s.generation, copyEnds: s.copyEnds,
		unreadEnds: s.unreadEnds,
	}
}

// End returns when the session ends unless something happens before: the
// earliest of ExpiresAt, AbsoluteExpiresAt, on another host the end of the copy
// and, where the person cannot be read again, the end for that.
func (s *Session) End() time.Time { return earliest(s.ExpiresAt, s.hardEnd()) }

// hardEnd is the end that no activity moves; the zero time for none.
func (s *Session) hardEnd() time.Time {
	return earliest(earliest(s.AbsoluteExpiresAt, s.copyEnds), s.unreadEnds)
}

// earliest returns the earlier of a and b, where the zero time means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// record is a session as a cookie holds it. The numbers are the format: never
// give one a new meaning.
type record struct {
	ID        []byte         `cbor:"1,keyasint"`
	Version   int            `cbor:"2,keyasint"`
	Issuer    string         `cbor:"3,keyasint"`
	Subject   string         `cbor:"4,keyasint"`
	Provider  string         `cbor:"5,keyasint"`
	Email     string         `cbor:"6,keyasint,omitempty"`
	Verified  bool           `cbor:"7,keyasint,omitempty"`
	Name      string         `cbor:"8,keyasint,omitempty"`
	Image     string         `cbor:"9,keyasint,omitempty"`
	Groups    []string       `cbor:"10,keyasint,omitempty"`
	Created   int64          `cbor:"11,keyasint"`
	Updated   int64          `cbor:"12,keyasint"`
	Seen      int64          `cbor:"13,keyasint"`
	Expires   int64          `cbor:"14,keyasint"`
	Absolute  int64          `cbor:"15,keyasint,omitempty"`
	IP        string         `cbor:"16,keyasint,omitempty"`
	UserAgent string         `cbor:"17,keyasint,omitempty"`
	AuthTime  int64          `cbor:"18,keyasint,omitempty"`
	AMR       []string       `cbor:"19,keyasint,omitempty"`
	Access    string         `cbor:"20,keyasint,omitempty"`
	AccessEnd int64          `cbor:"21,keyasint,omitempty"`
	IDToken   string         `cbor:"22,keyasint,omitempty"`
	IDEnd     int64          `cbor:"23,keyasint,omitempty"`
	Refresh   string         `cbor:"24,keyasint,omitempty"`
	RefreshAt int64          `cbor:"25,keyasint,omitempty"`
	Refreshes int            `cbor:"26,keyasint,omitempty"`
	ReadAt    int64          `cbor:"27,keyasint,omitempty"`
	ACR       string         `cbor:"28,keyasint,omitempty"`
	SID       string         `cbor:"29,keyasint,omitempty"`
	Claims    map[string]any `cbor:"30,keyasint,omitempty"`
	CopyEnd   int64          `cbor:"31,keyasint,omitempty"`
}

func toRecord(s *Session, version int) (*record, error) {
	id, err := uuid.Parse(s.ID)
	if err != nil {
		return nil, fmt.Errorf("session: id: %w", err)
	}
	return &record{
		ID: id[:], Version: version,
		Issuer: s.User.Issuer, Subject: s.User.Subject, Provider: s.User.Provider,
		Email: s.User.Email, Verified: s.User.EmailVerified, Name: s.User.Name,
		Image: s.User.Image, Groups: s.User.Groups,
		Created: unix(s.CreatedAt), Updated: unix(s.UpdatedAt), Seen: unix(s.LastSeenAt),
		Expires: unix(s.ExpiresAt), Absolute: unix(s.AbsoluteExpiresAt),
		IP: s.IP, UserAgent: s.UserAgent, AuthTime: unix(s.AuthTime), AMR: s.AMR,
		Access: s.Tokens.Access, AccessEnd: unix(s.Tokens.AccessExpiry),
		IDToken: s.Tokens.ID, IDEnd: unix(s.Tokens.IDExpiry),
		Refresh: s.Tokens.Refresh, RefreshAt: unix(s.refreshAt), Refreshes: s.generation, ReadAt: unix(s.readAt),
		ACR: s.ACR, SID: s.ProviderSID, Claims: s.User.Claims,
		CopyEnd: unix(s.copyEnds),
	}, nil
}

func (r *record) session() (*Session, error) {
	id, err := uuid.FromBytes(r.ID)
	if err != nil {
		return nil, fmt.Errorf("session: id %s: %w", hex.EncodeToString(r.ID), err)
	}
	return &Session{
		ID: id.String(),
		User: User{
			ID: UserID(r.Issuer, r.Subject), Issuer: r.Issuer, Subject: r.Subject, Provider: r.Provider,
			Email: r.Email, EmailVerified: r.Verified, Name: r.Name, Image: r.Image, Groups: r.Groups, Claims: r.Claims,
		},
		CreatedAt: fromUnix(r.Created), UpdatedAt: fromUnix(r.Updated), LastSeenAt: fromUnix(r.Seen),
		ExpiresAt: fromUnix(r.Expires), AbsoluteExpiresAt: fromUnix(r.Absolute),
		IP: r.IP, UserAgent: r.UserAgent, AuthTime: fromUnix(r.AuthTime), AMR: r.AMR, ACR: r.ACR, ProviderSID: r.SID,
		Tokens: Tokens{
			Refresh: r.Refresh, Access: r.Access, AccessExpiry: fromUnix(r.AccessEnd),
			ID: r.IDToken, IDExpiry: fromUnix(r.IDEnd),
		},
		refreshAt: fromUnix(r.RefreshAt), readAt: fromUnix(r.ReadAt), generation: r.Refreshes, copyEnds: fromUnix(r.CopyEnd),
	}, nil
}

// unix returns t in Unix seconds, 0 for the zero time.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromUnix(sec int64) time.Time {
	if sec == 0 {
		return time.Time{}
	}
	return time.Unix(sec, 0).UTC()
}

// maxUserAgent bounds what of a User-Agent header is kept, in bytes.
const maxUserAgent = 160

// trimUserAgent returns what of a User-Agent is worth keeping.
func trimUserAgent(ua string) string {
	if len(ua) > maxUserAgent {
		ua = ua[:maxUserAgent]
	}
	return strings.ToValidUTF8(ua, "")
}
