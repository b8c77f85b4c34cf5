// Package proxy is the data path: it decides about every request and passes the
// allowed ones on to the application.
//
// [Proxy] is an http.Handler. A request below the prefix goes to [Config.Own];
// every other one passes the gate, a straight line of five steps:
//
//	read the original ─> who is it? ─> what do the rules say? ─> note the activity ─> pass it on
//	       400                                302, 401, 403                              502
//
// Where the provider's tokens have to be refreshed, the second and third step
// are done again with what the provider says now.
//
// An ingress that passes requests on itself only asks, by forward auth below the
// prefix or by Envoy's ext_authz ([Proxy.ExtAuthz]). Such a face reads the
// original from what the ingress says, and answers instead of passing it on; the
// steps between are the same.
//
// The promise: the upstream gets the request's target byte for byte as the
// rules saw it, and every identity header it sees was written here.
package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authproxy/cookie"
	"authproxy/identity"
	"authproxy/page"
	"authproxy/policy"
	"authproxy/session"
)

// What of the requests is logged.
const (
	LogAll    = "all"
	LogDenied = "denied"
	LogNone   = "none"
)

// Config is what a [Proxy] needs.
type Config struct {
	// Prefix is the path below which Own answers.
	Prefix string
	Own    http.Handler
	// PublicURL is how browsers reach us.
	PublicURL *url.URL
	// SignsInAtHome says whether sign-in for host, one of Hosts, begins below the
	// prefix of that host and not of PublicURL's, because the cookies of the latter
	// do not reach it. Nil means that none does.
	SignsInAtHome func(host string) bool
	// Hosts are the hosts that are ours; that of PublicURL is one of them.
	Hosts policy.Hosts
	// Routes are tried in order; a request that none selects is 404. Without
	// any, requests are only judged for an ingress that asks.
	Routes []Route

	Identity *identity.Resolver
	Sessions *session.Manager
	Rules    *policy.Set
	// Paths says which ambiguous paths pass all the same.
	Paths   policy.PathRules
	Trusted TrustedProxies
	// Strip names headers, with a "*" at the end for a prefix, that no client
	// may send, besides the identity headers themselves.
	Strip []string
	// OwnsCookie says whether a cookie is ours and none of the upstream's
	// business.
	OwnsCookie func(name string) bool
	// Guard keeps the applications' own cookies with their person; nil means that
	// none are kept apart.
	Guard *cookie.Guard
	// Aliases answer at paths of the application in its place.
	Aliases map[string]http.Handler
	Pages   *page.Renderer
	// MaxUpgraded is how long an upgraded connection may live; 0 means as long
	// as the session that it was opened with.
	MaxUpgraded time.Duration
	// AllowedOrigins are origins whose pages may open WebSockets here, besides
	// those of Hosts, as browsers serialize them; "*" stands for all.
	AllowedOrigins []string

	// OAuth2Proxy has the endpoints of oauth2-proxy answered, too. Own answers
	// them, except for /oauth2/auth, which reads the original as Convention says:
	// [ConventionNginx], [ConventionForward], or not at all, if it is empty and no
	// rule needs it.
	OAuth2Proxy bool
	Convention  string

	// AppendHTML is added at the end of the upstreams' pages of HTML, where one
	// fills a window; "" means nothing is.
	AppendHTML string

	// LogRequests is one of LogAll, LogDenied and LogNone.
	LogRequests string
	// AccessLog takes one line of JSON for each request that is to be logged,
	// in one Write; nil means none are.
	AccessLog io.Writer
	// Log takes everything else.
	Log *slog.Logger
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
	// Registerer takes the metrics; nil means none are published.
	Registerer prometheus.Registerer
}

// A Proxy answers all requests of the public listener. It is safe for
// concurrent use.
type Proxy struct {
	Config
	routes          []*route
	namesPath       bool      // a rule or a route depends on the path
	signInPage      string    // its address, without a query
	identityHeaders []string  // in the order in which [identity.Who.Headers] has them
	identityNames   *stripper // what only we may say
	forwarding      *stripper // what only trusted proxies may say
	paths           *stripper // what may tell an application of another path
	methods         *stripper // what may tell it of another method, where rules name any
	never           *stripper // all three, for a single pass
	neverTrailers   *stripper // what may not come at the end of a request either
	transports      []*http.Transport
	lines           linePool
	metrics         *metrics
	open            openSet
	closeGrace      time.Duration // the constant of that name, except in tests
	complaints      complaints
	stopWatch       context.CancelFunc
}

// New returns the Proxy of c. Close it to stop its watch over open connections.
func New(c Config) (*Proxy, error) {
	if c.OAuth2Proxy && c.Convention == "" && (c.Rules.NamesHost() || c.Rules.NamesPath() || c.Rules.NamesMethod()) {
		return nil, errors.New("proxy: rules or their conditions name a host, a path or methods, or let preflights pass, and no convention (compat.convention) says where /oauth2/auth finds them")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Proxy{Config: c, namesPath: c.Rules.NamesPath(), metrics: newMetrics(c.Registerer), closeGrace: closeGrace}
	p.signInPage = signInPage(c.PublicURL, c.PublicURL.Host, c.Prefix)
	p.identityHeaders = c.Identity.HeaderNames()
	strip := slices.Concat(c.Identity.HeaderNames(), extraNames(c.Routes), c.Strip)
	if c.Identity.Config.Authorization != identity.AuthorizationPass {
		strip = append(strip, "Authorization")
	}
	if c.OAuth2Proxy {
		strip = append(strip, accessTokenHeader)
	}
	p.identityNames, p.forwarding = newStripper(strip), newStripper(forwardingNames())
	p.paths = newStripper(append(pathNames(), methodNames(c.Rules)...))
	p.methods = newStripper(methodNames(c.Rules))
	p.never = newStripper(slices.Concat(strip, forwardingNames(), pathNames(), methodNames(c.Rules)))
	p.neverTrailers = newStripper(slices.Concat(strip, forwardingNames(), pathNames(), overrideNames(), []string{"Host", "Cookie", requestID}))
	for _, r := range c.Routes {
		route, err := p.newRoute(r)
		if err != nil {
			return nil, err
		}
		p.namesPath = p.namesPath || !route.anyP
		p.routes = append(p.routes, route)
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stopWatch = stop
	go p.watch(ctx)
	return p, nil
}

// Close closes the idle connections to the upstreams and stops the watch over
// open connections.
func (p *Proxy) Close() {
	p.stopWatch()
	for _, t := range p.transports {
		t.CloseIdleConnections()
	}
}

// An exchange is one request on its way through. Once it is let through, it is the
// context of its upstream's work as well, so that a request makes one object less.
type exchange struct {
	context.Context
	original      original
	verdict       verdict
	route         *route
	headers       []identity.Header
	authorization []string
	cookies       []string // of ours, for the final answer
	extra         extra    // for the route's upstream alone
	client        http.ResponseWriter
	body          *passing // the client's, nil if there is none
	stop          context.CancelCauseFunc
	ending        sync.Mutex               // held while it ends or is cancelled
	unreadable    bool                     // nothing more of the request can be read; ending is held
	upgraded      atomic.Pointer[upgraded] // nil while it is plain HTTP
	reason        string                   // why an ingress got no decision, for the log
}

// ServeHTTP answers r, and logs and counts it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := p.Now()
	p.nameRequest(r.Header, len(r.Header[requestID]) > 0 && p.Trusted.Trusts(r))
	rec, x := &recorder{ResponseWriter: w, http10: !r.ProtoAtLeast(1, 1)}, &exchange{}
	// Deferred, because an upstream that breaks off ends in a panic.
	defer p.observe(rec, x, begun)
	if p.isOwn(r) {
		p.serveOwn(rec, r, x)
		return
	}
	if alias := p.alias(r); alias != nil {
		x.original = p.direct(r, faceOwn)
		alias.ServeHTTP(rec, r)
		return
	}
	x.original = p.direct(r, faceProxy)
	defer p.open.remove(x)
	if err := p.serve(rec, r, x); err != nil {
		if r.ContentLength < 0 { // else the body is waited for, which is not long, and the connection stays
			answerAhead(rec, r)
		}
		p.answer(rec, r, err)
	}
}

// serveOwn answers what lies below the prefix.
func (p *Proxy) serveOwn(w *recorder, r *http.Request, x *exchange) {
	if d, rest, ok := p.dialect(r); ok {
		x.original = p.direct(r, d.face)
		p.verify(w, r, x, d, rest)
		return
	}
	x.original = p.direct(r, faceOwn)
	p.Own.ServeHTTP(w, r)
}

// isOwn says whether r belongs to us. What decodes or cleans to a path of ours
// is ours too, and 404 there: an application must not answer in our place.
func (p *Proxy) isOwn(r *http.Request) bool {
	return p.isOurs(r.URL.Path) || p.isOurs(path.Clean(r.URL.Path))
}

// alias returns what answers r in the place of the application, nil for most.
func (p *Proxy) alias(r *http.Request) http.Handler {
	if r.URL.RawPath != "" {
		return nil
	}
	return p.Aliases[r.URL.Path]
}

// isOurs says whether a path is one of ours, and none of an application's.
func (p *Proxy) isOurs(decoded string) bool {
	return isBelow(decoded, p.Prefix) || p.OAuth2Proxy && (isBelow(decoded, oauth2Prefix) || decoded == "/ping" || decoded == "/ready")
}

func isBelow(decoded, prefix string) bool {
	rest, ok := strings.CutPrefix(decoded, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// serve is the straight line from a request to the upstream's answer.
func (p *Proxy) serve(w *recorder, r *http.Request, x *exchange) (err error) {
	if len(p.routes) == 0 {
		return &page.Error{Status: http.StatusNotFound, Message: "There is no application at this address.",
			Hint: "For the operator: without upstream and routes, authproxy only answers the ingress that asks; set upstream to have requests passed on."}
	}
	if x.original.target, err = readTarget(r); err != nil {
		return err
	}
	if err := p.authorize(w, x); err != nil {
		return err
	}
	if x.route = p.route(r, x.verdict.path); x.route == nil {
		return &page.Error{Status: http.StatusNotFound}
	}
	if x.extra, err = x.route.extras.of(p, x); err != nil {
		return err
	}
	x.client = w
	x.Context, x.stop = context.WithCancelCause(r.Context())
	defer x.finish()
	w.upgrade = func(conn net.Conn) net.Conn { return p.upgrade(x, conn, isWebSocket(r.Header)) }
	p.open.add(x)
	in := r.WithContext(x)
	if r.ContentLength != 0 {
		x.body = &passing{ReadCloser: r.Body}
		in.Body = x.body
	}
	x.route.proxy.ServeHTTP(w, in)
	x.leave(w)
	return nil
}

// authorize is what the faces have in common: whether the original in x is
// allowed, by whom, and what the application is to be told. Its error is the
// answer to one that is not. A renewed cookie is left in x.
func (p *Proxy) authorize(w http.ResponseWriter, x *exchange) (err error) {
	o := &x.original
	x.verdict, err = p.judge(o)
	if err != nil && !p.dependsOnWho(o, x.verdict) {
		return err
	}
	if p.refresh(o, x.verdict.who) {
		// The person may be in other groups now, or the session over.
		x.verdict, err = p.judge(o)
	}
	if err != nil {
		return err
	}
	return p.identify(w, x)
}

// dependsOnWho says whether somebody may be let through where v refuses, so that
// the one of v might be, too, as the provider describes them now. Otherwise whoever
// was given a group would be refused for as long as they open nothing else.
func (p *Proxy) dependsOnWho(o *original, v verdict) bool {
	request := p.policyRequest(o, v.path)
	return p.decide(o, &request, nil).Outcome != policy.Deny
}

// Value implements [context.Context].
func (x *exchange) Value(key any) any {
	if _, ok := key.(exchangeKey); ok {
		return x
	}
	return x.Context.Value(key)
}

// finish notes that x has ended by itself.
func (x *exchange) finish() {
	x.ending.Lock()
	defer x.ending.Unlock()
	x.stop(nil)
}

// cancel stops an exchange that was let through and has not ended by itself: then
// its connection may serve the next request.
func (x *exchange) cancel(cause error) {
	x.ending.Lock() // so that it does not end by itself before the deadline is set
	defer x.ending.Unlock()
	if x.Err() != nil {
		return
	}
	x.stop(cause)
	if x.original.request.Body == http.NoBody {
		return
	}
	// An HTTP/2 transport that waits for more of the request notices no cancel.
	x.unreadable = http.NewResponseController(x.client).SetReadDeadline(time.Unix(1, 0)) == nil // without one the cancel must do
}

// spoiled says whether the client's connection must serve no other request, after
// an answer that begins now. With HTTP/1 what cannot be read any more is the
// connection, and [http.Server] cancels all requests that come on it later. And if
// it were to be kept before the body was read, the server would throw away up to
// 256 KB that the upstream is still to get.
func (x *exchange) spoiled() bool {
	x.ending.Lock()
	defer x.ending.Unlock()
	return x.original.request.ProtoMajor == 1 && (x.unreadable || x.body != nil && !x.body.ended.Load())
}

// leave ends x, and gives up the client's connection if it is spoiled and the
// answer, which the upstream completed at the same moment, does not say so.
func (x *exchange) leave(w http.ResponseWriter) {
	x.finish() // from now on nothing spoils the connection
	if x.spoiled() && x.upgraded.Load() == nil && w.Header().Get("Connection") != "close" {
		http.NewResponseController(w).Flush() // all of an answer whose length is known
		panic(http.ErrAbortHandler)
	}
}

// A passing is the body of a request on its way to the upstream.
type passing struct {
	io.ReadCloser
	ended atomic.Bool // all of it was read
}

func (b *passing) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

// answerAhead lets the answer to r come before its body, which nobody reads. To keep
// the connection, the server would wait for the body, however long that takes. In
// full duplex it would not, but then it panics on the next request, and takes for one
// what follows a chunk that is broken.
func answerAhead(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 && r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// route returns the first route that selects r, nil if there is none.
func (p *Proxy) route(r *http.Request, path policy.Path) *route {
	for _, route := range p.routes {
		if route.selects(r.Host, path) {
			return route
		}
	}
	return nil
}

// refresh renews the provider's tokens of who's session where that is due. It
// says whether anything has changed, so that the verdict is out of date.
func (p *Proxy) refresh(o *original, who *identity.Who) bool {
	if who == nil || who.Session == nil {
		return false
	}
	// A prefetch, too, though it is no activity: any client can call itself one, and
	// would keep its groups, and a session that the provider has ended.
	s, err := p.Sessions.Refresh(o.request.Context(), who.Session)
	return err != nil || s != who.Session
}

// identify notes the activity of a session and prepares what the upstream is
// told.
func (p *Proxy) identify(w http.ResponseWriter, x *exchange) (err error) {
	who, r := x.verdict.who, x.original.request
	if who == nil {
		return nil
	}
	if x.headers, err = who.Headers(); err != nil {
		return p.tooLarge(&x.original, who, "You belong to more groups than the application can be told about.", err)
	}
	if x.authorization, err = p.Identity.Authorization(who); err != nil {
		return err
	}
	if who.Session == nil || isPrefetch(r.Header) {
		return nil
	}
	_, err = p.Sessions.Touch(w, r, who.Session)
	if errors.Is(err, session.ErrNone) { // it ended since it was looked up
		return p.sessionOver()
	}
	if err != nil {
		p.Log.WarnContext(r.Context(), "the session cookie could not be renewed; the session goes on", "err", err)
	}
	// Kept aside: with an announcement (1xx) before the answer, ReverseProxy
	// sends and then clears all headers.
	x.cookies = w.Header()["Set-Cookie"]
	w.Header().Del("Set-Cookie")
	return nil
}

// sessionOver is the answer to a request whose session ended while it was under
// way.
func (p *Proxy) sessionOver() error {
	return &page.Error{Status: http.StatusUnauthorized, Err: errSessionOver, Message: "Your session has ended. Sign in to continue."}
}

// isPrefetch says whether a browser asks for a page that nobody has opened yet:
// that is no activity.
func isPrefetch(h http.Header) bool {
	return strings.Contains(h.Get("Sec-Purpose"), "prefetch") || h.Get("Purpose") == "prefetch"
}

// answer is where a refusal becomes a response.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request, err error) {
	var signIn *redirectError
	if errors.As(err, &signIn) {
		redirectToSignIn(w, signIn.location)
		return
	}
	if isGRPC(r.Header) {
		p.answerGRPC(w, r, page.AsError(err))
		return
	}
	p.Pages.Error(w, r, err)
}

// redirectToSignIn sends a browser to location, and no cache may remember it.
func redirectToSignIn(w http.ResponseWriter, location string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Vary", "Cookie, Authorization")
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusFound)
}
