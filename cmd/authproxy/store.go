package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"authproxy/config"
	"authproxy/session"
	"authproxy/session/memstore"
	"authproxy/session/redisstore"
	"authproxy/session/sqlstore"
)

// openStore returns the store that session.store names, nil for sessions in
// cookies. It asks nobody: a store that does not answer yet is asked again. An
// error names the setting and never the address, which may hold a password.
func openStore(ctx context.Context, s config.Session, log *slog.Logger) (store session.Store, err error) {
	kind, _, _ := strings.Cut(s.Store, ":")
	switch transport, _, _ := strings.Cut(kind, "+"); transport {
	case "cookie":
		return nil, nil
	case "memory":
		return memstore.New(nil), nil
	case "sqlite", "postgres", "postgresql":
		store, err = sqlstore.Open(ctx, s.Store, sqlstore.Options{Schema: s.Schema, Migrate: s.Migrate, ListenURL: s.ListenURL, Log: log})
	case "redis", "rediss":
		store, err = redisstore.Open(ctx, s.Store, redisstore.Options{Prefix: s.Schema, Timeout: s.StoreTimeout, WaitReplicas: s.RedisReplicas, Log: log})
	default:
		return nil, fmt.Errorf("session.store: there is no store of the kind %s; use cookie, memory, or a URL of sqlite, postgres, redis or rediss", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("session.store: %w", err)
	}
	return store, nil
}

const (
	// askTimeout is how long one question to the store may take, and askAgain the
	// pause before the next.
	askTimeout, askAgain = 5 * time.Second, 100 * time.Millisecond
	// checkTimeout is how long the check command asks.
	checkTimeout = 10 * time.Second
)

// awaitStore asks the store until it answers once, or ctx ends.
func (a *app) awaitStore(ctx context.Context) error {
	if a.store == nil {
		return nil
	}
	err := askStore(ctx, a.store, func(error) bool { return false })
	a.storeSeen.Store(err == nil)
	if warning := a.storeWarning(ctx); warning != "" {
		a.log.WarnContext(ctx, "the session store may lose what it should keep", "problem", warning)
	}
	return err
}

// askStore asks store until it answers or ctx ends, or fails in a way that final
// says will not pass.
func askStore(ctx context.Context, store session.Store, final func(error) bool) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, askTimeout)
		err := store.Ping(attempt)
		cancel()
		if err == nil || final(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(askAgain):
		}
	}
}

// checkStore says whether the store can be used, and changes nothing in it: a is
// built with session.migrate: check. With mode, the one that is configured,
// tables may be left to be made at start.
func (a *app) checkStore(ctx context.Context, mode string, out io.Writer) error {
	if a.store == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if made, err := a.checkFile(out); made || err != nil {
		return err
	}
	wrongTables := func(err error) bool { return errors.Is(err, sqlstore.ErrSchema) }
	err := askStore(ctx, a.store, wrongTables)
	switch {
	case wrongTables(err) && mode == "auto":
		_, err := fmt.Fprintln(out, "the session store answers; its tables are brought up to date at start")
		return err
	case err != nil:
		return fmt.Errorf("session.store: %w\n(check the address, the password and that this machine may connect; "+
			"the program would start all the same, answer 503 where a session is needed, and try again; --offline leaves this out)", err)
	}
	if err := a.hears(ctx); err != nil {
		return fmt.Errorf("session.store: it answers, but does not tell what changes, so that each check of a session would ask it: %w\n"+
			"(PostgreSQL behind a pooler needs session.listen_url, a direct connection; Redis needs version 6 or newer, and the right to CLIENT TRACKING)", err)
	}
	if warning := a.storeWarning(ctx); warning != "" {
		fmt.Fprintln(out, "warning: session.store:", warning)
	}
	_, err = fmt.Fprintln(out, "the session store answers, and tells what changes")
	return err
}

// storeWarning says what is wrong with the settings of the store's server, "" if
// nothing is known to be.
func (a *app) storeWarning(ctx context.Context) string {
	redis, ok := a.store.(*redisstore.Store)
	if !ok {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	policy, err := redis.EvictionPolicy(ctx)
	if err != nil || policy == "" || policy == "noeviction" {
		return ""
	}
	return "maxmemory-policy of Redis is " + policy + "; set it to noeviction: a key that is evicted is a session that has ended, or a ban that is forgotten"
}

// checkFile is [app.checkStore] for a SQLite file that is not there yet, and so is
// to be made at start. It says whether that is so.
func (a *app) checkFile(out io.Writer) (made bool, err error) {
	path, isFile := strings.CutPrefix(a.config.Session.Store, "sqlite:")
	path, _, _ = strings.Cut(strings.TrimPrefix(path, "//"), "?")
	if !isFile {
		return false, nil
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return false, nil // whatever it is, the store says it better
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return false, fmt.Errorf("session.store: the folder of the file is not there: %w; make it, writable for the program alone", err)
	}
	_, err = fmt.Fprintln(out, "the file of the session store is made at start")
	return true, err
}

// hears returns nil once the store has told something through the channel by
// which it tells changes: first that there may be some, then how far that reaches.
func (a *app) hears(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := 0
	err := a.store.Watch(ctx, func(session.Change) {
		if told++; told == 2 {
			cancel()
		}
	})
	if told >= 2 {
		return nil
	}
	return err
}
