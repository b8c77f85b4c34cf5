package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"authproxy/session"
)

const sessionsUsage = `authproxy sessions --config FILE
  list   (--user ID | --email ADDRESS | --session ID | --all) [--limit 100] [--json]
  revoke (--user ID | --email ADDRESS | --session ID | --all)
  ban    (--user ID | --email ADDRESS) [--reason TEXT] [--until TIME or DURATION]
  unban  (--user ID | --email ADDRESS)`

// A sessionsCall is what the command is asked to do.
type sessionsCall struct {
	verb string
	target
	limit         int
	reason, until string
	json          bool
}

// sessions looks at sessions and people in the store, and ends or refuses them.
// It asks the store, not the server, which may be down; one that runs hears of it
// from the store.
func sessions(ctx context.Context, env environment) error {
	call, err := readSessionsCall(&env)
	if err != nil {
		return err
	}
	cfg, _, err := load(env)
	if err != nil {
		return err
	}
	switch cfg.Session.Store {
	case "cookie":
		return errNeedsStore
	case "memory":
		return errors.New("session.store: is memory, which only the running server can look into; ask its admin API (admin.token), or use sqlite:…")
	}
	a, err := build(cfg, nil, env.environ)
	if err != nil {
		return err
	}
	defer a.close() // writes down the audit events
	return explainFailure(call.do(ctx, a.sessions, env.stdout))
}

// explainFailure says in an operator's words what went wrong with the store.
func explainFailure(err error) error {
	switch {
	case errors.Is(err, session.ErrNone):
		return errors.New("there is nobody with this id or address; authproxy sessions list --all shows who is there")
	case errors.Is(err, session.ErrUnavailable):
		return fmt.Errorf("session.store: %w", err)
	}
	return err
}

// readSessionsCall takes what is the command's own out of env.args; the rest are
// settings.
func readSessionsCall(env *environment) (sessionsCall, error) {
	wrong := func(format string, args ...any) (sessionsCall, error) {
		return sessionsCall{}, fmt.Errorf("%w: %s\n%s", errUsage, fmt.Sprintf(format, args...), sessionsUsage)
	}
	if len(env.args) == 0 || !slices.Contains([]string{"list", "revoke", "ban", "unban"}, env.args[0]) {
		return wrong("say list, revoke, ban or unban")
	}
	c := sessionsCall{verb: env.args[0]}
	limit := strconv.Itoa(defaultListed)
	texts := map[string]*string{
		"--user": &c.user, "--email": &c.email, "--session": &c.id, "--limit": &limit, "--reason": &c.reason, "--until": &c.until,
	}
	switches := map[string]*bool{"--all": &c.all, "--json": &c.json}
	settings := []string{}
	for args := env.args[1:]; len(args) > 0; args = args[1:] {
		name, value, hasValue := strings.Cut(args[0], "=")
		switch text, on := texts[name], switches[args[0]]; {
		case on != nil:
			*on = true
		case text == nil:
			settings = append(settings, args[0])
		case hasValue:
			*text = value
		case len(args) < 2:
			return wrong("%s needs a value", name)
		default:
			*text, args = args[1], args[1:]
		}
		if text := texts[name]; text != nil && *text == "" {
			return wrong("%s is empty", name) // a script's variable that is not set must not mean somebody else
		}
	}
	env.args = settings
	var err error
	if c.limit, err = strconv.Atoi(limit); err != nil || c.limit < 1 || c.limit > maxListed {
		return wrong("--limit is a number from 1 to %d", maxListed)
	}
	return c, c.check()
}

// check refuses a call that names nobody, or too much.
func (c *sessionsCall) check() error {
	problem := ""
	switch {
	case c.target.check() != nil:
		problem = errTarget.Error()
	case c.verb != "list" && c.verb != "revoke" && (c.id != "" || c.all):
		problem = c.verb + " is for a person: use --user or --email"
	case c.verb != "ban" && c.reason+c.until != "":
		problem = "--reason and --until are for ban"
	}
	if problem == "" {
		return nil
	}
	return fmt.Errorf("%w: %s\n%s", errUsage, problem, sessionsUsage)
}

func (c *sessionsCall) do(ctx context.Context, m *session.Manager, out io.Writer) error {
	by := session.By{Cause: "admin"}
	switch c.verb {
	case "list":
		return c.show(ctx, m, out)
	case "revoke":
		n, err := c.revoke(ctx, m, by)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%d ended\n", n)
		return err
	}
	until, err := parseUntil(c.until, time.Now())
	if err != nil {
		return fmt.Errorf("%w: --until %s %w", errUsage, c.until, err)
	}
	people, err := c.people(ctx, m)
	if err != nil {
		return err
	}
	for _, p := range people {
		if c.verb == "ban" {
			err = m.Ban(ctx, p.User.ID, c.reason, until, by)
		} else {
			err = m.Unban(ctx, p.User.ID, by)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s %s %s\n", map[string]string{"ban": "banned", "unban": "unbanned"}[c.verb], p.User.ID, printable(p.User.Email))
	}
	return nil
}

// show lists sessions and, where a person was asked for, whether they are banned.
func (c *sessionsCall) show(ctx context.Context, m *session.Manager, out io.Writer) error {
	all, more, err := c.list(ctx, m, c.limit)
	if err != nil {
		return err
	}
	if c.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"sessions": viewSessions(all), "more": more})
	}
	if err := c.showBans(ctx, m, out); err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SESSION\tUSER\tEMAIL\tPROVIDER\tDEVICE\tIP\tCREATED\tLAST SEEN\tEXPIRES")
	for _, s := range viewSessions(all) {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.UserID, printable(s.Email), s.Provider, s.Device, s.IPAddress,
			s.CreatedAt.Format(time.RFC3339), s.LastSeenAt.Format(time.RFC3339), s.ExpiresAt.Format(time.RFC3339))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(out, "there are more than these %d; raise --limit, or name a person\n", c.limit)
	}
	return nil
}

func (c *sessionsCall) showBans(ctx context.Context, m *session.Manager, out io.Writer) error {
	if c.user == "" && c.email == "" {
		return nil
	}
	people, err := c.people(ctx, m)
	if err != nil {
		return err
	}
	for _, p := range viewAccounts(people, time.Now()) {
		if !p.Banned {
			continue
		}
		until := "for good"
		if p.BanExpires != nil {
			until = "until " + p.BanExpires.Format(time.RFC3339)
		}
		fmt.Fprintf(out, "%s %s is banned %s: %s\n", p.ID, printable(p.Email), until, printable(p.BanReason))
	}
	return nil
}

// printable returns text without what would move a terminal's cursor: it comes
// from providers.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
