package oauth_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"authproxy/devidp"
	"authproxy/oauth"
)

func TestRequestsAreCountedByProviderAndStatus(t *testing.T) {
	h := newHarness(t)
	registry := prometheus.NewRegistry()
	h.provider = h.fresh(t, func(c *oauth.Config) { c.Metrics = oauth.NewMetrics(registry) })
	h.mustSignIn(t) // discovery, token, keys
	for _, f := range []devidp.Faults{{Down: true}, {Status: map[string]int{"/token": 503}}} {
		login, answer := h.begin(t)
		h.faults(t, f)
		if _, err := h.exchange(t.Context(), t, h.provider, login, answer); err == nil {
			t.Fatal("the sign-in worked, want a failure")
		}
		h.faults(t, devidp.Faults{})
	}
	want := map[string]uint64{"dev 200": 3, "dev 0": 1, "dev 503": 1}
	if diff := cmp.Diff(want, requestCounts(t, registry)); diff != "" {
		t.Errorf("authproxy_provider_request_duration_seconds (-want +got):\n%s", diff)
	}
}

func requestCounts(t *testing.T, registry *prometheus.Registry) map[string]uint64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			counts[fmt.Sprint(labels["provider"], " ", labels["code"])] = m.GetHistogram().GetSampleCount()
		}
	}
	return counts
}

// The harness reads the log at the end of each test. Here is one of everything
// that could be logged.
func TestNothingSecretIsLogged(t *testing.T) {
	h := newHarness(t)
	h.config.Scopes = append(h.config.Scopes, "offline_access")
	h.provider = h.fresh(t, nil)
	h.mustSignIn(t)
	for _, f := range []devidp.Faults{
		{Down: true}, {Garbage: true}, {Alg: "none"}, {OmitIDToken: true}, {LongToken: 64 << 10},
		{ClaimsEdit: set("nonce", "another")}, {ClaimsEdit: set("groups", 1)},
		{Status: map[string]int{"/token": 400}}, {Status: map[string]int{"/token": 500}},
		{EmailInUserinfoOnly: true, Status: map[string]int{"/userinfo": 500}},
	} {
		login, answer := h.begin(t)
		h.faults(t, f)
		if _, err := h.exchange(t.Context(), t, h.provider, login, answer); err == nil {
			t.Error("the sign-in worked, want a failure")
		}
		h.faults(t, devidp.Faults{})
	}
}
