package policy

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrPath is wrapped by the errors of [PathRules.Parse].
var ErrPath = errors.New("policy: ambiguous path")

// A Path is the path of a request as rules see it.
type Path struct {
	// Decoded is the path, percent-decoded once.
	Decoded string

	// Loose is set when the path holds something that an application may read
	// in another way than we do. Such a path never matches an "allow: anyone"
	// rule.
	Loose bool

	// opaque is the path of a loose Path with its encoded slashes kept as
	// "%2F". As encoded percent signs are refused, it cannot mean anything else.
	opaque string
}

// PathRules say which ambiguous paths are let pass. The zero value lets none.
type PathRules struct {
	EncodedSlash bool // "%2f", as in the project names of GitLab's API
	Semicolon    bool // ";", as in matrix parameters
	DoubleSlash  bool // "//"
}

// Parse reads escaped, the path of a request target as it was sent and without
// the query. It refuses, rather than cleans, whatever two programs in a row may
// read differently: the one that judges "/public/..%2fadmin" and the one that
// serves it (CVE-2021-29492, CVE-2026-33494). Dot segments, backslashes, encoded
// dots, percent signs and control bytes are refused whatever pr lets pass.
//
// An encoded "?" or "#" is legal and kept, but makes the path loose: software
// that decodes before it splits the target takes the rest for a query.
//
// The error wraps [ErrPath] and says what was found, not where or in what.
func (pr PathRules) Parse(escaped string) (Path, error) {
	if !strings.HasPrefix(escaped, "/") {
		return Path{}, refuse("does not begin with a slash")
	}
	if isPlain(escaped) {
		return Path{Decoded: escaped}, nil
	}
	decoded, err := url.PathUnescape(escaped)
	opaque, errOpaque := url.PathUnescape(keepSlashes(escaped))
	if err != nil || errOpaque != nil {
		return Path{}, refuse("invalid percent-encoding")
	}
	if problem := escapedProblem(escaped); problem != "" {
		return Path{}, refuse(problem)
	}
	slash := opaque != decoded
	semicolon := strings.Contains(decoded, ";")
	double := strings.Contains(decoded, "//")
	switch {
	case !utf8.ValidString(decoded):
		return Path{}, refuse("is not UTF-8")
	case hasDotSegment(decoded):
		return Path{}, refuse(`a "." or ".." segment`)
	case slash && !pr.EncodedSlash:
		return Path{}, refuse("an encoded slash; paths.allow: [encoded_slash] lets it pass")
	case semicolon && !pr.Semicolon:
		return Path{}, refuse("a semicolon; paths.allow: [semicolon] lets it pass")
	case double && !pr.DoubleSlash:
		return Path{}, refuse("two slashes in a row; paths.allow: [double_slash] lets them pass")
	}
	if slash || semicolon || double || strings.ContainsAny(decoded, "?#") {
		return Path{Decoded: decoded, Loose: true, opaque: opaque}, nil
	}
	return Path{Decoded: decoded}, nil
}

func refuse(found string) error {
	return fmt.Errorf("%w: %s", ErrPath, found)
}

// isPlain reports whether s, which begins with a slash, is surely the same path
// before and after decoding and to everyone.
func isPlain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f:
			return false
		case c == '%' || c == '\\' || c == ';' || c == '#' || c == '?':
			return false
		case (c == '/' || c == '.') && i > 0 && s[i-1] == '/':
			return false
		}
	}
	return true
}

// escapedProblem returns what is wrong with s, whose percent-encoding is valid,
// before decoding; "" if nothing.
func escapedProblem(s string) string {
	for i := range len(s) {
		problem := ""
		switch c := s[i]; {
		case c == '%':
			problem = encodingProblem(s[i:])
		case c == '\\':
			problem = "a backslash"
		case c == '#':
			problem = "a fragment"
		case c == '?':
			problem = "a query"
		case c <= ' ' || c == 0x7f:
			problem = "a space or control byte"
		}
		if problem != "" {
			return problem
		}
	}
	return ""
}

// encodingProblem returns what is wrong with the encoded byte that s begins
// with, "" if nothing.
func encodingProblem(s string) string {
	switch code := strings.ToLower(s[:3]); {
	case code == "%2e":
		return "an encoded dot"
	case code == "%25":
		return "an encoded percent sign" // "%252e" is a dot to software that decodes twice
	case code == "%5c":
		return "an encoded backslash"
	case code < "%20" || code == "%7f":
		return "an encoded control byte"
	}
	return ""
}

// hasDotSegment reports whether a segment of path is "." or "..", also with
// something behind it that other software cuts off: parameters ("..;a=b" in
// Tomcat), a query or fragment once decoded, blanks (on Windows).
func hasDotSegment(path string) bool {
	for seg := range strings.SplitSeq(path, "/") {
		if i := strings.IndexAny(seg, ";?#"); i >= 0 {
			seg = seg[:i]
		}
		seg = strings.TrimRight(seg, " ")
		if seg == "." || seg == ".." {
			return true
		}
	}
	return false
}

// keepSlashes encodes the encoded slashes of escaped once more, so that decoding
// leaves them as "%2F".
func keepSlashes(escaped string) string {
	return strings.NewReplacer("%2f", "%252F", "%2F", "%252F").Replace(escaped)
}

// readings returns the ways in which an application may read a loosened path:
// with encoded slashes as slashes or as text; up to an encoded "?" or "#", or
// beyond; with parameters or without; with double slashes or without.
func (p Path) readings() []string {
	all := []string{p.Decoded}
	if p.opaque != "" {
		all = append(all, p.opaque)
	}
	for _, read := range []func(string) string{cutQuery, cutParameters, mergeSlashes} {
		for _, path := range all {
			if other := read(path); !slices.Contains(all, other) {
				all = append(all, other)
			}
		}
	}
	return all
}

func cutQuery(path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		return path[:i]
	}
	return path
}

// cutParameters removes what follows a ";" in each segment.
func cutParameters(path string) string {
	segments := strings.Split(path, "/")
	for i, seg := range segments {
		segments[i], _, _ = strings.Cut(seg, ";")
	}
	return strings.Join(segments, "/")
}

func mergeSlashes(path string) string {
	merged := make([]byte, 0, len(path))
	for i := range len(path) {
		if path[i] == '/' && i > 0 && path[i-1] == '/' {
			continue
		}
		merged = append(merged, path[i])
	}
	return string(merged)
}
