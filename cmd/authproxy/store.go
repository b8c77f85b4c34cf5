package main

import (
	"fmt"
	"log/slog"
	"strings"

	"authproxy/config"
	"authproxy/session"
	"authproxy/session/memstore"
)

// openStore returns the store that session.store names, nil for sessions in
// cookies. It asks nobody: a store that does not answer yet is asked again. An
// error names the kind of the store, never its address, which may hold a
// password.
func openStore(s config.Session, _ *slog.Logger) (session.Store, error) {
	kind, _, _ := strings.Cut(s.Store, ":")
	switch kind {
	case "cookie":
		return nil, nil
	case "memory":
		return memstore.New(nil), nil
	}
	return nil, fmt.Errorf("session.store: a store of the kind %s is not built in; use cookie or memory", kind)
}
