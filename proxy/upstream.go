package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"authproxy/cookie"
	"authproxy/page"
	"authproxy/policy"
)

// An Upstream is an application behind us.
type Upstream struct {
	// URL is its address: http, https, h2c for HTTP/2 without TLS, or unix with
	// the socket's path. A path in any other URL is not used.
	URL *url.URL
	// PassHost hands the browser's Host on; otherwise it is the upstream's own.
	PassHost bool
	// RootCAs verify an https upstream; nil means the system's.
	RootCAs *x509.CertPool
	// Extras are what this upstream gets besides what all of them do.
	Extras Extras
}

// A Route sends requests for a host and path to an upstream of their own.
type Route struct {
	// Host selects by host; the zero value selects every host.
	Host policy.HostPattern
	// Path selects by path; "" selects every path.
	Path     string
	Upstream Upstream
}

// route is a Route ready for use.
type route struct {
	name   string // for logs and metrics
	host   policy.HostPattern
	anyH   bool
	path   policy.Glob
	anyP   bool
	proxy  *httputil.ReverseProxy
	extras *extras
}

func (rt *route) selects(host string, path policy.Path) bool {
	return (rt.anyH || rt.host.Match(host)) && (rt.anyP || rt.path.Match(path.Decoded))
}

func (p *Proxy) newRoute(r Route) (*route, error) {
	out := &route{host: r.Host, anyH: r.Host == policy.HostPattern{}, anyP: r.Path == ""}
	out.name = strings.TrimSpace(r.Host.String() + r.Path)
	if out.anyH && out.anyP {
		out.name = "default"
	}
	if !out.anyP {
		var err error
		if out.path, err = policy.ParseGlob(r.Path); err != nil {
			return nil, err
		}
	}
	reverse, err := p.newReverseProxy(r.Upstream)
	if err != nil {
		return nil, err
	}
	if out.extras, err = newExtras(r.Upstream.Extras); err != nil {
		return nil, err
	}
	out.proxy = reverse
	return out, nil
}

// newReverseProxy returns the proxy to one upstream, with a transport of its
// own: what one application does to its connections does not touch another's.
func (p *Proxy) newReverseProxy(u Upstream) (*httputil.ReverseProxy, error) {
	transport, base, err := NewTransport(u)
	if err != nil {
		return nil, err
	}
	p.transports = append(p.transports, transport)
	reverse := &httputil.ReverseProxy{
		Rewrite:        func(pr *httputil.ProxyRequest) { p.rewrite(pr, base, u.PassHost) },
		Transport:      transport,
		BufferPool:     bufferPool{&sync.Pool{New: func() any { return new([bufferSize]byte) }}},
		ModifyResponse: p.modifyResponse,
		ErrorHandler:   p.upstreamFailed,
		ErrorLog:       slog.NewLogLogger(p.Log.Handler(), slog.LevelDebug),
	}
	switch u.URL.Scheme {
	case "https":
		http1, _, err := NewTransport(u)
		if err != nil {
			return nil, err
		}
		onlyHTTP1(http1)
		p.transports = append(p.transports, http1)
		reverse.Transport = twoTransports{transport, http1}
	case "h2c":
		reverse.Rewrite = func(pr *httputil.ProxyRequest) {
			p.rewrite(pr, base, u.PassHost)
			dropUpgrade(pr.Out.Header) // HTTP/2 has none (RFC 9113, section 8.6)
		}
	}
	return reverse, nil
}

// NewTransport returns the transport to an upstream and the base URL to use
// with it. net/http keeps two idle connections to a host by default, and a
// proxy under load would dial for most requests.
func NewTransport(u Upstream) (*http.Transport, *url.URL, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		DialContext:           dialer.DialContext,
		MaxIdleConnsPerHost:   512,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // what the client accepts is between it and the upstream
		WriteBufferSize:       16 << 10,
		ReadBufferSize:        16 << 10,
		// Of an answer that its client does not read. net/http's default is 4 MB, and
		// whoever opens many would fill the memory.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 256 << 10},
	}
	switch u.URL.Scheme {
	case "http":
		return t, &url.URL{Scheme: "http", Host: u.URL.Host}, nil
	case "h2c":
		t.Protocols = new(http.Protocols) // with HTTP/1 in it, that would be spoken
		t.Protocols.SetUnencryptedHTTP2(true)
		return t, &url.URL{Scheme: "http", Host: u.URL.Host}, nil
	case "https":
		t.ForceAttemptHTTP2 = true
		t.TLSClientConfig = &tls.Config{RootCAs: u.RootCAs, MinVersion: tls.VersionTLS12}
		return t, &url.URL{Scheme: "https", Host: u.URL.Host}, nil
	case "unix":
		socket := u.URL.Path
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
		return t, &url.URL{Scheme: "http", Host: "localhost"}, nil
	}
	return nil, nil, fmt.Errorf("proxy: the upstream's scheme %q is none of http, https, h2c, unix", u.URL.Scheme)
}

// bufferSize is the size of the buffers that bodies pass through, in bytes.
const bufferSize = 32 << 10

// A bufferPool implements httputil.BufferPool. It holds arrays, so that putting
// one back allocates nothing.
type bufferPool struct{ pool *sync.Pool }

func (b bufferPool) Get() []byte  { return b.pool.Get().(*[bufferSize]byte)[:] }
func (b bufferPool) Put(s []byte) { b.pool.Put((*[bufferSize]byte)(s)) }

// exchangeKey is the context key of the exchange under way.
type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// rewrite makes the upstream's request from the client's: where it goes, then
// what it must not carry, then what we vouch for.
func (p *Proxy) rewrite(pr *httputil.ProxyRequest, base *url.URL, passHost bool) {
	x := exchangeOf(pr.In.Context())
	out := pr.Out
	out.URL.Scheme, out.URL.Host = base.Scheme, base.Host
	x.original.target.applyTo(out.URL)
	out.Host = ""
	if passHost {
		out.Host = pr.In.Host
	}
	p.passTrailers(pr.In, out)
	p.never.strip(out.Header)
	cookie.Remove(out.Header, p.OwnsCookie)
	p.Guard.Unmark(out.Header, x.verdict.person())
	passUpgrade(pr.In.Header, out.Header)
	if p.takesAppendix(&x.original) {
		out.Header.Set("Accept-Encoding", "identity")
	}
	p.setForwarded(pr.In, out.Header, x.original.scheme)
	out.Header[requestID] = pr.In.Header[requestID] // the client may have named it in Connection
	setIdentity(out.Header, x.headers, x.authorization)
	x.route.extras.apply(out.Header, x.extra)
}

// modifyResponse keeps an application from overwriting our cookies, keeps its own
// with their person, hands out ours, and keeps a browser from showing a signed-in
// person's page to the next one after sign-out.
func (p *Proxy) modifyResponse(res *http.Response) error {
	cookie.RemoveSet(res.Header, p.OwnsCookie)
	x := exchangeOf(res.Request.Context())
	p.Guard.Mark(res.Header, x.verdict.person())
	if mustBePrivate(res.Header, x) {
		res.Header["Cache-Control"] = []string{"private, no-store"}
	}
	p.handOut(res.Header, x)
	p.appendHTML(res, &x.original)
	if x.spoiled() && res.StatusCode != http.StatusSwitchingProtocols {
		res.Header.Set("Connection", "close")
	}
	return nil
}

// mustBePrivate says whether an answer that its application lets others have
// is for one person only: one that renews a session always, else a page of
// somebody who is signed in if the application does not say.
func mustBePrivate(h http.Header, x *exchange) bool {
	control := strings.ToLower(strings.Join(h["Cache-Control"], ","))
	if len(x.cookies) > 0 {
		return !strings.Contains(control, "private") && !strings.Contains(control, "no-store")
	}
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return x.verdict.who != nil && control == "" && strings.EqualFold(strings.TrimSpace(mediaType), "text/html")
}

// handOut adds the cookies of ours that the browser does not have yet, unless
// the session was ended while the upstream took its time: another replica, or
// this one after a restart, would take such a cookie for a live session.
func (p *Proxy) handOut(h http.Header, x *exchange) {
	if cookies := p.renewals(x); len(cookies) > 0 {
		h["Set-Cookie"] = append(h["Set-Cookie"], cookies...)
	}
}

// upstreamFailed answers for an upstream that did not.
func (p *Proxy) upstreamFailed(w http.ResponseWriter, r *http.Request, err error) {
	e := &page.Error{Status: http.StatusBadGateway, Code: "upstream_unreachable", Err: err}
	var timeout net.Error
	switch {
	case errors.Is(context.Cause(r.Context()), errSessionOver):
		e = page.AsError(p.sessionOver())
	case r.Context().Err() != nil:
		e = &page.Error{Status: 499, Code: "canceled", Err: err}
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Status, e.Code = http.StatusGatewayTimeout, "upstream_timeout"
	}
	x := exchangeOf(r.Context())
	if again := x.original.target.String(); r.Method == http.MethodGet && !strings.HasPrefix(again, "//") {
		e.RetryURL = again
	}
	p.handOut(w.Header(), x)
	if x.spoiled() {
		w.Header().Set("Connection", "close")
	}
	p.answer(w, r, e)
}
