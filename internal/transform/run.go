package transform

import (
	"errors"
	"math"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/freshet/freshet/internal/render"
)

const (
	// maxSteps is about a second's work: a step is a node of the expression in a loop, or some bytes gone through.
	maxSteps = 10_000_000
	// maxMemory is how many bytes an entry may make besides four times those of its row.
	maxMemory = 16 << 20
	// maxDepth is how deep lists and maps may stand in each other.
	maxDepth = 1000

	valueSize = int(unsafe.Sizeof(value{}))
)

// run is the scratch of one call of Append.
type run struct {
	p      *Program
	values [][]byte
	key    string
	now    int64

	steps, memory int
	// vars are the variables of let, scopes the loops around the node that is evaluated.
	vars   []value
	scopes []scope
	// stack holds arguments of calls.
	stack []value
	// arena is where lists and maps of a known size have their values.
	arena []value
	// documents are columns that have been parsed, of kind column where they have not.
	documents []value
	digits    []byte
	// absent is set from a ?. of null to the end of its chain.
	absent bool
}

// scope is a loop.
type scope struct {
	item, acc value
	index     int
}

func (r *run) begin(p *Program, key []byte, values [][]byte, now time.Time) {
	r.p, r.values, r.key = p, values, lent(key)
	r.now = micros(now)
	r.steps, r.memory, r.absent = 0, 0, false
	if r.vars == nil {
		r.vars = make([]value, p.slots)
		r.scopes = make([]scope, p.depth)
	}
}

// end forgets what was lent.
func (r *run) end() {
	r.values, r.key = nil, ""
	clear(r.vars)
	clear(r.scopes)
	clear(r.documents)
	r.documents = r.documents[:0]
	clear(r.stack[:cap(r.stack)])
	r.stack = r.stack[:0]
	clear(r.arena)
	r.arena = r.arena[:0]
	if cap(r.stack) > 1024 {
		r.stack = nil
	}
	if cap(r.digits) > 4096 {
		r.digits = nil
	}
}

// spend counts work, and fails when there was too much.
func (r *run) spend(at, steps int) {
	r.steps += steps
	if r.steps > maxSteps || r.steps < 0 {
		failf(at, "the expression takes too many steps for this row: an entry can have %d", maxSteps)
	}
}

// grow counts bytes that are made, and the work to make them.
func (r *run) grow(at, bytes int) {
	r.memory += bytes
	if r.memory > maxMemory || bytes < 0 {
		if bytes < 0 || r.memory > maxMemory+4*r.size() {
			failf(at, "the expression needs too much memory for this row: an entry can have %d MiB and four times the size of its row", maxMemory>>20)
		}
	}
	r.spend(at, bytes/32)
}

// size is how many bytes the row has.
func (r *run) size() int {
	n := 0
	for _, v := range r.values {
		n += len(v)
	}
	return n
}

// list gives room for n values, which are null.
func (r *run) list(at, n int) []value {
	if n > maxMemory {
		r.grow(at, math.MinInt)
	}
	r.grow(at, n*valueSize)
	if n > 256 {
		return make([]value, n)
	}
	if cap(r.arena)-len(r.arena) < n {
		r.arena = make([]value, 0, 512)
	}
	from := len(r.arena)
	r.arena = r.arena[:from+n]
	return r.arena[from : from+n : from+n]
}

// lent is a string that shares its bytes, for the time of a run.
func lent(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// bytesOf are a string's bytes, not to be written to.
func bytesOf(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

// load is the value of a column, not looked at but for null.
func (r *run) load(col int) value {
	raw := r.values[r.p.at[col]]
	if raw == nil {
		return value{}
	}
	// A null inside of JSON is as good as one of SQL.
	if r.p.cells[col].Sort() == render.Document && len(raw) < 16 && isNullDocument(r.p.cells[col], raw) {
		return value{}
	}
	return value{kind: column, num: int64(col)}
}

func isNullDocument(c render.Cell, raw []byte) bool {
	doc, err := c.JSON(raw)
	return err == nil && string(trimBlanks(doc)) == "null"
}

// force looks at a column.
func (r *run) force(v value) value {
	if v.kind != column {
		return v
	}
	col := int(v.num)
	c, raw := r.p.cells[col], r.values[r.p.at[col]]
	switch c.Sort() {
	case render.Bool:
		n, err := c.Int(raw)
		r.p.check(c, err)
		return value{kind: boolean, num: n}
	case render.Int:
		n, err := c.Int(raw)
		r.p.check(c, err)
		return intValue(n)
	case render.Float4, render.Float8:
		f, err := c.Float(raw)
		r.p.check(c, err)
		return floatValue(f)
	case render.Text:
		if !utf8.Valid(raw) {
			r.p.check(c, render.ErrNotUTF8)
		}
		r.spend(-1, len(raw)/64)
		return textValue(lent(raw))
	case render.Bytes:
		return value{kind: binary, str: lent(raw)}
	case render.Date, render.Timestamp, render.Timestamptz:
		n, err := c.Int(raw)
		r.p.check(c, err)
		v := value{kind: instant, num: n}
		switch c.Sort() {
		case render.Date:
			v.clock = date
		case render.Timestamp:
			v.clock = timestamp
		}
		return v
	case render.Numeric:
		var err error
		r.digits, err = c.AppendText(r.digits[:0], raw)
		r.p.check(c, err)
		switch string(r.digits) {
		case "NaN":
			return floatValue(math.NaN())
		case "Infinity":
			return floatValue(math.Inf(1))
		case "-Infinity":
			return floatValue(math.Inf(-1))
		}
		if v, ok := shortDecimal(lent(r.digits)); ok {
			return v
		}
		r.grow(-1, 48+len(r.digits))
		return decimalValue(parseDecimal(-1, string(r.digits)))
	case render.Word:
		var err error
		r.digits, err = c.AppendText(r.digits[:0], raw)
		r.p.check(c, err)
		r.grow(-1, len(r.digits))
		return textValue(string(r.digits))
	}
	return r.document(col, c, raw)
}

// document parses a column, once in a run.
func (r *run) document(col int, c render.Cell, raw []byte) value {
	if len(r.documents) == 0 {
		r.documents = append(r.documents, make([]value, len(r.p.cells))...)
	}
	if d := r.documents[col]; d.ref != nil || d.kind != null {
		return d
	}
	doc, err := c.JSON(raw)
	r.p.check(c, err)
	if !utf8.Valid(doc) {
		r.p.check(c, render.ErrNotUTF8)
	}
	d := decoder{run: r, at: -1, src: lent(doc)}
	v, problem := d.document()
	if problem != "" {
		failf(-1, "the column %q is not JSON: %s", c.Name(), problem)
	}
	r.documents[col] = v
	return v
}

// check fails for a value that render cannot read. That it is not UTF-8 is the row's fault, anything else is ours.
func (p *Program) check(c render.Cell, err error) {
	switch {
	case err == nil:
	case errors.Is(err, render.ErrNotUTF8):
		panic(&failure{at: -1, message: "the column \"" + c.Name() + "\": " + err.Error(), cause: err})
	default:
		panic(&defect{err})
	}
}

func trimBlanks(b []byte) []byte {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isBlank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isBlank(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
