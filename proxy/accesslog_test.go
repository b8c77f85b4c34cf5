package proxy

import (
	"encoding/json"
	"testing"
	"time"
)

// Whatever a client puts into a request, a line stays one line of valid JSON.
func FuzzLine(f *testing.F) {
	f.Add("/a", int64(200))
	f.Add("/\"}\n{\"msg\":\"forged\"}", int64(-1))
	f.Add("\\\x00\x7f\xff\u2028é", int64(0))
	var pool linePool
	f.Fuzz(func(t *testing.T, path string, status int64) {
		l := pool.get(time.Unix(0, 0).UTC())
		defer pool.put(l)
		l.text("path", path)
		l.text("empty", "")
		l.number("status", status)
		l.millis("duration_ms", 1500*time.Microsecond)
		var got map[string]any
		b := l.end()
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v in %s", err, b)
		}
		for i, c := range b {
			if c == '\n' && i != len(b)-1 {
				t.Errorf("a line break within the line %s", b)
			}
		}
		if _, there := got["empty"]; there || got["duration_ms"] != 1.5 || got["msg"] != "request" || path != "" && got["path"] == nil {
			t.Errorf("fields = %v", got)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	var pool linePool
	b.ReportAllocs()
	for b.Loop() {
		l := pool.get(time.Now())
		for _, name := range []string{"request_id", "face", "decision", "method", "host", "path", "client_ip", "route", "rule", "user"} {
			l.text(name, "47bd75d0-ad8d-53c8-8c39")
		}
		l.number("status", 200)
		l.end()
		pool.put(l)
	}
}
