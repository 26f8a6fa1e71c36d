package render

import (
	"encoding/binary"
	"strconv"
)

// The second half of a numeric's header.
const (
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericPosInf   = 0xD000
	numericNegInf   = 0xF000

	maxScale = 16383
)

// appendNumeric appends a numeric: four 16-bit words (number of digits, weight of the first, sign, digits behind the
// point), then the digits to base 10,000. Each of them is four decimal digits, so the text follows by groups and no
// big number is ever computed. NaN and the infinities are strings in JSON and bare in a key.
func appendNumeric(dst, v []byte, quoted bool) ([]byte, error) {
	if len(v) < 8 {
		return dst, errLength
	}
	n := int(binary.BigEndian.Uint16(v))
	weight := int(int16(binary.BigEndian.Uint16(v[2:])))
	sign := binary.BigEndian.Uint16(v[4:])
	scale := int(binary.BigEndian.Uint16(v[6:]))
	v = v[8:]
	if len(v) != 2*n {
		return dst, errLength
	}
	switch sign {
	case 0:
	case numericNegative:
		dst = append(dst, '-')
	case numericNaN:
		return appendWord(dst, "NaN", quoted), nil
	case numericPosInf:
		return appendWord(dst, "Infinity", quoted), nil
	case numericNegInf:
		return appendWord(dst, "-Infinity", quoted), nil
	default:
		return dst, errRange
	}
	if scale > maxScale {
		return dst, errRange
	}

	// Before the point: the first group without leading zeros, then as many as the weight says, held or not.
	if weight < 0 {
		dst = append(dst, '0')
	} else {
		d := group(v, 0)
		if d > 9999 || d == 0 && weight > 0 {
			return dst, errRange // a leading zero would not be JSON; Postgres never stores one
		}
		dst = strconv.AppendUint(dst, uint64(d), 10)
	}
	for at := 1; at <= weight; at++ {
		d := group(v, at)
		if d > 9999 {
			return dst, errRange
		}
		dst = appendGroup(dst, d)
	}
	if scale == 0 {
		return dst, nil
	}

	// Behind it: as many digits as the scale says, whatever the groups hold. A negative weight means that groups of
	// zeros come first.
	dst = append(dst, '.')
	end := len(dst) + scale
	for at := weight + 1; len(dst) < end; at++ {
		d := uint32(0)
		if at >= 0 {
			d = group(v, at)
		}
		if d > 9999 {
			return dst, errRange
		}
		dst = appendGroup(dst, d)
	}
	return dst[:end], nil
}

func appendWord(dst []byte, word string, quoted bool) []byte {
	if !quoted {
		return append(dst, word...)
	}
	dst = append(dst, '"')
	dst = append(dst, word...)
	return append(dst, '"')
}

// group reads the i-th digit to base 10,000; one beyond the end is 0.
func group(v []byte, i int) uint32 {
	if 2*i >= len(v) {
		return 0
	}
	return uint32(binary.BigEndian.Uint16(v[2*i:]))
}

// appendGroup appends four decimal digits.
func appendGroup(dst []byte, d uint32) []byte {
	hi, lo := d/100, d%100
	return append(dst, pairs[hi*2], pairs[hi*2+1], pairs[lo*2], pairs[lo*2+1])
}
