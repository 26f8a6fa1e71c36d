package main

import (
	"context"
	"errors"
	"fmt"
)

// drainMemory has a worker meet three UPDATEs of all rows that many sinks are to follow.
func drainMemory(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(drainRows)
	if err := s.clear(ctx); err != nil {
		return nil, err
	}
	if err := s.makeRows(ctx, "items", rows); err != nil {
		return nil, err
	}
	peaks := make(map[int]series)
	for round := range s.rounds {
		for _, sinks := range []int{1, 20} {
			if err := s.fresh(ctx, "items"); err != nil {
				return nil, err
			}
			peak, err := s.flood(ctx, sinks)
			if err != nil {
				return nil, err
			}
			peaks[sinks] = append(peaks[sinks], peak)
			s.say("  round %d, %d sinks: %.1f MiB", round+1, sinks, peak)
		}
	}
	return []result{
		peaks[1].judged("drain_memory_1_sink", "MiB", "", nil),
		peaks[20].judged("drain_memory_20_sinks", "MiB", "at most 160 MiB", func(v float64) bool { return v <= 160 }),
	}, nil
}

// flood returns how much memory a worker has for so many sinks that are far behind, in MiB.
func (s *stage) flood(ctx context.Context, sinks int) (peak float64, err error) {
	names, err := s.follow(ctx, "items", sinks, 1)
	if err != nil {
		return 0, err
	}
	// Their lanes have to have begun, for what came before is a backfill's.
	if err := s.serve(ctx, func() error { return s.ready(ctx, names...) }); err != nil {
		return 0, err
	}
	for range 3 {
		if err := s.exec(ctx, "update items set stock = stock + 1"); err != nil {
			return 0, err
		}
	}
	pid, end, err := s.worker(ctx)
	if err != nil {
		return 0, err
	}
	err = s.applied(ctx, names...)
	peak, peakErr := peakMemory(pid)
	for _, name := range names {
		if err == nil {
			err = s.right(ctx, "items", name+":")
		}
	}
	if err := errors.Join(err, peakErr, s.leave(ctx, names), end()); err != nil {
		return 0, fmt.Errorf("%d sinks: %w", sinks, err)
	}
	return peak, s.empty(ctx)
}
