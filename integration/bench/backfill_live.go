package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// liveRate is how many rows a second pgbench changes beside the backfill.
const liveRate = 2000

// backfillLiveLatency changes rows of a table while it is warmed, and measures how long a
// commit takes to be visible in Redis and what another client of Redis notices.
func backfillLiveLatency(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(1_000_000)
	if err := s.makeTable(ctx, "people", rows); err != nil {
		return nil, err
	}
	if err := s.empty(ctx); err != nil {
		return nil, err
	}
	_, end, err := s.worker(ctx)
	if err != nil {
		return nil, err
	}
	busy, calm, err := s.beside(ctx, rows)
	if err == nil {
		err = s.unmake(ctx, "people")
	}
	if err = errors.Join(err, end()); err != nil {
		return nil, err
	}
	var list []result
	for _, q := range []struct {
		name  string
		busy  series
		calm  series
		limit float64
	}{
		{"backfill_live_latency_p50", busy.p50, calm.p50, 15},
		{"backfill_live_latency_p99", busy.p99, calm.p99, 50},
		{"backfill_redis_ping_p99", busy.ping, calm.ping, 5},
	} {
		list = append(list, q.busy.beside(q.name, "ms", "without a backfill", q.calm, fmt.Sprintf("at most %.0f ms", q.limit),
			func(v, _ float64) bool { return v <= q.limit }))
	}
	return list, nil
}

// ages are quantiles, in milliseconds, a value a round.
type ages struct{ p50, p99, ping series }

// beside measures with a backfill and without, in turn.
func (s *stage) beside(ctx context.Context, rows int) (busy, calm ages, err error) {
	if err := s.exec(ctx, "select freshet.create_sink('people', 'people', key => 'people:${id}')"); err != nil {
		return busy, calm, err
	}
	if err := s.await(ctx, "select bool_and(state = 'completed') from freshet.backfills"); err != nil {
		return busy, calm, err
	}
	w := watch{update: "update people set status = $1 where id = $2", prefix: "people:", rows: rows, least: 5 * time.Millisecond, most: 20 * time.Millisecond, pinged: true}
	stop, err := s.pgbench(fmt.Sprintf("\\set id random(1, %d)\nupdate people set score = score + 1 where id = :id;\n", rows), 4, liveRate)
	if err != nil {
		return busy, calm, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for round := range s.rounds {
		sample := func(into *ages, over func(context.Context) error) error {
			seen, err := s.watch(ctx, w, over)
			if err != nil {
				return err
			}
			into.p50 = append(into.p50, milliseconds(quantile(seen.visible, 0.5)))
			into.p99 = append(into.p99, milliseconds(quantile(seen.visible, 0.99)))
			into.ping = append(into.ping, milliseconds(quantile(seen.pings, 0.99)))
			return nil
		}
		if err := sample(&calm, func(ctx context.Context) error { return pause(ctx, 5*time.Second/time.Duration(s.scale)) }); err != nil {
			return busy, calm, err
		}
		err := sample(&busy, func(ctx context.Context) error {
			id, err := one[int64](ctx, s, "select freshet.backfill('people')")
			if err != nil {
				return err
			}
			return s.await(ctx, "select state in ('sweeping', 'completed') from freshet.backfills where id = $1", id)
		})
		if err != nil {
			return busy, calm, err
		}
		if err := s.await(ctx, "select bool_and(state = 'completed') from freshet.backfills"); err != nil {
			return busy, calm, err
		}
		s.say("  round %d: p50 %.1f ms, p99 %.1f ms, ping %.2f ms; without a backfill %.1f, %.1f, %.2f", round+1,
			busy.p50[round], busy.p99[round], busy.ping[round], calm.p50[round], calm.p99[round], calm.ping[round])
	}
	stop()
	verify := exec.CommandContext(ctx, s.binary, "verify", "people")
	verify.Env = s.environment()
	if out, err := verify.CombinedOutput(); err != nil {
		return busy, calm, fmt.Errorf("freshet verify: %w: %s", err, out)
	}
	return busy, calm, nil
}
