package web

import (
	"net/http"
	"strings"
	"time"

	"authproxy/oauth"
	"authproxy/page"
	"authproxy/policy"
)

// needed returns what a sign-in that leads to rd must show: what the request
// says, else what the rules say of the page. An ingress that cannot carry the
// first, as nginx, leaves the second; without it a browser that is signed in
// would be sent to and fro.
func (s *Server) needed(r *http.Request, rd string) *policy.Ask {
	if a := policy.ParseAsk(r.URL.Query()); a != nil || s.Needs == nil {
		return a
	}
	return s.Needs(r, rd)
}

// demand adds to prompts what a says. A provider that remembers its people has
// no other way to know that they must prove themselves by other means.
func demand(prompts oauth.Prompts, a *policy.Ask) oauth.Prompts {
	if a == nil {
		return prompts
	}
	prompts.ACRValues, prompts.MaxAge = strings.Join(a.ACRValues, " "), a.MaxAge
	if len(a.AMR) > 0 {
		prompts.Prompt = "login"
	}
	return prompts
}

// capable returns the providers at which a sign-in can show what a asks for: of
// those, the one of the session alone, if there is one, so that it stays the
// same person.
func (s *Server) capable(a *policy.Ask, current string) []*oauth.Provider {
	if a == nil {
		return s.Providers
	}
	var all []*oauth.Provider
	for _, p := range s.Providers {
		if !p.DescribesSignIns() {
			continue
		}
		if p.ID() == current {
			return []*oauth.Provider{p}
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return s.Providers // whoever made the link asks for what no rule wants
	}
	return all
}

// unmet returns what of st.Ask the sign-in of id has not shown, "" if it has
// shown everything. The provider's word counts, not that it was asked.
func (s *Server) unmet(st state, id *oauth.Identity) string {
	return st.Ask.policy().Unmet(&policy.Principal{ACR: id.ACR, AMR: id.AMR, AuthTime: id.AuthTime}, s.Now())
}

// notShown ends a sign-in that was to show more than it did. It is not begun
// again by itself: the provider would answer the same, and the browser would go
// round in circles. Whoever is signed in stays so.
func (s *Server) notShown(p *oauth.Provider, st state, rd, unmet string, err error) *page.Error {
	q := st.Ask.policy().Query()
	q.Set("rd", rd)
	q.Set("prompt", "login")
	return &page.Error{
		Status: http.StatusForbidden, Code: "insufficient_user_authentication", Title: "This page needs another sign-in", Err: err,
		Message:  "You signed in, but not in the way that the page asks for: it " + unmet + ".",
		Hint:     "For the operator: " + p.Name() + " was asked for that, and answered with something else.",
		RetryURL: s.absolute("/sign-in/"+p.ID(), q), SwitchAccount: s.switchAccount(rd),
	}
}

// A sealedAsk is a policy.Ask as a state holds it.
type sealedAsk struct {
	ACR    []string `cbor:"1,keyasint,omitempty"`
	AMR    []string `cbor:"2,keyasint,omitempty"`
	MaxAge int64    `cbor:"3,keyasint,omitempty"` // seconds
}

func sealAsk(a *policy.Ask) *sealedAsk {
	if a == nil {
		return nil
	}
	return &sealedAsk{a.ACRValues, a.AMR, int64(a.MaxAge / time.Second)}
}

func (a *sealedAsk) policy() *policy.Ask {
	if a == nil {
		return nil
	}
	return &policy.Ask{ACRValues: a.ACR, AMR: a.AMR, MaxAge: time.Duration(a.MaxAge) * time.Second}
}
