package catalog

import (
	"context"
	"fmt"
)

// LanesPassed reports whether every lane of a sink on a target has applied what a
// snapshot, in text form, sees.
func LanesPassed(ctx context.Context, db Querier, sink int32, target, snapshot string) (bool, error) {
	var passed bool
	err := db.QueryRow(ctx, `
		select coalesce(bool_and(coalesce(freshet.snapshot_covers(l.passed, $3::text::pg_snapshot), false)), true)
		from freshet.lease l where l.sink_id = $1 and l.target = $2 and l.kind = 'sync'`,
		sink, target, snapshot).Scan(&passed)
	if err != nil {
		return false, fmt.Errorf("ask how far the lanes are: %w", err)
	}
	return passed, nil
}
