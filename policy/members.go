package policy

import (
	"slices"
	"strings"
)

// Members names people. Whoever is in one of the lists is named; the zero value
// names nobody.
type Members struct {
	// Emails are whole addresses. Case does not count.
	Emails []string

	// Domains are what follows the "@", compared whole: "example.com" names
	// neither sub.example.com nor evilexample.com. "*" names everybody, also
	// those without an address.
	Domains []string

	// Groups are compared whole; case counts.
	Groups []string

	// Claims are values by the path of a claim, as in [Require]. Only roles are
	// given by them.
	Claims map[string][]string
}

// A RoleMap says whom each role is given to.
type RoleMap map[string]Members

// Empty reports whether all lists of m are empty. Claims are not among them.
func (m Members) Empty() bool {
	return len(m.Emails) == 0 && len(m.Domains) == 0 && len(m.Groups) == 0
}

// Match reports whether m names somebody with this address and these groups.
// The address must be "" unless it is verified.
func (m Members) Match(email string, groups []string) bool {
	return hasEmail(m.Emails, email) || hasDomain(m.Domains, email) || overlap(m.Groups, groups)
}

// matchClaims reports whether one of the claims that m names has one of the
// values.
func (m Members) matchClaims(claims map[string]any) bool {
	for path, values := range m.Claims {
		if hasClaim(claims, path, values) {
			return true
		}
	}
	return false
}

// Roles returns the roles of somebody with this address, "" unless verified,
// and these groups and claims. They are sorted; nil if there are none.
func (m RoleMap) Roles(email string, groups []string, claims map[string]any) []string {
	var roles []string
	for role, members := range m {
		if members.Match(email, groups) || members.matchClaims(claims) {
			roles = append(roles, role)
		}
	}
	slices.Sort(roles)
	return roles
}

func hasEmail(list []string, email string) bool {
	if _, ok := emailDomain(email); !ok {
		return false
	}
	for _, e := range list {
		if strings.EqualFold(e, email) {
			return true
		}
	}
	return false
}

func hasDomain(list []string, email string) bool {
	domain, ok := emailDomain(email)
	for _, d := range list {
		if d == "*" || ok && strings.EqualFold(d, domain) {
			return true
		}
	}
	return false
}

// overlap reports whether a value is in both lists. An empty value is none: a
// provider may send "" for "no group", and a list may come from an empty setting.
func overlap(list, values []string) bool {
	for _, v := range values {
		if v != "" && slices.Contains(list, v) {
			return true
		}
	}
	return false
}

// emailDomain returns what follows the "@" of email. It is false unless there is
// exactly one, with printable ASCII around it: with "a@evil@example.com"
// (GHSA-c5c4-8r6x-56w3) it depends on the reader which domain that is.
func emailDomain(email string) (domain string, ok bool) {
	local, domain, ok := strings.Cut(email, "@")
	if !ok || local == "" || domain == "" || strings.Contains(domain, "@") {
		return "", false
	}
	for i := range len(email) {
		if email[i] <= ' ' || email[i] >= 0x7f {
			return "", false
		}
	}
	return domain, true
}
