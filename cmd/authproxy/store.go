package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

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
		store, err = redisstore.Open(ctx, s.Store, redisstore.Options{Prefix: s.Schema, Timeout: s.StoreTimeout, Log: log})
	default:
		return nil, fmt.Errorf("session.store: there is no store of the kind %s; use cookie, memory, or a URL of sqlite, postgres, redis or rediss", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("session.store: %w", err)
	}
	return store, nil
}
