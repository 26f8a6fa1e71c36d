package transform

import (
	"math"

	"github.com/cockroachdb/apd/v3"
)

// value is a value during a run. Its strings and lists may be lent by the row, so none outlives the run.
type value struct {
	kind kind
	// clock is which of the types an instant has.
	clock clock
	// scale is how many digits of a short decimal are behind the point.
	scale int16
	// num is 0 or 1 of a boolean, an integer, the bits of a float, the place of a column, the days of a date, the
	// microseconds of other instants and of durations. Of a decimal with neither str nor ref it is all digits: most
	// are short, and need nothing else.
	num int64
	// str is text or bytes; of a decimal from JSON without ref, what was written there.
	str string
	// ref is a *apd.Decimal, *items or *fields.
	ref any
}

// items are the elements of a list. They do not change once they are made.
type items struct{ values []value }

// clock is a type of instants.
type clock uint8

const (
	timestamptz clock = iota
	timestamp
	date
)

func boolValue(b bool) value {
	if b {
		return value{kind: boolean, num: 1}
	}
	return value{kind: boolean}
}

func intValue(n int64) value     { return value{kind: integer, num: n} }
func floatValue(f float64) value { return value{kind: float, num: int64(math.Float64bits(f))} }
func textValue(s string) value   { return value{kind: text, str: s} }
func listValue(l []value) value  { return value{kind: list, ref: &items{l}} }

func decimalValue(d *apd.Decimal) value { return value{kind: decimal, ref: d} }

func (v value) float() float64  { return math.Float64frombits(uint64(v.num)) }
func (v value) items() []value  { return v.ref.(*items).values }
func (v value) fields() *fields { return v.ref.(*fields) }
func (v value) isTrue() bool    { return v.num != 0 }

// fields are the members of a map in order. They do not change once they are made.
type fields struct {
	names  []string
	values []value
	// index finds a name among many; it is made by the first search.
	index map[string]int
}

func (f *fields) find(name string) int {
	if len(f.names) <= 16 {
		for i, n := range f.names {
			if n == name {
				return i
			}
		}
		return -1
	}
	if f.index == nil {
		f.index = make(map[string]int, len(f.names))
		for i, n := range f.names {
			f.index[n] = i
		}
	}
	if i, ok := f.index[name]; ok {
		return i
	}
	return -1
}

// builder makes fields of which a later one replaces an earlier one of the same name.
type builder struct {
	f    *fields
	seen map[string]int
}

func (b *builder) set(name string, v value) {
	if b.f == nil {
		b.f = &fields{}
	}
	at := -1
	if len(b.f.names) < 16 {
		at = b.f.find(name)
	} else {
		if b.seen == nil {
			b.seen = make(map[string]int)
			for i, n := range b.f.names {
				b.seen[n] = i
			}
		}
		if i, ok := b.seen[name]; ok {
			at = i
		}
	}
	if at >= 0 {
		b.f.values[at] = v
		return
	}
	if b.seen != nil {
		b.seen[name] = len(b.f.names)
	}
	b.f.names, b.f.values = append(b.f.names, name), append(b.f.values, v)
}

func (b *builder) value() value {
	if b.f == nil {
		b.f = &fields{}
	}
	return value{kind: object, ref: b.f}
}
