package devidp

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A grant is what one sign-in gave to one client. Its codes and tokens all
// point to it, so that revoking it is the end of them all. Only revoked ever
// changes, under Server.mu.
type grant struct {
	clientID string
	user     *User
	scopes   []string
	nonce    string
	sid      string
	authTime time.Time
	revoked  bool
}

type code struct {
	grant       *grant
	redirectURI string
	challenge   string
	issued      time.Time
	used        bool
}

type accessToken struct {
	grant  *grant
	scopes []string
}

type refreshToken struct {
	grant *grant
	used  bool
}

// issued is what a successful token request hands out.
type issued struct {
	grant           *grant
	scopes          []string
	nonce           string // of the ID token: only the first one has it
	access, refresh string
}

// serveToken redeems a code or a refresh token.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request, f *Faults) error {
	form, err := bodyForm(r)
	if err != nil {
		return err
	}
	client, err := s.authenticateClient(w, r, form)
	if err != nil {
		return err
	}
	tokens, err := s.redeem(client, form)
	if err != nil {
		return err
	}
	answer := map[string]any{
		"access_token": tokens.access,
		"token_type":   "Bearer",
		"expires_in":   int64(s.accessTTL / time.Second),
		"scope":        strings.Join(tokens.scopes, " "),
	}
	if tokens.refresh != "" {
		answer["refresh_token"] = tokens.refresh
	}
	if slices.Contains(tokens.scopes, "openid") && !f.OmitIDToken {
		if answer["id_token"], err = s.idToken(f, tokens); err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// authenticateClient finds out which client sent r: by HTTP Basic, by
// client_id and client_secret in the body, or, for a public client, by
// client_id alone (RFC 6749 section 2.3).
func (s *Server) authenticateClient(w http.ResponseWriter, r *http.Request, form url.Values) (*Client, error) {
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok {
		basicID, idErr := url.QueryUnescape(user)
		basicSecret, secretErr := url.QueryUnescape(password)
		if idErr != nil || secretErr != nil || form.Has("client_secret") || (id != "" && id != basicID) {
			return nil, invalidRequest("the client authenticates in two ways, or in a malformed one")
		}
		id, secret = basicID, basicSecret
	}
	client := s.clients[id]
	if client == nil || !sameSecret(client.Secret, secret) {
		w.Header().Set("WWW-Authenticate", `Basic realm="devidp"`)
		return nil, &oauthError{http.StatusUnauthorized, "invalid_client", "unknown client or wrong secret"}
	}
	return client, nil
}

// sameSecret compares in constant time, whatever the lengths are. A public
// client's secret is empty, and so must be what it sent.
func sameSecret(want, got string) bool {
	w, g := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(got))
	return subtle.ConstantTimeCompare(w[:], g[:]) == 1
}

func (s *Server) redeem(client *Client, form url.Values) (*issued, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch form.Get("grant_type") {
	case "authorization_code":
		return s.redeemCode(client, form)
	case "refresh_token":
		return s.redeemRefreshToken(client, form)
	case "":
		return nil, invalidRequest("grant_type is missing")
	}
	return nil, &oauthError{http.StatusBadRequest, "unsupported_grant_type", "grant_type must be authorization_code or refresh_token"}
}

// redeemCode needs s.mu. A code that fails a check stays usable, or anybody
// who saw it could spoil it; a code that is used again by its own client
// revokes what the first use gave out (RFC 6749 section 4.1.2).
func (s *Server) redeemCode(client *Client, form url.Values) (*issued, error) {
	now := s.now()
	c, ok := s.codes.get(now, form.Get("code"))
	switch {
	case !ok || c.grant.clientID != client.ID:
		return nil, invalidGrant("the code is unknown or another client's")
	case c.used:
		c.grant.revoked = true
		return nil, invalidGrant("the code was used before; its tokens are revoked")
	case c.grant.revoked:
		return nil, invalidGrant("the grant was revoked")
	case now.Sub(c.issued) >= codeLifetime:
		return nil, invalidGrant("the code has expired")
	case c.redirectURI != form.Get("redirect_uri"):
		return nil, invalidGrant("redirect_uri is not the one the code was sent to")
	case !provesChallenge(form.Get("code_verifier"), c.challenge):
		return nil, invalidGrant("code_verifier is missing or wrong")
	}
	c.used = true
	tokens := s.issue(now, c.grant, c.grant.scopes)
	tokens.nonce = c.grant.nonce
	return tokens, nil
}

// provesChallenge checks a PKCE verifier (RFC 7636 sections 4.1 and 4.6).
func provesChallenge(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	got := base64.RawURLEncoding.EncodeToString(sum[:])
	return subtle.ConstantTimeCompare([]byte(got), []byte(challenge)) == 1
}

// redeemRefreshToken needs s.mu. Each refresh token works once; a second use
// means that two parties hold it, so the grant ends (RFC 9700 section 4.14.2).
func (s *Server) redeemRefreshToken(client *Client, form url.Values) (*issued, error) {
	now := s.now()
	t, ok := s.refresh.get(now, form.Get("refresh_token"))
	switch {
	case !ok || t.grant.clientID != client.ID:
		return nil, invalidGrant("the refresh token is unknown, has expired or is another client's")
	case t.used:
		t.grant.revoked = true
		return nil, invalidGrant("the refresh token was used before; the grant is revoked")
	case t.grant.revoked:
		return nil, invalidGrant("the grant was revoked")
	}
	scopes, err := narrowed(t.grant.scopes, form.Get("scope"))
	if err != nil {
		return nil, err
	}
	t.used = true
	return s.issue(now, t.grant, scopes), nil
}

// narrowed returns the scopes of a refreshed access token: all that were
// granted, or the part that the client asks for (RFC 6749 section 6).
func narrowed(granted []string, scope string) ([]string, error) {
	if scope == "" {
		return granted, nil
	}
	asked := strings.Fields(scope)
	for _, name := range asked {
		if !slices.Contains(granted, name) {
			return nil, &oauthError{http.StatusBadRequest, "invalid_scope", "a refresh cannot ask for more than was granted"}
		}
	}
	return asked, nil
}

// issue hands out the tokens of g. It needs s.mu.
func (s *Server) issue(now time.Time, g *grant, scopes []string) *issued {
	tokens := &issued{grant: g, scopes: scopes, access: rand.Text()}
	s.access.put(now, tokens.access, &accessToken{g, scopes}, now.Add(s.accessTTL))
	if slices.Contains(g.scopes, "offline_access") {
		tokens.refresh = rand.Text()
		s.refresh.put(now, tokens.refresh, &refreshToken{grant: g}, now.Add(refreshLifetime))
	}
	return tokens
}

// idToken returns the ID token that goes with tokens, as f wants it.
func (s *Server) idToken(f *Faults, tokens *issued) (string, error) {
	if f.IDToken != "" {
		return f.IDToken, nil
	}
	claims := s.idTokenClaims(tokens)
	if f.EmailInUserinfoOnly {
		delete(claims, "email")
		delete(claims, "email_verified")
	}
	if f.LongToken > 0 {
		claims["padding"] = strings.Repeat("x", f.LongToken)
	}
	if f.ClaimsEdit != nil {
		f.ClaimsEdit(claims)
	}
	return s.keys.sign(f.Alg, "JWT", claims)
}

// idTokenClaims follows OpenID Connect Core sections 2 and 3.1.3.6. There is
// always one audience, so there is no azp.
func (s *Server) idTokenClaims(tokens *issued) map[string]any {
	now := s.now()
	sum := sha256.Sum256([]byte(tokens.access))
	claims := map[string]any{
		"iss":       s.issuer,
		"aud":       tokens.grant.clientID,
		"iat":       now.Unix(),
		"exp":       now.Add(idTokenLifetime).Unix(),
		"auth_time": tokens.grant.authTime.Unix(),
		"amr":       []string{"pwd"},
		"sid":       tokens.grant.sid,
		"at_hash":   base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2]),
	}
	if tokens.nonce != "" {
		claims["nonce"] = tokens.nonce
	}
	maps.Copy(claims, tokens.grant.user.claims(tokens.scopes))
	return claims
}

// serveUserinfo says who an access token is about.
func (s *Server) serveUserinfo(w http.ResponseWriter, r *http.Request, f *Faults) error {
	t := s.liveAccessToken(r)
	if t == nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="devidp", error="invalid_token"`)
		return &oauthError{http.StatusUnauthorized, "invalid_token", "no access token, or one that has expired or was revoked"}
	}
	claims := t.grant.user.claims(t.scopes)
	if f.UserinfoEdit != nil {
		f.UserinfoEdit(claims)
	}
	writeJSON(w, http.StatusOK, claims)
	return nil
}

// liveAccessToken returns the access token in r's Authorization header, or nil.
func (s *Server) liveAccessToken(r *http.Request) *accessToken {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.access.get(s.now(), value)
	if !ok || t.grant.revoked {
		return nil
	}
	return t
}

// serveRevoke is RFC 7009. Revoking a refresh token revokes its whole grant;
// revoking what is no token is a success.
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request, _ *Faults) error {
	form, err := bodyForm(r)
	if err != nil {
		return err
	}
	client, err := s.authenticateClient(w, r, form)
	if err != nil {
		return err
	}
	value := form.Get("token")
	if value == "" {
		return invalidRequest("token is missing")
	}
	foreign := &oauthError{http.StatusBadRequest, "unauthorized_client", "the token is another client's"}

	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.refresh.get(s.now(), value); ok {
		if t.grant.clientID != client.ID {
			return foreign
		}
		t.grant.revoked = true
	}
	if t, ok := s.access.get(s.now(), value); ok {
		if t.grant.clientID != client.ID {
			return foreign
		}
		s.access.delete(value)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// RevokeUser revokes everything that was granted to clients for the user with
// this login: a refresh is invalid_grant, userinfo is 401. The user can sign in
// again.
func (s *Server) RevokeUser(login string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.codes.rows {
		r.value.grant.revokeFor(login)
	}
	for _, r := range s.access.rows {
		r.value.grant.revokeFor(login)
	}
	for _, r := range s.refresh.rows {
		r.value.grant.revokeFor(login)
	}
}

func (g *grant) revokeFor(login string) {
	if g.user.Login == login {
		g.revoked = true
	}
}
