package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

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

// person returns the id of who sent the request, "" for nobody.
func (v *verdict) person() string {
	if v.who == nil {
		return ""
	}
	return v.who.User.ID
}

// judge authenticates o and decides. It is the one way to a verdict, whatever
// face the request came through; it changes nothing and writes nothing.
func (p *Proxy) judge(o *original) (verdict, error) {
	if err := p.checkHost(o); err != nil {
		return verdict{}, err
	}
	if opensWebSocket(o.header) && !p.mayOpenWebSocket(o.header["Origin"]) {
		return verdict{}, &page.Error{Status: http.StatusForbidden, Code: "cross_site",
			Message: "A page of another site wanted to open this WebSocket, so it was not opened.",
			Hint:    "For the operator: websocket.allowed_origins names other sites that may."}
	}
	path, err := p.parsePath(o.target)
	if err != nil {
		return verdict{}, err
	}
	who, idErr := p.Identity.Identify(o.request)
	if idErr != nil && !errors.Is(idErr, identity.ErrAnonymous) && !errors.Is(idErr, identity.ErrBearer) {
		return verdict{}, unavailable(idErr)
	}
	v := verdict{who: who, path: path}
	var principal *policy.Principal
	if who != nil && who.Admitted {
		principal = &who.Principal
	}
	request := p.policyRequest(o, path)
	v.decision = p.decide(o, &request, principal)
	if !v.decision.Preflight { // one that passes brings no credentials, so there is nobody to ask about
		v.decision = o.narrow.apply(v.decision, principal)
	}
	if v.decision.Outcome == policy.Allow {
		if principal == nil {
			v.who = nil
		}
		return v, nil
	}
	return v, p.refuse(o, v, idErr)
}

// decide is what the rules say about request, which is o's. An ingress that asks over
// HTTP hands on the headers by which some applications take another method than the
// request's own; there both have to be allowed. Elsewhere they are taken out.
func (p *Proxy) decide(o *original, request *policy.Request, principal *policy.Principal) policy.Decision {
	d := p.Rules.Decide(request, principal)
	if d.Outcome != policy.Allow || !o.asked() || o.face == faceGRPC || !p.Rules.NamesMethod() {
		return d
	}
	for name, values := range o.header {
		if !p.methods.matches(name) || len(values) == 1 && values[0] == "" {
			continue
		}
		as := *request
		as.Method = strings.ToUpper(strings.TrimSpace(strings.Join(values, ","))) // as frameworks read it
		if other := p.Rules.Decide(&as, principal); other.Outcome != policy.Allow {
			return other
		}
	}
	return d
}

// unavailable is the answer where it cannot be found out who is there: neither
// let in nor signed out.
func unavailable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &page.Error{Status: http.StatusServiceUnavailable, Code: "sessions_unavailable", Err: err, RetryAfter: 5 * time.Second,
		Message: "Sessions cannot be looked up at the moment. Whoever is signed in stays signed in."}
}

// checkHost refuses a host that is nobody's where rules name hosts: whoever
// makes one up would slip past the rules for the real ones. An ingress that asks
// about a strange one is not ours.
func (p *Proxy) checkHost(o *original) error {
	if !p.Rules.NamesHost() && !o.asked() || p.Hosts.Contains(o.host) {
		return nil
	}
	return &page.Error{Status: http.StatusForbidden, Code: "unknown_host",
		Message: "This host is not served here.", Hint: "For the operator: public_url and hosts name the hosts that are."}
}

// policyRequest is o as rules see it.
func (p *Proxy) policyRequest(o *original, path policy.Path) policy.Request {
	return policy.Request{
		Method: o.method, Host: o.host, Path: path, Preflight: page.Preflight(o.method, o.header), ClientIP: o.client, Now: p.Now(),
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
func (p *Proxy) refuse(o *original, v verdict, idErr error) error {
	stepUp := v.decision.Outcome == policy.StepUp
	switch {
	case v.decision.Outcome == policy.Deny:
		return p.forbidden(o, v)
	case v.who != nil && !stepUp: // signed in, but no longer among those whom sign_in names
		return p.notAdmitted(o, v.who)
	case o.asked() && p.isOurs(o.request.URL.Path):
		return p.ownPage(o)
	}
	signIn := p.signInURL(o, askQuery(v.decision.Ask))
	if stepUp {
		return p.stepUp(o, v, signIn)
	}
	if errors.Is(idErr, identity.ErrBearer) {
		return &page.Error{Status: http.StatusUnauthorized, Code: "invalid_token", Err: idErr, SignIn: signIn,
			Message: "The bearer token is not accepted here."}
	}
	if page.Navigation(o.method, o.header) && !isFramed(o.header) {
		return &redirectError{location: signIn, otherwise: unauthenticated(signIn)}
	}
	return unauthenticated(signIn)
}

// stepUp is the answer to somebody who lacks nothing but a sign-in of another
// class, by other means or less long ago: a browser goes to the page where that
// is done and comes back, everything else is told what to ask for (RFC 9470).
func (p *Proxy) stepUp(o *original, v verdict, signIn string) error {
	e := &page.Error{
		Status: http.StatusUnauthorized, Code: "insufficient_user_authentication", Title: "This page needs another sign-in",
		Message: "You are signed in, but not in the way that this page asks for: " + sentence(v.decision.Reason) + ".",
		Rule:    v.decision.Rule, User: person(v.who), SignIn: signIn, Challenge: challenge(v.decision.Ask),
	}
	if v.who.Session != nil && page.Navigation(o.method, o.header) && !isFramed(o.header) {
		return &redirectError{location: signIn, otherwise: e}
	}
	return e
}

// challenge returns the parameters of WWW-Authenticate that say what a sign-in
// must show (RFC 9470, section 3). There is none for the means.
func challenge(a *policy.Ask) string {
	params := []string{`error_description="another sign-in is needed"`}
	q := a.Query()
	for _, name := range []string{"acr_values", "max_age"} {
		if v := q.Get(name); v != "" && !strings.ContainsAny(v, "\"\\") && isASCII(v) {
			params = append(params, name+`="`+v+`"`)
		}
	}
	return strings.Join(params, ", ")
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// Needs returns what a sign-in must show so that whoever sends r may go on to
// returnTo, a path on public_url's host or an absolute URL: nil if any will do,
// and if none can help. It is the rules' answer to a GET.
func (p *Proxy) Needs(r *http.Request, returnTo string) *policy.Ask {
	o := p.direct(r, faceOwn)
	o.method, o.host = http.MethodGet, p.PublicURL.Host
	returnTo, _, _ = strings.Cut(returnTo, "#")
	var err error
	if strings.HasPrefix(returnTo, "/") {
		o.target, err = parseTarget(returnTo)
	} else {
		_, o.host, o.target, err = parseOriginalURL(returnTo)
	}
	if err != nil || p.checkHost(&o) != nil {
		return nil
	}
	path, err := p.parsePath(o.target)
	if err != nil || p.isOurs(path.Decoded) { // no rule is asked about ours
		return nil
	}
	var principal *policy.Principal
	if who, err := p.Identity.Identify(r); err == nil && who.Admitted {
		principal = &who.Principal
	}
	request := p.policyRequest(&o, path)
	request.Preflight = ""
	d := p.Rules.Decide(&request, principal)
	if d.Outcome != policy.StepUp && d.Outcome != policy.SignIn {
		return nil
	}
	return d.Ask
}

// unauthenticated tells who is not signed in where to do that.
func unauthenticated(signIn string) error {
	return &page.Error{Status: http.StatusUnauthorized, SignIn: signIn, Message: "Sign in to continue."}
}

// isFramed says whether a page is to fill a frame. No provider lets its sign-in
// page be shown in one.
func isFramed(h http.Header) bool {
	switch h.Get("Sec-Fetch-Dest") {
	case "iframe", "frame", "embed", "object":
		return true
	}
	return false
}

// ownPage is the answer to an ingress that asks about one of our own pages: to
// send the browser to sign-in from there would be a circle.
func (p *Proxy) ownPage(o *original) error {
	p.complain("own page", "forward auth was asked about a page of authproxy's own, which would send browsers round in circles",
		slog.String("face", o.face), slog.String("remedy", "let the ingress pass "+p.Prefix+"/ to authproxy without asking"))
	return &page.Error{Status: http.StatusForbidden, Code: "own_page", Message: "The sign-in pages cannot be reached here.",
		Hint: "For the operator: the ingress must pass " + p.Prefix + "/ to authproxy without asking."}
}

func (p *Proxy) forbidden(o *original, v verdict) error {
	return p.refusalOf(o, v.who, &page.Error{
		Status: http.StatusForbidden, Message: "You may not open this page: " + sentence(v.decision.Reason) + ".", Rule: v.decision.Rule,
	})
}

// tooLarge is the answer where who cannot be described to the application.
func (p *Proxy) tooLarge(o *original, who *identity.Who, message string, err error) error {
	return p.refusalOf(o, who, &page.Error{
		Status: http.StatusForbidden, Code: "identity_too_large", Err: err, Message: message, Hint: "For the operator: " + err.Error(),
	})
}

// refusalOf is e, which says who is refused, unless that is nobody, and offers
// another account.
func (p *Proxy) refusalOf(o *original, who *identity.Who, e *page.Error) error {
	if who != nil {
		e.User, e.SwitchAccount = person(who), p.switchAccount(o)
	}
	return e
}

// sentence is the reason of a decision as part of a sentence about a page.
func sentence(reason string) string {
	if strings.HasPrefix(reason, "needs ") {
		return "it " + reason
	}
	return reason
}

func (p *Proxy) notAdmitted(o *original, who *identity.Who) error {
	return p.refusalOf(o, who, &page.Error{
		Status: http.StatusForbidden, Code: "not_admitted", Title: "This account has no access",
		Message: "You are signed in, but this account may not use the application (any more).",
	})
}

// person is what somebody is called on a page.
func person(who *identity.Who) string {
	if who.User.Email != "" {
		return who.User.Email
	}
	return who.User.Name
}

// switchAccount is where somebody goes who wants to sign in as somebody else.
func (p *Proxy) switchAccount(o *original) string {
	return p.signInURL(o, "prompt=select_account&")
}

// signInURL returns the absolute URL of the sign-in page that leads back to o.
// Sign-in runs on public_url's host, so from another host of ours the way back
// is an absolute URL, with public_url's scheme: behind who ends TLS, the request's may
// be another one than the browser's. query comes first in the URL's and ends with "&", if it is
// not empty.
func (p *Proxy) signInURL(o *original, query string) string {
	rd, at := o.target.String(), p.signInPage
	if o.method != http.MethodGet && o.method != http.MethodHead {
		rd = "/" // a form's target is no page to come back to
	}
	switch {
	case p.SignsInAtHome != nil && p.SignsInAtHome(o.host):
		at = signInPage(p.PublicURL, o.host, p.Prefix) // it gets its session by the hand-off, and begins that itself
	case o.host != p.PublicURL.Host:
		rd = p.PublicURL.Scheme + "://" + o.host + rd
	}
	return at + "?" + query + "rd=" + url.QueryEscape(rd)
}

// askQuery is the query of a, for [Proxy.signInURL].
func askQuery(a *policy.Ask) string {
	if query := a.Query().Encode(); query != "" {
		return query + "&"
	}
	return ""
}

// signInPage returns the address of the sign-in page on host, without a query.
func signInPage(public *url.URL, host, prefix string) string {
	u := *public
	u.Host, u.Path, u.RawQuery = host, prefix+"/sign-in", ""
	return u.String()
}

// A redirectError sends a browser to sign-in. Otherwise is the answer of a face
// that does not redirect.
type redirectError struct {
	location  string
	otherwise error
}

func (e *redirectError) Error() string { return "sign-in needed" }
