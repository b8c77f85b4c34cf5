package main

import (
	"context"
	"fmt"

	"authproxy/config"
)

// configDocs prints what is generated from the settings.
func configDocs(_ context.Context, env environment) error {
	var out []byte
	var err error
	switch {
	case len(env.args) == 1 && env.args[0] == "schema":
		out, err = config.Schema()
	case len(env.args) == 1 && env.args[0] == "reference":
		out = config.Reference()
	default:
		return fmt.Errorf("%w: authproxy config schema | reference", errUsage)
	}
	if err != nil {
		return err
	}
	_, err = env.stdout.Write(out)
	return err
}
