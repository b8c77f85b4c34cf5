package oauth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// The failures of [Provider.VerifyLogout].
var (
	// ErrLogoutToken: the token is not a logout token of this provider for this
	// client, or is too old.
	ErrLogoutToken = errors.New("oauth: the logout token is not valid")
	// ErrNoLogout: the provider has no signed tokens, so it can tell nothing.
	ErrNoLogout = errors.New("oauth: the provider has no back-channel logout")
)

// logoutEvent is the member of the events claim that makes a token a logout
// token.
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

const (
	// maxLogoutAge is how long after its iat a logout token counts. Two minutes
	// are what OpenID Connect Back-Channel Logout 1.0, section 2.4, recommends for
	// its life; the rest is for a provider that tries again.
	maxLogoutAge = 10 * time.Minute
	// maxTokenID bounds a jti in bytes: it is kept for a while.
	maxTokenID = 256
)

// A Logout is what a provider ends by a logout token: the session SID, or all of
// Subject where SID is "". With both it is that person's session.
type Logout struct {
	Subject, SID string
	// IssuedAt is when the provider said so, by its clock, in whole seconds. What
	// began later is not meant.
	IssuedAt time.Time
	// TokenID is the jti, which is good for one logout, and Until the end of the
	// time in which the token is accepted: so long the jti must be remembered.
	TokenID string
	Until   time.Time
}

// VerifyLogout returns what the logout token raw ends (OpenID Connect
// Back-Channel Logout 1.0, section 2.6). That its jti was not seen before is the
// caller's to see. It fails with [ErrLogoutToken], with [ErrNoLogout], or with
// [ErrUnavailable] while the provider's keys are not known.
func (p *Provider) VerifyLogout(ctx context.Context, raw string) (*Logout, error) {
	if raw == "" || len(raw) > maxIDToken {
		return nil, fmt.Errorf("%w: missing, or longer than %d bytes", ErrLogoutToken, maxIDToken)
	}
	e, err := p.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	if e.verifier == nil {
		return nil, ErrNoLogout
	}
	if err := checkLogoutType(raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogoutToken, err)
	}
	// As for an ID token: without keys it is not the token that is wrong.
	if _, err := e.keys.current(ctx); err != nil {
		return nil, err
	}
	// go-oidc: signature, algorithm, iss, aud, exp, jti, and either sub or sid.
	token, err := e.verifier.VerifyLogout(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogoutToken, err)
	}
	var c claims
	if err := token.Claims(&c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogoutToken, err)
	}
	if err := p.checkLogout(&c, token); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogoutToken, err)
	}
	until := token.IssuedAt.Add(maxLogoutAge)
	if token.Expiry.Before(until) {
		until = token.Expiry
	}
	return &Logout{Subject: c.Subject, SID: c.SID, IssuedAt: token.IssuedAt, TokenID: token.TokenID, Until: until}, nil
}

// checkLogoutType refuses a token that says it is something else, such as an
// access token ("at+jwt", RFC 9068). "logout+jwt" is only recommended, and many
// providers write "JWT" or nothing.
func checkLogoutType(raw string) error {
	encoded, _, _ := strings.Cut(raw, ".")
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return errors.New("the header cannot be read")
	}
	var header struct {
		Type string `json:"typ"`
	}
	if json.Unmarshal(text, &header) != nil {
		return errors.New("the header cannot be read")
	}
	switch strings.TrimPrefix(strings.ToLower(header.Type), "application/") {
	case "", "jwt", "logout+jwt":
		return nil
	}
	return errors.New("typ is not that of a logout token")
}

// checkLogout makes the checks that go-oidc leaves to its caller, or makes by
// names in any case.
func (p *Provider) checkLogout(c *claims, token *oidc.LogoutToken) error {
	var events map[string]json.RawMessage
	var event map[string]json.RawMessage
	now := p.config.Now()
	switch {
	case !p.Issues(c.Issuer): // with several tenants go-oidc has not looked
		return errors.New("iss is another issuer")
	case json.Unmarshal(c.Events, &events) != nil || json.Unmarshal(events[logoutEvent], &event) != nil || event == nil:
		return errors.New("the events claim is not that of a logout token")
	case c.Subject == "" && c.SID == "" || len(c.Subject) > maxSubject:
		return errors.New("there is neither sub nor sid, or sub is too long")
	case len(token.TokenID) > maxTokenID:
		return errors.New("jti is too long")
	case token.IssuedAt.After(now.Add(clockSkew)):
		return errors.New("iat is in the future; do the clocks agree?")
	case !token.IssuedAt.After(now.Add(-maxLogoutAge)):
		return fmt.Errorf("iat is missing, or more than %v ago; do the clocks agree?", maxLogoutAge)
	}
	return nil
}
