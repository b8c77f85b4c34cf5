package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// hopByHop are headers that belong to a connection or decide how a request is
// read. Setting one of them from a user's data would break requests, or let a
// user choose where they end.
var hopByHop = []string{
	"host", "cookie", "authorization", "connection", "content-length", "transfer-encoding",
	"keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade",
}

// checkMembers judges the lists that name people. prefix is what the names of
// the lists begin with.
func (l *loader) checkMembers(prefix string, emails, domains []string) {
	for i, email := range emails {
		if email != "" && !validEmail(email) {
			l.fail(fmt.Sprintf("%semails[%d]", prefix, i), quote(email)+" is not an address", "write it like alice@example.com")
		}
	}
	for i, domain := range domains {
		if domain == "" || domain == "*" || validHost(domain) {
			continue
		}
		l.fail(fmt.Sprintf("%sdomains[%d]", prefix, i), quote(domain)+" is not a domain", `write it like example.com, without @ and *.; "*" alone is everybody`)
	}
}

// validEmail reports whether an address has one "@" and nothing that readers
// take differently.
func validEmail(email string) bool {
	local, domain, _ := strings.Cut(email, "@")
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	return local != "" && validHost(domain) && !strings.ContainsFunc(email, odd)
}

func (l *loader) checkRules() {
	for i, r := range l.cfg.Rules {
		path := fmt.Sprintf("rules[%d]", i)
		l.checkPattern(path+".path", r.Path)
		l.checkAnswer(path, r)
		for j, method := range r.Methods {
			if method != "" && (!tokenForm.MatchString(method) || method != strings.ToUpper(method)) {
				l.fail(fmt.Sprintf("%s.methods[%d]", path, j), quote(method)+" is not a method", "write it in capitals, such as GET")
			}
		}
		if r.Require != nil {
			l.checkRequire(path+".require", r.Require)
		}
	}
}

// checkRequire judges one requirement and those in it. What a condition says is
// for package policy to judge.
func (l *loader) checkRequire(path string, q *Require) {
	l.takeMaxAge(path, q)
	lists := len(q.Emails) + len(q.Domains) + len(q.Groups) + len(q.Roles) + len(q.Claims) + len(q.ACR) + len(q.AMR) + len(q.All) + len(q.Any)
	if lists == 0 && !q.SignedIn && q.Fresh == 0 && q.When == "" {
		l.fail(path, "requires nothing", "write {signed_in: true}, or who it is; allow: anyone lets everybody through")
	}
	if _, given := l.origins[path+".when"]; given && q.When == "" {
		l.fail(path+".when", "is empty", "write a condition, or remove the setting")
	}
	if _, given := l.origins[path+".fresh"]; given && q.Fresh == 0 {
		l.fail(path+".fresh", "lets no sign-in be fresh", "write a duration such as 5m, or remove the setting")
	}
	l.checkMembers(path+".", q.Emails, q.Domains)
	l.checkSignInNeeds(path, q)
	l.warnUnmapped(path+".claims", q.Claims)
	for i := range q.All {
		l.checkRequire(fmt.Sprintf("%s.all[%d]", path, i), &q.All[i])
	}
	for i := range q.Any {
		l.checkRequire(fmt.Sprintf("%s.any[%d]", path, i), &q.Any[i])
	}
}

// takeMaxAge takes max_age, which is what OpenID Connect calls it, for fresh.
func (l *loader) takeMaxAge(path string, q *Require) {
	at, given := l.origins[path+".max_age"]
	if !given || !l.ok(path+".max_age") {
		return
	}
	if _, twice := l.origins[path+".fresh"]; twice {
		l.fail(path+".max_age", "is another name of fresh, which is given, too", "keep one of the two")
		return
	}
	q.Fresh, q.MaxAge = q.MaxAge, 0
	l.origins[path+".fresh"] = at
}

// checkAnswer judges whether a rule says one thing.
func (l *loader) checkAnswer(path string, r Rule) {
	answers := 0
	for _, given := range []bool{r.Allow != "", r.Deny, r.Require != nil} {
		if given {
			answers++
		}
	}
	switch {
	case answers == 0:
		l.fail(path, "says neither allow nor deny nor require", "add one of them, such as require: {signed_in: true}")
	case answers > 1:
		l.fail(path, "says more than one of allow, deny and require", "keep one of them; split the rule if need be")
	case r.Deny && r.Preflight != "":
		l.fail(path+".preflight", "contradicts deny", "remove one of the two")
	}
}

func (l *loader) checkIdentity() {
	id := l.cfg.Identity
	spelled := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(id.Headers)) {
		path, folded := "identity.headers."+name, foldHeader(name)
		switch before, twice := spelled[folded]; {
		case !tokenForm.MatchString(name):
			l.fail(path, quote(name)+" is not a header name", "use letters, digits and dashes")
		case slices.Contains(hopByHop, folded):
			l.fail(path, quote(name)+" is not a header to set", "choose a name of its own; identity.authorization is for Authorization")
		case twice:
			l.fail(path, fmt.Sprintf("is the same header as %s for some upstreams, which read -, _ and . alike", before), "remove one of the two")
		}
		spelled[folded] = name
		l.checkTemplate(path, id.Headers[name])
	}
	for i, name := range id.Strip {
		if name != "" && !tokenForm.MatchString(strings.TrimSuffix(name, "*")) || strings.Contains(strings.TrimSuffix(name, "*"), "*") {
			l.fail(fmt.Sprintf("identity.strip[%d]", i), quote(name)+" is not a header name", "write a name such as Remote-User, or a beginning such as X-User-*")
		}
	}
	for _, role := range slices.Sorted(maps.Keys(id.Roles)) {
		l.checkRole("identity.roles."+role, role, id.Roles[role])
	}
}

// checkRole judges one role. Its name travels in a header, between commas.
func (l *loader) checkRole(path, role string, m Members) {
	if role == "" || strings.ContainsFunc(role, func(r rune) bool { return r == ',' || isControl(r) }) {
		l.fail(path, quote(role)+" is not a name for a role", "use letters, digits and dashes")
	}
	if len(m.Emails)+len(m.Domains)+len(m.Groups)+len(m.Claims) == 0 {
		l.fail(path, "names nobody", "add emails, domains, groups or claims, or remove the role")
	}
	l.checkClaimValues(path+".claims", m.Claims)
	l.checkMembers(path+".", m.Emails, m.Domains)
}

// foldHeader spells a header name as the most forgiving upstream reads it.
func foldHeader(name string) string {
	return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
}
