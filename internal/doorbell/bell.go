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
	"github.com/freshet/freshet/internal/health"
	"github.com/freshet/freshet/internal/quiet"
)

const (
	channel = "freshet_bell"
	// lockClass is the first half of the advisory lock; the second is the source's id.
	// The generated triggers name it too.
	lockClass = 1181905011
	// proxyClass likewise, for those who rely on another worker's lock: whoever gives the
	// lock back without a ring has to tell them.
	proxyClass = 1181905012

	checkEvery = time.Second
	// redial bounds the pause after the listening connection was lost.
	redial = time.Second
	// armPatience bounds how long a lane waits for the listening connection.
	armPatience = time.Second
	// keepTime is how long a lock is kept after a ring for a lane that arms again: longer than it takes to apply a change
	// or two. Meanwhile commits ring for nobody, so a second one ends it.
	keepTime = 5 * time.Millisecond
)

// Bell serves the sleepers of one worker.
type Bell struct {
	// Turns is beaten by each check for pending changes.
	Turns health.Pulse

	pool     *pgxpool.Pool
	dial     func(context.Context) (*pgx.Conn, error)
	pollOnly bool
	log      *slog.Logger
	trouble  *quiet.Trouble

	requests chan request
	// reached is where the WAL was at the last check for pending changes.
	reached string

	mu       sync.Mutex
	sleepers map[int64]*Sleeper
	next     int64
	// armed are the sources that ring: whose lock the listening connection holds, or, by
	// proxy, another worker's.
	armed map[int32]grip
	// kept are the sources that do not ring any more although the listening connection has their lock still, until the
	// timer fires: where changes are few, a lane arms again soon, and neither takes its time by giving back and taking.
	kept map[int32]*time.Timer
	// interrupt ends the wait for notifications so that a request is served.
	interrupt context.CancelFunc
}

// grip is how a source is armed.
type grip int

const (
	loose grip = iota
	own
	proxy
)

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
		trouble:  quiet.NewTrouble(log, "the doorbell is out of order; changes are found by the check each second", "the doorbell rings again"),
		requests: make(chan request, 64),
		sleepers: make(map[int64]*Sleeper),
		armed:    make(map[int32]grip),
		kept:     make(map[int32]*time.Timer),
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
			b.trouble.Note(err)
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
	// incarnation that the lane works in: in another one its snapshots mean nothing.
	incarnation string

	// guarded by bell.mu
	passed cursor.Snapshot
	asleep bool

	// checked is called with what the check each second found to be passed.
	checked func(passed cursor.Snapshot, at time.Time)
}

// NewSleeper registers a lane of a source. While it sleeps, checked is told each second
// that nothing is pending as of a snapshot. Close must be called.
func (b *Bell) NewSleeper(source int32, incarnation string, checked func(passed cursor.Snapshot, at time.Time)) *Sleeper {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	s := &Sleeper{bell: b, id: b.next, source: source, wake: make(chan struct{}, 1), incarnation: incarnation, checked: checked}
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
	armed := s.bell.rings(s.source)
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
	timer := time.NewTimer(armPatience)
	defer timer.Stop()
	select {
	case armed := <-done:
		return armed
	case <-timer.C: // the listening connection hangs
		return false
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

// Ring wakes the lane.
func (s *Sleeper) Ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (b *Bell) isArmed(source int32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rings(source)
}

// rings reports whether a source is armed, as one is from here on whose lock was kept. The caller holds b.mu.
func (b *Bell) rings(source int32) bool {
	if b.unkeep(source) {
		b.armed[source] = own
	}
	return b.armed[source] != loose
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
	keep := b.armed[source] == loose || b.inUse(source)
	b.mu.Unlock()
	if keep {
		return
	}
	b.askDisarm(source)
}

// askDisarm has the listener give the lock of a source back if nobody needs it by then.
func (b *Bell) askDisarm(source int32) {
	select {
	case b.requests <- request{source: source, disarm: true}:
		b.poke()
	default: // the bell's next ring gives it back
	}
}

// rung wakes everybody who sleeps on a source. It returns what is to be given back: from
// here on nobody may take the source for armed.
func (b *Bell) rung(source int32) grip {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := b.armed[source]
	delete(b.armed, source)
	for _, s := range b.sleepers {
		if s.source == source {
			s.Ring()
		}
	}
	if b.unkeep(source) {
		return own // it rang twice
	}
	if held == own {
		b.kept[source] = time.AfterFunc(keepTime, func() { b.askDisarm(source) })
		return loose
	}
	return held
}

// unkeep reports whether the lock of a source was kept, and forgets that. The caller holds b.mu.
func (b *Bell) unkeep(source int32) bool {
	timer, is := b.kept[source]
	if is {
		timer.Stop()
		delete(b.kept, source)
	}
	return is
}

// release forgets that a source is armed unless somebody sleeps on it, and returns what
// is to be given back.
func (b *Bell) release(source int32) grip {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unkeep(source) {
		return own
	}
	if b.inUse(source) {
		return loose
	}
	held := b.armed[source]
	delete(b.armed, source)
	return held
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
		for source := range b.kept {
			b.unkeep(source)
		}
		b.interrupt = nil
		// Whoever sleeps relies on a bell that is gone.
		for _, s := range b.sleepers {
			s.Ring()
		}
		b.mu.Unlock()
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closeCtx)
	}()
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return err
	}
	b.trouble.Note(nil)
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
			if err := unlock(ctx, conn, int32(source), b.rung(int32(source))); err != nil {
				return err
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
				if err := unlock(ctx, conn, r.source, b.release(r.source)); err != nil {
					return err
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

// lock takes the lock of a source. When another worker's sleeper holds it, the bell rings
// for everybody: then that one is relied on.
func (b *Bell) lock(ctx context.Context, conn *pgx.Conn, source int32) (bool, error) {
	if b.isArmed(source) {
		return true, nil
	}
	held := own
	var locked bool
	if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1, $2)", lockClass, source).Scan(&locked); err != nil {
		return false, err
	}
	if !locked {
		// First said that we rely on it, then asked whether it is there: else its holder
		// could give it back in between and tell nobody.
		if _, err := conn.Exec(ctx, "select pg_advisory_lock_shared($1, $2)", proxyClass, source); err != nil {
			return false, err
		}
		var other bool
		err := conn.QueryRow(ctx, `select exists (
			select from pg_locks
			where locktype = 'advisory' and classid = $1 and objid = $2 and objsubid = 2 and mode = 'ExclusiveLock' and granted
			  and database = (select oid from pg_database where datname = current_database()))`,
			lockClass, source).Scan(&other)
		if err != nil {
			return false, err
		}
		if !other {
			return false, unlock(ctx, conn, source, proxy)
		}
		held = proxy
	}
	b.mu.Lock()
	b.armed[source] = held
	b.mu.Unlock()
	return true, nil
}

// unlock gives back what a source was armed with. Where it is the lock itself, it rings for those who relied on that.
func unlock(ctx context.Context, conn *pgx.Conn, source int32, held grip) error {
	var err error
	switch held {
	case own:
		_, err = conn.Exec(ctx, `
			select pg_advisory_unlock($1, $3),
				case when pg_try_advisory_lock($2, $3) then pg_advisory_unlock($2, $3)::text else pg_notify($4, $3::int::text)::text end`,
			lockClass, proxyClass, source, channel)
	case proxy:
		_, err = conn.Exec(ctx, "select pg_advisory_unlock_shared($1, $2)", proxyClass, source)
	}
	return err
}
