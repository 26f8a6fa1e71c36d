package install

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/pg"
)

// releasePatience is how long a table is tried to be locked whose triggers are to go.
const releasePatience = 10 * time.Second

// captured is a source by its trigger function, and its table if it is known.
type captured struct {
	id       int
	function string
	table    *uint32
}

// releaseAll takes the triggers off all sources, each in a transaction of its own. Writers
// come to change tables from their sources: whoever locks those first, as dropping the
// schema does, is in a deadlock with them.
func releaseAll(ctx context.Context, pool *pgxpool.Pool) error {
	const list = `
		select substr(p.proname, 9)::int, p.oid::regprocedure::text,
		       (select min(t.tgrelid) from pg_trigger t where t.tgfoid = p.oid and t.tgparentid = 0 and t.tgname ~ '^freshet_(row_|insert)')
		from pg_proc p
		where p.pronamespace = 'freshet'::regnamespace and p.prorettype = 'trigger'::regtype and p.proname ~ '^capture_[0-9]{1,9}$'
		order by 1`
	rows, err := pool.Query(ctx, list)
	if err != nil {
		return fmt.Errorf("list sources: %w", err)
	}
	sources, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s captured, err error) {
		return s, row.Scan(&s.id, &s.function, &s.table)
	})
	if err != nil {
		return fmt.Errorf("list sources: %w", err)
	}
	for _, s := range sources {
		if err := s.release(ctx, pool); err != nil {
			return fmt.Errorf("drop the triggers of source %d: %w", s.id, err)
		}
	}
	return nil
}

// release makes short attempts, so that writers do not queue behind them for long.
func (s captured) release(ctx context.Context, pool *pgxpool.Pool) error {
	for until := time.Now().Add(releasePatience); ; {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "set local lock_timeout = '200ms'; set local client_min_messages = warning"); err != nil {
				return err
			}
			if err := s.lock(ctx, tx); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "drop function if exists "+s.function+" cascade")
			return err
		})
		if !pg.HasCode(err, "55P03", "40P01") || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50*time.Millisecond + rand.N(200*time.Millisecond)):
		}
	}
}

// lock waits for the table as Freshet does everywhere, which makes fewer attempts. Who owns
// the schema and not the table may drop triggers that he may not lock the table for; and of
// another version the function may be another.
func (s captured) lock(ctx context.Context, tx pgx.Tx) error {
	if s.table == nil {
		return nil
	}
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select freshet.lock_source($1, 'access exclusive', interval '10 seconds', false)", *s.table)
		return err
	})
	if pg.HasCode(err, "42501", "42883") {
		return nil
	}
	return err
}
