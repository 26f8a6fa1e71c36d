package key

import "strings"

const upperHex = "0123456789ABCDEF"

// plain reports whether percent-encoding leaves a byte as it is: the unreserved
// characters of RFC 3986.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// appendEncoded appends text percent-encoded, with upper-case digits.
func appendEncoded(dst, text []byte) []byte {
	for _, c := range text {
		if plain(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return dst
}

// decode is the inverse of appendEncoded, and false for what it does not produce.
func decode(text string) (string, bool) {
	if !strings.Contains(text, "%") {
		for i := range len(text) {
			if !plain(text[i]) {
				return "", false
			}
		}
		return text, true
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c != '%' {
			if !plain(c) {
				return "", false
			}
			out = append(out, c)
			continue
		}
		if i+2 >= len(text) {
			return "", false
		}
		high, low := strings.IndexByte(upperHex, text[i+1]), strings.IndexByte(upperHex, text[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		if c = byte(high<<4 | low); plain(c) {
			return "", false
		}
		out = append(out, c)
		i += 2
	}
	return string(out), true
}
