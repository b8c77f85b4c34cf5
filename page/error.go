package page

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// statusClientClosed is the status of a request whose client went away before
// the answer. It is nginx's number; nobody receives it, it is for the log.
const statusClientClosed = 499

// An Error is a failure with an HTTP answer. Message and Hint are shown to the
// user; Err is only logged, because it may hold what a client must not see.
type Error struct {
	// Status is 4xx or 5xx; anything else is answered as 500.
	Status int

	// Code is stable and snake_case, for programs: "unauthenticated",
	// "forbidden", "provider_unavailable", … Empty is derived from Status.
	Code string

	// Title heads the page. Empty is derived from Code and Status.
	Title string

	// Message is a sentence that says what happened. Empty is derived too.
	Message string

	// Hint says what to do about it, for example to the operator. Only the
	// page shows it. Optional.
	Hint string

	// Err is the cause, or nil.
	Err error

	// RetryAfter, above zero, is sent as Retry-After, rounded up to whole
	// seconds.
	RetryAfter time.Duration

	// SignIn is the absolute URL of the sign-in page: "sign_in" in the JSON, a
	// button on the page. Optional.
	SignIn string

	// SwitchAccount is the URL of sign-in with another account: a button on
	// the page. Optional.
	SwitchAccount string

	// Challenge is what WWW-Authenticate says of a 401 beside the code: parameters
	// such as acr_values="gold" (RFC 9470, section 3). Optional.
	Challenge string

	// Account is who tried to sign in, an e-mail address or a name. Only the
	// page shows it. Optional.
	Account string

	// User is who is signed in, an e-mail address or a name. Only the page
	// shows it. Optional.
	User string

	// Rule names the rule that refused, on the page and in the JSON. Optional.
	Rule string

	// RetryURL is where "Try again" on the page leads. Optional.
	RetryURL string
}

// Error returns the message and the cause. It is for logs, never for clients.
func (e *Error) Error() string {
	message := cmp.Or(e.Message, e.Code, "status "+strconv.Itoa(e.Status))
	if e.Err == nil {
		return message
	}
	return message + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// A retryable is an error that will pass.
type retryable interface {
	error
	RetryAfter() time.Duration
}

// AsError returns a copy of the [*Error] in err's chain with its empty Code,
// Title and Message filled in. A cancelled context becomes a 499, an error that
// has a method RetryAfter() time.Duration a 503 with that, any other error a 500
// with the code "internal" and a text that does not tell why. It returns nil for
// nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	e := Error{Status: http.StatusInternalServerError, Err: err}
	if found, ok := errors.AsType[*Error](err); ok {
		e = *found
	} else if errors.Is(err, context.Canceled) {
		e.Status = statusClientClosed
	} else if passing, ok := errors.AsType[retryable](err); ok {
		e.Status, e.RetryAfter = http.StatusServiceUnavailable, passing.RetryAfter()
	}
	if e.Status < 400 || e.Status > 599 {
		e.Status = http.StatusInternalServerError
	}
	fallback := wordsFor(e.Code, e.Status)
	e.Code = cmp.Or(e.Code, fallback.code)
	e.Title = cmp.Or(e.Title, fallback.title)
	e.Message = cmp.Or(e.Message, fallback.message)
	return &e
}

// Error logs err and answers it: with a page if the request wants one (see
// [WantsHTML]), otherwise with
//
//	{"error": code, "message": …, "request_id": …[, "sign_in": …][, "rule": …]}
//
// Headers that describe a body which is not sent now are removed; others, like
// Set-Cookie, stay. Nothing may have been written to w before.
func (p *Renderer) Error(w http.ResponseWriter, r *http.Request, err error) {
	e := p.resolve(r, err)
	p.logError(r, "request failed", e, err)

	h := w.Header()
	dropEntityHeaders(h)
	SecurityHeaders(h)
	if e.Status == http.StatusUnauthorized {
		h["Www-Authenticate"] = []string{challenge(e)}
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(wholeSeconds(e.RetryAfter), 10))
	}

	if WantsHTML(r.Method, r.Header) {
		p.render(w, r, e.Status, "error.html", p.errorView(r, e))
		return
	}
	WriteJSON(forMethod(w, r.Method), e.Status, errorJSON{
		Error:     e.Code,
		Message:   e.Message,
		RequestID: p.requestID(r),
		SignIn:    e.SignIn,
		Rule:      e.Rule,
	})
}

// resolve is [AsError] for the request at hand. A cancellation is the client's
// only if its own context ended; any other is a fault of ours, and hiding it
// as a 499 would keep it out of every alert.
func (p *Renderer) resolve(r *http.Request, err error) *Error {
	if err == nil {
		err = errors.New("page: asked to answer a nil error")
	}
	e := AsError(err)
	if e.Status == statusClientClosed && r.Context().Err() == nil {
		return AsError(&Error{Status: http.StatusInternalServerError, Err: err})
	}
	return e
}

// logError logs the whole chain of err. The path goes without its query, where
// codes and tokens are.
func (p *Renderer) logError(r *http.Request, message string, e *Error, err error) {
	level := slog.LevelDebug // the line of the request says that it was refused
	if e.Status >= 500 {
		level = slog.LevelError
	}
	if !p.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.Int("status", e.Status),
		slog.String("code", e.Code),
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.String("request_id", p.requestID(r)),
	}
	if e.Rule != "" {
		attrs = append(attrs, slog.String("rule", e.Rule))
	}
	p.log.LogAttrs(r.Context(), level, message, append(attrs, slog.Any("err", err))...)
}

// dropEntityHeaders removes what a handler said about the body it meant to
// send, and with Location a redirect that does not happen.
func dropEntityHeaders(h http.Header) {
	for _, name := range []string{
		"Content-Length", "Content-Encoding", "Content-Range", "Content-Disposition",
		"Etag", "Last-Modified", "Expires", "Location",
	} {
		delete(h, name)
	}
}

// challenge returns the WWW-Authenticate of a 401. Only a credential that was
// sent and refused has an error (RFC 6750, section 3.1).
func challenge(e *Error) string {
	switch {
	case e.Code == "invalid_token":
		return `Bearer error="invalid_token"`
	case e.Code == "insufficient_user_authentication": // RFC 9470, section 3
		return strings.TrimSuffix(`Bearer error="insufficient_user_authentication", `+e.Challenge, ", ")
	}
	return "Bearer"
}

// wholeSeconds rounds up, so that nobody comes back too early.
func wholeSeconds(d time.Duration) int64 {
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return seconds
}

type errorJSON struct {
	Error     string `json:"error"`
	Message   string `json:"message"`
	RequestID string `json:"request_id"`
	SignIn    string `json:"sign_in,omitempty"`
	Rule      string `json:"rule,omitempty"`
}

// errorContent is what error.html shows. It has no field for [Error.Err].
type errorContent struct {
	Title, Message, Hint            string
	Account, User, Rule             string
	SignIn, RetryURL, SwitchAccount string
	Wait                            string // "30 seconds", or empty
	RequestID                       string
}

func (p *Renderer) errorView(r *http.Request, e *Error) view {
	return view{
		Title: e.Title,
		Icon:  wordsFor(e.Code, e.Status).icon,
		Page: errorContent{
			Title:   e.Title,
			Message: e.Message,
			Hint:    e.Hint,
			Account: e.Account, User: e.User,
			Rule:          e.Rule,
			SignIn:        e.SignIn,
			RetryURL:      e.RetryURL,
			SwitchAccount: e.SwitchAccount,
			Wait:          wait(e.RetryAfter),
			RequestID:     p.requestID(r),
		},
	}
}
