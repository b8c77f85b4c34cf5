package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"authproxy/config"
	"authproxy/cookie"
)

// keys makes a key.
func keys(_ context.Context, env environment) error {
	if len(env.args) != 1 || env.args[0] != "new" {
		return fmt.Errorf("%w: authproxy keys new > FILE, then cookie.keys_file: FILE (one key a line; the first seals, all open)", errUsage)
	}
	_, err := fmt.Fprintln(env.stdout, cookie.NewKey())
	return err
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
