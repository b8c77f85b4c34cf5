package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"

	"authproxy/devidp"
	"authproxy/devidp/legacyapp"
)

// A received is a request as legacyapp saw it.
type received struct {
	Method  string      `json:"method"`
	Path    string      `json:"path"`
	Headers http.Header `json:"headers"`
}

// startApp starts the application that knows nothing about sign-in and returns
// its URL.
func startApp(t *testing.T) string {
	t.Helper()
	app := httptest.NewServer(legacyapp.Handler("/auth"))
	t.Cleanup(app.Close)
	return app.URL
}

// startProvider starts devidp, as the provider of an authproxy at base whose
// provider is called demo or oidc, and returns its issuer.
func startProvider(t *testing.T, base string, users ...devidp.User) string {
	t.Helper()
	return startProviderAt(t, "127.0.0.1:0", base, users...)
}

func startProviderAt(t *testing.T, address, base string, users ...devidp.User) string {
	t.Helper()
	return serveProvider(t, address, base, devidp.Config{Users: users}).Issuer
}

// A provider is a running devidp.
type provider struct {
	*devidp.Server
	Issuer string
}

// serveProvider serves c at address, with an authproxy at base as its client.
func serveProvider(t *testing.T, address, base string, c devidp.Config) provider {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.Issuer = "http://" + l.Addr().String()
	c.Clients = []devidp.Client{{ID: "authproxy", Secret: "client-secret", RedirectURIs: []string{base + "/auth/callback/demo", base + "/auth/callback/oidc"}}}
	idp, err := devidp.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: idp}}
	server.Start()
	t.Cleanup(server.Close)
	return provider{idp, c.Issuer}
}

// newClient returns a client that keeps cookies, with a connection pool of its
// own. transport is nil for plain HTTP.
func newClient(t *testing.T, transport *http.Transport) *http.Client {
	t.Helper()
	if transport == nil {
		transport = &http.Transport{}
	}
	t.Cleanup(transport.CloseIdleConnections)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: transport, Jar: jar, Timeout: 20 * time.Second}
}

// get asks for url as a script does, follows redirects, and returns the answer
// with its body.
func get(t *testing.T, client *http.Client, url string, header http.Header) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	for name, values := range header {
		req.Header[name] = values
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

// getOnce is get without following redirects.
func getOnce(t *testing.T, client *http.Client, url string) *http.Response {
	t.Helper()
	once := *client
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, _ := get(t, &once, url, nil)
	return res
}

// signIn signs login in by script and returns what the application saw of the
// request that the sign-in ended with.
func signIn(t *testing.T, client *http.Client, base, login string) received {
	t.Helper()
	return signInAt(t, client, base, "demo", login)
}

func signInAt(t *testing.T, client *http.Client, base, provider, login string) received {
	t.Helper()
	return appAt(t, client, base+"/auth/sign-in/"+provider+"?login_hint="+login+"&rd=/after")
}

// appAt gets url, which must end at the application, and returns what that saw.
func appAt(t *testing.T, client *http.Client, url string) received {
	t.Helper()
	res, body := get(t, client, url, nil)
	if err := expectStatus(res, http.StatusOK); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var got received
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%s is not what the application answers: %v", body, err)
	}
	return got
}

// expectUser fails unless the application was told about the person by id and
// e-mail address.
func expectUser(t *testing.T, got received, email string) {
	t.Helper()
	if _, err := uuid.Parse(got.Headers.Get("X-User-Id")); err != nil {
		t.Errorf("X-User-Id = %q, want a UUID", got.Headers.Get("X-User-Id"))
	}
	if e := got.Headers.Get("X-User-Email"); e != email {
		t.Errorf("X-User-Email = %q, want %q", e, email)
	}
}
