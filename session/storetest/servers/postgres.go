package servers

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A Postgres is a PostgreSQL server with one superuser, who needs a password.
type Postgres struct {
	// Addr is where it listens, host and port, and Database the one that URL and
	// Psql mean.
	Addr, Database string

	bin, dir string
	args     []string
	process  *exec.Cmd
	exited   chan struct{}
	log      *os.File
}

// Name and password of the superuser.
const (
	PostgresUser     = "authproxy"
	PostgresPassword = "s3cret-pa55word"
)

// StartPostgres starts a server that is stopped when the test ends, with further
// arguments as postgres takes them. It needs initdb and postgres, which Debian
// keeps outside PATH.
func StartPostgres(t testing.TB, args ...string) *Postgres {
	t.Helper()
	p := &Postgres{bin: postgresBin(t), Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t))), Database: "postgres", args: args}
	dir, err := os.MkdirTemp("", "authproxy-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p.dir = filepath.Join(dir, "data")
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.log.Close() })
	p.initialize(t, dir)
	p.Start(t)
	t.Cleanup(func() { p.stop(t, syscall.SIGQUIT) })
	return p
}

// postgresBin returns the folder of the newest server on this machine. What is
// on PATH may be a wrapper of one program.
func postgresBin(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is right
	if path, err := exec.LookPath("postgres"); err == nil && len(found) == 0 {
		found = []string{path}
	}
	if len(found) == 0 {
		missing(t, "PostgreSQL is not installed on this machine")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1])
}

// initialize makes the files of an empty server.
func (p *Postgres) initialize(t testing.TB, dir string) {
	t.Helper()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(PostgresPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	initdb := p.command(t, "initdb", "--pgdata", p.dir, "--username", PostgresUser, "--pwfile", password,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")
	if a := initdb.SysProcAttr; a != nil {
		for _, path := range []string{dir, password} {
			if err := os.Chown(path, int(a.Credential.Uid), int(a.Credential.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
}

// command returns a command of the server's, run by somebody else if we are
// root, whom it does not serve.
func (p *Postgres) command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir = "/"
	if os.Geteuid() != 0 {
		return cmd
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32) // numbers on every Unix
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		return cmd
	}
	missing(t, "there is neither a user postgres nor nobody, as whom root could start PostgreSQL")
	return nil
}

// Standby starts a server that follows p, and is stopped when the test ends.
func (p *Postgres) Standby(t testing.TB) *Postgres {
	t.Helper()
	dir, err := os.MkdirTemp("", "authproxy-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Postgres{bin: p.bin, dir: filepath.Join(dir, "data"), Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t))), Database: p.Database, log: p.log}
	backup := p.command(t, "pg_basebackup", "--pgdata", s.dir, "--write-recovery-conf", "--checkpoint", "fast", "--no-sync", "--dbname", p.URL())
	if a := backup.SysProcAttr; a != nil {
		if err := os.Chown(dir, int(a.Credential.Uid), int(a.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	s.Start(t)
	t.Cleanup(func() { s.stop(t, syscall.SIGQUIT) })
	return s
}

// Start starts the server again and waits until it answers.
func (p *Postgres) Start(t testing.TB) {
	t.Helper()
	host, port, _ := net.SplitHostPort(p.Addr)
	p.process = p.command(t, "postgres", append([]string{"-D", p.dir, "-h", host, "-p", port,
		"-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "log_min_messages=warning"}, p.args...)...)
	p.process.Stdout, p.process.Stderr = p.log, p.log
	if err := p.process.Start(); err != nil {
		t.Fatal(err)
	}
	process, exited := p.process, make(chan struct{})
	p.exited = exited
	go func() {
		_ = process.Wait() // it is told how to end
		close(exited)
	}()
	eventually(t, "PostgreSQL starts", func() error {
		out, err := exec.Command(filepath.Join(p.bin, "pg_isready"), "-q", "-h", host, "-p", port).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w %s", err, out)
		}
		return nil
	})
}

// Stop ends the server as an administrator does: sessions are cut, nothing is
// lost.
func (p *Postgres) Stop(t testing.TB) { p.stop(t, syscall.SIGINT) }

// Kill ends the server as a crash does.
func (p *Postgres) Kill(t testing.TB) { p.stop(t, syscall.SIGQUIT) }

// Restart stops the server and starts it again.
func (p *Postgres) Restart(t testing.TB) {
	t.Helper()
	p.Stop(t)
	p.Start(t)
}

func (p *Postgres) stop(t testing.TB, signal syscall.Signal) {
	t.Helper()
	_ = p.process.Process.Signal(signal) // it may have ended
	<-p.exited
}

// A SharedPostgres is one server for all tests of a package that leave it as it is,
// because to make one takes a second and more. The zero value starts it for the
// first of them, and TestMain stops it.
type SharedPostgres struct {
	mu       sync.Mutex
	server   *Postgres
	cleanups []func()
}

// Database returns the server with a database that is empty.
func (s *SharedPostgres) Database(t testing.TB) *Postgres {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		s.server = StartPostgres(outlived{t, s}, "-c", "fsync=off")
	}
	own := *s.server
	own.Database = "test_" + strings.ToLower(rand.Text())
	s.server.Psql(t, `CREATE DATABASE `+own.Database)
	return &own
}

// Stop stops the server if it was started.
func (s *SharedPostgres) Stop() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}

// An outlived is the test that starts what others go on using.
type outlived struct {
	testing.TB
	by *SharedPostgres
}

func (o outlived) Cleanup(f func()) { o.by.cleanups = append(o.by.cleanups, f) }

// URL returns the address of the database.
func (p *Postgres) URL() string { return p.URLAt(p.Addr) }

// URLAt returns the address of the database by another way, as of a [Link].
func (p *Postgres) URLAt(addr string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(PostgresUser, PostgresPassword), Host: addr, Path: "/" + p.Database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Psql runs statements with psql, as an operator does, and returns what it
// prints: a line for each row, with | between the columns.
func (p *Postgres) Psql(t testing.TB, statements string) string {
	t.Helper()
	psql := exec.Command(Need(t, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", p.URL())
	psql.Stdin = strings.NewReader(statements)
	var out, stderr bytes.Buffer
	psql.Stdout, psql.Stderr = &out, &stderr
	if err := psql.Run(); err != nil {
		t.Fatalf("psql: %v: %s\n%s", err, &stderr, statements)
	}
	return strings.TrimSpace(out.String())
}
