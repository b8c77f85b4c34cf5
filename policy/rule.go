package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Rule says what becomes of the requests it selects: exactly one of Allow,
// Deny and Require.
type Rule struct {
	// Name is shown in logs and on the 403 page. Without one, the rule's index
	// and what it selects are shown.
	Name string

	// Host, Path and Methods select; all that are set must match. Host is a
	// pattern for [ParseHostPattern]. In Path, "*" is any run of characters
	// within a segment and may be empty, "**" any number of whole segments:
	// "/a/**" is for "/a", "/a/" and all below. Methods are exact, and GET is
	// for HEAD too.
	Host    string
	Path    string
	Methods []string

	// Allow is "" or "anyone".
	Allow string

	// Deny refuses everybody.
	Deny bool

	// Require lets those through who meet it and refuses the rest; who is
	// anonymous is asked to sign in.
	Require *Require

	// Preflight is "" or "pass": CORS preflights for a method of the rule are
	// let through for anyone.
	Preflight string
}

// Require is a condition. Every field that is set must hold; within a list any
// value will do. The lists are compared as in [Members].
type Require struct {
	SignedIn bool
	Emails   []string
	Domains  []string
	Groups   []string
	Roles    []string
}

// A Set is a list of compiled rules. It does not change, and may be used from
// several goroutines. The zero value denies everything.
type Set struct {
	rules                             []rule
	namesHost, namesPath, namesMethod bool
}

// NamesPath reports whether a rule names a path. Only then does Decide look at
// the path of a request, and need it be free of ambiguity.
func (s *Set) NamesPath() bool { return s.namesPath }

// NamesHost reports whether a rule names a host. Then a request for a host that
// is nobody's would slip past that rule: the caller must know its hosts.
func (s *Set) NamesHost() bool { return s.namesHost }

// NamesMethod reports whether any rule selects by method.
func (s *Set) NamesMethod() bool { return s.namesMethod }

type effect int

const (
	deny effect = iota
	allowAnyone
	require
)

// A rule is a Rule in the form that Decide reads.
type rule struct {
	label                string
	path                 Glob
	methods              []string
	host                 HostPattern
	namesPath, namesHost bool
	preflight            bool
	effect               effect
	needs                needs
}

// Compile checks rules and returns them as a Set. No rules are one rule: who is
// signed in may do everything. The error joins all problems, each with the rule
// and field it is about, as in "rules[2].path: …", and with a remedy.
func Compile(rules []Rule) (*Set, error) {
	if len(rules) == 0 {
		rules = []Rule{{Name: "signed in (default)", Require: &Require{SignedIn: true}}}
	}
	var c compiler
	set := &Set{rules: make([]rule, len(rules))}
	for i, r := range rules {
		c.at = fmt.Sprintf("rules[%d]", i)
		compiled := c.rule(r)
		set.rules[i] = compiled
		set.namesHost = set.namesHost || compiled.namesHost
		set.namesPath = set.namesPath || compiled.namesPath
		set.namesMethod = set.namesMethod || len(compiled.methods) > 0
	}
	if err := errors.Join(c.problems...); err != nil {
		return nil, err
	}
	return set, nil
}

// A compiler collects problems. What it returns for a rule that has some is
// not to be used.
type compiler struct {
	at       string // the rule being compiled, as "rules[2]"
	problems []error
}

// report adds a problem, unless it is "". Field is "" or begins with a dot.
func (c *compiler) report(field, problem string) {
	if problem != "" {
		c.problems = append(c.problems, errors.New(c.at+field+": "+problem))
	}
}

func (c *compiler) rule(r Rule) rule {
	out := rule{
		label:     c.label(r),
		methods:   slices.Clone(r.Methods),
		namesPath: r.Path != "",
		namesHost: r.Host != "",
		preflight: r.Preflight == "pass",
	}
	var problem string
	if out.namesHost {
		out.host, problem = parseHostPattern(r.Host)
		c.report(".host", problem)
	}
	if out.namesPath {
		out.path, problem = parseGlob(r.Path)
		c.report(".path", problem)
	}
	for i, m := range r.Methods {
		c.report(fmt.Sprintf(".methods[%d]", i), methodProblem(m))
	}
	if r.Preflight != "" && r.Preflight != "pass" {
		c.report(".preflight", `must be "pass", or left out`)
	}
	out.effect = c.effect(r)
	if r.Require != nil {
		out.needs = c.needs(r.Require)
	}
	return out
}

// effect returns which of the three r has, and reports unless it is one.
func (c *compiler) effect(r Rule) effect {
	if r.Allow != "" && r.Allow != "anyone" {
		c.report(".allow", `must be "anyone"; for some people only, write require`)
	}
	var effects []effect
	if r.Allow != "" {
		effects = append(effects, allowAnyone)
	}
	if r.Deny {
		effects = append(effects, deny)
	}
	if r.Require != nil {
		effects = append(effects, require)
	}
	if r.Deny && r.Preflight != "" {
		c.report(".preflight", "cannot stand with deny; remove it, or write a rule of its own above")
	}
	switch len(effects) {
	case 0:
		c.report("", "does nothing; add one of allow: anyone, deny: true, require: {signed_in: true}")
		return deny
	case 1:
		return effects[0]
	}
	c.report("", "has more than one of allow, deny and require; keep one, and write a rule for each of the others")
	return deny
}

// methodProblem returns why method is not one that a rule can name, "" if it
// is. Methods are tokens (RFC 9110, sections 5.6.2 and 9.1), and the registered
// ones have no lower-case letters.
func methodProblem(method string) string {
	if method == "" {
		return "is empty; write a method, like GET"
	}
	for i := range len(method) {
		c := method[i]
		if 'a' <= c && c <= 'z' {
			return "has lower-case letters, but methods are case-sensitive; write it like GET"
		}
		if !isAlphanumeric(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return "is not a method; write one method an entry, like GET"
		}
	}
	return ""
}

// label returns the rule's name, or where it is and what it selects.
func (c *compiler) label(r Rule) string {
	if r.Name != "" {
		return r.Name
	}
	parts := []string{c.at}
	if len(r.Methods) > 0 {
		parts = append(parts, strings.Join(r.Methods, ","))
	}
	if r.Host+r.Path != "" {
		parts = append(parts, r.Host+r.Path)
	}
	return strings.Join(parts, " ")
}

// needs is a Require with the sentences for what is missing made beforehand, so
// that Decide allocates nothing.
type needs struct {
	emails, domains, groups, roles list
}

// A list is the values of one requirement. Without values it requires nothing.
type list struct {
	values []string
	unmet  string
}

// unmet returns what p lacks, "" if nothing.
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
	return ""
}

func (c *compiler) needs(r *Require) needs {
	if !r.SignedIn && r.Emails == nil && r.Domains == nil && r.Groups == nil && r.Roles == nil {
		c.report(".require", "requires nothing; add signed_in: true, emails, domains, groups or roles, or write allow: anyone")
	}
	n := needs{
		emails:  c.list(".require.emails", r.Emails, emailProblem),
		domains: c.list(".require.domains", r.Domains, domainProblem),
		groups:  c.list(".require.groups", r.Groups, blankProblem),
		roles:   c.list(".require.roles", r.Roles, blankProblem),
	}
	// The 403 page must not tell one user the addresses of others.
	n.emails.unmet = "needs an e-mail address that the rule lists"
	n.domains.unmet = "needs a verified e-mail address at one of " + strings.Join(r.Domains, ", ")
	n.groups.unmet = "needs one of the groups " + strings.Join(r.Groups, ", ")
	n.roles.unmet = "needs one of the roles " + strings.Join(r.Roles, ", ")
	return n
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
