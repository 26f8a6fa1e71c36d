package transform

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func runGo(f Func) (string, bool, error) {
	fields := row()
	g := newGo("mine", f, columnsOf(fields), "users", new(calls))
	b, present, err := g.Append(context.Background(), []byte("before"), []byte("users:1"), valuesFor(g, fields), now)
	if string(b[:6]) != "before" || err != nil && len(b) != 6 {
		panic("what stood in the buffer is gone")
	}
	return string(b[6:]), present, err
}

func TestGoFunctionsReadEveryType(t *testing.T) {
	t.Parallel()
	_, _, err := runGo(func(_ context.Context, r Record) (Value, error) {
		check := func(got, want any) {
			t.Helper()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		check(r.Key(), "users:1")
		check(r.Sink(), "users")
		check(r.Now(), now.UTC())
		check(len(r.Columns()), len(row()))
		check(r.IsNull("none"), true)
		check(r.IsNull("id"), false)
		for name, want := range map[string]string{
			"id": "1234567", "small": "-7", "price": "1.10", "nan": "NaN", "ratio": "0.1", "single": "0.1", "fnan": "NaN", "yes": "true", "name": `Ada "L"`, "code": "ab", "letter": "x", "token": "01234567-89ab-cdef-0123-456789abcdef",
			"raw": `\x00ff`, "born": "1986-04-24", "created": "2026-01-02 03:04:05.123456", "seen": "2026-01-02 03:04:05+00", "never": "infinity", "clock": "01:00:00.000001", "word": `"hi"`, "tags": `["new", "hot"]`, "addr": "10.0.0.1/8", "mood": "fine", "none": "",
		} {
			check(r.Text(name), want)
		}
		n, err := r.Int64("small")
		check(n, -7)
		f, _ := r.Float64("ratio")
		check(f, 0.1)
		b, _ := r.Bool("yes")
		check(b, true)
		raw, _ := r.Bytes("raw")
		check(raw, []byte{0, 255})
		at, _ := r.Time("created")
		check(at, time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC))
		day, _ := r.Time("born")
		check(day, time.Date(1986, 4, 24, 0, 0, 0, 0, time.UTC))
		j, _ := r.JSON("seen")
		doc, _ := r.JSON("tags")
		check(string(j)+string(doc), `"2026-01-02T03:04:05+00:00"["new", "hot"]`)
		null, _ := r.JSON("none")
		check(string(null), "null")
		for want, get := range map[string]func() error{
			`there is no column "naem"; did you mean "name"?`:       func() error { _, err := r.Int64("naem"); return err },
			`column "name": its type is not read as a whole number`: func() error { _, err := r.Int64("name"); return err },
			`column "noint": it is null`:                            func() error { _, err := r.Int64("noint"); return err },
			`column "never": an infinite time is none of Go's`:      func() error { _, err := r.Time("never"); return err },
		} {
			check(get(), want)
		}
		return None(), err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFloatsAsText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		f    float64
		want string
	}{{0, "0"}, {1, "1"}, {1e14, "100000000000000"}, {1e15, "1e+15"}, {123456789012345, "123456789012345"}, {0.0001, "0.0001"}, {0.00001, "1e-05"}, {1e23, "1e+23"}, {-1.5, "-1.5"}, {5e-324, "5e-324"}} {
		fields := []field{col("f", 701, be(test.f))}
		g := newGo("f", func(_ context.Context, r Record) (Value, error) { return Text(r.Text("f")), nil }, columnsOf(fields), "s", new(calls))
		got, _, err := g.Append(context.Background(), nil, nil, [][]byte{fields[0].value}, now)
		if test.f == 1e23 {
			test.want = "9.999999999999999e+22"
		}
		if err != nil || string(got) != test.want {
			t.Errorf("%v: %s, %v", test.want, got, err)
		}
	}
}

func TestGoResults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value   Value
		want    string
		present bool
	}{
		{JSON(map[string]any{"b": "<&>", "a": 1}), `{"a":1,"b":"<&>"}`, true}, {RawJSON([]byte(" [1] ")), "[1]", true}, {Text("x"), "x", true}, {Text(""), "", true}, {Bytes([]byte{0, 255}), "\x00\xff", true}, {None(), "", false}, {Value{}, "", false}, {JSON(nil), "null", true},
	} {
		got, present, err := runGo(func(context.Context, Record) (Value, error) { return test.value, nil })
		if got != test.want || present != test.present || err != nil {
			t.Errorf("%q, %v, %v, want %q", got, present, err, test.want)
		}
	}
}

func TestMistakesOfGoFunctionsAreTheEntrys(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]Func{
		"mine: no":         func(context.Context, Record) (Value, error) { return None(), errors.New("no") },
		"mine: panic: oh":  func(context.Context, Record) (Value, error) { panic("oh") },
		"mine: panic: ":    func(context.Context, Record) (Value, error) { var m map[string]int; m["a"] = 1; return None(), nil },
		"mine: json:":      func(context.Context, Record) (Value, error) { return JSON(make(chan int)), nil },
		"mine: what RawJS": func(context.Context, Record) (Value, error) { return RawJSON([]byte("{")), nil },
		`mine: there is no column "naem"; did you mean "name"?`: func(_ context.Context, r Record) (Value, error) { return Text(r.Text("naem")), nil },
	} {
		_, present, err := runGo(f)
		var e *Error
		if !errors.As(err, &e) || present || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestGoFunctionHasATimeLimit(t *testing.T) {
	t.Parallel()
	fields := row()
	hang, entered := make(chan struct{}), make(chan struct{})
	g := newGo("slow", func(ctx context.Context, r Record) (Value, error) {
		if r.Key() == "hangs" {
			close(entered)
			<-hang
			return Text("late"), nil
		}
		<-ctx.Done()
		return None(), ctx.Err()
	}, columnsOf(fields), "users", new(calls))
	g.timeout = 5 * time.Millisecond
	_, _, err := g.Append(context.Background(), nil, []byte("waits"), valuesFor(g, fields), now)
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "slow: the time limit of 5ms is over") {
		t.Error(err)
	}
	if list := g.calls.overdue(time.Now().Add(time.Hour)); len(list) != 0 {
		t.Error(list)
	}

	// One that does not heed it can only be reported, and what it comes to is right all the same.
	done := make(chan error)
	go func() {
		out, _, err := g.Append(context.Background(), nil, []byte("hangs"), valuesFor(g, fields), now)
		if string(out) != "late" {
			err = fmt.Errorf("%q, %v", out, err)
		}
		done <- err
	}()
	<-entered
	if list := g.calls.overdue(time.Now().Add(time.Hour)); len(list) != 1 || list[0].Name != "slow" {
		t.Error(list)
	}
	close(hang)
	if err := <-done; err != nil {
		t.Error(err)
	}

	// The caller's own end is no fault of the entry.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := g.Append(ctx, nil, nil, valuesFor(g, fields), now); !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Error(err)
	}
}
