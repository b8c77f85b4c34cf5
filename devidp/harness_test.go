package devidp_test

import (
	"context"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"authproxy/devidp"
)

const (
	callback   = "http://app.example:4180/auth/callback/demo"
	signedOut  = "http://app.example:4180/"
	testSecret = "s3cret with / and %"
)

// A clock is set by hand.
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

// A harness is a provider behind a real listener, a client of it made of
// go-oidc and x/oauth2, and a browser that does not follow redirects.
type harness struct {
	*testing.T
	idp      *devidp.Server
	url      string
	clock    *clock
	browser  *http.Client
	oauth    oauth2.Config
	provider *oidc.Provider
	verifier string // of PKCE
}

func newHarness(t *testing.T, edit func(*devidp.Config)) *harness {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	c := &clock{now: time.Now().Truncate(time.Second)}
	config := devidp.Config{
		Issuer: "http://" + server.Listener.Addr().String(),
		Clients: []devidp.Client{
			{ID: "app", Secret: testSecret, RedirectURIs: []string{callback}, PostLogoutRedirectURIs: []string{signedOut}},
			{ID: "other", Secret: "another", RedirectURIs: []string{callback}},
			{ID: "public", RedirectURIs: []string{callback + "?fixed=1"}},
		},
		Now: c.Now,
	}
	if edit != nil {
		edit(&config)
	}
	idp, err := devidp.New(config)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	server.Config.Handler = idp
	server.Start()
	t.Cleanup(server.Close)

	provider, err := oidc.NewProvider(t.Context(), server.URL)
	if err != nil {
		t.Fatalf("discovery: %v", err)
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	return &harness{
		T: t, idp: idp, url: server.URL, clock: c, browser: newBrowser(t), provider: provider,
		oauth: oauth2.Config{
			ClientID: "app", ClientSecret: testSecret, RedirectURL: callback, Endpoint: endpoint,
			Scopes: []string{"openid", "email", "profile", "offline_access"},
		},
		verifier: oauth2.GenerateVerifier(),
	}
}

func newBrowser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// authURL is the client's authorization request, with params (name, value, …)
// set, or removed where the value is "-".
func (h *harness) authURL(params ...string) string {
	u, err := url.Parse(h.oauth.AuthCodeURL("the-state", oauth2.S256ChallengeOption(h.verifier), oauth2.SetAuthURLParam("nonce", "the-nonce")))
	if err != nil {
		h.Fatal(err)
	}
	q := u.Query()
	for i := 0; i < len(params); i += 2 {
		q.Set(params[i], params[i+1])
		if params[i+1] == "-" {
			q.Del(params[i])
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// An answer is a response whose body has been read.
type answer struct {
	*http.Response
	body string
}

func (h *harness) do(r *http.Request) answer {
	h.Helper()
	resp, err := h.browser.Do(r)
	if err != nil {
		h.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.Fatal(err)
	}
	return answer{resp, string(body)}
}

func (h *harness) get(target string) answer {
	h.Helper()
	r, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		h.Fatal(err)
	}
	return h.do(r)
}

// post sends a form with headers (name, value, …).
func (h *harness) post(path string, form url.Values, headers ...string) answer {
	h.Helper()
	r, err := http.NewRequest(http.MethodPost, h.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		h.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return h.do(r)
}

// callbackOf returns the parameters that a redirects to the client with.
func (h *harness) callbackOf(a answer) url.Values {
	h.Helper()
	location := a.Header.Get("Location")
	if !strings.HasPrefix(location, callback+"?") {
		h.Fatalf("status %d, Location = %q, want a redirect to the client; body: %s", a.StatusCode, location, a.body)
	}
	u, err := url.Parse(location)
	if err != nil {
		h.Fatal(err)
	}
	return u.Query()
}

// code signs alice in and returns the code, under further params.
func (h *harness) code(params ...string) string {
	h.Helper()
	q := h.callbackOf(h.get(h.authURL(append([]string{"login_hint", "alice"}, params...)...)))
	if q.Get("code") == "" {
		h.Fatalf("no code: %v", q)
	}
	return q.Get("code")
}

func (h *harness) exchange(code string) (*oauth2.Token, error) {
	return h.oauth.Exchange(h.Context(), code, oauth2.VerifierOption(h.verifier))
}

// tokens signs alice in and redeems the code.
func (h *harness) tokens(params ...string) *oauth2.Token {
	h.Helper()
	token, err := h.exchange(h.code(params...))
	if err != nil {
		h.Fatalf("redeem the code: %v", err)
	}
	return token
}

// verify is what a client does with the ID token: go-oidc, then the nonce.
func (h *harness) verify(token *oauth2.Token) (*oidc.IDToken, error) {
	raw, _ := token.Extra("id_token").(string)
	v := h.provider.Verifier(&oidc.Config{ClientID: "app", Now: h.clock.Now})
	return v.Verify(h.Context(), raw)
}

func (h *harness) claims(token *oauth2.Token) map[string]any {
	h.Helper()
	id, err := h.verify(token)
	if err != nil {
		h.Fatalf("verify: %v", err)
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		h.Fatal(err)
	}
	return claims
}

func (h *harness) userinfo(accessToken string) (*oidc.UserInfo, error) {
	return h.provider.UserInfo(context.WithoutCancel(h.Context()), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: accessToken}))
}

// refresh redeems a refresh token, and returns the OAuth error code if refused.
func (h *harness) refresh(refreshToken string) (newRefresh, errorCode string) {
	h.Helper()
	a := h.post("/token", url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {refreshToken},
		"client_id": {"app"}, "client_secret": {testSecret},
	})
	var got struct {
		Refresh string `json:"refresh_token"`
		Error   string `json:"error"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		h.Fatalf("status %d, body %q: %v", a.StatusCode, a.body, err)
	}
	return got.Refresh, got.Error
}

var requestField = regexp.MustCompile(`name="request" value="([^"]*)"`)

// form returns the hidden request of a sign-in page, or fails.
func (h *harness) form(a answer) url.Values {
	h.Helper()
	m := requestField.FindStringSubmatch(a.body)
	if a.StatusCode != http.StatusOK || m == nil {
		h.Fatalf("status %d, Location %q: want the sign-in page; body: %s", a.StatusCode, a.Header.Get("Location"), a.body)
	}
	return url.Values{"request": {html.UnescapeString(m[1])}}
}

// with returns form with name set to value.
func with(form url.Values, name, value string) url.Values {
	form.Set(name, value)
	return form
}

// errorCode returns the error of an OAuth answer that x/oauth2 refused.
func errorCode(err error) string {
	if e, ok := err.(*oauth2.RetrieveError); ok {
		return e.ErrorCode
	}
	return ""
}
