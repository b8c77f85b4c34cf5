package storetest

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"authproxy/session"
)

// sameRow compares sessions as stores keep them: times by the millisecond and in
// UTC, JSON by its meaning, nothing and empty alike.
func sameRow() cmp.Options {
	isJSON := func(p cmp.Path) bool { return p.Last().Type() == reflect.TypeFor[json.RawMessage]() }
	return cmp.Options{
		cmpopts.IgnoreUnexported(session.Session{}),
		cmpopts.IgnoreFields(session.User{}, "Role"),
		cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) && a.Location() == b.Location() }),
		cmp.FilterPath(isJSON, cmp.Comparer(func(a, b json.RawMessage) bool { return reflect.DeepEqual(plainJSON(a), plainJSON(b)) })),
		cmp.FilterPath(func(p cmp.Path) bool { return !isJSON(p) }, cmpopts.EquateEmpty()),
	}
}

// plainJSON returns the value of raw, nil for nothing and for an object without
// members.
func plainJSON(raw json.RawMessage) any {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return nil
	}
	if m, ok := v.(map[string]any); ok && len(m) == 0 {
		return nil
	}
	return v
}

func expectRow(t testing.TB, got, want *session.Row) {
	t.Helper()
	if diff := cmp.Diff(want, got, sameRow()); diff != "" {
		t.Errorf("the session came back changed (-want +got):\n%s", diff)
	}
}

// expectNone fails unless the session called id is gone.
func (b *bench) expectNone(t testing.TB, id string) {
	t.Helper()
	if _, err := b.FindID(t.Context(), id); !errors.Is(err, session.ErrNone) {
		t.Errorf("FindID: error %v, want ErrNone", err)
	}
}

func testWhole(t *testing.T, b *bench) {
	want := b.fullRow()
	if err := b.Create(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	other := b.open(t)
	for name, find := range map[string]func() (*session.Row, error){
		"by token":           func() (*session.Row, error) { return b.Find(t.Context(), want.Token) },
		"by id":              func() (*session.Row, error) { return b.FindID(t.Context(), want.ID) },
		"in another process": func() (*session.Row, error) { return other.Find(t.Context(), want.Token) },
	} {
		got, err := find()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		expectRow(t, got, want)
	}
	list, err := b.List(t.Context(), session.Selection{UserID: want.User.ID}, b.now, 0)
	if err != nil || len(list) != 1 {
		t.Fatalf("List: %d sessions, error %v, want 1", len(list), err)
	}
	expectRow(t, list[0], want)
}

func testBare(t *testing.T, b *bench) {
	want := b.row(session.User{ID: session.UserID("i", "s"), Issuer: "i", Subject: "s", Provider: "corp"})
	want.AbsoluteExpiresAt = time.Time{}
	if err := b.Create(t.Context(), want, nil); err != nil {
		t.Fatal(err)
	}
	got := b.found(t, want.ID)
	expectRow(t, got, want)
	if !got.AbsoluteExpiresAt.IsZero() || !got.Credential.RefreshAt.IsZero() {
		t.Errorf("hard end %v and refresh at %v, want none", got.AbsoluteExpiresAt, got.Credential.RefreshAt)
	}
}

func testNotShared(t *testing.T, b *bench) {
	r := b.fullRow()
	if err := b.Create(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	want := b.found(t, r.ID)
	for _, mine := range []*session.Row{r, b.found(t, r.ID)} {
		mine.User.Groups[0], mine.AMR[0], mine.Data[2] = "changed", "changed", 'X'
		mine.User.Claims["text"] = "changed"
		mine.User.Claims["map"].(map[string]any)["deep"] = "changed"
		mine.ExpiresAt = time.Time{}
	}
	expectRow(t, b.found(t, r.ID), want)
}

func testNotFound(t *testing.T, b *bench) {
	r := b.create(t, person("alice"))
	other := r.Token
	other[31]++
	if _, err := b.Find(t.Context(), other); !errors.Is(err, session.ErrNone) {
		t.Errorf("Find with another token: error %v, want ErrNone", err)
	}
	for _, id := range []string{b.row(person("alice")).ID, "", "not a UUID", "' OR true --", "*", r.ID[:35] + "%"} {
		if _, err := b.FindID(t.Context(), id); !errors.Is(err, session.ErrNone) {
			t.Errorf("FindID(%q): error %v, want ErrNone", id, err)
		}
	}
}

func testReplace(t *testing.T, b *bench) {
	first, second, kept := b.create(t, person("alice")), b.create(t, person("bob")), b.create(t, person("alice"))
	next := b.row(person("alice"))
	if err := b.Create(t.Context(), next, []string{first.ID, second.ID, "not a UUID", b.row(person("eve")).ID}); err != nil {
		t.Fatal(err)
	}
	b.expectNone(t, first.ID)
	b.expectNone(t, second.ID)
	b.found(t, kept.ID)
	b.found(t, next.ID)
	again := b.row(person("carol"))
	again.ID = next.ID // refused, so that nothing of it may happen
	if err := b.Create(t.Context(), again, []string{kept.ID}); err == nil {
		t.Error("a second session with one id: no error")
	}
	b.found(t, kept.ID)
	expectRow(t, b.found(t, next.ID), next)
	if _, err := b.Find(t.Context(), again.Token); !errors.Is(err, session.ErrNone) {
		t.Errorf("the token of a session that was not created: error %v, want ErrNone", err)
	}
}

func testPersonKept(t *testing.T, b *bench) {
	old := b.create(t, person("alice"))
	b.Operator.SetRole(t, old.User.ID, "admin")
	b.Operator.RaiseEpoch(t, old.User.ID)
	if err := b.Ban(t.Context(), old.User.ID, "left", b.at(time.Hour)); err != nil {
		t.Fatal(err)
	}
	u := person("alice")
	u.Email, u.EmailVerified, u.Name, u.Groups = "new@example.com", false, "New", []string{"g"}
	u.Claims = map[string]any{"c": "d"}
	next := b.row(u)
	if err := b.Create(t.Context(), next, nil); err != nil {
		t.Fatal(err)
	}
	if next.Epoch != 1 || next.User.Role != "admin" {
		t.Errorf("Create set epoch %d and role %q, want 1 and admin", next.Epoch, next.User.Role)
	}
	got, was := b.found(t, next.ID), b.found(t, old.ID)
	if got.Epoch != 1 || got.UserEpoch != 1 || was.Epoch != 0 || was.UserEpoch != 1 {
		t.Errorf("epochs %d of %d, and %d of %d before; want 1 of 1, and 0 of 1", got.Epoch, got.UserEpoch, was.Epoch, was.UserEpoch)
	}
	if !got.Banned || !got.BanExpires.Equal(b.at(time.Hour)) || got.User.Role != "admin" {
		t.Errorf("banned %v until %v, role %q; want true until %v, admin", got.Banned, got.BanExpires, got.User.Role, b.at(time.Hour))
	}
	u.Role = "admin"
	for _, user := range []session.User{got.User, was.User} {
		if diff := cmp.Diff(u, user, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the person (-want +got):\n%s", diff)
		}
	}
}

func testSameAddress(t *testing.T, b *bench) {
	a, c := person("alice"), person("carol")
	c.Email = a.Email
	first, second := b.create(t, a), b.create(t, c)
	if first.User.ID == second.User.ID || first.User.Name == second.User.Name {
		t.Errorf("two people with one address became one: %v", first.User)
	}
}

// touch is as a Manager with a window of an hour, that slides after ten minutes,
// calls it at now.
func (b *bench) touch(t testing.TB, id string, now time.Time) session.Clocks {
	t.Helper()
	c, err := b.Touch(t.Context(), id, session.Touch{
		Now: now, SeenBefore: now.Add(-time.Minute), SlideIfBy: now.Add(50 * time.Minute), SlideTo: now.Add(time.Hour),
	})
	if err != nil {
		t.Fatalf("Touch: %v", err)
	}
	return c
}

func expectClocks(t testing.TB, what string, got session.Clocks, seen, updated, expires time.Time) {
	t.Helper()
	want := session.Clocks{LastSeenAt: seen, UpdatedAt: updated, ExpiresAt: expires}
	if !got.LastSeenAt.Equal(seen) || !got.UpdatedAt.Equal(updated) || !got.ExpiresAt.Equal(expires) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// clocks returns the clocks of the session called id as they are found.
func (b *bench) clocks(t testing.TB, id string) session.Clocks {
	t.Helper()
	r := b.found(t, id)
	return session.Clocks{LastSeenAt: r.LastSeenAt, UpdatedAt: r.UpdatedAt, ExpiresAt: r.ExpiresAt}
}

func testSlide(t *testing.T, b *bench) {
	r := b.create(t, person("alice"), func(r *session.Row) { r.AbsoluteExpiresAt = b.at(90 * time.Minute) })
	early, due, late := b.at(10*time.Minute-time.Millisecond), b.at(10*time.Minute), b.at(40*time.Minute)
	expectClocks(t, "before it is due", b.touch(t, r.ID, early), early, b.now, b.at(time.Hour))
	expectClocks(t, "due", b.touch(t, r.ID, due), due, due, due.Add(time.Hour))
	expectClocks(t, "due, as it is found", b.clocks(t, r.ID), due, due, due.Add(time.Hour))
	expectClocks(t, "at once again", b.touch(t, r.ID, due.Add(time.Second)), due, due, due.Add(time.Hour))
	expectClocks(t, "up to the hard end", b.touch(t, r.ID, late), late, late, b.at(90*time.Minute))
	after := late.Add(30 * time.Second)
	expectClocks(t, "at the hard end it cannot grow", b.touch(t, r.ID, after), late, late, b.at(90*time.Minute))

	endless := b.create(t, person("alice"), func(r *session.Row) { r.AbsoluteExpiresAt = time.Time{} })
	expectClocks(t, "without a hard end", b.touch(t, endless.ID, due), due, due, due.Add(time.Hour))
}

func testSeen(t *testing.T, b *bench) {
	r := b.create(t, person("alice"))
	expectClocks(t, "within the interval", b.touch(t, r.ID, b.at(59*time.Second)), b.now, b.now, b.at(time.Hour))
	minute := b.at(time.Minute)
	expectClocks(t, "after it", b.touch(t, r.ID, minute), minute, b.now, b.at(time.Hour))
	expectClocks(t, "by a clock that is behind", b.touch(t, r.ID, b.at(30*time.Second)), minute, b.now, b.at(time.Hour))
	expectClocks(t, "as it is found", b.clocks(t, r.ID), minute, b.now, b.at(time.Hour))
}

func testTouchOver(t *testing.T, b *bench) {
	sliding := b.create(t, person("alice"))
	expectClocks(t, "at the end of the window", b.touch(t, sliding.ID, b.at(time.Hour)), b.now, b.now, b.at(time.Hour))
	hard := b.create(t, person("alice"), func(r *session.Row) { r.AbsoluteExpiresAt = b.at(30 * time.Minute) })
	expectClocks(t, "at the hard end", b.touch(t, hard.ID, b.at(30*time.Minute)), b.now, b.now, b.at(time.Hour))
}

func testTouchGone(t *testing.T, b *bench) {
	r := b.create(t, person("alice"))
	if _, err := b.Delete(t.Context(), session.Selection{ID: r.ID}); err != nil {
		t.Fatal(err)
	}
	slide := session.Touch{Now: b.now, SeenBefore: b.now, SlideIfBy: b.at(2 * time.Hour), SlideTo: b.at(2 * time.Hour)}
	if _, err := b.Touch(t.Context(), r.ID, slide); !errors.Is(err, session.ErrNone) {
		t.Errorf("Touch: error %v, want ErrNone", err)
	}
	b.expectNone(t, r.ID)
	if _, err := b.Find(t.Context(), r.Token); !errors.Is(err, session.ErrNone) {
		t.Errorf("Find: error %v, want ErrNone", err)
	}
	if err := b.SetData(t.Context(), r.ID, json.RawMessage(`{}`), b.now); !errors.Is(err, session.ErrNone) {
		t.Errorf("SetData: error %v, want ErrNone", err)
	}
	if saved, err := b.SaveRefresh(t.Context(), r.ID, 0, &session.Credential{}, nil, b.now); saved || err != nil {
		t.Errorf("SaveRefresh = %v, %v, want false", saved, err)
	}
	b.expectNone(t, r.ID)
}

func testTouchParallel(t *testing.T, b *bench) {
	r := b.create(t, person("alice"))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { b.touch(t, r.ID, b.at(10*time.Minute+time.Duration(i)*time.Second)) })
	}
	wg.Wait()
	c := b.clocks(t, r.ID)
	if slid := c.UpdatedAt; slid.Before(b.at(10*time.Minute)) || !c.ExpiresAt.Equal(slid.Add(time.Hour)) || c.LastSeenAt.Before(slid) {
		t.Errorf("clocks %v, want those of one of the slides", c)
	}
}

func testData(t *testing.T, b *bench) {
	r := b.create(t, person("alice"))
	later := b.at(time.Minute)
	if err := b.SetData(t.Context(), r.ID, json.RawMessage(`{"a": {"b": "ü"}}`), later); err != nil {
		t.Fatal(err)
	}
	want := r
	want.Data, want.UpdatedAt = json.RawMessage(`{"a":{"b":"ü"}}`), later
	expectRow(t, b.found(t, r.ID), want)
}

func testSelections(t *testing.T, b *bench) {
	with := func(provider, sid string) func(*session.Row) {
		return func(r *session.Row) { r.User.Provider, r.ProviderSID = provider, sid }
	}
	ids := map[string]string{}
	for name, r := range map[string]*session.Row{
		"a1": b.create(t, person("alice"), with("corp", "s1")),
		"a2": b.create(t, person("alice"), with("corp", "s2"), func(r *session.Row) { r.CreatedAt = b.at(-time.Minute) }),
		"b1": b.create(t, person("bob"), with("corp", "s1")),
		"c1": b.create(t, person("carol"), with("other", "s1")),
	} {
		ids[name] = r.ID
	}
	alice := person("alice").ID
	tests := []struct {
		name  string
		which session.Selection
		want  []string
	}{
		{"nothing", session.Selection{}, nil},
		{"an exception alone", session.Selection{ExceptID: ids["a1"]}, nil},
		{"an unknown session", session.Selection{ID: b.row(person("x")).ID}, nil},
		{"an id that is none", session.Selection{ID: "x"}, nil},
		{"a person that is none", session.Selection{UserID: "x"}, nil},
		{"another person's session", session.Selection{ID: ids["b1"], UserID: alice}, nil},
		{"a provider's session of another provider", session.Selection{Provider: "other", ProviderSID: "s2"}, nil},
		{"a session", session.Selection{ID: ids["a1"]}, []string{"a1"}},
		{"a session of its person", session.Selection{ID: ids["a1"], UserID: alice}, []string{"a1"}},
		{"a person", session.Selection{UserID: alice}, []string{"a1", "a2"}},
		{"all others of a person", session.Selection{UserID: alice, ExceptID: ids["a1"]}, []string{"a2"}},
		{"a session at a provider", session.Selection{Provider: "corp", ProviderSID: "s1"}, []string{"a1", "b1"}},
		{"a person at a provider", session.Selection{Provider: "corp", Subject: "alice"}, []string{"a1", "a2"}},
		{"a person's session at a provider", session.Selection{Provider: "corp", Subject: "alice", ProviderSID: "s1"}, []string{"a1"}},
		{"a provider", session.Selection{Provider: "other"}, []string{"c1"}},
		{"a time alone", session.Selection{CreatedBefore: b.at(time.Hour)}, nil},
		{"a person's that began before", session.Selection{UserID: alice, CreatedBefore: b.now}, []string{"a2"}},
		{"what began before at a provider", session.Selection{Provider: "corp", Subject: "alice", CreatedBefore: b.now}, []string{"a2"}},
		{"what began not long after", session.Selection{Provider: "corp", CreatedBefore: b.at(time.Millisecond)}, []string{"a1", "a2", "b1"}},
		{"what began at that very time", session.Selection{UserID: alice, CreatedBefore: b.at(-time.Minute)}, nil},
		{"all but one", session.Selection{All: true, ExceptID: ids["b1"]}, []string{"a1", "a2", "c1"}},
		{"all", session.Selection{All: true}, []string{"a1", "a2", "b1", "c1"}},
	}
	for _, tt := range tests {
		rows, err := b.List(t.Context(), tt.which, b.now, 0)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var got []string
		for _, r := range rows {
			for name, id := range ids {
				if id == r.ID {
					got = append(got, name)
				}
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: List (-want +got):\n%s", tt.name, diff)
		}
	}
	b.deleteOneByOne(t, ids)
}

// deleteOneByOne checks that Delete selects as List does, on the sessions of
// [testSelections].
func (b *bench) deleteOneByOne(t *testing.T, ids map[string]string) {
	left := len(ids)
	for _, tt := range []struct {
		name  string
		which session.Selection
		want  []string
	}{
		{"nothing", session.Selection{}, nil},
		{"an exception alone", session.Selection{ExceptID: ids["a1"]}, nil},
		{"a time alone", session.Selection{CreatedBefore: b.at(time.Hour)}, nil},
		{"another person's session", session.Selection{ID: ids["b1"], UserID: person("alice").ID}, nil},
		{"what began too late", session.Selection{Provider: "corp", Subject: "bob", CreatedBefore: b.now}, nil},
		{"all others", session.Selection{UserID: person("alice").ID, ExceptID: ids["a1"]}, []string{ids["a2"]}},
		{"again", session.Selection{UserID: person("alice").ID, ExceptID: ids["a1"]}, nil},
		{"a session at a provider", session.Selection{Provider: "corp", ProviderSID: "s1"}, []string{ids["a1"], ids["b1"]}},
		{"all", session.Selection{All: true}, []string{ids["c1"]}},
	} {
		got, err := b.Delete(t.Context(), tt.which)
		if err != nil {
			t.Fatalf("Delete %s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty(), cmpopts.SortSlices(func(a, b string) bool { return a < b })); diff != "" {
			t.Errorf("Delete %s (-want +got):\n%s", tt.name, diff)
		}
		left -= len(tt.want)
		if rows, err := b.List(t.Context(), session.Selection{All: true}, b.now, 0); err != nil || len(rows) != left {
			t.Fatalf("after Delete %s: %d sessions, error %v, want %d", tt.name, len(rows), err, left)
		}
	}
}

func testList(t *testing.T, b *bench) {
	seen := func(d, expires, absolute time.Duration) func(*session.Row) {
		return func(r *session.Row) {
			r.LastSeenAt, r.ExpiresAt, r.AbsoluteExpiresAt = b.at(d), b.at(expires), b.at(absolute)
		}
	}
	first := b.create(t, person("alice"), seen(-3*time.Minute, time.Hour, 2*time.Hour))
	third := b.create(t, person("alice"), seen(-time.Minute, time.Millisecond, 2*time.Hour))
	second := b.create(t, person("alice"), seen(-2*time.Minute, time.Hour, time.Millisecond))
	b.create(t, person("alice"), seen(0, 0, time.Hour))
	b.create(t, person("alice"), seen(0, time.Hour, 0))
	for limit, want := range map[int][]string{0: {third.ID, second.ID, first.ID}, 2: {third.ID, second.ID}, 9: {third.ID, second.ID, first.ID}} {
		rows, err := b.List(t.Context(), session.Selection{UserID: first.User.ID}, b.now, limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rows {
			got = append(got, r.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("List with limit %d (-want +got):\n%s", limit, diff)
		}
	}
}
