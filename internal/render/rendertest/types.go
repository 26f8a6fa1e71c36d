package rendertest

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Definitions makes one type of each sort that users make, and what the values of some types are taken from. They are
// in the schema public.
const Definitions = `
create type mood as enum ('fine', 'so "so"', 'größer', '', 'back\slash');
create type pair as (id int, label text);
create type nest as (p pair, ps pair[], m mood, ms mood[], n numeric, f float8, at timestamptz, raw bytea, doc jsonb, r int4range, "Odd ""name" text);
create domain price as numeric check (value < 1e9);
create domain label as char(5);
create domain whole as int4;
create domain nested as whole;
create domain tags as text[];
create domain moods as mood;
create domain span as tstzrange;
create domain spot as pair;
create type floatrange as range (subtype = float8);
create type textrange as range (subtype = text, collation = "C");
create table counted (a int default 1, b int);
create statistics counted_statistics (ndistinct, dependencies, mcv) on a, b from counted;
insert into counted select n % 5, n % 5 from generate_series(1, 100) n;
analyze counted;`

// userTypes are the values of the types in Definitions, as expressions.
var userTypes = map[string][]string{
	"mood": {`'fine'::mood`, `'so "so"'::mood`, `'größer'::mood`, `''::mood`, `'back\slash'::mood`},
	"pair": {`row(1, 'a "b" \c,(d)')::pair`, `row(null, '')::pair`, `row(null, null)::pair`},
	"nest": {`row(row(1, 'é'), array[row(2, null), null]::pair[], 'fine', '{fine,NULL}', 1.00, 1e23, '2026-01-01 10:00+02', '\x00ff', '{"a": 1.0}', '[1,2]', E'\x01')::nest`,
		`row(null, '{}', 'größer', '[0:1]={fine,fine}', 'NaN', '-Infinity', 'infinity', '', 'null', 'empty', null)::nest`},
	"price": {"1.00::price", "'-Infinity'::price"}, "label": {"'abc'::label", "''::label"}, "whole": {"7::whole"}, "nested": {"-7::nested"},
	"tags": {`array['a', null, 'b"c']::tags`, `'{}'::tags`, `'[5:6]={x,y}'::tags`}, "moods": {"'größer'::moods"},
	"span": {`'["2026-01-01 10:00+05:30",)'::span`}, "spot": {`row(1, 'a')::spot`},

	"cardinal_number": {"0::information_schema.cardinal_number", "2147483647::information_schema.cardinal_number"},
	"character_data":  {`'a "b"'::information_schema.character_data`}, "sql_identifier": {"'users'::information_schema.sql_identifier"},
	"time_stamp": {"'2026-11-22 12:34:56.78+00'::information_schema.time_stamp"}, "yes_or_no": {"'YES'::information_schema.yes_or_no"},
}

// Type is a type with values of it.
type Type struct {
	// SQL is its name as it can be written in a cast.
	SQL string
	// Values are expressions; null, which every type has, is not among them.
	Values []string
}

// Modified are types with a length or a precision, as columns have them.
func Modified() []Type {
	list := []Type{
		{"numeric(12,2)", []string{"0", "1", "19.99", "-0.01", "9999999999.99"}}, {"numeric(1000,500)", []string{strings.Repeat("9", 500) + ".1"}},
		{"numeric(3,-2)", []string{"12345", "-99949"}}, {"numeric(2,5)", []string{"0.00012"}},
		{"varchar(3)", []string{"", "a", "äöü", "a  "}}, {"char(8)", []string{"", "a", "  b", `äö"`, "12345678", "\n"}}, {"bit(3)", []string{"101"}}, {"varbit(9)", []string{"", "10"}},
		{"timestamp(3)", []string{"2026-11-22 12:34:56.1234"}}, {"timestamptz(0)", []string{"2026-11-22 12:34:56.5+00"}}, {"time(2)", []string{"12:34:56.789"}},
		{"interval day to second(1)", []string{"1 day 02:03:04.56"}}, {"interval year", []string{"18 mons"}}, {"char(4)[]", []string{`{a,NULL,"b "}`}}, {"numeric(9,3)[]", []string{"{1,2.5}"}},
	}
	for i := range list {
		list[i].Values = cast(list[i].Values, list[i].SQL)
	}
	return list
}

// Types asks the catalog for every type that a column may have: Postgres' own and those of Definitions. A type
// without values here is an error.
func Types(ctx context.Context, conn *pgx.Conn) ([]Type, error) {
	if _, err := conn.Exec(ctx, columnable); err != nil {
		return nil, fmt.Errorf("define columnable: %w", err)
	}
	rows, err := conn.Query(ctx, `
		with pseudo as materialized (
			select oid from pg_type where typtype = 'p' or typtype = 'c' and not pg_temp.columnable(oid)
		)
		select t.oid::bigint, t.typname, t.typtype::text, format_type(t.oid, -1), coalesce(a.oid::bigint, 0),
		       coalesce(c.relnatts, 0), case when c.relkind = 'r' and n.nspname = 'pg_catalog' then c.oid::regclass::text else '' end
		from pg_type t
		join pg_namespace n on n.oid = t.typnamespace
		left join pg_type a on a.typarray = t.oid
		left join pg_class c on c.oid = t.typrelid
		where n.nspname in ('pg_catalog', 'information_schema', 'public') and t.typtype <> 'p'
		  and not exists (select from pseudo where pseudo.oid in (t.oid, a.oid))
		-- An array comes after what it is made of.
		order by a.oid is not null, t.oid`)
	if err != nil {
		return nil, fmt.Errorf("list types: %w", err)
	}
	var (
		list []Type
		of   = make(map[int64][]string)
		r    struct {
			oid, element              int64
			name, kind, sql, relation string
			attributes                int16
		}
	)
	_, err = pgx.ForEachRow(rows, []any{&r.oid, &r.name, &r.kind, &r.sql, &r.element, &r.attributes, &r.relation}, func() error {
		var values []string
		literals, isScalar := scalars[r.name]
		expressions, isMade := made[r.name]
		named, isUsers := userTypes[r.name]
		switch {
		case r.element != 0:
			values = arrays(r.sql, of[r.element])
		case isScalar:
			values = cast(literals, r.sql)
		case isMade:
			values = expressions
		case isUsers:
			values = named
		case r.kind == "c":
			values = rowsOf(r.sql, int(r.attributes), r.relation)
		default:
			return fmt.Errorf("there are no values of the type %s", r.sql)
		}
		of[r.oid] = values
		list = append(list, Type{r.sql, values})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list types: %w", err)
	}
	return list, nil
}

// columnable has Postgres say whether a column may have a composite type: not if there is a pseudo-type inside.
const columnable = `
create or replace function pg_temp.columnable(type oid) returns boolean language plpgsql as $$
begin
    execute format('create temp table probe (c %s)', format_type(type, -1));
    drop table probe;
    return true;
exception when invalid_table_definition then
    return false;
end
$$`

func cast(literals []string, sqlType string) []string {
	out := make([]string, len(literals))
	for i, l := range literals {
		out[i] = "'" + strings.ReplaceAll(l, "'", "''") + "'::" + sqlType
	}
	return out
}

// arrays are arrays of these elements in every shape: empty, with nulls, of two dimensions, with bounds of their own.
func arrays(sqlType string, elements []string) []string {
	element := strings.TrimSuffix(sqlType, "[]")
	null := "null::" + element
	values := []string{"'{}'::" + sqlType, "pg_catalog.array_fill(" + null + ", array[2])"}
	if len(elements) == 0 {
		return values
	}
	first := elements[:min(len(elements), 6)]
	one, last := first[0], first[len(first)-1]
	values = append(values, fmt.Sprintf("pg_catalog.array_fill(%s, array[2, 1], array[-1, 5])", last))
	if element == "int2vector" || element == "oidvector" {
		return values // array[…] of what is an array itself would have another type
	}
	return append(values,
		fmt.Sprintf("array[%s]", strings.Join(first, ", ")),
		fmt.Sprintf("array[%s, %s, %s]", null, one, null),
		fmt.Sprintf("array[[%s, %s], [%s, %s]]", one, null, last, one))
}

// rowsOf are rows of a composite type: one of nulls, and some of the catalog that it is the row type of.
func rowsOf(sqlType string, attributes int, relation string) []string {
	values := []string{fmt.Sprintf("'(%s)'::%s", strings.Repeat(",", attributes-1), sqlType)}
	if relation != "" {
		values = append(values, fmt.Sprintf("(select t from %s t limit 1)", relation), fmt.Sprintf("(select t from %s t offset 3 limit 1)", relation))
	}
	return values
}
