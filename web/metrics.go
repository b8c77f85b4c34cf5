package web

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	signIns *prometheus.CounterVec
}

// newMetrics returns the metrics, registered with reg unless it is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{signIns: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authproxy_sign_ins_total", Help: "Sign-ins by provider and outcome; begun counts those sent to the provider.",
	}, []string{"provider", "outcome"})}
	if reg != nil {
		reg.MustRegister(m.signIns)
	}
	return m
}
