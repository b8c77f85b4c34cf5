package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// healthcheck asks the admin listener of a proxy in the same container or on
// the same machine whether it is alive. It takes the same flags and environment
// as serve; where these do not make a configuration it assumes the default
// address.
func healthcheck(ctx context.Context, env environment) error {
	address := cmp.Or(lookup(env.environ, "AUTHPROXY_ADMIN_LISTEN"), "127.0.0.1:9090")
	if cfg, _, err := load(env); err == nil {
		if cfg.Admin.Listen == "" {
			return fmt.Errorf("admin.listen: is empty, so there is nobody to ask")
		}
		address = cfg.Admin.Listen
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy answers %s", res.Status)
	}
	return nil
}
