package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/memstore"
)

// A logoutSite is a site with a store, and a provider that tells of logouts.
type logoutSite struct {
	*site
	store *memstore.Store
}

func newLogoutSite(t *testing.T) logoutSite {
	t.Helper()
	l := logoutSite{store: memstore.New(nil)}
	l.site = newSite(t, func(set *settings) {
		set.store = l.store
		set.providers = []string{"one", "two"}
	})
	return l
}

// live returns the session of b as the store has it.
func (l logoutSite) live(t *testing.T, b *browser) *session.Session {
	t.Helper()
	row, err := l.store.FindID(t.Context(), b.sessionID())
	if err != nil {
		t.Fatal(err)
	}
	return row.Session
}

// token returns a logout token of the provider one.
func (l logoutSite) token(t *testing.T, subject, sid string) string {
	t.Helper()
	raw, err := l.idps["one"].IssueLogoutToken("app", subject, sid)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// logOut posts a form to the endpoint for provider, as a provider does: without
// cookies, and from nowhere.
func (l logoutSite) logOut(t *testing.T, provider, form string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, origin+"/auth/backchannel-logout/"+provider, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"*/*"}, "User-Agent": {"provider/1"}}
	a := l.newBrowser(t).do(r)
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q, want no-store", got)
	}
	if got := a.Header["Set-Cookie"]; got != nil {
		t.Errorf("the answer sets cookies: %q", got)
	}
	return a
}

// refused fails the test unless a is the JSON of a refusal.
func (a answer) refused(t *testing.T, why string) {
	t.Helper()
	var body struct{ Error, Error_description, Message, Request_id string }
	if a.StatusCode != http.StatusBadRequest || json.Unmarshal([]byte(a.body), &body) != nil ||
		body.Error != "invalid_request" || body.Error_description == "" || body.Message == "" || body.Request_id != "request-1" {
		t.Errorf("%s is answered %d %q, want 400 with the JSON of an error", why, a.StatusCode, a.body)
	}
}

func TestAProviderEndsOneSessionBySid(t *testing.T) {
	l := newLogoutSite(t)
	one, other, bob := l.signedIn(t, "alice"), l.signedIn(t, "alice"), l.signedIn(t, "bob")
	s := l.live(t, one)
	if s.ProviderSID == "" || s.ProviderSID == l.live(t, other).ProviderSID {
		t.Fatalf("the provider's sid is %q, want one of its own for each session", s.ProviderSID)
	}
	bearer := bearerOf(t, one)
	if a := l.logOut(t, "one", url.Values{"logout_token": {l.token(t, s.User.Subject, s.ProviderSID)}}.Encode()); a.StatusCode != http.StatusOK || a.body != "" {
		t.Fatalf("the answer is %d %q, want 200 without a body", a.StatusCode, a.body)
	}
	if got := one.user(); got != "" {
		t.Errorf("the browser whose session the provider ended is still %q", got)
	}
	if a := l.newBrowser(t).get("/auth/userinfo", "Authorization", bearer); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("its minted token is answered %d, want 401", a.StatusCode)
	}
	if other.user() == "" || bob.user() == "" {
		t.Error("other sessions ended, too")
	}
	if !strings.Contains(l.log.String(), `event=backchannel_logout `) {
		t.Error("the log has no audit event of the logout")
	}
}

func bearerOf(t *testing.T, b *browser) string {
	t.Helper()
	_, body := b.api(http.MethodGet, "/auth/token", "")
	raw, _ := dig(body, "token").(string)
	if raw == "" {
		t.Fatal("no token was minted")
	}
	return "Bearer " + raw
}

func TestAProviderEndsAllSessionsOfAPersonBySub(t *testing.T) {
	l := newLogoutSite(t)
	one, other, bob := l.signedIn(t, "alice"), l.signedIn(t, "alice"), l.signedIn(t, "bob")
	if a := l.logOut(t, "one", url.Values{"logout_token": {l.token(t, l.live(t, one).User.Subject, "")}}.Encode()); a.StatusCode != http.StatusOK {
		t.Fatalf("the answer is %d, want 200", a.StatusCode)
	}
	if one.user() != "" || other.user() != "" {
		t.Error("a session of the person goes on")
	}
	if bob.user() == "" {
		t.Error("somebody else's session ended, too")
	}
}

func TestASidOfSomebodyElseEndsNothing(t *testing.T) {
	l := newLogoutSite(t)
	alice, bob := l.signedIn(t, "alice"), l.signedIn(t, "bob")
	raw := l.token(t, l.live(t, alice).User.Subject, l.live(t, bob).ProviderSID)
	if a := l.logOut(t, "one", url.Values{"logout_token": {raw}}.Encode()); a.StatusCode != http.StatusOK {
		t.Errorf("the answer is %d, want 200: there is no such session, which is what was asked for", a.StatusCode)
	}
	if alice.user() == "" || bob.user() == "" {
		t.Error("a session ended that the token does not name")
	}
}

func TestALogoutTokenIsGoodForOneLogout(t *testing.T) {
	l := newLogoutSite(t)
	alice := l.signedIn(t, "alice")
	form := url.Values{"logout_token": {l.token(t, l.live(t, alice).User.Subject, "")}}.Encode()
	l.logOut(t, "one", form)
	again := l.signedIn(t, "alice")
	l.logOut(t, "one", form).refused(t, "a second use")
	l.clock.advance(2*time.Minute + time.Second)
	l.logOut(t, "one", form).refused(t, "a use after its end")
	if again.user() == "" {
		t.Error("a replayed logout token ended a session")
	}
}

// A provider that could not reach us tries again, and what it sent to one replica
// may be shown to another: the person has signed in again meanwhile.
func TestALateLogoutTokenEndsNoLaterSession(t *testing.T) {
	l := newLogoutSite(t)
	replica := &site{clock: l.clock, idps: l.idps, log: l.log}
	replica.build(t, settings{key: "a key of 32 bytes for tests only", store: l.store, afterSignIn: "/"}, l.providers)
	replica.server = httptest.NewTLSServer(replica)
	t.Cleanup(replica.server.Close)
	before := l.signedIn(t, "alice")
	form := url.Values{"logout_token": {l.token(t, l.live(t, before).User.Subject, "")}}.Encode()
	l.clock.advance(90 * time.Second)
	again := l.signedIn(t, "alice")
	for name, at := range map[string]logoutSite{"the first replica": l, "another replica": {site: replica}} {
		if a := at.logOut(t, "one", form); a.StatusCode != http.StatusOK {
			t.Errorf("%s answers %d, want 200", name, a.StatusCode)
		}
	}
	if before.user() != "" {
		t.Error("the session from before the logout goes on")
	}
	if again.user() == "" {
		t.Error("a session ended that began after the logout")
	}
}

func TestWhatIsNoLogoutTokenIsRefused(t *testing.T) {
	l := newLogoutSite(t)
	alice := l.signedIn(t, "alice")
	subject := l.live(t, alice).User.Subject
	good := l.token(t, subject, "")
	other, err := l.idps["two"].IssueLogoutToken("app", subject, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, form := range map[string]string{
		"nothing":                        "",
		"an empty token":                 "logout_token=",
		"a token twice":                  "logout_token=" + good + "&logout_token=" + good,
		"a form that cannot be read":     "logout_token=%zz",
		"a form of 100 KiB":              "logout_token=" + good + "&x=" + strings.Repeat("x", 100<<10),
		"our own token":                  "logout_token=" + strings.TrimPrefix(bearerOf(t, alice), "Bearer "),
		"another provider's":             "logout_token=" + other,
		"one with a changed signature":   "logout_token=" + good[:len(good)-8] + "AAAAAAAA",
		"one under another name":         "token=" + good,
		"what the browser got as state":  "logout_token=" + alice.begin("alice", "/").query("state"),
		"a token in JSON, not in a form": `{"logout_token":"` + good + `"}`,
	} {
		t.Run(name, func(t *testing.T) { l.logOut(t, "one", form).refused(t, name) })
	}
	inQuery := l.logOut(t, "one?logout_token="+good, "")
	inQuery.refused(t, "a token in the query")
	if alice.user() == "" {
		t.Error("one of them ended the session")
	}
	if strings.Contains(l.log.String(), good) {
		t.Error("the log holds a logout token")
	}
	if a := l.logOut(t, "one", "logout_token="+good); a.StatusCode != http.StatusOK || alice.user() != "" {
		t.Errorf("after all that, the good one is answered %d", a.StatusCode)
	}
}

func TestBackChannelLogoutNeedsAStoreAndAProvider(t *testing.T) {
	l := newLogoutSite(t)
	if a := l.logOut(t, "unknown", "logout_token="+l.token(t, "x", "")); a.StatusCode != http.StatusNotFound {
		t.Errorf("with an unknown provider the answer is %d, want 404", a.StatusCode)
	}
	l.site = newSite(t, nil)
	if a := l.logOut(t, "one", "logout_token="+l.token(t, "x", "")); a.StatusCode != http.StatusNotFound {
		t.Errorf("with sessions in cookies the answer is %d, want 404", a.StatusCode)
	}
	alice := l.newBrowser(t)
	alice.mustSignIn("alice")
	if a := l.newBrowser(t).get("/auth/backchannel-logout/one"); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET is answered %d, want 405", a.StatusCode)
	}
}

// A brokenStore does not answer while it is told not to.
type brokenStore struct {
	session.Store
	broken bool
}

func (s *brokenStore) Delete(ctx context.Context, which session.Selection) ([]string, error) {
	if s.broken {
		return nil, errors.Join(session.ErrUnavailable, ctx.Err())
	}
	return s.Store.Delete(ctx, which)
}

func TestALogoutThatTheStoreDoesNotTakeCanBeTriedAgain(t *testing.T) {
	l := logoutSite{store: memstore.New(nil)}
	store := &brokenStore{Store: l.store, broken: true}
	l.site = newSite(t, func(set *settings) { set.store, set.storeTimeout = store, 50*time.Millisecond })
	alice := l.signedIn(t, "alice")
	form := "logout_token=" + l.token(t, l.live(t, alice).User.Subject, "")
	if a := l.logOut(t, "one", form); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("while the store is down the answer is %d, want 503 with Retry-After", a.StatusCode)
	}
	store.broken = false
	if a := l.logOut(t, "one", form); a.StatusCode != http.StatusOK {
		t.Errorf("once the store is back the same token is answered %d, want 200", a.StatusCode)
	}
	if alice.user() != "" {
		t.Error("the session goes on")
	}
}

func TestACookieHoldsNoSidOfTheProvider(t *testing.T) {
	s := newSite(t, nil)
	b := s.newBrowser(t)
	b.mustSignIn("alice")
	r, err := http.NewRequest(http.MethodGet, origin+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	got, err := s.sessions.Lookup(r)
	if err != nil {
		t.Fatal(err)
	}
	if got.ProviderSID != "" {
		t.Errorf("the cookie holds the sid %q, which is of no use without a store", got.ProviderSID)
	}
}
