package oauth

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"
)

// GoogleGroups says where the groups of a Google Workspace user are read. The
// groups are named by their e-mail addresses.
type GoogleGroups struct {
	// API is "admin", the Admin SDK, or "cloud_identity".
	API string
	// AdminEmail is the administrator for whom the service account acts, by
	// domain-wide delegation. The Admin SDK needs one.
	AdminEmail string
	// ServiceAccount is the JSON key file of the service account; nil means that
	// of the machine, from the metadata server.
	ServiceAccount []byte
	// Nested counts the groups that a group of the user is in, too.
	Nested bool
	// TTL is how long what was read is good for; zero or less means five
	// minutes.
	TTL time.Duration
}

const (
	apiAdmin         = "admin"
	apiCloudIdentity = "cloud_identity"

	// maxKnown bounds the users and groups whose groups are remembered.
	maxKnown = 20_000
	// maxGroupPages bounds the pages of one list, maxNested the groups that are
	// looked at for one user, and groupsTimeout how long that may take.
	maxGroupPages = 50
	maxNested     = 500
	groupsTimeout = 30 * time.Second

	// maxStale is how long groups are believed while they cannot be read: a
	// revoked membership must end some time.
	maxStale = 24 * time.Hour
)

// googleGroups knows who is in which group, for a while. When Google does not
// answer, what was known last goes on.
type googleGroups struct {
	p       *Provider
	config  GoogleGroups
	account *serviceAccount // nil: the metadata server
	api     string          // its base
	// metadata asks the metadata server, which no proxy can reach.
	metadata *http.Client

	flights singleflight.Group // one question at a time for each user and group
	known   *otter.Cache[string, memberships]

	mu      sync.Mutex // held while a token is fetched
	token   string
	expires time.Time
}

// memberships are the groups that somebody is in directly or, from Cloud
// Identity, also indirectly.
type memberships struct {
	groups []string
	read   time.Time
}

// A serviceAccount is what we read of a key file.
type serviceAccount struct {
	Type     string `json:"type"`
	Email    string `json:"client_email"`
	KeyID    string `json:"private_key_id"`
	PEM      string `json:"private_key"`
	TokenURL string `json:"token_uri"`
	key      *rsa.PrivateKey
}

func newGoogleGroups(p *Provider) (*googleGroups, error) {
	g := &googleGroups{p: p, config: *p.config.Groups}
	if g.config.TTL <= 0 {
		g.config.TTL = 5 * time.Minute
	}
	switch g.config.API {
	case apiAdmin:
		g.api = "https://admin.googleapis.com"
		if g.config.AdminEmail == "" || g.config.ServiceAccount == nil {
			return nil, errors.New("groups: the Admin SDK needs an administrator's address and a service account")
		}
	case apiCloudIdentity:
		g.api = "https://cloudidentity.googleapis.com"
	default:
		return nil, fmt.Errorf("groups: there is no API %q", g.config.API)
	}
	g.api = strings.TrimSuffix(cmp.Or(p.config.Endpoints.APIURL, g.api), "/")
	if g.config.ServiceAccount != nil {
		var err error
		if g.account, err = readServiceAccount(g.config.ServiceAccount); err != nil {
			return nil, fmt.Errorf("groups: service account: %w", err)
		}
	}
	direct := p.config.Transport
	if direct == nil {
		own := newTransport()
		own.Proxy = nil
		direct = own
	}
	g.metadata = &http.Client{
		Timeout:       callTimeout,
		Transport:     &boundedTransport{next: direct, provider: p.config.ID, metrics: p.config.Metrics},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var err error
	g.known, err = otter.New(&otter.Options[string, memberships]{MaximumSize: maxKnown})
	return g, err
}

// readServiceAccount reads a key file as Google's console gives it out. Its
// errors repeat nothing of it.
func readServiceAccount(file []byte) (*serviceAccount, error) {
	var a serviceAccount
	if err := json.Unmarshal(file, &a); err != nil {
		return nil, errors.New("the file is not JSON")
	}
	if a.Type != "service_account" || a.Email == "" {
		return nil, errors.New("the file is not the key of a service account")
	}
	block, _ := pem.Decode([]byte(a.PEM))
	if block == nil {
		return nil, errors.New("its private_key is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("its private_key cannot be read")
	}
	var ok bool
	if a.key, ok = key.(*rsa.PrivateKey); !ok {
		return nil, errors.New("its private_key is not an RSA key")
	}
	a.TokenURL = cmp.Or(a.TokenURL, "https://oauth2.googleapis.com/token")
	if err := checkAddress(a.TokenURL); err != nil {
		return nil, fmt.Errorf("its token_uri %w", err)
	}
	return &a, nil
}

// of returns the groups of id, by address and sorted. It fails with
// [ErrUnavailable], or with [ErrClaims] for an address that cannot be asked for.
func (g *googleGroups) of(ctx context.Context, id *Identity) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, groupsTimeout)
	defer cancel()
	member := id.Subject // an address may change hands
	if g.config.API == apiCloudIdentity {
		member = id.Email
		if !id.EmailVerified {
			return []string{}, nil
		}
	}
	direct, err := g.groupsOf(ctx, member)
	if err != nil {
		return nil, fmt.Errorf("groups: %w", err)
	}
	all := slices.Clone(direct)
	if g.config.Nested && g.config.API == apiAdmin {
		if all, err = g.climb(ctx, all); err != nil {
			return nil, fmt.Errorf("groups: %w", err)
		}
	}
	if all == nil {
		all = []string{}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// climb adds the groups that groups are in, and so on. The answers are shared
// between users.
func (g *googleGroups) climb(ctx context.Context, groups []string) ([]string, error) {
	seen := map[string]bool{}
	for _, group := range groups {
		seen[group] = true
	}
	for i := 0; i < len(groups); i++ {
		if i >= maxNested {
			return nil, fmt.Errorf("%w: the user is in more than %d nested groups", ErrUnavailable, maxNested)
		}
		parents, err := g.groupsOf(ctx, groups[i])
		if err != nil {
			return nil, err
		}
		for _, parent := range parents {
			if !seen[parent] {
				seen[parent] = true
				groups = append(groups, parent)
			}
		}
	}
	return groups, nil
}

// groupsOf returns the groups of one user or group: what is known, unless that
// is too old, or what was known if Google does not answer.
func (g *googleGroups) groupsOf(ctx context.Context, member string) ([]string, error) {
	old, ok := g.known.GetIfPresent(member)
	if ok && g.p.config.Now().Sub(old.read) < g.config.TTL {
		return old.groups, nil
	}
	groups, err := g.ask(ctx, member)
	switch {
	case err == nil:
		return groups, nil
	case ok && g.p.config.Now().Sub(old.read) < maxStale:
		g.p.config.Log.WarnContext(ctx, "groups cannot be read; the earlier ones go on",
			"provider", g.p.config.ID, "age", g.p.config.Now().Sub(old.read).Round(time.Second).String(), "err", err)
		return old.groups, nil
	}
	return nil, err
}

// ask reads the groups of member, once for all who want them at the same time.
// They must not lose the answer because the first of them gave up.
func (g *googleGroups) ask(ctx context.Context, member string) ([]string, error) {
	flight := g.flights.DoChan(member, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupsTimeout)
		defer cancel()
		groups, err := g.read(ctx, member)
		if err == nil {
			g.known.Set(member, memberships{groups, g.p.config.Now()})
		}
		return groups, err
	})
	select {
	case answer := <-flight:
		groups, _ := answer.Val.([]string)
		return groups, answer.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// read asks for the groups of member, page by page.
func (g *googleGroups) read(ctx context.Context, member string) ([]string, error) {
	query, err := g.query(member)
	if err != nil {
		return nil, err
	}
	groups := []string{}
	for page := range maxGroupPages {
		answer, err := g.readPage(ctx, query)
		refused, ok := errors.AsType[*statusError](err)
		switch {
		case ok && refused.status == http.StatusNotFound && page == 0 && g.config.API == apiAdmin:
			return groups, nil // not in this directory
		case ok:
			return nil, fmt.Errorf("%w: %s refuses with status %d; may the service account read groups, with the scope %s?", ErrUnavailable, g.config.API, refused.status, g.scope())
		case err != nil:
			return nil, err
		}
		groups = append(groups, answer.addresses()...)
		if answer.Next == "" {
			return groups, nil
		}
		query.Set("pageToken", answer.Next)
	}
	return nil, fmt.Errorf("%w: more than %d pages of groups", ErrUnavailable, maxGroupPages)
}

// query returns what to ask for.
func (g *googleGroups) query(member string) (url.Values, error) {
	if g.config.API == apiAdmin {
		return url.Values{"userKey": {member}, "maxResults": {"200"}}, nil
	}
	// The address becomes part of an expression.
	if strings.ContainsAny(member, `'"\`) {
		return nil, fmt.Errorf("%w: the address holds a quote", ErrClaims)
	}
	return url.Values{
		"query":    {"member_key_id == '" + member + "' && 'cloudidentity.googleapis.com/groups.discussion_forum' in labels"},
		"pageSize": {"1000"},
	}, nil
}

// A groupsPage is a page of either API.
type groupsPage struct {
	Groups []struct {
		Email string `json:"email"`
	} `json:"groups"` // Admin SDK
	Memberships []struct {
		Key struct {
			ID string `json:"id"`
		} `json:"groupKey"`
	} `json:"memberships"` // Cloud Identity
	Next string `json:"nextPageToken"`
}

func (p *groupsPage) addresses() []string {
	var all []string
	for _, group := range p.Groups {
		all = append(all, group.Email)
	}
	for _, membership := range p.Memberships {
		all = append(all, membership.Key.ID)
	}
	return slices.DeleteFunc(all, func(address string) bool { return address == "" })
}

// readPage reads one page. A token that Google does not take any more, whatever
// was said of its life, is forgotten, and another one tried.
func (g *googleGroups) readPage(ctx context.Context, query url.Values) (*groupsPage, error) {
	path := "/admin/directory/v1/groups"
	if g.config.API == apiCloudIdentity {
		path = "/v1/groups/-/memberships:searchDirectGroups"
		if g.config.Nested {
			path = "/v1/groups/-/memberships:searchTransitiveGroups"
		}
	}
	for again := true; ; again = false {
		token, err := g.accessToken(ctx)
		if err != nil {
			return nil, err
		}
		var page groupsPage
		_, err = g.p.getJSON(ctx, g.api+path+"?"+query.Encode(), token, &page)
		if refused, ok := errors.AsType[*statusError](err); !ok || refused.status != http.StatusUnauthorized || !again {
			return &page, err
		}
		g.forget(token)
	}
}

// forget drops token, unless another one has taken its place.
func (g *googleGroups) forget(token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.token == token {
		g.token = ""
	}
}

func (g *googleGroups) scope() string {
	if g.config.API == apiAdmin {
		return "https://www.googleapis.com/auth/admin.directory.group.readonly"
	}
	return "https://www.googleapis.com/auth/cloud-identity.groups.readonly"
}

// accessToken returns a token for the API, a new one if the last one has less
// than a minute to live.
func (g *googleGroups) accessToken(ctx context.Context) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.p.config.Now()
	if g.token != "" && now.Add(time.Minute).Before(g.expires) {
		return g.token, nil
	}
	req, client, err := g.tokenRequest(ctx, now)
	if err != nil {
		return "", err
	}
	var answer struct {
		Access  string  `json:"access_token"`
		Expires seconds `json:"expires_in"`
	}
	_, err = callJSON(client, req, &answer)
	if refused, ok := errors.AsType[*statusError](err); ok {
		return "", fmt.Errorf("%w: no token for the service account, status %d; %s", ErrUnavailable, refused.status, g.tokenRemedy())
	}
	if err != nil {
		return "", fmt.Errorf("token of the service account: %w", err)
	}
	if answer.Access == "" {
		return "", fmt.Errorf("%w: the answer for the service account has no access_token", ErrUnavailable)
	}
	g.token, g.expires = answer.Access, now.Add(time.Duration(answer.Expires)*time.Second)
	return g.token, nil
}

// tokenRemedy says what may be missing where there is no token.
func (g *googleGroups) tokenRemedy() string {
	switch {
	case g.account == nil:
		return "does this machine or workload have a service account?"
	case g.config.AdminEmail == "":
		return "is the key of the service account still valid?"
	}
	return fmt.Sprintf("is it allowed to act for %q with the scope %s (domain-wide delegation)?", g.config.AdminEmail, g.scope())
}

// tokenRequest asks the metadata server, or Google with an assertion of the
// service account (RFC 7523, section 2.1).
func (g *googleGroups) tokenRequest(ctx context.Context, now time.Time) (*http.Request, *http.Client, error) {
	if g.account == nil {
		base := cmp.Or(g.p.config.Endpoints.MetadataURL, "http://169.254.169.254")
		address := strings.TrimSuffix(base, "/") + "/computeMetadata/v1/instance/service-accounts/default/token?" + url.Values{"scopes": {g.scope()}}.Encode()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, nil, withoutURL(err)
		}
		req.Header.Set("Metadata-Flavor", "Google")
		return req, g.metadata, nil
	}
	claims := map[string]any{
		"iss": g.account.Email, "scope": g.scope(), "aud": g.account.TokenURL,
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	if g.config.AdminEmail != "" {
		claims["sub"] = g.config.AdminEmail
	}
	assertion, err := signJWT(g.account.key, jose.RS256, g.account.KeyID, claims)
	if err != nil {
		return nil, nil, err
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.account.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, nil, withoutURL(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, g.p.client, nil
}
