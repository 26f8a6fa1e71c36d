package lane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/scan"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
)

// Lane serves one lane under one lease.
type Lane struct {
	task.Config
	probe  *Probe
	target *target.Target
	held   *lease.Held
}

// New makes the lane that a lease of kind sync is for.
func New(c task.Config, probe *Probe, t *target.Target, held *lease.Held) *Lane {
	return &Lane{Config: c, probe: probe, target: t, held: held}
}

// Run serves until stop is closed (nil), the lease is lost or ctx ends (its cause), or
// the sink is gone ([task.ErrGone]). Anything else that fails is retried with backoff from
// the cursor that Redis holds.
func (l *Lane) Run(ctx context.Context, stop <-chan struct{}) error {
	retry := task.NewBackoff()
	for {
		began := time.Now()
		err := l.session(ctx, stop)
		switch {
		case err == nil && task.Closed(stop):
			return nil
		case err == nil:
			continue // the sink was changed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, task.ErrGone), errors.Is(err, lease.ErrLost), errors.Is(err, catalog.ErrNotOurs):
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
	l.Log.Log(context.Background(), level, "a lane has to try again", "sink", l.held.SinkID, "target", l.target.Name,
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
	l.held.Loaded(sink.Revision)
	end, release := l.held.Until(stop)
	defer release()
	if sink.Paused {
		select {
		case <-end:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	reader, err := source.NewReader(l.Read, sink)
	if err != nil {
		return err
	}
	incarnation, err := catalog.Incarnation(ctx, l.Control)
	if err != nil {
		return err
	}
	writer, err := fence.Open(ctx, l.target, fence.Key(l.Installation, sink.ID, l.held.Part))
	if err != nil {
		return fmt.Errorf("target %s: %w", l.target.Name, err)
	}
	defer writer.Close()
	writer.ExpireEntries(sink.Expires)

	if !writer.State().Exists && !l.held.Stamped {
		free, err := l.unclaimed(ctx, sink)
		if err != nil {
			return err
		}
		if !free {
			select {
			case <-end:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}

	own := fence.Fence{Incarnation: incarnation, Definition: sink.Definition, Epoch: l.held.Epoch, Nonce: l.held.Nonce}
	start, err := l.take(ctx, writer, own, sink)
	if err != nil {
		return err
	}
	p := newPipe(l, reader, writer, own, start)
	return p.run(ctx, end)
}

// take makes the control key ours and returns the cursor to go on from.
func (l *Lane) take(ctx context.Context, w *fence.Writer, own fence.Fence, sink *catalog.Sink) (cursor.Cursor, error) {
	state := w.State()
	// Asked after the key is watched: whoever takes the lease from here on touches it.
	if err := catalog.Confirm(ctx, l.Control, l.held.ID, l.held.Epoch, l.held.Nonce, own.Definition); err != nil {
		return cursor.Cursor{}, err
	}
	switch {
	case !state.Exists:
		// Consequences first: that the key is ours from now on, and what has to follow
		// from its loss, are in Postgres before the key is written.
		if err := l.stamp(ctx); err != nil {
			return cursor.Cursor{}, err
		}
		state.Cursor = l.held.Cursor
	case state.Fence == own.String():
		// Ours already: a connection was lost. The key says what landed.
	default:
		other, err := fence.Parse(state.Fence)
		if err != nil {
			return cursor.Cursor{}, err
		}
		if err := l.succeed(ctx, own, other, &state); err != nil {
			return cursor.Cursor{}, err
		}
	}
	start, err := cursor.Parse(state.Cursor)
	if err != nil {
		return cursor.Cursor{}, err
	}
	if start, err = l.aboveFloor(ctx, sink, start); err != nil {
		return cursor.Cursor{}, err
	}
	if err := w.Take(ctx, own, start.String()); err != nil {
		return cursor.Cursor{}, fmt.Errorf("take control key: %w", err)
	}
	// Also where that is further back than it was: Redis, or Postgres, has lost something.
	l.held.Progress(start.String(), start.Done.String(), nil)
	return start, nil
}

// unclaimed reports whether the lane may make its first write: no key of the sink's form
// is in the target, or the sink takes over what is there. A sweep or a drop would remove
// them like the sink's own.
func (l *Lane) unclaimed(ctx context.Context, sink *catalog.Sink) (bool, error) {
	foreign := make(map[string]struct{})
	if !sink.Adopt {
		err := scan.Keys(ctx, l.Control, l.target, sink, nil, func(keys []string, _ [][]string) error {
			for _, key := range keys {
				foreign[key] = struct{}{}
			}
			if len(foreign) >= enoughForeign {
				return scan.ErrStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, scan.ErrStopped) {
			return false, err
		}
	}
	_, err := l.Control.Exec(ctx, "update freshet.lease set blocked = nullif($3::bigint, 0) where id = $1 and epoch = $2",
		l.held.ID, l.held.Epoch, len(foreign))
	if err != nil {
		return false, fmt.Errorf("note foreign keys: %w", err)
	}
	if len(foreign) > 0 {
		l.Log.Warn("the target has keys of the sink's form that are not from it; see freshet.status", "sink", sink.Name,
			"target", l.target.Name, "keys", len(foreign))
	}
	return len(foreign) == 0, nil
}

// enoughForeign is how many foreign keys are counted.
const enoughForeign = 100_000

// stamp notes that the control key is about to be written. If it had been before, the
// target has lost it, and likely the entries with it.
func (l *Lane) stamp(ctx context.Context) error {
	if !l.held.Stamped {
		tag, err := l.Control.Exec(ctx, "update freshet.lease set stamped = true where id = $1 and epoch = $2", l.held.ID, l.held.Epoch)
		if err != nil {
			return fmt.Errorf("note first write: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return lease.ErrLost
		}
		l.held.Stamped = true
		return nil
	}
	l.Log.Warn("the target has lost its control key; warming it again", "sink", l.held.SinkID, "target", l.target.Name)
	var copied string
	err := l.Control.QueryRow(ctx, `
		select l.cursor from freshet.lease l, freshet.request_rewarm(l.sink_id)
		where l.id = $1 and l.epoch = $2`, l.held.ID, l.held.Epoch).Scan(&copied)
	if err != nil {
		return fmt.Errorf("request re-warm: %w", err)
	}
	l.held.Cursor = copied
	return nil
}

// succeed judges a fence that is not ours: whether we may replace it, and with which
// cursor.
func (l *Lane) succeed(ctx context.Context, own, other fence.Fence, state *fence.State) error {
	switch {
	case other.Incarnation != own.Incarnation:
		return l.reincarnate(ctx, own, other, state)
	case other.Definition > own.Definition:
		return fmt.Errorf("the sink was redefined (%d, read %d)", other.Definition, own.Definition)
	case other.Epoch > own.Epoch:
		// The lease is ours, so Postgres has forgotten epochs that Redis remembers. The next
		// holder's will be above them; the heartbeat knows this one no more.
		_, err := l.Control.Exec(ctx, `
			update freshet.lease set epoch = $3
			where id = $1 and epoch = $2 and nonce = $4`, l.held.ID, own.Epoch, other.Epoch, own.Nonce)
		if err != nil {
			return fmt.Errorf("raise epoch: %w", err)
		}
		return lease.ErrLost
	}
	return nil
}

// reincarnate goes on after Postgres crashed, or became another server.
func (l *Lane) reincarnate(ctx context.Context, own, other fence.Fence, state *fence.State) error {
	if sameServer(own.Incarnation, other.Incarnation) {
		// Transaction ids of the last moments before the crash are given out again; a
		// cursor above them would hide what they commit now.
		var floor string
		err := l.Control.QueryRow(ctx, `
			select o.floor::text from freshet.source o join freshet.sink s on s.source_id = o.id where s.id = $1`,
			l.held.SinkID).Scan(&floor)
		if err != nil {
			return fmt.Errorf("read floor: %w", err)
		}
		l.Log.Info("Postgres has crashed since the last batch; reading its changes again", "sink", l.held.SinkID)
		state.Cursor = floor
		return nil
	}
	l.Log.Warn("this is another Postgres server or timeline than before; warming again", "sink", l.held.SinkID,
		"was", other.Incarnation, "is", own.Incarnation)
	if _, err := l.Control.Exec(ctx, "select freshet.request_rewarm($1), freshet.request_sweep($1, pg_current_snapshot())", l.held.SinkID); err != nil {
		return fmt.Errorf("request re-warm: %w", err)
	}
	// Cursors of the other server mean nothing here. What was captured by now is covered by
	// what was just asked for.
	err := l.Control.QueryRow(ctx, `
		update freshet.lease set cursor = freshet.cursor_now()::text, passed = freshet.cursor_now()
		where id = $1 and epoch = $2
		returning cursor`, l.held.ID, l.held.Epoch).Scan(&state.Cursor)
	if err != nil {
		return fmt.Errorf("begin anew: %w", err)
	}
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
	l.Log.Warn("the cursor is older than the change table; warming again", "sink", sink.Name, "target", l.target.Name)
	if _, err := l.Control.Exec(ctx, "select freshet.request_rewarm($1), freshet.request_sweep($1, pg_current_snapshot())", sink.ID); err != nil {
		return c, fmt.Errorf("request re-warm: %w", err)
	}
	return cursor.Finished(floor), nil
}
