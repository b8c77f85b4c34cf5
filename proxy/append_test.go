package proxy

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

const appendix = "<script src=\"/auth/x\"></script>"

// asBrowser is the header of a browser that opens a page, with more of it.
func asBrowser(more ...string) http.Header {
	h := http.Header{"Accept": {"text/html"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}, "Accept-Encoding": {"gzip, br"}}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = []string{more[i+1]}
	}
	return h
}

func newAppendingWorld(t *testing.T, upstream http.HandlerFunc) *world {
	return newWorld(t, setup{
		rules: anyone(), upstream: upstream, proxy: func(c *Config) { c.AppendHTML = appendix },
	})
}

func TestWhichAnswersGetAnAppendix(t *testing.T) {
	const text = "<p>page</p>"
	tests := []struct {
		name   string
		ask    ask
		answer string // the status and the header of the upstream
		want   string
	}{
		{"a page", ask{header: asBrowser()}, "200 Content-Type: text/html", text + appendix},
		{"a page with a charset", ask{header: asBrowser()}, `200 Content-Type: text/HTML; charset="UTF-8"`, text + appendix},
		{"an error page", ask{header: asBrowser()}, "404 Content-Type: text/html", text + appendix},
		{"a page of an older browser", ask{header: http.Header{"Accept": {"text/html"}}}, "200 Content-Type: text/html", text + appendix},
		{"a page shown in place", ask{header: asBrowser()}, "200 Content-Type: text/html|Content-Disposition: inline; filename=x", text + appendix},

		{"no page", ask{header: asBrowser()}, "200 Content-Type: text/plain", text},
		{"XHTML, which must stay well-formed", ask{header: asBrowser()}, "200 Content-Type: application/xhtml+xml", text},
		{"no type", ask{header: asBrowser()}, "200 Content-Type: ", text},
		{"a charset that is no ASCII", ask{header: asBrowser()}, "200 Content-Type: text/html; charset=utf-16le", text},
		{"a charset that is unknown", ask{header: asBrowser()}, "200 Content-Type: text/html; charset=x-new", text},
		{"a compressed page", ask{header: asBrowser()}, "200 Content-Type: text/html|Content-Encoding: br", text},
		{"a page to be saved", ask{header: asBrowser()}, "200 Content-Type: text/html|Content-Disposition: ATTACHMENT; filename=x", text},
		{"a page not to be changed", ask{header: asBrowser()}, "200 Content-Type: text/html|Cache-Control: no-cache, No-Transform", text},
		{"a part of a page", ask{header: asBrowser()}, "206 Content-Type: text/html|Content-Range: bytes 0-10/100", text},
		{"a redirect", ask{header: asBrowser()}, "302 Content-Type: text/html|Location: /", text},
		{"a script's request", ask{header: asBrowser("Sec-Fetch-Mode", "cors")}, "200 Content-Type: text/html", text},
		{"a fragment for htmx", ask{header: asBrowser("Hx-Request", "true")}, "200 Content-Type: text/html", text},
		{"a frame", ask{header: asBrowser("Sec-Fetch-Dest", "iframe")}, "200 Content-Type: text/html", text},
		{"a form", ask{method: http.MethodPost, header: asBrowser()}, "200 Content-Type: text/html", text},
		{"a range", ask{header: asBrowser("Range", "bytes=0-3")}, "200 Content-Type: text/html", text},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, chunked := range []bool{false, true} {
				w := newAppendingWorld(t, func(w http.ResponseWriter, _ *http.Request) {
					status, header, _ := strings.Cut(test.answer, " ")
					for line := range strings.SplitSeq(header, "|") {
						name, value, _ := strings.Cut(line, ": ")
						w.Header().Set(name, value)
					}
					var code int
					fmt.Sscan(status, &code)
					w.WriteHeader(code)
					if chunked {
						w.(http.Flusher).Flush()
					}
					io.WriteString(w, text)
				})
				a := w.do(test.ask)
				if a.body != test.want {
					t.Errorf("chunked %v: the body is %q, want %q", chunked, a.body, test.want)
				}
				if want := int64(len(test.want)); !chunked && a.ContentLength != want || chunked && a.ContentLength != -1 {
					t.Errorf("chunked %v: Content-Length = %d, want %d, or none where chunked", chunked, a.ContentLength, want)
				}
			}
		})
	}
}

func TestAnAppendixIsTrueToHTTP(t *testing.T) {
	w := newAppendingWorld(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html")
		h.Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") == `W/"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Accept-Ranges", "bytes")
		h.Set("Repr-Digest", "sha-256=:x:")
		if r.Header.Get("Accept-Encoding") != "identity" {
			h.Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			io.WriteString(zip, "<p>zipped")
			zip.Close()
			return
		}
		h.Set("Content-Length", "7")
		io.WriteString(w, "<p>page")
	})
	whole := w.do(ask{header: asBrowser()})
	if want := "<p>page" + appendix; whole.body != want || whole.Header.Get("Content-Encoding") != "" {
		t.Errorf("body %q in %q, want %q as it is: the upstream is asked not to compress it", whole.body, whole.Header.Get("Content-Encoding"), want)
	}
	head := w.do(ask{method: http.MethodHead, header: asBrowser()})
	if head.StatusCode != http.StatusOK || head.body != "" || head.ContentLength != whole.ContentLength || head.ContentLength != int64(len(whole.body)) {
		t.Errorf("HEAD = %d with %d bytes and body %q, want the %d bytes of GET announced and none sent", head.StatusCode, head.ContentLength, head.body, len(whole.body))
	}
	for name, want := range map[string]string{"Etag": `W/"v1"`, "Accept-Ranges": "", "Repr-Digest": ""} {
		if got := whole.Header.Get(name); got != want {
			t.Errorf("%s = %q, want %q: other bytes than the upstream's", name, got, want)
		}
	}
	same := w.do(ask{header: asBrowser("If-None-Match", whole.Header.Get("Etag"))})
	if same.StatusCode != http.StatusNotModified || same.body != "" {
		t.Errorf("what the browser has already = %d %q, want 304", same.StatusCode, same.body)
	}
	script := w.do(ask{header: http.Header{"Sec-Fetch-Mode": {"cors"}, "Accept-Encoding": {"gzip"}}})
	if script.Header.Get("Content-Encoding") != "gzip" || script.Header.Get("Etag") != `"v1"` {
		t.Errorf("for a script: Content-Encoding %q, ETag %q; want gzip and the upstream's", script.Header.Get("Content-Encoding"), script.Header.Get("Etag"))
	}
}

func TestAPageThatStreamsIsNotHeldUp(t *testing.T) {
	more := make(chan struct{})
	w := newAppendingWorld(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<p>first")
		w.(http.Flusher).Flush()
		if r.URL.RawQuery == "breaks" {
			panic(http.ErrAbortHandler)
		}
		<-more
		io.WriteString(w, "<p>second")
	})
	res, err := w.front.Client().Do(ask{header: asBrowser()}.request(w))
	w.must(err)
	defer res.Body.Close()
	first := make([]byte, len("<p>first"))
	if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "<p>first" {
		t.Fatalf("the first part = %q, %v", first, err)
	}
	close(more)
	if rest, err := io.ReadAll(res.Body); string(rest) != "<p>second"+appendix || err != nil {
		t.Errorf("the rest = %q, %v, want the second part and what is added", rest, err)
	}
	broken, err := w.front.Client().Do(ask{target: "/?breaks", header: asBrowser()}.request(w))
	w.must(err)
	defer broken.Body.Close()
	if rest, err := io.ReadAll(broken.Body); err == nil || strings.Contains(string(rest), appendix) {
		t.Errorf("a page that breaks off = %q, %v, want an error and nothing added", rest, err)
	}
}

func TestAnAppendixReachesWhoIsSignedIn(t *testing.T) {
	w := newWorld(t, setup{upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<p>page")
	}), proxy: func(c *Config) { c.AppendHTML = appendix }})
	header := asBrowser()
	header["Cookie"] = []string{w.signIn(alice())}
	if a := w.do(ask{header: header}); a.body != "<p>page"+appendix {
		t.Errorf("the page of somebody signed in = %q, want what is added at its end", a.body)
	}
}

func TestASmallBufferLosesNothing(t *testing.T) {
	body := &appended{io.NopCloser(strings.NewReader("page")), "more"}
	var got strings.Builder
	for b := make([]byte, 3); ; {
		n, err := body.Read(b)
		got.Write(b[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got.String() != "pagemore" {
		t.Errorf("read %q, want pagemore", got.String())
	}
}
