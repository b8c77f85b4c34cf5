package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/structpb"

	"authproxy/cookie"
)

// maxCheckBytes bounds a question of Envoy's, in bytes. It holds a request's
// headers, and its body where Envoy is told to send that along.
const maxCheckBytes = 1 << 20

// An ExtAuthz answers Envoy, Istio and Envoy Gateway over gRPC
// (envoy.service.auth.v3.Authorization), and says that it is well
// (grpc.health.v1.Health).
type ExtAuthz struct {
	*grpc.Server
	health *health.Server
}

// ExtAuthz returns a server for Envoy's questions. With config it speaks TLS, and
// trusts whoever shows a certificate that config verifies; whoever shows none
// must be a trusted proxy. Nil means that it speaks HTTP/2 without TLS.
func (p *Proxy) ExtAuthz(config *tls.Config) *ExtAuthz {
	checks := &authorization{proxy: p}
	options := []grpc.ServerOption{
		grpc.UnaryInterceptor(p.survive), grpc.MaxRecvMsgSize(maxCheckBytes),
		// Envoy asks often whether the connection lives, if it is told to.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(10 * time.Second),
	}
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	s := &ExtAuthz{grpc.NewServer(options...), health.NewServer()}
	authv3.RegisterAuthorizationServer(s.Server, checks)
	grpc_health_v1.RegisterHealthServer(s.Server, s.health)
	return s
}

// Drain tells who asks how it is that it stops soon.
func (s *ExtAuthz) Drain() { s.health.Shutdown() }

// Shutdown stops when the questions under way are answered, or when ctx ends,
// and then returns its error.
func (s *ExtAuthz) Shutdown(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.Stop()
		return ctx.Err()
	}
}

// survive keeps a panic from ending the process, as net/http does, and makes a no
// of it: what Envoy does after an error depends on its failure_mode_allow.
func (p *Proxy) survive(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (res any, err error) {
	if info.FullMethod != authv3.Authorization_Check_FullMethodName {
		return next(ctx, req)
	}
	defer func() {
		if cause := recover(); cause != nil {
			p.Log.ErrorContext(ctx, "ext_authz panicked", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			res, err = denied(&memory{status: http.StatusInternalServerError}), nil
		}
	}()
	return next(ctx, req)
}

// authorization implements envoy.service.auth.v3.Authorization.
type authorization struct {
	authv3.UnimplementedAuthorizationServer
	proxy *Proxy
}

// Check answers Envoy. It never fails, see [Proxy.survive].
func (a *authorization) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	p, begun := a.proxy, a.proxy.Now()
	answer := &memory{header: http.Header{}}
	rec, x := &recorder{ResponseWriter: answer}, &exchange{original: blank(ctx)}
	p.nameRequest(x.original.header, false)
	defer p.observe(rec, x, begun)
	err := p.askedByEnvoy(ctx, req, x)
	if err == nil {
		err = p.authorize(rec, x)
	}
	if err != nil {
		p.deny(rec, x, true, err)
		return denied(answer), nil
	}
	rec.status = http.StatusOK
	return p.allowed(x), nil
}

// blank is an original of which nothing is known yet.
func blank(ctx context.Context) original {
	r := (&http.Request{Method: http.MethodPost, Header: http.Header{}}).WithContext(ctx)
	o := original{face: faceGRPC, header: r.Header}
	o.setRequest(r)
	return o
}

// askedByEnvoy reads into x the original that Envoy asks about.
func (p *Proxy) askedByEnvoy(ctx context.Context, req *authv3.CheckRequest, x *exchange) error {
	if from, trusted := p.trustsCaller(ctx); !trusted {
		return p.untrusted(x, from)
	}
	o, err := readAttributes(req.GetAttributes())
	if err != nil {
		return p.unreadable(x, err)
	}
	o.face = faceGRPC
	if behind, ok := p.Trusted.clientBehind(o.client, o.header); ok {
		o.client = behind
	} else {
		o.client = netip.Addr{}
	}
	p.checkClient(&o)
	r := (&http.Request{Header: o.header}).WithContext(ctx)
	p.nameRequest(o.header, true)
	o.setRequest(r)
	x.original = o
	return checkMethod(o.method)
}

// trustsCaller says whether whoever asks may: it has shown a certificate that was
// verified, or is a trusted proxy. It returns the address, too.
func (p *Proxy) trustsCaller(ctx context.Context) (from string, trusted bool) {
	caller, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return "", false
	}
	if info, ok := caller.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
		return caller.Addr.String(), true
	}
	addr, err := netip.ParseAddrPort(caller.Addr.String())
	return caller.Addr.String(), err == nil && p.Trusted.contains(addr.Addr().Unmap())
}

// readAttributes reads the original as Envoy describes it.
func readAttributes(attributes *authv3.AttributeContext) (o original, err error) {
	about := attributes.GetRequest().GetHttp()
	if about == nil {
		return o, unreadable("attributes.request.http is missing")
	}
	if o.method, err = parseMethod(about.GetMethod()); err != nil {
		return o, err
	}
	if o.scheme, err = parseScheme(about.GetScheme()); err != nil {
		return o, err
	}
	if o.target, err = parseTarget(about.GetPath()); err != nil {
		return o, err
	}
	o.host, o.header = about.GetHost(), headerOf(about)
	for name, values := range attributes.GetContextExtensions() {
		o.narrow = o.narrow.and(name, values)
	}
	if addr, err := netip.ParseAddr(attributes.GetSource().GetAddress().GetSocketAddress().GetAddress()); err == nil {
		o.client = addr.Unmap()
	}
	return o, nil
}

// headerOf returns the headers of the original. Envoy sends them as a map, with
// repeated ones joined, or one by one if it is told to (encode_raw_headers).
func headerOf(about *authv3.AttributeContext_HttpRequest) http.Header {
	h := http.Header{}
	add := func(name, value string) {
		if name != "" && name[0] != ':' { // the pseudo-headers are attributes
			h.Add(name, value)
		}
	}
	for name, value := range about.GetHeaders() {
		add(name, value)
	}
	for _, v := range about.GetHeaderMap().GetHeaders() {
		value := v.GetValue()
		if raw := v.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		add(v.GetKey(), value)
	}
	return h
}

// allowed is the answer that lets the original through, with what the application
// is told.
func (p *Proxy) allowed(x *exchange) *authv3.CheckResponse {
	ok := &authv3.OkHttpResponse{}
	set := map[string]bool{}
	p.tell(x, func(name, value string) {
		set[strings.ToLower(name)] = true
		ok.Headers = append(ok.Headers, overwrite(name, value))
	})
	ok.HeadersToRemove = p.claims(x.original.header, set)
	if rest, ours := p.otherCookies(x.original.header); ours && rest != "" {
		ok.Headers = append(ok.Headers, overwrite("Cookie", rest))
	} else if ours {
		ok.HeadersToRemove = append(ok.HeadersToRemove, "cookie")
	}
	for _, line := range p.renewals(x) {
		ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, add("Set-Cookie", line))
	}
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(codes.OK)}, DynamicMetadata: dynamicMetadata(x),
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok},
	}
}

// claims returns the names in h, a client's headers, that only we may write or
// that would tell the application of another path or another client, except for those
// that are set: Envoy removes after it has set.
func (p *Proxy) claims(h http.Header, set map[string]bool) []string {
	var names []string
	for name := range h {
		lower := strings.ToLower(name)
		envoys := strings.HasPrefix(lower, "x-forwarded-") && isPlainName(name)
		if !set[lower] && (p.identityNames.matches(name) || p.paths.matches(name) || p.forwarding.matches(name) && !envoys) {
			names = append(names, lower)
		}
	}
	slices.Sort(names)
	return names
}

// otherCookies returns the Cookie header for the application, and whether it
// differs from the client's, because that has some of ours.
func (p *Proxy) otherCookies(h http.Header) (rest string, ours bool) {
	lines := h["Cookie"]
	out := http.Header{"Cookie": slices.Clone(lines)}
	cookie.Remove(out, p.OwnsCookie)
	return strings.Join(out["Cookie"], "; "), !slices.Equal(out["Cookie"], lines)
}

// overwrite replaces a header of the client's. Envoy would drop one without a
// value, and the client's would stay.
func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       headerValue(name, value),
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, KeepEmptyValue: true,
	}
}

// headerValue returns a header as gRPC can carry it: texts are UTF-8.
func headerValue(name, value string) *corev3.HeaderValue {
	return &corev3.HeaderValue{Key: strings.ToLower(name), Value: strings.ToValidUTF8(value, "")}
}

// add adds a header to those that are there.
func add(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       headerValue(name, value),
		AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
	}
}

// dynamicMetadata tells the filters behind ext_authz, and the access log, who is there.
// It holds no token.
func dynamicMetadata(x *exchange) *structpb.Struct {
	fields := map[string]*structpb.Value{"rule": structpb.NewStringValue(x.verdict.decision.Rule)}
	if who := x.verdict.who; who != nil {
		for name, value := range map[string]string{
			"user_id": who.User.ID, "email": who.User.VerifiedEmail(), "name": who.User.Name,
			"provider": who.User.Provider, "session_id": who.SessionID,
		} {
			fields[name] = structpb.NewStringValue(strings.ToValidUTF8(value, "\uFFFD"))
		}
		fields["groups"], fields["roles"] = list(who.User.Groups), list(who.Roles)
	}
	return &structpb.Struct{Fields: fields}
}

func list(texts []string) *structpb.Value {
	values := make([]*structpb.Value, len(texts))
	for i, text := range texts {
		values[i] = structpb.NewStringValue(strings.ToValidUTF8(text, "\uFFFD"))
	}
	return structpb.NewListValue(&structpb.ListValue{Values: values})
}

// memory is an http.ResponseWriter that keeps the answer.
type memory struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (m *memory) Header() http.Header         { return m.header }
func (m *memory) WriteHeader(status int)      { m.status = status }
func (m *memory) Write(b []byte) (int, error) { return m.body.Write(b) }

// denied is the answer that has Envoy send what m holds.
func denied(m *memory) *authv3.CheckResponse {
	res := &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode(m.status)}, Body: m.body.String()}
	for name, values := range m.header {
		for i, value := range values {
			option := overwrite(name, value)
			if i > 0 {
				option = add(name, value)
			}
			res.Headers = append(res.Headers, option)
		}
	}
	code := codes.PermissionDenied
	switch {
	case m.status >= 500:
		code = codes.Unavailable
	case m.status < 400 || m.status == http.StatusUnauthorized:
		code = codes.Unauthenticated
	}
	return &authv3.CheckResponse{
		Status:       &status.Status{Code: int32(code), Message: http.StatusText(m.status)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: res},
	}
}
