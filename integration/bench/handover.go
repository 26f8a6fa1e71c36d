package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// handOverTime is how long a round watches, and handOverEvery how far apart workers are ended in it.
	handOverTime  = 40 * time.Second
	handOverEvery = 4 * time.Second
)

// latencyHandOver is how long a commit takes to be visible while workers are replaced as a deployment does it: the one that holds
// the lane is ended by SIGTERM, the other takes it, and another is started.
func latencyHandOver(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(liveRows)
	if err := s.makeItems(ctx, rows); err != nil {
		return nil, err
	}
	var p50, p99, longest, handed series
	var all []time.Duration
	for round := range s.rounds {
		seen, ended, handOvers, err := s.deployments(ctx, rows)
		if err != nil {
			return nil, err
		}
		if ended == 0 || handOvers < ended {
			return nil, fmt.Errorf("%d workers that held the lane were ended, and it was handed over %d times", ended, handOvers)
		}
		p50 = append(p50, milliseconds(quantile(seen.visible, 0.5)))
		p99 = append(p99, milliseconds(quantile(seen.visible, 0.99)))
		longest = append(longest, milliseconds(quantile(seen.visible, 1)))
		handed = append(handed, float64(handOvers))
		all = append(all, seen.visible...)
		s.say("  round %d: p50 %.2f ms, p99 %.2f, the longest %.2f; %d workers ended, %d hand-overs", round+1, p50[round], p99[round], longest[round], ended, handOvers)
	}
	return []result{
		p50.judged("latency_handover_p50", "ms", "", nil),
		p99.judged("latency_handover_p99", "ms", "", nil),
		// Of all rounds together: a round alone has too few for it.
		series{milliseconds(quantile(all, 0.999))}.judged("latency_handover_p999", "ms", "", nil),
		longest.judged("latency_handover_longest", "ms", "", nil),
		handed.judged("latency_handover_count", "times", "", nil),
	}, nil
}

// deployments watches single commits while one worker of two is replaced again and again.
func (s *stage) deployments(ctx context.Context, rows int) (seen watched, ended, handOvers int64, err error) {
	c := crew{s: s, ends: make(map[string]func() error)}
	defer func() { err = errors.Join(err, c.end()) }()
	for range 2 {
		if err := c.join(ctx); err != nil {
			return seen, 0, 0, err
		}
	}
	w := watch{update: markItem("items"), prefix: "items:", rows: rows, least: 5 * time.Millisecond, most: 50 * time.Millisecond}
	handOvers, err = s.handOvers(ctx, "items", func() (err error) {
		seen, err = s.watch(ctx, w, func(ctx context.Context) error {
			for end := time.Now().Add(handOverTime / time.Duration(s.scale)); ended == 0 || time.Now().Before(end); ended++ {
				if err := pause(ctx, handOverEvery/time.Duration(s.scale)); err != nil {
					return err
				}
				if err := c.replace(ctx); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	})
	return seen, ended, handOvers, err
}

// crew are the workers that run, by their names: how to end each.
type crew struct {
	s    *stage
	ends map[string]func() error
}

// join starts one more and waits until it is known.
func (c *crew) join(ctx context.Context) error {
	known, err := one[[]string](ctx, c.s, "select array(select id from freshet.worker)")
	if err != nil {
		return err
	}
	_, end, err := c.s.worker(ctx)
	if err != nil {
		return err
	}
	if err := c.s.await(ctx, "select exists (select from freshet.worker where id <> all ($1))", known); err != nil {
		return errors.Join(err, end())
	}
	name, err := one[string](ctx, c.s, "select id from freshet.worker where id <> all ($1)", known)
	if err != nil {
		return errors.Join(err, end())
	}
	c.ends[name] = end
	return nil
}

// replace ends the one that holds the lane, and has another join.
func (c *crew) replace(ctx context.Context) error {
	if err := c.s.await(ctx, "select count(worker) = 1 from freshet.status where sink = 'items'"); err != nil {
		return err
	}
	name, err := one[string](ctx, c.s, "select worker from freshet.status where sink = 'items'")
	if err != nil {
		return err
	}
	end, is := c.ends[name]
	if !is {
		return fmt.Errorf("the lane is at %s, which is no worker of ours", name)
	}
	delete(c.ends, name)
	if err := end(); err != nil {
		return err
	}
	return c.join(ctx)
}

func (c *crew) end() error {
	var errs []error
	for _, end := range c.ends {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}
