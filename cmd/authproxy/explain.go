package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"authproxy/cookie"
	"authproxy/identity"
	"authproxy/page"
	"authproxy/policy"
	"authproxy/session"
)

// The exit statuses of explain, beside 0 for a request that is let through.
const (
	statusSignIn = 3
	statusDeny   = 4
	statusStepUp = 5
)

// maxInput bounds what explain reads from a file or from standard input, in
// bytes.
const maxInput = 1 << 20

const explainUsage = `authproxy explain --config FILE --url URL [--method GET] [--client IP] [--header 'Name: value'] [--as EMAIL | --claims FILE.json | --cookie -]
exit status: 0 let through, 3 sign-in needed, 4 denied, 5 another sign-in needed, 1 a problem with the configuration, 2 a wrong call`

// A question is what explain is asked.
type question struct {
	method, url, client, as, claims, cookie string
	header                                  http.Header
}

// explain says what would become of a request, and by which rule.
func explain(_ context.Context, env environment) error {
	q, err := readQuestion(&env)
	if err != nil {
		return err
	}
	request, err := q.request()
	if err != nil {
		return err
	}
	a, err := buildToExplain(env, q)
	if err != nil {
		return err
	}
	defer a.close()
	if a.proxy.Rules.NamesClient() && q.client == "" {
		return fmt.Errorf("%w: a rule names clients; say where the request comes from with --client IP", errUsage)
	}
	who, err := a.who(q, request, env)
	if err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "%s %s\n%s\n", request.Method, q.url, describeWho(who))
	explained, err := a.proxy.Explain(request, who)
	if refused := (*page.Error)(nil); errors.As(err, &refused) {
		fmt.Fprintf(env.stdout, "denied before any rule is asked: %s\n", refusal(refused))
		return exitStatus(statusDeny)
	}
	if err != nil {
		return err
	}
	if explained.Own {
		fmt.Fprintln(env.stdout, "allow: authproxy answers here itself, and no rule is asked")
		return nil
	}
	if err := report(env.stdout, explained.Explanation); err != nil || !explained.Unserved {
		return err
	}
	fmt.Fprintln(env.stdout, "not served: none of routes is for it, and there is no upstream for the rest, so that the answer is 404")
	return exitStatus(statusDeny)
}

// readQuestion takes the flags of explain out of env.args; the rest are
// settings.
func readQuestion(env *environment) (question, error) {
	q := question{method: "GET", header: http.Header{}}
	header := ""
	flags := map[string]*string{
		"--method": &q.method, "--url": &q.url, "--client": &q.client, "--as": &q.as, "--claims": &q.claims, "--cookie": &q.cookie,
		"--header": &header,
	}
	var settings []string
	for args := slices.Clone(env.args); len(args) > 0; args = args[1:] {
		name, value, hasValue := strings.Cut(args[0], "=")
		to := flags[name]
		if to == nil {
			settings = append(settings, args[0])
			continue
		}
		if !hasValue {
			if args = args[1:]; len(args) == 0 {
				return q, fmt.Errorf("%w: %s needs a value\n%s", errUsage, name, explainUsage)
			}
			value = args[0]
		}
		*to = value
		if to == &header && !q.addHeader(value) {
			return q, fmt.Errorf("%w: --header must be like 'Origin: https://app.example.com', and of no credentials\n%s", errUsage, explainUsage)
		}
	}
	env.args = settings
	who := 0
	for _, given := range []string{q.as, q.claims, q.cookie} {
		if given != "" {
			who++
		}
	}
	switch {
	case q.url == "":
		return q, fmt.Errorf("%w: --url is missing\n%s", errUsage, explainUsage)
	case who > 1:
		return q, fmt.Errorf("%w: --as, --claims and --cookie exclude each other\n%s", errUsage, explainUsage)
	case q.cookie != "" && q.cookie != "-":
		// Command lines are seen in the list of processes.
		return q, fmt.Errorf("%w: --cookie takes only -, and reads the cookie from standard input\n%s", errUsage, explainUsage)
	}
	return q, nil
}

// addHeader adds a line of the request's header. Credentials are not among them:
// command lines are seen in the list of processes.
func (q *question) addHeader(line string) bool {
	name, value, ok := strings.Cut(line, ":")
	name = http.CanonicalHeaderKey(name)
	if !ok || name == "" || strings.ContainsAny(name, " \t") || name == "Cookie" || name == "Authorization" {
		return false
	}
	q.header.Add(name, strings.TrimSpace(value))
	return true
}

// request returns the request that is asked about, as a server would have read
// it off the wire: the target's bytes are kept.
func (q question) request() (*http.Request, error) {
	scheme, rest, ok := strings.Cut(q.url, "://")
	if !ok || scheme != "https" && scheme != "http" {
		return nil, fmt.Errorf("%w: --url must be like https://app.example.com/path", errUsage)
	}
	rest, _, _ = strings.Cut(rest, "#") // no client sends it
	end := strings.IndexAny(rest+"/", "/?")
	host, target := rest[:end], rest[end:]
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, fmt.Errorf("%w: --url has a path that every server refuses with 400", errUsage)
	}
	r := &http.Request{Method: q.method, Host: host, RequestURI: target, URL: u, Header: q.header}
	if q.client != "" {
		addr, err := netip.ParseAddr(q.client)
		if err != nil {
			return nil, fmt.Errorf("%w: --client must be an IP address", errUsage)
		}
		r.RemoteAddr = netip.AddrPortFrom(addr, 0).String()
	}
	return r, nil
}

// buildToExplain puts the server together. Without a cookie to open, no key is
// needed.
func buildToExplain(env environment, q question) (*app, error) {
	cfg, warnings, err := load(env)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		fmt.Fprintln(env.stderr, "warning:", w)
	}
	if q.cookie == "" {
		key := make([]byte, cookie.KeySize)
		copy(key, "only to explain, and never to seal")
		cfg.Cookie.Keys = [][]byte{key}
	}
	return build(cfg, nil, env.environ)
}

// who returns who sends the request, nil for nobody.
func (a *app) who(q question, r *http.Request, env environment) (*identity.Who, error) {
	switch {
	case q.as != "":
		u := session.User{Email: q.as, EmailVerified: true}
		return a.identity.Suppose(u, time.Now(), nil, ""), nil
	case q.claims != "":
		return a.fromClaims(q.claims)
	case q.cookie != "":
		return a.fromCookie(r, env)
	}
	return nil, nil
}

// supposed is the file of --claims.
type supposed struct {
	ID            string         `json:"id"`
	Email         string         `json:"email"`
	EmailVerified *bool          `json:"email_verified"`
	Name          string         `json:"name"`
	Image         string         `json:"image"`
	Role          string         `json:"role"`
	Groups        []string       `json:"groups"`
	Provider      string         `json:"provider"`
	Claims        map[string]any `json:"claims"`
	ACR           string         `json:"acr"`
	AMR           []string       `json:"amr"`
	AuthTime      *int64         `json:"auth_time"`
}

// fromClaims reads who it is from a JSON file.
func (a *app) fromClaims(file string) (*identity.Who, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: --claims: %w", errUsage, err)
	}
	var s supposed
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	decoder.UseNumber() // whole numbers stay whole, as in a session
	if err := decoder.Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: --claims: %w; it holds any of id, email, email_verified, name, image, role, groups, provider, acr, amr, auth_time (seconds) and claims (an object)", errUsage, err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Claims)) {
		source, mapped := a.config.Identity.Claims[name]
		if !mapped {
			return nil, fmt.Errorf("%w: --claims: nobody has the claim %s, which is not one of identity.claims", errUsage, name)
		}
		if column, ok := strings.CutPrefix(source.From, "user."); ok {
			return nil, fmt.Errorf("%w: --claims: the claim %s comes from %s; write %s beside claims instead", errUsage, name, source.From, column)
		}
	}
	u := session.User{
		ID: s.ID, Email: s.Email, EmailVerified: s.EmailVerified == nil || *s.EmailVerified, Name: s.Name, Image: s.Image, Role: s.Role,
		Groups: s.Groups, Provider: s.Provider, Claims: s.Claims,
	}
	at := time.Now()
	if s.AuthTime != nil {
		at = time.Unix(*s.AuthTime, 0)
	}
	return a.identity.Suppose(u, at, s.AMR, s.ACR), nil
}

// fromCookie opens the cookie on standard input: a Cookie header, with or
// without its name, or the value alone. Nothing of it is shown.
func (a *app) fromCookie(r *http.Request, env environment) (*identity.Who, error) {
	text, err := io.ReadAll(io.LimitReader(env.stdin, maxInput))
	if err != nil {
		return nil, fmt.Errorf("--cookie: %w", err)
	}
	header := strings.TrimSpace(string(text))
	if len(header) > len("cookie:") && strings.EqualFold(header[:len("cookie:")], "cookie:") {
		header = strings.TrimSpace(header[len("cookie:"):])
	}
	name := a.sessions.Jar.Name()
	if !strings.Contains(header, name) {
		header = name + "=" + header
	}
	r.Header.Set("Cookie", header)
	who, err := a.identity.Identify(r)
	if errors.Is(err, identity.ErrAnonymous) {
		fmt.Fprintln(env.stdout, "the cookie leads to no live session: it is over, was ended, or was sealed with another key")
		return nil, nil
	}
	return who, err
}

func describeWho(who *identity.Who) string {
	if who == nil {
		return "sent by nobody who is signed in"
	}
	name := who.User.VerifiedEmail()
	if name == "" {
		name = "somebody without a verified address"
	}
	return fmt.Sprintf("sent by %s, with the roles %s and the groups %s", name, orNone(who.Roles), orNone(who.User.Groups))
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "(none)"
	}
	return strings.Join(list, ", ")
}

// refusal returns the sentence of an error page, with its cause.
func refusal(e *page.Error) string {
	text := e.Message
	if e.Err != nil {
		text += " (" + e.Err.Error() + ")"
	}
	return text
}

// report prints e and returns what the exit status is to be.
func report(w io.Writer, e policy.Explanation) error {
	for _, s := range e.Skipped {
		fmt.Fprintf(w, "  passed over: %s: %s\n", s.Rule, s.Why)
	}
	if e.Rule != "" {
		fmt.Fprintf(w, "  decides:     %s\n", e.Rule)
	}
	if e.Reading != "" {
		fmt.Fprintf(w, "the path is judged as %q, its strictest reading\n", e.Reading)
	}
	fmt.Fprintf(w, "%s: %s\n", e.Outcome, e.Reason)
	if e.Ask != nil {
		fmt.Fprintf(w, "the sign-in must show: %s\n", describeAsk(e.Ask))
	}
	switch e.Outcome {
	case policy.Allow:
		return nil
	case policy.SignIn:
		return exitStatus(statusSignIn)
	case policy.StepUp:
		return exitStatus(statusStepUp)
	}
	return exitStatus(statusDeny)
}

func describeAsk(ask *policy.Ask) string {
	var parts []string
	if len(ask.ACRValues) > 0 {
		parts = append(parts, "acr_values="+strings.Join(ask.ACRValues, " "))
	}
	if len(ask.AMR) > 0 {
		parts = append(parts, "amr "+strings.Join(ask.AMR, " "))
	}
	if ask.MaxAge > 0 {
		parts = append(parts, fmt.Sprintf("max_age=%d", int(ask.MaxAge.Seconds())))
	}
	return strings.Join(parts, ", ")
}
