package transform

import (
	"math"
	"math/bits"
	"strconv"
)

// A short decimal has its digits in an int64. Almost all of those that tables hold are such, and calculating with them
// takes no memory.
const shortDigits = 18

var powers = func() (p [shortDigits + 1]int64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

func short(digits int64, scale int) value {
	return value{kind: decimal, num: digits, scale: int16(scale)}
}

// shortDecimal reads digits with a point and without an exponent; false where there are too many.
func shortDecimal(s string) (value, bool) {
	negative := false
	if s != "" && s[0] == '-' {
		negative, s = true, s[1:]
	}
	if len(s) == 0 || len(s) > shortDigits+1 {
		return value{}, false
	}
	var n int64
	point, digits := -1, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			n = n*10 + int64(c-'0')
			digits++
		case c == '.' && point < 0:
			point = i
		default:
			return value{}, false
		}
	}
	if digits == 0 || digits > shortDigits {
		return value{}, false
	}
	scale := 0
	if point >= 0 {
		scale = len(s) - point - 1
	}
	if negative {
		n = -n
	}
	return short(n, scale), true
}

// digitsOf are the digits and the scale of an integer or a short decimal.
func digitsOf(v value) (n int64, scale int, ok bool) {
	if v.kind == integer {
		return v.num, 0, true
	}
	if v.kind != decimal || v.ref != nil {
		return 0, 0, false
	}
	if v.str != "" {
		v, ok = shortDecimal(v.str)
		return v.num, int(v.scale), ok
	}
	return v.num, int(v.scale), true
}

// times10 is n with so many zeros.
func times10(n int64, zeros int) (int64, bool) {
	if zeros == 0 {
		return n, true
	}
	if zeros > shortDigits {
		return 0, n == 0
	}
	return product(n, powers[zeros])
}

func product(a, b int64) (int64, bool) {
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	return a * b, true
}

// aligned are the digits of two numbers at the same scale.
func aligned(a, b value) (c, d int64, scale int, ok bool) {
	c, sa, ok1 := digitsOf(a)
	d, sb, ok2 := digitsOf(b)
	if !ok1 || !ok2 {
		return 0, 0, 0, false
	}
	scale = max(sa, sb)
	c, ok1 = times10(c, scale-sa)
	d, ok2 = times10(d, scale-sb)
	return c, d, scale, ok1 && ok2
}

// shortArithmetic is a sum, a difference or a product, and false where it is none or grows too long.
func shortArithmetic(op byte, a, b value) (value, bool) {
	if op == '*' {
		c, sa, ok1 := digitsOf(a)
		d, sb, ok2 := digitsOf(b)
		if !ok1 || !ok2 {
			return value{}, false
		}
		n, ok := product(c, d)
		return short(n, sa+sb), ok && sa+sb <= 4*shortDigits
	}
	if op != '+' && op != '-' {
		return value{}, false
	}
	c, d, scale, ok := aligned(a, b)
	if !ok {
		return value{}, false
	}
	v, ok := wholes(-1, op, c, d)
	return short(v.num, scale), ok
}

// shortRounded is [rounded] where nothing has to be added or little is cut off.
func shortRounded(v value, digits int, mode byte) (value, bool) {
	n, scale, ok := digitsOf(v)
	if !ok || digits < 0 || v.kind == integer {
		return value{}, false
	}
	if scale <= digits {
		n, ok = times10(n, digits-scale)
		return short(n, digits), ok && digits <= shortDigits
	}
	if scale-digits > shortDigits {
		return value{}, false
	}
	unit := powers[scale-digits]
	q, rest := n/unit, n%unit
	switch {
	case mode == 'r' && magnitude(rest) >= uint64(unit-unit/2):
		if n < 0 {
			q--
		} else {
			q++
		}
	case mode == 'c' && rest > 0:
		q++
	case mode == 'f' && rest < 0:
		q--
	}
	return short(q, digits), true
}

// appendShort prints a short decimal.
func appendShort(dst []byte, v value) []byte {
	if v.scale == 0 {
		return strconv.AppendInt(dst, v.num, 10)
	}
	if v.num < 0 {
		dst = append(dst, '-')
	}
	var scratch [20]byte
	digits := strconv.AppendUint(scratch[:0], magnitude(v.num), 10)
	behind := int(v.scale)
	if len(digits) > behind {
		dst = append(dst, digits[:len(digits)-behind]...)
		dst = append(dst, '.')
		return append(dst, digits[len(digits)-behind:]...)
	}
	dst = append(dst, '0', '.')
	for range behind - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}
