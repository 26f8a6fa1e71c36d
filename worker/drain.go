package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrLeftOut is in the chain of Drain's error when there was work that nobody could do.
var ErrLeftOut = errors.New("left out")

// drainPatience is longer than a sink that fails waits before it is tried again, and than a lane takes to look for keys
// of others.
const drainPatience = 5 * time.Second

// Drain works until nothing is pending on its targets that was committed before it began,
// every backfill, sweep and purge included, and returns nil; or until ctx ends, and returns
// its error, which says what is still behind and what went wrong there. An error that does
// not pass, such as a server that is away or a right that is missing, is tried again until
// then.
//
// What nobody can do as things are is left out: sinks that failing entries or a definition that
// no longer fits have stopped, that are blocked, or whose transform does not fit or is a
// function of Go that no worker has. Then Drain does all the rest and returns an error with
// ErrLeftOut in its chain, which names each and says why. What somebody has paused is left out
// too, and only logged.
//
// It closes w.
func (w *Worker) Drain(ctx context.Context) error {
	return w.run(ctx, func(ctx context.Context) error {
		s := settling{db: w.control, targets: w.config.targetNames(), transforms: w.transforms, patience: drainPatience}
		err := s.run(ctx)
		var left []string
		for _, l := range s.left {
			if l.paused {
				w.config.Logger.Info("left out", "sink", l.sink, "target", l.target, "why", l.why)
				continue
			}
			left = append(left, l.String())
		}
		if len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("%w: %s", ErrLeftOut, strings.Join(left, "; ")))
		}
		return err
	})
}
