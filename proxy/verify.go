package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"authproxy/identity"
	"authproxy/page"
)

// A dialect is a convention by which an ingress asks over HTTP. Each reads the
// original from one family of headers and never from another: every ingress
// hands the families that it does not set on from the client, so that a fallback
// would let the client choose what is decided about (CVE-2026-40575).
type dialect struct {
	face string
	// read returns method, scheme, host and target of the original that r asks
	// about. rest is what follows the endpoint in r's target.
	read func(r *http.Request, rest string) (original, error)
	// redirects says whether the ingress hands a redirect on to the browser.
	redirects bool
}

// dialect returns the dialect of r's endpoint and what follows it, by r's target
// as it came: Envoy appends the original's, which nobody must clean.
func (p *Proxy) dialect(r *http.Request) (d dialect, rest string, ok bool) {
	raw := r.RequestURI
	if !strings.HasPrefix(raw, "/") {
		raw = withoutAuthority(raw, r.URL.Scheme)
	}
	if endpoint, _, _ := strings.Cut(raw, "?"); p.OAuth2Proxy && endpoint == oauth2Prefix+"/auth" {
		return p.oauth2Dialect(), "", true
	}
	local, ok := strings.CutPrefix(raw, p.Prefix+"/verify/")
	if !ok {
		return dialect{}, "", false
	}
	if rest, ok := strings.CutPrefix(local, "envoy"); ok && (rest == "" || rest[0] == '/' || rest[0] == '?') {
		return dialect{faceEnvoy, readEnvoy, true}, rest, true
	}
	switch endpoint, _, _ := strings.Cut(local, "?"); endpoint {
	case faceNginx:
		return dialect{faceNginx, readNginx, false}, "", true
	case faceForward:
		return dialect{faceForward, readForward, true}, "", true
	}
	return dialect{}, "", false
}

// readNginx reads what nginx and ingress-nginx are told to send.
func readNginx(r *http.Request, _ string) (o original, err error) {
	raw, err := single(r.Header, "X-Original-Url")
	if err != nil {
		return o, err
	}
	if o.scheme, o.host, o.target, err = parseOriginalURL(raw); err != nil {
		return o, err
	}
	method, err := single(r.Header, "X-Original-Method")
	if err != nil {
		return o, err
	}
	o.method, err = parseMethod(method)
	return o, err
}

// readForward reads what Traefik and Caddy send, and HAProxy is told to.
func readForward(r *http.Request, _ string) (o original, err error) {
	var values [4]string
	for i, name := range []string{"X-Forwarded-Method", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Uri"} {
		if values[i], err = single(r.Header, name); err != nil {
			return o, err
		}
	}
	if o.method, err = parseMethod(values[0]); err != nil {
		return o, err
	}
	if o.scheme, err = parseScheme(values[1]); err != nil {
		return o, err
	}
	o.host = values[2]
	o.target, err = parseOriginalURI(values[3])
	return o, err
}

// readEnvoy reads the request that Envoy sends as it came, below our endpoint.
// Only the scheme has no place in it.
func readEnvoy(r *http.Request, rest string) (o original, err error) {
	scheme, err := single(r.Header, "X-Forwarded-Proto")
	if err != nil {
		return o, err
	}
	if o.scheme, err = parseScheme(scheme); err != nil {
		return o, err
	}
	if o.method, err = parseMethod(r.Method); err != nil {
		return o, err
	}
	o.host = r.Host
	o.target, err = parseTarget(rest)
	return o, err
}

// verify answers an ingress that asks about a request.
func (p *Proxy) verify(w *recorder, r *http.Request, x *exchange, d dialect, rest string) {
	answerAhead(w, r) // the body is the application's
	err := p.ask(r, x, d, rest)
	if err == nil {
		err = p.authorize(w, x)
	}
	if err != nil {
		p.deny(w, x, d.redirects, err)
		return
	}
	p.allow(w.Header(), x)
	w.WriteHeader(http.StatusOK)
}

// ask reads into x the original that r asks about.
func (p *Proxy) ask(r *http.Request, x *exchange, d dialect, rest string) error {
	if d.face != faceOAuth2 && !p.Trusted.Trusts(r) {
		return p.untrusted(x, peer(r).String())
	}
	o, err := d.read(r, rest)
	if err != nil {
		return p.unreadable(x, err)
	}
	o.face, o.header, o.client = d.face, r.Header, p.Trusted.askedClient(r)
	p.checkClient(&o)
	if d.face != faceEnvoy { // whose query is the client's
		o.narrow = parseNarrowing(r.URL.RawQuery)
	}
	o.setRequest(r)
	x.original = o
	return checkMethod(o.method)
}

// untrusted is the answer to an ingress that nobody has named.
func (p *Proxy) untrusted(x *exchange, peer string) error {
	x.reason = "untrusted peer"
	p.complain("untrusted "+x.original.face, "forward auth was refused, because the peer is not trusted to say what the original request is",
		slog.String("face", x.original.face), slog.String("peer", peer), slog.String("remedy", "if this is the ingress, add its address to trusted_proxies"))
	return &page.Error{Status: http.StatusForbidden, Code: "untrusted_peer",
		Message: "Only the ingress may ask here.", Hint: "For the operator: trusted_proxies names the addresses that may."}
}

// unreadable is the answer to an ingress that does not say what is asked.
func (p *Proxy) unreadable(x *exchange, err error) error {
	x.reason = err.Error()
	p.complain("unreadable "+x.original.face, "forward auth was refused, because the ingress does not say what the original request is",
		slog.String("face", x.original.face), slog.Any("err", err), slog.String("remedy", "compare the ingress's settings with "+expectation(x.original.face)))
	return &page.Error{Status: http.StatusForbidden, Code: "unknown_request", Err: err,
		Message: "The ingress did not say which request this is about.", Hint: "For the operator: the log says what is missing."}
}

// checkClient complains of an ingress that does not say whose request it asks
// about, where rules want to know. They refuse it.
func (p *Proxy) checkClient(o *original) {
	if o.client.IsValid() || !p.Rules.NamesClient() {
		return
	}
	p.complain("no client "+o.face, "forward auth is refused, because rules name clients and the ingress does not say whose request it asks about",
		slog.String("face", o.face), slog.String("remedy", "let the ingress set X-Forwarded-For to the client's address, without a port, and name the ingress in trusted_proxies"))
}

// expectation is what a face reads.
func expectation(face string) string {
	switch face {
	case faceNginx:
		return "what is read here: X-Original-URL (scheme, host, path and query) and X-Original-Method, each once"
	case faceForward:
		return "what is read here: X-Forwarded-Method, -Proto, -Host and -Uri, each once"
	case faceEnvoy:
		return "what is read here: the request line below the endpoint, Host, and X-Forwarded-Proto, once"
	}
	return "what is read here: attributes.request.http with method, scheme, host and path"
}

// allow describes in h, the header of a 200, who is there. What an ingress does
// not find here, some take from the client instead (CVE-2026-30851), so that
// every header is there, empty if there is nothing to say.
func (p *Proxy) allow(h http.Header, x *exchange) {
	// All values are in one object, none of which can grow into its neighbour.
	values := make([]string, 0, len(p.identityHeaders)+6)
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	p.tell(x, set)
	if own := x.original.header["Authorization"]; p.Identity.Config.Authorization == identity.AuthorizationPass && len(own) == 1 {
		h["Authorization"] = own
	}
	set("Content-Length", "0")
	keepFromCaches(set)
	if only := p.onlyCookie(x); only != "" {
		h["Set-Cookie"] = []string{only}
	}
}

// keepFromCaches sets the headers of every answer to an ingress: some can be told to
// keep answers, and each is about one person.
func keepFromCaches(set func(name, value string)) {
	set("Cache-Control", "no-store")
	set("X-Accel-Expires", "0") // nginx, before Cache-Control
	set("Vary", "Cookie, Authorization")
}

// tell calls set for each header by which an application learns who is there.
func (p *Proxy) tell(x *exchange, set func(name, value string)) {
	for i, name := range p.identityHeaders {
		value := ""
		if i < len(x.headers) && len(x.headers[i].Value) > 0 {
			value = x.headers[i].Value[0]
		}
		set(name, value)
	}
	value := ""
	if len(x.authorization) > 0 {
		value = x.authorization[0]
	}
	if p.OAuth2Proxy {
		set(accessTokenHeader, p.accessToken(value))
	}
	if p.Identity.Config.Authorization != identity.AuthorizationPass {
		set("Authorization", value)
	}
}

// renewals returns the cookies of ours that the browser does not have yet, none if
// the session has ended since.
func (p *Proxy) renewals(x *exchange) []string {
	if len(x.cookies) == 0 || !p.Sessions.AliveID(x.verdict.who.SessionID) {
		return nil
	}
	return x.cookies
}

// maxSetCookie bounds the one cookie of an allowing answer, in bytes with its
// attributes, as browsers do.
const maxSetCookie = 4096

// onlyCookie returns the cookie for an ingress that hands one on at most (nginx
// before 1.23 takes the first, later ones join them into one that is broken), ""
// if there is none that stands for itself. A part of a cookie would break the
// session, and to leave a renewal out is harmless.
func (p *Proxy) onlyCookie(x *exchange) string {
	only := ""
	for _, line := range p.renewals(x) {
		c, err := http.ParseSetCookie(line)
		switch {
		case err != nil || only != "" && c.MaxAge >= 0:
			return ""
		case c.MaxAge >= 0: // not one that takes a cookie away
			only = line
		}
	}
	if len(only) > maxSetCookie {
		return ""
	}
	return only
}

// deny answers with what the ingress can carry: one that does not redirect
// knows 401 and 403, and makes a failure of everything else.
func (p *Proxy) deny(w http.ResponseWriter, x *exchange, redirects bool, err error) {
	keepFromCaches(w.Header().Set)
	var signIn *redirectError
	if errors.As(err, &signIn) {
		if redirects {
			redirectToSignIn(w, signIn.location)
			return
		}
		err = signIn.otherwise
	}
	e := page.AsError(err)
	if e.Status != http.StatusUnauthorized && e.Status < 500 {
		e.Status = http.StatusForbidden
	}
	p.Pages.Error(w, x.original.request, e)
}

// complaints remembers when each mistake of an operator's was last logged: each
// request would show it anew.
type complaints struct {
	mu   sync.Mutex
	last map[string]time.Time // few, because the keys are constants
}

// complaintInterval is how often one mistake is logged.
const complaintInterval = time.Minute

// complain logs a mistake, called what, unless it was logged a moment ago.
func (p *Proxy) complain(what, message string, attrs ...slog.Attr) {
	c, now := &p.complaints, p.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.last[what]; ok && now.Sub(last) < complaintInterval {
		return
	}
	if c.last == nil {
		c.last = map[string]time.Time{}
	}
	c.last[what] = now
	p.Log.LogAttrs(context.Background(), slog.LevelWarn, message, attrs...)
}
