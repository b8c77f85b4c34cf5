package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authproxy/session"
)

const (
	adminToken  = "a-token-for-the-tests"
	adminConfig = `public_url: https://app.example.com
upstream: http://127.0.0.1:8080
providers: [{id: corp, type: oidc, issuer: "http://127.0.0.1:9", client_id: x}]
cookie: {keys: [AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=]}
`
)

// An office is a server that does not listen, with an admin API, and its
// configuration.
type office struct {
	*app
	file  string
	admin http.Handler
}

// newOffice builds a server with more settings. STORE in them is a SQLite file.
func newOffice(t *testing.T, more string) *office {
	t.Helper()
	dir := t.TempDir()
	o := &office{file: filepath.Join(dir, "authproxy.yaml")}
	text := adminConfig + strings.ReplaceAll(more, "STORE", "sqlite:"+filepath.Join(dir, "sessions.db"))
	if err := os.WriteFile(o.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := load(environment{args: []string{"--config", o.file}})
	if err != nil {
		t.Fatal(err)
	}
	if o.app, err = build(cfg, nil, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	o.admin = o.adminHandler(&status{})
	return o
}

const withStore = "session: {store: \"STORE\"}\nadmin: {token: " + adminToken + "}\n"

// signIn starts a session and returns its cookie.
func (o *office) signIn(t *testing.T, name string) (*session.Session, *http.Request) {
	t.Helper()
	s := &session.Session{User: session.User{
		Provider: "corp", Issuer: "http://127.0.0.1:9", Subject: name, Name: name, Email: name + "@example.com", EmailVerified: true,
	}, IP: "192.0.2.1", UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
	rec := httptest.NewRecorder()
	if _, err := o.sessions.Start(rec, httptest.NewRequest("GET", "/", nil), s); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	for _, c := range rec.Result().Cookies() {
		if c.MaxAge >= 0 {
			r.AddCookie(c)
		}
	}
	return s, r
}

func (o *office) lives(r *http.Request) bool {
	_, err := o.sessions.Lookup(r)
	return err == nil
}

// ask calls the admin API and returns the status and the answer.
func (o *office) ask(t *testing.T, call, body string) (int, map[string]any) {
	t.Helper()
	return o.askAs(t, "Bearer "+adminToken, call, body)
}

func (o *office) askAs(t *testing.T, authorization, call, body string) (int, map[string]any) {
	t.Helper()
	method, path, _ := strings.Cut(call, " ")
	r, w := httptest.NewRequest(method, path, strings.NewReader(body)), httptest.NewRecorder()
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	o.admin.ServeHTTP(w, r)
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil && w.Code != http.StatusNotFound {
		t.Errorf("%s answers %d %q, want JSON", call, w.Code, w.Body)
	}
	if w.Code == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("%s: WWW-Authenticate = %q, want Bearer", call, w.Header().Get("WWW-Authenticate"))
	}
	return w.Code, answer
}

func TestTheAdminAPINeedsItsToken(t *testing.T) {
	o := newOffice(t, withStore)
	_, alice := o.signIn(t, "alice")
	for name, authorization := range map[string]string{
		"none": "", "another": "Bearer another-token-for-tests", "a prefix": "Bearer " + adminToken[:20], "more": "Bearer " + adminToken + "x",
		"basic": "Basic " + adminToken, "empty": "Bearer ", "the token alone": adminToken,
	} {
		for _, call := range []string{"GET /admin/sessions?all=true", "DELETE /admin/sessions?all=true", "PUT /admin/users/x/ban", "GET /admin/no-such-page"} {
			if code, _ := o.askAs(t, authorization, call, "{}"); code != http.StatusUnauthorized {
				t.Errorf("with the credential %q %s answers %d, want 401", name, call, code)
			}
		}
	}
	if !o.lives(alice) {
		t.Error("a call without the token ended a session")
	}
	if code, _ := o.ask(t, "GET /admin/no-such-page", ""); code != http.StatusNotFound {
		t.Errorf("with the token an unknown page is %d, want 404", code)
	}
}

func TestThereIsNoAdminAPIWithoutATokenOrInPublic(t *testing.T) {
	o := newOffice(t, "session: {store: \"STORE\"}\n")
	for _, authorization := range []string{"", "Bearer ", "Bearer " + adminToken} {
		if code, _ := o.askAs(t, authorization, "GET /admin/sessions?all=true", ""); code != http.StatusNotFound {
			t.Errorf("without admin.token the answer is %d, want 404", code)
		}
	}
	o = newOffice(t, withStore)
	for _, path := range []string{"/admin/sessions?all=true", "/auth/admin/sessions?all=true"} {
		r, w := httptest.NewRequest("GET", "https://app.example.com"+path, nil), httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer "+adminToken)
		o.proxy.ServeHTTP(w, r)
		if w.Code == http.StatusOK || strings.Contains(w.Body.String(), "sessions\":") {
			t.Errorf("the public listener answers %s with %d %s", path, w.Code, w.Body)
		}
	}
}

func TestOperatorsListSessionsByPersonAddressAndID(t *testing.T) {
	o := newOffice(t, withStore)
	alice, _ := o.signIn(t, "alice")
	o.signIn(t, "alice")
	o.signIn(t, "bob")
	for query, want := range map[string]int{
		"user=" + alice.User.ID: 2, "email=alice@example.com": 2, "email=ALICE@example.com": 2, "id=" + alice.ID: 1, "all=true": 3,
		"email=nobody@example.com": 0, "user=nobody": 0, "id=none": 0, "all=true&limit=2": 2, "email=alice@example.com&limit=1": 1,
	} {
		code, answer := o.ask(t, "GET /admin/sessions?"+query, "")
		list, _ := answer["sessions"].([]any)
		if code != http.StatusOK || list == nil || len(list) != want || answer["more"] != strings.Contains(query, "limit") {
			t.Errorf("%s: %d, %d sessions, more %v; want %d of them", query, code, len(list), answer["more"], want)
		}
	}
	_, answer := o.ask(t, "GET /admin/sessions?id="+alice.ID, "")
	got := answer["sessions"].([]any)[0].(map[string]any)
	for name, want := range map[string]any{
		"id": alice.ID, "userId": alice.User.ID, "email": "alice@example.com", "name": "alice", "provider": "corp",
		"ipAddress": "192.0.2.1", "device": "Firefox on Linux", "createdAt": alice.CreatedAt.UTC().Format(time.RFC3339),
	} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
	for _, query := range []string{"", "all=false", "all=1", "user=x&all=true", "user=x&email=y", "id=", "all=true&limit=0", "all=true&limit=1001", "all=true&limit=x", "user=x&user=y"} {
		if code, _ := o.ask(t, "GET /admin/sessions?"+query, ""); code != http.StatusBadRequest {
			t.Errorf("the query %q is answered %d, want 400", query, code)
		}
	}
}

func TestOperatorsEndSessions(t *testing.T) {
	o := newOffice(t, withStore)
	first, one := o.signIn(t, "alice")
	_, two := o.signIn(t, "alice")
	_, bob := o.signIn(t, "bob")
	for i, step := range []struct {
		query   string
		revoked float64
		alive   [3]bool
	}{
		{"id=none", 0, [3]bool{true, true, true}},
		{"id=" + first.ID, 1, [3]bool{false, true, true}},
		{"email=alice@example.com", 1, [3]bool{false, false, true}},
		{"all=true", 1, [3]bool{}},
	} {
		if code, answer := o.ask(t, "DELETE /admin/sessions?"+step.query, ""); code != http.StatusOK || answer["revoked"] != step.revoked {
			t.Errorf("step %d: %d, %v revoked, want %v", i, code, answer["revoked"], step.revoked)
		}
		if got := [3]bool{o.lives(one), o.lives(two), o.lives(bob)}; got != step.alive {
			t.Errorf("step %d: alive %v, want %v", i, got, step.alive)
		}
	}
	for _, query := range []string{"", "all=false", "user=&email="} {
		if code, _ := o.ask(t, "DELETE /admin/sessions?"+query, ""); code != http.StatusBadRequest {
			t.Errorf("DELETE with the query %q is answered %d, want 400", query, code)
		}
	}
}

func TestOperatorsBanAndUnbanPeople(t *testing.T) {
	o := newOffice(t, withStore)
	s, alice := o.signIn(t, "alice")
	_, bob := o.signIn(t, "bob")
	ban := "/admin/users/" + s.User.ID + "/ban"
	for _, body := range []string{"", "[]", `{"untill": "72h"}`, `{"until": "2001-01-01T00:00:00Z"}`, `{"until": "soon"}`, `{"until": "-1h"}`} {
		if code, _ := o.ask(t, "PUT "+ban, body); code != http.StatusBadRequest {
			t.Errorf("a ban with %s is answered %d, want 400", body, code)
		}
	}
	if !o.lives(alice) {
		t.Fatal("a ban that was refused ended the session")
	}
	code, answer := o.ask(t, "PUT "+ban, `{"reason": "spam", "until": "72h"}`)
	if code != http.StatusOK || answer["banned"] != true || answer["banReason"] != "spam" || answer["banExpires"] == nil {
		t.Errorf("the ban is answered %d %v", code, answer)
	}
	if o.lives(alice) || !o.lives(bob) {
		t.Errorf("alive: alice %v, bob %v; want bob alone", o.lives(alice), o.lives(bob))
	}
	if _, err := o.sessions.Start(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), &session.Session{User: s.User}); err == nil {
		t.Error("who is banned can sign in")
	}
	if code, answer := o.ask(t, "DELETE "+ban, ""); code != http.StatusOK || answer["banned"] != false {
		t.Errorf("the end of the ban is answered %d %v", code, answer)
	}
	o.signIn(t, "alice")
	if code, answer := o.ask(t, "PUT /admin/users/00000000-0000-5000-8000-000000000000/ban", "{}"); code != http.StatusNotFound || answer["error"] != "unknown_user" {
		t.Errorf("a ban of nobody is answered %d %v, want 404", code, answer)
	}
	code, answer = o.ask(t, "GET /admin/users?email=alice@example.com", "")
	if users, _ := answer["users"].([]any); code != http.StatusOK || len(users) != 1 {
		t.Errorf("the users of an address are %d %v, want one", code, answer)
	}
}

func TestTheAdminAPISaysWhatIsMissing(t *testing.T) {
	o := newOffice(t, "admin: {token: "+adminToken+"}\n")
	if code, answer := o.ask(t, "GET /admin/sessions?all=true", ""); code != http.StatusConflict || answer["error"] != "strategy_unsupported" {
		t.Errorf("with sessions in cookies the answer is %d %v, want 409", code, answer)
	}
	o = newOffice(t, withStore)
	s, _ := o.signIn(t, "alice")
	o.store.Close()
	o.sessions.StoreTimeout = time.Millisecond
	id := s.User.ID
	for _, call := range []string{"GET /admin/sessions?user=" + id, "DELETE /admin/sessions?user=" + id, "GET /admin/users?id=" + id, "PUT /admin/users/" + id + "/ban", "DELETE /admin/users/" + id + "/ban"} {
		if code, answer := o.ask(t, call, "{}"); code != http.StatusServiceUnavailable {
			t.Errorf("with the store down %s is answered %d %v, want 503", call, code, answer)
		}
	}
}

// command runs a command line in this process.
func (o *office) command(args ...string) (status int, stdout, stderr string) {
	var out, problems bytes.Buffer
	args = append(args, "--config", o.file)
	status = run(context.Background(), environment{args: args, stdin: strings.NewReader(""), stdout: &out, stderr: &problems})
	return status, out.String(), problems.String()
}

func TestTheSessionsCommandWorksInTheStoreItself(t *testing.T) {
	o := newOffice(t, withStore)
	first, one := o.signIn(t, "alice")
	_, two := o.signIn(t, "alice")
	_, bob := o.signIn(t, "bob")
	steps := []struct {
		args  string
		want  string
		alive [3]bool
	}{
		{"list --all", "alice@example.com  corp      Firefox on Linux  192.0.2.1", [3]bool{true, true, true}},
		{"list --all --limit=2", "there are more than these 2", [3]bool{true, true, true}},
		{"list --session " + first.ID + " --json", `"userId": "` + first.User.ID + `"`, [3]bool{true, true, true}},
		{"revoke --session " + first.ID, "1 ended", [3]bool{false, true, true}},
		{"ban --email alice@example.com --reason spam --until 72h", "banned " + first.User.ID + " alice@example.com", [3]bool{false, false, true}},
		{"list --user " + first.User.ID, "is banned until 2", [3]bool{false, false, true}},
		{"unban --user " + first.User.ID, "unbanned " + first.User.ID, [3]bool{false, false, true}},
		{"revoke --all", "1 ended", [3]bool{}},
		{"revoke --all", "0 ended", [3]bool{}},
	}
	for _, step := range steps {
		status, out, problems := o.command(append([]string{"sessions"}, strings.Fields(step.args)...)...)
		if status != 0 || !strings.Contains(out, step.want) {
			t.Errorf("sessions %s: status %d, %s%s\nwant %s", step.args, status, out, problems, step.want)
		}
		// Run is not called, so each check here reads the store.
		if got := [3]bool{o.lives(one), o.lives(two), o.lives(bob)}; got != step.alive {
			t.Errorf("sessions %s: alive %v, want %v", step.args, got, step.alive)
		}
	}
}

func TestTheSessionsCommandRefusesWhatIsUnclear(t *testing.T) {
	o := newOffice(t, withStore)
	_, alice := o.signIn(t, "alice")
	for args, want := range map[string]string{
		"":                           "say list, revoke, ban or unban",
		"delete --all":               "say list, revoke, ban or unban",
		"revoke":                     "name one",
		"revoke --all --email a@b.c": "name one",
		"revoke --user=":             "--user is empty",
		"ban --all":                  "ban is for a person",
		"ban --session x":            "ban is for a person",
		"revoke --all --reason x":    "--reason and --until are for ban",
		"list --all --limit 0":       "--limit is a number",
		"ban --email alice@example.com --until yesterday": "--until yesterday is neither a time",
	} {
		if status, out, problems := o.command(append([]string{"sessions"}, strings.Fields(args)...)...); status != 2 || !strings.Contains(problems, want) {
			t.Errorf("sessions %s: status %d, %q %q; want 2 and %q", args, status, out, problems, want)
		}
	}
	if status, _, problems := o.command("sessions", "ban", "--email", "nobody@example.com"); status != 1 || !strings.Contains(problems, "there is nobody") {
		t.Errorf("a ban of nobody: status %d, %q", status, problems)
	}
	if !o.lives(alice) {
		t.Error("one of them ended the session")
	}
	for store, want := range map[string]string{"cookie": "is cookie", "memory": "is memory"} {
		o := newOffice(t, "session: {store: "+store+"}\n")
		if status, _, problems := o.command("sessions", "list", "--all"); status != 1 || !strings.Contains(problems, "session.store: "+want) {
			t.Errorf("with session.store: %s the status is %d, %q", store, status, problems)
		}
	}
}

func TestWhatOperatorsDoIsInTheAudit(t *testing.T) {
	o := newOffice(t, withStore)
	s, _ := o.signIn(t, "alice")
	o.signIn(t, "bob")
	if status, _, problems := o.command("sessions", "revoke", "--session", s.ID); status != 0 {
		t.Fatal(problems)
	}
	o.ask(t, "PUT /admin/users/"+s.User.ID+"/ban", `{"reason": "spam"}`)
	o.ask(t, "DELETE /admin/users/"+s.User.ID+"/ban", "")
	o.ask(t, "DELETE /admin/sessions?all=true", "")
	o.sessions.Close() // writes down what waits
	path := strings.TrimPrefix(o.config.Session.Store, "sqlite:")
	got := rows(t, path, `SELECT type || ' ' || coalesce("userId",'') || ' ' || coalesce("sessionId",'') || ' ' || coalesce(detail,'') FROM audit_event ORDER BY id`)
	for _, want := range []string{
		fmt.Sprintf("session_revoked %s %s", s.User.ID, s.ID), "user_banned " + s.User.ID, "user_unbanned " + s.User.ID, `"reason":"spam"`, `"cause":"admin"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the audit has no %q:\n%s", want, got)
		}
	}
}

// rows returns what a query answers from a SQLite file, one text a line.
func rows(t *testing.T, path, query string) string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	var lines []string
	for found.Next() {
		var line string
		if err := found.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
