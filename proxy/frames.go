package proxy

import "encoding/binary"

// opClose is the opcode of a close frame (RFC 6455, section 5.2).
const opClose = 8

// frames follows a stream of WebSocket frames, to know where one ends. It looks
// at their headers only. The zero value stands before the first frame.
type frames struct {
	header  [14]byte
	have    int    // bytes of header that are there; 0 outside of a header
	payload uint64 // bytes of the frame that are still to come
	closed  bool   // a close frame began: no other may follow
}

// atBoundary says whether a frame has ended and no other has begun.
func (f *frames) atBoundary() bool { return f.have == 0 && f.payload == 0 }

// advance moves past b.
func (f *frames) advance(b []byte) {
	for len(b) > 0 {
		b = b[f.consume(b):]
	}
}

// next returns how many bytes of b belong to the frame that is under way, or
// that begins with b. It changes nothing.
func (f *frames) next(b []byte) int {
	ahead := *f
	return ahead.consume(b)
}

// consume moves past what of b belongs to one frame, and returns how much that
// is.
func (f *frames) consume(b []byte) int {
	n := 0
	if f.payload == 0 {
		for n < len(b) && f.have < f.headerSize() {
			f.header[f.have] = b[n]
			f.have++
			n++
		}
		if f.have < f.headerSize() {
			return n
		}
		f.payload, f.have = f.length(), 0
		f.closed = f.closed || f.header[0]&0x0f == opClose
	}
	part := min(f.payload, uint64(len(b)-n))
	f.payload -= part
	return n + int(part)
}

// headerSize returns how long the header is, as far as it is known.
func (f *frames) headerSize() int {
	if f.have < 2 {
		return 2
	}
	size := 2
	switch f.header[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if f.header[1]&0x80 != 0 { // no server masks, but one that does has a key here
		size += 4
	}
	return size
}

// length returns the length of the payload. The header is complete.
func (f *frames) length() uint64 {
	switch short := f.header[1] & 0x7f; short {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.header[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.header[2:])
	default:
		return uint64(short)
	}
}
