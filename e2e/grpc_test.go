package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestGRPC with grpc-go on both sides and each kind of call, without TLS and with
// it.
func TestGRPC(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", secure), func(t *testing.T) {
			t.Parallel()
			ctx, conn, id := startGRPC(t, secure)
			for method, want := range map[string]string{"Unary": "abc from " + id, "Client": "abc from " + id, "Server": "a b c", "Both": "a b c"} {
				got, trailer, err := callMethod(ctx, conn, method)
				if got != want || err != nil || strings.Join(trailer.Get("sum-bin"), "") != "\x00abc" {
					t.Errorf("%s: %q with the trailers %v, %v; want %q and sum-bin", method, got, trailer, err, want)
				}
			}
			for method, want := range map[string]codes.Code{"Forbidden": codes.PermissionDenied, "Missing": codes.Unimplemented} {
				if _, _, err := callMethod(ctx, conn, method); status.Code(err) != want {
					t.Errorf("%s: %v, want %v", method, err, want)
				}
			}
			nobody, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, _, err := callMethod(nobody, conn, "Both"); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "Sign in") {
				t.Errorf("without a session: %v, want UNAUTHENTICATED with a reason", err)
			}
		})
	}
}

// startGRPC starts an application and authproxy in front of it. It returns a
// client with the context of alice's calls, and her id.
func startGRPC(t *testing.T, secure bool) (context.Context, *grpc.ClientConn, string) {
	t.Helper()
	s := newSetup(t)
	upstream, front, client := "h2c://"+serveGRPC(t), insecure.NewCredentials(), newClient(t, nil)
	more := "shutdown: {delay: 0s}\nrules: [{path: /calls.Calls/Forbidden, deny: true}, {require: {signed_in: true}}]\n"
	if secure {
		certFile, keyFile, roots := selfSigned(t, "localhost")
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(s.listen)
		s.base = "https://localhost:" + port
		s.issuer = startProvider(t, s.base)
		_, port, _ = net.SplitHostPort(serveGRPC(t, grpc.Creds(credentials.NewServerTLSFromCert(&pair))))
		upstream, front = "https://localhost:"+port, credentials.NewClientTLSFromCert(roots, "")
		client = newClient(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}})
		more += fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\nroutes: [{path: /calls.Calls/**, upstream: {url: %q, ca_file: %q}}]\n", certFile, keyFile, upstream, certFile)
	} else {
		more += fmt.Sprintf("routes: [{path: /calls.Calls/**, upstream: %q}]\n", upstream)
	}
	l := s.launch(s.file(t, more))
	l.client = client
	start(t, l)
	alice := signIn(t, client, s.base, "alice")
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(strings.TrimPrefix(s.base, "https://"), "http://"), grpc.WithTransportCredentials(front))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "cookie", cookieHeader(t, client, s.base), "x-user-id", "root"), conn, alice.Headers.Get("X-User-Id")
}

// cookieHeader returns the cookies that client has for base.
func cookieHeader(t *testing.T, client *http.Client, base string) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for _, c := range client.Jar.Cookies(u) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	if len(pairs) == 0 {
		t.Fatalf("no cookies for %s", base)
	}
	return strings.Join(pairs, "; ")
}

// serveGRPC starts the service and returns its address.
func serveGRPC(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "calls.Calls", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		// A unary call is on the wire a stream of one message each way.
		{StreamName: "Unary", Handler: joinAll},
		{StreamName: "Client", ClientStreams: true, Handler: joinAll},
		{StreamName: "Server", ServerStreams: true, Handler: answerEach},
		{StreamName: "Both", ClientStreams: true, ServerStreams: true, Handler: answerEach},
		{StreamName: "Forbidden", Handler: joinAll},
	}}, nil)
	go s.Serve(l) // until Stop
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// joinAll answers all messages with one, which says who sent them.
func joinAll(_ any, s grpc.ServerStream) error {
	all, err := receiveAll(s, func(string) error { return nil })
	if err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(s.Context())
	s.SetTrailer(metadata.Pairs("sum-bin", "\x00"+all))
	return s.SendMsg(wrapperspb.String(all + " from " + strings.Join(md.Get("x-user-id"), ",")))
}

// answerEach answers each letter of each message with a message.
func answerEach(_ any, s grpc.ServerStream) error {
	all, err := receiveAll(s, func(part string) error {
		for _, letter := range part {
			if err := s.SendMsg(wrapperspb.String(string(letter))); err != nil {
				return err
			}
		}
		return nil
	})
	s.SetTrailer(metadata.Pairs("sum-bin", "\x00"+all))
	return err
}

// A receiver is one side of a stream.
type receiver interface{ RecvMsg(m any) error }

// receiveAll hands each message to each and returns all of them.
func receiveAll(s receiver, each func(string) error) (all string, err error) {
	for {
		m := &wrapperspb.StringValue{}
		if err := s.RecvMsg(m); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return all, err
		}
		all += m.Value
		if err := each(m.Value); err != nil {
			return all, err
		}
	}
}

// callMethod calls the method, with "abc" at once or letter by letter, and returns the
// answers. Where both sides stream, each letter is answered before the next one.
func callMethod(ctx context.Context, conn *grpc.ClientConn, method string) (string, metadata.MD, error) {
	if method != "Client" && method != "Server" && method != "Both" {
		var trailer metadata.MD
		out := &wrapperspb.StringValue{}
		err := conn.Invoke(ctx, "/calls.Calls/"+method, wrapperspb.String("abc"), out, grpc.Trailer(&trailer))
		return out.Value, trailer, err
	}
	desc := &grpc.StreamDesc{ClientStreams: method != "Server", ServerStreams: method != "Client"}
	stream, err := conn.NewStream(ctx, desc, "/calls.Calls/"+method)
	if err != nil {
		return "", nil, err
	}
	parts := []string{"a", "b", "c"}
	if method == "Server" {
		parts = []string{"abc"}
	}
	var answers []string
	for _, part := range parts {
		// At io.EOF the stream has ended; receiving says how.
		if err := stream.SendMsg(wrapperspb.String(part)); err != nil && !errors.Is(err, io.EOF) {
			return "", nil, err
		}
		if method == "Both" {
			m := &wrapperspb.StringValue{}
			if err := stream.RecvMsg(m); err != nil {
				return "", nil, err
			}
			answers = append(answers, m.Value)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return "", nil, err
	}
	_, err = receiveAll(stream, func(answer string) error { answers = append(answers, answer); return nil })
	return strings.Join(answers, " "), stream.Trailer(), err
}
