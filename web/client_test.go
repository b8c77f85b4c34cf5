package web_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestTheLibraryForBrowsersIsServed(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for name, want := range map[string]struct{ contentType, holds string }{
		"client.js":      {"text/javascript; charset=utf-8", "export default auth"},
		"user-button.js": {"text/javascript; charset=utf-8", "export function show"},
		"client.d.ts":    {"text/plain; charset=utf-8", "export const auth: Auth"},
	} {
		a := b.get("/auth/" + name)
		if a.StatusCode != http.StatusOK || !strings.Contains(a.body, want.holds) {
			t.Errorf("GET /auth/%s = %d %.40q, want 200 and a file that holds %q", name, a.StatusCode, a.body, want.holds)
		}
		for header, value := range map[string]string{
			"Content-Type": want.contentType, "Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff", "Vary": "",
		} {
			if got := a.Header.Get(header); got != value {
				t.Errorf("GET /auth/%s: %s = %q, want %q", name, header, got, value)
			}
		}
		again := b.get("/auth/"+name, "If-None-Match", a.Header.Get("ETag"))
		if again.StatusCode != http.StatusNotModified || again.body != "" {
			t.Errorf("GET /auth/%s with its ETag %q = %d %.40q, want 304", name, a.Header.Get("ETag"), again.StatusCode, again.body)
		}
		if head := b.send(http.MethodHead, "/auth/"+name, ""); head.StatusCode != http.StatusOK || head.ContentLength != int64(len(a.body)) || head.body != "" {
			t.Errorf("HEAD /auth/%s = %d with %d bytes, want 200 and %d", name, head.StatusCode, head.ContentLength, len(a.body))
		}
		if post := b.send(http.MethodPost, "/auth/"+name, ""); post.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST /auth/%s = %d, want 405", name, post.StatusCode)
		}
	}
}

func TestTheLibraryForBrowsersIsSmall(t *testing.T) {
	const limit = 8000 // bytes, as served; that is the promise of docs/client.md
	b := newSite(t, nil).newBrowser(t)
	a := b.get("/auth/client.js", "Accept-Encoding", "identity")
	if len(a.body) >= limit {
		t.Errorf("client.js has %d bytes, want less than %d", len(a.body), limit)
	}
	for _, from := range []string{"http://", "https://", `from "`, "eval(", "innerHTML", "document.cookie", "sessionStorage"} {
		if strings.Contains(a.body, from) {
			t.Errorf("client.js holds %q: it needs nothing from elsewhere, works under a strict policy, and keeps no secret", from)
		}
	}
}
