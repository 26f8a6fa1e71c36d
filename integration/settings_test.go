package integration

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/pg"
	"github.com/freshet/freshet/worker"
)

// Two sets of whatever changes how Postgres reads or prints a value, as an administrator or a URL may have it.
var (
	oneSettings = map[string]string{
		"TimeZone": "America/St_Johns", "DateStyle": "SQL, DMY", "IntervalStyle": "iso_8601", "bytea_output": "escape", "extra_float_digits": "-15",
		"quote_all_identifiers": "on", "search_path": "nowhere", "standard_conforming_strings": "off", "array_nulls": "off", "xmlbinary": "hex",
		"xmloption": "document", "transform_null_equals": "on", "client_encoding": "LATIN1", "lc_monetary": "POSIX", "default_text_search_config": "simple",
	}
	otherSettings = map[string]string{
		"TimeZone": "Asia/Kathmandu", "DateStyle": "German", "IntervalStyle": "sql_standard", "bytea_output": "escape", "extra_float_digits": "-4",
		"quote_all_identifiers": "on", "search_path": "pg_temp", "standard_conforming_strings": "off", "array_nulls": "off", "xmloption": "document",
		"client_encoding": "SQL_ASCII", "lc_numeric": "POSIX", "lc_time": "POSIX",
	}
)

// parameters is a database URL with settings that go into the startup packet.
func parameters(t *testing.T, databaseURL string, settings map[string]string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	for name, value := range settings {
		query.Set(name, value)
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
	return u.String()
}

// options are settings as PGOPTIONS or a URL's `options` have them.
func options(settings map[string]string) string {
	var list []string
	for name, value := range settings {
		list = append(list, "-c "+name+"="+strings.ReplaceAll(value, " ", `\ `))
	}
	return strings.Join(list, " ")
}

// moments has a column for each way in which a setting can show.
const moments = `
create schema shop;
create type shop.visit as (at timestamptz, weight float8, raw bytea);
create function shop.known(note text) returns boolean language sql immutable as $$ select note <> 'unknown' $$;
create table shop.moments (
	at timestamptz, local timestamp, day date, span interval, weight float8, ratio float4, raw bytea, price money, during tstzrange, ats timestamptz[], maybe int[], note text,
	spans interval[], weights float8[], raws bytea[], days daterange, spot point, ring circle, clock timetz, visit shop.visit, visits shop.visit[], often tstzmultirange,
	class regclass, type regtype, page xml, doc jsonb, amount numeric, id bigint not null unique,
	primary key (at, local, day, span, weight, ratio, raw, price, during, ats, maybe, note));
create function shop.add(from_id int, to_id int) returns void language sql set standard_conforming_strings = on as $$
	insert into shop.moments select
		timestamptz '2026-03-08 01:59:59.123456+00' + n * interval '37 days 1:00:00.000001', timestamp '2026-01-02 03:04:05.6' + n * interval '1 day', date '2026-01-02' + n,
		make_interval(months => n % 3 - 1, days => -n, secs => n * 3601.000001), 0.1234567890123 + n * 1e-13, 0.1::float4 + n * 1e-7::float4, set_byte('\x00ff5c0a', 1, n % 256),
		(n * 100 + 0.5)::numeric::money, tstzrange('2026-03-08 01:59:59+00', timestamptz '2026-11-01 05:30:00+00' + n * interval '1 hour'), array['2026-11-01 05:30:00+00', null, 'infinity']::timestamptz[],
		array[n, null], 'über ' || chr(92) || n,
		array[interval '1 mon -1 day 2:03:04.5', null], array[0.1234567890123 + n, null, -0.0], array['\x5c00'::bytea, null], '[2026-01-02,infinity)', point(0.1 + n, 1e23), circle '<(0.1,0.2),0.30000000000000004>',
		'12:34:56.7+05:45', row('2026-03-08 01:59:59+00'::timestamptz, 0.30000000000000004::float8, '\xff'::bytea)::shop.visit, array[row('2026-03-08 01:59:59+00'::timestamptz, 0.1::float8 + n, '\x00'::bytea)::shop.visit], '{[2026-01-01 00:00+00,2026-02-01 00:00+00]}',
		'shop.moments', 'shop.visit[]', '<a b="é"/>', jsonb_build_object('n', 1.10), 1.00, n
	from generate_series(from_id, to_id) n
$$;`

var momentKey = []string{"at", "local", "day", "span", "weight", "ratio", "raw", "price", "during", "ats", "maybe", "note"}

// TestEntriesAreTheSameUnderAnySettings has workers of different settings write entries of the same rows, each to a
// target of its own, while the application has others still.
func TestEntriesAreTheSameUnderAnySettings(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.exec(moments)
	pinned := map[string]string{
		"TimeZone": "UTC", "DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "bytea_output": "hex", "extra_float_digits": "1", "lc_monetary": "C", "quote_all_identifiers": "off",
		"search_path": "pg_catalog, shop, public", "array_nulls": "on", "standard_conforming_strings": "on", "xmloption": "content", "client_encoding": "UTF8",
	}
	judge := e.connectWith(pinned)
	applications := maps.Clone(oneSettings)
	delete(applications, "client_encoding") // what this test says is UTF-8
	application := e.connectWith(applications)
	exec := func(sql string) {
		t.Helper()
		if _, err := application.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("select shop.add(1, 600)") // several chunks: a backfill reads on from the text of a key

	// Where a key's column may end is told by its type alone.
	var class string
	if err := application.QueryRow(ctx, `select freshet.key_class('bytea'::regtype, '[]')`).Scan(&class); err != nil || class != `\\x0-9a-f` {
		t.Errorf("the characters of bytea are %s (%v)", class, err)
	}

	var template strings.Builder
	for _, c := range momentKey {
		fmt.Fprintf(&template, ":${%s|url}", c)
	}
	const filter = `at >= '2026-05-21 02:00' and known(note) and note <> 'über \7'`
	ways := []string{"plain", "packet", "options", "stored", "environment"}
	for _, way := range ways {
		_, err := application.Exec(ctx, "select freshet.create_sink($1::text, 'shop.moments', key => $2::text, targets => array[$1::text], filter => $3)",
			way, way+template.String(), filter)
		if err != nil {
			t.Fatal(err)
		}
	}
	work := func(way, databaseURL string) {
		(&env{t: t, workerURL: databaseURL, redisURL: e.redisURL, targets: map[string]string{way: e.redisURL}}).start()
	}
	work("plain", parameters(t, e.workerURL, pinned))
	work("packet", parameters(t, e.workerURL, oneSettings))
	work("options", parameters(t, e.workerURL, map[string]string{"options": options(otherSettings)}))
	environment := map[string]string{
		"FRESHET_DATABASE_URL": e.workerURL, "FRESHET_REDIS_URL_ENVIRONMENT": e.redisURL,
		"PGOPTIONS": options(otherSettings), "PGTZ": "Pacific/Apia",
	}
	startProcess(t, "environment", environment, "worker")
	u, err := url.Parse(e.workerURL)
	if err != nil {
		t.Fatal(err)
	}
	worker := u.User.Username()
	// From here on whoever says nothing has these: half of them from the database, half from the role.
	for i, name := range slices.Sorted(maps.Keys(oneSettings)) {
		if i%2 == 0 {
			e.admin().exec("do $$ begin execute format('alter database %I set " + name + " to %L', current_database(), '" + oneSettings[name] + "'); end $$")
		} else {
			e.admin().exec("do $$ begin execute format('alter role %I in database %I set " + name + " to %L', '" + worker + "', current_database(), '" + oneSettings[name] + "'); end $$")
		}
	}
	work("stored", e.workerURL)

	inStep := func(when string) {
		t.Helper()
		e.settleTargets(ways...)
		rows, err := judge.Query(ctx, "select concat_ws(':', "+strings.Join(momentKey, ", ")+"), to_jsonb(m)::text from shop.moments m where "+filter)
		if err != nil {
			t.Fatal(err)
		}
		want := make(map[string]string)
		var key, value string
		if _, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error { want[key] = value; return nil }); err != nil {
			t.Fatal(err)
		}
		plain := e.under("plain")
		if len(plain) != len(want) || len(want) == 0 {
			t.Errorf("%s: %d entries of %d rows", when, len(plain), len(want))
		}
		for key, value := range plain {
			decoded, err := url.PathUnescape(key)
			if err != nil {
				t.Fatal(err)
			}
			if !sameJSON(value, want[decoded]) {
				t.Errorf("%s: %s: got %s, want %s", when, decoded, value, want[decoded])
			}
		}
		for _, way := range ways[1:] {
			other := e.under(way)
			for key, value := range plain {
				if other[key] != value {
					t.Errorf("%s, %s: %s\n got %q\nwant %q", when, way, key, other[key], value)
				}
				delete(other, key)
			}
			for key := range other {
				t.Errorf("%s, %s: there is an entry %s too", when, way, key)
			}
		}
	}
	inStep("after the backfill")
	exec("select shop.add(601, 610)")
	exec("update shop.moments set doc = '{\"a\": 2.50}' where id < 5")
	// Each column of the key by itself, by as little as only some settings show.
	exec("update shop.moments set at = at + interval '1 hour' where id = 2")
	exec("update shop.moments set weight = weight + 1e-16 where id = 6")
	exec("update shop.moments set ratio = ratio + 1e-8::float4 where id = 7")
	exec("update shop.moments set span = span + interval '1 mon -30 days' where id = 8")
	exec("update shop.moments set raw = convert_to('!', 'UTF8') || raw where id = 9")
	exec("update shop.moments set ats = array[ats[1] + interval '1 hour', null, '-infinity'] where id = 10")
	exec("update shop.moments set during = tstzrange(lower(during), upper(during) + interval '1 hour') where id = 11")
	exec("update shop.moments set price = price + 0.01::numeric::money where id = 12")
	before := e.under("plain")
	exec("delete from shop.moments where id in (13, 14)")
	inStep("after changes")
	// The sweep knows a key of a row that is gone by its text. What one finds is touched for all sinks of the table.
	after := e.under("plain")
	for key, value := range before {
		if _, ok := after[key]; ok {
			continue
		}
		for _, way := range ways[1:] {
			e.redis.Set(ctx, way+":"+key, value, 0)
		}
	}
	for _, way := range ways[1:] {
		exec("select freshet.sweep('" + way + "')")
	}
	inStep("after a sweep")

	verify := startProcess(t, "verify", environment, "verify", "environment")
	if status := verify.wait(2 * patience); status != 0 {
		t.Errorf("verify exits with %d", status)
	}
	exec("truncate shop.moments")
	e.settleTargets(ways...)
	for _, way := range ways {
		if left := e.under(way); len(left) > 0 {
			t.Errorf("%s: %d entries are left after truncate", way, len(left))
		}
	}
}

// TestKeyThatPrintsNamesIsRefused, for its text is another when somebody renames a table or has another search path.
func TestKeyThatPrintsNamesIsRefused(t *testing.T) {
	e := newEnv(t)
	e.exec("create type place as (tables regclass[], id int)")
	e.exec("create domain kind as regtype")
	for i, column := range []string{"regclass", "kind", "regproc[]", "place"} {
		e.exec(fmt.Sprintf("create table named_%d (k %s primary key, o oid unique, v regclass)", i, column))
		e.refused("prints names", "select freshet.create_sink('named', $1::text::regclass, key => 'named:${k}')", fmt.Sprintf("named_%d", i))
	}
	// As a value it is what it is, and its number makes a key.
	e.exec("select freshet.create_sink('named', 'named_0', key => 'named:${o}')")
}

// under reads the entries whose keys begin with this, by what follows.
func (e *env) under(prefix string) map[string]string {
	e.t.Helper()
	entries := make(map[string]string)
	for _, key := range e.redis.Keys(e.t.Context(), prefix+":*").Val() {
		entries[strings.TrimPrefix(key, prefix+":")] = e.entry(key)
	}
	return entries
}

// settleTargets waits until everything committed so far is in these targets.
func (e *env) settleTargets(targets ...string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	if err := worker.Settle(ctx, e.db, targets); err != nil {
		e.t.Fatal(err)
	}
}

// TestReadsHaveTheirOwnSettings covers what shows in values only with a locale or a literal that not every server has.
func TestReadsHaveTheirOwnSettings(t *testing.T) {
	e := newEnv(t)
	db, err := pg.Open(t.Context(), parameters(t, e.workerURL, oneSettings), "settings", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, want := range map[string]string{
		"lc_monetary": "C", "lc_numeric": "C", "lc_time": "C", "timezone_abbreviations": "Default", "xmlbinary": "base64", "xmloption": "content", "transform_null_equals": "off", "array_nulls": "on", "DateStyle": "ISO, YMD",
		"search_path": "pg_catalog, public", "client_encoding": "UTF8",
	} {
		q := pg.Query{SearchPath: "pg_catalog, public", SQL: "select current_setting('" + name + "')"}.Named()
		if err := pg.Read(t.Context(), db, q, nil, func(values [][]byte) error {
			if string(values[0]) != want {
				t.Errorf("%s is %s; want %s", name, values[0], want)
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeysThatASessionPrintsAlike has a session change the keys of several rows by less than it prints, where keys have no one length.
func TestKeysThatASessionPrintsAlike(t *testing.T) {
	e := newEnv(t)
	e.exec("create table named (name text, weight float8, v int, primary key (name, weight))")
	e.exec("insert into named select n, 0.3, 0 from unnest('{a,b,c}'::text[]) n")
	e.exec("select freshet.create_sink('named', 'named', key => 'named:${name}:${weight}')")
	e.start()
	e.settle()
	application := e.connectWith(map[string]string{"extra_float_digits": "0"})
	if _, err := application.Exec(t.Context(), "update named set weight = 0.1 + 0.2::float8"); err != nil {
		t.Fatal(err)
	}
	e.settle()
	e.inStep("named:*", "select 'named:' || name || ':' || weight, to_jsonb(n)::text from named n")
}

// TestKeyChangesThatASessionDoesNotShow has a session that prints few digits change a key by less: the entry of the old
// key goes all the same, whichever sort of trigger saw it.
func TestKeyChangesThatASessionDoesNotShow(t *testing.T) {
	e := newEnv(t)
	ctx := t.Context()
	e.exec("create table whole (weight float8, span interval, v int, primary key (weight, span))")
	e.exec("create table split (weight float8, span interval, v int, primary key (weight, span)) partition by range (weight)")
	e.exec("create table split_low partition of split for values from (minvalue) to (0.5)")
	e.exec("create table split_high partition of split default")
	judge, application := e.pinned(), e.connectWith(map[string]string{"extra_float_digits": "-15", "IntervalStyle": "sql_standard"})
	tables := []string{"whole", "split"}
	for _, table := range tables {
		e.exec("insert into " + table + " select w, interval '1 mon', 0 from unnest('{0.12345678,-0,0.7}'::float8[]) w")
		e.exec("select freshet.create_sink($1::text, $1::text::regclass, key => $1 || ':${weight}:${span}')", table)
	}
	e.start()
	e.settle()
	inStep := func(when string) {
		t.Helper()
		e.settle()
		for _, table := range tables {
			rows, err := judge.Query(ctx, "select weight || ':' || span, to_jsonb(t)::text from "+table+" t")
			if err != nil {
				t.Fatal(err)
			}
			entries := e.under(table)
			var key, value string
			if _, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error {
				if !sameJSON(entries[key], value) {
					t.Errorf("%s, %s: %s is %q; want %s", when, table, key, entries[key], value)
				}
				delete(entries, key)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			for key := range entries {
				t.Errorf("%s, %s: the entry of %s is left", when, table, key)
			}
		}
	}
	inStep("after the backfill")
	for _, table := range tables {
		if _, err := application.Exec(ctx, "update "+table+" set weight = case weight when 0 then 0::float8 else weight + 1e-7 end, span = case weight when 0.7 then span else interval '30 days' end, v = 1"); err != nil {
			t.Fatal(err)
		}
	}
	inStep("after an update")
}

// What a filter calls is found whatever a backslash means to the session.
func TestVolatileFiltersAreRefusedUnderAnySettings(t *testing.T) {
	e := newEnv(t)
	e.exec(usersTable)
	for _, setting := range []string{"on", "off"} {
		tx := e.begin()
		e.in(tx, "set local standard_conforming_strings = "+setting)
		_, err := tx.Exec(t.Context(), "select freshet.create_sink('users', 'users', filter => 'random() > price')")
		if err == nil || !strings.Contains(err.Error(), "random() is volatile") {
			t.Errorf("standard_conforming_strings = %s: %v; want that random() is volatile", setting, err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever looks after capture finds the same, whatever the settings: else workers would tell each other for ever that
// something was altered.
func TestCaptureLooksTheSameUnderAnySettings(t *testing.T) {
	e := newEnv(t)
	e.exec(`create type mood as enum ('bad', 'good');
		create function beside(a bigint, b bigint) returns bigint immutable language sql as $$ select a + b $$;
		create aggregate total(bigint) (sfunc = beside, stype = bigint, initcond = '0');
		create table t (id bigint primary key, team bigint default 7, at timestamptz default '2026-01-02 03:04:05+00', span interval default '1 day', mood mood default 'bad',
			note text default 'a\b', raw bytea default '\x00', day date not null default now(), ratio float8 default 0.1);
		create index on t (team)`)
	e.exec("select freshet.create_sink('t', 't', value => 'jsonb_build_object(''id'', beside(id, 1))')")
	e.exec("select freshet.create_sink('teams', 't', key => 'team:${team}', value => 'total(id)')")
	const fingerprint = "select freshet.fingerprint(1)::text"
	want := one[string](e.admin(), fingerprint)
	for _, settings := range []map[string]string{oneSettings, otherSettings} {
		conn, err := pgx.Connect(t.Context(), parameters(t, e.workerURL, settings))
		if err != nil {
			t.Fatal(err)
		}
		var got string
		err = conn.QueryRow(t.Context(), fingerprint).Scan(&got)
		_ = conn.Close(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("under %v it is\n%s\nwant\n%s", settings, got, want)
		}
	}
}
