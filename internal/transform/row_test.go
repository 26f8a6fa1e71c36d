package transform

import (
	"context"
	encbinary "encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/render"
)

func be(values ...any) []byte {
	var b []byte
	for _, v := range values {
		b, _ = encbinary.Append(b, encbinary.BigEndian, v)
	}
	return b
}

// field is a column with a value.
type field struct {
	column render.Column
	value  []byte
}

func col(name string, oid uint32, v []byte) field {
	return field{render.Column{Name: name, Type: oid, Kind: 'b'}, v}
}

// numericOf is the binary form of a numeric that is given in digits.
func numericOf(s string) []byte {
	switch s {
	case "NaN":
		return be(uint16(0), int16(0), uint16(0xC000), uint16(0))
	case "Infinity":
		return be(uint16(0), int16(0), uint16(0xD000), uint16(0))
	case "-Infinity":
		return be(uint16(0), int16(0), uint16(0xF000), uint16(0))
	}
	sign := uint16(0)
	if s[0] == '-' {
		sign, s = 0x4000, s[1:]
	}
	whole, fraction, _ := strings.Cut(s, ".")
	scale := len(fraction)
	for len(whole)%4 != 0 {
		whole = "0" + whole
	}
	for len(fraction)%4 != 0 {
		fraction += "0"
	}
	digits := whole + fraction
	weight := len(whole)/4 - 1
	for strings.HasPrefix(digits, "0000") {
		digits = digits[4:]
		weight--
	}
	for strings.HasSuffix(digits, "0000") {
		digits = digits[:len(digits)-4]
	}
	if digits == "" {
		weight, sign = 0, 0
	}
	b := be(uint16(len(digits)/4), int16(weight), sign, uint16(scale))
	for ; digits != ""; digits = digits[4:] {
		n := uint16(0)
		for _, c := range digits[:4] {
			n = n*10 + uint16(c-'0')
		}
		b = append(b, be(n)...)
	}
	return b
}

func at(s string) int64 {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return micros(t)
}

var now = time.Date(2026, 11, 22, 10, 20, 30, 123456000, time.FixedZone("", 3600))

// row is one with every type that has a decoder, and one that has none.
func row() []field {
	return []field{
		col("id", 20, be(int64(1234567))), col("small", 21, be(int16(-7))), col("four", 23, be(int32(40))), col("huge", 20, be(int64(math.MaxInt64))),
		col("price", 1700, numericOf("1.10")), col("nan", 1700, numericOf("NaN")), col("inf", 1700, numericOf("-Infinity")), col("big", 1700, numericOf("12345678901234567890.125")),
		col("ratio", 701, be(0.1)), col("single", 700, be(float32(0.1))), col("fnan", 701, be(math.NaN())),
		col("yes", 16, []byte{1}), col("name", 25, []byte("Ada \"L\"")), col("code", 1042, []byte("ab   ")), col("letter", 18, []byte("x")),
		col("token", 2950, []byte("\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef")), col("raw", 17, []byte{0, 255}),
		col("born", 1082, be(int32(-5000))), col("created", 1114, be(at("2026-01-02T03:04:05.123456Z"))), col("seen", 1184, be(at("2026-01-02T03:04:05Z"))),
		col("never", 1184, be(int64(math.MaxInt64))), col("old", 1082, be(int32(-730120-300))), col("far", 1082, be(int32(2000000000))), col("clock", 1083, be(int64(3_600_000_001))),
		col("doc", 3802, []byte("\x01"+`{"a": 1.10, "n": 12345678901234567890, "list": [1, 2.50, "x"], "nil": null, "deep": {"b": "é\n"}}`)), col("plain", 114, []byte(` {"a" : 1e2} `)),
		col("word", 3802, []byte("\x01"+`"hi"`)), col("nulldoc", 3802, []byte("\x01null")), col("tags", 1009, []byte("\x01"+`["new", "hot"]`)), col("addr", 869, []byte("\x01"+`"10.0.0.1/8"`)),
		{render.Column{Name: "mood", Type: 70000, Kind: 'e'}, []byte("fine")},
		col("none", 25, nil), col("noint", 23, nil), col("nonum", 1700, nil), col("notime", 1184, nil), col("nodoc", 3802, nil),
	}
}

func columnsOf(fields []field) []render.Column {
	var out []render.Column
	for _, f := range fields {
		out = append(out, f.column)
	}
	return out
}

// valuesFor are the values of the selected columns.
func valuesFor(t Transform, fields []field) [][]byte {
	var out [][]byte
	for _, c := range t.Columns() {
		for _, f := range fields {
			if f.column.Name == c.Name {
				out = append(out, f.value)
				break
			}
		}
	}
	return out
}

// run1 compiles and runs an expression over row.
func run1(source string) (out string, present bool, err error) {
	fields := row()
	p, err := Compile(source, columnsOf(fields), "users")
	if err != nil {
		return "", false, err
	}
	b, present, err := p.Append(context.Background(), []byte("before"), []byte("users:1"), valuesFor(p, fields), now)
	if string(b[:6]) != "before" || err != nil && len(b) != 6 {
		panic("what stood in the buffer is gone")
	}
	return string(b[6:]), present, err
}

func wants(t *testing.T, source, want string) {
	t.Helper()
	got, present, err := run1(source)
	if err != nil || !present || got != want {
		t.Errorf("%s\n got %s (%v, %v)\nwant %s", source, got, present, err, want)
	}
}
