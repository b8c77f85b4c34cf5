package web

import (
	"errors"
	"net/http"
	"net/url"

	"authproxy/cookie"
	"authproxy/oauth"
	"authproxy/page"
	"authproxy/session"
)

// callback ends the sign-in that [Server.begin] began: prove that this browser
// began it, let the provider vouch for the person, judge whether the person may
// come in, start the session, go where the browser wanted to.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) error {
	p, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	noStore(w)
	answer, st, err := s.readCallback(r.URL.Query(), p)
	if err != nil {
		s.failed(r, p, "state", err)
		return err
	}
	rd := s.returnURL(st.ReturnTo, s.AfterSignIn) // judged again: the hosts may have changed meanwhile
	fl, ok := s.flows.take(w, r, st.ID)
	if !ok || fl.Provider != p.ID() {
		return s.recover(w, r, p, st, rd)
	}
	id, err := p.Exchange(r.Context(), fl.Login, answer)
	if err != nil {
		return s.exchangeFailed(w, r, p, st, rd, err)
	}
	unmet := s.unmet(st, id)
	if unmet != "" {
		if _, err := s.Sessions.Lookup(r); err == nil {
			err := s.notShown(p, st, rd, unmet, nil)
			s.failed(r, p, "insufficient", err)
			return err
		}
	}
	if err := s.start(w, r, p, id, rd); err != nil {
		return err
	}
	if unmet != "" { // the sign-in is good for other pages
		return s.notShown(p, st, rd, unmet, nil)
	}
	s.goOn(w, r, rd)
	return nil
}

// maxForm bounds a form that a provider lets the browser post, in bytes: a code
// and a state with a return URL in it.
const maxForm = 64 << 10

// callbackForm takes the answer of a provider that lets the browser post it
// (OAuth 2.0 Form Post Response Mode), and sends the browser to the callback
// with the same parameters. A POST from another site carries none of our
// cookies, which are SameSite=Lax: not the flow's, not the session's that it may
// end, not the count that breaks loops. The GET that follows carries all of them,
// and no cookie has to be opened to other sites for this. The code is then in the
// address, as with any other provider, and worth nothing without the flow's
// cookie.
func (s *Server) callbackForm(w http.ResponseWriter, r *http.Request) error {
	p, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	if !p.FormPost() {
		w.Header().Set("Allow", "GET, HEAD")
		return &page.Error{Status: http.StatusMethodNotAllowed}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return &page.Error{Status: http.StatusBadRequest, Err: err}
	}
	answer := url.Values{}
	for _, name := range answerParameters() {
		if values := r.PostForm[name]; len(values) > 0 {
			answer[name] = values
		}
	}
	redirect(w, s.absolute("/callback/"+p.ID(), answer), http.StatusSeeOther)
	return nil
}

// answerParameters are what we read of a provider's answer.
func answerParameters() []string { return []string{"state", "code", "iss", "error"} }

// readCallback reads the provider's answer and opens the state in it. Nobody is
// contacted and nothing changes before the state is known to be ours and p's.
func (s *Server) readCallback(q url.Values, p *oauth.Provider) (oauth.Callback, state, error) {
	var st state
	refused := &page.Error{
		Status: http.StatusBadRequest, Code: "invalid_state", Title: "Sign-in could not be verified",
		Message:  "This answer does not belong to a sign-in that began here. Please sign in again.",
		RetryURL: s.SignInURL(s.AfterSignIn),
	}
	for _, name := range answerParameters() {
		if len(q[name]) > 1 {
			refused.Err = errors.New("web: the parameter " + name + " is repeated")
			return oauth.Callback{}, st, refused
		}
	}
	answer := oauth.Callback{State: q.Get("state"), Code: q.Get("code"), Issuer: q.Get("iss"), Error: q.Get("error")}
	if err := s.Sealer.Open(stateName, answer.State, &st); err != nil {
		refused.Err = errors.New("web: the state does not open")
		return answer, st, refused
	}
	if st.Provider != p.ID() {
		refused.Err = errors.New("web: the state is for another provider")
		return answer, st, refused
	}
	return answer, st, nil
}

// recover is for an answer whose flow is gone: the sign-in took too long, its
// cookie was pushed out or not sent, or the answer was used already (back
// button, reload). Whoever is signed in as the page wants it goes on; otherwise the
// flow starts again, once.
func (s *Server) recover(w http.ResponseWriter, r *http.Request, p *oauth.Provider, st state, rd string) error {
	who, err := s.current(r)
	if err != nil {
		return err
	}
	if who != nil && (st.Ask == nil || s.shows(who, st.Ask.policy())) && s.missing(r, who, rd) == nil {
		if err := s.noteReturn(w, r, who, rd); err != nil {
			return err
		}
		s.goOn(w, r, rd)
		return nil
	}
	if st.Attempt == 0 {
		s.metrics.signIns.WithLabelValues(p.ID(), "restarted").Inc()
		return s.begin(w, r, p, again(st, rd), oauth.Prompts{})
	}
	err = &page.Error{
		Status: http.StatusBadRequest, Code: "cookie_not_returned", Title: "Sign-in could not be completed",
		Message:  "Your browser did not send back the cookie that this sign-in started with. Are cookies allowed for this site?",
		Hint:     "For the operator: " + cookieCauses,
		RetryURL: s.signInAgain(p, rd),
	}
	s.failed(r, p, "cookie", err)
	return err
}

// exchangeFailed turns an error of [oauth.Provider.Exchange] into an answer.
func (s *Server) exchangeFailed(w http.ResponseWriter, r *http.Request, p *oauth.Provider, st state, rd string, err error) error {
	var refused *oauth.RefusedError
	switch {
	case errors.Is(err, oauth.ErrUnavailable):
		s.failed(r, p, "unavailable", err)
		return s.unavailable(p, rd, err)
	case errors.Is(err, oauth.ErrNotAllowed):
		s.failed(r, p, "not_admitted", err)
		return &page.Error{
			Status: http.StatusForbidden, Code: "not_admitted", Title: "This account has no access", Err: err,
			Message:       "You signed in at " + p.Name() + ", but this account does not belong to those who may use the application.",
			SwitchAccount: s.switchAccount(rd),
		}
	case errors.As(err, &refused) && unknownPrompt(refused, st.Prompt) && st.Attempt == 0:
		return s.begin(w, r, p, again(st, rd), oauth.Prompts{Prompt: "login"})
	case errors.As(err, &refused):
		s.failed(r, p, "refused", err)
		return s.refused(p, st, rd, refused)
	case errors.Is(err, oauth.ErrCode) && st.Attempt == 0:
		// A late answer: codes live for a minute or so.
		s.metrics.signIns.WithLabelValues(p.ID(), "restarted").Inc()
		return s.begin(w, r, p, again(st, rd), oauth.Prompts{})
	}
	s.failed(r, p, "invalid", err)
	return &page.Error{
		Status: http.StatusForbidden, Code: "sign_in_not_verified", Title: "Sign-in could not be verified",
		Message:  "What " + p.Name() + " answered does not prove who you are. The log has the cause under this request id.",
		RetryURL: s.signInAgain(p, rd), SwitchAccount: s.switchAccount(rd), Err: err,
	}
}

// refused is the page for an error that the provider sent instead of a code.
func (s *Server) refused(p *oauth.Provider, st state, rd string, err *oauth.RefusedError) error {
	switch err.Code {
	case "unmet_authentication_requirements": // OpenID Connect Core Error Code of that name
		return s.notShown(p, st, rd, "needs a sign-in that "+p.Name()+" could not do", err)
	case "access_denied":
		// Without another account a provider that remembers its own would refuse
		// it again, and show nothing in between.
		return &page.Error{
			Status: http.StatusForbidden, Code: "sign_in_refused", Title: "Sign-in was cancelled",
			Message:  p.Name() + " did not confirm the sign-in: it was cancelled, or this account may not use the application.",
			RetryURL: s.signInAgain(p, rd), SwitchAccount: s.switchAccount(rd), Err: err,
		}
	case "server_error", "temporarily_unavailable":
		return s.unavailable(p, rd, err)
	}
	return &page.Error{
		Status: http.StatusBadRequest, Code: "sign_in_refused", Title: "Sign-in did not work",
		Message:  p.Name() + " refused the sign-in. The log has its error code under this request id.",
		RetryURL: s.signInAgain(p, rd), Err: err,
	}
}

// start judges whether the person may come in, and begins the session.
func (s *Server) start(w http.ResponseWriter, r *http.Request, p *oauth.Provider, id *oauth.Identity, rd string) error {
	u := userOf(p, id)
	if !s.Identity.Admits(&u) {
		err := s.notAdmitted(&u, rd)
		s.failed(r, p, "not_admitted", err)
		return err
	}
	var err error
	if u.Claims, err = s.Identity.Config.Claims.Map(documents(id), nil); err != nil {
		s.failed(r, p, "claims", err)
		return s.claimsTooLarge(p, &u, rd, err)
	}
	// Without the provider's word nobody knows when the person was authenticated:
	// a provider that remembers its people sends them straight back.
	begun := &session.Session{
		User: u, IP: s.ClientIP(r), UserAgent: r.UserAgent(), AuthTime: id.AuthTime, AMR: id.AMR, ACR: id.ACR,
		Tokens: keep(id.Tokens, s.tokensWanted()...),
	}
	if s.Sessions.Store != nil { // by which the provider may end it; see backchannelLogout
		begun.ProviderSID = id.SID
	}
	dropped, err := s.Sessions.Start(w, r, begun)
	if err != nil {
		return s.notStarted(r, p, &u, rd, err)
	}
	if dropped {
		s.Log.WarnContext(r.Context(), "provider tokens do not fit the session cookie and were left out; upstreams do not get them, or they are not refreshed",
			"provider", p.ID(), "user", u.ID)
	}
	if err := s.Guard.Give(w, r, u.ID); err != nil {
		return err
	}
	s.flows.clear(w, r, signedOutCookie)
	if err := s.noteSignIn(w, r); err != nil {
		return err
	}
	s.metrics.signIns.WithLabelValues(p.ID(), "success").Inc()
	s.audit(r, "sign_in", "provider", p.ID(), "user", u.ID, "session", begun.ID)
	return nil
}

// notStarted returns the answer to u, whose sign-in was fine and whose session
// could not begin.
func (s *Server) notStarted(r *http.Request, p *oauth.Provider, u *session.User, rd string, err error) error {
	if errors.Is(err, cookie.ErrTooLarge) {
		s.failed(r, p, "too_large", err)
		return &page.Error{
			Status: http.StatusForbidden, Code: "session_too_large", Title: "Sign-in could not be completed", Err: err,
			Message: p.Name() + " says more about you than fits a cookie, most likely too many groups.",
			Hint:    "For the operator: let the provider send fewer groups for this client.",
			Account: u.Email, SwitchAccount: s.switchAccount(rd),
		}
	}
	if errors.Is(err, session.ErrBanned) {
		s.failed(r, p, "banned", err)
		return &page.Error{
			Status: http.StatusForbidden, Code: "banned", Title: "This account is blocked", Err: err,
			Message: "You signed in, but an administrator has blocked this account.",
			Account: u.Email, SwitchAccount: s.switchAccount(rd),
		}
	}
	return err
}

// claimsTooLarge is the page for a person of whom more is to be kept than can
// be.
func (s *Server) claimsTooLarge(p *oauth.Provider, u *session.User, rd string, err error) error {
	return &page.Error{
		Status: http.StatusForbidden, Code: "claims_too_large", Title: "Sign-in could not be completed", Err: err,
		Message: p.Name() + " says more about you than can be kept.",
		Hint:    "For the operator: " + err.Error() + ". Map less of it in identity.claims, with a longer path.",
		Account: u.Email, SwitchAccount: s.switchAccount(rd),
	}
}

// goOn sends a browser that comes from the provider to rd. The way to another
// host by a hand-off begins with a page of ours: redirects that follow a form on
// the provider's page may be bound to our host.
func (s *Server) goOn(w http.ResponseWriter, r *http.Request, rd string) {
	a, ok := s.cutAsk(rd)
	if !ok {
		redirect(w, rd, http.StatusFound)
		return
	}
	noStore(w)
	s.Pages.Onwards(w, r, page.Onwards{URL: rd, Host: a.Host})
}

// notAdmitted is the page for a person whom sign_in does not name.
func (s *Server) notAdmitted(u *session.User, rd string) *page.Error {
	e := &page.Error{
		Status: http.StatusForbidden, Code: "not_admitted", Title: "This account has no access",
		Message:       "You signed in, but this account may not use the application.",
		Account:       u.Email,
		SwitchAccount: s.switchAccount(rd),
	}
	if u.Email != "" && !u.EmailVerified {
		e.Message = "You signed in, but your e-mail address is not verified, so it does not count."
	}
	return e
}

// switchAccount is where somebody goes who wants to sign in as somebody else.
func (s *Server) switchAccount(rd string) string {
	return s.absolute("/sign-in", url.Values{"rd": {rd}, "prompt": {"select_account"}})
}

// failed writes the audit event and counts a sign-in that did not succeed.
func (s *Server) failed(r *http.Request, p *oauth.Provider, outcome string, err error) {
	s.metrics.signIns.WithLabelValues(p.ID(), outcome).Inc()
	s.auditFailure(r, outcome != "state", "sign_in_failed", "provider", p.ID(), "outcome", outcome, "err", err)
}

// audit logs an event about who came and went, and has it kept in the session
// store if there is one.
func (s *Server) audit(r *http.Request, event string, args ...any) {
	s.Sessions.Record(auditEvent(event, s.ClientIP(r), r.UserAgent(), args))
	s.logAudit(r, event, args...)
}

// logAudit is [Server.audit] for acts of which package session records each
// session that they end.
func (s *Server) logAudit(r *http.Request, event string, args ...any) {
	args = append([]any{"event", event, "request_id", r.Header.Get("X-Request-Id"), "client_ip", s.ClientIP(r), "user_agent", r.UserAgent()}, args...)
	s.Log.InfoContext(r.Context(), "audit", args...)
}

// auditEvent returns an event as a store keeps it. The text of an error stays in
// the log.
func auditEvent(kind, ip, userAgent string, args []any) session.Event {
	e := session.Event{Type: kind, IP: ip, UserAgent: userAgent, Detail: map[string]string{}}
	for i := 0; i+1 < len(args); i += 2 {
		value, ok := args[i+1].(string)
		switch name := args[i].(string); {
		case !ok:
		case name == "user":
			e.UserID = value
		case name == "session":
			e.SessionID = value
		default:
			e.Detail[name] = value
		}
	}
	return e
}
