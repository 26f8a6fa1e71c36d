package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/freshet/freshet/internal/backfill"
	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/failing"
	"github.com/freshet/freshet/internal/lane"
	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/maintain"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
	"github.com/freshet/freshet/internal/transform"
)

// Runner runs the jobs of one worker.
type Runner struct {
	task.Config
	Keeper  *lease.Keeper
	Probe   *lane.Probe
	Memory  *lane.Memory
	Targets map[string]*target.Target
	// Slice is about how long one job works before it hands over to its successor.
	Slice time.Duration
	// Stop is closed when the worker is to end: every job hands over at once.
	Stop <-chan struct{}

	gauges failing.Gauges
	// chunks and batches are how many rows backfills and lanes have come to read at a time.
	chunks, batches task.Sizes
}

// Workers registers the kinds of job with River.
func (r *Runner) Workers() *river.Workers {
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[SyncArgs]) error {
		return work(ctx, r, job, job.Args.Args)
	}))
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[BackfillArgs]) error {
		return work(ctx, r, job, job.Args.Args)
	}))
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[MaintainArgs]) error {
		return work(ctx, r, job, job.Args.Args)
	}))
	return workers
}

// backfillShare makes a slice of a range shorter: others wait in the queue, maybe those of a
// small sink behind those of a large one.
const backfillShare = 6

// mostSlices bounds how long a lane stays where it is: jobs that run for an hour are taken for
// stuck.
const mostSlices = 20

// handOverTimeout bounds the last statement of a slice, which runs even when the job's
// own context has ended.
const handOverTimeout = 5 * time.Second

func work[A river.JobArgs](ctx context.Context, r *Runner, job *river.Job[A], args Args) error {
	held, heldCtx, err := r.Keeper.Take(ctx, args.Lease, args.Epoch)
	if errors.Is(err, catalog.ErrNotOurs) {
		return nil
	}
	if err != nil {
		// The heartbeat that never comes hands the lease on.
		r.Log.Warn("could not take a lease", "lease", args.Lease, "err", err)
		return nil
	}
	defer r.Keeper.Give(held)

	done, err := r.run(heldCtx, held)
	if errors.Is(context.Cause(heldCtx), lease.ErrLost) || isLost(err) {
		return nil
	}
	parked := errors.Is(err, backfill.ErrParked)
	// Its successor waits in the queue of those who have the function.
	elsewhere := errors.Is(err, transform.ErrUnregistered)
	if err != nil && heldCtx.Err() == nil && !errors.Is(err, task.ErrGone) && !parked && !elsewhere {
		held.Failed(err)
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverTimeout)
	defer cancel()
	// What this slice came to is written down before the next holder reads it.
	if err := r.Keeper.BeatOne(ctx, held); err != nil {
		r.Log.Debug("last heartbeat of a slice", "err", err)
	}
	end, of := "select freshet.hand_over($1, $2, $3)", []any{held.ID, held.Epoch, lease.Silence}
	if parked {
		end, of = "select freshet.release_lease($1, $2, parked => true)", []any{held.ID, held.Epoch}
	} else if done || errors.Is(err, task.ErrGone) {
		end, of = "select freshet.finish_lease($1, $2)", []any{held.ID, held.Epoch}
	}
	if err := handOver(ctx, r, job, end, of); err != nil {
		r.Log.Debug("hand over", "lease", held.ID, "err", err)
	}
	return nil
}

// handOver completes the job, and in the same transaction runs the statement that ends the
// lease or gives it to its successor. Completion comes first: a unique successor would
// collide with it.
func handOver[A river.JobArgs](ctx context.Context, r *Runner, job *river.Job[A], end string, of []any) error {
	return pgx.BeginFunc(ctx, r.Control, func(tx pgx.Tx) error {
		// A worker that is stopped right here must not keep the lease locked.
		if _, err := tx.Exec(ctx, "set local idle_in_transaction_session_timeout = '3s'"); err != nil {
			return err
		}
		if _, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job); err != nil {
			return fmt.Errorf("complete job: %w", err)
		}
		var ours bool
		if err := tx.QueryRow(ctx, end, of...).Scan(&ours); err != nil {
			return err
		}
		return nil
	})
}

// run does what the lease is for until the slice ends. It returns true when there is
// nothing left to do for good.
func (r *Runner) run(ctx context.Context, held *lease.Held) (bool, error) {
	t, ok := r.Targets[held.Target]
	if !ok {
		return false, fmt.Errorf("this worker has no URL for target %s", held.Target)
	}
	slice := r.Slice
	if held.Kind == catalog.Backfill {
		slice /= backfillShare
	}
	stop, release := r.sliceEnd(slice, func() bool { return held.Kind == catalog.Sync && r.Keeper.Renew(ctx, held) })
	defer release()
	switch held.Kind {
	case catalog.Sync:
		return false, lane.New(r.Config, r.Probe, r.Memory, &r.gauges, &r.batches, t, held).Run(ctx, stop)
	case catalog.Backfill:
		work := backfill.New(r.Config, &r.gauges, &r.chunks, t, held)
		return r.retry(ctx, stop, held, func() (bool, error) { return work.Session(ctx, stop) })
	// A sweep or a purge begins anew each time: it takes as long as it takes, and only the
	// worker's end ends it.
	case catalog.Sweep:
		return r.retry(ctx, r.Stop, held, func() (bool, error) { return maintain.Sweep(ctx, r.Config, t, held, r.Stop) })
	case catalog.Purge:
		return r.retry(ctx, r.Stop, held, func() (bool, error) { return maintain.Purge(ctx, r.Config, t, held, r.Stop) })
	}
	return false, fmt.Errorf("a lease of kind %q is of a newer version", held.Kind)
}

// sliceEnd is closed when the worker stops or the slice has had its time, unless that is renewed
// then. Slices that began together do not end together.
func (r *Runner) sliceEnd(slice time.Duration, renew func() bool) (<-chan struct{}, func()) {
	end := make(chan struct{})
	quit := make(chan struct{})
	go func() {
		defer close(end)
		for range mostSlices {
			select {
			case <-r.Stop:
				return
			case <-quit:
				return
			case <-time.After(slice*3/4 + rand.N(slice/2)):
			}
			if !renew() {
				return
			}
		}
	}()
	return end, func() { close(quit) }
}

// isLost reports whether another worker has the lease.
func isLost(err error) bool {
	return errors.Is(err, lease.ErrLost) || errors.Is(err, catalog.ErrNotOurs)
}

// retry repeats a session with backoff until it ends well, the slice ends or the lease
// is lost.
func (r *Runner) retry(ctx context.Context, stop <-chan struct{}, held *lease.Held, session func() (bool, error)) (bool, error) {
	backoff := task.NewBackoff()
	for {
		done, err := session()
		if err == nil && !done && !task.Closed(stop) {
			continue // the sink was changed
		}
		if err == nil || ctx.Err() != nil || errors.Is(err, task.ErrGone) || errors.Is(err, backfill.ErrParked) || errors.Is(err, transform.ErrUnregistered) || isLost(err) {
			return done, err
		}
		held.Failed(err)
		level := slog.LevelDebug
		if backoff.First() {
			level = slog.LevelWarn
		}
		r.Log.Log(ctx, level, "work has to be tried again", "kind", held.Kind, "sink", held.Sink, "target", held.Target, "err", err)
		if !backoff.Wait(ctx, stop) {
			return false, err
		}
	}
}
