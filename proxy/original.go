package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// The faces that a request can come through.
const (
	faceOwn     = "own"
	faceProxy   = "proxy"
	faceNginx   = "nginx"
	faceForward = "forward"
	faceEnvoy   = "envoy"
	faceGRPC    = "grpc"
	faceOAuth2  = "oauth2" // oauth2-proxy's endpoint, where it is not told about what
)

// An original is the request that a decision is about, as its client sent it.
// The faces differ in where they read it and in how they answer; what is decided
// depends on nothing else.
type original struct {
	face   string
	method string
	scheme string // "http" or "https", by which the browser reached host
	host   string
	target target
	// header is the client's: credentials, and what kind of answer it can use.
	header http.Header
	client netip.Addr
	// narrow is what the one who asks demands besides the rules.
	narrow narrowing
	// request is all this again, for what reads credentials from a request and
	// answers it.
	request *http.Request
}

// asked says whether an ingress asks about the request, which then is not the
// one at hand.
func (o *original) asked() bool { return o.face != faceProxy && o.face != faceOwn }

// direct returns the original of a request that its client sent to us.
func (p *Proxy) direct(r *http.Request, face string) original {
	return original{
		face: face, method: r.Method, scheme: p.scheme(r), host: r.Host, header: r.Header,
		client: p.Trusted.ClientIP(r), request: r,
	}
}

// setRequest makes o's request from r, which asks about it.
func (o *original) setRequest(r *http.Request) {
	decoded, _ := url.PathUnescape(o.target.path) // parseTarget has tried
	request := *r
	request.Method, request.Host, request.RequestURI = o.method, o.host, o.target.String()
	request.URL = &url.URL{Path: decoded, RawQuery: o.target.query, ForceQuery: o.target.hasQuery}
	request.Header, request.Body, request.ContentLength = o.header, http.NoBody, 0
	o.request = &request
}

// errOriginal is wrapped by the errors about an original that cannot be read.
// They say what is wrong and hold nothing of the request.
var errOriginal = errors.New("proxy: the original request cannot be read")

func unreadable(what string) error { return fmt.Errorf("%w: %s", errOriginal, what) }

// single returns the value of the header name, which must be there once: of two
// values, one is a client's.
func single(h http.Header, name string) (string, error) {
	switch values := h[name]; {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return "", unreadable(name + " is missing")
	case len(values) > 1:
		return "", unreadable(name + " is there more than once")
	default:
		return values[0], nil
	}
}

// parseMethod reads a method as every one that is registered is spelled, such as
// GET and VERSION-CONTROL: what some frameworks take for another spelling of
// one is refused.
func parseMethod(method string) (string, error) {
	for i := range len(method) {
		if c := method[i]; (c < 'A' || c > 'Z') && (c != '-' || i == 0) {
			return "", unreadable("the method is not one")
		}
	}
	if method == "" || len(method) > 32 {
		return "", unreadable("the method is not one")
	}
	return method, nil
}

// parseScheme reads how a browser reached the ingress. With WebSockets, some
// say so.
func parseScheme(scheme string) (string, error) {
	switch scheme {
	case "http", "ws":
		return "http", nil
	case "https", "wss":
		return "https", nil
	}
	return "", unreadable("the scheme is none of http, https, ws, wss")
}

// parseTarget reads a path and query in origin-form (RFC 9112, section 3.2.1) as
// net/http reads it from the wire, byte for byte.
func parseTarget(raw string) (target, error) {
	var t target
	t.path, t.query, t.hasQuery = strings.Cut(raw, "?")
	for i := range len(raw) {
		if raw[i] <= ' ' || raw[i] == 0x7f {
			return target{}, unreadable("the path holds a space or a control character")
		}
	}
	switch _, err := url.PathUnescape(t.path); {
	case !strings.HasPrefix(raw, "/"):
		return target{}, unreadable("the path does not begin with a slash")
	case strings.Contains(raw, "#"):
		return target{}, unreadable("the path holds a fragment")
	case err != nil:
		return target{}, unreadable("the path is not percent-encoded as it should be")
	}
	return t, nil
}

// secondURL is how a second URL begins in a list that somebody on the way has
// made of two headers. It is looked for before the query, as a second path is in
// [parseOriginalURI]: a query may hold a list of URLs of its own. Where the path is
// no header's value, nobody makes a list of it, and every comma is one.
var secondURL = regexp.MustCompile(`,[A-Za-z][A-Za-z0-9+.-]*://`)

// parseOriginalURL reads an absolute URL as an ingress puts it together from
// scheme, host and target. Whether the host is one is for [policy.Hosts] to
// judge.
func parseOriginalURL(raw string) (scheme, host string, t target, err error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return "", "", target{}, unreadable("the URL is not absolute")
	}
	if scheme, err = parseScheme(scheme); err != nil {
		return "", "", target{}, err
	}
	end := strings.IndexByte(rest, '/')
	beforeQuery, _, _ := strings.Cut(rest, "?")
	switch {
	case end <= 0:
		return "", "", target{}, unreadable("the URL has no host or no path")
	case secondURL.MatchString(beforeQuery):
		return "", "", target{}, unreadable("the URL is a list")
	}
	t, err = parseTarget(rest[end:])
	return scheme, rest[:end], t, err
}

// parseOriginalURI reads the path and query that an ingress has put into a
// header of its own.
func parseOriginalURI(raw string) (target, error) {
	t, err := parseTarget(raw)
	if err == nil && strings.Contains(t.path, ",/") {
		return target{}, unreadable("the path is a list")
	}
	return t, err
}
