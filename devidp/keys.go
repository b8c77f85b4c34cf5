package devidp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// maxOldKeys bounds what RotateKeys(true) keeps.
const maxOldKeys = 8

// Keys are one generation of signing keys, for RS256 and for ES256. Both are
// published, so that an ID token can be signed with either.
type Keys struct {
	rsa jose.JSONWebKey
	ec  jose.JSONWebKey
}

// A keyRing holds the generation that signs and those before it that are
// still published.
type keyRing struct {
	mu          sync.Mutex
	generations []*Keys // the first one signs
}

// RotateKeys makes new signing keys. The old ones stay published when keepOld
// is true (at most the last 8); otherwise what they signed can no longer be
// verified.
func (s *Server) RotateKeys(keepOld bool) {
	keys := NewKeys()
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	var old []*Keys
	if keepOld {
		old = s.keys.generations[:min(len(s.keys.generations), maxOldKeys)]
	}
	s.keys.generations = append([]*Keys{keys}, old...)
}

// NewKeys makes new keys. It panics when there is no key to be had: crypto/rand never
// fails, and these sizes and curves are always possible.
func NewKeys() *Keys {
	rsaKey, rsaErr := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, ecErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(rsaErr, ecErr); err != nil {
		panic(fmt.Sprintf("devidp: make a key: %v", err))
	}
	return &Keys{
		rsa: jose.JSONWebKey{Key: rsaKey, KeyID: rand.Text(), Algorithm: "RS256", Use: "sig"},
		ec:  jose.JSONWebKey{Key: ecKey, KeyID: rand.Text(), Algorithm: "ES256", Use: "sig"},
	}
}

// public returns the key set of the jwks_uri.
func (k *keyRing) public() jose.JSONWebKeySet {
	k.mu.Lock()
	defer k.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, pair := range k.generations {
		set.Keys = append(set.Keys, pair.rsa.Public(), pair.ec.Public())
	}
	return set
}

func (k *keyRing) current() *Keys {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.generations[0]
}

// sign returns claims as a JWT of type typ. alg is a value of [Faults.Alg].
func (k *keyRing) sign(alg, typ string, claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("devidp: encode claims: %w", err)
	}
	pair := k.current()
	switch alg {
	case "", "RS256":
		return signWith(jose.SigningKey{Algorithm: jose.RS256, Key: pair.rsa.Key}, pair.rsa.KeyID, typ, payload)
	case "ES256":
		return signWith(jose.SigningKey{Algorithm: jose.ES256, Key: pair.ec.Key}, pair.ec.KeyID, typ, payload)
	case "HS256-public":
		secret, err := publicPEM(pair.rsa)
		if err != nil {
			return "", err
		}
		return signWith(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, pair.rsa.KeyID, typ, payload)
	case "none":
		encode := base64.RawURLEncoding.EncodeToString
		return encode([]byte(`{"alg":"none","typ":"`+typ+`"}`)) + "." + encode(payload) + ".", nil
	}
	return "", fmt.Errorf("devidp: unknown algorithm %q in Faults.Alg", alg)
}

// signWith names the key itself: go-jose leaves the kid of an HMAC key out, and
// the forgery needs one.
func signWith(key jose.SigningKey, kid, typ string, payload []byte) (string, error) {
	options := (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", kid)
	signer, err := jose.NewSigner(key, options)
	if err != nil {
		return "", fmt.Errorf("devidp: make a signer: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("devidp: sign: %w", err)
	}
	return signed.CompactSerialize()
}

func publicPEM(key jose.JSONWebKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public().Key)
	if err != nil {
		return nil, fmt.Errorf("devidp: encode the public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// audienceOf returns the audience of an ID token of ours, expired or not: as a
// hint at sign-out it only says for whom it was made. It fails when the token
// is not signed with a key that is still published.
func (k *keyRing) audienceOf(issuer, raw string) ([]string, error) {
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		return nil, fmt.Errorf("devidp: read the ID token: %w", err)
	}
	var claims jwt.Claims
	keys := k.public()
	if err := token.Claims(&keys, &claims); err != nil {
		return nil, fmt.Errorf("devidp: verify the ID token: %w", err)
	}
	if claims.Issuer != issuer {
		return nil, errors.New("devidp: the ID token has another issuer")
	}
	return slices.Clone(claims.Audience), nil
}

func (s *Server) serveJWKS(w http.ResponseWriter, _ *http.Request, _ *Faults) error {
	writeJSON(w, http.StatusOK, s.keys.public())
	return nil
}
