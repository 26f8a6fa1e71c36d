package render

import (
	"encoding/binary"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
)

// BenchmarkObject12Columns is a row as tables have them, of about 300 bytes of JSON.
func BenchmarkObject12Columns(b *testing.B) {
	o := NewObject([]Column{
		{"id", pgtype.Int8OID, 'b'}, {"account_id", pgtype.Int4OID, 'b'}, {"email", pgtype.TextOID, 'b'}, {"name", pgtype.TextOID, 'b'}, {"status", 70000, 'e'}, {"active", pgtype.BoolOID, 'b'},
		{"balance", pgtype.NumericOID, 'b'}, {"score", pgtype.Float8OID, 'b'}, {"token", pgtype.UUIDOID, 'b'}, {"created_at", pgtype.TimestamptzOID, 'b'}, {"born", pgtype.DateOID, 'b'}, {"settings", pgtype.JSONBOID, 'b'},
	})
	row := [][]byte{
		be(int64(1234567)), be(int32(4711)), []byte("ada.lovelace@example.com"), []byte("Ada Lovelace"), []byte("active"), be(true),
		be(uint16(3), int16(1), uint16(0), uint16(2), uint16(12), uint16(3456), uint16(7800)), be(0.8125),
		[]byte("0123456789abcdef"), be(int64(847_000_000_123_456)), be(int32(-5000)), []byte("\x01" + `{"theme": "dark", "langs": ["en", "fr"]}`),
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = o.Append(dst[:0], row); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(dst)))
	b.ReportMetric(float64(len(dst)), "B/row")
}

func BenchmarkColumn(b *testing.B) {
	for _, c := range []struct {
		name  string
		oid   uint32
		value []byte
	}{
		{"int8", pgtype.Int8OID, be(int64(1234567))}, {"uuid", pgtype.UUIDOID, []byte("0123456789abcdef")}, {"timestamptz", pgtype.TimestamptzOID, be(int64(847_000_000_123_456))},
		{"date", pgtype.DateOID, be(int32(-5000))}, {"float8", pgtype.Float8OID, be(0.1)}, {"float8 whole", pgtype.Float8OID, be(42.0)}, {"float8 large", pgtype.Float8OID, be(1e23)},
		{"numeric", pgtype.NumericOID, be(uint16(3), int16(1), uint16(0), uint16(2), uint16(12), uint16(3456), uint16(7800))},
		{"text short", pgtype.TextOID, []byte("ada.lovelace@example.com")}, {"text 1k", pgtype.TextOID, filled(1000, 'x')}, {"text 1k quotes", pgtype.TextOID, filled(1000, '"')},
		{"text 1k utf8", pgtype.TextOID, filled(1000, 0)}, {"bytea 1k", pgtype.ByteaOID, filled(1000, 7)},
	} {
		b.Run(c.name, func(b *testing.B) {
			o, row := NewObject([]Column{{"v", c.oid, 'b'}}), [][]byte{c.value}
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = o.Append(dst[:0], row)
			}
		})
	}
}

func BenchmarkKeyPartInt8(b *testing.B) {
	k, value := NewKeyPart(Column{"id", pgtype.Int8OID, 'b'}), binary.BigEndian.AppendUint64(nil, 1234567)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = k.Append(dst[:0], value)
	}
}

// filled returns n bytes of c, or of two-byte letters for 0.
func filled(n int, c byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = c
		if c == 0 {
			b[i] = "é"[i%2]
		}
	}
	return b
}
