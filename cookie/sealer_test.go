package cookie

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func key(b byte) []byte {
	k := bytes.Repeat([]byte{b}, KeySize)
	k[0] = ^b // a key of one repeated byte is refused
	return k
}

func sealer(t testing.TB, keys ...[]byte) *Sealer {
	t.Helper()
	ring, err := NewKeyRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSealer(ring)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t testing.TB, s *Sealer, name string, v any) string {
	t.Helper()
	value, err := s.Seal(name, v)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

type payload struct {
	Name  string `cbor:"1,keyasint"`
	Bytes []byte `cbor:"2,keyasint,omitempty"`
}

func TestSealedValuesOpenAgain(t *testing.T) {
	s := sealer(t, key(1))
	tests := []struct {
		name string
		in   payload
	}{
		{"short", payload{Name: "alice"}},
		{"empty", payload{}},
		{"long and compressible", payload{Name: strings.Repeat("alice ", 2000)}},
		{"just above the compression threshold", payload{Name: strings.Repeat("x", compressAbove)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got payload
			if err := s.Open("c", seal(t, s, "c", tt.in), &got); err != nil {
				t.Fatalf("Open: %v", err)
			}
			if got.Name != tt.in.Name {
				t.Errorf("Open = %q, want %q", got.Name, tt.in.Name)
			}
		})
	}
}

func TestEveryChangedCharacterIsRefused(t *testing.T) {
	s := sealer(t, key(1))
	value := seal(t, s, "c", payload{Name: "alice"})
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=\n\r ."
	for i := range len(value) {
		for _, c := range []byte(alphabet) {
			if c == value[i] {
				continue
			}
			changed := value[:i] + string(c) + value[i+1:]
			if err := s.Open("c", changed, &payload{}); !errors.Is(err, ErrInvalid) {
				t.Fatalf("character %d changed from %q to %q: error = %v, want ErrInvalid", i, value[i], c, err)
			}
			inserted := value[:i] + string(c) + value[i:]
			if err := s.Open("c", inserted, &payload{}); !errors.Is(err, ErrInvalid) {
				t.Fatalf("%q inserted at %d: error = %v, want ErrInvalid", c, i, err)
			}
		}
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	s := sealer(t, key(1))
	value := seal(t, s, "c", payload{Name: "alice"})
	for i := range len(value) {
		for _, cut := range []string{value[:i], value[i+1:]} {
			if err := s.Open("c", cut, &payload{}); !errors.Is(err, ErrInvalid) {
				t.Fatalf("cut at %d: error = %v, want ErrInvalid", i, err)
			}
		}
	}
}

func TestAValueIsBoundToItsName(t *testing.T) {
	s := sealer(t, key(1))
	value := seal(t, s, "flow", payload{Name: "alice"})
	if err := s.Open("session", value, &payload{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a value of another cookie: error = %v, want ErrInvalid", err)
	}
}

func TestKeyRotation(t *testing.T) {
	old := sealer(t, key(1))
	value := seal(t, old, "c", payload{Name: "alice"})
	tests := []struct {
		name string
		ring *Sealer
		want error
	}{
		{"appended key: old values open", sealer(t, key(1), key(2)), nil},
		{"promoted key: old values open", sealer(t, key(2), key(1)), nil},
		{"dropped key: old values are refused", sealer(t, key(2)), ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.ring.Open("c", value, &payload{}); !errors.Is(err, tt.want) {
				t.Errorf("Open = %v, want %v", err, tt.want)
			}
		})
	}

	promoted := seal(t, sealer(t, key(2), key(1)), "c", payload{Name: "bob"})
	if err := old.Open("c", promoted, &payload{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("the first key does not seal: a ring without it opened the value, error = %v", err)
	}
}

func TestRingRefusesWeakKeys(t *testing.T) {
	tests := []struct {
		name string
		keys [][]byte
	}{
		{"no key", nil},
		{"short key", [][]byte{make([]byte, 16)}},
		{"placeholder", [][]byte{bytes.Repeat([]byte{'X'}, KeySize)}},
		{"all zero", [][]byte{make([]byte, KeySize)}},
		{"twice the same", [][]byte{key(1), key(1)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewKeyRing(tt.keys...)
			if err == nil {
				t.Fatal("NewKeyRing accepted it")
			}
			if strings.Contains(err.Error(), "XXXX") {
				t.Errorf("the message holds the key: %v", err)
			}
		})
	}
}

func TestDerivedSecretsDiffer(t *testing.T) {
	ring, _ := NewKeyRing(key(1), key(2))
	a, err := ring.Derive("a", 32)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := ring.Derive("b", 32)
	again, _ := ring.Derive("a", 32)
	if bytes.Equal(a[0], a[1]) || bytes.Equal(a[0], b[0]) {
		t.Error("two keys or two purposes derive the same bytes")
	}
	if !bytes.Equal(a[0], again[0]) {
		t.Error("the same key and purpose derive different bytes")
	}
}

func TestValuesAreEncrypted(t *testing.T) {
	ring, _ := NewKeyRing(key(1))
	s, _ := NewSealer(ring)
	a, b := seal(t, s, "c", payload{Name: "alice"}), seal(t, s, "c", payload{Name: "alice"})
	if a == b {
		t.Error("sealing twice gives the same text: the IV is not random")
	}
}

// FuzzOpen feeds hostile text to Open: it must refuse without panicking
// whatever Seal did not make.
func FuzzOpen(f *testing.F) {
	s := sealer(f, key(1), key(2))
	f.Add(seal(f, s, "c", payload{Name: "alice"}))
	f.Add("")
	f.Add("AAAA")
	f.Add(strings.Repeat("=", 100))
	f.Fuzz(func(t *testing.T, value string) {
		var p payload
		if s.Open("c", value, &p) == nil && p.Name != "alice" {
			t.Errorf("Open accepted %q", value)
		}
	})
}

// FuzzDeserialize stands for the day a key leaks: what runs behind the MAC must
// not panic or take unbounded memory either.
func FuzzDeserialize(f *testing.F) {
	s, err := newSerializer()
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []payload{{Name: "alice"}, {Name: strings.Repeat("a", 5000)}} {
		b, err := s.Serialize(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p payload
		if s.Deserialize(b, &p) == nil && len(p.Name) > maxPlain {
			t.Errorf("%d bytes came out, more than %d", len(p.Name), maxPlain)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	s := sealer(b, key(1))
	value := seal(b, s, "c", payload{Name: "alice", Bytes: make([]byte, 300)})
	b.ReportAllocs()
	for b.Loop() {
		var p payload
		if err := s.Open("c", value, &p); err != nil {
			b.Fatal(err)
		}
	}
}
