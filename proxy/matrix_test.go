package proxy

import (
	"fmt"
	"html"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/identity"
	"authproxy/policy"
	"authproxy/policy/policytest"
	"authproxy/session"
)

// TestTheMatrixThroughTheProxy: for each row the answer, the page that refuses,
// the log and the explanation say what the rules decide.
func TestTheMatrixThroughTheProxy(t *testing.T) {
	m := policytest.Load(t)
	for i := range m.Sets {
		set := &m.Sets[i]
		t.Run(set.Name, func(t *testing.T) {
			w := newWorld(t, setup{
				rules: set.Rules, trusted: []string{"127.0.0.0/8"}, identity: func(c *identity.Config) { c.Roles = m.Roles },
				proxy: func(c *Config) { c.Paths, c.Hosts = set.Paths(), hostsOf(t, set) },
			})
			w.clock.advance(m.Now.Sub(w.clock.Now()))
			cookies := signInAll(w, m)
			for _, c := range set.Cases {
				if c.Client.IsValid() { // "none" cannot be sent
					expectRow(t, w, m, c, cookies[c.User])
				}
			}
		})
	}
}

// hostsOf returns the hosts of all requests of a set as ours: one that is not is
// refused before any rule is asked.
func hostsOf(t *testing.T, set *policytest.Set) policy.Hosts {
	t.Helper()
	var hosts policy.Hosts
	for _, c := range set.Cases {
		host, _, err := net.SplitHostPort(c.Host)
		if err != nil {
			host = strings.Trim(c.Host, "[]")
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		hosts = append(hosts, mustHost(t, host))
	}
	return hosts
}

// signInAll signs all users of the matrix in and returns their cookies.
func signInAll(w *world, m *policytest.Matrix) map[string]string {
	w.Helper()
	cookies := map[string]string{}
	for name, p := range m.Users {
		u := user(name, p.Email, p.Name, p.Groups...)
		u.EmailVerified, u.Provider, u.Claims = p.Email != "", p.Provider, p.Claims
		cookies[name] = w.start(&session.Session{User: u, AuthTime: p.AuthTime, ACR: p.ACR, AMR: p.AMR})
	}
	return cookies
}

// expectRow sends the request of one row: as a program, and where it is refused
// as a browser, too.
func expectRow(t *testing.T, w *world, m *policytest.Matrix, c policytest.Case, cookies string) {
	t.Helper()
	before := len(w.log.String())
	status, body := sendRow(t, w, c, cookies, "Accept: application/json\r\n")
	line := w.log.String()[before:]
	want := map[string]string{"allow": "200", "sign_in": "401", "step_up": "401", "deny": "403", policytest.Refused: "400"}[c.Outcome]
	if !strings.HasPrefix(status, "HTTP/1.1 "+want) {
		t.Errorf("%v: %s, want %s", c, status, want)
	}
	if c.Outcome == policytest.Refused {
		return
	}
	explained := expectExplanation(t, w, m, c)
	expectLogged(t, c, line, explained)
	if c.Outcome != "deny" || c.Method == "HEAD" {
		return
	}
	if c.Rule != "" && !strings.Contains(body, fmt.Sprintf(`"rule":%q`, c.Rule)) || !strings.Contains(body, sentence(explained.Reason)) {
		t.Errorf("%v: the answer %s does not name the rule %s and the reason %s", c, body, c.Rule, explained.Reason)
	}
	if c.Method != "OPTIONS" { // whose answer no browser shows
		_, page := sendRow(t, w, c, cookies, "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n")
		expectPage(t, c, html.UnescapeString(page), m.Principal(c), explained)
	}
}

// sendRow sends the request of c with one more header.
func sendRow(t *testing.T, w *world, c policytest.Case, cookies, header string) (status, body string) {
	t.Helper()
	request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: %s\r\n%sConnection: close\r\n", c.Method, c.Path, c.Host, c.Client, header)
	if cookies != "" {
		request += "Cookie: " + cookies + "\r\n"
	}
	if c.Preflight != "" {
		request += "Origin: https://a.example\r\nAccess-Control-Request-Method: " + c.Preflight + "\r\n"
	}
	return raw(t, w.front.URL, request+"\r\n")
}

// expectPage fails unless the page that refuses says which rule that is, if one
// is, why, and who is there, if anybody is.
func expectPage(t *testing.T, c policytest.Case, page string, who *policy.Principal, explained policy.Explanation) {
	t.Helper()
	name := ""
	if who != nil {
		name = who.Email
	}
	if who != nil && name == "" {
		name = who.Name
	}
	for label, want := range map[string]string{"Signed in as</dt><dd>": name, "Refused by rule</dt><dd><code>": c.Rule} {
		_, rest, there := strings.Cut(page, label)
		if there != (want != "") || !strings.HasPrefix(rest, want+"</") && there {
			t.Errorf("%v: the page lacks %s%s, or has another one:\n%s", c, label, want, page)
		}
	}
	if want := "You may not open this page: " + sentence(explained.Reason) + "."; !strings.Contains(page, want) {
		t.Errorf("%v: the page lacks %q:\n%s", c, want, page)
	}
}

// expectLogged fails unless the line of a request names its decision and rule,
// and why it was not let through.
func expectLogged(t *testing.T, c policytest.Case, line string, explained policy.Explanation) {
	t.Helper()
	wanted := []string{fmt.Sprintf(`"decision":%q`, c.Outcome)}
	if c.Rule != "" {
		wanted = append(wanted, fmt.Sprintf(`"rule":%q`, c.Rule))
	}
	if c.Outcome != "allow" {
		wanted = append(wanted, fmt.Sprintf(`"reason":%q`, explained.Reason))
	}
	for _, want := range wanted {
		if !strings.Contains(line, want) {
			t.Errorf("%v: the log %s lacks %s", c, line, want)
		}
	}
}

// expectExplanation returns what Explain says of a row, which must be what the row
// says.
func expectExplanation(t *testing.T, w *world, m *policytest.Matrix, c policytest.Case) policy.Explanation {
	t.Helper()
	r := &http.Request{Method: c.Method, Host: c.Host, RequestURI: c.Path, URL: mustParseRequestURI(t, c.Path), Header: http.Header{}, RemoteAddr: net.JoinHostPort(c.Client.String(), "1")}
	if c.Preflight != "" {
		r.Header = http.Header{"Origin": {"https://a.example"}, "Access-Control-Request-Method": {c.Preflight}}
	}
	who := w.resolver.Suppose(user(c.User, "", ""), m.Now, nil, "")
	if principal := m.Principal(c); principal != nil {
		who.Principal = *principal
	} else {
		who = nil
	}
	e, err := w.proxy.Explain(r, who)
	if err != nil {
		t.Fatalf("%v: Explain: %v", c, err)
	}
	if diff := cmp.Diff([]string{c.Outcome, c.Rule}, []string{e.Outcome.String(), e.Rule}); diff != "" {
		t.Errorf("%v: Explain (-want +got):\n%s", c, diff)
	}
	return e.Explanation
}

func mustParseRequestURI(t *testing.T, target string) *url.URL {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
