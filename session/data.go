package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrData is returned by [Manager.SetData] for data that is not a JSON object, is
// too long, or holds what not every store can: a NUL, half of a surrogate pair, or
// a number that is none of a float64.
var ErrData = errors.New("session: data must be a JSON object of at most 4096 bytes, of texts in Unicode without NUL and of numbers within a float64")

// MaxData bounds what an application may keep in a session, in bytes.
const MaxData = 4096

// SetData replaces what the application keeps in s. It fails with [ErrData],
// [ErrNone], [ErrNoStore], or an error that wraps [ErrUnavailable].
func (m *Manager) SetData(ctx context.Context, s *Session, data json.RawMessage) error {
	if !validData(data) {
		return ErrData
	}
	if m.stored == nil {
		return ErrNoStore
	}
	return m.stored.setData(ctx, s, data)
}

func (t *stored) setData(ctx context.Context, s *Session, data json.RawMessage) error {
	ctx, cancel := context.WithTimeout(ctx, t.StoreTimeout)
	defer cancel()
	now := t.Now().Truncate(time.Millisecond).UTC()
	err := t.patiently(ctx, "set_data", func(ctx context.Context) error { return t.Store.SetData(ctx, s.ID, data, now) })
	if errors.Is(err, ErrNone) {
		t.kill(s.ID)
	}
	t.forget(Change{Sessions: []string{s.ID}})
	return err
}

// validData says whether an application may keep data. What PostgreSQL's jsonb
// cannot hold is refused for every store, so that an application works with all of
// them (JSON Types, "JSON Primitive Types and Corresponding PostgreSQL Types").
func validData(data []byte) bool {
	var object map[string]json.RawMessage
	if len(data) > MaxData || !utf8.Valid(data) || json.Unmarshal(data, &object) != nil || object == nil {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return errors.Is(err, io.EOF) && validEscapes(data)
		}
		if n, ok := token.(json.Number); ok && !validNumber(n.String()) {
			return false
		}
	}
}

// validNumber says whether a float64 can be about n: neither too big for it nor so
// small that it would be zero.
func validNumber(n string) bool {
	f, err := strconv.ParseFloat(n, 64)
	digits, _, _ := strings.Cut(strings.ToLower(n), "e")
	return err == nil && (f != 0 || !strings.ContainsAny(digits, "123456789"))
}

// validEscapes says whether each \u in data, which is JSON, is a character:
// neither NUL nor half of a surrogate pair (RFC 8259, section 7).
func validEscapes(data []byte) bool {
	for at := bytes.IndexByte(data, '\\'); at >= 0; at = bytes.IndexByte(data, '\\') {
		data = data[at:]
		if data[1] != 'u' {
			data = data[2:]
			continue
		}
		r := escaped(data)
		data = data[6:]
		if utf16.IsSurrogate(r) {
			if r = utf16.DecodeRune(r, escaped(data)); r == utf8.RuneError {
				return false
			}
			data = data[6:]
		}
		if r == 0 {
			return false
		}
	}
	return true
}

// escaped returns what the escape at the beginning of data, \u and four hex digits,
// stands for, 0 where there is none.
func escaped(data []byte) rune {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(data[2:6]), 16, 32)
	if err != nil {
		return 0
	}
	return rune(n)
}
