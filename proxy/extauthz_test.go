package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"authproxy/identity"
	"authproxy/policy"
)

// An envoy is a client as Envoy is one.
type envoy struct {
	testing.TB
	*grpc.ClientConn
	server *ExtAuthz
}

// newEnvoy serves w's proxy and connects to it, both with what is given for TLS,
// nil for none.
func newEnvoy(w *world, server, client *tls.Config) *envoy {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	s := w.proxy.ExtAuthz(server)
	go s.Serve(l)
	w.Cleanup(s.Stop)
	creds := insecure.NewCredentials()
	if client != nil {
		creds = credentials.NewTLS(client)
	}
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(creds))
	w.must(err)
	w.Cleanup(func() { conn.Close() })
	return &envoy{w.TB, conn, s}
}

// check asks, and fails if there is no answer.
func (e *envoy) check(req *authv3.CheckRequest) *authv3.CheckResponse {
	e.Helper()
	res, err := authv3.NewAuthorizationClient(e).Check(e.Context(), req)
	if err != nil {
		e.Fatalf("Check: %v", err)
	}
	return res
}

// checkRequest is what Envoy asks about a: names in lower case, repeated headers
// joined.
func checkRequest(a ask) *authv3.CheckRequest {
	h := map[string]string{":method": a.methodOr(), ":path": a.targetOr(), ":authority": a.hostOr(), ":scheme": "https", "x-forwarded-proto": "https"}
	for name, values := range a.header {
		h[strings.ToLower(name)] = strings.Join(values, ",")
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: "198.51.100.7", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 40000}},
		}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "1", Method: a.methodOr(), Path: a.targetOr(), Host: a.hostOr(), Scheme: "https", Protocol: "HTTP/2", Headers: h,
		}},
	}}
}

// sendToEnvoy reports what the application would get from Envoy.
func sendToEnvoy(w *world, e *envoy, a ask) result {
	w.Helper()
	res := e.check(checkRequest(a))
	if denied := res.GetDeniedResponse(); denied != nil {
		if res.GetStatus().GetCode() == int32(codes.OK) {
			w.Errorf("a denied response with the status OK")
		}
		return refused(int(denied.GetStatus().GetCode()), headerFrom(denied.GetHeaders()))
	}
	if code := res.GetStatus().GetCode(); code != int32(codes.OK) {
		w.Errorf("status %d without a denied response", code)
	}
	return result{class: "allow", told: told(w, applied(a.header, res.GetOkResponse()))}
}

// applied does to a client's headers what Envoy does: first those to set, of
// which it drops the empty ones unless told to keep them, then those to remove.
func applied(client http.Header, ok *authv3.OkHttpResponse) http.Header {
	h := http.Header{}
	for name, values := range client {
		h[strings.ToLower(name)] = values
	}
	for _, option := range ok.GetHeaders() {
		name, value := option.GetHeader().GetKey(), option.GetHeader().GetValue()
		switch {
		case value == "" && !option.GetKeepEmptyValue():
		case option.GetAppendAction() == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			h[name] = []string{value}
		default:
			h[name] = append(h[name], value)
		}
	}
	for _, name := range ok.GetHeadersToRemove() {
		delete(h, name)
	}
	out := http.Header{}
	for name, values := range h {
		out[http.CanonicalHeaderKey(name)] = values
	}
	return out
}

func headerFrom(options []*corev3.HeaderValueOption) http.Header {
	h := http.Header{}
	for _, option := range options {
		h.Add(option.GetHeader().GetKey(), option.GetHeader().GetValue())
	}
	return h
}

// TestEnvoyIsToldWhatToSetAndWhatToRemove.
func TestEnvoyIsToldWhatToSetAndWhatToRemove(t *testing.T) {
	w := newWorld(t, loopbackTrusted(nil))
	e := newEnvoy(w, nil, nil)
	header := forged(browser(w.signIn(bob()) + "; theme=dark"))
	header["X_Forwarded_For"] = []string{"127.0.0.1"}
	for _, name := range []string{"Forwarded", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "X-Forwarded-For"} {
		header[name] = []string{"203.0.113.9"}
	}
	header["Authorization"] = []string{"Basic YTpi"}
	res := e.check(checkRequest(ask{target: "/app", header: header}))
	got := applied(header, res.GetOkResponse())
	for name, want := range map[string]string{"X-User-Email": "bob@example.com", "X-User-Name": "Bob Brown", "X-User-Roles": "", "Cookie": "theme=dark"} {
		if values := got[name]; len(values) != 1 || values[0] != want {
			t.Errorf("%s = %q, want %q", name, values, want)
		}
	}
	for _, name := range []string{"X_user_id", "X.user.id", "X-Auth-Request-User", "Remote-User", "X-Original-Url", "X-Rewrite-Url", "X_forwarded_for", "Forwarded", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip"} {
		if values := got[name]; len(values) > 0 {
			t.Errorf("%s: %q came through", name, values)
		}
	}
	for _, name := range []string{"Accept", "Sec-Fetch-Mode", "X-Forwarded-Proto", "X-Forwarded-For"} {
		if slices.Contains(res.GetOkResponse().GetHeadersToRemove(), strings.ToLower(name)) {
			t.Errorf("%s is removed, and is none of ours", name)
		}
	}
	fields := res.GetDynamicMetadata().AsMap()
	want := map[string]any{
		"user_id": bob().ID, "email": "bob@example.com", "name": "Bob Brown", "provider": "corp",
		"groups": []any{"staff"}, "roles": []any{}, "rule": fields["rule"], "session_id": fields["session_id"],
	}
	if diff := cmp.Diff(want, fields); diff != "" || fields["session_id"] == "" {
		t.Errorf("dynamic metadata (-want +got):\n%s", diff)
	}
	only := e.check(checkRequest(ask{target: "/app", header: browser(w.signIn(bob()))}))
	if !slices.Contains(only.GetOkResponse().GetHeadersToRemove(), "cookie") {
		t.Errorf("headers to remove are %q, want the cookie among them, which has nothing but the session", only.GetOkResponse().GetHeadersToRemove())
	}
}

// TestEnvoyHandsOutARenewedCookie, in all its parts.
func TestEnvoyHandsOutARenewedCookie(t *testing.T) {
	s := loopbackTrusted(nil)
	s.identity = func(c *identity.Config) { c.CutGroups = true }
	w := newWorld(t, s)
	e := newEnvoy(w, nil, nil)
	who := alice()
	for range 400 {
		who.Groups = append(who.Groups, rand.Text())
	}
	cookies := w.signIn(who)
	w.clock.advance(25 * time.Hour)
	res := e.check(checkRequest(ask{target: "/app", header: browser(cookies)}))
	added := headerFrom(res.GetOkResponse().GetResponseHeadersToAdd())["Set-Cookie"]
	if parts := strings.Count(cookies, ";") + 1; len(added) != parts || parts < 2 {
		t.Errorf("%d cookies are handed out, want all %d parts", len(added), parts)
	}
	for _, option := range res.GetOkResponse().GetResponseHeadersToAdd() {
		if option.GetAppendAction() != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD {
			t.Errorf("a cookie would replace the others, and the application's: %v", option.GetAppendAction())
		}
	}
}

// TestEnvoyCarriesOurAnswerToTheBrowser: a redirect, a page, JSON.
func TestEnvoyCarriesOurAnswerToTheBrowser(t *testing.T) {
	w := newWorld(t, loopbackTrusted(adminsBelowAdmin()))
	e := newEnvoy(w, nil, nil)
	tests := []struct {
		name          string
		ask           ask
		status        int
		code          codes.Code
		header, value string
		body          string
	}{
		{"a page of nobody", ask{target: "/a", header: browser("")}, 302, codes.Unauthenticated, "Location", "https://" + ourHost + "/auth/sign-in?rd=%2Fa", ""},
		{"a script of nobody", ask{target: "/a", header: http.Header{"Accept": {"*/*"}}}, 401, codes.Unauthenticated, "Www-Authenticate", "Bearer", `"error":"unauthenticated"`},
		{"a page without the role", ask{target: "/admin/x", header: browser(w.signIn(bob()))}, 403, codes.PermissionDenied, "Content-Type", "text/html; charset=utf-8", "bob@example.com"},
		{"data without the role", ask{target: "/admin/x", header: http.Header{"Cookie": {w.signIn(bob())}}}, 403, codes.PermissionDenied, "Content-Type", "application/json", `"rule":"admins"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := e.check(checkRequest(tt.ask))
			denied := res.GetDeniedResponse()
			h := headerFrom(denied.GetHeaders())
			if int(denied.GetStatus().GetCode()) != tt.status || codes.Code(res.GetStatus().GetCode()) != tt.code {
				t.Errorf("status %d (%v), want %d (%v)", denied.GetStatus().GetCode(), codes.Code(res.GetStatus().GetCode()), tt.status, tt.code)
			}
			if h.Get(tt.header) != tt.value || h.Get("Cache-Control") != "no-store" || !strings.Contains(denied.GetBody(), tt.body) {
				t.Errorf("%s = %q, want %q and no-store; the body is %s", tt.header, h.Get(tt.header), tt.value, denied.GetBody())
			}
		})
	}
}

// TestAttributesThatCannotBeReadAreRefused, never allowed.
func TestAttributesThatCannotBeReadAreRefused(t *testing.T) {
	w := newWorld(t, loopbackTrusted(anyone())) // whatever can be read is allowed
	e := newEnvoy(w, nil, nil)
	about := func(change func(*authv3.AttributeContext_HttpRequest)) *authv3.CheckRequest {
		req := checkRequest(ask{target: "/a"})
		change(req.Attributes.Request.Http)
		return req
	}
	type attributes = authv3.AttributeContext_HttpRequest
	tests := []struct {
		name string
		req  *authv3.CheckRequest
		want codes.Code
	}{
		{"all there", about(func(*attributes) {}), codes.OK},
		{"a WebSocket's scheme", about(func(a *attributes) { a.Scheme = "wss" }), codes.OK},
		{"no source", &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: about(func(*attributes) {}).Attributes.Request}}, codes.OK},
		{"nothing", &authv3.CheckRequest{}, codes.PermissionDenied},
		{"no request", &authv3.CheckRequest{Attributes: &authv3.AttributeContext{}}, codes.PermissionDenied},
		{"no HTTP", &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}}, codes.PermissionDenied},
		{"no method", about(func(a *attributes) { a.Method = "" }), codes.PermissionDenied},
		{"a method that is none", about(func(a *attributes) { a.Method = "GET, POST" }), codes.PermissionDenied},
		{"CONNECT", about(func(a *attributes) { a.Method = "CONNECT" }), codes.PermissionDenied},
		{"no path", about(func(a *attributes) { a.Path = "" }), codes.PermissionDenied},
		{"the asterisk", about(func(a *attributes) { a.Path = "*" }), codes.PermissionDenied},
		{"a fragment", about(func(a *attributes) { a.Path = "/a#b" }), codes.PermissionDenied},
		{"a NUL", about(func(a *attributes) { a.Path = "/a\x00" }), codes.PermissionDenied},
		{"no host", about(func(a *attributes) { a.Host = "" }), codes.PermissionDenied},
		{"a strange host", about(func(a *attributes) { a.Host = "evil.example" }), codes.PermissionDenied},
		{"no scheme", about(func(a *attributes) { a.Scheme = "" }), codes.PermissionDenied},
		{"an odd scheme", about(func(a *attributes) { a.Scheme = "javascript" }), codes.PermissionDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := e.check(tt.req)
			if got := codes.Code(res.GetStatus().GetCode()); got != tt.want {
				t.Errorf("status %v, want %v", got, tt.want)
			}
			if tt.want != codes.OK && (res.GetDeniedResponse().GetStatus().GetCode() != 403 || res.GetOkResponse() != nil) {
				t.Errorf("the answer is %v, want a denied 403", res)
			}
		})
	}
}

// TestRawHeadersAreRead: Envoy can be told to send headers one by one.
func TestRawHeadersAreRead(t *testing.T) {
	w := newWorld(t, loopbackTrusted(nil))
	e := newEnvoy(w, nil, nil)
	req := checkRequest(ask{target: "/a"})
	req.Attributes.Request.Http.Headers = nil
	req.Attributes.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
		{Key: "cookie", RawValue: []byte("a=b")}, {Key: "cookie", RawValue: []byte(w.signIn(bob()))}, {Key: "x_user_id", RawValue: []byte("root")},
	}}
	ok := e.check(req).GetOkResponse()
	if ok == nil || !slices.Contains(ok.GetHeadersToRemove(), "x_user_id") {
		t.Errorf("the answer is %v, want one that allows and removes x_user_id", ok)
	}
}

// TestContextExtensionsOnlyNarrow.
func TestContextExtensionsOnlyNarrow(t *testing.T) {
	w := newWorld(t, loopbackTrusted(adminsBelowAdmin()))
	e := newEnvoy(w, nil, nil)
	for _, tt := range []struct {
		target     string
		extensions map[string]string
		want       codes.Code
	}{
		{"/a", nil, codes.OK},
		{"/a", map[string]string{"virtual_host": "local_service", "allowed_groups": "ops,staff"}, codes.OK},
		{"/a", map[string]string{"allowed_groups": "ops"}, codes.PermissionDenied},
		{"/a", map[string]string{"allowed_groups": "staff", "allowed_emails": "alice@example.com"}, codes.PermissionDenied},
		{"/admin/x", map[string]string{"allowed_groups": "staff", "allow": "anyone", "roles": "admin"}, codes.PermissionDenied},
	} {
		req := checkRequest(ask{target: tt.target, header: http.Header{"Cookie": {w.signIn(bob())}}})
		req.Attributes.ContextExtensions = tt.extensions
		if got := codes.Code(e.check(req).GetStatus().GetCode()); got != tt.want {
			t.Errorf("%s with %v: status %v, want %v", tt.target, tt.extensions, got, tt.want)
		}
	}
}

// TestOnlyEnvoyMayAsk: by its address, or by a certificate.
func TestOnlyEnvoyMayAsk(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca.leaf)
	server := &tls.Config{Certificates: []tls.Certificate{ca.issue(t)}, ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven}
	client := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: certs}
	}
	tests := []struct {
		name           string
		trusted        []string
		server, client *tls.Config
		want           codes.Code
	}{
		{"a trusted address", []string{"127.0.0.0/8"}, nil, nil, codes.OK},
		{"any other address", []string{"192.0.2.0/24"}, nil, nil, codes.PermissionDenied},
		{"nobody is trusted", nil, nil, nil, codes.PermissionDenied},
		{"a certificate", nil, server, client(ca.issue(t)), codes.OK},
		{"no certificate", nil, server, client(), codes.PermissionDenied},
		{"no certificate at a trusted address", []string{"127.0.0.1/32"}, server, client(), codes.OK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, setup{rules: []policy.Rule{{Name: "all", Allow: "anyone"}}, trusted: tt.trusted})
			e := newEnvoy(w, tt.server, tt.client)
			if got := codes.Code(e.check(checkRequest(ask{target: "/a"})).GetStatus().GetCode()); got != tt.want {
				t.Errorf("status %v, want %v; the log:\n%s", got, tt.want, w.log)
			}
		})
	}
	t.Run("a stranger's certificate", func(t *testing.T) {
		w := newWorld(t, setup{rules: anyone()})
		e := newEnvoy(w, server, client(other.issue(t)))
		if res, err := authv3.NewAuthorizationClient(e).Check(t.Context(), checkRequest(ask{target: "/a"})); err == nil {
			t.Errorf("the answer is %v, want no connection", res)
		}
	})
}

// TestHealthIsServedUntilTheEnd.
func TestHealthIsServedUntilTheEnd(t *testing.T) {
	w := newWorld(t, loopbackTrusted(nil))
	e := newEnvoy(w, nil, nil)
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING} {
		res, err := grpc_health_v1.NewHealthClient(e).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil || res.GetStatus() != want {
			t.Errorf("health is %v (%v), want %v", res.GetStatus(), err, want)
		}
		e.server.Drain()
	}
	if err := e.server.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// TestAPanicIsANo: what Envoy does after an error is not ours to say.
func TestAPanicIsANo(t *testing.T) {
	w := newWorld(t, loopbackTrusted(nil))
	res, err := w.proxy.survive(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: authv3.Authorization_Check_FullMethodName},
		func(context.Context, any) (any, error) { panic("at the disco") })
	if got, ok := res.(*authv3.CheckResponse); err != nil || !ok || got.GetStatus().GetCode() == int32(codes.OK) || got.GetDeniedResponse().GetStatus().GetCode() != 500 {
		t.Errorf("the answer is %v (%v), want a denied 500", res, err)
	}
	if !strings.Contains(w.log.String(), "at the disco") {
		t.Errorf("the log does not say why:\n%s", w.log)
	}
}

// An authority issues certificates.
type authority struct {
	leaf *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{leaf, key}
}

// issue returns a certificate for localhost, as a server and as a client.
func (a authority) issue(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.leaf, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
