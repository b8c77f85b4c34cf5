package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"authproxy/session"
)

// grace is how long Redis keeps what is over, if nobody sweeps. It is more than
// any clock is wrong.
const grace = 24 * time.Hour

var errThere = errors.New("redisstore: the session or its token is there already")

// names are what leads to a session, and stand under its id.
type names struct{ User, Token, Provider, SID string }

// Create writes a session, as [session.Store] says. In a Cluster the sessions of
// other people that it replaces go in a second step; if that fails, so does
// Create, and takes back the first.
func (s *Store) Create(ctx context.Context, row *session.Row, replaces []string) error {
	c, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	r := ref{row.User.ID, row.ID}
	if r.user == "" || r.id == "" || strings.ContainsAny(r.user, "{}/") {
		return fmt.Errorf("redisstore: %q and %q cannot be the ids of a user and a session", r.user, r.id)
	}
	old, err := c.refsOf(replaces)
	if err != nil {
		return err
	}
	near, far := c.split(r, old)
	if err := c.writeNames(row); err != nil {
		return err
	}
	if err := c.writeSession(row, near); err != nil {
		c.takeBack(r)
		return err
	}
	if _, err := c.end(far); err != nil {
		c.takeBack(r)
		return err
	}
	c.forget(near)
	return nil
}

// refsOf returns the sessions with those of ids that are known.
func (c *call) refsOf(ids []string) ([]ref, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	commands := make([]rueidis.Completed, len(ids))
	for i, id := range ids {
		commands[i] = c.B().Get().Key(c.keys.id(id)).Build()
	}
	answers, err := c.queries(commands)
	if err != nil {
		return nil, err
	}
	var refs []ref
	for i, id := range ids {
		if n, ok := parseNames(answers[i]); ok {
			refs = append(refs, ref{n.User, id})
		}
	}
	return refs, nil
}

func parseNames(answer rueidis.RedisResult) (n names, ok bool) {
	text, err := answer.ToString()
	return n, err == nil && json.Unmarshal([]byte(text), &n) == nil
}

// split returns which of old one script can change together with r.
func (c *call) split(r ref, old []ref) (near, far []ref) {
	for _, o := range old {
		if o.user == r.user || !c.cluster() {
			near = append(near, o)
		} else {
			far = append(far, o)
		}
	}
	return near, far
}

// writeNames writes what leads to a session, before it is there: whoever follows
// it meanwhile finds none. It fails if the id or the token leads somewhere.
func (c *call) writeNames(row *session.Row) error {
	n := names{row.User.ID, row.Token.String(), row.User.Provider, row.ProviderSID}
	text, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("redisstore: %w", err)
	}
	r := ref{row.User.ID, row.ID}
	life, _ := lives(row)
	for i, name := range [][2]string{{c.keys.id(r.id), string(text)}, {c.keys.token(n.Token), r.String()}} {
		answer, err := c.query(c.setNew(name[0], name[1], life))
		if err == nil && answer.Error() != nil {
			err = errThere
		}
		if err != nil && i == 1 {
			c.drop(c.keys.id(r.id))
		}
		if err != nil {
			return err
		}
	}
	if err := c.writeLists(row, life); err != nil {
		c.forget([]ref{r})
		return err
	}
	return nil
}

// writeLists adds a session and its person to the sets where they are looked up.
func (c *call) writeLists(row *session.Row, life time.Duration) error {
	r, b := ref{row.User.ID, row.ID}, c.B()
	commands := []rueidis.Completed{
		b.Zadd().Key(c.keys.endsOf(r.id)).ScoreMember().ScoreMember(float64(row.End().UnixMilli()), r.String()).Build(),
		b.Sadd().Key(c.keys.subject(row.User.Provider, row.User.Subject)).Member(r.user).Build(),
	}
	if row.User.Email != "" {
		commands = append(commands, b.Sadd().Key(c.keys.email(row.User.Email)).Member(r.user).Build())
	}
	if row.ProviderSID != "" {
		commands = append(commands, b.Sadd().Key(c.keys.sid(row.User.Provider, row.ProviderSID)).Member(r.String()).Build())
	}
	_, err := c.queries(commands)
	return err
}

// setNew returns the command that writes a key which is not there.
func (c *call) setNew(key, value string, life time.Duration) rueidis.Completed {
	if life == 0 {
		return c.B().Set().Key(key).Value(value).Nx().Build()
	}
	return c.B().Set().Key(key).Value(value).Nx().PxMilliseconds(life.Milliseconds()).Build()
}

// lives returns how long Redis keeps a session and its clocks, 0 for good. It
// counts from when the session was seen last, so that nobody's clock matters.
func lives(row *session.Row) (hard, sliding time.Duration) {
	from := row.LastSeenAt
	if from.IsZero() {
		from = row.CreatedAt
	}
	sliding = max(0, row.End().Sub(from)) + grace
	if !row.AbsoluteExpiresAt.IsZero() {
		hard = max(0, row.AbsoluteExpiresAt.Sub(from)) + grace
	}
	return hard, sliding
}

// writeSession runs the script that makes the session of row, instead of those
// in near, and sets what holds for the person.
func (c *call) writeSession(row *session.Row, near []ref) error {
	r := ref{row.User.ID, row.ID}
	person, err := personHash(&row.User, row.CreatedAt)
	if err != nil {
		return err
	}
	fields, err := sessionHash(row)
	if err != nil {
		return err
	}
	hard, sliding := lives(row)
	keys := []string{c.keys.user(r.user), c.keys.session(r), c.keys.clocks(r), c.keys.sessions(r.user)}
	values := []string{r.id, millis(row.CreatedAt), strconv.FormatInt(hard.Milliseconds(), 10), strconv.FormatInt(sliding.Milliseconds(), 10)}
	for _, h := range []hash{person, fields, clocksHash(row)} {
		values = appendList(values, h)
	}
	for _, o := range near {
		keys = append(keys, c.keys.session(o), c.keys.clocks(o), c.keys.sessions(o.user))
		values = append(values, o.id)
	}
	answer, err := c.run(c.scripts.create, keys, values...)
	if err != nil {
		return err
	}
	holds, err := answer.AsStrSlice()
	if rueidis.IsRedisNil(err) {
		return errThere
	}
	if err != nil {
		return c.failed(err)
	}
	row.Epoch = number(holds[0], -1)
	row.UserEpoch, row.User.Role = row.Epoch, holds[1]
	return nil
}

// appendList appends a list of fields with its length in front.
func appendList(values []string, h hash) []string {
	values = append(values, strconv.Itoa(2*len(h)))
	return append(values, h.pairs()...)
}

// takeBack deletes a session whose creation failed. If that fails as well, what
// remains has a token that nobody got, and ends by its clocks.
func (c *call) takeBack(r ref) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), time.Second)
	defer cancel()
	after := &call{c.Store, c.Client, ctx}
	if _, err := after.end([]ref{r}); err != nil {
		c.options.Log.Warn("a session that could not be created could not be taken back", "session", r.id, "err", err)
	}
}

// drop deletes a key that leads nowhere, if it can.
func (c *call) drop(key string) {
	if _, err := c.query(c.B().Del().Key(key).Build()); err != nil {
		c.options.Log.Debug("a key that leads nowhere stays", "err", err)
	}
}
