package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
)

const tailPause = 200 * time.Millisecond

// tail prints the changes of a sink as they are captured, until it is interrupted.
func tail(ctx context.Context, c *cli, args []string) error {
	set := flags("tail")
	seconds := set.Int("seconds", 0, "")
	names, err := parse(set, args, 1)
	if err != nil {
		return err
	}
	db, err := c.openDatabase(ctx, "freshet tail")
	if err != nil {
		return err
	}
	defer db.Close()
	sink, err := findSink(ctx, db, names[0])
	if err != nil {
		return err
	}
	if *seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*seconds)*time.Second)
		defer cancel()
	}

	seen, err := c.follow(ctx, db, sink, "")
	for err == nil {
		select {
		case <-time.After(tailPause):
			seen, err = c.follow(ctx, db, sink, seen)
		case <-ctx.Done():
			return nil
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// follow prints what was committed since the snapshot seen, and returns the present one.
// Without a snapshot it prints nothing.
func (c *cli) follow(ctx context.Context, db *pgxpool.Pool, sink *catalog.Sink, seen string) (string, error) {
	var now string
	err := pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, "select pg_current_snapshot()::text").Scan(&now); err != nil {
			return err
		}
		if seen == "" {
			return nil
		}
		rows, err := tx.Query(ctx, `
			select c.at, case c.op when 'i' then 'insert' when 'u' then 'update' when 'd' then 'delete' when 't' then 'truncate' else 'touch' end,
			       coalesce(c.key::text, ''), c.xid::text
			from freshet.changes_of($1, 1000) c
			where not pg_visible_in_snapshot(c.xid, $2::text::pg_snapshot)
			order by c.xid, c.id`, sink.SourceID, seen)
		if err != nil {
			return err
		}
		var (
			at                  time.Time
			operation, key, xid string
		)
		_, err = pgx.ForEachRow(rows, []any{&at, &operation, &key, &xid}, func() error {
			_, err := fmt.Fprintf(c.stdout, "%s  %-8s  %s  (transaction %s)\n", at.Format("15:04:05.000"), operation, key, xid)
			return err
		})
		return err
	})
	if err != nil {
		return seen, fmt.Errorf("read changes: %w", err)
	}
	return now, nil
}
