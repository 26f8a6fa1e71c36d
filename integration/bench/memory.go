package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// backfillMemory warms tables of different sizes, each with a worker of its own.
func backfillMemory(ctx context.Context, s *stage) ([]result, error) {
	small, large := s.rows(1_000_000), s.rows(5_000_000)
	var peaks, larger, wider series
	for _, t := range []struct {
		name string
		make func() error
		into *series
	}{
		{"people", func() error { return s.makeTable(ctx, "people", small) }, &peaks},
		{"many", func() error { return s.makeTable(ctx, "many", large) }, &larger},
		{"wide", func() error {
			// One row in a thousand has 100 kB.
			if err := s.makeTable(ctx, "wide", small); err != nil {
				return err
			}
			return s.exec(ctx, `update wide set settings = jsonb_build_object('blob',
				(select string_agg(md5(i::text || id), '') from generate_series(1, 3125) i)) where id % 1000 = 0`)
		}, &wider},
	} {
		if err := t.make(); err != nil {
			return nil, err
		}
		for range (s.rounds + 1) / 2 {
			if err := s.empty(ctx); err != nil {
				return nil, err
			}
			pid, end, err := s.worker(ctx)
			if err != nil {
				return nil, err
			}
			_, err = s.warm(ctx, t.name, "")
			peak, peakErr := peakMemory(pid)
			if err := errors.Join(err, peakErr, end()); err != nil {
				return nil, err
			}
			*t.into = append(*t.into, peak)
			s.say("  %s: %.1f MiB", t.name, peak)
		}
		if err := s.exec(ctx, "drop table "+t.name); err != nil {
			return nil, err
		}
	}
	target, met := most(1.1)
	return []result{
		peaks.judged("backfill_memory", "MiB", "at most 64 MiB", func(v float64) bool { return v <= 64 }),
		larger.beside("backfill_memory_rows", "MiB", "a fifth of the rows", peaks, target, met),
		wider.beside("backfill_memory_wide", "MiB", "narrow rows only", peaks, target, met),
	}, nil
}

// peakMemory is the most that was resident of a process, in MiB.
func peakMemory(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of a process is read from /proc: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			kilobytes, err := strconv.ParseFloat(fields[1], 64)
			return kilobytes / 1024, err
		}
	}
	return 0, errors.New("/proc says nothing of VmHWM")
}
