package e2e

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A launch says how to start authproxy.
type launch struct {
	// args are the command line without the program, environ the variables
	// besides PATH and HOME: what this process has set is none of its business.
	args, environ []string
	// plain takes the program without the race detector.
	plain bool
	// base is where it will answer, such as "http://127.0.0.1:4180".
	base string
	// prefix is that of its pages; "" means "/auth".
	prefix string
	// client asks whether it answers; nil means [http.DefaultClient].
	client *http.Client
}

// A process is a running authproxy.
type process struct {
	t      *testing.T
	base   string
	cmd    *exec.Cmd
	stdout syncBuffer
	stderr syncBuffer
	exited chan struct{} // closed once it has ended
	err    error         // how, after exited
}

// start starts authproxy and waits until it answers. When the test ends, the
// process is stopped if it still runs, and must exit with 0.
func start(t *testing.T, l launch) *process {
	t.Helper()
	begun := time.Now()
	p := spawn(t, l)
	client := l.client
	if client == nil {
		client = http.DefaultClient
	}
	eventually(t, 30*time.Second, func() error {
		select {
		case <-p.exited:
			t.Fatalf("authproxy ended at once: %v\n%s", p.err, p.stderr.String())
		default:
		}
		res, err := client.Get(l.base + cmp.Or(l.prefix, "/auth") + "/providers") // asks no provider
		if err != nil {
			return err
		}
		return errors.Join(res.Body.Close(), expectStatus(res, http.StatusOK))
	})
	t.Logf("authproxy answers %v after its start", time.Since(begun).Round(time.Millisecond))
	return p
}

// spawn starts authproxy without waiting for it.
func spawn(t *testing.T, l launch) *process {
	t.Helper()
	p := &process{t: t, base: l.base, exited: make(chan struct{})}
	binary := shared.binary
	if l.plain {
		binary = shared.plain
	}
	p.cmd = exec.Command(binary, l.args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, l.environ...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("what authproxy logged:\n%s", excerpt(p.stderr.String()))
		}
	})
	return p
}

// excerpt returns a log's last lines, and the first part of each: what the test
// complained of is to be seen beside it.
func excerpt(log string) string {
	const lines, columns = 40, 300
	all := strings.SplitAfter(log, "\n")
	if skipped := len(all) - lines; skipped > 0 {
		all = append([]string{fmt.Sprintf("(%d lines before)\n", skipped)}, all[skipped:]...)
	}
	for i, line := range all {
		if len(line) > columns {
			all[i] = line[:columns] + "…\n"
		}
	}
	return strings.Join(all, "")
}

// stop sends SIGTERM and expects exit status 0. Stopping twice is stopping.
func (p *process) stop() {
	p.t.Helper()
	p.terminate()
	p.expectExit()
}

// terminate sends SIGTERM.
func (p *process) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("SIGTERM: %v", err)
	}
}

// expectExit waits for the end and expects exit status 0.
func (p *process) expectExit() {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
		p.t.Error("authproxy did not end within 30 s of SIGTERM")
		return
	}
	if p.err != nil {
		p.t.Errorf("authproxy ended with %v, want exit status 0", p.err)
	}
}

// command runs authproxy to its end and returns its standard output and its
// exit status.
func command(t *testing.T, environ []string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(shared.binary, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, environ...)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// newKey returns a key, and newKeys a file that holds one, as the operator
// makes them.
func newKey(t *testing.T) string {
	t.Helper()
	key, status := command(t, nil, "keys", "new")
	if status != 0 {
		t.Fatalf("authproxy keys new: exit status %d", status)
	}
	return strings.TrimSpace(key)
}

func newKeys(t *testing.T) string {
	t.Helper()
	return writeFile(t, "cookie.keys", newKey(t)+"\n")
}

// writeFile writes a file into a new folder and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// freeAddress returns an address of loopback that nobody listens on. It is
// below the ports that systems give to clients and to listeners on port 0, so
// that none of these takes it before its owner does.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(12_000)))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("no free port on 127.0.0.1")
	return ""
}

func expectStatus(res *http.Response, want int) error {
	if res.StatusCode != want {
		return fmt.Errorf("%s answers %d, want %d", res.Request.URL.Path, res.StatusCode, want)
	}
	return nil
}

// A syncBuffer is a buffer that a process writes while the test reads.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
