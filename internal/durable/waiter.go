package durable

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/source"
)

const (
	// pageSize and pageHeader: at the end of a page the insert position is already
	// behind the next page's header, of which nothing is written.
	pageSize   = 8192
	pageHeader = 40
)

// Waiter waits for WAL positions. It is not safe for concurrent use.
type Waiter struct {
	pool  *pgxpool.Pool
	known source.LSN
}

// New makes a waiter that asks over pool.
func New(pool *pgxpool.Pool) *Waiter { return &Waiter{pool: pool} }

// Wait returns once the WAL is flushed up to want. flushed is how far it was when want
// was read.
func (w *Waiter) Wait(ctx context.Context, want, flushed source.LSN) error {
	if w.known = max(w.known, flushed); reached(w.known, want) {
		return nil
	}
	// On a busy server somebody's commit has flushed it by now.
	var now string
	if err := w.pool.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&now); err != nil {
		return fmt.Errorf("read WAL flush position: %w", err)
	}
	at, err := source.ParseLSN(now)
	if err != nil {
		return err
	}
	if w.known = max(w.known, at); reached(w.known, want) {
		return nil
	}
	// Else what is not flushed is asynchronous commits, or only the tidying up that reads
	// do: the WAL writer would take up to 200 ms. A commit of our own takes everything
	// before it along.
	if err := w.force(ctx); err != nil {
		return err
	}
	w.known = max(w.known, want)
	return nil
}

func reached(flushed, want source.LSN) bool {
	return want <= flushed || (flushed%pageSize == 0 && want-flushed <= pageHeader)
}

// force makes the server flush by committing a record that means nothing. The commit
// returns when everything before it is on disk.
func (w *Waiter) force(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local synchronous_commit = local"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "select pg_logical_emit_message(true, 'freshet', '')")
		return err
	})
	if err != nil {
		return fmt.Errorf("flush WAL: %w", err)
	}
	return nil
}
