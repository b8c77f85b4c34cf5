package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"authproxy/page"
	"authproxy/session"
)

// adminAPI has operators look at sessions and people, and end or refuse them. It
// is for the admin listener alone, and for whoever has the token.
//
//	GET    /admin/sessions?user= | email= | id= | all=true, limit=
//	DELETE /admin/sessions?user= | email= | id= | all=true
//	GET    /admin/users?id= | email=
//	PUT    /admin/users/{id}/ban   {"reason", "until"}
//	DELETE /admin/users/{id}/ban
type adminAPI struct {
	*app
	token [sha256.Size]byte
}

// adminAPI returns the admin API, nil without a token: then there is none.
func (a *app) adminAPI() http.Handler {
	if a.config.Admin.Token == "" {
		return nil
	}
	api := &adminAPI{a, sha256.Sum256([]byte(a.config.Admin.Token))}
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(*http.Request) (any, error){
		"GET /admin/sessions":          api.listSessions,
		"DELETE /admin/sessions":       api.revokeSessions,
		"GET /admin/users":             api.listUsers,
		"PUT /admin/users/{id}/ban":    api.ban,
		"DELETE /admin/users/{id}/ban": api.unban,
		"/admin/{rest...}":             noAdminPage,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := serve(r)
			api.answer(w, r, v, err)
		})
	}
	return api.authenticated(mux)
}

// authenticated lets only requests with the token through, and tells the others
// nothing.
func (api *adminAPI) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sum := sha256.Sum256([]byte(given)) // of one length, whatever was given
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], api.token[:]) != 1 {
			api.log.Warn("audit", "event", "admin_refused", "client_ip", peer(r), "user_agent", r.UserAgent())
			w.Header().Set("WWW-Authenticate", "Bearer")
			api.answer(w, r, nil, &page.Error{Status: http.StatusUnauthorized, Message: "This needs the token of admin.token, as Authorization: Bearer."})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// answer writes v, or err, as JSON.
func (api *adminAPI) answer(w http.ResponseWriter, r *http.Request, v any, err error) {
	if err == nil {
		page.WriteJSON(w, http.StatusOK, v)
		return
	}
	e := page.AsError(err)
	switch {
	case errors.Is(err, session.ErrNoStore):
		e.Status, e.Code, e.Message = http.StatusConflict, "strategy_unsupported", errNeedsStore.Error()
	case errors.Is(err, session.ErrNone):
		e.Status, e.Code, e.Message = http.StatusNotFound, "unknown_user", "There is nobody with this id or address."
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	if e.Status >= http.StatusInternalServerError {
		api.log.Error("admin API", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	page.WriteJSON(w, e.Status, map[string]string{"error": e.Code, "message": e.Message, "request_id": r.Header.Get("X-Request-Id")})
}

func noAdminPage(*http.Request) (any, error) {
	return nil, &page.Error{Status: http.StatusNotFound, Message: "There is no such call of the admin API, or not with this method."}
}

// badRequest is for a call that cannot be understood.
func badRequest(message string) error {
	return &page.Error{Status: http.StatusBadRequest, Code: "invalid_request", Message: message}
}

// targetOf reads which sessions a request is about.
func targetOf(r *http.Request) (target, error) {
	q := r.URL.Query()
	for _, name := range []string{"user", "email", "id", "all"} {
		if len(q[name]) > 1 {
			return target{}, badRequest("The parameter " + name + " is repeated.")
		}
	}
	t := target{user: q.Get("user"), email: q.Get("email"), id: q.Get("id"), all: q.Get("all") == "true"}
	if t.check() != nil {
		return t, badRequest("Give one of the parameters user, email, id and all=true.")
	}
	return t, nil
}

func (api *adminAPI) listSessions(r *http.Request) (any, error) {
	t, err := targetOf(r)
	if err != nil {
		return nil, err
	}
	limit := defaultListed
	if text := r.URL.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxListed {
			return nil, badRequest("limit is a number from 1 to 1000.")
		}
	}
	all, more, err := t.list(r.Context(), api.sessions, limit)
	if err != nil {
		return nil, err
	}
	return map[string]any{"sessions": viewSessions(all), "more": more}, nil
}

func (api *adminAPI) revokeSessions(r *http.Request) (any, error) {
	t, err := targetOf(r)
	if err != nil {
		return nil, err
	}
	// What was begun is done, even if nobody waits for it any more.
	n, err := t.revoke(context.WithoutCancel(r.Context()), api.sessions, operator(r))
	return map[string]int{"revoked": n}, err
}

func (api *adminAPI) listUsers(r *http.Request) (any, error) {
	t := target{user: r.URL.Query().Get("id"), email: r.URL.Query().Get("email")}
	if t.check() != nil {
		return nil, badRequest("Give one of the parameters id and email.")
	}
	people, err := t.people(r.Context(), api.sessions)
	if err != nil {
		return nil, err
	}
	return map[string]any{"users": viewAccounts(people, time.Now())}, nil
}

// maxAdminBody bounds the JSON of a request, in bytes.
const maxAdminBody = 8 << 10

func (api *adminAPI) ban(r *http.Request) (any, error) {
	var body struct{ Reason, Until string }
	in := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxAdminBody))
	in.DisallowUnknownFields() // a ban with a misspelt end would be one for good
	if err := in.Decode(&body); err != nil {
		return nil, badRequest(`The body is JSON like {"reason": "…", "until": "2030-01-31T12:00:00Z"}; both may be left out.`)
	}
	until, err := parseUntil(body.Until, time.Now())
	if err != nil {
		return nil, badRequest("until " + err.Error() + ".")
	}
	id := r.PathValue("id")
	if err := api.sessions.Ban(context.WithoutCancel(r.Context()), id, body.Reason, until, operator(r)); err != nil {
		return nil, err
	}
	return api.oneUser(r, id)
}

func (api *adminAPI) unban(r *http.Request) (any, error) {
	id := r.PathValue("id")
	if err := api.sessions.Unban(context.WithoutCancel(r.Context()), id, operator(r)); err != nil {
		return nil, err
	}
	return api.oneUser(r, id)
}

// oneUser returns a person as they are now.
func (api *adminAPI) oneUser(r *http.Request, id string) (any, error) {
	people, err := target{user: id}.people(r.Context(), api.sessions)
	if err != nil {
		return nil, err
	}
	return viewAccounts(people, time.Now())[0], nil
}

// operator is who asks, for the audit: there is one token, and nobody's name.
func operator(r *http.Request) session.By {
	return session.By{IP: peer(r), UserAgent: r.UserAgent(), Cause: "admin"}
}

// peer is the address a request comes from. On the admin listener no header says
// so: nobody is trusted to.
func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}
