package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheDemoKeepsSessionsInAFileUntilItEnds(t *testing.T) {
	t.Parallel()
	dir, address := t.TempDir(), freeAddress(t)
	demo := start(t, launch{args: []string{"demo", "--listen", address}, environ: []string{"TMPDIR=" + dir}, base: "http://" + address})
	client := newClient(t, nil)
	expectUser(t, signIn(t, client, demo.base, "alice"), "alice@example.com")
	if files, err := filepath.Glob(filepath.Join(dir, "authproxy-demo-*", "sessions.db")); err != nil || len(files) != 1 {
		t.Errorf("the sessions are in %q, %v; want one file below TMPDIR", files, err)
	}
	demo.stop()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("the demo left %s behind", entry.Name())
	}
}
