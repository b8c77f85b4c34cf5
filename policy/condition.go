package policy

import (
	"errors"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Limits of a condition. maxCost is in CEL's units, each some ten nanoseconds:
// a comparison of two short texts is one or two.
const (
	maxConditionBytes = 4096
	maxConditionDepth = 50
	maxCost           = 100_000

	// What the estimate at load takes for granted: no text is longer and no list
	// or mapping has more entries. Where one does, the limit at run time holds.
	sizeOfText = 256
	sizeOfList = 256
)

const (
	reasonWhen      = "the rule's condition does not hold for this request"
	reasonWhenKey   = "the rule's condition reads a claim that is not there, so it cannot be evaluated"
	reasonWhenCost  = "the rule's condition takes too long to evaluate for this request"
	reasonWhenError = "the rule's condition cannot be evaluated for this request"
)

// names are what a condition can read, with their types.
func names() map[string]*cel.Type {
	text, texts := cel.StringType, cel.ListType(cel.StringType)
	return map[string]*cel.Type{
		"user.id": text, "user.email": text, "user.email_verified": cel.BoolType, "user.name": text,
		"user.groups": texts, "user.roles": texts, "user.provider": text, "user.claims": cel.MapType(text, cel.DynType),
		"request.method": text, "request.host": text, "request.path": text, "request.client_ip": text, "request.time": cel.TimestampType,
		"session.auth_time": cel.TimestampType, "session.acr": text, "session.amr": texts,
	}
}

// A condition is a compiled CEL expression. It may be used from several
// goroutines.
type condition struct {
	program cel.Program
	reads   named // of the request
}

// conditions compiles CEL expressions.
type conditions struct {
	env   *cel.Env
	known vocabulary
}

func newConditions() (*conditions, error) {
	options := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserRecursionLimit(maxConditionDepth),
		cel.ParserExpressionSizeLimit(maxConditionBytes),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()),
	}
	known := vocabulary{}
	for name, typ := range names() {
		options = append(options, cel.Variable(name, typ))
		known.addName(name)
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, err
	}
	for name := range env.Functions() {
		known.addFunction(name)
	}
	return &conditions{env: env, known: known}, nil
}

// condition compiles the CEL expression text and reports what is wrong with it.
func (c *compiler) condition(field, text string) *condition {
	if c.conditions == nil {
		made, err := newConditions()
		if err != nil {
			c.report(field, "cannot be compiled: "+err.Error())
			return nil
		}
		c.conditions = made
	}
	compiled, problem := c.conditions.compile(text)
	c.report(field, problem)
	if compiled != nil {
		c.named = c.named.or(compiled.reads)
	}
	return compiled
}

// compile returns the condition, or what is wrong with text.
func (c *conditions) compile(text string) (compiled *condition, problem string) {
	if len(text) > maxConditionBytes {
		return nil, "is longer than 4096 bytes; write several rules"
	}
	parsed, issues := c.env.Parse(text)
	if issues.Err() != nil {
		return nil, c.known.describe(text, issues)
	}
	if problem := c.known.check(text, parsed.NativeRep()); problem != "" {
		return nil, problem
	}
	checked, issues := c.env.Check(parsed)
	if issues.Err() != nil {
		return nil, c.known.describe(text, issues)
	}
	if checked.OutputType() != cel.BoolType {
		return nil, "is " + checked.OutputType().String() + ", but must be true or false; compare it with something, as in user.provider == \"corp\""
	}
	if problem := c.costProblem(checked); problem != "" {
		return nil, problem
	}
	program, err := c.env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, "cannot be compiled: " + err.Error()
	}
	return &condition{program, readsOf(checked)}, ""
}

// readsOf returns what of the request an expression reads, wherever in it. There
// is no value that is the request as a whole, so that nothing is read unseen.
func readsOf(checked *cel.Ast) named {
	var n named
	for _, reference := range checked.NativeRep().ReferenceMap() {
		switch reference.Name {
		case "request.host":
			n.host = true
		case "request.path":
			n.path = true
		case "request.method":
			n.method = true
		case "request.client_ip":
			n.client = true
		}
	}
	return n
}

func (c *conditions) costProblem(checked *cel.Ast) string {
	estimate, err := c.env.EstimateCost(checked, sizes{})
	switch {
	case err != nil:
		return "has a cost that cannot be estimated: " + err.Error()
	case estimate.Max > maxCost:
		return "could take too long: loops within loops over lists; write it with fewer, or with groups, roles and claims"
	}
	return ""
}

// sizes are what the estimate at load takes for granted.
type sizes struct{}

// EstimateSize returns the size of what a condition reads.
func (sizes) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	limit := uint64(sizeOfText)
	switch node.Type().Kind() {
	case types.ListKind, types.MapKind:
		limit = sizeOfList
	case types.StringKind, types.BytesKind, types.DynKind, types.AnyKind:
	default:
		return nil
	}
	return &cost.SizeEstimate{Min: 0, Max: limit}
}

// EstimateCallCost leaves the cost of functions to what CEL says it is.
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// unmet returns why t is not let through, "" if it is. It says nothing of what
// the condition saw: a claim that is missing may be somebody's secret.
func (c *condition) unmet(t *target, p *Principal) string {
	value, _, err := c.program.Eval(&scope{t: *t, p: p}) // a copy, so that only this case allocates
	if err != nil {
		return whenReason(err)
	}
	if value == types.True {
		return ""
	}
	return reasonWhen
}

// whenReason returns the sentence for an error of CEL, whose own text may show
// data.
func whenReason(err error) string {
	if tooMuch := (cost.LimitExceededError{}); errors.As(err, &tooMuch) || strings.Contains(err.Error(), "cost limit exceeded") {
		return reasonWhenCost
	}
	if strings.HasPrefix(err.Error(), "no such key") {
		return reasonWhenKey
	}
	return reasonWhenError
}

// A scope is what one evaluation sees. It is a [cel.Activation].
type scope struct {
	t target
	p *Principal
}

// Parent returns nil: there is nothing beyond.
func (s *scope) Parent() cel.Activation { return nil }

// ResolveName returns the value of a name of names.
func (s *scope) ResolveName(name string) (any, bool) {
	switch name {
	case "user.id":
		return text(s.p.ID)
	case "user.email":
		// In lower case: `!user.email.endsWith("@contractor.example")` must not
		// be passed by who writes it in capitals.
		return text(strings.ToLower(s.p.Email))
	case "user.email_verified":
		return types.Bool(s.p.Email != ""), true // no other address gets here
	case "user.name":
		return text(s.p.Name)
	case "user.groups":
		return s.p.Groups, true
	case "user.roles":
		return s.p.Roles, true
	case "user.provider":
		return text(s.p.Provider)
	case "user.claims":
		return s.p.Claims, true
	case "session.auth_time":
		return types.Timestamp{Time: s.p.AuthTime}, true
	case "session.acr":
		return text(s.p.ACR)
	case "session.amr":
		return s.p.AMR, true
	}
	return s.ofRequest(name)
}

func (s *scope) ofRequest(name string) (any, bool) {
	switch name {
	case "request.method":
		return text(s.t.method)
	case "request.host":
		if s.t.host.addr.IsValid() {
			return text("[" + s.t.host.addr.String() + "]")
		}
		return text(s.t.host.name)
	case "request.path":
		return text(s.t.path)
	case "request.client_ip":
		if !s.t.client.IsValid() {
			return text("")
		}
		return text(s.t.client.String())
	case "request.time":
		return types.Timestamp{Time: s.t.now}, true
	}
	return nil, false
}

func text(s string) (any, bool) { return ref.Val(types.String(s)), true }
