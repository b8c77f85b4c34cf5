package session

import (
	"container/list"
	"sync"
	"time"
)

// maxKept bounds the sessions whose refreshed state is kept for their older
// cookies. With the usual 2 to 4 KB each that is 64 MB at the most.
const maxKept = 1 << 14

// kept leads from a session's id to its entry, from before its first refresh
// until [keepOld] after the browser showed the new cookie. The cache may drop
// an entry at any time, and the refresh token in an older cookie is used up: a
// second entry made from that cookie would burn the session. When it is full
// the session that was refreshed longest ago goes first.
type kept struct {
	mu    sync.Mutex
	byID  map[string]*list.Element
	order *list.List // of keptItem, the latest refresh last
	limit int
	swept time.Time
}

type keptItem struct {
	id string
	e  *entry
}

func newKept(limit int) *kept {
	return &kept{byID: map[string]*list.Element{}, order: list.New(), limit: limit}
}

// claim returns the entry that is kept for id; that is e, or the one that counts
// instead of it, if there was none. From now on the answer counts instead of e.
// An entry gets an heir only while it is not kept, and is not kept again then,
// so that heirs never lead in a circle.
func (k *kept) claim(id string, e *entry, now time.Time) *entry {
	k.mu.Lock()
	defer k.mu.Unlock()
	e = e.latest()
	if known, ok := k.byID[id]; ok {
		k.order.MoveToBack(known)
		heir := known.Value.(keptItem).e
		if heir != e {
			e.heir.Store(heir)
		}
		return heir
	}
	if now.Sub(k.swept) >= keepOld {
		k.sweep(now)
	}
	for k.order.Len() >= k.limit {
		k.remove(k.order.Front())
	}
	k.byID[id] = k.order.PushBack(keptItem{id, e})
	return e
}

// get returns the entry that is kept for id, or nil. It is asked for each cookie
// that is opened.
func (k *kept) get(id string) *entry {
	k.mu.Lock()
	defer k.mu.Unlock()
	if known, ok := k.byID[id]; ok {
		return known.Value.(keptItem).e
	}
	return nil
}

// drop forgets id.
func (k *kept) drop(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if known, ok := k.byID[id]; ok {
		k.remove(known)
	}
}

// sweep forgets the entries whose time is over.
func (k *kept) sweep(now time.Time) {
	k.swept = now
	var next *list.Element
	for item := k.order.Front(); item != nil; item = next {
		next = item.Next()
		e := item.Value.(keptItem).e
		release := e.release.Load()
		if release != 0 && release <= now.Unix() || !now.Before(e.current.Load().End()) {
			k.remove(item)
		}
	}
}

func (k *kept) remove(item *list.Element) {
	k.order.Remove(item)
	delete(k.byID, item.Value.(keptItem).id)
}
