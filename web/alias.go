package web

import (
	"net/http"
	"net/url"
	"strings"

	"authproxy/page"
)

// The actions of [Server.Alias].
const (
	AliasSignOut = "sign-out"
	AliasSignIn  = "sign-in"
)

// Alias returns what answers at a path of the application in its place, so that
// its own links work: action is one of the constants, nil is returned for any
// other.
func (s *Server) Alias(action string) http.Handler {
	switch action {
	case AliasSignOut:
		return s.Pages.Handler(s.aliasOut)
	case AliasSignIn:
		return s.Pages.Handler(func(w http.ResponseWriter, r *http.Request) error {
			return s.signIn(w, s.local(r, "/sign-in"))
		})
	}
	return nil
}

// local returns r as a request for a path of ours. What the application says in
// its query means nothing here.
func (s *Server) local(r *http.Request, p string) *http.Request {
	as := *r
	as.URL = &url.URL{Path: s.Prefix + p}
	return &as
}

// aliasOut signs out where a person has followed a link of the application's own
// page or sent its form. A link that a stranger's page or mail has, a picture or
// a prefetch must not: it asks.
func (s *Server) aliasOut(w http.ResponseWriter, r *http.Request) error {
	local := s.local(r, "/sign-out")
	// What the application's form holds is of any size and means nothing here.
	signOut := func(w http.ResponseWriter, r *http.Request) error { return s.signOutTo(w, r, "", "") }
	switch {
	case r.Method == http.MethodPost:
		return s.sameOrigin(signOut)(w, local)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD, POST")
		return &page.Error{Status: http.StatusMethodNotAllowed}
	case r.Method == http.MethodGet && isOwnLink(r.Header):
		return signOut(w, local)
	}
	return s.askSignOut(w, local)
}

// isOwnLink says whether a browser vouches that somebody went to a page from one
// of the same origin. No page can write these headers (Fetch Metadata).
func isOwnLink(h http.Header) bool {
	return h.Get("Sec-Fetch-Site") == "same-origin" && h.Get("Sec-Fetch-Mode") == "navigate" && h.Get("Sec-Fetch-Dest") == "document" &&
		!strings.Contains(h.Get("Sec-Purpose"), "prefetch")
}
