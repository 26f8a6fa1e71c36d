package source

import (
	"slices"
	"sync"

	"github.com/freshet/freshet/internal/key"
)

// tuples are tuples of the key columns with the keys that they render to. There can be many, batch after batch: there
// are no pointers in them for the collector to follow, and their memory is used again.
type tuples struct {
	// width is of how many columns a tuple is.
	width int
	arena []byte
	// begin is where in the arena the first key begins, ends where each key ends, and then each text of its tuple.
	begin int
	ends  []int
}

func (t *tuples) len() int { return len(t.ends) / (1 + t.width) }

// key returns the key of tuple i, valid until reset.
func (t *tuples) key(i int) []byte { return t.piece(i * (1 + t.width)) }

// text returns the text of a column of tuple i, valid until reset.
func (t *tuples) text(i, column int) []byte { return t.piece(i*(1+t.width) + 1 + column) }

func (t *tuples) piece(n int) []byte {
	begin := t.begin
	if n > 0 {
		begin = t.ends[n-1]
	}
	return t.arena[begin:t.ends[n]]
}

// bytes is the size of all keys and texts.
func (t *tuples) bytes() int {
	if len(t.ends) == 0 {
		return 0
	}
	return t.ends[len(t.ends)-1] - t.begin
}

// texts copies tuple i.
func (t *tuples) texts(i int) []string {
	list := make([]string, t.width)
	for column := range list {
		list[column] = string(t.text(i, column))
	}
	return list
}

// part are those from one tuple to before another, in the same memory.
func (t *tuples) part(from, to int) tuples {
	step := 1 + t.width
	p := tuples{width: t.width, arena: t.arena, begin: t.begin, ends: t.ends[from*step : to*step : to*step]}
	if from > 0 {
		p.begin = t.ends[from*step-1]
	}
	return p
}

// add appends copies of some of other tuples.
func (t *tuples) add(others tuples, from, to int) {
	some := others.part(from, to)
	shift := len(t.arena) - some.begin
	t.arena = append(t.arena, some.arena[some.begin:some.begin+some.bytes()]...)
	for _, end := range some.ends {
		t.ends = append(t.ends, end+shift)
	}
}

// left are the tuples of a batch whose rows are still to be read, for several who read them.
type left struct {
	mu sync.Mutex
	// runs are in the order of the tuples, each by itself: what several give back is in none.
	runs []tuples
	// raw come after them, from next on; nil if there are none.
	raw  *rawTuples
	next int
	// render appends some of raw with their keys.
	render func(to *tuples, from, until int) error
}

// newLeft are tuples in their order.
func newLeft(all tuples) *left {
	l := new(left)
	l.add(all)
	return l
}

// newRawLeft are raw tuples in their order, which render appends with their keys.
func newRawLeft(raw *rawTuples, render func(to *tuples, from, until int) error) *left {
	l := &left{raw: raw, render: render}
	l.end()
	return l
}

func (l *left) add(run tuples) {
	if run.len() > 0 {
		l.runs = append(l.runs, run)
	}
}

// end is called whenever raw tuples can have come to their end.
func (l *left) end() {
	if l.raw != nil && l.next == l.raw.len() {
		l.raw.release()
		l.raw = nil
	}
}

func (l *left) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.runs) > 0 || l.raw != nil
}

// take returns at most n tuples that follow each other, none if no more are left.
func (l *left) take(n int) (tuples, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.runs) == 0 && l.raw != nil {
		some := tuples{width: len(l.raw.columns)}
		until := min(l.next+n, l.raw.len())
		if err := l.render(&some, l.next, until); err != nil {
			return tuples{}, err
		}
		l.next = until
		l.add(some)
		l.end()
	}
	if len(l.runs) == 0 {
		return tuples{}, nil
	}
	last := len(l.runs) - 1
	run := l.runs[last]
	n = min(n, run.len())
	l.runs = l.runs[:last]
	l.add(run.part(n, run.len()))
	return run.part(0, n), nil
}

// giveBack returns tuples that were taken and not read, each in the order of the tuples by itself.
func (l *left) giveBack(runs ...tuples) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, run := range slices.Backward(runs) {
		l.add(run)
	}
}

// appendTuple appends the tuple of a row's key columns, if an entry can be written under
// its key. The tuple's texts are left in tuple too.
func (r *Reader) appendTuple(t *tuples, parts []keyPart, values, tuple [][]byte) error {
	begin := len(t.arena)
	if err := r.appendKey(&t.arena, parts, values, tuple); err != nil {
		return err
	}
	if !key.Writable(t.arena[begin:]) {
		t.arena = t.arena[:begin]
		return nil
	}
	t.ends = append(t.ends, len(t.arena))
	for _, text := range tuple {
		t.arena = append(t.arena, text...)
		t.ends = append(t.ends, len(t.arena))
	}
	return nil
}

// tuplesOf are tuples given in the order of the key columns.
func (r *Reader) tuplesOf(list [][]string) tuples {
	t := tuples{width: len(r.parts)}
	for _, texts := range list {
		t.arena = append(t.arena, r.sink.Template.Of(texts)...)
		t.ends = append(t.ends, len(t.arena))
		for _, text := range texts {
			t.arena = append(t.arena, text...)
			t.ends = append(t.ends, len(t.arena))
		}
	}
	return t
}

// columns are tuples as parameters: a text[] for each key column.
func (t *tuples) columns() [][]byte {
	params := make([][]byte, t.width)
	for column := range params {
		b := append(make([]byte, 0, 2+t.bytes()), '{')
		for i := range t.len() {
			b = appendElement(b, t.text(i, column))
		}
		params[column] = append(b, '}')
	}
	return params
}

// arrayLiteral is a Postgres text[] in text form.
func arrayLiteral(elements []string) []byte {
	b := []byte{'{'}
	for _, e := range elements {
		b = appendElement(b, e)
	}
	return append(b, '}')
}

// appendElement appends an element to a text[] that has the ones before it.
func appendElement[T string | []byte](b []byte, element T) []byte {
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = append(b, '"')
	for i := range len(element) {
		if c := element[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, element[i])
	}
	return append(b, '"')
}
