package config

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// secret is what no message may hold.
const secret = "hunter2-hunter2"

// provider returns a file whose provider has these further settings.
func provider(settings string) string {
	return with("providers: [{id: corp, type: oidc, issuer: \"https://id.example.com\", client_id: a, " + settings + "}]")
}

// googleGroups returns a file whose provider reads groups with these settings.
func googleGroups(settings string) string {
	return with("providers: [{id: g, type: google, client_id: a, hosted_domains: [x.example], groups: {" + settings + "}}]")
}

// entraTenant is the issuer of a tenant of Entra.
const entraTenant = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"

// oauth2Entry is a provider o that sends browsers to authorize.
func oauth2Entry(authorize string) string {
	return "{id: o, type: oauth2, issuer: \"https://x\", client_id: a, authorize_url: \"" + authorize + "\", token_url: \"https://x/t\", userinfo_url: \"https://x/u\"}"
}

// oauth2 is the list with this provider alone.
func oauth2(authorize string) string { return "providers: [" + oauth2Entry(authorize) + "]" }

// beside returns a file with providers beside corp, which nobody can join, and
// further settings.
func beside(providers, settings string) string {
	return with("providers: [{id: corp, type: oidc, issuer: \"https://id.example.com\", client_id: a}, "+providers+"]", settings)
}

// issued returns a file with corp, an OAuth 2.0 provider o of this issuer and
// another provider.
func issued(issuer, other string) string {
	entry := strings.Replace(oauth2Entry("https://x/a"), "https://x\"", issuer+"\"", 1)
	return beside(entry+", "+other, "sign_in: {allowed_domains: [x.example]}")
}

func TestProblemsNamePlaceSettingAndRemedy(t *testing.T) {
	tests := []struct {
		name, file string
		want       string
	}{
		{"unknown key", with("listn: x"), "c.yaml:1:1: listn: is not a setting; did you mean listen?"},
		{"unknown key below", with("session:\n  max_agee: 1h"), "c.yaml:2:3: session.max_agee: is not a setting; did you mean max_age?"},
		{"a key with dashes", with("session:\n  max-age: 1h"), "did you mean max_age?"},
		{"a key in the wrong place", with("max_age: 1h"), "c.yaml:1:1: max_age: is not a setting; did you mean session.max_age?"},
		{"a key like no other", with("log: {zzzzzz: 1}"), "log.zzzzzz: is not a setting; the settings here are: level, requests"},
		{"unknown key in a list", with("rules:\n  - {allow: anyone}\n  - {alow: anyone}"), "c.yaml:3:6: rules[1].alow: is not a setting; did you mean allow?"},
		{"unknown key of a provider", provider("client_secrt: " + secret), "providers.corp.client_secrt: is not a setting; did you mean client_secret?"},
		{"a setting of a later version", with("audit: {table: true}"), "audit: is not a setting"},
		{"duplicate key", with("log: {level: info, level: warn}"), "c.yaml:1:20: log.level: is given twice, first in line 1; remove one"},
		{"duplicate key at the top", with("prefix: /a\nprefix: /b"), "c.yaml:2:1: prefix: is given twice, first in line 1"},
		{"duplicate role", with("identity: {roles: {a: {groups: [x]}, a: {groups: [y]}}}"), "identity.roles.a: is given twice"},
		{"several documents", with() + "---\nlisten: x\n", "c.yaml:5:1: a second document begins here; keep one"},
		{"alias", with("hosts: [*.example.com]"), "c.yaml:1:9: hosts[0]: YAML aliases are not supported; write the value out; a value that begins with * needs quotes"},
		{"anchor", with("prefix: &p /auth"), "prefix: YAML anchors and tags are not supported"},
		{"tag", with("prefix: !!str /auth"), "prefix: YAML anchors and tags are not supported"},
		{"merge key", with("log:\n  <<: {level: info}"), "c.yaml:2:3: log: YAML merge keys and complex keys are not supported"},
		{"complex key", with("log:\n  ? level\n  : info"), "log: YAML merge keys and complex keys are not supported"},
		{"bad syntax", "public_url: [a", "c.yaml:1:13: is not valid YAML: "},
		{"bad escape", with("jwt: {audience: \"a\\q\"}"), "is not valid YAML: found unknown escape character; check indentation"},
		{"not a mapping", "just text", "c.yaml:1:1: is text, but must be a mapping; write settings as name: value"},
		{"not UTF-8", "prefix: \xff", "c.yaml: is not UTF-8 text"},
		{"too large", strings.Repeat("#\n", 1<<19+1), "c.yaml: is larger than 1 MiB"},
		{"too many values", strings.Repeat("- a\n", 30_000), "c.yaml: holds too many values"},
		{"too deep in brackets", strings.Repeat("[", 200), "c.yaml:1:51: is nested too deeply"},
		{"too deep in dashes", strings.Repeat("- ", 200), "is nested too deeply"},

		{"no value", with("prefix:"), "c.yaml:1:1: prefix: has no value; remove the line"},
		{"no value in a list", with("hosts:\n  -"), "hosts[0]: is empty"},
		{"an empty entry", with(`hosts: [""]`), "hosts[0]: is empty"},
		{"a number for text", with("log: {level: 7}"), "c.yaml:1:14: log.level: is a number, but must be one of debug, info, warn, error; put it in quotes"},
		{"text for a number", with("session: {version: \"1\"}"), "session.version: is text, but must be a whole number; write a whole number, without quotes"},
		{"an odd number", with("session: {version: 1_0}"), `session.version: "1_0" is not a whole number; write digits only`},
		{"yes for true", with("cookie: {insecure: yes}"), "cookie.insecure: is text, but must be true or false; write true or false, without quotes"},
		{"text for a list", with("hosts: app.example.com"), "hosts: is text, but must be a list; write a list, such as [a, b]"},
		{"a list for text", with("prefix: [/auth]"), "prefix: is a list, but must be text; write text"},
		{"text for a mapping", with("log: info"), "log: is text, but must be a mapping; write a mapping, such as {name: value}"},
		{"text for a mapping of names", with("identity: {headers: x}"), "identity.headers: is text, but must be a mapping"},
		{"a list for an upstream", with("upstream: [a]"), "upstream: is a list, but must be a URL"},
		{"a line break", with("jwt: {audience: \"a\\nb\"}"), "jwt.audience: holds a line break or another control character"},

		{"no such value", with("log: {level: wrn}"), `log.level: "wrn" is not one of its values; did you mean warn? Use one of: debug, info, warn, error`},
		{"no such value, near none", with("log: {level: zzzzzzzz}"), `is not one of its values; use one of: debug`},
		{"a store that there is not", with("session: {store: \"mysql://x/y\"}"), `session.store: is neither cookie nor the address of a store; write cookie, memory, or an address that begins with sqlite:`},
		{"a schema that is none", with("session: {schema: \"a-b\"}"), "session.schema: is not the name of a schema; use up to 48"},
		{"a listener for another database", with("session: {store: \"sqlite:///x\", listen_url: \"postgres://x/y\"}"), "session.listen_url: has a meaning for PostgreSQL only"},
		{"no room for sessions", with("session: {cache_mb: 0}"), "session.cache_mb: is too small"},
		{"less than no sessions", with("session: {cache_entries: -1}"), "session.cache_entries: is too small"},
		{"read again all the time", with("session: {validate_interval: 59s}"), "session.validate_interval: 59s is shorter than 1m"},
		{"no time for the store", with("session: {store_timeout: 1ms}"), "session.store_timeout: is shorter than 100ms"},
		{"a type that there is not", with("providers: [{id: a, type: saml, issuer: \"https://x\", client_id: b}]"), `providers.a.type: "saml" is not one of its values; use one of: oidc, google`},
		{"no such source", with("identity: {headers: {X-A: user.mail}}"), "identity.headers.X-A: \"user.mail\" is not one of its values; did you mean user.email?"},
		{"no such source in a template", with("identity: {headers: {X-A: \"a {{ user.mail }}\"}}"), "identity.headers.X-A: \"user.mail\" is not one of its values; did you mean user.email?"},
		{"a fresh sign-in at a provider that cannot say", with("providers: [{id: g, type: github, client_id: a, orgs: [x]}]", "rules: [{require: {any: [{fresh: 5m}, {roles: [a]}]}}]"), "rules[0].require.any[0].fresh: can never be met"},
		{"a class at a provider that cannot say", with("providers: [{id: g, type: google, client_id: a, hosted_domains: [example.com]}]", "rules: [{require: {acr: [gold]}}]"), "rules[0].require.acr: can never be met"},
		{"means at a provider that cannot say", with("providers: [{id: g, type: github, client_id: a, orgs: [x]}]", "rules: [{require: {amr: [mfa]}}]"), "rules[0].require.amr: can never be met"},
		{"a class at Entra, which has none", with("providers: [{id: e, type: entra, tenant: 72f988bf-86f1-41af-91ab-2d7cd011db47, client_id: a}]", "rules: [{require: {acr: [gold]}}]"), "rules[0].require.acr: can never be met: providers of the types github, google, oauth2, entra"},
		{"a condition on the class at a provider that cannot say", with("providers: [{id: g, type: github, client_id: a, orgs: [x]}]", "rules: [{require: {any: [{when: 'session.acr == \"gold\"'}]}}]"), "rules[0].require.any[0].when: reads session.acr, which is never there"},
		{"a condition on the time at a provider that cannot say", with("providers: [{id: g, type: github, client_id: a, orgs: [x]}]", "rules: [{require: {when: 'request.time - session.auth_time < duration(\"5m\")'}}]"), "rules[0].require.when: reads session.auth_time, which is never there"},
		{"half a template", with("identity: {headers: {X-A: \"{{ user.id\"}}"), "has {{ or }} without the other"},
		{"a claim that is not mapped", with("identity: {headers: {X-A: claims.dept}}"), "identity.headers.X-A: \"dept\" is not one of identity.claims"},
		{"a reserved claim", with("identity: {claims: {Sub: id_token.x}}"), "identity.claims.Sub: is a claim that every token has, which cannot be mapped over; choose another name"},
		{"no document", with("identity: {claims: {a: token.x}}"), "identity.claims.a: \"token.x\" begins with no document"},
		{"no claim", with("identity: {claims: {a: id_token}}"), "identity.claims.a: \"id_token\" names no claim"},
		{"a path with a hole", with("identity: {claims: {a: id_token.x..y}}"), "identity.claims.a: \"id_token.x..y\" names no claim"},
		{"a document that no provider has", with("identity: {claims: {a: provider.x}}"), "identity.claims.a: comes from provider, which none of the providers has; only github, gitlab, entra have it"},
		{"a row without a database", with("identity: {claims: {a: user.plan}}"), "identity.claims.a: comes from the user's row in a database"},
		{"no column of the row", with("session: {store: memory}", "identity: {claims: {a: user.plan}}"), "identity.claims.a: \"user.plan\" is not one of what is read of the user's row; use one of user.name, user.email, user.image, user.role"},
		{"told, but not mapped", with("identity: {session_claims: [a]}"), "identity.session_claims[0]: \"a\" is not one of identity.claims"},
		{"told under a name that is taken", with("identity: {claims: {id: id_token.x}, session_claims: [id]}"), "identity.session_claims[0]: is what GET /session tells anyway"},
		{"a role by a claim that is not mapped", with("identity: {roles: {a: {claims: {x: [y]}}}}"), "identity.roles.a.claims.x: \"x\" is not one of identity.claims"},
		{"a role by no value", with("identity: {claims: {x: id_token.x}, roles: {a: {claims: {x: []}}}}"), "identity.roles.a.claims.x: is an empty list"},
		{"Authorization for one application", with("upstream: {url: \"http://up\", headers: {Authorization: user.id}}"), "upstream.headers.Authorization: \"Authorization\" is not a header to set"},
		{"a header of one application twice", with("upstream: {url: \"http://up\", headers: {X-A: user.id, x_a: user.id}}"), "is the same header as another one"},
		{"Basic without a name", with("upstream: {url: \"http://up\", basic: {password: x}}"), "upstream.basic.username: is required"},
		{"Basic with two names", with("upstream: {url: \"http://up\", basic: {username: \"a:b\", password: x}}"), "upstream.basic.username: holds a colon"},
		{"Basic without a password", with("upstream: {url: \"http://up\", basic: {username: a}}"), "upstream.basic.password_file: is required"},
		{"a cookie of ours for an application", with("upstream: {url: \"http://up\", cookies: {__Host-authproxy_session: jwt}}"), "is the name of a cookie of authproxy's own"},
		{"a token that there is not", with("upstream: {url: \"http://up\", cookies: {t: refresh_token}}"), "upstream.cookies.t: \"refresh_token\" is not one of its values"},
		{"to clear a cookie of ours", with("sign_out: {clear_cookies: [authproxy_session]}"), "sign_out.clear_cookies[0].name: \"authproxy_session\" is the name of a cookie of authproxy's own"},
		{"to clear no cookie", with("sign_out: {clear_cookies: [\"a b\"]}"), "is not the name of a cookie"},
		{"to clear at no path", with("sign_out: {clear_cookies: [{name: a, path: \"/a; Domain=x\"}]}"), "sign_out.clear_cookies[0].path: \"/a; Domain=x\" is not the path of a cookie"},
		{"an alias with a pattern", with("path_aliases: {/a/**: sign-out}"), "path_aliases./a/**: \"/a/**\" is not one plain path"},
		{"an alias of ours", with("path_aliases: {/auth/x: sign-out}"), "path_aliases./auth/x: is below the prefix"},
		{"an alias to nowhere", with("path_aliases: {/a: sign-of}"), "path_aliases./a: \"sign-of\" is not one of its values; did you mean sign-out?"},
		{"no such path form", with("paths: {allow: [encoded_slsh]}"), "paths.allow[0]: \"encoded_slsh\" is not one of its values; did you mean encoded_slash?"},

		{"not a duration", with("session: {max_age: 5 parsecs}"), `c.yaml:1:20: session.max_age: "5 parsecs" is not a duration; write a number with a unit, such as 30s, 15m, 24h or 7d`},
		{"a duration without unit", with("session: {max_age: 5}"), `session.max_age: "5" is not a duration`},
		{"a negative duration", with("session: {idle_timeout: -1h}"), "session.idle_timeout: \"-1h\" is negative"},
		{"too many days", with("session: {idle_timeout: 200000d}"), "session.idle_timeout: \"200000d\" is not a duration"},
		{"an endless duration", with("session: {idle_timeout: 100000d2000000h}"), "is negative or too long"},
		{"no duration", with(`session: {max_age: ""}`), `session.max_age: "" is not a duration`},

		{"listen without port", with("listen: localhost"), `listen: "localhost" is not an address to listen on`},
		{"listen on a large port", with(`listen: ":70000"`), `listen: ":70000" is not`},
		{"listen on an odd host", with(`listen: "a b:80"`), `listen: "a b:80" is not`},
		{"admin without port", with("admin: {listen: localhost}"), `admin.listen: "localhost" is not an address`},
		{"an admin token that is short", with("admin: {token: fifteen-letters}"), "admin.token: is no token: fewer than 16 characters"},
		{"an admin token with a space", with("admin: {token: \"sixteen letters and a space\"}"), "admin.token: is no token"},
		{"a short admin token in a file", with("admin: {token_file: /run/secrets/short_token}"), "admin.token_file: is no token"},
		{"an admin token twice", with("admin: {token: an-admin-token-x, token_file: /run/secrets/admin_token}"), "admin.token: is given, and admin.token_file too"},
		{"admin in public", with(`listen: ":9090"`), "admin.listen: takes the address of listen"},
		{"certificate without key", with("tls: {cert_file: /c}"), "c.yaml:1:1: tls.key_file: is missing beside tls.cert_file; set both, or neither"},
		{"key without certificate", with("tls: {key_file: /c}"), "tls.cert_file: is missing beside tls.key_file"},

		{"public_url without scheme", with("public_url: app.example.com"), "public_url: is not an http or https address; write it with its scheme, such as https://app.example.com"},
		{"public_url of nothing", with("public_url: https://"), "public_url: has no valid host"},
		{"public_url with an odd host", with(`public_url: "https://a_-.example.com"`), "public_url: has no valid host"},
		{"public_url with a large port", with(`public_url: "https://a.example.com:99999"`), "public_url: has no valid host"},
		{"public_url with a path", with("public_url: https://app.example.com/x"), "public_url: has a path; remove it"},
		{"public_url with a query", with("public_url: https://app.example.com/?x"), "public_url: holds a query or a fragment"},
		{"public_url with a fragment", with("public_url: https://app.example.com/#x"), "public_url: holds a query or a fragment"},
		{"public_url with a user", with("public_url: https://a:" + secret + "@app.example.com"), "public_url: holds a user name"},
		{"public_url that cannot be read", with(`public_url: "https://a b"`), "is not a URL; write an address such as https://app.example.com"},
		{"a password in what cannot be read", with(`public_url: "https://a:` + secret + `@b c"`), "public_url: the value is not a URL"},
		{"public_url over plain http", with("public_url: http://app.example.com"), "public_url: is plain http, so that everybody on the way can take a session over; use https"},
		{"localhost as a mere prefix", with("public_url: http://localhost.example.com"), "public_url: is plain http"},
		{"prefix without slash", with("prefix: auth"), `prefix: "auth" is not a plain path`},
		{"prefix with a slash at the end", with("prefix: /auth/"), "is not a plain path"},
		{"prefix of the root", with("prefix: /"), "is not a plain path"},
		{"prefix with dots", with("prefix: /a/../b"), "is not a plain path"},

		{"upstream of another scheme", with("upstream: ftp://a"), "upstream.url: has a scheme that is not supported; use http://, https://, h2c:// or unix://"},
		{"upstream with a path", with("upstream: http://a/b"), "c.yaml:1:11: upstream.url: has a path"},
		{"upstream with a query", with("upstream: http://a?b"), "upstream.url: holds a query"},
		{"upstream with a password", with("upstream: http://a:" + secret + "@b"), "upstream.url: holds a user name"},
		{"a relative socket", with("upstream: unix://app.sock"), "upstream.url: does not name a socket"},
		{"a folder as socket", with("upstream: unix:///run/"), "upstream.url: does not name a socket"},
		{"upstream without address", with("upstream: {pass_host: false}"), "upstream.url: is required"},
		{"gRPC without anybody who may ask", with("ext_authz: {listen: \":9292\"}"), "ext_authz.listen: would answer nobody, because nobody is named who may ask; set trusted_proxies"},
		{"gRPC on the public address", with("ext_authz: {listen: \":4180\"}\ntrusted_proxies: [10.0.0.0/8]"), "ext_authz.listen: takes the address of listen"},
		{"gRPC on the admin's address", with("ext_authz: {listen: \":9090\"}\ntrusted_proxies: [10.0.0.0/8]"), "ext_authz.listen: takes the address of admin.listen"},
		{"gRPC at no address", with("ext_authz: {listen: nine}"), "ext_authz.listen: \"nine\" is not an address to listen on"},
		{"gRPC with a certificate and no key", with("ext_authz: {cert_file: /c}"), "ext_authz.key_file: is missing beside ext_authz.cert_file"},
		{"gRPC with an authority and no certificate", with("ext_authz: {client_ca_file: /c}"), "ext_authz.client_ca_file: has no use without TLS"},
		{"rules by path without a convention", with("compat: {oauth2_proxy: true}\nrules: [{require: {signed_in: true}, path: /a}]"), "compat.convention: is not set, so that /oauth2/auth could not tell what rules[0] is about; set it to nginx or forward"},
		{"rules by host without a convention", with("compat: {oauth2_proxy: true}\nrules: [{require: {signed_in: true}, host: app.example.com}]"), "compat.convention: is not set"},
		{"rules by method without a convention", with("compat: {oauth2_proxy: true}\nrules: [{require: {signed_in: true}, methods: [GET]}]"), "compat.convention: is not set"},
		{"a condition on the path without a convention", with("compat: {oauth2_proxy: true}\nrules: [{require: {when: '!request.path.startsWith(\"/admin\")'}}]"), "could not tell what rules[0] is about"},
		{"a nested condition on the method without a convention", with("compat: {oauth2_proxy: true}\nrules: [{deny: true}, {require: {any: [{all: [{when: 'request . method == \"GET\"'}]}]}}]"), "could not tell what rules[1] is about"},
		{"preflights without a convention", with("compat: {oauth2_proxy: true}\nrules: [{require: {signed_in: true}, preflight: pass}]"), "compat.convention: is not set"},
		{"certificates without TLS", with("upstream: {url: \"http://a\", ca_file: /c}"), "upstream.ca_file: has no use without TLS"},
		{"route without upstream", with("routes: [{path: /a}]"), "c.yaml:1:10: routes[0].upstream: is required"},
		{"route with an empty upstream", with("routes: [{path: /a, upstream: }]"), "routes[0].upstream: is required"},
		{"route with a bad upstream", with("routes: [{path: /a, upstream: \"ftp://x\"}]"), "routes[0].upstream.url: has a scheme"},
		{"route with a relative path", with("routes: [{path: a, upstream: \"http://x\"}]"), `routes[0].path: "a" does not begin with a slash`},

		{"an empty network", with("trusted_proxies: [x]"), `trusted_proxies[0]: "x" is not an address or a network`},
		{"a zone", with(`trusted_proxies: ["fe80::1%eth0"]`), "trusted_proxies[0]: \"fe80::1%eth0\" is not an address"},
		{"trust in everybody", with("trusted_proxies: [10.0.0.1, 0.0.0.0/0]"), `c.yaml:1:29: trusted_proxies[1]: "0.0.0.0/0" trusts everybody, so that anybody can forge a client's address and the original URL; name the networks`},
		{"trust in everybody, IPv6", with(`trusted_proxies: ["::/0"]`), "trusts everybody"},
		{"trust in everybody, mapped", with(`trusted_proxies: ["::ffff:0.0.0.0/96"]`), "trusts everybody"},

		{"no providers", with("providers: []"), "providers: names no provider"},
		{"provider without id", with("providers: [{type: oidc, issuer: \"https://x\", client_id: b}]"), "providers[0].id: is required"},
		{"provider with an odd id", with("providers: [{id: A_b, type: oidc, issuer: \"https://x\", client_id: b}]"), `providers[0].id: "A_b" is not an id; use 1 to 32 lower-case letters, digits and dashes`},
		{"provider without type", with("providers: [{id: a, issuer: \"https://x\", client_id: b}]"), "c.yaml:1:13: providers.a.type: is required; add type: oidc"},
		{"provider without issuer", with("providers: [{id: a, type: oidc, client_id: b}]"), "providers.a.issuer: is required"},
		{"provider without client", with("providers: [{id: a, type: oidc, issuer: \"https://x\"}]"), "providers.a.client_id: is required"},
		{"issuer over plain http", with("providers: [{id: a, type: oidc, issuer: \"http://x.example\", client_id: b}]"), "providers.a.issuer: is plain http, so that everybody on the way can sign in as anybody; use https"},
		{"issuer that cannot be read", with("providers: [{id: a, type: oidc, issuer: \"http://%zz\", client_id: b}]"), "providers.a.issuer: is not a URL"},
		{"issuer with a query", with("providers: [{id: a, type: oidc, issuer: \"https://x?y\", client_id: b}]"), "providers.a.issuer: holds a query"},
		{"scopes without openid", provider("scopes: [email]"), "providers.corp.scopes: must contain openid"},
		{"two scopes in one", provider("scopes: [openid, email profile]"), `providers.corp.scopes[1]: "email profile" is not a scope`},
		{"no claim for groups", provider(`groups_claim: ""`), "providers.corp.groups_claim: is empty"},
		{"a secret that is a number", provider("client_secret: 2718281828"), "providers.corp.client_secret: is a number, but must be text; put it in quotes"},
		{"a secret that is a list", provider("client_secret: [" + secret + "]"), "providers.corp.client_secret: is a list, but must be text"},
		{"a secret twice", provider("client_secret: " + secret + ", client_secret_file: /run/secrets/client_secret"), "providers.corp.client_secret: is given, and providers.corp.client_secret_file too; remove one"},
		{"a secret in place of its file", provider("client_secret_file: " + secret), "providers.corp.client_secret_file: the file cannot be read: file does not exist; check the path"},
		{"an empty secret", provider("client_secret_file: /run/secrets/empty"), "providers.corp.client_secret_file: the file is empty"},
		{"a large secret", provider("client_secret_file: /run/secrets/large"), "providers.corp.client_secret_file: the file is larger than 1 MiB"},
		{"a secret of two lines", provider("client_secret_file: /run/secrets/two_lines"), "providers.corp.client_secret_file: the file holds a line break"},

		{"google for everybody", with("providers: [{id: g, type: google, client_id: a}]"), "sign_in: provider g gives an account to anybody, and nobody is named who may sign in; set sign_in.allowed_domains or sign_in.allowed_emails, or the provider's hosted_domains, or sign_in.allowed_domains: [\"*\"]"},
		{"github for everybody", with("providers: [{id: g, type: github, client_id: a}]"), "sign_in: provider g gives an account to anybody, and nobody is named who may sign in; set sign_in.allowed_domains or sign_in.allowed_emails, or the provider's orgs or teams"},
		{"github.com by its address", with("providers: [{id: g, type: github, base_url: \"https://GitHub.com/\", client_id: a}]"), "sign_in: provider g gives"},
		{"every Entra tenant", with("providers: [{id: e, type: entra, tenant: common, client_id: a}]"), "or the provider's allowed_tenants"},
		{"every organization's Entra", with("providers: [{id: e, type: entra, tenant: organizations, client_id: a}]"), "sign_in: provider e gives"},
		{"personal Microsoft accounts", with("providers: [{id: e, type: entra, tenant: consumers, client_id: a}]"), "sign_in: provider e gives"},
		{"personal Microsoft accounts by number", with("providers: [{id: e, type: entra, tenant: 9188040D-6c67-4c5b-b112-36a304b66dad, client_id: a}]"), "sign_in: provider e gives"},
		{"gitlab.com", with("providers: [{id: l, type: gitlab, client_id: a}]"), "sign_in: provider l gives"},
		{"google as any provider", with("providers: [{id: o, type: oidc, issuer: \"https://accounts.google.com\", client_id: a}]"), "sign_in: provider o gives"},
		{"github.com as any OAuth 2.0 provider", with("providers: [{id: o, type: oauth2, issuer: \"https://x\", client_id: a, authorize_url: \"https://github.com/login/oauth/authorize\", token_url: \"https://x/t\", userinfo_url: \"https://x/u\"}]"), "sign_in: provider o gives"},
		{"github.com by its issuer", with("providers: [{id: o, type: oauth2, issuer: \"https://github.com\", client_id: a, authorize_url: \"https://x/a\", token_url: \"https://x/t\", userinfo_url: \"https://x/u\"}]"), "sign_in: provider o gives"},
		{"personal accounts among the allowed tenants", with("providers: [{id: e, type: entra, tenant: common, client_id: a, allowed_tenants: [72f988bf-86f1-41af-91ab-2d7cd011db47, 9188040D-6c67-4c5b-b112-36a304b66dad]}]"), "sign_in: provider e gives an account to anybody, and nobody is named who may sign in; set sign_in.allowed_domains or sign_in.allowed_emails, or the provider's allowed_tenants, without the one of personal accounts"},
		{"every Entra tenant as any OAuth 2.0 provider", with(oauth2("https://login.microsoftonline.com/common/oauth2/v2.0/authorize")), "sign_in: provider o gives"},
		{"personal accounts as any OAuth 2.0 provider", with(oauth2("https://login.microsoftonline.com//9188040d-6c67-4c5b-b112-36a304b66dad/oauth2/v2.0/authorize")), "sign_in: provider o gives"},
		{"every Entra tenant behind dots", with(oauth2("https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/%2e%2e/common/oauth2/v2.0/authorize")), "sign_in: provider o gives"},
		{"google by where browsers are sent", with(oauth2("https://Accounts.Google.com/o/oauth2/v2/auth")), "sign_in: provider o gives"},
		{"github.com with a port", with("providers: [{id: g, type: github, base_url: \"https://github.com:443/\", client_id: a}]"), "sign_in: provider g gives"},
		{"github.com with www", with("providers: [{id: g, type: github, base_url: \"https://www.GitHub.com\", client_id: a}]"), "sign_in: provider g gives"},
		{"github.com with a dot at the end", with("providers: [{id: g, type: github, base_url: \"https://github.com.\", client_id: a}]"), "providers.g.base_url: has no valid host"},
		{"github.com by its endpoint", with("providers: [{id: g, type: github, base_url: \"https://github.example.com\", client_id: a, endpoints: {authorize_url: \"https://github.com/login/oauth/authorize\"}}]"), "sign_in: provider g gives"},
		{"github.com by its API", with("providers: [{id: g, type: github, base_url: \"https://github.example.com\", client_id: a, endpoints: {api_url: \"https://api.github.com\"}}]"), "sign_in: provider g gives"},
		{"gitlab.com with a port", with("providers: [{id: l, type: gitlab, issuer: \"https://gitlab.com:443\", client_id: a}]"), "sign_in: provider l gives"},
		{"gitlab.com by its endpoint", provider("endpoints: {authorize_url: \"https://gitlab.com/oauth/authorize\"}"), "sign_in: provider corp gives"},
		{"a restricted provider beside an open one", with("providers: [{id: g, type: google, client_id: a, hosted_domains: [x.example]}, {id: h, type: github, client_id: a}]"), "sign_in: provider h gives"},

		{"groups for sign-in beside github.com", beside("{id: g, type: github, client_id: a}", "sign_in: {allowed_groups: [staff]}"), "sign_in.allowed_groups: means a group of that name at any provider, and anybody can make one at g; restrict g by orgs or teams, or name domains or e-mail addresses instead, or in a rule the provider, too, as in when: user.provider == \"corp\""},
		{"groups for sign-in beside gitlab.com", beside("{id: l, type: gitlab, client_id: a}", "sign_in: {allowed_groups: [staff]}"), "sign_in.allowed_groups: means a group of that name at any provider, and anybody can make one at l; name domains or e-mail addresses instead"},
		{"groups of a role beside github.com", beside("{id: g, type: github, client_id: a}", "sign_in: {allowed_domains: [x.example]}\nidentity: {roles: {admin: {groups: [staff]}}}"), "identity.roles.admin.groups: means a group of that name"},
		{"groups of an alternative beside github.com", beside("{id: g, type: github, client_id: a}", "sign_in: {allowed_domains: [\"*\"]}\nrules: [{require: {any: [{groups: [staff]}, {emails: [a@x.example]}]}}]"), "rules[0].require.any[0].groups: means a group of that name"},
		{"groups of one of several beside github.com", beside("{id: g, type: github, client_id: a}", "sign_in: {allowed_domains: [\"*\"]}\nrules: [{require: {all: [{any: [{groups: [staff]}]}]}}]"), "rules[0].require.all[0].any[0].groups: means a group of that name"},
		{"groups of a condition beside github.com", beside("{id: g, type: github, client_id: a}", "sign_in: {allowed_domains: [\"*\"]}\nrules: [{require: {when: '\"staff\" in user . groups'}}]"), "rules[0].require.when: means a group of that name"},
		{"groups beside an alternative about the provider", beside("{id: g, type: github, client_id: a}", "sign_in: {allowed_domains: [\"*\"]}\nrules: [{require: {any: [{groups: [staff]}, {when: 'user.provider == \"corp\"'}]}}]"), "rules[0].require.any[0].groups: means a group of that name"},
		{"groups of a rule beside github.com", beside("{id: g, type: github, client_id: a}", "sign_in: {allowed_domains: [\"*\"]}\nrules: [{allow: anyone, path: /a}, {require: {groups: [staff], domains: [x.example]}}]"), "rules[1].require.groups: means a group of that name"},
		{"groups beside every Entra tenant", beside("{id: e, type: entra, tenant: common, client_id: a}", "sign_in: {allowed_groups: [staff]}"), "can make one at e; restrict e by allowed_tenants"},
		{"groups beside github.com as any OAuth 2.0 provider", beside(oauth2Entry("https://github.com/login/oauth/authorize"), "sign_in: {allowed_groups: [staff]}"), "can make one at o; name domains"},
		{"groups beside two public providers", beside("{id: g, type: github, client_id: a}, {id: e, type: entra, tenant: common, client_id: a}", "sign_in: {allowed_groups: [staff]}"), "can make one at g and e; restrict g by orgs or teams and e by allowed_tenants, or name domains"},

		{"the issuer of github.com for another", issued("https://github.com", "{id: g, type: github, client_id: a, orgs: [a]}"), "providers.o.issuer: is the issuer of g too, so that a user of one could have the id of a user of the other; write an address of its own"},
		{"the issuer of Google for another", issued("https://Accounts.google.com:443/", "{id: g, type: google, client_id: a, hosted_domains: [x.example]}"), "providers.o.issuer: is the issuer of g too"},
		{"the issuer of gitlab.com for another", issued("https://gitlab.com", "{id: l, type: gitlab, client_id: a}"), "providers.o.issuer: is the issuer of l too"},
		{"the issuer of an OpenID provider for another", issued("https://id.example.com/", ""), "providers.o.issuer: is the issuer of corp too"},
		{"the issuer of a GitHub of one's own for another", issued("https://github.example.com", "{id: g, type: github, client_id: a, base_url: \"https://github.example.com/\"}"), "providers.o.issuer: is the issuer of g too"},
		{"the issuer of an Entra tenant for another", issued(entraTenant, "{id: e, type: entra, client_id: a, tenant: 72F988bf-86f1-41af-91ab-2d7cd011db47}"), "providers.o.issuer: is the issuer of e too"},
		{"the issuer of one of the Entra tenants for another", issued(entraTenant, "{id: e, type: entra, client_id: a, tenant: common, allowed_tenants: [72f988bf-86f1-41af-91ab-2d7cd011db47]}"), "providers.o.issuer: is the issuer of e too"},
		{"the issuer of personal accounts for another", issued("https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0", "{id: e, type: entra, client_id: a, tenant: consumers}"), "providers.o.issuer: is the issuer of e too"},
		{"one issuer for two OAuth 2.0 providers", beside(oauth2Entry("https://x/a")+", "+strings.Replace(oauth2Entry("https://x/a"), "id: o", "id: p", 1), ""), "providers.p.issuer: is the issuer of o too"},

		{"an org for another type", provider("orgs: [acme]"), "providers.corp.orgs: has no effect with type oidc; remove it; it belongs to github"},
		{"a domain for another type", provider("hosted_domains: [x.example]"), "providers.corp.hosted_domains: has no effect with type oidc"},
		{"a group of settings for another type", provider("groups: {nested: true}"), "providers.corp.groups: has no effect with type oidc; remove it; it belongs to google"},
		{"claims for another type", provider("claims: {id: sub}"), "providers.corp.claims: has no effect with type oidc"},
		{"an endpoint for another type", provider("endpoints: {api_url: \"https://x\"}"), "providers.corp.endpoints.api_url: has no effect with type oidc"},
		{"an issuer for GitHub", with("providers: [{id: g, type: github, issuer: \"https://x\", client_id: a, orgs: [a]}]"), "providers.g.issuer: has no effect with type github"},
		{"endpoint over plain http", provider("endpoints: {token_url: \"http://id.internal/token\"}"), "providers.corp.endpoints.token_url: is plain http"},
		{"endpoint that is none", provider("endpoints: {jwks_url: /jwks}"), "providers.corp.endpoints.jwks_url: is not an http or https address"},
		{"base_url over plain http", with("providers: [{id: g, type: github, base_url: \"http://github.internal\", client_id: a}]"), "providers.g.base_url: is plain http"},
		{"an odd response mode", provider("response_mode: fragment"), "providers.corp.response_mode: \"fragment\" is not one of its values"},
		{"form_post over http", with("public_url: http://app.internal:4180\ncookie: {insecure: true}\nproviders: [{id: corp, type: oidc, issuer: \"https://id.example.com\", client_id: a, response_mode: form_post}]"), "providers.corp.response_mode: is form_post, and browsers warn"},
		{"a key and a secret", provider("private_key_file: /k, client_secret: " + secret), "providers.corp.private_key_file: is given, and a client secret too; remove one"},
		{"a certificate and a key", provider("private_key_file: /k, client_cert_file: /c, client_key_file: /k"), "providers.corp.client_cert_file: is given, and a client secret or a private key too"},
		{"a certificate and a secret", provider("client_cert_file: /c, client_key_file: /k, client_secret: " + secret), "providers.corp.client_cert_file: is given, and a client secret"},
		{"a client certificate without key", provider("client_cert_file: /c"), "providers.corp.client_key_file: is missing beside client_cert_file"},
		{"a client key without certificate", provider("client_key_file: /c"), "providers.corp.client_cert_file: is missing beside client_key_file"},
		{"the id of no key", provider("private_key_id: a"), "providers.corp.private_key_id: has no effect without private_key_file"},
		{"the audience of no key", provider("assertion_audience: issuer"), "providers.corp.assertion_audience: has no effect without private_key_file"},
		{"the way of no secret", provider("client_auth: post"), "providers.corp.client_auth: has no effect without a client secret"},

		{"a hosted domain that is none", with("providers: [{id: g, type: google, client_id: a, hosted_domains: [\"*\"]}]"), `providers.g.hosted_domains[0]: "*" is not a domain`},
		{"no hosted domains", with("providers: [{id: g, type: google, client_id: a, hosted_domains: []}]"), "providers.g.hosted_domains: is an empty list"},
		{"groups without administrator", googleGroups("service_account_file: /s"), "providers.g.groups.admin_email: is required for the Admin SDK"},
		{"groups without account", googleGroups("admin_email: a@x.example"), "providers.g.groups.service_account_file: is required for the Admin SDK"},
		{"an administrator that is none", googleGroups("admin_email: a, service_account_file: /s"), `providers.g.groups.admin_email: "a" is not an address`},
		{"an administrator of nothing", googleGroups("api: cloud_identity, admin_email: a@x.example"), "providers.g.groups.admin_email: has no effect without service_account_file"},
		{"groups without memory", googleGroups("api: cloud_identity, cache: 0"), "providers.g.groups.cache: is 0"},
		{"groups with a long memory", googleGroups("api: cloud_identity, cache: 25h"), "providers.g.groups.cache: is 25h, so that whoever leaves a group keeps what it gives for longer than a day; write 24h or less"},
		{"an org with a slash", with("providers: [{id: g, type: github, client_id: a, orgs: [a/b]}]"), `providers.g.orgs[0]: "a/b" is not an organization`},
		{"a team without org", with("providers: [{id: g, type: github, client_id: a, teams: [sre]}]"), `providers.g.teams[0]: "sre" is not a team`},
		{"no orgs", with("providers: [{id: g, type: github, client_id: a, orgs: []}]"), "providers.g.orgs: is an empty list"},
		{"no tenant", with("providers: [{id: e, type: entra, client_id: a}]"), "providers.e.tenant: is required"},
		{"a tenant by name", with("providers: [{id: e, type: entra, tenant: contoso.example, client_id: a}]"), `providers.e.tenant: "contoso.example" is not the id of a directory`},
		{"Entra in another cloud without its Graph", with("providers: [{id: e, type: entra, tenant: 72f988bf-86f1-41af-91ab-2d7cd011db47, client_id: a, base_url: \"https://login.microsoftonline.us\"}]"), "providers.e.endpoints.api_url: is required beside base_url"},
		{"an allowed tenant by name", with("providers: [{id: e, type: entra, tenant: common, client_id: a, allowed_tenants: [contoso]}]"), `providers.e.allowed_tenants[0]: "contoso" is not the id`},
		{"allowed tenants of one tenant", with("providers: [{id: e, type: entra, tenant: 72f988bf-86f1-41af-91ab-2d7cd011db47, client_id: a, allowed_tenants: [72f988bf-86f1-41af-91ab-2d7cd011db47]}]"), "providers.e.allowed_tenants: has no effect"},
		{"oauth2 without userinfo", with("providers: [{id: o, type: oauth2, issuer: \"https://x\", client_id: a, authorize_url: \"https://x/a\", token_url: \"https://x/t\"}]"), "providers.o.userinfo_url: is required"},
		{"oauth2 without issuer", with("providers: [{id: o, type: oauth2, client_id: a, authorize_url: \"https://x/a\", token_url: \"https://x/t\", userinfo_url: \"https://x/u\"}]"), "providers.o.issuer: is required"},

		{"not an address", with("sign_in: {allowed_emails: [example.com]}"), `c.yaml:1:28: sign_in.allowed_emails[0]: "example.com" is not an address; write it like alice@example.com`},
		{"an address with two @", with(`sign_in: {allowed_emails: ["a@b@c.d"]}`), "sign_in.allowed_emails[0]"},
		{"an address that is not ASCII", with("sign_in: {allowed_emails: [\u0430@b.c]}"), "sign_in.allowed_emails[0]"},
		{"a domain with @", with(`sign_in: {allowed_domains: ["@example.com"]}`), `sign_in.allowed_domains[0]: "@example.com" is not a domain; write it like example.com, without @ and *.`},
		{"a pattern for a domain", with(`sign_in: {allowed_domains: ["*.example.com"]}`), "sign_in.allowed_domains[0]"},
		{"a domain in a rule", with(`rules: [{require: {domains: ["@x"]}}]`), "rules[0].require.domains[0]"},
		{"an address of a role", with(`identity: {roles: {a: {emails: [x]}}}`), "identity.roles.a.emails[0]"},

		{"a rule that says nothing", with("rules:\n  - {path: /a}"), "c.yaml:2:5: rules[0]: says neither allow nor deny nor require; add one"},
		{"deny: false says nothing", with("rules: [{deny: false}]"), "rules[0]: says neither"},
		{"a rule that says two things", with("rules: [{allow: anyone, deny: true}]"), "rules[0]: says more than one of allow, deny and require"},
		{"an allow with conditions", with("rules: [{allow: anyone, require: {signed_in: true}}]"), "rules[0]: says more than one"},
		{"allow what", with("rules: [{allow: everyone}]"), `rules[0].allow: "everyone" is not supported in this version; the only value is anyone`},
		{"preflight what", with("rules: [{allow: anyone, preflight: block}]"), `rules[0].preflight: "block" is not supported`},
		{"preflight of a deny", with("rules: [{deny: true, preflight: pass}]"), "rules[0].preflight: contradicts deny"},
		{"a rule with a relative path", with("rules: [{path: a, allow: anyone}]"), `rules[0].path: "a" does not begin with a slash`},
		{"a method in small letters", with("rules: [{methods: [get], allow: anyone}]"), `rules[0].methods[0]: "get" is not a method; write it in capitals`},
		{"an odd method", with(`rules: [{methods: ["GET,POST"], allow: anyone}]`), `rules[0].methods[0]: "GET,POST" is not a method`},
		{"nobody may sign in", with("sign_in: {allowed_domains: []}"), "sign_in.allowed_domains: is an empty list; remove the setting, or give it an entry"},
		{"strict cookies", with("cookie: {same_site: strict}"), "cookie.same_site: "},
		{"no methods", with("rules: [{methods: [], allow: anyone}]"), "rules[0].methods: is an empty list"},
		{"a require without conditions", with("rules: [{require: {}}]"), "rules[0].require: requires nothing"},
		{"a require of nothing", with("rules: [{require: {signed_in: false}}]"), "rules[0].require: requires nothing"},
		{"no clients", with("rules: [{clients: [], allow: anyone}]"), "rules[0].clients: is an empty list; remove the setting"},
		{"a client that is no network", with("rules: [{clients: [office], allow: anyone}]"), `rules[0].clients[0]: "office" is not an address or a network`},
		{"an empty nested requirement", with("rules: [{require: {any: [{roles: [a]}, {all: [{}]}]}}]"), "rules[0].require.any[1].all[0]: requires nothing; write {signed_in: true}"},
		{"a nested address that is none", with("rules: [{require: {all: [{emails: [bob]}]}}]"), `rules[0].require.all[0].emails[0]: "bob" is not an address`},
		{"a slip in a nested requirement", with("rules: [{require: {any: [{rols: [a]}]}}]"), "rules[0].require.any[0].rols: is not a setting; did you mean roles?"},
		{"no alternatives", with("rules: [{require: {any: []}}]"), "rules[0].require.any: is an empty list"},
		{"an empty condition", with(`rules: [{require: {signed_in: true, when: ""}}]`), "rules[0].require.when: is empty; write a condition"},
		{"fresh for no time", with("rules: [{require: {signed_in: true, fresh: 0}}]"), "rules[0].require.fresh: lets no sign-in be fresh"},
		{"fresh by both names", with("rules: [{require: {fresh: 5m, max_age: 5m}}]"), "rules[0].require.max_age: is another name of fresh, which is given, too; keep one of the two"},
		{"fresh for no time by its other name", with("rules: [{require: {signed_in: true, max_age: 0}}]"), "rules[0].require.fresh: lets no sign-in be fresh"},
		{"fresh without a unit", with("rules: [{require: {fresh: 5}}]"), "rules[0].require.fresh"},
		{"a claim with one value that is no list", with("rules: [{require: {claims: {department: it}}}]"), "rules[0].require.claims.department"},
		{"an empty list of roles", with("rules: [{require: {signed_in: true, roles: []}}]"), "rules[0].require.roles: is an empty list; remove the setting"},

		{"no age", with("session: {max_age: 0}"), "session.max_age: is 0"},
		{"update after the end", with("session: {max_age: 2h, update_age: 2h}"), "c.yaml:1:36: session.update_age: is 2h, not shorter than session.max_age, 2h; set session.update_age, for example to 30m"},
		{"age beyond the hard end", with("session: {absolute_max_age: 100h}"), "session.max_age: is 168h, longer than session.absolute_max_age, 100h"},
		{"version 0", with("session: {version: 0}"), "session.version: is below 1"},

		{"a cookie's prefix in its name", with("cookie: {name: __Host-sid}"), "cookie.name: holds a prefix; write the name alone, and choose the prefix with cookie.prefix"},
		{"the same in small letters", with("cookie: {name: __secure-sid}"), "cookie.name: holds a prefix"},
		{"an odd cookie name", with(`cookie: {name: "a;b"}`), `cookie.name: "a;b" is not a cookie name`},
		{"a short key", with("cookie: {keys: [c2hvcnQtYW5kLXNlY3JldA==]}"), "c.yaml:1:17: cookie.keys[0]: has 16 bytes, but must have 32; make one with: authproxy keys new"},
		{"a key that is not base64", with("cookie: {keys: [" + keyA + ", " + secret + "!]}"), "cookie.keys[1]: is not base64; make one with: authproxy keys new"},
		{"a key over two lines", with("cookie:\n  keys:\n  - |\n    AAECAwQFBgcICQoLDA0O\n    DxAREhMUFRYXGBkaGxwdHh8="), "cookie.keys[0]: is not base64"},
		{"a key of zeros", with("cookie: {keys: [AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=]}"), "cookie.keys[0]: is one byte over and over"},
		{"a key twice", with("cookie: {keys: [" + keyA + ", " + keyA + "]}"), "cookie.keys: key 2 is there already"},
		{"no keys", with("cookie: {keys: []}"), "cookie.keys: is an empty list"},
		{"keys as text", with("cookie: {keys: " + secret + "}"), "cookie.keys: is text, but must be a list"},
		{"a key as the cookie", with("cookie: " + secret), "cookie: is text, but must be a mapping"},
		{"keys twice", with("cookie: {keys: [" + keyA + "], keys_file: /run/secrets/cookie_keys}"), "cookie.keys: is given, and cookie.keys_file too"},
		{"a bad key in a file", with("cookie: {keys_file: /run/secrets/bad_keys}"), "/run/secrets/bad_keys:3: cookie.keys_file: the key has 16 bytes, but must have 32; make one with: authproxy keys new"},
		{"a file of comments", with("cookie: {keys_file: /run/secrets/comments}"), "cookie.keys_file: the file holds no key; make one with: authproxy keys new"},

		{"a domain above all", with("cookie: {domain: com}"), `cookie.domain: "com" is shared by strangers, so browsers refuse it`},
		{"a domain of strangers", with("public_url: https://a.co.uk\ncookie: {domain: co.uk}"), "is shared by strangers"},
		{"a domain that is an address", with("public_url: https://10.0.0.1\ncookie: {domain: 10.0.0.1}"), "cookie.domain: is an IP address"},
		{"a domain with a scheme", with("cookie: {domain: \"https://example.com\"}"), "is not a domain; write it like example.com"},
		{"another's domain", with("cookie: {domain: example.org}"), `cookie.domain: "example.org" is not above public_url's host "app.example.com"`},
		{"half a label", with("public_url: https://evilexample.com\ncookie: {domain: example.com}"), "is not above public_url's host"},
		{"SameSite none over http", with("public_url: http://localhost\ncookie: {same_site: none}"), "cookie.same_site: is none, which browsers accept over https only"},
		{"host prefix over http", with("public_url: http://localhost\ncookie: {prefix: host}"), "cookie.prefix: is host, which browsers accept over https only"},
		{"secure prefix over http", with("public_url: http://localhost\ncookie: {prefix: secure}"), "cookie.prefix: is secure, which"},
		{"host prefix with a domain", with("cookie: {prefix: host, domain: example.com}"), "cookie.prefix: is host, which browsers refuse together with cookie.domain"},

		{"another host over plain http", with("public_url: http://localhost:4180\nhosts: [www.example.org]"), `c.yaml:2:9: hosts[0]: "www.example.org" is reached over plain http like public_url, so that everybody on the way can take a session over; use an https public_url; or set cookie.insecure: true`},
		{"all hosts below one over plain http", with("public_url: http://localhost:4180\nhosts: [\"*.example.org:8080\"]"), `hosts[0]: "*.example.org:8080" is reached over plain http`},
		{"a host with a scheme", with(`hosts: ["https://app.example.com"]`), `hosts[0]: "https://app.example.com" is not a host`},
		{"an origin with a path", with(`websocket: {allowed_origins: ["https://a.example/b"]}`), `websocket.allowed_origins[0]: "https://a.example/b" is not an origin; write a scheme and a host`},
		{"an origin without a scheme", with(`websocket: {allowed_origins: ["*", a.example]}`), `websocket.allowed_origins[1]: "a.example" is not an origin`},
		{"an origin with a pattern", with(`websocket: {allowed_origins: ["https://*.a.example"]}`), `websocket.allowed_origins[0]: "https://*.a.example" is not an origin`},
		{"all hosts", with(`hosts: ["*"]`), `hosts[0]: "*" is not a host`},
		{"a host with a large port", with(`hosts: ["app.example.com:99999"]`), "is not a host"},

		{"an odd header", with(`identity: {headers: {"X A": user.id}}`), `identity.headers.X A: "X A" is not a header name`},
		{"a header of the connection", with("identity: {headers: {Transfer_Encoding: user.id}}"), "identity.headers.Transfer_Encoding: \"Transfer_Encoding\" is not a header to set"},
		{"Host from the user", with("identity: {headers: {host: user.id}}"), "identity.headers.host: \"host\" is not a header to set"},
		{"one header twice", with("identity: {headers: {X-User-Id: user.id, x_user.id: user.email}}"), "identity.headers.x_user.id: is the same header as X-User-Id for some upstreams"},
		{"an odd header to strip", with(`identity: {strip: ["X A"]}`), `identity.strip[0]: "X A" is not a header name`},
		{"a star in the middle", with(`identity: {strip: ["X-*-A"]}`), `identity.strip[0]: "X-*-A" is not a header name`},
		{"every header", with(`identity: {strip: ["*"]}`), `identity.strip[0]: "*" is not a header name`},
		{"a role with a comma", with(`identity: {roles: {"a,b": {groups: [x]}}}`), `"a,b" is not a name for a role`},
		{"a role of nobody", with("identity: {roles: {admin: {}}}"), "identity.roles.admin: names nobody"},

		{"a short token", with("jwt: {ttl: 59s}"), "jwt.ttl: 59s is not between 1m and 24h"},
		{"a long token", with("jwt: {ttl: 25h}"), "jwt.ttl: 25h is not between 1m and 24h"},
		{"an issuer that is not one", with("jwt: {issuer: me}"), "jwt.issuer: is not an http or https address"},
		{"an issuer that cannot be read", with(`jwt: {issuer: "http://%zz"}`), "jwt.issuer: is not a URL"},
		{"a relative target", with("redirects: {after_sign_in: home}"), `redirects.after_sign_in: "home" is neither a path nor a web address`},
		{"a target that browsers read as a host", with(`redirects: {after_sign_out: "//evil.example"}`), "redirects.after_sign_out"},
		{"a target with a backslash", with(`redirects: {after_sign_out: '/\evil.example'}`), "redirects.after_sign_out"},
		{"a sign-out that leads to a sign-out", with("path_aliases: {/bye: sign-out}\nredirects: {after_sign_out: /bye}"), "path_aliases./bye: is where redirects.after_sign_out leads, so that browsers would go round in circles"},
		{"the same by its address", with("path_aliases: {/bye: sign-out}\nredirects: {after_sign_out: \"https://app.example.com/bye?x=1\"}"), "path_aliases./bye: is where redirects.after_sign_out leads"},
		{"a sign-in that leads to a sign-in", with("path_aliases: {/hello: sign-in}\nredirects: {after_sign_in: /hello?x=1}"), "path_aliases./hello: is where redirects.after_sign_in leads"},
		{"a script as a target", with(`redirects: {after_sign_out: "javascript:alert(1)"}`), "redirects.after_sign_out"},
		{"no time for headers", with("server: {read_header_timeout: 0}"), "server.read_header_timeout: is 0"},
		{"no end of idling", with("server: {idle_timeout: 0}"), "server.idle_timeout: is 0"},
		{"small headers", with("server: {max_header_bytes: 4095}"), "server.max_header_bytes: 4095 is not between"},
		{"large headers", with("server: {max_header_bytes: 1048577}"), "server.max_header_bytes: 1048577 is not between"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Load(source(tt.file))
			wantOneProblem(t, err, tt.want)
		})
	}
}

// wantOneProblem fails unless err is one problem that holds want, has a remedy
// and shows no secret.
func wantOneProblem(t *testing.T, err error, want string) {
	t.Helper()
	wantProblems(t, err, want)
	if err == nil {
		return
	}
	all := problemsOf(t, err)
	if len(all) != 1 {
		t.Errorf("%d problems, want 1:\n%v", len(all), err)
	}
	for _, p := range all {
		if p.Remedy == "" {
			t.Errorf("no remedy: %v", p)
		}
	}
	for _, s := range []string{secret, "2718281828", "c2hvcnQ", "two-and-secret", keyA, "AAECAwQF"} {
		if strings.Contains(err.Error(), s) {
			t.Errorf("the message shows a secret: %v", err)
		}
	}
}

func TestProblemsOfEnvironmentAndFlags(t *testing.T) {
	args := func(a ...string) []string { return a }
	tests := []struct {
		name, env string
		args      []string
		want      string
	}{
		{"a bad value", "AUTHPROXY_SESSION_MAX_AGE=long", nil, `AUTHPROXY_SESSION_MAX_AGE: session.max_age: "long" is not a duration; write`},
		{"a value that a check refuses", "AUTHPROXY_SESSION_MAX_AGE=0", nil, "AUTHPROXY_SESSION_MAX_AGE: session.max_age: is 0"},
		{"a bad entry", "AUTHPROXY_TRUSTED_PROXIES=10.0.0.1,x", nil, `AUTHPROXY_TRUSTED_PROXIES: trusted_proxies[1]: "x" is not`},
		{"an empty entry", "AUTHPROXY_HOSTS=app.example.com,", nil, "AUTHPROXY_HOSTS: hosts[1]: is empty"},
		{"not pairs", "AUTHPROXY_IDENTITY_HEADERS=X-A", nil, "AUTHPROXY_IDENTITY_HEADERS: identity.headers: is not a list of pairs; write name=value,name=value"},
		{"a pair twice", "AUTHPROXY_IDENTITY_HEADERS=X-A=user.id,X-A=user.email", nil, `"X-A" is given twice`},
		{"true in another spelling", "AUTHPROXY_COOKIE_INSECURE=yes", nil, `AUTHPROXY_COOKIE_INSECURE: cookie.insecure: "yes" is not true or false`},
		{"a bad key", "AUTHPROXY_COOKIE_KEYS=" + secret, nil, "AUTHPROXY_COOKIE_KEYS: cookie.keys[0]: is not base64; make one with: authproxy keys new"},
		{"a secret's file that is not there", "AUTHPROXY_PROVIDERS_CORP_CLIENT_SECRET_FILE=" + secret, nil, "AUTHPROXY_PROVIDERS_CORP_CLIENT_SECRET_FILE: providers.corp.client_secret_file: the file cannot be read"},
		{"rules", "AUTHPROXY_RULES=x", nil, "AUTHPROXY_RULES: rules: can be set in the file only; write it to the file that --config or AUTHPROXY_CONFIG names"},
		{"roles", "AUTHPROXY_IDENTITY_ROLES=x", nil, "identity.roles: can be set in the file only"},
		{"one setting by two names", "AUTHPROXY_UPSTREAM_URL=http://a", args("--upstream=http://b", "--upstream.url=http://c"), "--upstream.url: upstream.url: is given twice, also by --upstream"},
		{"an id that is none", "AUTHPROXY_PROVIDERS_Ä_CLIENT_ID=x", nil, "AUTHPROXY_PROVIDERS_Ä_CLIENT_ID: providers: does not name a provider; use 1 to 32"},
		{"half a provider", "AUTHPROXY_PROVIDERS_NEW_CLIENT_ID=x", args("--providers.new.type", "oidc"), "AUTHPROXY_PROVIDERS_NEW_CLIENT_ID: providers.new.issuer: is required"},

		{"unknown flag", "", args("--session.max-age=1h"), "--session.max-age: is not a flag; did you mean --session.max_age?"},
		{"unknown flag with a value behind", "", args("--client_secrt", secret), "--client_secrt: is not a flag; did you mean --client_secret?"},
		{"unknown flag with its value", "", args("--client_secrt=" + secret), "--client_secrt: is not a flag"},
		{"a flag without its group", "", args("--max_age=1h"), "did you mean --session.max_age?"},
		{"a flag like no other", "", args("--zzzzzzzzzzzzz"), "--zzzzzzzzzzzzz: is not a flag; see the reference"},
		{"unknown setting of a provider", "", args("--providers.corp.client-id=1"), "did you mean --providers.corp.client_id?"},
		{"a flag without value", "", args("--prefix"), "--prefix: prefix: has no value; write --prefix=value"},
		{"a flag before another", "", args("--prefix", "--cookie.insecure"), "--prefix: prefix: has no value"},
		{"a stray argument", "", args("--prefix", "/a", secret), "argument 3 is not a flag; write flags as --name value or --name=value"},
		{"one dash", "", args("-prefix=/a"), "argument 1 is not a flag"},
		{"a flag twice", "", args("--prefix=/a", "--prefix=/b"), "--prefix: prefix: is given twice, also by --prefix"},
		{"--provider twice", "", args("--provider=oidc", "--issuer=https://x", "--client_id=a", "--provider=oidc"), "--provider: provider: is given twice"},
		{"a bad value by flag", "", args("--log.level=loud"), `--log.level: log.level: "loud" is not one of its values`},
		{"a short flag without --provider", "", args("--client_id=a"), "--client_id: client_id: belongs to no provider; add --provider oidc"},
		{"a provider that there is not", "", args("--provider=saml", "--client_id=a"), `--provider: provider: "saml" is not one of its values; use one of: oidc, google`},
		{"--provider alone", "", args("--provider=oidc", "--client_id=a"), "--provider: providers.oidc.issuer: is required"},
		{"--provider with a secret twice", "", args("--provider=oidc", "--client_id=a", "--issuer=https://x", "--client_secret="+secret, "--client_secret_file=/run/secrets/client_secret"), "--client_secret: providers.oidc.client_secret: is given, and providers.oidc.client_secret_file too"},
		{"a file that is not there", "", args("--config=/nowhere"), "--config: config: /nowhere cannot be read: file does not exist; check the path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := source(with())
			src.Environ, src.Args = []string{tt.env}, tt.args
			_, warnings, err := Load(src)
			wantOneProblem(t, err, tt.want)
			if strings.Contains(fmt.Sprint(warnings), secret) {
				t.Errorf("a warning shows a secret: %v", warnings)
			}
		})
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	src := source("listen: 1\nsession:\n  max_age: x\n  updat_age: 1h\nrules:\n  - {}\n")
	src.Environ = []string{"AUTHPROXY_LOG_LEVEL=loud"}
	src.Args = []string{"--nonsense"}
	_, _, err := Load(src)
	var got []string
	for _, p := range problemsOf(t, err) {
		got = append(got, fmt.Sprintf("%s:%d:%d %s", p.File, p.Line, p.Col, p.Setting))
	}
	want := []string{
		"c.yaml:1:9 listen", "c.yaml:3:12 session.max_age", "c.yaml:4:3 session.updat_age", "c.yaml:6:5 rules[0]",
		"--nonsense:0:0 ", "AUTHPROXY_LOG_LEVEL:0:0 log.level", ":0:0 public_url", ":0:0 upstream", ":0:0 providers",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("problems:\n got %v\nwant %v", got, want)
	}
}

func TestOneHostHasOneSpelling(t *testing.T) {
	for _, address := range []string{"https://github.com", "https://GitHub.com:443/x", "https://www.github.com", "https://github.com.", "https://WWW.github.com.:8443"} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := plainHost(u); got != "github.com" {
			t.Errorf("plainHost(%s) = %q, want github.com", address, got)
		}
	}
}

func TestTwoProvidersOfOneID(t *testing.T) {
	entry := "  - {id: corp, type: oidc, issuer: \"https://x\", client_id: a}\n"
	_, _, err := Load(source(with("providers:\n" + entry + entry)))
	wantOneProblem(t, err, `c.yaml:3:10: providers[1].id: "corp" is the id of another provider`)
}

func TestWhatMustNotBeRefused(t *testing.T) {
	tests := []struct{ name, file string }{
		{"sections with all lines commented out", with("session:\nlog:\n")},
		{"a file that begins with ---", "---\n" + with()},
		{"a byte order mark", "\ufeff" + with()},
		{"plain http on localhost", with("public_url: http://localhost:4180")},
		{"plain http below localhost", with("public_url: http://app.localhost")},
		{"plain http on loopback", with(`public_url: "http://[::1]:4180"`)},
		{"an issuer on loopback", with("providers: [{id: a, type: oidc, issuer: \"http://127.0.0.1:9000\", client_id: b}]")},
		{"routes without upstream", "public_url: https://a.example\n" + top()["providers"] + "\nroutes: [{upstream: \"http://x\"}]"},
		{"admin off", with(`admin: {listen: ""}`)},
		{"any free port twice", with("listen: \"127.0.0.1:0\"\nadmin: {listen: \"127.0.0.1:0\"}")},
		{"one port on two addresses", with("listen: \"10.0.0.1:80\"\nadmin: {listen: \"127.0.0.1:80\"}")},
		{"a host with our own name", with(`hosts: ["APP.example.com:8443", "app.example.com."]`)},
		{"hosts below the domain", with("hosts: [example.com, \"*.x.example.com\"]\ncookie: {domain: example.com}")},
		{"hosts on unrelated domains", with("hosts: [www.example.org, \"*.app.example.com\", evilexample.com]\ncookie: {domain: app.example.com}")},
		{"hosts without a domain", with("hosts: [www.example.com]")},
		{"another name of loopback over http", with("public_url: http://localhost:4180\nhosts: [127.0.0.1, other.localhost]")},
		{"another host over http, as is meant", with("public_url: http://app.example.com\nhosts: [www.example.org]\ncookie: {insecure: true}")},
		{"keys for URLs without padding", with("cookie: {keys: [__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA]}")},
		{"an internal domain", with("public_url: https://app.corp.internal\ncookie: {domain: corp.internal}")},
		{"google for one domain", with("providers: [{id: g, type: google, client_id: a, hosted_domains: [x.example]}]")},
		{"google for everybody, as is meant", with("providers: [{id: g, type: google, client_id: a}]\nsign_in: {allowed_domains: [\"*\"]}")},
		{"github for one team", with("providers: [{id: g, type: github, client_id: a, teams: [acme/sre]}]")},
		{"a GitHub of one's own", with("providers: [{id: g, type: github, client_id: a, base_url: \"https://github.example.com\"}]")},
		{"one Entra tenant", with("providers: [{id: e, type: entra, tenant: 72f988bf-86f1-41af-91ab-2d7cd011db47, client_id: a}]")},
		{"Entra in another cloud with its Graph", with("providers: [{id: e, type: entra, tenant: 72f988bf-86f1-41af-91ab-2d7cd011db47, client_id: a, base_url: \"https://login.microsoftonline.us\", endpoints: {api_url: \"https://graph.microsoft.us/v1.0\"}}]")},
		{"Entra by its public address", with("providers: [{id: e, type: entra, tenant: 72f988bf-86f1-41af-91ab-2d7cd011db47, client_id: a, base_url: \"https://login.microsoftonline.com\"}]")},
		{"form_post on this machine", with("public_url: http://localhost:4180\nproviders: [{id: corp, type: oidc, issuer: \"https://id.example.com\", client_id: a, response_mode: form_post}]")},
		{"one of the Entra tenants", with("providers: [{id: e, type: entra, tenant: common, client_id: a, allowed_tenants: [72F988bf-86f1-41af-91ab-2d7cd011db47]}]")},
		{"a GitLab of one's own", with("providers: [{id: l, type: gitlab, issuer: \"https://gitlab.example.com\", client_id: a}]")},
		{"a metadata server over http", with("providers: [{id: g, type: google, client_id: a, hosted_domains: [x.example], groups: {api: cloud_identity}, endpoints: {metadata_url: \"http://metadata.internal\"}}]")},
		{"oauth2 with scopes of its own", with("providers: [{id: o, type: oauth2, issuer: \"https://x\", client_id: a, authorize_url: \"https://x/a\", token_url: \"https://x/t\", userinfo_url: \"https://x/u\", scopes: [read]}]")},
		{"one Entra tenant as any OAuth 2.0 provider", with(oauth2("https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/authorize"))},
		{"a host that only begins like a public one", with(oauth2("https://github.com.example.com/a"))},
		{"groups of github.com alone", with("providers: [{id: g, type: github, client_id: a}]\nsign_in: {allowed_groups: [acme]}")},
		{"groups beside github.com for one organization", beside("{id: g, type: github, client_id: a, orgs: [acme]}", "sign_in: {allowed_groups: [staff]}")},
		{"groups beside a GitHub of one's own", beside("{id: g, type: github, client_id: a, base_url: \"https://github.example.com\"}", "sign_in: {allowed_groups: [staff]}")},
		{"groups beside Google, which sends none", beside("{id: g, type: google, client_id: a}", "sign_in: {allowed_groups: [staff]}")},
		{"groups of one provider beside github.com", beside("{id: g, type: github, client_id: a}", "sign_in: {allowed_domains: [\"*\"]}\nrules: [{require: {when: 'user.provider == \"corp\" && \"staff\" in user.groups'}}, {require: {any: [{groups: [a]}, {groups: [b]}], all: [{when: 'user.provider == \"corp\"'}]}}]")},
		{"domains beside github.com", beside("{id: g, type: github, client_id: a}", "sign_in: {allowed_domains: [x.example]}\nidentity: {roles: {admin: {emails: [a@x.example]}}}")},
		{"two clients of one OpenID provider", beside("{id: corp-2, type: oidc, issuer: \"https://id.example.com\", client_id: b}", "")},
		{"an issuer of one's own beside all defaults", issued("https://id.example.com/other", "{id: g, type: github, client_id: a}, {id: h, type: google, client_id: a}, {id: l, type: gitlab, client_id: a}, {id: e, type: entra, tenant: common, client_id: a}")},
		{"groups kept for a day", googleGroups("api: cloud_identity, cache: 24h")},
		{"a hard end at the age", with("session: {absolute_max_age: 168h}")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mustLoad(t, source(tt.file))
		})
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(with(), "AUTHPROXY_HOSTS=a,b", "--prefix=/a")
	f.Add(with("cookie: {keys: ["+keyA+"]}"), "AUTHPROXY_PROVIDERS_A_CLIENT_ID=b", "--provider oidc --issuer https://x")
	f.Add(with("rules: [{require: {roles: [a]}}]", "identity: {headers: {X: user.id}}"), "AUTHPROXY_PORT=tcp://x", "--config x")
	f.Add("~", "", "")
	f.Add("a: &a [*a]\n<<: *a\n? b\n: !!c |\n d", "AUTHPROXY_IDENTITY_HEADERS=a=b", "--upstream.pass_host")
	f.Fuzz(func(t *testing.T, file, env, args string) {
		c, _, err := Load(Source{
			File:     "c.yaml",
			Environ:  append(strings.Split(env, "\n"), "AUTHPROXY_PROVIDERS_FUZZ_CLIENT_SECRET="+secret),
			Args:     strings.Fields(args),
			ReadFile: func(string) ([]byte, error) { return []byte(file), nil },
		})
		if err != nil {
			for _, p := range problemsOf(t, err) {
				if p.Message == "" || p.Remedy == "" {
					t.Errorf("problem without message or remedy: %#v", p)
				}
			}
			if strings.Contains(err.Error(), secret) && !strings.Contains(file+env+args, secret) {
				t.Errorf("the message shows a secret: %v", err)
			}
			return
		}
		if c.PublicURL == nil || c.Upstream == nil && len(c.Routes) == 0 || len(c.Providers) == 0 {
			t.Errorf("incomplete configuration: %+v", c)
		}
		for _, key := range c.Cookie.Keys {
			if len(key) != keySize {
				t.Errorf("a key of %d bytes", len(key))
			}
		}
	})
}
