package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"authproxy/session"
)

// Record writes audit events, as [session.Store] says.
func (s *Store) Record(ctx context.Context, events []session.Event) error {
	c, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	commands := make([]rueidis.Completed, len(events))
	for i, e := range events {
		detail, err := json.Marshal(e.Detail)
		if err != nil {
			return fmt.Errorf("redisstore: %w", err)
		}
		commands[i] = c.B().Xadd().Key(c.keys.audit()).Maxlen().Almost().Threshold(strconv.FormatInt(c.options.AuditLength, 10)).Id("*").
			FieldValue().FieldValue("at", millis(e.At)).FieldValue("type", e.Type).
			FieldValue("userId", e.UserID).FieldValue("sessionId", e.SessionID).FieldValue("actorId", e.ActorID).
			FieldValue("ipAddress", e.IP).FieldValue("userAgent", e.UserAgent).FieldValue("detail", string(detail)).Build()
	}
	_, err = c.queries(commands)
	return err
}

// Sweep deletes what is over, as [session.Store] says. Redis does most of it by
// itself; this is sooner, and tidies up after what Redis or an administrator
// deleted.
func (s *Store) Sweep(ctx context.Context, now, keepAudit time.Time, limit int) (int, error) {
	c, done, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	deleted := 0
	first := rand.IntN(sweepParts) // replicas sweep at the same time
	for i := range sweepParts {
		n, err := c.sweepPart(c.keys.ends((first+i)%sweepParts), now, limit-deleted)
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
	events, err := c.sweepAudit(keepAudit, limit)
	return deleted + events, err
}

// sweepPart deletes at most limit sessions of one part. The times there are
// those of sign-in: a session that slid since gets another, so that each round
// leaves fewer to look at.
func (c *call) sweepPart(key string, now time.Time, limit int) (deleted int, err error) {
	for deleted < limit {
		batch := min(limit-deleted, maxBatch)
		answer, err := c.query(c.B().Zrangebyscore().Key(key).Min("-inf").Max(millis(now)).Limit(0, int64(batch)).Build())
		if err != nil {
			return deleted, err
		}
		members, err := answer.AsStrSlice()
		if err != nil {
			return deleted, c.failed(err)
		}
		n, err := c.sweepMembers(key, members, now)
		deleted += n
		if err != nil || len(members) < batch {
			return deleted, err
		}
	}
	return deleted, nil
}

// sweepMembers deletes those of the sessions that are over, and notes for the
// others when to look again.
func (c *call) sweepMembers(key string, members []string, now time.Time) (deleted int, err error) {
	var refs []ref
	var all []arguments
	var changes []rueidis.Completed
	for _, member := range members {
		r, ok := parseRef(member)
		if !ok {
			changes = append(changes, c.B().Zrem().Key(key).Member(member).Build())
			continue
		}
		refs = append(refs, r)
		all = append(all, arguments{[]string{c.keys.session(r), c.keys.clocks(r), c.keys.sessions(r.user)}, []string{r.id, millis(now)}})
	}
	answers, err := c.runAll(c.scripts.sweep, all)
	if err != nil {
		return 0, err
	}
	var gone []ref
	for i, r := range refs {
		ends, err := answers[i].AsInt64()
		switch {
		case err != nil:
			return deleted, c.failed(err)
		case ends > 0:
			changes = append(changes, c.B().Zadd().Key(key).Xx().ScoreMember().ScoreMember(float64(ends), r.String()).Build())
			continue
		case ends < 0:
			deleted++
		}
		gone = append(gone, r)
		changes = append(changes, c.B().Zrem().Key(key).Member(r.String()).Build())
	}
	c.forget(gone)
	_, err = c.queries(changes)
	return deleted, err
}

// sweepAudit deletes events from before keep among the oldest, limit at most.
func (c *call) sweepAudit(keep time.Time, limit int) (int, error) {
	if keep.IsZero() || limit <= 0 {
		return 0, nil
	}
	answer, err := c.query(c.B().Xrange().Key(c.keys.audit()).Start("-").End("+").Count(int64(limit)).Build())
	if err != nil {
		return 0, err
	}
	entries, err := answer.AsXRange()
	if err != nil && !rueidis.IsRedisNil(err) {
		return 0, c.failed(err)
	}
	var old []string
	for _, e := range entries {
		if fromMillis(e.FieldValues["at"]).Before(keep) {
			old = append(old, e.ID)
		}
	}
	if len(old) == 0 {
		return 0, nil
	}
	answer, err = c.query(c.B().Xdel().Key(c.keys.audit()).Id(old...).Build())
	if err != nil {
		return 0, err
	}
	return c.sum([]rueidis.RedisResult{answer}, nil)
}
