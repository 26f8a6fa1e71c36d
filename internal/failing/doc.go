// Package failing keeps the book of entries that cannot be made because making them raises
// an error: it notes them before they are removed, strikes them out after they were
// written, has them tried again, and stops a sink of which too many fail.
//
// It never writes an entry and never moves a cursor. That a note is in Postgres before the
// entry is removed, and goes only after the entry that is right is in the target, is its
// callers' part: they call Note before the write and Strike after it.
package failing
