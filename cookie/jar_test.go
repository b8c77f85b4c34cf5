package cookie

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func jar(t testing.TB, base string, o Options) *Jar {
	t.Helper()
	j, err := NewJar(base, o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// request returns a request that shows the cookies that a response set.
func request(cookies ...string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	if len(cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(cookies, "; "))
	}
	return r
}

// kept returns name=value of the cookies that w sets, and the names it expires.
func kept(w *httptest.ResponseRecorder) (set, expired []string) {
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			expired = append(expired, c.Name)
		} else {
			set = append(set, c.Name+"="+c.Value)
		}
	}
	return set, expired
}

func TestFullName(t *testing.T) {
	tests := []struct {
		name string
		o    Options
		want string // "" = refused
	}{
		{"https host-only is __Host-", Options{Secure: true}, "__Host-s"},
		{"https with a domain is __Secure-", Options{Secure: true, Domain: "example.com"}, "__Secure-s"},
		{"http has no prefix", Options{}, "s"},
		{"host with a domain is refused", Options{Secure: true, Domain: "example.com", Prefix: PrefixHost}, ""},
		{"host over http is refused", Options{Prefix: PrefixHost}, ""},
		{"secure over http is refused", Options{Prefix: PrefixSecure}, ""},
		{"secure can be asked for", Options{Secure: true, Prefix: PrefixSecure}, "__Secure-s"},
		{"none can be asked for", Options{Secure: true, Prefix: PrefixNone}, "s"},
		{"unknown is refused", Options{Prefix: "other"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.o.FullName("s")
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("FullName = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestAttributes(t *testing.T) {
	tests := []struct {
		name string
		o    Options
		want string
	}{
		{"secure", Options{Secure: true}, "__Host-s=v; Max-Age=60; Secure; HttpOnly; SameSite=Lax; Path=/"},
		{"http", Options{}, "s=v; Max-Age=60; HttpOnly; SameSite=Lax; Path=/"},
		{"domain, strict", Options{Secure: true, Domain: "example.com", SameSite: http.SameSiteStrictMode}, "__Secure-s=v; Max-Age=60; Secure; HttpOnly; SameSite=Strict; Domain=example.com; Path=/"},
		{"none", Options{Secure: true, SameSite: http.SameSiteNoneMode}, "__Host-s=v; Max-Age=60; Secure; HttpOnly; SameSite=None; Path=/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			if err := jar(t, "s", tt.o).Set(w, request(), "v", time.Minute); err != nil {
				t.Fatal(err)
			}
			if got := w.Header().Get("Set-Cookie"); got != tt.want {
				t.Errorf("Set-Cookie = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLongValuesAreSplitAndJoined(t *testing.T) {
	j := jar(t, "s", Options{})
	for _, size := range []int{1, 3797, 3798, 3799, 3800, 7000, 7590, 7600, 15000, 15180} {
		value := strings.Repeat("abcdefghij", size/10+1)[:size]
		w := httptest.NewRecorder()
		if err := j.Set(w, request(), value, time.Hour); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		set, _ := kept(w)
		for _, line := range w.Header()["Set-Cookie"] {
			if len(line) > 4096 {
				t.Errorf("%d bytes: a cookie of %d bytes, browsers keep 4096", size, len(line))
			}
		}
		if got := j.Values(request(set...)); !slices.Contains(got, value) {
			t.Errorf("%d bytes in %d cookies do not come back", size, len(set))
		}
		if !j.Fits(value) {
			t.Errorf("%d bytes were set and Fits says they do not fit", size)
		}
	}
}

func TestWhatDoesNotFitIsRefusedWhole(t *testing.T) {
	j := jar(t, "s", Options{})
	w := httptest.NewRecorder()
	value := strings.Repeat("a", MaxParts*partSize)
	if err := j.Set(w, request(), value, time.Hour); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Set = %v, want ErrTooLarge", err)
	}
	if got := w.Header()["Set-Cookie"]; got != nil {
		t.Errorf("a refused value set %d cookies", len(got))
	}
	if j.Fits(value) {
		t.Error("Fits says it fits")
	}
}

func TestStalePartsAreExpired(t *testing.T) {
	j := jar(t, "s", Options{})
	tests := []struct {
		name, cookie string
		size         int
		want         []string
	}{
		{"three parts shrink to two", "s_0=3.a; s_1=b; s_2=c; other=1", 5000, []string{"s_2"}},
		{"parts shrink to one cookie", "s_0=2.a; s_1=b", 10, []string{"s_0", "s_1"}},
		{"one cookie grows into parts", "s=a", 5000, []string{"s"}},
		{"names that merely begin alike stay", "s=a; s_9=x; sess=1; s_01=2", 10, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			if err := j.Set(w, request(tt.cookie), strings.Repeat("v", tt.size), time.Hour); err != nil {
				t.Fatal(err)
			}
			if _, got := kept(w); !cmp.Equal(got, tt.want) {
				t.Errorf("expired %v, want %v", got, tt.want)
			}
		})
	}
}

func TestValues(t *testing.T) {
	j := jar(t, "s", Options{})
	tests := []struct {
		name, cookie string
		want         []string
	}{
		{"none", "a=b", nil},
		{"one", "a=b; s=v; c=d", []string{"v"}},
		{"two of one name: both, in order", "s=planted; s=genuine", []string{"planted", "genuine"}},
		{"parts", "s_0=2.aa; s_1=bb", []string{"aabb"}},
		{"whole and parts", "s_0=2.aa; s_1=bb; s=v", []string{"v", "aabb"}},
		{"a missing part", "s_0=3.aa; s_1=bb", nil},
		{"a superfluous part is left out", "s_0=2.aa; s_1=bb; s_2=cc", []string{"aabb"}},
		{"parts of two sessions: every combination", "s_0=2.a; s_1=b; s_0=2.c; s_1=d", []string{"ab", "ad", "cb", "cd"}},
		{"a count that is none", "s_0=x.aa; s_1=bb", nil},
		{"a huge count", "s_0=99999999999.aa; s_1=bb", nil},
		{"a negative count", "s_0=-1.aa; s_1=bb", nil},
		{"one part is not split", "s_0=1.aa", nil},
		{"a longer name is another cookie", "sx=1; s_=2; s_4=3; S=4", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := j.Values(request(tt.cookie)); !cmp.Equal(got, tt.want) {
				t.Errorf("Values(%q) = %q, want %q", tt.cookie, got, tt.want)
			}
		})
	}
}

func TestAFloodOfCookiesIsBounded(t *testing.T) {
	j := jar(t, "s", Options{})
	flood := strings.Repeat("s=x; s_0=4.a; s_1=b; s_2=c; s_3=d; ", 500)
	if got := len(j.Values(request(flood))); got > maxCandidates {
		t.Errorf("%d values to open, want at most %d", got, maxCandidates)
	}
}

func TestPartsOfTwoSessionsDoNotMix(t *testing.T) {
	s, j := sealer(t, key(1)), jar(t, "s", Options{})
	parts := func(name string) []string {
		w := httptest.NewRecorder()
		random := make([]byte, 4000) // does not compress
		rand.Read(random)
		value := seal(t, s, "s", payload{Name: name, Bytes: random})
		if err := j.Set(w, request(), value, time.Hour); err != nil {
			t.Fatal(err)
		}
		set, _ := kept(w)
		return set
	}
	a, b := parts("alice"), parts("bob")
	if len(a) < 2 || len(b) < 2 {
		t.Fatalf("the values need parts for this test, got %d and %d", len(a), len(b))
	}
	for _, value := range j.Values(request(append([]string{a[0]}, b[1:]...)...)) {
		if err := s.Open("s", value, &payload{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("parts of two sessions opened as one: error = %v", err)
		}
	}
}

func TestClearExpiresEverything(t *testing.T) {
	w := httptest.NewRecorder()
	jar(t, "s", Options{}).Clear(w, httptest.NewRequest("GET", "/", nil))
	_, expired := kept(w)
	if want := []string{"s", "s_0", "s_1", "s_2", "s_3"}; !cmp.Equal(expired, want) {
		t.Errorf("expired %v, want %v", expired, want)
	}
}

func TestACookieOutsideOfTheDomainBelongsToItsHost(t *testing.T) {
	j := jar(t, "s", Options{Secure: true, Domain: "example.com", Outside: func(host string) bool { return host == "example.org" }})
	for host, want := range map[string]string{"app.example.com": "example.com", "example.org": ""} {
		r, w := httptest.NewRequest("GET", "https://"+host+"/", nil), httptest.NewRecorder()
		if err := j.Set(w, r, "value", time.Hour); err != nil {
			t.Fatal(err)
		}
		j.Clear(w, r)
		for _, c := range w.Result().Cookies() {
			if c.Domain != want {
				t.Errorf("on %s the domain of cookie %s is %q, want %q: %s", host, c.Name, c.Domain, want, c.Raw)
			}
		}
	}
}

func TestRemove(t *testing.T) {
	own := func(name string) bool { return name == "s" || name == "s_0" }
	tests := []struct{ name, in, want string }{
		{"only ours", "s=1", ""},
		{"first", "s=1; a=2; b=3", "a=2; b=3"},
		{"middle", "a=2; s=1; b=3", "a=2; b=3"},
		{"last", "a=2; b=3; s=1", "a=2; b=3"},
		{"all occurrences", "s=1; a=2; s=3; s_0=4", "a=2"},
		{"odd spacing and quoting of the others stay", `a="x y" ;  b=;c; s=1`, `a="x y" ;  b=;c`},
		{"a space before the equals sign does not hide it", "s =1; a=2", "a=2"},
		{"a value with our name in it stays", "a=s=1", "a=s=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{"Cookie": {tt.in}}
			Remove(h, own)
			if got := h.Get("Cookie"); got != tt.want {
				t.Errorf("Cookie = %q, want %q", got, tt.want)
			}
			if _, there := h["Cookie"]; there != (tt.want != "") {
				t.Errorf("Cookie header present = %v", there)
			}
		})
	}
}

func TestRemoveSet(t *testing.T) {
	h := http.Header{"Set-Cookie": {"s=evil; Path=/", "a=1; Path=/", " s_0 =x"}}
	RemoveSet(h, func(name string) bool { return name == "s" || name == "s_0" })
	if want := []string{"a=1; Path=/"}; !cmp.Equal(h["Set-Cookie"], want) {
		t.Errorf("Set-Cookie = %q, want %q", h["Set-Cookie"], want)
	}
}

// FuzzValues checks that whatever a browser sends, there are few values to open
// and removing our cookies leaves none behind.
func FuzzValues(f *testing.F) {
	f.Add("s=1; s_0=2.a; s_1=b")
	f.Add("s_0=4.; s_0=; s_1;;; =s; s")
	f.Fuzz(func(t *testing.T, header string) {
		j := jar(t, "s", Options{})
		r := request(header)
		if n := len(j.Values(r)); n > maxCandidates {
			t.Errorf("%d values", n)
		}
		Remove(r.Header, j.Owns)
		for name := range Names(r.Header) {
			if j.Owns(name) {
				t.Errorf("%q is still there after Remove(%q)", name, header)
			}
		}
	})
}

// An application's cookies may be those of one host, and only that host can have the
// browser forget them.
func TestEachHostRemembersWhoseTheApplicationsCookiesAre(t *testing.T) {
	ring, err := NewKeyRing([]byte("a key of 32 bytes for tests only"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGuard(ring, Options{Secure: true, Domain: "example.com"}, []Foreign{{Name: "app", Path: "/app", Domain: ".example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	if err := g.Give(rec, httptest.NewRequest("GET", "https://app.example.com/", nil), "alice"); err != nil {
		t.Fatal(err)
	}
	lines := rec.Header()["Set-Cookie"]
	if len(lines) != 2 || lines[0] != "app=; Max-Age=0; Path=/app; Domain=example.com; Secure" || !strings.HasPrefix(lines[1], "__Host-authproxy_owner=") {
		t.Errorf("Set-Cookie = %q, want the application's to go, and ours for this host alone", lines)
	}
}
