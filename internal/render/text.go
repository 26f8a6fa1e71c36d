package render

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// appendJSONString appends s as a JSON string. Only what JSON demands is escaped: quote, backslash and everything
// below the blank. The rest is copied in runs.
func appendJSONString(dst, s []byte) ([]byte, error) {
	dst = append(dst, '"')
	var seen uint64
	for rest := s; ; {
		n, high := plain(rest)
		seen |= high
		if n > 0 {
			dst = append(dst, rest[:n]...)
		}
		if n == len(rest) {
			break
		}
		dst = appendEscape(dst, rest[n])
		rest = rest[n+1:]
	}
	// Most text is ASCII and never gets here. A database that checks its text (any encoding but SQL_ASCII) sends
	// nothing else than UTF-8; one that does not must not put something into the cache that no reader can parse.
	if seen != 0 && !utf8.Valid(s) {
		return dst, ErrNotUTF8
	}
	return append(dst, '"'), nil
}

// plain counts the bytes before the first one to be escaped, and reports in high whether any byte it has looked at
// was beyond ASCII. Eight bytes at a time: a borrow can only spoil bytes above the first hit, and that one is all
// that is asked for.
func plain(s []byte) (n int, high uint64) {
	for ; n+8 <= len(s); n += 8 {
		w := binary.LittleEndian.Uint64(s[n:])
		high |= w & highs
		// With bit 1 turned over, the quote (0x22) is where the blank was, next to the control characters, and one
		// comparison finds both.
		low, slash := w^2*ones, w^'\\'*ones
		if hit := ((low-0x21*ones)&^w | (slash-ones)&^slash) & highs; hit != 0 {
			return n + bits.TrailingZeros64(hit)/8, high
		}
	}
	for ; n < len(s); n++ {
		c := s[n]
		high |= uint64(c & 0x80)
		if c < ' ' || c == '"' || c == '\\' {
			break
		}
	}
	return n, high
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// appendChar appends a value of the type "char", a single byte. Zero is the empty string. A byte beyond ASCII is
// printed as Postgres 16 and later do, in octal; up to 15 it was sent raw, which is not UTF-8.
func appendChar(dst []byte, c byte) ([]byte, error) {
	switch {
	case c == 0:
		return append(dst, `""`...), nil
	case c >= 0x80:
		return append(dst, '"', '\\', '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7, '"'), nil
	}
	return appendJSONString(dst, []byte{c})
}

// appendBytea appends the hex form with a single backslash. In JSON the caller puts the second one before it.
func appendBytea(dst, v []byte) []byte {
	return hex.AppendEncode(append(dst, '\\', 'x'), v)
}

// appendUUID expects 16 bytes.
func appendUUID(dst, v []byte) []byte {
	var text [36]byte
	hex.Encode(text[0:8], v[0:4])
	hex.Encode(text[9:13], v[4:6])
	hex.Encode(text[14:18], v[6:8])
	hex.Encode(text[19:23], v[8:10])
	hex.Encode(text[24:36], v[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return append(dst, text[:]...)
}

func appendBool(dst []byte, b byte) []byte {
	if b != 0 {
		return append(dst, "true"...)
	}
	return append(dst, "false"...)
}
