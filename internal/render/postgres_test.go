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
