package main

import (
	"context"
	"errors"
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
	if err := s.ready(ctx, names...); err != nil {
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
		backends = append(backends, 100*float64(after.since(before))/float64(over))
		asked, err := s.idleQueries(ctx)
		if err != nil {
			return nil, err
		}
		queries = append(queries, asked)
		s.say("  round %d: worker %.2f %% of a core, its backends %.2f %%, %.1f queries/s", round+1, worker[round], backends[round], queries[round])
	}
	return []result{
		worker.judged("idle_worker", "% of a core", "at most 1 %", func(v float64) bool { return v <= 1 }),
		backends.judged("idle_backends", "% of a core", "", nil),
		queries.judged("idle_queries", "queries/s", "at most 15/s", func(v float64) bool { return v <= 15 }),
	}, nil
}

// idleQueries counts the statements of all kinds that Postgres executes for workers, a second. They are written to its log
// meanwhile, and so are counted apart from what they cost.
func (s *stage) idleQueries(ctx context.Context) (perSecond float64, err error) {
	const count = `select count(*) from regexp_matches(pg_read_file(pg_current_logfile()), '^freshet[^|]*\|LOG:  (?:statement|execute)', 'gn')`
	logged := func(what string) error {
		if err := s.exec(ctx, "alter system set log_statement = "+what); err != nil {
			return err
		}
		return s.exec(ctx, "select pg_reload_conf()")
	}
	if err := logged("'all'"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, logged("'none'")) }()
	if err := s.await(ctx, "select setting = 'all' from pg_settings where name = 'log_statement'"); err != nil {
		return 0, err
	}
	before, err := one[int64](ctx, s, count)
	if err != nil {
		return 0, err
	}
	over := max(idleTime/time.Duration(s.scale), 3*time.Second)
	if err := pause(ctx, over); err != nil {
		return 0, err
	}
	after, err := one[int64](ctx, s, count)
	return float64(after-before) / over.Seconds(), err
}

// idleCounts is what has been used up so far.
type idleCounts struct {
	worker time.Duration
	// backends by their pids: one that ends takes what it has used with it.
	backends map[int]time.Duration
}

// since is what backends have used since then.
func (c idleCounts) since(before idleCounts) (used time.Duration) {
	for pid, now := range c.backends {
		used += now - before.backends[pid]
	}
	return used
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
	c.backends = make(map[int]time.Duration)
	for _, backend := range pids {
		cpu, err := cpuTime(backend)
		if err != nil {
			return c, err
		}
		c.backends[backend] = cpu
	}
	return c, nil
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
