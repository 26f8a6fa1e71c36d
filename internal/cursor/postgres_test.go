package cursor_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/servers/serverstest"
)

// most bounds the transaction ids of the snapshots that are compared one by one.
const most = 30

func installed(t *testing.T) *pgxpool.Pool {
	t.Helper()
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), serverstest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := install.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return pool
}

func ask[T any](t *rapid.T, db *pgxpool.Pool, sql string, args ...any) T {
	rows, err := db.Query(context.Background(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestSeesWhatPostgresSees(t *testing.T) {
	db := installed(t)
	rapid.Check(t, func(t *rapid.T) {
		s := snapshots(most).Draw(t, "snapshot")
		seen := ask[[]bool](t, db, "select array_agg(pg_visible_in_snapshot(x::text::xid8, $1::text::pg_snapshot) order by x) from generate_series(1, $2::int) x", s.String(), most+2)
		for i, want := range seen {
			if xid := uint64(i + 1); s.Sees(xid) != want {
				t.Errorf("%s sees %d: %v, and Postgres says %v", s, xid, !want, want)
			}
		}
	})
}

func TestCoversSaysTheSameInGoAndInSQL(t *testing.T) {
	db := installed(t)
	rapid.Check(t, func(t *rapid.T) {
		outer, inner := snapshots(most).Draw(t, "outer"), snapshots(most).Draw(t, "inner")
		want := true
		for xid := uint64(1); xid < most+2; xid++ {
			want = want && (outer.Sees(xid) || !inner.Sees(xid))
		}
		if got := outer.Covers(inner); got != want {
			t.Errorf("%s covers %s: Go says %v", outer, inner, got)
		}
		if got := ask[bool](t, db, "select freshet.snapshot_covers($1::text::pg_snapshot, $2::text::pg_snapshot)", outer.String(), inner.String()); got != want {
			t.Errorf("%s covers %s: SQL says %v", outer, inner, got)
		}
	})
}

func TestWindowIsWhatIsNewlyVisible(t *testing.T) {
	db := installed(t)
	rapid.Check(t, func(t *rapid.T) {
		// Either way: a cursor can be above a snapshot that was taken before it.
		older, newer := snapshots(most).Draw(t, "old"), snapshots(most).Draw(t, "new")
		ranges := ask[[]string](t, db,
			"select coalesce(array_agg(lo::text || '-' || hi::text), '{}') from freshet.window_ranges($1::text::pg_snapshot, $2::text::pg_snapshot)",
			older.String(), newer.String())
		var (
			got  []uint64
			here = newer.Since(older)
		)
		if len(here) != len(ranges) {
			t.Fatalf("from %s to %s: %v, and SQL says %v", older, newer, here, ranges)
		}
		for i, r := range ranges {
			var lo, hi uint64
			if _, err := fmt.Sscanf(r, "%d-%d", &lo, &hi); err != nil || lo > hi || here[i] != (cursor.Range{Lo: lo, Hi: hi}) {
				t.Fatalf("from %s to %s: range %q (%v), and Go says %v", older, newer, r, err, here[i])
			}
			for xid := lo; xid <= hi; xid++ {
				got = append(got, xid)
			}
		}
		var want []uint64
		for xid := uint64(1); xid < most+2; xid++ {
			if newer.Sees(xid) && !older.Sees(xid) {
				want = append(want, xid)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("from %s to %s: %v, want %v", older, newer, got, want)
		}
	})
}

func TestCursorNowHidesNothingThatIsNotFinished(t *testing.T) {
	db := installed(t)
	open, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Rollback(context.Background())
	var other, own uint64
	var now string
	if err := open.QueryRow(t.Context(), "select pg_current_xact_id()::text::bigint").Scan(&other); err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if err := tx.QueryRow(t.Context(), "select pg_current_xact_id()::text::bigint").Scan(&own); err != nil {
		t.Fatal(err)
	}
	// A younger one ends: from here on, our own counts as ended in our own snapshot.
	if _, err := db.Exec(t.Context(), "select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	if err := tx.QueryRow(t.Context(), "select freshet.cursor_now()::text").Scan(&now); err != nil {
		t.Fatal(err)
	}
	c, err := cursor.Parse(now)
	if err != nil {
		t.Fatal(err)
	}
	for _, xid := range []uint64{other, own} {
		if c.Done.Sees(xid) {
			t.Error("the cursor " + now + " has passed transaction " + strconv.FormatUint(xid, 10) + ", which runs")
		}
	}
}
