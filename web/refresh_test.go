package web_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"authproxy/devidp"
	"authproxy/identity"
	"authproxy/oauth"
	"authproxy/session"
	"authproxy/web"
)

// held signs alice in and returns the session that her cookie holds.
func (s *site) held(t *testing.T) *session.Session {
	t.Helper()
	b := s.newBrowser(t)
	b.get(b.authorize(b.get("/auth/sign-in?login_hint=alice&rd=/")).location())
	r := httptest.NewRequest(http.MethodGet, origin+"/", nil)
	for _, c := range b.jar.Cookies(&url.URL{Scheme: "https", Host: host, Path: "/"}) {
		r.AddCookie(c)
	}
	found, err := s.sessions.Lookup(r)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTheSessionHoldsOnlyTheTokensThatAreNeeded(t *testing.T) {
	offline := []string{"offline_access"}
	tests := []struct {
		upstreamGets                string
		scopes                      []string
		refresh, access, id, expiry bool
	}{
		{"jwt", nil, false, false, false, false},
		{"jwt", offline, true, false, false, true},
		{"none", offline, true, false, false, true},
		{"pass", offline, true, false, false, true},
		{"access_token", nil, false, true, false, true},
		{"access_token", offline, true, true, false, true},
		{"id_token", nil, false, false, true, false},
		{"id_token", offline, true, false, true, true},
	}
	for _, tt := range tests {
		got := newSite(t, func(s *settings) { s.upstreamGets, s.scopes = tt.upstreamGets, tt.scopes }).held(t).Tokens
		for name, pair := range map[string][2]bool{
			"a refresh token": {got.Refresh != "", tt.refresh}, "an access token": {got.Access != "", tt.access},
			"an ID token": {got.ID != "", tt.id}, "when the access token ends": {!got.AccessExpiry.IsZero(), tt.expiry},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s, scopes %v: %s is there: %v, want %v", tt.upstreamGets, tt.scopes, name, pair[0], pair[1])
			}
		}
	}
}

func TestARefreshReadsTheClaimsAgain(t *testing.T) {
	claims := identity.ClaimMap{"dept": {From: "id_token.dept"}, "plan": {From: "userinfo.plan", Default: "free"}}
	s := newSite(t, func(set *settings) { set.scopes, set.claims = []string{"offline_access"}, claims })
	log := &lockedBuffer{}
	refresher := &web.Refresher{Providers: s.providers, Authorization: "jwt", Claims: claims, Log: slog.New(slog.NewTextHandler(log, nil))}
	says := func(dept string) {
		s.idps["one"].SetFaults(devidp.Faults{ClaimsEdit: func(claims map[string]any) { claims["dept"] = dept }})
	}
	says("sales")
	was := s.held(t)
	for _, step := range []struct {
		says, want string
		stale      bool
	}{
		{"support", "support", false},
		{strings.Repeat("wxyz", identity.MaxClaimBytes/4), "support", true}, // the new tokens must not be lost
	} {
		says(step.says)
		got, err := refresher.Refresh(t.Context(), was)
		if err != nil {
			t.Fatal(err)
		}
		if got.User.Claims["dept"] != step.want || got.User.Claims["plan"] != "free" || got.Stale != step.stale || got.Tokens.Refresh == was.Tokens.Refresh {
			t.Errorf("claims = %v, stale %v, want dept %s, plan free, stale %v, and a new refresh token", got.User.Claims, got.Stale, step.want, step.stale)
		}
		next := session.Session{ID: was.ID, AuthTime: was.AuthTime}
		next.User, next.Tokens = got.User, got.Tokens
		was = &next
	}
	if text := log.String(); !strings.Contains(text, "dept, from id_token.dept") || strings.Contains(text, "wxyz") {
		t.Errorf("the log must name the claim and not tell it: %s", text)
	}
}

func TestWhatARefreshMeansForTheSession(t *testing.T) {
	s := newSite(t, func(s *settings) { s.scopes = []string{"offline_access"} })
	refresher := &web.Refresher{Providers: s.providers, Authorization: "access_token", Log: slog.New(slog.DiscardHandler)}

	was := s.held(t)
	s.clock.advance(time.Hour)
	got, err := refresher.Refresh(t.Context(), was)
	if err != nil {
		t.Fatal(err)
	}
	if got.User.ID != was.User.ID || got.User.Provider != "one" || got.User.Email != "alice@example.com" || len(got.User.Groups) != 2 {
		t.Errorf("the person is %+v now", got.User)
	}
	if got.Tokens.Refresh == "" || got.Tokens.Refresh == was.Tokens.Refresh || got.Tokens.Access == "" || !got.Tokens.AccessExpiry.After(s.clock.Now()) {
		t.Error("the new tokens are not the ones to be kept")
	}
	if _, err := refresher.Refresh(t.Context(), was); !errors.Is(err, session.ErrRevoked) {
		t.Errorf("a refresh token that was used before: error = %v, want ErrRevoked", err)
	}

	was = s.held(t)
	s.idps["one"].SetFaults(devidp.Faults{Down: true})
	if _, err := refresher.Refresh(t.Context(), was); err == nil || errors.Is(err, session.ErrRevoked) || errors.Is(err, session.ErrBarred) {
		t.Errorf("the provider is down: error = %v, want one that may pass", err)
	}
	was.User.Provider = "removed"
	if _, err := refresher.Refresh(t.Context(), was); err == nil || errors.Is(err, session.ErrRevoked) {
		t.Errorf("the provider was removed: error = %v, want one that may pass", err)
	}
	barred := fmt.Errorf("%w: in none of the orgs", oauth.ErrNotAllowed)
	if err := web.RefreshError(barred); !errors.Is(err, session.ErrBarred) || errors.Is(err, session.ErrRevoked) {
		t.Errorf("the person may not sign in any more: error = %v, want ErrBarred", err)
	}
}
