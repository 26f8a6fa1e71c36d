package transform

import (
	"math/bits"
	"sort"
	"strings"

	"github.com/freshet/freshet/internal/render"
)

// kind is what a value is.
type kind uint8

const (
	null kind = iota
	boolean
	integer
	decimal
	float
	text
	binary
	instant // a date, a timestamp or a timestamptz
	duration
	list
	object
	// column is a value that Postgres sent and nobody has looked at yet.
	column
)

var kindNames = [...]string{"null", "true or false", "a whole number", "a decimal number", "a float", "text", "bytes", "a time", "a duration", "a list", "a map", "a column"}

// kinds is a set of them.
type kinds uint16

func only(k kind) kinds { return 1 << k }

const (
	numbers = kinds(1<<integer | 1<<decimal | 1<<float)
	exact   = kinds(1<<integer | 1<<decimal)
	anyKind = kinds(1<<column - 1)
)

func (s kinds) has(k kind) bool { return s>>k&1 != 0 }

func (s kinds) String() string {
	if s == anyKind {
		return "any value"
	}
	var names []string
	if s&numbers == numbers || s&numbers == exact {
		names = append(names, "a number")
		s &^= numbers
	}
	for rest := s; rest != 0; rest &= rest - 1 {
		names = append(names, kindNames[bits.TrailingZeros16(uint16(rest))])
	}
	return strings.Join(names, " or ")
}

// shape is what is known of a value before there is a row. Every value may be null besides.
type shape struct {
	kinds kinds
	// element is that of a list, nil if nothing is known of it.
	element *shape
	// fields are those of a map, nil if they are not known.
	fields map[string]shape
	// record is set for the map that has the columns of the source.
	record bool
}

var unknown = shape{kinds: anyKind}

func of(k ...kind) shape {
	var s shape
	for _, k := range k {
		s.kinds |= only(k)
	}
	return s
}

func listOf(element shape) shape { return shape{kinds: only(list), element: &element} }

// item is the shape of a list's elements.
func (s shape) item() shape {
	if s.kinds&only(list) == 0 || s.kinds&^(only(list)|only(null)) != 0 || s.element == nil {
		return unknown
	}
	return *s.element
}

// either is what may be the one or the other.
func either(a, b shape) shape {
	s := shape{kinds: a.kinds | b.kinds}
	switch {
	case a.kinds == only(null):
		s.element, s.fields, s.record = b.element, b.fields, b.record
	case b.kinds == only(null):
		s.element, s.fields, s.record = a.element, a.fields, a.record
	}
	return s
}

// names are the fields in order, for messages.
func (s shape) names() []string {
	var names []string
	for name := range s.fields {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// shapeOf is the shape of a column's values.
func shapeOf(c render.Cell) shape {
	switch c.Sort() {
	case render.Bool:
		return of(boolean)
	case render.Int:
		return of(integer)
	case render.Float4, render.Float8:
		return of(float)
	case render.Numeric:
		// NaN and the infinities are floats, as decimals are always numbers.
		return of(decimal)
	case render.Text, render.Word:
		return of(text)
	case render.Bytes:
		return of(binary)
	case render.Date, render.Timestamp, render.Timestamptz:
		return of(instant)
	}
	return unknown
}
