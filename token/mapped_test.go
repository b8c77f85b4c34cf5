package token_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/token"
)

func TestMappedClaimsStandBesideTheOthers(t *testing.T) {
	claims := token.Claims{Subject: "s", Mapped: map[string]any{"department": "sales", "https://x.example/y": []any{"a"}, "n": json.Number("90071992547409931")}}
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	var flat map[string]any
	if err := json.Unmarshal(text, &flat); err != nil {
		t.Fatal(err)
	}
	if flat["department"] != "sales" || flat["sub"] != "s" {
		t.Errorf("the token holds %s, want department and sub side by side", text)
	}
	var back token.Claims
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(claims, back); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestNoClaimIsMappedOverOneOfOurs(t *testing.T) {
	for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "sid", "SUB", "Email", "role", "roles", "groups", "acr", "amr", "auth_time", "ver", "provider_sub"} {
		if !token.Reserved(name) {
			t.Errorf("%s is not reserved", name)
		}
		if text, err := json.Marshal(token.Claims{Mapped: map[string]any{name: "x"}}); err == nil {
			t.Errorf("a token was made in which %s is mapped over: %s", name, text)
		}
	}
	if token.Reserved("department") {
		t.Error("department is reserved")
	}
	var c token.Claims
	if err := json.Unmarshal([]byte(`{"sub":"real","SUB":"forged","Sid":"forged"}`), &c); err != nil {
		t.Fatal(err)
	}
	if c.Subject != "real" || c.SessionID != "" {
		t.Errorf("sub = %q, sid = %q: a claim was taken under another name", c.Subject, c.SessionID)
	}
}
