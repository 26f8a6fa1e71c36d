// Package backfill writes the entries of a key range directly, chunk by chunk in key
// order, beside the live changes and without making them wait.
//
// What may have been written is always known to Postgres before it is: a chunk's bounds
// and the snapshot it is read in are its intent, which is open while its rows are still being
// read. How far they came is in the range's control key, from one transaction in Redis to the
// next. After the write, tuples that other transactions touched since that snapshot are touched
// again, so that the lane writes them last. A chunk whose intent is open after a crash is
// validated as far as it came, by whoever goes on from there.
package backfill
