package oauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The Admin SDK has a small quota: many sign-ins of one person at once are one
// question. Whoever gives up does not take the answer away from the others.
func TestOneQuestionForOneUserAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		questions, release := 0, make(chan struct{})
		p, err := New(Config{
			ID: "g", Type: Google, ClientID: "a", RedirectURL: "https://app.example/cb", Groups: &GoogleGroups{API: apiCloudIdentity},
			Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
				body := `{"access_token":"t","expires_in":3600}`
				if r.URL.Host == "cloudidentity.googleapis.com" {
					mu.Lock()
					questions++
					mu.Unlock()
					select {
					case <-release:
					case <-r.Context().Done():
						return nil, r.Context().Err()
					}
					body = `{"memberships":[{"groupKey":{"id":"g@example.com"}}]}`
				}
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}, nil
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		groups := p.kind.(*google).groups
		ctx, giveUp := context.WithCancel(t.Context())
		alice := &Identity{Email: "alice@example.com", EmailVerified: true}
		var all sync.WaitGroup
		all.Go(func() { // asks, and does not wait for the answer
			if got, err := groups.of(ctx, alice); !errors.Is(err, ErrUnavailable) {
				t.Errorf("groups = %v, %v, want %v", got, err, ErrUnavailable)
			}
		})
		synctest.Wait()
		for range 9 {
			all.Go(func() {
				got, err := groups.of(t.Context(), alice)
				if err != nil || !slices.Equal(got, []string{"g@example.com"}) {
					t.Errorf("groups = %v, %v, want g@example.com", got, err)
				}
			})
		}
		synctest.Wait()
		giveUp()
		synctest.Wait()
		close(release)
		all.Wait()
		if questions != 1 {
			t.Errorf("%d questions for 10 sign-ins, want 1", questions)
		}
	})
}
