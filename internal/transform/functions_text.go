package transform

import (
	"math"
	"strings"
)

// onText is a function of one text.
func onText(f func(string) string) function {
	return function{params: []kinds{only(text)}, result: gives(text), call: func(r *run, at int, args []value) value {
		r.grow(at, 2*len(args[0].str))
		return textValue(f(args[0].str))
	}}
}

// cut is a function of a text and of what to take off it, a blank if that is left out.
func cut(f func(s, part string) string) function {
	return function{params: []kinds{only(text), only(text)}, optional: 1, result: gives(text), call: func(r *run, at int, args []value) value {
		part := " "
		if len(args) == 2 {
			part = args[1].str
		}
		r.spend(at, len(args[0].str)/16)
		return textValue(f(args[0].str, part))
	}}
}

func test(f func(s, part string) bool) function {
	return function{params: []kinds{only(text), only(text)}, result: gives(boolean), call: func(r *run, at int, args []value) value {
		r.spend(at, len(args[0].str)/32)
		return boolValue(f(args[0].str, args[1].str))
	}}
}

// find gives the place of a part in characters, -1 if it is not there.
func find(f func(s, part string) int) function {
	return function{params: []kinds{only(text), only(text)}, result: gives(integer), call: func(r *run, at int, args []value) value {
		s := args[0].str
		r.spend(at, len(s)/16)
		i := f(s, args[1].str)
		if i > 0 {
			i = runes(s[:i])
		}
		return intValue(int64(i))
	}}
}

func splitting(f func(s, sep string, n int) []string) function {
	return function{params: []kinds{only(text), only(text), only(integer)}, optional: 1, result: func([]compiled) shape { return listOf(of(text)) },
		call: func(r *run, at int, args []value) value {
			s, sep, n := args[0].str, args[1].str, -1
			if len(args) == 3 {
				n = int(max(-1, min(args[2].num, math.MaxInt32)))
			}
			pieces := strings.Count(s, sep) + 1
			r.grow(at, pieces*16)
			all := f(s, sep, n)
			out := r.list(at, len(all))
			for i, p := range all {
				out[i] = textValue(p)
			}
			return listValue(out)
		}}
}

var textFunctions = map[string]function{
	"upper":     onText(strings.ToUpper),
	"lower":     onText(strings.ToLower),
	"hasPrefix": test(strings.HasPrefix), "hasSuffix": test(strings.HasSuffix),
	"trimPrefix": cut(strings.TrimPrefix), "trimSuffix": cut(strings.TrimSuffix),
	"indexOf": find(strings.Index), "lastIndexOf": find(strings.LastIndex),
	"split": splitting(strings.SplitN), "splitAfter": splitting(strings.SplitAfterN),
	"trim": {params: []kinds{only(text), only(text)}, optional: 1, result: gives(text), call: func(r *run, at int, args []value) value {
		r.spend(at, len(args[0].str)/16)
		if len(args) == 2 {
			r.spend(at, len(args[0].str)*len(args[1].str)/16)
			return textValue(strings.Trim(args[0].str, args[1].str))
		}
		return textValue(strings.TrimSpace(args[0].str))
	}},
	"replace": {params: []kinds{only(text), only(text), only(text), only(integer)}, optional: 1, result: gives(text), call: func(r *run, at int, args []value) value {
		s, from, to, n := args[0].str, args[1].str, args[2].str, -1
		if len(args) == 4 {
			n = int(max(-1, min(args[3].num, math.MaxInt32)))
		}
		times := strings.Count(s, from)
		if n >= 0 {
			times = min(times, n)
		}
		r.grow(at, len(s))
		r.pieces(at, times, len(to))
		return textValue(strings.Replace(s, from, to, n))
	}},
	"repeat": {params: []kinds{only(text), only(integer)}, result: gives(text), call: func(r *run, at int, args []value) value {
		if args[1].num < 0 {
			failf(at, "repeat takes how often, not %d", args[1].num)
		}
		n := int(min(args[1].num, math.MaxInt32))
		r.pieces(at, n, len(args[0].str))
		if args[0].str == "" {
			return args[0]
		}
		return textValue(strings.Repeat(args[0].str, n))
	}},
	"join": {params: []kinds{only(list), only(text)}, optional: 1, result: gives(text), call: func(r *run, at int, args []value) value {
		glue := ""
		if len(args) == 2 {
			glue = args[1].str
		}
		var b strings.Builder
		for i, item := range args[0].items() {
			v := r.force(item)
			if v.kind != text {
				failf(at, "join takes a list of texts, and the element %d is %s", i, kindNames[v.kind])
			}
			r.grow(at, 2*(len(glue)+len(v.str))+1)
			if i > 0 {
				b.WriteString(glue)
			}
			b.WriteString(v.str)
		}
		return textValue(b.String())
	}},
}

// pieces counts the memory of n pieces of some bytes.
func (r *run) pieces(at, n, bytes int) {
	if n > 0 && bytes > math.MaxInt32/n {
		r.grow(at, math.MinInt)
	}
	r.grow(at, n*bytes)
}
