package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
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
	burst := func() error {
		return s.exec(ctx, "update items set stock = stock + 1, updated_at = clock_timestamp()")
	}
	// The first of them is not to have a table that nobody has written to yet.
	if err := burst(); err != nil {
		return nil, err
	}
	took, err := s.inTurn(ctx, "s", time.Duration.Seconds, map[string]func(t *timing) error{
		"ours": func(t *timing) error {
			return s.serve(ctx, func() error {
				if err := errors.Join(s.ready(ctx, "items"), burst()); err != nil {
					return err
				}
				if err := t.run(func() error { return s.applied(ctx, "items") }); err != nil {
					return err
				}
				return s.right(ctx, "items", "items:")
			})
		},
		"by hand": func(t *timing) error {
			h, err := s.byHand(ctx, "items", nil)
			if err != nil {
				return err
			}
			err = burst()
			if err == nil {
				err = t.run(func() error { return h.await(ctx, int64(rows)) })
			}
			return errors.Join(err, h.end())
		},
		"read and set": func(t *timing) error { return s.refreshAll(ctx, t, allRanges(rows), burst) },
	})
	if err != nil {
		return nil, err
	}
	half, met := most(0.5)
	limit := 1.5 * float64(rows) / drainRows
	return []result{
		took["ours"].beside("drain_burst", "s", "a polling worker", took["by hand"], half+"; at most 1.5 s", func(v, r float64) bool { return met(v, r) && v <= limit }),
		took["ours"].beside("drain_burst_floor", "s", "reading and setting alone", took["read and set"], "", nil),
		took["read and set"].beside("drain_burst_floor_by_hand", "s", "a polling worker", took["by hand"], "", nil),
	}, nil
}

// inTurn measures each of these in every round, each time in another order, on a table that is as fresh for one as for another.
func (s *stage) inTurn(ctx context.Context, unit string, value func(time.Duration) float64, contenders map[string]func(t *timing) error) (map[string]series, error) {
	names := slices.Sorted(maps.Keys(contenders))
	all := make(map[string]series)
	err := s.quietRounds(func(round int) (m measured, err error) {
		var said []string
		values := make(map[string]float64)
		for i := range names {
			name := names[(i+round)%len(names)]
			var t timing
			if err := errors.Join(s.fresh(ctx, "items"), contenders[name](&t)); err != nil {
				return m, err
			}
			values[name], m.noise = value(t.took), max(m.noise, t.noise)
			said = append(said, fmt.Sprintf("%s %s %s", name, number(values[name]), unit))
		}
		m.said = strings.Join(said, ", ")
		m.count = func() {
			for name, v := range values {
				all[name] = append(all[name], v)
			}
		}
		return m, nil
	})
	return all, err
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
	lanes, err := s.lanes(ctx, "items")
	if err != nil {
		return nil, err
	}
	waiting := func() (since time.Time, changed int64, err error) {
		if since, err = one[time.Time](ctx, s, "select max(updated_at) from items"); err != nil {
			return since, 0, err
		}
		if err := s.alone(ctx, "call single_updates($1, $2)", rows, rows); err != nil {
			return since, 0, err
		}
		changed, err = one[int64](ctx, s, "select count(*) from items where updated_at > $1", since)
		return since, changed, err
	}
	// fromStart is how long it takes from the start of the process, in seconds, with the rounds that do not count.
	var fromStart series
	perSecond := func(took time.Duration) float64 { return float64(rows) / took.Seconds() }
	// The first of them is not to have a table that nobody has written to yet: by its timestamps that is read from its beginning to its end.
	if _, _, err := waiting(); err != nil {
		return nil, err
	}
	speeds, err := s.inTurn(ctx, "changes/s", perSecond, map[string]func(t *timing) error{
		"ours": func(t *timing) error {
			// What the others have left is no part of it.
			if err := s.serve(ctx, func() error { return s.applied(ctx, "items") }); err != nil {
				return err
			}
			if _, _, err := waiting(); err != nil {
				return err
			}
			before, err := s.cache.HGet(ctx, lanes[0].key, "fence").Result()
			if err != nil {
				return err
			}
			start := time.Now()
			var worker errgroup.Group
			var end func() error
			worker.Go(func() (err error) {
				_, end, err = s.worker(ctx)
				return err
			})
			// From when it takes the lane; how long a process takes to come to that is told apart.
			for fence := before; fence == before && err == nil; nap(lookEvery) {
				fence, err = s.cache.HGet(ctx, lanes[0].key, "fence").Result()
			}
			err = errors.Join(err, t.run(func() error { return s.applied(ctx, "items") }))
			fromStart = append(fromStart, time.Since(start).Seconds())
			if startErr := worker.Wait(); startErr != nil {
				return errors.Join(err, startErr)
			}
			if err == nil {
				err = s.right(ctx, "items", "items:")
			}
			return errors.Join(err, end())
		},
		"by hand": func(t *timing) error {
			since, changed, err := waiting()
			if err != nil {
				return err
			}
			var h *handmade
			if err := t.run(func() (err error) {
				if h, err = s.byHand(ctx, "items", &since); err == nil {
					err = h.await(ctx, changed)
				}
				return err
			}); err != nil {
				return err
			}
			return h.end()
		},
		"read and set": func(t *timing) error {
			all := allKeys(rows, func(i int) int64 { return 1 + (int64(i)+1)*7919%int64(rows) })
			return s.refreshAll(ctx, t, all, func() error { _, _, err := waiting(); return err })
		},
	})
	if err != nil {
		return nil, err
	}
	twice, met := least(2)
	return []result{
		speeds["ours"].beside("drain_backlog", "changes/s", "a polling worker", speeds["by hand"], twice+"; at least 150000/s",
			func(v, r float64) bool { return met(v, r) && v >= 150_000 }),
		speeds["ours"].beside("drain_backlog_floor", "changes/s", "reading by key and setting alone", speeds["read and set"], "", nil),
		speeds["read and set"].beside("drain_backlog_floor_by_hand", "changes/s", "a polling worker", speeds["by hand"], "", nil),
		fromStart.judged("drain_backlog_from_start", "s", "", nil),
	}, nil
}

// byHandWrong does to both what a worker that polls a timestamp cannot see: deletes, and
// transactions that commit after later ones. It counts the entries that are wrong in the end.
func byHandWrong(ctx context.Context, s *stage) ([]result, error) {
	rows := s.rows(20_000)
	if err := s.makeItems(ctx, rows); err != nil {
		return nil, err
	}
	var ours, hand wrongs
	for round := range s.rounds {
		err := s.serve(ctx, func() error {
			if err := s.ready(ctx, "items"); err != nil {
				return err
			}
			// Both begin with every entry right.
			if err := s.exec(ctx, "insert into items select g, 'x', 'new', 1, 1, '{}', now() from generate_series(1, $1::bigint) g on conflict do nothing", rows); err != nil {
				return err
			}
			var none time.Time
			h, err := s.byHand(ctx, "items", &none)
			if err != nil {
				return err
			}
			return errors.Join(s.surprise(ctx, h, rows), h.end())
		})
		if err != nil {
			return nil, err
		}
		for _, c := range []struct {
			into   *wrongs
			prefix string
		}{{&ours, "items:"}, {&hand, "hand:"}} {
			w, err := s.wrong(ctx, "items", c.prefix)
			if err != nil {
				return nil, err
			}
			c.into.stale = append(c.into.stale, float64(w.stale+w.missing))
			c.into.orphaned = append(c.into.orphaned, float64(w.orphaned))
		}
		s.say("  round %d: %.0f entries stale or missing, %.0f orphaned; by hand %.0f, %.0f", round+1, ours.stale[round], ours.orphaned[round], hand.stale[round], hand.orphaned[round])
	}
	return []result{
		shown("wrong_entries_late_commits", ours.stale, hand.stale),
		shown("wrong_entries_deletes", ours.orphaned, hand.orphaned),
	}, nil
}

// shown is of the worst rounds: that with the most wrong entries of ours, and that where the fault of what it is compared with
// showed the least. A round in which that had none shows nothing.
func shown(name string, ours, hand series) result {
	r := result{Name: name, Value: slices.Max(ours), Unit: "entries", Baseline: "a polling worker", BaselineValue: slices.Min(hand), Target: "0 entries, and some of the other's", Rounds: len(ours)}
	for i := range ours {
		if ours[i] == 0 && hand[i] > 0 {
			r.Met++
		}
	}
	r.OK = r.Met == r.Rounds
	if r.BaselineValue > 0 {
		r.Ratio = r.Value / r.BaselineValue
	}
	return r
}

// wrongs are how many entries are stale or missing, and how many have no row, a value a round.
type wrongs struct{ stale, orphaned series }

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
