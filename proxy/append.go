package proxy

import (
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"authproxy/page"
)

// takesAppendix says whether the answer to a request may get [Config.AppendHTML]:
// it fills a window of its own with a whole page.
func (p *Proxy) takesAppendix(o *original) bool {
	return p.AppendHTML != "" && page.Navigation(o.method, o.header) && !isFramed(o.header) && len(o.header["Range"]) == 0
}

// appendHTML adds [Config.AppendHTML] to a page. At its end that needs no look at
// what comes before, which streams through as ever, and its new length is known.
// What follows </html> is part of the page for every browser (HTML, section
// 13.2.6.4.19, "after body").
func (p *Proxy) appendHTML(res *http.Response, o *original) {
	if !p.takesAppendix(o) || !isWholePage(res) {
		return
	}
	h := res.Header
	if res.ContentLength >= 0 && len(h["Content-Length"]) > 0 {
		res.ContentLength += int64(len(p.AppendHTML))
		h.Set("Content-Length", strconv.FormatInt(res.ContentLength, 10))
	}
	if etag := h.Get("Etag"); etag != "" && !strings.HasPrefix(etag, "W/") {
		h.Set("Etag", "W/"+etag) // the same page, in other bytes (RFC 9110, section 8.8.1)
	}
	for _, name := range []string{"Accept-Ranges", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest"} {
		h.Del(name) // these speak of the upstream's bytes
	}
	if res.Request.Method != http.MethodHead {
		res.Body = &appended{ReadCloser: res.Body, rest: p.AppendHTML}
	}
}

// isWholePage says whether an answer is a page of HTML to which ASCII can be
// added. When in doubt, it is not.
func isWholePage(res *http.Response) bool {
	h := res.Header
	media, params, err := mime.ParseMediaType(strings.Join(h["Content-Type"], ","))
	if err != nil || media != "text/html" || !extendsASCII(params["charset"]) {
		return false
	}
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return false
	}
	disposition, _, _ := strings.Cut(h.Get("Content-Disposition"), ";")
	if disposition != "" && !strings.EqualFold(strings.TrimSpace(disposition), "inline") {
		return false // a file to be saved
	}
	if strings.Contains(strings.ToLower(strings.Join(h["Cache-Control"], ",")), "no-transform") {
		return false
	}
	return res.StatusCode == http.StatusOK || res.StatusCode >= 400
}

// extendsASCII says whether ASCII means itself in a charset.
func extendsASCII(charset string) bool {
	charset = strings.ToLower(charset)
	return charset == "" || charset == "utf-8" || charset == "us-ascii" ||
		strings.HasPrefix(charset, "iso-8859-") || strings.HasPrefix(charset, "windows-125")
}

// appended is a body with more after its end. One that breaks gets no more.
type appended struct {
	io.ReadCloser
	rest string
}

func (a *appended) Read(b []byte) (int, error) {
	n, err := a.ReadCloser.Read(b)
	if err != io.EOF {
		return n, err
	}
	added := copy(b[n:], a.rest)
	if a.rest = a.rest[added:]; a.rest != "" {
		err = nil // the body says it again
	}
	return n + added, err
}
