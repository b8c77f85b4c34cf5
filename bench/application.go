package main

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// eventGap is how long after its first event an event stream has the second one.
const eventGap = 20 * time.Millisecond

// application answers 1 KB, and at addresses of their own with what else is
// measured.
func application() http.Handler {
	body := []byte(strings.Repeat("0123456789abcdef", 64))
	calls := grpc.NewServer()
	calls.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: echoUnary}},
	}, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(body)
	})
	mux.HandleFunc("GET /volume/{bytes}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("bytes"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		io.CopyN(w, zeros{}, n)
	})
	mux.HandleFunc("PUT /volume", func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	mux.HandleFunc("/events", sendEvents)
	mux.HandleFunc("/ws", echoMessages)
	mux.Handle("/bench.Echo/", calls)
	return mux
}

func echoUnary(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := &wrapperspb.StringValue{}
	return in, decode(in)
}

// sendEvents sends two events, eventGap apart.
func sendEvents(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	io.WriteString(w, "data: 1\n\n")
	http.NewResponseController(w).Flush()
	time.Sleep(eventGap)
	io.WriteString(w, "data: 2\n\n")
}

// echoMessages sends back each message of a WebSocket.
func echoMessages(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // the client sees it
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	for {
		kind, message, err := conn.Read(context.Background())
		if err == nil {
			err = conn.Write(context.Background(), kind, message)
		}
		if err != nil {
			return
		}
	}
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
