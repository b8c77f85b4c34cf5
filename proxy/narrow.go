package proxy

import (
	"net/url"
	"strings"

	"authproxy/policy"
)

// A narrowing is what an ingress demands of people besides the rules: to be
// among each of these. It can only refuse what the rules allow. That is why it
// does no harm that some ingresses add the client's own query to ours (Caddy
// does, where its uri has none).
type narrowing []policy.Members

// The names of the demands, in queries and in Envoy's context extensions.
const (
	narrowGroups  = "allowed_groups"
	narrowEmails  = "allowed_emails"
	narrowDomains = "allowed_email_domains"
)

// parseNarrowing reads the demands in query and leaves out everything else. It
// reads by hand, because url.ParseQuery drops a pair with a semicolon, and no
// demand must get lost.
func parseNarrowing(query string) narrowing {
	var n narrowing
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if decoded, err := url.QueryUnescape(value); err == nil {
			value = decoded
		}
		n = n.and(name, value)
	}
	return n
}

// and adds the demand called name, for one of the comma-separated values. An
// empty list names nobody.
func (n narrowing) and(name, values string) narrowing {
	list := strings.Split(values, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	switch name {
	case narrowGroups:
		return append(n, policy.Members{Groups: list})
	case narrowEmails:
		return append(n, policy.Members{Emails: list})
	case narrowDomains:
		return append(n, policy.Members{Domains: list})
	}
	return n
}

// apply narrows d, the decision of the rules about who, nil for nobody.
func (n narrowing) apply(d policy.Decision, who *policy.Principal) policy.Decision {
	if len(n) == 0 || d.Outcome < policy.StepUp {
		return d
	}
	if who == nil {
		d.Outcome, d.Reason = policy.SignIn, "needs to be signed in"
		return d
	}
	for _, members := range n {
		if !members.Match(who.Email, who.Groups) {
			d.Outcome, d.Reason = policy.Deny, "needs a group or an address that the ingress asks for"
			return d
		}
	}
	return d
}
