package web

import (
	"errors"
	"net/http"
	"slices"

	"authproxy/identity"
	"authproxy/page"
	"authproxy/session"
)

// A deviceJSON is one session of a person, as that person sees it.
type deviceJSON struct {
	ID         string `json:"id"`
	Current    bool   `json:"current"`
	CreatedAt  string `json:"createdAt"`
	LastSeenAt string `json:"lastSeenAt"`
	ExpiresAt  string `json:"expiresAt"`
	IPAddress  string `json:"ipAddress"`
	UserAgent  string `json:"userAgent"`
	Device     string `json:"device"`
	Provider   string `json:"provider"`
}

// maxDevices bounds the sessions that a person is shown.
const maxDevices = 500

// sessionsOf returns the sessions of who, the current one first, and whether
// these are all: with cookies alone only the current one is known.
func (s *Server) sessionsOf(r *http.Request, who *identity.Who) (all []*session.Session, complete bool, err error) {
	others, err := s.Sessions.List(r.Context(), session.Selection{UserID: who.User.ID, ExceptID: who.SessionID}, maxDevices)
	if errors.Is(err, session.ErrNoStore) {
		return []*session.Session{who.Session}, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return slices.Insert(others, 0, who.Session), len(others) < maxDevices, nil
}

// listSessions lists the sessions of the person that are known here. A header
// says whether there may be more.
func (s *Server) listSessions(w http.ResponseWriter, r *http.Request) error {
	who, err := s.cookieSession(r)
	if err != nil {
		return err
	}
	all, complete, err := s.sessionsOf(r, who)
	if err != nil {
		return err
	}
	if !complete {
		w.Header().Set("X-Sessions-Complete", "false")
	}
	devices := make([]deviceJSON, len(all))
	for i, d := range all {
		devices[i] = deviceJSON{
			ID: d.ID, Current: d.ID == who.SessionID, CreatedAt: rfc3339(d.CreatedAt), LastSeenAt: rfc3339(d.LastSeenAt),
			ExpiresAt: rfc3339(d.End()), IPAddress: d.IP, UserAgent: d.UserAgent,
			Device: session.Device(d.UserAgent), Provider: d.User.Provider,
		}
	}
	page.WriteJSON(w, http.StatusOK, devices)
	return nil
}

// revokeSession ends one session of the person.
func (s *Server) revokeSession(w http.ResponseWriter, r *http.Request) error {
	who, err := s.cookieSession(r)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	if id == who.SessionID {
		_, err = s.endSession(w, r)
	} else {
		err = s.revokeOther(r, who, id)
	}
	if err != nil {
		return err
	}
	noStore(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// revokeOther ends a session of who that is not the current one. Somebody else's
// is 404, as one that there is not.
func (s *Server) revokeOther(r *http.Request, who *identity.Who, id string) error {
	unknown := &page.Error{Status: http.StatusNotFound, Code: "unknown_session", Title: "That device is not signed in",
		Message: "You have no such session. It may have ended already."}
	if id == "" {
		return unknown // a selection without an id names all sessions of who
	}
	n, err := s.revoke(r, who, session.Selection{UserID: who.User.ID, ID: id})
	if err == nil && n == 0 {
		return unknown
	}
	return err
}

// revokeSessions ends the other sessions of the person, or all of them.
func (s *Server) revokeSessions(w http.ResponseWriter, r *http.Request) error {
	who, err := s.cookieSession(r)
	if err != nil {
		return err
	}
	scope := r.URL.Query().Get("scope")
	if scope != "others" && scope != "all" {
		return &page.Error{Status: http.StatusBadRequest, Code: "invalid_scope", Message: "scope must be others or all."}
	}
	n, err := s.revokeOthers(r, who)
	if err != nil {
		return err
	}
	if scope == "all" {
		ended, err := s.endSession(w, r)
		if err != nil {
			return err
		}
		if ended != nil {
			n++
		}
	}
	page.WriteJSON(w, http.StatusOK, map[string]int{"revoked": n})
	return nil
}

// revokeOthers ends all sessions of who but the current one.
func (s *Server) revokeOthers(r *http.Request, who *identity.Who) (int, error) {
	return s.revoke(r, who, session.Selection{UserID: who.User.ID, ExceptID: who.SessionID})
}

// revoke ends sessions of who. What other sessions there are is not known without
// a store, so no answer must sound as if one had been ended.
func (s *Server) revoke(r *http.Request, who *identity.Who, which session.Selection) (int, error) {
	by := session.By{ActorID: who.User.ID, IP: s.ClientIP(r), UserAgent: r.UserAgent(), Cause: "user"}
	n, err := s.Sessions.Revoke(r.Context(), which, by)
	if errors.Is(err, session.ErrNoStore) {
		return 0, &page.Error{Status: http.StatusConflict, Code: "strategy_unsupported",
			Message: "Only the current session can be ended while session.store is cookie; the others are known to their browsers alone."}
	}
	if err == nil && n > 0 {
		s.logAudit(r, "sessions_revoked", "user", who.User.ID, "by_session", who.SessionID, "sessions", n)
	}
	return n, err
}
