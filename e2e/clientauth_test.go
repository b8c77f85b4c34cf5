package e2e

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/go-jose/go-jose/v4"
)

// A client of a provider may prove who it is by a key instead of a secret, push its
// requests and be answered by a form. The provider takes nothing else here: its
// client has no secret, and may neither ask nor be answered in an address.
func TestClientsWithoutASecretAtACertifiedProvider(t *testing.T) {
	slow(t)
	t.Parallel()
	certFile, keyFile, _ := selfSigned(t, "authproxy")
	serverCert, serverKey, _ := selfSigned(t, "localhost")
	address := freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	securePort, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name            string
		client, tls     map[string]any // what the provider knows of the client, and where it takes certificates
		settings, extra string         // ours
	}{
		{
			name: "private_key_jwt, pushed, by a form",
			client: map[string]any{
				"token_endpoint_auth_method": "private_key_jwt", "require_pushed_authorization_requests": true,
				"response_modes": []string{"form_post"}, "jwks": publicKeys(t, certFile),
			},
			settings: fmt.Sprintf("private_key_file: %q, private_key_id: a-key, response_mode: form_post", keyFile),
			extra:    "pushed_requests: always",
		},
		{
			name:     "mutual TLS",
			client:   map[string]any{"token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": publicKeys(t, certFile)},
			tls:      map[string]any{"port": securePort, "cert": serverCert, "key": serverKey},
			settings: fmt.Sprintf("client_cert_file: %q, client_key_file: %q", certFile, keyFile),
			extra:    fmt.Sprintf("endpoints: {token_url: %q}, pushed_requests: never", "https://localhost:"+port+"/token"),
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			browser := openBrowser(t)
			address := freeAddress(t)
			base := "http://" + address
			all, err := json.Marshal(map[string]any{"client": row.client, "tls": row.tls})
			if err != nil {
				t.Fatal(err)
			}
			issuer := startOIDCProvider(t, base, "3600", string(all))
			config := strings.Replace(oidcProviderConfig, "client_secret: a-secret-for-tests", row.settings+", "+row.extra, 1)
			file := writeFile(t, "authproxy.yaml", fmt.Sprintf(config, address, startApp(t), issuer, newKeys(t)))
			p := start(t, launch{args: []string{"--config", file}, base: base, environ: []string{"SSL_CERT_FILE=" + serverCert}})

			browser.open(base + "/reports?year=2026")
			browser.signInAtOIDCProvider("alice")
			browser.do("wait for the application", chromedp.WaitVisible(chromedp.Search(`//td[contains(., "Alice Adams")]`))) // a form sends itself
			if got, want := browser.location(), "/reports?year=2026"; got != want {
				t.Errorf("sign-in ended at %q, want %q", got, want)
			}
			if got := browser.header("X-User-Email"); got != "alice@example.com" {
				t.Errorf("X-User-Email = %q, want alice's", got)
			}
			byForm := strings.Contains(p.stderr.String(), fmt.Sprintf(`"method":"POST","host":%q,"path":"/auth/callback/corp"`, address))
			if want := strings.Contains(row.settings, "form_post"); byForm != want {
				t.Errorf("the answer came by a form: %v, want %v", byForm, want)
			}
		})
	}
}

// publicKeys returns the key of a certificate, with that, as a JSON Web Key Set.
func publicKeys(t *testing.T, certFile string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(jose.JSONWebKey{Key: cert.PublicKey, KeyID: "a-key", Use: "sig", Algorithm: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	key := map[string]any{}
	if err := json.Unmarshal(raw, &key); err != nil {
		t.Fatal(err)
	}
	key["x5c"] = []string{base64.StdEncoding.EncodeToString(cert.Raw)}
	return map[string]any{"keys": []any{key}}
}
