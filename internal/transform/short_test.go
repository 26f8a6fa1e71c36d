package transform

import (
	"testing"

	"pgregory.net/rapid"
)

// TestShortDecimalsAreAsLongOnes compares what is calculated in an int64 with what is calculated in any length.
func TestShortDecimalsAreAsLongOnes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`-?(0|[1-9][0-9]{0,10})(\.[0-9]{1,7})?`)
		draw := func(name string) (value, value) {
			s := digits.Draw(t, name)
			v, ok := shortDecimal(s)
			if !ok {
				t.Fatalf("%s is not short", s)
			}
			return v, decimalValue(parseDecimal(-1, s))
		}
		r := &run{}
		a, longA := draw("a")
		b, longB := draw("b")
		for _, op := range []byte("+-*/%") {
			if (op == '/' || op == '%') && b.num == 0 {
				continue
			}
			x, y := string(appendDecimal(nil, asDecimal(r, r.arithmetic(-1, op, a, b)))), string(appendDecimal(nil, asDecimal(r, r.arithmetic(-1, op, longA, longB))))
			if x != y {
				t.Fatalf("%c: %s, want %s", op, x, y)
			}
		}
		if r.order(-1, a, b) != r.order(-1, longA, longB) {
			t.Fatal("order")
		}
		for _, mode := range []byte("rcf") {
			n := rapid.IntRange(0, 9).Draw(t, "digits")
			if v, ok := shortRounded(a, n, mode); ok {
				if x, y := string(appendDecimal(nil, v)), rounded(-1, r.exactly(-1, longA), n, mode).Text('f'); x != y {
					t.Fatalf("%c %d: %s, want %s", mode, n, x, y)
				}
			}
		}
		if x, y := string(appendDecimal(nil, a)), string(appendDecimal(nil, longA)); x != y {
			t.Fatalf("%s, want %s", x, y)
		}
	})
}

func asDecimal(r *run, v value) value { return decimalValue(r.exactly(-1, v)) }
