package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authproxy/devidp/legacyapp"
	"authproxy/session/storetest/servers"
)

// A sharedStore is a server that two processes keep their sessions in.
type sharedStore struct {
	name  string
	start func(t *testing.T) *runningStore
}

// A runningStore is one that runs, and what can happen to it.
type runningStore struct {
	addr string
	// urlAt returns its address as authproxy takes it, by another way.
	urlAt func(addr string) string
	// sever ends the connections that it has, as an administrator does.
	sever func()
	// restart stops it and starts it again; nothing is lost.
	restart func()
}

func sharedStores() []sharedStore {
	return []sharedStore{
		{"PostgreSQL", func(t *testing.T) *runningStore {
			p := servers.StartPostgres(t)
			return &runningStore{
				addr: p.Addr, urlAt: p.URLAt, restart: func() { p.Restart(t) },
				sever: func() {
					p.Psql(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'authproxy'`)
				},
			}
		}},
		{"Redis", func(t *testing.T) *runningStore {
			r := servers.StartRedis(t)
			return &runningStore{
				addr: r.Addr, urlAt: r.URLAt, restart: func() { r.Kill(t); r.Start(t) },
				sever: func() { r.CLI(t, "CLIENT", "KILL", "SKIPME", "yes") },
			}
		}},
	}
}

// A replica is one of several authproxy processes behind one address.
type replica struct {
	name   string
	client *http.Client  // reaches this one by the address of all
	link   *servers.Link // its way to the store
}

// A fleet is two replicas on one store, and what a load balancer is for them is
// the replica's client.
type fleet struct {
	setup
	store    *runningStore
	replicas []*replica
}

// startFleet starts two processes on a store of that kind, with flags besides the
// configuration of s.
func startFleet(t *testing.T, kind sharedStore, s setup, flags ...string) *fleet {
	t.Helper()
	f := &fleet{setup: s, store: kind.start(t)}
	for _, name := range []string{"A", "B"} {
		s, r := f.setup, &replica{name: name, link: servers.NewLink(t, f.store.addr)}
		s.listen, s.admin = freeAddress(t), freeAddress(t)
		r.client = newClient(t, f.transportTo(s.listen))
		l := s.launch(s.file(t, fmt.Sprintf("log: {requests: none}\nshutdown: {delay: 0s}\nsession: {store: %q}\n", f.store.urlAt(r.link.Addr))))
		l.args = append(l.args, flags...)
		l.client = r.client
		start(t, l)
		f.replicas = append(f.replicas, r)
	}
	return f
}

// transportTo returns a transport that connects to the replica at address where
// f's public address is asked for.
func (f *fleet) transportTo(address string) *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 32, DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
		if to == f.listen {
			to = address
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}}
}

// A holder is a browser with a session whose fate the test knows.
type holder struct {
	cookie string

	mu      sync.Mutex
	doomed  bool      // somebody began to end the session
	ended   time.Time // when it was certain that it had ended; zero before
	endedAt *replica  // which replica did it for certain, nil if none
}

// where says which replica knew first; v's mutex is held.
func (v *holder) where() string {
	if v.endedAt == nil {
		return "one of both"
	}
	return v.endedAt.name
}

// leaves says whether somebody began to end v's session.
func (v *holder) leaves() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.doomed
}

// signIn signs somebody in at r.
func (f *fleet) signIn(t *testing.T, r *replica) *holder {
	t.Helper()
	browser := newClient(t, r.client.Transport.(*http.Transport))
	signIn(t, browser, f.base, "alice")
	cookie := sessionCookie(t, browser, f.base)
	if cookie == "" {
		t.Fatal("the sign-in left no session cookie")
	}
	return &holder{cookie: cookie}
}

// visit asks r for a page in v's name, signed in or not.
func (f *fleet) visit(r *replica, v *holder) (*http.Response, error) {
	return f.send(r, v, http.MethodGet, "/page", nil)
}

// signOut signs v out at r.
func (f *fleet) signOut(r *replica, v *holder) (*http.Response, error) {
	return f.send(r, v, http.MethodPost, "/auth/sign-out", nil)
}

func (f *fleet) send(r *replica, v *holder, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequest(method, f.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Cookie": {v.cookie}, "Accept": {"application/json"}, "X-Requested-With": {"test"}}
	client := &http.Client{Transport: r.client.Transport, Timeout: 20 * time.Second} // keeps no cookies
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res, err
}

// effectiveWithin is when a revocation counts everywhere, however broken the way
// to the store is; effectiveUsually is what it takes while nothing is broken.
const effectiveWithin, effectiveUsually = 2 * time.Second, 100 * time.Millisecond

func TestARevocationCountsAtTheOtherReplicaAtOnce(t *testing.T) {
	slow(t)
	t.Parallel()
	for _, kind := range sharedStores() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			f := startFleet(t, kind, newSetup(t))
			a, b := f.replicas[0], f.replicas[1]
			var took []time.Duration
			for range 100 {
				v := f.signIn(t, a)
				f.expect(t, b, v, http.StatusOK) // from now on it is held there
				res, err := f.signOut(a, v)
				ended := time.Now()
				if err = errors.Join(err, orStatus(res, http.StatusOK)); err != nil {
					t.Fatal(err)
				}
				f.expect(t, a, v, http.StatusUnauthorized)
				took = append(took, f.untilRefused(t, b, v, ended))
			}
			slices.Sort(took)
			p50, p99 := took[len(took)/2], took[len(took)*99/100]
			t.Logf("the other replica refuses after p50 %v, p99 %v", p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond))
			if p50 > effectiveUsually {
				t.Errorf("half of the revocations take longer than %v, want at most %v", p50, effectiveUsually)
			}
		})
	}
}

// expect fails unless r answers v with want.
func (f *fleet) expect(t *testing.T, r *replica, v *holder, want int) {
	t.Helper()
	res, err := f.visit(r, v)
	if err := errors.Join(err, orStatus(res, want)); err != nil {
		t.Fatalf("replica %s: %v", r.name, err)
	}
}

// orStatus is expectStatus for an answer that may not be there.
func orStatus(res *http.Response, want int) error {
	if res == nil {
		return nil
	}
	return expectStatus(res, want)
}

// untilRefused asks r in v's name until it refuses, and returns how long after
// ended the first refused request was answered.
func (f *fleet) untilRefused(t *testing.T, r *replica, v *holder, ended time.Time) time.Duration {
	t.Helper()
	for {
		began := time.Now()
		res, err := f.visit(r, v)
		switch {
		case err != nil:
			t.Fatal(err)
		case res.StatusCode == http.StatusUnauthorized:
			return time.Since(ended)
		case res.StatusCode != http.StatusOK:
			t.Fatalf("replica %s answers %d", r.name, res.StatusCode)
		case began.Sub(ended) > effectiveWithin:
			t.Fatalf("replica %s served a session %v after it was revoked", r.name, began.Sub(ended))
		}
		time.Sleep(time.Millisecond) // requests without a pause take the processor from what they wait for
	}
}

// A trial is a fleet under load, each of whose answers is checked against what
// the test knows of the session.
type trial struct {
	*fleet
	t       *testing.T
	holders []*holder

	mu   sync.Mutex
	left []*holder // in the order in which they signed out

	broken   atomic.Int32 // how many faults there are now
	repaired atomic.Int64 // Unix nanoseconds of when the last one was over
	counts   [2]counts    // without and with a fault
}

// counts are answers by what they say.
type counts struct{ served, refused, unavailable, revoked atomic.Int64 }

// ridesOut is how long after a fault a replica may need to find its way back.
const ridesOut = 20 * time.Second

func TestNoFaultOfTheStoreServesARevokedSessionOrRefusesALiveOne(t *testing.T) {
	slow(t)
	t.Parallel()
	for _, kind := range sharedStores() {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.upstream = startSlowApp(t)
			tr := &trial{fleet: startFleet(t, kind, s), t: t}
			for i := range 200 {
				tr.holders = append(tr.holders, tr.signIn(t, tr.replicas[i%2]))
			}
			stop := sync.OnceFunc(tr.load())
			defer stop() // a failure of this test is no failure of others
			eventually(t, time.Minute, tr.calm)
			b := tr.replicas[1].link
			for _, fault := range []struct {
				name        string
				begin, end  func()
				unavailable bool // somebody must have been told so
			}{
				{"connections are killed", tr.store.sever, func() {}, false},
				{"B's packets are dropped", b.Freeze, b.Heal, true},
				{"B is cut off", b.Cut, b.Heal, true},
				{"the server is restarted", tr.store.restart, func() {}, false},
			} {
				tr.during(fault.name, fault.unavailable, fault.begin, fault.end)
			}
			stop()
			tr.aftermath()
		})
	}
}

// load lets people visit both replicas and some of them sign out, until stop is
// called.
func (tr *trial) load() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 48 { // most of which wait while the store does not answer
		r := tr.replicas[i%2]
		wg.Go(func() {
			for ctx.Err() == nil {
				tr.check(r, tr.pick())
				time.Sleep(10 * time.Millisecond) // the machine has other work
			}
		})
	}
	for i := range 3 {
		leaving := tr.holders[i*50 : (i+1)*50] // the others stay
		wg.Go(func() {
			for _, v := range leaving {
				if ctx.Err() != nil {
					return
				}
				tr.end(v)
				time.Sleep(250 * time.Millisecond) // some with each fault
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// pick returns anybody or, half of the time, one of those who left last: they are
// the ones whom a replica may still take for live.
func (tr *trial) pick() *holder {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	last := tr.left[max(0, len(tr.left)-6):]
	if len(last) > 0 && rand.N(2) == 0 {
		return last[rand.N(len(last))]
	}
	return tr.holders[rand.N(len(tr.holders))]
}

// calm returns an error until enough has happened while nothing is broken.
func (tr *trial) calm() error {
	if c := &tr.counts[0]; c.served.Load() < 100 || c.refused.Load() < 20 || c.revoked.Load() < 3 {
		return fmt.Errorf("%d requests were served, %d refused, %d people signed out, want 100, 20 and 3", c.served.Load(), c.refused.Load(), c.revoked.Load())
	}
	return nil
}

// during breaks something for longer than a revocation may take, and waits until
// both replicas are well again.
func (tr *trial) during(fault string, unavailable bool, begin, end func()) {
	tr.t.Helper()
	before := tr.counts[1].unavailable.Load()
	tr.broken.Add(1)
	begin()
	time.Sleep(effectiveWithin + 4*time.Second)
	end()
	tr.repaired.Store(time.Now().UnixNano())
	tr.broken.Add(-1)
	told := tr.counts[1].unavailable.Load() - before
	if unavailable && told == 0 {
		tr.t.Errorf("%s: nobody was told that the store does not answer, so nothing was broken", fault)
	}
	for _, r := range tr.replicas {
		eventually(tr.t, ridesOut, func() error {
			res, err := tr.visit(r, tr.holders[len(tr.holders)-1])
			return errors.Join(err, orStatus(res, http.StatusOK))
		})
	}
	tr.t.Logf("%s: %d answers with 503, both replicas serve %v after it", fault, told, time.Since(time.Unix(0, tr.repaired.Load())).Round(time.Millisecond))
}

// faulty says whether something was broken since then, or just before.
func (tr *trial) faulty(since time.Time) bool {
	return tr.broken.Load() > 0 || since.UnixNano() < tr.repaired.Load()+ridesOut.Nanoseconds()
}

// end signs v out, at one replica or the other, until one says that it is done.
func (tr *trial) end(v *holder) {
	v.mu.Lock()
	v.doomed = true
	v.mu.Unlock()
	first := rand.N(2)
	for i := first; ; i++ {
		r, began := tr.replicas[i%2], time.Now()
		res, err := tr.signOut(r, v)
		switch {
		case err != nil:
			tr.t.Errorf("sign-out at %s: %v", r.name, err)
			return
		case res.StatusCode == http.StatusOK:
			v.mu.Lock()
			v.ended = time.Now()
			if i == first { // else an earlier attempt may have done it, which nobody waited for
				v.endedAt = r
			}
			v.mu.Unlock()
			tr.mu.Lock()
			tr.left = append(tr.left, v)
			tr.mu.Unlock()
			tr.countsOf(began).revoked.Add(1)
			return
		}
		if err := excused(res); err != nil {
			tr.t.Errorf("sign-out at %s: %v", r.name, err)
			return
		}
	}
}

// check lets v ask r for something and checks the answer. What is under way when a
// session ends may be cut off.
func (tr *trial) check(r *replica, v *holder) {
	began := time.Now()
	res, err := tr.ask(r, v)
	if err == nil {
		err = tr.judge(r, v, res, began)
	} else if v.leaves() {
		return
	}
	if err != nil {
		tr.t.Errorf("replica %s: %v", r.name, err)
	}
}

// ask sends one of what an application gets.
func (tr *trial) ask(r *replica, v *holder) (*http.Response, error) {
	switch rand.N(5) {
	case 0:
		return tr.send(r, v, http.MethodGet, "/slow", nil)
	case 1:
		return tr.send(r, v, http.MethodGet, "/stream", nil)
	case 2:
		return tr.send(r, v, http.MethodPost, "/slow", strings.NewReader("a=b"))
	default:
		return tr.visit(r, v)
	}
}

// startSlowApp starts an application some of whose answers are often under way when a
// session ends, and returns its URL.
func startSlowApp(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", legacyapp.Handler("/auth"))
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(rand.N(300 * time.Millisecond))
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		for range rand.N(10) {
			io.WriteString(w, "more\n")
			http.NewResponseController(w).Flush()
			time.Sleep(30 * time.Millisecond)
		}
	})
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	return app.URL
}

// judge returns what is wrong with r's answer to a request that began then.
func (tr *trial) judge(r *replica, v *holder, res *http.Response, began time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	late := began.Sub(v.ended)
	switch res.StatusCode {
	case http.StatusOK:
		tr.countsOf(began).served.Add(1)
		if !v.ended.IsZero() && (late > effectiveWithin || v.endedAt == r && late > 0) {
			return fmt.Errorf("a session was served %v after it was revoked at %s", late, v.where())
		}
		return nil
	case http.StatusUnauthorized:
		tr.countsOf(began).refused.Add(1)
		if !v.doomed {
			return errors.New("a live session was refused")
		}
		return nil
	default:
		tr.countsOf(began).unavailable.Add(1)
		return excused(res)
	}
}

// excused returns an error unless the answer is that of a store which does not
// answer: come again, and nothing has happened to your session.
func excused(res *http.Response) error {
	switch {
	case res.StatusCode != http.StatusServiceUnavailable:
		return fmt.Errorf("the answer is %d", res.StatusCode)
	case res.Header.Get("Retry-After") == "":
		return errors.New("a 503 does not say when to try again")
	case len(res.Cookies()) > 0:
		return fmt.Errorf("a 503 changes the cookies: %v", res.Cookies())
	}
	return nil
}

func (tr *trial) countsOf(began time.Time) *counts {
	if tr.faulty(began) {
		return &tr.counts[1]
	}
	return &tr.counts[0]
}

// aftermath expects that all are served or refused by both replicas as their
// sessions live or not, and that there was enough to see.
func (tr *trial) aftermath() {
	tr.t.Helper()
	ended := 0
	for _, v := range tr.holders {
		want := http.StatusOK
		if v.doomed {
			want = http.StatusUnauthorized
			ended++
		}
		for _, r := range tr.replicas {
			tr.expect(tr.t, r, v, want)
		}
	}
	for i, name := range []string{"while nothing was broken", "with faults"} {
		c := &tr.counts[i]
		tr.t.Logf("%s: %d served, %d refused, %d told to come back, %d revoked", name, c.served.Load(), c.refused.Load(), c.unavailable.Load(), c.revoked.Load())
		if c.served.Load() == 0 || c.refused.Load() == 0 || c.revoked.Load() == 0 {
			tr.t.Errorf("%s: too little happened to see anything", name)
		}
	}
	if calm := &tr.counts[0]; calm.unavailable.Load() > calm.served.Load()/100 { // a busy machine has moments
		tr.t.Errorf("%d answers with 503 while nothing was broken", calm.unavailable.Load())
	}
	if ended < 30 {
		tr.t.Errorf("only %d sessions were revoked, want at least 30", ended)
	}
}

// sessionCookie returns the Cookie header of the session that the browser has at
// base, "" if it has none.
func sessionCookie(t *testing.T, browser *http.Client, base string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range browser.Jar.Cookies(req.URL) {
		if strings.HasPrefix(c.Name, "authproxy_session") {
			return c.Name + "=" + c.Value
		}
	}
	return ""
}
