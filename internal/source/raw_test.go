package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/freshet/freshet/internal/catalog"
)

func int8s(list ...int64) [][]byte {
	var values [][]byte
	for _, n := range list {
		values = append(values, binary.BigEndian.AppendUint64(nil, uint64(n)))
	}
	return values
}

// array is one of whole numbers in binary form; nil is null.
func array(elements ...[]byte) []byte {
	var b []byte
	for _, n := range []int{1, 1, pgtype.Int8OID, len(elements), 1} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	for _, e := range elements {
		if e == nil {
			b = append(b, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(e))), e...)
	}
	return b
}

// Tuples come once each, first by the second column, a whole number, then by the first, a uuid.
func TestRawTuplesAreSortedAsPostgresDoes(t *testing.T) {
	w := raw{columns: []rawColumn{{place: 1, size: 8, flip: 0x80}, {place: 0, size: 16}}, width: 24}
	uuids := [][]byte{bytes.Repeat([]byte{0}, 16), bytes.Repeat([]byte{0x7f}, 16), bytes.Repeat([]byte{0x80}, 16)}
	numbers := int8s(math.MinInt64, -256, -1, 0, 1, 255, math.MaxInt64)
	var want [][]byte
	for _, n := range numbers {
		for _, u := range uuids {
			want = append(want, slices.Concat(u, n))
		}
	}
	found := newRawTuples(&w)
	for i := range 3 * len(want) {
		tuple := want[i*8%len(want)]
		if err := found.add(func(place int) []byte { return [][]byte{tuple[:16], tuple[16:]}[place] }); err != nil {
			t.Fatal(err)
		}
	}
	if err := found.add(func(place int) []byte { return [][]byte{uuids[0], nil}[place] }); err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	found.sort()
	if err := found.each(0, found.len(), func(values [][]byte) error { got = append(got, slices.Concat(values...)); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%x, want %x", got, want)
	}
	if err := found.add(func(int) []byte { return []byte{1} }); err == nil {
		t.Error("a column of another size is no error")
	}
}

// Where a tuple is one number it is kept as that.
func TestRawNumbersAreSortedAsPostgresDoes(t *testing.T) {
	want := int8s(math.MinInt64, -256, -1, 0, 1, 255, math.MaxInt64)
	found := newRawTuples(&raw{columns: []rawColumn{{size: 8, flip: 0x80}}, width: 8})
	for i := range 3 * len(want) {
		if err := found.add(func(int) []byte { return want[i*3%len(want)] }); err != nil {
			t.Fatal(err)
		}
	}
	if err := found.add(func(int) []byte { return nil }); err != nil {
		t.Fatal(err)
	}
	found.sort()
	var got [][]byte
	if err := found.each(1, found.len(), func(values [][]byte) error { got = append(got, slices.Clone(values[0])); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want[1:], bytes.Equal) {
		t.Errorf("%x, want %x", got, want[1:])
	}
}

func TestRowsOfTheChangeTableHaveTheirTuples(t *testing.T) {
	n := int8s(0, 1, 2, 3)
	eight := []byte{0, 8}
	for _, c := range []struct {
		name    string
		values  [][]byte // the number of tuples; k1, o1; k2, o2; the lists
		changes int
		want    [][]byte
		fails   bool
	}{
		{name: "one", values: [][]byte{nil, n[1], nil, n[2], nil, nil, nil}, changes: 1, want: [][]byte{n[1], n[2]}},
		{name: "and what it was before", values: [][]byte{nil, n[1], n[0], n[2], n[3], nil, nil}, changes: 1, want: [][]byte{n[0], n[3], n[1], n[2]}},
		{name: "none", values: [][]byte{nil, nil, nil, nil, nil, nil, nil}, changes: 1},
		{name: "not all of it", values: [][]byte{nil, n[1], nil, nil, n[1], nil, nil}, changes: 1},
		{name: "lists", values: [][]byte{eight, nil, nil, nil, nil, array(n[3], n[1], nil), array(n[0], n[2], n[2])}, changes: 8, want: [][]byte{n[1], n[2], n[3], n[0]}},
		{name: "lists of different lengths", values: [][]byte{eight, nil, nil, nil, nil, array(n[3], n[1]), array(n[0])}, changes: 8, want: [][]byte{n[3], n[0]}},
		{name: "empty lists", values: [][]byte{eight, nil, nil, nil, nil, make([]byte, 12), make([]byte, 12)}, changes: 8},
		{name: "no list", values: [][]byte{eight, nil, nil, nil, nil, nil, nil}, changes: 8},
		{name: "the list of one column", values: [][]byte{eight, nil, nil, nil, nil, array(n[1]), nil}, changes: 8},
		{name: "the list of the other", values: [][]byte{eight, nil, nil, nil, nil, nil, array(n[1])}, changes: 8},
		{name: "less than a list", values: [][]byte{eight, nil, nil, nil, nil, {0}, array(n[1])}, fails: true},
		{name: "lists of lists", values: [][]byte{eight, nil, nil, nil, nil, slices.Concat([]byte{0, 0, 0, 2}, array(n[1])[4:]), array(n[1])}, fails: true},
		{name: "a list that ends early", values: [][]byte{eight, nil, nil, nil, nil, array(n[1])[:25], array(n[1])}, fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := newRawTuples(&raw{columns: []rawColumn{{place: 0, size: 8, flip: 0x80}, {place: 1, size: 8, flip: 0x80}}, width: 16})
			changes, err := found.addChange(c.values)
			if c.fails {
				if !errors.Is(err, errArray) {
					t.Fatalf("%d, %v", changes, err)
				}
				return
			}
			if err != nil || changes != c.changes {
				t.Fatalf("%d changes, %v", changes, err)
			}
			var got []byte
			found.sort()
			if err := found.each(0, found.len(), func(values [][]byte) error { got = append(got, slices.Concat(values...)...); return nil }); err != nil {
				t.Fatal(err)
			}
			if want := slices.Concat(c.want...); !bytes.Equal(got, want) {
				t.Errorf("%x, want %x", got, want)
			}
		})
	}
}

// Six megabytes are what the texts and keys of so many tuples take.
func TestClaimsOfLargeTuplesHaveFewer(t *testing.T) {
	for width, want := range map[int]int{0: 32_000, 8: 128_000, 16: 64_000, 24: 42_666, 32: 32_000, 64: 32_000} {
		r := &Reader{sink: &catalog.Sink{Shards: 1}, portion: func(n int) int { return n }}
		if width > 0 {
			r.raw = raw{columns: make([]rawColumn, 1), width: width}
		}
		if got := r.MostChanges(); got != want {
			t.Errorf("of tuples of %d bytes a claim has at most %d, want %d", width, got, want)
		}
	}
}

// Where many lanes share the memory of a worker, each claims less at a time, but never so little that it would take for ever; nor do
// the lanes of one sink, which share its claims already.
func TestClaimsOfManyLanesHaveFewer(t *testing.T) {
	for _, c := range []struct{ lanes, shards, changes, tuples int }{
		{1, 1, 128_000, 2097}, {2, 1, 64_000, 1048}, {10, 1, 12_800, 524}, {100, 1, 4000, 524}, {100, 4, 16_000, 524},
	} {
		r := &Reader{sink: &catalog.Sink{Shards: c.shards}, raw: raw{columns: make([]rawColumn, 1), width: 8}}
		r.Share(func(n int) int { return n / c.lanes })
		r.pieces.were(1, 1000)
		if changes, tuples := r.MostChanges(), r.piece(); changes != c.changes || tuples != c.tuples {
			t.Errorf("%d lanes, %d shards: %d changes, of which %d are read at once; want %d, %d", c.lanes, c.shards, changes, tuples, c.changes, c.tuples)
		}
	}
}
