package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/policy"
)

// request makes a request from "METHOD host/path", with the path as sent and
// everything let pass that PathRules can.
func request(t testing.TB, line string) *policy.Request {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	i := strings.IndexByte(target, '/')
	all := policy.PathRules{EncodedSlash: true, Semicolon: true, DoubleSlash: true}
	path, err := all.Parse(target[i:])
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Request{Method: method, Host: target[:i], Path: path}
}

// Bob has an address and a group.
func bob() *policy.Principal {
	return &policy.Principal{ID: "bob", Email: "bob@example.com", Groups: []string{"dev"}}
}

// Alice has a role besides.
func alice() *policy.Principal {
	return &policy.Principal{ID: "alice", Email: "alice@example.com", Groups: []string{"sre"}, Roles: []string{"admin"}}
}

// Eve has nothing but an id.
func eve() *policy.Principal {
	return &policy.Principal{ID: "eve"}
}

func TestDecide(t *testing.T) {
	signedIn := &policy.Require{SignedIn: true}
	site := []policy.Rule{
		{Path: "/public/**", Allow: "anyone"},
		{Name: "admins", Host: "app.example.com", Path: "/admin/**", Methods: []string{"GET", "POST"}, Require: &policy.Require{Roles: []string{"admin"}}},
		{Path: "/admin/**", Deny: true},
		{Path: "/mixed/**", Methods: []string{"GET"}, Allow: "anyone"},
		{Path: "/mixed/**", Methods: []string{"POST"}, Require: signedIn},
		{Host: "*.example.com", Require: signedIn},
	}
	tests := []struct {
		name    string
		request string
		who     *policy.Principal
		want    policy.Outcome
		rule    string
	}{
		{"public for anonymous", "GET app.example.com/public/a", nil, policy.Allow, "rules[0] /public/**"},
		{"public for anyone", "POST app.example.com/public", eve(), policy.Allow, "rules[0] /public/**"},
		{"public on any host", "GET other.test/public/", nil, policy.Allow, "rules[0] /public/**"},
		{"encoded letters do not hide a path", "GET app.example.com/%61dmin/", bob(), policy.Deny, "admins"},

		{"the role is there", "GET app.example.com/admin/users", alice(), policy.Allow, "admins"},
		{"the role is missing", "GET app.example.com/admin/users", bob(), policy.Deny, "admins"},
		{"unmet by anonymous is sign-in", "GET app.example.com/admin", nil, policy.SignIn, "admins"},
		{"second method", "POST app.example.com/admin", alice(), policy.Allow, "admins"},
		{"HEAD goes with GET", "HEAD app.example.com/admin", alice(), policy.Allow, "admins"},
		{"HEAD goes with GET and its requirement", "HEAD app.example.com/admin", bob(), policy.Deny, "admins"},
		{"OPTIONS does not go with GET", "OPTIONS app.example.com/admin", alice(), policy.Deny, "rules[2] /admin/**"},
		{"other method", "DELETE app.example.com/admin", alice(), policy.Deny, "rules[2] /admin/**"},
		{"other host", "GET api.example.com/admin", alice(), policy.Deny, "rules[2] /admin/**"},
		{"host with port and in upper case", "GET APP.example.com:8443/admin", alice(), policy.Allow, "admins"},
		{"host with a trailing dot", "GET app.example.com./admin", bob(), policy.Deny, "admins"},
		{"deny is never sign-in", "DELETE app.example.com/admin", nil, policy.Deny, "rules[2] /admin/**"},

		{"methods apart: read", "GET app.example.com/mixed", nil, policy.Allow, "rules[3] GET /mixed/**"},
		{"methods apart: write", "POST app.example.com/mixed", nil, policy.SignIn, "rules[4] POST /mixed/**"},
		{"HEAD does not go with POST", "HEAD app.example.com/mixed", nil, policy.Allow, "rules[3] GET /mixed/**"},

		{"last rule", "GET app.example.com/", bob(), policy.Allow, "rules[5] *.example.com"},
		{"last rule for anonymous", "GET app.example.com/", nil, policy.SignIn, "rules[5] *.example.com"},
		{"similar path", "GET app.example.com/publicity", nil, policy.SignIn, "rules[5] *.example.com"},
		{"other case", "GET app.example.com/PUBLIC/a", nil, policy.SignIn, "rules[5] *.example.com"},
		{"no rule", "GET other.test/", alice(), policy.Deny, ""},
		{"no rule is never sign-in", "GET other.test/", nil, policy.Deny, ""},

		{"lower-case method", "get app.example.com/mixed", alice(), policy.Deny, ""},
		{"host that cannot be read", "GET app.example.com@evil.test/", alice(), policy.Deny, ""},
		{"no host", "GET /public/", nil, policy.Deny, ""},
	}
	set := compile(t, site...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := set.Decide(request(t, tt.request), tt.who)
			if got.Outcome != tt.want || got.Rule != tt.rule {
				t.Errorf("Decide = %v by %q (%s), want %v by %q", got.Outcome, got.Rule, got.Reason, tt.want, tt.rule)
			}
			if got.Reason == "" {
				t.Error("the decision has no reason")
			}
		})
	}
}

func TestRequire(t *testing.T) {
	tests := []struct {
		name    string
		require policy.Require
		who     *policy.Principal
		want    policy.Outcome
		reason  string
	}{
		{"signed in", policy.Require{SignedIn: true}, eve(), policy.Allow, "every requirement is met"},
		{"anonymous", policy.Require{SignedIn: true}, nil, policy.SignIn, "needs to be signed in"},
		{"anonymous and a role", policy.Require{Roles: []string{"admin"}}, nil, policy.SignIn, "needs to be signed in"},
		{"anonymous and every domain", policy.Require{Domains: []string{"*"}}, nil, policy.SignIn, "needs to be signed in"},

		{"address", policy.Require{Emails: []string{"BOB@example.com"}}, bob(), policy.Allow, "every requirement is met"},
		{"other address, not shown", policy.Require{Emails: []string{"boss@example.com"}}, bob(), policy.Deny, "needs an e-mail address that the rule lists"},
		{"domain", policy.Require{Domains: []string{"example.com"}}, bob(), policy.Allow, "every requirement is met"},
		{"no verified address", policy.Require{Domains: []string{"example.com", "x.test"}}, eve(), policy.Deny, "needs a verified e-mail address at one of example.com, x.test"},
		{"every domain", policy.Require{Domains: []string{"*"}}, eve(), policy.Allow, "every requirement is met"},
		{"group", policy.Require{Groups: []string{"ops", "dev"}}, bob(), policy.Allow, "every requirement is met"},
		{"other group", policy.Require{Groups: []string{"ops", "sre"}}, bob(), policy.Deny, "needs one of the groups ops, sre"},
		{"role", policy.Require{Roles: []string{"admin"}}, alice(), policy.Allow, "every requirement is met"},
		{"no role", policy.Require{Roles: []string{"admin"}}, bob(), policy.Deny, "needs one of the roles admin"},
		{"a group is no role", policy.Require{Roles: []string{"dev"}}, bob(), policy.Deny, "needs one of the roles dev"},

		{"fields are AND-ed: all", policy.Require{Domains: []string{"example.com"}, Roles: []string{"admin"}}, alice(), policy.Allow, "every requirement is met"},
		{"fields are AND-ed: the last is missing", policy.Require{Domains: []string{"example.com"}, Roles: []string{"admin"}}, bob(), policy.Deny, "needs one of the roles admin"},
		{"fields are AND-ed: the first is missing", policy.Require{Emails: []string{"bob@example.com"}, Roles: []string{"admin"}}, alice(), policy.Deny, "needs an e-mail address that the rule lists"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set := compile(t, policy.Rule{Name: "r", Require: &tt.require})
			got := set.Decide(&policy.Request{Method: "GET"}, tt.who)
			want := policy.Decision{Outcome: tt.want, Rule: "r", Reason: tt.reason}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Decide (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnUnmetRequirementDoesNotFallThrough(t *testing.T) {
	set := compile(t,
		policy.Rule{Require: &policy.Require{Roles: []string{"admin"}}},
		policy.Rule{Allow: "anyone"})
	if got := set.Decide(&policy.Request{Method: "GET"}, bob()); got.Outcome != policy.Deny {
		t.Errorf("signed in without the role: %+v, want deny", got)
	}
	if got := set.Decide(&policy.Request{Method: "GET"}, nil); got.Outcome != policy.SignIn {
		t.Errorf("anonymous: %+v, want sign_in", got)
	}
}

func TestPreflight(t *testing.T) {
	in := &policy.Require{SignedIn: true}
	tests := []struct {
		name   string
		rule   policy.Rule
		method string
		asked  string
		want   policy.Outcome
		passed bool
	}{
		{"passes for any method", policy.Rule{Require: in, Preflight: "pass"}, "OPTIONS", "DELETE", policy.Allow, true},
		{"passes for a method of the rule", policy.Rule{Methods: []string{"PUT"}, Require: in, Preflight: "pass"}, "OPTIONS", "PUT", policy.Allow, true},
		{"passes where OPTIONS is a method of the rule", policy.Rule{Methods: []string{"OPTIONS"}, Require: in, Preflight: "pass"}, "OPTIONS", "PUT", policy.Allow, true},
		{"other method is not selected", policy.Rule{Methods: []string{"PUT"}, Require: in, Preflight: "pass"}, "OPTIONS", "DELETE", policy.Deny, false},
		{"without pass it is judged as OPTIONS", policy.Rule{Require: in}, "OPTIONS", "PUT", policy.SignIn, false},
		{"without pass the asked method does not select", policy.Rule{Methods: []string{"PUT"}, Require: in}, "OPTIONS", "PUT", policy.Deny, false},
		{"plain OPTIONS is no preflight", policy.Rule{Require: in, Preflight: "pass"}, "OPTIONS", "", policy.SignIn, false},
		{"a GET with the header is no preflight", policy.Rule{Require: in, Preflight: "pass"}, "GET", "GET", policy.SignIn, false},
		{"a POST with the header is not selected by the asked method", policy.Rule{Methods: []string{"GET"}, Allow: "anyone", Preflight: "pass"}, "POST", "GET", policy.Deny, false},
		{"along with allow", policy.Rule{Methods: []string{"GET"}, Allow: "anyone", Preflight: "pass"}, "OPTIONS", "GET", policy.Allow, true},
		{"without pass it is let through like any request", policy.Rule{Allow: "anyone"}, "OPTIONS", "GET", policy.Allow, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := compile(t, tt.rule).Decide(&policy.Request{Method: tt.method, Preflight: tt.asked}, nil)
			if got.Outcome != tt.want || got.Preflight != tt.passed {
				t.Errorf("Decide = %+v, want %v, passed as a preflight: %v", got, tt.want, tt.passed)
			}
		})
	}
}

func TestALoosePathIsNeverPublic(t *testing.T) {
	set := compile(t,
		policy.Rule{Path: "/public/**", Allow: "anyone"},
		policy.Rule{Path: "/**/*.css", Allow: "anyone"},
		policy.Rule{Require: &policy.Require{SignedIn: true}, Preflight: "pass"})
	for _, path := range []string{
		"/public/a%2fb", "/public//a", "/public/a;b", "/public;/a", "/admin%3f.css", "/admin%23.css", "/admin;.css", "/admin%2f.css",
	} {
		r := request(t, "GET app.example.com"+path)
		if got := set.Decide(r, nil); got.Outcome != policy.SignIn {
			t.Errorf("GET %s: %+v, want sign_in", path, got)
		}
		r.Method, r.Preflight = "OPTIONS", "GET"
		if got := set.Decide(r, nil); got.Outcome != policy.SignIn {
			t.Errorf("preflight of %s: %+v, want sign_in", path, got)
		}
	}
}

func TestALoosePathIsJudgedInItsStrictestReading(t *testing.T) {
	set := compile(t,
		policy.Rule{Path: "/admin", Require: &policy.Require{Roles: []string{"admin"}}},
		policy.Rule{Path: "/admin/**", Require: &policy.Require{Roles: []string{"admin"}}},
		policy.Rule{Path: "/projects/*/delete", Require: &policy.Require{Roles: []string{"admin"}}},
		policy.Rule{Path: "/internal/**", Deny: true},
		policy.Rule{Require: &policy.Require{SignedIn: true}})
	tests := []struct {
		name, path string
		want       policy.Outcome
	}{
		{"nothing to find", "/reports;v=1//2%2f3", policy.Allow},
		{"parameters cut off", "/admin;x/users", policy.Deny},
		{"encoded semicolon", "/admin%3bx/users", policy.Deny},
		{"slashes merged", "//admin/users", policy.Deny},
		{"parameters cut off, then slashes merged", "/;x/admin/users", policy.Deny},
		{"encoded slash as a slash", "/admin%2fusers", policy.Deny},
		{"encoded slash as text", "/projects/acme%2Fsite/delete", policy.Deny},
		{"encoded slash as text, parameters cut off", "/projects/acme%2Fsite;x/delete", policy.Deny},
		{"encoded question mark as a query", "/admin%3f", policy.Deny},
		{"encoded hash as a fragment", "/admin%23/x", policy.Deny},
		{"deny rule", "/internal;x", policy.Deny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request(t, "GET app.example.com"+tt.path)
			if got := set.Decide(r, bob()); got.Outcome != tt.want {
				t.Errorf("Decide(%s) = %+v, want %v", tt.path, got, tt.want)
			}
		})
	}
}

func TestAPathThatWasNotParsedIsDenied(t *testing.T) {
	set := compile(t, policy.Rule{Path: "/admin/**", Deny: true}, policy.Rule{Allow: "anyone"})
	for _, path := range []string{"", "admin", "*"} {
		got := set.Decide(&policy.Request{Method: "GET", Path: policy.Path{Decoded: path}}, alice())
		if got.Outcome != policy.Deny || got.Rule != "" {
			t.Errorf("Decide with path %q = %+v, want deny by no rule", path, got)
		}
	}
}

func TestWhatCannotBeReadDoesNotSlipPastARule(t *testing.T) {
	tests := []struct {
		name         string
		first        policy.Rule
		method, host string
	}{
		{"host", policy.Rule{Host: "admin.example.com", Deny: true}, "GET", "admin.example.com:x"},
		{"no host", policy.Rule{Host: "admin.example.com", Deny: true}, "GET", ""},
		{"lower-case method", policy.Rule{Methods: []string{"POST"}, Deny: true}, "post", "a.test"},
		{"no method", policy.Rule{Methods: []string{"POST"}, Deny: true}, "", "a.test"},
		{"host in a condition", condition(`request.host != "admin.example.com"`), "GET", "admin.example.com:x"},
		{"method in a condition", condition(`request.method != "POST"`), "post", "a.test"},
		{"path in a condition", condition(`!request.path.startsWith("/admin/")`), "GET", "a.test"},
		{"client in a condition", condition(`!request.client_ip.startsWith("198.51.100.")`), "GET", "a.test"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set := compile(t, tt.first, policy.Rule{Allow: "anyone"})
			got := set.Decide(&policy.Request{Method: tt.method, Host: tt.host}, alice())
			if got.Outcome != policy.Deny || got.Rule != "" {
				t.Errorf("Decide = %+v, want deny by no rule", got)
			}
		})
	}
}

func TestWhatNoRuleNamesIsNotLookedAt(t *testing.T) {
	set := compile(t, policy.Rule{Require: &policy.Require{SignedIn: true}})
	got := set.Decide(&policy.Request{Method: "m-search", Host: "@"}, bob())
	if got.Outcome != policy.Allow {
		t.Errorf("Decide = %+v, want allow", got)
	}
}

func TestLabels(t *testing.T) {
	tests := []struct {
		rule policy.Rule
		want string
	}{
		{policy.Rule{Name: "ours", Path: "/a"}, "ours"},
		{policy.Rule{}, "rules[0]"},
		{policy.Rule{Path: "/a/**"}, "rules[0] /a/**"},
		{policy.Rule{Host: "a.test"}, "rules[0] a.test"},
		{policy.Rule{Host: "a.test", Path: "/a", Methods: []string{"GET", "PUT"}}, "rules[0] GET,PUT a.test/a"},
	}
	for _, tt := range tests {
		tt.rule.Allow = "anyone"
		if got := compile(t, tt.rule).Decide(request(t, "GET a.test/a"), nil).Rule; got != tt.want {
			t.Errorf("label of %+v = %q, want %q", tt.rule, got, tt.want)
		}
	}
}

func TestZeroValuesDeny(t *testing.T) {
	if got := (&policy.Set{}).Decide(&policy.Request{}, alice()); got.Outcome != policy.Deny {
		t.Errorf("zero Set: %+v, want deny", got)
	}
	if got := (policy.Decision{}).Outcome; got != policy.Deny {
		t.Errorf("zero Decision: %v, want deny", got)
	}
	for outcome, want := range map[policy.Outcome]string{
		policy.Allow: "allow", policy.SignIn: "sign_in", policy.Deny: "deny", policy.Outcome(9): "deny",
	} {
		if got := outcome.String(); got != want {
			t.Errorf("Outcome(%d).String() = %q, want %q", outcome, got, want)
		}
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	set, who := manyRules(t, 20), alice()
	for _, line := range []string{"GET app19.example.com/service19/x/users/7", "HEAD [::1]:80/public/a/b.css"} {
		r := request(t, line)
		if got := testing.AllocsPerRun(100, func() {
			if set.Decide(r, who).Outcome != policy.Allow {
				t.Fatalf("%s is not allowed", line)
			}
		}); got != 0 {
			t.Errorf("Decide(%s) allocates %v times, want 0", line, got)
		}
	}
}

// manyRules returns a set of n rules like those of a large installation, with
// one for everybody at the end.
func manyRules(t testing.TB, n int) *policy.Set {
	var rules []policy.Rule
	for i := range n - 1 {
		rules = append(rules, policy.Rule{
			Host:    fmt.Sprintf("app%d.example.com", i+1),
			Path:    fmt.Sprintf("/service%d/**/users/*", i+1),
			Methods: []string{"GET", "POST"},
			Require: &policy.Require{Domains: []string{"example.com"}, Roles: []string{"admin"}},
		})
	}
	return compile(t, append(rules, policy.Rule{Path: "/public/**", Allow: "anyone"})...)
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("%d rules", n), func(b *testing.B) {
			set, who := manyRules(b, n), alice()
			r := request(b, fmt.Sprintf("GET app%d.example.com/service%d/x/users/7", n-1, n-1))
			b.ReportAllocs()
			for b.Loop() {
				if set.Decide(r, who).Outcome != policy.Allow {
					b.Fatal("not allowed")
				}
			}
		})
	}
}

func BenchmarkParsePath(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (policy.PathRules{}).Parse("/api/v1/projects/42/issues"); err != nil {
			b.Fatal(err)
		}
	}
}
