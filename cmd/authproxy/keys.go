package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"authproxy/config"
	"authproxy/cookie"
)

// keys makes a key, or takes one step of a rotation.
func keys(_ context.Context, env environment) error {
	switch {
	case len(env.args) == 1 && env.args[0] == "new":
		_, err := fmt.Fprintln(env.stdout, cookie.NewKey())
		return err
	case len(env.args) == 3 && env.args[0] == "rotate":
		said, err := rotate(env.args[1], env.args[2])
		if err != nil {
			return fmt.Errorf("keys rotate: %w; the file is as it was", err)
		}
		_, err = fmt.Fprintln(env.stdout, said)
		return err
	}
	return fmt.Errorf("%w: authproxy keys new > FILE, then cookie.keys_file: FILE (one key a line; the first seals, all open)\n"+
		"       authproxy keys rotate add|promote|drop FILE, in this order, with a restart of every replica after each", errUsage)
}

// rotate takes one step of the rotation of the keys in file: "add" appends a new
// key, which opens from then on; "promote" lets the last key seal; "drop" removes
// the last key, which is the old one by then. It returns what to do next. Lines
// that are no keys stay where they are.
func rotate(step, file string) (next string, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	at, err := keyLines(lines)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", file, err)
	case step != "add" && len(at) == 1:
		return "", fmt.Errorf("%s holds one key, so there is none to %s; first: authproxy keys rotate add %s", file, step, file)
	}
	last := at[len(at)-1]
	switch step {
	case "add":
		lines = slices.Insert(lines, last+1, cookie.NewKey())
		next = "The new key opens. Restart every replica, then: authproxy keys rotate promote " + file
	case "promote":
		key := lines[last]
		lines = slices.Insert(slices.Delete(lines, last, last+1), at[0], key)
		next = "The newest key seals. Restart every replica; when session.absolute_max_age has passed: authproxy keys rotate drop " + file
	case "drop":
		lines = slices.Delete(lines, last, last+1)
		next = "The old key is gone. Restart every replica; what only it opened is void."
	default:
		return "", fmt.Errorf("there is no step %q; the steps are add, promote and drop", step)
	}
	return next, replaceFile(file, strings.Join(lines, "\n")+"\n", info)
}

// keyLines returns the indexes of the lines that hold keys. It fails where they
// make no ring.
func keyLines(lines []string) (at []int, err error) {
	var ring [][]byte
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return nil, fmt.Errorf("line %d is no key; a line is what authproxy keys new prints, or a comment", i+1)
		}
		at, ring = append(at, i), append(ring, key)
	}
	_, err = cookie.NewKeyRing(ring...)
	return at, err
}

// replaceFile writes text in place of file, whole or not at all, with the mode
// and the owner that it had: a server that runs as somebody else must still be
// able to read it, and nobody besides.
func replaceFile(file, text string, was fs.FileInfo) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".keys-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(text)
	if owner, ok := was.Sys().(*syscall.Stat_t); ok {
		err = errors.Join(err, tmp.Chown(int(owner.Uid), int(owner.Gid)))
	}
	if err := errors.Join(err, tmp.Chmod(was.Mode().Perm()), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// keyRing returns the ring of the configured keys. With none configured, a key
// is kept in the service manager's state directory (systemd's
// StateDirectory=), where a restart finds it again.
func keyRing(cfg *config.Config, environ []string) (*cookie.KeyRing, error) {
	if len(cfg.Cookie.Keys) > 0 {
		return cookie.NewKeyRing(cfg.Cookie.Keys...)
	}
	dir := lookup(environ, "STATE_DIRECTORY")
	if dir == "" {
		return nil, errors.New("cookie.keys_file: is required; make a key with: authproxy keys new > FILE\n" +
			"(without it a restart would sign everybody out; under systemd, StateDirectory=authproxy lets the program keep a key by itself)")
	}
	dir, _, _ = strings.Cut(dir, ":") // systemd lists several with colons
	return stateKey(filepath.Join(dir, "cookie.keys"))
}

// stateKey reads the key in file, which it creates if it is not there.
func stateKey(file string) (*cookie.KeyRing, error) {
	if err := createKey(file); err != nil {
		return nil, fmt.Errorf("cookie.keys_file: is not set, and a key cannot be kept in %s: %w", file, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cookie.keys_file: is not set, and the kept key cannot be read: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s does not hold a key; remove it and a new one is made, which signs everybody out", file)
	}
	return cookie.NewKeyRing(key)
}

// createKey puts a new key in file unless there is one. The file appears whole
// or not at all, and of two processes that start together one wins.
func createKey(file string) error {
	if _, err := os.Lstat(file); err == nil {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".cookie.keys-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(cookie.NewKey() + "\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// lookup returns the value of name in environ, "" if it is not there.
func lookup(environ []string, name string) string {
	for _, pair := range environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}
