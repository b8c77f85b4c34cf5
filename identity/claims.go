package identity

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"authproxy/session"
)

// ErrClaims is wrapped by the errors of [ClaimMap.Map], which say which claim
// is the problem and nothing of what it holds.
var ErrClaims = errors.New("identity: the mapped claims cannot be kept")

const (
	// MaxClaimBytes bounds the mapped claims of a person, as JSON. They are in
	// the session's cookie, in each token and in the cache.
	MaxClaimBytes = 4096
	// maxClaimDepth bounds how deep lists and objects may stand in each other: a
	// sealed cookie holds no more.
	maxClaimDepth = 4
)

// A ClaimSource says where a mapped claim comes from.
type ClaimSource struct {
	// From is a document and a path in it, such as "id_token.org.department". The
	// path goes through objects by name, where a name that holds dots itself
	// comes first; through lists by number, or into each of their entries. With
	// "user.name", "user.email", "user.image" or "user.role" it is what the
	// person's row in a session store says at each check, see [ClaimMap.WithRow].
	From string
	// Default is the value where there is none; "" means that there is no claim
	// then.
	Default string
}

// A ClaimMap says which claims are kept of what a provider says, by the names
// they get.
type ClaimMap map[string]ClaimSource

// Documents are what a provider said, decoded from JSON, by the name that a
// [ClaimSource] begins with. One that is not there was not read.
type Documents map[string]map[string]any

// Reads reports whether a claim comes from the document called name.
func (m ClaimMap) Reads(name string) bool {
	for _, source := range m {
		if strings.HasPrefix(source.From, name+".") {
			return true
		}
	}
	return false
}

// Map returns the claims of a person of whom docs are known now and was before,
// nil for none. A claim from a document that was not read again stays as it
// was. Values are strings, booleans, int64, float64, and slices and maps of
// those. Nothing is ever cut: it fails with [ErrClaims] for claims that are too
// large or too deep.
func (m ClaimMap) Map(docs Documents, was map[string]any) (map[string]any, error) {
	claims := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		v, ok := m[name].value(docs, was[name])
		if !ok || strings.HasPrefix(m[name].From, rowPrefix) {
			continue
		}
		var err error
		if claims[name], err = plain(v, maxClaimDepth); err != nil {
			return nil, fmt.Errorf("%w: %s, from %s, %w", ErrClaims, name, m[name].From, err)
		}
	}
	if len(claims) == 0 {
		return nil, nil
	}
	return claims, m.checkSize(claims)
}

// rowPrefix begins the sources that are columns of the person's row in a store.
const rowPrefix = "user."

// WithRow returns the claims of u with those that come from u itself, which is
// read from a store at each check. They are not kept with the others, so that a
// change of the row counts at once. It does not change u.
func (m ClaimMap) WithRow(u *session.User) map[string]any {
	if !m.Reads("user") {
		return u.Claims
	}
	columns := map[string]string{
		"user.name": u.Name, "user.email": u.VerifiedEmail(), "user.image": u.Image, "user.role": u.Role,
	}
	claims := map[string]any{}
	maps.Copy(claims, u.Claims)
	for name, source := range m {
		if !strings.HasPrefix(source.From, rowPrefix) {
			continue
		}
		delete(claims, name) // left from when it came from elsewhere
		if value := cmp.Or(columns[source.From], source.Default); value != "" {
			claims[name] = value
		}
	}
	return claims
}

// checkSize names the largest claim if all are too large together.
func (m ClaimMap) checkSize(claims map[string]any) error {
	total, largest, size := 0, "", -1
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		text, err := json.Marshal(claims[name])
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrClaims, name, err)
		}
		if total += len(name) + len(text); len(text) > size {
			largest, size = name, len(text)
		}
	}
	if total > MaxClaimBytes {
		return fmt.Errorf("%w: they have %d bytes, more than %d; the largest is %s, from %s, with %d", ErrClaims, total, MaxClaimBytes, largest, m[largest].From, size)
	}
	return nil
}

// value returns the claim as docs have it, or as it was, or its default.
func (s ClaimSource) value(docs Documents, was any) (any, bool) {
	document, path, _ := strings.Cut(s.From, ".")
	all, read := docs[document]
	if !read && was != nil {
		return was, true
	}
	if v, ok := dig(all, path); ok {
		return v, true
	}
	return s.Default, s.Default != ""
}

// dig returns what path leads to in v. A null is nothing.
func dig(v any, path string) (any, bool) {
	if path == "" {
		return v, v != nil
	}
	switch v := v.(type) {
	case map[string]any:
		for name, rest := path, ""; ; {
			if below, ok := v[name]; ok {
				return dig(below, rest)
			}
			dot := strings.LastIndexByte(name, '.')
			if dot < 0 {
				return nil, false
			}
			name, rest = path[:dot], path[dot+1:]
		}
	case []any:
		return digList(v, path)
	}
	return nil, false
}

// digList returns the numbered entry of a list, or what path leads to in each.
func digList(list []any, path string) (any, bool) {
	head, rest, _ := strings.Cut(path, ".")
	if i, err := strconv.Atoi(head); err == nil {
		if i < 0 || i >= len(list) {
			return nil, false
		}
		return dig(list[i], rest)
	}
	var found []any
	for _, entry := range list {
		v, ok := dig(entry, path)
		if several, isList := v.([]any); ok && isList {
			found = append(found, several...)
		} else if ok {
			found = append(found, v)
		}
	}
	return found, len(found) > 0
}

// plain returns v, decoded from JSON, as a session keeps it, and nothing of it
// is shared. Numbers are int64 if they are whole and fit, else float64.
func plain(v any, depth int) (any, error) {
	if depth < 0 {
		return nil, errors.New("is nested too deeply; name what is meant with a longer path")
	}
	var err error
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		return v.Float64()
	case []any:
		list := make([]any, len(v))
		for i := range v {
			if list[i], err = plain(v[i], depth-1); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		object := make(map[string]any, len(v))
		for name := range v {
			if object[name], err = plain(v[name], depth-1); err != nil {
				return nil, err
			}
		}
		return object, nil
	}
	return v, nil
}

// plainAll returns claims that came from a token of ours, which are neither too
// deep nor too large.
func plainAll(claims map[string]any) map[string]any {
	if len(claims) == 0 {
		return nil
	}
	v, err := plain(claims, 1<<10)
	if err != nil {
		return nil
	}
	return v.(map[string]any)
}

// claimText returns what a header says of the claim at path: a text as it is,
// the texts of a list with commas in between, everything else as JSON; the characters of
// special are encoded in all of them.
func claimText(claims map[string]any, path, special string) string {
	v, ok := dig(claims, path)
	if !ok {
		return ""
	}
	if all, ok := v.([]any); ok {
		texts := make([]string, len(all))
		for i := range all {
			texts[i] = scalarText(all[i])
		}
		return list(texts, special)
	}
	return encode(scalarText(v), special)
}

func scalarText(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}
