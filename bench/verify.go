package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// A reply is what a question of an ingress's is answered with.
type reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// replies are what somebody's question is answered with, and nobody's.
type replies struct{ Somebody, Nobody reply }

// measureVerify compares forward auth with a bare net/http handler that gets the
// same questions and has the same answers ready: of somebody with a session, who
// may, and of nobody.
func measureVerify(b *bench, s *scene) error {
	somebody := question(s.ours.address, "Cookie: "+s.session+"\r\n")
	nobody := question(s.ours.address, "")
	var known replies
	var err1, err2 error
	known.Somebody, err1 = s.learn(http.StatusOK, somebody)
	known.Nobody, err2 = s.learn(http.StatusUnauthorized, nobody)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	bare, err := b.replier(ctx, known)
	if err != nil {
		return err
	}
	for _, load := range []struct {
		who, request string
		status       int
	}{{"with a session", somebody, http.StatusOK}, {"without one", nobody, http.StatusUnauthorized}} {
		fmt.Printf("%s, %d: %d rounds of %d questions of %d bytes, %d connections, request log on\n",
			load.who, load.status, b.rounds, b.requests, len(load.request), b.connections)
		bare.micros, s.ours.micros = nil, nil
		err := b.compare(bare, s.ours, "question", func(at *subject, n int) error { return hammer(at.address, load.request, load.status, n) })
		if err != nil {
			return err
		}
	}
	return nil
}

// question is what an ingress asks about a browser's request for data of the
// application at host, in the way of Traefik and Caddy.
func question(host, more string) string {
	return "GET /auth/verify/forward HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\n" +
		"X-Forwarded-Method: GET\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: " + host + "\r\n" +
		"X-Forwarded-Uri: /reports/2026?q=1\r\nX-Forwarded-For: 198.51.100.7\r\n" + more + "\r\n"
}

// learn asks authproxy once, and insists on the status.
func (s *scene) learn(status int, request string) (reply, error) {
	var got reply
	err := exchange(s.ours.address, request, 1, func(res *http.Response) (err error) {
		got = reply{Status: res.StatusCode, Header: res.Header}
		got.Body, err = io.ReadAll(res.Body)
		if res.StatusCode != status {
			return fmt.Errorf("asked about a request, authproxy answers %s, want %d", res.Status, status)
		}
		return err
	})
	delete(got.Header, "Date") // each server writes its own
	return got, err
}

// replier starts a bare handler with the answers ready.
func (b *bench) replier(ctx context.Context, known replies) (*subject, error) {
	text, err := json.Marshal(known)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "replies.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	bare, err := b.child(ctx, "-role", "replies", "-replies", file)
	if err != nil {
		return nil, err
	}
	bare.name = "bare net/http handler"
	return bare, nil
}

// serveReplies is the yardstick of forward auth: a handler that sets the headers
// and writes the body, and decides by nothing but whether there is a cookie.
func serveReplies(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var known replies
	if err := json.Unmarshal(text, &known); err != nil {
		return err
	}
	return serveChild(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &known.Nobody
		if strings.Contains(r.Header.Get("Cookie"), "authproxy_session=") {
			answer = &known.Somebody
		}
		maps.Copy(w.Header(), answer.Header)
		w.WriteHeader(answer.Status)
		w.Write(answer.Body)
	}))
}
