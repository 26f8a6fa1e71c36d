// Package maintain does what is neither sync nor backfill: the sweep that finds entries
// without a row and touches them, and the purge that removes a dropped sink's entries.
package maintain
