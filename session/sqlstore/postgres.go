package sqlstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// postgresStore is a schema of a PostgreSQL database.
type postgresStore struct {
	schema  string
	pool    *pool
	main    *pgx.ConnConfig // where statements and heartbeats go
	listen  *pgx.ConnConfig // where LISTEN goes
	secrets []string
	migrate string
	list    []migration
	log     *slog.Logger
	now     func() time.Time
}

// connectTimeout bounds an attempt to connect, unless the address says
// otherwise (connect_timeout).
const connectTimeout = 5 * time.Second

func newPostgres(address string, opts Options) (*postgresStore, error) {
	p := &postgresStore{schema: opts.Schema, migrate: opts.Migrate, log: opts.Log, now: opts.Now}
	var err error
	if p.main, err = p.config(address); err != nil {
		return nil, err
	}
	p.listen = p.main
	if opts.ListenURL != "" {
		if p.listen, err = p.config(opts.ListenURL); err != nil {
			return nil, fmt.Errorf("session.listen_url: %w", err)
		}
	}
	if p.list, err = migrations("postgres"); err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	p.pool = newPool(p.main, opts.MaxConns)
	return p, nil
}

// config reads an address. Errors of pgx may quote it, so none is passed on.
func (p *postgresStore) config(address string) (*pgx.ConnConfig, error) {
	u, err := parse(address)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, fmt.Errorf("%w: it must begin with postgres://", ErrURL)
	}
	c, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("%w: check the host, the port, and parameters such as sslmode and sslrootcert", ErrURL)
	}
	// A statement is described once and never given a name, so that a pooler may
	// send each to another server connection.
	if u.Query().Get("default_query_exec_mode") == "" {
		c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	// What a standby has may be old: a session that was revoked lives on there, and
	// one that has just begun is missing, which would sign its owner out.
	if u.Query().Get("target_session_attrs") != "read-write" {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "authproxy"
	}
	_, encoded, _ := strings.Cut(u.User.String(), ":")
	p.secrets = append(p.secrets, c.Password, encoded, u.Query().Get("sslpassword"))
	return c, nil
}

func (p *postgresStore) scrub(text string) string {
	for _, secret := range p.secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "xxxxx")
		}
	}
	return text
}

func (p *postgresStore) words() words {
	return words{
		least: "least", greatest: "greatest",
		among: "%s = ANY ($%d::text[]::uuid[])",
		list:  func(ids []string) any { return ids },
		time: func(t time.Time) any {
			if t.IsZero() {
				return nil
			}
			return t.UTC().Truncate(time.Millisecond) // as precise as SQLite's
		},
		skipLocked: "FOR UPDATE SKIP LOCKED",
		beginSweep: "SELECT set_config('authproxy.sweeping', 'on', true)",
	}
}

func (p *postgresStore) prepare(ctx context.Context) error {
	return migrate(ctx, p, p.migrate, p.list, p.log)
}

func (p *postgresStore) version(ctx context.Context, q runner) (int, error) {
	tables, version := 0, 0
	err := q.each(ctx, `SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'schema_version'`, []any{p.schema},
		func(scan func(...any) error) error { return scan(&tables) })
	if err != nil || tables == 0 {
		return 0, err
	}
	err = q.each(ctx, `SELECT coalesce(max(version), 0) FROM @.schema_version`, nil,
		func(scan func(...any) error) error { return scan(&version) })
	return version, err
}

// lock takes an advisory lock of the transaction, which a pooler cannot tear
// from it. CREATE SCHEMA IF NOT EXISTS would ask for the right to create one
// even where there is one.
func (p *postgresStore) lock(ctx context.Context, q runner) error {
	sum := sha256.Sum256([]byte("authproxy migrates " + p.schema))
	key := int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any number will do
	if _, err := q.exec(ctx, `SELECT pg_advisory_xact_lock($1)`, key); err != nil {
		return err
	}
	schemas := 0
	err := q.each(ctx, `SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1`, []any{p.schema},
		func(scan func(...any) error) error { return scan(&schemas) })
	if err != nil {
		return err
	}
	name := pgx.Identifier{p.schema}.Sanitize()
	if schemas == 0 {
		if _, err := q.exec(ctx, `CREATE SCHEMA `+name); err != nil {
			return err
		}
	}
	_, err = q.exec(ctx, `SET LOCAL search_path = `+name)
	return err
}

// channel is where triggers tell changes, see 002_changes.sql.
func (p *postgresStore) channel() string {
	sum := sha256.Sum256([]byte(p.schema))
	return "authproxy_" + hex.EncodeToString(sum[:16])
}

// read runs f again on a new connection if that of the first attempt was lost:
// after a restart of the server all that wait in the pool are dead.
func (p *postgresStore) read(ctx context.Context, f func(runner) error) error {
	lost, err := p.once(ctx, f)
	if err != nil && lost && ctx.Err() == nil {
		_, err = p.once(ctx, f)
	}
	return err
}

// once runs f on a connection, and reports whether that was lost.
func (p *postgresStore) once(ctx context.Context, f func(runner) error) (lost bool, err error) {
	conn, err := p.pool.take(ctx)
	if err != nil {
		return false, err
	}
	err = f(p.runner(conn))
	lost = conn.IsClosed()
	// pgx closes the connection of a call whose context ends; the others are well.
	p.pool.give(conn, lost && ctx.Err() == nil)
	return lost, err
}

// write repeats a statement only if it has had no effect.
func (p *postgresStore) write(ctx context.Context, f func(runner) error) error {
	_, err := p.once(ctx, f)
	if err != nil && ctx.Err() == nil && (pgconn.SafeToRetry(err) || deadlocked(err)) {
		_, err = p.once(ctx, f)
	}
	return err
}

// maxAttempts is how often a transaction is tried that stood in another's way,
// or did not begin.
const maxAttempts = 3

func (p *postgresStore) change(ctx context.Context, f func(runner) error) error {
	for attempt := 1; ; attempt++ {
		began := false
		lost, err := p.once(ctx, func(q runner) error {
			return pgx.BeginFunc(ctx, q.(pgRunner).conn, func(pgx.Tx) error {
				began = true
				return f(q)
			})
		})
		again := err != nil && (deadlocked(err) || lost && !began)
		if !again || attempt == maxAttempts || ctx.Err() != nil {
			return err
		}
	}
}

func (p *postgresStore) close() error {
	p.pool.close()
	return nil
}

// deadlocked reports whether err is serialization_failure or deadlock_detected:
// the transaction was rolled back, and may succeed the next time.
func deadlocked(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40001" || e.Code == "40P01")
}

// ownFault: what is wrong with a statement or its values. Missing tables and
// missing rights are somebody else's doing, and may pass.
func (p *postgresStore) ownFault(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch e.Code[:2] {
	case "22", "23", "42", "54":
		return e.Code != "42P01" && e.Code != "42501"
	default:
		return false
	}
}

func (p *postgresStore) runner(conn *pgx.Conn) pgRunner {
	return pgRunner{conn: conn, schema: pgx.Identifier{p.schema}.Sanitize() + "."}
}

// A pgRunner runs statements on a connection, and in the transaction that was
// begun there.
type pgRunner struct {
	conn   *pgx.Conn
	schema string
}

func (r pgRunner) exec(ctx context.Context, text string, args ...any) (int, error) {
	tag, err := r.conn.Exec(ctx, strings.ReplaceAll(text, "@.", r.schema), args...)
	return int(tag.RowsAffected()), err
}

func (r pgRunner) each(ctx context.Context, text string, args []any, row func(scan func(...any) error) error) error {
	rows, err := r.conn.Query(ctx, strings.ReplaceAll(text, "@.", r.schema), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
