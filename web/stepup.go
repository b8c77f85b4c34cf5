package web

import (
	"net/http"
	"strings"
	"time"

	"authproxy/identity"
	"authproxy/oauth"
	"authproxy/page"
	"authproxy/policy"
)

// missing returns what a sign-in that leads to rd must show and the session of
// who, nil for nobody, does not; nil if nothing. The request says it, or else the
// rules say it of the page: an ingress that cannot carry the first, as nginx,
// leaves the second. Without them a browser that is signed in would be sent to
// and fro.
func (s *Server) missing(r *http.Request, who *identity.Who, rd string) *policy.Ask {
	if a := policy.ParseAsk(r.URL.Query()); a != nil && !s.shows(who, a) {
		return a
	}
	if s.Needs == nil {
		return nil
	}
	return s.Needs(r, s.endOf(r, rd))
}

// shows says whether the session of who, nil for nobody, shows what a asks for.
func (s *Server) shows(who *identity.Who, a *policy.Ask) bool {
	return who != nil && a.Unmet(&who.Principal, s.Now()) == ""
}

// endOf returns where a browser ends that is sent from r to rd: after a hand-off
// on the other host. It is absolute if that is not public_url's.
func (s *Server) endOf(r *http.Request, rd string) string {
	host := r.Host
	if a, ok := s.cutAsk(rd); ok {
		host, rd = a.Host, a.ReturnTo
	}
	if strings.HasPrefix(rd, "/") && s.outside(host) {
		return s.PublicURL.Scheme + "://" + host + rd
	}
	return rd
}

// demand adds to prompts what a says of a sign-in that begins in the browser of r. A
// provider that remembers its people has no other way to know that they must prove
// themselves by other means. A sign-in that is too old for us may not be so by the
// provider's clock: asked for max_age alone, it would send back the one that we have.
func (s *Server) demand(r *http.Request, prompts oauth.Prompts, a *policy.Ask) oauth.Prompts {
	if a == nil {
		return prompts
	}
	prompts.ACRValues, prompts.MaxAge = strings.Join(a.ACRValues, " "), a.MaxAge
	who, err := s.current(r)
	if len(a.AMR) > 0 || err == nil && who != nil && !who.AuthTime.IsZero() && !s.shows(who, &policy.Ask{MaxAge: a.MaxAge}) {
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
