package proxy

import (
	"net/http"
	"slices"
	"testing"

	"github.com/coder/websocket"

	"authproxy/policy"
)

// TestAStrangersPageOpensNoWebSocket in the user's name: her browser sends her
// cookie along, and the application asks nobody where a request comes from
// (cross-site WebSocket hijacking).
func TestAStrangersPageOpensNoWebSocket(t *testing.T) {
	const partner = "https://partner.example.net"
	for _, tt := range []struct {
		name    string
		origins []string
		allowed []string
		want    int
	}{
		{"our page", []string{"https://" + ourHost}, nil, 101},
		{"a page of another host of ours", []string{"https://www.example.com"}, nil, 101},
		{"no page at all", nil, nil, 101},
		{"a stranger's page", []string{"https://evil.example.net"}, nil, 403},
		{"a page of our neighbour", []string{"https://evil.example.com"}, nil, 403},
		{"a host that begins like ours", []string{"https://" + ourHost + ".evil.net"}, nil, 403},
		{"our host before an @", []string{"https://" + ourHost + "@evil.net"}, nil, 403},
		{"a page of ours over http", []string{"http://" + ourHost}, nil, 403},
		{"what no browser sends", []string{"https://evil@" + ourHost + "/path"}, nil, 403},
		{"a page in a sandbox", []string{"null"}, nil, 403},
		{"nothing in the header", []string{""}, nil, 403},
		{"two of them", []string{"https://" + ourHost, "https://evil.example.net"}, nil, 403},
		{"a partner's page", []string{partner}, nil, 403},
		{"a partner's page that may", []string{partner}, []string{partner}, 101},
		{"a stranger's page where a partner's may", []string{"https://evil.example.net"}, []string{partner}, 403},
		{"two where all may", []string{"https://" + ourHost, "https://evil.example.net"}, []string{"*"}, 403},
		{"a stranger's page where all may", []string{"https://evil.example.net"}, []string{"*"}, 101},
		{"a page in a sandbox where all may", []string{"null"}, []string{"*"}, 101},
	} {
		for _, rules := range [][]policy.Rule{nil, anyone()} {
			reached := make(chan struct{}, 1)
			app := echoAll(make(chan struct{}, 1))
			w := newWorld(t, setup{
				rules: rules,
				proxy: func(c *Config) {
					c.AllowedOrigins, c.Hosts = tt.allowed, append(slices.Clone(c.Hosts), mustHost(t, "www.example.com"))
				},
				upstream: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					reached <- struct{}{}
					app.ServeHTTP(w, r)
				}),
			})
			h := with(nil, "Cookie", w.signIn(alice()))
			if tt.origins != nil {
				h["Origin"] = tt.origins
			}
			conn, res, err := websocket.Dial(t.Context(), w.front.URL+"/ws", &websocket.DialOptions{Host: ourHost, HTTPHeader: h})
			if err == nil {
				conn.CloseNow()
			}
			if res == nil || res.StatusCode != tt.want || len(reached) == 1 != (tt.want == 101) {
				t.Errorf("%s: %v, the application was reached %d times; want %d", tt.name, err, len(reached), tt.want)
			}
		}
	}
}

// TestOriginCountsForWebSocketsOnly: what else a page may ask for is between it,
// the browser and the application (CORS).
func TestOriginCountsForWebSocketsOnly(t *testing.T) {
	w := newWorld(t, setup{rules: anyone()})
	w.pass(ask{header: http.Header{"Origin": {"https://evil.example.net"}}})
}

// TestARefusedWebSocketIsLogged where denied requests are.
func TestARefusedWebSocketIsLogged(t *testing.T) {
	w := newWorld(t, setup{rules: anyone(), proxy: func(c *Config) { c.LogRequests = LogDenied }})
	w.do(ask{header: http.Header{"Origin": {"https://evil.example.net"}, "Connection": {"Upgrade"}, "Upgrade": {"WebSocket"}}})
	if all := logged(t, w); len(all) != 1 || all[0]["status"] != 403.0 {
		t.Errorf("logged %v, want one line with 403", all)
	}
}
