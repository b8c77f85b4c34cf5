// Package config reads the settings of authproxy from a YAML file, the
// environment and flags, in this order, and turns them into one checked, typed
// [Config]. Most callers need [Load] and [Config] only.
//
// One tree of structs drives everything. Its tags name each setting and say
// what it means, and from them come the keys of the file, the names of the
// environment variables and flags, the JSON Schema ([Schema]) and the reference
// page ([Reference]), so that these cannot disagree:
//
//	yaml       the name in the file; session.max_age is also --session.max_age
//	           and AUTHPROXY_SESSION_MAX_AGE
//	doc        what an operator needs to know, in Markdown
//	default    the value when nothing is given, written as in the environment
//	derived    for people: what the default is taken from
//	example    a value to copy, written as in YAML
//	enum       the values that are allowed
//	secret     the value is never shown
//	like       of a list whose entries are groups like the one it is in: where the
//	           schema describes that
//	nonempty   an empty list is refused, because it reads like "nobody" and
//	           means "anybody"
//	required   an entry of a list must have it in the file
//	shorthand  a mapping may be written as this one of its settings
//	entry      of a list or mapping whose entries are groups: an entry may be
//	           written as this one of its settings
//	flag       the short flag when there is one provider
//	types      the types of providers that have the setting; none means all
//
// Load promises three things. A Config it returns is complete and consistent.
// Otherwise every problem is reported at once, each with its place, its setting
// and its remedy. And no message ever holds the value of a secret.
package config

import (
	"io"
	"net/netip"
	"net/url"
	"os"
	"time"
)

// Config is a complete, checked configuration. Its fields have the types that
// the program uses, so nothing downstream parses a string again.
type Config struct {
	// File is the configuration file that was read, "" without one. It is not
	// a setting.
	File string `yaml:"-"`

	Listen    string   `yaml:"listen" default:":4180" example:"\"127.0.0.1:4180\"" doc:"The address to serve on."`
	TLS       TLS      `yaml:"tls" doc:"Serve HTTPS. Without these, authproxy speaks HTTP and expects TLS to end in front of it."`
	Admin     Admin    `yaml:"admin" doc:"The listener for operators: health, metrics and the admin API. Nothing of it is ever served on the public listener."`
	PublicURL *url.URL `yaml:"public_url" example:"https://app.example.com" doc:"The address that browsers use. Redirect URIs and cookies follow from it, never from a request's headers. Required. Plain http is for loopback addresses, or needs cookie.insecure."`
	Prefix    string   `yaml:"prefix" default:"/auth" example:"/auth" doc:"Everything below this path belongs to authproxy and never reaches the upstream."`

	// Upstream is where allowed requests go; nil when only Routes has some, or
	// when authproxy only answers an ingress.
	Upstream       *Upstream         `yaml:"upstream" shorthand:"url" example:"http://127.0.0.1:8080" doc:"Where allowed requests go. In the file it is an address, or a mapping with the settings below. Without it and without routes, requests are only judged, for an ingress that asks by forward auth; then trusted_proxies is required."`
	Routes         []Route           `yaml:"routes" example:"[{host: api.example.com, path: /v1/**, upstream: \"http://127.0.0.1:9000\"}]" doc:"Further upstreams by host and path. The first route that fits is taken, then upstream."`
	Hosts          []string          `yaml:"hosts" example:"[www.example.com, \"*.apps.example.com\"]" doc:"Further hosts that are ours, beside the one of public_url: for return addresses, origins and forward auth. A leading *. stands for one label; a port counts only where one is written."`
	TrustedProxies []netip.Prefix    `yaml:"trusted_proxies" example:"[10.0.0.0/8, 192.0.2.7]" doc:"Addresses of the proxies in front whose X-Forwarded-* and X-Original-* headers count. Nobody by default."`
	Providers      []Provider        `yaml:"providers" doc:"Where users sign in. At least one is required."`
	SignIn         SignIn            `yaml:"sign_in" doc:"Who may have a session. The lists are alternatives: being in one of them is enough. They are judged again at each check."`
	Rules          []Rule            `yaml:"rules" doc:"Who may do what. The first rule that fits a request decides, and exactly one of allow, deny and require says how. Without rules everybody who is signed in is let through; with rules, a request that fits none is refused."`
	Paths          Paths             `yaml:"paths" doc:"How odd paths are treated where a rule names a path."`
	Session        Session           `yaml:"session" doc:"How long a session lives and where it is kept."`
	Cookie         Cookie            `yaml:"cookie" doc:"The session's cookie and the keys that seal it."`
	Identity       Identity          `yaml:"identity" doc:"What the upstream is told about the user."`
	JWT            JWT               `yaml:"jwt" doc:"The tokens that authproxy mints for the upstream."`
	HTML           HTML              `yaml:"html" doc:"What is done to the upstream's pages."`
	SignOut        SignOut           `yaml:"sign_out" doc:"What else ends when somebody signs out."`
	PathAliases    map[string]string `yaml:"path_aliases" enum:"sign-out,sign-in" example:"{/logout: sign-out}" doc:"Paths of the application that are answered by authproxy instead, so that the application's own links work. Sign-out by a link works from the application's own pages; from anywhere else it asks first."`
	Redirects      Redirects         `yaml:"redirects" doc:"Where users go when a request does not say."`
	ExtAuthz       ExtAuthz          `yaml:"ext_authz" doc:"The listener for Envoy, Istio and Envoy Gateway, which ask by gRPC (envoy.service.auth.v3)."`
	WebSocket      WebSocket         `yaml:"websocket" doc:"How WebSocket connections are treated."`
	Log            Log               `yaml:"log" doc:"What is written to the log."`
	Compat         Compat            `yaml:"compat" doc:"Endpoints and headers of other programs, for moving from them."`
	Shutdown       Shutdown          `yaml:"shutdown" doc:"What happens between SIGTERM and the end."`
	Server         Server            `yaml:"server" doc:"Limits of the public listener."`
}

// TLS names the certificate of the public listener. The files are not read by
// this package. Both are set, or neither.
type TLS struct {
	CertFile string `yaml:"cert_file" example:"/etc/authproxy/tls.crt" doc:"The certificate chain, in PEM."`
	KeyFile  string `yaml:"key_file" example:"/etc/authproxy/tls.key" doc:"The private key of the certificate, in PEM."`
}

// Admin is the listener for operators.
type Admin struct {
	Listen    string `yaml:"listen" default:"127.0.0.1:9090" example:"\"127.0.0.1:9090\"" doc:"The address of the admin listener. An empty text in the file, or --admin.listen=, turns it off."`
	Token     string `yaml:"token" secret:"true" example:"a-long-random-text" doc:"The bearer token of the admin API, at least 16 characters: sessions listed and ended, people banned. Without a token there is no admin API."`
	TokenFile string `yaml:"token_file" example:"/run/secrets/admin_token" doc:"A file that holds token, instead of token."`
}

// Upstream is an application behind authproxy.
type Upstream struct {
	URL      *url.URL `yaml:"url" example:"http://127.0.0.1:8080" doc:"The address of the application: http://host:port, https://host:port, h2c://host:port (HTTP/2 without TLS, as gRPC servers speak it; no WebSockets) or unix:///path/of/socket."`
	PassHost bool     `yaml:"pass_host" default:"true" example:"false" doc:"Send the browser's Host header on. When false, the upstream sees its own host."`
	CAFile   string   `yaml:"ca_file" example:"/etc/authproxy/upstream-ca.crt" doc:"Certificates in PEM that an https upstream is checked against, instead of the system's."`

	Headers map[string]string `yaml:"headers" example:"{X-Dept: \"{{ claims.department }}\"}" doc:"Further headers for this application alone, and what each holds, as in identity.headers. No client can send them. Like basic and cookies they are for requests that authproxy passes on itself, not for an ingress that asks."`
	Basic   *Basic            `yaml:"basic" example:"{username: proxy, password_file: /run/secrets/app_password}" doc:"Credentials that this application wants from whoever asks, by HTTP Basic authentication. They take the place of identity.authorization."`
	Cookies map[string]string `yaml:"cookies" enum:"jwt,access_token,id_token" example:"{token: jwt}" doc:"Cookies to add towards this application, each with a token. The browser never sees them, and cannot send them."`
}

// Basic are credentials for an application (RFC 7617).
type Basic struct {
	Username     string `yaml:"username" example:"proxy" doc:"The name, or a template in {{ }} as in identity.headers, such as {{ user.email }}: then only requests of somebody who has it carry credentials. Required."`
	Password     string `yaml:"password" secret:"true" doc:"The password."`
	PasswordFile string `yaml:"password_file" example:"/run/secrets/app_password" doc:"A file that holds the password, instead of password."`
}

// Route sends requests of a host and path to an upstream of their own. Host and
// Path are patterns, passed through as they were written.
type Route struct {
	Host     string    `yaml:"host" example:"api.example.com" doc:"The hosts this route is for. Empty means any."`
	Path     string    `yaml:"path" example:"/v1/**" doc:"The paths this route is for; * stands for one segment or a part of it, ** for any number of segments. Empty means any."`
	Upstream *Upstream `yaml:"upstream" shorthand:"url" required:"true" example:"http://127.0.0.1:9000" doc:"Where these requests go: an address, or {url, pass_host, ca_file}."`
}

// Provider is one place where users sign in. What is left empty has the default
// of its type.
type Provider struct {
	ID       string `yaml:"id" required:"true" example:"corp" doc:"The short name, part of the callback address: public_url + prefix + /callback/ + id. Lower-case letters, digits and dashes, 32 at most."`
	Name     string `yaml:"name" derived:"the id" example:"Example Corp" doc:"The name that people see."`
	Type     string `yaml:"type" enum:"oidc,google,github,entra,gitlab,keycloak,okta,auth0,oauth2" example:"oidc" doc:"The kind of provider: oidc is any OpenID Connect provider with discovery, entra is Microsoft Entra ID, oauth2 is a provider without ID tokens. Required."`
	Issuer   string `yaml:"issuer" flag:"issuer" types:"oidc,google,gitlab,keycloak,okta,auth0,oauth2" derived:"google and gitlab: the public one" example:"https://id.example.com" doc:"The issuer's address, exactly as the provider writes it. With oauth2 it is any address that stands for the provider: user ids follow from it, so it must be no other provider's. Required unless there is a default."`
	BaseURL  string `yaml:"base_url" flag:"base_url" types:"github,entra" derived:"github.com, or Entra's public cloud" example:"https://github.example.com" doc:"The address of a GitHub Enterprise Server, or of Entra in a national cloud."`
	Tenant   string `yaml:"tenant" flag:"tenant" types:"entra" example:"72f988bf-86f1-41af-91ab-2d7cd011db47" doc:"The directory: its id, or organizations, common or consumers for many. Required."`
	ClientID string `yaml:"client_id" flag:"client_id" example:"authproxy" doc:"The client id that the provider gave. Required."`

	ClientSecret      string `yaml:"client_secret" flag:"client_secret" secret:"true" doc:"The client secret that the provider gave. Without one, and without a key or a certificate, authproxy is a public client and relies on PKCE alone."`
	ClientSecretFile  string `yaml:"client_secret_file" flag:"client_secret_file" example:"/run/secrets/client_secret" doc:"A file that holds the client secret, instead of client_secret."`
	ClientAuth        string `yaml:"client_auth" enum:"basic,post" derived:"what the provider announces, else basic" example:"post" doc:"Where the client secret goes: into the Authorization header, or into the form."`
	PrivateKeyFile    string `yaml:"private_key_file" example:"/run/secrets/client.pem" doc:"A private key in PEM (RSA, ECDSA or Ed25519) that signs an assertion instead of a client secret: private_key_jwt, RFC 7523."`
	PrivateKeyID      string `yaml:"private_key_id" derived:"the key's thumbprint" example:"2026-01" doc:"The name of the private key at the provider."`
	AssertionAudience string `yaml:"assertion_audience" default:"token_endpoint" enum:"token_endpoint,issuer" example:"issuer" doc:"For whom the assertion of the private key is."`
	ClientCertFile    string `yaml:"client_cert_file" example:"/run/secrets/client.crt" doc:"A certificate in PEM that is shown to the provider instead of a client secret: mutual TLS, RFC 8705. Together with client_key_file."`
	ClientKeyFile     string `yaml:"client_key_file" example:"/run/secrets/client.key" doc:"The private key of client_cert_file, in PEM."`

	Scopes         []string      `yaml:"scopes" flag:"scopes" derived:"openid, email, profile, and what the type needs; github: read:user, user:email, read:org; oauth2: none" example:"[openid, email, profile, groups]" doc:"The scopes to ask for. Must contain openid, but for github and oauth2. Replaces the default."`
	GroupsClaim    string        `yaml:"groups_claim" flag:"groups_claim" types:"oidc,entra,gitlab,keycloak,okta,auth0" default:"groups" example:"realm_access.roles" doc:"The claim that lists the user's groups, in the ID token or in userinfo: a name, or a dotted path. With keycloak the roles come along, as role:NAME and role:CLIENT:NAME."`
	HostedDomains  []string      `yaml:"hosted_domains" flag:"hosted_domains" types:"google" nonempty:"true" example:"[example.com]" doc:"The Google Workspace domains whose members may sign in. Checked by the token's hd claim."`
	Groups         *GoogleGroups `yaml:"groups" types:"google" example:"{api: cloud_identity, nested: true}" doc:"Read the user's groups from Google Workspace. Without it Google's users have no groups."`
	Orgs           []string      `yaml:"orgs" flag:"orgs" types:"github" nonempty:"true" example:"[acme]" doc:"The organizations whose members may sign in. Being in one of orgs or teams is enough."`
	Teams          []string      `yaml:"teams" flag:"teams" types:"github" nonempty:"true" example:"[acme/sre]" doc:"The teams whose members may sign in, written org/slug. Members of the teams below count too."`
	AllowedTenants []string      `yaml:"allowed_tenants" types:"entra" nonempty:"true" example:"[72f988bf-86f1-41af-91ab-2d7cd011db47]" doc:"The ids of the directories whose members may sign in, with tenant: organizations or common."`

	AuthorizeURL string     `yaml:"authorize_url" types:"oauth2" example:"https://gitea.example.com/login/oauth/authorize" doc:"Where browsers are sent. Required."`
	TokenURL     string     `yaml:"token_url" types:"oauth2" example:"https://gitea.example.com/login/oauth/access_token" doc:"Where codes are traded for tokens. Required."`
	UserinfoURL  string     `yaml:"userinfo_url" types:"oauth2" example:"https://gitea.example.com/api/v1/user" doc:"What answers who the user is, in JSON. Required."`
	Claims       ClaimPaths `yaml:"claims" types:"oauth2" doc:"Where the userinfo JSON says what, as dotted paths such as data.user.id. Where a path meets a list, it goes on in each of its entries."`

	ResponseMode   string    `yaml:"response_mode" types:"oidc,google,entra,gitlab,keycloak,okta,auth0,oauth2" default:"query" enum:"query,form_post" example:"form_post" doc:"How the provider answers: in the address, or by a form that the browser posts. form_post needs an https public_url, or one of this machine."`
	SignOut        string    `yaml:"sign_out" types:"oidc,entra,gitlab,keycloak,okta,auth0" default:"provider" enum:"provider,local" example:"local" doc:"Whether signing out ends the provider's session too, where the provider has a page for that (public_url + prefix + /sign-out must be registered there as post-logout redirect URI), or ours only."`
	PushedRequests string    `yaml:"pushed_requests" types:"oidc,google,entra,gitlab,keycloak,okta,auth0,oauth2" default:"auto" enum:"auto,always,never" example:"always" doc:"Push the authorization request to the provider instead of having the browser carry it (RFC 9126): where the provider announces that, always, or never."`
	Endpoints      Endpoints `yaml:"endpoints" doc:"Addresses to use instead of what the provider announces or what is usual for its type. With the first three, an OpenID Connect provider needs no discovery."`
}

// GoogleGroups says where a Google Workspace user's groups are read.
type GoogleGroups struct {
	API                string        `yaml:"api" default:"admin" enum:"admin,cloud_identity" example:"cloud_identity" doc:"The Admin SDK, or Cloud Identity."`
	AdminEmail         string        `yaml:"admin_email" example:"admin@example.com" doc:"The administrator for whom the service account acts, by domain-wide delegation. Required for admin."`
	ServiceAccountFile string        `yaml:"service_account_file" example:"/run/secrets/google.json" doc:"The JSON key of the service account. Required for admin; cloud_identity otherwise uses the identity of the machine or workload."`
	Nested             bool          `yaml:"nested" default:"false" example:"true" doc:"Count the groups that a group of the user is in, too. With cloud_identity this needs an Enterprise or Premium edition."`
	Cache              time.Duration `yaml:"cache" default:"5m" example:"15m" doc:"How long a user's groups are good for before they are read again, 24h at most. While they cannot be read, the earlier ones go on for a day."`
}

// ClaimPaths say where a userinfo answer holds what.
type ClaimPaths struct {
	ID            string `yaml:"id" default:"id" example:"user.id" doc:"What identifies the user for ever: a text or a whole number, never an address or a login name that can change."`
	Email         string `yaml:"email" default:"email" example:"user.email" doc:"The address."`
	EmailVerified string `yaml:"email_verified" default:"email_verified" example:"user.confirmed" doc:"What is true when the address is verified. No other address counts in rules and sign_in."`
	Name          string `yaml:"name" default:"name" example:"user.full_name" doc:"The name."`
	Image         string `yaml:"image" default:"picture" example:"user.avatar_url" doc:"The address of a picture."`
	Groups        string `yaml:"groups" default:"groups" example:"organizations.name" doc:"The groups."`
}

// Endpoints are a provider's addresses, "" where they are not overridden.
type Endpoints struct {
	AuthorizeURL  string `yaml:"authorize_url" types:"oidc,google,github,entra,gitlab,keycloak,okta,auth0" example:"https://id.example.com/authorize" doc:"Where browsers are sent."`
	TokenURL      string `yaml:"token_url" types:"oidc,google,github,entra,gitlab,keycloak,okta,auth0" example:"https://id.internal/token" doc:"Where codes are traded for tokens."`
	JWKSURL       string `yaml:"jwks_url" types:"oidc,google,entra,gitlab,keycloak,okta,auth0" example:"https://id.internal/jwks" doc:"The keys that sign ID tokens."`
	UserinfoURL   string `yaml:"userinfo_url" types:"oidc,google,gitlab,keycloak,okta,auth0" example:"https://id.internal/userinfo" doc:"What tells the claims that the ID token lacks."`
	EndSessionURL string `yaml:"end_session_url" types:"oidc,google,entra,gitlab,keycloak,okta,auth0,oauth2" example:"https://id.example.com/logout" doc:"Where browsers sign out at the provider."`
	RevocationURL string `yaml:"revocation_url" types:"oidc,google,entra,gitlab,keycloak,okta,auth0,oauth2" example:"https://id.internal/revoke" doc:"Where tokens are given back (RFC 7009)."`
	PushURL       string `yaml:"push_url" types:"oidc,google,entra,gitlab,keycloak,okta,auth0,oauth2" example:"https://id.internal/par" doc:"Where authorization requests are pushed (RFC 9126)."`
	APIURL        string `yaml:"api_url" types:"google,github,entra" example:"https://github.example.com/api/v3" doc:"The base of GitHub's API, of Microsoft Graph with its version, or of Google's API for groups."`
	MetadataURL   string `yaml:"metadata_url" types:"google" example:"http://metadata.google.internal" doc:"Google's metadata server."`
}

// SignIn says who may have a session. The lists are OR-ed.
type SignIn struct {
	AllowedEmails  []string `yaml:"allowed_emails" nonempty:"true" example:"[alice@example.com]" doc:"Addresses, compared whole. Only verified addresses count."`
	AllowedDomains []string `yaml:"allowed_domains" nonempty:"true" example:"[example.com]" doc:"Domains of addresses, compared whole; subdomains do not count. \"*\" admits everybody the providers admit."`
	AllowedGroups  []string `yaml:"allowed_groups" nonempty:"true" example:"[staff]" doc:"Groups, as the provider names them. A name means the same group whichever provider says it, here, in rules and in roles. So with several providers no group may be named while one of them lets anybody make groups, as github.com, gitlab.com and Entra for many tenants do, and is not restricted to some."`
}

// SignOut is what else ends with a session.
type SignOut struct {
	ClearCookies []ClearCookie `yaml:"clear_cookies" entry:"name" nonempty:"true" example:"[JSESSIONID, {name: app_session, path: /app}]" doc:"The application's own cookies that belong to the person who is signed in: they reach it only with requests of the person for whom it set them, and are removed at sign-out and when somebody else signs in. Their values are marked, so name none that a script reads. Each is a name, or a mapping with the path and domain that the application sets it for."`
}

// ClearCookie is a cookie of an application.
type ClearCookie struct {
	Name   string `yaml:"name" required:"true" example:"JSESSIONID" doc:"The name."`
	Path   string `yaml:"path" derived:"/" example:"/app" doc:"The path that the application sets it for."`
	Domain string `yaml:"domain" example:"example.com" doc:"The domain that the application sets it for, if it does."`
}

// Rule is one line of the answer to "who may do what". Exactly one of Allow,
// Deny and Require is set. Host and Path are patterns, passed through as they
// were written.
type Rule struct {
	Name      string         `yaml:"name" example:"admin area" doc:"A name for logs and for the page that refuses."`
	Host      string         `yaml:"host" example:"app.example.com" doc:"The hosts this rule is for. Empty means any."`
	Path      string         `yaml:"path" example:"/admin/**" doc:"The paths this rule is for; * stands for one segment or a part of it, ** for any number of segments. Empty means any."`
	Methods   []string       `yaml:"methods" nonempty:"true" example:"[GET, POST]" doc:"The methods this rule is for. Absent means any. GET includes HEAD."`
	Clients   []netip.Prefix `yaml:"clients" nonempty:"true" example:"[10.0.0.0/8]" doc:"The networks of the clients this rule is for. Absent means any. Behind a proxy, trusted_proxies must name it."`
	Allow     string         `yaml:"allow" enum:"anyone" example:"anyone" doc:"Let the request through without signing in."`
	Deny      bool           `yaml:"deny" example:"true" doc:"Refuse the request, whoever asks."`
	Require   *Require       `yaml:"require" example:"{roles: [admin]}" doc:"What a user needs. Everything that is given must hold; within a list one is enough."`
	Preflight string         `yaml:"preflight" enum:"pass" example:"pass" doc:"Let CORS preflights of these requests through. Not together with deny."`
}

// Require is what a rule asks of a user. Every field that is set must hold;
// within a list, one value is enough. At least one field is set.
type Require struct {
	SignedIn bool                `yaml:"signed_in" example:"true" doc:"A session."`
	Emails   []string            `yaml:"emails" nonempty:"true" example:"[alice@example.com]" doc:"One of these verified addresses."`
	Domains  []string            `yaml:"domains" nonempty:"true" example:"[example.com]" doc:"A verified address of one of these domains."`
	Groups   []string            `yaml:"groups" nonempty:"true" example:"[staff]" doc:"One of these groups."`
	Roles    []string            `yaml:"roles" nonempty:"true" example:"[admin]" doc:"One of these roles; see identity.roles."`
	Claims   map[string][]string `yaml:"claims" nonempty:"true" example:"{department: [sales, it]}" doc:"For each claim one of its values. The name may be a path, such as org.department; where it meets a list, one entry is enough."`
	ACR      []string            `yaml:"acr" nonempty:"true" example:"[urn:example:gold]" doc:"A sign-in of one of these classes, as the provider names them. Who lacks nothing else is asked to sign in again."`
	AMR      []string            `yaml:"amr" nonempty:"true" example:"[mfa]" doc:"A sign-in by one of these means, such as mfa or hwk. Who lacks nothing else is asked to sign in again."`
	Fresh    time.Duration       `yaml:"fresh" example:"5m" doc:"A sign-in less than this ago. Who lacks nothing else is asked to sign in again."`
	MaxAge   time.Duration       `yaml:"max_age" example:"5m" doc:"Another name of fresh."`
	When     string              `yaml:"when" example:"'request.method == \"GET\"'" doc:"A CEL expression about user, request and session that must be true. One that cannot be evaluated refuses."`
	All      []Require           `yaml:"all" like:"#/properties/rules/items/properties/require" nonempty:"true" example:"[{roles: [admin]}, {fresh: 5m}]" doc:"All of these, each written like require itself."`
	Any      []Require           `yaml:"any" like:"#/properties/rules/items/properties/require" nonempty:"true" example:"[{roles: [admin]}, {groups: [staff]}]" doc:"At least one of these, each written like require itself."`
}

// Paths loosens the refusal of ambiguous paths.
type Paths struct {
	Allow []string `yaml:"allow" enum:"encoded_slash,semicolon,double_slash" example:"[encoded_slash]" doc:"Odd forms to let through instead of refusing them. A path with one of them never fits a rule with allow: anyone."`
}

// Session is the life of a session. All times are at least zero.
type Session struct {
	Store          string        `yaml:"store" default:"cookie" secret:"url" example:"sqlite:///var/lib/authproxy/sessions.db" doc:"Where sessions are kept: cookie (sealed, in the browser, with no database), sqlite:///path, postgres://…, redis:// or rediss://… (also redis+sentinel:// and redis+cluster://), or memory, which forgets them with the process."`
	StoreFile      string        `yaml:"store_file" example:"/run/secrets/session_store" doc:"A file that holds store, instead of store: for a URL with a password."`
	Schema         string        `yaml:"schema" default:"authproxy" example:"neon_auth" doc:"The schema of the tables in PostgreSQL, or the first part of the keys in Redis."`
	Migrate        string        `yaml:"migrate" default:"auto" enum:"auto,check,off" example:"check" doc:"Whether the tables are made and brought up to date at start, only checked, or taken as they are."`
	ListenURL      string        `yaml:"listen_url" secret:"url" example:"postgres://authproxy@db.example.com/authproxy" doc:"A direct connection to PostgreSQL, for LISTEN, where store goes through a pooler."`
	ListenURLFile  string        `yaml:"listen_url_file" example:"/run/secrets/session_listen_url" doc:"A file that holds listen_url, instead of listen_url."`
	RedisReplicas  int           `yaml:"redis_replicas" default:"0" example:"1" doc:"How many replicas of Redis should have a revocation or a ban before it is answered. What they do not confirm within a second holds all the same, with a warning in the log: a failover could undo it."`
	StoreTimeout   time.Duration `yaml:"store_timeout" default:"3s" example:"5s" doc:"How long a request waits for the store, which may be restarting or failing over, before it is answered with 503."`
	CacheMB        int           `yaml:"cache_mb" default:"64" example:"256" doc:"About how much memory sessions at hand may take, in MiB."`
	CacheEntries   int           `yaml:"cache_entries" default:"0" example:"100000" doc:"How many sessions may be at hand. 0 means that only cache_mb counts."`
	AuditRetention time.Duration `yaml:"audit_retention" default:"90d" example:"365d" doc:"How long audit events stay in the store. 0 means for ever."`
	RememberMe     bool          `yaml:"remember_me" default:"true" example:"false" doc:"Keep the cookie when the browser is closed. Without it a browser forgets the session then."`
	MaxAge         time.Duration `yaml:"max_age" default:"168h" example:"24h" doc:"How long a session lives after it was last extended."`
	UpdateAge      time.Duration `yaml:"update_age" default:"24h" example:"1h" doc:"How old a session must be before activity extends it. Shorter than max_age; when it is not set, at most a seventh of it."`
	AbsoluteMaxAge time.Duration `yaml:"absolute_max_age" default:"720h" example:"30d" doc:"The end of a session however active it is, counted from sign-in. 0 means none."`
	IdleTimeout    time.Duration `yaml:"idle_timeout" default:"0" example:"30m" doc:"End a session after this long without activity. 0 means off."`
	Version        int           `yaml:"version" default:"1" example:"2" doc:"Raise it, and every earlier session is void."`

	ValidateInterval time.Duration `yaml:"validate_interval" default:"0" example:"5m" doc:"Read the person from the provider again, with the refresh token, when that was last done this long ago, even if the tokens are still good. At least 1m. 0 means off: groups are read again, and closed accounts noticed, when the tokens end."`
}

// Cookie describes the session's cookie and holds the key ring.
type Cookie struct {
	Name string `yaml:"name" default:"authproxy_session" example:"authproxy_session" doc:"The name, without __Host- or __Secure-; see prefix."`

	// Keys is the key ring: 32 bytes each, the first one seals, all open. Nil
	// when neither cookie.keys nor cookie.keys_file is given.
	Keys     [][]byte `yaml:"keys" secret:"true" nonempty:"true" doc:"The keys that seal cookies: 32 bytes each, in base64. The first one seals, all of them open. Make one with: authproxy keys new."`
	KeysFile string   `yaml:"keys_file" example:"/run/secrets/cookie_keys" doc:"A file with the keys, one a line, instead of keys. Lines that begin with # are comments."`
	Domain   string   `yaml:"domain" example:"example.com" doc:"Share the session between the hosts of this domain. The host of public_url must be it or below it. Empty means public_url's host alone; further hosts, and those outside of the domain, get the session by a hand-off."`
	SameSite string   `yaml:"same_site" default:"lax" enum:"lax,none" example:"lax" doc:"The SameSite attribute. none needs https, and lets other sites' frames use the session. strict is not offered: a browser that comes back from the provider would not send the cookie."`
	Prefix   string   `yaml:"prefix" default:"auto" enum:"auto,host,secure,none" example:"auto" doc:"The prefix of the name: host is __Host- (https, no domain), secure is __Secure- (https), auto takes the strongest that fits."`
	Insecure bool     `yaml:"insecure" default:"false" example:"true" doc:"Allow plain http at an address that is not loopback. Everybody on the way can take the session over."`
}

// Identity is what the upstream learns about the user, and from whom alone.
type Identity struct {
	Headers        map[string]string      `yaml:"headers" default:"X-User-Id=user.id,X-User-Email=user.email,X-User-Name=user.name,X-User-Groups=user.groups,X-User-Roles=user.roles" example:"{X-User-Id: user.id, X-Dept: claims.department}" doc:"The headers to set, and what each holds: one of user.id, user.subject, user.issuer, user.provider, user.email, user.name, user.image, user.groups, user.roles, user.role, session.id, a mapped claim such as claims.department or claims.org.unit, or a text with some of them in it, as in {{ user.id }}@{{ claims.tenant }}. Replaces the default."`
	Authorization  string                 `yaml:"authorization" default:"jwt" enum:"jwt,access_token,id_token,pass,none" example:"jwt" doc:"The Authorization header to set: a token minted by authproxy, one of the provider's, the client's own (pass), or none."`
	Claims         map[string]ClaimSource `yaml:"claims" entry:"from" example:"{department: id_token.department, team: {from: provider.company, default: none}}" doc:"What to keep of what the provider says about a user, by the name that it gets: in headers (claims.NAME), in the minted token, in rules and roles. It is read at sign-in and whenever the provider's tokens are refreshed."`
	SessionClaims  []string               `yaml:"session_claims" example:"[department]" doc:"The mapped claims that GET /session tells, to scripts of the application too."`
	Roles          map[string]Members     `yaml:"roles" example:"{admin: {groups: [staff]}}" doc:"Roles of the application, and who has them."`
	Strip          []string               `yaml:"strip" default:"X-User-*,X-Auth-Request-*,X-Forwarded-User,X-Forwarded-Email,X-Forwarded-Groups,X-Forwarded-Preferred-Username,X-Forwarded-Access-Token,Remote-User,Remote-Name,Remote-Email,Remote-Groups" example:"[X-User-*, Remote-User]" doc:"Headers to remove from every request, beside those in headers, because upstreams may believe them. An entry may end in *. Replaces the default."`
	GroupsOverflow string                 `yaml:"groups_overflow" default:"refuse" enum:"refuse,cut" example:"cut" doc:"What to do when the identity headers exceed 4 KB: refuse the request, or cut the list of groups."`
}

// Members names people. The lists are OR-ed.
type Members struct {
	Emails  []string            `yaml:"emails" example:"[alice@example.com]" doc:"Verified addresses, compared whole."`
	Domains []string            `yaml:"domains" example:"[example.com]" doc:"Domains of verified addresses, compared whole. \"*\" is everybody."`
	Groups  []string            `yaml:"groups" example:"[staff]" doc:"Groups, as the provider names them."`
	Claims  map[string][]string `yaml:"claims" nonempty:"true" example:"{department: [it]}" doc:"Mapped claims, and the values of which one is enough. The name may be a path, as in rules."`
}

// ClaimSource says where a claim comes from.
type ClaimSource struct {
	From    string `yaml:"from" required:"true" example:"id_token.org.department" doc:"A document and a path in it. Documents are id_token, userinfo and provider (the user in the API of GitHub, GitLab or Microsoft Graph); with a session store also user.name, user.email, user.image and user.role, as the user's row says at each check. The path goes through objects by name; through lists by number, or into each entry."`
	Default string `yaml:"default" example:"none" doc:"The value where the provider says nothing. Without it there is no claim then."`
}

// JWT describes the tokens minted for the upstream.
type JWT struct {
	Issuer   string        `yaml:"issuer" derived:"public_url + prefix" example:"https://app.example.com/auth" doc:"The iss of the tokens."`
	Audience string        `yaml:"audience" derived:"public_url" example:"https://app.example.com" doc:"The aud of the tokens."`
	TTL      time.Duration `yaml:"ttl" default:"15m" example:"5m" doc:"How long a token is good for, from 1m to 24h. Never longer than the session."`
	Expose   string        `yaml:"expose" default:"token_endpoint" enum:"token_endpoint,session,none" example:"session" doc:"How a page's scripts get a token, for calls to other services: from prefix + /token, with prefix + /session as well (access_token and expires_at), or not at all."`
}

// HTML is what is done to the upstream's pages.
type HTML struct {
	InjectClient bool `yaml:"inject_client" default:"false" example:"true" doc:"Add client.js to the end of the upstream's HTML pages, for an application that cannot be changed: a page that is open when its session ends loads anew. Pages then come from the upstream uncompressed; a Content-Security-Policy of the application must allow scripts of its own origin."`
}

// Redirects are addresses for when a request names none. Each is a path or an
// absolute URL.
type Redirects struct {
	AfterSignIn  string `yaml:"after_sign_in" default:"/" example:"/home" doc:"Where a sign-in without a return address ends: a path, or an address of one of our hosts."`
	AfterSignOut string `yaml:"after_sign_out" default:"/" example:"/bye" doc:"Where a sign-out without a return address ends: a path, or an address of one of our hosts."`
}

// ExtAuthz is the listener for questions over gRPC. The files are not read by
// this package. CertFile and KeyFile are both set, or neither.
type ExtAuthz struct {
	Listen       string `yaml:"listen" example:"\":9191\"" doc:"The address of the gRPC listener. Empty means none. Without client_ca_file only trusted_proxies may ask."`
	CertFile     string `yaml:"cert_file" example:"/etc/authproxy/grpc.crt" doc:"The certificate chain, in PEM. Without it, the listener speaks HTTP/2 without TLS."`
	KeyFile      string `yaml:"key_file" example:"/etc/authproxy/grpc.key" doc:"The private key of the certificate, in PEM."`
	ClientCAFile string `yaml:"client_ca_file" example:"/etc/authproxy/mesh-ca.crt" doc:"Certificates in PEM of the authorities that vouch for clients (mutual TLS). Whoever shows a certificate of theirs may ask, from any address."`
}

// Compat has other programs' ways answered, too.
type Compat struct {
	OAuth2Proxy bool   `yaml:"oauth2_proxy" default:"false" example:"true" doc:"Answer at the endpoints of oauth2-proxy, too: /oauth2/ with start, callback, auth, userinfo, sign_in and sign_out, and /ping and /ready; and tell X-Auth-Request-User, -Email, -Groups, -Preferred-Username and -Access-Token. With one provider, the redirect URI is public_url + /oauth2/callback. With prefix: /oauth2, an ingress that was set up for oauth2-proxy needs no other change than the address."`
	Convention  string `yaml:"convention" enum:"nginx,forward" example:"nginx" doc:"Where /oauth2/auth reads the original request: nginx is X-Original-URL and X-Original-Method, as ingress-nginx sends them, forward is X-Forwarded-Method, -Proto, -Host and -Uri, as Traefik does. Needed where a rule, or a condition in it, names a host, a path or methods, or lets preflights pass; without it, only who is signed in decides."`
}

// WebSocket is how connections are treated that speak WebSocket.
type WebSocket struct {
	AllowedOrigins []string `yaml:"allowed_origins" example:"[\"https://partner.example.net\"]" doc:"Further sites whose pages may open WebSockets here, beside our own hosts. Browsers let any page try, with the user's cookies. \"*\" admits all: only for an application that checks Origin itself."`

	MaxLifetime time.Duration `yaml:"max_lifetime" default:"0" example:"1h" doc:"Close an upgraded connection after this long, a WebSocket with 1001 (going away). 0 means when the session ends, which closes it in any case, with 1008."`
}

// Log says what is logged.
type Log struct {
	Level    string `yaml:"level" default:"info" enum:"debug,info,warn,error" example:"debug" doc:"The least important level to write."`
	Requests string `yaml:"requests" default:"all" enum:"all,denied,none" example:"denied" doc:"Which requests get a line of their own."`
}

// Shutdown is the timing of an orderly end.
type Shutdown struct {
	Delay   time.Duration `yaml:"delay" default:"5s" example:"5s" doc:"How long to go on serving, not ready any more, so that load balancers notice."`
	Timeout time.Duration `yaml:"timeout" default:"30s" example:"30s" doc:"How long requests that are under way may take to end after that."`
}

// Server limits what one connection may cost. All limits are above zero.
type Server struct {
	ReadHeaderTimeout time.Duration `yaml:"read_header_timeout" default:"10s" example:"10s" doc:"How long a client may take to send its headers."`
	IdleTimeout       time.Duration `yaml:"idle_timeout" default:"120s" example:"120s" doc:"How long an idle connection is kept."`
	MaxHeaderBytes    int           `yaml:"max_header_bytes" default:"65536" example:"65536" doc:"The size of a request's headers, in bytes, from 4096 to 1048576."`
}

// Source is where [Load] looks. The zero value has nothing in it.
type Source struct {
	// File is the path of the YAML file, "" for none. --config in Args comes
	// before it; AUTHPROXY_CONFIG in Environ is used when both are silent.
	File string

	// Environ holds "NAME=value" pairs, as [os.Environ] returns them.
	Environ []string

	// Args holds flags only, without the program's name and the subcommand.
	Args []string

	// ReadFile reads the YAML file and the files of secrets. Nil means
	// [os.ReadFile], stopped after a little more than 1 MiB.
	ReadFile func(string) ([]byte, error)
}

// maxFile is the largest file that is read, in bytes.
const maxFile = 1 << 20

// Load reads src and returns the configuration, with warnings about what is
// allowed but probably not meant. On failure the Config is nil and the error
// joins every [Problem] found; warnings are returned in this case too.
func Load(src Source) (*Config, []Warning, error) {
	l := newLoader(src)
	args := l.parseArgs()
	l.loadFile(l.fileName(args))
	l.applyEnviron()
	l.applyArgs(args)
	if !l.unreadable {
		l.readSecrets()
		l.check()
	}
	if err := l.err(); err != nil {
		return nil, l.warnings, err
	}
	l.derive()
	return l.cfg, l.warnings, nil
}

// derive fills in the defaults that are taken from other settings.
func (l *loader) derive() {
	c := l.cfg
	for i := range c.Providers {
		if c.Providers[i].Name == "" {
			c.Providers[i].Name = c.Providers[i].ID
		}
	}
	if c.JWT.Issuer == "" {
		c.JWT.Issuer = c.PublicURL.String() + c.Prefix
	}
	if c.JWT.Audience == "" {
		c.JWT.Audience = c.PublicURL.String()
	}
}

// readFile returns the contents of a file, at most one byte more than maxFile,
// so that the caller sees that it is too large without holding all of it.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}
