package transform

import (
	"github.com/expr-lang/expr/ast"
)

func (c *compiler) member(n *ast.MemberNode) compiled {
	name, named := n.Property.(*ast.StringNode)
	if c.isRecord(n.Node) {
		if named {
			return c.column(c.columnNamed(n.Property, name.Value))
		}
	}
	base := c.compile(n.Node)
	if named {
		return c.field(n, base, name.Value)
	}
	prop := c.compile(n.Property)
	c.need(n.Property, prop.shape, "[…]", only(text)|exact)
	c.need(n.Node, base.shape, "[…]", only(list)|only(object)|only(text))
	s := unknown
	if base.kinds == only(list) {
		c.need(n.Property, prop.shape, "[…] of a list", exact)
		s = base.item()
	}
	at := place(n)
	return compiled{shape: s, cost: base.cost + prop.cost, eval: func(r *run) value {
		b := r.force(base.eval(r))
		if b.kind == null {
			if n.Optional {
				r.absent = true
			}
			if r.absent {
				return value{}
			}
			failf(at, "%s is null and has no elements; with ?.[…] this is null too", written(n.Node))
		}
		i := r.force(prop.eval(r))
		switch {
		case b.kind == object && i.kind == text:
			f := b.fields()
			r.spend(at, 1+len(f.names)/16)
			if at := f.find(i.str); at >= 0 {
				return f.values[at]
			}
			if base.record {
				failf(at, "there is no column %q", clipped(i.str))
			}
			return value{}
		case b.kind == list:
			return r.element(at, b.items(), position(n.Property, i))
		case b.kind == text:
			chars := []rune(b.str)
			r.grow(at, 4*len(b.str))
			p := position(n.Property, i)
			if p < 0 {
				p += int64(len(chars))
			}
			if p < 0 || p >= int64(len(chars)) {
				failf(at, "there is no character %d: the text has %d", i.num, len(chars))
			}
			return textValue(string(chars[p]))
		}
		failf(at, "%s is %s, of which %s cannot be taken", written(n.Node), kindNames[b.kind], kindNames[i.kind])
		return value{}
	}}
}

// position is an index.
func position(n ast.Node, v value) int64 {
	if v.kind != integer {
		wrong(n, v, "the place of an element", only(integer))
	}
	return v.num
}

func (r *run) element(at int, all []value, i int64) value {
	p := i
	if p < 0 {
		p += int64(len(all))
	}
	if p < 0 || p >= int64(len(all)) {
		failf(at, "there is no element %d: the list has %d", i, len(all))
	}
	return all[p]
}

// field is a member with a name.
func (c *compiler) field(n *ast.MemberNode, base compiled, name string) compiled {
	s := unknown
	if base.fields != nil && base.kinds == only(object) {
		f, ok := base.fields[name]
		switch {
		case ok:
			s = f
		case base.record:
			c.fail(n.Property, "there is no column %q in %s%s", name, written(n.Node), suggest(name, base.names(), ""))
		default:
			c.fail(n.Property, "there is no field %q in %s%s", name, written(n.Node), suggest(name, base.names(), ""))
		}
	} else if !base.kinds.has(object) {
		c.fail(n, "%s is %s, and only a map has fields, such as %q", written(n.Node), base.kinds, name)
	}
	at := place(n)
	return compiled{shape: s, cost: base.cost, eval: func(r *run) value {
		b := r.force(base.eval(r))
		switch b.kind {
		case object:
			f := b.fields()
			if i := f.find(name); i >= 0 {
				return f.values[i]
			}
			return value{}
		case null:
			if n.Optional {
				r.absent = true
			}
			if r.absent {
				return value{}
			}
			failf(at, "%s is null and has no field %q; with %s?.%s this is null too", written(n.Node), name, written(n.Node), name)
		}
		failf(at, "%s is %s, and only a map has fields, such as %q", written(n.Node), kindNames[b.kind], name)
		return value{}
	}}
}

// chain ends what an optional member begins: if the value before ?. is null, so is all of it. Between the member that
// sets absent and the chain's end there are only members and calls of methods, which pass it on.
func (c *compiler) chain(n *ast.ChainNode) compiled {
	d := c.compile(n.Node)
	return compiled{shape: d.shape, cost: d.cost, eval: func(r *run) value {
		v := d.eval(r)
		r.absent = false
		return v
	}}
}

func (c *compiler) slice(n *ast.SliceNode) compiled {
	base := c.compile(n.Node)
	b := c.take(n.Node, base, "[…:…]", only(list)|only(text))
	cost := base.cost
	var from, to eval
	if n.From != nil {
		d := c.compile(n.From)
		from, cost = c.take(n.From, d, "the beginning of a part", only(integer)), cost+d.cost
	}
	if n.To != nil {
		d := c.compile(n.To)
		to, cost = c.take(n.To, d, "the end of a part", only(integer)), cost+d.cost
	}
	at := place(n)
	s := shape{kinds: base.kinds & (only(list) | only(text)), element: base.element}
	return compiled{shape: s, cost: cost, eval: func(r *run) value {
		v := b(r)
		var chars []rune
		length := 0
		if v.kind == text {
			r.grow(at, 4*len(v.str))
			chars = []rune(v.str)
			length = len(chars)
		} else {
			length = len(v.items())
		}
		i, j := 0, length
		if from != nil {
			i = bound(from(r).num, length)
		}
		if to != nil {
			j = bound(to(r).num, length)
		}
		i = min(i, j)
		if v.kind == text {
			return textValue(string(chars[i:j]))
		}
		return listValue(v.items()[i:j])
	}}
}

// bound is a place between 0 and length; from the end where it is negative.
func bound(i int64, length int) int {
	if i < 0 {
		i += int64(length)
	}
	return int(max(0, min(i, int64(length))))
}
