package oauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"authproxy/devidp"
	"authproxy/oauth"
)

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", code) }
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func garbage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, "<p>this is not JSON")
}

// everyStage is where a sign-in of a client that knows nothing yet can break.
func everyStage() []string { return []string{discoveryDoc, "/token", "/jwks", "/userinfo"} }

func TestAFailingProviderIsUnavailable(t *testing.T) {
	h := newHarness(t)
	redirect := func(code int) http.HandlerFunc { // with all that it got, for the error to repeat
		return func(w http.ResponseWriter, r *http.Request) {
			got := r.Form.Encode() + "&auth=" + url.QueryEscape(r.Header.Get("Authorization"))
			http.Redirect(w, r, h.url+"/elsewhere?"+got, code)
		}
	}
	tests := []struct {
		name  string
		serve http.HandlerFunc
	}{
		{"down", hangUp},
		{"503", status(http.StatusServiceUnavailable)},
		{"429", status(http.StatusTooManyRequests)},
		{"garbage", garbage},
		{"nothing", func(http.ResponseWriter, *http.Request) {}},
		// The answer is right, but for its length.
		{"longer than a MiB", func(w http.ResponseWriter, r *http.Request) {
			h.idp.ServeHTTP(w, r)
			w.Write(bytes.Repeat([]byte(" "), 2<<20))
		}},
		{"302", redirect(http.StatusFound)},
		{"307", redirect(http.StatusTemporaryRedirect)},
		{"308", redirect(http.StatusPermanentRedirect)},
	}
	h.override(t, "/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed: %s with Authorization %q and %d form fields", r.Method, r.Header.Get("Authorization"), len(r.PostForm))
	})
	for _, stage := range everyStage() {
		for _, tt := range tests {
			t.Run(tt.name+" at "+stage, func(t *testing.T) {
				login, answer := h.begin(t)
				h.faults(t, devidp.Faults{EmailInUserinfoOnly: true})
				h.override(t, stage, tt.serve)
				before := len(h.requests("POST /token"))
				// exchange looks for secrets in the error.
				if _, err := h.exchange(t.Context(), t, h.fresh(t, nil), login, answer); !errors.Is(err, oauth.ErrUnavailable) {
					t.Errorf("error = %v, want %v", err, oauth.ErrUnavailable)
				}
				if got := len(h.requests("POST /token")) - before; got > 1 {
					t.Errorf("the code was sent %d times, want at most once", got)
				}
			})
		}
	}
}

func TestACallerCanGiveUpOnASlowProvider(t *testing.T) {
	h := newHarness(t)
	for _, stage := range []string{discoveryDoc, "/token", "/userinfo"} {
		t.Run(stage, func(t *testing.T) {
			login, answer := h.begin(t)
			h.faults(t, devidp.Faults{EmailInUserinfoOnly: true})
			ctx, giveUp := context.WithCancelCause(t.Context())
			h.override(t, stage, func(_ http.ResponseWriter, r *http.Request) {
				giveUp(context.DeadlineExceeded)
				<-r.Context().Done()
			})
			if _, err := h.exchange(ctx, t, h.fresh(t, nil), login, answer); !errors.Is(err, oauth.ErrUnavailable) {
				t.Errorf("error = %v, want %v", err, oauth.ErrUnavailable)
			}
		})
	}
}

// roundTripper lets a function be a provider.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answerWith(code int, body string) (*http.Response, error) {
	header := http.Header{"Content-Type": {"application/json"}}
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: header, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func remoteConfig(transport http.RoundTripper) oauth.Config {
	return oauth.Config{
		ID: "remote", Issuer: "https://idp.example", ClientID: "app", RedirectURL: callbackURL,
		Scopes: []string{"openid"}, Transport: transport,
	}
}

// discovery is a correct document of https://idp.example, after edit.
func discovery(t *testing.T, edit func(map[string]any)) string {
	t.Helper()
	doc := map[string]any{
		"issuer":                 "https://idp.example",
		"authorization_endpoint": "https://idp.example/authorize",
		"token_endpoint":         "https://idp.example/token",
		"userinfo_endpoint":      "https://idp.example/userinfo",
		"jwks_uri":               "https://idp.example/jwks",
	}
	if edit != nil {
		edit(doc)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestASilentProviderIsGivenUpAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := oauth.New(remoteConfig(roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})))
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := p.Discover(t.Context()); !errors.Is(err, oauth.ErrUnavailable) {
			t.Errorf("error = %v, want %v", err, oauth.ErrUnavailable)
		}
		if got := time.Since(begin); got != 10*time.Second {
			t.Errorf("gave up after %v, want 10s", got)
		}
	})
}

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	tests := []struct {
		name string
		edit func(*oauth.Config)
	}{
		{"no id", func(c *oauth.Config) { c.ID = "" }},
		{"no issuer", func(c *oauth.Config) { c.Issuer = "" }},
		{"no client id", func(c *oauth.Config) { c.ClientID = "" }},
		{"no redirect URL", func(c *oauth.Config) { c.RedirectURL = "" }},
		{"no openid scope", func(c *oauth.Config) { c.Scopes = []string{"email"} }},
	}
	for _, tt := range tests {
		config := remoteConfig(nil)
		tt.edit(&config)
		if p, err := oauth.New(config); err == nil || p != nil {
			t.Errorf("%s: New = %v, %v, want an error", tt.name, p, err)
		}
	}
}

func TestDiscoveryWaitsUntilItIsNeeded(t *testing.T) {
	h := newHarness(t)
	h.idp.SetFaults(devidp.Faults{Down: true})
	p := h.fresh(t, nil)
	if got := h.requests(""); len(got) != 0 {
		t.Errorf("New made requests: %v", got)
	}
	try := func() error {
		_, err := p.AuthCodeURL(t.Context(), "state", oauth.NewLogin("state"), oauth.Prompts{})
		return err
	}
	if err := try(); !errors.Is(err, oauth.ErrUnavailable) {
		t.Errorf("down: error = %v, want %v", err, oauth.ErrUnavailable)
	}
	h.idp.SetFaults(devidp.Faults{})
	h.clock.advance(time.Second)
	if err := try(); err != nil {
		t.Errorf("up again: error = %v, want none", err)
	}
	if err := try(); err != nil || len(h.requests("GET "+discoveryDoc)) != 2 {
		t.Errorf("the third time: error = %v after %d requests, want none after 2", err, len(h.requests("GET "+discoveryDoc)))
	}
}

func TestDiscoveryIsTriedAtMostOnceASecond(t *testing.T) {
	h := newHarness(t)
	crowd := func(wantAttempts int) {
		t.Helper()
		before := len(h.requests("GET " + discoveryDoc))
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				_, err := h.provider.AuthCodeURL(t.Context(), "state", oauth.NewLogin("state"), oauth.Prompts{})
				if !errors.Is(err, oauth.ErrUnavailable) {
					t.Errorf("error = %v, want %v", err, oauth.ErrUnavailable)
				}
			})
		}
		all.Wait()
		if got := len(h.requests("GET "+discoveryDoc)) - before; got != wantAttempts {
			t.Errorf("20 users caused %d attempts, want %d", got, wantAttempts)
		}
	}
	h.idp.SetFaults(devidp.Faults{Status: map[string]int{discoveryDoc: http.StatusServiceUnavailable}})
	crowd(1)
	h.clock.advance(999 * time.Millisecond)
	crowd(0)
	h.clock.advance(time.Millisecond)
	crowd(1)
	// An attempt that took long must not be followed by another at once: those
	// who waited for it would wait again, one after the other.
	h.clock.advance(time.Second)
	h.override(t, discoveryDoc, func(w http.ResponseWriter, _ *http.Request) {
		h.clock.advance(10 * time.Second)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	crowd(1)
}

func TestMetadataThatIsRefused(t *testing.T) {
	tests := []struct {
		name string
		edit func(map[string]any)
		ok   bool
	}{
		{"honest", nil, true},
		{"no userinfo", set("userinfo_endpoint", nil), true},
		{"another issuer", set("issuer", "https://evil.example"), false},
		{"issuer with a slash", set("issuer", "https://idp.example/"), false},
		{"no issuer", set("issuer", nil), false},
		{"http authorization endpoint", set("authorization_endpoint", "http://idp.example/authorize"), false},
		{"http token endpoint", set("token_endpoint", "http://idp.example/token"), false},
		{"http userinfo endpoint", set("userinfo_endpoint", "http://idp.example/userinfo"), false},
		{"http keys", set("jwks_uri", "http://idp.example/jwks"), false},
		{"no authorization endpoint", set("authorization_endpoint", nil), false},
		{"no token endpoint", set("token_endpoint", nil), false},
		{"no keys", set("jwks_uri", nil), false},
		{"relative token endpoint", set("token_endpoint", "/token"), false},
		{"script as authorization endpoint", set("authorization_endpoint", "javascript:alert(1)"), false},
		{"methods that are no list", set("token_endpoint_auth_methods_supported", 1), false},
		{"symmetric signatures only", set("id_token_signing_alg_values_supported", []string{"HS256"}), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := discovery(t, tt.edit)
			p, err := oauth.New(remoteConfig(roundTripper(func(*http.Request) (*http.Response, error) {
				return answerWith(http.StatusOK, body)
			})))
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.AuthCodeURL(t.Context(), "state", oauth.NewLogin("state"), oauth.Prompts{})
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, oauth.ErrUnavailable) {
				t.Errorf("error = %v, want %v unless it is honest", err, oauth.ErrUnavailable)
			}
		})
	}
}

func TestTLSIsVerified(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	config := remoteConfig(nil)
	config.Issuer = server.URL
	p, err := oauth.New(config)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Discover(t.Context())
	if !errors.Is(err, oauth.ErrUnavailable) || !strings.Contains(err.Error(), "x509") {
		t.Errorf("error = %v, want %v because of the certificate", err, oauth.ErrUnavailable)
	}
}

func TestTheLastGoodMetadataStays(t *testing.T) {
	h := newHarness(t)
	if err := h.provider.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(map[string]any){
		"another issuer":    set("issuer", "https://evil.example"),
		"no token endpoint": set("token_endpoint", nil),
		"moved, but broken": both(set("authorization_endpoint", "https://evil.example/"), set("jwks_uri", "")),
	} {
		t.Run(name, func(t *testing.T) {
			h.editJSON(t, discoveryDoc, edit)
			if err := h.provider.Discover(t.Context()); !errors.Is(err, oauth.ErrUnavailable) {
				t.Errorf("error = %v, want %v", err, oauth.ErrUnavailable)
			}
			h.mustSignIn(t)
		})
	}
}

// A remote is a provider that is up or down, and remembers when it was asked.
type remote struct {
	document string

	mu    sync.Mutex
	up    bool
	asked []time.Time
}

func (r *remote) RoundTrip(*http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, time.Now())
	if !r.up {
		return answerWith(http.StatusServiceUnavailable, strings.Repeat("<p>maintenance</p>", 1000))
	}
	return answerWith(http.StatusOK, r.document)
}

func (r *remote) set(up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = up
}

func (r *remote) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked)
}

// gaps returns the times between the requests from the nth on.
func (r *remote) gaps(n int) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var gaps []time.Duration
	for i := n + 1; i < len(r.asked); i++ {
		gaps = append(gaps, r.asked[i].Sub(r.asked[i-1]))
	}
	return gaps
}

func TestRunRetriesWithBackoffAndThenReadsHourly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := &remote{document: discovery(t, nil)}
		log := &logBuffer{}
		config := remoteConfig(idp)
		config.Log = slog.New(slog.NewJSONHandler(log, nil))
		p, err := oauth.New(config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			p.Run(ctx)
			close(done)
		}()
		after := func(d time.Duration) {
			time.Sleep(d) // of the bubble: no time passes
			synctest.Wait()
		}

		after(0)
		if got := idp.count(); got != 1 {
			t.Fatalf("%d attempts at once, want 1", got)
		}
		after(30 * time.Minute)
		checkBackoff(t, idp.gaps(0))

		idp.set(true)
		after(2 * time.Minute) // more than the longest wait, 90 s
		back := idp.count() - 1
		after(2*time.Hour + time.Minute)
		for _, gap := range idp.gaps(back) {
			if gap != time.Hour {
				t.Errorf("while it is up it is read after %v, want 1h", gap)
			}
		}
		if got := len(idp.gaps(back)); got != 2 {
			t.Errorf("read %d times in two hours, want 2", got)
		}

		idp.set(false)
		again := idp.count()
		after(time.Hour)
		if gaps := idp.gaps(again); len(gaps) == 0 || gaps[0] > 1500*time.Millisecond {
			t.Errorf("after an hour of success the waits are %v, want them to start small again", gaps)
		}
		if _, err := p.AuthCodeURL(t.Context(), "state", oauth.NewLogin("state"), oauth.Prompts{}); err != nil {
			t.Errorf("AuthCodeURL = %v, want the last good metadata", err)
		}
		checkWarnings(t, log.String())

		stop()
		<-done
	})
}

// checkBackoff wants waits of about a second at first and of 30 to 90 s in the
// end, not all the same.
func checkBackoff(t *testing.T, gaps []time.Duration) {
	t.Helper()
	if len(gaps) < 20 {
		t.Fatalf("%d retries in 30 minutes, want more than 20", len(gaps))
	}
	if gaps[0] < 500*time.Millisecond || gaps[0] > 1500*time.Millisecond {
		t.Errorf("the first wait is %v, want 0.5 to 1.5 s", gaps[0])
	}
	same := true
	late := gaps[15:]
	for _, gap := range late {
		same = same && gap == late[0]
		if gap < 30*time.Second || gap > 91*time.Second {
			t.Errorf("a late wait is %v, want 30 to 90 s", gap)
		}
	}
	if same {
		t.Errorf("all late waits are %v, want jitter", late[0])
	}
}

// checkWarnings wants to be told, but not the provider's page.
func checkWarnings(t *testing.T, log string) {
	t.Helper()
	if !strings.Contains(log, `"level":"WARN"`) || !strings.Contains(log, `"provider":"remote"`) {
		t.Errorf("the log does not tell: %.300s", log)
	}
	if strings.Contains(log, "maintenance") {
		t.Errorf("the log repeats the provider's answer: %.300s", log)
	}
}

func TestRunEndsWithItsContextWhileTheProviderIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logBuffer{}
		config := remoteConfig(roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}))
		config.Log = slog.New(slog.NewJSONHandler(log, nil))
		p, err := oauth.New(config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		begin := time.Now()
		go func() {
			time.Sleep(time.Second) // of the bubble
			stop()
		}()
		p.Run(ctx)
		if got := time.Since(begin); got != time.Second {
			t.Errorf("Run ended after %v, want 1s", got)
		}
		if log.String() != "" {
			t.Errorf("the log says %s, want nothing: that was a shutdown", log.String())
		}
	})
}
