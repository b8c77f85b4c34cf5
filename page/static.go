package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"time"
)

// An asset is an embedded file that the pages refer to.
type asset struct {
	body        []byte
	contentType string
	hash        string // of the body, short: its version and ETag
}

func loadAssets() (map[string]asset, error) {
	entries, err := files.ReadDir("static")
	if err != nil {
		return nil, fmt.Errorf("page: static files: %w", err)
	}
	assets := make(map[string]asset)
	for _, entry := range entries {
		name := "static/" + entry.Name()
		body, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("page: static files: %w", err)
		}
		sum := sha256.Sum256(body)
		assets["/"+name] = asset{body, contentType(name), hex.EncodeToString(sum[:8])}
	}
	return assets, nil
}

// contentType does not ask package mime, whose answers differ from one machine
// to the next; under nosniff a wrong one means a page without its style.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return "application/octet-stream"
}

// assetURL returns where the pages find an asset. The version makes an upgrade
// visible at once, although browsers keep the file for a day.
func (p *Renderer) assetURL(prefix, name string) string {
	return prefix + name + "?v=" + p.assets[name].hash
}

// Static serves the files that the pages need. It expects the prefix to be
// stripped: the stylesheet is "/static/authproxy.css". These are the only
// answers of this package that a cache may keep. Unknown files are 404.
func (p *Renderer) Static() http.Handler {
	return p.Handler(func(w http.ResponseWriter, r *http.Request) error {
		a, ok := p.assets[r.URL.Path]
		if !ok {
			return &Error{Status: http.StatusNotFound}
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			return &Error{Status: http.StatusMethodNotAllowed}
		}
		h := w.Header()
		SecurityHeaders(h) // an SVG opened by itself is a document
		h.Set("Content-Type", a.contentType)
		h.Set("Cache-Control", "public, max-age=86400")
		h.Set("ETag", `"`+a.hash+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
		return nil
	})
}
