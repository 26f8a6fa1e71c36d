package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// insist repeats a statement of the owner's while servers or locks are in its way.
func (r *run) insist(ctx context.Context, sql string, args ...any) error {
	return r.insistOn(ctx, r.db, sql, args...)
}

func (r *run) insistOn(ctx context.Context, db *pgxpool.Pool, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for {
		_, err := db.Exec(ctx, sql, args...)
		if err == nil || !(passing(err) || overtaken(err)) {
			return err
		}
		if hold(ctx, 200*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
}

// ensure runs statements in one transaction if a condition holds, and repeats that as
// insist does: the condition is what tells a statement that was done before its connection
// was lost. Writers do not queue for long behind the locks that it waits for.
func (r *run) ensure(ctx context.Context, condition, statements string) error {
	return r.ensureOn(ctx, r.db, condition, statements)
}

func (r *run) ensureOn(ctx context.Context, db *pgxpool.Pool, condition, statements string) error {
	return r.insistOn(ctx, db, fmt.Sprintf(
		"do $soak$ begin perform set_config('lock_timeout', '1s', true); if %s then %s; end if; end $soak$", condition, statements))
}

// ask repeats a question to Postgres while it is away, and reads one row.
func (r *run) ask(ctx context.Context, sql string, args []any, into ...any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for {
		err := r.super.QueryRow(ctx, sql, args...).Scan(into...)
		if err == nil || errors.Is(err, pgx.ErrNoRows) || !passing(err) {
			return err
		}
		if hold(ctx, 200*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
}
