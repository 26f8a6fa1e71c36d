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
// the call, and until no backfill, sweep or purge is left. Somebody has to work
// meanwhile. When ctx ends first, its error says what is still behind.
func Settle(ctx context.Context, db *pgxpool.Pool, targets []string) error {
	var before string
	if err := db.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&before); err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	for {
		var behind []string
		err := db.QueryRow(ctx, `
			select coalesce(array_agg(s.name || ' (' || l.kind || ')' order by l.id), '{}')
			from freshet.lease l
			join freshet.sink s on s.id = l.sink_id
			where l.target = any ($1) and l.finished_at is null
			  and (l.kind <> 'sync' and s.state <> 'paused'
			       or (s.state = 'active' and l.kind = 'sync' and not coalesce(freshet.snapshot_covers(l.passed, $2::text::pg_snapshot), false)))`,
			targets, before).Scan(&behind)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("ask what is pending: %w", err)
		}
		if err == nil && len(behind) == 0 {
			return nil
		}
		timer := time.NewTimer(settlePause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(fmt.Errorf("still behind: %s", strings.Join(behind, ", ")), ctx.Err())
		}
	}
}
