// Package source reads a source table and its change table on behalf of one sink: the
// claim of a batch, the chunk of a backfill, the second look of a verify. It builds
// the SQL, runs it in pinned read-only transactions and renders what comes back. It
// never writes, neither to Postgres nor to Redis.
package source
