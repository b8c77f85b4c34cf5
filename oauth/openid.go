package oauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// openID is a provider with ID tokens.
type openID struct {
	p *Provider
	// base is where the discovery document is, without its well-known path.
	base string
	// issuer is what the document must say of itself. For several tenants it is
	// a template, and the issuer of a token is its caller's to check.
	issuer string
	// severalIssuers is set for such a template.
	severalIssuers bool
}

// describe reads the discovery document, unless the configuration makes it
// unnecessary, and applies the configured addresses.
func (o *openID) describe(ctx context.Context) (*endpoint, error) {
	e := &endpoint{}
	configured := o.p.config.Endpoints
	if configured.AuthorizeURL == "" || configured.TokenURL == "" || configured.JWKSURL == "" {
		if err := o.discover(ctx, &e.metadata); err != nil {
			return nil, err
		}
	} else {
		e.metadata.IDTokenSigning = signingAlgorithms()
	}
	if err := o.p.settle(e); err != nil {
		return nil, err
	}
	algorithms := e.metadata.signing()
	if len(algorithms) == 0 {
		return nil, fmt.Errorf("it signs ID tokens with none of %v", signingAlgorithms())
	}
	e.oidc = (&oidc.ProviderConfig{
		IssuerURL: o.issuer, AuthURL: e.metadata.AuthorizeURL, TokenURL: e.metadata.TokenURL,
		UserInfoURL: e.metadata.UserinfoURL, JWKSURL: e.metadata.JWKSURI, Algorithms: algorithms,
	}).NewProvider(ctx)
	e.keys = o.p.keySet(e, o.severalIssuers)
	e.verifier = oidc.NewVerifier(o.issuer, e.keys, &oidc.Config{
		ClientID: o.p.config.ClientID, SupportedSigningAlgs: algorithms, Now: o.p.config.Now,
		SkipIssuerCheck: o.severalIssuers,
	})
	return e, nil
}

// discover reads the document into m. It must name the issuer that we expect,
// so that it cannot speak for another (OpenID Connect Discovery 1.0, section
// 4.3).
func (o *openID) discover(ctx context.Context, m *metadata) error {
	if o.base != o.issuer { // checked below
		ctx = oidc.InsecureIssuerURLContext(ctx, o.issuer)
	}
	provider, err := oidc.NewProvider(ctx, o.base)
	if err != nil {
		return err
	}
	if err := provider.Claims(m); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if m.Issuer != o.issuer {
		return errors.New("its metadata is about another issuer")
	}
	for name, address := range map[string]string{
		"authorization_endpoint": m.AuthorizeURL, "token_endpoint": m.TokenURL, "jwks_uri": m.JWKSURI,
		"userinfo_endpoint": m.UserinfoURL, "end_session_endpoint": m.EndSessionURL,
		"revocation_endpoint": m.RevocationURL, "pushed_authorization_request_endpoint": m.PushURL,
		"mtls token_endpoint": m.MTLS.TokenURL, "mtls revocation_endpoint": m.MTLS.RevocationURL,
		"mtls pushed_authorization_request_endpoint": m.MTLS.PushURL, "mtls userinfo_endpoint": m.MTLS.UserinfoURL,
	} {
		if err := o.p.checkEndpoint(name, address); err != nil {
			return err
		}
	}
	return nil
}

func (o *openID) ask(q url.Values, login Login, ask Prompts) {
	q.Set("nonce", login.Nonce)
	if ask.LoginHint != "" {
		q.Set("login_hint", ask.LoginHint)
	}
	if ask.Prompt != "" {
		q.Set("prompt", ask.Prompt)
	}
	if ask.ACRValues != "" {
		q.Set("acr_values", ask.ACRValues)
	}
	if ask.MaxAge > 0 {
		q.Set("max_age", strconv.FormatInt(int64(ask.MaxAge/time.Second), 10))
	}
}

func (o *openID) issues(iss string) bool { return iss == o.issuer }

func (o *openID) identify(ctx context.Context, e *endpoint, g *grant, want expected) (*Identity, error) {
	id, err := o.p.prove(ctx, e, g, want)
	if err != nil {
		return nil, err
	}
	if err := o.p.addUserinfo(ctx, e, g, id, id.Groups == nil); err != nil {
		return nil, err
	}
	if o.p.config.Type == GitLab {
		err = o.p.addAccount(ctx, o.issuer+"/api/v4/user", g.access, id)
	}
	return id, err
}

// addAccount reads what the provider's own API says of the account, if that is
// wanted.
func (p *Provider) addAccount(ctx context.Context, address, token string, id *Identity) error {
	if !p.config.ReadAccount {
		return nil
	}
	var raw json.RawMessage
	_, err := p.getJSON(ctx, address, token, &raw)
	if refused, ok := errors.AsType[*statusError](err); ok {
		return fmt.Errorf("%w: the account in the provider's API: status %d; GitLab wants the scope read_user, Microsoft Graph User.Read", ErrClaims, refused.status)
	}
	if err != nil {
		return fmt.Errorf("the account in the provider's API: %w", err)
	}
	id.Claims.Account, err = parseDocument(raw)
	return err
}

// settle puts what is configured in the place of what was announced, and
// decides what follows from both.
func (p *Provider) settle(e *endpoint) error {
	m, c := &e.metadata, p.config.Endpoints
	if p.config.Auth.Certificate != nil { // RFC 8705, section 5
		m.TokenURL = cmp.Or(m.MTLS.TokenURL, m.TokenURL)
		m.RevocationURL = cmp.Or(m.MTLS.RevocationURL, m.RevocationURL)
		m.PushURL = cmp.Or(m.MTLS.PushURL, m.PushURL)
		m.UserinfoURL = cmp.Or(m.MTLS.UserinfoURL, m.UserinfoURL)
	}
	m.AuthorizeURL = cmp.Or(c.AuthorizeURL, m.AuthorizeURL)
	m.TokenURL = cmp.Or(c.TokenURL, m.TokenURL)
	m.JWKSURI = cmp.Or(c.JWKSURL, m.JWKSURI)
	m.UserinfoURL = cmp.Or(c.UserinfoURL, m.UserinfoURL)
	m.EndSessionURL = cmp.Or(c.EndSessionURL, m.EndSessionURL)
	m.RevocationURL = cmp.Or(c.RevocationURL, m.RevocationURL)
	m.PushURL = cmp.Or(c.PushURL, m.PushURL)
	e.basic = p.secretInHeader(m.TokenAuth)
	if m.PushURL == "" && (m.PushRequired || p.config.PushedRequests == "always") {
		return errors.New("pushed authorization requests are required, but it announces no endpoint for them")
	}
	return nil
}

// keySet returns the keys at e's jwks_uri. The old set goes on if the address is
// the same: re-reading metadata must not forget keys or reset the fetch limit. With several issuers each key
// counts for its own only.
func (p *Provider) keySet(e *endpoint, several bool) *keySet {
	if old := p.current.Load(); old != nil && old.metadata.JWKSURI == e.metadata.JWKSURI {
		return old.keys
	}
	return &keySet{url: e.metadata.JWKSURI, client: p.client, now: p.config.Now, severalIssuers: several}
}

// checkEndpoint refuses an announced endpoint that is less protected than the
// issuer: secrets and codes would travel in the clear.
func (p *Provider) checkEndpoint(name, address string) error {
	required := name == "authorization_endpoint" || name == "token_endpoint" || name == "jwks_uri"
	if address == "" && !required {
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

// signing returns the algorithms that we and the provider both take.
func (m *metadata) signing() []string {
	if len(m.IDTokenSigning) == 0 {
		return []string{oidc.RS256}
	}
	return slices.DeleteFunc(signingAlgorithms(), func(alg string) bool {
		return !slices.Contains(m.IDTokenSigning, alg)
	})
}
