package policy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/policy"
)

// TestTheIndexFindsWhatAScanFinds: Explain asks each rule in turn, Decide those
// that the index offers.
func TestTheIndexFindsWhatAScanFinds(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	path := func(segments ...string) string {
		var b strings.Builder
		for range 1 + random.IntN(4) {
			b.WriteString("/" + one(segments...))
		}
		return b.String()
	}
	decided := 0
	for range 300 {
		var rules []policy.Rule
		for i := range 1 + random.IntN(30) {
			rule := policy.Rule{Name: fmt.Sprint(i), Allow: "anyone"}
			if random.IntN(4) > 0 {
				rule.Path = path("a", "b", "c", "*", "**", "a*", "*.css")
			}
			if random.IntN(2) > 0 {
				rule.Host = one("x.test", "y.x.test", "*.x.test", "*.y.x.test", "X.test:81", "[::1]", "[::1]:81", "*.test")
			}
			if random.IntN(3) == 0 {
				rule.Methods = []string{one("GET", "POST")}
			}
			rules = append(rules, rule)
		}
		set := compile(t, rules...)
		for range 50 {
			host := one("x.test", "X.TEST.", "y.x.test", "z.y.x.test:81", "x.test:81", "[::1]", "[0::1]:81", "[::2]", "test", "127.0.0.1")
			r := request(t, one("GET", "HEAD", "POST")+" "+host+path("a", "b", "c", "ab", "x.css", ""))
			got, want := set.Decide(r, nil), set.Explain(r, nil)
			if diff := cmp.Diff(want.Decision, got); diff != "" {
				t.Fatalf("%s %s%s (-scan +index):\n%s\nrules: %+v", r.Method, r.Host, r.Path.Decoded, diff, rules)
			}
			if got.Rule != "" {
				decided++
			}
		}
	}
	if decided < 1000 {
		t.Errorf("a rule decided %d times of 15,000; the rules are of no use", decided)
	}
}

func TestAPathOnMoreBranchesThanAreKeptIsDecidedAllTheSame(t *testing.T) {
	var rules []policy.Rule
	for depth := range 40 {
		rules = append(rules, policy.Rule{Name: fmt.Sprint(depth), Path: strings.Repeat("/a", depth+1) + "/**/end", Allow: "anyone"})
	}
	rules[0], rules[39] = rules[39], rules[0]
	set := compile(t, rules...)
	r := request(t, "GET x.test"+strings.Repeat("/a", 60)+"/end")
	if got := set.Decide(r, nil); got.Rule != "39" {
		t.Errorf("Decide = %+v, want the first rule, 39", got)
	}
}

// BenchmarkShapes has a thousand rules that have something in common.
func BenchmarkShapes(b *testing.B) {
	shapes := map[string]struct{ host, path, asked string }{
		"a host each":                       {"app%d.example.com", "", "GET app999.example.com/x"},
		"a first segment each":              {"", "/app%d/**", "GET a.test/app999/x"},
		"a third segment each":              {"a.test", "/api/v1/app%d/*", "GET a.test/api/v1/app999/x"},
		"a wildcard before what differs":    {"", "/*/app%d/**", "GET a.test/x/app999/y"},
		"wildcards of one host":             {"*.example.com", "/x/*/app%d", "GET a.example.com/x/y/app999"},
		"a double star before what differs": {"", "/**/app%d", "GET a.test/x/app999"},
		"nothing selects":                   {"", "/app%d/**", "GET a.test/other"},
	}
	for name, shape := range shapes {
		b.Run(name, func(b *testing.B) {
			var rules []policy.Rule
			for i := range 1000 {
				rule := policy.Rule{Require: &policy.Require{SignedIn: true}, Path: shape.path, Host: shape.host}
				if strings.Contains(shape.path, "%d") {
					rule.Path = fmt.Sprintf(shape.path, i)
				}
				if strings.Contains(shape.host, "%d") {
					rule.Host = fmt.Sprintf(shape.host, i)
				}
				rules = append(rules, rule)
			}
			set, r, who := compile(b, rules...), request(b, shape.asked), alice()
			b.ReportAllocs()
			for b.Loop() {
				set.Decide(r, who)
			}
		})
	}
}
