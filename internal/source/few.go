package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/pg"
)

// fewChanges is how many changes there are less than for a claim to be made by a statement that makes nothing ready for many.
// One that makes it ready takes three times as long for a hundred: where the machine is busy, a lane that has fallen behind by
// so many would fall behind further.
const fewChanges = 128

// few knows whether claims find few changes, as those of a lane that keeps up do.
type few struct {
	hunch
	query pg.Prepared
}

// fits reports whether to try it for this reader. The rows of a group are read anew for each of its changes, and large
// entries take their room.
func (f *few) fits(r *Reader) bool {
	return !r.sink.Grouped && r.pieces.tuples() >= fewChanges && f.try()
}

// claimFew is Claim where all that is pending after c is a few changes. It returns false, and leaves e as it was, where
// there turn out to be more, or what takes more than this statement.
func (r *Reader) claimFew(ctx context.Context, c cursor.Cursor, e *Entries) (b Batch, done bool, err error) {
	var (
		begin = e.mark()
		full  = e.room()
		tuple = r.newTuple()
		keys  = make(map[string]struct{})
		rows  int
		last  []byte
		many  bool

		begun, ended bool
	)
	params := [][]byte{[]byte(c.Done.String()), fmt.Append(nil, fewChanges)}
	err = r.read(ctx, r.few.query, params, func(values [][]byte) error {
		if values[0] != nil {
			var err error
			if !begun {
				begun = true
				b.Meta, err = parseMeta(string(values[0]))
				return err
			}
			ended = true
			return b.ends(c, string(values[0]))
		}
		// What is of one change follows each other.
		if number := values[2]; rows == 0 || !slices.Equal(number, last) {
			rows, last = rows+1, append(last[:0], number...)
			b.Truncated = b.Truncated || string(values[1]) == "t"
			b.Touched = b.Touched || string(values[1]) == "r"
		}
		if many = many || rows == fewChanges || isTrue(values[3]) || full(); many {
			return nil
		}
		from := r.rowOf(values[4:], b.At)
		if hasNull(from.keys) {
			return nil
		}
		at := len(e.arena)
		if err := r.appendKey(&e.arena, r.changeParts, from.keys, tuple); err != nil {
			return err
		}
		if _, known := keys[string(e.arena[at:])]; known {
			e.arena = e.arena[:at]
			return nil
		}
		keys[string(e.arena[at:])] = struct{}{}
		return r.appendEntry(ctx, e, at, from, tuple)
	})
	if err == nil && !ended {
		err = errors.New("no reply")
	}
	if many || pg.IsData(err) {
		e.rewind(begin)
		return Batch{}, false, nil
	}
	if err != nil {
		return Batch{}, false, fmt.Errorf("claim few changes: %w", err)
	}
	r.pieces.were(len(e.items)-begin.items, len(e.arena)-begin.arena)
	r.ahead.many.Store(false)
	b.Read, b.Changes, b.CaughtUp, b.Next = b.At, rows, true, cursor.Finished(b.Snapshot)
	return b, true, nil
}

// ends takes over what a claim of few changes says in the end: how far the WAL is flushed by now, and the floor of the
// change table, which must not be beyond c.
func (b *Batch) ends(c cursor.Cursor, text string) (err error) {
	flushed, floor, is := strings.Cut(text, "|")
	if !is {
		return fmt.Errorf("claim says %q", text)
	}
	if b.Flushed, err = ParseLSN(flushed); err != nil {
		return err
	}
	return aboveFloor(c, floor)
}
