package install

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Uninstall removes everything of Freshet's from a database: the triggers on its
// sources, and the schema. It reports whether there was anything to remove.
func Uninstall(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	removed := false
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", lockKey); err != nil {
			return fmt.Errorf("wait for other migrations: %w", err)
		}
		if err := tx.QueryRow(ctx, "select to_regnamespace('freshet') is not null").Scan(&removed); err != nil {
			return fmt.Errorf("look for Freshet's schema: %w", err)
		}
		// Dropping a trigger locks its table; better no removal than writers that queue.
		if _, err := tx.Exec(ctx, "set local lock_timeout = '5s'; set local client_min_messages = warning; drop schema if exists freshet cascade"); err != nil {
			return fmt.Errorf("drop schema freshet: %w", err)
		}
		return nil
	})
	return removed, err
}
