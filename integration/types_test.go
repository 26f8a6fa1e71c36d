package integration

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/freshet/freshet/internal/render/rendertest"
)

// pinned opens a connection with the settings under which entries are rendered: what to_jsonb says there is what the
// entries have to be.
func (e *env) pinned() *pgx.Conn {
	e.t.Helper()
	return e.connectWith(map[string]string{
		"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres", "bytea_output": "hex", "extra_float_digits": "1", "lc_monetary": "C",
		"quote_all_identifiers": "off", "search_path": "pg_catalog, public",
	})
}

// connectWith opens a connection with these settings.
func (e *env) connectWith(settings map[string]string) *pgx.Conn {
	e.t.Helper()
	config, err := pgx.ParseConfig(e.databaseURL)
	if err != nil {
		e.t.Fatal(err)
	}
	for name, value := range settings {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(e.t.Context(), config)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// sameAsRows has Postgres compare the entries table:id with the rows: every member equal to to_jsonb of its column,
// numbers with all their digits.
func (e *env) sameAsRows(conn *pgx.Conn, table string) {
	e.t.Helper()
	ctx := e.t.Context()
	keys := e.redis.Keys(ctx, table+":*").Val()
	slices.Sort(keys)
	var ids []int64
	var values []string
	for _, key := range keys {
		id, err := strconv.ParseInt(strings.TrimPrefix(key, table+":"), 10, 64)
		if err != nil {
			e.t.Fatalf("key %s: %v", key, err)
		}
		ids, values = append(ids, id), append(values, e.entry(key))
	}
	rows, err := conn.Query(ctx, fmt.Sprintf(`
		with pair as materialized (
			select coalesce(t.id, g.id) as id, g.value::jsonb as got, to_jsonb(t) as want
			from unnest($1::bigint[], $2::text[]) as g (id, value)
			full join %s t on t.id = g.id
		)
		select id, coalesce(m.key, ''), left(got ->> m.key, 200), left(want ->> m.key, 200)
		from pair
		left join lateral (
			select key from jsonb_each(got) as a full join jsonb_each(want) as b using (key)
			where a.value::text is distinct from b.value::text
		) m on true
		where got::text is distinct from want::text
		limit 5`, table), ids, values)
	if err != nil {
		e.t.Fatal(err)
	}
	var id int64
	var member string
	var got, want *string
	if _, err := pgx.ForEachRow(rows, []any{&id, &member, &got, &want}, func() error {
		show := func(s *string) string {
			if s == nil {
				return "nothing"
			}
			return strconv.Quote(*s)
		}
		e.t.Errorf("%s:%d %s: got %s, want %s", table, id, member, show(got), show(want))
		return nil
	}); err != nil {
		e.t.Fatal(err)
	}
	if len(ids) == 0 {
		e.t.Errorf("%s has no entries", table)
	}
}

// TestEveryTypeFollowsItsRow has a column for every type of the catalog, backfilled and changed while a worker runs.
func TestEveryTypeFollowsItsRow(t *testing.T) {
	e := newEnv(t).admin() // row types of the catalog are not for everybody
	e.exec(rendertest.Definitions)
	conn := e.pinned()
	types, err := rendertest.Types(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	types = append(types, rendertest.Modified()...)

	// More columns than this, and a row of them might not fit into a page.
	const width = 120
	var tables, columnLists []string
	for batch := range slices.Chunk(types, width) {
		table := fmt.Sprintf("types_%d", len(tables))
		var definition, columns strings.Builder
		depth := 0
		for i, typ := range batch {
			fmt.Fprintf(&definition, ", c%d %s", i, typ.SQL)
			fmt.Fprintf(&columns, ", c%d", i)
			depth = max(depth, len(typ.Values))
		}
		e.exec(fmt.Sprintf("create table %s (id bigint primary key%s)", table, definition.String()))
		for n := range depth {
			values := make([]string, len(batch))
			for i, typ := range batch {
				if values[i] = "null"; n < len(typ.Values) {
					values[i] = typ.Values[n]
				}
			}
			e.exec(fmt.Sprintf("insert into %s values (%d, %s)", table, n, strings.Join(values, ", ")))
		}
		e.exec(fmt.Sprintf("insert into %s (id) values (-1)", table))
		e.exec("select freshet.create_sink($1::text, $1::text::regclass)", table)
		tables, columnLists = append(tables, table), append(columnLists, columns.String())
	}
	e.start()
	e.settle()
	for _, table := range tables {
		e.sameAsRows(conn, table)
	}
	for i, table := range tables {
		// Every row takes the values of its neighbour, and the first ones come again under other keys.
		columns := columnLists[i]
		e.exec(fmt.Sprintf("update %[1]s t set (%[2]s) = (select %[2]s from %[1]s n where n.id = t.id - 1)", table, columns[2:]))
		e.exec(fmt.Sprintf("insert into %[1]s (id%[2]s) select id + 1000%[2]s from %[1]s where id < 8", table, columns))
		e.exec(fmt.Sprintf("delete from %s where id = 3", table))
	}
	e.settle()
	for _, table := range tables {
		e.sameAsRows(conn, table)
	}
}

// TestLargeValues has values of ten megabytes: text full of what JSON escapes, bytes, and a document of many members.
func TestLargeValues(t *testing.T) {
	e := newEnv(t)
	const size = 10 << 20
	e.exec("create table large (id bigint primary key, words text, raw bytea, doc jsonb)")
	insert := func(id int) {
		e.exec(`insert into large select $1::bigint,
			repeat($1 || E' "quoted" \\ \n\t\x01 é🙂 ', $2::int / 24),
			convert_to(repeat($1 || E'\\ \x01 é', $2 / 8), 'UTF8'),
			(select jsonb_object_agg('key ' || n, jsonb_build_array($1, n, 1.10, null, repeat('é"', 400))) from generate_series(1, $2 / 1240) n)`, id, size)
	}
	insert(1)
	e.exec("select freshet.create_sink('large', 'large')")
	e.start()
	e.settle()
	conn := e.pinned()
	e.sameAsRows(conn, "large")
	if n := len(e.entry("large:1")); n < 4*size {
		t.Errorf("the entry has only %d bytes", n)
	}

	insert(2)
	e.exec("delete from large where id = 1")
	e.settle()
	e.sameAsRows(conn, "large")
}
