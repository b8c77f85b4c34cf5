package main

import (
	"bytes"
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"authproxy/session"
)

const explainConfig = `public_url: https://app.example.com
upstream: http://127.0.0.1:8080
providers: [{id: corp, type: oidc, issuer: "http://127.0.0.1:9", client_id: x}]
cookie: {keys: [AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=]}
identity: {roles: {admin: {emails: [root@example.com]}}}
rules:
  - {name: admins, path: /admin/**, require: {roles: [admin]}}
`

// startedSession returns the Cookie header of a new session of u.
func startedSession(t *testing.T, file string, u session.User) string {
	t.Helper()
	cfg, _, err := load(environment{args: []string{"--config", file}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := build(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	rec := httptest.NewRecorder()
	if _, err := a.sessions.Start(rec, httptest.NewRequest("GET", "/", nil), &session.Session{User: u}); err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for _, c := range rec.Result().Cookies() {
		if c.MaxAge > 0 {
			pairs = append(pairs, c.Name+"="+c.Value)
		}
	}
	return strings.Join(pairs, "; ")
}

func TestExplainOpensACookieAndShowsNothingOfIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "authproxy.yaml")
	if err := os.WriteFile(file, []byte(explainConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	header := startedSession(t, file, session.User{
		ID: "u1", Provider: "corp", Issuer: "http://127.0.0.1:9", Subject: "1", Email: "root@example.com", EmailVerified: true,
	})
	_, value, _ := strings.Cut(header, "=")
	for name, input := range map[string]string{"header": "Cookie: " + header + "\n", "pairs": "theme=dark; " + header, "value": value + "\n"} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run(context.Background(), environment{
				args:  []string{"explain", "--config", file, "--url", "https://app.example.com/admin/", "--cookie", "-"},
				stdin: strings.NewReader(input), stdout: &stdout, stderr: &stderr,
			})
			shown := stdout.String() + stderr.String()
			if status != 0 || !strings.Contains(shown, "sent by root@example.com, with the roles admin") {
				t.Errorf("status %d\n%s\nwant 0 and root@example.com", status, shown)
			}
			if strings.Contains(shown, value) || strings.Contains(shown, value[:20]) {
				t.Errorf("the cookie is shown:\n%s", shown)
			}
		})
	}
}
