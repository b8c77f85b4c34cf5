package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"authproxy/cookie"
	"authproxy/policy"
	"authproxy/policy/policytest"
	"authproxy/session"
)

const matrixConfig = `
listen: %[1]q
admin: {listen: ""}
public_url: https://app.example.com
upstream: %[2]s
providers:
  - {id: corp, type: oidc, issuer: "http://127.0.0.1:1", client_id: a}
  - {id: github, type: oidc, issuer: "http://127.0.0.1:2", client_id: a}
sign_in: {allowed_domains: ["*"]}
trusted_proxies: [127.0.0.0/8]
ext_authz: {listen: %[3]q}
cookie: {keys_file: %[4]q}
hosts: %[5]s
paths: {allow: %[6]s}
identity: {roles: %[7]s}
shutdown: {delay: 0s}
`

// TestASampleOfTheMatrixThroughEachFaceOfTheBinary: of each set of rules every
// few rows, with real sessions, through the proxy and as each ingress asks.
func TestASampleOfTheMatrixThroughEachFaceOfTheBinary(t *testing.T) {
	slow(t)
	t.Parallel()
	m := policytest.Load(t)
	for i := range m.Sets {
		set := &m.Sets[i]
		t.Run(set.Name, func(t *testing.T) {
			t.Parallel()
			address, envoy, keys := freeAddress(t), freeAddress(t), newKeys(t)
			config := fmt.Sprintf(matrixConfig, address, startApp(t), envoy, keys, inline(t, hostsOf(set)), inline(t, set.Allow), inline(t, rolesOf(m)))
			if strings.TrimSpace(set.YAML) != "" {
				config += "rules:\n" + set.YAML
			}
			start(t, launch{args: []string{"--config", writeFile(t, "authproxy.yaml", config)}, base: "http://" + address})
			conn, err := grpc.NewClient(envoy, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			b := &matrixBench{t, address, authv3.NewAuthorizationClient(conn), sessionsOf(t, m, keys)}
			tried := 0
			for _, c := range set.Cases {
				if canBeSent(c) && c.Line%3 == 0 {
					b.expect(c)
					tried++
				}
			}
			if tried == 0 && set.Name != "nothing" {
				t.Error("no row was tried")
			}
		})
	}
}

// canBeSent leaves out what only package policy sees: some faces refuse it before
// any rule is asked, and say so in another way.
func canBeSent(c policytest.Case) bool {
	return c.Client.IsValid() && regexp.MustCompile(`^[A-Z]+$`).MatchString(c.Method) && c.Method != "CONNECT" && c.Method != "TRACE" &&
		regexp.MustCompile(`^[a-z0-9.-]+$`).MatchString(c.Host) && !strings.ContainsAny(c.Path, " \\\x00#,")
}

// inline returns v as YAML on one line.
func inline(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) == "null" {
		return "[]"
	}
	return string(text)
}

func hostsOf(set *policytest.Set) []string {
	var hosts []string
	for _, c := range set.Cases {
		if canBeSent(c) && !slices.Contains(hosts, c.Host) {
			hosts = append(hosts, strings.TrimSuffix(c.Host, "."))
		}
	}
	for _, r := range set.Rules {
		if r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

func rolesOf(m *policytest.Matrix) map[string]map[string][]string {
	roles := map[string]map[string][]string{}
	for role, members := range m.Roles {
		roles[role] = map[string][]string{}
		for name, list := range map[string][]string{"emails": members.Emails, "domains": members.Domains, "groups": members.Groups} {
			if len(list) > 0 {
				roles[role][name] = list
			}
		}
	}
	return roles
}

// sessionsOf signs all users of the matrix in, with the keys of the binary, and
// returns their cookies.
func sessionsOf(t *testing.T, m *policytest.Matrix, keys string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := cookie.NewKeyRing(key)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := cookie.NewSealer(ring)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookie.NewJar("authproxy_session", cookie.Options{Secure: true})
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := session.New(session.Config{Sealer: sealer, Jar: jar, MaxAge: time.Hour, UpdateAge: time.Minute, Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sessions.Close()
	cookies := map[string]string{}
	for name, p := range m.Users {
		w := httptest.NewRecorder()
		if _, err := sessions.Start(w, httptest.NewRequest("GET", "/", nil), sessionOf(m, name, p)); err != nil {
			t.Fatal(err)
		}
		for _, c := range w.Result().Cookies() {
			cookies[name] = c.Name + "=" + c.Value
		}
	}
	return cookies
}

// sessionOf is the session of a user of the matrix, whose clock stands still: how
// long ago somebody signed in is rounded down to minutes.
func sessionOf(m *policytest.Matrix, name string, p *policy.Principal) *session.Session {
	issuer := map[string]string{"corp": "http://127.0.0.1:1", "github": "http://127.0.0.1:2"}[p.Provider]
	s := &session.Session{ACR: p.ACR, AMR: p.AMR, User: session.User{
		ID: session.UserID(issuer, name), Issuer: issuer, Subject: name, Provider: p.Provider, Name: p.Name,
		Email: p.Email, EmailVerified: p.Email != "", Groups: p.Groups, Claims: p.Claims,
	}}
	if !p.AuthTime.IsZero() {
		s.AuthTime = time.Now().Add(-m.Now.Sub(p.AuthTime).Truncate(time.Minute))
	}
	return s
}

// A matrixBench sends rows to a binary.
type matrixBench struct {
	t       *testing.T
	address string
	envoy   authv3.AuthorizationClient
	cookies map[string]string
}

// expect sends c through each face.
func (b *matrixBench) expect(c policytest.Case) {
	b.t.Helper()
	want := map[string]int{"allow": 200, "sign_in": 401, "step_up": 401, "deny": 403, policytest.Refused: 403}[c.Outcome]
	header := http.Header{"Accept": {"application/json"}, "X-Forwarded-For": {c.Client.String()}}
	if cookies := b.cookies[c.User]; cookies != "" {
		header.Set("Cookie", cookies)
	}
	if c.Preflight != "" {
		header.Set("Origin", "https://a.example")
		header.Set("Access-Control-Request-Method", c.Preflight)
	}
	with := func(pairs ...string) http.Header {
		h := header.Clone()
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	const own = "app.example.com"
	direct := want
	if c.Outcome == policytest.Refused {
		direct = 400
	}
	status, body := b.send(c.Method, c.Host, c.Path, header)
	b.judge("proxy", c, direct, status, body)
	status, body = b.send("GET", own, "/auth/verify/nginx", with("X-Original-URL", "https://"+c.Host+c.Path, "X-Original-Method", c.Method))
	b.judge("nginx", c, want, status, body)
	status, body = b.send("GET", own, "/auth/verify/forward", with("X-Forwarded-Method", c.Method, "X-Forwarded-Proto", "https", "X-Forwarded-Host", c.Host, "X-Forwarded-Uri", c.Path))
	b.judge("forward", c, want, status, body)
	status, body = b.send(c.Method, c.Host, "/auth/verify/envoy"+c.Path, with("X-Forwarded-Proto", "https"))
	b.judge("envoy", c, want, status, body)
	status, body = b.check(c, header)
	b.judge("grpc", c, want, status, body)
}

// judge compares an answer with the row, and the rule that it names.
func (b *matrixBench) judge(face string, c policytest.Case, want, status int, body string) {
	b.t.Helper()
	if status != want {
		b.t.Errorf("%s, %v: %d, want %d for %s: %s", face, c, status, want, c.Outcome, body)
		return
	}
	if c.Outcome == "step_up" && c.Method != "HEAD" && !strings.Contains(body, `"error":"insufficient_user_authentication"`) {
		b.t.Errorf("%s, %v: %s, want insufficient_user_authentication", face, c, body)
	}
	if rule := fmt.Sprintf(`"rule":%q`, c.Rule); c.Outcome == "deny" && c.Rule != "" && c.Method != "HEAD" && !strings.Contains(body, rule) {
		b.t.Errorf("%s, %v: %s, want %s", face, c, body, rule)
	}
}

// send writes the request as it is, which clients would clean.
func (b *matrixBench) send(method, host, target string, header http.Header) (status int, body string) {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	var request bytes.Buffer
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, target, host)
	header.Write(&request)
	request.WriteString("\r\n")
	if _, err := conn.Write(request.Bytes()); err != nil {
		b.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// check asks as Envoy does over gRPC.
func (b *matrixBench) check(c policytest.Case, header http.Header) (status int, body string) {
	b.t.Helper()
	headers := map[string]string{}
	for name := range header {
		headers[strings.ToLower(name)] = header.Get(name)
	}
	peer := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1"}}}
	res, err := b.envoy.Check(b.t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:  &authv3.AttributeContext_Peer{Address: peer},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: c.Method, Host: c.Host, Path: c.Path, Scheme: "https", Headers: headers}},
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	if refused := res.GetDeniedResponse(); refused != nil {
		return int(refused.GetStatus().GetCode()), refused.GetBody()
	}
	return http.StatusOK, ""
}
