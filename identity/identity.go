// Package identity says who a request comes from, and how an application is
// told.
//
// [Resolver.Identify] reads a request's credentials: a live session cookie
// decides; otherwise a bearer token that we minted, while its session lives.
// The answer is a [Who]: the person, with the roles that the configuration
// gives them, ready for the rules ([Who.Principal]) and for an upstream
// ([Who.Headers], [Resolver.Authorization]). What can be computed once for a
// session is computed once.
package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"authproxy/policy"
	"authproxy/session"
	"authproxy/token"
)

// ErrAnonymous is returned by [Resolver.Identify] for a request without
// credentials that count.
var ErrAnonymous = errors.New("identity: anonymous")

// ErrBearer is returned, wrapped with the cause, for a request whose bearer
// token is not accepted and that has no session either. It is anonymous too.
var ErrBearer = errors.New("identity: bearer token not accepted")

// What an upstream gets as Authorization.
const (
	AuthorizationJWT         = "jwt"          // a token minted by us
	AuthorizationAccessToken = "access_token" // the provider's access token
	AuthorizationIDToken     = "id_token"     // the provider's ID token
	AuthorizationPass        = "pass"         // whatever the client sent
	AuthorizationNone        = "none"
)

// Config is what a [Resolver] needs.
type Config struct {
	Sessions *session.Manager
	Tokens   *token.Issuer
	// Roles says who has which application role.
	Roles policy.RoleMap
	// Admit names who may have a session; empty admits whomever the providers
	// let in. It is judged again on each request.
	Admit policy.Members
	// Claims says what is kept of what a provider says.
	Claims ClaimMap
	// Headers maps header names to templates, see [ParseTemplate].
	Headers map[string]string
	// Authorization is one of the constants above.
	Authorization string
	// CutGroups leaves out groups that do not fit the headers, instead of
	// refusing the request.
	CutGroups bool
	// Knows says whether a provider is configured and issuer is its own. A
	// session or token of any other counts no more: the provider was removed. Nil
	// means that all count.
	Knows func(provider, issuer string) bool
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
}

// A Resolver identifies requests. It is safe for concurrent use.
type Resolver struct {
	Config
	headers []header
	bearers *otter.Cache[string, *Who]
}

// A header is one identity header and where its value comes from.
type header struct {
	name     string // canonical
	template *Template
}

// bearerCacheSize is how many verified tokens are remembered.
const bearerCacheSize = 4096

// New returns the Resolver of c. It fails for an unknown source or
// authorization.
func New(c Config) (*Resolver, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	modes := []string{AuthorizationJWT, AuthorizationAccessToken, AuthorizationIDToken, AuthorizationPass, AuthorizationNone}
	if !slices.Contains(modes, c.Authorization) {
		return nil, fmt.Errorf("identity: authorization %q is none of %s", c.Authorization, strings.Join(modes, ", "))
	}
	r := &Resolver{Config: c}
	for name, source := range c.Headers {
		template, err := ParseTemplate(source)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		r.headers = append(r.headers, header{http.CanonicalHeaderKey(name), template})
	}
	slices.SortFunc(r.headers, func(a, b header) int { return strings.Compare(a.name, b.name) })
	var err error
	if r.bearers, err = otter.New(&otter.Options[string, *Who]{MaximumSize: bearerCacheSize}); err != nil {
		return nil, fmt.Errorf("identity: cache: %w", err)
	}
	return r, nil
}

// Close stops the goroutines of the cache.
func (r *Resolver) Close() { r.bearers.StopAllGoroutines() }

// A Who is a person as one request shows them. It must not be changed.
type Who struct {
	User  session.User
	Roles []string
	// Admitted says whether the person may have a session at all.
	Admitted bool
	// SessionID is the session's UUID.
	SessionID string
	// Session is nil for a bearer token.
	Session *session.Session
	// Principal is the person as rules see them.
	Principal policy.Principal
	// Expires is when this way of being identified ends at the latest.
	Expires time.Time
	// AuthTime is when the person was authenticated, zero if the provider did not
	// say; AMR by which means, ACR in which class of ways.
	AuthTime time.Time
	AMR      []string
	ACR      string

	of         *session.Session // what a token's person was read from; nil without a store
	headers    []Header
	headersErr error
	groups     []string // those that fit

	mu     sync.Mutex // guards minted
	minted minted
}

// A Header is one identity header as an upstream gets it. Value has one element,
// or none where there is nothing to say.
type Header struct {
	Name  string
	Value []string
}

// minted is a token that was made for a Who.
type minted struct {
	raw      string
	expires  time.Time
	mintNext time.Time
	bearer   []string // {"Bearer " + raw}
}

// Identify returns who r comes from. It returns [ErrAnonymous] or [ErrBearer]
// where that is nobody.
func (r *Resolver) Identify(req *http.Request) (*Who, error) {
	s, err := r.Sessions.Lookup(req)
	if err == nil && !r.knows(&s.User) {
		return nil, ErrAnonymous
	}
	if err == nil {
		return s.Memo(func() any { return r.fromSession(s) }).(*Who), nil
	}
	if !errors.Is(err, session.ErrNone) {
		return nil, err
	}
	raw, ok := bearer(req.Header)
	if !ok {
		return nil, ErrAnonymous
	}
	return r.fromBearer(req.Context(), raw)
}

// knows says whether u's provider is still configured.
func (r *Resolver) knows(u *session.User) bool {
	return r.Knows == nil || r.Knows(u.Provider, u.Issuer)
}

// bearer returns the token of an Authorization header of the Bearer scheme (RFC
// 6750, section 2.1). Two Authorization headers are none.
func bearer(h http.Header) (string, bool) {
	values := h["Authorization"]
	if len(values) != 1 {
		return "", false
	}
	scheme, raw, ok := strings.Cut(values[0], " ")
	return strings.TrimLeft(raw, " "), ok && strings.EqualFold(scheme, "Bearer")
}

func (r *Resolver) fromSession(s *session.Session) *Who {
	w := &Who{User: s.User, SessionID: s.ID, Session: s, Expires: s.End(), AuthTime: s.AuthTime, AMR: s.AMR, ACR: s.ACR}
	r.complete(w)
	return w
}

// fromBearer identifies by one of our own tokens, whose session must live: it
// was not ended here, and has the current version.
func (r *Resolver) fromBearer(ctx context.Context, raw string) (*Who, error) {
	w, known := r.bearers.GetIfPresent(raw)
	if !known {
		c, err := r.Tokens.Verify(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBearer, err)
		}
		if c.Version != r.Sessions.Version {
			return nil, fmt.Errorf("%w: session version %d", ErrBearer, c.Version)
		}
		w = r.fromClaims(c, raw)
		r.bearers.Set(raw, w)
	}
	if !r.Now().Before(w.Expires) {
		return nil, fmt.Errorf("%w: expired", ErrBearer)
	}
	s, err := r.Sessions.Live(ctx, w.SessionID)
	switch {
	case errors.Is(err, session.ErrNone):
		return nil, fmt.Errorf("%w: its session was ended", ErrBearer)
	case err != nil:
		return nil, err
	}
	if s != nil && s != w.of {
		w = r.asNow(w, s)
		r.bearers.Set(raw, w)
	}
	if !r.knows(&w.User) {
		return nil, fmt.Errorf("%w: its provider is not configured any more", ErrBearer)
	}
	return w, nil
}

func (r *Resolver) fromClaims(c *token.Claims, raw string) *Who {
	w := &Who{
		User: session.User{
			ID: c.Subject, Provider: c.Provider, Issuer: c.UserIssuer, Subject: c.UserSubject,
			Email: c.Email, EmailVerified: c.EmailVerified, Name: c.Name, Groups: c.Groups,
			Role: c.UserRole, Claims: plainAll(c.Mapped),
		},
		SessionID: c.SessionID, Expires: time.Unix(c.Expiry, 0), AMR: c.AMR, ACR: c.ACR,
	}
	if c.AuthTime != 0 {
		w.AuthTime = time.Unix(c.AuthTime, 0)
	}
	// Handed on as it came: a new one could not live longer.
	w.minted = minted{raw: raw, expires: w.Expires, mintNext: w.Expires, bearer: []string{"Bearer " + raw}}
	r.complete(w)
	return w
}

// asNow returns w, whom a token names, with what the store says of the person
// now, in the token's session s: what has changed since it was minted counts.
func (r *Resolver) asNow(w *Who, s *session.Session) *Who {
	now := &Who{
		User: s.User, SessionID: w.SessionID, Expires: w.Expires, AuthTime: w.AuthTime, AMR: w.AMR, ACR: w.ACR,
		of: s, minted: w.minted,
	}
	r.complete(now)
	return now
}

// complete fills in what follows from the person and the configuration.
func (r *Resolver) complete(w *Who) {
	email := w.User.VerifiedEmail()
	w.User.Claims = r.Claims.WithRow(&w.User)
	w.Roles = r.Roles.Roles(email, w.User.Groups, w.User.Claims)
	if role := w.User.Role; role != "" && role != defaultRole && !slices.Contains(w.Roles, role) {
		w.Roles = append([]string{role}, w.Roles...)
	}
	w.Admitted = r.Admits(&w.User)
	w.Principal = policy.Principal{
		ID: w.User.ID, Name: w.User.Name, Email: email, Groups: w.User.Groups, Roles: w.Roles, Provider: w.User.Provider,
		Claims: w.User.Claims, AuthTime: w.AuthTime, ACR: w.ACR, AMR: w.AMR,
	}
	w.groups = w.User.Groups
	r.setHeaders(w)
}

// Admits says whether u may have a session. With nobody named that is everybody
// whom the provider lets in.
func (r *Resolver) Admits(u *session.User) bool {
	return r.Admit.Empty() || r.Admit.Match(u.VerifiedEmail(), u.Groups)
}

// defaultRole is the role of somebody who has none.
const defaultRole = "user"

// Role returns the person's first application role, or "user".
func (w *Who) Role() string {
	if len(w.Roles) == 0 {
		return defaultRole
	}
	return w.Roles[0]
}

// Token returns the minted JWT for w and when it ends. It is kept and minted
// anew in the last quarter of its life, unless the session's end stands in the
// way.
func (r *Resolver) Token(w *Who) (string, time.Time, error) {
	m, err := r.mint(w)
	return m.raw, m.expires, err
}

func (r *Resolver) mint(w *Who) (minted, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := r.Now()
	if w.minted.raw != "" && now.Before(w.minted.mintNext) {
		return w.minted, nil
	}
	claims := token.Claims{
		Subject: w.User.ID, SessionID: w.SessionID, AMR: w.AMR, ACR: w.ACR, Provider: w.User.Provider,
		UserIssuer: w.User.Issuer, UserSubject: w.User.Subject,
		Email: w.User.VerifiedEmail(), EmailVerified: w.User.VerifiedEmail() != "",
		Name: w.User.Name, Roles: w.Roles, Groups: w.groups, Version: r.Sessions.Version,
		UserRole: w.User.Role, Mapped: w.User.Claims,
	}
	if !w.AuthTime.IsZero() {
		claims.AuthTime = w.AuthTime.Unix()
	}
	end := w.Expires
	if w.Session != nil {
		end = r.Sessions.EndsAt(w.Session) // the idle timeout moves with each request
	}
	raw, expires, err := r.Tokens.Mint(claims, end)
	if err != nil {
		return minted{}, err
	}
	w.minted = minted{raw: raw, expires: expires, mintNext: expires, bearer: []string{"Bearer " + raw}}
	if expires.Before(w.Expires.Truncate(time.Second)) {
		w.minted.mintNext = now.Add(expires.Sub(now) * 3 / 4)
	}
	return w.minted, nil
}

// Authorization returns the value of the Authorization header for an upstream,
// nil where it gets none: with [AuthorizationNone], and when the provider's
// token is missing or over. With [AuthorizationPass] the caller must leave the
// client's header alone instead.
func (r *Resolver) Authorization(w *Who) ([]string, error) {
	if r.Config.Authorization == AuthorizationJWT {
		m, err := r.mint(w)
		return m.bearer, err
	}
	raw, err := r.Credential(w, r.Config.Authorization)
	if raw == "" || err != nil {
		return nil, err
	}
	return []string{"Bearer " + raw}, nil
}

// Credential returns the token for an upstream that kind names:
// [AuthorizationJWT], [AuthorizationAccessToken] or [AuthorizationIDToken]. It is
// "" for any other kind, and where the provider's token is missing or over.
func (r *Resolver) Credential(w *Who, kind string) (string, error) {
	switch kind {
	case AuthorizationJWT:
		m, err := r.mint(w)
		return m.raw, err
	case AuthorizationAccessToken:
		return r.providerToken(w, func(t *session.Tokens) (string, time.Time) { return t.Access, t.AccessExpiry }), nil
	case AuthorizationIDToken:
		return r.providerToken(w, func(t *session.Tokens) (string, time.Time) { return t.ID, t.IDExpiry }), nil
	}
	return "", nil
}

func (r *Resolver) providerToken(w *Who, read func(*session.Tokens) (string, time.Time)) string {
	if w.Session == nil {
		return ""
	}
	raw, expires := read(&w.Session.Tokens)
	if raw == "" || !expires.IsZero() && !r.Now().Before(expires) {
		return ""
	}
	return raw
}
