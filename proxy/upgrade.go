package proxy

import (
	"net/http"
	"regexp"
	"strings"
)

// aProtocol is one protocol of the header Upgrade, with or without a version
// (RFC 9110, section 7.8).
var aProtocol = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$`)

// mayBecome says whether a connection may go on with the protocol. After "101
// Switching Protocols" bytes pass unseen. In a protocol that speaks HTTP anew
// they would be requests that no rule has judged, with identity headers of the
// client's choice (h2c smuggling): "h2c" and its drafts like "h2c-14", "HTTP/2.0",
// and "TLS/1.2" with HTTP in it (RFC 2817).
func mayBecome(protocol string) bool {
	if !aProtocol.MatchString(protocol) {
		return false
	}
	name := strings.ToLower(protocol)
	for _, speaksHTTP := range []string{"h2", "h3", "http", "tls", "ssl"} {
		if strings.HasPrefix(name, speaksHTTP) {
			return false
		}
	}
	return true
}

// passUpgrade lets out, which has the wish of in for another protocol, keep it if
// it is a single one that may be granted. A server is free to ignore others, and
// so are we: the request goes on as an ordinary one.
func passUpgrade(in, out http.Header) {
	delete(out, "Http2-Settings") // which a client need not name in Connection
	wishes := in["Upgrade"]
	if len(wishes) != 1 || !mayBecome(wishes[0]) {
		dropUpgrade(out)
	}
}

// dropUpgrade makes an ordinary request of one with the headers h.
func dropUpgrade(h http.Header) {
	delete(h, "Upgrade")
	delete(h, "Connection")
}

// onlyHTTP1 makes t, which has not been used yet, speak HTTP/1.1 alone: HTTP/2 has
// no upgrades, and net/http falls back by itself for WebSocket only.
func onlyHTTP1(t *http.Transport) {
	t.ForceAttemptHTTP2 = false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
}

// twoTransports use the second one for upgrades.
type twoTransports struct{ usual, upgrades http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t twoTransports) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(r.Header["Upgrade"]) > 0 {
		return t.upgrades.RoundTrip(r)
	}
	return t.usual.RoundTrip(r)
}
