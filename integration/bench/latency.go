package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Rows that are changed at random, and how long each contender is watched in a round.
const (
	liveRows  = 100_000
	watchTime = 8 * time.Second
)

// latencyIdle is how long a commit takes to be visible where little happens.
func latencyIdle(ctx context.Context, s *stage) ([]result, error) {
	return s.latency(ctx, "latency_idle", 0, 50*time.Millisecond, 1.5, 5)
}

// latencyLoaded is the same while pgbench changes rows of the same table.
func latencyLoaded(ctx context.Context, s *stage) ([]result, error) {
	var list []result
	for _, rate := range []int{3000, 5000} {
		results, err := s.latency(ctx, fmt.Sprintf("latency_%d", rate), rate, 20*time.Millisecond, 0, 30)
		if err != nil {
			return nil, err
		}
		list = append(list, results...)
	}
	return list, nil
}

// latency watches Freshet, a worker made by hand, and a writer that reads and sets the entry
// itself, one after the other in every round. Without a limit there is no target.
func (s *stage) latency(ctx context.Context, name string, rate int, most time.Duration, p50, p99 float64) ([]result, error) {
	rows := s.rows(liveRows)
	if err := s.makeItems(ctx, rows); err != nil {
		return nil, err
	}
	var ours, hand, floor struct{ p50, p99, p999 series }
	lost := 0
	for round := range s.rounds {
		for _, c := range []struct {
			into  *struct{ p50, p99, p999 series }
			watch watch
			serve func(body func() error) error
		}{
			{&ours, watch{prefix: "items:"}, func(body func() error) error {
				return s.serve(ctx, func() error { return errors.Join(s.applied(ctx, "items"), body()) })
			}},
			{&hand, watch{prefix: "hand:", forgetful: true}, func(body func() error) error {
				h, err := s.byHand(ctx, nil)
				if err != nil {
					return err
				}
				return errors.Join(body(), h.end())
			}},
			{&floor, watch{prefix: "direct:", after: s.writeThrough}, func(body func() error) error { return body() }},
		} {
			w := c.watch
			w.update, w.rows, w.least, w.most = markItem, rows, 5*time.Millisecond, most
			err := c.serve(func() error {
				stop := func() {}
				if rate > 0 {
					var err error
					script := fmt.Sprintf("\\set id random(1, %d)\nupdate items set stock = stock + 1, updated_at = now() where id = :id;\n", rows)
					if stop, err = s.pgbench(script, 4, rate); err != nil {
						return err
					}
				}
				defer stop()
				seen, err := s.watch(ctx, w, func(ctx context.Context) error { return pause(ctx, watchTime/time.Duration(s.scale)) })
				if err != nil {
					return err
				}
				c.into.p50 = append(c.into.p50, milliseconds(quantile(seen.visible, 0.5)))
				c.into.p99 = append(c.into.p99, milliseconds(quantile(seen.visible, 0.99)))
				c.into.p999 = append(c.into.p999, milliseconds(quantile(seen.visible, 0.999)))
				lost += len(seen.lost)
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		s.say("  round %d: p50 %.2f ms, p99 %.2f, p99.9 %.2f; by hand %.2f, %.2f; the writer itself %.2f, %.2f", round+1,
			ours.p50[round], ours.p99[round], ours.p999[round], hand.p50[round], hand.p99[round], floor.p50[round], floor.p99[round])
	}
	if lost > 0 {
		s.say("  the worker made by hand never wrote %d of the changes", lost)
	}
	var list []result
	for _, q := range []struct {
		suffix     string
		ours, hand series
		limit      float64
	}{{"p50", ours.p50, hand.p50, p50}, {"p99", ours.p99, hand.p99, p99}} {
		r := q.ours.beside(name+"_"+q.suffix, "ms", "a polling worker", q.hand, "at most 0.1", func(r float64) bool { return r <= 0.1 })
		if q.suffix == "p99" {
			r.Target, r.OK = "", true
		}
		if q.limit > 0 {
			r.Target = fmt.Sprintf("at most %v ms; %s", q.limit, r.Target)
			r.OK = r.OK && q.ours.median() <= q.limit
		}
		list = append(list, r)
	}
	return list, nil
}

// writeThrough is what a writer does that keeps the entry itself: read the row, set the key.
func (s *stage) writeThrough(ctx context.Context, conn *pgx.Conn, id int) error {
	var value []byte
	if err := conn.QueryRow(ctx, "select to_jsonb(items) from items where id = $1", id).Scan(&value); err != nil {
		return err
	}
	return s.cache.Set(ctx, fmt.Sprintf("direct:%d", id), value, 0).Err()
}
