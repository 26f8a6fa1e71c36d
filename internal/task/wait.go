package task

import (
	"context"
	"log/slog"
	"time"

	"github.com/freshet/freshet/internal/quiet"
)

// Ended waits until end is closed. It returns ctx's error when ctx ends first.
func Ended(ctx context.Context, end <-chan struct{}) error {
	select {
	case <-end:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pause waits for a while. It returns false when end was closed first, and false and ctx's
// error when ctx ended first.
func Pause(ctx context.Context, end <-chan struct{}, d time.Duration) (bool, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-end:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// Repeat does f at once and then every so often, until ctx ends. It says wrong when f
// begins to fail and right when it is over, in between no more than [quiet.Trouble] does.
func Repeat(ctx context.Context, every time.Duration, log *slog.Logger, wrong, right string, f func(context.Context) error) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	trouble := quiet.NewTrouble(log, wrong, right)
	for {
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		trouble.Note(err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
