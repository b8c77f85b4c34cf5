package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"authproxy/page"
	"authproxy/policy"
	"authproxy/session"
)

const (
	// handoffCookie begins the name of each hand-off's own cookie; its id follows.
	handoffCookie = "authproxy_handoff_"
	// askName and ticketName are what the two are sealed for. No cookie is sealed
	// for them, so that neither can be used as one, nor a cookie as either.
	askName    = "handoff ask"
	ticketName = "handoff ticket"
	// ticketAge is how long a ticket may take from one host to the other.
	ticketAge = 30 * time.Second
	// maxTicket bounds a sealed ticket in bytes: it travels in a request line, for
	// which nginx has 8 KB.
	maxTicket = 6000
	// maxAsk bounds an address that holds an ask: a return URL that is as long as
	// may be, sealed.
	maxAsk = 4096
)

// An ask is what a browser brings from another host of ours to public_url's. It
// can be neither read nor changed on the way. Who shows it in another browser
// gets nothing: the ticket comes to that browser, which has no nonce for it.
type ask struct {
	ID       string `cbor:"1,keyasint"` // of the nonce's cookie
	Nonce    []byte `cbor:"2,keyasint"` // SHA-256 of the nonce
	Host     string `cbor:"3,keyasint"` // with its port, as the browser called it
	ReturnTo string `cbor:"4,keyasint"`
	Attempt  int    `cbor:"5,keyasint"`
}

// isFor says whether fl, what this browser's cookie remembers, began a.
func (a *ask) isFor(fl flow) bool {
	return fl.ID == a.ID && subtle.ConstantTimeCompare(hash(fl.Nonce), a.Nonce) == 1
}

// A ticket is what the browser brings back: a copy of its session, for one host
// and for whoever has the nonce there.
type ticket struct {
	Ask     ask    `cbor:"1,keyasint"`
	ID      string `cbor:"2,keyasint"` // its own, for the list of those that were shown
	Until   int64  `cbor:"3,keyasint"` // Unix time
	Session []byte `cbor:"4,keyasint"` // see [session.Manager.Copy]
}

// Outside returns the function that says whether a host is one of hosts and
// cookies of public's host do not reach it: it is neither that host nor in
// domain. Ports do not count, because they do not for cookies (RFC 6265, section
// 8.5). Such a host gets its sessions by the hand-off.
func Outside(hosts policy.Hosts, public *url.URL, domain string) func(host string) bool {
	home := hostName(public.Host)
	return func(host string) bool {
		name := hostName(host)
		if name == home || domain != "" && (name == domain || strings.HasSuffix(name, "."+domain)) {
			return false
		}
		return plainHost(host) && hosts.Contains(host)
	}
}

// at returns the URL of a path below the prefix where the browser of r has to go
// for it: on its own host if that one gets its sessions by the hand-off, else on
// public_url's.
func (s *Server) at(r *http.Request, p string, query url.Values) string {
	if s.outside(r.Host) {
		return s.on(r.Host, p, query)
	}
	return s.absolute(p, query)
}

// cutOutside takes scheme and host off rd if that host gets its sessions by the
// hand-off.
func (s *Server) cutOutside(rd string) (host, local string, ok bool) {
	host, local, ok = s.cutOurOrigin(rd)
	return host, local, ok && s.outside(host)
}

// signInFrom is [Server.SignInURL] for the browser of r.
func (s *Server) signInFrom(r *http.Request, rd string) string {
	return s.at(r, "/sign-in", url.Values{"rd": {rd}})
}

// signInOutside is sign-in on a host that gets its sessions by the hand-off.
func (s *Server) signInOutside(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	rd := s.returnURL(askedReturn(q), s.AfterSignIn)
	local := strings.TrimPrefix(r.URL.Path, s.Prefix)
	who, err := s.current(r)
	if err != nil {
		return err
	}
	needed := s.missing(r, who, rd)
	if who != nil && local == "/sign-in" && q.Get("prompt") == "" && needed == nil {
		if err := s.noteReturn(w, r, who, rd); err != nil {
			return err
		}
		redirect(w, rd, http.StatusFound)
		return nil
	}
	for name, values := range needed.Query() {
		q[name] = values
	}
	return s.fetch(w, r, local, q, rd, 0)
}

// fetch sends the browser of r to the sign-in page local on public_url's host,
// to come back with a ticket. The nonce stays here, in a cookie: whoever gets
// hold of the ticket, or makes somebody else use one, does not have it. attempt
// counts the times that this had to be started again.
func (s *Server) fetch(w http.ResponseWriter, r *http.Request, local string, q url.Values, rd string, attempt int) error {
	if err := s.checkLoop(r, s.signInFrom(r, rd)); err != nil {
		return err
	}
	id, nonce := rand.Text(), rand.Text()
	sealed, err := s.Sealer.Seal(askName, ask{ID: id, Nonce: hash(nonce), Host: r.Host, ReturnTo: rd, Attempt: attempt})
	if err != nil {
		return err
	}
	if err := s.handoffs.begin(w, r, flow{ID: id, Nonce: nonce}); err != nil {
		return err
	}
	for _, alias := range returnParameters() {
		q.Del(alias)
	}
	q.Set("rd", s.askURL(sealed))
	s.metrics.handOffs.WithLabelValues("begun").Inc()
	redirect(w, s.absolute(local, q), http.StatusFound)
	return nil
}

func hash(nonce string) []byte {
	sum := sha256.Sum256([]byte(nonce))
	return sum[:]
}

// askURL is where sign-in ends that began on another host: on [Server.handOff].
func (s *Server) askURL(sealed string) string {
	return s.Prefix + "/handoff?" + url.Values{"ask": {sealed}}.Encode()
}

// cutAsk returns the ask in target if that is what [Server.askURL] made. How old
// it is does not matter: the nonce's cookie says how long a hand-off may take.
func (s *Server) cutAsk(target string) (ask, bool) {
	query, ok := strings.CutPrefix(target, s.Prefix+"/handoff?ask=")
	if !ok || len(target) > maxAsk {
		return ask{}, false
	}
	sealed, err := url.QueryUnescape(query)
	if err != nil {
		return ask{}, false
	}
	return s.openAsk([]string{sealed})
}

// openAsk opens the one value of the parameter. The hosts may have changed since
// it was sealed.
func (s *Server) openAsk(values []string) (ask, bool) {
	var a ask
	ok := len(values) == 1 && s.Sealer.Open(askName, values[0], &a) == nil
	return a, ok && s.outside(a.Host)
}

// handOff serves both ends: public_url's host gives out a ticket, the other host
// takes it.
func (s *Server) handOff(w http.ResponseWriter, r *http.Request) error {
	if isPassive(r) {
		return &page.Error{Status: http.StatusUnauthorized, SignIn: s.signInFrom(r, s.AfterSignIn)}
	}
	noStore(w)
	w.Header().Set("Referrer-Policy", "no-referrer")
	end := s.giveTicket
	if s.outside(r.Host) {
		end = s.takeTicket
	}
	err := end(w, r)
	if err != nil {
		// A page that has opened us in another window must not read the ticket off
		// the address of what is shown now.
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	return err
}

// giveTicket sends a browser that is signed in back to where it came from, with
// a ticket, and any other one to sign-in.
func (s *Server) giveTicket(w http.ResponseWriter, r *http.Request) error {
	a, ok := s.openAsk(r.URL.Query()["ask"])
	// A page of another site may put us into a frame and would see nothing, but
	// the ticket would be on its way without anybody at the other end.
	if dest := r.Header.Get("Sec-Fetch-Dest"); !ok || dest != "" && dest != "document" {
		return s.handOffRefused(r, "invalid", errors.New("web: the ask does not open, or is in a frame"))
	}
	here := s.askURL(r.URL.Query().Get("ask"))
	who, err := s.current(r)
	if err != nil {
		return err
	}
	if who == nil {
		redirect(w, s.SignInURL(here), http.StatusFound)
		return nil
	}
	if !who.Admitted {
		return s.notAdmitted(&who.Session.User, here)
	}
	current, err := s.touch(w, r, who.Session)
	if errors.Is(err, session.ErrNone) {
		redirect(w, s.SignInURL(here), http.StatusFound)
		return nil
	}
	if err != nil {
		return err
	}
	sealed, err := s.sealTicket(r, a, current)
	if err != nil {
		return err
	}
	s.metrics.handOffs.WithLabelValues("given").Inc()
	redirect(w, s.PublicURL.Scheme+"://"+a.Host+s.Prefix+"/handoff?"+url.Values{"ticket": {sealed}}.Encode(), http.StatusFound)
	return nil
}

// touch counts r as activity of was, so that the copy is of the session as it is
// now: with new tokens, and with what the provider says of the person today.
func (s *Server) touch(w http.ResponseWriter, r *http.Request, was *session.Session) (*session.Session, error) {
	current, err := s.Sessions.Refresh(r.Context(), was)
	if err != nil {
		return nil, err
	}
	return s.Sessions.Touch(w, r, current)
}

// sealTicket returns a ticket for current. Tokens that make it too long for an
// address are left out.
func (s *Server) sealTicket(r *http.Request, a ask, current *session.Session) (string, error) {
	for _, tokens := range []bool{true, false} {
		raw, err := s.Sessions.Copy(r, current, tokens)
		if err != nil {
			return "", err
		}
		sealed, err := s.Sealer.Seal(ticketName, ticket{Ask: a, ID: rand.Text(), Until: s.Now().Add(ticketAge).Unix(), Session: raw})
		if err != nil || len(sealed) <= maxTicket {
			return sealed, err
		}
		if tokens && current.Tokens.Access+current.Tokens.ID != "" {
			s.Log.WarnContext(r.Context(), "provider tokens do not fit a hand-off and were left out; upstreams of this host do not get them",
				"host", a.Host, "provider", current.User.Provider, "user", current.User.ID)
		}
	}
	return "", &page.Error{
		Status: http.StatusForbidden, Code: "session_too_large", Title: "Sign-in could not be completed", Account: display(&current.User),
		Message: "What your provider says about you does not fit the way to " + a.Host + ", most likely too many groups.",
		Hint:    "For the operator: let the provider send fewer groups for this client.",
	}
}

// takeTicket begins the session on this host. Whatever is wrong with the ticket,
// it is used up.
func (s *Server) takeTicket(w http.ResponseWriter, r *http.Request) error {
	var t ticket
	values := r.URL.Query()["ticket"]
	if len(values) != 1 || s.Sealer.Open(ticketName, values[0], &t) != nil {
		return s.handOffRefused(r, "invalid", errors.New("web: the ticket does not open"))
	}
	first := s.handoffs.used.first(t.ID, s.Now())
	if hostName(t.Ask.Host) != hostName(r.Host) {
		return s.handOffRefused(r, "foreign", errors.New("web: the ticket is for another host"))
	}
	rd := s.returnURL(t.Ask.ReturnTo, s.AfterSignIn) // judged again: the hosts may have changed meanwhile
	fl, ok := s.handoffs.take(w, r, t.Ask.ID)
	switch {
	case !ok || !t.Ask.isFor(fl):
		return s.fetchAgain(w, r, t.Ask, rd, "cookie")
	case !first:
		return s.fetchAgain(w, r, t.Ask, rd, "replayed")
	case s.Now().Unix() >= t.Until:
		return s.fetchAgain(w, r, t.Ask, rd, "late")
	}
	begun, err := s.Sessions.Accept(w, r, t.Session)
	if errors.Is(err, session.ErrNone) {
		return s.fetchAgain(w, r, t.Ask, rd, "ended")
	}
	if err != nil {
		return err
	}
	if err := s.Guard.Give(w, r, begun.User.ID); err != nil {
		return err
	}
	s.flows.clear(w, r, signedOutCookie)
	if err := s.noteSignIn(w, r); err != nil {
		return err
	}
	s.metrics.handOffs.WithLabelValues("success").Inc()
	s.audit(r, "hand_off", "host", r.Host, "provider", begun.User.Provider, "user", begun.User.ID, "session", begun.ID)
	redirect(w, rd, http.StatusFound)
	return nil
}

// handOffRefused is the page for what no browser brings that comes from us.
func (s *Server) handOffRefused(r *http.Request, outcome string, err error) error {
	s.metrics.handOffs.WithLabelValues(outcome).Inc()
	s.auditFailure(r, outcome != "invalid", "hand_off_failed", "outcome", outcome, "err", err)
	return &page.Error{
		Status: http.StatusBadRequest, Code: "invalid_hand_off", Title: "Sign-in could not be verified", Err: err,
		Message:  "This address does not belong to a sign-in that began here. Please sign in again.",
		RetryURL: s.signInFrom(r, s.AfterSignIn),
	}
}

// fetchAgain is for a genuine ticket that is of no use here: it took too long,
// was shown before, or its nonce's cookie was pushed out or not sent. Whoever is
// signed in as the page wants it goes on; otherwise the hand-off starts again, once.
func (s *Server) fetchAgain(w http.ResponseWriter, r *http.Request, a ask, rd, outcome string) error {
	who, err := s.current(r)
	if err != nil {
		return err
	}
	needed := s.missing(r, who, rd)
	if who != nil && needed == nil {
		if err := s.noteReturn(w, r, who, rd); err != nil {
			return err
		}
		redirect(w, rd, http.StatusFound)
		return nil
	}
	s.metrics.handOffs.WithLabelValues(outcome).Inc()
	s.auditFailure(r, true, "hand_off_failed", "outcome", outcome, "host", r.Host)
	if a.Attempt == 0 {
		return s.fetch(w, r, "/sign-in", needed.Query(), rd, a.Attempt+1)
	}
	e := &page.Error{
		Status: http.StatusBadRequest, Code: "cookie_not_returned", Title: "Sign-in could not be completed",
		Message:  "Your browser did not send back the cookie that this sign-in started with. Are cookies allowed for this site?",
		Hint:     "For the operator: " + cookieCauses,
		RetryURL: s.signInFrom(r, rd),
	}
	if outcome != "cookie" {
		e.Code, e.Message = "hand_off_late", "You are signed in, but the way back to this site took too long."
		e.Hint = "For the operator: does the same hold for everybody? Then the clocks of the replicas disagree."
	}
	return e
}
