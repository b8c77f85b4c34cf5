package page

import (
	"bufio"
	"errors"
	"net"
	"net/http"
)

// A HandlerFunc is an [http.HandlerFunc] that may fail. It must not write a
// response before it returns an error.
type HandlerFunc func(w http.ResponseWriter, r *http.Request) error

// Handler adapts h to [http.Handler] and answers the error it returns as
// [Renderer.Error] does. Once h has sent its first byte, or taken over the
// connection, an error can only be logged.
func (p *Renderer) Handler(h HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &trackingWriter{ResponseWriter: w}
		err := h(t, r)
		switch {
		case err == nil:
		case t.started:
			p.logError(r, "request failed after its answer began", p.resolve(r, err), err)
		default:
			p.Error(w, r, err)
		}
	})
}

// A trackingWriter knows whether the response has started. It passes on
// flushing and hijacking, which streams and WebSockets need, and through
// Unwrap the rest of what [http.ResponseController] can do.
type trackingWriter struct {
	http.ResponseWriter
	started bool
}

func (t *trackingWriter) WriteHeader(status int) {
	// 1xx are announcements, except for 101, which ends HTTP.
	if status >= 200 || status == http.StatusSwitchingProtocols {
		t.started = true
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *trackingWriter) Write(b []byte) (int, error) {
	t.started = true
	return t.ResponseWriter.Write(b)
}

func (t *trackingWriter) Flush() { _ = t.FlushError() }

func (t *trackingWriter) FlushError() error {
	err := http.NewResponseController(t.ResponseWriter).Flush()
	if !errors.Is(err, http.ErrNotSupported) {
		t.started = true
	}
	return err
}

func (t *trackingWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err == nil {
		t.started = true
	}
	return conn, rw, err
}

func (t *trackingWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }
