package policy_test

import (
	"strings"
	"testing"

	"authproxy/policy"
)

func TestHostPatternMatch(t *testing.T) {
	tests := []struct {
		name, pattern, host string
		want                bool
	}{
		{"same", "app.example.com", "app.example.com", true},
		{"other", "app.example.com", "api.example.com", false},
		{"case of the host", "app.example.com", "APP.Example.COM", true},
		{"case of the pattern", "APP.Example.com", "app.example.com", true},
		{"trailing dot of the host", "app.example.com", "app.example.com.", true},
		{"trailing dot of the pattern", "app.example.com.", "app.example.com", true},
		{"trailing dot and port", "app.example.com", "app.example.com.:443", true},
		{"two trailing dots", "app.example.com", "app.example.com..", false},
		{"single label", "localhost", "localhost:4180", true},
		{"underscore", "my_app", "my_app", true},
		{"longer name", "example.com", "example.com.evil.test", false},
		{"suffix", "example.com", "evilexample.com", false},
		{"subdomain", "example.com", "app.example.com", false},

		{"ports do not count", "app.example.com", "app.example.com:8443", true},
		{"empty port is none", "app.example.com", "app.example.com:", true},
		{"listed port", "app.example.com:8443", "app.example.com:8443", true},
		{"other port", "app.example.com:8443", "app.example.com:8444", false},
		{"listed port is missing", "app.example.com:8443", "app.example.com", false},
		{"port zero", "app.example.com", "app.example.com:0", false},
		{"port too high", "app.example.com", "app.example.com:65536", false},
		{"signed port", "app.example.com", "app.example.com:+1", false},
		{"password for a port", "app.example.com", "app.example.com:x@evil.test", false},

		{"wildcard", "*.example.com", "app.example.com", true},
		{"wildcard and case", "*.example.com", "App.Example.com.", true},
		{"wildcard is exactly one label", "*.example.com", "a.b.example.com", false},
		{"wildcard is no empty label", "*.example.com", ".example.com", false},
		{"wildcard is not the domain", "*.example.com", "example.com", false},
		{"wildcard is not a suffix", "*.example.com", "app.evilexample.com", false},
		{"wildcard with port", "*.example.com:8443", "app.example.com:8443", true},
		{"wildcard with other port", "*.example.com:8443", "app.example.com", false},
		{"wildcard over a path", "*.example.com", "evil/.example.com", false},
		{"wildcard over userinfo", "*.example.com", "evil@x.example.com", false},
		{"wildcard over a hash", "*.example.com", "evil#.example.com", false},
		{"wildcard over a percent sign", "*.example.com", "a%00.example.com", false},

		{"IPv4", "127.0.0.1", "127.0.0.1:80", true},
		{"other IPv4", "127.0.0.1", "127.0.0.2", false},
		{"IPv6", "[::1]", "[::1]:80", true},
		{"IPv6 in long form", "[::1]", "[0:0:0:0:0:0:0:1]", true},
		{"IPv6 in upper case", "[2001:db8::a]", "[2001:DB8::A]", true},
		{"other IPv6", "[::1]", "[::2]", false},
		{"IPv6 and port", "[::1]:8443", "[::1]:8443", true},
		{"IPv6 and other port", "[::1]:8443", "[::1]", false},
		{"IPv6 without brackets", "[::1]", "::1", false},
		{"IPv6 without end", "[::1]", "[::1", false},
		{"IPv6 and a name", "[::1]", "[::1]evil.test", false},
		{"IPv6 and a port without its colon", "[::1]", "[::1]x80", false},
		{"IPv6 with a zone", "[fe80::1]", "[fe80::1%eth0]", false},
		{"IPv4 in brackets", "127.0.0.1", "[127.0.0.1]", false},

		{"empty host", "app.example.com", "", false},
		{"space", "app.example.com", " app.example.com", false},
		{"Kelvin sign for k", "kiosk.example.com", "\u212Aiosk.example.com", false},
		{"list", "app.example.com", "app.example.com,evil.test", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.ParseHostPattern(tt.pattern)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Match(tt.host); got != tt.want {
				t.Errorf("%q matches %q: %v, want %v", tt.pattern, tt.host, got, tt.want)
			}
			if got := (policy.Hosts{p}).Contains(tt.host); got != tt.want {
				t.Errorf("Hosts{%q} contains %q: %v, want %v", tt.pattern, tt.host, got, tt.want)
			}
		})
	}
}

func TestParseHostPatternRefuses(t *testing.T) {
	tests := []struct{ name, pattern, want string }{
		{"nothing", "", "empty"},
		{"scheme", "https://app.example.com", "scheme"},
		{"path", "app.example.com/admin", "path"},
		{"userinfo", "user:hunter2@app.example.com", "user name"},
		{"space", "app.example.com api.example.com", "space"},
		{"line feed", "app.example.com\n", "space"},
		{"bare star", "*", "every host"},
		{"star inside", "app.*.example.com", "first label"},
		{"star in a label", "app*.example.com", "first label"},
		{"two stars", "*.*.example.com", "first label"},
		{"empty label", "app..example.com", "not a host name"},
		{"leading dot", ".example.com", "not a host name"},
		{"only a dot", ".", "not a host name"},
		{"star and nothing", "*.", "not a host name"},
		{"long label", strings.Repeat("a", 64) + ".example.com", "not a host name"},
		{"long name", strings.Repeat("a.", 127) + "com", "not a host name"},
		{"empty port", "app.example.com:", "empty port"},
		{"named port", "app.example.com:https", "not a host name"},
		{"port too high", "app.example.com:65536", "not a host name"},
		{"IPv6 without brackets", "::1", "brackets"},
		{"star before IPv6", "*.[::1]", "before an address"},
		{"IPv6 with a zone", "[fe80::1%eth0]", "not a host name"},
		{"IPv4 in brackets", "[127.0.0.1]", "not a host name"},
		{"broken IPv6", "[::g]", "not a host name"},
		{"not ASCII", "bücher.example", "xn--"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.ParseHostPattern(tt.pattern)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("ParseHostPattern(%q) = %v, %v, want an error with %q", tt.pattern, p, err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

func TestHostPatternString(t *testing.T) {
	for pattern, want := range map[string]string{
		"App.Example.com.":     "app.example.com",
		"app.example.com:8443": "app.example.com:8443",
		"*.Example.com:8443":   "*.example.com:8443",
		"[0:0::1]":             "[::1]",
		"[::1]:8443":           "[::1]:8443",
	} {
		p, err := policy.ParseHostPattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.String(); got != want {
			t.Errorf("String of %q = %q, want %q", pattern, got, want)
		}
		if again, err := policy.ParseHostPattern(want); err != nil || again != p {
			t.Errorf("%q parsed = %v, %v, want the same as %q", want, again, err, pattern)
		}
	}
}

func TestZeroHostPatternMatchesNothing(t *testing.T) {
	for _, host := range []string{"", ".", "app.example.com", "[::]", ":80"} {
		if (policy.HostPattern{}).Match(host) || (policy.Hosts{}).Contains(host) || (policy.Hosts{{}}).Contains(host) {
			t.Errorf("the zero value matches %q", host)
		}
	}
}
