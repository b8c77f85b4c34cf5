package proxy

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// FuzzParseTarget: what an ingress may ask about is what a client could have sent
// to us, byte for byte.
func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"/", "/a?b=c", "//a/b", "/%2e%2e/b", "/%zz", "/a b", "/a#b", "*", "", "http://a/b", "/a\r\nX: y", "/\xff", "/a?b?c#", "/:a", `/\`, "/%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := parseTarget(raw)
		if err != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + raw + " HTTP/1.1\r\nHost: a\r\n\r\n")))
		if err != nil || r.RequestURI != raw || got.String() != raw {
			t.Fatalf("parseTarget(%q) = %q, but as a request it is %v (%v)", raw, got, r, err)
		}
		if decoded, err := url.PathUnescape(got.path); err != nil || decoded != r.URL.Path {
			t.Errorf("parseTarget(%q) has the path %q, the request %q", raw, decoded, r.URL.Path)
		}
	})
}

// FuzzNarrowing: whatever stands beside a demand, it is not lost.
func FuzzNarrowing(f *testing.F) {
	for _, seed := range []string{"", "x=y", "&&", ";", "%", "a=%zz", "allowed_groups=ops", "x;y", "=", "\x00", "+"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		demands := len(parseNarrowing(before)) + len(parseNarrowing(after))
		got := parseNarrowing(before + "&" + narrowGroups + "=ops&" + after)
		if len(got) != demands+1 {
			t.Errorf("%d demands of %q and %q with one between them, want %d", len(got), before, after, demands+1)
		}
	})
}
