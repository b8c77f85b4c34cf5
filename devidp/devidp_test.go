package devidp_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authproxy/devidp"
)

func TestNewRefuses(t *testing.T) {
	good := func() devidp.Config {
		return devidp.Config{
			Issuer:  "http://127.0.0.1:8000",
			Clients: []devidp.Client{{ID: "app", RedirectURIs: []string{callback}}},
			Users:   devidp.DemoUsers(),
		}
	}
	tests := []struct {
		name string
		edit func(*devidp.Config)
		want string // in the error; empty = no error
	}{
		{"nothing wrong", func(c *devidp.Config) {}, ""},
		{"localhost", func(c *devidp.Config) { c.Issuer = "http://localhost:8000" }, ""},
		{"IPv6 loopback", func(c *devidp.Config) { c.Issuer = "http://[::1]:8000" }, ""},
		{"no users means the demo's", func(c *devidp.Config) { c.Users = nil }, ""},

		{"another machine", func(c *devidp.Config) { c.Issuer = "http://192.0.2.1:8000" }, "loopback"},
		{"every address", func(c *devidp.Config) { c.Issuer = "http://0.0.0.0:8000" }, "loopback"},
		{"a name that resolves somewhere", func(c *devidp.Config) { c.Issuer = "https://id.example.com" }, "loopback"},
		{"a name that begins like loopback", func(c *devidp.Config) { c.Issuer = "http://127.0.0.1.example.com" }, "loopback"},
		{"no issuer", func(c *devidp.Config) { c.Issuer = "" }, "issuer"},
		{"issuer with a path", func(c *devidp.Config) { c.Issuer = "http://127.0.0.1:8000/" }, "nothing more"},
		{"issuer with a user", func(c *devidp.Config) { c.Issuer = "http://u@127.0.0.1:8000" }, "nothing more"},

		{"client without an id", func(c *devidp.Config) { c.Clients[0].ID = "" }, "id is empty"},
		{"client there twice", func(c *devidp.Config) { c.Clients = append(c.Clients, c.Clients[0]) }, "twice"},
		{"relative redirect URI", func(c *devidp.Config) { c.Clients[0].RedirectURIs = []string{"/callback"} }, "redirect URI"},
		{"redirect URI without a host", func(c *devidp.Config) { c.Clients[0].RedirectURIs = []string{"http:///callback"} }, "redirect URI"},
		{"redirect URI with a fragment", func(c *devidp.Config) { c.Clients[0].RedirectURIs = []string{callback + "#"} }, "fragment"},
		{"redirect to a script", func(c *devidp.Config) { c.Clients[0].PostLogoutRedirectURIs = []string{"javascript:alert(1)"} }, "redirect URI"},

		{"user without a login", func(c *devidp.Config) { c.Users[0].Login = "" }, "login"},
		{"two users, one subject", func(c *devidp.Config) { c.Users[1].Subject = c.Users[0].Subject }, "subject"},
		{"token life under a second", func(c *devidp.Config) { c.AccessTokenTTL = time.Millisecond }, "TTL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := good()
			tt.edit(&config)
			_, err := devidp.New(config)
			if tt.want == "" {
				if err != nil {
					t.Errorf("New: %v, want no error", err)
				}
				return
			}
			if !errors.Is(err, devidp.ErrConfig) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New: error = %v, want ErrConfig about %q", err, tt.want)
			}
		})
	}
}

func TestDemoUsersHaveOpaqueSubjects(t *testing.T) {
	for _, u := range devidp.DemoUsers() {
		if strings.Contains(u.Subject, u.Login) {
			t.Errorf("subject of %s = %q, want one that is not made of the login", u.Login, u.Subject)
		}
	}
}

func TestOnlyLoopbackHostsAreAnswered(t *testing.T) {
	h := newHarness(t, nil)
	tests := []struct {
		name, host string
		want       int
	}{
		{"the issuer", strings.TrimPrefix(h.url, "http://"), http.StatusOK},
		{"localhost", "localhost", http.StatusOK},
		{"IPv6 loopback", "[::1]:8000", http.StatusOK},
		{"a rebound name", "evil.example:8000", http.StatusMisdirectedRequest},
		{"a name that begins like loopback", "127.0.0.1.evil.example", http.StatusMisdirectedRequest},
		{"no host", "", http.StatusMisdirectedRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/jwks", nil)
			r.Host = tt.host
			w := httptest.NewRecorder()
			h.idp.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("status = %d, want %d", w.Code, tt.want)
			}
		})
	}
}

func TestMethodsAndPaths(t *testing.T) {
	h := newHarness(t, nil)
	tests := []struct {
		name, method, path string
		status             int
		allow              string
	}{
		{"unknown path", "GET", "/", http.StatusNotFound, ""},
		{"below a known path", "GET", "/token/x", http.StatusNotFound, ""},
		{"token by GET", "GET", "/token", http.StatusMethodNotAllowed, "POST"},
		{"authorize by PUT", "PUT", "/authorize", http.StatusMethodNotAllowed, "GET, POST"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := http.NewRequest(tt.method, h.url+tt.path, nil)
			a := h.do(r)
			if a.StatusCode != tt.status || a.Header.Get("Allow") != tt.allow {
				t.Errorf("status = %d, Allow = %q, want %d, %q", a.StatusCode, a.Header.Get("Allow"), tt.status, tt.allow)
			}
		})
	}
}

func TestRequestsNamesEverythingItWasAsked(t *testing.T) {
	h := newHarness(t, nil)
	h.get(h.authURL("login_hint", "alice"))
	h.get(h.url + "/nothing?secret=1")
	want := []string{"GET /.well-known/openid-configuration", "GET /authorize", "GET /nothing"}
	if diff := cmp.Diff(want, h.idp.Requests()); diff != "" {
		t.Errorf("Requests (-want +got):\n%s", diff)
	}
}

func TestRequestsKeepsTheNewest(t *testing.T) {
	h := newHarness(t, nil)
	for range 8200 {
		h.idp.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "http://127.0.0.1/flood", nil))
	}
	h.idp.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "http://127.0.0.1/last", nil))
	got := h.idp.Requests()
	if len(got) > 8192 || got[len(got)-1] != "GET /last" {
		t.Errorf("%d requests kept, the last one %q, want at most 8192 and GET /last", len(got), got[len(got)-1])
	}
}

func TestDiscoveryIsHonest(t *testing.T) {
	h := newHarness(t, nil)
	var got struct {
		Issuer      string   `json:"issuer"`
		EndSession  string   `json:"end_session_endpoint"`
		Revocation  string   `json:"revocation_endpoint"`
		Iss         bool     `json:"authorization_response_iss_parameter_supported"`
		RequestURI  *bool    `json:"request_uri_parameter_supported"`
		PKCE        []string `json:"code_challenge_methods_supported"`
		AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
		Modes       []string `json:"response_modes_supported"`
	}
	if err := h.provider.Claims(&got); err != nil {
		t.Fatal(err)
	}
	if got.Issuer != h.url || got.EndSession != h.url+"/end-session" || got.Revocation != h.url+"/revoke" {
		t.Errorf("addresses = %q, %q, %q, want them at %s", got.Issuer, got.EndSession, got.Revocation, h.url)
	}
	if !got.Iss || got.RequestURI == nil || *got.RequestURI {
		t.Errorf("iss parameter = %v, request_uri = %v, want true and a false in writing", got.Iss, got.RequestURI)
	}
	lists := [][]string{got.PKCE, got.AuthMethods, got.Modes}
	want := [][]string{{"S256"}, {"client_secret_basic", "client_secret_post", "none"}, {"query", "form_post"}}
	if !slices.EqualFunc(lists, want, slices.Equal) {
		t.Errorf("lists = %v, want %v", lists, want)
	}
}
