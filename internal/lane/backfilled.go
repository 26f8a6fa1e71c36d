package lane

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/backfill"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/fence"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/redefine"
)

// backfilled judges whether the target still has what backfills wrote. Changes that a
// target lost are read again from its cursor; rows that a backfill wrote were not changed,
// and nothing in the cursor tells of them. So for each range either the cursor sees the
// transaction that finished it, for then it was written later; or the control key of the
// range is there as it was left; or the target went back to before its end, and all is asked
// for again. was is the control key as it was found, start the cursor to go on from. Returns
// the latest transaction that a later cursor in the target has to see.
func (l *Lane) backfilled(ctx context.Context, own fence.Fence, was fence.State, start cursor.Cursor) (uint64, error) {
	if l.held.Closing {
		return 0, nil
	}
	rows, err := l.Control.Query(ctx, `
		select l.id, l.part, r.finished_xid::text::bigint, r.finished_in, r.position, l.life
		from freshet.lease l join freshet.backfill_range r on r.lease_id = l.id
		where l.sink_id = $1 and l.target = $2 and l.kind = 'backfill' and r.finished_xid is not null
		order by r.finished_xid desc`, l.held.SinkID, l.target.Name)
	if err != nil {
		return 0, fmt.Errorf("read finished ranges: %w", err)
	}
	ranges, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (finished, error) {
		var f finished
		return f, row.Scan(&f.lease, &f.part, &f.xid, &f.in, &f.position, &f.life)
	})
	if err != nil {
		return 0, fmt.Errorf("read finished ranges: %w", err)
	}
	var unseen []finished
	for _, f := range ranges {
		sees, err := sawFinish(own, was, start, f.xid, f.in)
		if err != nil {
			return 0, err
		}
		if !sees {
			unseen = append(unseen, f)
		}
	}
	if len(unseen) == 0 {
		return 0, nil
	}

	pipe := l.target.Shared().Pipeline()
	found := make([]*redis.SliceCmd, len(unseen))
	for i, f := range unseen {
		found[i] = fence.Read(ctx, pipe, fence.Key(l.Installation, l.held.SinkID, f.part))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, fmt.Errorf("target %s: read control keys of a backfill: %w", l.target.Name, err)
	}
	is, err := l.target.Life(ctx)
	if err != nil {
		return 0, err
	}
	for i, f := range unseen {
		key := fence.Parsed(found[i].Val())
		if key.Exists && backfill.PositionOf(key.Cursor) == backfill.Position(f.position) {
			continue
		}
		if !key.Exists && is.Evicted(f.life, own.Incarnation) {
			continue
		}
		// Consequences first: the cursor that moves on from here would hide the loss.
		var asked bool
		if err := l.Control.QueryRow(ctx, "select freshet.rewarm_lost($1)", f.lease).Scan(&asked); err != nil {
			return 0, fmt.Errorf("request re-warm: %w", err)
		}
		if asked {
			l.Metrics.Rewarm(l.held.Sink, metrics.Lost)
			l.Log.Warn("the target has lost what a backfill wrote; warming it again", "sink", l.held.Sink, "target", l.target.Name)
		}
		return 0, nil
	}
	return unseen[0].xid, nil
}

// finished is a range of a backfill that is over.
type finished struct {
	lease    int64
	part     string
	position []string
	xid      uint64
	// in is the incarnation of the database that it was finished in, life what the target had
	// been through when its control key was last seen there.
	in, life *string
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
