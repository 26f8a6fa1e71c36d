package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/health"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/task"
)

// ErrLost is the cause of a held lease's context when another worker has it.
var ErrLost = errors.New("the lease was lost to another worker")

const (
	// Silence is after how long without a heartbeat a lease is taken from its holder.
	// With the check each second and the job's way through the queue, a lane of a
	// killed worker is served again within about seven seconds.
	Silence = 5 * time.Second

	interval = time.Second
	timeout  = 5 * time.Second
)

// Keeper keeps the leases of one worker.
type Keeper struct {
	pool   *pgxpool.Pool
	worker string
	// what it can do
	targets, transforms []string
	log                 *slog.Logger

	metrics *metrics.Metrics

	// Turns is beaten by each turn of Run.
	Turns health.Pulse
	// beats is beaten by each heartbeat that succeeds.
	beats health.Pulse
	// leaving: it takes nothing any more.
	leaving atomic.Bool
	// ahead is how far Postgres' clock is ahead of ours.
	ahead atomic.Int64

	mu   sync.Mutex
	held map[int64]*Held
	// err is what the last heartbeat failed with.
	err error
}

// NewKeeper makes a keeper for a worker that serves these targets and has these functions of Go.
func NewKeeper(pool *pgxpool.Pool, worker string, targets, transforms []string, m *metrics.Metrics, log *slog.Logger) *Keeper {
	return &Keeper{pool: pool, worker: worker, targets: targets, transforms: transforms, metrics: m, log: log, held: make(map[int64]*Held)}
}

// Worker is the id under which the leases are held.
func (k *Keeper) Worker() string { return k.worker }

// Held is a lease that this worker holds.
type Held struct {
	catalog.Lease
	cancel context.CancelCauseFunc
	// loaded is the revision of the sink that the holder works by, 0 before it has read it.
	loaded  atomic.Int32
	revised chan struct{}
	// renewed tells the holder that its time goes on.
	renewed chan struct{}

	mu sync.Mutex
	// incarnation is the life of the database in which cursor and passed mean something.
	incarnation *string
	cursor      *string
	passed      *string
	asOf        *time.Time
	err         *string
	// failing: something went wrong, and nothing has gone well since.
	failing bool
}

// Progress says how far the holder has come in a life of the database; the next heartbeat
// writes it down, if it is still that life. asOf is nil while that is not a moment up to which
// everything is applied.
func (h *Held) Progress(incarnation, cursor, passed string, asOf *time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing = false
	h.incarnation, h.cursor, h.passed = &incarnation, &cursor, &passed
	if asOf != nil {
		h.asOf = asOf
	}
}

// Passed says that nothing was left to do up to a later moment.
func (h *Held) Passed(passed string, asOf time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failing = false
	if h.asOf == nil || h.asOf.Before(asOf) {
		h.passed, h.asOf = &passed, &asOf
	}
}

// Loaded says by which revision of the sink the holder works from now on.
func (h *Held) Loaded(revision int32) {
	h.loaded.Store(revision)
	select {
	case <-h.revised: // of the revision before
	default:
	}
}

// Until is closed when stop is, or when the sink was changed since Loaded. release
// must be called in the end.
func (h *Held) Until(stop <-chan struct{}) (end <-chan struct{}, release func()) {
	closed, quit := make(chan struct{}), make(chan struct{})
	go func() {
		select {
		case <-stop:
			close(closed)
		case <-h.revised:
			close(closed)
		case <-quit:
		}
	}()
	return closed, func() { close(quit) }
}

// Renewed is told when the holder's time goes on: one that sleeps has to write down then what it writes
// down at the end of a slice.
func (h *Held) Renewed() <-chan struct{} { return h.renewed }

// Failed says what went wrong; it shows in the view status.
func (h *Held) Failed(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := pg.Text(err.Error())
	h.err, h.failing = &text, true
}

// fails reports whether nothing has gone well since something went wrong.
func (h *Held) fails() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failing
}

// Take takes a lease under the epoch that a job names. The context ends with cause
// ErrLost when the lease is lost. Give must be called in the end.
func (k *Keeper) Take(ctx context.Context, id, epoch int64) (*Held, context.Context, error) {
	l, err := catalog.TakeLease(ctx, k.pool, id, epoch, k.worker)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	h := &Held{Lease: l, cancel: cancel, revised: make(chan struct{}, 1), renewed: make(chan struct{}, 1), asOf: l.AsOf}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held[id] = h
	return h, ctx, nil
}

// Renew lets the holder go on for another slice if it gets on, for another worker might where this one does
// not, and if no other worker has far less to serve than this one. To hand a lane over takes fifteen statements, which a lane that sleeps would be woken for, and
// for which the changes of a busy one would wait.
func (k *Keeper) Renew(ctx context.Context, h *Held) bool {
	if h.fails() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var shared bool
	if err := k.pool.QueryRow(ctx, "select freshet.lighter_worker($1, $2, $3) is null", h.ID, k.worker, Silence).Scan(&shared); err != nil || !shared {
		return false
	}
	select {
	case h.renewed <- struct{}{}:
	default:
	}
	return true
}

// Give ends the keeping of a lease.
func (k *Keeper) Give(h *Held) {
	h.cancel(context.Canceled)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held[h.ID] == h {
		delete(k.held, h.ID)
	}
}

// Run beats until ctx ends. The heart goes on while Postgres is away: leases are lost
// only when Postgres says so.
func (k *Keeper) Run(ctx context.Context) {
	task.Repeat(ctx, interval, k.log, "the heartbeat fails", "the heartbeat is back", func(ctx context.Context) error {
		k.Turns.Beat()
		err := k.Beat(ctx)
		if err == nil {
			err = k.takeOver(ctx)
		}
		if ctx.Err() == nil {
			k.mu.Lock()
			k.err = err
			k.mu.Unlock()
		}
		return err
	})
}

// Leaving says that the worker is about to end: nothing is offered to it from now on.
func (k *Keeper) Leaving(ctx context.Context) error {
	k.leaving.Store(true)
	return k.beat(ctx, nil)
}

// Leave says that the worker is gone, once it holds nothing any more.
func (k *Keeper) Leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := k.pool.Exec(ctx, "select freshet.leave($1)", k.worker); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// Beat writes one heartbeat for every lease that is held.
func (k *Keeper) Beat(ctx context.Context) error {
	k.mu.Lock()
	held := make([]*Held, 0, len(k.held))
	for _, h := range k.held {
		held = append(held, h)
	}
	k.mu.Unlock()
	return k.beat(ctx, held)
}

// BeatOne writes down how far one lease has come.
func (k *Keeper) BeatOne(ctx context.Context, h *Held) error {
	return k.beat(ctx, []*Held{h})
}

func (k *Keeper) beat(ctx context.Context, held []*Held) error {
	err := k.beatWith(ctx, held, func(text string) string { return text })
	if pg.IsUntranslatable(err) {
		// A letter of an error that the database has no code for keeps no lease from its heartbeat.
		err = k.beatWith(ctx, held, pg.ASCII)
	}
	if err != nil {
		k.metrics.HeartbeatFailed()
	}
	return err
}

// beatWith is beat with the errors as they are written down.
func (k *Keeper) beatWith(ctx context.Context, held []*Held, written func(text string) string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	n := len(held)
	ids, epochs := make([]int64, n), make([]int64, n)
	lives, cursors, passed := make([]*string, n), make([]*string, n), make([]*string, n)
	asOf, errs, texts := make([]*time.Time, n), make([]*string, n), make([]*string, n)
	for i, h := range held {
		h.mu.Lock()
		ids[i], epochs[i] = h.ID, h.Epoch
		lives[i], cursors[i], passed[i], asOf[i], errs[i] = h.incarnation, h.cursor, h.passed, h.asOf, h.err
		h.mu.Unlock()
		if errs[i] != nil {
			text := written(*errs[i])
			texts[i] = &text
		}
	}

	type kept struct {
		revision int32
		written  bool
	}
	ours := make(map[int64]kept, n)
	// One round trip, so that Postgres commits by itself: a worker that is stopped, or cut
	// off, in the middle would keep the leases locked and nobody could take them over.
	targets := k.targets
	if k.leaving.Load() {
		targets = []string{}
	}
	// A heartbeat that a crash forgets is only a heartbeat late. The clock comes also where no lease does.
	var clock time.Time
	rows, err := k.pool.Query(ctx, `
		select c.at, b.lease, b.revision, b.written
		from (select clock_timestamp() as at from set_config('synchronous_commit', 'off', true)) as c
		left join freshet.heartbeat($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) as b on true`,
		k.worker, targets, k.transforms, ids, epochs, lives, cursors, passed, asOf, texts)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	var (
		id       *int64
		revision *int32
		noted    *bool
	)
	if _, err := pgx.ForEachRow(rows, []any{&clock, &id, &revision, &noted}, func() error {
		if id != nil {
			ours[*id] = kept{*revision, *noted}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	k.ahead.Store(int64(time.Until(clock)))
	k.beats.Beat()
	for i, h := range held {
		k, ok := ours[h.ID]
		if !ok {
			h.cancel(ErrLost)
			continue
		}
		if k.written {
			h.told(errs[i])
		}
		h.heard(k.revision)
	}
	return nil
}

// told takes note that an error was written down.
func (h *Held) told(err *string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == err {
		h.err = nil
	}
}

// heard takes note of the sink's revision.
func (h *Held) heard(revision int32) {
	if loaded := h.loaded.Load(); loaded != 0 && loaded != revision {
		select {
		case h.revised <- struct{}{}:
		default:
		}
	}
}

func (k *Keeper) takeOver(ctx context.Context) error {
	if k.leaving.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var taken int
	if err := k.pool.QueryRow(ctx, "select freshet.take_over($1, $2, $3)", k.targets, k.transforms, Silence).Scan(&taken); err != nil {
		return fmt.Errorf("look for silent leases: %w", err)
	}
	if taken > 0 {
		k.metrics.TookOver(taken)
		k.log.Info("took over leases that nobody worked on", "leases", taken)
	}
	return nil
}
