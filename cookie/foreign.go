package cookie

import (
	"net/http"
	"strings"
	"time"
)

// A Foreign is a cookie of an application, which holds that application's own
// session of the person who is signed in here.
type Foreign struct {
	Name string
	// Path and Domain are those that the application sets it for; "" are "/" and
	// the host alone.
	Path, Domain string
}

// A Guard keeps the cookies of applications with the person for whom they were
// made: the next one in the same browser must not get the session of the last.
// A cookie of ours remembers whose they are. A nil Guard guards nothing.
type Guard struct {
	sealer  *Sealer
	jar     *Jar
	foreign []Foreign
	secure  bool
}

const (
	// ownerCookie remembers whose the cookies of applications are.
	ownerCookie = "authproxy_owner"
	// ownerAge is how long: as long as browsers keep any cookie (RFC 6265bis,
	// section 5.5).
	ownerAge = 400 * 24 * time.Hour
)

// NewGuard returns the Guard of the cookies in foreign, nil if there are none.
func NewGuard(sealer *Sealer, o Options, foreign []Foreign) (*Guard, error) {
	if len(foreign) == 0 {
		return nil, nil
	}
	// Each host remembers for itself: the cookies of an application may be those of
	// one host, and only that host can have the browser forget them.
	o.Domain, o.Outside = "", nil
	jar, err := NewJar(ownerCookie, o)
	if err != nil {
		return nil, err
	}
	return &Guard{sealer, jar, foreign, o.Secure}, nil
}

// Owns says whether name is that of the cookie in which g remembers whose the
// others are.
func (g *Guard) Owns(name string) bool { return g != nil && g.jar.Owns(name) }

// guards says whether name is that of a guarded cookie.
func (g *Guard) guards(name string) bool {
	for _, f := range g.foreign {
		if f.Name == name {
			return true
		}
	}
	return false
}

// Changed says whether the guarded cookies that r shows, or that are to come, are
// somebody else's than user's, the id of a person, "" for nobody. Those of nobody
// are of visits before the first sign-in.
func (g *Guard) Changed(r *http.Request, user string) bool {
	if g == nil || g.owner(r) == user {
		return false
	}
	return user != "" || g.shows(r)
}

func (g *Guard) shows(r *http.Request) bool {
	for name := range Names(r.Header) {
		if g.guards(name) {
			return true
		}
	}
	return false
}

// owner returns whose the guarded cookies of r are.
func (g *Guard) owner(r *http.Request) string {
	for _, value := range g.jar.Values(r) {
		var owner string
		if g.sealer.Open(g.jar.Name(), value, &owner) == nil {
			return owner
		}
	}
	return ""
}

// Remove takes the guarded cookies out of a request's header.
func (g *Guard) Remove(h http.Header) {
	if g != nil {
		Remove(h, g.guards)
	}
}

// Give has the browser that sent r forget the guarded cookies, and remember that
// those to come are user's; "" is nobody's, as after a sign-out. It does nothing
// where they are user's already.
func (g *Guard) Give(w http.ResponseWriter, r *http.Request, user string) error {
	if g == nil || user != "" && !g.Changed(r, user) {
		return nil
	}
	for _, f := range g.foreign {
		w.Header().Add("Set-Cookie", g.expired(f))
	}
	if user == "" {
		g.jar.expire(w, r, g.jar.name)
		return nil
	}
	value, err := g.sealer.Seal(g.jar.Name(), user)
	if err != nil {
		return err
	}
	return g.jar.Set(w, r, value, ownerAge)
}

// expired is the Set-Cookie line that removes f. Browsers take one for a name
// with a prefix only if it keeps the prefix's promise.
func (g *Guard) expired(f Foreign) string {
	path := f.Path
	if path == "" {
		path = "/"
	}
	line := f.Name + "=; Max-Age=0; Path=" + path
	if f.Domain != "" {
		line += "; Domain=" + strings.TrimPrefix(f.Domain, ".")
	}
	if g.secure {
		line += "; Secure"
	}
	return line
}
