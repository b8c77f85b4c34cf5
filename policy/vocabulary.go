package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
)

// A vocabulary is what a condition may be made of. It turns what CEL says about
// a flawed one into a sentence with the place and the name that was meant.
type vocabulary struct {
	fields    map[string][]string // of user, request and session
	functions []string            // without operators
}

func (v *vocabulary) addName(name string) {
	root, field, _ := strings.Cut(name, ".")
	if v.fields == nil {
		v.fields = map[string][]string{}
	}
	v.fields[root] = append(v.fields[root], field)
	slices.Sort(v.fields[root])
}

func (v *vocabulary) addFunction(name string) {
	if !strings.ContainsAny(name, "_@!.-") {
		v.functions = append(v.functions, name)
		slices.Sort(v.functions)
	}
}

// check returns what is wrong with the names in a parsed expression, "" if
// nothing. CEL would say "undeclared reference to 'user'" for all of it.
func (v *vocabulary) check(text string, parsed *celast.AST) string {
	var problems []string
	celast.PostOrderVisit(parsed.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if problem := v.problem(e); problem != "" {
			problems = append(problems, pointed(text, start(parsed.SourceInfo(), e), problem))
		}
	}))
	if bare := v.bare(text, parsed); len(problems) == 0 && bare != "" {
		return bare
	}
	return strings.Join(problems, "\n")
}

// problem returns what is wrong with one part of an expression.
func (v *vocabulary) problem(e celast.Expr) string {
	switch e.Kind() {
	case celast.SelectKind:
		return v.selectProblem(e.AsSelect())
	case celast.CallKind:
		return v.callProblem(e.AsCall())
	case celast.ComprehensionKind:
		if name := e.AsComprehension().IterVar(); v.fields[name] != nil {
			return fmt.Sprintf("calls its own variable %s; give it another name", name)
		}
	}
	return ""
}

func (v *vocabulary) selectProblem(s celast.SelectExpr) string {
	if s.Operand().Kind() != celast.IdentKind {
		return ""
	}
	root, field := s.Operand().AsIdent(), s.FieldName()
	fields := v.fields[root]
	switch {
	case fields == nil:
		return ""
	case slices.Contains(fields, field) && s.IsTestOnly():
		return fmt.Sprintf("%s.%s is always there; has() is for claims, as in has(user.claims.department)", root, field)
	case slices.Contains(fields, field):
		return ""
	}
	remedy := fmt.Sprintf("it has %s", strings.Join(fields, ", "))
	if near := nearest(field, fields); near != "" {
		remedy = fmt.Sprintf("did you mean %s.%s?", root, near)
	} else if root == "user" {
		remedy += fmt.Sprintf("; a claim is user.claims.%s", field)
	}
	return fmt.Sprintf("%s has no %s; %s", root, field, remedy)
}

// callProblem refuses what a condition must not do: a pattern that comes from
// data may be made to be slow, and the names of time zones are read from disk.
func (v *vocabulary) callProblem(call celast.CallExpr) string {
	name, args := call.FunctionName(), call.Args()
	if name == overloads.Matches && len(args) > 0 && args[len(args)-1].Kind() != celast.LiteralKind {
		return "takes the pattern of matches from data; write it out"
	}
	zoned := strings.HasPrefix(name, "get") && call.IsMemberFunction() && len(args) == 1
	if zoned && (args[0].Kind() != celast.LiteralKind || !isOffset(args[0].AsLiteral().Value())) {
		return `names a time zone; write its offset, like "+02:00"`
	}
	return ""
}

var offset = regexp.MustCompile(`^[+-]?[0-9]{2}:[0-9]{2}$`)

func isOffset(value any) bool {
	text, ok := value.(string)
	return ok && (text == "UTC" || offset.MatchString(text))
}

// bare returns what is wrong where user, request or session stands alone.
func (v *vocabulary) bare(text string, parsed *celast.AST) string {
	selected := map[int64]bool{}
	var problem string
	celast.PreOrderVisit(parsed.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		switch e.Kind() {
		case celast.SelectKind:
			selected[e.AsSelect().Operand().ID()] = true
		case celast.IdentKind:
			if fields := v.fields[e.AsIdent()]; fields != nil && !selected[e.ID()] && problem == "" {
				problem = pointed(text, start(parsed.SourceInfo(), e),
					fmt.Sprintf("%s is no value of its own; write %s. and one of %s", e.AsIdent(), e.AsIdent(), strings.Join(fields, ", ")))
			}
		}
	}))
	return problem
}

// start returns where e begins: CEL has the dot of a selection.
func start(info *celast.SourceInfo, e celast.Expr) common.Location {
	for e.Kind() == celast.SelectKind {
		e = e.AsSelect().Operand()
	}
	return info.GetStartLocation(e.ID())
}

var undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)

// describe returns the issues of CEL as sentences.
func (v *vocabulary) describe(text string, issues *cel.Issues) string {
	var problems []string
	for _, e := range issues.Errors() {
		message := strings.TrimPrefix(e.Message, "Syntax error: ")
		at := e.Location
		if m := undeclared.FindStringSubmatch(message); m != nil {
			message = v.unknown(m[1])
			// The place is that of the last dot.
			at = common.NewLocation(at.Line(), max(0, at.Column()-max(0, strings.LastIndexByte(m[1], '.'))))
		}
		problems = append(problems, pointed(text, at, v.plain(message)))
	}
	return strings.Join(problems, "\n")
}

// plain leaves out of message what is about the workings of CEL.
func (v *vocabulary) plain(message string) string {
	message, _, _ = strings.Cut(message, " expecting ")
	message = strings.ReplaceAll(message, "mismatched input '<EOF>'", "the expression is not finished")
	for name, operator := range map[string]string{
		operators.Equals: "==", operators.NotEquals: "!=", operators.LogicalAnd: "&&", operators.LogicalOr: "||", operators.LogicalNot: "!", operators.Add: "+", operators.Less: "<", operators.LessEquals: "<=", operators.Greater: ">", operators.GreaterEquals: ">=", operators.In: "in",
	} {
		message = strings.ReplaceAll(message, "'"+name+"'", "'"+operator+"'")
	}
	return message
}

// unknown returns what to say about a name that is none.
func (v *vocabulary) unknown(name string) string {
	var all []string
	for root := range v.fields {
		all = append(all, root)
	}
	slices.Sort(all)
	first, rest, selects := strings.Cut(name, ".")
	if near := nearest(first, append(slices.Clone(all), v.functions...)); near != "" {
		if selects {
			near += "." + rest
		}
		return fmt.Sprintf("%s is unknown; did you mean %s?", name, near)
	}
	return fmt.Sprintf("%s is unknown; there are %s, and the functions of CEL", name, strings.Join(all, ", "))
}

// pointed returns message with its place in text: line and column, both from 1,
// and the line with a caret.
func pointed(text string, at common.Location, message string) string {
	lines := strings.Split(text, "\n")
	i := min(max(at.Line()-1, 0), len(lines)-1)
	line := []rune(strings.TrimRight(lines[i], "\r"))
	column := min(max(at.Column(), 0), len(line))
	from := max(0, column-60) // a long line is cut, so that the caret is seen
	until := min(len(line), column+40)
	return fmt.Sprintf("%d:%d: %s\n  %s\n  %s^", i+1, column+1, message, string(line[from:until]), strings.Repeat(" ", column-from))
}

// nearest returns the one of names that name is a slip of, "" if none is.
func nearest(name string, names []string) string {
	best, least := "", max(len(name)/3, 1)+1
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance counts the letters to insert, remove, replace or swap with their
// neighbor to make b of a.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			differs := 1
			if a[i-1] == b[j-1] {
				differs = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+differs)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
