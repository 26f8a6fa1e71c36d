package main

import (
	"context"
	"errors"
	"fmt"
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
		if err := c.purge(ctx, pool); err != nil {
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

// purge drops every sink and works until its entries are gone.
func (c *cli) purge(ctx context.Context, pool *pgxpool.Pool) error {
	config, err := c.workerConfig()
	if err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, "select freshet.drop_sink(sink) from freshet.sinks where state <> 'dropping'"); err != nil {
		return fmt.Errorf("drop the sinks: %w", err)
	}
	w, err := worker.New(ctx, config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	if err := w.Drain(ctx); err != nil {
		return fmt.Errorf("remove the entries: %w", err)
	}
	var left int
	if err := pool.QueryRow(ctx, "select count(*) from freshet.sinks").Scan(&left); err != nil {
		return fmt.Errorf("count what is left: %w", err)
	}
	if left > 0 {
		return errors.New("some sinks write to targets whose URLs are not set here: set them and try again")
	}
	return nil
}
