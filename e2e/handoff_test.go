package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"
)

const twoHostsConfig = `
listen: %q
admin: {listen: ""}
public_url: %q
hosts: [portal.two.test]
upstream: %q
providers:
  - {id: demo, type: oidc, issuer: %q, client_id: authproxy, client_secret: client-secret, sign_out: local}
sign_in: {allowed_domains: [example.com]}
cookie: {keys_file: %q}
tls: {cert_file: %q, key_file: %q}
shutdown: {delay: 0s}
`

// twoHosts starts one authproxy for https://app.one.test and
// https://portal.two.test, which share no domain, and returns both with their
// port. Browsers of openBrowser find them on loopback.
func twoHosts(t *testing.T) (app, portal string) {
	t.Helper()
	s := newSetup(t)
	_, port, err := net.SplitHostPort(s.listen)
	if err != nil {
		t.Fatal(err)
	}
	app, portal = "https://app.one.test:"+port, "https://portal.two.test:"+port
	s.base = app
	s.issuer = startProvider(t, app)
	certFile, keyFile, roots := selfSigned(t, "app.one.test")
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf(twoHostsConfig, s.listen, app, s.upstream, s.issuer, s.keys, certFile, keyFile))
	l := s.launch(file)
	l.client = newClient(t, &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.listen)
		},
	})
	start(t, l)
	return app, portal
}

// trusts makes a browser take the certificates that tests make.
func (b *tab) trusts() {
	b.t.Helper()
	call(b, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
}

// isAt fails unless the browser is at url, or gets there by itself.
func (b *tab) isAt(url string) {
	b.t.Helper()
	eventually(b.t, stepLimit, func() error {
		got, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.readyState + " " + location.href`))
		if err == nil && got != "complete "+url {
			err = fmt.Errorf("the browser is at %s, want %s", got, url)
		}
		return err
	})
}

func TestTwoHostsOnUnrelatedDomainsShareOneSignIn(t *testing.T) {
	t.Parallel()
	app, portal := twoHosts(t)
	browser := openBrowser(t)
	browser.trusts()

	browser.open(app + "/?from=link")
	browser.click("Alice Adams")
	browser.isAt(app + "/?from=link")
	id := browser.header("X-User-Id")
	if res := browser.open(portal + "/reports?year=2026&q=a%2Fb"); res.Status != http.StatusOK {
		t.Errorf("the application on the other host answers %d, want 200", res.Status)
	}
	browser.isAt(portal + "/reports?year=2026&q=a%2Fb") // and nobody asked who they are
	if got := browser.header("X-User-Id"); got != id || id == "" {
		t.Errorf("on the other host X-User-Id = %q, want %q", got, id)
	}

	browser.open(portal + "/auth/sign-out")
	browser.click("Sign out")
	browser.shows("You are signed out.")
	for _, url := range []string{app + "/", portal + "/"} {
		browser.open(url)
		browser.hides(id)
		browser.shows("You are signed out.")
	}
}

func TestSignInBeginsOnAHostOfAnUnrelatedDomain(t *testing.T) {
	slow(t)
	t.Parallel()
	app, portal := twoHosts(t)
	browser := openBrowser(t)
	browser.trusts()

	browser.open(portal + "/reports?year=2026&q=a%2Fb")
	browser.click("Alice Adams")
	browser.isAt(portal + "/reports?year=2026&q=a%2Fb")
	id := browser.header("X-User-Id")
	browser.open(app + "/home?x=1")
	browser.isAt(app + "/home?x=1")
	if got := browser.header("X-User-Id"); got != id || id == "" {
		t.Errorf("on public_url's host X-User-Id = %q, want %q", got, id)
	}
}
