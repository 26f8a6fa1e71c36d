package transform

import (
	"sort"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// loops are the functions that take an expression for every element.
var loops = map[string]bool{
	"all": true, "none": true, "any": true, "one": true, "filter": true, "map": true, "count": true, "sum": true, "find": true, "findIndex": true,
	"findLast": true, "findLastIndex": true, "groupBy": true, "sortBy": true, "reduce": true,
}

func (c *compiler) pointer(n *ast.PointerNode) compiled {
	at := len(c.loops) - 1
	if at < 0 {
		c.fail(n, "# stands for an element inside of a loop only")
	}
	l := c.loops[at]
	switch n.Name {
	case "":
		return compiled{shape: l.item, eval: func(r *run) value { return r.scopes[at].item }}
	case "index":
		return compiled{shape: of(integer), eval: func(r *run) value { return intValue(int64(r.scopes[at].index)) }}
	case "acc":
		if !l.reduce {
			c.fail(n, "#acc is for reduce")
		}
		return compiled{shape: l.acc, eval: func(r *run) value { return r.scopes[at].acc }}
	}
	c.fail(n, "there is no #%s: there are #, #index and, in reduce, #acc", n.Name)
	return compiled{}
}

// body compiles what a loop does with each element.
func (c *compiler) body(n ast.Node, l loop) (compiled, ast.Node) {
	inner := n
	if p, ok := n.(*ast.PredicateNode); ok {
		inner = p.Node
	}
	c.loops = append(c.loops, l)
	c.p.depth = max(c.p.depth, len(c.loops))
	d := c.compile(inner)
	c.loops = c.loops[:len(c.loops)-1]
	return d, inner
}

// each goes through a list until do returns false. What the body costs is counted for every element.
func (r *run) each(at, depth, cost int, all []value, backwards bool, do func(s *scope) bool) {
	s := &r.scopes[depth]
	outer := *s
	for i := range all {
		if backwards {
			i = len(all) - 1 - i
		}
		r.spend(at, cost)
		s.item, s.index = all[i], i
		if !do(s) {
			break
		}
	}
	*s = outer
}

func (c *compiler) loop(n ast.Node, name string, args []ast.Node) compiled {
	source := c.compile(args[0])
	over := c.take(args[0], source, name, only(list))
	at, depth := place(n), len(c.loops)
	l := loop{item: source.item()}
	if name == "reduce" {
		return c.reduce(n, args, source, over)
	}
	if len(args) < 2 {
		// Only count has this: it counts what is true.
		args = append(args[:1:1], &ast.PointerNode{})
		args[1].SetLocation(n.Location())
	}
	d, body := c.body(args[1], l)
	cost := d.cost + 2
	whole := compiled{cost: source.cost + d.cost}
	switch name {
	case "map":
		whole.shape = listOf(d.shape)
		whole.eval = func(r *run) value {
			all := over(r).items()
			out := r.list(at, len(all))
			r.each(at, depth, cost, all, false, func(s *scope) bool {
				out[s.index] = d.eval(r)
				return true
			})
			return listValue(out)
		}
		return whole
	case "sum":
		e := c.take(body, d, "sum", numbers|only(duration))
		whole.shape = shape{kinds: widened(d.kinds & (numbers | only(duration)))}
		whole.eval = func(r *run) value {
			total := intValue(0)
			first := true
			r.each(at, depth, cost, over(r).items(), false, func(*scope) bool {
				total = r.plus(at, total, e(r), first)
				first = false
				return true
			})
			return total
		}
		return whole
	case "groupBy":
		return c.groupBy(n, source, over, d, body)
	case "sortBy":
		return c.sortBy(n, args, source, over, d, body)
	}

	test := c.truth(body, d, name)
	backwards := strings.Contains(name, "Last")
	switch name {
	case "filter":
		whole.shape = shape{kinds: only(list), element: source.element}
		whole.eval = func(r *run) value {
			var out []value
			r.each(at, depth, cost, over(r).items(), false, func(s *scope) bool {
				if item := s.item; test(r) {
					r.grow(at, 2*valueSize)
					out = append(out, item)
				}
				return true
			})
			return listValue(out)
		}
		return whole
	case "find", "findLast", "findIndex", "findLastIndex":
		index := strings.HasSuffix(name, "Index")
		if whole.shape = l.item; index {
			whole.shape = of(integer)
		}
		whole.eval = func(r *run) value {
			found := value{}
			if index {
				found = intValue(-1)
			}
			r.each(at, depth, cost, over(r).items(), backwards, func(s *scope) bool {
				if !test(r) {
					return true
				}
				if found = s.item; index {
					found = intValue(int64(s.index))
				}
				return false
			})
			return found
		}
		return whole
	}

	// What is left counts. It may stop early.
	stop := map[string]int{"count": -1, "all": -1, "any": 1, "none": 1, "one": 2}[name]
	if whole.shape = of(boolean); name == "count" {
		whole.shape = of(integer)
	}
	whole.eval = func(r *run) value {
		all := over(r).items()
		n := 0
		r.each(at, depth, cost, all, false, func(*scope) bool {
			if test(r) {
				n++
				return n != stop
			}
			return name != "all"
		})
		switch name {
		case "count":
			return intValue(int64(n))
		case "all":
			return boolValue(n == len(all))
		case "any":
			return boolValue(n > 0)
		case "none":
			return boolValue(n == 0)
		}
		return boolValue(n == 1)
	}
	return whole
}

// plus adds to a sum, of which the first is taken as it is.
func (r *run) plus(at int, total, v value, first bool) value {
	if first {
		if v.kind == float && special(v.float()) {
			return r.floats(at, '+', v.float(), 0)
		}
		return v
	}
	if sum, ok := times(at, '+', total, v); ok {
		return sum
	}
	if !numbers.has(total.kind) || !numbers.has(v.kind) {
		failf(at, "there is no sum of %s and %s", kindNames[total.kind], kindNames[v.kind])
	}
	return r.arithmetic(at, '+', total, v)
}

func (c *compiler) reduce(n ast.Node, args []ast.Node, source compiled, over eval) compiled {
	at, depth := place(n), len(c.loops)
	var initial eval
	cost := source.cost
	if len(args) == 3 {
		d := c.compile(args[2])
		initial, cost = d.eval, cost+d.cost
	}
	// What the sum of all is can be known only by the body that has it.
	d, _ := c.body(args[1], loop{item: source.item(), acc: unknown, reduce: true})
	return compiled{shape: unknown, cost: cost + d.cost, eval: func(r *run) value {
		all := over(r).items()
		var acc value
		from := 0
		if initial != nil {
			acc = initial(r)
		} else {
			if len(all) == 0 {
				failf(at, "reduce of an empty list needs a value to begin with: reduce(…, …, 0)")
			}
			acc, from = all[0], 1
		}
		r.each(at, depth, d.cost+2, all[from:], false, func(s *scope) bool {
			s.acc = acc
			s.index += from
			acc = d.eval(r)
			return true
		})
		return acc
	}}
}

// groupBy makes a map of lists, in the order in which the names come up.
func (c *compiler) groupBy(n ast.Node, source compiled, over eval, d compiled, body ast.Node) compiled {
	e := c.take(body, d, "a name in groupBy", only(text)|only(boolean)|exact)
	at, depth := place(n), len(c.loops)
	return compiled{shape: of(object), cost: source.cost + d.cost, eval: func(r *run) value {
		groups := make(map[string]int)
		f := &fields{}
		var lists [][]value
		r.each(at, depth, d.cost+4, over(r).items(), false, func(s *scope) bool {
			item := s.item
			name := r.string(at, e(r))
			r.grow(at, 2*valueSize)
			i, ok := groups[name]
			if !ok {
				r.grow(at, 4*valueSize+len(name))
				i = len(lists)
				groups[name] = i
				lists = append(lists, nil)
				f.names = append(f.names, name)
			}
			lists[i] = append(lists[i], item)
			return true
		})
		for _, l := range lists {
			f.values = append(f.values, listValue(l))
		}
		return value{kind: object, ref: f}
	}}
}

func (c *compiler) sortBy(n ast.Node, args []ast.Node, source compiled, over eval, d compiled, body ast.Node) compiled {
	e := c.take(body, d, "sortBy", orderedKinds)
	var order eval
	if len(args) == 3 {
		order = c.take(args[2], c.compile(args[2]), "the order of sortBy", only(text))
	}
	at, depth := place(n), len(c.loops)
	return compiled{shape: shape{kinds: only(list), element: source.element}, cost: source.cost + d.cost + 1, eval: func(r *run) value {
		all := over(r).items()
		by := r.list(at, len(all))
		r.each(at, depth, d.cost+2, all, false, func(s *scope) bool {
			by[s.index] = e(r)
			return true
		})
		return listValue(r.sorted(at, all, by, r.descending(at, order)))
	}}
}

func (r *run) descending(at int, order eval) bool {
	if order == nil {
		return false
	}
	switch word := order(r).str; word {
	case "asc":
		return false
	case "desc":
		return true
	default:
		failf(at, "the order is \"asc\" or \"desc\", not %q", clipped(word))
	}
	return false
}

// sorted orders a list by other values; what is equal stays in its order.
func (r *run) sorted(at int, all, by []value, descending bool) []value {
	places := make([]int, len(all))
	r.grow(at, 8*len(all))
	for i := range places {
		places[i] = i
	}
	sort.SliceStable(places, func(i, j int) bool {
		r.spend(at, 2)
		d := r.compare(at, by[places[i]], by[places[j]])
		if descending {
			return d > 0
		}
		return d < 0
	})
	out := r.list(at, len(all))
	for i, p := range places {
		out[i] = all[p]
	}
	return out
}
