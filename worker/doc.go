// Package worker runs Freshet inside a Go program: it serves the lanes, backfills and
// maintenance of the targets it has URLs for, and shares them with every other worker
// of the same database.
//
// The command freshet is a thin user of this package.
package worker
