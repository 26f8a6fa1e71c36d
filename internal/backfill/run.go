package backfill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/durable"
	"github.com/freshet/freshet/internal/failing"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/owner"
	"github.com/freshet/freshet/internal/redefine"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
)

const (
	// maxChunk is how many rows one EXEC writes at most: about two milliseconds of the
	// server's time at 300 bytes a row.
	maxChunk   = 2000
	minChunk   = 10
	firstChunk = 250
	// wantBytes is the size of a chunk above which the next one is smaller.
	wantBytes = 2 << 20
	// keep is how long the control key of a finished range stays.
	keep = 10 * time.Minute
)

// Range works on one range under one lease.
type Range struct {
	task.Config
	target *target.Target
	held   *lease.Held
}

// New makes the range that a lease of kind backfill is for.
func New(c task.Config, t *target.Target, held *lease.Held) *Range {
	return &Range{Config: c, target: t, held: held}
}

// state is what Postgres knows of the range.
type state struct {
	position []string
	// upper and open describe the intent that is open, if any.
	upper []string
	open  bool
	rows  int
	// rate is this range's share of the rows a second that the backfill may read, 0
	// without a limit.
	rate float64
}

// Session works over one connection to Redis. It returns true when the range is done,
// false when stop was closed or the sink was changed; whatever else ends it can be
// tried again.
func (r *Range) Session(ctx context.Context, stop <-chan struct{}) (bool, error) {
	sink, err := catalog.LoadSink(ctx, r.Control, r.held.SinkID)
	if errors.Is(err, catalog.ErrNoSink) || (err == nil && sink.Dropping) {
		return false, task.ErrGone
	}
	if err != nil {
		return false, err
	}
	r.held.Loaded(sink.Revision)
	end, release := r.held.Until(stop)
	defer release()
	if sink.Paused || sink.Failing || sink.Broken != "" {
		return false, task.Ended(ctx, end)
	}
	// The lanes look at the target first.
	if begun, err := r.awaitTurn(ctx, end); err != nil || !begun {
		return false, err
	}
	reader, err := source.NewReader(r.Bulk, sink)
	if err != nil {
		return false, err
	}
	book, err := failing.Open(ctx, r.Control, r.held, r.Log)
	if err != nil {
		return false, err
	}
	reader.Suspect(book.Known)
	incarnation, err := catalog.Incarnation(ctx, r.Control)
	if err != nil {
		return false, err
	}
	if err := redefine.Older(ctx, r.Config, r.target, sink, incarnation); err != nil {
		return false, err
	}
	// A target can evict what says whose the keys are, while the lanes sleep.
	found, err := owner.Claim(ctx, r.Config, r.target, sink, incarnation)
	if err != nil {
		return false, err
	}
	if found != (owner.Obstacle{}) {
		return false, fmt.Errorf("target %s: %w", r.target.Name, fence.ErrUnowned)
	}
	life, err := r.target.Life(ctx)
	if err != nil {
		return false, err
	}
	writer, err := fence.Open(ctx, r.target, fence.Key(r.Installation, sink.ID, r.held.Part), fence.OwnerKey(r.Installation, sink.ID))
	if err != nil {
		return false, fmt.Errorf("target %s: %w", r.target.Name, err)
	}
	defer writer.Close()
	writer.ExpireEntries(sink.Expires)
	count := r.Metrics.Work(sink.Name, r.target.Name)
	writer.OnRefusal(count.Fenced)

	own := fence.Fence{Incarnation: incarnation, Definition: sink.Definition, Epoch: r.held.Epoch, Nonce: r.held.Nonce}
	from, err := r.resume(ctx, writer, own)
	if err != nil {
		return false, err
	}
	if err := catalog.NoteLife(ctx, r.Control, &r.held.Lease, life.Note(incarnation)); err != nil {
		return false, err
	}
	w := &walk{
		r: r, reader: reader, writer: writer, book: book, own: own, inRedis: from.inRedis,
		durable: durable.New(r.Control, incarnation), pace: newPace(from.rate), count: count,
	}
	return w.run(ctx, end, from.after)
}

// turnPause is how often a range looks whether it is its turn.
const turnPause = 50 * time.Millisecond

// awaitTurn waits until every lane of the same target has written its control key, which
// it does when nothing stands in the way of writing, and until an earlier re-warm is over if
// this is one: together they would read at twice the sink's rate. False: end was closed.
func (r *Range) awaitTurn(ctx context.Context, end <-chan struct{}) (bool, error) {
	for {
		var begun bool
		err := r.Control.QueryRow(ctx, `
			select coalesce(bool_and(stamped and blocked is null and blocked_by is null), false) and not exists (
				select from freshet.backfill_range own
				join freshet.backfill_run run on run.id = own.run_id and run.reason = 'rewarm'
				join freshet.backfill_run other on other.sink_id = run.sink_id and other.reason = 'rewarm' and other.id < run.id
				join freshet.backfill_range r on r.run_id = other.id and r.finished_at is null
				join freshet.lease l on l.id = r.lease_id and l.target = $2
				where own.lease_id = $3)
			from freshet.lease where sink_id = $1 and target = $2 and kind = 'sync'`,
			r.held.SinkID, r.target.Name, r.held.ID).Scan(&begun)
		if err != nil {
			return false, fmt.Errorf("look for the lanes: %w", err)
		}
		if begun {
			return true, nil
		}
		if waited, err := task.Pause(ctx, end, turnPause); !waited {
			return false, err
		}
	}
}

// beginning is where and how a session goes on.
type beginning struct {
	// after is the tuple to go on after, inRedis the cursor that the control key holds.
	after   []string
	inRedis string
	rate    float64
}

// resume makes the control key ours and closes what an earlier holder left open.
func (r *Range) resume(ctx context.Context, w *fence.Writer, own fence.Fence) (beginning, error) {
	was := w.State()
	// Asked after the key is watched: whoever takes the lease from here on touches it.
	if err := catalog.Confirm(ctx, r.Control, r.held.ID, r.held.Epoch, r.held.Nonce, own.Definition); err != nil {
		return beginning{}, err
	}
	known, err := r.known(ctx)
	if err != nil {
		return beginning{}, err
	}

	// The key names the last chunk that landed. If that is neither the open intent nor
	// what was validated last, the target has lost what was written: begin again.
	landed := known.open && was.Exists && was.Cursor == Position(known.upper)
	lost := r.held.Stamped && !landed && (!was.Exists || was.Cursor != Position(known.position))

	// Fence first: after this, nobody else can let an open intent land.
	if !r.held.Stamped {
		if err := catalog.Stamp(ctx, r.Control, r.held.ID, r.held.Epoch, own.Definition); err != nil {
			return beginning{}, err
		}
		r.held.Stamped = true
		was.Cursor = Position(nil)
	}
	evicted := false
	if lost && !was.Exists {
		is, err := r.target.Life(ctx)
		if err != nil {
			return beginning{}, err
		}
		evicted = is.Evicted(r.held.Life, own.Incarnation)
	}
	switch {
	case evicted:
		// What was validated last is there, or evicted as well. Whether the open chunk landed
		// nobody knows: it is validated and written again.
		if err := r.rewrite(ctx, known); err != nil {
			return beginning{}, err
		}
		was.Cursor = Position(known.position)
	case lost:
		r.Log.Warn("the target has lost what a backfill wrote; it begins again", "sink", r.held.SinkID, "target", r.target.Name)
		// What the open chunk wrote may be there all the same.
		if err := r.step(ctx, true, nil, nil); err != nil {
			return beginning{}, err
		}
		if err := r.restart(ctx); err != nil {
			return beginning{}, err
		}
		was.Cursor = Position(nil)
	}
	if err := w.Take(ctx, own, was.Cursor); err != nil {
		return beginning{}, fmt.Errorf("target %s: take control key: %w", r.target.Name, err)
	}
	from := beginning{inRedis: was.Cursor, rate: known.rate}
	if evicted {
		from.after = known.position
		return from, nil
	}
	if lost {
		return from, nil
	}
	if err := r.step(ctx, landed, nil, nil); err != nil {
		return beginning{}, err
	}
	from.after = known.position
	if landed {
		from.after = known.upper
	}
	return from, nil
}

func (r *Range) known(ctx context.Context) (state, error) {
	var s state
	err := r.Control.QueryRow(ctx, `
		with begun as (
			update freshet.backfill_run b
			set state = 'running', started_at = coalesce(b.started_at, clock_timestamp())
			from freshet.backfill_range r
			where r.lease_id = $1 and b.id = r.run_id and b.state = 'queued'
		)
		select r.position, r.intent_upper, r.intent_snapshot is not null, r.intent_rows,
		       coalesce(b.rate::float8 / (select count(*) from freshet.backfill_range o where o.run_id = b.id and o.finished_at is null), 0)
		from freshet.backfill_range r join freshet.backfill_run b on b.id = r.run_id
		where r.lease_id = $1`,
		r.held.ID).Scan(&s.position, &s.upper, &s.open, &s.rows, &s.rate)
	if err != nil {
		return s, fmt.Errorf("read range: %w", err)
	}
	return s, nil
}

// rewrite validates the open chunk as one that landed, and goes back to before it.
func (r *Range) rewrite(ctx context.Context, known state) error {
	var ours bool
	// One round trip and one transaction: half of it would skip the chunk.
	var batch pgx.Batch
	batch.Queue("select freshet.next_chunk($1, $2, true, 0, null, null, null)", r.held.ID, r.held.Epoch).QueryRow(func(row pgx.Row) error {
		return row.Scan(&ours)
	})
	batch.Queue(`
		update freshet.backfill_range set position = $3, rows_done = rows_done - $4
		where lease_id = $1 and exists (select from freshet.lease where id = $1 and epoch = $2)`,
		r.held.ID, r.held.Epoch, known.position, known.rows)
	if err := r.Control.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("write a chunk again: %w", err)
	}
	if !ours {
		return lease.ErrLost
	}
	return nil
}

// restart forgets how far the range had come.
func (r *Range) restart(ctx context.Context) error {
	_, err := r.Control.Exec(ctx, `
		update freshet.backfill_range
		set position = null, rows_done = 0, intent_lower = null, intent_upper = null, intent_snapshot = null, intent_rows = 0
		where lease_id = $1 and exists (select from freshet.lease where id = $1 and epoch = $2)`, r.held.ID, r.held.Epoch)
	if err != nil {
		return fmt.Errorf("begin the range again: %w", err)
	}
	return nil
}

// step validates the chunk that was written and makes the intent of the next one
// durable, in one transaction. next is nil at the end.
func (r *Range) step(ctx context.Context, landed bool, lower []string, next *chunk) error {
	var (
		upper    []string
		snapshot *string
		rows     int
		ours     bool
	)
	if next != nil {
		text := next.Snapshot.String()
		upper, snapshot, rows = next.Upper, &text, next.Rows
	}
	err := r.Control.QueryRow(ctx, "select freshet.next_chunk($1, $2, $3, $4, $5, $6, $7::text::pg_snapshot)",
		r.held.ID, r.held.Epoch, landed, rows, lower, upper, snapshot).Scan(&ours)
	if err != nil {
		return fmt.Errorf("record chunk: %w", err)
	}
	if !ours {
		return lease.ErrLost
	}
	return nil
}

type chunk struct {
	source.Chunk
	lower   []string
	entries *source.Entries
	last    bool
}

// walk is one session's way through the range: a reader ahead and a writer behind.
type walk struct {
	r       *Range
	reader  *source.Reader
	writer  *fence.Writer
	book    *failing.Book
	own     fence.Fence
	inRedis string
	durable *durable.Waiter
	pace    *pace
	count   *metrics.Work
}

func (w *walk) run(ctx context.Context, stop <-chan struct{}, after []string) (bool, error) {
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
		return w.read(ctx, stop, after, free, chunks)
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

func (w *walk) read(ctx context.Context, stop <-chan struct{}, after []string, free <-chan *source.Entries, out chan<- *chunk) error {
	limit := firstChunk
	for {
		var entries *source.Entries
		select {
		case <-stop:
			return nil
		case entries = <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		entries.Reset()
		limit = w.pace.limit(limit)
		read, err := w.reader.Chunk(ctx, after, limit, entries)
		if err != nil {
			return err
		}
		if err := w.pace.wait(ctx, read.Rows); err != nil {
			return err
		}
		if read.Incarnation != w.own.Incarnation {
			return durable.ErrReincarnated
		}
		c := &chunk{Chunk: read, lower: after, entries: entries, last: read.Rows < limit}
		select {
		case out <- c:
		case <-ctx.Done():
			return ctx.Err()
		}
		if c.last {
			return nil
		}
		after = slices.Clone(read.Upper)
		if entries.Bytes() > wantBytes {
			limit = max(limit/2, minChunk)
		} else {
			limit = min(limit*2, maxChunk)
		}
	}
}

func (w *walk) write(ctx context.Context, free chan<- *source.Entries, chunks <-chan *chunk) (bool, error) {
	landed, last := false, false
	for c := range chunks {
		if c.Rows > 0 {
			if err := w.apply(ctx, c, landed); err != nil {
				return false, err
			}
			landed = true
		} else if !landed {
			// Nothing was read at all: that too has to have been read late enough.
			if err := w.r.step(ctx, landed, c.lower, c); err != nil {
				return false, err
			}
			landed = true
		}
		last = c.last
		free <- c.entries
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err := w.r.step(ctx, landed, nil, nil); err != nil {
		return false, err
	}
	if !last {
		return false, nil
	}
	return true, w.writer.Retire(ctx, w.own, w.inRedis, keep)
}

func (w *walk) apply(ctx context.Context, c *chunk, landed bool) error {
	if err := w.r.step(ctx, landed, c.lower, c); err != nil {
		return err
	}
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
	to := Position(c.Upper)
	if err := w.writer.Write(ctx, w.own, w.inRedis, to, c.entries); err != nil {
		return w.r.target.Explain(err, w.reader.Sink().Template.Pattern())
	}
	w.count.Rows(c.Rows)
	w.count.Failed(len(c.entries.Failures()))
	w.inRedis = to
	return w.book.Strike(ctx, c.At, c.entries, false)
}

// Position is a tuple as the cursor of a range's control key, where a finished range
// leaves its last one.
func Position(tuple []string) string {
	if tuple == nil {
		return "[]"
	}
	text, err := json.Marshal(tuple)
	if err != nil {
		// Strings always marshal.
		panic(err)
	}
	return string(text)
}
