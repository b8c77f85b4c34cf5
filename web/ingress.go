package web

import (
	"net/http"

	"authproxy/page"
)

// fromIngress says whether r is the second half of a request that was not
// allowed: nginx cannot redirect by itself to an address with a query in it, so
// it passes the browser's request on to the sign-in page, and tells in a header
// where the browser wanted to go. That is what it returns, whole.
func (s *Server) fromIngress(r *http.Request) (returnTo string, ok bool) {
	if s.OriginalURL == nil || r.URL.Path != s.Prefix+"/sign-in" || askedReturn(r.URL.Query()) != "" {
		return "", false
	}
	host, target, ok := s.OriginalURL(r)
	if !ok {
		return "", false
	}
	if hostName(host) == hostName(s.PublicURL.Host) {
		return target, true
	}
	return s.PublicURL.Scheme + "://" + host + target, true
}

// signInFor sends a browser to sign in and then to returnTo. Everything else is
// told: the request was made for data, and what it brought must not be repeated.
func (s *Server) signInFor(w http.ResponseWriter, r *http.Request, returnTo string) error {
	rd := s.returnURL(returnTo, s.AfterSignIn)
	method := r.Method
	if original := r.Header["X-Original-Method"]; len(original) > 0 {
		method = original[0] // the ingress may have asked with GET
	}
	if !page.Navigation(method, r.Header) || !page.Navigation(r.Method, r.Header) {
		return &page.Error{Status: http.StatusUnauthorized, SignIn: s.SignInURL(rd), Message: "Sign in to continue."}
	}
	redirect(w, s.SignInURL(rd), http.StatusFound)
	return nil
}
