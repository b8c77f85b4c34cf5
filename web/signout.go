package web

import (
	"net/http"

	"authproxy/page"
	"authproxy/session"
)

// askSignOut serves the page with the button: a link that is followed, by a
// person or by a prefetch, must not sign anybody out.
func (s *Server) askSignOut(w http.ResponseWriter, r *http.Request) error {
	rd := s.returnURL(askedReturn(r.URL.Query()), s.AfterSignOut)
	current, err := s.Sessions.Lookup(r)
	if err != nil {
		s.Pages.SignedOut(w, r, page.SignedOut{SignIn: s.SignInURL(s.AfterSignIn)})
		return nil
	}
	s.Pages.SignOut(w, r, page.SignOut{User: display(&current.User), Action: s.Prefix + "/sign-out", ReturnURL: rd, FormAction: []string{rd}})
	return nil
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
	if err := s.endSession(w, r); err != nil {
		return err
	}
	noStore(w)
	if wantsJSON(r) {
		page.WriteJSON(w, http.StatusOK, map[string]any{"success": true, "url": rd})
		return nil
	}
	redirect(w, rd, http.StatusSeeOther)
	return nil
}

// endSession ends what r shows: the session and its cookie, the pages that the
// browser keeps for the back button, and the mark of earlier sign-ins.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) error {
	ended := s.Sessions.End(w, r)
	w.Header().Set("Clear-Site-Data", `"cache"`)
	s.flows.clear(w, r, signedInCookie)
	if ended == nil {
		return nil
	}
	s.audit(r, "sign_out", "user", ended.User.ID, "session", ended.ID, "provider", ended.User.Provider)
	return s.flows.set(w, r, signedOutCookie, true, signedOutAge)
}
