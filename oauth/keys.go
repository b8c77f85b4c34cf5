package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// refetchAfter is the least time between two fetches of a key set that is
// already there: ID tokens with made-up key ids must not turn us against the
// provider.
const refetchAfter = time.Minute

// A keySet is a provider's signing keys. It implements oidc.KeySet and differs
// from go-oidc's own in two things: a token with an unknown key id makes it
// fetch at most once a minute, and the last good set stays when a fetch fails.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time

	// severalIssuers is set where the set holds the keys of several issuers.
	severalIssuers bool

	mu      sync.Mutex // held during a fetch: one at a time, the others take its result
	keys    []publishedKey
	fetched time.Time
}

// A publishedKey is an entry of a key set. Entra says beside each key for which
// issuer it signs, with [tenantPlace] for any tenant; elsewhere issuer is empty.
type publishedKey struct {
	jose.JSONWebKey
	issuer string
}

// VerifySignature returns the payload of raw if one of the keys signed it.
func (k *keySet) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	var allowed []jose.SignatureAlgorithm
	for _, alg := range signingAlgorithms() {
		allowed = append(allowed, jose.SignatureAlgorithm(alg))
	}
	jws, err := jose.ParseSignedCompact(raw, allowed)
	if err != nil {
		return nil, fmt.Errorf("oauth: ID token: %w", err)
	}
	if len(jws.Signatures) != 1 {
		return nil, errors.New("oauth: the ID token has not exactly one signature")
	}
	keys, err := k.current(ctx)
	if err != nil {
		return nil, err
	}
	if payload, ok := k.verify(jws, keys); ok {
		return payload, nil
	}
	if keys, err = k.refetch(ctx); err != nil {
		return nil, err
	}
	if payload, ok := k.verify(jws, keys); ok {
		return payload, nil
	}
	return nil, errors.New("oauth: none of the provider's keys signed the ID token")
}

// verify tries the keys that the token's header can mean: those with its key
// id, or all of them where it names none. Keys that the header brings along
// (jwk, jku, x5u) are not looked at.
func (k *keySet) verify(jws *jose.JSONWebSignature, keys []publishedKey) ([]byte, bool) {
	header := jws.Signatures[0].Header
	for _, key := range keys {
		if header.KeyID != "" && key.KeyID != "" && key.KeyID != header.KeyID {
			continue
		}
		if key.Use != "" && key.Use != "sig" || key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if !key.IsPublic() {
			continue // a symmetric or private key has no business in a published set
		}
		payload, err := jws.Verify(key.JSONWebKey)
		if err != nil || k.severalIssuers && !key.signsFor(payload) {
			continue
		}
		return payload, true
	}
	return nil, false
}

// signsFor reports whether the key is for the issuer of an ID token: one for
// personal accounts must not sign for an organization, though both are in the
// same set. That was what the forged tokens of Storm-0558 did, in 2023.
func (key *publishedKey) signsFor(payload []byte) bool {
	if key.issuer == "" {
		return true
	}
	var c claims
	if json.Unmarshal(payload, &c) != nil {
		return false
	}
	return strings.ReplaceAll(key.issuer, tenantPlace, c.TID) == c.Issuer
}

// current returns the known keys, fetching them the first time.
func (k *keySet) current(ctx context.Context) ([]publishedKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) > 0 {
		return k.keys, nil
	}
	return k.fetch(ctx)
}

// refetch returns the keys after a look for new ones, if the last look is long
// enough ago.
func (k *keySet) refetch(ctx context.Context) ([]publishedKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now().Sub(k.fetched) < refetchAfter {
		return k.keys, nil
	}
	keys, err := k.fetch(ctx)
	if err != nil && len(k.keys) > 0 {
		return k.keys, nil // the last good copy
	}
	return keys, err
}

// fetch reads the set. It goes on when the caller gives up, up to callTimeout:
// the next fetch may be a minute away, and the others need this one.
func (k *keySet) fetch(ctx context.Context) ([]publishedKey, error) {
	k.fetched = k.now()
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, k.url, nil)
	if err != nil {
		return nil, fmt.Errorf("oauth: key set: %w", err)
	}
	res, err := k.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: key set: %w", ErrUnavailable, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: key set: status %d", ErrUnavailable, res.StatusCode)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: key set: %w", ErrUnavailable, err)
	}
	keys := readKeys(body)
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: the key set has no keys that can be read", ErrUnavailable)
	}
	k.keys = keys
	return k.keys, nil
}

// readKeys returns the keys of a JWK Set that we understand. Others are left
// out, as RFC 7517, section 5, asks: one key of a new kind must not void the
// rest.
func readKeys(set []byte) []publishedKey {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(set, &raw) != nil {
		return nil
	}
	var keys []publishedKey
	for _, text := range raw.Keys {
		var key jose.JSONWebKey
		var of struct {
			Issuer string `json:"issuer"`
		}
		if key.UnmarshalJSON(text) == nil && json.Unmarshal(text, &of) == nil {
			keys = append(keys, publishedKey{key, of.Issuer})
		}
	}
	return keys
}
