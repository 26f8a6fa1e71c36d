package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// argumentsSchema has every kind of source that create_sink has to judge.
const argumentsSchema = `
create table users (id bigint primary key, email text unique, name text, active boolean, score numeric, at timestamptz);
create table nokey (id bigint, name text);
create table partial (id bigint, name text);
create unique index on partial (id) where name is not null;
create table expression (id bigint, name text);
create unique index on expression (lower(name));
create table pairs (tenant text, slug text, id bigint, primary key (tenant, slug));
create table mixed (tenant int, slug text, primary key (tenant, slug));
create table others (id uuid primary key);
create table adjacent (a int, b int, primary key (a, b));
create view users_view as select * from users;
create materialized view users_copy as select * from users;
create sequence numbers;
create table parted (id bigint primary key, at date) partition by range (id);
create table parted_one partition of parted for values from (1) to (1000);
create table parent (id bigint primary key);
create table child (primary key (id)) inherits (parent);
create unlogged table fleeting (id bigint primary key);
create table "Odd ""name""" ("Id" bigint primary key, "a${b}" text);
create function twice(bigint) returns bigint language sql immutable as 'select 2 * $1';
insert into users (id, email, name, active) select g, 'u' || g || '@example.org', 'user', true from generate_series(1, 10) g;
`

// footprint counts everything that a call could leave behind.
func (e *env) footprint(conn *pgx.Conn) map[string]int64 {
	e.t.Helper()
	counts := make(map[string]int64)
	count := func(name string) {
		var n int64
		if err := conn.QueryRow(e.t.Context(), "select count(*) from "+name).Scan(&n); err != nil {
			e.t.Fatalf("count %s: %v", name, err)
		}
		counts[name] = n
	}
	for _, name := range []string{"pg_class", "pg_proc", "pg_trigger", "pg_type", "pg_namespace", "pg_constraint", "users"} {
		count(name)
	}
	rows, err := conn.Query(e.t.Context(), "select 'freshet.' || relname from pg_class where relnamespace = 'freshet'::regnamespace and relkind = 'r'")
	if err != nil {
		e.t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		e.t.Fatal(err)
	}
	for _, table := range tables {
		count(table)
	}
	return counts
}

// refusal is a statement that must fail with a message that begins so and, if code is
// not empty, with that SQLSTATE.
type refusal struct{ name, begins, code, sql string }

// refuses runs refusals one after the other and makes sure that none leaves a trace.
func (e *env) refuses(conn *pgx.Conn, refusals []refusal) {
	e.t.Helper()
	for _, r := range refusals {
		e.t.Run(r.name, func(t *testing.T) {
			before := e.footprint(conn)
			// What is accepted by mistake must not disturb what comes after it.
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(t.Context())
			_, err = conn.Exec(t.Context(), r.sql)
			var pgErr *pgconn.PgError
			if err == nil {
				t.Errorf("%s\nwas accepted; want an error that begins %q", r.sql, r.begins)
			} else if !asPgError(err, &pgErr) {
				t.Fatal(err)
			} else {
				t.Logf("%s (%s) %s", pgErr.Message, pgErr.Code, pgErr.Hint)
				if !strings.HasPrefix(pgErr.Message, r.begins) {
					t.Errorf("%s\n%s; want an error that begins %q", r.sql, pgErr.Message, r.begins)
				}
				if r.code != "" && pgErr.Code != r.code {
					t.Errorf("SQLSTATE %s, want %s", pgErr.Code, r.code)
				}
				if strings.HasPrefix(pgErr.Code, "XX") {
					t.Errorf("SQLSTATE %s is an internal error", pgErr.Code)
				}
			}
			if pgErr != nil {
				_ = tx.Rollback(t.Context())
			}
			after := e.footprint(conn)
			for name, n := range after {
				if before[name] != n {
					t.Errorf("%s had %d rows and has %d", name, before[name], n)
				}
			}
		})
	}
}

func asPgError(err error, to **pgconn.PgError) bool {
	pgErr, ok := err.(*pgconn.PgError)
	*to = pgErr
	return ok
}

// argumentsEnv is a database with the schema, and one connection to it.
func argumentsEnv(t *testing.T) (*env, *pgx.Conn) {
	e := newEnv(t)
	conn, err := pgx.Connect(t.Context(), e.databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	for _, sql := range strings.Split(argumentsSchema, ";\n") {
		if strings.TrimSpace(sql) == "" {
			continue
		}
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return e, conn
}

func TestArgumentsOfLaterVersionsAreRefusedByName(t *testing.T) {
	e, conn := argumentsEnv(t)
	var refusals []refusal
	for _, a := range []struct{ name, value string }{
		{"capture", "'logical'"},
		{"capture", "null"},
	} {
		refusals = append(refusals, refusal{
			name: a.name + " " + a.value, begins: a.name + ": ", code: "0A000",
			sql: fmt.Sprintf("select freshet.create_sink('users', 'users', %s => %s)", a.name, a.value),
		})
	}
	refusals = append(refusals,
		refusal{"backfill null", "backfill: ", "22023", "select freshet.create_sink('users', 'users', backfill => null)"})
	e.exec("select freshet.create_sink('there', 'users', key => 'there:${id}')")
	refusals = append(refusals,
		refusal{"backfill filter", "filter: ", "42703", "select freshet.backfill('there', filter => 'nosuch = 1')"},
		refusal{"backfill rate", "rate: ", "22023", "select freshet.backfill('there', rate => 0)"},
		refusal{"no name of a function", "transform: ", "22023", "select freshet.create_sink('users', 'users', transform => 'go:No')"},
		refusal{"adopt null", "adopt: ", "22023", "select freshet.create_sink('users', 'users', adopt => null)"},
		refusal{"alter of the source", "source: a sink stays with its source", "0A000", "select freshet.alter_sink('there', source => 'others')"},
		refusal{"alter to a bad filter", "filter: ", "42703", "select freshet.alter_sink('there', filter => 'nosuch')"},
		refusal{"alter to a bad key", "key: ", "42703", "select freshet.alter_sink('there', key => 'x:${nosuch}')"},
		refusal{"alter of columns beside a value", "columns: ", "22023", "select freshet.alter_sink('there', columns => '{id}', value => 'id')"},
		refusal{"alter to no key of its own", "key: ", "22023", "select freshet.alter_sink('there', key => 'x:${name}')"},
		refusal{"alter with no backfill of nothing", "backfill: ", "22023", "select freshet.alter_sink('there', backfill => false)"},
		refusal{"alter to no targets", "targets: ", "22023", "select freshet.alter_sink('there', targets => '{}')"},
		refusal{"alter of unknown", "sink: ", "42704", "select freshet.alter_sink('nosuch', adopt => true)"},
		refusal{"no shards", "shards: ", "22023", "select freshet.create_sink('users', 'users', shards => 0)"},
		refusal{"null shards", "shards: ", "22023", "select freshet.create_sink('users', 'users', shards => null)"},
		refusal{"too many shards", "shards: ", "22023", "select freshet.create_sink('users', 'users', shards => 65)"},
		refusal{"unknown answer to a schema change", "on_schema_change: ", "22023", "select freshet.create_sink('users', 'users', on_schema_change => 'stop')"},
		refusal{"no answer to a schema change", "on_schema_change: ", "22023", "select freshet.create_sink('users', 'users', on_schema_change => null)"},
		refusal{"short max_lag", "max_lag: ", "22023", "select freshet.create_sink('users', 'users', max_lag => '1 s')"},
		refusal{"null max_lag", "max_lag: ", "22023", "select freshet.create_sink('users', 'users', max_lag => null)"},
		refusal{"low max_pending", "max_pending: ", "22023", "select freshet.create_sink('users', 'users', max_pending => 10)"},
		refusal{"alter to short max_lag", "max_lag: ", "22023", "select freshet.alter_sink('there', max_lag => '1 s')"},
		refusal{"no rate", "max_rate: ", "22023", "select freshet.create_sink('users', 'users', max_rate => 0)"},
		refusal{"alter to no shards", "shards: ", "22023", "select freshet.alter_sink('there', shards => -1)"},
		refusal{"alter to no rate", "max_rate: ", "22023", "select freshet.alter_sink('there', max_rate => -1)"},
		refusal{"reset of what cannot be", "reset: ", "22023", "select freshet.alter_sink('there', reset => '{nosuch,max_rate}')"},
		refusal{"reset and set", "reset: ", "22023", "select freshet.alter_sink('there', max_rate => 10, reset => '{max_rate}')"},
		refusal{"no targets", "targets: ", "22023", "select freshet.create_sink('users', 'users', targets => '{}')"},
		refusal{"null targets", "targets: ", "22023", "select freshet.create_sink('users', 'users', targets => null)"},
		refusal{"negative expires", "expires: ", "22023", "select freshet.create_sink('users', 'users', expires => '-1 s')"},
		refusal{"expires out of reach", "expires: 300 years is more than 200 years", "22023", "select freshet.create_sink('users', 'users', expires => '300 years')"},
		refusal{"alter to expires out of reach", "expires: ", "22023", "select freshet.alter_sink('there', expires => '100000 years')"},
		refusal{"lower without its index", "key: ", "22023", "select freshet.create_sink('users', 'users', key => 'u:${email|lower}')"},
		refusal{"unknown modifier", "key: ", "22023", "select freshet.create_sink('users', 'users', key => 'u:${email|upper}')"},
	)
	e.refuses(conn, refusals)
}

func TestBadNamesAndSourcesAreRefused(t *testing.T) {
	e, conn := argumentsEnv(t)
	e.exec("select freshet.create_sink('taken', 'users', key => 'taken:${id}')")
	var refusals []refusal
	for _, name := range []string{"", "Users", "1st", "_users", "us-ers", "us ers", "users\n", "ü", "a.b", `a";--`, strings.Repeat("a", 49)} {
		refusals = append(refusals, refusal{fmt.Sprintf("name %q", name), "name: ", "22023",
			"select freshet.create_sink(" + quoted(name) + ", 'users')"})
	}
	refusals = append(refusals, []refusal{
		{"null name", "name: ", "22023", "select freshet.create_sink(null, 'users')"},
		{"name taken", "name: ", "42710", "select freshet.create_sink('taken', 'users')"},
		{"null source", "source: ", "22023", "select freshet.create_sink('users', null)"},
		{"unknown source", `relation "nosuch" does not exist`, "42P01", "select freshet.create_sink('users', 'nosuch')"},
		{"unknown oid", "source: ", "42P01", "select freshet.create_sink('users', 4000000000::oid::regclass)"},
		{"view", "source: ", "42809", "select freshet.create_sink('users', 'users_view', key => 'v:${id}')"},
		{"materialized view", "source: ", "42809", "select freshet.create_sink('users', 'users_copy', key => 'v:${id}')"},
		{"sequence", "source: ", "42809", "select freshet.create_sink('users', 'numbers')"},
		{"index", "source: ", "42809", "select freshet.create_sink('users', 'users_pkey')"},
		{"partition", "source: ", "42809", "select freshet.create_sink('users', 'parted_one')"},
		{"parent", "source: ", "42809", "select freshet.create_sink('users', 'parent')"},
		{"child", "source: ", "42809", "select freshet.create_sink('users', 'child')"},
		{"unlogged", "source: ", "42809", "select freshet.create_sink('users', 'fleeting')"},
		{"catalog", "source: ", "42809", "select freshet.create_sink('users', 'pg_class', key => 'x:${oid}')"},
		{"own table", "source: ", "42809", "select freshet.create_sink('users', 'freshet.sink')"},
		{"no primary key", "source: ", "22023", "select freshet.create_sink('users', 'nokey')"},
		{"drop of unknown", `sink: there is no sink "nosuch"`, "42704", "select freshet.drop_sink('nosuch')"},
		{"drop of null", "sink: ", "42704", "select freshet.drop_sink(null)"},
		{"backfill of unknown", `sink: there is no sink "nosuch"`, "42704", "select freshet.backfill('nosuch')"},
	}...)
	e.refuses(conn, refusals)

	// A temporary table is its session's own.
	if _, err := conn.Exec(t.Context(), "create temp table passing (id bigint primary key)"); err != nil {
		t.Fatal(err)
	}
	e.refuses(conn, []refusal{{"temporary", "source: ", "42809", "select freshet.create_sink('users', 'passing')"}})
}

// quoted is a string literal.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func TestBadKeysAndColumnsAreRefused(t *testing.T) {
	e, conn := argumentsEnv(t)
	e.exec("select freshet.create_sink('taken', 'users', key => 'taken:${id}')")
	key := func(source, key string) string {
		return "select freshet.create_sink('users', " + quoted(source) + ", key => " + quoted(key) + ")"
	}
	columns := func(list string) string {
		return "select freshet.create_sink('users', 'users', columns => " + list + ")"
	}
	e.refuses(conn, []refusal{
		{"unknown column in key", "key: ", "42703", key("users", "u:${nosuch}")},
		{"other case", "key: ", "42703", key("users", "u:${ID}")},
		{"system column", "key: ", "42703", key("users", "u:${ctid}")},
		{"no column", "key: ", "22023", key("users", "users")},
		{"empty key", "key: ", "22023", key("users", "")},
		{"escaped column", "key: ", "22023", key("users", "u:$${id}")},
		{"empty column", "key: ", "22023", key("users", "u:${}")},
		{"unclosed column", "key: ", "22023", key("users", "u:${id")},
		{"column that is not unique", "key: ", "22023", key("users", "u:${name}")},
		{"no unique index", "key: ", "22023", key("nokey", "n:${id}")},
		{"partial unique index", "key: ", "22023", key("partial", "n:${id}")},
		{"expression index", "key: ", "22023", key("expression", "n:${name}")},
		{"part of the primary key", "key: ", "22023", key("mixed", "m:${tenant}")},
		{"several text columns", "key: ", "22023", key("pairs", "p:${tenant}:${slug}")},
		{"no separator", "key: ", "22023", key("adjacent", "a:${a}${b}")},
		{"separator that is a digit", "key: ", "22023", key("adjacent", "a:${a}0${b}")},
		{"separator that is a minus", "key: ", "22023", key("adjacent", "a:${a}-${b}")},
		{"key taken", "key: ", "42710", key("users", "taken:${id}")},
		{"key taken by other columns", "key: ", "42710", key("users", "taken:${email}")},
		{"key taken for another table", "key: ", "42710", key("others", "taken:${id}")},
		{"unknown column", "columns: ", "42703", columns("'{id,nosuch}'")},
		{"every unknown column", "columns: ", "42703", columns("'{nosuch,other}'")},
		{"system column in columns", "columns: ", "42703", columns("'{id,xmin}'")},
		{"duplicate column", "columns: ", "42701", columns("'{id,name,id}'")},
		{"empty columns", "columns: ", "22023", columns("'{}'")},
		{"null column", "columns: ", "", columns("array['id', null]")},
		{"nested columns", "columns: ", "", columns("array[array['id'], array['nosuch']]")},
	})
}

func TestBadFiltersAreRefused(t *testing.T) {
	e, conn := argumentsEnv(t)
	filter := func(text string) string {
		return "select freshet.create_sink('users', 'users', filter => " + quoted(text) + ")"
	}
	var refusals []refusal
	for name, text := range map[string]string{
		"empty":                   "",
		"blank":                   " \n\t",
		"unknown column":          "nosuch = 1",
		"unknown table":           "other.id = 1",
		"unknown function":        "nosuch(id)",
		"number":                  "id",
		"text":                    "name",
		"syntax":                  "id = ",
		"two conditions":          "true, true",
		"aggregate":               "count(*) > 1",
		"window":                  "row_number() over () = 1",
		"set":                     "generate_series(1, 2) = 1",
		"parameter":               "id = $1",
		"closed and opened":       "true) or (true",
		"closed and opened twice": "true)) or ((true",
		"closed twice and true":   "true)) is true or ((true",
		"comment that hides":      "true)) --",
		"open comment":            "true /*",
		"two statements":          "true; drop table users",
		"hidden statement":        "true)) is true; drop table users; select ((true",
		"hidden creation":         "true)) is true; create table evil (); select ((true",
		"hidden commit":           "true)) is true; commit; select ((true",
		"only a comment":          "-- nothing",
		"open quote":              "name = 'x",
		"open dollar quote":       "name = $$x",
		"open identifier":         `"id = 1`,
		"order by":                "true order by id",
		"limit":                   "true limit 1",
		"union":                   "true)) is true union all select from users where ((true",
		"group by":                "true)) is true group by ((id",
		"for update":              "true)) is true for update; select ((true",
	} {
		refusals = append(refusals, refusal{name, "filter: ", "", filter(text)})
	}
	e.refuses(conn, refusals)
	if n := one[int](e, "select count(*) from users"); n != 10 {
		t.Errorf("users has %d rows", n)
	}
}

// A filter is one condition, whatever it contains: comments, quotes and parentheses
// stay inside of it.
func TestFiltersStayWhatTheyAre(t *testing.T) {
	e, conn := argumentsEnv(t)
	promise := map[string]string{
		"id < 5 -- or not":                   "id < 5",
		"id < 5 /* or not */":                "id < 5",
		"id < 3 or id > 8":                   "id < 3 or id > 8",
		"(id < 3) or (id > 8)":               "id < 3 or id > 8",
		"name <> ')) or ((' and id = 2":      "id = 2",
		"users.id = 4":                       "id = 4",
		"null::boolean":                      "false",
		"twice(id) = 4":                      "id = 2",
		"id in (select 3) -- subqueries":     "id = 3",
		"id = any (array[1, 2])":             "id in (1, 2)",
		"case when id = 1 then true end":     "id = 1",
		"name = $q$user$q$ and id = 7 /* */": "id = 7",
		"exists (select from users u where u.id = users.id + 1) and id > 8": "id = 9",
	}
	n := 0
	sinks := make(map[string]string)
	for filter, meaning := range promise {
		n++
		sink := fmt.Sprintf("sink_%d", n)
		sinks[sink] = meaning
		if _, err := conn.Exec(t.Context(), "select freshet.create_sink($1::text, 'users', key => $1::text || ':${id}', columns => '{id}', filter => $2, accept_drift => true)", sink, filter); err != nil {
			t.Errorf("%s: %v", filter, err)
			delete(sinks, sink)
		}
	}
	e.start()
	e.settle()
	check := func() {
		for sink, meaning := range sinks {
			e.inStep(sink+":*", fmt.Sprintf("select '%s:' || id, jsonb_build_object('id', id)::text from users where %s", sink, meaning))
		}
	}
	check() // by the backfill
	e.exec("update users set name = name")
	e.settle()
	check() // by the lane
}

func TestOnlyTheOwnerMayCreateAndDrop(t *testing.T) {
	e, _ := argumentsEnv(t)
	e.exec("select freshet.create_sink('owned', 'users', key => 'owned:${id}')")
	stranger := e.login("stranger", "freshet_admin")
	e.exec("grant all on table users to " + stranger.role())
	e.refuses(stranger.Conn, []refusal{
		{"create", "source: only the owner", "42501", "select freshet.create_sink('users', 'users')"},
		{"drop", "name: only the owner", "42501", "select freshet.drop_sink('owned')"},
	})
}

// A call that failed costs a transaction nothing once it is rolled back to a savepoint,
// and one that succeeded leaves the session's settings as they were.
func TestCallsLeaveTheSessionAsItWas(t *testing.T) {
	e, conn := argumentsEnv(t)
	ctx := t.Context()
	exec := func(sql string) error {
		_, err := conn.Exec(ctx, sql)
		return err
	}
	settings := func() (path, timeout string) {
		if err := conn.QueryRow(ctx, "select current_setting('search_path'), current_setting('lock_timeout')").Scan(&path, &timeout); err != nil {
			t.Fatal(err)
		}
		return path, timeout
	}
	for _, sql := range []string{"set search_path = public, pg_temp", "set lock_timeout = '7s'", "begin"} {
		if err := exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	before := e.footprint(conn)
	if err := exec("savepoint s"); err != nil {
		t.Fatal(err)
	}
	if err := exec("select freshet.create_sink('users', 'users', filter => 'nosuch')"); err == nil {
		t.Fatal("a bad filter was accepted")
	}
	if err := exec("rollback to s"); err != nil {
		t.Fatal(err)
	}
	for name, n := range e.footprint(conn) {
		if before[name] != n {
			t.Errorf("%s had %d rows and has %d", name, before[name], n)
		}
	}
	if err := exec("select freshet.create_sink('users', 'users', filter => 'active')"); err != nil {
		t.Fatal(err)
	}
	if path, timeout := settings(); path != "public, pg_temp" || timeout != "7s" {
		t.Errorf("after create_sink search_path is %q and lock_timeout %q", path, timeout)
	}
	if err := exec("select freshet.drop_sink('users')"); err != nil {
		t.Fatal(err)
	}
	if path, timeout := settings(); path != "public, pg_temp" || timeout != "7s" {
		t.Errorf("after drop_sink search_path is %q and lock_timeout %q", path, timeout)
	}
	if err := exec("rollback"); err != nil {
		t.Fatal(err)
	}
	for name, n := range e.footprint(conn) {
		if before[name] != n {
			t.Errorf("after the rollback %s had %d rows and has %d", name, before[name], n)
		}
	}
}

func TestOddNamesWork(t *testing.T) {
	e, _ := argumentsEnv(t)
	e.exec(`insert into "Odd ""name""" values (1, 'x'), (2, null)`)
	e.exec(`select freshet.create_sink('odd', '"Odd ""name"""')`)
	e.exec(`select freshet.create_sink('filtered', '"Odd ""name"""', key => 'filtered:${Id}', filter => '"Odd ""name"""."Id" = 2')`)
	e.start()
	e.exec(`update "Odd ""name""" set "a${b}" = 'changed'`)
	e.settle()
	e.inStep("Odd*", `select 'Odd "name":' || "Id", to_jsonb(o)::text from "Odd ""name""" o`)
	e.inStep("filtered:*", `select 'filtered:' || "Id", to_jsonb(o)::text from "Odd ""name""" o where "Id" = 2`)
}
