package e2e

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// kill ends the process as a power cut does.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	<-p.exited
	p.err = nil // it ended as it should
}

// A thousand people sign in on SQLite, and five times the process is killed
// meanwhile. Whoever got a session cookie has a session afterwards, whole.
func TestAKilledProcessLosesNoSignIn(t *testing.T) {
	slow(t)
	t.Parallel()
	sqlite := need(t, "sqlite3")
	s := newSetup(t)
	file := filepath.Join(t.TempDir(), "sessions.db")
	l := s.launch(s.file(t, fmt.Sprintf("log: {requests: none}\nshutdown: {delay: 0s}\nsession: {store: %q}\n", "sqlite://"+file)))
	l.plain = true

	var cookies []string
	for range 5 {
		p := start(t, l)
		cookies = append(cookies, signInUntilKilled(t, p, 200)...)
	}
	start(t, l)
	if len(cookies) < 1000 {
		t.Errorf("only %d people were signed in, want 1000", len(cookies))
	}
	lost := 0
	for _, cookie := range cookies {
		res, _ := get(t, http.DefaultClient, s.base+"/page", http.Header{"Cookie": {cookie}})
		if res.StatusCode != http.StatusOK {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d sessions whose cookie had been handed out are lost", lost, len(cookies))
	}
	for what, query := range map[string]string{
		"sessions without a credential": `SELECT count(*) FROM session WHERE id NOT IN (SELECT "sessionId" FROM session_credential)`,
		"credentials without a session": `SELECT count(*) FROM session_credential WHERE "sessionId" NOT IN (SELECT id FROM session)`,
		"sessions without a person":     `SELECT count(*) FROM session WHERE "userId" NOT IN (SELECT id FROM "user")`,
		"people without an account":     `SELECT count(*) FROM "user" WHERE id NOT IN (SELECT "userId" FROM account)`,
		"complaints about the file":     `SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'`,
	} {
		out, err := exec.Command(sqlite, file, query).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != "0" {
			t.Errorf("%s: %s, %v; want 0", what, got, err)
		}
	}
}

// signInUntilKilled lets people sign in, several at a time, kills p when n have
// their cookie while others are on their way, and returns the cookies of all.
func signInUntilKilled(t *testing.T, p *process, n int) []string {
	t.Helper()
	var mu sync.Mutex
	var cookies []string
	enough := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				browser := newClient(t, nil)
				res, err := browser.Get(p.base + "/auth/sign-in/demo?login_hint=alice&rd=/after")
				if err == nil {
					res.Body.Close()
				}
				// The cookie counts, also where the page after it did not come.
				if cookie := sessionCookie(t, browser, p.base); cookie != "" {
					mu.Lock()
					if cookies = append(cookies, cookie); len(cookies) == n {
						close(enough)
					}
					mu.Unlock()
				}
				if err != nil {
					return // it was killed
				}
			}
		})
	}
	select {
	case <-enough:
	case <-p.exited:
		t.Fatalf("authproxy ended by itself: %v", p.err)
	}
	p.kill()
	wg.Wait()
	return cookies
}
