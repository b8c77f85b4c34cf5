package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

// The kinds of providers, for [Config.Type].
const (
	// OIDC is any OpenID Connect provider.
	OIDC = "oidc"
	// Google is Google, with hosted domains and Workspace groups.
	Google = "google"
	// GitHub is github.com or a GitHub Enterprise Server.
	GitHub = "github"
	// Entra is Microsoft Entra ID, one tenant or several.
	Entra = "entra"
	// GitLab is gitlab.com or a GitLab of one's own.
	GitLab = "gitlab"
	// Keycloak is a realm of Keycloak.
	Keycloak = "keycloak"
	// Okta is an authorization server of Okta.
	Okta = "okta"
	// Auth0 is a tenant of Auth0.
	Auth0 = "auth0"
	// OAuth2 is an OAuth 2.0 provider that has no ID tokens, and a userinfo
	// endpoint instead.
	OAuth2 = "oauth2"
)

// ErrNotAllowed: the person is known, but is not in the domains, organizations,
// teams or tenants that may sign in with this provider.
var ErrNotAllowed = errors.New("oauth: this account may not sign in here")

// A kind is what differs between the kinds of providers. The rest is
// [Provider]'s: state, PKCE, the code, client authentication.
type kind interface {
	// describe returns where the provider's endpoints are. Its failures are
	// taken for passing ones. ctx has the client for go-oidc.
	describe(ctx context.Context) (*endpoint, error)

	// ask adds to the authorization request q what this kind takes.
	ask(q url.Values, login Login, ask Prompts)

	// issues reports whether an iss parameter (RFC 9207) is this provider's.
	issues(iss string) bool

	// identify returns whom the answer of the token endpoint is about, if it
	// proves that and the person may sign in. It need not check the values for
	// control characters.
	identify(ctx context.Context, e *endpoint, g *grant, want expected) (*Identity, error)
}

// expected is what the answer of the token endpoint must fit.
type expected struct {
	// nonce is the login's, for an answer to a code.
	nonce string
	// was is who had signed in, for an answer to a refresh token. There is no
	// nonce then, and need not be an ID token (OpenID Connect Core 1.0, section
	// 12.2).
	was *Identity
}

// same refuses a person other than the one who had signed in. Without such a
// one it takes anybody.
func (w expected) same(issuer, subject string) error {
	if w.was != nil && (issuer != w.was.Issuer || subject != w.was.Subject) {
		return fmt.Errorf("the refreshed tokens are %w", errAnotherPerson)
	}
	return nil
}

// errAnotherPerson says that what the provider answered is somebody else's.
var errAnotherPerson = errors.New("about another subject")

// setKind chooses the kind by the type and fills in what is usual for it.
func (p *Provider) setKind() error {
	c := &p.config
	c.BaseURL = strings.TrimSuffix(c.BaseURL, "/")
	switch c.Type {
	case GitHub:
		return p.setGitHub()
	case OAuth2:
		p.kind = &userinfoOnly{p}
		return nil
	case Google:
		return p.setGoogle()
	case Entra:
		return p.setEntra()
	case OIDC, GitLab, Keycloak, Okta, Auth0:
		return p.setOpenID()
	}
	return fmt.Errorf("there is no type %q", c.Type)
}

// setOpenID is for providers that need nothing but other defaults.
func (p *Provider) setOpenID() error {
	c := &p.config
	scopes := []string{oidc.ScopeOpenID, "email", "profile"}
	switch c.Type {
	case GitLab:
		if c.Issuer == "" {
			c.Issuer = "https://gitlab.com"
		}
	case Okta:
		// The organization's own authorization server has a scope for groups;
		// at the custom ones, below /oauth2/, an unknown scope is an error.
		if !strings.Contains(c.Issuer, "/oauth2/") {
			scopes = append(scopes, "groups")
		}
	case Auth0:
		// Its issuer ends in a slash, which the dashboard does not show.
		if c.Issuer != "" && !strings.HasSuffix(c.Issuer, "/") {
			c.Issuer += "/"
		}
	}
	if err := c.setScopes(scopes); err != nil {
		return err
	}
	p.kind = &openID{p: p, base: c.Issuer, issuer: c.Issuer}
	return nil
}

// setScopes fills in the usual scopes of a type with ID tokens.
func (c *Config) setScopes(usual []string) error {
	if c.Scopes == nil {
		c.Scopes = usual
	}
	if !slices.Contains(c.Scopes, oidc.ScopeOpenID) {
		return fmt.Errorf("the scopes must include %q", oidc.ScopeOpenID)
	}
	return nil
}
