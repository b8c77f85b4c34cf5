package proxy

import (
	"net/http"

	"authproxy/identity"
	"authproxy/policy"
)

// An Explained request is one that was not served, but for which it is known
// what would have become of it.
type Explained struct {
	policy.Explanation

	// Own is set for what authproxy answers itself; no rule is asked.
	Own bool
	// Unserved is set for what the rules let through, and no route is for.
	Unserved bool
}

// Explain says what the rules make of r, whoever's credentials it has, if who
// sent it; nil is nobody. It changes and writes nothing. The error is a
// [*page.Error] where r is refused before any rule is asked.
func (p *Proxy) Explain(r *http.Request, who *identity.Who) (Explained, error) {
	if p.isOwn(r) || p.alias(r) != nil {
		return Explained{Own: true}, nil
	}
	o := p.direct(r, faceProxy)
	var err error
	if o.target, err = readTarget(r); err != nil {
		return Explained{}, err
	}
	if err := p.checkHost(&o); err != nil {
		return Explained{}, err
	}
	path, err := p.parsePath(o.target)
	if err != nil {
		return Explained{}, err
	}
	var principal *policy.Principal
	if who != nil && who.Admitted {
		principal = &who.Principal
	}
	request := p.policyRequest(&o, path)
	e := p.Rules.Explain(&request, principal)
	if who != nil && !who.Admitted && e.Outcome == policy.SignIn {
		return Explained{}, p.notAdmitted(&o, who)
	}
	// Without any, it is an ingress that asks.
	unserved := e.Outcome == policy.Allow && len(p.routes) > 0 && p.route(r, path) == nil
	return Explained{Explanation: e, Unserved: unserved}, nil
}
