package proxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOurCookiesDoNotReachTheUpstream(t *testing.T) {
	const name = "__Host-authproxy_session"
	tests := []struct{ name, sent, want string }{
		{"the session's", name + "=x", ""},
		{"its parts", name + "_0=x; " + name + "_1=y; " + name + "_2=z; " + name + "_3=z", ""},
		{"a flow's", "__Host-authproxy_flow_abc=x; authproxy_flow_d=y", ""},
		{"twice, among the application's", "a=1; " + name + "=x; b=2; " + name + "=y; c=3", "a=1; b=2; c=3"},
		{"the application's are kept byte for byte", `a="q;uo=te"; b = 2;c=3; d; =e; f=ä; A=%20`, `a="q;uo=te"; b = 2;c=3; d; =e; f=ä; A=%20`},
		{"names that only begin like ours", name + "x=1; " + name + "_4=1; x" + name + "=1", name + "x=1; " + name + "_4=1; x" + name + "=1"},
		{"without a space", "a=1;" + name + "=x;b=2", "a=1;b=2"},
	}
	w := newWorld(t, setup{rules: anyone()})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{TB: t, front: w.front}
			got := w.pass(ask{header: http.Header{"Cookie": {tt.sent}}}).Header["Cookie"]
			if strings.Join(got, "\n") != tt.want {
				t.Errorf("Cookie = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAnUpstreamCannotSetOurCookies(t *testing.T) {
	kept := []string{"app=1; Path=/", "__Host-authproxy_sessions=1", "nameless"}
	w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Set-Cookie"] = append([]string{
			"__Host-authproxy_session=planted; Path=/; Secure", " __Host-authproxy_session =x", "__Host-authproxy_session_0=x",
			"__Host-authproxy_flow_1=x", "authproxy_flow_2=x; Max-Age=0",
		}, kept...)
	})})
	if diff := cmp.Diff(kept, w.do(ask{}).Header["Set-Cookie"]); diff != "" {
		t.Errorf("Set-Cookie (-want +got):\n%s", diff)
	}
}

// sets says whether a session cookie of ours is set by h.
func sets(h http.Header) bool {
	return strings.Contains(strings.Join(h["Set-Cookie"], "\n"), "__Host-authproxy_session=")
}

// TestActivity: what counts as use of a session slides it, and the answer brings
// the renewed cookie.
func TestActivity(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name, target string
		after        time.Duration
		header       http.Header
		status       int
		want         bool
	}{
		{"an allowed request after update_age slides", "/", day, nil, 200, true},
		{"a public page is activity, too", "/public/a", day, nil, 200, true},
		{"an allowed request before update_age does not", "/", day - time.Second, nil, 200, false},
		{"a denied one does not", "/admin/a", day, nil, 403, false},
		{"a path that is refused does not", "/a//b", day, nil, 400, false},
		{"a path of ours does not", "/auth/session", day, nil, 404, false},
		{"a prefetch does not", "/", day, http.Header{"Sec-Purpose": {"prefetch;prerender"}}, 200, false},
		{"an old browser's prefetch does not", "/", day, http.Header{"Purpose": {"prefetch"}}, 200, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, setup{rules: adminsBelowAdmin()})
			header := with(tt.header, "Cookie", w.signIn(bob()))
			w.clock.advance(tt.after)
			got := w.do(ask{target: tt.target, header: header})
			if got.StatusCode != tt.status || sets(got.Header) != tt.want {
				t.Errorf("status = %d, renewed = %t; want %d, %t", got.StatusCode, sets(got.Header), tt.status, tt.want)
			}
			w.clock.advance(7*24*time.Hour - tt.after) // the window of the sign-in ends now
			status := map[bool]int{true: 200, false: 401}[tt.want]
			if got := w.do(ask{header: header}); got.StatusCode != status {
				t.Errorf("at the end of the first window: status = %d, want %d", got.StatusCode, status)
			}
		})
	}
}

// TestARenewedSessionGoesOutWithTheAnswer whatever the upstream does before or
// instead.
func TestARenewedSessionGoesOutWithTheAnswer(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"plain": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Set-Cookie", "app=1") },
		"103 before it": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusNoContent)
		},
		"no answer": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for name, h := range answers {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{upstream: h})
			cookies := w.signIn(alice())
			w.clock.advance(25 * time.Hour)
			if got := w.do(ask{header: http.Header{"Cookie": {cookies}}}); !sets(got.Header) {
				t.Errorf("Set-Cookie = %q with status %d, want the renewed session among them", got.Header["Set-Cookie"], got.StatusCode)
			}
		})
	}
}

func TestOnePersonsAnswerIsNotForOthers(t *testing.T) {
	const private = "private, no-store"
	tests := []struct {
		name, contentType, control string
		signedIn, renewed          bool
		want                       string
	}{
		{"a signed-in person's page", "text/html; charset=utf-8", "", true, false, private},
		{"in any case", "Text/HTML", "", true, false, private},
		{"an anonymous one", "text/html", "", false, false, ""},
		{"no page", "application/json", "", true, false, ""},
		{"text/htmlx is no page", "text/htmlx", "", true, false, ""},
		{"the application says", "text/html", "max-age=60", true, false, "max-age=60"},
		{"a cacheable answer with a renewed session", "text/css", "public, max-age=60", true, true, private},
		{"any answer with a renewed session", "image/png", "", true, true, private},
		{"a private one with a renewed session", "text/css", "Private, max-age=60", true, true, "Private, max-age=60"},
		{"one that is not stored", "text/css", "no-store", true, true, "no-store"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, setup{rules: anyone(), upstream: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.contentType)
				if tt.control != "" {
					w.Header().Set("Cache-Control", tt.control)
				}
			})})
			h := http.Header{}
			if tt.signedIn {
				h.Set("Cookie", w.signIn(alice()))
			}
			if tt.renewed {
				w.clock.advance(25 * time.Hour)
			}
			got := w.do(ask{header: h})
			if control := got.Header.Get("Cache-Control"); control != tt.want || sets(got.Header) != tt.renewed {
				t.Errorf("Cache-Control = %q, renewed = %t; want %q, %t", control, sets(got.Header), tt.want, tt.renewed)
			}
		})
	}
}

// An answer that is under way when somebody signs out must not bring the cookie
// of the session back: another replica would take it for a live one.
func TestSignOutDuringAnAnswer(t *testing.T) {
	arrived, goOn := make(chan bool), make(chan bool)
	w := newWorld(t, setup{upstream: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- true
		<-goOn
	})})
	cookies := http.Header{"Cookie": {w.signIn(alice())}}
	w.clock.advance(25 * time.Hour) // the session slides with this request
	answers := make(chan answer)
	go func() { answers <- w.do(ask{header: cookies}) }()
	<-arrived
	r := httptest.NewRequest("POST", "/", nil)
	r.Header = cookies
	if ended, err := w.sessions.End(httptest.NewRecorder(), r); ended == nil || err != nil {
		t.Fatal("there was no session to end")
	}
	close(goOn)
	if got := <-answers; sets(got.Header) {
		t.Errorf("Set-Cookie = %q after sign-out, want none of ours", got.Header["Set-Cookie"])
	}
}
