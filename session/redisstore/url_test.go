package redisstore

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestURLsAreRead(t *testing.T) {
	t.Parallel()
	tests := []struct {
		url, options, user, password, master, addresses string
		database                                        int
		tls                                             bool
	}{
		{url: "redis://localhost", addresses: "localhost:6379"},
		{url: "redis://h:1/3", addresses: "h:1", database: 3},
		{url: "redis://u:p%40%2F@h", user: "u", password: "p@/", addresses: "h:6379"},
		{url: "redis://:a,b@h", password: "a,b", addresses: "h:6379"},
		{url: "redis://u:old@h", options: "new", user: "u", password: "new", addresses: "h:6379"},
		{url: "rediss://[fd00::1]:7/", addresses: "[fd00::1]:7", tls: true},
		{url: "rediss://[fd00::1]", addresses: "[fd00::1]:6379", tls: true},
		{url: "redis+sentinel://a,b:5/main/2", master: "main", addresses: "a:26379 b:5", database: 2},
		{url: "rediss+sentinel://:p@a/main", password: "p", master: "main", addresses: "a:26379", tls: true},
		{url: "redis+cluster://a:1,b:2", addresses: "a:1 b:2"},
		{url: "rediss+cluster://a,b/0", addresses: "a:6379 b:6379", tls: true},
	}
	for _, tt := range tests {
		o, err := parseURL(tt.url, &Options{Password: tt.options})
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		if o.Username != tt.user || o.Password != tt.password || o.Sentinel.MasterSet != tt.master ||
			!slices.Equal(o.InitAddress, strings.Fields(tt.addresses)) || o.SelectDB != tt.database || (o.TLSConfig != nil) != tt.tls {
			t.Errorf("%s: user %q, password %q, master %q, addresses %q, database %d, TLS %v; want %+v",
				tt.url, o.Username, o.Password, o.Sentinel.MasterSet, o.InitAddress, o.SelectDB, o.TLSConfig != nil, tt)
		}
		if o.TLSConfig != nil && (o.TLSConfig.InsecureSkipVerify || o.Sentinel.TLSConfig != o.TLSConfig) {
			t.Errorf("%s: certificates are not verified, or not those of Sentinels", tt.url)
		}
	}
}

func TestWrongURLsAreRefusedWithoutTheirSecrets(t *testing.T) {
	t.Parallel()
	noCertificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noCertificate, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, url, want string }{
		{"another scheme", "http://u:s3cret@h", "must begin with redis://"},
		{"no scheme", "u:s3cret@h", "cannot be read"},
		{"no host", "redis://u:s3cret@", "cannot be read"},
		{"no port number", "redis://u:s3cret@h:x", "cannot be read"},
		{"port 0", "redis://u:s3cret@h:0", "cannot be read"},
		{"an unescaped slash in the password", "redis://u:s3/cret@h", "cannot be read"},
		{"an unescaped percent sign", "redis://u:s3cret%zz@h", "cannot be read"},
		{"an unescaped hash", "redis://u:s3#cret@h", "cannot be read"},
		{"several hosts", "redis://u:s3cret@a,b", "redis:// takes one host"},
		{"no number of a database", "redis://u:s3cret@h/x", "number of a database"},
		{"a negative one", "redis://u:s3cret@h/-1", "number of a database"},
		{"Sentinel without a master", "redis+sentinel://u:s3cret@h", "does not name the master"},
		{"a database in a cluster", "redis+cluster://u:s3cret@h/1", "only database 0"},
		{"certificates that are not verified", "rediss://u:s3cret@h?skip_verify=true", "a parameter other than"},
		{"an authority without TLS", "redis://u:s3cret@h?ca_file=x", "begin it with rediss"},
		{"an authority that is not there", "rediss://u:s3cret@h?ca_file=/nonexistent", "ca_file"},
		{"an authority that is none", "rediss://u:s3cret@h?ca_file=" + noCertificate, "no certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Open(t.Context(), tt.url, Options{})
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if text := strings.ReplaceAll(err.Error(), noCertificate, "FILE"); !strings.Contains(text, tt.want) || strings.Contains(text, "s3") || strings.Contains(text, "cret@") {
				t.Errorf("error %q, want one with %q and without the password", text, tt.want)
			}
		})
	}
}

func TestPrefixesThatWouldMixUpKeysAreRefused(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"a:b", "{a}", "a b", "a*", "ä"} {
		if s, err := Open(t.Context(), "redis://h", Options{Prefix: prefix}); err == nil {
			s.Close()
			t.Errorf("prefix %q: no error", prefix)
		}
	}
}
