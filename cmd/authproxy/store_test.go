package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"authproxy/session"
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
