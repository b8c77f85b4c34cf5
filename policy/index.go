package policy

import (
	"net/netip"
	"slices"
	"strings"
)

// An index finds the first rule that selects a request without asking each. Every
// rule is filed under one thing that it selects by, the one that it shares with
// the fewest others, and those that share it are an index of their own, by what
// else they select. What it offers may be too much, never too little: each rule
// still judges for itself. The nil index is empty.
type index struct {
	least   int      // the lowest position in it
	drawers []drawer // by their least
	rest    []int    // positions of the rules that are in no drawer, ascending
}

// A drawer files rules by their key for one trait.
type drawer struct {
	trait trait
	least int // the lowest position in it
	files map[key]*index
}

// A trait is something that each request has a key for, or some requests.
type trait struct {
	kind kind
	at   int // which segment: 0 is the first, -1 the last
	size int // bytes of a head or tail, bits of a network
}

type kind int

const (
	byHost    kind = iota // a name or an address
	byDomain              // what follows the first label
	byPort                // of the host
	byMethod              // that of the request, or that which a preflight asks for
	byNetwork             // of the client
	bySegment             // the whole of it
	byHead                // the beginning of a segment
	byTail                // its end
	byAny                 // any segment
)

// A key is the text, the address or the port that a trait is about.
type key struct {
	text string
	addr netip.Addr
	port uint16
}

// A tag is what a rule can be filed under.
type tag struct {
	trait trait
	key   key
}

// fewRules are asked one by one sooner than they are looked up.
const fewRules = 4

func newIndex(rules []rule) *index {
	tags, all := make([][][]tag, len(rules)), make([]int, len(rules))
	for i := range rules {
		tags[i], all[i] = rules[i].tags(), i
	}
	return file(all, tags, nil)
}

// file returns the index of the rules at positions, which have all of used in
// common.
func file(positions []int, tags [][][]tag, used []tag) *index {
	ix := &index{least: positions[0]}
	if len(positions) <= fewRules {
		ix.rest = positions
		return ix
	}
	sharing := map[tag]int{}
	for _, i := range positions {
		for _, choice := range tags[i] {
			for _, t := range choice {
				sharing[t]++
			}
		}
	}
	filed := map[trait]map[key][]int{}
	for _, i := range positions {
		choice := rarest(tags[i], sharing, len(positions), used)
		if choice == nil {
			ix.rest = append(ix.rest, i)
		}
		for _, t := range choice {
			if filed[t.trait] == nil {
				filed[t.trait] = map[key][]int{}
			}
			filed[t.trait][t.key] = append(filed[t.trait][t.key], i)
		}
	}
	for trait, groups := range filed {
		d := drawer{trait, len(tags), map[key]*index{}}
		for k, group := range groups {
			d.files[k] = file(group, tags, slices.Concat(used, []tag{{trait, k}}))
			d.least = min(d.least, group[0])
		}
		ix.drawers = append(ix.drawers, d)
	}
	slices.SortFunc(ix.drawers, func(a, b drawer) int { return a.least - b.least })
	return ix
}

// rarest returns the choice of tags that the fewest of n rules share, nil if there
// is none that is not used up. Several tags, each of which all rules have, would
// only multiply them.
func rarest(choices [][]tag, sharing map[tag]int, n int, used []tag) (best []tag) {
	least := 0
	for _, choice := range choices {
		most, isUsed := 0, false
		for _, t := range choice {
			most, isUsed = max(most, sharing[t]), isUsed || slices.Contains(used, t)
		}
		if !isUsed && (best == nil || most < least) && (most < n || len(choice) == 1) {
			best, least = choice, most
		}
	}
	return best
}

// tags returns what r can be filed under. A request that r selects has one tag at
// least of each of the choices.
func (r *rule) tags() (choices [][]tag) {
	if host := r.host.host; r.namesHost {
		name := tag{trait{kind: byHost}, key{text: host.name, addr: host.addr}}
		if r.host.wildcard {
			name.trait.kind = byDomain
		}
		choices = append(choices, []tag{name})
		if host.port != 0 {
			choices = append(choices, []tag{{trait{kind: byPort}, key{port: host.port}}})
		}
	}
	if r.namesPath {
		choices = append(choices, r.path.tags()...)
	}
	var methods, networks []tag
	for _, m := range r.methods {
		methods = append(methods, tag{trait{kind: byMethod}, key{text: m}})
		if m == "GET" {
			methods = append(methods, tag{trait{kind: byMethod}, key{text: "HEAD"}})
		}
	}
	for _, n := range r.clients {
		networks = append(networks, tag{trait{kind: byNetwork, size: n.Bits()}, key{addr: n.Addr()}})
	}
	for _, tags := range [][]tag{methods, networks} {
		if tags != nil {
			choices = append(choices, tags)
		}
	}
	return choices
}

// tags returns what a rule for g can be filed under: the segments before the first
// "**" by their place from the front, those behind the last by that from the end,
// and those in between wherever they are.
func (g *Glob) tags() (choices [][]tag) {
	segments := g.segments
	if segments == nil {
		segments = strings.Split(g.prefix[1:], "/")
	}
	first := slices.Index(segments, "**")
	last := len(segments) - 1
	for last >= 0 && segments[last] != "**" {
		last--
	}
	for i, seg := range segments {
		switch {
		case first < 0 || i < first:
			choices = append(choices, segmentTags(seg, i)...)
		case i > last:
			choices = append(choices, segmentTags(seg, i-len(segments))...)
		case !strings.Contains(seg, "*"):
			choices = append(choices, []tag{{trait{kind: byAny}, key{text: seg}}})
		}
	}
	return choices
}

// segmentTags returns what a rule can be filed under that wants seg in one place.
func segmentTags(seg string, at int) (choices [][]tag) {
	star := strings.IndexByte(seg, '*')
	if star < 0 {
		return [][]tag{{{trait{kind: bySegment, at: at}, key{text: seg}}}}
	}
	if head := seg[:star]; head != "" {
		choices = append(choices, []tag{{trait{byHead, at, len(head)}, key{text: head}}})
	}
	if tail := seg[strings.LastIndexByte(seg, '*')+1:]; tail != "" {
		choices = append(choices, []tag{{trait{byTail, at, len(tail)}, key{text: tail}}})
	}
	return choices
}

// first returns the position of the first of rules that selects t, -1 if none
// does.
func (ix *index) first(t *target, rules []rule) int {
	if i := ix.search(t, rules, len(rules)); i < len(rules) {
		return i
	}
	return -1
}

// search returns the position of the first rule in ix that selects t, or best if
// none before that does.
func (ix *index) search(t *target, rules []rule, best int) int {
	if ix == nil || ix.least >= best {
		return best
	}
	for i := range ix.drawers {
		if ix.drawers[i].least >= best {
			break
		}
		best = ix.drawers[i].search(t, rules, best)
	}
	for _, i := range ix.rest {
		if i >= best {
			break
		}
		if rules[i].selects(t) {
			return i
		}
	}
	return best
}

func (d *drawer) search(t *target, rules []rule, best int) int {
	switch d.trait.kind {
	case byMethod:
		best = d.files[key{text: t.method}].search(t, rules, best)
		if t.preflight != "" {
			best = d.files[key{text: t.preflight}].search(t, rules, best)
		}
		return best
	case byAny:
		return d.searchAny(t, rules, best)
	}
	return d.files[d.trait.of(t)].search(t, rules, best)
}

// maxSegments bounds how many segments of a path are looked up one by one. Beyond
// that each file is asked once: a path can repeat a segment as often as it is long.
const maxSegments = 16

func (d *drawer) searchAny(t *target, rules []rule, best int) int {
	n := 0
	for rest := t.path; rest != "" && n < maxSegments; n++ {
		var seg string
		seg, rest = cutSegment(rest)
		best = d.files[key{text: seg}].search(t, rules, best)
	}
	if n == maxSegments {
		for _, file := range d.files {
			best = file.search(t, rules, best)
		}
	}
	return best
}

// of returns the key of t, the zero key where t has none: should rules be filed
// under that, they judge for themselves.
func (tr trait) of(t *target) key {
	switch tr.kind {
	case byHost:
		return key{text: t.host.name, addr: t.host.addr}
	case byDomain:
		_, domain, _ := strings.Cut(t.host.name, ".")
		return key{text: domain}
	case byPort:
		return key{port: t.host.port}
	case byNetwork:
		network, err := t.client.Prefix(tr.size)
		if err != nil { // the other family
			return key{}
		}
		return key{addr: network.Addr()}
	}
	seg, ok := segment(t.path, tr.at)
	switch {
	case !ok || len(seg) < tr.size:
		return key{}
	case tr.kind == byHead:
		seg = seg[:tr.size]
	case tr.kind == byTail:
		seg = seg[len(seg)-tr.size:]
	}
	return key{text: seg}
}

// segment returns the segment of path at a place, from the end if that is below
// zero.
func segment(path string, at int) (seg string, ok bool) {
	for ; at >= 0 && path != ""; at-- {
		if seg, path = cutSegment(path); at == 0 {
			return seg, true
		}
	}
	for ; at < 0 && path != ""; at++ {
		slash := strings.LastIndexByte(path, '/')
		if at == -1 {
			return path[slash+1:], true
		}
		path = path[:slash]
	}
	return "", false
}
