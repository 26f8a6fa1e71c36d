package source

import (
	"bytes"
	"context"
	"hash/maphash"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

const (
	// denseFrom is how many tuples it takes for it to be worth while to look whether they lie
	// close together.
	denseFrom = 1000
	// denseRows is how many rows there may be for each tuple between the first tuple and the last. Looking a row up by its
	// key costs about as much as reading three in a row.
	denseRows = 2
	// denseTrial is with how many tuples it is found out. With all of a piece it would cost as much as the piece.
	denseTrial = 250
)

// dense knows whether the tuples of claims lie close together in the source, as those of a bulk write do: then all rows
// between the first and the last are read in key order, which costs a third of looking each up.
type dense struct {
	hunch
	// known: those that were tried last did.
	known atomic.Bool
}

// try says whether to read so with so many tuples, and of how many: of few until it is known.
func (d *dense) try(tuples int) (n int, span bool) {
	if tuples < denseFrom || !d.hunch.try() {
		return tuples, false
	}
	if !d.known.Load() {
		return denseTrial, true
	}
	return tuples, true
}

func (d *dense) were(right bool) {
	d.known.Store(right)
	d.hunch.were(right)
}

// span is the memory of one, to be used again.
type span struct {
	// seen are the tuples that a row was found for.
	seen []bool
	// places are where tuples are, by the hash of their keys; -1: several have this one.
	places map[uint64]int
}

var (
	spareSpans = sync.Pool{New: func() any { return &span{places: make(map[uint64]int)} }}
	seed       = maphash.MakeSeed()
)

// place finds a key among those of touched, of which the rows so far have come to upTo.
func (s *span) place(touched *tuples, upTo int, key []byte) (int, bool) {
	if upTo < touched.len() && bytes.Equal(touched.key(upTo), key) {
		return upTo, true
	}
	if len(s.places) == 0 {
		for i := range touched.len() {
			hash := maphash.Bytes(seed, touched.key(i))
			if _, twice := s.places[hash]; twice {
				i = -1
			}
			s.places[hash] = i
		}
	}
	i, is := s.places[maphash.Bytes(seed, key)]
	if !is || i >= 0 {
		return i, is && bytes.Equal(touched.key(i), key)
	}
	for i := range touched.len() {
		if bytes.Equal(touched.key(i), key) {
			return i, true
		}
	}
	return 0, false
}

// readSpan reads the rows from the first tuple to the last and renders those that were touched. It returns the tuples that
// it did not come to: where there are too many rows between them, and where there is no room for more entries.
func (r *Reader) readSpan(ctx context.Context, meta *Meta, touched tuples, e *Entries) (tuples, error) {
	n := touched.len()
	bound := func(i int) []byte {
		list := make([]string, len(r.sink.Order))
		for j, p := range r.sink.Order {
			list[j] = string(touched.text(i, p))
		}
		return arrayLiteral(list)
	}
	c, left, err := r.readOrdered(ctx, r.span, denseRows*n, [][]byte{bound(0), bound(n - 1)}, meta, touched, e)
	if err == nil && !c.full {
		r.dense.were(c.Rows < denseRows*n)
	}
	return left, err
}

// lists reports whether the rows of tuples can be read by one condition, which takes a third less than a join that looks
// each of them up: where the key is one column and equal in SQL is equal as rendered. In partitions the join is quicker.
func (r *Reader) lists() bool {
	k := r.sink.KeyColumns[0]
	return len(r.sink.KeyColumns) == 1 && k.Exact && !k.Foreign && !k.Lower && !k.Folded && k.Kind == 'b' && !r.sink.Grouped && !r.sink.Partitioned
}

// readListed reads the rows of tuples, and returns those that there is no room for.
func (r *Reader) readListed(ctx context.Context, meta *Meta, touched tuples, e *Entries) (tuples, error) {
	_, left, err := r.readOrdered(ctx, r.listed, touched.len()+1, touched.columns(), meta, touched, e)
	return left, err
}

// readOrdered reads rows, at most limit, in the order of the tuples, which is that of the order columns, and renders those
// that were touched. A tuple that the rows have passed by, or that is not among fewer rows than the limit, is absent. It
// returns the tuples that the rows did not come to.
func (r *Reader) readOrdered(ctx context.Context, l listing, limit int, params [][]byte, meta *Meta, touched tuples, e *Entries) (Chunk, tuples, error) {
	n, left := touched.len(), tuples{width: touched.width}
	s := spareSpans.Get().(*span)
	defer spareSpans.Put(s)
	clear(s.places)
	s.seen = append(s.seen[:0], make([]bool, n)...)
	// upTo is how many tuples the rows have come to.
	upTo := 0
	params = slices.Insert(params, 0, strconv.AppendInt(nil, int64(limit), 10))
	c, err := r.rowsWith(ctx, l, params, e.room(), func(from row, tuple [][]byte) error {
		begin := len(e.arena)
		if err := r.appendKeyOf(e, r.parts, from.keys, tuple); err != nil {
			return err
		}
		i, is := s.place(&touched, upTo, e.arena[begin:])
		if !is {
			e.arena = e.arena[:begin]
			return nil
		}
		s.seen[i], upTo = true, max(upTo, i+1)
		return r.appendEntry(ctx, e, begin, from, tuple)
	}, nil)
	if err == nil {
		err = meta.extend(c.Meta)
	}
	if err != nil {
		return c, left, err
	}
	if !c.full && c.Rows < limit {
		upTo = n
	}
	for i := range upTo {
		if !s.seen[i] {
			e.absent(touched.key(i))
		}
	}
	left.add(touched, upTo, n)
	return c, left, nil
}
