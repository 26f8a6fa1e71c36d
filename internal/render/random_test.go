package render

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"
)

// literals generates values of a type as text. Floats are sent with 17 digits, so that every bit pattern can come up.
var literals = map[string]*rapid.Generator[string]{
	"int2":    rapid.Map(rapid.Int16(), func(n int16) string { return strconv.Itoa(int(n)) }),
	"int4":    rapid.Map(rapid.Int32(), func(n int32) string { return strconv.Itoa(int(n)) }),
	"int8":    rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
	"oid":     rapid.Map(rapid.Uint32(), func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }),
	"float8":  rapid.Map(floats(), func(f float64) string { return strconv.FormatFloat(f, 'g', 17, 64) }),
	"float4":  rapid.Map(float32s(), func(f float32) string { return strconv.FormatFloat(float64(f), 'g', 9, 32) }),
	"numeric": rapid.OneOf(rapid.StringMatching(`-?[0-9]{1,12}(\.[0-9]{0,9})?`), rapid.StringMatching(`-?[0-9]{1,3}e-?[0-9]{1,2}`), rapid.StringMatching(`-?[0-9]{1,1000}\.[0-9]{1,1000}`), rapid.StringMatching(`-?0\.0{0,30}[1-9]0{0,9}`), rapid.StringMatching(`[1-9]0{0,30}`)),
	"text":    text(), "varchar": text(), "char(12)": rapid.Map(text(), func(s string) string { return truncate(s, 12) }),
	"name":  rapid.Map(text(), func(s string) string { return truncate(s, 15) }),
	"uuid":  rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16), hex.EncodeToString),
	"bytea": rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return `\x` + hex.EncodeToString(b) }),
	"json":  rapid.Map(text(), document), "jsonb": rapid.Map(text(), document),
	// Dates and times as an offset that the query adds to an epoch: Postgres, not Go, makes a date of it.
	"date":        rapid.Map(rapid.Int32Range(-2451507, 2145031948), func(n int32) string { return strconv.Itoa(int(n)) }),
	"time":        micros(0, 86_400_000_000),
	"timestamp":   rapid.OneOf(micros(-211813488000000000, 9223371331199999999), micros(-1e15, 1e15)),
	"timestamptz": rapid.OneOf(micros(-211813488000000000, 9223371331199999999), micros(-1e15, 1e15)),
}

// casts make the value of a literal x where a plain cast does not.
var casts = map[string]string{
	"date": "date '2000-01-01' + x::int",
	"time": "time '00:00' + x::bigint * interval '1 microsecond'",
	// In two steps: one multiplication of an interval goes through a float and would round.
	"timestamp":   "timestamp '2000-01-01' + (x::bigint / 86400000000)::int * interval '1 day' + (x::bigint % 86400000000) * interval '1 microsecond'",
	"timestamptz": "timestamptz '2000-01-01+00' + (x::bigint / 86400000000)::int * interval '1 day' + (x::bigint % 86400000000) * interval '1 microsecond'",
}

func TestRandomValuesEqualToPostgres(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	for sqlType, generator := range literals {
		c := describe(t, conn, "v", sqlType)
		cast := casts[sqlType]
		if cast == "" {
			cast = "x::" + sqlType
		}
		t.Run(sqlType, rapid.MakeCheck(func(t *rapid.T) {
			values := rapid.SliceOfN(generator, 20, 60).Draw(t, "values")
			compare(t, conn, []Column{c}, fmt.Sprintf("from (select %s as v from unnest($1::text[]) x) t", cast), values)
		}))
	}
}

// TestShortestFloatsEqualToPostgres takes the floats where Postgres and strconv may differ: beside a multiple of a high
// power of five halfway between two floats, and all powers of two.
func TestShortestFloatsEqualToPostgres(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	var big []float64
	var small []float32
	five := uint64(1)
	for k := 0; k <= 23; k, five = k+1, five*5 {
		for _, odd := range []uint64{1, 3, 7, 9, 11, 13, 77, 123, 1001, 99999, 1234567, 1 << 60 / five, 1 << 54 / five, 1 << 25 / five, 1<<53/five + 2} {
			for e := 0; e <= 60; e += 3 {
				f := math.Ldexp(float64(odd|1), e) * math.Pow10(k)
				big = append(big, math.Nextafter(f, 0), f, math.Nextafter(f, math.Inf(1)))
				g := float32(f)
				small = append(small, math.Nextafter32(g, 0), g, math.Nextafter32(g, float32(math.Inf(1))))
			}
		}
	}
	// At powers of two the interval is narrower on one side, which shortest-float algorithms treat on its own.
	for e := -1074; e < 1024; e++ {
		big = append(big, math.Ldexp(1, e), -math.Ldexp(1, e))
		small = append(small, float32(math.Ldexp(1, e)), -float32(math.Ldexp(1, e)))
	}
	for from := 0; from < len(big); from += 1000 {
		to := min(from+1000, len(big))
		compare(t, conn, []Column{{"v", pgtype.Float8OID, 'b'}}, "from (select v from unnest($1::float8[]) v) t", big[from:to])
		compare(t, conn, []Column{{"v", pgtype.Float4OID, 'b'}}, "from (select v from unnest($1::float4[]) v) t", small[from:to])
	}
	// The one that everybody knows: the test is worth nothing if it does not meet such numbers.
	rows, err := conn.Query(context.Background(), "select 1e23::float8::text")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() || string(rows.RawValues()[0]) != "9.999999999999999e+22" {
		t.Fatal("Postgres now uses the ends of the interval; appendShortest must follow")
	}
}

func floats() *rapid.Generator[float64] {
	return rapid.OneOf(
		rapid.Map(rapid.Uint64(), math.Float64frombits),
		rapid.Map(rapid.Int64(), func(n int64) float64 { return float64(n) }),
		rapid.Map(rapid.Int64Range(-1e12, 1e12), func(n int64) float64 { return float64(n) / 100 }),
		rapid.Map(rapid.IntRange(-1074, 1023), func(e int) float64 { return math.Ldexp(1, e) }),
		rapid.Map(rapid.IntRange(-323, 308), math.Pow10),
		rapid.Custom(func(t *rapid.T) float64 {
			return float64(rapid.Uint16().Draw(t, "d")) * math.Pow10(rapid.IntRange(10, 30).Draw(t, "ten"))
		}))
}

func float32s() *rapid.Generator[float32] {
	return rapid.OneOf(
		rapid.Map(rapid.Uint32(), math.Float32frombits),
		rapid.Map(rapid.Int32(), func(n int32) float32 { return float32(n) }),
		rapid.Map(rapid.Int32(), func(n int32) float32 { return float32(n) / 100 }),
		rapid.Map(rapid.IntRange(-149, 127), func(e int) float32 { return float32(math.Ldexp(1, e)) }),
		rapid.Map(rapid.IntRange(-45, 38), func(e int) float32 { return float32(math.Pow10(e)) }))
}

// text has a good share of what JSON escapes. Postgres has no zero byte in text.
func text() *rapid.Generator[string] {
	awkward := rapid.RuneFrom([]rune("\"\\\n\r\t\b\f\x01\x1f\x7f /<>&'aé€🙂\u2028\uffff"))
	printable := rapid.RuneFrom([]rune("abcdefghijklmnopqrstuvwxyz 0123456789"))
	return rapid.OneOf(rapid.StringOf(awkward), rapid.StringOf(printable), rapid.StringOf(rapid.OneOf(printable, printable, awkward)))
}

func truncate(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

func document(s string) string {
	b, _ := json.Marshal(map[string]any{s: []any{s, 1.5, nil}, "n": len(s)})
	return string(b)
}

func micros(lo, hi int64) *rapid.Generator[string] {
	return rapid.Map(rapid.Int64Range(lo, hi), func(n int64) string { return strconv.FormatInt(n, 10) })
}
