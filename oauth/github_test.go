package oauth_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"authproxy/oauth"
)

type object = map[string]any

func gitHubOrgs(names ...string) []object {
	var all []object
	for i, name := range names {
		all = append(all, object{"login": name, "id": i})
	}
	return all
}

// gitHubTeam is a team as /user/teams has it: with the next team above only.
func gitHubTeam(org, slug, parent string) object {
	team := object{"id": 1, "name": "The " + slug, "slug": slug, "parent": nil, "organization": object{"login": org, "id": 7}}
	if parent != "" {
		team["parent"] = object{"id": 2, "slug": parent}
	}
	return team
}

// newGitHub is a GitHub Enterprise Server with alice in it.
func newGitHub(t *testing.T) *lookAlike {
	l := newLookAlike(t)
	l.on("/login/oauth/access_token", answer(object{"access_token": accessToken, "token_type": "bearer", "scope": "read:org,user:email"}))
	l.on("/api/v3/user", answer(object{"id": 583231, "login": "alice", "name": "Alice Adams", "avatar_url": "https://a.example/1"}))
	l.on("/api/v3/user/emails", pages(l, []object{
		{"email": "old@example.com", "primary": false, "verified": true, "visibility": nil},
		{"email": "new@example.com", "primary": false, "verified": false},
		{"email": "alice@example.com", "primary": true, "verified": true},
	}))
	l.on("/api/v3/user/orgs", pages(l, gitHubOrgs("acme", "Other", "third")))
	l.on("/api/v3/user/teams", pages(l, []object{gitHubTeam("acme", "dev", ""), gitHubTeam("acme", "ops", ""), gitHubTeam("third", "dev", "")}))
	return l
}

func gitHub(l *lookAlike) oauth.Config { return oauth.Config{Type: oauth.GitHub, BaseURL: l.url + "/"} }

func TestGitHubSaysWhoSignedIn(t *testing.T) {
	l := newGitHub(t)
	got, err := l.signIn(t, l.provider(t, gitHub(l)))
	if err != nil {
		t.Fatal(err)
	}
	want := &oauth.Identity{
		Issuer: l.url, Subject: "583231", Email: "alice@example.com", EmailVerified: true, Name: "Alice Adams", Picture: "https://a.example/1",
		Groups: []string{"Other", "acme", "acme/dev", "acme/ops", "third", "third/dev"},
		Tokens: oauth.Tokens{Access: accessToken},
	}
	if diff := cmp.Diff(want, got, withoutClaims()); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	for _, r := range l.asked("GET /api/v3/") {
		if r.auth != "Bearer "+accessToken {
			t.Errorf("%s has Authorization %q, want the access token", r.line, r.auth)
		}
	}
	form := l.asked("POST /login/oauth/access_token")[0].form
	if len(form.Get("code_verifier")) < 43 || form.Get("client_secret") != clientSecret || form.Get("code") != "a-code" {
		t.Errorf("the code was sent with %d fields, want verifier, secret and code among them", len(form))
	}
}

func TestGitHubIsAskedWithStateAndPKCE(t *testing.T) {
	p, err := oauth.New(oauth.Config{ID: "github", Type: oauth.GitHub, ClientID: "app", RedirectURL: callbackURL})
	if err != nil {
		t.Fatal(err)
	}
	login := oauth.NewLogin("the-state")
	address, err := p.AuthCodeURL(t.Context(), "the-state", login, oauth.Prompts{LoginHint: "alice", Prompt: "login"})
	if err != nil {
		t.Fatal(err)
	}
	base, query, _ := strings.Cut(address, "?")
	q, err := url.ParseQuery(query)
	if err != nil || base != "https://github.com/login/oauth/authorize" {
		t.Errorf("address = %s (%v), want GitHub's", address, err)
	}
	if len(q.Get("code_challenge")) != 43 {
		t.Errorf("code_challenge = %q, want a SHA-256", q.Get("code_challenge"))
	}
	q.Del("code_challenge")
	want := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callbackURL}, "scope": {"read:user user:email read:org"},
		"state": {"the-state"}, "code_challenge_method": {"S256"}, "login": {"alice"}, "prompt": {"select_account"},
	}
	if diff := cmp.Diff(want, q); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
}

func TestAGitHubUserIsTheNumberNotTheName(t *testing.T) {
	l := newGitHub(t)
	p := l.provider(t, gitHub(l))
	before, err := l.signIn(t, p)
	if err != nil {
		t.Fatal(err)
	}
	l.on("/api/v3/user", answer(object{"id": 583231, "login": "alice-renamed", "name": nil}))
	renamed, err := l.signIn(t, p)
	if err != nil || renamed.Subject != before.Subject || renamed.Name != "alice-renamed" {
		t.Errorf("after a change of the login name: %+v, %v, want subject %s", renamed, err, before.Subject)
	}
	l.on("/api/v3/user", answer(object{"id": 99, "login": "alice"}))
	taken, err := l.signIn(t, p)
	if err != nil || taken.Subject == before.Subject {
		t.Errorf("somebody else took the login name: %+v, %v, want another subject", taken, err)
	}
	for _, odd := range []any{nil, 0, -1, "583231", 1.5} {
		l.on("/api/v3/user", answer(object{"id": odd, "login": "alice"}))
		if id, err := l.signIn(t, p); err == nil {
			t.Errorf("id %v: signed in as %q, want an error", odd, id.Subject)
		}
	}
}

func TestOnlyGitHubsPrimaryVerifiedAddressCounts(t *testing.T) {
	tests := []struct {
		name   string
		emails []object
		want   string
	}{
		{"primary and verified", []object{{"email": "a@x.example", "primary": true, "verified": true}}, "a@x.example"},
		{"primary is not verified", []object{{"email": "a@x.example", "primary": true, "verified": false}, {"email": "b@x.example", "primary": false, "verified": true}}, ""},
		{"none", []object{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newGitHub(t)
			l.on("/api/v3/user", answer(object{"id": 1, "login": "a", "email": "public@victim.example"}))
			l.on("/api/v3/user/emails", pages(l, tt.emails))
			id, err := l.signIn(t, l.provider(t, gitHub(l)))
			if err != nil {
				t.Fatal(err)
			}
			if id.Email != tt.want || id.EmailVerified != (tt.want != "") {
				t.Errorf("address = %q, verified %v, want %q", id.Email, id.EmailVerified, tt.want)
			}
		})
	}
}

func TestTeamsAboveATeamCount(t *testing.T) {
	l := newGitHub(t)
	l.on("/api/v3/user/orgs", pages(l, gitHubOrgs("acme")))
	l.on("/api/v3/user/teams", pages(l, []object{gitHubTeam("acme", "db", "backend"), gitHubTeam("acme", "api", "backend")}))
	l.on("/api/v3/orgs/acme/teams/backend", answer(gitHubTeam("acme", "backend", "engineering")))
	l.on("/api/v3/orgs/acme/teams/engineering", refuse(http.StatusNotFound)) // it may not be visible
	c := gitHub(l)
	c.Teams = []string{"ACME/engineering"}
	id, err := l.signIn(t, l.provider(t, c))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"acme", "acme/api", "acme/backend", "acme/db", "acme/engineering"}
	if diff := cmp.Diff(want, id.Groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if got := l.count("GET /api/v3/orgs/acme/teams/"); got != 2 {
		t.Errorf("%d teams were looked up, want each of 2 once", got)
	}
}

// Whoever has to wait for an answer about a team above is still in it.
func TestNobodyLeavesATeamBecauseGitHubRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		no   http.HandlerFunc
		want error
	}{
		"too many requests":  {refuse(403, "X-RateLimit-Remaining", "4321"), oauth.ErrClaims},
		"single sign-on":     {refuse(403, "X-GitHub-SSO", "required; url=https://github.com/orgs/acme/sso"), oauth.ErrNotAllowed},
		"it says so by text": {tooManyAtOnce, oauth.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			l := newGitHub(t)
			l.on("/api/v3/user/teams", pages(l, []object{gitHubTeam("acme", "db", "backend")}))
			l.on("/api/v3/orgs/acme/teams/backend", tt.no)
			c := gitHub(l)
			c.Teams = []string{"acme/engineering"}
			if _, err := l.signIn(t, l.provider(t, c)); !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
		})
	}
}

// tooManyAtOnce is a secondary rate limit with no header that tells.
func tooManyAtOnce(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-RateLimit-Remaining", "4999")
	w.WriteHeader(http.StatusForbidden)
	io.WriteString(w, `{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}`)
}

func TestTeamsInACircleEnd(t *testing.T) {
	l := newGitHub(t)
	l.on("/api/v3/user/teams", pages(l, []object{gitHubTeam("acme", "a", "b")}))
	l.on("/api/v3/orgs/acme/teams/b", answer(gitHubTeam("acme", "b", "a")))
	if _, err := l.signIn(t, l.provider(t, gitHub(l))); err != nil {
		t.Error(err)
	}
}

func TestWhoMaySignInWithGitHub(t *testing.T) {
	tests := []struct {
		name        string
		orgs, teams []string
		ok          bool
	}{
		{"anybody", nil, nil, true},
		{"a member of the org", []string{"acme"}, nil, true},
		{"in any case of letters", []string{"ACME"}, nil, true},
		{"of the org on the second page", []string{"third"}, nil, true},
		{"a member of another org", []string{"evil"}, nil, false},
		{"of an org that begins alike", []string{"acm", "acme2"}, nil, false},
		{"in the team", nil, []string{"acme/ops"}, true},
		{"in the team on the second page", nil, []string{"third/dev"}, true},
		{"in the team of that name of another org", nil, []string{"other/ops"}, false},
		{"in the org, but not in its team", nil, []string{"acme/admins"}, false},
		{"in the org or in the team", []string{"evil"}, []string{"acme/dev"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newGitHub(t)
			c := gitHub(l)
			c.Orgs, c.Teams = tt.orgs, tt.teams
			_, err := l.signIn(t, l.provider(t, c))
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, oauth.ErrNotAllowed) {
				t.Errorf("error = %v, want %v unless it is allowed", err, oauth.ErrNotAllowed)
			}
		})
	}
}

func TestGitHubsRefusalsAreExplained(t *testing.T) {
	const sso = "required; url=https://github.com/orgs/acme/sso?authorization_request=AAAA-one-time-secret"
	tests := []struct {
		name  string
		path  string
		serve http.HandlerFunc
		want  error
		text  string
	}{
		{"single sign-on", "/user/orgs", refuse(403, "X-GitHub-SSO", sso), oauth.ErrNotAllowed, "sign in at https://github.com/orgs/acme/sso, and"},
		{"single sign-on for teams", "/user/teams", refuse(403, "X-GitHub-SSO", sso), oauth.ErrNotAllowed, "single sign-on"},
		{"rate limit", "/user", refuse(403, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1800000060"), oauth.ErrUnavailable, "status 403"},
		{"secondary rate limit", "/user/orgs", refuse(403, "Retry-After", "60"), oauth.ErrUnavailable, "status 403"},
		{"secondary rate limit by text", "/user/orgs", tooManyAtOnce, oauth.ErrUnavailable, "status 403"},
		{"429", "/user/emails", refuse(429), oauth.ErrUnavailable, "status 429"},
		{"500", "/user/teams", refuse(500), oauth.ErrUnavailable, "status 500"},
		{"502", "/user", refuse(502), oauth.ErrUnavailable, "status 502"},
		{"no scope", "/user/emails", refuse(404), oauth.ErrClaims, "scopes user:email and read:org"},
		{"forbidden", "/user/teams", refuse(403, "X-RateLimit-Remaining", "4999"), oauth.ErrClaims, "/user/teams: status 403"},
		{"unauthorized", "/user", refuse(401), oauth.ErrClaims, "/user: status 401"},
		{"a redirect", "/user", refuse(302, "Location", "https://evil.example/"), oauth.ErrUnavailable, "redirect"},
		{"garbage", "/user/orgs", garbage, oauth.ErrUnavailable, "cannot be read"},
		{"nothing", "/user", hangUp, oauth.ErrUnavailable, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newGitHub(t)
			l.on("/api/v3"+tt.path, tt.serve)
			_, err := l.signIn(t, l.provider(t, gitHub(l)))
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error = %v, want %v with %q", err, tt.want, tt.text)
			}
			if err != nil && strings.Contains(err.Error(), "one-time-secret") {
				t.Errorf("the error repeats the query of the single sign-on page: %v", err)
			}
		})
	}
}

func TestGitHubLeavesOutOrgsThatWantSingleSignOn(t *testing.T) {
	l := newGitHub(t)
	l.on("/api/v3/user/orgs", pages(l, gitHubOrgs("other"), "X-GitHub-SSO", "partial-results; organizations=21955855,20582480"))
	l.on("/api/v3/user/teams", pages(l, []object{}))
	c := gitHub(l)
	c.Orgs = []string{"acme"}
	_, err := l.signIn(t, l.provider(t, c))
	if !errors.Is(err, oauth.ErrNotAllowed) || !strings.Contains(err.Error(), "21955855,20582480 want single sign-on first") {
		t.Errorf("error = %v, want %v that names the organizations", err, oauth.ErrNotAllowed)
	}
	c.Orgs = []string{"other"}
	if _, err := l.signIn(t, l.provider(t, c)); err != nil {
		t.Errorf("for whom the others are enough: %v, want success", err)
	}
}

func TestTheTokenDoesNotFollowALinkAway(t *testing.T) {
	elsewhere := newLookAlike(t) // fails for any request
	for name, link := range map[string]string{
		"another host":   `<` + elsewhere.url + `/user/orgs?page=2>; rel="next"`,
		"another scheme": `<https://OUR-HOST/api/v3/user/orgs?page=2>; rel="next"`,
		"no URL":         `<http://%zz>; rel="next"`,
	} {
		t.Run(name, func(t *testing.T) {
			l := newGitHub(t)
			l.on("/api/v3/user/orgs", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Link", strings.Replace(link, "OUR-HOST", strings.TrimPrefix(l.url, "http://"), 1))
				writeJSON(w, gitHubOrgs("acme"))
			})
			if _, err := l.signIn(t, l.provider(t, gitHub(l))); !errors.Is(err, oauth.ErrClaims) {
				t.Errorf("error = %v, want %v", err, oauth.ErrClaims)
			}
		})
	}
}

func TestAnEndlessListEnds(t *testing.T) {
	l := newGitHub(t)
	l.on("/api/v3/user/orgs", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", `</api/v3/user/orgs?page=2>; rel="next"`)
		writeJSON(w, gitHubOrgs("acme"))
	})
	if _, err := l.signIn(t, l.provider(t, gitHub(l))); !errors.Is(err, oauth.ErrClaims) {
		t.Errorf("error = %v, want %v", err, oauth.ErrClaims)
	}
	if got := l.count("GET /api/v3/user/orgs"); got != 50 {
		t.Errorf("%d pages were read, want 50", got)
	}
}

func TestGitHubsCodeErrors(t *testing.T) {
	l := newGitHub(t)
	l.on("/login/oauth/access_token", answer(object{"error": "bad_verification_code", "error_description": "expired"}))
	if _, err := l.signIn(t, l.provider(t, gitHub(l))); !errors.Is(err, oauth.ErrCode) {
		t.Errorf("error = %v, want %v", err, oauth.ErrCode)
	}
}

func TestGitHubRefreshesTokensOfAnApp(t *testing.T) {
	l := newGitHub(t)
	l.on("/login/oauth/access_token", answer(object{"access_token": accessToken, "expires_in": 28800, "refresh_token": "ghr_first"}))
	c := gitHub(l)
	c.Orgs = []string{"acme"}
	p := l.provider(t, c)
	was, err := l.signIn(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if want := l.clock.Now().Add(8 * time.Hour); !was.Tokens.AccessExpiry.Equal(want) {
		t.Errorf("the token ends at %v, want %v", was.Tokens.AccessExpiry, want)
	}
	l.on("/login/oauth/access_token", answer(object{"access_token": accessToken + "2", "refresh_token": "ghr_second"}))
	id, err := p.Refresh(t.Context(), *was)
	if err != nil || id.Tokens.Refresh != "ghr_second" || id.Tokens.Access != accessToken+"2" {
		t.Errorf("Refresh = %+v, %v, want the new tokens", id, err)
	}
	l.on("/api/v3/user/orgs", pages(l, gitHubOrgs("other")))
	l.on("/api/v3/user/teams", pages(l, []object{}))
	if _, err := p.Refresh(t.Context(), *was); !errors.Is(err, oauth.ErrNotAllowed) {
		t.Errorf("after leaving the org: %v, want %v", err, oauth.ErrNotAllowed)
	}
	l.on("/login/oauth/access_token", answer(object{"error": "bad_refresh_token"}))
	if _, err := p.Refresh(t.Context(), *was); !errors.Is(err, oauth.ErrRefreshRevoked) {
		t.Errorf("with a dead token: %v, want %v", err, oauth.ErrRefreshRevoked)
	}
}

func TestGitHubMayNameItselfInTheAnswer(t *testing.T) {
	l := newGitHub(t)
	p := l.provider(t, gitHub(l))
	for iss, want := range map[string]error{"": nil, l.url: nil, l.url + "/login/oauth": nil, "https://evil.example": oauth.ErrIssuerMismatch} {
		_, err := p.Exchange(t.Context(), oauth.NewLogin("s"), oauth.Callback{State: "s", Code: "c", Issuer: iss})
		if !errors.Is(err, want) {
			t.Errorf("iss %q: error = %v, want %v", iss, err, want)
		}
	}
}

func TestARefreshThatGitHubDoesNotExplainIsStale(t *testing.T) {
	l := newGitHub(t)
	l.on("/login/oauth/access_token", answer(object{"access_token": accessToken, "refresh_token": "ghr_first"}))
	c := gitHub(l)
	c.Teams = []string{"acme/ops"}
	p := l.provider(t, c)
	was, err := l.signIn(t, p)
	if err != nil {
		t.Fatal(err)
	}
	l.on("/login/oauth/access_token", answer(object{"access_token": accessToken, "refresh_token": "ghr_second"}))
	for name, tt := range map[string]struct {
		path string
		no   http.HandlerFunc
	}{
		"busy": {"/user/emails", refuse(403, "Retry-After", "60")}, "busy, by text": {"/user/orgs", tooManyAtOnce},
		"forbidden": {"/user/orgs", refuse(403)}, "not found": {"/user/teams", refuse(404)}, "not authorized": {"/user", refuse(401)},
	} {
		fine := l.answers["/api/v3"+tt.path]
		l.on("/api/v3"+tt.path, tt.no)
		id, err := p.Refresh(t.Context(), *was)
		if err != nil || !id.Stale || id.Tokens.Refresh != "ghr_second" || len(id.Groups) != len(was.Groups) {
			t.Errorf("%s: Refresh = %+v, %v, want the groups of before, stale, with the new token", name, id, err)
		}
		l.on("/api/v3"+tt.path, fine)
	}
	l.on("/api/v3/user/teams", answer([]object{}))
	if id, err := p.Refresh(t.Context(), *was); !errors.Is(err, oauth.ErrNotAllowed) {
		t.Errorf("thrown out of the team: %+v, %v, want %v", id, err, oauth.ErrNotAllowed)
	}
	l.on("/api/v3/user", answer(object{"id": 583232, "login": "alice"}))
	if id, err := p.Refresh(t.Context(), *was); !errors.Is(err, oauth.ErrIDToken) {
		t.Errorf("with another person's tokens: %+v, %v, want %v", id, err, oauth.ErrIDToken)
	}
}

// Anybody can found an organization and call it as they like.
func TestOnlyConfiguredOrganizationsGiveGroups(t *testing.T) {
	tests := []struct {
		name        string
		orgs, teams []string
		want        []string
	}{
		{"none is configured", nil, nil, []string{"Other", "acme", "acme/dev", "acme/ops", "third", "third/dev"}},
		{"one", []string{"ACME"}, nil, []string{"acme", "acme/dev", "acme/ops"}},
		{"two", []string{"acme", "other"}, nil, []string{"Other", "acme", "acme/dev", "acme/ops"}},
		{"that of a team", nil, []string{"Third/dev"}, []string{"third", "third/dev"}},
		{"one and that of a team", []string{"other"}, []string{"third/dev"}, []string{"Other", "third", "third/dev"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newGitHub(t)
			c := gitHub(l)
			c.Orgs, c.Teams = tt.orgs, tt.teams
			id, err := l.signIn(t, l.provider(t, c))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, id.Groups); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
		})
	}
}

func TestALinksTargetMayHoldCommas(t *testing.T) {
	for name, link := range map[string]string{
		"in the target":         `</api/v3/user/orgs?after=a,b;c&x=1>; rel="next"`,
		"in a target before it": `</first?a=1,2>; rel="first", </api/v3/user/orgs?after=a,b;c&x=1>; rel="next"`,
		"in a quoted parameter": `</first>; title="a, </evil>; rel=next, \"b"; rel="first", </api/v3/user/orgs?after=a,b;c&x=1>; rel="next"`,
		"after what is no link": `what, </api/v3/user/orgs?after=a,b;c&x=1>; rel="next"`,
	} {
		t.Run(name, func(t *testing.T) {
			l := newGitHub(t)
			l.on("/api/v3/user/orgs", func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery == "after=a,b;c&x=1" {
					writeJSON(w, gitHubOrgs("last"))
					return
				}
				w.Header().Set("Link", link)
				writeJSON(w, gitHubOrgs("first"))
			})
			c := gitHub(l)
			c.Orgs = []string{"last"}
			if _, err := l.signIn(t, l.provider(t, c)); err != nil {
				t.Errorf("error = %v, want a member of the org on the second page", err)
			}
		})
	}
}

func TestASlowGitHubIsGivenUpAfterThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := remoteConfig(roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				return answerWith(200, `{"access_token":"`+accessToken+`"}`)
			}
			select {
			case <-time.After(9 * time.Second): // each is quick enough by itself
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
			if r.URL.Path == "/user" {
				return answerWith(200, `{"id":1}`)
			}
			res, err := answerWith(200, `[]`)
			res.Header.Set("Link", `<https://api.github.com/more?page=2>; rel="next"`)
			return res, err
		}))
		c.Type, c.Issuer = oauth.GitHub, ""
		p, err := oauth.New(c)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = p.Exchange(t.Context(), oauth.NewLogin("state"), oauth.Callback{State: "state", Code: "a-code"})
		if got := time.Since(begin); !errors.Is(err, oauth.ErrUnavailable) || got != 30*time.Second {
			t.Errorf("gave up after %v with %v, want 30s and %v", got, err, oauth.ErrUnavailable)
		}
	})
}
