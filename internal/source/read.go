package source

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/pg"
)

// Meta is what a read says about the moment it was made in.
type Meta struct {
	// Snapshot of the statement: every row is as this snapshot sees it, or newer.
	Snapshot    cursor.Snapshot
	Incarnation string
	// The rows may go to Redis once the WAL is flushed up to Insert; Flushed is how far
	// it was then.
	Insert, Flushed LSN
	At              time.Time
	// Last is the tuple of the order columns with which a chunk ends that has its limit of
	// rows, as a text[]; nil if there are fewer rows, and for other reads.
	Last *string
}

// LSN is a position in the WAL.
type LSN uint64

// Batch is the result of a claim.
type Batch struct {
	Meta
	// Next is the cursor once the batch is applied.
	Next cursor.Cursor
	// Changes is how many touched tuples were walked, however often each.
	Changes int
	// CaughtUp: nothing is left of the window.
	CaughtUp bool
	// Truncated: the source was truncated in this batch.
	Truncated bool
	// Touched: some of the changes are touches of Freshet's own.
	Touched bool
}

// ErrBelowFloor is returned when changes after the cursor are gone from the change table.
var ErrBelowFloor = errors.New("the change table no longer goes back to the cursor")

// Claim reads the next batch of about limit changes after c and renders the present
// state of the tuples they touched into e. It has more by as much as one row of the change table
// holds, which are at most some hundred.
func (r *Reader) Claim(ctx context.Context, c cursor.Cursor, limit int, e *Entries) (Batch, error) {
	var (
		b    Batch
		err  error
		next = r.dense.take(c)
	)
	if !r.dense.large.Load() {
		limit = min(limit, denseFrom)
	}
	if next != nil || (!r.sink.Grouped && r.dense.try(limit)) {
		b, err = r.claimDense(ctx, c, limit, next, e)
	} else {
		b, err = r.claimByKey(ctx, c, limit, e)
	}
	r.dense.large.Store(b.Changes >= denseFrom)
	return b, err
}

// claimByKey is Claim by one statement that looks each tuple up.
func (r *Reader) claimByKey(ctx context.Context, c cursor.Cursor, limit int, e *Entries) (Batch, error) {
	var (
		begin = e.mark()
		tuple = r.newTuple()
	)
	b, err := r.claimWith(ctx, r.claim, c, limit, func(values [][]byte, at time.Time) error {
		return r.appendRow(ctx, e, r.changeParts, r.rowOf(values, at), tuple)
	})
	if !pg.IsData(err) {
		return b, err
	}
	e.rewind(begin)
	got := r.claimTuples(ctx, c, limit)
	if err = got.err; err == nil {
		err = r.isolate(ctx, &got.batch.Meta, got.touched, e)
	}
	if err != nil {
		return Batch{}, err
	}
	return got.batch, nil
}

func (r *Reader) claimWith(ctx context.Context, q pg.Query, c cursor.Cursor, limit int, row func(values [][]byte, at time.Time) error) (Batch, error) {
	var (
		b    Batch
		seen bool
	)
	rows := r.packing.rows(limit)
	params := [][]byte{[]byte(c.Done.String()), nil, []byte("0"), []byte("0"), strconv.AppendInt(nil, int64(limit), 10), strconv.AppendInt(nil, int64(rows), 10)}
	if c.Window != nil {
		params[1] = []byte(c.Window.String())
		params[2] = strconv.AppendUint(nil, c.Xid, 10)
		params[3] = strconv.AppendInt(nil, c.ID, 10)
	}
	err := pg.Read(ctx, r.pool, q, params, func(values [][]byte) error {
		if values[0] == nil {
			return row(values[1:], b.At)
		}
		seen = true
		fields := strings.SplitN(string(values[0]), "|", 11)
		if len(fields) != 11 {
			return fmt.Errorf("claim says %q", values[0])
		}
		window, err := cursor.ParseSnapshot(fields[0])
		if err != nil {
			return err
		}
		changes, err1 := strconv.Atoi(fields[1])
		xid, err2 := strconv.ParseUint(fields[2], 10, 64)
		id, err3 := strconv.ParseInt(fields[3], 10, 64)
		fit, err4 := strconv.Atoi(fields[8])
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return fmt.Errorf("claim says %q: %w", values[0], err)
		}
		b.Changes, b.Truncated, b.Touched = changes, fields[4] != "0", fields[5] != "0"
		b.CaughtUp = fields[9] == "true"
		r.packing.was(changes, fit)
		if b.CaughtUp {
			b.Next = cursor.Finished(window)
		} else {
			b.Next = c.At(window, xid, id)
		}
		if b.Meta, err = parseMeta(fields[10]); err != nil {
			return err
		}
		if b.Flushed, err = ParseLSN(fields[7]); err != nil {
			return err
		}
		floor, err := cursor.ParseSnapshot(fields[6])
		if err == nil && !c.Done.Covers(floor) {
			err = fmt.Errorf("%w (cursor %s, floor %s)", ErrBelowFloor, c, floor)
		}
		return err
	})
	if err == nil && !seen {
		err = errors.New("no reply")
	}
	if err != nil {
		return Batch{}, fmt.Errorf("claim: %w", err)
	}
	return b, nil
}

// Touched lists the keys in (lower, upper] that were touched by transactions which
// since does not see.
func (r *Reader) Touched(ctx context.Context, since cursor.Snapshot, lower, upper []string) (map[string]struct{}, error) {
	params := [][]byte{[]byte(since.String()), arrayParam(lower), arrayParam(upper)}
	keys := make(map[string]struct{})
	tuple := r.newTuple()
	var buf []byte
	err := pg.Read(ctx, r.checks, r.touched, params, func(values [][]byte) error {
		buf = buf[:0]
		if err := r.appendKey(&buf, r.changeParts, values, tuple); err != nil {
			return err
		}
		keys[string(buf)] = struct{}{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for touched tuples: %w", err)
	}
	return keys, nil
}

// Untouched reports whether no key in (lower, upper] was touched by a transaction that since
// does not see, and the source was not truncated, as far as the change table of this
// incarnation tells.
func (r *Reader) Untouched(ctx context.Context, incarnation string, since cursor.Snapshot, lower, upper []string) (bool, error) {
	var clean, seen bool
	params := [][]byte{[]byte(since.String()), arrayParam(lower), arrayParam(upper)}
	err := pg.Read(ctx, r.checks, r.untouched, params, func(values [][]byte) error {
		seen = true
		fields := strings.SplitN(string(values[0]), "|", 3)
		if len(fields) != 3 {
			return fmt.Errorf("it says %q", values[0])
		}
		floor, err := cursor.ParseSnapshot(fields[1])
		clean = fields[0] == "true" && since.Covers(floor) && fields[2] == incarnation
		return err
	})
	if err == nil && !seen {
		err = errors.New("no reply")
	}
	if err != nil {
		return false, fmt.Errorf("look for what was touched: %w", err)
	}
	return clean, nil
}

// Absent returns which of these tuples, given in the order of the key columns, have no entry.
// Tuples whose rows raise an error count as having one.
func (r *Reader) Absent(ctx context.Context, tuples [][]string) ([][]string, error) {
	var gone [][]string
	if !r.plain() {
		return r.absentOf(ctx, tuples)
	}
	err := pg.Read(ctx, r.pool, r.absent, r.columns(tuples), func(values [][]byte) error {
		n := int(binary.BigEndian.Uint64(values[0]))
		gone = append(gone, tuples[n-1])
		return nil
	})
	if !pg.IsData(err) {
		if err != nil {
			return nil, fmt.Errorf("look for absent rows: %w", err)
		}
		return gone, nil
	}
	return r.absentOf(ctx, tuples)
}

// plain: a row that passes the filter has an entry.
func (r *Reader) plain() bool {
	return r.sink.Value == "" && r.sink.Transform == "" && r.sink.ExpiresAt == ""
}

// absentOf makes the values to see which of them are absent.
func (r *Reader) absentOf(ctx context.Context, tuples [][]string) ([][]string, error) {
	var e Entries
	if _, err := r.Lookup(ctx, tuples, &e); err != nil {
		return nil, err
	}
	there := make(map[string]bool, e.Len())
	for i := range e.Len() {
		if _, present := e.Value(i); present || e.Failed(i) {
			there[string(e.Key(i))] = true
		}
	}
	var gone [][]string
	for _, tuple := range tuples {
		if !there[r.name(tuple).key] {
			gone = append(gone, tuple)
		}
	}
	return gone, nil
}

// columns are these tuples as parameters: a text[] for each key column.
func (r *Reader) columns(tuples [][]string) [][]byte {
	params := make([][]byte, len(r.parts))
	column := make([]string, len(tuples))
	for i := range r.parts {
		for j, t := range tuples {
			column[j] = t[i]
		}
		params[i] = arrayLiteral(column)
	}
	return params
}

// Lookup reads the present rows of these tuples, given in the order of the key
// columns, and renders them into e: absent where there is no row that passes the
// filter, or where making its entry raises an error. Entries come in no particular order.
func (r *Reader) Lookup(ctx context.Context, tuples [][]string, e *Entries) (Meta, error) {
	begin := e.mark()
	meta, err := r.lookUp(ctx, tuples, e)
	if !pg.IsData(err) {
		return meta, err
	}
	e.rewind(begin)
	all := make([]named, len(tuples))
	for i, t := range tuples {
		all[i] = r.name(t)
	}
	meta = Meta{}
	err = r.isolate(ctx, &meta, all, e)
	return meta, err
}

// lookUp is one statement, and fails if one of the tuples does.
func (r *Reader) lookUp(ctx context.Context, tuples [][]string, e *Entries) (Meta, error) {
	var (
		meta  Meta
		tuple = r.newTuple()
	)
	err := pg.Read(ctx, r.pool, r.lookup, r.columns(tuples), func(values [][]byte) error {
		if values[0] == nil {
			if hasNull(values[2 : 2+len(r.parts)]) {
				return nil
			}
			return r.appendRow(ctx, e, r.parts, r.rowOf(values[1:], meta.At), tuple)
		}
		var err error
		meta, err = parseMeta(string(values[0]))
		return err
	})
	if err != nil {
		return Meta{}, fmt.Errorf("look up rows: %w", err)
	}
	return meta, nil
}

func (r *Reader) lookupParts() []keyPart {
	parts := make([]keyPart, len(r.sink.KeyColumns))
	for i, k := range r.sink.KeyColumns {
		parts[i] = newKeyPart(k, fmt.Sprintf("k%d", i))
	}
	return parts
}

func parseMeta(text string) (Meta, error) {
	fields := strings.SplitN(text, "|", 6)
	if len(fields) < 5 {
		return Meta{}, fmt.Errorf("read says %q of itself", text)
	}
	var (
		m    Meta
		errs [4]error
	)
	if len(fields) == 6 && fields[5] != "" {
		m.Last = &fields[5]
	}
	m.Snapshot, errs[0] = cursor.ParseSnapshot(fields[0])
	m.Incarnation = fields[1]
	m.Insert, errs[1] = ParseLSN(fields[2])
	m.Flushed, errs[2] = ParseLSN(fields[3])
	m.At, errs[3] = time.Parse("2006-01-02 15:04:05.999999-07", fields[4])
	if err := errors.Join(errs[:]...); err != nil {
		return Meta{}, fmt.Errorf("read says %q of itself: %w", text, err)
	}
	return m, nil
}

// String is the text form of a pg_lsn.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// ParseLSN reads the text form of a pg_lsn.
func ParseLSN(text string) (LSN, error) {
	high, low, ok := strings.Cut(text, "/")
	if !ok {
		return 0, fmt.Errorf("WAL position %q", text)
	}
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("WAL position %q: %w", text, err)
	}
	return LSN(h<<32 | l), nil
}
