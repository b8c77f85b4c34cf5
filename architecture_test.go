// Package authproxy_test holds the tree to its own rules: which package may
// import which, and what every file owes its reader.
package authproxy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// module is the path that ours begin with.
const module = "authproxy"

// everything stands for all packages of the module.
const everything = "*"

// imports says which of our packages each package may import. It is the
// architecture: arrows point down, and whatever is on the ground floor imports
// none of ours. Test files may import what they like.
func imports() map[string][]string {
	return map[string][]string{
		"cookie":           {},
		"oauth":            {},
		"token":            {},
		"policy":           {},
		"page":             {},
		"config":           {},
		"devidp":           {},
		"devidp/legacyapp": {},

		// What tests share; only test files import it.
		"policy/policytest":         {"policy"},
		"session/storetest/servers": {},

		"session":            {"cookie"},
		"session/memstore":   {"session"},
		"session/redisstore": {"session"},
		"session/storetest":  {"session", "cookie"},
		"session/sqlstore":   {"session"},
		"identity":           {"session", "policy", "token"},

		// Side by side: neither knows the other.
		"web":   {"cookie", "identity", "oauth", "page", "policy", "session", "token"},
		"proxy": {"identity", "page", "policy", "session", "cookie"},

		// Whole programs: the binary, and what measures it.
		"cmd/authproxy": {everything},
		"bench":         {everything},
	}
}

// A goPackage is what the go command says about one package.
type goPackage struct {
	ImportPath string
	Name       string
	GoFiles    []string
	Imports    []string
}

func TestImportsPointDown(t *testing.T) {
	for _, problem := range importProblems(imports(), listPackages(t)) {
		t.Error(problem)
	}
}

func TestPackagesAreNamedForWhatTheyProvide(t *testing.T) {
	for _, problem := range nameProblems(listPackages(t)) {
		t.Error(problem)
	}
}

func TestTheSourceKeepsTheRules(t *testing.T) {
	docs := packageDocs{}
	for _, path := range sourceFiles(t) {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range sourceProblems(t, path, string(source), docs) {
			t.Error(problem)
		}
	}
	for _, problem := range docs.problems() {
		t.Error(problem)
	}
}

// listPackages returns the packages of the module.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Name,GoFiles,Imports", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 2 {
		t.Fatalf("go list found %d packages; the test must run in the root of the module", len(packages))
	}
	return packages
}

// importProblems returns a sentence for each package that the table does not
// know and for each import that it does not allow. A package of tests only
// needs no row.
func importProblems(table map[string][]string, packages []goPackage) []string {
	var problems []string
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		allowed, known := table[name]
		if !known && len(p.GoFiles) > 0 {
			problems = append(problems, fmt.Sprintf("package %s is not in the table of architecture_test.go: add a row with what it may import, and say in CONTRIBUTING.md what it is for", name))
			continue
		}
		for _, path := range p.Imports {
			imported, ours := strings.CutPrefix(path, module+"/")
			if ours && !slices.Contains(allowed, imported) && !slices.Contains(allowed, everything) {
				problems = append(problems, fmt.Sprintf("package %s imports %s, which is not below it: move what it needs down, or pass it in as a value", name, imported))
			}
		}
	}
	return problems
}

// nameProblems returns a sentence for each package whose name says nothing.
func nameProblems(packages []goPackage) []string {
	empty := []string{"utils", "common", "handlers", "services", "models", "pkg"}
	var problems []string
	for _, p := range packages {
		for _, name := range append(strings.Split(p.ImportPath, "/"), p.Name) {
			if slices.Contains(empty, name) {
				problems = append(problems, fmt.Sprintf("package %s: %q says nothing; name it for what it provides", p.ImportPath, name))
				break
			}
		}
	}
	return problems
}

// sourceFiles returns the Go files of the module that are not tests, for all
// platforms.
func sourceFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && notOurs(path, entry.Name()):
			return filepath.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("there is no Go file here; the test must run in the root of the module")
	}
	return files
}

// notOurs reports whether the go command skips a directory, too: hidden ones,
// testdata, what npm put there, and other modules.
func notOurs(path, name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules" {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}

// packageDocs says which directories have a package comment.
type packageDocs map[string]bool

func (d packageDocs) problems() []string {
	var problems []string
	for dir, documented := range d {
		if !documented {
			problems = append(problems, dir+": no package comment; say what the package is for and what it promises")
		}
	}
	slices.Sort(problems)
	return problems
}

// maxLines is the length of a function, in lines, that still fits one look.
const maxLines = 80

// sourceProblems returns a sentence for each declaration of a file that breaks
// a rule, and notes in docs whether the file has a package comment.
func sourceProblems(t *testing.T, path, source string, docs packageDocs) []string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	docs[dir] = docs[dir] || hasText(file.Doc)

	var problems []string
	add := func(node ast.Node, format string, args ...any) {
		at := fset.Position(node.Pos())
		problems = append(problems, fmt.Sprintf("%s:%d: %s", at.Filename, at.Line, fmt.Sprintf(format, args...)))
	}
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if lines := fset.Position(decl.End()).Line - fset.Position(decl.Pos()).Line + 1; lines > maxLines {
				add(decl, "%s has %d lines, at most %d are read at one look: name its steps", decl.Name.Name, lines, maxLines)
			}
			if decl.Recv == nil && decl.Name.Name == "init" {
				add(decl, "func init runs behind the reader's back: call it from main")
			}
			if exported(decl) && !hasText(decl.Doc) {
				add(decl, "%s is exported and has no doc comment", decl.Name.Name)
			}
		case *ast.GenDecl:
			for _, name := range undocumented(decl) {
				add(name, "%s is exported and has no doc comment", name.Name)
			}
		}
	}
	return problems
}

// exported reports whether other packages can call a function: a method only
// counts if its type does.
func exported(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return f.Name.IsExported()
	}
	receiver := f.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	switch generic := receiver.(type) {
	case *ast.IndexExpr:
		receiver = generic.X
	case *ast.IndexListExpr:
		receiver = generic.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported() && f.Name.IsExported()
}

// undocumented returns the exported names of a declaration that neither they
// nor their group explains.
func undocumented(decl *ast.GenDecl) []*ast.Ident {
	var names []*ast.Ident
	for _, spec := range decl.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && !hasText(spec.Doc) && !hasText(decl.Doc) {
				names = append(names, spec.Name)
			}
		case *ast.ValueSpec:
			if hasText(spec.Doc) || hasText(spec.Comment) || hasText(decl.Doc) {
				continue
			}
			names = append(names, slices.DeleteFunc(slices.Clone(spec.Names), func(n *ast.Ident) bool { return !n.IsExported() })...)
		}
	}
	return names
}

func hasText(doc *ast.CommentGroup) bool { return doc != nil && strings.TrimSpace(doc.Text()) != "" }

// What follows shows the checks something that is wrong, because a check that
// never refused anything may not be able to.

func TestImportsThatDoNotPointDownAreRefused(t *testing.T) {
	source := []string{"x.go"}
	tests := []struct {
		name string
		pkg  goPackage
		want string
	}{
		{"standard library and dependencies", goPackage{"authproxy/cookie", "cookie", source, []string{"net/http", "github.com/x/web"}}, ""},
		{"one floor down", goPackage{"authproxy/session", "session", source, []string{"authproxy/cookie"}}, ""},
		{"ground floor", goPackage{"authproxy/policy", "policy", source, []string{"authproxy/token"}}, "policy imports token"},
		{"up", goPackage{"authproxy/session", "session", source, []string{"authproxy/web"}}, "session imports web"},
		{"web to proxy", goPackage{"authproxy/web", "web", source, []string{"authproxy/proxy"}}, "web imports proxy"},
		{"proxy to web", goPackage{"authproxy/proxy", "proxy", source, []string{"authproxy/web"}}, "proxy imports web"},
		{"config from a package", goPackage{"authproxy/proxy", "proxy", source, []string{"authproxy/config"}}, "proxy imports config"},
		{"devidp from a package", goPackage{"authproxy/web", "web", source, []string{"authproxy/devidp"}}, "web imports devidp"},
		{"below a package that is allowed", goPackage{"authproxy/session", "session", source, []string{"authproxy/cookie/jar"}}, "session imports cookie/jar"},
		{"the command", goPackage{"authproxy/cmd/authproxy", "main", source, []string{"authproxy/config", "authproxy/devidp", "authproxy/web"}}, ""},
		{"new package", goPackage{"authproxy/novel", "novel", source, nil}, "novel is not in the table"},
		{"new package of tests only", goPackage{"authproxy/e2e", "e2e", nil, nil}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expectOne(t, importProblems(imports(), []goPackage{tt.pkg}), tt.want)
		})
	}
}

func TestNamesThatSayNothingAreRefused(t *testing.T) {
	tests := []struct{ name, path, pkg, want string }{
		{"a name that says something", "authproxy/cookie", "cookie", ""},
		{"as the last element", "authproxy/cookie/utils", "utils", `"utils" says nothing`},
		{"as a directory", "authproxy/pkg/cookie", "cookie", `"pkg" says nothing`},
		{"as the name in the clause", "authproxy/cookie", "common", `"common" says nothing`},
		{"as a part of a word", "authproxy/commonmark", "commonmark", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expectOne(t, nameProblems([]goPackage{{ImportPath: tt.path, Name: tt.pkg}}), tt.want)
		})
	}
}

func TestSourceThatBreaksARuleIsRefused(t *testing.T) {
	body := func(lines int) string { return "func f() {\n" + strings.Repeat("\t_ = 0\n", lines-2) + "}\n" }
	tests := []struct{ name, source, want string }{
		{"80 lines", body(80), ""},
		{"81 lines", body(81), "f has 81 lines"},
		{"81 lines in a method", "type t int\n" + strings.Replace(body(81), "f()", "(t) f()", 1), "f has 81 lines"},
		{"func init", "func init() {}", "func init runs"},
		{"a method named init", "type t int\nfunc (t) init() {}", ""},
		{"exported function without doc", "func F() {}", "F is exported"},
		{"exported function with doc", "// F does it.\nfunc F() {}", ""},
		{"a directive is no doc", "//go:noinline\nfunc F() {}", "F is exported"},
		{"exported method without doc", "// T is it.\ntype T int\nfunc (*T) M() {}", "M is exported"},
		{"exported method of a generic type without doc", "// T is it.\ntype T[K any] struct{}\nfunc (*T[K]) M() {}", "M is exported"},
		{"exported method of a type that is not", "type t int\nfunc (t) M() {}", ""},
		{"exported type without doc", "type T int", "T is exported"},
		{"exported variable without doc", "var a, V int", "V is exported"},
		{"exported constant without doc", "const C = 1", "C is exported"},
		{"constants under one comment", "// What there is.\nconst (\n\tA = 1\n\tB = 2\n)", ""},
		{"a constant with a comment behind it", "const (\n\tA = 1 // the first\n)", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			expectOne(t, sourceProblems(t, "x.go", "// Package p is.\npackage p\n\n"+tt.source, packageDocs{}), tt.want)
		})
	}
}

func TestAPackageWithoutACommentIsRefused(t *testing.T) {
	docs := packageDocs{}
	sourceProblems(t, "silent/a.go", "package silent", docs)
	sourceProblems(t, "told/a.go", "package told", docs)
	sourceProblems(t, "told/b.go", "// Package told is explained in one of its files.\npackage told", docs)
	expectOne(t, docs.problems(), "silent: no package comment")
}

// expectOne fails unless there is one problem that contains want, or none if
// want is empty.
func expectOne(t *testing.T, problems []string, want string) {
	t.Helper()
	switch {
	case want == "":
		if diff := cmp.Diff([]string(nil), problems); diff != "" {
			t.Errorf("problems (-want +got):\n%s", diff)
		}
	case len(problems) != 1 || !strings.Contains(problems[0], want):
		t.Errorf("got %q, want one problem with %q", problems, want)
	}
}
