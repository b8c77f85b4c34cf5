// Package policy decides who may do what. It is pure: no I/O, no clock, no
// state that changes, so a decision can be repeated in a test, on the command
// line and in every mode the proxy runs in, and is the same each time.
//
// Most callers need two names: [Compile] turns the configured rules into a
// [Set], and [Set.Decide] answers for one request and one [Principal]. Where
// [Set.NamesPath] holds, the path comes from [PathRules.Parse], which refuses
// what two programs could read differently.
//
// The promise: rules are read from top to bottom, and the first one that
// selects a request decides alone. What no rule selects is denied. So is a
// request whose host, method or path cannot be read with certainty, where rules
// name one: it would slip past the rule meant for it.
package policy

import (
	"net/netip"
	"strings"
)

// A Request is what rules see of a request: never its query, fragment or
// headers (GHSA-7rh7-c77v-6434 let a query satisfy a public rule).
type Request struct {
	// Method is the method exactly as sent. Methods are case-sensitive
	// (RFC 9110, section 9.1).
	Method string

	// Host is the host asked for, with or without a port.
	Host string

	// Path is the answer of [PathRules.Parse]. It may stay empty for a Set
	// whose NamesPath is false.
	Path Path

	// Preflight is the Access-Control-Request-Method of a CORS preflight, ""
	// for every other request.
	Preflight string

	// ClientIP is the address of the client, as far as it can be trusted.
	ClientIP netip.Addr
}

// A Principal is somebody who is signed in. A nil *Principal is anonymous.
type Principal struct {
	// ID is the stable identifier of the user.
	ID string

	// Email is the user's address if the provider verified it, else "".
	Email string

	// Groups and Roles are compared whole and case-sensitively.
	Groups, Roles []string

	// Provider is the id of the provider that signed the user in.
	Provider string
}

// An Outcome is the answer to a request. Lower values are stricter, and the
// zero value denies.
type Outcome int

// The outcomes.
const (
	Deny   Outcome = iota // refused, signed in or not
	SignIn                // anonymous, and a sign-in might help
	Allow                 // let through
)

// String returns "allow", "sign_in" or "deny".
func (o Outcome) String() string {
	switch o {
	case Allow:
		return "allow"
	case SignIn:
		return "sign_in"
	}
	return "deny"
}

// A Decision is an Outcome and how it came about.
type Decision struct {
	Outcome Outcome

	// Rule is the label of the rule that decided: its name, or its index and
	// what it selects. It is "" when no rule did.
	Rule string

	// Reason is a sentence for logs and the 403 page. It holds nothing of the
	// request or the user, and no e-mail address of others.
	Reason string

	// Public is set when the request was let through whoever sent it: by
	// "allow: anyone" or as a CORS preflight.
	Public bool
}

const (
	reasonAnyone    = "anyone is allowed"
	reasonPreflight = "CORS preflights pass"
	reasonMet       = "every requirement is met"
	reasonSignIn    = "needs to be signed in"
	reasonDenied    = "nobody is allowed"
	reasonNoRule    = "no rule covers this request"
	reasonHost      = "the host cannot be read, and rules name hosts"
	reasonMethod    = "the method cannot be read, and rules name methods"
	reasonPath      = "the path cannot be read, and rules name paths"
)

// Decide answers for request r of principal p, nil if anonymous. It allocates
// nothing unless r's path is loosened.
//
// A loosened path is judged in every way in which an application might read it,
// and the strictest answer stands. Otherwise "/admin;x/users" would pass by a
// rule for "/admin/**" and still reach it behind Tomcat (CVE-2026-73551).
func (s *Set) Decide(r *Request, p *Principal) Decision {
	t, problem := s.target(r)
	if problem != "" {
		return Decision{Reason: problem}
	}
	d := s.first(&t, p)
	if !t.loose {
		return d
	}
	for _, path := range r.Path.readings() {
		t.path = path
		if other := s.first(&t, p); other.Outcome < d.Outcome {
			d = other
		}
	}
	return d
}

// target prepares r for selection. The problem is not "" if something that a
// rule names cannot be read with certainty: such a request would slip past the
// rule meant for it and be judged by a weaker one below.
func (s *Set) target(r *Request) (t target, problem string) {
	host, ok := readHost(r.Host)
	switch {
	case s.namesHost && !ok:
		return target{}, reasonHost
	// Some frameworks fold case ("post" is POST to Werkzeug), others do not.
	case s.namesMethod && methodProblem(r.Method) != "":
		return target{}, reasonMethod
	case s.namesPath && !strings.HasPrefix(r.Path.Decoded, "/"):
		return target{}, reasonPath
	}
	t = target{method: r.Method, host: host, path: r.Path.Decoded, loose: r.Path.Loose}
	// The header alone does not make a preflight: any client can send it with
	// a GET.
	if r.Method == "OPTIONS" {
		t.preflight = r.Preflight
	}
	return t, ""
}

// first returns the decision of the first rule that selects t.
func (s *Set) first(t *target, p *Principal) Decision {
	for i := range s.rules {
		if rl := &s.rules[i]; rl.selects(t) {
			return rl.decide(t, p)
		}
	}
	return Decision{Reason: reasonNoRule}
}

// A target is a request made ready for selection.
type target struct {
	method, path, preflight string
	host                    host
	loose                   bool
}

// selects reports whether t is r's to decide.
func (r *rule) selects(t *target) bool {
	if r.namesPath && !r.path.Match(t.path) {
		return false
	}
	if !r.selectsMethod(t.method) && !(r.passes(t) && r.selectsMethod(t.preflight)) {
		return false
	}
	if r.namesHost && !r.host.match(t.host) {
		return false
	}
	return r.effect != allowAnyone || !t.loose
}

// selectsMethod reports whether r is for method. A rule for GET is for HEAD
// too, which is a GET without the body (RFC 9110, section 9.3.2).
func (r *rule) selectsMethod(method string) bool {
	if len(r.methods) == 0 {
		return true
	}
	for _, m := range r.methods {
		if m == method || m == "GET" && method == "HEAD" {
			return true
		}
	}
	return false
}

// passes reports whether t is a preflight that r lets through once selected. A
// browser sends preflights without cookies, so to require a sign-in of them is
// to forbid CORS.
func (r *rule) passes(t *target) bool {
	return r.preflight && t.preflight != "" && !t.loose
}

// decide answers for t, which r selects. It never defers to another rule.
func (r *rule) decide(t *target, p *Principal) Decision {
	switch {
	case r.passes(t):
		return Decision{Outcome: Allow, Rule: r.label, Reason: reasonPreflight, Public: true}
	case r.effect == allowAnyone:
		return Decision{Outcome: Allow, Rule: r.label, Reason: reasonAnyone, Public: true}
	case r.effect != require:
		return Decision{Rule: r.label, Reason: reasonDenied}
	case p == nil:
		return Decision{Outcome: SignIn, Rule: r.label, Reason: reasonSignIn}
	}
	if unmet := r.needs.unmet(p); unmet != "" {
		return Decision{Rule: r.label, Reason: unmet}
	}
	return Decision{Outcome: Allow, Rule: r.label, Reason: reasonMet}
}
