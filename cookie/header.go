package cookie

import (
	"iter"
	"net/http"
	"net/url"
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
	remove(h, func(pair string) bool {
		name, ok := pairName(pair)
		return ok && owned(name)
	})
}

// RemoveAlike takes the cookies out of a request's header that some application
// would read as one of names, however they are spelled: PHP makes "_" of ".", " "
// and "[", an array of name[key] and, as others do, decodes percent signs; ASP.NET
// does not tell cases apart; Python's http.cookies and readers of RFC 2965 begin
// another cookie after a space or a comma.
func RemoveAlike(h http.Header, names []string) {
	alike := map[string]bool{}
	for _, name := range names {
		alike[fold(name)] = true
	}
	remove(h, func(pair string) bool {
		whole, _, _ := strings.Cut(pair, "=")
		whole = strings.TrimFunc(decode(whole), isNoNameByte)
		array, _, _ := strings.Cut(whole, "[")
		if alike[fold(whole)] || alike[fold(array)] {
			return true
		}
		for word := range strings.FieldsFuncSeq(pair, isNoNameByte) {
			if name, _, ok := strings.Cut(word, "="); ok && alike[fold(decode(name))] {
				return true
			}
		}
		return false
	})
}

// isNoNameByte says whether no reader takes c for a part of a cookie's name.
// Spaces and what Unicode calls so are at its ends alone.
func isNoNameByte(c rune) bool {
	return c <= ' ' || c > '~' || strings.ContainsRune(`",()<>@:\/[]?{}`, c)
}

// decode returns name without percent signs, if that can be done.
func decode(name string) string {
	if decoded, err := url.PathUnescape(name); err == nil {
		return decoded
	}
	return name
}

// fold returns a cookie's name as the least careful reader sees it.
func fold(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, name)
}

func remove(h http.Header, drop func(pair string) bool) {
	edit(h, func(pair string) (string, bool) { return pair, !drop(pair) })
}

// edit replaces each name=value pair in a request's header by what keep returns, or
// leaves it out. The Cookie header goes when nothing is left of it.
func edit(h http.Header, keep func(pair string) (string, bool)) {
	lines := h["Cookie"]
	if len(lines) == 0 {
		return
	}
	kept := make([]string, 0, len(lines))
	for _, line := range lines {
		if line = editLine(line, keep); line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}

func editLine(line string, keep func(pair string) (string, bool)) string {
	var b strings.Builder
	for pair := range strings.SplitSeq(line, ";") {
		pair, ok := keep(pair)
		if !ok {
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
