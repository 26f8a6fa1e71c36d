package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const goodsTable = `create table goods (
	id bigint primary key, name text, price numeric, tags text[], doc jsonb, raw bytea, at timestamptz not null default '2026-01-02 03:04:05+00');
create table makers (id bigint primary key, name text);
create function label(goods) returns text language sql immutable as $$ select $1.name || '!' $$;
create domain blob as bytea; create domain stamp as blob; create domain paper as jsonb; create domain word as text; create domain until as timestamptz`

// goodsValues are sinks with a value, and what their entries have to be.
var goodsValues = []struct{ name, value, more, promise string }{
	{"json", `json_build_object('n', name, 'p', price)`, "", `json_build_object('n', name, 'p', price)::text`},
	{"jsonb", `jsonb_build_object('id', goods.id, 'tags', tags) -- a comment`, "", `jsonb_build_object('id', id, 'tags', tags)::text`},
	{"text", `name`, "", `name`},
	{"quoted", `'"' || name || '"'`, "", `'"' || name || '"'`},
	{"bytes", `raw`, "", `convert_from(raw, 'UTF8')`},
	{"domain", `raw::stamp`, "", `convert_from(raw, 'UTF8')`},
	{"paper", `doc::paper`, "", `doc::text`},
	{"word", `name::word`, ", expires_at => '''2200-01-01''::until'", `name`},
	{"number", `price * 2`, "", `(price * 2)::text`},
	{"flag", `price > 10`, "", `(price > 10)::text`},
	{"moment", `at`, "", `to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS"+00"')`},
	{"whole", `to_jsonb(goods)`, "", `to_jsonb(g)::text`},
	{"called", `label(goods)`, "", `name || '!'`},
	{"part", `doc -> 'a'`, ", filter => 'label(goods) <> ''n3!'''", `case when name <> 'n3' then (doc -> 'a')::text end`},
	{"joined", `(select m.name from makers m where m.id = goods.id % 5)`, ", accept_drift => true", `(select m.name from makers m where m.id = g.id % 5)`},
}

func goodsPromise(name, value string) string {
	return fmt.Sprintf("select * from (select '%s:' || id as k, %s as v from goods g) e where v is not null", name, value)
}

func TestValueIsWhatTheExpressionSays(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	e.exec("insert into makers select g, 'maker ' || g from generate_series(0, 3) g")
	const row = `%[1]s, case when %[1]s %% 7 > 0 then 'n' || %[1]s %% 10 end, %[1]s / 4.0, array['a', 'b' || %[1]s],
		case %[1]s %% 3 when 0 then jsonb_build_object('a', %[1]s) when 1 then '{"a": null}'::jsonb end, convert_to('é' || %[1]s, 'UTF8')`
	e.exec("insert into goods " + fmt.Sprintf("select "+row+" from generate_series(1, 700) g", "g"))
	for _, v := range goodsValues {
		e.exec(fmt.Sprintf("select freshet.create_sink($1::text, 'goods', key => $1::text || ':${id}', value => $2%s)", v.more), v.name, v.value)
	}
	e.start()
	inStep := func() {
		t.Helper()
		e.settle()
		for _, v := range goodsValues {
			e.inStep(v.name+":*", goodsPromise(v.name, v.promise))
		}
	}
	for _, v := range goodsValues {
		e.lastBackfill(v.name)
	}
	inStep()
	// By the lanes: the value appears, changes, becomes null, and goes with its row.
	e.exec("update goods set name = 'n' || id % 9, price = price + 1, doc = null where id % 5 = 0")
	e.exec("update goods set name = null, raw = null, doc = '{\"a\": [1.10, \"x\"]}' where id % 11 = 0")
	e.exec("delete from goods where id % 13 = 0")
	e.exec("insert into goods " + fmt.Sprintf("select "+row+" from generate_series(1001, 1100) g", "g"))
	inStep()
	for _, v := range goodsValues {
		e.verified(v.name)
	}
	// What sweeps look for are values that are absent, not rows.
	e.redis.Set(t.Context(), "text:7", "stale", 0)
	e.exec("select freshet.sweep('text')")
	e.await("the entry without a value is gone", func() bool { return e.entry("text:7") == "" })
	inStep()
}

func TestValueThatFailsIsOneEntry(t *testing.T) {
	e := newEnv(t)
	e.exec(goodsTable)
	e.exec("insert into goods (id, price) select g, g - 50 from generate_series(1, 300) g")
	e.exec("select freshet.create_sink('shares', 'goods', value => '100 / price')")
	e.start()
	e.lastBackfill("shares")
	e.settle()
	const promise = "select 'goods:' || id, (100 / price)::text from goods where price <> 0"
	e.inStep("goods:*", promise)
	e.awaitFailing("goods:50")
	e.exec("update goods set price = 0 where id = 60; update goods set price = 4 where id = 50")
	e.awaitFailing("goods:60")
	e.settle()
	e.inStep("goods:*", promise)
}

func TestColumnsFollowTheTable(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	e.exec("insert into users (id, name) select g, 'x' from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('users', 'users', columns => '{*}')")
	e.exec("select freshet.create_sink('pinned', 'users', key => 'pinned:${id}')")
	pinned := "select 'pinned:' || id, (to_jsonb(u) - 'note')::text from users u"
	e.start()
	e.lastBackfill("users")
	e.lastBackfill("pinned")
	e.exec("alter table users add column note text default 'new'")
	e.follow("users:*", usersPromise)
	e.exec("update users set note = 'y' where id = 1")
	e.follow("users:*", usersPromise)
	e.inStep("pinned:*", pinned)
	e.exec("alter table users drop column email")
	e.follow("users:*", usersPromise)
	e.follow("pinned:*", pinned)
	if c := one[string](e, "select columns::text from freshet.sinks where sink = 'users'"); c != "{*}" {
		t.Errorf("the view shows the columns %s", c)
	}
}

// Nobody gets to see a column because the ones that were named are gone.
func TestPinnedColumnsStayPinned(t *testing.T) {
	e := newEnv(t)
	e.exec("create table users (id bigint primary key, note text, more text, password_hash text)")
	e.exec("select freshet.create_sink('users', 'users', columns => '{note,more}')")
	e.exec("alter table users drop column more")
	e.exec("select freshet.alter_sink('users', filter => 'id > 0')")
	if c := one[string](e, "select columns::text from freshet.sinks"); c != "{note}" {
		t.Errorf("the columns are %s", c)
	}
	e.exec("alter table users drop column note")
	e.refused("columns: the list is empty (SQLSTATE 22023)\nHINT: Give columns =>", "select freshet.alter_sink('users', filter => 'id > 1')")
	e.exec("select freshet.alter_sink('users', columns => '{id}')")
	e.exec("select freshet.alter_sink('users', reset => '{columns}')")
	if c := one[string](e, "select columns::text from freshet.sinks"); c != "{id,password_hash}" {
		t.Errorf("the columns are %s", c)
	}
}

func TestEntryExpiresWhenItsRowSays(t *testing.T) {
	e := newEnv(t)
	e.exec("create table sessions (id bigint primary key, ends timestamptz, day date)")
	e.exec(`insert into sessions values (1, now() + interval '1 hour'), (2, now() - interval '1 hour'), (3, null),
		(4, 'infinity'), (5, '-infinity'), (6, now() + interval '3 s'), (7, '1969-12-31'), (8, '294000-01-01')`)
	e.exec("select freshet.create_sink('sessions', 'sessions', expires_at => 'ends')")
	e.exec("select freshet.create_sink('days', 'sessions', key => 'days:${id}', expires_at => 'day + 1')")
	e.start()
	e.lastBackfill("sessions")
	e.lastBackfill("days")
	e.settle()
	// expiry is in milliseconds since 1970, -1 for never and -2 for no entry.
	expiry := func(key string) int64 {
		t.Helper()
		ms, err := e.redis.Do(t.Context(), "pexpiretime", key).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return ms
	}
	at := func(id int) int64 {
		return one[int64](e, "select (extract(epoch from ends) * 1000)::numeric(30, 3)::bigint from sessions where id = $1", id)
	}
	check := func(key string, want int64) {
		t.Helper()
		// Postgres has microseconds.
		if got := expiry(key); got != want && got != want-1 {
			t.Errorf("%s expires at %d, want %d", key, got, want)
		}
	}
	check("sessions:1", at(1))
	check("sessions:2", -2)
	check("sessions:3", -1)
	check("sessions:4", -1)
	check("sessions:5", -2)
	check("sessions:7", -2)
	check("sessions:8", at(8))
	check("days:1", -1)
	e.await("Redis lets an entry go", func() bool { return e.entry("sessions:6") == "" })

	e.exec("update sessions set ends = now() + interval '2 hours' where id in (1, 2, 3)")
	e.exec("update sessions set ends = null where id = 8; update sessions set day = '2090-01-01'")
	e.settle()
	for id := 1; id <= 3; id++ {
		check(fmt.Sprintf("sessions:%d", id), at(id))
	}
	check("sessions:8", -1)
	check("days:5", time.Date(2090, 1, 2, 0, 0, 0, 0, time.UTC).UnixMilli())
	e.exec("update sessions set ends = now() - interval '1 s' where id = 1")
	e.settle()
	check("sessions:1", -2)
	e.exec("delete from sessions where id = 2")
	e.settle()
	check("sessions:2", -2)
	// What Redis let go is not missing.
	e.verified("sessions")
}

const ordersTable = `create table orders (
	id bigint primary key, user_id int, amount numeric, kind text, at timestamptz not null default now());
create index on orders (user_id, id);
create index on orders (amount, kind)`

var ordersValues = []struct{ name, key, value, filter, promise string }{
	{"lists", "lists:${user_id}", "jsonb_agg(to_jsonb(orders) order by id)", "",
		"select 'lists:' || user_id, jsonb_agg(to_jsonb(o) order by id)::text from orders o where user_id is not null group by user_id"},
	{"counts", "counts:${user_id}", "count(*)", "amount > 3",
		"select 'counts:' || user_id, count(*)::text from orders where user_id is not null and amount > 3 group by user_id"},
	{"newest", "newest:${user_id}", "(array_agg(to_jsonb(orders) order by id desc))[1]", "",
		"select 'newest:' || user_id, (array_agg(to_jsonb(o) order by id desc))[1]::text from orders o where user_id is not null group by user_id"},
	// Of no rows it raises an error, and is not made.
	{"shares", "shares:${user_id}", "100 * count(*) filter (where amount > 3) / count(*)", "amount <> 1",
		"select 'shares:' || user_id, (100 * count(*) filter (where amount > 3) / count(*))::text from orders where user_id is not null and amount <> 1 group by user_id"},
	{"odd", "odd:${user_id}", "case when count(*) % 2 = 1 then max(id) end", "",
		"select 'odd:' || user_id, max(id)::text from orders where user_id is not null group by user_id having count(*) % 2 = 1"},
	// 1.0 and 1.00 are equal, and two keys.
	{"amounts", "amounts:${kind}:${amount}", "sum(id)", "",
		"select 'amounts:' || kind || ':' || amount, sum(id)::text from orders where kind is not null and amount is not null group by kind, amount::text, amount"},
}

func (e *env) orderSinks() {
	e.t.Helper()
	for _, s := range ordersValues {
		var filter *string
		if s.filter != "" {
			filter = &s.filter
		}
		e.exec("select freshet.create_sink($1, 'orders', key => $2, value => $3, filter => $4)", s.name, s.key, s.value, filter)
	}
}

func (e *env) ordersInStep() {
	e.t.Helper()
	e.settle()
	for _, s := range ordersValues {
		e.inStep(s.name+":*", s.promise)
	}
}

func TestGroupEntriesFollowTheirRows(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(800)
	e.exec(ordersTable)
	const rows = `select g, nullif(g %% 401, 17), round(g %% 13, g %% 3), nullif('k' || g %% 3, 'k2') from generate_series(%d, %d) g`
	e.exec("insert into orders (id, user_id, amount, kind) " + fmt.Sprintf(rows, 1, 4000) + "; analyze orders")
	e.orderSinks()
	e.start()
	for _, s := range ordersValues {
		e.lastBackfill(s.name)
	}
	e.ordersInStep()
	if done, expected := one[int64](e, "select rows_done from freshet.backfills where sink = 'lists'"), one[int64](e, "select rows_estimated from freshet.backfills where sink = 'lists'"); done != 400 || expected < 300 || expected > 500 {
		t.Errorf("%d groups done, %d expected of 400", done, expected)
	}

	e.exec("insert into orders (id, user_id, amount, kind) " + fmt.Sprintf(rows, 5001, 5050))
	e.exec("update orders set amount = amount + 1 where user_id = 5")
	// From one group to another, to a new one, to none and from none.
	e.exec("update orders set user_id = 6 where user_id = 7 and id % 2 = 0")
	e.exec("update orders set user_id = 900, amount = 1.0 where id % 97 = 0")
	e.exec("update orders set user_id = null where user_id = 8")
	e.exec("update orders set user_id = 901 where user_id is null and id % 2 = 1")
	// The last rows of groups.
	e.exec("delete from orders where user_id in (10, 11)")
	e.exec("update orders set amount = 0 where user_id = 12")
	// Equal in SQL.
	e.exec("update orders set amount = 2.00 where amount = 2")
	e.ordersInStep()
	for _, s := range ordersValues {
		e.verified(s.name)
	}

	if failed := e.failing(); len(failed) > 0 {
		t.Errorf("failing: %v", failed)
	}
	e.redis.FlushDB(t.Context())
	for _, s := range ordersValues {
		e.await(s.name+" is warmed again", func() bool {
			return one[bool](e, "select exists (select from freshet.backfills where sink = $1 and reason = 'rewarm' and state = 'completed')", s.name)
		})
	}
	e.ordersInStep()
	e.exec("truncate orders")
	e.ordersInStep()
}

// A partial backfill selects groups, and takes no rows out of them.
func TestPartialBackfillWritesWholeGroups(t *testing.T) {
	e := newEnv(t)
	e.exec(ordersTable)
	e.exec("insert into orders (id, user_id) select g, g % 10 from generate_series(1, 100) g")
	e.exec("select freshet.create_sink('lists', 'orders', key => 'lists:${user_id}', value => 'jsonb_agg(id order by id)', backfill => false)")
	e.start()
	e.settle()
	e.backfilled(one[int64](e, "select freshet.backfill('lists', filter => 'id in (3, 4)')"))
	e.settle()
	e.inStep("lists:*", "select 'lists:' || user_id, jsonb_agg(id order by id)::text from orders where user_id in (3, 4) group by user_id")
}

func TestGroupsStayRightWhileManyWrite(t *testing.T) {
	e := newEnv(t)
	e.inRangesOf(200)
	e.exec(ordersTable)
	e.exec("insert into orders (id, user_id, amount, kind) select g, g % 50, 1, 'k' from generate_series(1, 2000) g; analyze orders")
	e.orderSinks()
	e.start()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 3)
	for n := range 3 {
		go func() {
			draw := rand.New(rand.NewPCG(3, uint64(n)))
			for ctx.Err() == nil {
				id := 1 + draw.IntN(2000)
				_, err := e.db.Exec(t.Context(), fmt.Sprintf([]string{
					"update orders set user_id = %[2]d where id = %[1]d",
					"update orders set amount = %[2]d where id = %[1]d",
					"delete from orders where id = %[1]d",
					"insert into orders (id, user_id, amount, kind) values (%[1]d, %[2]d, 5, 'k') on conflict do nothing",
				}[draw.IntN(4)], id, draw.IntN(50)))
				if err != nil && ctx.Err() == nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for _, s := range ordersValues {
		e.lastBackfill(s.name)
	}
	e.backfilled(one[int64](e, "select freshet.backfill('lists')"))
	cancel()
	for range 3 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	e.ordersInStep()
}

func TestBadValuesAreRefused(t *testing.T) {
	e, conn := argumentsEnv(t)
	e.exec(`create function chance() returns int language sql as 'select 1';
		create function today() returns date language sql stable as 'select current_date';
		create function plain(int) returns int language sql immutable as 'select $1';
		create function mixed(bigint, a int default 1, b float default random()) returns text language sql immutable as 'select $1::text';
		create function nested(bigint, r text default mixed(1)) returns text language sql immutable as 'select $1::text';
		create function dated(bigint, d timestamptz default now()) returns text language sql immutable as 'select $1::text';
		create function stamped(bigint, d timestamptz default current_timestamp) returns text language sql immutable as 'select $1::text';
		create view dice as select 1 as id, random() as n;
		create view cup as select d.n from dice d, others where d.id = 1;
		create view locked as select id from others for share;
		create table orders (id bigint primary key, user_id int, "Group" text)`)
	sink := func(more string) string { return "select freshet.create_sink('u', 'users', " + more + ")" }
	group := func(more string) string {
		return "select freshet.create_sink('o', 'orders', key => 'o:${user_id}', " + more + ")"
	}
	e.refuses(conn, []refusal{
		{"empty value", "value: it is empty", "22023", sink("value => ' '")},
		{"unknown column", `value: column "nosuch" does not exist`, "42703", sink("value => 'nosuch'")},
		{"syntax", "value: syntax error", "42601", sink("value => 'id +'")},
		{"two values", "value: ", "42601", sink("value => 'id, name'")},
		{"closed parenthesis", "value: syntax error", "42601", sink("value => 'id) from users; drop table users; select (1'")},
		{"closed case", "value: ", "", sink("value => '1 end is null or case when true then 1'")},
		{"aggregate of one row", "value: it has an aggregate, and each row has a key", "42803", sink("value => 'count(*)'")},
		{"window", "value: it has a window function", "42P20", sink("value => 'row_number() over ()'")},
		{"set", "value: it must be one value", "0A000", sink("value => 'generate_series(1, 2)'")},
		{"random", "value: random() is volatile", "22023", sink("value => 'random()'")},
		{"the day it is read", "filter: 'today' is the time at which the expression is read", "22023", sink("filter => $$ (id::text || '2026')::date > 'today' or name = 'x' $$, accept_drift => true")},
		{"the moment it is read", "value: 'now' is the time at which the expression is read", "22023", sink("value => 'date_trunc(''day'', timestamp ''Now'')', accept_drift => true")},
		{"within a range", "filter: 'yesterday' is the time", "22023", sink("filter => $$ tstzrange('yesterday 10:00', null) @> '2026-01-01'::timestamptz $$")},
		{"random with expires", "value: random() is volatile", "22023", sink("value => 'random()', expires => '1 h'")},
		{"volatile by default", "value: chance() is volatile", "22023", sink("value => 'chance() + id', accept_drift => true")},
		{"hidden volatile", "value: chance() is volatile", "22023", sink("value => '(select chance() from others limit 1)', accept_drift => true")},
		{"volatile filter", "filter: random() is volatile", "22023", sink("filter => 'random() < 0.5'")},
		{"volatile default argument", "value: random() is volatile", "22023", sink("value => 'mixed(id)', accept_drift => true")},
		{"volatile default among others", "value: random() is volatile", "22023", sink("value => 'mixed(id, 2) || mixed(id, 2, 0.5)'")},
		{"volatile default argument by name", "value: random() is volatile", "22023", sink("value => 'mixed(id, a => mixed(1, 2, 3)::int)'")},
		{"volatile default of a default", "value: random() is volatile", "22023", sink("filter => 'true', value => 'nested(id)'")},
		{"time as a default argument", "filter: now() can change its answer", "22023", sink("filter => 'dated(id) > name'")},
		{"SQL's time as a default argument", "value: it asks for the time or the user", "22023", sink("value => 'stamped(id)'")},
		{"volatile view", "value: random() is volatile", "22023", sink("value => '(select n from dice)', accept_drift => true")},
		{"view of a volatile view", "value: random() is volatile", "22023", sink("value => '(select n from cup)', accept_drift => true")},
		{"place of the row", "value: it uses ctid, which changes when the row does not", "22023", sink("value => 'ctid::text', accept_drift => true")},
		{"version of the row", "filter: it uses xmin, which changes", "22023", sink("filter => 'xmin::text::bigint > 5'")},
		{"lock of the row", "value: it uses xmax, which changes", "22023", sink("value => '(select users.xmax::text from others limit 1)', accept_drift => true")},
		{"command of the row", "expires_at: it uses cmax, which changes", "22023", sink("expires_at => 'at + cmax::text::int * interval ''1 s'''")},
		{"locks", "value: it locks rows, and workers only read", "22023", sink("value => '(select id from others limit 1 for update)', accept_drift => true")},
		{"view that locks", "value: it locks rows", "22023", sink("value => '(select id from locked limit 1)', accept_drift => true")},
		{"time", "value: now() can change its answer when no row changes", "22023", sink("value => 'name || now()'")},
		{"SQL's time", "value: it asks for the time or the user", "22023", sink("value => 'current_timestamp'")},
		{"user", "value: it asks for the time or the user", "22023", sink("value => 'current_user'")},
		{"stable function", "value: today() can change its answer", "22023", sink("value => 'today()'")},
		{"time in the filter", "filter: now() can change its answer", "22023", sink("filter => 'at > now()'")},
		{"age from today", "value: age() can change its answer", "22023", sink("value => 'age(at)'")},
		{"other table", "value: it reads public.others, and nothing here tells", "22023", sink("value => '(select id from others limit 1)'")},
		{"other table in the filter", "filter: it reads public.others", "22023", sink("filter => 'exists (select from others)'")},
		{"other rows", "value: it reads other rows of public.users", "22023", sink("value => '(select count(*) from users)'")},
		{"transform and value", "transform: value says", "22023", sink("value => 'id', transform => 'record'")},
		{"empty transform", "transform: it is empty", "22023", sink("transform => ' '")},
		{"transform of a group", "key: several rows of public.orders could share one key", "22023", group("transform => 'record'")},
		{"columns and value", "columns: value says", "22023", sink("value => 'id', columns => '{id}'")},
		{"null accept_drift", "accept_drift: ", "22023", sink("accept_drift => null")},
		{"star and more", "columns: public.users has no column \"*\"", "42703", sink("columns => '{id,*}'")},
		{"expires twice", "expires: expires_at says", "22023", sink("expires => '1 h', expires_at => 'at'")},
		{"expires_at is a number", "expires_at: it must be a timestamp, and is of type bigint", "42804", sink("expires_at => 'id'")},
		{"expires_at is a length", "expires_at: it must be a timestamp, and is of type interval", "42804", sink("expires_at => 'interval ''1 h'''")},
		{"expires_at unknown", "expires_at: column", "42703", sink("expires_at => 'nosuch'")},
		{"expires_at volatile", "expires_at: clock_timestamp() is volatile", "22023", sink("expires_at => 'clock_timestamp()'")},
		{"group without its index", `key: several rows of public.orders share a key, and no index begins with the columns of "o:${user_id}"`, "22023", group("value => 'count(*)'")},
		{"group without a value", "key: several rows of public.orders could share one key", "22023", "select freshet.create_sink('o', 'orders', key => 'o:${user_id}')"},
	})
	e.exec(`create index on orders (user_id); create index on orders ("Group", id)`)
	e.refuses(conn, []refusal{
		{"group without an aggregate", `value: several rows share a key, so it must be an aggregate over them: column "orders.id" is in none`, "42803", group("value => 'id'")},
		{"group of a row", `value: several rows share a key, so it must be an aggregate`, "42803", group("value => 'to_jsonb(orders)'")},
		{"moment of a group", `expires_at: several rows share a key, so it must be an aggregate`, "42803", group("value => 'count(*)', expires_at => 'now() + id * interval ''1 s'''")},
		{"set of a group", "value: it must be one value", "0A000", group("value => 'generate_series(1, count(*))'")},
		{"window of a group", "value: it has a window function", "42P20", group("value => 'sum(count(*)) over ()'")},
	})
	for _, fits := range []string{
		sink("value => 'plain(id::int)'"),
		sink("value => 'mixed(id, 1, mixed(id, b => 0.5, a => 3)::float) || mixed(id, b => score, a => 2)'"),
		sink("value => 'dated(id)', expires => '1 h'"),
		sink("value => 'dated(id, at) || stamped(id, at)'"),
		sink("value => 'tableoid::int + (select count(*) from users_view)', accept_drift => true"),
		sink("value => 'to_jsonb(users) - ''email'''"),
		sink("value => 'format(''%s/%s'', name, to_char(at, ''YYYY''))'"),
		sink("value => 'name || at || score'"),
		sink("value => 'date_trunc(''day'', at)::text'"),
		sink("value => 'jsonb_build_object(''a'', age(at, at), ''d'', at + interval ''1 day'', ''e'', at::date, ''l'', extract(epoch from at))'"),
		sink("value => 'now()', expires => '1 h'"),
		sink("value => '(select id from others limit 1)', accept_drift => true"),
		sink("expires_at => 'now() + interval ''1 h'''"),
		sink("filter => 'at > ''2026-01-01''::date'"),
		group("value => 'jsonb_agg(to_jsonb(orders) order by id)'"),
		group("value => 'jsonb_object_agg(id, \"Group\")'"),
		group("value => '''constant'''"),
		"select freshet.create_sink('o', 'orders', key => 'o:${Group}', value => 'string_agg(id::text, '','' order by id)')",
	} {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), fits); err != nil {
			t.Errorf("%s\n%v", fits, err)
		}
		_ = tx.Rollback(t.Context())
	}
}

// What Postgres sends in binary form is never taken for another type, whatever the value looks
// into: neither before anybody has noticed nor where nothing of the source itself was changed.
func TestValueThatComesToBeOfAnotherTypeIsSentAsThat(t *testing.T) {
	e := newEnv(t)
	e.exec(`create table goods (id bigint primary key, a text);
		create table makers (id bigint primary key, doc json, name text, raw bytea);
		create function f(bigint) returns text language sql immutable as $$ select 'f' || $1 $$`)
	e.exec(`insert into goods select g, g::text from generate_series(1, 50) g;
		insert into makers select g, '{"a": 1}', g::text, 'raw' from generate_series(1, 50) g`)
	for name, value := range map[string]string{
		"own": "a", "call": "f(id)", "doc": "(select m.doc from makers m where m.id = goods.id)",
		"name": "(select m.name from makers m where m.id = goods.id)", "raw": "(select m.raw from makers m where m.id = goods.id)",
	} {
		e.exec("select freshet.create_sink($1, 'goods', key => $1 || ':${id}', value => $2, accept_drift => true)", name, value)
	}
	e.exec("select freshet.create_sink('notice', 'goods', key => 'notice:${id}', value => 'a', on_schema_change => 'notice')")
	e.start()
	e.settle()
	e.exec(`alter table goods alter column a type int using a::int;
		drop function f(bigint); create function f(bigint) returns jsonb language sql immutable as $$ select jsonb_build_object('f', $1) $$;
		alter table makers alter column doc type jsonb, alter column name type int using name::int, alter column raw type text using 'text'`)
	e.exec("update goods set a = a + 1")
	same := func() bool {
		for _, key := range e.redis.Keys(t.Context(), "*:*").Val() {
			if strings.HasPrefix(key, "freshet:") {
				continue
			}
			if value := e.redis.Get(t.Context(), key).Val(); strings.ContainsAny(value, "\x00\x01") {
				t.Fatalf("%s is %q", key, value)
			}
		}
		for key, want := range map[string]string{
			"own:3": "4", "call:3": `{"f": 3}`, "doc:3": `{"a": 1}`, "name:3": "3", "raw:3": "text", "notice:3": "4",
		} {
			if e.entry(key) != want {
				return false
			}
		}
		return true
	}
	e.await("entries are as the types are now", same)
	e.settle()
	// Those that nobody touched as well, and once more where the source was altered too.
	if n := one[int](e, "select count(*) from freshet.backfills where reason = 'rewarm' and sink in ('call', 'doc', 'name', 'raw')"); n < 4 || n > 8 {
		t.Errorf("%d re-warms", n)
	}
	// One may have to come back for what was locked.
	e.await("no sink is in trouble", func() bool {
		return one[int](e, "select count(*) from freshet.status where last_error is not null and state <> 'live'") == 0
	})
}

// A lookup that finds two rows, or none where there should be one, is the affair of one entry.
func TestLookupThatFindsTooManyIsOneEntrysFailure(t *testing.T) {
	e := newEnv(t)
	e.exec(`create table goods (id bigint primary key, code text); create table makers (id bigint primary key, code text, name text);
		create function maker(c text) returns text language plpgsql stable as $$ declare n text; begin
			select m.name into strict n from public.makers m where m.code = c; return n; end $$`)
	e.exec(`insert into goods select g, 'c' || g from generate_series(1, 20) g;
		insert into makers select g, 'c' || g, 'maker ' || g from generate_series(1, 20) g`)
	e.exec("select freshet.create_sink('sub', 'goods', key => 'sub:${id}', value => '(select m.name from makers m where m.code = goods.code)', accept_drift => true)")
	e.exec("select freshet.create_sink('call', 'goods', key => 'call:${id}', value => 'maker(code)', accept_drift => true)")
	e.start()
	e.settle()
	e.exec("insert into makers values (21, 'c5', 'another')")
	e.exec("update goods set code = case id when 7 then 'nobody' else code end")
	e.await("the others are written", func() bool { return e.redis.Exists(t.Context(), "sub:5", "call:5", "call:7", "sub:7").Val() == 0 })
	failing := one[string](e, "select string_agg(key || ' ' || sqlstate, ', ' order by key) from freshet.failures")
	if failing != "call:5 P0003, call:7 P0002, sub:5 21000" {
		t.Errorf("failures: %s", failing)
	}
	if out, _, _ := e.freshet("preview", "sub", "--key", "sub:5"); !strings.Contains(out, "more than one row") {
		t.Errorf("preview: %s", out)
	}
	if got := one[string](e, "select result || ' ' || error from freshet.preview('sub') where entry = 'sub:5'"); !strings.Contains(got, "more than one row") {
		t.Errorf("freshet.preview: %s", got)
	}
	e.exec("delete from makers where id = 21; update goods set code = 'c7' where id = 7; select freshet.refresh('sub', 5), freshet.refresh('call', 5)")
	e.await("nothing fails any more", func() bool { return one[int](e, "select count(*) from freshet.failures") == 0 })
	e.settle()
	e.inStep("call:*", "select 'call:' || id, 'maker ' || id from goods")
}

// One connection has prepared what another sink reads by the same statement, and takes for
// another type.
func TestSinksOfOneStatementKnowTheirTypesApart(t *testing.T) {
	e := newEnv(t)
	e.exec(`create table goods (id bigint primary key, a text);
		create function f(bigint) returns json language sql immutable as $$ select json_build_object('f', $1) $$`)
	e.exec("insert into goods select g, g::text from generate_series(1, 50) g")
	e.exec("select freshet.create_sink('one', 'goods', key => 'one:${id}', value => 'f(id)')")
	e.start()
	e.settle()
	e.exec("select freshet.pause_sink('one')")
	e.exec(`drop function f(bigint); create function f(bigint) returns jsonb language sql immutable as $$ select jsonb_build_object('f', $1, 'v', 2) $$`)
	e.exec("select freshet.create_sink('two', 'goods', key => 'two:${id}', value => 'f(id)')")
	// Until every connection for reading has prepared it.
	for n := range 30 {
		e.exec("update goods set a = a || 'x'")
		e.await("the second sink follows", func() bool { return e.entry("two:3") == `{"f": 3, "v": 2}` })
		if n%10 == 0 {
			e.settleTargets("default")
		}
	}
	e.exec("select freshet.resume_sink('one')")
	e.exec("update goods set a = a || 'y'")
	e.await("the first one is as the function is now", func() bool {
		got := e.entry("one:3")
		if strings.HasPrefix(got, "\x01") {
			t.Fatalf("the entry is %q", got)
		}
		return got == `{"f": 3, "v": 2}`
	})
	e.settle()
	e.inStep("one:*", "select 'one:' || id, f(id)::text from goods")
}

// A right that is missing when the type of a value has changed stops nothing for good.
func TestValueOfAnotherTypeWaitsForTheRightToMakeIt(t *testing.T) {
	e := newEnv(t)
	if e.seesAll() {
		t.Skip("this worker may call everything")
	}
	e.exec(`create table goods (id bigint primary key, a text);
		create function f(bigint) returns json language sql immutable as $$ select json_build_object('f', $1) $$`)
	e.exec("insert into goods select g, g::text from generate_series(1, 50) g")
	e.exec("select freshet.create_sink('call', 'goods', key => 'call:${id}', value => 'f(id)')")
	e.start()
	e.settle()
	e.exec(`drop function f(bigint); create function f(bigint) returns jsonb language sql immutable as $$ select jsonb_build_object('f', $1, 'v', 2) $$;
		revoke execute on function f(bigint) from public`)
	e.exec("update goods set a = a || 'x'")
	e.await("status says what is missing", func() bool {
		return strings.Contains(one[string](e, "select coalesce(max(last_error), '') from freshet.status"), "permission denied for function f")
	})
	e.exec("grant execute on function f(bigint) to freshet_worker")
	e.settle()
	e.await("entries are as the function is now", func() bool { return e.entry("call:3") == `{"f": 3, "v": 2}` })
	e.settle()
	e.inStep("call:*", "select 'call:' || id, f(id)::text from goods")
}

// Words that only look like moments are text.
func TestWordsThatAreNoMomentsAreAccepted(t *testing.T) {
	e := newEnv(t)
	e.exec("create table t (id bigint primary key, name text, doc jsonb)")
	e.exec(`select freshet.create_sink('t', 't', filter => $$ name <> 'now' and 'today' <> 'x' and doc @> '{"when": "tomorrow"}' and name = 'x' and id < length('it was yesterday') $$)`)
	e.exec(`insert into t values (1, 'x', '{"when": "tomorrow"}'), (2, 'now', '{"when": "tomorrow"}')`)
	e.start()
	e.follow("t:*", "select 't:1', to_jsonb(t)::text from t where id = 1")
}
