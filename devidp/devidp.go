// Package devidp is a small OpenID provider for `authproxy demo` and for
// tests. It is never for production: it asks for no password, so whoever
// reaches it may be any of its users. [New] therefore refuses an issuer that is
// not on loopback, and a [Server] answers only requests that name a loopback
// host (a web page elsewhere cannot reach it by rebinding its own DNS name).
//
// Within that it is a real provider: the authorization code flow with PKCE
// (RFC 6749, RFC 7636), ID tokens signed with keys that can be rotated,
// userinfo, rotating refresh tokens, revocation (RFC 7009), RP-initiated
// logout, and the issuer in authorization responses (RFC 9207). What it says
// in its discovery document is what it does.
//
// Most callers need [New] and [DemoUsers]; tests add [Server.SetFaults], which
// makes it lie or fail in one named way, and [Server.Requests].
//
//	GET /authorize ── the page, or straight on ──> code (60 s, one use)
//	POST /token ── code + PKCE ──> access, ID and refresh token
//	POST /token ── refresh token ──> the same again; the old one is dead
//
// Everything issued for one sign-in belongs to one grant. Using a code or a
// refresh token a second time revokes the grant, and with it all its tokens.
package devidp

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// How long things live, and how many of them are kept. The limits only have to
// be out of reach of a demo and of a test; they exist so that memory is bounded.
const (
	codeLifetime    = time.Minute
	codeMemory      = 10 * time.Minute // a code is remembered this long, to notice its second use
	idTokenLifetime = time.Hour
	refreshLifetime = 30 * 24 * time.Hour
	sessionLifetime = 24 * time.Hour

	maxSessions = 1024
	maxTokens   = 8192
	maxRequests = 8192
	maxBody     = 64 << 10 // bytes
)

// ErrConfig is wrapped by every error that [New] returns for a Config it
// refuses.
var ErrConfig = errors.New("devidp: bad config")

// A Client is an application that may send its users here.
type Client struct {
	ID string

	// Secret authenticates the client at /token and /revoke. Empty makes a
	// public client, which has PKCE only.
	Secret string

	// RedirectURIs are where codes may be sent, PostLogoutRedirectURIs where a
	// browser may be sent after sign-out. Both are absolute http(s) URLs
	// without a fragment, compared byte for byte.
	RedirectURIs, PostLogoutRedirectURIs []string
}

// Config is what [New] needs to know.
type Config struct {
	// Issuer is the address of the server: scheme, loopback host and port,
	// nothing more, for example "http://127.0.0.1:8000".
	Issuer string

	Clients []Client

	// Users are those who can sign in. Default [DemoUsers].
	Users []User

	// RememberUser lets a browser that has signed in before go straight
	// through. When false, a browser sees the page each time there is more
	// than one user to choose from, so that it can come back as another one.
	RememberUser bool

	// Now is the clock. Default [time.Now].
	Now func() time.Time

	// AccessTokenTTL is the life of an access token, in whole seconds. Default
	// one hour. ID tokens always live one hour.
	AccessTokenTTL time.Duration

	// Keys are those that sign at first. Default new ones; making them takes as long
	// as many signatures, so that servers which come and go may want to share them.
	Keys *Keys
}

// A Server is the provider, an [http.Handler] for the root of its issuer. It
// is safe for concurrent use.
type Server struct {
	issuer       string
	clients      map[string]*Client
	users        []User
	rememberUser bool
	now          func() time.Time
	accessTTL    time.Duration
	routes       map[string]route
	keys         keyRing
	faults       atomic.Pointer[Faults]

	// mu guards what follows.
	mu       sync.Mutex
	sessions table[session]
	codes    table[*code]
	access   table[*accessToken]
	refresh  table[*refreshToken]
	requests []string
}

// handlerFunc answers a request under the faults that were set when it came
// in. It must not write a response before it returns an error.
type handlerFunc func(w http.ResponseWriter, r *http.Request, f *Faults) error

// A route is what one path answers to; nil is 405.
type route struct {
	get, post handlerFunc
}

// New returns a provider for c. It fails with an error that wraps [ErrConfig]
// and names every problem when the issuer is not on loopback, or when a client
// or user is incomplete or there twice.
func New(c Config) (*Server, error) {
	users := cloneUsers(c.Users)
	if len(users) == 0 {
		users = DemoUsers()
	}
	err := errors.Join(checkIssuer(c.Issuer), checkClients(c.Clients), checkUsers(users), checkTTL(c.AccessTokenTTL))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}

	s := &Server{
		issuer:       c.Issuer,
		clients:      clientsByID(c.Clients),
		users:        users,
		rememberUser: c.RememberUser,
		now:          c.Now,
		accessTTL:    cmp.Or(c.AccessTokenTTL, time.Hour),
		sessions:     table[session]{max: maxSessions},
		codes:        table[*code]{max: maxTokens},
		access:       table[*accessToken]{max: maxTokens},
		refresh:      table[*refreshToken]{max: maxTokens},
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.routes = map[string]route{
		"/.well-known/openid-configuration": {get: s.serveDiscovery},
		"/jwks":                             {get: s.serveJWKS},
		"/authorize":                        {get: s.serveAuthorize, post: s.serveSignIn},
		"/token":                            {post: s.serveToken},
		"/userinfo":                         {get: s.serveUserinfo, post: s.serveUserinfo},
		"/end-session":                      {get: s.serveEndSession, post: s.serveEndSession},
		"/revoke":                           {post: s.serveRevoke},
	}
	s.SetFaults(Faults{})
	keys := c.Keys
	if keys == nil {
		keys = NewKeys()
	}
	s.keys.generations = []*Keys{keys}
	return s, nil
}

// ServeHTTP answers a request to the provider.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.record(r)
	if !isLoopback(hostname(r.Host)) {
		answerError(w, &pageError{http.StatusMisdirectedRequest, "This provider answers on loopback only."})
		return
	}
	f := s.faults.Load()
	if f.intercept(w, r) {
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := s.dispatch(w, r, f); err != nil {
		answerError(w, err)
	}
}

func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, f *Faults) error {
	rt, ok := s.routes[r.URL.Path]
	if !ok {
		return &pageError{http.StatusNotFound, "There is nothing at this address."}
	}
	serve := map[string]handlerFunc{http.MethodGet: rt.get, http.MethodPost: rt.post}[r.Method]
	if serve == nil {
		w.Header().Set("Allow", rt.allow())
		return &pageError{http.StatusMethodNotAllowed, "This address does not answer " + r.Method + "."}
	}
	return serve(w, r, f)
}

// allow is the value of the Allow header of a 405 (RFC 9110 section 10.2.1).
func (rt route) allow() string {
	var methods []string
	if rt.get != nil {
		methods = append(methods, http.MethodGet)
	}
	if rt.post != nil {
		methods = append(methods, http.MethodPost)
	}
	return strings.Join(methods, ", ")
}

// Requests returns "METHOD /path" of everything the server was asked, oldest
// first, for tests that claim that the provider was not contacted. Only the
// newest 8192 are kept.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *Server) record(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) == maxRequests {
		s.requests = slices.Delete(s.requests, 0, maxRequests/2)
	}
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
}

func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || issuer != u.Scheme+"://"+u.Host {
		return fmt.Errorf("issuer %q: must be http://host:port and nothing more", issuer)
	}
	if !isLoopback(u.Hostname()) {
		return fmt.Errorf("issuer %q: must be on loopback: this provider asks for no password", issuer)
	}
	return nil
}

// isLoopback judges by the name alone: "localhost" and addresses. Other names
// may resolve to anything by the time they are used.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// hostname returns the host of a Host header, without port and brackets.
func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func checkClients(clients []Client) error {
	var errs []error
	seen := map[string]bool{}
	for _, c := range clients {
		if c.ID == "" || seen[c.ID] {
			errs = append(errs, fmt.Errorf("client %q: the id is empty or there twice", c.ID))
		}
		seen[c.ID] = true
		for _, uri := range slices.Concat(c.RedirectURIs, c.PostLogoutRedirectURIs) {
			u, err := url.Parse(uri)
			if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Contains(uri, "#") {
				errs = append(errs, fmt.Errorf("client %q: redirect URI %q: must be an http(s) URL without a fragment", c.ID, uri))
			}
		}
	}
	return errors.Join(errs...)
}

func checkTTL(ttl time.Duration) error {
	if ttl < 0 || (ttl > 0 && ttl < time.Second) {
		return fmt.Errorf("access token TTL %v: must be at least a second", ttl)
	}
	return nil
}

// clientsByID copies clients, so that the caller's slices can change freely.
func clientsByID(clients []Client) map[string]*Client {
	byID := make(map[string]*Client, len(clients))
	for _, c := range clients {
		c.RedirectURIs = slices.Clone(c.RedirectURIs)
		c.PostLogoutRedirectURIs = slices.Clone(c.PostLogoutRedirectURIs)
		byID[c.ID] = &c
	}
	return byID
}
