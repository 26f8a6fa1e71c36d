package backfill

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/task"
)

// pace keeps a range, together with the others of its backfill, to so many rows a second;
// 0 has no limit.
type pace struct {
	db    *pgxpool.Pool
	lease int64
	rate  int
}

// limit is how many rows to read at once: what takes a quarter of a second.
func (p pace) limit(rows int) int {
	if p.rate == 0 {
		return rows
	}
	return min(rows, max(1, p.rate/4))
}

// wait waits until so many rows may be read. It returns false when stop was closed first.
func (p pace) wait(ctx context.Context, stop <-chan struct{}, rows int) (bool, error) {
	if p.rate == 0 {
		return true, nil
	}
	var d *time.Duration // null: there is no limit any more
	if err := p.db.QueryRow(ctx, "select freshet.pace_backfill($1, $2)", p.lease, rows).Scan(&d); err != nil {
		return false, fmt.Errorf("ask for the rate of a backfill: %w", err)
	}
	if d == nil || *d <= 0 {
		return true, nil
	}
	return task.Pause(ctx, stop, *d)
}
