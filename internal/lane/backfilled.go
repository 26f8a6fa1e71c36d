package lane

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/backfill"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/redefine"
)

// backfilled judges whether the target still has what the latest backfill wrote. Changes
// that a target lost are read again from its cursor; rows that a backfill wrote were not
// changed, and nothing in the cursor tells of them. So either the cursor sees the
// transaction that finished the backfill, for then it was written later; or the control key
// of the backfill is there as it was left; or the target went back to before the backfill,
// which is then asked for again. was is the control key as it was found, start the cursor
// to go on from. Returns the transaction that a later cursor in the target has to see.
func (l *Lane) backfilled(ctx context.Context, own fence.Fence, was fence.State, start cursor.Cursor) (uint64, error) {
	var (
		id       int64
		part     string
		finished uint64
		life     *string
		position []string
		noted    *string
	)
	err := l.Control.QueryRow(ctx, `
		select l.id, l.part, r.finished_xid::text::bigint, r.finished_in, r.position, l.life
		from freshet.lease l join freshet.backfill_range r on r.lease_id = l.id
		where l.sink_id = $1 and l.target = $2 and l.kind = 'backfill' and r.finished_xid is not null
		order by r.finished_xid desc
		limit 1`, l.held.SinkID, l.target.Name).Scan(&id, &part, &finished, &life, &position, &noted)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the latest backfill: %w", err)
	}
	if sees, err := sawFinish(own, was, start, finished, life); err != nil || sees {
		return 0, err
	}
	fields, err := fence.Read(ctx, l.target.Shared(), fence.Key(l.Installation, l.held.SinkID, part)).Result()
	if err != nil {
		return 0, fmt.Errorf("target %s: read control key of a backfill: %w", l.target.Name, err)
	}
	key := fence.Parsed(fields)
	if key.Exists && key.Cursor == backfill.Position(position) {
		return finished, nil
	}
	if !key.Exists {
		is, err := l.target.Life(ctx)
		if err != nil {
			return 0, err
		}
		if is.Evicted(noted, own.Incarnation) {
			return 0, nil
		}
	}
	// Consequences first: the cursor that moves on from here would hide the loss.
	var asked bool
	if err := l.Control.QueryRow(ctx, "select freshet.rewarm_lost($1)", id).Scan(&asked); err != nil {
		return 0, fmt.Errorf("request re-warm: %w", err)
	}
	if asked {
		l.Metrics.Rewarm(l.held.Sink, metrics.Lost)
		l.Log.Warn("the target has lost what a backfill wrote; warming it again", "sink", l.held.SinkID, "target", l.target.Name)
	}
	return 0, nil
}

// sawFinish reports whether a control key was written after that transaction had finished a
// backfill. What the key says counts, and not where the lane will begin, which can be further
// back: after a crash it is the floor. Of transactions of another life than its own a cursor
// knows nothing: their ids may have been given out again since.
func sawFinish(own fence.Fence, was fence.State, start cursor.Cursor, finished uint64, life *string) (bool, error) {
	if !was.Exists {
		return start.Done.Sees(finished), nil
	}
	other, err := fence.Parse(was.Fence)
	if err != nil {
		return false, err
	}
	if other.Incarnation == redefine.Lost {
		return start.Done.Sees(finished), nil
	}
	if other.Incarnation != own.Incarnation && (life == nil || *life != other.Incarnation) {
		return false, nil
	}
	at, err := cursor.Parse(was.Cursor)
	return err == nil && at.Done.Sees(finished), err
}
