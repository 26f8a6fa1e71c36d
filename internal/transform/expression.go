package transform

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"github.com/freshet/freshet/internal/render"
)

// maxSource is the most bytes that an expression can have.
const maxSource = 16 << 10

// Program is a compiled expression. It is immutable and safe for concurrent use.
type Program struct {
	source, sink string
	eval         eval
	// cells are all columns of the source; selected are the places of those that are used, and at is the way back.
	cells    []render.Cell
	columns  []render.Column
	selected []int
	at       []int
	// slots and depth are how many variables and loops a run has.
	slots, depth int
	// clocked: it uses now.
	clocked bool
	runs    sync.Pool
}

// Compile prepares an expression over the row of a source with these columns, for a sink of this name. In it stand
//
//	record  a map of the columns
//	key     the entry's key, text
//	sink    the sink's name, text
//	now     the moment that the row was read, a time
//
// A map or a list that it results in becomes JSON. A text or bytes are the value as they are, a number, a boolean and
// a time in JSON. Null means that the row has no entry. The error is an [*Error].
func Compile(source string, columns []render.Column, sink string) (p *Program, err error) {
	if len(source) > maxSource {
		return nil, &Error{Message: fmt.Sprintf("the expression has %d bytes, and can have %d", len(source), maxSource)}
	}
	if !utf8.ValidString(source) {
		return nil, &Error{Message: "the expression is not valid UTF-8"}
	}
	defer func() {
		switch x := recover().(type) {
		case nil:
		case *failure:
			p, err = nil, x.in(source)
		default:
			// The parser's own, as far as anyone knows.
			p, err = nil, &Error{Message: fmt.Sprintf("the expression cannot be read: %v", x)}
		}
	}()
	if strings.TrimSpace(source) == "" {
		failf(-1, "the expression is empty")
	}
	tree, err := parser.Parse(source)
	if err != nil {
		return nil, syntaxError(err)
	}
	p = &Program{source: source, sink: sink, columns: columns, cells: make([]render.Cell, len(columns)), at: make([]int, len(columns))}
	record := shape{kinds: only(object), fields: make(map[string]shape, len(columns)), record: true}
	for i, c := range columns {
		p.cells[i] = render.NewCell(c)
		record.fields[c.Name] = shapeOf(p.cells[i])
	}
	c := &compiler{p: p, source: []rune(source), record: record, used: make([]bool, len(columns)), done: make(map[any]compiled)}
	root := c.compile(tree.Node)
	if root.kinds == only(duration) {
		c.fail(tree.Node, "the expression results in a duration, which has no form of its own: take its .Seconds()")
	}
	p.eval = root.eval
	for i, used := range c.used {
		if used {
			p.at[i] = len(p.selected)
			p.selected = append(p.selected, i)
		}
	}
	p.runs.New = func() any { return new(run) }
	return p, nil
}

func syntaxError(err error) *Error {
	var e *file.Error
	if errors.As(err, &e) {
		message := e.Message
		// What it says of tokens is for those who wrote the parser.
		message = strings.NewReplacer("unexpected token EOF", "the expression ends too early", "unexpected end of expression", "the expression ends too early",
			"unexpected token Operator(\"", "unexpected (\"", "unexpected token Bracket(\"", "unexpected (\"", "unexpected token Identifier(\"", "unexpected (\"",
			"unexpected token Number(\"", "unexpected (\"", "unexpected token String(\"", "unexpected (\"", "compilation failed: ", "").Replace(message)
		if quoted, ok := strings.CutPrefix(message, "unexpected (\""); ok {
			message = "unexpected \"" + strings.TrimSuffix(quoted, ")")
		}
		return &Error{Message: message, Line: e.Line, Column: e.Column + 1}
	}
	return &Error{Message: err.Error()}
}

// Columns are those that the expression uses, in the order of the source.
func (p *Program) Columns() []render.Column {
	out := make([]render.Column, len(p.selected))
	for i, col := range p.selected {
		out[i] = p.columns[col]
	}
	return out
}

// Clocked reports whether the expression uses now, so that the same row makes another value at another time.
func (p *Program) Clocked() bool { return p.clocked }

// Select is described at [Transform].
func (p *Program) Select(alias string) []string {
	out := make([]string, len(p.selected))
	for i, col := range p.selected {
		out[i] = p.cells[col].Select(alias)
	}
	return out
}

// Append is described at [Transform]. It does not look at the context: an entry is bounded by steps.
func (p *Program) Append(_ context.Context, dst, key []byte, values [][]byte, now time.Time) (out []byte, present bool, err error) {
	if len(values) != len(p.selected) {
		return dst, false, fmt.Errorf("transform row: %d values for %d columns", len(values), len(p.selected))
	}
	r := p.runs.Get().(*run)
	defer func() {
		switch x := recover().(type) {
		case nil:
		case *failure:
			out, present, err = dst, false, x.in(p.source)
		case *defect:
			out, present, err = dst, false, fmt.Errorf("transform row: %w", x.err)
		default:
			// Whatever broke may have left the scratch in any state.
			out, present, err = dst, false, fmt.Errorf("transform row: %v", x)
			return
		}
		r.end()
		p.runs.Put(r)
	}()
	r.begin(p, key, values, now)
	return r.result(dst, p.eval(r))
}

// result appends what an expression came to.
func (r *run) result(dst []byte, v value) ([]byte, bool, error) {
	if v.kind == column {
		switch r.p.cells[v.num].Sort() {
		case render.Text, render.Word, render.Bytes:
			v = r.force(v)
		case render.Document:
			// Only a text is printed otherwise than it came.
			if doc, err := r.p.cells[v.num].JSON(r.values[r.p.at[v.num]]); err == nil && trimBlanks(doc)[0] == '"' {
				v = r.force(v)
			}
		}
	}
	switch v.kind {
	case null:
		return dst, false, nil
	case text, binary:
		if len(v.str) > MaxOutput {
			failf(-1, "the value has more than %d bytes", MaxOutput)
		}
		return append(dst, v.str...), true, nil
	}
	e := encoder{run: r, at: -1, limit: len(dst) + MaxOutput}
	out := e.value(dst, v)
	if len(out) > e.limit {
		failf(-1, "the value has more than %d bytes", MaxOutput)
	}
	return out, true, nil
}
