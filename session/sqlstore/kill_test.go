package sqlstore_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"authproxy/session"
	"authproxy/session/sqlstore"
)

// signInForever is the argument that makes this test binary the process which
// [TestAKilledProcessLosesNoAcknowledgedSession] kills.
const signInForever = "sign-in-forever"

// newRow returns a session of the person with this number.
func newRow(person int) *session.Row {
	now := time.Now().UTC().Truncate(time.Millisecond)
	id, subject := uuid.NewString(), strconv.Itoa(person)
	return &session.Row{
		Session: &session.Session{
			ID: id, CreatedAt: now, UpdatedAt: now, LastSeenAt: now, ExpiresAt: now.Add(time.Hour), AbsoluteExpiresAt: now.Add(10 * time.Hour), AuthTime: now,
			User: session.User{
				ID: session.UserID("https://id.example.com", subject), Issuer: "https://id.example.com", Subject: subject, Provider: "corp",
				Name: "Person " + subject, Email: "p" + subject + "@example.com", EmailVerified: true, Groups: []string{"staff"},
			},
			IP: "192.0.2.1", UserAgent: "Mozilla/5.0",
		},
		Token:      sha256.Sum256([]byte(id)),
		Credential: session.Credential{Refresh: "sealed"},
	}
}

// signIns creates sessions, each in place of the one before, and prints the id
// of each that was acknowledged, until it is killed. It returns the exit code.
func signIns(url string) int {
	s, err := sqlstore.Open(context.Background(), url, sqlstore.Options{Log: quiet()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for person := 0; ; person++ {
		row := newRow(person)
		if err := s.Create(context.Background(), row, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println(row.ID)
	}
}

func TestAKilledProcessLosesNoAcknowledgedSession(t *testing.T) {
	t.Parallel()
	url, o := sqliteFile(t)
	acknowledged := map[string]bool{}
	for round := range 5 {
		for _, id := range killedAfter(t, url, 20+11*round) {
			acknowledged[id] = true
		}
	}
	s := open(t, url, sqlstore.Options{})
	rows, err := s.List(t.Context(), session.Selection{All: true}, time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		delete(acknowledged, r.ID)
		if r.Credential.Refresh != "sealed" || len(r.User.Groups) != 1 {
			t.Errorf("session %s is there by half: %+v", r.ID, r)
		}
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged sessions are lost", len(acknowledged))
	}
	if len(rows) < 200 {
		t.Errorf("only %d sessions, want at least 200", len(rows))
	}
	for what, query := range map[string]string{
		"sessions without a credential": `SELECT count(*) FROM session WHERE id NOT IN (SELECT "sessionId" FROM session_credential)`,
		"credentials without a session": `SELECT count(*) FROM session_credential WHERE "sessionId" NOT IN (SELECT id FROM session)`,
		"people without a session":      `SELECT count(*) FROM "user" WHERE id NOT IN (SELECT "userId" FROM session)`,
		"accounts without a person":     `SELECT count(*) FROM account WHERE "userId" NOT IN (SELECT id FROM "user")`,
	} {
		if got := o.run(t, query); got != "0" {
			t.Errorf("%s: %s", what, got)
		}
	}
	if got := o.run(t, `PRAGMA integrity_check`); got != "ok" {
		t.Errorf("integrity_check: %s", got)
	}
}

// killedAfter starts a process that signs people in, kills it with SIGKILL when
// it has said so n times, and returns whom it acknowledged.
func killedAfter(t *testing.T, url string, n int) []string {
	t.Helper()
	child := exec.Command(os.Args[0], signInForever, url)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		ids = append(ids, lines.Text())
		if len(ids) == n {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // it was killed
	if len(ids) < n {
		t.Fatalf("the process ended by itself after %d sessions", len(ids))
	}
	return ids
}
