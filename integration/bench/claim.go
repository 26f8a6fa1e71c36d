package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/source"
)

// claimBatch is how many changes a claim takes, as a lane does that has a backlog.
const claimBatch = 2000

// claimScaling measures what one claim costs in front of backlogs of different sizes, with a
// writing transaction open from before the first change, and without; and behind as many that
// are consumed.
func claimScaling(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(1_000_000)
	if err := s.exec(ctx, fmt.Sprintf(`drop table if exists pile; create table pile (id bigint primary key, n integer not null) with (fillfactor = 50);
		insert into pile select g, 0 from generate_series(1, %d) g`, rows)); err != nil {
		return nil, err
	}
	if err := s.exec(ctx, "vacuum (analyze, freeze) pile"); err != nil {
		return nil, err
	}
	if err := s.exec(ctx, "update freshet.installation set stop_bytes = 1::bigint << 40"); err != nil {
		return nil, err
	}
	if err := s.exec(ctx, "select freshet.create_sink('pile', 'pile', backfill => false)"); err != nil {
		return nil, err
	}
	sink, err := catalog.LoadSinkNamed(ctx, s.db, "pile")
	if err != nil {
		return nil, err
	}
	text, err := one[string](ctx, s, "select cursor from freshet.lease where kind = 'sync'")
	if err != nil {
		return nil, err
	}
	from, err := cursor.Parse(text)
	if err != nil {
		return nil, err
	}
	// Open from before the first change; it writes, so it has an xid of its own.
	open, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return nil, err
	}
	defer open.Close(context.WithoutCancel(ctx))
	held, err := open.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := held.Exec(ctx, "create temporary table mine as select pg_current_xact_id() as xid"); err != nil {
		return nil, err
	}

	piled, costs := 0, make(map[int]float64)
	sizes := []int{rows / 100, rows, 10 * rows}
	for _, size := range sizes {
		for piled < size {
			n := min(rows, size-piled)
			if err := s.pile(ctx, n); err != nil {
				return nil, err
			}
			piled += n
		}
		if costs[size], err = s.claimCost(ctx, sink, from); err != nil {
			return nil, err
		}
		s.say("  backlog of %d, a transaction open: %.2f ms a claim", size, costs[size])
	}
	if err := held.Rollback(ctx); err != nil {
		return nil, err
	}
	closed, err := s.claimCost(ctx, sink, from)
	if err != nil {
		return nil, err
	}
	s.say("  backlog of %d, no transaction open: %.2f ms a claim", piled, closed)
	// Consumed and not yet emptied.
	if text, err = one[string](ctx, s, "select freshet.cursor_now()::text"); err != nil {
		return nil, err
	}
	if from, err = cursor.Parse(text); err != nil {
		return nil, err
	}
	if err := s.pile(ctx, sizes[0]); err != nil {
		return nil, err
	}
	consumed, err := s.claimCost(ctx, sink, from)
	if err != nil {
		return nil, err
	}
	s.say("  backlog of %d after %d consumed changes: %.2f ms a claim", sizes[0], piled, consumed)
	if err := s.exec(ctx, "update freshet.installation set stop_bytes = default"); err != nil {
		return nil, err
	}
	largest := sizes[len(sizes)-1]
	compare := func(name, baseline string, v, base float64) result {
		return result{Name: name, Value: v, Unit: "ms", Baseline: baseline, BaselineValue: base, Ratio: v / base, Target: "ratio at most 1.5", OK: v/base <= 1.5}
	}
	return []result{
		compare("claim_backlog_10m", "a backlog of 10,000", costs[largest], costs[sizes[0]]),
		compare("claim_backlog_1m", "a backlog of 10,000", costs[sizes[1]], costs[sizes[0]]),
		compare("claim_open_transaction", "none open", costs[largest], closed),
		compare("claim_after_10m", "none before", consumed, costs[sizes[0]]),
	}, nil
}

// pile changes n rows by statements that are small enough for each change to have a row of the
// change table.
func (s *stage) pile(ctx context.Context, n int) error {
	const together = 16
	return s.exec(ctx, fmt.Sprintf(`do $$ begin
		for i in 1..%[1]d by %[2]d loop update pile set n = n + 1 where id between i and least(i + %[2]d - 1, %[1]d); end loop;
		end $$`, n, together))
}

// claimCost is the median of what a claim takes at the beginning of the backlog, in milliseconds.
func (s *stage) claimCost(ctx context.Context, sink *catalog.Sink, from cursor.Cursor) (float64, error) {
	reader, err := source.NewShardReader(s.db, sink, nil, 0)
	if err != nil {
		return 0, err
	}
	// What was piled is vacuumed some time, and with a transaction open again and again.
	if err := s.await(ctx, "select not exists (select from pg_stat_activity where backend_type = 'autovacuum worker')"); err != nil {
		return 0, err
	}
	var (
		took series
		e    source.Entries
	)
	// The first one plans and warms.
	at := from
	for i := range 16 {
		e.Reset()
		begin := time.Now()
		b, err := reader.Claim(ctx, at, claimBatch, &e)
		if err != nil {
			return 0, err
		}
		if i > 0 {
			took = append(took, milliseconds(time.Since(begin)))
		}
		if at = b.Next; b.CaughtUp || (i+2)*claimBatch > 10_000 {
			at = from
		}
	}
	return took.median(), nil
}
