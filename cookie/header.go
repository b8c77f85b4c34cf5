package cookie

import (
	"iter"
	"net/http"
	"strings"
)

// Names returns the names of the cookies in h, a request's header, as they
// come, repeated ones too.
func Names(h http.Header) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range h["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				if name, ok := pairName(pair); ok && !yield(name) {
					return
				}
			}
		}
	}
}

// pairName returns the name in one name=value pair of a Cookie or Set-Cookie
// header. A pair without "=" is a value without a name (RFC 6265bis, section
// 5.7), and browsers send it back as just that: it has none here either.
func pairName(pair string) (string, bool) {
	name, _, ok := strings.Cut(pair, "=")
	return strings.Trim(name, " \t"), ok
}

// Remove takes the cookies whose names owned accepts out of a request's header
// and leaves the bytes of the others as they are. The Cookie header goes when
// nothing is left of it.
func Remove(h http.Header, owned func(name string) bool) {
	lines := h["Cookie"]
	if len(lines) == 0 {
		return
	}
	kept := make([]string, 0, len(lines))
	for _, line := range lines {
		if line = removeFrom(line, owned); line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}

func removeFrom(line string, owned func(string) bool) string {
	var b strings.Builder
	for pair := range strings.SplitSeq(line, ";") {
		if name, ok := pairName(pair); ok && owned(name) {
			continue
		}
		if b.Len() == 0 {
			pair = strings.TrimLeft(pair, " \t")
		} else {
			b.WriteByte(';')
		}
		b.WriteString(pair)
	}
	return b.String()
}

// RemoveSet takes the Set-Cookie headers whose names owned accepts out of a
// response's header, so that an application cannot overwrite a cookie of ours.
func RemoveSet(h http.Header, owned func(name string) bool) {
	lines := h["Set-Cookie"]
	if len(lines) == 0 {
		return
	}
	kept := lines[:0]
	for _, line := range lines {
		pair, _, _ := strings.Cut(line, ";")
		if name, ok := pairName(pair); ok && owned(name) {
			continue
		}
		kept = append(kept, line)
	}
	if len(kept) == 0 {
		delete(h, "Set-Cookie")
		return
	}
	h["Set-Cookie"] = kept
}
