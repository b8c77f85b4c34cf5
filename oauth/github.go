package oauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// gitHub is github.com or a GitHub Enterprise Server. It has no ID tokens: who
// signed in is what its API says to the access token that came for the code.
type gitHub struct {
	p   *Provider
	api string // base of the API
}

const (
	// maxGitHubPages bounds a list of 100 entries a page.
	maxGitHubPages = 50
	// maxParents bounds the teams that are looked up because a team is in them.
	maxParents = 100
	// gitHubTimeout bounds all that is asked about one person.
	gitHubTimeout = 30 * time.Second
)

func (p *Provider) setGitHub() error {
	c := &p.config
	c.BaseURL = cmp.Or(c.BaseURL, "https://github.com")
	u, err := url.Parse(c.BaseURL)
	if err != nil || u.Host == "" {
		return errors.New("the base URL is not a URL")
	}
	c.Issuer = c.BaseURL
	if c.Scopes == nil {
		c.Scopes = []string{"read:user", "user:email", "read:org"}
	}
	api := c.BaseURL + "/api/v3"
	if u.Host == "github.com" || strings.HasSuffix(u.Host, ".ghe.com") {
		api = u.Scheme + "://api." + u.Host
	}
	for _, team := range c.Teams {
		if org, slug, ok := strings.Cut(team, "/"); !ok || org == "" || slug == "" {
			return errors.New("a team is not written org/slug")
		}
	}
	p.kind = &gitHub{p: p, api: strings.TrimSuffix(cmp.Or(c.Endpoints.APIURL, api), "/")}
	return nil
}

func (h *gitHub) describe(context.Context) (*endpoint, error) {
	base := h.p.config.BaseURL
	e := &endpoint{metadata: metadata{
		AuthorizeURL: base + "/login/oauth/authorize", TokenURL: base + "/login/oauth/access_token",
		TokenAuth: []string{"client_secret_post"},
	}}
	return e, h.p.settle(e)
}

func (h *gitHub) ask(q url.Values, _ Login, ask Prompts) {
	if ask.LoginHint != "" {
		q.Set("login", ask.LoginHint)
	}
	if ask.Prompt != "" { // the only one there is
		q.Set("prompt", "select_account")
	}
}

// issues takes the base URL, and what GitHub calls itself as an OAuth server.
func (h *gitHub) issues(iss string) bool {
	return iss == h.p.config.BaseURL || iss == h.p.config.BaseURL+"/login/oauth"
}

func (h *gitHub) identify(ctx context.Context, _ *endpoint, g *grant, want expected) (*Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, gitHubTimeout)
	defer cancel()
	id, err := h.account(ctx, g.access)
	if err != nil {
		return nil, err
	}
	if err := want.same(id.Issuer, id.Subject); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	if id.Email, err = h.email(ctx, g.access); err != nil {
		return nil, err
	}
	id.EmailVerified = id.Email != ""
	var hidden string
	if id.Groups, hidden, err = h.groups(ctx, g.access); err != nil {
		return nil, err
	}
	return id, h.checkMember(id.Groups, hidden)
}

// account returns whose account the token is for.
func (h *gitHub) account(ctx context.Context, token string) (*Identity, error) {
	var raw json.RawMessage
	if _, err := h.get(ctx, h.api+"/user", token, &raw); err != nil {
		return nil, err
	}
	var user struct {
		ID      int64  `json:"id"`
		Login   string `json:"login"`
		Name    string `json:"name"`
		Picture string `json:"avatar_url"`
	}
	if err := json.Unmarshal(raw, &user); err != nil || user.ID <= 0 {
		return nil, fmt.Errorf("%w: the account has no id", ErrClaims)
	}
	all, err := parseDocument(raw)
	if err != nil {
		return nil, err
	}
	// The login name can be changed, and then taken by somebody else; the number
	// stays.
	return &Identity{
		Issuer: h.p.config.Issuer, Subject: strconv.FormatInt(user.ID, 10),
		Name: cmp.Or(user.Name, user.Login), Picture: user.Picture, Claims: Claims{Account: all},
	}, nil
}

// email returns the primary address if it is verified, else "".
func (h *gitHub) email(ctx context.Context, token string) (string, error) {
	type address struct {
		Email    string `json:"email"`
		Primary  bool   `json:"primary"`
		Verified bool   `json:"verified"`
	}
	all, _, err := gitHubList[address](ctx, h, "/user/emails", token)
	if err != nil {
		return "", err
	}
	for _, a := range all {
		if a.Primary && a.Verified {
			return a.Email, nil
		}
	}
	return "", nil
}

// A gitHubTeam is a team with the team that it is in.
type gitHubTeam struct {
	Slug   string      `json:"slug"`
	Parent *gitHubTeam `json:"parent"`
	Org    struct {
		Login string `json:"login"`
	} `json:"organization"`
}

// counts reports whether groups of org are told. Where organizations or teams
// are configured, others are not: anybody can found an organization and name it
// like a group that somebody else's rule is about.
func (h *gitHub) counts(org string) bool {
	c := h.p.config
	if len(c.Orgs) == 0 && len(c.Teams) == 0 {
		return true
	}
	return containsFold(c.Orgs, org) || slices.ContainsFunc(c.Teams, func(team string) bool {
		of, _, _ := strings.Cut(team, "/")
		return strings.EqualFold(of, org)
	})
}

// groups returns the person's organizations and teams that count, and which
// organizations GitHub has left out because they want single sign-on first.
func (h *gitHub) groups(ctx context.Context, token string) (groups []string, hidden string, err error) {
	type org struct {
		Login string `json:"login"`
	}
	orgs, hiddenOrgs, err := gitHubList[org](ctx, h, "/user/orgs", token)
	if err != nil {
		return nil, "", err
	}
	teams, hiddenTeams, err := gitHubList[gitHubTeam](ctx, h, "/user/teams", token)
	if err != nil {
		return nil, "", err
	}
	groups = []string{}
	for _, o := range orgs {
		if h.counts(o.Login) {
			groups = append(groups, o.Login)
		}
	}
	teams = slices.DeleteFunc(teams, func(t gitHubTeam) bool { return !h.counts(t.Org.Login) })
	more, err := h.teams(ctx, token, teams)
	if err != nil {
		return nil, "", err
	}
	groups = append(groups, more...)
	slices.Sort(groups)
	return slices.Compact(groups), cmp.Or(hiddenOrgs, hiddenTeams), nil
}

// teams returns the names of teams and of all teams above them. GitHub tells
// the next team above only, so those above that are looked up.
func (h *gitHub) teams(ctx context.Context, token string, teams []gitHubTeam) ([]string, error) {
	var names []string
	seen := map[string]bool{}
	add := func(org, slug string) bool {
		name := org + "/" + slug
		if org == "" || slug == "" || seen[name] {
			return false
		}
		seen[name] = true
		names = append(names, name)
		return true
	}
	for _, t := range teams {
		add(t.Org.Login, t.Slug)
	}
	lookups := 0
	for _, t := range teams {
		for parent := t.Parent; parent != nil && add(t.Org.Login, parent.Slug); lookups++ {
			if lookups >= maxParents {
				return nil, fmt.Errorf("%w: more than %d teams above those of the account", ErrClaims, maxParents)
			}
			var err error
			if parent, err = h.parentOf(ctx, token, t.Org.Login, parent.Slug); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

// parentOf returns the team that a team is in, nil if there is none or it
// cannot be seen. Any other refusal may pass, such as that of too many requests:
// nobody leaves a team by it.
func (h *gitHub) parentOf(ctx context.Context, token, org, slug string) (*gitHubTeam, error) {
	var team gitHubTeam
	_, err := h.p.getJSON(ctx, h.api+"/orgs/"+url.PathEscape(org)+"/teams/"+url.PathEscape(slug), token, &team)
	if refused, ok := errors.AsType[*statusError](err); ok && refused.status == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, gitHubError("a team", err)
	}
	return team.Parent, nil
}

// checkMember refuses whoever is in none of the organizations and teams that
// may sign in.
func (h *gitHub) checkMember(groups []string, hidden string) error {
	c := h.p.config
	allowed := slices.Concat(c.Orgs, c.Teams)
	if len(allowed) == 0 || slices.ContainsFunc(groups, func(g string) bool { return containsFold(allowed, g) }) {
		return nil
	}
	if hidden != "" {
		return fmt.Errorf("%w: it is in none of the orgs and teams that GitHub shows; the organizations with the ids %s want single sign-on first: "+
			"sign in to the organization at GitHub, and authorize the application for it", ErrNotAllowed, hidden)
	}
	return fmt.Errorf("%w: it is in none of the orgs and teams that are configured; has the organization approved the application?", ErrNotAllowed)
}

// gitHubList reads all pages of a list, and which organizations are missing
// from it.
func gitHubList[T any](ctx context.Context, h *gitHub, path, token string) (all []T, hidden string, err error) {
	address := h.api + path + "?per_page=100"
	for range maxGitHubPages {
		var page []T
		header, err := h.get(ctx, address, token, &page)
		if err != nil {
			return nil, "", err
		}
		all = append(all, page...)
		hidden = cmp.Or(hidden, hiddenOrgs(header.Get("X-GitHub-SSO")))
		if address, err = nextPage(address, header); err != nil || address == "" {
			return all, hidden, err
		}
	}
	return nil, "", fmt.Errorf("%w: %s has more than %d pages", ErrClaims, path, maxGitHubPages)
}

func (h *gitHub) get(ctx context.Context, address, token string, value any) (http.Header, error) {
	header, err := h.p.getJSON(ctx, address, token, value)
	if err != nil {
		path, _, _ := strings.Cut(strings.TrimPrefix(address, h.api), "?")
		return nil, gitHubError(path, err)
	}
	return header, nil
}

// gitHubError explains a refusal of the API.
func gitHubError(what string, err error) error {
	refused, ok := errors.AsType[*statusError](err)
	if !ok {
		return fmt.Errorf("GitHub's API, %s: %w", what, err)
	}
	if where := ssoPage(refused.header.Get("X-GitHub-SSO")); where != "" {
		return fmt.Errorf("%w: GitHub's API, %s: the organization wants single sign-on first: sign in at %s, and authorize the application there", ErrNotAllowed, what, where)
	}
	return fmt.Errorf("%w: GitHub's API, %s: status %d; does the application ask for the scopes user:email and read:org?", ErrClaims, what, refused.status)
}

// ssoPage returns the page that "required; url=…" names. Its query is left out:
// whoever has it can authorize the token.
func ssoPage(header string) string {
	kind, rest, _ := strings.Cut(header, ";")
	address, ok := strings.CutPrefix(strings.TrimSpace(rest), "url=")
	u, err := url.Parse(address)
	if strings.TrimSpace(kind) != "required" || !ok || err != nil || u.Host == "" {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// hiddenOrgs returns the numbers in "partial-results; organizations=1,2".
func hiddenOrgs(header string) string {
	kind, rest, _ := strings.Cut(header, ";")
	ids, ok := strings.CutPrefix(strings.TrimSpace(rest), "organizations=")
	if strings.TrimSpace(kind) != "partial-results" || !ok || strings.Trim(ids, "0123456789,") != "" {
		return ""
	}
	return ids
}
