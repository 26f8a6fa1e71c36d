package source

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/key"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/render"
	"github.com/freshet/freshet/internal/transform"
)

// Reader reads for one definition of one sink. It is safe for concurrent use.
type Reader struct {
	pool *pgxpool.Pool
	// checks is for what is asked while a chunk is being streamed.
	checks *pgxpool.Pool
	sink   *catalog.Sink
	shard  int
	// only is a condition that chunks leave rows out by, empty for none.
	only  string
	shape shape
	parts []keyPart
	// parts of the change table's columns, under their names there
	changeParts []keyPart
	// parts of the source's columns, under their names in the change table
	groupParts []keyPart

	claim, touched, untouched, lookup, absent pg.Prepared
	chunk                                     map[bounded]listing
	sample                                    listing
	// The same, but with the key columns only.
	bareClaim pg.Prepared
	// span reads all rows from a tuple to another; see dense.
	span listing
	// listed reads the rows of tuples of one column in its order, if it has a query.
	listed     listing
	dense      dense
	ahead      ahead
	few        few
	raw        raw
	unordered  atomic.Bool // raw is not to be used
	pieces     pieces
	packing    packing
	bareChunk  map[bounded]listing
	bareSample listing

	// most is how many tuples are looked up at a time.
	most int
	// maxValue is the most bytes that a value can have.
	maxValue int
	// portion is this reader's part of what each would have of memory.
	portion func(n int) int
	// suspected tells which keys are likely to fail; nil if nobody knows.
	suspected func(key string) bool
}

// listing is a statement that lists rows, ready to be run.
type listing struct {
	rows
	query pg.Prepared
}

// NewReader prepares the statements for a sink. The source must exist, and among the functions
// the one that the sink names.
func NewReader(pool *pgxpool.Pool, sink *catalog.Sink, functions *transform.Registry) (*Reader, error) {
	return newReader(pool, pool, sink, functions, 0, "")
}

// NewShardReader is a reader whose claims leave out what other shards of the sink are for.
func NewShardReader(pool *pgxpool.Pool, sink *catalog.Sink, functions *transform.Registry, shard int) (*Reader, error) {
	return newReader(pool, pool, sink, functions, shard, "")
}

// NewPartReader is a reader whose chunks have only the rows that a filter selects. What is asked
// while a chunk is being streamed goes over checks: who streams keeps a connection of pool, and
// waits for who asks.
func NewPartReader(pool, checks *pgxpool.Pool, sink *catalog.Sink, functions *transform.Registry, filter string) (*Reader, error) {
	return newReader(pool, checks, sink, functions, 0, filter)
}

func newReader(pool, checks *pgxpool.Pool, sink *catalog.Sink, functions *transform.Registry, shard int, only string) (*Reader, error) {
	if sink.Table == "" {
		return nil, fmt.Errorf("sink %s: its source is gone", sink.Name)
	}
	if len(sink.KeyColumns) == 0 {
		return nil, fmt.Errorf("sink %s: %s", sink.Name, sink.Broken)
	}
	shape, err := newShape(sink, functions)
	if err != nil {
		return nil, fmt.Errorf("sink %s: %w", sink.Name, err)
	}
	// What freshet.check_purity says of expressions in SQL.
	if p, ok := shape.(*transform.Program); ok && p.Clocked() && !sink.Drifts {
		return nil, fmt.Errorf("sink %s: transform: it uses now, which changes when no row does: give expires, for how long an entry may be as it was, or say accept_drift => true", sink.Name)
	}
	r := &Reader{pool: pool, checks: checks, sink: sink, shard: shard, only: only, shape: shape, most: pieceTuples, maxValue: MaxValue, portion: func(n int) int { return n }}
	for _, k := range sink.KeyColumns {
		r.parts = append(r.parts, newKeyPart(k, k.Name))
		r.changeParts = append(r.changeParts, newKeyPart(inChangeTable(k), k.Change))
		r.groupParts = append(r.groupParts, newKeyPart(k, k.Change))
	}
	s := newStatements(r)
	path := "pg_catalog, " + pgx.Identifier{sink.Schema}.Sanitize() + ", public"
	// with has a value, from that column on.
	with := func(sql string, column int) pg.Prepared {
		return pg.Query{SearchPath: path, RowSecurity: sink.RowSecurity, Version: sink.Definition, SQL: sql, Type: sentType(sink), Column: column}.Named()
	}
	query := func(sql string) pg.Prepared {
		return pg.Query{SearchPath: path, RowSecurity: sink.RowSecurity, Version: sink.Definition, SQL: sql}.Named()
	}
	r.claim, r.bareClaim = with(s.claim(false), 2+len(r.parts)), query(s.claim(true))
	if r.raw = newRaw(r); r.raw.is() {
		r.raw.query = query(s.raw())
	}
	r.few.query = with(s.few(), 5+len(r.parts))
	list := func(l rows) listing { return listing{l, with(l.sql, l.value)} }
	bare := func(l rows) listing { return listing{l, query(l.sql)} }
	r.sample, r.bareSample = list(s.sample(false)), bare(s.sample(true))
	r.chunk, r.bareChunk = make(map[bounded]listing), make(map[bounded]listing)
	r.span = list(s.chunk(bounded{after: true, until: true, including: true}, false))
	if r.lists() {
		r.listed = list(s.chunk(bounded{listed: true}, false))
	}
	for _, has := range []bounded{{}, {after: true}, {until: true}, {after: true, until: true}} {
		r.chunk[has], r.bareChunk[has] = list(s.chunk(has, false)), bare(s.chunk(has, true))
	}
	r.touched = query(s.touched())
	r.untouched = query(s.untouched())
	r.lookup = with(s.lookup(), 2+len(r.parts))
	r.absent = query(s.absent())
	return r, nil
}

// Suspect says which keys have failed before. They are looked at one by one where others
// are looked at together. It must be called before r is used.
func (r *Reader) Suspect(suspected func(key string) bool) { r.suspected = suspected }

// Slow has claims look up no more tuples at a time than that: where entries take long, a row of the change table alone can
// have too many. It must be called before r is used.
func (r *Reader) Slow(most int) { r.most = min(r.most, most) }

// Hold says how many bytes the target takes at most in a value; 0 is not known. It must be called
// before r is used.
func (r *Reader) Hold(most int) {
	if most > 0 {
		r.maxValue = min(r.maxValue, most)
	}
}

// Share says what part a reader has of n, which is what it would have of memory if there were few. It must be called before r is used.
func (r *Reader) Share(portion func(n int) int) { r.portion = portion }

// Free reports whether two connections are left, as far as one can tell at a moment: one to read over, and one for who has less to
// read.
func (r *Reader) Free() bool {
	now := r.pool.Stat()
	return now.AcquiredConns()+now.ConstructingConns()+1 < now.MaxConns()
}

// Sink is the definition that r reads for.
func (r *Reader) Sink() *catalog.Sink { return r.sink }

// tries is how often partitions may turn up that are not on record, before it is an error.
const tries = 5

// read runs a statement that begins with what [statements.meta] says. Where partitions are not on
// record yet, which that refuses before anything is read, they are put there first.
func (r *Reader) read(ctx context.Context, q pg.Prepared, params [][]byte, row func(values [][]byte) error) error {
	for n := 1; ; n++ {
		err := pg.Read(ctx, r.pool, q, params, row)
		if n == tries || !pg.IsUnrecorded(err) {
			return err
		}
		if _, err := r.pool.Exec(ctx, "select freshet.note_partitions($1)", r.sink.SourceID); err != nil {
			return fmt.Errorf("note partitions: %w", err)
		}
	}
}

// row is one row that was read.
type row struct {
	present bool
	// keys are the key columns as the key parts read them, value the value's.
	keys, value [][]byte
	// at is when it was read.
	at time.Time
}

// rowOf is a row whose key columns come first, after present.
func (r *Reader) rowOf(values [][]byte, at time.Time) row {
	n := 1 + len(r.parts)
	return row{present: isTrue(values[0]), keys: values[1:n], value: values[n:], at: at}
}

func isTrue(boolean []byte) bool { return boolean != nil && boolean[0] == 1 }

// appendRow renders one row.
func (r *Reader) appendRow(ctx context.Context, e *Entries, parts []keyPart, from row, tuple [][]byte) error {
	begin := len(e.arena)
	if err := r.appendKeyOf(e, parts, from.keys, tuple); err != nil {
		return err
	}
	return r.appendEntry(ctx, e, begin, from, tuple)
}

// appendEntry renders the rest of a row whose key is in the arena, from begin on, and whose
// texts are in tuple.
func (r *Reader) appendEntry(ctx context.Context, e *Entries, begin int, from row, tuple [][]byte) error {
	it := item{key: begin, value: len(e.arena)}
	if !key.Writable(e.arena[it.key:it.value]) {
		e.arena = e.arena[:it.key]
		return nil
	}
	if from.present {
		var err error
		if it.present, it.expires, err = r.appendValue(ctx, e, e.arena[it.key:], from); err != nil {
			e.arena = e.arena[:it.key]
			return r.failedBy(err, e, tuple)
		}
	}
	if size := len(e.arena) - it.value; size > r.maxValue {
		e.arena = e.arena[:it.key]
		e.fail(r.sink.Template.Append(nil, tuple), copied(tuple), codeTooLarge,
			fmt.Sprintf("the value has %d bytes, and an entry can have %d", size, r.maxValue))
		return nil
	}
	it.end = len(e.arena)
	e.items = append(e.items, it)
	return nil
}

// failedBy takes note of a row that has no entry for an error of its own, and returns any other.
func (r *Reader) failedBy(err error, e *Entries, tuple [][]byte) error {
	wrong := new(transform.Error)
	switch {
	case errors.As(err, &wrong):
		e.fail(r.sink.Template.Append(nil, tuple), copied(tuple), codeTransform, wrong.Error())
	case errors.Is(err, render.ErrNotUTF8):
		e.fail(r.sink.Template.Append(nil, tuple), copied(tuple), codeNotUTF8, err.Error())
	default:
		return err
	}
	return nil
}

// appendValue renders the value of a row. It returns false if there is to be no entry, and
// when the entry expires, 0 for never.
func (r *Reader) appendValue(ctx context.Context, e *Entries, key []byte, from row) (present bool, expires int64, err error) {
	values := from.value
	if r.sink.ExpiresAt != "" {
		last := len(values) - 1
		if expires, err = moment(values[last]); err != nil {
			return false, 0, err
		}
		if expires != 0 && expires <= from.at.UnixMilli() {
			return false, 0, nil
		}
		values = values[:last]
	}
	e.arena, present, err = r.shape.Append(ctx, e.arena, key, values, from.at)
	return present, expires, err
}

// appendKey renders a tuple's key. The tuple's texts are left in tuple.
func (r *Reader) appendKey(dst *[]byte, parts []keyPart, values [][]byte, tuple [][]byte) error {
	for i := range parts {
		var err error
		if tuple[i], err = parts[i].Append(tuple[i][:0], values[i]); err != nil {
			return err
		}
	}
	*dst = r.sink.Template.Append(*dst, tuple)
	return nil
}

// appendKeyOf is appendKey for an entry.
func (r *Reader) appendKeyOf(e *Entries, parts []keyPart, values, tuple [][]byte) error {
	e.take()
	return r.appendKey(&e.arena, parts, values, tuple)
}

func (r *Reader) newTuple() [][]byte { return make([][]byte, len(r.parts)) }

func hasNull(values [][]byte) bool {
	for _, v := range values {
		if v == nil {
			return true
		}
	}
	return false
}

// texts copies a rendered tuple, or the given positions of it.
func texts(tuple [][]byte, positions []int) []string {
	out := make([]string, len(positions))
	for i, p := range positions {
		out[i] = string(tuple[p])
	}
	return out
}

// copied are the texts of a whole tuple.
func copied(tuple [][]byte) []string {
	out := make([]string, len(tuple))
	for i, text := range tuple {
		out[i] = string(text)
	}
	return out
}

// arrayParam is a tuple as a parameter, null for nil.
func arrayParam(tuple []string) []byte {
	if tuple == nil {
		return nil
	}
	return arrayLiteral(tuple)
}
