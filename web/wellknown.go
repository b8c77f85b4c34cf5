package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"
)

// jwks publishes the keys that verify our tokens (RFC 7517, section 5).
func (s *Server) jwks(w http.ResponseWriter, r *http.Request) error {
	body, etag := s.Tokens.JWKS()
	return publish(w, r, body, etag)
}

// metadata is as much of a discovery document as a verifier of our tokens needs
// (OpenID Connect Discovery 1.0, section 3). Nobody signs in here with it.
func (s *Server) metadata(w http.ResponseWriter, r *http.Request) error {
	body, err := json.Marshal(map[string]any{
		"issuer": s.Tokens.Issuer(), "jwks_uri": s.absolute("/jwks", nil),
		"id_token_signing_alg_values_supported": []string{"ES256"},
	})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	return publish(w, r, body, `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`)
}

// publish answers with JSON that anybody may read, and keep for five minutes.
func publish(w http.ResponseWriter, r *http.Request, body []byte, etag string) error {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body)) // answers If-None-Match, also of a weakened ETag
	return nil
}
