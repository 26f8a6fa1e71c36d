// Package lane keeps the entries of one lane (sink, target, shard) in step: it claims
// batches of touched tuples, reads part after part of them while the one before is being
// written, writes each fenced, the last together with the batch's cursor, and sleeps when
// nothing is pending.
//
// It never writes outside package fence, never moves a cursor past what was written,
// and commits whatever must follow from a batch to Postgres before the batch itself.
package lane
