package config

import (
	"fmt"
	"strings"
)

// minimal is the shortest useful file, shown on the reference page.
const minimal = `public_url: https://app.example.com
upstream: http://127.0.0.1:8080
providers:
  - id: corp
    type: oidc
    issuer: https://id.example.com
    client_id: authproxy
    client_secret_file: /run/secrets/client_secret
sign_in:
  allowed_domains: [example.com]
cookie:
  keys_file: /run/secrets/cookie_keys
`

const preface = `# Configuration

<!-- Generated from the settings in package config. Change their tags, then run: go test ./config/ -update -->

Settings come from a YAML file, then from the environment, then from flags; the later one counts. They have the same
names everywhere: ` + "`session.max_age`" + ` in the file is ` + "`AUTHPROXY_SESSION_MAX_AGE`" + ` and ` + "`--session.max_age`" + `. All problems are reported at
once, each with its place and its remedy. A file that is enough:

` + "```yaml\n" + minimal + "```" + `

- **The file** is named by ` + "`--config FILE`" + ` or ` + "`AUTHPROXY_CONFIG`" + `. It holds one YAML document, in UTF-8, of at most 1 MiB. A name that
  is not below is an error. Anchors, aliases and tags are not supported; a value that begins with ` + "`*`" + ` needs quotes.
- **The environment**: an empty variable counts as unset. An ` + "`AUTHPROXY_`" + ` variable that is not below is ignored with a warning,
  but for those that Kubernetes makes for a Service named authproxy. Lists are separated by commas, mappings written
  ` + "`name=value,name=value`" + `; either replaces what the file says.
- **Flags** are written ` + "`--name value`" + ` or ` + "`--name=value`" + `; ` + "`--name`" + ` alone is true for a setting that is true or false. Each may
  be given once.
- **Secrets** may stand in a file of their own: ` + "`client_secret_file`" + ` instead of ` + "`client_secret`" + `, ` + "`cookie.keys_file`" + ` instead of
  ` + "`cookie.keys`" + `. Giving both is an error. On the command line a secret can be seen in the list of processes.
- **Providers** are named by their id outside of the file: ` + "`AUTHPROXY_PROVIDERS_CORP_CLIENT_ID`" + ` and ` + "`--providers.corp.client_id`" + ` set
  the client id of ` + "`corp`" + `, or add a provider with this id. In a variable the id is in capitals, with ` + "`_`" + ` for ` + "`-`" + `.
- **One application, one provider** needs flags only. ` + "`--provider oidc`" + ` makes a provider whose id is its type, and these
  settings of it have short flags: %s.

  ` + "```sh" + `
  authproxy --upstream http://127.0.0.1:8080 --public_url https://app.example.com \
    --provider oidc --issuer https://id.example.com --client_id authproxy \
    --client_secret_file /run/secrets/client_secret --sign_in.allowed_domains example.com
  authproxy --upstream http://127.0.0.1:8080 --public_url https://app.example.com \
    --provider google --client_id 1234.apps.googleusercontent.com \
    --client_secret_file /run/secrets/client_secret --hosted_domains example.com
  ` + "```" + `
- **Durations** have units: ` + "`30s`, `15m`, `24h`, `7d`" + `. Paths of files are relative to the working directory.
`

// Reference returns the reference page of all settings, docs/configuration.md,
// in Markdown.
func Reference() []byte {
	root := settings()
	var b strings.Builder
	var short []string
	for _, f := range root.child("providers").elem.fields {
		if f.flag != "" {
			short = append(short, "`--"+f.flag+"`")
		}
	}
	fmt.Fprintf(&b, preface, strings.Join(short, ", "))
	b.WriteString("\n## General\n\n")
	writeTable(&b, root, "", "")
	for _, f := range root.fields {
		writeSection(&b, f, f.name, f.name)
	}
	return []byte(b.String())
}

// writeSection writes the settings below f, when there are any, and then those
// below each of them. path is f's name in the file; outside is its name in the
// environment and in flags, "" where it has none.
func writeSection(b *strings.Builder, f *field, path, outside string) {
	switch {
	case f.like != "":
		return // described where the group is
	case f.kind == kindList && f.elem.kind == kindGroup:
		path += "[]"
		if outside = ""; f.name == "providers" {
			outside = "providers.ID"
		}
	case f.kind == kindDict && f.elem.kind == kindGroup:
		path, outside = path+".NAME", ""
	case f.kind == kindGroup:
	default:
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n", path, f.doc)
	if f.example != "" {
		fmt.Fprintf(b, "\nExample: `%s: %s`\n", f.name, f.example)
	}
	b.WriteString("\n")
	group := f
	if f.kind != kindGroup {
		group = f.elem
	}
	writeTable(b, group, path, outside)
	for _, c := range group.fields {
		below := outside
		if outside != "" {
			below = join(outside, c.name)
		}
		writeSection(b, c, join(path, c.name), below)
	}
}

// writeTable writes the settings of one group.
func writeTable(b *strings.Builder, group *field, path, outside string) {
	b.WriteString("| Setting | Environment and flag | Type | Default | What it does |\n|---|---|---|---|---|\n")
	for _, f := range group.fields {
		if f.kind == kindGroup && f.shorthand == "" && !f.ptr {
			continue // it has a section
		}
		names := "file only"
		if path == "" && f.name == "providers" {
			names = "by id, see below"
		}
		if named := f.textual() || f.shorthand != ""; named && (path == "" || outside != "") && (f.name != "id" || path != "providers[]") {
			name := join(outside, f.name)
			names = "`" + envName(name) + "`<br>`--" + name + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", join(path, f.name), names, cell(typeName(f)), cell(f.defaultText()), cell(f.describe()))
	}
}

// cell escapes text for a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// describe returns what f does, with the values of its entries and an example.
func (f *field) describe() string {
	text := f.doc
	if f.enum != nil && !f.scalar() {
		text += " Values: `" + strings.Join(f.enum, "`, `") + "`."
	}
	if f.types != nil {
		text += " Only for `" + strings.Join(f.types, "`, `") + "`."
	}
	if f.example != "" {
		text += fmt.Sprintf(" Example: `%s: %s`", f.name, f.example)
	}
	return text
}

// defaultText returns the default for people.
func (f *field) defaultText() string {
	switch {
	case f.derived != "":
		return f.derived
	case f.kind == kindDict && f.def != "":
		return "`{" + strings.NewReplacer("=", ": ", ",", ", ").Replace(f.def) + "}`"
	case f.kind == kindList && f.def != "":
		return "`[" + strings.ReplaceAll(f.def, ",", ", ") + "]`"
	case f.def != "":
		return "`" + f.def + "`"
	}
	return "–"
}

// typeName says in plain words what a value of f is.
func typeName(f *field) string {
	if f.enum != nil && f.scalar() {
		return "one of " + strings.Join(f.enum, ", ")
	}
	switch f.kind {
	case kindBool:
		return "true or false"
	case kindInt:
		return "a whole number"
	case kindDuration:
		return "a duration"
	case kindURL:
		return "a URL"
	case kindPrefix:
		return "an IP address or network"
	case kindKey:
		return "a key in base64"
	case kindList:
		return "a list"
	case kindDict, kindGroup:
		if f.shorthand != "" {
			return "a URL or a mapping"
		}
		return "a mapping"
	}
	return "text"
}
