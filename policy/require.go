package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxNesting bounds how deep all and any may stand in each other.
const maxNesting = 8

// needs is a Require with the sentences for what is missing made beforehand, so
// that Decide allocates nothing.
type needs struct {
	emails, domains, groups, roles list
	claims                         []claimNeed
	when                           *condition
	all, any                       []needs

	acr, amr   list
	fresh      time.Duration
	freshUnmet string
	own        *Ask // what acr, amr and fresh ask for

	// ask is what somebody who lacks nothing else needs to show.
	ask *Ask
}

// A list is the values of one requirement. Without values it requires nothing.
type list struct {
	values []string
	unmet  string
}

// A claimNeed is one claim and the values of which it must have one.
type claimNeed struct {
	path string
	list
}

// A finding is what came of judging a requirement.
type finding struct {
	unmet string // what is missing, "" if nothing
	hard  bool   // no sign-in of the same user can mend it
	ask   *Ask   // what the sign-in must show, met or not
}

func hard(unmet string) finding { return finding{unmet: unmet, hard: true} }

// judge says what p lacks. What no sign-in can mend comes first: nobody is sent
// to sign in again who would be refused afterwards.
func (n *needs) judge(t *target, p *Principal) finding {
	if unmet := n.unmet(p); unmet != "" {
		return hard(unmet)
	}
	if n.when != nil {
		if unmet := n.when.unmet(t, p); unmet != "" {
			return hard(unmet)
		}
	}
	found := finding{unmet: n.signInUnmet(t, p), ask: n.own}
	for i := range n.all {
		if found = found.and(n.all[i].judge(t, p)); found.hard {
			return found
		}
	}
	if len(n.any) > 0 {
		found = found.and(n.judgeAny(t, p))
	}
	return found
}

// judgeAny judges the alternatives. The first that is met counts, else the first
// that a sign-in could meet.
func (n *needs) judgeAny(t *target, p *Principal) finding {
	var soft *finding
	var unmet []string
	for i := range n.any {
		found := n.any[i].judge(t, p)
		if found.unmet == "" {
			return found
		}
		if !found.hard && soft == nil {
			soft = &found
		}
		if !slices.Contains(unmet, found.unmet) {
			unmet = append(unmet, found.unmet)
		}
	}
	if soft != nil {
		return *soft
	}
	return hard(strings.Join(unmet, ", or "))
}

// and returns the finding that f and other make together.
func (f finding) and(other finding) finding {
	if f.hard || other.hard {
		if f.hard {
			return f
		}
		return other
	}
	ask, ok := f.ask.and(other.ask)
	if !ok {
		return hard(reasonExclusive)
	}
	if f.unmet == "" {
		f.unmet = other.unmet
	}
	f.ask = ask
	return f
}

// and returns what asks for both a and b, either of which may be nil. It is
// false if no sign-in can show both: a session has one class.
func (a *Ask) and(b *Ask) (both *Ask, ok bool) {
	if a == nil || b == nil {
		if a == nil {
			a = b
		}
		return a, true
	}
	both = &Ask{MaxAge: a.MaxAge}
	if both.ACRValues, ok = inBoth(a.ACRValues, b.ACRValues); !ok {
		return nil, false
	}
	// Of two lists of means, each would do with another one. But what is asked for
	// travels as one list, of which any must do: with all of both, a sign-in that
	// meets the one alone would be taken for enough, and sent round in circles.
	if both.AMR, ok = inBoth(a.AMR, b.AMR); !ok {
		return nil, false
	}
	if a.MaxAge == 0 || b.MaxAge != 0 && b.MaxAge < a.MaxAge {
		both.MaxAge = b.MaxAge
	}
	return both, true
}

// inBoth returns the values that are in a and in b, where nil has all; false if
// there are none.
func inBoth(a, b []string) ([]string, bool) {
	switch {
	case a == nil:
		return b, true
	case b == nil:
		return a, true
	}
	both := slices.DeleteFunc(slices.Clone(a), func(value string) bool { return !slices.Contains(b, value) })
	return both, len(both) > 0
}

// Unmet returns which part of a the sign-in of p does not show at now, as the
// rules judge it, "" if it shows everything. A nil a asks for nothing; a nil p
// has shown nothing.
func (a *Ask) Unmet(p *Principal, now time.Time) string {
	switch {
	case a == nil:
		return ""
	case p == nil:
		return reasonSignIn
	case len(a.ACRValues) > 0 && !slices.Contains(a.ACRValues, p.ACR):
		return "needs a sign-in of one of the classes " + strings.Join(a.ACRValues, ", ")
	case !a.hasMeans(p.AMR):
		return "needs a sign-in by the means " + strings.Join(a.AMR, ", ")
	case a.MaxAge > 0 && !isFresh(p.AuthTime, now, a.MaxAge):
		return "needs a sign-in less than " + brief(a.MaxAge) + " ago"
	}
	return ""
}

// hasMeans reports whether amr has one of the means that a asks for.
func (a *Ask) hasMeans(amr []string) bool { return len(a.AMR) == 0 || overlap(a.AMR, amr) }

// unmet returns what p lacks whatever the sign-in, "" if nothing.
func (n *needs) unmet(p *Principal) string {
	switch {
	case len(n.emails.values) > 0 && !hasEmail(n.emails.values, p.Email):
		return n.emails.unmet
	case len(n.domains.values) > 0 && !hasDomain(n.domains.values, p.Email):
		return n.domains.unmet
	case len(n.groups.values) > 0 && !overlap(n.groups.values, p.Groups):
		return n.groups.unmet
	case len(n.roles.values) > 0 && !overlap(n.roles.values, p.Roles):
		return n.roles.unmet
	}
	for i := range n.claims {
		if c := &n.claims[i]; !hasClaim(p.Claims, c.path, c.values) {
			return c.unmet
		}
	}
	return ""
}

// maxSkew is how far the provider's clock may be ahead of ours.
const maxSkew = time.Minute

// signInUnmet returns what p's sign-in did not show, "" if nothing.
func (n *needs) signInUnmet(t *target, p *Principal) string {
	switch {
	case len(n.acr.values) > 0 && !slices.Contains(n.acr.values, p.ACR):
		return n.acr.unmet
	case len(n.amr.values) > 0 && !overlap(n.amr.values, p.AMR):
		return n.amr.unmet
	case n.fresh > 0 && !isFresh(p.AuthTime, t.now, n.fresh):
		return n.freshUnmet
	}
	return ""
}

// isFresh reports whether at is less than limit ago. A time that is further
// ahead than clocks differ is no time to trust: it would be fresh for long.
func isFresh(at, now time.Time, limit time.Duration) bool {
	if at.IsZero() || now.IsZero() {
		return false
	}
	age := now.Sub(at)
	return -maxSkew <= age && age < limit
}

// needs compiles r, which stands at field.
func (c *compiler) needs(field string, r *Require) needs {
	if strings.Count(field, "[") > maxNesting {
		c.report(field, fmt.Sprintf("is nested more than %d deep; write several rules", maxNesting))
		return needs{}
	}
	if r.requiresNothing() {
		c.report(field, "requires nothing; add signed_in: true, emails, domains, groups, roles, claims, acr, amr, fresh, when, all or any, or write allow: anyone")
	}
	n := needs{
		emails:  c.list(field+".emails", r.Emails, emailProblem),
		domains: c.list(field+".domains", r.Domains, domainProblem),
		groups:  c.list(field+".groups", r.Groups, blankProblem),
		roles:   c.list(field+".roles", r.Roles, blankProblem),
		claims:  c.claims(field+".claims", r.Claims),
		acr:     c.list(field+".acr", r.ACR, wordProblem),
		amr:     c.list(field+".amr", r.AMR, wordProblem),
		fresh:   r.Fresh,
		all:     c.nested(field+".all", r.All),
		any:     c.nested(field+".any", r.Any),
	}
	n.say(r)
	if r.Fresh < 0 || r.Fresh%time.Second != 0 {
		c.report(field+".fresh", "is not a whole number of seconds above zero, which is what a provider can be asked for; write it like 5m")
	}
	if r.When != "" {
		n.when = c.condition(field+".when", r.When)
	}
	n.own = r.ownAsk()
	c.ask(field, &n)
	return n
}

// say makes the sentences for what is missing. The 403 page must not tell one
// user the addresses of others, nor what the claims of others hold.
func (n *needs) say(r *Require) {
	n.emails.unmet = "needs an e-mail address that the rule lists"
	n.domains.unmet = "needs a verified e-mail address at one of " + strings.Join(r.Domains, ", ")
	n.groups.unmet = "needs one of the groups " + strings.Join(r.Groups, ", ")
	n.roles.unmet = "needs one of the roles " + strings.Join(r.Roles, ", ")
	n.acr.unmet = "needs a sign-in of one of the classes " + strings.Join(r.ACR, ", ")
	n.amr.unmet = "needs a sign-in by one of the means " + strings.Join(r.AMR, ", ")
	n.freshUnmet = "needs a sign-in less than " + brief(r.Fresh) + " ago"
}

// brief writes d without the units that are zero.
func brief(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func (r *Require) requiresNothing() bool {
	lists := r.Emails == nil && r.Domains == nil && r.Groups == nil && r.Roles == nil && r.ACR == nil && r.AMR == nil
	return lists && !r.SignedIn && r.Claims == nil && r.Fresh == 0 && r.When == "" && r.All == nil && r.Any == nil
}

// ownAsk returns what r asks a sign-in for, without what is nested; nil if
// nothing.
func (r *Require) ownAsk() *Ask {
	if len(r.ACR) == 0 && len(r.AMR) == 0 && r.Fresh <= 0 {
		return nil
	}
	return &Ask{ACRValues: slices.Clone(r.ACR), AMR: slices.Clone(r.AMR), MaxAge: max(r.Fresh, 0)}
}

// ask sets what n asks the first sign-in of somebody for: of alternatives, that
// of the first, and nothing if one of them takes any sign-in.
func (c *compiler) ask(field string, n *needs) {
	var ok bool
	n.ask = n.own
	if own := n.own; own != nil && max(len(strings.Join(own.ACRValues, " ")), len(strings.Join(own.AMR, " "))) > maxAsked {
		c.report(field, fmt.Sprintf("asks for a list of acr or amr that is longer than %d bytes; name fewer", maxAsked))
	}
	join := func(other *Ask) {
		if n.ask, ok = n.ask.and(other); !ok {
			c.report(field, "can never be met by one sign-in that is asked for: these lists of acr, or of amr, have no value in common; use any, or one list")
		}
	}
	for i := range n.all {
		join(n.all[i].ask)
	}
	if len(n.any) > 0 && !slices.ContainsFunc(n.any, func(m needs) bool { return m.ask == nil }) {
		join(n.any[0].ask)
	}
}

func (c *compiler) nested(field string, requires []Require) []needs {
	if requires != nil && len(requires) == 0 {
		c.report(field, "is an empty list; add a requirement, or remove it")
	}
	var out []needs
	for i := range requires {
		out = append(out, c.needs(fmt.Sprintf("%s[%d]", field, i), &requires[i]))
	}
	return out
}

func (c *compiler) claims(field string, claims map[string][]string) []claimNeed {
	if claims != nil && len(claims) == 0 {
		c.report(field, "is empty; name a claim, or remove it")
	}
	var out []claimNeed
	for _, path := range slices.Sorted(maps.Keys(claims)) {
		at := field + "." + path
		if path == "" || slices.Contains(strings.Split(path, "."), "") {
			c.report(at, "is not the path of a claim; write names with single dots in between, like org.department")
		}
		if claims[path] == nil {
			c.report(at, "is an empty list; name a value, or remove it")
		}
		need := claimNeed{path, c.list(at, claims[path], blankProblem)}
		need.unmet = "needs one of the values that the rule lists in the claim " + path
		out = append(out, need)
	}
	return out
}

// list checks the values of one requirement. A list that is there but empty is
// refused: read as "nothing required", it would let in those it was to keep out.
func (c *compiler) list(field string, values []string, check func(string) string) list {
	if values != nil && len(values) == 0 {
		c.report(field, "is an empty list; name a value, or remove it")
	}
	for i, v := range values {
		c.report(fmt.Sprintf("%s[%d]", field, i), check(v))
	}
	return list{values: slices.Clone(values)}
}

func emailProblem(email string) string {
	if _, ok := emailDomain(email); !ok {
		return `is not an e-mail address in ASCII with one "@"; write it like ann@example.com`
	}
	return ""
}

func domainProblem(domain string) string {
	if domain == "*" || validName(domain) {
		return ""
	}
	return `is not a domain; write what follows the "@", like example.com, each subdomain in full`
}

func blankProblem(s string) string {
	if strings.TrimSpace(s) == "" {
		return "is blank; write a name, or remove it"
	}
	return ""
}

// wordProblem refuses what cannot be an entry of a list that is separated by
// spaces, as acr_values is (OpenID Connect Core, section 3.1.2.1).
func wordProblem(word string) string {
	if strings.ContainsAny(word, " \t\r\n") {
		return "has a space; write one value an entry"
	}
	return blankProblem(word)
}
