package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"authproxy/identity"
)

// logged returns the log's lines about requests.
func logged(t testing.TB, w *world) []map[string]any {
	t.Helper()
	var requests []map[string]any
	for line := range strings.Lines(w.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in the line %s", err, line)
		}
		if m["msg"] == "request" {
			requests = append(requests, m)
		}
	}
	return requests
}

func TestEachRequestIsOneLineInTheLog(t *testing.T) {
	w := newWorld(t, setup{rules: adminsBelowAdmin(), trusted: []string{"127.0.0.1/32"}})
	admin, other := w.signIn(alice()), w.signIn(bob())
	tests := []struct {
		name string
		ask  ask
		want map[string]any
	}{
		{"allowed", ask{target: "/admin/a?secret=1", header: http.Header{"Cookie": {admin}}},
			map[string]any{"face": "proxy", "decision": "allow", "method": "GET", "path": "/admin/a", "status": 200.0, "route": "default", "rule": "admins", "user": alice().ID}},
		{"public", ask{method: "POST", target: "/public/%61"},
			map[string]any{"face": "proxy", "decision": "allow", "method": "POST", "path": "/public/a", "status": 200.0, "route": "default", "rule": "public"}},
		{"denied", ask{target: "/admin/a", header: http.Header{"Cookie": {other}}},
			map[string]any{"face": "proxy", "decision": "deny", "method": "GET", "path": "/admin/a", "status": 403.0, "rule": "admins", "reason": "needs one of the roles admin", "user": bob().ID}},
		{"sign-in", ask{target: "/a", header: browser("")},
			map[string]any{"face": "proxy", "decision": "sign_in", "method": "GET", "path": "/a", "status": 302.0, "rule": "signed in", "reason": "needs to be signed in"}},
		{"invalid", ask{target: "/a//b"}, map[string]any{"face": "proxy", "decision": "invalid", "method": "GET", "path": "/a//b", "status": 400.0}},
		{"own", ask{target: "/auth/session"}, map[string]any{"face": "own", "decision": "own", "method": "GET", "path": "/auth/session", "status": 404.0}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{TB: t, front: w.front, log: w.log}
			tt.ask.header = with(with(tt.ask.header, "X-Request-Id", fmt.Sprint("id-", i)), "X-Forwarded-For", "203.0.113.7")
			size := float64(len(w.do(tt.ask).body))
			all := logged(t, w)
			if len(all) != i+1 {
				t.Fatalf("there are %d lines after %d requests", len(all), i+1)
			}
			got := all[i]
			for name, value := range map[string]any{
				"msg": "request", "level": "INFO", "host": ourHost, "client_ip": "203.0.113.7", "request_id": fmt.Sprint("id-", i), "bytes": size, "duration_ms": 0.0,
			} {
				tt.want[name] = value
			}
			delete(got, "time")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the line (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatIsLoggedIsAsTheSettingSays(t *testing.T) {
	for mode, want := range map[string]string{
		LogAll: "allow deny sign_in invalid own", LogDenied: "deny sign_in invalid", LogNone: "",
	} {
		w := newWorld(t, setup{rules: adminsBelowAdmin(), proxy: func(c *Config) { c.LogRequests = mode }})
		for _, target := range []string{"/public/a", "/internal/a", "/a", "/a//b", "/auth/x"} {
			w.do(ask{target: target})
		}
		var got []string
		for _, line := range logged(t, w) {
			got = append(got, line["decision"].(string))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("log.requests %s: the decisions logged are %v, want %s", mode, got, want)
		}
	}
}

// TestNoSecretIsLogged, at any level, on any path.
func TestNoSecretIsLogged(t *testing.T) {
	breaks := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/public/hangup":
			panic(http.ErrAbortHandler)
		case "/public/half":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "SECRET-answer")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Set-Cookie", "app=SECRET-answer")
		io.Copy(w, r.Body)
	})
	for _, mode := range []string{identity.AuthorizationJWT, identity.AuthorizationAccessToken, identity.AuthorizationPass} {
		w := newWorld(t, setup{rules: adminsBelowAdmin(), upstream: breaks, level: slog.LevelDebug,
			identity: func(c *identity.Config) { c.Authorization = mode }})
		cookies, bearer := w.signIn(bob()), w.bearer(bob())
		for _, target := range []string{"/public/a", "/a", "/admin/a", "/internal/a", "/a//b", "/auth/x", "/public/hangup", "/public/half"} {
			for _, h := range []http.Header{
				{"Cookie": {cookies + "; app=SECRET-cookie"}}, {"Authorization": {"Bearer SECRET-token"}}, {"Authorization": {"Bearer " + bearer}},
				with(browser("__Host-authproxy_session=SECRET-session"), "X-User-Id", "SECRET-header"),
			} {
				a := ask{method: "POST", target: target + "?code=SECRET-code&SECRET-key", header: h, body: strings.NewReader("SECRET-body")}
				if res, err := w.front.Client().Do(a.request(w)); err == nil {
					io.Copy(io.Discard, res.Body) // half an answer is meant
					res.Body.Close()
				}
			}
		}
		text := w.log.String()
		if n := len(logged(t, w)); n != 8*4 {
			t.Errorf("%s: %d requests were logged, want %d", mode, n, 8*4)
		}
		_, value, _ := strings.Cut(cookies, "=")
		for _, secret := range []string{"SECRET", value, bearer, strings.Split(bearer, ".")[2]} {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s: the log holds a secret: %s", mode, text[max(0, i-300):min(len(text), i+100)])
			}
		}
	}
}

// TestARequestsNameIsOursUnlessATrustedProxyGaveIt, and is safe to print.
func TestARequestsNameIsOursUnlessATrustedProxyGaveIt(t *testing.T) {
	tests := []struct {
		name    string
		trusted []string
		sent    []string
		kept    bool
	}{
		{"untrusted", nil, []string{"abc-1"}, false},
		{"trusted", []string{"127.0.0.1/32"}, []string{"abc-1_2.3"}, true},
		{"two", []string{"127.0.0.1/32"}, []string{"a", "b"}, false},
		{"not a name", []string{"127.0.0.1/32"}, []string{"a b"}, false},
		{"empty", []string{"127.0.0.1/32"}, []string{""}, false},
		{"128 characters", []string{"127.0.0.1/32"}, []string{strings.Repeat("a", 128)}, true},
		{"129 characters", []string{"127.0.0.1/32"}, []string{strings.Repeat("a", 129)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, setup{rules: anyone(), trusted: tt.trusted})
			got := w.pass(ask{header: http.Header{"X-Request-Id": tt.sent}}).Header["X-Request-Id"]
			if len(got) != 1 || got[0] == "" || (got[0] == tt.sent[0]) != tt.kept {
				t.Errorf("X-Request-Id = %q from %q, kept should be %t", got, tt.sent, tt.kept)
			}
			if line := logged(t, w)[0]; line["request_id"] != got[0] {
				t.Errorf("the log names it %v, want %s", line["request_id"], got[0])
			}
		})
	}
}

func TestRequestsAreCounted(t *testing.T) {
	w := newWorld(t, setup{rules: adminsBelowAdmin(), proxy: func(c *Config) { c.LogRequests = LogNone }})
	for target, times := range map[string]int{"/public/a": 3, "/internal/a": 2, "/a": 1, "/a//b": 1, "/auth/x": 2} {
		for range times {
			w.do(ask{target: target})
		}
	}
	const want = `
		# HELP authproxy_requests_total Requests by face (proxy, own, nginx, forward, envoy, grpc, oauth2), decision and route.
		# TYPE authproxy_requests_total counter
		authproxy_requests_total{decision="allow",face="proxy",route="default"} 3
		authproxy_requests_total{decision="deny",face="proxy",route=""} 2
		authproxy_requests_total{decision="invalid",face="proxy",route=""} 1
		authproxy_requests_total{decision="own",face="own",route=""} 2
		authproxy_requests_total{decision="sign_in",face="proxy",route=""} 1
	`
	if err := testutil.GatherAndCompare(w.metrics, strings.NewReader(want), "authproxy_requests_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(w.metrics, "authproxy_request_duration_seconds"); n != 5 || err != nil {
		t.Errorf("durations: %d series, %v; want 5", n, err)
	}
}
