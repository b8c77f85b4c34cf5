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
