package sqlstore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/sqlstore"
	"authproxy/session/storetest/servers"
)

// A query of a cookbook: what it is for, and its text.
type query struct{ name, text string }

func cookbook(t *testing.T, file string) []query {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var queries []query
	for _, part := range strings.Split(string(b), "-- name: ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		queries = append(queries, query{name, text})
	}
	if len(queries) < 15 {
		t.Fatalf("%s has %d queries, want at least 15", file, len(queries))
	}
	return queries
}

// people signs two people in, the second one twice, and records a failure.
func people(t *testing.T, s *sqlstore.Store) (first, second *session.Row) {
	t.Helper()
	first, second = newRow(1), newRow(2)
	for _, r := range []*session.Row{first, second, newRow(2)} {
		if err := s.Create(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
	}
	events := []session.Event{
		{At: first.CreatedAt, Type: "sign_in_failed", IP: "192.0.2.7"},
		{At: first.CreatedAt, Type: "sign_in", UserID: first.User.ID, SessionID: first.ID},
	}
	if err := s.Record(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	return first, second
}

// runCookbook runs the queries in order and checks what some of them return.
func runCookbook(t *testing.T, s *sqlstore.Store, queries []query, run func(statements string) string) {
	t.Helper()
	first, second := people(t, s)
	for _, q := range queries {
		out := run(q.text)
		want := map[string][]string{
			"active sessions, as Neon's documentation shows them":   {first.ID, second.ID, "p2@example.com", "192.0.2.1"},
			"users by creation, as Neon's documentation shows them": {first.User.ID, "p1@example.com"},
			"who is signed in, on each device":                      {"p1@example.com|corp|192.0.2.1"},
			"users with more than one live session":                 {"p2@example.com|2"},
			"failed sign-ins by address in the last hour":           {"192.0.2.7|1"},
			"people who signed in, by day":                          {"|1"},
			"the tables of Auth.js":                                 {first.Token.String(), "|corp|1"},
		}[q.name]
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: got %q, want it to have %q", q.name, out, w)
			}
		}
		checkEffect(t, s, q.name, first, second)
	}
}

// checkEffect checks what a query of the cookbook did.
func checkEffect(t *testing.T, s *sqlstore.Store, name string, first, second *session.Row) {
	t.Helper()
	one := func(r *session.Row) *session.Row {
		t.Helper()
		got, err := s.FindID(t.Context(), r.ID)
		if err != nil {
			t.Fatalf("after %q: %v", name, err)
		}
		return got
	}
	switch name {
	case "give a role":
		if got := one(first).User.Role; got != "admin" {
			t.Errorf("%s: role %q, want admin", name, got)
		}
	case "lock somebody out, now and until further notice", "let them in again":
		if got, want := one(first).Banned, name != "let them in again"; got != want {
			t.Errorf("%s: banned %v, want %v", name, got, want)
		}
	case "void every earlier session of somebody, and keep the rows":
		if got := one(first); got.Epoch == got.UserEpoch {
			t.Errorf("%s: epoch %d of %d, want another one", name, got.Epoch, got.UserEpoch)
		}
	case "sign somebody out everywhere":
		one(first)
		expectGone(t, s, second.ID)
	case "sign everybody out who came from one provider", "sign everybody out":
		expectGone(t, s, first.ID)
	}
}

// What the documentation shows with the default schema are queries of the cookbook.
func TestTheQueriesOfTheDocumentationAreInTheCookbook(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "sessions.md"))
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{}
	for _, q := range cookbook(t, "cookbook.postgres.sql") {
		tested[strings.TrimSpace(q.text)] = true
	}
	shown := strings.Split(string(page), "```sql\n")[1:]
	for _, block := range shown {
		text, _, _ := strings.Cut(block, "```")
		if !tested[strings.TrimSpace(strings.ReplaceAll(text, "authproxy.", "neon_auth."))] {
			t.Errorf("no test runs the query\n%s", text)
		}
	}
	if len(shown) < 12 {
		t.Errorf("the page shows %d queries, want at least 12", len(shown))
	}
}

func TestTheCookbookRunsOnPostgres(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	s := open(t, server.URL(), sqlstore.Options{Schema: "neon_auth"})
	runCookbook(t, s, cookbook(t, "cookbook.postgres.sql"), func(q string) string { return server.Psql(t, q) })
}

func TestTheCookbookRunsOnSQLite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sessions.db")
	s := open(t, "sqlite://"+path, sqlstore.Options{})
	runCookbook(t, s, cookbook(t, "cookbook.sqlite.sql"), func(q string) string {
		return sqlite3(t, ":memory:", "ATTACH '"+path+"' AS neon_auth;\n"+q)
	})
}

func TestRowLevelSecurityShowsEachTheirOwn(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	server.Psql(t, deployed(t, "rls.sql"))
	alice := session.UserID("https://id.example.com", "alice")
	server.Psql(t, `CREATE ROLE authenticated; GRANT USAGE ON SCHEMA auth TO authenticated;
		CREATE TABLE notes (user_id uuid, note text); GRANT SELECT ON notes TO authenticated;
		INSERT INTO notes VALUES ('`+alice+`', 'hers'), (gen_random_uuid(), 'another''s');
		ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON notes USING (user_id = auth.uid());`)
	for _, tt := range []struct{ name, claims, want string }{
		{"her own", `{"sub": "` + alice + `"}`, "hers"},
		{"another person", `{"sub": "00000000-0000-4000-8000-000000000000"}`, ""},
		{"a subject that is no UUID", `{"sub": "auth0|1"}`, ""},
		{"no subject", `{}`, ""},
		{"no claims", ``, ""},
	} {
		got := server.Psql(t, `SET ROLE authenticated; SET request.jwt.claims = '`+tt.claims+`'; SELECT note FROM notes;`)
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := server.Psql(t, `SET ROLE authenticated; SELECT count(*) FROM notes;`); got != "0" {
		t.Errorf("without any claims set: %s rows, want 0", got)
	}
}

func TestTheReportingRoleSeesNoSecret(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	s := open(t, server.URL(), sqlstore.Options{})
	people(t, s)
	server.Psql(t, "CREATE ROLE reporting;\n\\set schema authproxy\n\\set role reporting\n"+deployed(t, "reporting.sql"))
	if got := server.Psql(t, `SET ROLE reporting; SELECT count(*), min(email) FROM (SELECT id, email FROM authproxy.active_session) x`); got != "3|p1@example.com" {
		t.Errorf("active sessions: %q, want 3|p1@example.com", got)
	}
	for _, refused := range []string{
		`SELECT token FROM authproxy.session`, `SELECT * FROM authproxy.session`, `SELECT token FROM authproxy.active_session`,
		`SELECT * FROM authproxy.sessions`, `SELECT * FROM authproxy.session_credential`, `SELECT "refreshToken" FROM authproxy.account`,
		`SELECT * FROM authproxy.jwks`, `DELETE FROM authproxy.session`, `SELECT value FROM authproxy.verification`,
	} {
		psql := exec.Command(servers.Need(t, "psql"), "-X", "-q", server.URL(), "-c", "SET ROLE reporting", "-c", refused)
		if out, _ := psql.CombinedOutput(); !strings.Contains(string(out), "permission denied") {
			t.Errorf("%s: %s, want it refused", refused, out)
		}
	}
}

// deployed returns a file that operators get.
func deployed(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "sql", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheInfiniteTimesOfPostgresAreUnderstood(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	schema := schemaName(t)
	s, o := open(t, server.URL(), sqlstore.Options{Schema: schema}), postgresSchema(server, schema)
	row, later := newRow(1), time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := s.Create(t.Context(), row, nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, statement string
		want            func(r *session.Row) bool
	}{
		{"a ban without an end", `UPDATE @."user" SET banned = true, "banExpires" = 'infinity'`,
			func(r *session.Row) bool { return r.Banned && r.BanExpires.IsZero() }},
		{"a ban that is over", `UPDATE @."user" SET "banExpires" = '-infinity'`,
			func(r *session.Row) bool { return !r.BanExpires.IsZero() && r.BanExpires.Before(r.CreatedAt) }},
		{"no hard end", `UPDATE @.session SET "absoluteExpiresAt" = 'infinity'`,
			func(r *session.Row) bool { return r.AbsoluteExpiresAt.IsZero() && r.End().Equal(r.ExpiresAt) }},
		{"no end at all", `UPDATE @.session SET "expiresAt" = 'infinity'`,
			func(r *session.Row) bool { return later.Before(r.End()) }},
		{"over", `UPDATE @.session SET "expiresAt" = '-infinity'`,
			func(r *session.Row) bool { return !r.End().IsZero() && r.End().Before(r.CreatedAt) }},
	} {
		o.run(t, tt.statement)
		if r, err := s.FindID(t.Context(), row.ID); err != nil || !tt.want(r) {
			t.Errorf("%s: session %+v, error %v", tt.what, r, err)
		}
		if _, err := s.Users(t.Context(), row.User.ID, ""); err != nil {
			t.Errorf("%s: Users: %v", tt.what, err)
		}
	}
	if c, err := s.Touch(t.Context(), row.ID, session.Touch{Now: row.CreatedAt}); err != nil || !c.ExpiresAt.Before(row.CreatedAt) {
		t.Errorf("Touch = %+v, %v", c, err)
	}
}
