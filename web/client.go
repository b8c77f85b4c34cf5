package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strings"
	"time"

	"authproxy/page"
)

// clientFiles are the library for browsers.
//
//go:embed client
var clientFiles embed.FS

// clientTypes maps the files of the library to their content types. Nobody runs
// the declarations, and no media type is registered for them.
func clientTypes() map[string]string {
	const script = "text/javascript; charset=utf-8"
	return map[string]string{"client.js": script, "user-button.js": script, "client.d.ts": "text/plain; charset=utf-8"}
}

// ClientTag returns the element that loads client.js into a page of an
// application that does not know of it: the page loads anew when its session has
// ended.
func ClientTag(prefix string) string {
	return "\n<script type=\"module\" src=\"" + html.EscapeString(prefix) + "/client.js?reload\"></script>\n"
}

// clientFile returns what serves a file of the library. It is the same for
// everybody and names nobody, so that caches may keep it; for five minutes, to
// let the two scripts change together.
func clientFile(name, contentType string) (page.HandlerFunc, error) {
	body, err := clientFiles.ReadFile("client/" + name)
	if err != nil {
		return nil, fmt.Errorf("web: the library for browsers: %w", err)
	}
	if strings.HasSuffix(name, ".js") { // comments are for whoever reads the source
		body = regexp.MustCompile(`(?m)^\t*//.*\n`).ReplaceAll(body, nil)
	}
	sum := sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	return func(w http.ResponseWriter, r *http.Request) error {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("ETag", etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		return nil
	}, nil
}
