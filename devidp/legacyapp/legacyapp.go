// Package legacyapp is the application behind `authproxy demo`: it knows
// nothing about sign-in and shows the request that reached it, so that one can
// see what authproxy adds and takes away. [Handler] is all there is.
//
// It believes every header it is sent, as old applications do. It must
// therefore never be reachable except through a proxy.
package legacyapp

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

const (
	eventCount     = 5
	eventInterval  = 100 * time.Millisecond
	maxBigBytes    = 1 << 30
	maxMessageSize = 1 << 20 // bytes, of a WebSocket message
)

// Handler returns the application. Its page has a button that signs out by a
// POST to prefix + "/sign-out"; prefix is where authproxy is, such as "/auth".
//
// Any path shows the request: as a page, or, for a client that accepts
// application/json and does not ask for HTML first, as
//
//	{"method": "GET", "path": "/a?b=c", "headers": {"Accept": ["application/json"], "Host": ["…"]}}
//
// where path is the request target as received; "body_bytes" is there when the
// method is neither GET nor HEAD. Three paths do something else: /events sends
// five server-sent events, /ws echoes WebSocket messages, and /big?bytes=N
// sends N bytes, at most 1 GiB.
func Handler(prefix string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// No ServeMux: it would redirect paths such as "//a" instead of showing
		// them.
		switch r.URL.Path {
		case "/events":
			serveEvents(w, r)
		case "/ws":
			serveEcho(w, r)
		case "/big":
			serveBig(w, r)
		default:
			serveRequest(w, r, prefix)
		}
	})
}

// received is a request as it arrived.
type received struct {
	Method    string              `json:"method"`
	Path      string              `json:"path"`
	Headers   map[string][]string `json:"headers"`
	BodyBytes *int64              `json:"body_bytes,omitempty"`
}

func serveRequest(w http.ResponseWriter, r *http.Request, prefix string) {
	got, err := receive(r)
	if err != nil {
		http.Error(w, "the body ended early", http.StatusBadRequest)
		return
	}
	w.Header().Set("Vary", "Accept")
	if !prefersJSON(r.Header.Get("Accept")) {
		renderPage(w, got, r.URL.Path, prefix)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.Encode(got)
}

// receive reads r to its end. The body is counted, never kept.
func receive(r *http.Request) (*received, error) {
	got := &received{Method: r.Method, Path: r.RequestURI, Headers: r.Header.Clone()}
	got.Headers["Host"] = []string{r.Host} // net/http moves it out of the header
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return got, nil
	}
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return nil, fmt.Errorf("legacyapp: read the body: %w", err)
	}
	got.BodyBytes = &n
	return got, nil
}

// prefersJSON reports whether accept names application/json before text/html.
func prefersJSON(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		mediaType, _, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		switch mediaType {
		case "application/json":
			return true
		case "text/html":
			return false
		}
	}
	return false
}

// serveEvents sends the first event at once, so that a proxy that buffers is
// seen to.
func serveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	ticker := time.NewTicker(eventInterval)
	defer ticker.Stop()
	for n := 1; n <= eventCount; n++ {
		fmt.Fprintf(w, "id: %d\ndata: event %d of %d\n\n", n, n, eventCount)
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		if n == eventCount {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}

// serveEcho sends each message back until the client closes.
func serveEcho(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		// A proxy may rewrite Host, and then the page's Origin never matches it.
		// An echo tells a foreign page only what it said itself.
		InsecureSkipVerify: true,
	})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessageSize)
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil {
			return // closed by the client, or gone
		}
		if err := conn.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}

// serveBig sends as many bytes as the query asks for.
func serveBig(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
	if err != nil || n < 0 {
		http.Error(w, "bytes must be a number, as in /big?bytes=1000", http.StatusBadRequest)
		return
	}
	n = min(n, maxBigBytes)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	chunk := []byte(strings.Repeat("0123456789abcde\n", 2048))
	for n > 0 {
		written, err := w.Write(chunk[:min(n, int64(len(chunk)))])
		if err != nil {
			return // the client has had enough, or asked with HEAD
		}
		n -= int64(written)
	}
}
