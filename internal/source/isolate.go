package source

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/internal/pg"
)

// isolate looks up tuples of which at least one raises an error, and appends the others'
// entries to e and the failures of those that do. What it reads is read later than what
// meta is of: meta then says how far the WAL has to be flushed for all of it.
func (r *Reader) isolate(ctx context.Context, meta *Meta, all tuples, e *Entries) error {
	// With no tuple at all, no row is looked at. What fails even so is the statement, for
	// instance a constant in the filter that is evaluated when the statement is planned.
	if _, err := r.lookUpSome(ctx, meta, all.part(0, 0), e, toEnd); err != nil {
		return err
	}
	others := tuples{width: all.width}
	for i := range all.len() {
		if r.suspected == nil || !r.suspected(string(all.key(i))) {
			others.add(all, i, i+1)
			continue
		}
		if err := r.split(ctx, meta, all.part(i, i+1), e); err != nil {
			return err
		}
	}
	return r.split(ctx, meta, others, e)
}

// split looks tuples up together, or, if one of them raises an error, each half by itself.
func (r *Reader) split(ctx context.Context, meta *Meta, some tuples, e *Entries) error {
	n := some.len()
	if n == 0 {
		return nil
	}
	begin := e.mark()
	_, err := r.lookUpSome(ctx, meta, some, e, toEnd)
	var data *pg.DataError
	if !errors.As(err, &data) {
		return err
	}
	e.rewind(begin)
	if n == 1 {
		e.fail(some.key(0), some.texts(0), data.Code, data.Message)
		return nil
	}
	if err := r.split(ctx, meta, some.part(0, n/2), e); err != nil {
		return err
	}
	return r.split(ctx, meta, some.part(n/2, n), e)
}

// lookUpSome looks up tuples, of which each gets an entry in e, present or absent, but those for which full says that
// there is no room: these it returns.
func (r *Reader) lookUpSome(ctx context.Context, meta *Meta, some tuples, e *Entries, full func() bool) (left tuples, err error) {
	left.width = some.width
	begin := e.mark()
	read, cut, err := r.lookUp(ctx, some, e, full)
	if err != nil {
		return left, err
	}
	if err := meta.extend(read); err != nil {
		return left, err
	}
	if !cut && len(e.items)-begin.items == some.len() {
		return left, nil
	}
	// A tuple whose text is not what its type prints is no row's, and was not answered.
	answered := make(map[string]bool, some.len())
	for i := begin.items; i < len(e.items); i++ {
		answered[string(e.Key(i))] = true
	}
	for i := range some.len() {
		switch {
		case answered[string(some.key(i))]:
		case cut:
			left.add(some, i, i+1)
		default:
			e.absent(some.key(i))
		}
	}
	return left, nil
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
	if later.Insert < m.Insert {
		return fmt.Errorf("Postgres went back from %s to %s between two reads of one batch", m.Insert, later.Insert)
	}
	m.Insert, m.Flushed = later.Insert, max(m.Flushed, later.Flushed)
	return nil
}
