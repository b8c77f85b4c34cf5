package policy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authproxy/policy"
)

// needTool returns the path of a program, or skips the test; with
// AUTHPROXY_TEST_REQUIRE=1 it fails.
func needTool(t *testing.T, name string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil && os.Getenv("AUTHPROXY_TEST_REQUIRE") == "1" {
		t.Fatalf("%s is not on PATH, and AUTHPROXY_TEST_REQUIRE=1", name)
	}
	if err != nil {
		t.Skipf("%s is not on PATH", name)
	}
	return program
}

// oddPaths are paths made of what parsers disagree about, the same on each run.
func oddPaths(n int) []string {
	pieces := []string{
		"/", "/", "/", "a", "b", "public", "admin", ".", "..", "...", "%2e", "%2E", "%2f", "%5c", `\`, "%25", "%252e", ";", ";x=y", "%3b", "%3f", "%23", "%00", "%0a", "%20", "%7f", "%c3%a4", "ä",
		"%ff", "%c0%ae", "%", "%4", "%zz", "%41", "~", "%7e", "+", "*", ":", "@", "!", "'", "(", ")", ",", "=", "&", "$", "|", "^", "`", "{", "}", "<", ">", `"`, "[", "]", "%e2%80%ae", "．", "%ef%bc%8e", "%u002e",
	}
	random := rand.New(rand.NewPCG(1, 2))
	var all []string
	for range n {
		var b strings.Builder
		b.WriteByte('/')
		for range 1 + random.IntN(7) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		all = append(all, b.String())
	}
	return all
}

// judgedPaths are those of oddPaths that rules judge with every strictness on,
// with what they judge.
func judgedPaths(t *testing.T, n int) (sent, judged []string) {
	t.Helper()
	for _, p := range oddPaths(n) {
		if got, err := (policy.PathRules{}).Parse(p); err == nil && !got.Loose {
			sent, judged = append(sent, p), append(judged, got.Decoded)
		}
	}
	if len(sent) < n/20 || len(sent) > n-n/20 {
		t.Fatalf("%d of %d paths are judged; the pieces are of no use", len(sent), n)
	}
	return sent, judged
}

// FuzzPathIsReadAsByGo: what rules judge is what net/url makes of the target,
// and what path.Clean leaves alone.
func FuzzPathIsReadAsByGo(f *testing.F) {
	for _, p := range oddPaths(200) {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		if !strings.HasPrefix(sent, "/") {
			return
		}
		got, err := (policy.PathRules{}).Parse(sent)
		if err != nil || got.Loose {
			return
		}
		u, err := url.ParseRequestURI(sent)
		if err != nil {
			t.Fatalf("%q is judged as %q, but net/url says %v", sent, got.Decoded, err)
		}
		if u.Path != got.Decoded || u.RawQuery != "" || u.Host != "" {
			t.Errorf("%q is judged as %q, but net/url makes %q of it", sent, got.Decoded, u.Path)
		}
		clean := path.Clean(got.Decoded)
		if strings.HasSuffix(got.Decoded, "/") && clean != "/" {
			clean += "/"
		}
		if clean != got.Decoded {
			t.Errorf("%q is judged as %q, but path.Clean makes %q of that", sent, got.Decoded, clean)
		}
	})
}

// whatwg prints what a WHATWG URL parser makes of each path on standard input,
// as a browser or a Node server would, decoded once.
const whatwg = `
const paths = JSON.parse(require("fs").readFileSync(0, "utf8"));
const read = (p) => { try { const u = new URL(p, "http://app.example.com"); return u.host + " " + decodeURIComponent(u.pathname) } catch (e) { return "refused" } };
console.log(JSON.stringify(paths.map(read)));
`

func TestPathsAreReadAsByAWHATWGParser(t *testing.T) {
	sent, judged := judgedPaths(t, 20_000)
	input, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), needTool(t, "node"), "-e", whatwg)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v", err)
	}
	var read []string
	if err := json.Unmarshal(out, &read); err != nil || len(read) != len(sent) {
		t.Fatalf("node printed %d readings of %d: %v", len(read), len(sent), err)
	}
	for i, p := range sent {
		if want := "app.example.com " + judged[i]; read[i] != want {
			t.Errorf("%q is judged as %q, but a WHATWG parser makes %q of it", p, judged[i], read[i])
		}
	}
}

func TestPathsAreReadAsByNginx(t *testing.T) {
	sent, judged := judgedPaths(t, 20_000)
	conn := startNginx(t)
	in := bufio.NewReader(conn)
	for i, p := range sent {
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: app.example.com\r\n\r\n", p); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%q: %v", p, err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusOK || string(body) != judged[i] {
			t.Errorf("%q is judged as %q, but nginx makes %q of it (%s)", p, judged[i], body, answer.Status)
		}
		if answer.Close {
			t.Fatalf("nginx closes the connection after %q", p)
		}
	}
}

// startNginx starts an nginx that answers with its $uri, and connects to it.
func startNginx(t *testing.T) net.Conn {
	t.Helper()
	program, dir := needTool(t, "nginx"), t.TempDir()
	socket := filepath.Join(dir, "s")
	file := filepath.Join(dir, "nginx.conf")
	config := "daemon off; master_process off; pid " + dir + "/pid; error_log stderr crit; events {}\n" +
		"http { access_log off; client_body_temp_path " + dir + "; proxy_temp_path " + dir + "; fastcgi_temp_path " + dir + "; uwsgi_temp_path " + dir + "; scgi_temp_path " + dir + ";\n" +
		"keepalive_requests 1000000; server { listen unix:" + socket + "; location / { default_type text/plain; return 200 $uri; } } }\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(program, "-p", dir, "-c", file)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // killed, so that its error says nothing
	})
	for end := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		if time.Now().After(end) {
			t.Fatalf("nginx does not answer: %v\n%s", err, &stderr)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
