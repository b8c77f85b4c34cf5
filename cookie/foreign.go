package cookie

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
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
// made: the next one in the same browser must not get the session of the last. A
// browser says neither for which path it has a cookie nor takes one back for
// another, and an answer may come after its person has gone. So the value itself
// says whose it is, by a mark that only we can make: [Guard.Mark] on its way to the
// browser, [Guard.Unmark] on its way back. A cookie of ours remembers whose the
// others are, so that they are removed, too, when that changes. A nil Guard guards
// nothing.
type Guard struct {
	sealer   *Sealer
	jar      *Jar
	foreign  []Foreign
	secure   bool
	markKeys [][]byte // the first marks
}

const (
	// ownerCookie remembers whose the cookies of applications are.
	ownerCookie = "authproxy_owner"
	// ownerAge is how long: as long as browsers keep any cookie (RFC 6265bis,
	// section 5.5).
	ownerAge = 400 * 24 * time.Hour
)

// NewGuard returns the Guard of the cookies in foreign, with the keys of ring; nil if
// there are none.
func NewGuard(ring *KeyRing, o Options, foreign []Foreign) (*Guard, error) {
	if len(foreign) == 0 {
		return nil, nil
	}
	sealer, err := NewSealer(ring)
	if err != nil {
		return nil, err
	}
	markKeys, err := ring.Derive("cookie owner", sha256.Size)
	if err != nil {
		return nil, err
	}
	// Each host remembers for itself: the cookies of an application may be those of
	// one host, and only that host can have the browser forget them.
	o.Domain, o.Outside = "", nil
	jar, err := NewJar(ownerCookie, o)
	if err != nil {
		return nil, err
	}
	return &Guard{sealer, jar, foreign, o.Secure, markKeys}, nil
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

// mark says that the cookie called name holds value for user. No name and no id has a
// line break.
func mark(key []byte, name, value, user string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(user + "\n" + name + "\n" + value))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}

// cutQuote cuts the quote at the beginning of a cookie's value, if there is one: a mark
// stands within (RFC 6265, section 4.1.1).
func cutQuote(value string) (quote, rest string) {
	value = strings.Trim(value, " \t")
	if rest, ok := strings.CutPrefix(value, `"`); ok {
		return `"`, rest
	}
	return "", value
}

// Mark has the guarded cookies that a response's header sets be those of user, the id
// of the person whose request it answers, "" for nobody.
func (g *Guard) Mark(h http.Header, user string) {
	if g == nil {
		return
	}
	lines := h["Set-Cookie"]
	for i, line := range lines {
		pair, attributes, more := strings.Cut(line, ";")
		name, ok := pairName(pair)
		if !ok || !g.guards(name) {
			continue
		}
		_, value, _ := strings.Cut(pair, "=")
		quote, value := cutQuote(value)
		lines[i] = name + "=" + quote + mark(g.markKeys[0], name, value, user) + "." + value
		if more {
			lines[i] += ";" + attributes
		}
	}
}

// Unmark takes the guarded cookies out of a request's header, but for those that are
// user's, from which it takes the mark.
func (g *Guard) Unmark(h http.Header, user string) {
	if g == nil {
		return
	}
	edit(h, func(pair string) (string, bool) {
		name, ok := pairName(pair)
		if !ok || !g.guards(name) {
			return pair, true
		}
		before, marked, _ := strings.Cut(pair, "=")
		quote, marked := cutQuote(marked)
		given, value, ok := strings.Cut(marked, ".")
		return before + "=" + quote + value, ok && slices.ContainsFunc(g.markKeys, func(key []byte) bool {
			return hmac.Equal([]byte(given), []byte(mark(key, name, value, user)))
		})
	})
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

// Give has the browser that sent r forget the guarded cookies, and remember that
// those to come are user's; "" is nobody's, as after a sign-out. It does nothing
// where they are user's already.
func (g *Guard) Give(w http.ResponseWriter, r *http.Request, user string) error {
	if g == nil || user != "" && g.owner(r) == user {
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
