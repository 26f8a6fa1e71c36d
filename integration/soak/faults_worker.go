package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// anyWorker takes one for a fault.
func (r *run) anyWorker(draw *rand.Rand) (*worker, func()) {
	w := r.workers[draw.IntN(len(r.workers))]
	return w, r.alone(fmt.Sprintf("worker %d", w.number))
}

func killWorker(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	w, release := r.anyWorker(draw)
	defer release()
	away := seconds(draw, 0, 8)
	if ctx.Err() != nil {
		return "", nil
	}
	w.ask(syscall.SIGKILL, time.Minute)
	hold(ctx, away)
	return fmt.Sprintf("kill -9 of worker %d", w.number), w.start()
}

func stopWorker(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	w, release := r.anyWorker(draw)
	defer release()
	away := seconds(draw, 0.2, 14) // a lease is lost after five
	if ctx.Err() != nil {
		return "", nil
	}
	w.signal(syscall.SIGSTOP)
	hold(ctx, away)
	w.signal(syscall.SIGCONT)
	return fmt.Sprintf("SIGSTOP and SIGCONT of worker %d", w.number), nil
}

func terminateWorker(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	w, release := r.anyWorker(draw)
	defer release()
	away := seconds(draw, 0, 3)
	if ctx.Err() != nil {
		return "", nil
	}
	if !w.ask(syscall.SIGTERM, 40*time.Second) {
		r.fail(fmt.Sprintf("worker %d still runs 40 s after SIGTERM", w.number))
		w.ask(syscall.SIGKILL, time.Minute)
	}
	hold(ctx, away)
	return fmt.Sprintf("SIGTERM to worker %d", w.number), w.start()
}
