package proxy

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"authproxy/identity"
	"authproxy/page"
	"authproxy/policy"
)

// A verdict is what the gate found out about a request: who sent it, and what
// the rules say.
type verdict struct {
	who      *identity.Who // nil for nobody, or for somebody who is not admitted
	decision policy.Decision
	path     policy.Path
}

// judge authenticates r and decides. It is the one way to a verdict, whatever
// face the request came through; it changes nothing and writes nothing.
func (p *Proxy) judge(r *http.Request, t target) (verdict, error) {
	if err := p.checkHost(r); err != nil {
		return verdict{}, err
	}
	if isWebSocket(r.Header) && !p.mayOpenWebSocket(r.Header["Origin"]) {
		return verdict{}, &page.Error{Status: http.StatusForbidden, Code: "cross_site",
			Message: "A page of another site wanted to open this WebSocket, so it was not opened.",
			Hint:    "For the operator: websocket.allowed_origins names other sites that may."}
	}
	path, err := p.parsePath(t)
	if err != nil {
		return verdict{}, err
	}
	who, idErr := p.Identity.Identify(r)
	if idErr != nil && !errors.Is(idErr, identity.ErrAnonymous) && !errors.Is(idErr, identity.ErrBearer) {
		return verdict{}, idErr
	}
	v := verdict{who: who, path: path}
	var principal *policy.Principal
	if who != nil && who.Admitted {
		principal = &who.Principal
	}
	request := p.policyRequest(r, path)
	v.decision = p.Rules.Decide(&request, principal)
	if v.decision.Outcome == policy.Allow {
		if principal == nil {
			v.who = nil
		}
		return v, nil
	}
	return v, p.refuse(r, t, v, idErr)
}

// checkHost refuses a host that is nobody's where rules name hosts: whoever
// makes one up would slip past the rules for the real ones.
func (p *Proxy) checkHost(r *http.Request) error {
	if !p.Rules.NamesHost() || p.Hosts.Contains(r.Host) {
		return nil
	}
	return &page.Error{Status: http.StatusForbidden, Code: "unknown_host",
		Message: "This host is not served here.", Hint: "For the operator: public_url and hosts name the hosts that are."}
}

// policyRequest is r as rules see it.
func (p *Proxy) policyRequest(r *http.Request, path policy.Path) policy.Request {
	return policy.Request{
		Method: r.Method, Host: r.Host, Path: path, Preflight: page.Preflight(r.Method, r.Header), ClientIP: p.Trusted.ClientIP(r), Now: p.Now(),
	}
}

// parsePath judges the path where a rule or a route depends on it.
func (p *Proxy) parsePath(t target) (policy.Path, error) {
	if !p.namesPath {
		return policy.Path{}, nil
	}
	path, err := p.Paths.Parse(t.path)
	if err != nil {
		return policy.Path{}, &page.Error{
			Status: http.StatusBadRequest, Code: "ambiguous_path", Err: err,
			Message: "The address of this page could be read in more than one way, so it is not passed on.",
			Hint:    "For the operator: paths.allow lets encoded slashes, semicolons and double slashes pass.",
		}
	}
	return path, nil
}

// refuse returns the answer to a request that is not allowed: the way to
// sign-in where that can help, else 403. A request that brought a bearer token
// is a machine's and is never sent to a page.
func (p *Proxy) refuse(r *http.Request, t target, v verdict, idErr error) error {
	switch {
	case v.decision.Outcome == policy.Deny, v.decision.Outcome == policy.StepUp:
		return p.forbidden(r, t, v)
	case v.who != nil: // signed in, but no longer among those whom sign_in names
		return p.notAdmitted(r, t, v.who)
	}
	signIn := p.signInURL(r, t, nil)
	if errors.Is(idErr, identity.ErrBearer) {
		return &page.Error{Status: http.StatusUnauthorized, Code: "invalid_token", Err: idErr, SignIn: signIn,
			Message: "The bearer token is not accepted here."}
	}
	if page.Navigation(r.Method, r.Header) {
		return &redirectError{location: signIn}
	}
	return &page.Error{Status: http.StatusUnauthorized, SignIn: signIn, Message: "Sign in to continue."}
}

func (p *Proxy) forbidden(r *http.Request, t target, v verdict) error {
	reason := v.decision.Reason
	if strings.HasPrefix(reason, "needs ") {
		reason = "it " + reason
	}
	e := &page.Error{
		Status: http.StatusForbidden, Message: "You may not open this page: " + reason + ".", Rule: v.decision.Rule,
	}
	if v.who != nil {
		e.User = person(v.who)
		e.SwitchAccount = p.signInURL(r, t, url.Values{"prompt": {"select_account"}})
	}
	return e
}

func (p *Proxy) notAdmitted(r *http.Request, t target, who *identity.Who) error {
	return &page.Error{
		Status: http.StatusForbidden, Code: "not_admitted", Title: "This account has no access",
		Message: "You are signed in, but this account may not use the application (any more).",
		User:    person(who), SwitchAccount: p.signInURL(r, t, url.Values{"prompt": {"select_account"}}),
	}
}

// person is what somebody is called on a page.
func person(who *identity.Who) string {
	if who.User.Email != "" {
		return who.User.Email
	}
	return who.User.Name
}

// signInURL returns the absolute URL of the sign-in page that leads back to t.
// Sign-in runs on public_url's host, so from another host of ours the way back
// is an absolute URL.
func (p *Proxy) signInURL(r *http.Request, t target, query url.Values) string {
	if query == nil {
		query = url.Values{}
	}
	rd := t.String()
	if r.Host != p.PublicURL.Host {
		rd = p.scheme(r) + "://" + r.Host + rd
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		rd = "/" // a form's target is no page to come back to
	}
	query.Set("rd", rd)
	u := *p.PublicURL
	u.Path, u.RawQuery = p.Prefix+"/sign-in", query.Encode()
	return u.String()
}

// A redirectError sends a browser to sign-in.
type redirectError struct{ location string }

func (e *redirectError) Error() string { return "sign-in needed" }
