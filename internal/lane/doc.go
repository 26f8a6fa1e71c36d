// Package lane keeps the entries of one lane (sink, target, shard) in step: it claims
// batches of touched tuples, reads parts of them while others are being written, writes
// each fenced, the batch's cursor with the last, and sleeps when nothing is pending.
//
// It never writes outside package fence, never moves a cursor past what was written,
// and commits whatever must follow from a batch to Postgres before the batch itself.
package lane
