package oauth

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzClaims: whatever an ID token holds, what comes out of it was in it under
// exactly that name, is safe in a header, and is verified only if it says so.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{
		`{"sub":"a","email":"a@example.com","email_verified":true,"groups":["x","y"],"amr":["pwd"],"auth_time":1}`,
		`{"sub":"a","SUB":"b","email_verified":"true","groups":"x","amr":"pwd"}`,
		`{"\u017fub":"b","Email_Verified":true,"email":"a@example.com"}`,
		`{"groups":null,"amr":null,"events":null,"email_verified":null}`,
		`{"groups":[{"a":1}]}`, `{"groups":["a",null]}`, `{"name":"a\r\nb"}`, `null`, `[]`, `{"auth_time":1e400}`, `{"email":1}`,
	} {
		f.Add([]byte(seed))
	}
	p := &Provider{config: Config{GroupsClaim: "groups"}}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c claims
		if err := json.Unmarshal(data, &c); err != nil {
			return
		}
		var exact map[string]json.RawMessage
		if err := json.Unmarshal(data, &exact); err != nil {
			t.Fatalf("%s: claims without being an object: %v", data, err)
		}
		for name, got := range map[string]string{
			"sub": c.Subject, "azp": c.AZP, "nonce": c.Nonce, "sid": c.SID, "email": c.Email,
			"name": c.Name, "preferred_username": c.Username, "picture": c.Picture, "events": string(c.Events),
		} {
			if _, ok := exact[name]; !ok && got != "" {
				t.Errorf("%s: %s = %q, but there is no such claim", data, name, got)
			}
		}
		if said := string(exact["email_verified"]); bool(c.Verified) != (said == "true" || said == `"true"`) {
			t.Errorf("%s: verified = %v, want it only for true", data, c.Verified)
		}
		groups, err := p.groups(func(v any) error { return json.Unmarshal(data, v) })
		if err != nil && (!errors.Is(err, ErrClaims) || groups != nil) {
			t.Errorf("%s: groups = %q, %v, want none and %v", data, groups, err, ErrClaims)
		}
		checkIdentity(t, data, &c, groups)
	})
}

func checkIdentity(t *testing.T, data []byte, c *claims, groups []string) {
	t.Helper()
	id := &Identity{Subject: c.Subject, SID: c.SID, AMR: c.AMR, Groups: groups}
	id.describe(c)
	if id.EmailVerified && id.Email == "" {
		t.Errorf("%s: verified without an address", data)
	}
	if id.check() != nil {
		return
	}
	all := strings.Join(append(append([]string{id.Subject, id.SID, id.Email, id.Name, id.Picture}, id.AMR...), id.Groups...), "")
	for i := range len(all) {
		if all[i] < ' ' || all[i] == 0x7f {
			t.Errorf("%s: a control character got through: %q", data, all)
		}
	}
	if !utf8.ValidString(all) {
		t.Errorf("%s: invalid UTF-8 got through: %q", data, all)
	}
}

// FuzzErrorCode: what comes out is short, harmless and all that was harmless.
func FuzzErrorCode(f *testing.F) {
	for _, seed := range []string{"access_denied", "", "<b>", "a\r\nb", "é", strings.Repeat("x", 100), "a.b-c_D9"} {
		f.Add(seed)
	}
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
	f.Fuzz(func(t *testing.T, code string) {
		got := errorCode(code)
		if len(got) > 64 || strings.Trim(got, allowed) != "" {
			t.Errorf("errorCode(%q) = %q, want at most 64 harmless characters", code, got)
		}
		if strings.Trim(code, allowed) == "" && len(code) <= 64 && got != code {
			t.Errorf("errorCode(%q) = %q, want it unchanged", code, got)
		}
		if again := errorCode(got); again != got {
			t.Errorf("errorCode(%q) = %q, want it unchanged", got, again)
		}
	})
}

// FuzzUserinfo: whatever a userinfo endpoint answers and wherever the claims
// are, who comes out has an id, and is verified only with an address.
func FuzzUserinfo(f *testing.F) {
	f.Add([]byte(`{"id":1,"email":"a@example.com","email_verified":true,"groups":["x"]}`), "id")
	f.Add([]byte(`{"data":[{"id":"a"},{"id":"b"}],"email":["a"]}`), "data.id")
	f.Add([]byte(`[[[{"a":{"b":null}}]]]`), "a.b")
	f.Add([]byte(`{"":{"":1}}`), ".")
	f.Fuzz(func(t *testing.T, info []byte, path string) {
		u := &userinfoOnly{&Provider{config: Config{Claims: ClaimPaths{ID: path, Email: "email", EmailVerified: "email_verified", Groups: "groups"}}}}
		id, err := u.read(info)
		if err != nil {
			if !errors.Is(err, ErrClaims) || id != nil {
				t.Errorf("%s: %+v, %v, want %v alone", info, id, err, ErrClaims)
			}
			return
		}
		if id.Subject == "" || len(id.Subject) > maxSubject || id.EmailVerified && id.Email == "" {
			t.Errorf("%s: identity = %+v", info, id)
		}
	})
}

// FuzzNextPage: the access token goes to the next page only where it is at the
// same origin.
func FuzzNextPage(f *testing.F) {
	const here = "https://api.github.example/user/orgs?per_page=100"
	for _, seed := range []string{
		`<https://api.github.example/user/orgs?page=2>; rel="next"`, `</user?page=2>; rel=next`, `<//evil.example/>; rel="next"`, `<https:evil>; rel="next"`,
		`<https://api.github.example:443/x>; rel="next"`, `<https://a@api.github.example/x>; rel="next"`, `<\\evil.example>; rel="next"`, `<>; rel="next"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, link string) {
		next, err := nextPage(here, http.Header{"Link": {link}})
		if err != nil || next == "" {
			return
		}
		if req, err := http.NewRequest(http.MethodGet, next, nil); err == nil && (req.URL.Scheme != "https" || req.URL.Host != "api.github.example") {
			t.Errorf("%q: the next page is %s", link, next)
		}
	})
}
