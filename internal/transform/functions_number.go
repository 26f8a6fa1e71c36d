package transform

import (
	"math"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// same is the shape of the first argument, as far as it is a number.
func same(args []compiled) shape { return shape{kinds: widened(args[0].kinds & numbers)} }

// rounding rounds to digits behind the point, 0 if they are left out. A float is rounded as it is printed.
func rounding(mode byte, optional bool) function {
	f := function{params: []kinds{numbers}, result: same, call: func(r *run, at int, args []value) value {
		v, digits := args[0], 0
		if len(args) == 2 {
			digits = int(max(math.MinInt32, min(args[1].num, math.MaxInt32)))
		}
		if v.kind == float {
			if special(v.float()) {
				failf(at, "NaN and Infinity cannot be rounded")
			}
			if digits > 400 {
				return v
			}
			d, _ := readDecimal(strconv.FormatFloat(v.float(), 'e', -1, 64))
			out, err := strconv.ParseFloat(rounded(at, d, digits, mode).Text('f'), 64)
			if err != nil {
				failf(at, "the result is not a number that a float can hold")
			}
			return floatValue(out)
		}
		if v.kind == integer && digits >= 0 {
			return v
		}
		if out, ok := shortRounded(v, digits, mode); ok {
			if len(args) < 2 {
				return intValue(out.num)
			}
			return out
		}
		d := r.exactly(at, v)
		r.grow(at, 64+int(d.NumDigits())+max(digits, -digits))
		out := rounded(at, d, digits, mode)
		if v.kind == integer || len(args) < 2 {
			return shrink(out)
		}
		return decimalValue(out)
	}}
	if optional {
		f.params, f.optional = append(f.params, only(integer)), 1
	}
	f.result = func(args []compiled) shape {
		s := same(args)
		if s.kinds.has(decimal) {
			s.kinds |= only(integer)
		}
		return s
	}
	return f
}

// extreme is the least or the greatest of the arguments, or of the lists among them.
func extreme(want int, name string) function {
	return function{params: []kinds{orderedKinds | only(list)}, more: true, result: givesAny, call: func(r *run, at int, args []value) value {
		var best value
		look := func(v value) {
			r.spend(at, 1)
			if v = r.force(v); v.kind == null {
				failf(at, "%s: null is among the values", name)
			}
			if best.kind == null || r.compare(at, v, best) == want {
				best = v
			}
		}
		for _, a := range args {
			if a.kind != list {
				look(a)
				continue
			}
			for _, item := range a.items() {
				look(item)
			}
		}
		return best
	}}
}

// all gives the numbers of the arguments and of the lists among them.
func (r *run) all(at int, name string, args []value) []value {
	var out []value
	add := func(v value) {
		if v = r.force(v); !numbers.has(v.kind) {
			failf(at, "%s takes numbers, and %s is among the values", name, kindNames[v.kind])
		}
		r.grow(at, 2*valueSize)
		out = append(out, v)
	}
	for _, a := range args {
		if a.kind != list {
			add(a)
			continue
		}
		for _, item := range a.items() {
			add(item)
		}
	}
	if len(out) == 0 {
		failf(at, "%s of no numbers has no value", name)
	}
	return out
}

var numberFunctions = map[string]function{
	"round": rounding('r', true),
	"ceil":  rounding('c', false),
	"floor": rounding('f', false),
	"abs": {params: []kinds{numbers}, result: same, call: func(r *run, at int, args []value) value {
		if r.order(at, args[0], intValue(0)) >= 0 {
			return args[0]
		}
		return r.negated(at, args[0])
	}},
	"min": extreme(-1, "min"),
	"max": extreme(1, "max"),
	"mean": {params: []kinds{numbers | only(list)}, more: true, result: gives(integer, decimal, float), call: func(r *run, at int, args []value) value {
		all := r.all(at, "mean", args)
		total := all[0]
		for _, v := range all[1:] {
			total = r.arithmetic(at, '+', total, v)
		}
		return r.arithmetic(at, '/', total, intValue(int64(len(all))))
	}},
	"median": {params: []kinds{numbers | only(list)}, more: true, result: gives(integer, decimal, float), call: func(r *run, at int, args []value) value {
		all := r.all(at, "median", args)
		all = r.sorted(at, all, all, false)
		n := len(all) / 2
		if len(all)%2 == 1 {
			return all[n]
		}
		return r.arithmetic(at, '/', r.arithmetic(at, '+', all[n-1], all[n]), intValue(2))
	}},
	"int": {params: []kinds{numbers | only(text)}, result: gives(integer), call: func(r *run, at int, args []value) value {
		v := args[0]
		switch v.kind {
		case integer:
			return v
		case text:
			n, err := strconv.ParseInt(strings.TrimSpace(v.str), 10, 64)
			if err != nil {
				failf(at, "int: %q is not a whole number of 64 bits", clipped(v.str))
			}
			return intValue(n)
		case float:
			if f := v.float(); f == math.Trunc(f) && f >= -1<<63 && f < 1<<63 {
				return intValue(int64(f))
			}
			failf(at, "int: the float is not a whole number of 64 bits; round, ceil or floor it first")
		}
		d := r.exactly(at, v)
		whole := new(apd.Decimal)
		whole.Reduce(d)
		if whole.Exponent >= 0 && whole.NumDigits()+int64(whole.Exponent) < 20 && settle(whole) {
			if n, err := whole.Int64(); err == nil {
				return intValue(n)
			}
		}
		failf(at, "int: the decimal number is not a whole number of 64 bits; round, ceil or floor it first")
		return value{}
	}},
	"decimal": {params: []kinds{numbers | only(text)}, result: gives(integer, decimal), call: func(r *run, at int, args []value) value {
		v := args[0]
		switch v.kind {
		case text:
			s := strings.TrimSpace(v.str)
			r.grow(at, 48+len(s))
			if strings.ContainsAny(s, "iInN_") {
				failf(at, "decimal: %q is not a number", clipped(v.str))
			}
			return decimalValue(parseDecimal(at, s))
		case float:
			if special(v.float()) {
				failf(at, "decimal: NaN and Infinity are not decimal numbers")
			}
			return decimalValue(parseDecimal(at, strconv.FormatFloat(v.float(), 'e', -1, 64)))
		}
		return v
	}},
	"float": {params: []kinds{numbers | only(text)}, result: gives(float), call: func(r *run, at int, args []value) value {
		v := args[0]
		if v.kind == text {
			f, err := strconv.ParseFloat(strings.TrimSpace(v.str), 64)
			if err != nil || special(f) {
				failf(at, "float: %q is not a number", clipped(v.str))
			}
			return floatValue(f)
		}
		return floatValue(r.approximately(at, v))
	}},
}
