package web

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	signIns  *prometheus.CounterVec
	handOffs *prometheus.CounterVec
}

// newMetrics returns the metrics, registered with reg unless it is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{signIns: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authproxy_sign_ins_total", Help: "Sign-ins by provider and outcome; begun counts those sent to the provider.",
	}, []string{"provider", "outcome"}), handOffs: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authproxy_hand_offs_total", Help: "Sessions handed to hosts outside cookie.domain, by outcome; begun and given count the way, success its end.",
	}, []string{"outcome"})}
	if reg != nil {
		reg.MustRegister(m.signIns, m.handOffs)
	}
	return m
}
