package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"authproxy/session/storetest/servers"
)

// A database is a store of sessions and its own command line.
type database struct {
	name  string
	start func(t *testing.T) (url string, run func(t *testing.T, statement string) string)
}

func databases() []database {
	return []database{
		{"SQLite", func(t *testing.T) (string, func(*testing.T, string) string) {
			need(t, "sqlite3")
			file := filepath.Join(t.TempDir(), "sessions.db")
			return "sqlite://" + file, func(t *testing.T, statement string) string {
				t.Helper()
				out, err := exec.Command("sqlite3", "-cmd", ".timeout 10000", file, "PRAGMA foreign_keys=ON; "+statement).CombinedOutput()
				if err != nil {
					t.Fatalf("sqlite3: %v: %s", err, out)
				}
				return strings.TrimSpace(string(out))
			}
		}},
		{"PostgreSQL", func(t *testing.T) (string, func(*testing.T, string) string) {
			p := servers.StartPostgres(t)
			return p.URL(), func(t *testing.T, statement string) string {
				t.Helper()
				return strings.TrimSpace(p.Psql(t, "SET search_path = authproxy; "+statement))
			}
		}},
	}
}

// expectSignIn returns nil if a click ended at sign-in, ours or the provider's.
func expectSignIn(res *network.Response, base string) error {
	if res.Status == http.StatusOK && (!strings.HasPrefix(res.URL, base+"/") || strings.HasPrefix(res.URL, base+"/auth/sign-in?")) {
		return nil
	}
	return fmt.Errorf("the browser is at %s with %d, want it at sign-in", res.URL, res.Status)
}

func TestARowIsDeletedAndEveryTabKnows(t *testing.T) {
	slow(t)
	t.Parallel()
	for _, db := range databases() {
		t.Run(db.name, func(t *testing.T) {
			t.Parallel()
			first := openBrowser(t)
			url, run := db.start(t)
			base := startClientPages(t, "", "session: {store: "+url+"}").base
			first.signsIn(base, "alice", "/page")
			second := first.another()
			second.visit(base + "/page")
			if got := script[string](first, `authproxy.listSessions().then(({data}) => data.map(d => d.device + " " + d.current).join())`); !strings.HasPrefix(got, "Chrome") || !strings.HasSuffix(got, " true") {
				t.Errorf("listSessions = %q, want this browser", got)
			}
			got := script[string](first, `authproxy.update({theme: "dark"}).then(({data, error}) => JSON.stringify([data.session.data, error]))`)
			if want := `[{"theme":"dark"},null]`; got != want {
				t.Errorf("update = %s, want %s", got, want)
			}
			second.becomes(`events.at(-1) === "USER_UPDATED alice@example.com" && authproxy.session.value.data.session.data.theme === "dark"`)

			run(t, `DELETE FROM session;`)
			deleted := time.Now()
			eventually(t, stepLimit, func() error { return expectSignIn(first.open(base+"/page?click"), base) }) // the next click
			t.Logf("a click leads to sign-in %v after the row was deleted", time.Since(deleted).Round(time.Millisecond))
			first.visit(base + "/public/page") // any page of ours that uses the library
			second.becomes(`events.at(-1) === "SIGNED_OUT " && authproxy.session.value.status === "unauthenticated"`)
		})
	}
}

func TestOneBrowserSignsAnotherOut(t *testing.T) {
	slow(t)
	t.Parallel()
	here, there := openBrowser(t), openBrowser(t)
	base := startClientPages(t, "", "session: {store: memory}").base
	for _, b := range []*tab{here, there} {
		b.signsIn(base, "alice", "/page")
	}
	other := script[string](here, `authproxy.listSessions().then(({data}) => data.find(d => !d.current).id)`)
	for _, step := range []struct{ do, want string }{
		{`revokeSession("no-such-id")`, `[null,"unknown_session"]`},
		{`revokeSession("` + other + `")`, "[null,null]"},
		{`revokeOtherSessions()`, `[{"revoked":0},null]`},
	} {
		if got := script[string](here, `authproxy.`+step.do+`.then(({data, error}) => JSON.stringify([data, error?.code ?? null]))`); got != step.want {
			t.Errorf("%s = %s, want %s", step.do, got, step.want)
		}
	}
	evaluate[bool](there, `(Date.now = () => 9e15, dispatchEvent(new Event("focus")))`) // somebody comes back to the page, much later
	there.becomes(`events.at(-1) === "SIGNED_OUT "`)
	there.signsIn(base, "alice", "/page")
	if got := script[int](here, `authproxy.revokeSessions().then(({data}) => data.revoked)`); got != 2 {
		t.Errorf("revokeSessions = %d, want 2", got)
	}
	here.becomes(`events.at(-1) === "SIGNED_OUT "`)
}

func TestTheAccountPageWorksWithoutJavaScript(t *testing.T) {
	slow(t)
	t.Parallel()
	here, there, third := openBrowser(t), openBrowser(t), openBrowser(t)
	base := startClientPages(t, "", "session: {store: memory}").base
	here.disableScripts()
	for _, b := range []*tab{here, there, third} {
		b.open(base + "/auth/sign-in/demo?login_hint=alice&rd=/auth/account")
	}
	here.open(base + "/auth/account")
	here.shows("alice@example.com")
	here.shows("This device")
	for _, b := range []*tab{there, third} {
		if res := b.open(base + "/page"); res.URL != base+"/page" {
			t.Fatalf("another browser is at %s, want it signed in", res.URL)
		}
	}

	here.focus("Sign out") // this device's
	here.do("press Tab", chromedp.KeyEvent(kb.Tab))
	here.press(kb.Enter) // the next device's
	here.shows("That device has been signed out.")
	here.click("Sign out everywhere else")
	here.shows("All other devices have been signed out.")
	for _, b := range []*tab{there, third} {
		if err := expectSignIn(b.open(base+"/page"), base); err != nil {
			t.Errorf("another browser: %v", err)
		}
	}
	here.click("Sign out everywhere")
	if err := expectSignIn(here.open(base+"/page"), base); err != nil {
		t.Errorf("after sign-out everywhere: %v", err)
	}
}

func TestAPageThatKnowsNothingLoadsAnewAtSignOut(t *testing.T) {
	slow(t)
	t.Parallel()
	first := openBrowser(t)
	base := startClientPages(t, "", "html: {inject_client: true}").base
	first.open(base + "/auth/sign-in/demo?login_hint=alice&rd=/plain")
	second := first.another()
	second.open(base + "/plain?a=b")
	for _, b := range []*tab{first, second} {
		b.shows("a plain page")
		eventually(t, stepLimit, func() error {
			if evaluate[bool](b, `window.authproxy?.session.value.status === "authenticated"`) {
				return nil
			}
			return errors.New("no library in the page, or nobody signed in")
		})
	}
	first.open(base + "/auth/sign-out")
	first.click("Sign out")
	first.open(base + "/public/page")
	eventually(t, stepLimit, func() error {
		at, err := chromedp.Run(second.ctx, chromedp.Evaluate[string](`document.readyState + location.href`))
		if err == nil && (!strings.HasPrefix(at, "complete") || strings.Contains(at, base+"/plain")) {
			err = errors.New("the page is still there: " + at)
		}
		return err
	})
	second.hides("a plain page")
}
