// Package memstore keeps sessions in the memory of one process: for a single
// machine whose sessions may end with it, and for tests.
//
// A [Store] does what every [session.Store] promises, and passes the same suite.
// [Store.Another] is a second store of the same sessions, as another process
// would have it.
package memstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"authproxy/session"
)

// maxEvents bounds the audit events that are kept; the oldest go first.
const maxEvents = 10_000

// A Store is a [session.Store]. It is safe for concurrent use.
type Store struct {
	*data
	now    func() time.Time // for how far Watch has come
	ctx    context.Context  // ends with Close
	cancel context.CancelFunc
}

// data is what all stores of the same sessions share.
type data struct {
	mu       sync.Mutex
	rows     map[string]*session.Row // by id; their User is as at sign-in
	byToken  map[session.Hash]string // id
	users    map[string]*user        // by id
	events   []session.Event
	watchers map[*watcher]struct{}
}

// user is a person, as all their sessions have it.
type user struct {
	session.Account
	epoch int
}

// New returns an empty Store with the clock now; nil means [time.Now].
func New(now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	s := &Store{now: now, data: &data{
		rows: map[string]*session.Row{}, byToken: map[session.Hash]string{},
		users: map[string]*user{}, watchers: map[*watcher]struct{}{},
	}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Another returns a Store of the same sessions that is closed by itself.
func (s *Store) Another() *Store {
	other := &Store{data: s.data, now: s.now}
	other.ctx, other.cancel = context.WithCancel(context.Background())
	return other
}

// Close makes every other method fail, and ends those of Watch.
func (s *Store) Close() error {
	s.cancel()
	return nil
}

// Ping fails if s is closed.
func (s *Store) Ping(ctx context.Context) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	unlock()
	return nil
}

// lock takes the right to the data.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("memstore: %w: %w", session.ErrUnavailable, err)
	}
	if s.ctx.Err() != nil {
		return nil, fmt.Errorf("memstore: %w: closed", session.ErrUnavailable)
	}
	s.mu.Lock()
	return s.mu.Unlock, nil
}

// Create does what [session.Store] says.
func (s *Store) Create(ctx context.Context, row *session.Row, replaces []string) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, there := s.rows[row.ID]; there {
		return errors.New("memstore: the session is there already")
	}
	if _, there := s.byToken[row.Token]; there {
		return errors.New("memstore: the token is there already")
	}
	var told session.Change
	u, known := s.users[row.User.ID]
	if !known {
		u = &user{Account: session.Account{CreatedAt: row.CreatedAt}}
		u.User.Role = "user"
		s.users[row.User.ID] = u
	}
	u.LastSignInAt = row.CreatedAt
	u.describe(&row.User)
	if known {
		told.Users = []string{row.User.ID}
	}
	for _, id := range replaces {
		if s.remove(id) {
			told.Sessions = append(told.Sessions, id)
		}
	}
	row.Epoch, row.UserEpoch, row.User.Role = u.epoch, u.epoch, u.User.Role
	kept := row.Clone()
	s.rows[row.ID], s.byToken[row.Token] = kept, row.ID
	s.tell(told)
	return nil
}

// describe takes over what the provider says of a person now.
func (u *user) describe(now *session.User) {
	role := u.User.Role
	u.User = (&session.Row{Session: &session.Session{User: *now}}).Clone().User
	u.User.Role = role
}

// remove deletes a session and says whether it was there.
func (s *Store) remove(id string) bool {
	row, there := s.rows[id]
	if there {
		delete(s.rows, id)
		delete(s.byToken, row.Token)
	}
	return there
}

// whole returns a copy of row with its person as they are now.
func (s *Store) whole(row *session.Row) *session.Row {
	c := row.Clone()
	u := s.users[c.User.ID]
	provider := c.User.Provider
	c.User = u.User
	c.User.Provider = provider
	c.UserEpoch, c.Banned, c.BanExpires = u.epoch, u.Banned, u.BanExpires
	return c.Clone()
}

// Find returns the session of a token.
func (s *Store) Find(ctx context.Context, token session.Hash) (*session.Row, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.find(s.byToken[token])
}

// FindID returns the session with an id.
func (s *Store) FindID(ctx context.Context, id string) (*session.Row, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.find(id)
}

func (s *Store) find(id string) (*session.Row, error) {
	row, there := s.rows[id]
	if !there {
		return nil, session.ErrNone
	}
	return s.whole(row), nil
}

// Touch notes activity. Nobody is told.
func (s *Store) Touch(ctx context.Context, id string, t session.Touch) (session.Clocks, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return session.Clocks{}, err
	}
	defer unlock()
	row, there := s.rows[id]
	if !there {
		return session.Clocks{}, session.ErrNone
	}
	if end := row.End(); t.Now.Before(end) {
		slideTo := t.SlideTo
		if hard := row.AbsoluteExpiresAt; !hard.IsZero() && hard.Before(slideTo) {
			slideTo = hard
		}
		switch slides := !row.ExpiresAt.After(t.SlideIfBy) && slideTo.After(row.ExpiresAt); {
		case slides:
			row.ExpiresAt, row.UpdatedAt, row.LastSeenAt = slideTo, t.Now, t.Now
		case !row.LastSeenAt.After(t.SeenBefore):
			row.LastSeenAt = t.Now
		}
	}
	return session.Clocks{LastSeenAt: row.LastSeenAt, ExpiresAt: row.ExpiresAt, UpdatedAt: row.UpdatedAt}, nil
}

// SetData replaces the application's data.
func (s *Store) SetData(ctx context.Context, id string, data json.RawMessage, now time.Time) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	row, there := s.rows[id]
	if !there {
		return session.ErrNone
	}
	row.Data, row.UpdatedAt = slices.Clone(data), now
	s.tell(session.Change{Sessions: []string{id}})
	return nil
}

// List returns sessions that have not run out, the one seen last first.
func (s *Store) List(ctx context.Context, which session.Selection, now time.Time, limit int) ([]*session.Row, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var found []*session.Row
	for _, row := range s.rows {
		if selects(which, row) && now.Before(row.End()) {
			found = append(found, s.whole(row))
		}
	}
	slices.SortFunc(found, func(a, b *session.Row) int {
		return cmp.Or(b.LastSeenAt.Compare(a.LastSeenAt), cmp.Compare(a.ID, b.ID))
	})
	if limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	return found, nil
}

// Delete ends sessions and returns their ids.
func (s *Store) Delete(ctx context.Context, which session.Selection) ([]string, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var ids []string
	for id, row := range s.rows {
		if selects(which, row) {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		s.remove(id)
	}
	s.tell(session.Change{Sessions: ids})
	return ids, nil
}

// selects says whether which names row.
func selects(which session.Selection, row *session.Row) bool {
	if which == (session.Selection{ExceptID: which.ExceptID, CreatedBefore: which.CreatedBefore}) || row.ID == which.ExceptID ||
		!which.CreatedBefore.IsZero() && !row.CreatedAt.Before(which.CreatedBefore) {
		return false
	}
	for _, pair := range [][2]string{
		{which.ID, row.ID}, {which.UserID, row.User.ID}, {which.Provider, row.User.Provider},
		{which.ProviderSID, row.ProviderSID}, {which.Subject, row.User.Subject},
	} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	return true
}

// LockRefresh takes the right to refresh.
func (s *Store) LockRefresh(ctx context.Context, id string, version int, now, until time.Time) (bool, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	row, there := s.rows[id]
	if !there || row.Credential.Version != version || now.Before(row.Credential.RefreshLockUntil) {
		return false, nil
	}
	row.Credential.RefreshLockUntil = until
	return true, nil
}

// SaveRefresh replaces the credential.
func (s *Store) SaveRefresh(ctx context.Context, id string, version int, c *session.Credential, now *session.User, at time.Time) (bool, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	row, there := s.rows[id]
	if !there || row.Credential.Version != version {
		return false, nil
	}
	row.Credential = *c
	row.Credential.Version, row.Credential.RefreshLockUntil = version+1, time.Time{}
	row.UpdatedAt = at
	told := session.Change{Sessions: []string{id}}
	if now != nil {
		s.users[row.User.ID].describe(now)
		told.Users = []string{row.User.ID}
	}
	s.tell(told)
	return true, nil
}

// UnlockRefresh gives the right to refresh back.
func (s *Store) UnlockRefresh(ctx context.Context, id string, version int) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if row, there := s.rows[id]; there && row.Credential.Version == version {
		row.Credential.RefreshLockUntil = time.Time{}
	}
	return nil
}

// Reseal replaces sealed texts.
func (s *Store) Reseal(ctx context.Context, reseal func(string) (string, error)) (int, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return 0, err
	}
	ids := slices.Collect(maps.Keys(s.rows))
	unlock()
	replaced := 0
	for _, id := range ids {
		n, err := s.resealOne(ctx, id, reseal)
		if replaced += n; err != nil {
			return replaced, err
		}
	}
	return replaced, nil
}

// resealOne replaces the sealed texts of one session, if it still has them.
func (s *Store) resealOne(ctx context.Context, id string, reseal func(string) (string, error)) (int, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	row, there := s.rows[id]
	if !there {
		return 0, nil
	}
	replaced := 0
	for _, sealed := range []*string{&row.Credential.Access, &row.Credential.Refresh, &row.Credential.ID} {
		if *sealed == "" {
			continue
		}
		text, err := reseal(*sealed)
		if err != nil {
			return replaced, err
		}
		if text != *sealed {
			*sealed = text
			replaced++
		}
	}
	return replaced, nil
}

// Users returns people by id or address.
func (s *Store) Users(ctx context.Context, id, email string) ([]session.Account, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var found []session.Account
	for userID, u := range s.users {
		if id == userID || id == "" && email != "" && strings.EqualFold(u.User.Email, email) {
			a := u.Account
			a.User = (&session.Row{Session: &session.Session{User: a.User}}).Clone().User
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(a, b session.Account) int { return cmp.Compare(a.User.ID, b.User.ID) })
	return found, nil
}

// Ban refuses a person.
func (s *Store) Ban(ctx context.Context, userID, reason string, until time.Time) error {
	return s.Edit(ctx, userID, func(a *session.Account, _ *int) {
		a.Banned, a.BanReason, a.BanExpires = true, reason, until
	})
}

// Unban ends a ban.
func (s *Store) Unban(ctx context.Context, userID string) error {
	return s.Edit(ctx, userID, func(a *session.Account, _ *int) {
		a.Banned, a.BanReason, a.BanExpires = false, "", time.Time{}
	})
}

// Edit changes a person and their epoch as an operator does it in a database.
func (s *Store) Edit(ctx context.Context, userID string, edit func(a *session.Account, epoch *int)) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	u, there := s.users[userID]
	if !there {
		return session.ErrNone
	}
	edit(&u.Account, &u.epoch)
	s.tell(session.Change{Users: []string{userID}})
	return nil
}

// EditSession changes a session as an operator does it in a database.
func (s *Store) EditSession(ctx context.Context, id string, edit func(*session.Row)) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	row, there := s.rows[id]
	if !there {
		return session.ErrNone
	}
	delete(s.byToken, row.Token)
	edit(row)
	s.byToken[row.Token] = id
	s.tell(session.Change{Sessions: []string{id}})
	return nil
}

// Record writes audit events.
func (s *Store) Record(ctx context.Context, events []session.Event) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, e := range events {
		e.Detail = maps.Clone(e.Detail)
		s.events = append(s.events, e)
	}
	if extra := len(s.events) - maxEvents; extra > 0 {
		s.events = slices.Delete(s.events, 0, extra)
	}
	return nil
}

// Events returns the audit events, the oldest first.
func (s *Store) Events() []session.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Sweep deletes what is over.
func (s *Store) Sweep(ctx context.Context, now, keepAudit time.Time, limit int) (int, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	var ids []string
	for id, row := range s.rows {
		if len(ids) < limit && !now.Before(row.End()) {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		s.remove(id)
	}
	s.tell(session.Change{Sessions: ids})
	old := 0
	s.events = slices.DeleteFunc(s.events, func(e session.Event) bool {
		if old == limit || !e.At.Before(keepAudit) {
			return false
		}
		old++
		return true
	})
	return len(ids) + old, nil
}
