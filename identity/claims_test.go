package identity_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/identity"
	"authproxy/policy"
	"authproxy/session"
)

// parse decodes JSON as package oauth does, with numbers as they are written.
func parse(t testing.TB, text string) map[string]any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var v map[string]any
	if err := decoder.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestClaimsAreMapped(t *testing.T) {
	const idToken = `{"dept":"sales","n":90071992547409931,"f":1.5,"ok":true,"none":null,"empty":"",
		"org":{"unit":{"name":"west"}},"https://example.com/roles":["a","b"],"list":[{"id":1,"tags":["x"]},{"id":2,"tags":["y","z"]}]}`
	tests := []struct {
		name, from, fallback string
		want                 any
	}{
		{"a claim under another name", "id_token.dept", "", "sales"},
		{"a nested path", "id_token.org.unit.name", "", "west"},
		{"an object", "id_token.org", "", map[string]any{"unit": map[string]any{"name": "west"}}},
		{"a whole number beyond what a float64 holds", "id_token.n", "", int64(90071992547409931)},
		{"another number", "id_token.f", "", 1.5},
		{"a truth value", "id_token.ok", "", true},
		{"a name with dots and slashes", "id_token.https://example.com/roles", "", []any{"a", "b"}},
		{"an entry by its number", "id_token.https://example.com/roles.1", "", "b"},
		{"a number that is not there", "id_token.https://example.com/roles.2", "", nil},
		{"a field of each entry", "id_token.list.id", "", []any{int64(1), int64(2)}},
		{"the lists in each entry, as one", "id_token.list.tags", "", []any{"x", "y", "z"}},
		{"a path through an entry", "id_token.list.0.tags.0", "", "x"},
		{"null", "id_token.none", "", nil},
		{"null, with a default", "id_token.none", "unknown", "unknown"},
		{"absent", "id_token.nothing", "", nil},
		{"absent, with a default", "id_token.org.nothing.at.all", "none", "none"},
		{"an empty text is a value", "id_token.empty", "none", ""},
		{"another document", "userinfo.dept", "", "west"},
		{"a document that was not read, with a default", "provider.dept", "none", "none"},
		{"a document that was not read", "provider.dept", "", nil},
	}
	docs := identity.Documents{"id_token": parse(t, idToken), "userinfo": parse(t, `{"dept":"west"}`)}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := identity.ClaimMap{"x": {From: tt.from, Default: tt.fallback}}.Map(docs, nil)
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if tt.want != nil {
				want = map[string]any{"x": tt.want}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAClaimOfADocumentThatWasNotReadAgainStays(t *testing.T) {
	m := identity.ClaimMap{"a": {From: "id_token.a", Default: "none"}, "b": {From: "userinfo.b", Default: "none"}, "c": {From: "userinfo.c"}}
	was := map[string]any{"a": "one", "b": "two", "c": "three", "gone from the settings": 1}
	got, err := m.Map(identity.Documents{"userinfo": {"b": "new"}}, was)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"a": "one", "b": "new"}, got); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestClaimsThatDoNotFitAreAnErrorThatNamesThem(t *testing.T) {
	secret := strings.Repeat("s", identity.MaxClaimBytes)
	deep := map[string]any{}
	for at, i := deep, 0; i < 9; i++ {
		below := map[string]any{}
		at["x"], at = below, below
	}
	for name, docs := range map[string]identity.Documents{
		"too large": {"id_token": {"big": secret, "small": "s"}},
		"too deep":  {"id_token": {"big": deep}},
	} {
		m := identity.ClaimMap{"small": {From: "id_token.small"}, "large": {From: "id_token.big"}}
		got, err := m.Map(docs, nil)
		if !errors.Is(err, identity.ErrClaims) || !strings.Contains(err.Error(), "large, from id_token.big") {
			t.Errorf("%s: %v, %v, want ErrClaims that names the claim and where it comes from", name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "ss") {
			t.Errorf("%s: the error tells what is in the claim: %v", name, err)
		}
	}
}

// mapped is alice with claims as [identity.ClaimMap.Map] makes them.
func mapped() session.User {
	u := alice()
	u.Claims = map[string]any{
		"department": "sales", "level": int64(3), "ratio": 0.5, "ok": true, "tags": []any{"a,b", "c"},
		"org": map[string]any{"unit": map[string]any{"name": "Süd"}, "ids": []any{int64(1), int64(2)}},
	}
	return u
}

func TestClaimsReachRulesByCookieAndByToken(t *testing.T) {
	b := newBench(t, func(c *identity.Config, _ *session.Config) {
		c.Roles["seller"] = policy.Members{Claims: map[string][]string{"department": {"sales"}}}
		c.Roles["south"] = policy.Members{Claims: map[string][]string{"org.unit.name": {"Süd"}}}
		c.Roles["nobody"] = policy.Members{Claims: map[string][]string{"org.unit": {"x"}}}
	})
	byCookie := b.as(mapped())
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+b.token(byCookie))
	byToken := b.who(r)
	for name, who := range map[string]*identity.Who{"cookie": byCookie, "token": byToken} {
		if diff := cmp.Diff(mapped().Claims, who.Principal.Claims); diff != "" {
			t.Errorf("by %s, claims (-want +got):\n%s", name, diff)
		}
		if got, want := strings.Join(who.Roles, " "), "admin editor seller south staff"; got != want {
			t.Errorf("by %s, roles = %q, want %q", name, got, want)
		}
	}
}

func TestTheClassOfASignInReachesRulesByCookieAndByToken(t *testing.T) {
	b := newBench(t, nil)
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	u := alice()
	u.ID = session.UserID(u.Issuer, u.Subject)
	_, err := b.sessions.Start(w, r, &session.Session{User: u, ACR: "gold", ProviderSID: "s-1"})
	b.must(err)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	byCookie := b.who(r)
	byToken := b.who(&http.Request{Header: http.Header{"Authorization": {"Bearer " + b.token(byCookie)}}})
	for name, who := range map[string]*identity.Who{"cookie": byCookie, "token": byToken} {
		if who.Principal.ACR != "gold" || !who.Principal.AuthTime.IsZero() {
			t.Errorf("by %s: acr %q, auth_time %v, want gold, and no time because nobody has said one", name, who.Principal.ACR, who.Principal.AuthTime)
		}
	}
	if byCookie.Session.ProviderSID != "s-1" {
		t.Errorf("the provider's session id = %q, want s-1", byCookie.Session.ProviderSID)
	}
}

func TestTheRowsRoleComesFirst(t *testing.T) {
	b := newBench(t, nil)
	for row, want := range map[string]string{"": "admin", "user": "admin", "owner": "owner", "staff": "admin"} {
		u := alice()
		u.Role = row
		who := b.Suppose(u, b.now, nil, "")
		if who.Role() != want {
			t.Errorf("with the row's role %q: user.role = %q, want %q", row, who.Role(), want)
		}
	}
	nobody := session.User{Email: "x@other.example", EmailVerified: true}
	if got := b.Suppose(nobody, b.now, nil, "").Role(); got != "user" {
		t.Errorf("without any role: user.role = %q, want user", got)
	}
}

func TestTemplates(t *testing.T) {
	b := newBench(t, nil)
	who := b.Suppose(mapped(), b.now, nil, "")
	for text, want := range map[string]string{
		"user.email":       "alice@example.com",
		"{{ user.email }}": "alice@example.com",
		"{{claims.department}}-{{ claims.level }}":     "sales-3",
		"{{ claims.org.unit.name }}":                   "S%C3%BCd",
		"claims.tags":                                  "a%2Cb,c",
		"claims.org.ids":                               "1,2",
		"claims.org.unit":                              `{"name":"S%C3%BCd"}`,
		"claims.ok":                                    "true",
		"claims.nothing":                               "",
		"dept={{ claims.nothing }}":                    "",
		"{{ claims.nothing }}/{{ claims.department }}": "/sales",
	} {
		template, err := identity.ParseTemplate(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := template.For(who); got != want {
			t.Errorf("%s = %q, want %q", text, got, want)
		}
		if got := template.For(nil); got != "" {
			t.Errorf("%s of nobody = %q, want nothing", text, got)
		}
	}
	for _, text := range []string{"", "user.mail", "claims.", "{{ user.email", "{{ user.mail }}", "a}} {{ user.id }}", "ä{{ user.id }}", "a\r\nb{{ user.id }}", "{{}}"} {
		if _, err := identity.ParseTemplate(text); err == nil {
			t.Errorf("%q is taken for a template", text)
		}
	}
}

// A value that somebody chose cannot be taken for two, nor for the next one.
func TestWhatStandsBetweenValuesStandsInNoValue(t *testing.T) {
	b := newBench(t, nil)
	u := alice()
	u.Name = "Doe, Jane <root@evil.example> 100%"
	u.Claims = map[string]any{"unit": "x@acme", "one": "a,b", "list": []any{"a,b", "c@d"}}
	who := b.Suppose(u, b.now, nil, "")
	for text, want := range map[string]string{
		"user.name":                                "Doe, Jane <root@evil.example> 100%25", // readable: there is nothing to take it for
		"claims.one":                               "a,b",
		"{{ user.name }} <{{ user.email }}>":       "Doe, Jane %3Croot@evil.example%3E 100%25 <alice@example.com>",
		"{{ claims.unit }}@{{ user.email }}":       "x%40acme@alice%40example.com",
		"by {{ claims.unit }} of {{ claims.one }}": "by x@acme of a,b",
		"{{ claims.one }},{{ claims.list }}":       "a%2Cb,a%2Cb,c@d",
		"[{{ claims.list }}]@":                     "[a%2Cb,c%40d]@",
	} {
		template, err := identity.ParseTemplate(text)
		b.must(err)
		if got := template.For(who); got != want {
			t.Errorf("%s = %q, want %q", text, got, want)
		}
	}
}

func TestNoClaimSplitsAHeader(t *testing.T) {
	b := newBench(t, nil)
	u := alice()
	u.Claims = map[string]any{"x": "a\r\nX-Admin: yes\x00ü", "o": map[string]any{"k\n": "v\r"}, "l": []any{"a\nb"}}
	who := b.Suppose(u, b.now, nil, "")
	for _, text := range []string{"claims.x", "{{ claims.x }}", "claims.o", "claims.l", "a{{ claims.o }}b"} {
		template, err := identity.ParseTemplate(text)
		b.must(err)
		if got := template.For(who); got == "" || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%s = %q, want printable ASCII", text, got)
		}
	}
}
