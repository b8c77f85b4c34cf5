// Package oauth signs people in with OpenID Connect and OAuth 2.0: at any OpenID
// Connect provider, at Google, GitHub and Microsoft Entra with what is special
// about them, and at OAuth 2.0 providers that can only say who the person is.
//
// [New] describes a provider without contacting it; [Provider.Run] keeps its
// metadata fresh in the background. A sign-in is two calls: with a [Login],
// [Provider.AuthCodeURL] says where to send the browser, and
// [Provider.Exchange] turns what the browser brings back into an [Identity].
// Later [Provider.Refresh] gets new tokens for it; [Provider.Revoke] and
// [Provider.EndSessionURL] end it at the provider.
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
//	   │                   │ ID token, nonce, userinfo, API │
//
// The promise: the provider is not contacted before the state is known to be
// the login's, and no Identity comes out of an answer that was not meant for
// this login, this client and this provider (RFC 6749, RFC 7636, RFC 9207, RFC
// 9700, OpenID Connect Core 1.0).
package oauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/coreos/go-oidc/v3/oidc"
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
	// Type is the kind of provider; empty means [OIDC].
	Type string
	// Issuer is the provider's issuer identifier, to the letter. Google, GitLab,
	// GitHub and Entra have one by default.
	Issuer string
	// BaseURL is the address of a GitHub Enterprise Server or of the Entra of
	// another cloud; empty means the public one.
	BaseURL string
	// ClientID and ClientSecret are what the provider knows us by. A public
	// client has no secret.
	ClientID, ClientSecret string
	// Auth is how else the client proves itself.
	Auth ClientAuth
	// RedirectURL is where the provider sends the browser back to.
	RedirectURL string
	// Scopes are asked for; nil means the usual ones of the type. Where there is
	// an ID token they include "openid".
	Scopes []string
	// GroupsClaim is the claim that lists the person's groups: a name, or a
	// dotted path such as "realm_access.roles".
	GroupsClaim string
	// Endpoints are addresses that count instead of what the provider announces.
	Endpoints Endpoints
	// SignOut is "provider", which is what empty means too, or "local", which
	// keeps sign-out from the provider: its session goes on.
	SignOut string
	// ResponseMode is "query", "form_post" or empty, which means query.
	ResponseMode string
	// PushedRequests says when the authorization request is pushed (RFC 9126):
	// "auto" or empty where the provider announces it, "always" or "never".
	PushedRequests string

	// HostedDomains are the Google Workspace domains whose members may sign in;
	// nil means anybody with a Google account.
	HostedDomains []string
	// Groups says where a Google user's groups are read; nil means nowhere.
	Groups *GoogleGroups
	// Orgs and Teams restrict who may sign in with GitHub: being in one of them
	// is enough. A team is written org/slug. Both nil means anybody.
	Orgs, Teams []string
	// Tenant is the directory of Entra: its id, or "common", "organizations" or
	// "consumers".
	Tenant string
	// AllowedTenants are the ids of the directories whose members may sign in
	// where Tenant stands for several; nil means all of them.
	AllowedTenants []string
	// ReadUserinfo has the userinfo endpoint asked at each sign-in and refresh,
	// ReadAccount the API of GitLab and Entra, for [Identity.Claims].
	ReadUserinfo, ReadAccount bool
	// Claims are where an OAuth2 provider without ID tokens says who signed in.
	Claims ClaimPaths

	// Transport makes the requests; nil means one of our own.
	Transport http.RoundTripper
	// Metrics counts and times the requests; nil means not.
	Metrics *Metrics
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
	// Log takes what an operator should know; nil means nothing is logged.
	Log *slog.Logger
}

// Endpoints are a provider's addresses, as an operator overrides them. An empty
// one means what the provider announces, or what is usual for its type.
type Endpoints struct {
	// AuthorizeURL, TokenURL and JWKSURL together make an OpenID Connect
	// provider's discovery document unnecessary.
	AuthorizeURL, TokenURL, JWKSURL string
	// UserinfoURL, EndSessionURL, RevocationURL and PushURL (RFC 9126) are
	// things that a provider need not have.
	UserinfoURL, EndSessionURL, RevocationURL, PushURL string
	// APIURL is the base of GitHub's API, Microsoft Graph, Google's Admin SDK or
	// Cloud Identity.
	APIURL string
	// MetadataURL is the base of Google's metadata server.
	MetadataURL string
}

// check refuses addresses at which secrets would travel in the clear. The
// metadata server is part of the machine.
func (e *Endpoints) check() error {
	for name, address := range map[string]string{
		"authorize URL": e.AuthorizeURL, "token URL": e.TokenURL, "JWKS URL": e.JWKSURL, "userinfo URL": e.UserinfoURL,
		"end session URL": e.EndSessionURL, "revocation URL": e.RevocationURL, "push URL": e.PushURL, "API URL": e.APIURL,
	} {
		if address == "" {
			continue
		}
		if err := checkAddress(address); err != nil {
			return fmt.Errorf("the %s %w", name, err)
		}
	}
	return nil
}

// checkAddress wants https, or http on this machine. Its error goes on from the
// name of the address.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("is not the address of a web server")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	local := err == nil && ip.IsLoopback() || u.Hostname() == "localhost" || strings.HasSuffix(u.Hostname(), ".localhost")
	if u.Scheme == "http" && !local {
		return errors.New("is not https")
	}
	return nil
}

// A Provider signs people in. It is safe for concurrent use.
type Provider struct {
	config Config
	client *http.Client
	// patient is client for what takes a refresh token.
	patient *http.Client
	kind    kind

	discovery sync.Mutex // held while metadata is fetched
	tried     time.Time  // when the last attempt ended; under discovery
	current   atomic.Pointer[endpoint]
}

// An endpoint is a provider as its metadata and the configuration describe it.
type endpoint struct {
	metadata metadata
	basic    bool // the secret goes into the Authorization header

	// For providers with ID tokens.
	verifier *oidc.IDTokenVerifier
	oidc     *oidc.Provider
	keys     *keySet
}

// metadata is what we read of the discovery document (OpenID Connect Discovery
// 1.0, section 3; RFC 8414, section 2; RFC 8705, section 5; RFC 9126, section 5;
// RFC 9207, section 3; OpenID Connect RP-Initiated Logout 1.0, section 2.1).
type metadata struct {
	Issuer         string   `json:"issuer"`
	AuthorizeURL   string   `json:"authorization_endpoint"`
	TokenURL       string   `json:"token_endpoint"`
	JWKSURI        string   `json:"jwks_uri"`
	UserinfoURL    string   `json:"userinfo_endpoint"`
	EndSessionURL  string   `json:"end_session_endpoint"`
	RevocationURL  string   `json:"revocation_endpoint"`
	PushURL        string   `json:"pushed_authorization_request_endpoint"`
	PushRequired   bool     `json:"require_pushed_authorization_requests"`
	IssParameter   bool     `json:"authorization_response_iss_parameter_supported"`
	TokenAuth      []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgs  []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	IDTokenSigning []string `json:"id_token_signing_alg_values_supported"`

	MTLS struct {
		TokenURL      string `json:"token_endpoint"`
		RevocationURL string `json:"revocation_endpoint"`
		PushURL       string `json:"pushed_authorization_request_endpoint"`
		UserinfoURL   string `json:"userinfo_endpoint"`
	} `json:"mtls_endpoint_aliases"`
}

// New returns the provider that c describes. It does no I/O and fails only for
// an incomplete or contradictory c.
func New(c Config) (*Provider, error) {
	c.Type = cmp.Or(c.Type, OIDC)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p := &Provider{config: c}
	if err := p.setKind(); err != nil {
		return nil, fmt.Errorf("oauth: provider %s: %w", c.ID, err)
	}
	if c := p.config; c.ID == "" || c.Issuer == "" || c.ClientID == "" || c.RedirectURL == "" {
		return nil, errors.New("oauth: id, issuer, client id and redirect URL are required")
	}
	if err := p.config.Endpoints.check(); err != nil {
		return nil, fmt.Errorf("oauth: provider %s: %w", c.ID, err)
	}
	client, err := newClient(p.config)
	if err != nil {
		return nil, fmt.Errorf("oauth: provider %s: %w", c.ID, err)
	}
	patient := *client
	patient.Timeout = refreshTimeout
	p.client, p.patient = client, &patient
	if err := p.config.Auth.check(c.ClientSecret); err != nil {
		return nil, fmt.Errorf("oauth: provider %s: %w", c.ID, err)
	}
	return p, nil
}

// ID returns the configured id.
func (p *Provider) ID() string { return p.config.ID }

// Name returns what people call the provider.
func (p *Provider) Name() string { return p.config.Name }

// Type returns the kind of provider, such as "oidc" or "github".
func (p *Provider) Type() string { return p.config.Type }

// DescribesSignIns reports whether the provider can be asked for a sign-in of a
// class or an age, and says in its ID tokens what came of it: acr, amr and
// auth_time (OpenID Connect Core 1.0, section 2). Google says none of them.
func (p *Provider) DescribesSignIns() bool {
	switch p.config.Type {
	case GitHub, Google, OAuth2:
		return false
	}
	return true
}

// Issues reports whether issuer is this provider's: the people of another one
// are not its own, whatever its id. Of Entra's tenants only those count that may
// sign in.
func (p *Provider) Issues(issuer string) bool {
	if a, ok := p.kind.(*entra); ok {
		return a.admits(issuer)
	}
	return issuer != "" && (issuer == p.config.Issuer || p.kind.issues(issuer))
}

// FormPost reports whether the provider's answer comes as a POST of a form
// (OAuth 2.0 Form Post Response Mode), so that the callback must take one.
func (p *Provider) FormPost() bool { return p.config.ResponseMode == formPost }

const formPost = "form_post"

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
	e, err := p.kind.describe(oidc.ClientContext(ctx, p.client))
	// The end counts: those who waited for a slow attempt must not each make
	// another one.
	p.tried = p.config.Now()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, p.config.ID, err)
	}
	p.current.Store(e)
	return nil
}
