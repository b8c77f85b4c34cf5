package identity

import (
	"strings"
	"time"

	"authproxy/session"
)

// Suppose returns who u would be, signed in at authTime by the means amr, in the
// class acr: with the claims by default, the roles and the admission that the
// configuration gives them. There is no session; what it returns is for explanations,
// not for requests.
func (r *Resolver) Suppose(u session.User, authTime time.Time, amr []string, acr string) *Who {
	u.Claims = r.Claims.suppose(u.Claims)
	w := &Who{User: u, AuthTime: authTime, AMR: amr, ACR: acr}
	r.complete(w)
	return w
}

// suppose returns claims, decoded from JSON, as a session would hold them.
func (m ClaimMap) suppose(claims map[string]any) map[string]any {
	all := plainAll(claims)
	if all == nil {
		all = map[string]any{}
	}
	for name, source := range m {
		if _, ok := all[name]; !ok && source.Default != "" && !strings.HasPrefix(source.From, rowPrefix) {
			all[name] = source.Default
		}
	}
	return all
}
