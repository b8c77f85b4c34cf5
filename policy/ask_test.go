package policy_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authproxy/policy"
)

func TestAnAskTravelsInAQuery(t *testing.T) {
	for query, want := range map[string]*policy.Ask{
		"":                                       nil,
		"rd=/&max_age=x&acr_values=":             nil,
		"max_age=-1":                             nil,
		"max_age=99999999999":                    nil,
		"amr=" + strings.Repeat("x", 513):        nil,
		"acr_values=gold":                        {ACRValues: []string{"gold"}},
		"acr_values=a+b&amr=otp+hwk&max_age=300": {ACRValues: []string{"a", "b"}, AMR: []string{"otp", "hwk"}, MaxAge: 5 * time.Minute},
		"max_age=60&acr_values=" + strings.Repeat("x", 513): {MaxAge: time.Minute},
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		got := policy.ParseAsk(q)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%.60s (-want +got):\n%s", query, diff)
		}
		if again := policy.ParseAsk(got.Query()); !cmp.Equal(got, again) {
			t.Errorf("%.60s comes back as %v, want %v", query, again, got)
		}
	}
}
