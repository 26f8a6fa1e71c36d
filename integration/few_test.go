package integration

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"testing"

	"github.com/freshet/freshet/internal/catalog"
	"github.com/freshet/freshet/internal/cursor"
	"github.com/freshet/freshet/internal/source"
)

// A claim that finds few changes is made by a statement of its own. Whatever the changes are, it finds the entries that the
// other one does, which goes on in the middle of a window.
func TestFewChangesAreClaimedAsManyAre(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, table, key, change string
		// entries and changes are how many it takes, -1 for any: an old tuple has a row of its own or not.
		entries, changes int
		filter           string
		shards           int
		// open is how many transactions stay open, of before every few changes.
		open int
		// few: the statement for few changes is all it takes.
		few bool
		// limit is how many are asked for; 0: 1000.
		limit int
	}{
		{name: "nothing", few: true, change: "select"},
		{name: "one row", few: true, change: "update items set v = 1 where id = 1", entries: 1, changes: 1},
		{name: "another key", few: true, change: "update items set id = 1000 where id = 1", entries: 2, changes: -1},
		{name: "an old tuple beside the new one", few: true, change: "insert into freshet.changes_1_1 (op, k1, o1) values ('u', 2, 1000), ('u', 3, 2)", entries: 3, changes: 2},
		{name: "one row often", few: true, change: "do $$ begin for i in 1..100 loop update items set v = v + 1 where id = 1; end loop; end $$", entries: 1, changes: 100},
		{name: "there and gone", few: true, change: "insert into items values (1000, 1); delete from items where id in (1000, 2)", entries: 2, changes: 3},
		{name: "truncated", few: true, change: "update items set v = 1 where id = 1; truncate items; insert into items values (2, 0)", entries: 2, changes: 3},
		{name: "touched", few: true, change: "select freshet.touch_keys(1, '[[\"7\"], [\"2000\"]]')", entries: 2, changes: 2},
		{name: "as many as it takes", few: true, change: "do $$ begin for i in 1..127 loop update items set v = 1 where id = i; end loop; end $$", entries: 127, changes: 127},
		{name: "where fewer are asked for", few: true, limit: 100, change: "update items set v = 1 where id = 1", entries: 1, changes: 1},
		{name: "one more", change: "do $$ begin for i in 1..128 loop update items set v = 1 where id = i; end loop; end $$", entries: 128, changes: 128},
		{name: "many", change: "do $$ begin for i in 1..400 loop update items set v = 1 where id = i; end loop; end $$", entries: 400, changes: 400},
		{name: "beside open transactions", few: true, open: 3, change: "update items set v = 1 where id <= 10", entries: 13, changes: 13},
		{name: "too many beside open transactions", open: 3, change: "do $$ begin for i in 1..126 loop update items set v = 1 where id = i; end loop; end $$", entries: 129, changes: 129},
		{name: "in one statement", change: "update items set v = 1 where id <= 25", entries: 25, changes: 25},
		{name: "and so few that each has its row", few: true, change: "update items set v = 1 where id <= 10", entries: 10, changes: 10},
		{name: "left out", few: true, filter: "v = 0", change: "update items set v = id % 2 where id <= 10", entries: 10, changes: 10},
		{name: "of one shard", few: true, shards: 3, change: "update items set v = 1 where id <= 12", entries: -1, changes: 12},
		{name: "one of them fails", filter: "1 / (5 - id) is not null", change: "update items set v = 1 where id <= 10", entries: 10, changes: 10},
		{name: "keys that are equal and render differently", few: true, table: "create table items (id numeric primary key, v int); insert into items values (1.0, 0), (2.0, 0)",
			change: "update items set id = 1.00 where id = 1; update items set v = 1 where id = 2", entries: 3, changes: -1},
		{name: "keys that ignore case", few: true, table: "create table items (id text, v int, primary key (id)); create unique index on items (lower(id)); insert into items values ('One', 0), ('two', 0)",
			key: "items:${id}", change: "update items set id = 'ONE', v = 1 where id = 'One'; update items set v = 1 where id = 'two'", entries: 3, changes: -1},
		{name: "keys of two columns", few: true, table: "create table items (a int, b text, v int, primary key (a, b)); insert into items select g, 'b' || g, 0 from generate_series(1, 9) g",
			change: "update items set b = 'c' where a = 3; update items set a = -a where a > 7", entries: 6, changes: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			if c.table == "" {
				c.table = "create table items (id int primary key, v int); insert into items select g, 0 from generate_series(1, 500) g"
			}
			e.exec(c.table)
			e.exec("select freshet.create_sink('items', 'items', key => nullif($1, ''), filter => nullif($2, ''), shards => $3, backfill => false)", c.key, c.filter, max(c.shards, 1))
			start := e.firstCursor()
			for i := range c.open {
				conn := e.connectWith(nil)
				defer conn.Close(context.Background())
				if _, err := conn.Exec(t.Context(), fmt.Sprintf("begin; update items set v = 2 where id = %d", 300+i)); err != nil {
					t.Fatal(err)
				}
				e.exec("update items set v = 3 where id = $1", 400+i)
			}
			e.exec(c.change)
			window := e.snapshot()
			type claim struct {
				entries            map[string]string
				failed             int
				changes            int
				truncated, touched bool
			}
			pool := newPool(t, e.workerURL)
			sink, err := catalog.LoadSinkNamed(t.Context(), pool, "items")
			if err != nil {
				t.Fatal(err)
			}
			// prepared is whether the connection that is used first has the statement for many changes prepared.
			prepared := func() (is bool) {
				t.Helper()
				err := pool.QueryRow(t.Context(), "select exists (select from pg_prepared_statements where statement ~ 'freshet_fits' and name ~ '^freshet_')").Scan(&is)
				if err != nil {
					t.Fatal(err)
				}
				return is
			}
			read := func(at cursor.Cursor) claim {
				t.Helper()
				got := claim{entries: make(map[string]string)}
				reader := newReader(t, pool, sink, 0)
				for {
					var entries source.Entries
					b, err := reader.Claim(t.Context(), at, cmp.Or(c.limit, 1000), &entries)
					if err != nil {
						t.Fatal(err)
					}
					for i := range entries.Len() {
						key := string(entries.Key(i))
						if _, twice := got.entries[key]; twice {
							t.Errorf("%s is there twice", key)
						}
						value, present := entries.Value(i)
						got.entries[key] = string(value)
						if !present {
							got.entries[key] = "absent"
						}
					}
					got.failed += len(entries.Failures())
					got.changes += b.Changes
					got.truncated, got.touched = got.truncated || b.Truncated, got.touched || b.Touched
					if at = b.Next; b.More() || !b.CaughtUp || !at.Done.Covers(window) {
						t.Fatalf("it ends before its window: %v, %v, %s", b.More(), b.CaughtUp, at)
					}
					return got
				}
			}
			few := read(start)
			if prepared() == c.few {
				t.Errorf("made by the statement for few changes: %v, want %v", !c.few, c.few)
			}
			all := read(start.At(window, 0, 0))
			if !prepared() {
				t.Error("the other one was made by it, too")
			}
			if !maps.Equal(few.entries, all.entries) || few.failed != all.failed || few.changes != all.changes || few.truncated != all.truncated || few.touched != all.touched {
				t.Errorf("from the beginning of the window: %v\nin its middle: %v", few, all)
			}
			if n := len(few.entries); (c.changes >= 0 && few.changes != c.changes) || (c.entries >= 0 && n != c.entries) || (c.shards > 1 && (n == 0 || n == c.changes)) {
				t.Errorf("%d entries of %d changes, want %d of %d", n, few.changes, c.entries, c.changes)
			}
		})
	}
}
