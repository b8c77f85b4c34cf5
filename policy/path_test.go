package policy_test

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"

	"authproxy/policy"
)

func TestParseKeepsPlainPaths(t *testing.T) {
	tests := []struct {
		name, escaped, want string
	}{
		{"root", "/", "/"},
		{"plain", "/reports/2026", "/reports/2026"},
		{"trailing slash", "/reports/", "/reports/"},
		{"dot in a name", "/a.b/c.txt", "/a.b/c.txt"},
		{"two dots in a name", "/a..b/c..", "/a..b/c.."},
		{"dot file", "/.well-known/jwks.json", "/.well-known/jwks.json"},
		{"two dots before a name", "/..a/...", "/..a/..."},
		{"sub-delimiters", "/a:b@c!$&'()*+,=~-_", "/a:b@c!$&'()*+,=~-_"},
		{"encoded space", "/my%20file", "/my file"},
		{"a plus is no space", "/a+b", "/a+b"},
		{"encoded letter is the letter", "/%61dmin", "/admin"},
		{"encoded UTF-8", "/caf%c3%A9", "/café"},
		{"raw UTF-8", "/café", "/café"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := policy.PathRules{}.Parse(tt.escaped)
			if want := (policy.Path{Decoded: tt.want}); err != nil || got != want {
				t.Errorf("Parse(%q) = %+v, %v, want %+v", tt.escaped, got, err, want)
			}
		})
	}
}

// refused checks that rules refuse escaped, for the reason wanted.
func refused(t *testing.T, rules policy.PathRules, escaped, want string) {
	t.Helper()
	got, err := rules.Parse(escaped)
	if !errors.Is(err, policy.ErrPath) || !strings.Contains(err.Error(), want) {
		t.Errorf("Parse(%q) = %+v, %v, want ErrPath with %q", escaped, got, err, want)
	}
}

func TestParseRefusesOddStartsAndDotSegments(t *testing.T) {
	all := policy.PathRules{EncodedSlash: true, Semicolon: true, DoubleSlash: true}
	tests := []struct{ name, escaped, want string }{
		{"empty", "", "begin with a slash"},
		{"relative", "admin", "begin with a slash"},
		{"asterisk form", "*", "begin with a slash"},
		{"absolute form", "https://app.example.com/", "begin with a slash"},
		{"encoded slash first", "%2fadmin", "begin with a slash"},

		{"dot-dot in the middle", "/public/../admin", "segment"},
		{"dot-dot at the end", "/public/..", "segment"},
		{"dot-dot at the start", "/../admin", "segment"},
		{"dot in the middle", "/a/./b", "segment"},
		{"dot at the end", "/a/.", "segment"},
		{"dot alone", "/.", "segment"},
		{"dot-dot with parameters", "/user/..;a=b/admin", "segment"},
		{"dot-dot with an empty parameter", "/user/..;/admin", "segment"},
		{"dot-dot with an encoded semicolon", "/user/..%3ba=b/admin", "segment"},
		{"dot with parameters", "/user/.;a=b/admin", "segment"},
		{"dot-dot before an encoded question mark", "/public/..%3fx", "segment"},
		{"dot-dot before an encoded hash", "/public/..%23x", "segment"},
		{"dot-dot and a blank", "/public/..%20/admin", "segment"},
		{"dot-dot between encoded slashes", "/public%2f..%2fadmin", "segment"},
		{"dot-dot before an encoded slash", "/public/..%2fadmin", "segment"},
		{"dot-dot behind an encoded slash", "/public%2F../admin", "segment"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { refused(t, all, tt.escaped, tt.want) })
	}
}

func TestParseRefusesAmbiguousBytesWhateverIsLetPass(t *testing.T) {
	all := policy.PathRules{EncodedSlash: true, Semicolon: true, DoubleSlash: true}
	tests := []struct{ name, escaped, want string }{
		{"encoded dot-dot", "/public/%2e%2e/admin", "encoded dot"},
		{"encoded dot-dot, upper case", "/public/%2E%2E/admin", "encoded dot"},
		{"half encoded dot-dot", "/public/.%2e/admin", "encoded dot"},
		{"other half encoded dot-dot", "/public/%2e./admin", "encoded dot"},
		{"encoded dot", "/public/%2e/admin", "encoded dot"},
		{"encoded dot in a name", "/a%2etxt", "encoded dot"},
		{"twice encoded dot", "/public/%252e%252e/admin", "encoded percent"},
		{"twice encoded slash", "/public%252fadmin", "encoded percent"},
		{"encoded percent sign", "/100%25", "encoded percent"},

		{"backslash", `/public\admin`, "backslash"},
		{"dot-dot and backslash", `/public/..\admin`, "backslash"},
		{"encoded backslash", "/public/..%5cadmin", "encoded backslash"},
		{"encoded backslash, upper case", "/public%5Cadmin", "encoded backslash"},

		{"encoded NUL", "/admin%00.css", "encoded control"},
		{"encoded line feed", "/a%0aSet-Cookie:x", "encoded control"},
		{"encoded unit separator", "/a%1f", "encoded control"},
		{"encoded delete", "/a%7F", "encoded control"},
		{"raw NUL", "/a\x00", "control byte"},
		{"raw carriage return", "/a\rb", "control byte"},
		{"raw tab", "/a\tb", "control byte"},
		{"raw delete", "/a\x7f", "control byte"},
		{"raw space", "/a b", "space"},

		{"fragment", "/admin#/public/", "fragment"},
		{"query", "/admin?x=/public/", "query"},

		{"percent at the end", "/a%", "invalid percent"},
		{"one digit", "/a%2", "invalid percent"},
		{"not hexadecimal", "/a%zz", "invalid percent"},
		{"percent-u", "/%u002e%u002e/", "invalid percent"},

		{"overlong slash", "/public%c0%af..%c0%afadmin", "UTF-8"},
		{"overlong dot", "/%c0%ae%c0%ae/", "UTF-8"},
		{"three-byte overlong slash", "/a%e0%80%afb", "UTF-8"},
		{"surrogate", "/%ed%a0%80", "UTF-8"},
		{"raw Latin-1", "/caf\xe9", "UTF-8"},
		{"cut sequence", "/caf%c3", "UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { refused(t, all, tt.escaped, tt.want) })
	}
}

// Each row is refused although everything else is let pass.
func TestParseRefusesWhatIsNotLetPass(t *testing.T) {
	noSlash := policy.PathRules{Semicolon: true, DoubleSlash: true}
	noSemicolon := policy.PathRules{EncodedSlash: true, DoubleSlash: true}
	noDouble := policy.PathRules{EncodedSlash: true, Semicolon: true}
	tests := []struct {
		name    string
		rules   policy.PathRules
		escaped string
		want    string
	}{
		{"encoded slash", noSlash, "/a%2fb", "encoded_slash"},
		{"encoded slash, upper case", noSlash, "/a%2Fb", "encoded_slash"},
		{"semicolon", noSemicolon, "/a;jsessionid=1", "semicolon"},
		{"semicolon alone", noSemicolon, "/;/admin", "semicolon"},
		{"encoded semicolon", noSemicolon, "/a%3bb", "semicolon"},
		{"two slashes", noDouble, "/a//b", "double_slash"},
		{"two slashes at the start", noDouble, "//evil.example/", "double_slash"},
		{"two slashes at the end", noDouble, "/a//", "double_slash"},
		{"slash and encoded slash", noDouble, "/a/%2fb", "double_slash"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { refused(t, tt.rules, tt.escaped, tt.want) })
	}
}

func TestParseMarksWhatIsLetPassAsLoose(t *testing.T) {
	tests := []struct {
		name    string
		rules   policy.PathRules
		escaped string
		want    string
	}{
		{"encoded slash", policy.PathRules{EncodedSlash: true}, "/projects/a%2Fb", "/projects/a/b"},
		{"semicolon", policy.PathRules{Semicolon: true}, "/a;v=1/b", "/a;v=1/b"},
		{"encoded semicolon", policy.PathRules{Semicolon: true}, "/a%3Bv=1", "/a;v=1"},
		{"two slashes", policy.PathRules{DoubleSlash: true}, "/a//b", "/a//b"},
		{"encoded question mark", policy.PathRules{}, "/what%3f", "/what?"},
		{"encoded hash", policy.PathRules{}, "/c%23", "/c#"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.rules.Parse(tt.escaped)
			if err != nil || got.Decoded != tt.want || !got.Loose {
				t.Errorf("Parse(%q) = %+v, %v, want %q, loose", tt.escaped, got, err, tt.want)
			}
		})
	}
}

func TestParseOfPlainPathsAllocatesNothing(t *testing.T) {
	got := testing.AllocsPerRun(100, func() {
		if _, err := (policy.PathRules{}).Parse("/api/v1/users/42"); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("Parse allocates %v times, want 0", got)
	}
}

// FuzzPath checks that what Parse returns cannot be read in another way: no dot
// segment whatever is let pass, and without Loose a clean path that encodes and
// parses to itself.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/", "/a/b/", "/..;a=b", "/%2e%2e/", "/%252e", "/a%5cb", "/a%00", "/./", "/a/.", "//", "/a//b", "/;/",
		"/a#b", "/a%23b", "/a?b", "/..%3f", "/a%2fb", "/%2f..", "/caf%c3%a9", "/%c0%ae", "/a%", "/a b", "/a%20", "/..%20",
	} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(7))
	}
	f.Fuzz(func(t *testing.T, escaped string, let uint8) {
		pr := policy.PathRules{EncodedSlash: let&1 != 0, Semicolon: let&2 != 0, DoubleSlash: let&4 != 0}
		got, err := pr.Parse(escaped)
		if err != nil {
			if !errors.Is(err, policy.ErrPath) || got != (policy.Path{}) {
				t.Fatalf("Parse(%q) = %+v, %v, want ErrPath and no path", escaped, got, err)
			}
			return
		}
		checkHarmless(t, got.Decoded)
		if !got.Loose {
			checkClean(t, pr, got)
		}
	})
}

func checkHarmless(t *testing.T, decoded string) {
	t.Helper()
	if !strings.HasPrefix(decoded, "/") || strings.ContainsAny(decoded, "\\\x00\r\n%") {
		t.Errorf("decoded %q has a byte that must be refused", decoded)
	}
	for seg := range strings.SplitSeq(decoded, "/") {
		if name, _, _ := strings.Cut(seg, ";"); name == "." || name == ".." {
			t.Errorf("decoded %q has a dot segment", decoded)
		}
	}
}

func checkClean(t *testing.T, pr policy.PathRules, p policy.Path) {
	t.Helper()
	want := p.Decoded
	if want != "/" {
		want = strings.TrimSuffix(want, "/")
	}
	if got := path.Clean(p.Decoded); got != want {
		t.Errorf("path.Clean(%q) = %q, want %q", p.Decoded, got, want)
	}
	again, err := pr.Parse((&url.URL{Path: p.Decoded}).EscapedPath())
	if err != nil || again != p {
		t.Errorf("%+v encoded and parsed = %+v, %v", p, again, err)
	}
}
