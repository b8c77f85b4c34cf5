package session

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// By says who ends sessions or bans people, and why, for the audit.
type By struct {
	// ActorID is the user's id of who does it; "" for an operator.
	ActorID       string
	IP, UserAgent string
	// Cause is a word or a sentence: "user", "admin", "backchannel", …
	Cause string
}

// event returns what is recorded of an act.
func (b By) event(kind, userID, sessionID string) Event {
	e := Event{Type: kind, UserID: userID, SessionID: sessionID, ActorID: b.ActorID, IP: b.IP, UserAgent: b.UserAgent}
	if b.Cause != "" {
		e.Detail = map[string]string{"cause": b.Cause}
	}
	return e
}

// List returns the live sessions that which selects, the one seen last first; at
// most limit, 0 for all. They are as the store has them, without the provider's
// tokens, and only to be looked at. It fails with [ErrNoStore], or with an error
// that wraps [ErrUnavailable].
func (m *Manager) List(ctx context.Context, which Selection, limit int) ([]*Session, error) {
	if m.stored == nil {
		return nil, ErrNoStore
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeFor(which))
	defer cancel()
	now := m.Now().UTC()
	var rows []*Row
	if err := m.stored.patiently(ctx, "list", func(ctx context.Context) (err error) {
		rows, err = m.Store.List(ctx, which, now, limit)
		return err
	}); err != nil {
		return nil, err
	}
	var live []*Session
	for _, row := range rows {
		idle := m.IdleTimeout > 0 && !now.Before(row.LastSeenAt.Add(m.IdleTimeout))
		if row.void(now) == "" && !idle {
			live = append(live, row.Session)
		}
	}
	return live, nil
}

// Revoke ends the sessions that which selects, here before it returns, and on
// every other replica as soon as the store has told it; and returns how many. It
// fails with [ErrNoStore], or with an error that wraps [ErrUnavailable]: then
// they may or may not have ended, and it can be called again.
func (m *Manager) Revoke(ctx context.Context, which Selection, by By) (int, error) {
	t := m.stored
	if t == nil {
		return 0, ErrNoStore
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeFor(which))
	defer cancel()
	owners := t.owners(ctx, which)
	ids, err := t.remove(ctx, which, slices.Collect(maps.Keys(owners))...)
	if err != nil {
		return 0, err
	}
	t.metrics.ended.WithLabelValues("revoked_by_hand").Add(float64(len(ids)))
	if len(ids) > maxNamed {
		e := by.event("session_revoked", which.UserID, "")
		e.Detail = map[string]string{"cause": by.Cause, "sessions": strconv.Itoa(len(ids))}
		t.note(e)
		return len(ids), nil
	}
	for _, id := range ids {
		owner := cmp.Or(which.UserID, owners[id])
		if h := t.held(id); owner == "" && h != nil && h.userID != "" {
			owner = h.current.Load().User.ID
		}
		t.note(by.event("session_revoked", owner, id))
	}
	return len(ids), nil
}

// owners returns whose sessions which selects, by the session's id, for the
// audit: when they have ended nobody knows any more. What the store does not tell
// is left out, and so is what is too much to be named.
func (t *stored) owners(ctx context.Context, which Selection) map[string]string {
	if which.UserID != "" && which.ID == "" || which.All {
		return nil
	}
	var rows []*Row
	_ = t.patiently(ctx, "list", func(ctx context.Context) (err error) {
		rows, err = t.Store.List(ctx, which, t.Now().UTC(), maxNamed+1)
		return err
	})
	owners := map[string]string{}
	for _, row := range rows {
		owners[row.ID] = row.User.ID
	}
	return owners
}

const (
	// maxNamed bounds the sessions that are recorded one by one when they are
	// revoked together.
	maxNamed = 100
	// bulkTimeout is what the store gets for what may concern all sessions.
	bulkTimeout = time.Minute
)

// timeFor is how long the store may take for the sessions that which selects.
func (c *Config) timeFor(which Selection) time.Duration {
	if which.ID+which.UserID+which.ProviderSID+which.Subject == "" {
		return max(bulkTimeout, c.StoreTimeout)
	}
	return c.StoreTimeout
}

// Accounts returns the people with this id or, where that is "", with this
// address. It fails as [Manager.List] does.
func (m *Manager) Accounts(ctx context.Context, id, email string) ([]Account, error) {
	if m.stored == nil {
		return nil, ErrNoStore
	}
	ctx, cancel := context.WithTimeout(ctx, m.StoreTimeout)
	defer cancel()
	var accounts []Account
	err := m.stored.patiently(ctx, "users", func(ctx context.Context) (err error) {
		accounts, err = m.Store.Users(ctx, id, email)
		return err
	})
	return accounts, err
}

// Ban refuses a person until the time given (zero: for good), and ends their
// sessions. It fails with [ErrNone] for somebody unknown, and as [Manager.Revoke]
// does.
func (m *Manager) Ban(ctx context.Context, userID, reason string, until time.Time, by By) error {
	err := m.change(ctx, "ban", userID, func(ctx context.Context) error { return m.Store.Ban(ctx, userID, reason, until.UTC()) })
	if err != nil {
		return err
	}
	e := by.event("user_banned", userID, "")
	e.Detail = map[string]string{"cause": by.Cause, "reason": reason}
	if !until.IsZero() {
		e.Detail["until"] = until.UTC().Format(time.RFC3339)
	}
	m.stored.note(e)
	if _, err := m.Revoke(ctx, Selection{UserID: userID}, By{ActorID: by.ActorID, IP: by.IP, UserAgent: by.UserAgent, Cause: "banned"}); err != nil {
		return fmt.Errorf("session: the ban holds, but the sessions are still there: %w", err)
	}
	return nil
}

// Unban ends a ban. It fails as [Manager.Ban] does.
func (m *Manager) Unban(ctx context.Context, userID string, by By) error {
	err := m.change(ctx, "unban", userID, func(ctx context.Context) error { return m.Store.Unban(ctx, userID) })
	if err == nil {
		m.stored.note(by.event("user_unbanned", userID, ""))
	}
	return err
}

// change makes a change of a person and forgets what is held of them.
func (m *Manager) change(ctx context.Context, op, userID string, f func(context.Context) error) error {
	if m.stored == nil {
		return ErrNoStore
	}
	ctx, cancel := context.WithTimeout(ctx, m.StoreTimeout)
	defer cancel()
	err := m.stored.patiently(ctx, op, f)
	m.stored.forget(Change{Users: []string{userID}})
	return err
}

// Reseal seals the provider's tokens in the store with the first key of the ring
// and returns how many were not. [Manager.Run] does it when it begins.
func (m *Manager) Reseal(ctx context.Context) (int, error) {
	if m.stored == nil {
		return 0, ErrNoStore
	}
	return m.Store.Reseal(ctx, m.stored.reseal)
}
