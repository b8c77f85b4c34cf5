package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/policy"
)

func TestMembersMatch(t *testing.T) {
	emails := policy.Members{Emails: []string{"Ann@Example.com"}}
	domains := policy.Members{Domains: []string{"example.com"}}
	groups := policy.Members{Groups: []string{"acme/sre", "acme/ops"}}
	mixed := policy.Members{Emails: []string{"bob@other.test"}, Domains: []string{"example.com"}, Groups: []string{"sre"}}
	world := policy.Members{Domains: []string{"*"}}

	tests := []struct {
		name    string
		members policy.Members
		email   string
		groups  []string
		want    bool
	}{
		{"zero value names nobody", policy.Members{}, "ann@example.com", []string{"sre"}, false},
		{"zero value and nobody", policy.Members{}, "", nil, false},

		{"address", emails, "Ann@Example.com", nil, true},
		{"address in other case", emails, "aNN@eXample.com", nil, true},
		{"other address", emails, "bob@example.com", nil, false},
		{"longer address", emails, "joann@example.com", nil, false},
		{"unverified address", emails, "", nil, false},
		{"empty entry and no address", policy.Members{Emails: []string{""}}, "", nil, false},
		{"star is no address", policy.Members{Emails: []string{"*"}}, "ann@example.com", nil, false},

		{"domain", domains, "ann@example.com", nil, true},
		{"domain in other case", domains, "ann@EXAMPLE.com", nil, true},
		{"domain of the setting in other case", policy.Members{Domains: []string{"Example.COM"}}, "ann@example.com", nil, true},
		{"no address", domains, "", nil, false},
		{"subdomain", domains, "ann@sub.example.com", nil, false},
		{"suffix", domains, "ann@evilexample.com", nil, false},
		{"prefix", domains, "ann@example.com.evil.test", nil, false},
		{"trailing dot", domains, "ann@example.com.", nil, false},
		{"two at signs, ours last", domains, "a@evil@example.com", nil, false},
		{"two at signs, ours first", domains, "a@example.com@evil", nil, false},
		{"quoted at sign", domains, `"a@evil"@example.com`, nil, false},
		{"domain alone", domains, "example.com", nil, false},
		{"at sign first", domains, "@example.com", nil, false},
		{"at sign last", policy.Members{Domains: []string{""}}, "ann@", nil, false},
		{"space", domains, "ann @example.com", nil, false},
		{"trailing space", domains, "ann@example.com ", nil, false},
		{"line feed", domains, "evil@evil.test\nann@example.com", nil, false},
		{"NUL", domains, "ann\x00@example.com", nil, false},
		{"delete", domains, "ann\x7f@example.com", nil, false},
		{"full-width at sign", domains, "ann＠example.com", nil, false},
		{"letter beyond ASCII", domains, "änn@example.com", nil, false},
		{"long s for s", policy.Members{Domains: []string{"sso.test"}}, "ann@\u017Fso.test", nil, false},

		{"star names everybody", world, "ann@example.com", nil, true},
		{"star names who has no address", world, "", nil, true},
		{"star with a domain is no wildcard", policy.Members{Domains: []string{"*.example.com"}}, "ann@a.example.com", nil, false},

		{"group", groups, "", []string{"x", "acme/ops"}, true},
		{"other group", groups, "", []string{"acme"}, false},
		{"group in other case", groups, "", []string{"ACME/SRE"}, false},
		{"no groups", groups, "", nil, false},
		{"empty group", policy.Members{Groups: []string{""}}, "", []string{""}, false},

		{"lists are OR-ed: address", mixed, "bob@other.test", nil, true},
		{"lists are OR-ed: domain", mixed, "ann@example.com", nil, true},
		{"lists are OR-ed: group", mixed, "eve@other.test", []string{"sre"}, true},
		{"lists are OR-ed: none", mixed, "eve@other.test", []string{"dev"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.members.Match(tt.email, tt.groups); got != tt.want {
				t.Errorf("Match(%q, %q) = %v, want %v", tt.email, tt.groups, got, tt.want)
			}
		})
	}
}

func TestMembersEmpty(t *testing.T) {
	tests := []struct {
		name    string
		members policy.Members
		want    bool
	}{
		{"zero value", policy.Members{}, true},
		{"empty lists", policy.Members{Emails: []string{}}, true},
		{"an address", policy.Members{Emails: []string{"a@b"}}, false},
		{"a domain", policy.Members{Domains: []string{"b"}}, false},
		{"a group", policy.Members{Groups: []string{"g"}}, false},
	}
	for _, tt := range tests {
		if got := tt.members.Empty(); got != tt.want {
			t.Errorf("%s: Empty() = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestRoles(t *testing.T) {
	roles := policy.RoleMap{
		"writer": {Domains: []string{"example.com"}},
		"admin":  {Groups: []string{"sre"}},
		"empty":  {},
	}
	tests := []struct {
		name, email string
		groups      []string
		want        []string
	}{
		{"several are sorted", "ann@example.com", []string{"sre"}, []string{"admin", "writer"}},
		{"one", "", []string{"sre"}, []string{"admin"}},
		{"none is nil", "eve@evil.test", []string{"dev"}, nil},
	}
	for _, tt := range tests {
		if got := roles.Roles(tt.email, tt.groups, nil); !cmp.Equal(got, tt.want) {
			t.Errorf("%s: Roles(%q, %q) = %#v, want %#v", tt.name, tt.email, tt.groups, got, tt.want)
		}
	}
}
