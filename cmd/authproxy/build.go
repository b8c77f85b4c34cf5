package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"authproxy/config"
	"authproxy/cookie"
	"authproxy/identity"
	"authproxy/oauth"
	"authproxy/page"
	"authproxy/policy"
	"authproxy/proxy"
	"authproxy/session"
	"authproxy/token"
	"authproxy/web"
)

// An app is a server put together, and not yet listening.
type app struct {
	config    *config.Config
	log       *slog.Logger
	accessLog io.Writer // nil where requests are not logged
	metrics   *prometheus.Registry
	providers []*oauth.Provider
	store     session.Store // nil where sessions are in cookies
	storeSeen atomic.Bool   // the store has answered once
	sessions  *session.Manager
	identity  *identity.Resolver
	proxy     *proxy.Proxy
}

// build puts the server together as cfg says. It is the parts list: settings
// go in here by hand, and no other package knows where they come from. It opens
// no socket and asks nobody.
func build(cfg *config.Config, l *logs, environ []string) (*app, error) {
	a := &app{config: cfg, log: slog.New(slog.DiscardHandler), metrics: newRegistry()}
	if l != nil {
		a.log = l.Logger
		if l.Enabled(context.Background(), slog.LevelInfo) {
			a.accessLog = l.lines
		}
	}
	ring, err := keyRing(cfg, environ)
	if err != nil {
		return nil, err
	}
	sealer, err := cookie.NewSealer(ring)
	if err != nil {
		return nil, err
	}
	tokens, err := a.tokens(ring)
	if err != nil {
		return nil, err
	}
	hosts, err := ourHosts(cfg)
	if err != nil {
		return nil, err
	}
	outside := web.Outside(hosts, cfg.PublicURL, cfg.Cookie.Domain)
	jar, err := cookie.NewJar(cfg.Cookie.Name, cookieOptions(cfg, outside))
	if err != nil {
		return nil, err
	}
	if err := a.buildProviders(); err != nil {
		return nil, err
	}
	if err := a.buildSessions(sealer, jar, tokens); err != nil {
		return nil, err
	}
	guard, err := newGuard(cfg, ring, outside)
	if err != nil {
		return nil, err
	}
	return a, a.buildProxy(sealer, jar, guard, tokens, hosts, outside)
}

func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "authproxy_build_info", Help: "Always 1; the label says which version runs.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return reg
}

func (a *app) tokens(ring *cookie.KeyRing) (*token.Issuer, error) {
	secrets, err := ring.Derive("jwt es256", token.SecretSize)
	if err != nil {
		return nil, err
	}
	jwt := a.config.JWT
	return token.New(token.Config{Issuer: jwt.Issuer, Audience: jwt.Audience, TTL: jwt.TTL, Secrets: secrets})
}

func cookieOptions(cfg *config.Config, outside func(host string) bool) cookie.Options {
	modes := map[string]http.SameSite{"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}
	return cookie.Options{
		Domain: cfg.Cookie.Domain, Outside: outside, Secure: cfg.PublicURL.Scheme == "https",
		SameSite: modes[cfg.Cookie.SameSite], Prefix: cookie.Prefix(cfg.Cookie.Prefix),
	}
}

func (a *app) buildSessions(sealer *cookie.Sealer, jar *cookie.Jar, tokens *token.Issuer) (err error) {
	s, id := a.config.Session, a.config.Identity
	if a.store, err = openStore(context.Background(), s, a.log); err != nil {
		return err
	}
	refresher := &web.Refresher{
		Providers: a.providers, Authorization: id.Authorization, Credentials: credentials(a.config), Claims: claimMap(a.config), Log: a.log,
	}
	if a.sessions, err = session.New(session.Config{
		Sealer: sealer, Jar: jar, MaxAge: s.MaxAge, UpdateAge: s.UpdateAge, AbsoluteMaxAge: s.AbsoluteMaxAge,
		IdleTimeout: s.IdleTimeout, ValidateInterval: s.ValidateInterval, Version: s.Version, ForgetOnClose: !s.RememberMe, Registerer: a.metrics, Log: a.log,
		Store: a.store, StoreTimeout: s.StoreTimeout, AuditRetention: s.AuditRetention,
		CacheBytes: uint64(s.CacheMB) << 20, CacheEntries: s.CacheEntries,
		RefreshTokens: refresher.Refresh, DiscardTokens: refresher.Discard,
	}); err != nil {
		return err
	}
	roles := policy.RoleMap{}
	for role, m := range id.Roles {
		roles[role] = policy.Members{Emails: m.Emails, Domains: m.Domains, Groups: m.Groups, Claims: m.Claims}
	}
	in := a.config.SignIn
	a.identity, err = identity.New(identity.Config{
		Sessions: a.sessions, Tokens: tokens, Roles: roles,
		Admit:  policy.Members{Emails: in.AllowedEmails, Domains: in.AllowedDomains, Groups: in.AllowedGroups},
		Claims: claimMap(a.config), Headers: identityHeaders(a.config), Authorization: id.Authorization, CutGroups: id.GroupsOverflow == "cut", Knows: a.knows,
	})
	return err
}

// claimMap returns which claims are kept.
func claimMap(cfg *config.Config) identity.ClaimMap {
	claims := identity.ClaimMap{}
	for name, source := range cfg.Identity.Claims {
		claims[name] = identity.ClaimSource{From: source.From, Default: source.Default}
	}
	return claims
}

// credentials returns the tokens that applications get in cookies.
func credentials(cfg *config.Config) []string {
	var all []string
	for _, u := range append([]*config.Upstream{cfg.Upstream}, upstreamsOf(cfg.Routes)...) {
		if u != nil {
			all = slices.AppendSeq(all, maps.Values(u.Cookies))
		}
	}
	return all
}

func upstreamsOf(routes []config.Route) []*config.Upstream {
	var all []*config.Upstream
	for _, r := range routes {
		all = append(all, r.Upstream)
	}
	return all
}

// identityHeaders returns the headers to set and what each holds: those that are
// configured, and for applications that know oauth2-proxy the ones of that.
func identityHeaders(cfg *config.Config) map[string]string {
	headers := maps.Clone(cfg.Identity.Headers)
	if !cfg.Compat.OAuth2Proxy {
		return headers
	}
	configured := map[string]bool{}
	for name := range headers {
		configured[http.CanonicalHeaderKey(name)] = true
	}
	for name, source := range proxy.OAuth2ProxyHeaders() {
		if !configured[name] {
			headers[name] = source
		}
	}
	return headers
}

func (a *app) buildProxy(sealer *cookie.Sealer, jar *cookie.Jar, guard *cookie.Guard, tokens *token.Issuer, hosts policy.Hosts, outside func(host string) bool) error {
	cfg := a.config
	pages, err := page.New(page.Config{Prefix: cfg.Prefix, Log: a.log, RequestID: func(r *http.Request) string { return r.Header.Get("X-Request-Id") }})
	if err != nil {
		return err
	}
	trusted := proxy.TrustedProxies(cfg.TrustedProxies)
	own, err := web.New(web.Config{
		Prefix: cfg.Prefix, PublicURL: cfg.PublicURL, Hosts: hosts,
		AfterSignIn: cfg.Redirects.AfterSignIn, AfterSignOut: cfg.Redirects.AfterSignOut,
		Providers: a.providers, Sessions: a.sessions, Identity: a.identity, Tokens: tokens, Pages: pages, ExposeTokens: cfg.JWT.Expose,
		Credentials: credentials(cfg), Guard: guard, SessionClaims: cfg.Identity.SessionClaims,
		Needs:  func(r *http.Request, returnTo string) *policy.Ask { return a.proxy.Needs(r, returnTo) },
		Sealer: sealer, Cookies: cookieOptions(cfg, outside), OAuth2Proxy: cfg.Compat.OAuth2Proxy,
		OriginalURL: trusted.OriginalURL,
		ClientIP:    func(r *http.Request) string { return trusted.ClientIP(r).String() },
		Log:         a.log, Registerer: a.metrics,
	})
	if err != nil {
		return err
	}
	rules, err := policy.Compile(compileRules(cfg.Rules))
	if err != nil {
		return err
	}
	routes, err := routes(cfg)
	if err != nil {
		return err
	}
	a.proxy, err = proxy.New(proxy.Config{
		Prefix: cfg.Prefix, Own: own, PublicURL: cfg.PublicURL, SignsInAtHome: outside, Routes: routes,
		Identity: a.identity, Sessions: a.sessions, Rules: rules, Paths: pathRules(cfg), Trusted: trusted,
		Strip: cfg.Identity.Strip, OwnsCookie: func(name string) bool { return jar.Owns(name) || web.OwnsCookie(name) || guard.Owns(name) },
		Guard: guard, Aliases: aliases(cfg, own),
		OAuth2Proxy: cfg.Compat.OAuth2Proxy, Convention: cfg.Compat.Convention,
		Pages: pages, Hosts: hosts, MaxUpgraded: cfg.WebSocket.MaxLifetime,
		AllowedOrigins: cfg.WebSocket.AllowedOrigins, AppendHTML: appendix(cfg), LogRequests: cfg.Log.Requests, AccessLog: a.accessLog, Log: a.log, Registerer: a.metrics,
	})
	return err
}

// newGuard returns what keeps the applications' own cookies with their person.
func newGuard(cfg *config.Config, ring *cookie.KeyRing, outside func(host string) bool) (*cookie.Guard, error) {
	var foreign []cookie.Foreign
	for _, c := range cfg.SignOut.ClearCookies {
		foreign = append(foreign, cookie.Foreign{Name: c.Name, Path: c.Path, Domain: c.Domain})
	}
	return cookie.NewGuard(ring, cookieOptions(cfg, outside), foreign)
}

// aliases returns what answers at paths of the application in its place.
func aliases(cfg *config.Config, own *web.Server) map[string]http.Handler {
	all := map[string]http.Handler{}
	for path, action := range cfg.PathAliases {
		all[path] = own.Alias(action)
	}
	return all
}

// appendix returns what is added to the upstreams' pages.
func appendix(cfg *config.Config) string {
	if !cfg.HTML.InjectClient {
		return ""
	}
	return web.ClientTag(cfg.Prefix)
}

// ourHosts returns the hosts that are ours. A rule or a route for any other
// host is a mistake: nobody could come back there from sign-in, and no request
// for it is let through.
func ourHosts(cfg *config.Config) (policy.Hosts, error) {
	hosts, err := parseHosts(append([]string{cfg.PublicURL.Host}, cfg.Hosts...))
	if err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	var problems []error
	named := map[string]string{}
	for i, r := range cfg.Routes {
		named[fmt.Sprintf("routes[%d].host", i)] = r.Host
	}
	for i, r := range cfg.Rules {
		named[fmt.Sprintf("rules[%d].host", i)] = r.Host
	}
	for _, setting := range slices.Sorted(maps.Keys(named)) {
		if host := named[setting]; host != "" && !isOurs(hosts, host) {
			problems = append(problems, fmt.Errorf("%s: %s is neither public_url's host nor one of hosts; add it to hosts", setting, host))
		}
	}
	return hosts, errors.Join(problems...)
}

func parseHosts(texts []string) (policy.Hosts, error) {
	var hosts policy.Hosts
	for _, text := range texts {
		pattern, err := policy.ParseHostPattern(text)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, pattern)
	}
	return hosts, nil
}

// isOurs says whether host, a host or a pattern, is one of hosts. What does not
// parse is somebody else's to report.
func isOurs(hosts policy.Hosts, host string) bool {
	pattern, err := policy.ParseHostPattern(host)
	return err != nil || slices.Contains(hosts, pattern) || hosts.Contains(host)
}

func compileRules(rules []config.Rule) []policy.Rule {
	var out []policy.Rule
	for _, r := range rules {
		rule := policy.Rule{
			Name: r.Name, Host: r.Host, Path: r.Path, Methods: r.Methods, Clients: r.Clients, Allow: r.Allow, Deny: r.Deny, Preflight: r.Preflight,
		}
		if r.Require != nil {
			rule.Require = &compileRequires([]config.Require{*r.Require})[0]
		}
		out = append(out, rule)
	}
	return out
}

// compileRequires keeps the difference between no list and an empty one, which
// the rules refuse.
func compileRequires(requires []config.Require) []policy.Require {
	if requires == nil {
		return nil
	}
	out := make([]policy.Require, len(requires))
	for i, q := range requires {
		out[i] = policy.Require{
			SignedIn: q.SignedIn, Emails: q.Emails, Domains: q.Domains, Groups: q.Groups, Roles: q.Roles, Claims: q.Claims,
			ACR: q.ACR, AMR: q.AMR, Fresh: q.Fresh, When: q.When, All: compileRequires(q.All), Any: compileRequires(q.Any),
		}
	}
	return out
}

func pathRules(cfg *config.Config) policy.PathRules {
	allow := cfg.Paths.Allow
	return policy.PathRules{
		EncodedSlash: slices.Contains(allow, "encoded_slash"),
		Semicolon:    slices.Contains(allow, "semicolon"),
		DoubleSlash:  slices.Contains(allow, "double_slash"),
	}
}

// routes returns the configured routes, the default upstream last.
func routes(cfg *config.Config) ([]proxy.Route, error) {
	var out []proxy.Route
	var problems []error
	for i, r := range cfg.Routes {
		route := proxy.Route{Path: r.Path}
		if r.Host != "" {
			var err error
			if route.Host, err = policy.ParseHostPattern(r.Host); err != nil {
				problems = append(problems, fmt.Errorf("routes[%d].host: %w", i, err))
			}
		}
		if _, err := policy.ParseGlob(r.Path); r.Path != "" && err != nil {
			problems = append(problems, fmt.Errorf("routes[%d].path: %w", i, err))
		}
		var err error
		if route.Upstream, err = upstream(r.Upstream); err != nil {
			problems = append(problems, fmt.Errorf("routes[%d].upstream: %w", i, err))
		}
		out = append(out, route)
	}
	if cfg.Upstream != nil {
		u, err := upstream(cfg.Upstream)
		if err != nil {
			problems = append(problems, fmt.Errorf("upstream: %w", err))
		}
		out = append(out, proxy.Route{Upstream: u})
	}
	return out, errors.Join(problems...)
}

func upstream(u *config.Upstream) (proxy.Upstream, error) {
	out := proxy.Upstream{URL: u.URL, PassHost: u.PassHost, Extras: proxy.Extras{Headers: u.Headers, Cookies: u.Cookies}}
	if u.Basic != nil {
		out.Extras.Username, out.Extras.Password = u.Basic.Username, u.Basic.Password
	}
	if u.CAFile == "" {
		return out, nil
	}
	var err error
	if out.RootCAs, err = readCertificates(u.CAFile); err != nil {
		return out, fmt.Errorf("ca_file: %w", err)
	}
	return out, nil
}

// readCertificates returns the certificates in a file.
func readCertificates(name string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", name)
	}
	return pool, nil
}

// knows says whether provider is configured and issuer is its own.
func (a *app) knows(provider, issuer string) bool {
	return slices.ContainsFunc(a.providers, func(p *oauth.Provider) bool { return p.ID() == provider && p.Issues(issuer) })
}

// run keeps what needs keeping until ctx ends.
func (a *app) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, p := range a.providers {
		wg.Go(func() { p.Run(ctx) })
	}
	wg.Go(func() { a.sessions.Run(ctx) })
	wg.Go(func() { a.awaitStore(ctx) })
	wg.Wait()
}

// close gives back what the parts hold.
func (a *app) close() {
	a.proxy.Close()
	a.identity.Close()
	a.sessions.Close()
	if a.store != nil {
		a.store.Close()
	}
}

// warn logs what the configuration's author should know.
func (a *app) warn(warnings []config.Warning) {
	for _, w := range warnings {
		a.log.Warn("configuration", "setting", w.Setting, "problem", strings.TrimSpace(w.String()))
	}
}
