package transform

import (
	"encoding/hex"
	"strconv"

	"github.com/cockroachdb/apd/v3"

	"github.com/freshet/freshet/internal/render"
)

// encoder writes JSON behind what stands in a buffer already.
type encoder struct {
	run *run
	// at is the place in the expression for what cannot be written.
	at    int
	limit int
	deep  int
}

// value appends v.
func (e *encoder) value(dst []byte, v value) []byte {
	if len(dst) > e.limit {
		failf(e.at, "the value has more than %d bytes", MaxOutput)
	}
	// A list that is made of itself twice, many times over, is small until it is printed.
	e.run.spend(e.at, 1)
	var err error
	switch v.kind {
	case null:
		return append(dst, "null"...)
	case column:
		c := e.run.p.cells[v.num]
		raw := e.run.values[e.run.p.at[v.num]]
		if len(dst)+len(raw) > e.limit {
			failf(e.at, "the value has more than %d bytes", MaxOutput)
		}
		dst, err = c.AppendJSON(dst, raw)
		e.run.p.check(c, err)
		return dst
	case boolean:
		return strconv.AppendBool(dst, v.isTrue())
	case integer:
		return strconv.AppendInt(dst, v.num, 10)
	case float:
		return render.AppendFloat(dst, v.float())
	case decimal:
		return appendDecimal(dst, v)
	case text:
		if dst, err = render.AppendString(dst, bytesOf(v.str)); err != nil {
			panic(&failure{at: e.at, message: err.Error(), cause: err})
		}
		return dst
	case binary:
		if len(dst)+2*len(v.str) > e.limit {
			failf(e.at, "the value has more than %d bytes", MaxOutput)
		}
		dst = append(dst, `"\\x`...)
		return append(hex.AppendEncode(dst, bytesOf(v.str)), '"')
	case instant:
		return append(appendInstant(append(dst, '"'), v), '"')
	case duration:
		failf(e.at, "a duration has no form in JSON: take its .Seconds()")
	case list:
		return e.list(dst, v.items())
	case object:
		return e.object(dst, v.fields())
	}
	return dst
}

func (e *encoder) enter() {
	if e.deep++; e.deep > maxDepth {
		failf(e.at, "lists and maps are nested deeper than %d", maxDepth)
	}
}

func (e *encoder) list(dst []byte, all []value) []byte {
	e.enter()
	dst = append(dst, '[')
	for i, v := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.value(dst, v)
	}
	e.deep--
	return append(dst, ']')
}

func (e *encoder) object(dst []byte, f *fields) []byte {
	e.enter()
	dst = append(dst, '{')
	for i, name := range f.names {
		if i > 0 {
			dst = append(dst, ',')
		}
		out, err := render.AppendString(dst, bytesOf(name))
		if err != nil {
			panic(&failure{at: e.at, message: "the name of a field: " + err.Error(), cause: err})
		}
		dst = e.value(append(out, ':'), f.values[i])
	}
	e.deep--
	return append(dst, '}')
}

// appendDecimal prints the digits that a decimal came with, or all those that it was calculated to.
func appendDecimal(dst []byte, v value) []byte {
	if d, ok := v.ref.(*apd.Decimal); ok {
		return d.Append(dst, 'f')
	}
	if v.str == "" {
		return appendShort(dst, v)
	}
	return append(dst, v.str...)
}

func appendInstant(dst []byte, v value) []byte {
	if v.clock == date {
		return render.AppendDate(dst, int32(v.num))
	}
	return render.AppendTimestamp(dst, v.num, v.clock == timestamptz)
}
