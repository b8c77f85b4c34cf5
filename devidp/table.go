package devidp

import "time"

// A table maps keys to values that expire, and holds at most max of them: when
// it is full, those that expired make room, else the one that expires next. It
// is not safe for concurrent use. The zero value with a max is ready.
type table[V any] struct {
	max  int
	rows map[string]row[V]
}

type row[V any] struct {
	value   V
	expires time.Time
}

// put stores value under key until expires.
func (t *table[V]) put(now time.Time, key string, value V, expires time.Time) {
	if t.rows == nil {
		t.rows = map[string]row[V]{}
	}
	if len(t.rows) >= t.max {
		t.makeRoom(now)
	}
	t.rows[key] = row[V]{value, expires}
}

// get returns what is stored under key, and whether there is something that
// has not expired at now. At its expiry a value has expired.
func (t *table[V]) get(now time.Time, key string) (V, bool) {
	r, ok := t.rows[key]
	if !ok || !now.Before(r.expires) {
		delete(t.rows, key)
		var none V
		return none, false
	}
	return r.value, true
}

func (t *table[V]) delete(key string) { delete(t.rows, key) }

func (t *table[V]) makeRoom(now time.Time) {
	var next string
	for key, r := range t.rows {
		if !now.Before(r.expires) {
			delete(t.rows, key)
			continue
		}
		if first, ok := t.rows[next]; !ok || r.expires.Before(first.expires) {
			next = key
		}
	}
	if len(t.rows) >= t.max {
		delete(t.rows, next)
	}
}
