package render

import (
	"math"
	"math/bits"
	"strconv"
)

func appendFloat8(dst []byte, b uint64) []byte {
	f := math.Float64frombits(b)
	// Whole numbers up to 2^53 are exact, and far cheaper as such. It also takes care of -0, which jsonb has not.
	if n := int64(f); float64(n) == f && n < 1<<53 && n > -1<<53 {
		return strconv.AppendInt(dst, n, 10)
	}
	if dst, ok := appendNonFinite(dst, f); ok {
		return dst
	}
	return appendShortest(dst, f, 64, b&(1<<52-1)|1<<52, int(b>>52&0x7ff)-1075)
}

func appendFloat4(dst []byte, b uint32) []byte {
	f := float64(math.Float32frombits(b))
	if n := int64(f); float64(n) == f && n < 1<<24 && n > -1<<24 {
		return strconv.AppendInt(dst, n, 10)
	}
	if dst, ok := appendNonFinite(dst, f); ok {
		return dst
	}
	// Exactly between two decimals of eight digits. strconv (Go 1.26) rounds this one number of all up, not to even.
	if b&(1<<31-1) == 115<<23 { // 2^-12
		if f < 0 {
			dst = append(dst, '-')
		}
		return append(dst, "0.00024414062"...)
	}
	return appendShortest(dst, f, 32, uint64(b&(1<<23-1)|1<<23), int(b>>23&0xff)-150)
}

// appendNonFinite appends what JSON has no number for, as a string like to_jsonb.
func appendNonFinite(dst []byte, f float64) ([]byte, bool) {
	switch {
	case f != f:
		return append(dst, `"NaN"`...), true
	case f > math.MaxFloat64:
		return append(dst, `"Infinity"`...), true
	case f < -math.MaxFloat64:
		return append(dst, `"-Infinity"`...), true
	}
	return dst, false
}

// appendShortest appends the shortest decimal that reads back as f, as Postgres would choose it.
//
// Postgres and strconv agree but for one case. The numbers that read back as f fill an interval, and where f's
// mantissa is even, an end of it rounds to f too. strconv makes use of that (1e+23), Postgres does not rely on
// readers rounding to even (9.999999999999999e+22), and jsonb, whose numbers are exact, sees the difference.
func appendShortest(dst []byte, f float64, size int, mantissa uint64, exponent int) []byte {
	// An end is (2m±1)·2^(e-1). It can be the shortest only with zeros behind it, as D·10^k, so 5^k divides 2m±1:
	// that bounds k by 23, and e is then between 2 and 23 + 57.
	if mantissa&1 == 0 && exponent >= 2 && exponent <= 80 {
		return appendLarge(dst, f, size, mantissa, exponent)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, size)
}

func appendLarge(dst []byte, f float64, size int, mantissa uint64, exponent int) []byte {
	var scratch [32]byte
	text := strconv.AppendFloat(scratch[:0], f, 'e', -1, size)
	if !isEnd(text, mantissa, exponent) {
		return append(dst, text...)
	}
	// No other decimal of that length reads back as f, or strconv had taken it. Of longer ones the nearest to f does if
	// any does, so the first that reads back is the answer; 17 digits always do.
	for digits := 1; digits <= 17; digits++ {
		text = strconv.AppendFloat(scratch[:0], f, 'e', digits-1, size)
		back, err := strconv.ParseFloat(string(text), size)
		if err == nil && back == f && !isEnd(text, mantissa, exponent) {
			break
		}
	}
	return append(dst, text...)
}

// isEnd tells whether text, in the form d.ddde+dd, is exactly an end of the interval of numbers that read as
// mantissa·2^exponent.
func isEnd(text []byte, mantissa uint64, exponent int) bool {
	var d uint64
	ten, behind, at := 0, false, 0
	for ; at < len(text) && text[at] != 'e'; at++ {
		switch c := text[at]; {
		case c == '.':
			behind = true
		case c >= '0' && c <= '9':
			d = d*10 + uint64(c-'0')
			if behind {
				ten--
			}
		}
	}
	exp10, err := strconv.Atoi(string(text[at+1:]))
	ten += exp10
	if err != nil || ten < 1 || d == 0 {
		return false
	}
	twos := bits.TrailingZeros64(d)
	if twos+ten != exponent-1 {
		return false
	}
	odd := d >> twos
	for ; ten > 0; ten-- {
		if odd > 1<<55 {
			return false
		}
		odd *= 5
	}
	return odd == 2*mantissa+1 || odd == 2*mantissa-1
}
