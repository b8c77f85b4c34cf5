package sqlstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// layout is a time as SQLite has it: it sorts with what datetime('now')
// returns, and with other times of this form.
const layout = "2006-01-02 15:04:05.000"

// never stands for "no end" in columns that must have one, so that plain SQL
// can compare them.
func never() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC) }

// orNever returns t, or the far future for the zero time.
func orNever(t time.Time) time.Time {
	if t.IsZero() {
		return never()
	}
	return t
}

// A stamp reads a time that either database returns: the zero time for NULL, for
// never and for PostgreSQL's infinity, which people write where they mean that.
type stamp struct{ to *time.Time }

// Scan implements [database/sql.Scanner].
func (s stamp) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*s.to = time.Time{}
		return nil
	case time.Time:
		*s.to = v.UTC()
	case string:
		t, err := parseTime(v)
		if err != nil {
			return err
		}
		*s.to = t
	default:
		return fmt.Errorf("a time is a %T", value)
	}
	if !s.to.Before(never()) {
		*s.to = time.Time{}
	}
	return nil
}

// An endStamp reads when a session ends: never for no time, because there it is one
// that sessions are compared with.
type endStamp struct{ to *time.Time }

// Scan implements [database/sql.Scanner].
func (e endStamp) Scan(value any) error {
	err := stamp(e).Scan(value)
	*e.to = orNever(*e.to)
	return err
}

// parseTime reads the forms in which people write a time in SQLite: ours, which
// is that of datetime('now') too, and RFC 3339; and what pgx makes of the two
// times of PostgreSQL that are none (Date/Time Types, "Special Values").
func parseTime(text string) (time.Time, error) {
	switch text {
	case "infinity":
		return never(), nil
	case "-infinity":
		return time.Unix(0, 0).UTC(), nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", time.RFC3339, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time; write it as 2006-01-02 15:04:05", text)
}

// A text reads a text, "" for NULL.
type text struct{ to *string }

// Scan implements [database/sql.Scanner].
func (s text) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*s.to = ""
	case string:
		*s.to = v
	case []byte:
		*s.to = string(v)
	default:
		return fmt.Errorf("a text is a %T", value)
	}
	return nil
}

// orNull returns s as a parameter, NULL for "". Neither PostgreSQL's text nor
// its jsonb can hold NUL, and a text in it is UTF-8.
func orNull(s string) any {
	if s = clean(s); s == "" {
		return nil
	}
	return s
}

func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}

// isID reports whether s is a UUID as we write them. What is not names nothing
// in a store, and PostgreSQL would call it an error.
func isID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}

// onlyIDs returns those of ids that can name something.
func onlyIDs(ids []string) []string {
	only := make([]string, 0, len(ids))
	for _, id := range ids {
		if isID(id) {
			only = append(only, id)
		}
	}
	return only
}

// encodeList returns a list of texts as JSON, never null.
func encodeList(list []string) string {
	cleaned := make([]string, len(list))
	for i, s := range list {
		cleaned[i] = clean(s)
	}
	b, _ := json.Marshal(cleaned) // strings cannot fail
	return string(b)
}

// decodeList returns nil for an empty list.
func decodeList(text string) ([]string, error) {
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("a list of texts in JSON: %w", err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	return list, nil
}

// encodeClaims returns claims as JSON in which a float64 always has a point, so
// that [decodeClaims] returns the types that were given.
func encodeClaims(claims map[string]any) (string, error) {
	if len(claims) == 0 {
		return "{}", nil
	}
	b, err := json.Marshal(pointed(claims))
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	return string(b), nil
}

// pointed returns v with every float64 as a number with a point, and every text
// without what a database refuses.
func pointed(v any) any {
	switch v := v.(type) {
	case float64:
		n := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(n, ".") {
			n += ".0"
		}
		return json.Number(n)
	case string:
		return clean(v)
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = clean(s)
		}
		return list
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = pointed(e)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[clean(k)] = pointed(e)
		}
		return m
	default:
		return v
	}
}

// decodeClaims returns nil for no claims.
func decodeClaims(text string) (map[string]any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var claims map[string]any
	if err := d.Decode(&claims); err != nil {
		return nil, fmt.Errorf("claims in JSON: %w", err)
	}
	if len(claims) == 0 {
		return nil, nil
	}
	for k, v := range claims {
		claims[k] = unpointed(v)
	}
	return claims, nil
}

// unpointed undoes [pointed]: a number without a point is an int64.
func unpointed(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // out of range is infinite, which no claim is
		return f
	case []any:
		for i, e := range v {
			v[i] = unpointed(e)
		}
		return v
	case map[string]any:
		for k, e := range v {
			v[k] = unpointed(e)
		}
		return v
	default:
		return v
	}
}

// decodeData returns what the application keeps, nil for nothing.
func decodeData(text string) json.RawMessage {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil || b.String() == "{}" {
		return nil
	}
	return b.Bytes()
}

// encodeData returns the application's data as a column has it.
func encodeData(data json.RawMessage) string {
	if len(data) == 0 {
		return "{}"
	}
	return string(data)
}
