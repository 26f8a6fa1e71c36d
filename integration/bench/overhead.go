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

// Tables with and without capture, of the same rows. No worker runs: it is the writer that is
// measured.
const (
	overheadRows = 100_000
	overheadTime = 5 * time.Second
)

func (s *stage) makeOverhead(ctx context.Context, rows int) error {
	for _, name := range []string{"bare", "captured"} {
		if err := s.exec(ctx, fmt.Sprintf(`drop table if exists %[1]s;
			create table %[1]s (id bigint primary key, branch integer not null, balance integer not null, filler char(84) not null default '') with (fillfactor = 80);
			insert into %[1]s select g, g %% 100, 0 from generate_series(1, %[2]d) g`, name, rows)); err != nil {
			return err
		}
		if err := s.exec(ctx, "vacuum (analyze, freeze) "+name); err != nil {
			return err
		}
	}
	return s.exec(ctx, "select freshet.create_sink('captured', 'captured', backfill => false)")
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

// transactions runs a script in four clients and returns how many a second there were.
func (s *stage) transactions(ctx context.Context, script, commit string, over time.Duration) (float64, error) {
	file := filepath.Join(s.dir, "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "pgbench", "--no-vacuum", "--client=4", "--jobs=1", "--protocol=prepared",
		fmt.Sprintf("--time=%d", max(1, int(over.Seconds()))), "--file="+file, s.databaseURL)
	cmd.Env = append(os.Environ(), "PGOPTIONS=-c synchronous_commit="+commit)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	found := tps.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench says nothing of tps: %s", out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

// overheadSingle has pgbench change single rows with capture and without.
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
		{"insert_delete_async", "off", "\\set id random(1, 1000000000)\ninsert into %[1]s values (:id::bigint + %[2]d, 1, 1) on conflict do nothing;\ndelete from %[1]s where id = :id::bigint + %[2]d;\n", 0},
	}
	ours, bare := make([]series, len(kinds)), make([]series, len(kinds))
	for round := range s.rounds {
		for i, k := range kinds {
			// In turn, for what comes second finds warmer pages.
			tables := []string{"bare", "captured"}
			if round%2 == 1 {
				tables = []string{"captured", "bare"}
			}
			for _, table := range tables {
				v, err := s.transactions(ctx, fmt.Sprintf(k.script, table, rows), k.commit, overheadTime/time.Duration(s.scale))
				if err != nil {
					return nil, err
				}
				if table == "bare" {
					bare[i] = append(bare[i], v)
				} else {
					ours[i] = append(ours[i], v)
				}
			}
			s.say("  round %d, %s: %.0f/s; without capture %.0f/s (%.2f)", round+1, k.name, ours[i][round], bare[i][round], ours[i][round]/bare[i][round])
		}
	}
	var list []result
	for i, k := range kinds {
		r := ours[i].beside("overhead_"+k.name, "tps", "without capture", bare[i], fmt.Sprintf("at least %.2f", k.least), func(r float64) bool { return r >= k.least })
		if k.least == 0 {
			r.Target = "none"
		}
		list = append(list, r)
	}
	return list, nil
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
		{"insert", "insert into %[1]s select g, 1, 1 from generate_series(%[2]d + 1, 2 * %[2]d) g", 0},
		{"delete", "delete from %[1]s where id > %[2]d", 0},
		{"copy", "copy %[1]s (id, branch, balance) from program 'seq -f \"%%.0f\t1\t1\" %[3]d %[4]d'", 0},
	}
	ours, bare := make([]series, len(kinds)), make([]series, len(kinds))
	for round := range s.rounds {
		for i, k := range kinds {
			tables := []string{"bare", "captured"}
			if round%2 == 1 {
				tables = []string{"captured", "bare"}
			}
			for _, table := range tables {
				begin := time.Now()
				if err := s.exec(ctx, fmt.Sprintf(k.sql, table, rows, 2*rows+1, 3*rows)); err != nil {
					return nil, err
				}
				took := time.Since(begin).Seconds() * 1000
				if table == "bare" {
					bare[i] = append(bare[i], took)
				} else {
					ours[i] = append(ours[i], took)
				}
			}
			s.say("  round %d, %s: %.0f ms; without capture %.0f ms (%.2f)", round+1, k.name, ours[i][round], bare[i][round], ours[i][round]/bare[i][round])
		}
		for _, table := range []string{"bare", "captured"} {
			if err := s.exec(ctx, fmt.Sprintf("delete from %s where id > %d", table, rows)); err != nil {
				return nil, err
			}
			if err := s.exec(ctx, "vacuum "+table); err != nil {
				return nil, err
			}
		}
	}
	var list []result
	for i, k := range kinds {
		r := ours[i].beside("overhead_bulk_"+k.name, "ms", "without capture", bare[i], fmt.Sprintf("at most %.1f", k.most), func(r float64) bool { return r <= k.most })
		if k.most == 0 {
			r.Target, r.OK = "none", true
		}
		list = append(list, r)
	}
	return list, nil
}
