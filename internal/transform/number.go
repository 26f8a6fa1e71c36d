package transform

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"

	"github.com/cockroachdb/apd/v3"
)

const (
	// What numeric can have before and behind the point.
	maxDigits, maxScale = 131072, 16383
	// A quotient has at least this many significant digits, and at most so many behind the point, as in Postgres.
	quotientDigits, quotientScale = 16, 1000
)

// arithmetic rounds nothing.
var arithmetic = apd.Context{MaxExponent: 200_000, MinExponent: -200_000, Traps: apd.DefaultTraps}

// parseDecimal reads digits with point and exponent.
func parseDecimal(at int, s string) *apd.Decimal {
	d, ok := readDecimal(s)
	if !ok {
		failf(at, "%s is not a number, or has more digits than numeric can have", clipped(s))
	}
	return d
}

func readDecimal(s string) (*apd.Decimal, bool) {
	d := new(apd.Decimal)
	if len(s) > maxDigits+maxScale+16 {
		return nil, false
	}
	if _, _, err := d.SetString(s); err != nil || d.Form != apd.Finite {
		return nil, false
	}
	return d, settle(d)
}

// settle brings a decimal into the form that all have here: no exponent above 0, no -0, no more digits than numeric.
func settle(d *apd.Decimal) bool {
	digits := d.NumDigits() + int64(d.Exponent)
	if d.Exponent < -maxScale || digits > maxDigits {
		if !d.IsZero() || d.Exponent < -maxScale {
			return false
		}
	}
	if d.IsZero() {
		d.Negative = false
		d.Exponent = min(d.Exponent, 0)
	}
	if d.Exponent > 0 {
		var ten big.Int
		ten.Exp(big.NewInt(10), big.NewInt(int64(d.Exponent)), nil)
		c := d.Coeff.MathBigInt()
		c.Mul(c, &ten)
		d.Coeff.SetMathBigInt(c)
		d.Exponent = 0
	}
	return true
}

func scaleOf(d *apd.Decimal) int { return int(-d.Exponent) }

// exactly is an integer or a decimal as a decimal.
func (r *run) exactly(at int, v value) *apd.Decimal {
	if v.kind == integer {
		return apd.New(v.num, 0)
	}
	if d, ok := v.ref.(*apd.Decimal); ok {
		return d
	}
	if v.str == "" {
		return apd.New(v.num, -int32(v.scale))
	}
	return parseDecimal(at, v.str)
}

// approximately is any number as a float.
func (r *run) approximately(at int, v value) float64 {
	switch v.kind {
	case float:
		return v.float()
	case integer:
		return float64(v.num)
	}
	if v.ref == nil {
		f, err := strconv.ParseFloat(v.str, 64)
		if err == nil {
			return f
		}
	}
	f, err := strconv.ParseFloat(r.exactly(at, v).Text('f'), 64)
	if err != nil {
		failf(at, "a decimal number is too large for a float")
	}
	return f
}

// arithmetic of two numbers; the operator is one of + - * / % and ^ for a power.
func (r *run) arithmetic(at int, op byte, a, b value) value {
	if a.kind == float || b.kind == float {
		return r.floats(at, op, r.approximately(at, a), r.approximately(at, b))
	}
	if a.kind == integer && b.kind == integer {
		if v, ok := wholes(at, op, a.num, b.num); ok {
			return v
		}
	}
	if v, ok := shortArithmetic(op, a, b); ok {
		return v
	}
	x, y := r.exactly(at, a), r.exactly(at, b)
	// The work is the product of the lengths at worst, those that the result has included.
	nx, ny := int(x.NumDigits())+scaleOf(y), int(y.NumDigits())+scaleOf(x)
	r.grow(at, 64+nx+ny)
	if op != '+' && op != '-' {
		r.spend(at, nx*ny/1000)
	}
	out := new(apd.Decimal)
	var err error
	switch op {
	case '+':
		_, err = arithmetic.Add(out, x, y)
	case '-':
		_, err = arithmetic.Sub(out, x, y)
	case '*':
		_, err = arithmetic.Mul(out, x, y)
	case '/':
		out = quotient(at, x, y)
	case '%':
		out = remainder(at, x, y)
	case '^':
		return r.power(at, x, y)
	}
	if err != nil || !settle(out) {
		failf(at, "the result has more digits than numeric can have")
	}
	return decimalValue(out)
}

// wholes is the same of integers, and false where the result is not one of 64 bits.
func wholes(at int, op byte, a, b int64) (value, bool) {
	switch op {
	case '+':
		c := a + b
		return intValue(c), (c > a) == (b > 0)
	case '-':
		c := a - b
		return intValue(c), (c < a) == (b > 0)
	case '*':
		hi, lo := bits.Mul64(magnitude(a), magnitude(b))
		if hi != 0 || lo > math.MaxInt64 {
			return value{}, false
		}
		return intValue(a * b), true
	case '/':
		if b == 0 {
			failf(at, "division by zero")
		}
		if b != -1 && a%b == 0 {
			return intValue(a / b), true
		}
	case '%':
		if b == 0 {
			failf(at, "division by zero")
		}
		if b == -1 {
			return intValue(0), true
		}
		return intValue(a % b), true
	}
	return value{}, false
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

func (r *run) floats(at int, op byte, a, b float64) value {
	if special(a) || special(b) {
		failf(at, "NaN and Infinity cannot be calculated with")
	}
	var c float64
	switch op {
	case '+':
		c = a + b
	case '-':
		c = a - b
	case '*':
		c = a * b
	case '/', '%':
		if b == 0 {
			failf(at, "division by zero")
		}
		if c = a / b; op == '%' {
			c = math.Mod(a, b)
		}
	case '^':
		c = math.Pow(a, b)
	}
	if special(c) {
		failf(at, "the result is not a number that a float can hold")
	}
	return floatValue(c)
}

func special(f float64) bool { return f != f || math.IsInf(f, 0) }

// quotient is rounded half away from zero, where Postgres rounds that of two numerics. Zeros at the end are dropped
// as far as neither operand has them.
func quotient(at int, x, y *apd.Decimal) *apd.Decimal {
	if y.IsZero() {
		failf(at, "division by zero")
	}
	xw, xf := leading(x)
	yw, yf := leading(y)
	weight := xw - yw
	if xf <= yf {
		weight--
	}
	least := max(scaleOf(x), scaleOf(y))
	scale := min(max(quotientDigits-weight*4, least, 0), max(quotientScale, least))

	n, d := x.Coeff.MathBigInt(), y.Coeff.MathBigInt()
	shift := scale - scaleOf(x) + scaleOf(y)
	if shift >= 0 {
		n.Mul(n, tenTo(shift))
	} else {
		d.Mul(d, tenTo(-shift))
	}
	q := half(n, d)
	for ten, rest := big.NewInt(10), new(big.Int); scale > least && q.Sign() != 0; scale-- {
		t, m := new(big.Int).QuoRem(q, ten, rest)
		if m.Sign() != 0 {
			break
		}
		q = t
	}
	if q.Sign() == 0 {
		scale = least
	}
	out := &apd.Decimal{Negative: x.Negative != y.Negative, Exponent: int32(-scale)}
	out.Coeff.SetMathBigInt(q)
	return out
}

// half divides and rounds half up; both are positive.
func half(n, d *big.Int) *big.Int {
	q, m := new(big.Int).QuoRem(n, d, new(big.Int))
	if m.Lsh(m, 1).Cmp(d) >= 0 {
		q.Add(q, big.NewInt(1))
	}
	return q
}

func tenTo(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// leading is the weight and the value of the first digit to base 10,000.
func leading(d *apd.Decimal) (weight, first int) {
	if d.IsZero() {
		return 0, 0
	}
	digits := d.Coeff.String()
	top := len(digits) - 1 + int(d.Exponent)
	weight = top >> 2
	n := top - weight*4 + 1
	for len(digits) < n {
		digits += "0"
	}
	first, _ = strconv.Atoi(digits[:n])
	return weight, first
}

// remainder has the sign of x.
func remainder(at int, x, y *apd.Decimal) *apd.Decimal {
	if y.IsZero() {
		failf(at, "division by zero")
	}
	scale := max(scaleOf(x), scaleOf(y))
	n, d := x.Coeff.MathBigInt(), y.Coeff.MathBigInt()
	n.Mul(n, tenTo(scale-scaleOf(x)))
	d.Mul(d, tenTo(scale-scaleOf(y)))
	out := &apd.Decimal{Negative: x.Negative, Exponent: int32(-scale)}
	out.Coeff.SetMathBigInt(n.Rem(n, d))
	return out
}

// power takes whole exponents only; anything else has no exact result.
func (r *run) power(at int, x, y *apd.Decimal) value {
	n, err := y.Int64()
	if err != nil {
		failf(at, "an exact power needs a whole exponent; take float(…) of the base for another")
	}
	size := magnitude(n)
	if size > maxDigits || x.NumDigits()*int64(size) > maxDigits {
		failf(at, "the result has more digits than numeric can have")
	}
	digits := int(x.NumDigits()) * int(size)
	r.grow(at, 64+digits)
	r.spend(at, digits*digits/1000)
	out := &apd.Decimal{Negative: x.Negative && size%2 == 1, Exponent: x.Exponent * int32(size)}
	c := x.Coeff.MathBigInt()
	out.Coeff.SetMathBigInt(c.Exp(c, new(big.Int).SetUint64(size), nil))
	if !settle(out) {
		failf(at, "the result has more digits than numeric can have")
	}
	if n < 0 {
		out = quotient(at, apd.New(1, 0), out)
	}
	return shrink(out)
}

// rounded is d with so many digits behind the point, or with zeros before it where digits is negative.
func rounded(at int, d *apd.Decimal, digits int, mode byte) *apd.Decimal {
	if digits > maxScale || digits < -maxDigits {
		failf(at, "a number cannot be rounded to %d digits", digits)
	}
	if scaleOf(d) <= digits {
		out := new(apd.Decimal)
		shift := digits - scaleOf(d)
		c := d.Coeff.MathBigInt()
		out.Coeff.SetMathBigInt(c.Mul(c, tenTo(shift)))
		out.Negative, out.Exponent = d.Negative, int32(-digits)
		return out
	}
	unit := tenTo(scaleOf(d) - digits)
	n := d.Coeff.MathBigInt()
	var q *big.Int
	if mode == 'r' {
		q = half(n, unit)
	} else {
		m := new(big.Int)
		q, m = new(big.Int).QuoRem(n, unit, m)
		if m.Sign() != 0 && (mode == 'c' && !d.Negative || mode == 'f' && d.Negative) {
			q.Add(q, big.NewInt(1))
		}
	}
	out := &apd.Decimal{Negative: d.Negative, Exponent: int32(-digits)}
	out.Coeff.SetMathBigInt(q)
	if !settle(out) {
		failf(at, "the result has more digits than numeric can have")
	}
	return out
}

// shrink makes an integer of a decimal that is one.
func shrink(d *apd.Decimal) value {
	if d.Exponent == 0 {
		if n, err := d.Int64(); err == nil {
			return intValue(n)
		}
	}
	return decimalValue(d)
}

// order compares two numbers as Postgres does: NaN is the greatest of all, and equal to itself.
func (r *run) order(at int, a, b value) int {
	if a.kind == integer && b.kind == integer {
		switch {
		case a.num < b.num:
			return -1
		case a.num > b.num:
			return 1
		}
		return 0
	}
	if a.kind != float && b.kind != float {
		if c, d, _, ok := aligned(a, b); ok {
			return r.order(at, intValue(c), intValue(d))
		}
		x, y := r.exactly(at, a), r.exactly(at, b)
		r.spend(at, int(x.NumDigits()+y.NumDigits())/16+max(scaleOf(x), scaleOf(y))/16)
		return x.Cmp(y)
	}
	x, y := r.approximately(at, a), r.approximately(at, b)
	switch {
	case x != x && y != y:
		return 0
	case x != x:
		return 1
	case y != y:
		return -1
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// negated is -v.
func (r *run) negated(at int, v value) value {
	switch v.kind {
	case integer:
		if v.num != math.MinInt64 {
			return intValue(-v.num)
		}
	case float:
		if special(v.float()) {
			failf(at, "NaN and Infinity cannot be calculated with")
		}
		return floatValue(-v.float())
	}
	out := new(apd.Decimal)
	out.Set(r.exactly(at, v))
	out.Negative = !out.Negative && !out.IsZero()
	return decimalValue(out)
}
