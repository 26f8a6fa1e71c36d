package upkeep

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// every is how often capture is looked at; what fires no trigger is noticed by then.
	every = time.Second
	// rotateEvery is after how many looks change tables are.
	rotateEvery = 5
	timeout     = 30 * time.Second
)

// Run looks until ctx ends.
func Run(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var failing bool
	for n := 0; ; n++ {
		err := look(ctx, pool, log, n%rotateEvery == 0)
		if ctx.Err() != nil {
			return
		}
		// One line when it begins and one when it is over.
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				log.Warn("capture cannot be looked after", "err", err)
			} else {
				log.Info("capture is looked after again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look does one round over all sources. What fails for one is no reason to leave the others.
func look(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger, rotate bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	rows, err := pool.Query(ctx, "select s.id, freshet.needs_mending(s.id) from freshet.source s where s.relid is not null order by s.id")
	if err != nil {
		return fmt.Errorf("look at capture: %w", err)
	}
	type source struct {
		id    int32
		mends bool
	}
	sources, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (source, error) {
		var s source
		return s, row.Scan(&s.id, &s.mends)
	})
	if err != nil {
		return fmt.Errorf("look at capture: %w", err)
	}
	for _, s := range sources {
		if s.mends {
			var did *string
			if mendErr := pool.QueryRow(ctx, "select freshet.mend($1)", s.id).Scan(&did); mendErr != nil {
				err = fmt.Errorf("mend capture of source %d: %w", s.id, mendErr)
			} else if did != nil {
				log.Warn("capture was not as it should be", "source", s.id, "found", *did)
			}
		}
		if rotate {
			if _, rotateErr := pool.Exec(ctx, "select freshet.rotate($1)", s.id); rotateErr != nil {
				err = fmt.Errorf("rotate change table of source %d: %w", s.id, rotateErr)
			}
		}
	}
	return err
}
