package policy_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authproxy/policy"
)

// now is the time of the requests here.
func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// ask decides about a request now for one rule with the requirement.
func ask(t *testing.T, require policy.Require, who *policy.Principal) policy.Decision {
	t.Helper()
	return compile(t, policy.Rule{Name: "r", Require: &require}).Decide(&policy.Request{Method: "GET", Now: now()}, who)
}

func TestWhatASignInMustShow(t *testing.T) {
	gold, mfa, fresh := policy.Require{ACR: []string{"gold", "silver"}}, policy.Require{AMR: []string{"mfa"}}, policy.Require{Fresh: 5 * time.Minute}
	both := policy.Require{ACR: []string{"gold", "silver"}, Fresh: 5 * time.Minute}
	admin := policy.Require{Roles: []string{"admin"}}
	signedInLongAgo := &policy.Principal{ID: "u", ACR: "gold", AMR: []string{"pwd"}, AuthTime: now().Add(-time.Hour)}
	tests := []struct {
		name    string
		require policy.Require
		who     *policy.Principal
		want    policy.Outcome
		ask     *policy.Ask
	}{
		{"a class", gold, &policy.Principal{ACR: "bronze"}, policy.StepUp, &policy.Ask{ACRValues: []string{"gold", "silver"}}},
		{"a means", mfa, signedInLongAgo, policy.StepUp, &policy.Ask{AMR: []string{"mfa"}}},
		{"an age", fresh, signedInLongAgo, policy.StepUp, &policy.Ask{MaxAge: 5 * time.Minute}},
		{"also what the last one showed", both, signedInLongAgo, policy.StepUp, &policy.Ask{ACRValues: []string{"gold", "silver"}, MaxAge: 5 * time.Minute}},
		{"also what a nested requirement has met", policy.Require{Fresh: time.Minute, All: []policy.Require{gold}}, signedInLongAgo, policy.StepUp,
			&policy.Ask{ACRValues: []string{"gold", "silver"}, MaxAge: time.Minute}},
		{"what all lists allow, and the shortest time", policy.Require{All: []policy.Require{both, {ACR: []string{"platinum", "silver"}, AMR: []string{"mfa"}, Fresh: time.Minute}}},
			signedInLongAgo, policy.StepUp, &policy.Ask{ACRValues: []string{"silver"}, AMR: []string{"mfa"}, MaxAge: time.Minute}},
		{"the means that all lists allow", policy.Require{All: []policy.Require{{AMR: []string{"pwd", "otp"}}, {AMR: []string{"otp", "mfa"}}}},
			signedInLongAgo, policy.StepUp, &policy.Ask{AMR: []string{"otp"}}},
		{"of alternatives, the first that a sign-in can meet", policy.Require{Any: []policy.Require{admin, mfa, fresh}}, signedInLongAgo, policy.StepUp, &policy.Ask{AMR: []string{"mfa"}}},
		{"nothing if an alternative is met", policy.Require{Any: []policy.Require{mfa, gold}}, signedInLongAgo, policy.Allow, nil},
		{"nothing of who would be refused afterwards", policy.Require{Roles: []string{"admin"}, Fresh: time.Minute}, signedInLongAgo, policy.Deny, nil},
		{"nothing of who would be refused by what is nested", policy.Require{Fresh: time.Minute, All: []policy.Require{admin}}, signedInLongAgo, policy.Deny, nil},
		{"nothing of who would be refused by every alternative", policy.Require{Fresh: time.Minute, Any: []policy.Require{admin, {Groups: []string{"g"}}}}, signedInLongAgo, policy.Deny, nil},
		{"nothing of who would be refused by the condition", policy.Require{Fresh: time.Minute, When: "false"}, signedInLongAgo, policy.Deny, nil},

		{"anonymous, at once", both, nil, policy.SignIn, &policy.Ask{ACRValues: []string{"gold", "silver"}, MaxAge: 5 * time.Minute}},
		{"anonymous, of alternatives the first", policy.Require{Any: []policy.Require{mfa, fresh}}, nil, policy.SignIn, &policy.Ask{AMR: []string{"mfa"}}},
		{"anonymous, nothing if any sign-in may do", policy.Require{Any: []policy.Require{mfa, admin}}, nil, policy.SignIn, nil},
		{"anonymous, nothing for a role", admin, nil, policy.SignIn, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ask(t, tt.require, tt.who)
			if got.Outcome != tt.want {
				t.Errorf("Decide = %v (%s), want %v", got.Outcome, got.Reason, tt.want)
			}
			if diff := cmp.Diff(tt.ask, got.Ask); diff != "" {
				t.Errorf("Ask (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASignInIsFreshForItsTime(t *testing.T) {
	tests := []struct {
		name string
		at   time.Time
		now  time.Time
		want policy.Outcome
	}{
		{"just now", now(), now(), policy.Allow},
		{"just younger", now().Add(-5*time.Minute + time.Nanosecond), now(), policy.Allow},
		{"just as old is too old", now().Add(-5 * time.Minute), now(), policy.StepUp},
		{"the provider's clock is a little ahead", now().Add(time.Minute), now(), policy.Allow},
		{"a time from the future would be fresh for long", now().Add(time.Minute + time.Second), now(), policy.StepUp},
		{"the provider said nothing", time.Time{}, now(), policy.StepUp},
		{"the caller has no clock", time.Time{}, time.Time{}, policy.StepUp},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set := compile(t, policy.Rule{Require: &policy.Require{Fresh: 5 * time.Minute}})
			got := set.Decide(&policy.Request{Method: "GET", Now: tt.now}, &policy.Principal{ID: "u", AuthTime: tt.at})
			if got.Outcome != tt.want {
				t.Errorf("Decide = %v (%s), want %v", got.Outcome, got.Reason, tt.want)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	text := `{"s": "it", "empty": "", "n": 3, "big": 9007199254740993, "half": 0.5, "t": true, "null": null,
		"list": ["a", "b", 7], "deep": {"er": {"est": "x"}}, "objects": [{"id": "1"}, {"id": "2"}, "3"],
		"a.b": {"c": "literal"}, "a": {"b": {"c": "nested"}, "z": "under"}, "https://example.com/roles": ["r"]}`
	var claims map[string]any
	if err := json.Unmarshal([]byte(text), &claims); err != nil {
		t.Fatal(err)
	}
	claims["strings"] = []string{"p", "q"}
	claims["number"] = json.Number("42")
	tests := []struct {
		path, value string
		want        bool
	}{
		{"s", "it", true}, {"s", "IT", false}, {"s", "i", false}, {"n", "3", true}, {"n", "3.0", false}, {"half", "0.5", true}, {"number", "42", true},
		{"t", "true", true}, {"t", "1", false}, {"null", "null", false}, {"nothing", "x", false}, {"empty", "x", false},
		{"list", "b", true}, {"list", "7", true}, {"list", "c", false}, {"list.a", "a", false}, {"strings", "q", true}, {"strings.p", "p", false},
		{"deep.er.est", "x", true}, {"deep.er", "est", false}, {"deep.er.est.more", "x", false}, {"deep", "er", false},
		{"objects.id", "2", true}, {"objects", "3", true}, {"objects", "2", false},
		{"a.b.c", "literal", true}, {"a.b.c", "nested", false}, {"a.z", "under", true}, {"https://example.com/roles", "r", true},
	}
	for _, tt := range tests {
		got := ask(t, policy.Require{Claims: map[string][]string{tt.path: {tt.value}}}, &policy.Principal{ID: "u", Claims: claims})
		if (got.Outcome == policy.Allow) != tt.want {
			t.Errorf("claim %s has %s: %v, want %v", tt.path, tt.value, got.Outcome, tt.want)
		}
	}
	if got := ask(t, policy.Require{Claims: map[string][]string{"s": {"it"}}}, eve()); got.Outcome != policy.Deny {
		t.Errorf("without claims: %v, want deny", got.Outcome)
	}
}

func TestReasonsOfNestedRequirements(t *testing.T) {
	tests := []struct {
		name    string
		require policy.Require
		want    string
	}{
		{"all: the one that is missing", policy.Require{All: []policy.Require{{Groups: []string{"dev"}}, {Roles: []string{"admin"}}}}, "needs one of the roles admin"},
		{"any: each of them once", policy.Require{Any: []policy.Require{{Roles: []string{"admin"}}, {Groups: []string{"sre"}}, {Roles: []string{"admin"}}}},
			"needs one of the roles admin, or needs one of the groups sre"},
		{"a claim: its name, not its values", policy.Require{Claims: map[string][]string{"department": {"board"}}}, "needs one of the values that the rule lists in the claim department"},
		{"fresh", policy.Require{Fresh: 90 * time.Minute}, "needs a sign-in less than 1h30m ago"},
		{"acr", policy.Require{ACR: []string{"gold"}}, "needs a sign-in of one of the classes gold"},
		{"amr", policy.Require{AMR: []string{"mfa", "hwk"}}, "needs a sign-in by one of the means mfa, hwk"},
	}
	for _, tt := range tests {
		if got := ask(t, tt.require, bob()); got.Reason != tt.want {
			t.Errorf("%s: reason %q, want %q", tt.name, got.Reason, tt.want)
		}
	}
}

func TestCompileReportsProblemsOfWhatIsRequired(t *testing.T) {
	deep := policy.Require{SignedIn: true}
	for range 12 {
		deep = policy.Require{All: []policy.Require{deep}}
	}
	tests := []struct {
		name    string
		require policy.Require
		want    []string
	}{
		{"empty claims", policy.Require{SignedIn: true, Claims: map[string][]string{}}, []string{"rules[0].require.claims: is empty"}},
		{"a claim without values", policy.Require{Claims: map[string][]string{"a": {}}}, []string{"rules[0].require.claims.a: is an empty list"}},
		{"a claim with null", policy.Require{Claims: map[string][]string{"a": nil}}, []string{"rules[0].require.claims.a: is an empty list"}},
		{"a blank value", policy.Require{Claims: map[string][]string{"a": {""}}}, []string{"rules[0].require.claims.a[0]: is blank"}},
		{"a path with two dots", policy.Require{Claims: map[string][]string{"a..b": {"c"}}}, []string{"claims.a..b: is not the path"}},
		{"two means in one", policy.Require{AMR: []string{"otp pwd"}}, []string{"rules[0].require.amr[0]: has a space"}},
		{"means that no list has in common", policy.Require{All: []policy.Require{{AMR: []string{"pwd"}}, {AMR: []string{"otp"}}}}, []string{"can never be met"}},
		{"more classes than can be asked for", policy.Require{ACR: []string{strings.Repeat("g", 300), strings.Repeat("s", 300)}}, []string{"longer than 512 bytes"}},
		{"two classes in one", policy.Require{ACR: []string{"gold silver"}}, []string{"rules[0].require.acr[0]: has a space"}},
		{"no classes", policy.Require{SignedIn: true, ACR: []string{}}, []string{"rules[0].require.acr: is an empty list"}},
		{"no means", policy.Require{SignedIn: true, AMR: []string{}}, []string{"rules[0].require.amr: is an empty list"}},
		{"fresh before the sign-in", policy.Require{Fresh: -time.Second}, []string{"rules[0].require.fresh: is not a whole number of seconds"}},
		{"fresh by parts of a second", policy.Require{Fresh: 1500 * time.Millisecond}, []string{"rules[0].require.fresh: is not a whole number of seconds"}},
		{"no alternatives", policy.Require{SignedIn: true, Any: []policy.Require{}}, []string{"rules[0].require.any: is an empty list"}},
		{"an empty nested requirement", policy.Require{All: []policy.Require{{SignedIn: true}, {}}}, []string{"rules[0].require.all[1]: requires nothing"}},
		{"nested problems", policy.Require{Any: []policy.Require{{Emails: []string{"x"}}}}, []string{"rules[0].require.any[0].emails[0]: "}},
		{"classes that exclude each other", policy.Require{ACR: []string{"a"}, All: []policy.Require{{ACR: []string{"b"}}}}, []string{"rules[0].require: can never be met"}},
		{"nested too deep", deep, []string{"is nested more than 8 deep"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.Compile([]policy.Rule{{Require: &tt.require}})
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Compile: %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestClients(t *testing.T) {
	rules := []policy.Rule{{Name: "office", Clients: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104"), netip.MustParsePrefix("fe80::/10")}, Allow: "anyone"}}
	set := compile(t, rules...)
	for client, want := range map[string]policy.Outcome{
		"10.1.2.3": policy.Allow, "::ffff:10.1.2.3": policy.Allow, "fe80::1%eth0": policy.Allow, "11.1.2.3": policy.Deny, "::10.1.2.3": policy.Deny,
	} {
		if got := set.Decide(&policy.Request{Method: "GET", ClientIP: netip.MustParseAddr(client)}, nil); got.Outcome != want {
			t.Errorf("client %s: %v, want %v", client, got.Outcome, want)
		}
	}
	if _, err := policy.Compile([]policy.Rule{{Clients: []netip.Prefix{{}}, Allow: "anyone"}}); err == nil || !strings.Contains(err.Error(), "rules[0].clients[0]: is not a network") {
		t.Errorf("Compile of an invalid network: %v", err)
	}
	if _, err := policy.Compile([]policy.Rule{{Clients: []netip.Prefix{}, Allow: "anyone"}}); err == nil || !strings.Contains(err.Error(), "rules[0].clients: is an empty list") {
		t.Errorf("Compile of no networks: %v", err)
	}
	if !set.NamesClient() || compile(t).NamesClient() {
		t.Error("NamesClient is wrong")
	}
}

func TestReadingsOfALoosenedPathAskForAllTheyWant(t *testing.T) {
	set, err := policy.Compile([]policy.Rule{
		{Name: "b", Path: "/a/b", Require: &policy.Require{Fresh: 5 * time.Minute, AMR: []string{"hwk"}}},
		{Name: "rest", Path: "/a/**", Require: &policy.Require{Fresh: time.Minute, ACR: []string{"gold"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	path, err := policy.PathRules{Semicolon: true}.Parse("/a/b;x")
	if err != nil {
		t.Fatal(err)
	}
	r := &policy.Request{Method: "GET", Host: "app.example.com", Path: path, Now: time.Unix(1e9, 0)}
	want := &policy.Ask{ACRValues: []string{"gold"}, AMR: []string{"hwk"}, MaxAge: time.Minute}
	for name, p := range map[string]*policy.Principal{"step_up": {Email: "a@example.com"}, "sign_in": nil} {
		d, e := set.Decide(r, p), set.Explain(r, p)
		if d.Outcome.String() != name || e.Outcome != d.Outcome || d.Ask == nil {
			t.Fatalf("%s: %v and %v", name, d, e.Decision)
		}
		for _, ask := range []*policy.Ask{d.Ask, e.Ask} {
			sorted := policy.Ask{ask.ACRValues, slices.Sorted(slices.Values(ask.AMR)), ask.MaxAge}
			if diff := cmp.Diff(*want, sorted); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

func TestUnmetSaysWhatASignInLacks(t *testing.T) {
	at := time.Unix(1e9, 0)
	p := &policy.Principal{ACR: "silver", AMR: []string{"pwd"}, AuthTime: at.Add(-2 * time.Minute)}
	for _, row := range []struct {
		name string
		ask  *policy.Ask
		p    *policy.Principal
		want string
	}{
		{"nothing is asked for", nil, nil, ""},
		{"nobody", &policy.Ask{}, nil, "signed in"},
		{"another class", &policy.Ask{ACRValues: []string{"gold"}}, p, "classes gold"},
		{"one of the classes", &policy.Ask{ACRValues: []string{"gold", "silver"}}, p, ""},
		{"other means", &policy.Ask{AMR: []string{"hwk"}}, p, "means hwk"},
		{"one of the means", &policy.Ask{AMR: []string{"hwk", "pwd"}}, p, ""},
		{"too long ago", &policy.Ask{MaxAge: 2 * time.Minute}, p, "less than 2m ago"},
		{"fresh", &policy.Ask{MaxAge: 3 * time.Minute}, p, ""},
		{"nobody knows when", &policy.Ask{MaxAge: time.Hour}, &policy.Principal{}, "less than 1h ago"},
	} {
		got := row.ask.Unmet(row.p, at)
		if (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			t.Errorf("%s: %q, want %q in it", row.name, got, row.want)
		}
	}
}
