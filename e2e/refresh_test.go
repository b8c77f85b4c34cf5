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
)

// A page with many images, opened when the access token is over, at a provider
// that takes a refresh token once and ends the grant at its second use. The
// answers are lost, twice.
func TestManyRequestsAtOnceAfterTheTokensEnd(t *testing.T) {
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

// expectRefused returns nil if the provider does not take the access token.
func expectRefused(issuer, authorization string) error {
	req, err := http.NewRequest(http.MethodGet, issuer+"/me", nil)
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
