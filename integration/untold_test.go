package integration

import (
	"cmp"
	"strings"
	"testing"
)

// unmended keeps workers from looking after capture until release is called.
func (e *env) unmended() (release func()) {
	e.t.Helper()
	tx := e.admin().begin()
	e.in(tx, "select pg_advisory_xact_lock(1181905014, id) from freshet.source")
	return func() {
		e.t.Helper()
		e.commit(tx)
	}
}

// later runs a statement that has to wait for something; done waits for it.
func (e *env) later(sql string) (done func()) {
	e.t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := e.db.Exec(e.t.Context(), sql)
		ended <- err
	}()
	return func() {
		e.t.Helper()
		if err := <-ended; err != nil {
			e.t.Fatalf("%s: %v", sql, err)
		}
	}
}

// What makes other entries and fires no trigger leaves none wrong: neither the value of one
// whose key has no row any more, nor that of one whose row is another, or reads otherwise.
func TestWhatFiresNoTriggerLeavesNoEntryWrong(t *testing.T) {
	t.Parallel()
	const (
		prices = `create type mood as enum ('bad', 'good', 'best');
			create type size as (width integer, unit text);
			create table t (id bigint primary key, price bigint not null, active boolean not null default true, mood mood not null default 'bad', sizes size[] not null default array[row(1, 'm')::size]);
			insert into t select g, g, g % 3 > 0, case when g % 2 = 0 then 'good' else 'bad' end::mood from generate_series(1, 200) g;
			create function cheap(price bigint) returns boolean immutable language sql as 'select price < 50'`
		rows   = "select 't:' || id, to_jsonb(t)::text from t"
		parted = `create table t (id bigint not null, day date not null, customer bigint not null, price bigint not null default 1, primary key (id, day)) partition by range (day);
			create index on t (customer);
			create table t_jan partition of t for values from ('2026-01-01') to ('2026-02-01');
			create table t_feb partition of t for values from ('2026-02-01') to ('2026-03-01');
			insert into t select g, case when g % 3 = 0 then '2026-01-10'::date else '2026-02-10' end, g % 20 from generate_series(1, 300) g`
		byDay  = "select 't:' || id || ':' || day, to_jsonb(t)::text from t"
		groups = "select 't:' || customer, jsonb_build_object('n', count(*), 'sum', sum(price))::text from t group by customer"
		group  = "select freshet.create_sink('t', 't', key => 't:${customer}', value => $$ jsonb_build_object('n', count(*), 'sum', sum(price)) $$)"
		near   = "create schema app; set search_path = app, public;" + prices + `; reset search_path;
			create function public.near(a bigint, b integer) returns boolean immutable language sql as 'select a < b';
			create function public.far(a bigint, b integer) returns boolean immutable language sql as 'select a > b + 100';
			create operator public.=== (function = public.near, leftarg = bigint, rightarg = integer)`
		march = `create table t_mar (like t including all);
			insert into t_mar select g, '2026-03-10', g % 20 from generate_series(1, 100) g;
			alter table t attach partition t_mar for values from ('2026-03-01') to ('2026-04-01')`
	)
	for _, c := range []struct {
		name, table, sink, promise string
		// before is what the promise is until something happens, if it is another.
		before string
		// unseen happens between two looks, after it so much that a look sees.
		unseen func(e *env)
		after  string
	}{
		{name: "a partition of groups is dropped", table: parted, sink: group, promise: groups, after: "drop table t_jan"},
		{name: "a partition of groups is detached", table: parted, sink: group, promise: groups, after: "alter table t detach partition t_jan"},
		{name: "a partition of groups is truncated", table: parted, sink: group, promise: groups, after: "truncate t_jan"},
		{name: "a partition comes, is written to and goes", table: parted, promise: byDay, unseen: func(e *env) {
			e.exec(march)
			e.exec("insert into t values (1000, '2026-03-07', 1)")
			e.appears("t:1000:2026-03-07")
			e.exec("drop table t_mar")
		}},
		{name: "a partition comes, is read by a backfill and goes", table: parted, promise: byDay, unseen: func(e *env) {
			e.exec(march)
			e.exec("select freshet.backfill('t')")
			e.appears("t:7:2026-03-10")
			e.exec("drop table t_mar")
		}},
		{name: "a partition of groups comes, is read and goes", table: parted, sink: group, promise: groups, unseen: func(e *env) {
			was := e.entry("t:5")
			e.exec(march)
			e.exec("update t_feb set price = 1 where customer = 5")
			e.await("the group is read", func() bool { return e.entry("t:5") != was })
			e.exec("drop table t_mar")
		}},
		{name: "a partition comes, is read a level below and goes", table: parted, promise: byDay, unseen: func(e *env) {
			e.exec(`create table t_mar partition of t for values from ('2026-03-01') to ('2026-04-01') partition by range (id);
				create table t_mar_low partition of t_mar for values from (0) to (100000);
				insert into t values (1000, '2026-03-07', 1)`)
			e.appears("t:1000:2026-03-07")
			e.exec("drop table t_mar_low")
		}},
		{name: "a partition comes, is read, goes, and comes again with fewer rows", table: parted, promise: byDay, unseen: func(e *env) {
			e.exec(march)
			e.exec("insert into t values (1000, '2026-03-07', 1)")
			e.appears("t:1000:2026-03-07")
			e.exec("alter table t detach partition t_mar")
			e.exec("delete from t_mar where id in (1000, 5)")
			e.exec("alter table t attach partition t_mar for values from ('2026-03-01') to ('2026-04-01')")
		}},
		{name: "a partition is detached while it is being read", table: parted, promise: byDay, unseen: func(e *env) {
			reader := e.begin()
			e.in(reader, "select from t limit 1")
			detached := e.later("alter table t detach partition t_jan concurrently")
			e.await("it is being detached", func() bool {
				return one[bool](e, "select exists (select from pg_inherits where inhdetachpending)")
			})
			e.exec("update t set price = 2 where id = 7")
			e.follow("t:7:*", byDay+" where id = 7")
			e.commit(reader)
			detached()
		}},
		{name: "a child inherits, is read and goes", table: prices, promise: rows, unseen: func(e *env) {
			e.exec("create table child () inherits (t); grant select on child to public; insert into child (id, price) values (1000, 1)")
			e.exec("update t set price = 2 where id in (7, 1000)")
			e.follow("t:7", rows+" where id = 7")
			e.exec("drop table child")
		}},
		{name: "it is a partition for a while and written to as that", table: prices, promise: rows, unseen: func(e *env) {
			e.exec("create table every (like t including all) partition by range (id); alter table every attach partition t for values from (0) to (10000)")
			e.exec("update every set price = 2 where id in (7, 8)")
			e.exec("alter table every detach partition t")
		}},
		{name: "it inherits for a while and is written to as a child", table: prices, promise: rows, unseen: func(e *env) {
			e.exec("create table base (id bigint not null, price bigint not null); alter table t inherit base")
			e.exec("update base set price = 2 where id in (7, 8)")
			e.exec("alter table t no inherit base")
		}},
		{name: "a column is called otherwise for a while", table: prices, sink: "select freshet.create_sink('t', 't', value => 'to_jsonb(t)')", promise: rows, unseen: func(e *env) {
			e.exec("alter table t rename column price to cost")
			e.exec("update t set cost = 2 where id = 8")
			e.follow("t:8", "select 't:8', to_jsonb(t)::text from t where id = 8")
			e.exec("alter table t rename column cost to price")
		}},
		{name: "a column with a default is of another type for a while", table: prices + "; alter table t add column at timestamptz not null default now()",
			sink: "select freshet.create_sink('t', 't', value => 'to_jsonb(t)')", promise: rows, unseen: func(e *env) {
				// In UTC that rewrites nothing.
				e.transaction("set local timezone = 'UTC'", "alter table t alter column at type timestamp")
				e.exec("update t set price = 2 where id = 8")
				e.follow("t:8", "select 't:8', to_jsonb(t)::text from t where id = 8")
				e.transaction("set local timezone = 'UTC'", "alter table t alter column at type timestamptz")
			}},
		{name: "a function of the same name is made where it is looked for first", table: "create schema app; set search_path = app, public;" + prices + "; alter function cheap set schema public; reset search_path",
			sink: "select freshet.create_sink('t', 'app.t', key => 't:${id}', filter => 'cheap(price)')", promise: "select 't:' || id, to_jsonb(t)::text from app.t where price > 100",
			before: "select 't:' || id, to_jsonb(t)::text from app.t where price < 50",
			after:  "create function app.cheap(price bigint) returns boolean immutable language sql as 'select price > 100'"},
		{name: "an attribute of a type that a value is made of is renamed", table: prices + "; create type card as (id bigint, price bigint)",
			sink:    "select freshet.create_sink('t', 't', value => 'to_jsonb(row(id, price)::card)')",
			before:  "select 't:' || id, jsonb_build_object('id', id, 'price', price)::text from t",
			promise: "select 't:' || id, jsonb_build_object('id', id, 'cost', price)::text from t",
			after:   "alter type card rename attribute price to cost"},
		{name: "a type that a value is made of is dropped and made again", table: prices + "; create type card as (id bigint, price bigint)",
			sink:    "select freshet.create_sink('t', 't', value => 'to_jsonb(row(id, price)::card)')",
			before:  "select 't:' || id, jsonb_build_object('id', id, 'price', price)::text from t",
			promise: "select 't:' || id, jsonb_build_object('id', id, 'cost', price)::text from t",
			after:   "drop type card; create type card as (id bigint, cost bigint)"},
		{name: "an operator that fits better is made", table: near + "; drop operator public.=== (bigint, integer); create function public.close(a numeric, b numeric) returns boolean immutable language sql as 'select a < b'; create operator public.=== (function = public.close, leftarg = numeric, rightarg = numeric)",
			sink:   "select freshet.create_sink('t', 'app.t', key => 't:${id}', filter => 'price === 50')",
			before: "select 't:' || id, to_jsonb(t)::text from app.t where price < 50", promise: "select 't:' || id, to_jsonb(t)::text from app.t where price > 150",
			after: "create operator public.=== (function = public.far, leftarg = bigint, rightarg = integer)"},
		{name: "a type that a function returns gets an attribute", table: prices + "; create type card as (id bigint); create function card_of(id bigint) returns card immutable language plpgsql as 'declare c card; begin c.id = id; return c; end'",
			sink:    "select freshet.create_sink('t', 't', value => 'to_jsonb(card_of(id))')",
			before:  "select 't:' || id, jsonb_build_object('id', id)::text from t",
			promise: "select 't:' || id, jsonb_build_object('id', id, 'note', null)::text from t",
			after:   "alter type card add attribute note text"},
		{name: "a filter of whole rows meets one more column", table: prices, sink: "select freshet.create_sink('t', 't', columns => '{id}', filter => 't is not null')",
			before: "select 't:' || id, jsonb_build_object('id', id)::text from t", promise: "select 't:' || id, jsonb_build_object('id', id)::text from t where id = 7",
			after: "alter table t add column note text; update t set note = 'x' where id = 7"},
		{name: "an operator is made where it is looked for first", table: near, sink: "select freshet.create_sink('t', 'app.t', key => 't:${id}', filter => 'price === 50')",
			before: "select 't:' || id, to_jsonb(t)::text from app.t where price < 50", promise: "select 't:' || id, to_jsonb(t)::text from app.t where price > 150",
			after: "create operator app.=== (function = public.far, leftarg = bigint, rightarg = integer)"},
		{name: "an operator is made again of another function", table: near, sink: "select freshet.create_sink('t', 'app.t', key => 't:${id}', filter => 'price === 50')",
			before: "select 't:' || id, to_jsonb(t)::text from app.t where price < 50", promise: "select 't:' || id, to_jsonb(t)::text from app.t where price > 150",
			after: "drop operator public.=== (bigint, integer); create operator public.=== (function = public.far, leftarg = bigint, rightarg = integer)"},
		{name: "another column has the name of a filter's", table: prices, sink: "select freshet.create_sink('t', 't', columns => '{id,price}', filter => 'active')",
			promise: "select 't:' || id, jsonb_build_object('id', id, 'price', price)::text from t where active",
			after:   "alter table t drop column active; alter table t add column active boolean not null default false; update t set active = true where id = 7"},
		{name: "two columns are called otherwise, and a filter means the other one", table: prices + "; alter table t add column other boolean not null default false; update t set other = id % 5 = 0",
			sink:    "select freshet.create_sink('t', 't', columns => '{id,price}', filter => 'active')",
			promise: "select 't:' || id, jsonb_build_object('id', id, 'price', price)::text from t where active",
			after:   "alter table t rename column active to was_active; alter table t rename column other to active"},
		{name: "a value comes to be null", table: prices, sink: "select freshet.create_sink('t', 't', value => 'case when active then to_jsonb(price) end')",
			promise: "select 't:' || id, to_jsonb(price)::text from t where active",
			after:   "alter table t drop column active; alter table t add column active boolean not null default false"},
		{name: "it is moved to where a function is found first", table: "create schema app; create schema other; grant usage on schema other to public; set search_path = app;" + prices + "; reset search_path; create function other.cheap(price bigint) returns boolean immutable language sql as 'select price > 100'",
			sink: "select freshet.create_sink('t', 'app.t', key => 't:${id}', filter => 'cheap(price)')", promise: "select 't:' || id, to_jsonb(t)::text from other.t where price > 100",
			before: "select 't:' || id, to_jsonb(t)::text from app.t where price < 50",
			after:  "alter table app.t set schema other"},
		{name: "a value of an enum is renamed and renamed back", table: prices, promise: rows, unseen: func(e *env) {
			e.exec("alter type mood rename value 'good' to 'fine'")
			e.exec("update t set price = 2 where id = 8")
			e.follow("t:8", rows+" where id = 8")
			e.exec("alter type mood rename value 'fine' to 'good'")
		}},
		{name: "another table has the name and is read", table: prices, promise: rows, unseen: func(e *env) {
			e.exec("create table other (like t including all); insert into other (id, price) select g, -g from generate_series(1, 200) g; grant select on other to public")
			e.exec("alter table t rename to mine; alter table other rename to t")
			e.exec("update mine set price = price + 1 where id = 7")
			e.exec("select freshet.backfill('t')")
			e.await("somebody would read it", func() bool {
				return one[bool](e.admin(), "select exists (select from freshet.status where last_error like '%has the name%')")
			})
			e.exec("alter table t rename to other; alter table mine rename to t")
		}},
		{name: "a column gets other values of its type", table: prices, promise: rows, after: "alter table t alter column price type bigint using price * 100"},
		{name: "a column of partitions gets other values of its type", table: parted, promise: byDay, after: "alter table t alter column price type bigint using price * 100"},
		{name: "a column gets another type and its own again", table: prices, promise: rows, unseen: func(e *env) {
			e.exec("alter table t alter column price type text using price || '00'")
			e.exec("alter table t alter column price type bigint using price::bigint")
		}},
		{name: "a key gets other values", table: prices, promise: rows, after: "alter table t alter column id type bigint using id + 1000"},
		{name: "other rows pass a filter", table: prices, sink: "select freshet.create_sink('t', 't', filter => 'active')", promise: rows + " where active",
			after: "alter table t alter column active type boolean using not active"},
		{name: "other rows pass a filter by another type", table: prices, sink: "select freshet.create_sink('t', 't', filter => 'price > 100')", promise: rows + " where price > 100",
			after: "alter table t alter column price type integer using 200 - price"},
		{name: "a value of an enum is renamed", table: prices, promise: rows, after: "alter type mood rename value 'good' to 'fine'"},
		{name: "a function of a filter is replaced", table: prices, sink: "select freshet.create_sink('t', 't', filter => 'cheap(price)')", promise: rows + " where cheap(price)",
			after: "create or replace function cheap(price bigint) returns boolean immutable language sql as 'select price > 100'"},
		{name: "a function of a filter is dropped and made again", table: prices, sink: "select freshet.create_sink('t', 't', filter => 'cheap(price)')", promise: rows + " where cheap(price)",
			after: "drop function cheap; create function cheap(price bigint) returns boolean immutable language sql as 'select price > 100'"},
		{name: "a function of a value is replaced", table: prices, sink: "select freshet.create_sink('t', 't', value => 'jsonb_build_object(''cheap'', cheap(price))')",
			promise: "select 't:' || id, jsonb_build_object('cheap', cheap(price))::text from t",
			after:   "create or replace function cheap(price bigint) returns boolean immutable language sql as 'select price > 100'"},
		{name: "an attribute of a composite type is renamed", table: prices, promise: rows, after: "alter type size rename attribute unit to measure"},
		{name: "an attribute of a composite type is added", table: prices, promise: rows, after: "alter type size add attribute depth integer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec(c.table)
			if c.sink == "" {
				c.sink = "select freshet.create_sink('t', 't')"
			}
			e.exec(c.sink)
			e.start()
			e.settle()
			e.mended()
			e.follow("t:*", cmp.Or(c.before, c.promise))
			if c.unseen != nil {
				release := e.unmended()
				c.unseen(e)
				release()
			} else {
				e.exec(c.after)
			}
			e.follow("t:*", c.promise)
			e.mended()
			e.inStep("t:*", c.promise)
		})
	}
}

// A lane that had read a row before it was changed without a trigger does not write it after it
// was warmed again: no change would follow that sets it right.
func TestWhatWasReadBeforeAMishapIsNotWrittenAfterIt(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 50) g")
	e.exec("select freshet.create_sink('users', 'users', columns => '{name}', transform => 'go:test_hangs')")
	e.start()
	e.settle()
	e.mended()

	reached, release := hangs(t.Name())
	defer release()
	e.exec("update users set name = $1 where id = 1", t.Name())
	<-reached
	e.transaction("alter table users disable trigger freshet_update", "update users set name = 'right' where id = 1", "alter table users enable always trigger freshet_update")
	// Its sweep waits for the lane.
	e.await("the sink is warmed again", func() bool {
		return one[bool](e, "select coalesce(bool_or(state in ('sweeping', 'completed')), false) from freshet.backfills where reason = 'rewarm'")
	})
	release()
	e.exec("update users set name = 'later' where id = 2")
	e.follow("users:*", "select 'users:' || id, name from users")
}

// A table that comes to be one whose rows change without a trigger stops its sinks, which say
// why, until it is a table again that can be captured; what was missed meanwhile is found.
func TestSourceThatCannotBeCapturedAnyMoreStopsItsSinks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, table, breaks, missed, mends, says string }{
		{"a child inherits from it", usersTable, "create table child () inherits (users); grant select on child to public", "insert into child (id, name) values (99, 'child')",
			"drop table child", "users inherits from a table or is inherited from"},
		{"it is unlogged", usersTable, "alter table users set unlogged", "update users set name = 'meanwhile' where id = 3", "alter table users set logged", "users is a temporary or unlogged table"},
		{"it is a partition", usersTable, "create table all_users (like users including all) partition by range (id); alter table all_users attach partition users for values from (0) to (1000)",
			"insert into all_users (id, name) values (99, 'through the parent')", "alter table all_users detach partition users", "users is a partition"},
		{"a partition is foreign", "create table users (id bigint not null, name text) partition by range (id); create index on users (id); create table users_low partition of users for values from (0) to (1000)",
			"create foreign table users_far partition of users for values from (1000) to (2000) server nowhere", "update users set name = 'meanwhile' where id = 3",
			"drop foreign table users_far", "users_far of public.users is a foreign table"},
		{"a partition is unlogged", "create table users (id bigint primary key, name text) partition by range (id); create table users_low partition of users for values from (0) to (1000)",
			"alter table users_low set unlogged", "update users set name = 'meanwhile' where id = 3", "alter table users_low set logged", "users_low of public.users is unlogged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.exec(c.table)
			e.exec("insert into users (id, name) select g, 'user' from generate_series(1, 50) g")
			sink, promise := "select freshet.create_sink('users', 'users')", "select 'users:' || id, to_jsonb(u)::text from users u"
			if c.name == "a partition is foreign" {
				// Which no unique index allows.
				e.admin().exec("create foreign data wrapper nothing; create server nowhere foreign data wrapper nothing; grant usage on foreign server nowhere to public")
				sink, promise = "select freshet.create_sink('users', 'users', key => 'users:${id}', value => 'to_jsonb(max(name))')", "select 'users:' || id, to_jsonb(max(name))::text from users group by id"
			}
			e.exec(sink)
			e.start()
			e.settle()
			e.mended()
			e.exec(c.breaks)
			e.await("the sink has stopped", func() bool { return e.stateOf("users") == "failing" })
			e.await("status says why", func() bool {
				return strings.Contains(one[string](e, "select coalesce(last_error, '') from freshet.status"), c.says)
			})
			e.exec(c.missed)
			e.exec(c.mends)
			e.await("the sink goes on", func() bool { return e.stateOf("users") != "failing" })
			e.mended()
			e.follow("users:*", promise)
		})
	}
}
