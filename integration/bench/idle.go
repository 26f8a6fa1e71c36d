package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	idleSinks = 20
	idleTime  = 30 * time.Second
	// tick is the unit of the times in /proc.
	tick = 10 * time.Millisecond
)

// idleCost is what a worker and its backends cost while nobody writes.
func idleCost(ctx context.Context, s *stage) ([]result, error) {
	var names []string
	for i := range idleSinks {
		name := fmt.Sprintf("idle_%d", i)
		names = append(names, name)
		if err := s.exec(ctx, fmt.Sprintf("drop table if exists %[1]s; create table %[1]s (id bigint primary key, name text); insert into %[1]s values (1, 'a')", name)); err != nil {
			return nil, err
		}
		if err := s.exec(ctx, "select freshet.create_sink($1, $1::text::regclass)", name); err != nil {
			return nil, err
		}
	}
	var worker, backends, queries series
	pid, end, err := s.worker(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = end() }()
	if err := s.await(ctx, "select bool_and(state = 'completed') from freshet.backfills"); err != nil {
		return nil, err
	}
	if err := s.applied(ctx, names...); err != nil {
		return nil, err
	}
	for round := range s.rounds {
		before, err := s.idleCounts(ctx, pid)
		if err != nil {
			return nil, err
		}
		// Backends tell what they have done after a second or so.
		over := max(idleTime/time.Duration(s.scale), 3*time.Second)
		if err := pause(ctx, over); err != nil {
			return nil, err
		}
		after, err := s.idleCounts(ctx, pid)
		if err != nil {
			return nil, err
		}
		worker = append(worker, 100*float64(after.worker-before.worker)/float64(over))
		backends = append(backends, 100*float64(after.backends-before.backends)/float64(over))
		queries = append(queries, float64(after.queries-before.queries)/over.Seconds())
		s.say("  round %d: worker %.2f %% of a core, its backends %.2f %%, %.1f queries/s", round+1, worker[round], backends[round], queries[round])
	}
	return []result{
		{Name: "idle_worker", Value: worker.median(), Unit: "% of a core", Target: "at most 1 %", OK: worker.median() <= 1},
		{Name: "idle_backends", Value: backends.median(), Unit: "% of a core", Target: "none", OK: true},
		{Name: "idle_queries", Value: queries.median(), Unit: "queries/s", Target: "at most 15/s", OK: queries.median() <= 15},
	}, nil
}

// idleCounts is what has been used up so far.
type idleCounts struct {
	worker, backends time.Duration
	// queries are transactions, of which each of an idle worker's is one statement or a few.
	queries int64
}

func (s *stage) idleCounts(ctx context.Context, pid int) (c idleCounts, err error) {
	if c.worker, err = cpuTime(pid); err != nil {
		return c, err
	}
	rows, err := s.db.Query(ctx, "select pid from pg_stat_activity where application_name like 'freshet%' and datname = current_database()")
	if err != nil {
		return c, err
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return c, err
	}
	for _, backend := range pids {
		cpu, err := cpuTime(backend)
		if err != nil {
			return c, err
		}
		c.backends += cpu
	}
	c.queries, err = one[int64](ctx, s, "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()")
	return c, err
}

// cpuTime is what a process has used of processors.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("times of a process are read from /proc: %w", err)
	}
	// Behind the command, which may have spaces in it: the state is the first field.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat says %q", pid, stat)
	}
	var total int64
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		total += ticks
	}
	return time.Duration(total) * tick, nil
}
