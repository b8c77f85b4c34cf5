package web

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"authproxy/identity"
	"authproxy/oauth"
	"authproxy/page"
	"authproxy/policy"
	"authproxy/session"
)

// signIn serves the page with the providers. With one provider the browser goes
// straight on, unless somebody has just signed out.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) error {
	if done, err := s.notHere(w, r); done || err != nil {
		return err
	}
	q := r.URL.Query()
	rd := s.returnURL(askedReturn(q), s.AfterSignIn)
	who, err := s.current(r)
	if err != nil {
		return err // nobody could be signed in now
	}
	another, needed, current := q.Get("prompt") != "", s.missing(r, who, rd), ""
	if who != nil && who.Admitted {
		if current = who.User.Provider; !another && needed == nil {
			// A stale sign-in page, opened before another tab signed in.
			if err := s.noteReturn(w, r, who, rd); err != nil {
				return err
			}
			redirect(w, rd, http.StatusFound)
			return nil
		}
	}
	signedOut, providers := s.hasSignedOut(r), s.capable(needed, current)
	if len(providers) == 1 && (another || current != "" || !signedOut) {
		return s.begin(w, r, providers[0], beginning{rd: rd, ask: needed}, prompts(q))
	}
	s.Pages.Chooser(w, r, s.chooser(q, rd, signedOut, providers, needed))
	return nil
}

// current returns who is signed in with a cookie, admitted or not, nil for nobody.
// It fails if that cannot be found out.
func (s *Server) current(r *http.Request) (*identity.Who, error) {
	who, err := s.Identity.Identify(r)
	switch {
	case errors.Is(err, identity.ErrAnonymous), errors.Is(err, identity.ErrBearer), err == nil && who.Session == nil:
		return nil, nil
	}
	return who, err
}

// notHere handles the requests for which no sign-in begins. A program that
// brings credentials, a script or an image is told, never redirected. A browser
// that wants a page of a host with sessions of its own goes there, where it gets one
// by the hand-off; any other one on another host of ours goes to public_url's first,
// where the provider will send it back to and where its cookies must be. A host that
// a proxy in front has made up is none of ours, and changes nothing.
func (s *Server) notHere(w http.ResponseWriter, r *http.Request) (done bool, err error) {
	if isPassive(r) {
		return true, &page.Error{Status: http.StatusUnauthorized, SignIn: s.signInFrom(r, s.AfterSignIn)}
	}
	q := r.URL.Query()
	rd := s.wholeReturn(r, s.returnURL(askedReturn(q), s.AfterSignIn))
	host, local, outside := s.cutOutside(rd)
	switch {
	case outside && hostName(host) == hostName(r.Host):
		return true, s.signInOutside(w, r)
	case outside:
		rd = local
	case hostName(r.Host) == hostName(s.PublicURL.Host) || !s.isOurHost(r.Host):
		return false, nil
	default:
		host = s.PublicURL.Host
	}
	for _, alias := range returnParameters() {
		q.Del(alias)
	}
	q.Set("rd", rd)
	redirect(w, s.on(host, strings.TrimPrefix(r.URL.Path, s.Prefix), q), http.StatusFound)
	return true, nil
}

// wholeReturn returns rd, a return URL of r, as it is called on public_url's host: a
// path of another host of ours becomes absolute.
func (s *Server) wholeReturn(r *http.Request, rd string) string {
	if strings.HasPrefix(rd, "/") && hostName(r.Host) != hostName(s.PublicURL.Host) && s.isOurHost(r.Host) {
		return s.PublicURL.Scheme + "://" + r.Host + rd
	}
	return rd
}

// isPassive says whether r is no person who goes to a page: a program that brings
// credentials, a script, a browser that guesses, or an image, with which another
// site would start sign-ins by the dozen.
func isPassive(r *http.Request) bool {
	mode := r.Header.Get("Sec-Fetch-Mode")
	return len(r.Header["Authorization"]) > 0 || mode != "" && mode != "navigate" || strings.Contains(r.Header.Get("Sec-Purpose"), "prefetch")
}

// hostName returns the name in hostport, in the form in which names compare. A
// proxy in front may add the port or a dot; to go there again would be a circle.
func hostName(hostport string) string {
	u := url.URL{Host: hostport}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

// chooser is the page's content; its links keep what the request asked for.
func (s *Server) chooser(q url.Values, rd string, signedOut bool, providers []*oauth.Provider, needed *policy.Ask) page.Chooser {
	c := page.Chooser{Host: s.PublicURL.Host}
	if signedOut {
		c.Notice = "You are signed out."
	}
	for _, p := range providers {
		query := needed.Query()
		query.Set("rd", rd)
		for _, name := range []string{"login_hint", "prompt"} {
			if v := q.Get(name); v != "" {
				query.Set(name, v)
			}
		}
		c.Providers = append(c.Providers, page.Provider{ID: p.ID(), Name: p.Name(), URL: s.absolute("/sign-in/"+p.ID(), query)})
	}
	return c
}

// signInAt begins a sign-in at one provider.
func (s *Server) signInAt(w http.ResponseWriter, r *http.Request) error {
	p, err := s.provider(r.PathValue("provider"))
	if err != nil {
		return err
	}
	if done, err := s.notHere(w, r); done || err != nil {
		return err
	}
	q := r.URL.Query()
	return s.begin(w, r, p, beginning{rd: s.returnURL(askedReturn(q), s.AfterSignIn), ask: policy.ParseAsk(q)}, prompts(q))
}

func (s *Server) provider(id string) (*oauth.Provider, error) {
	p, ok := s.providers[id]
	if !ok {
		return nil, &page.Error{Status: http.StatusNotFound, Code: "unknown_provider", Message: "There is no such way to sign in."}
	}
	return p, nil
}

// returnParameters are the names of the parameter that says where to end, the
// first one that is set counts.
func returnParameters() []string { return []string{"rd", "callbackUrl", "callbackURL"} }

// askedReturn is where the request wants the browser to end.
func askedReturn(q url.Values) string {
	for _, name := range returnParameters() {
		if v := q.Get(name); v != "" {
			return v
		}
	}
	return ""
}

// prompts are the request's wishes for the provider's page. "none" is not among
// them: its answer could only be an error.
func prompts(q url.Values) oauth.Prompts {
	ask := oauth.Prompts{Prompt: q.Get("prompt")}
	if !slices.Contains([]string{"login", "select_account", "consent"}, ask.Prompt) {
		ask.Prompt = ""
	}
	if hint := q.Get("login_hint"); len(hint) <= 320 {
		ask.LoginHint = hint
	}
	return ask
}

// A beginning is what a sign-in that begins has in mind.
type beginning struct {
	rd      string      // where the browser ends
	ask     *policy.Ask // what the sign-in must show, nil for nothing
	attempt int         // how often it had to be started again
}

// again is the beginning of the sign-in of st, which did not come to its end.
func again(st state, rd string) beginning {
	return beginning{rd: rd, ask: st.Ask.policy(), attempt: st.Attempt + 1}
}

// begin starts a flow at p and sends the browser there.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, p *oauth.Provider, b beginning, prompts oauth.Prompts) error {
	if err := s.checkLoop(r, s.signInAgain(p, b.rd)); err != nil {
		return err
	}
	if b.ask != nil && s.recentSignIns(r).Count >= maxLoops {
		// The provider says that it did what was asked for, and the rules disagree.
		return s.notShown(p, state{Ask: sealAsk(b.ask)}, b.rd, "wants more of a sign-in than several in a row have shown", nil)
	}
	if prompts == (oauth.Prompts{}) && s.hasSignedOut(r) {
		prompts.Prompt = "select_account"
	}
	prompts = s.demand(r, prompts, b.ask)
	id := rand.Text()
	st := state{ID: id, Provider: p.ID(), ReturnTo: b.rd, Attempt: b.attempt, Prompt: prompts.Prompt, Ask: sealAsk(b.ask)}
	sealed, err := s.Sealer.Seal(stateName, st)
	if err != nil {
		return err
	}
	login := oauth.NewLogin(sealed)
	target, err := p.AuthCodeURL(r.Context(), sealed, login, prompts)
	var refused *oauth.RefusedError
	if errors.As(err, &refused) {
		if unknownPrompt(refused, prompts.Prompt) {
			return s.begin(w, r, p, b, oauth.Prompts{Prompt: "login"})
		}
		s.failed(r, p, "refused", err)
		return s.refused(p, st, b.rd, refused)
	}
	if err != nil {
		s.metrics.signIns.WithLabelValues(p.ID(), "unavailable").Inc()
		return s.unavailable(p, b.rd, err)
	}
	if err := s.flows.begin(w, r, flow{ID: id, Provider: p.ID(), Login: login}); err != nil {
		return err
	}
	s.metrics.signIns.WithLabelValues(p.ID(), "begun").Inc()
	redirect(w, target, http.StatusFound)
	return nil
}

// unknownPrompt says whether a provider may have refused because it does not
// know the prompt, which its metadata do not say beforehand. All know "login"
// (OpenID Connect Core 1.0, section 3.1.2.1).
func unknownPrompt(refused *oauth.RefusedError, prompt string) bool {
	return refused.Code == "invalid_request" && prompt == "select_account"
}

// unavailable is the page for a provider that cannot be reached.
func (s *Server) unavailable(p *oauth.Provider, rd string, err error) error {
	return &page.Error{
		Status: http.StatusServiceUnavailable, Code: "provider_unavailable", RetryAfter: 10 * time.Second,
		Message:  p.Name() + " cannot be reached at the moment. Whoever is signed in stays signed in.",
		RetryURL: s.signInAgain(p, rd), Err: err,
	}
}

func (s *Server) signInAgain(p *oauth.Provider, rd string) string {
	return s.absolute("/sign-in/"+p.ID(), url.Values{"rd": {rd}})
}

// A loop counts sign-ins that ended a moment ago.
type loop struct {
	Count int   `cbor:"1,keyasint"`
	Since int64 `cbor:"2,keyasint"` // Unix time
}

// checkLoop breaks the circle of a browser that signs in again and again: the
// sign-in works, but the session's cookie does not come back. The page leads to
// retry.
func (s *Server) checkLoop(r *http.Request, retry string) error {
	if s.recentSignIns(r).Count < maxLoops {
		return nil
	}
	if _, err := s.Sessions.Lookup(r); !errors.Is(err, session.ErrNone) {
		return err
	}
	return &page.Error{
		Status: http.StatusBadRequest, Code: "cookie_not_returned", Title: "Sign-in goes round in circles",
		Message:  "You signed in, but your browser does not send back the session's cookie. Are cookies allowed for this site?",
		Hint:     "For the operator: " + cookieCauses,
		RetryURL: retry,
	}
}

// A returns counts how often a browser that is signed in was sent back to one page
// without another sign-in.
type returns struct {
	Page []byte `cbor:"1,keyasint"` // a hash of its address
	Loop loop   `cbor:"2,keyasint"`
}

// noteReturn counts that the browser of r, in which who is signed in, is sent back
// to rd without another sign-in. It fails if that did not help a moment ago: what
// judges the requests there may see the session in another way, as a replica with
// other keys or another clock does, and the browser would go round in circles.
func (s *Server) noteReturn(w http.ResponseWriter, r *http.Request, who *identity.Who, rd string) error {
	now := returns{Page: hash(s.endOf(r, rd))[:8], Loop: loop{Since: s.Now().Unix()}}
	var was returns
	if s.flows.get(r, returnedCookie, &was) && bytes.Equal(was.Page, now.Page) && was.Loop.isRecent(s.Now()) {
		now.Loop = was.Loop
	}
	if now.Loop.Count++; now.Loop.Count > maxLoops {
		return &page.Error{
			Status: http.StatusBadRequest, Code: "sign_in_loop", Title: "Sign-in goes round in circles",
			Message: "You are signed in, but the page that you want sends you back to sign in again and again.",
			Hint: "For the operator: do all replicas have the same cookie.keys, session.version and rules, and do their clocks agree? " +
				"Does the ingress pass the Cookie header of this host on?",
			Account: display(&who.User), RetryURL: rd, SwitchAccount: s.switchAccount(rd),
		}
	}
	return s.flows.set(w, r, returnedCookie, now, loopWindow)
}

// cookieCauses is what to look for when a browser does not send cookies back.
const cookieCauses = "is public_url the address in the browser's address bar, with the right scheme (a Secure cookie is lost over http)? " +
	"Does cookie.domain contain that host? Is cookie.same_site strict although the sign-in comes from another site? Does a proxy in front cut the cookie header?"

func (s *Server) recentSignIns(r *http.Request) loop {
	var l loop
	if !s.flows.get(r, signedInCookie, &l) || !l.isRecent(s.Now()) {
		return loop{}
	}
	return l
}

func (l *loop) isRecent(now time.Time) bool { return now.Sub(time.Unix(l.Since, 0)) < loopWindow }

// noteSignIn counts a sign-in that has just ended.
func (s *Server) noteSignIn(w http.ResponseWriter, r *http.Request) error {
	l := s.recentSignIns(r)
	if l.Count == 0 {
		l.Since = s.Now().Unix()
	}
	l.Count++
	return s.flows.set(w, r, signedInCookie, l, loopWindow)
}

// hasSignedOut says whether this browser signed out and not in again.
func (s *Server) hasSignedOut(r *http.Request) bool {
	var yes bool
	return s.flows.get(r, signedOutCookie, &yes) && yes
}

// signInSocial is the way in for scripts: it answers where to go.
func (s *Server) signInSocial(w http.ResponseWriter, r *http.Request) error {
	var ask struct {
		Provider    string `json:"provider"`
		CallbackURL string `json:"callbackURL"`
	}
	if err := readJSON(w, r, &ask); err != nil {
		return err
	}
	p, err := s.provider(ask.Provider)
	if err != nil {
		return err
	}
	rd := s.AfterSignIn
	if ask.CallbackURL != "" {
		if rd = s.returnURL(ask.CallbackURL, ""); rd == "" {
			return &page.Error{Status: http.StatusBadRequest, Code: "invalid_return_url",
				Message: "callbackURL must be a path on this site, or a URL of one of its hosts."}
		}
	}
	noStore(w)
	page.WriteJSON(w, http.StatusOK, map[string]any{"url": s.at(r, "/sign-in/"+p.ID(), url.Values{"rd": {rd}}), "redirect": true})
	return nil
}

// maxBody bounds the JSON that we read, in bytes.
const maxBody = 8 << 10

// readJSON reads the request's body, one JSON value, into v.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	err := body.Decode(v)
	if err == nil {
		if _, extra := body.Token(); extra == io.EOF {
			return nil
		}
		err = errors.New("more than one value")
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &page.Error{Status: http.StatusRequestEntityTooLarge, Err: err}
	}
	return &page.Error{Status: http.StatusBadRequest, Code: "invalid_json", Message: "The body is not the JSON that is expected here.", Err: err}
}
