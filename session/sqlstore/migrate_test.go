package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"authproxy/session"
)

// databases returns stores of nothing, by the name of their dialect.
func databases(t *testing.T) map[string]func(opts Options) *Store {
	server := Shared.Database(t)
	path := filepath.Join(t.TempDir(), "sessions.db")
	open := func(url string) func(Options) *Store {
		return func(opts Options) *Store {
			if opts.Log == nil {
				opts.Log = slog.New(slog.DiscardHandler)
			}
			s, err := Open(t.Context(), url, opts)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		}
	}
	return map[string]func(Options) *Store{"SQLite": open("sqlite://" + path), "PostgreSQL": open(server.URL())}
}

// older returns a store whose tables are brought to this version only.
func older(t *testing.T, s *Store, version int) *Store {
	t.Helper()
	switch db := s.db.(type) {
	case *sqliteStore:
		db.list = db.list[:version]
	case *postgresStore:
		db.list = db.list[:version]
	default:
		t.Fatalf("a store in a %T", db)
	}
	return s
}

func TestTablesOfVersion1AreBroughtUpToDate(t *testing.T) {
	t.Parallel()
	for name, open := range databases(t) {
		old := older(t, open(Options{}), 1)
		if err := old.Ping(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// What a process of version 1 wrote.
		err := old.change(t.Context(), "insert", func(q runner) error {
			for _, statement := range []string{
				`INSERT INTO @."user" (id, name) VALUES ('00000000-0000-4000-8000-000000000001', 'Old')`,
				`INSERT INTO @.account (id, "userId", "providerId", issuer, "accountId") VALUES ('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001', 'corp', 'i', 's')`,
				`INSERT INTO @.session (id, token, "userId", "expiresAt", "absoluteExpiresAt", "providerId", issuer, subject)
					VALUES ('00000000-0000-4000-8000-000000000003', '` + session.Hash{}.String() + `', '00000000-0000-4000-8000-000000000001', '2999-01-01 00:00:00', '9999-12-31 23:59:59.999', 'corp', 'i', 's')`,
			} {
				if _, err := q.exec(t.Context(), statement); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := open(Options{Migrate: "check"}).Ping(t.Context()); !errors.Is(err, ErrSchema) || !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "version 1, not 2") {
			t.Errorf("%s: check: error %v, want ErrSchema, ErrUnavailable and the versions", name, err)
		}
		if r, err := open(Options{}).Find(t.Context(), session.Hash{}); err != nil || r.User.Name != "Old" {
			t.Errorf("%s: Find after the migration: %v, %v, want Old's session", name, r, err)
		}
		if err := open(Options{Migrate: "check"}).Ping(t.Context()); err != nil {
			t.Errorf("%s: check after the migration: %v", name, err)
		}
	}
}

func TestTablesAreNotMadeUnlessItIsWanted(t *testing.T) {
	t.Parallel()
	for name, open := range databases(t) {
		if err := open(Options{Migrate: "check"}).Ping(t.Context()); !errors.Is(err, ErrSchema) {
			t.Errorf("%s: check: error %v, want ErrSchema", name, err)
		}
		off := open(Options{Migrate: "off"})
		if err := off.Ping(t.Context()); err != nil {
			t.Errorf("%s: off: Ping: %v", name, err)
		}
		if _, err := off.Find(t.Context(), session.Hash{}); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s: off: Find without tables: error %v, want ErrUnavailable", name, err)
		}
	}
}

func TestNewerTablesAreUsedWithAWarning(t *testing.T) {
	t.Parallel()
	for name, open := range databases(t) {
		if err := open(Options{}).Ping(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var log bytes.Buffer
		s := older(t, open(Options{Log: slog.New(slog.NewTextHandler(&log, nil))}), 1)
		if err := s.Ping(t.Context()); err != nil || !strings.Contains(log.String(), "level=WARN") {
			t.Errorf("%s: Ping: %v, log %q, want a warning", name, err, log.String())
		}
	}
}

// plan returns how a statement is run, without any rows of consequence.
func plan(t *testing.T, s *Store, statement string, args ...any) string {
	t.Helper()
	explain, columns := "EXPLAIN ", 1
	if _, ok := s.db.(*sqliteStore); ok {
		explain, columns = "EXPLAIN QUERY PLAN ", 4
	}
	var lines []string
	err := s.change(t.Context(), "explain", func(q runner) error {
		if columns == 1 { // nothing but the shape of the tables may matter
			if _, err := q.exec(t.Context(), "SET LOCAL enable_seqscan = off"); err != nil {
				return err
			}
		}
		return q.each(t.Context(), explain+statement, args, func(scan func(...any) error) error {
			var a, b, c any
			var line string
			to := []any{&a, &b, &c, &line}
			err := scan(to[4-columns:]...)
			lines = append(lines, line)
			return err
		})
	})
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return strings.Join(lines, "\n")
}

func TestEveryStatementHasItsIndex(t *testing.T) {
	t.Parallel()
	for name, open := range databases(t) {
		s := open(Options{})
		if err := s.Ping(context.Background()); err != nil {
			t.Fatal(err)
		}
		id := "00000000-0000-4000-8000-000000000001"
		at := s.db.words().time(never())
		for _, tt := range []struct {
			statement string
			args      []any
			index     []string // any of them
		}{
			{selectRows + `WHERE s.token = $1`, []any{"x"}, []string{"session_token_key", "sqlite_autoindex_session_2"}},
			{selectRows + `WHERE s.id = $1`, []any{id}, []string{"session_pkey", "sqlite_autoindex_session_1"}},
			{selectRows + `WHERE s."userId" = $1`, []any{id}, []string{"session_user_idx"}},
			{`DELETE FROM @.session WHERE "userId" = $1`, []any{id}, []string{"session_user_idx"}},
			{`DELETE FROM @.session WHERE "providerId" = $1 AND "idpSid" = $2`, []any{"x", "x"}, []string{"session_idpsid_idx"}},
			{`DELETE FROM @.session WHERE "providerId" = $1 AND subject = $2`, []any{"x", "x"}, []string{"session_subject_idx"}},
			{`SELECT id FROM @.session WHERE ` + s.db.words().least + `("expiresAt", "absoluteExpiresAt") <= $1 LIMIT 200`, []any{at}, []string{"session_expires_idx"}},
			{`SELECT id FROM @.audit_event WHERE at < $1 LIMIT 200`, []any{at}, []string{"audit_event_at_idx"}},
			{`SELECT id FROM @."user" u WHERE lower(u.email) = lower($1) AND u.email IS NOT NULL`, []any{"x"}, []string{"user_email_idx"}},
		} {
			got := plan(t, s, tt.statement, tt.args...)
			found := false
			for _, index := range tt.index {
				found = found || strings.Contains(got, index)
			}
			if !found {
				t.Errorf("%s: %s\nis run without %v:\n%s", name, tt.statement, tt.index, got)
			}
		}
	}
}
