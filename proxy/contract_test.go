package proxy

import (
	"net/http"
	"strings"
	"testing"
)

// Traefik and Envoy do not run here, so these are their requests as they come
// over the wire: Traefik's as it was recorded, Envoy's as its documentation has
// them. {cookie} is somebody's.

const (
	// With trustForwardHeader: false: its own X-Forwarded-*, and whatever else the
	// client sent.
	traefikAsks = "GET /auth/verify/forward HTTP/1.1\r\nHost: authproxy:4180\r\nUser-Agent: Mozilla/5.0\r\n" +
		"Accept: {accept}\r\nAccept-Encoding: gzip\r\n{cookie}" +
		"Forwarded: for=10.0.0.1;host=evil.example\r\nX-Original-Method: GET\r\nX-Original-Url: https://app.example.com/public/x\r\n" +
		"X-Auth-Request-Redirect: /public/x\r\nX-User-Id: root\r\nX_user_id: root\r\n" +
		"X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Host: app.example.com\r\nX-Forwarded-Method: {method}\r\nX-Forwarded-Port: 443\r\n" +
		"X-Forwarded-Proto: {proto}\r\nX-Forwarded-Uri: {target}\r\nConnection: close\r\n\r\n"

	// Of the client's headers those that are allowed to it; Content-Length is 0.
	envoyAsks = "{method} /auth/verify/envoy{target} HTTP/1.1\r\nhost: app.example.com\r\ncontent-length: 0\r\n" +
		"accept: {accept}\r\n{cookie}x-forwarded-proto: {proto}\r\nx-forwarded-for: 198.51.100.7\r\n" +
		"x-envoy-internal: true\r\nx-envoy-expected-rq-timeout-ms: 2000\r\nConnection: close\r\n\r\n"
)

// TestTheRequestsOfTraefikAndEnvoyAreAnswered as these need it.
func TestTheRequestsOfTraefikAndEnvoyAreAnswered(t *testing.T) {
	w := newWorld(t, loopbackTrusted(adminsBelowAdmin()))
	const html, any = "text/html,application/xhtml+xml", "*/*"
	tests := []struct {
		name, method, target, proto, accept, who string
		status                                   string
		has                                      []string // lines of the answer
	}{
		{"a page of nobody", "GET", "/app/x?a=1&b=%2F", "https", html, "", "302", []string{"Location: https://app.example.com/auth/sign-in?rd=%2Fapp%2Fx%3Fa%3D1%26b%3D%252F", "Cache-Control: no-store"}},
		{"a script of nobody", "GET", "/app/x", "https", any, "", "401", []string{"Www-Authenticate: Bearer", `"sign_in":"https://app.example.com/auth/sign-in?rd=%2Fapp%2Fx"`}},
		{"a form of nobody", "POST", "/app/x", "https", html, "", "401", nil},
		{"somebody", "GET", "/app/x", "https", html, "bob", "200", []string{"X-User-Email: bob@example.com", "Authorization: Bearer ey", "X-User-Roles: \r\n", "Content-Length: 0", "X-Accel-Expires: 0"}},
		{"somebody's WebSocket", "GET", "/app/ws", "wss", any, "bob", "200", nil},
		{"somebody posts", "POST", "/app/x", "https", html, "bob", "200", nil},
		{"somebody with a method of WebDAV", "PROPFIND", "/app/x", "https", any, "bob", "403", []string{`"error":"forbidden"`}},
		{"somebody without the role", "GET", "/admin/x", "https", html, "bob", "403", []string{"text/html", "bob@example.com"}},
		{"a public page", "GET", "/public/x", "https", html, "", "200", []string{"X-User-Id: \r\n", "Authorization: \r\n"}},
		{"a path that Go would clean", "GET", "/public//../admin/x", "https", html, "bob", "403", nil},
		{"a path with dots", "GET", "/public/../admin/x", "https", html, "bob", "403", nil},
	}
	for _, tt := range tests {
		for ingress, request := range map[string]string{"Traefik": traefikAsks, "Envoy": envoyAsks} {
			t.Run(ingress+", "+tt.name, func(t *testing.T) {
				cookie := ""
				if tt.who != "" {
					cookie = "Cookie: theme=dark; " + w.signIn(bob()) + "\r\n"
				}
				request := strings.NewReplacer("{method}", tt.method, "{target}", tt.target, "{proto}", tt.proto, "{accept}", tt.accept, "{cookie}", cookie).Replace(request)
				status, rest := raw(t, w.front.URL, request)
				if status[len("HTTP/1.1 "):][:3] != tt.status {
					t.Errorf("%s, want %s; the rest is\n%s", status, tt.status, rest)
				}
				for _, want := range tt.has {
					if !strings.Contains(rest, want) {
						t.Errorf("the answer lacks %q:\n%s", want, rest)
					}
				}
			})
		}
	}
}

// TestTheRequestsOfEnvoyOverGRPCAreAnswered: as its documentation shows them, with
// the pseudo-headers among the headers and a body.
func TestTheRequestsOfEnvoyOverGRPCAreAnswered(t *testing.T) {
	w := newWorld(t, loopbackTrusted(adminsBelowAdmin()))
	e := newEnvoy(w, nil, nil)
	req := checkRequest(ask{method: "POST", target: "/app/x?a=1", header: http.Header{"Cookie": {"theme=dark; " + w.signIn(bob())}, "Content-Type": {"application/grpc"}}})
	about := req.Attributes.Request.Http
	about.Body, about.Size = "a body", 6
	about.Headers["x-request-id"] = "7c0ffee0-0000-4000-8000-000000000001"
	about.Headers["x-envoy-internal"] = "true"
	if ok := e.check(req).GetOkResponse(); ok == nil {
		t.Errorf("somebody is refused")
	}
	for _, want := range []string{`"request_id":"7c0ffee0-0000-4000-8000-000000000001"`, `"face":"grpc"`, `"method":"POST"`, `"host":"app.example.com"`, `"path":"/app/x"`, `"client_ip":"198.51.100.7"`, `"decision":"allow"`} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, w.log)
		}
	}
	delete(about.Headers, "cookie")
	if res := e.check(req).GetDeniedResponse(); res.GetStatus().GetCode() != 401 {
		t.Errorf("status %d for a call of nobody, want 401, which Envoy makes a status of gRPC", res.GetStatus().GetCode())
	}
}
