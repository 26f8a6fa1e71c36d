package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// fault is one kind of harm. strike does it, holds it for a while (less when ctx ends) and
// heals it before it returns, whatever happens: afterwards everything has to be able to
// work again. What it needs for itself it takes with run.alone. Its choices come from draw
// and nowhere else. An error is the soak's own failure and never Freshet's.
type fault struct {
	kind string
	// weight says how often it strikes, compared with the others.
	weight int
	strike func(ctx context.Context, r *run, draw *rand.Rand) (what string, err error)
}

// faults is the table of all of them: to add one, write its function and its line.
var faults = []fault{
	{"worker-kill", 4, killWorker},
	{"worker-stop", 4, stopWorker},
	{"worker-term", 2, terminateWorker},
	{"postgres-backend-kill", 2, killBackend},
	{"postgres-crash", 1, crashPostgres},
	{"postgres-restart", 1, restartPostgres},
	{"postgres-terminate", 3, terminateBackends},
	{"redis-empty", 2, restartRedisEmpty},
	{"redis-old", 3, restartRedisFromOldDump},
	{"redis-flush", 2, flushRedis},
	{"redis-control-keys", 2, deleteControlKeys},
	{"redis-owner-keys", 2, deleteOwnerKeys},
	{"redis-cut", 3, cutConnections},
	{"redis-stop", 2, stopRedis},
	{"redis-refuse", 2, refuseWrites},
	{"redis-full", 2, fillRedis},
	{"sink-shards", 3, changeShards},
	{"sink-pause", 2, pauseSink},
	{"sink-backfill", 2, backfillSink},
	{"sink-sweep", 2, sweepSink},
	{"sink-refresh", 1, refreshEntry},
	{"sink-drop", 3, dropSink},
	{"sink-value", 2, changeValue},
	{"sink-key", 2, changeKey},
	{"sink-lapse", 2, lapseSink},
	{"sink-rate", 2, rewarmSlowly},
	{"capture-error", 2, plantError},
	{"capture-dropped", 2, dropChangeTable},
	{"capture-segment", 1, dropSegment},
	{"capture-disabled", 3, disableTriggers},
	{"capture-function", 1, dropTriggerFunction},
	{"capture-replica", 2, loadAsReplica},
	{"schema-column", 4, changeColumns},
	{"schema-leaf", 4, changeLeaves},
	{"schema-swap", 2, swapTables},
	{"schema-gone", 1, dropTable},
	{"source-truncate", 2, truncateSource},
	{"entries-fail", 3, failEntries},
}

func named(kind string) (fault, bool) {
	i := slices.IndexFunc(faults, func(f fault) bool { return f.kind == kind })
	if i < 0 {
		return fault{}, false
	}
	return faults[i], true
}

func allKinds() string {
	var kinds []string
	for _, f := range faults {
		kinds = append(kinds, f.kind)
	}
	return strings.Join(kinds, ", ")
}

// draw picks a fault among those that may strike.
func (r *run) draw(from *rand.Rand) (fault, bool) {
	var list []fault
	total := 0
	for _, f := range faults {
		if len(r.kinds) == 0 || slices.Contains(r.kinds, f.kind) {
			list, total = append(list, f), total+f.weight
		}
	}
	if total == 0 {
		return fault{}, false
	}
	n := from.IntN(total)
	for _, f := range list {
		if n -= f.weight; n < 0 {
			return f, true
		}
	}
	panic("weights")
}

// strike lets faults strike after a calm until ctx ends, several at a time as it happens,
// and returns when all of them are healed.
func (r *run) strike(ctx context.Context, round uint64, calm time.Duration) error {
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		first error
		draw  = r.stream(forFaults, round<<20)
	)
	hold(ctx, calm)
	for n := uint64(1); ctx.Err() == nil; n++ {
		f, any := r.draw(draw)
		if !any {
			<-ctx.Done()
			break
		}
		gap := time.Duration(draw.Float64() * 2 * float64(r.pause))
		all.Go(func() {
			end := r.windows.open()
			defer end()
			began := time.Now()
			what, err := f.strike(ctx, r, r.stream(forFaults, round<<20|n))
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = fmt.Errorf("fault %s: %w", f.kind, err)
				}
				return
			}
			if what != "" {
				r.note(func() { r.Faults[f.kind]++ })
				r.say("fault  %s: %s, healed after %.1f s", f.kind, what, time.Since(began).Seconds())
			}
		})
		hold(ctx, gap)
	}
	all.Wait()
	return first
}

// seconds draws a time between two numbers of them.
func seconds(draw *rand.Rand, from, to float64) time.Duration {
	return time.Duration((from + draw.Float64()*(to-from)) * float64(time.Second))
}
