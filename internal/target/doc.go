// Package target knows the Redis-compatible servers that entries are written to: their
// URLs, how to connect to them, and whether they can do what the fenced write needs.
package target
