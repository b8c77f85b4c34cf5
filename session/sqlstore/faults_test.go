package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/sqlstore"
	"authproxy/session/storetest"
	"authproxy/session/storetest/servers"
)

// patience bounds what a test waits for.
const patience = 30 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

func expectGone(t testing.TB, s *sqlstore.Store, id string) {
	t.Helper()
	if _, err := s.FindID(t.Context(), id); !errors.Is(err, session.ErrNone) {
		t.Errorf("FindID: error %v, want ErrNone", err)
	}
}

// A watcher collects what a store tells.
type watcher struct {
	ended chan error

	mu   sync.Mutex
	told []session.Change
}

// watch returns once the first change was told.
func watch(t testing.TB, s *sqlstore.Store) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w := &watcher{ended: make(chan error, 1)}
	go func() {
		w.ended <- s.Watch(ctx, func(c session.Change) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, c)
		})
	}()
	eventually(t, "the first change is told", func() bool { return len(w.since(0)) > 0 })
	return w
}

// end waits until the watch has ended and returns why.
func (w *watcher) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(patience):
		t.Fatal("the watch goes on")
		return nil
	}
}

func (w *watcher) since(mark int) []session.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told[mark:len(w.told):len(w.told)]
}

// settle waits until all that was committed so far was told, and returns how
// much that is.
func (w *watcher) settle(t testing.TB) int {
	t.Helper()
	now := time.Now()
	eventually(t, "as-of moves on", func() bool {
		told := w.since(0)
		return told[len(told)-1].AsOf.After(now)
	})
	return len(w.since(0))
}

// changes returns what was told since mark, all together.
func (w *watcher) changes(t testing.TB, mark int) session.Change {
	t.Helper()
	w.settle(t)
	var sum session.Change
	for _, c := range w.since(mark) {
		sum.All = sum.All || c.All
		sum.Sessions, sum.Users = append(sum.Sessions, c.Sessions...), append(sum.Users, c.Users...)
	}
	return sum
}

func TestARestartOfPostgresIsRiddenOut(t *testing.T) {
	t.Parallel()
	server := servers.StartPostgres(t)
	s := open(t, server.URL(), sqlstore.Options{})
	first, _ := people(t, s)
	w := watch(t, s)
	for what, restart := range map[string]func(){
		"stopped": func() { server.Restart(t) },
		"crashed": func() { server.Kill(t); server.Start(t) },
	} {
		restart()
		if got, err := s.FindID(t.Context(), first.ID); err != nil || got.ID != first.ID {
			t.Errorf("%s: the first read after it: %v", what, err)
		}
		if err := s.Create(t.Context(), newRow(3), nil); err != nil {
			t.Errorf("%s: a sign-in after it: %v", what, err)
		}
	}
	if err := w.end(t); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Watch: error %v, want ErrUnavailable", err)
	}
	server.Stop(t)
	if _, err := s.FindID(t.Context(), first.ID); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("without a server: error %v, want ErrUnavailable", err)
	}
}

func TestACutConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	link := servers.NewLink(t, server.Addr)
	s := open(t, server.URLAt(link.Addr), sqlstore.Options{})
	first, _ := people(t, s)
	for range 3 {
		for what, call := range map[string]func() error{
			"a read":    func() error { _, err := s.FindID(t.Context(), first.ID); return err },
			"a sign-in": func() error { return s.Create(t.Context(), newRow(3), nil) },
		} {
			if err := s.Ping(t.Context()); err != nil { // a connection is idle
				t.Fatal(err)
			}
			link.Cut()
			link.Heal()
			if err := call(); err != nil {
				t.Errorf("%s after a cut: %v", what, err)
			}
		}
	}
}

func TestAKilledConnectionEndsTheWatch(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	for _, which := range []string{"LISTEN %", "SELECT pg_notify%"} {
		w := watch(t, open(t, server.URL(), sqlstore.Options{}))
		eventually(t, "there is a connection", func() bool {
			return server.Psql(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '`+which+`' AND datname = current_database() AND pid <> pg_backend_pid()`) == "t"
		})
		if err := w.end(t); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s: error %v, want ErrUnavailable", which, err)
		}
	}
}

func TestAFrozenNetworkStopsAsOfAndEndsTheWatch(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	for what, urls := range map[string]func(link string) (url, listen string){
		"both ways":  func(link string) (string, string) { return server.URLAt(link), "" },
		"the LISTEN": func(link string) (string, string) { return server.URL(), server.URLAt(link) },
		"the main":   func(link string) (string, string) { return server.URLAt(link), server.URL() },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			link := servers.NewLink(t, server.Addr)
			url, listen := urls(link.Addr)
			w := watch(t, open(t, url, sqlstore.Options{ListenURL: listen}))
			w.settle(t)
			link.Freeze()
			frozen := time.Now()
			err := w.end(t)
			if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "session.listen_url") {
				t.Errorf("error %v, want ErrUnavailable and what may help", err)
			}
			told := w.since(0)
			if last := told[len(told)-1].AsOf; last.After(frozen) {
				t.Errorf("as of %v, after it froze at %v", last, frozen)
			}
		})
	}
}

func TestListeningInAnotherDatabaseIsNoticed(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	w := watch(t, open(t, server.URL(), sqlstore.Options{ListenURL: strings.Replace(server.URL(), "/"+server.Database+"?", "/postgres?", 1)}))
	if err := w.end(t); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Watch: error %v, want ErrUnavailable", err)
	}
	for i, c := range w.since(0) {
		if i > 0 {
			t.Errorf("told %+v, want nothing after the first", c)
		}
	}
}

func TestAStandbyIsNeverAsked(t *testing.T) {
	t.Parallel()
	primary := servers.StartPostgres(t)
	schema := schemaName(t)
	r := newRow(1)
	if err := open(t, primary.URL(), sqlstore.Options{Schema: schema}).Create(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	standby := primary.Standby(t)
	standby.Psql(t, "SELECT pg_wal_replay_pause()") // what it has grows old
	for _, attrs := range []string{"", "any", "prefer-standby", "read-write"} {
		suffix := "&target_session_attrs=" + attrs
		if attrs == "" {
			suffix = ""
		}
		both := open(t, primary.URLAt(standby.Addr+","+primary.Addr)+suffix, sqlstore.Options{Schema: schema})
		late := newRow(2)
		if err := both.Create(t.Context(), late, nil); err != nil {
			t.Fatalf("%q: Create: %v", attrs, err)
		}
		if _, err := both.Find(t.Context(), late.Token); err != nil {
			t.Errorf("%q: a session that the standby does not have yet: error %v, want none", attrs, err)
		}
		alone := open(t, primary.URLAt(standby.Addr)+suffix, sqlstore.Options{Schema: schema})
		if _, err := alone.Find(t.Context(), r.Token); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%q: asked of the standby alone: error %v, want ErrUnavailable", attrs, err)
		}
	}
}

func TestOperatorsAreHeard(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	schema := schemaName(t)
	servers.Need(t, "sqlite3")
	url, lite := sqliteFile(t)
	for _, b := range []struct {
		name string
		s    *sqlstore.Store
		operator
	}{
		{"SQLite", open(t, url, sqlstore.Options{}), lite},
		{"PostgreSQL", open(t, server.URL(), sqlstore.Options{Schema: schema}), postgresSchema(server, schema)},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			hearOperator(t, b.s, b.operator)
		})
	}
}

func hearOperator(t *testing.T, s *sqlstore.Store, o operator) {
	w := watch(t, s)
	for _, tt := range []struct {
		name, statement string
		session, user   bool // told
	}{
		{"data", `UPDATE @.session SET data = '{"a": 1}' WHERE id = 'SID'`, true, false},
		{"the hard end", `UPDATE @.session SET "absoluteExpiresAt" = ` + o.past + ` WHERE id = 'SID'`, true, false},
		{"seen earlier", `UPDATE @.session SET "lastSeenAt" = ` + o.past + ` WHERE id = 'SID'`, true, false},
		{"another hash", `UPDATE @.session SET token = 'x' WHERE id = 'SID'`, true, false},
		{"another id", `DELETE FROM @.session_credential WHERE "sessionId" = 'SID'; UPDATE @.session SET id = '00000000-0000-4000-8000-000000000000' WHERE id = 'SID'; DELETE FROM @.session WHERE id = '00000000-0000-4000-8000-000000000000'`, true, false},
		{"the provider's tokens", `UPDATE @.session_credential SET "refreshToken" = NULL WHERE "sessionId" = 'SID'`, true, false},
		{"the account", `DELETE FROM @.account WHERE "userId" = 'UID'`, true, false},
		{"the person", `DELETE FROM @."user" WHERE id = 'UID'`, true, true},
		{"the address", `UPDATE @."user" SET email = 'new@example.com' WHERE id = 'UID'`, false, true},
		{"nothing", `UPDATE @.session SET data = data WHERE id = 'SID'; UPDATE @."user" SET role = role WHERE id = 'UID'`, false, false},
		{"a sign-in's time", `UPDATE @."user" SET "lastSignInAt" = ` + o.past + ` WHERE id = 'UID'`, false, false},
		{"a lock", `UPDATE @.session_credential SET "refreshLockUntil" = ` + o.past + ` WHERE "sessionId" = 'SID'`, false, false},
		{"another key's seal", `UPDATE @.session_credential SET "refreshToken" = 'resealed' WHERE "sessionId" = 'SID'`, false, false},
	} {
		r := newRow(1)
		if err := s.Create(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
		mark := w.settle(t)
		o.run(t, strings.NewReplacer("SID", r.ID, "UID", r.User.ID).Replace(tt.statement))
		got := w.changes(t, mark)
		told := fmt.Sprint(got.All, strings.Contains(fmt.Sprint(got.Sessions), r.ID), strings.Contains(fmt.Sprint(got.Users), r.User.ID))
		if want := fmt.Sprint(false, tt.session, tt.user); told != want {
			t.Errorf("%s: told all, the session, the user: %s, want %s", tt.name, told, want)
		}
		if strings.HasPrefix(tt.statement, "DELETE") {
			expectGone(t, s, r.ID)
		}
		if _, err := s.Delete(t.Context(), session.Selection{All: true}); err != nil {
			t.Fatal(err)
		}
	}
	sweepQuietly(t, s, w)
	tellMany(t, s, w, o)
}

// sweepQuietly checks that what was over before is swept without a word, and
// that the quiet ends with the sweep.
func sweepQuietly(t *testing.T, s *sqlstore.Store, w *watcher) {
	t.Helper()
	over, live := newRow(5), newRow(6)
	over.ExpiresAt = over.CreatedAt
	for _, r := range []*session.Row{over, live} {
		if err := s.Create(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
	}
	mark := w.settle(t)
	if n, err := s.Sweep(t.Context(), time.Now(), time.Time{}, 1000); n != 1 || err != nil {
		t.Fatalf("Sweep = %d, %v, want 1", n, err)
	}
	if got := w.changes(t, mark); got.All || len(got.Sessions) > 0 {
		t.Errorf("a sweep was told: %+v", got)
	}
	if _, err := s.Delete(t.Context(), session.Selection{ID: live.ID}); err != nil {
		t.Fatal(err)
	}
	if got := w.changes(t, mark); len(got.Sessions) != 1 || got.Sessions[0] != live.ID {
		t.Errorf("a deletion after a sweep: told %+v, want %s", got, live.ID)
	}
}

// tellMany checks that too many to name are told as everything.
func tellMany(t *testing.T, s *sqlstore.Store, w *watcher, o operator) {
	t.Helper()
	for _, n := range []int{100, 101, 1500} {
		values := make([]string, n)
		for i := range n {
			values[i] = fmt.Sprintf(`('00000000-0000-4000-8000-%012d', 'hash %d', `, i, i)
		}
		r := newRow(1)
		if err := s.Create(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Delete(t.Context(), session.Selection{ID: r.ID}); err != nil {
			t.Fatal(err)
		}
		rest := fmt.Sprintf(`'%s', %s, %s, 'corp', '%s', '%s')`, r.User.ID, o.past, o.past, r.User.Issuer, r.User.Subject)
		o.run(t, `INSERT INTO @.session (id, token, "userId", "expiresAt", "absoluteExpiresAt", "providerId", issuer, subject) VALUES `+strings.Join(values, rest+",\n")+rest)
		mark := w.settle(t)
		o.run(t, `DELETE FROM @.session`)
		if got := w.changes(t, mark); got.All != (n > 100) || !got.All && len(got.Sessions) != n {
			t.Errorf("%d deletions: told all %v, and %d by name", n, got.All, len(got.Sessions))
		}
	}
}

func TestMissingRowsOfChangesAreNoticed(t *testing.T) {
	t.Parallel()
	servers.Need(t, "sqlite3")
	url, o := sqliteFile(t)
	s := open(t, url, sqlstore.Options{})
	_, r := people(t, s)
	w := watch(t, s)
	mark := w.settle(t)
	o.run(t, `BEGIN; DELETE FROM session WHERE id = '`+r.ID+`'; DELETE FROM session_change; COMMIT`)
	if got := w.changes(t, mark); !got.All {
		t.Errorf("told %+v, want all", got)
	}
}

func TestADatabaseThatIsDownAtTheStart(t *testing.T) {
	t.Parallel()
	server := servers.StartPostgres(t)
	server.Stop(t)
	s := open(t, server.URL(), sqlstore.Options{})
	if err := s.Ping(t.Context()); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Ping: error %v, want ErrUnavailable", err)
	}
	server.Start(t)
	eventually(t, "the store answers", func() bool { return s.Ping(t.Context()) == nil })

	url := "sqlite://" + t.TempDir() + "/later/sessions.db"
	lite := open(t, url, sqlstore.Options{})
	if err := lite.Ping(t.Context()); !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "folder") {
		t.Errorf("Ping: error %v, want ErrUnavailable and a word about the folder", err)
	}
	if err := os.Mkdir(strings.TrimSuffix(strings.TrimPrefix(url, "sqlite://"), "/sessions.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store answers", func() bool { return lite.Ping(t.Context()) == nil })
}

func TestTheFileIsItsOwnersOnly(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/sessions.db"
	if err := open(t, "sqlite://"+path, sqlstore.Options{}).Create(t.Context(), newRow(1), nil); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %v, want -rw-------", file, got)
		}
	}
}

func TestAddressesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	const secret = "t0p-secret"
	for _, tt := range []struct{ name, url, listen string }{
		{"another scheme", "mysql://u:" + secret + "@h/db", ""},
		{"no scheme", secret, ""},
		{"a port that is none", "postgres://u:" + secret + "@h:port/db", ""},
		{"a password that breaks the URL", "postgres://u:" + secret + "%zz@h/db", ""},
		{"a control character", "postgres://u:" + secret + "\x7f@h/db", ""},
		{"an unknown sslmode", "postgres://u:" + secret + "@h/db?sslmode=" + secret, ""},
		{"a certificate that is not there", "postgres://u:" + secret + "@h/db?sslrootcert=/none/" + secret, ""},
		{"a password in the query", "postgres://h/db?password=" + secret + "&sslmode=x", ""},
		{"LISTEN elsewhere", "postgres://u@h/db", "redis://:" + secret + "@h"},
		{"LISTEN that cannot be read", "postgres://u@h/db", "postgres://u:" + secret + "@h:port/db"},
		{"two slashes", "sqlite://" + secret + ".db", ""},
		{"a folder", "sqlite:///tmp/" + secret + "/", ""},
		{"settings", "sqlite:///tmp/x.db?_pragma=" + secret, ""},
		{"nothing", "sqlite:", ""},
	} {
		_, err := sqlstore.Open(t.Context(), tt.url, sqlstore.Options{ListenURL: tt.listen})
		if !errors.Is(err, sqlstore.ErrURL) {
			t.Errorf("%s: error %v, want ErrURL", tt.name, err)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error holds the secret: %v", tt.name, err)
		}
	}
}

func TestNoErrorOrLogHoldsThePassword(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	const wrong = "wr0ng p@ss"
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for what, url := range map[string]string{
		"a wrong password":     strings.Replace(server.URL(), servers.PostgresPassword, "wr0ng%20p%40ss", 1),
		"nobody there":         "postgres://u:wr0ng%20p%40ss@127.0.0.1:1/db",
		"a name of no host":    "postgres://u:wr0ng%20p%40ss@host.invalid/db",
		"no such database":     strings.Replace(server.URL(), "/"+server.Database+"?", "/"+servers.PostgresPassword+"?", 1),
		"the password as user": strings.Replace(server.URL(), servers.PostgresUser+":"+servers.PostgresPassword, "wr0ng%20p%40ss:wr0ng%20p%40ss", 1),
	} {
		s := open(t, url, sqlstore.Options{Log: logger})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for _, err := range []error{s.Ping(ctx), s.Watch(ctx, func(session.Change) {})} {
			if !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("%s: error %v, want ErrUnavailable", what, err)
				continue
			}
			for _, secret := range []string{wrong, "wr0ng%20p%40ss", servers.PostgresPassword} {
				if strings.Contains(err.Error(), secret) || strings.Contains(log.String(), secret) {
					t.Errorf("%s: the password is in %q or in the log %q", what, err, log.String())
				}
			}
		}
		cancel()
	}
}

func TestOptionsThatContradict(t *testing.T) {
	t.Parallel()
	for _, opts := range []sqlstore.Options{{Migrate: "yes"}, {Schema: "pg_x"}, {Schema: "a\x00b"}, {Schema: strings.Repeat("x", 64)}} {
		if _, err := sqlstore.Open(t.Context(), "sqlite:x.db", opts); err == nil || !strings.Contains(err.Error(), "session.") {
			t.Errorf("%+v: error %v, want one that names the setting", opts, err)
		}
	}
}

// A file is turned to WAL mode by whoever opens it first. SQLite does not wait there
// for another who does it, or who writes.
func TestASQLiteFileThatSomebodyWritesIsWaitedFor(t *testing.T) {
	t.Parallel()
	address, _ := sqliteFile(t)
	path, err := url.PathUnescape(strings.TrimPrefix(address, "sqlite://"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path}).String()+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	writes, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}

	s := open(t, address, sqlstore.Options{})
	answer := make(chan error, 1)
	go func() { answer <- s.Ping(t.Context()) }()
	select {
	case err := <-answer:
		t.Fatalf("the store answers %v while somebody writes", err)
	case <-time.After(300 * time.Millisecond):
	}
	if err := writes.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Errorf("the store does not answer although nobody writes any more: %v", err)
	}
}

// An operator puts a backup in the place of the file, and works on with that.
func TestAFileThatWasReplacedIsOpenedAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "sessions.db"), filepath.Join(dir, "backup.db")
	s := open(t, "sqlite://"+path, sqlstore.Options{})
	first, second := people(t, s)
	w := watch(t, s)
	sqlite3(t, path, "VACUUM INTO '"+backup+"'")
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		if err := os.Rename(file, file+".old"); err != nil {
			t.Fatal(err)
		}
	}
	taken := time.Now()
	if err := w.end(t); !errors.Is(err, session.ErrUnavailable) || w.since(0)[len(w.since(0))-1].AsOf.After(taken.Add(time.Second)) {
		t.Errorf("the watch of a file that was taken away ended with %v, want ErrUnavailable, and as-of to stand still", err)
	}
	if err := s.Create(t.Context(), newRow(3), nil); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a sign-in while there is no file: error %v, want ErrUnavailable", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat: %v, want no file to stand where a backup is about to be put", err)
	}

	if err := os.Rename(backup, path); err != nil {
		t.Fatal(err)
	}
	sqlite3(t, path, `DELETE FROM session WHERE id = '`+first.ID+`'`)
	eventually(t, "the new file is opened", func() bool { return s.Ping(t.Context()) == nil })
	expectGone(t, s, first.ID)
	if _, err := s.FindID(t.Context(), second.ID); err != nil {
		t.Errorf("a session that is in the new file: %v", err)
	}
	if !watch(t, s).since(0)[0].All {
		t.Error("the watch of the new file does not begin with everything")
	}
	third := newRow(3)
	if err := s.Create(t.Context(), third, nil); err != nil {
		t.Fatal(err)
	}
	if got := sqlite3(t, path, `SELECT count(*) FROM session WHERE id = '`+third.ID+`'`); got != "1" {
		t.Error("a sign-in that was acknowledged is not in the new file")
	}
}

// Between the old file and the new one there need not be a moment without any.
func TestAFileThatWasReplacedInOneStepIsNoticed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "sessions.db"), filepath.Join(dir, "backup.db")
	m := storetest.Start(t, storetest.Config(t, open(t, "sqlite://"+path, sqlstore.Options{})))
	var b storetest.Browser
	b.SignIn(t, m, newRow(1).User, session.Tokens{})
	eventually(t, "the manager hears", m.Hears)
	sqlite3(t, path, "VACUUM INTO '"+backup+"'")
	for _, suffix := range []string{"-wal", "-shm"} { // a log of the old file is none of the new one
		if err := os.Rename(path+suffix, path+suffix+".old"); err != nil {
			t.Fatal(err)
		}
	}
	sqlite3(t, backup, "DELETE FROM session")
	if err := os.Rename(backup, path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session has ended", func() bool { _, err := m.Lookup(b.Request()); return errors.Is(err, session.ErrNone) })
}

// pingOnce is the argument that makes this test binary a process that opens a store
// and asks it once.
const pingOnce = "ping-once"

func TestProcessesThatMigrateAtOnceAgree(t *testing.T) {
	t.Parallel()
	server := sqlstore.Shared.Database(t)
	servers.Need(t, "sqlite3")
	migrateAtOnce(t, "PostgreSQL", server.URL(), postgresSchema(server, "authproxy"))
	for range 3 { // a new file is a matter of a moment
		url, o := sqliteFile(t)
		migrateAtOnce(t, "SQLite", url, o)
	}
}

// migrateAtOnce lets four processes use a database that is empty.
func migrateAtOnce(t *testing.T, name, url string, o operator) {
	t.Helper()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if out, err := exec.Command(os.Args[0], pingOnce, url).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", name, err, out)
			}
		})
	}
	wg.Wait()
	if got := o.run(t, `SELECT version FROM @.schema_version ORDER BY 1`); got != "1\n2" {
		t.Errorf("%s: versions %q, want 1 and 2", name, got)
	}
}

// ping returns the exit code of a process that pings the store at url.
func ping(url string) int {
	s, err := sqlstore.Open(context.Background(), url, sqlstore.Options{Log: quiet()})
	if err == nil {
		err = s.Ping(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// SQLite fires no DELETE trigger for a row that REPLACE removes (INSERT, "REPLACE").
func TestARowThatIsReplacedInSQLiteIsTold(t *testing.T) {
	t.Parallel()
	servers.Need(t, "sqlite3")
	url, o := sqliteFile(t)
	s := open(t, url, sqlstore.Options{})
	r := newRow(1)
	if err := s.Create(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	w := watch(t, s)
	mark := w.settle(t)
	if err := s.Create(t.Context(), newRow(1), nil); err != nil {
		t.Fatal(err)
	}
	if got := w.changes(t, mark); got.All || len(got.Sessions)+len(got.Users) > 0 {
		t.Errorf("a second sign-in, which changes nobody, was told as %+v", got)
	}
	for _, tt := range []struct {
		name, statement string
		session, user   bool // told
	}{
		{"a session", `REPLACE INTO session SELECT * FROM session`, true, false},
		{"a session, by its token", `INSERT OR REPLACE INTO session (id, token, "userId", "expiresAt", "absoluteExpiresAt", issuer, subject)
			SELECT '00000000-0000-4000-8000-000000000000', token, "userId", "expiresAt", "absoluteExpiresAt", issuer, subject FROM session WHERE id = 'SID'`, true, false},
		{"credentials", `REPLACE INTO session_credential SELECT * FROM session_credential WHERE "sessionId" = 'SID'`, true, false},
		{"a person", `REPLACE INTO "user" (id, banned) SELECT id, 1 FROM "user"`, false, true},
	} {
		mark := w.settle(t)
		o.run(t, strings.ReplaceAll(tt.statement, "SID", r.ID))
		got := w.changes(t, mark)
		if told := got.All || strings.Contains(fmt.Sprint(got.Sessions), r.ID); told != tt.session {
			t.Errorf("%s: the session was told %v, want %v", tt.name, told, tt.session)
		}
		if told := got.All || strings.Contains(fmt.Sprint(got.Users), r.User.ID); told != tt.user {
			t.Errorf("%s: the person was told %v, want %v", tt.name, told, tt.user)
		}
	}
}
