package oauth

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
)

// ClientAuth is how the client proves to the provider that it is the one. With
// nothing in it that is the client secret, or nothing at all for a public
// client.
type ClientAuth struct {
	// Key signs an assertion for each request (private_key_jwt: RFC 7523,
	// section 2.2; OpenID Connect Core 1.0, section 9). It is an RSA, ECDSA or
	// Ed25519 key.
	Key crypto.Signer
	// KeyID is the key's name at the provider; empty means its thumbprint (RFC
	// 7638).
	KeyID string
	// Audience says for whom the assertion is: "token_endpoint" or empty, or
	// "issuer".
	Audience string
	// Certificate is shown in the TLS handshake (RFC 8705).
	Certificate *tls.Certificate
	// Secret says where the client secret goes: "basic", "post", or empty, which
	// means where the provider's metadata wants it.
	Secret string
}

// check refuses two proofs at once, and keys that sign nothing.
func (a *ClientAuth) check(secret string) error {
	proofs := 0
	for _, given := range []bool{secret != "", a.Key != nil, a.Certificate != nil} {
		if given {
			proofs++
		}
	}
	if proofs > 1 {
		return errors.New("a client secret, a private key and a certificate exclude one another")
	}
	if a.Key == nil {
		return nil
	}
	_, err := a.algorithm(nil)
	return err
}

// algorithm returns how the key signs: for RSA the way that the provider takes.
func (a *ClientAuth) algorithm(taken []string) (jose.SignatureAlgorithm, error) {
	switch key := a.Key.Public().(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return "", errors.New("the client's RSA key is shorter than 2048 bits")
		}
		if len(taken) > 0 && !slices.Contains(taken, string(jose.RS256)) && slices.Contains(taken, string(jose.PS256)) {
			return jose.PS256, nil
		}
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		case elliptic.P521():
			return jose.ES512, nil
		}
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	}
	return "", errors.New("the client's key is neither RSA, nor ECDSA on a NIST curve, nor Ed25519")
}

// assertionLife is how long an assertion is good for: it is made for one
// request.
const assertionLife = time.Minute

// authenticate adds to a request what proves that it is the client's.
func (p *Provider) authenticate(e *endpoint, form url.Values, header http.Header) error {
	switch {
	case p.config.Auth.Key != nil:
		assertion, err := p.assertion(e)
		if err != nil {
			return err
		}
		form.Set("client_id", p.config.ClientID)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	case p.config.ClientSecret == "": // public, or by certificate
		form.Set("client_id", p.config.ClientID)
	case e.basic:
		// Both are form-encoded first (RFC 6749, section 2.3.1).
		pair := url.QueryEscape(p.config.ClientID) + ":" + url.QueryEscape(p.config.ClientSecret)
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	default:
		form.Set("client_id", p.config.ClientID)
		form.Set("client_secret", p.config.ClientSecret)
	}
	return nil
}

// assertion returns a JWT that says that the client makes this request.
func (p *Provider) assertion(e *endpoint) (string, error) {
	auth, now := &p.config.Auth, p.config.Now()
	alg, err := auth.algorithm(e.metadata.TokenAuthAlgs)
	if err != nil {
		return "", err
	}
	audience := e.metadata.TokenURL
	if auth.Audience == "issuer" {
		audience = cmp.Or(e.metadata.Issuer, p.config.Issuer)
	}
	id := auth.KeyID
	if id == "" {
		sum, err := (&jose.JSONWebKey{Key: auth.Key.Public()}).Thumbprint(crypto.SHA256)
		if err != nil {
			return "", fmt.Errorf("the client's key: %w", err)
		}
		id = base64.RawURLEncoding.EncodeToString(sum)
	}
	return signJWT(auth.Key, alg, id, map[string]any{
		"iss": p.config.ClientID, "sub": p.config.ClientID, "aud": audience,
		"jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
}

// signJWT returns claims as a JWT.
func signJWT(key crypto.Signer, alg jose.SignatureAlgorithm, id string, claims map[string]any) (string, error) {
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("the key cannot sign: %w", err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(body)
	if err != nil {
		return "", fmt.Errorf("the key cannot sign: %w", err)
	}
	return jws.CompactSerialize()
}

// secretInHeader says how to present the client secret. It is read from the
// metadata, where basic is the default (OpenID Connect Discovery 1.0, section
// 3): trying one way and then the other would burn the code.
func (p *Provider) secretInHeader(methods []string) bool {
	switch p.config.Auth.Secret {
	case "basic":
		return true
	case "post":
		return false
	}
	return len(methods) == 0 || slices.Contains(methods, "client_secret_basic")
}

// bearer is an access token as go-oidc wants it.
func (g *grant) bearer() oauth2.TokenSource {
	return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: g.access})
}
