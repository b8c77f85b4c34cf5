package identity

import (
	"time"

	"authproxy/session"
)

// Suppose returns who u would be, signed in at authTime by the means amr: with
// the roles and the admission that the configuration gives them. There is no
// session; what it returns is for explanations, not for requests.
func (r *Resolver) Suppose(u session.User, authTime time.Time, amr []string) *Who {
	w := &Who{User: u, AuthTime: authTime, AMR: amr}
	r.complete(w)
	return w
}
