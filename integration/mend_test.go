package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/internal/servers/serverstest"
	"github.com/freshet/freshet/worker"
)

// mended waits until capture is looked after, and what follows from that is done. Workers
// look each second; what they found counts as one look more of their bell.
func (e *env) mended() {
	e.t.Helper()
	e.await("capture is mended", func() bool {
		// What somebody just mends was looked at before.
		e.admin().exec("select pg_advisory_xact_lock(1181905014, id) from freshet.source")
		// Not needs_mending, which is false in the pause after an attempt too.
		return one[bool](e.admin(), `select not bool_or(freshet.is_altered(s.id) or exists (select from freshet.capture_gap g where g.source_id = s.id)
				or exists (select from freshet.noted_partition n where n.source_id = s.id))
			from freshet.source s where s.relid is not null`)
	})
	e.settle()
}

// rewarms counts re-warms that Freshet has started by itself.
func (e *env) rewarms() int {
	return one[int](e, "select count(*) from freshet.backfills where reason = 'rewarm'")
}

// Whatever breaks capture, the application's statement succeeds, and the workers mend what
// is broken and look at everything that was missed.
func TestBrokenCaptureIsMendedAndWhatItMissedIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		// breaks is run first; then rows are changed.
		breaks []string
		admin  bool
	}{
		{"key column renamed", []string{"alter table users rename column id to uid"}, false},
		{"key column to text", []string{"alter table users alter column id type text using id::text"}, false},
		{"key column to numeric", []string{"alter table users alter column id type numeric"}, false},
		{"change table dropped", []string{"drop table freshet.changes_1 cascade"}, false},
		{"segment dropped", []string{"drop table freshet.changes_1_1"}, false},
		{"trigger function dropped", []string{"drop function freshet.capture_1 cascade"}, false},
		{"trigger function replaced", []string{"create or replace function freshet.capture_1() returns trigger language plpgsql as 'begin return null; end'"}, false},
		{"triggers dropped", []string{"drop trigger freshet_update on users", "drop trigger freshet_truncate on users"}, false},
		{"trigger renamed", []string{"alter trigger freshet_update on users rename to mine"}, false},
		{"error planted in the change table", []string{
			"create function fail() returns trigger language plpgsql as $$ begin raise exception 'planted'; end $$",
			"create trigger fail before insert on freshet.changes_1_1 for each row execute function fail()"}, false},
		{"column of the change table dropped", []string{"alter table freshet.changes_1 drop column k1"}, false},
		{"triggers disabled and enabled in one transaction", nil, false},
		{"replica role without triggers that are always enabled", []string{"alter table users disable trigger all", "alter table users enable trigger all"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec(usersTable)
			e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 300) g")
			e.exec("select freshet.create_sink('users', 'users', key => 'u:${id}')")
			e.start()
			e.settle()

			for _, sql := range c.breaks {
				e.exec(sql)
			}
			key := one[string](e, "select attname::text from pg_attribute where attrelid = 'users'::regclass and attnum = 1")
			promise := fmt.Sprintf("select 'u:' || %s, to_jsonb(u)::text from users u", key)
			switch {
			case c.breaks == nil:
				e.transaction("alter table users disable trigger all", "update users set name = 'unseen' where id < 100",
					"delete from users where id between 200 and 250", "alter table users enable always trigger freshet_insert",
					"alter table users enable always trigger freshet_update", "alter table users enable always trigger freshet_delete",
					"alter table users enable always trigger freshet_truncate")
			case c.admin:
				e.admin().transaction("set local session_replication_role = replica", "update users set name = 'unseen'", "delete from users where id > 290")
			default:
				e.exec(fmt.Sprintf("update users set name = 'changed' where %s::text like '1%%'", key))
				e.exec(fmt.Sprintf("delete from users where %s::text like '2%%'", key))
			}
			e.mended()
			e.inStep("u:*", promise)
			if n := e.rewarms(); n != 1 {
				t.Errorf("%d re-warms for one mishap", n)
			}
			if gaps := e.gaps(); len(gaps) > 0 {
				t.Errorf("gaps that were mended are still shown: %q", gaps)
			}

			// From here on nothing is missed, and nothing is warmed again for it.
			before := e.rewarms()
			e.exec("update users set name = 'after'")
			e.exec(fmt.Sprintf("delete from users where %s::text like '3%%'", key))
			e.exec(fmt.Sprintf("insert into users (%s, name) values (4711, 'new')", key))
			e.settle()
			e.inStep("u:*", promise)
			e.exec("truncate users")
			e.settle()
			e.inStep("u:*", promise)
			if n := e.rewarms(); n != before {
				t.Errorf("%d re-warms more, though nothing was missed", n-before)
			}
		})
	}
}

// What happens to partitions directly fires no trigger of the table's.
func TestPartitionsThatComeAndGoAreNoticed(t *testing.T) {
	e := newEnv(t)
	e.exec(eventsTable)
	e.exec("insert into events select g, '2026-01-10', 'first', g from generate_series(1, 200) g")
	e.exec("select freshet.create_sink('events', 'events')")
	e.start()
	e.settle()
	check := func(what string) {
		t.Helper()
		e.mended()
		if diff := e.difference("events:*", eventsPromise); len(diff) > 0 {
			t.Fatalf("%s: %d entries differ:\n%s", what, len(diff), strings.Join(diff[:min(5, len(diff))], "\n"))
		}
	}
	check("at first")

	e.exec("create table filled (like events including all)")
	e.exec("insert into filled select g, '2027-05-10', 'attached', g from generate_series(5000, 5200) g")
	e.exec("alter table events attach partition filled for values from ('2027-05-01') to ('2027-06-01')")
	check("attached with rows")
	e.exec("truncate filled")
	check("a new leaf truncated by itself")
	if n := e.rewarms(); n != 0 {
		t.Errorf("%d re-warms: attaching a partition is not worth one", n)
	}
	e.exec("create table later partition of events for values from ('2027-06-01') to ('2027-07-01')")
	e.transaction("insert into later select g, '2027-06-10', 'later', g from generate_series(6000, 6100) g")
	check("made later")
	e.exec("alter table events detach partition later")
	check("detached")
	if one[bool](e, "select exists (select from pg_trigger where tgrelid = 'later'::regclass)") {
		t.Error("a leaf that was detached keeps a trigger")
	}
	e.exec("insert into filled select g, '2027-05-10', 'again', g from generate_series(7000, 7100) g")
	e.exec("drop table filled")
	check("dropped")
	e.exec("alter table events_jan disable trigger user; update events_jan set n = -1; alter table events_jan enable trigger user")
	check("triggers of a leaf disabled for a while")
	e.transaction("create table quick partition of events for values from ('2027-08-01') to ('2027-09-01')",
		"insert into quick values (8000, '2027-08-02', 'x', 1)", "truncate quick", "insert into quick values (8001, '2027-08-03', 'y', 1)")
	check("made, filled and truncated before anybody looked")
}

// A table can go, come back, be renamed or change places with another.
func TestTheTableBehindANameIsFollowed(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'old' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users', key => 'users:${id}', columns => '{id,name}')")
	e.exec("select freshet.create_sink('active', 'users', key => 'active:${id}', columns => '{name}', filter => 'active')")
	e.start()
	e.settle()
	check := func(what, table string) {
		t.Helper()
		e.mended()
		for pattern, promise := range map[string]string{
			"users:*":  "select 'users:' || id, jsonb_build_object('id', id, 'name', name)::text from " + table,
			"active:*": "select 'active:' || id, jsonb_build_object('name', name)::text from " + table + " where active",
		} {
			if diff := e.difference(pattern, promise); len(diff) > 0 {
				t.Fatalf("%s: %d entries differ:\n%s", what, len(diff), strings.Join(diff[:min(5, len(diff))], "\n"))
			}
		}
	}
	// A blue-green load: the new table has its columns in another order.
	e.exec("create table users_new (active boolean not null default true, name text, extra int, id bigint primary key)")
	e.exec("insert into users_new (id, name, active) select g, 'new', g % 2 = 0 from generate_series(50, 150) g")
	e.transaction("alter table users rename to users_old", "alter table users_new rename to users")
	check("swapped", "users")
	e.exec("update users set name = 'later' where id < 60; update users_old set name = 'nobody cares'")
	e.settle()
	check("written to after the swap", "users")
	if one[bool](e, "select exists (select from pg_trigger where tgrelid = 'users_old'::regclass)") {
		t.Error("the table that is no longer the source keeps its triggers")
	}

	e.exec("alter table users rename to people")
	check("renamed", "people")
	e.exec("update people set name = 'renamed'")
	e.settle()
	check("written to after the rename", "people")

	e.exec("drop table people")
	e.await("the entries of a table that is gone are removed", func() bool {
		return len(e.redis.Keys(t.Context(), "users:*").Val())+len(e.redis.Keys(t.Context(), "active:*").Val()) == 0
	})
	if state := e.stateOf("users"); state != "failing" {
		t.Errorf("state %s of a sink whose table is gone", state)
	}
	e.exec("create table people (name text, id int primary key, active boolean)")
	e.exec("insert into people select 'back', g, true from generate_series(1, 20) g")
	e.await("the sink is back", func() bool { return e.stateOf("users") != "failing" })
	check("made again", "people")
	e.exec("select freshet.drop_sink('users'); select freshet.drop_sink('active')")
	e.settle()
}

// Columns that a sink shows may change while it runs; no error reaches anybody.
func TestEntriesTakeTheNewShapeOfTheirColumns(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name, price) select g, 'user', 1.5 from generate_series(1, 300) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("select freshet.create_sink('names', 'users', key => 'names:${id}', columns => '{name}')")
	e.exec("select freshet.create_sink('noted', 'users', key => 'noted:${id}', columns => '{name}', on_schema_change => 'notice')")
	e.start()
	e.settle()
	shape := "select 'users:' || id, (to_jsonb(u) - 'added')::text from users u"
	names := "select 'names:' || id, jsonb_build_object('name', name)::text from users"
	check := func(what string) {
		t.Helper()
		e.mended()
		for pattern, promise := range map[string]string{"users:*": shape, "names:*": names} {
			if diff := e.difference(pattern, promise); len(diff) > 0 {
				t.Fatalf("%s: %d entries differ:\n%s", what, len(diff), strings.Join(diff[:min(5, len(diff))], "\n"))
			}
		}
	}
	e.exec("alter table users add column added text default 'leak'")
	e.exec("update users set name = 'x' where id < 10")
	check("added")
	if n := e.rewarms(); n != 0 {
		t.Errorf("%d re-warms for a column that no sink shows", n)
	}
	e.exec("alter table users drop column email")
	check("dropped")
	e.exec("alter table users alter column price type text using price || ' EUR'")
	check("retyped")
	e.exec("alter table users rename column name to label")
	names = "select 'names:' || id, jsonb_build_object('label', label)::text from users"
	check("renamed")
	e.exec("update users set label = 'y' where id = 5")
	e.settle()
	check("written to")

	if got := e.entry("noted:7"); got != `{"name":"x"}` {
		t.Errorf("with on_schema_change => notice an entry was written again: %s", got)
	}
	if got := e.entry("noted:5"); got != `{"label":"y"}` {
		t.Errorf("what changed since has the new shape: %s", got)
	}
	if notice := one[*string](e, "select notice from freshet.sinks where sink = 'noted'"); notice == nil || !strings.Contains(*notice, "freshet.backfill('noted')") {
		t.Errorf("notice: %v", notice)
	}
}

// A definition that no longer makes sense stops its sink and says why, until it does again.
func TestDefinitionThatMakesNoSenseAnyMoreStopsItsSink(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('filtered', 'users', key => 'f:${id}', filter => 'active')")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	said := func(sink string) string {
		return one[string](e, "select coalesce(last_error, '') from freshet.status where sink = $1", sink)
	}
	e.exec("alter table users rename column active to enabled")
	e.await("the filter is seen to be wrong", func() bool { return e.stateOf("filtered") == "failing" })
	if !strings.Contains(said("filtered"), `filter: column "active" does not exist`) {
		t.Errorf("status says %q", said("filtered"))
	}
	e.exec("update users set name = 'changed', enabled = id % 2 = 0")
	e.mended()
	e.inStep("users:*", "select 'users:' || id, to_jsonb(u)::text from users u")
	e.exec("alter table users rename column enabled to active")
	e.await("it makes sense again", func() bool { return e.stateOf("filtered") != "failing" })
	e.mended()
	e.inStep("f:*", "select 'f:' || id, to_jsonb(u)::text from users u where active")

	e.exec("alter table users drop constraint users_pkey")
	e.await("the index is missed", func() bool { return e.stateOf("users") == "failing" })
	if !strings.Contains(said("users"), "no unique index") {
		t.Errorf("status says %q", said("users"))
	}
	e.exec("update users set name = 'without an index'")
	e.exec("alter table users add primary key (id)")
	e.await("the index is back", func() bool { return e.stateOf("users") != "failing" })
	e.mended()
	e.inStep("users:*", "select 'users:' || id, to_jsonb(u)::text from users u")
}

// A sink that is stopped by something nobody is told of when it is over goes on by itself.
func TestSinkGoesOnWhenWhatStoppedItIsOver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, table, sink, stops, over, key, promise string }{
		{
			"an index of groups", "create table orders (id bigint primary key, customer bigint not null); create index by_customer on orders (customer)",
			"select freshet.create_sink('orders', 'orders', key => 'c:${customer}', value => 'count(*)')",
			"drop index by_customer", "create index on orders (customer)",
			"c:*", "select 'c:' || customer, count(*)::text from orders group by customer",
		},
		{
			"a table that is read", "create table orders (id bigint primary key, customer bigint not null); create table names (id bigint primary key, name text); insert into names select g, 'n' || g from generate_series(0, 9) g",
			"select freshet.create_sink('orders', 'orders', key => 'c:${id}', value => 'to_jsonb((select n.name from names n where n.id = customer))', accept_drift => true)",
			"alter table names rename to names_old", "alter table names_old rename to names",
			"c:*", "select 'c:' || o.id, to_jsonb(n.name)::text from orders o join names n on n.id = customer",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec(c.table)
			e.exec("insert into orders select g, g % 10 from generate_series(1, 100) g")
			e.exec(c.sink)
			stop := e.start()
			e.settle()
			e.mended()
			// A lane that works at the moment would go on until it hears of it.
			stop()
			e.exec(c.stops)
			e.exec("alter table orders add column note text")
			e.exec("select freshet.mend(1)")
			if e.stateOf("orders") != "failing" {
				t.Fatal("the sink is not stopped")
			}
			// No re-warm finds the groups and rows that are gone.
			e.exec("update orders set customer = 7 where id < 20; delete from orders where id > 90 or customer = 3")
			was := one[string](e.admin(), "select fingerprint::text from freshet.source")
			e.start()
			e.exec(c.over)
			e.follow(c.key, c.promise)
			e.await("status says so", func() bool { return e.stateOf("orders") != "failing" })
			if is := one[string](e.admin(), "select fingerprint::text from freshet.source"); is != was {
				t.Errorf("something else was seen: %s, before %s", is, was)
			}
		})
	}
}

// Where there is no room for a gap either, which a disk that is full comes to, what was missed is found all the same.
func TestGapThatCannotBeRecorded(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	e.mended()
	e.admin().exec("alter table freshet.capture_gap add constraint \"full\" check (false) not valid")
	blocker := e.admin().begin()
	e.in(blocker, "lock table freshet.changes_1_1 in access exclusive mode")
	e.transaction("set local lock_timeout = '20ms'", "update users set name = 'missed' where id <= 50", "delete from users where id = 60")
	e.commit(blocker)
	e.admin().exec("alter table freshet.capture_gap drop constraint \"full\"")
	e.follow("users:*", usersPromise)
	if n := e.rewarms(); n != 1 {
		t.Errorf("%d re-warms", n)
	}
}

// While the table of a stopped sink is locked, the others of that table are not said to fail, and it is tried again.
func TestStoppedSinkOfALockedTable(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('stopped', 'users', key => 's:${id}', filter => 'active', backfill => false)")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	e.exec("alter table users rename active to enabled")
	e.await("it is stopped", func() bool { return e.stateOf("stopped") == "failing" })
	e.mended()
	tx := e.begin()
	e.in(tx, "lock table users in access exclusive mode")
	e.admin().exec("update freshet.sink set survey_after = now() where name = 'stopped'")
	e.await("it was looked at", func() bool {
		return one[bool](e.admin(), "select survey_after > now() + interval '1 second' from freshet.sink where name = 'stopped'")
	})
	if state := e.stateOf("users"); state != "live" {
		t.Errorf("the other sink is %s", state)
	}
	e.commit(tx)
	e.exec("alter table users rename enabled to active")
	e.await("it goes on", func() bool { return e.stateOf("stopped") != "failing" })

	// Of a table that is gone there is nothing to look at.
	e.exec("alter table users rename active to enabled")
	e.await("it is stopped again", func() bool { return e.stateOf("stopped") == "failing" })
	e.exec("drop table users")
	e.await("the table is gone", func() bool {
		return one[bool](e.admin(), "select bool_and(broken like '%is gone') from freshet.sink")
	})
	if one[bool](e.admin(), "select bool_or(survey_after is not null) from freshet.sink") {
		t.Error("it is looked at again and again")
	}
}

// A table that cannot be captured for a moment, which ends before anybody looks, is no reason for
// the changes that were missed before it to stay missed.
func TestChildThatComesAndGoesWhileMendWaits(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	e.settle()
	e.mended()
	stop()
	blocker := e.admin().begin()
	e.in(blocker, "lock table freshet.changes_1_1 in access exclusive mode")
	e.transaction("set local lock_timeout = '20ms'", "update users set name = 'missed' where id <= 50")
	e.commit(blocker)
	tx := e.begin()
	e.in(tx, "update users set name = 'x' where id = 60")
	mended := make(chan string, 1)
	go func() { mended <- one[string](e, "select freshet.mend(1)") }()
	e.await("mend waits", func() bool { return e.locked("mend") })
	e.in(tx, "create table child () inherits (users)")
	e.commit(tx)
	if said := <-mended; !strings.Contains(said, "were not captured") {
		t.Fatalf("mend said %q", said)
	}
	e.exec("drop table child")
	e.start()
	e.follow("users:*", usersPromise)
}

// What was broken and is not mended yet stays to be seen, whatever Freshet itself does to
// capture meanwhile.
func TestWhatIsToBeMendedIsNotCoveredUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		covers func(e *env)
	}{
		{"by a rotation in the pause before it is mended", func(e *env) {
			e.admin().exec("update freshet.source set mend_after = now() + interval '1 hour'")
			e.exec("update users set name = 'seen by nobody' where id < 50")
			e.admin().exec("update freshet.segment set created_at = now() - interval '1 hour', current_since = current_since - interval '1 hour'")
			e.admin().exec("select freshet.rotate(1)")
			e.admin().exec("update freshet.source set mend_after = null")
		}},
		{"by a sink with another key", func(e *env) {
			e.exec("update users set name = 'seen by nobody' where id < 50")
			e.exec("select freshet.create_sink('emails', 'users', key => 'email:${email}')")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.hurry()
			e.exec(usersTable)
			e.exec("create unique index on users (email)")
			e.exec("insert into users (id, name, email) select g, 'user', 'u' || g from generate_series(1, 300) g")
			e.exec("select freshet.create_sink('users', 'users')")
			stop := e.start()
			e.settle()
			e.exec("update users set name = 'seen' where id > 200")
			e.settle()
			stop()
			e.exec("create or replace function freshet.capture_1() returns trigger language plpgsql as 'begin return null; end'")
			c.covers(e)
			e.start()
			e.mended()
			e.inStep("users:*", usersPromise)
		})
	}
}

// A change table may be dropped by hand at the very moment that a sink is.
func TestSinkCanBeDroppedWhileItsChangeTableIs(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users')")
	tx := e.begin()
	e.in(tx, "drop table freshet.changes_1 cascade")
	dropped := make(chan error, 1)
	go func() {
		_, err := e.db.Exec(t.Context(), "select freshet.drop_sink('users')")
		dropped <- err
	}()
	e.await("the other one waits", func() bool {
		return one[bool](e, "select exists (select from pg_locks where not granted and relation = (select oid from pg_class where relname = 'changes_1'))")
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-dropped; err != nil {
		t.Error(err)
	}
}

// A key column that is dropped stops the sinks that have it, in words, and no other.
func TestDroppedKeyColumnStopsItsSinksOnly(t *testing.T) {
	e := newEnv(t)
	// The table is large enough to be split into ranges.
	e.inRangesOf(50)
	e.exec("create table users (id bigint primary key, name text, email text unique, team int)")
	e.exec("create index on users (team)")
	e.exec("insert into users select g, 'user', 'u' || g, g % 10 from generate_series(1, 300) g")
	e.exec("analyze users")
	e.exec("select freshet.create_sink('users', 'users', columns => '{id,name}')")
	e.exec("select freshet.create_sink('emails', 'users', key => 'email:${email}')")
	e.exec("select freshet.create_sink('teams', 'users', key => 'team:${team}', value => 'count(*)')")
	e.start()
	e.settle()
	e.exec("alter table users drop column email, drop column team")
	e.exec("update users set name = 'later' where id <= 150")
	e.mended()
	const promise = "select 'users:' || id, jsonb_build_object('id', id, 'name', name)::text from users"
	e.follow("users:*", promise)
	const wrong = `failing key: a column of "email:${email}" is gone from public.users`
	if said := one[string](e, "select state || ' ' || coalesce(last_error, '') from freshet.status where sink = 'emails'"); said != wrong {
		t.Errorf("status says %q", said)
	}
	e.exec("update users set name = 'after that'; delete from users where id > 290")
	e.follow("users:*", promise)
	if gaps := e.gaps(); len(gaps) > 0 {
		t.Errorf("there are gaps left: %q", gaps)
	}

	e.await("nobody stumbles over the sinks that are stopped", func() bool {
		return one[bool](e.admin(), "select exists (select from freshet.lease where kind = 'sweep' and finished_at is null and heartbeat_at > clock_timestamp() - interval '1 second')")
	})
	if said := one[string](e.admin(), "select coalesce(string_agg(errors::text, ' '), '') from freshet.river_job where errors <> '{}'"); said != "" {
		t.Errorf("jobs had errors: %.500s", said)
	}

	// With the last key column gone there is nothing to capture, and nothing in the way.
	e.exec("create table tags (name text primary key, n int)")
	e.exec("insert into tags values ('a', 1)")
	e.exec("select freshet.create_sink('tags', 'tags')")
	e.settle()
	e.exec("alter table tags drop column name")
	e.mended()
	e.exec("update tags set n = 2; insert into tags values (3); delete from tags")
	if gaps := e.gaps(); len(gaps) > 0 {
		t.Errorf("there are gaps: %q", gaps)
	}
}

// partsTable has one partition; another one is attached while a transaction is open that
// whoever mends has to wait for.
const partsTable = `create table %[1]s (id bigint not null, day date not null, kind text, primary key (id, day)) partition by range (day);
	create table %[1]s_jan partition of %[1]s for values from ('2026-01-01') to ('2026-02-01');
	insert into %[1]s select g, '2026-01-10', '%[1]s' from generate_series(1, 200) g`

// parts makes that table and a sink of it, and starts a worker that has looked after both.
func (e *env) parts() (stop func()) {
	e.t.Helper()
	e.exec(fmt.Sprintf(partsTable, "parts"))
	e.exec("select freshet.create_sink('parts', 'parts')")
	stop = e.start()
	e.settle()
	e.mended()
	return stop
}

// What a transaction does on which the mending of something else waits is not taken for how
// things have always been.
func TestWhatHappensWhileMendWaitsIsSeen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		meanwhile func(e *env, tx pgx.Tx)
	}{
		{"a gap", func(e *env, tx pgx.Tx) {
			blocker := e.begin()
			e.in(blocker, "lock table freshet.changes_1_1 in access exclusive mode")
			e.in(tx, "set local lock_timeout = '20ms'", "update parts set kind = 'missed' where id <= 50", "set local lock_timeout = 0")
			if err := blocker.Rollback(e.t.Context()); err != nil {
				e.t.Fatal(err)
			}
		}},
		{"a swap", func(e *env, tx pgx.Tx) {
			e.in(tx, "alter table parts rename to parts_old", "alter table parts_new rename to parts")
		}},
		{"triggers of a partition", func(e *env, tx pgx.Tx) {
			e.in(tx, "alter table parts_jan disable trigger user", "update parts set kind = 'unseen' where id between 10 and 60", "alter table parts_jan enable trigger user",
				`do $$ declare t name; begin
					for t in select tgname from pg_trigger where tgrelid = 'parts_jan'::regclass and tgname like 'freshet%' loop
						execute format('alter table parts_jan enable always trigger %I', t);
					end loop; end $$`)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec(fmt.Sprintf(partsTable, "parts"))
			e.exec(fmt.Sprintf(partsTable, "parts_new"))
			e.exec("select freshet.create_sink('parts', 'parts')")
			e.start()
			e.settle()
			e.mended()
			tx := e.begin()
			// The transaction has to hold the source before mend comes.
			if c.name == "a gap" {
				c.meanwhile(e, tx)
			} else {
				e.in(tx, "update parts set kind = 'x' where id = 1")
			}
			e.exec("create table parts_feb (like parts including all)")
			e.exec("alter table parts attach partition parts_feb for values from ('2026-02-01') to ('2026-03-01')")
			e.await("mend waits", func() bool {
				return e.locked("mend")
			})
			if c.name != "a gap" {
				c.meanwhile(e, tx)
			}
			e.commit(tx)
			e.follow("parts:*", "select 'parts:' || id || ':' || day, to_jsonb(p)::text from parts p")
		})
	}
}

// Who looks after capture has nothing locked while it waits for a source: a migration that has
// the source in hand, and then needs one of its partitions, would be a deadlock's victim.
func TestMigrationsOfPartitionsDoNotDieOfMending(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, statement string }{
		{"detach", "alter table parts detach partition parts_jan"},
		{"drop", "drop table parts_jan"},
		{"make", "create table parts_mar partition of parts for values from ('2026-03-01') to ('2026-04-01')"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec(fmt.Sprintf(partsTable, "parts"))
			e.exec("create table parts_rest partition of parts default")
			e.exec("select freshet.create_sink('parts', 'parts')")
			e.start()
			e.settle()
			e.mended()
			tx := e.begin()
			// Nothing of the default partition, which whoever attaches another one has to lock.
			e.in(tx, "update parts set kind = 'x' where id = 1 and day = '2026-01-10'")
			e.exec("create table parts_feb (like parts including all)")
			e.exec("alter table parts attach partition parts_feb for values from ('2026-02-01') to ('2026-03-01')")
			e.await("mend waits", func() bool {
				return e.locked("mend")
			})
			e.in(tx, c.statement)
			e.commit(tx)
			e.follow("parts:*", "select 'parts:' || id || ':' || day, to_jsonb(p)::text from parts p")
		})
	}
}

// A transaction that writes to a source for long keeps capture from being mended, and that is
// all: other writers do not queue again and again behind who tries.
func TestWritersDoNotQueueBehindWhoMends(t *testing.T) {
	e := newEnv(t)
	e.parts()
	tx := e.begin()
	e.in(tx, "update parts set kind = 'x' where id = 1")
	e.exec("create table parts_feb (id bigint not null, day date not null, kind text, primary key (id, day))")
	e.exec("insert into parts_feb values (1000, '2026-02-10', 'attached')")
	e.exec("alter table parts attach partition parts_feb for values from ('2026-02-01') to ('2026-03-01')")
	e.await("mend waits", func() bool {
		return e.locked("mend")
	})
	conn, err := e.db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	// An attempt lasts 200 ms, so it is noticed once.
	if _, err := conn.Exec(t.Context(), "set lock_timeout = '150ms'"); err != nil {
		t.Fatal(err)
	}
	queued, written := 0, 0
	for begin := time.Now(); time.Since(begin) < 6*time.Second; {
		_, err := conn.Exec(t.Context(), "update parts set kind = kind || '.' where id = 2")
		switch {
		case pg.IsLocked(err):
			queued++
		case err != nil:
			t.Fatal(err)
		default:
			written++
		}
	}
	// There is one attempt in each look, about one a second.
	if queued > 7 {
		t.Errorf("a writer queued %d times in six seconds, and wrote %d times; want 7 at most", queued, written)
	}
	if written < 100 {
		t.Errorf("a writer wrote %d times; want 100", written)
	}
	e.commit(tx)
	if _, err := conn.Exec(t.Context(), "reset lock_timeout"); err != nil {
		t.Fatal(err)
	}
	e.follow("parts:*", "select 'parts:' || id || ':' || day, to_jsonb(p)::text from parts p")
}

// Who has created a sink and leaves his transaction open keeps every source from being mended. A moment of that is nothing to be told.
func TestTransactionThatKeepsAllFromMendingIsTold(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("create table others (id bigint primary key)")
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 10) g")
	e.exec("select freshet.create_sink('users', 'users')")
	stop := e.start()
	e.settle()
	e.mended()
	stop()
	tx := e.begin()
	e.in(tx, "select freshet.create_sink('others', 'others')")
	e.exec("drop trigger freshet_update on users; update users set name = 'missed'")
	for range 2 {
		if did := one[*string](e, "select freshet.mend(1)"); did != nil {
			t.Errorf("mend says %s", *did)
		}
	}
	if said := one[*string](e, "select mend_error from freshet.source"); said != nil {
		t.Errorf("after a moment it is said: %s", *said)
	}
	e.start()
	var pid int
	if err := tx.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("capture could not be mended: a transaction that changes sinks, or looks after capture, does not end (process %d)", pid)
	e.await("status tells who it is", func() bool {
		return one[bool](e, "select bool_and(state = 'failing' and last_error = $1) from freshet.status", want)
	})
	e.commit(tx)
	e.mended()
	e.inStep("users:*", usersPromise)
	if said := one[*string](e, "select max(mend_error) from freshet.source"); said != nil {
		t.Errorf("it is still said: %s", *said)
	}
}

// The change table has the type of a key column as well, until it is mended: the migration that gives the column another
// and drops the type has to say cascade.
func TestTypeOfAKeyColumnIsDropped(t *testing.T) {
	e := newEnv(t)
	e.exec("create type mood as enum ('good', 'bad'); create table moods (mood mood primary key, n int)")
	e.exec("insert into moods values ('good', 1), ('bad', 2)")
	e.exec("select freshet.create_sink('moods', 'moods')")
	e.start()
	e.settle()
	const retype = "alter table moods alter column mood type text using mood::text"
	tx := e.begin()
	e.in(tx, retype)
	if _, err := tx.Exec(t.Context(), "drop type mood"); err == nil || !strings.Contains(err.Error(), "other objects depend on it") {
		t.Errorf("drop type: %v", err)
	}
	_ = tx.Rollback(t.Context())
	e.transaction(retype, "drop type mood cascade", "insert into moods values ('indifferent', 3)")
	e.mended()
	e.exec("update moods set n = n + 1")
	e.follow("moods:*", "select 'moods:' || mood, to_jsonb(m)::text from moods m")
}

// Autovacuum of a large table is ended for who waits for it long enough, and not for who gives up before that.
func TestAutovacuumIsNotWaitedForToItsEnd(t *testing.T) {
	t.Parallel()
	server := serverstest.PostgresWith(t, map[string]string{"autovacuum_naptime": "1s", "autovacuum": "on"})
	databaseURL, err := server.CreateDatabase(t.Context(), "vacuum")
	if err != nil {
		t.Fatal(err)
	}
	e := newEnvOn(t, databaseURL, serverstest.Redis(t))
	e.exec("create table counters (id bigint primary key, version bigint not null default 0, filler text)")
	// Some minutes for one of a few megabytes.
	e.exec(`alter table counters set (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1,
		autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_threshold = 2000000000)`)
	e.exec("insert into counters select g, 0, repeat('x', 500) from generate_series(1, 5000) g")
	e.exec("update counters set version = 1 where id % 2 = 0")
	vacuumed := func() {
		t.Helper()
		e.await("it is vacuumed", func() bool {
			return one[bool](e, "select exists (select from pg_locks where relation = 'counters'::regclass and mode = 'ShareUpdateExclusiveLock' and granted)")
		})
	}
	// The table is written to meanwhile.
	ctx, cancel := context.WithCancel(t.Context())
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		for ctx.Err() == nil {
			_, _ = e.db.Exec(ctx, "update counters set version = version + 1 where id = 1")
			time.Sleep(time.Millisecond) // and not by all of the processor
		}
	}()
	defer func() { cancel(); <-writer }()
	vacuumed()
	e.exec("select freshet.create_sink('counters', 'counters', columns => '{id,version}', backfill => false)")
	vacuumed()
	e.exec("drop function freshet.capture_1 cascade")
	e.await("it is mended", func() bool {
		did := one[*string](e, "select freshet.mend(1)")
		return did != nil && !strings.HasPrefix(*did, "could not be mended") && !strings.HasPrefix(*did, "locked: ")
	})
}

// An error of before is no reason to see a table that is gone as gone again and again.
func TestTableThatIsGoneIsGoneOnce(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 50) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	e.admin().exec("update freshet.source set mend_error = 'of before'")
	e.exec("drop table users cascade")
	e.await("its entries are gone", func() bool { return len(e.redis.Keys(t.Context(), "users:*").Val()) == 0 })
	definition := one[int](e, "select definition from freshet.sink")
	for range 3 {
		e.exec("select freshet.mend(1)")
	}
	if now := one[int](e, "select definition from freshet.sink"); now != definition {
		t.Errorf("its definition was %d and is %d", definition, now)
	}
	if one[bool](e, "select freshet.needs_mending(1)") {
		t.Error("it still needs mending")
	}
}

// What a partition has left behind that was gone before it could be looked after is swept.
func TestPartitionThatIsGoneBeforeItIsMended(t *testing.T) {
	e := newEnv(t)
	e.parts()
	open := e.begin()
	e.in(open, "update parts set kind = 'x' where id = 1 and day = '2026-01-10'")
	e.exec("create table parts_feb (like parts including all)")
	e.exec("alter table parts attach partition parts_feb for values from ('2026-02-01') to ('2026-03-01')")
	e.exec("insert into parts values (7, '2026-02-07', 'soon gone')")
	e.appears("parts:7:2026-02-07")
	e.await("mend could not have the table", func() bool {
		return one[bool](e.admin(), "select mend_error is not null from freshet.source")
	})
	// Not of the partition alone: who drops one has to have the parent.
	e.in(open, "drop table parts_feb")
	e.commit(open)
	e.follow("parts:*", "select 'parts:' || id || ':' || day, to_jsonb(p)::text from parts p")
}

// A partition that was detached is read for long, as by who archives it: mending does not wait.
func TestDetachedPartitionThatIsReadIsNotWaitedFor(t *testing.T) {
	e := newEnv(t)
	e.parts()
	e.exec("alter table parts detach partition parts_jan")
	archive := e.begin()
	e.in(archive, "select count(*) from parts_jan")
	e.exec("create table parts_feb partition of parts for values from ('2026-02-01') to ('2026-03-01')")
	e.exec("insert into parts values (1, '2026-02-02', 'after')")
	e.mended()
	e.follow("parts:*", "select 'parts:' || id || ':' || day, to_jsonb(p)::text from parts p")
	if state := e.stateOf("parts"); state == "failing" {
		t.Error("the sink fails")
	}
	e.commit(archive)
}

// Of the rows that a partition came with those of a small one are touched, with no other partition
// read for it; for those of a large one, or where others would be read as well, the sinks are warmed again.
func TestRowsThatAPartitionComesWith(t *testing.T) {
	t.Parallel()
	const table = "create table more (id bigint not null, day date not null, kind text, primary key (id, day)) with (fillfactor = 10); "
	for _, c := range []struct {
		name, make string
		touched    int
		rewarmed   bool
	}{
		{"none", "create table more partition of parts for values from ('2026-02-01') to ('2026-03-01')", 0, false},
		{"a few", table + "insert into more select g, '2026-02-10', 'x' from generate_series(1, 300) g; alter table parts attach partition more for values from ('2026-02-01') to ('2026-03-01')", 300, false},
		{"a few, a level below", "create table years (like parts including all) partition by range (day); create table more partition of years for values from ('2026-02-01') to ('2026-02-15'); " +
			"insert into more select g, '2026-02-10', 'x' from generate_series(1, 300) g; alter table parts attach partition years for values from ('2026-02-01') to ('2026-03-01')", 300, false},
		{"many", table + "insert into more select g, '2026-02-10', 'x' from generate_series(1, 20000) g; alter table parts attach partition more for values from ('2026-02-01') to ('2026-03-01')", 0, true},
		{"by several columns", "create table several (id bigint not null, day date not null, kind text, primary key (id, day)) partition by range (day, id); create table more partition of several for values from ('2026-02-01', 0) to ('2026-02-15', 0); " +
			"insert into more select g, '2026-02-10', 'x' from generate_series(1, 300) g; alter table parts attach partition several for values from ('2026-02-01') to ('2026-03-01')", 0, true},
		{"by default", table + "insert into more select g, '2027-02-10', 'x' from generate_series(1, 300) g; alter table parts attach partition more default", 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			stop := e.parts()
			stop()
			e.exec(c.make)
			tx := e.begin()
			e.in(tx, "select freshet.mend(1)")
			var touched, read int
			if err := tx.QueryRow(t.Context(), `select (select count(*) from freshet.changes_1 where op = 'r'),
				(select coalesce(sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)), 0) from pg_stat_xact_all_tables where relid = 'parts_jan'::regclass)`).Scan(&touched, &read); err != nil {
				t.Fatal(err)
			}
			e.commit(tx)
			if touched != c.touched || read != 0 {
				t.Errorf("%d rows were touched, and another partition read %d times; want %d, and never", touched, read, c.touched)
			}
			if got := e.rewarms() > 0; got != c.rewarmed {
				t.Errorf("the sink is warmed again: %t; want %t", got, c.rewarmed)
			}
			e.start()
			e.mended()
			e.follow("parts:*", "select 'parts:' || id || ':' || day, to_jsonb(p)::text from parts p")
		})
	}
}

// A migration has a table in hand and then changes a sink, which waits for who looks after
// capture; that one waits for the table, and not for long.
func TestMigrationThatChangesASinkIsInNoDeadlockWithMending(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("select freshet.create_sink('users', 'users', value => 'json_build_object(''name'', name)', backfill => false)")
	e.exec("alter table users add column a int")
	migration := e.begin()
	e.in(migration, "alter table users add column b int")
	mended := make(chan string, 1)
	go func() { mended <- one[string](e, "select freshet.mend(1)") }()
	e.await("mend waits", func() bool { return e.locked("mend") })
	e.in(migration, "select freshet.alter_sink('users', max_rate => 100)")
	e.commit(migration)
	if said := <-mended; !strings.Contains(said, "lock timeout") {
		t.Errorf("mend said %q; want that something is locked", said)
	}
	if state := e.stateOf("users"); state != "failing" {
		t.Errorf("the sink is %s; want failing, and why", state)
	}
	// Nobody else waits for what it had locked; and it is over when it is over.
	e.start()
	e.mended()
	e.await("it no longer fails", func() bool { return e.stateOf("users") != "failing" })
}

// Who has locked a partition for long keeps only that source from being looked after.
func TestLockedPartitionKeepsNoOtherSourceWaiting(t *testing.T) {
	e := newEnv(t)
	e.exec(fmt.Sprintf(partsTable, "parts"))
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 50) g")
	e.exec("select freshet.create_sink('parts', 'parts')")
	e.exec("select freshet.create_sink('users', 'users')")
	e.start()
	e.settle()
	tx := e.begin()
	e.in(tx, "lock table parts_jan in access exclusive mode")
	e.transaction("alter table users disable trigger all", "update users set name = 'unseen'",
		"alter table users enable always trigger freshet_insert", "alter table users enable always trigger freshet_update",
		"alter table users enable always trigger freshet_delete", "alter table users enable always trigger freshet_truncate")
	e.follow("users:*", usersPromise)
	e.commit(tx)
}

// A target that does not answer keeps nobody from seeing what another one has lost.
func TestSilentTargetDelaysNoLookAtAnother(t *testing.T) {
	e := newEnvOn(t, serverstest.Postgres(t), serverstest.RedisServer(t, nil).URL())
	eu := serverstest.RedisServer(t, nil)
	e.targets = map[string]string{"eu": eu.URL()}
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	e.exec("select freshet.create_sink('other', 'users', key => 'o:${id}', targets => '{eu}')")
	e.start()
	if err := worker.Settle(t.Context(), e.db, []string{"default", "eu"}); err != nil {
		t.Fatal(err)
	}
	if err := eu.Pause(); err != nil {
		t.Fatal(err)
	}
	defer eu.Resume()
	fastest := time.Hour
	for range 3 {
		before, begin := e.rewarms(), time.Now()
		if err := e.redis.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		e.await("the flush is noticed", func() bool { return e.rewarms() > before })
		fastest = min(fastest, time.Since(begin))
		e.lastBackfill("users")
	}
	if fastest > 2500*time.Millisecond {
		t.Errorf("it took %v at best", fastest)
	}
}

// What an earlier version made of capture is made anew by whatever worker is of this one.
func TestCaptureOfAnEarlierVersionIsMadeAnew(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'before' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users')")
	// It knew no old tuples beside new ones, nor that its form had a number.
	e.admin().exec("alter table freshet.changes_1 drop column o1; update freshet.source set fingerprint = freshet.fingerprint(id) - 'form'")
	e.admin().exec("alter function freshet.keep_1(text, integer) set search_path = ''")
	e.exec("update users set name = 'meanwhile' where id = 1")
	e.start()
	e.mended()
	e.exec("update users set id = id + 1000 where id < 10")
	e.settle()
	e.inStep("users:*", usersPromise)
	if n := one[int](e.admin(), "select count(*) from pg_attribute where attrelid = 'freshet.changes_1'::regclass and attname = 'o1'"); n != 1 {
		t.Error("the change table has no column for old tuples")
	}
	if path := one[[]string](e.admin(), "select proconfig from pg_proc where oid = 'freshet.keep_1'::regproc"); !slices.Equal(path, []string{"search_path=pg_catalog, pg_temp"}) {
		t.Errorf("its keeper has %q", path)
	}
}
