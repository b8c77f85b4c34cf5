package web_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/memstore"
)

// newStoredSite is a site that keeps its sessions in a store.
func newStoredSite(t *testing.T) *site {
	t.Helper()
	return newSite(t, func(s *settings) {
		store := memstore.New(nil)
		t.Cleanup(func() { store.Close() })
		s.store = store
	})
}

// signedIn returns a browser in which login is signed in.
func (s *site) signedIn(t *testing.T, login string) *browser {
	t.Helper()
	b := s.newBrowser(t)
	b.mustSignIn(login)
	return b
}

// devices returns the ids that GET /sessions lists.
func (b *browser) devices() []string {
	b.Helper()
	_, v := b.api("GET", "/auth/sessions", "")
	list, _ := v.([]any)
	var ids []string
	for _, d := range list {
		ids = append(ids, dig(d, "id").(string))
	}
	return ids
}

func TestTheSessionsOfAPersonAreListed(t *testing.T) {
	s := newStoredSite(t)
	phone := s.newBrowser(t)
	phone.agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
	phone.mustSignIn("alice")
	s.clock.advance(1e9)
	b := s.signedIn(t, "alice")
	s.signedIn(t, "bob")
	a, v := b.api("GET", "/auth/sessions", "")
	list, _ := v.([]any)
	if a.StatusCode != 200 || len(list) != 2 || a.Header.Get("X-Sessions-Complete") != "" {
		t.Fatalf("GET /sessions = %d with %d sessions, X-Sessions-Complete %q; want alice's two and no such header: %s", a.StatusCode, len(list), a.Header.Get("X-Sessions-Complete"), a.body)
	}
	for i, want := range []struct {
		id, device string
		current    bool
	}{{b.sessionID(), "Firefox on Linux", true}, {phone.sessionID(), "Safari on iPhone", false}} {
		got := list[i]
		if dig(got, "id") != want.id || dig(got, "current") != want.current || dig(got, "device") != want.device || dig(got, "provider") != "one" ||
			dig(got, "ipAddress") != "192.0.2.7" || dig(got, "createdAt") == "" || dig(got, "lastSeenAt") == "" {
			t.Errorf("session %d = %v, want %+v", i, got, want)
		}
	}
}

func TestAPersonEndsTheirOwnSessionsOnly(t *testing.T) {
	s := newStoredSite(t)
	b, other, bob := s.signedIn(t, "alice"), s.signedIn(t, "alice"), s.signedIn(t, "bob")
	for _, id := range []string{bob.sessionID(), "none", "%2e%2e"} {
		if a, v := b.api("DELETE", "/auth/sessions/"+id, ""); a.StatusCode != http.StatusNotFound {
			t.Errorf("DELETE of the session %s = %d %v, want 404", id, a.StatusCode, v)
		}
	}
	if bob.user() == "" || other.user() == "" {
		t.Fatal("a refused call ended a session")
	}
	if a, _ := b.api("DELETE", "/auth/sessions/"+other.sessionID(), ""); a.StatusCode != http.StatusNoContent || a.body != "" {
		t.Errorf("DELETE of another own session = %d %q, want 204", a.StatusCode, a.body)
	}
	if other.user() != "" || b.user() == "" || bob.user() == "" {
		t.Errorf("signed in: here %q, there %q, bob %q; want that one alone to have ended", b.user(), other.user(), bob.user())
	}
	if a, _ := b.api("DELETE", "/auth/sessions/"+b.sessionID(), ""); a.StatusCode != http.StatusNoContent || b.jar.ours()["__Host-authproxy_session"] != "" {
		t.Errorf("DELETE of the current session = %d, cookies %v; want 204 and no cookie", a.StatusCode, b.jar.ours())
	}
	if got := s.log.String(); strings.Count(got, "event=sessions_revoked") != 1 || strings.Count(got, "event=sign_out") != 1 {
		t.Errorf("the log does not hold one session_revoked and one sign_out:\n%s", got)
	}
}

func TestManySessionsEndAtOnce(t *testing.T) {
	s := newStoredSite(t)
	b, other, third, bob := s.signedIn(t, "alice"), s.signedIn(t, "alice"), s.signedIn(t, "alice"), s.signedIn(t, "bob")
	if a, v := b.api("DELETE", "/auth/sessions?scope=others", ""); a.StatusCode != 200 || a.body != "{\"revoked\":2}\n" {
		t.Errorf("DELETE of the others = %d %v, want 200 and 2", a.StatusCode, v)
	}
	if other.user() != "" || third.user() != "" || b.user() == "" || bob.user() == "" {
		t.Errorf("signed in: here %q, there %q and %q, bob %q; want alice here and bob", b.user(), other.user(), third.user(), bob.user())
	}
	other.mustSignIn("alice")
	if a, v := b.api("DELETE", "/auth/sessions?scope=all", ""); a.StatusCode != 200 || a.body != "{\"revoked\":2}\n" || b.jar.ours()["__Host-authproxy_session"] != "" {
		t.Errorf("DELETE of all = %d %v, cookies %v; want 200, 2 and no cookie", a.StatusCode, v, b.jar.ours())
	}
	if b.user() != "" || other.user() != "" || bob.user() == "" {
		t.Errorf("signed in: here %q, there %q, bob %q; want bob alone", b.user(), other.user(), bob.user())
	}
	for _, target := range []string{"/auth/sessions", "/auth/sessions?scope=", "/auth/sessions?scope=mine"} {
		if a, v := bob.api("DELETE", target, ""); a.StatusCode != 400 || dig(v, "error") != "invalid_scope" || bob.user() == "" {
			t.Errorf("DELETE %s = %d %v, want 400 invalid_scope", target, a.StatusCode, v)
		}
	}
	b.mustSignIn("alice")
	other.mustSignIn("alice")
	if a, _ := b.api("POST", "/auth/sign-out?scope=all", "{}"); a.StatusCode != 200 || b.user() != "" || other.user() != "" {
		t.Errorf("sign-out everywhere = %d, signed in here %q, there %q; want 200 and nobody", a.StatusCode, b.user(), other.user())
	}
	if a, _ := b.api("POST", "/auth/sign-out?scope=all", "{}"); a.StatusCode != 200 {
		t.Errorf("sign-out everywhere again = %d, want 200", a.StatusCode)
	}
}

func TestATokenIsNotEnoughForSessions(t *testing.T) {
	s := newStoredSite(t)
	b := s.signedIn(t, "alice")
	_, v := b.api("GET", "/auth/token", "")
	bearer := []string{"Authorization", "Bearer " + dig(v, "token").(string)}
	stranger := s.newBrowser(t)
	for _, call := range []string{"POST /auth/session", "GET /auth/sessions", "DELETE /auth/sessions/" + b.sessionID(), "DELETE /auth/sessions?scope=all", "GET /auth/account", "POST /auth/account"} {
		method, target, _ := strings.Cut(call, " ")
		if a, _ := stranger.api(method, target, "", bearer...); a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s with a token = %d, want 401", call, a.StatusCode)
		}
	}
	if b.user() == "" {
		t.Error("a token ended the session")
	}
}

func TestDataOfAnApplication(t *testing.T) {
	s := newStoredSite(t)
	b, other := s.signedIn(t, "alice"), s.signedIn(t, "alice")
	tooLong := `{"data":{"x":"` + strings.Repeat("x", session.MaxData) + `"}}`
	for _, body := range []string{`{"data":1}`, `{"data":[]}`, `{"data":"x"}`, `{"data":true}`, `{"data":{"x":"\u0000"}}`, tooLong} {
		if a, v := b.api("POST", "/auth/session", body, "Content-Type", "application/json"); a.StatusCode != 400 || dig(v, "error") != "invalid_data" {
			t.Errorf("POST /session with %.30q = %d %v, want 400 invalid_data", body, a.StatusCode, dig(v, "error"))
		}
	}
	if _, v := b.api("GET", "/auth/session", ""); dig(v, "session", "data") != nil {
		t.Errorf("refused data was kept: %v", dig(v, "session", "data"))
	}
	write := func(data string) {
		t.Helper()
		for range 2 {
			a, v := b.api("POST", "/auth/session", `{"data":`+data+`}`, "Content-Type", "application/json")
			_, again := b.api("GET", "/auth/session", "")
			for _, got := range []any{v, again} {
				if text := fmt.Sprint(dig(got, "session", "data")); a.StatusCode != 200 || text != fmt.Sprint(as(t, data)) {
					t.Errorf("POST and GET /session = %d with the data %s, want %s", a.StatusCode, text, data)
				}
			}
		}
	}
	write(`{"theme":"dark","n":[1,2]}`)
	b.api("POST", "/auth/session", `{}`, "Content-Type", "application/json")
	b.api("POST", "/auth/session", `{"data":null}`, "Content-Type", "application/json")
	if _, v := b.api("GET", "/auth/session", ""); dig(v, "session", "data", "theme") != "dark" {
		t.Errorf("data after an update without any = %v, want what there was", dig(v, "session", "data"))
	}
	write(`{}`)
	if _, v := other.api("GET", "/auth/session", ""); dig(v, "session", "data") != nil {
		t.Error("one session has the data of another")
	}
	s.endAll(t)
	if a, _ := b.api("POST", "/auth/session", `{"data":{}}`, "Content-Type", "application/json"); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("POST /session without a session = %d, want 401", a.StatusCode)
	}
}

// endAll ends all sessions behind the back of those who have them.
func (s *site) endAll(t *testing.T) {
	t.Helper()
	if _, err := s.sessions.Revoke(context.WithoutCancel(t.Context()), session.Selection{All: true}, session.By{}); err != nil {
		t.Fatal(err)
	}
}

func TestAStoreThatIsDownIsNoSignOut(t *testing.T) {
	s := newSite(t, func(set *settings) { set.store, set.storeTimeout = memstore.New(nil), 100*time.Millisecond })
	b := s.signedIn(t, "alice")
	id := b.sessionID()
	s.sessions.Store.Close()
	for _, call := range []string{
		"GET /auth/session", "POST /auth/session", "GET /auth/sessions", "DELETE /auth/sessions/" + id, "DELETE /auth/sessions/other",
		"DELETE /auth/sessions?scope=all", "GET /auth/account", "POST /auth/account", "GET /auth/token", "POST /auth/sign-out", "POST /auth/sign-out?scope=all",
	} {
		method, target, _ := strings.Cut(call, " ")
		a, _ := b.api(method, target, "")
		if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || len(a.Header["Set-Cookie"]) > 0 {
			t.Errorf("%s = %d, Retry-After %q, cookies %v; want 503 and the cookies untouched", call, a.StatusCode, a.Header.Get("Retry-After"), a.Header["Set-Cookie"])
		}
	}
}

func TestHowScriptsGetTokens(t *testing.T) {
	for expose, want := range map[string]struct {
		endpoint  int
		inSession bool
	}{"": {200, false}, "token_endpoint": {200, false}, "session": {200, true}, "none": {404, false}} {
		t.Run(expose, func(t *testing.T) {
			b := newSite(t, func(s *settings) { s.exposeTokens = expose }).signedIn(t, "alice")
			answered, v := b.api("GET", "/auth/token", "")
			if answered.StatusCode != want.endpoint {
				t.Errorf("GET /token = %d, want %d", answered.StatusCode, want.endpoint)
			}
			for _, method := range []string{"GET", "POST"} {
				_, got := b.api(method, "/auth/session", "")
				raw, _ := dig(got, "session", "access_token").(string)
				ends, _ := dig(got, "session", "expires_at").(float64)
				if (raw != "") != want.inSession || (ends != 0) != want.inSession {
					t.Errorf("%s /session has access_token %.10q and expires_at %v; want them there: %v", method, raw, ends, want.inSession)
				}
				if want.inSession && (raw != dig(v, "token") || int64(ends) != b.clock.Now().Unix()+900) {
					t.Errorf("%s /session: expires_at %v, and its token is that of /token: %v; want in 900 s, true", method, ends, raw == dig(v, "token"))
				}
			}
			b.jar.drop("__Host-authproxy_session")
			if a, _ := b.api("GET", "/auth/session", ""); a.body != "null\n" {
				t.Errorf("signed out, GET /session = %q, want null", a.body)
			}
		})
	}
}

// post sends a form of the account page, as a browser does.
func (b *browser) post(form string) answer {
	b.Helper()
	return b.send(http.MethodPost, "/auth/account", form, "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Dest", "document")
}

func TestTheAccountPage(t *testing.T) {
	s := newStoredSite(t)
	b, other, third, bob := s.signedIn(t, "alice"), s.signedIn(t, "alice"), s.signedIn(t, "alice"), s.signedIn(t, "bob")
	shown := b.get("/auth/account")
	b.isPage(shown, http.StatusOK, "Alice Adams", "alice@example.com", "Provider one", "Firefox on Linux", "This device", "192.0.2.7", "Sign out everywhere else", "Sign out everywhere<")
	if strings.Contains(shown.body, bob.sessionID()) || strings.Count(shown.body, `name="id"`) != 3 {
		t.Errorf("the page does not show alice's three sessions and no other: %s", shown.body)
	}
	if got, want := shown.Header.Get("Content-Security-Policy"), "default-src 'none'"; !strings.HasPrefix(got, want) || shown.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("policy %q, Cache-Control %q; want it to begin with %q, and no-store", got, shown.Header.Get("Cache-Control"), want)
	}

	for form, status := range map[string]int{"": 400, "action=": 400, "action=none": 400, "action=revoke": 404, "action=revoke&id=" + bob.sessionID(): 404} {
		b.isPage(b.post(form), status)
	}
	if bob.user() == "" || len(b.devices()) != 3 {
		t.Fatal("a refused form ended a session")
	}
	a := b.post("action=revoke&id=" + other.sessionID())
	if a.StatusCode != http.StatusSeeOther || other.user() != "" || third.user() == "" {
		t.Errorf("to sign out one device = %d, there %q, elsewhere %q; want 303 and that one gone", a.StatusCode, other.user(), third.user())
	}
	b.isPage(b.get(a.location()), http.StatusOK, "That device has been signed out.")
	a = b.post("action=others")
	if a.StatusCode != http.StatusSeeOther || third.user() != "" || b.user() == "" || bob.user() == "" {
		t.Errorf("to sign out the others = %d, there %q, here %q, bob %q; want 303 and the others gone", a.StatusCode, third.user(), b.user(), bob.user())
	}
	b.isPage(b.get(a.location()), http.StatusOK, "All other devices have been signed out.", "You are signed in nowhere else.")

	other.mustSignIn("alice")
	a = b.post("action=all")
	if a.StatusCode != http.StatusSeeOther || a.location() != "/" || b.user() != "" || other.user() != "" {
		t.Errorf("to sign out everywhere = %d to %q, here %q, there %q; want 303 to / and nobody", a.StatusCode, a.location(), b.user(), other.user())
	}
	if a := b.get("/auth/account"); a.StatusCode != http.StatusFound || a.location() != origin+"/auth/sign-in?rd=https%3A%2F%2Fapp.example.com%2Fauth%2Faccount" {
		t.Errorf("without a session the page = %d to %q, want sign-in that leads back", a.StatusCode, a.location())
	}
	b.isPage(b.post("action=others"), http.StatusUnauthorized, "/auth/sign-in")
	if done := b.signIn("alice", origin+"/auth/account"); done.location() != origin+"/auth/account" {
		t.Errorf("sign-in ended at %q, want the account page", done.location())
	}
}

func TestTheAccountPageWithoutAStore(t *testing.T) {
	s := newSite(t, nil)
	b, other := s.signedIn(t, "alice"), s.signedIn(t, "alice")
	shown := b.get("/auth/account")
	b.isPage(shown, http.StatusOK, "alice@example.com", "This device", "Other devices cannot be shown")
	if regexp.MustCompile(`value="(others|all)"`).MatchString(shown.body) {
		t.Error("the page offers what cannot be done")
	}
	for _, form := range []string{"action=others", "action=all", "action=revoke&id=" + other.sessionID()} {
		b.isPage(b.post(form), http.StatusConflict)
	}
	if b.user() == "" || other.user() == "" {
		t.Fatal("a refused form ended a session")
	}
	if a := b.post("action=revoke&id=" + b.sessionID()); a.StatusCode != http.StatusSeeOther || b.user() != "" || other.user() == "" {
		t.Errorf("to sign out this device = %d, here %q, there %q; want 303 and this one gone", a.StatusCode, b.user(), other.user())
	}
}
