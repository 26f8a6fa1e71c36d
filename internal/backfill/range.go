package backfill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/durable"
	"github.com/freshet/freshet/internal/failing"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/owner"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/redefine"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
)

// keep is how long the control key of a finished range stays.
const keep = 10 * time.Minute

// ErrParked is returned when nobody can work on the range until somebody does something
// else first: its sink or its backfill is paused, say.
var ErrParked = errors.New("the range has to wait")

// Range works on one range under one lease.
type Range struct {
	task.Config
	gauges *failing.Gauges
	sizes  *task.Sizes
	target *target.Target
	held   *lease.Held
	// most bounds how many rows a session reads at first: fewer after one that failed.
	most int
	// definition is the sink's by which this session reads.
	definition int32
	// steps is how many next_chunk has taken, as far as this one knows; see there.
	steps int64
}

// New makes the range that a lease of kind backfill is for.
func New(c task.Config, gauges *failing.Gauges, sizes *task.Sizes, t *target.Target, held *lease.Held) *Range {
	return &Range{Config: c, gauges: gauges, sizes: sizes, target: t, held: held, most: maxChunk}
}

// Session works over one connection to Redis. It returns true when the range is done,
// false when stop was closed or the sink was changed, and ErrParked; whatever else ends it
// can be tried again.
func (r *Range) Session(ctx context.Context, stop <-chan struct{}) (bool, error) {
	done, err := r.session(ctx, stop)
	err = r.Retype(ctx, r.held.SinkID, err)
	switch {
	case pg.TookTooLong(err):
		// A slice may be over by then: whoever goes on begins with fewer.
		r.most = max(min(r.most, r.sizes.Of(r.held.SinkID, r.definition, firstChunk))/4, minChunk)
		r.sizes.Note(r.held.SinkID, r.definition, r.most)
	case err != nil:
		// Rows that take too much do so in smaller pieces.
		r.sizes.Forget(r.held.SinkID, r.definition)
		r.most = max(min(r.most, firstChunk)/4, minChunk)
	}
	return done, err
}

func (r *Range) session(ctx context.Context, stop <-chan struct{}) (bool, error) {
	sink, err := catalog.LoadSink(ctx, r.Control, r.held.SinkID)
	if errors.Is(err, catalog.ErrNoSink) || (err == nil && sink.Dropping) {
		return false, task.ErrGone
	}
	if err != nil {
		return false, err
	}
	r.held.Loaded(sink.Revision)
	r.definition = sink.Definition
	end, release := r.held.Until(stop)
	defer release()
	turn, err := r.awaitTurn(ctx, end)
	if err != nil || turn == waiting {
		return false, err
	}
	if turn == over && (!r.held.Stamped || sink.Leaves(r.target.Name)) {
		return true, nil // nothing was written that stays, and nothing ever will be
	}
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
	// Read before the key is: what comes to pass in between is another life.
	life, err := r.target.Life(ctx)
	if err != nil {
		return false, err
	}
	if sink.ExpiresAt != "" {
		if err := r.target.KnowsMoments(ctx); err != nil {
			return false, err
		}
	}
	writer, err := fence.Open(ctx, r.target, fence.Key(r.Installation, sink.ID, r.held.Part), fence.OwnerKey(r.Installation, sink.ID))
	if err != nil {
		return false, fmt.Errorf("target %s: %w", r.target.Name, err)
	}
	defer writer.Close()
	if writer.Owned() != fence.OwnerValue(sink.Name, incarnation) {
		return false, fmt.Errorf("target %s: workers of another server write for the sink: %w", r.target.Name, fence.ErrUnowned)
	}
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
	if turn == over {
		return true, retire(ctx, writer, own, from.inRedis, from.position)
	}
	reader, err := source.NewPartReader(r.Bulk, r.Read, sink, r.Transforms, from.filter)
	if err != nil {
		return false, err
	}
	reader.Hold(r.target.MaxValue(ctx))
	book, err := failing.Open(ctx, r.Control, r.gauges, r.held, r.Log)
	if err != nil {
		return false, err
	}
	reader.Suspect(book.Known)
	w := &walk{
		r: r, reader: reader, writer: writer, book: book, own: own, beginning: from, first: min(r.sizes.Of(sink.ID, sink.Definition, firstChunk), r.most),
		durable: durable.New(r.Control, incarnation), pace: pace{db: r.Control, lease: r.held.ID, rate: from.rate}, count: count,
	}
	return w.run(ctx, end)
}

// What backfill_turn says.
const (
	waiting = "wait"
	parked  = "park"
	over    = "end"
)

const (
	// turnPause is how often a range looks whether it is its turn, and turnPatience how long
	// before it leaves its place to another.
	turnPause    = 50 * time.Millisecond
	turnPatience = 2 * time.Second
)

// awaitTurn waits until every lane of the same target has written its control key, which
// it does when nothing stands in the way of writing. It returns waiting when end was closed.
func (r *Range) awaitTurn(ctx context.Context, end <-chan struct{}) (string, error) {
	deadline := time.Now().Add(turnPatience)
	for {
		var turn string
		if err := r.Control.QueryRow(ctx, "select freshet.backfill_turn($1)", r.held.ID).Scan(&turn); err != nil {
			return "", fmt.Errorf("look whether the range can be worked on: %w", err)
		}
		if turn == parked || (turn == waiting && time.Now().After(deadline)) {
			return "", ErrParked
		}
		if turn != waiting {
			return turn, nil
		}
		if waited, err := task.Pause(ctx, end, turnPause); !waited {
			return waiting, err
		}
	}
}

// state is what Postgres knows of the range.
type state struct {
	// filter selects the rows, empty for all; they are in (lower, upper].
	filter       string
	lower, upper []string
	// validated is the tuple up to which the range is, nil before the first chunk.
	validated []string
	// open: there is an intent.
	open bool
	// rate is how many rows a second the backfill may read, 0 without a limit.
	rate int
}

func (r *Range) known(ctx context.Context) (state, error) {
	var s state
	err := r.Control.QueryRow(ctx, `
		with begun as (
			update freshet.backfill_run b
			set state = 'running', started_at = coalesce(b.started_at, clock_timestamp()), counted_from = clock_timestamp()
			from freshet.backfill_range r
			where r.lease_id = $1 and b.id = r.run_id and b.state = 'queued'
		)
		select coalesce(b.filter, ''), r.lower, r.upper, r.position, r.intent_snapshot is not null, r.steps, coalesce(b.rate, 0)
		from freshet.backfill_range r join freshet.backfill_run b on b.id = r.run_id
		where r.lease_id = $1`,
		r.held.ID).Scan(&s.filter, &s.lower, &s.upper, &s.validated, &s.open, &r.steps, &s.rate)
	if err != nil {
		return s, fmt.Errorf("read range: %w", err)
	}
	return s, nil
}

// beginning is where and how a session goes on.
type beginning struct {
	state
	// after is the tuple to go on after, nil for the first row of all.
	after []string
	// position is the tuple up to which the range is done, as its cursor.
	position string
	// inRedis is the cursor that the control key holds.
	inRedis string
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

	// The key says how far what landed came. If that is neither a part of the open intent nor
	// what was validated last, the target has lost what was written: begin again.
	position, at := Position(known.validated), parseReached(was.Cursor)
	// Says so as well, until the intent is closed.
	within := reached{position, r.steps, unknown}.String()
	landed, done := none, known.validated
	lost := false
	switch {
	case known.open && was.Exists && at.step == r.steps:
		tuple, sure := at.tuple()
		if landed, done = all, tuple; !sure {
			landed, done, was.Cursor = partly, known.validated, within
		}
	case r.held.Stamped:
		lost = !was.Exists || at.position != position
	}

	// Fence first: after this, nobody else can let an open intent land.
	if !r.held.Stamped {
		if err := catalog.Stamp(ctx, r.Control, r.held.ID, r.held.Epoch, own.Definition); err != nil {
			return beginning{}, err
		}
		r.held.Stamped = true
		was.Cursor = Position(nil)
	}
	if lost && !was.Exists {
		is, err := r.target.Life(ctx)
		if err != nil {
			return beginning{}, err
		}
		if is.Evicted(r.held.Life, own.Incarnation) {
			// What was validated last is there, or evicted as well. Whether the open chunk
			// landed nobody knows: it is validated and written again.
			lost, landed, was.Cursor = false, partly, within
		}
	}
	if lost {
		r.Log.Warn("the target has lost what a backfill wrote; it begins again", "sink", r.held.Sink, "target", r.target.Name)
		// What the open chunk wrote may be there all the same.
		if err := r.step(ctx, partly, written{}, nil); err != nil {
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
	from := beginning{state: known, after: known.lower, position: Position(nil), inRedis: was.Cursor}
	if lost {
		return from, nil
	}
	if err := r.step(ctx, landed, written{upper: done, rows: at.rows}, nil); err != nil {
		return beginning{}, err
	}
	if done != nil {
		from.after, from.position = done, Position(done)
	}
	return from, nil
}

// retire leaves the control key of a range that is over at its last position, to be looked
// at by lanes until it expires.
func retire(ctx context.Context, w *fence.Writer, own fence.Fence, inRedis, position string) error {
	if inRedis != position {
		// What came after it was written in part, and nothing is left of it.
		if err := w.Write(ctx, own, inRedis, position, nil); err != nil {
			return err
		}
	}
	return w.Retire(ctx, own, position, keep)
}

// restart forgets how far the range had come.
func (r *Range) restart(ctx context.Context) error {
	done, err := r.Control.Exec(ctx, `
		update freshet.backfill_range
		set position = null, rows_done = 0, steps = steps + 1
		where lease_id = $1 and steps = $3 and exists (select from freshet.lease where id = $1 and epoch = $2)`, r.held.ID, r.held.Epoch, r.steps)
	if err != nil {
		return fmt.Errorf("begin the range again: %w", err)
	}
	if done.RowsAffected() == 0 {
		return errors.New("begin the range again: another step was taken meanwhile")
	}
	r.steps++
	return nil
}

// What has become of a chunk, as validate_intent has it.
const (
	none   = "none"
	partly = "partly"
	all    = "all"
	clean  = "clean"
)

// intent is what a chunk may write: rows as this snapshot sees them or newer, up to the tuple
// last, a text[], or the end of the range.
type intent struct {
	snapshot cursor.Snapshot
	last     *string
}

// written is the chunk under an intent, as far as it was written.
type written struct {
	intent
	// The rows are in (lower, upper]; upper is nil without rows.
	lower, upper []string
	rows         int
}

// step validates the chunk that was written, of which so much has landed, and makes the
// intent of the next one durable, in one transaction. next is nil at the end.
func (r *Range) step(ctx context.Context, landed string, was written, next *intent) error {
	var (
		last, snapshot *string
		ours           bool
	)
	if next != nil {
		text := next.snapshot.String()
		last, snapshot = next.last, &text
	}
	err := r.Control.QueryRow(ctx, "select freshet.next_chunk($1, $2, $3, $4, $5, $6, $7, $8::text::text[], $9::text::pg_snapshot)",
		r.held.ID, r.held.Epoch, r.definition, r.steps, landed, was.upper, was.rows, last, snapshot).Scan(&ours)
	if err != nil {
		return fmt.Errorf("record chunk: %w", err)
	}
	if !ours {
		return lease.ErrLost
	}
	r.steps++
	return nil
}
