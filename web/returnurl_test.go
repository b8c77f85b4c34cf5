package web_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// isOurs says whether an origin is one of the site that returnSite makes, where
// ports do not count unless they are listed.
func isOurs(origin string) bool {
	hostport, ok := strings.CutPrefix(origin, "https://")
	name, port, _ := strings.Cut(hostport, ":")
	name = strings.TrimSuffix(name, ".")
	_, parent, _ := strings.Cut(name, ".")
	return ok && (name == host || parent == "apps.example.com" || name == "other.example.com" && port == "8443")
}

func returnSite(t testing.TB) *site {
	return newSite(t, func(s *settings) {
		s.hosts, s.domain = []string{host, "*.apps.example.com", "other.example.com:8443"}, "example.com"
	})
}

// readPayloads returns the payloads of a file, one a line. Lines that begin with
// "##" are comments; with quoted, a line in double quotes is a Go string.
func readPayloads(t testing.TB, name string, quoted bool) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var payloads []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "##") {
			continue
		}
		if quoted && strings.HasPrefix(line, `"`) {
			if line, err = strconv.Unquote(line); err != nil {
				t.Fatalf("%s: %q: %v", name, line, err)
			}
		}
		payloads = append(payloads, line)
	}
	return payloads
}

func hostile(t testing.TB) []string {
	return append(readPayloads(t, "testdata/return_urls.txt", true),
		"/"+strings.Repeat("x", 2048), origin+"/"+strings.Repeat("x", 2048), "/?"+strings.Repeat("x", 2047))
}

func good(t testing.TB) []string {
	return append(readPayloads(t, "testdata/return_urls_good.txt", true), "/"+strings.Repeat("x", 2047))
}

func TestThePayloadListsAreWhole(t *testing.T) {
	for name, list := range map[string][]string{"hostile": hostile(t), "good": good(t)} {
		least := map[string]int{"hostile": 200, "good": 30}[name]
		unique := slices.Compact(slices.Sorted(slices.Values(list)))
		if len(unique) != len(list) || len(list) < least {
			t.Errorf("%s: %d payloads, %d of them different, want at least %d and no two alike", name, len(list), len(unique), least)
		}
	}
}

func TestHostileReturnURLsAreRefused(t *testing.T) {
	s := returnSite(t)
	for _, payload := range hostile(t) {
		if s.web.IsReturnURL(payload) {
			t.Errorf("%q is kept, which leads to %s", payload, resolve(payload))
		}
	}
}

func TestGoodReturnURLsAreKept(t *testing.T) {
	s := returnSite(t)
	for _, payload := range good(t) {
		if !s.web.IsReturnURL(payload) {
			t.Errorf("%q is refused", payload)
		}
		if got := resolve(payload); !isOurs(got) {
			t.Errorf("%q is on the list of good ones, but leads to %s", payload, got)
		}
	}
}

// TestReturnURLsThroughTheSignIn asks with each payload at each place that takes
// one, and looks at where the browser ends.
func TestReturnURLsThroughTheSignIn(t *testing.T) {
	s := returnSite(t)
	for _, payload := range hostile(t) {
		if got := endsAt(t, s, payload); got != "/" {
			t.Errorf("%q ends at %q, want /", payload, got)
		}
	}
	for _, payload := range good(t) {
		if got := endsAt(t, s, payload); got != payload {
			t.Errorf("%q ends at %q, want it byte for byte", payload, got)
		}
	}
}

// TestABackslashInAQueryComesBackEncoded: browsers send it as it is, and it means
// nothing to them after the question mark (WHATWG URL, query state).
func TestABackslashInAQueryComesBackEncoded(t *testing.T) {
	s := returnSite(t)
	for _, tt := range []struct{ rd, want string }{
		{`/search?re=\d+&x=1`, "/search?re=%5Cd+&x=1"},
		{`https://one.apps.example.com/search?re=\\`, "https://one.apps.example.com/search?re=%5C%5C"},
		{`/search?re=\d#\`, "/search?re=%5Cd#%5C"},
		{`/a\b?re=\d`, "/"},
		{`/\evil.example?re=\d`, "/"},
		{`https://app.example.com\@evil.example/?re=\d`, "/"},
		{"/?" + strings.Repeat(`\`, 1000), "/"}, // too long once it is encoded
	} {
		if got := s.newBrowser(t).signIn("alice", tt.rd).location(); got != tt.want {
			t.Errorf("%.60q ends at %.60q, want %.60q", tt.rd, got, tt.want)
		}
	}
	a, v := s.newBrowser(t).api("POST", "/auth/sign-in/social", `{"provider": "one", "callbackURL": "/search?re=\\d"}`)
	if target, _ := dig(v, "url").(string); a.StatusCode != 200 || !strings.HasSuffix(target, "?rd="+url.QueryEscape("/search?re=%5Cd")) {
		t.Errorf("a script gets %d and %q, want the encoded one", a.StatusCode, target)
	}
}

// endsAt signs in with rd = payload and returns the final Location. On the way
// it checks the stale sign-in page, both kinds of sign-out, and the sign-in for
// scripts with the same payload.
func endsAt(t *testing.T, s *site, payload string) string {
	t.Helper()
	s.clock.advance(time.Minute)
	b := s.newBrowser(t)
	end := b.signIn("alice", payload).location()
	query := url.Values{"rd": {payload}}.Encode()
	if got := b.get("/auth/sign-in?" + query).location(); got != end {
		t.Errorf("%q ends at %q from a stale sign-in page, at %q from the sign-in", payload, got, end)
	}
	if _, v := b.api("POST", "/auth/sign-out?"+query, ""); dig(v, "url") != end {
		t.Errorf("%q ends at %q after sign-out by script, at %q after sign-in", payload, dig(v, "url"), end)
	}
	form := b.send("POST", "/auth/sign-out", query, "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	if got := form.location(); got != end {
		t.Errorf("%q ends at %q after sign-out by form, at %q after sign-in", payload, got, end)
	}
	body, err := json.Marshal(map[string]string{"provider": "one", "callbackURL": payload})
	if err != nil {
		t.Fatal(err)
	}
	a, v := b.api("POST", "/auth/sign-in/social", string(body))
	if target, _ := dig(v, "url").(string); a.StatusCode == 200 != (end == payload) || !strings.HasPrefix(target, origin+"/auth/") && target != "" {
		t.Errorf("%q by script gives %d and %q, and ends at %q from the sign-in", payload, a.StatusCode, target, end)
	}
	return end
}

// TestReturnURLsOfAFile takes the payloads of the file that
// AUTHPROXY_TEST_REDIRECTS names, of which nothing is known: wherever one ends,
// it must be on our hosts.
func TestReturnURLsOfAFile(t *testing.T) {
	name := os.Getenv("AUTHPROXY_TEST_REDIRECTS")
	if name == "" {
		return // there is nothing to be missed: the lists of our own have tests of their own
	}
	s := returnSite(t)
	payloads := readPayloads(t, name, false)
	kept := 0
	var ends []string
	for _, payload := range payloads {
		end := endsAt(t, s, payload)
		if end == payload {
			kept++
			t.Logf("kept: %q", payload)
		}
		if got := resolve(end); !isOurs(got) {
			t.Errorf("%q ends at %q, which leads to %s", payload, end, got)
		}
		ends = append(ends, end)
	}
	for i, got := range askNode(t, ends) {
		if !isOurs(got) {
			t.Errorf("%q ends at %q, which node reads as %s", payloads[i], ends[i], got)
		}
	}
	t.Logf("%d payloads, %d of them kept, all end on our hosts", len(payloads), kept)
}

// TestNodeReadsURLsAsTheResolverDoes holds the resolver below, the oracle of the
// other tests, against an implementation of the WHATWG URL standard.
func TestNodeReadsURLsAsTheResolverDoes(t *testing.T) {
	s := returnSite(t)
	payloads := slices.Concat(hostile(t), good(t))
	for i, node := range askNode(t, payloads) {
		onSite, ours := isOurs(node), isOurs(resolve(payloads[i]))
		if onSite != ours {
			t.Errorf("%q: node sees %s, the resolver %s", payloads[i], node, resolve(payloads[i]))
		}
		if s.web.IsReturnURL(payloads[i]) && !onSite {
			t.Errorf("%q is kept, and node reads it as %s", payloads[i], node)
		}
	}
}

// askNode returns the origin that node sees in each payload, "invalid" for what
// it does not read. Without node on PATH the test is skipped, or fails where
// everything must run.
func askNode(t *testing.T, payloads []string) []string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("AUTHPROXY_TEST_REQUIRE") == "1" {
			t.Fatal("node is not on PATH, and AUTHPROXY_TEST_REQUIRE=1")
		}
		t.Skip("node is not on PATH")
	}
	input, err := json.Marshal(payloads)
	if err != nil {
		t.Fatal(err)
	}
	const script = `
		const origin = u => /^(https?|wss?|ftp):$/.test(u.protocol) ? u.protocol + "//" + u.host : "null";
		const read = p => { try { return origin(new URL(p, process.argv[1])) } catch { return "invalid" } };
		console.log(JSON.stringify(JSON.parse(require("fs").readFileSync(0, "utf8")).map(read)))`
	cmd := exec.CommandContext(t.Context(), path, "-e", script, origin+"/auth/callback/one")
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	var origins []string
	if err := json.Unmarshal(out, &origins); err != nil || len(origins) != len(payloads) {
		t.Fatalf("node answered %d origins for %d payloads: %v", len(origins), len(payloads), err)
	}
	return origins
}

func FuzzReturnURL(f *testing.F) {
	s := returnSite(f)
	for _, payload := range slices.Concat(hostile(f), good(f)) {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if !s.web.IsReturnURL(target) {
			return
		}
		if got := resolve(target); !isOurs(got) {
			t.Errorf("%q is kept, which leads to %s", target, got)
		}
		if len(target) > 2048 || strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
			t.Errorf("%q is kept, which is too long or holds what no header should", target)
		}
	})
}

// resolve returns the origin that a browser sees in target when our callback
// redirects to it: as much of the WHATWG URL standard's "basic URL parser" as it
// takes, written apart from the code under test. What has no origin of the web
// is "null".
func resolve(target string) string {
	target = strings.TrimFunc(target, func(r rune) bool { return r <= ' ' })
	target = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(target)
	scheme, rest := "https", target
	if name, after, ok := cutScheme(target); ok {
		defaultPort, special := map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}[name]
		switch {
		case !special:
			return "null"
		case name != "https":
			return name + "://" + authority(strings.TrimLeft(after, `/\`), defaultPort)
		}
		rest = after // "https:x" is relative to an https page
	}
	if trimmed := strings.TrimLeft(rest, `/\`); len(rest)-len(trimmed) >= 2 {
		return scheme + "://" + authority(trimmed, "443")
	}
	return origin
}

// cutScheme cuts a scheme and its colon off, lower-cased.
func cutScheme(s string) (scheme, rest string, ok bool) {
	for i := range len(s) {
		c := s[i] | 0x20
		switch {
		case c >= 'a' && c <= 'z':
		case i > 0 && (s[i] >= '0' && s[i] <= '9' || strings.IndexByte("+-.", s[i]) >= 0):
		case i > 0 && s[i] == ':':
			return strings.ToLower(s[:i]), s[i+1:], true
		default:
			return "", s, false
		}
	}
	return "", s, false
}

// authority returns host and port of what begins with an authority: it ends at a
// slash of either kind, "?" or "#", and the user ends at its last "@".
func authority(s, defaultPort string) string {
	if end := strings.IndexAny(s, `/\?#`); end >= 0 {
		s = s[:end]
	}
	s = s[strings.LastIndexByte(s, '@')+1:]
	name, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		name, port = s[:i], s[i+1:]
	}
	if decoded, err := url.PathUnescape(name); err == nil {
		name = decoded
	}
	name = strings.ToLower(strings.Map(foldHost, name))
	if _, err := strconv.ParseUint(port, 10, 16); port != "" && err != nil || name == "" || strings.ContainsAny(name, "/\\?#@%:\x00 <>^|") && name[0] != '[' {
		return "invalid"
	}
	if port == "" || port == defaultPort {
		return name
	}
	return name + ":" + port
}

// foldHost maps what IDNA (UTS 46) reads as ASCII in a host.
func foldHost(r rune) rune {
	switch {
	case r >= 0xff01 && r <= 0xff5e: // fullwidth forms
		return r - 0xff01 + '!'
	case r == '\u3002', r == '\uff61': // ideographic full stops
		return '.'
	case r == '\u00ad', r == '\u200b', r == '\u2060', r == '\ufeff': // ignored
		return -1
	case r == '\u217d': // small roman numeral one hundred
		return 'c'
	}
	return r
}
