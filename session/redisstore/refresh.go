package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"authproxy/session"
)

// LockRefresh takes the right to refresh, as [session.Store] says.
func (s *Store) LockRefresh(ctx context.Context, id string, version int, now, until time.Time) (bool, error) {
	return s.change(ctx, id, func(c *call, r ref) (rueidis.RedisResult, error) {
		return c.run(c.scripts.lock, []string{c.keys.session(r), c.keys.clocks(r)}, strconv.Itoa(version), millis(now), millis(until))
	})
}

// UnlockRefresh gives the right to refresh back, as [session.Store] says.
func (s *Store) UnlockRefresh(ctx context.Context, id string, version int) error {
	_, err := s.change(ctx, id, func(c *call, r ref) (rueidis.RedisResult, error) {
		return c.run(c.scripts.unlock, []string{c.keys.session(r)}, strconv.Itoa(version))
	})
	return err
}

// SaveRefresh replaces the credential, as [session.Store] says.
func (s *Store) SaveRefresh(ctx context.Context, id string, version int, cred *session.Credential, user *session.User, now time.Time) (bool, error) {
	return s.change(ctx, id, func(c *call, r ref) (rueidis.RedisResult, error) {
		values := appendList([]string{strconv.Itoa(version), millis(now)}, credentialHash(cred, version+1))
		person := hash{}
		if user != nil {
			var err error
			if person, err = personHash(user, now); err != nil {
				return rueidis.RedisResult{}, err
			}
			if err := c.writeAddress(r, user.Email); err != nil {
				return rueidis.RedisResult{}, err
			}
		}
		return c.run(c.scripts.save, []string{c.keys.session(r), c.keys.clocks(r), c.keys.user(r.user)}, appendList(values, person)...)
	})
}

// change runs a script for the session id, and says whether it did something.
func (s *Store) change(ctx context.Context, id string, run func(c *call, r ref) (rueidis.RedisResult, error)) (bool, error) {
	c, done, err := s.begin(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	refs, err := c.refsOf([]string{id})
	if err != nil || len(refs) == 0 {
		return false, err
	}
	answer, err := run(c, refs[0])
	if err != nil {
		return false, err
	}
	n, err := answer.AsInt64()
	if err != nil {
		return false, c.failed(err)
	}
	return n == 1, nil
}

// writeAddress makes a person findable by an address, before it is theirs.
func (c *call) writeAddress(r ref, email string) error {
	if email == "" {
		return nil
	}
	_, err := c.query(c.B().Sadd().Key(c.keys.email(email)).Member(r.user).Build())
	return err
}

// sealedFields are those that hold sealed texts.
func sealedFields() []string { return []string{"accessToken", "refreshToken", "idToken"} }

// Reseal replaces sealed texts, as [session.Store] says. It looks at all keys.
func (s *Store) Reseal(ctx context.Context, reseal func(string) (string, error)) (int, error) {
	c, done, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	replaced := 0
	err = c.scan(func(refs []ref) error {
		n, err := c.resealAll(refs, reseal)
		replaced += n
		return err
	})
	return replaced, err
}

// resealAll replaces the sealed texts of refs.
func (c *call) resealAll(refs []ref, reseal func(string) (string, error)) (int, error) {
	gets := make([]rueidis.Completed, len(refs))
	for i, r := range refs {
		gets[i] = c.B().Hmget().Key(c.keys.session(r)).Field(sealedFields()...).Build()
	}
	answers, err := c.queries(gets)
	if err != nil {
		return 0, err
	}
	var changes []arguments
	for i, r := range refs {
		texts, err := answers[i].AsStrSlice()
		if err != nil {
			return 0, c.failed(err)
		}
		values, err := resealed(texts, reseal)
		if err != nil {
			return 0, err
		}
		if len(values) > 0 {
			changes = append(changes, arguments{[]string{c.keys.session(r)}, values})
		}
	}
	return c.sum(c.runAll(c.scripts.reseal, changes))
}

// resealed returns field, old and new text of those of texts that reseal
// replaces.
func resealed(texts []string, reseal func(string) (string, error)) (values []string, err error) {
	for i, field := range sealedFields() {
		if texts[i] == "" {
			continue
		}
		text, err := reseal(texts[i])
		if err != nil {
			return nil, err
		}
		if text != texts[i] {
			values = append(values, field, texts[i], text)
		}
	}
	return values, nil
}

// sum returns the sum of the numbers that scripts returned.
func (c *call) sum(answers []rueidis.RedisResult, err error) (int, error) {
	total := 0
	for _, a := range answers {
		if n, err := a.AsInt64(); err == nil {
			total += int(n)
		}
	}
	return total, err
}
