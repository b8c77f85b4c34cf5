package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"authproxy/config"
	"authproxy/session"
	"authproxy/session/storetest/servers"
)

// A lateStore does not answer before it is told to.
type lateStore struct {
	session.Store
	up    atomic.Bool
	asked chan struct{}
}

func (s *lateStore) Ping(ctx context.Context) error {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	if !s.up.Load() {
		return session.ErrUnavailable
	}
	return s.Store.Ping(ctx)
}

func (o *office) readiness() (int, string) {
	w := httptest.NewRecorder()
	o.admin.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
	return w.Code, w.Body.String()
}

func TestAReplicaIsReadyOnceTheStoreHasAnswered(t *testing.T) {
	o := newOffice(t, withStore)
	late := &lateStore{Store: o.store, asked: make(chan struct{})}
	o.store = late
	ended := make(chan error)
	go func() { ended <- o.awaitStore(t.Context()) }()
	<-late.asked
	<-late.asked // so the first answer is known
	if code, text := o.readiness(); code != http.StatusServiceUnavailable || !strings.Contains(text, "store") {
		t.Errorf("before the store has answered readyz is %d %q, want 503 that names the store", code, text)
	}
	late.up.Store(true)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if code, text := o.readiness(); code != http.StatusOK {
		t.Errorf("after its first answer readyz is %d %q, want 200", code, text)
	}
	late.up.Store(false)
	if code, text := o.readiness(); code != http.StatusOK {
		t.Errorf("while the store is down later readyz is %d %q, want 200: all replicas would leave at once", code, text)
	}
	if code, _ := newOffice(t, "").readiness(); code != http.StatusOK {
		t.Errorf("without a store readyz is %d, want 200", code)
	}
}

func TestCheckTriesTheStoreAndChangesNothing(t *testing.T) {
	o := newOffice(t, "session: {store: \"STORE\"}\n")
	file := strings.TrimPrefix(o.config.Session.Store, "sqlite:")
	check := func(config string, wantStatus int, want string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "authproxy.yaml")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		o.file = path
		// The provider of the configuration is not there; that is said, too.
		_, out, problems := o.command("check")
		status := 0
		if strings.Contains(problems, "  session.store: ") {
			status = 1
		}
		if status != wantStatus || !strings.Contains(out+problems, want) {
			t.Errorf("got status %d, want %d and %q\n%s%s", status, wantStatus, want, out, problems)
		}
	}
	with := func(store string) string { return adminConfig + "session: {store: \"" + store + "\"}\n" }

	check(with("sqlite:"+file), 0, "the file of the session store is made at start")
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("check made the file of the store: %v", err)
	}
	check(with("sqlite:"+filepath.Join(file, "..", "none", "sessions.db")), 1, "the folder of the file is not there")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check(with("sqlite:"+file), 0, "its tables are brought up to date at start")
	check(with("sqlite:"+file+"\", migrate: \"check"), 1, "start one process with session.migrate: auto")
	if tables := rows(t, file, "SELECT name FROM sqlite_master"); tables != "" {
		t.Errorf("check made tables: %s", tables)
	}
	o.signIn(t, "alice") // makes them
	check(with("sqlite:"+file), 0, "the session store answers, and tells what changes")
	check(with("memory"), 0, "the session store answers, and tells what changes")
}

func TestARedisThatEvictsIsWarnedOf(t *testing.T) {
	server := servers.StartRedis(t)
	for _, tt := range []struct {
		policy string
		warns  bool
	}{{"noeviction", false}, {"allkeys-lru", true}, {"volatile-ttl", true}} {
		server.CLI(t, "CONFIG", "SET", "maxmemory-policy", tt.policy)
		store, err := openStore(t.Context(), config.Session{Store: server.URL()}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		var log, out bytes.Buffer
		a := &app{config: &config.Config{}, store: store, log: slog.New(slog.NewTextHandler(&log, nil))}
		if err := errors.Join(a.checkStore(t.Context(), "auto", &out), a.awaitStore(t.Context())); err != nil {
			t.Fatal(err)
		}
		for where, text := range map[string]string{"check says": out.String(), "the log of the start says": log.String()} {
			if warned := strings.Contains(text, "maxmemory-policy of Redis is "+tt.policy); warned != tt.warns {
				t.Errorf("%s: %s %q, want a warning: %v", tt.policy, where, text, tt.warns)
			}
		}
	}
}

// The keys of a ring that rotates, the newer one last.
const oldKey, newKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="

func TestANewKeySealsTheProvidersTokensInTheStoreAnew(t *testing.T) {
	o := newOffice(t, "session: {store: \"STORE\"}\n")
	file := strings.TrimPrefix(o.config.Session.Store, "sqlite:")
	sealed := func() string {
		return rows(t, file, `SELECT coalesce("refreshToken",'') FROM session_credential`)
	}
	cookies := o.signInWithTokens(t)
	before := sealed()
	if before == "" || strings.Contains(before, "refresh-secret") {
		t.Fatalf("the store holds the refresh token as %q, want it sealed", before)
	}
	o.close()

	rotated := o.withKeys(t, newKey+", "+oldKey)
	go rotated.run(t.Context())
	for begun := time.Now(); sealed() == before; { // until it was done in the background
		if time.Since(begun) > time.Minute {
			t.Fatal("the tokens were not sealed anew within a minute")
		}
	}
	if s, err := rotated.sessions.Lookup(cookies); err != nil || s.Tokens.Refresh != "refresh-secret" {
		t.Errorf("after the rotation: %v, %v; want the session with its token", s, err)
	}
	rotated.close()

	// The old key goes: its cookies end, what is in the store does not.
	after := o.withKeys(t, newKey)
	if n, err := after.sessions.Reseal(t.Context()); n != 0 || err != nil {
		t.Errorf("without the old key Reseal = %d, %v; want nothing left that is sealed with it", n, err)
	}
	if _, err := after.sessions.Lookup(cookies); !errors.Is(err, session.ErrNone) {
		t.Errorf("a cookie of the key that is gone: %v, want none", err)
	}
}

// signInWithTokens starts a session with a refresh token and returns a request of
// its browser.
func (o *office) signInWithTokens(t *testing.T) *http.Request {
	t.Helper()
	rec, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	s := &session.Session{
		User:   session.User{Provider: "corp", Issuer: "http://127.0.0.1:9", Subject: "1", Email: "alice@example.com", EmailVerified: true},
		Tokens: session.Tokens{Refresh: "refresh-secret"},
	}
	if _, err := o.sessions.Start(rec, r, s); err != nil {
		t.Fatal(err)
	}
	for _, c := range rec.Result().Cookies() {
		r.AddCookie(c)
	}
	return r
}

// withKeys returns a server on the same store with other keys.
func (o *office) withKeys(t *testing.T, keys string) *app {
	t.Helper()
	text, err := os.ReadFile(o.file)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "authproxy.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), oldKey, keys, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := load(environment{args: []string{"--config", file}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := build(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	return a
}
