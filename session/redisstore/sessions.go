package redisstore

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"authproxy/session"
)

// Find returns the session of a token, as [session.Store] says.
func (s *Store) Find(ctx context.Context, token session.Hash) (*session.Row, error) {
	c, done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	answer, err := c.query(c.B().Get().Key(c.keys.token(token.String())).Build())
	if err != nil {
		return nil, err
	}
	text, err := answer.ToString()
	r, ok := parseRef(text)
	if err != nil || !ok {
		return nil, session.ErrNone
	}
	row, err := c.find(r)
	if err != nil {
		return nil, err
	}
	// The key that led here is not the session: that must name the token itself.
	if row.Token != token {
		return nil, session.ErrNone
	}
	return row, nil
}

// FindID returns the session with an id, as [session.Store] says.
func (s *Store) FindID(ctx context.Context, id string) (*session.Row, error) {
	c, done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := c.owner(id)
	if err != nil {
		return nil, err
	}
	return c.find(r)
}

// owner returns whose session id is, or [session.ErrNone].
func (c *call) owner(id string) (ref, error) {
	refs, err := c.refsOf([]string{id})
	if err == nil && len(refs) == 0 {
		err = session.ErrNone
	}
	if err != nil {
		return ref{}, err
	}
	return refs[0], nil
}

// find returns a session, or [session.ErrNone].
func (c *call) find(r ref) (*session.Row, error) {
	rows, err := c.findAll([]ref{r})
	if err == nil && len(rows) == 0 {
		err = session.ErrNone
	}
	if err != nil {
		return nil, err
	}
	return rows[0], nil
}

// findAll returns the sessions of refs that are there.
func (c *call) findAll(refs []ref) ([]*session.Row, error) {
	all := make([]arguments, len(refs))
	for i, r := range refs {
		all[i].keys = []string{c.keys.session(r), c.keys.clocks(r), c.keys.user(r.user)}
	}
	answers, err := c.runAll(c.scripts.find, all)
	if err != nil {
		return nil, err
	}
	var rows []*session.Row
	for i, r := range refs {
		parts, err := answers[i].ToArray()
		if rueidis.IsRedisNil(err) {
			continue
		}
		if err != nil {
			return nil, c.failed(err)
		}
		var hashes [3]hash
		for j := range hashes {
			if hashes[j], err = parts[j].AsStrMap(); err != nil {
				return nil, c.failed(err)
			}
		}
		row, err := r.row(hashes[0], hashes[1], hashes[2])
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Touch moves the clocks of a session, as [session.Store] says.
func (s *Store) Touch(ctx context.Context, id string, t session.Touch) (session.Clocks, error) {
	c, done, err := s.begin(ctx)
	if err != nil {
		return session.Clocks{}, err
	}
	defer done()
	r, err := c.owner(id)
	if err != nil {
		return session.Clocks{}, err
	}
	answer, err := c.run(c.scripts.touch, []string{c.keys.session(r), c.keys.clocks(r)},
		millis(t.Now), millis(t.SeenBefore), millis(t.SlideIfBy), millis(t.SlideTo), strconv.FormatInt(grace.Milliseconds(), 10))
	if err != nil {
		return session.Clocks{}, err
	}
	clocks, err := answer.AsStrSlice()
	if rueidis.IsRedisNil(err) {
		return session.Clocks{}, session.ErrNone
	}
	if err != nil {
		return session.Clocks{}, c.failed(err)
	}
	return session.Clocks{LastSeenAt: fromMillis(clocks[0]), ExpiresAt: atLeastOld(clocks[1]), UpdatedAt: fromMillis(clocks[2])}, nil
}

// SetData replaces the application's data, as [session.Store] says.
func (s *Store) SetData(ctx context.Context, id string, data json.RawMessage, now time.Time) error {
	c, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	r, err := c.owner(id)
	if err != nil {
		return err
	}
	answer, err := c.run(c.scripts.data, []string{c.keys.session(r), c.keys.clocks(r)}, string(data), millis(now))
	if err != nil {
		return err
	}
	return c.expectOne(answer)
}

// expectOne returns [session.ErrNone] for the answer 0.
func (c *call) expectOne(answer rueidis.RedisResult) error {
	switch n, err := answer.AsInt64(); {
	case err != nil:
		return c.failed(err)
	case n == 0:
		return session.ErrNone
	}
	return nil
}

// List returns sessions that have not run out, as [session.Store] says. It looks
// at all keys where which names neither a session, a person nor a session at a
// provider.
func (s *Store) List(ctx context.Context, which session.Selection, now time.Time, limit int) ([]*session.Row, error) {
	c, done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	refs, err := c.selected(which)
	if err != nil {
		return nil, err
	}
	var rows []*session.Row
	for batch := range slices.Chunk(refs, maxBatch) {
		found, err := c.findAll(batch)
		if err != nil {
			return nil, err
		}
		rows = newest(append(rows, found...), now, limit) // of all there are, no more are in memory
	}
	return rows, nil
}

// newest returns those of rows that have not run out at now, the one seen last
// first; at most limit, 0 for all.
func newest(rows []*session.Row, now time.Time, limit int) []*session.Row {
	rows = slices.DeleteFunc(rows, func(row *session.Row) bool { return !now.Before(row.End()) })
	slices.SortFunc(rows, func(a, b *session.Row) int {
		return cmp.Or(b.LastSeenAt.Compare(a.LastSeenAt), cmp.Compare(a.ID, b.ID))
	})
	if limit > 0 && len(rows) > limit {
		clear(rows[limit:])
		rows = rows[:limit]
	}
	return rows
}

// Delete ends sessions, as [session.Store] says. If it fails, it returns the ids
// of those that it ended before.
func (s *Store) Delete(ctx context.Context, which session.Selection) ([]string, error) {
	c, done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	refs, err := c.selected(which)
	if err != nil {
		return nil, err
	}
	var ids []string
	for batch := range slices.Chunk(refs, maxBatch) {
		ended, err := c.end(batch)
		for _, r := range ended {
			ids = append(ids, r.id)
		}
		if err != nil {
			return ids, err
		}
	}
	c.waitReplicas(refs)
	return ids, nil
}

// selected returns the sessions that which names.
func (c *call) selected(which session.Selection) ([]ref, error) {
	if which == (session.Selection{ExceptID: which.ExceptID, CreatedBefore: which.CreatedBefore}) {
		return nil, nil
	}
	refs, err := c.candidates(which)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(refs, func(a, b ref) int { return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.id, b.id)) })
	refs = slices.DeleteFunc(slices.Compact(refs), func(r ref) bool {
		return r.id == which.ExceptID || which.ID != "" && r.id != which.ID || which.UserID != "" && r.user != which.UserID
	})
	if which.Provider == "" && which.ProviderSID == "" && which.Subject == "" && which.CreatedBefore.IsZero() {
		return refs, nil
	}
	return c.begunAs(refs, which)
}

// candidates returns a superset of the sessions that which names, by the
// shortest way.
func (c *call) candidates(which session.Selection) (refs []ref, err error) {
	switch {
	case which.ID != "":
		return c.refsOf([]string{which.ID})
	case which.UserID != "":
		return c.ofUsers([]string{which.UserID})
	case which.Provider != "" && which.ProviderSID != "":
		members, err := c.members(c.keys.sid(which.Provider, which.ProviderSID))
		for _, m := range members {
			if r, ok := parseRef(m); ok {
				refs = append(refs, r)
			}
		}
		return refs, err
	case which.Provider != "" && which.Subject != "":
		users, err := c.members(c.keys.subject(which.Provider, which.Subject))
		if err != nil {
			return nil, err
		}
		return c.ofUsers(users)
	}
	err = c.scan(func(batch []ref) error {
		refs = append(refs, batch...)
		return nil
	})
	return refs, err
}

// members returns those of a set.
func (c *call) members(key string) ([]string, error) {
	answer, err := c.query(c.B().Smembers().Key(key).Build())
	if err != nil {
		return nil, err
	}
	list, err := answer.AsStrSlice()
	if err != nil {
		return nil, c.failed(err)
	}
	return list, nil
}

// ofUsers returns the sessions of people.
func (c *call) ofUsers(users []string) (refs []ref, err error) {
	for _, user := range users {
		ids, err := c.members(c.keys.sessions(user))
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			refs = append(refs, ref{user, id})
		}
	}
	return refs, nil
}

// begunAs returns those of refs that are what which says of the provider and of
// their beginning.
func (c *call) begunAs(refs []ref, which session.Selection) ([]ref, error) {
	want := [3]string{which.Provider, which.ProviderSID, which.Subject}
	commands := make([]rueidis.Completed, len(refs))
	for i, r := range refs {
		commands[i] = c.B().Hmget().Key(c.keys.session(r)).Field("providerId", "idpSid", "accountId", "createdAt").Build()
	}
	answers, err := c.queries(commands)
	if err != nil {
		return nil, err
	}
	var named []ref
	for i, r := range refs {
		got, err := answers[i].AsStrSlice()
		if err != nil {
			return nil, c.failed(err)
		}
		differ := !which.CreatedBefore.IsZero() && !fromMillis(got[3]).Before(which.CreatedBefore)
		for j, value := range want {
			differ = differ || value != "" && value != got[j]
		}
		if !differ {
			named = append(named, r)
		}
	}
	return named, nil
}

// end deletes sessions and returns those that were there.
func (c *call) end(refs []ref) ([]ref, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	all := make([]arguments, len(refs))
	for i, r := range refs {
		all[i] = arguments{[]string{c.keys.session(r), c.keys.clocks(r), c.keys.sessions(r.user)}, []string{r.id}}
	}
	answers, err := c.runAll(c.scripts.delete, all)
	var ended []ref
	for i := range answers {
		if n, err := answers[i].AsInt64(); err == nil && n > 0 {
			ended = append(ended, refs[i])
		}
	}
	if err == nil {
		c.forget(refs)
	}
	return ended, err
}

// forget deletes what leads to sessions that are gone, if it can: it leads
// nowhere, and Sweep comes by.
func (c *call) forget(refs []ref) {
	if len(refs) == 0 {
		return
	}
	if err := c.tryForget(refs); err != nil {
		c.options.Log.Debug("keys that lead nowhere stay until they are swept", "err", err)
	}
}

func (c *call) tryForget(refs []ref) error {
	gets := make([]rueidis.Completed, len(refs))
	for i, r := range refs {
		gets[i] = c.B().Get().Key(c.keys.id(r.id)).Build()
	}
	answers, err := c.queries(gets)
	if err != nil {
		return err
	}
	var commands []rueidis.Completed
	for i, r := range refs {
		if n, ok := parseNames(answers[i]); ok {
			commands = append(commands,
				c.B().Del().Key(c.keys.token(n.Token)).Build(),
				c.B().Srem().Key(c.keys.sid(n.Provider, n.SID)).Member(r.String()).Build(),
				c.B().Del().Key(c.keys.id(r.id)).Build())
		}
		commands = append(commands, c.B().Zrem().Key(c.keys.endsOf(r.id)).Member(r.String()).Build())
	}
	_, err = c.queries(commands)
	return err
}
