package token

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// ReservedNames returns the names of the claims that no configuration may map
// over, in lower case: those of RFC 7519, and all that tokens have anyway.
func ReservedNames() []string {
	names := []string{"nbf"}
	for field := range reflect.TypeFor[Claims]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// Reserved reports whether name is that of a claim which tokens have anyway, in
// any case: many readers of JSON take "Sub" for "sub", and the last one counts.
func Reserved(name string) bool { return slices.Contains(ReservedNames(), strings.ToLower(name)) }

// MarshalJSON puts the mapped claims beside the others. It fails if one of them
// is reserved.
func (c Claims) MarshalJSON() ([]byte, error) {
	type plain Claims // without this method
	own, err := json.Marshal(plain(c))
	if err != nil || len(c.Mapped) == 0 {
		return own, err
	}
	for name := range c.Mapped {
		if Reserved(name) {
			return nil, fmt.Errorf("token: the claim %s cannot be mapped over", name)
		}
	}
	mapped, err := json.Marshal(c.Mapped)
	if err != nil {
		return nil, err
	}
	// Two objects, neither of them empty, as one.
	return slices.Concat(own[:len(own)-1], []byte(","), mapped[1:]), nil
}

// UnmarshalJSON takes a claim only under its exact name; whatever has another
// one is mapped.
func (c *Claims) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	mapped, own := map[string]any{}, ReservedNames()
	for name, raw := range all {
		if slices.Contains(own, name) {
			continue
		}
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		var v any
		if err := decoder.Decode(&v); err != nil {
			return err
		}
		mapped[name] = v
		delete(all, name)
	}
	exact, err := json.Marshal(all)
	if err != nil {
		return err
	}
	type plain Claims // without this method
	if err := json.Unmarshal(exact, (*plain)(c)); err != nil {
		return err
	}
	c.Mapped = nil
	if len(mapped) > 0 {
		c.Mapped = mapped
	}
	return nil
}
