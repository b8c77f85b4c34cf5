package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/memstore"
)

// An auditedSite is a site of several hosts whose audit events are kept.
type auditedSite struct {
	*site
	store *memstore.Store
}

func newAuditedSite(t *testing.T) auditedSite {
	t.Helper()
	a := auditedSite{store: memstore.New(nil)}
	a.site = newHosts(t, func(set *settings) { set.store = a.store })
	return a
}

// rows returns what the store has at the end.
func (a auditedSite) rows() []session.Event {
	a.sessions.Close()
	return a.store.Events()
}

func TestWhatDidNotBeginHereIsLoggedAndNotKept(t *testing.T) {
	a := newAuditedSite(t)
	b := a.newBrowser(t)
	for _, target := range []string{
		"/auth/callback/one?state=x&code=y", "/auth/callback/one", "/auth/callback/one?state=x&state=x", "/auth/handoff?ask=x", portal + "/auth/handoff?ticket=x",
	} {
		if got := b.get(target); got.StatusCode != http.StatusBadRequest {
			t.Errorf("%s is answered %d, want 400", target, got.StatusCode)
		}
	}
	if got := a.rows(); len(got) > 0 {
		t.Errorf("requests that anybody can make left %d rows: %v", len(got), got)
	}
	if log := a.log.String(); strings.Count(log, "event=sign_in_failed") != 3 || strings.Count(log, "event=hand_off_failed") != 2 {
		t.Errorf("the log has not each of them:\n%s", log)
	}
}

func TestOfManyFailuresSomeAreKept(t *testing.T) {
	const limit, more = 200, 10
	a := newAuditedSite(t)
	b := a.newBrowser(t)
	back := b.begin("alice", "/")
	b.jar.drop("__Host-authproxy_flow_")
	back = b.authorize(b.get(back.location())) // the second attempt, which is the last
	fail := func() {
		b.jar.drop("__Host-authproxy_flow_")
		if got := b.get(back.location()); got.StatusCode != http.StatusBadRequest {
			t.Fatalf("an answer without its cookie is answered %d, want 400", got.StatusCode)
		}
	}
	for range limit + more {
		fail()
	}
	a.signedIn(t, "alice")
	a.clock.advance(10 * time.Second)
	fail()
	rows := a.rows()
	if len(rows) != limit+2 || rows[limit].Type != "sign_in" {
		t.Fatalf("%d rows, want %d failures, the sign-in and one failure later", len(rows), limit)
	}
	for i, want := range map[int]string{0: "", limit - 1: "", limit + 1: "10"} {
		if row := rows[i]; row.Type != "sign_in_failed" || row.Detail["outcome"] != "cookie" || row.Detail["left_out"] != want {
			t.Errorf("row %d is %s with %v, want a failure for its cookie with %q left out", i, row.Type, row.Detail, want)
		}
	}
	if got := strings.Count(a.log.String(), "event=sign_in_failed"); got != limit+more+1 {
		t.Errorf("the log has %d failures, want all %d", got, limit+more+1)
	}
}
