package rendertest

import "strings"

// scalars are literals of each base type, range and multirange, by its name in pg_type.
var scalars = map[string][]string{
	"bool": {"t", "f"},
	"int2": {"0", "-1", "32767", "-32768"},
	"int4": {"0", "7", "-1", "2147483647", "-2147483648"},
	"int8": {"0", "-1", "9007199254740993", "9223372036854775807", "-9223372036854775808"},
	"oid":  {"0", "42", "4294967295"},
	"float4": {"0", "-0", "1", "0.1", "1.5", "-1e-7", "3.4028235e38", "1e-45", "1.17549435e-38", "16777216", "16777217",
		"33554432", "8388608.5", "1e15", "1e16", "1e10", "3.355444e7", "9.9999998e22", "NaN", "Infinity", "-Infinity", "123456.789"},
	"float8": {"0", "-0", "1", "0.1", "0.3", "-1e-7", "1e20", "1e21", "1e22", "1e23", "-1e23", "9e22", "1.7976931348623157e308",
		"5e-324", "2.2250738585072014e-308", "9007199254740992", "9007199254740993", "9007199254740994", "18014398509481984",
		"123456789012345680", "4503599627370496.5", "1e15", "1e16", "1e17", "0.0001", "0.00001", "NaN", "Infinity", "-Infinity", "8.5e-5"},
	"numeric": {"0", "NaN", "Infinity", "-Infinity", strings.Repeat("9", 1000), "1.00", "0.0", "0.000000", "1", "-1.5", "100", "10000", "99999999",
		"100000000", "0.0001", "0.00001", "0.00010001", "1e-20", "1e20", "123456789.987654321", "-0.5", "12345.60000", "1e1000", "1e-1000",
		"0." + strings.Repeat("0", 700) + "1", "-" + strings.Repeat("1234567890", 100) + "." + strings.Repeat("0", 1000),
		"1e131071", "1e-16383", "10000.0001", "100000000.0000000100000000"},
	"money":   {"12.50", "-3", "0", "92233720368547758.07", "-92233720368547758.08", "1234567.89"},
	"text":    texts,
	"varchar": texts,
	"bpchar":  append([]string{"ab   ", "     "}, texts...),
	"name":    {"", "users", `we"ird`, "ключ", "back\\slash"},
	"char":    {"", "a", `"`, `\`, "\t", "\x7f", " "},
	"uuid":    {"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "01234567-89ab-cdef-0123-456789abcdef"},
	"bytea":   {`\x`, `\x00`, `\x5c22`, `\x00ff7f80`, `\x` + strings.Repeat("de", 5000)},
	"date": {"2000-01-01", "infinity", "-infinity", "0044-03-15 BC", "1999-12-31", "2000-02-29", "1900-02-28", "1900-03-01", "2100-02-28", "1970-01-01",
		"0001-01-01", "0001-12-31 BC", "0001-02-29 BC", "4714-11-24 BC", "9999-12-31", "10000-01-01", "5874897-12-31"},
	"time":        {"00:00", "24:00", "23:59:59.999999", "12:34:56.1", "00:00:00.000001", "01:02:03.120"},
	"timetz":      {"00:00+00", "24:00-15:59:59", "23:59:59.999999+15:59", "12:34:56.1+05:30", "12:00+02"},
	"timestamp":   timestamps,
	"timestamptz": append([]string{"2026-11-22 12:34:56.1+05:30"}, timestamps...),
	"interval": {"0", "1 day 02:03:04.5", "-1 mon", "1 mon -1 day", "-1 year 2 mons -3 days 04:05:06.000007", "178000000 years", "-178000000 years",
		"2147483647 days", "1 microsecond", "-0.000001 second", "1 year", "30 days", "720:00:00", "@ 1 day ago"},
	"json":     append([]string{`{"a":1,"a":2}`, ` [1 , 2 ] `, "{\n\"b\": 1e2}", `"\u00e4\ud83d\ude42"`}, documents...),
	"jsonb":    documents,
	"jsonpath": {"$", "$.a", `$."we\"ird"[*] ? (@.b > 1.00)`, "strict $.**{2 to last}"},
	"xml":      {`<a b="c">d</a>`, "", "plain &amp; text", "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a>é\"\\\n</a>", "<a/><b/>"},

	"inet":     {"10.0.0.1", "10.0.0.1/8", "0.0.0.0/0", "::1", "::1/64", "::ffff:1.2.3.4", "2001:db8::ff/128"},
	"cidr":     {"10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0", "::/0", "2001:db8::/32"},
	"macaddr":  {"08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"},
	"macaddr8": {"08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03"},
	"bit":      {"", "1", "101", strings.Repeat("10", 500)},
	"varbit":   {"", "1", "0000", strings.Repeat("01", 500)},

	"point":   {"(1,2.5)", "(-0,1e23)", "(NaN,Infinity)", "(5e-324,-1.7976931348623157e308)", "(0.1,0.30000000000000004)"},
	"line":    {"{1,2,3}", "{-1,0.1,1e23}"},
	"lseg":    {"[(1,2),(3,4)]", "[(0.1,-0),(1e23,NaN)]"},
	"box":     {"(1,1),(0,0)", "(1e23,0.1),(-0.1,-Infinity)"},
	"path":    {"((0,0),(1,1),(2,0))", "[(0.1,0),(1e23,1)]"},
	"polygon": {"((0,0),(1,1),(2,0))", "((0.1,1e23))"},
	"circle":  {"<(1,2),3>", "<(0.1,1e23),Infinity>"},

	"tsvector": {"", `'a':1A 'b "c"':2B,3`, `'it''s' 'back\\slash' 'ü'`},
	"tsquery":  {"", "a & b", `!('x y':*AB <2> c) | 'it''s'`},
	// An index keeps this one; nothing in SQL makes a value of it.
	"gtsvector": {},

	"int4range":  {"empty", "(,)", "[1,5)", "[-2147483648,)"},
	"int8range":  {"empty", "(,)", "[1,9223372036854775807)"},
	"numrange":   {"empty", "(,)", "[1.00,2.50]", "(-Infinity,NaN]", "[0.1," + strings.Repeat("9", 1000) + ")"},
	"daterange":  {"empty", "(,)", "[2026-01-01,2026-02-01]", "[0044-03-15 BC,infinity]", "[-infinity,10000-01-01)"},
	"tsrange":    {"empty", "(,)", `["2026-01-01 10:00","2026-01-01 11:00:00.000001"]`, `["0044-03-15 00:00 BC",infinity]`},
	"tstzrange":  {"empty", "(,)", `["2026-01-01 10:00+05:30","2026-11-01 01:30-04"]`, `(-infinity,"0044-03-15 00:00+00 BC"]`},
	"floatrange": {"empty", "(,)", "[-0,0.1)", "[1e23,Infinity]"},
	"textrange":  {"empty", "(,)", `["a","b\"\\,c"]`, `["","ü)"]`},

	"int4multirange":  {"{}", "{[1,2),[5,9)}", "{(,)}"},
	"int8multirange":  {"{}", "{[1,2),[5,9223372036854775807)}"},
	"nummultirange":   {"{}", "{[1.00,2.50],(3,NaN]}"},
	"datemultirange":  {"{}", "{[0044-03-15 BC,2026-02-01],[2027-01-01,infinity)}"},
	"tsmultirange":    {"{}", "{[2026-01-01 10:00,2026-01-01 11:00],(2027-01-01,)}"},
	"tstzmultirange":  {"{}", "{[2026-01-01 10:00+05:30,2026-01-01 11:00+00]}"},
	"floatmultirange": {"{}", "{[0.1,0.3],[1e23,)}"},
	"textmultirange":  {"{}", `{["a","b\"\\,c"]}`},

	"tid": {"(0,1)", "(4294967295,65535)"}, "xid": {"0", "4294967295"}, "cid": {"0", "4294967295"}, "xid8": {"0", "18446744073709551615"},
	"pg_lsn": {"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"}, "pg_snapshot": {"1:1:", "10:20:10,14,15"}, "txid_snapshot": {"1:1:", "10:20:10,14,15"},
	"int2vector": {"", "1 -2 3"}, "oidvector": {"", "1 4294967295"}, "refcursor": {"", `a "cursor"`},
	"regclass": {"0", "-", "pg_class", "4294967295", "information_schema.tables"}, "regtype": {"-", "integer", `"char"`, "text[]", "4294967295"},
	"regproc": {"-", "now", "4294967295"}, "regprocedure": {"-", "abs(integer)"}, "regoper": {"0", "pg_catalog.||/"}, "regoperator": {"0", "+(integer,integer)"},
	"regconfig": {"-", "english", "4294967295"}, "regdictionary": {"-", "simple"}, "regnamespace": {"-", "pg_catalog", "4294967295"},
	"regrole": {"-", "pg_monitor", "4294967295"}, "regcollation": {"-", `"C"`, `"default"`},
}

// made are types whose values come from expressions only, for they read none from text. Of some, no expression makes
// one either: they are states inside an index.
var made = map[string][]string{
	"aclitem":                      {"pg_catalog.makeaclitem(0, 10, 'SELECT', true)", "(select relacl[1] from pg_catalog.pg_class where relacl is not null limit 1)"},
	"pg_node_tree":                 {"(select ev_action from pg_catalog.pg_rewrite limit 1)", "(select adbin from pg_catalog.pg_attrdef limit 1)"},
	"pg_ndistinct":                 {"(select stxdndistinct from pg_catalog.pg_statistic_ext_data limit 1)"},
	"pg_dependencies":              {"(select stxddependencies from pg_catalog.pg_statistic_ext_data limit 1)"},
	"pg_mcv_list":                  {"(select stxdmcv from pg_catalog.pg_statistic_ext_data limit 1)"},
	"pg_brin_bloom_summary":        {},
	"pg_brin_minmax_multi_summary": {},
}

var texts = []string{"", " ", "a", `"`, `\`, "a\"b\\c", "\n\r\t\b\f", "\x01\x1f\x7f", "</script>&<>", "plain ascii, long enough for eight at a time",
	"1234567\"", "12345678\"", "123456789\\", "Grüße aus Köln", "日本語テキスト", "🙂 emoji \u2028 \u2029", "ü\x01é\"ñ", strings.Repeat("x", 9000),
	strings.Repeat("é\"", 999), "null", "NULL", "NaN", "{}", "it's", "trailing   ", `\u0041 \x41 \101`, "e\u0301 is not é", "\ufeffBOM", "\U0010ffff"}

var timestamps = []string{"2000-01-01 00:00:00", "infinity", "-infinity", "0044-03-15 12:00:00.5 BC", "1999-12-31 23:59:59.999999", "2026-11-22 12:34:56.123456",
	"2026-11-22 12:34:56.1", "2026-11-22 00:00:00.000001", "0001-01-01 00:00:00", "4714-11-24 00:00:00 BC", "9999-12-31 23:59:59.999999",
	"10000-01-01 00:00:00", "294276-12-31 23:59:59.999999", "2024-02-29 23:00:00.100000", "1900-03-01 00:00:00"}

var documents = []string{`{}`, `[]`, `null`, `true`, `"x"`, `1.00`, `-0`, `1e400`, `{"a":{"b":[1,2,{"c":"\u00e4\n"}]}}`, `"\\\""`, `{"ключ":"значение"}`,
	`[1.10, 0.000, 12345678901234567890.12345678901234567890]`, `{"":"","\u0001":"\u007f"}`}
