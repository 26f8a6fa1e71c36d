// Package backfill writes the entries of a key range directly, chunk by chunk in key
// order, beside the live changes and without making them wait.
//
// What may have been written is always known to Postgres before it is: a chunk's bounds
// and the snapshot it was read in are its intent. After the write, tuples that other
// transactions touched since that snapshot are touched again, so that the lane writes
// them last. A chunk whose intent is open after a crash is validated by whoever goes on.
package backfill
