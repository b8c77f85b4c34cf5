// Package proxy is the data path: it decides about every request and passes the
// allowed ones on to the application.
//
// [Proxy] is an http.Handler. A request below the prefix goes to [Config.Own];
// every other one passes the gate, a straight line of five steps:
//
//	read the target ─> who is it? ─> what do the rules say? ─> note the activity ─> pass it on
//	      400                                302, 401, 403                              502
//
// Where the provider's tokens have to be refreshed, the second and third step
// are done again with what the provider says now.
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
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	// Hosts are the hosts that are ours; that of PublicURL is one of them.
	Hosts policy.Hosts
	// Routes are tried in order; a request that none selects is 404.
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
	Pages      *page.Renderer
	// MaxUpgraded is how long an upgraded connection may live; 0 means as long
	// as the session that it was opened with.
	MaxUpgraded time.Duration
	// AllowedOrigins are origins whose pages may open WebSockets here, besides
	// those of Hosts, as browsers serialize them; "*" stands for all.
	AllowedOrigins []string

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
	routes        []*route
	namesPath     bool      // a rule or a route depends on the path
	identityNames *stripper // what only we may say
	forwarding    *stripper // what only trusted proxies may say
	never         *stripper // both, for a single pass
	transports    []*http.Transport
	lines         linePool
	metrics       *metrics
	open          openSet
	stopWatch     context.CancelFunc
}

// New returns the Proxy of c. Close it to stop its watch over open connections.
func New(c Config) (*Proxy, error) {
	if len(c.Routes) == 0 {
		return nil, errors.New("proxy: at least one route to an upstream is required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Proxy{Config: c, namesPath: c.Rules.NamesPath(), metrics: newMetrics(c.Registerer)}
	strip := append(c.Identity.HeaderNames(), c.Strip...)
	if c.Identity.Config.Authorization != identity.AuthorizationPass {
		strip = append(strip, "Authorization")
	}
	p.identityNames, p.forwarding = newStripper(strip), newStripper(forwardingNames())
	p.never = newStripper(slices.Concat(strip, forwardingNames(), pathNames(), methodNames(c.Rules)))
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

// An exchange is one request on its way through.
type exchange struct {
	target        target
	verdict       verdict
	route         *route
	headers       []identity.Header
	authorization []string
	cookies       []string // of ours, for the final answer
	cancel        context.CancelCauseFunc
	upgraded      atomic.Pointer[upgraded] // nil while it is plain HTTP
}

// ServeHTTP answers r, and logs and counts it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := p.Now()
	p.setRequestID(r)
	rec, x := &recorder{ResponseWriter: w}, &exchange{}
	if p.isOwn(r) {
		defer p.observe(r, rec, x, faceOwn, begun)
		p.Own.ServeHTTP(rec, r)
		return
	}
	// Deferred, because an upstream that breaks off ends in a panic.
	defer p.open.remove(x)
	defer p.observe(r, rec, x, faceProxy, begun)
	if err := p.serve(rec, r, x); err != nil {
		p.answer(rec, r, err)
	}
}

// isOwn says whether r belongs to us. What decodes or cleans to a path of ours
// is ours too, and 404 there: an application must not answer in our place.
func (p *Proxy) isOwn(r *http.Request) bool {
	return p.isBelow(r.URL.Path) || p.isBelow(path.Clean(r.URL.Path))
}

func (p *Proxy) isBelow(decoded string) bool {
	rest, ok := strings.CutPrefix(decoded, p.Prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// serve is the straight line from a request to the upstream's answer.
func (p *Proxy) serve(w *recorder, r *http.Request, x *exchange) (err error) {
	if x.target, err = readTarget(r); err != nil {
		return err
	}
	if x.verdict, err = p.judge(r, x.target); err != nil {
		return err
	}
	if x.route = p.route(r, x.verdict.path); x.route == nil {
		return &page.Error{Status: http.StatusNotFound}
	}
	if p.refresh(r, x.verdict.who) {
		// The person may be in other groups now, or the session over.
		if x.verdict, err = p.judge(r, x.target); err != nil {
			return err
		}
	}
	if err := p.identify(w, r, x); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), exchangeKey{}, x))
	defer cancel(nil)
	x.cancel = func(cause error) {
		if ctx.Err() != nil {
			return // it has ended by itself, and its connection may serve the next request
		}
		cancel(cause)
		// An HTTP/2 transport that waits for more of the request notices no cancel.
		http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // without one the cancel must do
	}
	w.upgrade = func(conn net.Conn) net.Conn { return p.upgrade(x, conn) }
	p.open.add(x)
	x.route.proxy.ServeHTTP(w, r.WithContext(ctx))
	return nil
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
func (p *Proxy) refresh(r *http.Request, who *identity.Who) bool {
	if who == nil || who.Session == nil || isPrefetch(r) {
		return false
	}
	s, err := p.Sessions.Refresh(r.Context(), who.Session)
	return err != nil || s != who.Session
}

// identify notes the activity of a session and prepares what the upstream is
// told.
func (p *Proxy) identify(w http.ResponseWriter, r *http.Request, x *exchange) (err error) {
	who := x.verdict.who
	if who == nil {
		return nil
	}
	if x.headers, err = who.Headers(); err != nil {
		return &page.Error{Status: http.StatusForbidden, Code: "identity_too_large", Err: err,
			Message: "You belong to more groups than the application can be told about.",
			Hint:    "For the operator: " + err.Error()}
	}
	if x.authorization, err = p.Identity.Authorization(who); err != nil {
		return err
	}
	if who.Session == nil || isPrefetch(r) {
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
func isPrefetch(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Sec-Purpose"), "prefetch") || r.Header.Get("Purpose") == "prefetch"
}

// answer is where a refusal becomes a response.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request, err error) {
	var signIn *redirectError
	if errors.As(err, &signIn) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Add("Vary", "Cookie")
		http.Redirect(w, r, signIn.location, http.StatusFound)
		return
	}
	if isGRPC(r.Header) {
		p.answerGRPC(w, r, page.AsError(err))
		return
	}
	p.Pages.Error(w, r, err)
}
