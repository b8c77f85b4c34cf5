// Package page is what a person sees when authproxy itself answers, and the
// one place that turns an error into a response.
//
// Handlers return an [*Error] (or any error) through [Renderer.Handler]; the
// answer is a page for a browser that shows pages and JSON for everything
// else. [Navigation], [WantsHTML] and [Preflight] are the negotiation: pure
// functions of a method and its header, so that every face of the proxy gives
// the same answer to the same request.
//
// The promise: an answer of this package never holds the text of an internal
// error, is never cached, and runs no script. The pages need no JavaScript,
// no inline style and nothing from another origin.
package page

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

//go:embed templates static
var files embed.FS

// A Config says how a [Renderer] answers.
type Config struct {
	// Prefix is the path below which authproxy is served, such as "/auth": it
	// starts with a slash and does not end with one. Default "/auth".
	Prefix string

	// Log receives every error that was answered. Default [slog.Default].
	Log *slog.Logger

	// RequestID returns the id of a request, for the page, the JSON and the
	// log. Nil means that requests have no id.
	RequestID func(r *http.Request) string
}

// A Renderer answers requests with pages and errors. Make one with [New]. It
// is safe for concurrent use.
type Renderer struct {
	log        *slog.Logger
	requestID  func(r *http.Request) string
	pages      map[string]*template.Template // by file name: "error.html"
	assets     map[string]asset              // by path below the prefix: "/static/…"
	stylesheet string                        // URL, with the prefix and a version
	favicon    string                        // the same
}

// New returns a renderer for c. It fails when the prefix is not a path or the
// embedded templates do not parse.
func New(c Config) (*Renderer, error) {
	p := &Renderer{log: c.Log, requestID: c.RequestID}
	if p.log == nil {
		p.log = slog.Default()
	}
	if p.requestID == nil {
		p.requestID = func(*http.Request) string { return "" }
	}
	prefix, err := checkPrefix(c.Prefix)
	if err != nil {
		return nil, err
	}
	if p.pages, err = parsePages(); err != nil {
		return nil, err
	}
	if p.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	p.stylesheet = p.assetURL(prefix, "/static/authproxy.css")
	p.favicon = p.assetURL(prefix, "/static/icon.svg")
	return p, nil
}

func checkPrefix(prefix string) (string, error) {
	if prefix == "" {
		return "/auth", nil
	}
	if !strings.HasPrefix(prefix, "/") || strings.HasPrefix(prefix, "//") || strings.HasSuffix(prefix, "/") {
		return "", fmt.Errorf("page: prefix %q: must start with one slash and not end with one, like /auth", prefix)
	}
	return prefix, nil
}

// parsePages returns each page with the base layout around it, by file name.
func parsePages() (map[string]*template.Template, error) {
	pages := make(map[string]*template.Template)
	for _, name := range []string{"error.html", "chooser.html", "signout.html", "signedout.html", "onwards.html", "account.html"} {
		t, err := template.New(name).Funcs(template.FuncMap{"initial": initial}).
			ParseFS(files, "templates/base.html", "templates/icons.html", "templates/"+name)
		if err != nil {
			return nil, fmt.Errorf("page: template %s: %w", name, err)
		}
		pages[name] = t
	}
	return pages, nil
}

// A Provider is one way to sign in, as the chooser offers it.
type Provider struct {
	ID   string // stands in for an empty Name
	Name string // shown: "Google"
	URL  string // where the link leads: the provider's sign-in page of ours
}

// Chooser is the content of [Renderer.Chooser].
type Chooser struct {
	Providers []Provider // in the order shown
	Host      string     // what the user signs in to; optional
	Notice    string     // a sentence above the providers, such as "You were signed out."; optional
}

// SignOut is the content of [Renderer.SignOut].
type SignOut struct {
	User       string // who is signed in: e-mail or name; optional
	Action     string // where the form is posted to
	ReturnURL  string // sent along as "rd"; optional
	Everywhere bool   // offers a second button, which sends scope=all

	// FormAction names further origins that the answer to the form may
	// redirect to, such as the provider's sign-out page: Chromium applies the
	// policy's form-action to redirects as well. URLs are cut down to their
	// origins; anything that is not an http or https URL is left out.
	FormAction []string
}

// SignedOut is the content of [Renderer.SignedOut].
type SignedOut struct {
	SignIn string // URL of the sign-in page; optional
}

// Onwards is the content of [Renderer.Onwards].
type Onwards struct {
	URL  string // where the page leads, on this host; no ";" or "," in it
	Host string // what it says about where that ends
}

// Onwards answers 200 with a page that goes on to o.URL by itself, at once. It is
// for where a redirect would fail: Chromium applies the form-action of a page to
// all redirects that follow its form, and the sign-in page of a provider knows
// the host of its client, but no further ones.
func (p *Renderer) Onwards(w http.ResponseWriter, r *http.Request, o Onwards) {
	SecurityHeaders(w.Header())
	w.Header().Set("Refresh", "0; url="+o.URL)
	p.render(w, r, http.StatusOK, "onwards.html", view{Title: "You are signed in", Icon: "check", Page: o})
}

// Chooser answers 200 with the ways to sign in.
func (p *Renderer) Chooser(w http.ResponseWriter, r *http.Request, c Chooser) {
	title := "Sign in"
	if c.Host != "" {
		title = "Sign in to " + c.Host
	}
	SecurityHeaders(w.Header())
	p.render(w, r, http.StatusOK, "chooser.html", view{Title: title, Icon: "key", Page: c})
}

// SignOut answers 200 with a form that asks whether to sign out.
func (p *Renderer) SignOut(w http.ResponseWriter, r *http.Request, s SignOut) {
	SecurityHeaders(w.Header())
	w.Header().Set("Content-Security-Policy", contentSecurityPolicy(s.FormAction))
	p.render(w, r, http.StatusOK, "signout.html", view{Title: "Sign out?", Icon: "exit", Page: s})
}

// SignedOut answers 200 and says that the user is signed out.
func (p *Renderer) SignedOut(w http.ResponseWriter, r *http.Request, s SignedOut) {
	SecurityHeaders(w.Header())
	p.render(w, r, http.StatusOK, "signedout.html", view{Title: "You are signed out", Icon: "check", Page: s})
}

// A view is what the base layout shows.
type view struct {
	Title      string // of the document
	Icon       string // one of icons.html
	Stylesheet string
	Favicon    string
	Page       any // what the page's own template shows
}

// render writes a whole page or, when its template fails, a plain 500: the
// page is built first, so that no user sees half of one.
func (p *Renderer) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.Stylesheet, v.Favicon = p.stylesheet, p.favicon
	var body bytes.Buffer
	contentType := "text/html; charset=utf-8"
	if err := p.pages[name].ExecuteTemplate(&body, "base", v); err != nil {
		p.log.ErrorContext(r.Context(), "page could not be rendered", "page", name, "err", err)
		status, contentType = http.StatusInternalServerError, "text/plain; charset=utf-8"
		body.Reset()
		body.WriteString("Something went wrong.\n")
	}
	answer(forMethod(w, r.Method), status, contentType, body.Bytes())
}

// initial returns the letter that stands for a provider beside its name.
func initial(name string) string {
	for _, r := range name {
		if r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return string(unicode.ToUpper(r))
		}
	}
	return "•"
}
