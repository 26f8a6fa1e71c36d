package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// writers is how many connections write at the same time, lingering ones not counted.
	writers = 4
	// patience is how long anything that only waits for a server may take.
	patience = 90 * time.Second
)

// expected are the errors that writers get from each other, from limits on their waiting,
// and from servers that go down: deadlocks, rows moved under them, duplicates, references,
// lock and statement timeouts, shutdowns.
var expected = []string{"40P01", "40001", "23505", "23503", "55P03", "57014", "57P01", "57P02", "57P03", "53300"}

// shapeless are the errors of statements that name what a fault has just taken away: a
// column, a table, the partition for a row; an expression that has another type now.
var shapeless = []string{"42703", "42P01", "23514", "42804", "42883", "42P10", "22P02"}

// fromWriters reports whether an error is one that writers may get. What comes out of a
// trigger of Freshet's never is, but for what anybody may get in any statement.
func fromWriters(err *pgconn.PgError) bool {
	return slices.Contains(expected, err.Code) || slices.Contains(shapeless, err.Code) && !strings.Contains(err.Where, "freshet")
}

// passing reports whether an error is of the kind that goes away: a connection was lost,
// or the server said so.
func passing(err error) bool {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return slices.Contains(expected, pgErr.Code)
	}
	return true
}

// overtaken reports whether somebody else, such as a worker that mends capture, was at the same
// object of the catalog.
func overtaken(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "XX000" && strings.HasPrefix(pgErr.Message, "tuple concurrently")
}

// writer is one connection that writes in every way there is.
type writer struct {
	*run
	name string
	conn *pgx.Conn
}

// write makes transactions until ctx ends. What each one does depends on the seed and its
// number only.
func (r *run) write(ctx context.Context, number int, round uint64) {
	w := writer{run: r, name: fmt.Sprintf("soak_%d", number)}
	defer w.close()
	for n := uint64(0); ctx.Err() == nil; n++ {
		draw := r.stream(forWriters, uint64(number)<<32|round<<20|n)
		if !w.connected(ctx) {
			hold(ctx, 100*time.Millisecond)
			continue
		}
		// It ends what it has begun: a statement that was cut off could still commit later.
		err := w.transaction(context.WithoutCancel(ctx), draw)
		w.judge(err)
		hold(ctx, time.Duration(draw.IntN(12))*time.Millisecond)
	}
}

// linger holds transactions open for seconds while others write.
func (r *run) linger(ctx context.Context, round uint64) {
	w := writer{run: r, name: "soak_linger"}
	defer w.close()
	always := context.WithoutCancel(ctx)
	for n := uint64(0); ctx.Err() == nil; n++ {
		draw := r.stream(forWriters, 99<<32|round<<20|n)
		if !w.connected(ctx) {
			hold(ctx, 100*time.Millisecond)
			continue
		}
		w.judge(func() error {
			tx, err := w.conn.Begin(always)
			if err != nil {
				return err
			}
			defer tx.Rollback(always)
			if _, err := w.run.exec(always, w.conn, fmt.Sprintf("insert into orders values (%d, date '2026-01-01' + %d, 7)", 100_000+draw.IntN(1_000_000_000), draw.IntN(90))); err != nil {
				return err
			}
			hold(ctx, time.Duration(1000+draw.IntN(9000))*time.Millisecond)
			if _, err := w.run.exec(always, w.conn, fmt.Sprintf("update orders set total = total + 7 where id = %d", 1+draw.IntN(3000))); err != nil {
				return err
			}
			if draw.IntN(4) == 0 {
				return nil
			}
			return tx.Commit(always)
		}())
	}
}

// judge counts a transaction, and fails the soak if the application was given an error
// that only Freshet can be the cause of.
func (w *writer) judge(err error) {
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		w.note(func() { w.Commits++ })
	case errors.As(err, &pgErr):
		w.note(func() { w.Refused[pgErr.Code]++ })
		if !fromWriters(pgErr) {
			w.fail(fmt.Sprintf("a writer was given an error: %v (%s)", err, pgErr.Where))
		}
	default:
		w.note(func() { w.Refused["connection"]++ })
		w.close()
	}
}

func (w *writer) connected(ctx context.Context) bool {
	if w.conn != nil && !w.conn.IsClosed() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := pgx.ParseConfig(w.ownerURL)
	if err != nil {
		w.fail(err.Error())
		return false
	}
	c.RuntimeParams["application_name"] = writing
	c.RuntimeParams["lock_timeout"] = "3s"
	c.RuntimeParams["statement_timeout"] = "20s"
	if w.conn, err = pgx.ConnectConfig(ctx, c); err != nil {
		w.conn = nil
		return false
	}
	w.resolve(context.WithoutCancel(ctx))
	return w.conn != nil
}

// resolve ends what a connection that was lost had prepared.
func (w *writer) resolve(ctx context.Context) {
	rows, _ := w.conn.Query(ctx, "select gid from pg_prepared_xacts where gid like $1", w.name+"\\_%")
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.close()
		return
	}
	for _, gid := range gids {
		if _, err := w.conn.Exec(ctx, "commit prepared '"+gid+"'"); err != nil {
			w.close()
			return
		}
	}
}

func (w *writer) close() {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = w.conn.Close(ctx)
		w.conn = nil
	}
}

// exec runs a statement; COPY has its rows behind it.
func (r *run) exec(ctx context.Context, conn *pgx.Conn, sql string) (pgconn.CommandTag, error) {
	if rows, ok := strings.CutPrefix(sql, "copy "); ok {
		command, data, _ := strings.Cut(rows, "\n")
		return conn.PgConn().CopyFrom(ctx, strings.NewReader(data), "copy "+command)
	}
	return conn.Exec(ctx, sql)
}

// transaction is some statements, with savepoints released and rolled back. Some come to
// nothing, some are prepared first, and some are committed without waiting for the disk.
func (w *writer) transaction(ctx context.Context, draw *rand.Rand) error {
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if draw.IntN(4) == 0 {
		if _, err := w.conn.Exec(ctx, "set local synchronous_commit = off"); err != nil {
			return err
		}
	}
	for range 1 + draw.IntN(5) {
		guarded := draw.IntN(3) > 0
		if guarded {
			if _, err := w.conn.Exec(ctx, "savepoint s"); err != nil {
				return err
			}
		}
		_, err := w.exec(ctx, w.conn, w.statement(draw))
		var pgErr *pgconn.PgError
		refused := errors.As(err, &pgErr) && pgErr.Severity == "ERROR" && fromWriters(pgErr)
		back := draw.IntN(4) == 0
		if err != nil && !(refused && guarded) {
			return err
		}
		if guarded {
			end := "release s"
			if refused || back {
				end = "rollback to s"
			}
			if _, err := w.conn.Exec(ctx, end); err != nil {
				return err
			}
		}
	}
	switch end := draw.IntN(8); {
	case end == 0:
		return nil // rolled back
	case end == 1 && w.Prepared:
		return w.prepare(ctx, draw)
	}
	return tx.Commit(ctx)
}

// prepare ends a transaction in two steps, with time between them for a crash.
func (w *writer) prepare(ctx context.Context, draw *rand.Rand) error {
	gid := fmt.Sprintf("%s_%d", w.name, draw.Uint64())
	if _, err := w.conn.Exec(ctx, "prepare transaction '"+gid+"'"); err != nil {
		return err
	}
	hold(ctx, time.Duration(draw.IntN(300))*time.Millisecond)
	end := "commit"
	if draw.IntN(4) == 0 {
		end = "rollback"
	}
	_, err := w.conn.Exec(ctx, end+" prepared '"+gid+"'")
	return err
}
