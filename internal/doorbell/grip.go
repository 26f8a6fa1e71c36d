package doorbell

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// grip is how a source is armed.
type grip int

const (
	loose grip = iota
	own
	proxy
)

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
