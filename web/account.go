package web

import (
	"errors"
	"net/http"

	"authproxy/identity"
	"authproxy/page"
	"authproxy/session"
)

// account serves the page of the person: who they are here, and where they are
// signed in.
func (s *Server) account(w http.ResponseWriter, r *http.Request) error {
	who, err := s.cookieSession(r)
	var refused *page.Error
	if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized && !wantsJSON(r) {
		redirect(w, s.signInFrom(r, s.at(r, "/account", nil)), http.StatusFound)
		return nil
	}
	if err != nil {
		return err
	}
	all, complete, err := s.sessionsOf(r, who)
	if err != nil {
		return err
	}
	onwards, err := s.afterSignOut(who.Session, s.afterSignOutURL(r, ""))
	if err != nil {
		return err
	}
	a := page.Account{
		Name: who.User.Name, Email: who.User.Email, Provider: s.providerName(who.User.Provider), Home: s.AfterSignIn,
		Action: s.Prefix + "/account", Complete: complete, Now: s.Now(), Done: r.URL.Query().Get("done"),
		FormAction: []string{onwards},
	}
	if s.outside(r.Host) {
		a.FormAction = append(a.FormAction, s.PublicURL.String())
	}
	for _, d := range all {
		a.Devices = append(a.Devices, page.Device{
			ID: d.ID, Name: session.Device(d.UserAgent), IP: d.IP, Current: d.ID == who.SessionID, SignedIn: d.CreatedAt, Seen: d.LastSeenAt,
		})
	}
	s.Pages.Account(w, r, a)
	return nil
}

// providerName returns what the provider called id is called on pages.
func (s *Server) providerName(id string) string {
	if p, ok := s.providers[id]; ok {
		return p.Name()
	}
	return id
}

// changeAccount does what a form of [Server.account] asks for, and shows the page
// again unless this browser is no longer signed in.
func (s *Server) changeAccount(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		return &page.Error{Status: http.StatusBadRequest, Err: err}
	}
	who, err := s.cookieSession(r)
	if err != nil {
		return err
	}
	target, err := s.accountAction(w, r, who, r.PostForm.Get("action"), r.PostForm.Get("id"))
	if err != nil {
		return err
	}
	redirect(w, target, http.StatusSeeOther)
	return nil
}

// accountAction acts and returns where the browser goes then.
func (s *Server) accountAction(w http.ResponseWriter, r *http.Request, who *identity.Who, action, id string) (string, error) {
	switch {
	case action == "revoke" && id == who.SessionID:
		return s.leave(w, r, "")
	case action == "revoke":
		return s.Prefix + "/account?done=" + page.DoneOne, s.revokeOther(r, who, id)
	case action == "others":
		_, err := s.revokeOthers(r, who)
		return s.Prefix + "/account?done=" + page.DoneOthers, err
	case action == "all":
		if _, err := s.revokeOthers(r, who); err != nil {
			return "", err
		}
		return s.leave(w, r, "")
	}
	return "", &page.Error{Status: http.StatusBadRequest, Code: "invalid_action", Message: "action must be revoke, others or all."}
}
