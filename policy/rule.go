package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A Rule says what becomes of the requests it selects: exactly one of Allow,
// Deny and Require.
type Rule struct {
	// Name is shown in logs and on the 403 page. Without one, the rule's index
	// and what it selects are shown.
	Name string

	// Host, Path, Methods and Clients select; all that are set must match. Host
	// is a pattern for [ParseHostPattern]. In Path, "*" is any run of characters
	// within a segment and may be empty, "**" any number of whole segments:
	// "/a/**" is for "/a", "/a/" and all below. Methods are exact, and GET is
	// for HEAD too. Clients are networks.
	Host    string
	Path    string
	Methods []string
	Clients []netip.Prefix

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

	// Claims are values by the path of a claim, as in "org.department". Where
	// the path meets a list, any entry will do.
	Claims map[string][]string

	// ACR, AMR and Fresh are about the sign-in: its class, its means, and that
	// it is younger than Fresh (an equal age is too old; zero requires nothing).
	// Who lacks nothing else is asked to sign in again.
	ACR   []string
	AMR   []string
	Fresh time.Duration

	// When is a CEL expression about user, request and session that must be
	// true. One that cannot be evaluated refuses.
	When string

	// All must hold, and at least one of Any.
	All, Any []Require
}

// A Set is a list of compiled rules. It does not change, and may be used from
// several goroutines. The zero value denies everything.
type Set struct {
	rules []rule
	index *index
	named named
}

// named is what of a request rules depend on: because they select by it, or
// because a condition of theirs reads it.
type named struct{ host, path, method, client bool }

func (n named) or(other named) named {
	return named{n.host || other.host, n.path || other.path, n.method || other.method, n.client || other.client}
}

// NamesPath reports whether a rule names a path, be it in a condition. Only then
// does Decide look at the path of a request, and need it be free of ambiguity.
func (s *Set) NamesPath() bool { return s.named.path }

// NamesHost reports whether a rule names a host, be it in a condition. Then a
// request for a host that is nobody's would slip past that rule: the caller must
// know its hosts.
func (s *Set) NamesHost() bool { return s.named.host }

// NamesMethod reports whether a rule names a method, be it in a condition, or
// lets preflights through, which are OPTIONS and nothing else. Then an application
// must not take another one than the request's own from a header.
func (s *Set) NamesMethod() bool { return s.named.method }

// NamesClient reports whether a rule names clients, be it in a condition. Then a
// request whose client is not known is denied.
func (s *Set) NamesClient() bool { return s.named.client }

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
	clients              []netip.Prefix
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
		set.rules[i] = c.rule(r)
	}
	if err := errors.Join(c.problems...); err != nil {
		return nil, err
	}
	set.named, set.index = c.named, newIndex(set.rules)
	return set, nil
}

// A compiler collects problems. What it returns for a rule that has some is
// not to be used.
type compiler struct {
	at         string // the rule being compiled, as "rules[2]"
	problems   []error
	named      named       // by the rules so far
	conditions *conditions // made for the first rule with "when"
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
	if r.Methods != nil && len(r.Methods) == 0 {
		c.report(".methods", "is an empty list; name a method, or remove it")
	}
	for i, m := range r.Methods {
		c.report(fmt.Sprintf(".methods[%d]", i), methodProblem(m))
	}
	out.clients = c.clients(r.Clients)
	if r.Preflight != "" && r.Preflight != "pass" {
		c.report(".preflight", `must be "pass", or left out`)
	}
	c.named = c.named.or(named{out.namesHost, out.namesPath, len(out.methods) > 0 || out.preflight, len(out.clients) > 0})
	out.effect = c.effect(r)
	if r.Require != nil {
		out.needs = c.needs(".require", r.Require)
	}
	return out
}

// clients returns networks in the form that addresses are compared in.
func (c *compiler) clients(networks []netip.Prefix) []netip.Prefix {
	if networks != nil && len(networks) == 0 {
		c.report(".clients", "is an empty list; name a network, or remove it")
	}
	var out []netip.Prefix
	for i, n := range networks {
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		if !n.IsValid() {
			c.report(fmt.Sprintf(".clients[%d]", i), "is not a network; write it like 10.0.0.0/8")
		}
		out = append(out, n.Masked())
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
	if len(r.Clients) > 0 {
		parts = append(parts, "from "+joined(r.Clients))
	}
	return strings.Join(parts, " ")
}

// joined returns networks with commas in between.
func joined(networks []netip.Prefix) string {
	texts := make([]string, len(networks))
	for i, n := range networks {
		texts[i] = n.String()
	}
	return strings.Join(texts, ",")
}
