package web

import (
	"net/url"
	"strconv"
	"strings"
)

// maxReturnURL bounds a return URL in bytes: it travels in the state.
const maxReturnURL = 2048

// returnURL returns target if a browser may be sent there, else fallback. Browsers
// leave a "\" in a query as it is, and take it for nothing else there (WHATWG URL,
// query state); others may, so it is encoded.
func (s *Server) returnURL(target, fallback string) string {
	if p, query, ok := strings.Cut(target, "?"); ok {
		target = p + "?" + strings.ReplaceAll(query, `\`, "%5C")
	}
	if s.isReturnURL(target) {
		return target
	}
	return fallback
}

// isReturnURL says whether target is a path on this host or an absolute URL of
// one of our hosts, read as browsers read it (WHATWG URL), not as net/url does:
// a browser takes "\" for "/", drops tabs and line breaks, and sees a host in
// "//evil", "/\evil" and "https:evil". Whatever two readers could see
// differently is refused rather than interpreted.
//
// The one page of ours that a sign-in may end on is the hand-off with an ask that
// we have sealed.
func (s *Server) isReturnURL(target string) bool {
	if _, ok := s.cutAsk(target); ok {
		return true
	}
	if target == "" || len(target) > maxReturnURL || !printable(target) {
		return false
	}
	local := target
	if !strings.HasPrefix(target, "/") {
		var ok bool
		if _, local, ok = s.cutOurOrigin(target); !ok {
			return false
		}
	}
	p, _, _ := strings.Cut(local, "#")
	p, _, _ = strings.Cut(p, "?")
	return plainPath(p) && !s.wouldLoop(p)
}

// printable says whether target is visible ASCII without "\": browsers strip or
// rewrite everything else before they read a URL.
func printable(target string) bool {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f || c == '\\' {
			return false
		}
	}
	return true
}

// cutOurOrigin takes scheme and host off an absolute URL if they are ours, and
// returns the host and the rest, as a path.
func (s *Server) cutOurOrigin(target string) (host, local string, ok bool) {
	rest, ok := strings.CutPrefix(target, s.PublicURL.Scheme+"://")
	if !ok {
		return "", "", false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, local = rest[:end], rest[end:]
	if !plainHost(host) || !s.isOurHost(host) {
		return "", "", false
	}
	if !strings.HasPrefix(local, "/") {
		local = "/" + local
	}
	// The second opinion: net/url must see the same host and no user.
	u, err := url.Parse(target)
	return host, local, err == nil && u.Host == host && u.User == nil
}

// plainHost says whether host is a name or address with an optional port and
// nothing that some parser takes for the end of one.
func plainHost(host string) bool {
	for i := range len(host) {
		c := host[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(".-:[]", c) >= 0:
		default:
			return false
		}
	}
	return host != ""
}

// plainPath says whether p is a path with one leading slash and no dot
// segments, in any decoding: servers and browsers decode at different times,
// and "/.//evil.example" is a host to whoever cleans it first.
func plainPath(p string) bool {
	if _, err := url.PathUnescape(p); err != nil {
		return false // a stray "%", which browsers send as it is and servers refuse
	}
	for range 4 {
		if !strings.HasPrefix(p, "/") || strings.HasPrefix(p, "//") || strings.ContainsFunc(p, hidden) {
			return false
		}
		for segment := range strings.SplitSeq(p, "/") {
			name, _, _ := strings.Cut(segment, ";")
			if name == "." || name == ".." {
				return false
			}
		}
		decoded := unescape(p)
		if decoded == p {
			return true
		}
		p = decoded
	}
	return false // whoever encodes four times wants to hide something
}

// unescape decodes what is percent-encoded in p and leaves a percent sign that
// encodes nothing: decoding "/100%25" twice must not fail at "/100%".
func unescape(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			if n, err := strconv.ParseUint(p[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

// hidden says whether r changes what a reader of URLs sees: control characters
// and the backslash.
func hidden(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }

// wouldLoop says whether p is one of our own pages that send a browser on.
func (s *Server) wouldLoop(p string) bool {
	if local, ok := strings.CutPrefix(p, "/oauth2/"); ok && s.OAuth2Proxy {
		switch local {
		case "start", "sign_in", "sign_out", "callback":
			return true
		}
	}
	rest, ok := strings.CutPrefix(p, s.Prefix+"/")
	if !ok {
		return false
	}
	first, _, _ := strings.Cut(rest, "/")
	return first == "sign-in" || first == "sign-out" || first == "callback" || first == "handoff"
}
