package identity_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"authproxy/cookie"
	"authproxy/identity"
	"authproxy/policy"
	"authproxy/session"
	"authproxy/session/memstore"
	"authproxy/token"
)

const (
	maxAge = 7 * 24 * time.Hour
	ttl    = 15 * time.Minute
)

// A bench is a Resolver with real sessions and tokens under one clock.
type bench struct {
	testing.TB
	now      time.Time
	sessions *session.Manager
	tokens   *token.Issuer
	*identity.Resolver
}

func newBench(t testing.TB, edit func(*identity.Config, *session.Config)) *bench {
	t.Helper()
	b := &bench{TB: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	now := func() time.Time { return b.now }
	ring, err := cookie.NewKeyRing([]byte("a key of 32 bytes for tests only"))
	b.must(err)
	sealer, err := cookie.NewSealer(ring)
	b.must(err)
	jar, err := cookie.NewJar("authproxy_session", cookie.Options{})
	b.must(err)
	secrets, err := ring.Derive("jwt es256", token.SecretSize)
	b.must(err)
	b.tokens, err = token.New(token.Config{Issuer: "https://app.example.com/auth", Audience: "https://app.example.com", TTL: ttl, Secrets: secrets, Now: now})
	b.must(err)
	c := identity.Config{
		Tokens: b.tokens, Authorization: identity.AuthorizationJWT, Now: now,
		Roles: policy.RoleMap{
			"admin":  {Groups: []string{"ops"}},
			"editor": {Emails: []string{"alice@example.com"}},
			"staff":  {Domains: []string{"example.com"}},
		},
		Headers: map[string]string{
			"X-User-Id": "user.id", "X-User-Email": "user.email", "X-User-Name": "user.name", "X-User-Groups": "user.groups", "x-user-roles": "user.roles",
		},
	}
	s := session.Config{Sealer: sealer, Jar: jar, MaxAge: maxAge, UpdateAge: 24 * time.Hour, Version: 1, Now: now}
	if edit != nil {
		edit(&c, &s)
	}
	b.sessions, err = session.New(s)
	b.must(err)
	t.Cleanup(b.sessions.Close)
	c.Sessions = b.sessions
	b.Resolver, err = identity.New(c)
	b.must(err)
	t.Cleanup(b.Close)
	return b
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func alice() session.User {
	return session.User{
		Issuer: "https://id.example.com", Subject: "248289761001", Provider: "corp", Email: "alice@example.com", EmailVerified: true,
		Name: "Alice Adams", Groups: []string{"ops", "staff"},
	}
}

// signIn begins a session for u and returns a request that shows its cookie.
func (b *bench) signIn(u session.User, tokens session.Tokens) *http.Request {
	b.Helper()
	u.ID = session.UserID(u.Issuer, u.Subject)
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	_, err := b.sessions.Start(w, r, &session.Session{User: u, AuthTime: b.now, AMR: []string{"pwd"}, Tokens: tokens})
	b.must(err)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	return r
}

// who identifies r, which must be somebody.
func (b *bench) who(r *http.Request) *identity.Who {
	b.Helper()
	w, err := b.Identify(r)
	b.must(err)
	return w
}

// as is who for a fresh session of u.
func (b *bench) as(u session.User) *identity.Who {
	b.Helper()
	return b.who(b.signIn(u, session.Tokens{}))
}

// token returns the minted token of w.
func (b *bench) token(w *identity.Who) string {
	b.Helper()
	raw, _, err := b.Token(w)
	b.must(err)
	return raw
}

// claims returns what raw says.
func (b *bench) claims(raw string) jwt.MapClaims {
	b.Helper()
	c := jwt.MapClaims{}
	_, _, err := jwt.NewParser().ParseUnverified(raw, c)
	b.must(err)
	return c
}

// headers returns the identity headers by name.
func (b *bench) headers(w *identity.Who) map[string]string {
	b.Helper()
	list, err := w.Headers()
	b.must(err)
	all := map[string]string{}
	for _, h := range list {
		all[h.Name] = strings.Join(h.Value, "<and>")
	}
	return all
}

func bearing(raw string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+raw)
	return r
}

func TestASessionSaysWhoItIs(t *testing.T) {
	b := newBench(t, nil)
	w := b.as(alice())
	id := session.UserID("https://id.example.com", "248289761001")
	want := policy.Principal{
		ID: id, Name: "Alice Adams", Email: "alice@example.com", Groups: []string{"ops", "staff"}, Roles: []string{"admin", "editor", "staff"},
		Provider: "corp", AuthTime: w.Session.AuthTime, AMR: []string{"pwd"},
	}
	if diff := cmp.Diff(want, w.Principal); diff != "" {
		t.Errorf("principal, difference (-want +got):\n%s", diff)
	}
	if !w.Admitted || w.Role() != "admin" || w.SessionID != w.Session.ID || !w.Expires.Equal(b.now.Add(maxAge)) {
		t.Errorf("admitted %v, role %q, session %q, expires %v; want true, admin, the session's id and end", w.Admitted, w.Role(), w.SessionID, w.Expires)
	}
	wantHeaders := map[string]string{
		"X-User-Id": id, "X-User-Email": "alice@example.com", "X-User-Name": "Alice Adams", "X-User-Groups": "ops,staff", "X-User-Roles": "admin,editor,staff",
	}
	if diff := cmp.Diff(wantHeaders, b.headers(w)); diff != "" {
		t.Errorf("headers, difference (-want +got):\n%s", diff)
	}
	if got := b.HeaderNames(); !slices.Equal(got, []string{"X-User-Email", "X-User-Groups", "X-User-Id", "X-User-Name", "X-User-Roles"}) {
		t.Errorf("HeaderNames() = %v, want the canonical names, sorted", got)
	}
}

func TestNobodyWithoutCredentials(t *testing.T) {
	b := newBench(t, nil)
	raw := b.token(b.as(alice()))
	twice := bearing(raw)
	twice.Header.Add("Authorization", "Bearer "+raw)
	for name, tt := range map[string]struct {
		r    *http.Request
		want error
	}{
		"nothing":         {httptest.NewRequest("GET", "/", nil), identity.ErrAnonymous},
		"two bearers":     {twice, identity.ErrAnonymous},
		"a forged bearer": {bearing("forged"), identity.ErrBearer},
		"no bearer":       {bearing(""), identity.ErrBearer},
	} {
		w, err := b.Identify(tt.r)
		if w != nil || !errors.Is(err, tt.want) || errors.Is(err, identity.ErrAnonymous) != (tt.want == identity.ErrAnonymous) {
			t.Errorf("%s: Identify = %v, %v; want nobody and %v", name, w, err, tt.want)
		}
	}
}

func TestACookieGoesBeforeABearer(t *testing.T) {
	b := newBench(t, nil)
	bob := alice()
	bob.Subject, bob.Email = "2", "bob@example.com"
	raw := b.token(b.as(bob))
	r := b.signIn(alice(), session.Tokens{})
	r.Header.Set("Authorization", "Bearer "+raw)
	if got := b.who(r).Principal.Email; got != "alice@example.com" {
		t.Errorf("identified as %s, want alice: the cookie decides", got)
	}
	w := httptest.NewRecorder()
	b.sessions.End(w, r)
	if got := b.who(r).Principal.Email; got != "bob@example.com" {
		t.Errorf("identified as %s once alice's session has ended, want bob by the bearer", got)
	}
}

func TestAdmissionIsJudgedAtEachCheck(t *testing.T) {
	issued := newBench(t, nil)
	r := issued.signIn(alice(), session.Tokens{})
	cookies := r.Cookies()
	raw := issued.token(issued.who(r))
	unverified := alice()
	unverified.EmailVerified = false
	tests := []struct {
		name  string
		admit policy.Members
		user  session.User
		want  bool
	}{
		{"nobody named", policy.Members{}, alice(), true},
		{"by address", policy.Members{Emails: []string{"ALICE@example.com"}}, alice(), true},
		{"by domain", policy.Members{Domains: []string{"example.com"}}, alice(), true},
		{"by group", policy.Members{Groups: []string{"ops"}}, alice(), true},
		{"another address", policy.Members{Emails: []string{"bob@example.com"}}, alice(), false},
		{"another domain", policy.Members{Domains: []string{"example.org"}}, alice(), false},
		{"another group", policy.Members{Groups: []string{"Ops"}}, alice(), false},
		{"address not verified", policy.Members{Emails: []string{"alice@example.com"}, Domains: []string{"example.com"}}, unverified, false},
		{"address not verified, but a group", policy.Members{Emails: []string{"alice@example.com"}, Groups: []string{"ops"}}, unverified, true},
		{"everybody", policy.Members{Domains: []string{"*"}}, unverified, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// The same keys after the configuration has changed.
			b := newBench(t, func(c *identity.Config, _ *session.Config) { c.Admit = tt.admit })
			if got := b.Admits(&tt.user); got != tt.want {
				t.Errorf("Admits = %v, want %v", got, tt.want)
			}
			if got := b.as(tt.user).Admitted; got != tt.want {
				t.Errorf("Admitted = %v for a session, want %v", got, tt.want)
			}
			if tt.user.EmailVerified {
				old := httptest.NewRequest("GET", "/", nil)
				for _, c := range cookies {
					old.AddCookie(c)
				}
				if got := b.who(old).Admitted; got != tt.want {
					t.Errorf("Admitted = %v for a session from before, want %v", got, tt.want)
				}
				if got := b.who(bearing(raw)).Admitted; got != tt.want {
					t.Errorf("Admitted = %v for a token from before, want %v", got, tt.want)
				}
			}
		})
	}
}

func TestAnAddressThatIsNotVerifiedIsToldNobody(t *testing.T) {
	b := newBench(t, nil)
	u := alice()
	u.EmailVerified = false
	w := b.as(u)
	if w.Principal.Email != "" || !slices.Equal(w.Roles, []string{"admin"}) {
		t.Errorf("principal %q with roles %v, want no address and none of the roles that follow from it", w.Principal.Email, w.Roles)
	}
	if got := b.headers(w)["X-User-Email"]; got != "" {
		t.Errorf("X-User-Email = %q, want nothing", got)
	}
	claims := b.claims(b.token(w))
	if claims["email"] != nil || claims["email_verified"] != nil {
		t.Errorf("the token says email %v, email_verified %v; want neither", claims["email"], claims["email_verified"])
	}
	if again := b.who(bearing(b.token(w))); again.Principal.Email != "" || again.User.VerifiedEmail() != "" {
		t.Errorf("the token comes back with the address %q", again.Principal.Email)
	}
}

func TestARoleForNobody(t *testing.T) {
	b := newBench(t, nil)
	u := alice()
	u.Email, u.Groups = "", nil
	w := b.as(u)
	if w.Role() != "user" || len(w.Roles) != 0 || b.headers(w)["X-User-Roles"] != "" {
		t.Errorf("role %q, roles %v, header %q; want user and no roles", w.Role(), w.Roles, b.headers(w)["X-User-Roles"])
	}
}

func TestHeaderValues(t *testing.T) {
	tests := []struct {
		name   string
		edit   func(*session.User)
		header string
		want   string
	}{
		{"plain", func(u *session.User) { u.Name = `A "B" <c> (d); e=f, g/h\i` }, "X-User-Name", `A "B" <c> (d); e=f, g/h\i`},
		{"beyond ASCII", func(u *session.User) { u.Name = "Zoë 李" }, "X-User-Name", "Zo%C3%AB %E6%9D%8E"},
		{"percent sign", func(u *session.User) { u.Name = "100% %41" }, "X-User-Name", "100%25 %2541"},
		{"line breaks", func(u *session.User) { u.Name = "a\r\nX-User-Id: root\r\n\r\nb" }, "X-User-Name", "a%0D%0AX-User-Id: root%0D%0A%0D%0Ab"},
		{"NUL, tab and DEL", func(u *session.User) { u.Name = "a\x00b\tc\x7fd" }, "X-User-Name", "a%00b%09c%7Fd"},
		{"bytes that are no text", func(u *session.User) { u.Name = "a\u0085b" }, "X-User-Name", "a%C2%85b"},
		{"spaces at the ends", func(u *session.User) { u.Name = " a b " }, "X-User-Name", "%20a b%20"},
		{"nothing but a space", func(u *session.User) { u.Name = " " }, "X-User-Name", "%20"},
		{"nothing", func(u *session.User) { u.Name = "" }, "X-User-Name", ""},
		{"comma in a name", func(u *session.User) { u.Name = "Adams, Alice" }, "X-User-Name", "Adams, Alice"},
		{"comma in a group", func(u *session.User) { u.Groups = []string{"a,ops", "b"} }, "X-User-Groups", "a%2Cops,b"},
		{"percent and comma in a group", func(u *session.User) { u.Groups = []string{"a%2Cb", "c"} }, "X-User-Groups", "a%252Cb,c"},
		{"line break in a group", func(u *session.User) { u.Groups = []string{"a\nb", "ü"} }, "X-User-Groups", "a%0Ab,%C3%BC"},
		{"spaces around a group", func(u *session.User) { u.Groups = []string{"a", " ops "} }, "X-User-Groups", "a,%20ops%20"},
		{"address with letters beyond ASCII", func(u *session.User) { u.Email = "zoë@example.com" }, "X-User-Email", "zo%C3%AB@example.com"},
	}
	b := newBench(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := alice()
			tt.edit(&u)
			got := b.headers(b.as(u))[tt.header]
			if got != tt.want {
				t.Errorf("%s = %q, want %q", tt.header, got, tt.want)
			}
			if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%s = %q holds more than printable ASCII", tt.header, got)
			}
			if tt.header == "X-User-Groups" {
				var back []string
				for part := range strings.SplitSeq(got, ",") {
					decoded, err := url.PathUnescape(part)
					b.must(err)
					back = append(back, decoded)
				}
				if !slices.Equal(back, u.Groups) {
					t.Errorf("split and decoded it is %q, want %q", back, u.Groups)
				}
			}
		})
	}
}

func TestEverySourceFillsAHeader(t *testing.T) {
	want := map[string]string{
		"user.id": session.UserID("https://id.example.com", "248289761001"), "user.subject": "248289761001", "user.issuer": "https://id.example.com",
		"user.provider": "corp", "user.email": "alice@example.com", "user.name": "Alice Adams", "user.image": "https://id.example.com/a.png",
		"user.groups": "ops,staff", "user.roles": "admin,editor,staff", "user.role": "admin",
	}
	b := newBench(t, func(c *identity.Config, _ *session.Config) {
		c.Headers = map[string]string{"X-Session": "session.id"}
		for source := range want {
			c.Headers["X-"+strings.ReplaceAll(source, ".", "-")] = source
		}
	})
	u := alice()
	u.Image = "https://id.example.com/a.png"
	w := b.as(u)
	got := b.headers(w)
	for source, value := range want {
		if name := http.CanonicalHeaderKey("X-" + strings.ReplaceAll(source, ".", "-")); got[name] != value {
			t.Errorf("%s = %q, want %q", source, got[name], value)
		}
	}
	if got["X-Session"] != w.SessionID || w.SessionID == "" {
		t.Errorf("session.id = %q, want %q", got["X-Session"], w.SessionID)
	}
}

func TestHeadersOfOneValueMissingAreThereAndEmpty(t *testing.T) {
	b := newBench(t, nil)
	u := alice()
	u.Name = ""
	list, err := b.as(u).Headers()
	b.must(err)
	i := slices.IndexFunc(list, func(h identity.Header) bool { return h.Name == "X-User-Name" })
	if len(list) != 5 || i < 0 || len(list[i].Value) != 0 {
		t.Errorf("headers = %v, want all five, X-User-Name without a value", list)
	}
}

func TestWrongSettingsAreRefused(t *testing.T) {
	for name, c := range map[string]identity.Config{
		"unknown source":        {Authorization: "jwt", Headers: map[string]string{"X-A": "user.password"}},
		"unknown authorization": {Authorization: "basic"},
		"no authorization":      {},
	} {
		if r, err := identity.New(c); err == nil {
			r.Close()
			t.Errorf("%s: New succeeds, want an error", name)
		}
	}
}

// groups returns n different groups of size bytes each.
func groups(n, size int) []string {
	var all []string
	for i := range n {
		name := "group-" + string(rune('a'+i/26)) + string(rune('a'+i%26)) + "-"
		all = append(all, name+strings.Repeat("x", size-len(name)))
	}
	return all
}

func TestHeadersBeyondTheLimitAreRefused(t *testing.T) {
	b := newBench(t, func(c *identity.Config, _ *session.Config) {
		c.Headers = map[string]string{"X-User-Groups": "user.groups"}
	})
	u := alice()
	for size, fits := range map[int]bool{identity.MaxHeaderBytes: true, identity.MaxHeaderBytes + 1: false} {
		u.Groups = []string{strings.Repeat("x", size)}
		_, err := b.as(u).Headers()
		var tooLarge *identity.TooLargeError
		if errors.As(err, &tooLarge) == fits || fits != (err == nil) {
			t.Errorf("headers of %d bytes: error = %v, want one: %v", size, err, !fits)
		}
		if !fits && (tooLarge.Bytes != size || !strings.Contains(err.Error(), "4096") || !strings.Contains(err.Error(), "groups_overflow")) {
			t.Errorf("error = %v, want it to name the size, the limit and the setting", err)
		}
	}
}

func TestGroupsThatDoNotFitAreCut(t *testing.T) {
	b := newBench(t, func(c *identity.Config, _ *session.Config) { c.CutGroups = true })
	u := alice()
	u.Groups = groups(60, 100)
	w := b.as(u)
	size, got := 0, strings.Split(b.headers(w)["X-User-Groups"], ",")
	for _, v := range b.headers(w) {
		size += len(v)
	}
	if size > identity.MaxHeaderBytes || len(got) < 30 || !slices.Equal(got, u.Groups[:len(got)]) {
		t.Errorf("headers have %d bytes with %d groups, want at most 4096 and as many groups from the beginning as fit", size, len(got))
	}
	if len(w.Principal.Groups) != 60 {
		t.Errorf("rules see %d groups, want all 60", len(w.Principal.Groups))
	}
	if claimed, _ := b.claims(b.token(w))["groups"].([]any); len(claimed) != len(got) {
		t.Errorf("the token has %d groups, the header %d; want the same", len(claimed), len(got))
	}

	u.Groups, u.Name = groups(3, 20), strings.Repeat("x", 5000)
	var tooLarge *identity.TooLargeError
	if _, err := b.as(u).Headers(); !errors.As(err, &tooLarge) {
		t.Errorf("a name of 5000 bytes: error = %v, want that it is too large although groups may be cut", err)
	}
}

func TestATokenIsMintedOnceAndAnewInItsLastQuarter(t *testing.T) {
	b := newBench(t, nil)
	r := b.signIn(alice(), session.Tokens{})
	began := b.now
	first, expires, err := b.Token(b.who(r))
	b.must(err)
	if !expires.Equal(began.Add(ttl)) {
		t.Errorf("the token ends %v, want after %v", expires, ttl)
	}
	b.now = began.Add(ttl*3/4 - time.Second)
	if b.token(b.who(r)) != first {
		t.Error("before its last quarter the token is minted again, want the same")
	}
	b.now = began.Add(ttl * 3 / 4)
	second := b.token(b.who(r))
	if second == first || b.claims(second)["jti"] == b.claims(first)["jti"] {
		t.Error("in its last quarter the token is the same, want a new one")
	}
	if got := b.claims(second)["exp"]; got != float64(b.now.Add(ttl).Unix()) {
		t.Errorf("exp = %v, want %d", got, b.now.Add(ttl).Unix())
	}
}

func TestATokenEndsWithItsSession(t *testing.T) {
	b := newBench(t, nil)
	r := b.signIn(alice(), session.Tokens{})
	end := b.now.Add(maxAge)
	b.now = end.Add(-10 * time.Minute)
	raw, expires, err := b.Token(b.who(r))
	b.must(err)
	if !expires.Equal(end) || b.claims(raw)["exp"] != float64(end.Unix()) {
		t.Errorf("the token ends %v, want %v with its session", expires, end)
	}
	b.now = end.Add(-time.Second)
	if b.token(b.who(r)) != raw {
		t.Error("a token that cannot live longer is minted again, want the same")
	}
	b.now = end
	if _, err := b.Identify(r); !errors.Is(err, identity.ErrAnonymous) {
		t.Errorf("at its end the session gives %v, want ErrAnonymous", err)
	}
	if _, err := b.Identify(bearing(raw)); !errors.Is(err, identity.ErrBearer) {
		t.Errorf("at its end the token gives %v, want ErrBearer", err)
	}
}

func TestOneTokenForManyRequestsAtOnce(t *testing.T) {
	b := newBench(t, nil)
	r := b.signIn(alice(), session.Tokens{})
	var wg sync.WaitGroup
	raws := make([]string, 8)
	for i := range raws {
		wg.Go(func() {
			if w, err := b.Identify(r.Clone(t.Context())); err == nil {
				raws[i], _, _ = b.Token(w)
			}
		})
	}
	wg.Wait()
	if unique := slices.Compact(slices.Sorted(slices.Values(raws))); len(unique) != 1 || unique[0] == "" {
		t.Errorf("%d different tokens for one session, want one", len(unique))
	}
}

func TestABearerIsTheSamePerson(t *testing.T) {
	b := newBench(t, nil)
	w := b.as(alice())
	raw := b.token(w)
	for range 2 { // verified, then remembered
		got := b.who(bearing(raw))
		if diff := cmp.Diff(w.Principal, got.Principal); diff != "" {
			t.Errorf("principal by token, difference (-cookie +token):\n%s", diff)
		}
		if diff := cmp.Diff(b.headers(w), b.headers(got)); diff != "" {
			t.Errorf("headers by token, difference (-cookie +token):\n%s", diff)
		}
		if got.Session != nil || got.SessionID != w.SessionID || !got.Expires.Equal(b.now.Add(ttl)) || !got.AuthTime.Equal(w.AuthTime) || !slices.Equal(got.AMR, w.AMR) {
			t.Errorf("by token: session %v %s, expires %v, auth_time %v, amr %v; want no session, and the rest the same", got.Session, got.SessionID, got.Expires, got.AuthTime, got.AMR)
		}
		if handed := b.token(got); handed != raw {
			t.Error("a bearer token is exchanged for a longer one, want it handed on")
		}
	}
}

func TestABearerDiesWithItsSessionItsTimeAndItsVersion(t *testing.T) {
	b := newBench(t, nil)
	r := b.signIn(alice(), session.Tokens{})
	raw := b.token(b.who(r))
	b.who(bearing(raw)) // remembered from now on
	b.sessions.End(httptest.NewRecorder(), r)
	if _, err := b.Identify(bearing(raw)); !errors.Is(err, identity.ErrBearer) {
		t.Errorf("after sign-out the token gives %v, want ErrBearer", err)
	}

	raw = b.token(b.as(alice()))
	b.who(bearing(raw))
	b.now = b.now.Add(ttl)
	if _, err := b.Identify(bearing(raw)); !errors.Is(err, identity.ErrBearer) {
		t.Errorf("at its end a remembered token gives %v, want ErrBearer", err)
	}

	raw = b.token(b.as(alice()))
	raised := newBench(t, func(_ *identity.Config, s *session.Config) { s.Version = 2 })
	raised.now = b.now
	if _, err := raised.Identify(bearing(raw)); !errors.Is(err, identity.ErrBearer) {
		t.Errorf("after session.version was raised the token gives %v, want ErrBearer", err)
	}
}

func TestAuthorizationForUpstreams(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	hour := now.Add(time.Hour)
	all := session.Tokens{Access: "access", AccessExpiry: hour, ID: "id", IDExpiry: hour}
	over := session.Tokens{Access: "access", AccessExpiry: now, ID: "id", IDExpiry: now}
	forever := session.Tokens{Access: "access", ID: "id"}
	tests := []struct {
		mode   string
		tokens session.Tokens
		want   []string
	}{
		{identity.AuthorizationAccessToken, all, []string{"Bearer access"}},
		{identity.AuthorizationAccessToken, forever, []string{"Bearer access"}},
		{identity.AuthorizationAccessToken, over, nil},
		{identity.AuthorizationAccessToken, session.Tokens{}, nil},
		{identity.AuthorizationIDToken, all, []string{"Bearer id"}},
		{identity.AuthorizationIDToken, forever, []string{"Bearer id"}},
		{identity.AuthorizationIDToken, over, nil},
		{identity.AuthorizationIDToken, session.Tokens{}, nil},
		{identity.AuthorizationPass, all, nil},
		{identity.AuthorizationNone, all, nil},
	}
	for _, tt := range tests {
		b := newBench(t, func(c *identity.Config, _ *session.Config) { c.Authorization = tt.mode })
		w := b.who(b.signIn(alice(), tt.tokens))
		got, err := b.Authorization(w)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s with %+v: Authorization = %v, %v; want %v", tt.mode, tt.tokens, got, err, tt.want)
		}
		byToken := b.who(bearing(b.token(w)))
		if got, err := b.Authorization(byToken); err != nil || got != nil {
			t.Errorf("%s for a bearer: Authorization = %v, %v; want none: the provider's tokens are in the cookie", tt.mode, got, err)
		}
	}
}

func TestAuthorizationByOurOwnToken(t *testing.T) {
	b := newBench(t, nil)
	w := b.as(alice())
	got, err := b.Authorization(w)
	if err != nil || !slices.Equal(got, []string{"Bearer " + b.token(w)}) {
		t.Errorf("Authorization = %v, %v; want the minted token", got, err)
	}
	claims, err := b.tokens.Verify(b.token(w))
	b.must(err)
	if claims.Subject != w.User.ID || claims.SessionID != w.SessionID || claims.Email != "alice@example.com" || !slices.Equal(claims.Roles, w.Roles) {
		t.Errorf("claims = %+v, want alice's", claims)
	}
	byToken := b.who(bearing(b.token(w)))
	if again, err := b.Authorization(byToken); err != nil || !slices.Equal(again, got) {
		t.Errorf("for a bearer Authorization = %v, %v; want its own token", again, err)
	}
}

func TestATokenEndsWithTheIdleTimeout(t *testing.T) {
	b := newBench(t, func(_ *identity.Config, s *session.Config) { s.IdleTimeout = 5 * time.Minute })
	r := b.signIn(alice(), session.Tokens{})
	_, expires, err := b.Token(b.who(r))
	b.must(err)
	if want := b.now.Add(5 * time.Minute); !expires.Equal(want) {
		t.Errorf("the token ends at %v, want the session's end at %v", expires, want)
	}
}

func TestSessionsOfARemovedProviderCountNoMore(t *testing.T) {
	issuer := alice().Issuer
	for name, tt := range map[string]struct {
		issuers map[string]string
		known   bool
	}{
		"configured":               {map[string]string{"corp": issuer}, true},
		"removed":                  {map[string]string{"other": issuer}, false},
		"the same id, elsewhere":   {map[string]string{"corp": "https://id.example.net"}, false},
		"no provider is known":     {map[string]string{}, false},
		"the caller does not care": {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			r := b.signIn(alice(), session.Tokens{})
			raw := b.token(b.who(r))
			if tt.issuers != nil {
				b.Knows = func(provider, issuer string) bool { return tt.issuers[provider] == issuer }
			}
			if _, err := b.Identify(r); (err == nil) != tt.known || err != nil && !errors.Is(err, identity.ErrAnonymous) {
				t.Errorf("by cookie: error = %v, known = %v", err, tt.known)
			}
			if _, err := b.Identify(bearing(raw)); (err == nil) != tt.known || err != nil && !errors.Is(err, identity.ErrBearer) {
				t.Errorf("by token: error = %v, known = %v", err, tt.known)
			}
		})
	}
}

func TestClaimsInTheStoreCountForATokenWhichKeepsItsSignIn(t *testing.T) {
	store := memstore.New(func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) })
	b := newBench(t, func(c *identity.Config, s *session.Config) {
		s.Store = store
		c.Roles = policy.RoleMap{"auditor": {Claims: map[string][]string{"department": {"audit"}}}}
		c.Headers = map[string]string{"X-Department": "claims.department"}
	})
	go b.sessions.Run(t.Context())
	u := alice()
	u.ID, u.Claims = session.UserID(u.Issuer, u.Subject), map[string]any{"department": "sales"}
	w := httptest.NewRecorder()
	// The provider did not say when: nothing else may take the time's place.
	_, err := b.sessions.Start(w, httptest.NewRequest("GET", "/", nil), &session.Session{User: u, AMR: []string{"hwk"}, ACR: "gold"})
	b.must(err)
	byCookie := httptest.NewRequest("GET", "/", nil)
	byCookie.AddCookie(w.Result().Cookies()[0])
	raw, _, err := b.Token(b.who(byCookie))
	b.must(err)
	for _, department := range []string{"sales", "audit", "sales"} {
		b.must(store.Edit(t.Context(), u.ID, func(a *session.Account, _ *int) { a.User.Claims = map[string]any{"department": department} }))
		for name, r := range map[string]*http.Request{"cookie": byCookie, "token": bearing(raw)} {
			who := b.who(r)
			for end := time.Now().Add(20 * time.Second); who.User.Claims["department"] != department && time.Now().Before(end); who = b.who(r) {
				time.Sleep(time.Millisecond)
			}
			p := who.Principal
			if p.Claims["department"] != department || slices.Contains(p.Roles, "auditor") != (department == "audit") {
				t.Errorf("%s: claims %v, roles %q, with the department %s in the store", name, p.Claims, p.Roles, department)
			}
			headers, err := who.Headers()
			b.must(err)
			if want := []identity.Header{{Name: "X-Department", Value: []string{department}}}; !cmp.Equal(headers, want) {
				t.Errorf("%s: headers %v, want %v", name, headers, want)
			}
			if p.ACR != "gold" || !slices.Equal(p.AMR, []string{"hwk"}) || !p.AuthTime.IsZero() {
				t.Errorf("%s: class %q, means %q, at %v, want gold by hwk at no known time", name, p.ACR, p.AMR, p.AuthTime)
			}
		}
	}
}

func TestAClaimFromTheRowIsWhatTheRowSaysNow(t *testing.T) {
	store := memstore.New(func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) })
	claims := identity.ClaimMap{"plan": {From: "user.role", Default: "free"}, "mail": {From: "user.email"}, "department": {From: "id_token.department"}}
	b := newBench(t, func(c *identity.Config, s *session.Config) {
		s.Store, c.Claims = store, claims
		c.Roles = policy.RoleMap{"payer": {Claims: map[string][]string{"plan": {"gold"}}}}
	})
	go b.sessions.Run(t.Context())
	u := alice()
	u.ID = session.UserID(u.Issuer, u.Subject)
	var err error
	u.Claims, err = claims.Map(identity.Documents{"id_token": {"department": "sales"}}, nil)
	b.must(err)
	if want := map[string]any{"department": "sales"}; !cmp.Equal(u.Claims, want) {
		t.Errorf("kept at sign-in: %v, want %v and nothing of the row", u.Claims, want)
	}
	w := httptest.NewRecorder()
	_, err = b.sessions.Start(w, httptest.NewRequest("GET", "/", nil), &session.Session{User: u, AuthTime: b.now})
	b.must(err)
	byCookie := httptest.NewRequest("GET", "/", nil)
	byCookie.AddCookie(w.Result().Cookies()[0])
	raw, _, err := b.Token(b.who(byCookie))
	b.must(err)
	for _, tt := range []struct {
		role, plan string
		verified   bool
	}{{"gold", "gold", true}, {"user", "user", true}, {"", "free", false}} {
		b.must(store.Edit(t.Context(), u.ID, func(a *session.Account, _ *int) { a.User.Role, a.User.EmailVerified = tt.role, tt.verified }))
		want := map[string]any{"department": "sales", "plan": tt.plan}
		if tt.verified {
			want["mail"] = "alice@example.com"
		}
		for name, r := range map[string]*http.Request{"cookie": byCookie, "token": bearing(raw)} {
			who := b.who(r)
			for end := time.Now().Add(20 * time.Second); !cmp.Equal(who.Principal.Claims, want) && time.Now().Before(end); who = b.who(r) {
				time.Sleep(time.Millisecond)
			}
			if !cmp.Equal(who.Principal.Claims, want) || slices.Contains(who.Roles, "payer") != (tt.plan == "gold") {
				t.Errorf("%s, with the role %q: claims %v, roles %q, want %v", name, tt.role, who.Principal.Claims, who.Roles, want)
			}
		}
	}
}

func TestARoleInTheStoreCountsAtOnceForCookiesAndTokens(t *testing.T) {
	var later atomic.Int64 // than the bench's clock
	now := func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(later.Load())) }
	store := memstore.New(now)
	b := newBench(t, func(c *identity.Config, s *session.Config) { s.Store, c.Now, s.Now = store, now, now })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go b.sessions.Run(ctx)
	w := httptest.NewRecorder()
	begun := &session.Session{User: alice(), AuthTime: b.now}
	if _, err := b.sessions.Start(w, httptest.NewRequest("GET", "/", nil), begun); err != nil {
		t.Fatal(err)
	}
	byCookie := httptest.NewRequest("GET", "/", nil)
	byCookie.AddCookie(w.Result().Cookies()[0])
	who, err := b.Identify(byCookie)
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := b.Token(who)
	if err != nil {
		t.Fatal(err)
	}
	byToken := httptest.NewRequest("GET", "/", nil)
	byToken.Header.Set("Authorization", "Bearer "+raw)
	for role, want := range map[string]bool{"auditor": true, "user": false} {
		if err := store.Edit(t.Context(), begun.User.ID, func(a *session.Account, _ *int) { a.User.Role = role }); err != nil {
			t.Fatal(err)
		}
		for name, r := range map[string]*http.Request{"cookie": byCookie, "token": byToken} {
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				who, err := b.Identify(r)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if slices.Contains(who.Principal.Roles, "auditor") == want {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%s: roles %q with the role %s in the store", name, who.Principal.Roles, role)
				}
			}
		}
	}
	if _, err := b.sessions.Revoke(t.Context(), session.Selection{ID: begun.ID}, session.By{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Identify(byCookie); !errors.Is(err, identity.ErrAnonymous) {
		t.Errorf("the cookie of a revoked session: error %v, want ErrAnonymous", err)
	}
	if _, err := b.Identify(byToken); !errors.Is(err, identity.ErrBearer) {
		t.Errorf("the token of a revoked session: error %v, want ErrBearer", err)
	}
	store.Close()
	later.Store(int64(10 * time.Second)) // nothing was told for so long
	for name, r := range map[string]*http.Request{"cookie": byCookie, "token": byToken} {
		if _, err := b.Identify(r); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s, and a store that is down: error %v, want ErrUnavailable", name, err)
		}
	}
}
