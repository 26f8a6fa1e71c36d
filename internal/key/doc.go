// Package key turns tuples of key columns into Redis keys and back. It is pure, and
// it works on rendered text: how a column becomes text is package render's affair.
package key
