package failing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/source"
	"github.com/freshet/freshet/internal/task"
)

const (
	// probeSize is how many entries are tried to see whether they still fail.
	probeSize = 50

	minProbe = 2 * time.Second
	maxProbe = 30 * time.Second
)

// Await tries, now and then, the entries that failed last, and lets the sink go on once no
// more than one in twenty of them fails. It returns when it did so, or when end is closed.
func Await(ctx context.Context, db *pgxpool.Pool, r *source.Reader, end <-chan struct{}) error {
	pause := minProbe
	for {
		if waited, err := task.Pause(ctx, end, pause*3/4+rand.N(pause/2)); !waited {
			return err
		}
		mended, err := probe(ctx, db, r)
		if err != nil {
			return err
		}
		if mended {
			if _, err := db.Exec(ctx, "select freshet.continue_failing($1)", r.Sink().ID); err != nil {
				return fmt.Errorf("let the sink go on: %w", err)
			}
			return nil
		}
		pause = min(2*pause, maxProbe)
	}
}

// probe reports whether the entries that failed last do so no more.
func probe(ctx context.Context, db *pgxpool.Pool, r *source.Reader) (bool, error) {
	rows, err := db.Query(ctx, `
		select tuple from freshet.failure where sink_id = $1
		order by first_at desc, key limit $2`, r.Sink().ID, probeSize)
	if err != nil {
		return false, fmt.Errorf("read failing entries: %w", err)
	}
	tuples, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
	if err != nil {
		return false, fmt.Errorf("read failing entries: %w", err)
	}
	var e source.Entries
	if _, err := r.Lookup(ctx, tuples, &e); err != nil {
		return false, fmt.Errorf("try failing entries: %w", err)
	}
	return len(e.Failures())*oneIn <= len(tuples), nil
}
