package web_test

import (
	"cmp"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"authproxy/web"
)

// TestAnIngressSendsBrowsersToSignIn: nginx passes on what was not allowed, with
// the address of what the browser wanted in a header.
func TestAnIngressSendsBrowsersToSignIn(t *testing.T) {
	s := newSite(t, func(s *settings) { s.hosts = []string{host, "other.example.com"} })
	wanted := func(host, target string) func(*http.Request) (string, string, bool) {
		return func(*http.Request) (string, string, bool) { return host, target, true }
	}
	page := http.Header{"Accept": {"text/html"}, "Sec-Fetch-Mode": {"navigate"}}
	script := http.Header{"Accept": {"*/*"}, "Sec-Fetch-Mode": {"cors"}}
	post := page.Clone()
	post.Set("X-Original-Method", "POST")
	const target = "/app/x?a=1&b=%2F&rd=/y;z"
	tests := []struct {
		name, method, asked string
		from                func(*http.Request) (string, string, bool)
		header              http.Header
		status              int
		at, rd              string
	}{
		{"a page", "GET", "", wanted(host, target), page, 302, "", target},
		{"a page, with a port in the host", "GET", "", wanted(host+":443", target), page, 302, "", target},
		{"a page of another host", "GET", "", wanted("other.example.com", target), page, 302, "https://other.example.com", target},
		{"a page of a stranger's host", "GET", "", wanted("evil.example", target), page, 302, "", "/"},
		{"a page that would be a circle", "GET", "", wanted(host, "/auth/sign-in?rd=/"), page, 302, "", "/"},
		{"a path that is a host to browsers", "GET", "", wanted(host, "//evil.example/"), page, 302, "", "/"},
		{"a script", "GET", "", wanted(host, target), script, 401, "", ""},
		{"a form", "POST", "", wanted(host, target), page, 401, "", ""},
		{"a form that the ingress has made a GET of", "GET", "", wanted(host, target), post, 401, "", ""},
		{"any other method", "PROPFIND", "", wanted(host, target), page, 401, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := s.web.Config
			c.OriginalURL, c.Registerer = tt.from, nil
			server, err := web.New(c)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(tt.method, "https://"+host+"/auth/sign-in"+tt.asked, nil)
			r.Header = tt.header
			rec := httptest.NewRecorder()
			server.ServeHTTP(rec, r)
			want := ""
			if tt.rd != "" {
				want = cmp.Or(tt.at, origin) + "/auth/sign-in?" + url.Values{"rd": {tt.rd}}.Encode()
			}
			if got := rec.Result(); got.StatusCode != tt.status || got.Header.Get("Location") != want || got.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("status %d to %q, want %d to %q, never kept", got.StatusCode, got.Header.Get("Location"), tt.status, want)
			}
		})
	}
}

// Whoever is not the ingress has no say, and what a link asks for comes first.
func TestALinkComesBeforeTheIngress(t *testing.T) {
	s := newSite(t, func(*settings) {})
	for name, tt := range map[string]struct {
		target string
		ok     bool
	}{"the ingress says nothing": {"/auth/sign-in", false}, "a link says where to": {"/auth/sign-in?rd=/linked", true}} {
		t.Run(name, func(t *testing.T) {
			c := s.web.Config
			c.OriginalURL, c.Registerer = func(*http.Request) (string, string, bool) { return host, "/app", tt.ok }, nil
			server, err := web.New(c)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "https://"+host+tt.target, nil)
			r.Header = http.Header{"Accept": {"text/html"}}
			rec := httptest.NewRecorder()
			server.ServeHTTP(rec, r)
			to, err := url.Parse(rec.Header().Get("Location"))
			if err != nil || rec.Code != 302 || to.Path == "/auth/sign-in" {
				t.Errorf("status %d to %q, want a sign-in to begin", rec.Code, rec.Header().Get("Location"))
			}
		})
	}
}
