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

// rawTuples are tuples that follow each other in memory.
type rawTuples struct {
	*raw
	arena []byte
}

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
	return nil
}

// sorted calls f with the columns of each tuple once, in their order. It uses t up.
func (t *rawTuples) sorted(f func(values [][]byte) error) error {
	if t.width == 8 {
		return t.sortedNumbers(f)
	}
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
	values := make([][]byte, len(t.columns))
	for _, p := range places {
		at := p.at
		for _, c := range t.columns {
			values[c.place] = t.arena[at : at+c.size]
			values[c.place][0] ^= c.flip
			at += c.size
		}
		if err := f(values); err != nil {
			return err
		}
	}
	return nil
}

// sortedNumbers is sorted where a tuple is one number: that takes a third of the time.
func (t *rawTuples) sortedNumbers(f func(values [][]byte) error) error {
	numbers := make([]uint64, 0, len(t.arena)/8)
	for at := 0; at < len(t.arena); at += 8 {
		numbers = append(numbers, binary.BigEndian.Uint64(t.arena[at:]))
	}
	slices.Sort(numbers)
	value := make([]byte, 8)
	values := [][]byte{value}
	for _, n := range slices.Compact(numbers) {
		binary.BigEndian.PutUint64(value, n)
		value[0] ^= t.columns[0].flip
		if err := f(values); err != nil {
			return err
		}
	}
	return nil
}

// errUnordered: rows of the change table did not come in their order, or some are missing before the last of them, and so it cannot be
// told what a batch ends with.
var errUnordered = errors.New("the rows of the change table came in no order")

// claimRaw is the claim of tuples into touched, as [Reader.claimWith] makes it. It fails with [errUnordered] where that has to.
func (r *Reader) claimRaw(ctx context.Context, c cursor.Cursor, limit int, touched *tuples) (Batch, error) {
	var (
		b      Batch
		window cursor.Snapshot
		found  = rawTuples{raw: &r.raw}
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
	if err == nil {
		tuple := r.newTuple()
		err = found.sorted(func(values [][]byte) error { return r.appendTuple(touched, r.changeParts, values, tuple) })
	}
	if err != nil {
		return Batch{}, fmt.Errorf("claim tuples: %w", err)
	}
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
