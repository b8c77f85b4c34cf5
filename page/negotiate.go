package page

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// Navigation reports whether a request is a browser going to a page, which
// may be redirected to sign-in. Everything else has to get a 401: a redirect
// would end in a CORS error in a script, and in a login page where a machine
// expects data. The names in h are canonical, as net/http makes them.
func Navigation(method string, h http.Header) bool {
	if method != http.MethodGet && method != http.MethodHead {
		return false
	}
	if present(h, "X-Requested-With", "Hx-Request", "Upgrade", "Authorization") || prefetch(h) {
		return false
	}
	// A browser that sends Fetch Metadata says what the request is. Its Accept
	// is no better source: fetch() may set it freely.
	if modes := h.Values("Sec-Fetch-Mode"); len(modes) > 0 {
		return len(modes) == 1 && modes[0] == "navigate"
	}
	return acceptsHTML(h)
}

// WantsHTML reports whether the answer to a request is a page, not JSON: it
// asks for text/html or fills a document, and no script sent it. The names in
// h are canonical, as net/http makes them.
func WantsHTML(method string, h http.Header) bool {
	if method == http.MethodOptions { // browsers show no answer to OPTIONS
		return false
	}
	if present(h, "X-Requested-With", "Hx-Request") || h.Get("Sec-Fetch-Mode") == "cors" {
		return false
	}
	dest := h.Get("Sec-Fetch-Dest")
	return dest == "document" || dest == "iframe" || acceptsHTML(h)
}

// Preflight returns the method that a CORS preflight asks for, or "" when the
// request is none: OPTIONS with Origin and Access-Control-Request-Method
// (Fetch, section 3.2.2). A repeated or malformed header is no preflight, as
// two readers might take different methods from it.
func Preflight(method string, h http.Header) string {
	asked := h.Values("Access-Control-Request-Method")
	if method != http.MethodOptions || h.Get("Origin") == "" || len(asked) != 1 || !isToken(asked[0]) {
		return ""
	}
	return asked[0]
}

// present reports whether h has one of the names, which are canonical.
func present(h http.Header, names ...string) bool {
	for _, name := range names {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}

// prefetch reports whether the browser only guesses that the user will come:
// "Sec-Purpose: prefetch", or "prefetch;prerender" with further parameters.
func prefetch(h http.Header) bool {
	for _, value := range h.Values("Sec-Purpose") {
		purpose, _, _ := strings.Cut(value, ";")
		if strings.EqualFold(strings.TrimSpace(purpose), "prefetch") {
			return true
		}
	}
	return false
}

// acceptsHTML reports whether Accept names text/html with a weight above 0
// (RFC 9110, section 12.5.1). "*/*" does not count: curl and fetch() send it.
func acceptsHTML(h http.Header) bool {
	for _, value := range h.Values("Accept") {
		for mediaRange := range strings.SplitSeq(value, ",") {
			if !strings.Contains(mediaRange, "/h") && !strings.Contains(mediaRange, "/H") {
				continue // to parse it is for garbage
			}
			mediaType, params, err := mime.ParseMediaType(mediaRange)
			if err == nil && mediaType == "text/html" && weight(params) > 0 {
				return true
			}
		}
	}
	return false
}

func weight(params map[string]string) float64 {
	q, ok := params["q"]
	if !ok {
		return 1
	}
	f, err := strconv.ParseFloat(q, 64)
	if err != nil || f > 1 {
		return 0
	}
	return f
}

// isToken reports whether s has only characters of a token (RFC 9110, section
// 5.6.2), which every method is.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		letterOrDigit := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letterOrDigit && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return true
}
