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
	// look whether they lie close together.
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
	// large: the last claim found many changes.
	large      atomic.Bool
	wait, rest atomic.Int32
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
	if close {
		d.rest.Store(0)
		return
	}
	rest := min(max(2*d.rest.Load(), 1), denseRest)
	d.rest.Store(rest)
	d.wait.Store(rest)
}

// claimDense is Claim by two statements: one for the tuples, and one for the rows from the first tuple to the last. The
// latter reads later than the window is of, which is never too late. Where the rows turn out to be too many, the tuples
// that are left are looked up.
func (r *Reader) claimDense(ctx context.Context, c cursor.Cursor, limit int, e *Entries) (Batch, error) {
	var (
		touched []named
		tuple   = r.newTuple()
	)
	b, err := r.claimWith(ctx, r.bareClaim, c, limit, func(values [][]byte, at time.Time) error {
		return r.appendNamed(&touched, r.changeParts, values[1:], tuple)
	})
	if err != nil {
		return Batch{}, err
	}
	if len(touched) < denseFrom {
		return b, r.lookUpAll(ctx, &b.Meta, touched, e)
	}
	begin := e.mark()
	left, err := r.readSpan(ctx, &b.Meta, touched, e)
	if pg.IsData(err) {
		e.rewind(begin)
		return b, r.isolate(ctx, &b.Meta, touched, e)
	}
	if err != nil {
		return Batch{}, err
	}
	r.dense.were(len(left) == 0)
	return b, r.lookUpAll(ctx, &b.Meta, left, e)
}

// readSpan reads the rows from the first tuple to the last, which are in the order of the order columns, and renders those
// that were touched. It returns the tuples that it did not come to.
func (r *Reader) readSpan(ctx context.Context, meta *Meta, touched []named, e *Entries) (left []named, err error) {
	places := make(map[string]int, len(touched))
	for i, n := range touched {
		places[n.key] = i
	}
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
		key  []byte
	)
	params := [][]byte{strconv.AppendInt(nil, int64(limit), 10), bound(touched[0]), bound(touched[len(touched)-1])}
	c, err := r.rowsWith(ctx, r.span, params, func() bool { return false }, func(from row, tuple [][]byte) error {
		key = key[:0]
		if err := r.appendKey(&key, r.parts, from.keys, tuple); err != nil {
			return err
		}
		i, is := places[string(key)]
		if !is {
			return nil
		}
		seen[i], upTo = true, max(upTo, i+1)
		return r.appendRow(ctx, e, r.parts, from, tuple)
	})
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
