package oauth

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// An Identity is who signed in, as the provider vouches for it.
type Identity struct {
	Issuer, Subject string
	Email           string
	EmailVerified   bool
	Name, Picture   string
	Groups          []string
	// SID is the provider's own session id, if it has told.
	SID string
	// AuthTime is when the person was authenticated; zero if not told.
	AuthTime time.Time
	AMR      []string
	// ACR is the authentication class that the ID token names, "" if it names
	// none.
	ACR string
	// Claims are the documents that this was read from.
	Claims Claims
	Tokens Tokens
	// Stale is set when [Provider.Refresh] got new tokens but could not read the
	// person again: all but Tokens is then what was known before, and the person
	// may have lost it. How long that is good enough is the caller's to bound. It
	// is not set where a refresh has nobody to ask, as without an ID token and a
	// userinfo endpoint.
	Stale bool
}

// Claims are what the provider said about the person, whole. A document that was
// not read is nil; its numbers are [json.Number].
type Claims struct {
	// IDToken is the verified ID token, Userinfo the answer of the userinfo
	// endpoint. Userinfo is read if it is needed, or if [Config.ReadUserinfo] is
	// set.
	IDToken, Userinfo map[string]any
	// Account is what the provider's own API says of the account: GitHub's and
	// GitLab's user, Microsoft Graph's me. Besides GitHub's it is read only if
	// [Config.ReadAccount] is set.
	Account map[string]any
}

// Tokens are what the provider issued. Expiries are zero where it did not say.
type Tokens struct {
	Access       string
	AccessExpiry time.Time
	ID           string
	IDExpiry     time.Time
	Refresh      string
}

const (
	// maxIDToken bounds an ID token in bytes before it is parsed.
	maxIDToken = 64 << 10
	// maxSubject is the length of a sub claim (OpenID Connect Core 1.0, section
	// 2: at most 255 ASCII characters).
	maxSubject = 255
)

// claims are what we read of an ID token and of userinfo. Providers disagree on
// the types of some.
type claims struct {
	Subject  string `json:"sub"`
	Issuer   string `json:"iss"`
	AZP      string `json:"azp"`
	IssuedAt *int64 `json:"iat"`
	Nonce    string `json:"nonce"`
	AuthTime int64  `json:"auth_time"`
	AMR      texts  `json:"amr"`
	ACR      string `json:"acr"`
	SID      string `json:"sid"`
	Email    string `json:"email"`
	Verified truth  `json:"email_verified"`
	Name     string `json:"name"`
	Username string `json:"preferred_username"`
	Picture  string `json:"picture"`
	// HD is Google's hosted domain.
	HD string `json:"hd"`
	// TID is Entra's tenant. The others are optional claims of Entra that vouch
	// for the address, and what it sends when there are too many groups.
	TID             string                     `json:"tid"`
	DomainVerified  truth                      `json:"xms_edov"`
	PrimaryEmails   texts                      `json:"verified_primary_email"`
	SecondaryEmails texts                      `json:"verified_secondary_email"`
	HasGroups       truth                      `json:"hasgroups"`
	ClaimNames      map[string]json.RawMessage `json:"_claim_names"`
	// Events is what makes a token a logout token (OpenID Connect Back-Channel
	// Logout 1.0, section 2.4).
	Events json.RawMessage `json:"events"`
}

// UnmarshalJSON takes a claim only under its exact name. By itself encoding/json
// would also take "Sub" or "EMAIL_VERIFIED" for it, and the last one would win:
// at some providers people name attributes of their own.
func (c *claims) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool {
		return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != ""
	})
	exact, err := json.Marshal(all)
	if err != nil {
		return err
	}
	type plain claims // without this method
	return json.Unmarshal(exact, (*plain)(c))
}

// prove returns the Identity that the ID token of g proves. A refreshed grant
// may come without one: then it is still the same person, of whom userinfo may
// tell news.
func (p *Provider) prove(ctx context.Context, e *endpoint, g *grant, want expected) (*Identity, error) {
	if g.id == "" && want.was != nil {
		id := &Identity{Issuer: want.was.Issuer, Subject: want.was.Subject}
		if e.metadata.UserinfoURL == "" {
			// There is nobody to ask: what was known stays as good as it was.
			id.Groups, id.Stale = want.was.Groups, want.was.Stale
			id.Email, id.EmailVerified = want.was.Email, want.was.EmailVerified
		}
		return id, nil
	}
	id, _, err := p.verify(ctx, e, g, want)
	return id, err
}

// verify returns the Identity that the ID token of g proves (OpenID Connect
// Core 1.0, section 3.1.3.7), and the token's claims.
func (p *Provider) verify(ctx context.Context, e *endpoint, g *grant, want expected) (*Identity, *claims, error) {
	if g.id == "" || len(g.id) > maxIDToken {
		return nil, nil, fmt.Errorf("%w: missing, or longer than %d bytes", ErrIDToken, maxIDToken)
	}
	// go-oidc does not wrap the errors of a key set, so ask for the keys first:
	// without them it is not the token that is wrong.
	if _, err := e.keys.current(ctx); err != nil {
		return nil, nil, err
	}
	// go-oidc: signature, algorithm, iss, aud, exp, nbf.
	token, err := e.verifier.Verify(ctx, g.id)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	var c claims
	if err := token.Claims(&c); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	if err := p.checkIDToken(&c, token, want); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	if token.AccessTokenHash != "" {
		if err := token.VerifyAccessToken(g.access); err != nil {
			return nil, nil, fmt.Errorf("%w: at_hash: %w", ErrIDToken, err)
		}
	}
	groups, err := p.groups(token.Claims)
	if err != nil {
		return nil, nil, err
	}
	id := &Identity{
		Issuer: p.issuerOf(&c), Subject: c.Subject, SID: c.SID, AMR: c.AMR, ACR: c.ACR, Groups: groups,
		Tokens: Tokens{ID: g.id, IDExpiry: token.Expiry},
	}
	if id.Claims.IDToken, err = document(token.Claims); err != nil {
		return nil, nil, err
	}
	id.describe(&c)
	if c.AuthTime > 0 {
		id.AuthTime = time.Unix(c.AuthTime, 0)
	}
	return id, &c, nil
}

// checkIDToken makes the checks that go-oidc leaves to its caller.
func (p *Provider) checkIDToken(c *claims, token *oidc.IDToken, want expected) error {
	switch {
	case c.Subject == "" || len(c.Subject) > maxSubject:
		return errors.New("sub is missing or too long")
	case want.was == nil && (want.nonce == "" || subtle.ConstantTimeCompare([]byte(c.Nonce), []byte(want.nonce)) != 1):
		return errors.New("the nonce is not this login's")
	case c.IssuedAt == nil:
		return errors.New("iat is missing")
	case time.Unix(*c.IssuedAt, 0).After(p.config.Now().Add(clockSkew)):
		return errors.New("iat is in the future; do the clocks agree?")
	case c.AZP != "" && c.AZP != p.config.ClientID:
		return errors.New("azp is another client")
	case len(token.Audience) > 1 && c.AZP == "":
		return errors.New("there are several audiences and no azp")
	case len(c.Events) > 0:
		return errors.New("it is a logout token")
	}
	// Before userinfo or an API is asked: when those are down, the tokens of
	// somebody else must not be kept for the person who was signed in.
	return want.same(p.issuerOf(c), c.Subject)
}

// issuerOf returns the issuer of the person whom c is about. Only Entra's is in
// the token: Google's may be written without its scheme there.
func (p *Provider) issuerOf(c *claims) string {
	if p.config.Type == Entra {
		return c.Issuer
	}
	return p.config.Issuer
}

// addUserinfo asks the userinfo endpoint for what the ID token left out. With
// the code flow many providers put e-mail and groups there only.
func (p *Provider) addUserinfo(ctx context.Context, e *endpoint, g *grant, id *Identity, groups bool) error {
	if e.metadata.UserinfoURL == "" || id.Email != "" && !groups && !p.config.ReadUserinfo {
		return nil
	}
	info, err := e.oidc.UserInfo(ctx, g.bearer())
	if err != nil {
		return fmt.Errorf("%w: userinfo: %w", ErrUnavailable, withoutURL(err))
	}
	var c claims
	if err := info.Claims(&c); err != nil {
		return fmt.Errorf("%w: userinfo: %w", ErrClaims, err)
	}
	// An access token for somebody else must not lend its claims (OpenID
	// Connect Core 1.0, section 5.3.2).
	if c.Subject != id.Subject {
		return fmt.Errorf("%w: userinfo is %w", ErrIDToken, errAnotherPerson)
	}
	if id.Claims.Userinfo, err = document(info.Claims); err != nil {
		return err
	}
	if id.Email == "" {
		id.describe(&c)
	}
	if groups {
		id.Groups, err = p.groups(info.Claims)
	}
	return err
}

// document returns the JSON object that read decodes, whole.
func document(read func(any) error) (map[string]any, error) {
	var raw json.RawMessage
	if err := read(&raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	return parseDocument(raw)
}

// parseDocument decodes a JSON object. Numbers stay as they are written: a
// float64 would make two ids of 17 digits one.
func parseDocument(raw []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var all map[string]any
	if err := decoder.Decode(&all); err != nil {
		return nil, fmt.Errorf("%w: what the provider says is not a JSON object", ErrClaims)
	}
	return all, nil
}

// describe takes over what c says about the person and id does not know yet. An
// address and its verification come from the same source.
func (id *Identity) describe(c *claims) {
	id.Email, id.EmailVerified = c.Email, bool(c.Verified) && c.Email != ""
	for _, name := range []string{c.Name, c.Username} {
		if id.Name == "" {
			id.Name = name
		}
	}
	if id.Picture == "" {
		id.Picture = c.Picture
	}
}

// groups reads the configured groups claim, nil if there is none.
func (p *Provider) groups(read func(any) error) ([]string, error) {
	var all map[string]json.RawMessage
	if err := read(&all); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClaims, err)
	}
	list, err := textsAt(all, p.config.GroupsClaim)
	if err != nil {
		return nil, fmt.Errorf("%w: the groups claim %q is neither a text nor a list of texts", ErrClaims, p.config.GroupsClaim)
	}
	if p.config.Type != Keycloak {
		return list, nil
	}
	return p.addRoles(list, all)
}

// textsAt returns the list of texts at path, nil if there is none. A claim of
// exactly that name comes first: many are named like an address.
func textsAt(all map[string]json.RawMessage, path string) (texts, error) {
	raw, ok := all[path]
	for !ok {
		head, rest, nested := strings.Cut(path, ".")
		var below map[string]json.RawMessage
		if !nested || json.Unmarshal(all[head], &below) != nil {
			return nil, nil
		}
		all, path = below, rest
		raw, ok = all[path]
	}
	var list texts
	err := json.Unmarshal(raw, &list)
	return list, err
}

// addRoles appends Keycloak's roles to the groups: role:admin for one of the
// realm, role:app:editor for one of the client app.
func (p *Provider) addRoles(groups []string, all map[string]json.RawMessage) ([]string, error) {
	realm, err := textsAt(all, "realm_access.roles")
	if err != nil {
		return nil, fmt.Errorf("%w: realm_access.roles is not a list of texts", ErrClaims)
	}
	for _, role := range realm {
		groups = append(groups, "role:"+role)
	}
	var clients map[string]json.RawMessage
	_ = json.Unmarshal(all["resource_access"], &clients) // absent is nil
	for _, client := range slices.Sorted(maps.Keys(clients)) {
		var access map[string]json.RawMessage
		_ = json.Unmarshal(clients[client], &access)
		roles, err := textsAt(access, "roles")
		if err != nil {
			return nil, fmt.Errorf("%w: the roles of a client in resource_access are not a list of texts", ErrClaims)
		}
		for _, role := range roles {
			groups = append(groups, "role:"+client+":"+role)
		}
	}
	return groups, nil
}

// check refuses values that would end up in a header or a page and hold control
// characters: no honest provider sends them.
func (id *Identity) check() error {
	for _, v := range slices.Concat([]string{id.Subject, id.Email, id.Name, id.Picture, id.SID, id.ACR}, id.Groups, id.AMR) {
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("%w: a value holds a control character", ErrClaims)
		}
	}
	return nil
}

// truth is a boolean that some providers send as text.
type truth bool

// UnmarshalJSON takes true, "true" and everything else as false.
func (t *truth) UnmarshalJSON(b []byte) error {
	*t = string(b) == "true" || string(b) == `"true"`
	return nil
}

// texts is a list of texts that some providers send as one text.
type texts []string

// UnmarshalJSON takes a text or a list of texts, and null as no list at all. A
// null in a list is refused: encoding/json would make it an empty text.
func (t *texts) UnmarshalJSON(b []byte) error {
	*t = nil
	if string(b) == "null" {
		return nil
	}
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = texts{one}
		return nil
	}
	var list []*string
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	all := make(texts, 0, len(list))
	for _, v := range list {
		if v == nil {
			return errors.New("oauth: a list of texts holds null")
		}
		all = append(all, *v)
	}
	*t = all
	return nil
}
