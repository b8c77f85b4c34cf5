package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"authproxy/identity"
	"authproxy/oauth"
	"authproxy/page"
	"authproxy/session"
)

// A signOutState travels to the provider's sign-out page and back, and before
// that from a host that had a copy of the session to public_url's.
type signOutState struct {
	ReturnTo string `cbor:"1,keyasint"`
	// Session is what is to end on public_url's host, before Until (Unix time);
	// then the browser goes to Onwards.
	Session string `cbor:"2,keyasint,omitempty"`
	Until   int64  `cbor:"3,keyasint,omitempty"`
	Onwards string `cbor:"4,keyasint,omitempty"`
}

// signOutStateName is what a signOutState is sealed for.
const signOutStateName = "sign_out"

// askSignOut serves the page with the button: a link that is followed, by a
// person or by a prefetch, must not sign anybody out. It is also where the
// provider sends a browser that has signed out there.
func (s *Server) askSignOut(w http.ResponseWriter, r *http.Request) error {
	var back signOutState
	if s.Sealer.Open(signOutStateName, r.URL.Query().Get("state"), &back) == nil {
		if back.Session != "" {
			return s.signOutHome(w, r, back)
		}
		redirect(w, s.returnURL(back.ReturnTo, s.AfterSignOut), http.StatusFound)
		return nil
	}
	rd := s.afterSignOutURL(r, askedReturn(r.URL.Query()))
	current, err := s.Sessions.Lookup(r)
	if err != nil && !errors.Is(err, session.ErrNone) {
		return err
	}
	if err != nil && s.outside(r.Host) {
		redirect(w, s.absolute("/sign-out", url.Values{"rd": {rd}}), http.StatusFound) // there may be more than a copy that is over
		return nil
	}
	if err != nil {
		s.Pages.SignedOut(w, r, page.SignedOut{SignIn: s.SignInURL(s.AfterSignIn)})
		return nil
	}
	onwards, err := s.afterSignOut(current, rd)
	if err != nil {
		return err
	}
	form := page.SignOut{User: display(&current.User), Action: s.Prefix + "/sign-out", ReturnURL: rd, Everywhere: s.Sessions.Store != nil, FormAction: []string{rd, onwards}}
	if s.outside(r.Host) {
		form.FormAction = append(form.FormAction, s.PublicURL.String())
	}
	s.Pages.SignOut(w, r, form)
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

// signOut ends the session, and succeeds again when there is none any more. The
// request may say where to go then, and that all other sessions are to end as well.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) error {
	asked := askedReturn(r.URL.Query())
	scope := r.URL.Query().Get("scope")
	if !wantsJSON(r) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := r.ParseForm(); err != nil {
			return &page.Error{Status: http.StatusBadRequest, Err: err}
		}
		asked, scope = r.Form.Get("rd"), r.Form.Get("scope")
	}
	return s.signOutTo(w, r, asked, scope)
}

// signOutTo ends the session of r, with scope "all" the person's others as well,
// and sends the browser on its way to asked.
func (s *Server) signOutTo(w http.ResponseWriter, r *http.Request, asked, scope string) error {
	if err := s.alsoElsewhere(r, scope); err != nil {
		return err
	}
	target, err := s.leave(w, r, asked)
	if err != nil {
		return err
	}
	noStore(w)
	if wantsJSON(r) {
		page.WriteJSON(w, http.StatusOK, map[string]any{"success": true, "url": target})
		return nil
	}
	redirect(w, target, http.StatusSeeOther)
	return nil
}

// alsoElsewhere ends the other sessions of the person if scope is all. Without a
// session there is nobody to do it for.
func (s *Server) alsoElsewhere(r *http.Request, scope string) error {
	if scope != "all" {
		return nil
	}
	who, err := s.who(r)
	if errors.Is(err, identity.ErrAnonymous) || errors.Is(err, identity.ErrBearer) {
		return nil
	}
	if err != nil || who.Session == nil {
		return err
	}
	_, err = s.revokeOthers(r, who)
	return err
}

// leave ends the session of r and returns where the browser goes next, on its way
// to asked.
func (s *Server) leave(w http.ResponseWriter, r *http.Request, asked string) (string, error) {
	rd := s.afterSignOutURL(r, asked)
	ended, err := s.endSession(w, r)
	if err != nil {
		return "", err
	}
	return s.signedOutTo(r, ended, rd)
}

// afterSignOutURL returns where a browser ends that signs out with r. The way may
// lead over public_url's host, where a path would be another page.
func (s *Server) afterSignOutURL(r *http.Request, asked string) string {
	rd := s.returnURL(asked, s.AfterSignOut)
	if s.outside(r.Host) && strings.HasPrefix(rd, "/") {
		rd = s.PublicURL.Scheme + "://" + r.Host + rd
	}
	return rd
}

// signedOutTo returns where a browser goes next whose session was ended, nil for
// none. From a host that had a copy of it the way leads over public_url's host: the
// next request would bring a new copy otherwise.
func (s *Server) signedOutTo(r *http.Request, ended *session.Session, rd string) (string, error) {
	if ended == nil && s.outside(r.Host) {
		return s.absolute("/sign-out", url.Values{"rd": {rd}}), nil
	}
	if ended == nil {
		return rd, nil
	}
	onwards, err := s.afterSignOut(ended, rd)
	if err != nil || !s.outside(r.Host) {
		return onwards, err
	}
	back := signOutState{ReturnTo: rd, Session: ended.ID, Until: s.Now().Add(ticketAge).Unix()}
	if onwards != rd {
		back.Onwards = onwards
	}
	sealed, err := s.Sealer.Seal(signOutStateName, back)
	return s.absolute("/sign-out", url.Values{"state": {sealed}}), err
}

// signOutHome ends the session whose copy was ended on another host, and no other
// one: an address that an attacker made for a session of their own must not sign
// anybody else out. The process may know already that it has ended; then only its
// cookie has to go.
func (s *Server) signOutHome(w http.ResponseWriter, r *http.Request, back signOutState) error {
	current, err := s.Sessions.Lookup(r)
	if s.Now().Unix() < back.Until && (err != nil || current.ID == back.Session) {
		ended, err := s.endSession(w, r)
		if err == nil && ended == nil {
			err = s.flows.set(w, r, signedOutCookie, true, signedOutAge)
		}
		if err != nil {
			return err
		}
	}
	noStore(w)
	redirect(w, cmp.Or(back.Onwards, s.returnURL(back.ReturnTo, s.AfterSignOut)), http.StatusFound)
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
	if err := s.Guard.Give(w, r, ""); err != nil {
		return nil, err
	}
	if ended == nil {
		return nil, nil
	}
	(&Refresher{Providers: s.Providers, Log: s.Log}).Discard(ended)
	s.audit(r, "sign_out", "user", ended.User.ID, "session", ended.ID, "provider", ended.User.Provider)
	return ended, s.flows.set(w, r, signedOutCookie, true, signedOutAge)
}
