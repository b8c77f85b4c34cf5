package web

import (
	"mime"
	"net/http"

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
		return s.Hosts.IsOrigin(origin, s.PublicURL.Scheme)
	}
	if site != "" {
		return false
	}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return media == "application/json" || r.Header.Get("X-Requested-With") != ""
}

// isOurHost says whether hostport is one of ours.
func (s *Server) isOurHost(hostport string) bool { return s.Hosts.Contains(hostport) }
