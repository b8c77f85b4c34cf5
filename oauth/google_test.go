package oauth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"authproxy/devidp"
	"authproxy/oauth"
)

// aliceSubject is alice's at devidp.
const aliceSubject = "5f0c7b1e93a84d26"

// googleHarness is a look-alike of Google for alice of the domain hd.
func googleHarness(t *testing.T, edit func(*oauth.Config)) *harness {
	h := newHarness(t)
	h.config.Type, h.config.GroupsClaim = oauth.Google, ""
	edit(&h.config)
	h.provider = h.fresh(t, nil)
	return h
}

func TestGoogleIsKnownWithoutAnAddress(t *testing.T) {
	p, err := oauth.New(oauth.Config{
		ID: "g", Type: oauth.Google, ClientID: "app", RedirectURL: callbackURL, HostedDomains: []string{"example.com"}, Scopes: []string{"openid", "offline_access"},
		Endpoints: oauth.Endpoints{AuthorizeURL: "https://accounts.google.com/o/oauth2/v2/auth", TokenURL: "https://x.example/", JWKSURL: "https://x.example/"},
	})
	if err != nil || p.Type() != "google" {
		t.Fatalf("New: %v, %v", p, err)
	}
	tests := []struct {
		name string
		ask  oauth.Prompts
		want url.Values
	}{
		{"the domain is a hint, offline access a parameter", oauth.Prompts{}, url.Values{"hd": {"example.com"}, "access_type": {"offline"}, "scope": {"openid"}, "prompt": nil}},
		{"Google has no prompt login", oauth.Prompts{Prompt: "login", LoginHint: "a@example.com"}, url.Values{"prompt": {"select_account"}, "login_hint": {"a@example.com"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address, err := p.AuthCodeURL(t.Context(), "s", oauth.NewLogin("s"), tt.ask)
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(address)
			if err != nil || u.Host != "accounts.google.com" {
				t.Errorf("address = %s, %v", address, err)
			}
			for name, values := range tt.want {
				if diff := cmp.Diff(values, u.Query()[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if u.Query().Get("nonce") == "" {
				t.Error("there is no nonce")
			}
		})
	}
}

func TestTheHostedDomainIsTheTokensNotTheAddresss(t *testing.T) {
	domains := []string{"example.com", "second.example"}
	tests := []struct {
		name    string
		domains []string
		hd      any
		ok      bool
	}{
		{"anybody", nil, nil, true},
		{"the domain", domains, "example.com", true},
		{"the other domain", domains, "second.example", true},
		{"in another case", domains, "Example.COM", true},
		{"no hd, though the address is of the domain", domains, nil, false},
		{"an empty hd", domains, "", false},
		{"another domain", domains, "evil.example", false},
		{"a domain below", domains, "sub.example.com", false},
		{"a domain that ends alike", domains, "evilexample.com", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := googleHarness(t, func(c *oauth.Config) { c.HostedDomains = tt.domains })
			h.faults(t, devidp.Faults{ClaimsEdit: set("hd", tt.hd)}) // the address is alice@example.com
			id, err := h.signIn(t, h.provider)
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, oauth.ErrNotAllowed) {
				t.Errorf("error = %v, want %v unless it is allowed", err, oauth.ErrNotAllowed)
			}
			if id != nil && (id.Issuer != h.url || id.Groups != nil) {
				t.Errorf("issuer %q, groups %q, want %q and none", id.Issuer, id.Groups, h.url)
			}
		})
	}
}

// serviceKey is one RSA key for all tests: making one takes a while.
var serviceKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// serviceAccount is a key file as Google's console gives it out.
func serviceAccount(t *testing.T, tokenURL string) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(serviceKey())
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.Marshal(object{
		"type": "service_account", "project_id": "p", "private_key_id": "key-1", "client_email": "robot@p.iam.example",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": tokenURL,
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

const (
	adminGroups  = "/admin/directory/v1/groups"
	cloudDirect  = "/v1/groups/-/memberships:searchDirectGroups"
	cloudNested  = "/v1/groups/-/memberships:searchTransitiveGroups"
	metadataPath = "/computeMetadata/v1/instance/service-accounts/default/token"
)

// newDirectory is Google's APIs for groups, with who is in what.
func newDirectory(t *testing.T, groups map[string][]string) *lookAlike {
	l := newLookAlike(t)
	l.on("/gtoken", answer(object{"access_token": accessToken, "expires_in": 3599, "token_type": "Bearer"}))
	l.on(adminGroups, func(w http.ResponseWriter, r *http.Request) {
		list, ok := groups[r.FormValue("userKey")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		servePage(w, r, list, func(address string) object { return object{"id": "1", "email": address, "name": "n"} }, "groups")
	})
	cloud := func(w http.ResponseWriter, r *http.Request) {
		member, _, _ := strings.Cut(strings.TrimPrefix(r.FormValue("query"), "member_key_id == '"), "'")
		servePage(w, r, groups[member], func(address string) object { return object{"group": "groups/1", "groupKey": object{"id": address}} }, "memberships")
	}
	l.on(cloudDirect, cloud)
	l.on(cloudNested, cloud)
	return l
}

// servePage answers with two entries at a time, as Google pages.
func servePage(w http.ResponseWriter, r *http.Request, list []string, entry func(string) object, name string) {
	begin := len(r.FormValue("pageToken")) // as many letters as entries before
	end := min(begin+2, len(list))
	page := object{"kind": "x"}
	var entries []object
	for _, address := range list[begin:end] {
		entries = append(entries, entry(address))
	}
	if entries != nil { // an empty list is left out
		page[name] = entries
	}
	if end < len(list) {
		page["nextPageToken"] = strings.Repeat("p", end)
	}
	writeJSON(w, page)
}

// withGroups is a look-alike of Google whose groups come from l.
func withGroups(t *testing.T, l *lookAlike, groups oauth.GoogleGroups) *harness {
	h := googleHarness(t, func(c *oauth.Config) {
		if groups.API == "admin" || groups.ServiceAccount != nil {
			groups.AdminEmail, groups.ServiceAccount = "admin@example.com", serviceAccount(t, l.url+"/gtoken")
		}
		c.Groups, c.HostedDomains = &groups, []string{"example.com"}
		c.Endpoints = oauth.Endpoints{APIURL: l.url, MetadataURL: l.url}
	})
	h.faults(t, devidp.Faults{ClaimsEdit: set("hd", "example.com")})
	l.clock = h.clock
	return h
}

func TestWorkspaceGroupsByTheAdminSDK(t *testing.T) {
	l := newDirectory(t, map[string][]string{
		aliceSubject: {"dev@example.com", "all@example.com", "sre@example.com", "on-call@example.com", "a@example.com"},
	})
	h := withGroups(t, l, oauth.GoogleGroups{API: "admin"})
	id, err := h.signIn(t, h.provider)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a@example.com", "all@example.com", "dev@example.com", "on-call@example.com", "sre@example.com"}
	if diff := cmp.Diff(want, id.Groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if got := l.count("GET " + adminGroups); got != 3 {
		t.Errorf("%d pages were read, want 3", got)
	}
	for _, r := range l.asked("GET " + adminGroups) {
		if r.auth != "Bearer "+accessToken {
			t.Errorf("Authorization = %q, want the service account's token", r.auth)
		}
	}
	checkServiceAssertion(t, l, h)
}

// checkServiceAssertion wants the grant of RFC 7523 with domain-wide delegation.
func checkServiceAssertion(t *testing.T, l *lookAlike, h *harness) {
	t.Helper()
	form := l.asked("POST /gtoken")[0].form
	if got := form.Get("grant_type"); got != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		t.Errorf("grant_type = %q", got)
	}
	jws, err := jose.ParseSignedCompact(form.Get("assertion"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := jws.Verify(serviceKey().Public())
	if err != nil || jws.Signatures[0].Header.KeyID != "key-1" {
		t.Fatalf("assertion: %v, kid %q", err, jws.Signatures[0].Header.KeyID)
	}
	var got map[string]any
	if err := json.Unmarshal(payload, &got); err != nil {
		t.Fatal(err)
	}
	now := float64(h.clock.Now().Unix())
	want := map[string]any{
		"iss": "robot@p.iam.example", "sub": "admin@example.com", "aud": l.url + "/gtoken", "iat": now, "exp": now + 3600,
		"scope": "https://www.googleapis.com/auth/admin.directory.group.readonly",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("assertion (-want +got):\n%s", diff)
	}
}

func TestNestedWorkspaceGroups(t *testing.T) {
	tree := map[string][]string{
		aliceSubject: {"db@example.com"}, "db@example.com": {"dev@example.com"},
		"dev@example.com": {"all@example.com", "db@example.com"}, "all@example.com": {}, // a circle, too
	}
	l := newDirectory(t, tree)
	h := withGroups(t, l, oauth.GoogleGroups{API: "admin", Nested: true})
	id, err := h.signIn(t, h.provider)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"all@example.com", "db@example.com", "dev@example.com"}, id.Groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if got := l.count("GET " + adminGroups); got != 4 {
		t.Errorf("%d questions, want one for alice and one for each of 3 groups", got)
	}
}

func TestWorkspaceGroupsByCloudIdentity(t *testing.T) {
	for _, nested := range []bool{false, true} {
		l := newDirectory(t, map[string][]string{"alice@example.com": {"b@example.com", "a@example.com", "c@example.com"}})
		l.on(metadataPath, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Metadata-Flavor") != "Google" || r.FormValue("scopes") != "https://www.googleapis.com/auth/cloud-identity.groups.readonly" {
				t.Errorf("the metadata server was asked with %q for %q", r.Header, r.URL.RawQuery)
			}
			writeJSON(w, object{"access_token": accessToken, "expires_in": 3000})
		})
		h := withGroups(t, l, oauth.GoogleGroups{API: "cloud_identity", Nested: nested})
		id, err := h.signIn(t, h.provider)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"a@example.com", "b@example.com", "c@example.com"}, id.Groups); diff != "" {
			t.Errorf("groups (-want +got):\n%s", diff)
		}
		path := map[bool]string{false: cloudDirect, true: cloudNested}[nested]
		if got := l.count("GET " + path); got != 2 {
			t.Errorf("nested %v: %s was asked %d times, want 2 pages", nested, path, got)
		}
		if got := l.count("POST /gtoken"); got != 0 {
			t.Errorf("%d assertions were sent, want none", got)
		}
	}
}

func TestOnlyWorkspaceUsersHaveGroups(t *testing.T) {
	tests := []struct {
		name string
		edit func(map[string]any)
		api  string
	}{
		{"no Workspace", set("hd", nil), "admin"},
		{"not in our directory", both(set("hd", "example.com"), set("sub", "somebody")), "admin"},
		{"an address that is not verified", both(set("hd", "example.com"), set("email_verified", false)), "cloud_identity"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newDirectory(t, map[string][]string{aliceSubject: {"secret@example.com"}, "alice@example.com": {"secret@example.com"}})
			h := withGroups(t, l, oauth.GoogleGroups{API: tt.api, ServiceAccount: []byte("x")})
			h.provider = h.fresh(t, func(c *oauth.Config) { c.HostedDomains = nil })
			h.faults(t, devidp.Faults{ClaimsEdit: tt.edit})
			id, err := h.signIn(t, h.provider)
			if err != nil || len(id.Groups) != 0 {
				t.Errorf("groups = %+v, %v, want none", id, err)
			}
		})
	}
}

// The address goes into an expression of Google's: a quote in it would ask for
// somebody else's groups.
func TestAnAddressCannotChangeTheQuestion(t *testing.T) {
	l := newDirectory(t, nil)
	h := withGroups(t, l, oauth.GoogleGroups{API: "cloud_identity", ServiceAccount: []byte("x")})
	h.faults(t, devidp.Faults{ClaimsEdit: both(set("hd", "example.com"), set("email", "x' || member_key_id == 'boss@example.com"))})
	if _, err := h.signIn(t, h.provider); !errors.Is(err, oauth.ErrClaims) {
		t.Errorf("error = %v, want %v", err, oauth.ErrClaims)
	}
	if got := l.count("GET /v1/"); got != 0 {
		t.Errorf("%d questions, want none", got)
	}
}

func TestGroupsAreRememberedForAWhile(t *testing.T) {
	groups := map[string][]string{aliceSubject: {"a@example.com"}}
	l := newDirectory(t, groups)
	h := withGroups(t, l, oauth.GoogleGroups{API: "admin", TTL: 10 * time.Minute})
	expect := func(when, want string, questions int) {
		t.Helper()
		id, err := h.signIn(t, h.provider)
		if err != nil || strings.Join(id.Groups, ",") != want {
			t.Errorf("%s: groups = %+v, %v, want %s", when, id, err, want)
		}
		if got := l.count("GET " + adminGroups); got != questions {
			t.Errorf("%s: %d questions so far, want %d", when, got, questions)
		}
	}
	expect("at first", "a@example.com", 1)
	groups[aliceSubject] = []string{"b@example.com"}
	h.clock.advance(10*time.Minute - time.Second)
	expect("just before the end", "a@example.com", 1)
	h.clock.advance(time.Second)
	expect("at the end", "b@example.com", 2)

	l.on(adminGroups, refuse(http.StatusServiceUnavailable))
	h.clock.advance(23 * time.Hour)
	expect("while Google does not answer", "b@example.com", 3)
	if !strings.Contains(h.log.String(), "groups cannot be read; the earlier ones go on") {
		t.Errorf("the log does not tell: %s", h.log.String())
	}
	h.clock.advance(time.Hour)
	if _, err := h.signIn(t, h.provider); !errors.Is(err, oauth.ErrUnavailable) {
		t.Errorf("after a day: %v, want %v", err, oauth.ErrUnavailable)
	}
	if got := l.count("POST /gtoken"); got != 3 {
		t.Errorf("%d tokens for the service account, want one an hour at most: 3", got)
	}
}

func TestGroupsThatCannotBeReadAreNotNone(t *testing.T) {
	tests := []struct {
		name, path string
		serve      http.HandlerFunc
		text       string
	}{
		{"the account may not", adminGroups, refuse(http.StatusForbidden), "admin refuses with status 403; may the service account read groups"},
		{"the API is down", adminGroups, refuse(http.StatusInternalServerError), "status 500"},
		{"the quota is used up", adminGroups, refuse(http.StatusTooManyRequests), "status 429"},
		{"garbage", adminGroups, garbage, "cannot be read"},
		{"no delegation", "/gtoken", refuse(http.StatusUnauthorized), "domain-wide delegation"},
		{"no token", "/gtoken", answer(object{}), "no access_token"},
		{"no end", adminGroups, answer(object{"nextPageToken": "again"}), "more than 50 pages"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newDirectory(t, map[string][]string{aliceSubject: {}})
			h := withGroups(t, l, oauth.GoogleGroups{API: "admin"})
			l.on(tt.path, tt.serve)
			_, err := h.signIn(t, h.provider)
			if !errors.Is(err, oauth.ErrUnavailable) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error = %v, want %v with %q", err, oauth.ErrUnavailable, tt.text)
			}
		})
	}
}

func TestATokenThatGoogleTakesNoMoreIsReplaced(t *testing.T) {
	for name, tt := range map[string]struct{ refusals, tokens int }{"once": {1, 2}, "and so is the next": {2, 2}} {
		l := newDirectory(t, map[string][]string{aliceSubject: {"dev@example.com"}})
		h := withGroups(t, l, oauth.GoogleGroups{API: "admin"})
		l.on(adminGroups, func(w http.ResponseWriter, r *http.Request) {
			if tt.refusals--; tt.refusals >= 0 {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			writeJSON(w, object{"groups": []object{{"email": "dev@example.com"}}})
		})
		if _, err := h.signIn(t, h.provider); (err == nil) != (name == "once") || err != nil && !errors.Is(err, oauth.ErrUnavailable) {
			t.Errorf("%s: error = %v", name, err)
		}
		if got := l.count("POST /gtoken"); got != tt.tokens {
			t.Errorf("%s: %d tokens were fetched, want %d", name, got, tt.tokens)
		}
	}
}

func TestAMachineWithoutAnIdentityIsExplained(t *testing.T) {
	l := newDirectory(t, nil)
	l.on(metadataPath, refuse(http.StatusNotFound))
	h := withGroups(t, l, oauth.GoogleGroups{API: "cloud_identity"})
	_, err := h.signIn(t, h.provider)
	if !errors.Is(err, oauth.ErrUnavailable) || !strings.Contains(err.Error(), "status 404; does this machine or workload have a service account?") {
		t.Errorf("error = %v, want %v that says what is missing", err, oauth.ErrUnavailable)
	}
}

func TestRefreshReadsTheGroupsAgain(t *testing.T) {
	groups := map[string][]string{aliceSubject: {"a@example.com"}}
	l := newDirectory(t, groups)
	h := withGroups(t, l, oauth.GoogleGroups{API: "admin"})
	h.override(t, "/token", func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("grant_type") == "refresh_token" {
			writeJSON(w, object{"access_token": accessToken})
			return
		}
		h.idp.ServeHTTP(w, r)
	})
	was, err := h.signIn(t, h.provider)
	if err != nil {
		t.Fatal(err)
	}
	was.Tokens.Refresh = "1//refresh"
	groups[aliceSubject] = nil
	h.clock.advance(time.Hour)
	id, err := h.provider.Refresh(t.Context(), *was)
	if err != nil || len(id.Groups) != 0 || id.Email != "alice@example.com" {
		t.Errorf("Refresh = %+v, %v, want alice without groups", id, err)
	}
}

func TestServiceAccountsThatAreRefused(t *testing.T) {
	good := serviceAccount(t, "https://oauth2.googleapis.com/token")
	edit := func(name string, value any) []byte {
		var file object
		if err := json.Unmarshal(good, &file); err != nil {
			t.Fatal(err)
		}
		file[name] = value
		out, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	tests := []struct {
		name   string
		groups oauth.GoogleGroups
	}{
		{"no file for the Admin SDK", oauth.GoogleGroups{API: "admin", AdminEmail: "a@x.example"}},
		{"no administrator", oauth.GoogleGroups{API: "admin", ServiceAccount: good}},
		{"no API", oauth.GoogleGroups{AdminEmail: "a@x.example", ServiceAccount: good}},
		{"no JSON", oauth.GoogleGroups{API: "admin", AdminEmail: "a@x.example", ServiceAccount: []byte("MIIE")}},
		{"another kind of key", oauth.GoogleGroups{API: "admin", AdminEmail: "a@x.example", ServiceAccount: edit("type", "authorized_user")}},
		{"no key", oauth.GoogleGroups{API: "admin", AdminEmail: "a@x.example", ServiceAccount: edit("private_key", "")}},
		{"a bad key", oauth.GoogleGroups{API: "admin", AdminEmail: "a@x.example", ServiceAccount: edit("private_key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")}},
		{"a token address over http", oauth.GoogleGroups{API: "admin", AdminEmail: "a@x.example", ServiceAccount: edit("token_uri", "http://oauth2.example/token")}},
	}
	for _, tt := range tests {
		c := oauth.Config{ID: "g", Type: oauth.Google, ClientID: "a", RedirectURL: callbackURL, Groups: &tt.groups}
		if p, err := oauth.New(c); err == nil {
			t.Errorf("%s: New = %v, want an error", tt.name, p)
		}
	}
}

// Of an address that it does not give out, Google knows only that it was
// somebody's once.
func TestGoogleVouchesOnlyForItsOwnAddresses(t *testing.T) {
	tests := []struct {
		email    string
		hd       any
		verified bool
		want     bool
	}{
		{"alice@gmail.com", nil, true, true},
		{"Alice@GoogleMail.com", nil, true, true},
		{"alice@gmail.com", nil, false, false},
		{"alice@example.com", nil, true, false},
		{"alice@example.com", "", true, false},
		{"alice@example.com", "example.com", true, true},
		{"alice@example.com", "example.com", false, false},
		{"alice@gmail.com.evil.example", nil, true, false},
		{"alice@gmail.com@evil.example", nil, true, false},
		{"alice@evilgmail.com", nil, true, false},
		{"gmail.com", nil, true, false},
	}
	h := googleHarness(t, func(*oauth.Config) {})
	for _, tt := range tests {
		h.faults(t, devidp.Faults{ClaimsEdit: both(set("email", tt.email), both(set("hd", tt.hd), set("email_verified", tt.verified)))})
		id, err := h.signIn(t, h.provider)
		if err != nil || id.Email != tt.email || id.EmailVerified != tt.want {
			t.Errorf("%s, hd %v, email_verified %v: %+v, %v, want verified %v", tt.email, tt.hd, tt.verified, id, err, tt.want)
		}
	}
}
