package render

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

func be(values ...any) []byte {
	var b []byte
	for _, v := range values {
		b, _ = binary.Append(b, binary.BigEndian, v)
	}
	return b
}

const day, hour = int64(microsPerDay), int64(microsPerDay / 24)

func TestAppend(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		oid   uint32
		value []byte
		json  string
		key   string // "" where a key part does not read this binary form
	}{
		{pgtype.BoolOID, be(true), `true`, `true`},
		{pgtype.BoolOID, be(false), `false`, `false`},
		{pgtype.Int2OID, be(int16(-7)), `-7`, `-7`},
		{pgtype.Int4OID, be(int32(math.MinInt32)), `-2147483648`, `-2147483648`},
		{pgtype.Int8OID, be(int64(math.MaxInt64)), `9223372036854775807`, `9223372036854775807`},
		{pgtype.OIDOID, be(uint32(math.MaxUint32)), `"4294967295"`, `4294967295`},
		{pgtype.Float4OID, be(float32(0.1)), `0.1`, ``},
		{pgtype.Float4OID, be(float32(math.Inf(-1))), `"-Infinity"`, ``},
		{pgtype.Float8OID, be(0.1), `0.1`, ``},
		{pgtype.Float8OID, be(1e23), `9.999999999999999e+22`, ``},
		{pgtype.Float8OID, be(math.NaN()), `"NaN"`, ``},
		{pgtype.Float8OID, be(math.Copysign(0, -1)), `0`, ``},
		{pgtype.Float8OID, be(5e-324), `5e-324`, ``},
		{pgtype.NumericOID, be(uint16(0), int16(0), uint16(0), uint16(0)), `0`, `0`},
		{pgtype.NumericOID, be(uint16(0), int16(0), uint16(0), uint16(2)), `0.00`, `0.00`},
		{pgtype.NumericOID, be(uint16(1), int16(0), uint16(0), uint16(2), uint16(1)), `1.00`, `1.00`},
		{pgtype.NumericOID, be(uint16(2), int16(1), uint16(numericNegative), uint16(0), uint16(12), uint16(3)), `-120003`, `-120003`},
		{pgtype.NumericOID, be(uint16(1), int16(1), uint16(0), uint16(0), uint16(5)), `50000`, `50000`},
		{pgtype.NumericOID, be(uint16(1), int16(-1), uint16(0), uint16(3), uint16(50)), `0.005`, `0.005`},
		{pgtype.NumericOID, be(uint16(1), int16(-3), uint16(0), uint16(12), uint16(1)), `0.000000000001`, `0.000000000001`},
		{pgtype.NumericOID, be(uint16(2), int16(0), uint16(0), uint16(6), uint16(1), uint16(2345)), `1.234500`, `1.234500`},
		{pgtype.NumericOID, be(uint16(0), int16(0), uint16(numericNaN), uint16(0)), `"NaN"`, `NaN`},
		{pgtype.NumericOID, be(uint16(0), int16(0), uint16(numericNegInf), uint16(0)), `"-Infinity"`, `-Infinity`},
		{pgtype.TextOID, []byte(""), `""`, ``},
		{pgtype.TextOID, []byte("1234567\"\\\n\x01é</"), `"1234567\"\\\n\u0001é</"`, "1234567\"\\\n\x01é</"},
		{pgtype.VarcharOID, []byte("plain"), `"plain"`, `plain`},
		{pgtype.BPCharOID, []byte("ab   "), `"ab   "`, `ab`},
		{pgtype.QCharOID, []byte{'x'}, `"x"`, ``},
		{pgtype.QCharOID, []byte{0}, `""`, ``},
		{pgtype.QCharOID, []byte{0xc0}, `"\\300"`, ``},
		{pgtype.UUIDOID, []byte("\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"), `"01234567-89ab-cdef-0123-456789abcdef"`, `01234567-89ab-cdef-0123-456789abcdef`},
		{pgtype.ByteaOID, []byte{}, `"\\x"`, `\x`},
		{pgtype.ByteaOID, []byte{0, 255, 0x5c}, `"\\x00ff5c"`, `\x00ff5c`},
		{pgtype.DateOID, be(int32(0)), `"2000-01-01"`, `2000-01-01`},
		{pgtype.DateOID, be(int32(math.MaxInt32)), `"infinity"`, `infinity`},
		{pgtype.DateOID, be(int32(math.MinInt32)), `"-infinity"`, `-infinity`},
		{pgtype.DateOID, be(int32(-730119)), `"0001-01-01"`, `0001-01-01`},
		{pgtype.DateOID, be(int32(-730120)), `"0001-12-31 BC"`, `0001-12-31 BC`},
		{pgtype.DateOID, be(int32(2921940)), `"10000-01-01"`, `10000-01-01`},
		{pgtype.TimeOID, be(day), `"24:00:00"`, `24:00:00`},
		{pgtype.TimeOID, be(hour + 1), `"01:00:00.000001"`, `01:00:00.000001`},
		{pgtype.TimestampOID, be(-int64(1)), `"1999-12-31T23:59:59.999999"`, `1999-12-31 23:59:59.999999`},
		{pgtype.TimestamptzOID, be(12*hour + 100000), `"2000-01-01T12:00:00.1+00:00"`, `2000-01-01 12:00:00.1+00`},
		{pgtype.TimestamptzOID, be(-730120 * day), `"0001-12-31T00:00:00+00:00 BC"`, `0001-12-31 00:00:00+00 BC`},
		{pgtype.TimestamptzOID, be(int64(math.MaxInt64)), `"infinity"`, `infinity`},
		{pgtype.TimestampOID, be(int64(math.MinInt64)), `"-infinity"`, `-infinity`},
		{pgtype.JSONOID, []byte(`{"a": 1}`), `{"a": 1}`, ``},
		{pgtype.JSONBOID, []byte("\x01[1, 2]"), `[1, 2]`, ``},
		{1, []byte("\x01\"x\""), `"x"`, ``}, // any other type comes as jsonb
	} {
		c := Column{Name: "v", Type: test.oid, Kind: 'b'}
		got, err := NewObject([]Column{c}).Append(nil, [][]byte{test.value})
		if want := `{"v":` + test.json + `}`; err != nil || string(got) != want {
			t.Errorf("type %d: %s (%v), want %s", test.oid, got, err, want)
		}
		if test.key == "" {
			continue
		}
		if got, err := NewKeyPart(c).Append(nil, test.value); err != nil || string(got) != test.key {
			t.Errorf("key of type %d: %q (%v), want %q", test.oid, got, err, test.key)
		}
	}
}

func TestMalformedValueNamesTheColumnAndLeavesTheBuffer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		oid   uint32
		value []byte
	}{
		{pgtype.BoolOID, nil}, {pgtype.Int2OID, be(int32(1))}, {pgtype.Int4OID, be(int16(1))}, {pgtype.Int8OID, []byte("1")}, {pgtype.OIDOID, nil}, {pgtype.Float4OID, be(1.0)}, {pgtype.Float8OID, nil},
		{pgtype.UUIDOID, make([]byte, 15)}, {pgtype.DateOID, be(int64(1))}, {pgtype.TimeOID, be(day + 1)}, {pgtype.TimeOID, be(int64(-1))}, {pgtype.TimestampOID, nil}, {pgtype.TimestamptzOID, be(int32(1))},
		{pgtype.NumericOID, nil}, {pgtype.NumericOID, be(uint16(2), int16(0), uint16(0), uint16(0), uint16(1))},
		{pgtype.NumericOID, be(uint16(1), int16(0), uint16(1), uint16(0), uint16(1))},
		{pgtype.NumericOID, be(uint16(1), int16(0), uint16(0), uint16(0), uint16(10000))},
		{pgtype.NumericOID, be(uint16(2), int16(1), uint16(0), uint16(0), uint16(0), uint16(1))},
		{pgtype.NumericOID, be(uint16(2), int16(0), uint16(0), uint16(9), uint16(1), uint16(65535))},
		{pgtype.NumericOID, be(uint16(1), int16(0), uint16(0), uint16(maxScale+1), uint16(1))},
		{pgtype.TextOID, []byte("caf\xe9")}, {pgtype.TextOID, []byte("12345678\xff\"")}, {pgtype.JSONOID, nil}, {pgtype.JSONOID, []byte("\"\xe9\"")}, {pgtype.JSONBOID, []byte("\x01\"\xe9\"")}, {pgtype.JSONBOID, nil}, {pgtype.JSONBOID, []byte{1}}, {pgtype.JSONBOID, []byte("\x02{}")}, {1, []byte("{}")},
	} {
		if test.value == nil {
			test.value = []byte{}
		}
		o := NewObject([]Column{{"good", pgtype.Int4OID, 'b'}, {`o"dd`, test.oid, 'b'}})
		got, err := o.Append([]byte("before"), [][]byte{be(int32(1)), test.value})
		if err == nil || !strings.Contains(err.Error(), `"o\"dd"`) {
			t.Errorf("type %d, % x: error %v", test.oid, test.value, err)
		}
		if string(got) != "before" {
			t.Errorf("type %d, % x: buffer %q", test.oid, test.value, got)
		}
	}
	if _, err := NewObject([]Column{{"a", pgtype.TextOID, 'b'}}).Append(nil, [][]byte{[]byte("caf\xe9")}); !errors.Is(err, ErrNotUTF8) {
		t.Errorf("error %v, want ErrNotUTF8", err)
	}
	if _, err := NewObject([]Column{{"a", pgtype.Int4OID, 'b'}}).Append(nil, nil); err == nil {
		t.Error("no error for a row with a value missing")
	}
	if got, err := NewKeyPart(Column{"id", pgtype.UUIDOID, 'b'}).Append([]byte("k:"), []byte("short")); err == nil || !strings.Contains(err.Error(), `"id"`) || string(got) != "k:" {
		t.Errorf("key: %q, %v", got, err)
	}
}

func TestSelectQuotesAndFallsBack(t *testing.T) {
	t.Parallel()
	o := NewObject([]Column{{`a"b`, pgtype.Int4OID, 'b'}, {"tags", 1009, 'b'}, {"mood", 70000, 'e'}, {"part", 70001, 'c'}})
	want := []string{`t."a""b"`, `pg_catalog.to_jsonb(t."tags")`, `t."mood"`, `pg_catalog.to_jsonb(t."part")`}
	if got := o.Select("t"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := NewKeyPart(Column{"tags", 1009, 'b'}).Select("t"); got != `t."tags"::text` {
		t.Error(got)
	}
	if got := NewKeyPart(Column{"id", pgtype.Int8OID, 'b'}).Select("t"); got != `t."id"` {
		t.Error(got)
	}
}

func TestEmptyAndNull(t *testing.T) {
	t.Parallel()
	if got, err := NewObject(nil).Append(nil, nil); err != nil || string(got) != "{}" {
		t.Errorf("%s, %v", got, err)
	}
	o := NewObject([]Column{{"\x00\n\"é\xff", pgtype.Int4OID, 'b'}, {"b", 70001, 'c'}})
	got, err := o.Append(nil, [][]byte{nil, nil})
	if want := `{"\u0000\n\"é` + "\uFFFD" + `":null,"b":null}`; err != nil || string(got) != want || !json.Valid(got) {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

// TestEveryDayOfTwelveThousandYears goes through more than one cycle of the calendar on both sides of its start.
func TestEveryDayOfTwelveThousandYears(t *testing.T) {
	t.Parallel()
	at := time.Date(-2000, 1, 1, 0, 0, 0, 0, time.UTC)
	first := (at.Unix() - time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()) / 86400
	for days := first; at.Year() < 10000; days++ {
		year, month, day := civil(days)
		if y, m, d := at.Date(); int(year) != y || int(month) != int(m) || int(day) != d {
			t.Fatalf("day %d: %d-%d-%d, want %d-%d-%d", days, year, month, day, y, m, d)
		}
		at = at.AddDate(0, 0, 1)
	}
}
