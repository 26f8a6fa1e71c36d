package doorbell

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

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

// poke makes the listener look at its requests.
func (b *Bell) poke() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.interrupt != nil {
		b.interrupt()
	}
}
