package oauth

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

// entra is Microsoft Entra ID. What is special: one endpoint may stand for many
// issuers, an address is not verified by being there, and a long list of groups
// is left out of the token.
type entra struct {
	openID
	graph string // base of Microsoft Graph
}

// tenantPlace stands for the tenant in the issuer of an endpoint for several.
const tenantPlace = "{tenantid}"

// personalTenant is where personal Microsoft accounts are.
const personalTenant = "9188040d-6c67-4c5b-b112-36a304b66dad"

var tenantID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func (p *Provider) setEntra() error {
	c := &p.config
	base := cmp.Or(c.BaseURL, "https://login.microsoftonline.com")
	tenant := strings.ToLower(c.Tenant)
	if tenant == "consumers" {
		tenant = personalTenant
	}
	o := openID{p: p, base: base + "/" + tenant + "/v2.0", issuer: base + "/" + tenant + "/v2.0"}
	switch {
	case tenant == "common" || tenant == "organizations":
		o.issuer, o.severalIssuers = base+"/"+tenantPlace+"/v2.0", true
	case !tenantID.MatchString(tenant):
		return errors.New("the tenant is neither an id nor common, organizations or consumers")
	case len(c.AllowedTenants) > 0:
		return errors.New("allowed tenants have no use with a single tenant")
	}
	for _, id := range c.AllowedTenants {
		if !tenantID.MatchString(strings.ToLower(id)) {
			return errors.New("an allowed tenant is not an id")
		}
	}
	c.Issuer = o.issuer
	// User.Read makes the access token good for asking Graph.
	if err := c.setScopes([]string{oidc.ScopeOpenID, "email", "profile", "User.Read"}); err != nil {
		return err
	}
	p.kind = &entra{openID: o, graph: strings.TrimSuffix(cmp.Or(c.Endpoints.APIURL, "https://graph.microsoft.com/v1.0"), "/")}
	return nil
}

// issues takes any tenant's issuer where there are several: which one it must
// be, the ID token says.
func (a *entra) issues(iss string) bool {
	if !a.severalIssuers {
		return iss == a.issuer
	}
	return a.tenantOf(iss) != ""
}

// tenantOf returns the tenant in an issuer that fits the template, else "".
func (a *entra) tenantOf(iss string) string {
	before, after, _ := strings.Cut(a.issuer, tenantPlace)
	tenant, fits := strings.CutPrefix(iss, before)
	tenant, fits2 := strings.CutSuffix(tenant, after)
	if !fits || !fits2 || !tenantID.MatchString(tenant) {
		return ""
	}
	return tenant
}

// admits reports whether the people of iss may sign in: a tenant that was taken
// off the list is not ours any more, and neither are its sessions.
func (a *entra) admits(iss string) bool {
	allowed := a.p.config.AllowedTenants
	return a.issues(iss) && (len(allowed) == 0 || containsFold(allowed, a.tenantOf(iss)))
}

func (a *entra) identify(ctx context.Context, e *endpoint, g *grant, want expected) (*Identity, error) {
	if g.id == "" && want.was != nil {
		known := *want.was // openid is always asked for, so this is rare
		return &known, nil
	}
	id, c, err := a.p.verify(ctx, e, g, want)
	if err != nil {
		return nil, err
	}
	if err := a.checkTenant(c); err != nil {
		return nil, err
	}
	id.EmailVerified = c.vouchesForEmail()
	if a.leftOut(c) {
		if id.Groups, err = a.groups(ctx, g.access); err != nil {
			return nil, err
		}
	}
	return id, a.p.addAccount(ctx, a.graph+"/me", g.access, id)
}

// leftOut reports whether the groups were too many for the token. Where another
// claim counts, such as roles, they do not matter.
func (a *entra) leftOut(c *claims) bool {
	claim := a.p.config.GroupsClaim
	_, distributed := c.ClaimNames[claim]
	return distributed || claim == "groups" && bool(c.HasGroups)
}

// checkTenant compares the token's issuer with its tenant: with several tenants
// go-oidc has not looked at it, and any of them can have a token made.
func (a *entra) checkTenant(c *claims) error {
	if c.Issuer != strings.Replace(a.issuer, tenantPlace, c.TID, 1) || !tenantID.MatchString(c.TID) {
		return fmt.Errorf("%w: iss and tid do not fit the tenant", ErrIDToken)
	}
	allowed := a.p.config.AllowedTenants
	if len(allowed) > 0 && !containsFold(allowed, c.TID) {
		return fmt.Errorf("%w: the tenant %s is not among allowed_tenants", ErrNotAllowed, c.TID)
	}
	return nil
}

// vouchesForEmail reports whether the address is more than what some
// administrator somewhere wrote into a field: Entra's email claim is not
// verified, unless an optional claim says so.
func (c *claims) vouchesForEmail() bool {
	if c.Email == "" {
		return false
	}
	return bool(c.DomainVerified) || containsFold(slices.Concat(c.PrimaryEmails, c.SecondaryEmails), c.Email)
}

// groups asks Graph for the ids of the person's groups, nested ones included.
// It is what the token would hold, if they were not too many (more than 200).
func (a *entra) groups(ctx context.Context, token string) ([]string, error) {
	body := bytes.NewReader([]byte(`{"securityEnabledOnly":false}`))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.graph+"/me/getMemberGroups", body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, withoutURL(err))
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	var answer struct {
		Value texts `json:"value"`
	}
	_, err = callJSON(a.p.client, req, &answer)
	if refused, ok := errors.AsType[*statusError](err); ok {
		return nil, fmt.Errorf("%w: the token leaves out the groups because they are too many, and Microsoft Graph refuses to tell them with status %d; "+
			"grant the application the delegated permission GroupMember.Read.All, or have the token hold only groups that are assigned to the application", ErrClaims, refused.status)
	}
	if err != nil {
		return nil, fmt.Errorf("groups from Microsoft Graph: %w", err)
	}
	if answer.Value == nil {
		return nil, fmt.Errorf("%w: Microsoft Graph answered without a list of groups", ErrClaims)
	}
	return answer.Value, nil
}
