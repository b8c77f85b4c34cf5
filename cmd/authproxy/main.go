// Command authproxy puts sign-in in front of applications that know nothing
// about it.
//
// This file is the parts list of its commands; build.go is that of the server.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "dev"

// An environment is what a command has of the world.
type environment struct {
	args    []string // without the program and the command
	environ []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
}

// A command is one way to call the program. It returns an error for what went
// wrong; an errUsage for how it was called.
type command struct {
	name, summary string
	run           func(ctx context.Context, env environment) error
}

func commands() []command {
	return []command{
		{"serve", "run the proxy (this is what happens without a command)", serve},
		{"demo", "try it: proxy, identity provider and application in one, on loopback", demo},
		{"check", "is this configuration right? also asks the providers and the store (--offline: does not)", check},
		{"explain", "would this request be let through, and by which rule?", explain},
		{"keys", "keys new: make a key for cookie.keys_file; keys rotate: replace it without signing anybody out", keys},
		{"sessions", "sessions list, revoke, ban, unban: who is signed in, in the store of session.store", sessions},
		{"healthcheck", "ask the admin listener whether the proxy is alive, for images without a shell", healthcheck},
		{"config", "config schema: print the JSON Schema of the file; config reference: the settings as Markdown", configDocs},
		{"version", "print the version", printVersion},
	}
}

// An exitStatus is an answer rather than a failure: the command has said all
// there is to say, and this is the status to exit with.
type exitStatus int

// Error says what the status is.
func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// errUsage is for a command line that cannot be understood.
var errUsage = errors.New("usage")

func main() {
	// net/http prints here what an upstream sends without having been asked: that is
	// an application's, and belongs in no log. What servers have to say goes to their
	// ErrorLog.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	env := environment{args: os.Args[1:], environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(run(ctx, env))
}

// run finds the command, runs it and returns the exit status: 0, 1 for a
// failure, 2 for a wrong call, and what else a command's answer is.
func run(ctx context.Context, env environment) int {
	name := "serve"
	if len(env.args) > 0 && !strings.HasPrefix(env.args[0], "-") {
		name, env.args = env.args[0], env.args[1:]
	}
	if name == "help" || len(env.args) > 0 && (env.args[0] == "--help" || env.args[0] == "-h") {
		fmt.Fprint(env.stdout, usage())
		return 0
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		err := c.run(ctx, env)
		var status exitStatus
		switch {
		case errors.As(err, &status):
			return int(status)
		case errors.Is(err, errUsage):
			fmt.Fprintf(env.stderr, "authproxy %s: %v\n", name, err)
			return 2
		case err != nil:
			fmt.Fprintf(env.stderr, "authproxy %s:\n%s\n", name, indent(err.Error()))
			return 1
		}
		return 0
	}
	fmt.Fprintf(env.stderr, "authproxy: unknown command %q\n\n%s", name, usage())
	return 2
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}

func usage() string {
	var b strings.Builder
	b.WriteString("authproxy puts sign-in in front of applications that know nothing about it.\n\nusage: authproxy [command] [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-12s %s\n", c.name, c.summary)
	}
	b.WriteString(`
Settings come from a file (--config FILE), the environment and flags; the same
name everywhere: session.max_age is AUTHPROXY_SESSION_MAX_AGE and
--session.max_age. All of them: authproxy config reference.

The quickest start is: authproxy demo
`)
	return b.String()
}

func printVersion(_ context.Context, env environment) error {
	_, err := fmt.Fprintln(env.stdout, "authproxy", version)
	return err
}
