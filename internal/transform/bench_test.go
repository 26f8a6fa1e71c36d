package transform

import (
	"context"
	"syscall"
	"testing"

	"github.com/freshet/freshet/internal/render"
)

// benchRow is a row as tables have them, of about 300 bytes of JSON.
func benchRow() []field {
	return []field{
		col("id", 20, be(int64(1234567))), col("account_id", 23, be(int32(4711))), col("email", 25, []byte("ada.lovelace@example.com")), col("name", 25, []byte("Ada Lovelace")),
		{render.Column{Name: "status", Type: 70000, Kind: 'e'}, []byte("active")}, col("active", 16, []byte{1}), col("balance", 1700, numericOf("120034.56")), col("score", 701, be(0.8125)),
		col("token", 2950, []byte("0123456789abcdef")), col("created_at", 1184, be(int64(847_000_000_123_456))), col("secret", 25, []byte("hunter2hunter2")), col("settings", 3802, []byte("\x01"+`{"theme": "dark", "langs": ["en", "fr"]}`)),
	}
}

func BenchmarkRow12Columns(b *testing.B) {
	fields := benchRow()
	columns := columnsOf(fields)
	var all [][]byte
	for _, f := range fields {
		all = append(all, f.value)
	}
	b.Run("render.Object", func(b *testing.B) {
		o := render.NewObject(columns)
		var dst []byte
		b.ReportAllocs()
		from := used()
		for b.Loop() {
			dst, _ = o.Append(dst[:0], all)
		}
		b.ReportMetric(float64(used()-from)/float64(b.N), "cpu-ns/op")
	})
	for _, c := range []struct{ name, source string }{
		{"five fields", `{id: record.id, name: upper(record.name), balance: record.balance, created: record.created_at, settings: record.settings}`},
		{"five computed", `{id: record.id, name: upper(record.name), balance: round(record.balance * 1.19, 2), created: format(record.created_at, "2006-01-02"), theme: record.settings?.theme ?? "light"}`},
		{"omit", `omit(record, "secret")`},
		{"merge", `merge(omit(record, "secret"), {name: upper(record.name)})`},
		{"record", `record`},
		{"text", `record.name + " <" + record.email + ">"`},
	} {
		b.Run(c.name, func(b *testing.B) {
			p, err := Compile(c.source, columns, "users")
			if err != nil {
				b.Fatal(err)
			}
			bench(b, p, valuesFor(p, fields))
		})
	}
	type user struct {
		ID   int64  `json:"id"`
		Name string `json:"name"`
	}
	for name, f := range map[string]Func{
		"Go text": func(_ context.Context, r Record) (Value, error) { return Text(r.Text("name")), nil },
		"Go JSON": func(_ context.Context, r Record) (Value, error) {
			id, err := r.Int64("id")
			return JSON(user{id, r.Text("name")}), err
		},
	} {
		b.Run(name, func(b *testing.B) { bench(b, newGo("f", f, columns, "users", new(calls)), all) })
	}
}

func bench(b *testing.B, t Transform, values [][]byte) {
	var dst []byte
	key := []byte("users:1234567")
	b.ReportAllocs()
	from := used()
	for b.Loop() {
		var err error
		if dst, _, err = t.Append(context.Background(), dst[:0], key, values, now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(used()-from)/float64(b.N), "cpu-ns/op")
}

// used is the processor's time, which says more than the clock's where others use the machine.
func used() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
