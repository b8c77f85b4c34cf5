package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A block is a fenced block of a Markdown file.
type block struct{ file, language, text string }

// blocks returns the fenced blocks of the README and of docs.
func blocks(t *testing.T, language string) []block {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	var out []block
	for _, file := range append(files, "../../README.md") {
		if filepath.Base(file) == "configuration.md" {
			continue // generated, and tested where it is made
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
			if m[1] == language {
				out = append(out, block{filepath.Base(file), m[1], m[2]})
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("no %s blocks found", language)
	}
	return out
}

// etc makes the files that the examples name and returns their folder.
func etc(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"app.example.com"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	robot, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	robotDER, err := x509.MarshalPKCS8PrivateKey(robot)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "robot@p.iam.example",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: robotDER})),
	})
	if err != nil {
		t.Fatal(err)
	}
	key := runOK(t, "keys", "new")
	for name, text := range map[string]string{
		"keys": key, "keys.txt": key, "client_secret": "s3cret\n", "client_secret.txt": "s3cret\n",
		"tls.crt": certPEM, "tls.key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "ca.pem": certPEM, "google.json": string(account),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// runOK runs the program, which must succeed, and returns what it printed.
func runOK(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := run(context.Background(), environment{args: args, stdout: &stdout, stderr: &stderr}); status != 0 {
		t.Fatalf("authproxy %s: status %d\n%s", strings.Join(args, " "), status, stderr.String())
	}
	return stdout.String()
}

// base completes an example that shows a part of a configuration.
func base(dir string) map[string]string {
	return map[string]string{
		"public_url": "https://app.example.com",
		"upstream":   "http://127.0.0.1:8080",
		"providers":  `[{id: corp, type: oidc, issuer: "https://id.example.com", client_id: authproxy}]`,
		"cookie":     "{keys_file: " + dir + "/keys}",
	}
}

// completed writes the example, with what it leaves out, to a file in dir.
func completed(t *testing.T, dir string, b block) (file string) {
	t.Helper()
	text := strings.ReplaceAll(b.text, "/etc/authproxy/", dir+"/")
	have := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+):`).FindAllStringSubmatch(text, -1) {
		have[m[1]] = true
	}
	for name, value := range base(dir) {
		if !have[name] {
			text += name + ": " + value + "\n"
		}
	}
	file = filepath.Join(dir, "authproxy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestExampleConfigurationsAreRight(t *testing.T) {
	for _, b := range blocks(t, "yaml") {
		t.Run(b.file, func(t *testing.T) {
			runOK(t, "check", "--offline", "--config", completed(t, etc(t), b))
		})
	}
}

// TestTheExplanationOnThePageIsWhatIsPrinted for the first rules of that page.
func TestTheExplanationOnThePageIsWhatIsPrinted(t *testing.T) {
	first := func(language string) block {
		bs := blocks(t, language)
		return bs[slices.IndexFunc(bs, func(b block) bool { return b.file == "rules.md" })]
	}
	rules, command, want := first("yaml"), first("sh"), first("text")
	dir := etc(t)
	completed(t, dir, rules)
	t.Chdir(dir)
	var stdout, stderr bytes.Buffer
	args := strings.Fields(strings.TrimPrefix(command.text, "authproxy "))
	if status := run(context.Background(), environment{args: args, stdout: &stdout, stderr: &stderr}); status != statusDeny {
		t.Errorf("status %d, want %d\n%s", status, statusDeny, stderr.String())
	}
	if diff := cmp.Diff(want.text, stdout.String()); diff != "" {
		t.Errorf("output (-page +printed):\n%s", diff)
	}
}

func TestExampleCommandsAreRight(t *testing.T) {
	commands := blocks(t, "sh")
	t.Chdir(etc(t))
	ran := 0
	for _, b := range commands {
		for line := range strings.Lines(b.text) {
			args, ok := strings.CutPrefix(strings.TrimSpace(line), "authproxy ")
			if !ok || strings.HasPrefix(args, "explain ") {
				continue // that one has a test of its own
			}
			ran++
			args, _, _ = strings.Cut(args, " > ")
			fields := strings.Fields(args)
			if strings.HasPrefix(fields[0], "--") {
				fields = append([]string{"check", "--offline"}, fields...)
			}
			runOK(t, fields...)
		}
	}
	if ran < 2 {
		t.Errorf("%d commands were found in the documentation, want the README's at least", ran)
	}
}
