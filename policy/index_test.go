package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authproxy/policy"
)

// TestTheIndexFindsWhatAScanFinds: Explain asks each rule in turn, Decide those
// that the index offers. The rules are of several kinds, from those that all
// select by one thing to those that select by everything.
func TestTheIndexFindsWhatAScanFinds(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	kinds := map[string]shape{
		"paths":          {path: 1},
		"hosts":          {host: 1},
		"methods":        {methods: 1},
		"clients":        {clients: 1},
		"all":            {path: 1, host: 1, methods: 1, clients: 1},
		"some":           {path: 0.7, host: 0.4, methods: 0.3, clients: 0.2},
		"mostly clients": {path: 0.1, clients: 0.9},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			decided := 0
			for range 60 {
				set := compile(t, kind.rules(random, 1+random.IntN(80))...)
				for range 50 {
					r := randomRequest(t, random)
					got, want := set.Decide(r, nil), set.Explain(r, nil)
					if diff := cmp.Diff(want.Decision, got); diff != "" {
						t.Fatalf("%+v (-scan +index):\n%s", r, diff)
					}
					if got.Rule != "" {
						decided++
					}
				}
			}
			if decided < 100 {
				t.Errorf("a rule decided %d times of 3,000; the rules are of no use", decided)
			}
		})
	}
}

// A shape is how likely a rule is to select by something.
type shape struct{ path, host, methods, clients float64 }

func (s shape) rules(random *rand.Rand, n int) []policy.Rule {
	var rules []policy.Rule
	for i := range n {
		rule := policy.Rule{Name: fmt.Sprint(i), Require: &policy.Require{SignedIn: true}}
		switch random.IntN(3) {
		case 0:
			rule.Preflight = "pass"
		case 1:
			rule.Require, rule.Allow = nil, "anyone"
		}
		if random.Float64() < s.path {
			rule.Path = randomPath(random, "a", "b", "c", "d", "**", "**", "*", "a*", "*.css", "b*c", "*b*")
		}
		if random.Float64() < s.host {
			rule.Host = one(random, "x.test", "y.x.test", "*.x.test", "*.y.x.test", "X.test:81", "[::1]", "[::1]:81", "*.test", "*.x.test:81", "z.test")
		}
		for random.Float64() < s.methods && len(rule.Methods) < 3 {
			rule.Methods = append(rule.Methods, one(random, "GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"))
		}
		for random.Float64() < s.clients && len(rule.Clients) < 3 {
			network := one(random, "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "10.2.0.0/16", "10.0.0.0/7", "192.0.2.1/32", "::ffff:192.0.2.0/120", "fd00::/8", "fd00::1/128", "::/1")
			rule.Clients = append(rule.Clients, netip.MustParsePrefix(network))
		}
		rules = append(rules, rule)
	}
	return rules
}

func randomRequest(t *testing.T, random *rand.Rand) *policy.Request {
	t.Helper()
	host := one(random, "x.test", "X.TEST.", "y.x.test", "y.x.test:81", "z.y.x.test:81", "x.test:81", "[::1]", "[0::1]:81", "[::2]", "test", "127.0.0.1", "z.test:80")
	path := randomPath(random, "a", "b", "c", "d", "ab", "x.css", "bxc", "")
	r := request(t, one(random, "GET", "HEAD", "POST", "OPTIONS", "PATCH")+" "+host+path)
	if r.Method == "OPTIONS" {
		r.Preflight = one(random, "", "GET", "HEAD", "PUT", "DELETE")
	}
	r.ClientIP = netip.MustParseAddr(one(random, "10.1.2.3", "10.1.2.4", "10.1.9.9", "10.2.0.1", "11.0.0.1", "::ffff:192.0.2.1", "192.0.2.2", "fd00::1", "fd00::2", "2001:db8::1"))
	return r
}

func one(random *rand.Rand, of ...string) string { return of[random.IntN(len(of))] }

// randomPath is of one to four segments, rarely of very many.
func randomPath(random *rand.Rand, segments ...string) string {
	n := 1 + random.IntN(4)
	if random.IntN(20) == 0 {
		n = 40
	}
	var b strings.Builder
	for range n {
		b.WriteString("/" + one(random, segments...))
	}
	return b.String()
}

// TestALongPathIsJudgedInTheTimeOfAScan: each of many rules has to look at the
// whole of it, which must not be done anew for each segment.
func TestALongPathIsJudgedInTheTimeOfAScan(t *testing.T) {
	var rules []policy.Rule
	path := ""
	for i := range 100 {
		rules = append(rules, policy.Rule{Name: fmt.Sprint(i), Path: fmt.Sprintf("/**/s%d/**/end", 99-i), Allow: "anyone"})
		path += fmt.Sprintf("/s%d", i)
	}
	set, many := compile(t, rules...), strings.Repeat("/s7", 10_000)
	for asked, want := range map[string]string{path + many + "/end": "0", many + path + "/end": "0", many + "/end": "92", path + "/end": "0"} {
		if got := set.Decide(request(t, "GET x.test"+asked), nil); got.Rule != want {
			t.Errorf("%d bytes: Decide = %+v, want rule %q", len(asked), got, want)
		}
	}
	r := request(t, "GET x.test"+many)
	began := time.Now()
	set.Explain(r, nil)
	scan := time.Since(began)
	began = time.Now()
	set.Decide(r, nil)
	if took := time.Since(began); took > 10*scan { // it is half of that; for each segment anew, it would be fifty times
		t.Errorf("Decide took %v, and asking each rule %v", took, scan)
	}
}

// BenchmarkDecideShapes has a thousand rules that have something in common, and
// the last of them decides, or none.
func BenchmarkDecideShapes(b *testing.B) {
	path := func(pattern string) func(i int) policy.Rule {
		return func(i int) policy.Rule { return policy.Rule{Path: fmt.Sprintf(pattern, i)} }
	}
	network := func(i int) []netip.Prefix {
		return []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 32)}
	}
	shapes := map[string]struct {
		rule  func(i int) policy.Rule
		asked string // from 10.3.231.1, the network of the last
	}{
		"a host each":                         {func(i int) policy.Rule { return policy.Rule{Host: fmt.Sprintf("app%d.example.com", i)} }, "GET app999.example.com/x"},
		"a domain each":                       {func(i int) policy.Rule { return policy.Rule{Host: fmt.Sprintf("*.app%d.example.com", i)} }, "GET x.app999.example.com/x"},
		"a port each":                         {func(i int) policy.Rule { return policy.Rule{Host: fmt.Sprintf("a.test:%d", 8000+i)} }, "GET a.test:8999/x"},
		"a first segment each":                {path("/app%d/**"), "GET a.test/app999/x"},
		"a third segment each":                {path("/api/v1/app%d/*"), "GET a.test/api/v1/app999/x"},
		"a star before what differs":          {path("/*/app%d/**"), "GET a.test/x/app999/y"},
		"a double star before a last segment": {path("/**/app%d"), "GET a.test/x/app999"},
		"a double star before a segment":      {path("/**/app%d/**"), "GET a.test/x/app999/y"},
		"a beginning of a segment each":       {path("/app%d-*/**"), "GET a.test/app999-x/y"},
		"an ending of a last segment each":    {path("/**/*.app%d"), "GET a.test/x/y.app999"},
		"a path each, of 10 by 10 by 10":      {func(i int) policy.Rule { return policy.Rule{Path: fmt.Sprintf("/a%d/b%d/c%d", i/100, i/10%10, i%10)} }, "GET a.test/a9/b9/c9"},
		"a network each":                      {func(i int) policy.Rule { return policy.Rule{Clients: network(i)} }, "GET a.test/x"},
		"a network each, of 25 sizes": {func(i int) policy.Rule {
			n := network(i)[0]
			if i < 999 {
				n = netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 1}), 8+i%25)
			}
			return policy.Rule{Clients: []netip.Prefix{n}}
		}, "GET a.test/x"},
		"a method each": {func(i int) policy.Rule {
			return policy.Rule{Path: "/api/**", Methods: []string{fmt.Sprintf("M-%d", i)}}
		}, "M-999 a.test/api/x"},
		"a method and a network for 32 each": {func(i int) policy.Rule {
			return policy.Rule{Path: "/api/**", Methods: []string{fmt.Sprintf("M-%d", i/32)}, Clients: network(i % 32 * 33)}
		}, "M-31 a.test/api/x"},
		"nothing selects":              {path("/app%d/**"), "GET a.test/other"},
		"the middle of a segment each": {path("/*-app%d-*/**"), "GET a.test/x-app999-y/z"},
	}
	for name, shape := range shapes {
		b.Run(name, func(b *testing.B) {
			var rules []policy.Rule
			for i := range 1000 {
				rule := shape.rule(i)
				rule.Require = &policy.Require{SignedIn: true}
				rules = append(rules, rule)
			}
			set, r, who := compile(b, rules...), request(b, shape.asked), alice()
			r.ClientIP = netip.MustParseAddr("10.3.231.1")
			b.ReportAllocs()
			for b.Loop() {
				set.Decide(r, who)
			}
		})
	}
}
