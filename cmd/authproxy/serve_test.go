package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
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
