package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"authproxy/session"
)

const (
	// beatEvery is how often a heartbeat is sent: two may be late before anybody
	// notices.
	beatEvery = 250 * time.Millisecond
	// silence is how long none may come before the channel counts as cut.
	silence = 3 * time.Second
)

// errSilent says what may be the cause of a channel that tells nothing.
var errSilent = errors.New("no heartbeat came back through LISTEN for 3 s: the connection is cut or, if it never worked, leads to a pooler that gives away connections by transaction, or to another server; session.listen_url takes a direct address")

// watch listens on one connection and sends heartbeats from another one, to the
// main address, where changes are made: only that shows that changes arrive.
func (p *postgresStore) watch(ctx context.Context, on func(session.Change)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := pgx.ConnectConfig(ctx, p.listen.Copy())
	if err != nil {
		return err
	}
	defer shut(conn)
	beater, err := pgx.ConnectConfig(ctx, p.main.Copy())
	if err != nil {
		return err
	}
	beats := &heartbeat{channel: "authproxy_beat_" + strings.ToLower(rand.Text()), now: p.now, sent: map[string]time.Time{}}

	// What is committed before the LISTEN is covered by the first call, what is
	// committed after it will be delivered.
	first := session.Change{All: true, AsOf: p.now()}
	if _, err := conn.Exec(ctx, `LISTEN `+p.channel()+`; LISTEN `+beats.channel); err != nil {
		shut(beater)
		return err
	}
	on(first)

	var sending sync.WaitGroup
	sending.Go(func() {
		defer shut(beater)
		cancel(beats.send(ctx, beater))
	})
	defer sending.Wait()
	err = receive(ctx, conn, beats, first.AsOf, on)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(err)
	return err
}

// receive hands on what the server tells since first, until it tells nothing
// any more.
func receive(ctx context.Context, conn *pgx.Conn, beats *heartbeat, first time.Time, on func(session.Change)) error {
	last, asOf := time.Now(), first
	for {
		n, err := waitUntil(ctx, conn, last.Add(silence))
		if err != nil {
			return err
		}
		if n.channel != beats.channel {
			change := parseChange(n.payload)
			change.AsOf = asOf // a change says nothing about others
			on(change)
			continue
		}
		if at, ok := beats.arrived(n.payload); ok {
			last, asOf = time.Now(), at
			on(session.Change{AsOf: asOf})
		}
	}
}

type notification struct{ channel, payload string }

func waitUntil(ctx context.Context, conn *pgx.Conn, deadline time.Time) (notification, error) {
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errSilent)
	defer cancel()
	n, err := conn.WaitForNotification(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return notification{}, errSilent
	}
	if err != nil {
		return notification{}, err
	}
	return notification{n.Channel, n.Payload}, nil
}

// parseChange reads what a trigger told. What cannot be read may be anything.
func parseChange(payload string) session.Change {
	kind, list := payload[:min(1, len(payload))], payload[min(1, len(payload)):]
	ids := strings.Split(list, ",")
	for _, id := range ids {
		if !isID(id) {
			return session.Change{All: true}
		}
	}
	switch kind {
	case "s":
		return session.Change{Sessions: ids}
	case "u":
		return session.Change{Users: ids}
	default:
		return session.Change{All: true}
	}
}

// A heartbeat knows when which one was sent, on a channel that only this
// watcher listens to.
type heartbeat struct {
	channel string
	now     func() time.Time

	mu   sync.Mutex
	sent map[string]time.Time
}

// send sends one at a time, until ctx ends or it fails.
func (h *heartbeat) send(ctx context.Context, conn *pgx.Conn) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		if err := h.beat(ctx, conn, strconv.Itoa(n)); err != nil {
			return fmt.Errorf("send a heartbeat: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (h *heartbeat) beat(ctx context.Context, conn *pgx.Conn, id string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, silence, errSilent)
	defer cancel()
	h.mu.Lock()
	h.sent[id] = h.now() // before it is sent: what was committed by then is ahead of it
	h.mu.Unlock()
	// It need not survive a crash, and whoever ends a session waits for the commit of
	// each NOTIFY before its own.
	_, err := conn.Exec(ctx, `SELECT pg_notify($1, $2), set_config('synchronous_commit', 'off', true)`, h.channel, id)
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return errSilent
	}
	return err
}

// arrived returns when the heartbeat with this id was sent.
func (h *heartbeat) arrived(id string) (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.sent[id]
	delete(h.sent, id)
	return at, ok
}
