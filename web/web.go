// Package web serves what lies below the prefix: the way in and out, the JSON
// session API, and the keys that verify our tokens.
//
// A sign-in passes through three places. [Server] begins it: it seals what it
// must remember into the state that goes to the provider and into a cookie of
// its own for each sign-in, so that several tabs do not disturb each other. The
// provider sends the browser back to the callback, which proves that this
// browser began this sign-in, and only then talks to the provider. The session
// starts, and the browser goes where it wanted to.
//
//	/sign-in ──> /sign-in/{provider} ──302──> provider ──302──> /callback/{provider} ──302──> the page
//	                   ^                                              │
//	                   └── once, if the flow's cookie did not come back
//
// Nothing else writes a session.
//
// On another host of ours, which the cookies of public_url's do not reach, the
// browser comes back with a ticket instead (see [Outside]): the other host gets
// a copy of the session.
//
//	other host /sign-in ──> public_url /sign-in ──> … ──> public_url /handoff?ask= ──> other host /handoff?ticket= ──> the page
//
// A nonce in a cookie of the other host proves that it is the same browser.
package web

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authproxy/cookie"
	"authproxy/identity"
	"authproxy/oauth"
	"authproxy/page"
	"authproxy/policy"
	"authproxy/session"
	"authproxy/token"
)

// How a page's scripts get our tokens.
const (
	ExposeEndpoint = "token_endpoint" // from /token
	ExposeSession  = "session"        // with /session, too
	ExposeNone     = "none"           // not at all
)

// Config is what a [Server] needs.
type Config struct {
	// Prefix is the path that everything here lies below, such as "/auth".
	Prefix string
	// PublicURL is how browsers reach us; nothing is derived from a request.
	PublicURL *url.URL
	// Hosts are the hosts that are ours; that of PublicURL is one of them.
	Hosts policy.Hosts
	// AfterSignIn and AfterSignOut are where a browser goes that asked for
	// nothing else.
	AfterSignIn, AfterSignOut string

	Providers []*oauth.Provider
	// Credentials are the tokens that upstreams get besides Authorization, as in
	// [identity.Resolver.Credential].
	Credentials []string
	Sessions    *session.Manager
	Identity    *identity.Resolver
	Tokens      *token.Issuer
	Pages       *page.Renderer
	// ExposeTokens says how scripts get our tokens; "" means ExposeEndpoint.
	ExposeTokens string
	// Sealer and Cookies are for the cookies of sign-ins under way. The domain in
	// Cookies is that of the session's cookie; hosts outside it get their sessions
	// by the hand-off.
	Sealer  *cookie.Sealer
	Cookies cookie.Options

	// Needs returns what a sign-in must show so that whoever sends the request may
	// go on to returnTo, a path or an absolute URL; nil if any will do, or if none
	// can help. Nil means that no rule asks for more.
	Needs func(r *http.Request, returnTo string) *policy.Ask
	// Guard keeps the applications' own cookies with their person; nil means that
	// none are kept apart.
	Guard *cookie.Guard
	// SessionClaims are the mapped claims that GET /session tells.
	SessionClaims []string

	// OriginalURL returns the host and the target of the request for which an
	// ingress sends a browser's request here, if the ingress is trusted and says
	// so. Nil means that none is.
	OriginalURL func(*http.Request) (host, target string, ok bool)
	// OAuth2Proxy has the endpoints of oauth2-proxy answered, too.
	OAuth2Proxy bool
	// ClientIP returns the address a request comes from.
	ClientIP func(*http.Request) string
	// Log takes sign-ins, failures and sign-outs as audit events.
	Log *slog.Logger
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
	// Registerer takes the metrics; nil means none are published.
	Registerer prometheus.Registerer
}

// A Server answers requests below the prefix. It is safe for concurrent use.
type Server struct {
	Config
	mux       *http.ServeMux
	providers map[string]*oauth.Provider
	flows     *flows                 // sign-ins under way
	handoffs  *flows                 // hand-offs under way
	logouts   *usedFlows             // logout tokens that were used
	failures  *keptOfFailures        // in the session store
	outside   func(host string) bool // see [Outside]
	metrics   *metrics
}

// New returns the Server of c.
func New(c Config) (*Server, error) {
	if len(c.Providers) == 0 {
		return nil, errors.New("web: at least one provider is required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	flows, err := newFlows(flowCookie, c.Sealer, c.Cookies, c.Now)
	if err != nil {
		return nil, err
	}
	handoffs, err := newFlows(handoffCookie, c.Sealer, c.Cookies, c.Now)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Config: c, providers: map[string]*oauth.Provider{}, flows: flows, handoffs: handoffs, logouts: newUsedFlows(), failures: newKeptOfFailures(),
		outside: Outside(c.Hosts, c.PublicURL, c.Cookies.Domain), metrics: newMetrics(c.Registerer),
	}
	for _, p := range c.Providers {
		s.providers[p.ID()] = p
	}
	for _, target := range []string{c.AfterSignIn, c.AfterSignOut} {
		if !s.isReturnURL(target) {
			return nil, errors.New("web: redirects.after_sign_in and redirects.after_sign_out must be a path, or a URL of one of our hosts")
		}
	}
	return s, s.routes()
}

// routes is everything below the prefix.
func (s *Server) routes() error {
	s.mux = http.NewServeMux()
	for pattern, handler := range map[string]page.HandlerFunc{
		"GET /sign-in":             s.signIn,
		"GET /sign-in/{provider}":  s.signInAt,
		"POST /sign-in/social":     s.sameOrigin(s.signInSocial),
		"GET /callback/{provider}": s.callback,
		// From the provider's site; the state is its proof.
		"POST /callback/{provider}": s.callbackForm,
		"GET /handoff":              s.handOff,
		// From the provider; the signature of what it posts is its proof.
		"POST /backchannel-logout/{provider}": s.backchannelLogout,

		"GET /sign-out":  s.askSignOut,
		"POST /sign-out": s.sameOrigin(s.signOut),

		"GET /session":          s.getSession,
		"POST /session":         s.sameOrigin(s.extendSession),
		"GET /sessions":         s.listSessions,
		"DELETE /sessions":      s.sameOrigin(s.revokeSessions),
		"DELETE /sessions/{id}": s.sameOrigin(s.revokeSession),
		"GET /account":          s.account,
		"POST /account":         s.sameOrigin(s.changeAccount),
		"GET /userinfo":         s.userinfo,
		"GET /token":            s.token,
		"GET /providers":        s.listProviders,

		"GET /jwks":                             s.jwks,
		"GET /.well-known/jwks.json":            s.jwks,
		"GET /.well-known/openid-configuration": s.metadata,
	} {
		method, local, _ := strings.Cut(pattern, " ")
		s.mux.Handle(method+" "+s.Prefix+local, s.Pages.Handler(handler))
	}
	for name, contentType := range clientTypes() {
		handler, err := clientFile(name, contentType)
		if err != nil {
			return err
		}
		s.mux.Handle("GET "+s.Prefix+"/"+name, s.Pages.Handler(handler))
	}
	if s.OAuth2Proxy {
		s.aliases()
	}
	// With "/static/" the mux would redirect "/static".
	s.mux.Handle("GET "+s.Prefix+"/static/{file}", http.StripPrefix(s.Prefix, s.Pages.Static()))
	return nil
}

// ServeHTTP answers r, whose path lies below the prefix. What is not a route is
// 404: it must not reach the application.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isPlain(r.URL) {
		s.Pages.Error(w, r, &page.Error{Status: http.StatusNotFound})
		return
	}
	if back, ok := s.fromIngress(r); ok {
		s.Pages.Handler(func(w http.ResponseWriter, r *http.Request) error { return s.signInFor(w, r, back) }).ServeHTTP(w, r)
		return
	}
	if _, pattern := s.mux.Handler(r); pattern == "" {
		s.Pages.Error(w, r, s.noRoute(w, r))
		return
	}
	s.mux.ServeHTTP(w, r)
}

// isPlain says whether the path of u is spelled as the paths of our pages are.
// The mux would answer an unclean one with a redirect.
func isPlain(u *url.URL) bool { return u.RawPath == "" && path.Clean(u.Path) == u.Path }

// noRoute tells a wrong method from a wrong path.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request) error {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete} {
		probe := *r
		probe.Method = method
		if _, pattern := s.mux.Handler(&probe); pattern != "" {
			allow = append(allow, method)
		}
	}
	if len(allow) == 0 {
		return &page.Error{Status: http.StatusNotFound}
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return &page.Error{Status: http.StatusMethodNotAllowed}
}

// absolute returns the URL of a path below the prefix, as browsers reach it.
func (s *Server) absolute(p string, query url.Values) string { return s.on(s.PublicURL.Host, p, query) }

// on is [Server.absolute] on another host.
func (s *Server) on(host, p string, query url.Values) string {
	u := *s.PublicURL
	u.Host, u.Path, u.RawQuery = host, s.Prefix+p, query.Encode()
	return u.String()
}

// SignInURL returns the absolute URL of the sign-in page from which a browser
// returns to rd: on the host of rd if that gets its sessions by the hand-off, else
// on public_url's.
func (s *Server) SignInURL(rd string) string {
	if host, local, ok := s.cutOutside(rd); ok {
		return s.on(host, "/sign-in", url.Values{"rd": {local}})
	}
	return s.absolute("/sign-in", url.Values{"rd": {rd}})
}

// redirect sends the browser to target, byte for byte; no cache may remember
// it. [http.Redirect] would clean the path and the fragment of a target without
// a host: "/a//b" is another page than "/a/b", and "/#/x/../y" another route.
func redirect(w http.ResponseWriter, target string, status int) {
	noStore(w)
	w.Header().Set("Location", target)
	w.WriteHeader(status)
}

// noStore keeps an answer out of every cache.
func noStore(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	if !slices.Contains(w.Header()["Vary"], "Cookie") {
		w.Header().Add("Vary", "Cookie")
	}
}

// wantsJSON says whether the answer to an API call by form or script is JSON:
// it is unless a page asked.
func wantsJSON(r *http.Request) bool { return !page.WantsHTML(r.Method, r.Header) }
