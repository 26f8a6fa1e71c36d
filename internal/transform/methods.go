package transform

import (
	"github.com/cockroachdb/apd/v3"
	"github.com/expr-lang/expr/ast"
)

// method is one of those that times and durations have in expr.
type method struct {
	params []kinds
	result kind
	call   func(at int, v value, args []value) value
}

func part(get func(at int, v value) int) method {
	return method{result: integer, call: func(at int, v value, _ []value) value { return intValue(int64(get(at, v))) }}
}

func before(test func(d int) bool) method {
	return method{params: []kinds{only(instant)}, result: boolean, call: func(_ int, v value, args []value) value {
		return boolValue(test(orderTimes(v, args[0])))
	}}
}

var timeMethods = map[string]method{
	"Year":       part(func(at int, v value) int { return goTime(at, v).Year() }),
	"Month":      part(func(at int, v value) int { return int(goTime(at, v).Month()) }),
	"Day":        part(func(at int, v value) int { return goTime(at, v).Day() }),
	"Hour":       part(func(at int, v value) int { return goTime(at, v).Hour() }),
	"Minute":     part(func(at int, v value) int { return goTime(at, v).Minute() }),
	"Second":     part(func(at int, v value) int { return goTime(at, v).Second() }),
	"Nanosecond": part(func(at int, v value) int { return goTime(at, v).Nanosecond() }),
	"YearDay":    part(func(at int, v value) int { return goTime(at, v).YearDay() }),
	"Weekday":    part(func(at int, v value) int { return int(goTime(at, v).Weekday()) }),
	"Unix":       part(func(at int, v value) int { return int(goTime(at, v).Unix()) }),
	"UnixMilli":  part(func(at int, v value) int { return int(goTime(at, v).UnixMilli()) }),
	"UnixMicro":  part(func(at int, v value) int { return int(goTime(at, v).UnixMicro()) }),
	"Before":     before(func(d int) bool { return d < 0 }),
	"After":      before(func(d int) bool { return d > 0 }),
	"Equal":      before(func(d int) bool { return d == 0 }),
	"UTC":        {result: instant, call: func(_ int, v value, _ []value) value { return v }},
	"Format": {params: []kinds{only(text)}, result: text, call: func(at int, v value, args []value) value {
		return textValue(formatted(at, v, args[0].str))
	}},
	"Add": {params: []kinds{only(duration)}, result: instant, call: func(at int, v value, args []value) value {
		return shifted(at, v, args[0].num)
	}},
	"Sub": {params: []kinds{only(instant)}, result: duration, call: func(at int, v value, args []value) value {
		d, _ := times(at, '-', v, args[0])
		return d
	}},
	"AddDate": {params: []kinds{only(integer), only(integer), only(integer)}, result: instant, call: func(at int, v value, args []value) value {
		for _, a := range args {
			if a.num > 1e7 || a.num < -1e7 {
				failf(at, "the time is outside of the years that timestamp can have")
			}
		}
		t := goTime(at, v).AddDate(int(args[0].num), int(args[1].num), int(args[2].num))
		out := fromGo(at, t, v.clock)
		if v.clock == date {
			out.num = floorDiv(out.num, microsPerDay)
		}
		return out
	}},
}

// span is a duration in a unit, exactly.
func span(unit int64) method {
	return method{result: decimal, call: func(at int, v value, _ []value) value {
		return shrink(quotient(at, apd.New(v.num, 0), apd.New(unit, 0)))
	}}
}

var durationMethods = map[string]method{"Hours": span(3_600_000_000), "Minutes": span(60_000_000), "Seconds": span(1_000_000), "Milliseconds": span(1000), "Microseconds": span(1)}

var methodNames = func() []string {
	var names []string
	for _, m := range []map[string]method{timeMethods, durationMethods} {
		for name := range m {
			names = append(names, name)
		}
	}
	return names
}()

func (c *compiler) method(n *ast.CallNode, callee *ast.MemberNode) compiled {
	property, ok := callee.Property.(*ast.StringNode)
	if !ok {
		c.fail(n, "%s is not a function", written(callee))
	}
	name := property.Value
	ofTime, isTime := timeMethods[name]
	ofDuration, isDuration := durationMethods[name]
	base := c.compile(callee.Node)
	var m method
	var want kinds
	switch {
	case isTime:
		m, want = ofTime, only(instant)
	case isDuration:
		m, want = ofDuration, only(duration)
	case functions[name].call != nil || loops[name]:
		c.fail(callee.Property, "%s is called with the value in its brackets: %s(%s, …)", name, name, written(callee.Node))
	default:
		c.fail(callee.Property, "there is no function .%s()%s", name, suggest(name, methodNames, ""))
	}
	c.need(callee.Node, base.shape, "."+name+"()", want)
	c.count(n, "."+name+"()", len(n.Arguments), len(m.params), len(m.params))
	args := make([]eval, len(n.Arguments))
	cost := base.cost + 4
	for i, arg := range n.Arguments {
		d := c.compile(arg)
		cost += d.cost
		args[i] = c.take(arg, d, "."+name+"()", m.params[i])
	}
	at := place(n)
	s := of(m.result)
	if m.result == decimal {
		s = of(integer, decimal)
	}
	return compiled{shape: s, cost: cost, eval: func(r *run) value {
		v := r.force(base.eval(r))
		if v.kind == null {
			if callee.Optional {
				r.absent = true
			}
			if r.absent {
				return value{}
			}
		}
		if !want.has(v.kind) {
			wrong(callee.Node, v, "."+name+"()", want)
		}
		var given [3]value
		for i, a := range args {
			given[i] = a(r)
		}
		return m.call(at, v, given[:len(args)])
	}}
}
