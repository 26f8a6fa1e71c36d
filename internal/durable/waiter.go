package durable

import (
	"context"
	"errors"
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

// ErrReincarnated is returned when Postgres has crashed or was replaced since the position
// was read: what was read with it may never have become durable.
var ErrReincarnated = errors.New("Postgres has crashed or was replaced")

// Waiter waits for WAL positions of one incarnation. It is not safe for concurrent use.
type Waiter struct {
	pool        *pgxpool.Pool
	incarnation string
	known       source.LSN
}

// New makes a waiter that asks over pool.
func New(pool *pgxpool.Pool, incarnation string) *Waiter {
	return &Waiter{pool: pool, incarnation: incarnation}
}

// Wait returns once the WAL is flushed up to want. flushed is how far it was when want
// was read.
func (w *Waiter) Wait(ctx context.Context, want, flushed source.LSN) error {
	if w.known = max(w.known, flushed); reached(w.known, want) {
		return nil
	}
	// On a busy server somebody's commit has flushed it by now.
	if err := w.look(ctx); err != nil || reached(w.known, want) {
		return err
	}
	// Else what is not flushed is asynchronous commits, or only the tidying up that reads
	// do: the WAL writer would take up to 200 ms. A commit of our own takes everything
	// before it along.
	if err := w.force(ctx); err != nil {
		return err
	}
	if !reached(w.known, want) {
		return fmt.Errorf("the WAL is flushed up to %X after a commit, not up to %X", w.known, want)
	}
	return nil
}

// look reads how far the WAL is flushed, in the same incarnation: the server that
// answers after a crash would count on from an earlier position.
func (w *Waiter) look(ctx context.Context) error {
	var where position
	if err := where.scan(w.pool.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text, freshet.incarnation()")); err != nil {
		return fmt.Errorf("read WAL flush position: %w", err)
	}
	return w.note(where)
}

// position is a place in the WAL of an incarnation.
type position struct {
	at          string
	incarnation *string
}

func (p *position) scan(row pgx.Row) error { return row.Scan(&p.at, &p.incarnation) }

// note takes note that everything up to a position is flushed.
func (w *Waiter) note(where position) error {
	if where.incarnation == nil || *where.incarnation != w.incarnation {
		return ErrReincarnated
	}
	at, err := source.ParseLSN(where.at)
	if err != nil {
		return err
	}
	w.known = max(w.known, at)
	return nil
}

func reached(flushed, want source.LSN) bool {
	return want <= flushed || (flushed%pageSize == 0 && want-flushed <= pageHeader)
}

// force makes the server flush by committing a record that means nothing, in one round trip. The commit
// returns when everything before it is on disk, and with it the record, whose position is then known to be.
func (w *Waiter) force(ctx context.Context) error {
	var (
		where position
		batch pgx.Batch
	)
	batch.Queue("select set_config('synchronous_commit', 'local', true)")
	batch.Queue("select pg_logical_emit_message(true, 'freshet', '')::text, freshet.incarnation()").QueryRow(where.scan)
	if err := w.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("flush WAL: %w", err)
	}
	return w.note(where)
}
