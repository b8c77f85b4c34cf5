package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"authproxy/page"
)

// A target is a request target as it came over the wire: what rules judge and
// what the upstream gets are the same bytes (RFC 9112, section 3.2).
type target struct {
	path     string // escaped, as sent
	query    string // without "?"
	hasQuery bool
}

// readTarget returns r's target. It refuses what is not a path: CONNECT and the
// forms that only a forward proxy serves, and a fragment, which no client sends
// and some servers cut off (GHSA-pxq7-h93f-9jrg).
func readTarget(r *http.Request) (target, error) {
	if err := checkMethod(r.Method); err != nil {
		return target{}, err
	}
	raw := r.RequestURI
	if !strings.HasPrefix(raw, "/") {
		raw = withoutAuthority(raw, r.URL.Scheme)
	}
	var t target
	t.path, t.query, t.hasQuery = strings.Cut(raw, "?")
	switch {
	case !strings.HasPrefix(raw, "/"), strings.Contains(raw, "#"),
		// applyTo could not keep its bytes.
		strings.HasPrefix(t.path, "//") && r.URL.EscapedPath() != t.path:
		return target{}, &page.Error{Status: http.StatusBadRequest, Code: "bad_target", Message: "The address of this request cannot be read."}
	}
	return t, nil
}

// checkMethod refuses the methods that are served to nobody. TRACE would show the
// identity headers to whoever asks (RFC 9110, section 9.3.8).
func checkMethod(method string) error {
	if method == http.MethodConnect || method == http.MethodTrace {
		return &page.Error{Status: http.StatusMethodNotAllowed, Message: method + " is not served here."}
	}
	return nil
}

// withoutAuthority returns the path and query of raw, a target in absolute-form
// (RFC 9112, section 3.2.2), whose host net/http has moved to the request's. It
// returns "" for anything else, like "http:/path" and "mailto:x://y/path".
func withoutAuthority(raw, scheme string) string {
	rest, ok := strings.CutPrefix(raw[len(scheme):], "://")
	if !ok || scheme == "" {
		return ""
	}
	rest = rest[strings.IndexAny(rest+"/", "/?#"):]
	if !strings.HasPrefix(rest, "/") {
		rest = "/" + rest // an empty path is "/" (RFC 9110, section 4.2.3)
	}
	return rest
}

// String returns the target as it was sent.
func (t target) String() string {
	if t.hasQuery {
		return t.path + "?" + t.query
	}
	return t.path
}

// applyTo makes u send exactly t. Opaque keeps net/url from encoding the path
// anew; it cannot hold a path that begins with "//", which it would take for a
// host.
func (t target) applyTo(u *url.URL) {
	u.RawQuery, u.ForceQuery = t.query, t.hasQuery
	if strings.HasPrefix(t.path, "//") {
		return
	}
	u.Opaque = t.path
}
