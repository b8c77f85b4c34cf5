package proxy

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestClientIP(t *testing.T) {
	trusted := TrustedProxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	tests := []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"no header", "10.0.0.1:1", nil, "10.0.0.1"},
		{"an untrusted peer's word does not count", "203.0.113.9:1", []string{"198.51.100.1"}, "203.0.113.9"},
		{"a trusted peer's does", "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"what the client wrote stands left", "10.0.0.1:1", []string{"1.1.1.1, 127.0.0.1, 198.51.100.1"}, "198.51.100.1"},
		{"through two trusted proxies", "10.0.0.1:1", []string{"1.1.1.1, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		{"a client that claims to be a trusted proxy", "10.0.0.1:1", []string{"10.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"trusted to the end", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"several headers are one list", "10.0.0.1:1", []string{"1.1.1.1", "198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"IPv6", "[2001:db8:1::5]:1", []string{"2001:db8:2::7"}, "2001:db8:2::7"},
		{"an IPv4 peer in IPv6 clothes", "[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"garbage ends the walk", "10.0.0.1:1", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		{"garbage behind a trusted hop", "10.0.0.1:1", []string{"198.51.100.1, <script>, 10.0.0.2"}, "10.0.0.2"},
		{"an address with a port is none", "10.0.0.1:1", []string{"198.51.100.1:80"}, "10.0.0.1"},
		{"an address with a zone is none", "10.0.0.1:1", []string{"fe80::1%evil"}, "10.0.0.1"},
		{"an empty header", "10.0.0.1:1", []string{""}, "10.0.0.1"},
		{"an empty entry", "10.0.0.1:1", []string{"198.51.100.1, "}, "10.0.0.1"},
		{"blanks do not count", "10.0.0.1:1", []string{" 1.1.1.1 ,\t198.51.100.1 "}, "198.51.100.1"},
		{"a peer without an address", "@", []string{"198.51.100.1"}, "invalid IP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{}}
			if tt.forwarded != nil {
				r.Header["X-Forwarded-For"] = tt.forwarded
			}
			if got := trusted.ClientIP(r).String(); got != tt.want {
				t.Errorf("ClientIP = %s, want %s", got, tt.want)
			}
		})
	}
}

// TestNobodyIsTrustedUnlessNamed: an empty list must not mean everybody
// (CVE-2026-76835).
func TestNobodyIsTrustedUnlessNamed(t *testing.T) {
	for _, peer := range []string{"127.0.0.1:1", "10.0.0.1:1", "[::1]:1", "@", ""} {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {"198.51.100.1"}}}
		var nobody TrustedProxies
		if nobody.Trusts(r) || nobody.ClientIP(r) == netip.MustParseAddr("198.51.100.1") {
			t.Errorf("peer %q is trusted, want nobody", peer)
		}
	}
}

// Only a trusted proxy says where a browser wanted to go, and only once.
func TestOriginalURL(t *testing.T) {
	trusted := TrustedProxies{netip.MustParsePrefix("192.0.2.0/24")}
	const wanted = "https://app.example.com/a?b=c&d"
	tests := []struct {
		name, from string
		values     []string
		host       string
		target     string
	}{
		{"from a trusted proxy", "192.0.2.1:4000", []string{wanted}, "app.example.com", "/a?b=c&d"},
		{"from anybody else", "198.51.100.1:4000", []string{wanted}, "", ""},
		{"none", "192.0.2.1:4000", nil, "", ""},
		{"two", "192.0.2.1:4000", []string{wanted, wanted}, "", ""},
		{"one that cannot be read", "192.0.2.1:4000", []string{"/a"}, "", ""},
	}
	for _, tt := range tests {
		r := &http.Request{RemoteAddr: tt.from, Header: http.Header{"X-Original-Url": tt.values}}
		host, target, ok := trusted.OriginalURL(r)
		if ok != (tt.host != "") || ok && (host != tt.host || target != tt.target) {
			t.Errorf("%s: %q, %q, %v, want %q, %q", tt.name, host, target, ok, tt.host, tt.target)
		}
	}
}
