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
	"golang.org/x/sync/singleflight"
)

// refetchAfter is the least time between two fetches of a key set that is
// already there: ID tokens with made-up key ids must not turn us against the
// provider.
const refetchAfter = time.Minute

// A keySet is a provider's signing keys. It implements oidc.KeySet and differs
// from go-oidc's own in three things: a token with an unknown key id makes it
// fetch at most once a minute, the last good set stays when a fetch fails, and
// whoever needs no new key does not wait for a fetch.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time

	// severalIssuers is set where the set holds the keys of several issuers.
	severalIssuers bool

	flights singleflight.Group // one fetch at a time; who needs it takes its result

	mu      sync.Mutex // never held during a fetch
	keys    []publishedKey
	fetched time.Time // when the last fetch ended
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
	return k.get(ctx, func() bool { return len(k.keys) == 0 })
}

// refetch returns the keys after a look for new ones, if the last look is long
// enough ago.
func (k *keySet) refetch(ctx context.Context) ([]publishedKey, error) {
	return k.get(ctx, func() bool { return k.now().Sub(k.fetched) >= refetchAfter })
}

// get returns the known keys, after a fetch if that is due. It waits for the
// fetch until ctx ends; the fetch itself goes on then, up to callTimeout: the
// next one may be a minute away, and the others need this one.
func (k *keySet) get(ctx context.Context, due func() bool) ([]publishedKey, error) {
	known := func() ([]publishedKey, bool) {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.keys, !due()
	}
	if keys, ok := known(); ok {
		return keys, nil
	}
	flight := k.flights.DoChan("", func() (any, error) {
		if keys, ok := known(); ok { // a fetch has ended meanwhile
			return keys, nil
		}
		return k.settle(k.fetch(context.WithoutCancel(ctx)))
	})
	select {
	case done := <-flight:
		keys, _ := done.Val.([]publishedKey)
		return keys, done.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: key set: %w", ErrUnavailable, ctx.Err())
	}
}

// settle keeps what a fetch returned. Where it failed, the last good copy goes
// on.
func (k *keySet) settle(keys []publishedKey, err error) ([]publishedKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fetched = k.now()
	if err == nil {
		k.keys = keys
	}
	if len(k.keys) > 0 {
		return k.keys, nil
	}
	return nil, err
}

// fetch reads the set.
func (k *keySet) fetch(ctx context.Context) ([]publishedKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
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
	return keys, nil
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
