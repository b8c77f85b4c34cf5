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

// A signOutState travels to the provider's sign-out page and back.
type signOutState struct {
	ReturnTo string `cbor:"1,keyasint"`
}

// signOutStateName is what a signOutState is sealed for.
const signOutStateName = "sign_out"

// askSignOut serves the page with the button: a link that is followed, by a
// person or by a prefetch, must not sign anybody out. It is also where the
// provider sends a browser that has signed out there.
func (s *Server) askSignOut(w http.ResponseWriter, r *http.Request) error {
	var back signOutState
	if s.Sealer.Open(signOutStateName, r.URL.Query().Get("state"), &back) == nil {
		redirect(w, s.returnURL(back.ReturnTo, s.AfterSignOut), http.StatusFound)
		return nil
	}
	rd := s.returnURL(askedReturn(r.URL.Query()), s.AfterSignOut)
	current, err := s.Sessions.Lookup(r)
	if err != nil && !errors.Is(err, session.ErrNone) {
		return err
	}
	if err != nil {
		s.Pages.SignedOut(w, r, page.SignedOut{SignIn: s.SignInURL(s.AfterSignIn)})
		return nil
	}
	onwards, err := s.afterSignOut(current, rd)
	if err != nil {
		return err
	}
	s.Pages.SignOut(w, r, page.SignOut{
		User: display(&current.User), Action: s.Prefix + "/sign-out", ReturnURL: rd, FormAction: []string{rd, onwards},
	})
	return nil
}

// afterSignOut returns where a browser goes whose session ended was: to the
// provider's sign-out page, which sends it back to rd, or straight there if the
// provider has none (OpenID Connect RP-Initiated Logout 1.0). No token goes into
// an address, so some providers ask first.
func (s *Server) afterSignOut(was *session.Session, rd string) (string, error) {
	p, ok := s.providers[was.User.Provider]
	if !ok || !p.Issues(was.User.Issuer) {
		return rd, nil // another provider need not know who was here
	}
	sealed, err := s.Sealer.Seal(signOutStateName, signOutState{ReturnTo: rd})
	if err != nil {
		return "", err
	}
	there, ok := p.EndSessionURL(oauth.SignOut{
		LogoutHint: was.User.Email, RedirectURL: s.absolute("/sign-out", nil), State: sealed,
	})
	if !ok {
		return rd, nil
	}
	return there, nil
}

// display is what a person is called on a page.
func display(u *session.User) string {
	if u.Email != "" {
		return u.Email
	}
	return u.Name
}

// signOut ends the session, and succeeds again when there is none any more.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) error {
	rd := s.AfterSignOut
	if !wantsJSON(r) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := r.ParseForm(); err != nil {
			return &page.Error{Status: http.StatusBadRequest, Err: err}
		}
		rd = s.returnURL(r.Form.Get("rd"), rd)
	} else {
		rd = s.returnURL(askedReturn(r.URL.Query()), rd)
	}
	ended, err := s.endSession(w, r)
	if err != nil {
		return err
	}
	target := rd
	if ended != nil {
		if target, err = s.afterSignOut(ended, rd); err != nil {
			return err
		}
	}
	noStore(w)
	if wantsJSON(r) {
		page.WriteJSON(w, http.StatusOK, map[string]any{"success": true, "url": target})
		return nil
	}
	redirect(w, target, http.StatusSeeOther)
	return nil
}

// endSession ends what r shows: the session and its cookie, the pages that the
// browser keeps for the back button, and the mark of earlier sign-ins. It
// returns the session, nil if there was none.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) (*session.Session, error) {
	ended, err := s.Sessions.End(w, r)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Clear-Site-Data", `"cache"`)
	s.flows.clear(w, r, signedInCookie)
	if ended == nil {
		return nil, nil
	}
	s.revoke(ended)
	s.audit(r, "sign_out", "user", ended.User.ID, "session", ended.ID, "provider", ended.User.Provider)
	return ended, s.flows.set(w, r, signedOutCookie, true, signedOutAge)
}

// revokeTimeout bounds the revocation of a session's tokens.
const revokeTimeout = 10 * time.Second

// revoke tells the provider that the tokens of a session are not wanted any more
// (RFC 7009), where it announces that. Nobody waits for it: the session is over
// whatever the provider says, and what fails is logged.
func (s *Server) revoke(was *session.Session) {
	p, ok := s.providers[was.User.Provider]
	if !ok || !p.Issues(was.User.Issuer) || was.Tokens.Refresh == "" {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
		defer cancel()
		if err := p.Revoke(ctx, was.Tokens.Refresh); err != nil {
			s.Log.Warn("a refresh token could not be revoked at sign-out", "provider", p.ID(), "user", was.User.ID, "err", err)
		}
	}()
}
