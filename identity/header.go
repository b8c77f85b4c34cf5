package identity

import (
	"fmt"
	"strings"
)

// MaxHeaderBytes bounds the values of all identity headers together. Common
// ingresses read an answer's header into 4 KB.
const MaxHeaderBytes = 4096

// A TooLargeError says that a person's identity does not fit the headers.
type TooLargeError struct{ Bytes int }

// Error says what does not fit and what to do about it.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("identity: the identity headers would have %d bytes, more than %d; configure fewer headers, let the provider send fewer groups, or set identity.groups_overflow: cut", e.Bytes, MaxHeaderBytes)
}

// sources are what an identity header can be filled from, by the name that the
// configuration uses. Besides what no header can hold they encode the characters of
// special.
func sources() map[string]func(w *Who, special string) string {
	return map[string]func(*Who, string) string{
		"user.id":       func(w *Who, _ string) string { return w.User.ID },
		"user.subject":  func(w *Who, special string) string { return encode(w.User.Subject, special) },
		"user.issuer":   func(w *Who, special string) string { return encode(w.User.Issuer, special) },
		"user.provider": func(w *Who, _ string) string { return encode(w.User.Provider, "") }, // the operator's own word
		"user.email":    func(w *Who, special string) string { return encode(w.User.VerifiedEmail(), special) },
		"user.name":     func(w *Who, special string) string { return encode(w.User.Name, special) },
		"user.image":    func(w *Who, special string) string { return encode(w.User.Image, special) },
		"user.groups":   func(w *Who, special string) string { return list(w.groups, special) },
		"user.roles":    func(w *Who, special string) string { return list(w.Roles, special) },
		"user.role":     func(w *Who, special string) string { return encode(w.Role(), special) },
		"session.id":    func(w *Who, _ string) string { return w.SessionID },
	}
}

// HeaderNames returns the canonical names of the configured identity headers,
// sorted.
func (r *Resolver) HeaderNames() []string {
	names := make([]string, len(r.headers))
	for i, h := range r.headers {
		names[i] = h.name
	}
	return names
}

// Headers returns the identity headers for an upstream, one for each configured
// name, or a [*TooLargeError].
func (w *Who) Headers() ([]Header, error) { return w.headers, w.headersErr }

// setHeaders makes the headers of w, leaving groups out from the end if they
// may be cut.
func (r *Resolver) setHeaders(w *Who) {
	for {
		size := r.fill(w)
		if size <= MaxHeaderBytes {
			w.headersErr = nil
			return
		}
		w.headersErr = &TooLargeError{Bytes: size}
		if !r.CutGroups || len(w.groups) == 0 {
			return
		}
		keep := len(w.groups) * MaxHeaderBytes / size
		w.groups = w.groups[:min(keep, len(w.groups)-1)]
	}
}

// fill makes the headers and returns their size in bytes.
func (r *Resolver) fill(w *Who) int {
	w.headers = make([]Header, len(r.headers))
	size := 0
	for i, h := range r.headers {
		w.headers[i].Name = h.name
		if v := h.template.For(w); v != "" {
			w.headers[i].Value = []string{v}
			size += len(v)
		}
	}
	return size
}

// list joins values with commas; a comma inside one is encoded, as are the characters
// of special.
func list(values []string, special string) string {
	encoded := make([]string, len(values))
	for i, v := range values {
		encoded[i] = encode(v, ","+special)
	}
	return strings.Join(encoded, ",")
}

const hexDigits = "0123456789ABCDEF"

// encode returns v as a header may hold it: printable ASCII, everything else
// percent-encoded as UTF-8, and so the percent sign and the characters of
// special, so that decoding is unambiguous. No header can be split with it.
func encode(v, special string) string {
	plain := func(c byte) bool {
		return c >= ' ' && c < 0x7f && c != '%' && strings.IndexByte(special, c) < 0
	}
	i := 0
	for i < len(v) && plain(v[i]) {
		i++
	}
	if i == len(v) && strings.TrimSpace(v) == v {
		return v
	}
	var b strings.Builder
	for i := range len(v) {
		// A space at either end would be lost on the way.
		if edge := i == 0 || i == len(v)-1; plain(v[i]) && !(edge && v[i] == ' ') {
			b.WriteByte(v[i])
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[v[i]>>4])
		b.WriteByte(hexDigits[v[i]&15])
	}
	return b.String()
}
