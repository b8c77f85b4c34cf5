package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"authproxy/session"
)

// At most maxListed sessions are listed at once, and defaultListed unless it is
// said how many.
const maxListed, defaultListed = 1000, 100

// A target names sessions, as operators do: by person or one by one.
type target struct {
	user, email, id string
	all             bool
}

// errTarget is for a target that is not exactly one thing: what would be ended by
// a slip cannot be brought back.
var errTarget = errors.New("name one: a user's id, an e-mail address, a session's id, or all")

func (t target) check() error {
	named := 0
	for _, is := range []bool{t.user != "", t.email != "", t.id != "", t.all} {
		if is {
			named++
		}
	}
	if named != 1 {
		return errTarget
	}
	return nil
}

// selections returns what t names. An address may be that of several people:
// the same one from two providers is two.
func (t target) selections(ctx context.Context, m *session.Manager) ([]session.Selection, error) {
	if t.email == "" {
		return []session.Selection{{ID: t.id, UserID: t.user, All: t.all}}, nil
	}
	people, err := m.Accounts(ctx, "", t.email)
	var which []session.Selection
	for _, p := range people {
		which = append(which, session.Selection{UserID: p.User.ID})
	}
	return which, err
}

// people returns whom t names. It fails with [session.ErrNone] if that is nobody.
func (t target) people(ctx context.Context, m *session.Manager) ([]session.Account, error) {
	found, err := m.Accounts(ctx, t.user, t.email)
	if err == nil && len(found) == 0 {
		err = session.ErrNone
	}
	return found, err
}

// list returns the live sessions that t names, at most limit for each person, and
// whether there are more.
func (t target) list(ctx context.Context, m *session.Manager, limit int) (all []*session.Session, more bool, err error) {
	which, err := t.selections(ctx, m)
	if err != nil {
		return nil, false, err
	}
	for _, w := range which {
		some, err := m.List(ctx, w, limit+1)
		if err != nil {
			return nil, false, err
		}
		all = append(all, some...)
	}
	if len(all) > limit {
		return all[:limit], true, nil
	}
	return all, false, nil
}

// revoke ends the sessions that t names and returns how many.
func (t target) revoke(ctx context.Context, m *session.Manager, by session.By) (int, error) {
	which, err := t.selections(ctx, m)
	if err != nil {
		return 0, err
	}
	total := 0
	for _, w := range which {
		n, err := m.Revoke(ctx, w, by)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// banned says whether a ban of p holds at now.
func banned(p *session.Account, now time.Time) bool {
	return p.Banned && (p.BanExpires.IsZero() || now.Before(p.BanExpires))
}

// parseUntil reads the end of a ban: a time, or how long from now on; "" means
// for good.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	until, err := time.Parse(time.RFC3339, text)
	if d, notADuration := time.ParseDuration(text); notADuration == nil {
		until, err = now.Add(d), nil
	}
	if err != nil {
		return time.Time{}, errors.New("is neither a time like 2030-01-31T12:00:00Z nor a duration like 72h")
	}
	if !until.After(now) {
		return time.Time{}, errors.New("lies in the past")
	}
	return until, nil
}

// A sessionView is a session as operators see it, and an accountView a person.
// Times are RFC 3339, in UTC.
type (
	sessionView struct {
		ID         string    `json:"id"`
		UserID     string    `json:"userId"`
		Email      string    `json:"email"`
		Name       string    `json:"name"`
		Provider   string    `json:"provider"`
		CreatedAt  time.Time `json:"createdAt"`
		LastSeenAt time.Time `json:"lastSeenAt"`
		ExpiresAt  time.Time `json:"expiresAt"`
		IPAddress  string    `json:"ipAddress"`
		UserAgent  string    `json:"userAgent"`
		Device     string    `json:"device"`
	}
	accountView struct {
		ID           string     `json:"id"`
		Email        string     `json:"email"`
		Name         string     `json:"name"`
		Provider     string     `json:"provider"`
		Banned       bool       `json:"banned"`
		BanReason    string     `json:"banReason,omitempty"`
		BanExpires   *time.Time `json:"banExpires,omitempty"`
		CreatedAt    time.Time  `json:"createdAt"`
		LastSignInAt time.Time  `json:"lastSignInAt"`
	}
)

func viewSessions(all []*session.Session) []sessionView {
	views := []sessionView{}
	for _, s := range all {
		views = append(views, sessionView{
			ID: s.ID, UserID: s.User.ID, Email: s.User.Email, Name: s.User.Name, Provider: s.User.Provider,
			CreatedAt: whole(s.CreatedAt), LastSeenAt: whole(s.LastSeenAt), ExpiresAt: whole(s.End()),
			IPAddress: s.IP, UserAgent: s.UserAgent, Device: session.Device(s.UserAgent),
		})
	}
	return views
}

func viewAccounts(people []session.Account, now time.Time) []accountView {
	views := []accountView{}
	for _, p := range people {
		v := accountView{
			ID: p.User.ID, Email: p.User.Email, Name: p.User.Name, Provider: p.User.Provider, Banned: banned(&p, now),
			CreatedAt: whole(p.CreatedAt), LastSignInAt: whole(p.LastSignInAt),
		}
		if v.Banned {
			v.BanReason = p.BanReason
		}
		if until := whole(p.BanExpires); v.Banned && !p.BanExpires.IsZero() {
			v.BanExpires = &until
		}
		views = append(views, v)
	}
	return views
}

// whole returns t in UTC and whole seconds.
func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// errNeedsStore explains [session.ErrNoStore] to who operates.
var errNeedsStore = fmt.Errorf("session.store: is cookie, so that sessions are known to their browsers alone; "+
	"set it to sqlite:…, postgres://… or redis://… (raising session.version signs everybody out even so)\n(%w)", session.ErrNoStore)
