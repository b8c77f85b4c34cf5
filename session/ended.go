package session

import (
	"container/heap"
	"sync"
	"time"
)

// maxEnded bounds the list of ended sessions. At about 150 bytes each it is 15
// MB at the very most.
const maxEnded = 100_000

// ended remembers the sessions that were signed out before their time, until
// they would have been over anyway. It belongs to one process: a copy of the
// cookie still opens on another replica until a store is shared. When it is
// full the session that would end soonest is forgotten first.
type ended struct {
	mu    sync.RWMutex
	until map[string]time.Time
	queue endedQueue
	limit int
}

func newEnded(limit int) *ended {
	return &ended{until: map[string]time.Time{}, limit: limit}
}

// add remembers id until end.
func (e *ended) add(id string, end, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, there := e.until[id]; there {
		return
	}
	for len(e.queue) > 0 && (!e.queue[0].end.After(now) || len(e.queue) >= e.limit) {
		oldest := heap.Pop(&e.queue).(endedItem)
		delete(e.until, oldest.id)
	}
	e.until[id] = end
	heap.Push(&e.queue, endedItem{id, end})
}

// has says whether id was ended. It is asked on every request.
func (e *ended) has(id string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	_, there := e.until[id]
	return there
}

type endedItem struct {
	id  string
	end time.Time
}

// endedQueue is a heap, the soonest end first.
type endedQueue []endedItem

func (q endedQueue) Len() int           { return len(q) }
func (q endedQueue) Less(i, j int) bool { return q[i].end.Before(q[j].end) }
func (q endedQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *endedQueue) Push(x any)        { *q = append(*q, x.(endedItem)) }
func (q *endedQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
