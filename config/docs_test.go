package config

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the generated files in docs")

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"../docs/config.schema.json": schema, "../docs/configuration.md": Reference()} {
		if *update {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is out of date; run: go test ./config/ -update\n%s", name, diff)
		}
	}
}

// schemaNode returns Schema as JSON values.
func schemaNode(t *testing.T) map[string]any {
	t.Helper()
	data, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatalf("the schema is not JSON: %v", err)
	}
	return root
}

// treeOfType lists the settings of a struct type by reading its tags anew.
func treeOfType(rt reflect.Type, path string) []string {
	var names []string
	switch rt.Kind() {
	case reflect.Slice, reflect.Map:
		if rt.Elem().Kind() == reflect.Struct && rt.Elem().PkgPath() == reflect.TypeFor[Config]().PkgPath() {
			return treeOfType(rt.Elem(), path+"*")
		}
	case reflect.Pointer:
		if rt.Elem().PkgPath() == reflect.TypeFor[Config]().PkgPath() {
			return treeOfType(rt.Elem(), path)
		}
	case reflect.Struct:
		if rt.PkgPath() != reflect.TypeFor[Config]().PkgPath() {
			return nil
		}
		for sf := range rt.Fields() {
			if name := sf.Tag.Get("yaml"); name != "-" {
				names = append(names, path+"/"+name)
				if sf.Tag.Get("like") == "" { // else it is the group itself again
					names = append(names, treeOfType(sf.Type, path+"/"+name)...)
				}
			}
		}
	}
	return names
}

// treeOfSchema lists the properties of a schema in the same form. It fails on a
// mapping of ours that would admit any name.
func treeOfSchema(t *testing.T, node map[string]any, path string) []string {
	var names []string
	if alternatives, ok := node["anyOf"].([]any); ok {
		return treeOfSchema(t, alternatives[1].(map[string]any), path)
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if elem, ok := node[key].(map[string]any); ok {
			names = append(names, treeOfSchema(t, elem, path+"*")...)
		}
	}
	properties, ok := node["properties"].(map[string]any)
	if !ok {
		return names
	}
	if node["additionalProperties"] != false {
		t.Errorf("%s: the schema admits unknown names", path)
	}
	for name, p := range properties {
		property := p.(map[string]any)
		if property["description"] == nil {
			t.Errorf("%s/%s: no description", path, name)
		}
		names = append(names, path+"/"+name)
		names = append(names, treeOfSchema(t, property, path+"/"+name)...)
	}
	return names
}

func TestSchemaHasExactlyTheSettings(t *testing.T) {
	want, got := treeOfType(reflect.TypeFor[Config](), ""), treeOfSchema(t, schemaNode(t), "")
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-struct +schema):\n%s", diff)
	}
}

// resolve returns the part of the schema root that a reference names.
func resolve(root map[string]any, ref string) map[string]any {
	for name := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		root, _ = root[name].(map[string]any)
	}
	return root
}

// conforms judges value by the parts of JSON Schema that ours uses.
func conforms(node, root map[string]any, value any, path string) []string {
	if alternatives, ok := node["anyOf"].([]any); ok {
		if _, isMap := value.(map[string]any); isMap {
			return conforms(alternatives[1].(map[string]any), root, value, path)
		}
		return conforms(alternatives[0].(map[string]any), root, value, path)
	}
	if ref, ok := node["$ref"].(string); ok {
		return conforms(resolve(root, ref), root, value, path)
	}
	var bad []string
	if types := node["type"]; !typeFits(types, value) {
		return []string{path + ": type"}
	}
	if enum, ok := node["enum"].([]any); ok && !slices.Contains(enum, value) {
		bad = append(bad, path+": enum")
	}
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			bad = append(bad, conforms(node["items"].(map[string]any), root, v, path+"*")...)
		}
	case map[string]any:
		properties, _ := node["properties"].(map[string]any)
		for name, v := range value {
			p, ok := properties[name].(map[string]any)
			if !ok {
				p, ok = node["additionalProperties"].(map[string]any)
			}
			if !ok {
				bad = append(bad, path+"/"+name+": unknown")
				continue
			}
			bad = append(bad, conforms(p, root, v, path+"/"+name)...)
		}
	}
	return bad
}

func typeFits(types, value any) bool {
	name := "null"
	switch value.(type) {
	case string:
		name = "string"
	case bool:
		name = "boolean"
	case float64:
		name = "integer"
	case []any:
		name = "array"
	case map[string]any:
		name = "object"
	}
	if list, ok := types.([]any); ok {
		return slices.Contains(list, any(name))
	}
	return types == name
}

func TestSchemaAcceptsTheExamplesAndNothingOdd(t *testing.T) {
	tests := []struct {
		name, file string
		want       []string
	}{
		{"full", readTestdata(t, "full.yaml"), nil},
		{"minimal", readTestdata(t, "minimal.yaml"), nil},
		{"unknown key", "listn: x", []string{"/listn: unknown"}},
		{"unknown key in a nested requirement", "rules: [{require: {any: [{all: [{rols: [a]}]}]}}]", []string{"/rules*/require/any*/all*/rols: unknown"}},
		{"wrong type", "session: {version: \"1\"}", []string{"/session/version: type"}},
		{"no such value", "log: {level: loud}", []string{"/log/level: enum"}},
		{"no such token", "upstream: {url: \"http://up\", cookies: {t: refresh}}", []string{"/upstream/cookies/t: enum"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asJSON, err := yaml.YAMLToJSON([]byte(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			var value any
			if err := json.Unmarshal(asJSON, &value); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, conforms(schemaNode(t), schemaNode(t), value, "")); diff != "" {
				t.Errorf("schema violations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFullFileSetsEverySetting(t *testing.T) {
	file := readTestdata(t, "full.yaml")
	root, flaw := parseYAML([]byte(file))
	if flaw != nil {
		t.Fatal(flaw.message)
	}
	l := newLoader(source(file))
	l.decode("", l.root, root, reflect.ValueOf(l.cfg).Elem(), origin{})
	set := map[string]bool{}
	for path := range l.origins {
		var name strings.Builder
		for part := range strings.SplitSeq(path, ".") {
			head, _, isList := strings.Cut(part, "[")
			name.WriteString("/" + head)
			if isList {
				name.WriteString("*")
			}
		}
		set[name.String()] = true
		set[strings.Replace(name.String(), "/identity/roles/auditor", "/identity/roles*", 1)] = true
		set[strings.Replace(name.String(), "/identity/roles/admin", "/identity/roles*", 1)] = true
		set[strings.Replace(name.String(), "/identity/claims/company", "/identity/claims*", 1)] = true
	}
	set["/session/store"], set["/session/listen_url"], set["/admin/token"] = true, true, true // they exclude the files; the settings' rows have them
	set["/cookie/keys"] = true                                                                // excludes keys_file; TestMinimalFileGetsTheDefaults has the other
	for _, as := range []string{"ca_file", "headers", "cookies", "basic/password_file"} {     // upstream has them
		set["/routes*/upstream/"+as] = true
	}
	set["/upstream/basic/password"] = true // excludes password_file; a route has it
	for _, name := range treeOfType(reflect.TypeFor[Config](), "") {
		if !set[name] {
			t.Errorf("full.yaml does not set %s", name)
		}
	}
}

func TestReferenceNamesEverySettingAndItsSources(t *testing.T) {
	page := string(Reference())
	for _, lf := range leaves(settings()) {
		row := "| `" + lf.path + "` | "
		if lf.field.textual() {
			row += "`" + lf.env() + "`<br>`--" + lf.path + "` |"
		}
		if lf.field.kind == kindList && lf.field.elem.kind == kindGroup {
			row = "## " + lf.path + "[]"
		}
		if !strings.Contains(page, row) {
			t.Errorf("the page lacks %q", row)
		}
	}
	for _, want := range []string{"`AUTHPROXY_PROVIDERS_ID_CLIENT_SECRET_FILE`<br>`--providers.ID.client_secret_file`", "| `rules[].require.roles` | file only |", "| `identity.roles.NAME.groups` | file only |"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestReferenceExampleIsTheMinimalFile(t *testing.T) {
	if diff := cmp.Diff(readTestdata(t, "minimal.yaml"), minimal); diff != "" {
		t.Errorf("example on the page (-minimal.yaml +page):\n%s", diff)
	}
}
