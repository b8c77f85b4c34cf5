package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"authproxy/oauth"
	"authproxy/page"
	"authproxy/session"
)

const (
	// maxLogoutForm bounds what a provider posts, in bytes.
	maxLogoutForm = 96 << 10
	// logoutSkew is how much later than its token's iat a session that the logout
	// ends may have begun: iat has no fractions, and is by the provider's clock.
	logoutSkew = 10 * time.Second
)

// backchannelLogout ends the sessions that a provider has ended, and says so by a
// logout token (OpenID Connect Back-Channel Logout 1.0): no browser takes part,
// so no cookie proves anything, and the token's signature is all there is.
//
// A token counts once on each replica, and for what began before it was issued.
// One that arrives late, or is shown again to another replica, finds that ended
// already and leaves a person's next session alone, so that replicas need not know
// of each other's.
//
// The specification knows 400 for all failures. Here 400 is for a token that is
// refused, whoever sends it again; while our store or the provider's keys cannot
// be had it is 503, which will pass.
func (s *Server) backchannelLogout(w http.ResponseWriter, r *http.Request) error {
	p, known := s.providers[r.PathValue("provider")]
	if !known || s.Sessions.Store == nil { // cookies cannot be found by whose they are
		return &page.Error{Status: http.StatusNotFound}
	}
	noStore(w)
	raw, err := logoutToken(w, r)
	if err != nil {
		return s.logoutRefused(w, r, p, err)
	}
	logout, err := p.VerifyLogout(r.Context(), raw)
	switch {
	case errors.Is(err, oauth.ErrNoLogout):
		return &page.Error{Status: http.StatusNotFound, Err: err}
	case errors.Is(err, oauth.ErrLogoutToken):
		return s.logoutRefused(w, r, p, err)
	case err != nil:
		return s.unavailable(p, s.AfterSignIn, err)
	}
	use := p.ID() + " " + logout.TokenID
	if !s.logouts.first(use, s.Now()) {
		return s.logoutRefused(w, r, p, errors.New("web: a logout token with this jti was used already"))
	}
	if err := s.logOut(r, p, logout); err != nil {
		s.logouts.forget(use) // the provider may try again
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// logoutToken reads the form of a provider's request.
func logoutToken(w http.ResponseWriter, r *http.Request) (string, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxLogoutForm)
	if err := r.ParseForm(); err != nil {
		return "", errors.New("web: the form cannot be read, or is too long")
	}
	if len(r.PostForm["logout_token"]) != 1 {
		return "", errors.New("web: the form has not exactly one logout_token")
	}
	return r.PostForm.Get("logout_token"), nil
}

// logOut ends what a logout names. It does so even if the provider does not wait
// for it.
func (s *Server) logOut(r *http.Request, p *oauth.Provider, logout *oauth.Logout) error {
	which := session.Selection{Provider: p.ID(), ProviderSID: logout.SID, Subject: logout.Subject}
	if logout.SID == "" { // a sid is never that of a later session
		which.CreatedBefore = logout.IssuedAt.Add(logoutSkew)
	}
	by := session.By{IP: s.ClientIP(r), UserAgent: r.UserAgent(), Cause: "backchannel"}
	n, err := s.Sessions.Revoke(context.WithoutCancel(r.Context()), which, by)
	if err != nil {
		return err
	}
	s.logAudit(r, "backchannel_logout", "provider", p.ID(), "sessions", n)
	return nil
}

// logoutRefused answers a request that ends nothing, with the members that the
// specification has (section 2.8) besides ours. Why it is refused is for the log:
// anybody can ask here.
func (s *Server) logoutRefused(w http.ResponseWriter, r *http.Request, p *oauth.Provider, err error) error {
	const message = "This is not a valid logout token of the provider. The log has the cause under this request id."
	s.logAudit(r, "backchannel_logout_refused", "provider", p.ID(), "err", err)
	page.WriteJSON(w, http.StatusBadRequest, map[string]string{
		"error": "invalid_request", "error_description": message, "message": message, "request_id": r.Header.Get("X-Request-Id"),
	})
	return nil
}
