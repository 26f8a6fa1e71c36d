package transform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/freshet/freshet/internal/render"
)

// drawn is a column with a value that Postgres could send.
func drawn(t *rapid.T, i int) field {
	name := fmt.Sprintf("c%d", i)
	digits := rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,20})?`)
	document := rapid.SampledFrom([]string{`null`, `{}`, `[]`, `{"a": [1.10, -0, 1e400, {"b": "\u0041\n"}], "a": null}`, `"x\ud83d\ude42"`, ` 1.0 `, `true`, `123456789012345678901234567890`})
	all := []func() field{
		func() field { return col(name, 20, be(rapid.Int64().Draw(t, "int8"))) },
		func() field { return col(name, 21, be(rapid.Int16().Draw(t, "int2"))) },
		func() field { return col(name, 1700, numericOf(digits.Draw(t, "numeric"))) },
		func() field { return col(name, 701, be(math.Float64frombits(rapid.Uint64().Draw(t, "float8")))) },
		func() field { return col(name, 700, be(math.Float32frombits(rapid.Uint32().Draw(t, "float4")))) },
		func() field { return col(name, 25, []byte(rapid.String().Draw(t, "text"))) },
		func() field { return col(name, 17, rapid.SliceOf(rapid.Byte()).Draw(t, "bytea")) },
		func() field { return col(name, 16, []byte{byte(rapid.IntRange(0, 1).Draw(t, "bool"))}) },
		func() field { return col(name, 1082, be(rapid.Int32().Draw(t, "date"))) },
		func() field { return col(name, 1114, be(rapid.Int64().Draw(t, "timestamp"))) },
		func() field { return col(name, 1184, be(rapid.Int64().Draw(t, "timestamptz"))) },
		func() field { return col(name, 2950, rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")) },
		func() field { return col(name, 114, []byte(document.Draw(t, "json"))) },
		func() field { return col(name, 3802, append([]byte{1}, document.Draw(t, "jsonb")...)) },
		func() field { return col(name, 1009, append([]byte{1}, document.Draw(t, "array")...)) },
		func() field { return col(name, 25, nil) },
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(t, "type")]()
}

func TestRecordIsWhatRenderPrints(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var fields []field
		for i := range rapid.IntRange(1, 40).Draw(t, "columns") {
			fields = append(fields, drawn(t, i))
		}
		var values [][]byte
		for _, f := range fields {
			values = append(values, f.value)
		}
		want, err := render.NewObject(columnsOf(fields)).Append(nil, values)
		if err != nil {
			t.Fatal(err)
		}
		for _, source := range []string{"record", "merge({}, record)", "fromPairs(toPairs(record))", `merge(pick(record, "c0"), omit(record, "c0"))`, `omit(record, lower("none"))`, "{r: record}.r"} {
			p, err := Compile(source, columnsOf(fields), "s")
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := p.Append(context.Background(), nil, nil, values, now)
			if err != nil || string(got) != string(want) {
				t.Fatalf("%s\n got %s (%v)\nwant %s", source, got, err, want)
			}
		}
	})
}

func TestDecodedNumbersArePrintedTheSame(t *testing.T) {
	t.Parallel()
	columns := []render.Column{{Name: "n", Type: 1700, Kind: 'b'}}
	p, err := Compile("[record.n, record.n * 1, record.n + 0, decimal(string(record.n)), -(-record.n)]", columns, "s")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?`).Draw(t, "digits")
		got, _, err := p.Append(context.Background(), nil, nil, [][]byte{numericOf(digits)}, now)
		if strings.Trim(digits, "-0.") == "" {
			digits = strings.TrimPrefix(digits, "-")
		}
		if want := "[" + strings.Repeat(digits+",", 4) + digits + "]"; err != nil || string(got) != want {
			t.Fatalf("got %s (%v), want %s", got, err, want)
		}
	})
}

func TestArithmeticLaws(t *testing.T) {
	t.Parallel()
	columns := []render.Column{{Name: "a", Type: 1700, Kind: 'b'}, {Name: "b", Type: 1700, Kind: 'b'}}
	p, err := Compile(`let a = record.a; let b = record.b;
		[a + b - b == a, a * b == b * a, b == 0 or a % b + b * ((a - a % b) / b) == a, (a < b) == (a - b < 0), round(a, 30) == a, floor(a) <= a and a <= ceil(a), b == 0 or abs(a / b * b - a) <= abs(b)]`, columns, "s")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,12})?`)
		a, b := digits.Draw(t, "a"), digits.Draw(t, "b")
		got, _, err := p.Append(context.Background(), nil, nil, [][]byte{numericOf(a), numericOf(b)}, now)
		if err != nil || strings.Contains(string(got), "false") {
			t.Fatalf("%s, %s: %s, %v", a, b, got, err)
		}
	})
}

// sources are pieces that a random expression is made of.
var sources = []string{"record", ".id", ".name", ".price", ".doc", ".seen", "?.", "?? 1", "+", "-", "*", "/", "%", "**", "==", "<", "(", ")", "[", "]", "{", "}", ":", ",", "1", "0.5", "nil", `"a"`, "#", "map(", "filter(", "reduce(", "sortBy(", "groupBy(", "upper(", "merge(", "pick(", "omit(", "round(", "toJSON(", "format(", "now", "key", "..", "in", "not ", "and", "?", "let x =", ";", "x", "if ", "else", "|", "matches", "record.tags", "record.raw", "record.never", "count("}

func TestNoExpressionPanics(t *testing.T) {
	t.Parallel()
	fields := row()
	rapid.Check(t, func(t *rapid.T) {
		source := strings.Join(rapid.SliceOfN(rapid.SampledFrom(sources), 1, 14).Draw(t, "source"), " ")
		attempt(t, fields, source)
	})
}

func attempt(t interface {
	Helper()
	Fatalf(string, ...any)
}, fields []field, source string) {
	t.Helper()
	p, err := Compile(source, columnsOf(fields), "s")
	var e *Error
	if err != nil {
		if !errors.As(err, &e) || strings.Contains(err.Error(), "runtime error") {
			t.Fatalf("%q: %v", source, err)
		}
		return
	}
	start := time.Now()
	out, present, err := p.Append(context.Background(), nil, []byte("k"), valuesFor(p, fields), now)
	if err != nil && (!errors.As(err, &e) || present || len(out) != 0) {
		t.Fatalf("%q: %v", source, err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Fatalf("%q took %v", source, took)
	}
	again, _, err2 := p.Append(context.Background(), nil, []byte("k"), valuesFor(p, fields), now)
	if string(again) != string(out) || fmt.Sprint(err) != fmt.Sprint(err2) {
		t.Fatalf("%q: %q and %q, %v and %v", source, out, again, err, err2)
	}
	if strings.Contains(string(out), "<nil>") && !strings.Contains(source, "<nil>") {
		t.Fatalf("%q: %s", source, out)
	}
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{"record", "{id: record.id, n: upper(record.name)}", "map(1..3, # * 2)", `record.doc?.a ?? "x"`, "let a = 1; a ** 2", "reduce(1..9, #acc + #, 0)", `"ä"[0:1]`, "1 < 2 < 3", "{(key): [nil, 1.50, true]}"} {
		f.Add(s)
	}
	fields := row()
	f.Fuzz(func(t *testing.T, source string) { attempt(t, fields, source) })
}

// FuzzRow has rows of any bytes: what is printed must be JSON.
func FuzzRow(f *testing.F) {
	for _, r := range row() {
		if r.value != nil {
			f.Add(r.column.Type, r.value)
		}
	}
	f.Fuzz(func(t *testing.T, oid uint32, v []byte) {
		if v == nil {
			v = []byte{}
		}
		columns := []render.Column{{Name: "v", Type: oid, Kind: 'b'}}
		for _, source := range []string{"{v: record.v}", "[record.v == 1]", "{v: toJSON(record.v)}", "{v: record.v, k: keys(get(record, \"v\") ?? {})}", "[string(record.v)]", "[record.v + 1]", "[record.v < now, format(record.v, \"2006\")]"} {
			p, err := Compile(source, columns, "s")
			if err != nil {
				continue
			}
			out, _, err := p.Append(context.Background(), nil, nil, [][]byte{v}, now)
			// What json and jsonb hold is believed to be JSON where it is not looked at.
			if err == nil && render.NewCell(columns[0]).Sort() != render.Document && (!json.Valid(out) || !utf8.Valid(out)) {
				t.Fatalf("%s: %q", source, out)
			}
			if err != nil && (strings.Contains(err.Error(), "runtime error") || len(out) != 0) {
				t.Fatalf("%s: %v", source, err)
			}
		}
		g := newGo("f", func(_ context.Context, r Record) (Value, error) {
			r.Time("v")
			r.Float64("v")
			j, err := r.JSON("v")
			return JSON([]string{r.Text("v"), string(j)}), err
		}, columns, "s", new(calls))
		if _, _, err := g.Append(context.Background(), nil, nil, [][]byte{v}, now); err != nil && strings.Contains(err.Error(), "panic") {
			t.Fatal(err)
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	fields := row()
	p, err := Compile(`{k: key, v: map(1..20, {let x = # * 2; string(x) + key}), d: record.doc.deep.b, p: record.price * 2, j: join(split(record.name, " "), "-")}`, columnsOf(fields), "s")
	if err != nil {
		t.Fatal(err)
	}
	values := valuesFor(p, fields)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			key := []byte(fmt.Sprint("key:", i))
			first, _, err := p.Append(context.Background(), nil, key, values, now)
			for range 200 {
				again, _, _ := p.Append(context.Background(), nil, key, values, now)
				if err != nil || string(again) != string(first) || !strings.Contains(string(first), `"40key:`+fmt.Sprint(i)) {
					t.Errorf("%s, %s, %v", first, again, err)
					return
				}
			}
		}()
	}
	wg.Wait()
}
