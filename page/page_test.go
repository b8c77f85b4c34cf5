package page

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

const plainPolicy = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// pages returns every page, with each field set to what fill returns for it.
func pages(p *Renderer, fill func(field string) string) map[string]http.HandlerFunc {
	failure := func(status int, code string, after time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			p.Error(w, r, &Error{
				Status: status, Code: code, RetryAfter: after,
				Title: fill("Title"), Message: fill("Message"), Hint: fill("Hint"),
				SignIn: fill("SignIn"), SwitchAccount: fill("SwitchAccount"), RetryURL: fill("RetryURL"),
				User: fill("User"), Rule: fill("Rule"),
			})
		}
	}
	all := map[string]http.HandlerFunc{
		"provider unavailable": failure(503, "provider_unavailable", time.Minute),
		"chooser": func(w http.ResponseWriter, r *http.Request) {
			p.Chooser(w, r, Chooser{
				Host: fill("Host"), Notice: fill("Notice"),
				Providers: []Provider{{ID: fill("ID"), URL: fill("URL")}, {Name: fill("Name"), URL: fill("URL")}},
			})
		},
		"chooser without providers": func(w http.ResponseWriter, r *http.Request) { p.Chooser(w, r, Chooser{}) },
		"sign out": func(w http.ResponseWriter, r *http.Request) {
			p.SignOut(w, r, SignOut{User: fill("User"), Action: fill("Action"), ReturnURL: fill("ReturnURL"), Everywhere: true})
		},
		"zero sign out": func(w http.ResponseWriter, r *http.Request) { p.SignOut(w, r, SignOut{}) },
		"onwards": func(w http.ResponseWriter, r *http.Request) {
			p.Onwards(w, r, Onwards{URL: "/auth/handoff?ask=x", Host: fill("Host")})
		},
		"account": func(w http.ResponseWriter, r *http.Request) {
			p.Account(w, r, Account{
				Name: fill("Name"), Email: fill("Email"), Provider: fill("Provider"), Home: fill("SignIn"), Action: fill("Action"), Done: DoneOne, Complete: true,
				Devices: []Device{{ID: fill("ID"), Name: fill("Name"), IP: fill("IP"), Current: true}, {ID: fill("ID")}},
			})
		},
		"account without a store": func(w http.ResponseWriter, r *http.Request) {
			p.Account(w, r, Account{Email: fill("Email"), Done: fill("Done"), Devices: []Device{{Name: fill("Name"), Current: true}}})
		},
		"signed out": func(w http.ResponseWriter, r *http.Request) { p.SignedOut(w, r, SignedOut{SignIn: fill("SignIn")}) },
	}
	for _, status := range []int{0, 400, 401, 403, 404, 405, 409, 413, 429, 499, 500, 502, 503, 504, 599} {
		all["error "+strconv.Itoa(status)] = failure(status, "", 0)
	}
	return all
}

// get asks for a page the way a browser does, and parses it.
func get(t *testing.T, h http.Handler) (*httptest.ResponseRecorder, *html.Node) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, browserRequest("GET", "/"))
	doc, err := html.Parse(strings.NewReader(w.Body.String()))
	if err != nil {
		t.Fatal(err)
	}
	return w, doc
}

// elements returns the elements of doc with a name; "*" is any.
func elements(doc *html.Node, name string) []*html.Node {
	var found []*html.Node
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode && (name == "*" || n.Data == name) {
			found = append(found, n)
		}
	}
	return found
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func TestEveryPageIsWellFormedAndSafe(t *testing.T) {
	fills := map[string]func(string) string{
		"zero values": func(string) string { return "" },
		"plain values": func(field string) string {
			if strings.Contains(field, "URL") || strings.HasPrefix(field, "S") || field == "Action" {
				return "/auth/x?rd=%2F&a=b"
			}
			return "value of " + field
		},
		"markup": func(field string) string {
			return `"'><script>alert("` + field + `")</script><img src=x onerror=alert(1)>`
		},
		"script URLs":     func(string) string { return "javascript:alert(1)" },
		"hidden script":   func(string) string { return "\x01java\tscript:alert(1)//" },
		"data URLs":       func(string) string { return "data:text/html,<script>alert(1)</script>" },
		"template syntax": func(string) string { return "{{.}}`${alert(1)}`" },
	}
	p, _ := newRenderer(t)
	for fillName, fill := range fills {
		for name, h := range pages(p, fill) {
			t.Run(name+" with "+fillName, func(t *testing.T) {
				w, doc := get(t, h)
				if got := w.Header().Get("Content-Security-Policy"); got != plainPolicy {
					t.Errorf("Content-Security-Policy = %q, want %q", got, plainPolicy)
				}
				for header, want := range map[string]string{"Cache-Control": "no-store", "Vary": "Cookie", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Content-Type": "text/html; charset=utf-8"} {
					if got := w.Header().Get(header); got != want {
						t.Errorf("%s = %q, want %q", header, got, want)
					}
				}
				checkSafe(t, doc)
				checkAccessible(t, doc)
			})
		}
	}
}

// checkSafe fails for anything that the policy would block, or ought to.
func checkSafe(t *testing.T, doc *html.Node) {
	t.Helper()
	allowed := strings.Fields("html head meta title link body main svg path circle rect h1 h2 time p strong dl div dt dd code a ul li span form input button")
	for _, n := range elements(doc, "*") {
		if !slices.Contains(allowed, n.Data) {
			t.Errorf("page has a <%s>", n.Data)
		}
		for _, a := range n.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
				t.Errorf("<%s> has the attribute %s", n.Data, a.Key)
			}
			if a.Key == "src" || a.Key == "href" && n.Data != "a" && !strings.HasPrefix(a.Val, "/auth/static/") {
				t.Errorf("<%s> loads %q", n.Data, a.Val)
			}
			if a.Key == "href" || a.Key == "action" {
				checkURL(t, a.Val)
			}
		}
	}
}

func checkURL(t *testing.T, raw string) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil || !slices.Contains([]string{"", "http", "https"}, u.Scheme) {
		t.Errorf("page links to %q", raw)
	}
}

func checkAccessible(t *testing.T, doc *html.Node) {
	t.Helper()
	if got := attr(elements(doc, "html")[0], "lang"); got != "en" {
		t.Errorf("lang = %q, want en", got)
	}
	for _, name := range []string{"main", "h1", "title"} {
		found := elements(doc, name)
		if len(found) != 1 || text(found[0]) == "" {
			t.Errorf("page has %d <%s>, want one, with text", len(found), name)
		}
	}
	for _, n := range elements(doc, "svg") {
		if attr(n, "aria-hidden") != "true" {
			t.Error("an icon is not hidden from screen readers")
		}
	}
	for _, name := range []string{"a", "button"} {
		for _, n := range elements(doc, name) {
			if text(n) == "" || name == "button" && attr(n, "type") != "submit" {
				t.Errorf("<%s> has the text %q and the type %q", name, text(n), attr(n, "type"))
			}
		}
	}
}

func TestFieldsAreShownAsText(t *testing.T) {
	p, _ := newRenderer(t)
	evil := `"><script>` // shown as it is, which the parser proves
	h := pages(p, func(field string) string { return evil + field })
	for name, fields := range map[string][]string{
		"error 403": {"Title", "Message", "Hint", "User", "Rule"},
		"chooser":   {"Host", "Notice", "ID", "Name"},
		"sign out":  {"User"},
	} {
		_, doc := get(t, h[name])
		for _, field := range fields {
			if !strings.Contains(text(doc), evil+field) {
				t.Errorf("%s does not show its %s:\n%s", name, field, text(doc))
			}
		}
	}
	_, doc := get(t, h["sign out"])
	if got, want := attr(elements(doc, "input")[0], "value"), evil+"ReturnURL"; got != want {
		t.Errorf("rd = %q, want %q", got, want)
	}
}

func TestChooser(t *testing.T) {
	p, _ := newRenderer(t)
	_, doc := get(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Chooser(w, r, Chooser{Host: "app.example.com", Notice: "Your session has ended.", Providers: []Provider{
			{ID: "google", Name: "Google", URL: "/auth/sign-in/google?rd=%2Fa%3Fb"},
			{ID: "corp", URL: "/auth/sign-in/corp"},
			{},
		}})
	}))
	var got []string
	for _, a := range elements(doc, "a") {
		got = append(got, text(a)+" -> "+attr(a, "href"))
	}
	want := []string{
		"GContinue with Google -> /auth/sign-in/google?rd=%2Fa%3Fb",
		"CContinue with corp -> /auth/sign-in/corp",
		"YContinue with your account -> ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("links = %q, want %q", got, want)
	}
	if got, want := text(elements(doc, "title")[0]), "Sign in to app.example.com"; got != want {
		t.Errorf("title = %q, want %q", got, want)
	}
	if got := text(doc); !strings.Contains(got, "Your session has ended.") {
		t.Errorf("page = %q, want the notice in it", got)
	}
}

func TestSignOutPostsItsForm(t *testing.T) {
	p, _ := newRenderer(t)
	for _, everywhere := range []bool{false, true} {
		_, doc := get(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.SignOut(w, r, SignOut{User: "alice@example.com", Action: "/auth/sign-out", ReturnURL: "/bye?x=1&y=2", Everywhere: everywhere})
		}))
		form := elements(doc, "form")[0]
		if attr(form, "method") != "post" || attr(form, "action") != "/auth/sign-out" {
			t.Errorf("form = %v, want a POST to /auth/sign-out", form.Attr)
		}
		rd := elements(form, "input")[0]
		if attr(rd, "type") != "hidden" || attr(rd, "name") != "rd" || attr(rd, "value") != "/bye?x=1&y=2" {
			t.Errorf("field = %v, want the hidden return URL", rd.Attr)
		}
		var buttons []string
		for _, b := range elements(form, "button") {
			buttons = append(buttons, text(b)+" "+attr(b, "name")+"="+attr(b, "value"))
		}
		want := []string{"Sign out =", "Sign out everywhere scope=all"}
		if !everywhere {
			want = want[:1]
		}
		if !slices.Equal(buttons, want) {
			t.Errorf("everywhere %v: buttons = %q, want %q", everywhere, buttons, want)
		}
	}
}

func TestFormActionOfSignOut(t *testing.T) {
	tests := []struct {
		name    string
		targets []string
		want    string
	}{
		{"none", nil, "'self'"},
		{"origin", []string{"https://id.example.com"}, "'self' https://id.example.com"},
		{"URL is cut to its origin", []string{"https://id.example.com:8443/end?x=y;z#f"}, "'self' https://id.example.com:8443"},
		{"several", []string{"https://a.example", "http://127.0.0.1:4180"}, "'self' https://a.example http://127.0.0.1:4180"},

		{"user info is not part of an origin", []string{"https://a.example@b.example"}, "'self' https://b.example"},
		{"other scheme", []string{"javascript:alert(1)", "data:text/html,x", "javascript://a.example", "ftp://a.example"}, "'self'"},
		{"scheme alone", []string{"https:"}, "'self'"},
		{"path", []string{"/auth"}, "'self'"},
		{"wildcard", []string{"*", "https://*", "https://*.example"}, "'self'"},
		{"semicolon", []string{"https://a.example;script-src"}, "'self'"},
		{"space", []string{"https://a.example script-src"}, "'self'"},
		{"quote", []string{"https://'unsafe-inline'"}, "'self'"},
		{"line break", []string{"https://a.example\r\nX: y"}, "'self'"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := newRenderer(t)
			w, _ := get(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				p.SignOut(w, r, SignOut{FormAction: tt.targets})
			}))
			want := strings.Replace(plainPolicy, "form-action 'self'", "form-action "+tt.want, 1)
			if got := w.Header().Get("Content-Security-Policy"); got != want {
				t.Errorf("Content-Security-Policy = %q, want %q", got, want)
			}
		})
	}
}

func TestMonogram(t *testing.T) {
	for name, want := range map[string]string{"google": "G", "éire": "É", "  42": "4", "<x>": "X", "": "•", "\xff": "•", "…": "•"} {
		if got := initial(name); got != want {
			t.Errorf("initial(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestPrefix(t *testing.T) {
	for _, bad := range []string{"auth", "/", "/auth/", "//auth", "https://a.example/auth"} {
		if _, err := New(Config{Prefix: bad}); err == nil {
			t.Errorf("New with the prefix %q: no error", bad)
		}
	}
	for prefix, want := range map[string]string{"": "/auth", "/auth": "/auth", "/a/b": "/a/b"} {
		p, err := New(Config{Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		_, doc := get(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.SignedOut(w, r, SignedOut{}) }))
		for _, link := range elements(doc, "link") {
			if got := attr(link, "href"); !strings.HasPrefix(got, want+"/static/") {
				t.Errorf("prefix %q: page loads %q", prefix, got)
			}
		}
	}
}

func TestRequestIDIsOptional(t *testing.T) {
	p, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	w, _ := get(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.Error(w, r, &Error{Status: 404}) }))
	if strings.Contains(w.Body.String(), "Request ID") {
		t.Errorf("page shows an empty request id:\n%s", w.Body)
	}
}

// The stylesheet and the icon must be where the pages say, or they come bare.
func TestPagesFindTheirFiles(t *testing.T) {
	p, _ := newRenderer(t)
	_, doc := get(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.SignedOut(w, r, SignedOut{}) }))
	var types []string
	for _, link := range elements(doc, "link") {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", attr(link, "href"), nil)
		http.StripPrefix("/auth", p.Static()).ServeHTTP(w, r)
		types = append(types, w.Header().Get("Content-Type"))
		if w.Code != 200 || w.Header().Get("ETag") != `"`+r.URL.Query().Get("v")+`"` {
			t.Errorf("GET %s: %d %v, want 200 and the version as ETag", r.URL, w.Code, w.Header())
		}
	}
	if want := []string{"image/svg+xml", "text/css; charset=utf-8"}; !slices.Equal(types, want) {
		t.Errorf("types = %q, want %q", types, want)
	}
}

func TestStatic(t *testing.T) {
	p, _ := newRenderer(t)
	css := p.assets["/static/authproxy.css"]
	etag := `"` + css.hash + `"`
	tests := []struct {
		name, method, path, ifNoneMatch string
		status                          int
		cache                           string
		body                            int // length; -1 = some
	}{
		{"first visit", "GET", "/static/authproxy.css", "", 200, "public, max-age=86400", len(css.body)},
		{"HEAD", "HEAD", "/static/authproxy.css", "", 200, "public, max-age=86400", 0},
		{"second visit", "GET", "/static/authproxy.css", etag, 304, "public, max-age=86400", 0},
		{"second visit with a weakened ETag", "GET", "/static/authproxy.css", "W/" + etag, 304, "public, max-age=86400", 0},
		{"visit after an upgrade", "GET", "/static/authproxy.css", `"0123"`, 200, "public, max-age=86400", len(css.body)},

		{"unknown file", "GET", "/static/other.css", "", 404, "no-store", -1},
		{"folder", "GET", "/static/", "", 404, "no-store", -1},
		{"template", "GET", "/templates/base.html", "", 404, "no-store", -1},
		{"way out", "GET", "/static/../page.go", "", 404, "no-store", -1},
		{"other method", "POST", "/static/authproxy.css", "", 405, "no-store", -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.path, nil)
			r.URL.Path = tt.path
			if tt.ifNoneMatch != "" {
				r.Header.Set("If-None-Match", tt.ifNoneMatch)
			}
			w := httptest.NewRecorder()
			p.Static().ServeHTTP(w, r)
			if w.Code != tt.status || tt.body >= 0 && w.Body.Len() != tt.body || tt.body < 0 && w.Body.Len() == 0 {
				t.Errorf("%s %s: %d with %d bytes, want %d with %d", tt.method, tt.path, w.Code, w.Body.Len(), tt.status, tt.body)
			}
			if got := w.Header().Get("Cache-Control"); got != tt.cache {
				t.Errorf("Cache-Control = %q, want %q", got, tt.cache)
			}
			if got := w.Header().Get("Allow"); (got == "GET, HEAD") != (tt.status == 405) {
				t.Errorf("Allow = %q with status %d", got, tt.status)
			}
			if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options = %q, want nosniff", got)
			}
		})
	}
}

func TestWriteJSON(t *testing.T) {
	tests := []struct {
		name   string
		value  any
		status int
		body   string
	}{
		{"null", nil, 200, "null\n"},
		{"URLs stay readable", map[string]string{"url": "/a?b=c&d=<e>"}, 200, `{"url":"/a?b=c&d=<e>"}` + "\n"},
		{"value that has no JSON", math.Inf(1), 500, `{"error":"internal","message":"Something went wrong.","request_id":""}` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			w.Header().Set("Vary", "Accept, cookie")
			WriteJSON(w, 200, tt.value)
			if w.Code != tt.status || w.Body.String() != tt.body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tt.status, tt.body)
			}
			want := "map[Cache-Control:[no-store] Content-Type:[application/json] Vary:[Accept, cookie] X-Content-Type-Options:[nosniff]]"
			if got := fmt.Sprint(w.Header()); got != want {
				t.Errorf("header = %s, want %s", got, want)
			}
		})
	}
}

// The colours of the stylesheet, in pairs that are seen together, against WCAG
// 2.2: 4.5 to 1 for text (1.4.3), 3 to 1 for borders and focus rings (1.4.11).
func TestColoursHaveContrast(t *testing.T) {
	p, _ := newRenderer(t)
	light, dark, ok := strings.Cut(string(p.assets["/static/authproxy.css"].body), "prefers-color-scheme: dark")
	if !ok {
		t.Fatal("stylesheet has no dark scheme")
	}
	pairs := []struct {
		front, back string
		ratio       float64
	}{
		{"text", "card", 4.5}, {"text", "tint", 4.5}, {"text", "hover", 4.5}, {"muted", "card", 4.5},
		{"accent", "card", 3}, {"accent", "tint", 4.5}, {"control", "card", 3},
		{"on-accent", "accent", 4.5}, {"on-accent", "accent-hover", 4.5},
	}
	for scheme, css := range map[string]string{"light": light, "dark": dark} {
		colours := coloursOf(css)
		if len(colours) != 11 {
			t.Errorf("%s scheme has %d colours, want 11: %v", scheme, len(colours), slices.Sorted(maps.Keys(colours)))
		}
		for _, pair := range pairs {
			a, b := colours[pair.front]+0.05, colours[pair.back]+0.05
			if ratio := max(a, b) / min(a, b); ratio < pair.ratio {
				t.Errorf("%s scheme: %s on %s has contrast %.2f, want %.1f", scheme, pair.front, pair.back, ratio, pair.ratio)
			}
		}
	}
}

// coloursOf returns the relative luminance of each named colour.
func coloursOf(css string) map[string]float64 {
	colours := make(map[string]float64)
	for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(css, -1) {
		rgb, _ := strconv.ParseUint(m[2], 16, 32)
		colours[m[1]] = 0.2126*linear(rgb>>16) + 0.7152*linear(rgb>>8&255) + 0.0722*linear(rgb&255)
	}
	return colours
}

func linear(channel uint64) float64 {
	c := float64(channel) / 255
	if c <= 0.04045 {
		return c / 12.92
	}
	return math.Pow((c+0.055)/1.055, 2.4)
}
