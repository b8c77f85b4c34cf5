package page

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const requestID = "01JBQ7T3ZK5V8W2N4M6P9R1S0D"

// newRenderer returns a renderer and the buffer that its log goes to.
func newRenderer(t *testing.T) (*Renderer, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	p, err := New(Config{
		Log:       slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		RequestID: func(*http.Request) string { return requestID },
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, &log
}

// browserRequest is what a browser sends when a person opens a page.
func browserRequest(method, target string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Header.Set("Accept", browserAccept)
	return r
}

var errSecret = errors.New("dial tcp 10.0.0.7: s3cr3t-cause")

func TestErrorAnswers(t *testing.T) {
	type object = map[string]any
	tests := []struct {
		name   string
		err    error
		status int
		header map[string]string
		json   object
		html   []string // texts of the page
	}{
		{"anonymous", &Error{Status: 401, SignIn: "https://app.example.com/auth/sign-in?rd=%2Fa&x=1"}, 401,
			map[string]string{"Www-Authenticate": "Bearer"},
			object{"error": "unauthenticated", "message": "You need to be signed in to see this.", "sign_in": "https://app.example.com/auth/sign-in?rd=%2Fa&x=1"},
			[]string{"<h1>Sign in to continue</h1>", `href="https://app.example.com/auth/sign-in?rd=%2Fa&amp;x=1">Sign in<`}},
		{"refused token", &Error{Status: 401, Code: "invalid_token", Message: "The token has expired."}, 401,
			map[string]string{"Www-Authenticate": `Bearer error="invalid_token"`},
			object{"error": "invalid_token", "message": "The token has expired."},
			[]string{"Sign in to continue", "The token has expired."}},
		{"refused by a rule", &Error{Status: 403, User: "alice@example.com", Rule: "admins", Message: "Only administrators may open this.", SwitchAccount: "/auth/sign-in?prompt=select_account"}, 403,
			nil,
			object{"error": "forbidden", "message": "Only administrators may open this.", "rule": "admins"},
			[]string{"You do not have access", "alice@example.com", "<code>admins</code>", "Only administrators", `href="/auth/sign-in?prompt=select_account">Use another account<`}},
		{"sign-in cookie lost", &Error{Status: 403, Title: "Sign-in was interrupted", Hint: "Set public_url to https.", RetryURL: "/auth/sign-in"}, 403,
			nil,
			object{"error": "forbidden", "message": "Your account is not allowed to open this."},
			[]string{"<title>Sign-in was interrupted</title>", "Set public_url to https.", `href="/auth/sign-in">Try again<`}},
		{"unknown path", &Error{Status: 404}, 404, nil,
			object{"error": "not_found", "message": "There is nothing at this address. It may be mistyped or out of date."},
			[]string{"Page not found"}},
		{"upstream down", &Error{Status: 502, Err: errSecret}, 502, nil,
			object{"error": "bad_gateway", "message": "You have done nothing wrong: the application at this address could not be reached. Please try again in a moment."},
			[]string{"The application did not answer"}},
		{"provider down", &Error{Status: 503, Code: "provider_unavailable", RetryAfter: 29*time.Second + 1, Err: errSecret}, 503,
			map[string]string{"Retry-After": "30"},
			object{"error": "provider_unavailable", "message": "The service that signs you in does not answer. Whoever is signed in already stays signed in."},
			[]string{"Sign-in is unavailable right now", "try again in 30 seconds"}},
		{"store down", &Error{Status: 503, RetryAfter: 2 * time.Second}, 503,
			map[string]string{"Retry-After": "2"},
			object{"error": "service_unavailable", "message": "The service is briefly unavailable. You have not been signed out."},
			[]string{"Back in a moment"}},
		{"any other error", errSecret, 500, nil,
			object{"error": "internal", "message": "This is a fault on our side. Please try again in a moment."},
			[]string{"Something went wrong"}},
		{"wrapped error keeps its answer", fmt.Errorf("web: %w", &Error{Status: 409, Code: "cookie_strategy", Err: errSecret}), 409, nil,
			object{"error": "cookie_strategy", "message": "The request could not be completed."},
			[]string{"<h1>Conflict</h1>"}},
		{"status that is no error", &Error{Status: 200}, 500, nil,
			object{"error": "internal", "message": "This is a fault on our side. Please try again in a moment."}, nil},
		{"status that is none", &Error{Status: 600}, 500, nil,
			object{"error": "internal", "message": "This is a fault on our side. Please try again in a moment."}, nil},
		{"status without a name", &Error{Status: 499 + 50}, 549, nil,
			object{"error": "status_549", "message": "The request could not be completed."}, nil},
		{"nil", nil, 500, nil,
			object{"error": "internal", "message": "This is a fault on our side. Please try again in a moment."}, nil},
		{"cancelled by us, not by the client", fmt.Errorf("load: %w", context.Canceled), 500, nil,
			object{"error": "internal", "message": "This is a fault on our side. Please try again in a moment."}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := newRenderer(t)

			w := httptest.NewRecorder()
			p.Error(w, httptest.NewRequest("GET", "/reports", nil), tt.err)
			checkErrorHeader(t, w, tt.status, "application/json", tt.header)
			tt.json["request_id"] = requestID
			var got object
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("JSON body %q: %v", w.Body, err)
			}
			if diff := cmp.Diff(tt.json, got); diff != "" {
				t.Errorf("JSON differs (-want +got):\n%s", diff)
			}

			w = httptest.NewRecorder()
			p.Error(w, browserRequest("GET", "/reports"), tt.err)
			checkErrorHeader(t, w, tt.status, "text/html; charset=utf-8", tt.header)
			for _, want := range append(tt.html, requestID) {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("page lacks %q:\n%s", want, w.Body)
				}
			}
		})
	}
}

// checkErrorHeader checks what every error answer carries, and that nothing of
// it holds the cause.
func checkErrorHeader(t *testing.T, w *httptest.ResponseRecorder, status int, contentType string, extra map[string]string) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status = %d, want %d", w.Code, status)
	}
	want := map[string]string{
		"Content-Type":            contentType,
		"Cache-Control":           "no-store",
		"Vary":                    "Cookie",
		"X-Content-Type-Options":  "nosniff",
		"X-Frame-Options":         "DENY",
		"Referrer-Policy":         "strict-origin",
		"Content-Security-Policy": plainPolicy,
	}
	for name, value := range extra {
		want[name] = value
	}
	got := make(map[string]string)
	for name, values := range w.Header() {
		got[name] = strings.Join(values, " | ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("header differs (-want +got):\n%s", diff)
	}
	if everything := fmt.Sprint(w.Header(), w.Body); strings.Contains(everything, "s3cr3t") {
		t.Errorf("the answer holds the cause: %s", everything)
	}
}

func TestErrorReplacesWhatWasSaidAboutAnotherBody(t *testing.T) {
	p, _ := newRenderer(t)
	w := httptest.NewRecorder()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Content-Range", "Content-Disposition", "ETag", "Last-Modified", "Expires", "Location"} {
		w.Header().Set(name, "stale")
	}
	w.Header().Set("Cache-Control", "public, max-age=60")
	w.Header().Set("Vary", "Origin")
	w.Header().Set("Set-Cookie", "authproxy_flow_1=; Max-Age=0")
	w.Header().Set("Access-Control-Allow-Origin", "https://a.example")
	p.Error(w, httptest.NewRequest("GET", "/", nil), errSecret)

	if got := fmt.Sprint(w.Header()); strings.Contains(got, "stale") {
		t.Errorf("header still describes the other body: %s", got)
	}
	for name, want := range map[string]string{
		"Cache-Control":               "no-store",
		"Vary":                        "Origin, Cookie",
		"Set-Cookie":                  "authproxy_flow_1=; Max-Age=0",
		"Access-Control-Allow-Origin": "https://a.example",
	} {
		if got := strings.Join(w.Header().Values(name), ", "); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestHEADHasNoBody(t *testing.T) {
	p, _ := newRenderer(t)
	for name, r := range map[string]*http.Request{
		"page": browserRequest("HEAD", "/"),
		"JSON": httptest.NewRequest("HEAD", "/", nil),
	} {
		w := httptest.NewRecorder()
		p.Error(w, r, &Error{Status: 403})
		if w.Code != 403 || w.Body.Len() != 0 || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: got %d %v with body %q, want 403, a Content-Type and no body", name, w.Code, w.Header(), w.Body)
		}
	}
}

func TestErrorsAreLoggedWithTheCauseAndWithoutTheQuery(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name  string
		ctx   context.Context
		err   error
		level string
		want  []string
	}{
		{"our fault", t.Context(), errSecret, "ERROR", []string{"status=500", "code=internal", "s3cr3t-cause"}},
		{"upstream's fault", t.Context(), &Error{Status: 502, Err: errSecret}, "ERROR", []string{"status=502", "s3cr3t-cause"}},
		{"refusal", t.Context(), &Error{Status: 403, Rule: "admins"}, "DEBUG", []string{"status=403", "rule=admins"}},
		{"anonymous", t.Context(), &Error{Status: 401}, "DEBUG", []string{"status=401"}},
		{"unknown path", t.Context(), &Error{Status: 404}, "DEBUG", []string{"status=404"}},
		{"client went away", cancelled, fmt.Errorf("load: %w", context.Canceled), "DEBUG", []string{"status=499", "code=canceled"}},
		{"what was wrapped around it", t.Context(), fmt.Errorf("web: callback: %w", &Error{Status: 400}), "DEBUG", []string{"web: callback"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, log := newRenderer(t)
			r := httptest.NewRequest("GET", "/auth/callback/corp?code=c0de&state=st4te", nil).WithContext(tt.ctx)
			p.Error(httptest.NewRecorder(), r, tt.err)
			got := log.String()
			for _, want := range append(tt.want, "level="+tt.level, "method=GET", "path=/auth/callback/corp ", "request_id="+requestID) {
				if !strings.Contains(got, want) {
					t.Errorf("log = %s, want %q in it", got, want)
				}
			}
			if strings.Contains(got, "c0de") || strings.Contains(got, "st4te") || strings.Count(got, "\n") != 1 {
				t.Errorf("log = %s, want one line without the query", got)
			}
		})
	}
}

func TestAsError(t *testing.T) {
	original := &Error{Status: 403}
	got := AsError(original)
	if got == original || original.Code != "" {
		t.Errorf("AsError changed the error that it was given: %+v", original)
	}
	if got.Code != "forbidden" || got.Title == "" || got.Message == "" {
		t.Errorf("AsError(403) = %+v, want code, title and message", got)
	}
	if got := AsError(fmt.Errorf("x: %w", context.Canceled)); got.Status != 499 || !errors.Is(got, context.Canceled) {
		t.Errorf("AsError(cancelled) = %d %v, want 499 and the cause", got.Status, got)
	}
	if got := AsError(nil); got != nil {
		t.Errorf("AsError(nil) = %+v, want nil", got)
	}
	if got := AsError(errSecret); strings.Contains(got.Title+got.Message+got.Hint, "s3cr3t") || !errors.Is(got, errSecret) {
		t.Errorf("AsError(other) = %+v, want the cause in Err alone", got)
	}
}

func TestErrorText(t *testing.T) {
	tests := []struct {
		name string
		err  *Error
		want string
	}{
		{"message and cause", &Error{Message: "No.", Err: errors.New("why")}, "No.: why"},
		{"message alone", &Error{Message: "No."}, "No."},
		{"code stands in for the message", &Error{Code: "forbidden", Err: errors.New("why")}, "forbidden: why"},
		{"status stands in for both", &Error{Status: 502}, "status 502"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%s: Error() = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestRetryAfterIsRoundedUp(t *testing.T) {
	tests := []struct {
		after        time.Duration
		header, page string
	}{
		{-time.Second, "", ""},
		{0, "", ""},
		{1, "1", "in a second."},
		{time.Second, "1", "in a second."},
		{1001 * time.Millisecond, "2", "in 2 seconds."},
		{time.Minute, "60", "in a minute."},
		{61 * time.Second, "61", "in 2 minutes."},
		{1<<63 - 1, "9223372037", "minutes."},
	}
	for _, tt := range tests {
		p, _ := newRenderer(t)
		w := httptest.NewRecorder()
		p.Error(w, browserRequest("GET", "/"), &Error{Status: 503, RetryAfter: tt.after})
		if got := w.Header().Get("Retry-After"); got != tt.header {
			t.Errorf("RetryAfter %v: header %q, want %q", tt.after, got, tt.header)
		}
		if body := w.Body.String(); !strings.Contains(body, tt.page) || strings.Contains(body, "You can try again") != (tt.page != "") {
			t.Errorf("RetryAfter %v: want %q on the page:\n%s", tt.after, tt.page, body)
		}
	}
}

func TestHandler(t *testing.T) {
	tests := []struct {
		name    string
		handler HandlerFunc
		status  int
		body    string // "" = a JSON error
		log     string
	}{
		{"success is left alone", func(w http.ResponseWriter, _ *http.Request) error {
			_, err := io.WriteString(w, "fine")
			return err
		}, 200, "fine", ""},
		{"error is answered", func(http.ResponseWriter, *http.Request) error {
			return &Error{Status: 403}
		}, 403, "", "request failed"},
		{"error after the first byte is only logged", func(w http.ResponseWriter, _ *http.Request) error {
			io.WriteString(w, "half")
			return errSecret
		}, 200, "half", "after its answer began"},
		{"error after the status is only logged", func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusAccepted)
			return errSecret
		}, 202, "", "after its answer began"},
		{"error after a flush is only logged", func(w http.ResponseWriter, _ *http.Request) error {
			w.(http.Flusher).Flush()
			return errSecret
		}, 200, "", "after its answer began"},
		{"error after early hints is answered", func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusEarlyHints)
			return &Error{Status: 403}
		}, 403, "", "request failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, log := newRenderer(t)
			// A real server: a recorder takes 103 for the answer.
			s := httptest.NewServer(p.Handler(tt.handler))
			defer s.Close()
			res, err := s.Client().Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			s.Close() // waits for the handler, and so for its log line
			if res.StatusCode != tt.status {
				t.Errorf("status = %d, want %d", res.StatusCode, tt.status)
			}
			answered := strings.Contains(string(body), `"error":"forbidden"`)
			if tt.status == 403 && !answered || tt.status != 403 && string(body) != tt.body {
				t.Errorf("body = %q, want %q or the error", body, tt.body)
			}
			if got := log.String(); !strings.Contains(got, tt.log) || tt.log == "" && got != "" || strings.Contains(got, "superfluous") {
				t.Errorf("log = %q, want %q", got, tt.log)
			}
		})
	}
}

func TestHandlerLetsAConnectionBeTakenOver(t *testing.T) {
	p, log := newRenderer(t)
	taken := p.Handler(func(w http.ResponseWriter, _ *http.Request) error {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntaken")
		return errSecret
	})
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		taken.ServeHTTP(w, r)
	}))
	defer s.Close()
	res, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "taken" {
		t.Errorf("body = %q, %v, want what the handler wrote to the connection", body, err)
	}
	<-done // the server does not wait for a connection that was taken over
	if got := log.String(); !strings.Contains(got, "after its answer began") {
		t.Errorf("log = %q, want the error, and no attempt to answer it", got)
	}
}

func TestHandlerPassesOnWhatTheConnectionCanDo(t *testing.T) {
	p, _ := newRenderer(t)
	s := httptest.NewServer(p.Handler(func(w http.ResponseWriter, _ *http.Request) error {
		return http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute))
	}))
	defer s.Close()
	res, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("status = %d, want 200: SetWriteDeadline was not passed on", res.StatusCode)
	}
}

// bareWriter is a ResponseWriter that can neither flush nor be hijacked.
type bareWriter struct{ http.ResponseWriter }

func TestErrorIsAnsweredWhenFlushOrHijackWasNotPossible(t *testing.T) {
	p, _ := newRenderer(t)
	w := httptest.NewRecorder()
	p.Handler(func(w http.ResponseWriter, _ *http.Request) error {
		err := http.NewResponseController(w).Flush()
		_, _, hijackErr := w.(http.Hijacker).Hijack()
		return errors.Join(err, hijackErr)
	}).ServeHTTP(bareWriter{w}, httptest.NewRequest("GET", "/", nil))
	if w.Code != 500 {
		t.Errorf("status = %d, want 500", w.Code)
	}
}
