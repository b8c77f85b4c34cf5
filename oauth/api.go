package oauth

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// A statusError is an answer of an API that is neither a success nor a passing
// failure.
type statusError struct {
	status int
	header http.Header
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d", e.status) }

// getJSON reads what is at address into value, with token as the bearer.
func (p *Provider) getJSON(ctx context.Context, address, token string, value any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, withoutURL(err))
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return callJSON(p.client, req, value)
}

// callJSON makes a request of an API and decodes its answer. It fails with
// [ErrUnavailable], also for a rate limit, or with a [*statusError].
func callJSON(client *http.Client, req *http.Request, value any) (http.Header, error) {
	req.Header.Set("Accept", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, withoutURL(err))
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode >= http.StatusInternalServerError, rateLimited(res):
		return nil, fmt.Errorf("%w: status %d", ErrUnavailable, res.StatusCode)
	case res.StatusCode != http.StatusOK:
		return nil, &statusError{res.StatusCode, res.Header}
	}
	if err := json.NewDecoder(res.Body).Decode(value); err != nil {
		return nil, fmt.Errorf("%w: the answer cannot be read", ErrUnavailable)
	}
	return res.Header, nil
}

// rateLimited reports whether a request came too early. GitHub says so with 403,
// too.
func rateLimited(res *http.Response) bool {
	if res.StatusCode == http.StatusTooManyRequests {
		return true
	}
	return res.StatusCode == http.StatusForbidden &&
		(res.Header.Get("X-RateLimit-Remaining") == "0" || res.Header.Get("Retry-After") != "")
}

// nextPage returns the target of the Link header with rel="next" (RFC 8288), ""
// if there is none. A target at another origin is an error: the access token
// would go along.
func nextPage(current string, header http.Header) (string, error) {
	for rest := strings.Join(header.Values("Link"), ","); rest != ""; {
		var target, params string
		target, params, rest = cutLink(rest)
		if !hasRelNext(params) {
			continue
		}
		here, err := url.Parse(current)
		if err != nil {
			return "", fmt.Errorf("%w: a page's address is not a URL", ErrClaims)
		}
		next, err := here.Parse(target)
		if err != nil || next.Scheme != here.Scheme || next.Host != here.Host {
			return "", fmt.Errorf("%w: the next page is at another host", ErrClaims)
		}
		return next.String(), nil
	}
	return "", nil
}

// cutLink takes the first link off a Link header. The target comes first, since
// it may hold commas and semicolons itself. What is no link has no parameters.
func cutLink(header string) (target, params, rest string) {
	after, isLink := strings.CutPrefix(strings.TrimLeft(header, " \t,"), "<")
	target, after, closed := strings.Cut(after, ">")
	if !isLink || !closed {
		_, rest = cutUnquoted(header, ',')
		return "", "", rest
	}
	params, rest = cutUnquoted(after, ',')
	return target, params, rest
}

// cutUnquoted cuts s around the first sep that is not in a quoted string (RFC
// 9110, section 5.6.4).
func cutUnquoted(s string, sep byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case quoted && s[i] == '\\':
			i++ // the next one is meant literally
		case !quoted && s[i] == sep:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func hasRelNext(params string) bool {
	for params != "" {
		var param string
		param, params = cutUnquoted(params, ';')
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if strings.EqualFold(name, "rel") && strings.EqualFold(strings.Trim(value, `"`), "next") {
			return true
		}
	}
	return false
}
