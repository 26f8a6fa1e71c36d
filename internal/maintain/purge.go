package maintain

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
)

// Purge removes the entries of a dropped sink from a target, then Freshet's own keys.
func Purge(ctx context.Context, c task.Config, t *target.Target, held *lease.Held) error {
	sink, err := catalog.LoadSink(ctx, c.Control, held.SinkID)
	if errors.Is(err, catalog.ErrNoSink) {
		return task.ErrGone
	}
	if err != nil {
		return err
	}
	incarnation, err := catalog.Incarnation(ctx, c.Control)
	if err != nil {
		return err
	}
	own := fence.Fence{Incarnation: incarnation, Definition: sink.Definition, Epoch: held.Epoch, Nonce: held.Nonce}

	// Whoever still writes under the old definition is refused from here on.
	others, err := controlKeys(ctx, c, sink, t)
	if err != nil {
		return err
	}
	for _, k := range others {
		if err := stamp(ctx, t, k, own); err != nil {
			return err
		}
	}

	// The deletions are fenced as well: a purge that was taken over must not go on
	// deleting when a new sink writes the same keys.
	key := fence.Key(c.Installation, sink.ID, held.Part)
	w, err := fence.Open(ctx, t, key)
	if err != nil {
		return fmt.Errorf("target %s: %w", t.Name, err)
	}
	defer w.Close()
	if err := w.Take(ctx, own, ""); err != nil {
		return fmt.Errorf("take control key: %w", err)
	}
	if !sink.KeepEntries {
		err := Scan(ctx, c.Control, t, sink, func(keys []string, _ [][]string) error {
			return w.Write(ctx, own, "", "", absent(keys))
		})
		if err != nil {
			return fmt.Errorf("purge target %s: %w", t.Name, err)
		}
	}
	if err := w.Write(ctx, own, "", "", absent(others)); err != nil {
		return fmt.Errorf("purge target %s: %w", t.Name, err)
	}
	return w.Remove(ctx, own, "")
}

func stamp(ctx context.Context, t *target.Target, key string, own fence.Fence) error {
	w, err := fence.Open(ctx, t, key)
	if err != nil {
		return fmt.Errorf("target %s: %w", t.Name, err)
	}
	defer w.Close()
	if err := w.Take(ctx, own, w.State().Cursor); err != nil {
		return fmt.Errorf("take control key %s: %w", key, err)
	}
	return nil
}

// controlKeys are those of the sink's lanes and ranges on a target.
func controlKeys(ctx context.Context, c task.Config, sink *catalog.Sink, t *target.Target) ([]string, error) {
	rows, err := c.Control.Query(ctx, `
		select part from freshet.lease
		where sink_id = $1 and target = $2 and kind in ('sync', 'backfill')
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

// absent are keys to delete.
type absent []string

func (a absent) Len() int                 { return len(a) }
func (a absent) Key(i int) []byte         { return []byte(a[i]) }
func (a absent) Value(int) ([]byte, bool) { return nil, false }
