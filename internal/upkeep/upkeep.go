package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/health"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/quiet"
	"github.com/freshet/freshet/internal/task"
)

const (
	// every is how often capture is looked at; what fires no trigger is noticed by then.
	every = time.Second
	// rotateEvery is after how many looks change tables are.
	rotateEvery = 5
	timeout     = 30 * time.Second
	// Stalled is after how long without a step the loop is taken for dead. A step takes half as
	// long at most.
	Stalled = 2 * timeout
	// patience is how often in a row something of a source may be locked, before it is told.
	patience = 12
)

// Upkeep looks after capture for one worker.
type Upkeep struct {
	// Steps is beaten by each look, and by each source that something is done for.
	Steps health.Pulse

	pool    *pgxpool.Pool
	metrics *metrics.Metrics
	log     *slog.Logger
	// looks is how many there were.
	looks  int
	duties map[duty]*state
}

// duty is something to do for a source.
type duty struct {
	source int32
	doing  string
}

const (
	looking  = "look at capture"
	mending  = "mend capture"
	rotating = "rotate change table"
)

// state is how a duty went lately.
type state struct {
	trouble *quiet.Trouble
	// locked is how often in a row it could not be done, for somebody had something locked.
	locked int
}

// New makes one that has not looked yet.
func New(pool *pgxpool.Pool, m *metrics.Metrics, log *slog.Logger) *Upkeep {
	return &Upkeep{pool: pool, metrics: m, log: log, duties: make(map[duty]*state)}
}

// Run looks until ctx ends.
func (u *Upkeep) Run(ctx context.Context) {
	task.Repeat(ctx, every, u.log, "capture cannot be looked after", "capture is looked after again", u.look)
}

// look does one round over all sources. What fails for one is no reason to leave the others, and is
// told by itself.
func (u *Upkeep) look(ctx context.Context) error {
	u.Steps.Beat()
	rotate := u.looks%rotateEvery == 0
	u.looks++
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sources, err := ask(asking, u.pool, rotate, "")
	if err != nil {
		sources, err = askEach(asking, u.pool, rotate)
	}
	if err != nil {
		u.metrics.UpkeepFailed()
		return fmt.Errorf("look at capture: %w", err)
	}
	for _, s := range sources {
		u.Steps.Beat()
		u.tend(ctx, s, rotate)
	}
	return nil
}

// tend mends and rotates a source, in a time of its own: the next one has as much.
func (u *Upkeep) tend(ctx context.Context, s source, rotate bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	u.note(ctx, s, looking, s.err)
	if s.err != nil {
		return
	}
	switch {
	case s.mends:
		u.mend(ctx, s)
	case !s.unmended:
		u.note(ctx, s, mending, nil)
	}
	switch {
	case s.rotates:
		_, err := u.pool.Exec(ctx, "select freshet.rotate($1)", s.id)
		u.note(ctx, s, rotating, err)
	case rotate:
		u.note(ctx, s, rotating, nil)
	}
}

// note takes note of how a duty went. That something is locked is nothing wrong, for it is tried again
// soon, but it is told if it goes on.
func (u *Upkeep) note(ctx context.Context, s source, doing string, err error) {
	of := duty{s.id, doing}
	is := u.duties[of]
	if is == nil {
		if err == nil {
			return
		}
		is = &state{trouble: quiet.NewTrouble(u.log.With("source", s.name), "capture cannot be looked after", "capture is looked after again")}
		u.duties[of] = is
	}
	switch {
	case err == nil:
		delete(u.duties, of)
	case pg.IsLocked(err) || errors.Is(err, errLocked):
		if is.locked++; is.locked < patience {
			return
		}
		err = fmt.Errorf("%s: somebody keeps something locked that is needed: %w", doing, err)
	default:
		is.locked = 0
		err = fmt.Errorf("%s: %w", doing, err)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the worker ends
	}
	if err != nil {
		u.metrics.UpkeepFailed()
	}
	is.trouble.Note(err)
}

// What freshet.mend returns begins with one of these if nothing was mended.
const (
	unmendedBecause = "could not be mended: "
	lockedBecause   = "locked: "
)

// errLocked is that freshet.mend did not get a lock in time.
var errLocked = errors.New("not to be had in time")

// mend mends a source, and counts the re-warms that follow.
func (u *Upkeep) mend(ctx context.Context, s source) {
	var (
		did      *string
		rewarmed []string
		batch    pgx.Batch
	)
	batch.Queue("select freshet.mend($1)", s.id).QueryRow(func(row pgx.Row) error { return row.Scan(&did) })
	// In the same transaction: what was asked for before is not counted again.
	batch.Queue(`
		select s.name from freshet.backfill_run b join freshet.sink s on s.id = b.sink_id
		where s.source_id = $1 and b.reason = 'rewarm' and b.created_at >= transaction_timestamp()`, s.id).Query(func(rows pgx.Rows) (err error) {
		rewarmed, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err := u.pool.SendBatch(ctx, &batch).Close(); err != nil {
		u.note(ctx, s, mending, err)
		return
	}
	for _, sink := range rewarmed {
		u.metrics.Rewarm(sink, metrics.Captured)
	}
	if did == nil {
		return // somebody else is at it, or was
	}
	if why, is := strings.CutPrefix(*did, lockedBecause); is {
		u.note(ctx, s, mending, fmt.Errorf("%w: %s", errLocked, why))
	} else if why, is := strings.CutPrefix(*did, unmendedBecause); is {
		u.note(ctx, s, mending, errors.New(why))
	} else {
		u.log.Warn("capture was not as it should be", "source", s.name, "found", *did)
	}
}
