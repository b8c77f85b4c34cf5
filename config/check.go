package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

const idRemedy = "use 1 to 32 lower-case letters, digits and dashes"

var (
	prefixForm = regexp.MustCompile(`^(/[A-Za-z0-9_-]+)+$`)
	labelForm  = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)
	tokenForm  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // RFC 9110, section 5.6.2
)

// check judges each setting, and what settings say together. Values change only
// into their normal form.
func (l *loader) check() {
	l.checkListeners()
	l.checkTrustedProxies()
	l.checkPublicURL()
	l.checkUpstreams()
	l.checkCookieDomain()
	l.checkCookie()
	l.checkHosts()
	l.checkProviders()
	s := l.cfg.SignIn
	l.checkMembers("sign_in.allowed_", s.AllowedEmails, s.AllowedDomains)
	l.checkRules()
	l.checkSession()
	l.checkIdentity()
	l.checkClaims()
	l.warnClaimUses()
	l.checkSignOut()
	l.checkJWT()
	l.checkRedirects()
	l.checkOrigins()
	l.checkCompat()
	l.checkLimits()
}

func (l *loader) checkListeners() {
	c := l.cfg
	if !validListen(c.Listen) {
		l.fail("listen", show(&field{}, c.Listen)+" is not an address to listen on", `write ":4180" or "127.0.0.1:4180"`)
	}
	if c.Admin.Listen != "" && !validListen(c.Admin.Listen) {
		l.fail("admin.listen", show(&field{}, c.Admin.Listen)+" is not an address to listen on", `write "127.0.0.1:9090", or "" for none`)
	}
	if l.ok("listen", "admin.listen") && c.Admin.Listen != "" && sameListener(c.Listen, c.Admin.Listen) {
		l.fail("admin.listen", "takes the address of listen, but is never served in public", `choose another port, such as "127.0.0.1:9090"`)
	}
	l.checkAdminToken()
	l.checkPair("tls", c.TLS.CertFile, c.TLS.KeyFile)
	l.checkExtAuthz()
}

// minAdminToken is the least length of the admin API's token, in bytes: it can
// end everybody's session, and be guessed at from wherever the listener is
// reached.
const minAdminToken = 16

func (l *loader) checkAdminToken() {
	a := l.cfg.Admin
	if a.Token == "" || !l.ok("admin.token", "admin.token_file") {
		return
	}
	setting := "admin.token"
	if a.TokenFile != "" {
		setting = "admin.token_file"
	}
	if len(a.Token) < minAdminToken || strings.ContainsFunc(a.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		l.fail(setting, "is no token: fewer than 16 characters, or others than visible ASCII ones", "make one with: openssl rand -base64 32")
	}
	if a.Listen == "" && l.ok("admin.listen") {
		l.warnings = append(l.warnings, Warning{setting, "has no effect without admin.listen", "set admin.listen, or remove it"})
	}
}

// checkPair judges a certificate and its key, settings of group.
func (l *loader) checkPair(group, certFile, keyFile string) {
	switch cert, key := certFile != "", keyFile != ""; {
	case cert && !key:
		l.fail(group+".key_file", "is missing beside "+group+".cert_file", "set both, or neither")
	case key && !cert:
		l.fail(group+".cert_file", "is missing beside "+group+".key_file", "set both, or neither")
	}
}

// checkExtAuthz judges the listener for gRPC: who asks there is believed, so that
// somebody must be named who may.
func (l *loader) checkExtAuthz() {
	c, e := l.cfg, l.cfg.ExtAuthz
	l.checkPair("ext_authz", e.CertFile, e.KeyFile)
	if e.ClientCAFile != "" && e.CertFile == "" && l.ok("ext_authz.cert_file") {
		l.fail("ext_authz.client_ca_file", "has no use without TLS", "set ext_authz.cert_file and ext_authz.key_file, or remove it")
	}
	if e.Listen == "" {
		if e.CertFile+e.KeyFile+e.ClientCAFile != "" {
			l.warnings = append(l.warnings, Warning{"ext_authz", "has files, but no listener", `set ext_authz.listen, such as ":9191", or remove it`})
		}
		return
	}
	if !validListen(e.Listen) {
		l.fail("ext_authz.listen", show(&field{}, e.Listen)+" is not an address to listen on", `write ":9191" or "127.0.0.1:9191"`)
		return
	}
	for setting, other := range map[string]string{"listen": c.Listen, "admin.listen": c.Admin.Listen} {
		if other != "" && l.ok(setting) && sameListener(other, e.Listen) {
			l.fail("ext_authz.listen", "takes the address of "+setting, `choose another port, such as ":9191"`)
		}
	}
	if e.ClientCAFile == "" && len(c.TrustedProxies) == 0 && l.ok("trusted_proxies") {
		l.fail("ext_authz.listen", "would answer nobody, because nobody is named who may ask", "set trusted_proxies to the addresses of Envoy, or ext_authz.client_ca_file")
	}
}

func (l *loader) checkTrustedProxies() {
	for i, network := range l.cfg.TrustedProxies {
		if network.IsValid() && network.Bits() == 0 {
			l.fail(fmt.Sprintf("trusted_proxies[%d]", i), quote(network.String())+" trusts everybody, so that anybody can forge a client's address and the original URL",
				"name the networks of your own proxies only, such as 10.0.0.0/8")
		}
	}
}

// validListen reports whether addr is host:port with a number for a port.
func validListen(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	return validPort(port) && (host == "" || validHost(host))
}

func validPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// sameListener reports whether two valid addresses cannot both be listened on.
// Port 0 asks for any free port.
func sameListener(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	anyA, anyB := wildcard(hostA), wildcard(hostB)
	return portA == portB && portA != "0" && (hostA == hostB || anyA || anyB)
}

func wildcard(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

// validHost reports whether host is an IP address or a plain ASCII host name.
func validHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == ""
	}
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if !labelForm.MatchString(label) {
			return false
		}
	}
	return true
}

// loopback reports whether browsers treat host as their own machine, which
// needs no TLS.
func loopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// webFlaw judges u as the address of a web server: http or https, and no
// passwords, queries or fragments.
func webFlaw(u *url.URL, example string) *flaw {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return &flaw{"is not an http or https address", "write it with its scheme, such as " + example}
	case u.User != nil:
		return &flaw{"holds a user name", "remove what is before the @"}
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return &flaw{"holds a query or a fragment", "remove what follows the path"}
	case !validHost(u.Hostname()) || u.Port() != "" && !validPort(u.Port()):
		return &flaw{"has no valid host", "write a plain host name or address, such as " + example}
	}
	return nil
}

// checkPublicURL judges public_url and brings it into the form of an origin, as
// browsers send it.
func (l *loader) checkPublicURL() {
	u := l.cfg.PublicURL
	if u == nil {
		l.fail("public_url", "is required", "set it to the address that browsers use, such as https://app.example.com")
		return
	}
	flaw := webFlaw(u, "https://app.example.com")
	if flaw == nil && u.Path != "" && u.Path != "/" {
		flaw = newFlaw("has a path", "remove it; the paths of authproxy are below prefix")
	}
	if flaw == nil && u.Scheme == "http" && !loopback(u.Hostname()) && !l.cfg.Cookie.Insecure && l.ok("cookie.insecure") {
		flaw = newFlaw("is plain http, so that everybody on the way can take a session over", "use https; or set cookie.insecure: true where this is meant")
	}
	if flaw != nil {
		l.fail("public_url", flaw.message, flaw.remedy)
		return
	}
	l.cfg.PublicURL = asOrigin(u)
}

// asOrigin returns the origin of u in the form in which browsers send it.
func asOrigin(u *url.URL) *url.URL {
	host := strings.ToLower(u.Host)
	if u.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		host = strings.TrimSuffix(host, ":"+u.Port())
	}
	return &url.URL{Scheme: u.Scheme, Host: strings.TrimSuffix(host, ":")}
}

// checkOrigins judges websocket.allowed_origins and brings them into the form in
// which browsers send them. Some applications bring a browser, and a scheme of
// their own, along.
func (l *loader) checkOrigins() {
	for i, origin := range l.cfg.WebSocket.AllowedOrigins {
		u, err := url.Parse(origin)
		switch {
		case origin == "*":
			continue
		case err != nil, u.Scheme == "", !validHost(u.Hostname()), u.Port() != "" && !validPort(u.Port()),
			u.User != nil, u.Path != "" && u.Path != "/", u.RawQuery != "", u.ForceQuery, u.Fragment != "":
			l.fail(fmt.Sprintf("websocket.allowed_origins[%d]", i), show(&field{}, origin)+" is not an origin", `write a scheme and a host, such as https://partner.example.net, or "*" for all`)
			continue
		}
		l.cfg.WebSocket.AllowedOrigins[i] = asOrigin(u).String()
	}
}

func newFlaw(message, remedy string) *flaw { return &flaw{message, remedy} }

func (l *loader) checkUpstreams() {
	c := l.cfg
	if !prefixForm.MatchString(c.Prefix) {
		l.fail("prefix", show(&field{}, c.Prefix)+" is not a plain path", "write something like /auth: letters, digits, _ and -, with no slash at the end")
	}
	if c.Upstream == nil && len(c.Routes) == 0 && len(c.TrustedProxies) == 0 && c.ExtAuthz.ClientCAFile == "" && l.ok("routes", "trusted_proxies") {
		l.fail("upstream", "is required unless there are routes, or an ingress in trusted_proxies that asks instead",
			"set upstream to the address of the application, such as http://127.0.0.1:8080; for forward auth alone, set trusted_proxies to the addresses of the ingress")
	}
	l.checkUpstream("upstream", c.Upstream)
	for i, r := range c.Routes {
		path := fmt.Sprintf("routes[%d]", i)
		l.checkPattern(path+".path", r.Path)
		if r.Upstream == nil {
			l.fail(path+".upstream", "is required", "set it to the address of the application, such as http://127.0.0.1:9000")
		}
		l.checkUpstream(path+".upstream", r.Upstream)
	}
}

// checkPattern judges what this package can of a pattern for paths.
func (l *loader) checkPattern(path, pattern string) {
	if pattern != "" && !strings.HasPrefix(pattern, "/") {
		l.fail(path, quote(pattern)+" does not begin with a slash", "write it like /admin/**")
	}
}

func (l *loader) checkUpstream(path string, up *Upstream) {
	if up == nil || !l.ok(path) {
		return
	}
	if up.URL == nil {
		l.fail(path+".url", "is required", "set it to the address of the application, such as http://127.0.0.1:8080")
		return
	}
	if flaw := upstreamFlaw(up.URL); flaw != nil {
		l.fail(path+".url", flaw.message, flaw.remedy)
		return
	}
	if up.URL.Scheme != "unix" {
		up.URL.Path, up.URL.RawPath = "", ""
	}
	if up.CAFile != "" && up.URL.Scheme != "https" {
		l.fail(path+".ca_file", "has no use without TLS", "write the upstream with https://, or remove ca_file")
	}
	l.checkUpstreamGets(path, up)
}

// upstreamFlaw judges the address of an upstream.
func upstreamFlaw(u *url.URL) *flaw {
	const example = "http://127.0.0.1:8080"
	switch {
	case u.Scheme == "unix":
		if u.Host != "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") {
			return newFlaw("does not name a socket", "write unix:// and the absolute path, such as unix:///run/app.sock")
		}
		return nil
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c":
		return newFlaw("has a scheme that is not supported", "use http://, https://, h2c:// or unix://, such as "+example)
	case u.Path != "" && u.Path != "/":
		return newFlaw("has a path", "remove it; requests keep the path that they came with")
	case u.Scheme == "h2c":
		return webFlaw(&url.URL{Scheme: "http", User: u.User, Host: u.Host, RawQuery: u.RawQuery, ForceQuery: u.ForceQuery, Fragment: u.Fragment}, example)
	}
	return webFlaw(u, example)
}

// publicHost returns the host of public_url without its port.
func (l *loader) publicHost() string { return l.cfg.PublicURL.Hostname() }

// checkCookieDomain judges cookie.domain and brings it into lower case, without
// the leading dot that RFC 6265, section 5.2.3 ignores.
func (l *loader) checkCookieDomain() {
	c := &l.cfg.Cookie
	if c.Domain == "" {
		return
	}
	domain := strings.ToLower(strings.TrimPrefix(c.Domain, "."))
	_, err := netip.ParseAddr(domain)
	switch {
	case err == nil:
		l.fail("cookie.domain", "is an IP address, which cookies cannot share", "remove it; the cookie then belongs to public_url's host")
	case !validHost(domain):
		l.fail("cookie.domain", quote(c.Domain)+" is not a domain", "write it like example.com")
	case publicSuffix(domain):
		l.fail("cookie.domain", quote(c.Domain)+" is shared by strangers, so browsers refuse it", "write a domain of your own, such as example.com")
	case l.ok("public_url") && !within(l.publicHost(), domain):
		l.fail("cookie.domain", fmt.Sprintf("%s is not above public_url's host %s", quote(c.Domain), quote(l.publicHost())), "write a domain that public_url's host is in, or remove it")
	}
	c.Domain = domain
}

// publicSuffix reports whether browsers refuse cookies for domain, as they do
// for com and co.uk: https://publicsuffix.org.
func publicSuffix(domain string) bool {
	suffix, _ := publicsuffix.PublicSuffix(domain)
	return suffix == domain
}

// within reports whether host is domain or below it. Labels are compared, so
// that evilexample.com is not within example.com.
func within(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}

func (l *loader) checkCookie() {
	c := l.cfg.Cookie
	switch name := strings.ToLower(c.Name); {
	case strings.HasPrefix(name, "__host-") || strings.HasPrefix(name, "__secure-"):
		l.fail("cookie.name", "holds a prefix", "write the name alone, and choose the prefix with cookie.prefix")
	case !tokenForm.MatchString(c.Name):
		l.fail("cookie.name", quote(c.Name)+" is not a cookie name", "use letters, digits, _ and -")
	}
	for i, key := range c.Keys {
		if key != nil && slices.ContainsFunc(c.Keys[:i], func(k []byte) bool { return slices.Equal(k, key) }) {
			l.fail("cookie.keys", fmt.Sprintf("key %d is there already", i+1), "remove it, or replace it; "+keyRemedy)
		}
	}
	if !l.ok("public_url") {
		return
	}
	https := l.cfg.PublicURL.Scheme == "https"
	if c.SameSite == "none" && !https {
		l.fail("cookie.same_site", "is none, which browsers accept over https only", "use lax, or an https public_url")
	}
	switch {
	case (c.Prefix == "host" || c.Prefix == "secure") && !https:
		l.fail("cookie.prefix", "is "+c.Prefix+", which browsers accept over https only", "use auto, or an https public_url")
	case c.Prefix == "host" && c.Domain != "":
		l.fail("cookie.prefix", "is host, which browsers refuse together with cookie.domain", "use secure or auto, or remove cookie.domain")
	}
	l.warnInsecure(https)
}

func (l *loader) warnInsecure(https bool) {
	w := Warning{"cookie.insecure", "lets sessions travel unencrypted, so that everybody on the way can take them over", "use an https public_url"}
	switch {
	case !l.cfg.Cookie.Insecure:
		return
	case https || loopback(l.publicHost()) && !slices.ContainsFunc(l.cfg.Hosts, isRemote):
		w.Message, w.Remedy = "has no effect with this public_url", "remove it"
	}
	l.warnings = append(l.warnings, w)
}

// isRemote says whether a pattern stands for hosts that are not on loopback.
func isRemote(pattern string) bool {
	host, ok := patternHost(pattern)
	return ok && !loopback(host)
}

// checkHosts judges hosts. One that the cookies of public_url's host do not reach
// gets its session by a hand-off, with the scheme of public_url.
func (l *loader) checkHosts() {
	for i, pattern := range l.cfg.Hosts {
		path := fmt.Sprintf("hosts[%d]", i)
		host, ok := patternHost(pattern)
		switch {
		case !ok:
			l.fail(path, show(&field{}, pattern)+" is not a host", `write a host name such as www.example.com, or "*.example.com" for one label`)
		case !l.ok("public_url", "cookie.insecure") || l.cfg.Cookie.Insecure:
		case l.cfg.PublicURL.Scheme == "http" && !loopback(host):
			l.fail(path, quote(pattern)+" is reached over plain http like public_url, so that everybody on the way can take a session over",
				"use an https public_url; or set cookie.insecure: true where this is meant")
		}
	}
}

// patternHost returns the host of a pattern in lower case, without port and
// "*.".
func patternHost(pattern string) (string, bool) {
	host := strings.ToLower(pattern)
	if h, port, err := net.SplitHostPort(host); err == nil {
		if !validPort(port) {
			return "", false
		}
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "*."), ".")
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	return host, validHost(host)
}

func (l *loader) checkSession() {
	// Whoever sets only a short max_age means a short session, not a
	// contradiction with a default.
	if _, set := l.origins["session.update_age"]; !set {
		l.cfg.Session.UpdateAge = min(l.cfg.Session.UpdateAge, l.cfg.Session.MaxAge/7)
	}
	l.checkStore()
	s := l.cfg.Session
	if s.MaxAge == 0 {
		l.fail("session.max_age", "is 0, so that no session would live", "write a duration such as 168h")
	}
	if s.Version < 1 {
		l.fail("session.version", "is below 1", "write 1, or raise it to void earlier sessions")
	}
	if s.ValidateInterval != 0 && s.ValidateInterval < time.Minute {
		l.fail("session.validate_interval", s.ValidateInterval.String()+" is shorter than 1m, and each reading uses up a refresh token", "write 1m or more, or 0 for off")
	}
	if !l.ok("session.max_age") {
		return
	}
	if s.UpdateAge >= s.MaxAge && l.ok("session.update_age") {
		l.failPair("session.update_age", "session.max_age",
			fmt.Sprintf("is %s, not shorter than session.max_age, %s", hours(s.UpdateAge), hours(s.MaxAge)),
			"set session.update_age, for example to "+hours((s.MaxAge/4).Round(time.Second)))
	}
	if s.AbsoluteMaxAge != 0 && s.MaxAge > s.AbsoluteMaxAge && l.ok("session.absolute_max_age") {
		l.failPair("session.max_age", "session.absolute_max_age",
			fmt.Sprintf("is %s, longer than session.absolute_max_age, %s", hours(s.MaxAge), hours(s.AbsoluteMaxAge)),
			"shorten session.max_age, or raise session.absolute_max_age (0 is none)")
	}
	if s.IdleTimeout >= s.MaxAge && l.ok("session.idle_timeout") {
		l.warnings = append(l.warnings, Warning{"session.idle_timeout", "has no effect, because it is not shorter than session.max_age", "shorten it, or set it to 0"})
	}
	if _, set := l.origins["session.update_age"]; set && s.MaxAge == s.AbsoluteMaxAge {
		l.warnings = append(l.warnings, Warning{"session.update_age", "has no effect: session.absolute_max_age ends a session before it can be extended",
			"raise session.absolute_max_age above session.max_age, or remove it"})
	}
}

// storeForm is what session.store may be.
var storeForm = regexp.MustCompile(`^(cookie|memory|sqlite:.+|postgres(ql)?://.+|rediss?(\+sentinel|\+cluster)?://.+)$`)

var schemaForm = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,47}$`)

// checkStore judges where sessions are kept. No message repeats an address: it
// may hold a password.
func (l *loader) checkStore() {
	s := &l.cfg.Session
	if !storeForm.MatchString(s.Store) && l.ok("session.store") && l.ok("session.store_file") {
		l.fail("session.store", "is neither cookie nor the address of a store",
			"write cookie, memory, or an address that begins with sqlite:, postgres://, redis:// or rediss://")
	}
	if !schemaForm.MatchString(s.Schema) && l.ok("session.schema") {
		l.fail("session.schema", "is not the name of a schema", "use up to 48 lower-case letters, digits and _, and no digit first")
	}
	if s.ListenURL != "" && !strings.HasPrefix(s.Store, "postgres") && l.ok("session.listen_url") {
		l.fail("session.listen_url", "has a meaning for PostgreSQL only", "remove it, or set session.store to postgres://…")
	}
	for name, n := range map[string]int{"session.cache_mb": s.CacheMB - 1, "session.cache_entries": s.CacheEntries, "session.redis_replicas": s.RedisReplicas} {
		if n < 0 && l.ok(name) {
			l.fail(name, "is too small", "use the default, or a larger number")
		}
	}
	if s.StoreTimeout < 100*time.Millisecond && l.ok("session.store_timeout") {
		l.fail("session.store_timeout", "is shorter than 100ms", "use the default of 3s")
	}
	if s.Store == "memory" {
		l.warnings = append(l.warnings, Warning{"session.store", "is memory: everybody is signed out when the program ends, and replicas do not know each other's sessions",
			"use sqlite: for one machine, postgres:// or redis:// for more"})
	}
}

// failPair records what is wrong with two settings together under the first
// name, at the place of the one that was set when the other is a default.
func (l *loader) failPair(path, other, message, remedy string) {
	at := l.originOf(path)
	if _, set := l.origins[path]; !set {
		at = l.originOf(other)
	}
	l.problem(path, at, message, remedy)
}

// hours writes a duration as an operator does: 24h, not 24h0m0s.
func hours(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (l *loader) checkJWT() {
	j := l.cfg.JWT
	if j.TTL < time.Minute || j.TTL > 24*time.Hour {
		l.fail("jwt.ttl", fmt.Sprintf("%s is not between 1m and 24h", hours(j.TTL)), "write a duration such as 15m")
	}
	if j.Issuer == "" {
		return
	}
	u, err := url.Parse(j.Issuer)
	if err != nil {
		l.fail("jwt.issuer", "is not a URL", "write an address such as https://app.example.com/auth")
		return
	}
	if flaw := webFlaw(u, "https://app.example.com/auth"); flaw != nil {
		l.fail("jwt.issuer", flaw.message, flaw.remedy)
	}
}

func (l *loader) checkRedirects() {
	r := l.cfg.Redirects
	l.checkRedirect("redirects.after_sign_in", r.AfterSignIn)
	l.checkRedirect("redirects.after_sign_out", r.AfterSignOut)
}

// checkRedirect judges the form of a target. Browsers read "//host" and
// "/\host" as another host.
func (l *loader) checkRedirect(path, target string) {
	u, err := url.Parse(target)
	isPath := strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "//")
	isWeb := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
	if err != nil || strings.Contains(target, `\`) || !isPath && !isWeb {
		l.fail(path, show(&field{}, target)+" is neither a path nor a web address", "write a path such as /home, or the full address of one of our hosts")
	}
}

// checkCompat judges the endpoints of oauth2-proxy: its ingresses do not all say
// which request they ask about, and rules that cannot be applied must not look as
// if they were.
func (l *loader) checkCompat() {
	c := l.cfg
	if !c.Compat.OAuth2Proxy {
		if c.Compat.Convention != "" {
			l.warnings = append(l.warnings, Warning{"compat.convention", "has no effect without compat.oauth2_proxy", "set compat.oauth2_proxy: true, or remove it"})
		}
		return
	}
	if c.Compat.Convention != "" {
		return
	}
	for i, r := range c.Rules {
		if r.Host != "" || r.Path != "" || len(r.Methods) > 0 || r.Preflight != "" || r.Require != nil && r.Require.readsRequest() {
			l.fail("compat.convention", fmt.Sprintf("is not set, so that /oauth2/auth could not tell what rules[%d] is about", i),
				"set it to nginx or forward, whichever headers the ingress sets, or remove host, path, methods and preflight, and conditions on them, from the rules")
			return
		}
	}
}

var requestPart = regexp.MustCompile(`\brequest\s*\.\s*(host|path|method)\b`)

// readsRequest reports whether a condition of q looks as if it read the host, path
// or method. It sees text, not CEL: what is hidden from it, by a comment in
// between, package proxy refuses.
func (q *Require) readsRequest() bool {
	reads := func(nested Require) bool { return nested.readsRequest() }
	return requestPart.MatchString(q.When) || slices.ContainsFunc(q.All, reads) || slices.ContainsFunc(q.Any, reads)
}

func (l *loader) checkLimits() {
	s := l.cfg.Server
	if s.ReadHeaderTimeout == 0 {
		l.fail("server.read_header_timeout", "is 0, so that slow clients could hold connections for ever", "write a duration such as 10s")
	}
	if s.IdleTimeout == 0 {
		l.fail("server.idle_timeout", "is 0, so that idle connections would pile up", "write a duration such as 120s")
	}
	if s.MaxHeaderBytes < 4096 || s.MaxHeaderBytes > 1<<20 {
		l.fail("server.max_header_bytes", fmt.Sprintf("%d is not between 4096 and 1048576", s.MaxHeaderBytes), "write a number such as 65536")
	}
}
