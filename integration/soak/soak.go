package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/servers"
)

// config is what a run is made of.
type config struct {
	length  time.Duration
	seed    uint64
	workers int
	// A round is calm, then a storm of faults about pause apart, then a quiet point.
	calm, storm, pause time.Duration
	// kinds of fault that may strike; empty: all, "-": none.
	kinds   []string
	pgbench bool
	keep    bool
	lines   interface{ Write([]byte) (int, error) }
}

func (c config) check() error {
	if c.length <= 0 || c.workers < 1 {
		return errors.New("-minutes has to be above 0 and -workers at least 1")
	}
	for _, k := range c.kinds {
		if _, known := named(k); !known && k != "-" {
			return fmt.Errorf("-faults: there is no %q; there are: %s", k, allKinds())
		}
	}
	return nil
}

// run is one soak under way.
type run struct {
	config
	*report
	postgres *servers.Postgres
	redis    *servers.Redis
	// super may do everything; db is the owner's, who makes tables and sinks and writes.
	super, db                     *pgxpool.Pool
	superURL, ownerURL, workerURL string
	// caches are the clients of the targets, by name.
	caches       map[string]*redis.Client
	installation string
	version      int // of Postgres, such as 160004
	dir          string
	binary       string
	workers      []*worker
	windows      windows
	// subjects has a lock for each thing that one fault at a time may strike.
	subjects sync.Map
	// restored: an old dump came back since the last quiet point, and with it maybe keys
	// of sinks that are no more.
	restored bool
	mu       sync.Mutex
}

// stream is a random source of its own for each purpose, so that what one consumes
// changes nothing for the others.
func (r *run) stream(purpose, n uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.seed, purpose<<40|n))
}

// Purposes of streams.
const (
	forSettings uint64 = iota + 1
	forRounds
	forFaults
	forWriters
)

// soak runs one from the start of its servers to their end.
func soak(ctx context.Context, c config) (_ *report, err error) {
	r := &run{config: c, report: newReport(c), caches: make(map[string]*redis.Client)}
	r.say("soak of %s with seed %d", c.length, c.seed)
	began := time.Now()
	defer func() { r.note(func() { r.Seconds = time.Since(began).Seconds() }) }()
	defer func() {
		if c.keep && !r.Passed() && ctx.Err() == nil {
			r.say("kept until Ctrl-C: psql '%s', redis at %s, logs of the workers in %s", r.superURL, r.redis.URL(), r.dir)
			<-ctx.Done()
		}
		err = errors.Join(err, r.close())
	}()
	if err := r.open(ctx); err != nil {
		return r.report, err
	}
	return r.report, r.rounds(ctx)
}

// rounds lasts until the time is up, the first failure or the end of ctx.
func (r *run) rounds(ctx context.Context) error {
	canary := newCanary(r)
	if err := r.quiet(ctx, "after warming"); err != nil {
		return err
	}
	until := time.Now().Add(r.length)
	for n := uint64(0); ctx.Err() == nil && r.Passed() && time.Now().Before(until); n++ {
		if err := r.round(ctx, n, until, canary); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.quiet(ctx, fmt.Sprintf("round %d", n+1)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// round writes and strikes, and returns when everybody has stopped and every fault is
// healed.
func (r *run) round(ctx context.Context, n uint64, until time.Time, canary *canary) error {
	draw := r.stream(forRounds, n)
	calm := time.Duration(float64(r.calm) * (0.5 + draw.Float64()))
	storm := time.Duration(float64(r.storm) * (0.5 + draw.Float64()))
	if left := time.Until(until); calm+storm > left {
		calm, storm = min(calm, left/3), left-min(calm, left/3)
	}
	stormCtx, stop := context.WithTimeout(ctx, calm+storm)
	defer stop()
	if err := r.forgive(ctx); err != nil {
		return err
	}

	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() { r.write(stormCtx, w, n) })
	}
	writing.Go(func() { r.linger(stormCtx, n) })
	writing.Go(func() { canary.run(stormCtx) })
	writing.Go(func() { r.watchFloors(stormCtx) })
	if r.pgbench {
		writing.Go(func() { r.runPgbench(stormCtx, n) })
	}
	err := r.strike(stormCtx, n, calm)
	writing.Wait()
	if err != nil {
		return err
	}
	return r.closeWrites(context.WithoutCancel(ctx))
}

// forgive lets each round begin as if capture had last been mended long ago. What breaks
// again and again is mended after ever longer pauses, and here a month's mishaps happen in
// minutes.
func (r *run) forgive(ctx context.Context) error {
	return r.insistOn(ctx, r.super, "update freshet.source set mended_at = mended_at - interval '10 minutes', mend_after = null, mend_tries = 0")
}

// watchFloors counts change tables that are emptied.
func (r *run) watchFloors(ctx context.Context) {
	known := make(map[int]string)
	for ; ctx.Err() == nil; hold(ctx, time.Second) {
		rows, _ := r.super.Query(ctx, "select id, floor::text from freshet.source where relid is not null")
		var (
			id    int
			floor string
		)
		_, _ = pgx.ForEachRow(rows, []any{&id, &floor}, func() error {
			if was, there := known[id]; there && was != floor {
				r.note(func() { r.Emptied++ })
			}
			known[id] = floor
			return nil
		})
	}
}

// alone takes what a fault strikes for itself. The caller lets go with the result.
func (r *run) alone(subject string) (release func()) {
	lock, _ := r.subjects.LoadOrStore(subject, new(sync.Mutex))
	lock.(*sync.Mutex).Lock()
	return lock.(*sync.Mutex).Unlock
}

// hold waits for d, or less when ctx ends: then the fault is to heal at once.
func hold(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
