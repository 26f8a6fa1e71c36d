package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/pg"
)

const (
	// manyChanges is from how many on a claim is made by itself, and its rows are read after it, while the next claim is
	// made. The first claim of a backlog asks for no more: then it is known.
	manyChanges = 1000
	// mostChanges is how many a claim has at most that sorts them here, of one number each. Of larger tuples it has fewer, for them to
	// take about the same room with their texts and keys, some six megabytes. mostSorted is where Postgres sorts them, which needs files
	// for more, and the least.
	mostChanges, mostSorted = 128_000, 32_000
	// A piece of a batch is what one statement reads: about so many bytes of entries.
	pieceTuples = 4000
	pieceBytes  = 2 << 20
	leastTuples = 2
	// leastChanges and leastBytes are what a shard's claim and a piece have at least, however many lanes share the memory.
	leastChanges = 4000
	leastBytes   = 512 << 10
)

// Batch is the result of a claim.
type Batch struct {
	Meta
	// Read is when the rows were read that the entries are of: not before the claim, of which At is.
	Read time.Time
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

	// left are the tuples whose rows are still to be read, nil for none. Copies of the batch share it.
	left *left
}

// More reports whether there are entries left for [Reader.Rest] of b and all its copies.
func (b *Batch) More() bool { return b.left != nil && b.left.any() }

// ErrBelowFloor is returned when changes after the cursor are gone from the change table.
var ErrBelowFloor = errors.New("the change table no longer goes back to the cursor")

// aboveFloor is [ErrBelowFloor] where the change table does not go back to c.
func aboveFloor(c cursor.Cursor, text string) error {
	floor, err := cursor.ParseSnapshot(text)
	if err == nil && !c.Done.Covers(floor) {
		err = fmt.Errorf("%w (cursor %s, floor %s)", ErrBelowFloor, c, floor)
	}
	return err
}

// ahead makes the claim that follows one of many changes while the rows of that are read.
type ahead struct {
	// many: the last claim found many changes.
	many atomic.Bool
	// limit is of how many changes it is at most, if it is not 0; or of as many as the one before.
	limit atomic.Int64
	// next is the claim that comes next, if it was made already.
	next atomic.Pointer[claiming]
}

// claiming is a claim from a cursor on.
type claiming struct {
	from cursor.Cursor
	made chan claimed
}

// claimed are the tuples of a claim.
type claimed struct {
	Batch
	err error
}

// Claim reads the next batch of about limit changes after c and renders the present
// state of the tuples they touched into e, as far as there is room: the others are for Rest. It has
// more changes by as much as one row of the change table holds, which are at most some hundred.
func (r *Reader) Claim(ctx context.Context, c cursor.Cursor, limit int, e *Entries) (Batch, error) {
	var (
		b    Batch
		err  error
		next = r.ahead.take(c)
	)
	if next == nil && c.Window == nil {
		if most := r.few.below(r, limit); most > 0 {
			b, done, err := r.claimFew(ctx, c, most, e)
			if r.few.were(done); done || err != nil {
				return b, err
			}
		}
	}
	if next != nil || r.most < pieceTuples || (limit > manyChanges && r.ahead.many.Load()) {
		b, err = r.claimMany(ctx, c, limit, next, e)
	} else {
		b, err = r.claimByKey(ctx, c, min(limit, manyChanges), e)
	}
	r.ahead.many.Store(b.Changes >= manyChanges)
	return b, err
}

// MostChanges is how many changes a claim is to have at most, those of all shards together.
func (r *Reader) MostChanges() int {
	most := mostSorted
	if r.sortsHere() {
		most = max(mostChanges*8/r.raw.width, mostSorted)
	}
	return max(r.portion(most), min(most, leastChanges*r.sink.Shards))
}

// Ahead says how many changes those claims have at most from now on that are made while the rows of another are read.
func (r *Reader) Ahead(limit int) { r.ahead.limit.Store(int64(limit)) }

// sortsHere: tuples are claimed as the change table has them.
func (r *Reader) sortsHere() bool { return r.raw.is() && !r.unordered.Load() }

// Rest reads of what is left of a batch as much as there is room for; nothing where others read the last of it. What it reads is
// read later than the batch was claimed, which is never too late. Copies of a batch can be read at once: each has tuples of its own.
func (r *Reader) Rest(ctx context.Context, b *Batch, e *Entries) error {
	var (
		begin = e.mark()
		meta  Meta
		span  bool
	)
	some, err := b.left.take(min(r.piece(), r.most))
	n := some.len()
	if n == 0 {
		return err
	}
	if !r.sink.Grouped {
		n, span = r.dense.try(n)
	}
	// after are those that are not read yet.
	after, err := r.readSome(ctx, &meta, some.part(0, n), span, e)
	if pg.IsData(err) {
		if span {
			// It can be the error of a row that nobody touched.
			r.dense.were(false)
		}
		e.rewind(begin)
		n, after, meta = min(n, apartRows), tuples{}, Meta{}
		err = r.isolate(ctx, &meta, some.part(0, n), e)
	}
	if err != nil {
		return err
	}
	r.pieces.were(n-after.len(), len(e.arena)-begin.arena)
	b.left.giveBack(after, some.part(n, some.len()))
	b.Read = meta.At
	return b.extend(meta)
}

// readSome reads tuples, with span all rows between them, and returns those that it did not come to.
func (r *Reader) readSome(ctx context.Context, meta *Meta, some tuples, span bool, e *Entries) (left tuples, err error) {
	switch {
	case span:
		return r.readSpan(ctx, meta, some, e)
	case r.lists():
		return r.readListed(ctx, meta, some, e)
	}
	return r.lookUpSome(ctx, meta, some, e, e.room())
}

// claimByKey is Claim by one statement that looks each tuple up.
func (r *Reader) claimByKey(ctx context.Context, c cursor.Cursor, limit int, e *Entries) (Batch, error) {
	var (
		begin = e.mark()
		full  = e.room()
		after = tuples{width: len(r.parts)}
		tuple = r.newTuple()
	)
	b, err := r.claimWith(ctx, r.claim, c, limit, func(values [][]byte, at time.Time) error {
		row := r.rowOf(values, at)
		if after.len() > 0 || full() {
			return r.appendTuple(&after, r.changeParts, row.keys, tuple)
		}
		return r.appendRow(ctx, e, r.changeParts, row, tuple)
	})
	if pg.IsData(err) {
		e.rewind(begin)
		got := r.claimTuples(ctx, c, limit)
		if got.err != nil {
			return Batch{}, got.err
		}
		err = r.Rest(ctx, &got.Batch, e)
		return got.Batch, err
	}
	b.left, b.Read = newLeft(after), b.At
	r.pieces.were(len(e.items)-begin.items, len(e.arena)-begin.arena)
	return b, err
}

// claimMany is Claim by two statements at least: one for the tuples, and others for their rows. next may have the tuples
// already.
func (r *Reader) claimMany(ctx context.Context, c cursor.Cursor, limit int, next *claiming, e *Entries) (Batch, error) {
	var got claimed
	if next != nil {
		select {
		case got = <-next.made:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
	// A batch without tuples says how far the server was when it was read: not before the last.
	if next == nil || (got.err == nil && !got.More()) {
		got = r.claimTuples(ctx, c, limit)
	}
	if got.err != nil {
		return Batch{}, got.err
	}
	if got.Changes >= manyChanges && !got.CaughtUp {
		r.claimAhead(ctx, got.Next, cmp.Or(int(r.ahead.limit.Load()), limit))
	}
	if !got.More() {
		return got.Batch, nil
	}
	err := r.Rest(ctx, &got.Batch, e)
	if err == nil && next != nil && e.Len() == 0 && !got.More() {
		// Likewise where none of its keys can be written.
		return r.claimMany(ctx, c, limit, nil, e)
	}
	return got.Batch, err
}

// claimTuples is Claim without entries.
func (r *Reader) claimTuples(ctx context.Context, c cursor.Cursor, limit int) claimed {
	var (
		b   Batch
		err error
	)
	here := r.sortsHere()
	if here {
		if b, err = r.claimRaw(ctx, c, limit); errors.Is(err, errUnordered) {
			r.unordered.Store(true)
			here = false
		}
	}
	if !here {
		touched, tuple := tuples{width: len(r.parts)}, r.newTuple()
		b, err = r.claimWith(ctx, r.bareClaim, c, limit, func(values [][]byte, _ time.Time) error {
			return r.appendTuple(&touched, r.changeParts, values[1:], tuple)
		})
		b.left = newLeft(touched)
	}
	b.Read = b.At
	return claimed{b, err}
}

// claimAhead begins the claim that follows one of many changes.
func (r *Reader) claimAhead(ctx context.Context, from cursor.Cursor, limit int) {
	next := &claiming{from: from, made: make(chan claimed, 1)}
	r.ahead.next.Store(next)
	go func() { next.made <- r.claimTuples(ctx, next.from, limit) }()
}

// take returns the claim from c on if it was made ahead.
func (a *ahead) take(c cursor.Cursor) *claiming {
	if next := a.next.Swap(nil); next != nil && next.from.String() == c.String() {
		return next
	}
	return nil
}

// pieces knows how large entries are, for a piece of a batch to ask for no more of them than there is room for.
type pieces struct {
	// size is that of the entries last read; 0 if there were none.
	size atomic.Int64
}

// piece is of how many tuples a piece is.
func (r *Reader) piece() int {
	bytes := max(r.portion(pieceBytes), leastBytes)
	return min(max(bytes/int(max(r.pieces.size.Load(), 1)), leastTuples), pieceTuples)
}

// were says how many there were, and of how many bytes.
func (p *pieces) were(tuples, bytes int) {
	if tuples > 0 {
		p.size.Store(int64(bytes / tuples))
	}
}

func (r *Reader) claimWith(ctx context.Context, q pg.Prepared, c cursor.Cursor, limit int, row func(values [][]byte, at time.Time) error) (Batch, error) {
	var (
		b    Batch
		seen bool
	)
	params := append(claimParams(c, r.packing.rows(limit)), strconv.AppendInt(nil, int64(limit), 10))
	err := r.read(ctx, q, params, func(values [][]byte) error {
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
		b.leads(c, window, xid, id)
		if b.Meta, err = parseMeta(fields[10]); err != nil {
			return err
		}
		return b.ends(c, fields[6]+"|"+fields[7])
	})
	if err == nil && !seen {
		err = errors.New("no reply")
	}
	if err != nil {
		return Batch{}, fmt.Errorf("claim: %w", err)
	}
	return b, nil
}

// leads makes Next: the end of the window, or the place in it up to where the batch has come from c.
func (b *Batch) leads(c cursor.Cursor, window cursor.Snapshot, xid uint64, id int64) {
	if b.CaughtUp {
		b.Next = cursor.Finished(window)
	} else {
		b.Next = c.At(window, xid, id)
	}
}

// claimParams are the snapshot that is done, the window and the place within it that a claim goes on from, and how many rows
// of the change table it may read.
func claimParams(c cursor.Cursor, rows int) [][]byte {
	params := [][]byte{[]byte(c.Done.String()), nil, []byte("0"), []byte("0"), strconv.AppendInt(nil, int64(rows), 10)}
	if c.Window != nil {
		params[1] = []byte(c.Window.String())
		params[2] = strconv.AppendUint(nil, c.Xid, 10)
		params[3] = strconv.AppendInt(nil, c.ID, 10)
	}
	return params
}
