package redisstore

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authproxy/session"
	"authproxy/session/storetest/servers"
)

func TestHalfASessionIsNone(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := answering(t, openStore(t, server.URL(), Options{}))
	for name, key := range map[string]func(r ref) string{"session": s.keys.session, "clocks": s.keys.clocks} {
		row := create(t, s, "without "+name, "without "+name)
		server.CLI(t, "DEL", key(ref{row.User.ID, row.ID}))
		if _, err := s.Touch(t.Context(), row.ID, session.Touch{Now: time.Now()}); !isNone(err) {
			t.Errorf("Touch without %s: error %v, want ErrNone", name, err)
		}
		if err := s.SetData(t.Context(), row.ID, nil, time.Now()); !isNone(err) {
			t.Errorf("SetData without %s: error %v, want ErrNone", name, err)
		}
		if locked, err := s.LockRefresh(t.Context(), row.ID, 0, time.Now(), time.Now()); locked || err != nil {
			t.Errorf("LockRefresh without %s = %v, %v, want false", name, locked, err)
		}
	}
	for name, spoil := range map[string]func(r ref){
		"no session":        func(r ref) { server.CLI(t, "DEL", s.keys.session(r)) },
		"no clocks":         func(r ref) { server.CLI(t, "DEL", s.keys.clocks(r)) },
		"no person":         func(r ref) { server.CLI(t, "DEL", s.keys.user(r.user)) },
		"nothing leads to":  func(r ref) { server.CLI(t, "DEL", s.keys.id(r.id)); deleteTokens(t, s, server) },
		"another's token":   func(r ref) { server.CLI(t, "HSET", s.keys.session(r), "token", newRow("x", "x").Token.String()) },
		"no token any more": func(r ref) { server.CLI(t, "HDEL", s.keys.session(r), "token") },
	} {
		row := create(t, s, name, name)
		spoil(ref{row.User.ID, row.ID})
		if _, err := s.Find(t.Context(), row.Token); !isNone(err) {
			t.Errorf("%s: Find: error %v, want ErrNone", name, err)
		}
	}
}

func deleteTokens(t *testing.T, s *Store, server *servers.Redis) {
	t.Helper()
	for key := range strings.FieldsSeq(server.CLI(t, "KEYS", s.keys.token("*"))) {
		server.CLI(t, "DEL", key)
	}
}

func TestWhatCannotBeReadIsTheLessFavourable(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := answering(t, openStore(t, server.URL(), Options{}))
	tests := []struct {
		name  string
		spoil func(r ref) []string
		want  func(row *session.Row) bool
	}{
		{"banned yes", func(r ref) []string { return []string{"HSET", s.keys.user(r.user), "banned", "yes"} },
			func(row *session.Row) bool { return row.Banned && row.BanExpires.IsZero() }},
		{"banned false", func(r ref) []string { return []string{"HSET", s.keys.user(r.user), "banned", "false"} },
			func(row *session.Row) bool { return !row.Banned }},
		{"an end of the ban that is none", func(r ref) []string {
			return []string{"HSET", s.keys.user(r.user), "banned", "1", "banExpires", "tomorrow"}
		},
			func(row *session.Row) bool { return row.Banned && row.BanExpires.IsZero() }},
		{"no epoch of the person", func(r ref) []string { return []string{"HDEL", s.keys.user(r.user), "sessionEpoch"} },
			func(row *session.Row) bool { return row.Epoch != row.UserEpoch }},
		{"no epochs at all", func(r ref) []string {
			return []string{"EVAL", "redis.call('HDEL', KEYS[1], 'epoch'); return redis.call('HDEL', KEYS[2], 'sessionEpoch')", "2", s.keys.session(r), s.keys.user(r.user)}
		},
			func(row *session.Row) bool { return row.Epoch != row.UserEpoch }},
		{"an end that is none", func(r ref) []string { return []string{"HSET", s.keys.session(r), "absoluteExpiresAt", "never"} },
			func(row *session.Row) bool { return row.End().Before(time.Now()) }},
		{"no end of the window", func(r ref) []string { return []string{"HDEL", s.keys.clocks(r), "expiresAt"} },
			func(row *session.Row) bool { return row.End().Before(time.Now()) }},
	}
	for _, tt := range tests {
		row := create(t, s, tt.name, tt.name)
		server.CLI(t, tt.spoil(ref{row.User.ID, row.ID})...)
		got, err := s.Find(t.Context(), row.Token)
		if err != nil || !tt.want(got) {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
}

func TestNothingRemainsOfSessionsThatAreGone(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := answering(t, openStore(t, server.URL(), Options{}))
	gone := func(id string) *session.Row {
		r := newRow("alice", id)
		r.ProviderSID = "sid-" + id
		if err := s.Create(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
		return r
	}
	deleted, byHand, over, slid := gone("deleted"), gone("by-hand"), gone("over"), gone("slid")
	if ids, err := s.Delete(t.Context(), session.Selection{ID: deleted.ID}); err != nil || len(ids) != 1 {
		t.Fatalf("Delete = %v, %v", ids, err)
	}
	server.CLI(t, "DEL", s.keys.session(ref{byHand.User.ID, byHand.ID}))
	server.CLI(t, "HSET", s.keys.clocks(ref{slid.User.ID, slid.ID}), "expiresAt", millis(over.ExpiresAt.Add(time.Hour)))
	if n, err := s.Sweep(t.Context(), over.ExpiresAt, time.Time{}, 100); err != nil || n != 1 {
		t.Errorf("Sweep = %d, %v, want 1: that which is over", n, err)
	}
	if _, err := s.Find(t.Context(), slid.Token); err != nil {
		t.Errorf("the session that slid: %v", err)
	}
	if n, err := s.Sweep(t.Context(), slid.ExpiresAt.Add(2*time.Hour), time.Time{}, 100); err != nil || n != 1 {
		t.Errorf("Sweep = %d, %v, want 1: that which slid", n, err)
	}
	keys := strings.Fields(server.CLI(t, "KEYS", "*"))
	slices.Sort(keys)
	want := []string{s.keys.email("alice@example.com"), s.keys.subject("corp", "alice"), s.keys.user(over.User.ID)}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestAListIsCutWhileItIsRead(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, "--appendonly", "no")
	s := answering(t, openStore(t, server.URL(), Options{}))
	const n = maxBatch + 10
	now := time.Now().Truncate(time.Millisecond).UTC()
	for i := range n {
		r := newRow("alice", fmt.Sprintf("id-%03d", i*11%n)) // read in another order than they were seen
		if r.LastSeenAt = now.Add(time.Duration(i) * time.Second); i == n-2 {
			r.ExpiresAt = now.Add(-time.Second)
		}
		if err := s.Create(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{3, 0} {
		rows, err := s.List(t.Context(), session.Selection{All: true}, now, limit)
		var seen []int
		for _, r := range rows {
			seen = append(seen, int(r.LastSeenAt.Sub(now)/time.Second))
		}
		want := n - 1
		if limit > 0 {
			want = limit
		}
		if err != nil || len(seen) != want || !slices.Equal(seen[:3], []int{n - 1, n - 3, n - 4}) || !slices.IsSortedFunc(seen, func(a, b int) int { return b - a }) {
			t.Errorf("List with the limit %d: %d sessions seen at %v, %v; want the %d seen last", limit, len(rows), seen, err, want)
		}
	}
}

func TestRedisDeletesWhatNobodySweeps(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := answering(t, openStore(t, server.URL(), Options{}))
	row := create(t, s, "alice", "a")
	r := ref{row.User.ID, row.ID}
	life := func(key string) time.Duration {
		ms, err := strconv.Atoi(server.CLI(t, "PTTL", key))
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(ms) * time.Millisecond
	}
	about := func(what, key string, want time.Duration) {
		t.Helper()
		if got := life(key); got > want || got < want-time.Hour {
			t.Errorf("%s lives for %v, want %v", what, got, want)
		}
	}
	about("the session", s.keys.session(r), 10*time.Hour+grace)
	about("its name", s.keys.id(r.id), 10*time.Hour+grace)
	about("its token", s.keys.token(row.Token.String()), 10*time.Hour+grace)
	server.CLI(t, "PEXPIRE", s.keys.clocks(r), "7200000")
	at := row.CreatedAt.Add(30 * time.Minute)
	if _, err := s.Touch(t.Context(), row.ID, session.Touch{Now: at, SlideIfBy: at.Add(time.Hour), SlideTo: at.Add(4 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	about("its clocks", s.keys.clocks(r), 4*time.Hour+grace)

	endless := newRow("bob", "b")
	endless.AbsoluteExpiresAt = time.Time{}
	if err := s.Create(t.Context(), endless, nil); err != nil {
		t.Fatal(err)
	}
	if got := server.CLI(t, "PTTL", s.keys.session(ref{endless.User.ID, endless.ID})); got != "-1" {
		t.Errorf("a session without a hard end lives for %s ms, want -1, for good", got)
	}
}

func TestAReplicaIsNoAnswer(t *testing.T) {
	t.Parallel()
	pair := servers.StartRedisSentinel(t)
	master := answering(t, openStore(t, pair.Master.URL(), Options{}))
	row := create(t, master, "alice", "a")
	s := openStore(t, pair.Replica.URL(), Options{})
	eventually(t, "the replica is reached", func() bool { return strings.Contains(fmt.Sprint(s.Ping(t.Context())), errReplica.Error()) })
	if _, err := s.Find(t.Context(), row.Token); !unavailable(err) {
		t.Errorf("Find: error %v, want ErrUnavailable", err)
	}
	if _, err := s.Find(t.Context(), newRow("x", "x").Token); !unavailable(err) {
		t.Errorf("Find of an unknown token: error %v, want ErrUnavailable: a replica cannot know", err)
	}
	if _, err := s.Touch(t.Context(), "unknown", session.Touch{}); !unavailable(err) {
		t.Errorf("Touch: error %v, want ErrUnavailable", err)
	}
	if err := s.Watch(t.Context(), func(session.Change) {}); !unavailable(err) {
		t.Errorf("Watch: error %v, want ErrUnavailable", err)
	}
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestARevocationWaitsForReplicas(t *testing.T) {
	t.Parallel()
	pair := servers.StartRedisSentinel(t)
	for _, tt := range []struct {
		replicas int
		warns    bool
	}{{1, false}, {2, true}} {
		var log syncBuffer
		s := answering(t, openStore(t, pair.Master.URL(), Options{WaitReplicas: tt.replicas, Log: slog.New(slog.NewTextHandler(&log, nil))}))
		row := create(t, s, "alice", fmt.Sprint("a", tt.replicas))
		if ids, err := s.Delete(t.Context(), session.Selection{ID: row.ID}); err != nil || len(ids) != 1 {
			t.Errorf("Delete = %v, %v, want one", ids, err)
		}
		if got := pair.Replica.CLI(t, "EXISTS", s.keys.session(ref{row.User.ID, row.ID})); got != "0" {
			t.Error("the replica still has the session")
		}
		if warned := strings.Contains(log.String(), "too few replicas"); warned != tt.warns {
			t.Errorf("with %d replicas wanted and one there: warned %v, want %v\n%s", tt.replicas, warned, tt.warns, &log)
		}
	}
}

// A server that is no Redis, or an old one, repeats what it does not know.
func TestThePasswordIsInNoErrorAndNoLog(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for in := bufio.NewScanner(conn); in.Scan(); {
					if strings.HasPrefix(in.Text(), "*") {
						fmt.Fprint(conn, "-ERR unknown: `3`, `AUTH`, `default`, `s3cret`\r\n")
					}
				}
			}()
		}
	}()
	var log syncBuffer
	s := openStore(t, "redis://:s3cret@"+listener.Addr().String(), Options{Timeout: 2 * time.Second, Log: slog.New(slog.NewTextHandler(&log, nil))})
	eventually(t, "the failure is logged", func() bool { return strings.Contains(log.String(), "cannot be reached") })
	err = s.Ping(t.Context())
	if !unavailable(err) {
		t.Errorf("Ping: error %v, want ErrUnavailable", err)
	}
	if text := fmt.Sprint(err, log.String()); strings.Contains(text, "s3cret") || !strings.Contains(text, "unknown") {
		t.Errorf("%s\nwant what the server said, without the password", text)
	}
}

func TestAStoreThatWasNeverReachedIsUnavailable(t *testing.T) {
	t.Parallel()
	s := openStore(t, "redis://127.0.0.1:1", Options{Timeout: 100 * time.Millisecond})
	if _, err := s.Find(t.Context(), newRow("x", "x").Token); !unavailable(err) {
		t.Errorf("Find: error %v, want ErrUnavailable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, "redis://127.0.0.1:1", Options{}); err == nil {
		t.Error("Open with a context that has ended: no error")
	}
}

func TestAWrongPasswordIsUnavailable(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := openStore(t, server.URL(), Options{Password: "wr0ng", Timeout: 500 * time.Millisecond})
	eventually(t, "Redis says so", func() bool { return strings.Contains(fmt.Sprint(s.Ping(t.Context())), "WRONGPASS") })
	if err := s.Ping(t.Context()); !unavailable(err) || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("Ping: error %v, want ErrUnavailable without the password", err)
	}
}

func TestUsersThatWouldMixUpKeysAreRefused(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := answering(t, openStore(t, server.URL(), Options{}))
	for _, id := range []string{"", "a}:user", "{", "a/b"} {
		row := newRow("alice", "a")
		row.User.ID = id
		if err := s.Create(t.Context(), row, nil); err == nil || unavailable(err) {
			t.Errorf("user id %q: error %v, want a refusal", id, err)
		}
	}
	if keys := server.CLI(t, "KEYS", "*"); keys != "" {
		t.Errorf("keys were written: %s", keys)
	}
}

func TestNumbersInClaimsKeepTheirType(t *testing.T) {
	t.Parallel()
	want := map[string]any{"whole": 3.0, "big": 1e21, "integer": int64(3), "list": []any{-2.0, int64(-2)}, "map": map[string]any{"zero": 0.0}}
	text, err := encode(exact(want), false)
	if err != nil {
		t.Fatal(err)
	}
	u, err := ref{}.person(hash{"claims": text})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, u.Claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}
