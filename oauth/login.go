package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// The reasons for which [Provider.Exchange] refuses an answer, besides
// [ErrUnavailable] and [*RefusedError].
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
}

// AuthCodeURL returns where to send the browser. It fails with
// [ErrUnavailable].
func (p *Provider) AuthCodeURL(ctx context.Context, state string, login Login, ask Prompts) (string, error) {
	e, err := p.endpoint(ctx)
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(login.Nonce), oauth2.S256ChallengeOption(login.Verifier)}
	if ask.LoginHint != "" {
		options = append(options, oauth2.SetAuthURLParam("login_hint", ask.LoginHint))
	}
	if ask.Prompt != "" {
		options = append(options, oauth2.SetAuthURLParam("prompt", ask.Prompt))
	}
	return e.oauth2.AuthCodeURL(state, options...), nil
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
	ctx = oidc.ClientContext(ctx, p.client)
	tokens, err := p.redeem(ctx, e, answer.Code, login.Verifier)
	if err != nil {
		return nil, err
	}
	identity, err := p.verify(ctx, e, tokens, login.Nonce)
	if err != nil {
		return nil, err
	}
	if err := p.addUserinfo(ctx, e, tokens, identity); err != nil {
		return nil, err
	}
	if err := identity.check(); err != nil {
		return nil, err
	}
	return identity, nil
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
	if iss != p.config.Issuer {
		return ErrIssuerMismatch
	}
	return nil
}

// redeem trades the code for tokens, once: a code must not be tried again.
func (p *Provider) redeem(ctx context.Context, e *endpoint, code, verifier string) (*oauth2.Token, error) {
	if code == "" {
		return nil, fmt.Errorf("%w: there is none", ErrCode)
	}
	tokens, err := e.oauth2.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err == nil {
		return tokens, nil
	}
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) {
		return nil, fmt.Errorf("%w: token endpoint: %w", ErrUnavailable, withoutURL(err))
	}
	if answer.Response.StatusCode >= http.StatusInternalServerError || answer.Response.StatusCode == http.StatusTooManyRequests {
		return nil, fmt.Errorf("%w: token endpoint: status %d", ErrUnavailable, answer.Response.StatusCode)
	}
	// Only the error code: the body may echo what was sent.
	return nil, fmt.Errorf("%w: status %d, %q", ErrCode, answer.Response.StatusCode, errorCode(answer.ErrorCode))
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
