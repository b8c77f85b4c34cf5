// Command k8sschema takes from the OpenAPI description of Kubernetes what is
// needed to check our manifests strictly, and writes it as JSON Schema, one file
// for each kind, as kubeconform reads them:
//
//	k8sschema api/openapi-spec/swagger.json ../deploy/k8s/schemas Deployment Service …
//
// A schema written here refuses fields that Kubernetes does not know, which the
// API server would drop without a word.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

type object = map[string]any

// A description is the part of swagger.json that is read.
type description struct {
	Definitions map[string]object `json:"definitions"`
}

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: k8sschema swagger.json directory Kind…")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "k8sschema:", err)
		os.Exit(1)
	}
}

func run(swagger, dir string, kinds []string) error {
	data, err := os.ReadFile(swagger)
	if err != nil {
		return err
	}
	var d description
	if err := json.Unmarshal(data, &d); err != nil {
		return err
	}
	for _, kind := range kinds {
		name, suffix, err := d.find(kind)
		if err != nil {
			return err
		}
		schema, err := json.MarshalIndent(d.schema(name), "", " ")
		if err != nil {
			return err
		}
		file := filepath.Join(dir, strings.ToLower(kind)+suffix+".json")
		if err := os.WriteFile(file, append(schema, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// find returns the name of a kind's definition and the end of its file's name:
// group and version, as in kubeconform's KindSuffix. Of several versions it
// takes the stable one.
func (d description) find(kind string) (name, suffix string, err error) {
	for candidate, definition := range d.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			id := k.(object)
			if id["kind"] != kind || id["version"] != "v1" || !strings.HasSuffix(candidate, "."+kind) {
				continue
			}
			group, _, _ := strings.Cut(id["group"].(string), ".")
			return candidate, "-" + strings.TrimPrefix(group+"-v1", "-"), nil
		}
	}
	return "", "", fmt.Errorf("there is no stable version of %s", kind)
}

// schema returns the schema of a definition with all that it refers to.
func (d description) schema(name string) object {
	used := object{}
	d.collect(name, used)
	return object{"$schema": "http://json-schema.org/draft-07/schema#", "$ref": reference(name), "definitions": used}
}

func reference(name string) string { return "#/definitions/" + name }

func (d description) collect(name string, used object) {
	if used[name] != nil {
		return
	}
	switch {
	case strings.HasSuffix(name, ".IntOrString"), strings.HasSuffix(name, ".Quantity"):
		used[name] = object{"type": []string{"string", "number"}}
		return
	}
	used[name] = true // so that a definition that refers to itself ends
	used[name] = d.strict(d.Definitions[name], used)
}

// strict returns node without its prose, refusing properties that it does not
// name.
func (d description) strict(node object, used object) object {
	if ref, ok := node["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, reference(""))
		d.collect(name, used)
		return object{"$ref": reference(name)}
	}
	out := object{}
	for _, key := range []string{"type", "required", "enum"} {
		if value, ok := node[key]; ok {
			out[key] = value
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if value, ok := node[key].(object); ok {
			out[key] = d.strict(value, used)
		}
	}
	if properties, ok := node["properties"].(object); ok {
		strict := object{}
		for name, value := range properties {
			strict[name] = d.strict(value.(object), used)
		}
		out["properties"], out["additionalProperties"] = strict, false
	}
	return out
}
