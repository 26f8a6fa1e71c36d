package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// hotTime is how long a round looks at the entry.
	hotTime = 8 * time.Second
	// hotWarm updates are more than there are before all clients are at it.
	hotWarm = 500
)

// hotRow updates one row as fast as eight clients can, and looks how old its entry is.
func hotRow(ctx context.Context, s *stage) ([]result, error) {
	if err := s.exec(ctx, "drop table if exists hot; create table hot (id bigint primary key, version bigint not null, at timestamptz not null) with (fillfactor = 50); insert into hot values (1, 0, now())"); err != nil {
		return nil, err
	}
	if err := s.exec(ctx, "select freshet.create_sink('hot', 'hot')"); err != nil {
		return nil, err
	}
	var ages, updates, sets series
	err := s.quietRounds(func(int) (m measured, err error) {
		err = s.serve(ctx, func() (err error) {
			if err := s.ready(ctx, "hot"); err != nil {
				return err
			}
			begun, err := s.hotVersion(ctx)
			if err != nil {
				return err
			}
			stop, err := s.pgbench("update hot set version = version + 1, at = clock_timestamp() where id = 1;\n", 8, 0)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, stop()) }()
			// While pgbench connects nothing is updated, and the entry is of the round before. And each client's first update holds
			// the row for as long as its session makes the trigger function ready, when there is no newer version either.
			if err := s.await(ctx, fmt.Sprintf("select at > now() - interval '1 second' and version > %d from hot", begun+hotWarm)); err != nil {
				return err
			}
			first, err := s.hotVersion(ctx)
			if err != nil {
				return err
			}
			for {
				entry, err := s.hotEntry(ctx)
				if err != nil {
					return err
				}
				if entry.Version >= first {
					break
				}
				if err := pause(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			before, err := s.hotCounts(ctx)
			if err != nil {
				return err
			}
			var age []time.Duration
			m.noise, err = others(func() (err error) {
				age, err = s.hotAges(ctx, hotTime/time.Duration(s.scale))
				return err
			})
			if err != nil {
				return err
			}
			after, err := s.hotCounts(ctx)
			if err != nil {
				return err
			}
			if err := stop(); err != nil {
				return err
			}
			seconds := after.at.Sub(before.at).Seconds()
			old, updated, set := milliseconds(quantile(age, 0.99)), float64(after.updates-before.updates)/seconds, float64(after.sets-before.sets)/seconds
			m.said = fmt.Sprintf("%.0f updates/s, %.0f writes/s; the entry is %.1f ms old at p50, %.1f at p99, %.1f at most", updated, set,
				milliseconds(quantile(age, 0.5)), old, milliseconds(quantile(age, 1)))
			m.count = func() { ages, updates, sets = append(ages, old), append(updates, updated), append(sets, set) }
			return s.applied(ctx, "hot")
		})
		return m, err
	})
	if err != nil {
		return nil, err
	}
	tenth, met := most(0.1)
	return []result{
		ages.judged("hot_row_age_p99", "ms", "at most 30 ms", func(v float64) bool { return v <= 30 }),
		sets.beside("hot_row_writes", "/s", "updates", updates, tenth, met),
	}, nil
}

// hotCounts are how many updates and writes to Redis there were, at one moment.
type hotCounts struct {
	at            time.Time
	updates, sets int64
}

func (s *stage) hotCounts(ctx context.Context) (c hotCounts, err error) {
	if c.updates, err = s.hotVersion(ctx); err != nil {
		return c, err
	}
	c.at = time.Now()
	c.sets, err = s.sets(ctx)
	return c, err
}

func (s *stage) hotVersion(ctx context.Context) (int64, error) {
	return one[int64](ctx, s, "select version from hot")
}

// hotAges looks every so often how long ago the entry's version was written.
func (s *stage) hotAges(ctx context.Context, over time.Duration) ([]time.Duration, error) {
	var ages []time.Duration
	for end := time.Now().Add(over); time.Now().Before(end); {
		entry, err := s.hotEntry(ctx)
		if err != nil {
			return nil, err
		}
		ages = append(ages, time.Since(entry.At))
		if err := pause(ctx, time.Millisecond); err != nil {
			return nil, err
		}
	}
	return ages, nil
}

// hotEntry is the row as the cache has it.
func (s *stage) hotEntry(ctx context.Context) (entry struct {
	Version int64
	At      time.Time
}, err error,
) {
	text, err := s.cache.Get(ctx, "hot:1").Bytes()
	if err != nil {
		return entry, err
	}
	return entry, json.Unmarshal(text, &entry)
}

// sets is how many times Redis has been told to set keys.
func (s *stage) sets(ctx context.Context) (n int64, err error) {
	info, err := s.cache.Info(ctx, "commandstats").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, err
	}
	for _, line := range strings.Split(info, "\r\n") {
		for _, command := range []string{"set", "mset"} {
			rest, found := strings.CutPrefix(line, fmt.Sprintf("cmdstat_%s:calls=", command))
			if !found {
				continue
			}
			calls, _, _ := strings.Cut(rest, ",")
			c, err := strconv.ParseInt(calls, 10, 64)
			if err != nil {
				return 0, err
			}
			n += c
		}
	}
	return n, nil
}
