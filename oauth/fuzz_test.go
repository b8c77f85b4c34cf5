package oauth

import (
	"encoding/json"
	"errors"
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
