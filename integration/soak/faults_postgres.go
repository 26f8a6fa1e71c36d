package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// killBackend makes Postgres recover from a crash, by kill -9 of a backend that writes or
// that is a worker's.
func killBackend(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("postgres")()
	whose := []string{writing, "soak_worker"}[draw.IntN(2)]
	if ctx.Err() != nil {
		return "", nil
	}
	var pid int
	err := r.ask(ctx, "select pid from pg_stat_activity where application_name = $1 order by state = 'active' desc, random() limit 1", []any{whose}, &pid)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("choose a backend: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return "", fmt.Errorf("kill backend: %w", err)
	}
	return "kill -9 of a backend of a " + whose, r.awaitPostgres(ctx)
}

// crashPostgres is a power cut.
func crashPostgres(ctx context.Context, r *run, draw *rand.Rand) (string, error) {
	defer r.alone("postgres")()
	away := seconds(draw, 0, 3)
	if ctx.Err() != nil {
		return "", nil
	}
	if err := r.postgres.Crash(); err != nil {
		return "", err
	}
	hold(ctx, away)
	if err := r.postgres.Restart(context.WithoutCancel(ctx)); err != nil {
		return "", err
	}
	return "kill -9 of every process of Postgres", r.awaitPostgres(ctx)
}

func restartPostgres(ctx context.Context, r *run, _ *rand.Rand) (string, error) {
	defer r.alone("postgres")()
	if ctx.Err() != nil {
		return "", nil
	}
	if err := r.postgres.Restart(context.WithoutCancel(ctx)); err != nil {
		return "", err
	}
	return "clean restart", r.awaitPostgres(ctx)
}

func terminateBackends(ctx context.Context, r *run, _ *rand.Rand) (string, error) {
	defer r.alone("postgres")()
	if ctx.Err() != nil {
		return "", nil
	}
	var n int
	// A crash by kill -9 of a backend may be noticed by Postgres only now.
	err := r.ask(ctx, "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'soak_worker'", nil, &n)
	if err != nil {
		return "", fmt.Errorf("terminate backends: %w", err)
	}
	return fmt.Sprintf("%d connections of workers terminated", n), nil
}

// awaitPostgres returns once queries are answered again.
func (r *run) awaitPostgres(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for {
		// One that was open before the crash says nothing of the server now.
		conn, err := pgx.Connect(ctx, r.superURL)
		if err == nil {
			_, err = conn.Exec(ctx, "select 1")
			_ = conn.Close(ctx)
		}
		if err == nil {
			r.super.Reset()
			r.db.Reset()
			return nil
		}
		if hold(ctx, 50*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("Postgres is not back: %w", err)
		}
	}
}
