package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// Tables with and without capture, of the same rows, and one with the least that a trigger does who
// keeps a log of changes by SQL: one insert of each row's key. It is the writer that is measured: no worker
// runs, unless it is said.
const (
	bare     = "bare"
	captured = "captured"
	logged   = "logged"

	overheadRows = 100_000
	overheadTime = 5 * time.Second

	logging = `drop table if exists changes_log;
create table changes_log (id bigint generated always as identity (cache 100), xid xid8 not null default pg_current_xact_id(), op "char" not null, k bigint);
create index on changes_log (xid, id);
create or replace function log_change() returns trigger language plpgsql as $$ begin
	if tg_op = 'DELETE' then
		insert into changes_log (op, k) select 'd', o.id from o;
	else
		insert into changes_log (op, k) select 'u', n.id from n;
	end if;
	return null;
end $$;
create trigger logs_insert after insert on logged referencing new table as n for each statement execute function log_change();
create trigger logs_update after update on logged referencing old table as o new table as n for each statement execute function log_change();
create trigger logs_delete after delete on logged referencing old table as o for each statement execute function log_change()`
)

// overheads are what was measured of each table, kind by kind.
type overheads []map[string]series

// inTurn measures a round of one kind on all tables. They begin in another order each time, for
// what comes later finds warmer pages.
func (o overheads) inTurn(round, kind int, measure func(table string) (float64, error)) error {
	tables := []string{bare, captured, logged}
	for i := range tables {
		table := tables[(i+round)%len(tables)]
		v, err := measure(table)
		if err != nil {
			return err
		}
		if o[kind] == nil {
			o[kind] = make(map[string]series)
		}
		o[kind][table] = append(o[kind][table], v)
	}
	return nil
}

// said is what a round of one kind came to.
func (o overheads) said(round, kind int, unit string) string {
	ours, without, least := o[kind][captured][round], o[kind][bare][round], o[kind][logged][round]
	return fmt.Sprintf("%s%s; without capture %s%s (%.2f), with one insert alone %s%s (%.2f)",
		number(ours), unit, number(without), unit, ours/without, number(least), unit, least/without)
}

// results are two for each kind: beside no capture, with a target, and what one insert alone comes
// to beside no capture.
func (o overheads) results(kind int, name, unit, target string, met func(value, ratio float64) bool) []result {
	return []result{
		o[kind][captured].beside(name, unit, "without capture", o[kind][bare], target, met),
		o[kind][logged].beside(name+"_floor", unit, "one insert alone, without capture", o[kind][bare], "", nil),
	}
}

func (s *stage) makeOverhead(ctx context.Context, rows int) error {
	for _, name := range []string{bare, captured, logged} {
		if err := s.exec(ctx, fmt.Sprintf(`drop table if exists %[1]s;
			create table %[1]s (id bigint primary key, branch integer not null, balance integer not null, filler char(84) not null default '') with (fillfactor = 80);
			insert into %[1]s select g, g %% 100, 0 from generate_series(1, %[2]d) g`, name, rows)); err != nil {
			return err
		}
		if err := s.exec(ctx, "vacuum (analyze, freeze) "+name); err != nil {
			return err
		}
	}
	if err := s.exec(ctx, logging); err != nil {
		return err
	}
	return s.exec(ctx, "select freshet.create_sink('captured', 'captured', backfill => false)")
}

// What pgbench says at its end.
var (
	tps            = regexp.MustCompile(`tps = ([0-9.]+)`)
	latencyAverage = regexp.MustCompile(`latency average = ([0-9.]+) ms`)
)

// trim takes the tables back to so many rows, and empties the change table and the log, and has triggers know of
// it, as a worker does every few minutes.
func (s *stage) trim(ctx context.Context, rows int) error {
	for _, table := range []string{bare, captured, logged} {
		if err := s.exec(ctx, fmt.Sprintf("delete from %s where id > %d", table, rows)); err != nil {
			return err
		}
		if err := s.exec(ctx, "vacuum "+table); err != nil {
			return err
		}
	}
	source, err := one[int](ctx, s, "select id from freshet.source where relid = 'captured'::regclass")
	if err != nil {
		return err
	}
	return s.exec(ctx, fmt.Sprintf("truncate changes_log, freshet.changes_%[1]d; select freshet.make_capture_function(%[1]d)", source))
}

// pgbenchSays runs a script in four clients and returns a number of what pgbench says of it.
func (s *stage) pgbenchSays(ctx context.Context, what *regexp.Regexp, script, commit string, over time.Duration, more ...string) (float64, error) {
	file := filepath.Join(s.dir, "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return 0, err
	}
	args := append([]string{"--no-vacuum", "--client=4", "--jobs=1", "--protocol=prepared", fmt.Sprintf("--time=%d", max(1, int(over.Seconds()))), "--file=" + file}, more...)
	cmd := exec.CommandContext(ctx, "pgbench", append(args, s.databaseURL)...)
	cmd.Env = append(os.Environ(), "PGOPTIONS=-c synchronous_commit="+commit)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	found := what.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench says nothing like %s: %s", what, out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

// overheadSingle has pgbench change single rows with capture and without: by statements alone, and in
// transactions of several messages; ten rows at a time; and now and then, beside a worker.
func overheadSingle(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(overheadRows)
	if err := s.makeOverhead(ctx, rows); err != nil {
		return nil, err
	}
	kinds := []struct {
		name, commit, script string
		least                float64
	}{
		{"update_async", "off", "\\set id random(1, %[2]d)\nupdate %[1]s set balance = balance + 1 where id = :id;\n", 0.8},
		{"update_sync", "on", "\\set id random(1, %[2]d)\nupdate %[1]s set balance = balance + 1 where id = :id;\n", 0.95},
		{"update_ten_async", "off", "\\set id random(1, %[2]d - 10)\nupdate %[1]s set balance = balance + 1 where id between :id and :id + 9;\n", 0},
		{"transaction_async", "off", "\\set id random(1, %[2]d)\nbegin;\nselect balance from %[1]s where id = :id;\nupdate %[1]s set balance = balance + 1 where id = :id;\ncommit;\n", 0},
		{"insert_async", "off", "\\set id random(1, 1000000000)\ninsert into %[1]s values (:id::bigint + %[2]d, 1, 1) on conflict do nothing;\n", 0},
		{"insert_delete_sync", "on", "\\set id random(1, 1000000000)\ninsert into %[1]s values (:id::bigint + %[2]d, 1, 1) on conflict do nothing;\ndelete from %[1]s where id = :id::bigint + %[2]d;\n", 0},
		{"insert_delete_async", "off", "\\set id random(1, 1000000000)\ninsert into %[1]s values (:id::bigint + %[2]d, 1, 1) on conflict do nothing;\ndelete from %[1]s where id = :id::bigint + %[2]d;\n", 0},
	}
	measured := make(overheads, len(kinds))
	for round := range s.rounds {
		for i, k := range kinds {
			if err := measured.inTurn(round, i, func(table string) (float64, error) {
				return s.pgbenchSays(ctx, tps, fmt.Sprintf(k.script, table, rows), k.commit, overheadTime/time.Duration(s.scale))
			}); err != nil {
				return nil, err
			}
			s.say("  round %d, %s: %s", round+1, k.name, measured.said(round, i, "/s"))
		}
		if err := s.trim(ctx, rows); err != nil {
			return nil, err
		}
	}
	var list []result
	for i, k := range kinds {
		target, met := least(k.least)
		if k.least == 0 {
			met = nil
		}
		list = append(list, measured.results(i, "overhead_"+k.name, "tps", target, met)...)
	}
	paced, err := s.overheadPaced(ctx, rows)
	return append(list, paced...), err
}

// overheadPaced is how long an update of one row takes where a worker sleeps and wakes in between: writers that come now and then
// are those that ring for it.
func (s *stage) overheadPaced(ctx context.Context, rows int) ([]result, error) {
	measured := make(overheads, 1)
	err := s.serve(ctx, func() error {
		for round := range s.rounds {
			if err := measured.inTurn(round, 0, func(table string) (float64, error) {
				script := fmt.Sprintf("\\set id random(1, %[2]d)\nupdate %[1]s set balance = balance + 1 where id = :id;\n", table, rows)
				return s.pgbenchSays(ctx, latencyAverage, script, "on", overheadTime/time.Duration(s.scale), "--rate=200")
			}); err != nil {
				return err
			}
			s.say("  round %d, paced: %s", round+1, measured.said(round, 0, " ms"))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return measured.results(0, "overhead_update_paced", "ms", "", nil), nil
}

// overheadBulk writes many rows in one statement with capture and without.
func overheadBulk(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(overheadRows)
	if err := s.makeOverhead(ctx, rows); err != nil {
		return nil, err
	}
	kinds := []struct {
		name, sql string
		most      float64
	}{
		{"update", "update %[1]s set balance = balance + 1", 1.4},
		{"update_async", "set local synchronous_commit = off; update %[1]s set balance = balance + 1", 1.4},
		{"insert", "insert into %[1]s select g, 1, 1 from generate_series(%[2]d + 1, 2 * %[2]d) g", 0},
		{"delete", "delete from %[1]s where id > %[2]d", 0},
		{"copy", "copy %[1]s (id, branch, balance) from program 'seq -f \"%%.0f\t1\t1\" %[3]d %[4]d'", 0},
	}
	measured := make(overheads, len(kinds))
	for round := range s.rounds {
		for i, k := range kinds {
			if err := measured.inTurn(round, i, func(table string) (float64, error) {
				begin := time.Now()
				err := s.exec(ctx, fmt.Sprintf(k.sql, table, rows, 2*rows+1, 3*rows))
				return time.Since(begin).Seconds() * 1000, err
			}); err != nil {
				return nil, err
			}
			s.say("  round %d, %s: %s", round+1, k.name, measured.said(round, i, " ms"))
		}
		if err := s.trim(ctx, rows); err != nil {
			return nil, err
		}
	}
	var list []result
	for i, k := range kinds {
		target, met := most(k.most)
		if k.most == 0 {
			met = nil
		}
		list = append(list, measured.results(i, "overhead_bulk_"+k.name, "ms", target, met)...)
	}
	return list, nil
}
