// Package token mints the JWTs that tell an application who is there, publishes
// the keys that verify them, and verifies those that come back.
//
// [Issuer.Mint] signs with ES256 (RFC 7518, section 3.4); [Issuer.JWKS] is what
// an application needs to check a token by itself; [Issuer.Verify] is the only
// way in for a token that a request brings. A verified token says who its
// bearer was when it was minted. Whether that session still lives is for the
// caller to ask, by [Claims.SessionID].
package token

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// ErrInvalid is returned by [Issuer.Verify] for a token that is not one of ours
// or no longer valid. What it wraps is for the log, never for the bearer.
var ErrInvalid = errors.New("token: invalid")

// maxToken bounds a token in bytes before anything of it is parsed.
const maxToken = 16 << 10

// clockSkew is how far ahead of ours another replica's clock may be.
const clockSkew = time.Minute

// Config says who mints and for whom.
type Config struct {
	// Issuer is the iss claim, an absolute URL.
	Issuer string
	// Audience is the aud claim.
	Audience string
	// TTL is how long a token is valid at most.
	TTL time.Duration
	// Secrets has one secret of [SecretSize] bytes for each signing key. The
	// first signs, all of them verify and are published.
	Secrets [][]byte
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
}

// Claims are the contents of a minted token. Times are Unix seconds (RFC 7519,
// section 2, NumericDate).
type Claims struct {
	Issuer        string   `json:"iss"`
	Audience      string   `json:"aud"`
	Subject       string   `json:"sub"` // the user's UUID, as in X-User-Id
	SessionID     string   `json:"sid"`
	IssuedAt      int64    `json:"iat"`
	Expiry        int64    `json:"exp"`
	ID            string   `json:"jti"`
	AuthTime      int64    `json:"auth_time,omitempty"`
	AMR           []string `json:"amr,omitempty"`
	ACR           string   `json:"acr,omitempty"`
	Email         string   `json:"email,omitempty"`
	EmailVerified bool     `json:"email_verified,omitempty"`
	Name          string   `json:"name,omitempty"`
	Provider      string   `json:"provider,omitempty"`
	// UserIssuer and UserSubject are who the person is at the provider.
	UserIssuer  string `json:"provider_iss,omitempty"`
	UserSubject string `json:"provider_sub,omitempty"`
	// Role is what PostgREST calls a role: the database role of everybody who
	// is signed in. Application roles are in Roles.
	Role   string   `json:"role"`
	Roles  []string `json:"roles,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// UserRole is the role that the user's row in a store gives, among Roles too.
	UserRole string `json:"user_role,omitempty"`
	// Version is the session version (session.version) the token was minted
	// under: raising the setting voids tokens along with cookies.
	Version int `json:"ver"`
	// Mapped are the claims that the configuration adds, by name; none of them is
	// [Reserved]. A verified token has its numbers as [json.Number].
	Mapped map[string]any `json:"-"`
}

// Role is the role claim of every token.
const Role = "authenticated"

// An Issuer mints and verifies tokens. It is safe for concurrent use.
type Issuer struct {
	config Config
	signer jose.Signer
	keys   map[string]crypto.PublicKey // by kid
	jwks   []byte
	etag   string
}

// New returns the Issuer of c. It fails if c lacks a setting or a secret has
// the wrong size.
func New(c Config) (*Issuer, error) {
	switch {
	case c.Issuer == "" || c.Audience == "":
		return nil, errors.New("token: issuer and audience are required")
	case c.TTL <= 0:
		return nil, errors.New("token: the ttl must be positive")
	case len(c.Secrets) == 0:
		return nil, errors.New("token: no secret to derive a signing key from")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	i := &Issuer{config: c, keys: map[string]crypto.PublicKey{}}
	if err := i.load(); err != nil {
		return nil, err
	}
	return i, nil
}

// load derives the keys, the signer and the published set.
func (i *Issuer) load() error {
	var set jose.JSONWebKeySet
	for n, secret := range i.config.Secrets {
		private, err := deriveKey(secret)
		if err != nil {
			return err
		}
		public := jose.JSONWebKey{Key: private.Public(), Algorithm: string(jose.ES256), Use: "sig"}
		thumb, err := public.Thumbprint(crypto.SHA256) // RFC 7638: the same key has the same kid everywhere
		if err != nil {
			return fmt.Errorf("token: key thumbprint: %w", err)
		}
		public.KeyID = base64.RawURLEncoding.EncodeToString(thumb)
		set.Keys = append(set.Keys, public)
		i.keys[public.KeyID] = public.Key
		if n > 0 {
			continue
		}
		key := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: public.KeyID}}
		if i.signer, err = jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT")); err != nil {
			return fmt.Errorf("token: signer: %w", err)
		}
	}
	var err error
	if i.jwks, err = json.Marshal(set); err != nil {
		return fmt.Errorf("token: key set: %w", err)
	}
	sum := sha256.Sum256(i.jwks)
	i.etag = `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	return nil
}

// Mint signs c, filling in issuer, audience, role, id and times. The token ends
// after the configured TTL or at sessionEnd, whichever comes first; Mint
// returns it with that time, and fails if it would be over already.
func (i *Issuer) Mint(c Claims, sessionEnd time.Time) (string, time.Time, error) {
	now := i.config.Now()
	end := now.Add(i.config.TTL)
	if sessionEnd.Before(end) {
		end = sessionEnd
	}
	end = end.Truncate(time.Second)
	if !end.After(now) {
		return "", time.Time{}, errors.New("token: the session is over")
	}
	c.Issuer, c.Audience, c.Role = i.config.Issuer, i.config.Audience, Role
	c.ID = rand.Text()
	c.IssuedAt, c.Expiry = now.Unix(), end.Unix()
	raw, err := jwt.Signed(i.signer).Claims(c).Serialize()
	if err != nil {
		return "", time.Time{}, fmt.Errorf("token: sign: %w", err)
	}
	return raw, end, nil
}

// Verify returns the claims of a token that this Issuer, or a replica that
// shares its keys, has minted for our own audience and that is valid now. Any
// other gives [ErrInvalid]. Header parameters that name keys (jku, jwk, x5u)
// are not looked at, and only ES256 under a published key counts (RFC 8725,
// sections 3.1 and 3.5).
func (i *Issuer) Verify(raw string) (*Claims, error) {
	if len(raw) > maxToken {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, maxToken)
	}
	parsed, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(parsed.Headers) != 1 {
		return nil, fmt.Errorf("%w: malformed", ErrInvalid)
	}
	header := parsed.Headers[0]
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); typ != "JWT" {
		return nil, fmt.Errorf("%w: type %q", ErrInvalid, typ)
	}
	key, ok := i.keys[header.KeyID]
	if !ok {
		return nil, fmt.Errorf("%w: unknown key", ErrInvalid)
	}
	var c Claims
	if err := parsed.Claims(key, &c); err != nil {
		return nil, fmt.Errorf("%w: signature or claims: %w", ErrInvalid, err)
	}
	if err := i.check(&c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &c, nil
}

// check judges the claims of a token whose signature is ours.
func (i *Issuer) check(c *Claims) error {
	now := i.config.Now()
	switch {
	case c.Issuer != i.config.Issuer:
		return errors.New("another issuer")
	case c.Audience != i.config.Audience:
		return errors.New("another audience")
	case c.Subject == "" || c.SessionID == "" || c.ID == "":
		return errors.New("no subject, session or id")
	case now.Unix() >= c.Expiry:
		return errors.New("expired")
	case time.Unix(c.IssuedAt, 0).After(now.Add(clockSkew)):
		return errors.New("issued in the future")
	}
	return nil
}

// JWKS returns the public keys as a JWK Set (RFC 7517, section 5) and its
// entity tag.
func (i *Issuer) JWKS() (set []byte, etag string) { return slices.Clone(i.jwks), i.etag }

// Issuer returns the iss claim.
func (i *Issuer) Issuer() string { return i.config.Issuer }
