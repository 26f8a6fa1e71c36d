package render

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
)

// Sort is what the values of a column are to those who compute with them.
type Sort uint8

// The sorts of columns.
const (
	// Document is JSON: json, jsonb, and every type without a decoder here, which is selected as jsonb.
	Document Sort = iota
	Bool
	// Int is int2, int4 and int8.
	Int
	Float4
	Float8
	Numeric
	// Text is what is itself in binary: text, varchar, bpchar with its padding, name, enums.
	Text
	// Word is what JSON has as a string, but the binary form is another: uuid, time, "char", oid.
	Word
	Bytes
	Date
	Timestamp
	Timestamptz
)

var sorts = [...]Sort{
	kindForeign: Document, kindBool: Bool, kindInt2: Int, kindInt4: Int, kindInt8: Int, kindOID: Word, kindFloat4: Float4, kindFloat8: Float8,
	kindNumeric: Numeric, kindText: Text, kindBpchar: Text, kindChar: Word, kindUUID: Word, kindBytea: Bytes, kindDate: Date, kindTime: Word,
	kindTimestamp: Timestamp, kindTimestamptz: Timestamptz, kindJSON: Document, kindJSONB: Document,
}

// Cell renders or decodes the values of one column by themselves. It is immutable and safe for concurrent use.
type Cell struct {
	kind kind
	name string
}

// NewCell prepares for the values of this column.
func NewCell(c Column) Cell { return Cell{kind: kindOf(c), name: c.Name} }

// Name is the column's.
func (c Cell) Name() string { return c.name }

// Sort says which of the methods decode the column.
func (c Cell) Sort() Sort { return sorts[c.kind] }

// Foreign reports whether the column's type has no decoder here, so that it is selected as jsonb.
func (c Cell) Foreign() bool { return c.kind == kindForeign }

// Select is the SQL expression whose binary form the other methods read, the same as [Object.Select].
func (c Cell) Select(alias string) string {
	expr := qualified(alias, c.name)
	if c.kind == kindForeign {
		return "pg_catalog.to_jsonb(" + expr + ")"
	}
	return expr
}

// AppendJSON appends a value, which must not be nil, as [Object.Append] would.
func (c Cell) AppendJSON(dst, value []byte) ([]byte, error) {
	out, err := appendJSON(dst, c.kind, value)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// AppendText appends a value, which must not be nil, as a cast of the column to text prints it. That of bpchar drops
// the padding. A Document is appended as JSON, which for arrays and composites is not what the cast prints.
func (c Cell) AppendText(dst, value []byte) ([]byte, error) {
	if n := fixed[c.kind]; n != 0 && len(value) != n {
		return dst, errLength
	}
	var out []byte
	var err error
	switch c.kind {
	case kindForeign, kindJSON, kindJSONB:
		out, err = appendJSON(dst, c.kind, value)
	case kindFloat4:
		return appendFloatText(dst, float64(math.Float32frombits(binary.BigEndian.Uint32(value))), 32, 6), nil
	case kindFloat8:
		return appendFloatText(dst, math.Float64frombits(binary.BigEndian.Uint64(value)), 64, 15), nil
	case kindChar:
		switch b := value[0]; {
		case b == 0:
			return dst, nil
		case b >= 0x80:
			return append(dst, '\\', '0'+b>>6, '0'+b>>3&7, '0'+b&7), nil
		}
		return append(dst, value[0]), nil
	default:
		out, err = appendText(dst, c.kind, value)
	}
	if err != nil {
		return dst, err
	}
	return out, nil
}

// Int decodes an Int; a Bool as 0 and 1; a Date as days, a Timestamp and a Timestamptz as microseconds, both since
// 2000-01-01 in UTC, with the least and the greatest number of 32 and of 64 bits for the infinities.
func (c Cell) Int(value []byte) (int64, error) {
	if n := fixed[c.kind]; n == 0 || len(value) != n {
		return 0, errLength
	}
	switch len(value) {
	case 1:
		if value[0] != 0 {
			return 1, nil
		}
		return 0, nil
	case 2:
		return int64(int16(binary.BigEndian.Uint16(value))), nil
	case 4:
		return int64(int32(binary.BigEndian.Uint32(value))), nil
	case 8:
		return int64(binary.BigEndian.Uint64(value)), nil
	}
	return 0, errLength
}

// Float decodes a Float4 or a Float8. Of a Float4 it is the number that is printed: 0.1 and not
// 0.10000000149011612, which is the same in four bytes.
func (c Cell) Float(value []byte) (float64, error) {
	if n := fixed[c.kind]; n == 0 || len(value) != n {
		return 0, errLength
	}
	if c.kind == kindFloat8 {
		return math.Float64frombits(binary.BigEndian.Uint64(value)), nil
	}
	bits := binary.BigEndian.Uint32(value)
	f := float64(math.Float32frombits(bits))
	if f != f || math.IsInf(f, 0) || f == math.Trunc(f) && math.Abs(f) < 1<<24 {
		return f, nil
	}
	var scratch [32]byte
	return strconv.ParseFloat(string(appendFloat4(scratch[:0], bits)), 64)
}

// JSON returns the text of a Document, which is a part of value.
func (c Cell) JSON(value []byte) ([]byte, error) {
	if c.kind != kindJSON {
		if len(value) > 0 && value[0] != 1 {
			return nil, errVersion
		}
		value = value[min(1, len(value)):]
	}
	if len(value) == 0 {
		return nil, errLength
	}
	return value, nil
}

// appendFloatText appends a float as its type's output function does with extra_float_digits = 1. It has an exponent
// below 1e-4 and from 10^digits.
func appendFloatText(dst []byte, f float64, size, digits int) []byte {
	if word, ok := appendNonFinite(nil, f); ok {
		return append(dst, word[1:len(word)-1]...)
	}
	if f == 0 {
		return strconv.AppendFloat(dst, f, 'f', -1, size)
	}
	var scratch [40]byte
	short := strconv.AppendFloat(scratch[:0], f, 'e', -1, size)
	exponent, _ := strconv.Atoi(string(short[strings.IndexByte(string(short), 'e')+1:]))
	if exponent >= -4 && exponent < digits {
		return strconv.AppendFloat(dst, f, 'f', -1, size)
	}
	// Where Postgres and strconv differ in the digits, the exponent is written by both.
	if size == 32 {
		bits := math.Float32bits(float32(f))
		short = appendShortest(scratch[:0], f, 32, uint64(bits&(1<<23-1)|1<<23), int(bits>>23&0xff)-150)
	} else {
		bits := math.Float64bits(f)
		short = appendShortest(scratch[:0], f, 64, bits&(1<<52-1)|1<<52, int(bits>>52&0x7ff)-1075)
	}
	if strings.IndexByte(string(short), 'e') < 0 {
		short = strconv.AppendFloat(scratch[:0], f, 'e', -1, size)
	}
	return append(dst, short...)
}

// AppendString appends s as a JSON string, escaped as in an [Object]. Its error is [ErrNotUTF8].
func AppendString(dst, s []byte) ([]byte, error) {
	out, err := appendJSONString(dst, s)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// AppendFloat appends f as to_jsonb prints a float8; "NaN" and the infinities are strings.
func AppendFloat(dst []byte, f float64) []byte { return appendFloat8(dst, math.Float64bits(f)) }

// AppendDate appends a date without quotes, given in days since 2000-01-01.
func AppendDate(dst []byte, days int32) []byte { return appendDate(dst, days) }

// AppendTimestamp appends a timestamp as to_jsonb prints it, without quotes, given in microseconds since 2000-01-01.
// With zone it has an offset, which is that of UTC.
func AppendTimestamp(dst []byte, us int64, zone bool) []byte {
	if zone {
		return appendTimestamp(dst, us, 'T', "+00:00")
	}
	return appendTimestamp(dst, us, 'T', "")
}
