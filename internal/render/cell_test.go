package render

import (
	"fmt"
	"math"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
)

func TestCellIsWhatAnObjectPrints(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		oid        uint32
		value      []byte
		sort       Sort
		json, text string
	}{
		{pgtype.BoolOID, be(true), Bool, `true`, `true`}, {pgtype.Int2OID, be(int16(-7)), Int, `-7`, `-7`}, {pgtype.OIDOID, be(uint32(7)), Word, `"7"`, `7`}, {pgtype.NumericOID, be(uint16(1), int16(0), uint16(0), uint16(2), uint16(1)), Numeric, `1.00`, `1.00`},
		{pgtype.Float4OID, be(float32(1e6)), Float4, `1000000`, `1e+06`}, {pgtype.Float4OID, be(float32(123456)), Float4, `123456`, `123456`}, {pgtype.Float8OID, be(1e15), Float8, `1000000000000000`, `1e+15`}, {pgtype.Float8OID, be(1e-5), Float8, `1e-05`, `1e-05`},
		{pgtype.Float8OID, be(math.Inf(-1)), Float8, `"-Infinity"`, `-Infinity`}, {pgtype.Float8OID, be(1e23), Float8, `9.999999999999999e+22`, `9.999999999999999e+22`}, {pgtype.Float8OID, be(math.Copysign(0, -1)), Float8, `0`, `-0`},
		{pgtype.BPCharOID, []byte("ab "), Text, `"ab "`, `ab`}, {pgtype.QCharOID, []byte{0xc0}, Word, `"\\300"`, `\300`}, {pgtype.QCharOID, []byte{0}, Word, `""`, ``}, {pgtype.ByteaOID, []byte{1}, Bytes, `"\\x01"`, `\x01`},
		{pgtype.TimestampOID, be(int64(1)), Timestamp, `"2000-01-01T00:00:00.000001"`, `2000-01-01 00:00:00.000001`}, {pgtype.TimestamptzOID, be(int64(0)), Timestamptz, `"2000-01-01T00:00:00+00:00"`, `2000-01-01 00:00:00+00`},
		{pgtype.JSONBOID, []byte("\x01[1]"), Document, `[1]`, `[1]`}, {1009, []byte("\x01[\"a\"]"), Document, `["a"]`, `["a"]`},
	} {
		c := NewCell(Column{"v", test.oid, 'b'})
		j, err := c.AppendJSON(nil, test.value)
		if err != nil || string(j) != test.json || c.Sort() != test.sort || c.Name() != "v" {
			t.Errorf("type %d: %s (%v), want %s", test.oid, j, err, test.json)
		}
		text, err := c.AppendText(nil, test.value)
		if err != nil || string(text) != test.text {
			t.Errorf("type %d: %s (%v), want %s", test.oid, text, err, test.text)
		}
		if got := NewObject([]Column{{"v", test.oid, 'b'}}).Select("t"); fmt.Sprint(got) != fmt.Sprint([]string{c.Select("t")}) {
			t.Error(got)
		}
	}
	if n, err := NewCell(Column{"v", pgtype.Int4OID, 'b'}).Int(be(int32(-3))); n != -3 || err != nil {
		t.Error(n, err)
	}
	if f, err := NewCell(Column{"v", pgtype.Float4OID, 'b'}).Float(be(float32(0.1))); f != 0.1 || err != nil {
		t.Error(f, err)
	}
	for _, oid := range []uint32{pgtype.Int8OID, pgtype.Float8OID, pgtype.DateOID, pgtype.QCharOID, pgtype.BoolOID} {
		c := NewCell(Column{"v", oid, 'b'})
		_, err := c.AppendText([]byte("k"), []byte("12"))
		_, ierr := c.Int([]byte("12"))
		_, ferr := c.Float([]byte("12"))
		if err == nil || ierr == nil || ferr == nil {
			t.Errorf("type %d reads any length", oid)
		}
	}
}
