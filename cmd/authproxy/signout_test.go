package main

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"authproxy/devidp"
)

// Whoever signs out while a refresh is under way leaves no token behind at the
// provider, neither the one that was used up nor the one that came for it.
func TestTokensThatComeAfterTheSignOutAreRevoked(t *testing.T) {
	s := newSite(t)
	s.settings = strings.Replace(s.settings, "client_secret: y", "client_secret: y, scopes: [openid, email, offline_access]", 1)
	s.configure(t, "sign_in: {allowed_domains: [example.com]}\n")
	s.open(t, s.address+"/auth/sign-in/dev?rd=/page&login_hint=alice")

	arrived, hold := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.idp.SetFaults(devidp.Faults{
		// Otherwise the first revocation ends the grant, and no token comes.
		Status: map[string]int{"/revoke": http.StatusServiceUnavailable},
		Delay: func(r *http.Request) {
			if r.URL.Path == "/token" {
				once.Do(func() { close(arrived) })
				<-hold
			}
		},
	})
	var visits sync.WaitGroup
	visits.Go(func() { // until one of them waits for the refresh
		for {
			res, err := s.browser.Get(s.address + "/page")
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			select {
			case <-arrived:
				return
			default:
			}
		}
	})
	<-arrived
	res, body := s.send(t, http.MethodPost, s.address+"/auth/sign-out", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") })
	if res.StatusCode != http.StatusOK {
		t.Errorf("the sign-out ends with %d %s", res.StatusCode, body)
	}
	s.revocations(t, 1)
	close(hold)
	visits.Wait()
	s.revocations(t, 2)
}

// revocations waits until the provider was told of n tokens.
func (s *site) revocations(t *testing.T, n int) {
	t.Helper()
	told := 0
	for range 3000 { // nobody waits for the provider; neither does the test, once it was told
		lines := s.idp.Requests()
		if told = len(lines) - len(slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return line == "POST /revoke" })); told == n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the provider was told of %d tokens, want %d", told, n)
}
