package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"authproxy/devidp"
)

// A page with many images, opened when the access token is over, at a provider
// that takes a refresh token once and ends the grant at its second use. The
// answers are lost, twice.
func TestManyRequestsAtOnceAfterTheTokensEnd(t *testing.T) {
	slow(t)
	t.Parallel()
	browser := openBrowser(t)
	address := freeAddress(t)
	base := "http://" + address
	// A fifth of the life must be more than the second that the provider rounds off.
	issuer := startOIDCProvider(t, base, "6")
	config := strings.Replace(oidcProviderConfig, "identity: {", "identity: {authorization: access_token, ", 1)
	file := writeFile(t, "authproxy.yaml", fmt.Sprintf(config, address, startApp(t), issuer, newKeys(t)))
	start(t, launch{args: []string{"--config", file}, base: base})
	browser.open(base + "/")
	browser.signInAtOIDCProvider("alice")
	token := browser.header("Authorization")
	cookies := browser.cookies(base + "/")

	for round := range 3 {
		eventually(t, 30*time.Second, func() error { return expectRefused(issuer, token) })
		got := atOnce(t, base, cookies, 24)
		for i, r := range got {
			expectUser(t, r, "alice@example.com")
			if r.Headers.Get("Authorization") != got[0].Headers.Get("Authorization") {
				t.Fatalf("round %d: request %d got another token than the first", round+1, i+1)
			}
		}
		fresh := got[0].Headers.Get("Authorization")
		if fresh == token || expectRefused(issuer, fresh) == nil {
			t.Fatalf("round %d: the application did not get a token that the provider accepts", round+1)
		}
		token = fresh
	}
	browser.open(base + "/")
	browser.shows("Alice Adams")
}

// Each replica could refresh a session on its own, and the second would use up what
// the first got: the provider takes a refresh token once, and ends the grant at its
// second use.
func TestTwoReplicasRefreshASessionOnce(t *testing.T) {
	slow(t)
	t.Parallel()
	for _, kind := range sharedStores() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			// A fifth of the life must be more than the second that the provider rounds off.
			idp := serveProvider(t, "127.0.0.1:0", s.base, devidp.Config{AccessTokenTTL: 6 * time.Second})
			s.issuer = idp.Issuer
			f := startFleet(t, kind, s, "--identity.authorization", "access_token", "--providers.demo.scopes", "openid,email,profile,offline_access")
			v := f.signIn(t, f.replicas[0])
			token := f.bearer(t, f.replicas[0], v)
			for round := range 2 {
				eventually(t, 30*time.Second, func() error { return expectRefusedAt(idp.Issuer+"/userinfo", token) })
				before := idp.refreshes()
				got, errs := make([]received, 100), make([]error, 100)
				var wg sync.WaitGroup
				for i := range got {
					wg.Go(func() { got[i], errs[i] = f.see(f.replicas[i%2], v) })
				}
				wg.Wait()
				if err := errors.Join(errs...); err != nil {
					t.Fatalf("round %d: %v", round+1, err)
				}
				if n := idp.refreshes() - before; n != 1 {
					t.Errorf("round %d: the provider saw %d refreshes, want 1", round+1, n)
				}
				for i, r := range got {
					expectUser(t, r, "alice@example.com")
					if fresh := r.Headers.Get("Authorization"); fresh == token || fresh == "" || fresh != got[0].Headers.Get("Authorization") {
						t.Fatalf("round %d: request %d got an old token, or another than the first", round+1, i+1)
					}
				}
				token = got[0].Headers.Get("Authorization")
			}
		})
	}
}

// refreshes counts what the provider was asked for at its token endpoint.
func (p provider) refreshes() int {
	n := 0
	for _, asked := range p.Requests() {
		if asked == "POST /token" {
			n++
		}
	}
	return n
}

// see asks r for a page in v's name and returns what the application saw.
func (f *fleet) see(r *replica, v *holder) (received, error) {
	client := &http.Client{Transport: r.client.Transport, Timeout: 30 * time.Second} // keeps no cookies
	return see(client, f.base+"/page", http.Header{"Cookie": {v.cookie}})
}

// bearer returns what the application gets as Authorization.
func (f *fleet) bearer(t *testing.T, r *replica, v *holder) string {
	t.Helper()
	got, err := f.see(r, v)
	if err != nil {
		t.Fatal(err)
	}
	return got.Headers.Get("Authorization")
}

// expectRefused returns nil if the provider does not take the access token.
func expectRefused(issuer, authorization string) error {
	return expectRefusedAt(issuer+"/me", authorization)
}

// expectRefusedAt is [expectRefused] for a provider whose userinfo endpoint is url.
func expectRefusedAt(url, authorization string) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", authorization)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return errors.Join(res.Body.Close(), expectStatus(res, http.StatusUnauthorized))
}

// atOnce sends n requests at once and returns what the application saw.
func atOnce(t *testing.T, base string, cookies http.Header, n int) []received {
	t.Helper()
	client := newClient(t, nil)
	client.Jar = nil // what the answers set is lost
	got, errs := make([]received, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { got[i], errs[i] = see(client, fmt.Sprintf("%s/image/%d", base, i), cookies) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return got
}

// see asks for url and returns what the application saw.
func see(client *http.Client, url string, header http.Header) (received, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return received{}, err
	}
	req.Header = header.Clone()
	req.Header.Set("Accept", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return received{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, expectStatus(res, http.StatusOK)); err != nil {
		return received{}, err
	}
	var r received
	return r, json.Unmarshal(body, &r)
}
