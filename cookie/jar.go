package cookie

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ErrTooLarge is returned by [Jar.Set] for a value that does not fit the
// cookies a browser will keep for us.
var ErrTooLarge = errors.New("cookie: value too large")

// Prefix is how a cookie's name tells the browser what to insist on (RFC
// 6265bis, section 4.1.3).
type Prefix string

// The prefixes. PrefixAuto, the zero value's meaning too, is the strictest one
// that the other options permit.
const (
	PrefixAuto   Prefix = "auto"
	PrefixHost   Prefix = "host"   // __Host-: secure, path /, no domain
	PrefixSecure Prefix = "secure" // __Secure-: secure
	PrefixNone   Prefix = "none"
)

// Options are what the cookies of one deployment have in common.
type Options struct {
	// Domain is the Domain attribute; empty makes a cookie for this host only.
	Domain string
	// Outside says whether host, that of a request, does not lie in Domain: there
	// the cookie is for that host alone, because browsers refuse a cookie for a
	// domain that the host is not in (RFC 6265, section 5.3). Nil means that no
	// host does.
	Outside func(host string) bool
	// Secure is whether browsers reach us over https.
	Secure bool
	// SameSite is the SameSite attribute; zero means Lax.
	SameSite http.SameSite
	// Prefix chooses the name's prefix; zero means auto.
	Prefix Prefix
}

// FullName returns base with the prefix that o asks for. It fails if the prefix
// promises what the other options do not keep, because browsers drop such a
// cookie without a word.
func (o Options) FullName(base string) (string, error) {
	switch o.Prefix {
	case PrefixHost:
		if !o.Secure || o.Domain != "" {
			return "", errors.New("cookie: the prefix __Host- needs https and no domain")
		}
		return "__Host-" + base, nil
	case PrefixSecure:
		if !o.Secure {
			return "", errors.New("cookie: the prefix __Secure- needs https")
		}
		return "__Secure-" + base, nil
	case PrefixNone:
		return base, nil
	case PrefixAuto, "":
	default:
		return "", fmt.Errorf("cookie: unknown prefix %q", string(o.Prefix))
	}
	switch {
	case !o.Secure:
		return base, nil
	case o.Domain != "":
		return "__Secure-" + base, nil
	default:
		return "__Host-" + base, nil
	}
}

const (
	// MaxParts is how many cookies one value may be split into.
	MaxParts = 4
	// partSize is what a cookie's name and value may have together, in bytes.
	// Browsers keep 4,096 with the attributes.
	partSize = 3800
	// maxCandidates bounds the values that one request can make us open.
	maxCandidates = 8
)

// A Jar writes and reads one value as one cookie, or as several where it is
// too long for one.
type Jar struct {
	name     string
	parts    [MaxParts]string
	domain   string
	outside  func(host string) bool
	secure   bool
	sameSite http.SameSite
}

// NewJar returns the Jar of the cookie base, whose full name follows from o.
func NewJar(base string, o Options) (*Jar, error) {
	name, err := o.FullName(base)
	if err != nil {
		return nil, err
	}
	j := &Jar{name: name, domain: o.Domain, outside: o.Outside, secure: o.Secure, sameSite: o.SameSite}
	if j.sameSite == 0 {
		j.sameSite = http.SameSiteLaxMode
	}
	for i := range j.parts {
		j.parts[i] = name + "_" + strconv.Itoa(i)
	}
	return j, nil
}

// Name returns the cookie's full name, for which its value is sealed.
func (j *Jar) Name() string { return j.name }

// Owns says whether name is one of this Jar's cookies.
func (j *Jar) Owns(name string) bool {
	if !strings.HasPrefix(name, j.name) {
		return false
	}
	if name == j.name {
		return true
	}
	for _, part := range j.parts {
		if name == part {
			return true
		}
	}
	return false
}

// Values returns what r may hold as this Jar's value, most likely first, at
// most eight. There can be several: a browser sends cookies of one name that
// were set for different domains or paths side by side, and an attacker on a
// neighbouring host can add one (RFC 6265, section 8.6). Which of them is
// genuine shows when they are opened.
func (j *Jar) Values(r *http.Request) []string {
	var whole []string
	var parts [MaxParts][]string
	for _, line := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			name, value, ok := strings.Cut(strings.TrimLeft(pair, " \t"), "=")
			if !ok || !strings.HasPrefix(name, j.name) {
				continue
			}
			value = strings.TrimRight(value, " \t")
			if name == j.name {
				whole = append(whole, value)
				continue
			}
			for i, part := range j.parts {
				if name == part && len(parts[i]) < maxCandidates {
					parts[i] = append(parts[i], value)
				}
			}
		}
	}
	if len(whole) > maxCandidates {
		whole = whole[:maxCandidates]
	}
	if len(parts[0]) == 0 {
		return whole
	}
	return join(whole, parts)
}

// join appends the values that parts can be put together to. The first part
// says how many there are; the seal over the whole proves it.
func join(values []string, parts [MaxParts][]string) []string {
	var build func(prefix string, i, n int)
	build = func(prefix string, i, n int) {
		if len(values) >= maxCandidates {
			return
		}
		if i == n {
			values = append(values, prefix)
			return
		}
		for _, piece := range parts[i] {
			build(prefix+piece, i+1, n)
		}
	}
	for _, first := range parts[0] {
		count, piece, ok := strings.Cut(first, ".")
		n, err := strconv.Atoi(count)
		if !ok || err != nil || n < 2 || n > MaxParts {
			continue
		}
		build(piece, 1, n)
	}
	return values
}

// Set writes value to the browser that sent r, to be kept for maxAge (rounded
// to seconds; zero or less makes a cookie that ends with the browser's
// session), and expires the parts of an earlier value that r shows and that
// this one does not use. It fails with [ErrTooLarge] and writes nothing if
// value needs more than [MaxParts] cookies.
func (j *Jar) Set(w http.ResponseWriter, r *http.Request, value string, maxAge time.Duration) error {
	used := map[string]bool{}
	if len(j.name)+1+len(value) <= partSize {
		j.write(w, r, j.name, value, maxAge)
		used[j.name] = true
	} else {
		pieces, err := j.split(value)
		if err != nil {
			return err
		}
		for i, piece := range pieces {
			j.write(w, r, j.parts[i], piece, maxAge)
			used[j.parts[i]] = true
		}
	}
	for _, name := range j.present(r) {
		if !used[name] {
			j.expire(w, r, name)
		}
	}
	return nil
}

// Fits says whether value can be set at all.
func (j *Jar) Fits(value string) bool {
	if len(j.name)+1+len(value) <= partSize {
		return true
	}
	_, err := j.split(value)
	return err == nil
}

func (j *Jar) split(value string) ([]string, error) {
	room := partSize - len(j.parts[0]) - 1
	framed := len("0.") + len(value)
	n := (framed + room - 1) / room
	if n > MaxParts {
		return nil, fmt.Errorf("%w: %d bytes need %d cookies, and %d is the most", ErrTooLarge, len(value), n, MaxParts)
	}
	rest := strconv.Itoa(n) + "." + value
	pieces := make([]string, 0, n)
	for len(rest) > room {
		pieces = append(pieces, rest[:room])
		rest = rest[room:]
	}
	return append(pieces, rest), nil
}

// Clear expires the Jar's cookie and all its parts, also those that r does not
// show: sign-out must not depend on what the request happened to carry.
func (j *Jar) Clear(w http.ResponseWriter, r *http.Request) {
	j.expire(w, r, j.name)
	for _, part := range j.parts {
		j.expire(w, r, part)
	}
}

// present returns the names of the Jar's cookies in r, each once.
func (j *Jar) present(r *http.Request) []string {
	seen := map[string]bool{}
	var names []string
	for name := range Names(r.Header) {
		if j.Owns(name) && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

func (j *Jar) expire(w http.ResponseWriter, r *http.Request, name string) {
	w.Header().Add("Set-Cookie", j.attributes(r, name+"=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"))
}

func (j *Jar) write(w http.ResponseWriter, r *http.Request, name, value string, maxAge time.Duration) {
	pair := name + "=" + value
	if maxAge > 0 {
		pair += "; Max-Age=" + strconv.FormatInt(int64(maxAge/time.Second), 10)
	}
	w.Header().Add("Set-Cookie", j.attributes(r, pair))
}

// attributes puts what protects the cookie first and Path last: some ingresses
// join several Set-Cookie headers with commas, which spoils the last attribute
// of each.
func (j *Jar) attributes(r *http.Request, pair string) string {
	var b strings.Builder
	b.WriteString(pair)
	if j.secure {
		b.WriteString("; Secure")
	}
	b.WriteString("; HttpOnly")
	switch j.sameSite {
	case http.SameSiteStrictMode:
		b.WriteString("; SameSite=Strict")
	case http.SameSiteNoneMode:
		b.WriteString("; SameSite=None")
	default:
		b.WriteString("; SameSite=Lax")
	}
	if j.domain != "" && (j.outside == nil || !j.outside(r.Host)) {
		b.WriteString("; Domain=")
		b.WriteString(j.domain)
	}
	b.WriteString("; Path=/")
	return b.String()
}
