package main

import (
	"crypto/rand"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"authproxy/cookie"
	"authproxy/devidp"
)

// A site is the whole program at an address, between a provider and an
// application, and a browser that keeps its cookies.
type site struct {
	address  string
	idp      *devidp.Server
	settings string // all but sign_in and rules
	program  atomic.Pointer[http.Handler]
	browser  *http.Client
}

// groupsOf returns n groups that do not compress.
func groupsOf(n int) []string {
	groups := make([]string, n)
	for i := range groups {
		groups[i] = rand.Text()
	}
	return groups
}

// newSite returns a site that waits for [site.configure].
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.browser = &http.Client{Jar: jar}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.program.Load()).ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	s.address = server.URL
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the application") }))
	t.Cleanup(app.Close)
	issuer := s.startProvider(t)
	s.settings = fmt.Sprintf("public_url: %s\nupstream: %s\ncookie: {keys: [%q]}\n", s.address, app.URL, cookie.NewKey()) +
		fmt.Sprintf("providers: [{id: dev, type: oidc, issuer: %q, client_id: x, client_secret: y}]\n", issuer)
	return s
}

// startProvider starts the provider, with people of more groups than fit.
func (s *site) startProvider(t *testing.T) (issuer string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	issuer = "http://" + server.Listener.Addr().String()
	var err error
	s.idp, err = devidp.New(devidp.Config{
		Issuer:  issuer,
		Clients: []devidp.Client{{ID: "x", Secret: "y", RedirectURIs: []string{s.address + "/auth/callback/dev"}, PostLogoutRedirectURIs: []string{s.address + "/auth/sign-out"}}},
		Users: append(devidp.DemoUsers(),
			devidp.User{Login: "carol", Subject: "77aa", Email: "carol@example.com", EmailVerified: true, Groups: groupsOf(200)},
			devidp.User{Login: "dave", Subject: "77bb", Email: "dave@example.com", EmailVerified: true, Groups: groupsOf(1200)},
			devidp.User{Login: "erin", Subject: "77cc", Email: "erin@example.com", EmailVerified: false}),
		AccessTokenTTL: time.Second, // where there is a refresh token, it is due at once
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = s.idp
	server.Start()
	t.Cleanup(server.Close)
	return issuer
}

// configure puts a program with these further settings in its place, as a
// restart does.
func (s *site) configure(t *testing.T, more string) {
	t.Helper()
	handler := program(t, s.settings+more)
	s.program.Store(&handler)
}

// open goes to address as a browser does. It returns where that ended, and what
// is there.
func (s *site) open(t *testing.T, address string) (*http.Response, string) {
	t.Helper()
	return s.send(t, http.MethodGet, address, func(*http.Request) {})
}

func (s *site) send(t *testing.T, method, address string, edit func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	edit(req)
	res, err := s.browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// anotherAccount is the button of a page.
var anotherAccount = regexp.MustCompile(`href="([^"]+)">Use another account<`)

// Whoever is refused because of who they are would come back as the same person
// by trying again: the provider remembers them.
func TestEveryRefusalOfAPersonOffersAnotherAccount(t *testing.T) {
	const anybody = "sign_in: {allowed_domains: [example.com]}\nrules: [{require: {signed_in: true}}]\n"
	rule := func(rule string) string { return strings.Replace(anybody, "[{require", "["+rule+", {require", 1) }
	tests := []struct {
		name, login string
		settings    string
		later       string        // settings of a restart after the sign-in
		faults      devidp.Faults // of the provider
		text        string        // of the page
	}{
		{"a rule denies", "alice", rule("{path: /page, deny: true}"), "", devidp.Faults{}, "You may not open this page"},
		{"a group is required", "bob", rule("{path: /page, require: {groups: [admins]}}"), "", devidp.Faults{}, "bob@example.com"},
		{"an address is required", "bob", rule("{path: /page, require: {emails: [alice@example.com]}}"), "", devidp.Faults{}, "bob@example.com"},
		{"sign_in names somebody else", "bob", strings.Replace(anybody, "allowed_domains: [example.com]", "allowed_emails: [alice@example.com]", 1), "", devidp.Faults{}, "may not use the application"},
		{"sign_in does not name them any more", "bob", anybody, strings.Replace(anybody, "allowed_domains: [example.com]", "allowed_emails: [alice@example.com]", 1), devidp.Faults{}, "(any more)"},
		{"their address is not verified", "erin", anybody, "", devidp.Faults{}, "not verified"},
		{"more groups than headers hold", "carol", anybody, "", devidp.Faults{}, "more groups than the application can be told about"},
		{"more groups than a cookie holds", "dave", anybody, "", devidp.Faults{}, "fits a cookie"},
		{"the provider refuses", "alice", anybody, "", devidp.Faults{CallbackEdit: func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }}, "did not confirm the sign-in"},
		{"the provider's answer proves nothing", "alice", anybody, "", devidp.Faults{Alg: "none"}, "does not prove who you are"},
		{"the provider's claims cannot be read", "alice", anybody, "", devidp.Faults{ClaimsEdit: func(c map[string]any) { c["groups"] = 17 }}, "does not prove who you are"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.configure(t, tt.settings)
			s.idp.SetFaults(tt.faults)
			res, body := s.open(t, s.address+"/auth/sign-in/dev?rd=/page&login_hint="+tt.login)
			if tt.later != "" {
				s.configure(t, tt.later)
				res, body = s.open(t, s.address+"/page")
			}
			if res.StatusCode != http.StatusForbidden || !strings.Contains(body, tt.text) {
				t.Fatalf("the page is %d %s, want 403 with %q", res.StatusCode, body, tt.text)
			}
			button := anotherAccount.FindStringSubmatch(body)
			if button == nil {
				t.Fatalf("the page offers no other account: %s", body)
			}
			s.idp.SetFaults(devidp.Faults{})
			asked, _ := s.open(t, html.UnescapeString(button[1]))
			if got := asked.Request.URL.Query().Get("prompt"); asked.StatusCode != http.StatusOK || got != "select_account" {
				t.Errorf("the button leads to %s with prompt %q, want the provider's page with select_account", asked.Request.URL.Redacted(), got)
			}
		})
	}
}

// No account changes what these are about, and a button would say that one
// might.
func TestARefusalOfARequestOffersNoOtherAccount(t *testing.T) {
	s := newSite(t)
	s.configure(t, fmt.Sprintf("sign_in: {allowed_domains: [example.com]}\nrules: [{host: %q, require: {signed_in: true}}]\n", strings.TrimPrefix(s.address, "http://")))
	s.open(t, s.address+"/auth/sign-in/dev?rd=/page&login_hint=alice")
	tests := []struct {
		name, path string
		edit       func(*http.Request)
		text       string
	}{
		{"a form of another site", "/auth/sign-out", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, "came from another site"},
		{"a host that is none of ours", "/page", func(r *http.Request) { r.Host = "made-up.example" }, "This host is not served here"},
	}
	for _, tt := range tests {
		res, body := s.send(t, http.MethodPost, s.address+tt.path, tt.edit)
		if res.StatusCode != http.StatusForbidden || !strings.Contains(body, tt.text) || anotherAccount.MatchString(body) {
			t.Errorf("%s: the page is %d %s, want 403 with %q and no other account", tt.name, res.StatusCode, body, tt.text)
		}
	}
}
