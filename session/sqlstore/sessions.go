package sqlstore

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"authproxy/session"
)

// Create implements [session.Store].
func (s *Store) Create(ctx context.Context, row *session.Row, replaces []string) error {
	return s.change(ctx, "create a session", func(q runner) error {
		// The user comes first, as wherever several rows are locked: two
		// transactions that lock in one order never wait for each other.
		if err := s.putUser(ctx, q, row); err != nil {
			return err
		}
		if err := s.putAccount(ctx, q, row); err != nil {
			return err
		}
		if ids := onlyIDs(replaces); len(ids) > 0 {
			if _, err := q.exec(ctx, `DELETE FROM @.session WHERE `+s.among("id", 1), s.db.words().list(ids)); err != nil {
				return err
			}
		}
		return s.putSession(ctx, q, row)
	})
}

// putUser writes what the provider says, and reads what administrators decided.
func (s *Store) putUser(ctx context.Context, q runner, row *session.Row) error {
	u, at := &row.User, s.db.words().time
	claims, err := encodeClaims(u.Claims)
	if err != nil {
		return err
	}
	var verifiedAt any
	if u.EmailVerified {
		verifiedAt = at(row.CreatedAt)
	}
	return q.each(ctx, `INSERT INTO @."user" AS old
		(id, name, email, "emailVerified", "emailVerifiedAt", image, groups, claims, "lastSignInAt", "createdAt", "updatedAt")
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $9)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email, "emailVerified" = excluded."emailVerified",
		"emailVerifiedAt" = CASE WHEN excluded."emailVerified" AND old.email = excluded.email
			THEN coalesce(old."emailVerifiedAt", excluded."emailVerifiedAt") ELSE excluded."emailVerifiedAt" END,
		image = excluded.image, groups = excluded.groups, claims = excluded.claims,
		"lastSignInAt" = excluded."lastSignInAt", "updatedAt" = excluded."updatedAt"
		RETURNING role, "sessionEpoch", banned, "banExpires"`,
		[]any{u.ID, orNull(u.Name), orNull(u.Email), u.EmailVerified, verifiedAt, orNull(u.Image), encodeList(u.Groups), claims, at(row.CreatedAt)},
		func(scan func(...any) error) error {
			err := scan(&row.User.Role, &row.UserEpoch, &row.Banned, stamp{&row.BanExpires})
			row.Epoch = row.UserEpoch
			return err
		})
}

func (s *Store) putAccount(ctx context.Context, q runner, row *session.Row) error {
	u := &row.User
	_, err := q.exec(ctx, `INSERT INTO @.account (id, "userId", "providerId", issuer, "accountId", "createdAt", "updatedAt")
		VALUES ($1, $2, $3, $4, $5, $6, $6)
		ON CONFLICT (issuer, "accountId") DO UPDATE SET "providerId" = excluded."providerId", "updatedAt" = excluded."updatedAt"`,
		uuid.NewString(), u.ID, u.Provider, u.Issuer, u.Subject, s.db.words().time(row.CreatedAt))
	return err
}

func (s *Store) putSession(ctx context.Context, q runner, row *session.Row) error {
	at := s.db.words().time
	_, err := q.exec(ctx, `INSERT INTO @.session
		(id, token, "userId", "expiresAt", "absoluteExpiresAt", "lastSeenAt", "ipAddress", "userAgent", "providerId", issuer, subject,
		"idpSid", "authTime", amr, acr, epoch, data, "createdAt", "updatedAt")
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
		row.ID, row.Token.String(), row.User.ID, at(row.ExpiresAt), at(orNever(row.AbsoluteExpiresAt)), at(row.LastSeenAt), orNull(row.IP), orNull(row.UserAgent),
		row.User.Provider, row.User.Issuer, row.User.Subject, orNull(row.ProviderSID), at(orNever(row.AuthTime)), encodeList(row.AMR),
		orNull(row.ACR), row.Epoch, encodeData(row.Data), at(row.CreatedAt), at(row.UpdatedAt))
	if err != nil {
		return err
	}
	c := &row.Credential
	_, err = q.exec(ctx, `INSERT INTO @.session_credential
		("sessionId", "accessToken", "refreshToken", "idToken", "expiresAt", "idTokenExpiresAt", "refreshAt", "readAt", version, "refreshLockUntil")
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		row.ID, orNull(c.Access), orNull(c.Refresh), orNull(c.ID), at(c.AccessExpires), at(c.IDExpires), at(c.RefreshAt), at(c.ReadAt),
		c.Version, at(c.RefreshLockUntil))
	return err
}

// selectRows reads sessions with whose they are; [scanRow] knows the columns.
const selectRows = `SELECT s.id, s.token, s."userId", s."createdAt", s."updatedAt", s."lastSeenAt", s."expiresAt", s."absoluteExpiresAt",
	s."ipAddress", s."userAgent", s."providerId", s.issuer, s.subject, s."idpSid", s."authTime", s.amr, s.acr, s.epoch, s.data,
	u.name, u.email, u."emailVerified", u.image, u.role, u.groups, u.claims, u."sessionEpoch", u.banned, u."banExpires",
	c."accessToken", c."refreshToken", c."idToken", c."expiresAt", c."idTokenExpiresAt", c."refreshAt", c."readAt",
	coalesce(c.version, 0), c."refreshLockUntil"
	FROM @.session s JOIN @."user" u ON u.id = s."userId" LEFT JOIN @.session_credential c ON c."sessionId" = s.id `

func scanRow(scan func(...any) error) (*session.Row, error) {
	r := &session.Row{Session: &session.Session{}}
	u, c := &r.User, &r.Credential
	var token, amr, data, groups, claims string
	err := scan(&r.ID, &token, &u.ID, stamp{&r.CreatedAt}, stamp{&r.UpdatedAt}, stamp{&r.LastSeenAt}, endStamp{&r.ExpiresAt}, stamp{&r.AbsoluteExpiresAt},
		text{&r.IP}, text{&r.UserAgent}, text{&u.Provider}, &u.Issuer, &u.Subject, text{&r.ProviderSID}, stamp{&r.AuthTime}, text{&amr}, text{&r.ACR}, &r.Epoch, text{&data},
		text{&u.Name}, text{&u.Email}, &u.EmailVerified, text{&u.Image}, &u.Role, text{&groups}, text{&claims}, &r.UserEpoch, &r.Banned, stamp{&r.BanExpires},
		text{&c.Access}, text{&c.Refresh}, text{&c.ID}, stamp{&c.AccessExpires}, stamp{&c.IDExpires}, stamp{&c.RefreshAt}, stamp{&c.ReadAt},
		&c.Version, stamp{&c.RefreshLockUntil})
	if err != nil {
		return nil, err
	}
	hash, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(hash) != len(r.Token) {
		return nil, fmt.Errorf("the token of session %s is no SHA-256 in base64url", r.ID)
	}
	copy(r.Token[:], hash)
	if r.AMR, err = decodeList(amr); err != nil {
		return nil, fmt.Errorf("amr of session %s: %w", r.ID, err)
	}
	if u.Groups, err = decodeList(groups); err != nil {
		return nil, fmt.Errorf("groups of user %s: %w", u.ID, err)
	}
	if u.Claims, err = decodeClaims(claims); err != nil {
		return nil, fmt.Errorf("user %s: %w", u.ID, err)
	}
	r.Data = decodeData(data)
	return r, nil
}

// rows returns the sessions that the rest of a statement selects.
func (s *Store) rows(ctx context.Context, op, rest string, args []any) ([]*session.Row, error) {
	var rows []*session.Row
	err := s.read(ctx, op, func(q runner) error {
		rows = nil // a second attempt begins anew
		return q.each(ctx, selectRows+rest, args, func(scan func(...any) error) error {
			r, err := scanRow(scan)
			rows = append(rows, r)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// Find implements [session.Store].
func (s *Store) Find(ctx context.Context, token session.Hash) (*session.Row, error) {
	return s.one(ctx, `WHERE s.token = $1`, token.String())
}

// FindID implements [session.Store].
func (s *Store) FindID(ctx context.Context, id string) (*session.Row, error) {
	if !isID(id) {
		return nil, session.ErrNone
	}
	return s.one(ctx, `WHERE s.id = $1`, id)
}

func (s *Store) one(ctx context.Context, rest string, arg any) (*session.Row, error) {
	rows, err := s.rows(ctx, "find a session", rest, []any{arg})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, session.ErrNone
	}
	return rows[0], nil
}

// Touch implements [session.Store].
func (s *Store) Touch(ctx context.Context, id string, t session.Touch) (session.Clocks, error) {
	if !isID(id) {
		return session.Clocks{}, session.ErrNone
	}
	w := s.db.words()
	const clocks = `"lastSeenAt", "expiresAt", "updatedAt"`
	end := w.least + `($5, "absoluteExpiresAt")`
	slides := `"expiresAt" <= $4 AND "expiresAt" < ` + end
	update := `UPDATE @.session SET "lastSeenAt" = ` + w.greatest + `("lastSeenAt", $2),
		"updatedAt" = CASE WHEN ` + slides + ` THEN $2 ELSE "updatedAt" END,
		"expiresAt" = CASE WHEN ` + slides + ` THEN ` + end + ` ELSE "expiresAt" END
		WHERE id = $1 AND "expiresAt" > $2 AND "absoluteExpiresAt" > $2 AND ("lastSeenAt" <= $3 OR ` + slides + `)
		RETURNING ` + clocks

	var got session.Clocks
	found := false
	take := func(scan func(...any) error) error {
		found = true
		return scan(stamp{&got.LastSeenAt}, endStamp{&got.ExpiresAt}, stamp{&got.UpdatedAt})
	}
	err := s.write(ctx, "touch a session", func(q runner) error {
		return q.each(ctx, update, []any{id, w.time(t.Now), w.time(t.SeenBefore), w.time(t.SlideIfBy), w.time(t.SlideTo)}, take)
	})
	if err != nil || found {
		return got, err
	}
	// Nothing to change, or nothing there.
	err = s.read(ctx, "read the clocks of a session", func(q runner) error {
		return q.each(ctx, `SELECT `+clocks+` FROM @.session WHERE id = $1`, []any{id}, take)
	})
	if err == nil && !found {
		err = session.ErrNone
	}
	return got, err
}

// SetData implements [session.Store].
func (s *Store) SetData(ctx context.Context, id string, data json.RawMessage, now time.Time) error {
	if !isID(id) {
		return session.ErrNone
	}
	return s.write(ctx, "replace the data of a session", func(q runner) error {
		return someone(q.exec(ctx, `UPDATE @.session SET data = $2, "updatedAt" = $3 WHERE id = $1`, id, encodeData(data), s.db.words().time(now)))
	})
}

// someone turns an UPDATE that found no row into [session.ErrNone].
func someone(rows int, err error) error {
	if err == nil && rows == 0 {
		return session.ErrNone
	}
	return err
}

// List implements [session.Store].
func (s *Store) List(ctx context.Context, which session.Selection, now time.Time, limit int) ([]*session.Row, error) {
	c, ok := s.selected("s.", which)
	if !ok {
		return nil, nil
	}
	at := s.db.words().time(now)
	c.add(`s."expiresAt" > %s`, at)
	c.add(`s."absoluteExpiresAt" > %s`, at)
	rest := c.String() + ` ORDER BY s."lastSeenAt" DESC, s.id`
	if limit > 0 {
		rest += fmt.Sprintf(" LIMIT %d", limit)
	}
	return s.rows(ctx, "list sessions", rest, c.args)
}

// deleteBatch is how many sessions one statement deletes where it may be all of
// them: nobody who writes waits for more than that, and an attempt that ends with
// its time has done something.
const deleteBatch = 1000

// Delete implements [session.Store]. Sessions of one person are one statement,
// whatever it is that may be many go in batches by id, without those that begin
// meanwhile.
func (s *Store) Delete(ctx context.Context, which session.Selection) (deleted []string, err error) {
	c, ok := s.selected("", which)
	switch {
	case !ok:
		return nil, nil
	case which.ID+which.UserID != "":
		return s.delete(ctx, c.String(), c.args)
	}
	batch := make([]string, deleteBatch)
	for after := ""; len(batch) == deleteBatch; after = batch[len(batch)-1] {
		if batch, err = s.idsAfter(ctx, which, after); err != nil || len(batch) == 0 {
			return deleted, err
		}
		ids, err := s.delete(ctx, "WHERE "+s.among("id", 1), []any{s.db.words().list(batch)})
		deleted = append(deleted, ids...)
		if err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

// idsAfter returns the ids of the next sessions after one that which selects.
func (s *Store) idsAfter(ctx context.Context, which session.Selection, after string) (ids []string, err error) {
	c, _ := s.selected("", which)
	if after != "" {
		c.add("id > %s", after)
	}
	query := fmt.Sprintf(`SELECT id FROM @.session %s ORDER BY id LIMIT %d`, c, deleteBatch)
	err = s.read(ctx, "find sessions to delete", func(q runner) (err error) {
		ids, err = texts(ctx, q, query, c.args)
		return err
	})
	return ids, err
}

// delete deletes the sessions for which where holds, in one statement.
func (s *Store) delete(ctx context.Context, where string, args []any) (ids []string, err error) {
	err = s.write(ctx, "delete sessions", func(q runner) (err error) {
		ids, err = texts(ctx, q, `DELETE FROM @.session `+where+` RETURNING id`, args)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// texts returns the one column of the answer.
func texts(ctx context.Context, q runner, query string, args []any) (all []string, err error) {
	err = q.each(ctx, query, args, func(scan func(...any) error) error {
		var one string
		err := scan(&one)
		all = append(all, one)
		return err
	})
	return all, err
}

// conditions are those of a WHERE, which all must hold.
type conditions struct {
	parts []string
	args  []any
}

// add adds one; %s in it is the place of arg.
func (c *conditions) add(condition string, arg any) {
	c.args = append(c.args, arg)
	c.parts = append(c.parts, fmt.Sprintf(condition, fmt.Sprintf("$%d", len(c.args))))
}

func (c *conditions) String() string {
	if len(c.parts) == 0 {
		return ""
	}
	return "WHERE " + strings.Join(c.parts, " AND ")
}

// selected returns the conditions of a selection, with a prefix for columns,
// and false if it cannot name any session.
func (s *Store) selected(prefix string, which session.Selection) (*conditions, bool) {
	c := &conditions{}
	for _, f := range []struct {
		column, value string
		id            bool
	}{
		{`id`, which.ID, true},
		{`"userId"`, which.UserID, true},
		{`"providerId"`, which.Provider, false},
		{`"idpSid"`, which.ProviderSID, false},
		{`subject`, which.Subject, false},
	} {
		if f.value == "" {
			continue
		}
		if f.id && !isID(f.value) {
			return nil, false
		}
		c.add(prefix+f.column+" = %s", f.value)
	}
	// What only leaves out must not name everybody else's.
	if len(c.parts) == 0 && !which.All {
		return nil, false
	}
	if isID(which.ExceptID) {
		c.add(prefix+"id <> %s", which.ExceptID)
	}
	if !which.CreatedBefore.IsZero() {
		c.add(prefix+`"createdAt" < %s`, s.db.words().time(which.CreatedBefore))
	}
	return c, true
}

// among returns the condition that a column has one of the values in the
// parameter with this number.
func (s *Store) among(column string, parameter int) string {
	return fmt.Sprintf(s.db.words().among, column, parameter)
}

// sweepBatch is how many rows one transaction of the sweeper deletes: a writer
// waits for no more than that.
const sweepBatch = 200

// Sweep implements [session.Store]. What it deletes is not told: it is over
// anyhow, and telling would empty caches for nothing.
func (s *Store) Sweep(ctx context.Context, now, keepAudit time.Time, limit int) (int, error) {
	sessions, err := s.sweep(ctx, "session", s.db.words().least+`("expiresAt", "absoluteExpiresAt") <= $1`, now, limit)
	if err != nil || keepAudit.IsZero() {
		return sessions, err
	}
	events, err := s.sweep(ctx, "audit_event", "at < $1", keepAudit, limit)
	return sessions + events, err
}

// sweep deletes at most limit rows of a table, those for which over holds.
func (s *Store) sweep(ctx context.Context, table, over string, before time.Time, limit int) (int, error) {
	w := s.db.words()
	total := 0
	for total < limit {
		batch := min(sweepBatch, limit-total)
		deleted := 0
		err := s.change(ctx, "sweep "+table, func(q runner) error {
			if _, err := q.exec(ctx, w.beginSweep); err != nil {
				return err
			}
			var err error
			deleted, err = q.exec(ctx, fmt.Sprintf(`DELETE FROM @.%s WHERE id IN (SELECT id FROM @.%s WHERE %s LIMIT %d %s)`,
				table, table, over, batch, w.skipLocked), w.time(before))
			if err != nil || w.endSweep == "" {
				return err
			}
			_, err = q.exec(ctx, w.endSweep)
			return err
		})
		if err != nil {
			return total, err
		}
		total += deleted
		if deleted < batch {
			break
		}
	}
	return total, nil
}

// LockRefresh implements [session.Store].
func (s *Store) LockRefresh(ctx context.Context, id string, version int, now, until time.Time) (bool, error) {
	return s.swap(ctx, "lock a refresh", id, func(q runner) (int, error) {
		at := s.db.words().time
		return q.exec(ctx, `UPDATE @.session_credential SET "refreshLockUntil" = $4
			WHERE "sessionId" = $1 AND version = $2 AND ("refreshLockUntil" IS NULL OR "refreshLockUntil" <= $3)`,
			id, version, at(now), at(until))
	})
}

// UnlockRefresh implements [session.Store].
func (s *Store) UnlockRefresh(ctx context.Context, id string, version int) error {
	_, err := s.swap(ctx, "unlock a refresh", id, func(q runner) (int, error) {
		return q.exec(ctx, `UPDATE @.session_credential SET "refreshLockUntil" = NULL WHERE "sessionId" = $1 AND version = $2`, id, version)
	})
	return err
}

// swap says whether a statement about one credential changed it.
func (s *Store) swap(ctx context.Context, op, id string, update func(runner) (int, error)) (bool, error) {
	if !isID(id) {
		return false, nil
	}
	rows := 0
	err := s.write(ctx, op, func(q runner) (err error) {
		rows, err = update(q)
		return err
	})
	return rows == 1, err
}

// errLost rolls a transaction back that found another version.
var errLost = errors.New("sqlstore: somebody else was first")

// SaveRefresh implements [session.Store].
func (s *Store) SaveRefresh(ctx context.Context, id string, version int, c *session.Credential, user *session.User, now time.Time) (bool, error) {
	if !isID(id) {
		return false, nil
	}
	at := s.db.words().time
	err := s.change(ctx, "save a refresh", func(q runner) error {
		if user != nil { // first, see Create
			if err := s.updateUser(ctx, q, user, now); err != nil {
				return err
			}
		}
		rows, err := q.exec(ctx, `UPDATE @.session_credential SET "accessToken" = $3, "refreshToken" = $4, "idToken" = $5, "expiresAt" = $6,
			"idTokenExpiresAt" = $7, "refreshAt" = $8, "readAt" = $9, version = version + 1, "refreshLockUntil" = NULL
			WHERE "sessionId" = $1 AND version = $2`,
			id, version, orNull(c.Access), orNull(c.Refresh), orNull(c.ID), at(c.AccessExpires), at(c.IDExpires), at(c.RefreshAt), at(c.ReadAt))
		if err == nil && rows == 0 {
			err = errLost
		}
		return err
	})
	if errors.Is(err, errLost) {
		return false, nil
	}
	return err == nil, err
}

// updateUser writes what the provider says of somebody who is there.
func (s *Store) updateUser(ctx context.Context, q runner, u *session.User, now time.Time) error {
	claims, err := encodeClaims(u.Claims)
	if err != nil {
		return err
	}
	at := s.db.words().time
	var verifiedAt any
	if u.EmailVerified {
		verifiedAt = at(now)
	}
	_, err = q.exec(ctx, `UPDATE @."user" SET name = $2, email = $3, "emailVerified" = $4,
		"emailVerifiedAt" = CASE WHEN $4 AND email = $3 THEN coalesce("emailVerifiedAt", $5) ELSE $5 END,
		image = $6, groups = $7, claims = $8, "updatedAt" = $9 WHERE id = $1`,
		u.ID, orNull(u.Name), orNull(u.Email), u.EmailVerified, verifiedAt, orNull(u.Image), encodeList(u.Groups), claims, at(now))
	return err
}

// A sealed text is one that another key may have to seal.
type sealed struct{ id, column, old, renewed string }

// resealBatch is how many credentials are looked at together.
const resealBatch = 100

// Reseal implements [session.Store].
func (s *Store) Reseal(ctx context.Context, reseal func(string) (string, error)) (int, error) {
	total := 0
	for after := ""; ; {
		found, last, err := s.sealedAfter(ctx, after)
		if err != nil || last == "" {
			return total, err
		}
		after = last
		for i := range found {
			if found[i].renewed, err = reseal(found[i].old); err != nil {
				return total, fmt.Errorf("sqlstore: reseal %s of session %s: %w", found[i].column, found[i].id, err)
			}
		}
		found = slices.DeleteFunc(found, func(t sealed) bool { return t.renewed == t.old })
		n, err := s.replaceSealed(ctx, found)
		total += n
		if err != nil {
			return total, err
		}
	}
}

// sealedAfter returns the sealed texts of the next credentials after one, and
// the last of those, "" at the end.
func (s *Store) sealedAfter(ctx context.Context, after string) (found []sealed, last string, err error) {
	c := &conditions{}
	if after != "" {
		c.add(`"sessionId" > %s`, after)
	}
	query := fmt.Sprintf(`SELECT "sessionId", "accessToken", "refreshToken", "idToken" FROM @.session_credential %s ORDER BY "sessionId" LIMIT %d`, c, resealBatch)
	err = s.read(ctx, "read sealed tokens", func(q runner) error {
		found, last = nil, ""
		return q.each(ctx, query, c.args, func(scan func(...any) error) error {
			var access, refresh, id string
			if err := scan(&last, text{&access}, text{&refresh}, text{&id}); err != nil {
				return err
			}
			for _, t := range []sealed{{id: last, column: "accessToken", old: access}, {id: last, column: "refreshToken", old: refresh}, {id: last, column: "idToken", old: id}} {
				if t.old != "" {
					found = append(found, t)
				}
			}
			return nil
		})
	})
	return found, last, err
}

// replaceSealed writes texts that are still what they were, and says how many.
func (s *Store) replaceSealed(ctx context.Context, texts []sealed) (int, error) {
	if len(texts) == 0 {
		return 0, nil
	}
	total := 0
	err := s.change(ctx, "replace sealed tokens", func(q runner) error {
		total = 0
		for _, t := range texts {
			n, err := q.exec(ctx, fmt.Sprintf(`UPDATE @.session_credential SET "%[1]s" = $2 WHERE "sessionId" = $1 AND "%[1]s" = $3`, t.column), t.id, t.renewed, t.old)
			if err != nil {
				return err
			}
			total += n
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return total, nil
}
