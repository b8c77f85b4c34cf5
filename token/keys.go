package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"math/big"
)

// SecretSize is the length in bytes of the secret that a signing key is made
// from: 64 bits more than the order of P-256, so that reducing it leaves no
// bias worth speaking of (FIPS 186-5, appendix A.2.1).
const SecretSize = 40

// deriveKey makes the P-256 key of secret, always the same one, by "extra
// random bits" (FIPS 186-5, appendix A.2.1): d = (c mod (n-1)) + 1. Replicas
// that share the secret sign with the same key and publish the same JWKS
// without ever talking to each other.
func deriveKey(secret []byte) (*ecdsa.PrivateKey, error) {
	if len(secret) != SecretSize {
		return nil, fmt.Errorf("token: a key's secret has %d bytes, want %d", len(secret), SecretSize)
	}
	order := new(big.Int).Sub(elliptic.P256().Params().N, big.NewInt(1))
	d := new(big.Int).SetBytes(secret)
	d.Mod(d, order).Add(d, big.NewInt(1))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, 32)))
	if err != nil {
		return nil, errors.New("token: cannot derive a signing key")
	}
	return key, nil
}
