package oauth

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

// google is Google: an OpenID Connect provider with hosted domains, with an idea
// of its own of offline access, and without a groups claim.
type google struct {
	openID
	groups *googleGroups // nil: none are read
}

func (p *Provider) setGoogle() error {
	c := &p.config
	if c.Issuer == "" {
		c.Issuer = "https://accounts.google.com"
	}
	if err := c.setScopes([]string{oidc.ScopeOpenID, "email", "profile"}); err != nil {
		return err
	}
	g := &google{openID: openID{p: p, base: c.Issuer, issuer: c.Issuer}}
	if c.Groups != nil {
		var err error
		if g.groups, err = newGoogleGroups(p); err != nil {
			return err
		}
	}
	p.kind = g
	return nil
}

// ask asks for the hosted domain, which is a hint only: whoever signs in can
// remove it from the address.
func (g *google) ask(q url.Values, login Login, ask Prompts) {
	if ask.Prompt == "login" { // not among Google's
		ask.Prompt = "select_account"
	}
	ask.ACRValues, ask.MaxAge = "", 0 // nor these
	g.openID.ask(q, login, ask)
	switch domains := g.p.config.HostedDomains; len(domains) {
	case 0:
	case 1:
		q.Set("hd", domains[0])
	default:
		q.Set("hd", "*")
	}
	// Google gives refresh tokens by a parameter, and knows no such scope.
	if scopes := g.p.config.Scopes; slices.Contains(scopes, oidc.ScopeOfflineAccess) {
		q.Set("access_type", "offline")
		q.Set("scope", strings.Join(slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == oidc.ScopeOfflineAccess }), " "))
	}
}

func (g *google) identify(ctx context.Context, e *endpoint, tokens *grant, want expected) (*Identity, error) {
	if tokens.id == "" && want.was != nil {
		return g.known(ctx, want.was)
	}
	id, c, err := g.p.verify(ctx, e, tokens, want)
	if err != nil {
		return nil, err
	}
	if err := g.checkDomain(c.HD); err != nil {
		return nil, err
	}
	if err := g.p.addUserinfo(ctx, e, tokens, id, false); err != nil {
		return nil, err
	}
	id.EmailVerified = id.EmailVerified && (c.HD != "" || isGmail(id.Email))
	// The groups of an account without a Workspace are nobody's to tell.
	if g.groups == nil || c.HD == "" {
		id.Groups = nil
		return id, nil
	}
	id.Groups, err = g.groups.of(ctx, id)
	return id, err
}

// isGmail reports whether Google itself gives out the address. Of any other it
// knows only that somebody could once read its mail, unless a Workspace vouches
// for it: whoever owns the address by now may be somebody else.
func isGmail(address string) bool {
	_, domain, _ := strings.Cut(address, "@")
	return containsFold([]string{"gmail.com", "googlemail.com"}, domain)
}

// known is who was signed in, with the groups of now.
func (g *google) known(ctx context.Context, was *Identity) (*Identity, error) {
	id := *was
	if g.groups == nil || id.Groups == nil {
		return &id, nil
	}
	var err error
	id.Groups, err = g.groups.of(ctx, &id)
	return &id, err
}

// checkDomain refuses members of other domains. Only the claim counts: an
// address of the domain does not prove that its Workspace vouches for the
// person.
func (g *google) checkDomain(hd string) error {
	allowed := g.p.config.HostedDomains
	switch {
	case len(allowed) == 0:
		return nil
	case hd == "":
		return fmt.Errorf("%w: the account belongs to no Google Workspace (hosted_domains)", ErrNotAllowed)
	case !containsFold(allowed, hd):
		return fmt.Errorf("%w: the Google Workspace domain %q is not among hosted_domains", ErrNotAllowed, hd)
	}
	return nil
}

// containsFold compares names of domains, organizations and teams, which differ
// in more than case.
func containsFold(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, name) })
}
