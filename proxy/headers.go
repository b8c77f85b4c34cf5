package proxy

import (
	"net/http"
	"strings"

	"authproxy/identity"
	"authproxy/policy"
)

// stripper knows the header names that a client must not set. Names are
// compared folded: in lower case, and with every other character than a letter
// or digit as "-". CGI, WSGI, PHP and their kind cannot tell X_User_Id from
// X-User-Id, some not X.User.Id either (CVE-2025-64484, CVE-2026-54763), and
// lighttpd makes "_" of whatever is not alphanumeric.
type stripper struct {
	exact    map[string]bool
	prefixes []string
	initials [256]bool // the first letters, folded, of all names: most headers end here
}

func newStripper(names []string) *stripper {
	s := &stripper{exact: map[string]bool{}}
	for _, name := range names {
		name, isPrefix := strings.CutSuffix(name, "*")
		folded := fold(name)
		if isPrefix {
			s.prefixes = append(s.prefixes, folded)
		} else {
			s.exact[folded] = true
		}
		if folded == "" {
			for i := range s.initials {
				s.initials[i] = true
			}
			continue
		}
		s.initials[folded[0]] = true
	}
	return s
}

// fold returns name as the least careful reader sees it.
func fold(name string) string {
	b := []byte(name)
	for i, c := range b {
		b[i] = foldByte(c)
	}
	return string(b)
}

func foldByte(c byte) byte {
	switch {
	case c >= 'A' && c <= 'Z':
		return c + 'a' - 'A'
	case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
		return c
	}
	return '-'
}

// matches says whether name must be stripped.
func (s *stripper) matches(name string) bool {
	if name == "" || !s.initials[foldByte(name[0])] {
		return false
	}
	folded := fold(name)
	if s.exact[folded] {
		return true
	}
	for _, prefix := range s.prefixes {
		if strings.HasPrefix(folded, prefix) {
			return true
		}
	}
	return false
}

// strip removes the headers from h.
func (s *stripper) strip(h http.Header) {
	for name := range h {
		if s.matches(name) {
			delete(h, name)
		}
	}
}

// forwardingNames are the headers by which proxies tell where a request came
// from. They count, and are handed on, only from trusted peers.
func forwardingNames() []string {
	return []string{"Forwarded", "X-Forwarded-*", "X-Real-IP", "X-Client-IP", "True-Client-IP"}
}

// pathNames are headers by which some frameworks let a request be served under
// another path than its own. Rules have judged the request's own path, so these
// reach no upstream, whoever sends them: an ingress that is trusted for what it
// sets hands on what it does not know.
func pathNames() []string {
	return []string{"X-Original-*", "X-Rewrite-URL"}
}

// overrideNames are headers by which some frameworks take another method than the
// request's own.
func overrideNames() []string {
	return []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"}
}

// methodNames are overrideNames where rules name methods: they have judged the
// request's own, so these reach no upstream then. Elsewhere an application may
// live by them.
func methodNames(rules *policy.Set) []string {
	if !rules.NamesMethod() {
		return nil
	}
	return overrideNames()
}

// setIdentity tells the upstream who is there. It runs last: hop-by-hop headers
// and the client's own claims are gone, so that nothing can remove or double
// what is set here.
func setIdentity(h http.Header, headers []identity.Header, authorization []string) {
	for _, header := range headers {
		if len(header.Value) > 0 {
			h[header.Name] = header.Value
		}
	}
	if len(authorization) > 0 {
		h["Authorization"] = authorization
	}
}

// setForwarded writes the headers that tell the upstream where the request came
// from: anew, except that a trusted proxy's own word is continued.
func (p *Proxy) setForwarded(in *http.Request, out http.Header, scheme string) {
	trusted := p.Trusted.Trusts(in)
	if trusted {
		for name, values := range in.Header {
			// X-Forwarded-User and its kind are identity, and X_Forwarded_For is
			// nobody's spelling: a proxy that does not set such a header hands on
			// the client's.
			if p.forwarding.matches(name) && !p.identityNames.matches(name) && isPlainName(name) {
				out[name] = values
			}
		}
	}
	from := peer(in).String()
	if prior := out["X-Forwarded-For"]; len(prior) > 0 {
		from = strings.Join(prior, ", ") + ", " + from
	}
	// One object for the three, none of which can grow into its neighbour.
	values := [...]string{from, scheme, in.Host}
	out["X-Forwarded-For"], out["X-Forwarded-Proto"] = values[0:1:1], values[1:2:2]
	if !trusted || in.Header.Get("X-Forwarded-Host") == "" {
		out["X-Forwarded-Host"] = values[2:3:3]
	}
}

// isPlainName says whether name is spelled with letters, digits and "-" alone.
func isPlainName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c != '-' && foldByte(c) == '-' {
			return false
		}
	}
	return true
}

// scheme returns how the browser reached in: as a trusted proxy says, else as
// public_url says for hosts of ours, else as the connection is.
func (p *Proxy) scheme(in *http.Request) string {
	if p.Trusted.Trusts(in) {
		switch in.Header.Get("X-Forwarded-Proto") {
		case "https", "wss":
			return "https"
		case "http", "ws":
			return "http"
		}
	}
	if in.TLS != nil {
		return "https"
	}
	if p.Hosts.Contains(in.Host) {
		return p.PublicURL.Scheme
	}
	return "http"
}
