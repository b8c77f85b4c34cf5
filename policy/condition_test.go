package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"authproxy/policy"
)

// when compiles one rule with the condition.
func when(t testing.TB, expression string) *policy.Set {
	t.Helper()
	return compile(t, policy.Rule{Name: "r", Require: &policy.Require{When: expression}})
}

// conditionRequest is a request of which every part can be read.
func conditionRequest() *policy.Request {
	return &policy.Request{
		Method: "GET", Host: "App.Example.com.:8443", Path: policy.Path{Decoded: "/a/b"}, ClientIP: netip.MustParseAddr("::ffff:10.1.2.3"),
		Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// conditionUser is a user of whom everything can be read.
func conditionUser() *policy.Principal {
	return &policy.Principal{
		ID: "u1", Name: "Ann", Email: "Ann@Example.com", Groups: []string{"g1", "g2"}, Roles: []string{"admin"}, Provider: "corp",
		Claims: map[string]any{"department": "it", "level": 3.0, "tags": []any{"x", "y"}, "org": map[string]any{"unit": "web"}},
		ACR:    "gold", AMR: []string{"pwd", "mfa"}, AuthTime: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC),
	}
}

func TestWhatAConditionSees(t *testing.T) {
	for _, expression := range []string{
		`user.id == "u1"`, `user.name == "Ann"`, `user.email == "ann@example.com"`, `user.email_verified`, `user.groups == ["g1", "g2"]`, `"admin" in user.roles`,
		`user.provider == "corp"`, `user.claims.department == "it"`, `user.claims["department"] == "it"`, `user.claims.level == 3`, `user.claims.level > 2.5`,
		`"x" in user.claims.tags`, `user.claims.org.unit == "web"`, `has(user.claims.department) && !has(user.claims.nothing)`,
		`request.method == "GET"`, `request.host == "app.example.com"`, `request.path.startsWith("/a/")`, `request.client_ip == "10.1.2.3"`,
		`request.time == timestamp("2026-01-02T03:04:05Z")`, `request.time.getHours("+02:00") == 5`, `request.time.getHours() == 3`,
		`session.acr == "gold"`, `session.amr.exists(m, m == "mfa")`, `session.auth_time < request.time`, `user.email.matches("^ann@.*[.]com$")`,
	} {
		t.Run(expression, func(t *testing.T) {
			if got := when(t, expression).Decide(conditionRequest(), conditionUser()); got.Outcome != policy.Allow {
				t.Errorf("Decide = %v (%s), want allow", got.Outcome, got.Reason)
			}
			if got := when(t, "!("+expression+")").Decide(conditionRequest(), conditionUser()); got.Outcome != policy.Deny {
				t.Errorf("the opposite: Decide = %v (%s), want deny", got.Outcome, got.Reason)
			}
		})
	}
}

func TestAConditionThatCannotBeEvaluatedRefuses(t *testing.T) {
	tests := []struct{ name, expression, reason string }{
		{"a claim that is not there", `user.claims.clearance == "top"`, "reads a claim that is not there"},
		{"a negated claim that is not there", `!(user.claims.clearance == "top")`, "reads a claim that is not there"},
		{"a claim of another type", `user.claims.department > 3`, "cannot be evaluated"},
		{"a claim that is no truth", `user.claims.department || false`, "cannot be evaluated"},
		{"an index beyond the list", `user.groups[7] == "g"`, "cannot be evaluated"},
		{"a division by zero", `1 / (user.claims.level == 3 ? 0 : 1) == 1`, "cannot be evaluated"},
		{"a result that is no truth", `user.claims.department`, "does not hold"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.reason == "does not hold" {
				tt.expression = "dyn(" + tt.expression + ") == true"
			}
			got := when(t, tt.expression).Decide(conditionRequest(), conditionUser())
			if got.Outcome != policy.Deny || got.Rule != "r" || !strings.Contains(got.Reason, tt.reason) {
				t.Errorf("Decide = %v by %q (%s), want deny by r with %q", got.Outcome, got.Rule, got.Reason, tt.reason)
			}
			for _, data := range []string{"clearance", "department", "g1"} {
				if strings.Contains(" "+got.Reason+" ", " "+data+" ") {
					t.Errorf("the reason %q shows %q", got.Reason, data)
				}
			}
		})
	}
}

func TestAConditionIsNotEvaluatedForNobody(t *testing.T) {
	for _, expression := range []string{"true", "false", `user.claims.nothing == 1`} {
		if got := when(t, expression).Decide(conditionRequest(), nil); got.Outcome != policy.SignIn {
			t.Errorf("%s for nobody: %v, want sign_in", expression, got.Outcome)
		}
	}
}

// What is larger than the estimate takes for granted is stopped by the limit at
// run time.
func TestAConditionThatTakesTooLongRefuses(t *testing.T) {
	set := when(t, `user.groups.exists(g, user.name == g + "x")`)
	who := conditionUser()
	if got := set.Decide(conditionRequest(), who); got.Outcome != policy.Deny || strings.Contains(got.Reason, "too long") {
		t.Fatalf("with few groups: %+v, want that it does not hold", got)
	}
	for i := range 30_000 {
		who.Groups = append(who.Groups, fmt.Sprintf("group-%d", i))
	}
	if got := set.Decide(conditionRequest(), who); got.Outcome != policy.Deny || !strings.Contains(got.Reason, "takes too long") {
		t.Errorf("with many: %+v, want deny because it takes too long", got)
	}
}

func TestCompileSaysWhatIsWrongWithACondition(t *testing.T) {
	tests := []struct{ name, expression, want string }{
		{"a slip in a field", `user.emial == "x"`, "rules[0].require.when: 1:1: user has no emial; did you mean user.email?\n  user.emial == \"x\"\n  ^"},
		{"a slip in the second line", "true &&\n  user.nam == 'x'", "2:3: user has no nam; did you mean user.name?\n    user.nam == 'x'\n    ^"},
		{"a slip in a root", `usr.email == "x"`, "1:1: usr.email is unknown; did you mean user.email?"},
		{"a slip in a function", `user.email.endswith("x")`, "1:20: endswith is unknown; did you mean endsWith?"},
		{"a claim without claims", `user.department == "it"`, "user has no department; it has claims, email, email_verified, groups, id, name, provider, roles; a claim is user.claims.department"},
		{"the query", `request.query == "a"`, "request has no query; it has client_ip, host, method, path, time"},
		{"a header", `request.headers["a"] == "b"`, "request has no headers"},
		{"the token", `session.token == "a"`, "session has no token"},
		{"a root alone", `user == session`, "1:1: user is no value of its own"},
		{"a root with an index", `user["email"] == "x"`, "1:1: user is no value of its own"},
		{"has without claims", `has(user.email)`, "user.email is always there; has() is for claims"},
		{"a variable that hides a root", `user.groups.exists(user, user == "x")`, "calls its own variable user"},
		{"two types", `user.email == 3`, "1:12: found no matching overload for '==' applied to '(string, int)'"},
		{"not finished", `user.email == `, "the expression is not finished"},
		{"two expressions", `true true`, "1:6: "},
		{"no expression", ` `, "the expression is not finished"},
		{"a text", `user.email`, "is string, but must be true or false"},
		{"any type", `user.claims.admin`, "is dyn, but must be true or false"},
		{"a broken pattern", `user.email.matches("(")`, "1:20: "},
		{"a pattern from data", `user.email.matches(user.claims.pattern)`, "takes the pattern of matches from data; write it out"},
		{"a pattern from data, as a function", `matches(user.email, user.name)`, "takes the pattern of matches from data"},
		{"a broken time", `request.time > timestamp("soon")`, "1:26: "},
		{"a broken duration", `request.time - session.auth_time < duration("5 minutes")`, "1:45: "},
		{"a time zone", `request.time.getHours("Europe/Berlin") > 8`, `names a time zone; write its offset, like "+02:00"`},
		{"a time zone from data", `request.time.getHours(user.name) > 8`, "names a time zone"},
		{"loops in loops", `user.groups.all(a, user.groups.all(b, user.groups.all(c, a != b + c)))`, "could take too long"},
		{"too long", `"` + strings.Repeat("x", 5000) + `" == user.name`, "is longer than 4096 bytes"},
		{"too deep", strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "rules[0].require.when: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := policy.Compile([]policy.Rule{{Require: &policy.Require{When: tt.expression}}})
			if err == nil || set != nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "rules[0].require.when: ") {
				t.Errorf("Compile: %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestTheCaretOfALongLineIsSeen(t *testing.T) {
	_, err := policy.Compile([]policy.Rule{{Require: &policy.Require{When: strings.Repeat("true && ", 40) + `user.emial == ""`}}})
	if err == nil {
		t.Fatal("Compile: no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "rules[0].require.when: 1:321: ") || len(lines[1]) > 110 || strings.Index(lines[1], "user.emial") != strings.Index(lines[2], "^") {
		t.Errorf("Compile:\n%v\nwant the caret below user.emial", err)
	}
}

// FuzzCondition: no expression makes Compile or Decide panic, and what Compile
// takes is decided.
func FuzzCondition(f *testing.F) {
	for _, s := range []string{`user.email == ""`, `user.groups.exists(g, g == "a")`, `has(user.claims.a.b)`, `request.time.getHours("+02:00") > 1`, `[1,2].map(x, x)[0] == 1`, `"\u00e4" < user.name`, `dyn(1) == "1"`, "a\r\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		if expression == "" {
			return
		}
		set, err := policy.Compile([]policy.Rule{{Require: &policy.Require{When: expression}}})
		if err != nil {
			return
		}
		if got := set.Decide(conditionRequest(), conditionUser()); got.Outcome != policy.Allow && got.Outcome != policy.Deny {
			t.Errorf("%q: %v, want allow or deny", expression, got.Outcome)
		}
	})
}

func BenchmarkCondition(b *testing.B) {
	for name, expression := range map[string]string{
		"two comparisons": `user.email.endsWith("@example.com") && request.method == "GET"`,
		"a loop":          `user.groups.exists(g, g.startsWith("g2"))`,
		"a claim":         `user.claims.department in ["it", "sales"]`,
	} {
		b.Run(name, func(b *testing.B) {
			set, r, who := when(b, expression), conditionRequest(), conditionUser()
			b.ReportAllocs()
			for b.Loop() {
				if set.Decide(r, who).Outcome != policy.Allow {
					b.Fatal("not allowed")
				}
			}
		})
	}
}
