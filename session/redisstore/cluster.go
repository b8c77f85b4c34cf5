package redisstore

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
)

// A master is a server whose changes must be watched.
type master struct {
	address string
	id      string // in a Cluster
	tag     string // in braces, leads to one of its slots
}

// masters returns all servers that hold keys.
func (c *call) masters() ([]master, error) {
	if !c.cluster() {
		var all []master
		for address := range c.Nodes() {
			all = append(all, master{address: address, tag: "beat"})
		}
		return all, nil
	}
	var reason error
	for address, node := range c.Nodes() {
		ctx, cancel := context.WithTimeout(c.ctx, c.options.Timeout)
		text, err := node.Do(ctx, node.B().ClusterNodes().Build()).ToString()
		cancel()
		if err != nil {
			reason = err
			continue
		}
		return mastersOf(parseNodes(text), address, c.redis.TLSConfig != nil)
	}
	return nil, c.failed(cmpErr(reason, errors.New("no server is known")))
}

// mastersOf returns the owners of slots, as the server at address knows them.
func mastersOf(nodes []clusterNode, address string, secure bool) ([]master, error) {
	var all []master
	for _, n := range nodes {
		if !n.master || len(n.slots) == 0 {
			continue
		}
		all = append(all, master{address: n.endpoint(address, secure), id: n.id, tag: tagIn(n.slots)})
	}
	if len(all) == 0 {
		return nil, errors.New("no server of the cluster owns a slot")
	}
	return all, nil
}

// covers fails unless every owner of slots among nodes, as a server knows them,
// is watched. A server that begins to take over slots owns none at first; then
// what moved there would change unseen, and covers says false until it owns one.
// The server that gives them away knows, and each is asked at each heartbeat.
func (w *watch) covers(nodes []clusterNode) (bool, error) {
	watched := func(id string) bool {
		return slices.ContainsFunc(w.tracks, func(t *track) bool { return t.id == id })
	}
	complete := true
	for _, n := range nodes {
		if n.master && len(n.slots) > 0 && !watched(n.id) {
			return false, errMoved
		}
		for _, id := range n.migratesTo {
			complete = complete && watched(id)
		}
	}
	return complete, nil
}

// A clusterNode is a line of CLUSTER NODES.
type clusterNode struct {
	id, address, hostname string
	master                bool
	slots                 [][2]int
	migratesTo            []string // ids; known to the server itself only
}

// parseNodes reads the answer to CLUSTER NODES: id, address, flags, master,
// ping, pong, epoch, state of the link, slots.
func parseNodes(text string) []clusterNode {
	text = strings.TrimPrefix(text, "txt:") // a verbatim string of RESP3
	var nodes []clusterNode
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		n := clusterNode{id: fields[0]}
		at, names, _ := strings.Cut(fields[1], ",")
		n.hostname, _, _ = strings.Cut(names, ",")
		n.address, _, _ = strings.Cut(at, "@")
		n.master = slices.Contains(strings.Split(fields[2], ","), "master")
		for _, slot := range fields[8:] {
			n.addSlots(slot)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// addSlots reads one field of slots: 7, 0-5460, [93->-<id>] or [93-<-<id>].
func (n *clusterNode) addSlots(field string) {
	if moving, ok := strings.CutPrefix(field, "["); ok {
		if _, id, ok := strings.Cut(strings.TrimSuffix(moving, "]"), "->-"); ok {
			n.migratesTo = append(n.migratesTo, id)
		}
		return
	}
	first, last, ok := strings.Cut(field, "-")
	if !ok {
		last = first
	}
	from, err := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	if err == nil && err2 == nil {
		n.slots = append(n.slots, [2]int{from, to})
	}
}

// endpoint returns where to connect. A server that does not know its own address
// is where we asked.
func (n *clusterNode) endpoint(asked string, secure bool) string {
	host, port, err := net.SplitHostPort(n.address)
	if err != nil {
		// An IPv6 address has no brackets here.
		i := strings.LastIndexByte(n.address, ':')
		host, port = n.address[:max(i, 0)], n.address[i+1:]
	}
	if secure && n.hostname != "" {
		host = n.hostname
	}
	if host == "" {
		host, _, _ = net.SplitHostPort(asked)
	}
	return net.JoinHostPort(host, port)
}

// tagIn returns a text that, in braces, leads to one of slots. In the first
// million of numbers there is one for each.
func tagIn(slots [][2]int) string {
	for i := range 1_000_000 {
		tag := strconv.Itoa(i)
		s := slotOf(tag)
		if slices.ContainsFunc(slots, func(r [2]int) bool { return r[0] <= s && s <= r[1] }) {
			return tag
		}
	}
	return ""
}

// slotOf returns the slot of a key that is tag: its CRC16 in the XMODEM variant,
// modulo 16384 (Redis Cluster Specification, "Key distribution model").
func slotOf(tag string) int {
	var crc uint16
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % 16384)
}
