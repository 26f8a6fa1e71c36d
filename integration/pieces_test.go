package integration

import (
	"fmt"
	"strings"
	"testing"

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
		{"errors among them", "update docs set kind = case when id % 997 = 0 then 0 else 1 end, body = repeat('large', 2000) where id > 12000", 6, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec("create table docs (id int primary key, kind int not null default 1, body text not null default 'x'); insert into docs select generate_series(1, 20000)")
			e.exec("select freshet.create_sink('docs', 'docs', filter => '1 / kind = 1', backfill => false)")
			start := e.firstCursor()
			e.exec(c.change)

			// A reader of a worker that has seen many small changes, and a new one.
			for _, limit := range []int{32_000, 1000} {
				reader := e.reader(e.db, "docs")
				var (
					at             = start
					pieces, failed int
					got            = make(map[string]string)
				)
				take := func(entries *source.Entries) {
					t.Helper()
					pieces++
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
					b, err := reader.Claim(t.Context(), at, limit, &entries)
					if err != nil {
						t.Fatal(err)
					}
					read := 0
					for take(&entries); b.More(); take(&entries) {
						entries.Reset()
						read++
						before := b.Insert
						if err := reader.Rest(t.Context(), &b, &entries); err != nil {
							t.Fatal(err)
						}
						if b.Insert < before || b.Read.Before(b.At) {
							t.Errorf("what is left was read at %s, %v; the batch was claimed at %s, %v", b.Insert, b.Read, before, b.At)
						}
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
					t.Errorf("limit %d: %d entries in %d pieces, %d failed; want %d in %d at least, %d", limit, len(got), pieces, failed, len(want), c.pieces, c.failed)
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

// Whoever goes on after a part of a batch was written writes all of it.
func TestWorkerKilledBetweenThePartsOfABatch(t *testing.T) {
	e := newEnv(t)
	e.exec("create table docs (id int primary key, body text not null); insert into docs select g, 'x' from generate_series(1, 400) g")
	e.exec("select freshet.create_sink('docs', 'docs')")
	for version := range 2 {
		p, _ := e.worker()
		e.settle()
		e.exec("update docs set body = repeat(chr(97 + $1::int), 100000)", version)
		large := func(id int) bool {
			return e.redis.StrLen(t.Context(), fmt.Sprintf("docs:%d", id)).Val() > 100_000 && e.entry(fmt.Sprintf("docs:%d", id))[20] == 'a'+byte(version)
		}
		e.await("the first entries are written", func() bool { return large(1) })
		p.kill()
		if large(400) {
			t.Log("all of them were written before the worker was killed")
		}
		e.admin().exec("update freshet.lease set heartbeat_at = 'epoch' where holder is not null")
		stop := e.start()
		e.settle()
		stop()
		e.inStep("docs:*", "select 'docs:' || id, to_jsonb(d)::text from docs d")
	}
}
