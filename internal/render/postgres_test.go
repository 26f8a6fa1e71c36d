package render

import (
	"fmt"
	"strings"
	"testing"
)

// extremes are literals per type. The types at the end have no decoder here and go through Postgres.
var extremes = []struct {
	sqlType  string
	literals []string
}{
	{"bool", []string{"t", "f"}},
	{"int2", []string{"0", "-1", "32767", "-32768"}},
	{"int4", []string{"0", "7", "-1", "2147483647", "-2147483648"}},
	{"int8", []string{"0", "-1", "9007199254740993", "9223372036854775807", "-9223372036854775808"}},
	{"oid", []string{"0", "42", "4294967295"}},
	{"float4", []string{"0", "-0", "1", "0.1", "1.5", "-1e-7", "3.4028235e38", "1e-45", "1.17549435e-38", "16777216", "16777217",
		"33554432", "8388608.5", "1e15", "1e16", "1e10", "3.355444e7", "9.9999998e22", "NaN", "Infinity", "-Infinity", "123456.789"}},
	{"float8", []string{"0", "-0", "1", "0.1", "0.3", "-1e-7", "1e20", "1e21", "1e22", "1e23", "-1e23", "9e22", "1.7976931348623157e308",
		"5e-324", "2.2250738585072014e-308", "9007199254740992", "9007199254740993", "9007199254740994", "18014398509481984",
		"123456789012345680", "4503599627370496.5", "1e15", "1e16", "1e17", "0.0001", "0.00001", "NaN", "Infinity", "-Infinity", "8.5e-5"}},
	{"numeric", []string{"0", "0.0", "0.000000", "1", "1.00", "-1.5", "100", "10000", "99999999", "100000000", "0.0001", "0.00001", "0.00010001",
		"1e-20", "1e20", "123456789.987654321", "-0.5", "12345.60000", "1e1000", "1e-1000", "NaN", "Infinity", "-Infinity",
		strings.Repeat("9", 1000), "0." + strings.Repeat("0", 700) + "1", strings.Repeat("1234567890", 100) + "." + strings.Repeat("0", 1000),
		"1e131071", "1e-16383", "10000.0001", "100000000.0000000100000000"}},
	{"numeric(12,2)", []string{"0", "1", "19.99", "-0.01", "9999999999.99"}},
	{"text", awkwardText},
	{"varchar", awkwardText},
	{"varchar(3)", []string{"", "a", "äöü", "a  "}},
	{"char(8)", []string{"", "a", "  b", "äö\"", "12345678", "\n"}},
	{"name", []string{"", "users", `we"ird`}},
	{`"char"`, []string{"", "a", "\"", "\\", "\t"}},
	{"uuid", []string{"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "01234567-89ab-cdef-0123-456789abcdef"}},
	{"bytea", []string{`\x`, `\x00`, `\x00ff7f80`, `\x` + strings.Repeat("de", 5000)}},
	{"date", []string{"2000-01-01", "1999-12-31", "2000-02-29", "1900-02-28", "1900-03-01", "2100-02-28", "1970-01-01", "0001-01-01",
		"0001-12-31 BC", "0001-02-29 BC", "0044-03-15 BC", "4714-11-24 BC", "9999-12-31", "10000-01-01", "5874897-12-31", "infinity", "-infinity"}},
	{"time", []string{"00:00", "24:00", "23:59:59.999999", "12:34:56.1", "00:00:00.000001", "01:02:03.120"}},
	{"timestamp", timestamps}, {"timestamptz", timestamps},
	{"timestamp(3)", []string{"2026-11-22 12:34:56.1234"}}, {"timestamptz", []string{"2026-11-22 12:34:56.1+05:30"}},
	{"json", documents}, {"jsonb", documents},
	{"json", []string{`{"a":1,"a":2}`, ` [1 , 2 ] `, "{\n\"b\": 1e2}"}},
	{"render_mood", []string{"fine", `so "so"`, "größer", ""}},
	{"render_price", []string{"1.00", "-2.5"}}, {"render_label", []string{"abc  ", "x"}}, {"render_nested", []string{"7"}},

	{"interval", []string{"1 day 02:03:04.5", "-1 mon", "0", "178000000 years"}},
	{"timetz", []string{"12:34:56+02"}}, {"money", []string{"12.50", "-3"}},
	{"inet", []string{"10.0.0.1", "::1/64"}}, {"cidr", []string{"10.0.0.0/8"}}, {"macaddr", []string{"08:00:2b:01:02:03"}},
	{"bit(3)", []string{"101"}}, {"varbit", []string{"", "1"}}, {"xml", []string{`<a b="c">d</a>`}},
	{"tsvector", []string{`'a':1 'b "c"':2`}}, {"tsquery", []string{"a & b"}}, {"point", []string{"(1,2.5)"}}, {"box", []string{"(1,1),(0,0)"}},
	{"int4[]", []string{"{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}"}}, {"text[]", []string{`{a,"b\"c",NULL,"null"}`}},
	{"numeric[]", []string{"{1.00,NaN}"}}, {"float8[]", []string{"{1e23,0.1}"}}, {"timestamptz[]", []string{`{"2026-01-01 00:00+00"}`}}, {"jsonb[]", []string{`{"{\"a\": 1}"}`}},
	{"int4range", []string{"[1,5)", "empty", "(,)"}}, {"tstzrange", []string{"[2026-01-01,)"}}, {"int4multirange", []string{"{[1,2),[5,9)}"}},
	{"render_pair", []string{`(1,"a b")`, "(,)"}}, {"render_pair[]", []string{`{"(1,a)"}`}}, {"render_mood[]", []string{"{fine}"}},
	{"pg_lsn", []string{"16/B374D848"}}, {"xid8", []string{"18446744073709551615"}}, {"regclass", []string{"pg_class"}}, {"jsonpath", []string{"$.a"}},
}

var awkwardText = []string{"", " ", "a", "plain ascii, long enough for eight at a time", `"`, `\`, "a\"b\\c", "\n\r\t\b\f", "\x01\x1f\x7f", "</script>&<>",
	"1234567\"", "12345678\"", "123456789\\", "Grüße aus Köln", "日本語テキスト", "🙂 emoji \u2028 \u2029", "ü\x01é\"ñ", strings.Repeat("x", 9000),
	strings.Repeat("é\"", 999), "\x80"[:0], "null", "NaN", "it's", "trailing   "}

var timestamps = []string{"2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "2026-11-22 12:34:56.123456", "2026-11-22 12:34:56.1", "2026-11-22 00:00:00.000001",
	"0001-01-01 00:00:00", "0044-03-15 12:00:00.5 BC", "4714-11-24 00:00:00 BC", "9999-12-31 23:59:59.999999", "10000-01-01 00:00:00",
	"294276-12-31 23:59:59.999999", "infinity", "-infinity", "2024-02-29 23:00:00.100000", "1900-03-01 00:00:00"}

var documents = []string{`{}`, `[]`, `null`, `true`, `"x"`, `1.00`, `-0`, `1e400`, `{"a":{"b":[1,2,{"c":"\u00e4\n"}]}}`, `"\\\""`, `{"ключ":"значение"}`}

func TestEqualToPostgres(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	exec(t, conn, `create type render_mood as enum ('fine', 'so "so"', 'größer', '')`)
	exec(t, conn, `create domain render_price as numeric check (value < 1e9)`)
	exec(t, conn, `create domain render_label as char(5)`)
	exec(t, conn, `create domain render_whole as int4`)
	exec(t, conn, `create domain render_nested as render_whole not null`)
	exec(t, conn, `create type render_pair as (id int, label text)`)
	for _, e := range extremes {
		c := describe(t, conn, "v", e.sqlType)
		compare(t, conn, []Column{c}, fmt.Sprintf("from (select x::%s as v from unnest($1::text[]) x) t", e.sqlType), e.literals)
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
