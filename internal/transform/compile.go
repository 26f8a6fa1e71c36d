package transform

import (
	"strings"

	"github.com/expr-lang/expr/ast"
)

// maxCost is how many nodes an expression can have, with those counted again that are in its tree again.
const maxCost = 100_000

// eval gives the value of a node for one row.
type eval func(*run) value

// compiled is a node that is understood.
type compiled struct {
	shape
	eval eval
	// cost is how many nodes one evaluation goes through; loops count their own.
	cost int
}

// compiler turns a syntax tree into functions that call each other.
type compiler struct {
	p      *Program
	source []rune
	record shape
	used   []bool
	// vars are the variables of let around the node, loops what its loops go through.
	vars  []variable
	loops []loop
	// done are nodes that were compiled before: those between two comparisons, a < b < c, are in the tree twice.
	done map[any]compiled
	// deep is how many nodes are around the one that is compiled.
	deep int
}

type variable struct {
	name string
	compiled
	slot int
}

type loop struct {
	item, acc shape
	reduce    bool
}

func (c *compiler) fail(n ast.Node, format string, args ...any) {
	failf(n.Location().From, format, args...)
}

func (c *compiler) compile(n ast.Node) compiled {
	if d, ok := c.done[n]; ok {
		return d
	}
	if c.deep++; c.deep > maxDepth {
		c.fail(n, "the expression is nested deeper than %d", maxDepth)
	}
	d := c.node(n)
	c.deep--
	d.cost++
	// What stands between two comparisons, a < b < c, is in the tree twice, and what stands inside of it four times.
	if d.cost > maxCost {
		c.fail(n, "the expression is too large")
	}
	c.done[n] = d
	return d
}

func constant(v value) compiled {
	return compiled{shape: of(v.kind), eval: func(*run) value { return v }}
}

func (c *compiler) node(n ast.Node) compiled {
	switch n := n.(type) {
	case *ast.NilNode:
		return constant(value{})
	case *ast.BoolNode:
		return constant(boolValue(n.Value))
	case *ast.IntegerNode:
		return constant(intValue(int64(n.Value)))
	case *ast.FloatNode:
		return c.literal(n)
	case *ast.StringNode:
		return constant(textValue(n.Value))
	case *ast.BytesNode:
		return constant(value{kind: binary, str: string(n.Value)})
	case *ast.IdentifierNode:
		return c.identifier(n)
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.ChainNode:
		return c.chain(n)
	case *ast.MemberNode:
		return c.member(n)
	case *ast.SliceNode:
		return c.slice(n)
	case *ast.CallNode:
		return c.call(n)
	case *ast.BuiltinNode:
		return c.function(n, n.Name, n.Arguments)
	case *ast.PointerNode:
		return c.pointer(n)
	case *ast.ConditionalNode:
		return c.conditional(n)
	case *ast.VariableDeclaratorNode:
		return c.let(n)
	case *ast.ArrayNode:
		return c.array(n)
	case *ast.MapNode:
		return c.object(n)
	case *ast.SequenceNode:
		c.fail(n, "an expression is one value, not several behind each other; name parts of it with let name = …;")
	}
	c.fail(n, "this cannot stand here")
	return compiled{}
}

// literal is a number with a point or an exponent, as it is written and not as a float would have it.
func (c *compiler) literal(n *ast.FloatNode) compiled {
	at := n.Location()
	written := strings.ReplaceAll(string(c.source[min(at.From, len(c.source)):min(at.To, len(c.source))]), "_", "")
	if v, ok := shortDecimal(written); ok {
		return constant(v)
	}
	return constant(decimalValue(parseDecimal(at.From, written)))
}

func (c *compiler) identifier(n *ast.IdentifierNode) compiled {
	for i := len(c.vars) - 1; i >= 0; i-- {
		if v := c.vars[i]; v.name == n.Value {
			return compiled{shape: v.shape, eval: func(r *run) value { return r.vars[v.slot] }}
		}
	}
	switch n.Value {
	case "record":
		all := make([]int, len(c.p.cells))
		for i := range all {
			all[i] = i
		}
		return c.columns(all)
	case "key":
		return compiled{shape: of(text), eval: func(r *run) value { return textValue(r.key) }}
	case "sink":
		return constant(textValue(c.p.sink))
	case "now":
		c.p.clocked = true
		return compiled{shape: of(instant), eval: func(r *run) value { return value{kind: instant, num: r.now} }}
	}
	if _, ok := c.record.fields[n.Value]; ok {
		c.fail(n, "there is no %q here; the column is record.%s", n.Value, n.Value)
	}
	if _, ok := functions[n.Value]; ok || loops[n.Value] {
		c.fail(n, "%s is a function: call it, %s(…)", n.Value, n.Value)
	}
	known := []string{"record", "key", "sink", "now", "true", "false", "nil"}
	for _, v := range c.vars {
		known = append(known, v.name)
	}
	if n.Value == "null" {
		c.fail(n, "there is no \"null\" here; it is called nil")
	}
	c.fail(n, "there is no %q here%s", n.Value, suggest(n.Value, known, "; there are record, key, sink and now"))
	return compiled{}
}

// columns is a map of these.
func (c *compiler) columns(chosen []int) compiled {
	names := make([]string, len(chosen))
	s := shape{kinds: only(object), fields: make(map[string]shape, len(chosen)), record: true}
	for i, col := range chosen {
		c.used[col] = true
		names[i] = c.p.cells[col].Name()
		s.fields[names[i]] = c.record.fields[names[i]]
	}
	return compiled{shape: s, cost: len(chosen) / 4, eval: func(r *run) value {
		values := r.list(-1, len(chosen))
		for i, col := range chosen {
			values[i] = r.load(col)
		}
		return value{kind: object, ref: &fields{names: names, values: values}}
	}}
}

func (c *compiler) column(i int) compiled {
	c.used[i] = true
	return compiled{shape: shapeOf(c.p.cells[i]), eval: func(r *run) value { return r.load(i) }}
}

func (c *compiler) columnNamed(at ast.Node, name string) int {
	for i := range c.p.cells {
		if c.p.cells[i].Name() == name {
			return i
		}
	}
	c.fail(at, "there is no column %q%s", name, suggest(name, c.record.names(), ""))
	return 0
}

func (c *compiler) isRecord(n ast.Node) bool {
	id, ok := n.(*ast.IdentifierNode)
	return ok && id.Value == "record"
}

func (c *compiler) let(n *ast.VariableDeclaratorNode) compiled {
	switch n.Name {
	case "record", "key", "sink", "now":
		c.fail(n, "%s has its meaning already: choose another name", n.Name)
	}
	for _, v := range c.vars {
		if v.name == n.Name {
			c.fail(n, "%s has a value already: choose another name", n.Name)
		}
	}
	given := c.compile(n.Value)
	slot := len(c.vars)
	c.p.slots = max(c.p.slots, slot+1)
	c.vars = append(c.vars, variable{n.Name, given, slot})
	body := c.compile(n.Expr)
	c.vars = c.vars[:slot]
	return compiled{shape: body.shape, cost: given.cost + body.cost, eval: func(r *run) value {
		// Looked at once, however often it is used.
		r.vars[slot] = given.eval(r)
		return body.eval(r)
	}}
}

func (c *compiler) conditional(n *ast.ConditionalNode) compiled {
	cond := c.compile(n.Cond)
	test := c.truth(n.Cond, cond, "the condition")
	yes, no := c.compile(n.Exp1), c.compile(n.Exp2)
	s := either(yes.shape, no.shape)
	return compiled{shape: s, cost: cond.cost + yes.cost + no.cost, eval: func(r *run) value {
		if test(r) {
			return yes.eval(r)
		}
		return no.eval(r)
	}}
}

func (c *compiler) array(n *ast.ArrayNode) compiled {
	parts := make([]eval, len(n.Nodes))
	element := shape{}
	cost := 0
	for i, node := range n.Nodes {
		d := c.compile(node)
		if i == 0 {
			element = d.shape
		} else {
			element = either(element, d.shape)
		}
		cost += d.cost
		parts[i] = d.eval
	}
	s := of(list)
	if len(parts) > 0 {
		s = listOf(element)
	}
	at := n.Location().From
	return compiled{shape: s, cost: cost, eval: func(r *run) value {
		values := r.list(at, len(parts))
		for i, part := range parts {
			values[i] = part(r)
		}
		return listValue(values)
	}}
}

func (c *compiler) object(n *ast.MapNode) compiled {
	s := shape{kinds: only(object), fields: make(map[string]shape)}
	type pair struct{ name, value eval }
	pairs := make([]pair, len(n.Pairs))
	var names []string
	cost, fixed := 0, true
	for i, p := range n.Pairs {
		p := p.(*ast.PairNode)
		d := c.compile(p.Value)
		cost += d.cost + 1
		pairs[i].value = d.eval
		if name, ok := p.Key.(*ast.StringNode); ok {
			if _, twice := s.fields[name.Value]; twice {
				c.fail(p.Key, "the field %q is there twice", name.Value)
			}
			names = append(names, name.Value)
			if s.fields != nil {
				s.fields[name.Value] = d.shape
			}
			pairs[i].name = constant(textValue(name.Value)).eval
			continue
		}
		fixed = false
		k := c.compile(p.Key)
		cost += k.cost
		pairs[i].name = c.take(p.Key, k, "the name of a field", only(text))
	}
	at := n.Location().From
	if !fixed {
		s.fields = nil
		return compiled{shape: s, cost: cost, eval: func(r *run) value {
			var b builder
			for _, p := range pairs {
				r.grow(at, 2*(valueSize+16))
				b.set(p.name(r).str, p.value(r))
			}
			return b.value()
		}}
	}
	return compiled{shape: s, cost: cost, eval: func(r *run) value {
		values := r.list(at, len(pairs))
		for i := range pairs {
			values[i] = pairs[i].value(r)
		}
		return value{kind: object, ref: &fields{names: names, values: values}}
	}}
}

// need fails, before there is a row, where a node can never be one of these kinds.
func (c *compiler) need(n ast.Node, s shape, what string, want kinds) {
	if s.kinds&want != 0 {
		return
	}
	c.fail(n, "%s takes %s, and %s is %s", what, want, written(n), s.kinds)
}

// take is a node's value looked at, which must be of these kinds.
func (c *compiler) take(n ast.Node, d compiled, what string, want kinds) eval {
	c.need(n, d.shape, what, want)
	return func(r *run) value {
		v := r.force(d.eval(r))
		if !want.has(v.kind) {
			wrong(n, v, what, want)
		}
		return v
	}
}

func (c *compiler) truth(n ast.Node, d compiled, what string) func(*run) bool {
	e := c.take(n, d, what, only(boolean))
	return func(r *run) bool { return e(r).isTrue() }
}

// wrong fails for a value of another kind than is wanted.
func wrong(n ast.Node, v value, what string, want kinds) {
	at := n.Location().From
	if v.kind == null {
		failf(at, "%s is null, and %s takes %s: say what to take instead, %s ?? …", written(n), what, want, written(n))
	}
	failf(at, "%s takes %s, and %s is %s", what, want, written(n), kindNames[v.kind])
}

// written is a node as it might stand in an expression, for messages.
func written(n ast.Node) (s string) {
	defer func() {
		if recover() != nil {
			s = "this"
		}
	}()
	return clipped(n.String())
}

func clipped(s string) string {
	if short := []rune(s); len(short) > 60 {
		return string(short[:57]) + "…"
	}
	return s
}

// place is where an operator stands, or a call.
func place(n ast.Node) int { return n.Location().From }
