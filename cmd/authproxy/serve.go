package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"authproxy/config"
	"authproxy/proxy"
)

// load reads the configuration.
func load(env environment) (*config.Config, []config.Warning, error) {
	return config.Load(config.Source{Environ: env.environ, Args: env.args})
}

// serve runs the proxy until ctx ends, then stops without cutting anybody off.
func serve(ctx context.Context, env environment) error {
	cfg, warnings, err := load(env)
	if err != nil {
		return err
	}
	log := newLog(env.stderr, cfg.Log.Level)
	defer log.flush()
	a, err := build(cfg, log, env.environ)
	if err != nil {
		return err
	}
	defer a.close()
	a.warn(warnings)
	if lookup(env.environ, "GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	return a.serve(ctx)
}

// gcPercent is how much the heap may grow between collections. What lives is
// small, a few megabytes of opened sessions, and what a request leaves behind is
// much in comparison: with Go's default of 100 the collector runs a hundred
// times a second under load. GOGC overrides it, and GOMEMLIMIT bounds the whole.
const gcPercent = 300

// serve listens and answers until ctx ends.
func (a *app) serve(ctx context.Context) error {
	public, err := listen(a.config)
	if err != nil {
		return err
	}
	status := &status{}
	servers := []*http.Server{a.server(status.leaving(a.proxy))}
	listeners := []net.Listener{public}
	if a.config.Admin.Listen != "" {
		admin, err := net.Listen("tcp", a.config.Admin.Listen)
		if err != nil {
			return errors.Join(fmt.Errorf("admin.listen: %w", err), public.Close())
		}
		servers, listeners = append(servers, a.server(a.adminHandler(status))), append(listeners, admin)
	}
	grpc, err := a.listenGRPC()
	if err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go a.run(background)

	failed := make(chan error, len(servers)+1)
	if grpc != nil {
		go func() { failed <- grpc.Serve(grpc.listener) }()
	}
	for i, server := range servers {
		go func() { failed <- server.Serve(listeners[i]) }()
	}
	a.log.Info("listening", "address", public.Addr().String(), "public_url", a.config.PublicURL.String(), "admin", a.config.Admin.Listen, "ext_authz", a.config.ExtAuthz.Listen, "version", version)
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	return a.stop(servers, grpc, status)
}

// listen opens the public listener, with TLS if certificates are configured.
func listen(cfg *config.Config) (net.Listener, error) {
	var certs []tls.Certificate
	if cfg.TLS.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.TLS.CertFile, cfg.TLS.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file, tls.key_file: %w", err)
		}
		certs = append(certs, cert)
	}
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if certs == nil {
		return l, nil
	}
	return tls.NewListener(l, &tls.Config{Certificates: certs, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}), nil
}

// A grpcServer answers Envoy on a listener of its own.
type grpcServer struct {
	*proxy.ExtAuthz
	listener net.Listener
}

// listenGRPC opens the listener for Envoy's questions, nil if there is to be none.
func (a *app) listenGRPC() (*grpcServer, error) {
	if a.config.ExtAuthz.Listen == "" {
		return nil, nil
	}
	tlsConfig, err := grpcTLS(a.config.ExtAuthz)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", a.config.ExtAuthz.Listen)
	if err != nil {
		return nil, fmt.Errorf("ext_authz.listen: %w", err)
	}
	return &grpcServer{a.proxy.ExtAuthz(tlsConfig), l}, nil
}

// grpcTLS returns how the gRPC listener speaks TLS, nil if it does not. A client
// without a certificate is let in: it may be a probe, or be trusted for its
// address.
func grpcTLS(e config.ExtAuthz) (*tls.Config, error) {
	if e.CertFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(e.CertFile, e.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("ext_authz.cert_file, ext_authz.key_file: %w", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if e.ClientCAFile == "" {
		return c, nil
	}
	if c.ClientCAs, err = readCertificates(e.ClientCAFile); err != nil {
		return nil, fmt.Errorf("ext_authz.client_ca_file: %w", err)
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven
	return c, nil
}

// closeAll closes listeners that nobody serves.
func closeAll(listeners []net.Listener) error {
	var problems []error
	for _, l := range listeners {
		problems = append(problems, l.Close())
	}
	return errors.Join(problems...)
}

// server returns a server with time limits against clients that send their
// headers slowly or not at all. Bodies have none: uploads and event streams
// take as long as they take.
func (a *app) server(h http.Handler) *http.Server {
	s := a.config.Server
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	// Behind a balancer that ends TLS, gRPC comes in without it. This is for
	// clients that know (RFC 9113, section 3.3); nobody is upgraded to it.
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: protocols, HTTP2: windows(), ReadHeaderTimeout: s.ReadHeaderTimeout, IdleTimeout: s.IdleTimeout, MaxHeaderBytes: s.MaxHeaderBytes,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelInfo),
	}
}

// windows returns how much of their bodies clients may send ahead over HTTP/2. The
// connection of a balancer serves all people: with net/http's defaults one upload
// that its upstream does not read would take all that the connection may send, and
// hold up everybody else's. Now that takes 64 of them, and 16 MB of memory. It is more
// than the 4 MB that net/http documents as the most, and a test would say if it were
// not.
func windows() *http.HTTP2Config {
	const stream = 256 << 10
	return &http.HTTP2Config{MaxReceiveBufferPerStream: stream, MaxReceiveBufferPerConnection: 64 * stream}
}

// stop ends the servers: first the load balancer must see that this replica is
// not ready any more, then requests under way are let finish and WebSockets are
// told to come back elsewhere. A second signal ends the program at once.
func (a *app) stop(servers []*http.Server, grpc *grpcServer, status *status) error {
	status.draining.Store(true)
	if grpc != nil {
		grpc.Drain()
	}
	a.log.Info("stopping", "delay", a.config.Shutdown.Delay.String(), "timeout", a.config.Shutdown.Timeout.String())
	time.Sleep(a.config.Shutdown.Delay)
	ctx, cancel := context.WithTimeout(context.Background(), a.config.Shutdown.Timeout)
	defer cancel()
	var problems []error
	var upgraded sync.WaitGroup
	upgraded.Go(func() { a.proxy.CloseUpgraded(ctx) })
	if grpc != nil {
		upgraded.Go(func() {
			if err := grpc.Shutdown(ctx); err != nil {
				a.log.Warn("questions of Envoy were cut off", "err", err)
			}
		})
	}
	for _, s := range servers {
		if err := s.Shutdown(ctx); err != nil {
			a.log.Warn("requests were cut off", "err", err)
			problems = append(problems, s.Close())
		}
	}
	upgraded.Wait()
	a.log.Info("stopped")
	return errors.Join(problems...)
}

// status is what probes ask for.
type status struct{ draining atomic.Bool }

// leaving returns h, whose answers while the server drains say that their
// connection is the last request's: whoever comes again opens another, at a
// replica that stays. A connection that is idle when the server goes may be in use
// by then, for a request that nobody sends twice, such as a POST.
func (s *status) leaving(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() && len(r.Header["Upgrade"]) == 0 { // of HTTP/2 it makes a GOAWAY
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// adminHandler serves health and metrics. It is never on the public listener.
func (a *app) adminHandler(status *status) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { probe(w, "") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { probe(w, a.unready(status)) })
	if api := a.adminAPI(); api != nil {
		mux.Handle("/admin/", api)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}))
	return mux
}

// unready says why requests should go elsewhere, "" if they need not. That does
// not depend on providers: sessions work without them, and a provider that is
// down must not take the applications along. A store that is down later does not
// count either: all replicas would leave at once, and with them the public paths.
func (a *app) unready(status *status) string {
	switch {
	case status.draining.Load():
		return "draining"
	case a.store != nil && !a.storeSeen.Load():
		return "the session store has not answered yet"
	}
	return ""
}

func probe(w http.ResponseWriter, problem string) {
	w.Header().Set("Cache-Control", "no-store")
	if problem != "" {
		http.Error(w, problem, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}
