package proxy

import (
	"bufio"
	"crypto/rand"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"authproxy/policy"
)

// requestID is the header that names a request in logs, pages and upstreams.
const requestID = "X-Request-Id"

// nameRequest names the request with the header h: a trusted proxy's name is
// kept, if it is one.
func (p *Proxy) nameRequest(h http.Header, trusted bool) {
	if id := h[requestID]; trusted && len(id) == 1 && isID(id[0]) {
		return
	}
	h[requestID] = []string{rand.Text()}
}

func isID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return id != "" && len(id) <= 128
}

// A recorder notes what an answer was.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	// http10 says that the client speaks HTTP/1.0, and takes whatever comes first
	// for the answer.
	http10 bool
	// upgrade takes over the connection of a request that was let through; nil
	// for any other.
	upgrade func(net.Conn) net.Conn
}

func (rec *recorder) WriteHeader(status int) {
	switch {
	case status < 200 && status != http.StatusSwitchingProtocols:
		// An announcement like 103 comes straight from the upstream, and nobody
		// has looked for cookies of ours in it.
		rec.Header().Del("Set-Cookie")
		if rec.http10 {
			return // RFC 9110, section 15.2
		}
	case rec.status == 0:
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) Write(b []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	n, err := rec.ResponseWriter.Write(b)
	rec.bytes += int64(n)
	return n, err
}

// Hijack notes the upgrade; the caller writes the answer itself.
func (rec *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if rec.status == 0 {
		rec.status = http.StatusSwitchingProtocols
	}
	conn, buffered, err := http.NewResponseController(rec.ResponseWriter).Hijack()
	if err != nil || rec.upgrade == nil {
		return conn, buffered, err
	}
	return rec.upgrade(conn), buffered, nil
}

// Unwrap lets http.ResponseController find what the server's writer can do.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// metrics count requests. Counters are looked up by label values once and then
// kept: the look-up costs more than the counting.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	mu       sync.RWMutex
	cells    map[cell]cellMetrics
}

// A cell is one combination of labels. All values come from configuration, so
// there are few.
type cell struct{ face, decision, route string }

type cellMetrics struct {
	count    prometheus.Counter
	duration prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) *metrics {
	labels := []string{"face", "decision", "route"}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authproxy_requests_total", Help: "Requests by face (proxy, own, nginx, forward, envoy, grpc, oauth2), decision and route.",
		}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "authproxy_request_duration_seconds", Help: "Time until the answer was complete, the upstream's included.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 10},
		}, labels),
		cells: map[cell]cellMetrics{},
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration)
	}
	return m
}

func (m *metrics) observe(c cell, d time.Duration) {
	m.mu.RLock()
	found, ok := m.cells[c]
	m.mu.RUnlock()
	if !ok {
		found = cellMetrics{m.requests.WithLabelValues(c.face, c.decision, c.route), m.duration.WithLabelValues(c.face, c.decision, c.route)}
		m.mu.Lock()
		m.cells[c] = found
		m.mu.Unlock()
	}
	found.count.Inc()
	found.duration.Observe(d.Seconds())
}

// observe counts the original in x and writes its line in the log: no query, no
// cookie, no token.
func (p *Proxy) observe(rec *recorder, x *exchange, begun time.Time) {
	took, o, face := p.Now().Sub(begun), &x.original, x.original.face
	decision, route := decisionOf(x, rec.status, face), ""
	if x.route != nil {
		route = x.route.name
	}
	p.metrics.observe(cell{face, decision, route}, took)
	if p.AccessLog == nil || p.LogRequests == LogNone || p.LogRequests == LogDenied && (decision == "allow" || decision == "own") {
		return
	}
	l := p.lines.get(p.Now())
	defer p.lines.put(l)
	l.text("request_id", o.header.Get(requestID))
	l.text("face", face)
	l.text("decision", decision)
	l.text("method", o.method)
	l.text("host", o.host)
	l.text("path", o.request.URL.Path)
	l.number("status", int64(rec.status))
	l.number("bytes", rec.bytes)
	l.millis("duration_ms", took)
	if o.client.IsValid() {
		l.text("client_ip", o.client.String())
	}
	l.text("route", route)
	l.text("rule", x.verdict.decision.Rule)
	switch {
	case x.reason != "":
		l.text("reason", x.reason)
	case x.verdict.decision.Outcome != policy.Allow:
		l.text("reason", x.verdict.decision.Reason)
	}
	if who := x.verdict.who; who != nil {
		l.text("user", who.User.ID)
	}
	p.AccessLog.Write(l.end()) // there is nowhere to report a log that cannot be written
}

// decisionOf names the decision in logs and metrics: that of the rules, or
// "invalid" for a request that did not get that far.
func decisionOf(x *exchange, status int, face string) string {
	switch {
	case face == faceOwn:
		return "own"
	case x.route != nil || x.verdict.decision.Outcome != policy.Deny:
		return x.verdict.decision.Outcome.String()
	case x.verdict.decision.Reason != "":
		return policy.Deny.String()
	case status >= 500:
		return "error"
	}
	return "invalid"
}
