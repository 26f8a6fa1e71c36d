package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// drainRows is how many rows the drained table has, and how many changes there are.
const drainRows = 200_000

// drainBurst updates every row in one transaction and measures from its commit to the last
// entry.
func drainBurst(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(drainRows)
	if err := s.makeItems(ctx, rows); err != nil {
		return nil, err
	}
	var ours, hand, floor series
	for round := range s.rounds {
		burst := func() error { return s.exec(ctx, "update items set stock = stock + 1, updated_at = clock_timestamp()") }
		err := s.serve(ctx, func() error {
			if err := errors.Join(s.applied(ctx, "items"), burst()); err != nil {
				return err
			}
			begin := time.Now()
			err := s.applied(ctx, "items")
			ours = append(ours, time.Since(begin).Seconds())
			return err
		})
		if err != nil {
			return nil, err
		}
		h, err := s.byHand(ctx, nil)
		if err != nil {
			return nil, err
		}
		if err := burst(); err != nil {
			return nil, errors.Join(err, h.end())
		}
		begin := time.Now()
		err = h.await(ctx, int64(rows))
		hand = append(hand, time.Since(begin).Seconds())
		if err := errors.Join(err, h.end()); err != nil {
			return nil, err
		}
		begin = time.Now()
		if err := s.readAndSet(ctx, rows); err != nil {
			return nil, err
		}
		floor = append(floor, time.Since(begin).Seconds())
		s.say("  round %d: %.2f s; by hand %.2f s; reading by key and setting %.2f s", round+1, ours[round], hand[round], floor[round])
		if err := s.exec(ctx, "vacuum items"); err != nil {
			return nil, err
		}
	}
	if err := s.right(ctx); err != nil {
		return nil, err
	}
	r := ours.beside("drain_burst", "s", "a polling worker", hand, "at most 0.5; at most 1.5 s", func(r float64) bool { return r <= 0.5 })
	r.OK = r.OK && ours.median() <= 1.5*float64(rows)/drainRows
	return []result{r, ours.beside("drain_burst_floor", "s", "SELECT by key and SET alone", floor, "", func(float64) bool { return true })}, nil
}

// readAndSet reads all rows by their keys in batches and sets their entries, and nothing else.
func (s *stage) readAndSet(ctx context.Context, rows int) error {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	const batch = 2000
	ids := make([]int64, 0, batch)
	for from := 1; from <= rows; from += batch {
		ids = ids[:0]
		for id := from; id < min(from+batch, rows+1); id++ {
			ids = append(ids, int64(id))
		}
		found, err := conn.Query(ctx, "select id, to_jsonb(items) from items where id = any ($1)", ids)
		if err != nil {
			return err
		}
		pipe := s.cache.Pipeline()
		var (
			id    int64
			value []byte
		)
		_, err = pgx.ForEachRow(found, []any{&id, &value}, func() error {
			pipe.Set(ctx, fmt.Sprintf("direct:%d", id), append([]byte(nil), value...), 0)
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// drainBacklog has a worker begin with many one-row transactions that wait for it.
func drainBacklog(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(drainRows)
	if err := s.makeItems(ctx, rows); err != nil {
		return nil, err
	}
	if err := s.exec(ctx, `create or replace procedure single_updates(n int, rows int) language plpgsql as $$
		begin
			set synchronous_commit = off;
			for i in 1..n loop
				update items set stock = stock + 1, updated_at = clock_timestamp() where id = 1 + i * 7919::bigint % rows;
				commit;
			end loop;
		end $$`); err != nil {
		return nil, err
	}
	var ours, hand series
	for round := range s.rounds {
		since, err := one[time.Time](ctx, s, "select max(updated_at) from items")
		if err != nil {
			return nil, err
		}
		if err := s.exec(ctx, "call single_updates($1, $2)", rows, rows); err != nil {
			return nil, err
		}
		h, err := s.byHand(ctx, &since)
		if err != nil {
			return nil, err
		}
		changed, err := one[int64](ctx, s, "select count(*) from items where updated_at > $1", since)
		if err != nil {
			return nil, errors.Join(err, h.end())
		}
		begin := time.Now()
		err = h.await(ctx, changed)
		hand = append(hand, float64(rows)/time.Since(begin).Seconds())
		if err := errors.Join(err, h.end()); err != nil {
			return nil, err
		}

		keys, err := s.lanes(ctx, "items")
		if err != nil {
			return nil, err
		}
		before, err := s.cache.HGet(ctx, keys[0], "fence").Result()
		if err != nil {
			return nil, err
		}
		_, end, err := s.worker(ctx)
		if err != nil {
			return nil, err
		}
		// From when it takes the lane: how long a process takes to start is not asked here.
		for fence := before; fence == before && err == nil; {
			fence, err = s.cache.HGet(ctx, keys[0], "fence").Result()
		}
		begin = time.Now()
		if err := errors.Join(err, s.applied(ctx, "items")); err != nil {
			return nil, errors.Join(err, end())
		}
		ours = append(ours, float64(rows)/time.Since(begin).Seconds())
		if err := end(); err != nil {
			return nil, err
		}
		s.say("  round %d: %.0f changes/s; by hand %.0f", round+1, ours[round], hand[round])
		if err := s.exec(ctx, "vacuum items"); err != nil {
			return nil, err
		}
	}
	if err := s.right(ctx); err != nil {
		return nil, err
	}
	r := ours.beside("drain_backlog", "changes/s", "a polling worker", hand, "at least 2; at least 150000/s", func(r float64) bool { return r >= 2 })
	r.OK = r.OK && ours.median() >= 150_000
	return []result{r}, nil
}

// byHandWrong does to both what a worker that polls a timestamp cannot see: deletes, and
// transactions that commit after later ones. It counts the entries that are wrong in the end.
func byHandWrong(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(20_000)
	if err := s.makeItems(ctx, rows); err != nil {
		return nil, err
	}
	var ours, hand series
	for round := range s.rounds {
		err := s.serve(ctx, func() error {
			if err := s.applied(ctx, "items"); err != nil {
				return err
			}
			// Both begin with every entry right.
			if err := s.exec(ctx, "insert into items select g, 'x', 'new', 1, 1, '{}', now() from generate_series(1, $1::bigint) g on conflict do nothing", rows); err != nil {
				return err
			}
			var none time.Time
			h, err := s.byHand(ctx, &none)
			if err != nil {
				return err
			}
			return errors.Join(s.surprise(ctx, h, rows), h.end())
		})
		if err != nil {
			return nil, err
		}
		for _, c := range []struct {
			into   *series
			prefix string
		}{{&ours, "items:"}, {&hand, "hand:"}} {
			n, err := s.wrong(ctx, c.prefix)
			if err != nil {
				return nil, err
			}
			*c.into = append(*c.into, float64(n))
		}
		s.say("  round %d: %.0f entries wrong; by hand %.0f", round+1, ours[round], hand[round])
	}
	return []result{{Name: "wrong_entries", Value: ours.median(), Unit: "entries", Baseline: "a polling worker", BaselineValue: hand.median(),
		Target: "none", OK: ours.median() == 0 && hand.median() > 0}}, nil
}

// surprise waits for the worker made by hand to have everything, then deletes rows, and
// commits late what was changed early.
func (s *stage) surprise(ctx context.Context, h *handmade, rows int) error {
	if err := h.await(ctx, int64(rows)); err != nil {
		return err
	}
	early, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return err
	}
	defer early.Close(context.WithoutCancel(ctx))
	tx, err := early.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "update items set stock = -1, updated_at = now() where id % 100 = 1"); err != nil {
		return err
	}
	if err := s.exec(ctx, "update items set stock = 0, updated_at = now() where id % 100 = 2"); err != nil {
		return err
	}
	if err := s.exec(ctx, "delete from items where id % 100 = 3"); err != nil {
		return err
	}
	// It looks five times meanwhile.
	if err := pause(ctx, 5*handmadeEvery); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	return errors.Join(pause(ctx, 5*handmadeEvery), s.applied(ctx, "items"))
}
