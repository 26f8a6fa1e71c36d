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
	given := r.tuplesOf(tuples)
	err := r.read(ctx, r.absent, given.columns(), func(values [][]byte) error {
		if values[0] != nil {
			return nil
		}
		n := int(binary.BigEndian.Uint64(values[1]))
		gone = append(gone, tuples[n-1])
		return nil
	})
	if err == nil {
		return gone, nil
	}
	if !pg.IsData(err) && !pg.TookTooLong(err) || ctx.Err() != nil {
		return nil, fmt.Errorf("look for absent rows: %w", err)
	}
	return r.absentOf(ctx, tuples)
}

// plain: a row that passes the filter has an entry.
func (r *Reader) plain() bool {
	return r.sink.Value == "" && r.sink.Transform == "" && r.sink.ExpiresAt == ""
}

const (
	// fewValues is with how many tuples absentOf begins, and manyValues bounds how many it looks at in one statement. It is
	// to take lookTime at most, and lookBytes.
	fewValues, manyValues = 100, 5000
	lookTime              = time.Second
	lookBytes             = 4 << 20
)

// absentOf makes the values to see which of them are absent. They can be costly, and large: not more are made in one
// statement than it has time for.
func (r *Reader) absentOf(ctx context.Context, tuples [][]string) ([][]string, error) {
	var (
		gone  [][]string
		e     Entries
		there = make(map[string]bool)
	)
	for n := fewValues; len(tuples) > 0; {
		n = min(n, len(tuples))
		e.Reset()
		clear(there)
		begun := time.Now()
		if _, err := r.Lookup(ctx, tuples[:n], &e); err != nil {
			if pg.TookTooLong(err) && n > 1 && ctx.Err() == nil {
				n = max(n/8, 1)
				continue
			}
			return nil, err
		}
		for i := range e.Len() {
			if _, present := e.Value(i); present || e.Failed(i) {
				there[string(e.Key(i))] = true
			}
		}
		for _, tuple := range tuples[:n] {
			if !there[r.sink.Template.Of(tuple)] {
				gone = append(gone, tuple)
			}
		}
		tuples = tuples[n:]
		byTime, bySize := int64(n)*int64(lookTime)/int64(max(time.Since(begun), 1)), int64(n)*lookBytes/int64(max(len(e.arena), 1))
		n = max(int(min(int64(4*n), manyValues, byTime, bySize)), 1)
	}
	return gone, nil
}

// Lookup reads the present rows of these tuples, given in the order of the key
// columns, and renders them into e: absent where there is no row that passes the
// filter, or where making its entry raises an error. Entries come in no particular order.
func (r *Reader) Lookup(ctx context.Context, tuples [][]string, e *Entries) (Meta, error) {
	begin, given := e.mark(), r.tuplesOf(tuples)
	meta, _, err := r.lookUp(ctx, given, e, toEnd)
	if !pg.IsData(err) {
		return meta, err
	}
	e.rewind(begin)
	meta = Meta{}
	err = r.isolate(ctx, &meta, given, e)
	return meta, err
}

// lookUp is one statement, and fails if one of the tuples does. It appends no more once full says
// that there is no room.
func (r *Reader) lookUp(ctx context.Context, some tuples, e *Entries, full func() bool) (meta Meta, cut bool, err error) {
	tuple := r.newTuple()
	err = r.read(ctx, r.lookup, some.columns(), func(values [][]byte) error {
		if values[0] == nil {
			if cut = cut || full(); cut || hasNull(values[2:2+len(r.parts)]) {
				return nil
			}
			return r.appendRow(ctx, e, r.parts, r.rowOf(values[1:], meta.At), tuple)
		}
		var err error
		meta, err = parseMeta(string(values[0]))
		return err
	})
	if err != nil {
		return Meta{}, false, fmt.Errorf("look up rows: %w", err)
	}
	return meta, cut, nil
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
