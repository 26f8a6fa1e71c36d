package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Tables with and without capture, of the same rows, and one with the least that a trigger does who
// keeps a log of changes by SQL: one insert of each row's key. It is the writer that is measured: no worker
// runs, unless it is said. Nor does autovacuum on them, for it would meet one and not another: they are vacuumed before each
// measurement. The change table is as Freshet makes it, and the log as one makes a table.
const (
	bare     = "bare"
	captured = "captured"
	logged   = "logged"
	// compared is for updates of many rows: one with a trigger that looks whether any row has another key than before, and writes nothing.
	compared = "compared"

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
create trigger logs_delete after delete on logged referencing old table as o for each statement execute function log_change();
create or replace function compare_keys() returns trigger language plpgsql as $$ begin
	perform from (select array_agg(n.id) as keys from n) as n, (select array_agg(o.id) as keys from o) as o where n.keys <> o.keys;
	return null;
end $$;
create trigger compares after update on compared referencing old table as o new table as n for each statement execute function compare_keys()`
)

var (
	overheadTables = []string{bare, captured, logged}
	allTables      = append(slices.Clone(overheadTables), compared)
)

// overheads are what was measured of each table, kind by kind.
type overheads []map[string]series

// inTurn measures a round of one kind on all tables. They begin in another order each time, for
// what comes later finds warmer pages.
func (o overheads) inTurn(round, kind int, measure func(table string) (float64, error)) error {
	for i := range overheadTables {
		table := overheadTables[(i+round)%len(overheadTables)]
		v, err := measure(table)
		if err != nil {
			return err
		}
		o.add(kind, table, v)
	}
	return nil
}

func (o overheads) add(kind int, table string, v float64) {
	if o[kind] == nil {
		o[kind] = make(map[string]series)
	}
	o[kind][table] = append(o[kind][table], v)
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
	for _, name := range allTables {
		if err := s.exec(ctx, fmt.Sprintf(`drop table if exists %[1]s;
			create table %[1]s (id bigint primary key, branch integer not null, balance integer not null, filler char(84) not null default '') with (fillfactor = 80, autovacuum_enabled = off);
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

// fresh has a table without dead rows and with statistics, whatever was measured before.
func (s *stage) fresh(ctx context.Context, table string) error {
	return s.exec(ctx, "vacuum (analyze) "+table)
}

// What pgbench says at its end.
var (
	tps            = regexp.MustCompile(`tps = ([0-9.]+)`)
	latencyAverage = regexp.MustCompile(`latency average = ([0-9.]+) ms`)
)

// trim takes the tables back to so many rows, and empties the change table and the log, and has triggers know of
// it, as a worker does every few minutes. What was written of the WAL can be used again then.
func (s *stage) trim(ctx context.Context, rows int) error {
	for _, table := range allTables {
		if err := s.exec(ctx, fmt.Sprintf("delete from %s where id > %d", table, rows)); err != nil {
			return err
		}
		if err := s.fresh(ctx, table); err != nil {
			return err
		}
	}
	source, err := one[int](ctx, s, "select id from freshet.source where relid = 'captured'::regclass")
	if err != nil {
		return err
	}
	if err := s.wasCaptured(ctx, source); err != nil {
		return err
	}
	if err := s.exec(ctx, fmt.Sprintf("truncate changes_log, freshet.changes_%[1]d; select freshet.make_capture_function(%[1]d)", source)); err != nil {
		return err
	}
	return s.exec(ctx, "checkpoint")
}

// wasCaptured fails where the trigger has not done what it is measured by.
func (s *stage) wasCaptured(ctx context.Context, source int) error {
	captured, err := one[bool](ctx, s, fmt.Sprintf("select exists (select from freshet.changes_%d) and not exists (select from freshet.capture_gap)", source))
	if err == nil && !captured {
		err = errors.New("not everything was captured that was written")
	}
	return err
}

// pgbenchSays runs a script in four clients and returns what pgbench says of it.
func (s *stage) pgbenchSays(ctx context.Context, script, commit string, over time.Duration, more ...string) (string, error) {
	file := filepath.Join(s.dir, "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return "", err
	}
	args := append([]string{"--no-vacuum", "--client=4", "--jobs=1", "--protocol=prepared", fmt.Sprintf("--time=%d", max(1, int(over.Seconds()))), "--file=" + file}, more...)
	cmd := exec.CommandContext(ctx, "pgbench", append(args, s.databaseURL)...)
	cmd.Env = append(os.Environ(), "PGOPTIONS=-c synchronous_commit="+commit)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pgbench: %w: %s", err, out)
	}
	return string(out), nil
}

// saidNumber is one of what pgbench has said.
func saidNumber(said string, what *regexp.Regexp) (float64, error) {
	found := what.FindStringSubmatch(said)
	if found == nil {
		return 0, fmt.Errorf("pgbench says nothing like %s: %s", what, said)
	}
	return strconv.ParseFloat(found[1], 64)
}
