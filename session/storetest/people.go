package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"authproxy/session"
)

// lock tries to take the right to refresh at the time d, for half a minute.
func (b *bench) lock(t testing.TB, id string, version int, d time.Duration) bool {
	t.Helper()
	locked, err := b.LockRefresh(t.Context(), id, version, b.at(d), b.at(d+30*time.Second))
	if err != nil {
		t.Fatalf("LockRefresh: %v", err)
	}
	return locked
}

func testLock(t *testing.T, b *bench) {
	r := b.create(t, person("alice"))
	expect := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: locked %v, want %v", what, got, want)
		}
	}
	expect("another version", b.lock(t, r.ID, 1, 0), false)
	expect("free", b.lock(t, r.ID, 0, 0), true)
	if until := b.found(t, r.ID).Credential.RefreshLockUntil; !until.Equal(b.at(30 * time.Second)) {
		t.Errorf("locked until %v, want %v", until, b.at(30*time.Second))
	}
	expect("taken", b.lock(t, r.ID, 0, 30*time.Second-time.Millisecond), false)
	expect("run out", b.lock(t, r.ID, 0, 30*time.Second), true)
	if err := b.UnlockRefresh(t.Context(), r.ID, 7); err != nil {
		t.Fatal(err)
	}
	expect("given back by somebody with another version", b.lock(t, r.ID, 0, 31*time.Second), false)
	if err := b.UnlockRefresh(t.Context(), r.ID, 0); err != nil {
		t.Fatal(err)
	}
	expect("given back", b.lock(t, r.ID, 0, 31*time.Second), true)
	if _, err := b.Delete(t.Context(), session.Selection{ID: r.ID}); err != nil {
		t.Fatal(err)
	}
	expect("a session that is gone", b.lock(t, r.ID, 0, time.Hour), false)
	if err := b.UnlockRefresh(t.Context(), r.ID, 0); err != nil {
		t.Errorf("UnlockRefresh of a session that is gone: %v", err)
	}
	b.expectNone(t, r.ID)
}

func testSaveRefresh(t *testing.T, b *bench) {
	r := b.create(t, person("alice"), func(r *session.Row) { r.Credential = session.Credential{Refresh: "old", Access: "old", ReadAt: b.now} })
	b.Operator.SetRole(t, r.User.ID, "admin")
	b.lock(t, r.ID, 0, 0)
	next := session.Credential{
		Access: "new-access", Refresh: "new-refresh", ID: "new-id", AccessExpires: b.at(time.Hour), IDExpires: b.at(2 * time.Hour),
		RefreshAt: b.at(50 * time.Minute), ReadAt: b.at(time.Minute),
	}
	u := person("alice")
	u.Groups, u.Name = []string{"new"}, "New"
	for _, try := range []struct {
		version int
		want    bool
	}{{1, false}, {0, true}, {0, false}} {
		saved, err := b.SaveRefresh(t.Context(), r.ID, try.version, &next, &u, b.at(time.Minute))
		if err != nil || saved != try.want {
			t.Errorf("SaveRefresh of version %d = %v, %v, want %v", try.version, saved, err, try.want)
		}
	}
	got := b.found(t, r.ID)
	next.Version = 1
	if diff := cmp.Diff(next, got.Credential, sameRow()); diff != "" {
		t.Errorf("the credential (-want +got):\n%s", diff)
	}
	u.Role = "admin"
	if diff := cmp.Diff(u, got.User, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the person (-want +got):\n%s", diff)
	}
	expectClocks(t, "a refresh is no activity", session.Clocks{LastSeenAt: got.LastSeenAt, ExpiresAt: got.ExpiresAt, UpdatedAt: b.now}, b.now, b.now, b.at(time.Hour))
	if saved, err := b.SaveRefresh(t.Context(), r.ID, 1, &session.Credential{Refresh: "third"}, nil, b.at(time.Minute)); !saved || err != nil {
		t.Errorf("SaveRefresh of version 1 = %v, %v, want true", saved, err)
	}
	if got := b.found(t, r.ID); got.User.Name != "New" || got.Credential.Refresh != "third" || got.Credential.Access != "" || got.Credential.Version != 2 {
		t.Errorf("name %q and credential %+v, want New, and only the third refresh token in version 2", got.User.Name, got.Credential)
	}
}

func testLockParallel(t *testing.T, b *bench) {
	r, other := b.create(t, person("alice")), b.open(t)
	var winners atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		s := []session.Store{b.Store, other}[i%2]
		wg.Go(func() {
			locked, err := s.LockRefresh(t.Context(), r.ID, 0, b.now, b.at(30*time.Second))
			if err != nil {
				t.Errorf("LockRefresh: %v", err)
			}
			if locked {
				winners.Add(1)
			}
		})
	}
	wg.Wait()
	if got := winners.Load(); got != 1 {
		t.Errorf("%d winners, want 1", got)
	}
}

func testReseal(t *testing.T, b *bench) {
	a := b.create(t, person("alice"), func(r *session.Row) {
		r.Credential = session.Credential{Access: "old:a", Refresh: "old:r", RefreshAt: b.at(time.Minute)}
	})
	c := b.create(t, person("carol"), func(r *session.Row) {
		r.Credential = session.Credential{Refresh: "new:r", ID: "old:i"}
	})
	b.create(t, person("bob"))
	reseal := func(text string) (string, error) {
		if text == "" {
			t.Error("reseal was asked about nothing")
		}
		if len(text) > 4 && text[:4] == "old:" {
			return "new:" + text[4:], nil
		}
		return text, nil
	}
	for _, want := range []int{3, 0} {
		if n, err := b.Reseal(t.Context(), reseal); err != nil || n != want {
			t.Errorf("Reseal = %d, %v, want %d", n, err, want)
		}
	}
	a.Credential.Access, a.Credential.Refresh, c.Credential.ID = "new:a", "new:r", "new:i"
	expectRow(t, b.found(t, a.ID), a)
	expectRow(t, b.found(t, c.ID), c)
	broken := errors.New("broken")
	if _, err := b.Reseal(t.Context(), func(string) (string, error) { return "", broken }); !errors.Is(err, broken) {
		t.Errorf("Reseal with an error: %v, want it", err)
	}
	expectRow(t, b.found(t, a.ID), a)
}

func testBan(t *testing.T, b *bench) {
	r := b.create(t, person("alice"))
	bystander := b.create(t, person("bob"))
	expect := func(what string, banned bool, until time.Time) {
		t.Helper()
		if got := b.found(t, r.ID); got.Banned != banned || !got.BanExpires.Equal(until) {
			t.Errorf("%s: banned %v until %v, want %v until %v", what, got.Banned, got.BanExpires, banned, until)
		}
		accounts, err := b.Users(t.Context(), r.User.ID, "")
		if err != nil || len(accounts) != 1 || accounts[0].Banned != banned || !accounts[0].BanExpires.Equal(until) {
			t.Errorf("%s: Users = %+v, %v, want banned %v until %v", what, accounts, err, banned, until)
		}
	}
	expect("before", false, time.Time{})
	for what, until := range map[string]time.Time{"for good": {}, "for an hour": b.at(time.Hour)} {
		if err := b.Store.Ban(t.Context(), r.User.ID, "left", until); err != nil {
			t.Fatal(err)
		}
		expect(what, true, until)
	}
	if accounts, _ := b.Users(t.Context(), r.User.ID, ""); len(accounts) != 1 || accounts[0].BanReason != "left" {
		t.Errorf("Users = %+v, want the reason", accounts)
	}
	if err := b.Unban(t.Context(), r.User.ID); err != nil {
		t.Fatal(err)
	}
	expect("after", false, time.Time{})
	if accounts, _ := b.Users(t.Context(), r.User.ID, ""); len(accounts) != 1 || accounts[0].BanReason != "" {
		t.Errorf("Users = %+v, want no reason any more", accounts)
	}
	if b.found(t, bystander.ID).Banned {
		t.Error("somebody else is banned as well")
	}
	for _, unknown := range []string{person("nobody").ID, "", "not a UUID"} {
		if err := b.Store.Ban(t.Context(), unknown, "", time.Time{}); !errors.Is(err, session.ErrNone) {
			t.Errorf("Ban(%q): error %v, want ErrNone", unknown, err)
		}
		if err := b.Unban(t.Context(), unknown); !errors.Is(err, session.ErrNone) {
			t.Errorf("Unban(%q): error %v, want ErrNone", unknown, err)
		}
	}
}

func testUsers(t *testing.T, b *bench) {
	a, c := person("alice"), person("carol")
	a.Email, c.Email = "Shared@Example.com", "shared@example.COM"
	b.create(t, a)
	b.create(t, c)
	b.create(t, person("bob"))
	empty := person("dave")
	empty.Email = ""
	b.create(t, empty)
	for _, tt := range []struct {
		name, id, email string
		want            []string
	}{
		{"by id", a.ID, "", []string{a.ID}},
		{"by id, not by address", a.ID, "bob@example.com", []string{a.ID}},
		{"by address, in any case", "", "SHARED@example.com", []string{a.ID, c.ID}},
		{"by a part of it", "", "shared@example", nil},
		{"by a pattern", "", "%@example.com", nil},
		{"an unknown id", person("nobody").ID, "", nil},
		{"an id that is none", "x", "", nil},
		{"by nothing", "", "", nil},
	} {
		accounts, err := b.Users(t.Context(), tt.id, tt.email)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var got []string
		for _, account := range accounts {
			got = append(got, account.User.ID)
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty(), cmpopts.SortSlices(func(a, b string) bool { return a < b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	accounts, err := b.Users(t.Context(), a.ID, "")
	if err != nil || len(accounts) != 1 {
		t.Fatalf("Users = %v, %v", accounts, err)
	}
	accounts[0].User.Role = ""
	if diff := cmp.Diff(a, accounts[0].User, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the person (-want +got):\n%s", diff)
	}
	if accounts[0].CreatedAt.IsZero() || !accounts[0].LastSignInAt.Equal(b.now) {
		t.Errorf("created %v, last sign-in %v, want some time and %v", accounts[0].CreatedAt, accounts[0].LastSignInAt, b.now)
	}
}

func testOperator(t *testing.T, b *bench) {
	a, c, over := b.create(t, person("alice")), b.create(t, person("carol")), b.create(t, person("alice"))
	b.Operator.SetRole(t, a.User.ID, "admin")
	b.Operator.RaiseEpoch(t, a.User.ID)
	b.Operator.Ban(t, a.User.ID)
	if got := b.found(t, a.ID); got.User.Role != "admin" || got.UserEpoch != 1 || got.Epoch != 0 || !got.Banned {
		t.Errorf("role %q, epoch %d of %d, banned %v; want admin, 0 of 1, true", got.User.Role, got.Epoch, got.UserEpoch, got.Banned)
	}
	b.Operator.Expire(t, over.ID)
	if rows, err := b.List(t.Context(), session.Selection{ID: over.ID}, b.now, 0); err != nil || len(rows) != 0 {
		t.Errorf("a session whose end was set to the past: listed %d, error %v", len(rows), err)
	}
	b.Operator.DeleteSession(t, a.ID)
	b.expectNone(t, a.ID)
	b.found(t, c.ID)
	b.Operator.DeleteAll(t)
	b.expectNone(t, c.ID)
}

func testAudit(t *testing.T, b *bench) {
	alice := person("alice")
	full := session.Event{
		At: b.at(-2 * time.Hour), Type: "session_revoked", UserID: alice.ID, SessionID: b.row(alice).ID, ActorID: person("admin").ID,
		IP: "192.0.2.1", UserAgent: "UA", Detail: map[string]string{"cause": "lost \"laptop\""},
	}
	if err := b.Record(t.Context(), []session.Event{full, {At: b.at(-time.Hour), Type: "sign_in_failed", IP: "192.0.2.2"}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Record(t.Context(), nil); err != nil {
		t.Errorf("nothing to record: %v", err)
	}
	if err := b.Record(t.Context(), []session.Event{{At: b.now, Type: "sign_out"}}); err != nil {
		t.Fatal(err)
	}
	types := func() (got []string) {
		for _, e := range b.Events(t) {
			got = append(got, e.Type)
		}
		return got
	}
	for _, tt := range []struct {
		keep time.Time
		n    int
		want []string
	}{
		{time.Time{}, 0, []string{"session_revoked", "sign_in_failed", "sign_out"}},
		{b.at(-90 * time.Minute), 1, []string{"sign_in_failed", "sign_out"}},
		{b.at(-90 * time.Minute), 0, []string{"sign_in_failed", "sign_out"}},
	} {
		if n, err := b.Store.Sweep(t.Context(), b.now, tt.keep, 100); err != nil || n != tt.n {
			t.Errorf("Sweep = %d, %v, want %d", n, err, tt.n)
		}
		if diff := cmp.Diff(tt.want, types()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	}
}

func testSweep(t *testing.T, b *bench) {
	live := b.create(t, person("alice"))
	for i := range 5 {
		b.create(t, person(fmt.Sprint("user-", i)), func(r *session.Row) {
			if i%2 == 0 {
				r.ExpiresAt = b.at(-time.Minute)
			} else {
				r.AbsoluteExpiresAt = b.at(-time.Minute)
			}
		})
	}
	for _, want := range []int{2, 2, 1, 0} {
		if n, err := b.Store.Sweep(t.Context(), b.now, time.Time{}, 2); err != nil || n != want {
			t.Errorf("Sweep of at most 2 = %d, %v, want %d", n, err, want)
		}
	}
	b.found(t, live.ID)
	if n, err := b.Store.Sweep(t.Context(), live.ExpiresAt.Add(-time.Millisecond), time.Time{}, 9); err != nil || n != 0 {
		t.Errorf("Sweep just before the end = %d, %v, want 0", n, err)
	}
	if n, err := b.Store.Sweep(t.Context(), live.ExpiresAt, time.Time{}, 9); err != nil || n != 1 {
		t.Errorf("Sweep at the end = %d, %v, want 1", n, err)
	}
	b.expectNone(t, live.ID)
}
