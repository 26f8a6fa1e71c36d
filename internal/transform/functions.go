package transform

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"sort"
	"unicode/utf8"
)

// functions are all that can be called by name but loops, default and, with names written out, pick and omit.
var functions map[string]function

var functionNames []string

func init() {
	functions = make(map[string]function)
	for _, group := range []map[string]function{mapFunctions, textFunctions, numberFunctions, listFunctions, timeFunctions} {
		for name, f := range group {
			functions[name] = f
			functionNames = append(functionNames, name)
		}
	}
	for name := range loops {
		functionNames = append(functionNames, name)
	}
	functionNames = append(functionNames, "default")
	sort.Strings(functionNames)
}

func gives(k ...kind) func([]compiled) shape {
	s := of(k...)
	return func([]compiled) shape { return s }
}

func givesAny([]compiled) shape { return unknown }

// chosen is the shape of pick and omit with names that are known only with a row.
func chosen([]compiled) shape { return of(object) }

// mapFunctions are those of maps and of values of any kind.
var mapFunctions = map[string]function{
	"pick": {params: []kinds{only(object), only(text)}, more: true, result: chosen, call: func(r *run, at int, args []value) value {
		f := args[0].fields()
		var b builder
		for _, name := range args[1:] {
			r.grow(at, 2*(valueSize+16))
			if i := f.find(name.str); i >= 0 {
				b.set(name.str, f.values[i])
			}
		}
		return b.value()
	}},
	"omit": {params: []kinds{only(object), only(text)}, more: true, result: chosen, call: func(r *run, at int, args []value) value {
		f := args[0].fields()
		out := &fields{}
		r.spend(at, len(f.names)*len(args))
		r.grow(at, len(f.names)*(valueSize+16))
		for i, name := range f.names {
			drop := false
			for _, a := range args[1:] {
				drop = drop || a.str == name
			}
			if !drop {
				out.names, out.values = append(out.names, name), append(out.values, f.values[i])
			}
		}
		return value{kind: object, ref: out}
	}},
	"merge": {params: []kinds{only(object)}, more: true, result: merged, call: func(r *run, at int, args []value) value {
		total := 0
		for _, a := range args {
			total += len(a.fields().names)
		}
		r.grow(at, total*(valueSize+16))
		// The names of the first are all different.
		first := args[0].fields()
		b := builder{f: &fields{
			names:  append(make([]string, 0, total), first.names...),
			values: append(r.list(at, total)[:0], first.values...),
		}}
		for _, a := range args[1:] {
			for i, name := range a.fields().names {
				b.set(name, a.fields().values[i])
			}
		}
		return b.value()
	}},
	"keys": {params: []kinds{only(object)}, result: func([]compiled) shape { return listOf(of(text)) }, call: func(r *run, at int, args []value) value {
		names := args[0].fields().names
		out := r.list(at, len(names))
		for i, name := range names {
			out[i] = textValue(name)
		}
		return listValue(out)
	}},
	"values": {params: []kinds{only(object)}, result: gives(list), call: func(r *run, at int, args []value) value {
		return listValue(args[0].fields().values)
	}},
	"toPairs": {params: []kinds{only(object)}, result: gives(list), call: func(r *run, at int, args []value) value {
		f := args[0].fields()
		out := r.list(at, len(f.names))
		for i, name := range f.names {
			pair := r.list(at, 2)
			pair[0], pair[1] = textValue(name), f.values[i]
			out[i] = listValue(pair)
		}
		return listValue(out)
	}},
	"fromPairs": {params: []kinds{only(list)}, result: gives(object), call: func(r *run, at int, args []value) value {
		var b builder
		for _, item := range args[0].items() {
			pair := r.force(item)
			if pair.kind != list || len(pair.items()) != 2 || r.force(pair.items()[0]).kind != text {
				failf(at, "fromPairs takes a list of lists of two: a text and a value")
			}
			r.grow(at, 2*(valueSize+16))
			b.set(r.force(pair.items()[0]).str, pair.items()[1])
		}
		return b.value()
	}},
	"get": {params: []kinds{only(object) | only(list) | only(null), only(text) | only(integer)}, result: givesAny, call: func(r *run, at int, args []value) value {
		switch where, k := args[0], args[1]; {
		case where.kind == object && k.kind == text:
			r.spend(at, 1+len(where.fields().names)/16)
			if i := where.fields().find(k.str); i >= 0 {
				return where.fields().values[i]
			}
		case where.kind == list && k.kind == integer:
			i := k.num
			if i < 0 {
				i += int64(len(where.items()))
			}
			if i >= 0 && i < int64(len(where.items())) {
				return where.items()[i]
			}
		case where.kind != null:
			failf(at, "get takes a map and a text or a list and a whole number, not %s and %s", kindNames[where.kind], kindNames[k.kind])
		}
		return value{}
	}},
	"type": {params: []kinds{anyKind}, result: gives(text), call: func(_ *run, _ int, args []value) value {
		return textValue([...]string{"nil", "bool", "int", "decimal", "float", "string", "bytes", "time", "duration", "array", "map"}[args[0].kind])
	}},
	"len": {params: []kinds{only(text) | only(binary) | only(list) | only(object)}, result: gives(integer), call: func(r *run, at int, args []value) value {
		switch v := args[0]; v.kind {
		case text:
			r.spend(at, len(v.str)/32)
			return intValue(int64(runes(v.str)))
		case binary:
			return intValue(int64(len(v.str)))
		case list:
			return intValue(int64(len(v.items())))
		}
		return intValue(int64(len(args[0].fields().names)))
	}},
	"toJSON": {params: []kinds{anything}, result: gives(text), call: func(r *run, at int, args []value) value {
		e := encoder{run: r, at: at, limit: maxMemory + 4*r.size()}
		out := e.value(nil, args[0])
		r.grow(at, len(out))
		return textValue(lent(out))
	}},
	"fromJSON": {params: []kinds{only(text)}, result: givesAny, call: func(r *run, at int, args []value) value {
		d := decoder{run: r, at: at, src: args[0].str}
		v, problem := d.document()
		if problem != "" {
			failf(at, "fromJSON: the text is not JSON: %s", problem)
		}
		return v
	}},
	"sha256": {params: []kinds{only(text) | only(binary)}, result: gives(text), call: func(r *run, at int, args []value) value {
		r.spend(at, len(args[0].str)/8)
		sum := sha256.Sum256(bytesOf(args[0].str))
		return textValue(hex.EncodeToString(sum[:]))
	}},
	"toBase64": {params: []kinds{only(text) | only(binary)}, result: gives(text), call: func(r *run, at int, args []value) value {
		r.grow(at, base64.StdEncoding.EncodedLen(len(args[0].str)))
		return textValue(base64.StdEncoding.EncodeToString(bytesOf(args[0].str)))
	}},
	"fromBase64": {params: []kinds{only(text)}, result: gives(binary), call: func(r *run, at int, args []value) value {
		r.grow(at, len(args[0].str))
		b, err := base64.StdEncoding.DecodeString(args[0].str)
		if err != nil {
			failf(at, "fromBase64: %s is not base64", clipped(args[0].str))
		}
		return value{kind: binary, str: lent(b)}
	}},
	"string": {params: []kinds{anyKind &^ (only(null) | only(list) | only(object) | only(duration))}, result: gives(text), call: func(r *run, at int, args []value) value {
		return textValue(r.string(at, args[0]))
	}},
}

// merged is the shape of all fields of the arguments.
func merged(args []compiled) shape {
	s := shape{kinds: only(object), fields: make(map[string]shape)}
	for _, a := range args {
		if a.fields == nil || a.kinds != only(object) {
			return of(object)
		}
		for name, f := range a.fields {
			s.fields[name] = f
		}
	}
	return s
}

// string is a value as text: without quotes, and what JSON would have otherwise.
func (r *run) string(at int, v value) string {
	switch v.kind {
	case text:
		return v.str
	case binary:
		if !utf8.ValidString(v.str) {
			failf(at, "the bytes are not valid UTF-8")
		}
		return v.str
	case instant:
		r.grow(at, 32)
		return lent(appendInstant(nil, v))
	case float:
		if special(v.float()) {
			failf(at, "NaN and Infinity are not printed as text: look for them first")
		}
	}
	e := encoder{run: r, at: at, limit: MaxOutput}
	out := e.value(nil, v)
	r.grow(at, len(out))
	return lent(out)
}
