package devidp

import (
	"crypto/rand"
	"net/http"
	"strings"
	"time"
)

// sessionCookie names the browser's session at this provider.
const sessionCookie = "devidp_session"

// A session remembers who is signed in at this provider in one browser.
type session struct {
	user     *User
	authTime time.Time

	// sid is the claim of that name. It is known to clients, so it is not the
	// value of the cookie.
	sid string
}

// currentSession returns the session of r's cookie, or nil.
func (s *Server) currentSession(r *http.Request) *session {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	current, ok := s.sessions.get(s.now(), cookie.Value)
	if !ok {
		return nil
	}
	return &current
}

// signIn signs user in without asking. A sign-in of the same user that is still
// good enough for req goes on as it is.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request, user *User, req *authRequest) session {
	current := s.currentSession(r)
	if current != nil && current.user == user && !s.tooOld(req, current) {
		return *current
	}
	return s.authenticated(w, r, user)
}

// authenticated opens the session of a user who has just signed in. The cookie
// is always a new one, so that one planted before is worth nothing; the sid
// stays when it is the same user again.
func (s *Server) authenticated(w http.ResponseWriter, r *http.Request, user *User) session {
	next := session{user: user, authTime: s.now(), sid: rand.Text()}
	if current := s.currentSession(r); current != nil && current.user == user {
		next.sid = current.sid
	}
	s.forget(r)

	id := rand.Text()
	s.mu.Lock()
	s.sessions.put(next.authTime, id, next, next.authTime.Add(sessionLifetime))
	s.mu.Unlock()
	http.SetCookie(w, s.cookie(id, 0))
	return next
}

// signOut ends the browser's session here. Having none is no error.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	s.forget(r)
	http.SetCookie(w, s.cookie("", -1))
}

func (s *Server) forget(r *http.Request) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions.delete(cookie.Value)
}

func (s *Server) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name:     sessionCookie,
		Value:    value,
		Path:     "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   strings.HasPrefix(s.issuer, "https:"),
		SameSite: http.SameSiteLaxMode,
	}
}
