package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// settlePause is how often Settle looks; a lane's progress is written each second.
const settlePause = 100 * time.Millisecond

// Settle waits until every lane of these targets has applied what was committed before
// the call, and until no backfill, sweep or purge is left, together with what those
// touched. Sinks that are paused, failing or blocked are not waited for, nor are
// backfills that are paused. Somebody has to work meanwhile.
// When ctx ends first, its error says what is still behind.
func Settle(ctx context.Context, db *pgxpool.Pool, targets []string) error {
	return settle(ctx, db, targets, nil)
}

// settle leaves out what needs other functions of Go than these, unless they are nil.
func settle(ctx context.Context, db *pgxpool.Pool, targets, transforms []string) error {
	for {
		worked, err := settleOnce(ctx, db, targets, transforms)
		if err != nil || !worked {
			return err
		}
		// A sweep or a validation touches as the last thing it does: what it touched is
		// later than the snapshot of this round.
	}
}

// settleOnce is one round. It reports whether there was anything but lanes.
func settleOnce(ctx context.Context, db *pgxpool.Pool, targets, transforms []string) (worked bool, err error) {
	var before string
	if err := db.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&before); err != nil {
		return false, fmt.Errorf("take a snapshot: %w", err)
	}
	for {
		var behind, others []string
		err := db.QueryRow(ctx, `
			with open as (
				select l.id, s.name || ' (' || l.kind || ')' as what, l.kind = 'sync' as lane
				from freshet.lease l
				join freshet.sink s on s.id = l.sink_id
				cross join freshet.function_for(s, l) as n (function)
				where l.target = any ($1) and (n.function is null or $3::text[] is null or n.function = any ($3)) and l.finished_at is null and s.state not in ('paused', 'failing') and (s.broken is null or s.state = 'dropping')
				  and (s.state = 'dropping' or not exists (
				      select from freshet.lease b where b.sink_id = l.sink_id and b.target = l.target and (b.blocked > 0 or b.blocked_by is not null)))
				  and not exists (
				      select from freshet.backfill_range r join freshet.backfill_run b on b.id = r.run_id
				      where r.lease_id = l.id and b.state = 'paused')
				  and (l.kind <> 'sync'
				       or (s.state = 'active' and not coalesce(freshet.snapshot_covers(l.passed, $2::text::pg_snapshot), false)))
			)
			select coalesce(pg_catalog.array_agg(what order by id), '{}'), coalesce(pg_catalog.array_agg(what) filter (where not lane), '{}')
			from open`, targets, before, transforms).Scan(&behind, &others)
		if err != nil && ctx.Err() == nil {
			return false, fmt.Errorf("ask what is pending: %w", err)
		}
		worked = worked || len(others) > 0
		if err == nil && len(behind) == 0 {
			return worked, nil
		}
		timer := time.NewTimer(settlePause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false, errors.Join(fmt.Errorf("still behind: %s", strings.Join(behind, ", ")), ctx.Err())
		}
	}
}
