package source

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/internal/key"
	"github.com/freshet/freshet/internal/pg"
)

// named is a tuple with the key that it renders to.
type named struct {
	key   string
	texts []string
}

func (r *Reader) name(texts []string) named {
	return named{key: r.sink.Template.Of(texts), texts: texts}
}

// names collects tuples with the keys that they render to, many of them in little memory.
type names struct {
	arena []byte
	// ends are where in the arena a key ends, and then each text of its tuple.
	ends []int
}

// appendName appends the tuple of a row's key columns, if an entry can be written under
// its key. The tuple's texts are left in tuple too.
func (r *Reader) appendName(n *names, parts []keyPart, values, tuple [][]byte) error {
	begin := len(n.arena)
	if err := r.appendKey(&n.arena, parts, values, tuple); err != nil {
		return err
	}
	if !key.Writable(n.arena[begin:]) {
		n.arena = n.arena[:begin]
		return nil
	}
	n.ends = append(n.ends, len(n.arena))
	for _, text := range tuple {
		n.arena = append(n.arena, text...)
		n.ends = append(n.ends, len(n.arena))
	}
	return nil
}

// list returns all of them, given of how many columns a tuple is.
func (n *names) list(width int) []named {
	var (
		arena = string(n.arena)
		list  = make([]named, 0, len(n.ends)/(1+width))
		texts = make([]string, 0, len(n.ends))
		begin = 0
	)
	for _, end := range n.ends {
		texts = append(texts, arena[begin:end])
		begin = end
	}
	for i := 0; i < len(texts); i += 1 + width {
		list = append(list, named{key: texts[i], texts: texts[i+1 : i+1+width : i+1+width]})
	}
	return list
}

// isolate looks up tuples of which at least one raises an error, and appends the others'
// entries to e and the failures of those that do. What it reads is read later than what
// meta is of: meta then says how far the WAL has to be flushed for all of it.
func (r *Reader) isolate(ctx context.Context, meta *Meta, all []named, e *Entries) error {
	// With no tuple at all, no row is looked at. What fails even so is the statement, for
	// instance a constant in the filter that is evaluated when the statement is planned.
	if err := r.lookUpNamed(ctx, meta, nil, e); err != nil {
		return err
	}
	var others []named
	for _, n := range all {
		if r.suspected == nil || !r.suspected(n.key) {
			others = append(others, n)
			continue
		}
		if err := r.split(ctx, meta, []named{n}, e); err != nil {
			return err
		}
	}
	return r.split(ctx, meta, others, e)
}

// split looks tuples up together, or, if one of them raises an error, each half by itself.
func (r *Reader) split(ctx context.Context, meta *Meta, some []named, e *Entries) error {
	if len(some) == 0 {
		return nil
	}
	begin := e.mark()
	err := r.lookUpNamed(ctx, meta, some, e)
	var data *pg.DataError
	if !errors.As(err, &data) {
		return err
	}
	e.rewind(begin)
	if len(some) == 1 {
		e.fail([]byte(some[0].key), some[0].texts, data.Code, data.Message)
		return nil
	}
	half := len(some) / 2
	if err := r.split(ctx, meta, some[:half], e); err != nil {
		return err
	}
	return r.split(ctx, meta, some[half:], e)
}

// lookUpNamed looks up tuples, of which each gets an entry in e, present or absent.
func (r *Reader) lookUpNamed(ctx context.Context, meta *Meta, some []named, e *Entries) error {
	tuples := make([][]string, len(some))
	for i, n := range some {
		tuples[i] = n.texts
	}
	begin := e.mark()
	read, err := r.lookUp(ctx, tuples, e)
	if err != nil {
		return err
	}
	if err := meta.extend(read); err != nil {
		return err
	}
	if len(e.items)-begin.items == len(some) {
		return nil
	}
	// A tuple whose text is not what its type prints is no row's, and was not answered.
	answered := make(map[string]bool, len(some))
	for i := begin.items; i < len(e.items); i++ {
		answered[string(e.Key(i))] = true
	}
	for _, n := range some {
		if !answered[n.key] {
			e.absent([]byte(n.key))
		}
	}
	return nil
}

// extend makes m true of a later read as well. Snapshot and At stay those of the first.
func (m *Meta) extend(later Meta) error {
	if m.Incarnation == "" {
		*m = later
		return nil
	}
	if m.Incarnation != later.Incarnation {
		return fmt.Errorf("Postgres crashed or was replaced between two reads of one batch (%s, %s)", m.Incarnation, later.Incarnation)
	}
	m.Insert, m.Flushed = max(m.Insert, later.Insert), max(m.Flushed, later.Flushed)
	return nil
}
