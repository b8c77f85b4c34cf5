package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

// Close codes of WebSocket (RFC 6455, section 7.4.1).
const (
	closeGoingAway = 1001
	closePolicy    = 1008
)

// closeGrace is how long a client has to read the close frame, and an upstream to
// finish the frame in which it was interrupted.
const closeGrace = 500 * time.Millisecond

// An upgraded is the client's side of a connection that speaks another protocol
// now. Once it is to end, nothing that the client sends reaches the upstream any
// more. On a WebSocket the client gets a close frame after the frame that is under
// way; any other protocol is cut off.
type upgraded struct {
	net.Conn
	webSocket bool
	done      chan struct{} // closed when the exchange is over
	until     time.Time     // zero for no end of its own
	grace     time.Duration // see closeGrace
	cancel    context.CancelCauseFunc
	big       httputil.BufferPool // buffers of bufferSize
	ending    atomic.Uint32       // the close code, once it is to end

	mu     sync.Mutex // held to write
	begun  bool       // the answer to the upgrade was written, frames follow
	closed bool       // the last frame was written
	frames frames
}

// end closes the connection: a WebSocket at once for what the client sends, after
// a close frame with code for what it gets, and altogether after closeGrace; any
// other one at once. Only the first call counts.
func (c *upgraded) end(code uint16) {
	if !c.ending.CompareAndSwap(0, uint32(code)) {
		return
	}
	if !c.webSocket {
		c.cut()
		return
	}
	time.AfterFunc(c.grace, c.cut)
	go func() { // a client that does not read holds up a Write until then
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sayGoodbye()
	}()
}

// cut closes both sides.
func (c *upgraded) cut() {
	c.Close()
	c.cancel(errSessionOver) // closes the upstream's side
}

// sayGoodbye writes the close frame if it is time to. The caller holds mu.
func (c *upgraded) sayGoodbye() {
	code := c.ending.Load()
	if code == 0 || !c.webSocket || !c.begun || c.closed || !c.frames.atBoundary() {
		return
	}
	c.closed = true
	if !c.frames.closed { // else the upstream has said goodbye itself
		c.Conn.Write([]byte{0x80 | opClose, 2, byte(code >> 8), byte(code)}) // a client that is gone needs none
	}
}

// begin notes that frames follow.
func (c *upgraded) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = true
	c.sayGoodbye()
}

// Write sends what the upstream sends, on a WebSocket up to the end of the frame
// after which the connection ends. What comes after that goes nowhere.
func (c *upgraded) Write(b []byte) (int, error) {
	if !c.webSocket {
		return c.Conn.Write(b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for rest := b; len(rest) > 0 && !c.closed; {
		part := rest
		if c.ending.Load() != 0 {
			part = rest[:c.frames.next(rest)]
		}
		n, err := c.Conn.Write(part)
		c.frames.advance(part[:n])
		if err != nil {
			return len(b) - len(rest) + n, err
		}
		rest = rest[n:]
		c.sayGoodbye()
	}
	return len(b), nil
}

// Read returns what the client sends, and nothing once the connection is to end.
func (c *upgraded) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || c.ending.Load() == 0 {
			return n, err
		}
	}
}

// WriteTo implements io.WriterTo: the client's bytes go to the upstream.
func (c *upgraded) WriteTo(upstream io.Writer) (int64, error) {
	c.begin()
	return c.relay(upstream, c)
}

// ReadFrom implements io.ReaderFrom: the upstream's bytes go to the client.
func (c *upgraded) ReadFrom(upstream io.Reader) (int64, error) {
	c.begin()
	return c.relay(c, upstream)
}

// CloseWrite tells the client that nothing more comes.
func (c *upgraded) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// smallBuffer is what an idle connection holds for each direction, in bytes. Most
// WebSockets say little, and there are many of them.
const smallBuffer = 2 << 10

// relay copies from src to dst until one of them ends. It borrows a big buffer
// while there is much to copy.
func (c *upgraded) relay(dst io.Writer, src io.Reader) (total int64, err error) {
	small := make([]byte, smallBuffer)
	for {
		n, err := copyOnce(dst, src, small)
		total += n
		if err == nil && n == smallBuffer {
			n, err = c.relayMuch(dst, src)
			total += n
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// relayMuch copies with a big buffer for as long as a small one would not do.
func (c *upgraded) relayMuch(dst io.Writer, src io.Reader) (total int64, err error) {
	b := c.big.Get()
	defer c.big.Put(b)
	for {
		n, err := copyOnce(dst, src, b)
		total += n
		if err != nil || n <= smallBuffer {
			return total, err
		}
	}
}

// copyOnce reads once from src and writes that to dst.
func copyOnce(dst io.Writer, src io.Reader, b []byte) (int64, error) {
	n, readErr := src.Read(b)
	if n > 0 {
		if _, err := dst.Write(b[:n]); err != nil {
			return 0, err
		}
	}
	return int64(n), readErr
}
