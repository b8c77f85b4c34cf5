package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"authproxy/identity"
	"authproxy/oauth"
	"authproxy/session"
)

// A Refresher refreshes provider tokens for a [session.Manager].
type Refresher struct {
	Providers []*oauth.Provider
	// Authorization is what upstreams get, as in [identity.Config], and
	// Credentials what they get besides.
	Authorization string
	Credentials   []string
	// Claims says what is kept of what a provider says.
	Claims identity.ClaimMap
	Log    *slog.Logger
}

// Refresh asks the provider of s for new tokens and for who the person is now,
// in one attempt. It fails with [session.ErrRevoked], with [session.ErrBarred],
// or with an error that may pass.
func (f *Refresher) Refresh(ctx context.Context, s *session.Session) (*session.Refreshed, error) {
	for _, p := range f.Providers {
		if p.ID() != s.User.Provider {
			continue
		}
		id, err := p.Refresh(ctx, identityOf(s))
		if err != nil {
			f.Log.WarnContext(ctx, "tokens could not be refreshed", "provider", p.ID(), "user", s.User.ID, "session", s.ID, "err", err)
			return nil, refreshError(err)
		}
		return f.refreshed(ctx, s, p, id), nil
	}
	return nil, fmt.Errorf("web: provider %s is not configured", s.User.Provider)
}

// refreshed is what the provider answered. The new tokens must not be lost
// because of claims that cannot be kept: then the person stays as before, for as
// long as the session bears with that.
func (f *Refresher) refreshed(ctx context.Context, s *session.Session, p *oauth.Provider, id *oauth.Identity) *session.Refreshed {
	out := &session.Refreshed{User: userOf(p, id), Tokens: keep(id.Tokens, append(slices.Clone(f.Credentials), f.Authorization)...), Stale: id.Stale}
	claims, err := f.Claims.Map(documents(id), s.User.Claims)
	if err != nil {
		f.Log.WarnContext(ctx, "tokens were refreshed, but the person stays as before", "provider", p.ID(), "user", s.User.ID, "err", err)
		out.User, out.Stale = s.User, true
		return out
	}
	out.User.Claims, out.User.Role = claims, s.User.Role
	return out
}

// documents are what claims are mapped from. One that was not read is not among
// them.
func documents(id *oauth.Identity) identity.Documents {
	docs := identity.Documents{}
	for name, all := range map[string]map[string]any{"id_token": id.Claims.IDToken, "userinfo": id.Claims.Userinfo, "provider": id.Claims.Account} {
		if all != nil {
			docs[name] = all
		}
	}
	return docs
}

// tokensWanted are the provider's tokens that upstreams get.
func (s *Server) tokensWanted() []string {
	return append(slices.Clone(s.Credentials), s.Identity.Config.Authorization)
}

// revokeTimeout bounds the revocation of a session's tokens.
const revokeTimeout = 10 * time.Second

// Discard tells the provider that the tokens of a session are not wanted any
// more (RFC 7009), where it announces that: the refresh token, with which others
// end (section 2.1), else the access token. Nobody waits for it: the session is
// over whatever the provider says, and what fails is logged.
func (f *Refresher) Discard(was *session.Session) {
	unwanted := cmp.Or(was.Tokens.Refresh, was.Tokens.Access)
	for _, p := range f.Providers {
		if unwanted == "" || p.ID() != was.User.Provider || !p.Issues(was.User.Issuer) {
			continue
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), revokeTimeout)
			defer cancel()
			if err := p.Revoke(ctx, unwanted); err != nil {
				f.Log.Warn("a token could not be revoked at the end of its session", "provider", p.ID(), "user", was.User.ID, "err", err)
			}
		}()
	}
}

// refreshError says in the words of package session what err means for a
// session.
func refreshError(err error) error {
	switch {
	case errors.Is(err, oauth.ErrRefreshRevoked):
		return fmt.Errorf("%w: %w", session.ErrRevoked, err)
	case errors.Is(err, oauth.ErrNotAllowed):
		return fmt.Errorf("%w: %w", session.ErrBarred, err)
	}
	return err
}

// userOf returns the person whom p describes.
func userOf(p *oauth.Provider, id *oauth.Identity) session.User {
	return session.User{
		ID: session.UserID(id.Issuer, id.Subject), Issuer: id.Issuer, Subject: id.Subject, Provider: p.ID(),
		Email: id.Email, EmailVerified: id.EmailVerified, Name: id.Name, Image: id.Picture, Groups: id.Groups,
	}
}

// identityOf returns what the provider of s said last, as far as we kept it.
func identityOf(s *session.Session) oauth.Identity {
	u, t := s.User, s.Tokens
	return oauth.Identity{
		Issuer: u.Issuer, Subject: u.Subject, Email: u.Email, EmailVerified: u.EmailVerified,
		Name: u.Name, Picture: u.Image, Groups: u.Groups, AuthTime: s.AuthTime, AMR: s.AMR, ACR: s.ACR, SID: s.ProviderSID,
		Tokens: oauth.Tokens{Access: t.Access, AccessExpiry: t.AccessExpiry, ID: t.ID, IDExpiry: t.IDExpiry, Refresh: t.Refresh},
	}
}

// keep returns what a session has to hold of the provider's tokens: the refresh
// token, when it is due, and those that upstreams are to get. The others are not
// worth the room in the cookie.
func keep(t oauth.Tokens, wanted ...string) session.Tokens {
	kept := session.Tokens{Refresh: t.Refresh}
	if t.Refresh != "" {
		kept.AccessExpiry = t.AccessExpiry
	}
	if slices.Contains(wanted, identity.AuthorizationAccessToken) {
		kept.Access, kept.AccessExpiry = t.Access, t.AccessExpiry
	}
	if slices.Contains(wanted, identity.AuthorizationIDToken) {
		kept.ID, kept.IDExpiry = t.ID, t.IDExpiry
	}
	return kept
}
