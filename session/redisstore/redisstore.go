// Package redisstore keeps sessions in Redis 6 or later (or Valkey): one server,
// one behind Sentinel, or a Cluster, each with or without TLS. [Open] returns a
// [Store], which does what [session.Store] promises.
//
// # Keys
//
// All keys begin with a prefix, "authproxy:" unless [Options] say otherwise.
//
//	authproxy:{<user id>}:user           hash    a person; banned, role and sessionEpoch are for administrators
//	authproxy:{<user id>}:session:<id>   hash    a session, with the sealed tokens of its provider
//	authproxy:clocks:{<user id>}:<id>    hash    lastSeenAt, expiresAt, updatedAt of that session
//	authproxy:sessions:{<user id>}       set     the ids of a person's sessions
//	authproxy:id:<id>                    string  whose session that is, and what else names it
//	authproxy:token:<hash>               string  which session has that token
//	authproxy:sid:<provider>:<sid>       set     the sessions of one at the provider
//	authproxy:subject:<provider>:<sub>   set     the ids of people
//	authproxy:email:<address>            set     the ids of people
//	authproxy:ends:<n>                   zset    when to look whether a session is over, in 16 parts
//	authproxy:audit                      stream  what happened
//
// Times are milliseconds of Unix time. The braces put everything of one person
// into one slot of a Cluster, so that one script changes it all or not at all.
// The other keys only lead there: one that leads nowhere is no session, and is
// swept.
//
// These commands are supported, and effective on every replica within
// milliseconds:
//
//	DEL authproxy:{<user id>}:session:<id>                      ends a session
//	HSET authproxy:{<user id>}:user banned 1                    refuses a person
//	HSET authproxy:{<user id>}:user role admin                  gives a role
//	HINCRBY authproxy:{<user id>}:user sessionEpoch 1           ends all sessions of a person
//
// FLUSHDB ends all sessions, too, and everything else that is only here: bans,
// roles, epochs and audit events. Whoever was banned can sign in again.
//
// Redis deletes a session by itself a day after its hard end.
//
// # What Redis promises
//
// Replication is asynchronous: a failover can lose the last writes, and with
// them a sign-in or a revocation. Options.WaitReplicas narrows that; on the
// server, min-replicas-to-write and min-replicas-max-lag do. maxmemory-policy
// should be noeviction ([Store.EvictionPolicy]): an evicted key is a session that
// has ended, or a person who is not banned any more.
package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/rueidis"

	"authproxy/session"
)

// Options are the settings of a [Store] that are not in its URL. The zero value
// is usable.
type Options struct {
	// Prefix begins all keys, with a colon behind it; "" means "authproxy". It
	// has letters, digits, '.', '_' and '-'.
	Prefix string
	// Password is used instead of one in the URL, unless it is "".
	Password string
	// SentinelPassword is that of the Sentinels, "" if they have none. Their user
	// is sentinel_user of the URL.
	SentinelPassword string
	// Timeout bounds each command, besides the context; 0 means 3 s.
	Timeout time.Duration
	// WaitReplicas is how many replicas should have a revocation or a ban before
	// Delete or Ban returns. They wait for that up to a second, and log a warning
	// if it was not enough: the change holds, but a failover could undo it.
	WaitReplicas int
	// AuditLength bounds the audit events that are kept, about; 0 means a
	// million.
	AuditLength int64
	// Log gets what happens in the background; nil means [slog.Default].
	Log *slog.Logger
	// Now is the clock of Change.AsOf; nil means [time.Now].
	Now func() time.Time
}

// A Store is a [session.Store] in Redis. It is safe for concurrent use.
type Store struct {
	keys     keys
	options  Options
	redis    rueidis.ClientOption
	secrets  []string // never in an error
	process  string   // names this Store among those that watch the same sessions
	scripts  scripts
	ctx      context.Context
	cancel   context.CancelFunc
	finished sync.WaitGroup
	ready    chan struct{} // closed when client is set

	mu     sync.Mutex
	client rueidis.Client // nil until the first connection was made
	why    error          // why there is none yet
}

var validPrefix = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// Open returns a Store of the sessions at url, which is one of
//
//	redis://user:password@host:6379/0
//	redis+sentinel://user:password@host:26379,host:26379/master/0
//	redis+cluster://user:password@host:6379,host:6379
//
// or begins with rediss for TLS, with ?ca_file= for a certificate authority that
// the system does not know. It fails if url or options are wrong, without their
// secrets in the error. It connects in the background, until Close: meanwhile
// all methods fail with [session.ErrUnavailable]. ctx is only for reading files.
func Open(ctx context.Context, url string, options Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("redisstore: %w", err)
	}
	options.setDefaults()
	if !validPrefix.MatchString(options.Prefix) {
		return nil, fmt.Errorf("redisstore: the prefix %q must have only letters, digits, '.', '_' and '-'", options.Prefix)
	}
	redis, err := parseURL(url, &options)
	if err != nil {
		return nil, fmt.Errorf("redisstore: %w", err)
	}
	s := &Store{
		keys: keys{options.Prefix}, options: options, redis: redis, process: rand.Text(), scripts: newScripts(), ready: make(chan struct{}),
		why: errors.New("not connected yet"),
	}
	for _, secret := range []string{redis.Password, redis.Sentinel.Password} {
		if secret != "" {
			s.secrets = append(s.secrets, secret)
		}
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.finished.Go(s.connect)
	return s, nil
}

func (o *Options) setDefaults() {
	if o.Prefix == "" {
		o.Prefix = "authproxy"
	}
	if o.Timeout == 0 {
		o.Timeout = 3 * time.Second
	}
	if o.AuditLength == 0 {
		o.AuditLength = 1_000_000
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// connect makes the first connection; the client keeps it up from then on.
func (s *Store) connect() {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 50*time.Millisecond, time.Second
	for {
		client, err := rueidis.NewClient(s.redis)
		if err == nil {
			s.connected(client)
			return
		}
		if s.ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.why = s.redacted(err)
		s.mu.Unlock()
		s.options.Log.Warn("the session store cannot be reached", "err", s.redacted(err))
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(pause.NextBackOff()):
		}
	}
}

// connected lets the methods use client, unless the store was closed meanwhile.
func (s *Store) connected(client rueidis.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		client.Close()
		return
	}
	s.client = client
	close(s.ready)
}

// Ping returns nil if the master answers, of a Cluster all of them.
func (s *Store) Ping(ctx context.Context) error {
	c, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if c.cluster() {
		return c.eachMaster(func(node rueidis.Client) error { return c.check(node.Do(c.ctx, node.B().Ping().Build())) })
	}
	_, err = c.query(c.B().Ping().Build())
	return err
}

// EvictionPolicy returns the maxmemory-policy of the master, of a Cluster that of
// the first one with another than noeviction; "" where the server does not tell.
func (s *Store) EvictionPolicy(ctx context.Context) (policy string, err error) {
	c, done, err := s.begin(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	err = c.eachMaster(func(node rueidis.Client) error {
		if policy != "" && policy != "noeviction" {
			return nil
		}
		answer := node.Do(c.ctx, node.B().Info().Section("memory").Build())
		if _, refused := rueidis.IsRedisErr(answer.Error()); refused {
			return nil
		}
		text, err := answer.ToString()
		if err != nil {
			return c.failed(err)
		}
		_, rest, _ := strings.Cut(text, "maxmemory_policy:")
		policy, _, _ = strings.Cut(rest, "\r\n")
		return nil
	})
	return policy, err
}

// Close ends the calls under way and closes the connections. Every method fails
// from then on.
func (s *Store) Close() error {
	s.mu.Lock()
	s.cancel()
	client := s.client
	s.mu.Unlock()
	if client != nil {
		client.Close()
	}
	s.finished.Wait()
	return nil
}

// failed returns the error of a store that cannot be asked because of err.
func (s *Store) failed(err error) error {
	if errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNone) {
		return err
	}
	if s.ctx.Err() != nil {
		return fmt.Errorf("redisstore: %w: closed", session.ErrUnavailable)
	}
	return fmt.Errorf("redisstore: %w: %w", session.ErrUnavailable, s.redacted(err))
}

// redacted returns err, without a secret in its text: a server that does not
// know a command repeats its arguments, and those of HELLO are the password.
func (s *Store) redacted(err error) error {
	text := err.Error()
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "…")
	}
	if text != err.Error() {
		return errors.New(text)
	}
	return err
}
