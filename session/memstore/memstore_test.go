package memstore_test

import (
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/memstore"
	"authproxy/session/storetest"
)

// An operator changes what a store holds directly.
type operator struct{ *memstore.Store }

func (o operator) DeleteSession(t testing.TB, id string) {
	o.delete(t, session.Selection{ID: id})
}

func (o operator) DeleteAll(t testing.TB) { o.delete(t, session.Selection{All: true}) }

func (o operator) delete(t testing.TB, which session.Selection) {
	if _, err := o.Delete(t.Context(), which); err != nil {
		t.Fatal(err)
	}
}

func (o operator) SetRole(t testing.TB, userID, role string) {
	o.edit(t, userID, func(a *session.Account, _ *int) { a.User.Role = role })
}

func (o operator) RaiseEpoch(t testing.TB, userID string) {
	o.edit(t, userID, func(_ *session.Account, epoch *int) { *epoch++ })
}

func (o operator) Ban(t testing.TB, userID string) {
	o.edit(t, userID, func(a *session.Account, _ *int) { a.Banned = true })
}

func (o operator) edit(t testing.TB, userID string, edit func(*session.Account, *int)) {
	if err := o.Edit(t.Context(), userID, edit); err != nil {
		t.Fatal(err)
	}
}

func (o operator) Expire(t testing.TB, id string) {
	if err := o.EditSession(t.Context(), id, func(r *session.Row) { r.ExpiresAt = time.Unix(1, 0).UTC() }); err != nil {
		t.Fatal(err)
	}
}

func setup(testing.TB) storetest.Backend {
	hidden := memstore.New(nil)
	return storetest.Backend{
		Open:     func(testing.TB) session.Store { return hidden.Another() },
		Operator: operator{hidden},
		Events:   func(testing.TB) []session.Event { return hidden.Events() },
	}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Backend { return setup(t) })
}

func TestManagers(t *testing.T) {
	storetest.RunManagers(t, func(t *testing.T) storetest.Backend { return setup(t) })
}
