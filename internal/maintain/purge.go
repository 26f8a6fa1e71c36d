package maintain

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/owner"
	"github.com/freshet/freshet/internal/redefine"
	"github.com/freshet/freshet/internal/scan"
	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
)

// Purge removes the entries of a sink from a target that it was dropped from or has left,
// then Freshet's own keys. It returns true when it is done, false when stop was closed.
//
// The lanes of a dropped sink are refused before it begins. Those of one that has left the
// target go on until it is done: they remove what changes, so that nobody reads it meanwhile.
func Purge(ctx context.Context, c task.Config, t *target.Target, held *lease.Held, stop <-chan struct{}) (bool, error) {
	sink, err := catalog.LoadSink(ctx, c.Control, held.SinkID)
	if errors.Is(err, catalog.ErrNoSink) {
		return false, task.ErrGone
	}
	if err != nil {
		return false, err
	}
	incarnation, err := catalog.Incarnation(ctx, c.Control)
	if err != nil {
		return false, err
	}
	own := fence.Fence{Incarnation: incarnation, Definition: sink.Definition, Epoch: held.Epoch, Nonce: held.Nonce}

	rival, err := owner.Rival(ctx, c.Installation, t, sink, incarnation)
	if err != nil {
		return false, err
	}
	if rival != "" {
		c.Log.Warn("another database with this installation in it writes the entries of a sink that is removed here: they stay",
			"sink", sink.Name, "target", t.Name, "writer", rival)
		return true, endLanes(ctx, c, held, sink)
	}
	others, err := controlKeys(ctx, c, sink, t)
	if err != nil {
		return false, err
	}
	found, err := owner.Claim(ctx, c, t, sink, incarnation)
	if errors.Is(err, catalog.ErrNotOurs) {
		return true, nil // an earlier purge came as far as to give the keys up
	}
	if err != nil {
		return false, err
	}
	if found != (owner.Obstacle{}) {
		if err := endLanes(ctx, c, held, sink); err != nil {
			return false, err
		}
		if found.Twin {
			return true, nil // what is there is still its own
		}
		// A sink that was blocked to its end has no entries, and one whose keys another
		// installation took over has none any more: what is there is others'.
		if err := t.Shared().Del(ctx, append(others, fence.Key(c.Installation, sink.ID, held.Part))...).Err(); err != nil {
			return false, fmt.Errorf("purge target %s: %w", t.Name, err)
		}
		return true, owner.Release(ctx, c, t, sink.ID)
	}

	// Whoever still writes under the old definition is refused from here on.
	if sink.Dropping {
		err = refuse(ctx, c, t, held, others, own)
	} else {
		err = redefine.Older(ctx, c, t, sink, incarnation)
	}
	if err != nil {
		return false, err
	}

	// The deletions are fenced as well: a purge that was taken over must not go on
	// deleting when a new sink writes the same keys.
	w, err := take(ctx, c, t, held, fence.Key(c.Installation, sink.ID, held.Part), own)
	if err != nil {
		return false, err
	}
	defer w.Close()
	cursor := w.State().Cursor
	var wrote bool
	err = c.Control.QueryRow(ctx, `
		select exists (select from freshet.lease where sink_id = $1 and target = $2 and kind in ('sync', 'retired') and stamped)`,
		sink.ID, t.Name).Scan(&wrote)
	if err != nil {
		return false, fmt.Errorf("ask what was written: %w", err)
	}
	if wrote && !sink.KeepEntries {
		err := scan.Keys(ctx, c.Control, t, sink, stop, func(keys []string, _ [][]string) error {
			return w.Write(ctx, own, cursor, cursor, source.Absent(keys))
		})
		if errors.Is(err, scan.ErrStopped) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("purge target %s: %w", t.Name, err)
		}
	}
	if err := endLanes(ctx, c, held, sink); err != nil {
		return false, err
	}
	if !sink.Dropping {
		if err := refuse(ctx, c, t, held, others, own); err != nil {
			return false, err
		}
	}
	if err := w.Write(ctx, own, cursor, cursor, source.Absent(others)); err != nil {
		return false, fmt.Errorf("purge target %s: %w", t.Name, err)
	}
	if err := w.Remove(ctx, own, cursor); err != nil {
		return false, err
	}
	return true, owner.Release(ctx, c, t, sink.ID)
}

// refuse takes these control keys from whoever writes by them.
func refuse(ctx context.Context, c task.Config, t *target.Target, held *lease.Held, keys []string, own fence.Fence) error {
	for _, k := range keys {
		w, err := take(ctx, c, t, held, k, own)
		if err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	return nil
}

// endLanes ends the lanes of a target that a sink has left.
func endLanes(ctx context.Context, c task.Config, held *lease.Held, sink *catalog.Sink) error {
	if sink.Dropping {
		return nil
	}
	var ours bool
	if err := c.Control.QueryRow(ctx, "select freshet.end_lanes($1, $2)", held.ID, held.Epoch).Scan(&ours); err != nil {
		return fmt.Errorf("end lanes: %w", err)
	}
	if !ours {
		return lease.ErrLost
	}
	return nil
}

// take makes a control key ours. That the lease is held still is asked after the key is
// watched: whoever takes the lease later touches the key.
func take(ctx context.Context, c task.Config, t *target.Target, held *lease.Held, key string, own fence.Fence) (*fence.Writer, error) {
	w, err := fence.Open(ctx, t, key, fence.OwnerKey(c.Installation, held.SinkID))
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	w.OnRefusal(c.Metrics.Work(held.Sink, t.Name).Fenced)
	err = catalog.Confirm(ctx, c.Control, held.ID, held.Epoch, held.Nonce, own.Definition)
	if err == nil {
		err = w.Take(ctx, own, w.State().Cursor)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take control key %s: %w", key, err), w.Close())
	}
	return w, nil
}

// controlKeys are those of the sink's lanes and ranges on a target.
func controlKeys(ctx context.Context, c task.Config, sink *catalog.Sink, t *target.Target) ([]string, error) {
	rows, err := c.Control.Query(ctx, `
		select part from freshet.lease
		where sink_id = $1 and target = $2 and kind in ('sync', 'retired', 'backfill')
		order by id`, sink.ID, t.Name)
	if err != nil {
		return nil, fmt.Errorf("list control keys: %w", err)
	}
	parts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list control keys: %w", err)
	}
	keys := make([]string, len(parts))
	for i, part := range parts {
		keys[i] = fence.Key(c.Installation, sink.ID, part)
	}
	return keys, nil
}
