// Package cookie keeps secrets in the browser: it seals values under a ring of
// keys ([Sealer]), and writes, splits, finds and removes the cookies that hold
// them ([Jar]).
//
// A sealed value can be neither read nor changed without a key of the ring, and
// it is bound to its cookie's name, so that a value of one cookie is worthless
// in another. What it does not promise is freshness: a sealed value carries no
// expiry of its own. Whoever seals a value puts its clocks inside and judges
// them when it is opened.
package cookie

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
	"github.com/gorilla/securecookie"
	"github.com/klauspost/compress/zstd"
)

// ErrInvalid is returned by [Sealer.Open] for whatever it cannot open: a value
// that was cut, changed, sealed under another name or with a key that has left
// the ring. There is one error for all of them, so that an answer tells an
// attacker nothing.
var ErrInvalid = errors.New("cookie: invalid value")

// A Sealer seals and opens values with gorilla/securecookie: AES-256 in CTR
// mode, then HMAC-SHA-256 over name, time and ciphertext. It is safe for
// concurrent use.
type Sealer struct {
	codecs []*securecookie.SecureCookie // one a key; the first seals
}

// NewSealer returns a Sealer for the keys of ring.
func NewSealer(ring *KeyRing) (*Sealer, error) {
	hashKeys, err := ring.Derive("cookie hmac", 32)
	if err != nil {
		return nil, err
	}
	blockKeys, err := ring.Derive("cookie aes", 32)
	if err != nil {
		return nil, err
	}
	serializer, err := newSerializer()
	if err != nil {
		return nil, err
	}
	s := &Sealer{}
	for i := range hashKeys {
		codec := securecookie.New(hashKeys[i], blockKeys[i])
		codec.SetSerializer(serializer)
		codec.MaxLength(0) // a Jar splits what is long
		codec.MaxAge(0)    // clocks are inside the value
		s.codecs = append(s.codecs, codec)
	}
	return s, nil
}

// Seal returns v, which must be a value that CBOR can hold, sealed for name.
// The result is base64url text and fits a cookie's value and a URL's query.
func (s *Sealer) Seal(name string, v any) (string, error) {
	value, err := s.codecs[0].Encode(name, v)
	if err != nil {
		return "", fmt.Errorf("cookie: seal: %w", err)
	}
	return value, nil
}

// Open opens a value that was sealed for name into v, which must be a pointer.
// It returns [ErrInvalid] if no key of the ring opens it.
func (s *Sealer) Open(name, value string, v any) error {
	if !canonical(value) {
		return ErrInvalid
	}
	for _, codec := range s.codecs {
		if codec.Decode(name, value, v) == nil {
			return nil
		}
	}
	return ErrInvalid
}

// Current opens a value as [Sealer.Open] does, but with the first key alone: it
// says whether value was sealed with the key that seals now.
func (s *Sealer) Current(name, value string, v any) bool {
	return canonical(value) && s.codecs[0].Decode(name, value, v) == nil
}

// Keys returns how many keys open values.
func (s *Sealer) Keys() int { return len(s.codecs) }

// canonical says whether value is the one base64url spelling of its bytes.
// encoding/base64 skips line breaks and takes any trailing bits, so that one
// sealed value would have several spellings, and a list of refused ones a hole.
func canonical(value string) bool {
	for i := range len(value) {
		if value[i] == '\n' || value[i] == '\r' {
			return false
		}
	}
	_, err := base64.URLEncoding.Strict().DecodeString(value)
	return err == nil && value != ""
}

// compressAbove is the plaintext size in bytes above which compression pays.
const compressAbove = 512

// maxPlain bounds a plaintext in bytes. It is four full cookies' worth several
// times over; nothing that was sealed here is longer.
const maxPlain = 64 << 10

const (
	plainCBOR = 0 // first byte of a plaintext: CBOR follows
	zstdCBOR  = 1 // first byte of a plaintext: CBOR in a zstd frame follows
)

// serializer turns values into compact bytes for securecookie. It runs on
// plaintext that the MAC has already vouched for; the limits are there for the
// day that a key leaks.
type serializer struct {
	enc  cbor.EncMode
	dec  cbor.DecMode
	zip  *zstd.Encoder
	zout *zstd.Decoder
}

func newSerializer() (*serializer, error) {
	enc, err := cbor.EncOptions{}.EncMode()
	if err != nil {
		return nil, err
	}
	dec, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		MaxNestedLevels:  8,
		MaxArrayElements: maxPlain,
		MaxMapPairs:      maxPlain,
		// In an any: what encoding/json makes too, and signed numbers.
		DefaultMapType: reflect.TypeFor[map[string]any](),
		IntDec:         cbor.IntDecConvertSignedOrFail,
	}.DecMode()
	if err != nil {
		return nil, err
	}
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(32<<10), zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		return nil, err
	}
	zout, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPlain))
	if err != nil {
		return nil, err
	}
	return &serializer{enc: enc, dec: dec, zip: zip, zout: zout}, nil
}

func (s *serializer) Serialize(v any) ([]byte, error) {
	raw, err := s.enc.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxPlain {
		return nil, fmt.Errorf("%d bytes are more than the %d that a sealed value may have", len(raw), maxPlain)
	}
	if len(raw) > compressAbove {
		if zipped := s.zip.EncodeAll(raw, []byte{zstdCBOR}); len(zipped) <= len(raw) {
			return zipped, nil
		}
	}
	return append([]byte{plainCBOR}, raw...), nil
}

func (s *serializer) Deserialize(b []byte, v any) error {
	if len(b) == 0 {
		return errors.New("empty plaintext")
	}
	raw := b[1:]
	switch b[0] {
	case plainCBOR:
	case zstdCBOR:
		var err error
		if raw, err = s.zout.DecodeAll(raw, nil); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown format %d", b[0])
	}
	return s.dec.Unmarshal(raw, v)
}
