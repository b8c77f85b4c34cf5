package session

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	created, ended         *prometheus.CounterVec
	refreshes              *prometheus.CounterVec
	renewed                prometheus.Counter
	cacheHits, cacheMisses prometheus.Counter
	cookieBytes            prometheus.Histogram
}

// newMetrics returns the metrics, registered with reg unless it is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		created: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authproxy_sessions_created_total", Help: "Sessions begun, by provider.",
		}, []string{"provider"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authproxy_sessions_ended_total", Help: "Sessions ended before their time, by cause.",
		}, []string{"cause"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authproxy_refreshes_total", Help: "Refreshes of a provider's tokens, by provider and outcome: success, revoked, superseded or unavailable.",
		}, []string{"provider", "outcome"}),
		renewed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "authproxy_sessions_renewed_total", Help: "Sessions whose window slid.",
		}),
		cacheHits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "authproxy_session_cache_hits_total", Help: "Session cookies that were found opened in memory.",
		}),
		cacheMisses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "authproxy_session_cache_misses_total", Help: "Session cookies that had to be opened, valid or not.",
		}),
		cookieBytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "authproxy_session_cookie_bytes", Help: "Size of the session cookies written.",
			Buckets: []float64{512, 768, 1024, 1536, 2048, 3800, 7600, 15200},
		}),
	}
	if reg != nil {
		reg.MustRegister(m.created, m.ended, m.refreshes, m.renewed, m.cacheHits, m.cacheMisses, m.cookieBytes)
	}
	return m
}

// storeMetrics are those of the database strategy.
type storeMetrics struct {
	latency                 *prometheus.HistogramVec
	errors, invalidations   *prometheus.CounterVec
	bypasses, raced, breaks prometheus.Counter
	swept, unreadable       prometheus.Counter
	unrecorded              prometheus.Counter
}

// newStoreMetrics returns the metrics of t, registered with reg unless it is
// nil.
func newStoreMetrics(reg prometheus.Registerer, t *stored) *storeMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "authproxy_session_" + name, Help: help})
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "authproxy_session_" + name, Help: help}, f)
	}
	m := &storeMetrics{
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "authproxy_session_store_seconds", Help: "How long calls of the session store took, by operation.",
			Buckets: []float64{.0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3},
		}, []string{"op"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authproxy_session_store_errors_total", Help: "Calls of the session store that failed, by operation.",
		}, []string{"op"}),
		invalidations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authproxy_session_cache_invalidations_total", Help: "What the session store told to have changed, by kind: session, user or all.",
		}, []string{"kind"}),
		bypasses:   counter("cache_bypasses_total", "Checks that read the store because it did not tell what changes."),
		raced:      counter("cache_raced_reads_total", "Readings of the store that were made again because the session changed meanwhile."),
		breaks:     counter("channel_breaks_total", "How often the store stopped telling what changes."),
		swept:      counter("store_swept_total", "Sessions and audit events deleted because they were over."),
		unreadable: counter("store_unreadable_tokens_total", "Provider tokens in the store that no key opened."),
		unrecorded: counter("audit_dropped_total", "Audit events that the store did not get."),
	}
	if reg != nil {
		reg.MustRegister(m.latency, m.errors, m.invalidations, m.bypasses, m.raced, m.breaks, m.swept, m.unreadable, m.unrecorded,
			gauge("channel_up", "1 while the store tells what changes, else 0.", func() float64 {
				if t.up.Load() && !t.blind(t.Now()) {
					return 1
				}
				return 0
			}),
			gauge("channel_lag_seconds", "How long ago the time is as of which all changes in the store are known.", func() float64 {
				return t.lag(t.Now()).Seconds()
			}),
			gauge("cache_entries", "Sessions held in memory.", func() float64 { return float64(t.size()) }),
			gauge("cache_bytes", "About how much memory the sessions held take.", func() float64 { return float64(t.cookies.WeightedSize()) }),
		)
	}
	return m
}

// count notes what c names.
func (m *storeMetrics) count(c Change) {
	if c.All {
		m.invalidations.WithLabelValues("all").Inc()
	}
	if n := len(c.Sessions); n > 0 {
		m.invalidations.WithLabelValues("session").Add(float64(n))
	}
	if n := len(c.Users); n > 0 {
		m.invalidations.WithLabelValues("user").Add(float64(n))
	}
}
