package config

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var (
	claimForm  = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]{1,128}$`)
	sourceForm = regexp.MustCompile(`\{\{([^{}]*)\}\}`)
	cookieForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // RFC 6265, section 4.1.1
)

// userSources are what headers can be filled from, besides claims.
func userSources() []string {
	return []string{
		"user.id", "user.subject", "user.issuer", "user.provider", "user.email", "user.name", "user.image",
		"user.groups", "user.roles", "user.role", "session.id",
	}
}

// ReservedClaims are the names, in lower case, that no claim can be mapped to:
// tokens have claims of these names anyway.
func ReservedClaims() []string {
	return []string{
		"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "sid", "auth_time", "acr", "amr", "email", "email_verified", "name",
		"role", "roles", "groups", "provider", "provider_iss", "provider_sub", "user_role", "ver",
	}
}

// sessionMembers are what GET /session tells of a user anyway.
func sessionMembers() []string {
	return []string{"id", "name", "email", "emailVerified", "image", "role", "roles", "groups"}
}

// documents are what claims can come from, and the types of providers that have
// them.
func documents() map[string][]string {
	return map[string][]string{
		"id_token": {"oidc", "google", "entra", "gitlab", "keycloak", "okta", "auth0"},
		"userinfo": {"oidc", "google", "gitlab", "keycloak", "okta", "auth0", "oauth2"},
		"provider": {"github", "gitlab", "entra"},
	}
}

// rowColumns are what claims can come from in the user's row in a database.
func rowColumns() []string { return []string{"user.name", "user.email", "user.image", "user.role"} }

// checkClaims judges the mapping of claims.
func (l *loader) checkClaims() {
	id := l.cfg.Identity
	for _, name := range slices.Sorted(maps.Keys(id.Claims)) {
		path := "identity.claims." + name
		switch {
		case !claimForm.MatchString(name):
			l.fail(path, quote(name)+" is not a name for a claim", "use letters, digits, _ and -, or a URL, 128 characters at most")
		case slices.Contains(ReservedClaims(), strings.ToLower(name)):
			l.fail(path, "is a claim that every token has, which cannot be mapped over", "choose another name, such as app_"+strings.ToLower(name))
		}
		l.checkClaimSource(path, id.Claims[name].From)
	}
	for i, name := range id.SessionClaims {
		path := fmt.Sprintf("identity.session_claims[%d]", i)
		if _, mapped := id.Claims[name]; !mapped && name != "" {
			l.fail(path, quote(name)+" is not one of identity.claims", "add it there, or remove it")
		} else if slices.Contains(sessionMembers(), name) {
			l.fail(path, "is what GET /session tells anyway", "map the claim to another name")
		}
	}
}

// checkClaimSource judges where a claim comes from.
func (l *loader) checkClaimSource(path, from string) {
	if !l.ok(path) || !l.ok(path+".from") || from == "" {
		return
	}
	document, rest, _ := strings.Cut(from, ".")
	types, known := documents()[document]
	switch {
	case document == "user" && l.cfg.Session.Store == "cookie":
		l.fail(path, "comes from the user's row in a database, and there is none", "set session.store, or use id_token, userinfo or provider")
	case document == "user":
		if !slices.Contains(rowColumns(), from) {
			l.fail(path, quote(from)+" is not one of what is read of the user's row", "use one of "+strings.Join(rowColumns(), ", "))
		}
	case !known:
		l.fail(path, quote(from)+" begins with no document", "begin with id_token., userinfo. or provider., as in id_token.department")
	case rest == "" || slices.Contains(strings.Split(rest, "."), "") && !strings.Contains(rest, "://"):
		l.fail(path, quote(from)+" names no claim", "write names with single dots in between, as in "+document+".org.department")
	case !slices.ContainsFunc(l.cfg.Providers, func(p Provider) bool { return slices.Contains(types, p.Type) }) && l.ok("providers"):
		l.fail(path, "comes from "+document+", which none of the providers has", "only "+strings.Join(types, ", ")+" have it")
	}
}

// checkClaimValues judges the values that claims must have.
func (l *loader) checkClaimValues(path string, claims map[string][]string) {
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if len(claims[name]) == 0 {
			l.fail(path+"."+name, "is an empty list", "name a value, or remove it")
		}
		l.checkMapped(path+"."+name, name)
	}
}

// isMapped says whether claim is the path of a mapped claim.
func (l *loader) isMapped(claim string) bool {
	for name := range l.cfg.Identity.Claims {
		if claim == name || strings.HasPrefix(claim, name+".") {
			return true
		}
	}
	return false
}

// warnUnmapped warns of claims that a requirement names and nobody ever has.
func (l *loader) warnUnmapped(path string, claims map[string][]string) {
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if !l.isMapped(name) {
			l.warnings = append(l.warnings, Warning{path + "." + name, "can never be met, because the claim is not one of identity.claims",
				"map it there, as in identity.claims: {" + name + ": id_token." + name + "}"})
		}
	}
}

// A claimUse is a setting that lets people in, or gives them a role, by a mapped
// claim.
type claimUse struct {
	setting, claim string
	atProvider     bool // only with a condition on the provider
}

func (l *loader) claimUses() []claimUse {
	var uses []claimUse
	names := slices.Sorted(maps.Keys(l.cfg.Identity.Claims))
	add := func(path string, claims map[string][]string, atProvider bool) {
		for _, claim := range slices.Sorted(maps.Keys(claims)) {
			for _, name := range names {
				if claim == name || strings.HasPrefix(claim, name+".") {
					uses = append(uses, claimUse{path + "." + claim, name, atProvider})
				}
			}
		}
	}
	for _, role := range slices.Sorted(maps.Keys(l.cfg.Identity.Roles)) {
		add("identity.roles."+role+".claims", l.cfg.Identity.Roles[role].Claims, false)
	}
	l.eachRequire(func(path string, q *Require, atProvider bool) {
		add(path+".claims", q.Claims, atProvider)
		for _, name := range names {
			if strings.Contains(q.When, "user.claims") && regexp.MustCompile(`\b`+regexp.QuoteMeta(name)+`\b`).MatchString(q.When) {
				uses = append(uses, claimUse{path + ".when", name, atProvider})
			}
		}
	})
	return uses
}

// addressForm is what a source of a claim ends with that is an address.
var addressForm = regexp.MustCompile(`(?i)(^|[./])(e?mail|email_?address|preferred_username|upn|unique_name|userPrincipalName)$`)

// warnClaimUses warns of rules and roles by what others than the author's own provider
// may say of a user, or the users themselves.
func (l *loader) warnClaimUses() {
	for _, use := range l.claimUses() {
		from := l.cfg.Identity.Claims[use.claim].From
		document, _, _ := strings.Cut(from, ".")
		if document != "user" && addressForm.MatchString(from) {
			l.warnings = append(l.warnings, Warning{use.setting, "goes by " + from + ", which need not be verified: at some providers users write it themselves",
				"use emails or domains, for which only verified addresses count"})
		}
		if strangers := l.strangersWith(document); len(strangers) > 0 && !use.atProvider {
			l.warnings = append(l.warnings, Warning{use.setting, "means that value of " + from + " at any provider, and anybody can have an account at " + strings.Join(strangers, " and "),
				`name the provider in the rule, too, as in when: user.provider == "corp", or restrict who may sign in there`})
		}
	}
}

// strangersWith returns the providers beside others at which anybody can have an
// account, and with it something in document.
func (l *loader) strangersWith(document string) []string {
	var ids []string
	for _, p := range l.cfg.Providers {
		if len(l.cfg.Providers) > 1 && admitsTheWorld(p) && slices.Contains(documents()[document], p.Type) {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// checkMapped judges the path of a mapped claim.
func (l *loader) checkMapped(path, claim string) {
	if l.isMapped(claim) {
		return
	}
	l.fail(path, quote(claim)+" is not one of identity.claims", "map it there, as in identity.claims: {"+claim+": id_token."+claim+"}")
}

// checkTemplate judges what a header is to hold: a source, or a text with
// sources in it.
func (l *loader) checkTemplate(path, text string) {
	if text == "" || !l.ok(path) {
		return
	}
	if !strings.Contains(text, "{{") {
		l.checkSource(path, text)
		return
	}
	for _, m := range sourceForm.FindAllStringSubmatch(text, -1) {
		l.checkSource(path, strings.TrimSpace(m[1]))
	}
	rest := sourceForm.ReplaceAllString(text, "")
	if strings.Contains(rest, "{{") || strings.Contains(rest, "}}") {
		l.fail(path, quote(text)+" has {{ or }} without the other", "write each source like {{ user.id }}")
	}
	if strings.ContainsFunc(rest, func(r rune) bool { return r > '~' }) || strings.TrimSpace(text) != text {
		l.fail(path, quote(text)+" is no value for a header", "use ASCII characters, and no space at either end")
	}
}

func (l *loader) checkSource(path, source string) {
	if claim, ok := strings.CutPrefix(source, "claims."); ok && claim != "" {
		l.checkMapped(path, claim)
		return
	}
	if !slices.Contains(userSources(), source) {
		flaw := enumFlaw(&field{enum: userSources()}, source)
		l.fail(path, flaw.message, flaw.remedy+", or claims.NAME")
	}
}

// checkUpstreamGets judges what an application gets besides the request.
func (l *loader) checkUpstreamGets(path string, up *Upstream) {
	spelled := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(up.Headers)) {
		at, folded := path+".headers."+name, foldHeader(name)
		switch {
		case !tokenForm.MatchString(name):
			l.fail(at, quote(name)+" is not a header name", "use letters, digits and dashes")
		case slices.Contains(hopByHop, folded):
			l.fail(at, quote(name)+" is not a header to set", "choose a name of its own; basic and cookies are for credentials")
		case spelled[folded]:
			l.fail(at, "is the same header as another one for some upstreams, which read -, _ and . alike", "remove one of the two")
		}
		spelled[folded] = true
		l.checkTemplate(at, up.Headers[name])
	}
	for _, name := range slices.Sorted(maps.Keys(up.Cookies)) {
		l.checkForeignCookie(path+".cookies."+name, name)
	}
	if b := up.Basic; b != nil {
		l.checkBasic(path+".basic", b)
	}
}

func (l *loader) checkBasic(path string, b *Basic) {
	switch {
	case b.Username == "":
		l.fail(path+".username", "is required", "add the name that the application expects")
	case strings.Contains(b.Username, "{{"):
		l.checkTemplate(path+".username", b.Username)
	case strings.Contains(b.Username, ":"):
		l.fail(path+".username", "holds a colon, which ends a name (RFC 7617)", "choose a name without one")
	}
	if b.Password == "" && l.ok(path+".password", path+".password_file") {
		l.fail(path+".password_file", "is required", "write the password to a file, and name it here")
	}
}

// checkForeignCookie judges the name of a cookie that is an application's.
func (l *loader) checkForeignCookie(path, name string) {
	switch own := strings.TrimPrefix(strings.TrimPrefix(name, "__Host-"), "__Secure-"); {
	case !cookieForm.MatchString(name):
		l.fail(path, quote(name)+" is not the name of a cookie", "use letters, digits, _ and -")
	case strings.HasPrefix(own, "authproxy_") || strings.HasPrefix(own, l.cfg.Cookie.Name):
		l.fail(path, quote(name)+" is the name of a cookie of authproxy's own", "name the application's")
	}
}

// checkSignOut judges what else ends at sign-out, and the paths that lead there.
func (l *loader) checkSignOut() {
	for i, c := range l.cfg.SignOut.ClearCookies {
		path := fmt.Sprintf("sign_out.clear_cookies[%d]", i)
		if c.Name != "" {
			l.checkForeignCookie(path+".name", c.Name)
		}
		if strings.ContainsAny(c.Path, ";, ") {
			l.fail(path+".path", quote(c.Path)+" is not the path of a cookie", "write it like /app")
		}
		l.checkPattern(path+".path", c.Path)
		if domain := strings.TrimPrefix(c.Domain, "."); domain != "" && !validHost(domain) {
			l.fail(path+".domain", quote(c.Domain)+" is not a domain", "write it like example.com")
		}
	}
	l.checkAliases()
}

// checkAliases judges the paths of the application at which authproxy answers.
func (l *loader) checkAliases() {
	for _, alias := range slices.Sorted(maps.Keys(l.cfg.PathAliases)) {
		path, action, r := "path_aliases."+alias, l.cfg.PathAliases[alias], l.cfg.Redirects
		if !strings.HasPrefix(alias, "/") || alias == "/" || strings.ContainsAny(alias, "*?#%;\\ ") || strings.Contains(alias, "//") || strings.HasSuffix(alias, "/") {
			l.fail(path, quote(alias)+" is not one plain path", "write it like /logout")
		} else if l.ok("prefix") && (alias == l.cfg.Prefix || strings.HasPrefix(alias, l.cfg.Prefix+"/")) {
			l.fail(path, "is below the prefix, where everything is authproxy's already", "name a path of the application")
		} else if leadsTo(r.AfterSignIn, alias) {
			l.failCircle(path, "redirects.after_sign_in")
		} else if action == "sign-out" && leadsTo(r.AfterSignOut, alias) {
			l.failCircle(path, "redirects.after_sign_out")
		}
	}
}

func (l *loader) failCircle(path, redirect string) {
	l.fail(path, "is where "+redirect+" leads, so that browsers would go round in circles", "set "+redirect+" to another page")
}

// leadsTo reports whether target, a path or an address of one of our hosts, is at
// path.
func leadsTo(target, path string) bool {
	u, err := url.Parse(target)
	return err == nil && u.Path == path // what cannot be read is refused elsewhere
}

// checkSignInNeeds wants a provider that can say of what kind and how fresh a
// sign-in is, where a rule depends on that. Otherwise nobody could ever get in.
func (l *loader) checkSignInNeeds(path string, q *Require) {
	for _, need := range []struct {
		name, session string
		given         bool
		mute          []string // types of providers; the ID tokens of Entra's v2.0 have no acr
	}{
		{"acr", "acr", len(q.ACR) > 0, []string{"github", "google", "oauth2", "entra"}},
		{"amr", "amr", len(q.AMR) > 0, []string{"github", "google", "oauth2"}},
		{"fresh", "auth_time", q.Fresh > 0, []string{"github", "google", "oauth2"}},
	} {
		setting, what := path+"."+need.name, "can never be met"
		if !need.given {
			setting, what = path+".when", "reads session."+need.session+", which is never there"
			need.given = regexp.MustCompile(`\bsession\s*\.\s*` + need.session + `\b`).MatchString(q.When)
		}
		if need.given && l.onlyOf(need.mute) {
			l.fail(setting, what+": providers of the types "+strings.Join(need.mute, ", ")+" do not say how and when somebody signed in",
				"remove it, or add a provider with ID tokens that say so, such as type: oidc")
		} else if need.given && need.name != "acr" && l.onlyOf(append(need.mute, "entra")) {
			l.warnings = append(l.warnings, Warning{setting, "depends on " + need.session + ", which Entra puts into ID tokens only where it is set up to",
				"add " + need.session + " to the optional claims of the application's registration"})
		}
	}
}

// onlyOf says whether all providers are of these types.
func (l *loader) onlyOf(types []string) bool {
	return l.ok("providers") && len(l.cfg.Providers) > 0 && !slices.ContainsFunc(l.cfg.Providers, func(p Provider) bool { return !slices.Contains(types, p.Type) })
}
