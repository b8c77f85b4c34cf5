package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

const (
	envPrefix         = "AUTHPROXY_"
	envConfig         = envPrefix + "CONFIG"
	envProviderPrefix = envPrefix + "PROVIDERS_"
)

var providerID = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// serviceLink is what Kubernetes and Docker make of a Service whose name is or
// begins with authproxy, such as AUTHPROXY_PORT_80_TCP_ADDR.
var serviceLink = regexp.MustCompile(`^AUTHPROXY_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// linkAddress is the value of AUTHPROXY_PORT in such a link.
var linkAddress = regexp.MustCompile(`^(tcp|udp|sctp)://`)

// environ returns the variables of ours that are not empty.
func (l *loader) environ() map[string]string {
	vars := map[string]string{}
	for _, pair := range l.src.Environ {
		name, value, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, envPrefix) && value != "" {
			vars[name] = value
		}
	}
	return vars
}

// applyEnviron sets what the environment says over what the file said.
func (l *loader) applyEnviron() {
	clear(l.layer)
	known := map[string]leaf{}
	for _, lf := range leaves(l.root) {
		known[lf.env()] = lf
	}
	vars := l.environ()
	delete(vars, envConfig)
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		value := vars[name]
		if lf, ok := known[name]; ok {
			l.set(reflect.ValueOf(l.cfg).Elem(), "", lf, value, name)
			continue
		}
		if id, lf, ok := l.envProvider(name); ok {
			l.setProvider(id, lf, value, name)
			continue
		}
		if !isServiceLink(name, value) {
			l.unknownVariable(name, known)
		}
	}
}

// isServiceLink reports whether a variable comes from the cluster and not from
// the operator: AUTHPROXY_PORT counts only with an address such as tcp://….
func isServiceLink(name, value string) bool {
	if !serviceLink.MatchString(name) {
		return false
	}
	bare := strings.HasSuffix(name, "_PORT") && !strings.HasSuffix(name, "_SERVICE_PORT") && !strings.Contains(name, "_PORT_")
	return !bare || linkAddress.MatchString(value)
}

// envProvider splits AUTHPROXY_PROVIDERS_CORP_CLIENT_ID into the provider's id
// and its setting. The longest setting counts: a provider whose id ends in
// -client has no id to set by the environment.
func (l *loader) envProvider(name string) (id string, found leaf, ok bool) {
	rest, ok := strings.CutPrefix(name, envProviderPrefix)
	if !ok {
		return "", leaf{}, false
	}
	for _, lf := range l.providerLeaves() {
		suffix := "_" + strings.ToUpper(strings.ReplaceAll(lf.path, ".", "_"))
		if head, ok := strings.CutSuffix(rest, suffix); ok && head != "" && len(lf.path) > len(found.path) {
			id, found = head, lf
		}
	}
	if found.path == "" {
		return "", leaf{}, false
	}
	return strings.ReplaceAll(strings.ToLower(id), "_", "-"), found, true
}

// providerLeaves returns the settings of one provider but its id, which names it.
func (l *loader) providerLeaves() []leaf {
	return slices.DeleteFunc(leaves(l.root.child("providers").elem), func(lf leaf) bool { return lf.path == "id" })
}

// unknownVariable warns about a name that is close to ours but is not.
func (l *loader) unknownVariable(name string, known map[string]leaf) {
	names := slices.Sorted(maps.Keys(known))
	for _, p := range l.cfg.Providers {
		for _, lf := range l.providerLeaves() {
			names = append(names, envName("providers."+p.ID+"."+lf.path))
		}
	}
	remedy := "remove it, or see the reference for the names"
	if near := nearest(name, append(names, envConfig)); near != "" {
		remedy = "did you mean " + near + "?"
	}
	l.warnings = append(l.warnings, Warning{shortened(name), "is not a setting and is ignored", remedy})
}

// set stores text, given by the variable or flag from, in a setting of base.
func (l *loader) set(base reflect.Value, prefix string, lf leaf, text, from string) {
	path, key, at := prefix+lf.path, prefix+lf.key, origin{file: from}
	if before, twice := l.layer[key]; twice {
		l.problem(path, at, "is given twice, also by "+before, "keep one of them; entries of a list are separated by commas")
		return
	}
	l.layer[key] = from
	if !lf.field.textual() {
		l.problem(path, at, "can be set in the file only", "write it to the file that --config or "+envConfig+" names")
		return
	}
	l.origins[key] = at
	l.setText(path, lf.field, l.value(base, lf), text, at)
}

// setProvider stores text in a setting of the provider with that id, which is
// made when there is none.
func (l *loader) setProvider(id string, lf leaf, text, from string) {
	i := slices.IndexFunc(l.cfg.Providers, func(p Provider) bool { return p.ID == id })
	if i < 0 {
		if !providerID.MatchString(id) {
			l.problem("providers", origin{file: from}, "does not name a provider", idRemedy)
			return
		}
		i = len(l.cfg.Providers)
		l.cfg.Providers = append(l.cfg.Providers, Provider{ID: id})
		l.setDefaults(l.root.child("providers").elem, reflect.ValueOf(&l.cfg.Providers[i]).Elem())
		l.origins[fmt.Sprintf("providers[%d]", i)] = origin{file: from}
	}
	l.set(reflect.ValueOf(&l.cfg.Providers[i]).Elem(), fmt.Sprintf("providers[%d].", i), lf, text, from)
}

// arg is one flag with its value.
type arg struct {
	name, value string
}

// target is what a flag sets.
type target struct {
	leaf     leaf
	provider string // the provider's id, "" for a setting of the whole
	oneApp   bool   // a short flag, for the provider that --provider names
}

// parseArgs splits the flags. A positional argument is never repeated in a
// message: it may be a secret after a stray space.
func (l *loader) parseArgs() []arg {
	var out []arg
	args := l.src.Args
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "--")
		name, value, has := strings.Cut(name, "=")
		if !isFlag || name == "" {
			l.problem("", origin{}, fmt.Sprintf("argument %d is not a flag", i+1), "write flags as --name value or --name=value")
			continue
		}
		t, known := l.target(name)
		takesNext := i+1 < len(args) && !strings.HasPrefix(args[i+1], "--")
		switch {
		case !known && !has && takesNext:
			i++ // its value, most likely
		case known && has:
		case known && t.leaf.field != nil && t.leaf.field.kind == kindBool:
			value = "true"
		case known && takesNext:
			i++
			value = args[i]
		case known:
			l.problem(name, origin{file: "--" + name}, "has no value", "write --"+name+"=value")
			continue
		}
		if !known {
			l.unknownFlag(name)
			continue
		}
		out = append(out, arg{name, value})
	}
	return out
}

// target returns what the flag of that name sets. For --config and --provider
// the field is nil.
func (l *loader) target(name string) (target, bool) {
	if name == "config" || name == "provider" {
		return target{}, true
	}
	for _, lf := range leaves(l.root) {
		if lf.path == name {
			return target{leaf: lf}, true
		}
	}
	id, setting, byID := strings.Cut(strings.TrimPrefix(name, "providers."), ".")
	byID = byID && strings.HasPrefix(name, "providers.")
	for _, lf := range l.providerLeaves() {
		if byID && lf.path == setting {
			return target{leaf: lf, provider: id}, true
		}
		if lf.field.flag == name {
			return target{leaf: lf, oneApp: true}, true
		}
	}
	return target{}, false
}

// unknownFlag records a flag that there is not, and the one that is meant.
func (l *loader) unknownFlag(name string) {
	names := []string{"config", "provider"}
	for _, lf := range leaves(l.root) {
		names = append(names, lf.path)
	}
	id, _, byID := strings.Cut(strings.TrimPrefix(name, "providers."), ".")
	for _, lf := range l.providerLeaves() {
		if byID {
			names = append(names, "providers."+id+"."+lf.path)
		}
		if lf.field.flag != "" {
			names = append(names, lf.field.flag)
		}
	}
	remedy := "see the reference for the names"
	if near := nearest(name, names); near != "" {
		remedy = "did you mean --" + near + "?"
	} else if place := elsewhere(l.root, name); place != "" {
		remedy = "did you mean --" + place + "?"
	}
	l.problem("", origin{file: "--" + shortened(name)}, "is not a flag", remedy)
}

// fileName returns the path of the file and what named it.
func (l *loader) fileName(args []arg) (string, origin) {
	for _, a := range args {
		if a.name == "config" {
			return a.value, origin{file: "--config"}
		}
	}
	if l.src.File != "" {
		return l.src.File, origin{}
	}
	return l.environ()[envConfig], origin{file: envConfig}
}

// applyArgs sets what the flags say over everything else.
func (l *loader) applyArgs(args []arg) {
	clear(l.layer)
	one := l.oneApp(args)
	for _, a := range args {
		t, _ := l.target(a.name)
		from := "--" + a.name
		if t.leaf.field == nil { // --config and --provider have been read
			if _, twice := l.layer[from]; twice {
				l.problem(a.name, origin{file: from}, "is given twice", "keep one of them")
			}
			l.layer[from] = from
			continue
		}
		if f := t.leaf.field; f.secret && (!f.secretURL || strings.Contains(a.value, "@")) {
			l.warnings = append(l.warnings, Warning{from, "shows a secret to everybody who can list processes", "use " + from + "_file"})
		}
		switch {
		case t.provider != "":
			l.setProvider(t.provider, t.leaf, a.value, from)
		case t.oneApp && one != "":
			l.setProvider(one, t.leaf, a.value, from)
		case t.oneApp:
			l.problem(a.name, origin{file: from}, "belongs to no provider", "add --provider oidc, or write --providers.ID."+a.name)
		default:
			l.set(reflect.ValueOf(l.cfg).Elem(), "", t.leaf, a.value, from)
		}
	}
}

// oneApp makes the provider that --provider asks for and returns its id, which
// is its type. It returns "" without this flag.
func (l *loader) oneApp(args []arg) string {
	i := slices.IndexFunc(args, func(a arg) bool { return a.name == "provider" })
	if i < 0 {
		return ""
	}
	kind := args[i].value
	typ := l.root.child("providers").elem.child("type")
	if !slices.Contains(typ.enum, kind) {
		flaw := enumFlaw(typ, kind)
		l.problem("provider", origin{file: "--provider"}, flaw.message, flaw.remedy)
		l.spoil("providers") // that it is missing or incomplete is no news
		kind = typ.enum[0]
	}
	lf := leaf{typ.name, typ.name, typ, []*field{typ}}
	l.setProvider(kind, lf, kind, "--provider")
	return kind
}

// readSecrets reads the secrets that are given as files.
func (l *loader) readSecrets() {
	for i := range l.cfg.Providers {
		p := &l.cfg.Providers[i]
		path := fmt.Sprintf("providers[%d].client_secret", i)
		if text := l.readSecret(path, p.ClientSecret != "", p.ClientSecretFile); text != "" {
			l.setSecret(path, &p.ClientSecret, text)
		}
	}
	l.readPassword("upstream", l.cfg.Upstream)
	for i, r := range l.cfg.Routes {
		l.readPassword(fmt.Sprintf("routes[%d].upstream", i), r.Upstream)
	}
	a := &l.cfg.Admin
	if text := l.readSecret("admin.token", a.Token != "", a.TokenFile); text != "" {
		l.setSecret("admin.token", &a.Token, text)
	}
	s := &l.cfg.Session
	_, given := l.origins["session.store"]
	if text := l.readSecret("session.store", given, s.StoreFile); text != "" {
		l.setSecret("session.store", &s.Store, text)
	}
	if text := l.readSecret("session.listen_url", s.ListenURL != "", s.ListenURLFile); text != "" {
		l.setSecret("session.listen_url", &s.ListenURL, text)
	}
	c := &l.cfg.Cookie
	if text := l.readSecret("cookie.keys", c.Keys != nil, c.KeysFile); text != "" {
		c.Keys = l.parseKeys(c.KeysFile, text)
	}
}

// readPassword reads the password for the application at path.
func (l *loader) readPassword(path string, u *Upstream) {
	if u == nil || u.Basic == nil {
		return
	}
	path += ".basic.password"
	if text := l.readSecret(path, u.Basic.Password != "", u.Basic.PasswordFile); text != "" {
		l.setSecret(path, &u.Basic.Password, text)
	}
}

// readSecret returns the contents of the file that holds the secret at path, ""
// when there is none. It does not repeat the file's name, because a secret is
// easily put in its place.
func (l *loader) readSecret(path string, given bool, file string) string {
	pathFile := path + "_file"
	if file == "" || !l.ok(pathFile) {
		return ""
	}
	if given {
		l.fail(path, "is given, and "+l.displayName(pathFile)+" too", "remove one of the two")
		return ""
	}
	data, err := l.src.ReadFile(file)
	switch {
	case err != nil:
		l.fail(pathFile, fmt.Sprintf("the file cannot be read: %v", cause(err)), "check the path and the permissions")
	case len(data) > maxFile:
		l.fail(pathFile, "the file is larger than 1 MiB", "check that it is the right file")
	case strings.TrimSpace(string(data)) == "":
		l.fail(pathFile, "the file is empty", "write the secret to it")
	default:
		return string(data)
	}
	return ""
}

// setSecret stores a secret read from a file, without the line break that
// editors put at its end.
func (l *loader) setSecret(path string, p *string, text string) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	if flaw := setString(p, &field{secret: true}, text); flaw != nil {
		l.fail(path+"_file", "the file "+flaw.message, flaw.remedy)
	}
}

// parseKeys returns the keys in a file: one a line, with comments.
func (l *loader) parseKeys(file, text string) [][]byte {
	var keys [][]byte
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var key []byte
		if flaw := setKey(&key, line); flaw != nil {
			l.problem("cookie.keys_file", origin{file: file, line: n}, "the key "+flaw.message, flaw.remedy)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		l.fail("cookie.keys_file", "the file holds no key", keyRemedy)
	}
	return keys
}

// cause returns what went wrong with a file, without the file's name.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
