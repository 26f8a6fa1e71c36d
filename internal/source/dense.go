package source

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/pg"
)

const (
	// denseFrom is how many changes a claim asks for at least, and how many tuples it finds, for it to be worth while to
	// look whether they lie close together. The first claim of many asks for no more: then it is known.
	denseFrom = 1000
	// denseRows is how many rows there may be for each tuple between the first tuple and the last. Looking a row up by its
	// key costs about as much as reading three in a row.
	denseRows = 2
	// denseRest bounds for how many claims it is not tried again.
	denseRest = 64
)

// dense knows whether the tuples of claims lie close together in the source, as those of a bulk write do: then all rows
// between the first and the last are read in key order, which costs a third of looking each up.
type dense struct {
	// large: the last claim found many changes. far: the last of them that were looked at did
	// not lie close together.
	large, far atomic.Bool
	wait, rest atomic.Int32
	// next is the claim that comes next, if it was made ahead.
	next atomic.Pointer[ahead]
}

// ahead is a claim from a cursor on that is made while the rows of the one before are read.
type ahead struct {
	from cursor.Cursor
	made chan claimed
}

// claimed are the tuples of a claim.
type claimed struct {
	batch   Batch
	touched []named
	err     error
}

// try reports whether to find out with this claim.
func (d *dense) try(limit int) bool {
	if limit < denseFrom || !d.large.Load() {
		return false
	}
	if d.wait.Load() > 0 {
		d.wait.Add(-1)
		return false
	}
	return true
}

// were says how it turned out.
func (d *dense) were(close bool) {
	d.far.Store(!close)
	if close {
		d.rest.Store(0)
		return
	}
	rest := min(max(2*d.rest.Load(), 1), denseRest)
	d.rest.Store(rest)
	d.wait.Store(rest)
}

// take returns the claim from c on that was made ahead, nil if there is none.
func (d *dense) take(c cursor.Cursor) *ahead {
	if next := d.next.Swap(nil); next != nil && next.from.String() == c.String() {
		return next
	}
	return nil
}

// claimTuples is Claim without entries.
func (r *Reader) claimTuples(ctx context.Context, c cursor.Cursor, limit int) claimed {
	var (
		touched names
		tuple   = r.newTuple()
	)
	b, err := r.claimWith(ctx, r.bareClaim, c, limit, func(values [][]byte, _ time.Time) error {
		return r.appendName(&touched, r.changeParts, values[1:], tuple)
	})
	return claimed{b, touched.list(len(r.parts)), err}
}

// claimAhead begins the claim that follows one of so many changes.
func (r *Reader) claimAhead(ctx context.Context, b *Batch, limit int) {
	if b.CaughtUp || r.dense.far.Load() {
		return
	}
	next := &ahead{from: b.Next, made: make(chan claimed, 1)}
	r.dense.next.Store(next)
	go func() { next.made <- r.claimTuples(ctx, next.from, limit) }()
}

// claimDense is Claim by two statements: one for the tuples, and one for the rows from the first tuple to the last. The
// latter reads later than the window is of, which is never too late. Where the rows turn out to be too many, the tuples
// that are left are looked up. next may have the tuples already.
func (r *Reader) claimDense(ctx context.Context, c cursor.Cursor, limit int, next *ahead, e *Entries) (Batch, error) {
	var got claimed
	if next != nil {
		select {
		case got = <-next.made:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
	// A batch without tuples says how far the server was when it was read: not before the last.
	// And one that was asked for before its limit was lowered can be far too large.
	if next == nil || (got.err == nil && (len(got.touched) == 0 || got.batch.Changes >= 2*limit)) {
		got = r.claimTuples(ctx, c, limit)
	}
	b, touched := got.batch, got.touched
	if got.err != nil {
		return Batch{}, got.err
	}
	if len(touched) < denseFrom || (next != nil && r.dense.far.Load()) {
		err := r.lookUpAll(ctx, &b.Meta, touched, e)
		return b, err
	}
	r.claimAhead(ctx, &b, limit)
	begin := e.mark()
	left, err := r.readSpan(ctx, &b.Meta, touched, e)
	if pg.IsData(err) {
		e.rewind(begin)
		err = r.isolate(ctx, &b.Meta, touched, e)
		return b, err
	}
	if err != nil {
		return Batch{}, err
	}
	r.dense.were(len(left) == 0)
	err = r.lookUpAll(ctx, &b.Meta, left, e)
	return b, err
}

// readSpan reads the rows from the first tuple to the last, which are in the order of the order columns, and renders those
// that were touched. It returns the tuples that it did not come to.
func (r *Reader) readSpan(ctx context.Context, meta *Meta, touched []named, e *Entries) (left []named, err error) {
	bound := func(n named) []byte {
		list := make([]string, len(r.sink.Order))
		for i, p := range r.sink.Order {
			list[i] = n.texts[p]
		}
		return arrayLiteral(list)
	}
	var (
		limit = denseRows * len(touched)
		seen  = make([]bool, len(touched))
		// upTo is how many tuples the rows have come to.
		upTo = 0
		// places are where tuples are that the rows do not have in the same order.
		places map[string]int
	)
	place := func(key []byte) (int, bool) {
		if upTo < len(touched) && touched[upTo].key == string(key) {
			return upTo, true
		}
		if places == nil {
			places = make(map[string]int, len(touched))
			for i, n := range touched {
				places[n.key] = i
			}
		}
		i, is := places[string(key)]
		return i, is
	}
	params := [][]byte{strconv.AppendInt(nil, int64(limit), 10), bound(touched[0]), bound(touched[len(touched)-1])}
	c, err := r.rowsWith(ctx, r.span, params, toEnd, func(from row, tuple [][]byte) error {
		begin := len(e.arena)
		if err := r.appendKey(&e.arena, r.parts, from.keys, tuple); err != nil {
			return err
		}
		i, is := place(e.arena[begin:])
		if !is {
			e.arena = e.arena[:begin]
			return nil
		}
		seen[i], upTo = true, max(upTo, i+1)
		return r.appendEntry(ctx, e, begin, from, tuple)
	}, nil)
	if err != nil {
		return nil, err
	}
	if err := meta.extend(c.Meta); err != nil {
		return nil, err
	}
	if c.Rows < limit {
		upTo = len(touched)
	}
	for i, n := range touched[:upTo] {
		if !seen[i] {
			e.absent([]byte(n.key))
		}
	}
	return touched[upTo:], nil
}

// lookUpAll looks tuples up, each by itself where one of them raises an error.
func (r *Reader) lookUpAll(ctx context.Context, meta *Meta, all []named, e *Entries) error {
	if len(all) == 0 {
		return nil
	}
	begin := e.mark()
	err := r.lookUpNamed(ctx, meta, all, e)
	if !pg.IsData(err) {
		return err
	}
	e.rewind(begin)
	return r.isolate(ctx, meta, all, e)
}
