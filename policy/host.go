package policy

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// A HostPattern names one host, or with "*." every host exactly one label below
// a domain. The zero value matches nothing. Patterns can be compared with ==.
type HostPattern struct {
	host     host
	wildcard bool
}

// Hosts is a set of hosts, usually those that are ours. The nil set is empty.
type Hosts []HostPattern

// IsOrigin reports whether origin, as browsers serialize it, is that of a host of
// h over scheme.
func (h Hosts) IsOrigin(origin, scheme string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Scheme+"://"+u.Host == origin && u.Scheme == scheme && h.Contains(u.Host)
}

// Contains reports whether a pattern of h matches hostport.
func (h Hosts) Contains(hostport string) bool {
	asked, ok := readHost(hostport)
	if !ok {
		return false
	}
	for _, p := range h {
		if p.match(asked) {
			return true
		}
	}
	return false
}

// ParseHostPattern reads a pattern: "app.example.com", "app.example.com:8443",
// "*.example.com" or "[::1]". Case and a trailing dot do not count. A port
// counts only if the pattern lists one; as browsers leave out the default port,
// a pattern that lists 443 does not match what they send to https.
//
// It fails for anything that is not a host alone, with a remedy. The error does
// not repeat s, which may be a URL with a password.
func ParseHostPattern(s string) (HostPattern, error) {
	p, problem := parseHostPattern(s)
	if problem != "" {
		return HostPattern{}, errors.New("policy: host pattern " + problem)
	}
	return p, nil
}

// Match reports whether p matches hostport, the value of a Host header. What is
// not a valid host matches nothing.
func (p HostPattern) Match(hostport string) bool {
	h, ok := readHost(hostport)
	return ok && p.match(h)
}

// String returns the pattern in its canonical form: lower case, without a
// trailing dot.
func (p HostPattern) String() string {
	s := p.host.name
	if p.wildcard {
		s = "*." + s
	}
	if p.host.addr.IsValid() {
		s = "[" + p.host.addr.String() + "]"
	}
	if p.host.port != 0 {
		s += ":" + strconv.Itoa(int(p.host.port))
	}
	return s
}

func (p HostPattern) match(h host) bool {
	if p.host.port != 0 && p.host.port != h.port {
		return false
	}
	if p.host.addr.IsValid() || h.addr.IsValid() {
		return p.host.addr == h.addr
	}
	name := h.name
	if p.wildcard {
		// Compare what follows the first dot, never a suffix:
		// "evilexample.com" is not below "example.com".
		_, name, _ = strings.Cut(name, ".")
	}
	// Names are ASCII here, so that EqualFold cannot take the Kelvin sign for
	// a "k".
	return strings.EqualFold(p.host.name, name)
}

// parseHostPattern returns the pattern, or what is wrong with it.
func parseHostPattern(s string) (p HostPattern, problem string) {
	if problem := hostProblem(s); problem != "" {
		return HostPattern{}, problem
	}
	name, wildcard := strings.CutPrefix(s, "*.")
	h, ok := readHost(name)
	switch {
	case !ok:
		return HostPattern{}, "is not a host name: labels of letters, digits and hyphens, joined by single dots, then an optional port, like app.example.com:8443"
	case strings.HasSuffix(s, ":"):
		return HostPattern{}, `ends with an empty port; remove the ":"`
	case wildcard && h.addr.IsValid():
		return HostPattern{}, `has "*." before an address; list the addresses one by one`
	}
	h.name = strings.ToLower(h.name)
	return HostPattern{host: h, wildcard: wildcard}, ""
}

// hostProblem recognizes the usual mistakes in a pattern.
func hostProblem(s string) string {
	switch rest := strings.TrimPrefix(s, "*."); {
	case s == "":
		return "is empty; write a host, like app.example.com"
	case strings.Contains(s, "://"):
		return "has a scheme; write the host alone, like app.example.com"
	case strings.ContainsAny(s, `/\?#`):
		return "has a path; write the host alone, like app.example.com"
	case strings.Contains(s, "@"):
		return "has a user name; write the host alone, like app.example.com"
	case strings.ContainsAny(s, " \t\r\n"):
		return "has a space; write one host an entry"
	case s == "*":
		return `matches every host; name the hosts, or those below a domain as *.example.com`
	case strings.Contains(rest, "*"):
		return `has a "*" that is not the whole first label; write *.example.com`
	case strings.Count(s, ":") > 1 && !strings.HasPrefix(rest, "["):
		return "is an IPv6 address without brackets; write it like [::1]"
	case !isASCII(s):
		return `has letters beyond ASCII; write the name as it is in DNS, like xn--bcher-kva.example`
	}
	return ""
}

// A host is a Host header that has been read: a name or an IPv6 address, and a
// port, 0 if there is none.
type host struct {
	name string
	addr netip.Addr
	port uint16
}

// readHost reads a host with an optional port (RFC 3986, section 3.2). It is
// false for everything that is not plainly a host.
func readHost(s string) (host, bool) {
	var h host
	name, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return host{}, false
		}
		addr, err := netip.ParseAddr(s[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return host{}, false
		}
		h.addr, port = addr, s[end+1:]
	} else {
		if i := strings.IndexByte(s, ':'); i >= 0 {
			name, port = s[:i], s[i:]
		}
		h.name = strings.TrimSuffix(name, ".")
		if !validName(h.name) {
			return host{}, false
		}
	}
	var ok bool
	h.port, ok = readPort(port)
	return h, ok
}

// readPort reads "" or a colon and a port. RFC 3986, section 3.2.3 lets the
// port be empty, which is the same as none.
func readPort(s string) (port uint16, ok bool) {
	if s == "" || s == ":" {
		return 0, true
	}
	if s[0] != ':' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[1:], 10, 16)
	return uint16(n), err == nil && n != 0
}

// validName reports whether s is a DNS name, or an IPv4 address. Underscores
// are no part of a host name, but appear in Docker's.
func validName(s string) bool {
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.' && label > 0:
			label = 0
		case isAlphanumeric(c) || c == '-' || c == '_':
			label++
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	return label > 0 && len(s) <= 253
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
