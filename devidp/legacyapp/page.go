package legacyapp

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
)

//go:embed page.html
var pageFS embed.FS

var pages = template.Must(template.ParseFS(pageFS, "page.html"))

// pageData is what the page shows.
type pageData struct {
	Nonce    string
	Place    string // the path, without the query
	SignOut  string // where the button posts to
	SignIn   string // where nobody is sent to become somebody
	Who      string // empty when no header names anybody
	ID       string
	Request  *received
	Identity []header
	Bearer   *bearer
	Headers  []header
}

type header struct {
	Name   string
	Values []string
}

// A bearer is the token of an Authorization header, decoded. Header and Claims
// are empty when it is not a JWT.
type bearer struct {
	Header, Claims string
}

func renderPage(w http.ResponseWriter, got *received, place, prefix string) {
	data := describe(got)
	data.Nonce = rand.Text()
	data.Place = place
	data.SignOut = strings.TrimSuffix(prefix, "/") + "/sign-out"
	data.SignIn = strings.TrimSuffix(prefix, "/") + "/sign-in"
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, "page.html", data); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// No form-action: signing out can lead over the provider's own sign-out, and
	// Chromium applies form-action to redirects too.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+data.Nonce+"'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write(body.Bytes())
}

// describe picks out of a request what it says about the user.
func describe(got *received) *pageData {
	first := func(name string) string {
		return cmp.Or(append(got.Headers[name], "")...)
	}
	data := &pageData{
		Request: got,
		Who:     cmp.Or(first("X-User-Name"), first("X-User-Email"), first("X-User-Id")),
		ID:      first("X-User-Id"),
		Bearer:  decodeBearer(first("Authorization")),
	}
	for _, name := range slices.Sorted(maps.Keys(got.Headers)) {
		h := header{name, got.Headers[name]}
		data.Headers = append(data.Headers, h)
		if isIdentity(name) {
			data.Identity = append(data.Identity, h)
		}
	}
	return data
}

// isIdentity reports whether name is a header in which proxies say who the user
// is, in any spelling: many old applications cannot tell "_" from "-".
func isIdentity(name string) bool {
	name = strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(name))
	for _, prefix := range []string{"x-user-", "x-auth-request-", "remote-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-preferred-username":
		return true
	}
	return false
}

// decodeBearer reads the token of an Authorization header without verifying
// it. It returns nil when there is no bearer token.
func decodeBearer(authorization string) *bearer {
	scheme, token, found := strings.Cut(authorization, " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return &bearer{}
	}
	head, claims := indented(parts[0]), indented(parts[1])
	if head == "" || claims == "" {
		return &bearer{}
	}
	return &bearer{Header: head, Claims: claims}
}

// indented returns the JSON in a part of a JWT, pretty-printed, or "".
func indented(part string) string {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return ""
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return ""
	}
	return out.String()
}
