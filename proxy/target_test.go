package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"authproxy/policy"
)

// wire is an upstream that reads bytes, not HTTP: it notes each request line and
// answers 204.
func wire(t testing.TB, seen *lines) Upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			go answerLines(conn, seen)
		}
	}()
	return upstreamAt(t, "http://"+l.Addr().String())
}

// answerLines answers each request on conn, none of which has a body.
func answerLines(conn net.Conn, seen *lines) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		request, err := in.ReadString('\n')
		if err != nil {
			return
		}
		for header := ""; header != "\r\n"; {
			if header, err = in.ReadString('\n'); err != nil {
				return
			}
		}
		io.WriteString(seen, request)
		if _, err := io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
			return
		}
	}
}

// oddTargets are legal, or common enough that net/http takes them, and easily
// changed on the way. The plain ones pass every rule; those that a rule about
// paths could misread are refused once there is one.
func oddTargets() map[string]bool {
	targets := map[string]bool{}
	for _, plain := range []string{
		"/", "/a", "/a/", "/a/b.html", "/a.b/.c", "/...", "/a%20b", "/%41", "/%7Etilde", "/~tilde", "/%e2%82%ac", "/%E2%82%AC", "/%c3%A4", "/ä", "/日本",
		"/a+b", "/a:b@c,d=e&f$g", "/!$&'()*+,=:@-._~", `/"quoted"`, "/<a>", "/[a]", "/{a}", "/a|b^c`d", "/%3Ca%3E", "/%5B%5D", "/%22",
		"/a?", "/a??", "/a?b", "/a?b=c&d=e", "/a?b=c&&d", "/a?&", "/a?=", "/a?b;c", "/a?a=1;b=2&c=3", "/a?%", "/a?%zz&b=%4", "/a?a=%2f%2F", "/a?a b"[:4],
		"/a?/../x//y", "/a?b=ä", `/a?"<>[]{}|\^` + "`", "/a?q=a+b%20c", "/a?b=http://c/d?e", "/%3F", "/%23", "/a%3Fb%3Dc", "/a%26b", "/" + strings.Repeat("long/", 500),
	} {
		targets[plain] = true
	}
	for _, ambiguous := range []string{
		"//", "//a", "//a/b?c", "///a", "//evil.example/%41", "/a//b", "/a//", "/.", "/..", "/a/./b", "/a/../b", "/a/..", "/a%2fb", "/a%2Fb", "/%2e%2e/a", "/%2E",
		"/a%5cb", `/a\b`, "/a;b", "/a;b=c/d", "/..;/a", "/a%00b", "/a%0d%0ab", "/a%25b", "/a%252fb", "/%ff", "/\xff",
	} {
		targets[ambiguous] = false
	}
	return targets
}

func get(t testing.TB, w *world, target string) (status string) {
	t.Helper()
	status, _ = raw(t, w.front.URL, "GET "+target+" HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n")
	return strings.TrimPrefix(status, "HTTP/1.1 ")
}

// TestTheTargetArrivesByteForByte, read off the wire.
func TestTheTargetArrivesByteForByte(t *testing.T) {
	for _, named := range []bool{false, true} {
		seen, rules := &lines{}, anyone()
		if named {
			rules = append([]policy.Rule{{Path: "/closed/**", Deny: true}}, rules...)
		}
		w := newWorld(t, setup{rules: rules, routes: []Route{{Upstream: wire(t, seen)}}})
		for target, plain := range oddTargets() {
			before := len(seen.String())
			status, want, line := get(t, w, target), "204 No Content", "GET "+target+" HTTP/1.1\r\n"
			if named && !plain {
				want, line = "400 Bad Request", ""
			}
			// An encoded "?" or "#" is loose, and no rule for anyone selects it.
			if named && (strings.HasPrefix(target, "/%3F") || strings.HasPrefix(target, "/%23") || strings.HasPrefix(target, "/a%3F")) {
				want, line = "403 Forbidden", ""
			}
			if got := seen.String()[before:]; status != want || got != line {
				t.Errorf("a rule names a path: %t: %q: status %q, on the wire %q; want %q, %q", named, target, status, got, want, line)
			}
		}
	}
}

// TestAnAbsoluteFormIsItsPath (RFC 9112, section 3.2.2), with the bytes it has.
func TestAnAbsoluteFormIsItsPath(t *testing.T) {
	seen := &lines{}
	w := newWorld(t, setup{rules: anyone(), routes: []Route{{Upstream: wire(t, seen)}}})
	for target, want := range map[string]string{
		"http://app.example.com/a?b":          "/a?b",
		"HTTPS://app.example.com/a%2fb?":      "/a%2fb?",
		"http://app.example.com":              "/",
		"http://app.example.com?b=/c":         "/?b=/c",
		"http://app.example.com:80//a":        "//a",
		`http://app.example.com/"ä"?http://c`: `/"ä"?http://c`,
	} {
		before := len(seen.String())
		status := get(t, w, target)
		if got := seen.String()[before:]; status != "204 No Content" || got != "GET "+want+" HTTP/1.1\r\n" {
			t.Errorf("%s: %s, on the wire %q; want %q", target, status, got, want)
		}
	}
}

// TestWhatIsNoPathIsRefused also where rules name no path, and reaches nobody.
func TestWhatIsNoPathIsRefused(t *testing.T) {
	seen := &lines{}
	w := newWorld(t, setup{rules: anyone(), routes: []Route{{Upstream: wire(t, seen)}}})
	for _, target := range []string{
		"*", "a", "?", "/a#b", "/a?b#c", "/#/public", "http://app.example.com/a#b", "http://app.example.com#b", "http:/a", "http:a", "mailto:x://y/auth/z",
		`//a"b`, "//ä", "//{a}", "/a\tb", "/%", "/%zz", "/a%2", "/\x01", "/a\x7f", "http://a b/", "://a/", "//a/%4",
	} {
		if status := get(t, w, target); !strings.HasPrefix(status, "400") {
			t.Errorf("%q: %s, want 400", target, status)
		}
	}
	// net/http answers this one itself: it is about the server, not a page.
	status, _ := raw(t, w.front.URL, "OPTIONS * HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n")
	if got := seen.String(); got != "" || !strings.Contains(status, " 200 ") {
		t.Errorf("OPTIONS *: %s; the upstream saw %q, want 200 and nothing", status, got)
	}
}

// TestTheTargetArrivesByteForByteFromHTTP2, where it is a pseudo-header.
func TestTheTargetArrivesByteForByteFromHTTP2(t *testing.T) {
	seen := &lines{}
	w := newWorld(t, setup{rules: anyone(), http2: true, routes: []Route{{Upstream: wire(t, seen)}}})
	for _, target := range []string{"/a%2fb?", "/%e2%82%ac?a;b&&c", "/a/../b//c", `/"<{|}>"`, "/ä?ä"} {
		before := len(seen.String())
		got := w.do(ask{target: target})
		if line := seen.String()[before:]; got.StatusCode != 204 || got.ProtoMajor != 2 || line != "GET "+target+" HTTP/1.1\r\n" {
			t.Errorf("%q: %d over %s, on the wire %q", target, got.StatusCode, got.Proto, line)
		}
	}
}

// TestPathsThatAreAllowedArriveAsTheyAre: loosening changes what passes, never
// the bytes.
func TestPathsThatAreAllowedArriveAsTheyAre(t *testing.T) {
	seen := &lines{}
	w := newWorld(t, setup{
		rules:  []policy.Rule{{Path: "/public/**", Allow: "anyone"}, {Require: &policy.Require{SignedIn: true}}},
		routes: []Route{{Upstream: wire(t, seen)}},
		proxy:  func(c *Config) { c.Paths = policy.PathRules{EncodedSlash: true, Semicolon: true, DoubleSlash: true} },
	})
	cookies := w.signIn(alice())
	for _, target := range []string{"/a%2Fb", "/a;b=c", "/a//b", "//a", "/public/a%2fb"} {
		before := len(seen.String())
		status, _ := raw(t, w.front.URL, "GET "+target+" HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\nCookie: "+cookies+"\r\n\r\n")
		if got := seen.String()[before:]; got != "GET "+target+" HTTP/1.1\r\n" {
			t.Errorf("%s, signed in: %s, on the wire %q", target, status, got)
		}
		before = len(seen.String())
		if status := get(t, w, target); !strings.HasPrefix(status, "401") || seen.String()[before:] != "" {
			t.Errorf("%s, anonymous: %s, want 401 and nothing on the wire", target, status)
		}
	}
}

// FuzzTarget: what readTarget takes, applyTo sends, byte for byte; and the path
// that is judged is the one that isOwn compared.
func FuzzTarget(f *testing.F) {
	for target := range oddTargets() {
		f.Add(target)
	}
	for _, target := range []string{"http://h/a?b", "http://h", "http://h?a", "mailto:x://y/z", "*", "/a#b", "http://h//a\"b", "http:////a"} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil || strings.Contains(raw, " ") {
			return // net/http refuses it
		}
		read, err := readTarget(&http.Request{Method: "GET", RequestURI: raw, URL: u})
		if err != nil {
			return
		}
		if !strings.HasSuffix(raw, read.String()) && read.String() != "/" && !strings.HasPrefix(read.String(), "/?") {
			t.Errorf("readTarget(%q) = %q, not the bytes that came", raw, read)
		}
		if decoded, err := url.PathUnescape(read.path); err != nil || decoded != u.Path && u.Path+decoded != "/" {
			t.Errorf("readTarget(%q) judges %q, but the prefix was compared with %q", raw, decoded, u.Path)
		}
		out := *u
		out.Scheme, out.Host = "http", "upstream"
		read.applyTo(&out)
		if got := out.RequestURI(); got != read.String() {
			t.Errorf("%q: sends %q, want %q", raw, got, read)
		}
	})
}
