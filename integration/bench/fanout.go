package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// fanoutRows are updated in one statement, for every sink to follow.
const fanoutRows = 100_000

// fanout drains a burst with several shards, workers and sinks.
func fanout(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(fanoutRows)
	if err := s.exec(ctx, fmt.Sprintf(`drop table if exists fans; create table fans (id bigint primary key, n integer not null, name text not null) with (fillfactor = 50);
		insert into fans select g, 0, 'Name ' || g from generate_series(1, %d) g`, rows)); err != nil {
		return nil, err
	}
	if err := s.exec(ctx, "vacuum (analyze, freeze) fans"); err != nil {
		return nil, err
	}
	ways := []struct {
		name                   string
		shards, workers, sinks int
	}{
		{"1 shard, 1 worker", 1, 1, 1}, {"2 shards", 2, 1, 1}, {"4 shards", 4, 1, 1}, {"2 shards, 2 workers", 2, 2, 1}, {"4 shards, 2 workers", 4, 2, 1},
		{"5 sinks", 1, 1, 5}, {"20 sinks", 1, 1, 20}, {"20 sinks, 2 workers", 1, 2, 20},
	}
	speeds := make([]series, len(ways))
	for round := range s.rounds {
		for n := range ways {
			// Each time in another order, on a table that is as fresh for one as for another.
			i := (n + round) % len(ways)
			way := ways[i]
			if err := s.exec(ctx, "vacuum fans"); err != nil {
				return nil, err
			}
			v, err := s.fan(ctx, rows, way.shards, way.workers, way.sinks)
			if err != nil {
				return nil, err
			}
			speeds[i] = append(speeds[i], v)
			s.say("  round %d, %s: %.0f entries/s", round+1, way.name, v)
		}
	}
	var list []result
	for i, way := range ways[1:] {
		name := "fanout_" + strings.NewReplacer(", ", "_", " ", "_").Replace(way.name)
		list = append(list, speeds[i+1].beside(name, "entries/s", ways[0].name, speeds[0], "", nil))
	}
	return list, s.exec(ctx, "drop table fans")
}

// fan is one way of it, in entries a second.
func (s *stage) fan(ctx context.Context, rows, shards, workers, sinks int) (speed float64, err error) {
	names, err := s.follow(ctx, "fans", sinks, shards)
	if err != nil {
		return 0, err
	}
	var ends []func() error
	defer func() {
		for _, end := range ends {
			err = errors.Join(err, end())
		}
	}()
	for range workers {
		_, end, err := s.worker(ctx)
		if err != nil {
			return 0, err
		}
		ends = append(ends, end)
	}
	// Every lane has a worker, and where there are two workers both have some.
	if err := s.await(ctx, "select count(distinct worker) = least($1, count(*)) and count(worker) = count(*) from freshet.status", workers); err != nil {
		return 0, err
	}
	if err := s.ready(ctx, names...); err != nil {
		return 0, err
	}
	if err := s.exec(ctx, "update fans set n = n + 1"); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := s.applied(ctx, names...); err != nil {
		return 0, err
	}
	took := time.Since(begin)
	for _, name := range names {
		if err := s.right(ctx, "fans", name+":"); err != nil {
			return 0, err
		}
	}
	if err := s.leave(ctx, names); err != nil {
		return 0, err
	}
	return float64(rows*sinks) / took.Seconds(), s.empty(ctx)
}

// follow makes so many sinks of a table, which are not warmed, and returns their names.
func (s *stage) follow(ctx context.Context, table string, sinks, shards int) (names []string, err error) {
	for i := range sinks {
		name := fmt.Sprintf("%s_%d", table, i)
		names = append(names, name)
		err := s.exec(ctx, "select freshet.create_sink($1::text, $3::text::regclass, key => $1::text || ':${id}', shards => $2, backfill => false)", name, shards, table)
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// leave drops sinks and waits until a worker has seen it.
func (s *stage) leave(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := s.exec(ctx, "select freshet.drop_sink($1, keep_entries => true)", name); err != nil {
			return err
		}
	}
	return s.await(ctx, "select not exists (select from freshet.sinks)")
}
