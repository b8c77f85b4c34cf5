package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// quickStart is the promise that the demo makes to whoever tries it.
const quickStart = 2 * time.Second

// startDemo starts `authproxy demo` and returns where it is.
func startDemo(t *testing.T) string {
	t.Helper()
	return startDemoProcess(t).base
}

func startDemoProcess(t *testing.T) *process {
	t.Helper()
	address := freeAddress(t)
	return start(t, launch{args: []string{"demo", "--listen", address}, base: "http://" + address})
}

func TestTheDemoAnswersSoonAfterItsStart(t *testing.T) {
	begun := time.Now()
	demo := startDemoProcess(t) // fails after 10 s: a busy machine is no fault of the program
	if took := time.Since(begun); took > quickStart {
		t.Logf("the demo took %v to answer; on a machine that has nothing else to do it must be under %v", took, quickStart)
	}
	for _, want := range []string{demo.base, "alice", "bob", "/admin/panel"} {
		if !strings.Contains(demo.stdout.String(), want) {
			t.Errorf("the demo does not tell about %s:\n%s", want, demo.stdout.String())
		}
	}
}

func TestSignInAndOutOfTheDemo(t *testing.T) {
	t.Parallel()
	base, browser := startDemo(t), openBrowser(t)

	browser.open(base + "/?from=link")
	browser.shows("Who do you want to be?")
	if res := browser.click("Alice Adams"); res.Status != http.StatusOK {
		t.Fatalf("the application answers %d after sign-in, want 200", res.Status)
	}
	if got, want := browser.location(), "/?from=link"; got != want {
		t.Errorf("sign-in ended at %q, want %q", got, want)
	}
	browser.shows("Alice Adams")
	id := browser.header("X-User-Id")
	if _, err := uuid.Parse(id); err != nil {
		t.Errorf("X-User-Id = %q, want a UUID", id)
	}
	bearer := browser.header("Authorization")
	expectToken(t, base, bearer, id)

	browser.do("reload", chromedp.Reload())
	browser.shows("Alice Adams")
	second := browser.another()
	second.open(base + "/second")
	second.shows(id)

	cookies := browser.cookies(base + "/")
	expectIdentity(t, base, cookies, http.StatusOK)
	expectIdentity(t, base, http.Header{"Authorization": {bearer}}, http.StatusOK)
	browser.open(base + "/auth/sign-out")
	browser.shows("alice@example.com")
	browser.click("Sign out")
	browser.shows("You are signed out.")

	expectIdentity(t, base, cookies, http.StatusUnauthorized)
	expectIdentity(t, base, http.Header{"Authorization": {bearer}}, http.StatusUnauthorized)
	second.do("reload", chromedp.Reload())
	second.hides(id)
	for range 2 { // to the sign-out page, to the application
		browser.back()
		browser.hides("Alice")
		browser.hides("alice@example.com")
		browser.hides(id)
	}
}

// header returns the value of a header on the application's page.
func (b *tab) header(name string) string {
	b.t.Helper()
	return evaluate[string](b, `[...document.querySelectorAll("tr")].find(tr => tr.cells[0].innerText === "`+name+`")?.cells[1].innerText ?? ""`)
}

// expectIdentity asks /auth/userinfo and the application with a copy of what a
// browser or a service has.
func expectIdentity(t *testing.T, base string, credentials http.Header, status int) {
	t.Helper()
	for _, path := range []string{"/auth/userinfo", "/page"} {
		res, body := get(t, &http.Client{}, base+path, credentials)
		if res.StatusCode != status {
			t.Errorf("%s answers %d, want %d: %s", path, res.StatusCode, status, body)
		}
	}
}

// expectToken verifies an Authorization header as an application in another
// language would: with the published keys and a library that is not ours.
func expectToken(t *testing.T, base, authorization, subject string) {
	t.Helper()
	expectTokenOf(t, base, base, authorization, subject)
}

// expectTokenOf is expectToken for an authproxy whose keys can be had at keys.
func expectTokenOf(t *testing.T, keys, base, authorization, subject string) {
	t.Helper()
	raw, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok {
		t.Fatalf("Authorization = %q, want Bearer and a token", authorization)
	}
	token, err := jwt.Parse(raw, func(token *jwt.Token) (any, error) { return publishedKey(t, keys, token.Header["kid"]) },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(base+"/auth"), jwt.WithAudience(base), jwt.WithExpirationRequired())
	if err != nil {
		t.Fatalf("golang-jwt refuses the token: %v", err)
	}
	if sub, err := token.Claims.GetSubject(); sub != subject || err != nil {
		t.Errorf("the token's sub = %q, %v, want X-User-Id %q", sub, err, subject)
	}
}

// publishedKey returns the key called kid of /auth/jwks (RFC 7518, section
// 6.2.1).
func publishedKey(t *testing.T, base string, kid any) (*ecdsa.PublicKey, error) {
	t.Helper()
	res, body := get(t, http.DefaultClient, base+"/auth/jwks", nil)
	if err := expectStatus(res, http.StatusOK); err != nil {
		return nil, err
	}
	var set struct {
		Keys []struct{ Kty, Crv, Kid, X, Y string }
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, err
	}
	for _, key := range set.Keys {
		if key.Kid != kid || key.Kty != "EC" || key.Crv != "P-256" {
			continue
		}
		x, errX := base64.RawURLEncoding.DecodeString(key.X)
		y, errY := base64.RawURLEncoding.DecodeString(key.Y)
		if err := errors.Join(errX, errY); err != nil {
			return nil, err
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	}
	return nil, errors.New("the token's key is not published")
}

func TestTheDemosRulesTellAliceFromBob(t *testing.T) {
	slow(t)
	t.Parallel()
	base, browser := startDemo(t), openBrowser(t)

	if res := browser.open(base + "/public/hello"); res.Status != http.StatusOK {
		t.Errorf("/public/hello answers %d to somebody who is not signed in, want 200", res.Status)
	}
	browser.shows("Hello, whoever you are")

	browser.open(base + "/admin/panel")
	browser.click("Bob Brown")
	if got, want := browser.location(), "/admin/panel"; got != want {
		t.Errorf("bob is at %q, want %q", got, want)
	}
	if res := browser.open(base + "/admin/panel"); res.Status != http.StatusForbidden {
		t.Errorf("/admin/panel answers bob %d, want 403", res.Status)
	}
	browser.shows("bob@example.com")
	browser.hides("X-User-Id")

	browser.click("Use another account")
	if res := browser.click("Alice Adams"); res.Status != http.StatusOK {
		t.Errorf("/admin/panel answers alice %d, want 200", res.Status)
	}
	if got, want := browser.location(), "/admin/panel"; got != want {
		t.Errorf("alice is at %q, want %q", got, want)
	}
	browser.shows("Alice Adams")
}

func TestAfterSignOutAnotherPersonCanSignIn(t *testing.T) {
	slow(t)
	t.Parallel()
	base, browser := startDemo(t), openBrowser(t)

	browser.open(base + "/")
	browser.click("Alice Adams")
	alice := browser.header("X-User-Id")
	browser.click("Sign out") // the application's own button
	browser.shows("You are signed out.")
	browser.click("Continue with Demo provider")
	browser.click("Bob Brown")
	browser.shows("Bob Brown")
	if bob := browser.header("X-User-Id"); bob == alice || bob == "" {
		t.Errorf("bob's X-User-Id = %q, want another one than alice's %q", bob, alice)
	}
}

func TestTheDemoWorksByKeyboard(t *testing.T) {
	slow(t)
	t.Parallel()
	base, browser := startDemo(t), openBrowser(t)

	browser.open(base + "/keyboard")
	browser.focus("Alice Adams")
	browser.press(kb.Enter)
	browser.shows("/keyboard")
	browser.open(base + "/auth/sign-out")
	browser.focus("Sign out")
	browser.press(kb.Enter)
	browser.shows("You are signed out.")
	browser.focus("Continue with Demo provider")
	browser.press(kb.Enter)
	browser.shows("Who do you want to be?")
}

func TestTheDemoWorksWithoutJavaScript(t *testing.T) {
	slow(t)
	t.Parallel()
	base, browser := startDemo(t), openBrowser(t)
	browser.disableScripts()

	browser.open("data:text/html,<body>off<script>document.body.innerText='on'</script>")
	browser.shows("off")
	browser.open(base + "/plain")
	browser.click("Alice Adams")
	browser.shows("Alice Adams")
	if got, want := browser.location(), "/plain"; got != want {
		t.Errorf("sign-in ended at %q, want %q", got, want)
	}
	browser.open(base + "/auth/sign-out")
	browser.click("Sign out")
	browser.shows("You are signed out.")
	browser.click("Continue with Demo provider")
	browser.click("Bob Brown")
	browser.shows("Bob Brown")
}

func TestTwoTabsThatSignInTogetherEndOnTheirOwnPages(t *testing.T) {
	slow(t)
	t.Parallel()
	base, first := startDemo(t), openBrowser(t)
	second := first.another()
	paths := map[*tab]string{first: "/first?tab=1", second: "/second?tab=2"}

	// Both sign-ins are under way before either ends.
	together(t, paths, func(tab *tab, path string) error {
		_, err := tab.follow(chromedp.Navigate(base + path))
		return err
	})
	for tab := range paths {
		tab.shows("Who do you want to be?")
	}
	together(t, paths, func(tab *tab, _ string) error {
		_, err := tab.follow(chromedp.Click(button("Alice Adams")))
		return err
	})
	for tab, path := range paths {
		if got := tab.location(); got != path {
			t.Errorf("a tab ended at %q, want %q", got, path)
		}
		tab.shows("Alice Adams")
	}
}

// together takes a step in all tabs at the same time.
func together(t *testing.T, paths map[*tab]string, step func(tab *tab, path string) error) {
	t.Helper()
	var steps errgroup.Group
	for tab, path := range paths {
		steps.Go(func() error { return step(tab, path) })
	}
	if err := steps.Wait(); err != nil {
		t.Fatal(err)
	}
}
