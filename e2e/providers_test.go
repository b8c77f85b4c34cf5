package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"authproxy/session"
)

// A signingIn is a sign-in of alice at a provider that plays a recording, and
// what must become of it.
type signingIn struct {
	name     string
	provider string // the type, and the recording's name
	settings string // of the provider, with HOST for its address
	edit     func(recording)

	issuer, subject string // of the user id; issuer is what follows the address
	email, groups   string // as the application sees them
	status          int    // of a sign-in that fails
	log             string // says why
}

// usual are the settings that each type needs.
func usual(provider string) string {
	switch provider {
	case "google", "gitlab", "okta", "auth0":
		return "issuer: HOST"
	case "keycloak":
		return "issuer: HOST/realms/acme"
	case "github":
		return "base_url: HOST"
	case "entra":
		return "base_url: HOST, endpoints: {api_url: HOST/graph/v1.0}, tenant: " + tenantA
	}
	return "issuer: HOST, authorize_url: HOST/login/oauth/authorize, token_url: HOST/login/oauth/access_token, userinfo_url: HOST/api/v1/me, " +
		"claims: {id: data.user.id, email: data.user.contacts.address, email_verified: data.user.contacts.confirmed, name: data.user.full_name, groups: organizations.teams.slug}"
}

const (
	tenantA = "72f988bf-86f1-41af-91ab-2d7cd011db47"
	tenantB = "aaaaaaaa-0000-4000-8000-000000000001"
	several = "base_url: HOST, endpoints: {api_url: HOST/graph/v1.0}, tenant: organizations, allowed_tenants: [" + tenantA + "]"

	googleSubject   = "110169484474386276334"
	entraSubject    = "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ"
	keycloakSubject = "f1888f4d-5172-4359-be0c-af338505d86c"
	oktaSubject     = "00uid4BxXw6I6TV4m0g3"
	auth0Subject    = "auth0|5f7c8ec7c33c6c004bbafe82"
	plainSubject    = "90071992547409931"

	entraGroups  = "2f5e8d0c-7c2e-4a52-9d5a-0d6d5a4f1b11,8b1c1d80-0f6f-4b3f-8b7e-5d7a3c1f2e22"
	alice        = "alice@example.com"
	orgsOfAcme   = "acme,acme/engineering,acme/sre"
	keycloakRole = "/staff,/staff/sre,role:offline_access,role:admin,role:account:view-profile,role:shop:editor"

	adminSDK = "issuer: HOST, hosted_domains: [example.com], endpoints: {api_url: HOST}, " +
		"groups: {api: admin, admin_email: admin@example.com, service_account_file: SERVICE_ACCOUNT, nested: %v}"
	cloudIdentity = "issuer: HOST, hosted_domains: [example.com], endpoints: {api_url: HOST, metadata_url: HOST}, groups: {api: cloud_identity, nested: %v}"
)

// fakeSSO is what GitHub says where an organization wants single sign-on first.
func fakeSSO() reply {
	return reply{Status: http.StatusForbidden, Body: object{"message": "Resource protected by organization SAML enforcement."},
		Header: map[string]string{"X-GitHub-SSO": "required; url=https://github.example.com/orgs/acme/sso?authorization_request=one-time-secret"}}
}

// signIns are the sign-ins of the test: who comes in as whom, and who does not.
func signIns() []signingIn {
	overage := both(claim("groups", nil), claim("_claim_names", object{"groups": "src1"}), claim("_claim_sources", object{"src1": object{"endpoint": "https://graph.example/x"}}))
	busy, broken := reply{Status: http.StatusTooManyRequests, Header: map[string]string{"Retry-After": "60"}}, reply{Status: http.StatusBadGateway}
	const unavailable, refused = http.StatusServiceUnavailable, http.StatusForbidden
	return []signingIn{
		{name: "google", provider: "google", subject: googleSubject, email: alice},
		{name: "google, of the domain", provider: "google", settings: "issuer: HOST, hosted_domains: [example.com]", subject: googleSubject, email: alice},
		{name: "google, hd is missing", provider: "google", settings: "issuer: HOST, hosted_domains: [example.com]", edit: claim("hd", nil), status: refused, log: "belongs to no Google Workspace"},
		{name: "google, hd is another", provider: "google", settings: "issuer: HOST, hosted_domains: [example.com]", edit: claim("hd", "evil.example"), status: refused, log: "is not among hosted_domains"},
		{name: "google, not verified", provider: "google", edit: claim("email_verified", false), subject: googleSubject},
		{name: "google, nobody vouches for the address", provider: "google", edit: claim("hd", nil), subject: googleSubject},
		{name: "google, groups on two pages", provider: "google", settings: fmt.Sprintf(adminSDK, false), subject: googleSubject, email: alice, groups: "dev@example.com,sre@example.com"},
		{name: "google, nested groups", provider: "google", settings: fmt.Sprintf(adminSDK, true), subject: googleSubject, email: alice, groups: "dev@example.com,engineering@example.com,sre@example.com"},
		{name: "google, direct groups of Cloud Identity", provider: "google", settings: fmt.Sprintf(cloudIdentity, false), subject: googleSubject, email: alice, groups: "sre@example.com"},
		{name: "google, nested groups of Cloud Identity", provider: "google", settings: fmt.Sprintf(cloudIdentity, true), subject: googleSubject, email: alice, groups: "engineering@example.com,sre@example.com"},
		{name: "google, too many questions", provider: "google", settings: fmt.Sprintf(adminSDK, true), edit: at("/admin/directory/v1/groups?userKey=sre@example.com", busy), status: unavailable, log: "status 429"},

		{name: "github", provider: "github", settings: "base_url: HOST, orgs: [acme]", subject: "583231", email: alice, groups: orgsOfAcme},
		{name: "github, a team above the team", provider: "github", settings: "base_url: HOST, teams: [acme/engineering]", subject: "583231", email: alice, groups: orgsOfAcme},
		{name: "github, another organization", provider: "github", settings: "base_url: HOST, orgs: [initech]", status: refused, log: "in none of the orgs and teams"},
		{name: "github, not verified", provider: "github", settings: "base_url: HOST, orgs: [acme]", subject: "583231", groups: orgsOfAcme,
			edit: at("/api/v3/user/emails", reply{Body: []object{{"email": alice, "primary": true, "verified": false}, {"email": "old@example.com", "primary": false, "verified": true}}})},
		{name: "github, single sign-on first", provider: "github", edit: at("/api/v3/user/orgs", fakeSSO()), status: refused, log: "sign in at https://github.example.com/orgs/acme/sso, and"},
		{name: "github, single sign-on hides the organization", provider: "github", settings: "base_url: HOST, orgs: [acme]", status: refused, log: "organizations with the ids 12 want single sign-on first",
			edit: both(at("/api/v3/user/orgs?page=2", reply{Body: []object{}, Header: map[string]string{"X-GitHub-SSO": "partial-results; organizations=12"}}), at("/api/v3/user/teams", reply{Body: []object{}}))},
		{name: "github, too many questions", provider: "github", edit: at("/api/v3/user", busy), status: unavailable, log: "status 429"},
		{name: "github, rate limit as 403", provider: "github", status: unavailable, log: "status 403",
			edit: at("/api/v3/user/teams", reply{Status: http.StatusForbidden, Header: map[string]string{"X-RateLimit-Remaining": "0"}})},
		{name: "github, the API is broken", provider: "github", edit: at("/api/v3/user/emails", broken), status: unavailable, log: "status 502"},

		{name: "entra", provider: "entra", issuer: "/" + tenantA + "/v2.0", subject: entraSubject, email: alice, groups: entraGroups},
		{name: "entra, nobody vouches for the address", provider: "entra", edit: claim("xms_edov", nil), issuer: "/" + tenantA + "/v2.0", subject: entraSubject, groups: entraGroups},
		{name: "entra, one of several tenants", provider: "entra", settings: several, issuer: "/" + tenantA + "/v2.0", subject: entraSubject, email: alice, groups: entraGroups},
		{name: "entra, another tenant", provider: "entra", settings: several, status: refused, log: "is not among allowed_tenants",
			edit: func(r recording) {
				_, answer := r.token()
				claims := answer.Body.(object)["id_token"].(object)
				claims["iss"], claims["tid"] = strings.Replace(claims["iss"].(string), tenantA, tenantB, 1), tenantB
			}},
		{name: "entra, an allowed tid under another issuer", provider: "entra", settings: several, status: refused, log: "iss and tid do not fit",
			edit: func(r recording) {
				_, answer := r.token()
				claims := answer.Body.(object)["id_token"].(object)
				claims["iss"] = strings.Replace(claims["iss"].(string), tenantA, tenantB, 1)
			}},
		{name: "entra, more groups than fit the token", provider: "entra", edit: overage, issuer: "/" + tenantA + "/v2.0", subject: entraSubject, email: alice, groups: entraGroups + ",9c2d2e91-1a7a-4c4a-9c8f-6e8b4d2a3f33"},
		{name: "entra, Graph may not be asked", provider: "entra", status: refused, log: "GroupMember.Read.All",
			edit: both(overage, at("/graph/v1.0/me/getMemberGroups", reply{Status: http.StatusForbidden, Body: object{"error": object{"code": "Authorization_RequestDenied"}}}))},
		{name: "entra, Graph is busy", provider: "entra", edit: both(overage, at("/graph/v1.0/me/getMemberGroups", busy)), status: unavailable, log: "status 429"},

		{name: "gitlab, groups of userinfo", provider: "gitlab", subject: "1042", email: alice, groups: "acme,acme/backend"},
		{name: "gitlab, direct groups of the token", provider: "gitlab", settings: "issuer: HOST, groups_claim: groups_direct", subject: "1042", email: alice, groups: "acme/backend"},
		{name: "gitlab, not verified", provider: "gitlab", edit: claim("email_verified", false), subject: "1042", groups: "acme,acme/backend"},
		{name: "gitlab, userinfo is broken", provider: "gitlab", edit: at("/oauth/userinfo", broken), status: unavailable, log: "userinfo"},
		{name: "gitlab, userinfo is about somebody else", provider: "gitlab", edit: field("/oauth/userinfo", "sub", "1"), status: refused, log: "another subject"},

		{name: "keycloak, groups and roles", provider: "keycloak", issuer: "/realms/acme", subject: keycloakSubject, email: alice, groups: keycloakRole},
		{name: "keycloak, not verified", provider: "keycloak", edit: claim("email_verified", false), issuer: "/realms/acme", subject: keycloakSubject, groups: keycloakRole},
		{name: "keycloak, another realm", provider: "keycloak", edit: at("/realms/acme/protocol/openid-connect/auth", reply{Iss: "https://id.example/realms/evil"}), status: refused, log: "issuer"},

		{name: "okta, the claims are in userinfo", provider: "okta", subject: oktaSubject, email: alice, groups: "Everyone,staff"},
		{name: "okta, a custom authorization server", provider: "okta", settings: "issuer: HOST/oauth2/default", issuer: "/oauth2/default", subject: oktaSubject, email: alice, groups: "Everyone,staff",
			edit: func(r recording) {
				_, answer := r.token()
				claims := answer.Body.(object)["id_token"].(object)
				claims["iss"] = claims["iss"].(string) + "/oauth2/default"
			}},
		{name: "okta, not verified", provider: "okta", edit: field("/oauth2/v1/userinfo", "email_verified", false), subject: oktaSubject, groups: "Everyone,staff"},
		{name: "okta, userinfo is busy", provider: "okta", edit: at("/oauth2/v1/userinfo", busy), status: unavailable, log: "userinfo"},

		{name: "auth0, roles under a name of one's own", provider: "auth0", settings: `issuer: HOST, groups_claim: "https://acme.example/roles"`, issuer: "/", subject: auth0Subject, email: alice, groups: "admin,staff"},
		{name: "auth0, not verified", provider: "auth0", edit: claim("email_verified", false), issuer: "/", subject: auth0Subject},
		{name: "auth0, verified as text", provider: "auth0", edit: claim("email_verified", "true"), issuer: "/", subject: auth0Subject, email: alice},

		{name: "oauth2, claims by paths", provider: "oauth2", subject: plainSubject, email: alice, groups: "sre,dev"},
		{name: "oauth2, not verified", provider: "oauth2", edit: at("/api/v1/me", reply{Body: object{"data": object{"user": object{"id": 7, "contacts": []object{{"address": alice, "confirmed": false}}}}}}), subject: "7"},
		{name: "oauth2, no id", provider: "oauth2", edit: at("/api/v1/me", reply{Body: object{"data": object{"user": object{"username": "alice"}}}}), status: refused, log: "the id is missing"},
		{name: "oauth2, userinfo is broken", provider: "oauth2", edit: at("/api/v1/me", broken), status: unavailable, log: "status 502"},
	}
}

// kinds are the types of providers that there are recordings of.
func kinds() []string {
	return []string{"google", "github", "entra", "gitlab", "keycloak", "okta", "auth0", "oauth2"}
}

// A shop is an authproxy with many providers, one for each row of a test.
type shop struct {
	base      string
	process   *process
	providers int
}

// openShop starts an authproxy that knows all providers: entry i has the id p-i.
func openShop(t *testing.T, entries []string) *shop {
	t.Helper()
	address := freeAddress(t)
	s := &shop{base: "http://" + address, providers: len(entries)}
	var providers strings.Builder
	for i, entry := range entries {
		fmt.Fprintf(&providers, "  - {id: p-%d, client_id: client, client_secret: a-recorded-secret, %s}\n", i, entry)
	}
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf("listen: %q\nadmin: {listen: \"\"}\npublic_url: %s\nupstream: %s\ncookie: {keys_file: %q}\n", address, s.base, startApp(t), newKeys(t))+
		"sign_in: {allowed_domains: [\"*\"]}\nshutdown: {delay: 0s}\nproviders:\n"+providers.String())
	s.process = start(t, launch{args: []string{"--config", file}, base: s.base})
	return s
}

// entry returns the settings of a recorded provider.
func entry(t *testing.T, p *recorded, provider, settings string) string {
	t.Helper()
	if settings == "" {
		settings = usual(provider)
	}
	if strings.Contains(settings, "SERVICE_ACCOUNT") {
		settings = strings.ReplaceAll(settings, "SERVICE_ACCOUNT", serviceAccount(t, p.url+"/sa-token"))
	}
	return "type: " + provider + ", " + strings.ReplaceAll(settings, "HOST", p.url)
}

// signIn signs in at provider i, and returns the status and, where that is 200,
// what the application saw.
func (s *shop) signIn(t *testing.T, client *http.Client, i int) (int, received) {
	t.Helper()
	address := fmt.Sprintf("%s/auth/sign-in/p-%d?rd=/after", s.base, i)
	res, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, received{}
	}
	return res.StatusCode, appAt(t, client, s.base+"/after")
}

// logged returns the lines about provider i.
func (s *shop) logged(i int) string {
	var lines []string
	for line := range strings.Lines(s.process.stderr.String()) {
		if strings.Contains(line, fmt.Sprintf(`"provider":"p-%d"`, i)) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func TestEachKindOfProviderThroughTheWholeProgram(t *testing.T) {
	t.Parallel()
	rows := signIns()
	providers, entries := make([]*recorded, len(rows)), make([]string, len(rows))
	for i, row := range rows {
		providers[i] = newRecorded(t, row.provider)
		providers[i].edit(row.edit)
		entries[i] = entry(t, providers[i], row.provider, row.settings)
	}
	s := openShop(t, entries)
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			status, got := s.signIn(t, newClient(t, nil), i)
			if row.status != 0 {
				s.expectRefusal(t, i, row, status)
				return
			}
			if status != http.StatusOK {
				t.Fatalf("the sign-in ends with %d, want 200: %s", status, s.logged(i))
			}
			for name, want := range map[string]string{
				"X-User-Id": session.UserID(providers[i].url+row.issuer, row.subject), "X-User-Email": row.email, "X-User-Groups": row.groups,
			} {
				if got := got.Headers.Get(name); got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
		})
	}
}

// expectRefusal fails unless a sign-in ended as row wants, and the log says why
// without a secret.
func (s *shop) expectRefusal(t *testing.T, i int, row signingIn, status int) {
	t.Helper()
	if status != row.status {
		t.Errorf("the sign-in ends with %d, want %d", status, row.status)
	}
	eventually(t, 30*time.Second, func() error { // lines wait a moment
		if log := s.logged(i); !strings.Contains(log, row.log) {
			return fmt.Errorf("the log does not say %q: %s", row.log, log)
		}
		return nil
	})
	for _, secret := range []string{"recorded-access", "recorded-refresh", "recorded-code", "a-recorded-secret", "one-time-secret", "service-account"} {
		if strings.Contains(s.process.stderr.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}

func TestATokenEndpointThatFailsAtASignInIsNoRefusal(t *testing.T) {
	t.Parallel()
	for _, failure := range []int{http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway} {
		s, providers := openKinds(t, func(r recording) {
			_, answer := r.token()
			answer.Status = failure
		})
		for i, kind := range kinds() {
			row := signingIn{status: http.StatusServiceUnavailable, log: fmt.Sprintf("token endpoint: status %d", failure)}
			client := newClient(t, nil)
			status, _ := s.signIn(t, client, i)
			s.expectRefusal(t, i, row, status)
			providers[i].edit(func(r recording) {
				_, answer := r.token()
				answer.Status = 0
			})
			if status, _ := s.signIn(t, client, i); status != http.StatusOK {
				t.Errorf("%s: after %d the sign-in ends with %d, want 200", kind, failure, status)
			}
		}
	}
}

// renamed are the edits that give alice another name of whatever kind people
// can change, with the same id.
func renamed(provider string) func(recording) {
	switch provider {
	case "github":
		return both(field("/api/v3/user", "login", "alice-new"), at("/api/v3/user/emails", reply{Body: []object{{"email": "new@example.com", "primary": true, "verified": true}}}))
	case "oauth2":
		return func(r recording) {
			user := r["/api/v1/me"].Body.(object)["data"].(object)["user"].(object)
			user["username"], user["contacts"] = "alice-new", []object{{"address": "new@example.com", "confirmed": true}}
		}
	case "okta":
		return both(field("/oauth2/v1/userinfo", "preferred_username", "new@example.com"), field("/oauth2/v1/userinfo", "email", "new@example.com"))
	}
	return both(claim("preferred_username", "new@example.com"), claim("nickname", "alice-new"), claim("email", "new@example.com"))
}

func TestWhoeverChangesTheirNameStaysTheSame(t *testing.T) {
	t.Parallel()
	s, providers := openKinds(t, nil)
	for i, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			_, before := s.signIn(t, newClient(t, nil), i)
			providers[i].edit(renamed(kind))
			_, after := s.signIn(t, newClient(t, nil), i)
			if before.Headers.Get("X-User-Email") != alice || after.Headers.Get("X-User-Email") != "new@example.com" {
				t.Errorf("the addresses are %q and %q, want %s and the new one", before.Headers.Get("X-User-Email"), after.Headers.Get("X-User-Email"), alice)
			}
			if was, is := before.Headers.Get("X-User-Id"), after.Headers.Get("X-User-Id"); was != is || was == "" {
				t.Errorf("X-User-Id was %q and is %q, want the same", was, is)
			}
		})
	}
}

// openKinds starts an authproxy with a provider of each kind, whose recordings
// edit changes.
func openKinds(t *testing.T, edit func(recording)) (*shop, []*recorded) {
	t.Helper()
	var providers []*recorded
	var entries []string
	for _, kind := range kinds() {
		p := newRecorded(t, kind)
		p.edit(edit)
		providers, entries = append(providers, p), append(entries, entry(t, p, kind, ""))
	}
	return openShop(t, entries), providers
}

// The access token ends at once, so that the requests after the sign-in come
// with a refresh that fails.
func TestAProviderThatFailsAtARefreshKeepsEverySession(t *testing.T) {
	slow(t)
	t.Parallel()
	faults := []struct {
		name   string
		answer reply
	}{
		{"429", reply{Status: http.StatusTooManyRequests, Header: map[string]string{"Retry-After": "60"}}},
		{"500", reply{Status: http.StatusInternalServerError}},
		{"503 with a page", reply{Status: http.StatusServiceUnavailable, Body: "<h1>back soon</h1>"}},
		{"200 with a page", reply{Body: "<h1>please accept our terms</h1>"}},
		{"an error of the client's", reply{Status: http.StatusUnauthorized, Body: object{"error": "invalid_client"}}},
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			s, providers := openKinds(t, refreshing(fault.answer))
			for i, v := range s.signInEverywhere(t) {
				v.refresh(t, providers[i])
				v.expectTheSame(t, kinds()[i])
			}
		})
	}
}

// The provider is given up after ten seconds, and the request served.
func TestASilentProviderIsNotWaitedForAtEveryRequest(t *testing.T) {
	slow(t)
	t.Parallel()
	p := newRecorded(t, "keycloak")
	p.edit(refreshing(reply{Hang: true}))
	s := openShop(t, []string{entry(t, p, "keycloak", "")})
	v := s.signInEverywhere(t)[0]
	v.refresh(t, p)
	v.expectTheSame(t, "keycloak")
	if got := p.asked(); got != 1 {
		t.Errorf("the provider was asked %d times, want once", got)
	}
}

// refreshing returns an edit that lets the access token last a second, and
// answers to the refresh token.
func refreshing(answer reply) func(recording) {
	return func(r recording) {
		path, tokens := r.token()
		tokens.Body.(object)["expires_in"] = 1
		r[path+"?grant_type=refresh_token"] = &answer
	}
}

// A visitor is somebody who is signed in at an authproxy.
type visitor struct {
	base   string
	client *http.Client
	saw    received // by the application, right after the sign-in
}

// signInEverywhere signs in at all providers, each in a browser of its own.
func (s *shop) signInEverywhere(t *testing.T) []visitor {
	t.Helper()
	var all []visitor
	for i := range s.providers {
		v := visitor{base: s.base, client: newClient(t, nil)}
		var status int
		if status, v.saw = s.signIn(t, v.client, i); status != http.StatusOK {
			t.Fatalf("the sign-in ends with %d, want 200: %s", status, s.logged(i))
		}
		all = append(all, v)
	}
	return all
}

// refresh visits the application until the refresh token has gone to p.
func (v *visitor) refresh(t *testing.T, p *recorded) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if res, _ := get(t, v.client, v.base+"/after", nil); p.asked() == 0 {
			return fmt.Errorf("no refresh yet, the application answers %d", res.StatusCode)
		}
		return nil
	})
}

// expectTheSame fails unless the application sees who was seen at first.
func (v *visitor) expectTheSame(t *testing.T, kind string) {
	t.Helper()
	after := appAt(t, v.client, v.base+"/after")
	for _, name := range []string{"X-User-Id", "X-User-Email", "X-User-Groups"} {
		if got, want := after.Headers.Get(name), v.saw.Headers.Get(name); got != want {
			t.Errorf("%s: after a failed refresh %s = %q, want %q", kind, name, got, want)
		}
	}
}

func TestADeadRefreshTokenEndsTheSessionOfEveryProvider(t *testing.T) {
	t.Parallel()
	s, providers := openKinds(t, refreshing(reply{Status: http.StatusBadRequest, Body: object{"error": "invalid_grant"}}))
	for i, v := range s.signInEverywhere(t) {
		v.refresh(t, providers[i])
		res, _ := get(t, v.client, s.base+"/after", nil)
		if err := expectStatus(res, http.StatusUnauthorized); err != nil {
			t.Errorf("%s: after invalid_grant: %v", kinds()[i], err)
		}
	}
}

func TestARefreshTellsTheNewsOfEveryProvider(t *testing.T) {
	t.Parallel()
	s, providers := openKinds(t, func(r recording) {
		_, tokens := r.token()
		tokens.Body.(object)["expires_in"] = 1
	})
	visitors := s.signInEverywhere(t)
	for i, kind := range kinds() {
		providers[i].edit(renamed(kind))
	}
	for i, v := range visitors {
		eventually(t, 30*time.Second, func() error {
			after := appAt(t, v.client, s.base+"/after").Headers
			if got := after.Get("X-User-Email"); got != "new@example.com" {
				return fmt.Errorf("%s: X-User-Email is still %s", kinds()[i], got)
			}
			if got, want := after.Get("X-User-Id"), v.saw.Headers.Get("X-User-Id"); got != want {
				t.Errorf("%s: after the refresh X-User-Id = %q, want %q", kinds()[i], got, want)
			}
			return nil
		})
	}
}
