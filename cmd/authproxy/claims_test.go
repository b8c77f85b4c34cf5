package main

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/config"
	"authproxy/token"
)

// The settings are judged without package token, which says what tokens hold.
func TestTheClaimsThatCannotBeMappedOverAreThoseOfTokens(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(slices.Values(token.ReservedNames())), slices.Sorted(slices.Values(config.ReservedClaims()))); diff != "" {
		t.Errorf("the names (-tokens +settings):\n%s", diff)
	}
}
