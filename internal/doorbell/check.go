package doorbell

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/cursor"
)

const checkTimeout = 10 * time.Second

// check looks each second, in one query for all sleepers, whether anything is pending.
// It finds what the bell cannot ring for, and it is what lets an idle lane say as of
// when it is right.
func (b *Bell) check(ctx context.Context) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		b.Turns.Beat()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := b.lookOnce(ctx); err != nil && ctx.Err() == nil {
			b.log.Debug("check for pending changes", "err", err)
			b.wakeAll()
		}
	}
}

func (b *Bell) wakeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sleepers {
		s.Ring()
	}
}

func (b *Bell) lookOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()

	var (
		sleepers []*Sleeper
		sources  []int32
		passed   []string
	)
	b.mu.Lock()
	for _, s := range b.sleepers {
		if s.asleep && s.passed.Xmax > 0 {
			sleepers, sources, passed = append(sleepers, s), append(sources, s.source), append(passed, s.passed.String())
		}
	}
	b.mu.Unlock()
	if len(sleepers) == 0 {
		return nil
	}

	var (
		now         string
		at          time.Time
		incarnation *string
		pending     []int32
		went        bool
		position    string
	)
	err := b.pool.QueryRow(ctx, `
		select pg_current_snapshot()::text, clock_timestamp(), freshet.incarnation(),
		       array(select u.n::int from rows from (pg_catalog.unnest($1::int[]), pg_catalog.unnest($2::text[])) with ordinality as u (source, passed, n)
		             where freshet.has_changes(u.source, u.passed::pg_snapshot)),
		       i.insert::text, coalesce(i.insert < nullif($3, '')::pg_lsn, false)
		from pg_current_wal_insert_lsn() as i (insert)`,
		sources, passed, b.reached).Scan(&now, &at, &incarnation, &pending, &position, &went)
	if err != nil {
		return fmt.Errorf("look for pending changes: %w", err)
	}
	b.reached = position
	if went {
		// Postgres has gone back in time, and to its sleepers nothing has happened: they look
		// before it has come as far as they were.
		b.wakeAll()
		return nil
	}
	snapshot, err := cursor.ParseSnapshot(now)
	if err != nil {
		return err
	}
	behind := make(map[int32]bool, len(pending))
	for _, n := range pending {
		behind[n-1] = true
	}
	for i, s := range sleepers {
		if behind[int32(i)] || incarnation == nil || *incarnation != s.incarnation {
			s.Ring()
			continue
		}
		b.mu.Lock()
		still := s.asleep
		if still {
			s.passed = snapshot
		}
		b.mu.Unlock()
		if still {
			s.checked(snapshot, at)
		}
	}
	return nil
}
