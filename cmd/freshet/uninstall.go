package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/worker"
)

// purgeTimeout bounds how long uninstall --purge waits for the entries to be gone.
const purgeTimeout = 10 * time.Minute

func uninstall(ctx context.Context, c *cli, args []string) error {
	set := flags("uninstall")
	purge := set.Bool("purge", false, "")
	force := set.Bool("force", false, "")
	if _, err := parse(set, args, 0); err != nil {
		return err
	}
	s, err := c.load()
	if err != nil {
		return err
	}
	if err := s.needDatabase(); err != nil {
		return err
	}
	pool, err := pg.Open(ctx, s.DatabaseURL, "freshet uninstall", 4)
	if err != nil {
		return err
	}
	defer pool.Close()

	version, err := install.Version(ctx, pool)
	if err != nil {
		return err
	}
	if version > 0 && !*force {
		if err := nobodyWorks(ctx, pool); err != nil {
			return err
		}
	}
	if *purge && version > 0 {
		if err := c.purge(ctx, pool, s); err != nil {
			return err
		}
	}
	removed, left, err := install.Uninstall(pg.Patient(ctx), pool)
	if err != nil {
		return err
	}
	if !removed {
		fmt.Fprintln(c.stdout, "There was nothing of Freshet's in this database.")
		return nil
	}
	fmt.Fprintln(c.stdout, "Freshet is gone from this database.")
	if len(left) > 0 {
		fmt.Fprintln(c.stdout, "What others granted to its roles is left. Have the owners run:")
		for _, statement := range left {
			fmt.Fprintf(c.stdout, "    %s;\n", statement)
		}
	}
	if !*purge {
		fmt.Fprintln(c.stdout, "Entries in Redis stay as they are from now on; uninstall --purge would have removed them.")
	}
	return nil
}

// nobodyWorks refuses to pull the ground from under running workers.
func nobodyWorks(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := pool.Query(ctx, "select id from freshet.worker where heartbeat_at > clock_timestamp() - interval '10 seconds' order by id")
	if err != nil {
		return fmt.Errorf("look for workers: %w", err)
	}
	workers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for workers: %w", err)
	}
	if len(workers) > 0 {
		return fmt.Errorf("workers are running (%v): stop them first, or say --force", workers)
	}
	return nil
}

// purge drops every sink and works until its entries are gone. Nothing is dropped before
// all targets are known to answer: of a sink that is dropped only its entries are left to do.
func (c *cli) purge(ctx context.Context, pool *pgxpool.Pool, s settings) error {
	config, err := c.configOf(s)
	if err != nil {
		return err
	}
	if err := checkTargets(ctx, pool, s); err != nil {
		return err
	}
	w, err := worker.New(ctx, config)
	if err != nil {
		return err
	}
	if err := dropSinks(ctx, pool); err != nil {
		return errors.Join(err, w.Close())
	}
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	if err := w.Drain(ctx); err != nil {
		return fmt.Errorf("remove the entries: %w", err)
	}
	var left []string
	if err := pool.QueryRow(ctx, "select coalesce(array_agg(sink order by sink), '{}') from freshet.sinks").Scan(&left); err != nil {
		return fmt.Errorf("look for what is left: %w", err)
	}
	if len(left) > 0 {
		return fmt.Errorf("these sinks are still there: %s; try again", strings.Join(left, ", "))
	}
	return nil
}

// checkTargets connects to every target that has entries, or is about to lose them.
func checkTargets(ctx context.Context, pool *pgxpool.Pool, s settings) error {
	rows, err := pool.Query(ctx, "select distinct target from freshet.lease where kind in ('sync', 'purge') and finished_at is null order by 1")
	if err != nil {
		return fmt.Errorf("list the targets: %w", err)
	}
	targets, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list the targets: %w", err)
	}
	for _, name := range targets {
		if _, ok := s.urls[name]; !ok {
			return fmt.Errorf("remove the entries: %w", s.noURL(name))
		}
	}
	for _, name := range targets {
		t, err := s.target(name)
		if err != nil {
			return err
		}
		if err := errors.Join(t.Check(ctx), t.Close()); err != nil {
			return err
		}
	}
	return nil
}

// dropSinks drops one after the other, so that no table stays locked while another is
// waited for.
func dropSinks(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := pool.Query(ctx, "select sink from freshet.sinks where state <> 'dropping' order by sink")
	if err != nil {
		return fmt.Errorf("list the sinks: %w", err)
	}
	sinks, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list the sinks: %w", err)
	}
	for _, sink := range sinks {
		if _, err := pool.Exec(ctx, "select freshet.drop_sink($1)", sink); err != nil {
			return fmt.Errorf("drop sink %s: %w", sink, err)
		}
	}
	return nil
}
