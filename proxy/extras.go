package proxy

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"authproxy/cookie"
	"authproxy/identity"
)

// Extras are what one upstream gets besides what all of them do.
type Extras struct {
	// Headers maps names to templates, see [identity.ParseTemplate].
	Headers map[string]string
	// Username and Password go into Authorization by HTTP Basic authentication
	// (RFC 7617), in the place of everything else; Username is a template if it
	// holds "{{". Both empty means none.
	Username, Password string
	// Cookies maps names to kinds of tokens, as in
	// [identity.Resolver.Credential].
	Cookies map[string]string
}

// extras are Extras ready for use.
type extras struct {
	names     []string // of headers, canonical
	templates []*identity.Template
	basic     bool
	username  *identity.Template // nil where it is plain
	config    Extras
	cookies   []string // names, sorted
}

func newExtras(c Extras) (*extras, error) {
	e := &extras{config: c, basic: c.Username != "" || c.Password != ""}
	for name, text := range c.Headers {
		template, err := identity.ParseTemplate(text)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
		e.names, e.templates = append(e.names, http.CanonicalHeaderKey(name)), append(e.templates, template)
	}
	for name := range c.Cookies {
		e.cookies = append(e.cookies, name)
	}
	slices.Sort(e.cookies)
	if strings.Contains(c.Username, "{{") {
		var err error
		if e.username, err = identity.ParseTemplate(c.Username); err != nil {
			return nil, fmt.Errorf("basic: %w", err)
		}
	}
	return e, nil
}

// An extra is what one request carries besides.
type extra struct {
	headers       []identity.Header
	authorization []string
	cookies       []string // name=value
}

// of returns what a request of who carries, nil for nobody. It fails for more
// than fits, and where a token cannot be minted.
func (e *extras) of(p *Proxy, x *exchange) (extra, error) {
	var out extra
	who, size := x.verdict.who, 0
	for _, h := range x.headers {
		size += len(strings.Join(h.Value, ""))
	}
	for i, name := range e.names {
		if v := e.templates[i].For(who); v != "" {
			out.headers = append(out.headers, identity.Header{Name: name, Value: []string{v}})
			size += len(v)
		}
	}
	if size > identity.MaxHeaderBytes {
		return out, p.tooLarge(&x.original, who, "There is more about you than the application can be told.", &identity.TooLargeError{Bytes: size})
	}
	out.authorization = e.authorization(who)
	if who == nil {
		return out, nil
	}
	for _, name := range e.cookies {
		raw, err := p.Identity.Credential(who, e.config.Cookies[name])
		if err != nil {
			return out, err
		}
		if raw != "" {
			out.cookies = append(out.cookies, name+"="+raw)
		}
	}
	return out, nil
}

// authorization returns the value of Authorization by the credentials. A name
// that is somebody's goes along with requests of theirs alone.
func (e *extras) authorization(who *identity.Who) []string {
	if !e.basic {
		return nil
	}
	name := e.config.Username
	if e.username != nil {
		// A colon would end the name (RFC 7617, section 2).
		if name = strings.ReplaceAll(e.username.For(who), ":", "%3A"); who == nil || name == "" {
			return nil
		}
	}
	return []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+e.config.Password))}
}

// apply writes what the request carries. What a client sent under the same names
// goes: headers are gone already, as are all that say who somebody is.
func (e *extras) apply(h http.Header, carried extra) {
	for _, header := range carried.headers {
		h[header.Name] = header.Value
	}
	if e.basic {
		delete(h, "Authorization")
		if len(carried.authorization) > 0 {
			h["Authorization"] = carried.authorization
		}
	}
	if len(e.cookies) == 0 {
		return
	}
	cookie.RemoveAlike(h, e.cookies)
	// First, so that no quote that a client leaves open can swallow them.
	if lines := slices.Concat(carried.cookies, h["Cookie"]); len(lines) > 0 {
		h["Cookie"] = []string{strings.Join(lines, "; ")}
	}
}

// extraNames are the headers that some route sets: no client may send one to any
// of them.
func extraNames(routes []Route) []string {
	var names []string
	for _, r := range routes {
		for name := range r.Upstream.Extras.Headers {
			names = append(names, name)
		}
	}
	return names
}
