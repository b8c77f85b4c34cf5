package redisstore

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"authproxy/session"
)

// A hash is what a key of Redis holds, by field.
type hash map[string]string

// pairs returns fields and values in turn, for HSET.
func (h hash) pairs() []string {
	list := make([]string, 0, 2*len(h))
	for name, value := range h {
		list = append(list, name, value)
	}
	return list
}

// sessionHash returns what stands in the key of a session, and never changes
// with a touch.
func sessionHash(row *session.Row) (hash, error) {
	amr, err := encode(row.AMR, row.AMR == nil)
	if err != nil {
		return nil, err
	}
	h := hash{
		"token": row.Token.String(), "absoluteExpiresAt": millis(row.AbsoluteExpiresAt), "createdAt": millis(row.CreatedAt),
		"ipAddress": row.IP, "userAgent": row.UserAgent,
		"providerId": row.User.Provider, "accountId": row.User.Subject, "idpSid": row.ProviderSID,
		"authTime": millis(row.AuthTime), "amr": amr, "acr": row.ACR, "data": string(row.Data),
	}
	for name, value := range credentialHash(&row.Credential, row.Credential.Version) {
		h[name] = value
	}
	h["refreshLockUntil"] = millis(row.Credential.RefreshLockUntil)
	return h, nil
}

// credentialHash returns the fields that a refresh replaces.
func credentialHash(c *session.Credential, version int) hash {
	return hash{
		"accessToken": c.Access, "refreshToken": c.Refresh, "idToken": c.ID,
		"accessTokenExpiresAt": millis(c.AccessExpires), "idTokenExpiresAt": millis(c.IDExpires),
		"refreshAt": millis(c.RefreshAt), "readAt": millis(c.ReadAt), "version": strconv.Itoa(version),
	}
}

// personHash returns what the provider says of a person.
func personHash(u *session.User, now time.Time) (hash, error) {
	groups, err := encode(u.Groups, u.Groups == nil)
	if err != nil {
		return nil, err
	}
	claims, err := encode(exact(u.Claims), u.Claims == nil)
	if err != nil {
		return nil, err
	}
	verified := "0"
	if u.EmailVerified {
		verified = "1"
	}
	return hash{
		"issuer": u.Issuer, "accountId": u.Subject, "providerId": u.Provider, "email": u.Email, "emailVerified": verified,
		"name": u.Name, "image": u.Image, "groups": groups, "claims": claims, "updatedAt": millis(now),
	}, nil
}

// clocksHash returns what a touch changes.
func clocksHash(row *session.Row) hash {
	return hash{"lastSeenAt": millis(row.LastSeenAt), "expiresAt": millis(row.ExpiresAt), "updatedAt": millis(row.UpdatedAt)}
}

// row returns the session that three hashes are. What an administrator wrote
// that cannot be read is taken for the less favourable.
func (r ref) row(s, clocks, person hash) (*session.Row, error) {
	row := &session.Row{
		Session: &session.Session{
			ID: r.id, CreatedAt: fromMillis(s["createdAt"]), AbsoluteExpiresAt: fromMillis(s["absoluteExpiresAt"]),
			LastSeenAt: fromMillis(clocks["lastSeenAt"]), ExpiresAt: atLeastOld(clocks["expiresAt"]), UpdatedAt: fromMillis(clocks["updatedAt"]),
			IP: s["ipAddress"], UserAgent: s["userAgent"], ProviderSID: s["idpSid"],
			AuthTime: fromMillis(s["authTime"]), ACR: s["acr"],
		},
		Credential: session.Credential{
			Access: s["accessToken"], Refresh: s["refreshToken"], ID: s["idToken"],
			AccessExpires: fromMillis(s["accessTokenExpiresAt"]), IDExpires: fromMillis(s["idTokenExpiresAt"]),
			RefreshAt: fromMillis(s["refreshAt"]), ReadAt: fromMillis(s["readAt"]),
			Version: number(s["version"], -1), RefreshLockUntil: fromMillis(s["refreshLockUntil"]),
		},
		Epoch: number(s["epoch"], -1), UserEpoch: number(person["sessionEpoch"], -2),
		Banned: banned(person), BanExpires: banEnd(person),
	}
	// A token that cannot be read stays zero, which no cookie holds.
	if sum, err := base64.RawURLEncoding.DecodeString(s["token"]); err == nil && len(sum) == len(row.Token) {
		row.Token = session.Hash(sum)
	}
	if s["data"] != "" {
		row.Data = json.RawMessage(s["data"])
	}
	user, err := r.person(person)
	if err != nil {
		return nil, err
	}
	row.User, row.User.Provider = user, s["providerId"]
	return row, decode(s["amr"], &row.AMR)
}

// person returns the user that a hash is.
func (r ref) person(h hash) (session.User, error) {
	u := session.User{
		ID: r.user, Issuer: h["issuer"], Subject: h["accountId"], Provider: h["providerId"],
		Email: h["email"], EmailVerified: h["emailVerified"] == "1" || h["emailVerified"] == "true",
		Name: h["name"], Image: h["image"], Role: h["role"],
	}
	if err := decode(h["groups"], &u.Groups); err != nil {
		return u, err
	}
	if err := decode(h["claims"], &u.Claims); err != nil {
		return u, err
	}
	for name, value := range u.Claims {
		u.Claims[name] = inexact(value)
	}
	return u, nil
}

// account returns the person that a hash is, as administrators see them.
func (r ref) account(h hash) (session.Account, error) {
	u, err := r.person(h)
	return session.Account{
		User: u, Banned: banned(h), BanReason: h["banReason"], BanExpires: banEnd(h),
		CreatedAt: fromMillis(h["createdAt"]), LastSignInAt: fromMillis(h["lastSignInAt"]),
	}, err
}

// banned says whether a person is refused. Whatever is not clearly no is yes.
func banned(h hash) bool {
	switch strings.ToLower(h["banned"]) {
	case "", "0", "false", "no":
		return false
	}
	return true
}

// banEnd returns until when; a time that cannot be read is none, for good.
func banEnd(h hash) time.Time {
	if _, err := strconv.ParseInt(h["banExpires"], 10, 64); err != nil {
		return time.Time{}
	}
	return fromMillis(h["banExpires"])
}

// millis returns t as it stands in Redis, "" for the zero time.
func millis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

// fromMillis returns the time of millis; what is none is long ago.
func fromMillis(text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		ms = 0
	}
	return time.UnixMilli(ms).UTC()
}

// atLeastOld is fromMillis for a time that must be there: without it the
// session is over.
func atLeastOld(text string) time.Time {
	if text == "" {
		text = "0"
	}
	return fromMillis(text)
}

func number(text string, otherwise int) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return otherwise
	}
	return n
}

// encode returns v as JSON, "" if it is nothing.
func encode(v any, nothing bool) (string, error) {
	if nothing {
		return "", nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", fmt.Errorf("redisstore: %w", err)
	}
	return strings.TrimSpace(b.String()), nil
}

// decode reads what encode made into v, and leaves v alone for "".
func decode(text string, v any) error {
	if text == "" {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("redisstore: a field that is not JSON: %w", err)
	}
	return nil
}

// exact returns a claim with float64 that cannot be taken for int64 in JSON.
func exact(v any) any {
	switch v := v.(type) {
	case float64:
		if v == math.Trunc(v) && !math.IsInf(v, 0) {
			return json.Number(strconv.FormatFloat(v, 'e', -1, 64))
		}
	case map[string]any:
		c := make(map[string]any, len(v))
		for name, value := range v {
			c[name] = exact(value)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, value := range v {
			c[i] = exact(value)
		}
		return c
	}
	return v
}

// inexact returns the claim that exact was given.
func inexact(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for name, value := range v {
			v[name] = inexact(value)
		}
	case []any:
		for i, value := range v {
			v[i] = inexact(value)
		}
	}
	return v
}
