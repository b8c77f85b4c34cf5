// Package servers starts real servers for tests, on loopback and for one test
// each, and breaks the way to them.
package servers

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// patience is how long a server may take to start or to stop.
const patience = 60 * time.Second

// missing ends a test for which the machine lacks something: it is skipped, or
// fails where everything must be there.
func missing(t testing.TB, sentence string) {
	t.Helper()
	if os.Getenv("AUTHPROXY_TEST_REQUIRE") == "1" {
		t.Fatalf("%s, and AUTHPROXY_TEST_REQUIRE=1 allows no skip; script/test installs it", sentence)
	}
	t.Skipf("%s, so this test is left out; script/test installs it", sentence)
}

// freePort returns a TCP port of loopback that nobody uses now. It is below those
// that systems give to clients and to listeners on port 0, so that none of these
// takes it before the server does.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(10_000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no free port on 127.0.0.1")
	return 0
}

// eventually calls try until it returns nil.
func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(fmt.Errorf("%s: not within %v: %w", what, patience, err))
		}
	}
}

// Need returns the path of a program that the test cannot do without.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, program+" is not installed on this machine")
	}
	return path
}
