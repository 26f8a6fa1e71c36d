package lane

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/doorbell"
	"github.com/freshet/freshet/internal/durable"
	"github.com/freshet/freshet/internal/failing"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/task"
)

const (
	// minBatch is where the size of batches ends up when values are large; at the other end is [source.Reader.MostChanges].
	minBatch   = 10
	firstBatch = 250
	// wantTime is how long a batch is to take that has as many changes as were asked for. The more there are, the nearer are
	// their rows to each other, and the cheaper to read; what comes meanwhile would wait for them in smaller batches, too.
	wantTime = time.Second
	// longTime is after which a batch is left at the end of a slice.
	longTime = 2 * time.Second
	// busyTurn is how long a lane at least takes for a batch where changes come all the time and it keeps up: to claim few of
	// them each time costs Postgres more than anything else, and has everybody wait for a processor.
	busyTurn = 4 * time.Millisecond
	// busyLooks in a row have found changes where they come all the time.
	busyLooks = 2
	// depth is how many parts of batches are in memory: one being written, one being read. Where two read at once, there are more of
	// them, in [Memory].
	depth = 2

	// A caught-up lane that cannot arm the bell looks again by itself, at first soon.
	minLook = 2 * time.Millisecond
	maxLook = 50 * time.Millisecond
)

// errDisturbed ends a session because the control key is not what an idle lane left.
var errDisturbed = errors.New("the control key was changed or lost")

// pipe is one session of a lane: a reader that claims ahead and a writer behind it.
type pipe struct {
	lane    *Lane
	reader  *source.Reader
	writer  *fence.Writer
	book    *failing.Book
	own     fence.Fence
	durable *durable.Waiter
	count   *metrics.Lane

	start cursor.Cursor
	// inRedis is the cursor that the control key holds.
	inRedis string
	// at is the cursor that is fully applied, in Redis or because nothing was to do.
	at cursor.Cursor
	// onDisk is how far the WAL is known to be on disk.
	onDisk source.LSN
	// alone: two statements at once would take too long.
	alone bool
	// within: the cursor in Redis is in the middle of a window.
	within bool

	batches chan *batch
	free    chan *source.Entries
	memory  borrowed
	// idle is told by the writer when everything before it is written.
	idle chan struct{}
	// disturbed is told by the probe.
	disturbed chan struct{}
	// windowAt is when the snapshot of the window that is being walked was taken; zero if
	// that was before this session.
	windowAt time.Time
}

// batch is one, or a part of one.
type batch struct {
	source.Batch
	entries *source.Entries
	// giveBack has the memory of the entries used again; nil if it is not to be.
	giveBack func(*source.Entries)
	asOf     *time.Time
	// begun is when it was asked for.
	begun time.Time
	// goesOn: others of the same batch follow, and the cursor moves with the last.
	goesOn bool
	// marker: an empty claim; the writer answers on idle.
	marker bool
	// renewed: a slice is over, and the lane goes on.
	renewed bool
}

func newPipe(l *Lane, r *source.Reader, w *fence.Writer, book *failing.Book, own fence.Fence, start cursor.Cursor) *pipe {
	p := &pipe{
		lane: l, reader: r, writer: w, book: book, own: own, start: start, inRedis: start.String(), at: start, within: start.Window != nil,
		durable: durable.New(l.Control, own.Incarnation),
		memory:  borrowed{Memory: l.memory},
		batches: make(chan *batch, depth-1),
		free:    make(chan *source.Entries, depth),
		idle:    make(chan struct{}, 1),

		disturbed: make(chan struct{}, 1),
	}
	for range depth {
		p.free <- source.Shared()
	}
	return p
}

// run works until stop is closed or something fails. When it returns nil, the control key holds
// the newest cursor, and everything up to it is written; of a batch that takes long there may be more.
func (p *pipe) run(ctx context.Context, stop <-chan struct{}) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(p.batches)
		return p.read(ctx, stop)
	})
	group.Go(func() error { return p.write(ctx) })
	defer p.memory.end()
	return group.Wait()
}

// read claims batch after batch and sleeps when there is nothing to claim.
func (p *pipe) read(ctx context.Context, stop <-chan struct{}) error {
	sleeper := p.lane.Bell.NewSleeper(p.reader.Sink().SourceID, p.own.Incarnation, func(passed cursor.Snapshot, at time.Time) {
		p.lane.held.Passed(passed.String(), at)
	})
	defer sleeper.Close()

	var (
		at      = p.start
		limit   = p.firstLimit()
		insert  source.LSN
		look    = minLook
		armed   bool
		busy    int // how many looks in a row have found changes
		renewed bool
		entries *source.Entries
	)
	if limit < firstBatch {
		p.reader.Slow(limit)
		p.alone = true
	}
	for {
		if entries == nil {
			var err error
			if entries, err = p.room(ctx); err != nil {
				return err
			}
		}
		if task.Closed(stop) {
			return nil
		}
		begun := time.Now()
		b, err := p.reader.Claim(ctx, at, limit*p.reader.Sink().Shards, entries)
		if err != nil {
			return p.tooMany(limit, err)
		}
		if b.Incarnation != p.own.Incarnation {
			return durable.ErrReincarnated
		}
		if b.Insert < insert {
			return p.lane.wentBack(ctx, p.own)
		}
		insert = b.Insert
		if at.Window == nil {
			p.windowAt = b.At
		}
		at = b.Next
		p.memory.isFar(!b.CaughtUp || b.More())
		// Everything up to the window's snapshot is applied with its last batch, not before.
		// Of a window that an earlier session began nobody knows the moment any more.
		var asOf *time.Time
		if b.CaughtUp && !p.windowAt.IsZero() {
			moment := p.windowAt
			asOf = &moment
		}

		if b.Changes > 0 {
			sleeper.Awake()
			armed = false
			look = minLook
			part := &batch{Batch: b, entries: entries, giveBack: p.giveBack, asOf: asOf, begun: begun, goesOn: b.More()}
			if err := p.pass(ctx, part); err != nil {
				return err
			}
			if part.goesOn {
				end, err := p.rest(ctx, stop, part)
				if end == nil || err != nil {
					return p.tooMany(limit, err)
				}
				insert = end.Insert
				if err := p.pass(ctx, end); err != nil {
					return err
				}
			}
			p.memory.isFar(!b.CaughtUp)
			if took := time.Since(begun); !b.CaughtUp || took >= wantTime {
				shards := p.reader.Sink().Shards
				var ahead int
				limit, ahead = nextLimit(limit, p.reader.MostChanges()/shards, b.Changes/shards, took)
				p.reader.Ahead(ahead * shards)
			}
			if limit > firstBatch {
				p.lane.sizes.Forget(p.reader.Sink().ID, p.own.Definition)
			}
			entries = nil
			if b.CaughtUp {
				// The writer first: with few processors it would wait for the next look to be sent.
				runtime.Gosched()
				// After a pause most likely nothing more is pending: arm before the next look, so that
				// one look is enough to fall asleep. Where one change follows the other it would be in vain.
				if busy == 0 {
					armed = sleeper.Arm(ctx)
				}
				if busy >= busyLooks {
					if _, err := task.Pause(ctx, stop, busyTurn-time.Since(begun)); err != nil {
						return err
					}
				}
			}
			busy++
			continue
		}

		busy = 0
		if !armed {
			if armed = sleeper.Arm(ctx); armed {
				continue
			}
		}
		if err := p.pass(ctx, &batch{Batch: b, asOf: asOf, marker: true, renewed: renewed}); err != nil {
			return err
		}
		renewed = false
		select {
		case <-p.idle:
		case <-ctx.Done():
			return ctx.Err()
		}
		d := maxSleep
		if !armed {
			d = look
			look = min(look*3/2, maxLook)
		}
		release := p.lane.probe.watch(p.lane.target, p.writer, func() {
			select {
			case p.disturbed <- struct{}{}:
				sleeper.Ring()
			default:
			}
		})
		renewed = p.sleep(ctx, stop, sleeper, b.Next.Done, d)
		release()
		select {
		case <-p.disturbed:
			return errDisturbed
		default:
		}
		// Woken to go on for another slice, mostly: then one look is enough, too.
		armed = renewed && sleeper.Arm(ctx)
	}
}

// firstLimit is how many changes a session claims at first: fewer where those of another took too long.
func (p *pipe) firstLimit() int {
	return p.lane.sizes.Of(p.reader.Sink().ID, p.own.Definition, firstBatch)
}

// tooMany returns err, and has the next session begin with fewer changes if a claim of so many took too long.
func (p *pipe) tooMany(limit int, err error) error {
	if pg.TookTooLong(err) {
		p.lane.sizes.Note(p.reader.Sink().ID, p.own.Definition, max(min(limit, firstBatch)/4, minBatch))
	}
	return err
}

// room waits for memory of a part that was written.
func (p *pipe) room(ctx context.Context) (*source.Entries, error) {
	select {
	case entries := <-p.free:
		return entries, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// giveBack is for what room returned.
func (p *pipe) giveBack(e *source.Entries) {
	e.Release()
	p.free <- e
}

// maxSleep only bounds how long a slice can overrun.
const maxSleep = time.Minute

// sleep ends at once when stop is closed. It returns true when a slice is over and the lane
// is to go on.
func (p *pipe) sleep(ctx context.Context, stop <-chan struct{}, s *doorbell.Sleeper, passed cursor.Snapshot, d time.Duration) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var renewed atomic.Bool
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-stop:
			cancel()
		case <-p.lane.held.Renewed():
			renewed.Store(true)
			cancel()
		case <-done:
		}
	}()
	s.Sleep(ctx, passed, d)
	return renewed.Load()
}

func (p *pipe) pass(ctx context.Context, b *batch) error {
	select {
	case p.batches <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write applies the batches in order.
func (p *pipe) write(ctx context.Context) error {
	for b := range p.batches {
		if b.marker {
			p.at = b.Next
			p.onDisk = max(p.onDisk, b.Flushed)
			if err := p.confirm(ctx, b.renewed); err != nil {
				return err
			}
			p.lane.held.Progress(p.own.Incarnation, p.inRedis, b.Next.Done.String(), b.asOf)
			p.idle <- struct{}{}
			continue
		}
		if err := p.apply(ctx, b); err != nil {
			return err
		}
		if b.giveBack != nil {
			b.giveBack(b.entries)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// The end of a slice: an idle lane's cursor goes to Redis too, so that neither
	// grows old.
	if to := p.at.String(); to != p.inRedis {
		p.noteReached()
		return p.writer.Write(ctx, p.own, p.inRedis, to, nil)
	}
	return nil
}

func (p *pipe) apply(ctx context.Context, b *batch) error {
	if b.Truncated && !b.goesOn {
		// Consequences first: which entries are without a row now only a sweep can tell.
		if err := p.lane.followTruncation(ctx, p.own, windowOf(b.Next)); err != nil {
			return err
		}
	}
	// Likewise: an entry is removed only once it is sure to be tried again.
	if err := p.book.Note(ctx, b.entries.Len(), b.Read, b.entries); err != nil {
		return err
	}
	if err := p.durable.Wait(ctx, b.Insert, b.Flushed); err != nil {
		return err
	}
	p.onDisk = max(p.onDisk, b.Insert)
	p.noteReached()
	// The cursor moves with the last of them: whoever goes on before that reads all anew.
	to := b.Next.String()
	if b.goesOn {
		to = p.inRedis
	}
	deleted, err := p.writer.WriteAll(ctx, p.own, p.inRedis, p.inRedis, to, b.entries)
	if err != nil {
		return p.lane.target.Explain(err, p.reader.Sink().Template.Pattern())
	}
	p.lane.Traffic.Batch(time.Since(b.begun))
	p.count.Written(b.entries.Len(), deleted)
	p.count.Failed(len(b.entries.Failures()))
	if !b.goesOn {
		p.count.Batch()
		p.inRedis, p.at, p.within = to, b.Next, b.Next.Window != nil
		if b.Truncated {
			// A target that goes back to before this has the entries again that are swept now.
			p.lane.truncated = ""
		}
		p.lane.held.Progress(p.own.Incarnation, to, b.Next.Done.String(), b.asOf)
	}
	// Whatever is tried again comes as a touch, and a backfill may have noted it.
	return p.book.Strike(ctx, b.Read, b.entries, b.Touched)
}

// confirm writes an idle lane's cursor down where it says more than that nothing was to do.
// Once it sees that a backfill is finished: until then only the backfill's own control key
// tells a target that went back to before it, and that one is not kept for long. And where
// the last batch ended with its window, but could not know: what counts for the change
// table is where the window before it ended.
//
// At the end of a slice it does so anyway: a cursor must not grow old, in Redis or in Postgres.
func (p *pipe) confirm(ctx context.Context, renewed bool) error {
	finished := p.lane.unconfirmed != 0 && p.at.Done.Sees(p.lane.unconfirmed)
	if !finished && !p.within && !renewed {
		return nil
	}
	if to := p.at.String(); to != p.inRedis {
		p.noteReached()
		if err := p.writer.Write(ctx, p.own, p.inRedis, to, nil); err != nil {
			return fmt.Errorf("write to target %s: %w", p.lane.target.Name, err)
		}
		p.inRedis = to
	}
	p.within = false
	if finished {
		p.lane.unconfirmed = 0
	}
	return nil
}

// noteReached has the next write say how far the server was whose changes it has.
func (p *pipe) noteReached() {
	if p.onDisk > 0 {
		p.writer.Reached(p.onDisk.String())
	}
}

// windowOf is the snapshot that the batch belongs to.
func windowOf(c cursor.Cursor) cursor.Snapshot {
	if c.Window != nil {
		return *c.Window
	}
	return c.Done
}

// nextLimit is how many changes to ask for, most at the most, after so many of at most limit that took so long; and, ahead, how
// many after them, which is asked before it is known how long they took.
func nextLimit(limit, most, changes int, took time.Duration) (next, ahead int) {
	want := int(int64(changes) * int64(wantTime) / int64(max(took, 1)))
	next = min(max(min(want, 8*limit), limit/2, minBatch), most)
	return next, min(max(min(want, 8*next), next), most)
}
