package transform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/freshet/freshet/internal/render"
)

// DefaultTimeout is how long a function has for an entry.
const DefaultTimeout = time.Second

// Func makes the value of one row. It may be called by several goroutines at once. Its context ends after the time
// limit; a function that waits for anything has to heed it, because nothing can stop one that does not.
type Func func(ctx context.Context, r Record) (Value, error)

// Value is what a Func results in. The zero Value is None.
type Value struct {
	form  form
	bytes []byte
	text  string
	any   any
}

type form uint8

const (
	formNone form = iota
	formJSON
	formRaw
	formBytes
	formText
)

// JSON is v as encoding/json prints it, but for <, > and &, which stay as they are.
func JSON(v any) Value { return Value{form: formJSON, any: v} }

// RawJSON is JSON that is made already. That it is not JSON is an error of the entry.
func RawJSON(b []byte) Value { return Value{form: formRaw, bytes: b} }

// Text is these bytes as they are.
func Text(s string) Value { return Value{form: formText, text: s} }

// Bytes are these bytes as they are.
func Bytes(b []byte) Value { return Value{form: formBytes, bytes: b} }

// None means that the row has no entry.
func None() Value { return Value{} }

// Go is a transform by a function of Go. It is safe for concurrent use.
type Go struct {
	name, sink string
	f          Func
	columns    []render.Column
	cells      []render.Cell
	names      []string
	index      map[string]int
	timeout    time.Duration
	runs       sync.Pool
	calls      *calls
}

// goRun is one call of a function.
type goRun struct {
	g       *Go
	key     []byte
	values  [][]byte
	now     time.Time
	started time.Time
	scratch []byte
	// misuse is an error of Text, which cannot return one; defect one that is not the row's fault.
	misuse, defect error
}

// newGo makes a transform of a function that was registered by a name, for a sink with a source of these columns. All
// of them are selected, as nothing tells which ones the function will ask for. An entry has [DefaultTimeout].
func newGo(name string, f Func, columns []render.Column, sink string, calls *calls) *Go {
	g := &Go{name: name, sink: sink, f: f, columns: columns, index: make(map[string]int), timeout: DefaultTimeout, calls: calls}
	for i, c := range columns {
		g.cells = append(g.cells, render.NewCell(c))
		g.names = append(g.names, c.Name)
		g.index[c.Name] = i
	}
	g.runs.New = func() any { return &goRun{g: g} }
	return g
}

// Columns are all of the source.
func (g *Go) Columns() []render.Column { return append([]render.Column(nil), g.columns...) }

// Select is described at [Transform].
func (g *Go) Select(alias string) []string {
	out := make([]string, len(g.cells))
	for i, c := range g.cells {
		out[i] = c.Select(alias)
	}
	return out
}

// Append is described at [Transform]. What the function returns and what it panics with are errors of the entry; that
// ctx itself is done is not.
func (g *Go) Append(ctx context.Context, dst, key []byte, values [][]byte, now time.Time) (out []byte, present bool, err error) {
	if len(values) != len(g.cells) {
		return dst, false, fmt.Errorf("transform row: %d values for %d columns", len(values), len(g.cells))
	}
	if err := ctx.Err(); err != nil {
		return dst, false, fmt.Errorf("transform row: %w", err)
	}
	r := g.runs.Get().(*goRun)
	r.key, r.values, r.now, r.started = key, values, now, time.Now()
	g.calls.begin(r)
	defer func() {
		g.calls.end(r)
		*r = goRun{g: g, scratch: r.scratch[:0]}
		if cap(r.scratch) > 1<<20 {
			r.scratch = nil
		}
		g.runs.Put(r)
	}()

	limited := &limit{Context: ctx, deadline: r.started.Add(g.timeout)}
	v, err := g.call(limited, r)
	late := err != nil && limited.Err() != nil && ctx.Err() == nil
	limited.end()
	switch {
	case r.defect != nil:
		return dst, false, r.defect
	case ctx.Err() != nil && err != nil:
		return dst, false, fmt.Errorf("transform row: %w", ctx.Err())
	case late:
		return dst, false, &Error{Message: fmt.Sprintf("%s: the time limit of %v is over: %v", g.name, g.timeout, err), cause: err}
	case err != nil:
		return dst, false, &Error{Message: fmt.Sprintf("%s: %v", g.name, err), cause: err}
	case r.misuse != nil:
		return dst, false, &Error{Message: fmt.Sprintf("%s: %v", g.name, r.misuse), cause: r.misuse}
	}
	out, present, err = g.print(dst, v)
	if err != nil {
		return dst, false, &Error{Message: fmt.Sprintf("%s: %v", g.name, err), cause: err}
	}
	return out, present, nil
}

// call runs the function, and makes an error of a panic.
func (g *Go) call(ctx context.Context, r *goRun) (v Value, err error) {
	defer func() {
		if x := recover(); x != nil {
			v, err = Value{}, fmt.Errorf("panic: %v", x)
		}
	}()
	return g.f(ctx, Record{r})
}

// print appends what a function resulted in. A value's own MarshalJSON may panic as well.
func (g *Go) print(dst []byte, v Value) (out []byte, present bool, err error) {
	defer func() {
		if x := recover(); x != nil {
			out, present, err = dst, false, fmt.Errorf("panic: %v", x)
		}
	}()
	switch v.form {
	case formNone:
		return dst, false, nil
	case formRaw:
		if !json.Valid(v.bytes) || !utf8.Valid(v.bytes) {
			return dst, false, fmt.Errorf("what RawJSON was given is not JSON: %q", clipped(string(v.bytes[:min(len(v.bytes), 240)])))
		}
		out = append(dst, bytes.TrimSpace(v.bytes)...)
	case formBytes:
		out = append(dst, v.bytes...)
	case formText:
		out = append(dst, v.text...)
	case formJSON:
		b := bytes.NewBuffer(dst)
		e := json.NewEncoder(b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v.any); err != nil {
			return dst, false, err
		}
		out = b.Bytes()
		// Encode puts an end of line behind it.
		out = out[:len(out)-1]
	}
	if len(out)-len(dst) > MaxOutput {
		return dst, false, fmt.Errorf("the value has more than %d bytes", MaxOutput)
	}
	return out, true, nil
}

// limit is a context that ends at a deadline. It starts a timer only when somebody waits for it: most functions never
// do, and a timer for every row would cost more than they.
type limit struct {
	context.Context
	deadline time.Time

	mu     sync.Mutex
	timed  context.Context
	cancel context.CancelFunc
	ended  bool
}

func (l *limit) Deadline() (time.Time, bool) {
	if d, ok := l.Context.Deadline(); ok && d.Before(l.deadline) {
		return d, true
	}
	return l.deadline, true
}

func (l *limit) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timed == nil {
		l.timed, l.cancel = context.WithDeadline(l.Context, l.deadline)
		if l.ended {
			l.cancel()
		}
	}
	return l.timed.Done()
}

func (l *limit) Err() error {
	if err := l.Context.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timed != nil && l.timed.Err() != nil {
		return l.timed.Err()
	}
	if l.ended {
		return context.Canceled
	}
	if !time.Now().Before(l.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// end is when the function has returned: whoever waits still must not wait longer.
func (l *limit) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.cancel != nil {
		l.cancel()
	}
}
