package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"authproxy/page"
)

// isGRPC says by Content-Type whether a request with the headers h is a gRPC
// call (gRPC over HTTP2, "Requests"), or one of gRPC-Web.
func isGRPC(h http.Header) bool {
	media, _, _ := strings.Cut(strings.ToLower(h.Get("Content-Type")), ";")
	media, _, _ = strings.Cut(strings.TrimSpace(media), "+")
	return media == "application/grpc" || media == "application/grpc-web" || media == "application/grpc-web-text"
}

// answerGRPC answers a call that fails here with headers alone ("Trailers-Only").
// A client of gRPC shows nothing else of an answer to its caller.
func (p *Proxy) answerGRPC(w http.ResponseWriter, r *http.Request, e *page.Error) {
	level := slog.LevelDebug // the line of the request says that it was refused
	if e.Status >= 500 {
		level = slog.LevelError
	}
	p.Log.LogAttrs(r.Context(), level, "call failed", slog.Int("status", e.Status), slog.String("code", e.Code),
		slog.String("path", r.URL.Path), slog.String("request_id", r.Header.Get(requestID)), slog.Any("err", e))
	h := w.Header()
	h.Set("Content-Type", r.Header.Get("Content-Type"))
	h.Set("Cache-Control", "no-store")
	h.Set("Grpc-Status", strconv.Itoa(grpcStatus(e.Status)))
	h.Set("Grpc-Message", url.PathEscape(e.Message))
	w.WriteHeader(http.StatusOK)
}

// grpcStatus returns the status of gRPC for one of HTTP, as gRPC's own "HTTP to
// gRPC Status Code Mapping" has it.
func grpcStatus(status int) int {
	switch status {
	case http.StatusBadRequest:
		return 13 // INTERNAL
	case http.StatusUnauthorized:
		return 16 // UNAUTHENTICATED
	case http.StatusForbidden:
		return 7 // PERMISSION_DENIED
	case http.StatusNotFound:
		return 12 // UNIMPLEMENTED
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}

// passTrailers hands the trailers of a gRPC call on, except for names that no
// client may use, and drops all others: some servers merge trailers into the
// headers (RFC 9110, section 6.5.1). It is a gRPC call if the upstream sees one: a
// client that names Content-Type in Connection has it taken out.
func (p *Proxy) passTrailers(in, out *http.Request) {
	out.Trailer = nil
	if !isGRPC(out.Header) || len(in.Trailer) == 0 || out.Body == nil {
		return
	}
	trailer := http.Header{}
	for name := range in.Trailer {
		if !p.neverTrailers.matches(name) {
			trailer[name] = nil
		}
	}
	out.Trailer, out.ContentLength = trailer, -1 // HTTP/1.1 has trailers with chunks only
	out.Body = &trailedBody{ReadCloser: out.Body, from: in.Trailer, to: trailer}
}

// A trailedBody fills in the trailers that it has announced. They are known when
// the body was read.
type trailedBody struct {
	io.ReadCloser
	from, to http.Header
}

func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name := range b.to {
			b.to[name] = b.from[name]
		}
	}
	return n, err
}
