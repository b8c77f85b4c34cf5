package oauth_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authproxy/oauth"
)

// A lookAlike answers like a provider without ID tokens, or like an API. What
// it has no answer for fails the test.
type lookAlike struct {
	url   string
	clock *clock
	log   *logBuffer

	mu      sync.Mutex
	answers map[string]http.HandlerFunc // by path
	seen    []request
}

const accessToken = "gho_an-access-token"

func newLookAlike(t *testing.T) *lookAlike {
	t.Helper()
	l := &lookAlike{clock: &clock{now: time.Unix(1_800_000_000, 0)}, log: &logBuffer{}, answers: map[string]http.HandlerFunc{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		l.mu.Lock()
		l.seen = append(l.seen, request{r.Method + " " + r.URL.RequestURI(), r.Header.Get("Authorization"), r.PostForm})
		serve, ok := l.answers[r.URL.Path]
		l.mu.Unlock()
		if !ok {
			t.Errorf("unexpected request: %s %s", r.Method, r.URL)
			w.WriteHeader(http.StatusNotFound)
			return
		}
		serve(w, r)
	}))
	t.Cleanup(server.Close)
	l.url = server.URL
	t.Cleanup(func() {
		if text := l.log.String(); strings.Contains(text, accessToken) || strings.Contains(text, clientSecret) {
			t.Errorf("the log holds a secret: %.300s", text)
		}
	})
	return l
}

// on answers path by serve from now on, until another answer is set.
func (l *lookAlike) on(path string, serve http.HandlerFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[path] = serve
}

// count returns the number of requests so far whose line begins with prefix.
func (l *lookAlike) count(prefix string) int { return len(l.asked(prefix)) }

func (l *lookAlike) asked(prefix string) []request {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []request
	for _, r := range l.seen {
		if strings.HasPrefix(r.line, prefix) {
			found = append(found, r)
		}
	}
	return found
}

func (l *lookAlike) provider(t *testing.T, c oauth.Config) *oauth.Provider {
	t.Helper()
	c.ID, c.Name, c.ClientID, c.ClientSecret, c.RedirectURL = "alike", "Look-Alike", "app", clientSecret, callbackURL
	c.Now, c.Log = l.clock.Now, slog.New(slog.NewJSONHandler(l.log, nil))
	p, err := oauth.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// signIn is a whole sign-in but for the person.
func (l *lookAlike) signIn(t *testing.T, p *oauth.Provider) (*oauth.Identity, error) {
	t.Helper()
	login := oauth.NewLogin("state")
	id, err := p.Exchange(t.Context(), login, oauth.Callback{State: "state", Code: "a-code"})
	if err != nil {
		if id != nil {
			t.Errorf("Exchange failed with %v and returned an identity, want none", err)
		}
		if text := err.Error(); strings.Contains(text, accessToken) || strings.Contains(text, clientSecret) || strings.Contains(text, login.Verifier) {
			t.Errorf("the error holds a secret: %s", text)
		}
	}
	return id, err
}

// answer returns a handler that answers with value.
func answer(value any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, value) }
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value)
}

// refuse answers with a status and headers in pairs.
func refuse(status int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, `{"message":"no"}`)
	}
}

// pages answers with two entries of list at a time and the Link header that
// GitHub sends, after more has set further headers.
func pages[T any](l *lookAlike, list []T, headers ...string) http.HandlerFunc {
	const size = 2
	return func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		begin := min(max(page-1, 0)*size, len(list))
		end := min(begin+size, len(list))
		if end < len(list) {
			q := url.Values{"page": {strconv.Itoa(max(page, 1) + 1)}, "per_page": r.URL.Query()["per_page"]}
			next := l.url + r.URL.Path + "?" + q.Encode()
			w.Header().Set("Link", `<`+l.url+r.URL.Path+`?page=1>; rel="first", <`+next+`>; rel="next", <`+next+`>; rel="last"`)
		}
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		writeJSON(w, append([]T{}, list[begin:end]...))
	}
}
