package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"authproxy/session"
)

// sqliteStore is a SQLite file in WAL mode.
type sqliteStore struct {
	path    string
	conns   int
	migrate string
	list    []migration
	log     *slog.Logger
	now     func() time.Time

	mu     sync.Mutex
	file   sqliteFile
	closed bool
}

// A sqliteFile is what is open. Readers never wait, and one connection writes, so
// that writers wait in Go, where a context can end it, and not for the file's lock.
type sqliteFile struct {
	readers, writer *sql.DB
	is              fs.FileInfo // which file the path led to, nil before the first
}

// errReplaced ends a watch whose path does not lead to the file any more that is
// open: what is committed now, and what was revoked there, is in another one.
var errReplaced = errors.New("the file of the session store was replaced or taken away; it is opened anew")

func newSQLite(address string, opts Options) (*sqliteStore, error) {
	u, err := parse(address)
	if err != nil {
		return nil, err
	}
	path := u.Path
	if path == "" {
		if path, err = url.PathUnescape(u.Opaque); err != nil {
			return nil, fmt.Errorf("%w: a percent sign in it is written %%25", ErrURL)
		}
	}
	if u.Host != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || path == "" || strings.HasSuffix(path, "/") || strings.ContainsRune(path, 0) {
		return nil, fmt.Errorf("%w: a SQLite file is sqlite:///absolute/path.db, with three slashes, or sqlite:relative/path.db", ErrURL)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("sqlstore: the folder of %s: %w", path, err)
	}
	list, err := migrations("sqlite")
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	return &sqliteStore{path: path, conns: opts.MaxConns, migrate: opts.Migrate, list: list, log: opts.Log, now: opts.Now}, nil
}

// busyTimeout is how long a statement waits for the file's lock.
const busyTimeout = 5 * time.Second

// open returns a pool; nothing is opened before it is used. The settings are
// those of a connection, so they are in its address, and hold for each.
func (s *sqliteStore) open(setting string, conns int) (*sql.DB, error) {
	all := fmt.Sprintf("?_pragma=busy_timeout(%d)", busyTimeout.Milliseconds()) + "&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_pragma=trusted_schema(0)&mode=rw&"
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: s.path}).String()+all+setting)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: open %s: %w", s.path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

func (s *sqliteStore) words() words {
	return words{
		least: "min", greatest: "max",
		among: "%s IN (SELECT value FROM json_each($%d))",
		list:  func(ids []string) any { b, _ := json.Marshal(ids); return string(b) }, // strings cannot fail
		time: func(t time.Time) any {
			if t.IsZero() {
				return nil
			}
			return t.UTC().Format(layout)
		},
		beginSweep: "INSERT INTO session_sweep (id) VALUES (1)",
		endSweep:   "DELETE FROM session_sweep",
	}
}

// prepare makes the file, for its owner only, and the tables. A file that was there
// is not made again: whoever took it away may be about to put another in its place.
func (s *sqliteStore) prepare(ctx context.Context) error {
	if s.opened().is == nil {
		if err := s.create(); err != nil {
			return fmt.Errorf("make the file of the session store; its folder must exist and be writable: %w", err)
		}
	}
	if err := s.reopen(); err != nil {
		return fmt.Errorf("open the file of the session store: %w", err)
	}
	if err := s.toWAL(ctx); err != nil {
		return fmt.Errorf("open the file of the session store: %w", err)
	}
	return migrate(ctx, s, s.migrate, s.list, s.log)
}

// create makes an empty file unless there is one. It never opens a file that is
// in use: to close it would take away the locks that SQLite has on it in this
// process (POSIX, fcntl), and the next program that ends would take itself for
// the last one and delete the log from under our feet.
func (s *sqliteStore) create() error {
	if _, err := os.Stat(s.path); err == nil {
		return nil
	}
	file, err := os.CreateTemp(filepath.Dir(s.path), ".authproxy-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Link(file.Name(), s.path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// reopen makes pools for the file that the path leads to, in place of those there
// were. Whoever uses a connection of theirs ends what it does with it, and gets no
// other.
func (s *sqliteStore) reopen() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("the store is closed")
	}
	var file sqliteFile
	if file.is, err = os.Stat(s.path); err != nil || os.SameFile(file.is, s.file.is) {
		return err
	}
	if file.writer, err = s.open("_txlock=immediate", 1); err != nil {
		return err
	}
	if file.readers, err = s.open("_pragma=query_only(1)", s.conns); err != nil {
		return errors.Join(err, file.writer.Close())
	}
	old := s.file
	s.file = file
	return old.close()
}

func (f sqliteFile) close() error {
	if f.is == nil {
		return nil
	}
	return errors.Join(f.readers.Close(), f.writer.Close())
}

// opened returns what is open.
func (s *sqliteStore) opened() sqliteFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file
}

// inPlace returns nil if the path leads to the file that is open.
func (s *sqliteStore) inPlace() error {
	if is, err := os.Stat(s.path); err != nil || !os.SameFile(is, s.opened().is) {
		return errors.Join(errReplaced, err)
	}
	return nil
}

// toWAL opens the first connection, which turns a file that is new to WAL mode. It
// reads, then asks for the right to write, and if somebody else has that, SQLite
// fails at once: to wait, as busy_timeout says, could be for one who waits for us
// (sqlite3_busy_handler, "deadlock"). So it is tried again for as long.
func (s *sqliteStore) toWAL(ctx context.Context) error {
	over := time.NewTimer(busyTimeout)
	defer over.Stop()
	for {
		conn, err := s.opened().writer.Conn(ctx)
		if err == nil {
			return conn.Close()
		}
		if sqliteCode(err) != sqlite3.SQLITE_BUSY {
			return err
		}
		select {
		case <-time.After(5*time.Millisecond + rand.N(10*time.Millisecond)): // not in step with the other
		case <-over.C:
			return err
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

func (s *sqliteStore) version(ctx context.Context, q runner) (int, error) {
	tables := 0
	err := q.each(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'`, nil,
		func(scan func(...any) error) error { return scan(&tables) })
	if err != nil || tables == 0 {
		return 0, err
	}
	version := 0
	err = q.each(ctx, `SELECT coalesce(max(version), 0) FROM schema_version`, nil,
		func(scan func(...any) error) error { return scan(&version) })
	return version, err
}

// lock has nothing to do: a transaction of the writer begins with the lock.
func (s *sqliteStore) lock(context.Context, runner) error { return nil }

func (s *sqliteStore) read(ctx context.Context, f func(runner) error) error {
	return f(sqliteRunner{s.opened().readers})
}

func (s *sqliteStore) write(ctx context.Context, f func(runner) error) error {
	return f(sqliteRunner{s.opened().writer})
}

func (s *sqliteStore) change(ctx context.Context, f func(runner) error) error {
	tx, err := s.opened().writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(sqliteRunner{tx}); err != nil {
		_ = tx.Rollback() // the first error says more
		return err
	}
	return tx.Commit()
}

func (s *sqliteStore) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.file.close()
}

func (s *sqliteStore) scrub(text string) string { return text } // a path is no secret

// ownFault: what is wrong with the values of a statement. A full disk, a file
// that is locked or broken is not, nor is a table that is missing.
func (s *sqliteStore) ownFault(err error) bool {
	switch sqliteCode(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE:
		return true
	default:
		return false
	}
}

// sqliteCode returns the primary result code in err, 0 if there is none.
func sqliteCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// A sqliteRunner runs statements in a pool, a connection or a transaction.
type sqliteRunner struct {
	q interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
}

func (r sqliteRunner) exec(ctx context.Context, text string, args ...any) (int, error) {
	result, err := r.q.ExecContext(ctx, strings.ReplaceAll(text, "@.", ""), args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

func (r sqliteRunner) each(ctx context.Context, text string, args []any, row func(scan func(...any) error) error) (err error) {
	rows, err := r.q.QueryContext(ctx, strings.ReplaceAll(text, "@.", ""), args...)
	if err != nil {
		return err
	}
	// A statement that writes commits when it is closed.
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// pollEvery is how often the file is asked whether somebody wrote.
const pollEvery = 50 * time.Millisecond

// watch has a connection of its own, because data_version is a connection's.
func (s *sqliteStore) watch(ctx context.Context, on func(session.Change)) error {
	db, err := s.open("_pragma=query_only(1)", 1)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // it only read
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()

	p := &poll{q: sqliteRunner{conn}}
	change := session.Change{All: true, AsOf: s.now()}
	if err := errors.Join(s.inPlace(), p.begin(ctx)); err != nil {
		return err
	}
	for tick := time.NewTicker(pollEvery); ; {
		on(change)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		asOf := s.now()
		if err := s.inPlace(); err != nil {
			return err
		}
		if change, err = p.next(ctx); err != nil {
			return err
		}
		change.AsOf = asOf
	}
}

// A poll knows what of session_change was seen.
type poll struct {
	q       runner
	version int64 // of the data
	last    int64 // row
}

func (p *poll) begin(ctx context.Context) (err error) {
	// The version first: what is committed in between is found at the next one.
	if p.version, err = p.number(ctx, `PRAGMA data_version`); err != nil {
		return err
	}
	p.last, err = p.number(ctx, lastChange)
	return err
}

// lastChange returns the highest number ever given to a change.
const lastChange = `SELECT coalesce(max(seq), 0) AS seq FROM sqlite_sequence WHERE name = 'session_change'`

func (p *poll) number(ctx context.Context, query string) (n int64, err error) {
	err = p.q.each(ctx, query, nil, func(scan func(...any) error) error { return scan(&n) })
	return n, err
}

// maxTold is how many ids are told one by one.
const maxTold = 100

// next returns what changed since the call before.
func (p *poll) next(ctx context.Context) (session.Change, error) {
	version, err := p.number(ctx, `PRAGMA data_version`)
	if err != nil || version == p.version {
		return session.Change{}, err
	}
	// One statement, so that the rows and the last number are of one moment.
	var change session.Change
	var seq, rows int64
	err = p.q.each(ctx, `SELECT n.seq, c.kind, c.ref FROM (`+lastChange+`) n LEFT JOIN
		(SELECT id, kind, ref FROM session_change WHERE id > $1 ORDER BY id LIMIT 101) c`, []any{p.last},
		func(scan func(...any) error) error {
			var kind, ref string
			if err := scan(&seq, text{&kind}, text{&ref}); err != nil {
				return err
			}
			switch kind {
			case "s":
				change.Sessions = append(change.Sessions, ref)
			case "u":
				change.Users = append(change.Users, ref)
			default:
				return nil
			}
			rows++
			return nil
		})
	if err != nil {
		return session.Change{}, err
	}
	// Too many to name, some deleted before they were seen, or a file that was
	// put back to an earlier state.
	if rows != seq-p.last || rows > maxTold {
		change = session.Change{All: true}
	}
	p.version, p.last = version, seq
	return change, nil
}
