package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// TestAnIngressAsks: authproxy without an application of its own judges for an
// ingress, over HTTP and over gRPC, and stops in good order.
func TestAnIngressAsks(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	envoy := freeAddress(t)
	file := s.file(t, fmt.Sprintf("trusted_proxies: [127.0.0.0/8]\next_authz: {listen: %q}\nshutdown: {delay: 0s}", envoy))
	p := start(t, s.launch(withoutUpstream(t, file, s)))

	client := newClient(t, nil)
	res, body := get(t, client, s.base+"/auth/sign-in/demo?login_hint=alice&rd=/app", http.Header{"Accept": {"text/html"}})
	if res.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "There is no application at this address") {
		t.Errorf("the way back from sign-in ends at %d, want a 404 that says why: %s", res.StatusCode, body)
	}
	base, err := url.Parse(s.base)
	if err != nil {
		t.Fatal(err)
	}
	about := http.Header{"X-Forwarded-Method": {"GET"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {base.Host}, "X-Forwarded-Uri": {"/app?x"}}
	res, _ = get(t, client, s.base+"/auth/verify/forward", about)
	if err := expectStatus(res, http.StatusOK); err != nil || res.Header.Get("X-User-Email") != "alice@example.com" {
		t.Errorf("forward auth: %v, X-User-Email %q, want alice", err, res.Header.Get("X-User-Email"))
	}
	expectToken(t, s.base, res.Header.Get("Authorization"), res.Header.Get("X-User-Id"))
	res, _ = get(t, newClient(t, nil), s.base+"/auth/verify/forward", about)
	if err := expectStatus(res, http.StatusUnauthorized); err != nil {
		t.Errorf("forward auth of nobody: %v", err)
	}

	var cookies []string
	for _, c := range client.Jar.Cookies(base) {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	expectEnvoysAnswer(t, envoy, base.Host, strings.Join(cookies, "; "))
	p.stop()
}

// withoutUpstream returns the file without the line of the upstream.
func withoutUpstream(t *testing.T, file string, s setup) string {
	t.Helper()
	read, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(read)
	line := "upstream: " + s.upstream + "\n"
	if !strings.Contains(text, line) {
		t.Fatalf("the configuration lacks %q:\n%s", line, text)
	}
	return writeFile(t, "without-upstream.yaml", strings.Replace(text, line, "", 1))
}

// expectEnvoysAnswer asks over gRPC, with cookies and without.
func expectEnvoysAnswer(t *testing.T, address, host, cookies string) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health is %v (%v), want SERVING", health.GetStatus(), err)
	}
	ask := func(headers map[string]string) *authv3.CheckResponse {
		res, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "GET", Scheme: "http", Host: host, Path: "/app", Headers: headers,
			}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if got := ask(map[string]string{"cookie": cookies}); got.GetOkResponse() == nil || got.GetDynamicMetadata().GetFields()["email"].GetStringValue() != "alice@example.com" {
		t.Errorf("ext_authz answers %v, want a yes for alice", got)
	}
	if got := ask(map[string]string{"accept": "text/html"}); got.GetDeniedResponse().GetStatus().GetCode() != http.StatusFound {
		t.Errorf("ext_authz answers %v to nobody, want a redirect to sign-in", got)
	}
}
