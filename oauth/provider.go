// Package oauth signs people in at an OpenID Connect provider.
//
// [New] describes a provider without contacting it; [Provider.Run] keeps its
// metadata fresh in the background. A sign-in is two calls: with a [Login],
// [Provider.AuthCodeURL] says where to send the browser, and
// [Provider.Exchange] turns what the browser brings back into an [Identity].
//
//	browser            authproxy                         provider
//	   │  sign-in          │                                │
//	   ├──────────────────>│ NewLogin, AuthCodeURL          │
//	   │<── 302 ───────────┤                                │
//	   ├────────────────────────────────────────────────────>│ the person signs in
//	   │<── 302 code, state, iss ───────────────────────────┤
//	   ├──────────────────>│ Exchange: state, iss, then     │
//	   │                   ├── code, PKCE verifier ─────────>│
//	   │                   │<── tokens ─────────────────────┤
//	   │                   │ ID token, nonce, userinfo      │
//
// The promise: the provider is not contacted before the state is known to be
// the login's, and no Identity comes out of an answer that was not meant for
// this login, this client and this provider (RFC 6749, RFC 7636, RFC 9207, RFC
// 9700, OpenID Connect Core 1.0).
package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// ErrUnavailable is returned while the provider cannot be reached or does not
// answer as it should. The sign-in may work later.
var ErrUnavailable = errors.New("oauth: provider unavailable")

// signingAlgorithms are the ID-token algorithms that count: asymmetric ones
// only, so that nobody can use the provider's public key as an HMAC secret (RFC
// 8725, section 2.1), and never "none".
func signingAlgorithms() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}
}

// Config describes one provider.
type Config struct {
	// ID is the provider's name in configuration and URLs; Name is for people.
	ID, Name string
	// Issuer is the provider's issuer identifier, to the letter.
	Issuer string
	// ClientID and ClientSecret are what the provider knows us by. A public
	// client has no secret.
	ClientID, ClientSecret string
	// RedirectURL is where the provider sends the browser back to.
	RedirectURL string
	// Scopes are asked for; they include "openid".
	Scopes []string
	// GroupsClaim is the claim that lists the person's groups.
	GroupsClaim string

	// Transport makes the requests; nil means one of our own, with time limits.
	Transport http.RoundTripper
	// Metrics counts and times the requests; nil means not.
	Metrics *Metrics
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
	// Log takes what an operator should know; nil means nothing is logged.
	Log *slog.Logger
}

// A Provider signs people in. It is safe for concurrent use.
type Provider struct {
	config Config
	client *http.Client

	discovery sync.Mutex // held while metadata is fetched
	tried     time.Time  // when the last attempt ended; under discovery
	current   atomic.Pointer[endpoint]
}

// An endpoint is a provider as its metadata describes it.
type endpoint struct {
	oauth2   oauth2.Config
	verifier *oidc.IDTokenVerifier
	oidc     *oidc.Provider
	keys     *keySet
	metadata metadata
}

// metadata is what we read of the discovery document beyond go-oidc (OpenID
// Connect Discovery 1.0, section 3; RFC 9207, section 3).
type metadata struct {
	JWKSURI        string   `json:"jwks_uri"`
	UserinfoURL    string   `json:"userinfo_endpoint"`
	IssParameter   bool     `json:"authorization_response_iss_parameter_supported"`
	TokenAuth      []string `json:"token_endpoint_auth_methods_supported"`
	IDTokenSigning []string `json:"id_token_signing_alg_values_supported"`
}

// New returns the provider that c describes. It does no I/O and fails only for
// an incomplete c.
func New(c Config) (*Provider, error) {
	switch {
	case c.ID == "" || c.Issuer == "" || c.ClientID == "" || c.RedirectURL == "":
		return nil, errors.New("oauth: id, issuer, client id and redirect URL are required")
	case !slices.Contains(c.Scopes, oidc.ScopeOpenID):
		return nil, fmt.Errorf("oauth: provider %s: the scopes must include %q", c.ID, oidc.ScopeOpenID)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Provider{config: c, client: newClient(c)}, nil
}

// ID returns the configured id.
func (p *Provider) ID() string { return p.config.ID }

// Name returns what people call the provider.
func (p *Provider) Name() string { return p.config.Name }

// Type returns the kind of provider.
func (p *Provider) Type() string { return "oidc" }

// rediscover is how long metadata is good before it is read again.
const rediscover = time.Hour

// Run keeps the provider's metadata: it reads it at once, tries again with
// backoff and jitter until that works, then reads it anew every hour, keeping
// the last good copy. It returns when ctx ends.
func (p *Provider) Run(ctx context.Context) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = time.Second, time.Minute
	for {
		next := rediscover
		if err := p.Discover(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			next = wait.NextBackOff()
			p.config.Log.WarnContext(ctx, "provider metadata cannot be read; existing sessions go on",
				"provider", p.config.ID, "retry_in", next.Round(time.Millisecond).String(), "err", err)
		} else {
			wait.Reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// Discover reads the provider's metadata now. It fails with [ErrUnavailable],
// and the last good copy stays.
func (p *Provider) Discover(ctx context.Context) error {
	p.discovery.Lock()
	defer p.discovery.Unlock()
	return p.discover(ctx)
}

// endpoint returns the provider's metadata, fetching it if there is none yet,
// at most once a second: while a provider is down, its users must not make it
// worse.
func (p *Provider) endpoint(ctx context.Context) (*endpoint, error) {
	if e := p.current.Load(); e != nil {
		return e, nil
	}
	p.discovery.Lock()
	defer p.discovery.Unlock()
	if e := p.current.Load(); e != nil {
		return e, nil
	}
	if p.config.Now().Sub(p.tried) < time.Second {
		return nil, fmt.Errorf("%w: its metadata could not be read a moment ago", ErrUnavailable)
	}
	if err := p.discover(ctx); err != nil {
		return nil, err
	}
	return p.current.Load(), nil
}

func (p *Provider) discover(ctx context.Context) error {
	e, err := p.fetchEndpoint(oidc.ClientContext(ctx, p.client))
	// The end counts: those who waited for a slow attempt must not each make
	// another one.
	p.tried = p.config.Now()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, p.config.ID, err)
	}
	p.current.Store(e)
	return nil
}

// fetchEndpoint reads the discovery document. go-oidc checks that it names our
// issuer, so that it cannot speak for another (OpenID Connect Discovery 1.0,
// section 4.3).
func (p *Provider) fetchEndpoint(ctx context.Context) (*endpoint, error) {
	provider, err := oidc.NewProvider(ctx, p.config.Issuer)
	if err != nil {
		return nil, err
	}
	e := &endpoint{oidc: provider}
	if err := provider.Claims(&e.metadata); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	for name, address := range map[string]string{
		"authorization_endpoint": provider.Endpoint().AuthURL, "token_endpoint": provider.Endpoint().TokenURL,
		"jwks_uri": e.metadata.JWKSURI, "userinfo_endpoint": e.metadata.UserinfoURL,
	} {
		if err := p.checkEndpoint(name, address); err != nil {
			return nil, err
		}
	}
	e.oauth2 = oauth2.Config{
		ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, RedirectURL: p.config.RedirectURL,
		Scopes: p.config.Scopes, Endpoint: provider.Endpoint(),
	}
	e.oauth2.Endpoint.AuthStyle = p.authStyle(e.metadata.TokenAuth)
	algorithms := e.metadata.signing()
	if len(algorithms) == 0 {
		return nil, fmt.Errorf("it signs ID tokens with none of %v", signingAlgorithms())
	}
	e.keys = p.keySet(e)
	e.verifier = oidc.NewVerifier(p.config.Issuer, e.keys, &oidc.Config{
		ClientID: p.config.ClientID, SupportedSigningAlgs: algorithms, Now: p.config.Now,
	})
	return e, nil
}

// keySet returns the keys at e's jwks_uri. The old set goes on if the address is
// the same: re-reading metadata must not forget keys or reset the fetch limit.
func (p *Provider) keySet(e *endpoint) *keySet {
	if old := p.current.Load(); old != nil && old.metadata.JWKSURI == e.metadata.JWKSURI {
		return old.keys
	}
	return &keySet{url: e.metadata.JWKSURI, client: p.client, now: p.config.Now}
}

// checkEndpoint refuses an endpoint that is less protected than the issuer:
// secrets and codes would travel in the clear.
func (p *Provider) checkEndpoint(name, address string) error {
	if address == "" && name == "userinfo_endpoint" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return fmt.Errorf("its %s is not an absolute URL", name)
	}
	if u.Scheme != "https" && strings.HasPrefix(p.config.Issuer, "https:") {
		return fmt.Errorf("its %s is not https, but the issuer is", name)
	}
	return nil
}

// authStyle says how to present the client secret. It is read from the
// metadata, where basic is the default (OpenID Connect Discovery 1.0, section
// 3): trying one way and then the other would burn the code.
func (p *Provider) authStyle(methods []string) oauth2.AuthStyle {
	if p.config.ClientSecret == "" {
		return oauth2.AuthStyleInParams
	}
	if len(methods) == 0 || slices.Contains(methods, "client_secret_basic") {
		return oauth2.AuthStyleInHeader
	}
	return oauth2.AuthStyleInParams
}

// signing returns the algorithms that we and the provider both take.
func (m *metadata) signing() []string {
	if len(m.IDTokenSigning) == 0 {
		return []string{oidc.RS256}
	}
	return slices.DeleteFunc(signingAlgorithms(), func(alg string) bool {
		return !slices.Contains(m.IDTokenSigning, alg)
	})
}
