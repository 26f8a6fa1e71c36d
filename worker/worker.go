package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/freshet/freshet/internal/build"
	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/doorbell"
	"github.com/freshet/freshet/internal/failing"
	"github.com/freshet/freshet/internal/health"
	"github.com/freshet/freshet/internal/install"
	"github.com/freshet/freshet/internal/jobs"
	"github.com/freshet/freshet/internal/lane"
	"github.com/freshet/freshet/internal/lease"
	"github.com/freshet/freshet/internal/metrics"
	"github.com/freshet/freshet/internal/owner"
	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/quiet"
	"github.com/freshet/freshet/internal/target"
	"github.com/freshet/freshet/internal/task"
	"github.com/freshet/freshet/internal/upkeep"
)

const (
	// controlConnections serve River, heartbeats and the short statements between batches.
	controlConnections = 6

	// River: jobs are announced by NOTIFY with every insert, so polling is only the net
	// below; behind a pooler it is all there is.
	fetchCooldown = 5 * time.Millisecond
	fetchPoll     = time.Second
	fetchPollOnly = 50 * time.Millisecond
	// Lanes are offered to a worker once in a while only.
	fetchOffers         = 5 * time.Second
	fetchOffersPollOnly = 250 * time.Millisecond

	// Slices end by themselves, and a sweep takes as long as it takes. What a dead worker
	// left running is taken over by its lease, not by River's rescue.
	jobTimeout = -1
	// poolsTimeout is how long a worker that ends waits for connections in use.
	poolsTimeout = 2 * time.Second
	keepFinished = 10 * time.Minute

	// maxJobs bounds the lanes that one worker serves per target, idle ones included.
	maxJobs = 2000

	// stopGrace is how long a stopping worker waits for its jobs to hand over.
	stopGrace = 5 * time.Second
)

// Worker serves the targets of its Config, once: who has run or was closed is done with.
type Worker struct {
	config              Config
	id                  string
	control, read, bulk *pgxpool.Pool
	targets             map[string]*target.Target
	transforms          []string
	installation        string
	metrics             *metrics.Metrics
	keeper              *lease.Keeper
	monitor             *health.Monitor
	server              *server
	// begun: it runs, has run, or was closed.
	begun atomic.Bool
}

// New connects to Postgres and to every target and checks that both can be worked
// with: the schema is installed and not newer than this binary, and each target runs
// transactions. Nothing is left open when it fails. Close must be called unless Run or
// Drain was.
func New(ctx context.Context, config Config) (*Worker, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Worker{config: config, id: newID(), targets: make(map[string]*target.Target), transforms: registered.Names(), metrics: metrics.New()}
	for name, url := range config.Targets {
		if w.targets[name], err = target.Parse(name, url, config.TLS[name]); err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.targets[name].Observe(func(err error) { w.metrics.RedisError(name, err) })
	}
	if err := w.connect(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.watch()
	if err := w.listen(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *Worker) connect(ctx context.Context) error {
	var err error
	if w.control, err = pg.OpenObserved(ctx, w.config.DatabaseURL, "freshet", controlConnections, w.metrics.PostgresError); err != nil {
		return err
	}
	if w.read, err = pg.OpenObserved(ctx, w.config.DatabaseURL, "freshet read", w.config.Concurrency, w.metrics.PostgresError); err != nil {
		return err
	}
	if w.bulk, err = pg.OpenObserved(ctx, w.config.DatabaseURL, "freshet bulk", w.config.ranges()+1, w.metrics.PostgresError); err != nil {
		return err
	}
	version, err := install.Version(ctx, w.control)
	if err != nil {
		return err
	}
	latest, err := install.Latest()
	if err != nil {
		return err
	}
	switch {
	case version == 0:
		return errors.New("Freshet is not installed in this database: run freshet migrate")
	case version < latest:
		return fmt.Errorf("the schema in this database is version %d and this binary needs %d: run freshet migrate", version, latest)
	case version > latest:
		return fmt.Errorf("the schema in this database is version %d and this binary knows up to %d: use a newer freshet", version, latest)
	}
	if w.installation, err = catalog.Installation(ctx, w.control); err != nil {
		return err
	}
	return w.checkTargets(ctx)
}

// checkTargets refuses targets that cannot be written to. One that does not answer is
// an error when it is the only one; beside others it is waited for while they are served.
func (w *Worker) checkTargets(ctx context.Context) error {
	var away []error
	for _, name := range w.config.targetNames() {
		switch err := w.targets[name].Check(ctx); {
		case err == nil:
		case errors.Is(err, target.ErrUnsuitable) || ctx.Err() != nil:
			return err
		default:
			away = append(away, err)
		}
	}
	if len(away) == len(w.targets) {
		return errors.Join(away...)
	}
	for _, err := range away {
		w.config.Logger.Warn("a target does not answer yet", "err", err)
	}
	return nil
}

// errOver is what Run and Drain return to whoever calls a second time.
var errOver = errors.New("this worker has been run or closed, and works once only: make another one with New")

// Close releases what New opened. It may be called again, and after Run or Drain, which close w
// themselves; they are ended by their context, not by Close.
func (w *Worker) Close() error {
	w.begun.Store(true)
	if w.monitor != nil {
		w.monitor.Enter(health.Stopped)
	}
	errs := []error{w.server.close()}
	for _, t := range w.targets {
		if t != nil {
			errs = append(errs, t.Close())
		}
	}
	w.targets = nil
	errs = append(errs, closePools(w.control, w.read, w.bulk))
	w.control, w.read, w.bulk = nil, nil, nil
	return errors.Join(errs...)
}

// closePools waits for who still reads, but not for ever: a transform that does not return keeps its connection, and a
// statement that Postgres does not answer.
func closePools(pools ...*pgxpool.Pool) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for _, pool := range pools {
			if pool != nil {
				pool.Close()
			}
		}
	}()
	select {
	case <-closed:
		return nil
	case <-time.After(poolsTimeout):
		err := fmt.Errorf("connections to Postgres are still in use after %s", poolsTimeout)
		if len(registered.Overdue(time.Now())) > 0 {
			err = fmt.Errorf("%w, by a Go transform that does not return", err)
		}
		return err
	}
}

// Run works until ctx ends, however early, then hands its lanes over and returns nil. It closes w, and so runs once: a
// second call is an error, and so is one after Drain or Close.
func (w *Worker) Run(ctx context.Context) error {
	return w.run(ctx, func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
}

// run works while body does.
func (w *Worker) run(ctx context.Context, body func(context.Context) error) (err error) {
	if w.begun.Swap(true) {
		return errOver
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	log := w.config.Logger.With("worker", w.id)

	pollOnly := w.config.PollOnly
	if !pollOnly {
		heard, err := doorbell.Hears(ctx, w.dial)
		if ctx.Err() != nil {
			return body(ctx) // told to end before it began: what that means is the body's to say
		}
		if err != nil {
			return fmt.Errorf("connect to Postgres: %w", err)
		}
		if !heard {
			log.Info("this connection gets no notifications (a transaction pooler?): polling")
			pollOnly = true
		}
	}

	// The parts end in the reverse order in which they are needed: first the jobs, then
	// what they rely on.
	partsCtx, endParts := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	defer parts.Wait()
	defer endParts()

	bell := doorbell.New(w.control, w.dial, pollOnly, log)
	keeper := w.keeper
	parts.Go(func() { bell.Run(partsCtx) })
	parts.Go(func() { keeper.Run(partsCtx) })
	capture := upkeep.New(w.control, w.metrics, log)
	parts.Go(func() { capture.Run(pg.Patient(partsCtx)) })
	probe := lane.NewProbe()
	w.monitor.Watch(
		health.Loop{Name: "the heartbeat", Pulse: &keeper.Turns},
		health.Loop{Name: "the check for pending changes", Pulse: &bell.Turns},
		health.Loop{Name: "the look at the targets", Pulse: &probe.Turns},
		health.Loop{Name: "the look after capture", Pulse: &capture.Steps, Stalled: upkeep.Stalled},
	)
	w.monitor.WatchCalls(hung)
	parts.Go(func() { probe.Run(partsCtx) })
	parts.Go(func() {
		task.Repeat(partsCtx, time.Second, log, "a Go transform does not return", "all Go transforms return again", lookAfterCalls)
	})
	parts.Go(func() { failing.Retry(partsCtx, w.control, w.config.targetNames(), log) })
	for _, t := range w.targets {
		parts.Go(func() { owner.RemoveAgain(partsCtx, w.control, w.installation, t, log) })
	}

	stop := make(chan struct{})
	runner := &jobs.Runner{
		Config: task.Config{
			Control: w.control, Read: w.read, Bulk: w.bulk, Installation: w.installation, Bell: bell, Transforms: &registered, Traffic: new(task.Traffic), Metrics: w.metrics, Log: log,
		},
		Keeper: keeper, Probe: probe, Memory: lane.NewMemory(w.config.spareParts(), w.config.Concurrency), Targets: w.targets, Slice: w.config.slice, Stop: stop,
	}
	client, err := river.NewClient(riverpgxv5.New(w.control), w.riverConfig(runner.Workers(), pollOnly))
	if err != nil {
		return fmt.Errorf("prepare the job queue: %w", err)
	}
	// River's own context outlives ctx: the end is asked for below, in order.
	if err := client.Start(partsCtx); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	log.Info("working", "targets", w.config.targetNames(), "version", build.Read().String())
	w.monitor.Enter(health.Working)

	bodyErr := body(ctx)
	w.monitor.Enter(health.Stopping)

	// Jobs hand over as soon as stop is closed. Until River has stopped fetching, one of
	// them may come back to us; it then hands over once more.
	if err := keeper.Leaving(context.WithoutCancel(ctx)); err != nil {
		log.Debug("say that it is leaving", "err", err)
	}
	close(stop)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := client.Stop(stopCtx); err != nil {
		cancelCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if err := client.StopAndCancel(cancelCtx); err != nil {
			bodyErr = errors.Join(bodyErr, fmt.Errorf("jobs did not end within %s: %w", 2*stopGrace, err))
		}
	}
	endParts()
	parts.Wait()
	if err := keeper.Leave(context.WithoutCancel(ctx)); err != nil {
		log.Debug("leave", "err", err)
	}
	log.Info("stopped")
	return bodyErr
}

func (w *Worker) riverConfig(workers *river.Workers, pollOnly bool) *river.Config {
	queues := make(map[string]river.QueueConfig, len(w.targets))
	for name := range w.targets {
		for _, function := range append([]string{""}, w.transforms...) {
			work, ranges := jobs.Queues(name, function)
			queues[work] = river.QueueConfig{MaxWorkers: maxJobs}
			queues[ranges] = river.QueueConfig{MaxWorkers: w.config.ranges()}
		}
	}
	poll, offers := fetchPoll, fetchOffers
	if pollOnly {
		poll, offers = fetchPollOnly, fetchOffersPollOnly
	}
	queues[jobs.QueueOf(w.id)] = river.QueueConfig{MaxWorkers: maxJobs, FetchPollInterval: offers}
	return &river.Config{
		ID:                          w.id,
		Schema:                      install.Schema,
		Queues:                      queues,
		Workers:                     workers,
		FetchCooldown:               fetchCooldown,
		FetchPollInterval:           poll,
		PollOnly:                    pollOnly,
		JobTimeout:                  jobTimeout,
		CompletedJobRetentionPeriod: keepFinished,
		CancelledJobRetentionPeriod: keepFinished,
		DiscardedJobRetentionPeriod: keepFinished,
		// River tells about itself at info; only what is wrong concerns our users, and not from each
		// of its parts at each attempt.
		Logger: slog.New(atLeast{quiet.Handler(w.config.Logger.Handler()), slog.LevelWarn}),
	}
}

// dial opens a connection that is not the pool's.
func (w *Worker) dial(ctx context.Context) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, w.control.Config().ConnConfig.Copy())
}

// newID names this worker in status and in River's tables.
func newID() string {
	var random [4]byte
	_, _ = rand.Read(random[:])
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "worker"
	}
	return host + "-" + hex.EncodeToString(random[:])
}

// atLeast drops records below a level.
type atLeast struct {
	slog.Handler
	level slog.Level
}

func (h atLeast) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level && h.Handler.Enabled(ctx, level)
}

func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(attrs), h.level}
}

func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.Handler.WithGroup(name), h.level}
}
