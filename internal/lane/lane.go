package lane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/failing"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/owner"
	"github.com/freshet/freshet/internal/redefine"
	"github.com/freshet/freshet/internal/scan"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
	"github.com/freshet/freshet/internal/transform"
)

// Lane serves one lane under one lease.
type Lane struct {
	task.Config
	probe  *Probe
	memory *Memory
	gauges *failing.Gauges
	sizes  *task.Sizes
	target *target.Target
	held   *lease.Held
	// unconfirmed is the transaction that finished the latest backfill, until the cursor in
	// the target sees it; 0: it does, or there is none.
	unconfirmed uint64
	// unwritten: the control key was noted to be written for the first time by this lane, and
	// each attempt since was refused whole. That it is missing is no loss.
	unwritten bool
	// asked: a re-warm was asked for, and the control key not taken since.
	asked task.Asked
	// truncated is up to where what truncations have left was asked for, since the control key
	// was taken.
	truncated string
	// anew is in which life of the database the cursor in Postgres began where that was.
	anew string
}

// New makes the lane that a lease of kind sync is for.
func New(c task.Config, probe *Probe, memory *Memory, gauges *failing.Gauges, sizes *task.Sizes, t *target.Target, held *lease.Held) *Lane {
	return &Lane{Config: c, probe: probe, memory: memory, gauges: gauges, sizes: sizes, target: t, held: held}
}

// Run serves until stop is closed (nil), the lease is lost or ctx ends (its cause), or
// the sink is gone ([task.ErrGone]). Anything else that fails is retried with backoff from
// the cursor that Redis holds.
func (l *Lane) Run(ctx context.Context, stop <-chan struct{}) error {
	retry := task.NewBackoff()
	for {
		began := time.Now()
		err := l.Retype(ctx, l.held.SinkID, l.session(ctx, stop))
		switch {
		case err == nil && task.Closed(stop):
			return nil
		case err == nil:
			continue // the sink was changed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, task.ErrGone), errors.Is(err, lease.ErrLost), errors.Is(err, catalog.ErrNotOurs), errors.Is(err, transform.ErrUnregistered):
			return err
		}
		if time.Since(began) > task.MaxBackoff {
			retry.Reset()
		}
		l.failed(err, retry.First())
		if !retry.Wait(ctx, stop) {
			return context.Cause(ctx)
		}
	}
}

// failed shows an error in status, and logs the first of a row.
func (l *Lane) failed(err error, first bool) {
	l.held.Failed(err)
	level := slog.LevelDebug
	if first {
		level = slog.LevelWarn
	}
	l.Log.Log(context.Background(), level, "a lane has to try again", "sink", l.held.Sink, "target", l.target.Name,
		"shard", l.held.Part, "err", err)
}

// session works over one connection to Redis until stop, a change of the sink, or the
// first error.
func (l *Lane) session(ctx context.Context, stop <-chan struct{}) error {
	sink, err := catalog.LoadSink(ctx, l.Control, l.held.SinkID)
	if errors.Is(err, catalog.ErrNoSink) || (err == nil && sink.Dropping) {
		return task.ErrGone
	}
	if err != nil {
		return err
	}
	if l.held.Closing {
		// Of whatever changes the entry goes; the rest is left to a purge.
		sink.Filter, sink.Transform, sink.Failing = "false", "", false
	}
	l.held.Loaded(sink.Revision)
	end, release := l.held.Until(stop)
	defer release()
	// Of the lanes of a sink that fails one tries whether it still does.
	if sink.Paused || (sink.Failing && l.held.Part != "0") || (sink.Broken != "" && sink.Table != "") {
		return task.Ended(ctx, end)
	}
	var (
		reader *source.Reader
		book   *failing.Book
	)
	// Of a table that is gone nothing is read.
	if sink.Table != "" {
		shard, err := strconv.Atoi(l.held.Part)
		if err != nil {
			return fmt.Errorf("shard %q: %w", l.held.Part, err)
		}
		if reader, err = source.NewShardReader(l.Read, sink, l.Transforms, shard); err != nil {
			return err
		}
		reader.Hold(l.target.MaxValue(ctx))
		reader.Share(l.memory.portion)
		if sink.Failing {
			return failing.Await(ctx, l.Control, reader, end)
		}
		if book, err = failing.Open(ctx, l.Control, l.gauges, l.held, l.Log); err != nil {
			return err
		}
		reader.Suspect(book.Known)
	}
	incarnation, err := catalog.Incarnation(ctx, l.Control)
	if err != nil {
		return err
	}
	if free, err := l.awaitKeys(ctx, sink, incarnation, end); err != nil || !free {
		return err
	}
	if err := redefine.Older(ctx, l.Config, l.target, sink, incarnation); err != nil {
		return err
	}
	if sink.ExpiresAt != "" {
		if err := l.target.KnowsMoments(ctx); err != nil {
			return err
		}
	}
	// Read before the key is: what comes to pass in between is another life.
	life, err := l.target.Life(ctx)
	if err != nil {
		return err
	}
	writer, err := fence.Open(ctx, l.target, fence.Key(l.Installation, sink.ID, l.held.Part), fence.OwnerKey(l.Installation, sink.ID))
	if err != nil {
		return fmt.Errorf("target %s: %w", l.target.Name, err)
	}
	defer writer.Close()
	writer.ExpireEntries(sink.Expires)
	count := l.Metrics.Lane(sink.Name, l.target.Name, l.held.Part)
	writer.OnRefusal(count.Fenced)
	own := fence.Fence{Incarnation: incarnation, Definition: sink.Definition, Epoch: l.held.Epoch, Nonce: l.held.Nonce}
	start, err := l.take(ctx, writer, own, sink)
	var left *leftToRival
	if errors.As(err, &left) {
		return l.leave(ctx, sink, left, end)
	}
	if err != nil {
		return err
	}
	if err := catalog.NoteLife(ctx, l.Control, &l.held.Lease, life.Note(incarnation)); err != nil {
		return err
	}
	if sink.Table == "" {
		return l.clear(ctx, sink, writer, own, start.String(), end)
	}
	p := newPipe(l, reader, writer, book, own, start)
	p.count = count
	return p.run(ctx, end)
}

// clear removes every entry: the table is gone, and with it all rows. It waits for the
// sink to be changed then, for the table may come back.
func (l *Lane) clear(ctx context.Context, sink *catalog.Sink, w *fence.Writer, own fence.Fence, cursor string, end <-chan struct{}) error {
	removed := 0
	err := scan.Keys(ctx, l.Control, l.target, sink, end, func(keys []string, _ [][]string) error {
		removed += len(keys)
		return w.Write(ctx, own, cursor, cursor, source.Absent(keys))
	})
	if errors.Is(err, scan.ErrStopped) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the entries of a table that is gone: %w", err)
	}
	if removed > 0 {
		l.Log.Warn("the table of a sink is gone; its entries were removed", "sink", sink.Name, "target", l.target.Name, "entries", removed)
	}
	return task.Ended(ctx, end)
}

// How often a blocked lane looks again: for another installation, which costs little, and
// for keys that are nobody's, which walks the whole target. Of those it looks ever less often
// while it finds the same: whoever removes them may have to wait as long again as they were
// there, and whoever changes the sink does not have to wait.
const (
	rivalPause       = time.Second
	foreignPause     = 10 * time.Second
	mostForeignPause = 5 * time.Minute
)

// awaitKeys waits until nobody but the sink writes its keys, or it takes them over. A
// sweep or a drop would remove what others wrote like the sink's own. False: end was closed.
func (l *Lane) awaitKeys(ctx context.Context, sink *catalog.Sink, incarnation string, end <-chan struct{}) (bool, error) {
	var (
		said  owner.Obstacle
		pause = foreignPause
		// Of the lanes of a sink one looks, and the others go by what it does. One that closes
		// may be the last of them.
		looks = l.held.Part == "0" || l.held.Closing
	)
	for {
		known := said
		if looks {
			known = owner.Obstacle{}
		}
		found, err := owner.ClaimAgain(ctx, l.Config, l.target, sink, incarnation, known)
		if err != nil {
			return false, err
		}
		free := found == owner.Obstacle{}
		_, err = l.Control.Exec(ctx, `
			update freshet.lease
			set blocked = nullif($3::bigint, 0), blocked_by = nullif($4, ''), adopt = adopt and not $5
			where id = $1 and epoch = $2
			  and (blocked is distinct from nullif($3::bigint, 0) or blocked_by is distinct from nullif($4, '') or adopt)`,
			l.held.ID, l.held.Epoch, found.Keys, found.By, free)
		if err != nil {
			return false, fmt.Errorf("note who has the keys: %w", err)
		}
		if free {
			return true, nil
		}
		// How many they are changes for as long as somebody writes them.
		same := found.By == said.By && (found.Keys > 0) == (said.Keys > 0)
		if same {
			said, pause = found, min(2*pause, mostForeignPause)
		} else {
			said, pause = found, foreignPause
			l.Log.Warn("the keys of a sink are not its own; see freshet.status", "sink", sink.Name,
				"target", l.target.Name, "keys", found.Keys, "by", found.By)
		}
		wait := rivalPause
		if found.Keys > 0 && looks {
			wait = pause
		}
		if waited, err := task.Pause(ctx, end, wait); !waited {
			return false, err
		}
	}
}
