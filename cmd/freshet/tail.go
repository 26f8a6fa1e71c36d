package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
)

const (
	tailPause = 200 * time.Millisecond
	// tailNewest is how many changes are shown of those between two looks, and tailCounted how
	// far the others are counted.
	tailNewest  = 1000
	tailCounted = 100_000
)

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

// change is one of a source's.
type change struct {
	At                  time.Time
	Operation, Key, XID string
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
		var came int64
		if err := tx.QueryRow(ctx, "select freshet.pending($1, $2::text::pg_snapshot, $3)", sink.SourceID, seen, tailCounted).Scan(&came); err != nil {
			return err
		}
		// One more than is shown, to know whether there are more.
		rows, err := tx.Query(ctx, `
			select c.at, case c.op when 'i' then 'insert' when 'u' then 'update' when 'd' then 'delete' when 't' then 'truncate' else 'touch' end,
			       coalesce(c.key::text, ''), c.xid::text
			from freshet.changes_of($1, $3) c
			where not pg_visible_in_snapshot(c.xid, $2::text::pg_snapshot)
			order by c.xid, c.id`, sink.SourceID, seen, tailNewest+1)
		if err != nil {
			return err
		}
		changes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[change])
		if err != nil {
			return err
		}
		shown := changes[max(0, len(changes)-tailNewest):]
		if hidden := max(came-int64(len(shown)), int64(len(changes)-len(shown))); hidden > 0 {
			fmt.Fprintf(c.stdout, "(at least %d changes since the last look are not shown: only the newest %d are looked at)\n", hidden, tailNewest)
		}
		for _, n := range shown {
			if _, err := fmt.Fprintf(c.stdout, "%s  %-8s  %s  (transaction %s)\n", n.At.Format("15:04:05.000"), n.Operation, n.Key, n.XID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return seen, fmt.Errorf("read changes: %w", err)
	}
	return now, nil
}
