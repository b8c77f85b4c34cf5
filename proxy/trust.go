package proxy

import (
	"net/http"
	"net/netip"
	"strings"
)

// TrustedProxies are the networks of the proxies in front of us whose
// forwarding headers count. The zero value trusts nobody: who can reach us
// directly can write any header.
type TrustedProxies []netip.Prefix

// peer returns the address that r came from.
func peer(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// Trusts says whether r came from a trusted proxy.
func (t TrustedProxies) Trusts(r *http.Request) bool {
	return len(t) > 0 && t.contains(peer(r))
}

func (t TrustedProxies) contains(addr netip.Addr) bool {
	for _, prefix := range t {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// OriginalURL returns the host and the target (path and query) of the request
// that a trusted proxy says it got, in the header X-Original-URL. It is false
// where there is none, or none that can be read.
func (t TrustedProxies) OriginalURL(r *http.Request) (host, target string, ok bool) {
	if !t.Trusts(r) {
		return "", "", false
	}
	raw, err := single(r.Header, "X-Original-Url")
	if err != nil {
		return "", "", false
	}
	_, host, read, err := parseOriginalURL(raw)
	return host, read.String(), err == nil
}

// ClientIP returns the address that a request began at. X-Forwarded-For is read
// from the right: each trusted proxy vouches for the entry before its own, and
// the first address that is not a trusted proxy is the client. Whatever stands
// left of it, the client may have written. An entry that is no address ends the
// walk.
func (t TrustedProxies) ClientIP(r *http.Request) netip.Addr {
	client, _ := t.clientBehind(peer(r), r.Header)
	return client
}

// askedClient returns the address of the client whose request r asks about. It is
// invalid where the ingress does not say: the ingress's own address, which r came
// from, is never the client's, and is among those that rules let in more easily.
func (t TrustedProxies) askedClient(r *http.Request) netip.Addr {
	if !t.Trusts(r) || strings.Join(r.Header["X-Forwarded-For"], "") == "" {
		return netip.Addr{}
	}
	client, ok := t.clientBehind(peer(r), r.Header)
	if !ok {
		return netip.Addr{}
	}
	return client
}

// clientBehind is [TrustedProxies.ClientIP] for a request with the headers h that
// came from the address client. It is false where a trusted proxy vouches for
// something that is no address.
func (t TrustedProxies) clientBehind(client netip.Addr, h http.Header) (behind netip.Addr, ok bool) {
	hops := strings.Join(h["X-Forwarded-For"], ",")
	for hops != "" && t.contains(client) {
		last := strings.LastIndexByte(hops, ',')
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[last+1:]))
		if err != nil || hop.Zone() != "" {
			return client, false
		}
		client, hops = hop.Unmap(), hops[:max(last, 0)]
	}
	return client, true
}
