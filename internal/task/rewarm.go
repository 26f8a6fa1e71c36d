package task

import (
	"context"
	"fmt"

	"github.com/freshet/freshet/internal/metrics"
)

// Asked remembers that a re-warm was asked for, until what has to follow it is done: it is one
// loss, however often that fails.
type Asked struct {
	// in is the life of the database in which it was asked for, "" if it was not.
	in string
}

// Forget is for when the loss is over, or others may have written since.
func (a *Asked) Forget() { a.in = "" }

// In reports whether it was asked for in this life of the database; an earlier one may have
// forgotten.
func (a *Asked) In(incarnation string) bool { return a.in == incarnation }

// Note notes that it was asked for.
func (a *Asked) Note(incarnation string) { a.in = incarnation }

// Rewarm asks for a sink to be warmed again, and swept, for what became of a target. Asked
// again before that has begun, it is one re-warm, and counted once. Wrong: entries may be wrong, not just missing.
func (c Config) Rewarm(ctx context.Context, sink int32, name, target string, cause metrics.Cause, wrong bool) error {
	var made bool
	// The statement's own snapshot does not see what its functions do.
	err := c.Control.QueryRow(ctx, `
		select not exists (select from freshet.backfill_run b where b.id = r)
		from freshet.rewarm_target($1, $2, $3) r`, sink, target, wrong).Scan(&made)
	if err != nil {
		return fmt.Errorf("request re-warm: %w", err)
	}
	if made {
		c.Metrics.Rewarm(name, cause)
	}
	return nil
}
