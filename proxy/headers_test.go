package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authproxy/identity"
	"authproxy/session"
)

// cgi returns a header's name as programs behind lighttpd's CGI see it, which
// tells fewest names apart.
func cgi(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, name)
}

// saysWho says whether a header, named as CGI does, can tell an application who
// is there.
func saysWho(name string) bool {
	for _, prefix := range []string{"X_USER_", "X_AUTH_REQUEST_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "AUTHORIZATION", "REMOTE_USER", "REMOTE_NAME", "REMOTE_EMAIL", "REMOTE_GROUPS", "X_FORWARDED_USER", "X_FORWARDED_EMAIL",
		"X_FORWARDED_GROUPS", "X_FORWARDED_PREFERRED_USERNAME", "X_FORWARDED_ACCESS_TOKEN":
		return true
	}
	return false
}

// saysWhence says whether a header can tell where a request came from.
func saysWhence(name string) bool {
	switch name {
	case "FORWARDED", "X_REAL_IP", "X_CLIENT_IP", "TRUE_CLIENT_IP", "X_REWRITE_URL":
		return true
	}
	return strings.HasPrefix(name, "X_FORWARDED_") || strings.HasPrefix(name, "X_ORIGINAL_")
}

// read returns the values that a careless application finds in h, of the names
// that about accepts.
func read(h http.Header, about func(string) bool) map[string][]string {
	found := map[string][]string{}
	for name, values := range h {
		if name = cgi(name); about(name) {
			found[name] = append(found[name], values...)
		}
	}
	return found
}

// identityOf is all that an application may be told about alice, with the JWT
// replaced by its subject.
func identityOf(w *world, h http.Header) map[string][]string {
	w.Helper()
	found := read(h, saysWho)
	for i, value := range found["AUTHORIZATION"] {
		if c, err := w.tokens.Verify(strings.TrimPrefix(value, "Bearer ")); err == nil {
			found["AUTHORIZATION"][i] = "ours for " + c.Subject
		}
	}
	return found
}

func aliceAsTold() map[string][]string {
	id := alice().ID
	return map[string][]string{
		"X_USER_ID": {id}, "X_USER_EMAIL": {"alice@example.com"}, "X_USER_NAME": {"Alice Adams"},
		"X_USER_GROUPS": {"staff,ops"}, "X_USER_ROLES": {"admin"}, "AUTHORIZATION": {"ours for " + id},
	}
}

// forgeries are the ways in which a client may say who it is.
func forgeries() map[string]ask {
	all := map[string]ask{}
	for _, name := range []string{
		"X-User-Id", "x-user-id", "X_User_Id", "X.User.Id", "x-user_id", "X-USER-ID", "X_USER_ID", "x.user-id", "X!User~Id", "X-User_Id",
		"X-User-Email", "X_User_Roles", "x.user.groups", "X-User-Name", "X-User-Anything", "x_user_anything",
		"X-Auth-Request-User", "X_Auth_Request_Email", "x.auth.request.groups", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Access-Token",
		"X-Forwarded-User", "X_Forwarded_Email", "X-Forwarded-Groups", "x.forwarded-preferred_username", "X-Forwarded-Access-Token",
		"Remote-User", "Remote_Name", "remote.email", "REMOTE-GROUPS", "Authorization", "AUTHORIZATION",
	} {
		all[name] = ask{header: http.Header{name: {"root"}}}
	}
	all["doubled"] = ask{header: http.Header{"X-User-Id": {"root", "admin"}}}
	all["doubled by spelling"] = ask{header: http.Header{"X-User-Id": {"root"}, "X_User_Id": {"root"}, "X.User.Id": {"root"}}}
	all["two Authorizations"] = ask{header: http.Header{"Authorization": {"Bearer a", "Basic cm9vdDpyb290"}}}
	all["in a trailer"] = ask{
		method: "POST", body: io.MultiReader(strings.NewReader("body")), // of unknown length, so that there is a trailer
		trailer: http.Header{"X-User-Id": {"root"}, "X_user_id": {"root"}, "Remote-User": {"root"}},
	}
	for _, token := range []string{"X-User-Id", "x-user-id", "Authorization", "X-Forwarded-For", "X-Forwarded-Proto", "X-User-Email, X-User-Groups", "X-Request-Id"} {
		all["Connection: "+token] = ask{header: http.Header{"Connection": {token}, "X-User-Id": {"root"}}}
	}
	return all
}

// TestNoClientCanSayWhoItIs sends every forgery to a protected page, and to a
// public one, where nobody would look, over both protocols.
func TestNoClientCanSayWhoItIs(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		w := newWorld(t, setup{rules: anyoneBelowPublic(), http2: http2})
		cookies := w.signIn(alice())
		for _, scene := range []struct {
			name, target, cookies string
			want                  map[string][]string
		}{
			{"protected, signed in", "/page", cookies, aliceAsTold()},
			{"public, anonymous", "/public/page", "", map[string][]string{}},
			{"public, signed in", "/public/page", cookies, aliceAsTold()},
		} {
			for name, a := range forgeries() {
				if http2 && a.header["Connection"] != nil {
					continue // HTTP/2 has no such header, and clients refuse to send it
				}
				t.Run(fmt.Sprintf("http2=%t/%s/%s", http2, scene.name, name), func(t *testing.T) {
					w := &world{TB: t, clock: w.clock, tokens: w.tokens, front: w.front}
					a.target = scene.target
					a.header = with(with(a.header, "Cookie", scene.cookies), "X-App", "kept")
					got := w.pass(a)
					if diff := cmp.Diff(scene.want, identityOf(w, got.Header)); diff != "" {
						t.Errorf("the upstream is told (-want +got):\n%s", diff)
					}
					if len(got.Trailer) > 0 {
						t.Errorf("the upstream got the trailer %v, want none", got.Trailer)
					}
					if got.Header.Get("X-App") != "kept" || got.Header.Get("X-Forwarded-For") != "127.0.0.1" || got.Header.Get("X-Request-Id") == "" {
						t.Errorf("the upstream got %v, want X-App: kept, our X-Forwarded-For and our X-Request-Id", got.Header)
					}
				})
			}
		}
	}
}

// TestACookieNamedAsHopByHopSignsInAllTheSame: the client's token decides what
// of its own is passed on, not who it is.
func TestACookieNamedAsHopByHopSignsInAllTheSame(t *testing.T) {
	w := newWorld(t, setup{})
	got := w.pass(ask{header: http.Header{"Connection": {"Cookie"}, "Cookie": {w.signIn(alice())}}})
	if diff := cmp.Diff(aliceAsTold(), identityOf(w, got.Header)); diff != "" {
		t.Errorf("the upstream is told (-want +got):\n%s", diff)
	}
}

// TestATrailerSentByBytesDoesNotArrive announces a trailer as no client library
// would.
func TestATrailerSentByBytesDoesNotArrive(t *testing.T) {
	w := newWorld(t, setup{rules: anyone()})
	_, rest := raw(t, w.front.URL, "POST / HTTP/1.1\r\nHost: "+ourHost+"\r\nConnection: close\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-Id\r\n\r\n"+
		"4\r\nbody\r\n0\r\nX-User-Id: root\r\nX-Unannounced: root\r\n\r\n")
	if !strings.Contains(rest, `"Body":"body"`) || strings.Contains(rest, "root") || strings.Contains(rest, `"Trailer":{"`) {
		t.Errorf("the upstream got %s, want the body and no trailer", rest)
	}
}

func TestWhenceComesFromTrustedPeersOnly(t *testing.T) {
	ours := func(proto string) map[string][]string {
		return map[string][]string{"X_FORWARDED_FOR": {"127.0.0.1"}, "X_FORWARDED_HOST": {ourHost}, "X_FORWARDED_PROTO": {proto}}
	}
	// Other spellings are nobody's, and what overrides a path reaches no upstream.
	handedOn := map[string]bool{
		"Forwarded": true, "X-Forwarded-Uri": true, "X-Forwarded-Method": true, "X-Real-IP": true, "X-Client-IP": true, "True-Client-IP": true,
	}
	for _, name := range []string{
		"Forwarded", "X-Forwarded-Uri", "X_Forwarded_Prefix", "x.forwarded.port", "X-Forwarded-Method", "X-Real-IP", "X_Real_IP", "x-real.ip",
		"X-Client-IP", "X.Client.IP", "True-Client-IP", "TRUE_CLIENT_IP", "X-Original-URL", "X_Original_URL", "x-original-method", "X-Rewrite-URL", "X.Rewrite_URL",
	} {
		for _, trusted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/trusted=%t", name, trusted), func(t *testing.T) {
				s, want := setup{rules: anyone()}, ours("https")
				if trusted {
					s.trusted = []string{"127.0.0.0/8"}
				}
				if trusted && handedOn[name] {
					want[cgi(name)] = []string{"forged"}
				}
				w := newWorld(t, s)
				got := w.pass(ask{header: http.Header{name: {"forged"}}})
				if diff := cmp.Diff(want, read(got.Header, saysWhence)); diff != "" {
					t.Errorf("the upstream is told (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestForwardedForHostAndProto(t *testing.T) {
	type told struct{ For, Host, Proto []string }
	plain := told{[]string{"127.0.0.1"}, []string{ourHost}, []string{"https"}}
	tests := []struct {
		name              string
		untrusted, silent bool // silent: nothing is sent
		host              string
		header            http.Header
		want              told
	}{
		{"no proxy in front", true, true, "", nil, plain},
		{"a stranger's word does not count", true, false, "", http.Header{"X-Forwarded-For": {"10.0.0.1"}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"http"}}, plain},
		{"another host is as the connection is", true, true, "other.example.com", nil, told{[]string{"127.0.0.1"}, []string{"other.example.com"}, []string{"http"}}},
		{"a trusted proxy says nothing", false, true, "", nil, plain},
		{"a trusted proxy's word is continued", false, false, "", http.Header{"X-Forwarded-For": {"203.0.113.7, 10.0.0.1"}, "X-Forwarded-Host": {"app.example.com:8443"}, "X-Forwarded-Proto": {"http"}},
			told{[]string{"203.0.113.7, 10.0.0.1, 127.0.0.1"}, []string{"app.example.com:8443"}, []string{"http"}}},
		{"several headers become one", false, false, "", http.Header{"X-Forwarded-For": {"203.0.113.7", "10.0.0.1"}}, told{[]string{"203.0.113.7, 10.0.0.1, 127.0.0.1"}, plain.Host, plain.Proto}},
		{"an empty host is none", false, false, "", http.Header{"X-Forwarded-Host": {""}}, plain},
		{"wss is https", false, false, "other.example.com", http.Header{"X-Forwarded-Proto": {"wss"}}, told{plain.For, []string{"other.example.com"}, plain.Proto}},
		{"ws is http", false, false, "", http.Header{"X-Forwarded-Proto": {"ws"}}, told{plain.For, plain.Host, []string{"http"}}},
		{"a list is no scheme", false, false, "", http.Header{"X-Forwarded-Proto": {"http,https"}}, plain},
		{"script is no scheme", false, false, "", http.Header{"X-Forwarded-Proto": {"javascript"}}, plain},
		{"an empty scheme is none", false, false, "", http.Header{"X-Forwarded-Proto": {""}}, plain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setup{rules: anyone()}
			if !tt.untrusted {
				s.trusted = []string{"127.0.0.1/32"}
			}
			w := newWorld(t, s)
			h := w.pass(ask{host: tt.host, header: tt.header}).Header
			got := told{h["X-Forwarded-For"], h["X-Forwarded-Host"], h["X-Forwarded-Proto"]}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the upstream is told (-want +got):\n%s", diff)
			}
		})
	}
}

// TestATrustedProxyCannotSayWhoIsThere: it vouches for where a request comes
// from; who sent it is what the client wrote.
func TestATrustedProxyCannotSayWhoIsThere(t *testing.T) {
	w := newWorld(t, setup{rules: anyone(), trusted: []string{"127.0.0.1/32"}})
	for name, a := range forgeries() {
		t.Run(name, func(t *testing.T) {
			w := &world{TB: t, tokens: w.tokens, front: w.front}
			if diff := cmp.Diff(map[string][]string{}, identityOf(w, w.pass(a).Header)); diff != "" {
				t.Errorf("the upstream is told (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAuthorizationIsWhatTheSettingSays(t *testing.T) {
	const provider, sent = "provider-", "Basic Y2xpZW50OnNlY3JldA=="
	id := "ours for " + alice().ID
	tests := []struct{ mode, signedIn, anonymous string }{
		{identity.AuthorizationJWT, id, ""},
		{identity.AuthorizationAccessToken, "Bearer " + provider + "access", ""},
		{identity.AuthorizationIDToken, "Bearer " + provider + "id", ""},
		{identity.AuthorizationNone, "", ""},
		{identity.AuthorizationPass, sent, sent},
	}
	for _, tt := range tests {
		w := newWorld(t, setup{rules: anyoneBelowPublic(), identity: func(c *identity.Config) { c.Authorization = tt.mode }})
		later := w.clock.Now().Add(time.Hour)
		cookies := w.start(&session.Session{User: alice(), Tokens: session.Tokens{
			Access: provider + "access", AccessExpiry: later, ID: provider + "id", IDExpiry: later,
		}})
		for _, scene := range []struct{ name, target, cookies, want string }{
			{"protected, signed in", "/", cookies, tt.signedIn},
			{"public, signed in", "/public/", cookies, tt.signedIn},
			{"public, anonymous", "/public/", "", tt.anonymous},
		} {
			t.Run(tt.mode+"/"+scene.name, func(t *testing.T) {
				w := &world{TB: t, tokens: w.tokens, front: w.front}
				got := w.pass(ask{target: scene.target, header: with(http.Header{"Authorization": {sent}}, "Cookie", scene.cookies)})
				if told := strings.Join(identityOf(w, got.Header)["AUTHORIZATION"], " and "); told != scene.want {
					t.Errorf("Authorization = %q, want %q", told, scene.want)
				}
			})
		}
	}
}

// TestAProviderTokenThatIsOverIsNotHandedOn, and the client's own does not take
// its place.
func TestAProviderTokenThatIsOverIsNotHandedOn(t *testing.T) {
	w := newWorld(t, setup{identity: func(c *identity.Config) { c.Authorization = identity.AuthorizationAccessToken }})
	cookies := w.start(&session.Session{User: alice(), Tokens: session.Tokens{Access: "a", AccessExpiry: w.clock.Now().Add(time.Minute)}})
	w.clock.advance(time.Minute)
	got := w.pass(ask{header: http.Header{"Cookie": {cookies}, "Authorization": {"Bearer root"}}})
	if told := got.Header["Authorization"]; told != nil {
		t.Errorf("Authorization = %q, want none", told)
	}
}

// TestAnEmptyIdentityHeaderIsNone: a header without a value must not let the
// client's through.
func TestAnEmptyIdentityHeaderIsNone(t *testing.T) {
	w := newWorld(t, setup{})
	u := bob()
	u.EmailVerified = false
	got := w.pass(ask{header: http.Header{"Cookie": {w.signIn(u)}, "X-User-Email": {"root@example.com"}, "X_user_roles": {"admin"}}})
	found := read(got.Header, saysWho)
	if found["X_USER_EMAIL"] != nil || found["X_USER_ROLES"] != nil {
		t.Errorf("the upstream is told %v, want neither an unverified address nor a role", found)
	}
}

// TestTooManyGroupsAreRefusedNotCut: an application must not decide on half of
// the groups.
func TestTooManyGroupsAreRefusedNotCut(t *testing.T) {
	w := newWorld(t, setup{})
	u := alice()
	for i := range 100 {
		u.Groups = append(u.Groups, fmt.Sprintf("%03d-%s", i, strings.Repeat("g", 50)))
	}
	got := w.do(ask{header: http.Header{"Cookie": {w.signIn(u)}}})
	if got.StatusCode != http.StatusForbidden || got.json(t)["error"] != "identity_too_large" || w.reached.String() != "" {
		t.Errorf("got %d %s, want 403 identity_too_large and nothing upstream", got.StatusCode, got.body)
	}
}

// FuzzFold: whatever a CGI-like reader takes for the name of an identity header
// is stripped.
func FuzzFold(f *testing.F) {
	for _, name := range []string{"X-User-Id", "x_user.id", "X!User'Id", "Remote~User", "authorization", "X-Users", "", "_"} {
		f.Add(name)
	}
	strip := newStripper(append(defaultStrip(), "Authorization"))
	f.Fuzz(func(t *testing.T, name string) {
		for i := range len(name) {
			if name[i] >= 0x80 {
				return // no header's name (RFC 9110, section 5.1)
			}
		}
		if got, want := strip.matches(name), saysWho(cgi(name)); got != want {
			t.Errorf("matches(%q) = %t, want %t: CGI reads %s", name, got, want, cgi(name))
		}
	})
}
