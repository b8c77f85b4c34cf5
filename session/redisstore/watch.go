package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"authproxy/session"
)

const (
	// beatEvery is how often a heartbeat goes out; there is a call at least every
	// 500 ms.
	beatEvery = 200 * time.Millisecond
	// beatTimeout is how long one may take to come back before the channel counts
	// as broken.
	beatTimeout = 2 * time.Second
	// beatLife is how long Redis keeps the key of one.
	beatLife = time.Second
)

var (
	errMoved  = errors.New("the servers are not the same any more")
	errSilent = errors.New("a heartbeat did not come back")
)

// Watch tells what changes, as [session.Store] says. It has a connection of its
// own to each master, where Redis announces each key that changes (client-side
// caching in broadcasting mode): whoever changed it, and when Redis itself
// deletes it.
//
// AsOf rests on the order of these announcements. Redis collects the keys that
// change while it works off one round of commands, and sends them at the end of
// the round, in one message for each prefix that somebody watches
// (trackingBroadcastInvalidationMessages in tracking.c). We watch one prefix, and
// a heartbeat writes a key below it: when that is announced, so is every key
// that changed in an earlier round, and those of the same round are in the same
// message. So whatever was committed before the heartbeat was sent has been told
// when it comes back. It goes out on the same connection: a server that is not
// the master any more, or does not own the slot any more, refuses it.
func (s *Store) Watch(ctx context.Context, on func(session.Change)) error {
	err := s.watch(ctx, on)
	if ctx.Err() != nil {
		return fmt.Errorf("redisstore: %w: %w", session.ErrUnavailable, ctx.Err())
	}
	return s.failed(err)
}

func (s *Store) watch(ctx context.Context, on func(session.Change)) error {
	c, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	w := &watch{call: c, changes: make(chan told), broken: make(chan error, 1)}
	defer w.close()
	masters, err := c.masters()
	if err != nil {
		return err
	}
	began := s.options.Now()
	for _, m := range masters {
		if err := w.track(m); err != nil {
			return err
		}
	}
	on(session.Change{All: true, AsOf: began})
	for _, t := range w.tracks {
		t.asOf = began
		go w.beat(t)
	}
	return w.tell(on, began)
}

// A watch is one call of Watch.
type watch struct {
	*call
	tracks  []*track
	changes chan told
	broken  chan error // the first reason to end
}

// A track is the connection to one master.
type track struct {
	master
	client rueidis.Client
	conn   rueidis.DedicatedClient
	sent   atomic.Int64 // the number of the last heartbeat
	back   chan int64   // those that came back
	asOf   time.Time    // what was committed there before it has been told; of tell
}

// told is what came from a track: a change, or how far it has come.
type told struct {
	from   *track
	change session.Change
}

// tell hands on what comes from the tracks until one breaks. One goroutine does
// it all, so that nothing overtakes a change that its track brought before.
func (w *watch) tell(on func(session.Change), asOf time.Time) error {
	for {
		select {
		case <-w.ctx.Done():
			return w.ctx.Err()
		case err := <-w.broken:
			return err
		case next := <-w.changes:
			if !next.change.AsOf.IsZero() {
				next.from.asOf = next.change.AsOf
			}
			oldest := slices.MinFunc(w.tracks, func(a, b *track) int { return a.asOf.Compare(b.asOf) }).asOf
			nothing := !next.change.All && len(next.change.Sessions)+len(next.change.Users) == 0
			if nothing && !oldest.After(asOf) {
				continue
			}
			asOf = oldest
			next.change.AsOf = asOf
			on(next.change)
		}
	}
}

// fail ends the watch.
func (w *watch) fail(err error) {
	select {
	case w.broken <- err:
	default:
	}
}

// track connects to a master and asks it to announce changes.
func (w *watch) track(m master) error {
	o := w.redis
	o.InitAddress, o.Sentinel = []string{m.address}, rueidis.SentinelOption{}
	o.ForceSingleClient, o.DisableRetry = true, true
	o.DialCtxFn = w.dial
	client, err := rueidis.NewClient(o)
	if err != nil {
		return err
	}
	t := &track{master: m, client: client, back: make(chan int64, 1)}
	t.conn, _ = client.Dedicate()
	w.tracks = append(w.tracks, t)
	closed := t.conn.SetOnInvalidations(func(keys []rueidis.RedisMessage) { w.announced(t, keys) })
	go func() {
		if err := <-closed; err != nil {
			w.fail(err)
		} else {
			w.fail(errors.New("the connection was closed"))
		}
	}()
	ctx, cancel := context.WithTimeout(w.ctx, w.options.Timeout)
	defer cancel()
	on := t.conn.B().Arbitrary("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", w.keys.tracked()).Build()
	return t.conn.Do(ctx, on).Error()
}

// dial connects until the watch ends.
func (w *watch) dial(_ context.Context, address string, d *net.Dialer, config *tls.Config) (net.Conn, error) {
	if config != nil {
		return (&tls.Dialer{NetDialer: d, Config: config}).DialContext(w.ctx, "tcp", address)
	}
	return d.DialContext(w.ctx, "tcp", address)
}

// close gives the connections back. One that is stuck takes its time, and nobody
// waits for it.
func (w *watch) close() {
	for _, t := range w.tracks {
		go func() {
			t.conn.Close()
			t.client.Close()
		}()
	}
}

// announced takes one message of t: the keys that changed, or nil after FLUSHDB,
// FLUSHALL and the end of the connection.
func (w *watch) announced(t *track, messages []rueidis.RedisMessage) {
	if messages == nil {
		w.send(told{t, session.Change{All: true}})
		return
	}
	keys := make([]string, len(messages))
	for i := range messages {
		keys[i], _ = messages[i].ToString() // what is no text is no key of ours
	}
	w.announcedKeys(t, keys)
}

// announcedKeys hands on which sessions and people keys are, and then, if one is
// the heartbeat under way, that it came back.
func (w *watch) announcedKeys(t *track, keys []string) {
	change, beat := session.Change{}, int64(0)
	for _, key := range keys {
		user, kind, rest, ok := w.keys.split(key)
		switch {
		case ok && kind == "session":
			change.Sessions = append(change.Sessions, rest)
		case ok && kind == "user":
			change.Users = append(change.Users, user)
		case ok && kind == "heartbeat":
			if n := t.sent.Load(); key == w.keys.heartbeat(t.tag, w.process, n) {
				beat = n
			}
		default:
			change.All = true
		}
	}
	if change.All || len(change.Sessions)+len(change.Users) > 0 {
		w.send(told{t, change})
	}
	if beat == 0 {
		return
	}
	// The key of the last one may have been deleted since: that is told again, and
	// must not stand in the way of this one. Nobody else puts anything there.
	select {
	case <-t.back:
	default:
	}
	t.back <- beat
}

// send hands something to tell, unless the watch has ended.
func (w *watch) send(next told) {
	select {
	case w.changes <- next:
	case <-w.ctx.Done():
	}
}

// beat sends heartbeats to t, one at a time, until one fails.
func (w *watch) beat(t *track) {
	ticks := time.NewTicker(beatEvery)
	defer ticks.Stop()
	for n := int64(1); ; n++ {
		asOf := w.options.Now()
		t.sent.Store(n)
		complete, err := w.sendBeat(t, n)
		if err == nil {
			err = w.awaitBeat(t, n)
		}
		if err != nil {
			w.fail(err)
			return
		}
		if complete {
			w.send(told{t, session.Change{AsOf: asOf}})
		}
		select {
		case <-w.ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// sendBeat writes the key of heartbeat n. It fails if t is not where the keys are
// any more, and says whether we watch all servers that changes could come from.
func (w *watch) sendBeat(t *track, n int64) (complete bool, err error) {
	ctx, cancel := context.WithTimeout(w.ctx, beatTimeout)
	defer cancel()
	b := t.conn.B()
	commands := []rueidis.Completed{b.Set().Key(w.keys.heartbeat(t.tag, w.process, n)).Value("1").Px(beatLife).Build()}
	if w.cluster() {
		commands = append(commands, b.ClusterNodes().Build())
	}
	answers := t.conn.DoMulti(ctx, commands...)
	for _, a := range answers {
		if err := a.Error(); err != nil {
			return false, err
		}
	}
	if !w.cluster() {
		// Sentinel may have named another master, while this one still takes writes.
		if _, known := w.Nodes()[t.address]; !known {
			return false, errMoved
		}
		return true, nil
	}
	text, err := answers[1].ToString()
	if err != nil {
		return false, err
	}
	return w.covers(parseNodes(text))
}

// awaitBeat waits until heartbeat n comes back.
func (w *watch) awaitBeat(t *track, n int64) error {
	late := time.NewTimer(beatTimeout)
	defer late.Stop()
	for {
		select {
		case back := <-t.back:
			if back == n {
				return nil
			}
		case <-late.C:
			return errSilent
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
	}
}
