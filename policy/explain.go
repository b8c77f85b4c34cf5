package policy

import (
	"fmt"
	"strings"
)

// An Explanation is a Decision with the way to it.
type Explanation struct {
	Decision

	// Index is the position of the rule that decided, -1 if none did.
	Index int

	// Skipped are the rules before that one, in order, or all rules.
	Skipped []Skipped

	// Reading is the path that the rule was asked about where it is not the
	// decoded one: the strictest of the ways to read a loosened path.
	Reading string
}

// A Skipped rule is one that did not select the request.
type Skipped struct {
	Rule string // its label, as in Decision.Rule
	Why  string // all that it selects and the request is not
}

// Explain returns what [Set.Decide] returns for the same request and principal,
// and why no earlier rule was asked. It looks at each rule and is for people,
// not for requests as they come in.
func (s *Set) Explain(r *Request, p *Principal) Explanation {
	t, problem := s.target(r)
	if problem != "" {
		return Explanation{Decision: Decision{Reason: problem}, Index: -1}
	}
	e := s.explain(&t, p)
	if !t.loose {
		return e
	}
	for _, path := range r.Path.readings() {
		t.path = path
		if other := s.explain(&t, p); other.Outcome < e.Outcome {
			e, e.Reading = other, path
		}
	}
	return e
}

// explain asks each rule about t until one selects it.
func (s *Set) explain(t *target, p *Principal) Explanation {
	var e Explanation
	for i := range s.rules {
		if s.rules[i].selects(t) {
			e.Index, e.Decision = i, s.rules[i].decide(t, p)
			return e
		}
		e.Skipped = append(e.Skipped, Skipped{s.rules[i].label, s.rules[i].whyNot(t)})
	}
	e.Index, e.Decision = -1, Decision{Reason: reasonNoRule}
	return e
}

// whyNot says what of t is not what r selects.
func (r *rule) whyNot(t *target) string {
	var why []string
	if !r.selectsHost(t) {
		why = append(why, "the host is not "+r.host.String())
	}
	if !r.selectsPath(t) {
		why = append(why, "the path does not match "+r.path.String())
	}
	if !r.selectsMethodOf(t) {
		why = append(why, "the method is not "+strings.Join(r.methods, " or "))
	}
	if !r.selectsClient(t) {
		why = append(why, fmt.Sprintf("the client %s is not in %s", t.client, joined(r.clients)))
	}
	if !r.selectsLoose(t) {
		why = append(why, "applications could read the path in another way, and such a path is never public")
	}
	return strings.Join(why, "; ")
}

// String returns the pattern that g was made of.
func (g *Glob) String() string {
	if g.segments == nil {
		return g.prefix
	}
	return "/" + strings.Join(g.segments, "/")
}
