package sqlstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"authproxy/session"
)

// A slowWriter is a database in which something happens before each write.
type slowWriter struct {
	database
	before func() error
}

func (d slowWriter) write(ctx context.Context, f func(runner) error) error {
	if err := d.before(); err != nil {
		return err
	}
	return d.database.write(ctx, f)
}

// Signing everybody out must not keep everybody from signing in, and whoever has
// to do it again goes on where it ended.
func TestSigningEverybodyOutGoesInBatches(t *testing.T) {
	t.Parallel()
	for name, open := range databases(t) {
		s := open(Options{})
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		const n = deleteBatch + 10
		fill(t, s, n)
		db, writes := s.db, 0
		s.db = slowWriter{db, func() error {
			if writes++; writes == 2 {
				return context.DeadlineExceeded
			}
			return nil
		}}
		ids, err := s.Delete(t.Context(), session.Selection{All: true})
		if len(ids) != deleteBatch || !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s: an attempt whose time ends: %d sessions, %v; want the first %d, and ErrUnavailable", name, len(ids), err, deleteBatch)
		}

		s.db = slowWriter{db, func() error { // others write in between
			now := time.Now().UTC()
			row := &session.Row{Session: &session.Session{ID: uuid.NewString(), User: session.User{ID: number(1, 1)}, CreatedAt: now, UpdatedAt: now, LastSeenAt: now, ExpiresAt: now.Add(time.Hour)}}
			row.Token = sha256.Sum256([]byte(row.ID))
			if err := s.Create(t.Context(), row, nil); err != nil {
				t.Errorf("%s: a sign-in between two batches: %v", name, err)
			}
			return nil
		}}
		ids, err = s.Delete(t.Context(), session.Selection{Provider: "corp"})
		if len(ids) != n-deleteBatch || err != nil {
			t.Errorf("%s: the next attempt: %d sessions, %v; want the other %d", name, len(ids), err, n-deleteBatch)
		}
	}
}
