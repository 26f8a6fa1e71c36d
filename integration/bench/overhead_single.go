package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// single is a script of pgbench that writes few rows. Of its format's arguments the first is the table, the second how many rows it has.
type single struct {
	name string
	// commit is synchronous_commit.
	commit, script string
	least          float64
	// worker: one drains meanwhile what is captured, as fast as it can, and has nothing to do while others are measured.
	worker bool
}

const (
	singleUpdate       = "\\set id random(1, %[2]d)\nupdate %[1]s set balance = balance + 1 where id = :id;\n"
	singleInsert       = "\\set id random(1, 1000000000)\ninsert into %[1]s values (:id::bigint + %[2]d, 1, 1) on conflict do nothing;\n"
	singleInsertDelete = singleInsert + "delete from %[1]s where id = :id::bigint + %[2]d;\n"
)

var singles = []single{
	{name: "update_async", commit: "off", script: singleUpdate, least: 0.8},
	{name: "update_sync", commit: "on", script: singleUpdate, least: 0.95},
	{name: "update_async_worker", commit: "off", script: singleUpdate, worker: true},
	{name: "update_ten_async", commit: "off", script: "\\set id random(1, %[2]d - 10)\nupdate %[1]s set balance = balance + 1 where id between :id and :id + 9;\n"},
	{name: "transaction_async", commit: "off", script: "\\set id random(1, %[2]d)\nbegin;\nselect balance from %[1]s where id = :id;\nupdate %[1]s set balance = balance + 1 where id = :id;\ncommit;\n"},
	{name: "insert_async", commit: "off", script: singleInsert},
	{name: "insert_sync", commit: "on", script: singleInsert},
	{name: "insert_delete_sync", commit: "on", script: singleInsertDelete},
	{name: "insert_delete_async", commit: "off", script: singleInsertDelete},
}

// overheadSingle has pgbench change single rows with capture and without: by statements alone, and in
// transactions of several messages; ten rows at a time; beside a worker that drains meanwhile; and now and then, beside one that sleeps.
func overheadSingle(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(overheadRows)
	if err := s.makeOverhead(ctx, rows); err != nil {
		return nil, err
	}
	measured := make(overheads, len(singles))
	for round := range s.rounds {
		for n := range singles {
			// Each time in another order.
			i := (n + round) % len(singles)
			k := singles[i]
			if err := s.single(ctx, measured, round, i, rows); err != nil {
				return nil, err
			}
			s.say("  round %d, %s: %s", round+1, k.name, measured.said(round, i, "/s"))
		}
		if err := s.trim(ctx, rows); err != nil {
			return nil, err
		}
	}
	var list []result
	for i, k := range singles {
		target, met := least(k.least)
		if k.least == 0 {
			met = nil
		}
		list = append(list, measured.results(i, "overhead_"+k.name, "tps", target, met)...)
	}
	paced, err := s.overheadPaced(ctx, rows)
	return append(list, paced...), err
}

// single measures a round of one of them on all tables.
func (s *stage) single(ctx context.Context, measured overheads, round, kind, rows int) error {
	k := singles[kind]
	all := func() error {
		return measured.inTurn(round, kind, func(table string) (float64, error) {
			if k.worker {
				if err := s.ready(ctx, "captured"); err != nil {
					return 0, err
				}
			}
			if err := s.fresh(ctx, table); err != nil {
				return 0, err
			}
			said, err := s.pgbenchSays(ctx, fmt.Sprintf(k.script, table, rows), k.commit, overheadTime/time.Duration(s.scale))
			if err != nil {
				return 0, err
			}
			return saidNumber(said, tps)
		})
	}
	if k.worker {
		return s.serve(ctx, all)
	}
	return all()
}

// overheadPaced is how long an update of one row takes where a worker sleeps and wakes in between: writers that come now and then
// are those that ring for it.
func (s *stage) overheadPaced(ctx context.Context, rows int) ([]result, error) {
	measured, tails := make(overheads, 1), make(overheads, 1)
	err := s.serve(ctx, func() error {
		for round := range s.rounds {
			if err := measured.inTurn(round, 0, func(table string) (float64, error) {
				average, p99, err := s.paced(ctx, table, rows)
				if err == nil {
					tails.add(0, table, p99)
				}
				return average, err
			}); err != nil {
				return err
			}
			s.say("  round %d, paced: %s", round+1, measured.said(round, 0, " ms"))
			s.say("  round %d, paced, p99: %s", round+1, tails.said(round, 0, " ms"))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return append(measured.results(0, "overhead_update_paced", "ms", "", nil), tails.results(0, "overhead_update_paced_p99", "ms", "", nil)...), nil
}

// paced is what pgbench says of 200 updates a second of one table, in milliseconds: the average, and the p99 of those that it logs.
func (s *stage) paced(ctx context.Context, table string, rows int) (average, p99 float64, err error) {
	dir, err := os.MkdirTemp(s.dir, "log-")
	if err != nil {
		return 0, 0, err
	}
	if err := s.fresh(ctx, table); err != nil {
		return 0, 0, err
	}
	said, err := s.pgbenchSays(ctx, fmt.Sprintf(singleUpdate, table, rows), "on", overheadTime/time.Duration(s.scale), "--rate=200", "--log", "--log-prefix="+filepath.Join(dir, "log"))
	if err != nil {
		return 0, 0, err
	}
	if average, err = saidNumber(said, latencyAverage); err != nil {
		return 0, 0, err
	}
	list, err := loggedLatencies(dir)
	return average, milliseconds(quantile(list, 0.99)), err
}

// loggedLatencies reads the third column of a log of pgbench, in microseconds: how long each transaction took.
func loggedLatencies(dir string) ([]time.Duration, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil, err
	}
	var list []time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 3 {
				return nil, fmt.Errorf("pgbench logs %q", line)
			}
			took, err := strconv.Atoi(fields[2])
			if err != nil {
				return nil, fmt.Errorf("pgbench logs %q: %w", line, err)
			}
			list = append(list, time.Duration(took)*time.Microsecond)
		}
	}
	return list, nil
}
