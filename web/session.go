package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"authproxy/identity"
	"authproxy/page"
	"authproxy/session"
)

// rfc3339 formats times as the API shows them, in UTC and whole seconds.
func rfc3339(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

type userJSON struct {
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	Email         string   `json:"email"`
	EmailVerified bool     `json:"emailVerified"`
	Image         string   `json:"image"`
	Role          string   `json:"role"`
	Roles         []string `json:"roles"`
	Groups        []string `json:"groups"`

	// Claims stand beside the others; the configuration lets none have their
	// names.
	Claims map[string]any `json:"-"`
}

// MarshalJSON puts the claims beside the others.
func (u userJSON) MarshalJSON() ([]byte, error) {
	type plain userJSON // without this method
	own, err := json.Marshal(plain(u))
	if err != nil || len(u.Claims) == 0 {
		return own, err
	}
	claims, err := json.Marshal(u.Claims)
	return slices.Concat(own[:len(own)-1], []byte(","), claims[1:]), err
}

type sessionJSON struct {
	ID         string   `json:"id"`
	UserID     string   `json:"userId"`
	CreatedAt  string   `json:"createdAt,omitempty"`
	UpdatedAt  string   `json:"updatedAt,omitempty"`
	LastSeenAt string   `json:"lastSeenAt,omitempty"`
	ExpiresAt  string   `json:"expiresAt"`
	IPAddress  string   `json:"ipAddress,omitempty"`
	UserAgent  string   `json:"userAgent,omitempty"`
	Provider   string   `json:"provider"`
	AMR        []string `json:"amr"`
	// Data is what the application keeps in the session.
	Data json.RawMessage `json:"data,omitempty"`
	// AccessToken is our token and TokenExpiresAt its end in Unix seconds, where
	// jwt.expose is session.
	AccessToken    string `json:"access_token,omitempty"`
	TokenExpiresAt int64  `json:"expires_at,omitempty"`
}

type sessionAnswer struct {
	User    userJSON    `json:"user"`
	Session sessionJSON `json:"session"`
	Expires string      `json:"expires"`
}

// describe is what GET /session says of w. Lists are never null: scripts
// iterate over them.
func (s *Server) describe(w *identity.Who) (sessionAnswer, error) {
	a := sessionAnswer{
		User: userJSON{
			ID: w.User.ID, Name: w.User.Name, Email: w.User.Email, EmailVerified: w.User.EmailVerified,
			Image: w.User.Image, Role: w.Role(), Roles: orEmpty(w.Roles), Groups: orEmpty(w.User.Groups),
		},
		Session: sessionJSON{
			ID: w.SessionID, UserID: w.User.ID, ExpiresAt: rfc3339(w.Expires), Provider: w.User.Provider, AMR: orEmpty(w.AMR),
		},
		Expires: rfc3339(w.Expires),
	}
	for _, name := range s.SessionClaims {
		if v, ok := w.User.Claims[name]; ok {
			if a.User.Claims == nil {
				a.User.Claims = map[string]any{}
			}
			a.User.Claims[name] = v
		}
	}
	if s := w.Session; s != nil {
		a.Session.CreatedAt, a.Session.UpdatedAt, a.Session.LastSeenAt = rfc3339(s.CreatedAt), rfc3339(s.UpdatedAt), rfc3339(s.LastSeenAt)
		a.Session.IPAddress, a.Session.UserAgent, a.Session.Data = s.IP, s.UserAgent, s.Data
	}
	if s.ExposeTokens != ExposeSession {
		return a, nil
	}
	raw, expires, err := s.Identity.Token(w)
	a.Session.AccessToken, a.Session.TokenExpiresAt = raw, expires.Unix()
	return a, err
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// who identifies r. Somebody who may no longer have a session has none here.
func (s *Server) who(r *http.Request) (*identity.Who, error) {
	w, err := s.Identity.Identify(r)
	if err == nil && !w.Admitted {
		return nil, identity.ErrAnonymous
	}
	return w, err
}

// signedIn is [Server.who] for what needs somebody: it returns a 401 otherwise.
func (s *Server) signedIn(r *http.Request) (*identity.Who, error) {
	w, err := s.who(r)
	switch {
	case err == nil:
		return w, nil
	case errors.Is(err, identity.ErrBearer):
		return nil, &page.Error{Status: http.StatusUnauthorized, Code: "invalid_token", Err: err}
	case errors.Is(err, identity.ErrAnonymous):
		return nil, &page.Error{Status: http.StatusUnauthorized, SignIn: s.signInFrom(r, s.AfterSignIn)}
	}
	return nil, err
}

// cookieSession is [Server.signedIn] for what changes the session: a token is
// not enough.
func (s *Server) cookieSession(r *http.Request) (*identity.Who, error) {
	w, err := s.signedIn(r)
	if err == nil && w.Session == nil {
		return nil, &page.Error{Status: http.StatusUnauthorized, Message: "This needs the session's cookie; a token is not enough."}
	}
	return w, err
}

// getSession says who is there, null for nobody. It does not count as activity:
// a page that polls it would keep a session alive for ever.
func (s *Server) getSession(w http.ResponseWriter, r *http.Request) error {
	who, err := s.who(r)
	if errors.Is(err, identity.ErrAnonymous) || errors.Is(err, identity.ErrBearer) {
		page.WriteJSON(w, http.StatusOK, nil)
		return nil
	}
	if err != nil {
		return err
	}
	a, err := s.describe(who)
	if err != nil {
		return err
	}
	page.WriteJSON(w, http.StatusOK, a)
	return nil
}

// extendSession counts as activity and slides the session now. With data it
// replaces what the application keeps in the session.
func (s *Server) extendSession(w http.ResponseWriter, r *http.Request) error {
	who, err := s.cookieSession(r)
	if err != nil {
		return err
	}
	var body struct {
		Data json.RawMessage `json:"data"`
	}
	// A body may be left out, and over HTTP/2 that shows only when it is read.
	if err := readJSON(w, r, &body); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	hasData := len(body.Data) > 0 && string(body.Data) != "null"
	if hasData {
		if err := s.Sessions.SetData(r.Context(), who.Session, body.Data); err != nil {
			return s.sessionError(r, err)
		}
	}
	extended, err := s.Sessions.Extend(w, r, who.Session)
	if err != nil {
		return s.sessionError(r, err)
	}
	a, err := s.describe(who)
	if err != nil {
		return err
	}
	if hasData {
		a.Session.Data = body.Data
	}
	a.Session.UpdatedAt, a.Session.LastSeenAt = rfc3339(extended.UpdatedAt), rfc3339(extended.LastSeenAt)
	a.Session.ExpiresAt, a.Expires = rfc3339(extended.End()), rfc3339(extended.End())
	page.WriteJSON(w, http.StatusOK, a)
	return nil
}

// sessionError returns the answer to r whose session could not be changed.
func (s *Server) sessionError(r *http.Request, err error) error {
	switch {
	case errors.Is(err, session.ErrNone): // it ended since it was looked up
		return &page.Error{Status: http.StatusUnauthorized, SignIn: s.signInFrom(r, s.AfterSignIn), Err: err}
	case errors.Is(err, session.ErrNoStore):
		return &page.Error{Status: http.StatusConflict, Code: "strategy_unsupported",
			Message: "Session data needs a session store; session.store is cookie."}
	case errors.Is(err, session.ErrData):
		return &page.Error{Status: http.StatusBadRequest, Code: "invalid_data", Err: err,
			Message: fmt.Sprintf("data must be a JSON object of at most %d bytes, with no NUL or half of a surrogate pair in its texts, and no number that a double cannot hold.", session.MaxData)}
	}
	return err
}

// userinfo answers in the shape that oauth2-proxy's endpoint has.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) error {
	who, err := s.signedIn(r)
	if err != nil {
		return err
	}
	page.WriteJSON(w, http.StatusOK, map[string]any{
		"sub": who.User.ID, "user": who.User.ID, "email": who.User.VerifiedEmail(),
		"groups": orEmpty(who.User.Groups), "preferredUsername": who.User.Name,
	})
	return nil
}

// token hands the minted JWT to scripts that call another service.
func (s *Server) token(w http.ResponseWriter, r *http.Request) error {
	if s.ExposeTokens == ExposeNone {
		return &page.Error{Status: http.StatusNotFound, Message: "Pages get no tokens here."}
	}
	who, err := s.signedIn(r)
	if err != nil {
		return err
	}
	if profile := r.URL.Query().Get("profile"); profile != "" {
		return &page.Error{Status: http.StatusNotFound, Code: "unknown_profile", Message: "There is no such token profile."}
	}
	raw, expires, err := s.Identity.Token(who)
	if err != nil {
		return err
	}
	page.WriteJSON(w, http.StatusOK, map[string]any{
		"token": raw, "token_type": "Bearer",
		"expires_in": int(expires.Sub(s.Now()).Seconds()), "expires_at": rfc3339(expires),
	})
	return nil
}

// listProviders lists the ways to sign in.
func (s *Server) listProviders(w http.ResponseWriter, r *http.Request) error {
	all := map[string]any{}
	for _, p := range s.Providers {
		all[p.ID()] = map[string]string{
			"id": p.ID(), "name": p.Name(), "type": p.Type(), "signinUrl": s.at(r, "/sign-in/"+p.ID(), nil),
		}
	}
	page.WriteJSON(w, http.StatusOK, all)
	return nil
}
