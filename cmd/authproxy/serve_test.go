package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A connection that a client goes on using until it is closed takes a request with
// it that comes at that moment.
func TestWhileAServerDrainsConnectionsEndWithAnAnswer(t *testing.T) {
	for _, tt := range []struct {
		name     string
		http2    bool
		draining bool
		conns    int
	}{
		{"HTTP/1.1", false, false, 1},
		{"HTTP/1.1, draining", false, true, 3},
		{"HTTP/2", true, false, 1},
		{"HTTP/2, draining", true, true, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, seen := &status{}, map[string]bool{}
			server := httptest.NewUnstartedServer(status.leaving(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				seen[r.RemoteAddr] = true
			})))
			server.EnableHTTP2 = tt.http2
			server.StartTLS()
			defer server.Close()
			status.draining.Store(tt.draining)
			for range 3 {
				res, err := server.Client().Post(server.URL, "text/plain", nil)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			if len(seen) != tt.conns {
				t.Errorf("three requests came over %d connections, want %d", len(seen), tt.conns)
			}
		})
	}
}

func TestWhileAServerDrainsAnUpgradeIsAnUpgrade(t *testing.T) {
	status, w := &status{}, httptest.NewRecorder()
	status.draining.Store(true)
	r := httptest.NewRequest(http.MethodGet, "/ws", nil)
	r.Header.Set("Upgrade", "websocket")
	status.leaving(http.NotFoundHandler()).ServeHTTP(w, r)
	if got := w.Header().Get("Connection"); got != "" {
		t.Errorf("Connection = %q, want none of ours", got)
	}
}
