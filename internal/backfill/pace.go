package backfill

import (
	"context"

	"golang.org/x/time/rate"
)

// pace keeps a range to so many rows a second. Nil has no limit.
type pace struct {
	limiter *rate.Limiter
}

// newPace makes a pace; 0 is no limit.
func newPace(rowsPerSecond float64) *pace {
	if rowsPerSecond <= 0 {
		return nil
	}
	return &pace{rate.NewLimiter(rate.Limit(rowsPerSecond), max(1, min(maxChunk, int(rowsPerSecond))))}
}

// limit is how many rows to read at once: never more than a second's.
func (p *pace) limit(rows int) int {
	if p == nil {
		return rows
	}
	return min(rows, p.limiter.Burst())
}

// wait waits until so many rows may have been read.
func (p *pace) wait(ctx context.Context, rows int) error {
	if p == nil || rows == 0 {
		return nil
	}
	return p.limiter.WaitN(ctx, rows)
}
