package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// flushAfter is how long a log line may wait for others to be written with.
const flushAfter = 100 * time.Millisecond

// logs are where the program logs to. Lines wait up to 100 ms, because a system
// call for each would cost more than the request; a warning or an error is
// written at once, with all that came before it.
type logs struct {
	*slog.Logger
	lines *lineBuffer // for lines that are ready made
}

// flush writes out what is buffered; it must be called last.
func (l *logs) flush() { l.lines.flush() }

// newLog returns logs of JSON lines to w at level.
func newLog(w io.Writer, level string) *logs {
	var l slog.Level
	if l.UnmarshalText([]byte(level)) != nil {
		l = slog.LevelInfo
	}
	out := &lineBuffer{out: bufio.NewWriterSize(w, 64<<10), to: w}
	handler := &flushingHandler{slog.NewJSONHandler(out, &slog.HandlerOptions{Level: l}), out}
	return &logs{slog.New(handler), out}
}

// A lineBuffer collects lines.
type lineBuffer struct {
	mu        sync.Mutex
	to        io.Writer
	out       *bufio.Writer
	scheduled bool
}

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.scheduled {
		b.scheduled = true
		time.AfterFunc(flushAfter, b.flush)
	}
	n, err := b.out.Write(p)
	if err != nil {
		b.out.Reset(b.to)
	}
	return n, err
}

func (b *lineBuffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.scheduled = false
	if b.out.Flush() != nil {
		// There is nowhere to report it. What could not be written is lost, but
		// a disk that was full for a moment must not end the log for good:
		// bufio.Writer would keep the error.
		b.out.Reset(b.to)
	}
}

// A flushingHandler writes everything out after a warning.
type flushingHandler struct {
	slog.Handler
	out *lineBuffer
}

func (h *flushingHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		h.out.flush()
	}
	return err
}

func (h *flushingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &flushingHandler{h.Handler.WithAttrs(attrs), h.out}
}

func (h *flushingHandler) WithGroup(name string) slog.Handler {
	return &flushingHandler{h.Handler.WithGroup(name), h.out}
}
