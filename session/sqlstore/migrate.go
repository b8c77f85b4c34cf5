package sqlstore

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"

	"authproxy/session"
)

// What [Options.Migrate] can be.
const (
	migrateAuto  = "auto"
	migrateCheck = "check"
	migrateOff   = "off"
)

//go:embed migrations
var migrationFiles embed.FS

// A migration brings the tables from the version before to its own. The
// release before must be able to work with the result, because replicas are
// replaced one after another.
type migration struct {
	version int
	text    string
}

// migrations returns those of a dialect in order; their files begin with their
// numbers.
func migrations(dialect string) ([]migration, error) {
	dir := path.Join("migrations", dialect)
	files, err := fs.ReadDir(migrationFiles, dir)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	var list []migration
	for _, file := range files {
		number, _, _ := strings.Cut(file.Name(), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != len(list)+1 {
			return nil, fmt.Errorf("migration %s is not number %d", file.Name(), len(list)+1)
		}
		text, err := fs.ReadFile(migrationFiles, path.Join(dir, file.Name()))
		if err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		list = append(list, migration{version: version, text: string(text)})
	}
	return list, nil
}

// A migrator is a database whose tables can be made and changed.
type migrator interface {
	// version returns that of the tables, 0 if there are none.
	version(ctx context.Context, q runner) (int, error)
	// lock keeps all others from migrating until the transaction ends, and makes
	// the place for the tables.
	lock(ctx context.Context, q runner) error
	read(ctx context.Context, f func(runner) error) error
	change(ctx context.Context, f func(runner) error) error
}

// migrate brings the tables up to date, or says that they are not, as mode
// wants it. Tables that are up to date are only read, so that the right to
// change them is not needed.
func migrate(ctx context.Context, db migrator, mode string, list []migration, log *slog.Logger) error {
	have := 0
	err := db.read(ctx, func(q runner) (err error) {
		have, err = db.version(ctx, q)
		return err
	})
	want := len(list)
	switch {
	case err != nil || mode == migrateOff:
		return err
	case have > want:
		log.Warn("the tables of the session store are newer than this version of authproxy", "have", have, "known", want)
		return nil
	case have == want:
		return nil
	case mode == migrateCheck:
		return fmt.Errorf("%w: %w: they have version %d, not %d; start one process with session.migrate: auto and the right to change them", session.ErrUnavailable, ErrSchema, have, want)
	}
	err = db.change(ctx, func(q runner) error { return apply(ctx, db, q, list) })
	if err != nil {
		return fmt.Errorf("migrate the tables from version %d to %d: %w", have, want, err)
	}
	log.Info("the tables of the session store were migrated", "from", have, "to", want)
	return nil
}

// apply runs the migrations that the tables lack, in a transaction of its
// caller. Somebody else may have run them since it was asked.
func apply(ctx context.Context, db migrator, q runner, list []migration) error {
	if err := db.lock(ctx, q); err != nil {
		return err
	}
	have, err := db.version(ctx, q)
	if err != nil {
		return err
	}
	if have == 0 {
		if _, err := q.exec(ctx, `CREATE TABLE @.schema_version (version integer PRIMARY KEY)`); err != nil {
			return err
		}
	}
	for _, m := range list[min(have, len(list)):] {
		if _, err := q.exec(ctx, m.text); err != nil {
			return fmt.Errorf("version %d: %w", m.version, err)
		}
		if _, err := q.exec(ctx, `INSERT INTO @.schema_version (version) VALUES ($1)`, m.version); err != nil {
			return err
		}
	}
	return nil
}
