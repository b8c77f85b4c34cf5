package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// check says whether the configuration is right. It puts the server together
// as serve would, and asks each provider for its metadata, and the store whether
// it can be used.
func check(ctx context.Context, env environment) error {
	offline := slices.Contains(env.args, "--offline")
	env.args = slices.DeleteFunc(slices.Clone(env.args), func(a string) bool { return a == "--offline" })
	cfg, warnings, err := load(env)
	if err != nil {
		return err
	}
	mode := cfg.Session.Migrate
	if mode == "auto" {
		cfg.Session.Migrate = "check" // nobody expects this command to make tables
	}
	a, err := build(cfg, nil, env.environ)
	if err != nil {
		return err
	}
	defer a.close()
	for _, w := range warnings {
		fmt.Fprintln(env.stderr, "warning:", w)
	}
	if err := checkTLS(a); err != nil {
		return err
	}
	if !offline {
		if err := errors.Join(a.askProviders(ctx, env), a.checkStore(ctx, mode, env.stdout)); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(env.stdout, "the configuration is right")
	return err
}

// checkTLS reads the certificates, without listening.
func checkTLS(a *app) error {
	cfg := *a.config
	cfg.Listen = "127.0.0.1:0"
	l, err := listen(&cfg)
	if err != nil {
		return err
	}
	if _, err := grpcTLS(cfg.ExtAuthz); err != nil {
		return errors.Join(err, l.Close())
	}
	return l.Close()
}

// askProviders asks each provider for its metadata.
func (a *app) askProviders(ctx context.Context, env environment) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var problems []error
	for i, p := range a.providers {
		if err := p.Discover(ctx); err != nil {
			problems = append(problems, fmt.Errorf("providers[%d].issuer: %w\n(the program would start all the same, and try again; --offline leaves this out)", i, err))
			continue
		}
		fmt.Fprintf(env.stdout, "provider %s answers\n", p.ID())
	}
	return errors.Join(problems...)
}
