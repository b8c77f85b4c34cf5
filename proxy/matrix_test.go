package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authproxy/policy"
	"authproxy/policy/policytest"
)

// TestTheMatrixThroughTheProxy: for each row the answer, the page that refuses,
// the log and the explanation say what the rules decide.
func TestTheMatrixThroughTheProxy(t *testing.T) {
	m := policytest.Load(t)
	for i := range m.Sets {
		set := &m.Sets[i]
		t.Run(set.Name, func(t *testing.T) {
			w := newWorld(t, setup{
				rules: set.Rules, trusted: []string{"127.0.0.0/8"},
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

// signInAll signs all users of the matrix in and returns their cookies. What a
// session cannot hold yet, rules see all the same.
func signInAll(w *world, m *policytest.Matrix) map[string]string {
	w.Helper()
	cookies := map[string]string{}
	for name, principal := range m.Users {
		cookies[name] = w.signIn(user(name, principal.Email, principal.Name, principal.Groups...))
		who, err := w.resolver.Identify(&http.Request{Header: http.Header{"Cookie": {cookies[name]}}})
		w.must(err)
		who.Principal = *principal
	}
	return cookies
}

// expectRow sends the request of one row.
func expectRow(t *testing.T, w *world, m *policytest.Matrix, c policytest.Case, cookies string) {
	t.Helper()
	request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: %s\r\nAccept: application/json\r\nConnection: close\r\n", c.Method, c.Path, c.Host, c.Client)
	if cookies != "" {
		request += "Cookie: " + cookies + "\r\n"
	}
	if c.Preflight != "" {
		request += "Origin: https://a.example\r\nAccess-Control-Request-Method: " + c.Preflight + "\r\n"
	}
	before := len(w.log.String())
	status, body := raw(t, w.front.URL, request+"\r\n")
	line := w.log.String()[before:]
	want := map[string]string{"allow": "200", "sign_in": "401", "deny": "403", policytest.Refused: "400"}[c.Outcome]
	if want != "" && !strings.HasPrefix(status, "HTTP/1.1 "+want) || c.Outcome == "step_up" && strings.Contains(status, " 200 ") {
		t.Errorf("%v: %s, want %s", c, status, want)
	}
	if c.Outcome == policytest.Refused {
		return
	}
	expectLogged(t, c, line)
	if c.Outcome == "deny" && c.Method != "HEAD" && c.Rule != "" && !strings.Contains(body, fmt.Sprintf(`"rule":%q`, c.Rule)) {
		t.Errorf("%v: the answer %s does not name the rule %s", c, body, c.Rule)
	}
	expectExplanation(t, w, m, c)
}

// expectLogged fails unless the line of a request names its decision and rule,
// and why it was not let through.
func expectLogged(t *testing.T, c policytest.Case, line string) {
	t.Helper()
	wanted := []string{fmt.Sprintf(`"decision":%q`, c.Outcome)}
	if c.Rule != "" {
		wanted = append(wanted, fmt.Sprintf(`"rule":%q`, c.Rule))
	}
	if c.Outcome != "allow" {
		wanted = append(wanted, `"reason":"`)
	}
	for _, want := range wanted {
		if !strings.Contains(line, want) {
			t.Errorf("%v: the log %s lacks %s", c, line, want)
		}
	}
}

func expectExplanation(t *testing.T, w *world, m *policytest.Matrix, c policytest.Case) {
	t.Helper()
	r := &http.Request{Method: c.Method, Host: c.Host, RequestURI: c.Path, URL: mustParseRequestURI(t, c.Path), Header: http.Header{}, RemoteAddr: net.JoinHostPort(c.Client.String(), "1")}
	if c.Preflight != "" {
		r.Header = http.Header{"Origin": {"https://a.example"}, "Access-Control-Request-Method": {c.Preflight}}
	}
	who := w.resolver.Suppose(user(c.User, "", ""), m.Now, nil)
	if principal := m.Principal(c); principal != nil {
		who.Principal = *principal
	} else {
		who = nil
	}
	e, err := w.proxy.Explain(r, who)
	if err != nil {
		t.Errorf("%v: Explain: %v", c, err)
		return
	}
	if diff := cmp.Diff([]string{c.Outcome, c.Rule}, []string{e.Outcome.String(), e.Rule}); diff != "" {
		t.Errorf("%v: Explain (-want +got):\n%s", c, diff)
	}
}

func mustParseRequestURI(t *testing.T, target string) *url.URL {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
