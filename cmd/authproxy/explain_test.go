package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"authproxy/policy"
	"authproxy/policy/policytest"
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

func writeTestFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

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
	writeTestFile(t, file, explainConfig)
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

// The command is held to the rules: its status and the rule that it names are those
// of the decision, in every eighth row of the matrix.
func TestTheStatusOfExplainIsTheDecision(t *testing.T) {
	m := policytest.Load(t)
	rows := 0
	for _, set := range m.Sets {
		file := filepath.Join(t.TempDir(), "authproxy.yaml")
		writeTestFile(t, file, matrixConfig(t, m, set))
		for i, c := range set.Cases {
			if i%8 != 0 || !c.Client.IsValid() {
				continue
			}
			rows++
			args := []string{"explain", "--config", file, "--method", c.Method, "--url", "https://" + c.Host + c.Path, "--client", c.Client.String()}
			if c.Preflight != "" {
				args = append(args, "--header", "Origin: https://a.example", "--header", "Access-Control-Request-Method: "+c.Preflight)
			}
			if p := m.Principal(c); p != nil {
				args = append(args, "--claims", writePrincipal(t, m, p))
			}
			var stdout, stderr bytes.Buffer
			status := run(context.Background(), environment{args: args, stdout: &stdout, stderr: &stderr})
			want := map[string]int{"allow": 0, "sign_in": statusSignIn, "deny": statusDeny, "step_up": statusStepUp, policytest.Refused: statusDeny}[c.Outcome]
			said := c.Outcome != policytest.Refused && strings.Contains(stdout.String(), "\n"+c.Outcome+": ") || c.Outcome == policytest.Refused && strings.Contains(stdout.String(), "\ndenied before")
			if status != want || !said || c.Rule != "" && !strings.Contains(stdout.String(), "decides:     "+c.Rule+"\n") {
				t.Errorf("%s, %v: status %d, want %d for %s by %q\n%s%s", set.Name, c, status, want, c.Outcome, c.Rule, &stdout, &stderr)
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d rows, want 20 at least", rows)
	}
}

// matrixConfig is a configuration with the rules of set, for which all hosts of its
// requests are ours.
func matrixConfig(t *testing.T, m *policytest.Matrix, set policytest.Set) string {
	t.Helper()
	claims, hosts := map[string]string{}, map[string]bool{}
	for _, p := range m.Users {
		for name := range p.Claims {
			claims[name] = "id_token." + name
		}
	}
	for _, c := range set.Cases {
		hosts[c.Host] = true
	}
	for _, r := range set.Rules {
		if r.Host != "" {
			hosts[r.Host] = true
		}
	}
	text := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw) // is YAML, too
	}
	roles := map[string]map[string][]string{}
	for role, members := range m.Roles {
		roles[role] = map[string][]string{}
		for list, values := range map[string][]string{"emails": members.Emails, "domains": members.Domains, "groups": members.Groups} {
			if len(values) > 0 {
				roles[role][list] = values
			}
		}
	}
	return fmt.Sprintf(`public_url: https://app.example.com
upstream: http://127.0.0.1:8080
hosts: %s
paths: {allow: %s}
providers: [{id: corp, type: oidc, issuer: "http://127.0.0.1:9", client_id: x}]
sign_in: {allowed_domains: ["*"]}
identity: {claims: %s, roles: %s}
rules:
%s`, text(slices.Sorted(maps.Keys(hosts))), text(append([]string{}, set.Allow...)), text(claims), text(roles), set.YAML)
}

// writePrincipal returns a file for --claims that says who p is.
func writePrincipal(t *testing.T, m *policytest.Matrix, p *policy.Principal) string {
	t.Helper()
	at := int64(0) // nobody knows when: long ago is as good
	if !p.AuthTime.IsZero() {
		at = time.Now().Add(p.AuthTime.Sub(m.Now)).Unix()
	}
	raw, err := json.Marshal(map[string]any{
		"id": p.ID, "email": p.Email, "email_verified": p.Email != "", "name": p.Name, "provider": cmp.Or(p.Provider, "corp"),
		"groups": p.Groups, "claims": p.Claims, "acr": p.ACR, "amr": p.AMR, "auth_time": at,
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "claims.json")
	writeTestFile(t, file, string(raw))
	return file
}
