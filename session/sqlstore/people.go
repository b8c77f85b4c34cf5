package sqlstore

import (
	"context"
	"encoding/json"
	"time"

	"authproxy/session"
)

// Users implements [session.Store].
func (s *Store) Users(ctx context.Context, id, email string) ([]session.Account, error) {
	condition, arg := `u.id = $1`, id
	switch {
	case id == "" && email == "":
		return nil, nil
	case id == "":
		condition, arg = `lower(u.email) = lower($1) AND u.email IS NOT NULL`, email // as the index has it
	case !isID(id):
		return nil, nil
	}
	// Somebody with several accounts is shown with the one used last.
	query := `SELECT u.id, u.name, u.email, u."emailVerified", u.image, u.role, u.groups, u.claims, u.banned, u."banReason", u."banExpires",
		u."createdAt", u."lastSignInAt", a."providerId", a.issuer, a."accountId"
		FROM @."user" u LEFT JOIN @.account a ON a.id =
			(SELECT id FROM @.account WHERE "userId" = u.id ORDER BY "updatedAt" DESC, id LIMIT 1)
		WHERE ` + condition + ` ORDER BY u."createdAt", u.id`
	var accounts []session.Account
	err := s.read(ctx, "find users", func(q runner) error {
		accounts = nil
		return q.each(ctx, query, []any{arg}, func(scan func(...any) error) error {
			a, err := scanAccount(scan)
			accounts = append(accounts, a)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return accounts, nil
}

func scanAccount(scan func(...any) error) (session.Account, error) {
	var a session.Account
	u := &a.User
	var groups, claims string
	err := scan(&u.ID, text{&u.Name}, text{&u.Email}, &u.EmailVerified, text{&u.Image}, &u.Role, text{&groups}, text{&claims}, &a.Banned, text{&a.BanReason}, stamp{&a.BanExpires},
		stamp{&a.CreatedAt}, stamp{&a.LastSignInAt}, text{&u.Provider}, text{&u.Issuer}, text{&u.Subject})
	if err != nil {
		return a, err
	}
	if u.Groups, err = decodeList(groups); err != nil {
		return a, err
	}
	u.Claims, err = decodeClaims(claims)
	return a, err
}

// Ban implements [session.Store].
func (s *Store) Ban(ctx context.Context, userID, reason string, until time.Time) error {
	return s.judge(ctx, "ban a user", userID, true, orNull(reason), until)
}

// Unban implements [session.Store].
func (s *Store) Unban(ctx context.Context, userID string) error {
	return s.judge(ctx, "unban a user", userID, false, nil, time.Time{})
}

func (s *Store) judge(ctx context.Context, op, userID string, banned bool, reason any, until time.Time) error {
	if !isID(userID) {
		return session.ErrNone
	}
	at := s.db.words().time
	return s.write(ctx, op, func(q runner) error {
		return someone(q.exec(ctx, `UPDATE @."user" SET banned = $2, "banReason" = $3, "banExpires" = $4, "updatedAt" = $5 WHERE id = $1`,
			userID, banned, reason, at(until), at(s.now())))
	})
}

// Record implements [session.Store]. Events are written all or none.
func (s *Store) Record(ctx context.Context, events []session.Event) error {
	if len(events) == 0 {
		return nil
	}
	return s.change(ctx, "record events", func(q runner) error {
		for _, e := range events {
			detail, err := json.Marshal(cleanMap(e.Detail))
			if err != nil {
				return err
			}
			_, err = q.exec(ctx, `INSERT INTO @.audit_event (at, type, "userId", "sessionId", "actorId", "ipAddress", "userAgent", detail)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
				s.db.words().time(e.At), clean(e.Type), idOrNull(e.UserID), idOrNull(e.SessionID), idOrNull(e.ActorID), orNull(e.IP), orNull(e.UserAgent), string(detail))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// idOrNull returns an id as a parameter, NULL for what is none.
func idOrNull(id string) any {
	if !isID(id) {
		return nil
	}
	return id
}

// cleanMap returns m as a database can hold it, never nil.
func cleanMap(m map[string]string) map[string]string {
	cleaned := make(map[string]string, len(m))
	for k, v := range m {
		cleaned[clean(k)] = clean(v)
	}
	return cleaned
}
