package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/fence"
)

// items is the table of the live benchmarks. An updated_at that the application sets, and an
// index on it, are what a worker written by hand needs.
const items = `drop table if exists %[1]s;
create table %[1]s (
	id bigint primary key, name text not null, status text not null, stock integer not null, price numeric(12,2) not null,
	settings jsonb not null, updated_at timestamptz not null default now());
create index on %[1]s (updated_at);
insert into %[1]s
select g, 'Item number ' || g, 'new', g %% 100, (g %% 10000) / 100.0,
       jsonb_build_object('color', case when g %% 2 = 0 then 'red' else 'blue' end, 'tags', jsonb_build_array('a', 'b')), now()
from generate_series(1, %[2]d) g;`

// plain is a table of the same rows without capture, for those that do without Freshet.
const plain = "plain"

// markItem changes one of them, as a watch wants it.
func markItem(table string) string {
	return fmt.Sprintf("update %s set status = $1, updated_at = now() where id = $2", table)
}

// makeRows makes one of these tables with n rows.
func (s *stage) makeRows(ctx context.Context, table string, n int) error {
	if err := s.exec(ctx, fmt.Sprintf(items, table, n)); err != nil {
		return err
	}
	return s.exec(ctx, "vacuum (analyze, freeze) "+table)
}

// makeItems makes the table with n rows, and a sink that is warm.
func (s *stage) makeItems(ctx context.Context, n int) error {
	if err := s.clear(ctx); err != nil {
		return err
	}
	if err := s.makeRows(ctx, "items", n); err != nil {
		return err
	}
	if err := s.exec(ctx, "select freshet.create_sink('items', 'items')"); err != nil {
		return err
	}
	return s.serve(ctx, func() error {
		return s.await(ctx, "select bool_and(state = 'completed') from freshet.backfills where sink = 'items'")
	})
}

// lane is one of a sink's.
type lane struct {
	// key is its control key in Redis.
	key    string
	lease  int64
	source int32
}

func (s *stage) lanes(ctx context.Context, sink string) ([]lane, error) {
	rows, err := s.db.Query(ctx, `select i.id, s.id, l.part, l.id, s.source_id from freshet.lease l join freshet.sink s on s.id = l.sink_id, freshet.installation i
		where s.name = $1 and l.kind = 'sync'`, sink)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l lane, err error) {
		var (
			installation, part string
			id                 int32
		)
		err = row.Scan(&installation, &id, &part, &l.lease, &l.source)
		l.key = fence.Key(installation, id, part)
		return l, err
	})
}

// applied waits until every lane of these sinks has applied what is captured.
func (s *stage) applied(ctx context.Context, sinks ...string) error {
	return s.reached(ctx, sinks, func(l lane, c cursor.Cursor, _ string) (bool, error) {
		return one[bool](ctx, s, "select not freshet.has_changes($1, $2::text::pg_snapshot)", l.source, c.Done.String())
	})
}

// ready waits until every lane of these sinks is at work and has nothing to do.
func (s *stage) ready(ctx context.Context, sinks ...string) error {
	return s.reached(ctx, sinks, func(l lane, _ cursor.Cursor, now string) (bool, error) {
		return one[bool](ctx, s, "select coalesce(freshet.snapshot_covers(l.passed, $2::text::pg_snapshot), false) from freshet.lease l where l.id = $1", l.lease, now)
	})
}

// standstill is after how long without a move of its cursor Postgres is asked of a lane.
const standstill = 50 * time.Millisecond

// reached waits until the cursors in Redis see what this moment's snapshot does. A lane that has nothing to do leaves its cursor
// there as it is, for half a minute: of one that stands still, otherwise says whether it is enough.
func (s *stage) reached(ctx context.Context, sinks []string, otherwise func(l lane, c cursor.Cursor, now string) (bool, error)) error {
	now, err := s.snapshot(ctx)
	if err != nil {
		return err
	}
	for _, sink := range sinks {
		lanes, err := s.lanes(ctx, sink)
		if err != nil {
			return err
		}
		for _, l := range lanes {
			if err := s.reach(ctx, l, now, func(c cursor.Cursor) (bool, error) { return otherwise(l, c, now.String()) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// snapshot is which transactions have ended by now.
func (s *stage) snapshot(ctx context.Context) (cursor.Snapshot, error) {
	text, err := one[string](ctx, s, "select pg_current_snapshot()::text")
	if err != nil {
		return cursor.Snapshot{}, err
	}
	return cursor.ParseSnapshot(text)
}

// reach waits for one lane.
func (s *stage) reach(ctx context.Context, l lane, now cursor.Snapshot, otherwise func(c cursor.Cursor) (bool, error)) error {
	last, moved := "", time.Now()
	for {
		at, err := s.cache.HGet(ctx, l.key, "cursor").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		c, err := cursor.Parse(at)
		switch {
		case err == nil && c.Done.Covers(now):
			return nil
		case err != nil || at != last:
			last, moved = at, time.Now()
		case time.Since(moved) >= standstill:
			if enough, err := otherwise(c); err != nil || enough {
				return err
			}
			moved = time.Now()
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// handmade is a worker as one would write it by hand: every 100 ms it asks for the rows whose
// updated_at is later than the last one it has seen, and writes them in pipelines.
type handmade struct {
	s             *stage
	table, prefix string
	// seen is how many rows it has written.
	seen   atomic.Int64
	cancel context.CancelFunc
	ended  chan error
}

const (
	handmadeEvery = 100 * time.Millisecond
	handmadeBatch = 1000
)

// byHand starts one that follows a table from a moment on, null for the newest row there is.
func (s *stage) byHand(ctx context.Context, table string, since *time.Time) (*handmade, error) {
	conn, err := pgx.Connect(ctx, s.databaseURL)
	if err != nil {
		return nil, err
	}
	if since == nil {
		if err := conn.QueryRow(ctx, "select max(updated_at) from "+table).Scan(&since); err != nil {
			return nil, errors.Join(err, conn.Close(ctx))
		}
	}
	h := &handmade{s: s, table: table, prefix: "hand:", ended: make(chan error, 1)}
	ctx, h.cancel = context.WithCancel(ctx)
	last := *since
	go func() {
		defer conn.Close(context.WithoutCancel(ctx))
		h.ended <- h.poll(ctx, conn, &last)
	}()
	return h, nil
}

// poll takes its turns by the clock, however long one takes, until ctx ends.
func (h *handmade) poll(ctx context.Context, conn *pgx.Conn, last *time.Time) error {
	ticker := time.NewTicker(handmadeEvery)
	defer ticker.Stop()
	for {
		err := h.turn(ctx, conn, last)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *handmade) turn(ctx context.Context, conn *pgx.Conn, last *time.Time) error {
	rows, err := conn.Query(ctx, fmt.Sprintf("select id, to_jsonb(%[1]s), updated_at from %[1]s where updated_at > $1 order by updated_at", h.table), *last)
	if err != nil {
		return err
	}
	defer rows.Close()
	pipe := h.s.cache.Pipeline()
	flush := func() error {
		n := pipe.Len()
		if n == 0 {
			return nil
		}
		_, err := pipe.Exec(ctx)
		h.seen.Add(int64(n))
		return err
	}
	for rows.Next() {
		var (
			id    int64
			value json.RawMessage
		)
		if err := rows.Scan(&id, &value, last); err != nil {
			return err
		}
		pipe.Set(ctx, fmt.Sprintf("%s%d", h.prefix, id), []byte(value), 0)
		if pipe.Len() >= handmadeBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return errors.Join(rows.Err(), flush())
}

// await waits until it has written so many rows.
func (h *handmade) await(ctx context.Context, rows int64) error {
	for h.seen.Load() < rows {
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// end stops it.
func (h *handmade) end() error {
	h.cancel()
	return <-h.ended
}

// wrong is how many entries are not what the table says.
type wrong struct{ stale, missing, orphaned int }

// wrong compares a table and the entries under a prefix both ways, once everything has been applied.
func (s *stage) wrong(ctx context.Context, table, prefix string) (found wrong, err error) {
	rows, err := s.db.Query(ctx, fmt.Sprintf("select $1 || id, to_jsonb(%[1]s)::text from %[1]s order by id", table), prefix)
	if err != nil {
		return found, err
	}
	var (
		key, row   string
		keys, want []string
		there      = make(map[string]bool)
	)
	look := func() error {
		if len(keys) == 0 {
			return nil
		}
		values, err := s.cache.MGet(ctx, keys...).Result()
		if err != nil {
			return err
		}
		for i, v := range values {
			text, ok := v.(string)
			switch {
			case !ok:
				found.missing++
			case !sameJSON(text, want[i]):
				found.stale++
			}
		}
		keys, want = keys[:0], want[:0]
		return nil
	}
	_, err = pgx.ForEachRow(rows, []any{&key, &row}, func() error {
		there[key] = true
		if keys, want = append(keys, key), append(want, row); len(keys) < 1000 {
			return nil
		}
		return look()
	})
	if err := errors.Join(err, look()); err != nil {
		return found, err
	}
	orphans := make(map[string]bool)
	iter := s.cache.Scan(ctx, 0, prefix+"*", 10_000).Iterator()
	for iter.Next(ctx) {
		if !there[iter.Val()] {
			orphans[iter.Val()] = true
		}
	}
	found.orphaned = len(orphans)
	return found, iter.Err()
}

// sameJSON reports whether two texts are the same JSON, in whatever order and with whatever blanks.
func sameJSON(a, b string) bool {
	var values [2]any
	for i, text := range []string{a, b} {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if d.Decode(&values[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

// right fails if an entry under a prefix is wrong.
func (s *stage) right(ctx context.Context, table, prefix string) error {
	found, err := s.wrong(ctx, table, prefix)
	if err == nil && found != (wrong{}) {
		err = fmt.Errorf("of %s, %d entries are stale, %d missing, %d orphaned", prefix, found.stale, found.missing, found.orphaned)
	}
	return err
}
