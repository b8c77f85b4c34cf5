package config

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// flaw says why a text is not a value of its setting. Nil means that it is.
type flaw struct {
	message, remedy string
}

// setText stores text in v, the place of the setting at path: a scalar, or a
// list or mapping with commas.
func (l *loader) setText(path string, f *field, v reflect.Value, text string, at origin) {
	l.origins[path] = at
	switch f.kind {
	case kindList:
		l.setListText(path, f, v, text, at)
	case kindDict:
		l.setDictText(path, f, v, text, at)
	default:
		if flaw := setScalar(f, v, text); flaw != nil {
			l.problem(path, at, flaw.message, flaw.remedy)
		}
	}
}

// setListText stores a list that is written a,b,c.
func (l *loader) setListText(path string, f *field, v reflect.Value, text string, at origin) {
	if strings.TrimSpace(text) == "" {
		l.setLen(path, f, v, 0, at)
		return
	}
	parts := strings.Split(text, ",")
	l.setLen(path, f, v, len(parts), at)
	for i, part := range parts {
		l.setElem(fmt.Sprintf("%s[%d]", path, i), f.elem, v.Index(i), strings.TrimSpace(part), at)
	}
}

// setElem stores one entry of a list, which is never empty.
func (l *loader) setElem(path string, f *field, v reflect.Value, text string, at origin) {
	if text == "" {
		l.problem(path, at, "is empty", "remove the entry, or give it a value")
		return
	}
	l.setText(path, f, v, text, at)
}

// setLen makes v a list of n entries.
func (l *loader) setLen(path string, f *field, v reflect.Value, n int, at origin) {
	if n == 0 && f.nonempty {
		l.problem(path, at, "is an empty list", "remove the setting, or give it an entry")
	}
	v.Set(reflect.MakeSlice(f.typ, n, n))
}

// setDictText stores a mapping that is written name=value,name=value.
func (l *loader) setDictText(path string, f *field, v reflect.Value, text string, at origin) {
	v.Set(reflect.MakeMap(f.typ))
	if strings.TrimSpace(text) == "" {
		return
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			l.problem(path, at, "is not a list of pairs", "write name=value,name=value")
			return
		}
		if v.MapIndex(reflect.ValueOf(name)).IsValid() {
			l.problem(path, at, quote(name)+" is given twice", "remove one of the two")
			return
		}
		elem := reflect.New(f.elem.typ).Elem()
		l.setText(path+"."+name, f.elem, elem, strings.TrimSpace(value), at)
		v.SetMapIndex(reflect.ValueOf(name), elem)
	}
}

// setScalar stores text in v as f's type.
func setScalar(f *field, v reflect.Value, text string) *flaw {
	if f.enum != nil && !slices.Contains(f.enum, text) {
		return enumFlaw(f, text)
	}
	switch p := v.Addr().Interface().(type) {
	case *string:
		return setString(p, f, text)
	case *bool:
		if text != "true" && text != "false" {
			return &flaw{show(f, text) + " is not true or false", "write true or false"}
		}
		*p = text == "true"
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return &flaw{show(f, text) + " is not a whole number", "write digits only, such as 1000"}
		}
		*p = n
	case *time.Duration:
		return setDuration(p, f, text)
	case **url.URL:
		return setURL(p, f, text)
	case *netip.Prefix:
		return setPrefix(p, f, text)
	case *[]byte:
		return setKey(p, text)
	}
	return nil
}

// enumFlaw says that text is none of f's values, and which one is meant.
func enumFlaw(f *field, text string) *flaw {
	if near := nearest(text, f.enum); near != "" {
		return &flaw{show(f, text) + " is not one of its values", fmt.Sprintf("did you mean %s? Use one of: %s", near, strings.Join(f.enum, ", "))}
	}
	if len(f.enum) == 1 {
		return &flaw{show(f, text) + " is not supported in this version", "the only value is " + f.enum[0]}
	}
	return &flaw{show(f, text) + " is not one of its values", "use one of: " + strings.Join(f.enum, ", ")}
}

// setString stores text. Control characters have no place in any setting, and
// would end up in headers and logs.
func setString(p *string, f *field, text string) *flaw {
	if strings.ContainsFunc(text, isControl) {
		return &flaw{"holds a line break or another control character", "write it on one line"}
	}
	*p = text
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

var daysFirst = regexp.MustCompile(`^([0-9]{1,6})d(.*)$`)

// setDuration stores a duration in Go's syntax, with days allowed in front.
func setDuration(p *time.Duration, f *field, text string) *flaw {
	bad := &flaw{show(f, text) + " is not a duration", "write a number with a unit, such as 30s, 15m, 24h or 7d"}
	var days time.Duration
	rest := text
	if m := daysFirst.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 100_000 { // beyond it, nanoseconds overflow an int64
			return bad
		}
		days, rest = time.Duration(n)*24*time.Hour, m[2]
	}
	d := time.Duration(0)
	if rest != "" || text == "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil {
			return bad
		}
	}
	sum := days + d
	if d < 0 || sum < d {
		return &flaw{show(f, text) + " is negative or too long", "write a duration such as 24h"}
	}
	*p = sum
	return nil
}

// setURL stores an absolute URL. What it must hold beside is judged by the
// checks, because it differs.
func setURL(p **url.URL, f *field, text string) *flaw {
	u, err := url.Parse(text)
	if err != nil || text == "" || strings.ContainsAny(text, " \\") {
		return &flaw{show(f, text) + " is not a URL", "write an address such as " + f.example}
	}
	*p = u
	return nil
}

// setPrefix stores a network; an address alone is a network of one.
func setPrefix(p *netip.Prefix, f *field, text string) *flaw {
	prefix, err := netip.ParsePrefix(text)
	if addr, e := netip.ParseAddr(text); e == nil && addr.Zone() == "" {
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil {
		return &flaw{show(f, text) + " is not an address or a network", "write an IP address such as 192.0.2.7, or a network such as 10.0.0.0/8"}
	}
	// A peer's address is compared unmapped, so ::ffff:10.0.0.0/104 would never
	// match as it stands.
	if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	*p = prefix.Masked()
	return nil
}

// keySize is the length of a cookie key, in bytes.
const keySize = 32

// keyRemedy is part of every message about a key.
const keyRemedy = "make one with: authproxy keys new"

// setKey stores a key written in base64, standard or for URLs.
func setKey(p *[]byte, text string) *flaw {
	std := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(text), "=")
	key, err := base64.RawStdEncoding.Strict().DecodeString(std)
	switch {
	case err != nil || strings.ContainsAny(std, "\r\n"): // the decoder skips line breaks
		return &flaw{"is not base64", keyRemedy}
	case len(key) != keySize:
		return &flaw{fmt.Sprintf("has %d bytes, but must have %d", len(key), keySize), keyRemedy}
	case !slices.ContainsFunc(key, func(b byte) bool { return b != key[0] }):
		return &flaw{"is one byte over and over, which anybody can guess", keyRemedy}
	}
	*p = key
	return nil
}
