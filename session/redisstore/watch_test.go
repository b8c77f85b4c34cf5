package redisstore

import (
	"context"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authproxy/session"
	"authproxy/session/storetest/servers"
)

// A listener collects what Watch tells.
type listener struct {
	ended chan error

	mu   sync.Mutex
	told []session.Change
}

// listen watches s until the test ends, and returns after the first call.
func listen(t *testing.T, s *Store) *listener {
	t.Helper()
	l := &listener{ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		l.ended <- s.Watch(ctx, func(c session.Change) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.told = append(l.told, c)
		})
	}()
	eventually(t, "something is told", func() bool {
		if len(l.ended) > 0 {
			t.Fatalf("Watch: %v", <-l.ended)
		}
		return len(l.all()) > 0
	})
	return l
}

func (l *listener) all() []session.Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told)
}

// asOf returns how far l has come.
func (l *listener) asOf() time.Time {
	all := l.all()
	return all[len(all)-1].AsOf
}

// settle waits until everything from before the call was told.
func (l *listener) settle(t *testing.T) {
	t.Helper()
	now := time.Now()
	eventually(t, "as-of moves on", func() bool { return l.asOf().After(now) })
}

// tells waits until the session id was told by name.
func (l *listener) tells(t *testing.T, id string) {
	t.Helper()
	eventually(t, "session "+id+" is told", func() bool {
		return slices.ContainsFunc(l.all(), func(c session.Change) bool { return slices.Contains(c.Sessions, id) })
	})
}

// end returns why Watch ended.
func (l *listener) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-l.ended:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the watch goes on")
		return nil
	}
}

func TestWatchEndsWhenItsConnectionIsKilled(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := answering(t, openStore(t, server.URL(), Options{}))
	l := listen(t, s)
	l.settle(t)
	server.CLI(t, "CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
	killed := time.Now()
	if err := l.end(t); err == nil {
		t.Error("Watch ended without an error")
	}
	if got := l.asOf(); got.After(killed) {
		t.Errorf("as of %v, after the connection was killed at %v", got, killed)
	}
	eventually(t, "the store answers again", func() bool { return s.Ping(t.Context()) == nil })
	if first := listen(t, s).all()[0]; !first.All {
		t.Errorf("the first call of the next watch is %+v, want all", first)
	}
}

func TestNothingIsLostWhenTheServerRestarts(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := answering(t, openStore(t, server.URL(), Options{}))
	r := create(t, s, "alice", "a")
	l := listen(t, s)
	server.Kill(t)
	if err := l.end(t); err == nil {
		t.Error("Watch ended without an error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Find(ctx, r.Token); err == nil || !unavailable(err) {
		t.Errorf("Find without a server: error %v, want ErrUnavailable", err)
	}
	server.Start(t)
	eventually(t, "the session is found again", func() bool {
		_, err := s.Find(t.Context(), r.Token)
		if err != nil && !unavailable(err) {
			t.Fatalf("Find: %v", err)
		}
		return err == nil
	})
	listen(t, s).settle(t)
}

func TestAsOfStandsStillWhileNothingPasses(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	link := servers.NewLink(t, server.Addr)
	s := answering(t, openStore(t, server.URLAt(link.Addr), Options{}))
	l := listen(t, s)
	l.settle(t)
	link.Freeze()
	frozen := time.Now()
	if err := l.end(t); err == nil {
		t.Error("Watch ended without an error")
	}
	if took := time.Since(frozen); took > beatTimeout+20*time.Second {
		t.Errorf("noticed after %v", took)
	}
	if got := l.asOf(); got.After(frozen) {
		t.Errorf("as of %v, after nothing passed any more at %v", got, frozen)
	}
	link.Heal()
	answering(t, s)
	listen(t, s).settle(t)
}

func TestAFrozenServerIsNoAnswer(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := answering(t, openStore(t, server.URL(), Options{Timeout: 300 * time.Millisecond}))
	r := create(t, s, "alice", "a")
	server.Freeze(t)
	defer server.Thaw(t)
	if _, err := s.Find(t.Context(), r.Token); !unavailable(err) {
		t.Errorf("Find: error %v, want ErrUnavailable", err)
	}
}

func TestAFlushIsTold(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := answering(t, openStore(t, server.URL(), Options{}))
	l := listen(t, s)
	for _, command := range []string{"FLUSHALL", "FLUSHDB"} {
		r := create(t, s, "alice", "a")
		l.settle(t)
		mark := len(l.all())
		server.CLI(t, command)
		eventually(t, "all is told", func() bool {
			return slices.ContainsFunc(l.all()[mark:], func(c session.Change) bool { return c.All })
		})
		if _, err := s.Find(t.Context(), r.Token); !isNone(err) {
			t.Errorf("Find after %s: error %v, want ErrNone", command, err)
		}
	}
}

func TestWhatRedisDeletesByItselfIsTold(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t)
	s := answering(t, openStore(t, server.URL(), Options{}))
	r := create(t, s, "alice", "a")
	l := listen(t, s)
	l.settle(t)
	server.CLI(t, "PEXPIRE", s.keys.session(ref{r.User.ID, r.ID}), "1")
	l.tells(t, r.ID)
	eventually(t, "the session is gone", func() bool {
		_, err := s.Find(t.Context(), r.Token)
		return isNone(err)
	})
}

func TestHeartbeatsOfOthersAreNotOurs(t *testing.T) {
	t.Parallel()
	s := openStore(t, "redis://127.0.0.1:1", Options{}) // nothing is asked
	w := &watch{call: &call{Store: s, ctx: t.Context()}, changes: make(chan told, 1)}
	track := &track{master: master{tag: "beat"}, back: make(chan int64, 1)}
	track.sent.Store(3)
	for key, want := range map[string]int{
		s.keys.heartbeat("beat", s.process, 3): 1, s.keys.heartbeat("beat", s.process, 2): 0, s.keys.heartbeat("beat", "other", 3): 0,
	} {
		w.announcedKeys(track, []string{key})
		if got := len(track.back); got != want {
			t.Errorf("%s: %d heartbeats came back, want %d", key, got, want)
		}
		for len(track.back) > 0 {
			<-track.back
		}
	}
}

func TestAChangeInTheMessageOfAHeartbeatIsToldFirst(t *testing.T) {
	t.Parallel()
	s := openStore(t, "redis://127.0.0.1:1", Options{}) // nothing is asked
	w := &watch{call: &call{Store: s, ctx: t.Context()}, changes: make(chan told)}
	track := &track{master: master{tag: "beat"}, back: make(chan int64, 1)}
	track.sent.Store(1)
	go w.announcedKeys(track, []string{s.keys.heartbeat("beat", s.process, 1), s.keys.session(ref{"u", "x"}), s.keys.user("v")})
	for range 1000 {
		runtime.Gosched()
		if len(track.back) > 0 {
			t.Fatal("the heartbeat came back before the change was told")
		}
	}
	if got := (<-w.changes).change; !slices.Equal(got.Sessions, []string{"x"}) || !slices.Equal(got.Users, []string{"v"}) || got.All {
		t.Errorf("told %+v, want the session x and the person v", got)
	}
	<-track.back
}

func TestAHeartbeatThatComesBackTwiceHidesNotTheNext(t *testing.T) {
	t.Parallel()
	s := openStore(t, "redis://127.0.0.1:1", Options{}) // nothing is asked
	w := &watch{call: &call{Store: s, ctx: t.Context()}}
	track := &track{master: master{tag: "beat"}, back: make(chan int64, 1)}
	for _, n := range []int64{1, 1, 2} { // the key of the first is deleted by hand
		track.sent.Store(n)
		w.announcedKeys(track, []string{s.keys.heartbeat("beat", s.process, n)})
	}
	if err := w.awaitBeat(track, 2); err != nil {
		t.Errorf("awaitBeat: %v, want the second heartbeat", err)
	}
}

func TestAKeyThatNobodyKnowsIsTold(t *testing.T) {
	t.Parallel()
	s := openStore(t, "redis://127.0.0.1:1", Options{}) // nothing is asked
	w := &watch{call: &call{Store: s, ctx: t.Context()}, changes: make(chan told, 1)}
	for _, key := range []string{"", "authproxy:{u}:novel", "authproxy:{u", "other"} {
		w.announcedKeys(&track{}, []string{key})
		if got := (<-w.changes).change; !got.All {
			t.Errorf("%q: told %+v, want all", key, got)
		}
	}
}

func TestSentinelLeadsToTheMaster(t *testing.T) {
	t.Parallel()
	servers := servers.StartRedisSentinel(t)
	s := answering(t, openStore(t, servers.URL(), Options{WaitReplicas: 1}))
	r := create(t, s, "alice", "a")
	gone := create(t, s, "alice", "gone")
	if _, err := s.Delete(t.Context(), session.Selection{ID: gone.ID}); err != nil {
		t.Fatal(err)
	}
	l := listen(t, s)
	servers.Master.Kill(t)
	if err := l.end(t); err == nil {
		t.Error("Watch ended without an error")
	}
	eventually(t, "the session is found at the other", func() bool {
		_, err := s.Find(t.Context(), r.Token)
		if err != nil && !unavailable(err) {
			t.Fatalf("Find: %v", err)
		}
		return err == nil
	})
	if _, err := s.Find(t.Context(), gone.Token); !isNone(err) {
		t.Errorf("what was revoked: error %v, want ErrNone", err)
	}
	listenAgain(t, s).settle(t)
}

// A switch while the old master goes on: it takes writes for seconds, and its
// changes are not ours any more.
func TestSentinelSwitchesAwayFromALivingMaster(t *testing.T) {
	t.Parallel()
	servers := servers.StartRedisSentinel(t)
	s := answering(t, openStore(t, servers.URL(), Options{}))
	r := create(t, s, "alice", "a")
	l := listen(t, s)
	l.settle(t)
	servers.Sentinel.CLI(t, "SENTINEL", "FAILOVER", "main")
	if err := l.end(t); err == nil {
		t.Error("Watch ended without an error")
	}
	again := listenAgain(t, s)
	eventually(t, "the other is the master", func() bool {
		return strings.HasPrefix(servers.Replica.CLI(t, "ROLE"), "master")
	})
	if got := servers.Replica.CLI(t, "DEL", s.keys.session(ref{r.User.ID, r.ID})); got != "1" {
		t.Fatalf("DEL at the new master: %s", got)
	}
	eventually(t, "the deletion counts", func() bool {
		_, err := s.Find(t.Context(), r.Token)
		return isNone(err)
	})
	again.tells(t, r.ID)
}

// listenAgain watches s as soon as that is possible.
func listenAgain(t *testing.T, s *Store) *listener {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		l := &listener{ended: make(chan error, 1)}
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		go func() {
			l.ended <- s.Watch(ctx, func(c session.Change) {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.told = append(l.told, c)
			})
		}()
		// Three calls mean that heartbeats come back.
		eventually(t, "Watch tells or ends", func() bool { return len(l.all()) > 3 || len(l.ended) > 0 })
		if len(l.ended) == 0 {
			return l
		}
		if time.Now().After(end) {
			t.Fatalf("Watch: %v", <-l.ended)
		}
	}
}

func TestEveryServerOfAClusterIsWatched(t *testing.T) {
	t.Parallel()
	cluster := servers.StartRedisCluster(t)
	s := answering(t, openStore(t, cluster.URL(), Options{}))
	l := listen(t, s)
	l.settle(t)
	for _, node := range cluster.Nodes {
		r := create(t, s, nameAt(t, node), "session-at-"+node.Addr)
		node.CLI(t, "DEL", s.keys.session(ref{r.User.ID, r.ID}))
		l.tells(t, r.ID)
	}
	frozen := cluster.Nodes[1]
	frozen.Freeze(t)
	at := time.Now()
	if err := l.end(t); err == nil {
		t.Error("Watch goes on without one of three")
	}
	if got := l.asOf(); got.After(at) {
		t.Errorf("as of %v, but one of three was frozen at %v", got, at)
	}
	frozen.Thaw(t)
	listenAgain(t, s).settle(t)
}

// nameAt returns somebody whose keys are on node.
func nameAt(t *testing.T, node *servers.Redis) string {
	t.Helper()
	for i := range 1000 {
		name := "user-" + strconv.Itoa(i)
		slot := slotOf(newRow(name, "x").User.ID)
		for _, n := range parseNodes(node.CLI(t, "CLUSTER", "NODES")) {
			if n.address == node.Addr && slices.ContainsFunc(n.slots, func(r [2]int) bool { return r[0] <= slot && slot <= r[1] }) {
				return name
			}
		}
	}
	t.Fatal("nobody of a thousand is there")
	return ""
}

func TestSlotsThatMoveToANewServerAreNotMissed(t *testing.T) {
	t.Parallel()
	cluster := servers.StartRedisCluster(t)
	s := answering(t, openStore(t, cluster.URL(), Options{}))
	from, added := cluster.Nodes[0], cluster.Add(t)
	r := create(t, s, nameAt(t, from), "a")
	from.CLI(t, "--cluster", "add-node", added.Addr, from.Addr)
	for _, n := range cluster.Nodes {
		eventually(t, "all know the new server", func() bool {
			return strings.Contains(n.CLI(t, "CLUSTER", "NODES"), added.Addr) && strings.Contains(n.CLI(t, "CLUSTER", "INFO"), "cluster_state:ok")
		})
	}
	l := listenAgain(t, s)
	l.settle(t)

	slot, id := strconv.Itoa(slotOf(r.User.ID)), added.CLI(t, "CLUSTER", "MYID")
	added.CLI(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", from.CLI(t, "CLUSTER", "MYID"))
	from.CLI(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", id)
	at := time.Now()
	// Whatever moves now changes unseen: nothing may be vouched for, however many
	// heartbeats come back.
	beats := map[string]bool{}
	eventually(t, "heartbeats go on", func() bool {
		for key := range strings.FieldsSeq(from.CLI(t, "KEYS", "*:heartbeat:*")) {
			beats[key] = true
		}
		return len(beats) > 8
	})
	host, port, _ := strings.Cut(added.Addr, ":")
	keys := strings.Fields(from.CLI(t, "CLUSTER", "GETKEYSINSLOT", slot, "100"))
	from.CLI(t, append([]string{"MIGRATE", host, port, "", "0", "5000", "AUTH", servers.RedisPassword, "KEYS"}, keys...)...)
	l.tells(t, r.ID)
	if _, err := s.Delete(t.Context(), session.Selection{ID: r.ID}); err != nil {
		t.Fatalf("Delete in a slot on the move: %v", err)
	}
	for _, n := range cluster.Nodes {
		n.CLI(t, "CLUSTER", "SETSLOT", slot, "NODE", id)
	}
	if err := l.end(t); err == nil {
		t.Error("Watch goes on without the new server")
	}
	// A heartbeat that was on its way when the slot began to move still counts.
	if got := l.asOf(); got.After(at) {
		t.Errorf("as of %v, but the slot was on the move from %v on", got, at)
	}
	if first := listenAgain(t, s).all()[0]; !first.All {
		t.Errorf("the first call of the next watch is %+v, want all", first)
	}
}

func TestClusterNodesAreRead(t *testing.T) {
	t.Parallel()
	text := "txt:a1 10.0.0.1:6379@16379,one.example.com master - 0 1 3 connected 0-5 7 [93->-b2] [94-<-c3]\n" +
		"b2 :6380@16380 myself,master - 0 1 3 connected 8-16383\n" +
		"c3 fd00::1:6379@16379 master,fail - 0 1 3 connected\n" +
		"d4 10.0.0.4:6379@16379 slave a1 0 1 3 connected\n\n"
	nodes := parseNodes(text)
	if got := nodes[0].migratesTo; len(nodes) != 4 || !slices.Equal(got, []string{"b2"}) {
		t.Errorf("%d nodes, the first migrates to %v; want 4 and b2", len(nodes), got)
	}
	got, err := mastersOf(nodes, "10.0.0.2:6380", true)
	want := []master{{"one.example.com:6379", "a1", got[0].tag}, {"10.0.0.2:6380", "b2", got[1].tag}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("masters %v, %v, want %v", got, err, want)
	}
	if s := slotOf(got[0].tag); s > 5 && s != 7 {
		t.Errorf("the tag %s is in slot %d, want 0 to 5, or 7", got[0].tag, s)
	}
	if s := slotOf("123456789"); s != 0x31c3 { // from the specification
		t.Errorf("slot of 123456789 is %#x, want 0x31c3", s)
	}
	if _, err := mastersOf(nodes[2:], "x:1", false); err == nil {
		t.Error("masters without a slot: no error")
	}
	if got := nodes[2].endpoint("x:1", false); got != "[fd00::1]:6379" {
		t.Errorf("endpoint %s, want [fd00::1]:6379", got)
	}
}
