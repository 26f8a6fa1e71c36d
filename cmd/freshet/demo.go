package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/servers"
	"github.com/freshet/freshet/internal/verify"
	"github.com/freshet/freshet/worker"
)

// demo is one run of the command.
type demo struct {
	*cli
	rows     int
	seconds  int
	keep     bool
	database string
	redis    string
	db       *pgxpool.Pool
}

func demoCommand(ctx context.Context, c *cli, args []string) error {
	d := demo{cli: c}
	set := flags("demo")
	set.IntVar(&d.rows, "rows", 200_000, "")
	set.IntVar(&d.seconds, "seconds", 8, "")
	set.BoolVar(&d.keep, "keep", false, "")
	if _, err := parse(set, args, 0); err != nil {
		return err
	}
	if d.rows < 1 || d.seconds < 0 {
		return fmt.Errorf("%w: --rows has to be at least 1 and --seconds at least 0", errUsage)
	}
	return d.run(ctx)
}

func (d *demo) run(ctx context.Context) (err error) {
	stopServers, err := d.startServers(ctx)
	defer func() { err = errors.Join(err, stopServers()) }()
	if err != nil {
		return err
	}
	if d.db, err = pg.Open(ctx, d.database, "freshet demo", 16); err != nil {
		return err
	}
	defer d.db.Close()

	if err := d.step(ctx, fmt.Sprintf("creating a shop with %d products", d.rows), d.createShop); err != nil {
		return err
	}
	if err := d.step(ctx, "installing Freshet and two sinks: every product, and what is on offer", d.install); err != nil {
		return err
	}
	stopWorker, err := d.startWorker(ctx)
	defer func() { err = errors.Join(err, stopWorker()) }()
	if err != nil {
		return err
	}
	if err := d.warm(ctx); err != nil {
		return err
	}
	if err := d.write(ctx); err != nil {
		return err
	}
	if err := d.step(ctx, "writes have stopped: waiting until nothing is pending", d.settle); err != nil {
		return err
	}
	return d.verify(ctx)
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.stdout, format+"\n", args...) }

// step says what it does and how long it took.
func (d *demo) step(ctx context.Context, what string, do func(context.Context) error) error {
	began := time.Now()
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	d.say("%s (%.1f s)", what, time.Since(began).Seconds())
	return nil
}

func (d *demo) startServers(ctx context.Context) (stop func() error, err error) {
	log := slog.New(slog.NewTextHandler(d.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var stops []func() error
	stop = func() error {
		var errs []error
		for _, s := range stops {
			errs = append(errs, s())
		}
		return errors.Join(errs...)
	}
	postgres, err := servers.StartPostgres(ctx, servers.Options{Log: log})
	if err != nil {
		return stop, err
	}
	stops = append(stops, postgres.Stop)
	redis, err := servers.StartRedis(ctx, servers.Options{Log: log})
	if err != nil {
		return stop, err
	}
	stops = append(stops, redis.Stop)
	if d.database, err = postgres.CreateDatabase(ctx, "shop"); err != nil {
		return stop, err
	}
	d.redis = redis.URL()
	d.say("private Postgres: %s", postgres.Provider())
	d.say("private Redis:    %s", redis.Provider())
	return stop, nil
}

func (d *demo) install(ctx context.Context) error {
	if err := install.Migrate(ctx, d.db, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	for _, sink := range shopSinks {
		if _, err := d.db.Exec(ctx, sink.create); err != nil {
			return fmt.Errorf("create sink %s: %w", sink.name, err)
		}
	}
	return nil
}

func (d *demo) startWorker(ctx context.Context) (stop func() error, err error) {
	stop = func() error { return nil }
	w, err := worker.New(ctx, worker.Config{
		DatabaseURL: d.database,
		Targets:     map[string]string{"default": d.redis},
		Logger:      slog.New(slog.NewTextHandler(d.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return stop, err
	}
	workCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- w.Run(workCtx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-done
	}), nil
}

// warm shows the first backfills until they are done.
func (d *demo) warm(ctx context.Context) error {
	began := time.Now()
	done, err := watchBackfills(ctx, d.db, d.stdout, "warming", nil)
	if err != nil {
		return err
	}
	d.say("warmed two sinks, %d rows read in %.1f s", done, time.Since(began).Seconds())
	return nil
}

func (d *demo) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return worker.Settle(ctx, d.db, []string{"default"})
}

// verify compares everything; its last line is the last line of the command.
func (d *demo) verify(ctx context.Context) error {
	d.say("verifying every entry, both ways")
	var total verify.Result
	for _, sink := range shopSinks {
		result, err := verifySink(ctx, d.cli, d.db, settings{urls: map[string]string{"default": d.redis}}, sink.name, "", verify.Options{})
		if err != nil {
			return err
		}
		d.say("  %-9s %v", sink.name, result)
		total = total.Add(result)
	}
	if d.keep {
		d.say("everything goes on running until Ctrl-C; look around with\n  psql '%s'\n  redis-cli -u %s", d.database, d.redis)
		<-ctx.Done()
	}
	fmt.Fprintln(d.stdout, total)
	if !total.Clean() {
		return errUnequal
	}
	return nil
}
