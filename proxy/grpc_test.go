package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"authproxy/policy"
)

// echoService answers calls of each kind with what they send and who they are.
func echoService() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "echo.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: echoUnary}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Server", ServerStreams: true, Handler: echoToServerStream},
			{StreamName: "Client", ClientStreams: true, Handler: echoToClientStream},
			{StreamName: "Both", ServerStreams: true, ClientStreams: true, Handler: echoToBoth},
		},
	}
}

// sender returns whom the call is said to come from.
func sender(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	return strings.Join(md.Get("x-user-id"), ",")
}

func echoUnary(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := &wrapperspb.StringValue{}
	if err := decode(in); err != nil {
		return nil, err
	}
	if in.Value == "fail" {
		return nil, status.Error(codes.AlreadyExists, "there is one; 100 %")
	}
	grpc.SetTrailer(ctx, metadata.Pairs("sum", in.Value+"!", "sum-bin", "\x00\xff"))
	return wrapperspb.String(sender(ctx) + " " + in.Value), nil
}

func echoToServerStream(_ any, s grpc.ServerStream) error {
	in := &wrapperspb.StringValue{}
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	for _, c := range in.Value {
		if err := s.SendMsg(wrapperspb.String(string(c))); err != nil {
			return err
		}
	}
	s.SetTrailer(metadata.Pairs("sum", in.Value+"!"))
	return status.Error(codes.DataLoss, "that is all")
}

func echoToClientStream(_ any, s grpc.ServerStream) error {
	var all string
	for {
		in := &wrapperspb.StringValue{}
		if err := s.RecvMsg(in); errors.Is(err, io.EOF) {
			return s.SendMsg(wrapperspb.String(all))
		} else if err != nil {
			return err
		}
		all += in.Value
	}
}

func echoToBoth(_ any, s grpc.ServerStream) error {
	for {
		in := &wrapperspb.StringValue{}
		if err := s.RecvMsg(in); errors.Is(err, io.EOF) {
			s.SetTrailer(metadata.Pairs("sum", "all"))
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(in); err != nil {
			return err
		}
	}
}

// serveGRPC starts the service and returns it as an upstream.
func serveGRPC(t testing.TB, tls bool) Upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	at := Upstream{URL: &url.URL{Scheme: "h2c", Host: l.Addr().String()}, PassHost: true}
	if tls {
		certified := newServer(t, http.NotFoundHandler(), true)
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&certified.TLS.Certificates[0])))
		at.URL.Scheme, at.RootCAs = "https", x509.NewCertPool()
		at.RootCAs.AddCert(certified.Certificate())
	}
	s := grpc.NewServer(options...)
	s.RegisterService(echoService(), nil)
	go s.Serve(l) // until Stop
	t.Cleanup(s.Stop)
	return at
}

// grpcClient returns a client of w's front, and the context of somebody's calls.
func (w *world) grpcClient(cookies string) (context.Context, *grpc.ClientConn) {
	w.Helper()
	creds := insecure.NewCredentials()
	if certificate := w.front.Certificate(); certificate != nil {
		roots := x509.NewCertPool()
		roots.AddCert(certificate)
		creds = credentials.NewClientTLSFromCert(roots, "")
	}
	conn, err := grpc.NewClient("passthrough:///"+w.front.Listener.Addr().String(), grpc.WithTransportCredentials(creds), grpc.WithAuthority("example.com"))
	w.must(err)
	w.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(w.Context(), soon)
	w.Cleanup(cancel)
	if cookies != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "cookie", cookies)
	}
	return metadata.AppendToOutgoingContext(ctx, "x-user-id", "root"), conn
}

// TestGRPC with each kind of call, with and without TLS on either side.
func TestGRPC(t *testing.T) {
	for _, tls := range [][2]bool{{false, false}, {false, true}, {true, false}, {true, true}} {
		w := newWorld(t, setup{http2: tls[0], routes: []Route{{Upstream: serveGRPC(t, tls[1])}}})
		ctx, conn := w.grpcClient(w.signIn(alice()))

		var trailer metadata.MD
		out := &wrapperspb.StringValue{}
		err := conn.Invoke(ctx, "/echo.Echo/Unary", wrapperspb.String("a"), out, grpc.Trailer(&trailer))
		if err != nil || out.Value != alice().ID+" a" || strings.Join(trailer.Get("sum"), ",") != "a!" || strings.Join(trailer.Get("sum-bin"), ",") != "\x00\xff" {
			t.Errorf("TLS %v: unary: %q with %v, %v; want a from alice, with trailers", tls, out.Value, trailer, err)
		}
		err = conn.Invoke(ctx, "/echo.Echo/Unary", wrapperspb.String("fail"), out)
		if s := status.Convert(err); s.Code() != codes.AlreadyExists || s.Message() != "there is one; 100 %" {
			t.Errorf("TLS %v: a failure: %v, want the upstream's own", tls, err)
		}
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/echo.Echo/Server")
		w.must(err)
		w.must(stream.SendMsg(wrapperspb.String("abc")))
		w.must(stream.CloseSend())
		if all, err := receiveAll(stream); all != "abc" || status.Code(err) != codes.DataLoss || strings.Join(stream.Trailer().Get("sum"), ",") != "abc!" {
			t.Errorf("TLS %v: server streaming: %q with %v, %v", tls, all, stream.Trailer(), err)
		}
		stream, err = conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, "/echo.Echo/Client")
		w.must(err)
		for _, part := range []string{"a", "b", "c"} {
			w.must(stream.SendMsg(wrapperspb.String(part)))
		}
		w.must(stream.CloseSend())
		if err := stream.RecvMsg(out); err != nil || out.Value != "abc" {
			t.Errorf("TLS %v: client streaming: %q, %v; want abc", tls, out.Value, err)
		}
		stream, err = conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/echo.Echo/Both")
		w.must(err)
		for _, part := range []string{"a", "b", "c"} { // each is answered before the next is sent
			w.must(stream.SendMsg(wrapperspb.String(part)))
			if err := stream.RecvMsg(out); err != nil || out.Value != part {
				t.Fatalf("TLS %v: streaming both ways: %q, %v; want %s", tls, out.Value, err, part)
			}
		}
		w.must(stream.CloseSend())
		if rest, err := receiveAll(stream); rest != "" || !errors.Is(err, io.EOF) || strings.Join(stream.Trailer().Get("sum"), ",") != "all" {
			t.Errorf("TLS %v: the end of both ways: %q with %v, %v", tls, rest, stream.Trailer(), err)
		}
	}
}

// receiveAll returns what s still has, and how it ends.
func receiveAll(s grpc.ClientStream) (all string, err error) {
	for {
		in := &wrapperspb.StringValue{}
		if err := s.RecvMsg(in); err != nil {
			return all, err
		}
		all += in.Value
	}
}

// TestRefusedCalls get a status that clients of gRPC understand.
func TestRefusedCalls(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := Upstream{URL: &url.URL{Scheme: "h2c", Host: l.Addr().String()}}
	l.Close()
	deny := []policy.Rule{{Name: "nobody", Path: "/echo.Echo/**", Deny: true}}
	for _, tt := range []struct {
		name     string
		rules    []policy.Rule
		route    Route
		who      bool
		want     codes.Code
		wantText string
	}{
		{"nobody", nil, Route{Upstream: serveGRPC(t, false)}, false, codes.Unauthenticated, "Sign in"},
		{"somebody who may not", deny, Route{Upstream: serveGRPC(t, false)}, true, codes.PermissionDenied, "You may not"},
		{"an upstream that is down", nil, Route{Upstream: down}, true, codes.Unavailable, "could not be reached"},
		{"no upstream", nil, Route{Path: "/elsewhere", Upstream: down}, true, codes.Unimplemented, ""},
	} {
		w := newWorld(t, setup{rules: tt.rules, routes: []Route{tt.route}})
		cookies := ""
		if tt.who {
			cookies = w.signIn(alice())
		}
		w.proxy.Hosts = append(w.proxy.Hosts, mustHost(t, "example.com"))
		ctx, conn := w.grpcClient(cookies)
		err := conn.Invoke(ctx, "/echo.Echo/Unary", wrapperspb.String("a"), &wrapperspb.StringValue{})
		if s := status.Convert(err); s.Code() != tt.want || !strings.Contains(s.Message(), tt.wantText) {
			t.Errorf("%s: %v, want %v with %q", tt.name, err, tt.want, tt.wantText)
		}
	}
}

// TestAnEndedSessionEndsItsCalls.
func TestAnEndedSessionEndsItsCalls(t *testing.T) {
	w := newWorld(t, setup{routes: []Route{{Upstream: serveGRPC(t, false)}}})
	cookies := w.signIn(alice())
	ctx, conn := w.grpcClient(cookies)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/echo.Echo/Both")
	w.must(err)
	w.must(stream.SendMsg(wrapperspb.String("a")))
	w.must(stream.RecvMsg(&wrapperspb.StringValue{}))
	endings()["sign-out"](w, cookies)
	if err := stream.RecvMsg(&wrapperspb.StringValue{}); err == nil || ctx.Err() != nil {
		t.Errorf("the call went on: %v, want it cut off", err)
	}
}

// TestACallThatTheUpstreamCannotKnowHasNoTrailers: Content-Type can be taken out
// on the way, by whoever names it in Connection.
func TestACallThatTheUpstreamCannotKnowHasNoTrailers(t *testing.T) {
	w := newWorld(t, setup{})
	h := with(with(with(nil, "Cookie", w.signIn(alice())), "Content-Type", "application/grpc"), "Connection", "Content-Type")
	got := w.pass(ask{method: "POST", header: h, body: &noticed{Reader: strings.NewReader("body")}, trailer: http.Header{"X-Mine": {"ours"}}})
	if len(got.Trailer) > 0 || got.Header.Get("Content-Type") != "" {
		t.Errorf("the upstream got the trailers %v, with Content-Type %q, want none of both", got.Trailer, got.Header.Get("Content-Type"))
	}
}

// TestRequestTrailersAreForGRPC alone, and say nothing about who is there.
func TestRequestTrailersAreForGRPC(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		w := newWorld(t, setup{http2: http2})
		for contentType, want := range map[string]string{
			"application/grpc": "ours", "application/grpc+proto": "ours", "application/grpc-web": "ours",
			"application/json": "", "application/grpcx": "", "": "",
		} {
			h := with(with(nil, "Cookie", w.signIn(alice())), "Content-Type", contentType)
			trailer := http.Header{
				"X-Mine": {"ours"}, "X-User-Id": {"root"}, "X-Forwarded-For": {"192.0.2.1"}, "Cookie": {"a=b"}, "X-Http-Method-Override": {"DELETE"},
			}
			if !http2 { // there Go refuses it
				trailer["Host"] = []string{"evil.example"}
			}
			got := w.pass(ask{method: "POST", header: h, body: &noticed{Reader: strings.NewReader("body")}, trailer: trailer})
			if got.Trailer.Get("X-Mine") != want || want == "" && len(got.Trailer) > 0 || want != "" && len(got.Trailer) != 1 || got.Body != "body" {
				t.Errorf("http2=%t, %q: the upstream got the trailers %v, want X-Mine %q alone", http2, contentType, got.Trailer, want)
			}
		}
	}
}

// TestARefusedCallIsAnsweredInHeadersAlone, and nothing else is.
func TestARefusedCallIsAnsweredInHeadersAlone(t *testing.T) {
	w := newWorld(t, setup{})
	got := w.do(ask{method: "POST", header: http.Header{"Content-Type": {"application/grpc+proto"}}})
	if got.StatusCode != 200 || got.Header.Get("Grpc-Status") != "16" || got.Header.Get("Content-Type") != "application/grpc+proto" || got.body != "" {
		t.Errorf("got %d %v %q, want 200 with the status 16 in the headers alone", got.StatusCode, got.Header, got.body)
	}
	if got := w.do(ask{method: "POST", header: http.Header{"Content-Type": {"application/json"}}}); got.StatusCode != 401 || got.Header.Get("Grpc-Status") != "" {
		t.Errorf("JSON: got %d %v, want 401 and no status of gRPC", got.StatusCode, got.Header)
	}
}
