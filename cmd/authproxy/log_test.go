package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A safeBuffer can be written and read at the same time.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *safeBuffer) lines() int { return strings.Count(s.String(), "\n") }

func TestLinesWaitAtMostATenthOfASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &safeBuffer{}
		log := newLog(out, "info")
		log.Info("one")
		log.Info("two")
		time.Sleep(flushAfter - time.Millisecond)
		if n := out.lines(); n != 0 {
			t.Errorf("%d lines were written at once", n)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := out.lines(); n != 2 {
			t.Errorf("%d lines after the wait, want 2", n)
		}
	})
}

func TestAWarningIsWrittenAtOnceWithWhatCameBefore(t *testing.T) {
	out := &safeBuffer{}
	log := newLog(out, "info")
	log.Info("before")
	log.With("a", 1).WithGroup("g").Warn("now")
	if n := out.lines(); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
}

func TestNothingIsLostAtTheEnd(t *testing.T) {
	out := &safeBuffer{}
	log := newLog(out, "debug")
	for range 1000 {
		log.Debug("line", "text", strings.Repeat("x", 200))
	}
	log.flush()
	if n := out.lines(); n != 1000 {
		t.Errorf("%d lines, want 1000", n)
	}
	for line := range strings.Lines(out.b.String()) {
		if !json.Valid([]byte(line)) {
			t.Fatalf("not JSON: %s", line)
		}
	}
}

func TestTheLevelCounts(t *testing.T) {
	out := &safeBuffer{}
	log := newLog(out, "warn")
	log.Info("no")
	log.Warn("yes")
	log.flush()
	if n := out.lines(); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
}

// A failingWriter fails as often as it is told to.
type failingWriter struct {
	safeBuffer
	failures int
}

func (f *failingWriter) Write(p []byte) (int, error) {
	if f.failures > 0 {
		f.failures--
		return 0, errors.New("no space left on device")
	}
	return f.safeBuffer.Write(p)
}

func TestAFailedWriteDoesNotEndTheLog(t *testing.T) {
	out := &failingWriter{failures: 2}
	log := newLog(out, "info")
	log.Warn("lost")
	for range 500 {
		log.Info("fills the buffer, and is lost with it", "text", strings.Repeat("x", 200))
	}
	log.Warn("seen")
	log.flush()
	if n := out.lines(); n == 0 {
		t.Error("nothing was written any more after a failed write")
	}
}
