package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"authproxy/session"
)

// Users returns people, as [session.Store] says.
func (s *Store) Users(ctx context.Context, id, email string) ([]session.Account, error) {
	c, done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	ids := []string{id}
	if id == "" && email == "" {
		ids = nil
	} else if id == "" {
		if ids, err = c.members(c.keys.email(email)); err != nil {
			return nil, err
		}
	}
	commands := make([]rueidis.Completed, len(ids))
	for i, id := range ids {
		commands[i] = c.B().Hgetall().Key(c.keys.user(id)).Build()
	}
	answers, err := c.queries(commands)
	if err != nil {
		return nil, err
	}
	var found []session.Account
	for i := range ids {
		h, err := answers[i].AsStrMap()
		if err != nil {
			return nil, c.failed(err)
		}
		// The address may have been theirs only before.
		if len(h) == 0 || id == "" && !strings.EqualFold(h["email"], email) {
			continue
		}
		account, err := ref{user: ids[i]}.account(h)
		if err != nil {
			return nil, err
		}
		found = append(found, account)
	}
	slices.SortFunc(found, func(a, b session.Account) int { return cmp.Compare(a.User.ID, b.User.ID) })
	return found, nil
}

// Ban refuses a person, as [session.Store] says.
func (s *Store) Ban(ctx context.Context, userID, reason string, until time.Time) error {
	return s.changePerson(ctx, userID, "banned", "1", "banReason", reason, "banExpires", millis(until))
}

// Unban ends a ban, as [session.Store] says.
func (s *Store) Unban(ctx context.Context, userID string) error {
	return s.changePerson(ctx, userID, "banned", "0", "banReason", "", "banExpires", "")
}

func (s *Store) changePerson(ctx context.Context, userID string, fields ...string) error {
	c, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	answer, err := c.run(c.scripts.person, []string{c.keys.user(userID)}, fields...)
	if err != nil {
		return err
	}
	if err := c.expectOne(answer); err != nil {
		return err
	}
	c.waitReplicas([]ref{{user: userID}})
	return nil
}

// waitTime is how long replicas have to confirm what was revoked.
const waitTime = time.Second

// waitReplicas waits until Options.WaitReplicas have what was written for the
// people in refs. What it waits for is done anyway, so that it only warns.
func (c *call) waitReplicas(refs []ref) {
	if c.options.WaitReplicas == 0 {
		return
	}
	users := map[string]bool{}
	for _, r := range refs {
		// Outside of a Cluster one server has it all; in one, 64 people are on
		// most servers.
		if len(users) == 0 || c.cluster() && len(users) < 64 {
			users[r.user] = true
		}
	}
	for user := range users {
		if err := c.waitFor(user); err != nil {
			c.options.Log.Warn("too few replicas have a revocation; a failover now could undo it",
				"wanted", c.options.WaitReplicas, "err", c.redacted(err))
			return
		}
	}
}

// waitFor writes on the server of a person's keys, and waits until replicas have
// that: they have then all that was written before (WAIT counts for its own
// connection only).
func (c *call) waitFor(user string) error {
	ctx, cancel := context.WithTimeout(c.ctx, c.options.Timeout+waitTime)
	defer cancel()
	return c.Dedicated(func(on rueidis.DedicatedClient) error {
		mark := on.B().Set().Key(c.keys.wait(user)).Value("1").Px(waitTime).Build()
		if err := on.Do(ctx, mark).Error(); err != nil {
			return err
		}
		n, err := on.Do(ctx, on.B().Wait().Numreplicas(int64(c.options.WaitReplicas)).Timeout(waitTime.Milliseconds()).Build()).AsInt64()
		if err == nil && n < int64(c.options.WaitReplicas) {
			return fmt.Errorf("%d of %d replicas confirmed", n, c.options.WaitReplicas)
		}
		return err
	})
}
