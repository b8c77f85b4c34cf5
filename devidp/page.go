package devidp

import (
	"bytes"
	"crypto/rand"
	"embed"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

//go:embed page.html
var pageFS embed.FS

var pages = template.Must(template.ParseFS(pageFS, "page.html"))

// messagePage is the data of a page that only says something.
type messagePage struct {
	Title, Message string
}

type signInPage struct {
	Client  string   // its id
	Origin  string   // where the browser goes next
	Request string   // the authorization request, for the hidden field
	Users   []choice // the signed-in user first
}

type choice struct {
	User
	Initial string
	Current bool // signed in already: "Continue as"
}

type formPostPage struct {
	Action string
	Values []field
}

type field struct{ Name, Value string }

// renderSignIn shows the choice of users.
func (s *Server) renderSignIn(w http.ResponseWriter, req *authRequest, current *session) {
	page := signInPage{
		Client:  req.client.ID,
		Origin:  originOf(req.redirectURI),
		Request: req.params.Encode(),
	}
	for i := range s.users {
		user := &s.users[i]
		c := choice{User: *user, Initial: initial(user), Current: current != nil && current.user == user}
		if c.Current {
			page.Users = slices.Insert(page.Users, 0, c)
			continue
		}
		page.Users = append(page.Users, c)
	}
	// Chromium applies form-action to the redirects that follow the form too, so
	// the client's origins have to be in it.
	formAction := []string{"'self'"}
	for _, uri := range req.client.RedirectURIs {
		formAction = append(formAction, cspSource(uri))
	}
	renderPage(w, http.StatusOK, formAction, "sign-in", page)
}

// renderFormPost sends values to target by a form that sends itself (OAuth 2.0
// Form Post Response Mode section 2). That takes the only script in this
// package; without it there is a button.
func renderFormPost(w http.ResponseWriter, target string, values url.Values) {
	page := formPostPage{Action: target}
	for name := range values {
		page.Values = append(page.Values, field{name, values.Get(name)})
	}
	slices.SortFunc(page.Values, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	// The client answers with a redirect of its own, to anywhere on the web: what
	// form-action allows has to be as wide.
	renderPage(w, http.StatusOK, []string{"http:", "https:"}, "form-post", page)
}

// renderPage answers with the template name. formAction is what forms may send
// to; nil forbids forms.
func renderPage(w http.ResponseWriter, status int, formAction []string, name string, page any) {
	nonce := rand.Text()
	var body bytes.Buffer
	data := struct {
		Nonce string
		Page  any
	}{nonce, page}
	if err := pages.ExecuteTemplate(&body, name, data); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	if formAction == nil {
		formAction = []string{"'none'"}
	}
	policy := []string{
		"default-src 'none'",
		"style-src 'nonce-" + nonce + "'",
		"form-action " + strings.Join(slices.Compact(formAction), " "),
		"base-uri 'none'",
		"frame-ancestors 'none'",
	}
	if name == "form-post" {
		policy = append(policy, "script-src 'nonce-"+nonce+"'")
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", strings.Join(policy, "; "))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	// Not "no-referrer": with that, browsers send "Origin: null" with the form,
	// and one without Sec-Fetch-Site could not be told from a foreign site.
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

func originOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// cspSource returns the CSP source that allows uri's origin. An IPv6 address
// cannot be written in one (CSP Level 3 section 2.3.1), so it takes the scheme.
func cspSource(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "'none'"
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && addr.Is6() {
		return u.Scheme + ":"
	}
	return u.Scheme + "://" + u.Host
}

// initial is the letter in the circle beside a user's name.
func initial(u *User) string {
	for _, r := range u.Name + u.Login {
		return strings.ToUpper(string(r))
	}
	return ""
}
