package render

import (
	"fmt"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/render/rendertest"
)

// TestEveryTypeEqualToPostgres takes the types from the catalog, so that none is forgotten.
func TestEveryTypeEqualToPostgres(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	exec(t, conn, rendertest.Definitions)
	types, err := rendertest.Types(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if len(types) < 500 {
		t.Fatalf("the catalog is said to have only %d types", len(types))
	}
	for _, typ := range append(types, rendertest.Modified()...) {
		t.Run(typ.SQL, func(t *testing.T) {
			c := describe(t, conn, "v", typ.SQL)
			compare(t, conn, []Column{c}, fmt.Sprintf("from (values (null::%s), (%s)) t (v)", typ.SQL, strings.Join(append(typ.Values, "null"), "), (")))
		})
	}
}

// TestTextsOfKeysReadBackUnderAnySettings: a place in a backfill and a touched key are kept as text, which functions cast
// back in whatever session they are called from. Only the two settings that those functions pin change what it means.
func TestTextsOfKeysReadBackUnderAnySettings(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	exec(t, conn, rendertest.Definitions)
	types, err := rendertest.Types(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "set lc_monetary = 'C'; set array_nulls = on")
	// The text of a value in this session, whatever the session has.
	exec(t, conn, `create function printed(v anyelement) returns text language sql set timezone = 'UTC' set datestyle = 'ISO' set intervalstyle = 'postgres'
		set bytea_output = 'hex' set extra_float_digits = 1 as 'select v::text'`)
	n := 0
	for _, typ := range types {
		// create_sink refuses keys that print names. An array reads its elements as they are read by themselves.
		if len(typ.Values) == 0 || strings.Contains(typ.SQL, "reg") || strings.HasSuffix(typ.SQL, "[]") && typ.SQL != "interval[]" && typ.SQL != "text[]" ||
			strings.HasPrefix(typ.SQL, "information_schema.") || strings.HasPrefix(typ.SQL, "pg_") && typ.SQL != "pg_lsn" {
			continue
		}
		// Only what can be indexed can be a key.
		if _, err := conn.Exec(t.Context(), "create temp table keyed (k "+typ.SQL+" primary key); drop table keyed"); err != nil {
			continue
		}
		n++
		exec(t, conn, "create temp table texts as select printed(v) as printed from (values ("+strings.Join(typ.Values, "), (")+")) t (v)")
		for _, settings := range []string{
			"set timezone = 'America/St_Johns'; set datestyle = 'SQL, DMY'; set intervalstyle = 'sql_standard'; set bytea_output = 'escape'; set extra_float_digits = -15",
			"set timezone = 'Asia/Kathmandu'; set datestyle = 'German'; set intervalstyle = 'iso_8601'",
			"set datestyle = 'Postgres, MDY'; set intervalstyle = 'postgres_verbose'; set standard_conforming_strings = off",
		} {
			exec(t, conn, settings)
			var wrong *string
			if err := conn.QueryRow(t.Context(), "select min(printed) from texts where printed(printed::"+typ.SQL+") is distinct from printed").Scan(&wrong); err != nil {
				t.Fatalf("%s, %s: %v", typ.SQL, settings, err)
			}
			if wrong != nil {
				t.Errorf("%s: %q is read as something else after %s", typ.SQL, *wrong, settings)
			}
			exec(t, conn, "reset timezone; reset datestyle; reset intervalstyle; reset bytea_output; reset extra_float_digits; reset standard_conforming_strings")
		}
		exec(t, conn, "drop table texts")
	}
	if n < 50 {
		t.Errorf("only %d types were compared", n)
	}
}

func TestWholeRowsEqualToPostgres(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	exec(t, conn, `create table render_rows (
		id bigint, "na""me" text, "back\slash" int, "über" date, "tab	line
feed" bool, "Upper Case" numeric(10,2), "'" jsonb, tags text[], at timestamptz)`)
	exec(t, conn, `insert into render_rows values
		(1, 'a', 2, '2026-01-01', true, 3, '{"k": [1]}', '{a,b}', '2026-01-01 10:00+00'),
		(2, null, null, null, null, null, null, null, null),
		(3, '', 0, 'infinity', false, 'NaN', 'null', '{}', '-infinity')`)
	var columns []Column
	for _, c := range [][2]string{{"id", "int8"}, {`na"me`, "text"}, {`back\slash`, "int4"}, {"über", "date"}, {"tab\tline\nfeed", "bool"},
		{"Upper Case", "numeric"}, {"'", "jsonb"}, {"tags", "text[]"}, {"at", "timestamptz"}} {
		columns = append(columns, describe(t, conn, c[0], c[1]))
	}
	compare(t, conn, columns, "from render_rows t")
	compare(t, conn, columns[2:5], "from render_rows t")
}
