package redisstore

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/storetest"
	"authproxy/session/storetest/servers"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, backends(servers.StartRedis(t, "--appendonly", "no")))
}

func TestManagers(t *testing.T) {
	t.Parallel()
	storetest.RunManagers(t, backends(servers.StartRedis(t, "--appendonly", "no")))
}

func TestManagersCluster(t *testing.T) {
	t.Parallel()
	storetest.RunManagers(t, clusterBackends(servers.StartRedisCluster(t)))
}

func TestStoreTLS(t *testing.T) {
	t.Parallel()
	storetest.Run(t, backends(servers.StartRedisTLS(t)))
}

func TestStoreCluster(t *testing.T) {
	t.Parallel()
	storetest.Run(t, clusterBackends(servers.StartRedisCluster(t)))
}

func TestMain(m *testing.M) {
	// Most of these tests wait for servers, or for what is told.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// backends returns what gives each test keys of its own on one server, and a way
// of its own to it.
func backends(server *servers.Redis) func(t *testing.T) storetest.Backend {
	var tests atomic.Int32
	return func(t *testing.T) storetest.Backend {
		link := servers.NewLink(t, server.Addr)
		return cuttable(backend(server.URLAt(link.Addr), fmt.Sprint("test-", tests.Add(1)), server), link)
	}
}

// clusterBackends is backends for a Cluster, to which there are several ways.
func clusterBackends(cluster *servers.RedisCluster) func(t *testing.T) storetest.Backend {
	var tests atomic.Int32
	return func(*testing.T) storetest.Backend {
		return backend(cluster.URL(), fmt.Sprint("test-", tests.Add(1)), cluster.Nodes...)
	}
}

// backend returns what the suite needs of the servers at url.
func backend(url, prefix string, nodes ...*servers.Redis) storetest.Backend {
	o := operator{keys{prefix}, nodes}
	return storetest.Backend{
		Open:     func(t testing.TB) session.Store { return openStore(t, url, Options{Prefix: prefix}) },
		Operator: o,
		Events:   o.events,
	}
}

// cuttable returns b, whose stores reach their server through link.
func cuttable(b storetest.Backend, link *servers.Link) storetest.Backend {
	b.Cut = func(testing.TB) func() {
		link.Cut()
		return link.Heal
	}
	return b
}

// openStore opens a Store that is closed when the test ends.
func openStore(t testing.TB, url string, o Options) *Store {
	t.Helper()
	o.SentinelPassword = servers.RedisPassword
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// answering waits until s answers.
func answering(t testing.TB, s *Store) *Store {
	t.Helper()
	eventually(t, "the store answers", func() bool { return s.Ping(t.Context()) == nil })
	return s
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// An operator uses redis-cli.
type operator struct {
	keys  keys
	nodes []*servers.Redis
}

func (o operator) cli(t testing.TB, args ...string) string {
	t.Helper()
	return o.nodes[0].CLI(t, args...)
}

// ref returns whose session id is, if it is there.
func (o operator) ref(t testing.TB, id string) (r ref, there bool) {
	t.Helper()
	text := o.cli(t, "GET", o.keys.id(id))
	if text == "" {
		return ref{}, false
	}
	var n names
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	return ref{n.User, id}, true
}

func (o operator) DeleteSession(t testing.TB, id string) {
	if r, there := o.ref(t, id); there {
		o.cli(t, "DEL", o.keys.session(r))
	}
}

func (o operator) DeleteAll(t testing.TB) {
	// Other tests have their keys there as well.
	const all = "for _, k in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', k) end"
	for _, n := range o.nodes {
		n.CLI(t, "EVAL", "#!lua flags=allow-cross-slot-keys\n"+all, "0", o.keys.prefix+":*")
	}
}

func (o operator) SetRole(t testing.TB, userID, role string) {
	o.cli(t, "HSET", o.keys.user(userID), "role", role)
}

func (o operator) RaiseEpoch(t testing.TB, userID string) {
	o.cli(t, "HINCRBY", o.keys.user(userID), "sessionEpoch", "1")
}

func (o operator) Ban(t testing.TB, userID string) {
	o.cli(t, "HSET", o.keys.user(userID), "banned", "1")
}

func (o operator) Expire(t testing.TB, id string) {
	// Like an UPDATE, it makes no session where there is none.
	const update = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'absoluteExpiresAt', '1') end"
	if r, there := o.ref(t, id); there {
		o.cli(t, "EVAL", update, "1", o.keys.session(r))
	}
}

func (o operator) events(t testing.TB) []session.Event {
	t.Helper()
	var events []session.Event
	lines := strings.Split(o.cli(t, "XRANGE", o.keys.audit(), "-", "+"), "\n")
	for i, line := range lines {
		if line == "type" {
			events = append(events, session.Event{Type: lines[i+1]})
		}
	}
	return events
}

// newRow returns a session of somebody.
func newRow(name, id string) *session.Row {
	now := time.Now().UTC().Truncate(time.Millisecond)
	u := session.User{ID: session.UserID("https://id.example.com", name), Issuer: "https://id.example.com", Subject: name, Provider: "corp", Email: name + "@example.com"}
	r := &session.Row{Session: &session.Session{
		ID: id, User: u, CreatedAt: now, UpdatedAt: now, LastSeenAt: now, ExpiresAt: now.Add(time.Hour), AbsoluteExpiresAt: now.Add(10 * time.Hour),
	}}
	copy(r.Token[:], id)
	return r
}

// create writes a session of name.
func create(t testing.TB, s *Store, name, id string) *session.Row {
	t.Helper()
	r := newRow(name, id)
	if err := s.Create(t.Context(), r, nil); err != nil {
		t.Fatalf("Create: %v", err)
	}
	return r
}

func unavailable(err error) bool { return errors.Is(err, session.ErrUnavailable) }
func isNone(err error) bool      { return errors.Is(err, session.ErrNone) }
