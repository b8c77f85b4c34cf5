package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/policy"
	"authproxy/policy/policytest"
)

// TestTheMatrix also shows for each row that what Explain says is what Decide
// does, though one looks at each rule and the other at those of an index.
func TestTheMatrix(t *testing.T) {
	m := policytest.Load(t)
	rows := 0
	for i := range m.Sets {
		set := &m.Sets[i]
		rules := compile(t, set.Rules...)
		for _, c := range set.Cases {
			rows++
			t.Run(set.Name+" "+c.String(), func(t *testing.T) {
				path, err := set.Paths().Parse(c.Path)
				if (err != nil) != (c.Outcome == policytest.Refused) {
					t.Fatalf("Parse: %v, want outcome %s", err, c.Outcome)
				}
				if err != nil {
					return
				}
				r := &policy.Request{Method: c.Method, Host: c.Host, Path: path, Preflight: c.Preflight, ClientIP: c.Client, Now: m.Now}
				got := rules.Decide(r, m.Principal(c))
				if got.Outcome.String() != c.Outcome || got.Rule != c.Rule {
					t.Errorf("Decide = %v by %q (%s), want %s by %q", got.Outcome, got.Rule, got.Reason, c.Outcome, c.Rule)
				}
				if (got.Ask != nil) != (got.Outcome == policy.StepUp) && got.Outcome != policy.SignIn {
					t.Errorf("Decide = %v with Ask %v, want one for step_up only", got.Outcome, got.Ask)
				}
				expectExplained(t, rules, r, m.Principal(c), got)
			})
		}
	}
	if rows < 200 {
		t.Errorf("the matrix has %d rows, want 200 at least", rows)
	}
}

// expectExplained fails unless Explain agrees with decided, and says of every
// rule before the deciding one why it was passed over.
func expectExplained(t *testing.T, rules *policy.Set, r *policy.Request, p *policy.Principal, decided policy.Decision) {
	t.Helper()
	e := rules.Explain(r, p)
	if diff := cmp.Diff(decided, e.Decision); diff != "" {
		t.Errorf("Explain and Decide differ (-Decide +Explain):\n%s", diff)
	}
	if (e.Index < 0) != (e.Rule == "") || e.Index >= 0 && e.Index != len(e.Skipped) {
		t.Errorf("Explain: rule %d %q after %d passed over", e.Index, e.Rule, len(e.Skipped))
	}
	for _, s := range e.Skipped {
		if s.Why == "" || s.Rule == "" {
			t.Errorf("Explain passes over %q without a reason", s.Rule)
		}
	}
}
