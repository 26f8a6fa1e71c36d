package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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

	piled, costs := 0, make(map[int]series)
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
	// Consumed and not yet emptied.
	if text, err = one[string](ctx, s, "select freshet.cursor_now()::text"); err != nil {
		return nil, err
	}
	later, err := cursor.Parse(text)
	if err != nil {
		return nil, err
	}
	if err := s.pile(ctx, sizes[0]); err != nil {
		return nil, err
	}
	consumedOpen, err := s.claimCost(ctx, sink, later)
	if err != nil {
		return nil, err
	}
	s.say("  backlog of %d after %d consumed changes, a transaction open: %.2f ms a claim", sizes[0], piled, consumedOpen)
	if err := held.Rollback(ctx); err != nil {
		return nil, err
	}
	closed, err := s.claimCost(ctx, sink, from)
	if err != nil {
		return nil, err
	}
	s.say("  backlog of %d, no transaction open: %.2f ms a claim", piled, closed)
	consumed, err := s.claimCost(ctx, sink, later)
	if err != nil {
		return nil, err
	}
	s.say("  backlog of %d after %d consumed changes: %.2f ms a claim", sizes[0], piled, consumed)
	if err := s.exec(ctx, "update freshet.installation set stop_bytes = default"); err != nil {
		return nil, err
	}
	small, largest := costs[sizes[0]], costs[sizes[len(sizes)-1]]
	same, met := most(1.5)
	return []result{
		largest.beside("claim_backlog_10m", "ms", "a backlog of 10,000", small, same, met),
		costs[sizes[1]].beside("claim_backlog_1m", "ms", "a backlog of 10,000", small, same, met),
		largest.beside("claim_open_transaction", "ms", "none open", closed, same, met),
		consumedOpen.beside("claim_after_10m_open_transaction", "ms", "none before, one open", small, same, met),
		consumed.beside("claim_after_10m", "ms", "none before", small, same, met),
	}, nil
}

// pile changes n rows in transactions that are small enough for each change to have a row of the
// change table.
func (s *stage) pile(ctx context.Context, n int) error {
	const together = 16
	return s.alone(ctx, fmt.Sprintf(`do $$ begin
		perform set_config('synchronous_commit', 'off', false);
		for i in 1..%[1]d by %[2]d loop
			update pile set n = n + 1 where id between i and least(i + %[2]d - 1, %[1]d);
			commit;
		end loop;
		end $$`, n, together))
}

// claimCost is what a claim takes, in milliseconds, a value a round: the median at the beginning of the backlog, in its middle and
// towards its end.
func (s *stage) claimCost(ctx context.Context, sink *catalog.Sink, from cursor.Cursor) (series, error) {
	// What was piled is vacuumed some time, and with a transaction open again and again.
	if err := s.await(ctx, "select not exists (select from pg_stat_activity where backend_type = 'autovacuum worker')"); err != nil {
		return nil, err
	}
	places, err := s.places(ctx, sink, from)
	if err != nil {
		return nil, err
	}
	var rounds series
	for range s.rounds {
		var took series
		for range 5 {
			for _, at := range places {
				cost, err := s.claims(ctx, sink, at)
				if err != nil {
					return nil, err
				}
				took = append(took, cost)
			}
		}
		rounds = append(rounds, took.median())
	}
	return rounds, nil
}

// places are cursors at the beginning of what is left after one, in its middle and near its end, where there is much.
func (s *stage) places(ctx context.Context, sink *catalog.Sink, from cursor.Cursor) ([]cursor.Cursor, error) {
	places := []cursor.Cursor{from}
	text, err := one[string](ctx, s, "select pg_current_snapshot()::text")
	if err != nil {
		return nil, err
	}
	window, err := cursor.ParseSnapshot(text)
	if err != nil {
		return nil, err
	}
	changes := fmt.Sprintf("freshet.changes_%d", sink.SourceID)
	left, err := one[int64](ctx, s, fmt.Sprintf("select count(*) from %s where not pg_visible_in_snapshot(xid, $1::text::pg_snapshot)", changes), from.Done.String())
	if err != nil || left < 20*claimBatch {
		return places, err
	}
	for _, part := range []int64{2, 10} {
		var (
			xid string
			id  int64
		)
		if err := s.db.QueryRow(ctx, fmt.Sprintf("select xid::text, id from %s order by xid, id offset $1 limit 1", changes), left-left/part).Scan(&xid, &id); err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(xid, 10, 64)
		if err != nil {
			return nil, err
		}
		places = append(places, from.At(window, n, id))
	}
	return places, nil
}

// claims is what each of a few successive claims takes, with reading their rows, as a lane makes them: the next is made while the
// rows of one are read.
func (s *stage) claims(ctx context.Context, sink *catalog.Sink, at cursor.Cursor) (float64, error) {
	// Nothing that the one before has begun.
	if err := s.await(ctx, `select not exists (select from pg_stat_activity
		where datname = current_database() and state = 'active' and pid <> pg_backend_pid())`); err != nil {
		return 0, err
	}
	reader, err := source.NewShardReader(s.db, sink, nil, 0)
	if err != nil {
		return 0, err
	}
	const claims = 3
	var (
		e     source.Entries
		begin time.Time
	)
	// The first plans and warms, and is of fewer changes.
	for i := range claims + 1 {
		if i == 1 {
			begin = time.Now()
		}
		e.Reset()
		b, err := reader.Claim(ctx, at, claimBatch, &e)
		for err == nil && b.More() {
			e.Reset()
			err = reader.Rest(ctx, &b, &e)
		}
		if err != nil {
			return 0, err
		}
		if b.CaughtUp && s.scale == 1 {
			return 0, errors.New("the backlog is too short for what is measured")
		}
		at = b.Next
	}
	return milliseconds(time.Since(begin)) / claims, nil
}
