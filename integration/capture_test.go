package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// gaps lists what the view shows, as operation and code.
func (e *env) gaps() []string {
	e.t.Helper()
	return one[[]string](e, "select coalesce(array_agg(operation || ' ' || code order by at), '{}') from freshet.capture_gaps")
}

// changes is how many changes of the first source were captured.
func (e *env) changes() int {
	e.t.Helper()
	return one[int](e, "select coalesce(sum(coalesce(tuples, 1)), 0) from freshet.changes_1")
}

// tuples is what the tuples of a source's changes are selected from: t has their columns, c
// what the rows of the change table have besides.
func (e *env) tuples(source int) string {
	e.t.Helper()
	return fmt.Sprintf("freshet.changes_%d c cross join lateral %s t", source, one[string](e.admin(), "select freshet.tuples_of($1)", source))
}

func TestApplicationNeedsNoRightOnFreshet(t *testing.T) {
	e := newEnv(t).admin()
	e.lazyUsers()
	role := "app_of_" + one[string](e, "select current_database()")
	e.exec("create role " + role)
	t.Cleanup(func() {
		_, err := e.db.Exec(context.Background(), "drop owned by "+role+"; drop role "+role)
		if err != nil {
			t.Error(err)
		}
	})
	e.exec("grant select, insert, update, delete, truncate on users to " + role)

	as := func(statements ...string) {
		t.Helper()
		e.transaction(append([]string{"set local role " + role}, statements...)...)
		e.follow("users:*", usersPromise)
	}
	as("insert into users (id, name) select g, 'by the application' from generate_series(1, 20) g")
	as("update users set name = 'changed' where id = 1", "update users set id = 102 where id = 2")
	as("delete from users where id = 3", "savepoint s", "delete from users where id = 4", "rollback to s")
	as("truncate users", "insert into users (id, name) values (5, 'after')")

	if got := e.gaps(); len(got) > 0 {
		t.Errorf("gaps: %q", got)
	}
	for _, sql := range []string{"select * from freshet.changes_1", "select * from freshet.sinks", "select freshet.backfill('users')", "select freshet.ring(1)"} {
		tx := e.begin()
		e.in(tx, "set local role "+role)
		if _, err := tx.Exec(t.Context(), sql); err == nil {
			t.Errorf("the application can run %s", sql)
		}
		_ = tx.Rollback(t.Context())
	}
}

func TestDroppedChangeTableIsAGapAndNoError(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("drop table freshet.changes_1 cascade")

	e.exec("insert into users (id, name) values (1, 'one'), (2, 'two')")
	e.transaction("update users set name = 'x'", "delete from users where id = 1", "savepoint s", "truncate users", "rollback to s")
	if n := one[int](e, "select count(*) from users"); n != 1 {
		t.Errorf("the application's own changes are lost: %d rows", n)
	}
	if got, want := e.gaps()[:2], []string{"INSERT 42P01", "UPDATE 42P01"}; !slices.Equal(got, want) {
		t.Errorf("gaps: %q, want %q first", got, want)
	}
	if source := one[string](e, "select distinct source from freshet.capture_gaps"); source != "public.users" {
		t.Errorf("the gaps are of %s", source)
	}
}

func TestErrorWhileCapturingIsAGapAndNoError(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec(`create function fail() returns trigger language plpgsql as $$ begin raise exception 'planted' using errcode = 'P0999'; end $$`)
	e.exec("create trigger fail before insert on freshet.changes_1_1 for each row execute function fail()")

	e.exec("insert into users (id, name) values (1, 'one'), (2, 'two'), (3, 'three')")
	e.transaction("update users set name = 'x'", "select pg_sleep(0.01)", "update users set name = 'y'")
	e.transaction("savepoint s", "delete from users where id = 1", "release s")
	e.exec("truncate users")
	if got, want := e.gaps(), []string{"INSERT P0999", "UPDATE P0999", "DELETE P0999", "TRUNCATE P0999"}; !slices.Equal(got, want) {
		t.Errorf("gaps: %q, want %q", got, want)
	}

	// Nowhere to note the gap either: still not the application's error.
	e.admin().exec("drop table freshet.capture_gap cascade")
	e.exec("insert into users (id, name) values (4, 'four')")
	if n := one[int](e, "select count(*) from users"); n != 1 {
		t.Errorf("%d rows", n)
	}
}

// Where nothing can be captured, a bulk write does not try it for every row, in a
// subtransaction each.
func TestBulkWriteNotesItsGapOnce(t *testing.T) {
	e := newEnv(t)
	e.exec("create table parts (id int primary key, n int) partition by range (id); create table parts_all partition of parts default")
	e.exec("select freshet.create_sink('parts', 'parts', backfill => false)")
	e.exec("drop table freshet.changes_1 cascade")
	e.transaction("select pg_sleep(0.01)", "insert into parts select g, g from generate_series(1, 500) g", "update parts set n = 0")
	if n := len(e.gaps()); n != 1 {
		t.Errorf("a transaction noted %d gaps, want 1", n)
	}
	// The next one notes its own: the first may be mended before it ends.
	e.transaction("select pg_sleep(0.01)", "update parts set n = 1")
	if n := len(e.gaps()); n != 2 {
		t.Errorf("two transactions noted %d gaps, want 2", n)
	}
}

// A gap that is rolled back to a savepoint stands for nothing that comes after it.
func TestGapIsNotedAgainAfterItWasRolledBack(t *testing.T) {
	e := newEnv(t)
	e.exec("create table parts (id int primary key, n int) partition by range (id); create table parts_all partition of parts default")
	e.exec(usersTable)
	e.exec("select freshet.create_sink('parts', 'parts', backfill => false)")
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	e.exec("drop table freshet.changes_1, freshet.changes_2 cascade")
	for _, table := range []string{"parts (id, n)", "users (id, name)"} {
		e.exec("delete from freshet.capture_gap")
		e.transaction("select pg_sleep(0.01)", "savepoint s", "insert into "+table+" values (1, 1)", "rollback to s",
			"insert into "+table+" values (2, 2)", "savepoint s", "insert into "+table+" values (3, 3)", "rollback to s")
		if got, want := e.gaps(), []string{"INSERT 42P01"}; !slices.Equal(got, want) {
			t.Errorf("%s: gaps %q, want %q", table, got, want)
		}
	}
}

func TestGapsAreBounded(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("drop table freshet.changes_1 cascade")
	e.exec("insert into freshet.capture_gap (source_id, operation, code, message) select 1, 'INSERT', '42P01', 'x' from generate_series(1, 10000)")
	e.exec("insert into users (id, name) values (1, 'one')")
	if n := len(e.gaps()); n != 10000 {
		t.Errorf("%d gaps", n)
	}
}

// A transaction that does not see what others note still does not note more and more: what it misses is told by a sequence.
func TestGapsAreBoundedWhateverASnapshotShows(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("create table others (id bigint primary key)")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("create trigger mine after insert on others for each statement execute function freshet.capture_1()")
	e.exec("drop table freshet.changes_1_1")
	unrecorded := func() int {
		return one[int](e, "select coalesce(pg_sequence_last_value('freshet.changes_1_unrecorded'), 0)")
	}
	fills := func() {
		e.exec("insert into freshet.capture_gap (source_id, operation, code, message) select 1, 'INSERT', '42P01', repeat('x', 100) from generate_series(1, 40000)")
	}
	for n, sql := range []string{"insert into users (id, name) values (1, 'one')", "insert into others values (1)"} {
		fills()
		before, was := len(e.gaps()), unrecorded()
		e.transaction("set transaction isolation level repeatable read", sql, "select pg_sleep(0.01)", "insert into users (id, name) values (10, 'ten')", "delete from users; delete from others")
		if gaps := len(e.gaps()); gaps != before {
			t.Errorf("%d: %d gaps came on top of %d", n, gaps-before, before)
		}
		if now := unrecorded(); now != was+1 {
			t.Errorf("%d: the sequence was at %d and is at %d, want one more", n, was, now)
		}
		// With room, or another isolation, it is a gap.
		e.admin().exec("truncate freshet.capture_gap")
		e.transaction("set transaction isolation level repeatable read", sql, "delete from users; delete from others")
		if gaps := e.gaps(); len(gaps) == 0 || unrecorded() != was+1 {
			t.Errorf("%d: gaps %q, the sequence is at %d", n, gaps, unrecorded())
		}
	}
}

// A transaction that cannot be serialized is tried again by who began it, and has changed nothing.
func TestTransactionThatCannotBeSerializedIsNoGap(t *testing.T) {
	e := newEnv(t)
	e.exec(counters)
	e.exec("insert into counters (id) select g from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('counters', 'counters')")
	// Fires before Freshet's.
	e.exec(`create function wait() returns trigger language plpgsql as $$
		begin perform pg_advisory_xact_lock(7); return null; end $$;
		create trigger a_wait after update on counters for each statement execute function wait()`)
	e.start()
	e.settle()
	e.mended()
	for range 2 {
		first, second := e.begin(), e.begin()
		for _, tx := range []pgx.Tx{first, second} {
			e.in(tx, "set transaction isolation level serializable", "select sum(version) from counters")
		}
		e.in(first, "update counters set version = version + 1 where id = 1")
		done := make(chan error, 1)
		go func() {
			_, err := second.Exec(t.Context(), "update counters set version = version + 1 where id = 2")
			done <- err
		}()
		e.await("the second one waits", func() bool { return e.locked("where id = 2") })
		e.commit(first)
		var pgErr *pgconn.PgError
		if err := <-done; !errors.As(err, &pgErr) || pgErr.Code != "40001" {
			t.Errorf("the second one: %v, want that it cannot be serialized", err)
		}
		_ = second.Rollback(t.Context())
	}
	e.mended()
	e.inStep("counters:*", countersPromise("counters"))
	if n := one[int](e, "select coalesce(pg_sequence_last_value('freshet.changes_1_unrecorded'), 0)"); n != 0 || len(e.gaps()) > 0 || e.rewarms() > 0 {
		t.Errorf("%d changes that nothing could be recorded of, gaps %q, %d re-warms", n, e.gaps(), e.rewarms())
	}
}

func TestCancellationInCaptureRemainsACancellation(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec(`create function linger() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$`)
	e.exec("create trigger linger before insert on freshet.changes_1_1 for each row execute function linger()")

	tx := e.begin()
	e.in(tx, "set local statement_timeout = '50ms'")
	_, err := tx.Exec(t.Context(), "insert into users (id, name) values (1, 'one')")
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "57014" {
		t.Errorf("the statement timeout came out as %v", err)
	}
	_ = tx.Rollback(t.Context())

	// As Ctrl-C in psql: the statement ends, and nothing of it stays.
	conn := e.session()
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "insert into users (id, name) values (1, 'one')")
		failed <- err
	}()
	e.await("the cancellation arrives", func() bool {
		e.exec("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()")
		select {
		case err = <-failed:
			return true
		default:
			return false
		}
	})
	if !errors.As(err, &pgErr) || pgErr.Code != "57014" {
		t.Errorf("the cancellation came out as %v", err)
	}
	if got := e.gaps(); len(got) > 0 {
		t.Errorf("gaps: %q", got)
	}
	if n := one[int](e, "select count(*) from users"); n != 0 {
		t.Errorf("%d rows of cancelled statements", n)
	}
}

func TestTriggersFireAlways(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	got := one[[]string](e, "select array_agg(tgname || ' ' || tgenabled::text order by tgname) from pg_trigger where tgrelid = 'users'::regclass and not tgisinternal")
	if want := []string{"freshet_delete A", "freshet_insert A", "freshet_truncate A", "freshet_update A"}; !slices.Equal(got, want) {
		t.Errorf("triggers %q, want %q", got, want)
	}
}

func TestStatementsThatTouchNothingCaptureNothing(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) values (1, 'one')")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("update users set name = 'x' where false")
	e.exec("delete from users where false")
	e.exec("insert into users select * from users where false")
	e.exec("insert into users (id, name) values (1, 'x') on conflict do nothing")
	if n := e.changes(); n != 0 {
		t.Errorf("%d changes", n)
	}
}

func TestUpdateTouchesOldAndNewTuple(t *testing.T) {
	e := newEnv(t)
	for _, c := range []struct{ name, column, old, new string }{
		{"integer", "bigint", "1", "2"},
		{"text", "text", "'a'", "'b'"},
		{"uuid", "uuid", "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"},
		{"numeric_scale", "numeric", "1.0", "1.00"},
		{"float_sign", "float8", "'0'", "'-0'"},
		{"padded", "char(4)", "'a'", "'b'"},
	} {
		e.exec(fmt.Sprintf("create table %s (k %s primary key, v int)", c.name, c.column))
		e.exec(fmt.Sprintf("insert into %s values (%s, 0)", c.name, c.old))
		e.exec(fmt.Sprintf("select freshet.create_sink('%[1]s', '%[1]s')", c.name))
		e.exec(fmt.Sprintf("update %s set v = 1", c.name))
		e.exec(fmt.Sprintf("update %s set k = %s", c.name, c.new))
		got := one[[]string](e.admin(), fmt.Sprintf("select array_agg(c.op::text || t.k1::text order by c.id) from %s",
			e.tuples(one[int](e.admin(), "select id from freshet.source where table_name = $1", c.name))))
		slices.Sort(got[1:])
		render := func(v string) string { return one[string](e, fmt.Sprintf("select 'u' || (%s::%s)::text", v, c.column)) }
		want := []string{render(c.old), render(c.old), render(c.new)}
		slices.Sort(want[1:])
		if !slices.Equal(got, want) {
			t.Errorf("%s: captured %q, want %q", c.name, got, want)
		}
	}
}

// shape is a table with keys of one kind.
type shape struct {
	name, table, rows string
	// shared: tuples share rows.
	shared bool
	// moves changes the keys of some rows, and turns those of all.
	moves, turns string
}

var shapes = []shape{
	{"numbers", "id bigint primary key deferrable", "g", true, "id = case when id % 1000 = 507 then id + 100000 else id end", "id = -id"},
	{"small", "id smallint primary key", "g", true, "id = case when id % 1000 = 507 then id + 20000 else id end", "id = -id"},
	{"uuids", "id uuid primary key", "md5(g::text)::uuid", true, "id = case when id::text like '%ab%' then md5(id::text)::uuid else id end", "id = md5(id::text)::uuid"},
	{"words", "id text primary key", "'word ' || repeat('x', g % 400) || g", true, "id = case when id like '%7' then id || 'y' else id end", "id = id || 'z'"},
	{"two", "tenant int, id text, primary key (tenant, id)", "g % 3, 'w' || g", true, "tenant = case when id like '%77' then 9 else tenant end", "tenant = tenant + 10"},
	{"decimals", "id numeric primary key", "g + 0.5", true, "id = case when id < 50 then id::numeric(20, 4) else id end", "id = -id"},
	{"lists", "id int[] primary key", "array[g, g]", false, "id = case when id[1] % 1000 = 7 then id || 1 else id end", "id = id || 2"},
	{"moods", "id mood, n int, primary key (id, n)", "case g % 2 when 0 then 'good' else 'bad' end::mood, g", true, "id = case when n % 100 = 1 then 'good' else id end", "n = -n"},
	{"maybe", "id int unique, other int not null primary key", "nullif(g, 100), g", true, "id = case when other not between 300 and 330 then id end", "id = -id"},
	{"domains", "id did primary key", "g", true, "id = case when id % 1000 = 507 then id + 100000 else id end", "id = -id"},
	{"padded", "id char(12) primary key", "g", true, "id = case when id like '%507 %' then 'a' || id else id end", "id = 'z' || id"},
	{"feelings", "id dmood, n int, primary key (id, n)", "case g % 2 when 0 then 'good' else 'bad' end::dmood, g", true, "id = case when n % 100 = 1 then 'good' else id end", "n = -n"},
	{"many feelings", "n dmood not null, id int primary key", "case g % 2 when 0 then 'good' else 'bad' end::dmood, g", true, "n = case when id % 100 = 1 then 'good' else n end", "n = case n::mood when 'good' then 'bad' else 'good' end::dmood"},
	{"many", "n int not null, id int primary key", "g % 1000, g", true, "n = case when id % 100 = 1 then 5000 else n end", "n = -n - 1"},
}

// make makes the table x with a sink, in a new environment, and returns what its key columns are
// called there and, with t before them, in the change table.
func (c shape) make(t *testing.T) (e *env, key, names string) {
	e = newEnv(t)
	e.exec("create type mood as enum ('good', 'bad'); create domain dmood as mood; create domain did as bigint")
	e.exec(fmt.Sprintf("create table x (%s, v int default 0)", c.table))
	switch c.name {
	case "maybe":
		e.exec("select freshet.create_sink('x', 'x', key => 'x:${id}', backfill => false)")
	case "many", "many feelings":
		e.exec("create index on x (n)")
		e.exec("select freshet.create_sink('x', 'x', key => 'x:${n}', value => 'count(*)', backfill => false)")
	case "numbers":
		// A primary key that is deferrable says nothing of the rows of one statement.
		e.exec("create unique index on x (id)")
		fallthrough
	default:
		e.exec("select freshet.create_sink('x', 'x', backfill => false)")
	}
	key = one[string](e.admin(), `select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from freshet.source s, unnest(s.key_attnums) k
		join pg_attribute a on a.attnum = k and a.attrelid = 'x'::regclass where s.relid = 'x'::regclass`)
	names = one[string](e.admin(), "select string_agg('t.k' || k, ', ' order by k) from freshet.source s, unnest(s.key_attnums) k")
	return e, key, names
}

// The rows of a bulk statement share rows of the change table, many to each. Whatever the key
// columns are like, each tuple is captured that rows have had or have now.
func TestBulkStatementsTouchEveryTuple(t *testing.T) {
	t.Parallel()
	for _, c := range shapes {
		t.Run(c.name, func(t *testing.T) {
			e, key, names := c.make(t)
			state := func() []string {
				return one[[]string](e, fmt.Sprintf("select coalesce(array_agg(distinct row(%s)::text), '{}') from x", key))
			}
			check := func(sql string) {
				t.Helper()
				before := state()
				e.transaction("truncate freshet.changes_1")
				e.exec(sql)
				want := slices.Compact(slices.Sorted(slices.Values(append(before, state()...))))
				got := one[[]string](e.admin(), fmt.Sprintf("select array_agg(distinct row(%s)::text) from %s", names, e.tuples(1)))
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("%s: %d tuples touched, want %d\n%.300s\n%.300s", sql, len(got), len(want), got, want)
				}
				rows, tuples := one[int](e.admin(), "select count(*) from freshet.changes_1"), e.admin().changes()
				if (rows < tuples/3) != c.shared && !(strings.HasPrefix(c.name, "many") && strings.HasPrefix(sql, "update")) {
					t.Errorf("%s: %d rows for %d tuples", sql, rows, tuples)
				}
				if sum := one[int](e.admin(), "select count(*) from "+e.tuples(1)); sum != tuples {
					t.Errorf("%s: rows say that they have %d tuples, and have %d", sql, tuples, sum)
				}
			}
			check(fmt.Sprintf("insert into x select %s from generate_series(1, 5000) g", c.rows))
			check("update x set v = v + 1")
			check("update x set v = v + 1, " + c.moves)
			check("update x set " + c.turns)
			check("delete from x")
			if got := e.gaps(); len(got) > 0 {
				t.Errorf("gaps: %q", got)
			}
		})
	}
}

// A statement that updates one row has both tuples in one row of the change table, whatever the key
// columns are like. Only the first moments of a transaction are for that: what a session has
// not done before takes longer.
func TestUpdateOfOneRowTouchesBothOfItsTuples(t *testing.T) {
	t.Parallel()
	for _, c := range shapes {
		t.Run(c.name, func(t *testing.T) {
			e, key, names := c.make(t)
			e.exec(fmt.Sprintf("insert into x select %s from generate_series(1, 50) g", c.rows))
			conn := e.session()
			var olds []string
			for _, name := range strings.Split(names, ", ") {
				olds = append(olds, strings.Replace(name, "t.k", "c.o", 1)+" is not null")
			}
			update := func(change string) {
				t.Helper()
				// Tuples with a null have no entry.
				rendered := fmt.Sprintf("case when row(%s) is not null then row(%[1]s)::text end", key)
				var old, now *string
				err := conn.QueryRow(t.Context(), fmt.Sprintf("select %s from x where ctid = (select min(ctid) from x)", rendered)).Scan(&old)
				if err == nil {
					err = conn.QueryRow(t.Context(), fmt.Sprintf("update x set %s where ctid = (select min(ctid) from x) returning %s", change, rendered)).Scan(&now)
				}
				if err != nil {
					t.Fatal(err)
				}
				var want []string
				for _, tuple := range []*string{old, now} {
					if tuple != nil && !slices.Contains(want, *tuple) {
						want = append(want, *tuple)
					}
				}
				got := one[[]string](e.admin(), fmt.Sprintf(`select coalesce(array_agg(row(%[1]s)::text), '{}') from %[2]s
					where row(%[1]s) is not null and c.xid = (select max(xid) from freshet.changes_1)`, names, e.tuples(1)))
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("%s: touched %q, want %q", change, got, want)
				}
			}
			e.await("the old tuple beside the new one", func() bool {
				update("v = v + 1")
				update(c.turns)
				return one[bool](e.admin(), "select exists (select from freshet.changes_1 c where "+strings.Join(olds, " and ")+")")
			})
			if got := e.gaps(); len(got) > 0 {
				t.Errorf("gaps: %q", got)
			}
		})
	}
}

// Whatever it is told to do after errors, a session goes on after those that capture handles by itself.
func TestCaptureEndsNoSession(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) values (1, 'one'), (2, 'two')")
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	conn := e.session()
	updates := func() {
		t.Helper()
		for range 30 {
			if _, err := conn.Exec(t.Context(), "update users set name = name || 'x' where id in (1, 2)"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := conn.Exec(t.Context(), "set exit_on_error = on"); err != nil {
		t.Fatal(err)
	}
	updates()
	e.exec("drop table freshet.changes_1 cascade")
	updates()
}

// hostile makes a role with the rights that an application has, and returns a session of its own
// in that role, and what counts how often something that it made ran as somebody else.
func (e *env) hostile(grants string) (run func(sql string), ran func() int) {
	e.t.Helper()
	admin := e.admin()
	role := "hostile_to_" + one[string](e, "select current_database()")
	admin.exec("create role " + role)
	e.t.Cleanup(func() {
		if _, err := admin.db.Exec(context.Background(), "drop owned by "+role+" cascade; drop role "+role); err != nil {
			e.t.Error(err)
		}
	})
	admin.exec("create sequence ran; grant usage on sequence ran to public")
	admin.exec(fmt.Sprintf(grants, role))
	conn := admin.session()
	// What is temporary goes with it, before what is left is dropped.
	e.t.Cleanup(func() {
		pid := conn.Conn().PgConn().PID()
		_ = conn.Conn().Close(context.Background())
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			var there bool
			err := admin.db.QueryRow(context.Background(), "select exists (select from pg_stat_activity where pid = $1)", pid).Scan(&there)
			if err != nil || !there {
				return
			}
		}
	})
	run = func(sql string) {
		e.t.Helper()
		if _, err := conn.Exec(e.t.Context(), sql); err != nil {
			e.t.Fatalf("%s: %v", sql, err)
		}
	}
	run("set role " + role)
	run(fmt.Sprintf(`create function pg_temp.evil() returns boolean language plpgsql as $$
		begin
			if current_user <> '%s' then
				perform pg_catalog.nextval('public.ran');
			end if;
			return true;
		end $$`, role))
	count := func() int { return one[int](admin, "select coalesce(pg_sequence_last_value('ran'), 0)") }
	// Where it does run as somebody else, that is counted.
	admin.exec("create function careless() returns boolean language plpgsql security definer as 'begin return pg_temp.evil(); end'")
	run("select careless()")
	if n := count(); n != 1 {
		e.t.Fatalf("%d were counted of 1", n)
	}
	return run, func() int { return count() - 1 }
}

// Triggers run with the rights of the source's owner, and what notes their gaps with those of who
// installed Freshet. Names of types are looked for among those of the session first, if nothing
// is said of that, and a domain runs what its owner likes.
func TestTypesOfTheSessionRunWithNobodysRights(t *testing.T) {
	e := newEnv(t)
	e.exec("create table pairs (a bigint, b text, v int, primary key (a, b))")
	e.exec("create table parts (id int primary key, v int) partition by range (id); create table parts_all partition of parts default")
	e.exec("select freshet.create_sink('pairs', 'pairs', backfill => false), freshet.create_sink('parts', 'parts', backfill => false)")
	run, ran := e.hostile("grant select, insert, update, delete, truncate on pairs, parts to %s")
	run(`do $$
		declare
			v_name name;
		begin
			for v_name in
				select t.typname from pg_type t
				where t.typnamespace = 'pg_catalog'::regnamespace and t.typtype in ('b', 'r', 'm') and t.typelem = 0 and t.typname !~ '^pg_(mcv|dependencies|ndistinct|node|ddl|brin)'
			loop
				execute format('create domain pg_temp.%1$I as pg_catalog.%1$I check (pg_temp.evil())', v_name);
			end loop;
		end $$`)
	write := func() {
		run("insert into pairs select g, 'b' || g, 0 from generate_series(1, 100) g")
		run("insert into parts select g, 0 from generate_series(1, 100) g")
		for range 20 {
			run("update pairs set v = v + 1 where a = 1")
			run("update pairs set a = -a where a in (2, -2)")
			run("update parts set id = -id where id in (2, -2)")
		}
		run("update pairs set v = v + 1")
		run("update pairs set a = a + 1000")
		run("insert into pairs values (1, 'one')")
		run("delete from pairs where a = 1")
		run("begin; select pg_sleep(0.001); update pairs set v = 0 where a = 1005; update pairs set v = 1 where a = 1005; update parts set v = 0; commit")
		run("truncate pairs, parts")
	}
	write()
	e.exec("drop table freshet.changes_1 cascade; drop table freshet.changes_2 cascade")
	write()
	if n := ran(); n > 0 {
		t.Errorf("types of a session ran %d times with the rights of somebody else", n)
	}
}

// Who may make triggers on a source may make some of its trigger function, without transition
// tables, in whose place are temporary ones then.
func TestTriggersThatAreNotFreshetsReadNothing(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) values (1, 'one'), (2, 'two')")
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	run, ran := e.hostile("grant select, insert, update, trigger on users to %[1]s; grant usage on schema freshet to %[1]s")
	for _, name := range []string{"freshet_new", "freshet_old"} {
		run("create temporary view " + name + " as select 1::bigint as id where pg_temp.evil()")
	}
	run("grant select on freshet_new, freshet_old to public")
	for _, level := range []string{"row", "statement"} {
		run(fmt.Sprintf("create trigger another_%[1]s after insert or update on users for each %[1]s execute function freshet.capture_1()", level))
	}
	for range 20 {
		run("update users set name = 'x' where id = 1")
	}
	run("update users set name = 'y'")
	run("insert into users (id, name) values (3, 'three')")
	if n := ran(); n > 0 {
		t.Errorf("a temporary view was read %d times with the rights of somebody else", n)
	}
	if got := e.gaps(); len(got) > 0 {
		t.Errorf("gaps: %q", got)
	}
	if n := e.changes(); n != 23 {
		t.Errorf("%d changes were captured, want 23", n)
	}
}

// The entry under the old key goes, wherever the old tuple is in the change table.
func TestKeyChangeOfOneRowRemovesTheOldEntry(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'one of many' from generate_series(1, 20) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	conn := e.session()
	e.await("the old tuple beside the new one", func() bool {
		for id := range 20 {
			if _, err := conn.Exec(t.Context(), fmt.Sprintf("update users set id = -id where abs(id) = %d", id+1)); err != nil {
				t.Fatal(err)
			}
		}
		e.settle()
		e.inStep("users:*", usersPromise)
		return one[bool](e.admin(), "select exists (select from freshet.changes_1 c where c.o1 is not null)")
	})
}

// Also where a session has captured updates of single rows all the time.
func TestErrorWhileCapturingOneRowIsAGapAndNoError(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) values (1, 'one')")
	e.exec("select freshet.create_sink('users', 'users', backfill => false)")
	conn := e.session()
	update := func() {
		t.Helper()
		if _, err := conn.Exec(t.Context(), "update users set id = -id"); err != nil {
			t.Fatal(err)
		}
	}
	short := func(gap string) {
		t.Helper()
		n := len(e.gaps())
		e.await("an update of one row like most of them", func() bool {
			update()
			return one[bool](e.admin(), "select exists (select from freshet.changes_1 c where c.o1 is not null)")
		})
		if got := e.gaps(); len(got) != n {
			t.Fatalf("gaps: %q", got)
		}
		e.admin().exec(gap)
		for i := range 20 {
			update()
			if got := e.gaps(); len(got) != n+i+1 {
				t.Fatalf("%s: %d updates noted %d gaps", gap, i+1, len(got)-n)
			}
		}
	}
	e.admin().exec("create function fail() returns trigger language plpgsql as $$ begin raise exception 'planted' using errcode = 'P0999'; end $$")
	short("create trigger fail before insert on freshet.changes_1_1 for each row execute function fail()")
	// It is the error by which the function itself knows that there are several rows.
	e.admin().exec("drop trigger fail on freshet.changes_1_1; truncate freshet.changes_1")
	e.admin().exec("create or replace function fail() returns trigger language plpgsql as $$ begin raise exception 'planted' using errcode = '21000'; end $$")
	short("create trigger fail before insert on freshet.changes_1_1 for each row execute function fail()")
	e.admin().exec("drop trigger fail on freshet.changes_1_1; truncate freshet.changes_1")
	short("drop table freshet.changes_1 cascade")
}

// More rows than one list is made of at once.
func TestStatementOfVeryManyRowsTouchesEveryTuple(t *testing.T) {
	e := newEnv(t)
	e.exec("create table numbers (id int primary key, n int not null default 0)")
	e.exec("select freshet.create_sink('numbers', 'numbers', backfill => false)")
	for _, c := range []struct {
		sql  string
		want int
	}{
		{"insert into numbers select g from generate_series(1, 600000) g", 600000},
		{"update numbers set id = case when id > 599000 then id + 1000 else id end, n = 1", 601000},
	} {
		e.transaction("truncate freshet.changes_1")
		e.exec(c.sql)
		got := one[[]int](e.admin(), "select array[count(distinct t.k1), min(t.k1), max(t.k1)] from "+e.tuples(1))
		if want := []int{c.want, 1, c.want}; !slices.Equal(got, want) {
			t.Errorf("%s: tuples, least and greatest are %v, want %v", c.sql, got, want)
		}
	}
	if n := one[int](e.admin(), "select count(*) from freshet.changes_1"); n > 15000 {
		t.Errorf("%d rows for them", n)
	}
}

// No list is made of keys that are long: it could become larger than a value can be.
func TestUpdateOfRowsWithLongKeysIsCaptured(t *testing.T) {
	e := newEnv(t)
	e.exec("create table wide (id int primary key, body text, n int default 0)")
	// Compressed once, and copied as it is.
	e.exec("insert into wide select 0, repeat('x', 150000)")
	e.exec("insert into wide select g, body from wide cross join generate_series(1, 8000) g")
	e.exec("select freshet.create_sink('wide', 'wide', key => 'wide:${id}:${body}', backfill => false)")
	tx := e.begin()
	e.in(tx, "select pg_sleep(0.01)", "update wide set n = n + 1 where id = 1", "update wide set n = n + 1")
	e.commit(tx)
	if got := e.gaps(); len(got) > 0 {
		t.Errorf("gaps: %q", got)
	}
}

func TestKeysEqualInSQLAreTwoKeysInRedis(t *testing.T) {
	e := newEnv(t)
	e.exec("create table prices (amount numeric primary key, name text)")
	e.exec("insert into prices values (1.0, 'one'), (2.50, 'two and a half')")
	e.exec("select freshet.create_sink('prices', 'prices')")
	e.start()
	e.settle()
	const promise = "select 'prices:' || amount, to_jsonb(p)::text from prices p"
	e.inStep("prices:*", promise)
	e.appears("prices:1.0")

	e.exec("update prices set amount = 1.00 where amount = 1")
	e.exec("update prices set amount = 2.5, name = 'shorter' where amount = 2.5")
	e.settle()
	e.inStep("prices:*", promise)
	e.absent("prices:1.0")
	e.appears("prices:1.00")
}

func TestManyGuardedWritesWithSavepoints(t *testing.T) {
	e := newEnv(t)
	e.lazyUsers()
	e.exec("insert into users (id, name) select g, 'old' from generate_series(1, 100) g")
	tx := e.begin()
	for i := 1; i <= 100; i++ {
		e.in(tx, "savepoint s", fmt.Sprintf("update users set name = 'new', id = id + 1000 where id = %d", i))
		if i%3 == 0 {
			e.in(tx, "rollback to s")
		} else {
			e.in(tx, "release s")
		}
	}
	e.commit(tx)
	e.settle()
	e.inStep("users:*", usersPromise)
	if got := e.gaps(); len(got) > 0 {
		t.Errorf("gaps: %q", got)
	}
}

func TestCompositeKeyIsFollowed(t *testing.T) {
	e := newEnv(t)
	e.exec("create table accounts (region int, name text, id int, balance int, primary key (id, region))")
	e.exec("insert into accounts select g % 3, 'n' || g, g, 0 from generate_series(1, 300) g")
	e.exec("select freshet.create_sink('accounts', 'accounts')")
	e.exec("select freshet.create_sink('turned', 'accounts', key => 'turned:{${region}}:${id}:x', columns => '{balance}')")
	e.start()
	e.settle()
	check := func() {
		t.Helper()
		e.inStep("accounts:*", "select 'accounts:' || id || ':' || region, to_jsonb(a)::text from accounts a")
		e.inStep("turned:*", "select 'turned:{' || region || '}:' || id || ':x', jsonb_build_object('balance', balance)::text from accounts a")
	}
	check()
	e.exec("update accounts set region = region + 10 where id % 5 = 0")
	e.exec("update accounts set id = -id, balance = 1 where id % 7 = 0")
	e.exec("update accounts set balance = 2 where id % 11 = 0")
	e.exec("delete from accounts where id % 13 = 0")
	e.exec("insert into accounts values (-5, 'late', 1, 9)")
	e.settle()
	check()
}

func TestNamesOfEveryKind(t *testing.T) {
	e := newEnv(t)
	type named struct{ schema, table, column, typ, sink, key, sql string }
	var all []named
	for i, c := range []struct{ schema, table, column string }{
		{"public", `Orders`, `Id`},
		{"public", `a "quoted" table`, `a "quoted" column`},
		{"Ünïcode", `naïve таблица`, `schlüssel 键`},
		{"public", `it's`, `it's`},
		{"public", `select`, `order`},
		{"public", `percent%s`, `%I`},
		{"public", `back\slash`, `back\slash`},
		{"public", `star*[a-z]?`, `k`},
		{"public", `plpgsql_words`, `tg_op`},
		{"public", `plpgsql_found`, `found`},
		{"public", `plpgsql_records`, `new`},
		{"public", `dollars`, `a$body$b$sql$c`},
		{"public", `own_column`, `freshet_k1`},
		{"public", `freshet_t`, `k1`},
		{"public", `freshet_new`, `freshet_old`},
	} {
		// Once with a type whose values are compared as they are, once as rendered.
		for _, typ := range []string{"bigint", "numeric"} {
			n := named{schema: c.schema, table: c.table, column: c.column, typ: typ}
			if typ == "numeric" {
				n.table += " 2"
			}
			n.sink = fmt.Sprintf("names_%d_%s", i, typ)
			n.key = n.table
			if n.schema != "public" {
				n.key = n.schema + "." + n.table
			}
			n.sql = pgx.Identifier{n.schema, n.table}.Sanitize()
			all = append(all, n)
		}
	}

	made := all[:0]
	for _, n := range all {
		e.exec("create schema if not exists " + pgx.Identifier{n.schema}.Sanitize())
		e.exec(fmt.Sprintf("create table %s (%s %s primary key, v text)", n.sql, pgx.Identifier{n.column}.Sanitize(), n.typ))
		if _, err := e.db.Exec(t.Context(), "select freshet.create_sink($1, $2::text::regclass, backfill => false)", n.sink, n.sql); err != nil {
			t.Errorf("%s (%s %s): create_sink: %v", n.sql, n.column, n.typ, err)
			continue
		}
		made = append(made, n)
	}
	e.start()
	for _, n := range made {
		column := pgx.Identifier{n.column}.Sanitize()
		e.exec(fmt.Sprintf("insert into %s values (1, 'a'), (2, 'b')", n.sql))
		e.exec(fmt.Sprintf("update %s set %s = 3 where %s = 2", n.sql, column, column))
		e.exec(fmt.Sprintf("delete from %s where %s = 1", n.sql, column))
		source := one[int](e, "select source_id from freshet.sink where name = $1", n.sink)
		for _, message := range one[[]string](e, "select coalesce(array_agg(operation || ': ' || message), '{}') from freshet.capture_gap where source_id = $1", source) {
			t.Errorf("%s (%s %s): gap: %s", n.sql, n.column, n.typ, message)
		}
	}
	e.settle()
	for _, n := range made {
		value := one[string](e, fmt.Sprintf("select to_jsonb(x)::text from %s x", n.sql))
		if got := e.entry(n.key + ":3"); !sameJSON(got, value) {
			t.Errorf("%s (%s %s): the entry %s:3 is %q, want %s", n.sql, n.column, n.typ, n.key, got, value)
		}
		for _, id := range []string{"1", "2"} {
			if got := e.entry(n.key + ":" + id); got != "" {
				t.Errorf("%s (%s %s): there is an entry %s:%s", n.sql, n.column, n.typ, n.key, id)
			}
		}
		e.exec("select freshet.drop_sink($1)", n.sink)
	}
	e.settle()
	for _, n := range made {
		if got := e.entry(n.key + ":3"); got != "" {
			t.Errorf("%s (%s %s): %s:3 is left after drop_sink", n.sql, n.column, n.typ, n.key)
		}
	}
}

func TestKeysOfEveryType(t *testing.T) {
	e := newEnv(t)
	// Whatever the database says, keys are rendered in one way.
	e.exec(`do $$ begin execute format('alter database %I set timezone = ''America/St_Johns''', current_database());
		execute format('alter database %I set datestyle = ''SQL, DMY''', current_database());
		execute format('alter database %I set bytea_output = ''escape''', current_database());
		execute format('alter database %I set intervalstyle = ''iso_8601''', current_database()); end $$`)
	e.exec("create type color as enum ('red', 'green', 'dark blue')")
	e.exec("create domain code as varchar(10) check (value <> '')")
	e.exec("create collation if not exists upper_first (provider = icu, locale = 'en-u-kf-upper')")
	type kind struct {
		name, sql string
		values    []string
		text      string // the key's text, of column k; "" for k::text
	}
	kinds := []kind{
		{"small", "smallint", []string{"-32768", "0", "32767"}, ""},
		{"plain", "integer", []string{"-2147483648", "7", "2147483647"}, ""},
		{"big", "bigint", []string{"-9223372036854775808", "7", "9223372036854775807"}, ""},
		{"ids", "uuid", []string{"'2f6b2b3e-0001-4c4e-8c4f-d1a2b3c4d5e6'", "gen_random_uuid()", "gen_random_uuid()"}, ""},
		{"words", "text", []string{"'a'", `'with "quotes", {braces}, \back and '' and *?['`, "'日本語 ☃ ü'"}, ""},
		{"empty", "text", []string{"''", "'x'", "' '"}, ""},
		{"lines", "text", []string{`E'a\nb'`, `E'\t'`, `'NULL'`}, ""},
		{"short", "varchar(20)", []string{"'a'", "'b c'", "'zzz'"}, ""},
		{"padded", "char(5)", []string{"'abc'", "'abcd'", "'abcde'"}, ""},
		{"sum", "numeric(10,2)", []string{"1", "-0.5", "99999999.99"}, ""},
		{"free", "numeric", []string{"1.50", "'NaN'", "1e30"}, ""},
		{"day", "date", []string{"'2024-02-29'", "'infinity'", "'0044-03-15 BC'"}, "(case when k = 'infinity' then 'infinity' when k < '0001-01-01' then to_char(k, 'YYYY-MM-DD BC') else to_char(k, 'YYYY-MM-DD') end)"},
		{"moment", "timestamptz", []string{"'2024-02-29 12:00:00.5+00'", "'2001-01-01 00:00:00+02'", "'1999-12-31 23:59:59+00'"}, "(rtrim(rtrim(to_char(k at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), '0'), '.') || '+00')"},
		{"local", "timestamp", []string{"'2024-02-29 12:00:00.5'", "'2001-01-01 00:00:01'", "'1999-12-31 23:59:59'"}, "rtrim(rtrim(to_char(k, 'YYYY-MM-DD HH24:MI:SS.US'), '0'), '.')"},
		{"clock", "time", []string{"'12:00'", "'23:59:59.999999'", "'00:00'"}, ""},
		{"flag", "boolean", []string{"true", "false"}, ""},
		{"raw", "bytea", []string{`'\x00ff'`, `'\x'`, `'\x61'`}, `('\x' || encode(k, 'hex'))`},
		{"colors", "color", []string{"'red'", "'green'", "'dark blue'"}, ""},
		{"codes", "code", []string{"'a'", "'b'", "'c'"}, ""},
		{"net", "inet", []string{"'10.0.0.1'", "'10.0.0.0/8'", "'::1'"}, ""},
		{"real", "float8", []string{"0.1", "1e300", "'-Infinity'"}, ""},
		{"bits", "bit(4)", []string{"B'0101'", "B'1111'", "B'0000'"}, ""},
		{"sorted", "text collate upper_first", []string{"'a'", "'B'", "'A'"}, ""},
		{"span", "interval", []string{"'1 day'", "'36:00'", "'1 mon -1 day'"}, "k::text"},
	}
	admin := e
	promises := make(map[string]string)
	for _, k := range kinds {
		e.exec(fmt.Sprintf("create table %s (k %s primary key, v int)", k.name, k.sql))
		e.exec(fmt.Sprintf("insert into %s select %s, 0", k.name, k.values[0]))
		if _, err := e.db.Exec(t.Context(), fmt.Sprintf("select freshet.create_sink('%[1]s_sink', '%[1]s', key => '%[1]s:${k}')", k.name)); err != nil {
			t.Errorf("%s: create_sink: %v", k.sql, err)
			continue
		}
		text := k.text
		if text == "" {
			text = "k::text"
		}
		promises[k.name] = fmt.Sprintf("select '%s:' || %s, jsonb_build_object('v', v)::text from %s", k.name, text, k.name)
	}
	e.start()
	e.settle()
	each := func(f func(e *env, k kind, promise string)) {
		for _, k := range kinds {
			if p, ok := promises[k.name]; ok {
				sub := *admin
				sub.t = t
				f(&sub, k, p)
			}
		}
	}
	inStep := func(when string) {
		t.Helper()
		e.settle()
		each(func(e *env, k kind, promise string) {
			if diff := e.values(k.name, promise); len(diff) > 0 {
				t.Errorf("%s, %s: %s", k.sql, when, strings.Join(diff, "; "))
			}
		})
	}
	inStep("after the backfill")
	each(func(e *env, k kind, _ string) {
		for _, v := range k.values[1:] {
			e.exec(fmt.Sprintf("insert into %s select %s, 1", k.name, v))
		}
		e.exec(fmt.Sprintf("update %s set v = v + 10", k.name))
	})
	inStep("after inserts and updates")
	each(func(e *env, k kind, _ string) {
		e.exec(fmt.Sprintf("delete from %s where k = (%s)::%s", k.name, k.values[0], strings.Split(k.sql, " ")[0]))
		e.exec(fmt.Sprintf("select freshet.backfill('%s_sink')", k.name))
	})
	inStep("after a delete")
	each(func(e *env, k kind, _ string) {
		e.exec(fmt.Sprintf("truncate %s", k.name))
	})
	e.settle()
	e.settle()
	inStep("after a truncate")
	each(func(e *env, k kind, _ string) {
		e.exec(fmt.Sprintf("insert into %s select %s, 1", k.name, k.values[0]))
	})
	inStep("after another insert")
	each(func(e *env, k kind, _ string) { e.exec(fmt.Sprintf("select freshet.drop_sink('%s_sink')", k.name)) })
	e.settle()
	each(func(e *env, k kind, _ string) {
		if keys := e.redis.Keys(t.Context(), k.name+":*").Val(); len(keys) > 0 {
			t.Errorf("%s: left after drop_sink: %q", k.sql, keys)
		}
	})
}

// values compares the entries under a prefix with a query of key and value, whatever
// columns the values have besides.
func (e *env) values(prefix, promise string) []string {
	e.t.Helper()
	tx := e.begin()
	defer tx.Rollback(context.Background())
	e.in(tx, "set local intervalstyle = postgres")
	rows, err := tx.Query(e.t.Context(), promise)
	if err != nil {
		e.t.Fatalf("%s: %v", promise, err)
	}
	want := make(map[string]string)
	var key, value string
	if _, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error { want[key] = strings.Trim(value, "{}"); return nil }); err != nil {
		e.t.Fatalf("%s: %v", promise, err)
	}
	var diff []string
	for _, k := range e.redis.Keys(e.t.Context(), prefix+":*").Val() {
		if _, ok := want[k]; !ok {
			diff = append(diff, fmt.Sprintf("orphaned %q", k))
		}
	}
	for k, v := range want {
		if got := strings.ReplaceAll(e.entry(k), ":", ": "); !strings.Contains(got, v) {
			diff = append(diff, fmt.Sprintf("%q is %s, want %s", k, got, v))
		}
	}
	return diff
}

func TestWideningAKeyColumnNeverFailsTheApplication(t *testing.T) {
	e := newEnv(t)
	e.exec("create table items (id int primary key, name text)")
	e.exec("select freshet.create_sink('items', 'items')")
	e.exec("create table slugs (slug varchar(5) primary key)")
	e.exec("select freshet.create_sink('slugs', 'slugs')")
	e.exec("alter table items alter column id type bigint")
	e.exec("alter table slugs alter column slug type varchar(50)")
	// Alone in its transaction, and behind a write that fits.
	e.exec("insert into items values (5000000000, 'large')")
	e.exec("insert into slugs values ('long enough')")
	e.transaction("insert into items values (1, 'small')", "insert into items values (6000000000, 'large')")
	e.transaction("insert into slugs values ('short')", "insert into slugs values ('longer than it was')")
}

func TestWideningAKeyColumnOfPartitionsNeverFailsTheApplication(t *testing.T) {
	e := newEnv(t)
	e.exec("create table parts (region int, id int, primary key (region, id)) partition by list (region)")
	e.exec("create table parts_1 partition of parts for values in (1); create table parts_2 partition of parts for values in (2)")
	e.exec("select freshet.create_sink('parts', 'parts', backfill => false)")
	e.transaction("select pg_sleep(0.01)", "insert into parts values (1, 2), (2, 2)", "alter table parts alter column id type bigint",
		"insert into parts values (1, 3), (2, 3), (1, 5000000000), (2, 5000000000)")
	if n := len(e.gaps()); n == 0 {
		t.Error("no gap is on record for what the change table has no room for")
	}
}

// The call for one leaf relies on that for another, but not for what this session has
// planned for it.
func TestLeafPlannedBeforeItsColumnsWereAlteredNeverFailsTheApplication(t *testing.T) {
	e := newEnv(t)
	e.exec("create table parts (region int, id int, primary key (region, id)) partition by list (region)")
	e.exec("create table parts_1 partition of parts for values in (1); create table parts_2 partition of parts for values in (2)")
	e.exec("select freshet.create_sink('parts', 'parts', backfill => false)")
	conn := e.session()
	run := func(statements ...string) {
		t.Helper()
		for _, sql := range statements {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	run("begin", "select pg_sleep(0.01)", "insert into parts values (2, 1)", "insert into parts values (2, 10)", "commit")
	e.exec("alter table parts alter column id type bigint")
	// The first leaf is new to this session, and 2 fits everywhere.
	run("begin", "select pg_sleep(0.01)", "insert into parts values (1, 2)", "insert into parts values (2, 2)", "commit")
}

func TestRenamingAKeyColumnBetweenWritesNeverFailsTheApplication(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	e.transaction("insert into users (id, name) values (1, 'before')",
		"alter table users rename column id to user_id",
		"update users set name = 'after'")
}

func TestCaptureCostsBystandersNothingWhileNobodySleeps(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	conn := e.session()
	if _, err := conn.Exec(t.Context(), "listen freshet_bell"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		e.exec("insert into users (id, name) values ($1, 'x')", i)
	}
	e.exec("update users set name = 'y'")
	e.exec("delete from users")
	e.exec("select pg_notify('freshet_bell', 'end')")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n, err := conn.Conn().WaitForNotification(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n.Payload != "end" {
		t.Errorf("the trigger rang %q though nobody sleeps", n.Payload)
	}
}

// A subtransaction in every call would slow down every other session of the server: each takes
// a transaction id, by which they can be counted.
//
// Not run beside everything else, which takes ids as well.
func TestLongTransactionsHaveFewSubtransactions(t *testing.T) {
	for _, partitions := range []int{0, 1, 100} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			e := newEnv(t)
			if partitions > 0 {
				e.exec("create table users (id int, name text, primary key (id)) partition by hash (id)")
			} else {
				e.exec("create table users (id int primary key, name text)")
			}
			for i := range partitions {
				e.exec(fmt.Sprintf("create table users_%[1]d partition of users for values with (modulus %[2]d, remainder %[1]d)", i, partitions))
			}
			e.exec("insert into users select g, 'a' from generate_series(1, 1000) g")
			e.exec("select freshet.create_sink('users', 'users', backfill => false)")
			next := func() int64 { return one[int64](e, "select pg_current_xact_id()::text::bigint") }
			taken := func(body string) int64 {
				before := next()
				e.transaction(body)
				return next() - before
			}
			least := int64(1 << 62)
			// Others of this server take transaction ids as well.
			for range 5 {
				least = min(least, taken("do $$ begin for i in 1..1000 loop update users set name = 'b' where id = i; end loop; end $$"))
			}
			if least > 200 {
				t.Errorf("1000 updates in a transaction took %d transaction ids", least)
			}
			// More than 64 of them in one transaction are what slows others down. Rows of a
			// subtransaction carry its own id.
			e.transaction("truncate freshet.changes_1")
			e.exec("update users set name = 'c'")
			if used := one[int](e, "select count(distinct xmin::text) from freshet.changes_1"); used > 8 {
				t.Errorf("an update of all rows took %d transaction ids", used)
			}
			if n := e.changes(); n != 1000 {
				t.Errorf("%d changes were captured, want 1000", n)
			}
			if n := one[int](e, "select count(*) from freshet.capture_gaps"); n > 0 {
				t.Errorf("there are %d gaps", n)
			}
		})
	}
}

// A name is no place to indent at.
func TestNameOfAKeyColumnMayHaveALineBreak(t *testing.T) {
	e := newEnv(t)
	e.exec("create table broken (\"a\nb\" int primary key, v int)")
	e.exec("select freshet.create_sink('broken', 'broken', backfill => false)")
	e.exec("insert into broken select g, 0 from generate_series(1, 30) g")
	for n := range 30 {
		e.exec("update broken set v = 1 where \"a\nb\" = $1", n+1)
	}
	e.exec("delete from broken")
	if got := e.gaps(); len(got) > 0 {
		t.Errorf("gaps: %q", got)
	}
	if n := e.changes(); n < 60 {
		t.Errorf("%d rows of the change table", n)
	}
}

// A function that fits a call better than that of pg_catalog is preferred to it wherever it stands in the search path.
func TestReadsArePinnedByNobodyElse(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'before' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users', columns => '{id,name}')")
	run, _ := e.hostile("grant create on schema public to %s")
	run(fmt.Sprintf("create function public.concat(%s) returns text language plpgsql as $$ begin raise 'it ran'; end $$",
		strings.TrimSuffix(strings.Repeat("text, ", 17), ", ")))
	e.start()
	e.settle()
	e.exec("update users set name = 'after' where id = 1")
	e.exec("update users set id = -id where id = 3")
	e.settle()
	e.inStep("users:*", "select 'users:' || id, jsonb_build_object('id', id, 'name', name)::text from users")
}
