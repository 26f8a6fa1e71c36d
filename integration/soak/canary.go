package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// grace is how long after its end a fault may still be the reason for a lag: another
// worker may wait ten seconds before it takes over.
const grace = 12 * time.Second

// notable is how long an entry may stay behind before a line says so.
const notable = 8 * time.Second

// canaries is how many rows are written and watched at the same time.
const canaries = 2

// windows are the times in which faults were at work.
type windows struct {
	mu   sync.Mutex
	list []*window
}

type window struct{ from, to time.Time } // to is zero while it is open

func (w *windows) open() (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := &window{from: time.Now()}
	w.list = append(w.list, one)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		one.to = time.Now()
	}
}

// touch reports whether a fault was at work, or just had been, at any time between.
func (w *windows) touch(from, to time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.list {
		if one.from.Before(to) && (one.to.IsZero() || one.to.Add(grace).After(from)) {
			return true
		}
	}
	return false
}

// canary measures how long entries stay behind: it commits a mark and looks for it in Redis.
type canary struct {
	run_ *run
	mark int64
	mu   sync.Mutex
}

func newCanary(r *run) *canary { return &canary{run_: r} }

// run watches until ctx ends. A mark that is not there by then counts with the time until
// then; whether it is there at last is for the check to say.
func (c *canary) run(ctx context.Context) {
	var wg sync.WaitGroup
	for n := range canaries {
		wg.Go(func() { c.watch(ctx, n+1) })
	}
	wg.Wait()
}

func (c *canary) watch(ctx context.Context, row int) {
	r := c.run_
	w := writer{run: r, name: "soak_canary"}
	defer w.close()
	for ctx.Err() == nil {
		if !w.connected(ctx) {
			hold(ctx, 50*time.Millisecond)
			continue
		}
		c.mu.Lock()
		c.mark++
		mark := c.mark
		c.mu.Unlock()
		if _, err := w.conn.Exec(context.WithoutCancel(ctx), "update canary set mark = $2 where id = $1", row, mark); err != nil {
			w.judge(err)
			hold(ctx, 50*time.Millisecond)
			continue
		}
		committed := time.Now()
		c.await(ctx, row, mark)
		behind, calm := time.Since(committed).Seconds(), !r.windows.touch(committed, time.Now())
		if behind > notable.Seconds() {
			r.say("late   canary:%d was behind for %.1f s", row, behind)
		}
		r.note(func() {
			r.Longest = max(r.Longest, behind)
			if calm {
				r.Undisturbed = max(r.Undisturbed, behind)
			}
		})
		hold(ctx, 20*time.Millisecond)
	}
}

func (c *canary) await(ctx context.Context, row int, mark int64) {
	began := time.Now()
	for ctx.Err() == nil {
		value, err := c.run_.caches["default"].Get(ctx, fmt.Sprintf("canary:%d", row)).Bytes()
		var entry struct{ Mark int64 }
		if err == nil && json.Unmarshal(value, &entry) == nil && entry.Mark >= mark {
			return
		}
		pause := 2 * time.Millisecond
		if time.Since(began) > 100*time.Millisecond {
			pause = 10 * time.Millisecond
		}
		hold(ctx, pause)
	}
}

// closeWrites waits until no connection is left that could still commit, and ends what
// was prepared.
func (r *run) closeWrites(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		var open, prepared int
		err := r.super.QueryRow(ctx, `
			select (select count(*) from pg_stat_activity where application_name in ($1, 'pgbench')),
			       (select count(*) from pg_prepared_xacts)`, writing).Scan(&open, &prepared)
		switch {
		case err == nil && open+prepared == 0:
			return nil
		case err == nil && open == 0:
			err = r.resolveAll(ctx)
		}
		if err != nil && !passing(err) {
			return err
		}
		if hold(ctx, 50*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("wait for %d writers and %d prepared transactions: %w", open, prepared, ctx.Err())
		}
	}
}

func (r *run) resolveAll(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, r.ownerURL)
	if err != nil {
		return err
	}
	w := writer{run: r, name: "soak", conn: conn}
	w.resolve(ctx)
	w.close()
	return nil
}
