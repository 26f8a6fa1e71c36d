package transform

import (
	"github.com/expr-lang/expr/ast"
)

// function is one that expressions call by name. Its arguments have been looked at where kinds are demanded.
type function struct {
	// params are the kinds that each argument may be; the last one counts for all that follow if more is set. Null is
	// among them only where it is said. Without any, anything may come, not looked at.
	params []kinds
	// optional is how many of params may be left out.
	optional int
	more     bool
	result   func(args []compiled) shape
	call     func(r *run, at int, args []value) value
}

// anything is for arguments that are passed on, columns as they are.
const anything kinds = 0

func (c *compiler) call(n *ast.CallNode) compiled {
	switch callee := n.Callee.(type) {
	case *ast.IdentifierNode:
		return c.function(n, callee.Value, n.Arguments)
	case *ast.MemberNode:
		return c.method(n, callee)
	}
	c.fail(n, "%s is not a function", written(n.Callee))
	return compiled{}
}

// removed are functions of expr that there are not, with what is there.
var removed = map[string]string{
	"now":      "now is a value, not a function: leave out the brackets",
	"timezone": "there are no time zones here: times are in UTC",
	"bitand":   "there are no functions of bits", "bitor": "there are no functions of bits", "bitxor": "there are no functions of bits",
	"bitnand": "there are no functions of bits", "bitnot": "there are no functions of bits", "bitshl": "there are no functions of bits",
	"bitshr": "there are no functions of bits", "bitushr": "there are no functions of bits",
}

func (c *compiler) function(n ast.Node, name string, args []ast.Node) compiled {
	if loops[name] && (name != "sum" || len(args) > 1) {
		return c.loop(n, name, args)
	}
	switch name {
	case "default":
		c.count(n, name, len(args), 2, 2)
		return coalesced(c.compile(args[0]), c.compile(args[1]))
	case "pick", "omit":
		if len(args) > 1 && c.isRecord(args[0]) {
			if d, ok := c.choose(name == "omit", args[1:]); ok {
				return d
			}
		}
	}
	f, ok := functions[name]
	if !ok {
		if why, ok := removed[name]; ok {
			c.fail(n, "%s", why)
		}
		c.fail(n, "there is no function %q%s", name, suggest(name, functionNames, ""))
	}
	most := len(f.params)
	if f.more {
		most = -1
	}
	c.count(n, name, len(args), len(f.params)-f.optional, most)
	parts := make([]compiled, len(args))
	evals := make([]eval, len(args))
	cost := 4
	for i, arg := range args {
		parts[i] = c.compile(arg)
		cost += parts[i].cost
		evals[i] = parts[i].eval
		if want := f.params[min(i, len(f.params)-1)]; want != anything {
			evals[i] = c.take(arg, parts[i], name, want)
		}
	}
	at, call := place(n), f.call
	return compiled{shape: f.result(parts), cost: cost, eval: func(r *run) value {
		base := len(r.stack)
		for _, e := range evals {
			v := e(r)
			r.stack = append(r.stack, v)
		}
		v := call(r, at, r.stack[base:])
		r.stack = r.stack[:base]
		return v
	}}
}

func (c *compiler) count(n ast.Node, name string, got, least, most int) {
	switch {
	case got < least && most == least:
		c.fail(n, "%s takes %s, not %d", name, arguments(least), got)
	case got < least:
		c.fail(n, "%s takes at least %s, not %d", name, arguments(least), got)
	case most >= 0 && got > most && most == least:
		c.fail(n, "%s takes %s, not %d", name, arguments(most), got)
	case most >= 0 && got > most:
		c.fail(n, "%s takes at most %s, not %d", name, arguments(most), got)
	}
}

func arguments(n int) string {
	switch n {
	case 0:
		return "no arguments"
	case 1:
		return "1 argument"
	}
	return string(rune('0'+n)) + " arguments"
}

// choose is pick or omit of the record's columns, of which the others are not even selected. It is false if a name is
// not written out.
func (c *compiler) choose(omit bool, args []ast.Node) (compiled, bool) {
	named := make([]bool, len(c.p.cells))
	var picked []int
	for _, arg := range args {
		s, ok := arg.(*ast.StringNode)
		if !ok {
			return compiled{}, false
		}
		i := c.columnNamed(arg, s.Value)
		if !named[i] {
			picked = append(picked, i)
		}
		named[i] = true
	}
	if omit {
		picked = picked[:0]
		for i := range named {
			if !named[i] {
				picked = append(picked, i)
			}
		}
	}
	return c.columns(picked), true
}
