package legacyapp_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"authproxy/devidp/legacyapp"
)

// serve answers r and returns the answer with its body.
func serve(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	legacyapp.Handler("/auth").ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

func TestJSON(t *testing.T) {
	tests := []struct {
		name, method, target, body string
		want                       map[string]any
	}{
		{
			"GET has method, path and headers alone", "GET", "/a/../b//c;x?q=1&q=%32#", "",
			map[string]any{"method": "GET", "path": "/a/../b//c;x?q=1&q=%32#"},
		},
		{
			"POST has the length of its body", "POST", "/", "hello",
			map[string]any{"method": "POST", "path": "/", "body_bytes": float64(5)},
		},
		{
			"an empty body has a length too", "DELETE", "/x", "",
			map[string]any{"method": "DELETE", "path": "/x", "body_bytes": float64(0)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "/", strings.NewReader(tt.body))
			r.RequestURI, r.Host = tt.target, "app.example"
			r.Header = http.Header{"Accept": {"application/json"}, "X-User-Id": {"a", "b"}, "X_user_id": {"<forged>"}}
			resp, body := serve(t, r)
			var got map[string]any
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("body %q: %v", body, err)
			}
			tt.want["headers"] = map[string]any{
				"Accept": []any{"application/json"}, "Host": []any{"app.example"},
				"X-User-Id": []any{"a", "b"}, "X_user_id": []any{"<forged>"},
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if !strings.Contains(body, tt.target) {
				t.Errorf("body = %s, want %q readable in it", body, tt.target)
			}
			if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("Content-Type = %q, want application/json", ct)
			}
		})
	}
}

func TestWhoGetsJSON(t *testing.T) {
	tests := []struct {
		name, accept string
		json         bool
	}{
		{"asked for", "application/json", true},
		{"a script's usual header", "application/json, text/plain, */*", true},
		{"with a parameter", "application/json; charset=utf-8", true},
		{"preferred", "application/json, text/html", true},

		{"a browser", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false},
		{"HTML preferred", "text/html, application/json", false},
		{"anything", "*/*", false},
		{"nothing", "", false},
		{"something alike", "application/jsonx", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Accept", tt.accept)
			_, body := serve(t, r)
			if got := json.Valid([]byte(body)); got != tt.json {
				t.Errorf("JSON = %v, want %v", got, tt.json)
			}
		})
	}
}

func TestPage(t *testing.T) {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	jwt := part(`{"alg":"ES256"}`) + "." + part(`{"sub":"42","roles":["admin"]}`) + ".c2ln"
	tests := []struct {
		name   string
		header http.Header
		want   []string
		not    []string
	}{
		{"nobody", nil, []string{"name nobody", `href="/auth/sign-in"`, `href="/public/hello"`, `href="/admin/panel"`, `href="/"`}, []string{"not verified"}},
		{"a name", http.Header{"X-User-Name": {"Alice"}, "X-User-Id": {"42"}}, []string{"<h1>Alice</h1>", "X-User-Id: <code>42</code>"}, nil},
		{"an address when there is no name", http.Header{"X-User-Name": {""}, "X-User-Email": {"a@example.com"}}, []string{"<h1>a@example.com</h1>", "X-User-Id: <code>(empty)</code>"}, nil},
		{"an id when there is nothing else", http.Header{"X-User-Id": {"42"}}, []string{"<h1>42</h1>"}, nil},
		{"a script", http.Header{"X-User-Name": {"<script>alert(1)</script>"}}, []string{"&lt;script&gt;"}, []string{"<script"}},
		{"a JWT", http.Header{"Authorization": {"Bearer " + jwt}}, []string{"not verified here", "&#34;sub&#34;: &#34;42&#34;", "&#34;alg&#34;: &#34;ES256&#34;"}, nil},
		{"an opaque token", http.Header{"Authorization": {"Bearer abc"}}, []string{"not a JWT"}, []string{"not verified"}},
		{"three parts that are no JWT", http.Header{"Authorization": {"Bearer a.b.c"}}, []string{"not a JWT"}, nil},
		{"a JWT with a broken header", http.Header{"Authorization": {"Bearer x" + jwt}}, []string{"not a JWT"}, []string{"not verified"}},
		{"another scheme", http.Header{"Authorization": {"Basic abc"}}, nil, []string{"not a JWT"}},
		{"every header", http.Header{"X-Anything": {"one", "two"}}, []string{"X-Anything", "<div>one</div><div>two</div>", "example.com"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			for name, values := range tt.header {
				r.Header[name] = values
			}
			_, body := serve(t, r)
			for _, want := range tt.want {
				if !strings.Contains(body, want) {
					t.Errorf("the page lacks %q:\n%s", want, body)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(body, not) {
					t.Errorf("the page has %q:\n%s", not, body)
				}
			}
		})
	}
}

func TestIdentityHeadersAreShownApart(t *testing.T) {
	tests := []struct {
		header string
		shown  bool
	}{
		{"X-User-Id", true},
		{"X_User.Groups", true}, // what a forger sends
		{"X-Auth-Request-User", true},
		{"Remote-User", true},
		{"X-Forwarded-Email", true},

		{"X-Forwarded-For", false},
		{"Cookie", false},
	}
	for _, tt := range tests {
		t.Run(tt.header, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header[tt.header] = []string{"x"}
			_, body := serve(t, r)
			times := strings.Count(body, `scope="row">`+tt.header+`<`)
			if want := map[bool]int{true: 2, false: 1}[tt.shown]; times != want {
				t.Errorf("shown %d times, want %d", times, want)
			}
		})
	}
}

func TestPagePolicy(t *testing.T) {
	resp, body := serve(t, httptest.NewRequest("POST", "/admin/panel", strings.NewReader("hello")))
	csp := resp.Header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'; style-src 'nonce-") || strings.Contains(csp, "form-action") {
		t.Errorf("Content-Security-Policy = %q, want default-src 'none', a style nonce and no form-action", csp)
	}
	for _, want := range []string{"body_bytes: <code>5</code>", "POST /admin/panel", "prefers-color-scheme: dark", "width=device-width"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestEvents(t *testing.T) {
	server := httptest.NewServer(legacyapp.Handler("/auth"))
	defer server.Close()
	resp, err := http.Get(server.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("Content-Type = %q, want text/event-stream", ct)
	}
	events := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: ") {
			events++
		}
	}
	if events != 5 {
		t.Errorf("%d events, want 5", events)
	}
}

func TestWebSocketEcho(t *testing.T) {
	server := httptest.NewServer(legacyapp.Handler("/auth"))
	defer server.Close()
	conn, _, err := websocket.Dial(t.Context(), server.URL+"/ws", &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {"https://app.example.com"}}, // the proxy's host, not ours
	})
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer conn.CloseNow()
	for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
		if err := conn.Write(t.Context(), kind, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		gotKind, got, err := conn.Read(t.Context())
		if err != nil || gotKind != kind || string(got) != "hello" {
			t.Errorf("echo = %v %q, %v, want %v hello", gotKind, got, err, kind)
		}
	}
	if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestWebSocketWithoutUpgrade(t *testing.T) {
	if resp, _ := serve(t, httptest.NewRequest("GET", "/ws", nil)); resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("status = %d, want 426", resp.StatusCode)
	}
}

func TestBig(t *testing.T) {
	tests := []struct {
		name, method, query string
		status              int
		length              int64
		read                bool
	}{
		{"none", "GET", "bytes=0", 200, 0, true},
		{"a chunk and a bit", "GET", "bytes=40001", 200, 40001, true},
		{"capped at 1 GiB", "HEAD", "bytes=9999999999", 200, 1 << 30, false},
		{"negative", "GET", "bytes=-1", 400, -1, false},
		{"no number", "GET", "", 400, -1, false},
	}
	server := httptest.NewServer(legacyapp.Handler("/auth"))
	defer server.Close()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := http.NewRequest(tt.method, server.URL+"/big?"+tt.query, nil)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.status || (tt.length >= 0 && resp.ContentLength != tt.length) {
				t.Errorf("status %d, length %d, want %d, %d", resp.StatusCode, resp.ContentLength, tt.status, tt.length)
			}
			if n, err := io.Copy(io.Discard, resp.Body); tt.read && (n != tt.length || err != nil) {
				t.Errorf("%d bytes, %v, want %d", n, err, tt.length)
			}
		})
	}
}

func TestABodyThatEndsEarlyIsNotCounted(t *testing.T) {
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("half"), failing{}))
	if resp, _ := serve(t, r); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status = %d, want 400", resp.StatusCode)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
