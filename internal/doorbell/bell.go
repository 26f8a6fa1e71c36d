package doorbell

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/cursor"
)

const (
	channel = "freshet_bell"
	// lockClass is the first half of the advisory lock; the second is the source's id.
	// The generated triggers name it too.
	lockClass = 1181905011

	checkEvery = time.Second
	// redial bounds the pause after the listening connection was lost.
	redial = time.Second
)

// Bell serves the sleepers of one worker.
type Bell struct {
	pool     *pgxpool.Pool
	dial     func(context.Context) (*pgx.Conn, error)
	pollOnly bool
	log      *slog.Logger

	requests chan request

	mu       sync.Mutex
	sleepers map[int64]*Sleeper
	next     int64
	// armed are the sources whose lock the listening connection holds, or knows to be
	// held by another sleeper.
	armed map[int32]bool
	// interrupt ends the wait for notifications so that a request is served.
	interrupt context.CancelFunc
}

type request struct {
	source int32
	disarm bool
	done   chan bool
}

// New makes a bell. dial opens a connection of its own for LISTEN; with pollOnly there
// is none, and only the check each second wakes.
func New(pool *pgxpool.Pool, dial func(context.Context) (*pgx.Conn, error), pollOnly bool, log *slog.Logger) *Bell {
	return &Bell{
		pool: pool, dial: dial, pollOnly: pollOnly, log: log,
		requests: make(chan request, 64),
		sleepers: make(map[int64]*Sleeper),
		armed:    make(map[int32]bool),
	}
}

// Run serves until ctx ends.
func (b *Bell) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { b.check(ctx) })
	if b.pollOnly {
		b.refuse(ctx)
		return
	}
	for ctx.Err() == nil {
		if err := b.listen(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("the doorbell is out of order; changes are found by the check each second", "err", err)
			b.refuseFor(ctx, redial)
		}
	}
}

// Sleeper is a lane that may sleep on a source.
type Sleeper struct {
	bell   *Bell
	id     int64
	source int32
	wake   chan struct{}

	// guarded by bell.mu
	passed cursor.Snapshot
	asleep bool

	// checked is called with what the check each second found to be passed.
	checked func(passed cursor.Snapshot, at time.Time)
}

// NewSleeper registers a lane of a source. While it sleeps, checked is told each second
// that nothing is pending as of a snapshot. Close must be called.
func (b *Bell) NewSleeper(source int32, checked func(passed cursor.Snapshot, at time.Time)) *Sleeper {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	s := &Sleeper{bell: b, id: b.next, source: source, wake: make(chan struct{}, 1), checked: checked}
	b.sleepers[s.id] = s
	return s
}

// Close ends the registration.
func (s *Sleeper) Close() {
	s.bell.mu.Lock()
	delete(s.bell.sleepers, s.id)
	s.bell.mu.Unlock()
	s.bell.disarmIfUnused(s.source)
}

// Arm makes sure that the next commit on the source rings. After it returns true, one
// more look at the change table is needed before Sleep; false means that a writer is
// open or the bell out of order, and the caller has to look again soon by itself.
func (s *Sleeper) Arm(ctx context.Context) bool {
	select {
	case <-s.wake: // from before; what it announced is found by the look that follows
	default:
	}
	// Counted as asleep from here on, so that the lock is not given back under it: both
	// this and the giving back happen under one mutex.
	s.bell.mu.Lock()
	s.asleep = true
	armed := s.bell.armed[s.source]
	s.bell.mu.Unlock()
	if armed {
		return true
	}
	done := make(chan bool, 1)
	select {
	case s.bell.requests <- request{source: s.source, done: done}:
		s.bell.poke()
	case <-ctx.Done():
		return false
	}
	select {
	case armed := <-done:
		return armed
	case <-ctx.Done():
		return false
	}
}

// Sleep waits for the bell, the check each second, or the end of d or ctx. passed is
// the snapshot of the caller's last look.
func (s *Sleeper) Sleep(ctx context.Context, passed cursor.Snapshot, d time.Duration) {
	s.bell.mu.Lock()
	s.passed, s.asleep = passed, true
	s.bell.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
	s.Awake()
}

// Awake says that the lane is at work again after Arm or Sleep.
func (s *Sleeper) Awake() {
	s.bell.mu.Lock()
	was := s.asleep
	s.asleep = false
	s.bell.mu.Unlock()
	if was {
		s.bell.disarmIfUnused(s.source)
	}
}

func (s *Sleeper) ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (b *Bell) isArmed(source int32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.armed[source]
}

// poke makes the listener look at its requests.
func (b *Bell) poke() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.interrupt != nil {
		b.interrupt()
	}
}

// disarmIfUnused gives the lock of a source back when nobody sleeps on it any more, so
// that its writers stop ringing.
func (b *Bell) disarmIfUnused(source int32) {
	b.mu.Lock()
	keep := !b.armed[source] || b.inUse(source)
	b.mu.Unlock()
	if keep {
		return
	}
	select {
	case b.requests <- request{source: source, disarm: true}:
		b.poke()
	default: // the bell's next ring gives it back
	}
}

// rung wakes everybody who sleeps on a source. It reports whether the lock is to be
// given back: from here on nobody may take it for armed.
func (b *Bell) rung(source int32) (unlock bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	unlock = b.armed[source]
	delete(b.armed, source)
	for _, s := range b.sleepers {
		if s.source == source {
			s.ring()
		}
	}
	return unlock
}

// release forgets that a source is armed unless somebody sleeps on it.
func (b *Bell) release(source int32) (unlock bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.armed[source] || b.inUse(source) {
		return false
	}
	delete(b.armed, source)
	return true
}

// refuse answers requests when there is no connection to arm with.
func (b *Bell) refuse(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-b.requests:
			if r.done != nil {
				r.done <- false
			}
		}
	}
}

func (b *Bell) refuseFor(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	b.refuse(ctx)
}

// listen owns the listening connection until it fails.
func (b *Bell) listen(ctx context.Context) error {
	conn, err := b.dial(ctx)
	if err != nil {
		return err
	}
	defer func() {
		b.mu.Lock()
		clear(b.armed) // the locks went with the session
		b.interrupt = nil
		b.mu.Unlock()
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closeCtx)
	}()
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return err
	}
	for {
		waitCtx, cancel := context.WithCancel(ctx)
		b.mu.Lock()
		b.interrupt = cancel
		b.mu.Unlock()
		// A request that came before interrupt was set has not been served yet.
		if err := b.serve(ctx, conn); err != nil {
			cancel()
			return err
		}
		notification, err := conn.WaitForNotification(waitCtx)
		cancel()
		switch {
		case err == nil:
			source, convErr := strconv.ParseInt(notification.Payload, 10, 32)
			if convErr != nil {
				continue
			}
			if b.rung(int32(source)) {
				if err := unlock(ctx, conn, int32(source)); err != nil {
					return err
				}
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case conn.IsClosed():
			return err
		case errors.Is(err, context.Canceled):
			// interrupted for a request
		default:
			return err
		}
	}
}

// serve answers the requests that are waiting.
func (b *Bell) serve(ctx context.Context, conn *pgx.Conn) error {
	for {
		select {
		case r := <-b.requests:
			if r.disarm {
				if b.release(r.source) {
					if err := unlock(ctx, conn, r.source); err != nil {
						return err
					}
				}
				continue
			}
			armed, err := b.lock(ctx, conn, r.source)
			r.done <- armed
			if err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// inUse reports whether somebody sleeps on a source. The caller holds b.mu.
func (b *Bell) inUse(source int32) bool {
	for _, s := range b.sleepers {
		if s.source == source && s.asleep {
			return true
		}
	}
	return false
}

// lock takes the lock of a source. It counts as armed too when another worker's
// sleeper holds it: then the bell rings for everybody.
func (b *Bell) lock(ctx context.Context, conn *pgx.Conn, source int32) (bool, error) {
	if b.isArmed(source) {
		return true, nil
	}
	var locked, other bool
	if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1, $2)", lockClass, source).Scan(&locked); err != nil {
		return false, err
	}
	if !locked {
		err := conn.QueryRow(ctx, `select exists (
			select from pg_locks
			where locktype = 'advisory' and classid = $1 and objid = $2 and objsubid = 2 and mode = 'ExclusiveLock' and granted
			  and database = (select oid from pg_database where datname = current_database()))`,
			lockClass, source).Scan(&other)
		if err != nil {
			return false, err
		}
		return other, nil
	}
	b.mu.Lock()
	b.armed[source] = true
	b.mu.Unlock()
	return true, nil
}

func unlock(ctx context.Context, conn *pgx.Conn, source int32) error {
	_, err := conn.Exec(ctx, "select pg_advisory_unlock($1, $2)", lockClass, source)
	return err
}
