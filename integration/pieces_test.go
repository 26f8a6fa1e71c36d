package integration

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/source"
)

// However many changes a claim has and however large their entries are, a few megabytes of them are in memory at a time,
// and each is there once.
func TestBatchIsReadInPiecesThatFitIntoMemory(t *testing.T) {
	t.Parallel()
	const mostBytes = 7 << 20
	for _, c := range []struct {
		name, change string
		// pieces is how many there are at least, failed how many entries raise an error.
		pieces, failed int
	}{
		{"a few large", "update docs set body = repeat('large', 20000) where id % 50 = 0", 6, 0},
		{"many small", "update docs set body = 'small'", 3, 0},
		{"large next to each other", "update docs set body = repeat('large', 4000) where id between 3000 and 6000", 6, 0},
		{"large after small", "update docs set body = repeat('x', case when id > 19000 then 20000 else 1 end)", 6, 0},
		{"large far from each other", "update docs set body = repeat('large', 4000) where id % 9 = 0", 6, 0},
		{"large and gone", "update docs set body = repeat('large', 4000) where id % 4 = 0; delete from docs where id % 3 = 0", 6, 0},
		{"large from some row on", "update docs set body = case when id < 300 then 'x' else repeat('large', 500) end", 6, 0},
		{"errors among them", "update docs set kind = case when id % 997 = 0 then 0 else 1 end, body = repeat('large', 2000) where id > 12000", 6, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec("create table docs (id int primary key, kind int not null default 1, body text not null default 'x'); insert into docs select generate_series(1, 20000)")
			e.exec("select freshet.create_sink('docs', 'docs', filter => '1 / kind = 1', backfill => false)")
			start := e.firstCursor()
			e.exec(c.change)

			// A reader of a worker that has seen many small changes, a new one, and one of which several read at once.
			for _, r := range []struct{ limit, readers int }{{32_000, 1}, {1000, 1}, {32_000, 3}} {
				reader := e.reader(e.db, "docs")
				var (
					mu             sync.Mutex
					at             = start
					pieces, failed int
					got            = make(map[string]string)
				)
				take := func(entries *source.Entries) {
					mu.Lock()
					defer mu.Unlock()
					if entries.Len() > 0 {
						pieces++
					}
					failed += len(entries.Failures())
					if n := entries.Bytes(); n > mostBytes {
						t.Errorf("a piece has %d bytes", n)
					}
					for i := range entries.Len() {
						key := string(entries.Key(i))
						value, _ := entries.Value(i)
						if before, twice := got[key]; twice && before != string(value) {
							t.Errorf("%s is there twice", key)
						}
						got[key] = string(value)
					}
				}
				for {
					var entries source.Entries
					b, err := reader.Claim(t.Context(), at, r.limit, &entries)
					if err != nil {
						t.Fatal(err)
					}
					take(&entries)
					var group errgroup.Group
					for range r.readers {
						group.Go(func() error {
							var entries source.Entries
							for part := b; part.More(); take(&entries) {
								entries.Reset()
								before := part.Insert
								if err := reader.Rest(t.Context(), &part, &entries); err != nil {
									return err
								}
								if part.Insert < before || part.Read.Before(b.At) {
									t.Errorf("what is left was read at %s, %v; the batch was claimed at %s, %v", part.Insert, part.Read, before, b.At)
								}
							}
							return nil
						})
					}
					if err := group.Wait(); err != nil {
						t.Fatal(err)
					}
					if at = b.Next; b.CaughtUp {
						break
					}
				}
				want := make(map[string]string)
				rows, err := e.db.Query(t.Context(), `
					select distinct on (1) 'docs:' || k, coalesce((select '{"id":' || id || ',"kind":1,"body":"' || body || '"}' from docs where id = k and kind = 1), '')
					from freshet.changes_1 c cross join lateral (select c.k1 where tuples is null union all select unnest(c.k1s)) as k (k)`)
				if err != nil {
					t.Fatal(err)
				}
				for rows.Next() {
					var key, value string
					if err := rows.Scan(&key, &value); err != nil {
						t.Fatal(err)
					}
					want[key] = value
				}
				for key, value := range want {
					if have, is := got[key]; !is || have != value {
						t.Fatalf("%s: %s, %v; want %s", key, shortened(have), is, shortened(value))
					}
				}
				if len(got) != len(want) || pieces < c.pieces || failed != c.failed {
					t.Errorf("%+v: %d entries in %d pieces, %d failed; want %d in %d at least, %d", r, len(got), pieces, failed, len(want), c.pieces, c.failed)
				}
			}
		})
	}
}

func shortened(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:60], ""), len(s))
	}
	return s
}

// The cursor of a batch moves when all its parts are written, and not before: whoever goes on after some of them writes all.
func TestWorkerKilledBetweenThePartsOfABatch(t *testing.T) {
	e := newEnv(t)
	e.exec("create table docs (id int primary key, version int not null); insert into docs select g, 0 from generate_series(1, 12000) g")
	e.exec(`create function read_when_unlocked(id int) returns boolean language plpgsql immutable as $$
		begin
			if id = 12000 then
				perform pg_advisory_xact_lock_shared(12000);
			end if;
			return true;
		end $$`)
	e.exec("select freshet.create_sink('docs', 'docs', filter => 'public.read_when_unlocked(id)')")
	p, _ := e.worker()
	e.settle()
	locked := e.begin()
	e.in(locked, "select pg_advisory_xact_lock(12000)")
	e.exec("update docs set version = 1")
	written := func(id int) bool {
		return e.entry(fmt.Sprintf("docs:%d", id)) == fmt.Sprintf(`{"id":%d,"version":1}`, id)
	}
	e.await("parts of the last batch are written", func() bool { return written(8000) && written(9000) })
	if written(12000) {
		t.Fatal("no part of it is held up")
	}
	p.kill()
	e.commit(locked)
	e.admin().exec("update freshet.lease set heartbeat_at = 'epoch' where holder is not null")
	stop := e.start()
	e.settle()
	stop()
	e.inStep("docs:*", "select 'docs:' || id, to_jsonb(d)::text from docs d")
}
