package oauth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// userinfoOnly is an OAuth 2.0 provider that has no ID tokens. Who signed in is
// what its userinfo endpoint says to the access token that came for the code,
// wherever in its JSON that is.
type userinfoOnly struct {
	p *Provider
}

// ClaimPaths say where in the JSON of a userinfo endpoint the claims are, as
// dotted paths such as "data.user.id". Where a path meets a list, it goes on in
// each of its entries. An empty path means that there is no such claim, and for
// ID that it is "id".
type ClaimPaths struct {
	// ID is a text or a whole number that never changes and is never given to
	// somebody else.
	ID string
	// Email counts only where EmailVerified leads to true, and where one of them
	// leads through a list, in the same entry.
	Email, EmailVerified string
	Name, Picture        string
	// Groups is a text or a list of texts.
	Groups string
}

func (u *userinfoOnly) describe(context.Context) (*endpoint, error) {
	e := &endpoint{}
	if err := u.p.settle(e); err != nil {
		return nil, err
	}
	if m := e.metadata; m.AuthorizeURL == "" || m.TokenURL == "" || m.UserinfoURL == "" {
		return nil, errors.New("the authorize, token and userinfo URLs are required")
	}
	return e, nil
}

func (u *userinfoOnly) ask(q url.Values, _ Login, ask Prompts) {
	if ask.LoginHint != "" {
		q.Set("login_hint", ask.LoginHint)
	}
	if ask.Prompt != "" {
		q.Set("prompt", ask.Prompt)
	}
}

func (u *userinfoOnly) issues(iss string) bool { return iss == u.p.config.Issuer }

func (u *userinfoOnly) identify(ctx context.Context, e *endpoint, g *grant, _ expected) (*Identity, error) {
	var raw json.RawMessage
	_, err := u.p.getJSON(ctx, e.metadata.UserinfoURL, g.access, &raw)
	if refused, ok := errors.AsType[*statusError](err); ok {
		return nil, fmt.Errorf("%w: userinfo: %w", ErrClaims, refused)
	}
	if err != nil {
		return nil, fmt.Errorf("userinfo: %w", err)
	}
	return u.read(raw)
}

// read finds the claims in the userinfo JSON.
func (u *userinfoOnly) read(raw []byte) (*Identity, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber() // a float64 would make two ids of 17 digits one
	var info any
	if err := decoder.Decode(&info); err != nil {
		return nil, fmt.Errorf("%w: userinfo: the answer cannot be read", ErrClaims)
	}
	paths := u.p.config.Claims
	all, _ := info.(map[string]any) // of a list there is no claim to map
	id := &Identity{Issuer: u.p.config.Issuer, Groups: []string{}, Claims: Claims{Userinfo: all}}
	var err error
	if id.Subject, err = subject(at(info, cmp.Or(paths.ID, "id"))); err != nil {
		return nil, err
	}
	for field, path := range map[*string]string{&id.Name: paths.Name, &id.Picture: paths.Picture} {
		if values := at(info, path); len(values) == 1 {
			*field, _ = values[0].(string)
		}
	}
	id.Email, id.EmailVerified = address(info, paths)
	for _, value := range at(info, paths.Groups) {
		group, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("%w: userinfo: %q leads to something else than texts", ErrClaims, paths.Groups)
		}
		id.Groups = append(id.Groups, group)
	}
	return id, nil
}

// address returns the one address, and whether it is verified. In a list of
// addresses the word that one of them is verified says nothing of the others.
func address(info any, paths ClaimPaths) (email string, isVerified bool) {
	emails := find(info, paths.Email, place{})
	if len(emails) != 1 {
		return "", false
	}
	email, _ = emails[0].value.(string)
	verified := find(info, paths.EmailVerified, place{})
	if email == "" || len(verified) != 1 || verified[0].entry != emails[0].entry {
		return email, false
	}
	return email, verified[0].value == true || verified[0].value == "true"
}

// subject returns the one text or whole number of values. Other numbers are
// refused, because they can be written in several ways.
func subject(values []any) (string, error) {
	if len(values) == 1 {
		switch v := values[0].(type) {
		case string:
			if v != "" && len(v) <= maxSubject {
				return v, nil
			}
		case json.Number:
			if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil && n != 0 {
				return v.String(), nil
			}
		}
	}
	return "", fmt.Errorf("%w: userinfo: the id is missing, or neither a text nor a whole number", ErrClaims)
}

// at returns what path leads to in value, without nulls; nothing for an empty
// path. A name that holds dots comes before a path.
func at(value any, path string) []any {
	var all []any
	for _, f := range find(value, path, place{}) {
		all = append(all, f.value)
	}
	return all
}

// A place is where a search is: the names and numbers of entries on the way
// there, and that way up to the last entry of a list.
type place struct{ way, entry string }

func (p place) named(name string) place {
	return place{p.way + "." + strconv.Quote(name), p.entry}
}

func (p place) numbered(i int) place {
	way := p.way + "[" + strconv.Itoa(i) + "]"
	return place{way, way}
}

// A found value comes with the entry of a list that it is in, "" for none.
type found struct {
	value any
	entry string
}

func find(value any, path string, here place) []found {
	switch v := value.(type) {
	case []any:
		var all []found
		for i, entry := range v {
			all = append(all, find(entry, path, here.numbered(i))...)
		}
		return all
	case map[string]any:
		if path == "" {
			return nil
		}
		if below, ok := v[path]; ok {
			return leaves(below, here.named(path))
		}
		head, rest, nested := strings.Cut(path, ".")
		if !nested {
			return nil
		}
		return find(v[head], rest, here.named(head))
	}
	return nil
}

// leaves returns the entries of a list, and anything else as one.
func leaves(value any, here place) []found {
	list, ok := value.([]any)
	switch {
	case value == nil:
		return nil
	case !ok:
		return []found{{value, here.entry}}
	}
	var all []found
	for i, entry := range list {
		all = append(all, leaves(entry, here.numbered(i))...)
	}
	return all
}
