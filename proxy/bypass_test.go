package proxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"authproxy/policy"
)

// publicAndAdmin has public rules of every kind beside a protected path, and
// asks for a sign-in elsewhere.
func publicAndAdmin() []policy.Rule {
	return []policy.Rule{
		{Name: "public", Path: "/public/**", Allow: "anyone"},
		{Name: "styles", Path: "/**/*.css", Methods: []string{"GET"}, Allow: "anyone"},
		{Name: "home", Path: "/", Allow: "anyone"},
		{Name: "admins", Path: "/admin/**", Require: &policy.Require{Roles: []string{"admin"}}},
		{Name: "signed in", Require: &policy.Require{SignedIn: true}},
	}
}

// attempts are targets by which somebody might reach /admin through a public
// rule: what some server or framework is known to read as another path.
func attempts() []string {
	var all []string
	for _, between := range []string{
		"..", "%2e%2e", "%2E%2e", ".%2e", "%252e%252e", "%25252e%25252e", "..;", "..;a=b", "%2e%2e;", "..%3b", "..%00", "%c0%ae%c0%ae", "%uff0e%uff0e", "..%20", ".. ", "..%09", "...", "..%ef%bc%8f",
		"．．", "%ef%bc%8e%ef%bc%8e", "..%23", "..%3f",
	} {
		for _, slash := range []string{"/", "//", "%2f", "%2F", "%252f", "%5c", `\`, ";/", "/;/", "/./", "/%2e/", "%c0%af", "%00/", "%0a/", "/%20/"} {
			all = append(all, "/public"+slash+between+slash+"admin", "/public/"+between+slash+"admin/x")
		}
	}
	return append(all,
		"/admin?/public/a", "/admin?x.css", "/admin?a=/x.css", "/admin?", "/admin?/../public/", "/admin%3f.css", "/admin%3F/x.css", "/admin#/public/a", "/admin#.css", "/admin%23.css", "/admin/%23/a.css#",
		"/admin;.css", "/admin;/a.css", "/admin/;a.css", "/admin%3b.css", "/admin/x%2f.css", "/admin%2f.css", "/admin%5c.css", `/admin\.css`, "/admin%00.css", "/admin%0a.css", "/admin%0d%0aX-A:b.css", "/admin/%2e.css/..",
		"/ADMIN", "/Admin/x", "/%61dmin", "/%41dmin", "/%2561dmin", "/admin/", "/admin//", "//admin", "///admin", "/./admin", "/.//admin", "/%2fadmin", "/%2e/admin", "/x/../admin", "/admin/.", "/admin/..",
		"/;/admin", "/;a=b/admin", "/.;/admin", "/%20/admin", "/admin%20", "/admin%09", "/admin.", "/admin%2e", "/admin.json", "/admin~", "/admin/*", "/%61%64%6d%69%6e",
		"//public/../admin", "/public/../../admin", "/public/x/../../admin", "/public/%", "/public/%2", "/public/%zz/../admin", "/public/\x00/../admin", "/public/\x80", "/public/%ff%fe",
		"//app.example.com/admin", "//evil.example/public/..//admin", "/\\app.example.com/admin", "/@/admin", "/:/admin",
		"*", "admin", "public/../admin", "?", "", "..", "../admin", "http:admin", "http:/admin", "http:///admin", "http://app.example.com/admin", "HTTP://APP.EXAMPLE.COM/admin", "https://app.example.com:443/admin",
		"http://app.example.com/public/../admin", "http://app.example.com/public/%2e%2e/admin", "http://user@app.example.com/admin", "http://app.example.com\\admin", "http://public/admin", "http://app.example.com?/../admin",
		"http://app.example.com#/public", "ftp://app.example.com/admin", "javascript:admin", "app.example.com:443", "/public/"+strings.Repeat("../", 200)+"admin", "/public/"+strings.Repeat("a/", 2000)+"../admin",
	)
}

// safe says whether what came to the upstream is what a public rule is for: a
// path that everybody reads as one below /public, as a style or as the home.
func safe(requestURI string) bool {
	path, _, _ := strings.Cut(requestURI, "?")
	if strings.ContainsAny(path, "%;\\#") || strings.Contains(path, "//") || strings.Contains(path, "/./") || strings.Contains(path+"/", "/../") {
		return path == "/public/%20" || isPlainlyPublic(path)
	}
	return path == "/" || strings.HasPrefix(path, "/public/") || strings.HasSuffix(path, ".css") && !strings.HasPrefix(path, "/admin")
}

// isPlainlyPublic says whether path stays below /public however its percent
// signs are decoded: there is nothing in it but letters that are encoded.
func isPlainlyPublic(path string) bool {
	lower := strings.ToLower(path)
	for _, odd := range []string{"%2e", "%2f", "%5c", "%25", "%3b", "%3f", "%23", "%00", "%0", "%c0", "%u", ";", "\\", "#", "//", "/./", "/../"} {
		if strings.Contains(lower+"/", odd) {
			return false
		}
	}
	return strings.HasPrefix(path, "/public/")
}

// TestNoSpellingOfATargetOpensAProtectedPath: whatever a stranger sends, with
// the strict reading of paths and with the loosest, nothing but what is public
// reaches the upstream, and nothing breaks.
func TestNoSpellingOfATargetOpensAProtectedPath(t *testing.T) {
	for _, paths := range []policy.PathRules{{}, {EncodedSlash: true, Semicolon: true, DoubleSlash: true}} {
		w := newWorld(t, setup{rules: publicAndAdmin(), proxy: func(c *Config) { c.Paths = paths }})
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "PROPFIND", "get"} {
			for _, target := range attempts() {
				before := len(w.reached.String())
				status, _ := raw(t, w.front.URL, method+" "+target+" HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				expectClosed(t, method+" "+target, status, w.reached.String()[before:])
			}
		}
	}
}

// expectClosed fails if something that is not public reached the upstream, or
// the answer is an error of ours.
func expectClosed(t *testing.T, request, status, reached string) {
	t.Helper()
	for line := range strings.Lines(reached) {
		if !safe(strings.TrimSuffix(line, "\n")) {
			t.Errorf("%q reached the upstream as %q: %s", request, line, status)
		}
	}
	if strings.HasPrefix(status, "HTTP/1.1 5") || strings.HasPrefix(status, "5") {
		t.Errorf("%q: %s, want no error of the server", request, status)
	}
	if reached == "" && (strings.HasPrefix(status, "HTTP/1.1 2") || strings.HasPrefix(status, "2")) && !strings.HasSuffix(request, " *") {
		t.Errorf("%q: %s, though the upstream saw nothing", request, status)
	}
}

// TestNoHeaderOpensAProtectedPath: neither on the way in, where it would change
// what rules see, nor on a public path, where an application might follow it to
// another one.
func TestNoHeaderOpensAProtectedPath(t *testing.T) {
	for _, trusted := range [][]string{nil, {"127.0.0.1/32"}} {
		w := newWorld(t, setup{rules: publicAndAdmin(), trusted: trusted})
		for _, name := range []string{
			"X-Original-URL", "X-Original-Uri", "X-Rewrite-URL", "X_Rewrite_Url", "X-Original-Path", "X.Original.URL", "X-HTTP-Method-Override", "X-Http-Method", "X_HTTP_Method_Override", "X-Method-Override",
		} {
			for _, value := range []string{"/public/a", "/admin", "DELETE", "GET"} {
				header := http.Header{name: {value}}
				before := w.reached.String()
				if got := w.do(ask{target: "/admin", header: header}); got.StatusCode != 401 || w.reached.String() != before {
					t.Errorf("/admin with %s: %s: %d, want 401 and nothing at the upstream", name, value, got.StatusCode)
				}
				got := w.pass(ask{target: "/public/a", header: header})
				for arrived := range got.Header {
					if fold(arrived) == fold(name) {
						t.Errorf("trusted %v: %s reached the upstream of a public path", trusted, arrived)
					}
				}
			}
		}
	}
}

// TestAMethodOverrideArrivesWhereNoRuleNamesAMethod: some applications live by
// it.
func TestAMethodOverrideArrivesWhereNoRuleNamesAMethod(t *testing.T) {
	w := newWorld(t, setup{rules: anyone()})
	if got := w.pass(ask{method: "POST", header: http.Header{"X-Http-Method-Override": {"PATCH"}}}); got.Header.Get("X-Http-Method-Override") != "PATCH" {
		t.Errorf("the upstream got %v, want the override", got.Header)
	}
}

// TestNoPseudoHeaderOpensAProtectedPath writes HTTP/2 frame by frame, as no
// client library would.
func TestNoPseudoHeaderOpensAProtectedPath(t *testing.T) {
	w := newWorld(t, setup{rules: publicAndAdmin()})
	for _, method := range []string{"GET", "POST", "CONNECT"} {
		for _, target := range attempts() {
			before := len(w.reached.String())
			fields := []hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: ourHost}, {Name: ":path", Value: target}}
			status := overHTTP2(t, w.front.URL, fields)
			expectClosed(t, method+" "+target, status, w.reached.String()[before:])
		}
	}
	odd := map[string][]hpack.HeaderField{
		"two paths":             {{Name: ":path", Value: "/public/a"}, {Name: ":path", Value: "/admin"}},
		"two paths, other way":  {{Name: ":path", Value: "/admin"}, {Name: ":path", Value: "/public/a"}},
		"a path in the header":  {{Name: ":path", Value: "/admin"}, {Name: "path", Value: "/public/a"}},
		"a path after a header": {{Name: ":path", Value: "/admin"}, {Name: "a", Value: "b"}, {Name: ":path", Value: "/public/a"}},
		"no path":               {},
		"a host besides":        {{Name: ":path", Value: "/admin"}, {Name: "host", Value: "public"}},
		"a protocol":            {{Name: ":path", Value: "/admin"}, {Name: ":protocol", Value: "websocket"}},
		"a path in capitals":    {{Name: ":Path", Value: "/admin"}},
	}
	for name, rest := range odd {
		before := len(w.reached.String())
		fields := append([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: ourHost}}, rest...)
		status := overHTTP2(t, w.front.URL, fields)
		if reached := w.reached.String()[before:]; reached != "" || strings.HasPrefix(status, "2") || strings.HasPrefix(status, "5") {
			t.Errorf("%s: status %q, the upstream saw %q; want a refusal and nothing", name, status, reached)
		}
	}
}

// overHTTP2 sends one request with exactly these fields and returns the status
// of the answer, "" if the stream or the connection was refused.
func overHTTP2(t *testing.T, address string, fields []hpack.HeaderField) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		if err := encoder.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.AllowIllegalWrites = true
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "" // the connection was refused
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		}
	}
}

func TestAPublicPageIsToldWhoIsSignedIn(t *testing.T) {
	w := newWorld(t, setup{rules: publicAndAdmin()})
	got := w.pass(ask{target: "/public/a", header: http.Header{"Cookie": {w.signIn(alice())}}})
	if got.Header.Get("X-User-Id") != alice().ID || got.Header.Get("X-User-Roles") != "admin" {
		t.Errorf("the upstream got %v, want alice and her role", got.Header)
	}
	if told := read(w.pass(ask{target: "/public/a"}).Header, saysWho); len(told) > 0 {
		t.Errorf("for nobody the upstream is told %v, want nothing", told)
	}
}
