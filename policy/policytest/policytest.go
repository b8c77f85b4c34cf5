// Package policytest holds the matrix that all ways to ask for a decision are
// tested with: rule sets, requests and users, and for each the outcome and the
// rule that decides, written by hand in testdata. Tests call [Load] and go
// through the [Case]s of each [Set]: package policy all of them, others those
// that they can send.
//
// The promise: what a Set has as Rules and as YAML is the same.
package policytest

import (
	"embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"authproxy/policy"
)

//go:embed testdata
var files embed.FS

// Refused is the outcome of a path that is refused before rules are asked.
const Refused = "refused"

// A Matrix is all there is to be tried.
type Matrix struct {
	Sets  []Set
	Users map[string]*policy.Principal // without "nobody"
	Roles policy.RoleMap               // that the users' roles follow from
	Now   time.Time                    // the time of all requests
}

// A Set is a list of rules and what is asked of them.
type Set struct {
	Name  string
	YAML  string // the value of the setting rules
	Rules []policy.Rule
	Allow []string // the values of the setting paths.allow
	Cases []Case
}

// A Case is one request of one user, and what must come of it.
type Case struct {
	Line         int // in testdata/matrix.txt
	Method, Host string
	Path         string // as sent
	Preflight    string // the method that a preflight asks for, or ""
	Client       netip.Addr
	User         string // "nobody", or a key of Matrix.Users
	Outcome      string // that of policy.Outcome.String, or Refused
	Rule         string // the name of the rule that decides, "" for none
}

// String returns the request and the user, for the name of a test.
func (c Case) String() string {
	return fmt.Sprintf("line %d: %s %s%s by %s", c.Line, c.Method, c.Host, c.Path, c.User)
}

// Paths returns the set's Allow as package policy has it.
func (s *Set) Paths() policy.PathRules {
	return policy.PathRules{
		EncodedSlash: slices.Contains(s.Allow, "encoded_slash"), Semicolon: slices.Contains(s.Allow, "semicolon"), DoubleSlash: slices.Contains(s.Allow, "double_slash"),
	}
}

// Principal returns the user of c, nil for nobody.
func (m *Matrix) Principal(c Case) *policy.Principal { return m.Users[c.User] }

// Load reads the matrix.
func Load(t testing.TB) *Matrix {
	t.Helper()
	m := &Matrix{Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if err := m.readUsers(); err != nil {
		t.Fatalf("users.yaml: %v", err)
	}
	text, err := files.ReadFile("testdata/matrix.txt")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.readSets(string(text)); err != nil {
		t.Fatalf("matrix.txt: %v", err)
	}
	return m
}

// user is a user as users.yaml has it.
type user struct {
	Email, Name, Provider, ACR string
	Groups, AMR                []string
	Age                        time.Duration
	Claims                     map[string]any
}

func (m *Matrix) readUsers() error {
	text, err := files.ReadFile("testdata/users.yaml")
	if err != nil {
		return err
	}
	var file struct {
		Users map[string]user
		Roles map[string]struct{ Emails, Domains, Groups []string }
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		return err
	}
	m.Roles, m.Users = policy.RoleMap{}, map[string]*policy.Principal{}
	for role, members := range file.Roles {
		m.Roles[role] = policy.Members{Emails: members.Emails, Domains: members.Domains, Groups: members.Groups}
	}
	for name, u := range file.Users {
		p := &policy.Principal{
			ID: name, Name: u.Name, Email: u.Email, Groups: u.Groups, Roles: m.Roles.Roles(u.Email, u.Groups),
			Provider: u.Provider, Claims: u.Claims, ACR: u.ACR, AMR: u.AMR,
		}
		if u.Age > 0 {
			p.AuthTime = m.Now.Add(-u.Age)
		}
		m.Users[name] = p
	}
	return nil
}

// readSets reads the sets, and their cases line by line.
func (m *Matrix) readSets(text string) error {
	var set *Set
	inCases := false
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\n")
		head, isHead := strings.CutPrefix(line, "== ")
		switch {
		case isHead:
			words := strings.Fields(head)
			m.Sets = append(m.Sets, Set{Name: words[0], Allow: words[1:]})
			set, inCases = &m.Sets[len(m.Sets)-1], false
		case set == nil:
		case line == "--":
			inCases = true
			if err := set.readRules(); err != nil {
				return fmt.Errorf("set %s: %w", set.Name, err)
			}
		case !inCases:
			set.YAML += line + "\n"
		case strings.TrimSpace(line) != "":
			if err := m.readCases(set, n, strings.Fields(line)); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
	}
	return nil
}

// rule is a rule as the configuration has it.
type rule struct {
	Name, Host, Path, Allow, Preflight string
	Methods, Clients                   []string
	Deny                               bool
	Require                            *require
}

type require struct {
	SignedIn                       bool `yaml:"signed_in"`
	Emails, Domains, Groups, Roles []string
	Claims                         map[string][]string
	ACR, AMR                       []string
	Fresh                          time.Duration
	When                           string
	All, Any                       []require
}

func (s *Set) readRules() error {
	var rules []rule
	if err := yaml.UnmarshalWithOptions([]byte(s.YAML), &rules, yaml.Strict()); err != nil {
		return err
	}
	for _, r := range rules {
		out := policy.Rule{Name: r.Name, Host: r.Host, Path: r.Path, Methods: r.Methods, Allow: r.Allow, Deny: r.Deny, Preflight: r.Preflight}
		for _, client := range r.Clients {
			prefix, err := netip.ParsePrefix(client)
			if addr, e := netip.ParseAddr(client); e == nil {
				prefix, err = addr.Prefix(addr.BitLen())
			}
			if err != nil {
				return err
			}
			out.Clients = append(out.Clients, prefix)
		}
		if r.Require != nil {
			out.Require = &convert([]require{*r.Require})[0]
		}
		s.Rules = append(s.Rules, out)
	}
	return nil
}

func convert(requires []require) []policy.Require {
	var out []policy.Require
	for _, r := range requires {
		out = append(out, policy.Require{
			SignedIn: r.SignedIn, Emails: r.Emails, Domains: r.Domains, Groups: r.Groups, Roles: r.Roles, Claims: r.Claims,
			ACR: r.ACR, AMR: r.AMR, Fresh: r.Fresh, When: r.When, All: convert(r.All), Any: convert(r.Any),
		})
	}
	return out
}

// readCases reads one line of requests. In it, "_" stands for the spaces in the
// name of a rule.
func (m *Matrix) readCases(s *Set, n int, words []string) error {
	if len(words) < 4 {
		return fmt.Errorf("%d words, want method, target, rule and users", len(words))
	}
	c := Case{Line: n, Method: words[0], Host: "app.example.com", Path: words[1], Client: netip.MustParseAddr("192.0.2.1")}
	if i := strings.IndexByte(words[1], '/'); i > 0 {
		c.Host, c.Path = words[1][:i], words[1][i:]
	}
	switch words[2] {
	case "-":
	case "default":
		c.Rule = "signed in (default)"
	default:
		c.Rule = strings.ReplaceAll(words[2], "_", " ")
	}
	for _, word := range words[3:] {
		if name, value, ok := strings.Cut(word, "="); ok {
			if err := c.set(name, value); err != nil {
				return err
			}
			continue
		}
		var ok bool
		c.User, c.Outcome, ok = strings.Cut(word, ":")
		if !ok || c.User != "nobody" && m.Users[c.User] == nil {
			return fmt.Errorf("%q is not user:outcome", word)
		}
		s.Cases = append(s.Cases, c)
	}
	return nil
}

// set sets what a request has beside its target.
func (c *Case) set(name, value string) error {
	switch {
	case name == "preflight":
		c.Preflight = value
	case name == "client" && value == "none":
		c.Client = netip.Addr{}
	case name == "client":
		var err error
		c.Client, err = netip.ParseAddr(value)
		return err
	default:
		return fmt.Errorf("%s=%s is unknown", name, value)
	}
	return nil
}
