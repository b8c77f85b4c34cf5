package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// keyA and keyB are two keys as "authproxy keys new" prints them.
const (
	keyA = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	keyB = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
)

// top is a configuration that lacks nothing, by top-level setting, so that a
// test can replace one.
func top() map[string]string {
	return map[string]string{
		"public_url": "public_url: https://app.example.com",
		"upstream":   "upstream: http://127.0.0.1:8080",
		"providers":  "providers: [{id: corp, type: oidc, issuer: \"https://id.example.com\", client_id: a}]",
	}
}

// with returns the file that lacks nothing, with lines of its own.
func with(lines ...string) string {
	base := top()
	for _, line := range lines {
		for l := range strings.Lines(line) {
			name, _, _ := strings.Cut(l, ":")
			delete(base, name)
		}
	}
	var file strings.Builder
	for _, line := range lines {
		file.WriteString(line + "\n")
	}
	for _, name := range []string{"public_url", "upstream", "providers"} {
		if base[name] != "" {
			file.WriteString(base[name] + "\n")
		}
	}
	return file.String()
}

// source reads file as c.yaml, and the secrets that the test data name.
func source(file string) Source {
	files := map[string]string{
		"c.yaml":                          file,
		"/run/secrets/client_secret":      "secret from a file\n",
		"/run/secrets/app_password":       "a password from a file\n",
		"/run/secrets/admin_token":        "an-admin-token-of-a-file\n",
		"/run/secrets/short_token":        "too-short\n",
		"/run/secrets/session_store":      "postgres://u:p@db/x\n",
		"/run/secrets/session_listen_url": "postgres://u:p@direct/x\n",
		"/run/secrets/cookie_keys":        "# first seals\n" + keyA + "\n\n" + keyB + "\n",
		"/run/secrets/empty":              "\n",
		"/run/secrets/large":              strings.Repeat("x", maxFile+1),
		"/run/secrets/comments":           "# nothing\n",
		"/run/secrets/bad_keys":           "# first\n" + keyA + "\nc2hvcnQtYW5kLXNlY3JldA==\n",
		"/run/secrets/two_lines":          "one\ntwo-and-secret\n",
	}
	return Source{File: "c.yaml", ReadFile: func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}}
}

func mustLoad(t *testing.T, src Source) *Config {
	t.Helper()
	c, _, err := Load(src)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

func readTestdata(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestMinimalFileGetsTheDefaults(t *testing.T) {
	got := mustLoad(t, source(readTestdata(t, "minimal.yaml")))
	key := func(from, step byte) []byte {
		k := make([]byte, 32)
		for i := range k {
			k[i] = from + byte(i)*step
		}
		return k
	}
	want := &Config{
		File: "c.yaml", Listen: ":4180", Admin: Admin{Listen: "127.0.0.1:9090"},
		PublicURL: &url.URL{Scheme: "https", Host: "app.example.com"}, Prefix: "/auth",
		Upstream: &Upstream{URL: &url.URL{Scheme: "http", Host: "127.0.0.1:8080"}, PassHost: true},
		Providers: []Provider{{
			ID: "corp", Name: "corp", Type: "oidc", Issuer: "https://id.example.com", ClientID: "authproxy",
			ClientSecret: "secret from a file", ClientSecretFile: "/run/secrets/client_secret",
			GroupsClaim: "groups", AssertionAudience: "token_endpoint", ResponseMode: "query", SignOut: "provider", PushedRequests: "auto",
			Claims: ClaimPaths{"id", "email", "email_verified", "name", "picture", "groups"},
		}},
		SignIn: SignIn{AllowedDomains: []string{"example.com"}},
		Session: Session{
			Store: "cookie", Schema: "authproxy", Migrate: "auto", StoreTimeout: 3 * time.Second, CacheMB: 64, AuditRetention: 90 * 24 * time.Hour, RememberMe: true,
			MaxAge: 168 * time.Hour, UpdateAge: 24 * time.Hour, AbsoluteMaxAge: 720 * time.Hour, Version: 1,
		},
		Cookie: Cookie{
			Name: "authproxy_session", Keys: [][]byte{key(0, 1), key(31, 255)}, KeysFile: "/run/secrets/cookie_keys",
			SameSite: "lax", Prefix: "auto",
		},
		Identity: Identity{
			Headers: map[string]string{
				"X-User-Id": "user.id", "X-User-Email": "user.email", "X-User-Name": "user.name",
				"X-User-Groups": "user.groups", "X-User-Roles": "user.roles",
			},
			Authorization: "jwt", GroupsOverflow: "refuse",
			Strip: []string{
				"X-User-*", "X-Auth-Request-*", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups",
				"X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token", "Remote-User", "Remote-Name", "Remote-Email", "Remote-Groups",
			},
		},
		JWT:       JWT{Issuer: "https://app.example.com/auth", Audience: "https://app.example.com", TTL: 15 * time.Minute, Expose: "token_endpoint"},
		Redirects: Redirects{"/", "/"}, Log: Log{"info", "all"},
		Shutdown: Shutdown{5 * time.Second, 30 * time.Second},
		Server:   Server{10 * time.Second, 120 * time.Second, 65536},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("Load(minimal.yaml) (-want +got):\n%s", diff)
	}
}

func TestUpdateAgeFollowsAShorterMaxAge(t *testing.T) {
	tests := []struct {
		name, session string
		want          time.Duration
	}{
		{"a day by default", "{}", 24 * time.Hour},
		{"a seventh of a short window", "{max_age: 7h}", time.Hour},
		{"a long window changes nothing", "{max_age: 700h}", 24 * time.Hour},
		{"what is set stays", "{max_age: 7h, update_age: 3h}", 3 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := mustLoad(t, source(with("session: "+tt.session)))
			if got.Session.UpdateAge != tt.want {
				t.Errorf("update_age = %v, want %v", got.Session.UpdateAge, tt.want)
			}
		})
	}
}

func TestFullFileIsReadAsWritten(t *testing.T) {
	got := mustLoad(t, source(readTestdata(t, "full.yaml")))
	want := &Config{
		File: "c.yaml", Listen: "0.0.0.0:8443", TLS: TLS{"/etc/authproxy/tls.crt", "/etc/authproxy/tls.key"}, Admin: Admin{"127.0.0.1:9191", "an-admin-token-of-a-file", "/run/secrets/admin_token"},
		PublicURL: &url.URL{Scheme: "https", Host: "app.example.com"}, Prefix: "/sso/auth",
		Upstream: &Upstream{URL: &url.URL{Scheme: "https", Host: "10.1.2.3:8443"}, CAFile: "/etc/authproxy/upstream-ca.crt",
			Headers: map[string]string{"X-Dept": "dept {{ claims.department }}"}, Cookies: map[string]string{"token": "jwt"},
			Basic: &Basic{"{{ user.email }}", "a password from a file", "/run/secrets/app_password"},
		},
		Routes: []Route{
			{"api.example.com", "/v1/**", &Upstream{URL: &url.URL{Scheme: "http", Host: "127.0.0.1:9000"}, PassHost: true}},
			{"", "/files/**", &Upstream{URL: &url.URL{Scheme: "unix", Path: "/run/files.sock"}, Basic: &Basic{"files", "an-example-password", ""}}},
		},
		Hosts:          []string{"www.example.com", "*.apps.example.com"},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::1/128")},
		Providers:      fullProviders(),
		SignIn:         SignIn{[]string{"bob@example.org"}, []string{"example.com"}, []string{"staff"}},
		SignOut:        SignOut{[]ClearCookie{{Name: "JSESSIONID"}, {"app_session", "/app", "example.com"}}},
		PathAliases:    map[string]string{"/logout": "sign-out", "/login": "sign-in"},
		Rules: []Rule{
			{Name: "public", Host: "app.example.com", Path: "/public/**", Methods: []string{"GET"}, Clients: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}, Allow: "anyone"},
			{Path: "/internal/**", Deny: true},
			{Path: "/admin/**", Require: &Require{
				true, []string{"alice@example.com"}, []string{"example.com"}, []string{"staff"}, []string{"admin"},
				map[string][]string{"department": {"sales", "it"}}, []string{"gold"}, []string{"mfa"}, 5 * time.Minute, 0,
				`user.email.endsWith("@example.com") && request.method == "GET"`, []Require{{Groups: []string{"sre"}}},
				[]Require{{Roles: []string{"owner"}}, {All: []Require{{Groups: []string{"a"}}, {Groups: []string{"b"}}}}},
			}},
			{Require: &Require{SignedIn: true, Fresh: 24 * time.Hour}, Preflight: "pass"},
		},
		Paths: Paths{[]string{"encoded_slash", "semicolon"}},
		Session: Session{"postgres://u:p@db/x", "/run/secrets/session_store", "neon_auth", "check", "postgres://u:p@direct/x", "/run/secrets/session_listen_url",
			1, 5 * time.Second, 128, 10000, 365 * 24 * time.Hour, false, 60 * time.Hour, time.Hour, 720 * time.Hour, 30 * time.Minute, 3, 5 * time.Minute},
		Cookie: Cookie{"my_session", mustLoad(t, source(readTestdata(t, "minimal.yaml"))).Cookie.Keys, "/run/secrets/cookie_keys", "example.com", "none", "secure", false},
		Identity: Identity{
			Headers: map[string]string{"X-User-Id": "user.id", "X-Session": "session.id"}, Authorization: "none",
			Roles:  map[string]Members{"admin": {Groups: []string{"staff"}}, "auditor": {Emails: []string{"carol@example.com"}, Domains: []string{"audit.example"}, Claims: map[string][]string{"department": {"audit"}}}},
			Claims: map[string]ClaimSource{"department": {From: "id_token.org.department"}, "company": {"provider.company", "none"}}, SessionClaims: []string{"department"},
			Strip: []string{"X-User-*", "Remote-User"}, GroupsOverflow: "cut",
		},
		JWT: JWT{"https://issuer.example.com/", "legacy-app", 5 * time.Minute, "session"}, HTML: HTML{InjectClient: true},
		Redirects: Redirects{"/home", "https://www.example.com/bye"}, ExtAuthz: ExtAuthz{"127.0.0.1:9292", "/etc/authproxy/grpc.crt", "/etc/authproxy/grpc.key", "/etc/authproxy/mesh-ca.crt"},
		Compat:    Compat{true, "forward"},
		WebSocket: WebSocket{[]string{"https://partner.example.net"}, time.Hour}, Log: Log{"warn", "denied"},
		Shutdown: Shutdown{time.Second, time.Minute}, Server: Server{3 * time.Second, 45 * time.Second, 16384},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("Load(full.yaml) (-want +got):\n%s", diff)
	}
}

// providerDefaults is a provider of which nothing was said.
func providerDefaults() Provider {
	return Provider{
		GroupsClaim: "groups", AssertionAudience: "token_endpoint", ResponseMode: "query", SignOut: "provider", PushedRequests: "auto",
		Claims: ClaimPaths{"id", "email", "email_verified", "name", "picture", "groups"},
	}
}

// fullProviders are the providers of full.yaml.
func fullProviders() []Provider {
	defaults := providerDefaults()
	corp, partner, google, github, entra, gitea := defaults, defaults, defaults, defaults, defaults, defaults
	corp.ID, corp.Name, corp.Type, corp.Issuer, corp.ClientID = "corp", "Example Corp", "oidc", "https://id.example.com", "authproxy"
	corp.ClientSecret, corp.ClientAuth = "an-example-secret", "post"
	corp.Scopes, corp.GroupsClaim, corp.ResponseMode, corp.SignOut, corp.PushedRequests = []string{"openid", "email", "groups"}, "realm_access.roles", "form_post", "local", "always"
	const internal = "https://id.internal/"
	corp.Endpoints = Endpoints{
		AuthorizeURL: "https://id.example.com/authorize?policy=a", TokenURL: internal + "token", JWKSURL: internal + "jwks", UserinfoURL: internal + "userinfo",
		EndSessionURL: "https://id.example.com/logout", RevocationURL: internal + "revoke", PushURL: internal + "par",
	}
	partner.ID, partner.Name, partner.Type, partner.Issuer, partner.ClientID = "partner-1", "partner-1", "okta", "https://login.example.org/tenant", "12345"
	partner.PrivateKeyFile, partner.PrivateKeyID, partner.AssertionAudience = "/run/secrets/client.pem", "2026-01", "issuer"
	google.ID, google.Name, google.Type, google.ClientID = "google", "google", "google", "1234.apps.example"
	google.ClientSecret, google.ClientSecretFile = "secret from a file", "/run/secrets/client_secret"
	google.HostedDomains = []string{"example.com"}
	google.Groups = &GoogleGroups{"cloud_identity", "admin@example.com", "/run/secrets/google.json", true, 15 * time.Minute}
	google.Endpoints = Endpoints{APIURL: "https://cloudidentity.internal", MetadataURL: "http://metadata.internal"}
	github.ID, github.Name, github.Type, github.BaseURL, github.ClientID = "github", "github", "github", "https://github.example.com", "Iv1.0"
	github.Orgs, github.Teams = []string{"acme"}, []string{"acme/sre"}
	entra.ID, entra.Name, entra.Type, entra.ClientID = "entra", "entra", "entra", "6731de76-14a6-49ae-97bc-6eba6914391e"
	entra.Tenant, entra.AllowedTenants = "organizations", []string{"72f988bf-86f1-41af-91ab-2d7cd011db47"}
	entra.ClientCertFile, entra.ClientKeyFile = "/run/secrets/client.crt", "/run/secrets/client.key"
	gitea.ID, gitea.Name, gitea.Type, gitea.Issuer, gitea.ClientID = "gitea", "gitea", "oauth2", "https://gitea.example.com", "g"
	gitea.AuthorizeURL, gitea.TokenURL, gitea.UserinfoURL = "https://gitea.example.com/authorize", "https://gitea.example.com/token", "https://gitea.example.com/user"
	gitea.Claims = ClaimPaths{"data.id", "data.email", "data.confirmed", "data.full_name", "data.avatar_url", "orgs.name"}
	return []Provider{corp, partner, google, github, entra, gitea}
}

// settingRows holds a value for every setting that can be given everywhere:
// as text, as YAML, as it is printed, and the lines it needs beside it.
func settingRows() []struct{ path, text, yaml, want, needs string } {
	return []struct{ path, text, yaml, want, needs string }{
		{"listen", "127.0.0.1:80", `"127.0.0.1:80"`, "127.0.0.1:80", ""},
		{"tls.cert_file", "/c", "/c", "/c", "tls: {key_file: /k}"},
		{"tls.key_file", "/k", "/k", "/k", "tls: {cert_file: /c}"},
		{"admin.listen", "127.0.0.1:1", `"127.0.0.1:1"`, "127.0.0.1:1", ""},
		{"admin.token", "an-admin-token-x", "an-admin-token-x", "an-admin-token-x", ""},
		{"admin.token_file", "/run/secrets/admin_token", "/run/secrets/admin_token", "/run/secrets/admin_token", ""},
		{"public_url", "https://A.Example.com:443/", `"https://A.Example.com:443/"`, "https://a.example.com", ""},
		{"prefix", "/x", "/x", "/x", ""},
		{"upstream", "https://up:1/", `"https://up:1/"`, "https://up:1", ""},
		{"upstream.url", "unix:///run/a.sock", `"unix:///run/a.sock"`, "unix:///run/a.sock", ""},
		{"upstream.pass_host", "false", "false", "false", "upstream: {url: \"http://up\"}"},
		{"upstream.ca_file", "/ca", "/ca", "/ca", "upstream: {url: \"https://up\"}"},
		{"hosts", "app.example.com:8443, APP.example.com", `["app.example.com:8443", APP.example.com]`, "[app.example.com:8443 APP.example.com]", ""},
		{"trusted_proxies", "10.1.2.3/8,::1,::ffff:10.0.0.0/104", `[10.1.2.3/8, "::1", "::ffff:10.0.0.0/104"]`, "[10.0.0.0/8 ::1/128 10.0.0.0/8]", ""},
		{"sign_in.allowed_emails", "a@b.c", "[a@b.c]", "[a@b.c]", ""},
		{"sign_in.allowed_domains", "*", `["*"]`, "[*]", ""},
		{"sign_in.allowed_groups", "a b,c", "[a b, c]", "[a b c]", ""},
		{"paths.allow", "semicolon,double_slash", "[semicolon, double_slash]", "[semicolon double_slash]", ""},
		{"session.store", "memory", "memory", "memory", ""},
		{"session.store_file", "/run/secrets/session_store", "/run/secrets/session_store", "/run/secrets/session_store", ""},
		{"session.schema", "x_1", "x_1", "x_1", ""},
		{"session.migrate", "off", "off", "off", ""},
		{"session.listen_url", "postgres://d/x", `"postgres://d/x"`, "postgres://d/x", `session: {store: "postgres://p/x"}`},
		{"session.listen_url_file", "/run/secrets/session_listen_url", "/run/secrets/session_listen_url", "/run/secrets/session_listen_url", `session: {store: "postgres://p/x"}`},
		{"session.redis_replicas", "1", "1", "1", ""},
		{"session.store_timeout", "1s", "1s", "1s", ""},
		{"session.cache_mb", "1", "1", "1", ""},
		{"session.cache_entries", "5", "5", "5", ""},
		{"session.audit_retention", "1d", "1d", "24h0m0s", ""},
		{"session.remember_me", "false", "false", "false", ""},
		{"session.max_age", "7d12h", "7d12h", "180h0m0s", ""},
		{"session.update_age", "90m", "90m", "1h30m0s", ""},
		{"session.absolute_max_age", "0", "0", "0s", ""},
		{"session.idle_timeout", "1h", "1h", "1h0m0s", ""},
		{"session.validate_interval", "1m", "1m", "1m0s", ""},
		{"session.version", "7", "7", "7", ""},
		{"cookie.name", "sid", "sid", "sid", ""},
		{"cookie.keys", keyA, "[" + keyA + "]", "[[0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31]]", ""},
		{"cookie.keys_file", "/run/secrets/cookie_keys", "/run/secrets/cookie_keys", "/run/secrets/cookie_keys", ""},
		{"cookie.domain", ".Example.com", ".Example.com", "example.com", ""},
		{"cookie.same_site", "none", "none", "none", ""},
		{"cookie.prefix", "host", "host", "host", ""},
		{"cookie.insecure", "true", "true", "true", ""},
		{"identity.headers", "X-Id=user.id, X-S=session.id", "{X-Id: user.id, X-S: session.id}", "map[X-Id:user.id X-S:session.id]", ""},
		{"identity.session_claims", "a,b", "[a, b]", "[a b]", "identity: {claims: {a: id_token.a, b: id_token.b}}"},
		{"upstream.headers", "X-A=user.id", "{X-A: user.id}", "map[X-A:user.id]", "upstream: {url: \"http://up\"}"},
		{"upstream.basic.username", "a", "a", "a", "upstream: {url: \"http://up\", basic: {password: b}}"},
		{"upstream.basic.password", "b", "b", "b", "upstream: {url: \"http://up\", basic: {username: a}}"},
		{"upstream.basic.password_file", "/run/secrets/app_password", "/run/secrets/app_password", "/run/secrets/app_password", "upstream: {url: \"http://up\", basic: {username: a}}"},
		{"upstream.cookies", "t=jwt,u=id_token", "{t: jwt, u: id_token}", "map[t:jwt u:id_token]", "upstream: {url: \"http://up\"}"},
		{"path_aliases", "/logout=sign-out", "{/logout: sign-out}", "map[/logout:sign-out]", ""},
		{"identity.authorization", "pass", "pass", "pass", ""},
		{"identity.strip", "X-A-*,X-B", "[X-A-*, X-B]", "[X-A-* X-B]", ""},
		{"identity.groups_overflow", "cut", "cut", "cut", ""},
		{"jwt.issuer", "https://iss.example/x", `"https://iss.example/x"`, "https://iss.example/x", ""},
		{"jwt.audience", "app", "app", "app", ""},
		{"jwt.ttl", "1m", "1m", "1m0s", ""},
		{"jwt.expose", "none", "none", "none", ""},
		{"html.inject_client", "true", "true", "true", ""},
		{"redirects.after_sign_in", "/in", "/in", "/in", ""},
		{"redirects.after_sign_out", "https://x.example/out", `"https://x.example/out"`, "https://x.example/out", ""},
		{"ext_authz.listen", ":9292", `":9292"`, ":9292", "ext_authz: {cert_file: /c, key_file: /k, client_ca_file: /a}"},
		{"ext_authz.cert_file", "/c", "/c", "/c", "ext_authz: {key_file: /k}"},
		{"ext_authz.key_file", "/k", "/k", "/k", "ext_authz: {cert_file: /c}"},
		{"ext_authz.client_ca_file", "/a", "/a", "/a", "ext_authz: {cert_file: /c, key_file: /k}"},
		{"compat.oauth2_proxy", "true", "true", "true", ""},
		{"compat.convention", "nginx", "nginx", "nginx", "compat: {oauth2_proxy: true}"},
		{"websocket.allowed_origins", "*,https://A.example", `["*", "https://A.example"]`, "[* https://a.example]", ""},
		{"websocket.max_lifetime", "1h", "1h", "1h0m0s", ""},
		{"log.level", "debug", "debug", "debug", ""},
		{"log.requests", "none", "none", "none", ""},
		{"shutdown.delay", "0s", "0s", "0s", ""},
		{"shutdown.timeout", "1s", "1s", "1s", ""},
		{"server.read_header_timeout", "1s", "1s", "1s", ""},
		{"server.idle_timeout", "1s", "1s", "1s", ""},
		{"server.max_header_bytes", "4096", "4096", "4096", ""},
	}
}

func TestEverySettingWorksInFileEnvironmentAndFlags(t *testing.T) {
	rows := settingRows()
	for _, lf := range leaves(settings()) {
		i := slices.IndexFunc(rows, func(r struct{ path, text, yaml, want, needs string }) bool { return r.path == lf.path })
		if i < 0 {
			if lf.field.textual() {
				t.Errorf("%s: no row tests this setting", lf.path)
			}
			continue
		}
		row := rows[i]
		group, rest, nested := strings.Cut(row.path, ".")
		inFile := group + ": " + row.yaml
		if nested {
			inFile = fmt.Sprintf("%s: {%s: %s}", group, rest, row.yaml)
			if row.needs != "" {
				inFile = strings.TrimSuffix(row.needs, "}") + fmt.Sprintf(", %s: %s}", rest, row.yaml)
			}
			if _, last, deep := strings.Cut(rest, "."); deep {
				inFile = strings.TrimSuffix(row.needs, "}}") + fmt.Sprintf(", %s: %s}}", last, row.yaml)
			}
		}
		file, env, flag, split := source(with(inFile)), source(with(row.needs)), source(with(row.needs)), source(with(row.needs))
		env.Environ = []string{"AUTHPROXY_" + strings.ToUpper(strings.ReplaceAll(row.path, ".", "_")) + "=" + row.text}
		flag.Args = []string{"--" + row.path + "=" + row.text}
		split.Args = []string{"--" + row.path, row.text}
		for name, src := range map[string]Source{"file": file, "environment": env, "flag=": flag, "flag value": split} {
			if name == "flag value" && lf.field.kind == kindBool {
				continue
			}
			t.Run(row.path+" in "+name, func(t *testing.T) {
				c := mustLoad(t, src)
				l := newLoader(src)
				got := l.value(reflect.ValueOf(c).Elem(), lf)
				if s := fmt.Sprint(got.Interface()); s != row.want {
					t.Errorf("%s = %s, want %s", row.path, s, row.want)
				}
			})
		}
	}
}

func TestLaterSourcesCountMore(t *testing.T) {
	src := source(with("session: {max_age: 30h}", "log: {level: warn}", "hosts: [app.example.com]"))
	src.Environ = []string{"AUTHPROXY_SESSION_MAX_AGE=40h", "AUTHPROXY_LOG_LEVEL=error", "AUTHPROXY_HOSTS=", "AUTHPROXY_UPSTREAM_PASS_HOST=false"}
	src.Args = []string{"--session.max_age", "50h", "--cookie.insecure"}
	c := mustLoad(t, src)
	if got, want := c.Session.MaxAge, 50*time.Hour; got != want {
		t.Errorf("flag over environment over file: max_age = %v, want %v", got, want)
	}
	if got, want := c.Log.Level, "error"; got != want {
		t.Errorf("environment over file: level = %q, want %q", got, want)
	}
	if got, want := len(c.Hosts), 1; got != want {
		t.Errorf("an empty variable counts as unset: %d hosts, want %d", got, want)
	}
	if !c.Cookie.Insecure {
		t.Error("--cookie.insecure alone is not true")
	}
	if c.Upstream.PassHost || c.Upstream.URL.Host != "127.0.0.1:8080" {
		t.Errorf("environment adds to the file's upstream: got %+v", c.Upstream)
	}
}

func TestWhereTheFileIsNamed(t *testing.T) {
	read := func(flagged, given, env string) string {
		src := Source{File: given, Environ: []string{"AUTHPROXY_CONFIG=" + env}, ReadFile: func(name string) ([]byte, error) {
			return []byte(with("cookie: {name: " + name + "}")), nil
		}}
		if flagged != "" {
			src.Args = []string{"--config", flagged}
		}
		c, _, err := Load(src)
		if err != nil {
			return err.Error()
		}
		return c.Cookie.Name + " " + c.File
	}
	tests := []struct{ name, flagged, given, env, want string }{
		{"flag before all", "flag", "given", "env", "flag flag"},
		{"the caller's before the environment's", "", "given", "env", "given given"},
		{"environment", "", "", "env", "env env"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := read(tt.flagged, tt.given, tt.env); got != tt.want {
				t.Errorf("file = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestProvidersByID(t *testing.T) {
	src := source(with())
	src.Environ = []string{
		"AUTHPROXY_PROVIDERS_CORP_CLIENT_ID=changed",
		"AUTHPROXY_PROVIDERS_MY_IDP_TYPE=oidc",
		"AUTHPROXY_PROVIDERS_MY_IDP_ISSUER=https://my.example",
		"AUTHPROXY_PROVIDERS_MY_IDP_CLIENT_ID=b",
		"AUTHPROXY_PROVIDERS_MY_IDP_CLIENT_SECRET_FILE=/run/secrets/client_secret",
		"AUTHPROXY_PROVIDERS_MY_IDP_SCOPES=openid,groups",
		"AUTHPROXY_PROVIDERS_MY_IDP_ENDPOINTS_TOKEN_URL=https://my.internal/token",
	}
	src.Args = []string{"--providers.my-idp.name", "Mine"}
	c := mustLoad(t, src)
	if len(c.Providers) != 2 {
		t.Fatalf("got %d providers, want 2", len(c.Providers))
	}
	if got := c.Providers[0].ClientID; got != "changed" {
		t.Errorf("client_id of the file's provider = %q, want %q", got, "changed")
	}
	want := providerDefaults()
	want.ID, want.Name, want.Type, want.Issuer, want.ClientID = "my-idp", "Mine", "oidc", "https://my.example", "b"
	want.ClientSecret, want.ClientSecretFile, want.Scopes = "secret from a file", "/run/secrets/client_secret", []string{"openid", "groups"}
	want.Endpoints.TokenURL = "https://my.internal/token"
	if diff := cmp.Diff(want, c.Providers[1]); diff != "" {
		t.Errorf("provider by environment alone (-want +got):\n%s", diff)
	}
}

func TestOneApplicationNeedsFlagsOnly(t *testing.T) {
	c, warnings, err := Load(Source{Args: []string{
		"--upstream", "http://127.0.0.1:8080", "--public_url", "https://app.example.com",
		"--provider", "oidc", "--issuer", "https://id.example.com", "--client_id", "me", "--client_secret", "hidden",
		"--sign_in.allowed_domains", "example.com,example.org",
	}})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	want := providerDefaults()
	want.ID, want.Name, want.Type, want.Issuer, want.ClientID, want.ClientSecret = "oidc", "oidc", "oidc", "https://id.example.com", "me", "hidden"
	if diff := cmp.Diff([]Provider{want}, c.Providers); diff != "" {
		t.Errorf("providers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"example.com", "example.org"}, c.SignIn.AllowedDomains); diff != "" {
		t.Errorf("allowed_domains (-want +got):\n%s", diff)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0].String(), "--client_secret_file") || strings.Contains(warnings[0].String(), "hidden") {
		t.Errorf("warnings = %v, want one that names --client_secret_file", warnings)
	}
}

func TestOneApplicationOfAKnownProviderNeedsNoAddress(t *testing.T) {
	base := []string{"--upstream", "http://127.0.0.1:8080", "--public_url", "https://app.example.com", "--client_id", "me"}
	tests := []struct {
		name string
		args []string
		want func(*Provider)
	}{
		{"google", []string{"--provider", "google", "--hosted_domains", "example.com"}, func(p *Provider) { p.HostedDomains = []string{"example.com"} }},
		{"github", []string{"--provider", "github", "--orgs", "acme", "--teams", "acme/sre,acme/dev"}, func(p *Provider) {
			p.Orgs, p.Teams = []string{"acme"}, []string{"acme/sre", "acme/dev"}
		}},
		{"entra", []string{"--provider", "entra", "--tenant", "72f988bf-86f1-41af-91ab-2d7cd011db47", "--providers.entra.response_mode", "form_post"}, func(p *Provider) {
			p.Tenant, p.ResponseMode = "72f988bf-86f1-41af-91ab-2d7cd011db47", "form_post"
		}},
		{"google", []string{"--provider=google", "--hosted_domains=x.example", "--providers.google.groups.api=cloud_identity", "--providers.google.groups.nested"}, func(p *Provider) {
			p.HostedDomains, p.Groups = []string{"x.example"}, &GoogleGroups{API: "cloud_identity", Nested: true, Cache: 5 * time.Minute}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustLoad(t, Source{Args: append(slices.Clone(base), tt.args...)})
			want := providerDefaults()
			want.ID, want.Name, want.Type, want.ClientID = tt.name, tt.name, tt.name, "me"
			tt.want(&want)
			if diff := cmp.Diff([]Provider{want}, c.Providers); diff != "" {
				t.Errorf("providers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFilesAreReadFromDiskByDefault(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keys := write("keys", keyA+"\n")
	c := mustLoad(t, Source{File: write("c.yaml", with("cookie: {keys_file: "+keys+"}"))})
	if got, want := len(c.Cookie.Keys), 1; got != want {
		t.Errorf("%d keys, want %d", got, want)
	}
	_, _, err := Load(Source{File: write("large.yaml", strings.Repeat("#", 2*maxFile))})
	wantProblems(t, err, "large.yaml: is larger than 1 MiB")
	_, _, err = Load(Source{File: filepath.Join(dir, "none.yaml")})
	wantProblems(t, err, "none.yaml cannot be read: no such file or directory; check the path")
}

func TestNothingIsGiven(t *testing.T) {
	tests := []struct {
		name string
		src  Source
	}{
		{"no file", Source{}},
		{"an empty file", source("")},
		{"a file of comments", source("# nothing\n")},
		{"a file of null", source("~")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Load(tt.src)
			wantProblems(t, err, "public_url: is required", "upstream: is required", "providers: names no provider")
			if got := len(problemsOf(t, err)); got != 3 {
				t.Errorf("%d problems, want 3: %v", got, err)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		name, file, env string
		want            string // "" for silence
	}{
		{"nothing odd", "", "PATH=/bin", ""},
		{"typing error", "", "AUTHPROXY_SESION_MAX_AGE=1h", "AUTHPROXY_SESSION_MAX_AGE"},
		{"typing error in a provider's setting", "", "AUTHPROXY_PROVIDERS_CORP_CLIENT_IDD=x", "did you mean AUTHPROXY_PROVIDERS_CORP_CLIENT_ID?"},
		{"a name that is like none", "", "AUTHPROXY_ZZZZZZZZZZZZZZZZ=1", "is not a setting and is ignored"},
		{"a port that is not Kubernetes'", "", "AUTHPROXY_ADMIN_PORT=9090", "AUTHPROXY_ADMIN_PORT"},

		{"Kubernetes: port", "", "AUTHPROXY_PORT=tcp://10.0.0.1:80", ""},
		{"Kubernetes: service host", "", "AUTHPROXY_SERVICE_HOST=10.0.0.1", ""},
		{"Kubernetes: service port", "", "AUTHPROXY_SERVICE_PORT=80", ""},
		{"Kubernetes: named port", "", "AUTHPROXY_SERVICE_PORT_HTTP=80", ""},
		{"Kubernetes: link", "", "AUTHPROXY_PORT_80_TCP=tcp://10.0.0.1:80", ""},
		{"Kubernetes: link port", "", "AUTHPROXY_PORT_80_TCP_PORT=80", ""},
		{"Kubernetes: link address", "", "AUTHPROXY_PORT_80_TCP_ADDR=10.0.0.1", ""},
		{"Kubernetes: a service authproxy-admin", "", "AUTHPROXY_ADMIN_SERVICE_PORT=80", ""},

		{"insecure", "public_url: http://app.example.com\ncookie: {insecure: true}", "", "travel unencrypted"},
		{"insecure without effect", "cookie: {insecure: true}", "", "has no effect with this public_url"},
		{"a rule about a claim that nobody has", "rules: [{require: {all: [{claims: {dept: [a]}}]}}]", "", "rules[0].require.all[0].claims.dept: can never be met"},
		{"a rule about a mapped claim", "identity: {claims: {dept: id_token.d}}\nrules: [{require: {claims: {dept.x: [a]}}}]", "", ""},
		{"a role by an address that may be anybody's", "identity: {claims: {mail: id_token.email}, roles: {admin: {claims: {mail: [root@example.com]}}}}", "", "identity.roles.admin.claims.mail: goes by id_token.email, which need not be verified"},
		{"a rule by such an address", "identity: {claims: {login: id_token.org.preferred_username}}\nrules: [{require: {any: [{claims: {login: [root]}}]}}]", "", "rules[0].require.any[0].claims.login: goes by id_token.org.preferred_username"},
		{"a condition on such an address", "identity: {claims: {mail: userinfo.mail}}\nrules: [{require: {when: 'user.claims[\"mail\"] == \"root@example.com\"'}}]", "", "rules[0].require.when: goes by userinfo.mail"},
		{"such an address in a header alone", "identity: {claims: {mail: id_token.email}, headers: {X-Mail: claims.mail}}", "", ""},
		{"a condition on another claim", "identity: {claims: {mail: id_token.email, dept: id_token.dept}}\nrules: [{require: {when: 'user.claims.dept == \"it\"'}}]", "", ""},
		{"an address of the user's row, which is verified", "session: {store: \"sqlite:///x\"}\nidentity: {claims: {mail: user.email}}\nrules: [{require: {claims: {mail: [root@example.com]}}}]", "", ""},
		{"means at Entra, which must be set up for it", "providers: [{id: e, type: entra, tenant: 72f988bf-86f1-41af-91ab-2d7cd011db47, client_id: a}]\nrules: [{require: {fresh: 5m}}]", "", "rules[0].require.fresh: depends on auth_time, which Entra puts into ID tokens only where it is set up to"},
		{"idle beyond the end", "session: {idle_timeout: 200h}", "", "session.idle_timeout: has no effect"},
		{"idle at the end", "session: {idle_timeout: 168h}", "", "session.idle_timeout: has no effect"},
		{"idle before the end", "session: {idle_timeout: 1h}", "", ""},
		{"a window that the hard end never lets slide", "session: {absolute_max_age: 168h, update_age: 1h}", "", "session.update_age: has no effect: session.absolute_max_age ends"},
		{"a window that may slide once", "session: {absolute_max_age: 169h, update_age: 1h}", "", ""},
		{"an interval without refresh tokens", "session: {validate_interval: 5m}\nproviders: [{id: g, type: google, client_id: a, hosted_domains: [example.com]}]", "", "scopes: bring no refresh token, so that session.validate_interval has no effect"},
		{"a provider's token without the next one", "identity: {authorization: access_token}\nproviders: [{id: o, type: okta, issuer: \"https://id.example.com\", client_id: a}]", "", "applications get no access_token any more"},
		{"refresh tokens are asked for", "session: {validate_interval: 5m}\nproviders: [{id: g, type: google, client_id: a, hosted_domains: [example.com], scopes: [openid, email, offline_access]}]", "", ""},
		{"a provider that may give them anyhow", "session: {validate_interval: 5m}", "", ""},
		{"a store that forgets", "session: {store: memory}", "", "everybody is signed out when the program ends"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := source(with(tt.file))
			src.Environ = []string{tt.env}
			_, warnings, err := Load(src)
			if err != nil {
				t.Fatalf("Load: %v", err)
			}
			got := fmt.Sprint(warnings)
			if tt.want == "" && len(warnings) > 0 || !strings.Contains(got, tt.want) {
				t.Errorf("warnings = %s, want %q", got, tt.want)
			}
		})
	}
}

// A claim of a provider that anybody can join stands in one namespace with those of
// the others.
func TestClaimsThatStrangersHaveAreWarnedOf(t *testing.T) {
	const gitlab = "{id: l, type: gitlab, client_id: a}"
	const claims = "sign_in: {allowed_domains: [\"*\"]}\nidentity: {claims: {teams: id_token.groups_direct}"
	for name, row := range map[string]struct{ file, want string }{
		"a role":                             {beside(gitlab, claims+", roles: {admin: {claims: {teams: [staff]}}}}"), "identity.roles.admin.claims.teams: means that value of id_token.groups_direct at any provider, and anybody can have an account at l"},
		"a rule":                             {beside(gitlab, claims+"}\nrules: [{require: {claims: {teams: [staff]}}}]"), "rules[0].require.claims.teams: means that value"},
		"a rule for one provider":            {beside(gitlab, claims+"}\nrules: [{require: {claims: {teams: [staff]}, when: 'user.provider == \"corp\"'}}]"), ""},
		"a document that strangers have not": {beside("{id: g, type: github, client_id: a}", claims+"}\nrules: [{require: {claims: {teams: [staff]}}}]"), ""},
		"one provider":                       {with("providers: ["+gitlab+"]", claims+"}\nrules: [{require: {claims: {teams: [staff]}}}]"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, warnings, err := Load(source(row.file))
			if err != nil {
				t.Fatalf("Load: %v", err)
			}
			if got := fmt.Sprint(warnings); row.want == "" && len(warnings) > 0 || !strings.Contains(got, row.want) {
				t.Errorf("warnings = %s, want %q", got, row.want)
			}
		})
	}
}

func problemsOf(t *testing.T, err error) []Problem {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error = %v, want joined problems", err)
	}
	var all []Problem
	for _, e := range joined.Unwrap() {
		p, ok := errors.AsType[Problem](e)
		if !ok {
			t.Fatalf("error %v is a %T, want a Problem", e, e)
		}
		all = append(all, p)
	}
	return all
}

func wantProblems(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("Load succeeded, want problems %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error lacks %q; it is:\n%v", w, err)
		}
	}
}
