// Package servers starts real servers for tests, on loopback and for one test
// each, and breaks the way to them.
package servers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
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

// freePort returns a TCP port of loopback that nobody uses now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
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
