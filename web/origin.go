package web

import (
	"mime"
	"net/http"
	"net/url"

	"authproxy/page"
)

// sameOrigin lets h answer only what a page of ours sent: whatever changes
// state by a cookie must not be triggered from another site (CSRF).
func (s *Server) sameOrigin(h page.HandlerFunc) page.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !s.fromUs(r) {
			return &page.Error{Status: http.StatusForbidden, Code: "cross_site", Title: "Request refused",
				Message: "This request came from another site, so it was not carried out."}
		}
		return h(w, r)
	}
}

// fromUs judges by what no page can forge: Sec-Fetch-Site, which browsers have
// sent since 2023, else Origin. A client that sends neither is no current
// browser; it must show a header that a cross-site form cannot carry and a
// cross-site script can send only after a CORS preflight, which nobody answers
// here (Fetch, section 2.2.2, "CORS-safelisted").
func (s *Server) fromUs(r *http.Request) bool {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	if len(r.Header["Sec-Fetch-Site"]) > 1 || len(r.Header["Origin"]) > 1 {
		return false
	}
	if site == "same-origin" || site == "none" {
		return true
	}
	if origin != "" {
		return s.isOurOrigin(origin)
	}
	if site != "" {
		return false
	}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return media == "application/json" || r.Header.Get("X-Requested-With") != ""
}

// isOurOrigin says whether origin, as browsers serialize it, is that of
// public_url, or of another of our hosts over the same scheme.
func (s *Server) isOurOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme+"://"+u.Host != origin {
		return false
	}
	return u.Scheme == s.PublicURL.Scheme && s.isOurHost(u.Host)
}

// isOurHost says whether hostport is one of ours.
func (s *Server) isOurHost(hostport string) bool { return s.Hosts.Contains(hostport) }
