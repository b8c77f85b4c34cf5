package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// startOIDCProvider starts npm's oidc-provider for an authproxy at base and
// returns its issuer. It is a certified provider that shares no code with us.
// With life, that is how many seconds its access tokens last.
func startOIDCProvider(t *testing.T, base string, life ...string) string {
	t.Helper()
	issuer, _ := listenToOIDCProvider(t, base, life...)
	return issuer
}

// listenToOIDCProvider is startOIDCProvider, and returns also what the provider
// prints.
func listenToOIDCProvider(t *testing.T, base string, life ...string) (issuer string, output *syncBuffer) {
	t.Helper()
	node := need(t, "node")
	needModules(t)
	issuer, output = "http://"+freeAddress(t), &syncBuffer{}
	cmd := exec.Command(node, append([]string{"provider.mjs", issuer, base + "/auth/callback/corp"}, life...)...)
	cmd.Dir = "node"
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait() // Node ends by the signal
		if err != nil || t.Failed() {
			t.Logf("oidc-provider: %v\n%s", err, output.String())
		}
	})
	eventually(t, 30*time.Second, func() error {
		res, err := http.Get(issuer + "/.well-known/openid-configuration")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, output.String())
		}
		return errors.Join(res.Body.Close(), expectStatus(res, http.StatusOK))
	})
	return issuer, output
}

// modules are the packages of package-lock.json.
type modules struct {
	once sync.Once
	err  error
}

// install runs npm ci if nobody has.
func (m *modules) install(npm string) error {
	m.once.Do(func() {
		cmd := exec.Command(npm, "ci", "--no-audit", "--no-fund")
		cmd.Dir = "node"
		if out, err := cmd.CombinedOutput(); err != nil {
			m.err = fmt.Errorf("npm ci: %w\n%s", err, out)
		}
	})
	return m.err
}

// installed says whether the packages of package.json are there.
func installed() bool {
	for _, name := range []string{"esbuild", "oidc-provider", "react", "react-dom", "typescript"} {
		if _, err := os.Stat(filepath.Join("node", "node_modules", name, "package.json")); err != nil {
			return false
		}
	}
	return true
}

func needModules(t *testing.T) {
	t.Helper()
	if installed() {
		return
	}
	if err := shared.modules.install(need(t, "npm")); err != nil {
		t.Log(err)
		missing(t, "the packages of e2e/node are not installed, and npm ci cannot install them")
	}
}

const oidcProviderConfig = `
listen: %[1]q
admin: {listen: ""}
public_url: http://%[1]s
upstream: %[2]s
providers:
  - {id: corp, name: Example Corp, type: oidc, issuer: %[3]q, client_id: authproxy, client_secret: a-secret-for-tests, scopes: [openid, email, profile, groups]}
sign_in: {allowed_domains: [example.com]}
rules:
  - {path: /admin/**, require: {roles: [admin]}}
  - {require: {signed_in: true}}
identity: {roles: {admin: {groups: [admins]}}}
cookie: {keys_file: %[4]q}
shutdown: {delay: 0s}
`

func TestSignInAtACertifiedProvider(t *testing.T) {
	t.Parallel()
	browser := openBrowser(t)
	address := freeAddress(t)
	base := "http://" + address
	issuer := startOIDCProvider(t, base)
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf(oidcProviderConfig, address, startApp(t), issuer, newKeys(t)))
	start(t, launch{args: []string{"--config", file}, base: base})

	browser.open(base + "/reports?year=2026")
	browser.signInAtOIDCProvider("alice")
	if got, want := browser.location(), "/reports?year=2026"; got != want {
		t.Errorf("sign-in ended at %q, want %q", got, want)
	}
	for name, want := range map[string]string{
		"X-User-Email": "alice@example.com", "X-User-Name": "Alice Adams", "X-User-Groups": "admins,staff", "X-User-Roles": "admin",
	} {
		if got := browser.header(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	alice, bearer := browser.header("X-User-Id"), browser.header("Authorization")
	expectToken(t, base, bearer, alice)
	if res := browser.open(base + "/admin/panel"); res.Status != http.StatusOK {
		t.Errorf("/admin/panel answers alice %d, want 200", res.Status)
	}

	cookies := browser.cookies(base + "/")
	browser.open(base + "/auth/sign-out")
	browser.click("Sign out")
	browser.click("No, stay signed in") // at the provider, whose session is its own
	browser.shows("You are signed out.")
	expectIdentity(t, base, cookies, http.StatusUnauthorized)
	expectIdentity(t, base, http.Header{"Authorization": {bearer}}, http.StatusUnauthorized)

	// The provider still knows alice: it must ask who signs in now.
	if res := browser.click("Continue with Example Corp"); res.Status != http.StatusOK {
		t.Fatalf("nobody can sign in after a sign-out: %d\n%s", res.Status, browser.text())
	}
	browser.signInAtOIDCProvider("bob")
	if bob := browser.header("X-User-Id"); bob == alice || bob == "" {
		t.Errorf("bob's X-User-Id = %q, want another one than alice's %q", bob, alice)
	}
	if res := browser.open(base + "/admin/panel"); res.Status != http.StatusForbidden {
		t.Errorf("/admin/panel answers bob %d, want 403", res.Status)
	}
	browser.shows("bob@example.com")
}

func TestSignOutAtACertifiedProvider(t *testing.T) {
	slow(t)
	t.Parallel()
	browser := openBrowser(t)
	address := freeAddress(t)
	base := "http://" + address
	issuer := startOIDCProvider(t, base)
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf(oidcProviderConfig, address, startApp(t), issuer, newKeys(t)))
	start(t, launch{args: []string{"--config", file}, base: base})

	browser.open(base + "/")
	browser.signInAtOIDCProvider("alice")
	signedIn := browser.cookies(issuer + "/")
	browser.open(base + "/auth/sign-out?rd=/auth/sign-in")
	browser.click("Sign out")
	browser.click("Yes, sign me out")
	browser.shows("You are signed out.")
	if got := browser.cookies(issuer + "/"); got.Get("Cookie") == signedIn.Get("Cookie") {
		t.Error("the provider's session goes on")
	}
	browser.click("Continue with Example Corp")
	browser.signInAtOIDCProvider("bob")
	browser.shows("Bob Brown")
}

// Sign-out is three things: the session here ends, its tokens are taken back
// (RFC 7009), and the browser goes to the provider to sign out there as well
// (OpenID Connect RP-Initiated Logout 1.0). The second does not wait for the
// third, which a person may leave out.
func TestSignOutRevokesTheTokensAtACertifiedProvider(t *testing.T) {
	slow(t)
	t.Parallel()
	browser := openBrowser(t)
	address := freeAddress(t)
	base := "http://" + address
	issuer, output := listenToOIDCProvider(t, base)
	config := strings.Replace(oidcProviderConfig, "identity: {", "identity: {authorization: access_token, ", 1)
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf(config, address, startApp(t), issuer, newKeys(t)))
	start(t, launch{args: []string{"--config", file}, base: base})

	browser.open(base + "/")
	browser.signInAtOIDCProvider("alice")
	token := browser.header("Authorization")
	if !isActive(t, issuer, token) || expectRefused(issuer, token) == nil {
		t.Fatal("the provider does not know the token that the application got: the test proves nothing")
	}
	browser.open(base + "/auth/sign-out?rd=/reports")
	browser.click("Sign out")
	browser.shows("Yes, sign me out") // and nobody has said so yet
	eventually(t, 30*time.Second, func() error { return expectRefused(issuer, token) })
	if isActive(t, issuer, token) {
		t.Error("by introspection the access token is still active")
	}
	if got := output.String(); !strings.Contains(got, "grant revoked by revocation") {
		t.Errorf("the grant did not end by the revocation endpoint: %s", got)
	}
	atProvider := browser.cookies(issuer + "/")
	browser.click("Yes, sign me out")
	browser.shows("You are signed out.")
	// By post_logout_redirect_uri to us, from there to the page, which wants a
	// sign-in by now.
	if got, want := browser.location(), "/auth/sign-in?rd=%2Freports"; got != want {
		t.Errorf("sign-out ended at %q, want %q", got, want)
	}
	if browser.cookies(issuer+"/").Get("Cookie") == atProvider.Get("Cookie") {
		t.Error("the provider's session goes on")
	}
	browser.click("Continue with Example Corp")
	browser.signInAtOIDCProvider("bob") // it asks, and knows nobody
	browser.shows("Bob Brown")
}

// isActive says whether the provider's introspection (RFC 7662) calls the access
// token in an Authorization header active.
func isActive(t *testing.T, issuer, authorization string) bool {
	t.Helper()
	form := url.Values{"token": {strings.TrimPrefix(authorization, "Bearer ")}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/token/introspection", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("authproxy", "a-secret-for-tests")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct{ Active *bool }
	if err := errors.Join(expectStatus(res, http.StatusOK), json.NewDecoder(res.Body).Decode(&answer)); err != nil || answer.Active == nil {
		t.Fatalf("introspection: %v, active %v", err, answer.Active)
	}
	return *answer.Active
}

func TestCancellingAtACertifiedProviderIsExplained(t *testing.T) {
	slow(t)
	t.Parallel()
	browser := openBrowser(t)
	address := freeAddress(t)
	base := "http://" + address
	issuer := startOIDCProvider(t, base)
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf(oidcProviderConfig, address, startApp(t), issuer, newKeys(t)))
	start(t, launch{args: []string{"--config", file}, base: base})

	browser.open(base + "/")
	if res := browser.click("[ Cancel ]"); res.Status != http.StatusForbidden {
		t.Errorf("the callback answers %d, want 403", res.Status)
	}
	browser.shows("Sign-in was cancelled")
	browser.click("Try again")
	browser.signInAtOIDCProvider("alice")
	browser.shows("Alice Adams")
}

// signInAtOIDCProvider fills in oidc-provider's two forms: who, and may the
// application know it.
func (b *tab) signInAtOIDCProvider(login string) {
	b.t.Helper()
	b.fill("login", login)
	b.fill("password", "any")
	b.click("Sign-in")
	// Between the forms is a page that sends itself where somebody else was
	// signed in before.
	b.do("wait for the second form", chromedp.WaitVisible(chromedp.Search(`//h1[.="Authorize"]`)))
	b.click("Continue")
}
