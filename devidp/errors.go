package devidp

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
)

// An oauthError is an error answer of RFC 6749 section 5.2, as JSON.
type oauthError struct {
	status            int
	code, description string
}

func (e *oauthError) Error() string { return e.code + ": " + e.description }

// A pageError is an error answer for a person, as a page.
type pageError struct {
	status  int
	message string
}

func (e *pageError) Error() string { return e.message }

func invalidRequest(description string) error {
	return &oauthError{http.StatusBadRequest, "invalid_request", description}
}

func invalidGrant(description string) error {
	return &oauthError{http.StatusBadRequest, "invalid_grant", description}
}

// answerError is the one place where errors become answers.
func answerError(w http.ResponseWriter, err error) {
	if e, ok := errors.AsType[*pageError](err); ok {
		renderPage(w, e.status, nil, "message", messagePage{Title: http.StatusText(e.status), Message: e.message})
		return
	}
	e, ok := errors.AsType[*oauthError](err)
	if !ok {
		e = &oauthError{http.StatusInternalServerError, "server_error", err.Error()}
	}
	writeJSON(w, e.status, map[string]string{"error": e.code, "error_description": e.description})
}

// writeJSON answers with v. Pragma is there because RFC 6749 section 5.1 asks
// for it beside the Cache-Control that every answer has.
func writeJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// bodyForm returns the parameters of a POST's body; never those of its URL,
// which end up in logs (RFC 6749 section 2.3.1).
func bodyForm(r *http.Request) (url.Values, error) {
	if err := r.ParseForm(); err != nil {
		return nil, invalidRequest("the body or the query cannot be read")
	}
	if name := repeated(r.PostForm); name != "" {
		return nil, invalidRequest("a parameter is there twice: " + name)
	}
	return r.PostForm, nil
}

// repeated returns the name of a parameter that is in form more than once, or
// "". RFC 6749 section 3.1 forbids it: two readers could choose differently.
func repeated(form url.Values) string {
	for name, values := range form {
		if len(values) > 1 {
			return name
		}
	}
	return ""
}
