package policy_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"authproxy/policy"
)

func compile(t testing.TB, rules ...policy.Rule) *policy.Set {
	t.Helper()
	set, err := policy.Compile(rules)
	if err != nil {
		t.Fatalf("Compile(%+v): %v", rules, err)
	}
	return set
}

func TestCompileReportsEveryProblem(t *testing.T) {
	in := &policy.Require{SignedIn: true}
	req := func(r policy.Require) policy.Rule { return policy.Rule{Require: &r} }
	path := func(p string) policy.Rule { return policy.Rule{Path: p, Require: in} }

	tests := []struct {
		name string
		rule policy.Rule
		want []string
	}{
		{"no effect", policy.Rule{Path: "/a"}, []string{"rules[1]: ", "add one of"}},
		{"preflight alone", policy.Rule{Preflight: "pass"}, []string{"rules[1]: ", "add one of"}},
		{"allow and deny", policy.Rule{Allow: "anyone", Deny: true}, []string{"rules[1]: ", "keep one"}},
		{"allow and require", policy.Rule{Allow: "anyone", Require: in}, []string{"rules[1]: ", "keep one"}},
		{"deny and require", policy.Rule{Deny: true, Require: in}, []string{"rules[1]: ", "keep one"}},
		{"unknown allow", policy.Rule{Allow: "everyone"}, []string{"rules[1].allow: ", "anyone"}},
		{"unknown preflight", policy.Rule{Require: in, Preflight: "allow"}, []string{"rules[1].preflight: ", "pass"}},
		{"preflight with deny", policy.Rule{Deny: true, Preflight: "pass"}, []string{"rules[1].preflight: ", "deny"}},

		{"host with scheme", policy.Rule{Host: "https://a.test", Require: in}, []string{"rules[1].host: ", "scheme"}},
		{"any host", policy.Rule{Host: "*", Require: in}, []string{"rules[1].host: ", "every host"}},
		{"lower-case method", policy.Rule{Methods: []string{"GET", "post"}, Require: in}, []string{"rules[1].methods[1]: ", "case-sensitive"}},
		{"two methods in one", policy.Rule{Methods: []string{"GET, POST"}, Require: in}, []string{"rules[1].methods[0]: ", "one method an entry"}},
		{"empty method", policy.Rule{Methods: []string{""}, Require: in}, []string{"rules[1].methods[0]: ", "empty"}},

		{"relative path", path("admin"), []string{"rules[1].path: ", `begin with "/"`}},
		{"regular expression", path("^/admin"), []string{"rules[1].path: ", `begin with "/"`}},
		{"double slash", path("/a//b"), []string{"rules[1].path: ", `single "/"`}},
		{"class", path("/[ab]"), []string{"rules[1].path: ", "not supported"}},
		{"alternatives", path("/{a,b}"), []string{"rules[1].path: ", "not supported"}},
		{"question mark", path("/a?b"), []string{"rules[1].path: ", "no query"}},
		{"fragment", path("/a#b"), []string{"rules[1].path: ", "fragment"}},
		{"encoded", path("/a%20b"), []string{"rules[1].path: ", "decoded"}},
		{"semicolon", path("/a;b"), []string{"rules[1].path: ", "parameters"}},
		{"backslash", path(`/a\*`), []string{"rules[1].path: ", "escaped"}},
		{"dot-dot", path("/a/../b"), []string{"rules[1].path: ", "segment"}},
		{"dot", path("/a/."), []string{"rules[1].path: ", "segment"}},
		{"double star in a segment", path("/a**"), []string{"rules[1].path: ", "whole segment"}},
		{"triple star", path("/***"), []string{"rules[1].path: ", "whole segment"}},
		{"control character", path("/a\n"), []string{"rules[1].path: ", "control"}},
		{"not UTF-8", path("/\xff"), []string{"rules[1].path: ", "UTF-8"}},

		{"require nothing", req(policy.Require{}), []string{"rules[1].require: ", "signed_in"}},
		{"empty list", req(policy.Require{SignedIn: true, Roles: []string{}}), []string{"rules[1].require.roles: ", "empty list"}},
		{"two at signs", req(policy.Require{Emails: []string{"a@b@c"}}), []string{"rules[1].require.emails[0]: ", "ann@example.com"}},
		{"domain with at sign", req(policy.Require{Domains: []string{"x.test", "@example.com"}}), []string{"rules[1].require.domains[1]: ", "example.com"}},
		{"domain with wildcard", req(policy.Require{Domains: []string{"*.example.com"}}), []string{"rules[1].require.domains[0]: ", "subdomain"}},
		{"blank group", req(policy.Require{Groups: []string{" "}}), []string{"rules[1].require.groups[0]: ", "blank"}},
		{"blank role", req(policy.Require{Roles: []string{""}}), []string{"rules[1].require.roles[0]: ", "blank"}},

		{"several at once", policy.Rule{Host: "*", Path: "a", Methods: []string{"get"}, Preflight: "x"},
			[]string{"rules[1].host: ", "rules[1].path: ", "rules[1].methods[0]: ", "rules[1].preflight: ", "rules[1]: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := policy.Compile([]policy.Rule{{Require: in}, tt.rule})
			if err == nil || set != nil {
				t.Fatalf("Compile = %v, %v, want no set and an error", set, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

func TestCompileReportsTheProblemsOfAllRules(t *testing.T) {
	_, err := policy.Compile([]policy.Rule{{Path: "a", Deny: true}, {Deny: true}, {Path: "c", Deny: true}})
	want := `rules[0].path: must begin with "/"; write it like /admin/**
rules[2].path: must begin with "/"; write it like /admin/**`
	if err == nil || err.Error() != want {
		t.Errorf("Compile: %v, want %s", err, want)
	}
}

func TestNoRulesAreOneRuleForWhoIsSignedIn(t *testing.T) {
	set := compile(t)
	r := &policy.Request{Method: "GET", Host: "app.example.com"}
	if got := set.Decide(r, nil); got.Outcome != policy.SignIn || got.Rule != "signed in (default)" {
		t.Errorf("anonymous: %+v, want sign_in by the default rule", got)
	}
	if got := set.Decide(r, &policy.Principal{ID: "u1"}); got.Outcome != policy.Allow {
		t.Errorf("signed in: %+v, want allow", got)
	}
}

// condition is a rule with nothing but a condition.
func condition(expression string) policy.Rule {
	return policy.Rule{Require: &policy.Require{When: expression}}
}

// TestWhatASetNames: what a condition reads counts as what a rule selects by.
func TestWhatASetNames(t *testing.T) {
	nested := func(expression string) policy.Rule {
		inner := policy.Require{Any: []policy.Require{{SignedIn: true}, *condition(expression).Require}}
		return policy.Rule{Require: &policy.Require{All: []policy.Require{inner}}}
	}
	network := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	tests := []struct {
		name string
		rule policy.Rule
		want string
	}{
		{"nothing", policy.Rule{Deny: true}, ""},
		{"a host", policy.Rule{Host: "a.test", Deny: true}, "host"},
		{"a path", policy.Rule{Path: "/a", Deny: true}, "path"},
		{"every path", policy.Rule{Path: "/**", Deny: true}, "path"},
		{"a method", policy.Rule{Methods: []string{"GET"}, Deny: true}, "method"},
		{"a network", policy.Rule{Clients: network, Deny: true}, "client"},
		{"host and method", policy.Rule{Host: "a.test", Methods: []string{"GET"}, Deny: true}, "host method"},
		{"preflights that pass", policy.Rule{Require: &policy.Require{SignedIn: true}, Preflight: "pass"}, "method"},

		{"a condition about the user", condition(`user.name == "Ann" && session.acr == "gold"`), ""},
		{"a condition about the time", condition(`request.time.getHours() > 7`), ""},
		{"a condition about the host", condition(`request.host == "a.test"`), "host"},
		{"a condition about the path", condition(`request.path.startsWith("/a")`), "path"},
		{"a condition about the method", condition(`request.method in ["GET"]`), "method"},
		{"a condition about the client", condition(`request.client_ip == "10.0.0.1"`), "client"},
		{"a condition about all of them", condition(`"x" in [request.method, request.host, request.path, request.client_ip]`), "client host method path"},
		{"a condition with a dot in front", condition(`.request.path == "/a"`), "path"},
		{"a condition with space in between", condition("request . // the path\n path == '/a'"), "path"},
		{"a condition that is always true", condition(`true || request.path == "/a"`), "path"},
		{"a loop in a condition", condition(`user.groups.exists(g, request.path.startsWith("/" + g))`), "path"},
		{"a text in a condition", condition(`user.name == "request.path"`), ""},
		{"a condition of a condition", nested(`request.path == "/a" ? request.method == "GET" : false`), "method path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, rules := range [][]policy.Rule{{tt.rule}, {tt.rule, {Deny: true}}, {{Deny: true}, tt.rule}} {
				if got := named(compile(t, rules...)); got != tt.want {
					t.Errorf("with %d rules, names %q, want %q", len(rules), got, tt.want)
				}
			}
		})
	}
	if got := named(compile(t)); got != "" {
		t.Errorf("no rules name %q, want nothing", got)
	}
}

// named lists what set names.
func named(set *policy.Set) string {
	var all []string
	for name, names := range map[string]bool{"client": set.NamesClient(), "host": set.NamesHost(), "method": set.NamesMethod(), "path": set.NamesPath()} {
		if names {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestASetKeepsNothingOfItsRules(t *testing.T) {
	methods, roles := []string{"GET"}, []string{"admin"}
	set := compile(t, policy.Rule{Methods: methods, Require: &policy.Require{Roles: roles}})
	methods[0], roles[0] = "POST", "guest"

	got := set.Decide(&policy.Request{Method: "POST"}, &policy.Principal{ID: "u1", Roles: []string{"guest"}})
	if got.Outcome != policy.Deny || got.Rule != "" {
		t.Errorf("changed method: %+v, want deny by no rule", got)
	}
	got = set.Decide(&policy.Request{Method: "GET"}, &policy.Principal{ID: "u1", Roles: []string{"guest"}})
	if got.Outcome != policy.Deny {
		t.Errorf("changed role: %+v, want deny", got)
	}
}
