package transform

// listed is the shape of a list with the elements of the first argument.
func listed(args []compiled) shape { return shape{kinds: only(list), element: args[0].element} }

// itemOf is the shape of an element of the first argument.
func itemOf(args []compiled) shape { return args[0].item() }

var listFunctions = map[string]function{
	"first": {params: []kinds{only(list)}, result: itemOf, call: func(_ *run, _ int, args []value) value {
		if all := args[0].items(); len(all) > 0 {
			return all[0]
		}
		return value{}
	}},
	"last": {params: []kinds{only(list)}, result: itemOf, call: func(_ *run, _ int, args []value) value {
		if all := args[0].items(); len(all) > 0 {
			return all[len(all)-1]
		}
		return value{}
	}},
	"take": {params: []kinds{only(list), only(integer)}, result: listed, call: func(_ *run, at int, args []value) value {
		if args[1].num < 0 {
			failf(at, "take takes how many, not %d", args[1].num)
		}
		all := args[0].items()
		return listValue(all[:min(args[1].num, int64(len(all)))])
	}},
	"reverse": {params: []kinds{only(list)}, result: listed, call: func(r *run, at int, args []value) value {
		all := args[0].items()
		out := r.list(at, len(all))
		for i, v := range all {
			out[len(all)-1-i] = v
		}
		return listValue(out)
	}},
	"concat": {params: []kinds{only(list)}, more: true, result: gives(list), call: func(r *run, at int, args []value) value {
		n := 0
		for _, a := range args {
			n += len(a.items())
		}
		out := r.list(at, n)[:0]
		for _, a := range args {
			out = append(out, a.items()...)
		}
		return listValue(out)
	}},
	"flatten": {params: []kinds{only(list)}, result: gives(list), call: func(r *run, at int, args []value) value {
		return listValue(r.flatten(at, nil, args[0].items(), 0))
	}},
	"uniq": {params: []kinds{only(list)}, result: listed, call: func(r *run, at int, args []value) value {
		var out []value
	next:
		for _, v := range args[0].items() {
			for _, u := range out {
				r.spend(at, 2)
				if r.equal(at, u, v, 0) {
					continue next
				}
			}
			r.grow(at, 2*valueSize)
			out = append(out, v)
		}
		return listValue(out)
	}},
	"sort": {params: []kinds{only(list), only(text)}, optional: 1, result: listed, call: func(r *run, at int, args []value) value {
		all := args[0].items()
		by := r.list(at, len(all))
		for i, v := range all {
			if by[i] = r.force(v); !orderedKinds.has(by[i].kind) {
				failf(at, "sort: %s is among the values", kindNames[by[i].kind])
			}
		}
		order := false
		if len(args) == 2 {
			order = r.descending(at, func(*run) value { return args[1] })
		}
		return listValue(r.sorted(at, all, by, order))
	}},
	"sum": {params: []kinds{only(list)}, result: func(args []compiled) shape {
		return shape{kinds: widened(args[0].item().kinds & (numbers | only(duration)))}
	}, call: func(r *run, at int, args []value) value {
		total := intValue(0)
		for i, v := range args[0].items() {
			if v = r.force(v); !numbers.has(v.kind) && v.kind != duration {
				failf(at, "sum takes numbers, and the element %d is %s", i, kindNames[v.kind])
			}
			r.spend(at, 1)
			total = r.plus(at, total, v, i == 0)
		}
		return total
	}},
}

func (r *run) flatten(at int, out, all []value, deep int) []value {
	if deep > maxDepth {
		failf(at, "lists and maps are nested deeper than %d", maxDepth)
	}
	for _, v := range all {
		r.spend(at, 1)
		if v.kind == column {
			v = r.force(v)
		}
		if v.kind == list {
			out = r.flatten(at, out, v.items(), deep+1)
			continue
		}
		r.grow(at, 2*valueSize)
		out = append(out, v)
	}
	return out
}
