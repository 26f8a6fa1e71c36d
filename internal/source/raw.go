package source

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/pg"
)

// raw claims tuples as the rows of the change table have them, and sorts them here: Postgres needs two thirds of a claim
// for that. It takes a key of which each column is compared here as Postgres does, and no filter for shards.
type raw struct {
	query pg.Prepared
	// columns are the key columns in the order that tuples are sorted by, and where each is among them; none if the key
	// is not of this kind.
	columns []rawColumn
	// width is of how many bytes a tuple is.
	width int
}

// rawColumn is a key column of fixed size. Its binary form is compared byte by byte once the first bit of a whole number
// is turned over.
type rawColumn struct {
	place, size int
	flip        byte
}

// newRaw is raw without its query.
func newRaw(r *Reader) raw {
	var w raw
	if r.sink.Shards > 1 {
		return w
	}
	places := slices.Clone(r.sink.Order)
	for i := range r.sink.KeyColumns {
		if !slices.Contains(places, i) {
			places = append(places, i)
		}
	}
	for _, i := range places {
		k := inChangeTable(r.sink.KeyColumns[i])
		c := rawColumn{place: i}
		switch {
		case !k.Exact || k.Lower || k.Folded || k.Kind != 'b':
		case k.Type == pgtype.Int8OID:
			c.size, c.flip = 8, 0x80
		case k.Type == pgtype.UUIDOID:
			c.size = 16
		}
		if c.size == 0 {
			return raw{}
		}
		w.columns, w.width = append(w.columns, c), w.width+c.size
	}
	return w
}

// is reports whether claims of tuples can be made by it.
func (w *raw) is() bool { return len(w.columns) > 0 }

// rawTuples are tuples as they were claimed, of which there can be many: a key is several times as large.
type rawTuples struct {
	*raw
	// numbers are the tuples where each is one number, which takes a third of the time to sort, and arena where they are not.
	numbers []uint64
	arena   []byte
	// before is memory that sort needs.
	before []byte
}

// spareRaw have the size that others need.
var spareRaw = sync.Pool{New: func() any { return new(rawTuples) }}

// newRawTuples are none yet, and release has their memory used again.
func newRawTuples(w *raw) *rawTuples {
	t := spareRaw.Get().(*rawTuples)
	t.raw, t.numbers, t.arena = w, t.numbers[:0], t.arena[:0]
	return t
}

func (t *rawTuples) release() { spareRaw.Put(t) }

func (t *rawTuples) len() int { return len(t.numbers) + len(t.arena)/t.width }

// add appends the tuple whose columns are given by place, unless one of them is null.
func (t *rawTuples) add(column func(place int) []byte) error {
	begin := len(t.arena)
	for _, c := range t.columns {
		v := column(c.place)
		if v == nil {
			t.arena = t.arena[:begin]
			return nil
		}
		if len(v) != c.size {
			return fmt.Errorf("a key column of %d bytes has %d", c.size, len(v))
		}
		t.arena = append(t.arena, v...)
		t.arena[len(t.arena)-c.size] ^= c.flip
	}
	if t.width == 8 {
		t.numbers = append(t.numbers, binary.BigEndian.Uint64(t.arena))
		t.arena = t.arena[:0]
	}
	return nil
}

// sort puts the tuples in their order, each once.
func (t *rawTuples) sort() {
	slices.Sort(t.numbers)
	t.numbers = slices.Compact(t.numbers)
	type place struct {
		first uint64
		at    int
	}
	places := make([]place, 0, len(t.arena)/t.width)
	for at := 0; at < len(t.arena); at += t.width {
		places = append(places, place{binary.BigEndian.Uint64(t.arena[at:]), at})
	}
	tuple := func(p place) []byte { return t.arena[p.at : p.at+t.width] }
	slices.SortFunc(places, func(a, b place) int {
		if a.first != b.first {
			return cmp.Compare(a.first, b.first)
		}
		return bytes.Compare(tuple(a), tuple(b))
	})
	places = slices.CompactFunc(places, func(a, b place) bool { return bytes.Equal(tuple(a), tuple(b)) })
	sorted := slices.Grow(t.before[:0], len(places)*t.width)
	for _, p := range places {
		sorted = append(sorted, tuple(p)...)
	}
	t.arena, t.before = sorted, t.arena
}

// each calls f with the columns of tuples, from one to before another. They are valid until the next call.
func (t *rawTuples) each(from, to int, f func(values [][]byte) error) error {
	var (
		tuple  = make([]byte, t.width)
		values = make([][]byte, len(t.columns))
		at     int
	)
	for _, c := range t.columns {
		values[c.place] = tuple[at : at+c.size]
		at += c.size
	}
	for i := from; i < to; i++ {
		if t.width == 8 {
			binary.BigEndian.PutUint64(tuple, t.numbers[i])
		} else {
			copy(tuple, t.arena[i*t.width:])
		}
		for _, c := range t.columns {
			values[c.place][0] ^= c.flip
		}
		if err := f(values); err != nil {
			return err
		}
	}
	return nil
}

// errUnordered: rows of the change table did not come in their order, or some are missing before the last of them, and so it cannot be
// told what a batch ends with.
var errUnordered = errors.New("the rows of the change table came in no order")

// claimRaw is [Reader.claimTuples] by it. It fails with [errUnordered] where Postgres has to sort.
func (r *Reader) claimRaw(ctx context.Context, c cursor.Cursor, limit int) (Batch, error) {
	var (
		b      Batch
		window cursor.Snapshot
		found  = newRawTuples(&r.raw)
		rows   = r.packing.rows(limit)
		// read and fit are how many rows of the change table were read, and are part of the batch; fits is the place of the
		// last one that is.
		read, fit  int
		walk, fits cursor.Walk

		begun, ended bool
	)
	err := r.read(ctx, r.raw.query, claimParams(c, rows), func(values [][]byte) error {
		switch {
		case values[0] == nil:
		case !begun:
			begun = true
			text, meta, _ := strings.Cut(string(values[0]), "|")
			var err error
			if window, err = cursor.ParseSnapshot(text); err == nil {
				walk = cursor.NewWalk(window.Since(c.Done))
				b.Meta, err = parseMeta(meta)
			}
			return err
		default:
			ended = true
			return b.ends(c, string(values[0]))
		}
		xid, end := binary.BigEndian.Uint64(values[1]), values[3] == nil
		if end && !walk.End(xid) || !end && !walk.Next(xid, int64(binary.BigEndian.Uint64(values[2]))) {
			return errUnordered
		}
		if end {
			return nil
		}
		if read++; read > rows || b.Changes >= limit {
			return nil
		}
		fit, fits = fit+1, walk
		b.Truncated = b.Truncated || values[3][0] == 't'
		b.Touched = b.Touched || values[3][0] == 'r'
		n, err := found.addChange(values[4:])
		b.Changes += n
		return err
	})
	b.CaughtUp = read < rows && fit == read
	switch {
	case err != nil:
	case !ended:
		err = errors.New("no reply")
	case b.CaughtUp && !walk.Ended():
		err = errUnordered
	}
	if err != nil {
		found.release()
		return Batch{}, fmt.Errorf("claim tuples: %w", err)
	}
	found.sort()
	tuple := r.newTuple()
	b.left = newRawLeft(found, func(to *tuples, from, until int) error {
		return found.each(from, until, func(values [][]byte) error { return r.appendTuple(to, r.changeParts, values, tuple) })
	})
	r.packing.was(b.Changes, fit)
	b.leads(c, window, fits.Xid, fits.ID)
	return b, nil
}

// addChange adds the tuples of a row of the change table, given the columns from tuples on, as [statements.changed] lists
// them. It returns for how many changes the row counts.
func (t *rawTuples) addChange(values [][]byte) (int, error) {
	var (
		n     = len(t.columns)
		own   = func(place int) []byte { return values[1+2*place] }
		old   = func(place int) []byte { return values[2+2*place] }
		lists = values[1+2*n:]
	)
	if err := t.add(old); err != nil {
		return 0, err
	}
	if values[0] == nil {
		return 1, t.add(own)
	}
	walks := make([]elements, n)
	for place := range walks {
		if err := walks[place].begin(lists[place]); err != nil {
			return 0, err
		}
	}
	row := make([][]byte, n)
	for range walks[0].left {
		for place := range row {
			var err error
			if row[place], err = walks[place].next(); err != nil {
				return 0, err
			}
		}
		if err := t.add(func(place int) []byte { return row[place] }); err != nil {
			return 0, err
		}
	}
	return int(int16(binary.BigEndian.Uint16(values[0]))), nil
}

// elements walks the binary form of an array of one dimension.
type elements struct {
	left int
	rest []byte
}

var errArray = errors.New("the list of a key column is not what an array is sent as")

// begin takes an array: the number of dimensions, a flag, the type of the elements, and of each dimension how many and from
// which on. Null has none: the row is of before a sink had the column in its key.
func (e *elements) begin(array []byte) error {
	if array == nil {
		*e = elements{}
		return nil
	}
	if len(array) < 12 {
		return errArray
	}
	switch binary.BigEndian.Uint32(array) {
	case 0:
		*e = elements{}
		return nil
	case 1:
		if len(array) >= 20 {
			*e = elements{left: int(binary.BigEndian.Uint32(array[12:])), rest: array[20:]}
			return nil
		}
	}
	return errArray
}

// next returns the next element, nil for null and once none is left.
func (e *elements) next() ([]byte, error) {
	if e.left == 0 {
		return nil, nil
	}
	if len(e.rest) < 4 {
		return nil, errArray
	}
	size := int(int32(binary.BigEndian.Uint32(e.rest)))
	e.left, e.rest = e.left-1, e.rest[4:]
	if size < 0 {
		return nil, nil
	}
	if len(e.rest) < size {
		return nil, errArray
	}
	v := e.rest[:size]
	e.rest = e.rest[size:]
	return v, nil
}
