package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	gojwt "github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func secret(b byte) []byte { return bytes.Repeat([]byte{b}, SecretSize) }

func issuer(t testing.TB, secrets ...[]byte) *Issuer {
	t.Helper()
	i, err := New(Config{
		Issuer: "https://app.example.com/auth", Audience: "https://app.example.com",
		TTL: 15 * time.Minute, Secrets: secrets, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func alice() Claims {
	return Claims{Subject: "4c1e7e54-0000-5000-8000-000000000001", SessionID: "s1", Email: "alice@example.com",
		EmailVerified: true, Groups: []string{"staff"}, Roles: []string{"admin"}, AuthTime: now.Unix(), Version: 1}
}

func mint(t testing.TB, i *Issuer) string {
	t.Helper()
	raw, _, err := i.Mint(alice(), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestMintedTokensVerify(t *testing.T) {
	i := issuer(t, secret(1))
	got, err := i.Verify(mint(t, i))
	if err != nil {
		t.Fatal(err)
	}
	want := alice()
	want.Issuer, want.Audience, want.Role = "https://app.example.com/auth", "https://app.example.com", "authenticated"
	want.IssuedAt, want.Expiry, want.ID = now.Unix(), now.Add(15*time.Minute).Unix(), got.ID
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

// Another library, knowing nothing but the published set, must come to the same
// answer.
func TestTokensVerifyWithAnotherLibrary(t *testing.T) {
	i := issuer(t, secret(1), secret(2))
	body, _ := i.JWKS()
	var set struct {
		Keys []struct{ Kid, Kty, Crv, X, Y, Alg, Use, D string }
	}
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 2 {
		t.Fatalf("%d keys published, want 2", len(set.Keys))
	}
	find := func(tok *gojwt.Token) (any, error) {
		for _, k := range set.Keys {
			if k.D != "" {
				t.Error("a private key is published")
			}
			if k.Kid == tok.Header["kid"] {
				x, _ := base64.RawURLEncoding.DecodeString(k.X)
				y, _ := base64.RawURLEncoding.DecodeString(k.Y)
				return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
			}
		}
		return nil, errors.New("no such key")
	}
	parsed, err := gojwt.Parse(mint(t, i), find, gojwt.WithValidMethods([]string{"ES256"}),
		gojwt.WithIssuer("https://app.example.com/auth"), gojwt.WithAudience("https://app.example.com"),
		gojwt.WithExpirationRequired(), gojwt.WithTimeFunc(func() time.Time { return now }))
	if err != nil || !parsed.Valid {
		t.Errorf("golang-jwt: %v", err)
	}
}

func TestReplicasAgreeOnKeys(t *testing.T) {
	a, b := issuer(t, secret(1)), issuer(t, secret(1))
	if _, err := b.Verify(mint(t, a)); err != nil {
		t.Errorf("a replica with the same secret refuses the token: %v", err)
	}
	aSet, aTag := a.JWKS()
	bSet, bTag := b.JWKS()
	if !bytes.Equal(aSet, bSet) || aTag != bTag {
		t.Error("replicas publish different sets")
	}
	_, otherTag := issuer(t, secret(2)).JWKS()
	if otherTag == aTag {
		t.Error("another set has the same entity tag")
	}
}

func TestKeyRotation(t *testing.T) {
	old := issuer(t, secret(1))
	raw := mint(t, old)
	if _, err := issuer(t, secret(2), secret(1)).Verify(raw); err != nil {
		t.Errorf("after promotion the old key's token is refused: %v", err)
	}
	if _, err := issuer(t, secret(2)).Verify(raw); !errors.Is(err, ErrInvalid) {
		t.Errorf("after the key is dropped: error = %v, want ErrInvalid", err)
	}
	promoted := mint(t, issuer(t, secret(2), secret(1)))
	if _, err := old.Verify(promoted); !errors.Is(err, ErrInvalid) {
		t.Errorf("the first key does not sign: %v", err)
	}
}

func TestATokenNeverOutlivesItsSession(t *testing.T) {
	i := issuer(t, secret(1))
	_, exp, err := i.Mint(alice(), now.Add(time.Minute))
	if err != nil || !exp.Equal(now.Add(time.Minute)) {
		t.Errorf("exp = %v, %v, want the session's end", exp, err)
	}
	for _, end := range []time.Time{now, now.Add(-time.Second), {}} {
		if _, _, err := i.Mint(alice(), end); err == nil {
			t.Errorf("minted for a session that ended at %v", end)
		}
	}
}

// resign returns raw with edit applied to its claims, signed with the first key
// of secrets.
func resign(t *testing.T, s []byte, alg jose.SignatureAlgorithm, typ string, edit func(map[string]any)) string {
	t.Helper()
	i := issuer(t, s)
	private, err := deriveKey(s)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	payload := strings.Split(mint(t, i), ".")[1]
	b, _ := base64.RawURLEncoding.DecodeString(payload)
	if err := json.Unmarshal(b, &claims); err != nil {
		t.Fatal(err)
	}
	for name, value := range claims {
		if f, ok := value.(float64); ok {
			claims[name] = int64(f) // go-jose writes large floats with an exponent
		}
	}
	if edit != nil {
		edit(claims)
	}
	kid := ""
	for kid = range i.keys {
	}
	var key any = private
	switch alg {
	case jose.HS256:
		key = []byte(kid + strings.Repeat("x", 32))
	case jose.RS256:
		if key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}},
		(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestForgedAndForeignTokensAreRefused(t *testing.T) {
	i := issuer(t, secret(1))
	good := mint(t, i)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	set := func(key string, value any) func(map[string]any) {
		return func(c map[string]any) { c[key] = value }
	}
	tests := []struct{ name, raw string }{
		{"empty", ""},
		{"text", "Bearer"},
		{"two parts", parts[0] + "." + parts[1]},
		{"no signature", parts[0] + "." + parts[1] + "."},
		{"algorithm none", none + "." + parts[1] + "."},
		{"algorithm none with the signature", none + "." + parts[1] + "." + parts[2]},
		{"another payload", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`)) + "." + parts[2]},
		{"HS256", resign(t, secret(1), jose.HS256, "JWT", nil)},
		{"RS256", resign(t, secret(1), jose.RS256, "JWT", nil)},
		{"a foreign key", mint(t, issuer(t, secret(9)))},
		{"another type", resign(t, secret(1), jose.ES256, "logout+jwt", nil)},
		{"another issuer", resign(t, secret(1), jose.ES256, "JWT", set("iss", "https://evil.example.com/auth"))},
		{"another audience", resign(t, secret(1), jose.ES256, "JWT", set("aud", "https://billing.example.com"))},
		{"expired this second", resign(t, secret(1), jose.ES256, "JWT", set("exp", now.Unix()))},
		{"no expiry", resign(t, secret(1), jose.ES256, "JWT", func(c map[string]any) { delete(c, "exp") })},
		{"issued in the future", resign(t, secret(1), jose.ES256, "JWT", set("iat", now.Add(2*time.Minute).Unix()))},
		{"no subject", resign(t, secret(1), jose.ES256, "JWT", set("sub", ""))},
		{"no session", resign(t, secret(1), jose.ES256, "JWT", func(c map[string]any) { delete(c, "sid") })},
		{"too long, though genuine", resign(t, secret(1), jose.ES256, "JWT", set("name", strings.Repeat("a", maxToken)))},
		{"many dots", strings.Repeat(".", 10000)},
	}
	if _, err := i.Verify(resign(t, secret(1), jose.ES256, "JWT", nil)); err != nil {
		t.Fatalf("the unedited token is refused, so the rows below prove nothing: %v", err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := i.Verify(tt.raw); !errors.Is(err, ErrInvalid) {
				t.Errorf("error = %v, want ErrInvalid", err)
			}
		})
	}
}

func TestNewRefusesHalfAConfiguration(t *testing.T) {
	full := Config{Issuer: "i", Audience: "a", TTL: time.Minute, Secrets: [][]byte{secret(1)}}
	tests := []struct {
		name string
		edit func(*Config)
	}{
		{"no issuer", func(c *Config) { c.Issuer = "" }},
		{"no audience", func(c *Config) { c.Audience = "" }},
		{"no ttl", func(c *Config) { c.TTL = 0 }},
		{"no secret", func(c *Config) { c.Secrets = nil }},
		{"short secret", func(c *Config) { c.Secrets = [][]byte{make([]byte, 32)} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := full
			tt.edit(&c)
			if _, err := New(c); err == nil {
				t.Error("New accepted it")
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	i := issuer(f, secret(1))
	f.Add(mint(f, i))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, raw string) {
		if c, err := i.Verify(raw); err == nil && c.Subject != alice().Subject {
			t.Errorf("Verify accepted %q", raw)
		}
	})
}

func BenchmarkMint(b *testing.B) {
	i := issuer(b, secret(1))
	b.ReportAllocs()
	for b.Loop() {
		mint(b, i)
	}
}

func BenchmarkVerify(b *testing.B) {
	i := issuer(b, secret(1))
	raw := mint(b, i)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Verify(raw); err != nil {
			b.Fatal(err)
		}
	}
}
