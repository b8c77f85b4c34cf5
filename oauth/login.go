package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// The reasons for which [Provider.Exchange] refuses an answer, besides
// [ErrUnavailable], [ErrNotAllowed] and [*RefusedError].
var (
	// ErrStateMismatch: the answer does not belong to this login.
	ErrStateMismatch = errors.New("oauth: the state is not this login's")
	// ErrIssuerMismatch: the answer comes from another provider (RFC 9207).
	ErrIssuerMismatch = errors.New("oauth: the answer is another issuer's")
	// ErrCode: the provider did not take the code.
	ErrCode = errors.New("oauth: the code was not accepted")
	// ErrIDToken: the ID token does not prove who signed in.
	ErrIDToken = errors.New("oauth: the ID token is not valid")
	// ErrClaims: what the provider says about the person cannot be used.
	ErrClaims = errors.New("oauth: the claims are not usable")
)

// A RefusedError is an error that the provider sent instead of a code (RFC
// 6749, section 4.1.2.1; OpenID Connect Core 1.0, section 3.1.2.6).
type RefusedError struct {
	// Code is the provider's error code, such as "access_denied", cut to what
	// the RFC allows. The provider's description is not kept: anybody can write
	// one into a link.
	Code string
}

// Error returns the provider's error code in a sentence.
func (e *RefusedError) Error() string { return "oauth: the provider refused: " + e.Code }

// A Login is a sign-in under way, as the browser that began it remembers it.
type Login struct {
	// StateHash is the SHA-256 of the state that went to the provider.
	StateHash []byte
	// Nonce binds the ID token to this login (OpenID Connect Core 1.0, section
	// 15.5.2).
	Nonce string
	// Verifier is the PKCE secret (RFC 7636) that binds the code to it.
	Verifier string
}

// NewLogin returns a fresh Login for state.
func NewLogin(state string) Login {
	sum := sha256.Sum256([]byte(state))
	return Login{StateHash: sum[:], Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()}
}

// Prompts are what may be asked of a provider's sign-in page (OpenID Connect
// Core 1.0, section 3.1.2.1).
type Prompts struct {
	// LoginHint says who is about to sign in.
	LoginHint string
	// Prompt is "login", "select_account", "consent" or empty.
	Prompt string
	// ACRValues are the classes of which the sign-in should be, the preferred one
	// first, with spaces in between; empty means any.
	ACRValues string
	// MaxAge is how long ago the person may have been authenticated, in whole
	// seconds; zero means that it does not matter.
	MaxAge time.Duration
}

// AuthCodeURL returns where to send the browser. It fails with
// [ErrUnavailable].
func (p *Provider) AuthCodeURL(ctx context.Context, state string, login Login, ask Prompts) (string, error) {
	e, err := p.endpoint(ctx)
	if err != nil {
		return "", err
	}
	q := url.Values{
		"response_type": {"code"}, "client_id": {p.config.ClientID}, "redirect_uri": {p.config.RedirectURL}, "state": {state},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(login.Verifier)}, "code_challenge_method": {"S256"},
	}
	if len(p.config.Scopes) > 0 {
		q.Set("scope", strings.Join(p.config.Scopes, " "))
	}
	if p.FormPost() {
		q.Set("response_mode", formPost)
	}
	p.kind.ask(q, login, ask)
	if e.metadata.PushURL != "" && p.config.PushedRequests != "never" {
		if q, err = p.push(ctx, e, q); err != nil {
			return "", err
		}
	}
	return withQuery(e.metadata.AuthorizeURL, q)
}

// A Callback is what the provider's redirect carries.
type Callback struct {
	State, Code string
	// Issuer is the iss parameter (RFC 9207).
	Issuer string
	// Error is the error parameter.
	Error string
}

// Exchange ends login with the provider's answer. It contacts the provider only
// once the state is known to be login's.
func (p *Provider) Exchange(ctx context.Context, login Login, answer Callback) (*Identity, error) {
	if err := login.checkState(answer.State); err != nil {
		return nil, err
	}
	e, err := p.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.checkIssuer(e, answer.Issuer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, &RefusedError{Code: errorCode(answer.Error)}
	}
	ctx = p.withClient(ctx)
	g, err := p.redeem(ctx, e, answer.Code, login.Verifier)
	if err != nil {
		return nil, err
	}
	identity, err := p.kind.identify(ctx, e, g, expected{nonce: login.Nonce})
	if err != nil {
		return nil, err
	}
	if err := identity.check(); err != nil {
		return nil, err
	}
	identity.Tokens.Access, identity.Tokens.AccessExpiry, identity.Tokens.Refresh = g.access, g.expiry, g.refresh
	return identity, nil
}

// withClient makes go-oidc ask through our client.
func (p *Provider) withClient(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.client)
}

// checkState compares in constant time. Two empty strings are equal, so a login
// without a state must fail explicitly.
func (l Login) checkState(state string) error {
	sum := sha256.Sum256([]byte(state))
	if state == "" || len(l.StateHash) == 0 || subtle.ConstantTimeCompare(sum[:], l.StateHash) != 1 {
		return ErrStateMismatch
	}
	return nil
}

// checkIssuer refuses another provider's answer (RFC 9207, section 2.4). A
// provider that announces the parameter always sends it.
func (p *Provider) checkIssuer(e *endpoint, iss string) error {
	if iss == "" && !e.metadata.IssParameter {
		return nil
	}
	if !p.kind.issues(iss) {
		return ErrIssuerMismatch
	}
	return nil
}

// errorCode cuts code to the characters of RFC 6749, section 4.1.2.1, and to 64
// of them.
func errorCode(code string) string {
	clean := make([]byte, 0, min(len(code), 64))
	for i := 0; i < len(code) && len(clean) < 64; i++ {
		if c := code[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' {
			clean = append(clean, c)
		}
	}
	return string(clean)
}

// clockSkew is how far a provider's clock may be ahead of ours.
const clockSkew = time.Minute
