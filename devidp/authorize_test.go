package devidp_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"authproxy/devidp"
)

func TestNothingIsRedirectedUntilTheClientIsKnown(t *testing.T) {
	h := newHarness(t, nil)
	tests := []struct {
		name   string
		params []string
		extra  string // appended to the query
	}{
		{"unknown client", []string{"client_id", "nobody"}, ""},
		{"no client", []string{"client_id", "-"}, ""},
		{"two clients", nil, "&client_id=app"},
		{"no redirect_uri", []string{"redirect_uri", "-"}, ""},
		{"two redirect_uris", nil, "&redirect_uri=" + url.QueryEscape(callback)},
		{"another site", []string{"redirect_uri", "https://evil.example/"}, ""},
		{"longer path", []string{"redirect_uri", callback + "/more"}, ""},
		{"added query", []string{"redirect_uri", callback + "?next=evil"}, ""},
		{"another case", []string{"redirect_uri", strings.ToUpper(callback)}, ""},
		{"another client's redirect_uri", []string{"redirect_uri", callback + "?fixed=1"}, ""},
		{"even for an error", []string{"redirect_uri", "https://evil.example/", "response_type", "token"}, ""},
		{"malformed query", nil, "&x=%zz"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target := h.authURL(append(tt.params, "login_hint", "alice")...) + tt.extra
			query := target[strings.Index(target, "?")+1:]
			for method, a := range map[string]answer{
				"GET":  h.get(target),
				"POST": h.post("/authorize", url.Values{"request": {query}, "user": {"alice"}}),
			} {
				if a.StatusCode != http.StatusBadRequest || a.Header.Get("Location") != "" || len(a.Cookies()) > 0 {
					t.Errorf("%s: status %d, Location %q, %d cookies, want a plain 400", method, a.StatusCode, a.Header.Get("Location"), len(a.Cookies()))
				}
			}
		})
	}
}

func TestBadRequestsGoBackToTheClient(t *testing.T) {
	h := newHarness(t, nil)
	tests := []struct {
		name   string
		params []string
		want   string
	}{
		{"no PKCE", []string{"code_challenge", "-", "code_challenge_method", "-"}, "invalid_request"},
		{"plain PKCE", []string{"code_challenge_method", "plain"}, "invalid_request"},
		{"PKCE method left out, which means plain", []string{"code_challenge_method", "-"}, "invalid_request"},
		{"challenge that is no SHA-256", []string{"code_challenge", "short"}, "invalid_request"},
		{"implicit flow", []string{"response_type", "id_token"}, "unsupported_response_type"},
		{"hybrid flow", []string{"response_type", "code id_token"}, "unsupported_response_type"},
		{"fragment response", []string{"response_mode", "fragment"}, "invalid_request"},
		{"none with login", []string{"prompt", "none login"}, "invalid_request"},
		{"unknown prompt", []string{"prompt", "create"}, "invalid_request"},
		{"negative max_age", []string{"max_age", "-1"}, "invalid_request"},
		{"max_age in words", []string{"max_age", "soon"}, "invalid_request"},
		{"request object", []string{"request", "x.y.z"}, "request_not_supported"},
		{"request by reference", []string{"request_uri", "https://evil.example/"}, "request_uri_not_supported"},
		{"nobody signed in and prompt=none", []string{"prompt", "none"}, "login_required"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.browser = newBrowser(t)
			q := h.callbackOf(h.get(h.authURL(append(tt.params, "login_hint", "alice")...)))
			if q.Get("error") != tt.want || q.Has("code") {
				t.Errorf("error = %q, code %v, want %q and no code", q.Get("error"), q.Has("code"), tt.want)
			}
			if q.Get("state") != "the-state" || q.Get("iss") != h.url {
				t.Errorf("state, iss = %q, %q, want the-state, %q", q.Get("state"), q.Get("iss"), h.url)
			}
		})
	}

	t.Run("a parameter there twice", func(t *testing.T) {
		q := h.callbackOf(h.get(h.authURL("login_hint", "alice") + "&nonce=another"))
		if q.Get("error") != "invalid_request" {
			t.Errorf("error = %q, want invalid_request", q.Get("error"))
		}
	})
}

func TestLoginHintSignsInWithoutAsking(t *testing.T) {
	for _, hint := range []string{"bob", "bob@example.com"} {
		h := newHarness(t, nil)
		q := h.callbackOf(h.get(h.authURL("login_hint", hint)))
		if q.Get("state") != "the-state" || q.Get("iss") != h.url {
			t.Errorf("state, iss = %q, %q, want the-state, %q", q.Get("state"), q.Get("iss"), h.url)
		}
		token, err := h.exchange(q.Get("code"))
		if err != nil {
			t.Fatal(err)
		}
		if got := h.claims(token)["preferred_username"]; got != "bob" {
			t.Errorf("login_hint=%s signed in %v, want bob", hint, got)
		}
	}
}

func TestWhoIsAsked(t *testing.T) {
	remember := func(c *devidp.Config) { c.RememberUser = true }
	oneUser := func(c *devidp.Config) { c.Users = devidp.DemoUsers()[:1] }
	tests := []struct {
		name   string
		config func(*devidp.Config)
		before string // who signs in first, by login_hint
		params []string
		want   string // "page", or the error, or who gets a code
	}{
		{"nobody signed in", nil, "", nil, "page"},
		{"a hint that names nobody", nil, "", []string{"login_hint", "mallory"}, "page"},
		{"signed in, several users", nil, "alice", nil, "page"},
		{"signed in, another hint", nil, "alice", []string{"login_hint", "bob"}, "bob"},
		{"signed in, prompt=none", nil, "alice", []string{"prompt", "none"}, "alice"},
		{"signed in, prompt=none for another user", nil, "alice", []string{"prompt", "none", "login_hint", "bob"}, "login_required"},
		{"signed in, prompt=none for nobody we know", nil, "alice", []string{"prompt", "none", "login_hint", "mallory"}, "login_required"},
		{"signed in too long ago, prompt=none", nil, "alice", []string{"prompt", "none", "max_age", "60"}, "login_required"},
		{"prompt=login wins over a hint", nil, "alice", []string{"prompt", "login", "login_hint", "alice"}, "page"},
		{"prompt=select_account wins over a hint", nil, "alice", []string{"prompt", "select_account", "login_hint", "alice"}, "page"},

		{"remembered", remember, "alice", nil, "alice"},
		{"remembered, but prompt=login", remember, "alice", []string{"prompt", "login"}, "page"},
		{"remembered, but prompt=consent", remember, "alice", []string{"prompt", "consent"}, "page"},
		{"remembered, within max_age", remember, "alice", []string{"max_age", "600"}, "alice"},
		{"remembered, past max_age", remember, "alice", []string{"max_age", "60"}, "page"},
		{"remembered, at max_age", remember, "alice", []string{"max_age", "300"}, "page"},
		{"remembered, max_age=0", remember, "alice", []string{"max_age", "0"}, "page"},
		{"remembered, but somebody else is meant", remember, "alice", []string{"login_hint", "mallory"}, "page"},
		{"remembered, but nobody signed in", remember, "", nil, "page"},

		{"only one user, not signed in", oneUser, "", nil, "page"},
		{"only one user, signed in", oneUser, "alice", nil, "alice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, tt.config)
			if tt.before != "" {
				h.get(h.authURL("login_hint", tt.before))
			}
			h.clock.advance(5 * time.Minute)
			if got := h.outcome(h.get(h.authURL(tt.params...))); got != tt.want {
				t.Errorf("outcome = %q, want %q", got, tt.want)
			}
		})
	}
}

// outcome sums up the answer to an authorization request.
func (h *harness) outcome(a answer) string {
	h.Helper()
	if a.StatusCode == http.StatusOK {
		h.form(a)
		return "page"
	}
	q := h.callbackOf(a)
	if q.Has("error") {
		return q.Get("error")
	}
	token, err := h.exchange(q.Get("code"))
	if err != nil {
		h.Fatal(err)
	}
	return h.claims(token)["preferred_username"].(string)
}

func TestChoosingOnThePage(t *testing.T) {
	h := newHarness(t, nil)
	form := h.form(h.get(h.authURL()))
	a := h.post("/authorize", with(form, "user", "bob"), "Sec-Fetch-Site", "same-origin")
	if a.StatusCode != http.StatusSeeOther {
		t.Errorf("status = %d, want 303: the callback is a GET", a.StatusCode)
	}
	if got := h.outcome(a); got != "bob" {
		t.Errorf("signed in %q, want bob", got)
	}

	page := h.get(h.authURL())
	if !strings.Contains(page.body, "Continue as Bob Brown") || strings.Contains(page.body, "Continue as Alice") {
		t.Errorf("the next page does not offer to continue as Bob alone: %s", page.body)
	}
}

func TestCancelOnThePage(t *testing.T) {
	h := newHarness(t, nil)
	form := h.form(h.get(h.authURL()))
	a := h.post("/authorize", with(form, "action", "cancel"))
	q := h.callbackOf(a)
	if q.Get("error") != "access_denied" || q.Get("state") != "the-state" || q.Has("code") || len(a.Cookies()) > 0 {
		t.Errorf("callback = %v, %d cookies, want access_denied with the state and no cookie", q, len(a.Cookies()))
	}
}

func TestTheSignInFormIsSameOriginOnly(t *testing.T) {
	tests := []struct {
		name    string
		headers []string
		want    int
	}{
		{"same-origin", []string{"Sec-Fetch-Site", "same-origin"}, http.StatusSeeOther},
		{"own Origin in an old browser", []string{"Origin", "self"}, http.StatusSeeOther},
		{"a script, which sends neither", nil, http.StatusSeeOther},

		{"cross-site", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"another port of loopback", []string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		{"foreign Origin in an old browser", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		{"opaque Origin in an old browser", []string{"Origin", "null"}, http.StatusForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, nil)
			for i, v := range tt.headers {
				if v == "self" {
					tt.headers[i] = h.url
				}
			}
			form := h.form(h.get(h.authURL()))
			a := h.post("/authorize", with(form, "user", "alice"), tt.headers...)
			if a.StatusCode != tt.want {
				t.Errorf("status = %d, want %d", a.StatusCode, tt.want)
			}
			if signedIn := len(a.Cookies()) > 0; signedIn != (tt.want == http.StatusSeeOther) {
				t.Errorf("signed in = %v at status %d", signedIn, a.StatusCode)
			}
		})
	}
}

func TestAPostedFormIsCheckedAgain(t *testing.T) {
	h := newHarness(t, nil)
	page := h.get(h.authURL())
	unknown := h.post("/authorize", with(h.form(page), "user", "mallory"))
	if unknown.StatusCode != http.StatusBadRequest {
		t.Errorf("unknown user: status = %d, want 400", unknown.StatusCode)
	}
	query, _ := url.ParseQuery(h.form(page).Get("request"))
	query.Del("code_challenge")
	a := h.post("/authorize", url.Values{"request": {query.Encode()}, "user": {"alice"}})
	if got := h.callbackOf(a).Get("error"); got != "invalid_request" {
		t.Errorf("PKCE taken out of the form: error = %q, want invalid_request", got)
	}
}

func TestThePage(t *testing.T) {
	h := newHarness(t, func(c *devidp.Config) {
		c.Clients[0].ID = `<b>app"`
		c.Clients = append(c.Clients, devidp.Client{ID: "six", RedirectURIs: []string{"http://[::1]:4180/cb"}})
	})
	h.oauth.ClientID = `<b>app"`
	a := h.get(h.authURL("state", `"><script>alert(1)</script>`))

	for _, want := range []string{"pretend provider", "no password", "Alice Adams", "Bob Brown", "Cancel", "prefers-color-scheme: dark", "width=device-width"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(a.body, "<script") || strings.Contains(a.body, "<b>") {
		t.Errorf("the page runs what a client sent: %s", a.body)
	}
	csp := a.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "style-src 'nonce-", "form-action 'self' http://app.example:4180;", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("Content-Security-Policy = %q, lacks %q", csp, want)
		}
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}

	h.oauth.ClientID, h.oauth.RedirectURL = "six", "http://[::1]:4180/cb"
	if csp := h.get(h.authURL()).Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' http:;") {
		t.Errorf("IPv6 client: Content-Security-Policy = %q, want its scheme in form-action", csp)
	}
}

func TestTheSessionCookie(t *testing.T) {
	h := newHarness(t, nil)
	first := h.get(h.authURL("login_hint", "alice")).Cookies()
	if len(first) != 1 {
		t.Fatalf("%d cookies, want 1", len(first))
	}
	c := first[0]
	if c.Name != "devidp_session" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || len(c.Value) < 20 {
		t.Errorf("cookie = %v, want devidp_session, HttpOnly, SameSite=Lax, Path=/", c)
	}

	// A cookie planted before a sign-in must be worth nothing after it.
	form := h.form(h.get(h.authURL()))
	second := h.post("/authorize", with(form, "user", "alice")).Cookies()
	if len(second) != 1 || second[0].Value == c.Value {
		t.Errorf("cookies after choosing alice again = %v, want a new value", second)
	}
	h.browser = newBrowser(t)
	r, _ := http.NewRequest(http.MethodGet, h.authURL("prompt", "none"), nil)
	r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	if got := h.callbackOf(h.do(r)).Get("error"); got != "login_required" {
		t.Errorf("with the earlier cookie: error = %q, want login_required", got)
	}
}

func TestASessionEndsAfterADay(t *testing.T) {
	h := newHarness(t, nil)
	h.code()
	h.clock.advance(24 * time.Hour)
	if got := h.outcome(h.get(h.authURL("prompt", "none"))); got != "login_required" {
		t.Errorf("outcome = %q, want login_required", got)
	}
}

func TestAuthTimeAndSid(t *testing.T) {
	h := newHarness(t, nil)
	first := h.claims(h.tokens())
	h.clock.advance(10 * time.Minute)
	same := h.claims(h.tokens())
	again := h.claims(h.tokens("max_age", "60"))
	bob := h.claims(h.tokens("login_hint", "bob"))

	if same["auth_time"] != first["auth_time"] || same["sid"] != first["sid"] {
		t.Errorf("going on: auth_time, sid = %v, %v, want %v, %v", same["auth_time"], same["sid"], first["auth_time"], first["sid"])
	}
	if again["auth_time"].(float64) != first["auth_time"].(float64)+600 || again["sid"] != first["sid"] {
		t.Errorf("signed in again: auth_time, sid = %v, %v, want 600 s later and the same sid", again["auth_time"], again["sid"])
	}
	if bob["sid"] == first["sid"] {
		t.Errorf("another user has the same sid %v", bob["sid"])
	}
}

func TestTheRedirectKeepsTheClientsQuery(t *testing.T) {
	h := newHarness(t, nil)
	h.oauth.ClientID, h.oauth.RedirectURL = "public", callback+"?fixed=1"
	q := h.callbackOf(h.get(h.authURL("login_hint", "alice")))
	if q.Get("fixed") != "1" || q.Get("code") == "" {
		t.Errorf("callback = %v, want fixed=1 beside the code", q)
	}
}

var postField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

func TestFormPost(t *testing.T) {
	h := newHarness(t, nil)
	a := h.get(h.authURL("login_hint", "alice", "response_mode", "form_post", "state", `a"b<c&d`))
	if a.StatusCode != http.StatusOK || !strings.Contains(a.body, `<form method="post" action="`+callback+`">`) {
		t.Fatalf("status %d, body %s: want a form to %s", a.StatusCode, a.body, callback)
	}
	got := url.Values{}
	for _, m := range postField.FindAllStringSubmatch(a.body, -1) {
		got.Set(m[1], html.UnescapeString(m[2]))
	}
	if got.Get("state") != `a"b<c&d` || got.Get("iss") != h.url {
		t.Errorf("state, iss = %q, %q, want them as they were sent", got.Get("state"), got.Get("iss"))
	}
	if _, err := h.exchange(got.Get("code")); err != nil {
		t.Errorf("redeem the posted code: %v", err)
	}
}

func TestScopesThatDoNotExistAreIgnored(t *testing.T) {
	h := newHarness(t, nil)
	token := h.tokens("scope", "openid openid email admin")
	if got := token.Extra("scope"); got != "openid email" {
		t.Errorf("scope = %q, want %q", got, "openid email")
	}
}
