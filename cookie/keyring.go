package cookie

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
)

// KeySize is the length of a key of the ring, in bytes.
const KeySize = 32

// A KeyRing is an ordered list of secret keys. The first one seals, all of them
// open: a key is rotated by appending the new one everywhere, then moving it to
// the front, then dropping the old one once nothing sealed with it matters.
type KeyRing struct {
	keys [][]byte
}

// NewKeyRing returns the ring of keys, which must be at least one, each of
// [KeySize] bytes, no two alike and none of one repeated byte (the mark of a
// placeholder).
func NewKeyRing(keys ...[]byte) (*KeyRing, error) {
	if len(keys) == 0 {
		return nil, errors.New("cookie: the key ring is empty; make a key with: authproxy keys new")
	}
	for i, key := range keys {
		if len(key) != KeySize {
			return nil, fmt.Errorf("cookie: key %d has %d bytes, want %d; make one with: authproxy keys new", i+1, len(key), KeySize)
		}
		if repeated(key) {
			return nil, fmt.Errorf("cookie: key %d is one byte repeated; make a random one with: authproxy keys new", i+1)
		}
		for j, other := range keys[:i] {
			if subtle.ConstantTimeCompare(key, other) == 1 {
				return nil, fmt.Errorf("cookie: keys %d and %d are the same", j+1, i+1)
			}
		}
	}
	return &KeyRing{keys: keys}, nil
}

func repeated(key []byte) bool {
	for _, b := range key {
		if b != key[0] {
			return false
		}
	}
	return true
}

// NewKey returns a fresh random key in standard base64, as a configuration
// holds it.
func NewKey() string {
	key := make([]byte, KeySize)
	rand.Read(key) // never fails: crypto/rand ends the program instead
	return base64.StdEncoding.EncodeToString(key)
}

// Derive returns n bytes for purpose from each key, in the ring's order, by
// HKDF with SHA-256 (RFC 5869). Replicas that share the ring derive the same
// bytes. Distinct purposes give independent secrets, so that what one of them
// leaks says nothing of another.
func (r *KeyRing) Derive(purpose string, n int) ([][]byte, error) {
	out := make([][]byte, len(r.keys))
	for i, key := range r.keys {
		derived, err := hkdf.Key(sha256.New, key, nil, "authproxy "+purpose, n)
		if err != nil {
			return nil, fmt.Errorf("cookie: derive %s: %w", purpose, err)
		}
		out[i] = derived
	}
	return out, nil
}
