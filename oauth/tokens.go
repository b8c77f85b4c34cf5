package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ErrRefreshRevoked: the provider does not take the refresh token any more. The
// person has to sign in again, unless another request has used it up.
var ErrRefreshRevoked = errors.New("oauth: the refresh token is not accepted any more")

// A grant is the answer of a token endpoint (RFC 6749, section 5.1).
type grant struct {
	access, id, refresh string
	expiry              time.Time // of the access token; zero if not told
}

// A grantError is a refusal of a token endpoint. It holds the error code only:
// the body may echo what was sent.
type grantError struct {
	status int
	code   string
}

func (e *grantError) Error() string { return fmt.Sprintf("status %d, %q", e.status, e.code) }

// redeem trades the code for tokens, once: a code must not be tried again.
func (p *Provider) redeem(ctx context.Context, e *endpoint, code, verifier string) (*grant, error) {
	if code == "" {
		return nil, fmt.Errorf("%w: there is none", ErrCode)
	}
	g, err := p.requestTokens(ctx, p.client, e, url.Values{
		"grant_type": {"authorization_code"}, "code": {code},
		"redirect_uri": {p.config.RedirectURL}, "code_verifier": {verifier},
	})
	if refused, ok := errors.AsType[*grantError](err); ok {
		return nil, fmt.Errorf("%w: %w", ErrCode, refused)
	}
	return g, err
}

// Refresh asks for new tokens for was, whom Exchange or Refresh returned, with
// was.Tokens.Refresh. Of was it needs Issuer, Subject and Tokens; what it does
// not learn anew, such as a name, it takes over. An ID token that comes along
// must be about the same person (OpenID Connect Core 1.0, section 12.2).
//
// If there are new tokens, and the person cannot be read again for whatever
// reason, it returns was with them and Stale set: the old refresh token may be
// used up, and the new one must not be lost.
//
// It is one attempt, because the provider may take a refresh token only once:
// the caller sees to it that there is one at a time. It may take a minute and
// more. [ErrRefreshRevoked] is the only failure that says that the tokens are
// dead. With [ErrNotAllowed] the person may not sign in any more. [ErrUnavailable]
// may pass.
func (p *Provider) Refresh(ctx context.Context, was Identity) (*Identity, error) {
	if was.Tokens.Refresh == "" {
		return nil, fmt.Errorf("%w: there is none", ErrRefreshRevoked)
	}
	e, err := p.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	ctx = p.withClient(ctx)
	g, err := p.renew(ctx, e, was.Tokens.Refresh)
	if err != nil {
		return nil, err
	}
	id, err := p.reread(ctx, e, g, &was)
	switch {
	case errors.Is(err, ErrNotAllowed), errors.Is(err, errAnotherPerson):
		return nil, err
	case err != nil:
		p.config.Log.WarnContext(ctx, "tokens were refreshed, but the claims are the earlier ones", "provider", p.config.ID, "err", err)
		id, g.id = &was, "" // the ID token may not be what it should
		id.Stale = true
	}
	id.Tokens = was.Tokens.renewed(g, id.Tokens)
	return id, nil
}

// reread returns who was is now, as g tells.
func (p *Provider) reread(ctx context.Context, e *endpoint, g *grant, was *Identity) (*Identity, error) {
	want := expected{was: was}
	id, err := p.kind.identify(ctx, e, g, want)
	if err != nil {
		return nil, err
	}
	if err := want.same(id.Issuer, id.Subject); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	id.takeOver(was)
	return id, id.check()
}

// renew trades the refresh token for tokens.
func (p *Provider) renew(ctx context.Context, e *endpoint, refresh string) (*grant, error) {
	g, err := p.requestTokens(ctx, p.patient, e, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})
	refused, ok := errors.AsType[*grantError](err)
	switch {
	case !ok:
		return g, err
	// GitHub has a code of its own.
	case refused.code == "invalid_grant", p.config.Type == GitHub && refused.code == "bad_refresh_token":
		return nil, fmt.Errorf("%w: %w", ErrRefreshRevoked, refused)
	}
	// Such as invalid_client: somebody has to mend the configuration, and nobody
	// has to sign in again.
	return nil, fmt.Errorf("%w: refresh: %w", ErrUnavailable, refused)
}

// takeOver fills in what id does not know and was does. Groups and the address
// are not among it: many providers leave out what is empty, and whoever was
// thrown out of the last group, or lost the address, must not keep it.
func (id *Identity) takeOver(was *Identity) {
	for mine, theirs := range map[*string]string{&id.Name: was.Name, &id.Picture: was.Picture, &id.SID: was.SID, &id.ACR: was.ACR} {
		if *mine == "" {
			*mine = theirs
		}
	}
	if id.AMR == nil {
		id.AMR = was.AMR
	}
	if id.AuthTime.IsZero() {
		id.AuthTime = was.AuthTime
	}
}

// renewed returns the tokens after g. A provider that sends no new refresh or
// ID token means that the old one stays (RFC 6749, section 6).
func (t Tokens) renewed(g *grant, proven Tokens) Tokens {
	t.Access, t.AccessExpiry = g.access, g.expiry
	if g.refresh != "" {
		t.Refresh = g.refresh
	}
	if g.id != "" {
		t.ID, t.IDExpiry = g.id, proven.IDExpiry
	}
	return t
}

// requestTokens asks the token endpoint. It fails with [ErrUnavailable] or a
// [*grantError].
func (p *Provider) requestTokens(ctx context.Context, client *http.Client, e *endpoint, form url.Values) (*grant, error) {
	status, body, err := p.post(ctx, client, e, e.metadata.TokenURL, form)
	if err != nil {
		return nil, fmt.Errorf("%w: token endpoint: %w", ErrUnavailable, err)
	}
	var answer struct {
		Access  string  `json:"access_token"`
		ID      string  `json:"id_token"`
		Refresh string  `json:"refresh_token"`
		Expires seconds `json:"expires_in"`
		Error   string  `json:"error"`
	}
	unread := json.Unmarshal(body, &answer)
	switch {
	case status == http.StatusTooManyRequests || status >= http.StatusInternalServerError:
		return nil, fmt.Errorf("%w: token endpoint: status %d", ErrUnavailable, status)
	// GitHub says no with status 200.
	case status >= http.StatusBadRequest, unread == nil && answer.Error != "":
		return nil, &grantError{status, errorCode(answer.Error)}
	case unread != nil:
		return nil, fmt.Errorf("%w: token endpoint: the answer is not the JSON of RFC 6749", ErrUnavailable)
	case answer.Access == "":
		return nil, fmt.Errorf("%w: token endpoint: the answer has no access_token", ErrUnavailable)
	}
	g := &grant{access: answer.Access, id: answer.ID, refresh: answer.Refresh}
	if answer.Expires > 0 {
		g.expiry = p.config.Now().Add(time.Duration(answer.Expires) * time.Second)
	}
	return g, nil
}

// Revoke tells the provider that a token, usually the refresh token, is not
// needed any more (RFC 7009). It does nothing where the provider announces no
// endpoint for that. It fails with [ErrUnavailable], or because the provider
// refuses; the person is signed out here all the same.
func (p *Provider) Revoke(ctx context.Context, token string) error {
	e, err := p.endpoint(ctx)
	if err != nil {
		return err
	}
	if e.metadata.RevocationURL == "" || token == "" {
		return nil
	}
	status, body, err := p.post(ctx, p.client, e, e.metadata.RevocationURL, url.Values{"token": {token}})
	switch {
	case err != nil:
		return fmt.Errorf("%w: revocation endpoint: %w", ErrUnavailable, err)
	case status == http.StatusTooManyRequests || status >= http.StatusInternalServerError:
		return fmt.Errorf("%w: revocation endpoint: status %d", ErrUnavailable, status)
	case status >= http.StatusMultipleChoices:
		return fmt.Errorf("oauth: revocation endpoint: %w", refusal(status, body))
	}
	return nil
}

// push sends the authorization request q to the provider and returns what the
// browser carries instead (RFC 9126): nothing that anybody could change. A
// provider that refuses the request itself says so here already, by a
// [*RefusedError], where it would otherwise tell the browser.
func (p *Provider) push(ctx context.Context, e *endpoint, q url.Values) (url.Values, error) {
	status, body, err := p.post(ctx, p.client, e, e.metadata.PushURL, q)
	if err != nil {
		return nil, fmt.Errorf("%w: pushed authorization request: %w", ErrUnavailable, err)
	}
	var answer struct {
		URI string `json:"request_uri"`
	}
	if status == http.StatusBadRequest {
		if code := refusal(status, body).code; code != "" {
			return nil, &RefusedError{Code: code}
		}
	}
	if status >= http.StatusMultipleChoices || json.Unmarshal(body, &answer) != nil || answer.URI == "" {
		return nil, fmt.Errorf("%w: pushed authorization request: %w", ErrUnavailable, refusal(status, body))
	}
	return url.Values{"client_id": {p.config.ClientID}, "request_uri": {answer.URI}}, nil
}

// refusal is what an answer says of an error, without the text.
func refusal(status int, body []byte) *grantError {
	var answer struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &answer) // often it is a page for people
	return &grantError{status, errorCode(answer.Error)}
}

// post sends form as the client, by the HTTP client given, and returns the answer whatever its status. Its
// errors hold no URL and nothing that was sent.
func (p *Provider) post(ctx context.Context, client *http.Client, e *endpoint, address string, form url.Values) (int, []byte, error) {
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	if err := p.authenticate(e, form, header); err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil, withoutURL(err)
	}
	req.Header = header
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, withoutURL(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// A SignOut is what the provider is told when somebody signs out (OpenID
// Connect RP-Initiated Logout 1.0, section 2). Empty fields are left out.
type SignOut struct {
	// IDTokenHint is the ID token, LogoutHint the address or name of the person.
	IDTokenHint, LogoutHint string
	// RedirectURL is where the browser is to come back to, with State. It must be
	// registered at the provider.
	RedirectURL, State string
}

// EndSessionURL returns where to send the browser to sign out at the provider
// too. It reports false where the provider has no such page, and while its
// metadata is not known yet.
func (p *Provider) EndSessionURL(out SignOut) (string, bool) {
	e := p.current.Load()
	if e == nil || e.metadata.EndSessionURL == "" || p.config.SignOut == "local" {
		return "", false
	}
	q := url.Values{"client_id": {p.config.ClientID}}
	for name, value := range map[string]string{
		"id_token_hint": out.IDTokenHint, "logout_hint": out.LogoutHint,
		"post_logout_redirect_uri": out.RedirectURL, "state": out.State,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	address, err := withQuery(e.metadata.EndSessionURL, q)
	return address, err == nil
}

// withQuery adds q to the query that address may have.
func withQuery(address string, q url.Values) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", errors.New("oauth: an endpoint is not a URL")
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += q.Encode()
	return u.String(), nil
}

// seconds is a number of seconds that some providers send as text. What is
// neither counts as not told, "NaN" included, and what is too long as a year.
type seconds int64

// UnmarshalJSON takes 3600 and "3600".
func (s *seconds) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	if err != nil || math.IsNaN(n) || n <= 0 {
		*s = 0
		return nil
	}
	*s = seconds(min(n, 365*24*3600))
	return nil
}
