package oauth_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"authproxy/devidp"
	"authproxy/oauth"
)

func TestSignatures(t *testing.T) {
	h := newHarness(t)
	honest, foreign := newSigner(t, "key-1"), newSigner(t, "key-1")
	evilKeys := h.url + "/evil-keys"
	encryption, otherAlg, otherID := honest.public(), honest.public(), honest.public()
	encryption.Use = "enc"
	otherAlg.Algorithm = "ES384"
	otherID.KeyID = "key-2"
	tests := []struct {
		name      string
		published jose.JSONWebKey
		by        *signer
		header    map[string]any
		want      error
	}{
		{"by the provider", honest.public(), honest, nil, nil},
		{"by the provider, no key id", honest.public(), honest, map[string]any{"kid": nil}, nil},
		{"by a foreign key", honest.public(), foreign, nil, oauth.ErrIDToken},
		{"by a foreign key, no key id", honest.public(), foreign, map[string]any{"kid": nil}, oauth.ErrIDToken},
		{"by the key in its own header", honest.public(), foreign, map[string]any{"jwk": foreign.public()}, oauth.ErrIDToken},
		{"by the key its header links to", honest.public(), foreign, map[string]any{"jku": evilKeys, "x5u": evilKeys}, oauth.ErrIDToken},
		{"with an extension that must be understood", honest.public(), honest, map[string]any{"crit": []string{"tenant"}, "tenant": "a"}, oauth.ErrIDToken},
		{"under another key id", otherID, honest, nil, oauth.ErrIDToken},
		{"by a key for encryption", encryption, honest, nil, oauth.ErrIDToken},
		{"by a key for another algorithm", otherAlg, honest, nil, oauth.ErrIDToken},
		{"said to be by another algorithm", honest.public(), honest, map[string]any{"alg": "RS256"}, oauth.ErrIDToken},
		{"said to be not signed", honest.public(), honest, map[string]any{"alg": "none"}, oauth.ErrIDToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.publish(t, "/jwks", tt.published)
			h.override(t, "/evil-keys", func(w http.ResponseWriter, _ *http.Request) {
				t.Error("the address in the header was fetched")
			})
			_, err := h.signInWith(t, h.fresh(t, nil), func(l oauth.Login) string {
				return tt.by.sign(t, h.honestClaims(l), tt.header)
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestOnlyAnnouncedAlgorithmsCount(t *testing.T) {
	h := newHarness(t)
	s := newSigner(t, "key-1")
	h.publish(t, "/jwks", s.public())
	const announcement = "id_token_signing_alg_values_supported"
	tests := []struct {
		name      string
		announced any
		want      error
	}{
		{"announced", []string{"RS256", "ES256"}, nil},
		{"not announced", []string{"RS256"}, oauth.ErrIDToken},
		{"nothing announced, so RS256 only", nil, oauth.ErrIDToken},
		{"only symmetric ones announced", []string{"HS256", "none"}, oauth.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.editJSON(t, discoveryDoc, set(announcement, tt.announced))
			_, err := h.signInWith(t, h.fresh(t, nil), func(l oauth.Login) string {
				return s.sign(t, h.honestClaims(l), nil)
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestRotatedKeysAreFoundByOneFetch(t *testing.T) {
	h := newHarness(t)
	h.mustSignIn(t)
	h.idp.RotateKeys(false)
	h.clock.advance(time.Minute)
	for range 3 {
		h.mustSignIn(t)
	}
	if got := len(h.requests("GET /jwks")); got != 2 {
		t.Errorf("the keys were fetched %d times, want 2: at first and after the rotation", got)
	}
}

// The browser that happens to bring the first token after a rotation may go
// away meanwhile. The fetch that it began must not be lost for the others.
func TestAnAbortedSignInDoesNotSpoilTheKeyFetch(t *testing.T) {
	h := newHarness(t)
	h.mustSignIn(t)
	h.idp.RotateKeys(false)
	h.clock.advance(time.Minute)
	login, answer := h.begin(t)
	ctx, abort := context.WithCancel(t.Context())
	h.override(t, "/jwks", func(w http.ResponseWriter, r *http.Request) {
		abort()
		h.idp.ServeHTTP(w, r)
	})
	h.exchange(ctx, t, h.provider, login, answer)
	h.mustSignIn(t)
}

// One token that needs a new key must not make the others wait.
func TestWhoNeedsNoNewKeyDoesNotWaitForAKeySetThatHangs(t *testing.T) {
	h := newHarness(t)
	h.mustSignIn(t)
	h.clock.advance(time.Minute)
	asked, hang := make(chan struct{}), make(chan struct{})
	h.override(t, "/jwks", func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		select {
		case <-hang:
		case <-r.Context().Done():
			t.Error("the fetch was given up: whoever signed in meanwhile has waited for it")
		}
		h.idp.ServeHTTP(w, r)
	})
	login, answer := h.begin(t)
	h.faults(t, devidp.Faults{IDToken: newSigner(t, "made-up").sign(t, h.honestClaims(login), nil)})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := h.exchange(t.Context(), t, h.provider, login, answer); !errors.Is(err, oauth.ErrIDToken) {
			t.Errorf("with a made-up key: %v, want %v", err, oauth.ErrIDToken)
		}
	})
	<-asked
	h.idp.SetFaults(devidp.Faults{})
	h.mustSignIn(t)
	close(hang)
	waiting.Wait()
}

func TestMadeUpKeyIDsCauseAtMostOneFetchAMinute(t *testing.T) {
	h := newHarness(t)
	h.mustSignIn(t)
	foreign := newSigner(t, "")
	flood := func(want int) {
		t.Helper()
		before := len(h.requests("GET /jwks"))
		for i := range 50 {
			_, err := h.signInWith(t, h.provider, func(l oauth.Login) string {
				return foreign.sign(t, h.honestClaims(l), map[string]any{"kid": "made-up-" + strconv.Itoa(i)})
			})
			if !errors.Is(err, oauth.ErrIDToken) {
				t.Fatalf("error = %v, want %v", err, oauth.ErrIDToken)
			}
		}
		if got := len(h.requests("GET /jwks")) - before; got != want {
			t.Errorf("50 tokens caused %d fetches, want %d", got, want)
		}
	}
	flood(0) // the first fetch was less than a minute ago
	h.clock.advance(59 * time.Second)
	flood(0)
	h.clock.advance(time.Second)
	flood(1)
	// Reading the metadata again must not lift the limit.
	if err := h.provider.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	flood(0)
}

func TestTheLastGoodKeysStayWhileTheKeySetIsDown(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"down":                         hangUp,
		"broken":                       status(http.StatusInternalServerError),
		"garbage":                      garbage,
		"empty":                        func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"keys":[]}`)) },
		"only keys of an unknown kind": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"keys":[{"kty":"made-up"}]}`)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			known, unknown := newSigner(t, "key-1"), newSigner(t, "key-2")
			h.publish(t, "/jwks", known.public())
			sign := func(s *signer) error {
				_, err := h.signInWith(t, h.provider, func(l oauth.Login) string { return s.sign(t, h.honestClaims(l), nil) })
				return err
			}
			if err := sign(known); err != nil {
				t.Fatal(err)
			}
			h.override(t, "/jwks", serve)
			h.clock.advance(time.Hour)
			if err := sign(unknown); !errors.Is(err, oauth.ErrIDToken) {
				t.Errorf("unknown key: error = %v, want %v", err, oauth.ErrIDToken)
			}
			if got := len(h.requests("GET /jwks")); got < 2 {
				t.Errorf("%d key fetches, want a second one", got)
			}
			if err := sign(known); err != nil {
				t.Errorf("known key: error = %v, want none", err)
			}
		})
	}
}

func TestAMovedKeySetIsFollowed(t *testing.T) {
	h := newHarness(t)
	h.mustSignIn(t)
	s := newSigner(t, "key-1")
	h.publish(t, "/new-keys", s.public())
	h.editJSON(t, discoveryDoc, set("jwks_uri", h.url+"/new-keys"))
	if err := h.provider.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := h.signInWith(t, h.provider, func(l oauth.Login) string { return s.sign(t, h.honestClaims(l), nil) })
	if err != nil {
		t.Errorf("a token signed with a key of the new set: %v, want success", err)
	}
}

func (h *harness) mustSignIn(t *testing.T) {
	t.Helper()
	if _, err := h.signIn(t, h.provider); err != nil {
		t.Fatalf("sign-in: %v", err)
	}
}
