package web_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authproxy/cookie"
	"authproxy/devidp"
	"authproxy/identity"
	"authproxy/oauth"
	"authproxy/page"
	"authproxy/policy"
	"authproxy/session"
	"authproxy/token"
	"authproxy/web"
)

const (
	host   = "app.example.com"
	origin = "https://" + host
	// carol has an address that her provider does not vouch for.
	carol = "carol"
)

// A clock stands still until a test moves it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// settings are what tests change about a site.
type settings struct {
	key          string   // of the ring
	providers    []string // ids
	users        []devidp.User
	admit        policy.Members
	roles        policy.RoleMap
	hosts        []string
	domain       string // of the session's cookie
	afterSignIn  string
	rememberUser bool
	formPost     bool
	signOutThere bool     // at the provider too
	scopes       []string // besides the usual ones
	upstreamGets string   // as Authorization; empty means a minted token
	oauth2Proxy  bool
	prefix       string // "/auth" if empty
	claims       identity.ClaimMap
	needs        func(who *policy.Principal, returnTo string) *policy.Ask
	foreign      []cookie.Foreign // cookies of the application
	store        session.Store
	storeTimeout time.Duration
	exposeTokens string
}

// A site is the sign-in in front of a small application, served over https as
// app.example.com, with real providers on loopback.
type site struct {
	clock    *clock
	idps     map[string]*devidp.Server
	web      *web.Server
	sessions *session.Manager
	tokens   *token.Issuer
	server   *httptest.Server
	log      *lockedBuffer

	providers []*oauth.Provider
}

func newSite(t testing.TB, edit func(*settings)) *site {
	t.Helper()
	set := settings{
		key:       "a key of 32 bytes for tests only",
		providers: []string{"one"}, hosts: []string{host}, afterSignIn: "/", rememberUser: true,
		users: append(devidp.DemoUsers(), devidp.User{Login: carol, Subject: "77aa", Email: "carol@example.com", Name: "Carol"}),
		roles: policy.RoleMap{"admin": {Groups: []string{"admins"}}},
	}
	if edit != nil {
		edit(&set)
	}
	s := &site{clock: &clock{now: time.Now().Truncate(time.Second)}, idps: map[string]*devidp.Server{}, log: &lockedBuffer{}}
	var providers []*oauth.Provider
	for _, id := range set.providers {
		providers = append(providers, s.newProvider(t, id, set))
	}
	s.providers = providers
	s.build(t, set, providers)
	s.server = httptest.NewTLSServer(s)
	t.Cleanup(s.server.Close)
	return s
}

// providerKeys are those of all providers here, because making them takes long.
var providerKeys = sync.OnceValue(devidp.NewKeys)

// newProvider starts a provider and returns it as we see it.
func (s *site) newProvider(t testing.TB, id string, set settings) *oauth.Provider {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	issuer := "http://" + server.Listener.Addr().String()
	callback := origin + "/auth/callback/" + id
	if set.oauth2Proxy && len(set.providers) == 1 {
		callback = origin + "/oauth2/callback"
	}
	idp, err := devidp.New(devidp.Config{
		Issuer: issuer, Users: set.users, Now: s.clock.Now, Keys: providerKeys(), RememberUser: set.rememberUser,
		Clients: []devidp.Client{{ID: "app", Secret: "client-secret", RedirectURIs: []string{callback}, PostLogoutRedirectURIs: []string{origin + "/auth/sign-out"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = idp
	server.Start()
	t.Cleanup(server.Close)
	s.idps[id] = idp
	mode, signOut := "", "local"
	if set.formPost {
		mode = "form_post"
	}
	if set.signOutThere {
		signOut = "provider"
	}
	p, err := oauth.New(oauth.Config{
		ResponseMode: mode, SignOut: signOut,
		ID: id, Name: "Provider " + id, Issuer: issuer, ClientID: "app", ClientSecret: "client-secret", RedirectURL: callback,
		Scopes: append([]string{"openid", "email", "profile", "groups"}, set.scopes...), GroupsClaim: "groups", Now: s.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// build puts the parts together as the program does.
func (s *site) build(t testing.TB, set settings, providers []*oauth.Provider) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	ring, err := cookie.NewKeyRing([]byte(set.key))
	must(err)
	sealer, err := cookie.NewSealer(ring)
	must(err)
	secrets, err := ring.Derive("jwt es256", token.SecretSize)
	must(err)
	var hosts policy.Hosts
	for _, h := range set.hosts {
		pattern, err := policy.ParseHostPattern(h)
		must(err)
		hosts = append(hosts, pattern)
	}
	public := &url.URL{Scheme: "https", Host: host}
	options := cookie.Options{Secure: true, Domain: set.domain, Outside: web.Outside(hosts, public, set.domain)}
	jar, err := cookie.NewJar("authproxy_session", options)
	must(err)
	s.tokens, err = token.New(token.Config{Issuer: origin + "/auth", Audience: origin, TTL: 15 * time.Minute, Secrets: secrets, Now: s.clock.Now})
	must(err)
	s.sessions, err = session.New(session.Config{
		Sealer: sealer, Jar: jar, MaxAge: 7 * 24 * time.Hour, UpdateAge: 24 * time.Hour, AbsoluteMaxAge: 30 * 24 * time.Hour,
		Version: 1, Now: s.clock.Now, Store: set.store, StoreTimeout: set.storeTimeout,
	})
	must(err)
	t.Cleanup(s.sessions.Close)
	who, err := identity.New(identity.Config{
		Sessions: s.sessions, Tokens: s.tokens, Roles: set.roles, Admit: set.admit, Now: s.clock.Now, Claims: set.claims,
		Headers: map[string]string{"X-User-Id": "user.id", "X-User-Email": "user.email"}, Authorization: cmp.Or(set.upstreamGets, identity.AuthorizationJWT),
	})
	must(err)
	t.Cleanup(who.Close)
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	pages, err := page.New(page.Config{Prefix: "/auth", Log: log, RequestID: func(r *http.Request) string { return r.Header.Get("X-Request-Id") }})
	must(err)
	guard, err := cookie.NewGuard(ring, options, set.foreign)
	must(err)
	var needs func(*http.Request, string) *policy.Ask
	if set.needs != nil {
		needs = func(r *http.Request, returnTo string) *policy.Ask {
			var principal *policy.Principal
			if w, err := who.Identify(r); err == nil {
				principal = &w.Principal
			}
			return set.needs(principal, returnTo)
		}
	}
	s.web, err = web.New(web.Config{
		Needs: needs, Guard: guard, SessionClaims: slices.Sorted(maps.Keys(set.claims)),
		Prefix: cmp.Or(set.prefix, "/auth"), OAuth2Proxy: set.oauth2Proxy, PublicURL: public, Hosts: hosts, AfterSignIn: set.afterSignIn, AfterSignOut: "/",
		Providers: providers, Sessions: s.sessions, Identity: who, Tokens: s.tokens, Pages: pages, Sealer: sealer, Cookies: options, ExposeTokens: set.exposeTokens,
		ClientIP: func(*http.Request) string { return "192.0.2.7" }, Log: log, Now: s.clock.Now, Registerer: prometheus.NewRegistry(),
	})
	must(err)
}

// ServeHTTP is the smallest proxy: what lies below the prefix is ours, the rest
// is an application that repeats what it was asked for.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if action := map[string]string{"/logout": web.AliasSignOut, "/login": web.AliasSignIn}[r.URL.Path]; action != "" {
		s.web.Alias(action).ServeHTTP(w, r)
		return
	}
	alias := s.web.OAuth2Proxy && (strings.HasPrefix(r.URL.Path, "/oauth2/") || r.URL.Path == "/ping" || r.URL.Path == "/ready")
	if alias || r.URL.Path == "/auth" || strings.HasPrefix(r.URL.Path, "/auth/") {
		s.web.ServeHTTP(w, r)
		return
	}
	fmt.Fprintf(w, "app %s", r.RequestURI)
}

// contacts counts what the provider was asked by us, not by browsers.
func (s *site) contacts(id string) int {
	n := 0
	for _, asked := range s.idps[id].Requests() {
		if !strings.HasSuffix(asked, " /authorize") {
			n++
		}
	}
	return n
}

// redemptions counts the codes that the provider was shown.
func (s *site) redemptions(id string) int {
	n := 0
	for _, asked := range s.idps[id].Requests() {
		if asked == "POST /token" {
			n++
		}
	}
	return n
}

// A lockedBuffer takes a log from several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A browser keeps cookies under the site's clock and follows no redirect by
// itself.
type browser struct {
	testing.TB
	*site
	jar    *jar
	client *http.Client
	agent  string
}

func (s *site) newBrowser(t testing.TB) *browser {
	roots := x509.NewCertPool()
	roots.AddCert(s.server.Certificate())
	b := &browser{TB: t, site: s, jar: newJar(s.clock), agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: host},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if !strings.HasPrefix(address, "127.0.0.1:") { // every host but the providers is ours
				address = s.server.Listener.Addr().String()
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	b.client = &http.Client{Jar: b.jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return b
}

// An answer is a response whose body has been read.
type answer struct {
	*http.Response
	body string
}

func (a answer) location() string { return a.Header.Get("Location") }

// query returns a parameter of the redirect's target.
func (a answer) query(name string) string {
	u, err := url.Parse(a.location())
	if err != nil {
		return ""
	}
	return u.Query().Get(name)
}

// do sends r with the headers that a browser adds to a navigation, unless r has
// them already.
func (b *browser) do(r *http.Request) answer {
	b.Helper()
	for name, value := range map[string]string{"Accept": "text/html,*/*;q=0.8", "User-Agent": b.agent, "X-Request-Id": "request-1"} {
		if _, there := r.Header[name]; !there {
			r.Header.Set(name, value)
		}
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	return answer{resp, string(body)}
}

// absolute returns target as the browser reads it on our site.
func absolute(target string) string {
	if strings.HasPrefix(target, "/") {
		return origin + target
	}
	return target
}

// send makes a request with header (name, value, …) and an optional body.
func (b *browser) send(method, target, body string, header ...string) answer {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), method, absolute(target), strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return b.do(r)
}

func (b *browser) get(target string, header ...string) answer {
	b.Helper()
	return b.send(http.MethodGet, target, "", header...)
}

// api calls as a script of ours does, and returns the answer's JSON.
func (b *browser) api(method, target, body string, header ...string) (answer, any) {
	b.Helper()
	a := b.send(method, target, body, append([]string{"Accept", "application/json", "Sec-Fetch-Site", "same-origin"}, header...)...)
	var v any
	if a.body == "" {
		return a, nil
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		b.Fatalf("%s %s answered what is no JSON: %v: %q", method, target, err, a.body)
	}
	return a, v
}

// begin starts a sign-in as login and returns the provider's answer: the
// redirect to our callback.
func (b *browser) begin(login, rd string) answer {
	b.Helper()
	return b.beginAt("one", url.Values{"login_hint": {login}, "rd": {rd}})
}

func (b *browser) beginAt(provider string, query url.Values) answer {
	b.Helper()
	return b.authorize(b.get("/auth/sign-in/" + provider + "?" + query.Encode()))
}

// authorize follows the redirect to the provider, which sends the browser
// straight back.
func (b *browser) authorize(begun answer) answer {
	b.Helper()
	if begun.StatusCode != http.StatusFound || !strings.HasPrefix(begun.location(), "http://127.0.0.1:") {
		b.Fatalf("sign-in answered %d to %q, want a redirect to the provider; body %q", begun.StatusCode, begun.location(), begun.body)
	}
	back := b.get(begun.location())
	if !strings.HasPrefix(back.location(), origin+"/auth/callback/") && !strings.HasPrefix(back.location(), origin+"/oauth2/callback") {
		b.Fatalf("the provider answered %d to %q, want a redirect to the callback", back.StatusCode, back.location())
	}
	return back
}

// signIn signs login in and returns the answer of the callback.
func (b *browser) signIn(login, rd string) answer {
	b.Helper()
	return b.get(b.begin(login, rd).location())
}

// mustSignIn is signIn for tests that are about what comes later.
func (b *browser) mustSignIn(login string) {
	b.Helper()
	if done := b.signIn(login, "/"); done.StatusCode != http.StatusFound || b.user() == "" {
		b.Fatalf("sign-in as %s answered %d and left %q signed in; body %q", login, done.StatusCode, b.user(), done.body)
	}
}

// user returns the e-mail address of who is signed in, "" for nobody.
func (b *browser) user() string {
	b.Helper()
	_, v := b.api(http.MethodGet, "/auth/session", "")
	email, _ := dig(v, "user", "email").(string)
	return email
}

// sessionID returns the id of the browser's session, "" if there is none.
func (b *browser) sessionID() string {
	b.Helper()
	_, v := b.api(http.MethodGet, "/auth/session", "")
	id, _ := dig(v, "session", "id").(string)
	return id
}

// signOut presses the button.
func (b *browser) signOut() answer {
	b.Helper()
	return b.send(http.MethodPost, "/auth/sign-out", "", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
}

// dig returns what stands in v below the names.
func dig(v any, names ...string) any {
	for _, name := range names {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// isPage checks that a is a page of ours, with status, that says every
// one of the texts.
func (b *browser) isPage(a answer, status int, texts ...string) {
	b.Helper()
	if a.StatusCode != status || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
		b.Errorf("answer = %d %s to %q, want a page with status %d; body %q", a.StatusCode, a.Header.Get("Content-Type"), a.location(), status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			b.Errorf("the page does not say %q: %s", text, a.body)
		}
	}
}

// goesTo checks that a is a redirect to target, byte for byte.
func (b *browser) goesTo(a answer, target string) {
	b.Helper()
	if a.StatusCode != http.StatusFound || a.location() != target {
		b.Errorf("answer = %d to %q, want 302 to %q; body %q", a.StatusCode, a.location(), target, a.body)
	}
}

// A jar keeps cookies as browsers do, one list a host, in the order in which
// they were made.
type jar struct {
	clock *clock
	mu    sync.Mutex
	hosts map[string][]kept
}

type kept struct {
	name, value string
	secure      bool
	expires     time.Time // zero: with the browser
}

func newJar(c *clock) *jar { return &jar{clock: c, hosts: map[string][]kept{}} }

// SetCookies implements [http.CookieJar]. Like browsers, it drops a __Host-
// cookie that does not keep the prefix's promise.
func (j *jar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range cookies {
		if c.Secure && u.Scheme != "https" || strings.HasPrefix(c.Name, "__Host-") && (!c.Secure || c.Path != "/" || c.Domain != "") {
			continue
		}
		k := kept{name: c.Name, value: c.Value, secure: c.Secure}
		if c.MaxAge > 0 {
			k.expires = j.clock.Now().Add(time.Duration(c.MaxAge) * time.Second)
		}
		list := j.hosts[u.Host]
		i := slices.IndexFunc(list, func(old kept) bool { return old.name == c.Name })
		switch {
		case c.MaxAge < 0 && i >= 0:
			j.hosts[u.Host] = slices.Delete(list, i, i+1)
		case c.MaxAge < 0:
		case i >= 0:
			list[i] = k
		default:
			j.hosts[u.Host] = append(list, k)
		}
	}
}

// Cookies implements [http.CookieJar].
func (j *jar) Cookies(u *url.URL) []*http.Cookie {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []*http.Cookie
	for _, k := range j.hosts[u.Host] {
		if (k.expires.IsZero() || j.clock.Now().Before(k.expires)) && (!k.secure || u.Scheme == "https") {
			out = append(out, &http.Cookie{Name: k.name, Value: k.value})
		}
	}
	return out
}

// ours returns the cookies for our site by name.
func (j *jar) ours() map[string]string {
	all := map[string]string{}
	for _, c := range j.Cookies(&url.URL{Scheme: "https", Host: host}) {
		all[c.Name] = c.Value
	}
	return all
}

// flows returns the names of the flow cookies, sorted.
func (j *jar) flows() []string {
	var names []string
	for name := range j.ours() {
		if strings.HasPrefix(name, "__Host-authproxy_flow_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// put plants a cookie.
func (j *jar) put(name, value string) {
	j.SetCookies(&url.URL{Scheme: "https", Host: host}, []*http.Cookie{{Name: name, Value: value, Secure: true, Path: "/"}})
}

// drop loses our site's cookies whose names begin with prefix.
func (j *jar) drop(prefix string) { j.dropAt(host, prefix) }

func (j *jar) dropAt(host, prefix string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hosts[host] = slices.DeleteFunc(j.hosts[host], func(k kept) bool { return strings.HasPrefix(k.name, prefix) })
}

// copy returns all that the jar holds, for who kept a copy.
func (j *jar) copy() map[string][]kept {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := maps.Clone(j.hosts)
	for h, list := range all {
		all[h] = slices.Clone(list)
	}
	return all
}

func (j *jar) restore(all map[string][]kept) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hosts = all
}
