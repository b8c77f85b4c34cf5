// Package e2e tests the program as people use it: the binary that is shipped,
// real providers and a real browser, over real sockets of loopback.
//
// What the machine lacks (Chromium, Node) skips the tests that need it, with a
// sentence that says what is missing; with AUTHPROXY_TEST_REQUIRE=1 it fails
// them. Tests that take long run then, and where -run names tests. With
// AUTHPROXY_TEST_SCREENSHOTS=DIR [TestEveryPageCanBeRead] leaves pictures of all
// pages in DIR.
package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// shared is what all tests use. TestMain makes it before the first one.
var shared struct {
	binary   string // authproxy, built from this tree
	plain    string // the same without the race detector, which takes memory of its own
	chromium chromium
	modules  modules
}

func TestMain(m *testing.M) {
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		status = 1
	}
	os.Exit(status)
}

// atOnceTests is how many tests run side by side unless the command line says so:
// they wait for browsers and other processes more than they compute.
const atOnceTests = "4"

func run(m *testing.M) (status int, err error) {
	if err := setParallel(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "authproxy-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if shared.plain, err = build(dir, "authproxy-plain"); err != nil {
		return 1, err
	}
	shared.binary = shared.plain
	if raceEnabled { // then a race in the program is an exit status that is not 0
		if shared.binary, err = build(dir, "authproxy", "-race"); err != nil {
			return 1, err
		}
	}
	shared.chromium.profile = filepath.Join(dir, "chromium")
	defer func() { err = errors.Join(err, shared.chromium.stop()) }()
	return m.Run(), nil
}

// setParallel sets -parallel if it was not given.
func setParallel() error {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", atOnceTests)
}

// build builds the program into dir.
func build(dir, name string, flags ...string) (string, error) {
	binary := filepath.Join(dir, name)
	args := append([]string{"build", "-o", binary}, flags...)
	out, err := exec.Command("go", append(args, "authproxy/cmd/authproxy")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
}

// need returns the path of a program that the test cannot do without.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, program+" is not installed on this machine")
	}
	return path
}

// slow leaves a test out of go test ./..., which is to be quick: it runs in
// script/test, and wherever -run names tests.
func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("AUTHPROXY_TEST_REQUIRE") != "1" && flag.Lookup("test.run").Value.String() == "" {
		t.Skip("takes long, so this test is left out; script/test runs it, and go test ./e2e -run does")
	}
}

// missing ends a test for which the machine lacks something: it is skipped, or
// fails where everything must be there.
func missing(t *testing.T, sentence string) {
	t.Helper()
	if os.Getenv("AUTHPROXY_TEST_REQUIRE") == "1" {
		t.Fatalf("%s, and AUTHPROXY_TEST_REQUIRE=1 allows no skip; script/test installs it", sentence)
	}
	t.Skipf("%s, so this test is left out; script/test installs it", sentence)
}

// eventually calls try until it returns nil. After limit, a generous one, the
// test fails with what try said last.
func eventually(t *testing.T, limit time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond) // between two questions to another process
	}
}
