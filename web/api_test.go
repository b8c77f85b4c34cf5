package web_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"authproxy/policy"
	"authproxy/session"
	"authproxy/token"
)

// stamp is how the API writes a time.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// as gives JSON the form that a decoded answer has.
func as(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// userID is the UUID of who is signed in.
func (b *browser) userID() string {
	b.Helper()
	_, v := b.api("GET", "/auth/session", "")
	id, _ := dig(v, "user", "id").(string)
	return id
}

func TestSessionShape(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	began := b.clock.Now()
	b.mustSignIn("alice")
	id := b.sessionID()
	a, got := b.api("GET", "/auth/session", "")
	end := stamp(began.Add(7 * 24 * time.Hour))
	want := as(t, fmt.Sprintf(`{
		"user": {"id": %[1]q, "name": "Alice Adams", "email": "alice@example.com", "emailVerified": true, "image": "",
			"role": "admin", "roles": ["admin"], "groups": ["admins", "staff"]},
		"session": {"id": %[2]q, "userId": %[1]q, "createdAt": %[3]q, "updatedAt": %[3]q, "lastSeenAt": %[3]q, "expiresAt": %[4]q,
			"ipAddress": "192.0.2.7", "userAgent": %[5]q, "provider": "one", "amr": ["pwd"]},
		"expires": %[4]q}`, b.userID(), id, stamp(began), end, b.agent))
	if diff := cmp.Diff(want, got); a.StatusCode != 200 || diff != "" {
		t.Errorf("GET /session = %d, difference (-want +got):\n%s", a.StatusCode, diff)
	}
	if got := b.userID(); len(got) != 36 || got[14] != '5' {
		t.Errorf("user.id = %q, want a UUID of version 5", got)
	}
}

func TestNobodyIsNull(t *testing.T) {
	s := newSite(t, func(s *settings) { s.admit = policy.Members{Groups: []string{"admins"}} })
	b := s.newBrowser(t)
	for name, header := range map[string][]string{
		"no credentials":      nil,
		"a forged bearer":     {"Authorization", "Bearer forged"},
		"basic authorization": {"Authorization", "Basic YTpi"},
		"a forged cookie":     {"Cookie", "__Host-authproxy_session=forged"},
	} {
		if a, _ := b.api("GET", "/auth/session", "", header...); a.StatusCode != 200 || a.body != "null\n" {
			t.Errorf("%s: GET /session = %d %q, want 200 null", name, a.StatusCode, a.body)
		}
	}
}

func TestWhatNeedsSomebody(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for _, call := range []string{"POST /auth/session", "GET /auth/sessions", "DELETE /auth/sessions/x", "DELETE /auth/sessions?scope=all", "GET /auth/userinfo", "GET /auth/token"} {
		method, target, _ := strings.Cut(call, " ")
		a, got := b.api(method, target, "")
		message := dig(got, "message")
		want := map[string]any{"error": "unauthenticated", "message": message, "request_id": "request-1", "sign_in": origin + "/auth/sign-in?rd=%2F"}
		if diff := cmp.Diff(any(want), got); a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") != "Bearer" || message == "" || diff != "" {
			t.Errorf("%s = %d, WWW-Authenticate %q, difference (-want +got):\n%s", call, a.StatusCode, a.Header.Get("WWW-Authenticate"), diff)
		}
	}
}

func TestSessionsShape(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	began := b.clock.Now()
	b.mustSignIn("bob")
	a, got := b.api("GET", "/auth/sessions", "")
	want := as(t, fmt.Sprintf(`[{"id": %q, "current": true, "createdAt": %[2]q, "lastSeenAt": %[2]q, "expiresAt": %q,
		"ipAddress": "192.0.2.7", "userAgent": %q, "device": "Firefox on Linux", "provider": "one"}]`,
		b.sessionID(), stamp(began), stamp(began.Add(7*24*time.Hour)), b.agent))
	if diff := cmp.Diff(want, got); a.StatusCode != 200 || a.Header.Get("X-Sessions-Complete") != "false" || diff != "" {
		t.Errorf("GET /sessions = %d, X-Sessions-Complete %q, difference (-want +got):\n%s", a.StatusCode, a.Header.Get("X-Sessions-Complete"), diff)
	}
}

func TestOnlyTheCurrentSessionCanBeEnded(t *testing.T) {
	s := newSite(t, nil)
	b, other := s.newBrowser(t), s.newBrowser(t)
	b.mustSignIn("alice")
	other.mustSignIn("alice")
	for target, want := range map[string]struct {
		status int
		code   string
	}{
		"/auth/sessions/" + other.sessionID(): {409, "strategy_unsupported"},
		"/auth/sessions/none":                 {409, "strategy_unsupported"},
		"/auth/sessions?scope=others":         {409, "strategy_unsupported"},
		"/auth/sessions?scope=all":            {409, "strategy_unsupported"},
		"/auth/sessions?scope=mine":           {400, "invalid_scope"},
		"/auth/sessions":                      {400, "invalid_scope"},
	} {
		if a, v := b.api("DELETE", target, ""); a.StatusCode != want.status || dig(v, "error") != want.code {
			t.Errorf("DELETE %s = %d %v, want %d %s", target, a.StatusCode, dig(v, "error"), want.status, want.code)
		}
	}
	if b.user() == "" || other.user() == "" {
		t.Fatal("a refused call ended a session")
	}
	copied := b.jar.copy()
	a, _ := b.api("DELETE", "/auth/sessions/"+b.sessionID(), "")
	if a.StatusCode != http.StatusNoContent || a.body != "" || b.jar.ours()["__Host-authproxy_session"] != "" {
		t.Errorf("DELETE of the current session = %d %q, cookie left: %v; want 204, no body, no cookie", a.StatusCode, a.body, b.jar.ours())
	}
	if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Vary") != "Cookie" {
		t.Errorf("Cache-Control %q, Vary %q, want no-store, Cookie", a.Header.Get("Cache-Control"), a.Header.Get("Vary"))
	}
	b.jar.restore(copied)
	if b.user() != "" || other.user() == "" {
		t.Error("the ended session still lives, or another one does not")
	}
}

func TestPollingDoesNotExtendAndAskingDoes(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	began := b.clock.Now()
	b.mustSignIn("alice")
	end := stamp(began.Add(7 * 24 * time.Hour))
	for range 3 {
		b.clock.advance(2 * 24 * time.Hour)
		a, v := b.api("GET", "/auth/session", "")
		if dig(v, "expires") != end || len(a.Header["Set-Cookie"]) > 0 {
			t.Errorf("polled: expires = %v with cookies %v, want %s and none", dig(v, "expires"), a.Header["Set-Cookie"], end)
		}
	}
	now := b.clock.Now()
	_, v := b.api("POST", "/auth/session", "")
	later := stamp(now.Add(7 * 24 * time.Hour))
	if dig(v, "expires") != later || dig(v, "session", "expiresAt") != later || dig(v, "session", "updatedAt") != stamp(now) || dig(v, "session", "lastSeenAt") != stamp(now) {
		t.Errorf("POST /session = %v, want it extended to %s", v, later)
	}
	if _, again := b.api("GET", "/auth/session", ""); !cmp.Equal(v, again) {
		t.Errorf("POST /session and then GET differ (-POST +GET):\n%s", cmp.Diff(v, again))
	}
	b.clock.advance(7 * 24 * time.Hour)
	if b.user() != "" {
		t.Error("the session lives at its very end")
	}
}

func TestPollingAloneLetsTheSessionEnd(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	for range 7 {
		if b.user() == "" {
			t.Fatal("the session ended too early")
		}
		b.clock.advance(24 * time.Hour)
	}
	if b.user() != "" {
		t.Error("a page that polls keeps a session alive")
	}
}

func TestBodiesOfSessionUpdates(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	for body, status := range map[string]int{
		"": 200, "{}": 200, ` {"data":null} `: 200, `{"unknown":1}`: 200,
		`{"data":{"a":1}}`: 409, `{"data"`: 400, `[]`: 400, `{}{}`: 400, `data=1`: 400,
		`{"x":"` + strings.Repeat("x", 9<<10) + `"}`: 413,
	} {
		if a, _ := b.api("POST", "/auth/session", body, "Content-Type", "application/json"); a.StatusCode != status {
			t.Errorf("POST /session with %.20q = %d, want %d", body, a.StatusCode, status)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", origin+"/auth/session", struct{ *strings.Reader }{strings.NewReader("")})
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = -1 // as over HTTP/2, where an empty body need not say so
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if a := b.do(r); a.StatusCode != 200 {
		t.Errorf("POST /session with an empty body of unknown length = %d, want 200", a.StatusCode)
	}
}

func TestUserinfoShape(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("bob")
	id := b.userID()
	a, got := b.api("GET", "/auth/userinfo", "")
	want := as(t, fmt.Sprintf(`{"sub": %[1]q, "user": %[1]q, "email": "bob@example.com", "groups": ["staff"], "preferredUsername": "Bob Brown"}`, id))
	if diff := cmp.Diff(want, got); a.StatusCode != 200 || diff != "" {
		t.Errorf("GET /userinfo = %d, difference (-want +got):\n%s", a.StatusCode, diff)
	}
	b.mustSignIn(carol)
	if _, v := b.api("GET", "/auth/userinfo", ""); dig(v, "email") != "" {
		t.Errorf("userinfo tells the address %v, which nobody has verified", dig(v, "email"))
	}
	_, v := b.api("GET", "/auth/session", "")
	if dig(v, "user", "emailVerified") != false || dig(v, "user", "role") != "user" || !cmp.Equal(dig(v, "user", "roles"), any([]any{})) || !cmp.Equal(dig(v, "user", "groups"), any([]any{})) {
		t.Errorf("GET /session of somebody without anything = %v, want emailVerified false, role user and empty lists", v)
	}
}

// verifier returns the key function of a service that knows our JWKS only.
func (b *browser) verifier() jwt.Keyfunc {
	b.Helper()
	a := b.get("/auth/jwks")
	var set struct {
		Keys []struct{ Kty, Crv, Kid, Alg, Use, X, Y, D string }
	}
	if err := json.Unmarshal([]byte(a.body), &set); err != nil {
		b.Fatal(err)
	}
	return func(t *jwt.Token) (any, error) {
		for _, k := range set.Keys {
			if k.Kid != t.Header["kid"] || k.Kty != "EC" || k.Crv != "P-256" || k.Alg != "ES256" || k.Use != "sig" || k.D != "" {
				continue
			}
			x, errX := base64.RawURLEncoding.DecodeString(k.X)
			y, errY := base64.RawURLEncoding.DecodeString(k.Y)
			if errX == nil && errY == nil {
				return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
			}
		}
		return nil, fmt.Errorf("no key %v", t.Header["kid"])
	}
}

func TestTokenVerifiesAgainstTheJWKS(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	began := b.clock.Now()
	b.mustSignIn("alice")
	a, v := b.api("GET", "/auth/token", "")
	raw, _ := dig(v, "token").(string)
	want := map[string]any{"token": raw, "token_type": "Bearer", "expires_in": 900.0, "expires_at": stamp(began.Add(15 * time.Minute))}
	if diff := cmp.Diff(any(want), v); a.StatusCode != 200 || diff != "" {
		t.Errorf("GET /token = %d, difference (-want +got):\n%s", a.StatusCode, diff)
	}
	claims := jwt.MapClaims{}
	if _, err := jwt.ParseWithClaims(raw, claims, b.verifier(), jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(origin+"/auth"),
		jwt.WithAudience(origin), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(b.clock.Now)); err != nil {
		t.Fatalf("a service that knows the JWKS refuses the token: %v", err)
	}
	for name, want := range map[string]any{
		"sub": b.userID(), "sid": b.sessionID(), "email": "alice@example.com", "email_verified": true, "name": "Alice Adams",
		"role": "authenticated", "roles": []any{"admin"}, "groups": []any{"admins", "staff"}, "iat": float64(began.Unix()), "auth_time": float64(began.Unix()),
	} {
		if !cmp.Equal(claims[name], want) {
			t.Errorf("claim %s = %v, want %v", name, claims[name], want)
		}
	}
	if a, v := b.api("GET", "/auth/token?profile=hasura", ""); a.StatusCode != 404 || dig(v, "error") != "unknown_profile" {
		t.Errorf("GET /token?profile=hasura = %d %v, want 404 unknown_profile", a.StatusCode, dig(v, "error"))
	}
}

func TestOurTokenIsACredentialWhileItsSessionLives(t *testing.T) {
	s := newSite(t, nil)
	b, script := s.newBrowser(t), s.newBrowser(t)
	b.mustSignIn("alice")
	_, v := b.api("GET", "/auth/token", "")
	raw, _ := dig(v, "token").(string)
	bearer := []string{"Authorization", "Bearer " + raw}
	if a, v := script.api("GET", "/auth/userinfo", "", bearer...); a.StatusCode != 200 || dig(v, "email") != "alice@example.com" {
		t.Errorf("GET /userinfo with our token = %d %s, want alice", a.StatusCode, a.body)
	}
	if _, v := script.api("GET", "/auth/session", "", bearer...); dig(v, "session", "id") != b.sessionID() || dig(v, "session", "createdAt") != nil {
		t.Errorf("GET /session with our token = %v, want the session's id and none of its times", v)
	}
	for _, call := range []string{"POST /auth/session", "GET /auth/sessions", "DELETE /auth/sessions/" + b.sessionID(), "DELETE /auth/sessions?scope=all"} {
		method, target, _ := strings.Cut(call, " ")
		if a, _ := script.api(method, target, "", bearer...); a.StatusCode != 401 {
			t.Errorf("%s with a token only = %d, want 401: it needs the cookie", call, a.StatusCode)
		}
	}
	b.signOut()
	refused(t, script, "after sign-out", bearer...)
}

// refused checks that a bearer is refused at /userinfo and /token.
func refused(t *testing.T, b *browser, name string, header ...string) {
	t.Helper()
	for _, target := range []string{"/auth/userinfo", "/auth/token"} {
		a, v := b.api("GET", target, "", header...)
		if a.StatusCode != 401 || dig(v, "error") != "invalid_token" || a.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
			t.Errorf("%s: GET %s = %d %v, WWW-Authenticate %q; want 401 invalid_token", name, target, a.StatusCode, dig(v, "error"), a.Header.Get("WWW-Authenticate"))
		}
	}
}

func TestBearersThatAreRefused(t *testing.T) {
	s := newSite(t, nil)
	b, script := s.newBrowser(t), s.newBrowser(t)
	b.mustSignIn("alice")
	_, v := b.api("GET", "/auth/token", "")
	raw, _ := dig(v, "token").(string)
	parts := strings.Split(raw, ".")
	claims := token.Claims{Subject: b.userID(), SessionID: b.sessionID(), Version: 1}
	mint := func(issuer, audience, secret string) string {
		i, err := token.New(token.Config{Issuer: issuer, Audience: audience, TTL: time.Hour, Secrets: [][]byte{[]byte(secret)}, Now: s.clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		forged, _, err := i.Mint(claims, s.clock.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return forged
	}
	strange := strings.Repeat("a secret ", 5)[:token.SecretSize]
	old := claims
	old.Version = 0
	voided, _, err := s.tokens.Mint(old, s.clock.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	idToken := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": origin + "/auth", "aud": origin, "sub": "x", "exp": s.clock.Now().Add(time.Hour).Unix()})
	hmac, err := idToken.SignedString([]byte(s.web.Prefix))
	if err != nil {
		t.Fatal(err)
	}
	for name, bearer := range map[string]string{
		"another issuer's":        mint("https://evil.example", origin, strange),
		"our names, a forged key": mint(origin+"/auth", origin, strange),
		"of another version":      voided,
		"HMAC":                    hmac,
		"without signature":       parts[0] + "." + parts[1] + ".",
		"changed":                 parts[0] + "." + flip(parts[1]) + "." + parts[2],
		"opaque":                  "0123456789abcdef",
	} {
		refused(t, script, name, "Authorization", "Bearer "+bearer)
	}
	// What is no bearer at all is not even looked at.
	for name, header := range map[string][]string{
		"twice":          {"Authorization", "Bearer " + raw, "Authorization", "Bearer " + raw},
		"another scheme": {"Authorization", "Token " + raw},
		"no token":       {"Authorization", "Bearer "},
	} {
		if a, v := script.api("GET", "/auth/userinfo", "", header...); a.StatusCode != 401 || dig(v, "error") != "unauthenticated" {
			t.Errorf("%s: GET /userinfo = %d %v, want 401 unauthenticated", name, a.StatusCode, dig(v, "error"))
		}
	}
	if a, _ := script.api("GET", "/auth/userinfo", "", "Authorization", "bEARER "+raw); a.StatusCode != 200 {
		t.Errorf("the scheme in another case = %d, want 200 (RFC 9110, section 11.1)", a.StatusCode)
	}
	s.clock.advance(15 * time.Minute)
	refused(t, script, "expired", "Authorization", "Bearer "+raw)
}

func TestSessionOfSomebodyWhoIsNoLongerAdmitted(t *testing.T) {
	before := newSite(t, nil).newBrowser(t)
	before.mustSignIn("bob")
	_, v := before.api("GET", "/auth/token", "")
	raw, _ := dig(v, "token").(string)

	// The same keys, after the list of who may sign in has changed.
	after := newSite(t, func(s *settings) { s.admit = policy.Members{Groups: []string{"admins"}} }).newBrowser(t)
	after.jar.put("__Host-authproxy_session", before.jar.ours()["__Host-authproxy_session"])
	if got := after.user(); got != "" {
		t.Errorf("GET /session says %q, want null", got)
	}
	for name, header := range map[string][]string{"cookie": nil, "bearer": {"Authorization", "Bearer " + raw}} {
		if a, _ := after.api("GET", "/auth/userinfo", "", header...); a.StatusCode != 401 {
			t.Errorf("%s: GET /userinfo = %d, want 401", name, a.StatusCode)
		}
	}
	if a := after.get("/auth/sign-in?rd=/"); a.location() == "/" {
		t.Error("the sign-in page sends somebody on who may not come in: that is a loop")
	}
}

func TestProvidersShape(t *testing.T) {
	b := newSite(t, func(s *settings) { s.providers = []string{"one", "two"} }).newBrowser(t)
	_, got := b.api("GET", "/auth/providers", "")
	want := as(t, `{"one": {"id": "one", "name": "Provider one", "type": "oidc", "signinUrl": "https://app.example.com/auth/sign-in/one"},
		"two": {"id": "two", "name": "Provider two", "type": "oidc", "signinUrl": "https://app.example.com/auth/sign-in/two"}}`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GET /providers, difference (-want +got):\n%s", diff)
	}
}

func TestKeysArePublic(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	var bodies []string
	for _, target := range []string{"/auth/jwks", "/auth/.well-known/jwks.json", "/auth/.well-known/openid-configuration"} {
		a := b.get(target, "Origin", "https://anybody.example")
		bodies = append(bodies, a.body)
		etag := a.Header.Get("ETag")
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300", "Content-Type": "application/json",
			"X-Content-Type-Options": "nosniff", "Vary": "", "Set-Cookie": "",
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("GET %s: %s = %q, want %q", target, name, got, want)
			}
		}
		if a.StatusCode != 200 || !strings.HasPrefix(etag, `"`) {
			t.Errorf("GET %s = %d with ETag %q, want 200 and an ETag", target, a.StatusCode, etag)
		}
		for _, match := range []string{etag, "W/" + etag, `"x", ` + etag, "*"} {
			if not := b.get(target, "If-None-Match", match); not.StatusCode != 304 || not.body != "" || not.Header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("GET %s with If-None-Match %s = %d %q, want 304 without a body", target, match, not.StatusCode, not.body)
			}
		}
		if changed := b.get(target, "If-None-Match", `"x"`); changed.StatusCode != 200 || changed.body != a.body {
			t.Errorf("GET %s with another ETag = %d, want 200", target, changed.StatusCode)
		}
		if head := b.send("HEAD", target, ""); head.StatusCode != 200 || head.body != "" || head.Header.Get("ETag") != etag {
			t.Errorf("HEAD %s = %d %q, want the same without a body", target, head.StatusCode, head.body)
		}
	}
	if bodies[0] != bodies[1] {
		t.Error("the two addresses of the key set differ")
	}
	want := as(t, `{"issuer": "https://app.example.com/auth", "jwks_uri": "https://app.example.com/auth/jwks", "id_token_signing_alg_values_supported": ["ES256"]}`)
	if diff := cmp.Diff(want, as(t, bodies[2])); diff != "" {
		t.Errorf("metadata, difference (-want +got):\n%s", diff)
	}
}

func TestOnlyPublicAnswersMayBeKept(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	check := func(call string, a answer) {
		t.Helper()
		vary := strings.Join(a.Header.Values("Vary"), ",")
		if a.Header.Get("Cache-Control") != "no-store" || strings.Count(vary, "Cookie") != 1 {
			t.Errorf("%s = %d: Cache-Control %q, Vary %q; want no-store, and Cookie once", call, a.StatusCode, a.Header.Get("Cache-Control"), vary)
		}
	}
	calls := []string{
		"GET /auth/sign-in", "GET /auth/sign-in/one", "GET /auth/sign-in/none", "GET /auth/sign-out", "GET /auth/session", "GET /auth/sessions",
		"GET /auth/userinfo", "GET /auth/token", "GET /auth/providers", "GET /auth/callback/one", "GET /auth/callback/one?state=x&code=y",
		"GET /auth/none", "GET /auth/static/none", "PUT /auth/session", "POST /auth/session", "DELETE /auth/sessions", "DELETE /auth/sessions/x",
		"POST /auth/sign-in/social", "POST /auth/sign-out", "OPTIONS /auth/session", "HEAD /auth/session", "POST /auth/jwks",
	}
	for range 2 { // without anybody, and with alice
		for _, call := range calls {
			method, target, _ := strings.Cut(call, " ")
			check(call, b.send(method, target, "", "Sec-Fetch-Site", "same-origin"))
			check(call+" as JSON", b.send(method, target, "", "Sec-Fetch-Site", "same-origin", "Accept", "application/json"))
		}
		b.jar.drop("")
		b.mustSignIn("alice")
	}
	style := b.get("/auth/static/authproxy.css")
	if style.StatusCode != 200 || style.Header.Get("Cache-Control") != "public, max-age=86400" {
		t.Errorf("GET /static/authproxy.css = %d, Cache-Control %q, want 200 and a day", style.StatusCode, style.Header.Get("Cache-Control"))
	}
}

func TestUnknownPathsAreNotFoundAndReachNobody(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	for _, path := range []string{
		"/auth", "/auth/", "/auth/none", "/auth/session/", "/auth/session/x", "/auth//session", "/auth/./session", "/auth/x/../session", "/auth/../x",
		"/auth/..", "/auth/%2fsession", "/auth/%2e%2e/x", "/auth/session%2f", "/auth/%73ession", "/auth/sessions/", "/auth/sessions/a/b",
		"/auth/static", "/auth/static/", "/auth/static/..", "/auth/static/%2e%2e/x", "/auth/static/a/b", "/auth/jwks/", "/auth/.well-known", "/auth/.well-known/",
		"/auth/SESSION", "/auth/sign-in/", "/auth/sign-in/a/b", "/auth/callback", "/auth/callback/", "/auth/session;x", "/auth/verify/nginx", "/auth/account/", "/auth/account/x", "/auth/client", "/auth/client.js/",
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			r, err := http.NewRequestWithContext(t.Context(), method, origin+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			a := b.do(r)
			if a.StatusCode != 404 || strings.HasPrefix(a.body, "app ") || a.location() != "" {
				t.Errorf("%s %s = %d to %q, want 404; body %.60q", method, path, a.StatusCode, a.location(), a.body)
			}
		}
	}
	if b.user() == "" {
		t.Error("an unknown path ended the session")
	}
}

func TestWrongMethods(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	for call, want := range map[string]string{
		"PUT /auth/session": "GET, HEAD, POST", "DELETE /auth/session": "GET, HEAD, POST", "PATCH /auth/sessions": "GET, HEAD, DELETE",
		"GET /auth/sessions/x": "DELETE", "POST /auth/sessions": "GET, HEAD, DELETE", "POST /auth/jwks": "GET, HEAD", "POST /auth/callback/one": "GET, HEAD",
		"DELETE /auth/sign-out": "GET, HEAD, POST", "POST /auth/userinfo": "GET, HEAD", "POST /auth/sign-in": "GET, HEAD", "POST /auth/static/authproxy.css": "GET, HEAD",
		"TRACE /auth/session": "GET, HEAD, POST",
	} {
		method, target, _ := strings.Cut(call, " ")
		a, v := b.api(method, target, "")
		if a.StatusCode != 405 || a.Header.Get("Allow") != want || dig(v, "error") != "method_not_allowed" {
			t.Errorf("%s = %d, Allow %q, %v; want 405 and %q", call, a.StatusCode, a.Header.Get("Allow"), dig(v, "error"), want)
		}
	}
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	b := newSite(t, nil).newBrowser(t)
	b.mustSignIn("alice")
	for _, target := range []string{"/auth/session", "/auth/userinfo", "/auth/providers", "/auth/sign-out", "/auth/static/authproxy.css", "/auth/none"} {
		get, head := b.get(target), b.send("HEAD", target, "")
		if head.StatusCode != get.StatusCode || head.Header.Get("Content-Type") != get.Header.Get("Content-Type") || head.body != "" {
			t.Errorf("HEAD %s = %d %s with %d bytes, want %d %s and none", target, head.StatusCode, head.Header.Get("Content-Type"), len(head.body), get.StatusCode, get.Header.Get("Content-Type"))
		}
	}
}

func TestPagesCarryTheirProtection(t *testing.T) {
	b := newSite(t, func(s *settings) { s.providers = []string{"one", "two"} }).newBrowser(t)
	for _, target := range []string{"/auth/sign-in", "/auth/sign-out", "/auth/callback/one?state=x", "/auth/none"} {
		a := b.get(target)
		csp := a.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, part) {
				t.Errorf("GET %s: Content-Security-Policy = %q, want %s in it", target, csp, part)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(a.body, "style=") || strings.Contains(a.body, "<script") {
			t.Errorf("GET %s allows or has inline script or style", target)
		}
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "strict-origin"} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("GET %s: %s = %q, want %q", target, name, got, want)
			}
		}
	}
}

func TestUserIDsDependOnIssuerAndSubjectOnly(t *testing.T) {
	b := newSite(t, func(s *settings) { s.providers = []string{"one", "two"} }).newBrowser(t)
	b.mustSignIn("alice")
	_, v := b.api("GET", "/auth/token", "")
	raw, _ := dig(v, "token").(string)
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(raw, claims); err != nil {
		t.Fatal(err)
	}
	issuer, _ := claims["provider_iss"].(string)
	subject, _ := claims["provider_sub"].(string)
	atOne := b.userID()
	if want := session.UserID(issuer, subject); atOne != want || !slices.Contains([]any{want}, claims["sub"]) {
		t.Errorf("user.id = %q, sub = %v, want %q for both", atOne, claims["sub"], want)
	}
	b.get(b.beginAt("two", map[string][]string{"login_hint": {"alice"}}).location())
	if got := b.userID(); got == atOne || b.user() != "alice@example.com" {
		t.Errorf("the same address at two providers is the same user %q, want two", got)
	}
}
