package oauth_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authproxy/oauth"
)

func newPlain(t *testing.T, userinfo string) (*lookAlike, oauth.Config) {
	l := newLookAlike(t)
	l.on("/token", answer(object{"access_token": accessToken, "expires_in": "3600"}))
	l.on("/me", func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer "+accessToken {
			t.Errorf("userinfo was asked with Authorization %q", got)
		}
		io.WriteString(w, userinfo)
	})
	return l, oauth.Config{
		Type: oauth.OAuth2, Issuer: "https://gitea.example",
		Endpoints: oauth.Endpoints{AuthorizeURL: l.url + "/authorize?x=1", TokenURL: l.url + "/token", UserinfoURL: l.url + "/me"},
		Claims:    oauth.ClaimPaths{ID: "id", Email: "email", EmailVerified: "email_verified", Name: "name", Picture: "picture", Groups: "groups"},
	}
}

func TestUserinfoSaysWhoSignedIn(t *testing.T) {
	l, c := newPlain(t, `{"data":{"user":{"id":90071992547409931,"mail":"a@x.example","ok":true,"names":{"full":"Alice"},"pic":"https://a/1"}},
		"orgs":[{"name":"acme","teams":[{"slug":"sre"},{"slug":"dev"}]},{"name":"other","teams":[]}]}`)
	c.Claims = oauth.ClaimPaths{
		ID: "data.user.id", Email: "data.user.mail", EmailVerified: "data.user.ok", Name: "data.user.names.full", Picture: "data.user.pic", Groups: "orgs.teams.slug",
	}
	got, err := l.signIn(t, l.provider(t, c))
	if err != nil {
		t.Fatal(err)
	}
	want := &oauth.Identity{
		Issuer: "https://gitea.example", Subject: "90071992547409931", Email: "a@x.example", EmailVerified: true, Name: "Alice", Picture: "https://a/1",
		Groups: []string{"sre", "dev"}, Tokens: oauth.Tokens{Access: accessToken, AccessExpiry: l.clock.Now().Add(time.Hour)},
	}
	if diff := cmp.Diff(want, got, withoutClaims()); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
}

func TestANameWithDotsComesBeforeAPath(t *testing.T) {
	l, c := newPlain(t, `{"a.id":"by name","a":{"id":"by path"}}`)
	c.Claims = oauth.ClaimPaths{ID: "a.id"}
	if id, err := l.signIn(t, l.provider(t, c)); err != nil || id.Subject != "by name" {
		t.Errorf("identity = %+v, %v, want the one by name", id, err)
	}
}

func TestUserinfoClaims(t *testing.T) {
	tests := []struct {
		name, info string
		err        error
		check      func(*oauth.Identity) bool
	}{
		{"id is a text", `{"id":"u-1"}`, nil, func(id *oauth.Identity) bool { return id.Subject == "u-1" }},
		{"id is a number", `{"id":42}`, nil, func(id *oauth.Identity) bool { return id.Subject == "42" }},
		{"id is a large number", `{"id":9223372036854775807}`, nil, func(id *oauth.Identity) bool { return id.Subject == "9223372036854775807" }},
		{"no id", `{"sub":"x"}`, oauth.ErrClaims, nil},
		{"id in another case", `{"ID":"x"}`, oauth.ErrClaims, nil},
		{"id is null", `{"id":null}`, oauth.ErrClaims, nil},
		{"id is empty", `{"id":""}`, oauth.ErrClaims, nil},
		{"id is 0", `{"id":0}`, oauth.ErrClaims, nil},
		{"id is a fraction", `{"id":1.5}`, oauth.ErrClaims, nil},
		{"id is written with an exponent", `{"id":1e3}`, oauth.ErrClaims, nil},
		{"id is true", `{"id":true}`, oauth.ErrClaims, nil},
		{"id is a mapping", `{"id":{"a":1}}`, oauth.ErrClaims, nil},
		{"id is two", `{"id":["a","b"]}`, oauth.ErrClaims, nil},
		{"id is too long", `{"id":"` + strings.Repeat("x", 256) + `"}`, oauth.ErrClaims, nil},
		{"a list", `[]`, oauth.ErrClaims, nil},
		{"garbage", `<p>`, oauth.ErrUnavailable, nil},
		{"a control character", `{"id":"a\u0000b"}`, oauth.ErrClaims, nil},
		{"address without verification", `{"id":1,"email":"a@x.example"}`, nil, func(id *oauth.Identity) bool { return id.Email == "a@x.example" && !id.EmailVerified }},
		{"address that is not verified", `{"id":1,"email":"a@x.example","email_verified":false}`, nil, func(id *oauth.Identity) bool { return !id.EmailVerified }},
		{"verification that is no boolean", `{"id":1,"email":"a@x.example","email_verified":1}`, nil, func(id *oauth.Identity) bool { return !id.EmailVerified }},
		{"verification as text", `{"id":1,"email":"a@x.example","email_verified":"true"}`, nil, func(id *oauth.Identity) bool { return id.EmailVerified }},
		{"verification of nothing", `{"id":1,"email_verified":true}`, nil, func(id *oauth.Identity) bool { return !id.EmailVerified }},
		{"two addresses", `{"id":1,"email":["a@x.example","b@x.example"],"email_verified":true}`, nil, func(id *oauth.Identity) bool { return id.Email == "" && !id.EmailVerified }},
		{"groups as one text", `{"id":1,"groups":"staff"}`, nil, func(id *oauth.Identity) bool { return len(id.Groups) == 1 && id.Groups[0] == "staff" }},
		{"groups that are numbers", `{"id":1,"groups":[1]}`, oauth.ErrClaims, nil},
		{"groups that are mappings", `{"id":1,"groups":[{"name":"staff"}]}`, oauth.ErrClaims, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, c := newPlain(t, tt.info)
			id, err := l.signIn(t, l.provider(t, c))
			if !errors.Is(err, tt.err) {
				t.Fatalf("error = %v, want %v", err, tt.err)
			}
			if tt.check != nil && !tt.check(id) {
				t.Errorf("identity = %+v", id)
			}
		})
	}
}

func TestUserinfoThatRefuses(t *testing.T) {
	for status, want := range map[int]error{401: oauth.ErrClaims, 403: oauth.ErrClaims, 404: oauth.ErrClaims, 429: oauth.ErrUnavailable, 500: oauth.ErrUnavailable} {
		l, c := newPlain(t, "")
		l.on("/me", refuse(status))
		if _, err := l.signIn(t, l.provider(t, c)); !errors.Is(err, want) {
			t.Errorf("status %d: error = %v, want %v", status, err, want)
		}
	}
}

// The old refresh token is used up in each of these.
func TestARefreshWithoutUserinfoKeepsTheNewToken(t *testing.T) {
	l, c := newPlain(t, `{"id":7,"groups":["a"]}`)
	l.on("/token", answer(object{"access_token": accessToken, "refresh_token": "first"}))
	p := l.provider(t, c)
	was, err := l.signIn(t, p)
	if err != nil {
		t.Fatal(err)
	}
	l.on("/token", answer(object{"access_token": accessToken, "refresh_token": "second"}))
	for name, me := range map[string]http.HandlerFunc{
		"401": refuse(401), "403 of a firewall": refuse(403), "404 during a deployment": refuse(404), "408": refuse(408), "garbage": garbage,
		"groups that are none": answer(object{"id": 7, "groups": []any{7}}), "no id": answer(object{"maintenance": true}),
		"a control character": answer(object{"id": 7, "name": "a\nb"}),
	} {
		l.on("/me", me)
		id, err := p.Refresh(t.Context(), *was)
		if err != nil || !id.Stale || id.Tokens.Refresh != "second" || len(id.Groups) != 1 || id.Name != "" {
			t.Errorf("%s: Refresh = %+v, %v, want who was, stale, with the new token", name, id, err)
		}
	}
	l.on("/me", answer(object{"id": 8}))
	if id, err := p.Refresh(t.Context(), *was); !errors.Is(err, oauth.ErrIDToken) {
		t.Errorf("somebody else: %+v, %v, want %v", id, err, oauth.ErrIDToken)
	}
}

func TestAPlainProviderNeedsItsAddresses(t *testing.T) {
	l, c := newPlain(t, "")
	for name, edit := range map[string]func(*oauth.Endpoints){
		"authorize": func(e *oauth.Endpoints) { e.AuthorizeURL = "" },
		"token":     func(e *oauth.Endpoints) { e.TokenURL = "" },
		"userinfo":  func(e *oauth.Endpoints) { e.UserinfoURL = "" },
	} {
		broken := c
		edit(&broken.Endpoints)
		if err := l.provider(t, broken).Discover(t.Context()); err == nil {
			t.Errorf("without the %s address: no error", name)
		}
	}
	address, err := l.provider(t, c).AuthCodeURL(t.Context(), "s", oauth.NewLogin("s"), oauth.Prompts{})
	if err != nil || !strings.HasPrefix(address, l.url+"/authorize?x=1&") || strings.Contains(address, "nonce") || strings.Contains(address, "scope") {
		t.Errorf("address = %q, %v, want the configured query and neither nonce nor scope", address, err)
	}
}

func TestAnAddressIsVerifiedByItsOwnEntry(t *testing.T) {
	tests := []struct {
		name, info, email, verified string
		want                        bool
	}{
		{"the same entry", `{"id":1,"m":[{"a":"a@x.example","ok":true}]}`, "m.a", "m.ok", true},
		{"the same entry among others", `{"id":1,"m":[{},{"a":"a@x.example","ok":true}]}`, "m.a", "m.ok", true},
		{"deep in the same entry", `{"id":1,"m":[{"v":{"a":"a@x.example"},"w":{"ok":true}}]}`, "m.v.a", "m.w.ok", true},
		{"another entry", `{"id":1,"m":[{"a":"a@x.example"},{"ok":true}]}`, "m.a", "m.ok", false},
		{"another entry, with null in its own", `{"id":1,"m":[{"a":"a@x.example","ok":null},{"a":null,"ok":true}]}`, "m.a", "m.ok", false},
		{"an entry of another list", `{"id":1,"m":[{"a":"a@x.example"}],"n":[{"ok":true}]}`, "m.a", "n.ok", false},
		{"an entry of a list in the entry", `{"id":1,"m":[{"a":"a@x.example","n":[{"ok":true}]}]}`, "m.a", "m.n.ok", false},
		{"a list of a name with dots", `{"id":1,"m.n":["a@x.example"],"m":{"n":[{"ok":true}]}}`, "m.n", "m.n.ok", false},
		{"no list", `{"id":1,"m":[{"a":"a@x.example"}],"ok":true}`, "m.a", "ok", false},
		{"a list for an address without one", `{"id":1,"a":"a@x.example","ok":[true]}`, "a", "ok", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, c := newPlain(t, tt.info)
			c.Claims.Email, c.Claims.EmailVerified = tt.email, tt.verified
			id, err := l.signIn(t, l.provider(t, c))
			if err != nil || id.Email != "a@x.example" || id.EmailVerified != tt.want {
				t.Errorf("identity = %+v, %v, want the address, verified %v", id, err, tt.want)
			}
		})
	}
}
