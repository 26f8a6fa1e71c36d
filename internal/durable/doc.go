// Package durable waits until what was read from Postgres would survive its crash. A
// commit can be visible before it is on disk; a value that Redis has and Postgres then
// forgets would be wrong for ever.
package durable
