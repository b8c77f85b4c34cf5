// Package sqlstore keeps sessions in a database: in a SQLite file for one
// machine, in PostgreSQL for more.
//
// The tables are made for people with SQL: their names and columns are a
// contract (see migrations), and a DELETE, UPDATE or TRUNCATE by hand is as good
// as a call of [Store.Delete] or [Store.Ban]: triggers tell every process that
// watches. Both databases run the same statements; a dialect differs in how
// connections are kept, how changes are told, and in a few words.
//
// What [Store.Watch] promises rests on this:
//
//   - PostgreSQL delivers notifications of different transactions in the order
//     in which they committed (NOTIFY, "Notes"). A heartbeat is a notification
//     that another connection sends, through the main URL: when it arrives,
//     whatever was committed before it was sent has arrived. It proves the whole
//     way, so a pooler that hears nothing, another database behind
//     [Options.ListenURL] and a dead network look the same: AsOf stands still.
//   - In SQLite, PRAGMA data_version differs between two calls if anybody else
//     committed meanwhile; then the rows that triggers left in session_change
//     are read. They are numbered without gaps, so one that is missing shows.
//     Each time the path is looked at, too: a file that was put in the place of
//     the one that is open ends the watch, and is opened by who asks next.
//
// SQLite runs with synchronous=FULL. NORMAL would do for a process that is
// killed, but may forget the latest commits when power fails, and a forgotten
// revocation is a session that lives again.
package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"authproxy/session"
)

// ErrURL is wrapped by the errors of [Open] about an address.
var ErrURL = errors.New("sqlstore: the address of the database cannot be used")

// ErrSchema is wrapped by errors that say that the tables are not those that
// this version needs. They wrap [session.ErrUnavailable], too.
var ErrSchema = errors.New("sqlstore: the tables are not those of this version")

// Options are the settings of a [Store] besides its address.
type Options struct {
	// Schema is the schema of the tables in PostgreSQL, "authproxy" if empty.
	// SQLite has none; ATTACH … AS gives a file any name.
	Schema string
	// Migrate says what happens to tables that are older than this version needs:
	// "auto", which is the default, brings them up to date; "check" refuses to
	// use them; "off" does not look.
	Migrate string
	// ListenURL is the address for LISTEN if the store's own leads to a pooler
	// that gives away connections by transaction, where LISTEN hears nothing.
	ListenURL string
	// MaxConns bounds the connections for statements, 0 = 10. SQLite has one for
	// writing besides.
	MaxConns int
	// Log gets what nobody returns: a failed heartbeat, tables newer than this
	// version. Nil means slog.Default().
	Log *slog.Logger
	// Now is the clock of AsOf and of what administrators do. Nil means time.Now.
	Now func() time.Time
}

// A Store is a [session.Store] in a database.
type Store struct {
	db       database
	now      func() time.Time
	attempts chan struct{} // holds one while somebody prepares the database
	failed   error         // how that ended last
	failedAt time.Time
	prepared atomic.Bool
	closed   atomic.Bool
	done     chan struct{}
}

var _ session.Store = (*Store)(nil)

// A database is what the two dialects do differently.
type database interface {
	// words returns what the dialect calls things.
	words() words
	// prepare connects, and sees to the tables.
	prepare(ctx context.Context) error
	// read runs statements that change nothing, perhaps twice.
	read(ctx context.Context, f func(runner) error) error
	// write runs one statement that changes something, and change several in one
	// transaction, perhaps twice if the first one had no effect.
	write(ctx context.Context, f func(runner) error) error
	change(ctx context.Context, f func(runner) error) error
	watch(ctx context.Context, on func(session.Change)) error
	// ownFault reports whether err is about the statement and its values rather
	// than about the database.
	ownFault(err error) bool
	// scrub returns text without the secrets of the addresses.
	scrub(text string) string
	close() error
}

// A runner runs statements. "@." in one is the place of the schema.
type runner interface {
	// exec returns how many rows were changed.
	exec(ctx context.Context, text string, args ...any) (int, error)
	// each calls row for every row of the answer.
	each(ctx context.Context, text string, args []any, row func(scan func(...any) error) error) error
}

// words are what a dialect calls things.
type words struct {
	least, greatest string
	// among is a condition that a column has one of the values in a parameter,
	// with their places as %s and %d; list makes that parameter.
	among string
	list  func([]string) any
	// time makes a parameter of a time, nil of the zero time.
	time func(time.Time) any
	// skipLocked ends a SELECT whose rows nobody else is to be waited for.
	skipLocked string
	// beginSweep and endSweep keep the triggers quiet in between.
	beginSweep, endSweep string
}

// Open returns the store at address, which is one of
//
//	sqlite:///absolute/path.db, sqlite:relative/path.db
//	postgres://user:password@host:5432/database?sslmode=verify-full
//
// It fails if the address or an option is wrong, and does not connect: the
// first use does, and the tables are made then, so that a database that is down
// does not keep the process from starting. Errors never hold the address, which
// may have a password in it.
func Open(_ context.Context, address string, opts Options) (*Store, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	scheme, _, _ := strings.Cut(address, ":")
	var db database
	switch strings.ToLower(scheme) {
	case "sqlite":
		db, err = newSQLite(address, opts)
	case "postgres", "postgresql":
		db, err = newPostgres(address, opts)
	default:
		err = fmt.Errorf("%w: session.store must begin with sqlite: or postgres://", ErrURL)
	}
	if err != nil {
		return nil, err
	}
	return &Store{db: db, now: opts.Now, attempts: make(chan struct{}, 1), done: make(chan struct{})}, nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Schema == "" {
		o.Schema = "authproxy"
	}
	if len(o.Schema) > 63 || strings.ContainsRune(o.Schema, 0) || strings.HasPrefix(o.Schema, "pg_") {
		return o, errors.New("sqlstore: session.schema must have at most 63 bytes and not begin with pg_, which PostgreSQL keeps for itself")
	}
	switch o.Migrate {
	case "":
		o.Migrate = migrateAuto
	case migrateAuto, migrateCheck, migrateOff:
	default:
		return o, fmt.Errorf("sqlstore: session.migrate is %q; it can be auto, check or off", o.Migrate)
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 10
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

// retryPreparing is how long a failure to prepare the database is an answer for
// everybody else who asks.
const retryPreparing = 200 * time.Millisecond

// ready returns nil once the database was prepared. One caller at a time tries.
func (s *Store) ready(ctx context.Context) error {
	if s.closed.Load() {
		return errors.New("the store is closed")
	}
	if s.prepared.Load() {
		return nil
	}
	select {
	case s.attempts <- struct{}{}:
		defer func() { <-s.attempts }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.prepared.Load() {
		return nil
	}
	if s.failed != nil && time.Since(s.failedAt) < retryPreparing {
		return s.failed
	}
	err := s.db.prepare(ctx)
	if err == nil {
		s.prepared.Store(true)
		return nil
	}
	if ctx.Err() == nil { // else it may be the caller's doing
		s.failed, s.failedAt = err, time.Now()
	}
	return err
}

// read, write and change run f as [database] says, and name what op was when
// that fails.
func (s *Store) read(ctx context.Context, op string, f func(runner) error) error {
	return s.run(ctx, op, s.db.read, f)
}

func (s *Store) write(ctx context.Context, op string, f func(runner) error) error {
	return s.run(ctx, op, s.db.write, f)
}

func (s *Store) change(ctx context.Context, op string, f func(runner) error) error {
	return s.run(ctx, op, s.db.change, f)
}

func (s *Store) run(ctx context.Context, op string, how func(context.Context, func(runner) error) error, f func(runner) error) error {
	err := s.ready(ctx)
	if err == nil {
		err = how(ctx, f)
	}
	return s.explain(ctx, op, err)
}

// explain makes an error that says what was tried and whether the database is
// the cause, and that holds no secret.
func (s *Store) explain(ctx context.Context, op string, err error) error {
	if err == nil || errors.Is(err, session.ErrNone) {
		return err
	}
	if text := err.Error(); s.db.scrub(text) != text {
		err = errors.New(s.db.scrub(text))
	}
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if s.db.ownFault(err) {
		return fmt.Errorf("sqlstore: %s: %w", op, err)
	}
	return fmt.Errorf("sqlstore: %s: %w: %w", op, session.ErrUnavailable, err)
}

// Watch implements [session.Store].
func (s *Store) Watch(ctx context.Context, on func(session.Change)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.ready(ctx)
	if err == nil {
		err = s.db.watch(ctx, on)
	}
	if errors.Is(err, errReplaced) {
		s.prepared.Store(false)
	}
	return s.explain(ctx, "watch", err)
}

// Ping implements [session.Store].
func (s *Store) Ping(ctx context.Context) error {
	return s.read(ctx, "ping", func(q runner) error {
		return q.each(ctx, "SELECT 1", nil, func(scan func(...any) error) error {
			var one int
			return scan(&one)
		})
	})
}

// Close implements [session.Store]. Calls that are under way may fail.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	close(s.done)
	if err := s.db.close(); err != nil {
		return fmt.Errorf("sqlstore: close: %w", err)
	}
	return nil
}

// parse returns the URL in address, and says nothing of it when it fails.
func parse(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no URL; a password with special characters has to be percent-encoded", ErrURL)
	}
	return u, nil
}
