package proxy

import (
	"net/http"
	"slices"
	"strings"
)

// isWebSocket says whether a request with the headers h wants to become a
// WebSocket.
func isWebSocket(h http.Header) bool { return strings.EqualFold(h.Get("Upgrade"), "websocket") }

// opensWebSocket says the same also of the headers that an ingress hands on: some
// take Upgrade out when they ask, and leave what else only a WebSocket has (RFC
// 6455, section 4.1).
func opensWebSocket(h http.Header) bool { return isWebSocket(h) || len(h["Sec-Websocket-Key"]) > 0 }

// mayOpenWebSocket judges by the values of Origin who wants to open a WebSocket.
// Browsers let any page open one to any host, with the cookies of that host, and
// do not ask first as with CORS: what keeps a stranger's page from talking in the
// user's name is that somebody looks at Origin, which browsers always send (RFC
// 6455, section 10.2), and many applications do not. Who sends none is no
// browser.
func (p *Proxy) mayOpenWebSocket(origins []string) bool {
	switch len(origins) {
	case 0:
		return true
	case 1:
		return p.Hosts.IsOrigin(origins[0], p.PublicURL.Scheme) || slices.Contains(p.AllowedOrigins, origins[0]) || slices.Contains(p.AllowedOrigins, "*")
	}
	return false
}
