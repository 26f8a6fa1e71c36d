package backfill

import (
	"context"
	"slices"
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
	// for its cost in Postgres not to count, and for what a crash has done twice not to
	// matter.
	firstChunk = 250
	minChunk   = 10
	maxChunk   = 16000
	wantBytes  = 5 << 19
	wantTime   = 250 * time.Millisecond

	// What one EXEC writes: about two milliseconds of the server's time.
	execRows  = 2000
	execBytes = 1 << 20

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
	// last is the chunk that was written last, nil at first.
	last *chunk
}

type chunk struct {
	source.Chunk
	lower   []string
	entries *source.Entries
}

func (w *walk) run(ctx context.Context, stop <-chan struct{}) (bool, error) {
	var (
		chunks = make(chan *chunk, 1)
		free   = make(chan *source.Entries, 2)
		done   bool
	)
	for range cap(free) {
		free <- new(source.Entries)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(chunks)
		return w.read(ctx, stop, free, chunks)
	})
	group.Go(func() error {
		var err error
		done, err = w.write(ctx, free, chunks)
		return err
	})
	if err := group.Wait(); err != nil {
		return false, err
	}
	return done, nil
}

func (w *walk) read(ctx context.Context, stop <-chan struct{}, free <-chan *source.Entries, out chan<- *chunk) error {
	after := w.after
	way := w.r.Traffic.Enter()
	defer way.Leave()
	begin := time.Now()
	for limit := w.first; ; {
		var entries *source.Entries
		select {
		case <-stop:
			return nil
		case entries = <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		entries.Reset()
		busy := time.Since(begin)
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
		begin = time.Now()
		read, err := w.reader.Chunk(ctx, after, w.upper, limit, entries)
		if err != nil {
			return err
		}
		if read.Incarnation != w.own.Incarnation {
			return durable.ErrReincarnated
		}
		c := &chunk{Chunk: read, lower: after, entries: entries}
		select {
		case out <- c:
		case <-ctx.Done():
			return ctx.Err()
		}
		if c.End {
			return nil
		}
		after = slices.Clone(read.Upper)
		limit = nextLimit(read.Rows, entries.Bytes(), time.Since(begin))
		w.r.sizes.note(w.r.held.SinkID, w.own.Definition, limit)
	}
}

// nextLimit is how many rows to read after a chunk of so many, of this size, that took so
// long.
func nextLimit(rows, bytes int, took time.Duration) int {
	limit := 4 * rows
	if bytes > 0 {
		limit = min(limit, int(int64(rows)*wantBytes/int64(bytes)))
	}
	if took > 0 {
		limit = min(limit, int(int64(rows)*int64(wantTime)/int64(took)))
	}
	return min(max(limit, minChunk), maxChunk)
}

func (w *walk) write(ctx context.Context, free chan<- *source.Entries, chunks <-chan *chunk) (bool, error) {
	end := false
	for c := range chunks {
		switch {
		case c.Rows > 0:
			if err := w.apply(ctx, c); err != nil {
				return false, err
			}
		case w.last == nil:
			// Nothing was read at all: that too has to have been read late enough.
			if err := w.r.step(ctx, none, c.lower, &c.Chunk); err != nil {
				return false, err
			}
			w.last = c
		}
		end = c.End
		free <- c.entries
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	landed, err := w.landed(ctx)
	if err != nil {
		return false, err
	}
	if err := w.r.step(ctx, landed, nil, nil); err != nil {
		return false, err
	}
	if !end {
		return false, nil
	}
	return true, retire(ctx, w.writer, w.own, w.inRedis, w.position)
}

// landed looks whether anybody touched what was written last since it was read. Only if so
// does Postgres have to find out what: hardly ever, and it takes far longer.
func (w *walk) landed(ctx context.Context) (string, error) {
	if w.last == nil {
		return none, nil
	}
	untouched, err := w.reader.Untouched(ctx, w.own.Incarnation, w.last.Snapshot, w.last.lower, w.last.Upper)
	if err != nil {
		return "", err
	}
	if untouched {
		return clean, nil
	}
	return all, nil
}

func (w *walk) apply(ctx context.Context, c *chunk) error {
	landed, err := w.landed(ctx)
	if err != nil {
		return err
	}
	if err := w.r.step(ctx, landed, c.lower, &c.Chunk); err != nil {
		return err
	}
	w.last = nil
	if err := w.durable.Wait(ctx, c.Insert, c.Flushed); err != nil {
		return err
	}
	// Validation makes it right in any case; this keeps what changed meanwhile from
	// being wrong until then.
	touched, err := w.reader.Touched(ctx, c.Snapshot, c.lower, c.Upper)
	if err != nil {
		return err
	}
	if len(touched) > 0 {
		c.entries.Keep(func(i int) bool {
			_, changed := touched[string(c.entries.Key(i))]
			return !changed
		})
	}
	// Consequences first: an entry is removed only once it is sure to be tried again.
	if err := w.book.Note(ctx, c.Rows, c.At, c.entries); err != nil {
		return err
	}
	if err := w.send(ctx, c); err != nil {
		return w.r.target.Explain(err, w.reader.Sink().Template.Pattern())
	}
	w.count.Rows(c.Rows)
	w.count.Failed(len(c.entries.Failures()))
	w.last = c
	return w.book.Strike(ctx, c.At, c.entries, false)
}

// send writes a chunk in transactions that hold the server for a few milliseconds at most.
func (w *walk) send(ctx context.Context, c *chunk) error {
	next := Position(c.Upper)
	for from := 0; ; {
		rows, bytes := execRows, execBytes
		if w.r.Traffic.Crowded() {
			rows, bytes = crowdedRows, crowdedBytes
		}
		part := c.entries.Part(from, rows, bytes)
		to := next
		if from += part.Len(); from < c.entries.Len() {
			to = partOf(w.position)
		}
		if err := w.writer.Write(ctx, w.own, w.inRedis, to, part); err != nil {
			return err
		}
		w.inRedis = to
		if to == next {
			w.position = next
			return nil
		}
	}
}
