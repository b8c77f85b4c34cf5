package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// BenchmarkCheck is one authenticated check: who is it, and may they?
func BenchmarkCheck(b *testing.B) {
	w := newWorld(b, setup{rules: adminsBelowAdmin()})
	r := httptest.NewRequest("GET", "/admin/users?page=2", nil)
	r.Host = ourHost
	r.Header.Set("Cookie", w.signIn(alice()))
	answer := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		x := &exchange{original: w.proxy.direct(r, faceProxy)}
		var err error
		if x.original.target, err = readTarget(r); err != nil {
			b.Fatal(err)
		}
		if x.verdict, err = w.proxy.judge(&x.original); err != nil {
			b.Fatal(err)
		}
		if err := w.proxy.identify(answer, x); err != nil || len(x.headers) == 0 {
			b.Fatal(err, x.headers)
		}
	}
}

// BenchmarkProxy compares a signed-in request through the proxy with one through
// httputil.ReverseProxy with the same transport.
func BenchmarkProxy(b *testing.B) {
	upstream := newServer(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }), false)
	at := upstreamAt(b, upstream.URL)
	w := newWorld(b, setup{routes: []Route{{Upstream: at}}, proxy: func(c *Config) { c.AccessLog = io.Discard }})
	transport, base, err := NewTransport(at)
	if err != nil {
		b.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	bare := &httputil.ReverseProxy{Transport: transport, BufferPool: w.proxy.routes[0].proxy.BufferPool, Rewrite: func(pr *httputil.ProxyRequest) {
		pr.SetURL(&url.URL{Scheme: base.Scheme, Host: base.Host})
		pr.SetXForwarded()
	}}
	cookies := w.signIn(alice())
	for name, h := range map[string]http.Handler{"authproxy": w.proxy, "bare": bare} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("GET", "/page?a=b", nil)
				r.Host = ourHost
				r.Header.Set("Cookie", cookies)
				rec := httptest.NewRecorder()
				if h.ServeHTTP(rec, r); rec.Code != http.StatusOK {
					b.Fatal(rec.Code, rec.Body)
				}
			}
		})
	}
}

// BenchmarkVerify is what an ingress's question costs in the process: of somebody,
// and of nobody.
func BenchmarkVerify(b *testing.B) {
	s := loopbackTrusted(adminsBelowAdmin())
	s.trusted = []string{"192.0.2.0/24"} // of httptest's requests
	s.proxy = func(c *Config) { c.AccessLog = io.Discard }
	w := newWorld(b, s)
	for name, cookies := range map[string]string{"somebody": w.signIn(alice()), "nobody": ""} {
		a := askForward(ask{target: "/admin/users?page=2", header: with(http.Header{"Accept": {"*/*"}}, "Cookie", cookies)})
		r := httptest.NewRequest("GET", a.target, nil)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Header = a.header.Clone()
				rec := httptest.NewRecorder()
				w.proxy.ServeHTTP(rec, r)
				if want := map[string]int{"somebody": 200, "nobody": 401}[name]; rec.Code != want {
					b.Fatalf("status %d, want %d", rec.Code, want)
				}
			}
		})
	}
}
