package web

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"authproxy/page"
	"authproxy/policy"
)

// aliases are the endpoints of oauth2-proxy, for an ingress and applications that
// know those. The one that decides, /oauth2/auth, does not come here.
func (s *Server) aliases() {
	routes := map[string]page.HandlerFunc{
		"GET /oauth2/start":     s.aliasStart,
		"GET /oauth2/sign_in":   s.aliasSignIn,
		"GET /oauth2/callback":  s.aliasCallback,
		"POST /oauth2/callback": s.aliasCallbackForm,
		"GET /oauth2/sign_out":  s.aliasSignOut,
		"POST /oauth2/sign_out": s.sameOrigin(s.signOut),
		"GET /ping":             aliasPing,
		"GET /ready":            aliasPing,
	}
	if s.Prefix != "/oauth2" { // else it is there
		routes["GET /oauth2/userinfo"] = s.userinfo
	}
	for pattern, handler := range routes {
		s.mux.Handle(pattern, s.Pages.Handler(handler))
	}
}

// as returns r as a request for local below our prefix, and with the return URL
// that it brings in whichever way.
func (s *Server) as(r *http.Request, local string) *http.Request {
	q := r.URL.Query()
	if before, rd, ok := plainReturn(r.URL.RawQuery); ok && s.returnURL(rd, "") != "" {
		q, _ = url.ParseQuery(before) // as Query, without what cannot be read
		q.Set("rd", rd)
	} else if rd := r.Header.Get("X-Auth-Request-Redirect"); askedReturn(q) == "" && rd != "" {
		// An ingress that cannot put an address with a query into another one's sends
		// it in a header. A client may as well: it decides where it goes itself.
		q.Set("rd", rd)
	}
	as := *r
	as.URL = &url.URL{Path: s.Prefix + local, RawQuery: q.Encode()}
	return &as
}

// plainReturn returns the address in the raw query's rd if it may be there as it is,
// and what comes before rd. nginx puts it there like this ("?rd=$request_uri", as
// oauth2-proxy documents it), where it has to be the last parameter: what follows is
// the address's own query. An encoded question mark and a parameter behind the path
// are the work of somebody who encodes, if only what they must.
func plainReturn(raw string) (before, rd string, ok bool) {
	if rd, ok = strings.CutPrefix(raw, "rd="); !ok {
		before, rd, ok = strings.Cut(raw, "&rd=")
	}
	p, _, hasQuery := strings.Cut(rd, "?")
	_, parameter, _ := strings.Cut(p, "&")
	encoded := !hasQuery && strings.Contains(strings.ToUpper(p), "%3F") || strings.Contains(parameter, "=")
	return before, rd, ok && !encoded
}

// aliasStart begins a sign-in, with the choice of providers if there are several.
func (s *Server) aliasStart(w http.ResponseWriter, r *http.Request) error {
	return s.signIn(w, s.as(r, "/sign-in"))
}

// aliasSignIn serves a page with the providers, never a redirect: it also fills in
// for an ingress's own page for 401 or 403, and some keep that status.
func (s *Server) aliasSignIn(w http.ResponseWriter, r *http.Request) error {
	as := s.as(r, "/sign-in")
	q := as.URL.Query()
	rd := s.wholeReturn(r, s.returnURL(askedReturn(q), s.AfterSignIn))
	if !page.Navigation(r.Method, r.Header) {
		return &page.Error{Status: http.StatusUnauthorized, SignIn: s.SignInURL(rd), Message: "Sign in to continue."}
	}
	content := s.chooser(q, rd, s.hasSignedOut(r), s.Providers, policy.ParseAsk(q))
	if len(content.Providers) == 1 {
		start := *s.PublicURL
		start.Path, start.RawQuery = "/oauth2/start", url.Values{"rd": {rd}}.Encode()
		content.Providers[0].URL = start.String()
	}
	s.Pages.Chooser(w, r, content)
	return nil
}

// aliasCallback ends a sign-in at the provider that the state names.
func (s *Server) aliasCallback(w http.ResponseWriter, r *http.Request) error {
	r.SetPathValue("provider", s.providerOf(r.URL.Query().Get("state")))
	return s.callback(w, r)
}

// aliasCallbackForm does that with a form.
func (s *Server) aliasCallbackForm(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return &page.Error{Status: http.StatusBadRequest, Err: err}
	}
	r.SetPathValue("provider", s.providerOf(r.PostForm.Get("state")))
	return s.callbackForm(w, r)
}

// providerOf returns the id of the provider whose answer has the state sealed; of
// one that does not open it returns the first, whose callback says so.
func (s *Server) providerOf(sealed string) string {
	var st state
	if s.Sealer.Open(stateName, sealed, &st) == nil {
		return st.Provider
	}
	return s.Providers[0].ID()
}

// aliasSignOut signs out by a link, as oauth2-proxy does, but only by one that a
// person followed on a page of the same origin: elsewhere, and where a browser
// does not say, it asks.
func (s *Server) aliasSignOut(w http.ResponseWriter, r *http.Request) error {
	h := r.Header
	if h.Get("Sec-Fetch-Site") == "same-origin" && h.Get("Sec-Fetch-Dest") == "document" && r.Method == http.MethodGet && page.Navigation(r.Method, h) {
		return s.signOut(w, r)
	}
	return s.askSignOut(w, s.as(r, "/sign-out"))
}

// aliasPing says that the process lives.
func aliasPing(w http.ResponseWriter, _ *http.Request) error {
	noStore(w)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "OK") // who asks may be gone
	return nil
}
