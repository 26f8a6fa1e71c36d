package lane

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/redefine"
	"github.com/freshet/freshet/internal/scan"
)

// take makes the control key ours and returns the cursor to go on from.
func (l *Lane) take(ctx context.Context, w *fence.Writer, own fence.Fence, sink *catalog.Sink) (cursor.Cursor, error) {
	state, was := w.State(), w.State()
	// Asked after the key is watched: whoever takes the lease from here on touches it.
	if err := catalog.Confirm(ctx, l.Control, l.held.ID, l.held.Epoch, l.held.Nonce, own.Definition); err != nil {
		return cursor.Cursor{}, err
	}
	var other fence.Fence
	if state.Exists {
		var err error
		if other, err = fence.Parse(state.Fence); err != nil {
			return cursor.Cursor{}, err
		}
	}
	if err := l.present(ctx, w, own, other); err != nil {
		return cursor.Cursor{}, err
	}
	rival := rivalOf(own, other, w)
	if rival != "" {
		if err := l.meet(ctx, rival); err != nil {
			return cursor.Cursor{}, err
		}
	}
	switch {
	case !state.Exists, other.Incarnation == redefine.Lost:
		if l.held.Stamped && !l.unwritten {
			if err := l.missing(ctx, sink, own); err != nil {
				return cursor.Cursor{}, err
			}
		}
		state.Cursor = l.held.Cursor
	case other == own:
		// Ours already: a connection was lost. The key says what landed.
	default:
		if err := l.succeed(ctx, sink, own, other, &state); err != nil {
			return cursor.Cursor{}, err
		}
	}
	value := fence.OwnerValue(sink.Name, own.Incarnation)
	if w.Owned() != value {
		// Workers of another server, or of another timeline, have written for the sink: by this
		// key or by others, such as those of a backfill, which are refused from now on.
		if err := l.rewarm(ctx, own, metrics.Restored, true); err != nil {
			return cursor.Cursor{}, err
		}
		w.Possess(value)
	}
	// Consequences first: that the key is ours from now on is in Postgres before it is written.
	if !l.held.Stamped {
		if err := catalog.Stamp(ctx, l.Control, l.held.ID, l.held.Epoch, own.Definition); err != nil {
			return cursor.Cursor{}, err
		}
		l.held.Stamped, l.unwritten = true, true
	}
	start, err := cursor.Parse(state.Cursor)
	if err != nil {
		return cursor.Cursor{}, err
	}
	if start, err = l.aboveFloor(ctx, sink, start); err != nil {
		return cursor.Cursor{}, err
	}
	if l.unconfirmed, err = l.backfilled(ctx, own, was, start); err != nil {
		return cursor.Cursor{}, err
	}
	err = w.Take(ctx, own, start.String())
	// Another lane of the sink that makes the owner key just now refuses it for certain;
	// after any other error the key may have been written.
	l.unwritten = l.unwritten && errors.Is(err, fence.ErrFenced)
	if err == nil || errors.Is(err, fence.ErrFenced) {
		l.asked.Forget()
		l.anew = ""
	}
	if err != nil {
		return cursor.Cursor{}, fmt.Errorf("target %s: take control key: %w", l.target.Name, err)
	}
	if rival != "" || l.held.Rivalled {
		if err := l.beat(ctx); err != nil {
			return cursor.Cursor{}, err
		}
	}
	if l.held.Recut {
		if _, err := l.Control.Exec(ctx, "update freshet.lease set recut = false where id = $1 and epoch = $2", l.held.ID, l.held.Epoch); err != nil {
			return cursor.Cursor{}, fmt.Errorf("note new beginning: %w", err)
		}
		l.held.Recut = false
	}
	// Also where that is further back than it was: Redis, or Postgres, has lost something.
	l.held.Progress(own.Incarnation, start.String(), start.Done.String(), nil)
	return start, nil
}

// missing sees to what has to follow from a control key that was there and is not.
func (l *Lane) missing(ctx context.Context, sink *catalog.Sink, own fence.Fence) error {
	err := l.Control.QueryRow(ctx, "select cursor from freshet.lease where id = $1 and epoch = $2", l.held.ID, l.held.Epoch).Scan(&l.held.Cursor)
	if err != nil {
		return fmt.Errorf("read the copy of the cursor: %w", err)
	}
	life, err := l.target.Life(ctx)
	if err != nil {
		return err
	}
	if !life.Evicted(l.held.Life, own.Incarnation) {
		return l.lost(ctx, sink, own)
	}
	// What Postgres' copy says was written, was: the key is made again from it. To warm such a
	// target again would only have it evict more, the key once more among it.
	l.Log.Info("the target has evicted a control key; it is made again", "sink", l.held.Sink, "target", l.target.Name)
	return nil
}

// lost asks for what has to follow when the target has lost the control key, and likely
// the entries with it, before the key is made again. A target that went back to before the
// key was written may have kept entries of an earlier sink, whose rows are gone: hence the
// sweep. One that was emptied has none, and what is only missing need not be written.
func (l *Lane) lost(ctx context.Context, sink *catalog.Sink, own fence.Fence) error {
	if l.held.Closing || l.asked.In(own.Incarnation) {
		return nil
	}
	wrong, err := scan.Any(ctx, l.Control, l.target, sink)
	if err != nil {
		return err
	}
	l.Log.Warn("the target has lost its control key; warming it again", "sink", l.held.Sink, "target", l.target.Name)
	return l.rewarm(ctx, own, metrics.Lost, wrong)
}

// rewarm asks for every entry to be written again, for they may be wrong or are just missing, unless
// the lane is there to remove them. Asked once it is enough until the control key is taken: of what backfills write from then
// on, a further loss shows in their own keys.
func (l *Lane) rewarm(ctx context.Context, own fence.Fence, cause metrics.Cause, wrong bool) error {
	if l.held.Closing || l.asked.In(own.Incarnation) {
		return nil
	}
	if err := l.Rewarm(ctx, l.held.SinkID, l.held.Sink, l.target.Name, cause, wrong); err != nil {
		return err
	}
	l.asked.Note(own.Incarnation)
	return nil
}

// succeed judges a fence that is not ours: whether we may replace it, and with which
// cursor.
func (l *Lane) succeed(ctx context.Context, sink *catalog.Sink, own, other fence.Fence, state *fence.State) error {
	switch {
	case other.Incarnation != own.Incarnation:
		return l.reincarnate(ctx, sink, own, other, state)
	case other.Definition > own.Definition:
		// Postgres was asked after the key was read, and knows nothing of that definition.
		return l.wentBack(ctx, own)
	}
	if other.Definition < own.Definition && l.held.Stamped && !l.held.Recut {
		// The key was of this definition before. In what it says now, other lanes may have
		// had some of our tuples, and been further behind.
		l.Log.Warn("the target went back to before the shards of a sink were changed; warming again", "sink", l.held.Sink, "target", l.target.Name)
		if err := l.rewarm(ctx, own, metrics.Lost, true); err != nil {
			return err
		}
	}
	return l.recut(ctx, own, state)
}

// recut goes on from where Postgres says after the shards of the sink were changed: lanes
// that are no more may not have come as far as the control key says.
func (l *Lane) recut(ctx context.Context, own fence.Fence, state *fence.State) error {
	if !l.held.Recut {
		return nil
	}
	if l.held.Stamped {
		behind, err := redefine.Behind(*state, l.held.Cursor)
		if err != nil {
			return err
		}
		if behind {
			l.Log.Warn("the target has lost writes while the shards of a sink were changed; warming again", "sink", l.held.Sink, "target", l.target.Name)
			if err := l.rewarm(ctx, own, metrics.Lost, true); err != nil {
				return err
			}
		}
	}
	state.Cursor = l.held.Cursor
	return nil
}

// reincarnate goes on after Postgres crashed, or became another server.
func (l *Lane) reincarnate(ctx context.Context, sink *catalog.Sink, own, other fence.Fence, state *fence.State) error {
	if fence.SameServer(own.Incarnation, other.Incarnation) {
		l.Log.Info("Postgres has crashed since the last batch; reading its changes again", "sink", l.held.Sink, "target", l.target.Name)
		return l.fromFloor(ctx, sink, state)
	}
	l.Log.Warn("this is another Postgres server or timeline than before; warming again", "sink", l.held.Sink,
		"was", other.Incarnation, "is", own.Incarnation)
	// Cursors of the other server mean nothing here: what was captured by now is covered by
	// what is asked for next. Where that was asked for already, the cursor of then counts, for
	// what has been read since may have been touched since.
	again := l.anew == own.Incarnation && l.asked.In(own.Incarnation)
	if !again {
		l.asked.Forget() // what was asked for before is of before this cursor
	}
	err := l.Control.QueryRow(ctx, `
		update freshet.lease
		set cursor = case when $3 then cursor else freshet.cursor_now()::text end,
		    passed = case when $3 then passed else freshet.cursor_now() end
		where id = $1 and epoch = $2
		returning cursor`, l.held.ID, l.held.Epoch, again).Scan(&state.Cursor)
	if err != nil {
		return fmt.Errorf("begin anew: %w", err)
	}
	// Nor does the next heartbeat bring back what was.
	l.held.Progress(own.Incarnation, state.Cursor, strings.Fields(state.Cursor)[0], nil)
	l.anew = own.Incarnation
	return l.rewarm(ctx, own, metrics.Restored, true)
}

// fromFloor goes on from the floor of the change table after a crash: transaction ids of the
// last moments before it are given out again, and a cursor above them would hide what they
// commit now. Where the lane had not come as far as the floor, by what the target says or by
// what Postgres does, changes are gone that it has not applied.
func (l *Lane) fromFloor(ctx context.Context, sink *catalog.Sink, state *fence.State) error {
	// Read before it is compared: should it rise meanwhile, that shows when the key is taken.
	var floor, copied string
	err := l.Control.QueryRow(ctx, `
		select o.floor::text, l.cursor
		from freshet.lease l join freshet.sink s on s.id = l.sink_id join freshet.source o on o.id = s.source_id
		where l.id = $1 and l.epoch = $2`, l.held.ID, l.held.Epoch).Scan(&floor, &copied)
	if err != nil {
		return fmt.Errorf("read floor: %w", err)
	}
	for _, text := range []string{copied, state.Cursor} {
		c, err := cursor.Parse(text)
		if err != nil {
			return err
		}
		if _, err := l.aboveFloor(ctx, sink, c); err != nil {
			return err
		}
	}
	state.Cursor = floor
	return nil
}

// aboveFloor is the cursor to start from given that the change table may have lost
// what lies below its floor.
func (l *Lane) aboveFloor(ctx context.Context, sink *catalog.Sink, c cursor.Cursor) (cursor.Cursor, error) {
	var text string
	if err := l.Control.QueryRow(ctx, "select floor::text from freshet.source where id = $1", sink.SourceID).Scan(&text); err != nil {
		return c, fmt.Errorf("read floor: %w", err)
	}
	floor, err := cursor.ParseSnapshot(text)
	if err != nil {
		return c, err
	}
	if c.Done.Covers(floor) {
		return c, nil
	}
	if l.held.Closing {
		return cursor.Finished(floor), nil
	}
	var asked bool
	err = l.Control.QueryRow(ctx, "select freshet.rewarm_trimmed($1, $2::text::pg_snapshot)", sink.ID, text).Scan(&asked)
	if err != nil {
		return c, fmt.Errorf("request re-warm: %w", err)
	}
	if asked {
		l.Metrics.Rewarm(sink.Name, metrics.Trimmed)
		l.Log.Warn("the cursor is older than the change table; warming again", "sink", sink.Name, "target", l.target.Name)
	}
	return cursor.Finished(floor), nil
}
