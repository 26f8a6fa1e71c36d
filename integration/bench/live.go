package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/servers"
)

const (
	// liveRate is how many rows a second pgbench changes beside the backfill.
	liveRate = 2000
	// lookEvery is how often Redis is asked whether a change has arrived.
	lookEvery = 200 * time.Microsecond
)

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
		list = append(list, result{
			Name: q.name, Value: q.busy.median(), Unit: "ms", Baseline: "without a backfill", BaselineValue: q.calm.median(), Ratio: q.busy.against(q.calm),
			Target: fmt.Sprintf("at most %.0f ms", q.limit), OK: q.busy.median() <= q.limit,
		})
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
	stop, err := s.update(rows)
	if err != nil {
		return busy, calm, err
	}
	defer stop()
	for round := range s.rounds {
		sample := func(into *ages, over func(context.Context) error) error {
			visible, pings, err := s.watch(ctx, rows, over)
			if err != nil {
				return err
			}
			into.p50 = append(into.p50, milliseconds(quantile(visible, 0.5)))
			into.p99 = append(into.p99, milliseconds(quantile(visible, 0.99)))
			into.ping = append(into.ping, milliseconds(quantile(pings, 0.99)))
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

// update has pgbench change rows until stop is called.
func (s *stage) update(rows int) (stop func(), err error) {
	script := filepath.Join(s.dir, "update.sql")
	text := fmt.Sprintf("\\set id random(1, %d)\nupdate people set score = score + 1 where id = :id;\n", rows)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p, err := servers.StartProcess(exec.Command("pgbench", "--no-vacuum", "--client=4", fmt.Sprintf("--rate=%d", liveRate),
		"--protocol=prepared", "--time=3600", "--file="+script, s.databaseURL))
	if err != nil {
		return nil, fmt.Errorf("start pgbench: %w", err)
	}
	return sync.OnceFunc(func() {
		p.Signal(os.Interrupt)
		if !p.Exited(5 * time.Second) {
			p.Kill()
		}
	}), nil
}

// watch commits single changes a random while apart, for as long as over takes, and returns
// how long each took to be visible, and how long another client waited for Redis.
func (s *stage) watch(ctx context.Context, rows int, over func(context.Context) error) (visible, pings []time.Duration, err error) {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	reader, other := s.client(), s.client()
	defer reader.Close()
	defer other.Close()

	done := make(chan error, 1)
	go func() { done <- over(ctx) }()
	pinging, stopPinging := context.WithCancel(ctx)
	var pinger sync.WaitGroup
	pinger.Go(func() {
		for pinging.Err() == nil {
			begin := time.Now()
			if other.Ping(pinging).Err() == nil {
				pings = append(pings, time.Since(begin))
			}
			_ = pause(pinging, time.Millisecond)
		}
	})
	end := func() {
		stopPinging()
		pinger.Wait()
	}
	defer end()
	for {
		select {
		case err := <-done:
			end()
			return visible, pings, err
		default:
		}
		if err := pause(ctx, time.Duration(5+rand.IntN(15))*time.Millisecond); err != nil {
			return nil, nil, err
		}
		id, mark := 1+rand.IntN(rows), fmt.Sprintf("mark %d", rand.Int64())
		if _, err := conn.Exec(ctx, "update people set status = $1 where id = $2", mark, id); err != nil {
			return nil, nil, err
		}
		begin := time.Now()
		for {
			value, err := reader.Get(ctx, fmt.Sprintf("people:%d", id)).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return nil, nil, err
			}
			if strings.Contains(value, mark) {
				break
			}
			if time.Since(begin) > 30*time.Second {
				return nil, nil, fmt.Errorf("a change of row %d is not visible after 30 s", id)
			}
			_ = pause(ctx, lookEvery)
		}
		visible = append(visible, time.Since(begin))
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
