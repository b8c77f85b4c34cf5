package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runNode runs a script of Node in the folder node and returns what it prints.
func runNode(t *testing.T, script string, args ...string) string {
	t.Helper()
	node := need(t, "node")
	needModules(t)
	cmd := exec.Command(node, append([]string{script}, args...)...)
	cmd.Dir = "node"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s%s", script, err, out, stderr.String())
	}
	return string(out)
}

func TestTheDeclarationsFitAProgramThatUsesAllOfThem(t *testing.T) {
	slow(t)
	t.Parallel()
	runNode(t, "node_modules/typescript/bin/tsc", "--project", ".")
}

// A server that renders pages imports what the browser runs.
func TestTheLibraryCanBeImportedOutsideABrowser(t *testing.T) {
	t.Parallel()
	library, err := os.ReadFile("../web/client/client.js")
	if err != nil {
		t.Fatal(err)
	}
	script := writeFile(t, "client.mjs", string(library)+`
auth.start({refetchInterval: 1, keepAlive: 1});
const {data, error} = await auth.getSession();
console.log(auth.session.get().status, auth.session.value.data, data.user, error, typeof window);
`)
	if got, want := runNode(t, script), "loading null null null undefined\n"; got != want {
		t.Errorf("it prints %q, want %q", got, want)
	}
}

// bundleRecipe writes an entry that uses the recipe for React of docs/client.md
// and returns it as a bundle.
func bundleRecipe(t *testing.T, entry string, flags ...string) string {
	t.Helper()
	docs, err := os.ReadFile("../docs/client.md")
	if err != nil {
		t.Fatal(err)
	}
	_, recipe, there := strings.Cut(string(docs), "\n```jsx\n")
	recipe, _, ends := strings.Cut(recipe, "\n```\n")
	if !there || !ends {
		t.Fatal("docs/client.md has no recipe for React")
	}
	file := writeFile(t, "entry.jsx", entry)
	dir := filepath.Dir(file)
	if err := os.WriteFile(filepath.Join(dir, "recipe.jsx"), []byte(recipe), 0o600); err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(dir, "bundle.js")
	runNode(t, "bundle.mjs", append([]string{file, bundle}, flags...)...)
	return bundle
}

func TestTheRecipeForReactIsRenderedByAServer(t *testing.T) {
	t.Parallel()
	bundle := bundleRecipe(t, `
import {renderToString} from "react-dom/server";
import {AuthProvider, Greeting} from "./recipe.jsx";
console.log(renderToString(<AuthProvider><Greeting/></AuthProvider>));
`, "node")
	if got, want := runNode(t, bundle), "<p>Loading…</p>\n"; got != want {
		t.Errorf("it renders %q, want %q", got, want)
	}
}

const recipePage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A page</title>
<script type="module" src="/auth/client.js"></script><script type="module" src="/public/bundle.js"></script></head>
<body><main></main></body></html>`

func TestTheRecipeForReactShowsWhoIsSignedIn(t *testing.T) {
	slow(t)
	t.Parallel()
	first := openBrowser(t)
	bundle := bundleRecipe(t, `
import {createRoot} from "react-dom/client";
import {AuthProvider, Greeting} from "./recipe.jsx";
createRoot(document.querySelector("main")).render(<AuthProvider><Greeting/></AuthProvider>);
`, "browser")
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/public/bundle.js" {
			w.Header().Set("Content-Type", "text/javascript")
			http.ServeFile(w, r, bundle)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'")
		fmt.Fprint(w, recipePage)
	}))
	t.Cleanup(app.Close)
	s := newSetup(t)
	s.upstream = app.URL
	startAuthproxy(t, s, "")
	second := first.another()
	for _, tab := range []*tab{first, second} {
		tab.open(s.base + "/public/page")
		tab.reads("Sign in")
	}
	first.click("Sign in")
	first.click("Alice Adams")
	for _, tab := range []*tab{first, second} {
		tab.reads("Hello Alice Adams. Sign out")
	}
	second.click("Sign out")
	first.reads("Sign in")
}

// reads waits until the page shows text and nothing else.
func (b *tab) reads(text string) {
	b.t.Helper()
	eventually(b.t, stepLimit, func() error {
		if got := strings.TrimSpace(b.text()); got != text {
			return fmt.Errorf("the page shows %q, want %q", got, text)
		}
		return nil
	})
}
