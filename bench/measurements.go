package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A measurement is one thing that can be measured.
type measurement struct {
	run       func(*bench, *scene) error
	http2     bool          // the application is spoken to over HTTP/2
	tokenLife time.Duration // of the provider's access tokens; 0 for the usual
	ingress   bool          // the requests are an ingress's, which authproxy trusts
	store     string        // where sessions are; "" for cookies
}

func measurements() map[string]measurement {
	return map[string]measurement{
		"requests":  {run: measureRequests},
		"verify":    {run: measureVerify, ingress: true},
		"volume":    {run: measureVolume},
		"websocket": {run: measureWebSocket},
		"events":    {run: measureEvents},
		"grpc":      {run: measureGRPC, http2: true},
		"sign-in":   {run: measureSignIn},
		"stores":    {run: measureStores},
		"refresh":   {run: measureRefresh, tokenLife: shortLife},
	}
}

// everything names all measurements.
func everything() []string { return slices.Sorted(maps.Keys(measurements())) }

const gigabyte = 1 << 30

// measureVolume passes 1 GiB down and up.
func measureVolume(_ *bench, s *scene) error {
	for _, at := range []*subject{s.app, s.bare, s.ours} {
		before, _, err := memory(at.pid)
		if err != nil {
			return err
		}
		for _, direction := range []string{"down", "up"} {
			method, path, body := http.MethodGet, "/volume/"+strconv.Itoa(gigabyte), io.Reader(nil)
			if direction == "up" {
				method, path, body = http.MethodPut, "/volume", io.LimitReader(zeros{}, gigabyte)
			}
			cpu, begun, err := startOf(at)
			if err != nil {
				return err
			}
			if _, err := s.ask(at, method, path, body); err != nil {
				return err
			}
			used, took, err := sinceStart(at, cpu, begun)
			if err != nil {
				return err
			}
			fmt.Printf("%-28s 1 GiB %-4s  %5.2f GB/s  %4.0f ms CPU\n", at.name, direction, gigabyte/took.Seconds()/1e9, used.Seconds()*1000)
		}
		_, most, err := memory(at.pid)
		if err != nil {
			return err
		}
		fmt.Printf("%-28s %d MiB of memory before, %d MiB at most\n", at.name, before>>20, most>>20)
	}
	return nil
}

// measureWebSocket opens idle connections, then has messages of 1 MB echoed.
func measureWebSocket(_ *bench, s *scene) error {
	const idle, messages = 1000, 300
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, at := range []*subject{s.bare, s.ours} {
		before, _, err := memory(at.pid)
		if err != nil {
			return err
		}
		var conn *websocket.Conn
		for range idle {
			conn, _, err = websocket.Dial(ctx, "http://"+at.address+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {s.session}}})
			if err != nil {
				return err
			}
			defer conn.CloseNow()
		}
		after, _, err := memory(at.pid)
		if err != nil {
			return err
		}
		cpu, begun, err := startOf(at)
		if err != nil {
			return err
		}
		if err := echo(ctx, conn, messages); err != nil {
			return err
		}
		used, took, err := sinceStart(at, cpu, begun)
		if err != nil {
			return err
		}
		fmt.Printf("%-28s %d idle connections: %d KiB each; echo of 1 MB: %4.0f a second, %4.0f µs CPU each\n",
			at.name, idle, (after-before)/idle>>10, messages/took.Seconds(), used.Seconds()*1e6/messages)
	}
	return nil
}

// echo sends n messages of 1 MB and waits for each to come back.
func echo(ctx context.Context, conn *websocket.Conn, n int) error {
	conn.SetReadLimit(-1)
	message := make([]byte, 1_000_000)
	for range n {
		sent := make(chan error, 1)
		go func() { sent <- conn.Write(ctx, websocket.MessageBinary, message) }()
		_, got, err := conn.Read(ctx)
		if err := errors.Join(<-sent, err); err != nil {
			return err
		}
		if len(got) != len(message) {
			return fmt.Errorf("a message of %d bytes came back with %d", len(message), len(got))
		}
	}
	return nil
}

// measureEvents takes the time from the request to the first event.
func measureEvents(_ *bench, s *scene) error {
	const streams = 100
	for _, at := range []*subject{s.app, s.bare, s.ours} {
		var micros []float64
		for range streams {
			begun := time.Now()
			res, err := s.open(at, http.MethodGet, "/events", nil)
			if err != nil {
				return err
			}
			if _, err := bufio.NewReaderSize(res.Body, 16).ReadString('\n'); err != nil {
				return err
			}
			micros = append(micros, float64(time.Since(begun).Microseconds()))
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				return err
			}
			res.Body.Close()
		}
		fmt.Printf("%-28s first event after %5.0f µs (median of %d; the second follows %v later)\n", at.name, median(micros), streams, eventGap)
	}
	return nil
}

// measureGRPC compares the CPU time of unary calls, over HTTP/2 on both sides.
func measureGRPC(b *bench, s *scene) error {
	fmt.Printf("%d rounds of %d unary calls, %d connections, request log on\n", b.rounds, b.requests, b.connections)
	return b.compare(s.bare, s.ours, "call", func(at *subject, n int) error {
		conn, err := grpc.NewClient("passthrough:///"+at.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer conn.Close()
		ctx := metadata.AppendToOutgoingContext(context.Background(), "cookie", s.session)
		for range n {
			if err := conn.Invoke(ctx, "/bench.Echo/Unary", wrapperspb.String("hello"), &wrapperspb.StringValue{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// people is how many sign-ins and refreshes are measured.
const people = 300

// measureSignIn signs people in: at us, at the provider, at us again, and the
// first page. The provider's CPU time is not in it.
func measureSignIn(_ *bench, s *scene) error {
	micros := make([]float64, people)
	cpu, _, err := startOf(s.ours)
	if err != nil {
		return err
	}
	for i := range micros {
		begun := time.Now()
		if _, err := signIn(s.ours.address); err != nil {
			return err
		}
		micros[i] = float64(time.Since(begun).Microseconds())
	}
	used, _, err := sinceStart(s.ours, cpu, time.Time{})
	if err != nil {
		return err
	}
	fmt.Printf("%d sign-ins, one by one: %.2f ms each (median), %.2f ms CPU\n", people, median(micros)/1000, used.Seconds()*1000/people)
	return nil
}

// shortLife is the life of access tokens that are to be refreshed, and long
// enough to sign people in before that.
const shortLife = 10 * time.Second

// measureRefresh sends a request of each of many people: when their tokens are to
// be refreshed, and right after that.
func measureRefresh(_ *bench, s *scene) error {
	sessions := make([]string, people)
	for i := range sessions {
		var err error
		if sessions[i], err = signIn(s.ours.address); err != nil {
			return err
		}
	}
	time.Sleep(shortLife)
	for _, what := range []string{"with a refresh", "without one"} {
		micros := make([]float64, people)
		cpu, _, err := startOf(s.ours)
		if err != nil {
			return err
		}
		for i, session := range sessions {
			begun := time.Now()
			header, err := (&scene{session: session}).ask(s.ours, http.MethodGet, "/", nil)
			if err != nil {
				return err
			}
			micros[i] = float64(time.Since(begun).Microseconds())
			if what == "with a refresh" && len(header["Set-Cookie"]) == 0 {
				return errors.New("no new cookie came: the tokens were not refreshed")
			}
		}
		used, _, err := sinceStart(s.ours, cpu, time.Time{})
		if err != nil {
			return err
		}
		fmt.Printf("%d requests %s, one by one: %.2f ms each (median), %.2f ms CPU\n", people, what, median(micros)/1000, used.Seconds()*1000/people)
	}
	return nil
}

// open sends a request in the session's name and insists on 200.
func (s *scene) open(at *subject, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequest(method, "http://"+at.address+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Cookie", s.session)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("%s %s: %s", method, path, res.Status), res.Body.Close())
	}
	return res, nil
}

// ask is open for an answer that is read to its end. It returns the headers.
func (s *scene) ask(at *subject, method, path string, body io.Reader) (http.Header, error) {
	res, err := s.open(at, method, path, body)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.Header, errors.Join(err, res.Body.Close())
}

// startOf returns the CPU time that the subject has taken so far, and the time.
func startOf(at *subject) (time.Duration, time.Time, error) {
	cpu, err := cpuTime(at.pid)
	return cpu, time.Now(), err
}

// sinceStart returns what CPU time and what time has passed since startOf.
func sinceStart(at *subject, cpu time.Duration, begun time.Time) (used, took time.Duration, err error) {
	now, err := cpuTime(at.pid)
	return now - cpu, time.Since(begun), err
}

// residentSize finds the present and the highest resident size in proc(5).
var residentSize = regexp.MustCompile(`(VmRSS|VmHWM):\s+(\d+) kB`)

// memory returns how many bytes of memory the process has resident, and how many
// it had at most.
func memory(pid int) (now, most int64, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0, err
	}
	for _, field := range residentSize.FindAllStringSubmatch(string(text), -1) {
		kilobytes, err := strconv.ParseInt(field[2], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if field[1] == "VmHWM" {
			most = kilobytes << 10
		} else {
			now = kilobytes << 10
		}
	}
	return now, most, nil
}
