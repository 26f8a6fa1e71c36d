package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

const demoWriters = 4

// tally is what the writers and the probe count.
type tally struct {
	writes  atomic.Int64
	nextID  atomic.Int64
	delays  chan time.Duration
	perKind [6]atomic.Int64
}

// write changes the shop for some seconds and shows each second how many changes were
// committed and how long a commit took to be visible in Redis.
func (d *demo) write(ctx context.Context) error {
	if d.seconds == 0 {
		return nil
	}
	d.say("writing for %d s from %d connections: updates, inserts, deletes, primary-key changes, rollbacks", d.seconds, demoWriters)
	t := &tally{delays: make(chan time.Duration, 1000)}
	t.nextID.Store(int64(d.rows))

	writeCtx, cancel := context.WithTimeout(ctx, time.Duration(d.seconds)*time.Second)
	defer cancel()
	group, groupCtx := errgroup.WithContext(writeCtx)
	for range demoWriters {
		group.Go(func() error { return whileOpen(groupCtx, func() error { return d.change(groupCtx, t) }) })
	}
	group.Go(func() error { return d.probe(groupCtx, t) })
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		d.report(groupCtx, t)
	}()
	err := group.Wait()
	cancel()
	<-reported
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		d.say("  %d changes: %d updates, %d inserts, %d deletes, %d primary-key changes, %d in a filter, %d rolled back",
			t.writes.Load(), t.perKind[0].Load(), t.perKind[1].Load(), t.perKind[2].Load(), t.perKind[3].Load(),
			t.perKind[4].Load(), t.perKind[5].Load())
	}
	return err
}

// whileOpen repeats do until ctx ends; what its end interrupts is no error.
func whileOpen(ctx context.Context, do func() error) error {
	for ctx.Err() == nil {
		if err := do(); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

var errRollback = errors.New("rolled back on purpose")

// change makes one random change.
func (d *demo) change(ctx context.Context, t *tally) error {
	id := 1 + rand.N(int64(d.rows))
	var (
		kind int
		err  error
	)
	switch n := rand.N(100); {
	case n < 60:
		_, err = d.db.Exec(ctx, "update products set price = round(price * 1.01 + 0.05, 2) % 9999, stock = greatest(stock - 1, 0), updated_at = now() where id = $1", id)
	case n < 75:
		kind = 1
		_, err = d.db.Exec(ctx, fmt.Sprintf("insert into products (%s) select %s from (select $1::bigint) as x (n)", productColumns, productValues), t.nextID.Add(1))
	case n < 82:
		kind = 2
		_, err = d.db.Exec(ctx, "delete from products where id = $1", id)
	case n < 87:
		kind = 3
		_, err = d.db.Exec(ctx, "update products set id = $2 where id = $1", id, t.nextID.Add(1))
	case n < 95:
		kind = 4
		_, err = d.db.Exec(ctx, "update products set active = not active, stock = stock + 1 where id = $1", id)
	default:
		kind = 5
		err = pgx.BeginFunc(ctx, d.db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "update products set name = 'never seen', price = 0 where id between $1 and $1 + 20", id); err != nil {
				return err
			}
			return errRollback
		})
		if errors.Is(err, errRollback) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	t.perKind[kind].Add(1)
	t.writes.Add(1)
	return nil
}

// probe writes to one product of its own and watches Redis for the result.
func (d *demo) probe(ctx context.Context, t *tally) error {
	opts, err := redis.ParseURL(d.redis)
	if err != nil {
		return err
	}
	client := redis.NewClient(opts)
	defer client.Close()

	id := t.nextID.Add(1)
	_, err = d.db.Exec(ctx, "insert into products (id, sku, name, category, price, stock) values ($1, 'PROBE', '', 'probe', 0, 0)", id)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	key := fmt.Sprintf("product:%d", id)
	return whileOpen(ctx, func() error {
		mark := fmt.Sprintf("probe %d", rand.Uint64())
		if _, err := d.db.Exec(ctx, "update products set name = $2 where id = $1", id, mark); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		began := time.Now()
		for ctx.Err() == nil {
			value, err := client.Get(ctx, key).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			if strings.Contains(value, mark) {
				break
			}
		}
		select {
		case t.delays <- time.Since(began):
		default:
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
		return nil
	})
}

func (d *demo) report(ctx context.Context, t *tally) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var before int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := t.writes.Load()
		var delays []time.Duration
		for len(t.delays) > 0 {
			delays = append(delays, <-t.delays)
		}
		line := fmt.Sprintf("  %6d changes/s", now-before)
		if len(delays) > 0 {
			slices.Sort(delays)
			line += fmt.Sprintf("   commit to visible in Redis: median %.1f ms, slowest %.1f ms",
				milliseconds(delays[len(delays)/2]), milliseconds(delays[len(delays)-1]))
		}
		d.say("%s", line)
		before = now
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
