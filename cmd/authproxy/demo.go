package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"authproxy/config"
	"authproxy/cookie"
	"authproxy/devidp"
	"authproxy/devidp/legacyapp"
)

// demo runs everything in one process, on loopback: an identity provider with
// two people, an application that knows nothing about sign-in, and authproxy in
// front of it.
func demo(ctx context.Context, env environment) error {
	address, err := demoAddress(env)
	if err != nil {
		return err
	}
	idp, app, err := demoListeners()
	if err != nil {
		return err
	}
	issuer := demoIssuer(address, idp)
	provider, err := devidp.New(devidp.Config{
		Issuer: issuer, Users: devidp.DemoUsers(),
		Clients: []devidp.Client{{
			ID: "demo", Secret: "demo-secret",
			RedirectURIs:           []string{"http://" + address + "/auth/callback/demo"},
			PostLogoutRedirectURIs: []string{"http://" + address + "/auth/sign-out"},
		}},
	})
	if err != nil {
		return errors.Join(err, idp.Close(), app.Close())
	}
	dir, err := os.MkdirTemp("", "authproxy-demo-")
	if err != nil {
		return errors.Join(err, idp.Close(), app.Close())
	}
	defer os.RemoveAll(dir) // after everything is closed
	cfg, err := demoConfig(address, issuer, app.Addr().String(), filepath.Join(dir, "sessions.db"))
	if err != nil {
		return errors.Join(err, idp.Close(), app.Close())
	}
	log := newLog(env.stderr, "info")
	defer log.flush()
	a, err := build(cfg, log, nil)
	if err != nil {
		return errors.Join(err, idp.Close(), app.Close())
	}
	defer a.close()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	for l, h := range map[net.Listener]http.Handler{idp: provider, app: legacyapp.Handler("/auth")} {
		s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelInfo)}
		wg.Go(func() { s.Serve(l) })
		defer s.Close()
	}
	fmt.Fprintf(env.stdout, demoText, address)
	return a.serve(ctx)
}

const demoText = `authproxy demo

  Open http://%[1]s/ and sign in as alice (an admin) or bob. No password is asked.

  The application behind it knows nothing about sign-in. It shows the request it
  gets: X-User-Id, the other identity headers, and a signed token.

    /public/hello   everybody may see
    /admin/panel    only admins: alice may, bob may not
    /               whoever is signed in
    /auth/account   your sessions, in a SQLite file as long as this runs

  By script:
    curl -sL -c jar -b jar 'http://%[1]s/auth/sign-in/demo?login_hint=alice&rd=/' -H 'Accept: application/json'

  Stop with Ctrl-C. Nothing is kept.

`

// demoAddress returns where to listen: on loopback, because the demo's provider
// signs anybody in.
func demoAddress(env environment) (string, error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(env.stderr)
	address := flags.String("listen", "127.0.0.1:4180", "address to listen on, loopback only")
	if err := flags.Parse(env.args); err != nil || flags.NArg() > 0 {
		return "", fmt.Errorf("%w: authproxy demo [--listen 127.0.0.1:4180]", errUsage)
	}
	host, port, err := net.SplitHostPort(*address)
	if err != nil || port == "0" || port == "" {
		return "", fmt.Errorf("%w: --listen needs an address and a port, like 127.0.0.1:4180", errUsage)
	}
	ip, err := netip.ParseAddr(host)
	if host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("%w: --listen %s: the demo signs anybody in, so it listens on loopback only", errUsage, *address)
	}
	return *address, nil
}

func demoListeners() (idp, app net.Listener, err error) {
	if idp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, nil, err
	}
	if app, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, nil, errors.Join(err, idp.Close())
	}
	return idp, app, nil
}

// demoIssuer returns the provider's address. Cookies do not know ports, so it
// goes by another name than the demo: the application should not get to see the
// provider's cookies.
func demoIssuer(address string, idp net.Listener) string {
	_, port, _ := net.SplitHostPort(idp.Addr().String())
	if strings.HasPrefix(address, "localhost:") {
		return "http://127.0.0.1:" + port
	}
	return "http://localhost:" + port
}

// demoConfig is the demo's configuration, read like any other.
func demoConfig(address, issuer, app, store string) (*config.Config, error) {
	file := fmt.Sprintf(demoFile, address, issuer, app, cookie.NewKey(), "sqlite:"+store)
	read := func(string) ([]byte, error) { return []byte(file), nil }
	cfg, _, err := config.Load(config.Source{File: "demo.yaml", ReadFile: read})
	return cfg, err
}

const demoFile = `listen: %[1]q
admin: {listen: ""}
public_url: http://%[1]s
upstream: http://%[3]s
trusted_proxies: [127.0.0.0/8, "::1"]   # so that forward-auth endpoints can be tried with curl
providers:
  - {id: demo, name: Demo provider, type: oidc, issuer: "%[2]s", client_id: demo, client_secret: demo-secret, scopes: [openid, email, profile, groups]}
rules:
  - {name: public pages, path: /public/**, allow: anyone}
  - {name: admins only, path: /admin/**, require: {roles: [admin]}}
  - {name: everybody signed in, require: {signed_in: true}}
identity: {roles: {admin: {groups: [admins]}}}
cookie: {keys: [%[4]q]}
session: {store: %[5]q}
shutdown: {delay: 0s, timeout: 2s}
`
