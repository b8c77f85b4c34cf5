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
