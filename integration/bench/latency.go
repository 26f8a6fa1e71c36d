package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// liveRows are changed at random. A round watches Freshet for longer than a slice of a lane's job, at whose end the lane may have to
// be handed over, and those that it is compared with for a while.
const (
	liveRows  = 100_000
	sliceTime = 45 * time.Second
	watchTime = 8 * time.Second
)

// latencyIdle is how long a commit takes to be visible where little happens.
func latencyIdle(ctx context.Context, s *stage) ([]result, error) {
	return s.latency(ctx, "latency_idle", 0, 1.5, 5)
}

// latencyLoaded is the same while pgbench changes rows of the same table.
func latencyLoaded(ctx context.Context, s *stage) ([]result, error) {
	var list []result
	for _, rate := range []int{3000, 5000} {
		results, err := s.latency(ctx, fmt.Sprintf("latency_%d", rate), rate, 0, 30)
		if err != nil {
			return nil, err
		}
		list = append(list, results...)
	}
	return list, nil
}

// latencies are those of one contender: quantiles in milliseconds, a value a round.
type latencies struct {
	p50, p99 series
	// all are those of every round.
	all []time.Duration
	// loads are changes a second that pgbench came to.
	loads series
}

// latency watches Freshet, a worker made by hand, and a writer that reads and sets the entry
// itself, one after the other in every round, each time in another order. Without a limit there is no target.
func (s *stage) latency(ctx context.Context, name string, rate int, p50, p99 float64) ([]result, error) {
	rows := s.rows(liveRows)
	if err := s.makeItems(ctx, rows); err != nil {
		return nil, err
	}
	var (
		ours, hand, floor latencies
		lost              int
		taken             series // how often a lane was handed over
	)
	contenders := []struct {
		into  *latencies
		watch watch
		over  time.Duration
		serve func(body func() error) error
	}{
		{&ours, watch{prefix: "items:"}, sliceTime, func(body func() error) error {
			return s.serve(ctx, func() error {
				if err := s.applied(ctx, "items"); err != nil {
					return err
				}
				before, err := s.epochs(ctx, "items")
				if err != nil {
					return err
				}
				if err := body(); err != nil {
					return err
				}
				after, err := s.epochs(ctx, "items")
				taken = append(taken, float64(after-before))
				return err
			})
		}},
		{&hand, watch{prefix: "hand:", forgetful: true}, watchTime, func(body func() error) error {
			h, err := s.byHand(ctx, nil)
			if err != nil {
				return err
			}
			return errors.Join(body(), h.end())
		}},
		{&floor, watch{prefix: "direct:", after: s.writeThrough}, watchTime, func(body func() error) error { return body() }},
	}
	for round := range s.rounds {
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			w := c.watch
			w.update, w.rows, w.least, w.most = markItem, rows, 5*time.Millisecond, 50*time.Millisecond
			err := c.serve(func() error {
				var seen watched
				load, err := s.underLoad(ctx, rows, rate, func() (err error) {
					seen, err = s.watch(ctx, w, func(ctx context.Context) error { return pause(ctx, c.over/time.Duration(s.scale)) })
					return err
				})
				if err != nil {
					return err
				}
				c.into.p50 = append(c.into.p50, milliseconds(quantile(seen.visible, 0.5)))
				c.into.p99 = append(c.into.p99, milliseconds(quantile(seen.visible, 0.99)))
				c.into.all = append(c.into.all, seen.visible...)
				c.into.loads = append(c.into.loads, load)
				lost += len(seen.lost)
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		s.say("  round %d: p50 %.2f ms, p99 %.2f; %.0f hand-overs, %.0f other changes/s; by hand %.2f, %.2f; the writer itself %.2f, %.2f", round+1,
			ours.p50[round], ours.p99[round], taken[round], ours.loads[round], hand.p50[round], hand.p99[round], floor.p50[round], floor.p99[round])
	}
	if lost > 0 {
		s.say("  the worker made by hand never wrote %d of the changes", lost)
	}
	tenth, tenthMet := most(0.1)
	list := []result{ours.p50.beside(name+"_p50", "ms", "a polling worker", hand.p50, tenth, tenthMet)}
	if p50 > 0 {
		list[0] = ours.p50.beside(name+"_p50", "ms", "a polling worker", hand.p50, fmt.Sprintf("at most %v ms; %s", p50, tenth),
			func(v, r float64) bool { return v <= p50 && tenthMet(v, r) })
	}
	list = append(list,
		ours.p99.beside(name+"_p99", "ms", "a polling worker", hand.p99, fmt.Sprintf("at most %v ms", p99), func(v, _ float64) bool { return v <= p99 }),
		// Of all rounds together: a round alone has too few for it.
		series{milliseconds(quantile(ours.all, 0.999))}.judged(name+"_p999", "ms", "", nil))
	if rate > 0 {
		// What is measured is latency under that load: without it, it is something else.
		list = append(list, ours.loads.judged(name+"_load", "changes/s", fmt.Sprintf("at least %.0f", 0.95*float64(rate)), func(v float64) bool { return v >= 0.95*float64(rate) }))
	}
	return list, nil
}

// epochs are how many times lanes of a sink were taken.
func (s *stage) epochs(ctx context.Context, sink string) (int64, error) {
	return one[int64](ctx, s, "select sum(l.epoch)::bigint from freshet.lease l join freshet.sink s on s.id = l.sink_id where s.name = $1 and l.kind = 'sync'", sink)
}

// underLoad has pgbench change rows for as long as body takes, so many a second, and says how many there were; with 0, none.
func (s *stage) underLoad(ctx context.Context, rows, rate int, body func() error) (load float64, err error) {
	if rate == 0 {
		return 0, body()
	}
	count := func() (int64, error) { return one[int64](ctx, s, "select sum(stock) from items") }
	before, err := count()
	if err != nil {
		return 0, err
	}
	script := fmt.Sprintf("\\set id random(1, %d)\nupdate items set stock = stock + 1, updated_at = now() where id = :id;\n", rows)
	stop, err := s.pgbench(script, 8, rate)
	if err != nil {
		return 0, err
	}
	defer stop()
	begin := time.Now()
	err = body()
	stop()
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	after, err := count()
	return float64(after-before) / took.Seconds(), err
}

// writeThrough is what a writer does that keeps the entry itself: read the row, set the key.
func (s *stage) writeThrough(ctx context.Context, conn *pgx.Conn, id int) error {
	var value []byte
	if err := conn.QueryRow(ctx, "select to_jsonb(items) from items where id = $1", id).Scan(&value); err != nil {
		return err
	}
	return s.cache.Set(ctx, fmt.Sprintf("direct:%d", id), value, 0).Err()
}
