package session

import "time"

// BlindAfter lets tests count with it.
const BlindAfter = blindAfter

// Blind says whether a channel is blind that long after its last word, when the
// wall clock was set back by that much meanwhile.
func Blind(since, back time.Duration) bool {
	base := time.Now()
	c := newChannel(base)
	c.advance(base)
	c.wall.Store(base.UnixNano() + int64(back))
	return c.blind(base.Add(since))
}

// AnswerAgain lets the next check of s join a reading that found it just now, and
// is about to be forgotten. done forgets it.
func AnswerAgain(m *Manager, s *Session) (done func()) {
	t, q := m.stored, question{token: s.held.token}
	a := &answer{done: make(chan struct{}), asOf: t.Now(), h: s.held, s: s}
	close(a.done)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asking[q] = a
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.asking, q)
	}
}

// SetBack makes it look to s as if the clock had been set back since the store was
// asked about it.
func SetBack(s *Session, by time.Duration) { s.held.read.Add(by.Milliseconds()) }
