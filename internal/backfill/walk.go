package backfill

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/durable"
	"github.com/freshet/freshet/internal/failing"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/task"
)

const (
	// A chunk is what one statement reads and one intent covers: as many rows as it takes
	// for its cost in Postgres not to count, and for that statement to be a short one.
	firstChunk = 250
	minChunk   = 10
	maxChunk   = 16000
	wantTime   = 250 * time.Millisecond
	// Where a chunk is one piece, all of it is in memory.
	wholeChunk = 4000
	wholeBytes = 1 << 20

	// A piece is what one EXEC writes. Parts of a chunk are of so many of them, or fewer large ones.
	pieceRows  = 2000
	pieceBytes = 768 << 10
	partPieces = 2
	partBytes  = pieceBytes
	// inMemory is how many pieces a range has in memory: a part that is written, one that waits
	// and one that is read.
	inMemory = 3 * partPieces

	// While live changes are slow to get to their target everything is done in smaller pieces,
	// and after each chunk nothing for as long as it took: whoever has one of the machine's
	// processors in between is not the backfill.
	crowdedChunk = 4000
	crowdedRows  = 500
	crowdedBytes = 256 << 10
)

// walk is one session's way through the range: a reader ahead and a writer behind.
type walk struct {
	beginning
	r       *Range
	reader  *source.Reader
	writer  *fence.Writer
	book    *failing.Book
	own     fence.Fence
	durable *durable.Waiter
	pace    pace
	count   *metrics.Work
	// first is how many rows to read at first.
	first int
	// chunk is the one under the intent that is open, nil if there is none.
	chunk *written
}

// spare are pieces of ranges that are over: they have the size that others need.
var spare = sync.Pool{New: func() any { return new(source.Entries) }}

func (w *walk) run(ctx context.Context, stop <-chan struct{}) (bool, error) {
	var (
		free, parts = queues()
		done        bool
	)
	defer func() {
		for range len(free) {
			spare.Put(<-free)
		}
	}()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(parts)
		return w.read(ctx, stop, &feed{walk: w, free: free, parts: parts})
	})
	group.Go(func() error {
		var err error
		done, err = w.write(ctx, free, parts)
		return err
	})
	if err := group.Wait(); err != nil {
		return false, err
	}
	return done, nil
}

func (w *walk) read(ctx context.Context, stop <-chan struct{}, to *feed) error {
	way := w.r.Traffic.Enter()
	defer way.Leave()
	to.after = w.after
	var busy time.Duration
	for limit := w.first; ; {
		if task.Closed(stop) {
			return nil
		}
		if given, err := way.Give(ctx, stop); !given {
			return err
		}
		limit = w.pace.limit(limit)
		if waited, err := w.pace.wait(ctx, stop, limit); !waited {
			return err
		}
		if w.r.Traffic.Crowded() {
			limit = min(limit, crowdedChunk)
			if waited, err := task.Pause(ctx, stop, busy); !waited {
				return err
			}
		}
		begin := time.Now()
		to.first, to.chunkBytes = true, 0
		read, err := w.reader.Stream(ctx, to.after, w.upper, limit, to)
		if err != nil {
			return err
		}
		if err := to.flush(ctx, read.End); err != nil || read.End {
			return err
		}
		busy = time.Since(begin)
		limit = nextLimit(read.Rows, busy)
		if w.reader.Ties() {
			limit = max(min(limit, wholeChunk, int(int64(read.Rows)*wholeBytes/int64(max(to.chunkBytes, 1)))), minChunk)
		}
		w.r.sizes.Note(w.r.held.SinkID, w.own.Definition, limit)
	}
}

// nextLimit is how many rows to read after a chunk of so many that took so long.
func nextLimit(rows int, took time.Duration) int {
	limit := 16 * rows
	if took > 0 {
		limit = min(limit, int(int64(rows)*int64(wantTime)/int64(took)))
	}
	return min(max(limit, minChunk), maxChunk)
}

func (w *walk) write(ctx context.Context, free chan<- *source.Entries, parts <-chan *part) (bool, error) {
	end := false
	for p := range parts {
		// That nothing was read at all has to have been read late enough too.
		if p.first && (p.rows() > 0 || w.chunk == nil) {
			if err := w.intend(ctx, p); err != nil {
				return false, err
			}
		}
		if p.rows() > 0 {
			if err := w.apply(ctx, p); err != nil {
				return false, err
			}
		}
		end = p.end
		for _, piece := range p.pieces {
			if piece.Entries.Bytes() > 2*pieceBytes {
				// Room for one row like this is kept for no other.
				piece.Entries = new(source.Entries)
			}
			free <- piece.Entries
		}
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err := w.validate(ctx, nil); err != nil {
		return false, err
	}
	if !end {
		return false, nil
	}
	return true, retire(ctx, w.writer, w.own, w.inRedis, w.position)
}

// intend opens the intent of the chunk that p begins.
func (w *walk) intend(ctx context.Context, p *part) error {
	next := intent{p.chunk.Snapshot, p.chunk.Last}
	if err := w.validate(ctx, &next); err != nil {
		return err
	}
	w.chunk = &written{intent: next, lower: p.lower}
	return nil
}

// validate closes the intent that is open, and opens the next one if there is a next chunk.
func (w *walk) validate(ctx context.Context, next *intent) error {
	var (
		landed = none
		was    written
	)
	if w.chunk != nil {
		was = *w.chunk
		// Only if somebody touched what was written since it was read does Postgres have to find
		// out what: hardly ever, and it takes far longer.
		untouched, err := w.reader.Untouched(ctx, w.own.Incarnation, was.snapshot, was.lower, was.upper)
		if err != nil {
			return err
		}
		if landed = all; untouched {
			landed = clean
		}
	}
	if err := w.r.step(ctx, landed, was, next); err != nil {
		return err
	}
	w.chunk = nil
	return nil
}

// apply writes a part under the open intent.
func (w *walk) apply(ctx context.Context, p *part) error {
	for _, piece := range p.pieces {
		if err := w.durable.Wait(ctx, piece.Insert, piece.Flushed); err != nil {
			return err
		}
	}
	// Validation makes it right in any case; this keeps what changed meanwhile from
	// being wrong until then.
	touched, err := w.reader.Touched(ctx, p.chunk.Snapshot, p.lower, p.upper())
	if err != nil {
		return err
	}
	for _, piece := range p.pieces {
		if len(touched) > 0 {
			piece.Entries.Keep(func(i int) bool {
				_, changed := touched[string(piece.Entries.Key(i))]
				return !changed
			})
		}
		if err := w.send(ctx, piece); err != nil {
			return err
		}
	}
	return nil
}

// send writes a piece, mostly in one transaction.
func (w *walk) send(ctx context.Context, p source.Piece) error {
	if p.Rows == 0 {
		return nil
	}
	// Consequences first: an entry is removed only once it is sure to be tried again.
	if err := w.book.Note(ctx, p.Rows, p.At, p.Entries); err != nil {
		return err
	}
	within, to := reached{w.position, w.r.steps, unknown}, reached{Position(p.Upper), w.r.steps, w.chunk.rows + p.Rows}
	if _, err := w.writer.WriteAll(ctx, w.own, w.inRedis, within.String(), to.String(), p.Entries); err != nil {
		return w.r.target.Explain(err, w.reader.Sink().Template.Pattern())
	}
	w.inRedis, w.position = to.String(), to.position
	w.chunk.upper, w.chunk.rows = p.Upper, w.chunk.rows+p.Rows
	w.count.Rows(p.Rows)
	w.count.Failed(len(p.Entries.Failures()))
	return w.book.Strike(ctx, p.At, p.Entries, false)
}
