package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/task"
)

const (
	// every is how often capture is looked at; what fires no trigger is noticed by then.
	every = time.Second
	// rotateEvery is after how many looks change tables are.
	rotateEvery = 5
	timeout     = 30 * time.Second
	// patience is how often in a row something of a source may be locked, before it is told.
	patience = 12
)

// Run looks until ctx ends.
func Run(ctx context.Context, pool *pgxpool.Pool, m *metrics.Metrics, log *slog.Logger) {
	n, locked := 0, make(locks)
	task.Repeat(ctx, every, log, "capture cannot be looked after", "capture is looked after again",
		func(ctx context.Context) error {
			rotate := n%rotateEvery == 0
			n++
			return look(ctx, pool, m, log, rotate, locked)
		})
}

// locks are how often in a row what is to be done could not be, for somebody had something locked.
type locks map[string]int

// judge is what is wrong. That something is locked is not, for it is tried again soon, but it is told if it goes on.
func (l locks) judge(err error, log *slog.Logger, doing, source string) error {
	what := doing + " of " + source
	switch {
	case pg.IsLocked(err):
		if l[what]++; l[what]%patience == 0 {
			log.Warn("somebody keeps something locked that is needed", "to", what, "tries", l[what], "err", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	delete(l, what)
	return nil
}

// look does one round over all sources. What fails for one is no reason to leave the others.
func look(ctx context.Context, pool *pgxpool.Pool, m *metrics.Metrics, log *slog.Logger, rotate bool, locked locks) error {
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sources, err := ask(asking, pool, rotate, "")
	if err != nil {
		sources, err = askEach(asking, pool, rotate)
	}
	if err != nil {
		err = fmt.Errorf("look at capture: %w", err)
	}
	for _, s := range sources {
		err = errors.Join(err, s.tend(ctx, pool, m, log, locked))
	}
	return err
}

// tend mends and rotates a source, in a time of its own: the next one has as much.
func (s source) tend(ctx context.Context, pool *pgxpool.Pool, m *metrics.Metrics, log *slog.Logger, locked locks) (err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if s.mends {
		did, rewarmed, mendErr := mend(ctx, pool, s.id)
		for _, sink := range rewarmed {
			m.Rewarm(sink, metrics.Captured)
		}
		if did != nil {
			log.Warn("capture was not as it should be", "source", s.name, "found", *did)
		}
		err = locked.judge(mendErr, log, "mend capture", s.name)
	}
	if s.rotates {
		_, rotateErr := pool.Exec(ctx, "select freshet.rotate($1)", s.id)
		err = errors.Join(err, locked.judge(rotateErr, log, "rotate change table", s.name))
	}
	return err
}

// source is one to look after.
type source struct {
	id int32
	// name is that of its table, with the schema.
	name  string
	mends bool
	// rotates: it is time, and there is something to do.
	rotates bool
}

// name is the one that s is known by.
const name = "s.schema_name || '.' || s.table_name"

// lookPatience is what a look waits for somebody who has locked a table or a partition.
const lookPatience = "500ms"

// ask asks which sources need mending, or rotation if it is time, in one statement for all of
// them that a condition chooses.
func ask(ctx context.Context, pool *pgxpool.Pool, rotate bool, condition string, args ...any) (sources []source, err error) {
	var batch pgx.Batch
	batch.Queue("select set_config('lock_timeout', $1, true)", lookPatience)
	batch.Queue(`
		select s.id, `+name+`, freshet.needs_mending(s.id), $1 and freshet.needs_rotation(s.id)
		from freshet.source s where s.relid is not null `+condition+" order by s.id", append([]any{rotate}, args...)...).Query(func(rows pgx.Rows) error {
		sources, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (source, error) {
			var s source
			return s, row.Scan(&s.id, &s.name, &s.mends, &s.rotates)
		})
		return err
	})
	return sources, pool.SendBatch(ctx, &batch).Close()
}

// askEach asks about each source by itself, for what one is locked by, or fails for, is no reason to
// leave the others. One that is locked is looked at when it no longer is: until then nothing of it
// can be mended.
func askEach(ctx context.Context, pool *pgxpool.Pool, rotate bool) ([]source, error) {
	rows, err := pool.Query(ctx, "select s.id, "+name+" from freshet.source s where s.relid is not null order by s.id")
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (source, error) {
		var s source
		return s, row.Scan(&s.id, &s.name)
	})
	if err != nil {
		return nil, err
	}
	var (
		sources []source
		failed  error
	)
	for _, s := range all {
		found, err := ask(ctx, pool, rotate, "and s.id = $2", s.id)
		if pg.IsLocked(err) {
			found, err = []source{s}, nil
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("source %s: %w", s.name, err))
		}
		sources = append(sources, found...)
	}
	return sources, failed
}

// mend returns what was found, and the sinks that are warmed again because of it.
func mend(ctx context.Context, pool *pgxpool.Pool, source int32) (did *string, rewarmed []string, err error) {
	var batch pgx.Batch
	batch.Queue("select freshet.mend($1)", source).QueryRow(func(row pgx.Row) error { return row.Scan(&did) })
	// In the same transaction: what was asked for before is not counted again.
	batch.Queue(`
		select s.name from freshet.backfill_run b join freshet.sink s on s.id = b.sink_id
		where s.source_id = $1 and b.reason = 'rewarm' and b.created_at >= transaction_timestamp()`, source).Query(func(rows pgx.Rows) error {
		rewarmed, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err := pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, nil, err
	}
	return did, rewarmed, nil
}
