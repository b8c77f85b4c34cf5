package oauth

import "testing"

// One key of a kind that we do not know must not void the set (RFC 7517,
// section 5).
func TestKeysOfUnknownKindsAreLeftOut(t *testing.T) {
	good := `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"good"}`
	for _, odd := range []string{
		`{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}`, `{"kty":"OKP","crv":"X25519","x":"AA"}`,
		`{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}`, `{"kty":"RSA","n":"AQAB","e":"AQAB","x5c":["bad"]}`, `17`, `null`,
	} {
		keys := readKeys([]byte(`{"keys":[` + odd + `,` + good + `]}`))
		found := false
		for _, k := range keys {
			found = found || k.KeyID == "good"
		}
		if !found {
			t.Errorf("beside %s the good key is lost", odd)
		}
	}
}
