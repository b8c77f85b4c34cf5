package identity

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Template is a text about a person for an upstream: a source such as
// "user.email" or "claims.department", or a text with sources in it, as in
// "{{ user.id }}@{{ claims.tenant }}".
type Template struct {
	parts []part
	// special are the characters by which values are told from what stands around
	// them: encoded within values, so that nobody can move the border.
	special string
}

// A part is a literal, or a source of a person's value.
type part struct {
	literal string
	source  func(w *Who, special string) string
}

// ParseTemplate returns the template that text is. It fails for an unknown
// source, and for a literal that is not printable ASCII.
func ParseTemplate(text string) (*Template, error) {
	if !strings.Contains(text, "{{") {
		source, err := sourceOf(text)
		return &Template{parts: []part{{source: source}}}, err
	}
	t := &Template{}
	for rest := text; rest != ""; {
		literal, after, found := strings.Cut(rest, "{{")
		if strings.ContainsFunc(literal, func(r rune) bool { return r < ' ' || r > '~' }) || strings.Contains(literal, "}}") {
			return nil, fmt.Errorf("identity: the template %q holds something else than ASCII, or }} without {{", text)
		}
		if literal != "" {
			t.parts = append(t.parts, part{literal: literal})
			t.special += strings.Map(separator, literal)
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(after, "}}")
		if !closed {
			return nil, fmt.Errorf("identity: the template %q has {{ without }}", text)
		}
		source, err := sourceOf(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		t.parts, rest = append(t.parts, part{source: source}), after
	}
	return t, nil
}

// separator returns c if it can stand between two values. Words do not, and names
// stay readable where spaces stand around them.
func separator(c rune) rune {
	if c == ' ' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
		return -1
	}
	return c
}

// sourceOf returns the source called name.
func sourceOf(name string) (func(w *Who, special string) string, error) {
	if path, ok := strings.CutPrefix(name, "claims."); ok && path != "" {
		return func(w *Who, special string) string { return claimText(w.User.Claims, path, special) }, nil
	}
	all := sources()
	if read, ok := all[name]; ok {
		return read, nil
	}
	return nil, fmt.Errorf("identity: unknown source %q; use claims.NAME or one of %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
}

// For returns what t says about w: printable ASCII, so that it splits no header.
// It is "" if none of its sources has a value, as for nobody, unless t has no
// source.
func (t *Template) For(w *Who) string {
	var b strings.Builder
	sources, values := 0, 0
	for _, p := range t.parts {
		if p.source == nil {
			b.WriteString(p.literal)
			continue
		}
		sources++
		if w == nil {
			continue
		}
		if v := p.source(w, t.special); v != "" {
			values++
			b.WriteString(v)
		}
	}
	if sources > 0 && values == 0 {
		return ""
	}
	return b.String()
}
