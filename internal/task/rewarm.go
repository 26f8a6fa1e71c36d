package task

import (
	"context"
	"fmt"

	"github.com/freshet/freshet/internal/metrics"
)

// Rewarm asks for a sink to be warmed again, and swept. Asked again before that has begun,
// it is one re-warm, and counted once.
func (c Config) Rewarm(ctx context.Context, sink int32, name string, cause metrics.Cause) error {
	var made bool
	// The statement's own snapshot does not see what its functions do.
	err := c.Control.QueryRow(ctx, `
		select not exists (select from freshet.backfill_run b where b.id = r)
		from freshet.request_rewarm($1) r, freshet.request_sweep($1, pg_current_snapshot())`, sink).Scan(&made)
	if err != nil {
		return fmt.Errorf("request re-warm: %w", err)
	}
	if made {
		c.Metrics.Rewarm(name, cause)
	}
	return nil
}
