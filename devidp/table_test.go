package devidp

import (
	"maps"
	"slices"
	"testing"
	"time"
)

func TestTableForgets(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	tests := []struct {
		name string
		put  map[string]int // key: seconds until it expires
		when int            // seconds until one more is put
		want []string
	}{
		{"there is room", map[string]int{"a": 10}, 0, []string{"a", "new"}},
		{"the expired go first", map[string]int{"a": 10, "b": 5, "c": 20}, 10, []string{"c", "new"}},
		{"else the one that expires next", map[string]int{"a": 10, "b": 5, "c": 20}, 0, []string{"a", "c", "new"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := table[int]{max: 3}
			for key, seconds := range tt.put {
				table.put(now, key, 1, at(seconds))
			}
			table.put(at(tt.when), "new", 1, at(tt.when+1))
			if got := slices.Sorted(maps.Keys(table.rows)); !slices.Equal(got, tt.want) {
				t.Errorf("keys = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTableGet(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	table := table[int]{max: 1}
	if _, ok := table.get(now, "a"); ok {
		t.Error("an empty table has an a")
	}
	table.put(now, "a", 7, now.Add(time.Second))
	if got, ok := table.get(now, "a"); !ok || got != 7 {
		t.Errorf("get = %v, %v, want 7, true", got, ok)
	}
	if _, ok := table.get(now.Add(time.Second), "a"); ok || len(table.rows) != 0 {
		t.Errorf("at its expiry: found = %v, %d rows, want false, 0", ok, len(table.rows))
	}
}
