package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/source"
)

// claimed is what claims up to the end of a window come to.
type claimed struct {
	// batches are the keys of each with the values of those that are present.
	batches            [][]string
	changes            int
	truncated, touched bool
}

// keys are all of them, each once.
func (c claimed) keys() []string {
	all := slices.Concat(c.batches...)
	slices.Sort(all)
	return slices.Compact(all)
}

// claimAll claims the window of a cursor batch after batch, as a lane does.
func claimAll(t *testing.T, reader *source.Reader, at cursor.Cursor, limit int) (c claimed) {
	t.Helper()
	for {
		var (
			entries source.Entries
			keys    []string
		)
		take := func() {
			for i := range entries.Len() {
				key := string(entries.Key(i))
				if value, present := entries.Value(i); present {
					key += " " + string(value)
				}
				keys = append(keys, key)
			}
			entries.Reset()
		}
		b, err := reader.Claim(t.Context(), at, limit, &entries)
		for take(); err == nil && b.More(); take() {
			err = reader.Rest(t.Context(), &b, &entries)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.batches, c.changes = append(c.batches, keys), c.changes+b.Changes
		c.truncated, c.touched = c.truncated || b.Truncated, c.touched || b.Touched
		if at = b.Next; b.CaughtUp {
			return c
		}
	}
}

const (
	// rawStatement tells the statement by which rows of the change table are read as they are.
	rawStatement = "select count(*) from pg_prepared_statements where name ~ '^freshet_' and statement ~ 'freshet_w.meta, null::xid8'"
	// bareStatement tells that by which Postgres sorts their tuples.
	bareStatement = "select count(*) from pg_prepared_statements where name ~ '^freshet_' and statement ~ 'freshet_fits' and statement !~ 'freshet_present'"
)

// Claims of many changes whose keys are whole numbers or uuids are sorted by the worker. They find what claims find that
// Postgres sorts, which those of shards are, and have it in its order.
func TestClaimsSortedHereAreThoseThatPostgresSorts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, table, key, value, order string
		// raw: they are sorted here.
		raw bool
		// moved makes another key of a row's; touched is one of them, as JSON.
		moved, touched string
	}{
		{name: "whole numbers", raw: true, order: "id", moved: "id = -25000 - id", touched: `[["7"]]`,
			table: "create table items (id int primary key, v int); insert into items select g - 3000, 0 from generate_series(1, 6000) g"},
		{name: "large ones", raw: true, order: "id", moved: "id = 9000000000000000000 - id", touched: `[["7"]]`,
			table: "create table items (id bigint primary key, v int); insert into items select (g - 3000) * 1000000007::bigint, 0 from generate_series(1, 6000) g"},
		{name: "a domain", raw: true, order: "id", moved: "id = -25000 - id", touched: `[["7"]]`,
			table: "create domain number as smallint; create table items (id number primary key, v int); insert into items select g - 3000, 0 from generate_series(1, 6000) g"},
		{name: "uuids", raw: true, order: "id", moved: "id = md5(id::text)::uuid", touched: `[["c4ca4238-a0b9-2382-0dcc-509a6f75849b"]]`,
			table: "create table items (id uuid primary key, v int); insert into items select md5(g::text)::uuid, 0 from generate_series(1, 6000) g"},
		{name: "two columns", raw: true, order: "b, a", key: "items:${a}:${b}", moved: "a = -25000 - a", touched: `[["7", "c4ca4238-a0b9-2382-0dcc-509a6f75849b"]]`,
			table: "create table items (a smallint, b uuid, v int, primary key (b, a)); insert into items select g - 3000, md5((g % 700)::text)::uuid, 0 from generate_series(1, 6000) g"},
		{name: "columns that can be null", raw: true, order: "a", key: "items:${a}:${b}", moved: "b = coalesce(b, 0) + 1", touched: `[["7", "1"]]`,
			table: "create table items (a int not null, b int, v int, unique (a, b)); insert into items select g, nullif(g % 6, 5), 0 from generate_series(1, 6000) g"},
		{name: "groups", raw: true, order: "a", key: "items:${a}", value: "count(*)", moved: "a = nullif(a, 7) + 1", touched: `[["7"]]`,
			table: "create table items (id int primary key, a int, v int); create index on items (a); insert into items select g, g % 2500, 0 from generate_series(1, 6000) g"},
		{name: "texts", order: "id", moved: "id = id || 'x'", touched: `[["N7"]]`,
			table: "create table items (id text primary key, v int); insert into items select 'N' || g, 0 from generate_series(1, 6000) g"},
		{name: "a text beside a number", order: "a, b", key: "items:${a}:${b}", moved: "b = b || 'x'", touched: `[["7", "b"]]`,
			table: "create table items (a int, b text, v int, primary key (a, b)); insert into items select g, 'b', 0 from generate_series(1, 6000) g"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec(c.table)
			e.exec("update items set v = -100 where ctid in (select ctid from items order by ctid limit 20)")
			e.exec("select freshet.create_sink('items', 'items', key => nullif($1, ''), value => nullif($2, ''), backfill => false)", c.key, c.value)
			start := e.firstCursor()
			random := rand.New(rand.NewPCG(1, 2))
			// What stays open is not of the window, which has several ranges then.
			for i := range 3 {
				e.exec("update items set v = -1 - $1::int where ctid = (select min(ctid) from items where v = 0)", i)
				conn := e.connectWith(nil)
				if _, err := conn.Exec(t.Context(), fmt.Sprintf("begin; update items set v = v where v = %d", -1-i)); err != nil {
					t.Fatal(err)
				}
				e.exec("update items set v = 2 where ctid in (select ctid from items where v = 0 order by ctid limit 50)")
			}
			for range 12 {
				low := random.IntN(5000)
				some := fmt.Sprintf("ctid in (select ctid from items where v >= 0 order by %s offset %d limit %d)", c.order, low, 1+random.IntN(1500))
				each := "do $$ declare r record; begin for r in select ctid from items where " + some + " loop update items set %s where ctid = r.ctid; end loop; end $$"
				e.exec([]string{
					"update items set v = v + 1 where " + some, "update items set v = v + 1 where v >= 0", "delete from items where v > 3 and " + some,
					"update items set " + c.moved + " where v % 3 = 0 and " + some, fmt.Sprintf(each, "v = v + 1"), fmt.Sprintf(each, c.moved),
				}[random.IntN(6)])
			}
			// Rows of the change table that have the tuple of before beside the new one, which nothing else has.
			for range 20 {
				e.exec(fmt.Sprintf("update items set %s, v = -200 where ctid = '%s'", c.moved, one[string](e, "select max(ctid)::text from items where v = -100")))
			}
			column, _, _ := strings.Cut(c.order, ", ")
			if n := one[int](e, fmt.Sprintf("select count(*) from freshet.changes_1 where o%d is not null", one[int](e, "select attnum from pg_attribute where attrelid = 'items'::regclass and attname = $1", column))); n == 0 && c.raw {
				// It takes a server that has not much else to do; the rows have two changes each then.
				t.Log("no change has the tuple of before beside its own")
			}
			e.exec("select freshet.touch_keys(1, $1)", c.touched)
			window := e.snapshot()
			pool := newPool(t, e.workerURL)
			sink, err := catalog.LoadSinkNamed(t.Context(), pool, "items")
			if err != nil {
				t.Fatal(err)
			}
			from := start.At(window, 0, 0)
			for _, limit := range []int{1500, 4000, 32000} {
				alone := newPoolOf(t, e.workerURL, 1)
				got := claimAll(t, newReader(t, alone, sink, 0), from, limit)
				if is, both := countOf(t, alone, rawStatement) > 0, countOf(t, alone, bareStatement) > 0; is != c.raw || both == c.raw {
					t.Errorf("limit %d: sorted here: %v, by Postgres: %v, want %v", limit, is, both, c.raw)
				}
				want := claimed{}
				parts := *sink
				parts.Shards = 2
				for shard := range parts.Shards {
					part := claimAll(t, newReader(t, pool, &parts, shard), from, limit)
					part.batches = append(part.batches, want.batches...)
					want = part
				}
				if !slices.Equal(got.keys(), want.keys()) || got.changes != want.changes || got.truncated != want.truncated || got.touched != want.touched {
					t.Errorf("limit %d: %d keys of %d changes (truncated %v, touched %v), want %d of %d (%v, %v)", limit,
						len(got.keys()), got.changes, got.truncated, got.touched, len(want.keys()), want.changes, want.truncated, want.touched)
				}
				if len(got.keys()) < 1000 || !got.touched || (limit < 32000 && len(got.batches) < 3) {
					t.Errorf("limit %d: only %d keys in %d batches, touched %v", limit, len(got.keys()), len(got.batches), got.touched)
				}
				for _, batch := range got.batches {
					if all := slices.Clone(batch); len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(batch) {
						t.Errorf("limit %d: a key is in a batch twice", limit)
					}
				}
			}
		})
	}
}

func newReader(t *testing.T, pool *pgxpool.Pool, sink *catalog.Sink, shard int) *source.Reader {
	t.Helper()
	reader, err := source.NewShardReader(pool, sink, nil, shard)
	if err != nil {
		t.Fatal(err)
	}
	return reader
}

func countOf(t *testing.T, pool *pgxpool.Pool, sql string) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A claim that is made while the rows of another are read has as many changes as [source.Reader.Ahead] says, however many the next
// one asks for; and one may have all that a lane ever asks for at once.
func TestClaimAheadHasAsManyChangesAsWereAskedFor(t *testing.T) {
	e := newEnv(t)
	const n = 140_000
	e.exec("create table items (id bigint primary key, v int)")
	e.exec("insert into items select g, 0 from generate_series(1, $1::int) g", n)
	e.exec("select freshet.create_sink('items', 'items', backfill => false)")
	start := e.firstCursor()
	e.exec("update items set v = 1")
	pool := newPool(t, e.workerURL)
	sink, err := catalog.LoadSinkNamed(t.Context(), pool, "items")
	if err != nil {
		t.Fatal(err)
	}
	claims := func(reader *source.Reader, at cursor.Cursor, limit int) (next cursor.Cursor, changes int) {
		t.Helper()
		var entries source.Entries
		b, err := reader.Claim(t.Context(), at, limit, &entries)
		keys := entries.Len()
		for err == nil && b.More() {
			entries.Reset()
			err = reader.Rest(t.Context(), &b, &entries)
			keys += entries.Len()
		}
		if err != nil {
			t.Fatal(err)
		}
		if keys != b.Changes {
			t.Errorf("%d entries of %d changes, each of another row", keys, b.Changes)
		}
		return b.Next, b.Changes
	}
	reader := newReader(t, pool, sink, 0)
	at, last := start, 0
	for i, step := range []struct{ limit, ahead, want int }{
		{1000, 0, 1000}, {2000, 0, 2000}, {9000, 20_000, 2000}, {9000, 4000, 20_000}, {9000, 0, 4000}, {9000, 0, 9000},
	} {
		reader.Ahead(step.ahead)
		// A row of the change table has up to 128 tuples.
		if at, last = claims(reader, at, step.limit); last < step.want || last > step.want+128 {
			t.Errorf("claim %d has %d changes, want %d", i, last, step.want)
		}
	}
	if most := reader.MostChanges(); most != 128_000 {
		t.Errorf("of keys of one number a claim has at most %d", most)
	}
	reader = newReader(t, pool, sink, 0)
	next, _ := claims(reader, start, 1000)
	if _, last = claims(reader, next, reader.MostChanges()); last < reader.MostChanges() {
		t.Errorf("the largest claim has %d changes", last)
	}
}

// Rows of the change table from before a sink had its key columns there, in the transaction that makes the sink, are no
// error to it.
func TestSinkIsMadeAfterALargeWriteOfItsTransaction(t *testing.T) {
	e := newEnv(t)
	e.exec("create table items (id bigint primary key, other bigint not null unique)")
	e.exec("select freshet.create_sink('items', 'items')")
	e.start()
	e.settle()
	e.exec("insert into items select g, -g from generate_series(1, 8000) g; select freshet.create_sink('others', 'items', key => 'others:${other}')")
	e.settle()
	e.inStep("others:*", "select 'others:' || other, to_jsonb(items)::text from items")
	e.exec("update items set other = other - 10000 where id <= 4000")
	e.settle()
	e.inStep("others:*", "select 'others:' || other, to_jsonb(items)::text from items")
	if failed := one[string](e, "select coalesce(string_agg(last_error, ', '), '') from freshet.status where sink = 'others'"); failed != "" {
		t.Errorf("it says %q", failed)
	}
}

// A claim takes so many rows of the change table and no more, whatever ranges they are of: transactions that were running when the
// cursor was taken and have ended since, others that still run, and rows with many tuples before such with one.
func TestRangesAreWalkedToTheirEnds(t *testing.T) {
	e := newEnv(t)
	e.exec("create table items (id bigint primary key, v int); insert into items select g, 0 from generate_series(1, 30000) g")
	e.exec("select freshet.create_sink('items', 'items', backfill => false)")
	snapshot := func() cursor.Snapshot {
		s := e.snapshot()
		if len(s.Xip) == 0 {
			t.Fatalf("nothing runs in %s", s)
		}
		return s
	}
	each := "do $$ begin for i in %d..%d loop update items set v = 1 where id = i; commit; end loop; end $$"
	held := e.begin()
	e.in(held, "update items set v = 2 where id between 29001 and 29010")
	e.exec("update items set v = 1 where id = 30000")
	done := snapshot()
	e.exec("update items set v = 1 where id <= 20000")
	e.exec(fmt.Sprintf(each, 20001, 20300))
	e.in(e.begin(), "update items set v = 2 where id = 29999")
	e.exec(fmt.Sprintf(each, 20301, 20600))
	e.commit(held)
	from := cursor.Finished(done).At(snapshot(), 0, 0)
	pool := newPoolOf(t, e.workerURL, 1)
	sink, err := catalog.LoadSinkNamed(t.Context(), pool, "items")
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1100, 2000, 5000, 128_000} {
		got := claimAll(t, newReader(t, pool, sink, 0), from, limit)
		if len(got.keys()) != 20_610 || got.changes != 20_610 {
			t.Errorf("limit %d: %d keys of %d changes, want 20610", limit, len(got.keys()), got.changes)
		}
		if raw, bare := countOf(t, pool, rawStatement), countOf(t, pool, bareStatement); raw == 0 || bare != 0 {
			t.Errorf("limit %d: Postgres sorts", limit)
		}
	}
}

// What a batch ends with depends on the order in which the rows of the change table come, which only the way Postgres joins
// makes sure of. Where they come in another, Postgres sorts them: also where a claim ends with, or before, the range that came too soon.
func TestRowsThatComeInNoOrderAreSortedByPostgres(t *testing.T) {
	e := newEnv(t)
	e.exec("create table items (id bigint primary key, v int); insert into items select g, 0 from generate_series(1, 5000) g")
	e.exec("select freshet.create_sink('items', 'items', backfill => false)")
	start := e.firstCursor()
	each := "do $$ begin for i in %d..%d loop update items set v = 1 where id = i; end loop; end $$"
	e.exec(fmt.Sprintf(each, 1, 1500))
	e.in(e.begin(), "update items set v = 2 where id = 5000")
	e.exec(fmt.Sprintf(each, 1501, 3000))
	window := e.snapshot()
	e.admin().exec("alter function freshet.window_ranges rename to ranges_in_order")
	e.admin().exec(`create function freshet.window_ranges(old pg_snapshot, new pg_snapshot) returns table (lo xid8, hi xid8) language sql
		as 'select * from freshet.ranges_in_order(old, new) order by lo desc'`)
	pool := newPool(t, e.workerURL)
	sink, err := catalog.LoadSinkNamed(t.Context(), pool, "items")
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1400, 1500, 1700} {
		got := claimAll(t, newReader(t, pool, sink, 0), start.At(window, 0, 0), limit)
		if len(got.keys()) != 3000 || got.changes != 3000 {
			t.Errorf("limit %d: %d keys of %d changes, want 3000", limit, len(got.keys()), got.changes)
		}
	}
}

// A claim that was made ahead and of which no key can be written is no older than what was read since: a lane would take Postgres to
// have gone back.
func TestClaimAheadWithoutKeysIsMadeAnew(t *testing.T) {
	e := newEnv(t)
	e.exec("create table items (id bigint primary key, v int)")
	e.exec("insert into items select g, 0 from generate_series(1, 9000) g")
	// Up to 9 a key is as long as it may be.
	e.exec("select freshet.create_sink('items', 'items', key => repeat('x', 511) || '${id}', backfill => false)")
	at := e.firstCursor()
	for _, way := range []string{"1 + i % 9 from generate_series(1, 3000)", "1000 + i from generate_series(1, 4000)"} {
		e.exec("do $$ declare n bigint; begin for n in select " + way + " i loop update items set v = v + 1 where id = n; end loop; end $$")
	}
	pool := newPool(t, e.workerURL)
	sink, err := catalog.LoadSinkNamed(t.Context(), pool, "items")
	if err != nil {
		t.Fatal(err)
	}
	reader := newReader(t, pool, sink, 0)
	var entries source.Entries
	claim := func(limit, changes, keys int) source.Batch {
		t.Helper()
		entries.Reset()
		b, err := reader.Claim(t.Context(), at, limit, &entries)
		if err != nil || b.Changes != changes || entries.Len() != keys || b.More() {
			t.Fatalf("%d changes, %d entries, more %v, %v", b.Changes, entries.Len(), b.More(), err)
		}
		at = b.Next
		return b
	}
	claim(1000, 1000, 9)
	reads := pool.Stat().AcquireCount()
	claim(2000, 2000, 9)
	e.await("a claim was made ahead", func() bool {
		now := pool.Stat()
		return now.AcquireCount() == reads+3 && now.AcquiredConns() == 0
	})
	e.exec("update items set v = v + 1 where id = 1")
	since, err := source.ParseLSN(one[string](e, "select pg_current_wal_insert_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	if b := claim(2000, 2000, 0); b.Insert < since {
		t.Errorf("the claim says that the server was at %v, which was at %v before it", b.Insert, since)
	}
}
