package install

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// lockKey is the advisory lock that lets one migration run at a time.
const lockKey = 1181905010

const (
	// askEvery is how often somebody who waits for another migration looks.
	askEvery = 50 * time.Millisecond
	// tellAfter is when it is told who that is.
	tellAfter = 3 * time.Second
)

// alone runs do while no other migration or removal is at it. The lock is that of a
// transaction on a connection of its own, open for as long: one of a session would stay
// behind with the connection of a pooler.
func alone(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger, do func(held pgx.Tx) error) error {
	held, err := pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = held.Rollback(context.WithoutCancel(ctx)) }()
	const patient = "select set_config(name, '0', true) from pg_settings where name in ('idle_in_transaction_session_timeout', 'transaction_timeout')"
	if _, err := held.Exec(ctx, patient); err != nil {
		return fmt.Errorf("wait for other migrations: %w", err)
	}
	for tell := time.Now().Add(tellAfter); ; {
		var ours bool
		if err := held.QueryRow(ctx, "select pg_try_advisory_xact_lock($1)", lockKey).Scan(&ours); err != nil {
			return fmt.Errorf("wait for other migrations: %w", err)
		}
		if ours {
			return do(held)
		}
		if time.Now().After(tell) {
			tell = tell.Add(10 * tellAfter)
			if err := tellWho(ctx, held, log); err != nil {
				return fmt.Errorf("look who migrates: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for other migrations: %w", ctx.Err())
		case <-time.After(askEvery):
		}
	}
}

// tellWho says whom this waits for: it may be a session that hangs.
func tellWho(ctx context.Context, held pgx.Tx, log *slog.Logger) error {
	rows, err := held.Query(ctx, `
		select l.pid, coalesce(a.application_name, '')
		from pg_locks l left join pg_stat_activity a on a.pid = l.pid
		where l.locktype = 'advisory' and l.classid = 0 and l.objid = $1 and l.objsubid = 1 and l.granted
		  and l.database = (select oid from pg_database where datname = current_database())`, lockKey)
	if err != nil {
		return err
	}
	var pid *int
	var name string
	_, err = pgx.ForEachRow(rows, []any{&pid, &name}, func() error {
		if pid != nil {
			log.Warn("another migration is at it and is waited for", "pid", *pid, "application", name)
		}
		return nil
	})
	return err
}
