package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"authproxy/cookie"
	"authproxy/devidp"
	"authproxy/identity"
	"authproxy/oauth"
	"authproxy/policy"
	"authproxy/session"
	"authproxy/web"
)

// tokenLife is how long the provider's access tokens last.
const tokenLife = 5 * time.Minute

// A refreshing world has a real provider, whose refresh tokens work once and
// whose grant ends when one comes a second time.
type refreshing struct {
	*world
	idp           *devidp.Server
	provider      *oauth.Provider
	authorization string // what upstreams get
	warned        lines  // the log of the refreshes
}

func newRefreshing(t *testing.T, s setup, authorization string) *refreshing {
	t.Helper()
	rw := &refreshing{}
	rw.build(t, s, authorization, func(c *session.Config) { rw.startProvider(t, c.Now) })
	return rw
}

// restarted is the proxy after a restart with these cookie keys, the first of
// which seals. What was in memory is gone; the provider and the time go on.
func (rw *refreshing) restarted(t *testing.T, authorization string, keys ...[]byte) *refreshing {
	t.Helper()
	ring, err := cookie.NewKeyRing(keys...)
	rw.must(err)
	sealer, err := cookie.NewSealer(ring)
	rw.must(err)
	next := &refreshing{idp: rw.idp, provider: rw.provider}
	next.build(t, setup{proxy: func(c *Config) { c.Now = rw.clock.Now }}, authorization, func(c *session.Config) { c.Sealer, c.Now = sealer, rw.clock.Now })
	next.clock = rw.clock
	return next
}

func (rw *refreshing) build(t *testing.T, s setup, authorization string, edit func(*session.Config)) {
	t.Helper()
	rw.authorization = authorization
	s.session = func(c *session.Config) {
		edit(c)
		refresher := &web.Refresher{Providers: []*oauth.Provider{rw.provider}, Authorization: authorization, Log: slog.New(slog.NewJSONHandler(&rw.warned, nil))}
		c.RefreshTokens = refresher.Refresh
	}
	also := s.identity
	s.identity = func(c *identity.Config) {
		c.Authorization = authorization
		if also != nil {
			also(c)
		}
	}
	rw.world = newWorld(t, s)
}

// providerKeys are those of all providers here, because making them takes long.
var providerKeys = sync.OnceValue(devidp.NewKeys)

func (rw *refreshing) startProvider(t *testing.T, now func() time.Time) {
	server := httptest.NewUnstartedServer(nil)
	issuer, back := "http://"+server.Listener.Addr().String(), "https://"+ourHost+"/auth/callback/corp"
	idp, err := devidp.New(devidp.Config{
		Issuer: issuer, Now: now, AccessTokenTTL: tokenLife, Keys: providerKeys(),
		Clients: []devidp.Client{{ID: "app", Secret: "a secret", RedirectURIs: []string{back}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = idp
	server.Start()
	t.Cleanup(server.Close)
	rw.idp = idp
	rw.provider, err = oauth.New(oauth.Config{
		ID: "corp", Issuer: issuer, ClientID: "app", ClientSecret: "a secret", RedirectURL: back, GroupsClaim: "groups",
		Scopes: []string{"openid", "email", "profile", "offline_access"}, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// signIn signs alice in at the provider and returns her cookies.
func (rw *refreshing) signIn() string {
	rw.Helper()
	login := oauth.NewLogin("the state")
	address, err := rw.provider.AuthCodeURL(context.Background(), "the state", login, oauth.Prompts{})
	rw.must(err)
	u, err := url.Parse(address)
	rw.must(err)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.PostForm("http://"+u.Host+u.Path, url.Values{"request": {u.RawQuery}, "user": {"alice"}})
	rw.must(err)
	rw.must(res.Body.Close())
	back, err := res.Location()
	rw.must(err)
	q := back.Query()
	id, err := rw.provider.Exchange(context.Background(), login, oauth.Callback{State: q.Get("state"), Code: q.Get("code"), Issuer: q.Get("iss")})
	rw.must(err)
	tokens := session.Tokens{Refresh: id.Tokens.Refresh, AccessExpiry: id.Tokens.AccessExpiry}
	if rw.authorization == identity.AuthorizationAccessToken {
		tokens.Access = id.Tokens.Access
	}
	return rw.start(&session.Session{
		Tokens: tokens,
		User: session.User{
			ID: session.UserID(id.Issuer, id.Subject), Issuer: id.Issuer, Subject: id.Subject, Provider: "corp",
			Email: id.Email, EmailVerified: id.EmailVerified, Name: id.Name, Groups: id.Groups,
		},
	})
}

// refreshes is how often the provider was asked for new tokens.
func (rw *refreshing) refreshes() int {
	n := -1 // the sign-in
	for _, line := range rw.idp.Requests() {
		if strings.Contains(line, "/token") {
			n++
		}
	}
	return n
}

// accepted says whether the provider takes an Authorization header.
func (rw *refreshing) accepted(authorization string) bool {
	r := httptest.NewRequest("GET", "http://127.0.0.1/userinfo", nil)
	r.Header.Set("Authorization", authorization)
	rec := httptest.NewRecorder()
	rw.idp.ServeHTTP(rec, r)
	return rec.Code == http.StatusOK
}

// kept returns the cookies of a, as the browser sends them next.
func kept(a answer) string {
	var pairs []string
	for _, c := range a.Cookies() {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

func TestARotatingRefreshTokenSurvivesParallelRequests(t *testing.T) {
	for _, authorization := range []string{identity.AuthorizationAccessToken, identity.AuthorizationJWT} {
		t.Run(authorization, func(t *testing.T) {
			rw := newRefreshing(t, setup{}, authorization)
			old := rw.signIn()
			for round := range 3 {
				rw.clock.advance(tokenLife + time.Second)
				got := rw.together(24, old)
				if n := rw.refreshes(); n != round+1 {
					t.Fatalf("round %d: %d refreshes, want %d", round+1, n, round+1)
				}
				if authorization == identity.AuthorizationAccessToken && !rw.accepted(got[0]) {
					t.Errorf("round %d: the provider does not accept what the upstream got", round+1)
				}
			}
			// The answers were lost; now one arrives.
			current := kept(rw.do(ask{header: browser(old)}))
			if current == "" || current == old {
				t.Fatal("the newest cookie is not handed out")
			}
			rw.clock.advance(tokenLife + time.Second)
			rw.pass(ask{header: browser(current)})
			rw.pass(ask{header: browser(old)})
			if n := rw.refreshes(); n != 4 {
				t.Errorf("%d refreshes, want 4", n)
			}
			want := "# TYPE authproxy_refreshes_total counter\n" + `authproxy_refreshes_total{outcome="success",provider="corp"} 4` + "\n"
			help := "# HELP authproxy_refreshes_total Refreshes of a provider's tokens, by provider and outcome: success, revoked, superseded or unavailable.\n"
			if err := testutil.GatherAndCompare(rw.metrics, strings.NewReader(help+want), "authproxy_refreshes_total"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whoever runs this changes our keys by a restart; the provider changes its own
// when it likes. Both happen while the access token is over.
func TestParallelRefreshesAcrossKeyRotations(t *testing.T) {
	first, second := worldKey(), worldKey()
	second[1]++
	steps := []struct {
		name    string
		keys    [][]byte // ours
		keepOld bool     // the provider's
	}{
		{"a key is added at the end", [][]byte{first, second}, true},
		{"it becomes the first", [][]byte{second, first}, true},
		{"the old keys are gone", [][]byte{second}, false},
	}
	const authorization = identity.AuthorizationAccessToken
	rw := newRefreshing(t, setup{}, authorization)
	cookies := rw.signIn()
	for i, step := range steps {
		rw = rw.restarted(t, authorization, step.keys...)
		rw.idp.RotateKeys(step.keepOld)
		rw.idp.SetFaults(devidp.Faults{ClaimsEdit: func(c map[string]any) { c["groups"] = []string{step.name} }})
		rw.clock.advance(tokenLife + time.Second)
		if got := rw.together(24, cookies); !rw.accepted(got[0]) {
			t.Errorf("%s: the provider does not accept what the upstream got", step.name)
		}
		if n := rw.refreshes(); n != i+1 {
			t.Fatalf("%s: %d refreshes, want %d", step.name, n, i+1)
		}
		got := rw.pass(ask{header: browser(cookies)})
		if groups := got.Header.Get("X-User-Groups"); groups != step.name {
			t.Errorf("%s: the groups are %q: the ID token under the provider's new key does not count", step.name, groups)
		}
		if cookies = kept(rw.do(ask{header: browser(cookies)})); cookies == "" {
			t.Fatalf("%s: the newest cookie is not handed out", step.name)
		}
	}
}

// together sends n requests at once. All must reach the upstream with the same
// Authorization, which together returns n times.
func (rw *refreshing) together(n int, cookies string) []string {
	rw.Helper()
	var wg sync.WaitGroup
	got := make([]string, n)
	for i := range got {
		r := ask{header: browser(cookies)}.request(rw.world)
		wg.Go(func() {
			res, err := rw.front.Client().Do(r)
			if err != nil {
				rw.Error(err)
				return
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusOK {
				rw.Errorf("request %d: %v, status %d, want 200", i, err, res.StatusCode)
			}
			_, rest, _ := strings.Cut(string(body), `"Authorization":["`)
			got[i], _, _ = strings.Cut(rest, `"`)
		})
	}
	wg.Wait()
	if len(slices.Compact(slices.Clone(got))) != 1 || got[0] == "" {
		rw.Fatalf("the upstream got different tokens, or none, for requests that came at once")
	}
	return got
}

func TestWhoeverLeavesAGroupLosesItWithTheRefresh(t *testing.T) {
	rw := newRefreshing(t, setup{rules: []policy.Rule{
		{Name: "admins", Path: "/admin/**", Require: &policy.Require{Groups: []string{"admins"}}},
		{Name: "signed in", Require: &policy.Require{SignedIn: true}},
	}}, identity.AuthorizationJWT)
	cookies := rw.signIn()
	rw.pass(ask{target: "/admin/", header: browser(cookies)})
	rw.idp.SetFaults(devidp.Faults{ClaimsEdit: func(c map[string]any) {
		c["groups"], c["email"] = []string{"staff"}, "alice.new@example.com"
	}})
	rw.clock.advance(tokenLife - time.Minute)
	if got := rw.do(ask{target: "/admin/", header: browser(cookies)}); got.StatusCode != http.StatusForbidden {
		t.Errorf("the very request that refreshed: status = %d, want 403", got.StatusCode)
	}
	got := rw.pass(ask{header: browser(cookies)})
	if got.Header.Get("X-User-Groups") != "staff" || got.Header.Get("X-User-Email") != "alice.new@example.com" {
		t.Errorf("the upstream is told groups %q and address %q", got.Header["X-User-Groups"], got.Header["X-User-Email"])
	}
	claims, err := rw.tokens.Verify(strings.TrimPrefix(got.Header.Get("Authorization"), "Bearer "))
	if err != nil || fmt.Sprint(claims.Groups) != "[staff]" || claims.Email != "alice.new@example.com" {
		t.Errorf("the minted token: %v, %+v", err, claims)
	}
}

// alice is given a group while she looks at a refusal, and opens nothing else.
func TestWhoeverIsGivenAGroupGetsInWithTheRefresh(t *testing.T) {
	group := policy.Require{Groups: []string{"new"}}
	for name, s := range map[string]setup{
		"by a rule": {rules: []policy.Rule{{Name: "new", Require: &group}}},
		"by the list of who may sign in": {identity: func(c *identity.Config) {
			c.Admit = policy.Members{Groups: group.Groups}
		}},
	} {
		rw := newRefreshing(t, s, identity.AuthorizationJWT)
		cookies := rw.signIn()
		rw.idp.SetFaults(devidp.Faults{ClaimsEdit: func(c map[string]any) { c["groups"] = group.Groups }})
		for range 2 { // nothing is due
			if got := rw.do(ask{header: browser(cookies)}); got.StatusCode != http.StatusForbidden || rw.refreshes() != 0 {
				t.Errorf("%s: at first: %d after %d refreshes, want 403 after none", name, got.StatusCode, rw.refreshes())
			}
		}
		rw.clock.advance(tokenLife)
		if got := rw.pass(ask{header: browser(cookies)}); got.Header.Get("X-User-Groups") != "new" || rw.refreshes() != 1 {
			t.Errorf("%s: the upstream is told of %q after %d refreshes", name, got.Header.Get("X-User-Groups"), rw.refreshes())
		}
	}
}

func TestWhoeverIsRevokedAtTheProviderIsOut(t *testing.T) {
	rw := newRefreshing(t, setup{}, identity.AuthorizationJWT)
	cookies := rw.signIn()
	rw.idp.RevokeUser("alice")
	rw.pass(ask{header: browser(cookies)})
	rw.clock.advance(tokenLife - time.Minute)
	got := rw.do(ask{header: browser(cookies)})
	if location := got.Header.Get("Location"); got.StatusCode != http.StatusFound || !strings.Contains(location, "/auth/sign-in") {
		t.Errorf("status = %d, Location = %q, want the sign-in page", got.StatusCode, location)
	}
	if got := rw.do(ask{header: http.Header{"Cookie": {cookies}}}); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("a script's request: status = %d, want 401", got.StatusCode)
	}
	if n := rw.refreshes(); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
}

// alice is thrown out on Friday, and authproxy is started anew before she comes back.
// Whether somebody has used her refresh token meanwhile is not known any more.
func TestWhoeverIsRevokedIsOutAlsoAfterARestart(t *testing.T) {
	for name, away := range map[string]time.Duration{"as soon as it is due": tokenLife - time.Minute, "a weekend later": 65 * time.Hour} {
		rw := newRefreshing(t, setup{}, identity.AuthorizationJWT)
		cookies := rw.signIn()
		rw.idp.RevokeUser("alice")
		rw.clock.advance(away)
		rw = rw.restarted(t, identity.AuthorizationJWT, worldKey())
		if got := rw.do(ask{header: browser(cookies)}); got.StatusCode != http.StatusOK || kept(got) != "" {
			t.Errorf("%s: %d with the cookie %q, want 200 and none while it is in doubt", name, got.StatusCode, kept(got))
		}
		rw.clock.advance(5 * time.Minute)
		for range 3 {
			if got := rw.do(ask{header: http.Header{"Cookie": {cookies}}}); got.StatusCode != http.StatusUnauthorized || rw.refreshes() != 1 {
				t.Errorf("%s: %d after %d refreshes, want 401 after one", name, got.StatusCode, rw.refreshes())
			}
			rw.clock.advance(24 * time.Hour)
		}
	}
}

// An answer of the provider that cannot be used has used up the refresh token, as
// each one does.
func TestAnIDTokenThatCannotBeUsedEndsNoSession(t *testing.T) {
	for name, edit := range map[string]func(c map[string]any, now time.Time){
		"of a clock that is ahead": func(c map[string]any, now time.Time) { c["iat"] = now.Add(2 * time.Minute).Unix() },
		"groups that are none":     func(c map[string]any, _ time.Time) { c["groups"] = 5 },
	} {
		rw := newRefreshing(t, setup{}, identity.AuthorizationJWT)
		cookies := rw.signIn()
		rw.clock.advance(tokenLife - time.Minute)
		rw.idp.SetFaults(devidp.Faults{ClaimsEdit: func(c map[string]any) { edit(c, rw.clock.Now()) }})
		rw.pass(ask{header: browser(cookies)})
		rw.idp.SetFaults(devidp.Faults{ClaimsEdit: func(c map[string]any) { c["groups"] = []string{"new"} }})
		rw.clock.advance(tokenLife - time.Minute)
		if got := rw.pass(ask{header: browser(cookies)}); got.Header.Get("X-User-Groups") != "new" {
			t.Errorf("%s: the groups are %q after the next refresh", name, got.Header.Get("X-User-Groups"))
		}
	}
}

// TestAPrefetchIsJudgedByWhatTheProviderSaysNow: any client can say that it only
// prefetches, and must not keep by it what it has lost.
func TestAPrefetchIsJudgedByWhatTheProviderSaysNow(t *testing.T) {
	for _, header := range []string{"Sec-Purpose", "Purpose"} {
		rw := newRefreshing(t, setup{}, identity.AuthorizationJWT)
		prefetch := with(browser(rw.signIn()), header, "prefetch")
		rw.idp.RevokeUser("alice")
		rw.pass(ask{header: prefetch})
		rw.clock.advance(tokenLife - time.Minute)
		if got := rw.do(ask{header: prefetch}); got.StatusCode == http.StatusOK || got.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: status = %d with the cookie %q, want a refusal", header, got.StatusCode, got.Header.Get("Set-Cookie"))
		}
	}
}

func TestAProviderThatFailsEndsNoSession(t *testing.T) {
	for name, fault := range map[string]devidp.Faults{
		"down": {Down: true}, "503": {Status: map[string]int{"/token": 503}}, "429": {Status: map[string]int{"/token": 429}},
		"garbage": {Garbage: true},
	} {
		t.Run(name, func(t *testing.T) {
			rw := newRefreshing(t, setup{}, identity.AuthorizationAccessToken)
			cookies := rw.signIn()
			first := rw.pass(ask{header: browser(cookies)}).Header.Get("Authorization")
			rw.idp.SetFaults(fault)
			rw.clock.advance(tokenLife - time.Minute)
			if got := rw.pass(ask{header: browser(cookies)}).Header.Get("Authorization"); got != first {
				t.Errorf("while the old token lasts the upstream gets another one or none")
			}
			rw.clock.advance(time.Minute)
			if got := rw.pass(ask{header: browser(cookies)}); len(got.Header["Authorization"]) != 0 || got.Header.Get("X-User-Email") != "alice@example.com" {
				t.Errorf("after its end the upstream gets %d tokens and %q, want none and alice", len(got.Header["Authorization"]), got.Header.Get("X-User-Email"))
			}
			if log := rw.warned.String(); !strings.Contains(log, "tokens could not be refreshed") || strings.Contains(log, strings.TrimPrefix(first, "Bearer ")) {
				t.Errorf("the log does not say what went wrong, or holds a token:\n%s", log)
			}
			asked := rw.refreshes()
			for range 5 {
				rw.pass(ask{header: browser(cookies)})
			}
			if n := rw.refreshes() - asked; n != 0 {
				t.Errorf("%d more calls at once, want none", n)
			}
			rw.idp.SetFaults(devidp.Faults{})
			rw.clock.advance(time.Minute)
			if got := rw.pass(ask{header: browser(cookies)}).Header.Get("Authorization"); got == first || !rw.accepted(got) {
				t.Error("the provider is back, and the upstream does not get a good token")
			}
		})
	}
}

// While the provider answers. While it does not, TestAProviderThatFailsEndsNoSession
// says what the application gets.
func TestNoTokenIsHandedOnThatEndsWithinItsMargin(t *testing.T) {
	rw := newRefreshing(t, setup{}, identity.AuthorizationAccessToken)
	cookies := rw.signIn()
	came, last := rw.clock.Now(), ""
	for range 3 * int(tokenLife/(10*time.Second)) {
		got := rw.do(ask{header: browser(cookies)})
		if c := kept(got); c != "" {
			cookies = c
		}
		_, token, _ := strings.Cut(got.body, `"Authorization":["`)
		if token, _, _ = strings.Cut(token, `"`); token != last {
			came, last = rw.clock.Now(), token
		}
		if left := came.Add(tokenLife).Sub(rw.clock.Now()); left <= time.Minute || !rw.accepted(token) {
			t.Fatalf("the application gets a token with %v left", left)
		}
		rw.clock.advance(10 * time.Second)
	}
}

func TestWhatRefreshesNothing(t *testing.T) {
	rw := newRefreshing(t, setup{rules: []policy.Rule{
		{Name: "nobody", Path: "/closed/**", Deny: true},
		{Name: "signed in", Require: &policy.Require{SignedIn: true}},
	}}, identity.AuthorizationJWT)
	cookies := rw.signIn()
	rw.clock.advance(tokenLife + time.Second)
	for name, a := range map[string]ask{
		"denied":    {target: "/closed/", header: browser(cookies)},
		"our own":   {target: "/auth/session", header: browser(cookies)},
		"anonymous": {header: browser("")},
	} {
		rw.do(a)
		if n := rw.refreshes(); n != 0 {
			t.Fatalf("%s: %d refreshes, want none", name, n)
		}
	}
	if rw.pass(ask{header: browser(cookies)}); rw.refreshes() != 1 {
		t.Error("an allowed request refreshes nothing either: the test proves nothing")
	}
}

// TestAnIngressThatLosesCookiesHarmsNobody: many hand on no Set-Cookie of an
// allowing answer, so that the browser shows its first cookie for ever. All the
// same each refresh token is used once, in time, and the application has a token
// that is good.
func TestAnIngressThatLosesCookiesHarmsNobody(t *testing.T) {
	for _, authorization := range []string{identity.AuthorizationAccessToken, identity.AuthorizationJWT} {
		t.Run(authorization, func(t *testing.T) {
			rw := newRefreshing(t, loopbackTrusted(nil), authorization)
			first := rw.signIn()
			for round := range 6 {
				rw.clock.advance(tokenLife + time.Second)
				var wg sync.WaitGroup
				for i := range 20 {
					wg.Go(func() {
						a := ask{target: fmt.Sprintf("/app/%d", i), header: browser(first)}
						got := rw.do([]ask{askForward(a), askNginx(a), askEnvoy(a)}[i%3])
						token := got.Header.Get("Authorization")
						if got.StatusCode != 200 || authorization == identity.AuthorizationAccessToken && !rw.accepted(token) {
							t.Errorf("round %d, request %d: status %d with %.20q, want 200 with a token that is good", round+1, i, got.StatusCode, token)
						}
						if n := len(got.Header["Set-Cookie"]); n != 1 {
							t.Errorf("round %d, request %d: %d cookies, want the newest, as the browser does not have it", round+1, i, n)
						}
					})
				}
				wg.Wait()
				if n := rw.refreshes(); n != round+1 {
					t.Fatalf("round %d: the provider was asked %d times, want %d", round+1, n, round+1)
				}
			}
		})
	}
}
