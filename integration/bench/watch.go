package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/servers"
)

// lookEvery is how often Redis is asked whether a change has arrived.
const lookEvery = 200 * time.Microsecond

// watch commits single changes on a schedule of its own, whatever becomes of them, and looks when each is visible.
type watch struct {
	// update changes a row: $1 is a text that its entry then contains, $2 the row's id.
	update string
	// prefix stands before the id in the entry's key.
	prefix string
	rows   int
	// least and most are how far changes are apart.
	least, most time.Duration
	// after, unless nil, is what the writer itself does once it has committed.
	after func(ctx context.Context, conn *pgx.Conn, id int) error
	// forgetful: changes may get lost. They are waited for a second, and counted.
	forgetful bool
	// pinged: another client of Redis asks for a PING every millisecond.
	pinged bool
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

// awaited is a change that is not visible yet.
type awaited struct {
	key, mark string
	id        int
	since     time.Time
}

// outstanding are the changes that are not visible yet. No row has two of them: the later would hide the earlier.
type outstanding struct {
	mu   sync.Mutex
	list []awaited
}

func (o *outstanding) add(a awaited) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, a)
}

func (o *outstanding) has(id int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.list, func(a awaited) bool { return a.id == id })
}

func (o *outstanding) all() []awaited {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.list)
}

func (o *outstanding) drop(id int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = slices.DeleteFunc(o.list, func(a awaited) bool { return a.id == id })
}

// watch goes on for as long as over takes, and until what was committed then is visible.
func (s *stage) watch(ctx context.Context, w watch, over func(context.Context) error) (seen watched, err error) {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return seen, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	reader, other := s.client(), s.client()
	defer reader.Close()
	defer other.Close()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		open    outstanding
		isOver  = make(chan struct{})
		wrote   = make(chan struct{})
		parties sync.WaitGroup
	)
	defer parties.Wait()
	parties.Go(func() {
		defer close(isOver)
		if err := over(ctx); err != nil {
			cancel(err)
		}
	})
	parties.Go(func() {
		defer close(wrote)
		if err := w.write(ctx, conn, &open, isOver); err != nil {
			cancel(err)
		}
	})
	if w.pinged {
		parties.Go(func() {
			for !ended(isOver) && ctx.Err() == nil {
				begin := time.Now()
				if other.Ping(ctx).Err() == nil {
					seen.pings = append(seen.pings, time.Since(begin))
				}
				_ = pause(ctx, time.Millisecond)
			}
		})
	}
	if err := w.look(ctx, reader, &open, wrote, &seen); err != nil {
		cancel(err)
	}
	parties.Wait()
	return seen, context.Cause(ctx)
}

func ended(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// write commits changes until over is closed.
func (w watch) write(ctx context.Context, conn *pgx.Conn, open *outstanding, over <-chan struct{}) error {
	for next := time.Now(); !ended(over); {
		next = next.Add(w.least + rand.N(w.most-w.least))
		if err := pause(ctx, time.Until(next)); err != nil {
			return err
		}
		id := 1 + rand.IntN(w.rows)
		for open.has(id) {
			id = 1 + rand.IntN(w.rows)
		}
		mark := fmt.Sprintf("mark %d", rand.Int64())
		if _, err := conn.Exec(ctx, w.update, mark, id); err != nil {
			return err
		}
		a := awaited{key: fmt.Sprintf("%s%d", w.prefix, id), mark: mark, id: id, since: time.Now()}
		if w.after != nil {
			if err := w.after(ctx, conn, id); err != nil {
				return err
			}
		}
		open.add(a)
	}
	return nil
}

// look asks Redis for what is outstanding until nothing is any more and wrote is closed.
func (w watch) look(ctx context.Context, reader *redis.Client, open *outstanding, wrote <-chan struct{}, seen *watched) error {
	patience := 30 * time.Second
	if w.forgetful {
		patience = time.Second
	}
	for {
		last := ended(wrote)
		changes := open.all()
		if last && len(changes) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(changes) > 0 {
			keys := make([]string, len(changes))
			for i, a := range changes {
				keys[i] = a.key
			}
			values, err := reader.MGet(ctx, keys...).Result()
			if err != nil {
				return err
			}
			now := time.Now()
			for i, a := range changes {
				text, _ := values[i].(string)
				age := now.Sub(a.since)
				switch {
				case strings.Contains(text, a.mark):
					seen.visible = append(seen.visible, age)
				case age < patience:
					continue
				case w.forgetful:
					seen.lost = append(seen.lost, a.id)
				default:
					return fmt.Errorf("a change of row %d is not visible after %s", a.id, patience)
				}
				open.drop(a.id)
			}
		}
		nap(lookEvery)
	}
}

// pgbench runs a script in so many clients until stop is called, at a rate a second or, with
// 0, as fast as it can.
func (s *stage) pgbench(script string, clients, rate int) (stop func() error, err error) {
	file := filepath.Join(s.dir, "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return nil, err
	}
	args := []string{"--no-vacuum", fmt.Sprintf("--client=%d", clients), "--protocol=prepared", "--time=3600", "--file=" + file}
	if rate > 0 {
		args = append(args, fmt.Sprintf("--rate=%d", rate))
	}
	var said bytes.Buffer
	cmd := exec.Command("pgbench", append(args, s.databaseURL)...)
	cmd.Stderr = &said
	p, err := servers.StartProcess(cmd)
	if err != nil {
		return nil, fmt.Errorf("start pgbench: %w", err)
	}
	return sync.OnceValue(func() error {
		bySelf := p.Exited(0)
		p.Signal(os.Interrupt)
		if !p.Exited(5 * time.Second) {
			p.Kill()
		}
		// One of its clients that fails is no end of the others.
		if bySelf || strings.Contains(said.String(), "abort") {
			return fmt.Errorf("pgbench did not go on: %s: %s", p.State(), said.String())
		}
		return nil
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
