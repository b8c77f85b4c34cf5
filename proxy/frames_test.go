package proxy

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// frame returns a frame of a server with n bytes of payload.
func frame(opcode byte, n int) []byte {
	b := []byte{0x80 | opcode}
	switch {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, make([]byte, n)...)
}

// TestFramesEndWhereTheyDo, however the stream is cut into pieces.
func TestFramesEndWhereTheyDo(t *testing.T) {
	var stream []byte
	var want []int
	add := func(b []byte) {
		stream = append(stream, b...)
		want = append(want, len(stream))
	}
	for _, n := range []int{0, 1, 125, 126, 127, 300, 1<<16 - 1, 1 << 16, 70000} {
		add(frame(2, n))
	}
	add(append([]byte{0x82, 0x83}, make([]byte, 4+3)...)) // masked
	for _, size := range []int{1, 2, 3, 7, 1000, len(stream)} {
		var f frames
		var got []int
		at := 0
		for rest := stream; len(rest) > 0; {
			piece := rest[:min(size, len(rest))]
			for len(piece) > 0 {
				n := f.next(piece)
				f.advance(piece[:n])
				piece, rest, at = piece[n:], rest[n:], at+n
				if f.atBoundary() {
					got = append(got, at)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in pieces of %d: the frames end elsewhere (-want +got):\n%s", size, diff)
		}
	}
}

func TestACloseFrameIsNoticed(t *testing.T) {
	var f frames
	f.advance(frame(1, 8))
	if f.closed {
		t.Error("closed after a text frame, want open")
	}
	f.advance(frame(opClose, 2))
	if !f.closed {
		t.Error("open after a close frame, want closed")
	}
}
