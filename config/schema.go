package config

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// Schema returns the JSON Schema (draft 2020-12) of the configuration file, for
// editors and for checks before a deployment. The same build always returns the
// same bytes. What a file may leave to the environment is not required.
func Schema() ([]byte, error) {
	root := groupSchema(settings())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "authproxy configuration"
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// schema describes a setting with its value.
func (f *field) schema() map[string]any {
	s := f.typeSchema()
	if f.doc != "" {
		s["description"] = f.doc
	}
	if f.secret {
		s["writeOnly"] = true
	}
	if f.def != "" {
		s["default"] = f.defaultValue()
	}
	return s
}

// typeSchema describes the values of f.
func (f *field) typeSchema() map[string]any {
	switch f.kind {
	case kindBool:
		return map[string]any{"type": "boolean"}
	case kindInt:
		return map[string]any{"type": "integer"}
	case kindDuration: // the only number without a unit is 0
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^([0-9]+d)?([0-9.]+(ns|us|µs|ms|s|m|h))*$|^0$`, "minLength": 1, "minimum": 0, "maximum": 0}
	case kindURL:
		return map[string]any{"type": "string", "format": "uri"}
	case kindList:
		s := map[string]any{"type": "array", "items": map[string]any{"$ref": f.like}}
		if f.like == "" {
			s["items"] = f.elem.schema()
		}
		if f.nonempty {
			s["minItems"] = 1
		}
		return s
	case kindDict:
		return map[string]any{"type": "object", "additionalProperties": f.elem.schema()}
	case kindGroup:
		s := groupSchema(f)
		if f.shorthand == "" {
			return s
		}
		return map[string]any{"anyOf": []any{f.child(f.shorthand).schema(), s}}
	}
	s := map[string]any{"type": "string"}
	if f.enum != nil {
		s["enum"] = f.enum
	}
	return s
}

// groupSchema describes a mapping with settings of ours. It may be empty, as it
// is when all its lines are commented out; an entry of a list may not.
func groupSchema(f *field) map[string]any {
	properties := map[string]any{}
	var required []string
	for _, c := range f.fields {
		properties[c.name] = c.schema()
		if c.required {
			required = append(required, c.name)
		}
	}
	s := map[string]any{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if required != nil {
		s["type"], s["required"] = "object", required
	}
	return s
}

// defaultValue returns the default as JSON has it.
func (f *field) defaultValue() any {
	switch f.kind {
	case kindBool:
		return f.def == "true"
	case kindInt:
		n, _ := strconv.Atoi(f.def) // Load sets it, so it is a number
		return n
	case kindList:
		return strings.Split(f.def, ",")
	case kindDict:
		m := map[string]string{}
		for pair := range strings.SplitSeq(f.def, ",") {
			name, value, _ := strings.Cut(pair, "=")
			m[name] = value
		}
		return m
	}
	return f.def
}
