package config

import (
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	scopeForm  = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]+$`) // RFC 6749, section 3.3
	tenantForm = regexp.MustCompile(`^(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	orgForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	teamForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9._-]+$`)
)

func (l *loader) checkProviders() {
	if len(l.cfg.Providers) == 0 {
		l.fail("providers", "names no provider to sign in with", "add one with id, type, issuer, client_id and client_secret_file")
	}
	first := map[string]bool{}
	for i, p := range l.cfg.Providers {
		path := fmt.Sprintf("providers[%d]", i)
		if !providerID.MatchString(p.ID) {
			l.fail(path+".id", quote(p.ID)+" is not an id", idRemedy)
		} else if first[p.ID] {
			l.fail(path+".id", quote(p.ID)+" is the id of another provider", "give each provider an id of its own")
		}
		first[p.ID] = true
		l.checkProvider(path, p)
	}
	l.checkIssuers()
	l.checkGroupNames()
	l.checkWorld()
}

func (l *loader) checkProvider(path string, p Provider) {
	if p.Type == "" {
		l.fail(path+".type", "is required", "add type: oidc, or google, github, entra and so on")
	}
	if p.ClientID == "" {
		l.fail(path+".client_id", "is required", "add the client id that the provider gave")
	}
	if p.GroupsClaim == "" {
		l.fail(path+".groups_claim", "is empty", "remove it for the default, or name a claim")
	}
	if l.ok(path + ".type") {
		l.checkTypes(path, p.Type, l.root.child("providers").elem)
	}
	l.checkScopes(path, p)
	l.warnUnrefreshed(path, p)
	l.checkIssuer(path, p)
	l.checkClientAuth(path, p)
	l.checkAddresses(path, p)
	switch p.Type {
	case "google":
		l.checkGoogle(path, p)
	case "github":
		l.checkGitHub(path, p)
	case "entra":
		l.checkEntra(path, p)
	}
	// Where the page with the form is https, Chrome and Safari stop at a page of
	// their own that asks whether to send it to plain http (mixed forms).
	if u := l.cfg.PublicURL; p.ResponseMode == "form_post" && l.ok("public_url") && u.Scheme != "https" && !loopback(u.Hostname()) {
		l.fail(path+".response_mode", "is form_post, and browsers warn people of a form that goes from the provider's https page to plain http", "use query, or an https public_url")
	}
}

// checkTypes finds the settings below path that the provider's type does not
// have. They would have no effect, and may be what somebody relies on.
func (l *loader) checkTypes(path, kind string, group *field) {
	for _, f := range group.fields {
		name := join(path, f.name)
		if f.types == nil || slices.Contains(f.types, kind) {
			if f.kind == kindGroup {
				l.checkTypes(name, kind, f)
			}
			continue
		}
		if l.isSet(name) {
			l.fail(name, "has no effect with type "+kind, "remove it; it belongs to "+strings.Join(f.types, ", "))
		}
	}
}

// isSet reports whether the setting at path, or one below it, was given.
func (l *loader) isSet(path string) bool {
	for set := range l.origins {
		if set == path || strings.HasPrefix(set, path+".") {
			return true
		}
	}
	return false
}

func (l *loader) checkScopes(path string, p Provider) {
	if p.Type != "github" && p.Type != "oauth2" && l.isSet(path+".scopes") && !slices.Contains(p.Scopes, "openid") {
		l.fail(path+".scopes", "must contain openid", "add openid; without it the provider sends no ID token")
	}
	for i, scope := range p.Scopes {
		if scope != "" && !scopeForm.MatchString(scope) {
			l.fail(fmt.Sprintf("%s.scopes[%d]", path, i), quote(scope)+" is not a scope", "write each scope as an entry of its own")
		}
	}
}

// warnUnrefreshed tells what is lost with a provider that gives a refresh token
// only if asked for it. Of type oidc some give it anyhow.
func (l *loader) warnUnrefreshed(path string, p Provider) {
	if !slices.Contains([]string{"google", "entra", "okta", "auth0"}, p.Type) || slices.Contains(p.Scopes, "offline_access") {
		return
	}
	const remedy = "add offline_access to scopes, beside openid, email and profile"
	if l.cfg.Session.ValidateInterval > 0 {
		l.warnings = append(l.warnings, Warning{path + ".scopes", "bring no refresh token, so that session.validate_interval has no effect", remedy})
	}
	if kind := l.cfg.Identity.Authorization; kind == "access_token" || kind == "id_token" {
		l.warnings = append(l.warnings, Warning{path + ".scopes", "bring no refresh token, so that applications get no " + kind + " any more once the first has ended", remedy})
	}
}

// checkIssuer judges what stands for the provider.
func (l *loader) checkIssuer(path string, p Provider) {
	const example = "https://id.example.com"
	known := slices.Contains([]string{"google", "gitlab", "github", "entra"}, p.Type)
	if p.Issuer == "" && !known {
		l.fail(path+".issuer", "is required", "add the provider's issuer address, such as "+example)
	}
	for name, address := range map[string]string{".issuer": p.Issuer, ".base_url": p.BaseURL} { // no type has both
		if address == "" {
			continue
		}
		if flaw := addressFlaw(address, example); flaw != nil {
			l.fail(path+name, flaw.message, flaw.remedy)
		} else if strings.Contains(address, "?") {
			l.fail(path+name, "holds a query or a fragment", "remove what follows the path")
		}
	}
}

// addressFlaw judges an address of a provider: https, or http on loopback.
func addressFlaw(address, example string) *flaw {
	u, err := url.Parse(address)
	if err != nil {
		return newFlaw("is not a URL", "write an address such as "+example)
	}
	plain := *u
	plain.RawQuery, plain.ForceQuery = "", false // some endpoints have one
	if flaw := webFlaw(&plain, example); flaw != nil {
		return flaw
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return newFlaw("is plain http, so that everybody on the way can sign in as anybody", "use https")
	}
	return nil
}

// checkAddresses judges the addresses of endpoints.
func (l *loader) checkAddresses(path string, p Provider) {
	for _, setting := range []struct{ name, address string }{{".authorize_url", p.AuthorizeURL}, {".token_url", p.TokenURL}, {".userinfo_url", p.UserinfoURL}} {
		if setting.address == "" && p.Type == "oauth2" {
			l.fail(path+setting.name, "is required", "add it; the provider's documentation has it")
		}
		l.checkAddress(path+setting.name, setting.address)
	}
	endpoints := l.root.child("providers").elem.child("endpoints")
	values := reflect.ValueOf(p.Endpoints)
	for _, f := range endpoints.fields {
		if f.name != "metadata_url" { // part of the machine
			l.checkAddress(path+".endpoints."+f.name, values.Field(f.index).String())
		}
	}
}

func (l *loader) checkAddress(path, address string) {
	if address == "" {
		return
	}
	if flaw := addressFlaw(address, "https://id.example.com/token"); flaw != nil {
		l.fail(path, flaw.message, flaw.remedy)
	}
}

// checkClientAuth judges how the client proves itself: in one way.
func (l *loader) checkClientAuth(path string, p Provider) {
	secret := p.ClientSecret != "" || p.ClientSecretFile != ""
	switch {
	case p.PrivateKeyFile != "" && secret:
		l.fail(path+".private_key_file", "is given, and a client secret too", "remove one of the two")
	case p.ClientCertFile != "" && (secret || p.PrivateKeyFile != ""):
		l.fail(path+".client_cert_file", "is given, and a client secret or a private key too", "remove one of the two")
	}
	switch {
	case p.ClientCertFile != "" && p.ClientKeyFile == "":
		l.fail(path+".client_key_file", "is missing beside client_cert_file", "set both, or neither")
	case p.ClientKeyFile != "" && p.ClientCertFile == "":
		l.fail(path+".client_cert_file", "is missing beside client_key_file", "set both, or neither")
	}
	for _, name := range []string{".private_key_id", ".assertion_audience"} {
		if l.isSet(path+name) && p.PrivateKeyFile == "" {
			l.fail(path+name, "has no effect without private_key_file", "set private_key_file, or remove it")
		}
	}
	if p.ClientAuth != "" && !secret {
		l.fail(path+".client_auth", "has no effect without a client secret", "set client_secret_file, or remove it")
	}
}

func (l *loader) checkGoogle(path string, p Provider) {
	for i, domain := range p.HostedDomains {
		if domain != "" && !validHost(domain) {
			l.fail(fmt.Sprintf("%s.hosted_domains[%d]", path, i), quote(domain)+" is not a domain", "write it like example.com; without the setting every Google account counts")
		}
	}
	g := p.Groups
	if g == nil {
		return
	}
	path += ".groups"
	if g.AdminEmail != "" && !validEmail(g.AdminEmail) {
		l.fail(path+".admin_email", quote(g.AdminEmail)+" is not an address", "write it like admin@example.com")
	}
	if g.API == "admin" && g.AdminEmail == "" {
		l.fail(path+".admin_email", "is required for the Admin SDK", "add the administrator for whom the service account acts, or use api: cloud_identity")
	}
	if g.API == "admin" && g.ServiceAccountFile == "" {
		l.fail(path+".service_account_file", "is required for the Admin SDK", "add the key of the service account, or use api: cloud_identity")
	}
	if g.AdminEmail != "" && g.API != "admin" && g.ServiceAccountFile == "" {
		l.fail(path+".admin_email", "has no effect without service_account_file", "remove it, or add the key of the service account")
	}
	switch {
	case g.Cache == 0:
		l.fail(path+".cache", "is 0, so that each sign-in would ask Google, whose quota is small", "write a duration such as 5m")
	case g.Cache > 24*time.Hour:
		l.fail(path+".cache", "is "+hours(g.Cache)+", so that whoever leaves a group keeps what it gives for longer than a day", "write 24h or less")
	}
}

func (l *loader) checkGitHub(path string, p Provider) {
	for i, org := range p.Orgs {
		if org != "" && !orgForm.MatchString(org) {
			l.fail(fmt.Sprintf("%s.orgs[%d]", path, i), quote(org)+" is not an organization", "write its name as in its address, such as acme")
		}
	}
	for i, team := range p.Teams {
		if team != "" && !teamForm.MatchString(team) {
			l.fail(fmt.Sprintf("%s.teams[%d]", path, i), quote(team)+" is not a team", "write the organization and the team's name in its address, such as acme/sre")
		}
	}
}

func (l *loader) checkEntra(path string, p Provider) {
	several := p.Tenant == "common" || p.Tenant == "organizations"
	switch {
	case p.Tenant == "":
		l.fail(path+".tenant", "is required", "add the directory's id, or organizations with allowed_tenants")
	case !several && p.Tenant != "consumers" && !tenantForm.MatchString(p.Tenant):
		l.fail(path+".tenant", quote(p.Tenant)+" is not the id of a directory", "write the id, 32 digits in five groups, or organizations, common or consumers")
	case !several && len(p.AllowedTenants) > 0:
		l.fail(path+".allowed_tenants", "has no effect with a tenant that is one directory", "remove it, or write tenant: organizations")
	}
	if u, err := url.Parse(p.BaseURL); err == nil && p.BaseURL != "" && plainHost(u) != "login.microsoftonline.com" && p.Endpoints.APIURL == "" {
		l.fail(path+".endpoints.api_url", "is required beside base_url, because each cloud has a Microsoft Graph of its own, which tells the groups that are too many for a token", "add that cloud's, such as https://graph.microsoft.us/v1.0")
	}
	for i, tenant := range p.AllowedTenants {
		if tenant != "" && !tenantForm.MatchString(tenant) {
			l.fail(fmt.Sprintf("%s.allowed_tenants[%d]", path, i), quote(tenant)+" is not the id of a directory", "write the id, 32 digits in five groups")
		}
	}
}
