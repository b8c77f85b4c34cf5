package policy_test

import (
	"regexp"
	"strings"
	"testing"

	"authproxy/policy"
)

// matches reports whether a rule for pattern selects path.
func matches(t *testing.T, pattern, path string) bool {
	t.Helper()
	set := compile(t, policy.Rule{Path: pattern, Allow: "anyone"})
	return set.Decide(&policy.Request{Method: "GET", Path: policy.Path{Decoded: path}}, nil).Outcome == policy.Allow
}

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern string
		yes, no []string
	}{
		{"/", []string{"/"}, []string{"/a", "//", ""}},
		{"/a", []string{"/a"}, []string{"/", "/a/", "/ab", "/A", "/a/b", "/b"}},
		{"/a/", []string{"/a/"}, []string{"/a", "/a/b"}},
		{"/a/**", []string{"/a", "/a/", "/a/b", "/a/b/c/"}, []string{"/ab", "/", "/b/a", "/A/b", "/ab/a"}},
		{"/**", []string{"/", "/a", "/a/b/"}, []string{"", "a"}},
		{"/a/*", []string{"/a/b", "/a/"}, []string{"/a", "/a/b/c", "/a/b/", "/b/c"}},
		{"/*", []string{"/", "/a"}, []string{"/a/", "/a/b", ""}},
		{"/*.css", []string{"/a.css", "/.css"}, []string{"/a/b.css", "/acss", "/a.css/", "/a.cssx"}},
		{"/a*b*c", []string{"/abc", "/aXbYc", "/abbcc"}, []string{"/ab", "/acb", "/aXbY/c"}},
		{"/a/*/c", []string{"/a/b/c", "/a//c"}, []string{"/a/c", "/a/b/b/c", "/a/b/c/"}},
		{"/a/**/c", []string{"/a/c", "/a/b/c", "/a/c/b/c"}, []string{"/a", "/a/b", "/a/c/d", "/ac", "/b/a/c"}},
		{"/**/x", []string{"/x", "/a/x", "/a/b/x"}, []string{"/ax", "/x/", "/x/a"}},
		{"/**/a/**/b/**", []string{"/a/b", "/x/a/y/b/z", "/a/a/b/b", "/b/a/b"}, []string{"/b/a", "/a", "/xa/b"}},
		{"/**/**", []string{"/", "/a/b"}, []string{""}},
		{"/a/**/", []string{"/a/", "/a/b/"}, []string{"/a", "/a/b"}},
		{"/a.b+(c)|d^$", []string{"/a.b+(c)|d^$"}, []string{"/aXb+(c)|d^$", "/a.b"}},
		{"/my file/é", []string{"/my file/é"}, []string{"/my%20file/é"}},
	}
	for _, tt := range tests {
		for _, path := range tt.yes {
			if !matches(t, tt.pattern, path) {
				t.Errorf("%q does not match %q, want it to", tt.pattern, path)
			}
		}
		for _, path := range tt.no {
			if matches(t, tt.pattern, path) {
				t.Errorf("%q matches %q, want it not to", tt.pattern, path)
			}
		}
	}
}

// The matcher's work is bounded by the product of the lengths. One that searches
// would not come back for these before the time limit of go test.
func TestGlobDoesNotBacktrackExponentially(t *testing.T) {
	tests := []struct{ name, pattern, path string }{
		{"stars in a segment", "/" + strings.Repeat("a*", 40) + "b", "/" + strings.Repeat("a", 4000)},
		{"double stars", strings.Repeat("/**/a", 40) + "/b", strings.Repeat("/a", 2000)},
		{"both", strings.Repeat("/**/*a*a", 20) + "/b", strings.Repeat("/aaaa", 1000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if matches(t, tt.pattern, tt.path) {
				t.Error("the pattern matches, want it not to")
			}
		})
	}
}

// FuzzGlob compares with a regular expression built from the pattern.
func FuzzGlob(f *testing.F) {
	for _, s := range [][2]string{
		{"/a/**", "/a"}, {"/a/**", "/ab"}, {"/**/a/**/b", "/x/a/b"}, {"/a*b*c", "/aXbc"}, {"/*/", "//"},
		{"/**", "/"}, {"/a/**/", "/a/"}, {"/**/*", "/a/"}, {"/*a*/**/b*", "/xa/y/b"}, {"/é*", "/é\n"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern) > 200 || len(path) > 1000 || !strings.HasPrefix(path, "/") {
			return
		}
		if _, err := policy.Compile([]policy.Rule{{Path: pattern, Allow: "anyone"}}); err != nil || pattern == "" {
			return
		}
		want := reference(pattern).MatchString(toRunes(path))
		if got := matches(t, pattern, path); got != want {
			t.Errorf("%q matches %q: %v, want %v", pattern, path, got, want)
		}
	})
}

// reference builds the expression segment by segment, from the definition.
func reference(pattern string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for seg := range strings.SplitSeq(pattern[1:], "/") {
		if seg == "**" {
			b.WriteString(`(?:/[^/]*)*`)
			continue
		}
		literal := regexp.QuoteMeta(toRunes(seg))
		b.WriteString("/" + strings.ReplaceAll(literal, `\*`, `[^/]*`))
	}
	return regexp.MustCompile(b.String() + `$`)
}

// toRunes makes each byte a rune of its own: Parse returns UTF-8 only, but the
// matcher sees bytes, and regexp takes all invalid ones for the same.
func toRunes(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}
