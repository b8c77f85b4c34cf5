package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on the file beside its size: the YAML parser recurses, and it needs
// time that grows with the square of the number of tokens. A thousand rules
// have some 20,000 tokens.
const (
	maxTokens = 50_000
	maxDepth  = 50
)

// loader carries one [Load] through its steps.
type loader struct {
	src  Source
	root *field
	cfg  *Config

	origins    map[string]origin // where each setting was made
	layer      map[string]string // what set each setting, in the environment or in flags
	bad        map[string]bool   // settings with a problem
	tainted    map[string]bool   // the same, and everything above them
	unreadable bool              // the file said nothing, so the checks would mislead
	problems   []Problem
	warnings   []Warning
}

// newLoader returns a loader whose configuration holds the defaults.
func newLoader(src Source) *loader {
	if src.ReadFile == nil {
		src.ReadFile = readFile
	}
	l := &loader{
		src: src, root: settings(), cfg: &Config{},
		origins: map[string]origin{}, layer: map[string]string{},
		bad: map[string]bool{}, tainted: map[string]bool{},
	}
	l.setDefaults(l.root, reflect.ValueOf(l.cfg).Elem())
	return l
}

// loadFile reads the YAML file, when there is one, into the configuration.
func (l *loader) loadFile(name string, from origin) {
	if name == "" {
		return
	}
	l.cfg.File = name
	data, err := l.src.ReadFile(name)
	if err != nil {
		l.unreadable = true
		l.problem("config", from, fmt.Sprintf("%s cannot be read: %v", name, cause(err)), "check the path and the permissions")
		return
	}
	root, flaw := parseYAML(data)
	if flaw != nil {
		l.unreadable = true
		l.problem("", origin{name, flaw.line, flaw.col}, flaw.message, flaw.remedy)
		return
	}
	if root != nil {
		_, isMap := root.(ast.MapNode)
		l.unreadable = !isMap
		l.decode("", l.root, root, reflect.ValueOf(l.cfg).Elem(), l.at(root))
	}
}

// fileFlaw says why a file is not one YAML document, and where.
type fileFlaw struct {
	flaw
	line, col int
}

// parseYAML returns the root of the one document in data, or nil when data
// holds none. Its messages never repeat the text, which may be a secret.
func parseYAML(data []byte) (root ast.Node, bad *fileFlaw) {
	// The parser is made for trusted input; a panic is one more syntax error.
	defer func() {
		if recover() != nil {
			root, bad = nil, &fileFlaw{flaw: flaw{"is not valid YAML", "check its indentation and quotes"}}
		}
	}()
	if len(data) > maxFile {
		return nil, &fileFlaw{flaw: flaw{"is larger than 1 MiB", "check that it is the right file"}}
	}
	if !utf8.Valid(data) {
		return nil, &fileFlaw{flaw: flaw{"is not UTF-8 text", "save it as UTF-8"}}
	}
	tokens := lexer.Tokenize(string(bytes.TrimPrefix(data, []byte("\ufeff"))))
	if bad := tooDeep(tokens); bad != nil {
		return nil, bad
	}
	// Duplicate keys are ours to find, so that all of them are reported.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxFlaw(err)
	}
	for _, doc := range file.Docs {
		switch body := doc.Body.(type) {
		case nil, *ast.NullNode, *ast.DirectiveNode:
		default:
			if root != nil {
				at := position(body)
				return nil, &fileFlaw{flaw{"a second document begins here", "keep one document, and remove the --- line between them"}, at.Line, at.Column}
			}
			root = body
		}
	}
	return root, nil
}

// tooDeep refuses what would exhaust the parser: it cannot be stopped, and Go
// does not survive the end of a stack.
func tooDeep(tokens token.Tokens) *fileFlaw {
	if len(tokens) > maxTokens {
		return &fileFlaw{flaw: flaw{"holds too many values", "check that it is the right file"}}
	}
	depth, line, onLine := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, onLine = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			onLine++ // "- - - -" nests once for each
		}
		if depth > maxDepth || onLine > maxDepth {
			return &fileFlaw{flaw{"is nested too deeply", "check the brackets"}, t.Position.Line, t.Position.Column}
		}
	}
	return nil
}

// syntaxFlaw turns the parser's error into ours, without the excerpt of the
// file and without the characters that some messages repeat.
func syntaxFlaw(err error) *fileFlaw {
	bad := &fileFlaw{flaw: flaw{"is not valid YAML", "check indentation and quotes; a value with special characters needs quotes"}}
	var detail interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if !errors.As(err, &detail) {
		return bad
	}
	message := detail.GetMessage()
	for _, repeats := range []string{"found unknown escape character", "found invalid tag character", "unknown YAML version"} {
		if strings.HasPrefix(message, repeats) {
			message = repeats
		}
	}
	bad.message += ": " + message
	if t := detail.GetToken(); t != nil && t.Position != nil {
		bad.line, bad.col = t.Position.Line, t.Position.Column
	}
	return bad
}

// position returns where a node begins. Mappings know the colon after their
// first key only.
func position(n ast.Node) *token.Position {
	if m, ok := n.(ast.MapNode); ok {
		if it := m.MapRange(); it.Next() && n.GetToken().Type == token.MappingValueType {
			return it.Key().GetToken().Position
		}
	}
	return n.GetToken().Position
}

// at returns where a node is in the file.
func (l *loader) at(n ast.Node) origin {
	p := position(n)
	return origin{l.cfg.File, p.Line, p.Column}
}

// decode stores the value n of the setting at path in v. at is where the
// setting begins: its key, or its own place in a list.
func (l *loader) decode(path string, f *field, n ast.Node, v reflect.Value, at origin) {
	l.origins[path] = at
	switch n := n.(type) {
	case nil, *ast.NullNode:
		if f.kind != kindGroup { // a section may have all its lines commented out
			l.problem(path, at, "has no value", "remove the line, or give it a value")
		}
		return
	case *ast.AliasNode:
		l.problem(path, l.at(n), "YAML aliases are not supported", "write the value out; a value that begins with * needs quotes")
		return
	case *ast.AnchorNode, *ast.TagNode:
		l.problem(path, l.at(n), "YAML anchors and tags are not supported", "write the value plainly; a value that begins with & or ! needs quotes")
		return
	}
	switch f.kind {
	case kindGroup:
		l.decodeGroup(path, f, n, v)
	case kindList:
		l.decodeList(path, f, n, v, at)
	case kindDict:
		l.decodeDict(path, f, n, v)
	default:
		l.decodeScalar(path, f, n, v)
	}
}

// decodeGroup stores a mapping with settings of ours.
func (l *loader) decodeGroup(path string, f *field, n ast.Node, v reflect.Value) {
	v = l.open(f, v)
	if _, isMap := n.(ast.MapNode); !isMap && f.shorthand != "" {
		c := f.child(f.shorthand)
		l.decodeScalar(path, c, n, v.Field(c.index))
		return
	}
	for _, e := range l.entries(path, f, n) {
		c := f.child(e.name)
		if c == nil {
			l.unknownKey(path, f, e)
			continue
		}
		l.decode(join(path, c.name), c, e.value, v.Field(c.index), e.at)
	}
	for _, c := range f.fields {
		if _, given := l.origins[join(path, c.name)]; c.required && !given {
			l.fail(join(path, c.name), "is required", "add it, such as "+c.name+": "+c.example)
		}
	}
}

// decodeList stores a sequence. A flawed entry keeps its place, so that
// positions agree.
func (l *loader) decodeList(path string, f *field, n ast.Node, v reflect.Value, at origin) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		l.mismatch(path, f, n)
		return
	}
	l.setLen(path, f, v, len(seq.Values), at)
	for i, value := range seq.Values {
		p, elem := fmt.Sprintf("%s[%d]", path, i), v.Index(i)
		if f.elem.kind == kindGroup {
			l.setDefaults(f.elem, elem)
		}
		if value == nil || value.Type() == ast.NullType {
			l.problem(p, at, "is empty", "remove the entry, or give it a value")
			continue
		}
		l.decode(p, f.elem, value, elem, l.at(value))
		if s, ok := value.(*ast.StringNode); ok && s.Value == "" {
			l.fail(p, "is empty", "remove the entry, or give it a value")
		}
	}
}

// decodeDict stores a mapping whose names the operator chooses.
func (l *loader) decodeDict(path string, f *field, n ast.Node, v reflect.Value) {
	v.Set(reflect.MakeMap(f.typ))
	for _, e := range l.entries(path, f, n) {
		elem := reflect.New(f.elem.typ).Elem()
		l.decode(join(path, e.name), f.elem, e.value, elem, e.at)
		v.SetMapIndex(reflect.ValueOf(e.name), elem)
	}
}

// decodeScalar stores one value. A number is not a text and a text is not a
// number, as in the JSON Schema: 0123 and yes mean different things to
// different readers.
func (l *loader) decodeScalar(path string, f *field, n ast.Node, v reflect.Value) {
	at := l.at(n)
	var text string
	switch n := n.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = n.Value.Value
	case *ast.IntegerNode, *ast.BoolNode, *ast.FloatNode:
		text = n.GetToken().Value
	}
	_, isInt := n.(*ast.IntegerNode)
	_, isBool := n.(*ast.BoolNode)
	fits := n.Type() == ast.StringType || n.Type() == ast.LiteralType
	switch f.kind {
	case kindInt:
		fits = isInt
	case kindBool:
		fits = isBool
	case kindDuration:
		fits = fits || isInt // 0, and otherwise the remedy for a missing unit
	}
	if !fits {
		l.mismatch(path, f, n)
		return
	}
	l.origins[path] = at
	if flaw := setScalar(f, v, text); flaw != nil {
		l.problem(path, at, flaw.message, flaw.remedy)
	}
}

// mismatch records that n is not what f can be. It does not repeat the value,
// which may be a secret in the wrong place.
func (l *loader) mismatch(path string, f *field, n ast.Node) {
	remedy := "write " + typeName(f)
	scalar := false
	switch n.Type() {
	case ast.StringType, ast.LiteralType, ast.IntegerType, ast.FloatType, ast.BoolType, ast.InfinityType, ast.NanType:
		scalar = true
	}
	switch {
	case path == "":
		remedy = "write settings as name: value"
	case f.scalar() && f.kind != kindInt && f.kind != kindBool && scalar:
		remedy = "put it in quotes"
	case (f.kind == kindInt || f.kind == kindBool) && scalar:
		remedy += ", without quotes"
	case f.kind == kindList && scalar:
		remedy += ", such as [a, b]"
	case f.kind >= kindDict:
		remedy += ", such as {name: value}"
	}
	l.problem(path, l.at(n), fmt.Sprintf("is %s, but must be %s", nodeName(n), typeName(f)), remedy)
}

// nodeName says in plain words what a node is.
func nodeName(n ast.Node) string {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	}
	return "something else"
}

// entry is one line of a mapping.
type entry struct {
	name  string
	at    origin // of the name
	value ast.Node
}

// entries returns the lines of the mapping n, without those whose name is no
// name or is there already.
func (l *loader) entries(path string, f *field, n ast.Node) []entry {
	m, ok := n.(ast.MapNode)
	if !ok {
		l.mismatch(path, f, n)
		return nil
	}
	var all []entry
	first := map[string]origin{}
	for it := m.MapRange(); it.Next(); {
		name, at := it.Key().GetToken().Value, l.at(it.Key())
		switch it.Key().(type) {
		case *ast.StringNode, *ast.IntegerNode, *ast.BoolNode, *ast.FloatNode:
		default:
			l.problem(path, at, "YAML merge keys and complex keys are not supported", "write each setting as name: value")
			continue
		}
		if before, twice := first[name]; twice {
			l.problem(join(path, shortened(name)), at, fmt.Sprintf("is given twice, first in line %d", before.line), "remove one of the two")
			continue
		}
		first[name] = at
		all = append(all, entry{name, at, it.Value()})
	}
	return all
}

// unknownKey records a name that f does not have, and the one that is meant:
// the nearest in the same place, or the same one from another place.
func (l *loader) unknownKey(path string, f *field, e entry) {
	remedy := "the settings here are: " + strings.Join(f.names(), ", ")
	if near := nearest(e.name, f.names()); near != "" {
		remedy = fmt.Sprintf("did you mean %s?", near)
		l.spoil(join(path, near)) // "is required" would say the same again
	} else if place := elsewhere(l.root, e.name); place != "" {
		remedy = fmt.Sprintf("did you mean %s?", place)
	}
	l.problem(join(path, shortened(e.name)), e.at, "is not a setting", remedy)
}

// elsewhere returns the full name of a setting whose last part is name.
func elsewhere(root *field, name string) string {
	for _, lf := range leaves(root) {
		if lf.path != name && lf.field.name == name {
			return lf.path
		}
	}
	return ""
}

// shortened cuts a name that is too long for a message.
func shortened(name string) string {
	if len(name) > maxShown {
		return name[:maxShown] + "…"
	}
	return name
}

// join returns the name of a setting below path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
