package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/pg"
)

// backfillCommand asks for a backfill and, if wanted, stays until its end.
func backfillCommand(ctx context.Context, c *cli, args []string) error {
	set := flags("backfill")
	filter := set.String("filter", "", "")
	rate := set.Int("rate", 0, "")
	wait := set.Bool("wait", false, "")
	names, err := parse(set, args, 1)
	if err != nil {
		return err
	}
	if *rate < 0 {
		return fmt.Errorf("%w: --rate is %d: give a number of rows a second", errUsage, *rate)
	}
	s, err := c.load()
	if err != nil {
		return err
	}
	if err := s.needDatabase(); err != nil {
		return err
	}
	db, err := pg.OpenNoticed(ctx, s.DatabaseURL, "freshet backfill", 1, func(notice string) { fmt.Fprintln(c.stderr, notice) })
	if err != nil {
		return err
	}
	defer db.Close()

	var id int64
	// It may wait for a chunk to end.
	err = db.QueryRow(pg.Patient(ctx), "select freshet.backfill($1, nullif($2, ''), nullif($3, 0))", names[0], *filter, *rate).Scan(&id)
	if err != nil {
		return hinted(err)
	}
	fmt.Fprintf(c.stdout, "backfill %d of %s\n", id, names[0])
	if !*wait {
		return nil
	}
	began := time.Now()
	done, err := watchBackfills(ctx, db, c.stdout, "warming", &id)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "done: %d rows read in %.1f s\n", done, time.Since(began).Seconds())
	return nil
}

// hinted is an error of Postgres' with its hint, which says what to do.
func hinted(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Hint != "" {
		return fmt.Errorf("%w (%s)", err, pgErr.Hint)
	}
	return err
}

const (
	// startPatience is after how long a backfill should have begun. Until then it is looked at
	// each firstPause, for it may be a small one, and then each laterPause.
	startPatience = 3 * time.Second
	firstPause    = 50 * time.Millisecond
	laterPause    = 500 * time.Millisecond
)

// watchBackfills shows how far a backfill has come, or all of them, until it is over, and
// returns how many rows were read. One that was cancelled is an error.
func watchBackfills(ctx context.Context, db *pgxpool.Pool, out io.Writer, what string, id *int64) (int64, error) {
	bar := newProgress(out, what)
	began, said := time.Now(), ""
	for {
		var (
			done, total int64
			state       string
			trouble     *string
		)
		// The state that is furthest from the end speaks for all.
		err := db.QueryRow(ctx, `
			select sum(rows_done), sum(rows_estimated),
			       (array_agg(state order by array_position(array['cancelled', 'paused', 'queued', 'running', 'sweeping', 'completed'], state)))[1],
			       max(case when state in ('queued', 'running') and last_error_at > now() - interval '10 seconds' then last_error end)
			from freshet.backfills where $1::bigint is null or id = $1
			having count(*) > 0`, id).Scan(&done, &total, &state, &trouble)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return 0, fmt.Errorf("watch the backfill: %w", err)
		}
		switch {
		case state == "" && id != nil:
			bar.interrupt()
			return 0, errors.New("its sink was dropped")
		case state == "completed":
			bar.finish(done)
			return done, nil
		case state == "cancelled":
			bar.interrupt()
			return done, fmt.Errorf("it was cancelled after %d rows", done)
		}
		now := ""
		switch {
		case trouble != nil:
			now = *trouble
		case state == "queued" && time.Since(began) > startPatience:
			now = "no worker has begun yet; select * from freshet.status tells more"
		case state == "paused":
			now = "paused; select freshet.resume_backfill(id) lets it go on"
		case state == "sweeping":
			now = "all rows are written; looking for entries without a row"
		}
		if now != "" && now != said {
			bar.interrupt()
			fmt.Fprintln(out, now)
		}
		if said = now; now == "" && state == "running" {
			bar.show(done, total)
		}
		pause := firstPause
		if time.Since(began) > startPatience {
			pause = laterPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			bar.interrupt()
			return done, ctx.Err()
		}
	}
}
