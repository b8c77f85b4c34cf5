package sqlstore_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/sqlstore"
	"authproxy/session/storetest"
	"authproxy/session/storetest/servers"
)

// An operator runs statements with the program that comes with the database.
type operator struct {
	// run returns a line for each row, with | between the columns; "@." is the
	// place of the schema.
	run func(t testing.TB, statements string) string
	// truncate empties the table of sessions.
	truncate string
	// past is a time in the past.
	past string
}

func (o operator) DeleteSession(t testing.TB, id string) {
	o.run(t, `DELETE FROM @.session WHERE id = '`+id+`'`)
}

func (o operator) DeleteAll(t testing.TB) { o.run(t, o.truncate) }

func (o operator) SetRole(t testing.TB, userID, role string) {
	o.run(t, `UPDATE @."user" SET role = '`+role+`' WHERE id = '`+userID+`'`)
}

func (o operator) RaiseEpoch(t testing.TB, userID string) {
	o.run(t, `UPDATE @."user" SET "sessionEpoch" = "sessionEpoch" + 1 WHERE id = '`+userID+`'`)
}

func (o operator) Ban(t testing.TB, userID string) {
	o.run(t, `UPDATE @."user" SET banned = true WHERE id = '`+userID+`'`)
}

func (o operator) Expire(t testing.TB, id string) {
	o.run(t, `UPDATE @.session SET "expiresAt" = `+o.past+` WHERE id = '`+id+`'`)
}

// events returns the audit events as they are in the table.
func (o operator) events(t testing.TB) []session.Event {
	var events []session.Event
	for _, line := range strings.Split(o.run(t, `SELECT type, coalesce("ipAddress", ''), detail FROM @.audit_event ORDER BY id`), "\n") {
		if line == "" {
			continue
		}
		columns := strings.SplitN(line, "|", 3)
		e := session.Event{Type: columns[0], IP: columns[1]}
		if err := json.Unmarshal([]byte(columns[2]), &e.Detail); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// quiet is a log that nobody reads.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// open returns a store that is closed when the test ends.
func open(t testing.TB, url string, opts sqlstore.Options) *sqlstore.Store {
	t.Helper()
	if opts.Log == nil {
		opts.Log = quiet()
	}
	s, err := sqlstore.Open(t.Context(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// sqliteFile returns the address of a file that is not there yet, and somebody
// with the sqlite3 program.
func sqliteFile(t testing.TB) (url string, o operator) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sessions ü%?#.db")
	run := func(t testing.TB, statements string) string {
		t.Helper()
		return sqlite3(t, path, strings.ReplaceAll(statements, "@.", ""))
	}
	return "sqlite://" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path),
		operator{run: run, truncate: `DELETE FROM session`, past: `datetime('now', '-1 day')`}
}

// sqlite3 runs statements with the sqlite3 program, which does not enforce
// foreign keys.
func sqlite3(t testing.TB, path, statements string) string {
	t.Helper()
	cmd := exec.Command(servers.Need(t, "sqlite3"), "-batch", "-bail", "-cmd", ".timeout 10000", path)
	cmd.Stdin = strings.NewReader(statements + ";\n")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("sqlite3: %v: %s\n%s", err, &stderr, statements)
	}
	return strings.TrimSpace(out.String())
}

// schemaName returns a name for the schema of a test that nobody else has, and
// that has to be quoted.
func schemaName(t testing.TB) string {
	name := fmt.Sprintf(`s"%d %s`, time.Now().UnixNano(), t.Name())
	return name[:min(len(name), 60)]
}

// postgresSchema returns somebody with psql.
func postgresSchema(server *servers.Postgres, schema string) operator {
	quoted := `"` + strings.ReplaceAll(schema, `"`, `""`) + `".`
	run := func(t testing.TB, statements string) string {
		t.Helper()
		return server.Psql(t, strings.ReplaceAll(statements, "@.", quoted))
	}
	return operator{run: run, truncate: `TRUNCATE @.session CASCADE`, past: `now() - interval '1 day'`}
}

// sqliteBackend returns a new file.
func sqliteBackend(t *testing.T) storetest.Backend {
	url, o := sqliteFile(t)
	return storetest.Backend{
		Open:     func(t testing.TB) session.Store { return open(t, url, sqlstore.Options{}) },
		Operator: o, Events: o.events,
	}
}

// postgresBackends returns what makes new schemas of one server, each with a
// way to it of its own.
func postgresBackends(t *testing.T) func(t *testing.T) storetest.Backend {
	server := sqlstore.Shared.Database(t)
	return func(t *testing.T) storetest.Backend {
		schema, link := schemaName(t), servers.NewLink(t, server.Addr)
		o := postgresSchema(server, schema)
		return storetest.Backend{
			Open: func(t testing.TB) session.Store {
				return open(t, server.URLAt(link.Addr), sqlstore.Options{Schema: schema, MaxConns: 3})
			},
			Operator: o, Events: o.events,
			Cut: func(testing.TB) func() { link.Cut(); return link.Heal },
		}
	}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	servers.Need(t, "sqlite3")
	storetest.Run(t, sqliteBackend)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	storetest.Run(t, postgresBackends(t))
}

func TestManagersWithSQLite(t *testing.T) {
	t.Parallel()
	servers.Need(t, "sqlite3")
	storetest.RunManagers(t, sqliteBackend)
}

func TestManagersWithPostgres(t *testing.T) {
	t.Parallel()
	storetest.RunManagers(t, postgresBackends(t))
}

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == signInForever {
		os.Exit(signIns(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == pingOnce {
		os.Exit(ping(os.Args[2]))
	}
	// Most of these tests wait for what is told.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	code := m.Run()
	sqlstore.Shared.Stop()
	os.Exit(code)
}
