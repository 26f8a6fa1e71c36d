package transform

import (
	"math"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
)

func (c *compiler) unary(n *ast.UnaryNode) compiled {
	d := c.compile(n.Node)
	at := place(n)
	switch n.Operator {
	case "!", "not":
		e := c.truth(n.Node, d, "not")
		return compiled{shape: of(boolean), cost: d.cost, eval: func(r *run) value { return boolValue(!e(r)) }}
	case "+", "-":
		e := c.take(n.Node, d, n.Operator, numbers|only(duration))
		if n.Operator == "+" {
			return compiled{shape: shape{kinds: d.kinds & (numbers | only(duration))}, cost: d.cost, eval: e}
		}
		return compiled{shape: shape{kinds: widened(d.kinds & (numbers | only(duration)))}, cost: d.cost, eval: func(r *run) value {
			v := e(r)
			if v.kind == duration {
				v.num = -v.num
				return v
			}
			return r.negated(at, v)
		}}
	}
	c.fail(n, "there is no operator %s", n.Operator)
	return compiled{}
}

// widened adds what whole numbers may become when they outgrow 64 bits.
func widened(s kinds) kinds {
	if s.has(integer) {
		s |= only(decimal)
	}
	return s
}

// numeric is what arithmetic of two of these kinds may result in.
func numeric(a, b kinds) kinds {
	var s kinds
	if (a | b).has(float) {
		s |= only(float)
	}
	if a&exact != 0 && b&exact != 0 {
		s |= only(decimal)
		if a.has(integer) && b.has(integer) {
			s |= only(integer)
		}
	}
	// A numeric column may hold NaN, but arithmetic with it has no result.
	return s
}

func (c *compiler) binary(n *ast.BinaryNode) compiled {
	l, r := c.compile(n.Left), c.compile(n.Right)
	cost := l.cost + r.cost
	switch n.Operator {
	case "and", "&&", "or", "||":
		x, y := c.truth(n.Left, l, n.Operator), c.truth(n.Right, r, n.Operator)
		if n.Operator == "or" || n.Operator == "||" {
			return compiled{shape: of(boolean), cost: cost, eval: func(r *run) value { return boolValue(x(r) || y(r)) }}
		}
		return compiled{shape: of(boolean), cost: cost, eval: func(r *run) value { return boolValue(x(r) && y(r)) }}
	case "??":
		return coalesced(l, r)
	case "==", "!=":
		return c.equality(n, l, r)
	case "<", "<=", ">", ">=":
		return c.comparison(n, l, r)
	case "+", "-", "*", "/", "%", "^", "**":
		return c.arithmetic(n, l, r)
	case "in":
		return c.in(n, l, r)
	case "matches":
		return c.matches(n, l, r)
	case "contains", "startsWith", "endsWith":
		x, y := c.take(n.Left, l, n.Operator, only(text)), c.take(n.Right, r, n.Operator, only(text))
		test := map[string]func(s, part string) bool{"contains": strings.Contains, "startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix}[n.Operator]
		at := place(n)
		return compiled{shape: of(boolean), cost: cost, eval: func(r *run) value {
			s, part := x(r), y(r)
			r.spend(at, len(s.str)/32)
			return boolValue(test(s.str, part.str))
		}}
	case "..":
		x, y := c.take(n.Left, l, "..", only(integer)), c.take(n.Right, r, "..", only(integer))
		at := place(n)
		return compiled{shape: listOf(of(integer)), cost: cost, eval: func(r *run) value {
			from, to := x(r).num, y(r).num
			if to < from {
				return listValue(nil)
			}
			if uint64(to)-uint64(from) >= maxMemory {
				r.grow(at, math.MinInt)
			}
			all := r.list(at, int(to-from)+1)
			for i := range all {
				all[i] = intValue(from + int64(i))
			}
			return listValue(all)
		}}
	}
	c.fail(n, "there is no operator %s", n.Operator)
	return compiled{}
}

// coalesced is the first value unless that is null.
func coalesced(l, r compiled) compiled {
	s := either(l.shape, r.shape)
	if l.kinds != only(null) {
		s.kinds = l.kinds&^only(null) | r.kinds
	}
	return compiled{shape: s, cost: l.cost + r.cost, eval: func(run *run) value {
		if v := l.eval(run); v.kind != null {
			return v
		}
		return r.eval(run)
	}}
}

// sums says which kinds an operator takes on its sides, and what comes of them.
var sums = map[string][]struct{ left, right, result kinds }{
	"+": {{only(text), only(text), only(text)}, {only(instant), only(duration), only(instant)}, {only(duration), only(instant), only(instant)}, {only(duration), only(duration), only(duration)}},
	"-": {{only(instant), only(instant), only(duration)}, {only(instant), only(duration), only(instant)}, {only(duration), only(duration), only(duration)}},
	"*": {{only(duration), only(integer), only(duration)}, {only(integer), only(duration), only(duration)}},
	"/": {}, "%": {}, "^": {},
}

func (c *compiler) arithmetic(n *ast.BinaryNode, l, r compiled) compiled {
	op := n.Operator
	if op == "**" {
		op = "^"
	}
	var result, left, right kinds
	if l.kinds&numbers != 0 && r.kinds&numbers != 0 {
		result = numeric(l.kinds, r.kinds)
	}
	left, right = numbers, numbers
	for _, s := range sums[op] {
		left, right = left|s.left, right|s.right
		if l.kinds&s.left != 0 && r.kinds&s.right != 0 {
			result |= s.result
		}
	}
	c.need(n.Left, l.shape, op, left)
	c.need(n.Right, r.shape, op, right)
	if result == 0 {
		c.fail(n, "%s %s %s: there is no %s of %s and %s%s", written(n.Left), n.Operator, written(n.Right), n.Operator, l.kinds, r.kinds, hint(op, l.kinds, r.kinds))
	}
	at, sign := place(n), op[0]
	x, y := c.take(n.Left, l, n.Operator, left), c.take(n.Right, r, n.Operator, right)
	return compiled{shape: shape{kinds: result}, cost: l.cost + r.cost, eval: func(r *run) value {
		a, b := x(r), y(r)
		switch {
		case numbers.has(a.kind) && numbers.has(b.kind):
			return r.arithmetic(at, sign, a, b)
		case a.kind == text && b.kind == text && sign == '+':
			r.grow(at, len(a.str)+len(b.str))
			return textValue(a.str + b.str)
		}
		if v, ok := times(at, sign, a, b); ok {
			return v
		}
		failf(at, "there is no %s of %s and %s%s", n.Operator, kindNames[a.kind], kindNames[b.kind], hint(op, only(a.kind), only(b.kind)))
		return value{}
	}}
}

func hint(op string, l, r kinds) string {
	if op == "+" && (l == only(text)) != (r == only(text)) {
		return "; string(…) makes a text of a number"
	}
	return ""
}

// times is arithmetic with times and durations.
func times(at int, op byte, a, b value) (value, bool) {
	switch {
	case a.kind == instant && b.kind == duration && op == '+':
		return shifted(at, a, b.num), true
	case a.kind == duration && b.kind == instant && op == '+':
		return shifted(at, b, a.num), true
	case a.kind == instant && b.kind == duration && op == '-':
		return shifted(at, a, -b.num), true
	case a.kind == instant && b.kind == instant && op == '-':
		v, ok := wholes(at, '-', moment(at, a), moment(at, b))
		if !ok {
			failf(at, "the times are too far apart")
		}
		v.kind = duration
		return v, true
	case a.kind == duration && b.kind == duration && (op == '+' || op == '-'), a.kind == duration && b.kind == integer && op == '*', a.kind == integer && b.kind == duration && op == '*':
		v, ok := wholes(at, op, a.num, b.num)
		if !ok {
			failf(at, "the duration is too long")
		}
		v.kind = duration
		return v, true
	}
	return value{}, false
}

func (c *compiler) equality(n *ast.BinaryNode, l, r compiled) compiled {
	possible := l.kinds&r.kinds != 0 || l.kinds&numbers != 0 && r.kinds&numbers != 0 || (l.kinds | r.kinds).has(null)
	if !possible {
		c.fail(n, "%s %s %s compares %s with %s, which are never equal", written(n.Left), n.Operator, written(n.Right), l.kinds, r.kinds)
	}
	want, at := n.Operator == "==", place(n)
	return compiled{shape: of(boolean), cost: l.cost + r.cost, eval: func(run *run) value {
		return boolValue(run.equal(at, l.eval(run), r.eval(run), 0) == want)
	}}
}

// equal compares any two values; those of different kinds are not equal, but numbers are by their worth.
func (r *run) equal(at int, a, b value, deep int) bool {
	if a.kind == null || b.kind == null {
		return a.kind == b.kind
	}
	a, b = r.force(a), r.force(b)
	if numbers.has(a.kind) && numbers.has(b.kind) {
		return r.order(at, a, b) == 0
	}
	if a.kind != b.kind {
		return a.kind == null && b.kind == null
	}
	if deep > maxDepth {
		failf(at, "lists and maps are nested deeper than %d", maxDepth)
	}
	switch a.kind {
	case boolean, duration:
		return a.num == b.num
	case text, binary:
		r.spend(at, len(a.str)/64)
		return a.str == b.str
	case instant:
		return orderTimes(a, b) == 0
	case list:
		x, y := a.items(), b.items()
		if len(x) != len(y) {
			return false
		}
		for i := range x {
			r.spend(at, 1)
			if !r.equal(at, x[i], y[i], deep+1) {
				return false
			}
		}
		return true
	case object:
		x, y := a.fields(), b.fields()
		if len(x.names) != len(y.names) {
			return false
		}
		for i, name := range x.names {
			r.spend(at, 16)
			j := y.find(name)
			if j < 0 || !r.equal(at, x.values[i], y.values[j], deep+1) {
				return false
			}
		}
		return true
	}
	return true
}

const orderedKinds = numbers | kinds(1<<text|1<<instant|1<<duration)

func (c *compiler) comparison(n *ast.BinaryNode, l, r compiled) compiled {
	x, y := c.take(n.Left, l, n.Operator, orderedKinds), c.take(n.Right, r, n.Operator, orderedKinds)
	if !(l.kinds&numbers != 0 && r.kinds&numbers != 0) && l.kinds&r.kinds&orderedKinds == 0 {
		c.fail(n, "%s %s %s compares %s with %s", written(n.Left), n.Operator, written(n.Right), l.kinds, r.kinds)
	}
	at, op := place(n), n.Operator
	return compiled{shape: of(boolean), cost: l.cost + r.cost, eval: func(r *run) value {
		d := r.compare(at, x(r), y(r))
		switch op {
		case "<":
			return boolValue(d < 0)
		case "<=":
			return boolValue(d <= 0)
		case ">":
			return boolValue(d > 0)
		}
		return boolValue(d >= 0)
	}}
}

// compare orders two values of kinds that have an order; text by its bytes.
func (r *run) compare(at int, a, b value) int {
	switch {
	case numbers.has(a.kind) && numbers.has(b.kind):
		return r.order(at, a, b)
	case a.kind != b.kind || !orderedKinds.has(a.kind):
		failf(at, "%s cannot be compared with %s", kindNames[a.kind], kindNames[b.kind])
	case a.kind == text:
		r.spend(at, min(len(a.str), len(b.str))/64)
		return strings.Compare(a.str, b.str)
	case a.kind == instant:
		return orderTimes(a, b)
	}
	return r.order(at, intValue(a.num), intValue(b.num))
}

func (c *compiler) in(n *ast.BinaryNode, l, r compiled) compiled {
	y := c.take(n.Right, r, "in", only(list)|only(object))
	if r.kinds == only(object) {
		c.need(n.Left, l.shape, "in", only(text))
	}
	if item := r.item(); r.kinds == only(list) && item.kinds != 0 && item.kinds&l.kinds == 0 && !(item.kinds&numbers != 0 && l.kinds&numbers != 0) && !l.kinds.has(null) {
		c.fail(n, "%s in %s looks for %s among %s", written(n.Left), written(n.Right), l.kinds, item.kinds)
	}
	at := place(n)
	return compiled{shape: of(boolean), cost: l.cost + r.cost, eval: func(r *run) value {
		v, where := r.force(l.eval(r)), y(r)
		if where.kind == object {
			if v.kind != text {
				wrong(n.Left, v, "in a map", only(text))
			}
			return boolValue(where.fields().find(v.str) >= 0)
		}
		for _, item := range where.items() {
			r.spend(at, 2)
			if r.equal(at, v, item, 0) {
				return boolValue(true)
			}
		}
		return boolValue(false)
	}}
}

func (c *compiler) matches(n *ast.BinaryNode, l, r compiled) compiled {
	x := c.take(n.Left, l, "matches", only(text))
	pattern, ok := n.Right.(*ast.StringNode)
	if !ok {
		c.fail(n.Right, "the pattern of matches has to be written out, not %s", written(n.Right))
	}
	re, err := regexp.Compile(pattern.Value)
	if err != nil {
		c.fail(n.Right, "the pattern cannot be read: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	at, states := place(n), len(pattern.Value)
	if parsed, err := syntax.Parse(pattern.Value, syntax.Perl); err == nil {
		if prog, err := syntax.Compile(parsed.Simplify()); err == nil {
			states = len(prog.Inst)
		}
	}
	return compiled{shape: of(boolean), cost: l.cost + r.cost, eval: func(r *run) value {
		s := x(r).str
		// At worst every byte meets every state of the pattern.
		r.spend(at, len(s)*(1+states/4)/4)
		return boolValue(re.MatchString(s))
	}}
}

// runes is how many characters a text has.
func runes(s string) int { return utf8.RuneCountInString(s) }
