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

// leastFew is how many changes it is worth while to try for.
const leastFew = 16

// below is how many changes there have to be less than for it to be tried, of at most limit, and 0 if it is not to be. The rows of a
// group are read anew for each of its changes; large entries take their room, and rows that are slow to read their time.
func (f *few) below(r *Reader, limit int) int {
	n := min(fewChanges, limit, r.piece(), r.most)
	if n < leastFew || r.sink.Grouped || !f.try() {
		return 0
	}
	return n
}

// claimFew is Claim where all that is pending after c is less than most changes. It returns false, and leaves e as it was, where
// there turn out to be more, or what takes more than this statement.
func (r *Reader) claimFew(ctx context.Context, c cursor.Cursor, most int, e *Entries) (b Batch, done bool, err error) {
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
	params := [][]byte{[]byte(c.Done.String()), fmt.Append(nil, most)}
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
		if many = many || rows == most || isTrue(values[3]) || full(); many {
			return nil
		}
		from := r.rowOf(values[4:], b.At)
		if hasNull(from.keys) {
			return nil
		}
		at := len(e.arena)
		if err := r.appendKeyOf(e, r.changeParts, from.keys, tuple); err != nil {
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
