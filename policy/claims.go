package policy

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// hasClaim reports whether the claim of claims at path has one of values.
func hasClaim(claims map[string]any, path string, values []string) bool {
	return path != "" && claimHolds(claims, path, values)
}

// claimHolds follows path into v. A list on the way means each of its entries.
// As the names of claims may have dots themselves ("https://example.com/roles"),
// the longest name that is there is taken first.
func claimHolds(v any, path string, values []string) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, func(entry any) bool { return claimHolds(entry, path, values) })
	case []string:
		return path == "" && overlap(values, v)
	case map[string]any:
		name, rest := path, ""
		for name != "" {
			if below, ok := v[name]; ok {
				return claimHolds(below, rest, values)
			}
			dot := strings.LastIndexByte(name, '.')
			if dot < 0 {
				return false
			}
			name, rest = path[:dot], path[dot+1:]
		}
		return false
	}
	text, ok := scalar(v)
	return path == "" && ok && text != "" && slices.Contains(values, text)
}

// scalar returns v as a configuration file would have it. It is false for what
// is not one piece of text, a number or a truth value.
func scalar(v any) (text string, ok bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	case int:
		return strconv.Itoa(v), true
	case json.Number:
		return v.String(), true
	}
	return "", false
}
