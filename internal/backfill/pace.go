package backfill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
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
	for {
		var (
			d       time.Duration
			granted bool
		)
		err := p.db.QueryRow(ctx, "select pause, granted from freshet.pace_backfill($1, $2)", p.lease, rows).Scan(&d, &granted)
		if errors.Is(err, pgx.ErrNoRows) {
			return true, nil // there is no limit any more
		}
		if err != nil {
			return false, fmt.Errorf("ask for the rate of a backfill: %w", err)
		}
		if !granted {
			// Others have leave for longer than it is given ahead.
			d = askAgain/2 + rand.N(askAgain)
		}
		if waited, err := task.Pause(ctx, stop, d); !waited || granted {
			return waited, err
		}
	}
}

// askAgain is about how long a range waits that was given no leave yet.
const askAgain = 400 * time.Millisecond
