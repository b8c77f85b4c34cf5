package page

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// WriteJSON answers with v as JSON that no cache keeps and no browser takes
// for anything else. A v that cannot be encoded is answered with a 500.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	body.Grow(512) // most answers
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // the URLs in it stay readable; nosniff keeps it from being HTML
	if err := enc.Encode(v); err != nil {
		status = http.StatusInternalServerError
		body.Reset()
		body.WriteString(`{"error":"internal","message":"Something went wrong.","request_id":""}` + "\n")
	}
	answer(w, status, "application/json", body.Bytes())
}

// SecurityHeaders sets what every page carries: a policy that runs no script,
// sends forms nowhere else and lets nobody frame the page.
func SecurityHeaders(h http.Header) {
	// Not no-referrer: it makes the Origin of a form POST "null" (Fetch,
	// "append a request Origin header"), and Origin is how sign-out tells our
	// own form from a stranger's. Not same-origin or longer: a link on the page
	// of a failed callback would show the application its code and state.
	//
	// One object for the four, none of which can grow into its neighbour: every
	// question of an ingress's about nobody is answered with them.
	values := [...]string{"strict-origin", policyToForms + policyAfterForms, "DENY", "nosniff"}
	h["Referrer-Policy"], h["Content-Security-Policy"] = values[0:1:1], values[1:2:2]
	h["X-Frame-Options"], h["X-Content-Type-Options"] = values[2:3:3], values[3:4:4]
}

// The policy of a page has further targets of its forms in the middle.
const (
	policyToForms    = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'"
	policyAfterForms = "; base-uri 'none'; frame-ancestors 'none'"
)

// hostPort matches what may stand in a policy as the host of an origin.
// Anything else, like a semicolon, could end the directive.
var hostPort = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]{1,5})?$`)

// contentSecurityPolicy returns the policy of a page whose forms may lead to
// the origins of formAction besides our own.
func contentSecurityPolicy(formAction []string) string {
	forms := ""
	for _, target := range formAction {
		u, err := url.Parse(target)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || !hostPort.MatchString(u.Host) {
			continue
		}
		forms += " " + u.Scheme + "://" + u.Host
	}
	return policyToForms + forms + policyAfterForms
}

// answer writes a whole response that is private to the user who asked.
func answer(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	values := [...]string{contentType, "nosniff", "no-store"}
	h["Content-Type"], h["X-Content-Type-Options"], h["Cache-Control"] = values[0:1:1], values[1:2:2], values[2:3:3]
	varyByCookie(h)
	w.WriteHeader(status)
	w.Write(body) // an error means that the client is gone
}

// varyByCookie adds Cookie to Vary and keeps what is there, such as Origin.
func varyByCookie(h http.Header) {
	for _, value := range h["Vary"] {
		for field := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(field), "Cookie") {
				return
			}
		}
	}
	h.Add("Vary", "Cookie")
}

// forMethod returns w, or for HEAD a w that drops the body. net/http would do
// so by itself; a recorder, which another face translates, would not.
func forMethod(w http.ResponseWriter, method string) http.ResponseWriter {
	if method == http.MethodHead {
		return headOnly{w}
	}
	return w
}

type headOnly struct{ http.ResponseWriter }

func (headOnly) Write(b []byte) (int, error) { return len(b), nil }
