package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// backfill warms a table of a million rows.
func backfill(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(1_000_000)
	if err := s.makeTable(ctx, "people", rows); err != nil {
		return nil, err
	}
	var ours, pipes, floors, reads, renders series
	for round := range s.rounds {
		for _, contender := range []struct {
			into *series
			run  func() (float64, error)
		}{
			{&pipes, func() (float64, error) { return s.pipe(ctx, "people", rows) }},
			{&floors, func() (float64, error) { return s.floor(ctx, "people", &floor{client: s.cache}) }},
			{&ours, func() (float64, error) {
				_, end, err := s.worker(ctx)
				if err != nil {
					return 0, err
				}
				took, err := s.warm(ctx, "people", "")
				return float64(rows) / took.Seconds(), errors.Join(err, end())
			}},
			{&reads, func() (float64, error) { return s.floor(ctx, "people", &floor{all: true}) }},
			{&renders, func() (float64, error) { return s.floor(ctx, "people", &floor{}) }},
		} {
			if err := s.empty(ctx); err != nil {
				return nil, err
			}
			v, err := contender.run()
			if err != nil {
				return nil, err
			}
			*contender.into = append(*contender.into, v)
		}
		s.say("  round %d: %.0f rows/s; pipe %.0f, floor %.0f; COPY alone %.0f, COPY and JSON %.0f", round+1,
			ours[round], pipes[round], floors[round], reads[round], renders[round])
	}
	thrice, thriceMet := least(3)
	near, nearMet := least(0.8)
	return []result{
		ours.beside("backfill", "rows/s", "psql | redis-cli --pipe", pipes, thrice, thriceMet),
		ours.beside("backfill_floor", "rows/s", "a bare loop", floors, near, nearMet),
	}, nil
}

// empty removes what the last contender left. No sink may be there.
func (s *stage) empty(ctx context.Context) error { return s.cache.FlushAll(ctx).Err() }

// warm makes a sink of a table, with more arguments than its key, and returns how long its backfill took from the call to its
// end. A worker must run. Afterwards the sink is gone and its entries have been counted.
func (s *stage) warm(ctx context.Context, table, more string) (time.Duration, error) {
	create := fmt.Sprintf("select freshet.create_sink('%[1]s', '%[1]s', key => '%[1]s:${id}', backfill => false%[2]s)", table, more)
	if err := s.exec(ctx, create); err != nil {
		return 0, err
	}
	if err := s.await(ctx, "select bool_and(state = 'live') from freshet.status where sink = $1", table); err != nil {
		return 0, err
	}
	begin := time.Now()
	id, err := one[int64](ctx, s, "select freshet.backfill($1)", table)
	if err != nil {
		return 0, err
	}
	if err := s.await(ctx, "select state in ('sweeping', 'completed') from freshet.backfills where id = $1", id); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	return took, s.unmake(ctx, table)
}

// unmake drops a sink after its entries have been counted, and leaves them there.
func (s *stage) unmake(ctx context.Context, table string) error {
	want, err := one[int64](ctx, s, "select count(*) from "+table)
	if err != nil {
		return err
	}
	var got int64
	iter := s.cache.Scan(ctx, 0, table+":*", 10_000).Iterator()
	for iter.Next(ctx) {
		got++
	}
	if err := iter.Err(); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%d entries of %d rows", got, want)
	}
	if err := s.exec(ctx, "select freshet.drop_sink($1, keep_entries => true)", table); err != nil {
		return err
	}
	return s.await(ctx, "select not exists (select from freshet.sinks where sink = $1)", table)
}
