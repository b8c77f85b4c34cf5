package session

import (
	"container/heap"
	"math"
	"sync"
	"time"
)

// maxEnded bounds the list of ended sessions. At about 200 bytes each it is 20
// MB at the very most.
const maxEnded = 100_000

// allStates is the generation up to which all states of a session are over.
const allStates = math.MaxInt

// ended remembers the sessions that were signed out before their time, until
// they would have been over anyway, and those of which only the states up to a
// generation are over, or will be: a newer cookie of such a one still counts. It
// belongs to one process: a copy of the cookie still opens on another replica
// until a store is shared. When it is full the session that would end soonest is
// forgotten first.
type ended struct {
	mu    sync.RWMutex
	byID  map[string]*endedItem
	queue endedQueue // those that were pardoned, too
	limit int
}

// An endedItem says what is over of a session, and may be forgotten at its end.
type endedItem struct {
	id         string
	end        time.Time
	generation int       // the states up to it are meant
	from       time.Time // when they are over; the zero time if they have been all along
}

func newEnded(limit int) *ended {
	return &ended{byID: map[string]*endedItem{}, limit: limit}
}

// add remembers item, unless as much of the session is known to be over.
func (e *ended) add(item endedItem, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if known := e.byID[item.id]; known != nil {
		if item.generation > known.generation {
			known.generation, known.from = item.generation, item.from
		}
		return
	}
	for len(e.queue) > 0 && (!e.queue[0].end.After(now) || len(e.queue) >= e.limit) {
		e.forget(heap.Pop(&e.queue).(*endedItem))
	}
	e.byID[item.id] = &item
	heap.Push(&e.queue, &item)
}

// endOf says whether the state of a session is on the list, and when it is over.
// It is asked on every request. A state of no known generation is the first.
func (e *ended) endOf(id string, generation int) (from time.Time, listed bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if item := e.byID[id]; item != nil && generation <= item.generation {
		return item.from, true
	}
	return time.Time{}, false
}

// pardon takes a session off the list if a state of it has come that is newer
// than those that are over.
func (e *ended) pardon(id string, generation int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if item := e.byID[id]; item != nil && generation > item.generation {
		e.forget(item)
	}
}

// forget takes item off the list, unless it is off already and another one is
// there for its session. The mutex is held.
func (e *ended) forget(item *endedItem) {
	if e.byID[item.id] == item {
		delete(e.byID, item.id)
	}
}

// endedQueue is a heap, the soonest end first.
type endedQueue []*endedItem

func (q endedQueue) Len() int           { return len(q) }
func (q endedQueue) Less(i, j int) bool { return q[i].end.Before(q[j].end) }
func (q endedQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *endedQueue) Push(x any)        { *q = append(*q, x.(*endedItem)) }
func (q *endedQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
