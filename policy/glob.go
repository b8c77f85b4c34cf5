package policy

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// A Glob is a pattern for paths: "*" is any run of characters within a segment,
// "**" any number of whole segments, the rest is literal and case-sensitive.
type Glob struct {
	prefix   string   // what every match begins with, up to the first "*"
	segments []string // the pattern cut at its slashes; nil if it has no "*"
}

// ParseGlob reads a pattern: "/admin/**" matches "/admin" and all below it,
// "/*/edit" one segment in between. It fails with a remedy.
func ParseGlob(pattern string) (Glob, error) {
	g, problem := parseGlob(pattern)
	if problem != "" {
		return Glob{}, errors.New("policy: path " + problem)
	}
	return g, nil
}

// parseGlob returns the glob, or what is wrong with it.
func parseGlob(pattern string) (g Glob, problem string) {
	if problem := globProblem(pattern); problem != "" {
		return Glob{}, problem
	}
	star := strings.IndexByte(pattern, '*')
	if star < 0 {
		return Glob{prefix: pattern}, ""
	}
	g = Glob{prefix: pattern[:star], segments: strings.Split(pattern[1:], "/")}
	if strings.HasPrefix(pattern[star:], "**") {
		g.prefix = strings.TrimSuffix(g.prefix, "/") // "/a/**" matches "/a"
	}
	return g, ""
}

// globProblem returns what is wrong with pattern, with a remedy, "" if nothing.
func globProblem(pattern string) string {
	switch {
	case !strings.HasPrefix(pattern, "/"):
		return `must begin with "/"; write it like /admin/**`
	case strings.Contains(pattern, "//"):
		return `has "//", which no path has; write a single "/"`
	case strings.ContainsAny(pattern, "[]{}"):
		return `has one of []{}, which are not supported; write "*", or one rule for each path`
	case strings.Contains(pattern, "?"):
		return `has "?"; a rule sees no query, and any run of characters is "*"`
	case strings.Contains(pattern, "#"):
		return `has "#", but browsers do not send fragments; remove it`
	case strings.Contains(pattern, "%"):
		return `has "%"; write the path decoded, as rules see it`
	case strings.Contains(pattern, ";"):
		return `has ";"; remove the parameters, they are no part of what a rule compares`
	case strings.Contains(pattern, `\`):
		return `has "\"; write "/", nothing needs to be escaped`
	case !isText(pattern):
		return "has control characters or is not UTF-8; remove them"
	}
	for seg := range strings.SplitSeq(pattern, "/") {
		switch {
		case seg == "." || seg == "..":
			return `has a "." or ".." segment, which no path has; write the path that is meant`
		case strings.Contains(seg, "**") && seg != "**":
			return `has "**" beside other characters; "**" must be a whole segment, like /a/**`
		}
	}
	return ""
}

// isText reports whether s is UTF-8 without control characters.
func isText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Match reports whether g matches path, which begins with a slash. Its time is
// at most the product of the two lengths.
func (g *Glob) Match(path string) bool {
	if !strings.HasPrefix(path, g.prefix) {
		return false
	}
	if g.segments == nil {
		return len(path) == len(g.prefix)
	}
	return g.matchSegments(path)
}

// matchSegments matches segment by segment. After a mismatch only the last "**"
// takes one segment more: what an earlier one could take, the last can too, so
// that there is no exponential search.
func (g *Glob) matchSegments(rest string) bool {
	i, again := 0, ""
	afterStars := -1
	for rest != "" {
		if i < len(g.segments) && g.segments[i] == "**" {
			i++
			if i == len(g.segments) {
				return true
			}
			afterStars, again = i, rest
			continue
		}
		seg, tail := cutSegment(rest)
		if i < len(g.segments) && matchSegment(g.segments[i], seg) {
			i, rest = i+1, tail
			continue
		}
		if afterStars < 0 {
			return false
		}
		_, again = cutSegment(again)
		i, rest = afterStars, again
	}
	for i < len(g.segments) && g.segments[i] == "**" {
		i++
	}
	return i == len(g.segments)
}

// cutSegment cuts the first segment off path, which begins with a slash. The
// tail is "" or begins with a slash.
func cutSegment(path string) (seg, tail string) {
	if i := strings.IndexByte(path[1:], '/'); i >= 0 {
		return path[1 : 1+i], path[1+i:]
	}
	return path[1:], ""
}

// matchSegment matches one segment in the same manner, with "*" for "**".
func matchSegment(pattern, seg string) bool {
	p, s := 0, 0
	afterStar, again := -1, 0
	for s < len(seg) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			p++
			afterStar, again = p, s
		case p < len(pattern) && pattern[p] == seg[s]:
			p, s = p+1, s+1
		case afterStar < 0:
			return false
		default:
			again++
			p, s = afterStar, again
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
