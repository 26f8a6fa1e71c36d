package pg

import "strings"

// Text is s as a text that Postgres takes. An error can quote any bytes, and one that cannot be
// noted would be in the way of everything that is noted together with it.
func Text(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "?"), "?")
}

// IsUntranslatable reports whether err is that a character is none of the database's encoding.
func IsUntranslatable(err error) bool { return HasCode(err, "22P05") }

// ASCII is s with a question mark for whatever not every encoding has.
func ASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r > '~' {
			return '?'
		}
		return r
	}, s)
}
