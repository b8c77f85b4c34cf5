package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"authproxy/config"
	"authproxy/oauth"
)

func TestPrivateKeysInTheUsualForms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	tests := []struct {
		name, header string
		der          []byte
		want         crypto.Signer // nil: an error
	}{
		{"PKCS #1", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), rsaKey},
		{"SEC 1", "EC PRIVATE KEY", sec1, ecKey},
		{"PKCS #8, RSA", "PRIVATE KEY", pkcs8(rsaKey), rsaKey},
		{"PKCS #8, ECDSA", "PRIVATE KEY", pkcs8(ecKey), ecKey},
		{"PKCS #8, Ed25519", "PRIVATE KEY", pkcs8(edKey), edKey},
		{"a certificate", "CERTIFICATE", []byte("x"), nil},
		{"with a passphrase", "ENCRYPTED PRIVATE KEY", []byte("x"), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: tt.header, Bytes: tt.der}), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readPrivateKey(name)
			if tt.want == nil {
				if err == nil {
					t.Errorf("got %T, want an error", got)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got.Public(), tt.want.Public()) {
				t.Errorf("got %T, %v, want the same key", got, err)
			}
		})
	}
}

// A setting that is not copied has no effect, and nobody is told: so each one of
// the configuration must leave a trace in what the provider is made of.
func TestEverySettingOfAProviderIsCopied(t *testing.T) {
	elsewhere := map[string]bool{ // made from files, or of the other settings
		"Type": true, "ClientSecretFile": true, "PrivateKeyFile": true, "ClientCertFile": true, "ClientKeyFile": true, "Groups": true,
	}
	for _, kind := range []string{oauth.OIDC, oauth.OAuth2} {
		before, err := providerConfig(config.Provider{Type: kind})
		if err != nil {
			t.Fatal(err)
		}
		for field := range reflect.TypeFor[config.Provider]().Fields() {
			plain := field.Name == "AuthorizeURL" || field.Name == "TokenURL" || field.Name == "UserinfoURL" || field.Name == "Claims"
			if elsewhere[field.Name] || plain != (kind == oauth.OAuth2) {
				continue
			}
			for _, c := range filled(t, kind, field) {
				after, err := providerConfig(c)
				if err != nil || reflect.DeepEqual(before, after) {
					t.Errorf("%s: %v, and no effect on %s: %+v", field.Name, err, kind, c)
				}
			}
		}
	}
}

// filled returns providers with the field set; one for each setting in a group.
func filled(t *testing.T, kind string, field reflect.StructField) []config.Provider {
	t.Helper()
	var all []config.Provider
	add := func(index []int) {
		c := config.Provider{Type: kind}
		v := reflect.ValueOf(&c).Elem().FieldByIndex(index)
		switch v.Kind() {
		case reflect.String:
			v.SetString("x")
		case reflect.Slice:
			v.Set(reflect.ValueOf([]string{"x"}))
		default:
			t.Fatalf("%s: no value for a %v", field.Name, v.Kind())
		}
		all = append(all, c)
	}
	if field.Type.Kind() != reflect.Struct {
		add(field.Index)
		return all
	}
	for inner := range field.Type.Fields() {
		add(append(append([]int{}, field.Index...), inner.Index...))
	}
	return all
}

func TestGroupsSettingsAreCopied(t *testing.T) {
	file := filepath.Join(t.TempDir(), "google.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := providerConfig(config.Provider{Type: oauth.Google, Groups: &config.GoogleGroups{
		API: "cloud_identity", AdminEmail: "a@x.example", ServiceAccountFile: file, Nested: true, Cache: 7,
	}})
	want := &oauth.GoogleGroups{API: "cloud_identity", AdminEmail: "a@x.example", ServiceAccount: []byte("{}"), Nested: true, TTL: 7}
	if err != nil || !reflect.DeepEqual(got.Groups, want) {
		t.Errorf("groups = %+v, %v, want %+v", got.Groups, err, want)
	}
}
