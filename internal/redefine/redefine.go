package redefine

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/scan"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
)

const (
	// Lost stands for the incarnation in a control key that was made again after the
	// target had lost it.
	Lost = "lost"
	// nonce is nobody's: it stands until the lease's holder takes the key.
	nonce = "redefined"
	// keep is how long the control key of a lane that is no more stays.
	keep = 10 * time.Minute
)

// Replaced reports whether a fence has the nonce of nobody, since Older put it there.
func Replaced(f fence.Fence) bool { return f.Nonce == nonce }

// stale is a lease whose control key may be of an older definition.
type stale struct {
	id     int64
	part   string
	kind   catalog.Kind
	cursor string
	life   *string
}

// Older refuses whoever writes for a sink on a target under an older definition than this
// one. It costs one query when there is nobody.
func Older(ctx context.Context, c task.Config, t *target.Target, sink *catalog.Sink, incarnation string) error {
	rows, err := c.Control.Query(ctx, `
		select id, part, kind, cursor, life from freshet.lease
		where sink_id = $1 and target = $2 and definition < $3 and stamped
		  and (kind in ('sync', 'retired') or (kind = 'backfill' and finished_at is null))
		order by id`, sink.ID, t.Name, sink.Definition)
	if err != nil {
		return fmt.Errorf("list control keys: %w", err)
	}
	leases, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (stale, error) {
		var s stale
		return s, row.Scan(&s.id, &s.part, &s.kind, &s.cursor, &s.life)
	})
	if err != nil {
		return fmt.Errorf("list control keys: %w", err)
	}
	for _, l := range leases {
		if err := restamp(ctx, c, t, sink, incarnation, l); err != nil {
			return fmt.Errorf("target %s: redefine control key %s: %w", t.Name, l.part, err)
		}
		// A lane that is no more is refused for good: its key may be gone by the next time.
		_, err := c.Control.Exec(ctx, `
			update freshet.lease set definition = case kind when 'retired' then $3 else $2 end
			where id = $1 and definition < $2`, l.id, sink.Definition, math.MaxInt32)
		if err != nil {
			return fmt.Errorf("note redefined control key: %w", err)
		}
	}
	return nil
}

func restamp(ctx context.Context, c task.Config, t *target.Target, sink *catalog.Sink, incarnation string, l stale) error {
	w, err := fence.Open(ctx, t, fence.Key(c.Installation, sink.ID, l.part), fence.OwnerKey(c.Installation, sink.ID))
	if err != nil {
		return err
	}
	defer w.Close()
	// Asked after the key is watched, like everybody who takes one.
	var definition int32
	if err := c.Control.QueryRow(ctx, "select definition from freshet.sink where id = $1", sink.ID).Scan(&definition); err != nil {
		return fmt.Errorf("read definition: %w", err)
	}
	if definition != sink.Definition {
		return fmt.Errorf("the sink was redefined (%d, read %d)", definition, sink.Definition)
	}

	state := w.State()
	next := fence.Fence{Incarnation: Lost, Definition: sink.Definition, Nonce: nonce}
	if state.Exists {
		if next, err = fence.Parse(state.Fence); err != nil {
			return err
		}
		if next.Definition >= sink.Definition {
			return nil
		}
		next.Definition, next.Nonce = sink.Definition, nonce
	}
	if l.kind == catalog.Retired {
		// Nobody will take this key and see what the target has lost.
		lost, err := Behind(state, l.cursor)
		if err != nil {
			return err
		}
		if lost && !state.Exists {
			is, err := t.Life(ctx)
			if err != nil {
				return err
			}
			lost = !is.Evicted(l.life, incarnation)
		}
		if lost {
			wrong := state.Exists
			if !wrong {
				if wrong, err = scan.Any(ctx, c.Control, t, sink); err != nil {
					return err
				}
			}
			if err := c.Rewarm(ctx, sink.ID, sink.Name, t.Name, metrics.Lost, wrong); err != nil {
				return err
			}
		}
	}
	if err := w.Take(ctx, next, state.Cursor); err != nil {
		return err
	}
	if l.kind == catalog.Retired {
		return w.Retire(ctx, next, state.Cursor, keep)
	}
	return nil
}

// Behind reports whether a control key is missing, or has not come as far as Postgres'
// copy of its cursor.
func Behind(state fence.State, copied string) (bool, error) {
	if !state.Exists {
		return true, nil
	}
	have, err := cursor.Parse(state.Cursor)
	if err != nil {
		return false, err
	}
	want, err := cursor.Parse(copied)
	if err != nil {
		return false, err
	}
	return !have.Done.Covers(want.Done), nil
}
