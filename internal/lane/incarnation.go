package lane

import "strings"

// sameServer reports whether two incarnations are lives of one database on one
// timeline of one server: all but the last part agree.
func sameServer(a, b string) bool {
	i, j := strings.LastIndexByte(a, '.'), strings.LastIndexByte(b, '.')
	return i > 0 && j > 0 && a[:i] == b[:j]
}
