package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Problem is one thing that is wrong with the configuration. The error of
// [Load] joins all of them; reach one with errors.As, or all by unwrapping.
type Problem struct {
	// Setting is the name of the setting, such as session.max_age; "" when the
	// problem belongs to none.
	Setting string

	// File says where the setting was made: a path, the name of an environment
	// variable, or a flag. It is "" for a setting that is missing.
	File string

	// Line and Col count from one; they are 0 outside of files.
	Line, Col int

	Message string // what is wrong
	Remedy  string // what to do about it
}

// Error returns the problem on one line: place, setting, message, remedy.
func (p Problem) Error() string {
	var b strings.Builder
	switch {
	case p.Col > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Col)
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", p.File, p.Line)
	case p.File != "":
		fmt.Fprintf(&b, "%s: ", p.File)
	}
	if p.Setting != "" {
		fmt.Fprintf(&b, "%s: ", p.Setting)
	}
	b.WriteString(p.Message)
	if p.Remedy != "" {
		fmt.Fprintf(&b, "; %s", p.Remedy)
	}
	return b.String()
}

// A Warning is about something that is allowed but probably not meant.
type Warning struct {
	Setting string // the setting, variable or flag
	Message string
	Remedy  string
}

// String returns the warning on one line.
func (w Warning) String() string {
	return Problem{Setting: w.Setting, Message: w.Message, Remedy: w.Remedy}.Error()
}

// origin is the place where a setting was made.
type origin struct {
	file      string
	line, col int
}

// problem records what is wrong with the setting at path. Checks that depend on
// this setting are silent from now on: see [loader.ok].
func (l *loader) problem(path string, at origin, message, remedy string) {
	l.problems = append(l.problems, Problem{
		Setting: path, File: at.file, Line: at.line, Col: at.col,
		Message: message, Remedy: remedy,
	})
	l.spoil(path)
}

// spoil marks the setting at path as not to be judged any further.
func (l *loader) spoil(path string) {
	l.bad[path] = true
	for p := path; p != ""; p = parent(p) {
		l.tainted[p] = true
	}
}

// ok reports whether path, everything above it and everything below it is
// without a problem, so that a check of it says something new.
func (l *loader) ok(paths ...string) bool {
	for _, path := range paths {
		if l.tainted[path] {
			return false
		}
		for p := path; p != ""; p = parent(p) {
			if l.bad[p] {
				return false
			}
		}
	}
	return true
}

// fail records a problem found by a check, unless the setting has one already.
func (l *loader) fail(path, message, remedy string) {
	if l.ok(path) {
		l.problem(path, l.originOf(path), message, remedy)
	}
}

// originOf returns where path was set, or else the nearest thing above it.
func (l *loader) originOf(path string) origin {
	for p := path; p != ""; p = parent(p) {
		if at, ok := l.origins[p]; ok {
			return at
		}
	}
	return origin{}
}

// parent returns the path above path: "a.b" for "a.b.c" and for "a.b[0]".
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// err joins all problems: first the ones with a line, in the order of the file,
// then the others in the order in which they were found.
func (l *loader) err() error {
	slices.SortStableFunc(l.problems, func(a, b Problem) int {
		switch {
		case a.Line == 0 && b.Line == 0:
			return 0
		case a.Line == 0 || b.Line == 0:
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	var errs []error
	for _, p := range l.problems {
		p.Setting = l.displayName(p.Setting)
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

var providerPath = regexp.MustCompile(`^providers\[(\d+)\]`)

// displayName writes providers[0].issuer as providers.corp.issuer, the name it
// has in the environment and in flags, where it is clear which one is meant.
func (l *loader) displayName(path string) string {
	m := providerPath.FindStringSubmatch(path)
	if m == nil {
		return path
	}
	i, err := strconv.Atoi(m[1])
	if err != nil || i >= len(l.cfg.Providers) || !providerID.MatchString(l.cfg.Providers[i].ID) {
		return path
	}
	for j, p := range l.cfg.Providers {
		if j != i && p.ID == l.cfg.Providers[i].ID {
			return path
		}
	}
	return "providers." + l.cfg.Providers[i].ID + path[len(m[0]):]
}

// maxShown is how much of a name or value a message repeats, in bytes.
const maxShown = 64

// show returns text in quotes for a message. What may hold a password is not
// repeated: a secret, and an address with something before an "@".
func show(f *field, text string) string {
	if f.secret || (f.kind == kindURL || strings.Contains(text, "://")) && strings.Contains(text, "@") {
		return "the value"
	}
	return quote(text)
}

// quote returns text in quotes, cut to a length that fits a message.
func quote(text string) string {
	if len(text) > maxShown {
		text = text[:maxShown] + "…"
	}
	return strconv.Quote(text)
}

// nearest returns the candidate that is most like name, or "" when none is.
func nearest(name string, candidates []string) string {
	if len(name) > maxShown {
		return ""
	}
	best, least := "", max(1, min(len(name)/3, 4))+1
	for _, c := range candidates {
		if d := distance(fold(name), fold(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// fold makes spellings alike that people mix up: case, dashes, dots.
func fold(name string) string {
	return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(name))
}

// distance returns how many bytes must be inserted, deleted or replaced to turn
// a into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
