package durable_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/durable"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/internal/source"
)

func dial(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func positions(t *testing.T, db *pgxpool.Pool) (insert, flushed source.LSN) {
	t.Helper()
	var a, b string
	if err := db.QueryRow(t.Context(), "select pg_current_wal_insert_lsn()::text, pg_current_wal_flush_lsn()::text").Scan(&a, &b); err != nil {
		t.Fatal(err)
	}
	var err1, err2 error
	insert, err1 = source.ParseLSN(a)
	flushed, err2 = source.ParseLSN(b)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return insert, flushed
}

func TestWaitsUntilAsynchronousCommitsAreFlushed(t *testing.T) {
	t.Parallel()
	// A server of its own: others' commits would flush for it. Its WAL writer sleeps.
	server := serverstest.PostgresWith(t, map[string]string{"wal_writer_delay": "10s", "synchronous_commit": "off", "autovacuum": "off"})
	db := dial(t, server.URL("postgres"))
	if _, err := db.Exec(t.Context(), "create table t (id int)"); err != nil {
		t.Fatal(err)
	}
	w := durable.New(db, life(t, db))
	unflushed := 0
	for range 20 {
		if _, err := db.Exec(t.Context(), "insert into t select generate_series(1, 100)"); err != nil {
			t.Fatal(err)
		}
		insert, flushed := positions(t, db)
		if flushed < insert {
			unflushed++
		}
		began := time.Now()
		if err := w.Wait(t.Context(), insert, flushed); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("waited %v for what it can flush itself", took)
		}
		// Of a page's end, only the header of the next page may be missing.
		if _, now := positions(t, db); now+40 < insert {
			t.Fatalf("went on with the WAL flushed up to %X, and %X was wanted", now, insert)
		}
	}
	if unflushed == 0 {
		t.Error("every commit was flushed at once: nothing was tested")
	}
}

func TestWhatIsFlushedNeedsNoQuestion(t *testing.T) {
	t.Parallel()
	pool := dial(t, serverstest.Postgres(t))
	pool.Close() // whoever asks it gets an error
	w := durable.New(pool, "one")
	if err := w.Wait(t.Context(), 1000, 1000); err != nil {
		t.Error(err)
	}
	if err := w.Wait(t.Context(), 900, 0); err != nil {
		t.Errorf("it forgot how far the WAL is flushed: %v", err)
	}
	// The insert position stands behind the header of a page of which nothing is written.
	if err := w.Wait(t.Context(), 5*8192+40, 5*8192); err != nil {
		t.Errorf("a page header: %v", err)
	}
	if err := w.Wait(t.Context(), 6*8192+41, 6*8192); err == nil {
		t.Error("a record behind a page header was taken for flushed")
	}
}

func TestWaitFailsWhenPostgresCannotBeAsked(t *testing.T) {
	t.Parallel()
	db := dial(t, serverstest.Postgres(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := durable.New(db, life(t, db))
	if err := w.Wait(ctx, 1<<62, 0); err == nil {
		t.Error("a position that no server has reached was taken for flushed")
	}
	db.Close()
	if err := w.Wait(t.Context(), 1<<62, 0); err == nil {
		t.Error("after an error, the position was taken for flushed")
	}
}

// life gives a database an incarnation that does not change.
func life(t *testing.T, db *pgxpool.Pool) string {
	t.Helper()
	_, err := db.Exec(t.Context(), "create schema if not exists freshet; create or replace function freshet.incarnation() returns text language sql as $$ select 'one' $$")
	if err != nil {
		t.Fatal(err)
	}
	return "one"
}
