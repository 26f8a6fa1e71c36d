package render

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// fuzz feeds a decoder anything: it must answer with an error or with JSON, and leave alone what stood before.
func fuzz(f *testing.F, oid uint32, seeds ...[]byte) {
	column := Column{Name: "v", Type: oid, Kind: 'b'}
	object, part := NewObject([]Column{column}), NewKeyPart(column)
	for _, seed := range append(seeds, nil, []byte{0}, []byte{1, 2, 3, 4}, []byte("12345678"), []byte("0123456789abcdef")) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if value == nil {
			value = []byte{}
		}
		got, err := object.Append([]byte("{"), [][]byte{value})
		switch {
		case err != nil && (string(got) != "{" || !strings.Contains(err.Error(), `"v"`)):
			t.Fatalf("%q, %v", got, err)
		case err == nil && (got[0] != '{' || !json.Valid(got[1:]) || !utf8.Valid(got)):
			t.Fatalf("not JSON: %q", got)
		}
		if key, err := part.Append([]byte("k"), value); key[0] != 'k' || err != nil && len(key) != 1 {
			t.Fatalf("%q, %v", key, err)
		}
	})
}

func FuzzAppendBool(f *testing.F)    { fuzz(f, pgtype.BoolOID, be(true)) }
func FuzzAppendInt2(f *testing.F)    { fuzz(f, pgtype.Int2OID, be(int16(-1))) }
func FuzzAppendInt4(f *testing.F)    { fuzz(f, pgtype.Int4OID, be(int32(-1))) }
func FuzzAppendInt8(f *testing.F)    { fuzz(f, pgtype.Int8OID, be(int64(-1))) }
func FuzzAppendOID(f *testing.F)     { fuzz(f, pgtype.OIDOID, be(uint32(1))) }
func FuzzAppendFloat4(f *testing.F)  { fuzz(f, pgtype.Float4OID, be(float32(1.5)), be(float32(1e15))) }
func FuzzAppendFloat8(f *testing.F)  { fuzz(f, pgtype.Float8OID, be(1.5), be(1e23)) }
func FuzzAppendText(f *testing.F)    { fuzz(f, pgtype.TextOID, []byte("a\"\\\n é\x01"), []byte("\xff")) }
func FuzzAppendBpchar(f *testing.F)  { fuzz(f, pgtype.BPCharOID, []byte("ab  ")) }
func FuzzAppendChar(f *testing.F)    { fuzz(f, pgtype.QCharOID, []byte{0x80}) }
func FuzzAppendUUID(f *testing.F)    { fuzz(f, pgtype.UUIDOID) }
func FuzzAppendBytea(f *testing.F)   { fuzz(f, pgtype.ByteaOID, []byte{0, 255}) }
func FuzzAppendDate(f *testing.F)    { fuzz(f, pgtype.DateOID, be(int32(-800000))) }
func FuzzAppendTime(f *testing.F)    { fuzz(f, pgtype.TimeOID, be(int64(1))) }
func FuzzAppendInstant(f *testing.F) { fuzz(f, pgtype.TimestamptzOID, be(int64(-1))) }
func FuzzAppendLocal(f *testing.F)   { fuzz(f, pgtype.TimestampOID, be(int64(1<<60))) }
func FuzzAppendNumeric(f *testing.F) {
	fuzz(f, pgtype.NumericOID, be(uint16(2), int16(0), uint16(0), uint16(6), uint16(1), uint16(2345)),
		be(uint16(1), int16(-3), uint16(numericNegative), uint16(12), uint16(1)), be(uint16(0), int16(0), uint16(numericNaN), uint16(0)))
}

// Documents are passed on as they are, so the fuzzer's bytes go through only where they are a document.
func FuzzAppendDocument(f *testing.F) {
	f.Add(byte(1), []byte(`{"a": [1, null]}`))
	f.Add(byte(2), []byte(``))
	json1 := NewObject([]Column{{"v", pgtype.JSONOID, 'b'}})
	jsonb := NewObject([]Column{{"v", pgtype.JSONBOID, 'b'}})
	f.Fuzz(func(t *testing.T, version byte, doc []byte) {
		if doc == nil {
			doc = []byte{}
		}
		got, err := json1.Append(nil, [][]byte{doc})
		if err == nil && json.Valid(doc) && !json.Valid(got) {
			t.Fatalf("not JSON: %q", got)
		}
		got, err = jsonb.Append(nil, [][]byte{append([]byte{version}, doc...)})
		if (err == nil) != (version == 1 && len(doc) > 0 && utf8.Valid(doc)) || err == nil && json.Valid(doc) && !json.Valid(got) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}
