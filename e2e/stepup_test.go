package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

const stepUpConfig = `
listen: %[1]q
admin: {listen: ""}
public_url: http://%[1]s
upstream: %[2]s
providers:
  - {id: corp, name: Example Corp, type: oidc, issuer: %[3]q, client_id: authproxy, client_secret: a-secret-for-tests, scopes: [openid, email, profile, groups]}
sign_in: {allowed_domains: [example.com]}
rules:
  - {name: the vault, path: /vault/**, require: {acr: ["urn:example:gold"]}}
  - {name: the till, path: /till/**, require: {fresh: 1h}}
  - {name: the key, path: /key/**, require: {amr: [otp]}}
  - {require: {signed_in: true}}
identity: {headers: {X-User-Name: user.name, X-Session: session.id}}
cookie: {keys_file: %[4]q}
shutdown: {delay: 0s}
`

// startStepUp starts a provider, authproxy and the application behind it, and
// signs alice in, in the way that words say.
func startStepUp(t *testing.T, words string) (*tab, string) {
	t.Helper()
	browser := openBrowser(t)
	address := freeAddress(t)
	base := "http://" + address
	issuer := startOIDCProvider(t, base)
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf(stepUpConfig, address, startApp(t), issuer, newKeys(t)))
	start(t, launch{args: []string{"--config", file}, base: base})
	browser.open(base + "/")
	browser.signInAtOIDCProvider("alice" + words)
	browser.shows("Alice Adams")
	return browser, base
}

// signInAgain fills in the provider's first form; it knows by now that the
// application may know.
func (b *tab) signInAgain(login string) int64 {
	b.t.Helper()
	b.do("wait for the form", chromedp.WaitVisible(chromedp.CSS("input[name=login]")))
	b.fill("login", login)
	b.fill("password", "any")
	return b.click("Sign-in").Status
}

// stays fails unless the browser is at target, with a page of the application.
func (b *tab) stays(target string) {
	b.t.Helper()
	if got := b.location(); got != target {
		b.t.Errorf("the browser is at %s, want %s:\n%s", got, target, b.text())
	}
	b.shows("Alice Adams")
}

func TestARuleAsksForASignInOfAnotherClass(t *testing.T) {
	t.Parallel()
	browser, base := startStepUp(t, "")
	before := browser.header("X-Session")
	expectChallenge(t, base+"/vault/1", browser.cookies(base+"/"), `acr_values="urn:example:gold"`)

	browser.open(base + "/vault/1?door=2")
	browser.signInAgain("alice+gold")
	browser.stays("/vault/1?door=2")
	after := browser.header("X-Session")
	if after == before || after == "" {
		t.Errorf("the session's id is %q before and %q after, want another one", before, after)
	}
	browser.open(base + "/vault/2") // and now nobody asks
	browser.stays("/vault/2")
}

func TestASignInThatIsNotOfTheClassIsRefusedOnce(t *testing.T) {
	slow(t)
	t.Parallel()
	browser, base := startStepUp(t, "")
	before := browser.header("X-Session")
	browser.open(base + "/vault/1")
	if got := browser.signInAgain("alice"); got != http.StatusForbidden {
		t.Errorf("the callback answers %d, want 403", got)
	}
	browser.shows("This page needs another sign-in")
	browser.shows("urn:example:gold")
	if got := browser.location(); !strings.HasPrefix(got, "/auth/callback/corp?") {
		t.Errorf("the browser went on to %s, want it to stay", got)
	}
	browser.click("Try again")
	browser.signInAgain("alice+gold")
	browser.stays("/vault/1")

	browser.open(base + "/")
	if got := browser.header("X-Session"); got == before {
		t.Error("the session of before goes on")
	}
}

func TestTheSessionSurvivesARefusedSignIn(t *testing.T) {
	slow(t)
	t.Parallel()
	browser, base := startStepUp(t, "")
	before := browser.header("X-Session")
	browser.open(base + "/vault/1")
	browser.signInAgain("alice")
	browser.open(base + "/")
	if got := browser.header("X-Session"); got != before {
		t.Errorf("the session is %q, want %q as before", got, before)
	}
}

func TestARuleAsksForAFreshSignIn(t *testing.T) {
	slow(t)
	t.Parallel()
	browser, base := startStepUp(t, "+old")
	expectChallenge(t, base+"/till", browser.cookies(base+"/"), `max_age="3600"`)
	browser.open(base + "/till?sum=3")
	browser.signInAgain("alice")
	browser.stays("/till?sum=3")
}

func TestASignInThatIsNotFreshIsRefused(t *testing.T) {
	slow(t)
	t.Parallel()
	browser, base := startStepUp(t, "")
	browser.open(base + "/auth/sign-in?prompt=login&rd=/")
	browser.signInAgain("alice+old")
	browser.open(base + "/till")
	if got := browser.signInAgain("alice+old"); got != http.StatusForbidden {
		t.Errorf("the callback answers %d, want 403", got)
	}
	browser.shows("less than 1h ago")
}

func TestAProviderThatRemembersAFreshSignInDoesNotAsk(t *testing.T) {
	slow(t)
	t.Parallel()
	browser, base := startStepUp(t, "")
	browser.open(base + "/till") // the first sign-in came without auth_time
	browser.stays("/till")
}

func TestARuleAsksForASignInByOtherMeans(t *testing.T) {
	slow(t)
	t.Parallel()
	browser, base := startStepUp(t, "")
	browser.open(base + "/key")
	if got := browser.signInAgain("alice"); got != http.StatusForbidden {
		t.Errorf("the callback answers %d, want 403", got)
	}
	browser.click("Try again")
	browser.signInAgain("alice+otp")
	browser.stays("/key")
}

func TestTheFirstSignInShowsWhatThePageWants(t *testing.T) {
	slow(t)
	t.Parallel()
	browser, base := startStepUp(t, "")
	browser.open(base + "/auth/sign-out")
	browser.click("Sign out")
	browser.click("Yes, sign me out")
	browser.open(base + "/vault/3")
	browser.click("Continue with Example Corp")
	browser.signInAtOIDCProvider("alice+gold")
	browser.stays("/vault/3")
}

// expectChallenge fails unless a script is told which sign-in it takes (RFC 9470).
func expectChallenge(t *testing.T, url string, header http.Header, param string) {
	t.Helper()
	header = header.Clone()
	header.Set("Accept", "application/json")
	res, body := get(t, newClient(t, nil), url, header)
	var answer struct {
		Error  string
		SignIn string `json:"sign_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	challenge := res.Header.Get("WWW-Authenticate")
	if res.StatusCode != http.StatusUnauthorized || answer.Error != "insufficient_user_authentication" || answer.SignIn == "" ||
		!strings.HasPrefix(challenge, `Bearer error="insufficient_user_authentication"`) || !strings.Contains(challenge, param) {
		t.Errorf("%s answers a script %d, %s, %s; want 401 insufficient_user_authentication with %s", url, res.StatusCode, challenge, body, param)
	}
}
