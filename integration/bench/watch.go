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

// lookEvery is how often Redis is asked whether a change has arrived.
const lookEvery = 200 * time.Microsecond

// watch commits single changes and waits for each to be visible.
type watch struct {
	// update changes a row: $1 is a text that its entry then contains, $2 the row's id.
	update string
	// prefix stands before the id in the entry's key.
	prefix string
	rows   int
	// least and most are how far changes are apart, after the one before is visible.
	least, most time.Duration
	// after, unless nil, is what the writer itself does once it has committed.
	after func(ctx context.Context, conn *pgx.Conn, id int) error
	// forgetful: changes may get lost. They are waited for a second, and counted.
	forgetful bool
}

// watched is what a watch has seen.
type watched struct {
	// visible is how long each change took from the end of its commit.
	visible []time.Duration
	// pings is how long another client waited for Redis.
	pings []time.Duration
	// lost are the ids of rows whose change was not visible in time.
	lost []int
}

// watch goes on for as long as over takes.
func (s *stage) watch(ctx context.Context, w watch, over func(context.Context) error) (seen watched, err error) {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return seen, err
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
				seen.pings = append(seen.pings, time.Since(begin))
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
			return seen, err
		default:
		}
		if err := pause(ctx, w.least+rand.N(w.most-w.least)); err != nil {
			return seen, err
		}
		id, mark := 1+rand.IntN(w.rows), fmt.Sprintf("mark %d", rand.Int64())
		if _, err := conn.Exec(ctx, w.update, mark, id); err != nil {
			return seen, err
		}
		begin := time.Now()
		if w.after != nil {
			if err := w.after(ctx, conn, id); err != nil {
				return seen, err
			}
		}
		arrived, err := w.await(ctx, reader, id, mark, begin)
		switch {
		case err != nil:
			return seen, err
		case arrived:
			seen.visible = append(seen.visible, time.Since(begin))
		default:
			seen.lost = append(seen.lost, id)
		}
	}
}

// await looks until the entry of a row has the mark in it.
func (w watch) await(ctx context.Context, reader *redis.Client, id int, mark string, begin time.Time) (bool, error) {
	patience := 30 * time.Second
	if w.forgetful {
		patience = time.Second
	}
	for {
		value, err := reader.Get(ctx, fmt.Sprintf("%s%d", w.prefix, id)).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return false, err
		}
		if strings.Contains(value, mark) {
			return true, nil
		}
		if time.Since(begin) > patience {
			if w.forgetful {
				return false, nil
			}
			return false, fmt.Errorf("a change of row %d is not visible after %s", id, patience)
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		nap(lookEvery)
	}
}

// pgbench runs a script in so many clients until stop is called, at a rate a second or, with
// 0, as fast as it can.
func (s *stage) pgbench(script string, clients, rate int) (stop func(), err error) {
	file := filepath.Join(s.dir, "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return nil, err
	}
	args := []string{"--no-vacuum", fmt.Sprintf("--client=%d", clients), "--protocol=prepared", "--time=3600", "--file=" + file}
	if rate > 0 {
		args = append(args, fmt.Sprintf("--rate=%d", rate))
	}
	p, err := servers.StartProcess(exec.Command("pgbench", append(args, s.databaseURL)...))
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

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
