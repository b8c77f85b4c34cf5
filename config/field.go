package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// kind is how a setting is written and read.
type kind int

const (
	kindString kind = iota
	kindBool
	kindInt
	kindDuration
	kindURL
	kindPrefix // an address or a network
	kindKey    // bytes in base64
	kindList
	kindDict  // a mapping with names of the operator's choice
	kindGroup // a mapping with settings of ours
)

// field is what the tags of one struct field say.
type field struct {
	name      string
	doc       string
	def       string
	derived   string
	example   string
	enum      []string
	flag      string
	types     []string
	shorthand string
	entry     string // of a list or dict: the shorthand of its entries
	like      string // of a list in a group, whose entries are such groups: where the schema describes it
	secret    bool
	secretURL bool // only if it holds a password
	nonempty  bool
	required  bool

	index  int // in the struct that holds it
	kind   kind
	typ    reflect.Type // without a group's pointer
	ptr    bool         // a group behind a pointer
	elem   *field       // of a list or dict
	fields []*field     // of a group
}

// scalar reports whether the value is one piece of text.
func (f *field) scalar() bool { return f.kind < kindList }

// textual reports whether the value can be given in the environment and in
// flags: one piece of text, or a list or mapping of such.
func (f *field) textual() bool {
	return f.scalar() || f.kind != kindGroup && f.elem.scalar()
}

// child returns the group's field of that name, or nil.
func (f *field) child(name string) *field {
	for _, c := range f.fields {
		if c.name == name {
			return c
		}
	}
	return nil
}

// names returns the names of the group's fields.
func (f *field) names() []string {
	var names []string
	for _, c := range f.fields {
		names = append(names, c.name)
	}
	return names
}

// settings returns the tree of all settings.
func settings() *field {
	return newField(reflect.TypeFor[Config](), reflect.StructField{})
}

// newField describes a value of type t with the tags of sf. It panics on a type
// that no setting has, which the first test to run finds.
func newField(t reflect.Type, sf reflect.StructField) *field {
	tag := sf.Tag.Get
	f := &field{
		name: tag("yaml"), doc: tag("doc"), def: tag("default"), derived: tag("derived"),
		example: tag("example"), flag: tag("flag"), shorthand: tag("shorthand"), entry: tag("entry"), like: tag("like"),
		secret: tag("secret") != "", secretURL: tag("secret") == "url", nonempty: tag("nonempty") != "", required: tag("required") != "",
		typ: t,
	}
	if enum := tag("enum"); enum != "" {
		f.enum = strings.Split(enum, ",")
	}
	if types := tag("types"); types != "" {
		f.types = strings.Split(types, ",")
	}
	if sf.Index != nil {
		f.index = sf.Index[0]
	}
	f.setKind()
	return f
}

// setKind derives the kind, and what is below, from the type.
func (f *field) setKind() {
	switch f.typ {
	case reflect.TypeFor[time.Duration]():
		f.kind = kindDuration
		return
	case reflect.TypeFor[*url.URL]():
		f.kind = kindURL
		return
	case reflect.TypeFor[netip.Prefix]():
		f.kind = kindPrefix
		return
	case reflect.TypeFor[[]byte]():
		f.kind = kindKey
		return
	}
	switch f.typ.Kind() {
	case reflect.String:
		f.kind = kindString
	case reflect.Bool:
		f.kind = kindBool
	case reflect.Int:
		f.kind = kindInt
	case reflect.Slice:
		f.kind = kindList
		if f.like == "" { // else group sets it
			f.elem = f.newElem()
		}
	case reflect.Map:
		f.kind, f.elem = kindDict, f.newElem()
	case reflect.Pointer:
		f.ptr, f.typ = true, f.typ.Elem()
		f.setGroup()
	case reflect.Struct:
		f.setGroup()
	default:
		panic(fmt.Sprintf("config: no setting can be a %v", f.typ))
	}
}

// setGroup describes what is below a group. A list of further such groups is
// described by the group itself, so that they can stand in each other.
func (f *field) setGroup() {
	f.kind, f.fields = kindGroup, structFields(f.typ)
	for _, c := range f.fields {
		if c.like != "" {
			c.elem = &field{kind: kindGroup, typ: f.typ, fields: f.fields}
		}
	}
}

// newElem describes an element of the list or dict f. What the tags say about
// values holds for each of them.
func (f *field) newElem() *field {
	elem := newField(f.typ.Elem(), reflect.StructField{})
	elem.enum, elem.secret, elem.shorthand = f.enum, f.secret, f.entry
	return elem
}

// structFields describes the settings in a struct, in their order.
func structFields(t reflect.Type) []*field {
	var fields []*field
	for sf := range t.Fields() {
		if sf.Tag.Get("yaml") != "-" {
			fields = append(fields, newField(sf.Type, sf))
		}
	}
	return fields
}

// leaf is a setting with its full name, as it is used outside of the file.
type leaf struct {
	path  string   // its name: session.max_age
	key   string   // the same for all names of one setting: upstream is upstream.url
	field *field   // what it is
	chain []*field // the way from the root to it
}

// env returns the name of the leaf's environment variable.
func (lf leaf) env() string { return envName(lf.path) }

// envName returns the environment variable of a setting.
func envName(path string) string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(path))
}

// leaves returns the settings in the group f and in the groups below it.
func leaves(f *field) []leaf {
	var all []leaf
	for _, c := range f.fields {
		if c.kind != kindGroup {
			all = append(all, leaf{c.name, c.name, c, []*field{c}})
			continue
		}
		if s := c.child(c.shorthand); s != nil {
			all = append(all, leaf{c.name, c.name + "." + s.name, s, []*field{c, s}})
		}
		for _, lf := range leaves(c) {
			chain := append([]*field{c}, lf.chain...)
			all = append(all, leaf{c.name + "." + lf.path, c.name + "." + lf.key, lf.field, chain})
		}
	}
	return all
}

// value returns the leaf's place in the struct base, and makes the groups on
// the way to it.
func (l *loader) value(base reflect.Value, lf leaf) reflect.Value {
	for _, f := range lf.chain {
		base = l.open(f, base.Field(f.index))
	}
	return base
}

// open returns the struct behind a group's pointer, made with its defaults when
// there is none yet, and anything else as it is.
func (l *loader) open(f *field, v reflect.Value) reflect.Value {
	if !f.ptr {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(f.typ))
		l.setDefaults(f, v.Elem())
	}
	return v.Elem()
}

// setDefaults fills the group f with its defaults.
func (l *loader) setDefaults(f *field, v reflect.Value) {
	for _, c := range f.fields {
		switch {
		case c.kind == kindGroup && !c.ptr:
			l.setDefaults(c, v.Field(c.index))
		case c.def != "":
			l.setText(c.name, c, v.Field(c.index), c.def, origin{})
		}
	}
}
