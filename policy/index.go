package policy

import (
	"net/netip"
	"slices"
	"strings"
)

// An index finds the first rule that selects a request without looking at each.
// Rules are sorted by the host they name, and under it into a tree by the
// segments of their path, up to the first "**". What it offers may be too much,
// never too little: each rule still judges for itself.
type index struct {
	anyHost *branch                // rules that name no host
	byName  map[string]*branch     // by the name of a host
	below   map[string]*branch     // by the domain of "*.", for all hosts one label below
	byAddr  map[netip.Addr]*branch // by address
}

// A branch is a place in a tree of paths.
type branch struct {
	rules []int // positions of the rules whose segments end here, ascending
	below map[string]*branch
	star  *branch // for segments with "*", whatever else is in them
}

func newIndex(rules []rule) index {
	ix := index{anyHost: &branch{}, byName: map[string]*branch{}, below: map[string]*branch{}, byAddr: map[netip.Addr]*branch{}}
	for i := range rules {
		b := ix.forHost(&rules[i]).at(rules[i].path.fixed())
		b.rules = append(b.rules, i)
	}
	return ix
}

// forHost returns the tree for the host that r names, whatever the port.
func (ix *index) forHost(r *rule) *branch {
	switch host := r.host.host; {
	case !r.namesHost:
		return ix.anyHost
	case host.addr.IsValid():
		return branchOf(ix.byAddr, host.addr)
	case r.host.wildcard:
		return branchOf(ix.below, host.name)
	default:
		return branchOf(ix.byName, host.name)
	}
}

// branchOf returns the branch for key, made where there is none.
func branchOf[K comparable](branches map[K]*branch, key K) *branch {
	if branches[key] == nil {
		branches[key] = &branch{}
	}
	return branches[key]
}

// at returns the branch for segments, made where there is none.
func (b *branch) at(segments []string) *branch {
	for _, seg := range segments {
		if strings.Contains(seg, "*") {
			if b.star == nil {
				b.star = &branch{}
			}
			b = b.star
			continue
		}
		if b.below == nil {
			b.below = map[string]*branch{}
		}
		b = branchOf(b.below, seg)
	}
	return b
}

// fixed returns the segments that have their place in every path of g: those
// before the first "**".
func (g *Glob) fixed() []string {
	if g.prefix == "" {
		return nil // a rule without a path, or "/**"
	}
	if g.segments == nil {
		return strings.Split(g.prefix[1:], "/")
	}
	if i := slices.Index(g.segments, "**"); i >= 0 {
		return g.segments[:i]
	}
	return g.segments
}

// maxQueues bounds how many branches a request may be on. Rules that need more
// have more segments than any sensible path.
const maxQueues = 24

// queues are the branches that a request is on, each with the rules that are
// still to come.
type queues struct {
	next [maxQueues][]int
	n    int
	full bool
}

// first returns the position of the first of rules that selects t, -1 if none
// does.
func (ix *index) first(t *target, rules []rule) int {
	var q queues
	ix.collect(t, &q)
	if q.full {
		return scan(t, rules)
	}
	for {
		i := q.pop()
		if i < 0 || rules[i].selects(t) {
			return i
		}
	}
}

// scan asks each rule.
func scan(t *target, rules []rule) int {
	for i := range rules {
		if rules[i].selects(t) {
			return i
		}
	}
	return -1
}

// collect puts the branches that t is on into q.
func (ix *index) collect(t *target, q *queues) {
	ix.anyHost.collect(t.path, q)
	if t.host.addr.IsValid() {
		ix.byAddr[t.host.addr].collect(t.path, q)
		return
	}
	if len(ix.byName)+len(ix.below) == 0 {
		return
	}
	name := strings.ToLower(t.host.name)
	ix.byName[name].collect(t.path, q)
	if _, domain, ok := strings.Cut(name, "."); ok {
		ix.below[domain].collect(t.path, q)
	}
}

// collect puts b and the branches below it that path is on into q. Nothing is
// on a nil branch.
func (b *branch) collect(path string, q *queues) {
	for b != nil {
		q.push(b.rules)
		if path == "" {
			return
		}
		seg, rest := cutSegment(path)
		b.star.collect(rest, q)
		b, path = b.below[seg], rest
	}
}

func (q *queues) push(rules []int) {
	switch {
	case len(rules) == 0:
	case q.n == maxQueues:
		q.full = true
	default:
		q.next[q.n] = rules
		q.n++
	}
}

// pop returns the lowest position that is still to come, -1 if none is.
func (q *queues) pop() int {
	lowest := -1
	for i := range q.n {
		if len(q.next[i]) > 0 && (lowest < 0 || q.next[i][0] < q.next[lowest][0]) {
			lowest = i
		}
	}
	if lowest < 0 {
		return -1
	}
	i := q.next[lowest][0]
	q.next[lowest] = q.next[lowest][1:]
	return i
}
