package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/metrics"
)

// Leases are those that are held now, for the metrics.
func (k *Keeper) Leases() []metrics.Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	leases := make([]metrics.Lease, 0, len(k.held))
	for _, h := range k.held {
		l := metrics.Lease{ID: h.ID, Kind: string(h.Kind), Lane: h.Kind == catalog.Sync, Sink: h.Sink, Target: h.Target, Shard: h.Part}
		h.mu.Lock()
		l.AsOf = h.asOf
		h.mu.Unlock()
		leases = append(leases, l)
	}
	return leases
}

// Now is by Postgres' clock, like the moments that it is compared with, and also while Postgres
// is away.
func (k *Keeper) Now() time.Time { return time.Now().Add(time.Duration(k.ahead.Load())) }

// Beaten is how long ago the last heartbeat succeeded, false before the first.
func (k *Keeper) Beaten() (time.Duration, bool) { return k.beats.Age() }

// Recent is nil while heartbeats arrive so often that nobody takes the leases away.
func (k *Keeper) Recent(context.Context) error {
	age, begun := k.beats.Age()
	if begun && age < Silence {
		return nil
	}
	k.mu.Lock()
	err := k.err
	k.mu.Unlock()
	switch {
	case !begun && err == nil:
		return errors.New("there was none yet")
	case !begun:
		return fmt.Errorf("there was none yet: %w", err)
	case err == nil:
		return fmt.Errorf("the last one was %s ago", age.Round(time.Second))
	}
	return fmt.Errorf("the last one was %s ago: %w", age.Round(time.Second), err)
}
