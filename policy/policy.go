// Package policy decides who may do what. It is pure: no I/O, no clock, no
// state that changes, so a decision can be repeated in a test, on the command
// line and in every mode the proxy runs in, and is the same each time.
//
// Most callers need two names: [Compile] turns the configured rules into a
// [Set], and [Set.Decide] answers for one request and one [Principal]. Where
// [Set.NamesPath] holds, the path comes from [PathRules.Parse], which refuses
// what two programs could read differently. [Set.Explain] gives the same answer
// as Decide, and says of each rule before why it was passed over.
//
// The promise: rules are read from top to bottom, and the first one that
// selects a request decides alone. What no rule selects is denied. So is a
// request whose host, method, path or client cannot be read with certainty,
// where rules name one: it would slip past the rule meant for it.
package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"
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

	// Now is the caller's clock. Without it no sign-in is fresh.
	Now time.Time
}

// A Principal is somebody who is signed in. A nil *Principal is anonymous.
type Principal struct {
	// ID is the stable identifier of the user, Name what to call them.
	ID, Name string

	// Email is the user's address if the provider verified it, else "".
	Email string

	// Groups and Roles are compared whole and case-sensitively.
	Groups, Roles []string

	// Provider is the id of the provider that signed the user in.
	Provider string

	// Claims are what the configuration keeps of what the provider said about
	// the user: JSON values as encoding/json decodes them into an any. They
	// must not be changed.
	Claims map[string]any

	// AuthTime is when the provider authenticated the user, zero if it did not
	// say. ACR is how well it says it did, AMR by which means (OpenID Connect
	// Core, section 2).
	AuthTime time.Time
	ACR      string
	AMR      []string
}

// An Outcome is the answer to a request. Lower values are stricter, and the
// zero value denies.
type Outcome int

// The outcomes.
const (
	Deny   Outcome = iota // refused, signed in or not
	SignIn                // anonymous, and a sign-in might help
	StepUp                // signed in, and all that is missing is another sign-in, as the Ask says
	Allow                 // let through
)

// String returns "allow", "step_up", "sign_in" or "deny".
func (o Outcome) String() string {
	switch o {
	case Allow:
		return "allow"
	case StepUp:
		return "step_up"
	case SignIn:
		return "sign_in"
	}
	return "deny"
}

// An Ask is what a sign-in must show for a rule to let through. It is everything
// that the rule wants of a sign-in, also what the last one showed: the next one
// may show less.
type Ask struct {
	// ACRValues are the authentication classes of which one must be the
	// session's; none means that any will do. They go into acr_values.
	ACRValues []string

	// AMR are the means of authentication that were asked for. There is no
	// parameter for them; prompt=login lets the provider ask again.
	AMR []string

	// MaxAge is how long ago the user may have been authenticated at most. Zero
	// means that it does not matter. It goes into max_age, in seconds.
	MaxAge time.Duration
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

	// Ask is what to sign in with. It is set for StepUp, and for SignIn where
	// the rule wants more than any sign-in. It must not be changed.
	Ask *Ask

	// Preflight is set when the request was let through as a CORS preflight, which
	// brings no credentials.
	Preflight bool
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
	reasonExclusive = "needs sign-ins of classes that exclude each other"
	reasonClient    = "the client's address is not known, and rules name clients"
)

// Decide answers for request r of principal p, nil if anonymous. It allocates
// nothing unless r's path is loosened, or a rule with "when" or with nested
// requirements decides. Its time depends on how many rules share with the request
// what each of them shares with the fewest others, not on how many there are.
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
		d = d.stricter(s.first(&t, p))
	}
	return d
}

// stricter returns the stricter of two decisions about readings of one path. A
// sign-in that both ask for must show what each of them asks for.
func (d Decision) stricter(other Decision) Decision {
	if other.Outcome < d.Outcome {
		d, other = other, d
	}
	if d.Outcome != other.Outcome || d.Ask == other.Ask {
		return d
	}
	both, ok := d.Ask.and(other.Ask)
	if !ok && d.Outcome == StepUp {
		return Decision{Rule: d.Rule, Reason: reasonExclusive}
	}
	if ok {
		d.Ask = both
	}
	return d
}

// target prepares r for selection. The problem is not "" if something that a
// rule names cannot be read with certainty: such a request would slip past the
// rule meant for it and be judged by a weaker one below.
func (s *Set) target(r *Request) (t target, problem string) {
	host, ok := readHost(r.Host)
	switch {
	case s.named.host && !ok:
		return target{}, reasonHost
	// Some frameworks fold case ("post" is POST to Werkzeug), others do not.
	case s.named.method && methodProblem(r.Method) != "":
		return target{}, reasonMethod
	case s.named.path && !strings.HasPrefix(r.Path.Decoded, "/"):
		return target{}, reasonPath
	case s.named.client && !r.ClientIP.IsValid():
		return target{}, reasonClient
	}
	// A prefix contains neither mapped nor zoned addresses.
	client := r.ClientIP.Unmap().WithZone("")
	host.name = strings.ToLower(host.name)
	t = target{method: r.Method, host: host, path: r.Path.Decoded, loose: r.Path.Loose, client: client, now: r.Now}
	// The header alone does not make a preflight: any client can send it with
	// a GET.
	if r.Method == "OPTIONS" {
		t.preflight = r.Preflight
	}
	return t, ""
}

// first returns the decision of the first rule that selects t.
func (s *Set) first(t *target, p *Principal) Decision {
	if i := s.index.first(t, s.rules); i >= 0 {
		return s.rules[i].decide(t, p)
	}
	return Decision{Reason: reasonNoRule}
}

// A target is a request made ready for selection.
type target struct {
	method, path, preflight string
	host                    host
	client                  netip.Addr
	loose                   bool
	now                     time.Time
}

// selects reports whether t is r's to decide.
func (r *rule) selects(t *target) bool {
	return r.selectsPath(t) && r.selectsMethodOf(t) && r.selectsHost(t) && r.selectsClient(t) && r.selectsLoose(t)
}

func (r *rule) selectsPath(t *target) bool { return !r.namesPath || r.path.Match(t.path) }

func (r *rule) selectsHost(t *target) bool { return !r.namesHost || r.host.match(t.host) }

func (r *rule) selectsClient(t *target) bool {
	return len(r.clients) == 0 || slices.ContainsFunc(r.clients, func(p netip.Prefix) bool { return p.Contains(t.client) })
}

// selectsLoose reports whether r may decide about a path that an application
// could read in another way.
func (r *rule) selectsLoose(t *target) bool { return r.effect != allowAnyone || !t.loose }

func (r *rule) selectsMethodOf(t *target) bool {
	return r.selectsMethod(t.method) || r.passes(t) && r.selectsMethod(t.preflight)
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
		return Decision{Outcome: Allow, Rule: r.label, Reason: reasonPreflight, Preflight: true}
	case r.effect == allowAnyone:
		return Decision{Outcome: Allow, Rule: r.label, Reason: reasonAnyone}
	case r.effect != require:
		return Decision{Rule: r.label, Reason: reasonDenied}
	case p == nil:
		return Decision{Outcome: SignIn, Rule: r.label, Reason: reasonSignIn, Ask: r.needs.ask}
	}
	found := r.needs.judge(t, p)
	switch {
	case found.unmet == "":
		return Decision{Outcome: Allow, Rule: r.label, Reason: reasonMet}
	case found.hard:
		return Decision{Rule: r.label, Reason: found.unmet}
	}
	return Decision{Outcome: StepUp, Rule: r.label, Reason: found.unmet, Ask: found.ask}
}
