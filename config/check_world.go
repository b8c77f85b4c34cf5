package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// personalTenant is Entra's directory of personal Microsoft accounts, which
// anybody can have.
const personalTenant = "9188040d-6c67-4c5b-b112-36a304b66dad"

// checkWorld refuses a configuration that lets in anybody with an account at a
// public provider, unless it says that this is meant. Each provider is judged
// by itself: one that is restricted does not restrict another.
func (l *loader) checkWorld() {
	in := l.cfg.SignIn
	// Groups alone do not restrict one of several providers at which anybody
	// can make groups, but then checkGroupNames has refused them.
	if len(in.AllowedEmails)+len(in.AllowedDomains)+len(in.AllowedGroups) > 0 {
		return
	}
	for i, p := range l.cfg.Providers {
		if !admitsTheWorld(p) || !l.ok(fmt.Sprintf("providers[%d]", i)) {
			continue
		}
		remedy := "set sign_in.allowed_domains or sign_in.allowed_emails"
		if own := restriction(p); own != "" {
			remedy += ", or the provider's " + own
		}
		l.fail("sign_in", fmt.Sprintf("provider %s gives an account to anybody, and nobody is named who may sign in", p.ID),
			remedy+`, or sign_in.allowed_domains: ["*"] if everybody is meant`)
	}
}

// checkGroupNames refuses groups by name where a stranger can make a group of
// that name. The groups of all providers are one namespace: whoever founds the
// organization "staff" at github.com would be in the "staff" of the others. It
// also holds where domains are named beside the groups, because somebody inside
// can found an organization as well.
func (l *loader) checkGroupNames() {
	if len(l.cfg.Providers) < 2 {
		return
	}
	var ids, ways []string
	restrictable := true
	for i, p := range l.cfg.Providers {
		if !anybodyMakesGroups(p) || !l.ok(fmt.Sprintf("providers[%d]", i)) {
			continue
		}
		own := restriction(p)
		restrictable = restrictable && own != ""
		ids, ways = append(ids, p.ID), append(ways, p.ID+" by "+own)
	}
	if len(ids) == 0 {
		return
	}
	remedy := `name domains or e-mail addresses instead, or in a rule the provider, too, as in when: user.provider == "corp"`
	if restrictable {
		remedy = "restrict " + strings.Join(ways, " and ") + ", or " + remedy
	}
	for _, setting := range l.groupSettings() {
		l.fail(setting, "means a group of that name at any provider, and anybody can make one at "+strings.Join(ids, " and "), remedy)
	}
}

// groupSettings returns the paths of the settings that name groups.
func (l *loader) groupSettings() []string {
	var paths []string
	if len(l.cfg.SignIn.AllowedGroups) > 0 {
		paths = append(paths, "sign_in.allowed_groups")
	}
	roles := l.cfg.Identity.Roles
	for _, role := range slices.Sorted(maps.Keys(roles)) {
		if len(roles[role].Groups) > 0 {
			paths = append(paths, "identity.roles."+role+".groups")
		}
	}
	l.eachRequire(func(path string, q *Require, atProvider bool) {
		if atProvider {
			return // the author knows whose groups are meant
		}
		if len(q.Groups) > 0 {
			paths = append(paths, path+".groups")
		}
		if readsGroups.MatchString(q.When) {
			paths = append(paths, path+".when")
		}
	})
	return paths
}

var (
	readsGroups   = regexp.MustCompile(`\buser\s*\.\s*groups\b`)
	readsProvider = regexp.MustCompile(`\buser\s*\.\s*provider\b`)
)

// eachRequire visits the requirements of all rules, nested ones too, and says of each
// whether it is met only together with a condition on the provider.
func (l *loader) eachRequire(visit func(path string, q *Require, atProvider bool)) {
	var walk func(path string, q *Require, atProvider bool)
	walk = func(path string, q *Require, atProvider bool) {
		named := func(q Require) bool { return readsProvider.MatchString(q.When) }
		atProvider = atProvider || named(*q) || slices.ContainsFunc(q.All, named)
		visit(path, q, atProvider)
		for i := range q.All {
			walk(fmt.Sprintf("%s.all[%d]", path, i), &q.All[i], atProvider)
		}
		for i := range q.Any {
			walk(fmt.Sprintf("%s.any[%d]", path, i), &q.Any[i], atProvider)
		}
	}
	for i, r := range l.cfg.Rules {
		if r.Require != nil {
			walk(fmt.Sprintf("rules[%d].require", i), r.Require, false)
		}
	}
}

// admitsTheWorld reports whether anybody can sign in with p. An ID token of
// Google or Entra proves the domain or tenant, so with these two it does not
// matter to which addresses people are sent.
func admitsTheWorld(p Provider) bool {
	switch p.Type {
	case "google":
		return len(p.HostedDomains) == 0
	case "github":
		return len(p.Orgs)+len(p.Teams) == 0 && (p.BaseURL == "" || anyAddress(p, givesAccounts))
	case "entra":
		several := p.Tenant == "common" || p.Tenant == "organizations"
		return isPersonal(p.Tenant) || several && len(p.AllowedTenants) == 0 || slices.ContainsFunc(p.AllowedTenants, isPersonal)
	case "gitlab":
		return p.Issuer == "" || anyAddress(p, givesAccounts)
	}
	return anyAddress(p, givesAccounts)
}

// anybodyMakesGroups reports whether anybody who can sign in with p can be in a
// group of any name. Google's groups are addresses below a domain.
func anybodyMakesGroups(p Provider) bool {
	switch p.Type {
	case "google":
		return false
	case "github", "gitlab", "entra":
		return admitsTheWorld(p)
	}
	return anyAddress(p, givesGroups)
}

// restriction names the settings of p that keep strangers out, "" when its type
// has none.
func restriction(p Provider) string {
	switch {
	case p.Type == "google":
		return "hosted_domains"
	case p.Type == "github":
		return "orgs or teams"
	case p.Type != "entra" || isPersonal(p.Tenant):
		return ""
	case slices.ContainsFunc(p.AllowedTenants, isPersonal):
		return "allowed_tenants, without the one of personal accounts"
	}
	return "allowed_tenants"
}

func isPersonal(tenant string) bool {
	return strings.EqualFold(tenant, "consumers") || strings.EqualFold(tenant, personalTenant)
}

// anyAddress reports whether one of the addresses that decide who the users of
// p are is as asked.
func anyAddress(p Provider, is func(*url.URL) bool) bool {
	e := p.Endpoints
	return slices.ContainsFunc([]string{
		p.Issuer, p.BaseURL, p.AuthorizeURL, p.TokenURL, p.UserinfoURL,
		e.AuthorizeURL, e.TokenURL, e.UserinfoURL, e.APIURL,
	}, func(address string) bool {
		u, err := url.Parse(address)
		return err == nil && is(u) // what cannot be read is refused elsewhere
	})
}

// givesAccounts reports whether u belongs to a provider at which anybody can
// have an account.
func givesAccounts(u *url.URL) bool {
	switch plainHost(u) {
	case "accounts.google.com", "oauth2.googleapis.com", "openidconnect.googleapis.com", "googleapis.com":
		return true
	}
	return givesGroups(u)
}

// givesGroups reports whether u belongs to a provider at which anybody can have
// an account and make groups.
func givesGroups(u *url.URL) bool {
	switch plainHost(u) {
	case "github.com", "api.github.com", "gitlab.com", "login.live.com":
		return true
	case "login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net":
		return !ofOneTenant(u)
	}
	return false
}

// ofOneTenant reports whether an address of Entra is that of one directory, by
// its id. Names are not told apart: some stand for personal accounts. Dots are
// resolved as browsers do (WHATWG URL, section 4.4).
func ofOneTenant(u *url.URL) bool {
	tenant, _, _ := strings.Cut(path.Clean("/" + u.Path)[1:], "/")
	return tenantForm.MatchString(tenant) && !isPersonal(tenant)
}

// plainHost returns the host of u in the one spelling that is compared: small
// letters, no port, no dot at the end, no www.
func plainHost(u *url.URL) string {
	return strings.TrimPrefix(strings.TrimRight(strings.ToLower(u.Hostname()), "."), "www.")
}

// checkIssuers refuses an OAuth 2.0 provider under the issuer of another one.
// User ids are made of the issuer and what the provider calls the user, and
// nothing but this setting says who issues a userinfo answer. With ID tokens,
// the issuer itself proves that two clients have the same users.
func (l *loader) checkIssuers() {
	for i, p := range l.cfg.Providers {
		if p.Type != "oauth2" || p.Issuer == "" {
			continue
		}
		for j, other := range l.cfg.Providers {
			later := other.Type == "oauth2" && j > i // reported there
			if i == j || later || !slices.Contains(issuers(other, p), plainIssuer(p.Issuer)) {
				continue
			}
			l.fail(fmt.Sprintf("providers[%d].issuer", i), "is the issuer of "+other.ID+" too, so that a user of one could have the id of a user of the other", "write an address of its own")
		}
	}
}

// issuers returns the issuers of p, defaults included, as plainIssuer spells
// them. For Entra with several tenants it is that of the tenant in like.
func issuers(p, like Provider) []string {
	switch p.Type {
	case "google": // sends this one whatever the discovery address is
		return []string{plainIssuer(cmp.Or(p.Issuer, "https://accounts.google.com")), "https://accounts.google.com"}
	case "github":
		return []string{plainIssuer(cmp.Or(p.BaseURL, "https://github.com"))}
	case "gitlab":
		return []string{plainIssuer(cmp.Or(p.Issuer, "https://gitlab.com"))}
	case "entra":
		base := plainIssuer(cmp.Or(p.BaseURL, "https://login.microsoftonline.com"))
		tenant := strings.ToLower(p.Tenant)
		switch tenant {
		case "consumers":
			tenant = personalTenant
		case "common", "organizations":
			rest := strings.TrimPrefix(plainIssuer(like.Issuer), base+"/")
			tenant, _, _ = strings.Cut(rest, "/")
		}
		return []string{base + "/" + tenant + "/v2.0"}
	}
	return []string{plainIssuer(p.Issuer)}
}

// plainIssuer spells an issuer as checkIssuers compares it. What differs only
// in case, a usual port or a slash at the end is too alike to tell apart.
func plainIssuer(issuer string) string {
	u, err := url.Parse(strings.ToLower(issuer))
	if err != nil {
		return issuer // refused elsewhere
	}
	if u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" {
		u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
	}
	return strings.TrimRight(u.String(), "/")
}
