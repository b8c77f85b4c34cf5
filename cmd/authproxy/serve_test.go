package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"authproxy/config"
)

// TestUploadsThatNobodyReadsHoldUpNoOther that comes through the same connection:
// over HTTP/2 that of a balancer serves all people.
func TestUploadsThatNobodyReadsHoldUpNoOther(t *testing.T) {
	const stuck = 32
	release := make(chan struct{})
	var arrived, ended sync.WaitGroup
	arrived.Add(stuck)
	a := &app{config: &config.Config{}, log: slog.New(slog.DiscardHandler)}
	server := a.server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stuck" {
			arrived.Done()
			<-release
			return
		}
		io.Copy(w, r.Body)
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	defer server.Close()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	upload := func(patience time.Duration, path, body string) string {
		client := &http.Client{Transport: transport, Timeout: patience}
		res, err := client.Post("http://"+l.Addr().String()+path, "text/plain", strings.NewReader(body))
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		got, _ := io.ReadAll(res.Body) // half of it is not what is wanted
		return string(got)
	}
	for range stuck {
		ended.Go(func() { upload(0, "/stuck", strings.Repeat("0", 1<<20)) })
	}
	arrived.Wait()
	want := strings.Repeat("1", 1<<20)
	if got := upload(20*time.Second, "/", want); got != want {
		t.Errorf("the other upload was answered with %d bytes that begin with %.99q, want all of it back", len(got), got)
	}
	close(release)
	ended.Wait()
}

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
