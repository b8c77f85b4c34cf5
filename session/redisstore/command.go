package redisstore

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/redis/rueidis"
)

// errReplica means that the server was demoted, or never was the master. What it
// has may be old: a session that has ended there lives on here.
var errReplica = errors.New("the server is a replica, not the master")

// maxBatch is how many commands go out together.
const maxBatch = 200

// A call is the use of the store by one method.
type call struct {
	*Store
	rueidis.Client
	ctx context.Context
}

// begin waits for the first connection. done must be called.
func (s *Store) begin(ctx context.Context) (c *call, done func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	done = func() { stop(); cancel() }
	wait, cancelWait := context.WithTimeout(ctx, s.options.Timeout)
	defer cancelWait()
	select {
	case <-s.ready:
	case <-wait.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil || s.client == nil {
		done()
		return nil, nil, s.failed(cmpErr(err, s.why))
	}
	return &call{s, s.client, ctx}, done, nil
}

// cmpErr returns the first error that is none of nil.
func cmpErr(errs ...error) error {
	return errs[max(0, slices.IndexFunc(errs, func(err error) bool { return err != nil }))]
}

// cluster says whether the keys are spread over several servers.
func (c *call) cluster() bool { return c.Mode() == rueidis.ClientModeCluster }

// exec sends commands together and returns their answers, which may be errors.
// Outside of a Cluster, where a replica sends us on by itself, it makes sure
// that they are a master's: it asks for the role on the same connection at the
// same time.
func (c *call) exec(commands ...rueidis.Completed) ([]rueidis.RedisResult, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.options.Timeout)
	defer cancel()
	if c.cluster() {
		return c.DoMulti(ctx, commands...), nil
	}
	role := c.B().Role().Build()
	results := c.DoMulti(ctx, append([]rueidis.Completed{role}, commands...)...)
	if err := masterRole(results[0]); err != nil {
		return nil, c.failed(err)
	}
	return results[1:], nil
}

// masterRole fails unless the answer to ROLE is that of a master. Where ROLE
// may not be asked, nothing is known against it.
func masterRole(answer rueidis.RedisResult) error {
	parts, err := answer.ToArray()
	if redisErr, ok := rueidis.IsRedisErr(err); ok {
		if text := redisErr.Error(); strings.HasPrefix(text, "NOPERM") || strings.HasPrefix(text, "ERR unknown command") {
			return nil
		}
	}
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return errReplica
	}
	if role, err := parts[0].ToString(); err != nil || role != "master" {
		return errReplica
	}
	return nil
}

// query is exec for a command whose error is the caller's, except that a nil
// answer is none.
func (c *call) query(command rueidis.Completed) (rueidis.RedisResult, error) {
	results, err := c.exec(command)
	if err != nil {
		return rueidis.RedisResult{}, err
	}
	return results[0], c.check(results...)
}

// queries is exec in batches, and fails with the first of the errors.
func (c *call) queries(commands []rueidis.Completed) ([]rueidis.RedisResult, error) {
	var all []rueidis.RedisResult
	for batch := range slices.Chunk(commands, maxBatch) {
		results, err := c.exec(batch...)
		if err != nil {
			return nil, err
		}
		all = append(all, results...)
	}
	return all, c.check(all...)
}

// check returns the first error that results have.
func (c *call) check(results ...rueidis.RedisResult) error {
	for _, r := range results {
		if err := r.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return c.failed(err)
		}
	}
	return nil
}

// A script runs in Redis as a whole: nobody sees the half of it.
type script struct{ text, sha string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text)) // a name that Redis gives, not a protection
	return script{text, hex.EncodeToString(sum[:])}
}

// arguments are those of one run of a script.
type arguments struct{ keys, values []string }

// run runs a script once.
func (c *call) run(sc script, keys []string, values ...string) (rueidis.RedisResult, error) {
	results, err := c.runAll(sc, []arguments{{keys, values}})
	if err != nil {
		return rueidis.RedisResult{}, err
	}
	return results[0], nil
}

// runAll runs a script for each of all, and fails with the first of their
// errors. It sends the text where the server does not know the script yet.
func (c *call) runAll(sc script, all []arguments) ([]rueidis.RedisResult, error) {
	commands := make([]rueidis.Completed, len(all))
	for i, a := range all {
		commands[i] = c.B().Evalsha().Sha1(sc.sha).Numkeys(int64(len(a.keys))).Key(a.keys...).Arg(a.values...).Build()
	}
	var results []rueidis.RedisResult
	for batch := range slices.Chunk(commands, maxBatch) {
		answers, err := c.exec(batch...)
		if err != nil {
			return nil, err
		}
		results = append(results, answers...)
	}
	for i, a := range all {
		if redisErr, ok := rueidis.IsRedisErr(results[i].Error()); !ok || !redisErr.IsNoScript() {
			continue
		}
		answers, err := c.exec(c.B().Eval().Script(sc.text).Numkeys(int64(len(a.keys))).Key(a.keys...).Arg(a.values...).Build())
		if err != nil {
			return nil, err
		}
		results[i] = answers[0]
	}
	return results, c.check(results...)
}

// eachMaster calls use for each server that holds keys, until one fails.
func (c *call) eachMaster(use func(node rueidis.Client) error) error {
	masters := 0
	for _, node := range c.Nodes() {
		if c.cluster() {
			ctx, cancel := context.WithTimeout(c.ctx, c.options.Timeout)
			err := masterRole(node.Do(ctx, node.B().Role().Build()))
			cancel()
			if errors.Is(err, errReplica) {
				continue
			}
			if err != nil {
				return c.failed(err)
			}
		}
		masters++
		if err := use(node); err != nil {
			return err
		}
	}
	if masters == 0 {
		return c.failed(errors.New("no master is known"))
	}
	return nil
}

// scan calls use for all session keys, a batch at a time, on all servers. A key
// may come twice.
func (c *call) scan(use func(refs []ref) error) error {
	pattern := globEscaped(c.keys.tracked()) + "*}:session:*"
	return c.eachMaster(func(node rueidis.Client) error {
		on := &call{c.Store, node, c.ctx}
		for cursor := uint64(0); ; {
			answer, err := on.query(node.B().Scan().Cursor(cursor).Match(pattern).Count(1000).Build())
			if err != nil {
				return err
			}
			entry, err := answer.AsScanEntry()
			if err != nil {
				return err
			}
			var refs []ref
			for _, key := range entry.Elements {
				if user, kind, id, ok := c.keys.split(key); ok && kind == "session" {
					refs = append(refs, ref{user, id})
				}
			}
			if err := use(refs); err != nil {
				return err
			}
			if cursor = entry.Cursor; cursor == 0 {
				return nil
			}
		}
	})
}

// globEscaped returns text as a pattern that matches only itself.
func globEscaped(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}
